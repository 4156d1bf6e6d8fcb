//! tokio-websockets: all messages that are ready are answered with one flush.

use ringsock_peers::room::{Room, is_room, take_part};
use ringsock_peers::{BATCH_BYTES, MESSAGE_BYTES_MAX, Peer, Wire, echo_batched, serve_with_tokio};
use tokio_websockets::{Config, Limits, Message, ServerBuilder};

static ROOM: Room<Message> = Room::new();

struct TokioWebsockets;

impl Peer for TokioWebsockets {
    async fn serve<S: Wire>(wire: S, _: bool) {
        let server = ServerBuilder::new()
            .config(Config::default().flush_threshold(BATCH_BYTES).frame_size(MESSAGE_BYTES_MAX))
            .limits(Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX)));
        let Ok((request, socket)) = server.accept(wire).await else { return };
        let is_data = |message: &Message| message.is_text() || message.is_binary();
        if is_room(request.uri().path()) {
            let (reading, writing) = take_part(socket, &ROOM, is_data);
            tokio::spawn(writing);
            reading.await;
        } else {
            echo_batched(socket, |message| is_data(&message).then_some(message)).await;
        }
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<TokioWebsockets>()
}
