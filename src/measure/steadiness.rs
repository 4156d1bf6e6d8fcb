//! Whether the measured window was one state of affairs: no drift of the durations, no time at which answers stayed away.
//!
//! Invariant: batches are looked at in groups large enough that chance alone does not look like a change.
//! Deliberately absent: changes between runs, and whose fault a change is.

use super::samples::BATCHES_MIN;
use super::series::{Batch, Compact};

/// Groups of batches that a drift is looked for in, at most: long ones are less dependent on each other.
const GROUPS_MAX: usize = 30;
/// Two-sided 1 % of the normal distribution.
const Z_TREND: f64 = 2.576;
/// Answers expected of a group in which a stall is looked for: chance leaves half of 100 out in one of 10⁷ groups.
const GROUP_ANSWERS_MIN: f64 = 100.0;
/// A group with a smaller share of the expected answers was stalled.
const STALL_SHARE: f64 = 0.5;

/// How the median moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// The median of the first third of the window, in nanoseconds.
    pub first_ns: u64,
    /// That of the last third.
    pub last_ns: u64,
    /// Whether the medians in between show a trend that chance would not (1 %, two-sided).
    pub trend: bool,
}

impl Drift {
    /// The last third's median by the first third's.
    pub fn ratio(&self) -> f64 {
        self.last_ns as f64 / self.first_ns.max(1) as f64
    }
}

/// Looks for a drift of the median. `None` of fewer than [`BATCHES_MIN`] batches with answers.
///
/// The trend is Mann's and Kendall's (Mann, "Nonparametric tests against trend", Econometrica 13(3), 1945): it asks only
/// how many later medians are above earlier ones. How far they moved is another question, for the caller's bound.
pub fn drift(batches: &[Batch]) -> Option<Drift> {
    let per_group = batches.len().div_ceil(GROUPS_MAX).max(1);
    let groups = batches.chunks(per_group).map(merged).filter(|group| !group.is_empty());
    let groups: Vec<Compact> = groups.collect();
    if groups.len() < BATCHES_MIN {
        return None;
    }
    let medians: Vec<u64> = groups.iter().filter_map(median).collect();
    let third = groups.len() / 3;
    let of_all = |groups: &[Compact]| {
        let mut all = Compact::default();
        groups.iter().for_each(|group| all.merge(group));
        median(&all)
    };
    Some(Drift {
        first_ns: of_all(&groups[..third])?,
        last_ns: of_all(&groups[groups.len() - third..])?,
        trend: mann_kendall_z(&medians).abs() > Z_TREND,
    })
}

fn merged(batches: &[Batch]) -> Compact {
    let mut all = Compact::default();
    batches.iter().for_each(|batch| all.merge(&batch.headline));
    all
}

fn median(durations: &Compact) -> Option<u64> {
    let half = durations.len().div_ceil(2);
    let mut passed = 0;
    durations.iter().find_map(|(value_ns, count)| {
        passed += count;
        (passed >= half).then_some(value_ns)
    })
}

/// The Mann–Kendall statistic in standard deviations, with its variance's correction for ties and for continuity.
fn mann_kendall_z(values: &[u64]) -> f64 {
    let later = values
        .iter()
        .enumerate()
        .flat_map(|(index, value)| values[index + 1..].iter().map(move |later| later.cmp(value) as i64));
    let score: i64 = later.sum();
    let sixth = |n: usize| (n * n.saturating_sub(1) * (2 * n + 5)) as f64 / 18.0;
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let ties: f64 = sorted.chunk_by(|a, b| a == b).map(|tied| sixth(tied.len())).sum();
    let variance = sixth(values.len()) - ties;
    if variance <= 0.0 { 0.0 } else { (score - score.signum()) as f64 / variance.sqrt() }
}

/// When answers stayed away.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stalls {
    /// Stretches of the window, each as long as it goes on.
    pub count: u64,
    /// Their length together.
    pub time_s: f64,
    /// When the first began, after the start of the window.
    pub first_s: f64,
}

