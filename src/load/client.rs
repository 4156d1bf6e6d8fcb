//! The generator's side of an engine: opens connections, sends on schedule or in a closed loop, checks and
//! times what comes back.
//!
//! A message is stamped as sent when it is composed, in the turn that sends it at its end or sooner; an answer as come when
//! the receive that brought it was over ([`Connections::received_ns`]), never before it arrived. So both stamps err towards
//! a longer service time: by less than the turns that they are of.
//!
//! Invariants: what the schedule intends is sent, kept in a connection's backlog, or counted as unsent, never
//! forgotten; answers are matched to messages in order, and any other order is an error.

mod answers;
mod deflated;
mod opening;
mod pushed;
mod spoken;
mod subprotocol;
mod varied;

use std::collections::VecDeque;

use super::bursts::BurstLog;
use super::tally::{Slice, Tally, Window};
use super::task::{Harvest, Report, Task};
use super::worst::Worst;
use crate::engine::{Closed, ConnId, Connections, Handler, Io, Received};
use crate::scenario::stamps::{self, Layout};
use crate::tls::Secured;
use crate::ws::connection::Connection;
use crate::ws::frame::{Fault, close_code};
use crate::ws::handshake::ClientHandshake;
use crate::ws::mask::Mask;
use crate::ws::subprotocol::Subprotocol;
use deflated::{Compressed, Deflation};
pub(super) use opening::describe;
pub(super) use pushed::Wish;
use pushed::{Pushed, Pushing};
pub(super) use varied::fragment;
use varied::{Varied, Varying};

/// Output of earlier turns that may wait on a connection before the schedule's messages stay in its backlog: the server is
/// not reading. It counts as sent, so service times would be longer by a stall if it were more.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// Output that a turn may queue on a connection.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// Messages that the schedule may have sent before the engine has its turn.
const SENDS_PER_TURN_MAX: usize = 1 << 8;
/// Messages that fell due in the window's last turn and are sent after its end; a generator that is behind by
/// more than these has not kept to its schedule, and the rest counts as unsent.
const SENDS_AT_END_MAX: usize = 1 << 10;
/// How often a backlog is looked at.
const BACKLOG_INTERVAL_NS: u64 = 1_000_000;
/// How long the server may take to answer our Close frames.
pub(super) const CLOSE_NS: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Ready,
    Running,
    Draining,
    Closing,
}

/// The generator's [`Handler`], one a thread.
pub(super) struct Client {
    task: Task,
    pub(super) tally: Tally,
    pub(super) worst: Worst,
    /// Time of the measured window in turns that found nothing to do, while spinning.
    idle_ns: u64,
    /// Whether this turn has had anything to do; whether the one before had, and when it began.
    turn_worked: bool,
    last_turn_worked: bool,
    last_turn_ns: u64,
    stage: Stage,
    window: Window,
    /// Connections yet to begin, and begun but not open.
    unopened: usize,
    opening: usize,
    next_connect_ns: f64,
    /// Open connections, in the order they are sent on.
    open: Vec<ConnId>,
    /// Some of them are gone.
    lost_some: bool,
    turn: usize,
    backlogged: Vec<ConnId>,
    unanswered: u64,
    close_by_ns: u64,
    /// Where messages are compressed.
    deflation: Option<Box<Deflation>>,
    /// Where they vary.
    varying: Option<Box<Varying>>,
    /// Where the server sends unasked.
    pushing: Option<Box<Pushing>>,
    /// More is to be noted of an answer than how long it took.
    looks_closer: bool,
    /// What the first connection's server chose, and so all have to.
    subprotocol: Option<Subprotocol>,
}

enum Protocol {
    Connecting,
    Handshake { handshake: Box<ClientHandshake>, since_ns: u64 },
    Open(Connection),
    Compressed(Box<Compressed>),
    Varied(Box<Varied>),
    Pushed(Box<Pushed>),
}

