//! What a series of runs came to: the last line of its manifest.
//!
//! Invariant: it follows from the series' plan and results alone, so that it can be found again from them.

use serde::{Deserialize, Serialize};

use super::verdict::Level;

/// By the kind of series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Repeated runs, compared.
    Rounds(Rounds),
    /// A search for the highest rate.
    Search(SearchFinding),
    /// Latency at a set of rates.
    Curve(CurveFinding),
}

/// What repeated runs came to; the numbers are in their results.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounds {
    /// Runs that were made.
    pub runs: u64,
    /// Of those, runs that measured nothing.
    pub failed: u64,
    /// Why the rest was not made.
    pub given_up: Option<String>,
}

/// The purpose of a step that is made for what it does to the server, not to be judged.
pub const OVERLOAD: &str = "overload";

/// What a search for the highest rate found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchFinding {
    /// What has to hold, as `p99<1ms`.
    pub condition: String,
    /// How close the two rates were to come: within this share of their middle.
    pub precision: f64,
    /// The highest rate at which it held; `None` if there was none.
    pub highest_pass_per_s: Option<f64>,
    /// The lowest rate at which it did not; `None` if there was none.
    pub lowest_fail_per_s: Option<f64>,
    /// What coming back from overload showed.
    pub descent: Descent,
    /// Every step, in order.
    pub steps: Vec<SearchStep>,
    /// Runs made.
    pub runs: u64,
    /// The time that they sent, warm-up included.
    pub sent_s: f64,
    /// Why the search ended early.
    pub ended_by: Option<String>,
}

/// A rate that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchStep {
    /// Why, in a word or two.
    pub purpose: String,
    /// The rate.
    pub rate_per_s: f64,
    /// Runs made at it; the histograms of those since it was last made anew are merged.
    pub runs: u64,
    /// Whether the condition held.
    pub passed: bool,
    /// It was not decided by a confidence interval, however often repeated, but by the value.
    pub by_value: bool,
    /// Each quantity of the condition, with its confidence interval, for people.
    pub figures: String,
    /// Why it failed.
    pub why: Option<String>,
    /// The 99th percentile of the generator's own lag, in nanoseconds.
    pub lag_p99_ns: Option<u64>,
    /// The worst verdict on any of its runs, if they were judged.
    pub level: Option<Level>,
    /// How often it was made anew, since it failed for what may have been the generator or the machine.
    #[serde(default)]
    pub made_anew: u64,
    /// It failed, and the verdict has this against the generator or the machine: the limit may be theirs.
    #[serde(default)]
    pub not_the_servers: Option<String>,
}

/// What coming back from a rate that fails to the highest that passed showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Descent {
    /// It was not tried: no rate passes, or none fails.
    NotMade,
    /// The rate passes again.
    Recovers,
    /// It failed after one overload and passed after another, or failed twice and passed a little further down: runs differ
    /// by as much.
    Unsteady,
    /// It fails after overload, twice.
    Hysteresis {
        /// The first rate further down that passes; `None` if none did.
        passes_per_s: Option<f64>,
        /// The lowest rate above that which failed on the way down.
        fails_per_s: f64,
    },
}

/// Latency at a set of rates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CurveFinding {
    /// What percentages are of, in messages a second; `None` if it was not needed, or not found.
    pub capacity_per_s: Option<f64>,
    /// How it was found, for people.
    pub capacity_from: Option<String>,
    /// One rate each, ascending.
    pub points: Vec<CurvePoint>,
    /// What followed each overload.
    pub recoveries: Vec<Recovery>,
    /// Why the rest was not run.
    pub ended_by: Option<String>,
}

/// Latency at one rate. Durations are in nanoseconds; a percentile with too few samples is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// As asked for, as `50%` or `20k`.
    pub label: String,
    /// Messages a second, by the schedule.
    pub offered_per_s: f64,
    /// More than the capacity, by intent.
    pub overload: bool,
    /// Messages answered a second.
    pub achieved_per_s: f64,
    /// At least 99 % of the messages due were answered within the window.
    pub kept_up: bool,
    /// Median response time.
    pub p50_ns: Option<u64>,
    /// Its 99th percentile.
    pub p99_ns: Option<u64>,
    /// Its 99.9th percentile.
    pub p999_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
    /// The server's processor time per message, where it can be seen.
    pub server_cpu_ns: Option<f64>,
    /// The generator's.
    pub load_cpu_ns: Option<f64>,
    /// The 99th percentile of the generator's own lag.
    pub lag_p99_ns: Option<u64>,
    /// Whether the generator spun: its lag then has a closer bound.
    #[serde(default)]
    pub spin: bool,
    /// The verdict on the run, if there is one.
    pub level: Option<Level>,
    /// Whether every message was sent and answered rightly.
    pub went_well: bool,
    /// Why nothing was measured.
    pub failed: Option<String>,
}

/// How a server came back from overload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// The overload, in messages a second.
    pub from_per_s: f64,
    /// What the rate fell back to.
    pub to_per_s: f64,
    /// Up to this response times count as recovered, in nanoseconds: twice the 99th percentile at that rate without
    /// overload before.
    pub bound_ns: Option<u64>,
    /// From when the rate fell until the 99th percentile of every later interval, or of three in a row, was below that;
    /// `None` if it never was.
    pub recovered_s: Option<f64>,
    /// How long was watched.
    pub watched_s: f64,
    /// How long an interval is: the recovery time is known no better.
    pub interval_s: f64,
    /// Why nothing was measured.
    pub failed: Option<String>,
}
