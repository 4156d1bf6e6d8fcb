//! fastwebsockets: one write a message; its interface has no way to learn whether more input is buffered.

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket};
use ringsock_peers::{MESSAGE_BYTES_MAX, serve_with_tokio, upgrade};

fn main() -> std::io::Result<()> {
    serve_with_tokio(|mut stream| async {
        if upgrade(&mut stream).await.is_err() {
            return;
        }
        let mut socket = WebSocket::after_handshake(stream, Role::Server);
        socket.set_max_message_size(MESSAGE_BYTES_MAX);
        let mut socket = FragmentCollector::new(socket);
        while let Ok(frame) = socket.read_frame().await {
            let is_data = matches!(frame.opcode, OpCode::Text | OpCode::Binary);
            if frame.opcode == OpCode::Close || (is_data && socket.write_frame(frame).await.is_err()) {
                return;
            }
        }
    })
}
