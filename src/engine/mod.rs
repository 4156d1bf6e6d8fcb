//! I/O engines: they know bytes, connections and time, and nothing of WebSocket.
//!
//! An engine owns a thread's loop. Above it stands one [`Handler`], which the server and the load generator
//! play alike, so each engine is written once. The seam lies above receive and send: how bytes arrive
//! (multishot, buffer rings, readiness, tasks) is the engine's own affair. The handler answers in the memory
//! that its bytes arrived in, or from its own, through the [`Io`] of any connection on the same thread.
//!
//! Order of calls for one connection: `on_accept` (where it came to a listener), `on_open`, any number of
//! `on_bytes`, `on_timer`, `on_writable` and one `on_end` at most, then `on_closed`, always and last.
#![allow(unsafe_code)]

pub mod choice;
mod counters;
pub mod epoll;
mod faults;
pub mod files;
pub mod ktls;
mod layer;
mod mapping;
pub mod memory;
mod outbox;
pub mod probe;
pub mod socket;
mod tap;
mod thread;
mod timers;
mod tls;
pub mod tokio_uring;
pub mod uring;
mod waiting;
mod wake;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;

use bytes::Bytes;

pub use choice::{Choice, Chosen, Use};
pub use counters::Counters;
pub(crate) use counters::counters;
pub use faults::Faults;
use outbox::{BufferPool, Outbox, Segment};
pub use probe::{Feature, Probe};
pub use tap::{Tap, Tapped};
pub use thread::{Switches, thread_cpu_ns, yield_to_all_others};
use timers::Timers;
pub use tls::{Ends, Tls, TlsCounters};
use waiting::Waiting;
pub use wake::Waker;

use crate::limits;
pub use crate::limits::HEADROOM_BYTES;
use crate::tls::Secured;

/// What an engine is to do its work with.
#[derive(Debug)]
pub struct Config {
    /// Where connections come from; an engine that only connects has none.
    pub listener: Option<TcpListener>,
    /// Connections at a time; more are not accepted.
    pub connections_max: u32,
    /// Received bytes per buffer.
    pub recv_buffer_bytes: usize,
    /// Receive buffers: a power of two.
    pub recv_buffers: u16,
    /// Submission queue entries: a power of two.
    pub sq_entries: u32,
    /// Completion queue entries: a power of two, at least `sq_entries`.
    pub cq_entries: u32,
    /// Bytes that may wait for a peer before we stop reading from it.
    pub outbox_bytes: usize,
    /// Bytes that may wait for all peers together before we stop reading from those that keep some waiting.
    pub outbox_bytes_in_all: usize,
    /// What [`uring`] uses of the kernel's offer.
    pub uring: uring::Features,
    /// Whether to note when the kernel received what arrives, for [`Io::arrived_ns`]. [`epoll`] alone can.
    pub kernel_timestamps: bool,
    /// Whether [`Handler::on_address`] is called. Over [`uring`] it costs multishot accepts, and nothing once a connection
    /// is open.
    pub peer_addresses: bool,
    /// Whether connections may be handed to the kernel's TLS, see [`ktls`]. [`uring`] and [`epoll`] can.
    pub kernel_tls: bool,
    /// What is to go wrong, for tests.
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listener: None,
            connections_max: limits::CONNECTIONS,
            recv_buffer_bytes: limits::RECV_BUFFER_BYTES,
            recv_buffers: limits::RECV_BUFFERS,
            sq_entries: limits::SQ_ENTRIES,
            cq_entries: limits::CQ_ENTRIES,
            outbox_bytes: limits::OUTBOX_BYTES,
            outbox_bytes_in_all: limits::OUTBOX_BYTES_IN_ALL as usize,
            uring: uring::Features::default(),
            kernel_timestamps: false,
            peer_addresses: false,
            kernel_tls: false,
            faults: Faults::default(),
        }
    }
}

/// Names a connection of one engine. Never used for another, not even after it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

impl ConnId {
    /// A small number that no other open connection of this engine has.
    pub fn index(self) -> usize {
        self.slot as usize
    }
}

/// Why a connection is gone.
#[derive(Debug)]
pub enum Closed {
    /// We closed it.
    ByUs,
    /// It could not be opened.
    Connect(std::io::Error),
    /// Receiving or sending failed: reset by the peer, above all.
    Broken(std::io::Error),
    /// It could not be secured, or not any longer.
    Tls(Box<crate::tls::Error>),
}

