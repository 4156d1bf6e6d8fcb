//! Output that waits for peers which do not read: since when, and how much of it on all connections of a thread together.
//!
//! Invariants: a connection counts from the send that fell short until all of its output has gone or it is closed; the sum
//! is that of what is queued on those connections, to the byte. What is queued on the others is on its way, and is not
//! looked at: ordinary traffic never comes by here.
//!
//! Two bounds stop an engine from reading from a peer that keeps output waiting: its own ([`Config::outbox_bytes`]), and
//! that of all together ([`Config::outbox_bytes_in_all`]). Whoever has taken all that waited for it is read from again,
//! however much waits for others: so who reads is served whatever the others do, and who waits for nothing but its own
//! reading cannot wait for ever.

use super::{Config, Connections};

/// Of one connection.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// What was queued when it was last looked at; 0 where nothing waits.
    bytes: usize,
    /// When the peer last took some of it, or, if it has not, when it began to wait; `None` where nothing waits.
    pub(super) since_ns: Option<u64>,
    /// When the peer last took some, if nobody has asked since.
    pub(super) progressed_ns: Option<u64>,
}

impl Waiting {
    /// For another connection in the same slot.
    pub(super) fn begin(&mut self) {
        debug_assert_eq!(self.bytes, 0, "what waited is counted out when a connection ends");
        *self = Self::default();
    }
}

impl<C> Connections<C> {
    /// The peer keeps what is queued waiting, which may have become more or less, or nothing.
    #[cold]
    pub(super) fn note_waiting(&mut self, slot: u32) {
        let (line, common) = (&mut self.slots[slot as usize].line, &mut self.common);
        let queued_bytes = line.outbox.queued_bytes();
        common.waiting_bytes = common.waiting_bytes - line.waiting.bytes + queued_bytes;
        line.waiting.bytes = queued_bytes;
        line.waiting.since_ns =
            if queued_bytes == 0 { None } else { line.waiting.since_ns.or(Some(common.now_ns)) };
    }

    /// The same, and it has just taken some.
    #[cold]
    pub(super) fn note_progress(&mut self, slot: u32) {
        let (line, common) = (&mut self.slots[slot as usize].line, &self.common);
        line.waiting.since_ns = Some(common.now_ns);
        line.waiting.progressed_ns = Some(common.now_ns);
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
        let of_all = !line.holds_reading && line.outbox.queued_bytes() <= config.outbox_bytes;
        self.counters.pauses += 1;
        self.counters.pauses_in_all += u64::from(of_all);
    }
}
