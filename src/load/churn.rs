//! `--scenario churn`: connections come and go, each with one message; on schedule, or as many at a time as there may be.
//!
//! A life is: connect, secure, upgrade, send a message and have its answer, then the closing handshake, then the server's end of the TCP
//! connection: it closes first (RFC 6455, 7.1.1), so the port that is not free again for a minute (`TIME_WAIT`) is on its side. A life
//! that is due while as many as there may be are under way waits for its turn, and its response time counts from when it was due.
//!
//! Invariant: in the books a life is a message: due and begun is sent, never begun is unsent, whole is answered, and whatever ended before
//! it was whole is outstanding, with an error of its class.

use std::collections::VecDeque;

use super::client::{CLOSE_NS, describe, fragment};
use super::sources::Sources;
use super::tally::{Slice, Tally, Window};
use super::task::{Harvest, Report, Task};
use crate::cpu;
use crate::engine::{Closed, ConnId, Connections, Handler, Io, Received};
use crate::limits;
use crate::measure::histogram;
use crate::measure::particulars::{self, Particulars};
use crate::measure::result::Wire;
use crate::tls::Secured;
use crate::ws::connection::{Connection, Event};
use crate::ws::frame::{Role, close_code};
use crate::ws::handshake::ClientHandshake;
use crate::ws::mask::Mask;

/// Lives that a turn may begin before the engine has its own.
const BEGUN_PER_TURN_MAX: usize = 64;
/// Lives that fell due in the window's last turn and are begun after its end.
const BEGUN_AT_END_MAX: usize = 1 << 10;

/// Places that an engine needs beyond those of `connections` lives at a time: some of those that are over may not be free yet.
pub(super) fn slack(connections: usize) -> u32 {
    connections as u32 + 16
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One life is tried before any is counted.
    Trying,
    Ready,
    Running,
    Draining,
}

/// The [`Handler`], one a thread.
pub(super) struct Churn {
    task: Task,
    tally: Tally,
    seen: particulars::Churn,
    sizes_seen: Option<particulars::SizesSent>,
    sources: Sources,
    stage: Stage,
    window: Window,
    /// Lives under way.
    lives: usize,
    /// When those that wait for their turn were due.
    waiting: VecDeque<u64>,
    next_number: u64,
    message: Vec<u8>,
    /// Turns that found nothing to do in the window, while spinning.
    idle_ns: u64,
    last_turn_ns: u64,
    worked: bool,
}

enum Step {
    Connecting,
    Upgrading(Box<ClientHandshake>),
    /// The message is out, or its answer has come and our Close frame is.
    Open(Box<Connection>),
}

/// One connection.
pub(super) struct Life {
    step: Step,
    number: u64,
    /// Which address it comes from.
    source: u32,
    intended_ns: u64,
    begun_ns: u64,
    /// When what it waits for began.
    since_ns: u64,
    /// When it is given up.
    until_ns: u64,
    payload_bytes: usize,
    answer_bytes: usize,
    is_wrong: bool,
    /// It is the one that is tried first.
    is_trial: bool,
    /// Our Close frame is out.
    is_closing: bool,
    /// The server's Close frame has come.
    has_said_goodbye: bool,
    failure: Option<String>,
}

impl Churn {
    pub(super) fn new(mut task: Task) -> Self {
        let never =
            Window { start_ns: u64::MAX, measure_ns: u64::MAX, end_ns: u64::MAX, drained_ns: u64::MAX };
        let varies = task.variety.as_ref().is_some_and(|variety| variety.parts[0].sizes.fixed().is_none());
        Self {
            tally: Tally::new(task.spans.take()),
            seen: particulars::Churn::default(),
            sizes_seen: varies.then(Default::default),
            sources: Sources::new(task.thread),
            stage: Stage::Trying,
            window: never,
            lives: 0,
            waiting: VecDeque::new(),
            next_number: 0,
            message: Vec::new(),
            idle_ns: 0,
            last_turn_ns: 0,
            worked: false,
            task,
        }
    }

