//! What a comparison says of each cell: estimates, differences, and which of them chance does not explain.
//!
//! Invariants: a difference is one only if its rank test, adjusted for all others of the comparison, and its interval both say so; where
//! no outcome whatever could have been significant, that is said instead of "no difference".
//! Deliberately absent: files, cells and groups: who is compared with whom is the caller's business.

use super::contrast::{Contrast, ERROR};
use super::metric::{METRICS, Metric, Quantity, named};
use super::model::{Change, Difference, Effect, Estimate, RatioPoint, SpectrumPoint};
use super::rank;
use super::resample::{QUANTILES, Resampled};
use crate::measure::{holm, student};

/// The share of comparisons in which a difference as large as the detectable one is seen.
pub const POWER: f64 = 0.8;

/// Every metric of a sample that can be stated, and its latency spectrum.
pub fn measured(sample: &Resampled) -> (Vec<Estimate>, Vec<SpectrumPoint>) {
    let interval = |quantity| Contrast::of(quantity, &[(1.0, sample)])?.interval();
    let estimate = |metric: &Metric| {
        let number = sample.number(metric.quantity)?;
        Some(Estimate {
            metric: metric.name.to_owned(),
            value: number.value,
            interval: interval(metric.quantity),
            boots: number.boots.clone(),
        })
    };
    let point = |&quantile: &f64| {
        let quantity = Quantity::Quantile(quantile);
        let value_ns = sample.number(quantity)?.value;
        Some(SpectrumPoint { quantile, value_ns, interval_ns: interval(quantity) })
    };
    (METRICS.iter().filter_map(estimate).collect(), QUANTILES.iter().filter_map(point).collect())
}

/// Every metric that both samples have, `other` over `baseline`, and so every quantile. No difference is called one before [`adjust`].
pub fn against(baseline: &Resampled, other: &Resampled) -> (Vec<Difference>, Vec<RatioPoint>) {
    let power = Power::of(baseline.boots(), other.boots());
    let difference = |metric: &Metric| {
        let contrast = Contrast::ratio_of(metric.quantity, other, baseline)?;
        let sides =
            [baseline, other].map(|side| side.number(metric.quantity).map(|number| &number.boots[..]));
        let [Some(bases), Some(others)] = sides else { return None };
        Some(Difference {
            metric: metric.name.to_owned(),
            ratio: contrast.ratio(),
            interval: contrast.interval(),
            p: power.as_ref().map(|_| rank::chance(bases, others)),
            p_adjusted: None,
            detectable: power.as_ref().map(|power| power.detectable(bases, others)),
            change: Change::TooFew,
        })
    };
    let point = |&quantile: &f64| {
        let contrast = Contrast::ratio_of(Quantity::Quantile(quantile), other, baseline)?;
        Some(RatioPoint { quantile, ratio: contrast.ratio(), interval: contrast.interval() })
    };
    (METRICS.iter().filter_map(difference).collect(), QUANTILES.iter().filter_map(point).collect())
}

/// A difference of a comparison, and the boots that it rests on.
#[derive(Debug)]
pub struct Judged<'a> {
    /// What [`adjust`] completes.
    pub difference: &'a mut Difference,
    /// Boots of the baseline and of the other group that count in its cell.
    pub boots: (u64, u64),
}

/// Sets `p_adjusted` and `change` of all differences of a comparison, which have to come together.
///
/// Tests that no outcome could make significant are not counted among those that p is adjusted for: chance cannot make up anything of
/// them (Tarone, "A modified Bonferroni method for discrete data", Biometrics 46(2), 1990).
pub fn adjust(differences: &mut [Judged]) {
    let can_tell = |judged: &&mut Judged| judged.difference.p.is_some() && judged.chance_min() < ERROR;
    let mut tests: Vec<&mut Judged> = differences.iter_mut().filter(can_tell).collect();
    let chances: Vec<f64> = tests.iter().filter_map(|judged| judged.difference.p).collect();
    let adjusted = holm::adjusted(&chances);
    // By what the procedure had to multiply the first that it did not reject.
    let left = adjusted.iter().filter(|&&p| p >= ERROR).count() as f64;
    for (judged, p_adjusted) in tests.iter_mut().zip(adjusted) {
        judged.difference.p_adjusted = Some(p_adjusted);
        let is_one = p_adjusted < ERROR && judged.difference.excludes_one();
        judged.difference.change = match is_one {
            true => change(&judged.difference.metric, judged.difference.ratio),
            false if p_adjusted >= ERROR && judged.chance_min() * left >= ERROR => Change::TooFew,
            false => Change::Noise,
        };
    }
}