impl Protocol {
    /// What speaks WebSocket, if it does.
    fn connection(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Open(connection) => Some(connection),
            Self::Compressed(compressed) => Some(compressed.messages.connection()),
            Self::Varied(varied) => Some(&mut varied.connection),
            Self::Pushed(pushed) => Some(&mut pushed.connection),
            Self::Connecting | Self::Handshake { .. } => None,
        }
    }
}

/// Whether another message may be queued on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    /// This turn has queued enough.
    Full,
    /// What earlier turns queued is still there: the server does not read.
    NotRead,
}

struct Sent {
    intended_ns: u64,
    sent_ns: u64,
}

/// One connection.
pub(super) struct Peer {
    protocol: Protocol,
    since_ns: u64,
    /// Which one it is of this thread's.
    ordinal: u32,
    /// Why we gave it up.
    failure: Option<String>,
    next_number: u64,
    /// Number of the oldest message unanswered, and how much of its answer has come.
    answer_number: u64,
    answer_bytes: usize,
    answer_is_wrong: bool,
    /// It answers a message that was answered, or given up as missing, before.
    answer_is_surplus: bool,
    /// The stamps of the answer under way, where the server was asked for them.
    stamps: stamps::Reader,
    in_flight: VecDeque<Sent>,
    /// The turn that looked last whether there is room, and what was waiting from earlier ones then.
    looked_ns: u64,
    waiting_bytes: usize,
    /// Intended send times of messages that wait for the server to read.
    backlog: VecDeque<u64>,
}

impl Client {
    pub(super) fn new(mut task: Task) -> Self {
        let never =
            Window { start_ns: u64::MAX, measure_ns: u64::MAX, end_ns: u64::MAX, drained_ns: u64::MAX };
        let mut tally = Tally::new(task.spans.take());
        tally.anatomy = task.payloads.stamps().map(|_| Box::default());
        tally.bursts = task.bursts_every_ns.map(|every_ns| Box::new(BurstLog::new(every_ns)));
        Self {
            worst: Worst::new(task.exemplars),
            idle_ns: 0,
            turn_worked: false,
            last_turn_worked: false,
            last_turn_ns: 0,
            stage: Stage::Opening,
            window: never,
            unopened: task.connections,
            opening: 0,
            next_connect_ns: 0.0,
            open: Vec::with_capacity(task.connections),
            lost_some: false,
            turn: 0,
            backlogged: Vec::new(),
            unanswered: 0,
            close_by_ns: u64::MAX,
            varying: task.variety.take().map(|variety| Box::new(Varying::new(variety))),
            pushing: task.wish.map(|wish| Box::new(Pushing::new(wish))),
            looks_closer: tally.anatomy.is_some() || tally.bursts.is_some(),
            deflation: task.deflate.map(|settings| Box::new(Deflation::new(settings))),
            subprotocol: None,
            tally,
            task,
        }
    }

    fn tell(&self, report: Report) {
        (self.task.report)(report);
    }

    // ---- sending ----

    fn random_key(&mut self) -> Mask {
        Mask::from_bytes(self.task.random.u32(..).to_ne_bytes())
    }

    /// Takes connections that are gone out of the order of sending: once a turn, however many they are.
    fn forget_lost(&mut self, connections: &mut Connections<Peer>) {
        if !std::mem::take(&mut self.lost_some) {
            return;
        }
        self.open.retain(|&id| connections.get(id).is_some());
        self.varying.iter_mut().for_each(|varying| varying.talk.forget());
        self.pushing.iter_mut().for_each(|pushing| pushing.settled = 0);
        if self.open.is_empty() && !matches!(self.stage, Stage::Opening | Stage::Closing) {
            self.tell(Report::Deserted);
        }
    }

