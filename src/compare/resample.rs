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
use super::sample::{Boot, Sample, Totals};
use crate::measure::histogram::HIGHEST_NS;
use crate::measure::series::Compact;

/// Replicates of every sample. The standard error of a 95 % interval's end is then some 4 % of the interval's half.
pub const REPLICATES: usize = 1000;

/// What is not a quantile.
const SUMMED: [Quantity; 4] = [Quantity::Rate, Quantity::Cpu, Quantity::ServerCpu, Quantity::LoadCpu];

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
    /// What each replicate came to.
    pub replicates: Replicates,
}

/// The logarithms of a number's replicates, less that of its value; of a sample of fewer than two boots there are none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replicates {
    /// With boots drawn, each as it is. Boots differ by all that varies in a kernel, by their runs and pieces as well, so these vary as
    /// much as the number does, but for n − 1 to n in the variance.
    pub of_boots: Vec<f32>,
    /// With runs and pieces drawn too. What these add is in the boots already, so it counts twice here (Davison and Hinkley, "Bootstrap
    /// Methods and their Application", 3.8): the spread is too large, but the shape is right even of few boots.
    pub of_all: Vec<f32>,
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
        let point = table.point();
        let of_boots: Vec<_> = (0..boots).map(|boot| table.boot(boot)).collect();
        let drawn = if boots < 2 { Vec::new() } else { table.replicates(seed, replicates, threads) };
        let number = |index: usize| {
            let stated = QUANTILES.get(index).is_none_or(|&quantile| sample.supports(quantile));
            let value = point[index].filter(|_| stated)?;
            let boots = of_boots.iter().map(|values| values[index]).collect::<Option<Vec<f64>>>()?;
            let log = |values: &Values| Some((values[index]? / value).ln() as f32);
            let of_boots = drawn.iter().map(|(of_boots, _)| log(of_boots)).collect::<Option<_>>()?;
            let of_all = drawn.iter().map(|(_, of_all)| log(of_all)).collect::<Option<_>>()?;
            Some(Number { value, boots, replicates: Replicates { of_boots, of_all } })
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

/// One value for each of [`QUANTILES`], then for each of [`SUMMED`].
type Values = Vec<Option<f64>>;

/// Histograms for summing up: counts by place on an axis, one part after the other.
#[derive(Default)]
struct Counts {
    /// Place and count; a count beyond 32 bits is several.
    counts: Vec<(u32, u32)>,
    /// Where each part ends, and how many it has in all.
    ends: Vec<(usize, u64)>,
}

/// A sample laid out for drawing from it.
struct Table {
    group: usize,
    cell: usize,
    boots_of_group: usize,
    /// All values that occur, in nanoseconds, ascending.
    axis: Vec<u64>,
    /// Every piece, and the pieces of each boot together.
    pieces: Counts,
    whole_boots: Counts,
    runs: Vec<Totals>,
    /// Which of `pieces` each run has.
    pieces_of: Vec<Range<usize>>,
    /// Which of `runs` each boot has, and its place among the group's boots.
    boots: Vec<(Range<usize>, usize)>,
}

/// How many times each part of a sample counts.
struct Drawn {
    boots: Vec<u32>,
    runs: Vec<u32>,
    pieces: Vec<u32>,
}

impl Counts {
    fn push(&mut self, axis: &[u64], part: &Compact) {
        let mut at = 0;
        for (value, mut count) in part.iter() {
            at += axis[at..].partition_point(|&other| other < value);
            while count > 0 {
                let low = count.min(u64::from(u32::MAX));
                self.counts.push((at as u32, low as u32));
                count -= low;
            }
        }
        self.ends.push((self.counts.len(), part.len()));
    }

    /// All parts in one, each as many times as stated; returns how many there are in all.
    fn merge(&self, times: &[u32], merged: &mut [u64]) -> u64 {
        merged.fill(0);
        let (mut start, mut total) = (0, 0);
        for (&(end, of_part), &times) in self.ends.iter().zip(times) {
            if times > 0 {
                total += of_part * u64::from(times);
                let add = |&(at, count): &(u32, u32)| {
                    merged[at as usize] += u64::from(count) * u64::from(times);
                };
                self.counts[start..end].iter().for_each(add);
            }
            start = end;
        }
        total
    }
}

impl Table {
    fn new(sample: &Sample) -> Table {
        let all = sample.present().flat_map(|(_, boot)| &boot.runs).flat_map(|run| &run.pieces);
        let mut axis: Vec<u64> = all.flat_map(|piece| piece.iter().map(|(value, _)| value)).collect();
        axis.sort_unstable();
        axis.dedup();
        let mut table = Table {
            group: sample.group,
            cell: sample.cell,
            boots_of_group: sample.boots.len(),
            axis,
            pieces: Counts::default(),
            whole_boots: Counts::default(),
            runs: Vec::new(),
            pieces_of: Vec::new(),
            boots: Vec::new(),
        };
        sample.present().for_each(|(place, boot)| table.push(place, boot));
        table
    }

    fn push(&mut self, place: usize, boot: &Boot) {
        let (first_run, mut whole) = (self.runs.len(), Compact::default());
        for run in &boot.runs {
            let first = self.pieces.ends.len();
            for piece in &run.pieces {
                self.pieces.push(&self.axis, piece);
                whole.merge(piece);
            }
            self.runs.push(run.totals);
            self.pieces_of.push(first..self.pieces.ends.len());
        }
        self.whole_boots.push(&self.axis, &whole);
        self.boots.push((first_run..self.runs.len(), place));
    }

    /// Of everything once.
    fn point(&self) -> Values {
        self.of_boots(&vec![1; self.boots.len()], &mut vec![0; self.axis.len()])
    }

    /// Of one boot.
    fn boot(&self, boot: usize) -> Values {
        let times: Vec<u32> = (0..self.boots.len()).map(|other| u32::from(other == boot)).collect();
        self.of_boots(&times, &mut vec![0; self.axis.len()])
    }

    /// Of whole boots, each as many times as stated; `merged` is memory, one count for each value.
    fn of_boots(&self, times: &[u32], merged: &mut [u64]) -> Values {
        let total = self.whole_boots.merge(times, merged);
        let of_run =
            self.boots.iter().zip(times).flat_map(|((runs, _), &times)| runs.clone().map(move |_| times));
        self.values(merged, total, of_run)
    }

    /// Of `total` merged counts, and of each run as many times as stated.
    fn values(&self, merged: &[u64], total: u64, of_run: impl Iterator<Item = u32>) -> Values {
        let mut totals = Totals::ZERO;
        self.runs.iter().zip(of_run).for_each(|(run, times)| totals.add(run, f64::from(times)));
        let mut values = quantiles(&self.axis, merged, total);
        values.extend(SUMMED.map(|quantity| totals.value(quantity)));
        values
    }

    /// Of each replicate, with boots drawn and with everything drawn.
    fn replicates(&self, seed: u64, replicates: usize, threads: usize) -> Vec<(Values, Values)> {
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

    fn part(&self, seed: u64, part: Range<usize>) -> Vec<(Values, Values)> {
        let mut merged = vec![0; self.axis.len()];
        let mut of_replicate = |replicate: usize| {
            let drawn = self.draw(seed, replicate);
            let of_boots = self.of_boots(&drawn.boots, &mut merged);
            let total = self.pieces.merge(&drawn.pieces, &mut merged);
            (of_boots, self.values(&merged, total, drawn.runs.iter().copied()))
        };
        part.map(&mut of_replicate).collect()
    }

    /// As many boots as there are, drawn with replacement; of each, as many runs as it has; of each of those, as many pieces as it has.
    fn draw(&self, seed: u64, replicate: usize) -> Drawn {
        let (boots, runs, pieces) = (self.boots.len(), self.runs.len(), self.pieces.ends.len());
        let mut drawn = Drawn { boots: vec![0; boots], runs: vec![0; runs], pieces: vec![0; pieces] };
        let group = mixed(&[seed, self.group as u64, replicate as u64]);
        let mut random_boots = Rng::with_seed(group);
        let mut random = Rng::with_seed(mixed(&[group, self.cell as u64]));
        let mut left = boots;
        while left > 0 {
            // Boots that have no runs here are drawn as well, and passed over: so cells that lack some still draw the others together.
            let place = random_boots.usize(..self.boots_of_group);
            let Ok(boot) = self.boots.binary_search_by_key(&place, |&(_, place)| place) else { continue };
            left -= 1;
            drawn.boots[boot] += 1;
            let runs = &self.boots[boot].0;
            for _ in runs.clone() {
                let run = random.usize(runs.clone());
                drawn.runs[run] += 1;
                let pieces = &self.pieces_of[run];
                pieces.clone().for_each(|_| drawn.pieces[random.usize(pieces.clone())] += 1);
            }
        }
        drawn
    }
}

/// The value at each of [`QUANTILES`] in one pass, by the rule of HdrHistogram: the first at or below which as large a share lies.
fn quantiles(axis: &[u64], merged: &[u64], total: u64) -> Values {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::Run;
    use crate::measure::histogram::{PERCENTILES, new_histogram, record};
    use crate::measure::series::Compact;

    fn run(random: &mut Rng) -> Run {
        let piece = |random: &mut Rng| {
            let mut histogram = new_histogram();
            (0..300).for_each(|_| record(&mut histogram, 50 << random.u64(..20)));
            (0..300).for_each(|_| record(&mut histogram, random.u64(1000..1_000_000)));
            Compact::of(&histogram)
        };
        let pieces: Vec<_> = (0..random.usize(1..4)).map(|_| piece(random)).collect();
        let answered = pieces.iter().map(Compact::len).sum::<u64>();
        let totals = Totals {
            answered: answered as f64,
            answered_in_window: answered as f64,
            measured_s: 1.0 + random.f64(),
            server_cpu_s: None,
            load_cpu_s: random.f64(),
        };
        Run { pieces, effective_samples: [answered; PERCENTILES.len()], totals }
    }

    fn sample(seed: u64, boots: usize) -> Sample {
        let mut random = Rng::with_seed(seed);
        let boot =
            |random: &mut Rng| Boot { runs: (0..1 + random.usize(..3)).map(|_| run(random)).collect() };
        Sample { group: 0, cell: 0, boots: (0..boots).map(|_| Some(boot(&mut random))).collect() }
    }

    fn merged<'a>(boots: impl Iterator<Item = &'a Boot>) -> crate::measure::histogram::Histogram {
        let mut histogram = new_histogram();
        boots
            .flat_map(|boot| &boot.runs)
            .flat_map(|run| &run.pieces)
            .for_each(|piece| piece.add_to(&mut histogram));
        histogram
    }

    #[test]
    fn every_quantile_is_that_of_the_merged_histogram() {
        let sample = sample(1, 4);
        let (all, table) = (merged(sample.present().map(|(_, boot)| boot)), Table::new(&sample));
        for (index, &quantile) in QUANTILES.iter().enumerate() {
            assert_eq!(table.point()[index], Some(all.value_at_quantile(quantile) as f64), "{quantile}");
            for (boot, (_, of)) in sample.present().enumerate() {
                let expected = merged([of].into_iter()).value_at_quantile(quantile) as f64;
                assert_eq!(table.boot(boot)[index], Some(expected), "{quantile}");
            }
        }
        let resampled = Resampled::with(&sample, 1, 10, 1);
        let p90 = resampled.number(Quantity::Quantile(0.9)).unwrap();
        assert_eq!((p90.value, p90.boots.len()), (all.value_at_quantile(0.9) as f64, 4));
        assert_eq!(resampled.number(Quantity::Quantile(0.999_9)), None, "too few samples");
        assert_eq!(resampled.number(Quantity::ServerCpu), None, "unknown");
        assert!(resampled.number(Quantity::LoadCpu).is_some());
    }

    #[test]
    fn a_replicate_is_what_merging_as_often_as_drawn_comes_to() {
        let sample = sample(2, 5);
        let table = Table::new(&sample);
        let pieces: Vec<&Compact> =
            sample.present().flat_map(|(_, boot)| &boot.runs).flat_map(|run| &run.pieces).collect();
        for (replicate, (_, of_all)) in table.part(7, 0..20).into_iter().enumerate() {
            let drawn = table.draw(7, replicate);
            let (mut all, mut expected) = (new_histogram(), Totals::ZERO);
            for (piece, &times) in pieces.iter().zip(&drawn.pieces) {
                (0..times).for_each(|_| piece.add_to(&mut all));
            }
            table.runs.iter().zip(&drawn.runs).for_each(|(run, &times)| expected.add(run, f64::from(times)));
            for (index, &quantile) in QUANTILES.iter().enumerate() {
                assert_eq!(of_all[index], Some(all.value_at_quantile(quantile) as f64));
            }
            assert_eq!(of_all[QUANTILES.len()..], SUMMED.map(|quantity| expected.value(quantity)));
        }
    }

    #[test]
    fn every_level_is_drawn_with_replacement_within_the_one_above() {
        let table = Table::new(&sample(3, 6));
        let (mut boots_seen, mut pieces_seen) = (vec![0; 6], vec![0.0; table.pieces.ends.len()]);
        for replicate in 0..4000 {
            let drawn = table.draw(1, replicate);
            assert_eq!(drawn.boots.iter().sum::<u32>(), 6);
            for (boot, (runs, _)) in table.boots.iter().enumerate() {
                let of_boot = &drawn.runs[runs.clone()];
                assert_eq!(of_boot.iter().sum::<u32>(), drawn.boots[boot] * runs.len() as u32);
                for run in runs.clone() {
                    let pieces = table.pieces_of[run].clone();
                    let expected = drawn.runs[run] * pieces.len() as u32;
                    assert_eq!(drawn.pieces[pieces].iter().sum::<u32>(), expected);
                }
            }
            boots_seen.iter_mut().zip(&drawn.boots).for_each(|(seen, &times)| *seen += times);
            pieces_seen
                .iter_mut()
                .zip(&drawn.pieces)
                .for_each(|(seen, &times)| *seen += f64::from(times) / 4000.0);
        }
        // Each is expected once; five standard deviations of a boot's count are 0.07, of a lone piece's at most 0.16.
        assert!(boots_seen.iter().all(|&seen| (3720..4280).contains(&seen)), "{boots_seen:?}");
        assert!(pieces_seen.iter().all(|seen| (seen - 1.0).abs() < 0.16), "{pieces_seen:?}");
    }

    #[test]
    fn the_seed_alone_decides_whatever_the_number_of_threads() {
        let sample = sample(4, 5);
        let with = |seed, threads| format!("{:?}", Resampled::with(&sample, seed, 50, threads));
        for threads in [2, 3, 7, 64] {
            assert_eq!(with(1, threads), with(1, 1));
        }
        assert_ne!(with(2, 1), with(1, 1));
    }

    #[test]
    fn cells_of_one_group_draw_the_same_boots_and_groups_their_own() {
        let (first, other) = (sample(5, 6), sample(6, 6));
        let of = |sample: &Sample, group: usize, cell: usize| {
            Table::new(&Sample { group, cell, ..sample.clone() })
        };
        let (a, b, c) = (of(&first, 0, 0), of(&other, 0, 1), of(&first, 1, 0));
        assert!((0..50).all(|replicate| a.draw(1, replicate).boots == b.draw(1, replicate).boots));
        assert!((0..50).any(|replicate| a.draw(1, replicate).boots != c.draw(1, replicate).boots));
        let mut lacking = other;
        lacking.boots[2] = None;
        let lacking = of(&lacking, 0, 1);
        for replicate in 0..200 {
            let (of_all, of_rest) = (a.draw(1, replicate).boots, lacking.draw(1, replicate).boots);
            assert_eq!(of_rest.iter().sum::<u32>(), 5);
            if of_all[2] == 1 {
                assert_eq!(of_rest, [&of_all[..2], &of_all[3..]].concat(), "the rest is drawn as it was");
            }
        }
    }

    #[test]
    fn a_count_beyond_32_bits_is_counted_in_full() {
        let many = u64::from(u32::MAX) * 3 + 5;
        let mut counts = Counts::default();
        counts.push(&[1, 2, 3], &[(1, 4), (3, many)].into_iter().collect());
        let mut merged = [9; 3];
        assert_eq!((counts.merge(&[2], &mut merged), merged), (8 + 2 * many, [8, 0, 2 * many]));
    }

    #[test]
    fn the_spectrum_ascends_and_has_every_percentile_of_the_tables() {
        assert!(QUANTILES.is_sorted_by(|a, b| a < b) && *QUANTILES.last().unwrap() < 1.0, "{QUANTILES:?}");
        assert!(PERCENTILES.iter().all(|(_, quantile)| QUANTILES.contains(quantile)), "{QUANTILES:?}");
        for metric in crate::compare::metric::METRICS {
            if let Quantity::Quantile(quantile) = metric.quantity {
                assert!(PERCENTILES.contains(&(metric.name, quantile)), "{}", metric.name);
            }
        }
    }
}
