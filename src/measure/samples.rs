//! How much a run's samples say: the effective sample size of each percentile, and its confidence interval.
//!
//! Answers that wait in one queue are slow together, so a thousand of them may say no more than ten independent ones, and an
//! interval made from their raw count is far too narrow. What counts is how much the *share of slow answers* varies from one
//! piece of the run to the next, against how much it would if each answer were a draw of its own.
//!
//! Invariant: a percentile is stated where its effective samples bound it from above, and nowhere else; correlation can only
//! take samples away, never add any.
//! Deliberately absent: any assumption about the shape of the distribution, and what varies between runs, of which one
//! run can say nothing.

use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, PERCENTILES, bounding_ranks, has_enough_samples, maximum_ns};
use super::result::RunResult;
use super::series::Batch;

/// With fewer batches than this, their variance says too little.
pub const BATCHES_MIN: usize = 10;

/// The 99th percentile among [`PERCENTILES`].
pub const P99: usize = 3;
const _: () = assert!(PERCENTILES[P99].1 == 0.99);

/// A percentile with its 95 % confidence interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Which, as `p99`.
    pub percentile: String,
    /// The same as a share of one.
    pub quantile: f64,
    /// The percentile, in nanoseconds.
    pub value_ns: u64,
    /// The interval's lower end, in nanoseconds.
    pub low_ns: u64,
    /// The interval's upper end, in nanoseconds.
    pub high_ns: u64,
    /// How many independent samples would tell as much.
    pub effective_samples: u64,
}

/// By how much the variance of the share above each of [`PERCENTILES`] exceeds that of independent samples: at least
/// 1; as many times fewer do the samples count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inflation {
    at: [f64; PERCENTILES.len()],
    measured: bool,
}

impl Inflation {
    /// Samples taken as independent, for want of anything to tell by.
    pub const UNKNOWN: Inflation = Inflation { at: [1.0; PERCENTILES.len()], measured: false };

    /// By the method of batch means, on the indicator "above the percentile": see [`dispersion`]. What is in `whole` but in
    /// no batch (answers after the window) is one more batch.
    ///
    /// A batch shorter than the correlation sees only a part of it, a longer one loses nothing but precision, so batches are
    /// also merged in twos, fours and so on, down to [`BATCHES_MIN`], and the largest inflation counts (the choice of
    /// batch size: Schmeiser, "Batch size effects in the analysis of simulation output", Operations Research 30(3), 1982).
    /// Taking the largest makes intervals of independent data about a tenth too wide, the price of not making others far
    /// too narrow. With fewer than [`BATCHES_MIN`] batches: [`Self::UNKNOWN`].
    ///
    /// Quantiles by batch means of the indicator: Heidelberger and Lewis, "Quantile estimation in dependent sequences",
    /// Operations Research 32(1), 1984; that intervals must allow for dependence: Kogias et al., "Lancet", USENIX ATC 2019.
    pub fn of(whole: &Histogram, batches: &[Batch]) -> Inflation {
        if batches.len() < BATCHES_MIN {
            return Inflation::UNKNOWN;
        }
        let at = PERCENTILES.map(|(_, quantile)| {
            let value_ns = whole.value_at_quantile(quantile);
            // Where many durations are equal, what is above the percentile may be little of what could have been.
            let from_ns = whole.lowest_equivalent(value_ns).saturating_sub(1);
            let inflation = |above_ns| largest_dispersion(counts(whole, batches, above_ns));
            inflation(value_ns).max(inflation(from_ns)).max(1.0)
        });
        Inflation { at, measured: true }
    }

    /// Of a run's headline durations.
    pub fn of_run(result: &RunResult) -> Inflation {
        Inflation::of(result.headline(), &result.batches)
    }

    /// Whether it was measured, or samples are taken as independent.
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// How many independent samples would tell as much of percentile `index` of [`PERCENTILES`].
    pub fn effective_samples(&self, histogram: &Histogram, index: usize) -> u64 {
        (histogram.len() as f64 / self.at[index]) as u64
    }

