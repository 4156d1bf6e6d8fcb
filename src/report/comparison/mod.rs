//! A comparison as text: what its outputs have in common.
//!
//! Invariants: an effect stands before its interval, and both before p; no "no difference" stands without the smallest one that
//! would have been seen; what could not be measured is told from what was not.
//! Deliberately absent: any number that the [`Comparison`] does not hold, and charts (see [`super::html`]).

pub mod gate;
mod markdown;
mod terminal;

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::Style;
use super::text::{INSTRUCTION_TIME, counted, printable, rate};
use crate::compare::key;
use crate::compare::metric::{METRICS, Metric, Unit, named};
use crate::compare::model::{Change, Column, Comparison, Difference, Effect, Measured};
use crate::measure::environment::Clock;
use crate::measure::store::{StoreError, load};

/// A form of the whole comparison: a row of [`FORMATS`].
#[derive(Clone, Copy)]
pub struct Format {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// The comparison in this form, ending in a newline.
    pub render: fn(&Comparison, Style) -> Result<String, StoreError>,
}

/// Every form. A new one is a function and a row here.
pub const FORMATS: [Format; 5] = [
    Format {
        name: "terminal",
        about: "tables for a terminal",
        render: |comparison, style| Ok(terminal::render(comparison, style)),
    },
    Format {
        name: "markdown",
        about: "tables in Markdown, with all values",
        render: |comparison, _| Ok(markdown::render(comparison)),
    },
    Format {
        name: "html",
        about: "a page for any browser, whole in one file: charts, provenance, and every number",
        render: |comparison, _| Ok(super::html::render(comparison)),
    },
    Format {
        name: "json",
        about: "everything, spectra and maps as well, for programs",
        render: |comparison, _| Ok(json(comparison)),
    },
    Format {
        name: "gobench",
        about: "every run that counts as Go benchmark text, for benchstat -col with the key of --by",
        render: |comparison, _| gobench(comparison),
    },
];

impl fmt::Debug for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Format] {
        &FORMATS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.about))
    }
}

/// The comparison itself, whole, for programs.
fn json(comparison: &Comparison) -> String {
    let mut text = serde_json::to_string_pretty(comparison).expect("a comparison is plain data");
    text.push('\n');
    text
}

/// Every run that counts, in the order of groups and cells, read once more: a comparison does not hold its results.
fn gobench(comparison: &Comparison) -> Result<String, StoreError> {
    let mut counting: Vec<_> = comparison.sources.iter().filter(|source| source.left_out.is_none()).collect();
    counting.sort_by_key(|source| (source.group, source.cell));
    let mut text = String::new();
    for source in counting {
        let (Some(group), Some(cell)) = (source.group, source.cell) else { continue };
        let conditions = comparison.cells[cell].keys.iter().filter(|(name, _)| key::named(name).is_some());
        let group = (comparison.by.clone(), comparison.groups[group].label.clone());
        let keys: Vec<_> = conditions.cloned().chain([group]).collect();
        text.push_str(&super::gobench::render_with(&load(Path::new(&source.path))?, &keys));
    }
    Ok(text)
}

/// What the marks mean.
const MARKS: &str = "✓ better, ✗ worse, ~ not told from chance (sees: the smallest difference that would be, four times in five), \
    ? too few boots to tell any; [95 % interval] of the change, p of a rank test of boots, Holm-adjusted over its metric; \
    ± half of the 95 % interval of a value; \
    * some of the runs are SUSPECT";

/// Groups' labels, as short as tells them apart: releases without what follows the version.
fn short_labels(comparison: &Comparison) -> Vec<String> {
    short_groups(comparison).iter().map(|label| printable(label)).collect()
}

/// The same, for an output that makes text printable itself.
pub(super) fn short_groups(comparison: &Comparison) -> Vec<String> {
    let labels: Vec<String> = comparison.groups.iter().map(|group| group.label.clone()).collect();
    if comparison.by == "directory" {
        return without_common_folders(&labels);
    }
    if comparison.by != "kernel" {
        return labels;
    }
    let version = |label: &String| {
        label
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .map_or(label.clone(), |end| label[..end].to_owned())
    };
    let short: Vec<String> = labels.iter().map(version).collect();
    let are_apart =
        short.iter().enumerate().all(|(at, label)| !label.is_empty() && !short[..at].contains(label));
    if are_apart { short } else { labels }
}