    #[inline]
    fn send(&mut self, conn: &mut Peer, io: &mut Io<'_>, intended_ns: u64, now_ns: u64) {
        if !matches!(conn.protocol, Protocol::Open(_)) {
            return self.send_otherwise(conn, io, intended_ns, now_ns);
        }
        let key = self.random_key();
        io.write(|out| self.task.payloads.encode(conn.next_number, key, out));
        conn.next_number += 1;
        conn.in_flight.push_back(Sent { intended_ns, sent_ns: now_ns });
        self.note_sent(intended_ns);
    }

    /// On a connection that is not of the ordinary kind.
    #[cold]
    fn send_otherwise(&mut self, conn: &mut Peer, io: &mut Io<'_>, intended_ns: u64, now_ns: u64) {
        match conn.protocol {
            Protocol::Compressed(_) => self.send_compressed(conn, io, intended_ns, now_ns),
            _ => self.send_varied(conn, io, intended_ns, now_ns),
        }
    }

    #[inline(always)]
    fn note_sent(&mut self, intended_ns: u64) {
        self.unanswered += 1;
        self.turn_worked = true;
        self.tally.on_sent(&self.window, intended_ns);
    }

    /// Sends what the schedule has due, `count_max` messages at most; says when the next is.
    fn send_due(&mut self, connections: &mut Connections<Peer>, count_max: usize) -> Option<u64> {
        for _ in 0..count_max {
            let intended_ns = self.window.start_ns + self.task.schedule.as_ref()?.next_ns();
            if intended_ns >= self.window.end_ns {
                return Some(self.window.end_ns);
            }
            // Read for each message: the lag is a measurement.
            let now_ns = connections.clock_ns();
            if intended_ns > now_ns {
                return Some(intended_ns);
            }
            self.task.schedule.as_mut()?.advance();
            self.send_in_turn(connections, intended_ns, now_ns);
        }
        Some(0)
    }

    fn send_in_turn(&mut self, connections: &mut Connections<Peer>, intended_ns: u64, now_ns: u64) {
        if self.open.is_empty() {
            return self.tally.on_unsent(&self.window, intended_ns);
        }
        self.turn = if self.turn + 1 < self.open.len() { self.turn + 1 } else { 0 };
        let id = self.open[self.turn];
        let Some((conn, mut io)) = connections.get(id) else {
            return self.tally.on_unsent(&self.window, intended_ns);
        };
        self.tally.on_due(&self.window, intended_ns, now_ns);
        if conn.failure.is_some() {
            // Closed by the server, or given up, and not gone yet.
            return self.tally.on_unsent(&self.window, intended_ns);
        }
        let room = conn.room(&io, self.last_turn_ns);
        if room == Room::Free && conn.backlog.is_empty() {
            return self.send(conn, &mut io, intended_ns, now_ns);
        }
        if conn.backlog.is_empty() {
            self.backlogged.push(id);
        }
        conn.backlog.push_back(intended_ns);
        if room == Room::NotRead {
            self.tally.on_held_back(&self.window, intended_ns);
        }
    }

    fn send_backlogs(&mut self, connections: &mut Connections<Peer>) {
        let mut backlogged = std::mem::take(&mut self.backlogged);
        backlogged.retain(|&id| {
            let Some((conn, mut io)) = connections.get(id) else { return false };
            while conn.room(&io, self.last_turn_ns) == Room::Free && conn.failure.is_none() {
                let Some(intended_ns) = conn.backlog.pop_front() else { return false };
                let now_ns = io.clock_ns();
                self.send(conn, &mut io, intended_ns, now_ns);
            }
            true
        });
        self.backlogged.append(&mut backlogged);
    }

    fn start(&mut self, connections: &mut Connections<Peer>) {
        self.stage = Stage::Running;
        if self.task.schedule.is_some() {
            return;
        }
        for index in 0..self.open.len() {
            let Some((conn, mut io)) = connections.get(self.open[index]) else { continue };
            for _ in 0..self.task.pipeline {
                let now_ns = io.clock_ns();
                self.send(conn, &mut io, now_ns, now_ns);
            }
        }
    }

