//! Durations over time: when a group was slow, and where its worst messages lie.
//!
//! Invariant: all maps of a cell have the same axes and shades; a shade says which share of a moment's answers took so long, so that
//! pieces of different length can be compared. Neighbours of one shade are drawn as one.
//! Deliberately absent: what cannot be seen: finer rows and columns than a map has room for are added up.

use super::markup::{Markup, px, shortened};
use super::page::{self, column, group_heading, group_row, number};
use super::scale::Scale;
use super::svg::{Axis, Plot, Says};
use super::{View, all_measured, cell};
use crate::compare::model::{Cell, Heatmap, Measured};
use crate::measure::environment::Clock;
use crate::measure::evidence::Exemplar;

/// From this share of a moment's answers on, the shade of that number.
const SHADES: [(f64, f64, &str); 5] = [
    (0.0, 0.13, "some"),
    (0.001, 0.28, "≥ 0.1 %"),
    (0.01, 0.48, "≥ 1 %"),
    (0.05, 0.72, "≥ 5 %"),
    (0.25, 1.0, "≥ 25 %"),
];
const ROWS_MAX: usize = 30;
const COLUMNS_MAX: usize = 60;
/// Worst messages of a group in the table.
const EXEMPLARS_MAX: usize = 5;

pub(super) fn show(page: &mut Markup, view: &View, cell: &Cell) {
    let maps: Vec<_> =
        all_measured(cell).filter_map(|(group, it)| Some((group, it, it.heatmap.as_ref()?))).collect();
    let Some(axes) = Axes::of(maps.iter().map(|map| (map.2, &map.1.exemplars[..]))) else { return };
    let what = if cell.closed_loop { "Service times" } else { "Response times" };
    let title = format!("{what} over the window of one run of each group: {}", cell.short);
    let note = "Each is the run with the group's median p99. Shade: share of that moment's answers. Rings: the run's worst messages, \
        at the time when they were to be sent.";
    page::figure(page, &title, note, |page| {
        page.element("ul", &[("class", "part-key")], |page| {
            for (_, opacity, name) in SHADES {
                page.element("li", &[], |page| {
                    page::sample(page, &["heat"], opacity);
                    page.text(name);
                });
            }
        });
        page.element("div", &[("class", if maps.len() < 3 { "figures" } else { "small" })], |page| {
            for &(group, measured, map) in &maps {
                let plot = axes.plot(maps.len() < 3);
                let title = format!("{}: {}", view.label(group), map.source);
                let says = Says { title: &title, description: "Share of answers by duration and time." };
                plot.svg(page, says, |svg| draw(svg, view, &plot, &axes, group, measured, map));
            }
        });
    });
    if maps.iter().any(|map| !map.1.exemplars.is_empty()) {
        page.element("details", &[("class", "inner")], |page| {
            page.leaf("summary", &[], "The worst messages of these runs");
            exemplars(page, view, cell);
        });
    }
}

/// What all maps of a cell share.
struct Axes {
    x: Scale,
    y: Scale,
}

impl Axes {
    /// Around all answers and worst messages of all maps; `None` where there are none.
    fn of<'a>(maps: impl Iterator<Item = (&'a Heatmap, &'a [Exemplar])>) -> Option<Self> {
        let (mut low, mut high, mut end_s) = (f64::INFINITY, 0.0_f64, 0.0_f64);
        for (map, exemplars) in maps {
            high = exemplars.iter().map(|it| 1.1 * it.response_ns as f64).fold(high, f64::max);
            for column in &map.columns {
                end_s = end_s.max(column.start_s + column.length_s);
                for (row, _) in column.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    let Some((from, to)) = row_ends(map, row) else { continue };
                    (low, high) = (low.min(from), high.max(to));
                }
            }
        }
        // A plain scale: rows end where it ends.
        let y = Scale::Log { from: low, to: high };
        (low > 0.0 && high > low && end_s > 0.0)
            .then_some(Self { x: Scale::Linear { from: 0.0, to: end_s }, y })
    }

    fn plot(&self, is_wide: bool) -> Plot {
        let (width, height) = if is_wide { (560.0, 230.0) } else { (300.0, 170.0) };
        Plot { width, height, left: 54.0, right: 8.0, top: 26.0, bottom: 38.0, x: self.x, y: self.y }
    }
}

