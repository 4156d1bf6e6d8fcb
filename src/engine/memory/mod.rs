//! A server and a client in one thread, in fake time and without a kernel, for tests and fuzzing.
//!
//! [`run_pair`] plays two handlers against each other over pipes in memory, with the connections, outboxes, timers
//! and faults that every engine has. All that a kernel and a network decide is drawn from one seed: how a stream is
//! cut, what is ready in a turn and in which order, how long anything takes, what goes wrong. Time stands still
//! while there is anything to do, and jumps to the next thing due when there is not, so an hour of heartbeats
//! takes no time and the same seed gives the same course.
//!
//! Invariants: no clock is read; a timer comes when it is due, and at most [`Plan::latency_ns_max`] later; of
//! what is ready, anything may come first, and nothing is left out for ever; receive buffers are overwritten as
//! soon as they are free.
//!
//! Not an engine to be chosen by name: it has no sockets. An address means no more to it than that the server's handler, where
//! it asks, is told the one that was connected to as if it were the client's.

mod net;

use std::collections::VecDeque;
use std::io;

use super::faults::SendFault;
use super::{Closed, Config, Connections, Counters, Handler, Intent, Segment, Slot};
use crate::limits::{ACCEPT_PAUSE_NS, HEADROOM_BYTES};
use net::{Arrived, NEVER_NS, Net, START_NS};

/// Turns without any time passing that mean that it never will.
const TURNS_AT_ONCE_MAX: u32 = 1_000_000;
/// What free receive buffers hold.
const POISON: u8 = 0xDB;

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Accepts connections.
    Server,
    /// Makes them.
    Client,
}

/// What stands between the ends, and for how long. Times are fake nanoseconds since the beginning.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All chance is drawn from it. The [`Config`]s' faults have seeds of their own.
    pub seed: u64,
    /// Bytes that a direction of a connection holds before its writer has to wait; at least 1.
    pub pipe_bytes: usize,
    /// Whatever is on its way takes up to so long, in nanoseconds.
    pub latency_ns_max: u64,
    /// In one of so many turns a connection is reset, in whatever state it is; 0: never.
    pub reset_one_in: u32,
    /// One of so many attempts to connect is refused; 0: none.
    pub refuse_one_in: u32,
    /// When it is over at the latest.
    pub until_ns: u64,
    /// Whose [`Handler::on_wake`] is called, and when.
    pub wakes: Vec<(End, u64)>,
    /// Whose loop stands still for a while, as if its process were stopped, again and again.
    pub stall: Option<Stall>,
}

/// See [`Plan::stall`].
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// Who stands still.
    pub end: End,
    /// From the beginning of one stall to that of the next, in nanoseconds; the first comes so long after the beginning.
    pub every_ns: u64,
    /// How long each lasts, in nanoseconds.
    pub length_ns: u64,
}

impl Stall {
    /// `at_ns`, or, if `end` stands still then, when it no longer does.
    fn put_off(&self, end: End, at_ns: u64) -> u64 {
        let since_ns = at_ns.saturating_sub(START_NS);
        let into_ns = since_ns % self.every_ns;
        let stands_still = end == self.end && since_ns >= self.every_ns && into_ns < self.length_ns;
        if stands_still { at_ns - into_ns + self.length_ns } else { at_ns }
    }
}

impl Plan {
    /// Pipes of 1 byte to 64 KiB and a latency up to 10 ms, drawn from `seed`; no resets, refusals or wakes; an
    /// hour at most.
    pub fn seeded(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let power = random.u32(0..=16);
        Self {
            seed,
            pipe_bytes: random.usize(1..=1 << power),
            latency_ns_max: random.u64(0..=10_000_000),
            reset_one_in: 0,
            refuse_one_in: 0,
            until_ns: 3_600_000_000_000,
            wakes: Vec::new(),
            stall: None,
        }
    }
}

/// Why a course ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both handlers called [`Connections::stop`].
    Stopped,
    /// Nothing can happen any more, though not both have stopped.
    Quiet,
    /// [`Plan::until_ns`] has come.
    OutOfTime,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// What the server's engine did.
    pub server: Counters,
    /// What the client's did.
    pub client: Counters,
    /// Why it is over.
    pub ended: Ended,
    /// Fake nanoseconds that passed.
    pub elapsed_ns: u64,
    /// Turns of both loops.
    pub turns: u64,
    /// Connections that were reset by chance.
    pub resets: u64,
    /// Connections that were refused by chance.
    pub refusals: u64,
}

