//! `echo` with the roles turned round: a client that sends every message back as it came, one connection after another.
//!
//! For servers that test clients: each visit is a connection with a request target of its own, and lasts until the server ends
//! it. The generator cannot be such a client: it checks echoes, and makes none. So what is shown of this handler holds for that
//! one as far as both are the same code:
//!
//! | | here | generator (`load::client`) |
//! |---|---|---|
//! | engine, TLS | the same | the same |
//! | opening handshake, offer of compression | [`ClientHandshake`] | [`ClientHandshake`] |
//! | frames: lengths, order, UTF-8, close codes; pongs, Close frames | [`Connection`] | [`Connection`] |
//! | compressed messages | `ws::deflating` and `ws::deflate`, by way of [`Deflated`], as the server has them | those two |
//! | message | goes back fragment by fragment | is compared, byte by byte |
//! | a server's breach | is answered with a Close frame that says why | has it hang up at once (RFC 6455, 7.1.7 allows it) |
//! | time limits | for each visit | for opening and closing |
//!
//! What hostile servers do to the generator itself is told by `tests/hostile/servers.rs` and `tests/engines/client.rs`.
//!
//! Invariants: a visit ends within its limit, whatever the server does; its failure is told, and the next one follows. Each
//! piece of a message goes back as a fragment of its own, so a Close or pong never has to wait for a frame's rest. Text
//! is judged before any of it is passed on.
//!
//! Deliberately absent: speed. A payload is copied once, for a mask makes a client's header longer than a server's.

use std::net::SocketAddr;

use super::deflate::{DeflateSettings, Deflated, Workspace};
use super::echo::Answered;
use crate::engine::{Closed, ConnId, Connections, Handler, Io, Received};
use crate::limits;
use crate::ws::connection::{Connection, Data, Event};
use crate::ws::frame::{Fault, Header, MAX_HEADER_BYTES, Opcode, Role};
use crate::ws::handshake::ClientHandshake;
use crate::ws::mask::{self, Mask};

/// What is kept of a message that is read and not echoed.
const KEPT_BYTES_MAX: usize = 1024;

/// The server that is visited.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where it is.
    pub address: SocketAddr,
    /// For the Host header.
    pub name: String,
    /// TCP port, for the same.
    pub port: u16,
    /// Over TLS, which the engine below sees to ([`Tls`](crate::engine::Tls)): the Host header leaves out another port by
    /// default.
    pub tls: bool,
}

/// How long things may take, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until a connection is open.
    pub opening_ns: u64,
    /// A visit as a whole.
    pub visit_ns: u64,
    /// From our Close frame, or the server's, until the server closes: it does so first (RFC 6455, 7.1.1).
    pub close_ns: u64,
}

/// A connection to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Path and query of the request.
    pub target: String,
    /// Messages are echoed, and compression is offered; otherwise they are only read.
    pub echoes: bool,
}

/// What came of a visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visited {
    /// The first 1024 bytes of all messages, where they were not echoed.
    pub message: Vec<u8>,
    /// Why it was no conversation that the server began and ended: a server's breach of the protocol, which was answered as
    /// RFC 6455 asks, is no failure.
    pub failure: Option<String>,
}

/// The [`Handler`]; `next` is given what came of the visit before, and says which is the next, if any.
pub struct EchoClient<N> {
    host: Host,
    limits: Limits,
    random: fastrand::Rng,
    deflate: Option<(DeflateSettings, Workspace)>,
    next: N,
    before: Option<Visited>,
}

