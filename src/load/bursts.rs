//! What became of bursts: when the last answer to each came.
//!
//! Invariant: a burst is drained when as many answers have come as it has messages, on all threads together; only then does it have a
//! duration.

use super::tally::Window;
use crate::measure::histogram;
use crate::measure::particulars::Bursts;

/// One thread's part in every burst.
#[derive(Debug)]
pub(super) struct BurstLog {
    every_ns: u64,
    /// By number, from the run's first.
    bursts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    answered: u64,
    last_ns: u64,
}

impl BurstLog {
    /// Of bursts so far apart.
    pub(super) fn new(every_ns: u64) -> Self {
        Self { every_ns, bursts: Vec::new() }
    }

    /// The answer to a message of the burst that was due at `intended_ns` came.
    pub(super) fn on_answered(&mut self, window: &Window, intended_ns: u64, now_ns: u64) {
        let number = (intended_ns.saturating_sub(window.start_ns) / self.every_ns) as usize;
        if self.bursts.len() <= number {
            self.bursts.resize(number + 1, Part::default());
        }
        let part = &mut self.bursts[number];
        part.answered += 1;
        part.last_ns = part.last_ns.max(now_ns);
    }

    /// What the threads' parts come to, of bursts of `message_count` in `window`.
    pub(super) fn finish(logs: &[BurstLog], window: &Window, message_count: u64) -> Option<Bursts> {
        let every_ns = logs.first()?.every_ns;
        let mut bursts = Bursts::default();
        for number in 0.. {
            let due_ns = window.start_ns + number * every_ns;
            if due_ns >= window.end_ns {
                break;
            }
            if !window.measures(due_ns) {
                continue;
            }
            let parts = logs.iter().filter_map(|log| log.bursts.get(number as usize));
            let (answered, last_ns) = parts.fold((0, 0), |(answered, last_ns), part| {
                (answered + part.answered, part.last_ns.max(last_ns))
            });
            bursts.bursts += 1;
            if answered == message_count {
                bursts.drained += 1;
                histogram::record(&mut bursts.drain, last_ns - due_ns);
            } else {
                bursts.undrained += 1;
            }
        }
        Some(bursts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_lasts_until_its_last_answer_on_any_thread_and_a_lost_one_leaves_it_undrained() {
        let window = Window { start_ns: 100, measure_ns: 1_100, end_ns: 4_000, drained_ns: 9_000 };
        let mut logs = [BurstLog::new(1_000), BurstLog::new(1_000)];
        for (thread, intended_ns, now_ns) in [
            // Of the warm-up.
            (0, 100, 105),
            (1, 100, 106),
            (0, 1_100, 1_150),
            (1, 1_100, 1_120),
            // One is lost.
            (0, 2_100, 2_110),
            (1, 3_100, 8_100),
            (0, 3_100, 3_101),
        ] {
            logs[thread].on_answered(&window, intended_ns, now_ns);
        }
        let bursts = BurstLog::finish(&logs, &window, 2).unwrap();
        assert_eq!((bursts.bursts, bursts.drained, bursts.undrained), (3, 2, 1));
        assert_eq!((bursts.drain.len(), bursts.drain.min(), bursts.drain.max() / 10), (2, 50, 500));
        assert_eq!(BurstLog::finish(&[], &window, 2), None);
    }
}