    /// What it leaves when it has ended.
    pub(super) fn into_harvest(self) -> Harvest {
        let particulars =
            Particulars { churn: Some(self.seen), sizes: self.sizes_seen, ..Particulars::default() };
        Harvest {
            tally: self.tally,
            exemplars: Vec::new(),
            idle_ns: self.idle_ns,
            is_unstamped: false,
            deflate: None,
            wire: Wire::default(),
            subprotocol: None,
            particulars,
        }
    }

    fn tell(&self, report: Report) {
        (self.task.report)(report);
    }

    fn random_key(&mut self) -> Mask {
        Mask::from_bytes(self.task.random.u32(..).to_ne_bytes())
    }

    // ---- when lives begin ----

    /// Begins what is due, `count_max` lives at most; says when the next is.
    fn begin_due(&mut self, connections: &mut Connections<Life>, count_max: usize) -> Option<u64> {
        for _ in 0..count_max {
            let intended_ns = self.window.start_ns + self.task.schedule.as_ref()?.next_ns();
            if intended_ns >= self.window.end_ns {
                return Some(self.window.end_ns);
            }
            let now_ns = connections.clock_ns();
            if intended_ns > now_ns {
                return Some(intended_ns);
            }
            self.task.schedule.as_mut()?.advance();
            self.tally.on_due(&self.window, intended_ns, now_ns);
            if self.lives < self.task.connections {
                self.begin(connections, intended_ns, now_ns);
            } else {
                self.waiting.push_back(intended_ns);
            }
        }
        Some(0)
    }

    fn begin(&mut self, connections: &mut Connections<Life>, intended_ns: u64, now_ns: u64) {
        self.tally.on_sent(&self.window, intended_ns);
        let number = self.next_number;
        self.next_number += 1;
        let payload_bytes = match &self.task.variety {
            Some(variety) => variety.parts[0].sizes.of(variety.seed, self.task.thread as u64, number),
            None => self.task.payloads.payload_bytes(),
        };
        if let Some(sizes) = self.sizes_seen.as_mut().filter(|_| self.window.measures(intended_ns)) {
            sizes.add(payload_bytes as u64);
        }
        let life = Life {
            step: Step::Connecting,
            number,
            source: 0,
            intended_ns,
            begun_ns: now_ns,
            since_ns: now_ns,
            until_ns: now_ns + self.task.connect_timeout_ns,
            payload_bytes,
            answer_bytes: 0,
            is_wrong: false,
            is_trial: self.stage == Stage::Trying,
            is_closing: false,
            has_said_goodbye: false,
            failure: None,
        };
        self.connect(connections, life);
        self.lives += 1;
        self.seen.at_once_max = self.seen.at_once_max.max(self.lives as u64);
        self.worked = true;
    }

    fn connect(&mut self, connections: &mut Connections<Life>, mut life: Life) {
        let (route, source) = self.sources.for_passing(self.task.endpoint.address);
        life.source = source;
        let until_ns = life.until_ns;
        let id = connections.connect_over(route, life);
        if let Some((_, mut io)) = connections.get(id) {
            io.wake_by(until_ns);
        }
    }

    /// A life is over: the next may begin.
    fn begin_next(&mut self, connections: &mut Connections<Life>) {
        let now_ns = connections.clock_ns();
        if self.stage != Stage::Running || now_ns >= self.window.end_ns {
            return;
        }
        if self.task.schedule.is_none() {
            self.begin(connections, now_ns, now_ns);
        } else if let Some(intended_ns) = self.waiting.pop_front() {
            self.begin(connections, intended_ns, now_ns);
        }
    }

    /// No life is begun from here on; those that should have been are counted.
    fn stop_beginning(&mut self) {
        self.stage = Stage::Draining;
        let (window, tally) = (&self.window, &mut self.tally);
        for intended_ns in self.waiting.drain(..) {
            tally.on_unsent(window, intended_ns);
        }
        let Some(schedule) = &mut self.task.schedule else { return };
        for end_ns in [window.measure_ns, window.end_ns] {
            schedule.pass_over(end_ns.saturating_sub(window.start_ns), |arrival_ns, count| {
                tally.on_many_unsent(window, window.start_ns + arrival_ns, count);
            });
        }
    }

