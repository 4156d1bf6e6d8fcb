//! Latency over rate: a table, a chart, and how the server came back from overload.
//!
//! Invariant: an overload that was meant is marked as such wherever its numbers stand. Deliberately absent: a line
//! through the points; what lies between two rates was not measured.

use std::path::Path;

use super::Style;
use super::terminal::of_clock;
use super::text::{INSTRUCTION_TIME, printable, rate, table, wrap};
use crate::measure::environment::Clock;
use crate::measure::finding::{CurveFinding, CurvePoint, Recovery};
use crate::measure::verdict::{Level, lag_bound_ns};

/// The chart's marks, in the order in which a later one covers an earlier, with what they stand for.
const MARKS: [(char, &str, Value); 4] = [
    ('^', "max", |point| point.max_ns),
    ('+', "p99.9", |point| point.p999_ns),
    ('o', "p99", |point| point.p99_ns),
    ('.', "p50", |point| point.p50_ns),
];
type Value = fn(&CurvePoint) -> Option<u64>;

/// The whole curve, ending in a newline.
pub fn render(found: &CurveFinding, clock: Clock, folder: &Path, style: Style) -> String {
    let points = &found.points;
    let title = match (found.capacity_per_s, &found.capacity_from) {
        (Some(capacity), Some(from)) => {
            format!("latency over rate{}; capacity {}, {from}", of_clock(clock), rate(capacity))
        }
        _ => format!("latency over rate{}", of_clock(clock)),
    };
    let mut text = format!("{}\n", style.bold(&wrap(&title, style.width_columns, 2)));
    text.push_str(&super::terminal::show_warnings(&notes(found, clock), style));
    text.push('\n');
    text.push_str(&points_table(points, clock));
    text.push_str(&chart(points, clock));
    for recovery in &found.recoveries {
        text.push('\n');
        text.push_str(&wrap(&recovery_line(recovery, clock), style.width_columns, 2));
    }
    if !found.recoveries.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("\nsaved {}\n", folder.display()));
    text
}

fn notes(found: &CurveFinding, clock: Clock) -> Vec<String> {
    let mut lines: Vec<String> = found.ended_by.iter().map(|why| format!("ended early: {why}")).collect();
    if clock == Clock::Instructions {
        lines.push(INSTRUCTION_TIME.to_owned());
    }
    for point in &found.points {
        let name = name(point);
        if let Some(why) = &point.failed {
            lines.push(format!("{name} failed: {why}"));
        } else if point.overload && point.kept_up {
            lines.push(format!(
                "{name} was meant as overload, and was sustained: the capacity is higher than that; give --capacity"
            ));
        } else if !point.overload && !point.went_well {
            lines.push(format!("{name}: not every message was sent and answered rightly; see its result"));
        }
    }
    let gave_way = found.points.iter().find(|point| point.failed.is_none() && !point.kept_up);
    // On one CPU it is late whenever the server works.
    if let Some(point) = gave_way.filter(|_| clock == Clock::Real)
        && let Some(lag_ns) = point.lag_p99_ns.filter(|&lag_ns| lag_ns > lag_bound_ns(point.spin))
    {
        lines.push(format!(
            "at {} the generator itself was late, by {} (p99): it may be the generator that gave way, not the server",
            rate(point.offered_per_s),
            clock.duration_ns(lag_ns)
        ));
    }
    lines
}

/// `50% (20,000/s)`, or the rate alone.
fn name(point: &CurvePoint) -> String {
    let per_s = rate(point.offered_per_s);
    if point.label.ends_with('%') { format!("{} ({per_s})", printable(&point.label)) } else { per_s }
}

