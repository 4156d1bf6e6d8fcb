//! What became of the conditions that a comparison was held to, in lines.
//!
//! Invariant: whatever is not kept is named with its cell, its group and what was seen.
//! Deliberately absent: what follows from it; exit statuses are the program's.

use super::super::Style;
use super::super::text::{counted, printable, wrap};
use super::{change_text, interval_text, short_labels};
use crate::compare::gate::{Check, Outcome};
use crate::compare::model::Comparison;

/// A line for each condition, and one for every check of it that was not kept.
pub fn render(comparison: &Comparison, checks: &[Check], style: Style) -> String {
    let short = short_labels(comparison);
    let mut conditions: Vec<&str> = Vec::new();
    for check in checks {
        if !conditions.contains(&check.condition.as_str()) {
            conditions.push(&check.condition);
        }
    }
    let mut text = String::new();
    for condition in conditions {
        let of_it: Vec<&Check> = checks.iter().filter(|check| check.condition == condition).collect();
        let kept = of_it.iter().filter(|check| check.outcome == Outcome::Kept).count() as u64;
        text.push_str(&format!(
            "{condition}: ruled out in {kept} of {}\n",
            counted(of_it.len() as u64, "pair")
        ));
        for check in of_it.into_iter().filter(|check| check.outcome != Outcome::Kept) {
            text.push_str(&format!("{}\n", wrap(&line(comparison, check, &short), style.width_columns, 4)));
        }
    }
    text
}

fn line(comparison: &Comparison, check: &Check, short: &[String]) -> String {
    let outcome = match check.outcome {
        Outcome::Broken => "REGRESSION",
        Outcome::CannotTell => "cannot tell",
        Outcome::NoData => "no data",
        Outcome::Unavailable => "n/a",
        Outcome::Kept => "ruled out",
    };
    let seen = check.seen.map(|(ratio, interval)| {
        let interval = interval.map_or("no interval with fewer than two boots".to_owned(), interval_text);
        format!(": {} {interval}", change_text(ratio))
    });
    let cell = printable(&comparison.cells[check.cell].label);
    format!("  {outcome}: {}, {cell}{}", short[check.group], seen.unwrap_or_default())
}
