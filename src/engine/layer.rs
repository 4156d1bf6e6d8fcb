//! What stands between an engine and a handler, as [`Tls`](super::Tls) and [`Tapped`](super::Tapped) do: a handler to what lies below
//! it, which is an engine or another layer, and an engine to the handler above.
//!
//! The handler has [`Connections`] of its own here, with slots, names, addresses, timers and counts, and what waits on them. A
//! [`Passage`] says what becomes of bytes on their way down. On their way up they go through whoever implements [`Handler`] for
//! what lies below: it calls [`Layer::enter`] first, then the handler, by what is here.
//!
//! Invariants: outboxes above are empty whenever the handler is called, unless what is in them has to wait for the connection to
//! open: what is there afterwards is what it queued, and goes down right after the call. Intents, holds and timers pass unchanged.
//! What waits for a peer that does not read waits below, once, and is counted above; who is slow is taken over together with that,
//! at one place ([`Layer::look_below`]), once a turn and before [`Handler::on_writable`].
//!
//! Timers of the handler's are kept here, by way of [`Handler::on_turn`]. Its counters are those from below, as of the last call
//! that brought no bytes.

use std::net::IpAddr;

use super::outbox::{BufferPool, Outbox};
use super::{Closed, ConnId, Connections, Counters, Handler, Intent, Io, Received, Segment, Slot};

/// See the module's text.
pub(super) struct Layer<H: Handler> {
    pub(super) handler: H,
    /// As the handler knows them.
    pub(super) inner: Connections<H::Conn>,
    /// By the handler's slot.
    below: Vec<Below>,
    /// Slots whose output waits below: those that are `is_watched`, each once.
    watched: Vec<u32>,
}

/// What lies below one of the handler's slots.
#[derive(Clone, Copy)]
struct Below {
    id: ConnId,
    /// The slot is in [`Layer::watched`], whosever it is by now.
    is_watched: bool,
}

/// The handler's side of a connection below.
pub(super) struct Upper<C> {
    side: Side<C>,
    /// How far the connection below was asked to be taken down.
    intent: Intent,
}

enum Side<C> {
    /// Accepted, and not known to the handler's connections yet.
    Accepted(C),
    Known(ConnId),
    Gone,
}

impl<C> Upper<C> {
    /// Of a connection that was accepted below.
    pub(super) fn accepted(conn: C) -> Self {
        Self { side: Side::Accepted(conn), intent: Intent::Keep }
    }

    /// The handler's name for it.
    #[inline]
    pub(super) fn id(&self) -> Option<ConnId> {
        match self.side {
            Side::Known(id) => Some(id),
            Side::Accepted(_) | Side::Gone => None,
        }
    }

    /// Whether the handler wants it to go on as it is.
    pub(super) fn is_kept(&self) -> bool {
        self.intent == Intent::Keep
    }
}

/// What a layer does to bytes on their way down, with what it keeps for all connections.
pub(super) trait Passage<C> {
    /// What it keeps of one connection below.
    type Link;

    /// Of a connection that the handler makes.
    fn link(&mut self, upper: Upper<C>) -> Self::Link;
    /// The handler's side of it.
    fn upper(link: &mut Self::Link) -> &mut Upper<C>;
    /// Something was queued, and is to be taken out and to go down by `io`; left alone, it waits until more is queued, or
    /// [`Layer::pass_on`] is called.
    fn pass(&mut self, link: &mut Self::Link, io: &mut Io<'_>, queued: Queued<'_>);
    /// Nothing will be queued any more, and what was has been passed.
    fn end(&mut self, _link: &mut Self::Link, _io: &mut Io<'_>) {}
    /// Adds what it has counted itself.
    fn count(&self, _counters: &mut Counters) {}
}

/// What a handler may have composed answers in.
#[derive(Clone, Copy)]
pub(super) struct Memory<'a> {
    bytes: &'a [u8],
    /// It is what came from below, from its beginning: it can be sent from there.
    is_belows: bool,
}

impl Memory<'_> {
    pub(super) const NONE: Self = Self { bytes: &[], is_belows: false };
}

