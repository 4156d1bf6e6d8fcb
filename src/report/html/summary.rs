//! The one table that answers the question: each group in each cell against the baseline, on the metrics that matter most.
//!
//! Invariant: every cell and group has a row, also those that have no results, which say why.
//! Deliberately absent: absolute values of any but the baseline; each cell's own table has them.

use super::markup::Markup;
use super::page::{self, column, group_heading};
use super::{View, difference, effect, estimate, measured, units};
use crate::compare::metric::{self, Metric};
use crate::compare::model::{Cell, Change, Column, Effect, Measured, Overall};
use crate::report::text::counted;

/// The main metrics, in the order of columns, but for what a message costs, which is the last.
const MAIN: [&str; 4] = ["p50", "p99", "p99.9", "rate"];

pub(super) fn show(page: &mut Markup, view: &View) {
    let metrics = shown_metrics(view);
    if view.comparison.cells.is_empty() {
        return page.leaf("p", &[], "No cell holds results that count.");
    }
    let note = format!(
        "Change of each group against {} in each cell; the baseline's own rows hold its values. {}",
        view.baseline(),
        effect::MARKS
    );
    let title = format!("Every cell against {}.", view.baseline());
    page::table(
        page,
        &title,
        &note,
        |page| head(page, view, &metrics),
        |page| {
            for (index, cell) in view.comparison.cells.iter().enumerate() {
                page.element("tbody", &[], |page| rows(page, view, index, cell, &metrics));
            }
            overall(page, view, &metrics);
        },
    );
}

fn shown_metrics(view: &View) -> Vec<&'static Metric> {
    let cells = &view.comparison.cells;
    let is_there = |name: &&str| {
        cells.iter().any(|cell| super::all_measured(cell).any(|(_, it)| estimate(it, name).is_some()))
    };
    let main = MAIN.into_iter().chain([metric::cost(view.comparison.clock)]);
    main.filter(is_there).filter_map(metric::named).collect()
}

fn head(page: &mut Markup, view: &View, metrics: &[&Metric]) {
    column(page, "cell", "");
    column(page, &view.comparison.by, "");
    column(page, "boots, runs", "n");
    metrics.iter().for_each(|metric| column(page, units::title(metric.name), "e"));
}

fn rows(page: &mut Markup, view: &View, index: usize, cell: &Cell, metrics: &[&Metric]) {
    for (group, result) in cell.columns.iter().enumerate() {
        page::group_row(page, group, |page| {
            if group == 0 {
                let span = cell.columns.len().to_string();
                let attributes = [("scope", "rowgroup"), ("rowspan", &*span), ("class", "cell")];
                page.element("th", &attributes, |page| {
                    page.leaf(
                        "a",
                        &[("href", &format!("#cell-{index}")), ("title", &cell.label)],
                        &cell.short,
                    );
                });
            }
            group_heading(page, view, group);
            match result {
                Column::Measured(measured) => numbers(page, view, group, measured, metrics),
                absent => absence(page, view, group, absent, 1 + metrics.len()),
            }
        });
    }
}

/// Why there are no results, over so many columns.
pub(super) fn absence(page: &mut Markup, view: &View, group: usize, absent: &Column, columns: usize) {
    let text = match absent {
        Column::Unavailable { reason } => format!("n/a on {}: {reason}", view.label(group)),
        Column::Missing { reason } => format!("no results: {reason}"),
        Column::Measured(_) => String::new(),
    };
    page.leaf("td", &[("colspan", &columns.to_string()), ("class", "na")], &text);
}

fn numbers(page: &mut Markup, view: &View, group: usize, measured: &Measured, metrics: &[&Metric]) {
    page.element("td", &[("class", "n")], |page| {
        page.text(&format!("{}, {}", measured.boots, measured.runs));
        suspects(page, measured);
    });
    for metric in metrics {
        if let Some(difference) = difference(measured, metric.name) {
            let effect =
                Effect { ratio: difference.ratio, interval: difference.interval, change: difference.change };
            effect::show(page, &effect, difference.detectable, "", "");
        } else if let Some(estimate) = estimate(measured, metric.name).filter(|_| view.is_baseline(group)) {
            page.element("td", &[("class", "e noise")], |page| {
                page::data(page, estimate.value, &view.units.value(metric, estimate.value));
                let range = estimate.interval.map(|interval| view.units.range(metric, interval));
                page.leaf("small", &[], range.as_deref().unwrap_or("no interval"));
            });
        } else {
            page.leaf("td", &[("class", "e na")], "–");
        }
    }
}

/// How many of the runs that count are SUSPECT, and how many do not count.
pub(super) fn suspects(page: &mut Markup, measured: &Measured) {
    if measured.suspect > 0 {
        page.leaf("span", &[("class", "suspect below")], &format!("{} SUSPECT", measured.suspect));
    }
    if measured.left_out > 0 {
        page.leaf("small", &[], &format!("{} left out", measured.left_out));
    }
}

fn overall(page: &mut Markup, view: &View, metrics: &[&Metric]) {
    let of = |group: usize, metric: &str| -> Option<&Overall> {
        view.comparison.overall.iter().find(|it| it.group == group && it.metric == metric)
    };
    let groups: Vec<_> =
        view.others().filter(|&group| metrics.iter().any(|it| of(group, it.name).is_some())).collect();
    if groups.is_empty() {
        return;
    }
    page.element("tbody", &[("class", "overall")], |page| {
        for (row, &group) in groups.iter().enumerate() {
            page::group_row(page, group, |page| {
                if row == 0 {
                    let span = groups.len().to_string();
                    let attributes = [("scope", "rowgroup"), ("rowspan", &*span), ("class", "cell")];
                    page.leaf("th", &attributes, "geometric mean of all cells that both have");
                }
                group_heading(page, view, group);
                page.element("td", &[], |_| {});
                for metric in metrics {
                    match of(group, metric.name) {
                        Some(overall) => mean(page, overall),
                        None => page.leaf("td", &[("class", "e na")], "–"),
                    }
                }
            });
        }
    });
}

fn mean(page: &mut Markup, overall: &Overall) {
    page.element("td", &[("class", "e")], |page| {
        let (text, interval) = units::change_with_interval(overall.ratio, overall.interval);
        page::data(page, overall.ratio, &text);
        let interval = interval.unwrap_or_else(|| "no interval".to_owned());
        page.leaf("small", &[], &format!("{interval}, {}", counted(overall.cells, "cell")));
    });
}

/// How many groups changed in which way on a metric, over some cells: `2 better, 1 worse, 3 ~`.
pub(super) fn tally<'a>(view: &View, cells: impl IntoIterator<Item = &'a Cell>, metric: &str) -> String {
    let mut counts = [0_usize; 4];
    for cell in cells {
        let changes = view.others().filter_map(|group| difference(measured(cell, group)?, metric));
        changes.for_each(|it| counts[it.change as usize] += 1);
    }
    let say = |change: Change, what: &str| {
        let count = counts[change as usize];
        (count > 0).then(|| format!("{count} {what}"))
    };
    let said = [
        say(Change::Better, "better"),
        say(Change::Worse, "worse"),
        say(Change::Noise, "not told from chance"),
        say(Change::TooFew, "with too few boots"),
    ];
    let said: Vec<_> = said.into_iter().flatten().collect();
    if said.is_empty() { "nothing to compare".to_owned() } else { said.join(", ") }
}
