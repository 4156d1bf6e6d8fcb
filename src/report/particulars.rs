//! What a scenario measured beside what every run does, as its reader sees it.
//!
//! Invariant: a run without any of it gives no text at all. Deliberately absent: the scenario's name, which stands in the first line of
//! the report.

use std::borrow::Cow;

use super::Style;
use super::terminal::{cell, headed, labelled, last_rows};
use super::text::{count, counted, rate, size};
use crate::measure::environment::Clock;
use crate::measure::histogram::{Histogram, PERCENTILES};
use crate::measure::particulars::{Crowd, Fan, Particulars, Position, Without};
use crate::measure::result::RunResult;
use crate::measure::samples::Inflation;

/// A table of durations and lines of counts, in front of them an empty line.
pub(super) fn render(result: &RunResult, style: Style) -> String {
    let all = &result.particulars;
    if all.is_empty() {
        return String::new();
    }
    let mut text = "\n".to_owned() + &durations(result);
    for (label, line) in lines(all) {
        text.push_str(&labelled(label, &line, style));
    }
    text.push_str(&all.fan.iter().map(|fan| positions(fan, result.environment.clock)).collect::<String>());
    text.push_str(&all.without_crowd.iter().map(|without| held_against(result, without)).collect::<String>());
    text
}

fn durations(result: &RunResult) -> String {
    let clock = result.environment.clock;
    let columns: Vec<(Cow<'static, str>, &Histogram)> =
        result.particulars.histograms().into_iter().filter(|(name, _)| name != "without-crowd").collect();
    if columns.is_empty() {
        return String::new();
    }
    let inflations: Vec<Inflation> =
        columns.iter().map(|(name, _)| super::export::inflation(result, name)).collect();
    let histograms: Vec<&Histogram> = columns.iter().map(|(_, histogram)| *histogram).collect();
    let names: Vec<String> = columns.iter().map(|(name, _)| name.replace('-', " ")).collect();
    let heading: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    let shown = PERCENTILES
        .into_iter()
        .enumerate()
        .filter(|(_, (_, quantile))| [0.5, 0.99, 0.999].contains(quantile));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (index, (label, _)) in shown {
        let cells = histograms
            .iter()
            .zip(&inflations)
            .map(|(histogram, inflation)| cell(histogram, inflation, index, clock));
        rows.push(std::iter::once(label.to_owned()).chain(cells).collect());
    }
    rows.extend(last_rows(&histograms, clock));
    headed(&heading, rows)
}

fn lines(all: &Particulars) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(sizes) = &all.sizes {
        lines.push((
            "sizes",
            format!(
                "{} of {} to {} B, {} B on average, {} in all",
                counted(sizes.messages, "message"),
                count(sizes.min_bytes),
                count(sizes.max_bytes),
                count(sizes.mean_bytes.round() as u64),
                size(sizes.bytes)
            ),
        ));
    }
    if let Some(bursts) = &all.bursts {
        let (drained, undrained) = (count(bursts.drained), count(bursts.undrained));
        lines.push(("bursts", format!("{} = {drained} drained + {undrained} not", count(bursts.bursts))));
    }
    if let Some(pings) = &all.pings {
        let outstanding = count(pings.sent.saturating_sub(pings.answered));
        let (sent, answered) = (count(pings.sent), count(pings.answered));
        lines.push(("pings", format!("{sent} sent = {answered} answered + {outstanding} outstanding")));
    }
    if let Some(churn) = &all.churn {
        let closed = match churn.closed_by_us {
            0 => "every one closed by the server first".to_owned(),
            some => format!("{} closed by us first, whose ports stay taken", count(some)),
        };
        let at_once = count(churn.at_once_max);
        lines.push((
            "lives",
            format!("{}; {at_once} at once at most; {closed}", rate(churn.connections_per_s)),
        ));
    }
    all.fan.iter().for_each(|fan| lines.extend(of_fan(fan)));
    for (at, part) in all.parts.iter().enumerate() {
        let (connections, sent) = (counted(part.connections, "connection"), counted(part.sent, "message"));
        let (answered, outstanding) = (count(part.answered), count(part.sent.saturating_sub(part.answered)));
        let line = format!(
            "{} {}: {connections}, {sent} sent = {answered} answered + {outstanding} outstanding",
            at + 1,
            part.scenario
        );
        lines.push((if at == 0 { "parts" } else { "" }, line));
    }
    if let Some(seen) = &all.broadcasts {
        let (least, most) = (count(seen.listeners_min), count(seen.listeners_max));
        let listeners = if least == most { least } else { format!("{least} to {most}") };
        lines.push((
            "broadcasts",
            format!(
                "{} published, {} answered, each with {listeners} listening: {} heard of {}",
                count(seen.published),
                count(seen.results),
                count(seen.heard),
                count(seen.told)
            ),
        ));
    }
    all.crowd.iter().for_each(|crowd| lines.extend(of_crowd(crowd)));
    lines
}

