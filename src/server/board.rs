//! Where threads leave their counts, for whoever asks: a thread of the server itself that answers a request, or its owner.
//!
//! Counts are left in rounds. Whoever wants new ones begins a round, which wakes every thread; each leaves its counts as it is
//! woken, and the last one wakes those that wait. So nothing is done where nobody asks, and nothing on the path of a message.
//!
//! Invariants: the lock is held only to copy counts, never while anything is waited for or written; a thread's counts are those
//! of a moment after the round began; rounds that strangers can begin are [`INTERVAL_NS`] apart, however many ask. A thread that has
//! ended is not waited for: its last counts stand.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::{Waker, clock_ns};
use crate::scenario::serve::Served;

/// From one round to the next, where it is a request that asks.
const INTERVAL_NS: u64 = 50_000_000;

/// What one thread has left.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Left {
    pub(super) served: Served,
    /// Processor time of the thread, in nanoseconds.
    pub(super) cpu_ns: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Place {
    left: Left,
    /// The round that it was left in; `u64::MAX`: the thread has ended.
    round: u64,
    /// The thread is to be woken when the round is complete.
    waits: bool,
}

#[derive(Debug)]
struct State {
    places: Vec<Place>,
    round: u64,
    begun_ns: u64,
}

impl State {
    fn is_complete(&self) -> bool {
        self.places.iter().all(|place| place.round >= self.round)
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Board {
    state: Mutex<State>,
    complete: Condvar,
    wakers: Vec<Waker>,
}

impl Board {
    /// A place for each of the threads that these wake.
    pub(super) fn new(wakers: Vec<Waker>) -> Self {
        let places = vec![Place::default(); wakers.len()];
        // Nobody has left anything: the first round is complete when all have.
        let state = State { places, round: 1, begun_ns: 0 };
        Self { state: Mutex::new(state), complete: Condvar::new(), wakers }
    }

    pub(super) fn wakers(&self) -> &[Waker] {
        &self.wakers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers cannot be left half-written: a copy is made under the lock, and that does not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread leaves its counts.
    pub(super) fn leave(&self, thread: usize, left: Left) {
        let mut state = self.lock();
        let round = state.round;
        let place = &mut state.places[thread];
        (place.left, place.round) = (left, place.round.max(round));
        self.wake_if_complete(state);
    }

    /// A thread has ended.
    pub(super) fn end(&self, thread: usize) {
        let mut state = self.lock();
        state.places[thread].round = u64::MAX;
        self.wake_if_complete(state);
    }

    fn wake_if_complete(&self, mut state: MutexGuard<'_, State>) {
        if !state.is_complete() {
            return;
        }
        for (place, waker) in state.places.iter_mut().zip(&self.wakers) {
            if std::mem::take(&mut place.waits) {
                waker.wake();
            }
        }
        drop(state);
        self.complete.notify_all();
    }

    /// Begins a round, unless one is under way, or the last was a moment ago. Says whether all counts of it are there; if not,
    /// `thread` is woken when they are.
    pub(super) fn ask(&self, thread: usize) -> bool {
        let now_ns = clock_ns();
        let mut state = self.lock();
        if state.is_complete() {
            if state.begun_ns + INTERVAL_NS > now_ns {
                return true;
            }
            self.begin(&mut state, now_ns);
        } else if state.begun_ns + INTERVAL_NS <= now_ns {
            // The first of all, which nobody has begun; or one that a thread is late for, which shall not make it late for the next.
            self.begin(&mut state, now_ns);
        }
        state.places[thread].waits = true;
        false
    }

    /// Whether all counts are there; if not, `thread` is woken when they are.
    pub(super) fn is_complete(&self, thread: usize) -> bool {
        let mut state = self.lock();
        let is_complete = state.is_complete();
        state.places[thread].waits = !is_complete;
        is_complete
    }

    fn begin(&self, state: &mut State, now_ns: u64) {
        (state.round, state.begun_ns) = (state.round + 1, now_ns);
        self.wakers.iter().for_each(Waker::wake);
    }

    /// The number of the round that is complete; `None` while counts are missing.
    pub(super) fn round(&self) -> Option<u64> {
        let state = self.lock();
        state.is_complete().then_some(state.round)
    }

    /// What was left last.
    pub(super) fn latest(&self) -> Vec<Left> {
        self.lock().places.iter().map(|place| place.left).collect()
    }

    /// Has every thread leave its counts and waits for them, at most for `time`.
    pub(super) fn gather(&self, time: Duration) -> Vec<Left> {
        let mut state = self.lock();
        self.begin(&mut state, clock_ns());
        let waited = self.complete.wait_timeout_while(state, time, |state| !state.is_complete());
        drop(waited);
        self.latest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(threads: usize) -> Board {
        Board::new((0..threads).map(|_| Waker::new().unwrap()).collect())
    }

    fn left(messages: u64) -> Left {
        Left { served: Served { messages, ..Served::default() }, cpu_ns: 0 }
    }

    fn messages(board: &Board) -> Vec<u64> {
        board.latest().iter().map(|left| left.served.messages).collect()
    }

    #[test]
    fn an_answer_waits_until_every_thread_has_left_its_counts() {
        let board = board(2);
        assert!(!board.ask(0));
        board.leave(0, left(1));
        assert!(!board.is_complete(0));
        board.leave(1, left(2));
        assert!(board.is_complete(0));
        assert_eq!(messages(&board), [1, 2]);
        assert!(board.ask(1), "a moment later, nobody is asked again");
    }

    #[test]
    fn a_thread_that_has_ended_is_not_waited_for_and_its_counts_stand() {
        let board = board(2);
        board.leave(1, left(7));
        board.end(1);
        assert!(!board.ask(0));
        board.leave(0, left(1));
        assert!(board.is_complete(0));
        board.leave(1, left(8));
        assert!(board.is_complete(0), "what it leaves at the very end does not bring it back");
        assert_eq!(messages(&board), [1, 8]);
        let gathered = std::thread::scope(|scope| {
            let gathered = scope.spawn(|| board.gather(Duration::from_secs(60)));
            while board.is_complete(0) {
                std::thread::yield_now();
            }
            board.leave(0, left(2));
            gathered.join().unwrap()
        });
        assert_eq!(gathered.len(), 2);
        assert_eq!(gathered[0].served.messages, 2);
    }
}
