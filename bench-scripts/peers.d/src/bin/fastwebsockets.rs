//! fastwebsockets: one write a message; its interface has no way to learn whether more input is buffered.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocket, WebSocketWrite,
};
use ringsock_peers::room::Room;
use ringsock_peers::{MESSAGE_BYTES_MAX, Peer, Wire, serve_with_tokio, upgrade};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc::UnboundedReceiver;

type Shared = (OpCode, Arc<Vec<u8>>);

static ROOM: Room<Shared> = Room::new();

struct FastWebsockets;

impl Peer for FastWebsockets {
    async fn serve<S: Wire>(mut wire: S, _: bool) {
        let Ok(upgraded) = upgrade(&mut wire, |_| None).await else { return };
        let mut socket = WebSocket::after_handshake(wire, Role::Server);
        socket.set_max_message_size(MESSAGE_BYTES_MAX);
        if upgraded.is_for_room {
            return take_part(socket).await;
        }
        let mut socket = FragmentCollector::new(socket);
        while let Ok(frame) = socket.read_frame().await {
            let is_data = matches!(frame.opcode, OpCode::Text | OpCode::Binary);
            if frame.opcode == OpCode::Close || (is_data && socket.write_frame(frame).await.is_err()) {
                return;
            }
        }
    }
}

async fn take_part<S: Wire>(socket: WebSocket<S>) {
    let (reader, writer) = socket.split(tokio::io::split);
    let mut reader = FragmentCollectorRead::new(reader);
    let (member, inbox) = ROOM.enter();
    tokio::spawn(deliver(writer, inbox));
    // Pongs, and the answer to a Close frame.
    let mut owed = |frame: Frame<'_>| {
        member.tell((frame.opcode, Arc::new(frame.payload.to_vec())));
        ready(Ok::<(), Infallible>(()))
    };
    while let Ok(frame) = reader.read_frame(&mut owed).await {
        match frame.opcode {
            OpCode::Text | OpCode::Binary => member.publish((frame.opcode, Arc::new(frame.payload.into()))),
            OpCode::Close => return,
            _ => {}
        }
    }
}

async fn deliver<W: AsyncWrite + Unpin>(mut writer: WebSocketWrite<W>, mut inbox: UnboundedReceiver<Shared>) {
    while let Some((opcode, payload)) = inbox.recv().await {
        let frame = Frame::new(true, opcode, None, Payload::Borrowed(&payload));
        if writer.write_frame(frame).await.is_err() || opcode == OpCode::Close {
            return;
        }
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<FastWebsockets>()
}
