//! Several runs, as their reader sees them when the last has ended.
//!
//! Invariant: what was left out is said where its absence shows; a difference that noise would explain is marked as such.
//! Deliberately absent: any run's own report. [`super::terminal`] has it.

use std::path::Path;

use super::Style;
use super::terminal::of_clock;
use super::text::{INSTRUCTION_TIME, count, counted, printable, rate, ratio, table, wrap};
use crate::measure::environment::Clock;
use crate::measure::finding::{Descent, OVERLOAD, SearchFinding, SearchStep};
use crate::measure::histogram;
use crate::measure::rounds::{self, Contender, Figures, Metric, Ratio, Spread, percentile_ns};
use crate::measure::verdict::Level;

/// Rounds below which an interval made of them is so wide that it hardly says anything.
const ROUNDS_FOR_INTERVALS: usize = 5;

/// Repeated runs to be shown.
pub struct Comparison<'a> {
    /// What is compared; the others are compared with the first.
    pub contenders: &'a [Contender],
    /// Runs that were to be made.
    pub planned: usize,
    /// Rounds were interleaved, and so are compared one by one.
    pub interleaved: bool,
    /// What durations are made of.
    pub clock: Clock,
    /// Of the order and the arrivals.
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
        "{} of {}{}{order}; seed {}",
        counted_of(made, &of),
        counted(contenders.len() as u64, "contender"),
        of_clock(comparison.clock),
        comparison.seed
    );
    let mut text = format!("{}\n", style.bold(&wrap(&title, style.width_columns, 2)));
    text.push_str(&notes(comparison, style));
    text.push('\n');
    text.push_str(&merged(contenders, comparison.clock));
    text.push('\n');
    text.push_str(&spreads(contenders, comparison.clock));
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
    if comparison.clock == Clock::Instructions {
        lines.push(INSTRUCTION_TIME.to_owned());
    }
    for contender in comparison.contenders {
        let failed = contender.failed.iter().map(|(round, why)| (*round, why.as_str(), "failed"));
        let left_out =
            contender.runs.iter().filter_map(|run| Some((run.round, run.left_out.as_deref()?, "left out")));
        for (round, why, what) in failed.chain(left_out) {
            lines.push(format!("{what}: {}, round {}: {why}", contender.label, round + 1));
        }
    }
    for contender in comparison.contenders.iter().filter(|_| comparison.contenders.len() > 1) {
        if let Some((made, kept)) = contender.kept_too_few() {
            lines.push(format!(
                "{}: {kept} of {made} rounds count, fewer than three quarters, and those may be the ones that went well: it is \
                 not compared",
                contender.label
            ));
        }
    }
    let all = comparison.contenders.iter().flat_map(Contender::kept);
    let closed = all.clone().filter(|run| run.closed_loop).count();
    if closed > 0 && closed == all.count() {
        lines.push(crate::measure::verdict::CLOSED_LOOP.to_owned());
    } else if closed > 0 {
        lines.push(
            "open and closed loops: their latencies are not comparable, nor are their merged ones".to_owned(),
        );
    }
    let fewest = comparison.contenders.iter().map(|contender| contender.kept().len()).min().unwrap_or(0);
    if comparison.contenders.len() > 1 && fewest < ROUNDS_FOR_INTERVALS {
        lines.push(format!(
            "fewer than {ROUNDS_FOR_INTERVALS} runs of each: the intervals are wide; give a higher --runs"
        ));
    }
    super::terminal::show_warnings(&lines, style)
}

fn percentile_cell(kept: &[&Figures], quantile: f64, clock: Clock) -> String {
    match kept.iter().all(|run| run.headline.is_empty()) {
        true => "-".to_owned(),
        false => {
            percentile_ns(kept, quantile).map_or("too few".to_owned(), |value_ns| clock.duration_ns(value_ns))
        }
    }
}

