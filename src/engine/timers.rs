//! When to look at which connection again: a heap that every engine shares.
//!
//! A connection has one wake-up time. Moving it later costs nothing: the earlier entry stays, the handler is
//! asked early, finds nothing due and names the next time. So traffic never touches the heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ConnId;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(u64, u32, u32)>>);

impl Timers {
    pub(crate) fn push(&mut self, at_ns: u64, id: ConnId) {
        self.0.push(Reverse((at_ns, id.slot, id.generation)));
    }

    /// The earliest entry's time, in nanoseconds of [`super::clock_ns`].
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.0.peek().map(|&Reverse((at_ns, ..))| at_ns)
    }

    /// Takes out the earliest entry, if it is due.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<(u64, ConnId)> {
        let &Reverse((at_ns, slot, generation)) = self.0.peek()?;
        if at_ns > now_ns {
            return None;
        }
        self.0.pop();
        Some((at_ns, ConnId { slot, generation }))
    }
}