    // ---- a life ----

    fn on_response(&mut self, life: &mut Life, io: &mut Io<'_>, bytes: &[u8], now_ns: u64) -> usize {
        let Step::Upgrading(handshake) = &mut life.step else { return 0 };
        match handshake.on_bytes(bytes) {
            Ok(None) => bytes.len(),
            Ok(Some(head_bytes)) => {
                if self.window.measures(life.intended_ns) {
                    self.tally.on_upgraded(now_ns.saturating_sub(life.since_ns));
                } else {
                    self.tally.on_opened_untimed();
                }
                let connection = Connection::new(Role::Client, limits::MESSAGE_BYTES, now_ns);
                life.step = Step::Open(Box::new(connection));
                self.send(life, io);
                head_bytes
            }
            Err(error) => {
                life.give_up(io, format!("handshake: {error}"));
                bytes.len()
            }
        }
    }

    fn send(&mut self, life: &mut Life, io: &mut Io<'_>) {
        self.message.clear();
        self.task.payloads.compose_sized(life.number, life.payload_bytes, &mut self.message);
        let (random, text) = (&mut self.task.random, self.task.payloads.text());
        let key = || Mask::from_bytes(random.u32(..).to_ne_bytes());
        io.write(|out| fragment(&self.message, text, 1, key, out));
        life.wait(io, self.task.connect_timeout_ns);
    }

