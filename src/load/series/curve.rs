//! Latency at a set of rates, up to and beyond what the server can do, and how it comes back from there.
//!
//! Rates ascend: an overload may leave something behind (queues, memory, a slower clock), which then bends no rate below it.
//! The price is that a machine which drifts meanwhile bends the curve; a curve made twice shows that.
//!
//! Recovery is one run on the same connections: the overload is its warm-up, its measured window begins when the rate falls
//! to half of the capacity, and its batches say when response times are back.
//!
//! Invariant: the steps follow from the flags and the capacity alone, which is known before the first rate.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use super::searching::flag_of;
use super::{Controller, End, Left, Planned, Request, SeriesError, Setup, Step, went_well};
use crate::load::options::parse_rate;
use crate::measure::finding::{CurveFinding, CurvePoint, Finding, Recovery};
use crate::measure::histogram::{self, Histogram, PERCENTILES, percentile_ns};
use crate::measure::result::RunResult;
use crate::measure::samples::Inflation;
use crate::report::Style;
use crate::report::curve as report;

/// Messages in flight in the closed loop that measures the capacity, on all connections together. Server and generator do
/// the more a second the more they find at once, so a closed loop has no single capacity: with few in flight it is that of
/// the round trip, with very many one that no open loop reaches. This number came nearest to an open loop's limit where it was
/// tried, and is an estimate; `--capacity` takes a measured one, such as `--find-max-rate` finds.
const CAPACITY_IN_FLIGHT: u32 = 256;
/// Recovery is measured at this share of the capacity.
const RECOVERY_SHARE: f64 = 0.5;
/// Response times up to as many times those without overload count as recovered.
const RECOVERED_FACTOR: u64 = 2;
/// So many times `--duration` is the recovery watched.
const RECOVERY_DURATIONS: u32 = 2;
/// From this share of the messages due, answered within the window, an overload was none.
const KEPT_UP_SHARE: f64 = 0.99;
/// Intervals below the bound that make a recovery.
const RECOVERED_IN_A_ROW: usize = 3;

/// A rate as asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rate {
    PerSecond(f64),
    OfCapacity(f64),
}

/// Rates, as `10k,50%`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates(Vec<(String, Rate)>);

impl FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = |text: &str| {
            let text = text.trim();
            let (number, of_capacity) = match text.strip_suffix('%') {
                Some(number) => (number, true),
                None => (text, false),
            };
            let value = if of_capacity { number.parse().ok() } else { parse_rate(number).ok() };
            let value = value.filter(|&value: &f64| value > 0.0 && value <= 1e9);
            let value = value.ok_or(format!("`{text}` is no rate: write 10k,20k,50k or 10%,50%,110%"))?;
            Ok((
                text.to_owned(),
                if of_capacity { Rate::OfCapacity(value / 100.0) } else { Rate::PerSecond(value) },
            ))
        };
        text.split(',').map(rate).collect::<Result<_, String>>().map(Rates)
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(","))
    }
}

/// A run of the curve.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Capacity,
    /// A rate of the curve, or (not `shown`) one that recovery is held against.
    Point {
        label: String,
        rate_per_s: f64,
        overload: bool,
        shown: bool,
    },
    Recovery {
        from_per_s: f64,
        to_per_s: f64,
    },
}

/// See the module's text.
pub(super) struct Curve {
    base: Setup,
    rates: Rates,
    /// What is still to be run, the next first; planned as soon as the capacity is known.
    parts: Vec<Part>,
    found: CurveFinding,
    /// The 99th percentile at the rate that recovery falls back to.
    reference_ns: Option<u64>,
    went_wrong: bool,
}

