//! What a peer's bytes say, by the crate's own reading of them, which `tests/protocol.rs` holds to an oracle.

use ringsock::ws::connection::{Connection, Event};
use ringsock::ws::frame::{Header, MAX_HEADER_BYTES, Opcode, Role};
use ringsock::ws::mask::{self, Mask};

const KEY: Mask = Mask::from_bytes([0x12, 0x34, 0x56, 0x78]);

/// Something whole that was heard.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

impl std::fmt::Debug for Heard {
    /// Short: payloads by their length and beginning.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, payload) = match self {
            Self::Text(payload) => ("text", payload),
            Self::Binary(payload) => ("binary", payload),
            Self::Ping(payload) => ("ping", payload),
            Self::Pong(payload) => ("pong", payload),
            Self::Close(code) => return write!(out, "close {code:?}"),
        };
        write!(out, "{kind}[{}] {:?}", payload.len(), &payload[..payload.len().min(8)])
    }
}

/// Listens to frames of one peer.
pub(crate) struct Listener {
    connection: Connection,
    partial: Vec<u8>,
    pub(crate) heard: Vec<Heard>,
}

impl Listener {
    /// To frames sent by `sender`.
    pub(crate) fn to(sender: Role) -> Self {
        let role = if sender == Role::Client { Role::Server } else { Role::Client };
        Self { connection: Connection::new(role, u64::MAX, 0), partial: Vec::new(), heard: Vec::new() }
    }

    /// Takes in bytes as they come, each once.
    pub(crate) fn on_bytes(&mut self, memory: &mut [u8]) {
        let mut at = 0;
        while let Some(event) = self.connection.next(&memory[at..]).expect("frames without a fault") {
            let start = at;
            at += event.consumed();
            let payload = || self.connection.control_payload().to_vec();
            let heard = match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    self.connection.accept(&data, memory, from, from).expect("text that is text");
                    self.partial.extend_from_slice(&memory[from..at]);
                    if !data.ends_message() {
                        continue;
                    }
                    let payload = std::mem::take(&mut self.partial);
                    if data.text { Heard::Text(payload) } else { Heard::Binary(payload) }
                }
                Event::Ping { .. } => Heard::Ping(payload()),
                Event::Pong { .. } => Heard::Pong(payload()),
                Event::Close { code, .. } => {
                    let _ = self.connection.reply_to_close(KEY);
                    Heard::Close(code)
                }
            };
            self.heard.push(heard);
        }
        let is_over = matches!(self.heard.last(), Some(Heard::Close(_)));
        assert!(!is_over || at == memory.len(), "{} bytes behind a Close", memory.len() - at);
    }

    /// The stream may end here: not in the middle of a frame.
    pub(crate) fn at_boundary(&self) -> bool {
        !self.connection.in_frame()
    }
}

/// A frame of a client's, masked, or of a server's.
pub(crate) fn frame(sender: Role, opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mask = (sender == Role::Client).then_some(KEY);
    let header = Header { fin, opcode, mask, payload_bytes: payload.len() as u64 };
    let mut bytes = vec![0; MAX_HEADER_BYTES];
    let header_bytes = header.encode(&mut bytes);
    bytes.truncate(header_bytes);
    bytes.extend_from_slice(payload);
    if mask.is_some() {
        mask::unmask(KEY, &mut bytes[header_bytes..]);
    }
    bytes
}
