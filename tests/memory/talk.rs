//! A client of the protocol as a handler: it says what its script says, and writes down what it hears, and when.

use ringsock::engine::{Closed, ConnId, Connections, Handler, Io, Received};
use ringsock::ws::connection::Event;
use ringsock::ws::deflate::InflateSpace;
use ringsock::ws::deflating::Deflating;
use ringsock::ws::extensions::DeflateParameters;
use ringsock::ws::frame::{Header, MAX_HEADER_BYTES, Opcode, Role};
use ringsock::ws::handshake::ClientHandshake;
use ringsock::ws::mask::{self, Mask};

const KEY: Mask = Mask::from_bytes([0x0F, 0x1E, 0x2D, 0x3C]);

/// What one connection is to say and to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// Path and query that are asked for; `/` where there are none.
    pub(crate) target: String,
    /// Sent right behind the upgrade request.
    pub(crate) frames: Vec<u8>,
    /// A Close frame is among them: the server's is the answer to it.
    pub(crate) closes: bool,
    /// Nothing is sent at all, not even the request.
    pub(crate) mute: bool,
    /// Pings and Close frames are left unanswered.
    pub(crate) rude: bool,
    /// Nothing is read.
    pub(crate) deaf: bool,
    /// Compression is offered so, and must be agreed to as it is.
    pub(crate) deflate: Option<DeflateParameters>,
    /// It must be agreed to so instead.
    pub(crate) agreed: Option<DeflateParameters>,
}

/// What one connection heard, and when, in fake nanoseconds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Message {
        text: bool,
        payload: Vec<u8>,
    },
    Ping,
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// It is closed, and whether the server was done with it.
    Closed {
        by_end: bool,
    },
}

impl std::fmt::Debug for Heard {
    /// Short: payloads by their length.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message { text, payload } => {
                write!(out, "{}:{}", if *text { "text" } else { "binary" }, payload.len())
            }
            Self::Ping => write!(out, "ping"),
            Self::Pong(payload) => write!(out, "pong:{}", payload.len()),
            Self::Close(code) => write!(out, "close {code:?}"),
            Self::Closed { by_end } => write!(out, "{}", if *by_end { "end" } else { "reset" }),
        }
    }
}

/// Appends a masked frame.
pub(crate) fn frame(opcode: Opcode, fin: bool, payload: &[u8], out: &mut Vec<u8>) {
    let header = Header { fin, opcode, mask: Some(KEY), payload_bytes: payload.len() as u64 };
    let mut head = [0; MAX_HEADER_BYTES];
    let head_bytes = header.encode(&mut head);
    out.extend_from_slice(&head[..head_bytes]);
    let from = out.len();
    out.extend_from_slice(payload);
    mask::unmask(KEY, &mut out[from..]);
}

/// One connection.
pub(crate) struct Peer {
    number: usize,
    handshake: Option<Box<ClientHandshake>>,
    messages: Deflating,
    partial: Vec<u8>,
    ended: bool,
}

/// See the module's text. It connects when it is woken, and stops when all connections are gone.
pub(crate) struct Talk {
    scripts: Vec<Script>,
    pub(crate) heard: Vec<Vec<(u64, Heard)>>,
    /// When each connection opened.
    pub(crate) opened_ns: Vec<u64>,
    space: InflateSpace,
}

impl Talk {
    pub(crate) fn new(scripts: Vec<Script>) -> Self {
        let (heard, opened_ns) = (vec![Vec::new(); scripts.len()], vec![0; scripts.len()]);
        Self { heard, opened_ns, scripts, space: InflateSpace::default() }
    }

    /// What a connection heard, without the times.
    pub(crate) fn said_to(&self, number: usize) -> Vec<&Heard> {
        self.heard[number].iter().map(|(_, heard)| heard).collect()
    }

