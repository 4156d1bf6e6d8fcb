//! Two results side by side, or a result and what another tool measured.
//!
//! Invariant: whatever differs in what was asked or where it ran is listed, by its name in the file, and a
//! difference in the work itself is said before the numbers that it spoils. Nothing is divided by, or into, an invalid
//! run's numbers. Of another tool's file only the durations are compared, and what is unknown of it is said.
//! Deliberately absent: any statement that a difference is real. One run each can't tell that.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::import::{self, ImportError, Imported, Side};
use super::terminal::{machine, of_clock, show_warnings, workload};
use super::text::{self, count, printable, rate, table, wrap};
use super::{Style, verdict};
use crate::measure::environment::Clock;
use crate::measure::histogram::{Histogram, PERCENTILES, maximum_ns};
use crate::measure::result::{Mode, RunResult};
use crate::measure::samples::{Inflation, P99};
use crate::measure::verdict::{CLOSED_LOOP, Level};

/// The parts of a plan that decide what work is done; the others decide how long, from where and by whom.
const WORKLOAD_FIELDS: [&str; 6] = ["scenario", "parameters", "connections", "payload_bytes", "text", "mode"];

/// Why two files are not compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// One of them cannot be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Instructions have no ratio to time.
    #[error(
        "{counted} is in instructions (ringsock-load --clock instructions) and {timed} in time: no number of the one can stand \
         beside one of the other; compare runs made with the same --clock"
    )]
    Clocks {
        /// The file whose durations are instructions.
        counted: String,
        /// The one whose durations are time.
        timed: String,
    },
}

/// Loads both files and compares them.
///
/// # Errors
/// See [`CompareError`].
pub fn compare_files(a: &Path, b: &Path, style: Style) -> Result<String, CompareError> {
    let names = [a, b].map(|path| path.display().to_string());
    let names = [names[0].as_str(), &names[1]];
    let sides = [import::load(a)?, import::load(b)?];
    let refuse = |counted: &str, timed: &str| {
        let (counted, timed) = (printable(counted), printable(timed));
        Err(CompareError::Clocks { counted, timed })
    };
    match sides.each_ref().map(clock_of) {
        [Clock::Instructions, Clock::Real] => return refuse(names[0], names[1]),
        [Clock::Real, Clock::Instructions] => return refuse(names[1], names[0]),
        _ => {}
    }
    Ok(match sides {
        [Side::Result(a), Side::Result(b)] => render(names, &a, &b, style),
        sides => render_imported(names, &sides, style),
    })
}

/// What its durations are made of; no other tool counts instructions.
fn clock_of(side: &Side) -> Clock {
    match side {
        Side::Result(result) => result.environment.clock,
        Side::Imported(_) => Clock::Real,
    }
}

/// A comparison of which at least one side is another tool's: of durations alone.
pub fn render_imported(names: [&str; 2], sides: &[Side; 2], style: Style) -> String {
    let mut text = String::new();
    for ((letter, name), side) in ["a", "b"].into_iter().zip(names).zip(sides) {
        text.push_str(&style.bold(&format!("{letter}  {}", printable(name))));
        text.push('\n');
        let (facts, caveats) = match side {
            Side::Result(result) => (of_result(result), verdict::reasons(&verdict::of(result), style)),
            Side::Imported(imported) => (of_imported(imported), show_warnings(&[UNKNOWN.to_owned()], style)),
        };
        for line in facts {
            let line = wrap(&printable(&line), style.width_columns.saturating_sub(3), 3);
            text.push_str(&format!("   {line}\n"));
        }
        text.push_str(&caveats);
    }
    let durations = sides.each_ref().map(|side| match side {
        Side::Result(result) => {
            Durations { inflation: Inflation::of_run(result), histogram: result.headline() }
        }
        Side::Imported(imported) => {
            Durations { inflation: Inflation::UNKNOWN, histogram: &imported.histogram }
        }
    });
    let levels = sides.each_ref().map(|side| match side {
        Side::Result(result) => Some(verdict::of(result).level),
        Side::Imported(_) => None,
    });
    let mut rows = vec![heading(levels)];
    rows.extend(latency_rows("latency", &durations, clock_of(&sides[0])));
    withhold_ratios(&mut rows, levels);
    let samples = durations.each_ref().map(|durations| count(durations.histogram.len()));
    rows.push([&["samples".to_owned()][..], &samples].concat());
    text.push_str(&show_warnings(&no_ratios(levels), style));
    text.push('\n');
    text.push_str(&table(&rows));
    text
}

