//! Where response times go, and the worst messages: the part of a run's report that explains its latency.
//!
//! Invariant: percentiles of parts are never added up. What adds up is the mean of the messages about a percentile, and
//! that is what the bars show. Told apart without colour. Deliberately absent: judgement.

use super::Style;
use super::terminal::show_warnings;
use super::text::{count, counted, duration, duration_ns, percentile, table, wrap};
use crate::measure::anatomy::{Anatomy, Explained, Split};
use crate::measure::evidence::{Around, Exemplar};
use crate::measure::histogram::{Histogram, maximum_ns, percentile_ns};
use crate::measure::result::{Mode, RunResult};

/// The percentiles of each part that are shown.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];
/// The percentiles of the whole that have a bar.
const BARS: [&str; 4] = ["p50", "p90", "p99", "p99.9"];
/// A part's name and what its stretch of a bar is made of.
const PARTS: [(&str, char); 4] = [("generator", '░'), ("to server", '▒'), ("in server", '▓'), ("back", '█')];
const BAR_COLUMNS: usize = 40;
const LABEL_COLUMNS: usize = 7;

/// Everything that there is to explain, each section behind an empty line; nothing where there is nothing.
pub fn render(result: &RunResult, style: Style) -> String {
    let mut text = String::new();
    if let Some(anatomy) = &result.anatomy {
        let is_open_loop = matches!(result.plan.mode, Mode::OpenLoop { .. });
        // In a closed loop nothing waits in the generator.
        let first = usize::from(!is_open_loop);
        let name = if is_open_loop { "response" } else { "service" };
        if !anatomy.back.is_empty() {
            text.push_str(&part_table(anatomy, first, name, style));
            text.push_str(&bars(anatomy, first, name, style));
        }
        text.push_str(&show_warnings(&warnings(anatomy), style));
    }
    text.push_str(&exemplar_table(&result.exemplars, style));
    text
}

fn part_table(anatomy: &Anatomy, first: usize, name: &str, style: Style) -> String {
    let split_rows = |split: &Option<Split>| {
        let rows = split.as_ref().map(|split| {
            [row("  kernels and wire", &split.kernel), row("  wake-up", &split.wake_up)].to_vec()
        });
        rows.unwrap_or_default()
    };
    let mut rows = vec![row("in the generator", &anatomy.generator)];
    rows.drain(..first);
    rows.push(row("to the server", &anatomy.to_server));
    rows.extend(split_rows(&anatomy.to_server_split));
    rows.push(row("in the server", &anatomy.in_server));
    rows.push(row("back", &anatomy.back));
    rows.extend(split_rows(&anatomy.back_split));
    let mut heading = vec![format!("parts of {name} time")];
    heading.extend(PERCENTILES.map(|(label, _)| label.to_owned()));
    heading.push("max".to_owned());
    rows.insert(0, heading);
    let mut text = format!("\n{}", table(&rows));
    for note in notes(anatomy) {
        text.push_str(&format!("{}\n", wrap(&note, style.width_columns, 2)));
    }
    text
}

fn row(label: &str, histogram: &Histogram) -> Vec<String> {
    let mut cells = vec![label.to_owned()];
    cells.extend(PERCENTILES.map(|(_, quantile)| percentile(percentile_ns(histogram, quantile))));
    cells.push(maximum_ns(histogram).map_or("-".to_owned(), duration_ns));
    cells
}

