//! Several runs, as their reader sees them when the last has ended.
//!
//! Invariant: what was left out is said where its absence shows; a difference that noise would explain is marked as such.
//! Deliberately absent: any run's own report. [`super::terminal`] has it.

use std::path::Path;

use super::Style;
use super::text::{count, counted, duration, duration_ns, printable, rate, ratio, table, wrap};
use crate::measure::histogram::{self, Histogram};
use crate::measure::rounds::{Contender, Metric, Spread};
use crate::measure::verdict::Level;

/// Rounds below which an interval made of them is narrower than it should be.
const ROUNDS_FOR_INTERVALS: usize = 5;

/// Repeated runs to be shown.
pub struct Comparison<'a> {
    /// What is compared; the others are compared with the first.
    pub contenders: &'a [Contender],
    /// Runs that were to be made.
    pub planned: usize,
    /// Rounds were interleaved, and so are drawn as a whole.
    pub interleaved: bool,
    /// Of the order, and of the bootstrap.
    pub seed: u64,
    /// Why the rest was not made.
    pub given_up: Option<&'a str>,
}

/// The whole comparison, ending in a newline.
pub fn render_comparison(comparison: &Comparison<'_>, folder: &Path, style: Style) -> String {
    let contenders = comparison.contenders;
    let made: usize = contenders.iter().map(|contender| contender.runs.len() + contender.failed.len()).sum();
    let order = match (contenders.len() > 1, comparison.interleaved) {
        (true, true) => ", interleaved",
        (true, false) => ", one contender after the other",
        _ => "",
    };
    let of = if made == comparison.planned { String::new() } else { format!(" of {}", comparison.planned) };
    let title = format!(
        "{} of {}{order}; seed {}",
        counted_of(made, &of),
        counted(contenders.len() as u64, "contender"),
        comparison.seed
    );
    let mut text = format!("{}\n", style.bold(&wrap(&title, style.width_columns, 2)));
    text.push_str(&notes(comparison, style));
    text.push('\n');
    text.push_str(&merged(contenders));
    text.push('\n');
    text.push_str(&spreads(contenders));
    if contenders.len() > 1 {
        text.push('\n');
        text.push_str(&ratios(comparison));
    }
    text.push_str(&format!("\nsaved {}\n", folder.display()));
    text
}

fn counted_of(made: usize, of: &str) -> String {
    let runs = if made == 1 && of.is_empty() { "run" } else { "runs" };
    format!("{made}{of} {runs}")
}

/// What a reader must know before the numbers.
fn notes(comparison: &Comparison<'_>, style: Style) -> String {
    let mut lines: Vec<String> =
        comparison.given_up.map(|why| format!("given up: {why}")).into_iter().collect();
    for contender in comparison.contenders {
        let failed = contender.failed.iter().map(|(round, why)| (*round, why.as_str(), "failed"));
        let left_out =
            contender.runs.iter().filter_map(|run| Some((run.round, run.left_out.as_deref()?, "left out")));
        for (round, why, what) in failed.chain(left_out) {
            lines.push(format!("{what}: {}, round {}: {why}", contender.label, round + 1));
        }
    }
    let all = comparison.contenders.iter().flat_map(Contender::kept);
    let closed = all.clone().filter(|run| run.closed_loop).count();
    if closed > 0 && closed == all.count() {
        lines.push(super::terminal::CLOSED_LOOP.to_owned());
    } else if closed > 0 {
        lines.push(
            "open and closed loops: their latencies are not comparable, nor are their merged ones".to_owned(),
        );
    }
    let fewest = comparison.contenders.iter().map(|contender| contender.kept().len()).min().unwrap_or(0);
    if comparison.contenders.len() > 1 && fewest < ROUNDS_FOR_INTERVALS {
        lines.push(format!(
            "fewer than {ROUNDS_FOR_INTERVALS} runs of each: the intervals mean little; give a higher --runs"
        ));
    }
    super::terminal::show_warnings(&lines, style)
}

