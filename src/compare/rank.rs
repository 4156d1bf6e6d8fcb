//! The rank test: whether boots of two groups lie apart further than chance would have it.
//!
//! Invariant: nothing is assumed of how values are distributed; boots that are all alike tell of no difference.
//! Deliberately absent: how large a difference is, and whether it matters.

use crate::measure::student;

/// Values together up to which every way to deal them out is counted.
const EXACT_MAX: usize = 40;

/// How likely the ranks of `left` and `right` lie as far apart by chance alone, two-sided: the Mann–Whitney U test. 1 if either is
/// empty.
///
/// Equal values have their middle rank. Up to [`EXACT_MAX`] values the chance is the share, of all ways to deal these ranks out to two
/// groups of these sizes, in which the rank sum lies as far from its mean or further; with more it is normal, with the variance corrected
/// for ties and half a rank for continuity. Mann and Whitney, "On a test of whether one of two random variables is stochastically
/// larger than the other", Annals of Mathematical Statistics 18(1), 1947; ties: Lehmann, "Nonparametrics", 1.4.
pub fn chance(left: &[f64], right: &[f64]) -> f64 {
    let (fewer, more) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    if fewer.is_empty() {
        return 1.0;
    }
    let doubled = doubled_ranks(fewer, more);
    let sum: u64 = doubled[..fewer.len()].iter().sum();
    // Twice the mean rank is the count plus one.
    let mean = (fewer.len() * (doubled.len() + 1)) as u64;
    let distance = sum.abs_diff(mean);
    match doubled.len() <= EXACT_MAX {
        true => exact(&doubled, fewer.len(), mean, distance),
        false => normal(&doubled, fewer.len(), distance),
    }
}

/// The least chance that [`chance`] finds of so many values: that of groups which do not overlap.
pub fn chance_min(left: usize, right: usize) -> f64 {
    let ways = (1..=left.min(right)).fold(1.0, |ways, k| ways * (left + right + 1 - k) as f64 / k as f64);
    (2.0 / ways).min(1.0)
}

/// Twice the rank of every value, those of `left` first.
fn doubled_ranks(left: &[f64], right: &[f64]) -> Vec<u64> {
    let values: Vec<f64> = left.iter().chain(right).copied().collect();
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        (2 * below + equal + 1) as u64
    };
    values.iter().map(rank).collect()
}

