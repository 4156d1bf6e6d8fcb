//! A judgement on the run so far, from what a snapshot shows.
//!
//! Invariant: of what has happened so far, milder than the verdict would be, never harsher: it sees less. It names what can be
//! seen to go wrong while there is still time to stop. Deliberately absent: everything that needs the whole run (steadiness, the arrival
//! process, enough samples).

use std::time::Duration;

use super::model::{Counts, Model};
use crate::measure::steadiness::{ACHIEVED_SHARE_MIN, early_mean, in_flight};
use crate::measure::verdict::{Finding, LAG_SHARE_OF_MEDIAN, Level, Verdict};
use crate::report::text;

/// Of the messages, those that the generator may be late for.
pub(super) const LAGGING_SHARE_MAX: f64 = 0.01;
/// Of a CPU, what may be stolen.
pub(super) const STEAL_SHARE_MAX: f64 = 0.01;
/// From here on a clock tick more or less, a hundredth of a second, decides nothing about that.
const STEAL_AFTER: Duration = Duration::from_secs(3);

/// The verdict so far; `None` while there is nothing to judge.
pub(super) fn judge(model: &Model) -> Option<Verdict> {
    if model.whole.sent == 0 {
        return None;
    }
    let findings: Vec<Finding> = [errors(model), rate(model), lag(model), shared_cpus(model), steal(model)]
        .into_iter()
        .flatten()
        .collect();
    let level = findings.iter().map(|finding| finding.level).max()?;
    Some(Verdict { level, findings })
}

fn finding(check: &str, holds: bool, otherwise: Level, says: String) -> Finding {
    Finding { check: check.to_owned(), level: if holds { Level::Trusted } else { otherwise }, says }
}

fn errors(model: &Model) -> Option<Finding> {
    let errors = model.whole.errors;
    // How bad they are, only their classes tell: a lost connection is less than a wrong answer.
    Some(finding("errors", errors == 0, Level::Suspect, text::counted(errors, "error")))
}

fn rate(model: &Model) -> Option<Finding> {
    let (whole, length_s) = (&model.whole, model.whole.length.as_secs_f64());
    let offered = model.header.offered_per_s? * length_s;
    let answered = whole.answered as f64;
    let sum_ns = |counts: &Counts| counts.iter().map(|(value_ns, count)| (value_ns * count) as f64).sum();
    // While nothing was answered, how much is rightly in flight is not known.
    let early_ns = early_mean(model.points.iter().map(|point| (point.counts.len(), sum_ns(&point.counts))))?;
    let in_flight = in_flight(answered, offered, early_ns / 1e9, length_s);
    let unanswered = whole.sent.saturating_sub(whole.answered) as f64;
    let share = (answered + unanswered.min(in_flight)) / offered.max(1e-9);
    // Arrivals by chance differ from their mean, and so do messages in flight: three standard deviations of their number.
    let chance = 3.0 * (offered + 2.0 * in_flight).max(1.0).sqrt() / offered.max(1.0);
    let says = format!("{:.1} % of the rate asked for is answered", 100.0 * share);
    Some(finding("achieved-rate", share >= ACHIEVED_SHARE_MIN - chance, Level::Suspect, says))
}

fn lag(model: &Model) -> Option<Finding> {
    let share = model.lagging_share()?;
    let bound = text::duration_ns(model.header.lag_bound_ns);
    let says = format!("the generator is over {bound} late for {:.1} % of messages", 100.0 * share);
    // By how much is not known; where the bound itself is next to nothing beside the median, it may not matter.
    let median_ns = model.whole.counts.percentile_ns(0.5).unwrap_or(0) as f64;
    let may_not_matter = (model.header.lag_bound_ns as f64) < LAG_SHARE_OF_MEDIAN * median_ns;
    Some(finding("generator-lag", share <= LAGGING_SHARE_MAX || may_not_matter, Level::Suspect, says))
}

fn shared_cpus(model: &Model) -> Option<Finding> {
    let shared = model.header.shared_cpus();
    let says = "server and generator share a CPU".to_owned();
    Some(finding("shared-cpu", shared.is_empty(), Level::Suspect, says))
}

fn steal(model: &Model) -> Option<Finding> {
    if model.measured() < STEAL_AFTER {
        return None;
    }
    let ours = |cpu: &usize| model.header.load_cpus.contains(cpu) || model.header.server_cpus.contains(cpu);
    let worst = model.cpus.iter().filter(|share| ours(&share.cpu));
    let worst = worst.max_by(|a, b| a.steal_so_far.total_cmp(&b.steal_so_far))?;
    let says = format!("the hypervisor took {:.1} % of CPU {}", 100.0 * worst.steal_so_far, worst.cpu);
    Some(finding("steal", worst.steal_so_far <= STEAL_SHARE_MAX, Level::Suspect, says))
}
