//! Connections beside those that are measured: a crowd that stays silent and answers heartbeats, or readers that are slow.
//!
//! They live on threads of their own, one or more for each generator thread and on its CPU, so that the measured ones are handled as if
//! there were no others. A silent one costs its place in the engine and a pointer: what parses frames is made when bytes come, and dropped when no
//! frame is left half read.
//!
//! Invariant: every one asked for is counted as opened or failed before anything is measured, and what becomes of it is told.
//! Deliberately absent: checking what slow readers read. They are there to be a burden; the measured ones check.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;

use super::client::{CLOSE_NS, describe, fragment};
use super::crew::{Event, run};
use super::fan;
use super::scenario::Play;
use super::sources::Sources;
use super::tally::Tally;
use super::{Endpoint, LoadError, Plan};
use crate::cpu;
use crate::engine::{Closed, Config, ConnId, Connections, Handler, Io, Received, Route, Waker};
use crate::limits;
use crate::measure::particulars;
use crate::scenario::echo::Payloads;
use crate::tls::Secured;
use crate::ws::connection::{Connection, Event as WsEvent};
use crate::ws::frame::{ControlFrame, Role, close_code};
use crate::ws::handshake::ClientHandshake;
use crate::ws::mask::Mask;

/// Connections that one thread opens at a time.
const OPENING_MAX: usize = 64;
/// What the kernel may keep for a slow reader; it takes this for more, but for nothing like what it gives by itself.
const SLOW_RECEIVE_BYTES: usize = 4 << 10;
/// How often a slow reader sends more, as far as its messages are taken.
const PUSH_INTERVAL_NS: u64 = 20_000_000;
/// It sends until so much waits on its own side: the server no longer reads.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// A server that takes all and keeps it shall not take the whole machine's memory.
const PUSHED_BYTES_MAX: u64 = 64 << 20;
/// A larger crowd is not taken leave of, but dropped: it would take longer than anybody waits.
const GOODBYES_MAX: usize = 10_000;
/// How often one that dribbles reads what has come: some kilobytes, since there is no room for more.
const DRIBBLE_INTERVAL_NS: u64 = 100_000_000;

/// What those beside do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing, but for answering pings.
    Silent,
    /// They send, and never read.
    Stop,
    /// They send, and read a little now and then.
    Dribble,
}

impl Manner {
    /// What flags and results call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Stop => "stop",
            Self::Dribble => "dribble",
        }
    }
}

/// How many, and what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrowdPlan {
    /// How many, on all threads together.
    pub connections: u32,
    /// What they do.
    pub manner: Manner,
    /// On how many threads they live: one for each that measures, and more where their descriptors need more tables.
    pub threads: usize,
}

/// What the threads tell all the time.
#[derive(Debug, Default)]
struct Counts {
    held: AtomicU64,
    heartbeats: AtomicU64,
    sent_bytes: AtomicU64,
    read_bytes: AtomicU64,
    ends: AtomicBool,
}

/// The crowd, as the one that keeps the time sees it.
pub(super) struct Crowd {
    plan: CrowdPlan,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Result<Member, LoadError>>>,
    wakers: Vec<Waker>,
    server: Option<u32>,
    server_is_ours: bool,
    seen: particulars::Crowd,
}

/// What a crowd leaves.
pub(super) struct Left {
    pub(super) crowd: particulars::Crowd,
    /// Its connections in the books, how long they took to open, and what they were secured with.
    pub(super) tallies: Vec<Tally>,
}

