//! Where response times go, and the worst messages: the part of a run's report that explains its latency.
//!
//! Invariant: percentiles of parts are never added up. What adds up is the mean of the messages about a percentile, and
//! that is what the bars show. A part's percentile, like a bar, is shown where the whole's may be stated: the samples of
//! either are the same messages, as dependent. Told apart without colour. Deliberately absent: judgement.

use super::Style;
use super::terminal::show_warnings;
use super::text::{counted, table, wrap};
use crate::measure::anatomy::{Anatomy, Explained, Split};
use crate::measure::environment::Clock;
use crate::measure::evidence::{Around, Exemplar};
use crate::measure::histogram::{self, Histogram, maximum_ns};
use crate::measure::result::{Mode, RunResult};
use crate::measure::samples::Inflation;

/// The percentiles of each part that are shown.
const PERCENTILES: [&str; 4] = ["p50", "p99", "p99.9", "p99.99"];
/// The percentiles of the whole that have a bar.
const BARS: [&str; 4] = ["p50", "p90", "p99", "p99.9"];
/// What the generator's engine is said to use where it notes arrivals.
const KERNEL_TIMESTAMPS: &str = "kernel timestamps";
/// What the stamps leave to be known.
const SENDING: &str = "What is composed leaves at the end of its engine's turn; only epoll sends answers at once. So both ways \
    hold the rest of the sender's turn, by which engines differ, beside two kernels and the wire.";
const BAR_COLUMNS: usize = 40;
const LABEL_COLUMNS: usize = 7;

/// Everything that there is to explain, each section behind an empty line; nothing where there is nothing.
pub fn render(result: &RunResult, style: Style) -> String {
    let (mut text, clock) = (String::new(), result.environment.clock);
    if let Some(anatomy) = &result.anatomy {
        let is_open_loop = matches!(result.plan.mode, Mode::OpenLoop { .. });
        // In a closed loop nothing waits in the generator.
        let first = usize::from(!is_open_loop);
        let name = if is_open_loop { "response" } else { "service" };
        if !anatomy.back.is_empty() {
            let inflation = Inflation::of_run(result);
            text.push_str(&part_table(anatomy, first, name, &inflation, clock));
            let was_asked = result.target.engine_features.iter().any(|name| name == KERNEL_TIMESTAMPS);
            for note in notes(anatomy, &inflation, was_asked) {
                text.push_str(&format!("{}\n", wrap(&note, style.width_columns, 2)));
            }
            text.push_str(&bars(anatomy, first, name, &inflation, clock, style));
        }
        text.push_str(&show_warnings(&warnings(anatomy), style));
    }
    text.push_str(&exemplar_table(&result.exemplars, clock, style));
    text
}

fn part_table(anatomy: &Anatomy, first: usize, name: &str, inflation: &Inflation, clock: Clock) -> String {
    let row = |label: &str, histogram: &Histogram| row(label, histogram, inflation, clock);
    let split_rows = |split: &Option<Split>| {
        let rows = split.as_ref().map(|split| {
            [row("  until its kernel had it", &split.kernel), row("  wake-up and queue", &split.wake_up)]
                .to_vec()
        });
        rows.unwrap_or_default()
    };
    let mut rows = vec![row("in the generator (due → composed)", &anatomy.generator)];
    rows.drain(..first);
    rows.push(row("to the server (composed → received)", &anatomy.to_server));
    rows.extend(split_rows(&anatomy.to_server_split));
    rows.push(row("in the server (received → composed)", &anatomy.in_server));
    rows.push(row("back (composed → received)", &anatomy.back));
    rows.extend(split_rows(&anatomy.back_split));
    let mut heading = vec![format!("parts of {name} time")];
    heading.extend(PERCENTILES.map(str::to_owned));
    heading.push("max".to_owned());
    rows.insert(0, heading);
    format!("\n{}", table(&rows))
}

fn row(label: &str, histogram: &Histogram, inflation: &Inflation, clock: Clock) -> Vec<String> {
    let shown =
        |value_ns: Option<u64>| value_ns.map_or("-".to_owned(), |value_ns| clock.duration_ns(value_ns));
    let mut cells = vec![label.to_owned()];
    cells.extend(PERCENTILES.map(|label| shown(stated_ns(label, histogram, inflation))));
    cells.push(shown(maximum_ns(histogram)));
    cells
}

/// The percentile called `label`, in nanoseconds, if there are effective samples enough to state it.
fn stated_ns(label: &str, histogram: &Histogram, inflation: &Inflation) -> Option<u64> {
    let index = histogram::PERCENTILES.iter().position(|&(other, _)| other == label)?;
    inflation.percentile_ns(histogram, index)
}