/// Where a row begins and ends; the first one, which begins at nothing, as wide as the second.
fn row_ends(map: &Heatmap, row: usize) -> Option<(f64, f64)> {
    let edge = |row: usize| map.edges_ns.get(row).map(|&edge| edge as f64);
    let to = edge(row)?;
    let from = match row.checked_sub(1) {
        Some(before) => edge(before)?,
        None => edge(1).map_or(to / 2.0, |next| to * to / next),
    };
    (from > 0.0 && to > from).then_some((from, to))
}

fn draw(
    svg: &mut Markup,
    view: &View,
    plot: &Plot,
    axes: &Axes,
    group: usize,
    measured: &Measured,
    map: &Heatmap,
) {
    let is_wide = plot.width > 420.0;
    plot.y_axis(
        svg,
        &Axis { tick: &|value| view.units.tick(value), title: "", ticks_max: if is_wide { 8 } else { 6 } },
    );
    let time = match view.units.clock {
        Clock::Real => "time into the window, s",
        Clock::Instructions => "10⁹ instructions into the window",
    };
    plot.x_axis(
        svg,
        &Axis { tick: &super::units::count_tick, title: time, ticks_max: if is_wide { 10 } else { 5 } },
    );
    let at = [("class", "head"), ("x", &*px(plot.left)), ("y", &px(plot.top - 9.0))];
    let counts = format!(" ({})", cell::counts(measured));
    let room = super::svg::characters(plot.width - plot.left).saturating_sub(counts.len()).max(4);
    let label = format!("{}{counts}", shortened(view.label(group), room));
    svg.leaf("text", &at, &label);
    for (shade, path) in shades(plot, axes, map).iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let opacity = SHADES[shade].1.to_string();
        svg.empty("path", &[("class", "heat"), ("opacity", &opacity), ("d", path)]);
    }
    for it in &measured.exemplars {
        let value = it.response_ns as f64;
        let (x, y) = (px(plot.x(it.intended_s)), px(plot.y(value)));
        let place = [("cx", &*x), ("cy", &y), ("r", "4.2")];
        svg.empty("circle", &[&place[..], &[("class", "exemplar-back")]].concat());
        svg.element("circle", &[&place[..], &[("class", "exemplar")]].concat(), |svg| {
            svg.leaf("title", &[], &format!("{} at {:.3} s", view.units.duration(value), it.intended_s));
        });
    }
}

/// For each shade, all its rectangles as one path.
fn shades(plot: &Plot, axes: &Axes, map: &Heatmap) -> Vec<String> {
    let table = coarsened(plot, axes, map);
    let mut paths = vec![String::new(); SHADES.len()];
    for (row, shades) in table.shades.iter().enumerate() {
        let mut column = 0;
        while column < shades.len() {
            let shade = shades[column];
            let end = (column..shades.len()).find(|&at| shades[at] != shade).unwrap_or(shades.len());
            if let Some(shade) = shade {
                let (left, right) = (table.xs[column], table.xs[end]);
                let (top, bottom) = (table.ys[row + 1], table.ys[row]);
                paths[shade].push_str(&format!("M{left} {top}h{}v{}H{left}z", right - left, bottom - top));
            }
            column = end;
        }
    }
    paths
}

/// Shades by row (from below) and column, and where those begin and end, in whole units of the drawing.
struct Table {
    shades: Vec<Vec<Option<usize>>>,
    xs: Vec<i64>,
    ys: Vec<i64>,
}