    /// No message is sent from here on; those that should have been are counted.
    fn stop_sending(&mut self, connections: &mut Connections<Peer>) {
        self.stage = Stage::Draining;
        self.varying.iter().for_each(|varying| varying.variety.published.end());
        for id in std::mem::take(&mut self.backlogged) {
            let Some((conn, _)) = connections.get(id) else { continue };
            for intended_ns in conn.backlog.drain(..) {
                self.tally.on_unsent(&self.window, intended_ns);
            }
        }
        let Some(schedule) = &mut self.task.schedule else { return };
        let start_ns = self.window.start_ns;
        let (window, tally) = (&self.window, &mut self.tally);
        for end_ns in [window.measure_ns, window.end_ns] {
            schedule.pass_over(end_ns.saturating_sub(start_ns), |arrival_ns, count| {
                tally.on_many_unsent(window, start_ns + arrival_ns, count);
            });
        }
    }

    /// What it leaves when it has ended.
    pub(super) fn into_harvest(mut self) -> Harvest {
        let pushes = self.close_books_of_pushes();
        let mut particulars =
            self.varying.take().map(|varying| varying.into_particulars()).unwrap_or_default();
        particulars.pushes = pushes;
        Harvest {
            is_unstamped: self.task.payloads.stamps().is_some() && self.tally.anatomy.is_none(),
            deflate: self.agreed(),
            wire: self.wire(),
            tally: self.tally,
            exemplars: self.worst.into_exemplars(),
            idle_ns: self.idle_ns,
            subprotocol: self.subprotocol,
            particulars,
        }
    }

    // ---- the end ----

    /// Closes the connections once all has come that is waited for, or it has been waited for long enough; when to look again.
    fn drain(&mut self, connections: &mut Connections<Peer>) -> u64 {
        if connections.now_ns() < self.window.drained_ns {
            if self.unanswered > 0 {
                return self.window.drained_ns;
            }
            if self.awaits_broadcasts(connections) || self.awaits_pushes(connections) {
                // What another thread does brings no turn of this one.
                return self.window.drained_ns.min(connections.clock_ns() + BACKLOG_INTERVAL_NS);
            }
        }
        self.begin_close(connections);
        self.close_by_ns
    }

    fn begin_close(&mut self, connections: &mut Connections<Peer>) {
        self.stage = Stage::Closing;
        let now_ns = connections.clock_ns();
        self.close_by_ns = now_ns + CLOSE_NS;
        for id in std::mem::take(&mut self.open) {
            let key = self.random_key();
            let Some((conn, mut io)) = connections.get(id) else { continue };
            // Those of the window are outstanding, by difference; these are in no other count.
            let oldest_ns = conn.in_flight.front().map(|sent| sent.intended_ns);
            let oldest_ns = match &conn.protocol {
                Protocol::Varied(varied) => oldest_ns.into_iter().chain(varied.oldest_ns()).min(),
                _ => oldest_ns,
            };
            self.settle_hearing(conn);
            self.settle_pushes(conn);
            if oldest_ns.is_some_and(|oldest_ns| oldest_ns < self.window.measure_ns) {
                self.tally.accounting.count_error("unanswered since warm-up");
            }
            let Some(connection) = conn.protocol.connection() else { continue };
            if self.task.endpoint.bare {
                io.close();
            } else if let Some(frame) = connection.close(close_code::NORMAL, "", now_ns, key) {
                io.write(|out| out.extend_from_slice(frame.as_bytes()));
            }
        }
    }

    fn hand_over_slice(&mut self) {
        let spare = self.task.spare.lock().ok().and_then(|mut spare| spare.pop());
        let full = self.tally.hand_over(spare.unwrap_or_else(Slice::new));
        self.tell(Report::Slice(self.task.thread, full));
    }

