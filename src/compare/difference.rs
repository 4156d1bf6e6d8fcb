//! What a comparison says of each cell: estimates, differences, and which of them chance does not explain.
//!
//! Invariants: a difference is one only if its rank test, adjusted for all others of its family, and its interval both say so; where
//! no outcome whatever could have been significant, that is said instead of "no difference".
//! Deliberately absent: files, cells and groups: who is compared with whom is the caller's business.

use std::collections::BTreeMap;

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
    let power = Power::of(baseline.boots(), other.boots(), ERROR);
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
            // Boots that are all alike would show anything, but for what histograms cannot hold.
            detectable: power
                .as_ref()
                .map(|power| power.detectable(bases, others).max(contrast.resolution().exp_m1())),
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

/// Boots of each side below which nothing is told from chance: with three, even ranks wholly apart are one chance in ten.
pub const BOOTS_MIN: u64 = 4;

/// Sets `p_adjusted` and `change` of all differences of a family, which have to come together; and widens `detectable` from a test
/// alone to one among them all.
///
/// Tests that no outcome could make significant are not counted among those that p is adjusted for: chance cannot make up anything of
/// them (Tarone, "A modified Bonferroni method for discrete data", Biometrics 46(2), 1990).
pub fn adjust(differences: &mut [Judged]) {
    let can_tell = |judged: &&mut Judged| judged.difference.p.is_some() && judged.chance_min() < ERROR;
    for judged in differences.iter_mut() {
        judged.difference.p_adjusted = judged.difference.p.map(|_| 1.0);
        judged.difference.change = Change::TooFew;
        if judged.difference.p.is_some() && judged.chance_min() >= ERROR {
            judged.difference.detectable = None;
        }
    }
    let mut tests: Vec<&mut Judged> = differences.iter_mut().filter(can_tell).collect();
    let chances: Vec<f64> = tests.iter().filter_map(|judged| judged.difference.p).collect();
    let adjusted = holm::adjusted(&chances);
    // By what the procedure multiplied the first that it did not reject.
    let left = adjusted.iter().filter(|&&p| p >= ERROR).count() as f64;
    let (count, mut widenings) = (tests.len() as f64, BTreeMap::new());
    for (judged, p_adjusted) in tests.iter_mut().zip(adjusted) {
        let widening = *widenings.entry(judged.boots).or_insert_with(|| Power::widening(judged.boots, count));
        let chance_min = judged.chance_min();
        let difference = &mut *judged.difference;
        difference.detectable = difference.detectable.map(|alone| (alone.ln_1p() * widening).exp_m1());
        difference.p_adjusted = Some(p_adjusted);
        let is_one = p_adjusted < ERROR && difference.interval.is_some_and(excludes_one);
        difference.change = match is_one {
            true => change(&difference.metric, difference.ratio),
            false if p_adjusted >= ERROR && chance_min * left >= ERROR => Change::TooFew,
            false => Change::Noise,
        };
        if difference.change == Change::TooFew {
            difference.detectable = None;
        }
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
            _ if (contrast.boots() as u64) < BOOTS_MIN => Change::TooFew,
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
    /// Of so many boots, in a test at the level `error`; `None` with fewer than two on either side.
    fn of(left: usize, right: usize, error: f64) -> Option<Power> {
        let freedom = (left + right) as f64 - 2.0;
        let t = |chance: f64| student::two_sided_quantile(chance, freedom);
        (left.min(right) >= 2).then(|| Power { errors: t(error) + t(2.0 * (1.0 - POWER)) })
    }

    /// How many times as large, on the scale of logarithms, a difference has to be among `tests` as alone: the first step of Holm's
    /// procedure.
    fn widening((left, right): (u64, u64), tests: f64) -> f64 {
        let errors = |error: f64| Power::of(left as usize, right as usize, error).map(|power| power.errors);
        errors(ERROR / tests).zip(errors(ERROR)).map_or(1.0, |(among, alone)| among / alone)
    }

    /// The smallest difference, as a share, that boots which vary as these do show four times in five.
    ///
    /// exp((t(1 − e/2) + t(0.8))·s·√(1/n + 1/m)) − 1 with n + m − 2 degrees of freedom, e being the level and s the standard deviation of
    /// logarithms within groups: boots of one kernel against each other. Bloom, "Minimum detectable effects: a simple way to report the
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::simulated::sample;

    fn difference(metric: &str, ratio: f64, p: f64) -> Difference {
        let interval = Some((ratio * 0.999, ratio * 1.001));
        let metric = metric.to_owned();
        Difference { metric, ratio, interval, p: Some(p), detectable: Some(0.02), ..Difference::default() }
    }

    fn adjusted(mut differences: Vec<Difference>, boots: u64) -> Vec<Difference> {
        let judged = |difference| Judged { difference, boots: (boots, boots) };
        adjust(&mut differences.iter_mut().map(judged).collect::<Vec<_>>());
        differences
    }

    fn changes(differences: &[Difference]) -> Vec<Change> {
        differences.iter().map(|difference| difference.change).collect()
    }

    #[test]
    fn the_better_way_is_the_metrics_own() {
        let four = [("p99", 1.1), ("p99", 0.9), ("rate", 1.1), ("rate", 0.9)];
        let differences = adjusted(four.map(|(metric, ratio)| difference(metric, ratio, 1e-5)).to_vec(), 10);
        assert_eq!(changes(&differences), [Change::Worse, Change::Better, Change::Better, Change::Worse]);
    }

    #[test]
    fn a_difference_needs_both_its_rank_test_and_its_interval() {
        let mut wide = difference("p50", 1.1, 1e-5);
        wide.interval = Some((0.99, 1.2));
        let all = adjusted(vec![difference("p50", 1.1, 0.03), wide, difference("p90", 1.1, 1e-5)], 10);
        assert_eq!(changes(&all), [Change::Worse, Change::Noise, Change::Worse]);
        let alone = adjusted(vec![difference("p50", 1.1, 0.03), difference("p90", 1.1, 0.03)], 10);
        assert_eq!(changes(&alone), [Change::Noise, Change::Noise], "0.06 after adjustment");
        assert_eq!(alone[0].p_adjusted, Some(0.06));
    }

    #[test]
    fn where_no_outcome_would_have_been_significant_it_says_so() {
        // Three against three: 0.1 at the least. It weighs on no other test.
        let (mut few, mut enough) = (difference("p50", 2.0, 0.1), difference("p50", 2.0, 0.04));
        let boots = [(3, 3), (10, 10)];
        let both = [&mut few, &mut enough].into_iter().zip(boots);
        adjust(&mut both.map(|(difference, boots)| Judged { difference, boots }).collect::<Vec<_>>());
        assert_eq!((few.change, few.p_adjusted), (Change::TooFew, Some(1.0)));
        assert_eq!((enough.change, enough.p_adjusted), (Change::Worse, Some(0.04)));
        // Five against five: 2/252 at the least, which seven tests at once make 0.056, and six 0.048.
        for (count, expected) in [(6, Change::Worse), (7, Change::TooFew)] {
            let differences = adjusted(vec![difference("p50", 2.0, 2.0 / 252.0); count], 5);
            assert_eq!(changes(&differences), vec![expected; count]);
        }
        assert_eq!([1, 6, 7, 85, 86].map(boots_needed), [4, 5, 6, 7, 8]);
    }

    #[test]
    fn without_two_boots_on_a_side_nothing_is_said() {
        let mut lone = difference("p50", 2.0, 1.0);
        (lone.p, lone.interval, lone.detectable) = (None, None, None);
        let all = adjusted(vec![lone], 1);
        assert_eq!((all[0].change, all[0].p_adjusted), (Change::TooFew, None));
    }

    #[test]
    fn what_is_detectable_follows_from_the_boots_own_spread_and_the_tests_beside_it() {
        let boots = [1.0, 1.02, 0.98, 1.01, 0.99];
        let power = Power::of(5, 5, ERROR).unwrap();
        // s = 0.01582; t with 8 degrees of freedom: 2.306 and 0.889.
        let alone = power.detectable(&boots, &boots.map(|value| value * 3.0));
        assert!((alone - 0.0325).abs() < 2e-4, "{alone}");
        assert_eq!(power.detectable(&[1.0; 5], &[2.0; 5]), 0.0, "boots that are all alike show anything");
        assert!(Power::of(1, 5, ERROR).is_none());
        let one = adjusted(vec![difference("p50", 1.0, 1.0)], 10)[0].detectable.unwrap();
        assert!((one - 0.02).abs() < 1e-9, "{one}");
        // With 18 degrees of freedom: 2.101 and 0.862; at the level 0.005: 3.197.
        let ten = adjusted(vec![difference("p50", 1.0, 1.0); 10], 10)[0].detectable.unwrap();
        assert!((ten.ln_1p() / one.ln_1p() - (3.197 + 0.862) / (2.101 + 0.862)).abs() < 0.01, "{ten}");
    }
    #[test]
    fn of_two_samples_every_metric_both_have_is_held_against_the_baseline() {
        let (a, b) = (sample(0, 0, &[1.0, 1.01, 0.99, 1.0, 1.0]), sample(1, 0, &[2.0, 2.02, 1.98, 2.0, 2.0]));
        let (estimates, spectrum) = measured(&b);
        let cpu = estimates.iter().find(|estimate| estimate.metric == "load-cpu").unwrap();
        assert!((cpu.value - 2e9).abs() < 1.0 && cpu.boots.len() == 5 && cpu.interval.is_some(), "{cpu:?}");
        // All durations are 10 ns.
        let is_ten = |value: f64| (value - 10.0).abs() < 1e-9;
        assert!(spectrum.len() > 10 && spectrum.iter().all(|point| is_ten(point.value_ns)), "{spectrum:?}");
        // As sure as histograms can be.
        let is_sure = |(low, high)| low > 9.99 && low < 10.0 && high > 10.0 && high < 10.01;
        assert!(spectrum.iter().all(|point| point.interval_ns.is_some_and(is_sure)), "{spectrum:?}");
        let (mut differences, ratios) = against(&a, &b);
        let judged = |difference| Judged { difference, boots: (5, 5) };
        adjust(&mut differences.iter_mut().map(judged).collect::<Vec<_>>());
        let found: Vec<_> = differences.iter().map(|it| (&it.metric[..], it.p.unwrap(), it.change)).collect();
        // Five against five: 2/252 at the least, which is enough beside three others.
        assert_eq!(
            found,
            [
                ("p50", 1.0, Change::Noise),
                ("p90", 1.0, Change::Noise),
                ("cpu", 2.0 / 252.0, Change::Worse),
                ("load-cpu", 2.0 / 252.0, Change::Worse)
            ]
        );
        assert_eq!(
            ratios.len(),
            measured(&a).1.len(),
            "the baseline has fewer samples, which support fewer quantiles"
        );
        let is_sure = |(low, high): (f64, f64)| (0.9989..1.0).contains(&low) && high > 1.0 && high < 1.0011;
        assert!(ratios.iter().all(|point| point.ratio == 1.0 && point.interval.is_some_and(is_sure)));
    }

    #[test]
    fn effects_are_told_from_chance_among_all_of_their_table() {
        let noise = [1.0, 1.02, 0.98, 1.01, 0.99, 1.0];
        let cost = |factor: f64| noise.map(|value| value * factor);
        let [reference, slower] = [(0, 1.0), (1, 1.5)].map(|(cell, factor)| sample(0, cell, &cost(factor)));
        let [later, same] = [(0, 1.0), (1, 1.5)].map(|(cell, factor)| sample(1, cell, &cost(factor)));
        let effect = Contrast::ratio_of(Quantity::LoadCpu, &slower, &reference);
        let terms = [(1.0, &same), (-1.0, &later), (-1.0, &slower), (1.0, &reference)];
        let interaction = Contrast::of(Quantity::LoadCpu, &terms);
        let lone = Contrast::of(Quantity::LoadCpu, &[(1.0, &sample(2, 0, &[1.0]))]);
        let found = effects("load-cpu", &[effect, None, interaction, lone]);
        let changes: Vec<_> = found.iter().map(|effect| effect.map(|effect| effect.change)).collect();
        assert_eq!(changes, [Some(Change::Worse), None, Some(Change::Noise), Some(Change::TooFew)]);
        assert!((found[0].unwrap().ratio - 1.5).abs() < 1e-9 && (found[2].unwrap().ratio - 1.0).abs() < 1e-9);
    }
}
