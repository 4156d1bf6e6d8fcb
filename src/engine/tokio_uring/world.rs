//! What the tasks of a thread share: the handler, its connections, and what is under way on each.
//!
//! Tasks borrow it between their awaits, never over one. It wakes them and starts them, but is itself only told:
//! every `on_*` comes from a task whose operation has completed.

mod closing;
mod opening;
mod reading;
mod writing;

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker as TaskWaker};

use ::tokio_uring::net::TcpStream;
use ::tokio_uring::{InFlightOneshot, WriteData, WriteTransform};
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

use super::memory::{Lent, RecvBuffers, Room};
use super::{End, spawn_counted};
use crate::engine::{Closed, Config, Connections, Handler, Waker, clock_ns};

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

/// What one connection takes here, beside its task.
pub(in crate::engine) const HELD_BYTES: usize = size_of::<Held>();

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

    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    pub(super) fn on_woken(&mut self) {
        self.want_turn();
        self.connections.counters.completions += 1;
        if !self.ending {
            self.handler.on_wake(&mut self.connections);
        }
    }

    pub(super) fn on_timer_fired(&mut self) {
        self.want_turn();
        self.connections.counters.completions += 1;
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
