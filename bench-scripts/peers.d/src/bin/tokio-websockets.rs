//! tokio-websockets: all messages that are ready are answered with one flush.

use ringsock_peers::{BATCH_BYTES, MESSAGE_BYTES_MAX, Peer, Wire, echo_batched, serve_with_tokio};
use tokio_websockets::{Config, Limits, ServerBuilder};

struct TokioWebsockets;

impl Peer for TokioWebsockets {
    async fn serve<S: Wire>(wire: S, _: bool) {
        let server = ServerBuilder::new()
            .config(Config::default().flush_threshold(BATCH_BYTES).frame_size(MESSAGE_BYTES_MAX))
            .limits(Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX)));
        if let Ok((_, socket)) = server.accept(wire).await {
            echo_batched(socket, |message| (message.is_text() || message.is_binary()).then_some(message))
                .await;
        }
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<TokioWebsockets>()
}
