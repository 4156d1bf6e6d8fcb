//! Where in the distribution a group differs: each of its quantiles over the baseline's (a shift function, as ratios).
//!
//! Invariant: a panel for each group, all with the same axes, the other groups' lines behind in grey; the level line at no
//! change is in every panel. Deliberately absent: a mark; many quantiles were not tested one by one.

use super::effect;
use super::markup::{Markup, px};
use super::page;
use super::scale::{Scale, percentile};
use super::spectrum::POINTS_MAX;
use super::svg::{Axis, Plot, Says, thinned};
use super::{View, all_measured};
use crate::compare::model::{Cell, RatioPoint};

type Line = (usize, Vec<RatioPoint>);

pub(super) fn show(page: &mut Markup, view: &View, cell: &Cell) {
    let mut lines: Vec<Line> = all_measured(cell)
        .filter(|(group, measured)| !view.is_baseline(*group) && !measured.quantile_ratios.is_empty())
        .map(|(group, measured)| (group, measured.quantile_ratios.clone()))
        .collect();
    if lines.is_empty() {
        return;
    }
    let all = || lines.iter().flat_map(|(_, points)| points);
    let x = Scale::tail(all().map(|point| point.quantile));
    let effects: Vec<_> =
        all().filter(|point| x.has(point.quantile)).map(|point| (point.ratio, point.interval)).collect();
    let y = effect::scale(&effects);
    for (_, points) in &mut lines {
        points.retain(|point| x.has(point.quantile));
        *points = thinned(points, if view.is_many() { POINTS_MAX / 2 } else { POINTS_MAX }, |point| {
            x.share(point.quantile)
        });
    }
    let title = format!("Where in the distribution it differs from {}: {}", view.baseline(), cell.short);
    let note = "Each percentile over the baseline's: above the level line it is longer. Band: 95 % interval.";
    let is_alone = lines.len() == 1;
    page::figure(page, &title, note, |page| {
        let class = if is_alone { "one" } else { "small" };
        page.element("div", &[("class", class)], |page| {
            for (group, points) in &lines {
                let plot = plot(is_alone, x, y);
                let title = format!("{} over {}", view.label(*group), view.baseline());
                let says = Says { title: &title, description: "Ratio of quantiles by percentile." };
                plot.svg(page, says, |svg| draw(svg, view, &plot, &lines, *group, points));
            }
        });
    });
}

fn plot(is_alone: bool, x: Scale, y: Scale) -> Plot {
    let (width, height) = if is_alone { (600.0, 300.0) } else { (260.0, 170.0) };
    let right = if is_alone { 108.0 } else { 8.0 };
    Plot { width, height, left: 50.0, right, top: 26.0, bottom: 36.0, x, y }
}

fn draw(svg: &mut Markup, view: &View, plot: &Plot, lines: &[Line], group: usize, points: &[RatioPoint]) {
    let ticks_max = if plot.width > 300.0 { 7 } else { 5 };
    plot.y_axis(svg, &Axis { tick: &effect::tick(&plot.y), title: "", ticks_max });
    plot.x_axis(svg, &Axis { tick: &percentile, title: "percentile", ticks_max: 12 });
    let label = super::markup::shortened(view.label(group), super::svg::characters(plot.width - plot.left));
    svg.leaf("text", &[("class", "head"), ("x", &px(plot.left)), ("y", &px(plot.top - 9.0))], &label);
    let level = px(plot.y(1.0));
    let path = format!("M{} {level}H{}", px(plot.left), px(plot.wall()));
    svg.empty("path", &[("class", "zero"), ("d", &path)]);
    let place = |point: &RatioPoint| (plot.x(point.quantile), plot.y(point.ratio));
    if lines.len() > 1 {
        // One path for all: what lies behind is context, not data to be told apart.
        let mut ghosts = String::new();
        for (_, points) in lines.iter().filter(|line| line.0 != group) {
            for (index, point) in thinned(points, 16, |point| plot.x.share(point.quantile)).iter().enumerate()
            {
                let (x, y) = place(point);
                ghosts.push_str(&format!("{}{} {}", if index == 0 { 'M' } else { 'L' }, px(x), px(y)));
            }
        }
        svg.empty("path", &[("class", "ghost"), ("d", &ghosts)]);
    }
    // Not `s`: in a panel of its own a group need not stand out.
    svg.element("g", &[("class", &format!("g{group}"))], |svg| {
        let band: Vec<_> = points
            .iter()
            .filter_map(|point| point.interval.map(|(low, high)| (point.quantile, low, high)))
            .collect();
        svg.element("g", &[("class", "own")], |svg| plot.band(svg, &band));
        let line: Vec<_> = points.iter().map(|point| (point.quantile, point.ratio)).collect();
        plot.line(svg, &line);
        if let Some(point) = points.last() {
            view.palette.marker(svg, group, place(point), 3.2);
        }
    });
}
