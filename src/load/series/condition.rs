//! What a rate has to fulfil to be sustainable, as `p99<1ms, max<50ms`, and whether runs at that rate did.
//!
//! Invariant: a percentile is judged by its confidence interval; where the bound lies inside, the runs have not decided.
//! Deliberately absent: how long to go on then. [`super::search`] knows.

use std::fmt;
use std::str::FromStr;

use crate::measure::environment::Clock;
use crate::measure::histogram::{self, Histogram, PERCENTILES, new_histogram};
use crate::measure::result::RunResult;
use crate::measure::samples::Inflation;
use crate::measure::steadiness::{ACHIEVED_SHARE_MIN, Pace};
use crate::measure::verdict::Level;

/// Effective samples by count of samples, where a run does not tell, being cut into too few batches: answers that wait in
/// one queue are slow together.
const EFFECTIVE_SHARE: f64 = 0.1;
/// Half the width of an interval, in standard errors. A step is looked at up to four times, and the first look that decides
/// ends it, so with 1.96 each time the error would be more than twice the 5 % that it seems. Pocock ("Group sequential
/// methods in the design and analysis of clinical trials", Biometrika 64(2), 1977) has 2.361 for four looks at equal
/// increments; here each is twice as long as the last, so looks have less in common, and this is the bound that holds
/// whatever they have (Bonferroni: 1.25 % each).
const LOOK_Z: f64 = 2.5;
/// Effective samples, times (1 − p), from which on a percentile p has an upper bound: x − z·√x = 1, and a rank's rounding.
const SAMPLES_BEYOND: f64 = 8.4;
/// Checks of the verdict that tell of the generator and the machine, not of the server (see [`crate::measure::verdict`]).
const NOT_THE_SERVERS: [&str; 10] = [
    "generator-lag",
    "arrivals",
    "generator-cpu",
    "waiting",
    "preemption",
    "page-faults",
    "shared-cpus",
    "neighbours",
    "steal",
    "throttling",
];
/// Checks that, INVALID, say that the server did not sustain the rate.
const THE_SERVERS: [&str; 2] = ["answers", "rate"];

/// A property of the response times at a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantity {
    Quantile(f64),
    Mean,
    Max,
}

/// One of them, and what it has to be below.
#[derive(Debug, Clone, PartialEq)]
struct Term {
    /// As typed, as `p99`.
    label: String,
    quantity: Quantity,
    below_ns: u64,
}

/// What has to hold, all of it. See the module's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Vec<Term>);

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|term| term.trim().parse()).collect::<Result<_, String>>().map(Condition)
    }
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "`{text}` is no condition: write p99<1ms, max<50ms or mean<200us, several apart by commas"
            )
        };
        let (label, bound) = text.split_once('<').ok_or_else(form)?;
        let (label, bound) = (label.trim(), bound.trim());
        let quantity = match label {
            "max" => Quantity::Max,
            "mean" => Quantity::Mean,
            _ => {
                let number = label.strip_prefix('p').ok_or_else(form)?;
                let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let percent = number.parse::<f64>().ok().filter(|_| plain).ok_or_else(form)?;
                if !(percent > 0.0 && percent <= 99.999) {
                    return Err(format!(
                        "{label}: a percentile is above 0 and at most 99.999; for the largest write max"
                    ));
                }
                // As near as it can be to what was typed: 99.9 / 100 is not.
                Quantity::Quantile((percent * 1e6).round() / 1e8)
            }
        };
        let bound = humantime::parse_duration(bound)
            .map_err(|error| format!("`{bound}` in `{text}` is no time ({error}): write 500us, 1ms or 2s"))?;
        if bound.is_zero() {
            return Err(format!("`{text}`: nothing takes less than no time"));
        }
        Ok(Term { label: label.to_owned(), quantity, below_ns: bound.as_nanos() as u64 })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Term { label, below_ns, .. }) in self.0.iter().enumerate() {
            let bound = humantime::format_duration(std::time::Duration::from_nanos(*below_ns));
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{label}<{}", bound.to_string().replace(' ', ""))?;
        }
        Ok(())
    }
}

/// A value with its confidence interval (see [`LOOK_Z`]), in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) value_ns: u64,
    pub(super) low_ns: u64,
    pub(super) high_ns: u64,
}