impl Crowd {
    /// Opens the crowd of `plan`, if it has one, and waits until it is there. `server` is the process that serves it, if that is known,
    /// and whether it is this one.
    pub(super) fn gather(
        plan: &Plan,
        endpoint: &Endpoint,
        server: (Option<u32>, bool),
        events_tx: &Sender<Event>,
        events: &Receiver<Event>,
    ) -> Result<Option<Self>, LoadError> {
        let Some(crowd_plan) = plan.scene.crowd else { return Ok(None) };
        let (server, server_is_ours) = server;
        let mut crowd = Self {
            plan: crowd_plan,
            counts: Arc::default(),
            threads: Vec::new(),
            wakers: Vec::new(),
            server,
            server_is_ours,
            seen: particulars::Crowd::default(),
        };
        crowd.note_memory(false);
        for index in 0..crowd_plan.threads {
            crowd.start(plan, endpoint, index, events_tx)?;
        }
        let mut ready_count = 0;
        while ready_count < crowd.threads.len() {
            match events.recv() {
                Ok(Event::Crowd) => ready_count += 1,
                Ok(Event::Interrupt) | Err(_) => {
                    crowd.disperse()?;
                    return Err(LoadError::InterruptedEarly);
                }
                // An engine that refused: joining it tells why.
                Ok(Event::Ended) => break,
                Ok(Event::Thread(_)) => {}
            }
        }
        if ready_count < crowd.threads.len() {
            crowd.disperse()?;
            return Err(LoadError::Stuck);
        }
        Ok(Some(crowd))
    }

    fn start(
        &mut self,
        plan: &Plan,
        endpoint: &Endpoint,
        index: usize,
        events: &Sender<Event>,
    ) -> Result<(), LoadError> {
        let thread_count = self.plan.threads;
        let all = self.plan.connections as usize;
        let share = all / thread_count + usize::from(index < all % thread_count);
        let waker = Waker::new().map_err(LoadError::Thread)?;
        self.wakers.push(waker.clone());
        let mut random = fastrand::Rng::with_seed(!plan.seed.wrapping_add(index as u64));
        let member = Member {
            manner: self.plan.manner,
            endpoint: endpoint.clone(),
            connect_timeout_ns: plan.connect_timeout.as_nanos() as u64,
            payloads: Payloads::new(plan.payload_bytes, plan.text, &mut random),
            random,
            targets: match plan.scene.play {
                Play::Fan { rooms, .. } => fan::targets(rooms, &endpoint.target),
                _ => vec![endpoint.target.clone()],
            }
            .into(),
            // What a subscriber sends would be published.
            pushed_bytes_max: if matches!(plan.scene.play, Play::Fan { .. }) { 0 } else { PUSHED_BYTES_MAX },
            unopened: share,
            opening: 0,
            connect_gap_ns: plan.connect_rate_per_s.map_or(0.0, |rate| 1e9 * thread_count as f64 / rate),
            next_connect_ns: 0.0,
            sources: Sources::new(index),
            counts: Arc::clone(&self.counts),
            tally: Tally::new(None),
            events: events.clone(),
            message: Vec::new(),
            close_by_ns: None,
        };
        let overhead_bytes = plan.tls.as_ref().map_or(0, |_| limits::TLS_OVERHEAD_BYTES);
        let config = Config {
            connections_max: (share as u32).max(1),
            recv_buffer_bytes: limits::RECV_BUFFER_BYTES + overhead_bytes,
            outbox_bytes: usize::MAX,
            uring: plan.engine.uring.clone(),
            ..Config::default()
        };
        let (cpu, engine, tls, ended) =
            (plan.cpus[index % plan.cpus.len()], plan.engine.clone(), plan.tls.clone(), events.clone());
        let timeout_ns = plan.connect_timeout.as_nanos() as u64;
        let body = move || {
            cpu::pin_current_thread(cpu).map_err(LoadError::Thread)?;
            let result = run(&engine, config, &waker, tls, timeout_ns, member);
            if result.is_err() {
                let _ = ended.send(Event::Ended);
            }
            result
        };
        let thread = std::thread::Builder::new().name(format!("crowd-{index}")).spawn(body);
        self.threads.push(thread.map_err(LoadError::Thread)?);
        Ok(())
    }