/// Runs two handlers until both stop, nothing can happen any more, or the plan's time is over, and gives them back.
///
/// Every address that the client's handler connects to is the server. A handler that stops leaves its
/// connections as an ended process does: they are closed, and its `on_closed` is not called. Of a [`Config`] the
/// listener and the queue sizes are ignored.
///
/// # Panics
/// If the server's handler connects, or if a handler keeps asking for turns without letting time pass.
pub fn run_pair<S: Handler, C: Handler>(
    plan: &Plan,
    server: (Config, S),
    client: (Config, C),
) -> (S, C, Course) {
    assert!(plan.pipe_bytes > 0, "a pipe has to hold something");
    let mut net = Net::new(plan);
    let (mut server, mut client) =
        (Side::new(End::Server, server, plan), Side::new(End::Client, client, plan));
    server.end_turn(&mut net);
    client.end_turn(&mut net);
    let (mut turns, mut turns_at_once) = (0, 0);
    let ended = loop {
        if server.stopped && client.stopped {
            break Ended::Stopped;
        }
        let put_off = |end, at_ns: u64| match &plan.stall {
            Some(stall) if at_ns != NEVER_NS => stall.put_off(end, at_ns.max(net.now_ns)),
            _ => at_ns,
        };
        let server_ns = put_off(End::Server, server.next_ns(&net));
        let client_ns = put_off(End::Client, client.next_ns(&net));
        let next_ns = server_ns.min(client_ns);
        if next_ns == NEVER_NS {
            break Ended::Quiet;
        }
        if next_ns > net.now_ns {
            net.wait_until(next_ns);
            turns_at_once = 0;
        }
        if net.now_ns - START_NS > plan.until_ns {
            break Ended::OutOfTime;
        }
        (turns, turns_at_once) = (turns + 1, turns_at_once + 1);
        assert!(turns_at_once < TURNS_AT_ONCE_MAX, "seed {}: a handler lets no time pass", plan.seed);
        net.disturb();
        let now_ns = net.now_ns;
        if server_ns <= now_ns && (client_ns > now_ns || net.random.bool()) {
            server.turn(&mut net);
        } else {
            client.turn(&mut net);
        }
    };
    let course = Course {
        server: server.connections.counters,
        client: client.connections.counters,
        ended,
        elapsed_ns: net.now_ns - START_NS,
        turns,
        resets: net.resets,
        refusals: net.refusals,
    };
    (server.handler, client.handler, course)
}

/// Receive buffers: taken for a receive, and free again when nothing refers to them.
struct Buffers {
    memory: Vec<Vec<u8>>,
    uses: Vec<u16>,
    free: Vec<u32>,
}

impl Buffers {
    fn new(config: &Config) -> Self {
        let count = u32::from(config.recv_buffers);
        let memory = vec![vec![POISON; HEADROOM_BYTES + config.recv_buffer_bytes]; count as usize];
        Self { memory, uses: vec![0; count as usize], free: (0..count).collect() }
    }

    /// `uses` segments refer to a buffer that was taken.
    fn hold(&mut self, buffer: u32, uses: u16) {
        self.uses[buffer as usize] = uses;
        if uses == 0 {
            self.memory[buffer as usize].fill(POISON);
            self.free.push(buffer);
        }
    }

    fn release(&mut self, buffer: u32) {
        self.hold(buffer, self.uses[buffer as usize] - 1);
    }

    fn free_segment(&mut self, pool: &mut super::BufferPool, segment: Segment) {
        match segment {
            Segment::InPlace { buffer, .. } => self.release(buffer),
            Segment::Owned { bytes, .. } => pool.put(bytes),
            Segment::Shared(_) => {}
        }
    }

    /// The first `count_max` bytes of `segments`.
    fn gather<'s>(&self, segments: impl Iterator<Item = &'s Segment>, count_max: usize) -> Vec<u8> {
        let mut all = Vec::with_capacity(count_max);
        for segment in segments {
            let bytes = match segment {
                Segment::InPlace { buffer, start, end } => {
                    &self.memory[*buffer as usize][*start as usize..*end as usize]
                }
                Segment::Owned { bytes, start } => &bytes[*start..],
                Segment::Shared(bytes) => bytes,
            };
            all.extend_from_slice(&bytes[..bytes.len().min(count_max - all.len())]);
        }
        all
    }
}

