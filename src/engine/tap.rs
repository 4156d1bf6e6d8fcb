//! A view of everything that goes between any engine and any handler: [`Tapped`] is a handler to the engine below it, and an engine to
//! the handler above, as [`Tls`](super::Tls) is; between that and a handler it sees what is not encrypted.
//!
//! The handler has [`Connections`] of its own, whose outboxes are empty whenever it is called: what is there afterwards is what it
//! queued, and is shown and passed on. So nothing is looked at where nobody wants to look: what a thread runs is chosen by type.
//!
//! Invariants: every byte is shown once, in order for its direction, received ones before the handler sees them and queued ones
//! right after the call that queued them; bytes, intents, holds and timers pass through unchanged, answers in place without a copy.
//!
//! Timers of the handler's are kept here, by way of [`Handler::on_turn`].

use std::net::IpAddr;

use super::{Closed, ConnId, Connections, Handler, Intent, Received, Segment};
use crate::tls::Secured;

/// Looks at what goes over connections. Times are in nanoseconds of [`clock_ns`](super::clock_ns).
pub trait Tap: 'static {
    /// What it keeps of one connection.
    type Conn: 'static;

    /// A connection is about to be.
    fn begin(&mut self) -> Self::Conn;
    /// It can be used now.
    fn on_open(&mut self, conn: &mut Self::Conn, now_ns: u64);
    /// Bytes arrived, and the handler will see them next.
    fn on_received(&mut self, conn: &mut Self::Conn, bytes: &[u8], now_ns: u64);
    /// The handler has queued bytes.
    fn on_queued(&mut self, conn: &mut Self::Conn, bytes: &[u8], now_ns: u64);
    /// It is gone.
    fn on_closed(&mut self, conn: Self::Conn, why: &Closed, now_ns: u64);
    /// A turn of the loop is over: time to write down what was seen in it.
    fn on_turn(&mut self);
}

/// A [`Handler`] that has a [`Tap`] look at the connections of another.
pub struct Tapped<H: Handler, T: Tap> {
    handler: H,
    tap: T,
    /// As the handler knows them.
    inner: Connections<H::Conn>,
    /// The engine's name for each, by the handler's slot.
    outer_ids: Vec<ConnId>,
    /// Slots whose output waits in the engine.
    waiting: Vec<u32>,
}

/// One of the engine's connections.
pub struct Link<C, T> {
    inner: Inner<C>,
    tapped: T,
}

/// The handler's side of it.
enum Inner<C> {
    /// Accepted, and not known to the handler's connections yet.
    Accepted(C),
    Known(ConnId),
    Gone,
}

type Outer<H, T> = Connections<Link<<H as Handler>::Conn, <T as Tap>::Conn>>;

impl<H: Handler, T: Tap> Tapped<H, T> {
    /// `handler`'s connections, looked at by `tap`.
    pub fn new(handler: H, tap: T) -> Self {
        let inner = Connections::with_capacity(0);
        Self { handler, tap, inner, outer_ids: Vec::new(), waiting: Vec::new() }
    }

    /// Gives the handler back.
    pub fn into_inner(self) -> H {
        self.handler
    }

    /// Has the handler see the engine's time and counts.
    fn enter(&mut self, outer: &Outer<H, T>) {
        let common = &mut self.inner.common;
        (common.now_ns, common.simulated) = (outer.common.now_ns, outer.common.simulated);
        common.receives_within_turns = outer.common.receives_within_turns;
        common.arrived_ns = outer.common.arrived_ns;
        self.inner.counters = outer.counters;
    }

    /// The handler has been called: what it asked for is passed on. `memory` is what it may have composed answers in.
    fn leave(&mut self, outer: &mut Outer<H, T>, memory: &[u8]) {
        let mut dirty = std::mem::take(&mut self.inner.common.dirty);
        for slot in dirty.drain(..) {
            self.pass_on(outer, slot, memory);
        }
        self.inner.common.dirty = dirty;
        for (slot, address) in self.inner.connecting.split_off(0) {
            let link = Link { inner: Inner::Known(self.inner.id_at(slot)), tapped: self.tap.begin() };
            let outer_id = outer.connect(address, link);
            self.name(slot, outer_id);
            // It may have been given up at once.
            self.pass_on(outer, slot, &[]);
        }
        if !self.inner.common.accepting {
            outer.stop_accepting();
        }
        if self.inner.common.stopping {
            outer.stop();
        }
    }