/// All runs at one rate together.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    /// Response times.
    headline: Histogram,
    /// How many of its samples tell as much as independent ones, for each term of the condition.
    effective: Vec<f64>,
    offered: u64,
    /// Answered in time (see [`Pace`]).
    in_time: f64,
    /// How late the generator itself was.
    lag: Histogram,
    /// The worst verdict on any of them.
    level: Option<Level>,
    /// Why it may be the generator or the machine that was slow.
    not_the_servers: Option<String>,
    /// Why the server broke, whatever the response times.
    broken: Option<String>,
}

/// What they come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement {
    /// The condition held.
    Pass,
    /// It did not, and why.
    Fail(String),
    /// The bound lies inside a confidence interval; whether the values themselves hold.
    Undecided(bool),
}

impl Evidence {
    /// None yet.
    pub(super) fn none(condition: &Condition) -> Evidence {
        Evidence {
            headline: new_histogram(),
            effective: vec![0.0; condition.0.len()],
            offered: 0,
            in_time: 0.0,
            lag: new_histogram(),
            level: None,
            not_the_servers: None,
            broken: None,
        }
    }

    /// What one run says.
    pub(super) fn of(result: &RunResult, condition: &Condition) -> Evidence {
        let inflation = Inflation::of_run(result);
        let samples = &result.latency.response;
        let effective = |term: &Term| match inflation.is_measured() {
            true => inflation.effective_samples(samples, nearest_percentile(term.quantity)) as f64,
            false => samples.len() as f64 * EFFECTIVE_SHARE,
        };
        Evidence {
            headline: result.latency.response.clone(),
            effective: condition.0.iter().map(effective).collect(),
            offered: result.accounting.offered,
            in_time: Pace::of(result).in_time as f64,
            lag: result.latency.lag.clone(),
            level: result.verdict.as_ref().map(|verdict| verdict.level),
            not_the_servers: worst_of(result, &NOT_THE_SERVERS, Level::Suspect),
            broken: worst_of(result, &THE_SERVERS, Level::Invalid),
        }
    }

    /// With those of a further run at the same rate.
    pub(super) fn add(&mut self, other: &Evidence) {
        histogram::merge(&mut self.headline, &other.headline);
        self.effective.iter_mut().zip(&other.effective).for_each(|(ours, theirs)| *ours += theirs);
        self.offered += other.offered;
        self.in_time += other.in_time;
        histogram::merge(&mut self.lag, &other.lag);
        self.level = self.level.max(other.level);
        self.not_the_servers = self.not_the_servers.take().or_else(|| other.not_the_servers.clone());
        self.broken = self.broken.take().or_else(|| other.broken.clone());
    }

    /// Why a failure may be the generator's or the machine's, as the verdict has it: `steal: …`.
    pub(super) fn not_the_servers(&self) -> Option<&str> {
        self.not_the_servers.as_deref()
    }

    /// The 99th percentile of the generator's own lag.
    pub(super) fn lag_p99_ns(&self) -> Option<u64> {
        histogram::percentile_ns(&self.lag, 0.99)
    }

    /// The worst verdict on any of the runs, if they were judged.
    pub(super) fn level(&self) -> Option<Level> {
        self.level
    }

    /// The share of the messages offered that was answered in time.
    fn achieved(&self) -> f64 {
        if self.offered == 0 { 0.0 } else { self.in_time / self.offered as f64 }
    }

    fn estimate(&self, quantity: Quantity, effective: f64) -> Option<Estimate> {
        let (headline, count) = (&self.headline, self.headline.len());
        if count == 0 {
            return None;
        }
        match quantity {
            Quantity::Max => {
                let value_ns = histogram::maximum_ns(headline)?;
                Some(Estimate { value_ns, low_ns: value_ns, high_ns: value_ns })
            }
            Quantity::Mean => {
                let (mean, deviation) = (headline.mean(), headline.stdev());
                let half = LOOK_Z * deviation / effective.max(1.0).sqrt();
                let whole = |value: f64| value.max(0.0) as u64;
                Some(Estimate {
                    value_ns: whole(mean),
                    low_ns: whole(mean - half),
                    high_ns: whole(mean + half),
                })
            }
            Quantity::Quantile(quantile) => {
                let (low, high) = bounding_ranks(effective as u64, quantile)?;
                // Ranks among the effective samples, of which each stands for as many of the real ones.
                let at = |rank: u64| headline.value_at_quantile((rank as f64 / effective).clamp(0.0, 1.0));
                Some(Estimate {
                    value_ns: headline.value_at_quantile(quantile),
                    low_ns: at(low),
                    high_ns: at(high),
                })
            }
        }
    }
}

