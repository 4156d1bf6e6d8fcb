//! `--scenario broadcast` and `rooms`: some connections publish, and every one gets every message of its room, its own as well.
//!
//! | who | what |
//! |---|---|
//! | [`Fan`] | one thread's connections: opened, told when to begin and to end |
//! | [`publishing`] | what leaves, and when |
//! | [`hearing`] | what comes: checked byte for byte, put in order, timed |
//! | [`order`] | which of one publisher's messages one subscriber has heard |
//! | [`board`] | what is true of a publication, for whoever gets it |
//! | [`log`] | when it came to each |
//!
//! Invariant: in the books a message is a delivery: a publication that is sent is as many messages sent as its room has subscribers when
//! the run begins, and each copy that comes is one answered, once. What is passed over, repeated, late or changed is an error of its class.
//! Deliberately absent: slow subscribers, which are connections beside (see [`super::crowd`]).

mod board;
pub(super) mod flags;
mod hearing;
mod log;
mod order;
mod part;
mod publishing;
#[cfg(test)]
mod tests;

use super::client::{CLOSE_NS, describe};
use super::sources::Sources;
use super::tally::{Slice, Tally, Window};
use super::task::{Harvest, Report, Task};
use crate::cpu;
use crate::engine::{Closed, ConnId, Connections, Handler, Io, Received};
use crate::limits;
use crate::measure::particulars::Particulars;
use crate::measure::result::Wire;
use crate::tls::Secured;
use crate::ws::connection::Connection;
use crate::ws::frame::close_code;
use crate::ws::handshake::ClientHandshake;
use crate::ws::mask::Mask;
pub(super) use board::{Board, PUBLISHERS_MAX};
pub(super) use log::FanLog;
use order::Line;
pub(super) use part::{Part, targets};
use publishing::{Publisher, SENDS_AT_END_MAX, SENDS_PER_TURN_MAX};

/// Connections that one thread opens at a time.
const OPENING_MAX: usize = 32;
/// How often what waits is looked at, and whether everything has come.
const LOOK_INTERVAL_NS: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Ready,
    Running,
    Draining,
    Closing,
}

/// The [`Handler`], one a thread.
pub(super) struct Fan {
    task: Task,
    part: Part,
    pub(super) tally: Tally,
    sources: Sources,
    stage: Stage,
    window: Window,
    /// Connections yet to begin, and begun but not open.
    unopened: usize,
    opening: usize,
    next_connect_ns: f64,
    /// Open connections, by room.
    open: Vec<u64>,
    /// This thread's publishers, in the order they send in, and whose turn it was.
    publishers: Vec<Publisher>,
    turn: usize,
    /// Some of them have publications that wait.
    has_backlogs: bool,
    /// It is among [`Board::all_published`]'s, and has not said that it is through.
    may_publish: bool,
    /// The order to begin was seen before its wake-up came.
    began_early: bool,
    /// Numbers that were passed over, but for those that came late; such; and those that came again.
    gaps: u64,
    out_of_order: u64,
    repeated: u64,
    /// What open subscribers have heard, or will not hear any more.
    heard: u64,
    message: Vec<u8>,
    close_by_ns: u64,
    /// Turns that found nothing to do in the window, while spinning.
    idle_ns: u64,
    last_turn_ns: u64,
    worked: bool,
}

enum Step {
    Connecting,
    Upgrading(Box<ClientHandshake>),
    Open(Box<Connection>),
}

/// One connection.
pub(super) struct Subscriber {
    step: Step,
    since_ns: u64,
    failure: Option<String>,
    /// Which address it comes from.
    source: u32,
    room: u32,
    /// Which one it is of those in its room, by when they joined; then by tenths.
    rank: u64,
    tenth: usize,
    /// Its place among this thread's publishers.
    publishes: Option<u32>,
    /// What it has heard, by publisher of its room.
    lines: Box<[Line]>,
    /// The message under way, as far as it came in pieces.
    partial: Vec<u8>,
}

impl Fan {
    pub(super) fn new(mut task: Task) -> Self {
        let part = task.fan.take().expect("a part in it");
        let never =
            Window { start_ns: u64::MAX, measure_ns: u64::MAX, end_ns: u64::MAX, drained_ns: u64::MAX };
        let numbers = (0..task.connections).map(|index| part.ordinal(task.thread, index));
        let publishers: Vec<_> =
            numbers.filter(|&ordinal| ordinal < part.board.publishers()).map(Publisher::new).collect();
        Self {
            tally: Tally::new(task.spans.take()),
            sources: Sources::new(task.thread),
            stage: Stage::Opening,
            window: never,
            unopened: task.connections,
            opening: 0,
            next_connect_ns: 0.0,
            open: vec![0; part.board.rooms()],
            turn: 0,
            has_backlogs: false,
            may_publish: !publishers.is_empty(),
            publishers,
            began_early: false,
            gaps: 0,
            out_of_order: 0,
            repeated: 0,
            heard: 0,
            message: Vec::new(),
            close_by_ns: u64::MAX,
            idle_ns: 0,
            last_turn_ns: 0,
            worked: false,
            part,
            task,
        }
    }