    /// The turn before has lasted until this one began, at `now_ns`.
    #[inline]
    fn look_back(&mut self, now_ns: u64) {
        if self.task.spin && !self.last_turn_worked {
            let from_ns = self.last_turn_ns.max(self.window.measure_ns);
            self.idle_ns += now_ns.min(self.window.end_ns).saturating_sub(from_ns);
        }
        self.last_turn_ns = now_ns;
    }

    /// Does what the stage asks for; when it has to be called again.
    fn advance(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        self.forget_lost(connections);
        match self.stage {
            Stage::Opening => self.open_more(connections),
            Stage::Ready => None,
            Stage::Running if connections.now_ns() >= self.window.end_ns => {
                self.send_due(connections, SENDS_AT_END_MAX);
                self.stop_sending(connections);
                // Everything may be answered, and the thread dismissed, already: nothing else need bring a turn.
                Some(0)
            }
            Stage::Running => {
                // Bounded, so that a rate beyond what can be queued does not keep what is queued from being sent.
                let next_ns = self.send_due(connections, SENDS_PER_TURN_MAX);
                if self.backlogged.is_empty() {
                    return next_ns;
                }
                self.send_backlogs(connections);
                let look_ns = connections.clock_ns() + BACKLOG_INTERVAL_NS;
                Some(next_ns.map_or(look_ns, |next_ns| next_ns.min(look_ns)))
            }
            Stage::Draining if !self.task.orders.is_dismissed() => None,
            Stage::Draining => Some(self.drain(connections)),
            Stage::Closing => {
                if connections.is_empty() || connections.now_ns() >= self.close_by_ns {
                    connections.stop();
                }
                Some(self.close_by_ns)
            }
        }
    }
}

impl Peer {
    fn new(now_ns: u64, ordinal: u32) -> Self {
        Self {
            protocol: Protocol::Connecting,
            since_ns: now_ns,
            ordinal,
            failure: None,
            next_number: 0,
            answer_number: 0,
            answer_bytes: 0,
            answer_is_wrong: false,
            answer_is_surplus: false,
            stamps: stamps::Reader::default(),
            in_flight: VecDeque::new(),
            looked_ns: 0,
            waiting_bytes: 0,
            backlog: VecDeque::new(),
        }
    }

    #[cold]
    fn take_stamps(&mut self, layout: Layout, piece: &[u8]) {
        self.stamps.take(layout, self.answer_bytes, piece);
    }

    /// In the turn that began at `turn_ns`.
    #[inline]
    fn room(&mut self, io: &Io<'_>, turn_ns: u64) -> Room {
        let queued_bytes = io.queued_bytes();
        if self.looked_ns != turn_ns {
            (self.looked_ns, self.waiting_bytes) = (turn_ns, queued_bytes);
        }
        if self.waiting_bytes > WAITING_BYTES_MAX {
            Room::NotRead
        } else if queued_bytes > QUEUED_BYTES_MAX {
            Room::Full
        } else {
            Room::Free
        }
    }

    /// The server broke the protocol: nothing more of it is looked at.
    #[cold]
    fn on_fault(&mut self, io: &mut Io<'_>, fault: Fault, now_ns: u64) {
        if let Some(connection) = self.protocol.connection() {
            // The Close frame stays unsent: the connection is dropped at once.
            let _ = connection.fail(fault, now_ns, Mask::from_bytes([0; 4]));
        }
        self.give_up(io, format!("protocol: {fault}"));
    }

    #[cold]
    fn give_up(&mut self, io: &mut Io<'_>, why: String) {
        self.failure.get_or_insert(why);
        io.abort();
    }
}

impl Handler for Client {
    type Conn = Peer;

    fn on_accept(&mut self) -> Peer {
        unreachable!("a generator has no listener")
    }

    fn on_secured(
        &mut self,
        connections: &mut Connections<Peer>,
        id: ConnId,
        secured: &Secured,
        took_ns: u64,
    ) {
        self.tally.on_secured(secured, took_ns);
        if let Some((conn, _)) = connections.get(id) {
            // Connecting took what is left.
            conn.since_ns += took_ns;
        }
    }