/// Bytes that arrived, in the engine's own memory.
#[derive(Debug)]
pub struct Received<'b> {
    /// The buffer: [`limits::HEADROOM_BYTES`] free bytes or more, then what arrived.
    pub memory: &'b mut [u8],
    /// The part of `memory` that arrived.
    pub range: Range<usize>,
}

/// What an engine's connections are for. One handler serves all connections of one thread.
pub trait Handler: 'static {
    /// State of one connection.
    type Conn: 'static;

    /// A connection came to the listener.
    fn on_accept(&mut self) -> Self::Conn;
    /// Right after `on_accept`, where [`Config::peer_addresses`] is set: whose connection it is.
    fn on_address(&mut self, _connections: &mut Connections<Self::Conn>, _id: ConnId, _address: IpAddr) {}
    /// Under [`Tls`], right before a handshake is begun: a connection that is closed here, or was in `on_address`, does not cost
    /// one.
    fn on_securing(&mut self, _connections: &mut Connections<Self::Conn>, _id: ConnId) {}
    /// Under [`Tls`], right before `on_open`: what it is secured with. Between the opening of the connection below and now
    /// the handshake took `took_ns`.
    fn on_secured(
        &mut self,
        _connections: &mut Connections<Self::Conn>,
        _id: ConnId,
        _secured: &Secured,
        _took_ns: u64,
    ) {
    }
    /// It can be used now: it was accepted, or connected.
    fn on_open(&mut self, connections: &mut Connections<Self::Conn>, id: ConnId);
    /// Bytes arrived. A reply may be composed in `received.memory` and queued with [`Io::reply_in_place`].
    fn on_bytes(&mut self, connections: &mut Connections<Self::Conn>, id: ConnId, received: Received<'_>);
    /// The peer will send nothing more.
    fn on_end(&mut self, connections: &mut Connections<Self::Conn>, id: ConnId);
    /// The time set by [`Io::wake_by`] has come; it may be called early.
    fn on_timer(&mut self, connections: &mut Connections<Self::Conn>, id: ConnId);
    /// All that a slow peer kept waiting has been sent.
    fn on_writable(&mut self, _connections: &mut Connections<Self::Conn>, _id: ConnId) {}
    /// Of a connection whose records the kernel is to open and seal: see [`ktls`]. For [`Tls`] alone, which asks for it.
    fn on_kernel_tls(
        &mut self,
        _connections: &mut Connections<Self::Conn>,
        _id: ConnId,
        _event: ktls::Event<'_>,
    ) -> ktls::Answer {
        ktls::Answer::default()
    }
    /// The connection is gone, and so is all that was queued for it.
    fn on_closed(&mut self, connections: &mut Connections<Self::Conn>, conn: Self::Conn, why: Closed);
    /// [`Waker::wake`] was called.
    fn on_wake(&mut self, connections: &mut Connections<Self::Conn>);
    /// Once a turn of the loop, before it waits; returns when it must be called again at the latest, in
    /// nanoseconds of [`clock_ns`].
    fn on_turn(&mut self, _connections: &mut Connections<Self::Conn>) -> Option<u64> {
        None
    }
}

/// Nanoseconds of the monotonic clock, the time base of everything here.
#[inline]
pub fn clock_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How far a connection is to be taken down, once its outbox is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Intent {
    Keep,
    /// Send FIN, go on receiving.
    ShutDown,
    Close,
    /// Close without waiting for the outbox.
    Abort,
}

/// Whether records of a connection are opened and sealed by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// It knows of none.
    Without,
    HasKeys,
    /// The peer has been told that nothing more will be sent.
    HasKeysAndIsDone,
}

/// Why a connection is not to be received from: the handler holds it.
const HELD_BY_HANDLER: u8 = 1;
/// A moment of quiet is wanted.
const HELD_FOR_QUIET: u8 = 2;
/// What it has sent has to wait for a turn.
const HELD_FOR_TURN: u8 = 4;

