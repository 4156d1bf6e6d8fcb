//! HdrHistogram's interval log, version 1.3: every histogram of a result, whole.
//!
//! Invariant: the untagged rows, merged, are the run's headline histogram, exactly: readers that know nothing of tags
//! take those and no others. Rows ascend by their start, as readers that look for a range of time expect, and no line is
//! empty, which Java's reader takes for a broken row.
//! Deliberately absent: compression of the whole file. Histograms are deflated each by itself, in the V2 encoding.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use super::export::{comments, headline, side_histograms};
use super::text::printable;
use crate::measure::histogram::{self, Histogram, maximum_ns, new_histogram};
use crate::measure::result::RunResult;

/// Interval_Max is in milliseconds, the histograms are in nanoseconds.
const NS_PER_MS: f64 = 1e6;

/// The whole log: seconds since the start of the window, maxima in milliseconds, histograms in nanoseconds.
pub(super) fn render(result: &RunResult) -> String {
    let mut text = header(result);
    let window_s = result.summary.measured_s;
    for (name, histogram) in side_histograms(result) {
        text.push_str(&row(&format!("Tag={name},"), 0.0, window_s, histogram));
    }
    text.push_str(&headline_rows(result));
    text
}

fn header(result: &RunResult) -> String {
    let tool = printable(&format!("{} {}", result.tool.name, result.tool.version));
    let (start_s, start_text) = start(result);
    let mut text = format!("#[Logged with {tool}]\n#[Histogram log format version 1.3]\n");
    let _ = writeln!(text, "#[StartTime: {start_s:.3} (seconds since epoch), {start_text}]");
    let _ = writeln!(text, "#[BaseTime: {start_s:.3} (seconds since epoch)]");
    text.push_str(&comments(result));
    let _ = writeln!(
        text,
        "# start: when the window began, reckoned back from created; {}",
        start_is_good_to(result)
    );
    let (name, unit) = (headline(result).0, result.environment.clock.unit());
    let _ = writeln!(text, "# rows: untagged ones are {name} times, in {unit}; tagged ones span the window");
    text.push_str(
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
    );
    text
}

fn start_is_good_to(result: &RunResult) -> String {
    if result.accounting.outstanding > 0 {
        "good to a second or so".to_owned()
    } else {
        format!("late by the time it took to drain, at most {} s", result.plan.drain_timeout_s)
    }
}

/// When the window began, in seconds since 1970, and the same for people. A result says when it was made, which is after
/// the drain; how long that took it does not say, but a drain ends early only when nothing is outstanding.
fn start(result: &RunResult) -> (f64, String) {
    let Ok(made) = humantime::parse_rfc3339(&result.created) else {
        return (0.0, "unknown".to_owned());
    };
    let made_s = made.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let drained_s = if result.accounting.outstanding > 0 { result.plan.drain_timeout_s } else { 0.0 };
    let start_s = (made_s - drained_s - result.summary.measured_s).max(0.0);
    let Ok(since_epoch) = Duration::try_from_secs_f64(start_s) else { return (0.0, "unknown".to_owned()) };
    (start_s, humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch).to_string())
}

/// A row for each batch, and a last one for what came while draining; one for the window where there are no batches.
fn headline_rows(result: &RunResult) -> String {
    let (_, whole) = headline(result);
    let window_s = result.summary.measured_s;
    let Some(rest) = outside_batches(result, whole) else { return row("", 0.0, window_s, whole) };
    let mut text = String::new();
    for batch in &result.batches {
        text.push_str(&row("", batch.start_s, batch.length_s, &batch.headline.to_histogram()));
    }
    if !rest.is_empty() {
        text.push_str(&row("", window_s, result.plan.drain_timeout_s, &rest));
    }
    text
}

/// What the headline histogram holds and no batch does; `None` if there are no batches, or if they are not a part of it.
fn outside_batches(result: &RunResult, whole: &Histogram) -> Option<Histogram> {
    if result.batches.is_empty() {
        return None;
    }
    let mut in_batches = new_histogram();
    result.batches.iter().for_each(|batch| batch.headline.add_to(&mut in_batches));
    let mut rest = whole.clone();
    rest.subtract(&in_batches).ok()?;
    Some(rest)
}

fn row(tag: &str, start_s: f64, length_s: f64, histogram: &Histogram) -> String {
    let max_ms = maximum_ns(histogram).unwrap_or(0) as f64 / NS_PER_MS;
    format!("{tag}{start_s:.3},{length_s:.3},{max_ms:.3},{}\n", histogram::encode(histogram))
}
