//! Output that waits for peers which do not read: since when, and how much of it on all connections of a thread together.
//!
//! Invariants: a connection counts from the send that fell short until all of its output has gone or it is closed; the sum
//! is that of what is queued on those connections, to the byte. What is queued on the others is on its way, and is not
//! looked at: ordinary traffic never comes by here. What handlers keep of what was received, until they can go on, is in the sum
//! as well ([`Io::keep`]).
//!
//! Two bounds stop an engine from reading from a peer that keeps output waiting: its own ([`Config::outbox_bytes`]), and
//! that of all together ([`Config::outbox_bytes_in_all`]). Whoever has taken all that waited for it is read from again,
//! however much waits for others: so who reads is served whatever the others do, and who waits for nothing but its own
//! reading cannot wait for ever.

use super::{Config, ConnId, Connections, Io};

/// Of one connection. Most never keep anything waiting, and own no memory here.
#[derive(Debug, Default)]
pub(super) struct Waiting(Option<Box<State>>);

#[derive(Debug, Default)]
struct State {
    /// What was queued when it was last looked at; 0 where nothing waits.
    bytes: usize,
    /// When the peer last took some of it, or, if it has not, when it began to wait; `None` where nothing waits.
    since_ns: Option<u64>,
    /// When the peer last took some, if nobody has asked since.
    progressed_ns: Option<u64>,
    /// Received bytes that the handler keeps.
    kept_bytes: usize,
}

impl Waiting {
    pub(super) fn since_ns(&self) -> Option<u64> {
        self.0.as_ref()?.since_ns
    }

    pub(super) fn take_progress(&mut self) -> Option<u64> {
        self.0.as_mut()?.progressed_ns.take()
    }

    /// Received bytes that the handler keeps.
    #[inline]
    pub(super) fn kept_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |state| state.kept_bytes)
    }

    /// The same, and it keeps them no longer.
    pub(super) fn take_kept_bytes(&mut self) -> usize {
        self.0.as_mut().map_or(0, |state| std::mem::take(&mut state.kept_bytes))
    }

    /// For another connection in the same slot.
    pub(super) fn begin(&mut self) {
        let left = self.0.take();
        debug_assert!(
            left.is_none_or(|left| left.bytes == 0 && left.kept_bytes == 0),
            "who is gone was counted out"
        );
    }

    /// Takes over what is known of the same connection one layer below, where its output waits.
    pub(super) fn follow(&mut self, below: &mut Self) {
        let (since_ns, progressed_ns) = (below.since_ns(), below.take_progress());
        if since_ns.is_some() || progressed_ns.is_some() || self.0.is_some() {
            let state = self.0.get_or_insert_default();
            state.since_ns = since_ns;
            state.progressed_ns = state.progressed_ns.or(progressed_ns);
        }
    }
}

impl Io<'_> {
    /// Says how many received bytes of this connection the handler keeps, until it can go on: they count as what waits for
    /// all peers together does.
    pub fn keep(&mut self, byte_count: usize) {
        let kept_bytes = self.line.waiting.kept_bytes();
        if kept_bytes != byte_count {
            self.common.waiting_bytes = self.common.waiting_bytes - kept_bytes + byte_count;
            self.line.waiting.0.get_or_insert_default().kept_bytes = byte_count;
            self.line.mark_dirty(self.index, self.common);
        }
    }

    /// The connection's name.
    pub fn id(&self) -> ConnId {
        ConnId { slot: self.index, generation: self.line.generation }
    }
}

impl<C> Connections<C> {
    /// The peer keeps what is queued waiting, which may have become more or less, or nothing.
    #[cold]
    pub(super) fn note_waiting(&mut self, slot: u32) {
        let (line, common) = (&mut self.slots[slot as usize].line, &mut self.common);
        let queued_bytes = line.outbox.queued_bytes();
        if queued_bytes == 0 && line.waiting.0.is_none() {
            return;
        }
        let state = line.waiting.0.get_or_insert_default();
        common.waiting_bytes = common.waiting_bytes - state.bytes + queued_bytes;
        let counters = &mut self.counters;
        counters.waiting_bytes = counters.waiting_bytes - state.bytes as u64 + queued_bytes as u64;
        counters.waiting_connections =
            counters.waiting_connections - u64::from(state.bytes > 0) + u64::from(queued_bytes > 0);
        state.bytes = queued_bytes;
        state.since_ns = if queued_bytes == 0 { None } else { state.since_ns.or(Some(common.now_ns)) };
    }

    /// The same, and it has just taken some.
    #[cold]
    pub(super) fn note_progress(&mut self, slot: u32) {
        let now_ns = Some(self.common.now_ns);
        let state = self.slots[slot as usize].line.waiting.0.get_or_insert_default();
        (state.since_ns, state.progressed_ns) = (now_ns, now_ns);
        self.note_waiting(slot);
    }

    /// Whether a peer that keeps its output waiting is not to be read from any more.
    pub(super) fn is_too_much_waiting(&self, slot: u32, config: &Config) -> bool {
        let queued_bytes = self.slots[slot as usize].line.outbox.queued_bytes();
        queued_bytes > config.outbox_bytes || self.common.waiting_bytes > config.outbox_bytes_in_all
    }

    /// Whether one that is not read from for that reason, and still keeps output waiting, may be again.
    pub(super) fn is_little_waiting(&self, slot: u32, config: &Config) -> bool {
        let queued_bytes = self.slots[slot as usize].line.outbox.queued_bytes();
        queued_bytes <= config.outbox_bytes / 2 && self.common.waiting_bytes <= config.outbox_bytes_in_all
    }

    /// Counts that a connection is not read from any more.
    #[cold]
    pub(super) fn count_pause(&mut self, slot: u32, config: &Config) {
        let line = &self.slots[slot as usize].line;
        if line.is_held_by_us() {
            // To hand it to the kernel's TLS, or because there are many handshakes: nobody is slow.
            return;
        }
        let of_all = line.holds == 0 && line.outbox.queued_bytes() <= config.outbox_bytes;
        self.counters.pauses += 1;
        self.counters.pauses_in_all += u64::from(of_all);
    }
}