    /// The measured window has ended: what is there now is what was there with it.
    pub(super) fn note_end(&mut self) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.seen.held = of(&self.counts.held);
        self.seen.heartbeats = of(&self.counts.heartbeats);
        self.seen.sent_bytes = of(&self.counts.sent_bytes);
        self.seen.read_bytes = of(&self.counts.read_bytes);
        self.note_memory(true);
    }

    fn note_memory(&mut self, at_end: bool) {
        if let Some(bytes) = self.server.and_then(resident_bytes) {
            let memory = self.seen.server_memory.get_or_insert_default();
            memory.of = if self.server_is_ours { "server and generator" } else { "server" }.to_owned();
            *if at_end { &mut memory.after_bytes } else { &mut memory.before_bytes } = bytes;
        }
        if let Some(used) = kernel_use() {
            let memory = self.seen.kernel_memory.get_or_insert_default();
            *if at_end { &mut memory.after } else { &mut memory.before } = used;
        }
    }

    /// Closes all that is left of it.
    pub(super) fn disperse(mut self) -> Result<Left, LoadError> {
        self.counts.ends.store(true, Ordering::Relaxed);
        self.wakers.iter().for_each(Waker::wake);
        let mut tallies = Vec::new();
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(member) => tallies.push(member?.tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        self.seen.manner = self.plan.manner.name().to_owned();
        self.seen.connections = self.plan.connections.into();
        self.seen.opened = tallies.iter().map(|tally| tally.accounting.connections_opened).sum();
        self.seen.failed = tallies.iter().map(|tally| tally.accounting.connections_failed).sum();
        Ok(Left { crowd: self.seen, tallies })
    }
}

/// `VmRSS` of a process, in bytes.
fn resident_bytes(process_id: u32) -> Option<u64> {
    kib_of(&std::fs::read_to_string(format!("/proc/{process_id}/status")).ok()?, "VmRSS:")
}

fn kernel_use() -> Option<particulars::KernelUse> {
    let slab_bytes = kib_of(&std::fs::read_to_string("/proc/meminfo").ok()?, "Slab:")?;
    let sockets = std::fs::read_to_string("/proc/net/sockstat").ok()?;
    let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = tcp.split_ascii_whitespace().skip_while(|&word| word != "mem");
    let pages: u64 = words.nth(1)?.parse().ok()?;
    Some(particulars::KernelUse { slab_bytes, tcp_buffer_bytes: pages * rustix::param::page_size() as u64 })
}

/// The line of that name in a file of `/proc`, in bytes.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? << 10)
}

/// The [`Handler`], one a thread.
struct Member {
    manner: Manner,
    endpoint: Endpoint,
    connect_timeout_ns: u64,
    payloads: Payloads,
    random: fastrand::Rng,
    /// Path and query: each connection takes the next.
    targets: VecDeque<String>,
    /// A connection sends no more than this.
    pushed_bytes_max: u64,
    /// Connections yet to begin, and begun but not open.
    unopened: usize,
    opening: usize,
    connect_gap_ns: f64,
    next_connect_ns: f64,
    sources: Sources,
    counts: Arc<Counts>,
    tally: Tally,
    events: Sender<Event>,
    message: Vec<u8>,
    /// Once it disperses.
    close_by_ns: Option<u64>,
}

/// One connection: as small as can be while it is silent.
struct One {
    step: Step,
    source: u32,
}

enum Step {
    Connecting {
        since_ns: u64,
    },
    Upgrading(Box<(ClientHandshake, u64)>),
    /// Given up before it was open, and why.
    Refused(Box<str>),
    /// Silent; of one that is amid a frame, what it has read of it.
    Silent(Option<Box<Connection>>),
    Slow(Box<Slow>),
}

struct Slow {
    connection: Connection,
    pushed_bytes: u64,
    read_at_ns: u64,
}

impl Member {
    fn random_key(&mut self) -> Mask {
        Mask::from_bytes(self.random.u32(..).to_ne_bytes())
    }

    fn open_more(&mut self, connections: &mut Connections<One>) -> Option<u64> {
        let now_ns = connections.clock_ns();
        if self.next_connect_ns == 0.0 {
            self.next_connect_ns = now_ns as f64;
            self.tell_if_open();
        }
        while self.unopened > 0 && self.opening < OPENING_MAX {
            if self.connect_gap_ns > 0.0 && self.next_connect_ns > now_ns as f64 {
                return Some(self.next_connect_ns as u64);
            }
            self.next_connect_ns += self.connect_gap_ns;
            self.unopened -= 1;
            self.opening += 1;
            self.connect(connections, now_ns);
        }
        None
    }

