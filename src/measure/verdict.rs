//! Whether a run's numbers may be trusted, check by check.
//!
//! Invariant: a verdict is a pure function of a result: anybody who has the file can come to it again.

use serde::{Deserialize, Serialize};

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
