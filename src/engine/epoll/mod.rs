//! The epoll engine: the baseline everybody knows, written as a good epoll server is (any Linux since 2.6.28).
//!
//! A turn of the loop: one wait fetches what happened; each connection that has bytes is received from into the
//! thread's one buffer, the handler answers in that buffer, and the answer is sent from it at once. So a
//! message costs a receive, a send and its share of a wait, and the bytes stay in cache between the three.
//! What was queued otherwise leaves at the end of the turn, one send for each connection.
//!
//! **Edge-triggered**, each socket registered once: see [`poll`]. An edge sets `readable`, which stays until a
//! receive finds less than there was room for; what a turn leaves of it, because the peer sends without end or is
//! paused, is taken up by a later one. A send that falls short makes the kernel tell when there is room again;
//! one that failed for another reason is tried again in the next turn.
//!
//! Invariants: the receive buffer is not received into while a queued segment refers to it (what cannot be
//! sent is copied out first); a connection on which a send fell short is not sent on before its room is told;
//! events for a connection that was closed in the same turn are recognised by their generation; no handler is
//! called from within another's call.
//!
//! Of the [`Counters`](super::Counters) `enters` counts waits and `completions` events; `no_buffers`,
//! `cq_overflows`, `recv_rearms` and `accept_rearms` are a ring's and stay 0.

mod arrivals;
mod buffer;
mod poll;
mod sending;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{Event, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, SocketFlags, accept_with, acceptfrom_with, recv, shutdown, sockopt};

use super::{
    BufferPool, Closed, Config, ConnId, Connections, EngineError, Handler, Intent, Route, Segment, Slot,
    Waker, clock_ns, ktls, socket,
};
use crate::limits::ACCEPT_PAUSE_NS;
use arrivals::Arrivals;
pub(super) use arrivals::try_out as try_kernel_timestamps;
use buffer::RecvBuffer;
use poll::{Poll, Source, TO_THE_END};
use sending::{Sent, send_front, send_with_fault};

/// What `--engine` and result files call it.
pub const NAME: &str = "epoll";

/// What of epoll it uses, for the record.
pub const FEATURES: [&str; 2] = ["edge-triggered", "one receive buffer"];

/// The same where [`Config::kernel_timestamps`] is set.
pub const KERNEL_TIMESTAMPS: &str = "kernel timestamps";

/// Connections let in before those that are there are looked at again.
const ACCEPTS_PER_TURN: usize = 64;
/// Receives from one connection before the others are looked at again.
const RECEIVES_PER_TURN: usize = 4;

/// Runs `handler` on this thread until it calls [`Connections::stop`], and gives it back.
///
/// `ready` is called once the epoll instance is set up, before anything is accepted.
///
/// # Errors
/// The instance could not be set up, or waiting failed; every connection is lost then.
pub fn run<H: Handler>(
    config: Config,
    waker: &Waker,
    handler: H,
    ready: impl FnOnce(),
) -> Result<H, EngineError> {
    let poll = Poll::new(waker)?;
    if let Some(listener) = &config.listener {
        let set_up = listener.set_nonblocking(true).and_then(|()| poll.add_listener(listener));
        set_up.map_err(EngineError::io("epoll_ctl, for the listener"))?;
    }
    let buffer =
        RecvBuffer::new(config.recv_buffer_bytes).map_err(EngineError::io("mapping the receive buffer"))?;
    let mut connections = Connections::with_capacity(config.connections_max);
    connections.common.receives_within_turns = true;
    let mut engine = Epoll {
        connections,
        links: Vec::with_capacity(config.connections_max as usize),
        poll,
        buffer,
        handler,
        events: Vec::new(),
        accept_again_ns: None,
        unread: Vec::new(),
        unread_before: Vec::new(),
        more_to_do: false,
        arrivals: config.kernel_timestamps.then(Arrivals::new),
        config,
    };
    ready();
    engine.run().map_err(EngineError::io("epoll_pwait2"))?;
    Ok(engine.handler)
}