/// What is unknown of another tool's run.
const UNKNOWN: &str = "unknown: the load, the machine, rates, processor time, lost messages, errors";

/// What is known of a result beside its durations.
fn of_result(result: &RunResult) -> Vec<String> {
    let kind = match result.plan.mode {
        Mode::OpenLoop { .. } => "response",
        Mode::ClosedLoop { .. } => "service",
    };
    vec![
        workload(&result.plan) + of_clock(result.environment.clock),
        format!("{}; {}", machine(result), result.created),
        format!("{kind} times; {}", verdict::title(&verdict::of(result))),
    ]
}

/// The same of what was imported.
fn of_imported(imported: &Imported) -> Vec<String> {
    let mut facts = vec![format!("no verdict: imported from {}", imported.source)];
    facts.extend(imported.notes.iter().cloned());
    facts
}

/// The whole comparison of two results under the same clock, ending in a newline. `names` is what to call the two, such as their
/// paths.
pub fn render(names: [&str; 2], a: &RunResult, b: &RunResult, style: Style) -> String {
    let mut text = String::new();
    for (letter, name, result) in [("a", names[0], a), ("b", names[1], b)] {
        text.push_str(&style.bold(&format!("{letter}  {}", printable(name))));
        text.push('\n');
        for line in [
            workload(&result.plan) + of_clock(result.environment.clock),
            format!("{}; {}", machine(result), result.created),
        ] {
            text.push_str(&format!(
                "   {}\n",
                wrap(&printable(&line), style.width_columns.saturating_sub(3), 3)
            ));
        }
        let verdict = verdict::of(result);
        text.push_str(&format!("   {}\n", verdict::title(&verdict)));
        text.push_str(&verdict::reasons(&verdict, style));
    }
    text.push_str(&show_warnings(&caveats(a, b), style));
    text.push('\n');
    text.push_str(&numbers(a, b));
    for (title, differences) in [
        ("plan", differences(&a.plan, &b.plan)),
        ("target", differences(&a.target, &b.target)),
        ("tool", differences(&a.tool, &b.tool)),
        ("environment", differences(&a.environment, &b.environment)),
        ("io_uring", io_uring(a, b)),
    ] {
        text.push_str(&difference_list(title, &differences, style));
    }
    text
}

/// What spoils the comparison as a whole.
fn caveats(a: &RunResult, b: &RunResult) -> Vec<String> {
    let mut lines = Vec::new();
    let of_work = |difference: &&Difference| {
        let field = difference.field.split('.').next().unwrap_or_default();
        WORKLOAD_FIELDS.contains(&field)
    };
    let differences = differences(&a.plan, &b.plan);
    let fields: Vec<_> =
        differences.iter().filter(of_work).map(|difference| difference.field.as_str()).collect();
    if !fields.is_empty() {
        lines
            .push(format!("the workloads differ ({}): the ratios compare different work", fields.join(", ")));
    }
    if [a, b].iter().any(|result| matches!(result.plan.mode, Mode::ClosedLoop { .. })) {
        lines.push(CLOSED_LOOP.to_owned());
    }
    if a.environment.clock == Clock::Instructions {
        lines.push(text::INSTRUCTION_TIME.to_owned());
    }
    lines.extend(no_ratios([a, b].map(|result| Some(verdict::of(result).level))));
    lines
}

/// Why there are no ratios, where there are none.
fn no_ratios(levels: [Option<Level>; 2]) -> Option<String> {
    let invalid = |&(_, level): &(&str, Option<Level>)| level == Some(Level::Invalid);
    let who: Vec<_> = ["a", "b"].into_iter().zip(levels).filter(invalid).map(|(letter, _)| letter).collect();
    let verb = if who.len() == 1 { "is" } else { "are" };
    let says = || {
        format!(
            "no ratios: {} {verb} INVALID, so its numbers do not say what they seem to",
            who.join(" and ")
        )
    };
    (!who.is_empty()).then(says)
}

