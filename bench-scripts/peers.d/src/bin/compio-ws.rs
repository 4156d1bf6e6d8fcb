//! compio-ws on io_uring: all messages that are ready are answered with one flush.

use compio::net::TcpListener;
use compio::runtime::Runtime;
use compio_ws::accept_hdr_with_config_async;
use compio_ws::tungstenite::Message;
use compio_ws::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use compio_ws::tungstenite::protocol::WebSocketConfig;
use ringsock_peers::room::{Room, is_room, take_part};
use ringsock_peers::{BATCH_BYTES, MESSAGE_BYTES_MAX, echo_batched, listen};

static ROOM: Room<Message> = Room::new();

fn main() -> std::io::Result<()> {
    let runtime = Runtime::new()?;
    assert!(runtime.driver_type().is_iouring(), "compio runs on something else than io_uring");
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .write_buffer_size(BATCH_BYTES);
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            compio::runtime::spawn(async move {
                let mut is_for_room = false;
                #[expect(clippy::result_large_err, reason = "the library's")]
                let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
                    is_for_room = is_room(request.uri().path());
                    Ok(response)
                };
                let Ok(socket) = accept_hdr_with_config_async(stream, look, config).await else { return };
                let is_data = |message: &Message| message.is_text() || message.is_binary();
                if is_for_room {
                    let (reading, writing) = take_part(socket, &ROOM, is_data);
                    compio::runtime::spawn(writing).detach();
                    reading.await;
                } else {
                    echo_batched(socket, |message| is_data(&message).then_some(message)).await;
                }
            })
            .detach();
        }
    })
}
