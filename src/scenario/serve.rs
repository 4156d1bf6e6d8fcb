//! A server's connection from accept to close: opening handshake, the scenario, heartbeats, closing handshake.
//!
//! Invariants: a peer's fault ends its own connection and no other; each state that waits for a peer has a
//! time limit; a connection that is being turned away is read from until the peer is done, so that the answer
//! is not lost to a reset.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

mod addresses;
mod counters;
mod deflated;
mod limits;
mod opening;
mod pages;
mod scenes;

use super::echo;
use super::stamps::Stamper;
use crate::engine::{Closed, ConnId, Connections, EngineKind, Handler, Io, Received};
use crate::limits::IDLE_CONNECTION_BYTES;
pub use crate::ws::connection::{Bounds, Timeouts};
use crate::ws::connection::{Connection, Due};
use crate::ws::frame::{Fault, close_code};
use crate::ws::handshake::ServerHandshake;
pub use crate::ws::handshake::{PageRequest, Rejection};
use crate::ws::mask::Mask;
use counters::Awaited;
pub use counters::{Kinds, Scenes, Served};
pub use deflated::Compressed;
use deflated::Deflation;
pub use limits::{Limits, Shared, SlowConsumer};
pub use opening::{AllowedOrigins, Origin, Subprotocol, Terms};
use pages::Desk;
pub use pages::{Answer, Pages, Question};
pub use scenes::Scene;
use scenes::Stage;

const NO_KEY: Mask = Mask::from_bytes([0; 4]);

/// The server's [`Handler`], one a thread.
pub struct Serve<R> {
    limits: Limits,
    shared: Arc<Shared>,
    served: Served,
    /// Connections of this thread.
    open_count: usize,
    /// Given the counts whenever the engine is woken.
    report: R,
    /// There is something to be done at the end of each turn: one look for all that it may be.
    has_turns: bool,
    deflation: Option<Box<Deflation>>,
    stage: Option<Box<Stage>>,
    terms: Box<Terms>,
    desk: Option<Box<Desk>>,
    /// Which of the hub's threads this is.
    thread: usize,
}

/// One connection.
pub enum Peer {
    /// Its request head has not come, or not all of it.
    Opening {
        /// Collects the head.
        handshake: ServerHandshake,
        /// When it must have come.
        until_ns: u64,
        /// Whether it may come in, once it asks.
        place: Place,
    },
    /// It speaks WebSocket.
    Open(Connection),
    /// The same, and it asked for stamps in its answers: somewhere else, so that no other connection is larger for it.
    Stamped(Box<Stamped>),
    /// The same, and it agreed on compression.
    Compressed(Box<Compressed>),
    /// Its path is that of another scenario, which works on whole messages.
    Scene(Box<Scene>),
    /// It was answered for the last time; what it still sends is thrown away.
    Leaving {
        /// When it must be gone.
        until_ns: u64,
    },
}

/// What a connection that came is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It may come in.
    Free,
    /// There are as many connections as may be.
    NoneInAll,
    /// There are as many as may be from its address.
    NoneForAddress,
}

impl Place {
    fn refusal(self) -> Rejection {
        match self {
            Self::Free | Self::NoneInAll => Rejection::Busy,
            Self::NoneForAddress => Rejection::TooManyFromAddress,
        }
    }
}

/// A connection whose answers are stamped.
pub struct Stamped {
    connection: Connection,
    stamper: Stamper,
}

// A million of them are to fit: what few connections need is boxed, here and in the engines.
const _: () = {
    assert!(EngineKind::Uring.connection_bytes::<Peer>() <= IDLE_CONNECTION_BYTES);
    assert!(EngineKind::Epoll.connection_bytes::<Peer>() <= IDLE_CONNECTION_BYTES);
};

impl Peer {
    /// What speaks WebSocket, if it does.
    fn connection(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Open(connection) => Some(connection),
            Self::Stamped(stamped) => Some(&mut stamped.connection),
            Self::Compressed(compressed) => Some(compressed.deflated.connection()),
            Self::Scene(scene) => Some(scene.messages.connection()),
            Self::Opening { .. } | Self::Leaving { .. } => None,
        }
    }

    /// Its answers may leave before they are whole, in the middle of a frame of its own.
    fn sends_parts(&self) -> bool {
        !matches!(self, Self::Scene(_))
    }

    /// What came is not answered yet, for want of room; it will be.
    fn owes_answers(&self) -> bool {
        matches!(self, Self::Compressed(compressed) if compressed.deflated.is_stalled())
    }
}

