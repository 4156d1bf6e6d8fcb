//! tokio-tungstenite: all messages that are ready are answered with one flush.

use ringsock_peers::{BATCH_BYTES, MESSAGE_BYTES_MAX, Peer, Wire, echo_batched, serve_with_tokio};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

struct TokioTungstenite;

impl Peer for TokioTungstenite {
    async fn serve<S: Wire>(wire: S, _: bool) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .write_buffer_size(BATCH_BYTES);
        if let Ok(socket) = accept_async_with_config(wire, Some(config)).await {
            echo_batched(socket, |message| (message.is_text() || message.is_binary()).then_some(message))
                .await;
        }
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<TokioTungstenite>()
}