    /// Percentile `index` of [`PERCENTILES`] in nanoseconds, or `None` if there are too few effective samples to state it.
    ///
    /// For a histogram other than the one this was made of, such as service times beside response times, it is taken that
    /// the same messages are as correlated.
    pub fn percentile_ns(&self, histogram: &Histogram, index: usize) -> Option<u64> {
        let (_, quantile) = PERCENTILES[index];
        has_enough_samples(self.effective_samples(histogram, index), quantile)
            .then(|| value_ns(histogram, quantile))
    }

    /// Every percentile that can be stated, with its interval: that of [`bounding_ranks`] among the effective samples, each
    /// rank standing for as large a share of the histogram.
    pub fn estimates(&self, histogram: &Histogram) -> Vec<Estimate> {
        let estimate = |(index, (label, quantile)): (usize, (&str, f64))| {
            let effective_samples = self.effective_samples(histogram, index);
            let (low, high) = bounding_ranks(effective_samples, quantile)?;
            let at_rank = |rank: u64| value_ns(histogram, rank as f64 / effective_samples as f64);
            Some(Estimate {
                percentile: label.to_owned(),
                quantile,
                value_ns: value_ns(histogram, quantile),
                low_ns: at_rank(low),
                high_ns: at_rank(high),
                effective_samples,
            })
        };
        PERCENTILES.into_iter().enumerate().filter_map(estimate).collect()
    }
}

fn value_ns(histogram: &Histogram, quantile: f64) -> u64 {
    histogram.value_at_quantile(quantile).min(maximum_ns(histogram).unwrap_or(0))
}

/// One batch's answers, and those of them that were slow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    all: u64,
    above: u64,
}

impl Count {
    fn sum(counts: &[Count]) -> Count {
        let add = |sum: Count, count: &Count| Count {
            all: sum.all.saturating_add(count.all),
            above: sum.above.saturating_add(count.above),
        };
        counts.iter().fold(Count::default(), add)
    }
}

/// What lies above `value_ns` in each batch, and in what is in no batch.
fn counts(whole: &Histogram, batches: &[Batch], value_ns: u64) -> Vec<Count> {
    let of_batch =
        |batch: &Batch| Count { all: batch.headline.len(), above: batch.headline.count_above(value_ns) };
    let mut counts: Vec<Count> = batches.iter().map(of_batch).collect();
    let in_batches = Count::sum(&counts);
    let above = whole.len() - whole.count_between(0, value_ns);
    let after = Count {
        all: whole.len().saturating_sub(in_batches.all),
        above: above.saturating_sub(in_batches.above),
    };
    counts.extend((after.all > 0).then_some(after));
    counts
}

/// The largest [`dispersion`] of the batches as they are, in twos, in fours and so on.
fn largest_dispersion(mut counts: Vec<Count>) -> f64 {
    let mut largest = dispersion(&counts);
    while counts.len().div_ceil(2) >= BATCHES_MIN {
        counts = counts.chunks(2).map(Count::sum).collect();
        largest = largest.max(dispersion(&counts));
    }
    largest
}

