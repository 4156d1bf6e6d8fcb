//! sockudo-ws on Tokio: all messages that are ready are answered with one flush. Its timers are off, as ours are.

use ringsock_peers::{MESSAGE_BYTES_MAX, echo_batched, serve_with_tokio};
use sockudo_ws::{Config, Message, WebSocketStream, handshake::server_handshake};

fn main() -> std::io::Result<()> {
    serve_with_tokio(|mut stream| async {
        let config = Config::builder()
            .max_message_size(MESSAGE_BYTES_MAX)
            .max_frame_size(MESSAGE_BYTES_MAX)
            .idle_timeout(0)
            .auto_ping(false)
            .build();
        if server_handshake(&mut stream).await.is_ok() {
            let socket = WebSocketStream::server(stream, config);
            echo_batched(socket, |message| match message {
                Message::Text(_) | Message::Binary(_) => Some(message),
                _ => None,
            })
            .await;
        }
    })
}
