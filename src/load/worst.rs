//! The worst messages of a thread, and what the thread did while they were on their way.
//!
//! A stall delays many messages at once, and they would all be the worst; so of the answers that one turn brings only
//! the worst is kept, with how many others of that turn were nearly as slow.
//!
//! Invariant: constant memory, and next to no work for a message that is not among the worst so far.

use std::collections::VecDeque;

use crate::engine::{Counters, Switches};
use crate::measure::evidence::{Around, Exemplar};

/// How often a thread looks at itself, in nanoseconds, and how often so that it remembers longer.
const FINE_NS: u64 = 1_000_000;
const COARSE_NS: u64 = 100_000_000;
/// Looks remembered of either kind: a quarter of a second, and 25 seconds.
const LOOKS_MAX: usize = 256;

/// A thread at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    now_ns: u64,
    turns: u64,
    /// Since the look before.
    longest_turn_ns: u64,
    counters: Counters,
    switches: Switches,
}

/// Looks at a distance of at least `gap_ns`; the oldest are forgotten.
#[derive(Debug)]
struct Looks {
    gap_ns: u64,
    looks: VecDeque<Look>,
    longest_turn_ns: u64,
}

impl Looks {
    fn new(gap_ns: u64) -> Self {
        Self { gap_ns, looks: VecDeque::with_capacity(LOOKS_MAX), longest_turn_ns: 0 }
    }

    #[inline]
    fn is_due(&self, now_ns: u64) -> bool {
        self.looks.back().is_none_or(|last| now_ns >= last.now_ns + self.gap_ns)
    }

    fn push(&mut self, look: Look) {
        if self.looks.len() == LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back(Look { longest_turn_ns: std::mem::take(&mut self.longest_turn_ns), ..look });
    }