/// The index of dispersion of the counts above, each against its batch's size: observed variance by that of independent
/// samples. 0 where nothing, or everything, is above.
///
/// Batches are of equal length in time, not in samples, so the share p above is a ratio of two sums, and its variance is that
/// of the residuals cᵢ − p·nᵢ (Cochran, "Sampling Techniques", 6.3), which independent samples would make Σnᵢ·p·(1−p).
fn dispersion(counts: &[Count]) -> f64 {
    let total = Count::sum(counts);
    if total.above == 0 || total.above >= total.all {
        return 0.0;
    }
    let share = total.above as f64 / total.all as f64;
    let independent = total.above as f64 * (1.0 - share);
    let residual = |count: &Count| count.above as f64 - share * count.all as f64;
    let observed: f64 = counts.iter().map(|count| residual(count).powi(2)).sum();
    let batches = counts.len() as f64;
    observed / independent * batches / (batches - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::{new_histogram, record};
    use crate::measure::series::Compact;

    /// A run: when each message ended, in any unit, and how long it took.
    type Run = Vec<(f64, f64)>;

    fn exponential(random: &mut fastrand::Rng) -> f64 {
        -(1.0 - random.f64()).ln()
    }

    /// Answers that have nothing to do with each other; mean 1.
    fn independent(random: &mut fastrand::Rng, count: usize) -> Run {
        let mut time = 0.0;
        let mut next = || {
            time += exponential(random);
            (time, exponential(random))
        };
        (0..count).map(|_| next()).collect()
    }

    /// A server that is busy 80 % of its time, from its stationary state on (Lindley's recursion): response times are
    /// exponential with mean 5, and those that share a busy period are slow together.
    fn queue(random: &mut fastrand::Rng, count: usize) -> Run {
        const BUSY: f64 = 0.8;
        let (mut time, mut response) = (0.0, exponential(random) / (1.0 - BUSY));
        let mut next = || {
            let gap = exponential(random) / BUSY;
            time += gap;
            response = (response - gap).max(0.0) + exponential(random);
            (time, response)
        };
        (0..count).map(|_| next()).collect()
    }

    /// Answers that take 1, but for stalls: once in 200 messages on average everything stands still for the length of 40 or
    /// so, and whoever comes meanwhile waits for the end as well.
    fn stalling(random: &mut fastrand::Rng, count: usize) -> Run {
        let (mut time, mut begins, mut ends) = (0.0, exponential(random) * 160.0, 0.0);
        let mut next = || {
            time += exponential(random);
            while time > begins {
                ends = begins + exponential(random) * 40.0;
                begins = ends + exponential(random) * 160.0;
            }
            (time, exponential(random) + f64::max(ends - time, 0.0))
        };
        (0..count).map(|_| next()).collect()
    }

    const UNIT_NS: f64 = 10_000.0;

    fn recorded(run: &Run, batch_count: usize) -> (Histogram, Vec<Batch>) {
        let end = run.last().unwrap().0;
        let batch_of = |time: f64| ((time / end * batch_count as f64) as usize).min(batch_count - 1);
        let (mut whole, mut part) = (new_histogram(), new_histogram());
        let mut batches = vec![Batch::default(); batch_count];
        for run in run.chunk_by(|a, b| batch_of(a.0) == batch_of(b.0)) {
            part.reset();
            run.iter().for_each(|&(_, took)| record(&mut part, (took * UNIT_NS) as u64));
            whole.add(&part).unwrap();
            batches[batch_of(run[0].0)].headline = Compact::of(&part);
        }
        (whole, batches)
    }

    /// How often the interval of `label` held the truth, by raw count and by effective samples.
    fn coverage(
        make: fn(&mut fastrand::Rng, usize) -> Run,
        label: &str,
        truth: f64,
        batch_count: usize,
    ) -> (f64, f64) {
        const RUNS: u64 = 200;
        let mut held = [0; 2];
        for seed in 0..RUNS {
            let (whole, batches) = recorded(&make(&mut fastrand::Rng::with_seed(seed), 20_000), batch_count);
            let inflation = Inflation::of(&whole, &batches);
            assert!(inflation.is_measured());
            for (held, inflation) in held.iter_mut().zip([Inflation::UNKNOWN, inflation]) {
                let estimates = inflation.estimates(&whole);
                let estimate = estimates.iter().find(|estimate| estimate.percentile == label).unwrap();
                assert!(estimate.low_ns <= estimate.value_ns && estimate.value_ns <= estimate.high_ns);
                let truth_ns = (truth * UNIT_NS) as u64;
                // To within a slot of the histogram.
                let interval = estimate.low_ns - estimate.low_ns / 1000..=estimate.high_ns;
                *held += u64::from(interval.contains(&truth_ns));
            }
        }
        let [raw, effective] = held.map(|held| held as f64 / RUNS as f64);
        (raw, effective)
    }

    #[test]
    fn intervals_of_independent_answers_hold_the_truth_as_often_as_they_say() {
        for (label, quantile) in [("p50", 0.5_f64), ("p99", 0.99)] {
            let truth = -(1.0 - quantile).ln();
            for batch_count in [20, 64] {
                let (raw, effective) = coverage(independent, label, truth, batch_count);
                assert!((0.92..=0.99).contains(&effective), "{label}, {batch_count}: {effective}, raw {raw}");
            }
        }
    }

    #[test]
    fn intervals_of_queued_answers_hold_the_truth_and_raw_counts_would_not() {
        for (label, quantile) in [("p50", 0.5_f64), ("p90", 0.9)] {
            let truth = -5.0 * (1.0 - quantile).ln();
            for batch_count in [20, 39, 64] {
                let (raw, effective) = coverage(queue, label, truth, batch_count);
                assert!(effective >= 0.9, "{label}, {batch_count}: {effective}");
                assert!(raw < 0.6, "{label}, {batch_count}: the test tells nothing apart: {raw}");
            }
        }
    }

    #[test]
    fn intervals_of_answers_held_up_by_stalls_hold_the_truth_and_raw_counts_would_not() {
        // What no formula gives, a run a hundred times as long does.
        let mut long = stalling(&mut fastrand::Rng::with_seed(1 << 40), 2_000_000);
        long.sort_by(|a, b| a.1.total_cmp(&b.1));
        let truth = long[long.len() * 9 / 10].1;
        for batch_count in [20, 64] {
            let (raw, effective) = coverage(stalling, "p90", truth, batch_count);
            assert!(effective >= 0.9, "{batch_count}: {effective}");
            assert!(raw < 0.6, "{batch_count}: the test tells nothing apart: {raw}");
        }
    }

    #[test]
    fn a_percentile_that_rests_on_one_stall_is_not_stated() {
        let mut run = independent(&mut fastrand::Rng::with_seed(1), 20_000);
        let (whole, batches) = recorded(&run, 100);
        let p99 = 3;
        assert!(Inflation::of(&whole, &batches).percentile_ns(&whole, p99).is_some());
        run[10_000..10_400].iter_mut().for_each(|(_, took)| *took += 100.0);
        let (whole, batches) = recorded(&run, 100);
        let inflation = Inflation::of(&whole, &batches);
        assert!(inflation.effective_samples(&whole, p99) < 200, "{inflation:?}");
        assert_eq!(inflation.percentile_ns(&whole, p99), None);
        assert!(
            Inflation::UNKNOWN.percentile_ns(&whole, p99).is_some(),
            "its raw count says nothing of that"
        );
        let labels: Vec<_> =
            inflation.estimates(&whole).into_iter().map(|estimate| estimate.percentile).collect();
        assert_eq!(labels, ["p50", "p75", "p90"]);
    }

    #[test]
    fn answers_after_the_window_are_a_batch_of_their_own() {
        let run = independent(&mut fastrand::Rng::with_seed(2), 20_000);
        let (mut whole, batches) = recorded(&run, 40);
        let calm = Inflation::of(&whole, &batches);
        (0..400).for_each(|_| record(&mut whole, 100_000_000));
        let with_late_ones = Inflation::of(&whole, &batches);
        assert!(with_late_ones.at[3] > 20.0 * calm.at[3], "{calm:?} {with_late_ones:?}");
    }

    #[test]
    fn too_few_batches_and_equal_durations_make_no_number_up() {
        let (whole, batches) =
            recorded(&independent(&mut fastrand::Rng::with_seed(1), 1000), BATCHES_MIN - 1);
        assert_eq!(Inflation::of(&whole, &batches), Inflation::UNKNOWN);
        assert_eq!(Inflation::of(&new_histogram(), &[]).estimates(&new_histogram()), []);
        let equal: Run = (1..=1000).map(|number| (f64::from(number), 1.0)).collect();
        let (whole, batches) = recorded(&equal, 20);
        let inflation = Inflation::of(&whole, &batches);
        assert_eq!((inflation.is_measured(), inflation.effective_samples(&whole, 0)), (true, 1000));
    }
}
