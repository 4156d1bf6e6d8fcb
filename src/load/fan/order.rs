//! In which order one publisher's messages come to one subscriber: what is missed, what comes late, what comes again.
//!
//! Invariant: each number is heard once; whatever else is heard of it is a repetition. A number that was passed over is missed until
//! it comes after all.

use std::ops::Range;

/// Runs of numbers that were passed over and may still come; of more, the oldest are no longer waited for.
const RUNS_MAX: usize = 1 << 10;

/// What one subscriber has heard of one publisher.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The number that is to come next.
    next: u64,
    /// Those before it that have not come, in order; nothing takes no memory.
    missed: Option<Box<Missed>>,
}

#[derive(Debug, Default)]
struct Missed {
    runs: Vec<Range<u64>>,
}

/// What a number that came is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// New, with so many passed over.
    New { missed: u64 },
    /// One of those that had been passed over.
    Late,
    /// Heard before.
    Again,
}

impl Line {
    /// The number that is to come next.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The one that is to come next has come.
    #[inline]
    pub(super) fn hear_next(&mut self) {
        self.next += 1;
    }

    /// A number has come, whichever it is.
    #[cold]
    pub(super) fn hear(&mut self, number: u64) -> Heard {
        if number >= self.next {
            let passed_over = self.next..number;
            self.next = number + 1;
            let missed = number - passed_over.start;
            if missed > 0 {
                let runs = &mut self.missed.get_or_insert_default().runs;
                if runs.len() == RUNS_MAX {
                    runs.remove(0);
                }
                runs.push(passed_over);
            }
            return Heard::New { missed };
        }
        let Some(Missed { runs }) = self.missed.as_deref_mut() else { return Heard::Again };
        let at = runs.partition_point(|run| run.end <= number);
        let Some(run) = runs.get(at).filter(|run| run.contains(&number)).cloned() else {
            return Heard::Again;
        };
        let left = [run.start..number, number + 1..run.end];
        runs.splice(at..=at, left.into_iter().filter(|run| !run.is_empty()));
        Heard::Late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whatever_order_numbers_come_in_each_is_heard_once_and_the_missing_are_known() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut line, mut heard, mut next, mut missing) = (Line::default(), BTreeSet::new(), 0, 0);
            for _ in 0..300 {
                let number = (next + random.u64(0..6)).saturating_sub(random.u64(0..8));
                let expected = match (heard.insert(number), number >= next) {
                    (false, _) => Heard::Again,
                    (true, true) => Heard::New { missed: number - next },
                    (true, false) => Heard::Late,
                };
                if number == line.next() && random.bool() {
                    line.hear_next();
                } else {
                    assert_eq!(line.hear(number), expected, "seed {seed}: {number}");
                }
                next = next.max(number + 1);
                missing = next - heard.len() as u64;
                assert_eq!(line.next(), next);
            }
            let known: u64 =
                line.missed.iter().flat_map(|missed| missed.runs.iter()).map(|run| run.end - run.start).sum();
            assert_eq!(known, missing, "seed {seed}");
        }
    }

    #[test]
    fn one_who_hears_a_part_only_does_not_take_memory_for_ever() {
        let mut line = Line::default();
        for index in 0..10_000 {
            assert_eq!(line.hear(2 * index + 1), Heard::New { missed: 1 });
        }
        assert_eq!(line.missed.as_ref().unwrap().runs.len(), RUNS_MAX);
        assert_eq!((line.hear(19_998), line.hear(0)), (Heard::Late, Heard::Again));
    }
}