    /// What it leaves when it has ended.
    pub(super) fn into_harvest(mut self) -> Harvest {
        if let Some(log) = &mut self.tally.fan {
            (log.gaps, log.out_of_order, log.repeated) = (self.gaps, self.out_of_order, self.repeated);
        }
        Harvest {
            tally: self.tally,
            exemplars: Vec::new(),
            idle_ns: self.idle_ns,
            is_unstamped: false,
            deflate: None,
            wire: Wire::default(),
            subprotocol: None,
            particulars: Particulars::default(),
        }
    }

    fn tell(&self, report: Report) {
        (self.task.report)(report);
    }

    fn random_key(&mut self) -> Mask {
        Mask::from_bytes(self.task.random.u32(..).to_ne_bytes())
    }

    fn is_open_loop(&self) -> bool {
        self.task.pipeline == 0
    }

    // ---- opening ----

    fn open_more(&mut self, connections: &mut Connections<Subscriber>) -> Option<u64> {
        let now_ns = connections.clock_ns();
        if self.next_connect_ns == 0.0 {
            self.next_connect_ns = now_ns as f64;
        }
        while self.unopened > 0 && self.opening < OPENING_MAX {
            if self.task.connect_gap_ns > 0.0 && self.next_connect_ns > now_ns as f64 {
                return Some(self.next_connect_ns as u64);
            }
            self.next_connect_ns += self.task.connect_gap_ns;
            let ordinal = self.part.ordinal(self.task.thread, self.task.connections - self.unopened);
            self.unopened -= 1;
            self.opening += 1;
            self.connect(connections, self.part.subscriber(ordinal, &self.publishers));
        }
        None
    }

    fn connect(&mut self, connections: &mut Connections<Subscriber>, mut conn: Subscriber) {
        let (route, source) = self.sources.for_staying(self.task.endpoint.address);
        (conn.source, conn.since_ns) = (source, connections.clock_ns());
        let until_ns = conn.since_ns + self.task.connect_timeout_ns;
        let id = connections.connect_over(route, conn);
        if let Some((_, mut io)) = connections.get(id) {
            io.wake_by(until_ns);
        }
    }

    fn on_opened_or_failed(&mut self) {
        self.opening -= 1;
        if self.opening == 0 && self.unopened == 0 && self.stage == Stage::Opening {
            self.stage = Stage::Ready;
            let open = self.open.iter().sum::<u64>() as usize;
            self.tell(Report::Ready { thread: self.task.thread, open, thread_id: cpu::current_thread_id() });
        }
    }

    fn on_response(
        &mut self,
        id: ConnId,
        conn: &mut Subscriber,
        io: &mut Io<'_>,
        bytes: &[u8],
        now_ns: u64,
    ) -> usize {
        let Step::Upgrading(handshake) = &mut conn.step else { return bytes.len() };
        match handshake.on_bytes(bytes) {
            Ok(None) => bytes.len(),
            Ok(Some(head_bytes)) => {
                self.tally.on_upgraded(now_ns.saturating_sub(conn.since_ns));
                let role = crate::ws::frame::Role::Client;
                conn.step = Step::Open(Box::new(Connection::new(role, limits::MESSAGE_BYTES, now_ns)));
                conn.rank = self.part.board.join(conn.room as usize);
                self.open[conn.room as usize] += 1;
                if let Some(place) = conn.publishes {
                    self.publishers[place as usize].id = Some(id);
                }
                self.on_opened_or_failed();
                head_bytes
            }
            Err(error) => {
                conn.give_up(io, format!("handshake: {error}"));
                bytes.len()
            }
        }
    }

    // ---- the beginning ----

    fn start(&mut self, connections: &mut Connections<Subscriber>) {
        self.stage = Stage::Running;
        let rooms = self.part.board.subscribers();
        for id in connections.ids() {
            let Some((conn, _)) = connections.get(id) else { continue };
            // One that was lost before may have had a rank as well.
            let rank = conn.rank.min(rooms[conn.room as usize].saturating_sub(1));
            conn.tenth = (rank * log::TENTHS / rooms[conn.room as usize].max(1)) as usize;
        }
        let here = self.open.iter().max().copied().unwrap_or(0) as usize;
        self.tally.fan = Some(Box::new(FanLog::new(self.part.room_for_log(here), rooms)));
        if self.is_open_loop() {
            return;
        }
        for place in 0..self.publishers.len() {
            for _ in 0..self.task.pipeline {
                self.publish_next(connections, place);
            }
        }
    }