    fn on_frames(&mut self, life: &mut Life, io: &mut Io<'_>, memory: &mut [u8], now_ns: u64) {
        let mut at = 0;
        loop {
            let Step::Open(connection) = &mut life.step else { return };
            let event = match connection.next(&memory[at..]) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(fault) => return life.give_up(io, format!("protocol: {fault}")),
            };
            let start = at;
            at += event.consumed();
            match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    if let Err(fault) = connection.accept(&data, memory, from, from) {
                        return life.give_up(io, format!("protocol: {fault}"));
                    }
                    self.on_piece(life, data.text, &memory[from..at]);
                    if data.ends_message() {
                        self.on_answer(life, io, now_ns);
                    }
                }
                Event::Ping { .. } => {
                    let key = self.random_key();
                    let Step::Open(connection) = &life.step else { return };
                    if let Some(frame) = connection.pong(key) {
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                    }
                }
                Event::Pong { .. } => {}
                Event::Close { code, .. } => self.on_close(life, io, code),
            }
        }
    }

    fn on_piece(&mut self, life: &mut Life, text: bool, piece: &[u8]) {
        if life.is_closing {
            // Its one message was answered.
            return self.on_wrong(life, "unasked answer");
        }
        let payload_bytes = life.payload_bytes;
        let size_of = |_| payload_bytes;
        let checked = self.task.payloads.check_sized(&size_of, life.number, life.answer_bytes, text, piece);
        life.answer_bytes += piece.len();
        if checked.is_err() {
            self.on_wrong(life, "wrong payload");
        }
    }

    /// One error a life, however much of its answer is wrong.
    fn on_wrong(&mut self, life: &mut Life, class: &str) {
        if !std::mem::replace(&mut life.is_wrong, true) {
            self.tally.accounting.count_error(class);
        }
    }

    /// The message is answered: it was all there was to say.
    fn on_answer(&mut self, life: &mut Life, io: &mut Io<'_>, now_ns: u64) {
        if life.is_closing {
            return;
        }
        if life.answer_bytes != life.payload_bytes {
            self.on_wrong(life, "wrong payload");
        }
        if self.window.measures(life.intended_ns) {
            histogram::record(&mut self.seen.first_message, now_ns.saturating_sub(life.since_ns));
        }
        let key = self.random_key();
        let Step::Open(connection) = &mut life.step else { return };
        if let Some(frame) = connection.close(close_code::NORMAL, "", now_ns, key) {
            io.write(|out| out.extend_from_slice(frame.as_bytes()));
        }
        life.is_closing = true;
        life.wait(io, self.task.connect_timeout_ns);
    }

    fn on_close(&mut self, life: &mut Life, io: &mut Io<'_>, code: Option<u16>) {
        let key = self.random_key();
        let Step::Open(connection) = &mut life.step else { return };
        life.has_said_goodbye = true;
        if let Some(frame) = connection.reply_to_close(key) {
            // It went before its message was answered.
            let code = code.map_or("no code".to_owned(), |code| code.to_string());
            life.failure = Some(format!("closed by server ({code})"));
            io.write(|out| out.extend_from_slice(frame.as_bytes()));
            life.wait(io, CLOSE_NS);
        }
    }

    /// What became of a life that is over.
    fn on_over(&mut self, life: Life, why: &Closed, now_ns: u64) {
        let is_whole = life.is_closing && life.has_said_goodbye && life.failure.is_none();
        if is_whole {
            if self.window.measures(life.intended_ns) {
                histogram::record(&mut self.seen.close, now_ns.saturating_sub(life.since_ns));
            }
            self.tally.on_answered(&self.window, life.intended_ns, life.begun_ns, now_ns);
            return;
        }
        let class = life.failure.unwrap_or_else(|| match (&life.step, why) {
            (_, Closed::Connect(_) | Closed::Tls(_)) => describe(why),
            (Step::Connecting, Closed::ByUs) => "connect: timed out".to_owned(),
            (Step::Connecting | Step::Upgrading(_), _) => format!("handshake: {}", describe(why)),
            (Step::Open(_), _) if life.is_closing => format!("close: {}", describe(why)),
            (Step::Open(_), _) => describe(why),
        });
        self.tally.accounting.connections_failed += u64::from(!matches!(life.step, Step::Open(_)));
        self.tally.accounting.count_error(&class);
    }

    /// Does what the stage asks for; when it has to be called again.
    fn advance(&mut self, connections: &mut Connections<Life>) -> Option<u64> {
        match self.stage {
            Stage::Trying if self.next_number == 0 => {
                let now_ns = connections.clock_ns();
                self.begin(connections, now_ns, now_ns);
                None
            }
            Stage::Trying | Stage::Ready => None,
            Stage::Running if connections.now_ns() >= self.window.end_ns => {
                self.begin_due(connections, BEGUN_AT_END_MAX);
                self.stop_beginning();
                Some(0)
            }
            Stage::Running => {
                let next_ns = self.begin_due(connections, BEGUN_PER_TURN_MAX);
                Some(next_ns.unwrap_or(self.window.end_ns))
            }
            Stage::Draining if !self.task.orders.is_dismissed() => None,
            Stage::Draining => {
                if self.lives == 0 || connections.now_ns() >= self.window.drained_ns {
                    connections.stop();
                }
                Some(self.window.drained_ns)
            }
        }
    }
}

impl Life {
    /// What it waits for begins now, and may take so long.
    fn wait(&mut self, io: &mut Io<'_>, time_ns: u64) {
        self.since_ns = io.clock_ns();
        self.until_ns = self.since_ns + time_ns;
        io.wake_by(self.until_ns);
    }

    fn give_up(&mut self, io: &mut Io<'_>, why: String) {
        self.failure.get_or_insert(why);
        io.abort();
    }
}

impl Handler for Churn {
    type Conn = Life;

    fn on_accept(&mut self) -> Life {
        unreachable!("a generator has no listener")
    }

    fn on_secured(
        &mut self,
        connections: &mut Connections<Life>,
        id: ConnId,
        secured: &Secured,
        took_ns: u64,
    ) {
        let Some((life, _)) = connections.get(id) else { return };
        if self.window.measures(life.intended_ns) {
            self.tally.on_secured(secured, took_ns);
        } else {
            self.tally.on_secured_untimed(secured);
        }
        // Connecting took what is left.
        life.since_ns += took_ns;
    }

