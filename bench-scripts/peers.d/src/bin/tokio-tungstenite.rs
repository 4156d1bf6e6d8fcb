//! tokio-tungstenite: all messages that are ready are answered with one flush.

use ringsock_peers::room::{Room, is_room, take_part};
use ringsock_peers::{BATCH_BYTES, MESSAGE_BYTES_MAX, Peer, Wire, echo_batched, serve_with_tokio};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

static ROOM: Room<Message> = Room::new();

struct TokioTungstenite;

impl Peer for TokioTungstenite {
    async fn serve<S: Wire>(wire: S, _: bool) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .write_buffer_size(BATCH_BYTES);
        let mut is_for_room = false;
        #[expect(clippy::result_large_err, reason = "the library's")]
        let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            is_for_room = is_room(request.uri().path());
            Ok(response)
        };
        let Ok(socket) = accept_hdr_async_with_config(wire, look, Some(config)).await else { return };
        let is_data = |message: &Message| message.is_text() || message.is_binary();
        if is_for_room {
            let (reading, writing) = take_part(socket, &ROOM, is_data);
            tokio::spawn(writing);
            reading.await;
        } else {
            echo_batched(socket, |message| is_data(&message).then_some(message)).await;
        }
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<TokioTungstenite>()
}
