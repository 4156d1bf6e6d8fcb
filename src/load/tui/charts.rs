//! The two charts over time: rate, and percentiles on a logarithmic axis.
//!
//! Invariant: an axis shows every point, and changes by steps, so that the picture does not crawl. Lines are named at
//! their ends, not by colour alone. Deliberately absent: smoothing; a point is what was measured in it.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType};

use super::model::{Model, Piece};
use super::view::{Palette, panel};
use crate::report::text;

/// Columns of the names at the lines' ends, with the latest values, and without where there is no room for them.
const NAME_COLUMNS: [u16; 2] = [13, 4];
/// The plot is to be this wide.
const PLOT_COLUMNS_MIN: u16 = 24;
/// The time axis shows this much at first, if the run is as long.
const FIRST_SPAN_S: f64 = 10.0;

/// A line of the percentile chart.
struct Series {
    name: &'static str,
    style: Style,
    points: Vec<(f64, f64)>,
    value_ns: Option<u64>,
}

pub(super) fn rate(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let offered = model.header.offered_per_s;
    let last = model.points.last().map(|point| text::rate(point.rate_per_s()));
    let now = match (last, offered) {
        (Some(last), Some(offered)) => format!("{last} answered of {} asked for", text::rate(offered)),
        (Some(last), None) => format!("{last} answered"),
        (None, _) => String::new(),
    };
    let inside = panel(frame, area, "rate", &now);
    let achieved: Vec<_> = model.points.iter().map(|point| (point.middle_s(), point.rate_per_s())).collect();
    if achieved.is_empty() {
        return;
    }
    let highest = achieved.iter().map(|point| point.1).fold(offered.unwrap_or(0.0), f64::max);
    let top = round_up(highest * 1.1);
    let asked = offered.map(|rate| across(model, rate, inside.width)).unwrap_or_default();
    let datasets = vec![
        Dataset::default().marker(Marker::Custom('╌')).style(palette.quiet()).data(&asked),
        line(&achieved).style(palette.series(0)),
    ];
    let labels = [0.0, top / 2.0, top].map(|rate| format!("{:>6}", short_rate(rate)));
    frame.render_widget(chart(model, palette, datasets, [0.0, top], labels.to_vec()), inside);
}

/// Points for a level line, one a column.
fn across(model: &Model, value: f64, columns: u16) -> Vec<(f64, f64)> {
    let span_s = span_s(model);
    (0..=columns).map(|column| (span_s * f64::from(column) / f64::from(columns.max(1)), value)).collect()
}

pub(super) fn percentiles(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let time = if model.header.is_open_loop() { "response time" } else { "service time" };
    let inside =
        panel(frame, area, &format!("{time} over time"), if model.points.is_empty() { "" } else { "latest" });
    let percentile = |quantile: f64| move |point: &Piece| point.counts.percentile_ns(quantile);
    let series = [
        series("max", palette.series(3), &model.points, |point| point.counts.max_ns()),
        series("p99", palette.series(2), &model.points, percentile(0.99)),
        series("p90", palette.series(1), &model.points, percentile(0.9)),
        series("p50", palette.series(0), &model.points, percentile(0.5)),
    ];
    let values = || series.iter().flat_map(|series| &series.points).map(|point| point.1);
    if values().next().is_none() {
        return;
    }
    let low = values().fold(f64::INFINITY, f64::min).floor();
    let high = values().fold(0.0, f64::max).ceil().max(low + 1.0);
    let roomy = inside.width >= NAME_COLUMNS[0] + PLOT_COLUMNS_MIN;
    let name_columns = NAME_COLUMNS[usize::from(!roomy)];
    let [plot, names] =
        Layout::horizontal([Constraint::Min(1), Constraint::Length(name_columns)]).areas(inside);
    let datasets = series.iter().map(|series| match series.name {
        // Single outliers: a line between them would pretend that there was something in between.
        "max" => Dataset::default().marker(Marker::Braille).style(series.style).data(&series.points),
        _ => line(&series.points).style(series.style),
    });
    let decades = (low as u32..=high as u32).map(|decade| format!("{:>6}", decade_label(decade)));
    frame.render_widget(chart(model, palette, datasets.collect(), [low, high], decades.collect()), plot);
    let plot_rows = plot.height.saturating_sub(2);
    for (row, series) in name_rows(&series, [low, high], plot_rows) {
        let value = series.value_ns.map_or("too few".to_owned(), two_digits);
        let name = Line::styled(format!(" {:<3} {value:>8}", series.name), series.style);
        frame.render_widget(name, Rect { y: names.y + row, height: 1, ..names }.intersection(names));
    }
}

