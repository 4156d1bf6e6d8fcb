//! The raw io_uring engine (Linux 5.19 and newer; at its best from 6.1 on).
//!
//! A turn of the loop: everything queued is submitted and waited on in one system call; then sends are
//! settled, then arrivals handed to the handler, which queues the next turn's output.
//!
//! **Sends never wait.** Each is issued with `MSG_DONTWAIT | MSG_WAITALL` and completes inside the system call
//! that submits it: wholly, and then without a completion (`CQE_SKIP_SUCCESS`), or with one that says how far
//! it got. So when the call returns, every send without a completion is done, and receive buffers that were
//! sent from are free: this is sound because such a request is never parked (`REQ_F_NOWAIT`), and because a
//! short send counts as failed under `MSG_WAITALL` and thus always completes visibly. Only when the peer's
//! window is full is the rest copied out of the receive buffers and sent by a request that does wait.
//!
//! **Silence is doubted.** A multishot receive may have missed its connection's end; see `sweep`.
//!
//! Invariants: at most one send is in flight per connection; a slot is given up only when the kernel holds
//! nothing of it any more; completions of a turn's sends are all read before any arrival is handled.
//!
//! All of this is what Linux 6.1 offers. [`Features`] can be taken away one by one, and the engine then does what
//! is next best: single-shot accepts and receives, buffers lent one by one, ordinary descriptors, sends that
//! complete visibly.

mod accept;
mod buffers;
mod close;
mod features;
mod ring;
mod send;
mod submit;
mod sweep;
mod tag;
mod zero_copy;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use io_uring::{CompletionQueue, SubmissionQueue, Submitter, cqueue, opcode, squeue, types};

use super::{Closed, Config, ConnId, Connections, EngineError, Handler, Intent, Slot, Waker, clock_ns, ktls};
use crate::limits::LARGE_RECV_BYTES;
use accept::Caller;
use buffers::RecvBuffers;
pub(super) use features::REQUIRED;
pub use features::{Features, Switch, Switches, SwitchesError};
pub(super) use ring::explain_set_up;
use send::{Flight, Gather};
use sweep::Sweep;
use tag::Op;
use zero_copy::Parked;

/// What `--engine` and result files call it.
pub const NAME: &str = "uring";

/// Gathering sends that are made ready at the start; a turn that needs more makes more.
const GATHERS_AT_FIRST: usize = 32;

/// Runs `handler` on this thread until it calls [`Connections::stop`], and gives it back.
///
/// `ready` is called once the ring is set up, before anything is accepted.
///
/// # Errors
/// The ring could not be set up, or entering it failed; every connection is lost then.
pub fn run<H: Handler>(
    mut config: Config,
    waker: &Waker,
    handler: H,
    ready: impl FnOnce(),
) -> Result<H, EngineError> {
    if config.peer_addresses {
        config.uring = config.uring.with_peer_addresses();
    }
    if config.kernel_tls {
        config.uring = config.uring.for_kernel_tls();
    }
    let mut ring = ring::set_up(&config)?;
    if let Some(busy_poll_us) = config.uring.napi_us() {
        ring::register_napi(&ring, busy_poll_us)?;
    }
    let (mut submitter, sq, cq) = ring.split();
    let features = config.uring.clone();
    ring::register(&mut submitter, &config)?;
    let recv = if features.has(Switch::BufferRing) {
        RecvBuffers::register(&submitter, config.recv_buffers, config.recv_buffer_bytes)
    } else {
        // Each connection's receive holds one while it waits.
        let count = config.connections_max.saturating_add(config.recv_buffers.into());
        RecvBuffers::single(count, config.recv_buffer_bytes)
    };
    let recv = recv.map_err(EngineError::io("registering receive buffers"))?;
    let (handler, memory, result) = {
        let mut engine = Uring {
            connections: Connections::with_capacity(config.connections_max),
            held: Vec::with_capacity(config.connections_max as usize),
            submitter,
            sq,
            cq,
            recv,
            socket_flags: ring::socket_flags(&features),
            send_entry_flags: ring::send_entry_flags(&features),
            send_flags: ring::send_flags(&features),
            zero_copy_bytes: features.zero_copy_bytes().unwrap_or(usize::MAX),
            zero_copy_flags: zero_copy::REPORT_USAGE,
            handler,
            waker: waker.clone(),
            wake_count: Box::new(0),
            caller: Box::default(),
            accept_again_ns: Some(0),
            accepts: config.listener.is_some(),
            timer_ns: None,
            timer_at: Box::new(types::Timespec::new()),
            completions: Vec::with_capacity(config.cq_entries as usize),
            flights: Vec::new(),
            sends_submitted: 0,
            sends_completed: 0,
            parked: Vec::new(),
            parked_in_place_count: 0,
            parking: Vec::new(),
            bundle: Vec::new(),
            features,
            gathers: std::iter::repeat_with(|| Box::new(Gather::new())).take(GATHERS_AT_FIRST).collect(),
            gathers_used: 0,
            connect_addresses: Vec::new(),
            freed: Vec::new(),
            failed: None,
            more_to_do: false,
            starved_count: 0,
            starved: VecDeque::new(),
            starved_again: 0,
            receives_large: false,
            received_before: (0, 0),
            sweep: Sweep::default(),
            config,
        };
        engine.arm_wake();
        ready();
        let result = engine.run().and_then(|()| engine.quiesce());
        let memory = (engine.recv, engine.connections, engine.wake_count, engine.parked, engine.caller);
        (engine.handler, memory, result)
    };
    if let Err(error) = result {
        // What is under way may still be written to, for as long as the kernel likes.
        std::mem::forget(memory);
        return Err(EngineError::io("io_uring_enter")(error));
    }
    Ok(handler)
}