    fn connect(&mut self, connections: &mut Connections<One>, now_ns: u64) {
        let (route, source) = self.sources.for_staying(self.endpoint.address);
        let receive_bytes = (self.manner != Manner::Silent).then_some(SLOW_RECEIVE_BYTES);
        let one = One { step: Step::Connecting { since_ns: now_ns }, source };
        let id = connections.connect_over(Route { receive_bytes, ..route }, one);
        if let Some((_, mut io)) = connections.get(id) {
            io.wake_by(now_ns + self.connect_timeout_ns);
        }
    }

    fn on_opened_or_failed(&mut self) {
        self.opening -= 1;
        self.tell_if_open();
    }

    fn tell_if_open(&self) {
        if self.opening == 0 && self.unopened == 0 {
            // Nobody listens only where the run was given up.
            let _ = self.events.send(Event::Crowd);
        }
    }

    fn on_response(&mut self, one: &mut One, io: &mut Io<'_>, bytes: &[u8], now_ns: u64) -> usize {
        let Step::Upgrading(upgrading) = &mut one.step else { return bytes.len() };
        let (handshake, since_ns) = &mut **upgrading;
        match handshake.on_bytes(bytes) {
            Ok(None) => bytes.len(),
            Ok(Some(head_bytes)) => {
                self.tally.on_upgraded(now_ns.saturating_sub(*since_ns));
                self.counts.held.fetch_add(1, Ordering::Relaxed);
                one.step = match self.manner {
                    Manner::Silent => Step::Silent(None),
                    Manner::Stop | Manner::Dribble => {
                        io.hold_reading(true);
                        io.wake_by(now_ns);
                        let connection = Connection::new(Role::Client, limits::MESSAGE_BYTES, now_ns);
                        Step::Slow(Box::new(Slow { connection, pushed_bytes: 0, read_at_ns: now_ns }))
                    }
                };
                self.on_opened_or_failed();
                head_bytes
            }
            Err(error) => {
                one.refuse(io, &format!("handshake: {error}"));
                bytes.len()
            }
        }
    }

    /// What came to a silent connection: pings, if anything.
    fn on_frames(&mut self, one: &mut One, io: &mut Io<'_>, memory: &mut [u8], now_ns: u64) {
        let Step::Silent(kept) = &mut one.step else { return };
        let mut kept = kept.take();
        let mut fresh = None;
        let connection = match &mut kept {
            Some(connection) => &mut **connection,
            None => fresh.insert(Connection::new(Role::Client, limits::MESSAGE_BYTES, now_ns)),
        };
        let is_over = self.read(connection, io, memory, now_ns).is_err();
        let Step::Silent(place) = &mut one.step else { return };
        if is_over || connection.in_frame() {
            *place = kept.or_else(|| fresh.map(Box::new));
        }
    }