struct Line {
    generation: u32,
    in_use: bool,
    dirty: bool,
    waiting: Waiting,
    intent: Intent,
    /// Why it is not to be received from, if it is not: the sum of what `HELD_*` there is.
    holds: u8,
    kernel: Kernel,
    outbox: Outbox,
    /// Received bytes that the handler keeps.
    kept_bytes: usize,
    wake_at_ns: u64,
}

struct Slot<C> {
    line: Line,
    conn: Option<C>,
}

/// What all connections of a thread share.
struct Common {
    /// Slots with output to send or an intent to carry out.
    dirty: Vec<u32>,
    timers: Timers,
    pool: BufferPool,
    /// Bytes that wait for peers which don't read, and received ones that handlers keep.
    waiting_bytes: usize,
    now_ns: u64,
    /// Time is fake, and stands still within a turn.
    simulated: bool,
    /// It receives while a turn is under way, so bytes may be there that were not when the turn began.
    receives_within_turns: bool,
    /// The receive buffer that the handler is looking at, and how many segments of it were queued.
    current_buffer: u32,
    /// Its length; 0 while the handler is looking at none.
    current_bytes: usize,
    current_uses: u16,
    /// When the kernel received the last of what the handler is looking at, where the engine notes it.
    arrived_ns: Option<u64>,
    accepting: bool,
    stopping: bool,
}

impl Common {
    #[inline]
    fn clock_ns(&self) -> u64 {
        if self.simulated { self.now_ns } else { clock_ns() }
    }

    #[inline]
    fn received_ns(&self) -> u64 {
        if self.receives_within_turns { self.clock_ns() } else { self.now_ns }
    }
}

/// The connections of one engine, by id. Any of them may be written to from any callback.
pub struct Connections<C> {
    slots: Vec<Slot<C>>,
    free: Vec<u32>,
    open_count: usize,
    connecting: Vec<(u32, SocketAddr)>,
    /// Whose connection it is, by slot, where that is asked for.
    addresses: Vec<Option<IpAddr>>,
    departed: Option<IpAddr>,
    common: Common,
    counters: Counters,
}

impl<C> Connections<C> {
    fn with_capacity(connections_max: u32) -> Self {
        let common = Common {
            dirty: Vec::new(),
            timers: Timers::default(),
            pool: BufferPool::stocked(),
            waiting_bytes: 0,
            now_ns: clock_ns(),
            simulated: false,
            receives_within_turns: false,
            current_buffer: 0,
            current_bytes: 0,
            current_uses: 0,
            arrived_ns: None,
            accepting: true,
            stopping: false,
        };
        Self {
            // Memory that is not touched is not used; growing would copy every connection.
            slots: Vec::with_capacity(connections_max as usize),
            free: Vec::new(),
            open_count: 0,
            connecting: Vec::new(),
            addresses: Vec::new(),
            departed: None,
            common,
            counters: Counters::default(),
        }
    }

