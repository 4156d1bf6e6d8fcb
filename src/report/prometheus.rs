//! Prometheus' text exposition of one run, in its base units: seconds, messages.
//!
//! Durations are histograms with the same buckets in every file, so that runs can be added up, and beside them the exact
//! percentiles, as far as there are samples enough for them.
//!
//! Where the info's label `clock` says `instructions`, a second is a milliard of them.
//!
//! Invariant: a metric's samples stand together under one HELP and one TYPE; label values are escaped; a bucket counts only
//! what surely lies below its bound (a histogram's slot is 0.1 % wide).
//! Deliberately absent: timestamps on samples. A Pushgateway and a textfile collector refuse them; the run's time is a metric.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use super::export::{configuration, headline, inflation, side_histograms, verdict};
use super::terminal::workload;
use crate::measure::histogram::{Histogram, PERCENTILES};
use crate::measure::result::RunResult;
use crate::measure::verdict::Level;

const NS_PER_S: f64 = 1e9;

/// Upper bounds of the buckets, in nanoseconds: 1, 2, 5 … from 1 µs to 50 s.
fn bounds_ns() -> impl Iterator<Item = u64> {
    (3..11).flat_map(|power| [1, 2, 5].map(|factor| factor * 10_u64.pow(power)))
}

/// Every metric of the run.
pub(super) fn render(result: &RunResult) -> String {
    let mut text = Exposition::default();
    about(&mut text, result);
    durations(&mut text, result);
    books(&mut text, result);
    text.0
}

/// Which run it was, and how far it can be trusted.
fn about(text: &mut Exposition, result: &RunResult) {
    let (level, reasons) = verdict(result);
    text.metric("ringsock_run_info", "gauge", "What was run, and where; always 1.");
    let plan = workload(&result.plan);
    let mut labels = vec![("plan", plan.as_str()), ("verdict", level), ("verdict_reasons", reasons.as_str())];
    let configuration = configuration(result);
    labels.extend(configuration.iter().map(|(key, value)| (*key, value.as_str())));
    text.sample("ringsock_run_info", &labels, 1.0);
    text.metric("ringsock_verdict", "gauge", "1 for the level of the run's verdict, 0 for the others.");
    for level in [Level::Trusted, Level::Suspect, Level::Invalid] {
        let holds = super::verdict::of(result).level == level;
        text.sample("ringsock_verdict", &[("level", level.name())], f64::from(u8::from(holds)));
    }
    if let Ok(made) = humantime::parse_rfc3339(&result.created) {
        let made_s = made.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        text.single("ringsock_created_timestamp_seconds", "gauge", "When the result was made.", made_s);
    }
    let window = "Length of the measured window.";
    text.single("ringsock_measured_seconds", "gauge", window, result.summary.measured_s);
}

fn durations(text: &mut Exposition, result: &RunResult) {
    let (name, whole) = headline(result);
    let mut measures = vec![(name.to_owned(), whole)];
    measures.extend(side_histograms(result));
    let metric = "ringsock_duration_seconds";
    text.metric(
        metric,
        "histogram",
        "Durations by what was measured; response counts from the intended send.",
    );
    for (measure, histogram) in &measures {
        text.histogram(metric, measure, histogram);
    }
    let metric = "ringsock_duration_percentile_seconds";
    text.metric(
        metric,
        "gauge",
        "Exact percentiles of the durations, where there are samples enough to state them.",
    );
    for (measure, histogram) in &measures {
        let inflation = inflation(result, measure);
        for (index, (label, _)) in PERCENTILES.into_iter().enumerate() {
            if let Some(value_ns) = inflation.percentile_ns(histogram, index) {
                let labels = [("measure", measure.as_str()), ("percentile", &label[1..])];
                text.sample(metric, &labels, value_ns as f64 / NS_PER_S);
            }
        }
    }
}

