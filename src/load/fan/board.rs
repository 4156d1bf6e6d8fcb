//! What is true of the publications under way, for all generator threads: a delivery on one is of a message that another may have sent.
//!
//! It is the one thing that threads share while they measure. A publisher notes each message before it sends it; who gets a copy looks
//! it up, and so knows every byte that it should have, and when it was due. That is one line of cache for each message and thread.
//!
//! Invariant: what is looked up is whole and of the number asked for, or nothing. Deliberately absent: what was delivered, which each thread
//! keeps for itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// Publications that are known, of all publishers together: 24 MiB.
const KNOWN_MAX: usize = 1 << 20;
/// Publications known of each at least; so many publishers there may be.
const KNOWN_MIN: usize = 1 << 6;
pub(in super::super) const PUBLISHERS_MAX: usize = KNOWN_MAX / KNOWN_MIN;
/// Set in when a publication was due, if it is measured: its publisher decides it.
const MEASURED: u64 = 1 << 63;

/// See the module's text.
#[derive(Debug)]
pub(in super::super) struct Board {
    rooms: usize,
    /// Publications known of each publisher, a power of two.
    known: usize,
    slots: Vec<Slot>,
    /// How many there were so far, by publisher.
    published: Vec<AtomicU64>,
    /// How many subscribers are open, by room.
    subscribers: Vec<AtomicU64>,
    /// Threads that may still publish.
    publishing: AtomicUsize,
}

#[derive(Debug, Default)]
struct Slot {
    /// The number plus one; 0 while it is written.
    mark: AtomicU64,
    due_ns: AtomicU64,
    sent_ns: AtomicU64,
}

/// What is true of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truth {
    /// When it was due.
    pub(super) due_ns: u64,
    /// When it was sent.
    pub(super) sent_ns: u64,
    /// It is one of the measured window's.
    pub(super) is_measured: bool,
}

/// Why nothing is known of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// There is none.
    NeverSent,
    /// It was so long ago that its place was needed for another one.
    Forgotten,
}

impl Board {
    /// Of so many publishers, each of whom sends about `expected` messages, in so many rooms in turn.
    pub(super) fn new(publishers: usize, rooms: usize, threads: usize, expected: u64) -> Self {
        let room_for = (KNOWN_MAX / publishers).next_power_of_two();
        let room_for = if room_for * publishers > KNOWN_MAX { room_for / 2 } else { room_for };
        let needed = usize::try_from(expected).unwrap_or(KNOWN_MAX).clamp(KNOWN_MIN, KNOWN_MAX);
        let known = room_for.min(needed.next_power_of_two()).max(KNOWN_MIN);
        let zeros = |count| std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self {
            rooms,
            known,
            slots: std::iter::repeat_with(Slot::default).take(publishers * known).collect(),
            published: zeros(publishers),
            subscribers: zeros(rooms),
            publishing: AtomicUsize::new(threads.min(publishers)),
        }
    }

    pub(super) fn rooms(&self) -> usize {
        self.rooms
    }