/// What an end knows of a connection beside its line.
struct Wire {
    /// `None` where the attempt will be refused.
    link: Option<usize>,
    /// When the attempt to connect is over; `None` once it is.
    connecting_until_ns: Option<u64>,
    /// Not receiving, because the peer does not read.
    paused: bool,
    /// The peer has sent its FIN.
    ended: bool,
    shut_down: bool,
    /// The peer kept output waiting, and not all of it has been sent yet.
    behind: bool,
    /// Being closed, and why.
    closing: Option<Closed>,
}

impl Wire {
    fn new(link: Option<usize>, connecting_until_ns: Option<u64>) -> Self {
        Self {
            link,
            connecting_until_ns,
            paused: false,
            ended: false,
            shut_down: false,
            behind: false,
            closing: None,
        }
    }

    /// The link of a wire that carries bytes now.
    fn open_link(&self) -> Option<usize> {
        self.link.filter(|_| self.closing.is_none() && self.connecting_until_ns.is_none())
    }
}

/// Something that a turn finds ready.
enum Ready {
    Wake,
    Accept,
    Connected(u32),
    Receive(u32),
    Send(u32),
    Close(u32),
}

/// One end's loop.
struct Side<H: Handler> {
    /// Where its pipes lead, see [`Net`].
    end: usize,
    accepts: bool,
    config: Config,
    handler: H,
    connections: Connections<H::Conn>,
    /// By slot.
    wires: Vec<Option<Wire>>,
    buffers: Buffers,
    wakes: VecDeque<u64>,
    turn_by_ns: u64,
    /// When the listener is looked at again.
    accept_again_ns: u64,
    /// Slots given up in this turn, free in the next.
    freed: Vec<u32>,
    more_to_do: bool,
    stopped: bool,
}

impl<H: Handler> Side<H> {
    fn new(end: End, (config, handler): (Config, H), plan: &Plan) -> Self {
        let mut connections = Connections::with_capacity(0);
        (connections.common.now_ns, connections.common.simulated) = (START_NS, true);
        let mut wakes: Vec<u64> =
            plan.wakes.iter().filter(|wake| wake.0 == end).map(|wake| START_NS + wake.1).collect();
        wakes.sort_unstable();
        Self {
            end: end as usize,
            accepts: end == End::Server,
            buffers: Buffers::new(&config),
            config,
            handler,
            connections,
            wires: Vec::new(),
            wakes: wakes.into(),
            turn_by_ns: NEVER_NS,
            accept_again_ns: 0,
            freed: Vec::new(),
            more_to_do: false,
            stopped: false,
        }
    }

    /// When it has something to do.
    fn next_ns(&self, net: &Net) -> u64 {
        if self.stopped {
            return NEVER_NS;
        }
        let common = &self.connections.common;
        if self.more_to_do || !common.dirty.is_empty() || !self.connections.connecting.is_empty() {
            return net.now_ns;
        }
        let timer_ns = common.timers.next_ns().unwrap_or(NEVER_NS);
        let wake_ns = self.wakes.front().copied().unwrap_or(NEVER_NS);
        let due_ns = timer_ns.min(wake_ns).min(self.turn_by_ns).min(self.acceptable_ns(net));
        (0..self.wires.len()).map(|slot| self.ready(slot, net).0).fold(due_ns, u64::min)
    }

    fn acceptable_ns(&self, net: &Net) -> u64 {
        if self.accepts { net.acceptable_ns().max(self.accept_again_ns) } else { NEVER_NS }
    }

    /// When something will be ready on a slot, and what.
    fn ready(&self, slot: usize, net: &Net) -> (u64, Option<Ready>) {
        let Some(wire) = &self.wires[slot] else { return (NEVER_NS, None) };
        let number = slot as u32;
        if wire.closing.is_some() {
            return (0, Some(Ready::Close(number)));
        }
        if let Some(until_ns) = wire.connecting_until_ns {
            return (until_ns, Some(Ready::Connected(number)));
        }
        let Some(link) = wire.link else { return (NEVER_NS, None) };
        let receives = !wire.paused && !wire.ended;
        let receive_ns = if receives { net.readable_ns(link, self.end) } else { NEVER_NS };
        let send_ns = if wire.behind { net.writable_ns(link, self.end) } else { NEVER_NS };
        if receive_ns < send_ns {
            (receive_ns, Some(Ready::Receive(number)))
        } else {
            (send_ns, Some(Ready::Send(number)))
        }
    }

