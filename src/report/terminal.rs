//! One run, as its reader sees it when it ends.
//!
//! Invariant: response time and service time stand side by side, since a number corrected for waiting is
//! distrusted until it can be reconciled with the uncorrected one; the verdict stands before the numbers.
//! Deliberately absent: judgement. The verdict comes with the result.

use super::text::{self, count, counted, percent, percentile, printable, rate, table, wrap};
use super::{Style, verdict};
use crate::measure::environment::Clock;
use crate::measure::histogram::{Histogram, PERCENTILES, maximum_ns};
use crate::measure::result::{
    Accounting, Arrivals, Carried, Deflate, KernelTls, Mode, Plan, RunResult, Target, Tls,
};
use crate::measure::samples::Inflation;
use crate::measure::verdict::{CLOSED_LOOP, Level};
use crate::measure::wire::Extent;

/// Where the labelled lines' text begins.
const LABEL_COLUMNS: usize = 13;

/// The whole report on one run, ending in a newline.
pub fn render(result: &RunResult, style: Style) -> String {
    let mut text = String::new();
    text.push_str(&header(result, style));
    text.push_str(&judgement(result, style));
    text.push_str(&show_warnings(&warnings(result), style));
    text.push('\n');
    text.push_str(&latency_table(result, style));
    text.push('\n');
    text.push_str(&side_table(result));
    text.push_str(&super::particulars::render(result, style));
    text.push_str(&super::anatomy::render(result, style));
    text.push_str(&distribution(result, style));
    text.push('\n');
    text.push_str(&books(result, style));
    text
}

/// A label on the left and its text beside it, broken to the width.
pub(super) fn labelled(label: &str, text: &str, style: Style) -> String {
    let text = wrap(text, style.width_columns.saturating_sub(LABEL_COLUMNS), 0);
    format!("{label:<LABEL_COLUMNS$}{}\n", text.replace('\n', &format!("\n{:LABEL_COLUMNS$}", "")))
}

/// What connections were secured with, and how many each way.
fn secured(tls: &Tls) -> String {
    let ways = tls.negotiated.iter().map(|agreed| {
        let handshake = if agreed.resumed { "resumed" } else { "with a full handshake" };
        let connections = counted(agreed.connections, "connection");
        format!("{} {}: {connections} {handshake}", agreed.version, agreed.cipher_suite)
    });
    let unproven = (tls.trusts == "anyone").then(|| "the server had to prove nothing".to_owned());
    let by_kernel = tls.kernel.as_ref().filter(|kernel| kernel.asked).map(by_kernel);
    ways.chain(by_kernel).chain(unproven).collect::<Vec<_>>().join("; ")
}

/// Of how many connections the server had the kernel seal and open records, where it was asked to.
fn by_kernel(kernel: &KernelTls) -> String {
    let KernelTls { connections, handed_over, refused, missed, .. } = *kernel;
    if handed_over == connections {
        return "records by the kernel's TLS".to_owned();
    }
    let of = format!("{} of {}", count(handed_over), counted(connections, "connection"));
    let why = [(refused, "refused by the kernel"), (missed, "never quiet enough")];
    let why = why.into_iter().filter(|(number, _)| *number > 0);
    let why: Vec<_> = why.map(|(number, why)| format!("{} {why}", count(number))).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    format!("records by the kernel's TLS on {of}{why}")
}

/// What was agreed on, and what came over the wire.
fn compression(deflate: &Deflate) -> String {
    let agreed = format!("permessage-deflate, {deflate}");
    match deflate.wire {
        Some(wire) => {
            format!("{agreed}; {}; {}", carried("answers", &wire.answers), carried("messages", &wire.sent))
        }
        None => agreed,
    }
}

/// As `answers compressed 100 %, 1,024 B as 394 B`: bytes are means.
fn carried(what: &str, carried: &Carried) -> String {
    let Carried { messages, compressed, payload_bytes, wire_bytes } = *carried;
    let mean = |bytes: u64| count((bytes as f64 / messages as f64).round() as u64);
    match carried.extent() {
        _ if messages == 0 => format!("no {what}"),
        Extent::None => format!("no {what} compressed"),
        Extent::Some | Extent::All => {
            let share = percent(compressed as f64 / messages as f64);
            format!("{what} compressed {share}, {} B as {} B", mean(payload_bytes), mean(wire_bytes))
        }
    }
}

