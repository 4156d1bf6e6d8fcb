//! What a handler can do with one connection: everything queued in a turn leaves together at its end.
//!
//! Nothing here does I/O: it is noted, and the connection marked as one that its engine has to look at. What waits for slow peers is
//! told by `waiting`.

use std::ops::Range;

use bytes::Bytes;

use super::outbox::Segment;
use super::{HELD_BY_HANDLER, HELD_FOR_TURN, Intent, Io};

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

    /// In how many pieces they are, where they are not copied on their way down.
    pub fn queued_pieces(&self) -> usize {
        self.line.outbox.segment_count()
    }

    /// Has the peer not read from until this is called with `false`; what has been received may still be handed over.
    pub fn hold_reading(&mut self, hold: bool) {
        if self.line.is_held_by_handler() != hold {
            self.line.holds ^= HELD_BY_HANDLER;
            self.line.mark_dirty(self.index, self.common);
        }
    }

    /// Has the peer not read from, though it is not slow, while what it has sent waits for a turn.
    pub(super) fn put_off(&mut self, hold: bool) {
        self.line.holds = self.line.holds & !HELD_FOR_TURN | if hold { HELD_FOR_TURN } else { 0 };
        self.line.mark_dirty(self.index, self.common);
    }

    /// Asks for a moment of quiet, where [`Config::kernel_tls`] is set: everything that was received has been handed over,
    /// nothing is being received, all output has gone. [`Handler::on_kernel_tls`] is called in it, once.
    pub(super) fn ask_quiet(&mut self) {
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
            self.common.timers.push(at_ns, self.index);
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
