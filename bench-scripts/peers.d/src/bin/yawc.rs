//! yawc: all messages that are ready are answered with one flush. It judges text, which it would not do by itself.

use futures_util::StreamExt;
use ringsock_peers::room::{Room, take_part};
use ringsock_peers::{
    BATCH_BYTES, DEFLATE_LEVEL, DEFLATE_THRESHOLD_BYTES, MESSAGE_BYTES_MAX, Peer, Wire, echo_batched,
    serve_with_tokio, upgrade,
};
use yawc::{CompressionLevel, Frame, OpCode, Options, Role, WebSocket};

static ROOM: Room<Frame> = Room::new();

struct Yawc;

impl Peer for Yawc {
    const DEFLATES: bool = true;

    async fn serve<S: Wire>(mut wire: S, deflate: bool) {
        // Its bounds are exclusive.
        let mut options = Options::default()
            .with_limits(MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX + 1)
            .with_backpressure_boundary(BATCH_BYTES)
            .with_utf8();
        if deflate {
            options = options
                .with_compression_level(CompressionLevel::new(DEFLATE_LEVEL.into()))
                .with_compression_threshold(DEFLATE_THRESHOLD_BYTES);
        }
        // It is told what was agreed on, whoever agreed: context takeover both ways, and whole windows.
        let agree = |offers: &str| {
            (deflate && offers.contains("permessage-deflate")).then(|| "permessage-deflate".to_owned())
        };
        let Ok(upgraded) = upgrade(&mut wire, agree).await else { return };
        let agreed = upgraded.extensions.as_deref();
        let made = WebSocket::from_stream_with_extensions(wire, Role::Server, agreed, options);
        if let Ok(socket) = made {
            let is_data = |frame: &Frame| matches!(frame.opcode(), OpCode::Text | OpCode::Binary);
            if upgraded.is_for_room {
                let (reading, writing) = take_part(socket.map(Ok), &ROOM, is_data);
                tokio::spawn(writing);
                reading.await;
            } else {
                echo_batched(socket.map(Ok), |frame| is_data(&frame).then_some(frame)).await;
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<Yawc>()
}