    fn on_open(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        self.on_connected(connections, id);
    }

    #[inline]
    fn on_bytes(&mut self, connections: &mut Connections<Peer>, id: ConnId, received: Received<'_>) {
        let now_ns = connections.received_ns();
        self.turn_worked = true;
        let Some((conn, mut io)) = connections.get(id) else { return };
        let mut memory = &mut received.memory[received.range];
        if matches!(conn.protocol, Protocol::Connecting | Protocol::Handshake { .. }) {
            if conn.failure.is_some() {
                // The rest of a refusal.
                return;
            }
            let head_bytes = self.on_response(id, conn, &mut io, memory, now_ns);
            memory = &mut memory[head_bytes..];
        }
        self.on_frames(conn, &mut io, memory, now_ns);
    }

    fn on_end(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        if let Some((_, mut io)) = connections.get(id) {
            io.close();
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let Some((conn, mut io)) = connections.get(id) else { return };
        match &mut conn.protocol {
            // What it waited for is told when it is gone.
            Protocol::Connecting => io.abort(),
            Protocol::Handshake { .. } => conn.give_up(&mut io, "handshake: timed out".to_owned()),
            open => {
                if open.connection().is_some_and(|connection| connection.is_closed()) {
                    io.abort();
                }
            }
        }
    }

    fn on_closed(&mut self, connections: &mut Connections<Peer>, mut conn: Peer, why: Closed) {
        if conn.protocol.connection().is_none() {
            self.tally.accounting.connections_failed += 1;
            let class = conn.failure.unwrap_or_else(|| match &why {
                Closed::Connect(_) | Closed::Tls(_) => describe(&why),
                Closed::ByUs if matches!(conn.protocol, Protocol::Connecting) => {
                    "connect: timed out".to_owned()
                }
                _ => format!("handshake: {}", describe(&why)),
            });
            self.tally.accounting.count_error(&class);
            return self.on_opened_or_failed();
        }
        if self.stage == Stage::Closing {
            // The server said goodbye during the run, and hung up only now, or never.
            if let Some(failure) = &conn.failure {
                self.tally.accounting.count_error(failure);
            }
            if connections.is_empty() {
                connections.stop();
            }
            return;
        }
        self.settle_pushes(&conn);
        self.tally.accounting.count_error(&conn.failure.unwrap_or_else(|| describe(&why)));
        self.unanswered -= conn.in_flight.len() as u64;
        if let Protocol::Varied(varied) = &conn.protocol {
            self.unanswered -= varied.unanswered();
        }
        for intended_ns in conn.backlog {
            self.tally.on_unsent(&self.window, intended_ns);
        }
        self.lost_some = true;
    }

    fn on_wake(&mut self, connections: &mut Connections<Peer>) {
        let Some(window) = self.task.orders.get() else { return };
        match self.stage {
            Stage::Opening | Stage::Ready => {
                self.window = window;
                self.start(connections);
            }
            Stage::Running | Stage::Draining => self.hand_over_slice(),
            Stage::Closing => {}
        }
        if self.stage == Stage::Running && self.task.orders.is_stopped() {
            self.window.end_at(connections.clock_ns());
            // Now: where no answers come, nothing else would bring another turn of a closed loop.
            self.send_due(connections, SENDS_AT_END_MAX);
            self.stop_sending(connections);
        }
    }

    fn on_turn(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        let now_ns = connections.now_ns();
        self.look_back(now_ns);
        if self.worst.end_turn(now_ns) {
            self.worst.look(connections.clock_ns(), &connections.counters());
        }
        let next_ns = self.advance(connections);
        self.last_turn_worked = std::mem::take(&mut self.turn_worked);
        let spins = self.task.spin && matches!(self.stage, Stage::Running | Stage::Draining);
        if spins { Some(0) } else { next_ns }
    }
}