    /// When this turn's completions were fetched, in nanoseconds of [`clock_ns`].
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.common.now_ns
    }

    /// The time at this very moment; see [`Io::clock_ns`].
    #[inline]
    pub fn clock_ns(&self) -> u64 {
        self.common.clock_ns()
    }

    /// In `on_bytes`: when the bytes being handled had been received; see [`Io::received_ns`].
    #[inline]
    pub fn received_ns(&self) -> u64 {
        self.common.received_ns()
    }

    /// What the engine did so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections that are open, or being opened.
    pub fn len(&self) -> usize {
        self.open_count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open_count == 0
    }

    /// The state of a connection and the means to write to it; `None` where it is gone.
    #[inline]
    pub fn get(&mut self, id: ConnId) -> Option<(&mut C, Io<'_>)> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.line.generation != id.generation {
            return None;
        }
        let conn = slot.conn.as_mut()?;
        Some((conn, Io { index: id.slot, line: &mut slot.line, common: &mut self.common }))
    }

    /// Every connection there is now.
    pub fn ids(&self) -> Vec<ConnId> {
        let in_use = self.slots.iter().enumerate().filter(|(_, slot)| slot.conn.is_some());
        in_use.map(|(index, slot)| ConnId { slot: index as u32, generation: slot.line.generation }).collect()
    }

    /// In `on_closed`: the address that [`Handler::on_address`] was given, if it was called.
    pub fn departed(&self) -> Option<IpAddr> {
        self.departed
    }

    /// Begins to connect; `on_open` or `on_closed` follows. For engines without a listener.
    pub fn connect(&mut self, address: SocketAddr, conn: C) -> ConnId {
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        let id = self.insert(index, conn);
        self.connecting.push((index, address));
        id
    }

    /// Lets no further connection in; those that wait in the listener's queue are turned away with it.
    pub fn stop_accepting(&mut self) {
        self.common.accepting = false;
    }

    /// Ends the loop after this turn, whatever is still open. Nobody is accepted any more.
    pub fn stop(&mut self) {
        self.common.stopping = true;
    }

    /// A slot for one more of at most `connections_max` connections.
    fn take_slot(&mut self, connections_max: u32) -> Option<u32> {
        self.free.pop().or_else(|| Some(self.slots.len() as u32).filter(|&slot| slot < connections_max))
    }

    /// The slot may be taken again.
    fn free_slot(&mut self, slot: u32, connections_max: u32) {
        if slot < connections_max {
            self.free.push(slot);
        } else {
            // Never usable, so the last to be taken.
            self.free.insert(0, slot);
        }
    }

    fn insert(&mut self, index: u32, conn: C) -> ConnId {
        while self.slots.len() <= index as usize {
            let line = Line {
                generation: 0,
                in_use: false,
                dirty: false,
                waiting: Waiting::default(),
                intent: Intent::Keep,
                holds: 0,
                kernel: Kernel::Without,
                outbox: Outbox::default(),
                kept_bytes: 0,
                wake_at_ns: u64::MAX,
            };
            self.slots.push(Slot { line, conn: None });
        }
        let slot = &mut self.slots[index as usize];
        assert!(!slot.line.in_use, "slot {index} is taken");
        slot.line.in_use = true;
        slot.line.intent = Intent::Keep;
        slot.line.holds = 0;
        slot.line.kernel = Kernel::Without;
        slot.line.waiting.begin();
        slot.line.wake_at_ns = u64::MAX;
        slot.conn = Some(conn);
        self.open_count += 1;
        self.counters.opened += 1;
        ConnId { slot: index, generation: slot.line.generation }
    }

    /// Ends the slot's connection; its id is void from here on.
    fn remove(&mut self, index: u32) -> Option<C> {
        let slot = &mut self.slots[index as usize];
        let conn = slot.conn.take();
        self.departed = self.addresses.get_mut(index as usize).and_then(Option::take);
        slot.line.in_use = false;
        self.common.waiting_bytes -= std::mem::take(&mut slot.line.kept_bytes);
        slot.line.generation = slot.line.generation.wrapping_add(1) & GENERATION_MASK;
        self.open_count -= 1;
        self.counters.closed += 1;
        conn
    }

    /// Tells the handler whose connection it is, if it is to know, and keeps that until its end.
    fn introduce<H: Handler<Conn = C>>(&mut self, handler: &mut H, id: ConnId, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if self.addresses.len() <= id.index() {
            self.addresses.resize(id.index() + 1, None);
        }
        self.addresses[id.index()] = Some(address);
        handler.on_address(self, id, address);
    }

    fn id_at(&self, index: u32) -> ConnId {
        ConnId { slot: index, generation: self.slots[index as usize].line.generation }
    }

    fn mark_dirty(&mut self, index: u32) {
        self.slots[index as usize].line.mark_dirty(index, &mut self.common);
    }

    /// Hands `byte_count` bytes, received behind the headroom of `memory`, to the handler. Says how many segments refer
    /// to them now, as parts of `buffer`.
    #[inline]
    fn deliver<H: Handler<Conn = C>>(
        &mut self,
        handler: &mut H,
        id: ConnId,
        buffer: u32,
        memory: &mut [u8],
        byte_count: usize,
    ) -> u16 {
        self.counters.receives += 1;
        self.counters.received_bytes += byte_count as u64;
        let common = &mut self.common;
        (common.current_buffer, common.current_uses, common.current_bytes) = (buffer, 0, memory.len());
        let received = Received { memory, range: HEADROOM_BYTES..HEADROOM_BYTES + byte_count };
        handler.on_bytes(self, id, received);
        self.common.current_bytes = 0;
        self.common.current_uses
    }

    /// Takes back the list of dirty slots, worked off, to use its memory again; says whether handlers that were told of
    /// an end have asked for more meanwhile.
    fn return_dirty(&mut self, drained: Vec<u32>) -> bool {
        if self.common.dirty.is_empty() {
            self.common.dirty = drained;
            return false;
        }
        true
    }

    /// Calls the handler for every timer that is due.
    fn run_timers<H: Handler<Conn = C>>(&mut self, handler: &mut H) {
        while let Some((at_ns, id)) = self.common.timers.pop_due(self.common.now_ns) {
            let Some((_, io)) = self.get(id) else { continue };
            if io.line.wake_at_ns == at_ns {
                io.line.wake_at_ns = u64::MAX;
                handler.on_timer(self, id);
            }
        }
    }
}

