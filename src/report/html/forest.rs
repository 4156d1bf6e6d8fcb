//! What changed, at a glance: all changes of one metric with their intervals, cell under cell.
//!
//! Invariant: the panels have the same rows. Grey behind a row is what so few boots could not have shown; an interval that leaves
//! its panel ends in an arrow. Deliberately absent: absolute values.

use super::effect;
use super::markup::{Markup, px};
use super::page::{self, drawing};
use super::rows::{self, LABEL_PX, Row};
use super::scale::Scale;
use super::svg::{Axis, Plot};
use super::{View, difference, measured, summary, units};
use crate::compare::metric::{self, Metric};
use crate::compare::model::{Change, Effect};

fn metrics(view: &View) -> [&'static str; 4] {
    ["p99", "p50", metric::cost(view.comparison.clock), "rate"]
}
const WIDTH: f64 = 400.0;
/// Space for the change in words.
const WORDS_PX: f64 = 96.0;
const HEADING_CHARACTERS: usize = 60;

pub(super) fn applies(view: &View) -> bool {
    metrics(view).iter().any(|metric| !effects(view, metric).is_empty())
}

pub(super) fn show(page: &mut Markup, view: &View) {
    let note = format!(
        "Each row: a group's change against {} and its 95 % interval. Disc: better; square: worse; ring: not told from chance, or (dotted) \
         too few boots. Grey: changes too small for so many boots to show. Diamond: geometric mean. The same numbers are in the summary's table.",
        view.baseline()
    );
    page.leaf("p", &[("class", "note")], &note);
    page.element("div", &[("class", "panels")], |page| {
        for metric in metrics(view).into_iter().filter_map(metric::named) {
            // An open loop's throughput is what was asked for.
            let asked = metric.name == "rate" && view.comparison.cells.iter().all(|cell| !cell.closed_loop);
            if !asked && !effects(view, metric.name).is_empty() {
                panel(page, view, metric);
            }
        }
    });
}

/// A block's index (beyond all cells: of all cells together), a group, its effect, what was detectable.
type Found = (usize, usize, Effect, Option<f64>);

fn effects(view: &View, metric: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, cell) in view.comparison.cells.iter().enumerate() {
        for group in view.others() {
            if let Some(it) = measured(cell, group).and_then(|measured| difference(measured, metric)) {
                let effect = Effect { ratio: it.ratio, interval: it.interval, change: it.change };
                found.push((index, group, effect, it.detectable));
            }
        }
    }
    for it in view.comparison.overall.iter().filter(|it| it.metric == metric && !view.is_baseline(it.group)) {
        let effect = Effect { ratio: it.ratio, interval: it.interval, change: Change::Noise };
        found.push((view.comparison.cells.len(), it.group, effect, None));
    }
    found
}

fn panel(page: &mut Markup, view: &View, metric: &Metric) {
    let found = effects(view, metric.name);
    let cells = view.comparison.cells.len();
    let has_overall = found.iter().any(|found| found.0 == cells);
    let others: Vec<_> = view.others().collect();
    let blocks: Vec<_> = (0..cells + usize::from(has_overall)).map(|block| (block, others.clone())).collect();
    let (rows, end) = rows::layout(0.0, &blocks);
    let ratios: Vec<_> = found.iter().map(|(.., effect, _)| (effect.ratio, effect.interval)).collect();
    let plot = Plot {
        width: WIDTH,
        height: end + 36.0,
        left: LABEL_PX,
        right: WORDS_PX,
        top: 0.0,
        bottom: 36.0,
        x: effect::scale(&ratios),
        y: Scale::Linear { from: 0.0, to: 1.0 },
    };
    let name = units::title(metric.name);
    let title = format!("{name}: {}", summary::tally(view, &view.comparison.cells, metric.name));
    page::figure(page, &title, metric.about, |page| {
        let description =
            format!("Changes of {name} with intervals; every number is in the table of the summary.");
        drawing(page, (plot.width, plot.height), &title, &description, |svg| {
            let axis = Axis { tick: &effect::tick(&plot.x), title: "", ticks_max: 5 };
            plot.x_axis(svg, &axis);
            effect::directions(svg, &plot, metric);
            let one = px(plot.x(1.0));
            svg.empty("path", &[("class", "zero"), ("d", &format!("M{one} 0V{}", px(plot.floor())))]);
            for row in &rows {
                show_row(svg, view, &plot, row, &found);
            }
        });
    });
}

fn show_row(svg: &mut Markup, view: &View, plot: &Plot, row: &Row, found: &[Found]) {
    let Some(group) = row.group else {
        let cell = view.comparison.cells.get(row.block);
        let text = cell.map_or("geometric mean of all cells", |cell| &cell.short);
        rows::veil(svg, row, plot.width);
        return rows::heading(svg, row, text, HEADING_CHARACTERS);
    };
    rows::group(svg, view, row, group);
    let right = px(plot.width - 1.0);
    let words = [("class", "num"), ("x", &*right), ("y", &px(row.y + 3.8))];
    let is_overall = row.block == view.comparison.cells.len();
    match found.iter().find(|found| (found.0, found.1) == (row.block, group)) {
        Some((.., effect, _)) if is_overall => {
            effect::draw(svg, plot, row.y, effect, None, true);
            svg.leaf("text", &words, &units::change(effect.ratio));
        }
        Some((.., effect, detectable)) => {
            effect::draw(svg, plot, row.y, effect, *detectable, false);
            svg.leaf("text", &words, &effect::in_words(effect));
        }
        None => svg.leaf("text", &[&words[1..], &[("class", "num tick")]].concat(), "n/a"),
    }
}