fn header(result: &RunResult, style: Style) -> String {
    let target = &result.target;
    let title = format!(
        "{} {}{}: {}",
        result.tool.name,
        result.tool.version,
        of_clock(result.environment.clock),
        workload(&result.plan)
    );
    let against = match &target.server {
        Some(server) => format!("{}{} ({server})", target.url, spoken(target)),
        None => target.url.clone() + &spoken(target),
    };
    let cpus_of = |cpus: &Option<String>, if_none: &str| cpus.clone().unwrap_or(if_none.to_owned());
    let server = cpus_of(&target.server_cpus, "unknown");
    let cpus = format!("server {server}; load {}", cpus_of(&target.load_cpus, "not pinned"));
    let window = format!(
        "{:.1} s after {} s of warm-up; seed {}; {}",
        result.summary.measured_s, result.plan.warmup_s, result.plan.seed, result.created
    );
    let title = wrap(&printable(&title), style.width_columns, 2);
    let mut text = format!("{}\n", style.bold(&title));
    let secured = target.tls.as_ref().map(|tls| ("secured", secured(tls)));
    let compression = target.deflate.as_ref().map(|deflate| ("compression", compression(deflate)));
    let below = [secured, compression].into_iter().flatten();
    let others = [
        ("on", machine(result)),
        ("engine", engines(target)),
        ("CPUs", cpus),
        ("measured", window),
        ("throughput", throughput(result)),
    ];
    for (label, line) in [("against", against)].into_iter().chain(below).chain(others) {
        text.push_str(&labelled(label, &printable(&line), style));
    }
    text
}

/// What is spoken above WebSocket, behind where.
fn spoken(target: &Target) -> String {
    target.subprotocol.iter().map(|name| format!(", subprotocol {name}")).collect()
}

/// What a title says of durations that are no time.
pub(super) fn of_clock(clock: Clock) -> &'static str {
    match clock {
        Clock::Real => "",
        Clock::Instructions => " (instruction time)",
    }
}

/// What did the I/O, in a line: of both ends, where they are known to differ.
fn engines(target: &Target) -> String {
    let described = |name: &str, features: &[String]| match features.is_empty() {
        true => name.to_owned(),
        false => format!("{name} ({})", features.join(", ")),
    };
    let load = described(&target.engine, &target.engine_features);
    let server = target.server_engine.as_ref();
    let features = target.server_engine_features.as_deref().unwrap_or_default();
    let server = server.map(|name| described(name, features)).filter(|server| *server != load);
    let both = match server {
        Some(server) => format!("server {server}; load {load}"),
        None => load,
    };
    let reason = target.engine_reason.iter().map(|reason| format!("; {reason}")).collect::<String>();
    both + &reason
}

/// What is done, in a line: `echo, 64 connections, 64 B, open loop at 20,000/s (fixed gaps)`.
pub(crate) fn workload(plan: &Plan) -> String {
    let mode = match plan.mode {
        Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Fixed } => {
            format!("open loop at {} (fixed gaps)", rate(rate_per_s))
        }
        Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Poisson } => {
            format!("open loop at {} (Poisson)", rate(rate_per_s))
        }
        Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Burst } => {
            format!("open loop at {} (in bursts)", rate(rate_per_s))
        }
        Mode::ClosedLoop { pipeline } => format!("closed loop, {} in flight each", count(pipeline)),
    };
    let kind = if plan.text { "text" } else { "binary" };
    let filling = plan.filling.iter().map(|filling| format!("{filling} ")).collect::<String>();
    let connections = counted(plan.connections, "connection");
    format!("{}, {connections}, {} {filling}{kind}, {mode}", plan.scenario_in_full(), plan.payload())
}

