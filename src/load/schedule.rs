//! When each message of an open loop is intended to be sent: fixed before the run begins.
//!
//! Invariant: the schedule depends on rate, arrivals, seed and thread alone, never on how the server answers.

use crate::measure::result::Arrivals;

/// One thread's share of the arrivals, in nanoseconds after the run's start.
///
/// Fixed arrivals of all threads interleave evenly; Poisson arrivals of each thread are independent, and their
/// sum is Poisson again.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// Mean gap of this thread, in nanoseconds; not rounded, so that rates are exact over any time.
    gap_ns: f64,
    arrivals: Arrivals,
    random: fastrand::Rng,
    next_ns: f64,
    /// From when on the mean gap is another, and which.
    change: Option<(f64, f64)>,
    /// Messages of this thread in a burst, and those left of the burst under way.
    burst: (u64, u64),
}

impl Schedule {
    /// Thread `thread` of `thread_count`'s share of `rate_per_s`.
    pub(super) fn new(
        rate_per_s: f64,
        arrivals: Arrivals,
        seed: u64,
        thread: usize,
        thread_count: usize,
    ) -> Self {
        let gap_ns = 1e9 * thread_count as f64 / rate_per_s;
        let random =
            fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (thread as u64) << 32);
        let mut schedule = Self { gap_ns, arrivals, random, next_ns: 0.0, change: None, burst: (1, 1) };
        schedule.next_ns = match arrivals {
            Arrivals::Fixed => gap_ns * thread as f64 / thread_count as f64,
            Arrivals::Poisson => schedule.exponential_ns(),
            Arrivals::Burst => 0.0,
        };
        schedule
    }

    /// Bursts of `message_count` on all of `thread_count` threads, `every_ns` apart, the first at once.
    ///
    /// # Panics
    /// Where a thread would have no message of a burst.
    pub(super) fn bursts(message_count: u64, every_ns: u64, thread: usize, thread_count: usize) -> Self {
        let (thread, thread_count) = (thread as u64, thread_count as u64);
        let share = message_count / thread_count + u64::from(thread < message_count % thread_count);
        assert!(share > 0, "a thread has a part in every burst");
        let random = fastrand::Rng::with_seed(0);
        let gap_ns = every_ns as f64;
        let arrivals = Arrivals::Burst;
        Self { gap_ns, arrivals, random, next_ns: 0.0, change: None, burst: (share, share) }
    }

    /// The same, but at `rate_per_s` (of all threads) from `at_ns` on.
    pub(super) fn with_change(mut self, at_ns: u64, rate_per_s: f64, thread_count: usize) -> Self {
        self.change = Some((at_ns as f64, 1e9 * thread_count as f64 / rate_per_s));
        self.change_if_due();
        self
    }

    /// What lies beyond the change is stretched or squeezed: arrivals of a process whose rate changes are those of a
    /// steady one on a clock that goes as much faster (for Poisson arrivals, time rescaling).
    fn change_if_due(&mut self) {
        if let Some((at_ns, gap_ns)) = self.change
            && self.next_ns >= at_ns
        {
            self.next_ns = at_ns + (self.next_ns - at_ns) * gap_ns / self.gap_ns;
            (self.gap_ns, self.change) = (gap_ns, None);
        }
    }

    /// The next arrival.
    #[inline]
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Passes on to the arrival after it.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.next_ns += match self.arrivals {
            Arrivals::Fixed => self.gap_ns,
            Arrivals::Poisson => self.exponential_ns(),
            Arrivals::Burst => self.burst_gap_ns(),
        };
        self.change_if_due();
    }

    /// Passes over the arrivals before `end_ns`, calling `each` with every one and how many it stands for: one, but
    /// where there are more than a generator could ever have sent, as many as their mean rate makes.
    pub(super) fn pass_over(&mut self, end_ns: u64, mut each: impl FnMut(u64, u64)) {
        if let Some((at_ns, _)) = self.change.filter(|&(at_ns, _)| at_ns < end_ns as f64) {
            self.pass_over_steady(at_ns as u64, &mut each);
            self.next_ns = self.next_ns.max(at_ns);
            self.change_if_due();
        }
        self.pass_over_steady(end_ns, &mut each);
    }

    fn pass_over_steady(&mut self, end_ns: u64, each: &mut impl FnMut(u64, u64)) {
        const SINGLY_MAX: f64 = 20e6;
        let expected = (end_ns as f64 - self.next_ns) / self.gap_ns * self.burst.0 as f64;
        if expected > SINGLY_MAX {
            each(end_ns - 1, expected as u64);
            self.next_ns = end_ns as f64;
        }
        while self.next_ns() < end_ns {
            each(self.next_ns(), 1);
            self.advance();
        }
    }

    /// None within a burst.
    #[cold]
    fn burst_gap_ns(&mut self) -> f64 {
        let (share, left) = &mut self.burst;
        *left -= 1;
        if *left > 0 {
            return 0.0;
        }
        *left = *share;
        self.gap_ns
    }

    /// By inversion; the uniform number is in (0, 1], whose logarithm is finite.
    fn exponential_ns(&mut self) -> f64 {
        -(1.0 - self.random.f64()).ln() * self.gap_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals_before(mut schedule: Schedule, end_ns: u64) -> Vec<u64> {
        let mut all = Vec::new();
        while schedule.next_ns() < end_ns {
            all.push(schedule.next_ns());
            schedule.advance();
        }
        all
    }

    #[test]
    fn fixed_arrivals_of_all_threads_interleave_evenly() {
        let mut all: Vec<u64> = (0..3)
            .flat_map(|thread| {
                arrivals_before(Schedule::new(3000.0, Arrivals::Fixed, 1, thread, 3), 1_000_000_000)
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all.len(), 3000);
        for pair in all.windows(2) {
            assert!((pair[1] - pair[0]).abs_diff(333_333) <= 1, "{pair:?}");
        }
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let all = arrivals_before(Schedule::new(100_000.0, Arrivals::Poisson, 7, 0, 1), 10_000_000_000);
        let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // A million gaps: the mean is within 0.1 % (one sigma), its ratio to the deviation within 0.1 %.
        assert!((mean / 10_000.0 - 1.0).abs() < 0.005, "mean {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.01, "deviation {}", variance.sqrt());
        let beyond_mean = gaps.iter().filter(|&&gap| gap > mean).count() as f64 / gaps.len() as f64;
        assert!((beyond_mean - (-1f64).exp()).abs() < 0.005, "share beyond the mean {beyond_mean}");
    }

    #[test]
    fn hopelessly_many_arrivals_are_counted_by_their_rate() {
        for (rate_per_s, tolerance) in [(1e3, 0), (1e9, 1)] {
            let mut schedule = Schedule::new(rate_per_s, Arrivals::Fixed, 1, 0, 1);
            let mut passed: u64 = 0;
            schedule.pass_over(10_000_000_000, |_, count| passed += count);
            assert!(passed.abs_diff(rate_per_s as u64 * 10) <= tolerance, "{passed} at {rate_per_s}");
            assert!(schedule.next_ns() >= 10_000_000_000);
        }
    }

    #[test]
    fn a_rate_that_changes_is_exact_on_both_sides_of_the_change() {
        for (before_per_s, after_per_s) in [(2e5, 1e4), (1e4, 2e5), (1.0, 1e5)] {
            for arrivals in [Arrivals::Fixed, Arrivals::Poisson] {
                let all: Vec<u64> = (0..2)
                    .flat_map(|thread| {
                        let schedule = Schedule::new(before_per_s, arrivals, 3, thread, 2);
                        arrivals_before(schedule.with_change(1_000_000_000, after_per_s, 2), 3_000_000_000)
                    })
                    .collect();
                let before = all.iter().filter(|&&at_ns| at_ns < 1_000_000_000).count() as f64;
                let after = all.len() as f64 - before;
                for (count, expected) in [(before, before_per_s), (after, 2.0 * after_per_s)] {
                    // Five deviations of a Poisson count.
                    let tolerance = if arrivals == Arrivals::Fixed { 2.0 } else { 5.0 * expected.sqrt() };
                    assert!((count - expected).abs() <= tolerance, "{count}, not {expected} ({arrivals:?})");
                }
            }
        }
        // Counted by their rates, where there are too many to be counted one by one.
        let mut many = Schedule::new(1e9, Arrivals::Fixed, 1, 0, 1).with_change(5_000_000_000, 1e3, 1);
        let mut passed: u64 = 0;
        many.pass_over(10_000_000_000, |_, count| passed += count);
        assert!(passed.abs_diff(5_000_005_000) <= 2, "{passed}");
    }

    #[test]
    fn the_messages_of_a_burst_are_due_at_one_instant_on_all_threads() {
        let mut all: Vec<u64> = (0..3)
            .flat_map(|thread| arrivals_before(Schedule::bursts(10, 1_000, thread, 3), 4_000))
            .collect();
        all.sort_unstable();
        let expected: Vec<u64> = (0..4).flat_map(|burst| [burst * 1_000; 10]).collect();
        assert_eq!(all, expected);
        // Where there are too many to be counted one by one.
        for share in [10, 1 << 28] {
            let (mut schedule, mut passed) = (Schedule::bursts(share, 1_000, 0, 1), 0);
            schedule.pass_over(4_000, |_, count| passed += count);
            assert_eq!((passed, schedule.next_ns()), (4 * share, 4_000));
        }
    }

    #[test]
    fn a_seed_fixes_the_schedule_and_threads_differ() {
        let schedule = |seed, thread| {
            arrivals_before(Schedule::new(1000.0, Arrivals::Poisson, seed, thread, 2), 1_000_000_000)
        };
        assert_eq!(schedule(1, 0), schedule(1, 0));
        assert_ne!(schedule(1, 0), schedule(1, 1));
        assert_ne!(schedule(1, 0), schedule(2, 0));
    }
}