/// Whose the memory is that bytes are handed to the handler in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// It came from below, all of it: answers can be sent where they lie.
    Belows,
    /// The layer's own, or a part.
    Ours,
}

/// What a handler has queued on one connection.
pub(super) struct Queued<'a> {
    outbox: &'a mut Outbox,
    pool: &'a mut BufferPool,
    memory: Memory<'a>,
}

impl Queued<'_> {
    /// Takes all of it out, in order, for `each` to look at.
    #[inline]
    pub(super) fn take(self, mut each: impl FnMut(&[u8])) {
        while let Some(segment) = self.outbox.pop(self.pool) {
            match segment {
                Segment::InPlace { start, end, .. } => {
                    each(&self.memory.bytes[start as usize..end as usize]);
                }
                Segment::Owned { bytes, start } => {
                    each(&bytes[start..]);
                    self.pool.put(bytes);
                }
                Segment::Shared(bytes) => each(&bytes),
            }
        }
    }

    /// Passes all of it on as it is, where it lies if that can be; `look` sees it first.
    #[inline]
    pub(super) fn pass_on(self, io: &mut Io<'_>, mut look: impl FnMut(&[u8])) {
        while let Some(segment) = self.outbox.pop(self.pool) {
            match segment {
                Segment::InPlace { start, end, .. } => {
                    let range = start as usize..end as usize;
                    let bytes = &self.memory.bytes[range.clone()];
                    look(bytes);
                    if self.memory.is_belows {
                        io.reply_in_place(range);
                    } else {
                        io.write(|out| out.extend_from_slice(bytes));
                    }
                }
                Segment::Owned { bytes, start } => {
                    look(&bytes[start..]);
                    io.write(|out| out.extend_from_slice(&bytes[start..]));
                    self.pool.put(bytes);
                }
                Segment::Shared(bytes) => {
                    look(&bytes);
                    io.send(bytes);
                }
            }
        }
    }
}

impl<H: Handler> Layer<H> {
    pub(super) fn new(handler: H) -> Self {
        Self { handler, inner: Connections::with_capacity(0), below: Vec::new(), watched: Vec::new() }
    }

    // ---- before the handler is called ----

    /// Has the handler see the time below. To be called first of all, whatever is called from below.
    #[inline]
    pub(super) fn enter<L>(&mut self, lower: &Connections<L>) {
        let (common, below) = (&mut self.inner.common, &lower.common);
        (common.now_ns, common.simulated) = (below.now_ns, below.simulated);
        (common.receives_within_turns, common.arrived_ns) = (below.receives_within_turns, below.arrived_ns);
    }

    /// The same, where the handler's bytes were received at `now_ns`, whatever has been done to them since.
    #[inline]
    pub(super) fn enter_at<L>(&mut self, lower: &Connections<L>, now_ns: u64) {
        self.enter(lower);
        (self.inner.common.now_ns, self.inner.common.receives_within_turns) = (now_ns, false);
    }

    /// Has the handler see what was counted below.
    fn count<P: Passage<H::Conn>>(&mut self, lower: &Connections<P::Link>, passage: &P) {
        self.inner.counters = lower.counters;
        passage.count(&mut self.inner.counters);
    }