/// The machine in a line: kernel, processor, and whether it is a virtual one.
pub(super) fn machine(result: &RunResult) -> String {
    let environment = &result.environment;
    let known = |text: &Option<String>, unknown: &str| text.clone().unwrap_or(unknown.to_owned());
    let mut line = format!(
        "Linux {}, {}",
        known(&environment.kernel.release, "of unknown release"),
        known(&environment.cpu.model, "unknown processor")
    );
    if let Some(cpus) = environment.cpu.count {
        line.push_str(&format!(", {}", counted(cpus, "CPU")));
    }
    if environment.cpu.hypervisor == Some(true) {
        line.push_str(", virtual machine");
    }
    line
}

fn throughput(result: &RunResult) -> String {
    let achieved = result.summary.rate_achieved_per_s;
    match result.summary.rate_offered_per_s {
        Some(offered) if offered > 0.0 => {
            let percent = 100.0 * achieved / offered;
            format!("{} answered, {percent:.2} % of the {} asked for", rate(achieved), rate(offered))
        }
        _ => format!("{} answered", rate(achieved)),
    }
}

/// The verdict and, unless the run can be trusted, why not.
fn judgement(result: &RunResult, style: Style) -> String {
    let verdict = verdict::of(result);
    let title = verdict::title(&verdict);
    let line = labelled("verdict", &title, style);
    let line = match verdict.level {
        Level::Trusted => line,
        _ => style.warning(line.trim_end()) + "\n",
    };
    line + &verdict::reasons(&verdict, style)
}

/// What a reader must know before the numbers, and is no fault.
fn warnings(result: &RunResult) -> Vec<String> {
    let is_closed_loop = matches!(result.plan.mode, Mode::ClosedLoop { .. });
    let is_counted = result.environment.clock == Clock::Instructions;
    let all = [(is_counted, text::INSTRUCTION_TIME), (is_closed_loop, CLOSED_LOOP)];
    all.into_iter().filter(|(holds, _)| *holds).map(|(_, warning)| warning.to_owned()).collect()
}

/// Warnings as they are shown: each begins a line with `!`.
pub(super) fn show_warnings<'a>(warnings: impl IntoIterator<Item = &'a String>, style: Style) -> String {
    let mut text = String::new();
    for warning in warnings {
        let lines = wrap(&format!("! {}", printable(warning)), style.width_columns, 2);
        lines.lines().for_each(|line| text.extend([style.warning(line).as_str(), "\n"]));
    }
    text
}

/// Percentile `index` as a cell; a histogram without any samples has none to be too few.
pub(super) fn cell(histogram: &Histogram, inflation: &Inflation, index: usize, clock: Clock) -> String {
    match histogram.is_empty() {
        true => "-".to_owned(),
        false => percentile(inflation.percentile_ns(histogram, index), clock),
    }
}

/// The maximum and the number of samples.
pub(super) fn last_rows(histograms: &[&Histogram], clock: Clock) -> [Vec<String>; 2] {
    let row = |label: &str, cell: &dyn Fn(&Histogram) -> String| {
        let cells = histograms.iter().map(|histogram| cell(histogram));
        std::iter::once(label.to_owned()).chain(cells).collect()
    };
    let maximum = |histogram: &Histogram| {
        maximum_ns(histogram).map_or("-".to_owned(), |maximum_ns| clock.duration_ns(maximum_ns))
    };
    [row("max", &maximum), row("samples", &|histogram| count(histogram.len()))]
}

pub(super) fn headed(heading: &[&str], mut rows: Vec<Vec<String>>) -> String {
    rows.insert(0, heading.iter().map(|&text| text.to_owned()).collect());
    table(&rows)
}