    // ---- a turn ----

    fn turn(&mut self, net: &mut Net) {
        self.connections.counters.enters += 1;
        self.connections.common.now_ns = net.now_ns;
        self.more_to_do = false;
        for slot in self.freed.drain(..) {
            if slot < self.config.connections_max {
                self.connections.free.push(slot);
            } else {
                // Never usable, so the last to be taken.
                self.connections.free.insert(0, slot);
            }
        }
        for ready in self.some_of_what_is_ready(net) {
            self.connections.counters.completions += 1;
            match ready {
                Ready::Wake => {
                    self.wakes.pop_front();
                    self.handler.on_wake(&mut self.connections);
                }
                Ready::Accept => self.accept(net),
                Ready::Connected(slot) => self.on_connected(slot),
                Ready::Receive(slot) => self.receive(net, slot),
                Ready::Send(slot) => self.send(net, slot),
                Ready::Close(slot) => self.finish_close(net, slot),
            }
        }
        self.connections.run_timers(&mut self.handler);
        self.end_turn(net);
    }

    /// In any order, and not always all: the rest has come a moment too late for this turn.
    fn some_of_what_is_ready(&self, net: &mut Net) -> Vec<Ready> {
        let now_ns = net.now_ns;
        let mut ready = Vec::new();
        if self.wakes.front().is_some_and(|&at_ns| at_ns <= now_ns) {
            ready.push(Ready::Wake);
        }
        if self.acceptable_ns(net) <= now_ns {
            ready.push(Ready::Accept);
        }
        for slot in 0..self.wires.len() {
            let (at_ns, what) = self.ready(slot, net);
            ready.extend(what.filter(|_| at_ns <= now_ns));
        }
        net.random.shuffle(&mut ready);
        if ready.len() > 1 && net.random.bool() {
            ready.truncate(net.random.usize(1..=ready.len()));
        }
        ready
    }

    /// What a loop does before it waits.
    fn end_turn(&mut self, net: &mut Net) {
        if self.stopped {
            return;
        }
        let turn_by_ns = self.handler.on_turn(&mut self.connections);
        self.turn_by_ns = turn_by_ns.unwrap_or(NEVER_NS);
        let closed_before = self.connections.counters.closed;
        self.open_connections(net);
        self.flush_dirty(net);
        self.more_to_do |= self.connections.counters.closed != closed_before;
        if self.accepts && net.listening && !self.connections.common.accepting {
            net.stop_listening(self.end);
        }
        if self.connections.common.stopping {
            self.stop(net);
        }
    }

    fn stop(&mut self, net: &mut Net) {
        self.stopped = true;
        if self.accepts {
            net.stop_listening(self.end);
        }
        for link in self.wires.iter().flatten().filter_map(|wire| wire.link) {
            net.close(link, self.end);
        }
    }

    fn wire(&mut self, slot: u32) -> &mut Wire {
        self.wires[slot as usize].as_mut().expect("a slot in use has a wire")
    }

    fn set_wire(&mut self, slot: u32, wire: Wire) {
        if self.wires.len() <= slot as usize {
            self.wires.resize_with(slot as usize + 1, || None);
        }
        self.wires[slot as usize] = Some(wire);
    }

    // ---- opening ----

    fn open_connections(&mut self, net: &mut Net) {
        for (slot, route) in std::mem::take(&mut self.connections.connecting) {
            assert!(!self.accepts, "the server's handler connects");
            if slot >= self.config.connections_max {
                let mut wire = Wire::new(None, None);
                wire.closing = Some(Closed::Connect(io::Error::from_raw_os_error(libc::ENFILE)));
                self.set_wire(slot, wire);
                self.finish_close(net, slot);
            } else {
                let (until_ns, link) = net.connect(route.to.ip());
                self.set_wire(slot, Wire::new(link, Some(until_ns)));
            }
        }
    }