/// [`histogram::bounding_ranks`] with [`LOOK_Z`].
fn bounding_ranks(sample_count: u64, quantile: f64) -> Option<(u64, u64)> {
    let n = sample_count as f64;
    let margin = LOOK_Z * (n * quantile * (1.0 - quantile)).sqrt();
    let upper = (n * quantile + margin).ceil() + 1.0;
    (upper <= n).then(|| ((n * quantile - margin).floor().max(1.0) as u64, upper as u64))
}

/// The worst finding of these checks, if it is at least as bad.
fn worst_of(result: &RunResult, checks: &[&str], least: Level) -> Option<String> {
    let reasons = result.verdict.as_ref()?.reasons();
    let found = reasons.iter().find(|it| it.level >= least && checks.contains(&it.check.as_str()))?;
    Some(format!("{}: {}", found.check, found.says))
}

/// Which of [`PERCENTILES`] is as correlated as this: the first at or above it.
fn nearest_percentile(quantity: Quantity) -> usize {
    let quantile = match quantity {
        Quantity::Quantile(quantile) => quantile,
        Quantity::Mean => 0.5,
        Quantity::Max => 1.0,
    };
    PERCENTILES.iter().position(|&(_, other)| other >= quantile).unwrap_or(PERCENTILES.len() - 1)
}

impl Condition {
    /// Messages that a run needs, so that every percentile of the condition can be judged by it.
    pub(super) fn messages_needed(&self) -> f64 {
        let needed = |term: &Term| match term.quantity {
            Quantity::Quantile(quantile) => SAMPLES_BEYOND / (1.0 - quantile) / EFFECTIVE_SHARE * 1.05,
            Quantity::Mean | Quantity::Max => 100.0 / EFFECTIVE_SHARE,
        };
        self.0.iter().map(needed).fold(0.0, f64::max)
    }

    /// Whether it holds.
    pub(super) fn judge(&self, evidence: &Evidence, clock: Clock) -> Judgement {
        let achieved = evidence.achieved();
        if achieved < ACHIEVED_SHARE_MIN {
            return Judgement::Fail(format!(
                "{:.1} % of the messages were answered in time",
                100.0 * achieved
            ));
        }
        if let Some(broken) = &evidence.broken {
            return Judgement::Fail(broken.clone());
        }
        let (mut decided, mut by_value) = (true, true);
        for (term, &effective) in self.0.iter().zip(&evidence.effective) {
            let Some(estimate) = evidence.estimate(term.quantity, effective) else {
                (decided, by_value) = (false, by_value && self.holds_by_value(term, evidence));
                continue;
            };
            if estimate.low_ns >= term.below_ns {
                let at = clock.duration_ns(estimate.value_ns);
                return Judgement::Fail(format!("{} was {at}", term.label));
            }
            decided &= estimate.high_ns < term.below_ns;
            by_value &= estimate.value_ns < term.below_ns;
        }
        if decided { Judgement::Pass } else { Judgement::Undecided(by_value) }
    }

    /// Of a percentile that has too few samples for an interval.
    fn holds_by_value(&self, term: &Term, evidence: &Evidence) -> bool {
        let Quantity::Quantile(quantile) = term.quantity else { return false };
        !evidence.headline.is_empty() && evidence.headline.value_at_quantile(quantile) < term.below_ns
    }