/// Both kinds of latency, and beside the headline's percentiles their intervals.
fn latency_table(result: &RunResult, style: Style) -> String {
    let (headline, inflation) = (result.headline(), Inflation::of_run(result));
    let clock = result.environment.clock;
    let estimates = inflation.estimates(headline);
    let interval = |label: &str| {
        let estimate = estimates.iter().find(|estimate| estimate.percentile == label);
        estimate
            .map_or("-".to_owned(), |estimate| text::duration_range(estimate.low_ns, estimate.high_ns, clock))
    };
    let durations = [&result.latency.response, &result.latency.service];
    let mut rows = vec![
        ["latency", "response time", "service time"].map(str::to_owned).to_vec(),
        ["", "since intended", "since sent"].map(str::to_owned).to_vec(),
    ];
    for (index, (label, _)) in PERCENTILES.into_iter().enumerate() {
        let cells = durations.map(|histogram| cell(histogram, &inflation, index, clock));
        rows.push([&[label.to_owned()][..], &cells].concat());
    }
    rows.extend(last_rows(&durations, clock));
    let beside = if std::ptr::eq(headline, durations[0]) { 2 } else { 3 };
    for (index, row) in rows.iter_mut().enumerate() {
        let cell = match row[0].as_str() {
            _ if index == 0 => "95 % interval".to_owned(),
            label if PERCENTILES.iter().any(|&(percentile, _)| percentile == label) => interval(label),
            _ => String::new(),
        };
        row.insert(beside, cell);
    }
    table(&rows) + &effective_samples(&inflation, headline, style)
}

/// What the intervals rest on, in a sentence.
fn effective_samples(inflation: &Inflation, headline: &Histogram, style: Style) -> String {
    if headline.is_empty() {
        return String::new();
    }
    let at = |index| count(inflation.effective_samples(headline, index));
    let sentence = match inflation.is_measured() {
        true => {
            format!("Intervals count the samples as {} independent ones at p50, {} at p99.", at(0), at(3))
        }
        false => "Intervals take all samples as independent: there are too few batches to tell.".to_owned(),
    };
    wrap(&sentence, style.width_columns, 0) + "\n"
}

/// The durations that explain the others: few percentiles, since connections are few. Lags are of the same messages as the
/// durations above, and as dependent on each other.
fn side_table(result: &RunResult) -> String {
    let (latency, inflation, clock) = (&result.latency, Inflation::of_run(result), result.environment.clock);
    let mut rows = Vec::new();
    for (index, (label, quantile)) in PERCENTILES.into_iter().enumerate() {
        if [0.5, 0.99, 0.999].contains(&quantile) {
            let of_connections = |histogram| cell(histogram, &Inflation::UNKNOWN, index, clock);
            let mut row = vec![
                label.to_owned(),
                cell(&latency.lag, &inflation, index, clock),
                of_connections(&latency.connect),
            ];
            row.extend(latency.tls_handshake.as_ref().map(of_connections));
            row.push(of_connections(&latency.handshake));
            rows.push(row);
        }
    }
    let (mut names, mut histograms) =
        (vec!["", "generator lag", "TCP connect"], vec![&latency.lag, &latency.connect]);
    if let Some(tls_handshake) = &latency.tls_handshake {
        names.push("TLS handshake");
        histograms.push(tls_handshake);
    }
    names.push("handshake");
    histograms.push(&latency.handshake);
    rows.extend(last_rows(&histograms, clock));
    headed(&names, rows)
}