/// What a reader must know of how the parts were told apart.
fn notes(anatomy: &Anatomy, inflation: &Inflation, kernel_was_asked: bool) -> Vec<String> {
    let mut notes = vec![SENDING.to_owned()];
    if PERCENTILES.iter().any(|label| stated_ns(label, &anatomy.back, inflation).is_none()) {
        notes.push("-: too few samples".to_owned());
    }
    if kernel_was_asked && anatomy.to_server_split.is_none() {
        notes.push(
            "the way to the server is not split: the server noted no arrivals (--engine epoll --kernel-timestamps)"
                .to_owned(),
        );
    }
    if kernel_was_asked && anatomy.back_split.is_none() {
        notes.push("the way back is not split: the kernel has yet to note arrivals".to_owned());
    }
    if anatomy.overlapped > 0 {
        let share = 100.0 * anatomy.overlapped as f64 / anatomy.back.len() as f64;
        notes.push(format!(
            "{share:.1} % arrived while the turn that received them was under way, and are stamped with its beginning: their \
             way there took no time"
        ));
    }
    notes
}

/// What went wrong with the stamps.
fn warnings(anatomy: &Anatomy) -> Vec<String> {
    if anatomy.disordered == 0 {
        return Vec::new();
    }
    vec![format!(
        "{} left out of the parts, for the server's stamps are out of order with our own: its monotonic clock is not ours; \
         run it on this host and in the same time namespace, or leave out --anatomy",
        counted(anatomy.disordered, "message")
    )]
}