    fn on_open(&mut self, connections: &mut Connections<Life>, id: ConnId) {
        let now_ns = connections.now_ns();
        let Some((life, mut io)) = connections.get(id) else { return };
        if self.window.measures(life.intended_ns) {
            self.tally.on_connected(now_ns.saturating_sub(life.since_ns));
        }
        let endpoint = &self.task.endpoint;
        let nonce = self.task.random.u128(..).to_ne_bytes();
        let head_bytes = limits::HANDSHAKE_HEAD_BYTES;
        match ClientHandshake::new(&endpoint.host, endpoint.port, &endpoint.target, nonce, head_bytes) {
            Ok(handshake) => {
                let handshake = if endpoint.tls { handshake.over_tls() } else { handshake };
                io.send(handshake.request());
                life.step = Step::Upgrading(Box::new(handshake));
                life.since_ns = now_ns;
            }
            Err(error) => life.give_up(&mut io, format!("handshake: {error}")),
        }
    }

    fn on_bytes(&mut self, connections: &mut Connections<Life>, id: ConnId, received: Received<'_>) {
        let now_ns = connections.received_ns();
        self.worked = true;
        let Some((life, mut io)) = connections.get(id) else { return };
        let mut memory = &mut received.memory[received.range];
        if !matches!(life.step, Step::Open(_)) {
            if life.failure.is_some() {
                // The rest of a refusal.
                return;
            }
            let head_bytes = self.on_response(life, &mut io, memory, now_ns);
            memory = &mut memory[head_bytes..];
        }
        self.on_frames(life, &mut io, memory, now_ns);
    }

    fn on_end(&mut self, connections: &mut Connections<Life>, id: ConnId) {
        if let Some((_, mut io)) = connections.get(id) {
            io.close();
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<Life>, id: ConnId) {
        let now_ns = connections.now_ns();
        let Some((life, mut io)) = connections.get(id) else { return };
        if now_ns < life.until_ns {
            return io.wake_by(life.until_ns);
        }
        match life.step {
            // What it waited for is told when it is gone.
            Step::Connecting => io.abort(),
            Step::Upgrading(_) => life.give_up(&mut io, "handshake: timed out".to_owned()),
            Step::Open(_) if life.has_said_goodbye => {
                self.seen.closed_by_us += u64::from(self.window.measures(life.intended_ns));
                io.close();
            }
            Step::Open(_) if life.is_closing => life.give_up(&mut io, "close: timed out".to_owned()),
            Step::Open(_) => life.give_up(&mut io, "answer: timed out".to_owned()),
        }
    }

    fn on_closed(&mut self, connections: &mut Connections<Life>, life: Life, why: Closed) {
        let (address, is_trial) = (self.task.endpoint.address, life.is_trial);
        if matches!(life.step, Step::Connecting) && self.sources.can_retry(address, life.source, &why) {
            return self.connect(connections, life);
        }
        self.lives -= 1;
        self.worked = true;
        let opened_before = self.tally.accounting.connections_opened;
        self.on_over(life, &why, connections.now_ns());
        if is_trial && self.stage == Stage::Trying {
            self.stage = Stage::Ready;
            let open = usize::from(opened_before > 0);
            let (thread, thread_id) = (self.task.thread, cpu::current_thread_id());
            return self.tell(Report::Ready { thread, open, thread_id });
        }
        self.begin_next(connections);
    }

    fn on_wake(&mut self, connections: &mut Connections<Life>) {
        let Some(window) = self.task.orders.get() else { return };
        match self.stage {
            Stage::Trying | Stage::Ready => {
                self.window = window;
                self.stage = Stage::Running;
                if self.task.schedule.is_none() {
                    for _ in 0..self.task.connections {
                        let now_ns = connections.clock_ns();
                        self.begin(connections, now_ns, now_ns);
                    }
                }
            }
            Stage::Running | Stage::Draining => {
                let spare = self.task.spare.lock().ok().and_then(|mut spare| spare.pop());
                let full = self.tally.hand_over(spare.unwrap_or_else(Slice::new));
                self.tell(Report::Slice(self.task.thread, full));
            }
        }
        if self.stage == Stage::Running && self.task.orders.is_stopped() {
            self.window.end_at(connections.clock_ns());
            self.begin_due(connections, BEGUN_AT_END_MAX);
            self.stop_beginning();
        }
    }

    fn on_turn(&mut self, connections: &mut Connections<Life>) -> Option<u64> {
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