/// One of the calls by which a connection that had to wait goes on.
type GoOn = fn(&mut Deflated, &mut Workspace, &mut Io<'_>, u64) -> Answered;

enum Protocol {
    Connecting,
    Handshake(Box<ClientHandshake>),
    Open(Connection),
    Compressed(Box<Deflated>),
    /// We have failed the connection; what still comes is thrown away.
    Failed,
}

/// One connection.
pub struct Peer {
    visit: Visit,
    protocol: Protocol,
    visited: Visited,
    /// When it is given up.
    until_ns: u64,
    /// Both have said what they had to: what is left is the server's closing.
    is_closing: bool,
}

impl<N: FnMut(Option<Visited>) -> Option<Visit>> EchoClient<N> {
    /// A client of `host`; nonces and masking keys are drawn from `random`.
    pub fn new(host: Host, limits: Limits, random: fastrand::Rng, next: N) -> Self {
        Self { host, limits, random, deflate: None, next, before: None }
    }

    /// The same, and offers permessage-deflate. No more is inflated while more than `queued_bytes_max` wait to be sent.
    pub fn deflating(mut self, settings: DeflateSettings, queued_bytes_max: usize) -> Self {
        let space = Workspace::new(queued_bytes_max).masking(self.random.fork());
        self.deflate = Some((settings, space));
        self
    }

    fn on_response(&mut self, conn: &mut Peer, io: &mut Io<'_>, bytes: &[u8], now_ns: u64) -> Option<usize> {
        let Protocol::Handshake(handshake) = &mut conn.protocol else { return Some(0) };
        match handshake.on_bytes(bytes) {
            Ok(None) => None,
            Ok(Some(head_bytes)) => {
                let agreed = handshake.deflate();
                let reserved = match (&self.deflate, &agreed) {
                    (Some((settings, space)), Some(parameters)) => {
                        space.reserve(parameters).map(|reserved| (settings, space, parameters, reserved))
                    }
                    _ => None,
                };
                conn.protocol = match reserved {
                    Some((settings, space, parameters, reserved)) => {
                        let (compression, bytes_max) = (settings.compression, limits::MESSAGE_BYTES);
                        Protocol::Compressed(Box::new(Deflated::new(
                            space,
                            parameters,
                            reserved,
                            compression,
                            bytes_max,
                            now_ns,
                        )))
                    }
                    None => Protocol::Open(Connection::new(Role::Client, limits::MESSAGE_BYTES, now_ns)),
                };
                Some(head_bytes)
            }
            Err(error) => {
                conn.give_up(io, format!("handshake: {error}"));
                None
            }
        }
    }

    fn on_frames(&mut self, conn: &mut Peer, io: &mut Io<'_>, memory: &mut [u8], now_ns: u64) {
        match &mut conn.protocol {
            Protocol::Open(_) => {
                if let Err(fault) = self.converse(conn, io, memory, now_ns) {
                    let key = self.key();
                    let Protocol::Open(connection) = &mut conn.protocol else { return };
                    if let Some(frame) = connection.fail(fault, now_ns, key) {
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                    }
                    self.on_fault(conn, io, fault, now_ns);
                }
            }
            Protocol::Compressed(deflated) => {
                let Some((_, space)) = &mut self.deflate else { return };
                let fault = deflated.answer(space, io, memory, now_ns).fault;
                self.on_compressed(conn, io, fault, now_ns);
            }
            Protocol::Connecting | Protocol::Handshake(_) | Protocol::Failed => {}
        }
    }

    /// Reads `memory` to its end, and answers.
    fn converse(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        memory: &mut [u8],
        now_ns: u64,
    ) -> Result<(), Fault> {
        let Protocol::Open(connection) = &mut conn.protocol else { return Ok(()) };
        connection.on_received(now_ns);
        let mut at = 0;
        while let Some(event) = connection.next(&memory[at..])? {
            let start = at;
            at += event.consumed();
            let key = Mask::from_bytes(self.random.u32(..).to_ne_bytes());
            match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    connection.accept(&data, memory, from, from)?;
                    let piece = &memory[from..at];
                    if conn.visit.echoes {
                        io.write(|out| append_fragment(&data, piece, key, out));
                    } else {
                        let room_bytes = KEPT_BYTES_MAX - conn.visited.message.len();
                        conn.visited.message.extend(piece.iter().take(room_bytes));
                    }
                }
                Event::Ping { .. } => {
                    if let Some(frame) = connection.pong(key) {
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                    }
                }
                Event::Pong { .. } => {}
                Event::Close { .. } => {
                    if let Some(frame) = connection.reply_to_close(key) {
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                    }
                }
            }
        }
        if connection.is_closed() {
            conn.is_closing = true;
            conn.end_by(io, now_ns + self.limits.close_ns);
        }
        Ok(())
    }

    /// Has a compressed connection that had to wait go on, as far as it can.
    fn go_on(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64, go_on: GoOn) {
        let (Protocol::Compressed(deflated), Some((_, space))) = (&mut conn.protocol, &mut self.deflate)
        else {
            return;
        };
        if deflated.is_stalled() {
            let fault = go_on(deflated, space, io, now_ns).fault;
            self.on_compressed(conn, io, fault, now_ns);
        }
    }

    fn on_compressed(&mut self, conn: &mut Peer, io: &mut Io<'_>, fault: Option<Fault>, now_ns: u64) {
        let Protocol::Compressed(deflated) = &mut conn.protocol else { return };
        let is_open = deflated.connection().is_open();
        if let Some(fault) = fault {
            self.on_fault(conn, io, fault, now_ns);
        } else if !is_open {
            conn.is_closing = true;
            conn.end_by(io, now_ns + self.limits.close_ns);
        }
    }

    /// The server broke the protocol, and was told so.
    fn on_fault(&mut self, conn: &mut Peer, io: &mut Io<'_>, fault: Fault, now_ns: u64) {
        conn.protocol = Protocol::Failed;
        conn.is_closing = true;
        conn.end_by(io, now_ns + self.limits.close_ns);
        if !conn.visit.echoes {
            conn.visited.failure = Some(format!("protocol: {fault}"));
        }
    }

    /// The socket has been looked at: what is left to do goes on, and the engine must not sleep meanwhile.
    fn serve_line(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        let now_ns = connections.now_ns();
        self.deflate.as_mut()?.1.begin_turn();
        while let Some(id) = self.deflate.as_mut()?.1.next_in_line() {
            if let Some((conn, mut io)) = connections.get(id) {
                self.go_on(conn, &mut io, now_ns, Deflated::take_turn);
            }
        }
        self.deflate.as_ref()?.1.is_anybody_in_line().then_some(now_ns)
    }

    fn key(&mut self) -> Mask {
        Mask::from_bytes(self.random.u32(..).to_ne_bytes())
    }
}