    fn name(&mut self, slot: u32, outer_id: ConnId) {
        if self.outer_ids.len() <= slot as usize {
            self.outer_ids.resize(slot as usize + 1, outer_id);
        }
        self.outer_ids[slot as usize] = outer_id;
    }

    /// Shows and passes on what was queued for a connection, and how far it is to be taken down.
    fn pass_on(&mut self, outer: &mut Outer<H, T>, slot: u32, memory: &[u8]) {
        let now_ns = outer.clock_ns();
        let line = &mut self.inner.slots[slot as usize].line;
        line.dirty = false;
        let Some(&outer_id) = self.outer_ids.get(slot as usize).filter(|_| line.in_use) else { return };
        let Some((link, mut io)) = outer.get(outer_id) else { return };
        if !matches!(&link.inner, Inner::Known(id) if id.slot == slot && id.generation == line.generation) {
            // It has yet to be connected, and is passed on then.
            return;
        }
        let pool = &mut self.inner.common.pool;
        while let Some(segment) = line.outbox.pop(pool) {
            match segment {
                Segment::InPlace { start, end, .. } => {
                    let range = start as usize..end as usize;
                    self.tap.on_queued(&mut link.tapped, &memory[range.clone()], now_ns);
                    io.reply_in_place(range);
                }
                Segment::Owned { bytes, start } => {
                    self.tap.on_queued(&mut link.tapped, &bytes[start..], now_ns);
                    io.write(|out| out.extend_from_slice(&bytes[start..]));
                    pool.put(bytes);
                }
                Segment::Shared(bytes) => {
                    self.tap.on_queued(&mut link.tapped, &bytes, now_ns);
                    io.send(bytes);
                }
            }
        }
        io.hold_reading(line.is_held_by_handler());
        io.keep(line.kept_bytes);
        match line.intent {
            Intent::Keep => {}
            Intent::ShutDown => io.shut_down(),
            Intent::Close => io.close(),
            Intent::Abort => io.abort(),
        }
        let waiting_bytes = io.queued_bytes();
        if waiting_bytes > 0 && line.outbox.queued_bytes() == 0 {
            self.waiting.push(slot);
        }
        line.outbox.count_below(waiting_bytes);
    }

    /// What still waits in the engine, of what waited when this was last asked.
    fn count_waiting(&mut self, outer: &mut Outer<H, T>) {
        let (inner, outer_ids) = (&mut self.inner, &self.outer_ids);
        self.waiting.retain(|&slot| {
            let line = &mut inner.slots[slot as usize].line;
            let waiting_bytes = match outer.get(outer_ids[slot as usize]) {
                Some((_, io)) if line.in_use => io.queued_bytes(),
                _ => 0,
            };
            line.outbox.count_below(waiting_bytes);
            waiting_bytes > 0
        });
    }

    /// The handler's name for a connection, which it may see from now on. It sees as well whether a slow peer has taken anything.
    fn known(&mut self, outer: &mut Outer<H, T>, id: ConnId) -> Option<ConnId> {
        self.enter(outer);
        let (link, io) = outer.get(id)?;
        match std::mem::replace(&mut link.inner, Inner::Gone) {
            Inner::Accepted(conn) => {
                let slot = self.inner.free.pop().unwrap_or(self.inner.slots.len() as u32);
                link.inner = Inner::Known(self.inner.insert(slot, conn));
                self.inner.slots[slot as usize].line.outbox.count_below(0);
                self.name(slot, id);
            }
            inner => link.inner = inner,
        }
        let Inner::Known(inner_id) = &link.inner else { return None };
        let line = &mut self.inner.slots[inner_id.index()].line;
        line.waiting.follow(&mut io.line.waiting);
        Some(*inner_id)
    }

    fn run_timers(&mut self, outer: &mut Outer<H, T>) {
        while let Some((at_ns, inner_id)) = self.inner.common.timers.pop_due(self.inner.common.now_ns) {
            let Some((_, io)) = self.inner.get(inner_id) else { continue };
            if io.line.wake_at_ns != at_ns {
                continue;
            }
            io.line.wake_at_ns = u64::MAX;
            if let Some((_, below)) = outer.get(self.outer_ids[inner_id.index()]) {
                io.line.waiting.follow(&mut below.line.waiting);
            }
            self.handler.on_timer(&mut self.inner, inner_id);
            self.leave(outer, &[]);
        }
    }
}