    /// Another thread may have begun, and published: there has to be a place for what it sends.
    #[cold]
    fn begin_early(&mut self, connections: &mut Connections<Subscriber>) {
        if let Some(window) = self.task.orders.get() {
            (self.window, self.began_early) = (window, true);
            self.start(connections);
        }
    }

    // ---- the end ----

    /// Whether all that was published has come to every subscriber that is left, or was passed over.
    fn has_heard_all(&self) -> bool {
        let Some(published) = self.part.board.all_published() else { return false };
        self.heard == self.open.iter().zip(published).map(|(open, published)| open * published).sum::<u64>()
    }

    fn begin_close(&mut self, connections: &mut Connections<Subscriber>) {
        self.stage = Stage::Closing;
        let now_ns = connections.clock_ns();
        self.close_by_ns = now_ns + CLOSE_NS;
        for id in connections.ids() {
            let key = self.random_key();
            let Some((conn, mut io)) = connections.get(id) else { continue };
            let Step::Open(connection) = &mut conn.step else { continue };
            if let Some(frame) = connection.close(close_code::NORMAL, "", now_ns, key) {
                io.write(|out| out.extend_from_slice(frame.as_bytes()));
            }
        }
    }

    /// Does what the stage asks for; when it has to be called again.
    fn advance(&mut self, connections: &mut Connections<Subscriber>) -> Option<u64> {
        match self.stage {
            Stage::Opening => self.open_more(connections),
            Stage::Ready => None,
            Stage::Running if connections.now_ns() >= self.window.end_ns => {
                self.publish_due(connections, SENDS_AT_END_MAX);
                self.stop_publishing();
                Some(0)
            }
            Stage::Running => {
                let next_ns = self.publish_due(connections, SENDS_PER_TURN_MAX).unwrap_or(self.window.end_ns);
                if !self.has_backlogs {
                    return Some(next_ns);
                }
                self.publish_backlogs(connections);
                Some(next_ns.min(connections.clock_ns() + LOOK_INTERVAL_NS))
            }
            Stage::Draining if !self.task.orders.is_dismissed() => None,
            Stage::Draining if self.has_heard_all() || connections.now_ns() >= self.window.drained_ns => {
                self.begin_close(connections);
                Some(self.close_by_ns)
            }
            Stage::Draining => Some(self.window.drained_ns.min(connections.now_ns() + LOOK_INTERVAL_NS)),
            Stage::Closing => {
                if connections.is_empty() || connections.now_ns() >= self.close_by_ns {
                    connections.stop();
                }
                Some(self.close_by_ns)
            }
        }
    }

    /// An open connection is gone before it was to be.
    fn on_lost(&mut self, conn: &Subscriber, why: &Closed) {
        let class = conn.failure.clone().unwrap_or_else(|| describe(why));
        self.tally.accounting.count_error(&class);
        self.part.board.leave(conn.room as usize);
        self.open[conn.room as usize] -= 1;
        self.heard -= conn.lines.iter().map(Line::next).sum::<u64>();
        if let Some(place) = conn.publishes {
            let fan_out = self.fan_out(place as usize);
            let publisher = &mut self.publishers[place as usize];
            publisher.id = None;
            for due_ns in std::mem::take(&mut publisher.backlog) {
                self.tally.on_many_unsent(&self.window, due_ns, fan_out);
            }
        }
        let is_last = self.open.iter().all(|&open| open == 0);
        if is_last && !matches!(self.stage, Stage::Opening | Stage::Closing) {
            self.tell(Report::Deserted);
        }
    }
}

impl Subscriber {
    #[cold]
    fn give_up(&mut self, io: &mut Io<'_>, why: String) {
        self.failure.get_or_insert(why);
        io.abort();
    }
}

impl Handler for Fan {
    type Conn = Subscriber;

    fn on_accept(&mut self) -> Subscriber {
        unreachable!("a generator has no listener")
    }

