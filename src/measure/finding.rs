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
    /// Runs made at it, whose histograms are merged.
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
