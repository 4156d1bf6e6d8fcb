//! fastwebsockets: one write a message; its interface has no way to learn whether more input is buffered.

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket};
use ringsock_peers::{MESSAGE_BYTES_MAX, Peer, Wire, serve_with_tokio, upgrade};

struct FastWebsockets;

impl Peer for FastWebsockets {
    async fn serve<S: Wire>(mut wire: S, _: bool) {
        if upgrade(&mut wire, |_| None).await.is_err() {
            return;
        }
        let mut socket = WebSocket::after_handshake(wire, Role::Server);
        socket.set_max_message_size(MESSAGE_BYTES_MAX);
        let mut socket = FragmentCollector::new(socket);
        while let Ok(frame) = socket.read_frame().await {
            let is_data = matches!(frame.opcode, OpCode::Text | OpCode::Binary);
            if frame.opcode == OpCode::Close || (is_data && socket.write_frame(frame).await.is_err()) {
                return;
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<FastWebsockets>()
}
