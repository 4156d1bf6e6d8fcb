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
