//! Comma-separated values: a row for the run, for each other duration of it, and for each batch.
//!
//! Every row says which run it is of and whether that can be trusted, so files can be put together and still be sorted
//! out. Quoting is RFC 4180's; lines end in a bare newline, which every reader takes and which other tools of a shell want.
//!
//! Where the column `clock` says `instructions`, those called `_ns` count them.
//!
//! Invariant: one heading, every row of as many cells, and an empty cell for what is unknown, does not apply, or would be a
//! percentile of too few samples; control characters are written out, so a row is a line.
//! Deliberately absent: histograms. A table of percentiles cannot be merged; `.hlog` can.

use super::export::{configuration, headline, inflation, side_histograms, verdict};
use super::text::printable;
use crate::measure::histogram::Histogram;
use crate::measure::result::{Mode, Percentiles, RunResult};
use crate::measure::samples::Inflation;

/// Cells by the name of their column; a row has some of them.
type Cells = Vec<(&'static str, String)>;

const COLUMNS: [&str; 43] = [
    // What the row is about: `run` (the headline durations of the whole window), `part` (others), `batch`.
    "kind",
    "measure",
    "start_s",
    "length_s",
    "samples",
    "mean_ns",
    "p50_ns",
    "p75_ns",
    "p90_ns",
    "p99_ns",
    "p99.9_ns",
    "p99.99_ns",
    "p99.999_ns",
    "max_ns",
    "rate_achieved_per_s",
    "offered",
    "sent",
    "unsent",
    "answered",
    "answered_late",
    "outstanding",
    "errors",
    "load_cpu_ns_per_message",
    "server_cpu_ns_per_message",
    // Which run it is of: the same in every row.
    "created",
    "verdict",
    "verdict_reasons",
    "scenario",
    "connections",
    "payload_bytes",
    "mode",
    "rate_offered_per_s",
    "kernel",
    "cpu",
    "clock",
    "engine",
    "server_engine",
    "server",
    "tls",
    "deflate",
    "subprotocol",
    "label",
    "tool",
];

/// The heading and all rows.
pub(super) fn render(result: &RunResult) -> String {
    let mut text = line(COLUMNS.iter().map(|column| column.to_string()));
    let identity = identity(result);
    for row in rows(result) {
        let cell = |column: &&str| {
            let mut cells = row.iter().chain(&identity);
            cells
                .find(|(name, _)| name.replace('-', "_") == **column)
                .map_or(String::new(), |(_, value)| value.clone())
        };
        text.push_str(&line(COLUMNS.iter().map(cell)));
    }
    text
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| quoted(&cell)).collect::<Vec<_>>().join(",") + "\n"
}

/// RFC 4180, section 2: a cell with a comma or a quote in it is enclosed, and its quotes are doubled.
fn quoted(cell: &str) -> String {
    let cell = printable(cell);
    if cell.contains([',', '"']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

fn identity(result: &RunResult) -> Cells {
    let (plan, (level, reasons)) = (&result.plan, verdict(result));
    let (mode, rate) = match plan.mode {
        // In answers, as the rate that was achieved.
        Mode::OpenLoop { rate_per_s, .. } => {
            ("open loop", (rate_per_s * plan.answers_per_message()).to_string())
        }
        Mode::ClosedLoop { .. } => ("closed loop", String::new()),
    };
    let mut cells = vec![
        ("created", result.created.clone()),
        ("verdict", level.to_owned()),
        ("verdict_reasons", reasons),
        ("scenario", plan.scenario.clone()),
        ("connections", plan.connections.to_string()),
        ("payload_bytes", plan.payload_bytes.to_string()),
        ("mode", mode.to_owned()),
        ("rate_offered_per_s", rate),
    ];
    cells.extend(configuration(result));
    cells
}

fn rows(result: &RunResult) -> Vec<Cells> {
    let window_s = result.summary.measured_s;
    let (name, whole) = headline(result);
    let mut run = durations("run", name, 0.0, window_s, whole, &inflation(result, name));
    run.extend(books(result));
    let mut rows = vec![run];
    for (name, histogram) in side_histograms(result) {
        rows.push(durations("part", &name, 0.0, window_s, histogram, &inflation(result, &name)));
    }
    // A batch's messages are as dependent as the run's.
    let of_run = inflation(result, name);
    for batch in &result.batches {
        let histogram = batch.headline.to_histogram();
        let mut row = durations("batch", name, batch.start_s, batch.length_s, &histogram, &of_run);
        row.extend([("sent", batch.sent.to_string()), ("answered", batch.answered.to_string())]);
        rows.push(row);
    }
    rows
}

fn durations(
    kind: &str,
    measure: &str,
    start_s: f64,
    length_s: f64,
    histogram: &Histogram,
    inflation: &Inflation,
) -> Cells {
    let some = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
    let percentiles = Percentiles::of(histogram, inflation);
    vec![
        ("kind", kind.to_owned()),
        ("measure", measure.to_owned()),
        ("start_s", start_s.to_string()),
        ("length_s", length_s.to_string()),
        ("samples", percentiles.samples.to_string()),
        ("mean_ns", if histogram.is_empty() { String::new() } else { format!("{:.1}", histogram.mean()) }),
        ("p50_ns", some(percentiles.p50_ns)),
        ("p75_ns", some(percentiles.p75_ns)),
        ("p90_ns", some(percentiles.p90_ns)),
        ("p99_ns", some(percentiles.p99_ns)),
        ("p99.9_ns", some(percentiles.p99_9_ns)),
        ("p99.99_ns", some(percentiles.p99_99_ns)),
        ("p99.999_ns", some(percentiles.p99_999_ns)),
        ("max_ns", some(percentiles.max_ns)),
    ]
}

fn books(result: &RunResult) -> Cells {
    let (accounting, cpu) = (&result.accounting, &result.cpu);
    let per_message = |ns: Option<f64>| ns.map_or(String::new(), |ns| format!("{ns:.1}"));
    vec![
        ("rate_achieved_per_s", result.summary.rate_achieved_per_s.to_string()),
        ("offered", accounting.offered.to_string()),
        ("sent", accounting.sent.to_string()),
        ("unsent", accounting.unsent.to_string()),
        ("answered", accounting.answered.to_string()),
        ("answered_late", accounting.answered_late.to_string()),
        ("outstanding", accounting.outstanding.to_string()),
        ("errors", accounting.error_count().to_string()),
        ("load_cpu_ns_per_message", per_message(cpu.load_ns_per_message(accounting))),
        ("server_cpu_ns_per_message", per_message(cpu.server_ns_per_message(accounting))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_only_where_it_has_to_be_and_stays_on_its_line() {
        for (cell, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("a \"b\"", "\"a \"\"b\"\"\""),
            ("a\r\nb", "a\\r\\nb"),
        ] {
            assert_eq!(quoted(cell), expected);
        }
    }
}
