//! One cell after the other: its charts, and the table of all its numbers.
//!
//! Invariant: the first cell is open; all others open on demand, and on paper. Deliberately absent: comparing cells.

use super::markup::Markup;
use super::page::{self, column, group_heading, group_row, maybe_number, number};
use super::{View, all_measured, anatomy, estimate, heatmap, shift, spectrum, summary, units};
use crate::compare::metric::METRICS;
use crate::compare::model::{Cell, Column, Measured};
use crate::measure::verdict::CLOSED_LOOP;
use crate::report::text::counted;

pub(super) fn show(page: &mut Markup, view: &View) {
    page.element("p", &[("id", "open-all")], |_| {});
    for (index, cell) in view.comparison.cells.iter().enumerate() {
        let id = format!("cell-{index}");
        let mut attributes = vec![("class", "cell"), ("id", &*id)];
        if index == 0 {
            attributes.push(("open", ""));
        }
        page.element("details", &attributes, |page| {
            page.element("summary", &[], |page| {
                page.text(&cell.label);
                let tally = summary::tally(view, [cell], "p99");
                page.leaf("span", &[("class", "soft")], &format!(" (p99: {tally})"));
            });
            body(page, view, cell);
        });
        page.line();
    }
}

fn body(page: &mut Markup, view: &View, cell: &Cell) {
    let mut keys: Vec<String> = cell.keys.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    if let Some(rate) = cell.rate_per_s {
        keys.push(format!("asked for: {}", view.units.rate(rate)));
    }
    if cell.closed_loop {
        keys.push(CLOSED_LOOP.to_owned());
    }
    page.leaf("p", &[("class", "note")], &keys.join(" · "));
    // Two charts of one width stand side by side; many groups need the width for themselves.
    let class = if view.comparison.groups.len() == 2 { "figures" } else { "wide-figures" };
    page.element("div", &[("class", class)], |page| {
        spectrum::show(page, view, cell);
        shift::show(page, view, cell);
    });
    heatmap::show(page, view, cell);
    anatomy::show(page, view, cell);
    values(page, view, cell);
    page.element("details", &[("class", "inner")], |page| {
        page.leaf("summary", &[], "Every difference, with its p");
        differences(page, view, cell);
    });
    if all_measured(cell).any(|(_, measured)| measured.metrics.iter().any(|it| it.boots.len() > 1)) {
        page.element("details", &[("class", "inner")], |page| {
            page.leaf("summary", &[], "Every boot by itself");
            boots(page, view, cell);
        });
    }
}

fn values(page: &mut Markup, view: &View, cell: &Cell) {
    let shown: Vec<_> = METRICS
        .iter()
        .filter(|metric| all_measured(cell).any(|(_, it)| estimate(it, metric.name).is_some()))
        .collect();
    let note = "Over all boots together; beneath, the ends of the 95 % interval.";
    let head = |page: &mut Markup| {
        column(page, &view.comparison.by, "");
        column(page, "boots", "n");
        column(page, "runs", "n");
        shown.iter().for_each(|metric| column(page, units::title(metric.name), "n"));
    };
    page::table(page, &format!("All values: {}.", cell.short), note, head, |page| {
        page.element("tbody", &[], |page| {
            for (group, result) in cell.columns.iter().enumerate() {
                group_row(page, group, |page| {
                    group_heading(page, view, group);
                    let Column::Measured(measured) = result else {
                        return summary::absence(page, view, group, result, 2 + shown.len());
                    };
                    page.leaf("td", &[("class", "n")], &measured.boots.to_string());
                    page.element("td", &[("class", "n")], |page| {
                        page.text(&measured.runs.to_string());
                        summary::suspects(page, measured);
                    });
                    for metric in &shown {
                        match estimate(measured, metric.name) {
                            Some(it) => {
                                let range = it.interval.map(|interval| view.units.range(metric, interval));
                                number(page, it.value, &view.units.value(metric, it.value), range.as_deref());
                            }
                            None => page.leaf("td", &[("class", "n na")], "–"),
                        }
                    }
                });
            }
        });
    });
}

fn differences(page: &mut Markup, view: &View, cell: &Cell) {
    let note = "Ratio: the group's value over the baseline's. p: how likely ranks as far apart are by chance alone; adjusted: for all \
        differences of its metric (Holm). Detectable: what so many boots would show four times in five.";
    let title = format!("Differences from {}: {}.", view.baseline(), cell.short);
    let head = |page: &mut Markup| {
        column(page, &view.comparison.by, "");
        column(page, "metric", "");
        for name in ["ratio", "from", "to", "p", "p adjusted", "detectable"] {
            column(page, name, "n");
        }
        column(page, "comes to", "");
    };
    page::table(page, &title, note, head, |page| {
        page.element("tbody", &[], |page| {
            for (group, measured) in all_measured(cell) {
                difference_rows(page, view, group, measured);
            }
        });
    });
}

fn difference_rows(page: &mut Markup, view: &View, group: usize, measured: &Measured) {
    let ratio = |ratio: f64| format!("{ratio:.4}");
    for it in &measured.differences {
        group_row(page, group, |page| {
            group_heading(page, view, group);
            page.leaf("td", &[], units::title(&it.metric));
            maybe_number(page, Some(it.ratio), ratio);
            maybe_number(page, it.interval.map(|interval| interval.0), ratio);
            maybe_number(page, it.interval.map(|interval| interval.1), ratio);
            maybe_number(page, it.p, units::probability);
            maybe_number(page, it.p_adjusted, units::probability);
            maybe_number(page, it.detectable, units::share);
            let class = format!("mark-{}", super::effect::class(it.change));
            page.leaf("td", &[("class", &class)], super::effect::word(it.change));
        });
    }
}

fn boots(page: &mut Markup, view: &View, cell: &Cell) {
    let title = format!("Value of each boot, in the order of the sources: {}.", cell.short);
    let head = |page: &mut Markup| {
        column(page, &view.comparison.by, "");
        column(page, "metric", "");
        column(page, "boots", "");
    };
    page::table(page, &title, "", head, |page| {
        page.element("tbody", &[], |page| {
            for (group, measured) in all_measured(cell) {
                for it in &measured.metrics {
                    let Some(metric) = crate::compare::metric::named(&it.metric) else { continue };
                    group_row(page, group, |page| {
                        group_heading(page, view, group);
                        page.leaf("td", &[], units::title(&it.metric));
                        page.element("td", &[], |page| {
                            for (index, value) in it.boots.iter().enumerate() {
                                page.text(if index == 0 { "" } else { ", " });
                                page::data(page, *value, &view.units.value(metric, *value));
                            }
                        });
                    });
                }
            }
        });
    });
}

/// What is said of a group's runs in a caption: `3 boots, 9 runs`.
pub(super) fn counts(measured: &Measured) -> String {
    format!("{}, {}", counted(measured.boots, "boot"), counted(measured.runs, "run"))
}