fn withhold_ratios(rows: &mut [Vec<String>], levels: [Option<Level>; 2]) {
    if levels.contains(&Some(Level::Invalid)) {
        rows.iter_mut().skip(1).filter_map(|row| row.get_mut(3)).for_each(|ratio| *ratio = "-".to_owned());
    }
}

/// The table's first row, which marks whatever is not known to be trustworthy.
fn heading(levels: [Option<Level>; 2]) -> Vec<String> {
    let letter = |(letter, level): (&str, Option<Level>)| match level {
        Some(Level::Trusted) => letter.to_owned(),
        Some(level) => format!("{letter} ({})", level.name()),
        None => format!("{letter} (no verdict)"),
    };
    let [a, b] = [("a", levels[0]), ("b", levels[1])].map(letter);
    vec![String::new(), a, b, "b/a".to_owned()]
}

/// A row of the table: two values as text, and their ratio where both are numbers.
fn row(
    label: &str,
    a: Option<f64>,
    b: Option<f64>,
    show: impl Fn(f64) -> String,
    missing: &str,
) -> Vec<String> {
    let cell = |value: Option<f64>| value.map_or(missing.to_owned(), &show);
    let ratio = match (a, b) {
        (Some(a), Some(b)) if a > 0.0 => text::ratio(b / a),
        _ => "-".to_owned(),
    };
    vec![label.to_owned(), cell(a), cell(b), ratio]
}

fn numbers(a: &RunResult, b: &RunResult) -> String {
    let levels = [a, b].map(|result| Some(verdict::of(result).level));
    let (mut rows, clock) = (vec![heading(levels)], a.environment.clock);
    let duration = |value_ns| clock.duration(value_ns);
    let offered = [a, b].map(|result| result.summary.rate_offered_per_s);
    rows.push(row("rate asked for", offered[0], offered[1], rate, "-"));
    let achieved = [a, b].map(|result| result.summary.rate_achieved_per_s);
    rows.push(row("rate answered", Some(achieved[0]), Some(achieved[1]), rate, "-"));
    let inflation = [a, b].map(Inflation::of_run);
    let durations = |histograms: [_; 2]| {
        [0, 1].map(|side| Durations { inflation: inflation[side], histogram: histograms[side] })
    };
    rows.extend(latency_rows("response", &durations([&a.latency.response, &b.latency.response]), clock));
    rows.extend(latency_rows("service", &durations([&a.latency.service, &b.latency.service]), clock));
    let lag = [0, 1].map(|side| inflation[side].percentile_ns(&[a, b][side].latency.lag, P99));
    let lag = lag.map(|lag_ns| lag_ns.map(|lag_ns| lag_ns as f64));
    rows.push(row("generator lag p99", lag[0], lag[1], |lag_ns| clock.duration_ns(lag_ns as u64), "-"));
    let server = [a, b].map(|result| result.cpu.server_ns_per_message(&result.accounting));
    rows.push(row("server CPU a message", server[0], server[1], duration, "unknown"));
    let load = [a, b].map(|result| result.cpu.load_ns_per_message(&result.accounting));
    rows.push(row("load CPU a message", load[0], load[1], duration, "unknown"));
    for (label, counts) in [
        ("unsent", [a, b].map(|result| result.accounting.unsent)),
        ("outstanding", [a, b].map(|result| result.accounting.outstanding)),
        ("errors", [a, b].map(|result| result.accounting.error_count())),
    ] {
        // Of such counts the numbers matter, not how many times more.
        rows.push(vec![label.to_owned(), count(counts[0]), count(counts[1])]);
    }
    withhold_ratios(&mut rows, levels);
    table(&rows)
}

/// One side's durations, and for how many of them they count.
struct Durations<'a> {
    inflation: Inflation,
    histogram: &'a Histogram,
}

