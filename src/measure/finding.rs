//! What a series of runs came to: the last line of its manifest.
//!
//! Invariant: it follows from the series' plan and results alone, so that it can be found again from them.

use serde::{Deserialize, Serialize};

/// By the kind of series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Repeated runs, compared.
    Rounds(Rounds),
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