impl<H: Handler, T: Tap> Handler for Tapped<H, T> {
    type Conn = Link<H::Conn, T::Conn>;

    fn on_accept(&mut self) -> Self::Conn {
        Link { inner: Inner::Accepted(self.handler.on_accept()), tapped: self.tap.begin() }
    }

    fn on_address(&mut self, outer: &mut Outer<H, T>, id: ConnId, address: IpAddr) {
        let Some(inner_id) = self.known(outer, id) else { return };
        self.inner.introduce(&mut self.handler, inner_id, Some(address));
        self.leave(outer, &[]);
    }

    fn on_secured(&mut self, outer: &mut Outer<H, T>, id: ConnId, secured: &Secured, took_ns: u64) {
        let Some(inner_id) = self.known(outer, id) else { return };
        self.handler.on_secured(&mut self.inner, inner_id, secured, took_ns);
        self.leave(outer, &[]);
    }

    fn on_open(&mut self, outer: &mut Outer<H, T>, id: ConnId) {
        let now_ns = outer.clock_ns();
        let Some(inner_id) = self.known(outer, id) else { return };
        if let Some((link, _)) = outer.get(id) {
            self.tap.on_open(&mut link.tapped, now_ns);
        }
        self.handler.on_open(&mut self.inner, inner_id);
        self.leave(outer, &[]);
    }

    fn on_bytes(&mut self, outer: &mut Outer<H, T>, id: ConnId, received: Received<'_>) {
        let now_ns = outer.clock_ns();
        let Some(inner_id) = self.known(outer, id) else { return };
        let Received { memory, range } = received;
        if let Some((link, _)) = outer.get(id) {
            self.tap.on_received(&mut link.tapped, &memory[range.clone()], now_ns);
        }
        let common = &mut self.inner.common;
        (common.current_buffer, common.current_uses, common.current_bytes) = (0, 0, memory.len());
        self.handler.on_bytes(&mut self.inner, inner_id, Received { memory: &mut *memory, range });
        self.inner.common.current_bytes = 0;
        self.leave(outer, memory);
    }

    fn on_end(&mut self, outer: &mut Outer<H, T>, id: ConnId) {
        let Some(inner_id) = self.known(outer, id) else { return };
        self.handler.on_end(&mut self.inner, inner_id);
        self.leave(outer, &[]);
    }

    /// None was asked for below.
    fn on_timer(&mut self, _outer: &mut Outer<H, T>, _id: ConnId) {}

    fn on_writable(&mut self, outer: &mut Outer<H, T>, id: ConnId) {
        let Some(inner_id) = self.known(outer, id) else { return };
        self.count_waiting(outer);
        self.handler.on_writable(&mut self.inner, inner_id);
        self.leave(outer, &[]);
    }

    fn on_closed(&mut self, outer: &mut Outer<H, T>, link: Self::Conn, why: Closed) {
        self.enter(outer);
        self.tap.on_closed(link.tapped, &why, outer.clock_ns());
        let conn = match link.inner {
            Inner::Accepted(conn) => {
                self.inner.departed = None;
                Some(conn)
            }
            Inner::Known(id) => {
                let line = &mut self.inner.slots[id.index()].line;
                while line.outbox.pop(&mut self.inner.common.pool).is_some() {}
                line.outbox.count_below(0);
                let conn = self.inner.remove(id.slot);
                self.inner.free.push(id.slot);
                conn
            }
            Inner::Gone => None,
        };
        if let Some(conn) = conn {
            self.handler.on_closed(&mut self.inner, conn, why);
        }
        self.leave(outer, &[]);
    }

    fn on_wake(&mut self, outer: &mut Outer<H, T>) {
        self.enter(outer);
        self.handler.on_wake(&mut self.inner);
        self.leave(outer, &[]);
    }

    fn on_turn(&mut self, outer: &mut Outer<H, T>) -> Option<u64> {
        self.enter(outer);
        self.count_waiting(outer);
        self.run_timers(outer);
        let turn_by_ns = self.handler.on_turn(&mut self.inner);
        self.leave(outer, &[]);
        self.tap.on_turn();
        turn_by_ns.into_iter().chain(self.inner.common.timers.next_ns()).min()
    }
}