fn series(
    name: &'static str,
    style: Style,
    points: &[Piece],
    value_ns: impl Fn(&Piece) -> Option<u64>,
) -> Series {
    let log = |point| value_ns(point).map(|value| (point.middle_s(), (value.max(1) as f64).log10()));
    Series {
        name,
        style,
        points: points.iter().filter_map(log).collect(),
        value_ns: points.last().and_then(&value_ns),
    }
}

/// The row beside each line's last value, moved down or up where names would lie on each other. From the top, the
/// largest value first.
fn name_rows(series: &[Series; 4], bounds: [f64; 2], rows: u16) -> Vec<(u16, &Series)> {
    let last_row = rows.saturating_sub(1);
    let mut placed: Vec<(u16, &Series)> = Vec::new();
    for one in series {
        let height = one.points.last().map_or(0.0, |point| (point.1 - bounds[0]) / (bounds[1] - bounds[0]));
        let wanted = ((1.0 - height) * f64::from(last_row)).round() as u16;
        let free = placed.last().map_or(0, |&(row, _)| row + 1);
        placed.push((wanted.max(free), one));
    }
    // Those that were pushed out at the bottom push the others up.
    let mut bound = last_row;
    for (row, _) in placed.iter_mut().rev() {
        *row = (*row).min(bound);
        bound = row.saturating_sub(1);
    }
    placed
}

fn line(points: &[(f64, f64)]) -> Dataset<'_> {
    // A single point would be a line without length.
    let kind = if points.len() > 1 { GraphType::Line } else { GraphType::Scatter };
    Dataset::default().marker(Marker::Braille).graph_type(kind).data(points)
}

fn chart<'a>(
    model: &Model,
    palette: &Palette,
    datasets: Vec<Dataset<'a>>,
    bounds: [f64; 2],
    labels: Vec<String>,
) -> Chart<'a> {
    let span_s = span_s(model);
    let times = [0.0, span_s / 2.0, span_s].map(short_time);
    let axis = |labels: Vec<String>| {
        Axis::default().style(palette.quiet()).labels(labels.into_iter().map(Span::raw).collect::<Vec<_>>())
    };
    Chart::new(datasets)
        .x_axis(axis(times.to_vec()).bounds([0.0, span_s]))
        .y_axis(axis(labels).bounds(bounds))
        .legend_position(None)
}

/// What the time axis shows: it doubles until it shows the whole run.
fn span_s(model: &Model) -> f64 {
    let (measured_s, whole_s) = (model.measured().as_secs_f64(), model.header.duration.as_secs_f64());
    let last_s = model.points.last().map_or(0.0, |point| (point.start + point.length).as_secs_f64());
    let mut span_s = FIRST_SPAN_S;
    while span_s < measured_s.max(last_s) {
        span_s *= 2.0;
    }
    span_s.min(whole_s).max(last_s)
}

/// The next number that reads well on an axis.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.max(1e-3).log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.iter().find(|step| **step * decade >= value).unwrap_or(&10.0);
    step * decade
}

fn short_rate(per_s: f64) -> String {
    let (value, unit) = match per_s {
        _ if per_s >= 1e6 => (per_s / 1e6, "M"),
        _ if per_s >= 1e3 => (per_s / 1e3, "k"),
        _ => (per_s, ""),
    };
    let digits = format!("{value:.1}");
    format!("{}{unit}/s", digits.strip_suffix(".0").unwrap_or(&digits))
}

