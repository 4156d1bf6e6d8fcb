//! Combinations of samples: any sum of multiples of logarithms, as a ratio with its interval.
//!
//! Invariants: the ratio is that of the samples' own values, the replicates only say how sure it is; samples of one group are drawn
//! together, those of different groups independently; without two boots of each sample there is no interval.
//! Deliberately absent: which combinations are worth a look.

use std::sync::LazyLock;

use super::metric::Quantity;
use super::resample::Resampled;
use crate::measure::student;

/// The error that intervals and tests are made for.
pub const ERROR: f64 = 0.05;
/// What a normal deviate exceeds, up or down, with that chance.
const NORMAL: f64 = 1.959_964;

/// A combination of one quantity of several samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    log: f64,
    /// Of each replicate; none without two boots of each sample.
    deviations: Vec<f64>,
    error: f64,
    freedom: f64,
}

/// What samples of one group add up to.
struct Block {
    group: usize,
    deviations: Vec<f64>,
    boots: usize,
}

impl Contrast {
    /// The sum of `terms`, each a multiple of the logarithm of a sample's `quantity`: 1 and −1 make a ratio, k of 1 / k each a
    /// geometric mean, 1, −1, −1 and 1 an interaction. `None` where `quantity` of any sample cannot be stated, or there is none.
    pub fn of(quantity: Quantity, terms: &[(f64, &Resampled)]) -> Option<Contrast> {
        let numbers: Option<Vec<_>> = terms.iter().map(|(_, sample)| sample.number(quantity)).collect();
        let (numbers, mut blocks) = (numbers?, Vec::<Block>::new());
        for (&(multiple, sample), number) in terms.iter().zip(&numbers) {
            let boots = sample.boots();
            // A sample's replicates vary about it less than it does about the truth: by n − 1 to n in the variance.
            let stretch = multiple * (boots as f64 / (boots as f64 - 1.0).max(1.0)).sqrt();
            let group = sample.group();
            let index = blocks.iter().position(|block| block.group == group).unwrap_or(blocks.len());
            if index == blocks.len() {
                blocks.push(Block { group, deviations: vec![0.0; number.deviations.len()], boots });
            }
            blocks[index].boots = blocks[index].boots.min(boots);
            let sums = blocks[index].deviations.iter_mut();
            sums.zip(&number.deviations).for_each(|(sum, deviation)| *sum += stretch * deviation);
        }
        let log =
            terms.iter().zip(&numbers).map(|(&(multiple, _), number)| multiple * number.value.ln()).sum();
        let fewest = blocks.iter().map(|block| block.boots).min()?;
        if fewest < 2 {
            return Some(Contrast { log, deviations: Vec::new(), error: 0.0, freedom: 0.0 });
        }
        let (variance, freedom) = welch(&blocks);
        let replicate = |index: usize| blocks.iter().map(|block| block.deviations[index]).sum();
        let deviations = (0..blocks[0].deviations.len()).map(replicate).collect();
        Some(Contrast { log, deviations, error: variance.sqrt(), freedom })
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
    pub fn interval(&self) -> Option<(f64, f64)> {
        if self.deviations.is_empty() {
            return None;
        }
        let mut sorted = self.deviations.clone();
        sorted.sort_by(f64::total_cmp);
        let wider = student_95(self.freedom) / NORMAL;
        let end = |share: f64| (self.log + (wider * at(&sorted, share))).exp();
        Some((end(ERROR / 2.0), end(1.0 - ERROR / 2.0)))
    }

    /// How likely so large a difference from 1 is by chance alone, two-sided, by Student's t with the replicates' standard error; `None`
    /// without two boots of each sample.
    pub fn chance(&self) -> Option<f64> {
        match self.error {
            _ if self.deviations.is_empty() => None,
            error if error > 0.0 => Some(student::two_sided_chance(self.log / error, self.freedom)),
            // Boots that are all alike: a difference is one.
            _ => Some(f64::from(u8::from(self.log == 0.0))),
        }
    }
}

/// The variance of the blocks' sum, and its degrees of freedom: Welch, "The generalization of Student's problem when several different
/// population variances are involved", Biometrika 34, 1947.
fn welch(blocks: &[Block]) -> (f64, f64) {
    let (mut variance, mut squares, mut fewest) = (0.0, 0.0, f64::INFINITY);
    for block in blocks {
        let count = block.deviations.len() as f64;
        let mean = block.deviations.iter().sum::<f64>() / count;
        let of_block =
            block.deviations.iter().map(|deviation| (deviation - mean).powi(2)).sum::<f64>() / count;
        let freedom = block.boots as f64 - 1.0;
        variance += of_block;
        squares += of_block * of_block / freedom;
        fewest = freedom.min(fewest);
    }
    let freedom = variance * variance / squares;
    (variance, if freedom.is_finite() { freedom } else { fewest })
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
    const LAST: usize = 60;
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
