//! A server's connection from accept to close: opening handshake, the scenario, heartbeats, closing handshake.
//!
//! Invariants: a peer's fault ends its own connection and no other; each state that waits for a peer has a
//! time limit; a connection that is being turned away is read from until the peer is done, so that the answer
//! is not lost to a reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

mod deflated;
mod opening;

use super::echo;
use super::stamps::Stamper;
use crate::engine::{Closed, ConnId, Connections, Counters, Handler, Io, Received};
pub use crate::ws::connection::Timeouts;
use crate::ws::connection::{Connection, Due};
use crate::ws::frame::close_code;
use crate::ws::handshake::ServerHandshake;
use crate::ws::mask::Mask;
pub use deflated::Compressed;
use deflated::Deflation;
pub use opening::{AllowedOrigins, Origin, Subprotocol, Terms};

const NO_KEY: Mask = Mask::from_bytes([0; 4]);

/// What a server puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest head of an opening handshake.
    pub head_bytes: usize,
    /// Longest message.
    pub message_bytes: u64,
    /// Connections of all threads together.
    pub connections: usize,
    /// How long the opening handshake may take.
    pub handshake_ns: u64,
    /// How long a closing handshake, and the end of a connection that is turned away, may take.
    pub close_ns: u64,
    /// Heartbeat and idleness.
    pub timeouts: Timeouts,
}

/// What the threads of a server share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Connections of all threads.
    pub open: AtomicUsize,
    /// The server is to end: every connection is closed with 1001, and the thread ends with the last.
    pub draining: AtomicBool,
    /// The drain took too long: end at once.
    pub abandon: AtomicBool,
}

/// Counts of one thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Served {
    /// The engine's counters.
    pub engine: Counters,
    /// Connections now.
    pub connections: u64,
    /// Messages received whole.
    pub messages: u64,
    /// Opening handshakes that were accepted.
    pub upgrades: u64,
    /// Opening handshakes that were turned down.
    pub rejections: u64,
    /// Connections failed for the peer's breach of the protocol.
    pub faults: u64,
    /// Connections given up because the peer took too long.
    pub timeouts: u64,
}

/// The server's [`Handler`], one a thread.
pub struct Serve<R> {
    limits: Limits,
    shared: Arc<Shared>,
    served: Served,
    /// Given the counts whenever the engine is woken.
    report: R,
    deflation: Option<Box<Deflation>>,
    terms: Box<Terms>,
}

/// One connection.
pub enum Peer {
    /// Its request head has not come, or not all of it.
    Opening {
        /// Collects the head.
        handshake: ServerHandshake,
        /// When it must have come.
        until_ns: u64,
        /// There are too many connections; it will be told so.
        surplus: bool,
    },
    /// It speaks WebSocket.
    Open(Connection),
    /// The same, and it asked for stamps in its answers: somewhere else, so that no other connection is larger for it.
    Stamped(Box<Stamped>),
    /// The same, and it agreed on compression.
    Compressed(Box<Compressed>),
    /// It was answered for the last time; what it still sends is thrown away.
    Leaving {
        /// When it must be gone.
        until_ns: u64,
    },
}

/// A connection whose answers are stamped.
pub struct Stamped {
    connection: Connection,
    stamper: Stamper,
}

impl Peer {
    /// What speaks WebSocket, if it does.
    fn connection(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Open(connection) => Some(connection),
            Self::Stamped(stamped) => Some(&mut stamped.connection),
            Self::Compressed(compressed) => Some(compressed.deflated.connection()),
            Self::Opening { .. } | Self::Leaving { .. } => None,
        }
    }

    /// What came is not answered yet, for want of room; it will be.
    fn owes_answers(&self) -> bool {
        matches!(self, Self::Compressed(compressed) if compressed.deflated.is_stalled())
    }
}