impl Curve {
    pub(super) fn new(request: &Request<'_>, rates: &Rates) -> Result<Curve, SeriesError> {
        let (flags, options) = (request.flags, request.options);
        if let [_, second, ..] = &options.url[..] {
            let cause =
                format!("--curve measures one server: leave {second} out, and make its curve by itself");
            return Err(SeriesError::Flags(cause));
        }
        if let Some(capacity) = flags.capacity.filter(|&capacity| !(capacity > 0.0 && capacity <= 1e9)) {
            return Err(SeriesError::Flags(format!(
                "--capacity {capacity}: has to be above 0, in messages a second"
            )));
        }
        let mut curve = Curve {
            base: Setup::new(&request.run_config()?)?,
            rates: rates.clone(),
            parts: Vec::new(),
            found: CurveFinding::default(),
            reference_ns: None,
            went_wrong: false,
        };
        let is_relative = rates.0.iter().any(|(_, rate)| matches!(rate, Rate::OfCapacity(_)));
        match flags.capacity {
            None if is_relative => curve.parts.push(Part::Capacity),
            capacity => {
                curve.found.capacity_per_s = capacity;
                curve.found.capacity_from = capacity.map(|_| "by --capacity".to_owned());
                curve.plan_points();
            }
        }
        Ok(curve)
    }

    /// All rates, ascending; after each overload the recovery from it.
    fn plan_points(&mut self) {
        let capacity = self.found.capacity_per_s;
        let half = capacity.map(|capacity| round_rate(capacity * RECOVERY_SHARE));
        let point = |(label, rate): &(String, Rate)| {
            let rate_per_s = match *rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::OfCapacity(share) => capacity.map(|capacity| round_rate(capacity * share)),
            }?;
            let overload = capacity.is_some_and(|capacity| rate_per_s > capacity);
            Some(Part::Point { label: label.clone(), rate_per_s, overload, shown: true })
        };
        let mut points: Vec<Part> = self.rates.0.iter().filter_map(point).collect();
        let is_overload = |part: &Part| matches!(part, Part::Point { overload: true, .. });
        if let Some(half) = half.filter(|_| points.iter().any(is_overload)) {
            let is_half = |part: &Part| matches!(part, Part::Point { rate_per_s, .. } if *rate_per_s == half);
            if !points.iter().any(is_half) {
                let label = "without overload before".to_owned();
                points.push(Part::Point { label, rate_per_s: half, overload: false, shown: false });
            }
        }
        points.sort_by(|a, b| rate_of(a).total_cmp(&rate_of(b)));
        for part in points {
            let recovery = half.filter(|_| is_overload(&part));
            let recovery = recovery.map(|half| Part::Recovery { from_per_s: rate_of(&part), to_per_s: half });
            self.parts.push(part);
            self.parts.extend(recovery);
        }
    }

    fn setup(&self, part: &Part) -> Result<Setup, SeriesError> {
        let duration = self.base.options.duration;
        Ok(match part {
            Part::Capacity => {
                let pipeline = CAPACITY_IN_FLIGHT.div_ceil(self.base.options.connections.max(1));
                self.base.with([("closed-loop", true.into()), ("pipeline", pipeline.into())])?
            }
            Part::Point { rate_per_s, .. } => self.base.with([("rate", (*rate_per_s).into())])?,
            Part::Recovery { from_per_s, to_per_s } => self.base.with([
                ("rate", (*to_per_s).into()),
                ("warmup-rate", (*from_per_s).into()),
                ("warmup", flag_of(duration)),
                ("duration", flag_of(duration * RECOVERY_DURATIONS)),
            ])?,
        })
    }

    fn label(&self, part: &Part) -> String {
        use crate::report::text::rate;
        match part {
            Part::Capacity => {
                format!("capacity, by a closed loop with {} in flight", self.in_flight())
            }
            Part::Point { label, rate_per_s, overload, .. } => {
                let overload = if *overload { ", overload" } else { "" };
                let rate = rate(*rate_per_s);
                if label.ends_with('%') {
                    format!("{label} ({rate}){overload}")
                } else {
                    format!("{rate}{overload}")
                }
            }
            Part::Recovery { from_per_s, to_per_s } => {
                format!("recovery, from {} to {}", rate(*from_per_s), rate(*to_per_s))
            }
        }
    }

    /// Messages in flight when the capacity is measured: a whole number on each connection.
    fn in_flight(&self) -> u32 {
        CAPACITY_IN_FLIGHT.next_multiple_of(self.base.options.connections.max(1))
    }

    fn on_capacity(&mut self, end: &End) {
        match end {
            End::Measured(result) if result.summary.rate_achieved_per_s > 0.0 => {
                self.went_wrong |= !went_well(result);
                self.found.capacity_per_s = Some(result.summary.rate_achieved_per_s.round());
                let from = format!("measured by a closed loop with {} in flight", self.in_flight());
                self.found.capacity_from = Some(from);
                self.plan_points();
            }
            End::Measured(_) => self.end_by("the capacity could not be measured: nothing was answered"),
            End::Failed(why) => self.end_by(&format!("the capacity could not be measured: {why}")),
        }
    }

    fn end_by(&mut self, why: &str) {
        self.found.ended_by = Some(why.to_owned());
        self.parts.clear();
    }

    fn on_point(&mut self, end: &End, label: &str, rate_per_s: f64, overload: bool, shown: bool) {
        let point = CurvePoint {
            label: label.to_owned(),
            offered_per_s: rate_per_s,
            overload,
            ..CurvePoint::default()
        };
        let point = match end {
            End::Failed(why) => CurvePoint { failed: Some(why.clone()), ..point },
            End::Measured(result) => point_of(result, point),
        };
        let measured = match end {
            End::Measured(result) => Some(&result.latency.response),
            End::Failed(_) => None,
        };
        let half = self.found.capacity_per_s.map(|capacity| round_rate(capacity * RECOVERY_SHARE));
        if half == Some(rate_per_s) {
            // A yardstick, not a statement: it need not be known to a confidence.
            self.reference_ns = measured.and_then(|response| percentile_ns(response, 0.99));
        }
        // A server may break under an overload that was meant to break it.
        self.went_wrong |= !point.went_well && !overload;
        if shown {
            self.found.points.push(point);
        }
    }

    fn on_recovery(&mut self, end: &End, from_per_s: f64, to_per_s: f64) {
        let bound_ns = self.reference_ns.map(|p99_ns| RECOVERED_FACTOR * p99_ns);
        let recovery = Recovery { from_per_s, to_per_s, bound_ns, ..Recovery::default() };
        self.found.recoveries.push(match end {
            End::Failed(why) => Recovery { failed: Some(why.clone()), ..recovery },
            End::Measured(result) => {
                let intervals = intervals_of(result);
                let count = intervals.len().max(1) as f64;
                Recovery {
                    recovered_s: bound_ns.and_then(|bound_ns| recovered_s(&intervals, bound_ns)),
                    watched_s: result.summary.measured_s,
                    interval_s: result.summary.measured_s / count,
                    ..recovery
                }
            }
        });
    }
}

