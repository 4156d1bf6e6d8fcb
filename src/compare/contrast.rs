//! Combinations of samples: any sum of multiples of logarithms, as a ratio with its interval.
//!
//! Invariants: the ratio is that of the samples' own values, the replicates only say how sure it is; samples of one group are drawn
//! together, those of different groups independently; without two boots of each sample there is no interval.
//! Deliberately absent: which combinations are worth a look.

use std::sync::LazyLock;

use super::metric::Quantity;
use super::resample::{Replicates, Resampled};
use crate::measure::student;

/// The error that intervals and tests are made for.
pub const ERROR: f64 = 0.05;
/// What a normal deviate exceeds, up or down, with that chance.
const NORMAL: f64 = 1.959_964;
/// Histograms tell values 0.1 % apart: logarithms that differ by less than this are those of one value.
const LOG_MIN: f64 = 1e-9;
/// Half a slot of a histogram, as a logarithm: boots whose percentile lies in one slot are alike only so far.
const HALF_SLOT: f64 = 0.000_5;

/// A combination of one quantity of several samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    log: f64,
    /// Of each replicate; none without two boots of each sample.
    deviations: Vec<f64>,
    error: f64,
    freedom: f64,
    /// How far it may be off, however many boots there are: histograms hold values to within so much.
    resolution: f64,
    /// The fewest boots of any sample.
    boots: usize,
}

/// What samples of one group add up to, of each replicate.
struct Block {
    group: usize,
    /// The fewest boots of any sample.
    boots: usize,
    of_boots: Vec<f64>,
    of_all: Vec<f64>,
}

impl Block {
    /// Adds `multiple` of a sample's number.
    fn add(&mut self, multiple: f64, boots: usize, replicates: &Replicates) {
        // Replicates of n boots vary less about the sample than it does about the truth: by n − 1 to n in the variance.
        let stretched = multiple * (boots as f64 / (boots as f64 - 1.0).max(1.0)).sqrt();
        self.boots = self.boots.min(boots);
        for (sums, of) in [(&mut self.of_boots, &replicates.of_boots), (&mut self.of_all, &replicates.of_all)]
        {
            sums.resize(of.len(), 0.0);
            sums.iter_mut().zip(of).for_each(|(sum, &log)| *sum += stretched * f64::from(log));
        }
    }

    /// The variance of what the samples add up to, and the replicates of that variance: spread by whole boots, shaped by everything.
    fn spread(&self) -> (f64, impl Iterator<Item = f64>) {
        let (variance, of_all) = (variance(&self.of_boots), variance(&self.of_all));
        let scale = if of_all > 0.0 { (variance / of_all).sqrt() } else { 0.0 };
        (variance, self.of_all.iter().map(move |log| log * scale))
    }
}

impl Contrast {
    /// The sum of `terms`, each a multiple of the logarithm of a sample's `quantity`: 1 and −1 make a ratio, k of 1 / k each a
    /// geometric mean, 1, −1, −1 and 1 an interaction. `None` where `quantity` of any sample cannot be stated, or there is none.
    pub fn of(quantity: Quantity, terms: &[(f64, &Resampled)]) -> Option<Contrast> {
        let (mut log, mut resolution, mut blocks) = (0.0, 0.0, Vec::<Block>::new());
        let is_read_off = matches!(quantity, Quantity::Quantile(_));
        for &(multiple, sample) in terms {
            let (number, group) = (sample.number(quantity)?, sample.group());
            log += multiple * number.value.ln();
            resolution += if is_read_off { multiple.abs() * HALF_SLOT } else { 0.0 };
            let index = blocks.iter().position(|block| block.group == group).unwrap_or(blocks.len());
            if index == blocks.len() {
                blocks.push(Block { group, boots: usize::MAX, of_boots: Vec::new(), of_all: Vec::new() });
            }
            blocks[index].add(multiple, sample.boots(), &number.replicates);
        }
        let fewest = blocks.iter().map(|block| block.boots).min()?;
        // Logarithms that cancel leave a rounding error, which is no difference, not even of boots that are all alike.
        let log = if log.abs() < LOG_MIN { 0.0 } else { log };
        let freedom = fewest as f64 - 1.0;
        let deviations = Vec::new();
        let mut contrast = Contrast { log, deviations, error: 0.0, freedom, resolution, boots: fewest };
        if fewest >= 2 {
            contrast.spread(&blocks);
        }
        Some(contrast)
    }