fn latency_rows(name: &str, sides: &[Durations; 2], clock: Clock) -> Vec<Vec<String>> {
    let show = |value_ns: f64| clock.duration_ns(value_ns as u64);
    let as_float = |value: Option<u64>| value.map(|value| value as f64);
    let mut rows = Vec::new();
    for (index, (label, _)) in PERCENTILES.iter().enumerate() {
        let percentile = |side: &Durations| as_float(side.inflation.percentile_ns(side.histogram, index));
        let [a, b] = sides.each_ref().map(percentile);
        rows.push(row(&format!("{name} {label}"), a, b, show, text::TOO_FEW));
    }
    let [a, b] = sides.each_ref().map(|side| as_float(maximum_ns(side.histogram)));
    rows.push(row(&format!("{name} max"), a, b, show, "-"));
    rows
}

/// One value that is not the same in both, by its path in the file.
#[derive(Debug, PartialEq)]
struct Difference {
    field: String,
    a: String,
    b: String,
}

/// Whatever differs between two values of one type, field by field. A field that one of them lacks is as good as absent.
fn differences<T: Serialize>(a: &T, b: &T) -> Vec<Difference> {
    let value = |part: &T| serde_json::to_value(part).expect("parts of a result are plain data");
    let mut found = Vec::new();
    collect_differences("", Some(&value(a)), Some(&value(b)), &mut found);
    found
}

/// What the kernels' io_uring can do; a result that says nothing of it lacks no single feature.
fn io_uring(a: &RunResult, b: &RunResult) -> Vec<Difference> {
    match (&a.io_uring, &b.io_uring) {
        (Some(a), Some(b)) => differences(a, b),
        (None, None) => Vec::new(),
        (a, b) => {
            let [a, b] = [a, b].map(|known| if known.is_some() { "yes" } else { "no" }.to_owned());
            vec![Difference { field: "known".to_owned(), a, b }]
        }
    }
}

fn collect_differences(field: &str, a: Option<&Value>, b: Option<&Value>, found: &mut Vec<Difference>) {
    let [a, b] = [a, b].map(|value| value.filter(|value| !value.is_null()));
    if a == b {
        return;
    }
    if let (Some(Value::Object(a)), Some(Value::Object(b))) = (a, b) {
        let only_in_b = b.keys().filter(|&key| !a.contains_key(key));
        for key in a.keys().chain(only_in_b) {
            let path = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
            collect_differences(&path, a.get(key), b.get(key), found);
        }
        return;
    }
    found.push(Difference { field: field.to_owned(), a: plain(a), b: plain(b) });
}

/// A JSON value as a reader would write it.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "absent".to_owned(),
        Some(Value::Array(values)) if values.is_empty() => "none".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(Value::Array(values)) => {
            values.iter().map(|value| plain(Some(value))).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// The differences under their title; a pair too long for one line gets a line each.
fn difference_list(title: &str, differences: &[Difference], style: Style) -> String {
    if differences.is_empty() {
        return format!("\n{title}: the same\n");
    }
    let mut text = format!("\n{title}: differs\n");
    let columns = differences.iter().map(|difference| difference.field.chars().count()).max().unwrap_or(0);
    for Difference { field, a, b } in differences {
        let field = printable(field);
        let line = format!("  {field:<columns$}  {a} → {b}");
        if line.chars().count() <= style.width_columns {
            text.push_str(&line);
        } else {
            text.push_str(&format!("  {field}\n    a  {a}\n    b  {b}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(a: Value, b: Value) -> Vec<String> {
        let line =
            |difference: &Difference| format!("{}: {} → {}", difference.field, difference.a, difference.b);
        differences(&a, &b).iter().map(line).collect()
    }

    #[test]
    fn differences_are_found_at_any_depth_and_on_either_side() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(found(json(r#"{"x":1}"#), json(r#"{"x":1}"#)), [""; 0]);
        assert_eq!(
            found(
                json(r#"{"k":{"x":1,"only_a":"t"},"l":["p","q"]}"#),
                json(r#"{"k":{"x":2,"only_b":true,"null_b":null},"l":[]}"#)
            ),
            ["k.only_a: t → absent", "k.x: 1 → 2", "k.only_b: absent → true", "l: p, q → none"]
        );
    }
}