fn rate_of(part: &Part) -> f64 {
    match part {
        Part::Capacity => 0.0,
        Part::Point { rate_per_s, .. } => *rate_per_s,
        Part::Recovery { to_per_s, .. } => *to_per_s,
    }
}

/// Whole messages a second, where that is nothing to speak of.
fn round_rate(rate_per_s: f64) -> f64 {
    if rate_per_s >= 100.0 { rate_per_s.round() } else { rate_per_s }
}

fn point_of(result: &RunResult, point: CurvePoint) -> CurvePoint {
    let response = &result.latency.response;
    let inflation = Inflation::of_run(result);
    let percentile = |quantile: f64| {
        let index = PERCENTILES.iter().position(|&(_, other)| other == quantile)?;
        inflation.percentile_ns(response, index)
    };
    let in_time = result.accounting.answered - result.accounting.answered_late;
    CurvePoint {
        achieved_per_s: result.summary.rate_achieved_per_s,
        kept_up: in_time as f64 >= KEPT_UP_SHARE * result.accounting.offered as f64,
        p50_ns: percentile(0.5),
        p99_ns: percentile(0.99),
        p999_ns: percentile(0.999),
        max_ns: histogram::maximum_ns(response),
        server_cpu_ns: result.cpu.server_ns_per_message(&result.accounting),
        load_cpu_ns: result.cpu.load_ns_per_message(&result.accounting),
        lag_p99_ns: percentile_ns(&result.latency.lag, 0.99),
        spin: result.evidence.as_ref().is_some_and(|evidence| evidence.spin),
        level: result.verdict.as_ref().map(|verdict| verdict.level),
        went_well: went_well(result),
        ..point
    }
}