fn short_time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        _ if seconds >= 7_200.0 => (seconds / 3_600.0, "h"),
        _ if seconds >= 120.0 => (seconds / 60.0, "min"),
        _ => (seconds, "s"),
    };
    let digits = format!("{value:.1}");
    format!("{} {unit}", digits.strip_suffix(".0").unwrap_or(&digits))
}

/// Ten to this power, in nanoseconds.
fn decade_label(decade: u32) -> String {
    let (unit, scale) = [("ns", 0), ("µs", 3), ("ms", 6), ("s", 9)]
        .into_iter()
        .rfind(|&(_, scale)| decade >= scale)
        .expect("the first scale is 0");
    format!("{} {unit}", 10_u64.pow(decade - scale))
}

/// A duration as exactly as the view knows it.
pub(super) fn two_digits(duration_ns: u64) -> String {
    let decade = 10_u64.pow(duration_ns.max(1).ilog10().saturating_sub(1));
    let rounded = (duration_ns + decade / 2) / decade * decade;
    let text = text::duration_ns(rounded);
    // Three digits by default: the last one is nought now.
    let (digits, unit) = text.split_once(' ').expect("a number and its unit");
    let digits = match digits.split_once('.') {
        Some((whole, decimals)) if whole.len() + decimals.len() == 3 => {
            format!("{whole}.{}", &decimals[..decimals.len() - 1])
        }
        _ => digits.to_owned(),
    };
    format!("{} {unit}", digits.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_no_more_exact_than_the_slots_they_come_from() {
        for (value_ns, expected) in [
            (0, "0 ns"),
            (7, "7 ns"),
            (654, "650 ns"),
            (1_234, "1.2 µs"),
            (89_400, "89 µs"),
            (99_600, "100 µs"),
            (658_000, "660 µs"),
            (4_250_000, "4.3 ms"),
            (1_500_000_000, "1.5 s"),
        ] {
            assert_eq!(two_digits(value_ns), expected, "{value_ns}");
        }
    }

    #[test]
    fn axes_are_labelled_as_people_write() {
        assert_eq!([3, 4, 5, 6, 9].map(decade_label), ["1 µs", "10 µs", "100 µs", "1 ms", "1 s"]);
        assert_eq!([0.0, 900.0, 12_500.0, 2.4e6].map(short_rate), ["0/s", "900/s", "12.5k/s", "2.4M/s"]);
        assert_eq!(
            [0.0, 2.5, 60.0, 150.0, 43_200.0].map(short_time),
            ["0 s", "2.5 s", "60 s", "2.5 min", "12 h"]
        );
        assert_eq!([22_000.0, 0.5, 1_000.0, 8.1].map(round_up), [24_000.0, 0.5, 1_000.0, 10.0]);
    }

    #[test]
    fn names_keep_their_order_and_never_lie_on_each_other() {
        let named =
            |name, height| Series { name, style: Style::new(), points: vec![(0.0, height)], value_ns: None };
        let rows = |heights: [f64; 4], rows| {
            let [a, b, c, d] = heights;
            let series = [named("max", a), named("p99", b), named("p90", c), named("p50", d)];
            name_rows(&series, [0.0, 1.0], rows).iter().map(|&(row, _)| row).collect::<Vec<_>>()
        };
        assert_eq!(rows([1.0, 0.7, 0.3, 0.0], 11), [0, 3, 7, 10]);
        assert_eq!(rows([1.0, 1.0, 1.0, 1.0], 11), [0, 1, 2, 3]);
        assert_eq!(rows([0.0, 0.0, 0.0, 0.0], 11), [7, 8, 9, 10]);
        assert_eq!(rows([0.5, 0.1, 0.1, 0.0], 4), [0, 1, 2, 3]);
    }
}