/// Bits of a generation: what fits beside the slot in a completion's user data.
const GENERATION_MASK: u32 = 0x00FF_FFFF;

impl Line {
    #[inline]
    fn mark_dirty(&mut self, index: u32, common: &mut Common) {
        if !self.dirty {
            self.dirty = true;
            common.dirty.push(index);
        }
    }

    fn is_held_by_handler(&self) -> bool {
        self.holds & HELD_BY_HANDLER != 0
    }

    /// Whether it is not received from for reasons of ours, whatever the peer does.
    fn is_held_by_us(&self) -> bool {
        self.holds & !HELD_BY_HANDLER != 0
    }

    fn wants_quiet(&self) -> bool {
        self.holds & HELD_FOR_QUIET != 0
    }

    fn want_quiet(&mut self, want: bool) {
        self.holds = self.holds & !HELD_FOR_QUIET | if want { HELD_FOR_QUIET } else { 0 };
    }
}

/// The writing end of one connection. Everything queued in a turn leaves together at its end.
pub struct Io<'a> {
    index: u32,
    line: &'a mut Line,
    common: &'a mut Common,
}

impl Io<'_> {
    /// The time at this very moment, where that of the turn ([`Connections::now_ns`]) is not exact enough: in nanoseconds
    /// of [`clock_ns`], and of fake time over [`memory`].
    #[inline]
    pub fn clock_ns(&self) -> u64 {
        self.common.clock_ns()
    }

    /// A time at which the bytes being handled in `on_bytes` had been received, in nanoseconds of [`clock_ns`]; never
    /// before they arrived. Where receives are over before a turn begins, that is the turn's beginning; where they are made
    /// within it, the clock is read: ask once, first of all.
    #[inline]
    pub fn received_ns(&self) -> u64 {
        self.common.received_ns()
    }

    /// A small number that no other open connection of this engine has: its [`ConnId::index`].
    #[inline]
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// Sends a part of the memory that is being handled in `on_bytes`, without copying it.
    ///
    /// # Panics
    /// Outside `on_bytes`, or if `range` reaches beyond that memory.
    #[inline]
    pub fn reply_in_place(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        assert!(range.end <= self.common.current_bytes, "a reply in place lies in the memory being handled");
        self.common.current_uses += 1;
        let buffer = self.common.current_buffer;
        let segment = Segment::InPlace { buffer, start: range.start as u32, end: range.end as u32 };
        self.line.outbox.push(&mut self.common.pool, segment);
        self.line.mark_dirty(self.index, self.common);
    }

    /// Sends bytes that others may be sending as well.
    pub fn send(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.line.outbox.push(&mut self.common.pool, Segment::Shared(bytes));
            self.line.mark_dirty(self.index, self.common);
        }
    }

    /// Sends what `write` appends to a buffer that is reused between sends. It must append something.
    #[inline]
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.line.outbox.append(&mut self.common.pool, write);
        self.line.mark_dirty(self.index, self.common);
    }

    /// Bytes that wait to be sent.
    #[inline]
    pub fn queued_bytes(&self) -> usize {
        self.line.outbox.queued_bytes()
    }

    /// Has the peer not read from until this is called with `false`; what has been received may still be handed over.
    pub fn hold_reading(&mut self, hold: bool) {
        if self.line.is_held_by_handler() != hold {
            self.line.holds ^= HELD_BY_HANDLER;
            self.line.mark_dirty(self.index, self.common);
        }
    }

    /// Has the peer not read from, though it is not slow, while what it has sent waits for a turn.
    fn put_off(&mut self, hold: bool) {
        self.line.holds = self.line.holds & !HELD_FOR_TURN | if hold { HELD_FOR_TURN } else { 0 };
        self.line.mark_dirty(self.index, self.common);
    }

    /// Asks for a moment of quiet, where [`Config::kernel_tls`] is set: everything that was received has been handed over,
    /// nothing is being received, all output has gone. [`Handler::on_kernel_tls`] is called in it, once.
    fn ask_quiet(&mut self) {
        self.line.want_quiet(true);
        self.line.mark_dirty(self.index, self.common);
    }

    /// When the kernel received the last of the bytes being handled in `on_bytes`, in nanoseconds of [`clock_ns`], to
    /// within a microsecond or so; `None` where [`Config::kernel_timestamps`] is off, or the kernel noted nothing.
    pub fn arrived_ns(&self) -> Option<u64> {
        self.common.arrived_ns
    }

    /// When a slow peer last took some of what waited for it, if it has since this was last asked, in nanoseconds of
    /// [`clock_ns`]: it was alive then, though we may not be reading from it.
    pub fn take_progress(&mut self) -> Option<u64> {
        self.line.waiting.take_progress()
    }

    /// Since when the peer has taken nothing of what waits for it, in nanoseconds of [`clock_ns`]; `None` where nothing waits
    /// but what is on its way.
    pub fn waits_since_ns(&self) -> Option<u64> {
        self.line.waiting.since_ns()
    }

    /// Has `on_timer` called at `at_ns` or earlier.
    pub fn wake_by(&mut self, at_ns: u64) {
        if at_ns < self.line.wake_at_ns {
            self.line.wake_at_ns = at_ns;
            let id = ConnId { slot: self.index, generation: self.line.generation };
            self.common.timers.push(at_ns, id);
        }
    }

    /// Sends what is queued, then FIN; goes on receiving.
    pub fn shut_down(&mut self) {
        self.intend(Intent::ShutDown);
    }

    /// Sends what is queued, then closes.
    pub fn close(&mut self) {
        self.intend(Intent::Close);
    }

    /// Closes at once; what is queued is lost.
    pub fn abort(&mut self) {
        self.intend(Intent::Abort);
    }

    fn intend(&mut self, intent: Intent) {
        self.line.intent = self.line.intent.max(intent);
        self.line.mark_dirty(self.index, self.common);
    }
}

