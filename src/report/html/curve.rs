//! Latency against load: cells that differ in nothing but the rate asked for, as one curve for each group.
//!
//! Invariant: a point is a cell; the lines between points lead the eye and say nothing. Deliberately absent: closed loops, which
//! ask for no rate.

use super::markup::Markup;
use super::page;
use super::scale::Scale;
use super::svg::{Axis, Plot, Says};
use super::units::count_tick;
use super::{View, estimate, measured};
use crate::compare::metric;
use crate::compare::model::{Cell, Estimate};

const METRICS: [&str; 2] = ["p50", "p99"];

pub(super) fn applies(view: &View) -> bool {
    !curves(view).is_empty()
}

pub(super) fn show(page: &mut Markup, view: &View) {
    for cells in curves(view) {
        let name = name(&cells);
        page.element(
            "div",
            &[("class", if view.is_many() { "figures many" } else { "figures few" })],
            |page| {
                for metric in METRICS {
                    panel(page, view, &cells, metric, &name);
                }
            },
        );
    }
}

/// Sets of cells, by rate, whose keys are the same but for one by which the rate differs.
fn curves<'a>(view: &View<'a>) -> Vec<Vec<&'a Cell>> {
    let mut curves: Vec<Vec<&Cell>> = Vec::new();
    let open: Vec<&Cell> =
        view.comparison.cells.iter().filter(|cell| !cell.closed_loop && cell.rate_per_s.is_some()).collect();
    for cell in &open {
        if curves.iter().any(|curve| curve.iter().any(|it| std::ptr::eq(*it, *cell))) {
            continue;
        }
        let along = |other: &&&Cell| std::ptr::eq(**other, *cell) || differ_in_rate(cell, other);
        let mut curve: Vec<&Cell> = open.iter().filter(along).copied().collect();
        curve.sort_by(|one, other| one.rate_per_s.unwrap_or(0.0).total_cmp(&other.rate_per_s.unwrap_or(0.0)));
        curve.dedup_by_key(|cell| cell.rate_per_s);
        if curve.len() > 1 {
            curves.push(curve);
        }
    }
    curves
}

fn differ_in_rate(one: &Cell, other: &Cell) -> bool {
    let differing = one.keys.iter().zip(&other.keys).filter(|(one, other)| one != other).count();
    one.keys.len() == other.keys.len() && differing <= 1 && one.rate_per_s != other.rate_per_s
}

/// What all of them are.
fn name(cells: &[&Cell]) -> String {
    let (first, others) = (cells[0], &cells[1..]);
    let shared = |key: &&(String, String)| others.iter().all(|cell| cell.keys.contains(key));
    let shared: Vec<_> =
        first.keys.iter().filter(shared).map(|(key, value)| format!("{key} {value}")).collect();
    if shared.is_empty() { "all else alike".to_owned() } else { shared.join(", ") }
}

fn panel(page: &mut Markup, view: &View, cells: &[&Cell], name: &str, what: &str) {
    let Some(metric) = metric::named(name) else { return };
    let point = |cell: &&Cell, group: usize| -> Option<(f64, Estimate)> {
        Some((cell.rate_per_s?, estimate(measured(cell, group)?, name)?.clone()))
    };
    let points = |group: usize| cells.iter().filter_map(move |cell| point(cell, group)).collect::<Vec<_>>();
    let all: Vec<_> = view.groups().flat_map(points).collect();
    if all.is_empty() {
        return;
    }
    let ends = |it: &Estimate| {
        let (low, high) = it.interval.unwrap_or((it.value, it.value));
        [it.value, low.max(it.value / 4.0), high.min(it.value * 4.0)]
    };
    let rates = || all.iter().map(|point| point.0);
    let y = Scale::covering(all.iter().flat_map(|point| ends(&point.1)));
    let plot = Plot {
        width: 580.0,
        height: 320.0,
        left: 58.0,
        right: 108.0,
        top: 26.0,
        bottom: 40.0,
        x: Scale::covering(rates()),
        y,
    };
    let title = format!("{name} over the rate asked for: {what}");
    let note = "Uprights: 95 % intervals. Lines lead the eye; between the points nothing was measured.";
    page::figure(page, &title, note, |page| {
        let says = Says { title: &title, description: "A line for each group, a point for each cell." };
        plot.svg(page, says, |svg| {
            plot.y_axis(
                svg,
                &Axis {
                    tick: &|value| view.units.tick(value),
                    title: &view.units.value_axis(metric),
                    ticks_max: 8,
                },
            );
            let name = format!("messages asked for {}", view.units.per_second());
            plot.x_axis(svg, &Axis { tick: &count_tick, title: &name, ticks_max: 7 });
            let mut labels = Vec::new();
            for group in view.others().chain([view.comparison.baseline]) {
                draw(svg, view, &plot, group, &points(group), &mut labels);
            }
            plot.end_labels(svg, &view.palette, labels, |group| view.label(group).to_owned());
        });
    });
}

fn draw(
    svg: &mut Markup,
    view: &View,
    plot: &Plot,
    group: usize,
    points: &[(f64, Estimate)],
    labels: &mut Vec<(usize, f64, f64)>,
) {
    if points.is_empty() {
        return;
    }
    svg.element("g", &[("class", &view.palette.classes(group))], |svg| {
        let line: Vec<_> = points.iter().map(|(rate, it)| (*rate, it.value)).collect();
        plot.line(svg, &line);
        let mut uprights = String::new();
        for (rate, it) in points {
            if let Some((low, high)) = it.interval {
                let path =
                    format!("M{} {:.1}V{:.1}", super::markup::px(plot.x(*rate)), plot.y(low), plot.y(high));
                uprights.push_str(&path);
            }
        }
        if !uprights.is_empty() {
            svg.empty("path", &[("class", "reach"), ("d", &uprights)]);
        }
        for (rate, it) in points {
            view.palette.marker(svg, group, (plot.x(*rate), plot.y(it.value)), 3.6);
        }
        if let Some(&(x, y)) = line.last() {
            labels.push((group, x, y));
        }
    });
}
