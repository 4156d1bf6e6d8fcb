//! The latency spectrum: every percentile of every group, the tail given as much room as the bulk.
//!
//! Invariant: at most 60 points a line, the ends among them; one axis for all groups. Deliberately absent: a band for each of many
//! groups, which would hide the lines: the baseline's and the chosen group's are shown.

use super::markup::Markup;
use super::page::{self, column, group_heading, group_row, maybe_number};
use super::scale::{Scale, percentile};
use super::svg::{Axis, Plot, Says, thinned};
use super::{View, all_measured};
use crate::compare::model::{Cell, Measured, SpectrumPoint};

/// A line has at most so many points.
pub(super) const POINTS_MAX: usize = 60;
/// Columns of the table beside the chart.
const TABLED: [f64; 9] = [0.0, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1.0];

pub(super) fn show(page: &mut Markup, view: &View, cell: &Cell) {
    let points = || all_measured(cell).flat_map(|(_, measured)| &measured.spectrum);
    if points().next().is_none() {
        return;
    }
    let x = Scale::tail(points().map(|point| point.quantile));
    let drawn = || points().filter(|point| x.has(point.quantile));
    let values = drawn().flat_map(|point| {
        let (low, high) = point.interval_ns.unwrap_or((point.value_ns, point.value_ns));
        [point.value_ns, low.max(point.value_ns / 4.0), high.min(point.value_ns * 4.0)]
    });
    let plot = Plot {
        width: if view.is_many() { 1080.0 } else { 600.0 },
        height: if view.is_many() { 400.0 } else { 300.0 },
        left: 58.0,
        right: 108.0,
        top: 26.0,
        bottom: 40.0,
        x,
        y: Scale::covering(values),
    };
    let what = if cell.closed_loop { "Service time" } else { "Response time" };
    let bands = match view.is_many() {
        true => "Band: 95 % interval, of the baseline and of the group chosen to stand out.",
        false => "Bands: 95 % intervals.",
    };
    let title = format!("{what} at every percentile, the tail spread out: {}", cell.short);
    page.element("div", &[("class", if view.is_many() { "many" } else { "few" })], |page| {
        let note = format!("Each further nine has the same width. Lower is better. {bands}");
        page::figure(page, &title, &note, |page| {
            let says = Says {
                title: &title,
                description: "One line for each group; the table beneath has its values.",
            };
            plot.svg(page, says, |svg| draw(svg, view, cell, &plot));
        });
        page.element("details", &[("class", "inner")], |page| {
            page.leaf("summary", &[], "The percentiles as a table");
            table(page, view, cell);
        });
    });
}

fn draw(svg: &mut Markup, view: &View, cell: &Cell, plot: &Plot) {
    let what = if cell.closed_loop { "service time" } else { "response time" };
    let name = view.units.axis(what);
    plot.y_axis(svg, &Axis { tick: &|value| view.units.tick(value), title: &name, ticks_max: 8 });
    plot.x_axis(svg, &Axis { tick: &percentile, title: "percentile", ticks_max: 12 });
    let mut ends = Vec::new();
    for (group, measured) in back_to_front(view, cell) {
        let points: Vec<SpectrumPoint> =
            measured.spectrum.iter().filter(|point| plot.x.has(point.quantile)).copied().collect();
        let points = thinned(&points, POINTS_MAX, |point| plot.x.share(point.quantile));
        svg.element("g", &[("class", &view.palette.classes(group))], |svg| {
            let band: Vec<_> = points
                .iter()
                .filter_map(|point| point.interval_ns.map(|(low, high)| (point.quantile, low, high)))
                .collect();
            plot.band(svg, &band);
            let line: Vec<_> = points.iter().map(|point| (point.quantile, point.value_ns)).collect();
            plot.line(svg, &line);
            let every = (points.len() / 7).max(1);
            // Each group's markers a little further on, so that lines that coincide show both.
            for (x, y) in line.iter().skip(group % every).step_by(every) {
                view.palette.marker(svg, group, (plot.x(*x), plot.y(*y)), 3.0);
            }
            if let Some(&(x, y)) = line.last() {
                ends.push((group, x, y));
            }
        });
    }
    plot.end_labels(svg, &view.palette, ends, |group| view.label(group).to_owned());
}

/// The groups that have results, the baseline last, so that it lies on top.
pub(super) fn back_to_front<'a>(view: &View, cell: &'a Cell) -> Vec<(usize, &'a Measured)> {
    let mut groups: Vec<_> = all_measured(cell).collect();
    groups.sort_by_key(|(group, _)| view.is_baseline(*group));
    groups
}

fn table(page: &mut Markup, view: &View, cell: &Cell) {
    let at = |measured: &Measured, quantile: f64| {
        let near = |point: &&SpectrumPoint| (point.quantile - quantile).abs() < 1e-9;
        measured.spectrum.iter().find(near).map(|point| point.value_ns)
    };
    let shown: Vec<f64> = TABLED
        .into_iter()
        .filter(|&quantile| all_measured(cell).any(|(_, measured)| at(measured, quantile).is_some()))
        .collect();
    let head = |page: &mut Markup| {
        column(page, &view.comparison.by, "");
        for &quantile in &shown {
            let name = match quantile {
                0.0 => "least".to_owned(),
                1.0 => "most".to_owned(),
                _ => format!("p{}", percentile(quantile)),
            };
            column(page, &name, "n");
        }
    };
    page::table(page, &format!("Percentiles: {}.", cell.short), "Of all runs together.", head, |page| {
        page.element("tbody", &[], |page| {
            for (group, measured) in all_measured(cell) {
                group_row(page, group, |page| {
                    group_heading(page, view, group);
                    for &quantile in &shown {
                        maybe_number(page, at(measured, quantile), |value| view.units.duration(value));
                    }
                });
            }
        });
    });
}