impl Peer {
    fn new(visit: Visit, until_ns: u64) -> Self {
        let visited = Visited { message: Vec::new(), failure: None };
        Self { visit, protocol: Protocol::Connecting, visited, until_ns, is_closing: false }
    }

    /// It is to be over at `until_ns` at the latest.
    fn end_by(&mut self, io: &mut Io<'_>, until_ns: u64) {
        self.until_ns = self.until_ns.min(until_ns);
        io.wake_by(self.until_ns);
    }

    fn give_up(&mut self, io: &mut Io<'_>, why: String) {
        self.visited.failure.get_or_insert(why);
        self.protocol = Protocol::Failed;
        io.abort();
    }

    /// Its time is over.
    fn on_deadline(&mut self, io: &mut Io<'_>) {
        match self.protocol {
            Protocol::Connecting => self.give_up(io, "connect: timed out".to_owned()),
            Protocol::Handshake(_) => self.give_up(io, "handshake: timed out".to_owned()),
            // The server may leave the closing of TCP to us.
            _ if self.is_closing => io.abort(),
            _ => self.give_up(io, "the server did not come to an end".to_owned()),
        }
    }
}

/// A piece of a message as a client's fragment.
fn append_fragment(data: &Data, piece: &[u8], key: Mask, out: &mut Vec<u8>) {
    let opcode = if data.begins_message() { data.chunk.opcode } else { Opcode::Continuation };
    let fin = data.ends_message();
    let header = Header { fin, opcode, mask: Some(key), payload_bytes: piece.len() as u64 };
    let mut encoded = [0; MAX_HEADER_BYTES];
    let header_bytes = header.encode(&mut encoded);
    out.extend_from_slice(&encoded[..header_bytes]);
    mask::mask_onto(key, piece, out);
}

