//! Whether a comparison keeps what somebody asked of it: `p99>+5%` fails if p99 rose by more than 5 %.
//!
//! Invariant: a condition is broken only where the whole 95 % interval of the ratio lies beyond its bound, and kept only where all of
//! it lies on this side; in between, the data cannot tell, and nobody is told that they can. A number that is not there is
//! neither.
//! Deliberately absent: a correction for many conditions at once. The bound says what is too much; the interval says how sure
//! each is, and one in forty sound ones of no margin at all is called broken.

use std::fmt;
use std::str::FromStr;

use super::difference::BOOTS_MIN;
use super::metric::{self, METRICS, Metric};
use super::model::{Column, Comparison, Measured};

/// A condition that fails a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// Of which metric.
    pub metric: &'static Metric,
    /// It fails above the bound, rather than below it.
    pub above: bool,
    /// The bound on the ratio to the baseline: 1.05 for `+5%`.
    pub bound: f64,
}

/// Why a text is no condition.
#[derive(Debug, thiserror::Error)]
pub enum ConditionError {
    /// Its form.
    #[error(
        "`{text}` is no condition: write a metric, > or <, and a change in per cent, as p99>+5% or rate<-3%"
    )]
    Form {
        /// The text.
        text: String,
    },
    /// Its metric.
    #[error("there is no metric `{name}`: take one of {}", METRICS.map(|metric| metric.name).join(", "))]
    Metric {
        /// Its name.
        name: String,
    },
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Condition, ConditionError> {
        let form = || ConditionError::Form { text: text.to_owned() };
        let at = text.find(['<', '>']).ok_or_else(form)?;
        let (name, rest) = (text[..at].trim(), text[at + 1..].trim());
        let number = rest.strip_suffix('%').ok_or_else(form)?.trim();
        let percent: f64 = number.parse().map_err(|_| form())?;
        // Nothing falls by a hundred per cent or more.
        if !percent.is_finite() || percent <= -100.0 {
            return Err(form());
        }
        let metric = metric::named(name).ok_or_else(|| ConditionError::Metric { name: name.to_owned() })?;
        Ok(Condition { metric, above: text[at..].starts_with('>'), bound: 1.0 + percent / 100.0 })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.above { '>' } else { '<' };
        // What was typed, and not what is left of it in binary.
        let percent = ((self.bound - 1.0) * 1e8).round() / 1e6;
        write!(formatter, "{}{sign}{percent:+}%", self.metric.name)
    }
}

/// What became of a condition in one cell and group; in order, so that the worst of several is the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The whole interval is on the right side.
    Kept,
    /// It cannot be had there.
    Unavailable,
    /// The interval lies across the bound, or there is none for want of boots.
    CannotTell,
    /// There is no such number, in the group or in the baseline.
    NoData,
    /// The whole interval is beyond the bound.
    Broken,
}

/// A condition in one cell and group.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The condition, as text.
    pub condition: String,
    /// The index of the cell.
    pub cell: usize,
    /// The index of the group.
    pub group: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// The ratio and its interval, where they are there.
    pub seen: Option<(f64, Option<(f64, f64)>)>,
}

/// Holds every cell of every group but the baseline to every condition.
pub fn check(comparison: &Comparison, conditions: &[Condition]) -> Vec<Check> {
    let mut checks = Vec::new();
    for condition in conditions {
        for (cell, columns) in comparison.cells.iter().map(|cell| &cell.columns).enumerate() {
            for group in (0..columns.len()).filter(|&group| group != comparison.baseline) {
                let (outcome, seen) = judge(condition, &columns[comparison.baseline], &columns[group]);
                checks.push(Check { condition: condition.to_string(), cell, group, outcome, seen });
            }
        }
    }
    checks
}

type Seen = Option<(f64, Option<(f64, f64)>)>;

fn judge(condition: &Condition, baseline: &Column, column: &Column) -> (Outcome, Seen) {
    let measured = match (baseline, column) {
        (Column::Unavailable { .. }, _) | (_, Column::Unavailable { .. }) => {
            return (Outcome::Unavailable, None);
        }
        (Column::Measured(_), Column::Measured(measured)) => measured,
        _ => return (Outcome::NoData, None),
    };
    let Some((ratio, interval)) = difference(condition, measured) else { return (Outcome::NoData, None) };
    let Some((low, high)) = interval else { return (Outcome::CannotTell, Some((ratio, None))) };
    let boots = baseline.measured().map_or(0, |base| base.boots.min(measured.boots));
    if boots < BOOTS_MIN {
        return (Outcome::CannotTell, Some((ratio, interval)));
    }
    let (broken, kept) = match condition.above {
        true => (low > condition.bound, high <= condition.bound),
        false => (high < condition.bound, low >= condition.bound),
    };
    let outcome = match (broken, kept) {
        (true, _) => Outcome::Broken,
        (_, true) => Outcome::Kept,
        _ => Outcome::CannotTell,
    };
    (outcome, Some((ratio, interval)))
}

fn difference(condition: &Condition, measured: &Measured) -> Seen {
    let of_metric =
        measured.differences.iter().find(|difference| difference.metric == condition.metric.name)?;
    of_metric.ratio.is_finite().then_some((of_metric.ratio, of_metric.interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::model::Difference;

    #[test]
    fn a_condition_is_read_as_it_is_written_and_anything_else_is_refused() {
        for text in ["p99>+5%", "rate<-3%", "p99.9>+0.5%", "server-cpu>+0%"] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        assert_eq!(" p50 > 5 % ".parse::<Condition>().unwrap().to_string(), "p50>+5%");
        for text in ["", "p99", "p99>", "p99>5", "p99>x%", "p99=5%", "p99<-100%", "p99>NaN%", "p99>inf%"] {
            let error = text.parse::<Condition>().unwrap_err().to_string();
            assert!(error.contains("is no condition"), "{text}: {error}");
        }
        let error = "p42>+5%".parse::<Condition>().unwrap_err().to_string();
        assert!(error.contains("`p42`") && error.contains("server-cpu"), "{error}");
    }

    #[test]
    fn only_a_whole_interval_beyond_the_bound_breaks_a_condition() {
        let column = |interval| {
            let ratio = 1.06;
            let difference =
                Difference { metric: "p99".to_owned(), ratio, interval, ..Difference::default() };
            let differences = vec![difference];
            Column::Measured(Box::new(Measured { boots: 4, differences, ..Measured::default() }))
        };
        let outcome =
            |text: &str, interval| judge(&text.parse().unwrap(), &column(None), &column(interval)).0;
        assert_eq!(outcome("p99>+5%", Some((1.051, 1.2))), Outcome::Broken);
        assert_eq!(outcome("p99>+5%", Some((1.01, 1.2))), Outcome::CannotTell);
        assert_eq!(outcome("p99>+5%", Some((1.01, 1.04))), Outcome::Kept);
        assert_eq!(outcome("p99>+5%", None), Outcome::CannotTell);
        assert_eq!(outcome("p99<-3%", Some((0.9, 0.96))), Outcome::Broken);
        assert_eq!(outcome("p99<-3%", Some((0.98, 1.2))), Outcome::Kept);
        assert_eq!(outcome("rate<-3%", Some((0.9, 0.96))), Outcome::NoData);
        let missing = Column::Missing { reason: String::new() };
        let unavailable = Column::Unavailable { reason: String::new() };
        let condition = "p99>+5%".parse().unwrap();
        assert_eq!(judge(&condition, &column(None), &missing).0, Outcome::NoData);
        assert_eq!(judge(&condition, &unavailable, &column(None)).0, Outcome::Unavailable);
    }
}
