//! The hierarchical bootstrap: what else a sample could have come to, had chance drawn other boots, runs and pieces.
//!
//! Invariants: every value, the replicates' as well, is that of merged histograms or summed counts; the same sample and seed give the
//! same replicates, whatever the number of threads; of one group, replicate r draws the same boots in every cell, so what a boot has in
//! common over cells stays in, or cancels out of, whatever cells are combined into.
//! Deliberately absent: intervals and decisions, see [`super::contrast`] and [`super::difference`].

use std::num::NonZero;
use std::ops::Range;
use std::sync::LazyLock;

use fastrand::Rng;

use super::metric::Quantity;
use super::sample::{Run, Sample, Totals};
use crate::measure::histogram::HIGHEST_NS;

/// Replicates of every sample. The standard error of a 95 % interval's end is then some 6 % of the interval's half.
pub const REPLICATES: usize = 1000;

/// What is not a quantile.
const SUMMED: [Quantity; 3] = [Quantity::Rate, Quantity::ServerCpu, Quantity::LoadCpu];

/// Quantiles of the spectrum, ascending: three below the first fifth, then ten a decade of the share above, to 99.9998 %.
pub static QUANTILES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    const STEPS: [f64; 10] = [1.0, 0.8, 0.65, 0.5, 0.4, 0.32, 0.25, 0.2, 0.16, 0.125];
    // Rounded, so that 1 − 0.1² is the same number as 0.99.
    let quantile = |step: usize| 1.0 - STEPS[step % 10] * 0.1_f64.powi((step / 10) as i32);
    let rounded = (1..58).map(|step| (quantile(step) * 1e9).round() / 1e9);
    [0.01, 0.05, 0.1].into_iter().chain(rounded).collect()
});

/// A sample's numbers, each with what chance makes of it.
#[derive(Debug, Clone)]
pub struct Resampled {
    group: usize,
    boots: usize,
    /// One for each of [`QUANTILES`], then for each of [`SUMMED`].
    numbers: Vec<Option<Number>>,
}

/// One number of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    /// Over all boots together.
    pub value: f64,
    /// In each boot that has runs, in their order. A boot's own quantile may rest on fewer samples than would be stated of it alone.
    pub boots: Vec<f64>,
    /// The logarithm of each replicate's, less that of the value.
    pub deviations: Vec<f64>,
}

impl Resampled {
    /// Draws [`REPLICATES`] from `sample`; `seed` is the comparison's, the same for all its samples.
    pub fn new(sample: &Sample, seed: u64) -> Resampled {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        Resampled::with(sample, seed, REPLICATES, threads)
    }

    /// As [`Self::new`], with as many replicates, made by as many threads.
    pub fn with(sample: &Sample, seed: u64, replicates: usize, threads: usize) -> Resampled {
        let table = Table::new(sample);
        let boots = table.boots.len();
        let point = table.values(&vec![1; table.pieces.len()], &vec![1; table.runs.len()]);
        let of_boots: Vec<_> = (0..boots).map(|boot| table.values_of_boot(boot)).collect();
        let drawn = if boots < 2 { Vec::new() } else { table.replicates(seed, replicates, threads) };
        let number = |index: usize| {
            let stated = QUANTILES.get(index).is_none_or(|&quantile| sample.supports(quantile));
            let value = point[index].filter(|_| stated)?;
            let boots = of_boots.iter().map(|values| values[index]).collect::<Option<Vec<f64>>>()?;
            let deviation = |values: &Vec<Option<f64>>| Some((values[index]? / value).ln());
            let deviations = drawn.iter().map(deviation).collect::<Option<Vec<f64>>>()?;
            Some(Number { value, boots, deviations })
        };
        Resampled { group: sample.group, boots, numbers: (0..point.len()).map(number).collect() }
    }

    /// The group that the sample is of.
    pub fn group(&self) -> usize {
        self.group
    }

    /// Boots that it has runs of.
    pub fn boots(&self) -> usize {
        self.boots
    }

    /// What `quantity` came to; `None` if it cannot be stated.
    pub fn number(&self, quantity: Quantity) -> Option<&Number> {
        let index = match quantity {
            Quantity::Quantile(quantile) => QUANTILES.iter().position(|&other| other == quantile)?,
            _ => QUANTILES.len() + SUMMED.iter().position(|&other| other == quantity)?,
        };
        self.numbers[index].as_ref()
    }
}

/// A sample laid out for summing up: the pieces' counts by place on one axis of all values that occur.
struct Table {
    group: usize,
    cell: usize,
    /// Values in nanoseconds, ascending.
    axis: Vec<u64>,
    /// Place on the axis and count; a count beyond 32 bits is several.
    counts: Vec<(u32, u32)>,
    /// Which of `counts` each piece has.
    pieces: Vec<Range<usize>>,
    /// Which of `pieces` each run has, and its sums.
    runs: Vec<(Range<usize>, Totals)>,
    /// Which of `runs` each boot has, and its place among the group's boots.
    boots: Vec<(Range<usize>, usize)>,
    boots_of_group: usize,
}

