//! HdrHistogram's percentile distribution of the headline durations, as plotFiles.html and hdr-plot read it.
//!
//! Values are in milliseconds, which both readers take for granted, with six decimals, so to the nanosecond: with the
//! customary three, a latency of 24 µs would be wrong by up to 2 %.
//!
//! Invariant: a row begins with a space and has four columns, and the last row three, since hdr-plot finds rows by the one
//! and plotFiles.html by the other; only the footer begins with `#[`.
//! Deliberately absent: other durations than the headline's. The format holds one table; `.hlog` has them all.

use std::fmt::Write;

use super::export::{comments, headline};
use crate::measure::environment::Clock;
use crate::measure::histogram::{Histogram, PERCENTILES, maximum_ns};
use crate::measure::result::RunResult;
use crate::measure::samples::Inflation;

const NS_PER_MS: f64 = 1e6;
/// Rows until half of the way from a percentile to 100 % is gone; HdrHistogram's own tools print as many.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The whole table.
pub(super) fn render(result: &RunResult) -> String {
    let (name, histogram) = headline(result);
    let mut text = comments(result);
    let _ = writeln!(text, "# values: {name} times in {}", millionfold(result.environment.clock));
    let inflation = Inflation::of_run(result);
    let unstated = (0..PERCENTILES.len()).find(|&index| inflation.percentile_ns(histogram, index).is_none());
    if let Some((label, _)) = unstated.map(|index| PERCENTILES[index]) {
        let _ = writeln!(text, "# too few samples to state {label} and above: what stands there is no bound");
    }
    text.push_str(&table(histogram));
    text.push_str(&footer(histogram));
    text
}

/// A million of what the clock counts.
fn millionfold(clock: Clock) -> &'static str {
    match clock {
        Clock::Real => "milliseconds",
        Clock::Instructions => "millions of instructions",
    }
}

fn table(histogram: &Histogram) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let max_ns = maximum_ns(histogram).unwrap_or(0);
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        // The steps are sums of fractions: what should be 0.75 may lie a hair above, and its value then a slot too high.
        let quantile = (step.quantile_iterated_to() * 1e12).round() / 1e12;
        // At 0 the lower end of a slot is what is asked for; every other row has an upper end.
        let value_ns =
            if quantile > 0.0 { histogram.value_at_quantile(quantile) } else { step.value_iterated_to() };
        let total = histogram.count_between(0, value_ns);
        let value_ms = value_ns.min(max_ns) as f64 / NS_PER_MS;
        let _ = write!(text, " {value_ms:12.6} {quantile:2.12} {total:10}");
        let _ =
            if quantile < 1.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    text
}

fn footer(histogram: &Histogram) -> String {
    let max_ms = maximum_ns(histogram).unwrap_or(0) as f64 / NS_PER_MS;
    let (mean_ms, deviation_ms) = (histogram.mean() / NS_PER_MS, histogram.stdev() / NS_PER_MS);
    // Slots of a bucket: enough to tell values of all digits from their neighbours up to twice ten to their power.
    let sub_buckets = (2 * 10_u64.pow(histogram.sigfig().into())).next_power_of_two();
    format!(
        "#[Mean    = {mean_ms:12.6}, StdDeviation   = {deviation_ms:12.6}]\n\
         #[Max     = {max_ms:12.6}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {sub_buckets:12}]\n",
        histogram.len(),
        histogram.buckets(),
    )
}
