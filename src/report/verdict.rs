//! A verdict as people read it: one line, and one for each reason.
//!
//! Invariant: no report shows a run's numbers without it. Deliberately absent: the checks (see [`crate::measure::verdict`]).

use std::borrow::Cow;

use super::Style;
use super::terminal::show_warnings;
use crate::measure::result::RunResult;
use crate::measure::verdict::{Level, Verdict, judge};

/// The verdict that a result came with; of a file older than verdicts, the one it can still get.
pub fn of(result: &RunResult) -> Cow<'_, Verdict> {
    result.verdict.as_ref().map_or_else(|| Cow::Owned(judge(result)), Cow::Borrowed)
}

/// `TRUSTED (24 checks)`, or `SUSPECT (2 of 24 checks failed)`.
pub fn title(verdict: &Verdict) -> String {
    let (failed, made) = (verdict.reasons().len(), verdict.findings.len());
    match verdict.level {
        Level::Trusted => format!("{} ({made} checks)", verdict.level.name()),
        _ => format!("{} ({failed} of {made} checks failed)", verdict.level.name()),
    }
}

/// The reasons, the worst first, a line or more each; nothing for a trusted run.
pub(super) fn reasons(verdict: &Verdict, style: Style) -> String {
    let line = |finding: &&crate::measure::verdict::Finding| {
        format!("{} {}: {}", finding.level.name(), finding.check, finding.says)
    };
    show_warnings(&verdict.reasons().iter().map(line).collect::<Vec<_>>(), style)
}
