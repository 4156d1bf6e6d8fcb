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
mod error;
mod faults;
pub mod files;
mod io;
pub mod ktls;
mod layer;
mod mapping;
pub mod memory;
mod outbox;
pub mod probe;
mod route;
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

pub use choice::{Choice, Chosen, Use};
pub use counters::Counters;
pub(crate) use counters::counters;
pub use error::EngineError;
pub use faults::Faults;
use outbox::{BufferPool, Outbox, Segment};
pub use probe::{Feature, Probe};
pub use route::Route;
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

    /// The first connection in a slot, for tests of what only passes names on.
    #[cfg(test)]
    pub(crate) fn first_in(slot: u32) -> Self {
        Self { slot, generation: 0 }
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
    dirty: bool,
    waiting: Waiting,
    intent: Intent,
    /// Why it is not to be received from, if it is not: the sum of what `HELD_*` there is.
    holds: u8,
    kernel: Kernel,
    outbox: Outbox,
    wake_at_ns: u64,
}

struct Slot<C> {
    line: Line,
    /// Whose slot it is; `None` where it is nobody's.
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
    connecting: Vec<(u32, Route)>,
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
            timers: Timers::with_capacity(connections_max as usize),
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
        self.connect_over(address.into(), conn)
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
                dirty: false,
                waiting: Waiting::default(),
                intent: Intent::Keep,
                holds: 0,
                kernel: Kernel::Without,
                outbox: Outbox::default(),
                wake_at_ns: u64::MAX,
            };
            self.slots.push(Slot { line, conn: None });
        }
        let slot = &mut self.slots[index as usize];
        assert!(slot.conn.is_none(), "slot {index} is taken");
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
        self.common.waiting_bytes -= slot.line.waiting.take_kept_bytes();
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
        while let Some((at_ns, slot)) = self.common.timers.pop_due(self.common.now_ns) {
            let id = self.id_at(slot);
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

    /// Memory that a connection with a state of type `C` takes of this engine while it is idle: everything but what is shared, and
    /// what `C` owns elsewhere, and the task that [`tokio_uring`] has for each.
    pub const fn connection_bytes<C>(self) -> usize {
        let of_engine = match self {
            Self::Uring => uring::HELD_BYTES,
            Self::TokioUring => tokio_uring::HELD_BYTES,
            Self::Epoll => epoll::LINK_BYTES,
        };
        size_of::<Slot<C>>() + timers::ENTRY_BYTES + of_engine
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