impl<R: FnMut(Served)> Serve<R> {
    /// A handler that calls `report` with its counts when its engine is woken, and when it ends it.
    pub fn new(limits: Limits, shared: Arc<Shared>, report: R) -> Self {
        Self {
            limits,
            shared,
            served: Served::default(),
            open_count: 0,
            report,
            has_turns: false,
            deflation: None,
            stage: None,
            terms: Box::default(),
            desk: None,
            thread: 0,
        }
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
        self.served.on_answered(&answered);
        if !connection.is_open() || self.is_draining() {
            self.on_frames_while_closing(conn, io, answered.fault, now_ns);
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
        self.served.on_answered(&answered);
        self.served.messages_stamped += answered.messages;
        if !connection.is_open() || self.is_draining() {
            self.on_frames_while_closing(conn, io, answered.fault, now_ns);
        }
    }

    #[cold]
    fn on_frames_while_closing(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        fault: Option<Fault>,
        now_ns: u64,
    ) {
        let Some(connection) = conn.connection() else { return };
        if let Some(fault) = fault {
            self.served.on_fault(fault);
            self.leave(conn, io, now_ns);
        } else if connection.is_closed() {
            self.served.closes += 1;
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
        let sends_parts = conn.sends_parts();
        let Some(connection) = conn.connection() else { return };
        if owes_answers || (sends_parts && connection.in_frame()) {
            return;
        }
        if let Some(frame) = connection.close(code, reason, now_ns, NO_KEY) {
            io.write(|out| out.extend_from_slice(frame.as_bytes()));
            self.after_close_of_scene(conn, io, now_ns);
            self.look_at_time(conn, io, now_ns);
        }
    }

    /// Gives the peer up if it is time to.
    fn wait_until(&mut self, until_ns: u64, awaited: Awaited, io: &mut Io<'_>, now_ns: u64) {
        if until_ns <= now_ns {
            self.served.on_timeout(awaited);
            io.abort();
        } else {
            io.wake_by(until_ns);
        }
    }

    /// Gives up a peer that has been stuck for too long; says whether it was.
    fn drops_if_stuck(&mut self, since_ns: Option<u64>, io: &mut Io<'_>, now_ns: u64) -> bool {
        let Some(stall_ns) = self.limits.stall_ns else { return false };
        // What it gets stuck in from now on, it will not have been for too long before it is looked at again. So nothing has
        // to be armed where a frame is cut or a send falls short, which is where the traffic is.
        let until_ns = since_ns.unwrap_or(now_ns).saturating_add(stall_ns);
        if until_ns <= now_ns {
            self.served.on_timeout(Awaited::Progress);
            io.abort();
            return true;
        }
        io.wake_by(until_ns);
        false
    }

    /// Leaves the counts with whoever asked for them.
    fn tell(&mut self, connections: &Connections<Peer>) {
        self.served.inflated_bytes = self.inflated_bytes();
        self.served.engine = connections.counters();
        self.served.connections = connections.len() as u64;
        (self.report)(self.served);
    }

    #[cold]
    fn end_turn(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        let of_compression = self.begin_turn(connections);
        of_compression.into_iter().chain(self.end_turn_of_scenes(connections)).min()
    }

    fn stop(&mut self, connections: &mut Connections<Peer>) {
        self.tell(connections);
        connections.stop();
    }

    /// Does what is due and has itself called again when the next thing will be.
    fn look_at_time(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let (owes_answers, sends_parts) = (conn.owes_answers(), conn.sends_parts());
        let connection = match conn {
            Peer::Opening { until_ns, .. } => {
                return self.wait_until(*until_ns, Awaited::Handshake, io, now_ns);
            }
            Peer::Leaving { until_ns } => {
                let until_ns = *until_ns;
                if !self.look_at_page(conn, io, now_ns) {
                    self.wait_until(until_ns, Awaited::Close, io, now_ns);
                }
                return;
            }
            Peer::Open(connection) => connection,
            Peer::Stamped(stamped) => &mut stamped.connection,
            Peer::Compressed(compressed) => compressed.deflated.connection(),
            Peer::Scene(scene) => scene.messages.connection(),
        };
        if let Some(at_ns) = io.take_progress() {
            // It reads, if slowly; meanwhile we may not be reading from it.
            connection.on_alive(at_ns);
        }
        if connection.is_open() {
            // What it was in the middle of sending, we may not be reading before it reads.
            let stuck_ns = connection.stuck_since_ns().filter(|_| !owes_answers);
            if self.drops_if_stuck(io.waits_since_ns().or(stuck_ns), io, now_ns) {
                return;
            }
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
                    let in_frame = sends_parts && connection.in_frame();
                    // A ping must not cut an echo in two; silence in the middle of a frame counts the same.
                    if let Some(frame) = connection.ping(now_ns, NO_KEY).filter(|_| !in_frame) {
                        self.served.pings += 1;
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                    }
                }
                Due::Idle => {
                    self.served.on_timeout(Awaited::Bytes);
                    if owes_answers || (sends_parts && connection.in_frame()) {
                        return io.abort();
                    }
                    return self.begin_close(conn, io, close_code::NORMAL, "idle for too long", now_ns);
                }
                Due::Abort => {
                    let awaited = if connection.is_open() { Awaited::Pong } else { Awaited::Close };
                    self.served.on_timeout(awaited);
                    return io.abort();
                }
            }
        }
    }
}