/// Response times (service times, where only those were measured) in steps of 1, 2, 5, as bars.
fn distribution(result: &RunResult, style: Style) -> String {
    let (latency, clock) = (&result.latency, result.environment.clock);
    let (name, histogram) = match latency.response.is_empty() {
        true => ("service", &latency.service),
        false => ("response", &latency.response),
    };
    let steps = steps_of(histogram);
    let Some(highest) = steps.iter().map(|&(_, _, count)| count).max() else { return String::new() };
    let labels: Vec<_> = steps
        .iter()
        .map(|&(from, to, _)| format!("{} to {}", clock.duration_ns(from), clock.duration_ns(to)))
        .collect();
    let label_columns = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let bar_columns = style.width_columns.saturating_sub(label_columns + 12).min(50);

    let mut text = format!("\n{name} times, share of all\n");
    for (label, (_, _, count)) in labels.iter().zip(steps) {
        let percent = 100.0 * count as f64 / histogram.len() as f64;
        let percent = if count > 0 && percent < 0.01 { "< 0.01".to_owned() } else { format!("{percent:.2}") };
        let bar = bar(count as f64 / highest as f64, bar_columns);
        let line = format!("{label:>label_columns$}  {percent:>6} %  {bar}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Counts between consecutive steps of 1, 2, 5, 10 … ns, from the first to the last that isn't empty.
fn steps_of(histogram: &Histogram) -> Vec<(u64, u64, u64)> {
    let edges = (0..14).flat_map(|power| [1, 2, 5].map(|factor| factor * 10_u64.pow(power)));
    let mut steps: Vec<_> = edges.clone().zip(edges.skip(1)).map(|(from, to)| (from, to, 0)).collect();
    for slot in histogram.iter_recorded() {
        // A slot may straddle an edge, by 0.1 % of its value; its lower end decides.
        let value_ns = histogram.lowest_equivalent(slot.value_iterated_to());
        let step = steps.partition_point(|&(from, _, _)| from <= value_ns) - 1;
        steps[step].2 += slot.count_at_value();
    }
    let is_filled = |&(_, _, count): &(u64, u64, u64)| count > 0;
    let first = steps.iter().position(is_filled).unwrap_or(0);
    let end = steps.iter().rposition(is_filled).map_or(0, |last| last + 1);
    steps[first..end].to_vec()
}

/// A bar of eighths of a column; whatever isn't nothing shows.
fn bar(share: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share * columns as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Where every message and connection went, what failed, and what it cost.
fn books(result: &RunResult, style: Style) -> String {
    let accounting = &result.accounting;
    let mut text = String::new();
    for (label, line) in [
        (
            "messages",
            format!(
                "{} offered = {} sent + {} unsent",
                count(accounting.offered),
                count(accounting.sent),
                count(accounting.unsent)
            ),
        ),
        (
            "",
            format!(
                "{} sent = {} answered ({} late) + {} outstanding",
                count(accounting.sent),
                count(accounting.answered),
                count(accounting.answered_late),
                count(accounting.outstanding)
            ),
        ),
        ("", format!("{} more during warm-up", count(accounting.warmup_messages))),
        (
            "connections",
            format!(
                "{} opened, {} failed",
                count(accounting.connections_opened),
                count(accounting.connections_failed)
            ),
        ),
        ("CPU", processor_time(result)),
    ] {
        text.push_str(&labelled(label, &line, style));
    }
    let errors = labelled("errors", &errors(accounting), style);
    text.push_str(&if accounting.errors.is_empty() {
        errors
    } else {
        style.warning(errors.trim_end()) + "\n"
    });
    text
}

fn errors(accounting: &Accounting) -> String {
    if accounting.errors.is_empty() {
        return "none".to_owned();
    }
    let classes =
        accounting.errors.iter().map(|(class, &number)| format!("{} × {}", count(number), printable(class)));
    classes.collect::<Vec<_>>().join(", ")
}

fn processor_time(result: &RunResult) -> String {
    let clock = result.environment.clock;
    let per_message =
        |ns: Option<f64>| ns.map_or("unknown".to_owned(), |ns| format!("{} a message", clock.duration(ns)));
    let load = per_message(result.cpu.load_ns_per_message(&result.accounting));
    let server = per_message(result.cpu.server_ns_per_message(&result.accounting));
    format!("server {server}; load {load}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::{HIGHEST_NS, new_histogram, record};

    #[test]
    fn every_value_falls_in_one_step_of_the_distribution() {
        let mut histogram = new_histogram();
        let values = [1, 2, 4, 5, 9, 10, 1_999, 2_000, 19_970_000, 20_030_000, HIGHEST_NS];
        values.into_iter().for_each(|value| record(&mut histogram, value));
        let steps = steps_of(&histogram);
        assert_eq!(steps.iter().map(|&(_, _, count)| count).sum::<u64>(), values.len() as u64);
        assert_eq!(steps[..4], [(1, 2, 1), (2, 5, 2), (5, 10, 2), (10, 20, 1)]);
        let at = |from| steps.iter().find(|step| step.0 == from).unwrap().2;
        assert_eq!((at(1_000), at(2_000), at(10_000_000), at(20_000_000)), (1, 1, 1, 1));
        assert_eq!(steps.last().unwrap().0, 2_000_000_000_000);
        assert_eq!(steps_of(&new_histogram()), []);
    }

    #[test]
    fn the_smallest_share_still_shows_and_the_largest_fills_the_bar() {
        assert_eq!([0.0, 1e-9, 0.5, 1.0].map(|share| bar(share, 3)), ["", "▏", "█▌", "███"]);
    }
}
