//! Throughput and processor time per message: every group of every cell, with intervals.
//!
//! Invariant: a bar begins at nothing. Where values lie too far apart for that, there are points on a logarithmic axis and no bars,
//! since a bar's length would mean nothing there.
//! Deliberately absent: changes, which the summary has.

use super::markup::{Markup, px};
use super::page::{self, drawing};
use super::rows::{self, LABEL_PX, Row};
use super::scale::Scale;
use super::svg::{Axis, Plot};
use super::{View, all_measured, estimate, measured, units};
use crate::compare::metric::{self, Metric};
use crate::compare::model::Estimate;

const METRICS: [&str; 4] = ["rate", "cpu", "server-cpu", "load-cpu"];
/// From this ratio of largest to smallest on, bars would hide the smallest.
const POINTS_FROM: f64 = 20.0;
const HEADING_CHARACTERS: usize = 60;

pub(super) fn applies(view: &View) -> bool {
    METRICS.iter().any(|metric| !values(view, metric).is_empty())
}

pub(super) fn show(page: &mut Markup, view: &View) {
    page.leaf("p", &[("class", "note")], "Bars begin at nothing, points stand on a logarithmic axis; whiskers: 95 % intervals. In an open loop the throughput is what was asked for, if the server kept up. The numbers are in each cell’s table.");
    page.element("div", &[("class", "panels")], |page| {
        for metric in METRICS.iter().filter_map(|name| metric::named(name)) {
            panel(page, view, metric);
        }
    });
}

fn values(view: &View, metric: &str) -> Vec<f64> {
    let cells = view.comparison.cells.iter();
    cells
        .flat_map(|cell| all_measured(cell).filter_map(|(_, it)| Some(estimate(it, metric)?.value)))
        .collect()
}

/// How far whiskers reach, but for those that would dwarf all bars.
fn ends(view: &View, metric: &str, most: f64) -> Vec<f64> {
    let cells = view.comparison.cells.iter();
    let high = |it: &Estimate| it.interval.map_or(it.value, |interval| interval.1).min(1.5 * most);
    cells.flat_map(|cell| all_measured(cell).filter_map(|(_, it)| estimate(it, metric).map(high))).collect()
}

fn panel(page: &mut Markup, view: &View, metric: &Metric) {
    let values = values(view, metric.name);
    let Some(least) = values.iter().copied().reduce(f64::min) else { return };
    let most = values.iter().copied().fold(least, f64::max);
    let has_bars = least <= 0.0 || most / least < POINTS_FROM;
    let blocks: Vec<_> =
        (0..view.comparison.cells.len()).map(|block| (block, view.groups().collect())).collect();
    let (rows, end) = rows::layout(0.0, &blocks);
    let plot = Plot {
        width: 400.0,
        height: end + 36.0,
        left: LABEL_PX,
        right: 70.0,
        top: 0.0,
        bottom: 36.0,
        x: if has_bars { Scale::from_zero(ends(view, metric.name, most)) } else { Scale::log(least, most) },
        y: Scale::Linear { from: 0.0, to: 1.0 },
    };
    let direction = if metric.more_is_better { "more is better" } else { "less is better" };
    let title = format!("{} ({direction})", capital(units::title(metric.name)));
    page::figure(page, &title, metric.about, |page| {
        drawing(page, (plot.width, plot.height), &title, "A row for each cell and group.", |svg| {
            let name = view.units.value_axis(metric);
            plot.x_axis(
                svg,
                &Axis { tick: &|value| view.units.value_tick(metric, value), title: &name, ticks_max: 5 },
            );
            for row in &rows {
                show_row(svg, view, &plot, row, metric, has_bars);
            }
        });
    });
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn show_row(svg: &mut Markup, view: &View, plot: &Plot, row: &Row, metric: &Metric, has_bars: bool) {
    let cell = &view.comparison.cells[row.block];
    let Some(group) = row.group else {
        rows::veil(svg, row, plot.width);
        return rows::heading(svg, row, &cell.short, HEADING_CHARACTERS);
    };
    rows::group(svg, view, row, group);
    let at = [("x", &*px(plot.width - 1.0)), ("y", &px(row.y + 3.8))];
    match measured(cell, group).and_then(|measured| estimate(measured, metric.name)) {
        Some(it) => {
            svg.element("g", &[("class", &view.palette.classes(group))], |svg| {
                value(svg, view, plot, row, group, it, has_bars);
            });
            svg.leaf("text", &[&at[..], &[("class", "num")]].concat(), &view.units.value(metric, it.value));
        }
        None => svg.leaf("text", &[&at[..], &[("class", "num tick")]].concat(), "n/a"),
    }
}

fn value(svg: &mut Markup, view: &View, plot: &Plot, row: &Row, group: usize, it: &Estimate, has_bars: bool) {
    let (x, y) = (plot.x(it.value), row.y);
    if has_bars {
        let (from, top, width) = (px(plot.left), px(y - 5.0), px(x - plot.left));
        svg.empty(
            "rect",
            &[("class", "bar"), ("x", &from), ("y", &top), ("width", &width), ("height", "10")],
        );
    }
    if let Some((low, high)) = it.interval {
        let (from, to) = (px(plot.x(low)), px(plot.x(high)));
        let path = format!("M{from} {y}H{to}M{from} {top}v6M{to} {top}v6", y = px(y), top = px(y - 3.0));
        svg.empty("path", &[("class", if has_bars { "whisker" } else { "reach" }), ("d", &path)]);
    }
    if !has_bars {
        view.palette.marker(svg, group, (x, y), 3.6);
    }
}
