//! What each switch does on each group, and whether it does the same on all: the grid of effects.
//!
//! Invariant: every shade stands beside its number; shades of better and worse are blue and orange, and end where text would become
//! hard to read. Deliberately absent: grids of one group.

use super::markup::Markup;
use super::page::{self, column};
use super::style::SHADE_MAX_PERCENT;
use super::{View, effect, units};
use crate::compare::metric;
use crate::compare::model::{Effect, GridRow, GridTable};

/// A change by this factor has the strongest shade.
const STRONGEST: f64 = 1.5;

pub(super) fn applies(view: &View) -> bool {
    view.comparison.grid.as_ref().is_some_and(|grid| !grid.tables.is_empty())
}

pub(super) fn show(page: &mut Markup, view: &View) {
    let Some(grid) = &view.comparison.grid else { return };
    let note = format!(
        "Effect: the value with it over that with the reference, on the same {by}; beneath, how that effect differs from the one on {base}. \
         Main effect: over all {by}s that have it. Shade: blue for better, orange for worse, strongest from a factor of {STRONGEST} on.",
        by = view.comparison.by,
        base = view.baseline()
    );
    page.leaf("p", &[("class", "note")], &note);
    for table in &grid.tables {
        show_table(page, view, &grid.rows_by, table);
    }
}

fn show_table(page: &mut Markup, view: &View, rows_by: &str, table: &GridTable) {
    let more_is_better = metric::named(&table.metric).is_some_and(|metric| metric.more_is_better);
    let direction = if more_is_better { "more is better" } else { "less is better" };
    let title = format!(
        "{} by {rows_by}, against {}: {}.",
        units::title(&table.metric),
        table.reference,
        table.label
    );
    let head = |page: &mut Markup| {
        column(page, rows_by, "");
        column(page, "", "");
        column(page, "main effect", "e");
        view.groups().for_each(|group| column(page, view.label(group), "e"));
    };
    page::table(page, &title, direction, head, |page| {
        page.element("tbody", &[], |page| {
            table.rows.iter().for_each(|row| show_row(page, view, row, more_is_better))
        });
    });
}

fn show_row(page: &mut Markup, view: &View, row: &GridRow, more_is_better: bool) {
    let has_interactions = row.interactions.iter().any(Option::is_some);
    let span = if has_interactions { "2" } else { "1" };
    page.element("tr", &[("class", "first")], |page| {
        page.leaf("th", &[("scope", "rowgroup"), ("rowspan", span), ("class", "cell")], &row.value);
        page.leaf("th", &[("scope", "row")], "effect");
        shaded(page, row.main.as_ref(), more_is_better);
        view.groups().for_each(|group| shaded(page, at(&row.effects, group), more_is_better));
    });
    if !has_interactions {
        return;
    }
    page.element("tr", &[], |page| {
        page.leaf("th", &[("scope", "row"), ("class", "soft")], "interaction");
        page.element("td", &[], |_| {});
        for group in view.groups() {
            match at(&row.interactions, group) {
                Some(it) => effect::show(page, it, None, "", ""),
                None if view.is_baseline(group) => page.leaf("td", &[("class", "e soft")], "baseline"),
                None => page.leaf("td", &[("class", "e na")], "–"),
            }
        }
    });
}

fn at(effects: &[Option<Effect>], group: usize) -> Option<&Effect> {
    effects.get(group)?.as_ref()
}

fn shaded(page: &mut Markup, effect: Option<&Effect>, more_is_better: bool) {
    match effect {
        Some(it) => effect::show(page, it, None, " shade", &shade(it.ratio, more_is_better)),
        None => page.leaf("td", &[("class", "e na")], "–"),
    }
}

/// The style of a cell: how much of which colour.
fn shade(ratio: f64, more_is_better: bool) -> String {
    if ratio <= 0.0 || !ratio.is_finite() {
        return String::new();
    }
    let strength = (ratio.ln().abs() / STRONGEST.ln()).min(1.0);
    let percent = (strength * f64::from(SHADE_MAX_PERCENT)).round();
    let name = if (ratio > 1.0) == more_is_better { "better" } else { "worse" };
    format!("background:color-mix(in srgb,var(--{name}-shade) {percent}%,var(--page))")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_end_where_text_can_still_be_read_and_know_which_way_is_better() {
        assert!(shade(0.1, false).contains(&format!("better-shade) {SHADE_MAX_PERCENT}%")));
        assert!(shade(1.1, false).contains("worse-shade) 13%"), "{}", shade(1.1, false));
        assert!(shade(1.1, true).contains("better-shade"));
    }
}