fn books(text: &mut Exposition, result: &RunResult) {
    let (accounting, cpu) = (&result.accounting, &result.cpu);
    for (name, help, value) in [
        ("messages_offered", "Messages intended in the window.", accounting.offered),
        ("messages_sent", "Of those offered: sent.", accounting.sent),
        ("messages_unsent", "Of those offered: never sent.", accounting.unsent),
        ("messages_answered", "Of those sent: answered by the end of the drain.", accounting.answered),
        ("messages_answered_late", "Of those answered: after the window.", accounting.answered_late),
        ("messages_outstanding", "Of those sent: never answered.", accounting.outstanding),
        ("connections_opened", "Connections whose handshake succeeded.", accounting.connections_opened),
        ("connections_failed", "Connections that never came so far.", accounting.connections_failed),
    ] {
        text.single(&format!("ringsock_{name}_total"), "counter", help, value as f64);
    }
    text.metric("ringsock_errors_total", "counter", "What went wrong, by class.");
    for (class, &count) in &accounting.errors {
        text.sample("ringsock_errors_total", &[("class", class)], count as f64);
    }
    if accounting.errors.is_empty() {
        text.sample("ringsock_errors_total", &[("class", "")], 0.0);
    }
    text.metric("ringsock_cpu_seconds_total", "counter", "Processor time over the window, by side.");
    text.sample("ringsock_cpu_seconds_total", &[("side", "load")], cpu.load_cpu_s);
    if let Some(server_cpu_s) = cpu.server_cpu_s {
        text.sample("ringsock_cpu_seconds_total", &[("side", "server")], server_cpu_s);
    }
    if let Some(rate) = result.summary.rate_offered_per_s {
        text.single("ringsock_offered_messages_per_second", "gauge", "The rate asked for.", rate);
    }
    let rate = result.summary.rate_achieved_per_s;
    let help = "Messages answered in time, by the window's length.";
    text.single("ringsock_achieved_messages_per_second", "gauge", help, rate);
}

/// The text so far.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        // Label names have underscores where keys have dashes.
        let label =
            |(name, value): &(&str, &str)| format!("{}=\"{}\"", name.replace('-', "_"), escaped(value));
        let labels = labels.iter().map(label).collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, measure: &str, histogram: &Histogram) {
        let mut slots = histogram.iter_recorded().peekable();
        let mut below = 0;
        for bound_ns in bounds_ns() {
            while let Some(slot) = slots.next_if(|slot| slot.value_iterated_to() <= bound_ns) {
                below += slot.count_at_value();
            }
            let bound_s = (bound_ns as f64 / NS_PER_S).to_string();
            self.sample(&format!("{name}_bucket"), &[("measure", measure), ("le", &bound_s)], below as f64);
        }
        let count = histogram.len() as f64;
        self.sample(&format!("{name}_bucket"), &[("measure", measure), ("le", "+Inf")], count);
        let sum_s = histogram.mean() * count / NS_PER_S;
        self.sample(&format!("{name}_sum"), &[("measure", measure)], sum_s);
        self.sample(&format!("{name}_count"), &[("measure", measure)], count);
    }
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::{new_histogram, record};

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }

    #[test]
    fn a_bucket_counts_what_lies_below_its_bound() {
        let mut histogram = new_histogram();
        for value_ns in [999, 1_000, 1_001, 4_000_000, 3_600_000_000_000] {
            record(&mut histogram, value_ns);
        }
        let mut text = Exposition::default();
        text.histogram("x_seconds", "response", &histogram);
        for line in [
            r#"x_seconds_bucket{measure="response",le="0.000001"} 2"#,
            r#"x_seconds_bucket{measure="response",le="0.000002"} 3"#,
            r#"x_seconds_bucket{measure="response",le="0.005"} 4"#,
            r#"x_seconds_bucket{measure="response",le="50"} 4"#,
            r#"x_seconds_bucket{measure="response",le="+Inf"} 5"#,
            r#"x_seconds_count{measure="response"} 5"#,
        ] {
            assert!(text.0.contains(&format!("{line}\n")), "{line}:\n{}", text.0);
        }
    }
}