fn points_table(points: &[CurvePoint], clock: Clock) -> String {
    let heading =
        ["offered", "achieved", "p50", "p99", "p99.9", "max", "server CPU", "load CPU", "lag p99", "verdict"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for point in points {
        let percentile =
            |value: Option<u64>| value.map_or("too few".to_owned(), |value_ns| clock.duration_ns(value_ns));
        let cpu = |value: Option<f64>| value.map_or("-".to_owned(), |value_ns| clock.duration(value_ns));
        let mut row = vec![name(point)];
        if point.failed.is_some() {
            row.extend(["-"; 8].map(str::to_owned));
            row.push("failed".to_owned());
        } else {
            row.push(rate(point.achieved_per_s));
            row.extend([point.p50_ns, point.p99_ns, point.p999_ns, point.max_ns].map(percentile));
            row.extend([cpu(point.server_cpu_ns), cpu(point.load_cpu_ns), percentile(point.lag_p99_ns)]);
            row.push(verdict(point));
        }
        rows.push(row);
    }
    table(&rows)
}

fn verdict(point: &CurvePoint) -> String {
    let level = match point.level {
        Some(Level::Trusted) => "trusted",
        Some(Level::Suspect) => "suspect",
        Some(Level::Invalid) => "INVALID",
        None => "unjudged",
    };
    if point.overload { format!("overload by intent ({level})") } else { level.to_owned() }
}

/// Latency upwards, in steps of 1, 2, 5; the rates side by side.
fn chart(points: &[CurvePoint], clock: Clock) -> String {
    let marks = |point: &CurvePoint| {
        MARKS.map(|(mark, _, value)| value(point).map(|value_ns| (mark, step_of(value_ns))))
    };
    let all = points.iter().flat_map(|point| marks(point).into_iter().flatten());
    let (Some(low), Some(high)) = (all.clone().map(|(_, step)| step).min(), all.map(|(_, step)| step).max())
    else {
        return String::new();
    };
    let legend: Vec<_> = MARKS.iter().rev().map(|(mark, name, _)| format!("{mark} {name}")).collect();
    let mut text = format!("\nresponse time over rate: {}\n", legend.join("  "));
    let names: Vec<String> = points.iter().map(|point| rate(point.offered_per_s)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + 2;
    // `50.0 µs`, or `500 kinstr`.
    let label = if clock == Clock::Real { 8 } else { 11 };
    for step in (low..=high).rev() {
        let mut line = format!("{:>label$} ┤", clock.duration_ns(edge_ns(step)));
        for point in points {
            let on_this = marks(point).into_iter().flatten().filter(|&(_, at)| at == step);
            let mark = on_this.map(|(mark, _)| mark).next_back().unwrap_or(' ');
            line.push_str(&format!("{mark:>width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(&format!("{:>label$} └{}\n{:>label$}  ", "", "─".repeat(width * points.len()), ""));
    names.iter().for_each(|name| text.push_str(&format!("{name:>width$}")));
    text.push('\n');
    text
}

/// The number of steps of 1, 2, 5, 10 … ns up to the one at or below `value_ns`.
fn step_of(value_ns: u64) -> u32 {
    let mut step = 0;
    while edge_ns(step + 1) <= value_ns {
        step += 1;
    }
    step
}

fn edge_ns(step: u32) -> u64 {
    10_u64.pow(step / 3) * [1, 2, 5][step as usize % 3]
}

fn recovery_line(recovery: &Recovery, clock: Clock) -> String {
    let from_to = format!("from {} down to {}", rate(recovery.from_per_s), rate(recovery.to_per_s));
    let Recovery { watched_s, interval_s, .. } = recovery;
    match (&recovery.failed, recovery.bound_ns, recovery.recovered_s) {
        (Some(why), ..) => format!("recovery {from_to}: failed: {why}"),
        (None, None, _) => format!("recovery {from_to}: there is no p99 without overload to hold it against"),
        (None, Some(bound_ns), Some(recovered_s)) => {
            let when =
                if recovered_s > 0.0 { format!("after {recovered_s:.1} s") } else { "at once".to_owned() };
            let bound = clock.duration_ns(bound_ns);
            format!(
                "recovery {from_to}: p99 was back below {bound} {when} (in intervals of {interval_s:.2} s)"
            )
        }
        (None, Some(bound_ns), None) => {
            format!(
                "recovery {from_to}: p99 was not back below {} within {watched_s:.1} s",
                clock.duration_ns(bound_ns)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_reads_as_a_table_a_chart_and_a_recovery() {
        let point = |label: &str, offered_per_s: f64, scale: u64| CurvePoint {
            label: label.to_owned(),
            offered_per_s,
            overload: offered_per_s > 100_000.0,
            achieved_per_s: offered_per_s.min(104_000.0),
            kept_up: scale < 3,
            p50_ns: Some(50_000 * scale),
            p99_ns: Some(120_000 * scale),
            p999_ns: (scale < 3).then_some(230_000 * scale),
            max_ns: Some(400_000 * scale),
            server_cpu_ns: Some(4_100.0),
            load_cpu_ns: Some(5_200.0),
            spin: false,
            lag_p99_ns: Some(20_000),
            level: Some(Level::Trusted),
            went_well: true,
            failed: None,
        };
        let found = CurveFinding {
            capacity_per_s: Some(100_000.0),
            capacity_from: Some("by --capacity".to_owned()),
            points: vec![
                point("10%", 10_000.0, 1),
                point("50%", 50_000.0, 2),
                point("150%", 150_000.0, 1000),
            ],
            recoveries: vec![Recovery {
                from_per_s: 150_000.0,
                to_per_s: 50_000.0,
                bound_ns: Some(480_000),
                recovered_s: Some(1.25),
                watched_s: 20.0,
                interval_s: 0.625,
                failed: None,
            }],
            ended_by: None,
        };
        let text = render(&found, Clock::Real, Path::new("results/x"), Style::PLAIN);
        let expected = "\
latency over rate; capacity 100,000/s, by --capacity

offered            achieved      p50     p99    p99.9     max  server CPU  load CPU  lag p99                       verdict
10% (10,000/s)     10,000/s  50.0 µs  120 µs   230 µs  400 µs     4.10 µs   5.20 µs  20.0 µs                       trusted
50% (50,000/s)     50,000/s   100 µs  240 µs   460 µs  800 µs     4.10 µs   5.20 µs  20.0 µs                       trusted
150% (150,000/s)  104,000/s  50.0 ms  120 ms  too few  400 ms     4.10 µs   5.20 µs  20.0 µs  overload by intent (trusted)

response time over rate: . p50  o p99  + p99.9  ^ max
  200 ms ┤                                ^
  100 ms ┤                                o
 50.0 ms ┤                                .
 20.0 ms ┤
 10.0 ms ┤
 5.00 ms ┤
 2.00 ms ┤
 1.00 ms ┤
  500 µs ┤                     ^
  200 µs ┤          +          o
  100 µs ┤          o          .
 50.0 µs ┤          .
         └─────────────────────────────────
             10,000/s   50,000/s  150,000/s

recovery from 150,000/s down to 50,000/s: p99 was back below 480 µs after 1.2 s (in intervals of
  0.62 s)

saved results/x
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn steps_begin_at_their_edges() {
        for (value_ns, edge) in
            [(1, 1), (4, 2), (5, 5), (9, 5), (10, 10), (1_999, 1_000), (3_600_000_000_000, 2_000_000_000_000)]
        {
            assert_eq!(edge_ns(step_of(value_ns)), edge);
        }
    }
}