/// An engine, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// Raw io_uring, see [`uring`].
    Uring,
    /// The crate `tokio-uring`, see [`tokio_uring`].
    TokioUring,
    /// Readiness and ordinary system calls, see [`epoll`].
    Epoll,
}

impl EngineKind {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Uring, Self::TokioUring, Self::Epoll];

    /// What `--engine` and result files call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => uring::NAME,
            Self::TokioUring => tokio_uring::NAME,
            Self::Epoll => epoll::NAME,
        }
    }

    /// Runs `handler` on this thread, over this engine, until it calls [`Connections::stop`], and gives it back.
    ///
    /// `ready` is called once the engine is set up, before anything is accepted.
    ///
    /// # Errors
    /// The engine could not be set up, or waiting for events failed; every connection is lost then.
    pub fn run<H: Handler>(
        self,
        config: Config,
        waker: &Waker,
        handler: H,
        ready: impl FnOnce(),
    ) -> Result<H, EngineError> {
        if config.kernel_timestamps && self != Self::Epoll {
            return Err(EngineError::NoKernelTimestamps { engine: self.name() });
        }
        if config.kernel_tls && self == Self::TokioUring {
            return Err(EngineError::KernelTlsEngine { engine: self.name() });
        }
        match self {
            Self::Uring => uring::run(config, waker, handler, ready),
            Self::TokioUring => tokio_uring::run(config, waker, handler, ready),
            Self::Epoll => epoll::run(config, waker, handler, ready),
        }
    }
}

