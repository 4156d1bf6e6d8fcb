//! What the tasks of a thread share: the handler, its connections, and what is under way on each.
//!
//! Tasks borrow it between their awaits, never over one. It wakes them and starts them, but is itself only told:
//! every `on_*` comes from a task whose operation has completed.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker as TaskWaker};

use ::tokio_uring::net::TcpStream;
use ::tokio_uring::{InFlightOneshot, WriteData, WriteTransform};
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
use socket2::SockRef;

use super::super::faults::SendFault;
use super::super::{
    Closed, Config, ConnId, Connections, Handler, Intent, Received, Segment, Waker, clock_ns,
};
use super::memory::{Lent, RecvBuffers, Room};
use super::{End, await_write, dial, read, spawn_counted};
use crate::limits::{HEADROOM_BYTES, OUTPUT_JOINED_BYTES};

/// How long to leave the listener alone when there is no place for what it has.
const ACCEPT_PAUSE_NS: u64 = 50_000_000;

/// Longest write: lengths of operations have 32 bits.
const WRITE_BYTES_MAX: usize = 1 << 30;

/// After arrivals up to this long, the next read is begun only when the answer has been tried. What is longer is
/// likely a piece, with more of it there already.
const DEFER_BYTES_MAX: usize = 4 * 1024;

/// What a connection's task is to do.
pub(super) enum Next {
    Read(Room),
    /// Wait until the answer was tried, or until the peer reads.
    Wait,
    End,
}

/// A write under way.
pub(super) struct Writing {
    pub(super) slot: u32,
    pub(super) wanted_bytes: usize,
    pub(super) operation: InFlightOneshot<WriteData<Lent>, WriteTransform<Lent>>,
    /// In which it was queued.
    turn: u64,
}

/// What is under way on a connection.
#[derive(Default)]
struct Held {
    stream: Option<Rc<TcpStream>>,
    /// Its task reads, or waits to.
    reading: bool,
    writing: bool,
    connecting: bool,
    /// Not read from, because the peer does not read.
    paused: bool,
    /// Not read from before the answer was tried.
    deferred: bool,
    /// The peer kept output waiting, and not all of it has been written yet.
    behind: bool,
    /// The last write was taken in part, and counted: that the next one waits is no news.
    cut: bool,
    /// The present write waits, and was counted as short.
    counted: bool,
    shut_down: bool,
    /// Being closed, and why.
    closing: Option<Closed>,
    /// Its task, if it waits for us and not for the kernel.
    task: Option<TaskWaker>,
}

impl Held {
    /// The answer was tried: goes on reading.
    #[inline]
    fn resume(&mut self) {
        if std::mem::take(&mut self.deferred) {
            wake(&mut self.task);
        }
    }
}

/// See the module's text.
pub(super) struct World<H: Handler> {
    pub(super) handler: H,
    connections: Connections<H::Conn>,
    config: Config,
    held: Vec<Held>,
    recv: RecvBuffers,
    /// Writes that have yet to be settled.
    writes: Vec<Writing>,
    turn: u64,
    /// The last turn has written, and `settle` has yet to see it.
    wrote: bool,
    settle_task: TaskWaker,
    turn_task: TaskWaker,
    /// The turn task has been woken and has yet to run.
    turn_wanted: bool,
    accept_task: Option<TaskWaker>,
    /// Not to accept before then.
    accept_again_ns: u64,
    /// To shut it down by; the accepting task has another descriptor of it.
    listener: Option<TcpListener>,
    timer: OwnedFd,
    /// When the timer will fire, if it will.
    timer_ns: Option<u64>,
    waker: Waker,
    task_count: usize,
    ending: bool,
    panicked: bool,
    this: Weak<RefCell<Self>>,
}

impl<H: Handler> World<H> {
    pub(super) fn new(
        config: Config,
        waker: Waker,
        handler: H,
        timer: OwnedFd,
        listener: Option<TcpListener>,
    ) -> Rc<RefCell<Self>> {
        Rc::new_cyclic(|this| {
            RefCell::new(Self {
                handler,
                connections: Connections::with_capacity(config.connections_max),
                held: Vec::with_capacity(config.connections_max as usize),
                recv: RecvBuffers::new(config.recv_buffer_bytes),
                config,
                writes: Vec::new(),
                turn: 0,
                wrote: false,
                settle_task: TaskWaker::noop().clone(),
                turn_task: TaskWaker::noop().clone(),
                turn_wanted: true,
                accept_task: None,
                accept_again_ns: 0,
                listener,
                timer,
                timer_ns: None,
                waker,
                task_count: 0,
                ending: false,
                panicked: false,
                this: Weak::clone(this),
            })
        })
    }