    /// The last look before `since_ns`, and the longest turn after it.
    fn before(&self, since_ns: u64) -> Option<(Look, u64)> {
        let later = self.looks.iter().rev().take_while(|look| look.now_ns > since_ns).count();
        let first = self.looks.len().checked_sub(later + 1)?;
        let longest_ns = self.looks.iter().skip(first + 1).map(|look| look.longest_turn_ns).max();
        Some((self.looks[first], longest_ns.unwrap_or(0).max(self.longest_turn_ns)))
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Worst {
    keep: usize,
    /// Worst first.
    kept: Vec<Exemplar>,
    /// What a message has to be worse than to be kept, in nanoseconds.
    bar_ns: u64,
    of_turn: Option<(Exemplar, u64)>,
    turns: u64,
    last_turn_ns: u64,
    fine: Looks,
    coarse: Looks,
}

impl Worst {
    /// Keeps the `keep` worst.
    pub(super) fn new(keep: usize) -> Self {
        Self {
            keep,
            kept: Vec::new(),
            bar_ns: if keep == 0 { u64::MAX } else { 0 },
            of_turn: None,
            turns: 0,
            last_turn_ns: 0,
            fine: Looks::new(FINE_NS),
            coarse: Looks::new(COARSE_NS),
        }
    }

    /// Whether a message that took so long is worth an [`Exemplar`].
    #[inline]
    pub(super) fn is_worth(&self, response_ns: u64) -> bool {
        response_ns > self.bar_ns
    }

    /// One that is, and when it began to take time.
    #[cold]
    pub(super) fn consider(&mut self, exemplar: Exemplar, since_ns: u64) {
        match &mut self.of_turn {
            None => self.of_turn = Some((exemplar, since_ns)),
            Some((worst, worst_since_ns)) => {
                let is_near = |mild_ns: u64, bad_ns: u64| mild_ns >= bad_ns - bad_ns / 10;
                if exemplar.response_ns > worst.response_ns {
                    let others = if is_near(worst.response_ns, exemplar.response_ns) {
                        worst.others_in_turn + 1
                    } else {
                        0
                    };
                    (*worst, *worst_since_ns) = (Exemplar { others_in_turn: others, ..exemplar }, since_ns);
                } else if is_near(exemplar.response_ns, worst.response_ns) {
                    worst.others_in_turn += 1;
                }
            }
        }
    }

    /// Once a turn, after its answers; whether it wants to [`Worst::look`] at it.
    #[inline]
    pub(super) fn end_turn(&mut self, now_ns: u64) -> bool {
        self.turns += 1;
        let turn_ns = now_ns.saturating_sub(self.last_turn_ns);
        if self.last_turn_ns > 0 && turn_ns > self.fine.longest_turn_ns {
            self.fine.longest_turn_ns = turn_ns;
            self.coarse.longest_turn_ns = self.coarse.longest_turn_ns.max(turn_ns);
        }
        self.last_turn_ns = now_ns;
        self.keep > 0 && (self.of_turn.is_some() || self.fine.is_due(now_ns))
    }

    /// At the turn that ended.
    #[cold]
    pub(super) fn look(&mut self, now_ns: u64, counters: &Counters) {
        let look = Look {
            now_ns,
            turns: self.turns,
            longest_turn_ns: 0,
            counters: *counters,
            switches: Switches::of_this_thread(),
        };
        if let Some((mut exemplar, since_ns)) = self.of_turn.take() {
            exemplar.around = self.around(since_ns, &look);
            let at = self.kept.partition_point(|kept| kept.response_ns >= exemplar.response_ns);
            self.kept.insert(at, exemplar);
            self.kept.truncate(self.keep);
            if self.kept.len() == self.keep {
                self.bar_ns = self.kept.last().map_or(0, |mildest| mildest.response_ns);
            }
        }
        if self.fine.is_due(now_ns) {
            self.fine.push(look);
        }
        if self.coarse.is_due(now_ns) {
            self.coarse.push(look);
        }
    }

    fn around(&self, since_ns: u64, now: &Look) -> Around {
        let looks = self.fine.before(since_ns).or_else(|| self.coarse.before(since_ns));
        // Older than anything remembered: as far back as memory goes.
        let oldest = || self.coarse.looks.front().and_then(|oldest| self.coarse.before(oldest.now_ns));
        let Some((before, longest_turn_ns)) = looks.or_else(oldest) else { return Around::default() };
        Around {
            span_ns: now.now_ns - before.now_ns,
            turns: now.turns - before.turns,
            longest_turn_ns,
            waits: now.counters.enters - before.counters.enters,
            receives: now.counters.receives - before.counters.receives,
            starved_receives: now.counters.no_buffers - before.counters.no_buffers,
            short_sends: now.counters.short_sends - before.counters.short_sends,
            involuntary_switches: now.switches.involuntary - before.switches.involuntary,
            voluntary_switches: now.switches.voluntary - before.switches.voluntary,
        }
    }

    /// Worst first.
    pub(super) fn into_exemplars(self) -> Vec<Exemplar> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_turn(worst: &mut Worst, now_ns: u64, counters: &Counters) {
        if worst.end_turn(now_ns) {
            worst.look(now_ns, counters);
        }
    }

    fn message(number: u64, response_ns: u64) -> Exemplar {
        Exemplar { number, response_ns, ..Exemplar::default() }
    }

    #[test]
    fn the_worst_of_each_turn_are_kept_and_the_others_counted() {
        let mut worst = Worst::new(3);
        for (turn, responses_ns) in
            [&[10, 50, 20][..], &[5], &[70], &[1, 2], &[60, 65], &[4]].into_iter().enumerate()
        {
            for &response_ns in responses_ns {
                if worst.is_worth(response_ns) {
                    worst.consider(message(turn as u64, response_ns), 0);
                }
            }
            end_turn(&mut worst, 1_000 * (turn as u64 + 1), &Counters::default());
        }
        let kept: Vec<_> =
            worst.into_exemplars().iter().map(|m| (m.number, m.response_ns, m.others_in_turn)).collect();
        assert_eq!(kept, [(2, 70, 0), (4, 65, 1), (0, 50, 0)]);
        let mut none = Worst::new(0);
        assert!(!none.is_worth(u64::MAX));
        end_turn(&mut none, 1, &Counters::default());
        assert!(none.into_exemplars().is_empty());
    }

    #[test]
    fn what_is_told_of_a_message_encloses_its_life() {
        let mut worst = Worst::new(1);
        let mut counters = Counters::default();
        let turn_ns = 100_000;
        let mut now_ns = 1;
        // An ordinary second, a turn of 7 ms, ten milliseconds more; then the answer to what was sent before that turn.
        for number in 0..10_100 {
            now_ns += if number == 10_000 { 7_000_000 } else { turn_ns };
            counters.enters += 1;
            end_turn(&mut worst, now_ns, &counters);
        }
        let since_ns = now_ns - 99 * turn_ns - 7_000_000 - 1;
        worst.consider(message(1, now_ns - since_ns), since_ns);
        end_turn(&mut worst, now_ns + turn_ns, &counters);
        let around = worst.into_exemplars()[0].around;
        assert_eq!(around.longest_turn_ns, 7_000_000);
        let life_ns = now_ns + turn_ns - since_ns;
        assert!(around.span_ns >= life_ns && around.span_ns <= life_ns + FINE_NS, "{around:?}");
        assert!(
            (100..=112).contains(&around.waits) && around.turns.abs_diff(around.waits) <= 1,
            "{around:?}"
        );
    }

    #[test]
    fn a_message_older_than_memory_is_told_of_as_far_back_as_memory_goes() {
        let mut worst = Worst::new(1);
        for second in 1..100 {
            end_turn(&mut worst, second * 1_000_000_000, &Counters::default());
        }
        worst.consider(message(0, 99), 0);
        end_turn(&mut worst, 100_000_000_000, &Counters::default());
        assert_eq!(worst.into_exemplars()[0].around.span_ns, 99_000_000_000);
    }
}