/// What the kernel holds of a connection.
#[derive(Default)]
struct Held {
    recv_armed: bool,
    /// The receive waits for its turn to take a buffer.
    starved: bool,
    /// It had its turn, and has brought nothing since.
    had_turn_in_vain: bool,
    /// A cancel of the receive is under way.
    recv_cancelled: bool,
    /// Not receiving, because the peer does not read.
    paused: bool,
    /// The peer has sent its FIN.
    ended: bool,
    connecting: bool,
    /// A send waits for a slow peer.
    slow_send: bool,
    /// The peer kept output waiting, and not all of it has been sent yet.
    behind: bool,
    /// Once the multishot receive has brought something: how many sweeps from now it is to be doubted.
    sweeps_to_silence: u8,
    shut_down: bool,
    /// The kernel has yet to carry the shutdown out.
    shutting_down: bool,
    /// Being closed.
    closing: bool,
    /// Why, unless it is by us.
    why: Option<Box<Closed>>,
    /// Where in `flights` this turn's send is.
    flight: u32,
    /// What operations call its socket: the number of a direct descriptor, or of an ordinary one.
    socket: i32,
    /// Its ordinary descriptor.
    descriptor: Option<OwnedFd>,
    /// The buffer that was lent with its receive, where there is no ring of them.
    buffer: u32,
}

/// What one connection takes here.
pub(super) const HELD_BYTES: usize = size_of::<Held>();

impl Held {
    /// Being closed from now on.
    fn close_for(&mut self, why: Closed) {
        self.closing = true;
        self.why = (!matches!(why, Closed::ByUs)).then(|| Box::new(why));
    }

    /// It is closed: why?
    fn take_why(&mut self) -> Closed {
        self.closing = false;
        self.why.take().map_or(Closed::ByUs, |why| *why)
    }
}

struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