/// What a reader must know of how the parts were told apart.
fn notes(anatomy: &Anatomy) -> Vec<String> {
    let mut notes = Vec::new();
    let splits = [(&anatomy.to_server_split, "to the server"), (&anatomy.back_split, "back")];
    if splits.iter().any(|(split, _)| split.is_some()) {
        let unsplit = splits.iter().filter(|(split, _)| split.is_none());
        notes.extend(
            unsplit.map(|(_, way)| format!("the way {way} is not split: its end noted no kernel timestamps")),
        );
    }
    if anatomy.overlapped > 0 {
        let share = 100.0 * anatomy.overlapped as f64 / anatomy.back.len() as f64;
        notes.push(format!(
            "{share:.1} % arrived while the turn that received them was under way: their way there counts as nothing"
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
        "{} left out of the parts: stamps that cannot be of this host's monotonic clock; --anatomy needs the server on \
         this host, and in the same time namespace",
        counted(anatomy.disordered, "message")
    )]
}

/// The mean message about each percentile, as a bar of its parts.
fn bars(anatomy: &Anatomy, first: usize, name: &str, style: Style) -> String {
    let shown: Vec<_> =
        anatomy.explained.iter().filter(|row| BARS.contains(&row.percentile.as_str())).collect();
    if shown.is_empty() {
        return String::new();
    }
    let parts = &PARTS[first..];
    let legend: Vec<_> = parts.iter().map(|(part, fill)| format!("{fill} {part}")).collect();
    let heading = format!("where it goes: the mean message about each percentile of {name} time");
    let mut text = format!("\n{}\n", wrap(&heading, style.width_columns, 2));
    text.push_str(&format!("{:LABEL_COLUMNS$}{}\n", "", legend.join("  ")));
    for row in shown {
        text.push_str(&bar_line(row, first, style));
    }
    text
}

/// `p99    ░▒▒▓██  12.0 µs = 1.00 µs + 5.00 µs + …`, the sum below the bar where it does not fit beside it.
fn bar_line(row: &Explained, first: usize, style: Style) -> String {
    let parts_ns = &[row.generator_ns, row.to_server_ns, row.in_server_ns, row.back_ns][first..];
    let sum: Vec<_> = parts_ns.iter().map(|&ns| duration(ns)).collect();
    let sum = format!("{} = {}", duration(row.response_ns), sum.join(" + "));
    let bar_columns = BAR_COLUMNS.min(style.width_columns.saturating_sub(LABEL_COLUMNS));
    let fills: Vec<char> = PARTS[first..].iter().map(|&(_, fill)| fill).collect();
    let bar = stacked(parts_ns, &fills, bar_columns);
    let is_beside = LABEL_COLUMNS + bar_columns + 2 + sum.chars().count() <= style.width_columns;
    let joint = if is_beside { "  ".to_owned() } else { format!("\n{:LABEL_COLUMNS$}", "") };
    format!("{:<LABEL_COLUMNS$}{bar}{joint}{sum}\n", row.percentile)
}

/// Parts of a whole as stretches of a bar, each ending where the parts so far do.
fn stacked(parts: &[f64], fills: &[char], columns: usize) -> String {
    let whole: f64 = parts.iter().sum();
    let (mut bar, mut so_far, mut filled) = (String::new(), 0.0, 0);
    for (part, &fill) in parts.iter().zip(fills) {
        so_far += part;
        let end = if whole > 0.0 { (so_far / whole * columns as f64).round() as usize } else { 0 };
        bar.extend(std::iter::repeat_n(fill, end - filled));
        filled = end;
    }
    bar
}

/// The worst messages: a line of times, and one of what the generator's thread did meanwhile.
fn exemplar_table(exemplars: &[Exemplar], style: Style) -> String {
    if exemplars.is_empty() {
        return String::new();
    }
    let has_stamps = exemplars.iter().any(|exemplar| exemplar.server.is_some());
    let mut rows: Vec<Vec<String>> =
        exemplars.iter().map(|exemplar| exemplar_row(exemplar, has_stamps)).collect();
    let mut heading = vec!["at", "thread:connection", "message", "response", "queued", "service"];
    if has_stamps {
        heading.extend(["to server", "in server", "back"]);
    }
    rows.insert(0, heading.into_iter().map(str::to_owned).collect());
    let table = table(&rows);
    let mut lines = table.lines();
    let mut text = format!("\nworst messages\n{}\n", lines.next().unwrap_or_default());
    for (line, exemplar) in lines.zip(exemplars) {
        let around = wrap(&format!("    {}", around(exemplar)), style.width_columns, 6);
        text.push_str(&format!("{line}\n{around}\n"));
    }
    text
}

fn exemplar_row(exemplar: &Exemplar, has_stamps: bool) -> Vec<String> {
    let mut row = vec![
        format!("{:.6} s", exemplar.intended_s),
        format!("{}:{}", exemplar.thread, exemplar.connection),
        format!("#{}", exemplar.number),
        duration_ns(exemplar.response_ns),
        duration_ns(exemplar.queued_ns),
        duration_ns(exemplar.service_ns),
    ];
    if has_stamps {
        row.extend(match exemplar.server {
            Some(stamps) => {
                let there_ns = stamps.to_server_ns + stamps.in_server_ns;
                let back_ns = exemplar.service_ns.saturating_sub(there_ns);
                [stamps.to_server_ns, stamps.in_server_ns, back_ns].map(duration_ns)
            }
            None => ["-", "-", "-"].map(str::to_owned),
        });
    }
    row
}

/// What the thread did, without what it did not do.
fn around(exemplar: &Exemplar) -> String {
    let Around { span_ns, turns, longest_turn_ns, waits, receives, .. } = exemplar.around;
    let mut text = format!(
        "thread in {} around it: {} (longest {}), {}, {}",
        duration_ns(span_ns),
        counted(turns, "turn"),
        duration_ns(longest_turn_ns),
        counted(waits, "wait"),
        counted(receives, "receive")
    );
    for (number, what) in [
        (exemplar.around.starved_receives, "receives without a buffer"),
        (exemplar.around.short_sends, "short sends"),
        (exemplar.around.involuntary_switches, "× made to give up the CPU"),
        (exemplar.around.voluntary_switches, "× asleep"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {} {what}", count(number)));
        }
    }
    if exemplar.others_in_turn > 0 {
        text.push_str(&format!("; {} as bad in the same turn", counted(exemplar.others_in_turn, "other")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_the_whole_however_its_parts_round() {
        for parts in [[1.0, 1.0, 1.0, 1.0], [0.0, 0.3, 0.3, 99.4], [1e9, 1.0, 0.0, 0.0], [5.0, 0.0, 0.0, 7.0]]
        {
            for columns in [1, 7, 50] {
                let bar = stacked(&parts, &['a', 'b', 'c', 'd'], columns);
                assert_eq!(bar.len(), columns, "{parts:?}: {bar}");
                assert!(bar.as_bytes().is_sorted(), "{bar}");
            }
        }
        assert_eq!(stacked(&[0.0; 4], &['a'; 4], 50), "");
        assert_eq!(stacked(&[1.0, 2.0, 1.0, 4.0], &['a', 'b', 'c', 'd'], 8), "abbcdddd");
    }
}