/// Boots that each side needs for any of so many differences to be told from chance: the fewest whose rank test can come to less
/// than 5 % after adjustment.
pub fn boots_needed(differences: u64) -> u64 {
    let enough =
        |&boots: &u64| rank::chance_min(boots as usize, boots as usize) * (differences as f64) < ERROR;
    (2..).find(enough).unwrap_or(u64::MAX)
}

/// What each of several combinations comes to, each told from chance among all of them together; `None` stays `None`.
pub fn effects(metric: &str, contrasts: &[Option<Contrast>]) -> Vec<Option<Effect>> {
    let chances: Vec<f64> = contrasts.iter().flatten().filter_map(Contrast::chance).collect();
    let mut adjusted = holm::adjusted(&chances).into_iter();
    let mut effect = |contrast: &Contrast| {
        let (ratio, interval) = (contrast.ratio(), contrast.interval());
        let p = contrast.chance().and_then(|_| adjusted.next());
        let change = match (p, interval) {
            (Some(p), Some(interval)) if p < ERROR && excludes_one(interval) => change(metric, ratio),
            (Some(_), Some(_)) => Change::Noise,
            _ => Change::TooFew,
        };
        Effect { ratio, interval, change }
    };
    contrasts.iter().map(|contrast| contrast.as_ref().map(&mut effect)).collect()
}

impl Judged<'_> {
    fn chance_min(&self) -> f64 {
        rank::chance_min(self.boots.0 as usize, self.boots.1 as usize)
    }
}

impl Difference {
    fn excludes_one(&self) -> bool {
        self.interval.is_some_and(excludes_one)
    }
}

fn excludes_one((low, high): (f64, f64)) -> bool {
    low > 1.0 || high < 1.0
}

fn change(metric: &str, ratio: f64) -> Change {
    let more_is_better = named(metric).is_some_and(|metric| metric.more_is_better);
    if (ratio > 1.0) == more_is_better { Change::Better } else { Change::Worse }
}

/// What two groups of boots can tell apart.
struct Power {
    /// Standard errors of a difference.
    errors: f64,
}

impl Power {
    /// Of so many boots; `None` with fewer than two on either side.
    fn of(left: usize, right: usize) -> Option<Power> {
        let freedom = (left + right) as f64 - 2.0;
        let t = |chance: f64| student::two_sided_quantile(chance, freedom);
        (left.min(right) >= 2).then(|| Power { errors: t(ERROR) + t(2.0 * (1.0 - POWER)) })
    }

    /// The smallest difference, as a share, that boots which vary as these do show four times in five, tested alone at the 5 % level.
    ///
    /// exp((t₀.₉₇₅ + t₀.₈)·s·√(1/n + 1/m)) − 1 with n + m − 2 degrees of freedom, s being the standard deviation of logarithms
    /// within groups: boots of one kernel against each other. Bloom, "Minimum detectable effects: a simple way to report the
    /// statistical power of experimental designs", Evaluation Review 19(5), 1995.
    fn detectable(&self, left: &[f64], right: &[f64]) -> f64 {
        let (n, m) = (left.len() as f64, right.len() as f64);
        let variance = (squares(left) + squares(right)) / (n + m - 2.0);
        (self.errors * (variance * (1.0 / n + 1.0 / m)).sqrt()).exp_m1()
    }
}

/// The sum of squared distances of logarithms from their mean.
fn squares(values: &[f64]) -> f64 {
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    logs.iter().map(|log| (log - mean).powi(2)).sum()
}