/// A connection's socket and how things stand with it.
struct Link {
    socket: Option<OwnedFd>,
    /// Not yet usable, whether there is a socket already or not.
    connecting: bool,
    /// There may be something to receive.
    readable: bool,
    /// A receive that is cut short does not mean that nothing is left.
    to_the_end: bool,
    /// Records are opened by the kernel: a receive is cut short by one without data, of which no edge tells.
    kernel_tls: bool,
    /// On the list of those to receive from in the next turn.
    listed: bool,
    /// Not receiving, because the peer does not read.
    paused: bool,
    /// The peer has sent its FIN.
    ended: bool,
    /// A send fell short; the kernel will tell when there is room.
    waiting: bool,
    /// The peer kept output waiting, and not all of it has been sent yet.
    behind: bool,
    shut_down: bool,
}

/// What one connection takes here.
pub(super) const LINK_BYTES: usize = size_of::<Link>();

impl Link {
    const UNOPENED: Self = Self {
        socket: None,
        connecting: true,
        readable: false,
        to_the_end: false,
        kernel_tls: false,
        listed: false,
        paused: false,
        ended: false,
        waiting: false,
        behind: false,
        shut_down: false,
    };
}

struct Epoll<H: Handler> {
    poll: Poll,
    buffer: RecvBuffer,
    config: Config,
    handler: H,
    connections: Connections<H::Conn>,
    links: Vec<Link>,
    events: Vec<Event>,
    /// When to accept from the listener, which may have something; `None`: when it is told to.
    accept_again_ns: Option<u64>,
    /// Connections that a turn left something to receive of.
    unread: Vec<ConnId>,
    /// Those of the turn before, while they are gone through.
    unread_before: Vec<ConnId>,
    /// The next turn has work already: don't wait.
    more_to_do: bool,
    /// Receives so as to learn when the kernel did.
    arrivals: Option<Arrivals>,
}