fn percentile_cell(merged: &Histogram, quantile: f64) -> String {
    match merged.is_empty() {
        true => "-".to_owned(),
        false => histogram::percentile_ns(merged, quantile).map_or("too few".to_owned(), duration_ns),
    }
}

/// All runs of each contender together.
fn merged(contenders: &[Contender]) -> String {
    let heading = [
        "runs merged",
        "runs",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "rate",
        "server CPU",
        "load CPU",
        "verdicts",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for contender in contenders {
        let (merged, kept) = (contender.merged(), contender.kept());
        let metric = |metric: Metric, show: fn(f64) -> String| metric.of(&kept).map_or("-".to_owned(), show);
        let mut row = vec![printable(&contender.label), kept.len().to_string()];
        row.extend([0.5, 0.9, 0.99, 0.999].map(|quantile| percentile_cell(&merged, quantile)));
        row.push(histogram::maximum_ns(&merged).map_or("-".to_owned(), duration_ns));
        row.push(metric(Metric::Rate, rate));
        row.push(metric(Metric::ServerCpu, duration));
        row.push(metric(Metric::LoadCpu, duration));
        row.push(verdicts(contender));
        rows.push(row);
    }
    table(&rows)
}

/// How many runs came to which verdict: `4 trusted, 1 suspect`.
fn verdicts(contender: &Contender) -> String {
    let levels = [
        (Some(Level::Trusted), "trusted"),
        (Some(Level::Suspect), "suspect"),
        (Some(Level::Invalid), "INVALID"),
        (None, "unjudged"),
    ];
    let counted =
        levels.map(|(level, name)| (contender.runs.iter().filter(|run| run.level == level).count(), name));
    let mut parts: Vec<String> = counted
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    if !contender.failed.is_empty() {
        parts.push(format!("{} failed", contender.failed.len()));
    }
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// What is compared beyond the merged percentiles, with a name and how it is shown.
const COMPARED: [(&str, Metric, fn(f64) -> String); 4] = [
    ("p50", Metric::Percentile(0.5), duration),
    ("p99", Metric::Percentile(0.99), duration),
    ("server CPU a message", Metric::ServerCpu, duration),
    ("rate", Metric::Rate, rate),
];

/// How far single runs lie apart.
fn spreads(contenders: &[Contender]) -> String {
    let mut rows = vec![headings("single runs: min – median – max")];
    for contender in contenders {
        let mut row = vec![printable(&contender.label)];
        for (_, metric, show) in COMPARED {
            let shown =
                |Spread { min, median, max }| format!("{} – {} – {}", show(min), show(median), show(max));
            row.push(contender.spread(metric).map_or("-".to_owned(), shown));
        }
        rows.push(row);
    }
    table(&rows)
}

fn headings(first: &str) -> Vec<String> {
    [first].into_iter().chain(COMPARED.map(|(name, ..)| name)).map(str::to_owned).collect()
}

fn ratios(comparison: &Comparison<'_>) -> String {
    let [base, others @ ..] = comparison.contenders else { return String::new() };
    let mut rows = vec![headings(&format!("over {}", printable(&base.label)))];
    for contender in others {
        let mut row = vec![printable(&contender.label)];
        for (_, metric, _) in COMPARED {
            let found = contender.over(base, metric, comparison.interleaved, comparison.seed);
            let shown = |found: crate::measure::rounds::Ratio| {
                let mark = if found.is_noise() { "~ " } else { "" };
                let ends = found.interval.map(|(low, high)| format!(" [{}, {}]", ratio(low), ratio(high)));
                format!("{mark}{}{}", ratio(found.value), ends.unwrap_or_default())
            };
            row.push(found.map_or("-".to_owned(), shown));
        }
        rows.push(row);
    }
    let unit = if comparison.interleaved { "rounds" } else { "runs" };
    let fewest = comparison.contenders.iter().map(|contender| contender.kept().len()).min().unwrap_or(0);
    let note = format!(
        "[95 % intervals, bootstrapped over {unit}: {} each]; ~: no difference beyond the noise\n",
        count(fewest as u64)
    );
    table(&rows) + &note
}