impl<R: FnMut(Served)> Serve<R> {
    /// A handler that calls `report` with its counts when its engine is woken.
    pub fn new(limits: Limits, shared: Arc<Shared>, report: R) -> Self {
        Self { limits, shared, served: Served::default(), report, deflation: None, terms: Box::default() }
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    #[inline]
    fn on_frames(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        received: Received<'_>,
        skipped_bytes: usize,
        now_ns: u64,
    ) {
        let Peer::Open(connection) = conn else { return };
        let answered = echo::answer(connection, io, received, skipped_bytes, now_ns);
        self.served.messages += answered.messages;
        if !connection.is_open() || self.is_draining() {
            self.on_frames_while_closing(conn, io, answered.fault.is_some(), now_ns);
        }
    }

    #[cold]
    fn on_frames_to_stamp(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        received: Received<'_>,
        skipped_bytes: usize,
        now_ns: u64,
    ) {
        let Peer::Stamped(stamped) = conn else { return };
        let Stamped { connection, stamper } = &mut **stamped;
        let answered = echo::answer_stamped(connection, stamper, io, received, skipped_bytes, now_ns);
        self.served.messages += answered.messages;
        if !connection.is_open() || self.is_draining() {
            self.on_frames_while_closing(conn, io, answered.fault.is_some(), now_ns);
        }
    }

    #[cold]
    fn on_frames_while_closing(&mut self, conn: &mut Peer, io: &mut Io<'_>, failed: bool, now_ns: u64) {
        let Some(connection) = conn.connection() else { return };
        if failed {
            self.served.faults += 1;
            self.leave(conn, io, now_ns);
        } else if connection.is_closed() {
            self.part(conn, io, now_ns);
        } else {
            self.begin_close(conn, io, close_code::GOING_AWAY, "server is shutting down", now_ns);
        }
    }

    /// Sends what is queued and closes; a peer that does not take it has as long as for a closing handshake.
    fn part(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let until_ns = now_ns + self.limits.close_ns;
        *conn = Peer::Leaving { until_ns };
        io.close();
        io.wake_by(until_ns);
    }

    /// Sends what is queued and FIN, then waits for the peer's.
    fn leave(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let until_ns = now_ns + self.limits.close_ns;
        *conn = Peer::Leaving { until_ns };
        io.shut_down();
        io.wake_by(until_ns);
    }

    /// Closes with a reason. A peer in the middle of a frame may be waiting for the rest of its echo, which
    /// a Close frame must not cut in two: it is closed at the frame's end.
    fn begin_close(&mut self, conn: &mut Peer, io: &mut Io<'_>, code: u16, reason: &str, now_ns: u64) {
        let owes_answers = conn.owes_answers();
        let Some(connection) = conn.connection() else { return };
        if owes_answers || connection.in_frame() {
            return;
        }
        if let Some(frame) = connection.close(code, reason, now_ns, NO_KEY) {
            io.write(|out| out.extend_from_slice(frame.as_bytes()));
            self.look_at_time(conn, io, now_ns);
        }
    }

    /// Does what is due and has itself called again when the next thing will be.
    fn look_at_time(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let owes_answers = conn.owes_answers();
        let connection = match conn {
            Peer::Opening { until_ns, .. } | Peer::Leaving { until_ns } => {
                if *until_ns <= now_ns {
                    self.served.timeouts += 1;
                    io.abort();
                } else {
                    io.wake_by(*until_ns);
                }
                return;
            }
            Peer::Open(connection) => connection,
            Peer::Stamped(stamped) => &mut stamped.connection,
            Peer::Compressed(compressed) => compressed.deflated.connection(),
        };
        if let Some(at_ns) = io.take_progress() {
            // It reads, if slowly; meanwhile we may not be reading from it.
            connection.on_alive(at_ns);
        }
        loop {
            match connection.on_time(now_ns, &self.limits.timeouts) {
                Due::Later(at_ns) => {
                    if let Some(at_ns) = at_ns {
                        io.wake_by(at_ns);
                    }
                    return;
                }
                Due::Ping => {
                    let in_frame = connection.in_frame();
                    // A ping must not cut an echo in two; silence in the middle of a frame counts the same.
                    if let Some(frame) = connection.ping(now_ns, NO_KEY).filter(|_| !in_frame) {
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                    }
                }
                Due::Idle if !owes_answers && !connection.in_frame() => {
                    self.served.timeouts += 1;
                    return self.begin_close(conn, io, close_code::NORMAL, "idle for too long", now_ns);
                }
                Due::Idle | Due::Abort => {
                    self.served.timeouts += 1;
                    return io.abort();
                }
            }
        }
    }
}

impl<R: FnMut(Served) + 'static> Handler for Serve<R> {
    type Conn = Peer;