/// Why an engine could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// `kernel.io_uring_disabled` (Linux 6.6) or a security module.
    #[error(
        "io_uring is forbidden to this process: set the sysctl kernel.io_uring_disabled to 0 \
         (it is {setting}), or join the group of kernel.io_uring_group where it is 1; where it is 0 already, a seccomp \
         filter forbids it (containers: use a profile that allows io_uring_setup)"
    )]
    Forbidden {
        /// Value of the sysctl.
        setting: String,
    },
    /// No such system call.
    #[error(
        "this kernel ({release}) or the container's seccomp filter has no io_uring: run outside the container \
         or with a seccomp profile that allows io_uring_setup; the kernel has to be 5.19 or newer"
    )]
    Missing {
        /// `uname -r`.
        release: String,
    },
    /// A ring feature that the engine rests on is not there.
    #[error(
        "io_uring of this kernel ({release}) lacks {feature}, which Linux {since} has: boot that or a newer one"
    )]
    TooOld {
        /// `uname -r`.
        release: String,
        /// What is missing.
        feature: &'static str,
        /// The first release that has it.
        since: &'static str,
    },
    /// An engine needs more than this kernel's io_uring has.
    #[error(
        "the engine {engine} needs {missing}, which io_uring of this kernel ({release}) lacks; Linux {since} has all \
         of it: boot that or a newer one, or take another --engine"
    )]
    Lacks {
        /// Its name.
        engine: &'static str,
        /// `uname -r`.
        release: String,
        /// All that is missing.
        missing: String,
        /// The first release that it runs on.
        since: &'static str,
    },
    /// `--uring-features` for another engine.
    #[error("the engine {engine} has no features to switch: --uring-features goes with --engine uring")]
    NoSwitches {
        /// Its name.
        engine: &'static str,
    },
    /// `--kernel-timestamps` for another engine.
    #[error(
        "the engine {engine} does not read kernel timestamps, only the engine epoll does: --kernel-timestamps goes with \
         --engine epoll"
    )]
    NoKernelTimestamps {
        /// Its name.
        engine: &'static str,
    },
    /// The kernel did not say when it received.
    #[error(
        "this kernel ({release}) noted no arrivals on a connection of ours over 127.0.0.1 ({error}): SO_TIMESTAMPING for \
         TCP is there since Linux 4.14; leave out --kernel-timestamps, or boot a newer one"
    )]
    KernelTimestamps {
        /// `uname -r`.
        release: String,
        /// What became of the attempt.
        error: std::io::Error,
    },
    /// `--ktls` on a kernel without.
    #[error(
        "--ktls: this kernel ({release}) does not do TLS ({error}): it was built without CONFIG_TLS, or its module is not \
         loaded (modprobe tls); leave out --ktls, and this process does it"
    )]
    NoKernelTls {
        /// `uname -r`.
        release: String,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// `--ktls` for another engine.
    #[error(
        "--ktls: the engine {engine} does not hand connections to the kernel's TLS: take --engine uring or epoll"
    )]
    KernelTlsEngine {
        /// Its name.
        engine: &'static str,
    },
    /// `--ktls` with what does not go with it.
    #[error("--ktls: the kernel's TLS does not go with {other}: leave one of them out")]
    KernelTlsBeside {
        /// The other flag.
        other: &'static str,
    },
    /// The table of direct descriptors counts against the limit on open files.
    #[error(
        "{needed} open files are needed and the limit is {limit}: raise it with `ulimit -n {needed}` \
         (LimitNOFILE= in a systemd unit), or ask for fewer connections"
    )]
    TooFewFiles {
        /// RLIMIT_NOFILE that would do.
        needed: u64,
        /// RLIMIT_NOFILE as it is.
        limit: u64,
    },
    /// Anything else, with what was being done.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        error: std::io::Error,
    },
}

impl EngineError {
    /// Whether a flag is at fault that goes with another engine, and not the kernel.
    pub fn is_of_flags(&self) -> bool {
        matches!(
            self,
            Self::NoSwitches { .. }
                | Self::NoKernelTimestamps { .. }
                | Self::KernelTlsEngine { .. }
                | Self::KernelTlsBeside { .. }
        )
    }

    /// Whether something asked for cannot be had on this kernel, whatever the flags; another kernel, or this one set otherwise,
    /// may have it.
    pub fn is_of_kernel(&self) -> bool {
        matches!(
            self,
            Self::Forbidden { .. }
                | Self::Missing { .. }
                | Self::TooOld { .. }
                | Self::Lacks { .. }
                | Self::KernelTimestamps { .. }
                | Self::NoKernelTls { .. }
        )
    }

    fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }
}