    fn on_connected(&mut self, slot: u32) {
        let wire = self.wire(slot);
        wire.connecting_until_ns = None;
        if wire.link.is_none() {
            let error = io::Error::from_raw_os_error(libc::ECONNREFUSED);
            return self.begin_close(slot, Closed::Connect(error));
        }
        let id = self.connections.id_at(slot);
        self.handler.on_open(&mut self.connections, id);
        self.connections.mark_dirty(slot);
    }

    fn accept(&mut self, net: &mut Net) {
        let now_ns = net.now_ns;
        while !self.connections.common.stopping && self.acceptable_ns(net) <= now_ns {
            if let Some(error) = self.config.faults.accept() {
                self.connections.counters.accept_rearms += 1;
                if !matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EINTR)) {
                    self.refuse_accepts(now_ns);
                }
                return;
            }
            let Some(link) = net.accept() else { return };
            if self.connections.len() >= self.config.connections_max as usize {
                self.refuse_accepts(now_ns);
                return net.close(link, self.end);
            }
            let conn = self.handler.on_accept();
            let slot = self.connections.free.pop().unwrap_or(self.connections.slots.len() as u32);
            let id = self.connections.insert(slot, conn);
            self.set_wire(slot, Wire::new(Some(link), None));
            let address = self.config.peer_addresses.then(|| net.name(link));
            self.connections.introduce(&mut self.handler, id, address);
            self.handler.on_open(&mut self.connections, id);
        }
    }

    fn refuse_accepts(&mut self, now_ns: u64) {
        self.connections.counters.accept_refusals += 1;
        self.accept_again_ns = now_ns + ACCEPT_PAUSE_NS;
    }

    // ---- bytes ----

    fn receive(&mut self, net: &mut Net, slot: u32) {
        let Some(link) = self.wires[slot as usize].as_ref().and_then(Wire::open_link) else { return };
        if let Some(error) = self.config.faults.receive() {
            self.connections.counters.recv_rearms += 1;
            self.connections.counters.no_buffers += u64::from(error.raw_os_error() == Some(libc::ENOBUFS));
            return;
        }
        let Some(buffer) = self.buffers.free.pop() else {
            self.connections.counters.no_buffers += 1;
            return;
        };
        let mut memory = std::mem::take(&mut self.buffers.memory[buffer as usize]);
        let arrived = net.read(link, self.end, &mut memory[HEADROOM_BYTES..]);
        let id = self.connections.id_at(slot);
        let mut uses = 0;
        if let Arrived::Bytes(count) = arrived {
            uses = self.connections.deliver(&mut self.handler, id, buffer, &mut memory, count);
        }
        self.buffers.memory[buffer as usize] = memory;
        self.buffers.hold(buffer, uses);
        match arrived {
            Arrived::Bytes(_) => {}
            Arrived::Fin => {
                self.wire(slot).ended = true;
                self.handler.on_end(&mut self.connections, id);
            }
            Arrived::Reset => {
                let error = io::Error::from_raw_os_error(libc::ECONNRESET);
                self.begin_close(slot, Closed::Broken(error));
            }
        }
    }

    /// Sends what the pipe takes; the rest waits, out of the receive buffers, until it takes more.
    fn send(&mut self, net: &mut Net, slot: u32) {
        let Some(link) = self.wires[slot as usize].as_ref().and_then(Wire::open_link) else { return };
        let line = &mut self.connections.slots[slot as usize].line;
        let queued_bytes = line.outbox.queued_bytes();
        if queued_bytes == 0 {
            return;
        }
        let count_max = match self.config.faults.send(queued_bytes) {
            Some(SendFault::Failed(_)) => 0,
            Some(SendFault::Short(byte_count)) => byte_count,
            None => queued_bytes,
        };
        let bytes = self.buffers.gather(line.outbox.iter(), count_max);
        self.connections.counters.sends += 1;
        let sent_bytes = match net.write(link, self.end, &bytes) {
            Ok(sent_bytes) => sent_bytes,
            Err(error) => return self.begin_close(slot, Closed::Broken(error)),
        };
        self.connections.counters.sent_bytes += sent_bytes as u64;
        let (buffers, pool) = (&mut self.buffers, &mut self.connections.common.pool);
        line.outbox.advance(pool, sent_bytes, |pool, segment| buffers.free_segment(pool, segment));
        self.connections.mark_dirty(slot);
        if sent_bytes < queued_bytes {
            self.connections.counters.short_sends += 1;
            self.own_output(slot);
            self.connections.note_waiting(slot);
        }
        let was_behind = std::mem::replace(&mut self.wire(slot).behind, sent_bytes < queued_bytes);
        if was_behind {
            if sent_bytes > 0 {
                self.connections.note_progress(slot);
            }
            if self.connections.slots[slot as usize].line.outbox.is_empty() {
                let id = self.connections.id_at(slot);
                self.handler.on_writable(&mut self.connections, id);
            }
        }
    }

    fn own_output(&mut self, slot: u32) {
        let (buffers, pool) = (&mut self.buffers, &mut self.connections.common.pool);
        let outbox = &mut self.connections.slots[slot as usize].line.outbox;
        outbox.own(pool, |buffer, start, end, out| {
            out.extend_from_slice(&buffers.memory[buffer as usize][start as usize..end as usize]);
            buffers.release(buffer);
        });
    }

    // ---- what was asked of connections ----

    fn flush_dirty(&mut self, net: &mut Net) {
        for slot in std::mem::take(&mut self.connections.common.dirty) {
            self.flush(net, slot);
        }
    }

    fn flush(&mut self, net: &mut Net, slot: u32) {
        let Slot { line, conn } = &mut self.connections.slots[slot as usize];
        line.dirty = false;
        if conn.is_none() {
            return;
        }
        let (intent, has_output) = (line.intent, !line.outbox.is_empty());
        let wire = self.wire(slot);
        if wire.closing.is_some() {
            return;
        }
        if wire.connecting_until_ns.is_some() {
            // Anything but giving up waits until it can be used.
            if intent == Intent::Abort {
                self.begin_close(slot, Closed::ByUs);
            }
            return;
        }
        if has_output && intent != Intent::Abort {
            if wire.behind {
                self.own_output(slot);
                self.connections.note_waiting(slot);
            } else {
                self.send(net, slot);
            }
        } else {
            match intent {
                Intent::Keep => {}
                Intent::ShutDown => self.shut_down(net, slot),
                Intent::Close | Intent::Abort => return self.begin_close(slot, Closed::ByUs),
            }
        }
        self.steer_recv(slot);
    }

    /// Receives from a peer that reads, and stops for one that does not, or that the handler holds.
    fn steer_recv(&mut self, slot: u32) {
        let is_held = self.connections.slots[slot as usize].line.holds != 0;
        let is_too_much = self.connections.is_too_much_waiting(slot, &self.config);
        let is_little = self.connections.is_little_waiting(slot, &self.config);
        let wire = self.wire(slot);
        if (is_held || (is_too_much && wire.behind)) && !wire.paused {
            wire.paused = true;
            self.connections.count_pause(slot, &self.config);
        } else if wire.paused && (is_little || !wire.behind) && !is_held {
            wire.paused = false;
        }
    }

    fn shut_down(&mut self, net: &mut Net, slot: u32) {
        let end = self.end;
        let wire = self.wire(slot);
        if let Some(link) = wire.link.filter(|_| !wire.shut_down) {
            wire.shut_down = true;
            net.shut_down(link, end);
        }
    }

    /// From here on nothing happens on the connection but its end, in a turn to come.
    fn begin_close(&mut self, slot: u32, why: Closed) {
        self.wire(slot).closing.get_or_insert(why);
        self.drop_output(slot);
    }

    fn drop_output(&mut self, slot: u32) {
        let outbox = &mut self.connections.slots[slot as usize].line.outbox;
        while let Some(segment) = outbox.pop(&mut self.connections.common.pool) {
            self.buffers.free_segment(&mut self.connections.common.pool, segment);
        }
        self.connections.note_waiting(slot);
    }

    fn finish_close(&mut self, net: &mut Net, slot: u32) {
        // The handler may have written to it since it was told nothing.
        self.drop_output(slot);
        let Some(wire) = self.wires[slot as usize].take() else { return };
        if let Some(link) = wire.link {
            net.close(link, self.end);
        }
        self.freed.push(slot);
        // A descriptor is free again.
        self.accept_again_ns = 0;
        if let Some(conn) = self.connections.remove(slot) {
            self.handler.on_closed(&mut self.connections, conn, wire.closing.unwrap_or(Closed::ByUs));
        }
    }
}