    /// The handler's name for a connection, which it may see from now on.
    #[inline]
    pub(super) fn known<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        id: ConnId,
    ) -> Option<ConnId> {
        let (link, _) = lower.get(id)?;
        let upper = P::upper(link);
        upper.id().or_else(|| self.adopt(upper, id))
    }

    #[cold]
    fn adopt(&mut self, upper: &mut Upper<H::Conn>, id: ConnId) -> Option<ConnId> {
        let Side::Accepted(conn) = std::mem::replace(&mut upper.side, Side::Gone) else { return None };
        let slot = self.inner.free.pop().unwrap_or(self.inner.slots.len() as u32);
        let inner_id = self.inner.insert(slot, conn);
        upper.side = Side::Known(inner_id);
        self.name(slot, id);
        Some(inner_id)
    }

    fn name(&mut self, slot: u32, id: ConnId) {
        let at = slot as usize;
        if self.below.len() <= at {
            self.below.resize(at + 1, Below { id, is_watched: false });
        }
        self.below[at].id = id;
    }

    // ---- the handler is called ----

    /// Calls the handler about a connection.
    pub(super) fn tell<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        passage: &mut P,
        id: ConnId,
        call: impl FnOnce(&mut H, &mut Connections<H::Conn>, ConnId),
    ) {
        let Some(inner_id) = self.known::<P>(lower, id) else { return };
        call(&mut self.handler, &mut self.inner, inner_id);
        self.leave(lower, passage, Memory::NONE);
    }

    /// Tells the handler whose connection it is.
    pub(super) fn introduce<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        passage: &mut P,
        id: ConnId,
        address: IpAddr,
    ) {
        let Some(inner_id) = self.known::<P>(lower, id) else { return };
        self.inner.introduce(&mut self.handler, inner_id, Some(address));
        self.leave(lower, passage, Memory::NONE);
    }

    /// Hands bytes to the handler, and passes on its answer.
    #[inline]
    pub(super) fn deliver<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        passage: &mut P,
        inner_id: ConnId,
        received: Received<'_>,
        whose: Whose,
    ) {
        let Received { memory, range } = received;
        let common = &mut self.inner.common;
        (common.current_buffer, common.current_uses, common.current_bytes) = (0, 0, memory.len());
        self.handler.on_bytes(&mut self.inner, inner_id, Received { memory: &mut *memory, range });
        self.inner.common.current_bytes = 0;
        self.leave(lower, passage, Memory { bytes: memory, is_belows: whose == Whose::Belows });
    }

    /// All that a slow peer kept waiting has been sent.
    pub(super) fn writable<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        passage: &mut P,
        id: ConnId,
    ) {
        let Some(inner_id) = self.known::<P>(lower, id) else { return };
        self.look_below(lower, inner_id.slot);
        self.handler.on_writable(&mut self.inner, inner_id);
        self.leave(lower, passage, Memory::NONE);
    }

    pub(super) fn wake<P: Passage<H::Conn>>(&mut self, lower: &mut Connections<P::Link>, passage: &mut P) {
        self.count(lower, passage);
        self.handler.on_wake(&mut self.inner);
        self.leave(lower, passage, Memory::NONE);
    }

    /// Ends a turn; when the next must come at the latest, in nanoseconds of [`clock_ns`](super::clock_ns).
    pub(super) fn turn<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        passage: &mut P,
    ) -> Option<u64> {
        self.count(lower, passage);
        self.look_below_all(lower);
        self.run_timers(lower, passage);
        let turn_by_ns = self.handler.on_turn(&mut self.inner);
        self.leave(lower, passage, Memory::NONE);
        turn_by_ns.into_iter().chain(self.inner.common.timers.next_ns()).min()
    }

    fn run_timers<P: Passage<H::Conn>>(&mut self, lower: &mut Connections<P::Link>, passage: &mut P) {
        while let Some((at_ns, slot)) = self.inner.common.timers.pop_due(self.inner.common.now_ns) {
            let id = self.inner.id_at(slot);
            let Some((_, io)) = self.inner.get(id) else { continue };
            if io.line.wake_at_ns != at_ns {
                continue;
            }
            io.line.wake_at_ns = u64::MAX;
            self.handler.on_timer(&mut self.inner, id);
            self.leave(lower, passage, Memory::NONE);
        }
    }

    /// The connection below is gone.
    pub(super) fn close<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        passage: &mut P,
        upper: Upper<H::Conn>,
        why: Closed,
    ) {
        self.count(lower, passage);
        let conn = match upper.side {
            Side::Accepted(conn) => {
                self.inner.departed = None;
                Some(conn)
            }
            Side::Known(id) => {
                let line = &mut self.inner.slots[id.index()].line;
                while line.outbox.pop(&mut self.inner.common.pool).is_some() {}
                line.outbox.count_below(0);
                let conn = self.inner.remove(id.slot);
                self.inner.free.push(id.slot);
                conn
            }
            Side::Gone => None,
        };
        if let Some(conn) = conn {
            self.handler.on_closed(&mut self.inner, conn, why);
        }
        self.leave(lower, passage, Memory::NONE);
    }

    // ---- after the handler was called ----

    /// Passes on what it asked for. `memory` is what it may have composed answers in.
    #[inline]
    pub(super) fn leave<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        passage: &mut P,
        memory: Memory<'_>,
    ) {
        let mut dirty = std::mem::take(&mut self.inner.common.dirty);
        for slot in dirty.drain(..) {
            self.pass_on(lower, passage, slot, memory);
        }
        self.inner.common.dirty = dirty;
        if !self.inner.connecting.is_empty() {
            self.connect(lower, passage);
        }
        if !self.inner.common.accepting {
            lower.stop_accepting();
        }
        if self.inner.common.stopping {
            lower.stop();
        }
    }

    #[cold]
    fn connect<P: Passage<H::Conn>>(&mut self, lower: &mut Connections<P::Link>, passage: &mut P) {
        for (slot, route) in self.inner.connecting.split_off(0) {
            let upper = Upper { side: Side::Known(self.inner.id_at(slot)), intent: Intent::Keep };
            let id = lower.connect_over(route, passage.link(upper));
            self.name(slot, id);
            // It may have been given up at once.
            self.pass_on(lower, passage, slot, Memory::NONE);
        }
    }

    /// Passes on what was queued for a connection, and how far it is to be taken down.
    #[inline]
    pub(super) fn pass_on<P: Passage<H::Conn>>(
        &mut self,
        lower: &mut Connections<P::Link>,
        passage: &mut P,
        slot: u32,
        memory: Memory<'_>,
    ) {
        let Slot { line, conn } = &mut self.inner.slots[slot as usize];
        line.dirty = false;
        let Some(below) = self.below.get_mut(slot as usize).filter(|_| conn.is_some()) else { return };
        let Some((link, mut io)) = lower.get(below.id) else { return };
        let of_slot = P::upper(link).id();
        if of_slot.is_none_or(|id| id.slot != slot || id.generation != line.generation) {
            // It has yet to be connected, and is passed on then.
            return;
        }
        if !line.outbox.is_empty() {
            let queued = Queued { outbox: &mut line.outbox, pool: &mut self.inner.common.pool, memory };
            passage.pass(link, &mut io, queued);
        }
        io.hold_reading(line.is_held_by_handler());
        io.keep(line.waiting.kept_bytes());
        let asked = &mut P::upper(link).intent;
        if line.intent > *asked {
            *asked = line.intent;
            match line.intent {
                Intent::Keep => {}
                Intent::ShutDown => {
                    passage.end(link, &mut io);
                    io.shut_down();
                }
                Intent::Close => {
                    passage.end(link, &mut io);
                    io.close();
                }
                Intent::Abort => io.abort(),
            }
        }
        let waiting_bytes = io.queued_bytes();
        if waiting_bytes > 0 && !below.is_watched {
            below.is_watched = true;
            self.watched.push(slot);
        }
        if line.outbox.is_empty() {
            line.outbox.count_below(waiting_bytes);
        }
    }

    // ---- what waits below ----

    /// Looks again at what waits of those that had something waiting.
    fn look_below_all<L>(&mut self, lower: &mut Connections<L>) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|&slot| {
            let still = self.look_below(lower, slot);
            self.below[slot as usize].is_watched = still;
            still
        });
        self.watched = watched;
    }

    /// Takes over how much waits below, since when, and whether the peer has taken some. Whether anything waits.
    fn look_below<L>(&mut self, lower: &mut Connections<L>, slot: u32) -> bool {
        let Slot { line, conn } = &mut self.inner.slots[slot as usize];
        let Some((_, io)) = lower.get(self.below[slot as usize].id).filter(|_| conn.is_some()) else {
            return false;
        };
        line.waiting.follow(&mut io.line.waiting);
        if line.outbox.is_empty() {
            line.outbox.count_below(io.queued_bytes());
        }
        io.queued_bytes() > 0
    }
}
