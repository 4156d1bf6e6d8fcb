//! When to look at which connection again: a heap that every engine shares.
//!
//! A connection has one wake-up time. Moving it later costs nothing: the earlier entry stays, the handler is
//! asked early, finds nothing due and names the next time. So traffic never touches the heap.
//!
//! An entry names a slot, not whose it was: who looks at an entry that is due compares its time with that at which the slot's
//! connection is to be woken, and passes over it where they differ. Those of connections that are gone go the same way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A time, its high half first, and a slot: every connection has one, and a `u64` would make it four bytes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at_ns_high: u32,
    at_ns_low: u32,
    slot: u32,
}

impl Entry {
    fn at_ns(self) -> u64 {
        u64::from(self.at_ns_high) << 32 | u64::from(self.at_ns_low)
    }
}

/// What one connection takes here.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>();

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<Entry>>);

impl Timers {
    /// Room for so many entries, which takes no memory until they are there, and is not copied as it fills.
    pub(crate) fn with_capacity(entry_count: usize) -> Self {
        Self(BinaryHeap::with_capacity(entry_count))
    }

    pub(crate) fn push(&mut self, at_ns: u64, slot: u32) {
        self.0.push(Reverse(Entry { at_ns_high: (at_ns >> 32) as u32, at_ns_low: at_ns as u32, slot }));
    }

    /// The earliest entry's time, in nanoseconds of [`super::clock_ns`].
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.0.peek().map(|&Reverse(entry)| entry.at_ns())
    }

    /// Takes out the earliest entry, if it is due: its time, and the slot.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<(u64, u32)> {
        let &Reverse(entry) = self.0.peek()?;
        if entry.at_ns() > now_ns {
            return None;
        }
        self.0.pop();
        Some((entry.at_ns(), entry.slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_by_their_time_whatever_its_halves_are() {
        let mut timers = Timers::default();
        let times_ns = [u64::MAX, 1 << 32, (1 << 32) - 1, 7, (5 << 32) | 3, 0];
        for (slot, &at_ns) in times_ns.iter().enumerate() {
            timers.push(at_ns, slot as u32);
        }
        assert_eq!(timers.next_ns(), Some(0));
        let mut sorted = times_ns;
        sorted.sort_unstable();
        for at_ns in sorted {
            assert_eq!(at_ns.checked_sub(1).and_then(|before_ns| timers.pop_due(before_ns)), None);
            let (popped_ns, slot) = timers.pop_due(at_ns).unwrap();
            assert_eq!((popped_ns, times_ns[slot as usize]), (at_ns, at_ns));
        }
        assert_eq!(timers.next_ns(), None);
    }
}
