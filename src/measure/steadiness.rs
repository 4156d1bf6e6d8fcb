//! Whether the measured window was one state of affairs: no queue that grew, no drift of the durations, no time at which
//! answers stayed away.
//!
//! Invariant: batches are looked at in groups large enough that chance alone does not look like a change.
//! Deliberately absent: changes between runs, and whose fault a change is.

use super::histogram::Histogram;
use super::result::{Accounting, RunResult};
use super::samples::BATCHES_MIN;
use super::series::{Batch, Compact};

/// The least share of the messages due that has to be answered in time, for a rate to have been kept up with.
pub const ACHIEVED_SHARE_MIN: f64 = 0.99;

/// Groups of batches that a drift is looked for in, at most: long ones are less dependent on each other.
const GROUPS_MAX: usize = 30;
/// Two-sided 1 % of the normal distribution.
const Z_TREND: f64 = 2.576;
/// Answers expected of a group in which a stall is looked for: chance leaves half of 100 out in one of 10⁷ groups.
const GROUP_ANSWERS_MIN: f64 = 100.0;
/// A group with a smaller share of the expected answers was stalled.
const STALL_SHARE: f64 = 0.5;

/// How answers kept pace with the messages that fell due.
///
/// When a window ends, messages are in flight however fast the server is, and their answers come after it. In a steady state
/// as many were in flight when it began, and were answered within it, but they are the warm-up's and in no count. So, of the
/// answers after the window, as many are in time as messages were in flight at its beginning; the rest is what a queue
/// grew by. Their number is by Little's law ("A proof for the queuing formula: L = λW", Operations Research 9(3), 1961) the
/// rate of answers times the mean duration, that of the first third of the answers: over the whole window, the age of a growing queue
/// would excuse the queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Messages that fell due within the window.
    pub offered: u64,
    /// Of those, answered in time.
    pub in_time: u64,
    /// In flight when the window began.
    pub in_flight: f64,
}

impl Pace {
    /// Of messages that took `headline` and, in the order of their answers, `batches` in a window of `measured_s`. Without
    /// batches the median duration stands for the mean of the early ones.
    pub fn new(accounting: &Accounting, headline: &Histogram, batches: &[Batch], measured_s: f64) -> Pace {
        let sum_ns = |batch: &Batch| -> f64 {
            batch.headline.iter().map(|(value_ns, count)| value_ns as f64 * count as f64).sum()
        };
        let early_ns = early_mean(batches.iter().map(|batch| (batch.headline.len(), sum_ns(batch))));
        let median_ns = || if headline.is_empty() { 0.0 } else { headline.value_at_quantile(0.5) as f64 };
        let early_s = early_ns.unwrap_or_else(median_ns) / 1e9;
        let Accounting { offered, answered, answered_late: late, .. } = *accounting;
        let in_window = answered.saturating_sub(late);
        let in_flight = in_flight(in_window as f64, offered as f64, early_s, measured_s);
        let in_time = in_window.saturating_add(late.min(in_flight.ceil() as u64));
        Pace { offered, in_time, in_flight }
    }

    /// Of a run.
    pub fn of(result: &RunResult) -> Pace {
        let RunResult { accounting, batches, summary, .. } = result;
        Pace::new(accounting, result.headline(), batches, summary.measured_s)
    }

    /// The share of the messages due that was answered in time.
    pub fn share(&self) -> f64 {
        self.in_time as f64 / self.offered.max(1) as f64
    }

    /// Whether that is [`ACHIEVED_SHARE_MIN`], but for what chance does: independent messages in flight vary by the root of
    /// their number, at the beginning and at the end. Three deviations of the difference are allowed for.
    pub fn is_kept(&self) -> bool {
        let chance = 3.0 * (2.0 * self.in_flight).sqrt() / self.offered.max(1) as f64;
        self.share() >= ACHIEVED_SHARE_MIN - chance
    }
}

/// How many messages were in flight when a window of `measured_s` began of which the early messages took `early_s`, by Little's
/// law: answers come at the rate at which, over the window, those in it and as many as were in flight are answered, if not
/// above that at which messages fell due.
pub fn in_flight(answered_in_window: f64, offered: f64, early_s: f64, measured_s: f64) -> f64 {
    match measured_s - early_s {
        rest_s if rest_s > 0.0 => (answered_in_window / rest_s).min(offered / measured_s) * early_s,
        _ => 0.0,
    }
}

