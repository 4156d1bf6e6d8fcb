//! Whether a run's numbers may be trusted, check by check.
//!
//! Invariant: a verdict is a pure function of a result: anybody who has the file can come to it again. A check that cannot be
//! made, for want of what it needs, makes no finding; where that should not be so, another one says it.
//! Under a clock that counts instructions, of one CPU that generator and server share, a check of who ran where and when has
//! nothing to tell, and is not made; what such a run's numbers are is said instead.
//! Deliberately absent: opinions on the server. That it is slow is what a run is made to find out; a check fails where
//! the numbers then mean something else than they seem to.

mod books;
mod conditions;
mod generator;
mod machine;
mod numbers;

pub use generator::{LAG_SHARE_OF_MEDIAN, lag_bound_ns};
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use Under::{Any, Instructions, RealTime};

use super::environment::Clock;
use super::evidence::Evidence;
use super::result::{Mode, RunResult};
use super::samples::Inflation;

/// What must stand beside every latency of a closed loop.
pub const CLOSED_LOOP: &str =
    "closed loop: peak throughput; latencies are not comparable with open-loop ones";

/// How far a run can be trusted; in order, so that the worst of several is the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Every check passed.
    Trusted,
    /// The numbers may be right, but something that could have bent them was seen.
    Suspect,
    /// The numbers do not say what they seem to.
    Invalid,
}

/// The verdict on a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst of all findings.
    pub level: Level,
    /// Every check that could be made, those that passed as well.
    pub findings: Vec<Finding>,
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's name, as `generator-lag`.
    pub check: String,
    /// Its result.
    pub level: Level,
    /// In a sentence: what was seen, against which bound, and (unless it passed) what would mend it.
    pub says: String,
}

impl Level {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Level::Trusted => "TRUSTED",
            Level::Suspect => "SUSPECT",
            Level::Invalid => "INVALID",
        }
    }
}

impl Verdict {
    /// Whether it is enough for somebody who, if `strict`, takes TRUSTED runs only, and else any.
    pub fn satisfies(&self, strict: bool) -> bool {
        !strict || self.level == Level::Trusted
    }

    /// The findings of checks that failed, the worst first.
    pub fn reasons(&self) -> Vec<&Finding> {
        let mut reasons: Vec<_> =
            self.findings.iter().filter(|finding| finding.level != Level::Trusted).collect();
        reasons.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        reasons
    }
}

/// What a check found; `None` if it does not apply, or lacks what it needs.
type Found = Option<(Level, String)>;

/// The clocks under which a check means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Under {
    /// Whatever durations are made of.
    Any,
    /// Time only: it is about CPUs apart, or about how promptly something came.
    RealTime,
    /// Instructions only.
    Instructions,
}

impl Under {
    fn holds(self, clock: Clock) -> bool {
        match self {
            Under::Any => true,
            Under::RealTime => clock == Clock::Real,
            Under::Instructions => clock == Clock::Instructions,
        }
    }
}

/// A check's name, when it is made, and the check.
type Check = (&'static str, Under, fn(&Case) -> Found);

/// Every check, in the order of their findings. A new one is a function and a line here, which says under which clocks.
const CHECKS: [Check; 31] = [
    // What became of the run and of every message.
    ("outcome", Any, books::outcome),
    ("books", Any, books::books),
    ("answers", Any, books::answers),
    ("unanswered", Any, books::unanswered),
    ("unsent", Any, books::unsent),
    ("connections", Any, books::connections),
    ("rate", Any, books::rate),
    ("held-back", Any, books::held_back),
    // What lay below the messages.
    ("compression", Any, conditions::compression),
    ("kernel-tls", Any, conditions::kernel_tls),
    // The generator. With one CPU for both ends it works, and is late, as the server lets it.
    ("evidence", Any, generator::evidence),
    ("generator-lag", RealTime, generator::lag),
    ("arrivals", RealTime, generator::arrivals),
    ("generator-cpu", RealTime, generator::cpu),
    ("waiting", RealTime, generator::waiting),
    ("preemption", RealTime, generator::preemption),
    ("page-faults", Any, generator::page_faults),
    ("calibration", RealTime, generator::calibration),
    ("mode", Any, generator::mode),
    // The machine. Under a quota a guest holds threads up by its own clock, whatever that counts.
    ("shared-cpus", RealTime, machine::shared_cpus),
    ("neighbours", RealTime, machine::neighbours),
    ("steal", RealTime, machine::steal),
    ("throttling", Any, machine::throttling),
    ("clock", Any, machine::clock),
    ("instruction-time", Instructions, machine::instruction_time),
    ("build", Any, machine::build),
    // The numbers.
    ("window", Any, numbers::window),
    ("range", Any, numbers::range),
    ("samples", Any, numbers::samples),
    ("drift", Any, numbers::drift),
    ("stalls", Any, numbers::stalls),
];

/// Judges a run by all that its result holds.
pub fn judge(result: &RunResult) -> Verdict {
    let case = Case::of(result);
    let finding = |&(check, under, find): &Check| {
        let (level, says) = under.holds(case.clock()).then(|| find(&case))??;
        Some(Finding { check: check.to_owned(), level, says })
    };
    let findings: Vec<Finding> = CHECKS.iter().filter_map(finding).collect();
    let level = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Suspect);
    Verdict { level, findings }
}