/// All runs of each contender together.
fn merged(contenders: &[Contender], clock: Clock) -> String {
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
        let metric =
            |metric: Metric| metric.of(&kept).map_or("-".to_owned(), |value| show(metric, value, clock));
        let mut row = vec![printable(&contender.label), kept.len().to_string()];
        row.extend([0.5, 0.9, 0.99, 0.999].map(|quantile| percentile_cell(&kept, quantile, clock)));
        row.push(
            histogram::maximum_ns(&merged).map_or("-".to_owned(), |maximum_ns| clock.duration_ns(maximum_ns)),
        );
        row.push(metric(Metric::Rate));
        row.push(metric(Metric::ServerCpu));
        row.push(metric(Metric::LoadCpu));
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

/// What is compared beyond the merged percentiles, by name.
const COMPARED: [(&str, Metric); 4] = [
    ("p50", Metric::Percentile(0.5)),
    ("p99", Metric::Percentile(0.99)),
    ("server CPU a message", Metric::ServerCpu),
    ("rate", Metric::Rate),
];

/// A metric's value, in its unit.
fn show(metric: Metric, value: f64, clock: Clock) -> String {
    match metric {
        Metric::Rate => rate(value),
        Metric::Percentile(_) | Metric::ServerCpu | Metric::LoadCpu => clock.duration(value),
    }
}

/// How far single runs lie apart.
fn spreads(contenders: &[Contender], clock: Clock) -> String {
    let mut rows = vec![headings("single runs: min – median – max")];
    for contender in contenders {
        let mut row = vec![printable(&contender.label)];
        for (_, metric) in COMPARED {
            let shown = |Spread { min, median, max }| {
                [min, median, max].map(|value| show(metric, value, clock)).join(" – ")
            };
            row.push(contender.spread(metric).map_or("-".to_owned(), shown));
        }
        rows.push(row);
    }
    table(&rows)
}

fn headings(first: &str) -> Vec<String> {
    [first].into_iter().chain(COMPARED.map(|(name, _)| name)).map(str::to_owned).collect()
}

fn ratios(comparison: &Comparison<'_>) -> String {
    let [base, others @ ..] = comparison.contenders else { return String::new() };
    let over = |contender: &Contender| {
        COMPARED.map(|(_, metric)| contender.over(base, metric, comparison.interleaved))
    };
    let mut found: Vec<_> = others.iter().map(over).collect();
    rounds::mark_noise(found.iter_mut().flatten().flatten());
    let mut rows = vec![headings(&format!("over {}", printable(&base.label)))];
    for (contender, found) in others.iter().zip(&found) {
        let cells = found.map(|ratio| ratio.map_or("-".to_owned(), ratio_cell));
        rows.push([printable(&contender.label)].into_iter().chain(cells).collect());
    }
    let shown: Vec<Ratio> = found.into_iter().flatten().flatten().collect();
    let Some(fewest) = shown.iter().map(|ratio| ratio.rounds).min() else { return table(&rows) };
    let (of, unit) = if comparison.interleaved { ("ratios of rounds", "rounds") } else { ("runs", "runs") };
    let note = format!(
        "geometric means [95 % t-intervals over the {of}: {} {unit} or more, each by itself]\n~: no difference beyond the \
         noise, of all {} together; ±: the smallest that could have shown\n",
        count(fewest as u64),
        shown.len()
    );
    table(&rows) + &note
}

/// `0.912 [0.900, 0.925]`, or `~ 1.002 [0.981, 1.023] ±2.1 %`.
fn ratio_cell(found: Ratio) -> String {
    let ends =
        found.interval.map_or(String::new(), |(low, high)| format!(" [{}, {}]", ratio(low), ratio(high)));
    let resolution = found.resolution().filter(|_| found.is_noise);
    let resolution = resolution.map_or(String::new(), |share| format!(" ±{:.1} %", 100.0 * share));
    let mark = if found.is_noise { "~ " } else { "" };
    format!("{mark}{}{ends}{resolution}", ratio(found.value))
}

/// What a search for the highest rate found, ending in a newline.
pub fn render_search(
    found: &SearchFinding,
    server_is_embedded: bool,
    clock: Clock,
    folder: &Path,
    style: Style,
) -> String {
    let answer = match (found.highest_pass_per_s, found.lowest_fail_per_s) {
        (Some(pass), Some(fail)) => {
            format!("{} holds up to {}, and fails at {}", found.condition, rate(pass), rate(fail))
        }
        (Some(pass), None) => {
            format!("{} holds at {}, and was not seen to fail", found.condition, rate(pass))
        }
        (None, Some(fail)) => {
            format!("{} holds at no rate that was tried, down to {}", found.condition, rate(fail))
        }
        (None, None) => format!("{}: nothing was measured", found.condition),
    };
    let answer = answer + of_clock(clock);
    let mut text = format!("{}\n", style.bold(&wrap(&answer, style.width_columns, 2)));
    let counted_not_timed = (clock == Clock::Instructions).then(|| INSTRUCTION_TIME.to_owned());
    let notes = counted_not_timed.into_iter().chain(search_notes(found, server_is_embedded));
    text.push_str(&super::terminal::show_warnings(&notes.collect::<Vec<_>>(), style));
    let recovery = recovery(found, server_is_embedded);
    if !recovery.is_empty() {
        text.push_str(&format!("{}\n", wrap(&recovery, style.width_columns, 2)));
    }
    text.push('\n');
    let heading = ["step", "rate", "runs", "", "judged by", "generator lag p99"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (index, step) in found.steps.iter().enumerate() {
        let judged = match &step.why {
            Some(why) if !step.figures.contains(why.split(" was ").next().unwrap_or(why)) => {
                format!("{why}; {}", step.figures)
            }
            _ => step.figures.clone(),
        };
        rows.push(vec![
            format!("{}. {}", index + 1, step.purpose),
            rate(step.rate_per_s),
            step.runs.to_string(),
            match step.purpose == OVERLOAD {
                true => "-".to_owned(),
                false => format!(
                    "{}{}",
                    if step.passed { "pass" } else { "FAIL" },
                    if step.by_value { " *" } else { "" }
                ),
            },
            printable(&judged),
            step.lag_p99_ns.map_or("-".to_owned(), |lag_ns| clock.duration_ns(lag_ns)),
        ]);
    }
    text.push_str(&table(&rows));
    if found.steps.iter().any(|step| step.by_value && step.purpose != OVERLOAD) {
        text.push_str(
            "*: the bound lies within the confidence interval however often repeated: judged by the value\n",
        );
    }
    text.push_str(&format!(
        "\n{}, {:.0} s of load\nsaved {}\n",
        counted(found.runs, "run"),
        found.sent_s,
        folder.display()
    ));
    text
}

/// That the server came back from overload, and from which.
fn recovery(found: &SearchFinding, server_is_embedded: bool) -> String {
    let overload = found.steps.iter().rev().find(|step| step.purpose == OVERLOAD);
    let from = overload.map_or(String::new(), |step| format!(" of {}", rate(step.rate_per_s)));
    match (&found.descent, server_is_embedded) {
        (Descent::Recovers, false) => {
            format!(
                "right after an overload{from}, on new connections, the highest rate passes again: no hysteresis"
            )
        }
        (Descent::Recovers, true) => format!(
            "after an overload{from} the highest rate passes again; each step had a server started anew, so hysteresis cannot \
             show: give a URL for that"
        ),
        _ => String::new(),
    }
}

/// What a reader must know before the steps.
fn search_notes(found: &SearchFinding, server_is_embedded: bool) -> Vec<String> {
    let mut lines: Vec<String> = found.ended_by.iter().map(|why| format!("ended early: {why}")).collect();
    match &found.descent {
        Descent::Hysteresis { passes_per_s, fails_per_s } if !server_is_embedded => lines.push(match passes_per_s {
            Some(passes) => format!(
                "hysteresis: coming back from overload it fails at {}, and passes at {} only",
                rate(*fails_per_s),
                rate(*passes)
            ),
            None => format!("hysteresis: coming back from overload it fails down to {}", rate(*fails_per_s)),
        }),
        Descent::Unsteady | Descent::Hysteresis { .. } => lines.push(
            "unsteady: the highest rate failed when it was tried again; runs differ by more than the interval shows".to_owned(),
        ),
        Descent::NotMade | Descent::Recovers => {}
    }
    if found.steps.iter().any(|step| step.purpose == OVERLOAD && step.passed) {
        lines.push(
            "unsteady: the overload, at half as much again as the highest rate that passed, passed too"
                .to_owned(),
        );
    }
    let is_lowest_fail = |step: &&SearchStep| {
        !step.passed && Some(step.rate_per_s) == found.lowest_fail_per_s && step.purpose != OVERLOAD
    };
    let lowest_fail = found.steps.iter().find(is_lowest_fail);
    if let Some((step, why)) = lowest_fail.and_then(|step| Some((step, step.not_the_servers.as_ref()?))) {
        lines.push(format!(
            "the limit at {} is the generator's or the machine's, not the server's: {why}",
            rate(step.rate_per_s)
        ));
    }
    let invalid = found.steps.iter().filter(|step| step.passed && step.level == Some(Level::Invalid)).count();
    if invalid > 0 {
        lines.push(format!(
            "{} passed with runs whose verdict is INVALID: see their results",
            counted(invalid as u64, "step")
        ));
    }
    lines
}