    fn on_frames(&mut self, peer: &mut Peer, io: &mut Io<'_>, memory: &mut [u8], now_ns: u64) {
        let mut at = 0;
        let Script { rude, closes, .. } = self.scripts[peer.number];
        while let Some(event) = peer.messages.next(&mut memory[at..]).expect("the server keeps the rules") {
            let start = at;
            at += event.consumed();
            let heard = match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    let payload = peer.messages.unmask(&data, memory, from);
                    let mut rest = &memory[from..at];
                    loop {
                        let piece =
                            peer.messages.read(payload, rest, &mut self.space).expect("sound messages");
                        peer.partial.extend_from_slice(piece.bytes);
                        rest = &rest[piece.taken..];
                        if piece.is_last {
                            break;
                        }
                    }
                    if !data.ends_message() {
                        continue;
                    }
                    Heard::Message { text: data.text, payload: std::mem::take(&mut peer.partial) }
                }
                Event::Ping { .. } => Heard::Ping,
                Event::Pong { .. } => Heard::Pong(peer.messages.connection().control_payload().to_vec()),
                Event::Close { code, .. } => Heard::Close(code),
            };
            let answer = match event {
                Event::Ping { .. } => peer.messages.connection().pong(KEY),
                Event::Close { .. } if !closes => peer.messages.connection().reply_to_close(KEY),
                _ => None,
            };
            if let Some(answer) = answer.filter(|_| !rude) {
                io.write(|out| out.extend_from_slice(answer.as_bytes()));
            }
            self.heard[peer.number].push((now_ns, heard));
        }
    }
}

impl Handler for Talk {
    type Conn = Peer;

    fn on_accept(&mut self) -> Peer {
        unreachable!("a client has no listener")
    }

    fn on_open(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        let (peer, mut io) = connections.get(id).expect("it is there");
        self.opened_ns[peer.number] = now_ns;
        let script = &self.scripts[peer.number];
        io.hold_reading(script.deaf);
        if let Some(handshake) = peer.handshake.as_ref().filter(|_| !script.mute) {
            io.send(handshake.request());
            io.write(|out| out.extend_from_slice(&script.frames));
        }
    }

    fn on_bytes(&mut self, connections: &mut Connections<Peer>, id: ConnId, received: Received<'_>) {
        let now_ns = connections.now_ns();
        let (peer, mut io) = connections.get(id).expect("it has bytes");
        let mut memory = &mut received.memory[received.range];
        if let Some(handshake) = &mut peer.handshake {
            let Some(head_bytes) = handshake.on_bytes(memory).expect("an upgrade") else { return };
            let script = &self.scripts[peer.number];
            assert_eq!(handshake.deflate(), script.agreed.or(script.deflate), "what was agreed on");
            peer.handshake = None;
            memory = &mut memory[head_bytes..];
        }
        self.on_frames(peer, &mut io, memory, now_ns);
    }

    fn on_end(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let (peer, mut io) = connections.get(id).expect("it has an end");
        peer.ended = true;
        io.close();
    }

    fn on_timer(&mut self, _connections: &mut Connections<Peer>, _id: ConnId) {}

    fn on_closed(&mut self, connections: &mut Connections<Peer>, peer: Peer, _why: Closed) {
        let closed = Heard::Closed { by_end: peer.ended };
        self.heard[peer.number].push((connections.now_ns(), closed));
        if connections.is_empty() {
            connections.stop();
        }
    }

    fn on_wake(&mut self, connections: &mut Connections<Peer>) {
        for number in 0..self.scripts.len() {
            let target = Some(self.scripts[number].target.as_str()).filter(|target| !target.is_empty());
            let target = target.unwrap_or("/");
            let mut handshake = ClientHandshake::new("here", 80, target, [number as u8; 16], 8192).unwrap();
            let offered = self.scripts[number].deflate;
            if let Some(wanted) = offered {
                handshake = handshake.offering_deflate(wanted);
            }
            // Where nothing was agreed on, no message is marked as compressed.
            let parameters = offered.unwrap_or_default();
            let messages = Deflating::new(Role::Client, &parameters, 1 << 30, connections.now_ns());
            let peer = Peer {
                number,
                handshake: Some(Box::new(handshake)),
                messages,
                partial: Vec::new(),
                ended: false,
            };
            connections.connect("127.0.0.1:1".parse().unwrap(), peer);
        }
    }
}