struct Uring<'r, H: Handler> {
    submitter: Submitter<'r>,
    sq: SubmissionQueue<'r>,
    cq: CompletionQueue<'r>,
    recv: RecvBuffers,
    features: Features,
    /// Says of every operation on a socket which kind of descriptor it is given.
    socket_flags: squeue::Flags,
    /// The same for sends that never wait, and whether those complete visibly.
    send_entry_flags: squeue::Flags,
    /// `send(2)`'s flags of such a send.
    send_flags: i32,
    /// From this size on, sends are made without copy; [`usize::MAX`]: never.
    zero_copy_bytes: usize,
    /// Flags of such a send.
    zero_copy_flags: u16,
    config: Config,
    handler: H,
    connections: Connections<H::Conn>,
    held: Vec<Held>,
    waker: Waker,
    /// What the eventfd's read writes to.
    wake_count: Box<u64>,
    /// Where the kernel writes whose connection was accepted.
    caller: Box<Caller>,
    /// When to arm the accept; `None` while it is armed.
    accept_again_ns: Option<u64>,
    /// Connections come from a listener.
    accepts: bool,
    /// The earliest timeout that is armed. It stays armed over many turns, where a time limit on each wait
    /// would cost every one of them.
    timer_ns: Option<u64>,
    /// Read by the kernel when the timeout is submitted.
    timer_at: Box<types::Timespec>,
    completions: Vec<Completion>,
    flights: Vec<Flight>,
    /// Sends of this turn that complete visibly, and how many have: all have, when their turn is over.
    sends_submitted: usize,
    sends_completed: usize,
    /// What zero-copy sends read from, until the kernel says that it doesn't any more.
    parked: Vec<Option<Parked>>,
    /// How many of them lie in receive buffers.
    parked_in_place_count: u32,
    /// Free places among them.
    parking: Vec<u32>,
    /// The buffers of the bundle that is being handled.
    bundle: Vec<u32>,
    #[expect(clippy::vec_box, reason = "the kernel is given their addresses")]
    gathers: Vec<Box<Gather>>,
    gathers_used: usize,
    /// Read by the kernel when the connects of this turn are submitted.
    #[expect(clippy::vec_box, reason = "the kernel is given their addresses")]
    connect_addresses: Vec<Box<socket2::SockAddr>>,
    /// Slots whose close has yet to be submitted.
    freed: Vec<u32>,
    /// Submitting failed for a reason that will not go away.
    failed: Option<io::Error>,
    /// The next turn has work already: don't wait.
    more_to_do: bool,
    /// Receives that were ended in this turn by want of a buffer.
    starved_count: u32,
    /// Connections whose receive was, first come first served.
    starved: VecDeque<ConnId>,
    /// How many of the first of them have been there before, since they last had their turn.
    starved_again: usize,
    /// What is received comes in large pieces of late.
    receives_large: bool,
    /// Bytes and receives counted when that was last looked at.
    received_before: (u64, u64),
    /// Of connections that may have ended without a word.
    sweep: Sweep,
}