/// The 99th percentile of each interval and its start; `None`: nothing was answered in it, though something was due.
fn intervals_of(result: &RunResult) -> Vec<(f64, Option<u64>)> {
    let of_batch = |headline: &Histogram| (!headline.is_empty()).then(|| headline.value_at_quantile(0.99));
    match result.batches.is_empty() {
        true => result.intervals.iter().map(|interval| (interval.start_s, interval.p99_ns)).collect(),
        false => {
            let batches = result.batches.iter();
            batches.map(|batch| (batch.start_s, of_batch(&batch.headline.to_histogram()))).collect()
        }
    }
}

/// When response times were below the bound and stayed there for a while, or to the end.
fn recovered_s(intervals: &[(f64, Option<u64>)], bound_ns: u64) -> Option<f64> {
    let is_back = |(_, p99_ns): &(f64, Option<u64>)| p99_ns.is_some_and(|p99_ns| p99_ns <= bound_ns);
    let from =
        (0..intervals.len()).find(|&from| intervals[from..].iter().take(RECOVERED_IN_A_ROW).all(is_back))?;
    Some(intervals[from].0)
}

impl Controller for Curve {
    fn next_step(&mut self) -> Result<Option<Step>, SeriesError> {
        let Some(part) = self.parts.first() else { return Ok(None) };
        let planned = Planned { label: self.label(part), round: 0 };
        Ok(Some(Step { planned, setup: self.setup(part)? }))
    }

    fn on_end(&mut self, _: &Step, end: &End) {
        match self.parts.remove(0) {
            Part::Capacity => self.on_capacity(end),
            Part::Point { label, rate_per_s, overload, shown } => {
                self.on_point(end, &label, rate_per_s, overload, shown);
            }
            Part::Recovery { from_per_s, to_per_s } => self.on_recovery(end, from_per_s, to_per_s),
        }
    }

    fn left(&self) -> Left {
        let duration = self.base.options.duration;
        let time_of = |part: &Part| match part {
            Part::Recovery { .. } => duration * (1 + RECOVERY_DURATIONS),
            _ => self.base.time(),
        };
        let mut left = Left { runs: 0, is_guess: false, time: Duration::ZERO };
        left.runs = self.parts.len() as u64;
        left.time = self.parts.iter().map(time_of).sum();
        if self.parts.contains(&Part::Capacity) {
            // Its points are planned when it is known; which of them overload follows from the percentages.
            let rates = self.rates.0.iter();
            let overloads =
                rates.filter(|(_, rate)| matches!(rate, Rate::OfCapacity(share) if *share > 1.0)).count();
            left.is_guess = true;
            left.runs += (self.rates.0.len() + overloads) as u64;
            left.time += self.base.time() * self.rates.0.len() as u32;
            left.time += duration * (1 + RECOVERY_DURATIONS) * overloads as u32;
        }
        left
    }

    fn finding(&self) -> Finding {
        Finding::Curve(self.found.clone())
    }

    fn report(&self, folder: &Path, style: Style) -> String {
        report::render(&self.found, self.base.options.clock.into(), folder, style)
    }

    fn is_trusted(&self) -> bool {
        // It goes where runs fail on purpose: --strict is refused with it.
        false
    }

    fn is_success(&self) -> bool {
        let nothing_failed = self.found.points.iter().all(|point| point.failed.is_none() || point.overload);
        self.parts.is_empty() && self.found.ended_by.is_none() && nothing_failed && !self.went_wrong
    }

    fn contenders(&self) -> Vec<(String, Setup)> {
        vec![(format!("latency at {}", self.rates), self.base.clone())]
    }

    fn order(&self) -> Vec<Planned> {
        // Of a capacity that is yet to be measured only the run is known that measures it; a series that is gone on with
        // begins as this one did.
        self.parts.iter().map(|part| Planned { label: self.label(part), round: 0 }).collect()
    }
}

#[cfg(test)]
mod tests;
