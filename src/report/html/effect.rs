//! A ratio to the baseline: its words, its mark, its interval, and the axis that many of them share.
//!
//! Invariant: a mark is a word as well as a colour and a shape; an interval that ends beyond its axis says so with an arrow.
//! Deliberately absent: whether a change is one, which the model says.

use super::markup::{Markup, px};
use super::page;
use super::scale::Scale;
use super::svg::Plot;
use super::units::{change, change_with_interval, share};
use crate::compare::metric::Metric;
use crate::compare::model::{Change, Effect};

/// The change's name: of its class, and in words.
pub(super) fn class(change: Change) -> &'static str {
    match change {
        Change::Better => "better",
        Change::Worse => "worse",
        Change::Noise => "noise",
        Change::TooFew => "too-few",
    }
}

/// As marks are written.
pub(super) fn word(change: Change) -> &'static str {
    match change {
        Change::Better => "better",
        Change::Worse => "worse",
        Change::Noise => "~",
        Change::TooFew => "?",
    }
}

/// What the marks of a table mean.
pub(super) const MARKS: &str = "Beneath each change, the ends of its 95 % interval. better, worse: adjusted for all changes of the metric \
    (Holm). ~: cannot be told from chance; in brackets, the smallest change that so many boots would show four times in \
    five. ?: too few boots for any change to be told from chance, however large.";

/// An effect in a table's cell.
pub(super) fn show(page: &mut Markup, effect: &Effect, detectable: Option<f64>, more: &str, style: &str) {
    let class = class(effect.change);
    let attributes = [("class", &*format!("e {class}{more}")), ("style", style)];
    let attributes = if style.is_empty() { &attributes[..1] } else { &attributes[..] };
    page.element("td", attributes, |page| {
        let (text, interval) = change_with_interval(effect.ratio, effect.interval);
        page::data(page, effect.ratio, &text);
        page.text(" ");
        let mark = match (effect.change, detectable) {
            (Change::Noise, Some(detectable)) => format!("~ ({})", share(detectable)),
            (change, _) => word(change).to_owned(),
        };
        page.leaf("span", &[("class", &format!("mark-{class}"))], &mark);
        page.leaf("small", &[], interval.as_deref().unwrap_or("no interval"));
    });
}

/// An axis that has all ratios on it, and of their intervals as much as leaves the ratios room.
pub(super) fn scale(effects: &[(f64, Option<(f64, f64)>)]) -> Scale {
    let usable = |value: &f64| value.is_finite() && *value > 0.0;
    let ratios = effects.iter().map(|effect| effect.0).filter(usable);
    let (low, high) = ratios.fold((1.0_f64, 1.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    let room = (high / low).powf(1.5).max(1.2);
    let ends = effects.iter().filter_map(|effect| effect.1);
    let (from, to) = ends
        .filter(|(from, to)| usable(from) && usable(to))
        .fold((low, high), |(low, high), ends| (low.min(ends.0), high.max(ends.1)));
    let (from, to) = (from.max(low / room), to.min(high * room));
    if from < 0.5 || to > 2.0 { Scale::log(from, to) } else { Scale::linear(from.min(0.99), to.max(1.01)) }
}

/// A ratio at an axis of [`scale`].
pub(super) fn tick(scale: &Scale) -> impl Fn(f64) -> String {
    let is_log = matches!(scale, Scale::Log { .. });
    move |ratio| {
        if is_log {
            let text = format!("{ratio:.4}");
            return format!("×{}", text.trim_end_matches('0').trim_end_matches('.'));
        }
        let percent = format!("{:.2}", 100.0 * (ratio - 1.0).abs());
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        match percent {
            "0" | "" => "0".to_owned(),
            _ if ratio < 1.0 => format!("−{percent} %"),
            _ => format!("+{percent} %"),
        }
    }
}

/// Which way is better, below an axis of ratios.
pub(super) fn directions(svg: &mut Markup, plot: &Plot, metric: &Metric) {
    let (low, high) =
        if metric.more_is_better { ("← worse", "better →") } else { ("← better", "worse →") };
    let y = px(plot.floor() + 30.0);
    svg.leaf("text", &[("class", "name"), ("x", &px(plot.left)), ("y", &y)], low);
    svg.leaf("text", &[("class", "name end"), ("x", &px(plot.wall())), ("y", &y)], high);
}

/// An effect on a level line: its interval, its mark, and behind both what could not have been seen.
pub(super) fn draw(
    svg: &mut Markup,
    plot: &Plot,
    y: f64,
    effect: &Effect,
    detectable: Option<f64>,
    is_overall: bool,
) {
    svg.element("g", &[("class", class(effect.change))], |svg| {
        if let Some(share) = detectable {
            let (from, to) = (plot.x(1.0 / (1.0 + share)), plot.x(1.0 + share));
            let attributes = [
                ("class", "detectable"),
                ("x", &*px(from)),
                ("y", &px(y - 5.5)),
                ("width", &px(to - from)),
                ("height", "11"),
            ];
            svg.empty("rect", &attributes);
        }
        if let Some((low, high)) = effect.interval {
            let mut path = format!("M{} {y}H{}", px(plot.x(low)), px(plot.x(high)), y = px(y));
            for (end, inwards) in [(low, 5.0), (high, -5.0)] {
                let at = plot.x(end);
                path.push_str(&if plot.x.has(end) {
                    format!("M{} {}v6", px(at), px(y - 3.0))
                } else {
                    format!(
                        "M{} {}L{} {}L{} {}",
                        px(at + inwards),
                        px(y - 3.5),
                        px(at),
                        px(y),
                        px(at + inwards),
                        px(y + 3.5)
                    )
                });
            }
            svg.empty("path", &[("class", "reach"), ("d", &path)]);
        }
        mark(svg, (plot.x(effect.ratio), y), effect.change, is_overall);
    });
}

/// A disc for better, a square for worse, a ring for neither; a diamond for all cells together.
fn mark(svg: &mut Markup, (x, y): (f64, f64), change: Change, is_overall: bool) {
    let polygon = |svg: &mut Markup, corners: [(f64, f64); 4]| {
        let points = corners.map(|(dx, dy)| format!("{},{}", px(x + dx), px(y + dy))).join(" ");
        svg.empty("polygon", &[("class", "mark"), ("points", &points)]);
    };
    match change {
        _ if is_overall => polygon(svg, [(0.0, -5.0), (6.5, 0.0), (0.0, 5.0), (-6.5, 0.0)]),
        Change::Worse => polygon(svg, [(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)]),
        _ => svg.empty("circle", &[("class", "mark"), ("cx", &px(x)), ("cy", &px(y)), ("r", "3.9")]),
    }
}

/// An effect in a line of text: `−12.3 % better`.
pub(super) fn in_words(effect: &Effect) -> String {
    format!("{} {}", change(effect.ratio), word(effect.change))
}