    // ---- tasks ----

    pub(super) fn on_task_started(&mut self) {
        self.task_count += 1;
    }

    pub(super) fn on_task_ended(&mut self, panicked: bool) {
        self.task_count -= 1;
        self.panicked |= panicked;
        self.want_turn();
    }

    fn start<F: Future<Output = ()> + 'static>(&mut self, task: impl FnOnce(Rc<RefCell<Self>>) -> F) {
        // It is gone only while the runtime's tasks are dropped, which start none.
        let Some(world) = self.this.upgrade() else { return };
        self.on_task_started();
        spawn_counted(Rc::clone(&world), task(world));
    }

    // ---- turns ----

    /// Has a turn follow on what the tasks that are ready now do. The first of a batch to ask takes the time.
    #[inline]
    fn want_turn(&mut self) {
        if !self.turn_wanted {
            self.turn_wanted = true;
            self.connections.common.now_ns = clock_ns();
            self.turn_task.wake_by_ref();
        }
    }

    /// Does a turn if one is wanted; ready when the handler has stopped the engine.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.turn_task.clone_from(cx.waker());
        if self.panicked {
            return Poll::Ready(End::Panicked);
        }
        if std::mem::take(&mut self.turn_wanted) {
            self.turn();
        }
        if self.connections.common.stopping { Poll::Ready(End::Stopped) } else { Poll::Pending }
    }

    fn turn(&mut self) {
        self.turn += 1;
        self.connections.run_timers(&mut self.handler);
        let turn_by = self.handler.on_turn(&mut self.connections);
        let closed_before = self.connections.counters.closed;
        self.open_connections();
        self.flush_dirty();
        let accept_by = self.steer_accept();
        let timer_by = self.connections.common.timers.next_ns();
        if let Some(by_ns) = turn_by.into_iter().chain(accept_by).chain(timer_by).min() {
            self.arm_timer(by_ns);
        }
        if self.wrote {
            self.settle_task.wake_by_ref();
        }
        // A handler that was told of an end after its turn may have more to do, such as to connect again.
        if self.connections.counters.closed != closed_before || !self.connections.common.dirty.is_empty() {
            self.want_turn();
        }
    }

    /// Ends what is under way, so that the tasks end.
    pub(super) fn end(&mut self) {
        self.ending = true;
        for held in &mut self.held {
            if let Some(stream) = &held.stream {
                // Not connected any more is as good.
                let _ = stream.shutdown(Shutdown::Both);
            }
            wake(&mut held.task);
        }
        self.stop_accepting();
        self.settle_task.wake_by_ref();
        self.timer_ns = None;
        self.arm_timer(0);
        self.waker.wake();
    }

    /// Ready when all tasks are gone.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.turn_task.clone_from(cx.waker());
        self.turn_wanted = false;
        match (self.panicked, self.task_count) {
            (true, _) => Poll::Ready(End::Panicked),
            (false, 0) => Poll::Ready(End::Stopped),
            (false, _) => Poll::Pending,
        }
    }

    // ---- waking and timing ----

    /// For a read of eight bytes; `None` when it is time to end.
    pub(super) fn room(&mut self) -> Option<Room> {
        if self.ending {
            return None;
        }
        self.recv.take().ok()
    }

    pub(super) fn on_woken(&mut self, room: Room) {
        self.want_turn();
        self.connections.counters.completions += 1;
        self.recv.hold(room.number, 0);
        if !self.ending {
            self.handler.on_wake(&mut self.connections);
        }
    }

    pub(super) fn on_timer_fired(&mut self, room: Room) {
        self.want_turn();
        self.connections.counters.completions += 1;
        self.recv.hold(room.number, 0);
        self.timer_ns = None;
    }

    /// Has the timer fire at `at_ns` or earlier.
    fn arm_timer(&mut self, at_ns: u64) {
        if self.timer_ns.is_some_and(|armed_ns| armed_ns <= at_ns) {
            return;
        }
        self.timer_ns = Some(at_ns);
        // A time that is past fires at once; zero alone would disarm.
        let at_ns = at_ns.max(1);
        let value = Timespec { tv_sec: (at_ns / 1_000_000_000) as _, tv_nsec: (at_ns % 1_000_000_000) as _ };
        let never_again = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Itimerspec { it_interval: never_again, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &value)
            .expect("a timerfd takes any time on the clock");
    }

    // ---- opening ----

    pub(super) fn accept_fault(&mut self) -> Option<io::Error> {
        self.config.faults.accept()
    }

    /// Ready with `true` when it is time to accept, with `false` when it never will be again.
    pub(super) fn poll_may_accept(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.ending || self.listener.is_none() {
            Poll::Ready(false)
        } else if self.accept_again_ns <= self.connections.common.now_ns {
            Poll::Ready(true)
        } else {
            self.accept_task = Some(cx.waker().clone());
            self.want_turn();
            Poll::Pending
        }
    }

    /// Stops accepting if it was asked for, or takes it up again; else says when it will be.
    fn steer_accept(&mut self) -> Option<u64> {
        if !self.connections.common.accepting {
            self.stop_accepting();
        }
        self.accept_task.as_ref()?;
        if self.accept_again_ns > self.connections.common.now_ns {
            return Some(self.accept_again_ns);
        }
        wake(&mut self.accept_task);
        None
    }

    /// Shuts the listener down, which ends an accept under way; only closing it would not.
    fn stop_accepting(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            wake(&mut self.accept_task);
        }
    }

    pub(super) fn on_accept(&mut self, accepted: io::Result<TcpStream>) {
        self.want_turn();
        self.connections.counters.completions += 1;
        if self.ending || self.listener.is_none() {
            return;
        }
        let error = match accepted {
            Ok(stream) => match self.free_slot() {
                Some(slot) => return self.open_accepted(slot, stream),
                None => io::Error::from_raw_os_error(libc::ENFILE),
            },
            Err(error) => error,
        };
        if let Some(libc::ENFILE | libc::EMFILE | libc::ENOMEM | libc::ENOBUFS) = error.raw_os_error() {
            self.connections.counters.accept_refusals += 1;
            self.accept_again_ns = self.connections.common.now_ns + ACCEPT_PAUSE_NS;
        }
    }

    fn free_slot(&mut self) -> Option<u32> {
        let unused = self.connections.slots.len() as u32;
        let unused = Some(unused).filter(|&slot| slot < self.config.connections_max);
        self.connections.free.pop().or(unused)
    }

    fn open_accepted(&mut self, slot: u32, stream: TcpStream) {
        self.ensure_held(slot);
        let conn = self.handler.on_accept();
        let id = self.connections.insert(slot, conn);
        self.open(id, stream);
    }

    fn open(&mut self, id: ConnId, stream: TcpStream) {
        let stream = Rc::new(stream);
        let held = &mut self.held[id.index()];
        held.stream = Some(Rc::clone(&stream));
        held.reading = true;
        self.handler.on_open(&mut self.connections, id);
        self.start(|world| read(world, id, stream));
    }

    fn open_connections(&mut self) {
        for (slot, address) in std::mem::take(&mut self.connections.connecting) {
            self.ensure_held(slot);
            let id = self.connections.id_at(slot);
            if slot < self.config.connections_max {
                self.held[slot as usize].connecting = true;
                self.start(|world| dial(world, id, address));
            } else {
                self.begin_close(slot, Closed::Connect(io::Error::from_raw_os_error(libc::ENFILE)));
            }
        }
    }

    fn ensure_held(&mut self, slot: u32) {
        if self.held.len() <= slot as usize {
            self.held.resize_with(slot as usize + 1, Held::default);
        }
        self.held[slot as usize] = Held::default();
    }

    /// Ready when a connection that is being opened has been given up.
    pub(super) fn poll_given_up(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        let held = &mut self.held[id.index()];
        if self.ending || held.closing.is_some() {
            return Poll::Ready(());
        }
        held.task = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn on_dialled(&mut self, id: ConnId, result: io::Result<Option<TcpStream>>) {
        self.want_turn();
        let held = &mut self.held[id.index()];
        held.connecting = false;
        held.task = None;
        if self.ending {
            return;
        }
        if held.closing.is_some() {
            return self.try_finish_close(id.slot);
        }
        match result {
            Ok(Some(stream)) => {
                self.open(id, stream);
                self.connections.mark_dirty(id.slot);
            }
            Ok(None) => {}
            Err(error) => self.begin_close(id.slot, Closed::Connect(error)),
        }
    }

    // ---- reading ----

    pub(super) fn receive_fault(&mut self) -> Option<io::Error> {
        self.config.faults.receive()
    }

    pub(super) fn begin_reading(&mut self, id: ConnId) -> Next {
        if self.ending || self.held[id.index()].closing.is_some() {
            return Next::End;
        }
        match self.recv.take() {
            Ok(room) => Next::Read(room),
            Err(error) => {
                self.want_turn();
                self.begin_close(id.slot, Closed::Broken(error));
                Next::End
            }
        }
    }

    #[inline]
    pub(super) fn on_read(&mut self, id: ConnId, result: io::Result<usize>, room: Room) -> Next {
        self.want_turn();
        self.connections.counters.completions += 1;
        if self.ending || self.held[id.index()].closing.is_some() {
            self.recv.hold(room.number, 0);
            return Next::End;
        }
        match result {
            Ok(byte_count @ 1..) => {
                self.on_bytes(id, room.number, byte_count);
                if self.is_to_wait(id.slot, byte_count) { Next::Wait } else { self.begin_reading(id) }
            }
            Ok(0) => {
                self.recv.hold(room.number, 0);
                self.handler.on_end(&mut self.connections, id);
                Next::End
            }
            Err(error) => {
                self.recv.hold(room.number, 0);
                if passes(&error) {
                    return self.begin_reading(id);
                }
                self.begin_close(id.slot, Closed::Broken(error));
                Next::End
            }
        }
    }

    #[inline]
    fn on_bytes(&mut self, id: ConnId, buffer: u32, byte_count: usize) {
        self.connections.counters.receives += 1;
        self.connections.counters.received_bytes += byte_count as u64;
        self.connections.common.current_buffer = buffer;
        self.connections.common.current_uses = 0;
        let memory = self.recv.memory(buffer);
        let received = Received { memory, range: HEADROOM_BYTES..HEADROOM_BYTES + byte_count };
        self.connections.common.current_bytes = received.memory.len();
        self.handler.on_bytes(&mut self.connections, id, received);
        self.connections.common.current_bytes = 0;
        self.recv.hold(buffer, self.connections.common.current_uses);
    }

    /// Whether to read no more for now: because the peer does not read, or because the next bytes will hardly come
    /// before our answer has gone. A read that has to wait is tried twice, and costs more than one that finds
    /// its bytes; begun one pass of the scheduler later it often does.
    #[inline]
    fn is_to_wait(&mut self, slot: u32, byte_count: usize) -> bool {
        let queued_bytes = self.connections.slots[slot as usize].line.outbox.queued_bytes();
        let held = &mut self.held[slot as usize];
        held.paused = held.behind && queued_bytes > self.config.outbox_bytes;
        held.deferred = !held.behind && queued_bytes > 0 && byte_count <= DEFER_BYTES_MAX;
        self.connections.counters.pauses += u64::from(held.paused);
        held.paused || held.deferred
    }

    /// Reads again from a peer that has taken enough of what waited for it.
    #[inline]
    fn steer_reading(&mut self, slot: u32) {
        let held = &mut self.held[slot as usize];
        if held.paused {
            let queued_bytes = self.connections.slots[slot as usize].line.outbox.queued_bytes();
            if queued_bytes <= self.config.outbox_bytes / 2 {
                held.paused = false;
                wake(&mut held.task);
            }
        }
    }

    /// Ready when a connection is to be read from again, or to be closed.
    pub(super) fn poll_resumed(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        let held = &mut self.held[id.index()];
        if self.ending || !(held.paused || held.deferred) || held.closing.is_some() {
            return Poll::Ready(());
        }
        held.task = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn on_reader_ended(&mut self, id: ConnId) {
        let held = &mut self.held[id.index()];
        held.reading = false;
        if held.closing.is_some() && !self.ending {
            self.want_turn();
            self.try_finish_close(id.slot);
        }
    }

    // ---- writing ----

    /// Carries out what was asked of connections since the last turn.
    fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.connections.common.dirty);
        for slot in dirty.drain(..) {
            self.flush(slot);
        }
        // Closing calls the handler, which may have asked for more; keep its list and this one's memory.
        if self.connections.common.dirty.is_empty() {
            self.connections.common.dirty = dirty;
        }
    }

    #[inline]
    fn flush(&mut self, slot: u32) {
        let line = &mut self.connections.slots[slot as usize].line;
        line.dirty = false;
        if !line.in_use {
            return;
        }
        let intent = line.intent;
        let held = &self.held[slot as usize];
        if held.closing.is_some() {
            return;
        }
        if held.connecting {
            // Anything but giving up waits until it can be used.
            if intent == Intent::Abort {
                self.begin_close(slot, Closed::ByUs);
            }
            return;
        }
        if !line.outbox.is_empty() && intent != Intent::Abort {
            if held.writing {
                self.own_output(slot);
            } else {
                self.write(slot);
            }
        } else if intent != Intent::Keep {
            return self.take_down(slot, intent);
        }
        self.steer_reading(slot);
    }

    /// Copies what waits behind a write out of the receive buffers.
    fn own_output(&mut self, slot: u32) {
        let line = &mut self.connections.slots[slot as usize].line;
        line.outbox.own(&mut self.connections.common.pool, |buffer, start, end, out| {
            out.extend_from_slice(&self.recv.memory(buffer)[start as usize..end as usize]);
            self.recv.release(buffer);
        });
    }

    /// Writes the front of the outbox, small pieces joined into one.
    #[inline]
    fn write(&mut self, slot: u32) {
        let pool = &mut self.connections.common.pool;
        let line = &mut self.connections.slots[slot as usize].line;
        if line.outbox.segment_count() > 1 {
            let recv = &mut self.recv;
            line.outbox.join(pool, OUTPUT_JOINED_BYTES, |buffer, start, end, out| {
                out.extend_from_slice(&recv.memory(buffer)[start as usize..end as usize]);
                recv.release(buffer);
            });
        }
        line.outbox.set_in_flight(1);
        self.connections.counters.sends += 1;
        let held = &mut self.held[slot as usize];
        held.writing = true;
        let (address, byte_count) = match line.outbox.iter().next().expect("not empty") {
            Segment::InPlace { buffer, start, end } => {
                (self.recv.address(*buffer, *start).cast_const(), (end - start) as usize)
            }
            Segment::Owned { bytes, start } => (bytes[*start..].as_ptr(), bytes.len() - start),
            Segment::Shared(bytes) => (bytes.as_ptr(), bytes.len()),
        };
        let wanted_bytes = byte_count.min(WRITE_BYTES_MAX);
        let lent_bytes = match self.config.faults.send(wanted_bytes) {
            None => wanted_bytes,
            Some(SendFault::Short(short_bytes)) => short_bytes,
            Some(SendFault::Failed(error)) => return self.on_written(slot, wanted_bytes, Err(error)),
        };
        // SAFETY: a segment in flight stays in its outbox, untouched, until `on_written`; the outbox and the
        // receive buffers outlive the runtime.
        let lent = unsafe { Lent::new(address, lent_bytes) };
        let stream = held.stream.as_ref().expect("what is open has a socket");
        let operation = stream.write(lent).submit();
        self.writes.push(Writing { slot, wanted_bytes, operation, turn: self.turn });
        self.wrote = true;
    }

    /// Ready with the turn that has written last, once it has; with `None` when the engine ends.
    pub(super) fn poll_wrote(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        self.settle_task.clone_from(cx.waker());
        if std::mem::take(&mut self.wrote) {
            Poll::Ready(Some(self.turn))
        } else if self.ending {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// The kernel has tried all writes of the turns up to `turn`: what is not over waits for its peer, and is left
    /// to a task of its own.
    pub(super) fn settle(&mut self, turn: u64) {
        let mut cx = Context::from_waker(TaskWaker::noop());
        let mut index = 0;
        while let Some(write) = self.writes.get_mut(index) {
            match Pin::new(&mut write.operation).poll(&mut cx) {
                Poll::Pending if write.turn > turn => index += 1,
                Poll::Pending => {
                    let write = self.writes.swap_remove(index);
                    self.on_held_up(write);
                }
                Poll::Ready((result, _)) => {
                    let Writing { slot, wanted_bytes, .. } = self.writes.swap_remove(index);
                    self.on_written(slot, wanted_bytes, result);
                }
            }
        }
    }

    #[cold]
    fn on_held_up(&mut self, write: Writing) {
        let held = &mut self.held[write.slot as usize];
        held.behind = true;
        held.counted = !held.cut;
        self.connections.counters.short_sends += u64::from(held.counted);
        held.resume();
        self.start(|world| await_write(world, write));
    }

    #[inline]
    pub(super) fn on_written(&mut self, slot: u32, wanted_bytes: usize, result: io::Result<usize>) {
        self.connections.counters.completions += 1;
        let held = &mut self.held[slot as usize];
        let line = &mut self.connections.slots[slot as usize].line;
        held.writing = false;
        held.resume();
        line.outbox.set_in_flight(0);
        if self.ending {
            return;
        }
        if held.closing.is_some() {
            self.want_turn();
            return self.try_finish_close(slot);
        }
        let byte_count = match result {
            Ok(byte_count) => byte_count,
            Err(error) if passes(&error) => 0,
            Err(error) => {
                self.want_turn();
                return self.begin_close(slot, Closed::Broken(error));
            }
        };
        line.progressed |= held.behind && byte_count > 0;
        let (recv, pool) = (&mut self.recv, &mut self.connections.common.pool);
        line.outbox.advance(pool, byte_count, |pool, segment| match segment {
            Segment::InPlace { buffer, .. } => recv.release(buffer),
            Segment::Owned { bytes, .. } => pool.put(bytes),
            Segment::Shared(_) => {}
        });
        self.connections.counters.sent_bytes += byte_count as u64;
        held.cut = byte_count < wanted_bytes;
        let counted = std::mem::take(&mut held.counted);
        if held.cut {
            self.connections.counters.short_sends += u64::from(!counted);
            held.behind = true;
        }
        if held.behind || !line.outbox.is_empty() || line.intent != Intent::Keep {
            self.want_turn();
            self.connections.mark_dirty(slot);
            self.tell_writable(slot);
        }
    }

    /// Tells the handler once a peer that kept output waiting has taken all of it.
    fn tell_writable(&mut self, slot: u32) {
        let held = &mut self.held[slot as usize];
        if held.behind && self.connections.slots[slot as usize].line.outbox.is_empty() {
            held.behind = false;
            let id = self.connections.id_at(slot);
            self.handler.on_writable(&mut self.connections, id);
        }
    }

    // ---- taking down ----

    #[cold]
    fn take_down(&mut self, slot: u32, intent: Intent) {
        let held = &mut self.held[slot as usize];
        match intent {
            Intent::Keep => {}
            Intent::ShutDown => {
                if let Some(stream) = held.stream.as_ref().filter(|_| !held.shut_down) {
                    // It fails where the peer has reset, of which the read tells.
                    let _ = stream.shutdown(Shutdown::Write);
                }
                held.shut_down = true;
                self.steer_reading(slot);
            }
            Intent::Close | Intent::Abort => self.begin_close(slot, Closed::ByUs),
        }
    }

    fn begin_close(&mut self, slot: u32, why: Closed) {
        let held = &mut self.held[slot as usize];
        if held.closing.is_some() {
            return;
        }
        held.closing = Some(why);
        if let Some(stream) = held.stream.as_ref().filter(|_| held.reading || held.writing) {
            // What is under way cannot be cancelled, but does not outlast this. Not connected any more is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
        wake(&mut held.task);
        self.try_finish_close(slot);
    }

    fn try_finish_close(&mut self, slot: u32) {
        let held = &self.held[slot as usize];
        if !held.reading && !held.writing && !held.connecting {
            self.finish_close(slot);
        }
    }

    /// Gives the slot up; nothing is under way on it.
    fn finish_close(&mut self, slot: u32) {
        let (recv, pool) = (&mut self.recv, &mut self.connections.common.pool);
        let outbox = &mut self.connections.slots[slot as usize].line.outbox;
        while let Some(segment) = outbox.pop(pool) {
            match segment {
                Segment::InPlace { buffer, .. } => recv.release(buffer),
                Segment::Owned { bytes, .. } => pool.put(bytes),
                Segment::Shared(_) => {}
            }
        }
        let Held { closing, .. } = std::mem::take(&mut self.held[slot as usize]);
        let conn = self.connections.remove(slot);
        if slot < self.config.connections_max {
            self.connections.free.push(slot);
            // There is a place, and a descriptor, for one that waits.
            self.accept_again_ns = 0;
        } else {
            // Never usable, so the last to be taken.
            self.connections.free.insert(0, slot);
        }
        if let Some(conn) = conn {
            self.handler.on_closed(&mut self.connections, conn, closing.unwrap_or(Closed::ByUs));
        }
    }
}

/// Whether it is over when it is tried again.
fn passes(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR))
}

fn wake(task: &mut Option<TaskWaker>) {
    if let Some(task) = task.take() {
        task.wake();
    }
}