/// The share of all choices of `chosen` ranks whose sum lies `distance` or more from `mean`; all numbers are doubled.
fn exact(doubled: &[u64], chosen: usize, mean: u64, distance: u64) -> f64 {
    let sums = doubled.iter().sum::<u64>() as usize + 1;
    // ways[k · sums + s]: choices of k among the ranks so far that sum up to s; exact, being below 2^53.
    let mut ways = vec![0.0; (chosen + 1) * sums];
    ways[0] = 1.0;
    for &rank in doubled {
        for k in (1..=chosen).rev() {
            let (without, with) = ways.split_at_mut(k * sums);
            let from = &without[(k - 1) * sums..][..sums - rank as usize];
            with[rank as usize..sums].iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }
    let last = &ways[chosen * sums..];
    let far = |sum: usize| (sum as u64).abs_diff(mean) >= distance;
    let extreme: f64 = last.iter().enumerate().filter(|&(sum, _)| far(sum)).map(|(_, ways)| ways).sum();
    extreme / last.iter().sum::<f64>()
}

/// The same for many values, by the central limit theorem.
fn normal(doubled: &[u64], chosen: usize, distance: u64) -> f64 {
    let (count, chosen) = (doubled.len() as f64, chosen as f64);
    let squares: f64 = doubled.iter().map(|&rank| (rank as f64 - (count + 1.0)).powi(2)).sum();
    let variance = chosen * (count - chosen) / (count * (count - 1.0)) * squares;
    if variance <= 0.0 {
        return 1.0;
    }
    // Half a rank, doubled, for continuity.
    let beyond = (distance as f64 - 1.0).max(0.0);
    student::two_sided_chance(beyond / variance.sqrt(), f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By definition: every way to choose which of the values are the left ones.
    fn brute_force(left: &[f64], right: &[f64]) -> f64 {
        let doubled = doubled_ranks(left, right);
        let mean = left.len() as i64 * (doubled.len() as i64 + 1);
        let distance = |sum: u64| (sum as i64 - mean).abs();
        let observed = distance(doubled[..left.len()].iter().sum());
        let sums =
            (0_u32..1 << doubled.len()).filter(|bits| bits.count_ones() as usize == left.len()).map(|bits| {
                doubled
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| bits >> index & 1 == 1)
                    .map(|(_, rank)| rank)
                    .sum::<u64>()
            });
        let (mut all, mut far) = (0, 0);
        for sum in sums {
            all += 1;
            far += i32::from(distance(sum) >= observed);
        }
        f64::from(far) / f64::from(all)
    }

    /// `count` values in order, so that exactly `u` pairs are the other way round.
    fn with_u(left: usize, right: usize, u: usize) -> (Vec<f64>, Vec<f64>) {
        let ours = (0..left).map(|index| {
            let passed = u.saturating_sub(index * right).min(right);
            passed as f64 + 0.5 - (index as f64 + 1.0) / 1000.0
        });
        (ours.collect(), (0..right).map(|index| index as f64 + 0.5).collect())
    }

    #[test]
    fn critical_values_are_those_of_the_published_table() {
        // The largest U that is significant at 5 %, two-sided (Mann and Whitney's tables as reprinted in textbooks).
        for (left, right, critical) in [
            (4, 4, 0),
            (3, 5, 0),
            (5, 5, 2),
            (5, 8, 6),
            (6, 6, 5),
            (7, 7, 8),
            (8, 8, 13),
            (10, 10, 23),
            (20, 20, 127),
        ] {
            let of = |u: usize| {
                let (a, b) = with_u(left, right, u);
                chance(&a, &b)
            };
            assert!(of(critical) <= 0.05 && of(critical + 1) > 0.05, "{left}, {right}: {}", of(critical));
        }
    }

    #[test]
    fn every_chance_is_that_of_counting_with_ties_and_without() {
        let mut random = fastrand::Rng::with_seed(8);
        for round in 0..300 {
            let mut values =
                |count: usize, of: u64| (0..count).map(|_| random.u64(..of) as f64).collect::<Vec<_>>();
            let of = if round % 2 == 0 { 4 } else { 1 << 40 };
            let (left, right) = (values(1 + round % 6, of), values(1 + round / 6 % 7, of));
            let expected = brute_force(&left, &right);
            assert!((chance(&left, &right) - expected).abs() < 1e-12, "{left:?} {right:?}");
            assert_eq!(chance(&left, &right), chance(&right, &left));
        }
    }

    #[test]
    fn groups_that_do_not_overlap_have_the_least_chance_there_is() {
        for (left, right) in [(1, 1), (2, 2), (3, 3), (4, 4), (3, 7), (10, 10)] {
            let (a, b) = with_u(left, right, 0);
            assert!((chance(&a, &b) / chance_min(left, right) - 1.0).abs() < 1e-9, "{left}, {right}");
        }
        assert!((chance_min(3, 3) - 0.1).abs() < 1e-12, "never below 5 %");
        assert!((chance_min(4, 4) - 2.0 / 70.0).abs() < 1e-12);
        assert_eq!(chance_min(0, 5), 1.0);
    }

    #[test]
    fn boots_that_are_all_alike_tell_of_no_difference() {
        assert_eq!(chance(&[7.0; 10], &[7.0; 10]), 1.0);
        assert_eq!(chance(&[7.0; 30], &[7.0; 30]), 1.0);
        assert_eq!(chance(&[], &[7.0; 3]), 1.0);
    }

    #[test]
    fn beyond_exact_counting_the_normal_approximation_goes_on_smoothly() {
        let mut random = fastrand::Rng::with_seed(9);
        for of in [6, 1 << 40] {
            let left: Vec<f64> = (0..20).map(|_| random.u64(..of) as f64).collect();
            let right: Vec<f64> = (0..20).map(|_| random.u64(..of) as f64 * 1.4).collect();
            let doubled = doubled_ranks(&left, &right);
            let sum: u64 = doubled[..20].iter().sum();
            let (exact, normal) = (chance(&left, &right), normal(&doubled, 20, sum.abs_diff(820)));
            assert!((exact - normal).abs() < 0.005, "{exact}, {normal}");
        }
    }
}