/// Paths less the folders that all of them begin with.
fn without_common_folders(paths: &[String]) -> Vec<String> {
    let parts: Vec<Vec<&str>> = paths.iter().map(|path| path.split('/').collect()).collect();
    let is_common = |&at: &usize| {
        let all_go_on = parts.iter().all(|path| at + 1 < path.len());
        all_go_on && parts.iter().all(|path| path[at] == parts[0][at])
    };
    let common = (0..).take_while(is_common).count();
    parts.iter().map(|path| path[common..].join("/")).collect()
}

/// What is compared, in a line.
fn title(comparison: &Comparison) -> String {
    let groups = &comparison.groups;
    let runs: u64 = groups.iter().map(|group| group.runs).sum();
    format!(
        "{} groups by {}, {}, {}; compared with {}",
        groups.len(),
        comparison.by,
        counted(comparison.cells.len() as u64, "cell"),
        counted(runs, "run"),
        printable(&groups[comparison.baseline].label)
    )
}

/// What a reader must know before the numbers.
fn caveats(comparison: &Comparison) -> Vec<String> {
    let unit = (comparison.clock == Clock::Instructions).then(|| INSTRUCTION_TIME.to_owned());
    unit.into_iter().chain(comparison.caveats.iter().cloned()).collect()
}

/// Metrics that some cell has.
fn metrics_of(comparison: &Comparison) -> impl Iterator<Item = &'static Metric> {
    let has = |metric: &Metric| {
        let columns = comparison.cells.iter().flat_map(|cell| &cell.columns).filter_map(Column::measured);
        columns.flat_map(|measured| &measured.metrics).any(|estimate| estimate.metric == metric.name)
    };
    METRICS.iter().filter(move |metric| has(metric))
}

/// A metric's heading: what it is, and which way is better.
fn heading(metric: &Metric) -> String {
    let better = if metric.more_is_better { "more" } else { "less" };
    format!("{}: {}; {better} is better", metric.name, metric.about)
}

fn value_text(metric: &str, clock: Clock, value: f64) -> String {
    match named(metric).map(|metric| metric.unit) {
        Some(Unit::PerSecond) => rate(value),
        _ => clock.duration(value),
    }
}

/// A ratio as a change, `-14.1 %`, at as many digits as tell it from none.
fn change_text(ratio: f64) -> String {
    let percent = 100.0 * (ratio - 1.0);
    format!("{percent:+.*} %", decimals(percent))
}

fn decimals(percent: f64) -> usize {
    match percent.abs() {
        size if size >= 99.95 => 0,
        size if size >= 0.095 || size == 0.0 => 1,
        _ => 2,
    }
}

/// `[-14.6, -13.5]`, in per cent.
fn interval_text((low, high): (f64, f64)) -> String {
    let end = |ratio: f64| {
        let percent = 100.0 * (ratio - 1.0);
        format!("{percent:+.*}", decimals(percent))
    };
    format!("[{}, {}]", end(low), end(high))
}

fn p_text(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p {p:.3}") }
}

fn mark(change: Change) -> &'static str {
    match change {
        Change::Better => "✓",
        Change::Worse => "✗",
        Change::Noise => "~",
        Change::TooFew => "?",
    }
}

/// What a difference comes to: `-14.1 % ✓`, `~ (sees 1.2 %)`, `-14.1 % ?`.
fn verdict_text(difference: &Difference) -> String {
    match (difference.change, difference.detectable) {
        (Change::Noise, Some(detectable)) => format!("~ (sees {})", share_text(detectable)),
        (change, _) => format!("{} {}", change_text(difference.ratio), mark(change)),
    }
}

/// A share in per cent, at as many digits as tell it from none.
fn share_text(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        _ if percent > 0.0 && percent < 0.005 => "< 0.01 %".to_owned(),
        _ => format!("{percent:.*} %", decimals(percent)),
    }
}

/// How sure a difference is: `[-14.6, -13.5] p 0.002`.
fn certainty_text(difference: &Difference) -> String {
    let interval = difference.interval.map(interval_text);
    let p = difference.p_adjusted.map(p_text);
    interval.into_iter().chain(p).collect::<Vec<_>>().join(" ")
}

/// An effect of a grid: `-3.1 % ✗`.
fn effect_text(effect: Option<&Effect>) -> String {
    effect.map_or("-".to_owned(), |effect| format!("{} {}", change_text(effect.ratio), mark(effect.change)))
}

