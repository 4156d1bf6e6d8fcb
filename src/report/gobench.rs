//! Go's benchmark text, one benchmark a run: `benchstat -col kernel *.bench` compares kernels with it.
//!
//! A benchmark's iterations are its answered messages, its `ns/op` their mean headline duration. benchstat puts runs that
//! differ in any `key: value` line into tables of their own, so only what sets configurations apart stands in one, and the
//! verdict with it; what differs from run to run stands in comments, which benchstat passes over.
//!
//! Invariant: every key is written in every file, empty or not: else that of a file read before, in the same go, would stay
//! in force. An INVALID run, or one without an answer, has no benchmark line.
//! Deliberately absent: percentiles of too few samples; their unit is left out of the line.

use super::export::{configuration, headline, verdict};
use super::text::printable;
use crate::measure::environment::Clock;
use crate::measure::histogram::PERCENTILES;
use crate::measure::result::{Arrivals, Mode, RunResult};
use crate::measure::samples::{Inflation, P99};
use crate::measure::verdict::Level;

/// Configuration, comments, and the benchmark line.
pub(super) fn render(result: &RunResult) -> String {
    render_with(result, &[])
}

/// The same of a run that is compared with others by keys of the comparison's own, which take the place of those of the same name.
pub(super) fn render_with(result: &RunResult, own_keys: &[(String, String)]) -> String {
    let mut text = String::new();
    let (level, reasons) = verdict(result);
    let mut keys: Vec<(String, String)> =
        configuration(result).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    keys.retain(|(key, _)| own_keys.iter().all(|(own, _)| own != key));
    keys.extend(own_keys.iter().map(|(key, value)| (key.clone(), printable(value))));
    keys.push(("verdict".to_owned(), level.to_owned()));
    for (key, value) in keys {
        text.push_str(format!("{key}: {value}").trim_end());
        text.push('\n');
    }
    if !reasons.is_empty() {
        text.push_str(&format!("# verdict-reasons: {reasons}\n"));
    }
    let name = headline(result).0;
    let unit = unit(result);
    text.push_str(&format!("# created: {}; {unit}/op: mean {name} time\n", printable(&result.created)));
    let is_invalid = super::verdict::of(result).level == Level::Invalid;
    if !is_invalid && !headline(result).1.is_empty() {
        text.push_str("Unit msgs/s better=higher\n");
        text.push_str(&benchmark(result));
    }
    text
}

/// What durations are in. benchstat scales `ns`, and takes whatever else as it comes.
fn unit(result: &RunResult) -> &'static str {
    match result.environment.clock {
        Clock::Real => "ns",
        Clock::Instructions => "instr",
    }
}

fn benchmark(result: &RunResult) -> String {
    let unit = unit(result);
    let (_, histogram) = headline(result);
    let mut line = format!("Benchmark{} {}", name(result), histogram.len());
    let mut add =
        |value: f64, unit: &str| line.push_str(&format!(" {} {unit}", (value * 10.0).round() / 10.0));
    add(histogram.mean(), &format!("{unit}/op"));
    let inflation = Inflation::of_run(result);
    for (index, (label, _)) in PERCENTILES.into_iter().enumerate() {
        if let Some(value_ns) = inflation.percentile_ns(histogram, index) {
            add(value_ns as f64, &format!("{label}-{unit}"));
        }
    }
    if let Some(lag_ns) = inflation.percentile_ns(&result.latency.lag, P99) {
        add(lag_ns as f64, &format!("lag-p99-{unit}"));
    }
    if let Some(cpu_ns) = result.cpu.server_ns_per_message(&result.accounting) {
        add(cpu_ns, &format!("server-cpu-{unit}/op"));
    }
    if let Some(cpu_ns) = result.cpu.load_ns_per_message(&result.accounting) {
        add(cpu_ns, &format!("load-cpu-{unit}/op"));
    }
    add(result.summary.rate_achieved_per_s, "msgs/s");
    line + "\n"
}

/// `Echo/conns=64/size=64/kind=binary/rate=20000/arrivals=poisson`. It never ends in something like `-8`, which would be
/// read as a number of processors.
fn name(result: &RunResult) -> String {
    let plan = &result.plan;
    let word = |text: &str| {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>()
    };
    let scenario = word(&plan.scenario);
    let (first, rest) = scenario.split_at(scenario.len().min(1));
    let kind = if plan.text { "text" } else { "binary" };
    let mode = match plan.mode {
        Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Fixed } => {
            format!("rate={rate_per_s}/arrivals=fixed")
        }
        Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Poisson } => {
            format!("rate={rate_per_s}/arrivals=poisson")
        }
        Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Burst } => {
            format!("rate={rate_per_s}/arrivals=burst")
        }
        Mode::ClosedLoop { pipeline } => format!("pipeline={pipeline}"),
    };
    let (connections, bytes) = (plan.connections, plan.payload_bytes);
    let others = plan.parameters.iter().map(|(flag, value)| format!("/{}={}", flag, word(value)));
    let others = others.collect::<String>();
    format!(
        "{}{rest}{others}/conns={connections}/size={bytes}/kind={kind}/{mode}",
        first.to_ascii_uppercase()
    )
}