    fn on_secured(
        &mut self,
        connections: &mut Connections<Subscriber>,
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

    fn on_open(&mut self, connections: &mut Connections<Subscriber>, id: ConnId) {
        let now_ns = connections.now_ns();
        let Some((conn, mut io)) = connections.get(id) else { return };
        self.tally.on_connected(now_ns.saturating_sub(conn.since_ns));
        let endpoint = &self.task.endpoint;
        let target = &self.part.targets[conn.room as usize];
        let nonce = self.task.random.u128(..).to_ne_bytes();
        match ClientHandshake::new(&endpoint.host, endpoint.port, target, nonce, limits::HANDSHAKE_HEAD_BYTES)
        {
            Ok(handshake) => {
                let handshake = if endpoint.tls { handshake.over_tls() } else { handshake };
                io.send(handshake.request());
                conn.step = Step::Upgrading(Box::new(handshake));
                conn.since_ns = now_ns;
            }
            Err(error) => conn.give_up(&mut io, format!("handshake: {error}")),
        }
    }

    #[inline]
    fn on_bytes(&mut self, connections: &mut Connections<Subscriber>, id: ConnId, received: Received<'_>) {
        let now_ns = connections.received_ns();
        self.worked = true;
        if self.stage == Stage::Ready {
            self.begin_early(connections);
        }
        let Some((conn, mut io)) = connections.get(id) else { return };
        let mut memory = &mut received.memory[received.range];
        if !matches!(conn.step, Step::Open(_)) {
            if conn.failure.is_some() {
                // The rest of a refusal.
                return;
            }
            let head_bytes = self.on_response(id, conn, &mut io, memory, now_ns);
            memory = &mut memory[head_bytes..];
        }
        self.on_frames(conn, &mut io, memory, now_ns);
    }

    fn on_end(&mut self, connections: &mut Connections<Subscriber>, id: ConnId) {
        if let Some((_, mut io)) = connections.get(id) {
            io.close();
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<Subscriber>, id: ConnId) {
        let Some((conn, mut io)) = connections.get(id) else { return };
        match &conn.step {
            // What it waited for is told when it is gone.
            Step::Connecting => io.abort(),
            Step::Upgrading(_) => conn.give_up(&mut io, "handshake: timed out".to_owned()),
            Step::Open(connection) if connection.is_closed() => io.abort(),
            Step::Open(_) => {}
        }
    }

    fn on_closed(&mut self, connections: &mut Connections<Subscriber>, conn: Subscriber, why: Closed) {
        if !matches!(conn.step, Step::Open(_)) {
            let (address, is_connecting) =
                (self.task.endpoint.address, matches!(conn.step, Step::Connecting));
            if is_connecting && self.sources.can_retry(address, conn.source, &why) {
                return self.connect(connections, conn);
            }
            self.tally.accounting.connections_failed += 1;
            let class = conn.failure.unwrap_or_else(|| match &why {
                Closed::Connect(_) | Closed::Tls(_) => describe(&why),
                Closed::ByUs if is_connecting => "connect: timed out".to_owned(),
                _ => format!("handshake: {}", describe(&why)),
            });
            self.tally.accounting.count_error(&class);
            return self.on_opened_or_failed();
        }
        if self.stage != Stage::Closing {
            return self.on_lost(&conn, &why);
        }
        if let Some(failure) = &conn.failure {
            // The server said goodbye during the run, and hung up only now, or never.
            self.tally.accounting.count_error(failure);
        }
        if connections.is_empty() {
            connections.stop();
        }
    }

    fn on_wake(&mut self, connections: &mut Connections<Subscriber>) {
        let Some(window) = self.task.orders.get() else { return };
        match self.stage {
            Stage::Opening | Stage::Ready => {
                self.window = window;
                self.start(connections);
            }
            Stage::Running | Stage::Draining if std::mem::take(&mut self.began_early) => {}
            Stage::Running | Stage::Draining => {
                let spare = self.task.spare.lock().ok().and_then(|mut spare| spare.pop());
                let full = self.tally.hand_over(spare.unwrap_or_else(Slice::new));
                self.tell(Report::Slice(self.task.thread, full));
            }
            Stage::Closing => {}
        }
        if self.stage == Stage::Running && self.task.orders.is_stopped() {
            self.window.end_at(connections.clock_ns());
            self.publish_due(connections, SENDS_AT_END_MAX);
            self.stop_publishing();
        }
    }

    fn on_turn(&mut self, connections: &mut Connections<Subscriber>) -> Option<u64> {
        let now_ns = connections.now_ns();
        if self.task.spin && !std::mem::take(&mut self.worked) {
            let from_ns = self.last_turn_ns.max(self.window.measure_ns);
            self.idle_ns += now_ns.min(self.window.end_ns).saturating_sub(from_ns);
        }
        self.last_turn_ns = now_ns;
        let next_ns = self.advance(connections);
        let spins = self.task.spin && matches!(self.stage, Stage::Running | Stage::Draining);
        if spins { Some(0) } else { next_ns }
    }
}
