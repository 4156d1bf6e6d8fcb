//! sockudo-ws on Tokio: all messages that are ready are answered with one flush. Its timers are off, as ours are.

use ringsock_peers::room::{Room, is_room, take_part};
use ringsock_peers::{
    DEFLATE_LEVEL, DEFLATE_THRESHOLD_BYTES, MESSAGE_BYTES_MAX, Peer, Wire, echo_batched, serve_with_tokio,
    upgrade,
};
use sockudo_ws::deflate::negotiate_server_deflate;
use sockudo_ws::{
    CompressedWebSocketStream, Config, DeflateConfig, Message, WebSocketStream, handshake::server_handshake,
};

static ROOM: Room<Message> = Room::new();

struct Sockudo;

impl Peer for Sockudo {
    const DEFLATES: bool = true;

    async fn serve<S: Wire>(mut wire: S, deflate: bool) {
        let config = Config::builder()
            .max_message_size(MESSAGE_BYTES_MAX)
            .max_frame_size(MESSAGE_BYTES_MAX)
            .idle_timeout(0)
            .auto_ping(false)
            .build();
        let is_data = |message: &Message| matches!(message, Message::Text(_) | Message::Binary(_));
        let reply = |message| is_data(&message).then_some(message);
        if deflate {
            let policy = DeflateConfig {
                compression_level: DEFLATE_LEVEL.into(),
                compression_threshold: DEFLATE_THRESHOLD_BYTES,
                ..DeflateConfig::default()
            };
            let agree = |offers: &str| {
                negotiate_server_deflate(offers, &policy).map(|agreed| agreed.to_response_header())
            };
            // What a server answers is agreed to as it would be if it were offered.
            if let Ok(upgraded) = upgrade(&mut wire, agree).await
                && let Some(agreed) = upgraded.extensions
                && let Some(agreed) = negotiate_server_deflate(&agreed, &policy)
            {
                let socket = CompressedWebSocketStream::server(wire, config, agreed.config);
                echo_batched(socket, reply).await;
            }
        } else if let Ok(asked) = server_handshake(&mut wire).await {
            let socket = WebSocketStream::server(wire, config);
            if is_room(&asked.path) {
                let (reading, writing) = take_part(socket, &ROOM, is_data);
                tokio::spawn(writing);
                reading.await;
            } else {
                echo_batched(socket, reply).await;
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<Sockudo>()
}