fn coarsened(plot: &Plot, axes: &Axes, map: &Heatmap) -> Table {
    let columns = map.columns.len().clamp(1, COLUMNS_MAX);
    let end_s = match axes.x {
        Scale::Linear { to, .. } | Scale::Log { to, .. } | Scale::Tail { to } => to,
    };
    // What has fewer pieces than the axis is long ends before it.
    let map_end_s = map.columns.iter().map(|it| it.start_s + it.length_s).fold(0.0, f64::max).min(end_s);
    let column_of = |start_s: f64, length_s: f64| {
        let middle = (start_s + length_s / 2.0) / map_end_s.max(f64::MIN_POSITIVE);
        ((middle * columns as f64) as usize).min(columns - 1)
    };
    let rows: Vec<(usize, f64, f64)> = (0..map.edges_ns.len())
        .filter_map(|row| row_ends(map, row).map(|(from, to)| (row, from, to)))
        .filter(|(_, from, to)| axes.y.share(*to) > 1e-6 && axes.y.share(*from) < 1.0 - 1e-6)
        .collect();
    let first = rows.first().map_or(0, |row| row.0);
    // Whole rows together, so that no drawn row is between two of the map's.
    let together = rows.len().div_ceil(ROWS_MAX).max(1);
    let mut counts = vec![vec![0_u64; columns]; rows.len().div_ceil(together)];
    let mut totals = vec![0_u64; columns];
    for piece in &map.columns {
        let column = column_of(piece.start_s, piece.length_s);
        for (row, &count) in piece.counts.iter().enumerate() {
            totals[column] += count;
            if let Some(counts) = row.checked_sub(first).and_then(|row| counts.get_mut(row / together)) {
                counts[column] += count;
            }
        }
    }
    let shade = |count: u64, total: u64| {
        let share = count as f64 / total.max(1) as f64;
        (count > 0).then(|| SHADES.iter().rposition(|shade| share >= shade.0).unwrap_or(0))
    };
    let of_row =
        |row: &Vec<u64>| row.iter().zip(&totals).map(|(&count, &total)| shade(count, total)).collect();
    let width = plot.x(map_end_s) - plot.left;
    let x = |column: usize| (plot.left + width * column as f64 / columns as f64).round() as i64;
    let begins = rows.chunks(together).map(|rows| rows[0].1);
    let end = rows.last().map(|row| row.2);
    Table {
        shades: counts.iter().map(of_row).collect(),
        xs: (0..=columns).map(x).collect(),
        ys: begins.chain(end).map(|value| plot.y(value).round() as i64).collect(),
    }
}

fn exemplars(page: &mut Markup, view: &View, cell: &Cell) {
    let title = format!("The slowest messages of one run of each group: {}.", cell.short);
    let note = format!(
        "At most {EXEMPLARS_MAX} of each. Response: from when it was to be sent; service: from when it was."
    );
    let head = |page: &mut Markup| {
        column(page, &view.comparison.by, "");
        column(page, "connection, message", "");
        for name in [
            "at",
            "response",
            "in the generator",
            "service",
            "in the server",
            "turns meanwhile",
            "longest turn",
        ] {
            column(page, name, "n");
        }
    };
    page::table(page, &title, &note, head, |page| {
        page.element("tbody", &[], |page| {
            for (group, measured) in all_measured(cell) {
                for it in measured.exemplars.iter().take(EXEMPLARS_MAX) {
                    group_row(page, group, |page| exemplar(page, view, group, it));
                }
            }
        });
    });
}

fn exemplar(page: &mut Markup, view: &View, group: usize, it: &Exemplar) {
    group_heading(page, view, group);
    page.leaf("td", &[], &format!("{}.{}, {}", it.thread, it.connection, it.number));
    number(page, it.intended_s, &format!("{:.3} s", it.intended_s), None);
    let in_server_ns = it.server.map(|server| server.in_server_ns);
    for value in [Some(it.response_ns), Some(it.queued_ns), Some(it.service_ns), in_server_ns] {
        page::maybe_number(page, value.map(|value| value as f64), |value| view.units.duration(value));
    }
    number(page, it.around.turns as f64, &it.around.turns.to_string(), None);
    let longest = it.around.longest_turn_ns as f64;
    number(page, longest, &view.units.duration(longest), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::model::HeatColumn;

    #[test]
    fn neighbours_of_one_shade_are_one_rectangle() {
        let column =
            |second: u32| HeatColumn { start_s: f64::from(second), length_s: 1.0, counts: vec![0, 10] };
        let map =
            Heatmap { edges_ns: vec![10, 20], columns: (0..50).map(column).collect(), ..Heatmap::default() };
        let axes = Axes::of([(&map, &[][..])].into_iter()).expect("answers");
        let paths = shades(&axes.plot(false), &axes, &map);
        let drawn: usize = paths.iter().map(|path| path.matches('M').count()).sum();
        assert_eq!(drawn, 1, "{paths:?}");
    }

    #[test]
    fn a_map_without_answers_is_none() {
        assert!(Axes::of([(&Heatmap::default(), &[][..])].into_iter()).is_none());
    }
}