    /// Takes deviations, error and degrees of freedom from independent blocks: Welch, "The generalization of Student's problem when
    /// several different population variances are involved", Biometrika 34, 1947.
    fn spread(&mut self, blocks: &[Block]) {
        let (mut variance, mut squares) = (0.0, 0.0);
        for block in blocks {
            let (of_block, deviations) = block.spread();
            variance += of_block;
            squares += of_block * of_block / (block.boots as f64 - 1.0);
            self.deviations.resize(block.of_all.len(), 0.0);
            self.deviations.iter_mut().zip(deviations).for_each(|(sum, deviation)| *sum += deviation);
        }
        self.error = variance.sqrt();
        if squares > 0.0 {
            self.freedom = variance * variance / squares;
        }
    }

    /// `other` over `baseline`.
    pub fn ratio_of(quantity: Quantity, other: &Resampled, baseline: &Resampled) -> Option<Contrast> {
        Contrast::of(quantity, &[(1.0, other), (-1.0, baseline)])
    }

    /// The geometric mean, over cells, of one group's sample over the baseline's.
    pub fn geometric_mean(quantity: Quantity, cells: &[(&Resampled, &Resampled)]) -> Option<Contrast> {
        let share = 1.0 / cells.len() as f64;
        let terms = cells.iter().flat_map(|&(other, baseline)| [(share, other), (-share, baseline)]);
        Contrast::of(quantity, &terms.collect::<Vec<_>>())
    }

    /// The combination itself; of a single sample its value.
    pub fn ratio(&self) -> f64 {
        self.log.exp()
    }

    /// The ends of its 95 % interval; `None` without two boots of each sample.
    ///
    /// Percentiles of the replicates lie too close together with few boots. What Hesterberg's expanded percentile interval does to
    /// their level ("What teachers should know about the bootstrap", The American Statistician 69(4), 2015), √(n / (n − 1)) and
    /// Student's t for the normal distribution, is done to their distance here: with three boots the level would be one in a hundred
    /// thousand, which no thousand replicates have.
    pub fn interval(&self) -> Option<(f64, f64)> {
        if self.deviations.is_empty() {
            return None;
        }
        let mut sorted = self.deviations.clone();
        sorted.sort_by(f64::total_cmp);
        let wider = student_95(self.freedom) / NORMAL;
        let end = |share: f64| self.log + (wider * at(&sorted, share));
        let (low, high) = (end(ERROR / 2.0) - self.resolution, end(1.0 - ERROR / 2.0) + self.resolution);
        Some((low.exp(), high.exp()))
    }

    /// How far its logarithm may be off, however many boots there are.
    pub fn resolution(&self) -> f64 {
        self.resolution
    }

    /// The fewest boots of any sample in it.
    pub fn boots(&self) -> usize {
        self.boots
    }

    /// How likely so large a difference from 1 is by chance alone, two-sided, by Student's t with the replicates' standard error; `None`
    /// without two boots of each sample.
    pub fn chance(&self) -> Option<f64> {
        let beyond = (self.log.abs() - self.resolution).max(0.0);
        match self.error {
            _ if self.deviations.is_empty() => None,
            error if error > 0.0 => Some(student::two_sided_chance(beyond / error, self.freedom)),
            // Boots that are all alike: a difference that histograms can hold is one.
            _ => Some(f64::from(u8::from(beyond == 0.0))),
        }
    }
}

fn variance(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count
}