/// Looks for stretches in which fewer than half of the expected answers came: half of `planned_per_s`, or, without a plan,
/// of what came most of the time. `None` where fewer than [`BATCHES_MIN`] pieces with some hundred expected answers each can be made.
pub fn stalls(batches: &[Batch], planned_per_s: Option<f64>) -> Option<Stalls> {
    let answered: f64 = batches.iter().map(|batch| batch.answered as f64).sum();
    let length_s: f64 = batches.iter().map(|batch| batch.length_s).sum();
    let mean_per_s = planned_per_s.unwrap_or(answered / length_s);
    let groups = groups(batches, mean_per_s);
    if groups.len() < BATCHES_MIN {
        return None;
    }
    let expected_per_s = planned_per_s.unwrap_or_else(|| {
        let mut rates: Vec<f64> = groups.iter().map(Group::per_s).collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    let mut stalls = Stalls::default();
    let mut goes_on = false;
    for group in groups {
        let stalled = group.per_s() < STALL_SHARE * expected_per_s;
        if stalled {
            if stalls.count == 0 {
                stalls.first_s = group.start_s;
            }
            stalls.count += u64::from(!goes_on);
            stalls.time_s += group.length_s;
        }
        goes_on = stalled;
    }
    Some(stalls)
}

#[derive(Debug, Clone, Copy)]
struct Group {
    start_s: f64,
    length_s: f64,
    answered: f64,
}

impl Group {
    fn per_s(&self) -> f64 {
        self.answered / self.length_s
    }
}

/// Consecutive batches together until [`GROUP_ANSWERS_MIN`] are expected of them; what is left over at the end is left out.
fn groups(batches: &[Batch], per_s: f64) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut group: Option<Group> = None;
    for batch in batches {
        let so_far = group.get_or_insert(Group { start_s: batch.start_s, length_s: 0.0, answered: 0.0 });
        so_far.length_s += batch.length_s;
        so_far.answered += batch.answered as f64;
        if so_far.length_s * per_s >= GROUP_ANSWERS_MIN {
            groups.extend(group.take());
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::{new_histogram, record};

    /// Batches of 0.1 s with as many answers, of exponential duration with the given mean.
    fn batches(of: &[(u64, f64)], seed: u64) -> Vec<Batch> {
        let mut random = fastrand::Rng::with_seed(seed);
        let batch = |(index, &(answered, mean_ns)): (usize, &(u64, f64))| {
            let mut histogram = new_histogram();
            (0..answered).for_each(|_| {
                record(&mut histogram, (-(1.0 - random.f64()).ln() * mean_ns) as u64);
            });
            let start_s = index as f64 / 10.0;
            Batch { start_s, length_s: 0.1, sent: answered, answered, headline: Compact::of(&histogram) }
        };
        of.iter().enumerate().map(batch).collect()
    }

    #[test]
    fn a_drift_is_found_and_its_absence_as_well() {
        let mut false_trends = 0;
        for seed in 0..100 {
            let steady = drift(&batches(&[(300, 1e5); 40], seed)).unwrap();
            assert!((0.85..1.15).contains(&steady.ratio()), "{steady:?}");
            false_trends += u64::from(steady.trend);
        }
        assert!(false_trends <= 5, "{false_trends} of 100, where 1 is to be expected");
        let rising: Vec<_> = (0..40).map(|index| (300, 1e5 * (1.0 + 0.02 * f64::from(index)))).collect();
        for batches in [batches(&rising, 1), batches(&rising, 2)] {
            let drift = drift(&batches).unwrap();
            assert!(drift.trend && (1.2..1.8).contains(&drift.ratio()), "{drift:?}");
            let falling: Vec<_> = batches.into_iter().rev().collect();
            let drift = super::drift(&falling).unwrap();
            assert!(drift.trend && drift.ratio() < 0.8, "{drift:?}");
        }
        assert_eq!(drift(&batches(&[(300, 1e5); 9], 1)), None);
        assert_eq!(drift(&batches(&[(0, 1e5); 40], 1)), None, "no answer has no median");
        assert!(drift(&batches(&[(50, 1e5); 512], 1)).is_some());
    }

    #[test]
    fn mann_kendall_agrees_with_what_can_be_counted_by_hand() {
        // Eight of ten pairs ascend, two descend: S = 6, its variance 5·4·15/18.
        assert!((mann_kendall_z(&[1, 3, 2, 5, 4]) - 5.0 / (300.0_f64 / 18.0).sqrt()).abs() < 1e-12);
        // One tie of two takes 2·1·9/18 = 1 off the variance of four, 4·3·13/18.
        assert!((mann_kendall_z(&[1, 2, 2, 3]) - 4.0 / (156.0_f64 / 18.0 - 1.0).sqrt()).abs() < 1e-12);
        assert_eq!([&[7, 7, 7][..], &[7], &[]].map(mann_kendall_z), [0.0; 3]);
    }

    #[test]
    fn stalls_are_found_and_chance_is_not() {
        let mut steady = [(150, 1e5); 60];
        assert_eq!(stalls(&batches(&steady, 1), None).unwrap().count, 0);
        (steady[20].0, steady[21].0, steady[40].0) = (10, 70, 0);
        // What waited comes after.
        steady[22].0 = 290;
        for planned_per_s in [None, Some(1500.0)] {
            let stalls = stalls(&batches(&steady, 1), planned_per_s).unwrap();
            assert_eq!((stalls.count, stalls.first_s), (2, 2.0));
            assert!((stalls.time_s - 0.3).abs() < 1e-9, "{stalls:?}");
        }
        // Of five expected, none came now and then: groups of twenty such batches know better.
        let mut random = fastrand::Rng::with_seed(2);
        let few: Vec<_> = (0..400).map(|_| (random.u64(0..=10), 1e5)).collect();
        assert_eq!(stalls(&batches(&few, 1), Some(50.0)).unwrap().count, 0);
        assert_eq!(stalls(&batches(&few[..100], 1), Some(50.0)), None);
        assert_eq!(stalls(&[], None), None);
        assert_eq!(stalls(&batches(&[(0, 1e5); 40], 1), None), None);
    }
}