fn of_fan(fan: &Fan) -> Vec<(&'static str, String)> {
    let rooms = if fan.rooms == 1 { String::new() } else { format!(" in {}", counted(fan.rooms, "room")) };
    let published = format!(
        "{} to {}{rooms}; {} delivered",
        counted(fan.publications, "publication"),
        counted(fan.subscribers, "subscriber"),
        rate(fan.deliveries_per_s)
    );
    let which = match fan.looked_at_one_in {
        1 => "each was looked at".to_owned(),
        some => format!("one in {} was looked at", count(some)),
    };
    let (complete, looked_at) = (count(fan.complete), count(fan.looked_at));
    let came = format!("{complete} of {looked_at} came to every subscriber of their room; {which}");
    let order = format!(
        "{}, {} out of order, {} repeated",
        counted(fan.gaps, "gap"),
        count(fan.out_of_order),
        count(fan.repeated)
    );
    vec![("published", published), ("", came), ("deliveries", order)]
}

/// Who is served late.
fn positions(fan: &Fan, clock: Clock) -> String {
    let row = |position: &Position| {
        let from = position.joined_after_percent;
        vec![
            format!("{from} to {} %", from + 10),
            count(position.deliveries),
            clock.duration(position.mean_ns),
            super::text::percentile(position.p50_ns, clock),
            super::text::percentile(position.p99_ns, clock),
        ]
    };
    let rows = fan.positions.iter().map(row).collect();
    "\n".to_owned() + &headed(&["joined", "deliveries", "mean", "p50", "p99"], rows)
}

fn of_crowd(crowd: &Crowd) -> Vec<(&'static str, String)> {
    let mut counts = format!(
        "{} ({}) = {} opened + {} failed; {} held to the end",
        counted(crowd.connections, "connection"),
        crowd.manner,
        count(crowd.opened),
        count(crowd.failed),
        count(crowd.held)
    );
    counts.push_str(&match crowd.manner.as_str() {
        "silent" => format!("; {} answered", counted(crowd.heartbeats, "heartbeat")),
        _ => format!("; sent {}, read {}", size(crowd.sent_bytes), size(crowd.read_bytes)),
    });
    let mut lines = vec![("beside", counts)];
    let each =
        |bytes: Option<f64>| bytes.map_or(String::new(), |bytes| format!(", {bytes:.0} B a connection held"));
    if let Some(memory) = &crowd.server_memory {
        let (before, after) = (size(memory.before_bytes), size(memory.after_bytes));
        let each = each(memory.per_connection_bytes(crowd.held));
        lines.push(("memory", format!("{}: {before} before, {after} at the end{each}", memory.of)));
    }
    if let Some(memory) = &crowd.kernel_memory {
        let line = format!(
            "kernel, all of this machine: slab {} before, {} at the end; TCP buffers {} and {}{}",
            size(memory.before.slab_bytes),
            size(memory.after.slab_bytes),
            size(memory.before.tcp_buffer_bytes),
            size(memory.after.tcp_buffer_bytes),
            each(memory.per_connection_bytes(crowd.held))
        );
        let label = if crowd.server_memory.is_some() { "" } else { "memory" };
        lines.push((label, line));
    }
    lines
}

/// The headline's percentiles with and without the crowd, side by side.
fn held_against(result: &RunResult, without: &Without) -> String {
    let clock = result.environment.clock;
    let headline = result.headline();
    let of_run = Inflation::of_run(result);
    let alone = &without.percentiles;
    let stated = [
        alone.p50_ns,
        alone.p75_ns,
        alone.p90_ns,
        alone.p99_ns,
        alone.p99_9_ns,
        alone.p99_99_ns,
        alone.p99_999_ns,
    ];
    let mut rows = Vec::new();
    for (index, (label, _)) in PERCENTILES.into_iter().enumerate().take(5) {
        let alone = super::text::percentile(stated[index], clock);
        rows.push(vec![label.to_owned(), cell(headline, &of_run, index, clock), alone]);
    }
    rows.extend(last_rows(&[headline, &without.headline], clock));
    "\n".to_owned() + &headed(&["", "beside the crowd", "without it"], rows)
}