impl<H: Handler> Uring<'_, H> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let turn_by = self.handler.on_turn(&mut self.connections);
            let closed_before = self.connections.counters.closed;
            self.open_connections();
            self.flush_dirty();
            // A handler that was told of an end after its turn may have more to do, such as to connect again.
            self.more_to_do |= self.connections.counters.closed != closed_before;
            if self.connections.common.stopping {
                // What was queued in this turn still goes out.
                self.more_to_do = true;
                return self.enter(None);
            }
            let again_by = self.arm_accept();
            self.sweep_in_time();
            self.arm_timer();
            self.size_pool();
            self.recv.publish();
            self.arm_starved();
            self.enter(turn_by.into_iter().chain(again_by).min())?;
            self.settle_sends();
            self.dispatch();
            self.connections.run_timers(&mut self.handler);
        }
    }

    /// Ends everything that is under way, so that the kernel reads and writes our memory no more. What zero-copy sends
    /// read stays allocated through the kernel's own references to it.
    fn quiesce(&mut self) -> io::Result<()> {
        loop {
            let all = types::CancelBuilder::any().all();
            self.push(&opcode::AsyncCancel2::new(all).build().user_data(tag::pack_alone(Op::CancelAll)));
            let cancelled = loop {
                self.enter(None)?;
                let mut cancelled = None;
                for completion in std::mem::take(&mut self.completions) {
                    match tag::unpack(completion.user_data).0 {
                        Op::CancelAll => cancelled = Some(completion.result),
                        Op::Accept if completion.result >= 0 && self.socket_flags.is_empty() => {
                            // SAFETY: the kernel made this descriptor for us just now; nothing else owns it.
                            drop(unsafe { OwnedFd::from_raw_fd(completion.result) });
                        }
                        _ => {}
                    }
                }
                if let Some(cancelled) = cancelled {
                    break cancelled;
                }
            };
            (self.sends_submitted, self.sends_completed) = (0, 0);
            // What is being worked on by a thread of the kernel cannot be cancelled, and is found again.
            if cancelled <= 0 && cancelled != -libc::EALREADY {
                break;
            }
        }
        if self.features.has(Switch::RegisteredRing) {
            // The registered number would keep the ring, and with it every socket, until the thread ends.
            self.submitter.unregister_ring_fd()?;
        }
        Ok(())
    }

    /// Carries out what was asked of connections since the last turn.
    fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.connections.common.dirty);
        for slot in dirty.drain(..) {
            self.flush(slot);
        }
        self.more_to_do |= self.connections.return_dirty(dirty);
    }

    #[inline]
    fn flush(&mut self, slot: u32) {
        let Slot { line, conn } = &mut self.connections.slots[slot as usize];
        line.dirty = false;
        if conn.is_none() {
            return;
        }
        let intent = line.intent;
        let state = &self.held[slot as usize];
        if state.closing {
            return;
        }
        if state.connecting {
            // Anything but giving up waits until it can be used.
            if intent == Intent::Abort {
                self.begin_close(slot, Closed::ByUs);
            }
            return;
        }
        if !line.outbox.is_empty() && intent != Intent::Abort {
            if state.slow_send {
                self.own_output(slot);
                self.connections.note_waiting(slot);
            } else {
                self.send(slot);
            }
        } else if intent != Intent::Keep {
            return self.take_down(slot, intent);
        }
        self.steer_recv(slot);
    }

    /// Receives from a peer that reads, and stops for one that does not, or that the handler holds.
    #[inline]
    pub(super) fn steer_recv(&mut self, slot: u32) {
        let line = &self.connections.slots[slot as usize].line;
        let state = &mut self.held[slot as usize];
        if line.holds != 0 || (state.slow_send && self.connections.is_too_much_waiting(slot, &self.config)) {
            if !state.paused {
                state.paused = true;
                self.connections.count_pause(slot, &self.config);
                if state.recv_armed && !state.recv_cancelled {
                    state.recv_cancelled = true;
                    self.cancel(Op::Recv, self.connections.id_at(slot));
                }
            }
            if self.connections.slots[slot as usize].line.wants_quiet() && !self.hand_to_kernel(slot) {
                return;
            }
        } else if state.paused && (!state.behind || self.connections.is_little_waiting(slot, &self.config)) {
            // What goes to a peer that is not behind tells of its end to nobody.
            state.paused = false;
        }
        let state = &self.held[slot as usize];
        if !state.recv_armed && !state.starved && !state.paused && !state.ended {
            self.connections.counters.recv_rearms += u64::from(self.starved.is_empty());
            self.begin_recv(self.connections.id_at(slot));
        }
    }

    /// Gives the connection to the kernel's TLS, if this is the moment: the receive that was cancelled has ended, and everything
    /// has been sent. Whether the connection is still there.
    #[cold]
    fn hand_to_kernel(&mut self, slot: u32) -> bool {
        let (state, id) = (&self.held[slot as usize], self.connections.id_at(slot));
        if state.recv_armed || state.slow_send {
            // Whose end has it looked at again.
            return true;
        }
        let Some(socket) = state.descriptor.as_ref() else { return true };
        if !self.connections.slots[slot as usize].line.outbox.is_empty() {
            // It goes out in this turn, and no completion tells.
            self.connections.mark_dirty(slot);
            return true;
        }
        match ktls::hand_over(&mut self.handler, &mut self.connections, id, socket.as_fd()) {
            Ok(_) => {
                self.held[slot as usize].paused = self.connections.slots[slot as usize].line.holds != 0;
                true
            }
            Err(why) => {
                self.begin_close(slot, why);
                false
            }
        }
    }

    /// Enters the kernel until something completes or `deadline_ns` has come.
    fn enter(&mut self, deadline_ns: Option<u64>) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        // Completions may have been fetched already, to make room while submitting.
        let mut wait = !std::mem::take(&mut self.more_to_do) && self.completions.is_empty();
        let mut timeout_ns = None;
        if let Some(deadline_ns) = deadline_ns.filter(|_| wait) {
            let left_ns = deadline_ns.saturating_sub(clock_ns());
            wait = left_ns > 0;
            timeout_ns = wait.then_some(left_ns);
        }
        loop {
            if self.features.has(Switch::SqPoll) {
                self.hand_over()?;
            }
            self.sq.sync();
            ring::enter(&self.submitter, self.sq.len(), wait, timeout_ns)?;
            self.connections.counters.enters += 1;
            self.sq.sync();
            self.fetch_completions();
            // Rarely, the kernel leaves entries for want of memory, or completions for want of room: what
            // the turn's sends came to is known only when both are worked off.
            let overflowed = self.sq.cq_overflow();
            self.connections.counters.cq_overflows += u64::from(overflowed);
            if self.sq.is_empty() && !overflowed && self.sends_completed == self.sends_submitted {
                break;
            }
            wait = false;
            timeout_ns = None;
        }
        self.connections.common.now_ns = clock_ns();
        self.connect_addresses.clear();
        for slot in self.freed.drain(..) {
            self.connections.free_slot(slot, self.config.connections_max);
        }
        Ok(())
    }

    /// Waits until the submitting kernel thread has taken everything: what entries point to is ours again then.
    fn hand_over(&mut self) -> io::Result<()> {
        loop {
            self.sq.sync();
            if self.sq.is_empty() {
                return Ok(());
            }
            if self.sq.need_wakeup() {
                ring::wake_submitter(&self.submitter)?;
            }
            // It may have to share this CPU.
            std::thread::yield_now();
        }
    }

    fn fetch_completions(&mut self) {
        self.cq.sync();
        let before = self.completions.len();
        self.completions.extend(self.cq.by_ref().map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        self.cq.sync();
        if self.sends_submitted > 0 {
            let sends_report = !self.features.has(Switch::SkippedCompletions);
            let is_send = |completion: &&Completion| match tag::unpack(completion.user_data).0 {
                Op::Send => sends_report,
                Op::ZeroCopy => !cqueue::notif(completion.flags),
                _ => false,
            };
            self.sends_completed += self.completions[before..].iter().filter(is_send).count();
        }
    }

    fn dispatch(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            let (op, id) = tag::unpack(completion.user_data);
            match op {
                Op::Recv => self.on_recv(id, completion.result, completion.flags),
                Op::Accept => self.on_accept(completion.result, completion.flags),
                Op::Connect => self.on_connect(id, completion.result),
                Op::SlowSend => self.on_slow_send(id, completion.result),
                Op::ZeroCopy if cqueue::notif(completion.flags) => {
                    self.on_zero_copy_over(id.slot, completion.result);
                }
                Op::Shutdown => self.on_shutdown(id),
                Op::Wake => {
                    self.arm_wake();
                    self.handler.on_wake(&mut self.connections);
                }
                Op::Timer => {
                    let now_ns = self.connections.common.now_ns;
                    self.timer_ns = self.timer_ns.filter(|&armed_ns| armed_ns > now_ns);
                }
                // Sends are settled by now; of the others there is nothing to know.
                Op::Send | Op::ZeroCopy | Op::CancelAll | Op::Forget => {}
            }
        }
        // Those fetched meanwhile, to make room while submitting, are for the next turn.
        completions.append(&mut self.completions);
        self.completions = completions;
    }

    #[inline]
    fn on_recv(&mut self, id: ConnId, result: i32, flags: u32) {
        let state = &mut self.held[id.index()];
        let buffer = match self.features.has(Switch::BufferRing) {
            true => cqueue::buffer_select(flags).map(u32::from),
            false => Some(state.buffer),
        };
        let was_heard = state.sweeps_to_silence > 0;
        state.sweeps_to_silence = sweep::SWEEPS_TO_SILENCE;
        if !cqueue::more(flags) {
            state.recv_armed = false;
            state.recv_cancelled = false;
            state.sweeps_to_silence = 0;
            state.had_turn_in_vain &= !was_heard && result <= 0;
            // Begun again, if it is to be, when the connection is flushed.
            self.connections.mark_dirty(id.slot);
        }
        if state.closing {
            if let Some(buffer) = buffer {
                self.return_unread(buffer, result);
            }
            return self.try_finish_close(id.slot);
        }
        match (result, buffer) {
            (1.., Some(buffer)) if result as usize > self.recv.buffer_bytes() => {
                self.on_bundle(id, buffer, result as usize);
            }
            (1.., Some(buffer)) => self.on_bytes(id, buffer, result as usize),
            (_, Some(buffer)) => {
                self.recv.hold(buffer, 0);
                self.on_recv_end(id, result);
            }
            (_, None) => self.on_recv_end(id, result),
        }
    }

    /// Bytes that fill several buffers, one after the other.
    fn on_bundle(&mut self, id: ConnId, first: u32, mut byte_count: usize) {
        let buffers = self.name_bundle(first, byte_count);
        for &buffer in &buffers {
            let in_this = byte_count.min(self.recv.buffer_bytes());
            self.on_bytes(id, buffer, in_this);
            byte_count -= in_this;
        }
        self.bundle = buffers;
    }

    /// The buffers of a bundle, found before any is given back, which could take another's place in the ring.
    fn name_bundle(&mut self, first: u32, byte_count: usize) -> Vec<u32> {
        let mut buffers = std::mem::take(&mut self.bundle);
        buffers.clear();
        buffers.push(first);
        while buffers.len() * self.recv.buffer_bytes() < byte_count {
            buffers.push(self.recv.following(*buffers.last().expect("the first")));
        }
        buffers
    }

    /// Has as many receive buffers circulate as the load is best served with.
    ///
    /// Large pieces are better off waiting for a buffer that is still in cache than filling one more: 64 KiB to each of
    /// 64 connections took a third more CPU time with 64 buffers than with 8.
    fn size_pool(&mut self) {
        const RECEIVES: u64 = 256;
        if !self.features.has(Switch::BufferRing) {
            // Receives hold their buffers while they wait: there are as many as are armed.
            return;
        }
        let counters = &self.connections.counters;
        let (bytes_before, receives_before) = self.received_before;
        let receives = counters.receives - receives_before;
        if receives >= RECEIVES {
            self.receives_large = counters.received_bytes - bytes_before >= receives * LARGE_RECV_BYTES;
            self.received_before = (counters.received_bytes, counters.receives);
            if self.receives_large {
                self.recv.shrink();
            }
        }
        // Once a turn, so that no more circulate than are needed. One connection alone needs no more: it goes on with
        // those that come back.
        if std::mem::take(&mut self.starved_count) > 1 && !self.receives_large {
            self.recv.grow();
        }
    }

    /// What was received is not wanted.
    #[cold]
    fn return_unread(&mut self, buffer: u32, result: i32) {
        let buffers = self.name_bundle(buffer, result.max(0) as usize);
        buffers.iter().for_each(|&buffer| self.recv.hold(buffer, 0));
        self.bundle = buffers;
    }

    #[inline]
    fn on_bytes(&mut self, id: ConnId, buffer: u32, byte_count: usize) {
        let memory = self.recv.memory(buffer);
        let uses = self.connections.deliver(&mut self.handler, id, buffer, memory, byte_count);
        self.recv.hold(buffer, uses);
    }

    #[cold]
    fn on_recv_end(&mut self, id: ConnId, result: i32) {
        match -result {
            0 => {
                self.held[id.index()].ended = true;
                self.handler.on_end(&mut self.connections, id);
            }
            libc::ENOBUFS => {
                self.connections.counters.no_buffers += 1;
                self.starved_count += 1;
                self.starve(id);
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            error => {
                let (handler, connections) = (&mut self.handler, &mut self.connections);
                let done = match &self.held[id.index()].descriptor {
                    Some(socket) => ktls::on_failed_receive(handler, connections, id, socket.as_fd(), error),
                    None => Err(Closed::Broken(io::Error::from_raw_os_error(error))),
                };
                if let Err(why) = done {
                    self.begin_close(id.slot, why);
                }
            }
        }
    }

    fn on_connect(&mut self, id: ConnId, result: i32) {
        let state = &mut self.held[id.index()];
        state.connecting = false;
        if state.closing {
            self.try_finish_close(id.slot);
        } else if result < 0 {
            self.begin_close(id.slot, Closed::Connect(io::Error::from_raw_os_error(-result)));
        } else {
            self.begin_recv(id);
            self.handler.on_open(&mut self.connections, id);
            self.connections.mark_dirty(id.slot);
        }
    }

    #[cold]
    fn on_shutdown(&mut self, id: ConnId) {
        let state = &mut self.held[id.index()];
        state.shutting_down = false;
        if state.closing {
            self.try_finish_close(id.slot);
        } else {
            // If it was room that was waited for, it goes on.
            self.connections.mark_dirty(id.slot);
        }
    }
}