    /// Each quantity, as `p99 812 µs [790 µs, 840 µs]`.
    pub(super) fn describe(&self, evidence: &Evidence, clock: Clock) -> String {
        let shown = |(term, &effective): (&Term, &f64)| {
            let text = |value_ns| clock.duration_ns(value_ns);
            match evidence.estimate(term.quantity, effective) {
                None => format!("{}: too few samples", term.label),
                Some(it) if it.low_ns == it.high_ns => format!("{} {}", term.label, text(it.value_ns)),
                Some(it) => format!(
                    "{} {} [{}, {}]",
                    term.label,
                    text(it.value_ns),
                    text(it.low_ns),
                    text(it.high_ns)
                ),
            }
        };
        self.0.iter().zip(&evidence.effective).map(shown).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_written_alike() {
        for (text, written) in [
            ("p99<1ms", "p99<1ms"),
            (" p99.9 < 2s,max<1s 500ms , mean<200us", "p99.9<2s, max<1s500ms, mean<200us"),
            ("p50<10ns", "p50<10ns"),
        ] {
            let condition: Condition = text.parse().unwrap();
            assert_eq!(condition.to_string(), written);
            assert_eq!(written.parse(), Ok(condition));
        }
        assert_eq!("p99.9<1s".parse::<Condition>().unwrap().0[0].quantity, Quantity::Quantile(0.999));
    }

    #[test]
    fn what_is_no_condition_is_refused_with_the_mend() {
        for (text, mend) in [
            ("", "write p99<1ms"),
            ("p99", "write p99<1ms"),
            ("99<1ms", "write p99<1ms"),
            ("p99<1ms,", "write p99<1ms"),
            ("p99>1ms", "write p99<1ms"),
            ("p1e1<1ms", "write p99<1ms"),
            ("p100<1ms", "for the largest write max"),
            ("p0<1ms", "above 0"),
            ("p99<1", "write 500us, 1ms or 2s"),
            ("p99<0s", "no time"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.contains(mend), "{text}: {error}");
        }
    }

    fn evidence(condition: &Condition, values_ns: impl IntoIterator<Item = u64>) -> Evidence {
        let mut evidence = Evidence::none(condition);
        values_ns.into_iter().for_each(|value_ns| histogram::record(&mut evidence.headline, value_ns));
        let count = evidence.headline.len();
        evidence.effective.fill(count as f64 * EFFECTIVE_SHARE);
        (evidence.offered, evidence.in_time) = (count, count as f64);
        evidence
    }

    #[test]
    fn a_bound_inside_the_interval_is_not_decided_and_more_samples_decide_it() {
        let condition: Condition = "p99<1ms".parse().unwrap();
        // Evenly spread up to 1.008 ms: the p99 is 0.998 ms.
        let samples = |count: u64| evidence(&condition, (0..count).map(move |i| 1_008_000 * i / count));
        assert_eq!(condition.judge(&samples(20_000), Clock::Real), Judgement::Undecided(true));
        assert_eq!(condition.judge(&samples(1_000_000), Clock::Real), Judgement::Pass);
        let mut merged = samples(20_000);
        (0..99).for_each(|_| merged.add(&samples(20_000)));
        assert_eq!(
            condition.judge(&merged, Clock::Real),
            Judgement::Pass,
            "merged runs tell as much as a long one"
        );
        let worse = evidence(&condition, (0..1_000_000).map(|i| 1_020 * i / 1000));
        assert_eq!(condition.judge(&worse, Clock::Real), Judgement::Fail("p99 was 1.01 ms".to_owned()));
        assert_eq!(
            condition.judge(&samples(2_000), Clock::Real),
            Judgement::Undecided(true),
            "too few for an interval"
        );
    }

    #[test]
    fn as_many_messages_as_are_needed_are_enough() {
        for text in ["p50<1s", "p99<1s", "p99.9<1s", "p99.99<1s"] {
            let condition: Condition = text.parse().unwrap();
            let count = condition.messages_needed() as u64;
            assert_eq!(
                condition.judge(&evidence(&condition, (0..count).map(|i| 1 + i % 1000)), Clock::Real),
                Judgement::Pass,
                "{text}"
            );
        }
    }

    #[test]
    fn a_rate_that_was_not_achieved_has_failed_however_fast_the_answers() {
        let condition: Condition = "max<1s,mean<1s".parse().unwrap();
        let mut slow = evidence(&condition, [1000; 10_000]);
        assert_eq!(condition.judge(&slow, Clock::Real), Judgement::Pass);
        slow.in_time = 9_800.0;
        assert!(
            matches!(condition.judge(&slow, Clock::Real), Judgement::Fail(why) if why.starts_with("98.0 %"))
        );
        assert!(matches!(condition.judge(&Evidence::none(&condition), Clock::Real), Judgement::Fail(_)));
    }
}