impl Table {
    fn new(sample: &Sample) -> Table {
        let all = || sample.present().flat_map(|(_, boot)| &boot.runs).flat_map(|run| &run.pieces);
        let mut axis: Vec<u64> = all().flat_map(|piece| piece.iter().map(|(value, _)| value)).collect();
        axis.sort_unstable();
        axis.dedup();
        let mut table = Table {
            group: sample.group,
            cell: sample.cell,
            axis,
            counts: Vec::new(),
            pieces: Vec::new(),
            runs: Vec::new(),
            boots: Vec::new(),
            boots_of_group: sample.boots.len(),
        };
        for (place, boot) in sample.present() {
            let first = table.runs.len();
            boot.runs.iter().for_each(|run| table.push(run));
            table.boots.push((first..table.runs.len(), place));
        }
        table
    }

    fn push(&mut self, run: &Run) {
        let first_piece = self.pieces.len();
        for piece in &run.pieces {
            let first = self.counts.len();
            let mut at = 0;
            for (value, mut count) in piece.iter() {
                at += self.axis[at..].partition_point(|&other| other < value);
                while count > 0 {
                    let part = count.min(u64::from(u32::MAX));
                    self.counts.push((at as u32, part as u32));
                    count -= part;
                }
            }
            self.pieces.push(first..self.counts.len());
        }
        self.runs.push((first_piece..self.pieces.len(), run.totals));
    }

    /// Every number with each piece and each run counted as many times as stated.
    fn values(&self, pieces: &[u32], runs: &[u32]) -> Vec<Option<f64>> {
        self.values_with(pieces, runs, &mut vec![0; self.axis.len()])
    }

    /// As [`Self::values`]; `merged` is memory, one count for each value.
    fn values_with(&self, pieces: &[u32], runs: &[u32], merged: &mut [u64]) -> Vec<Option<f64>> {
        merged.fill(0);
        for (piece, &times) in self.pieces.iter().zip(pieces).filter(|&(_, &times)| times > 0) {
            for &(at, count) in &self.counts[piece.clone()] {
                merged[at as usize] += u64::from(count) * u64::from(times);
            }
        }
        let mut totals = Totals::ZERO;
        self.runs.iter().zip(runs).for_each(|((_, run), &times)| totals.add(run, f64::from(times)));
        let mut values = quantiles(&self.axis, merged);
        values.extend(SUMMED.map(|quantity| totals.value(quantity)));
        values
    }

    fn values_of_boot(&self, boot: usize) -> Vec<Option<f64>> {
        let (mut pieces, mut runs) = (vec![0; self.pieces.len()], vec![0; self.runs.len()]);
        for run in self.boots[boot].0.clone() {
            runs[run] = 1;
            pieces[self.runs[run].0.clone()].fill(1);
        }
        self.values(&pieces, &runs)
    }

    fn replicates(&self, seed: u64, replicates: usize, threads: usize) -> Vec<Vec<Option<f64>>> {
        let share = replicates.div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let of_thread = |first: usize| {
                let part = first..replicates.min(first + share);
                scope.spawn(move || self.part(seed, part))
            };
            let started: Vec<_> = (0..replicates).step_by(share).map(of_thread).collect();
            started.into_iter().flat_map(|thread| thread.join().expect("summing does not panic")).collect()
        })
    }

    fn part(&self, seed: u64, part: Range<usize>) -> Vec<Vec<Option<f64>>> {
        let mut merged = vec![0; self.axis.len()];
        let mut of_replicate = |replicate: usize| {
            let (pieces, runs) = self.draw(seed, replicate);
            self.values_with(&pieces, &runs, &mut merged)
        };
        part.map(&mut of_replicate).collect()
    }

    /// How many times each piece and each run counts in a replicate: as many boots as there are, drawn with replacement; for each, as
    /// many runs as it has; for each of those, as many pieces as it has.
    fn draw(&self, seed: u64, replicate: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut pieces, mut runs) = (vec![0; self.pieces.len()], vec![0; self.runs.len()]);
        let group = [seed, self.group as u64, replicate as u64];
        let mut of_boots = Rng::with_seed(mixed(&group));
        let mut random = Rng::with_seed(mixed(&[&group[..], &[self.cell as u64]].concat()));
        let mut left = self.boots.len();
        while left > 0 {
            // Boots that have no runs here are drawn as well, and passed over: so cells that lack some still draw the others together.
            let place = of_boots.usize(..self.boots_of_group);
            let Ok(boot) = self.boots.binary_search_by_key(&place, |&(_, place)| place) else { continue };
            left -= 1;
            let of_boot = &self.boots[boot].0;
            for _ in of_boot.clone() {
                let run = random.usize(of_boot.clone());
                runs[run] += 1;
                let of_run = &self.runs[run].0;
                of_run.clone().for_each(|_| pieces[random.usize(of_run.clone())] += 1);
            }
        }
        (pieces, runs)
    }
}

/// The value at each of [`QUANTILES`] in one pass, by the rule of HdrHistogram: the first at or below which as large a share lies.
fn quantiles(axis: &[u64], merged: &[u64]) -> Vec<Option<f64>> {
    let total = merged.iter().sum::<u64>();
    if total == 0 {
        return vec![None; QUANTILES.len()];
    }
    let (mut at, mut below) = (0, merged[0]);
    let mut value = |quantile: &f64| {
        let rank = ((quantile * total as f64).ceil() as u64).max(1);
        while below < rank {
            at += 1;
            below += merged[at];
        }
        Some(axis[at].min(HIGHEST_NS) as f64)
    };
    QUANTILES.iter().map(&mut value).collect()
}

/// A seed of several numbers, in which each bit of each counts: the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014), over and over.
fn mixed(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |state, &number| {
        let mut z = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