/// The quantile at `share` of ascending values, between neighbours in proportion.
fn at(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() as f64 + 1.0) - 1.0;
    let place = place.clamp(0.0, sorted.len() as f64 - 1.0);
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// What |T| exceeds with a chance of 5 %, with 1 or more degrees of freedom. From a table of whole ones, its logarithm in proportion to
/// 1 / freedom between them: intervals by the thousand need it.
fn student_95(freedom: f64) -> f64 {
    const LAST: usize = 30;
    static LOGS: LazyLock<Vec<f64>> = LazyLock::new(|| {
        let of = |freedom: usize| student::two_sided_quantile(ERROR, freedom as f64).ln();
        (1..=LAST).map(of).collect()
    });
    let freedom = freedom.max(1.0);
    let below = (freedom as usize).min(LAST);
    let (slow, fast, next) = match below {
        LAST => (LOGS[LAST - 1], NORMAL.ln(), 0.0),
        _ => (LOGS[below - 1], LOGS[below], 1.0 / (below as f64 + 1.0)),
    };
    let share = (1.0 / below as f64 - 1.0 / freedom) / (1.0 / below as f64 - next);
    (slow + (fast - slow) * share).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::simulated::sample;

    const CPU: Quantity = Quantity::LoadCpu;

    fn width(contrast: &Contrast) -> f64 {
        let (low, high) = contrast.interval().unwrap();
        (high / low).ln()
    }

    #[test]
    fn a_ratio_is_that_of_the_values_and_its_interval_that_of_the_t_test() {
        let (a, b) = ([1.00, 1.02, 0.98, 1.01, 0.99], [1.10, 1.13, 1.07, 1.12, 1.08]);
        let contrast = Contrast::ratio_of(CPU, &sample(1, 0, &b), &sample(0, 0, &a)).unwrap();
        assert!((contrast.ratio() - 1.1).abs() < 1e-9, "{}", contrast.ratio());
        // Of means 1 and 1.1 with variances 0.00025 and 0.00065, and 7.08 degrees of freedom by Welch's formula of logarithms.
        let error = (0.000_25_f64 / 5.0 + 0.000_65 / 5.0 / 1.21).sqrt();
        let expected = 2.0 * 2.36 * error;
        assert!((width(&contrast) / expected - 1.0).abs() < 0.1, "{} is not {expected}", width(&contrast));
        let t = 1.1_f64.ln() / error;
        let chance = student::two_sided_chance(t, 7.1);
        let ours = contrast.chance().unwrap();
        assert!(chance / 2.0 < ours && ours < chance * 2.0, "{ours} is not {chance}");
    }

    #[test]
    fn what_cells_share_by_boot_cancels_in_their_ratio_and_stays_in_their_mean() {
        let boots = [1.0, 1.1, 0.9, 1.05, 0.95, 1.15];
        let double = boots.map(|cost| cost * 2.0);
        let (a, b) = (sample(0, 0, &boots), sample(0, 1, &double));
        let ratio = Contrast::ratio_of(CPU, &b, &a).unwrap();
        assert!((ratio.ratio() - 2.0).abs() < 1e-9 && width(&ratio) < 1e-6, "{ratio:?}");
        let one = width(&Contrast::of(CPU, &[(1.0, &a)]).unwrap());
        let mean = width(&Contrast::of(CPU, &[(0.5, &a), (0.5, &b)]).unwrap());
        assert!((mean / one - 1.0).abs() < 1e-4, "two cells of the same boots say no more than one");
        // The same boots' numbers of another group are other boots.
        let other = sample(1, 0, &boots);
        assert!(width(&Contrast::ratio_of(CPU, &other, &a).unwrap()) > one);
        let baseline = sample(1, 1, &boots);
        let mean = Contrast::geometric_mean(CPU, &[(&a, &other), (&b, &baseline)]).unwrap();
        assert!((mean.ratio() - 2.0_f64.sqrt()).abs() < 1e-9, "{}", mean.ratio());
    }

    #[test]
    fn there_is_no_interval_without_two_boots_and_none_of_what_cannot_be_stated() {
        let (one, two) = (sample(0, 0, &[1.0]), sample(1, 0, &[1.2, 1.3]));
        let contrast = Contrast::ratio_of(CPU, &two, &one).unwrap();
        assert!((contrast.ratio() - 1.25).abs() < 1e-9, "{contrast:?}");
        assert_eq!((contrast.interval(), contrast.chance()), (None, None));
        assert_eq!(Contrast::ratio_of(Quantity::Quantile(0.999), &two, &one), None);
        assert_eq!(Contrast::of(CPU, &[]), None);
    }

    #[test]
    fn boots_that_are_all_alike_leave_no_doubt() {
        let (a, b) = (sample(0, 0, &[1.0; 4]), sample(1, 0, &[1.5; 4]));
        let contrast = Contrast::ratio_of(CPU, &b, &a).unwrap();
        let (low, high) = contrast.interval().unwrap();
        assert!(low == high && (low - 1.5).abs() < 1e-9 && contrast.chance() == Some(0.0), "{contrast:?}");
        let same = Contrast::ratio_of(CPU, &sample(1, 0, &[1.0; 4]), &a).unwrap();
        assert_eq!((same.interval(), same.chance()), (Some((1.0, 1.0)), Some(1.0)));
        let costs = [3.0, 7.0, 9.0, 21.0].map(|cost| sample(0, 0, &[cost; 4]));
        let terms = [(1.0, &costs[3]), (-1.0, &costs[2]), (-1.0, &costs[1]), (1.0, &costs[0])];
        assert_eq!(
            Contrast::of(CPU, &terms).unwrap().chance(),
            Some(1.0),
            "21/9 is 7/3, whatever rounding says"
        );
    }

    #[test]
    fn the_table_of_t_is_right_between_whole_degrees_of_freedom_too() {
        for freedom in [1.0, 1.4, 2.5, 4.0, 8.7, 29.3, 30.0, 45.5, 500.0] {
            let expected = student::two_sided_quantile(ERROR, freedom);
            let error = student_95(freedom) / expected - 1.0;
            // The worst is between one and two, and on the safe side.
            assert!((-1e-3..0.03).contains(&error), "{freedom}: {error}");
        }
    }
}