/// The mean of the first third of durations that came in parts: the count and the sum of each. `None` of no durations.
pub fn early_mean(parts: impl Iterator<Item = (u64, f64)> + Clone) -> Option<f64> {
    let third = parts.clone().fold(0_u64, |all, (count, _)| all.saturating_add(count)).div_ceil(3);
    let (mut early, mut early_sum) = (0_u64, 0.0);
    for (count, sum) in parts {
        if early >= third {
            break;
        }
        early = early.saturating_add(count);
        early_sum += sum;
    }
    (early > 0).then(|| early_sum / early as f64)
}

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
    /// The longest piece that was looked at: what is shorter can hide in one.
    pub piece_s: f64,
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
    let piece_s = groups.iter().map(|group| group.length_s).fold(0.0, f64::max);
    let mut stalls = Stalls { piece_s, ..Stalls::default() };
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

    /// A server of one queue at `rate_per_s` for 12 s, of which two are warm-up, that answers each message after
    /// `latency_s(number)`, but no more than `capacity_per_s`, in order.
    fn paced(rate_per_s: f64, capacity_per_s: f64, latency_s: impl Fn(u64) -> f64) -> Pace {
        let (mut accounting, mut whole) = (Accounting::default(), new_histogram());
        let mut parts = vec![new_histogram(); 100];
        let mut free_s = f64::NEG_INFINITY;
        for number in 0..(12.0 * rate_per_s) as u64 {
            let sent_s = number as f64 / rate_per_s - 2.0;
            free_s = free_s.max(sent_s) + 1.0 / capacity_per_s;
            let answered_s = free_s + latency_s(number);
            if sent_s < 0.0 {
                continue;
            }
            let took_ns = ((answered_s - sent_s) * 1e9) as u64;
            accounting.offered += 1;
            accounting.answered += 1;
            accounting.answered_late += u64::from(answered_s >= 10.0);
            record(&mut whole, took_ns);
            if let Some(part) = parts.get_mut((answered_s * 10.0) as usize) {
                record(part, took_ns);
            }
        }
        let batch = |part| Batch { headline: Compact::of(part), ..Batch::default() };
        let batches: Vec<_> = parts.iter().map(batch).collect();
        Pace::new(&accounting, &whole, &batches, 10.0)
    }

    #[test]
    fn what_is_in_flight_in_a_steady_state_is_in_time_however_long_it_takes() {
        // Mostly quick, on average 150 ms.
        let skewed = |number: u64| if number.is_multiple_of(5) { 0.746 } else { 0.001 };
        for (what, pace) in [
            ("quick", paced(5_000.0, 1e6, |_| 0.001)),
            ("one second", paced(5_000.0, 1e6, |_| 1.0)),
            ("five seconds", paced(5_000.0, 1e6, |_| 5.0)),
            ("skewed", paced(5_000.0, 1e6, skewed)),
        ] {
            assert!(pace.is_kept() && pace.share() > 0.995, "{what}: {pace:?}");
        }
    }

    #[test]
    fn what_a_queue_grew_by_is_not_in_time() {
        for overload in [1.02, 1.1, 2.0, 10.0] {
            let pace = paced(5_000.0, 5_000.0 / overload, |_| 0.001);
            assert!(!pace.is_kept(), "{overload}: {pace:?}");
            // What was answered a second, of the window or of the warm-up; the latter's backlog may take all the time.
            let answered = pace.share() * overload;
            let expected = if overload < 10.0 { 0.98..1.1 } else { 0.0..0.01 };
            assert!(expected.contains(&answered), "{overload}: {answered} of the capacity");
        }
        let nothing = Pace::new(&Accounting::default(), &new_histogram(), &[], 0.0);
        assert!(!nothing.is_kept(), "{nothing:?}");
    }

    #[test]
    fn chance_moves_few_messages_in_flight() {
        let pace = |in_time| Pace { offered: 2_000, in_time, in_flight: 200.0 };
        assert!(pace(1_925).is_kept() && !pace(1_910).is_kept());
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
            assert_eq!(stalls.piece_s, 0.1);
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