    /// Reads frames, and answers those that ask for it.
    ///
    /// # Errors
    /// The connection is being closed.
    fn read(
        &mut self,
        connection: &mut Connection,
        io: &mut Io<'_>,
        memory: &mut [u8],
        now_ns: u64,
    ) -> Result<(), ()> {
        let mut at = 0;
        loop {
            let event = match connection.next(&memory[at..]) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(fault) => {
                    self.tally.accounting.count_error(&format!("beside: protocol: {fault}"));
                    io.abort();
                    return Err(());
                }
            };
            at += event.consumed();
            match event {
                WsEvent::Data(data) if self.manner == Manner::Silent => {
                    if data.begins_message() {
                        self.tally.accounting.count_error("beside: unasked message");
                        io.abort();
                        return Err(());
                    }
                }
                WsEvent::Data(_) | WsEvent::Pong { .. } => {}
                WsEvent::Ping { .. } => {
                    let key = self.random_key();
                    if let Some(frame) = connection.pong(key) {
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                        self.counts.heartbeats.fetch_add(1, Ordering::Relaxed);
                    }
                }
                WsEvent::Close { .. } => {
                    let key = self.random_key();
                    // When all are taken leave of, ours went first.
                    if let Some(frame) = connection.reply_to_close(key).filter(|_| self.close_by_ns.is_none())
                    {
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                    }
                    // The server closes first (RFC 6455, 7.1.1), unless it forgets to.
                    io.wake_by(now_ns + CLOSE_NS);
                    return Err(());
                }
            }
        }
    }

    /// A slow reader's time has come: it sends more, and reads if it dribbles.
    fn push(&mut self, one: &mut One, io: &mut Io<'_>, now_ns: u64) {
        let Step::Slow(slow) = &mut one.step else { return };
        let mut pushed_bytes = 0;
        while io.queued_bytes() < WAITING_BYTES_MAX
            && slow.pushed_bytes + pushed_bytes < self.pushed_bytes_max
        {
            self.message.clear();
            self.payloads.compose(slow.pushed_bytes, &mut self.message);
            let (random, text) = (&mut self.random, self.payloads.text());
            let key = || Mask::from_bytes(random.u32(..).to_ne_bytes());
            io.write(|out| fragment(&self.message, text, 1, key, out));
            // An empty message is no burden but for its header.
            pushed_bytes += self.message.len().max(8) as u64;
        }
        slow.pushed_bytes += pushed_bytes;
        self.counts.sent_bytes.fetch_add(pushed_bytes, Ordering::Relaxed);
        if self.manner == Manner::Dribble && now_ns >= slow.read_at_ns {
            slow.read_at_ns = now_ns + DRIBBLE_INTERVAL_NS;
            io.hold_reading(false);
        }
        let may_send = slow.pushed_bytes < self.pushed_bytes_max;
        if may_send || self.manner == Manner::Dribble {
            io.wake_by(if may_send { now_ns + PUSH_INTERVAL_NS } else { slow.read_at_ns });
        }
    }

    fn begin_close(&mut self, connections: &mut Connections<One>) {
        let now_ns = connections.clock_ns();
        self.close_by_ns = Some(now_ns + CLOSE_NS);
        self.unopened = 0;
        if connections.len() > GOODBYES_MAX {
            return connections.stop();
        }
        for id in connections.ids() {
            let key = self.random_key();
            let Some((one, mut io)) = connections.get(id) else { continue };
            match one.step {
                Step::Silent(_) => {
                    let frame = ControlFrame::close(close_code::NORMAL, "", Some(key));
                    io.write(|out| out.extend_from_slice(frame.as_bytes()));
                }
                _ => io.abort(),
            }
        }
    }
}

impl One {
    fn refuse(&mut self, io: &mut Io<'_>, why: &str) {
        self.step = Step::Refused(why.into());
        io.abort();
    }
}

impl Handler for Member {
    type Conn = One;

    fn on_accept(&mut self) -> One {
        unreachable!("a generator has no listener")
    }

    fn on_secured(
        &mut self,
        connections: &mut Connections<One>,
        id: ConnId,
        secured: &Secured,
        took_ns: u64,
    ) {
        self.tally.on_secured(secured, took_ns);
        if let Some((One { step: Step::Connecting { since_ns }, .. }, _)) = connections.get(id) {
            // Connecting took what is left.
            *since_ns += took_ns;
        }
    }

    fn on_open(&mut self, connections: &mut Connections<One>, id: ConnId) {
        let now_ns = connections.now_ns();
        let Some((one, mut io)) = connections.get(id) else { return };
        if let Step::Connecting { since_ns } = one.step {
            self.tally.on_connected(now_ns.saturating_sub(since_ns));
        }
        self.targets.rotate_left(1);
        let Endpoint { host, port, tls, .. } = &self.endpoint;
        let target = &self.targets[0];
        let nonce = self.random.u128(..).to_ne_bytes();
        match ClientHandshake::new(host, *port, target, nonce, limits::HANDSHAKE_HEAD_BYTES) {
            Ok(handshake) => {
                let handshake = if *tls { handshake.over_tls() } else { handshake };
                io.send(handshake.request());
                one.step = Step::Upgrading(Box::new((handshake, now_ns)));
            }
            Err(error) => one.refuse(&mut io, &format!("handshake: {error}")),
        }
    }