    fn on_accept(&mut self) -> Peer {
        let surplus = self.shared.open.fetch_add(1, Ordering::Relaxed) >= self.limits.connections;
        let handshake = ServerHandshake::new(self.limits.head_bytes).with_headers_max(self.terms.headers_max);
        Peer::Opening { handshake, until_ns: 0, surplus }
    }

    fn on_open(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        let Some((conn, mut io)) = connections.get(id) else { return };
        if self.is_draining() {
            // It came in while the listener was being closed.
            return self.part(conn, &mut io, now_ns);
        }
        if let Peer::Opening { until_ns, .. } = conn {
            *until_ns = now_ns + self.limits.handshake_ns;
            io.wake_by(*until_ns);
        }
    }

    #[inline]
    fn on_bytes(&mut self, connections: &mut Connections<Peer>, id: ConnId, received: Received<'_>) {
        let now_ns = connections.now_ns();
        let Some((conn, mut io)) = connections.get(id) else { return };
        match conn {
            Peer::Open(_) => self.on_frames(conn, &mut io, received, 0, now_ns),
            Peer::Opening { .. } => self.on_head(conn, &mut io, received, now_ns),
            Peer::Stamped(_) => self.on_frames_to_stamp(conn, &mut io, received, 0, now_ns),
            Peer::Compressed(_) => self.on_compressed_frames(conn, &mut io, received, 0, now_ns),
            Peer::Leaving { .. } => {}
        }
    }

    fn on_end(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        if let Some((conn, mut io)) = connections.get(id)
            && !self.awaits_answers(conn, now_ns)
        {
            self.part(conn, &mut io, now_ns);
        }
    }

    fn on_writable(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        if let Some((conn, mut io)) = connections.get(id) {
            self.go_on(conn, &mut io, now_ns);
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        if let Some((conn, mut io)) = connections.get(id) {
            self.go_on(conn, &mut io, now_ns);
            self.look_at_time(conn, &mut io, now_ns);
        }
    }

    fn on_closed(&mut self, connections: &mut Connections<Peer>, _conn: Peer, _why: Closed) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        if self.is_draining() && connections.is_empty() {
            connections.stop();
        }
    }

    fn on_wake(&mut self, connections: &mut Connections<Peer>) {
        self.served.engine = connections.counters();
        self.served.connections = connections.len() as u64;
        (self.report)(self.served);
        if self.shared.abandon.load(Ordering::Relaxed) {
            connections.stop();
        } else if self.is_draining() {
            connections.stop_accepting();
            let now_ns = connections.now_ns();
            for id in connections.ids() {
                let Some((conn, mut io)) = connections.get(id) else { continue };
                match conn {
                    Peer::Open(_) | Peer::Stamped(_) | Peer::Compressed(_) => {
                        self.begin_close(
                            conn,
                            &mut io,
                            close_code::GOING_AWAY,
                            "server is shutting down",
                            now_ns,
                        );
                    }
                    // Its request may come in this very turn: it is not to be answered any more.
                    Peer::Opening { .. } => self.part(conn, &mut io, now_ns),
                    Peer::Leaving { .. } => {}
                }
            }
            if connections.is_empty() {
                connections.stop();
            }
        }
    }
}