/// A result, and what several checks need of it.
struct Case<'a> {
    result: &'a RunResult,
    evidence: Option<&'a Evidence>,
    inflation: Inflation,
    /// How long the measured window really was.
    window_s: f64,
    /// The rate asked for; `None` in a closed loop.
    offered_per_s: Option<f64>,
    /// CPUs of the generator's threads.
    load_cpus: BTreeSet<u64>,
    /// CPUs of the server, where they are known.
    server_cpus: Option<BTreeSet<u64>>,
}

impl<'a> Case<'a> {
    fn of(result: &'a RunResult) -> Self {
        let evidence = result.evidence.as_ref();
        let of_threads =
            evidence.iter().flat_map(|evidence| evidence.threads.iter().map(|thread| thread.cpu));
        let load_cpus = result.target.load_cpus.as_deref().map(cpu_list);
        Case {
            result,
            evidence,
            inflation: Inflation::of_run(result),
            window_s: result.summary.measured_s,
            offered_per_s: match result.plan.mode {
                Mode::OpenLoop { rate_per_s, .. } => Some(rate_per_s),
                Mode::ClosedLoop { .. } => None,
            },
            load_cpus: load_cpus.unwrap_or_else(|| of_threads.collect()),
            server_cpus: result.target.server_cpus.as_deref().map(cpu_list),
        }
    }

    /// What its durations are made of.
    fn clock(&self) -> Clock {
        self.result.environment.clock
    }

    /// A share of the window.
    fn share(&self, time_s: f64) -> f64 {
        if self.window_s > 0.0 { time_s / self.window_s } else { 0.0 }
    }
}

/// The CPUs in a list such as `0,2-3`. What is no number is left out.
fn cpu_list(text: &str) -> BTreeSet<u64> {
    /// More than any kernel can have; a file may say anything.
    const CPUS_MAX: u64 = 1 << 16;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u64 = first.trim().parse().ok()?;
        let last: u64 = last.trim().parse().ok()?;
        Some(first..last.saturating_add(1).min(first.saturating_add(CPUS_MAX)))
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// CPUs as a list: `0, 2, 3`.
fn listed<'a>(cpus: impl IntoIterator<Item = &'a u64>) -> String {
    cpus.into_iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn trusted(says: impl Into<String>) -> Found {
    Some((Level::Trusted, says.into()))
}

fn suspect(says: impl Into<String>) -> Found {
    Some((Level::Suspect, says.into()))
}

fn invalid(says: impl Into<String>) -> Found {
    Some((Level::Invalid, says.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_whatever_a_file_says() {
        assert_eq!(listed(&cpu_list("0,2-4, 9")), "0, 2, 3, 4, 9");
        assert_eq!(listed(&cpu_list("")), "");
        assert_eq!(listed(&cpu_list("x,3,-1,5-4")), "3");
        assert!(cpu_list("0-18446744073709551615").len() <= 1 << 16);
    }

    #[test]
    fn checks_have_names_of_their_own_and_levels_are_in_order() {
        let names: BTreeSet<_> = CHECKS.iter().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), CHECKS.len());
        assert!(Level::Trusted < Level::Suspect && Level::Suspect < Level::Invalid);
    }
}