/// A part of a bar: its name, what it is made of, and how long it is.
type Stretch = (&'static str, char, f64);

/// What one mean message is made of; a way's wake-up apart, where it is known.
fn stretches(row: &Explained, first: usize) -> Vec<Stretch> {
    let way = |name, fill, whole_ns: f64, wake_up_ns: Option<f64>| {
        let wake_up_ns = wake_up_ns.map(|ns| ns.min(whole_ns));
        let wake_up = wake_up_ns.map(|ns| ("wake-up", 'w', ns));
        [Some((name, fill, whole_ns - wake_up_ns.unwrap_or(0.0))), wake_up].into_iter().flatten()
    };
    let mut parts = vec![("generator", '░', row.generator_ns)];
    parts.drain(..first);
    parts.extend(way("to server", '▒', row.to_server_ns, row.to_server_wake_up_ns));
    parts.push(("in server", '▓', row.in_server_ns));
    parts.extend(way("back", '█', row.back_ns, row.back_wake_up_ns));
    parts
}

/// The mean message about each percentile that may be stated, as a bar of its parts.
fn bars(
    anatomy: &Anatomy,
    first: usize,
    name: &str,
    inflation: &Inflation,
    clock: Clock,
    style: Style,
) -> String {
    // As many samples as the whole has of these messages.
    let may_be_stated = |label: &str| stated_ns(label, &anatomy.back, inflation).is_some();
    let is_shown = |label: &str| BARS.contains(&label) && may_be_stated(label);
    let shown = anatomy.explained.iter().filter(|row| is_shown(&row.percentile));
    let shown: Vec<_> = shown.map(|row| (row, stretches(row, first))).collect();
    let Some((_, longest)) = shown.iter().max_by_key(|(_, parts)| parts.len()) else { return String::new() };
    let mut legend: Vec<String> = Vec::new();
    for (part, fill, _) in longest {
        let entry = format!("{fill} {part}");
        if !legend.contains(&entry) {
            legend.push(entry);
        }
    }
    let heading = format!("where it goes: the mean message about each percentile of {name} time");
    let mut text = format!("\n{}\n", wrap(&heading, style.width_columns, 2));
    text.push_str(&format!("{:LABEL_COLUMNS$}{}\n", "", legend.join("  ")));
    for (row, parts) in shown {
        text.push_str(&bar_line(row, &parts, clock, style));
    }
    text
}

/// `p99    ░▒▒▓██  12.0 µs = 1.00 µs + 5.00 µs + …`, the sum below the bar where it does not fit beside it.
fn bar_line(row: &Explained, parts: &[Stretch], clock: Clock, style: Style) -> String {
    let sum: Vec<_> = parts.iter().map(|&(_, _, ns)| clock.duration(ns)).collect();
    let sum = format!("{} = {}", clock.duration(row.response_ns), sum.join(" + "));
    let bar_columns = BAR_COLUMNS.min(style.width_columns.saturating_sub(LABEL_COLUMNS));
    let bar = stacked(parts, bar_columns);
    let is_beside = LABEL_COLUMNS + bar_columns + 2 + sum.chars().count() <= style.width_columns;
    let joint = if is_beside { "  ".to_owned() } else { format!("\n{:LABEL_COLUMNS$}", "") };
    format!("{:<LABEL_COLUMNS$}{bar}{joint}{sum}\n", row.percentile)
}

/// Parts of a whole as stretches of a bar, each ending where the parts so far do.
fn stacked(parts: &[Stretch], columns: usize) -> String {
    let whole: f64 = parts.iter().map(|(_, _, part)| part).sum();
    let (mut bar, mut so_far, mut filled) = (String::new(), 0.0, 0);
    for &(_, fill, part) in parts {
        so_far += part;
        let end = if whole > 0.0 { (so_far / whole * columns as f64).round() as usize } else { 0 };
        bar.extend(std::iter::repeat_n(fill, end - filled));
        filled = end;
    }
    bar
}

/// Of the worst messages, so many are shown: they are often of one and the same moment.
const EXEMPLARS_SHOWN: usize = 3;

/// The worst messages: a line of times, and one of what the generator's thread did meanwhile.
fn exemplar_table(all: &[Exemplar], clock: Clock, style: Style) -> String {
    if all.is_empty() {
        return String::new();
    }
    let exemplars = &all[..all.len().min(EXEMPLARS_SHOWN)];
    let has_stamps = exemplars.iter().any(|exemplar| exemplar.server.is_some());
    let mut rows: Vec<Vec<String>> =
        exemplars.iter().map(|exemplar| exemplar_row(exemplar, has_stamps, clock)).collect();
    let mut heading = vec!["at", "thread:connection", "message", "response", "queued", "service"];
    if has_stamps {
        heading.extend(["to server", "in server", "back"]);
    }
    rows.insert(0, heading.into_iter().map(str::to_owned).collect());
    let table = table(&rows);
    let mut lines = table.lines();
    let mut text = format!("\nworst messages\n{}\n", lines.next().unwrap_or_default());
    for (line, exemplar) in lines.zip(exemplars) {
        let around = wrap(&format!("    {}", around(exemplar, clock)), style.width_columns, 6);
        text.push_str(&format!("{line}\n{around}\n"));
    }
    if all.len() > exemplars.len() {
        text.push_str(&format!("{} more in the result\n", all.len() - exemplars.len()));
    }
    text
}

fn exemplar_row(exemplar: &Exemplar, has_stamps: bool, clock: Clock) -> Vec<String> {
    let mut row = vec![
        format!("{:.6} s", exemplar.intended_s),
        format!("{}:{}", exemplar.thread, exemplar.connection),
        format!("#{}", exemplar.number),
        clock.duration_ns(exemplar.response_ns),
        clock.duration_ns(exemplar.queued_ns),
        clock.duration_ns(exemplar.service_ns),
    ];
    if has_stamps {
        row.extend(match exemplar.server {
            Some(stamps) => {
                let there_ns = stamps.to_server_ns + stamps.in_server_ns;
                let back_ns = exemplar.service_ns.saturating_sub(there_ns);
                [stamps.to_server_ns, stamps.in_server_ns, back_ns].map(|ns| clock.duration_ns(ns))
            }
            None => ["-", "-", "-"].map(str::to_owned),
        });
    }
    row
}

/// What the thread did, without what it did not do.
fn around(exemplar: &Exemplar, clock: Clock) -> String {
    let Around { span_ns, turns, longest_turn_ns, waits, receives, .. } = exemplar.around;
    let mut text = format!(
        "thread in {} around it: {} (longest {}), {}, {}",
        clock.duration_ns(span_ns),
        counted(turns, "turn"),
        clock.duration_ns(longest_turn_ns),
        counted(waits, "wait"),
        counted(receives, "receive")
    );
    for (number, before, noun, after) in [
        (exemplar.around.starved_receives, "", "receive", " without a buffer"),
        (exemplar.around.short_sends, "", "short send", ""),
        (exemplar.around.involuntary_switches, "was made to give up the CPU ", "time", ""),
        (exemplar.around.voluntary_switches, "slept ", "time", ""),
    ] {
        if number > 0 {
            text.push_str(&format!(", {before}{}{after}", counted(number, noun)));
        }
    }
    if exemplar.others_in_turn > 0 {
        let others = counted(exemplar.others_in_turn, "other");
        text.push_str(&format!("; {others} nearly as slow in the same turn"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_the_whole_however_its_parts_round() {
        let bar_of = |parts: [f64; 4], columns| {
            let stretches: Vec<_> =
                parts.into_iter().zip("abcd".chars()).map(|(part, fill)| ("", fill, part)).collect();
            stacked(&stretches, columns)
        };
        for parts in [[1.0, 1.0, 1.0, 1.0], [0.0, 0.3, 0.3, 99.4], [1e9, 1.0, 0.0, 0.0], [5.0, 0.0, 0.0, 7.0]]
        {
            for columns in [1, 7, 50] {
                let bar = bar_of(parts, columns);
                assert_eq!(bar.len(), columns, "{parts:?}: {bar}");
                assert!(bar.as_bytes().is_sorted(), "{bar}");
            }
        }
        assert_eq!(bar_of([0.0; 4], 50), "");
        assert_eq!(bar_of([1.0, 2.0, 1.0, 4.0], 8), "abbcdddd");
    }
}