impl<N: FnMut(Option<Visited>) -> Option<Visit> + 'static> Handler for EchoClient<N> {
    type Conn = Peer;

    fn on_accept(&mut self) -> Peer {
        unreachable!("a client has no listener")
    }

    fn on_open(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let Some((conn, mut io)) = connections.get(id) else { return };
        let nonce = self.random.u128(..).to_ne_bytes();
        let Host { name, port, tls, .. } = &self.host;
        match ClientHandshake::new(name, *port, &conn.visit.target, nonce, limits::HANDSHAKE_HEAD_BYTES) {
            Ok(mut handshake) => {
                if *tls {
                    handshake = handshake.over_tls();
                }
                if let Some((settings, _)) = self.deflate.as_ref().filter(|_| conn.visit.echoes) {
                    handshake = handshake.offering_deflate(settings.parameters);
                }
                io.send(handshake.request());
                conn.protocol = Protocol::Handshake(Box::new(handshake));
            }
            Err(error) => conn.give_up(&mut io, format!("handshake: {error}")),
        }
    }

    fn on_bytes(&mut self, connections: &mut Connections<Peer>, id: ConnId, received: Received<'_>) {
        let now_ns = connections.now_ns();
        let Some((conn, mut io)) = connections.get(id) else { return };
        let mut memory = &mut received.memory[received.range];
        if matches!(conn.protocol, Protocol::Handshake(_)) {
            let Some(head_bytes) = self.on_response(conn, &mut io, memory, now_ns) else { return };
            memory = &mut memory[head_bytes..];
            conn.until_ns = now_ns + self.limits.visit_ns;
            io.wake_by(conn.until_ns);
        }
        self.on_frames(conn, &mut io, memory, now_ns);
    }

    fn on_end(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        if let Some((_, mut io)) = connections.get(id) {
            io.close();
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        let Some((conn, mut io)) = connections.get(id) else { return };
        if conn.until_ns <= now_ns {
            return conn.on_deadline(&mut io);
        }
        io.wake_by(conn.until_ns);
        self.go_on(conn, &mut io, now_ns, Deflated::on_time);
    }

    fn on_writable(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        if let Some((conn, mut io)) = connections.get(id) {
            self.go_on(conn, &mut io, now_ns, Deflated::on_sent);
        }
    }

    fn on_closed(&mut self, _connections: &mut Connections<Peer>, mut conn: Peer, why: Closed) {
        if matches!(conn.protocol, Protocol::Connecting | Protocol::Handshake(_)) {
            let why = match why {
                Closed::ByUs => "closed by server".to_owned(),
                Closed::Connect(error) => format!("connect: {error}"),
                Closed::Broken(error) => format!("handshake: {error}"),
                Closed::Tls(error) => format!("TLS: {error}"),
            };
            conn.visited.failure.get_or_insert(why);
        }
        self.before = Some(conn.visited);
    }

    fn on_wake(&mut self, connections: &mut Connections<Peer>) {
        connections.stop();
    }

    fn on_turn(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        if connections.is_empty() {
            match (self.next)(self.before.take()) {
                Some(visit) => {
                    let until_ns = connections.clock_ns() + self.limits.opening_ns;
                    let id = connections.connect(self.host.address, Peer::new(visit, until_ns));
                    if let Some((_, mut io)) = connections.get(id) {
                        io.wake_by(until_ns);
                    }
                }
                None => connections.stop(),
            }
        }
        self.serve_line(connections)
    }
}