    fn on_bytes(&mut self, connections: &mut Connections<One>, id: ConnId, received: Received<'_>) {
        let now_ns = connections.received_ns();
        let Some((one, mut io)) = connections.get(id) else { return };
        let mut memory = &mut received.memory[received.range];
        if matches!(one.step, Step::Upgrading(_) | Step::Refused(_)) {
            let head_bytes = self.on_response(one, &mut io, memory, now_ns);
            memory = &mut memory[head_bytes..];
        }
        if memory.is_empty() {
            return;
        }
        self.counts.read_bytes.fetch_add(memory.len() as u64, Ordering::Relaxed);
        match &mut one.step {
            Step::Slow(slow) => {
                io.hold_reading(true);
                // What it closes with is seen where the connection ends.
                let _ = self.read(&mut slow.connection, &mut io, memory, now_ns);
            }
            _ => self.on_frames(one, &mut io, memory, now_ns),
        }
    }

    fn on_end(&mut self, connections: &mut Connections<One>, id: ConnId) {
        if let Some((_, mut io)) = connections.get(id) {
            io.close();
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<One>, id: ConnId) {
        let now_ns = connections.now_ns();
        let Some((one, mut io)) = connections.get(id) else { return };
        match &mut one.step {
            // What it waited for is told when it is gone.
            Step::Connecting { .. } => io.abort(),
            Step::Upgrading(_) => one.refuse(&mut io, "handshake: timed out"),
            Step::Silent(Some(connection)) if connection.is_closed() => io.abort(),
            Step::Slow(slow) if slow.connection.is_closed() => io.abort(),
            Step::Slow(_) => self.push(one, &mut io, now_ns),
            Step::Silent(_) | Step::Refused(_) => {}
        }
    }

    fn on_closed(&mut self, connections: &mut Connections<One>, one: One, why: Closed) {
        if self.close_by_ns.is_some() {
            if connections.is_empty() {
                connections.stop();
            }
            return;
        }
        let class = match &one.step {
            Step::Connecting { .. } if self.sources.can_retry(self.endpoint.address, one.source, &why) => {
                let now_ns = connections.clock_ns();
                return self.connect(connections, now_ns);
            }
            Step::Silent(_) | Step::Slow(_) => {
                self.counts.held.fetch_sub(1, Ordering::Relaxed);
                if self.manner == Manner::Silent {
                    self.tally.accounting.count_error(&format!("beside: {}", describe(&why)));
                }
                return;
            }
            Step::Refused(class) => class.to_string(),
            Step::Connecting { .. } if matches!(why, Closed::ByUs) => "connect: timed out".to_owned(),
            Step::Connecting { .. } => describe(&why),
            Step::Upgrading(_) => format!("handshake: {}", describe(&why)),
        };
        self.tally.accounting.connections_failed += 1;
        self.tally.accounting.count_error(&format!("beside: {class}"));
        self.on_opened_or_failed();
    }

    fn on_wake(&mut self, connections: &mut Connections<One>) {
        if self.counts.ends.load(Ordering::Relaxed) && self.close_by_ns.is_none() {
            self.begin_close(connections);
        }
    }

    fn on_turn(&mut self, connections: &mut Connections<One>) -> Option<u64> {
        let Some(close_by_ns) = self.close_by_ns else { return self.open_more(connections) };
        if connections.is_empty() || connections.now_ns() >= close_by_ns {
            connections.stop();
        }
        Some(close_by_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_connection_keeps_next_to_nothing() {
        assert!(size_of::<One>() <= 32, "{} bytes", size_of::<One>());
    }

    #[test]
    fn memory_is_read_where_the_kernel_tells_it() {
        assert_eq!(kib_of("MemTotal: 9 kB\nSlab:     12 kB\n", "Slab:"), Some(12 << 10));
        assert_eq!(kib_of("MemTotal: 9 kB\n", "Slab:"), None);
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        assert!(kernel_use().is_some_and(|used| used.slab_bytes > 0));
    }
}