impl<R: FnMut(Served) + 'static> Handler for Serve<R> {
    type Conn = Peer;

    fn on_accept(&mut self) -> Peer {
        let is_surplus = self.shared.open.fetch_add(1, Ordering::Relaxed) >= self.limits.connections
            || self.open_count >= self.limits.connections_of_thread;
        self.open_count += 1;
        let place = if is_surplus { Place::NoneInAll } else { Place::Free };
        let handshake = ServerHandshake::new(self.limits.head_bytes).with_headers_max(self.terms.headers_max);
        Peer::Opening { handshake, until_ns: 0, place }
    }

    /// Who is one too many is told so; but being told takes a place as well, so whoever goes on regardless is dropped.
    fn on_address(&mut self, connections: &mut Connections<Peer>, id: ConnId, address: IpAddr) {
        let Some(count_max) = self.limits.connections_per_address else { return };
        let count = self.shared.addresses.enter(address);
        let Some((conn, mut io)) = connections.get(id).filter(|_| count > count_max) else { return };
        if count > count_max.saturating_mul(2) {
            self.served.kinds.drops_from_address += 1;
            io.abort();
        } else if let Peer::Opening { place, .. } = conn {
            *place = Place::NoneForAddress;
        }
    }

    /// Being told why would cost a handshake, which is what they are to be kept from: they are closed without.
    fn on_securing(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let Some((conn, mut io)) = connections.get(id) else { return };
        let Peer::Opening { place, .. } = conn else { return };
        if *place != Place::Free {
            self.served.on_rejection(&place.refusal());
            io.abort();
        } else if self.is_draining() {
            io.abort();
        }
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
            Peer::Scene(_) => self.on_scene_frames(conn, &mut io, received, 0, now_ns),
            Peer::Leaving { .. } => {}
        }
    }

    fn on_end(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        if let Some((conn, mut io)) = connections.get(id)
            && !self.awaits_answers(conn, &mut io, now_ns)
            && !self.scene_is_owed(conn, &mut io, now_ns)
            && !self.awaits_page(&io)
        {
            let has_closed = matches!(conn, Peer::Leaving { .. });
            self.served.kinds.hangups += u64::from(!has_closed);
            self.part(conn, &mut io, now_ns);
        }
    }

    fn on_writable(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        if let Some((conn, mut io)) = connections.get(id) {
            self.on_sent(conn, &mut io, now_ns);
            self.on_scene_sent(conn, &mut io, now_ns);
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        if let Some((conn, mut io)) = connections.get(id) {
            self.go_on(conn, &mut io, now_ns);
            self.on_scene_time(conn, &mut io, now_ns);
            self.look_at_time(conn, &mut io, now_ns);
        }
    }

    #[inline]
    fn on_turn(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        if self.has_turns { self.end_turn(connections) } else { None }
    }

    fn on_closed(&mut self, connections: &mut Connections<Peer>, _conn: Peer, why: Closed) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.open_count -= 1;
        if let Some(address) =
            connections.departed().filter(|_| self.limits.connections_per_address.is_some())
        {
            self.shared.addresses.leave(address);
        }
        self.served.on_closed(&why);
        if self.is_draining() && connections.is_empty() {
            self.stop(connections);
        }
    }

    fn on_wake(&mut self, connections: &mut Connections<Peer>) {
        self.tell(connections);
        self.on_counts(connections);
        if self.shared.abandon.load(Ordering::Relaxed) {
            connections.stop();
        } else if self.is_draining() {
            connections.stop_accepting();
            let now_ns = connections.now_ns();
            for id in connections.ids() {
                let Some((conn, mut io)) = connections.get(id) else { continue };
                match conn {
                    Peer::Open(_) | Peer::Stamped(_) | Peer::Compressed(_) | Peer::Scene(_) => {
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
                self.stop(connections);
            }
        }
    }
}