    /// How many are known of each publisher.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    pub(super) fn publishers(&self) -> usize {
        self.published.len()
    }

    /// How many publishers there are in a room.
    pub(super) fn publishers_in(&self, room: usize) -> usize {
        (self.publishers() + self.rooms - 1 - room) / self.rooms
    }

    /// A subscriber has come; how many there were before it.
    pub(super) fn join(&self, room: usize) -> u64 {
        self.subscribers[room].fetch_add(1, Ordering::Relaxed)
    }

    /// One has gone.
    pub(super) fn leave(&self, room: usize) {
        self.subscribers[room].fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn subscribers(&self) -> Vec<u64> {
        self.subscribers.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Where a publication is, or would be.
    #[inline]
    pub(super) fn place(&self, publisher: usize, number: u64) -> usize {
        publisher * self.known + (number as usize & (self.known - 1))
    }

    /// Message `number` of a publisher is about to be sent, the next after those before. A publisher is one thread's.
    pub(super) fn publish(&self, publisher: usize, number: u64, truth: Truth) {
        let slot = &self.slots[self.place(publisher, number)];
        slot.mark.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.due_ns.store(truth.due_ns | if truth.is_measured { MEASURED } else { 0 }, Ordering::Relaxed);
        slot.sent_ns.store(truth.sent_ns, Ordering::Relaxed);
        slot.mark.store(number + 1, Ordering::Release);
        self.published[publisher].store(number + 1, Ordering::Release);
    }

    /// What is true of one that somebody got.
    #[inline]
    pub(super) fn look(&self, publisher: usize, number: u64) -> Result<Truth, Unknown> {
        let slot = &self.slots[self.place(publisher, number)];
        let is_it = slot.mark.load(Ordering::Acquire) == number.wrapping_add(1);
        let (due_ns, sent_ns) = (slot.due_ns.load(Ordering::Relaxed), slot.sent_ns.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if is_it && slot.mark.load(Ordering::Relaxed) == number.wrapping_add(1) && number != u64::MAX {
            return Ok(Truth { due_ns: due_ns & !MEASURED, sent_ns, is_measured: due_ns & MEASURED != 0 });
        }
        Err(self.why_unknown(publisher, number))
    }

    #[cold]
    fn why_unknown(&self, publisher: usize, number: u64) -> Unknown {
        let published = self.published[publisher].load(Ordering::Acquire);
        if number < published { Unknown::Forgotten } else { Unknown::NeverSent }
    }

    /// A thread has published its last.
    pub(super) fn stop_publishing(&self) {
        self.publishing.fetch_sub(1, Ordering::Release);
    }

    /// How many messages there were by room, once there will be no more.
    pub(super) fn all_published(&self) -> Option<Vec<u64>> {
        if self.publishing.load(Ordering::Acquire) > 0 {
            return None;
        }
        let mut by_room = vec![0; self.rooms];
        for (publisher, published) in self.published.iter().enumerate() {
            by_room[publisher % self.rooms] += published.load(Ordering::Relaxed);
        }
        Some(by_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(of: u64) -> Truth {
        Truth { due_ns: of, sent_ns: of.wrapping_mul(3), is_measured: of.is_multiple_of(2) }
    }

    #[test]
    fn what_was_published_is_known_until_its_place_is_needed() {
        let board = Board::new(3, 2, 1, 100);
        assert_eq!((board.known(), board.publishers_in(0), board.publishers_in(1)), (128, 2, 1));
        assert_eq!(board.look(2, 0), Err(Unknown::NeverSent));
        (0..130).for_each(|number| board.publish(2, number, truth(number)));
        assert_eq!((board.look(2, 129), board.look(2, 2)), (Ok(truth(129)), Ok(truth(2))));
        assert_eq!((board.look(2, 1), board.look(1, 5)), (Err(Unknown::Forgotten), Err(Unknown::NeverSent)));
        assert_eq!(
            (board.look(2, 130), board.look(2, u64::MAX)),
            (Err(Unknown::NeverSent), Err(Unknown::NeverSent))
        );
        assert_eq!(board.all_published(), None);
        board.stop_publishing();
        assert_eq!(board.all_published(), Some(vec![130, 0]));
    }

    #[test]
    fn it_takes_no_more_than_it_may_however_many_publish() {
        for (publishers, expected) in [(1, u64::MAX), (3, 1 << 40), (PUBLISHERS_MAX, 5), (1000, 1 << 30)] {
            let board = Board::new(publishers, 1, 2, expected);
            assert!(board.slots.len() <= KNOWN_MAX && board.known() >= KNOWN_MIN, "{publishers}");
            assert!(2 * board.slots.len() > KNOWN_MAX, "{publishers}");
        }
        assert_eq!(Board::new(1, 1, 1, 0).slots.len(), KNOWN_MIN);
    }

    #[test]
    fn who_looks_while_it_is_written_sees_all_of_a_publication_or_nothing() {
        let board = Board::new(1, 1, 1, 0);
        let numbers = 200_000_u64;
        std::thread::scope(|scope| {
            scope.spawn(|| (0..numbers).for_each(|number| board.publish(0, number, truth(number))));
            let mut number = 0;
            while number < numbers {
                match board.look(0, number) {
                    Ok(seen) => assert_eq!(seen, truth(number)),
                    Err(Unknown::NeverSent) => {
                        std::thread::yield_now();
                        continue;
                    }
                    Err(Unknown::Forgotten) => {}
                }
                number += 1;
            }
        });
    }
}