impl<H: Handler> Epoll<H> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let turn_by = self.handler.on_turn(&mut self.connections);
            let closed_before = self.connections.counters.closed;
            self.open_connections();
            self.flush_dirty();
            // A handler that was told of an end after its turn may have more to do, such as to connect again.
            self.more_to_do |= self.connections.counters.closed != closed_before;
            if self.connections.common.stopping {
                return Ok(());
            }
            if !self.connections.common.accepting {
                // Closed, and with it forgotten by epoll.
                self.config.listener = None;
                self.accept_again_ns = None;
            }
            self.wait(turn_by)?;
            self.dispatch();
            self.accept();
            self.connections.run_timers(&mut self.handler);
        }
    }

    fn wait(&mut self, turn_by: Option<u64>) -> io::Result<()> {
        if let Some(next_ns) = self.connections.common.timers.next_ns() {
            self.poll.arm_timer(next_ns);
        }
        let deadline_ns = turn_by.into_iter().chain(self.accept_again_ns).min();
        let is_busy = std::mem::take(&mut self.more_to_do) || !self.unread.is_empty();
        self.poll.wait(&mut self.events, is_busy, deadline_ns)?;
        self.connections.common.now_ns = clock_ns();
        self.connections.counters.enters += 1;
        self.connections.counters.completions += self.events.len() as u64;
        Ok(())
    }

    // ---- events ----

    fn dispatch(&mut self) {
        // Those that had their share in the last turn come after those that wait.
        std::mem::swap(&mut self.unread, &mut self.unread_before);
        let events = std::mem::take(&mut self.events);
        for event in &events {
            match poll::source(event) {
                Source::Connection(id) => self.on_event(id, event.flags),
                Source::Listener => drop(self.accept_again_ns.get_or_insert(0)),
                Source::Waker => self.handler.on_wake(&mut self.connections),
                Source::Timer => self.poll.timer_went_off(self.connections.common.now_ns),
            }
        }
        self.events = events;
        let mut unread = std::mem::take(&mut self.unread_before);
        for id in unread.drain(..) {
            if self.is_there(id) {
                self.links[id.index()].listed = false;
                self.receive(id);
            }
        }
        self.unread_before = unread;
    }

    #[inline]
    fn is_there(&self, id: ConnId) -> bool {
        self.connections.slots[id.index()].line.generation == id.generation
    }

    #[inline]
    fn on_event(&mut self, id: ConnId, flags: EventFlags) {
        if !self.is_there(id) {
            return;
        }
        if self.links[id.index()].connecting && !self.on_connect(id) {
            return;
        }
        let link = &mut self.links[id.index()];
        if flags.intersects(EventFlags::IN.union(TO_THE_END)) {
            link.readable = true;
            link.to_the_end |= flags.intersects(TO_THE_END);
        }
        if link.waiting && flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.on_room(id);
            if !self.is_there(id) {
                return;
            }
        }
        self.receive(id);
    }

    /// Whether the connection came about.
    #[cold]
    fn on_connect(&mut self, id: ConnId) -> bool {
        let link = &mut self.links[id.index()];
        let socket = link.socket.as_ref().expect("it told of itself");
        if let Err(error) = sockopt::socket_error(socket).flatten() {
            self.close(id.slot, Closed::Connect(error.into()));
            return false;
        }
        link.connecting = false;
        self.handler.on_open(&mut self.connections, id);
        self.connections.mark_dirty(id.slot);
        true
    }

    /// The kernel has room for a slow peer's output again, or the connection has failed.
    #[cold]
    fn on_room(&mut self, id: ConnId) {
        self.links[id.index()].waiting = false;
        self.send(id.slot);
        let is_through = self.connections.slots[id.index()].line.outbox.is_empty();
        if self.is_there(id) && (is_through || self.links[id.index()].paused) {
            // The connection may be taken down now, or receiving taken up again.
            self.connections.mark_dirty(id.slot);
        }
    }

    // ---- receiving ----

    /// Receives until nothing is left, or others are to have their turn.
    #[inline]
    fn receive(&mut self, id: ConnId) {
        for _ in 0..RECEIVES_PER_TURN {
            let link = &mut self.links[id.index()];
            if !link.readable || link.paused || link.ended {
                return;
            }
            let Some(socket) = &link.socket else { return };
            let room = self.buffer.room();
            let room_bytes = room.len();
            let received = match self.config.faults.receive() {
                None => match &mut self.arrivals {
                    None => recv(socket, room, RecvFlags::empty()).map(|(_, byte_count)| byte_count),
                    Some(arrivals) => {
                        let common = &mut self.connections.common;
                        arrivals.receive(socket, room, common.now_ns).map(|(byte_count, arrived_ns)| {
                            common.arrived_ns = arrived_ns;
                            byte_count
                        })
                    }
                },
                Some(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            };
            match received {
                Ok(byte_count @ 1..) => {
                    link.readable = byte_count == room_bytes || link.to_the_end;
                    self.on_bytes(id, byte_count);
                    if !self.is_there(id) {
                        return;
                    }
                }
                Ok(_) => {
                    (link.readable, link.ended) = (false, true);
                    return self.handler.on_end(&mut self.connections, id);
                }
                Err(Errno::AGAIN) => {
                    (link.readable, link.to_the_end) = (false, link.kernel_tls);
                    return;
                }
                // No further edge would come for what is there already.
                Err(Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => break,
                Err(error) => {
                    let (handler, connections) = (&mut self.handler, &mut self.connections);
                    let code = error.raw_os_error();
                    match ktls::on_failed_receive(handler, connections, id, socket.as_fd(), code) {
                        Ok(()) => {}
                        Err(why) => return self.close(id.slot, why),
                    }
                }
            }
        }
        if self.links[id.index()].readable {
            self.list(id);
        }
    }

    /// Has the connection be received from in the next turn, whether it is told of or not.
    #[cold]
    fn list(&mut self, id: ConnId) {
        let link = &mut self.links[id.index()];
        if !link.listed {
            link.listed = true;
            self.unread.push(id);
        }
    }

    #[inline]
    fn on_bytes(&mut self, id: ConnId, byte_count: usize) {
        let memory = self.buffer.memory();
        if self.connections.deliver(&mut self.handler, id, 0, memory, byte_count) != 0 {
            self.empty_buffer(id.slot);
        }
    }

    /// Sends what lies in the receive buffer, for the sake of the next receive: an answer to `slot`, as a rule.
    #[inline]
    fn empty_buffer(&mut self, slot: u32) {
        self.send_or_own(slot);
        if self.connections.common.current_uses != 0 {
            return self.empty_buffer_of_others();
        }
        let line = &mut self.connections.slots[slot as usize].line;
        if line.outbox.is_empty()
            && line.intent == Intent::Keep
            && self.connections.common.dirty.last() == Some(&slot)
        {
            // Nothing is left to do for it at the end of the turn.
            line.dirty = false;
            self.connections.common.dirty.pop();
        }
    }

    #[cold]
    fn empty_buffer_of_others(&mut self) {
        let mut index = 0;
        // It grows where a send fails and the handler, told of the end, writes to others.
        while let Some(&other) = self.connections.common.dirty.get(index) {
            self.send_or_own(other);
            index += 1;
        }
        assert_eq!(self.connections.common.current_uses, 0, "who is given a segment is dirty");
    }

    fn send_or_own(&mut self, slot: u32) {
        let line = &self.connections.slots[slot as usize].line;
        let link = self.links.get(slot as usize);
        if line.intent != Intent::Abort && link.is_some_and(|link| !link.connecting && !link.waiting) {
            self.send(slot);
        } else {
            self.own_output(slot);
        }
    }

    // ---- sending ----

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
        let (intent, generation) = (line.intent, line.generation);
        let link = &self.links[slot as usize];
        if link.connecting {
            // Anything but giving up waits until it can be used, and giving up until it has begun.
            match (intent, &link.socket) {
                (Intent::Abort, Some(_)) => self.close(slot, Closed::ByUs),
                (Intent::Abort, None) => self.connections.mark_dirty(slot),
                _ => {}
            }
            return;
        }
        let was_waiting = link.waiting;
        if was_waiting {
            self.connections.note_waiting(slot);
        } else if intent != Intent::Abort {
            self.send(slot);
        }
        let line = &self.connections.slots[slot as usize].line;
        if line.generation != generation {
            return;
        }
        if intent != Intent::Keep && (intent == Intent::Abort || line.outbox.is_empty()) {
            return self.take_down(slot, intent);
        }
        self.steer_recv(slot, was_waiting);
    }

    /// Receives from a peer that reads, and stops for one for which output was queued though it was `waiting`, or that the
    /// handler holds.
    #[inline]
    fn steer_recv(&mut self, slot: u32, was_waiting: bool) {
        let line = &self.connections.slots[slot as usize].line;
        let link = &mut self.links[slot as usize];
        let wants_quiet = line.wants_quiet();
        if line.holds != 0 || (was_waiting && self.connections.is_too_much_waiting(slot, &self.config)) {
            if !link.paused {
                link.paused = true;
                self.connections.count_pause(slot, &self.config);
            }
            if wants_quiet {
                self.hand_to_kernel(slot);
            }
        } else if link.paused && (!link.behind || self.connections.is_little_waiting(slot, &self.config)) {
            link.paused = false;
            if link.readable {
                self.list(self.connections.id_at(slot));
            }
        }
    }

    /// Gives the connection to the kernel's TLS, if this is the moment: receives are over when they return, so only output has
    /// to be waited for.
    #[cold]
    fn hand_to_kernel(&mut self, slot: u32) {
        let id = self.connections.id_at(slot);
        let Some(socket) = self.links[slot as usize].socket.as_ref() else { return };
        if !self.connections.slots[slot as usize].line.outbox.is_empty() {
            return;
        }
        match ktls::hand_over(&mut self.handler, &mut self.connections, id, socket.as_fd()) {
            Err(why) => self.close(slot, why),
            Ok(has_keys) => {
                let link = &mut self.links[slot as usize];
                // What came before the kernel had the keys was told of by an edge that is gone.
                link.readable |= has_keys;
                (link.kernel_tls, link.to_the_end) = (has_keys, link.to_the_end || has_keys);
                link.paused = self.connections.slots[slot as usize].line.holds != 0;
                if link.readable {
                    self.list(id);
                }
            }
        }
    }

    /// Sends all of the outbox, or as much as the kernel takes; the rest is out of the receive buffer then. The
    /// connection may be closed afterwards.
    #[inline]
    fn send(&mut self, slot: u32) {
        loop {
            let line = &mut self.connections.slots[slot as usize].line;
            if line.outbox.is_empty() {
                break;
            }
            self.connections.counters.sends += 1;
            let fault = self.config.faults.send(line.outbox.queued_bytes());
            let socket = self.links[slot as usize].socket.as_ref().expect("it was opened");
            let sent = match fault {
                None => send_front(socket, &line.outbox, &self.buffer),
                Some(fault) => send_with_fault(socket, &line.outbox, &self.buffer, &fault),
            };
            match sent {
                Sent::All(byte_count) => self.advance(slot, byte_count),
                Sent::Full(byte_count) => {
                    self.advance(slot, byte_count);
                    return self.fall_behind(slot, true);
                }
                Sent::Stopped(byte_count) => {
                    self.advance(slot, byte_count);
                    return self.fall_behind(slot, false);
                }
                Sent::Failed(error) => return self.close(slot, Closed::Broken(error.into())),
            }
        }
        if self.links[slot as usize].behind {
            self.catch_up(slot);
        }
    }

    #[inline]
    fn advance(&mut self, slot: u32, byte_count: usize) {
        let line = &mut self.connections.slots[slot as usize].line;
        let common = &mut self.connections.common;
        let uses = &mut common.current_uses;
        line.outbox.advance(&mut common.pool, byte_count, |pool, segment| free_segment(uses, pool, segment));
        self.connections.counters.sent_bytes += byte_count as u64;
        if self.links[slot as usize].behind && byte_count != 0 {
            self.connections.note_progress(slot);
        }
    }

    /// Keeps what was not sent: until the kernel tells that there is room, or else until the next turn.
    #[cold]
    fn fall_behind(&mut self, slot: u32, will_be_told: bool) {
        self.connections.counters.short_sends += 1;
        self.own_output(slot);
        self.connections.note_waiting(slot);
        let link = &mut self.links[slot as usize];
        (link.waiting, link.behind) = (will_be_told, true);
        if !will_be_told {
            self.connections.mark_dirty(slot);
        }
    }

    /// Tells the handler that a peer which kept output waiting has taken all of it.
    #[cold]
    fn catch_up(&mut self, slot: u32) {
        self.links[slot as usize].behind = false;
        self.connections.note_waiting(slot);
        let id = self.connections.id_at(slot);
        self.handler.on_writable(&mut self.connections, id);
    }

    /// Copies what cannot be sent now out of the receive buffer.
    fn own_output(&mut self, slot: u32) {
        let line = &mut self.connections.slots[slot as usize].line;
        let common = &mut self.connections.common;
        line.outbox.own(&mut common.pool, |_, start, end, out| {
            out.extend_from_slice(self.buffer.part(start, end));
            common.current_uses -= 1;
        });
    }

    // ---- opening ----

    /// Lets in those who wait at the listener, if it is time to.
    fn accept(&mut self) {
        let now_ns = self.connections.common.now_ns;
        if self.accept_again_ns.is_none_or(|again_ns| again_ns > now_ns) {
            return;
        }
        self.accept_again_ns = Some(now_ns);
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.config.listener.as_ref().filter(|_| self.connections.common.accepting)
            else {
                return;
            };
            let accepted = match self.config.faults.accept() {
                None => accept_from(listener, self.config.peer_addresses),
                Some(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            };
            match accepted.and_then(|(socket, address)| self.let_in(socket, address)) {
                Ok(()) => {}
                Err(Errno::AGAIN) => {
                    self.accept_again_ns = None;
                    return;
                }
                Err(error) if is_of_the_connection(error) => {}
                Err(error) => {
                    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::NOSPC];
                    self.connections.counters.accept_refusals += u64::from(wants.contains(&error));
                    self.accept_again_ns = Some(now_ns + ACCEPT_PAUSE_NS);
                    return;
                }
            }
        }
        self.more_to_do = true;
    }

    /// Gives a slot to an accepted connection; where there is none, the connection is closed.
    fn let_in(&mut self, socket: OwnedFd, address: Option<IpAddr>) -> Result<(), Errno> {
        let slots = &self.connections.slots;
        let slot = self.connections.free.last().copied().unwrap_or(slots.len() as u32);
        if slot >= self.config.connections_max {
            return Err(Errno::NFILE);
        }
        let generation = slots.get(slot as usize).map_or(0, |slot| slot.line.generation);
        if self.arrivals.is_some() {
            arrivals::ask(&socket)?;
        }
        self.poll
            .add(&socket, ConnId { slot, generation })
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        self.connections.free.pop();
        let conn = self.handler.on_accept();
        let id = self.connections.insert(slot, conn);
        *self.link(slot) = Link { socket: Some(socket), connecting: false, ..Link::UNOPENED };
        self.connections.introduce(&mut self.handler, id, address);
        self.handler.on_open(&mut self.connections, id);
        Ok(())
    }

    fn link(&mut self, slot: u32) -> &mut Link {
        if self.links.len() <= slot as usize {
            self.links.resize_with(slot as usize + 1, || Link::UNOPENED);
        }
        &mut self.links[slot as usize]
    }

    fn open_connections(&mut self) {
        for (slot, route) in std::mem::take(&mut self.connections.connecting) {
            *self.link(slot) = Link::UNOPENED;
            if let Err(error) = self.start_connect(slot, &route) {
                self.close(slot, Closed::Connect(error));
            }
        }
    }

    fn start_connect(&mut self, slot: u32, route: &Route) -> io::Result<()> {
        if slot >= self.config.connections_max {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let socket = socket::for_connecting(route)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&route.to.into()) {
            // Even where it is through, an edge tells so.
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
        let socket = OwnedFd::from(socket);
        if self.arrivals.is_some() {
            arrivals::ask(&socket)?;
        }
        self.poll.add(&socket, self.connections.id_at(slot))?;
        self.link(slot).socket = Some(socket);
        Ok(())
    }

    // ---- taking down ----

    #[cold]
    fn take_down(&mut self, slot: u32, intent: Intent) {
        if intent != Intent::Abort && !self.say_goodbye(slot) {
            return;
        }
        if intent >= Intent::Close {
            return self.close(slot, Closed::ByUs);
        }
        let link = &mut self.links[slot as usize];
        if let Some(socket) = link.socket.as_ref().filter(|_| !link.shut_down) {
            // Fails only where the peer has reset the connection, which the next receive will say.
            let _ = shutdown(socket, Shutdown::Write);
            link.shut_down = true;
        }
        self.steer_recv(slot, false);
    }

    /// To a peer whose records the kernel seals. Whether that is done with; else it is tried again when there is room.
    fn say_goodbye(&mut self, slot: u32) -> bool {
        let link = &mut self.links[slot as usize];
        let said = link
            .socket
            .as_ref()
            .is_none_or(|socket| ktls::say_goodbye(&mut self.connections, slot, socket.as_fd()));
        link.waiting |= !said;
        said
    }

    #[cold]
    fn close(&mut self, slot: u32, why: Closed) {
        let common = &mut self.connections.common;
        let outbox = &mut self.connections.slots[slot as usize].line.outbox;
        while let Some(segment) = outbox.pop(&mut common.pool) {
            free_segment(&mut common.current_uses, &mut common.pool, segment);
        }
        self.connections.note_waiting(slot);
        // Closes the socket, and epoll forgets it.
        self.links[slot as usize] = Link::UNOPENED;
        let conn = self.connections.remove(slot);
        if slot < self.config.connections_max {
            self.connections.free.push(slot);
        } else {
            // Never usable, so the last to be taken.
            self.connections.free.insert(0, slot);
        }
        // There is room again for who was refused.
        self.accept_again_ns = self.accept_again_ns.and(Some(0));
        if let Some(conn) = conn {
            self.handler.on_closed(&mut self.connections, conn, why);
        }
    }
}

/// With the peer's address, if that is asked for.
fn accept_from(listener: &TcpListener, with_address: bool) -> Result<(OwnedFd, Option<IpAddr>), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    if !with_address {
        return Ok((accept_with(listener, flags)?, None));
    }
    let (socket, address) = acceptfrom_with(listener, flags)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    Ok((socket, address.map(|address| address.ip())))
}

/// Whether a failed accept says something of that connection alone, and the next may be better: see accept(2).
fn is_of_the_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::PERM
    )
}

#[inline]
fn free_segment(current_uses: &mut u16, pool: &mut BufferPool, segment: Segment) {
    match segment {
        Segment::InPlace { .. } => *current_uses -= 1,
        Segment::Owned { bytes, .. } => pool.put(bytes),
        Segment::Shared(_) => {}
    }
}