/// A group's value of a metric, marked if some of its runs are SUSPECT.
fn estimate_text(measured: &Measured, metric: &str, clock: Clock) -> Option<String> {
    let estimate = measured.metrics.iter().find(|estimate| estimate.metric == metric)?;
    let suspect = if measured.suspect > 0 { "*" } else { "" };
    Some(format!("{}{suspect}", value_text(metric, clock, estimate.value)))
}

/// How sure a group's value is by itself: half of its interval, as `±0.4 %`.
fn spread_text(measured: &Measured, metric: &str) -> String {
    let estimate = measured.metrics.iter().find(|estimate| estimate.metric == metric);
    let half = estimate.and_then(|estimate| Some((estimate.interval?, estimate.value)));
    half.map_or(String::new(), |((low, high), value)| format!("±{}", share_text((high - low) / 2.0 / value)))
}

/// Why columns have no numbers: a sentence for each reason, with the groups and cells that it holds for.
fn absences(comparison: &Comparison, short: &[String]) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<(usize, String)>)> = Vec::new();
    for cell in &comparison.cells {
        for (group, column) in cell.columns.iter().enumerate() {
            let says = match column {
                Column::Measured(_) => continue,
                Column::Unavailable { reason } => format!("n/a on {}: {reason}", short[group]),
                Column::Missing { reason } => format!("missing for {}: {reason}", short[group]),
            };
            let place = (group, printable(&cell.short));
            match reasons.iter_mut().find(|(other, _)| *other == says) {
                Some((_, places)) => places.push(place),
                None => reasons.push((says, vec![place])),
            }
        }
    }
    let line = |(says, places): &(String, Vec<(usize, String)>)| {
        let cells = places.iter().map(|(_, cell)| cell.as_str()).collect::<Vec<_>>().join("; ");
        match places.len() == comparison.cells.len() {
            true => format!("{} (all cells)", printable(says)),
            false => format!("{} ({cells})", printable(says)),
        }
    };
    reasons.iter().map(line).collect()
}

/// What was read and what of it does not count, in lines.
fn sources(comparison: &Comparison) -> Vec<String> {
    /// Results that are named one by one; of more, their number is told.
    const NAMED_MAX: usize = 20;
    let left_out: Vec<_> = comparison.sources.iter().filter(|source| source.left_out.is_some()).collect();
    let mut lines = vec![format!(
        "{} read, {} left out",
        counted(comparison.sources.len() as u64, "result"),
        left_out.len()
    )];
    for source in left_out.iter().take(NAMED_MAX) {
        let reason = source.left_out.as_deref().unwrap_or_default();
        lines.push(format!("left out: {}: {}", printable(&source.path), printable(reason)));
    }
    if left_out.len() > NAMED_MAX {
        lines.push(format!("and {} more: --format json names them all", left_out.len() - NAMED_MAX));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_paths_what_they_share_is_left_out_but_never_all() {
        let short = |paths: [&str; 2]| without_common_folders(&paths.map(str::to_owned));
        assert_eq!(short(["r/s/6.1", "r/s/6.1-again"]), ["6.1", "6.1-again"]);
        assert_eq!(short(["old/", "new/"]), ["old/", "new/"]);
        assert_eq!(short(["r/s", "r/s/t"]), ["s", "s/t"]);
        assert_eq!(short(["a", "a"]), ["a", "a"]);
    }

    #[test]
    fn changes_have_as_many_digits_as_tell_them_from_none() {
        let text = [0.859, 1.0, 1.0004, 0.99996, 1.05, 2.5].map(change_text);
        assert_eq!(text, ["-14.1 %", "+0.0 %", "+0.04 %", "-0.00 %", "+5.0 %", "+150 %"]);
        assert_eq!(interval_text((0.854, 1.0003)), "[-14.6, +0.03]");
        assert_eq!([0.0, 0.00001, 0.012].map(share_text), ["0.0 %", "< 0.01 %", "1.2 %"]);
        assert_eq!([0.0004, 0.0123].map(p_text), ["p < 0.001", "p 0.012"]);
    }

    #[test]
    fn no_difference_says_what_would_have_been_seen() {
        let noise = Difference { ratio: 1.002, detectable: Some(0.012), ..Difference::default() };
        assert_eq!(verdict_text(&noise), "~ (sees 1.2 %)");
        let better = Difference { ratio: 0.859, change: Change::Better, ..noise.clone() };
        assert_eq!(verdict_text(&better), "-14.1 % ✓");
        assert_eq!(verdict_text(&Difference { change: Change::TooFew, ..noise }), "+0.2 % ?");
    }
}
