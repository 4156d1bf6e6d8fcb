//! What else differs between the groups than what they are compared by: what may be the reason comes first.
//!
//! Invariant: values that several groups share are written once. Deliberately absent: judging how a difference bears, which the
//! model says.

use super::View;
use super::markup::Markup;
use super::page::{self, column};
use crate::compare::model::{Bearing, EnvironmentDifference};

pub(super) fn show(page: &mut Markup, view: &View) {
    let mut differences: Vec<_> = view.comparison.environment.iter().collect();
    if differences.is_empty() {
        return page.leaf(
            "p",
            &[],
            "Machines and settings of all results are the same, as far as results record them.",
        );
    }
    differences.sort_by_key(|difference| difference.bearing);
    let head = |page: &mut Markup| {
        ["bears on it", "field", "value: where", "why"].iter().for_each(|title| column(page, title, ""));
    };
    let count = differences.iter().filter(|it| it.bearing == Bearing::Confounder).count();
    let title = match count {
        0 => "Nothing that could be the reason for a difference.".to_owned(),
        1 => "One setting that may be the reason for a difference.".to_owned(),
        _ => format!("{count} settings that may be the reason for a difference."),
    };
    page::table(page, &title, "", head, |page| {
        page.element("tbody", &[], |page| {
            differences.iter().for_each(|difference| row(page, view, difference))
        });
    });
}

fn row(page: &mut Markup, view: &View, difference: &EnvironmentDifference) {
    let (name, class) = match difference.bearing {
        Bearing::Confounder => ("confounder", "mark-worse"),
        Bearing::Expected => ("expected", "soft"),
        Bearing::Harmless => ("harmless", "soft"),
    };
    page.element("tr", &[], |page| {
        page.leaf("td", &[("class", class)], name);
        page.element("th", &[("scope", "row"), ("class", "path")], |page| {
            page.leaf("code", &[], &difference.field)
        });
        page.element("td", &[("class", "wrap")], |page| {
            for (value, groups) in by_value(difference) {
                page.element("div", &[], |page| {
                    match value {
                        Some(value) => page.leaf("code", &[], value),
                        None => page.leaf("span", &[("class", "soft")], "absent"),
                    }
                    let labels: Vec<_> = groups.iter().map(|&group| view.label(group)).collect();
                    page.leaf("span", &[("class", "soft")], &format!(": {}", labels.join(", ")));
                });
            }
        });
        page.leaf("td", &[("class", "wrap")], &difference.says);
    });
    page.line();
}

/// Each value once, in the order of the first group that has it.
fn by_value(difference: &EnvironmentDifference) -> Vec<(Option<&str>, Vec<usize>)> {
    let mut values: Vec<(Option<&str>, Vec<usize>)> = Vec::new();
    for (group, value) in difference.values.iter().enumerate() {
        match values.iter_mut().find(|it| it.0 == value.as_deref()) {
            Some(found) => found.1.push(group),
            None => values.push((value.as_deref(), vec![group])),
        }
    }
    values
}
