//! What charts are made of: a plot with its axes, lines, bands and labels beside their lines.
//!
//! Invariant: every chart has a title and a description for those who cannot see it; labels of an axis do not touch, and those at
//! the ends of lines are moved apart, each joined to its line.
//! Deliberately absent: colours (the style sheet's, by class) and numbers' words (given as functions).

use super::markup::{Markup, px, shortened};
use super::palette::Palette;
use super::scale::Scale;

/// Width of a character of a chart's text, roughly; digits are as wide.
const CHARACTER_PX: f64 = 6.8;
const LINE_PX: f64 = 12.5;
/// Longest label at the end of a line.
const END_LABEL_CHARACTERS: usize = 13;

/// How many characters of a heading have room in so much.
pub(super) fn characters(width: f64) -> usize {
    (width / 8.8) as usize
}

/// A chart: the space around the plot, and the scales within.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

/// An axis: how its values are written, and what it says.
pub(super) struct Axis<'a> {
    /// A value, short.
    pub(super) tick: &'a dyn Fn(f64) -> String,
    /// What the values are, with their unit.
    pub(super) title: &'a str,
    /// About how many values are named at most.
    pub(super) ticks_max: usize,
}

/// What one who cannot see a chart is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Says<'a> {
    pub(super) title: &'a str,
    pub(super) description: &'a str,
}

impl Plot {
    /// The place of a value along the page; what lies outside the scale, at its edge.
    pub(super) fn x(&self, value: f64) -> f64 {
        self.left + self.x.share(value).clamp(0.0, 1.0) * (self.width - self.left - self.right)
    }

    /// The place of a value down the page; what lies outside the scale, at its edge.
    pub(super) fn y(&self, value: f64) -> f64 {
        self.floor() - self.y.share(value).clamp(0.0, 1.0) * (self.floor() - self.top)
    }

    /// Where the plot ends below.
    pub(super) fn floor(&self) -> f64 {
        self.height - self.bottom
    }

    /// Where the plot ends to the right.
    pub(super) fn wall(&self) -> f64 {
        self.width - self.right
    }

    /// The element, with what is drawn into it.
    pub(super) fn svg(&self, page: &mut Markup, says: Says, inside: impl FnOnce(&mut Markup)) {
        svg(page, (self.width, self.height), says, inside);
    }

    /// The axis below, with its grid.
    pub(super) fn x_axis(&self, svg: &mut Markup, axis: &Axis) {
        let (floor, top) = (px(self.floor()), px(self.top));
        let mut free_from = f64::NEG_INFINITY;
        for value in self.x.ticks(axis.ticks_max) {
            let at = px(self.x(value));
            svg.empty("path", &[("class", "grid"), ("d", &format!("M{at} {top}V{floor}"))]);
            let text = (axis.tick)(value);
            let half = text.chars().count() as f64 * CHARACTER_PX / 2.0;
            // Words about the last tick would leave a chart that ends there.
            let middle = self.x(value).min(self.width - half - 1.0);
            if middle - half >= free_from {
                let (middle_px, below) = (px(middle), px(self.floor() + 14.0));
                svg.leaf("text", &[("class", "tick mid"), ("x", &middle_px), ("y", &below)], &text);
                free_from = middle + half + 5.0;
            }
        }
        svg.empty(
            "path",
            &[("class", "axis"), ("d", &format!("M{} {floor}H{}", px(self.left), px(self.wall())))],
        );
        let (middle, below) = (px((self.left + self.wall()) / 2.0), px(self.floor() + 30.0));
        svg.leaf("text", &[("class", "name mid"), ("x", &middle), ("y", &below)], axis.title);
    }

    /// The axis to the left, with its grid; its title stands above it, level, to be read without turning the head.
    pub(super) fn y_axis(&self, svg: &mut Markup, axis: &Axis) {
        let (left, wall) = (px(self.left), px(self.wall()));
        let mut free_from = f64::INFINITY;
        for value in self.y.ticks(axis.ticks_max) {
            let at = self.y(value);
            svg.empty("path", &[("class", "grid"), ("d", &format!("M{left} {}H{wall}", px(at)))]);
            if at + LINE_PX <= free_from {
                let (x, y) = (px(self.left - 6.0), px(at + 3.8));
                svg.leaf("text", &[("class", "tick end"), ("x", &x), ("y", &y)], &(axis.tick)(value));
                free_from = at;
            }
        }
        svg.leaf("text", &[("class", "name"), ("x", "2"), ("y", &px(self.top - 9.0))], axis.title);
    }

    /// A line through points, straight from each to the next.
    pub(super) fn line(&self, svg: &mut Markup, points: &[(f64, f64)]) {
        let path = self.path(points.iter().copied());
        svg.empty("path", &[("class", "line"), ("d", &path)]);
    }

    /// What lies between two lines: `(x, low, high)`.
    pub(super) fn band(&self, svg: &mut Markup, points: &[(f64, f64, f64)]) {
        if points.len() > 1 {
            let there = points.iter().map(|&(x, low, _)| (x, low));
            let back = points.iter().rev().map(|&(x, _, high)| (x, high));
            let path = self.path(there.chain(back));
            svg.empty("path", &[("class", "band"), ("d", &format!("{path}z"))]);
        }
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (x, y) in points {
            path.push(if path.is_empty() { 'M' } else { 'L' });
            path.push_str(&format!("{} {}", px(self.x(x)), px(self.y(y))));
        }
        path
    }

    /// Groups' names to the right of their lines' ends, `(group, x, y)`; moved apart where they would touch.
    pub(super) fn end_labels(
        &self,
        svg: &mut Markup,
        palette: &Palette,
        mut ends: Vec<(usize, f64, f64)>,
        label: impl Fn(usize) -> String,
    ) {
        ends.sort_by(|one, other| self.y(one.2).total_cmp(&self.y(other.2)));
        let wanted: Vec<_> = ends.iter().map(|end| self.y(end.2)).collect();
        let places = apart(&wanted, LINE_PX, self.top - 4.0, self.floor());
        for ((group, x, y), place) in ends.into_iter().zip(places) {
            svg.element("g", &[("class", &palette.classes(group))], |svg| {
                let from = px(self.x(x) + 4.0);
                let elbow = self.wall() + 6.0;
                let (start, end) = (px(self.y(y)), px(place));
                let path = format!("M{from} {start}L{} {end}h4", px(elbow.max(self.x(x) + 6.0)));
                svg.empty("path", &[("class", "leader"), ("d", &path)]);
                let (x, y) = (px(elbow + 7.0), px(place + 3.8));
                let text = shortened(&label(group), END_LABEL_CHARACTERS);
                svg.leaf("text", &[("class", "label"), ("x", &x), ("y", &y)], &text);
            });
        }
    }
}

/// An `svg` element of that size in user units, which grows and shrinks with its column.
pub(super) fn svg(page: &mut Markup, size: (f64, f64), says: Says, inside: impl FnOnce(&mut Markup)) {
    let view = format!("0 0 {} {}", px(size.0), px(size.1));
    let class = match size.0 {
        _ if size.0 > 800.0 => "chart huge",
        _ if size.0 > 420.0 => "chart wide",
        _ => "chart",
    };
    let attributes = [("class", class), ("viewBox", &view), ("role", "img"), ("aria-label", says.title)];
    page.element("svg", &attributes, |svg| {
        svg.leaf("title", &[], says.title);
        svg.leaf("desc", &[], says.description);
        inside(svg);
    });
    page.line();
}

/// The places nearest to those wanted (ascending) that are at least `gap` apart and within bounds, as far as there is room.
fn apart(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut places = Vec::with_capacity(wanted.len());
    // Runs of labels that touch, each about the middle of what its labels want: (sum of wanted first places, count).
    let mut runs: Vec<(f64, usize)> = Vec::new();
    let first = |(sum, count): (f64, usize)| {
        let most = (high - (count - 1) as f64 * gap).max(low);
        (sum / count as f64).clamp(low, most)
    };
    for &place in wanted {
        runs.push((place, 1));
        while let [.., one, other] = runs[..]
            && first(one) + one.1 as f64 * gap > first(other)
        {
            let shifted = other.0 - other.1 as f64 * one.1 as f64 * gap;
            runs.truncate(runs.len() - 2);
            runs.push((one.0 + shifted, one.1 + other.1));
        }
    }
    for run in runs {
        places.extend((0..run.1).map(|index| first(run) + index as f64 * gap));
    }
    places
}

/// At most so many of some points, the first and the last among them, spread evenly by `place`.
pub(super) fn thinned<T: Copy>(points: &[T], count_max: usize, place: impl Fn(&T) -> f64) -> Vec<T> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    if points.len() <= count_max {
        return points.to_vec();
    }
    let (from, to) = (place(first), place(last));
    let bin = |point: &T| (((place(point) - from) / (to - from)) * (count_max - 2) as f64).floor() as i64;
    let mut kept: Vec<T> = vec![*first];
    for point in &points[1..points.len() - 1] {
        if bin(point) != bin(&kept[kept.len() - 1]) {
            kept.push(*point);
        }
    }
    kept.truncate(count_max - 1);
    kept.push(*last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_moved_apart_and_no_further() {
        assert_eq!(apart(&[10.0, 50.0], 12.0, 0.0, 100.0), [10.0, 50.0]);
        assert_eq!(apart(&[50.0, 50.0], 12.0, 0.0, 100.0), [44.0, 56.0]);
        assert_eq!(apart(&[0.0, 1.0, 2.0], 12.0, 0.0, 100.0), [0.0, 12.0, 24.0]);
        assert_eq!(apart(&[98.0, 99.0, 100.0], 12.0, 0.0, 100.0), [76.0, 88.0, 100.0]);
        let places = apart(&[3.0, 3.0, 15.0, 16.0, 90.0, 91.0, 92.0], 12.0, 0.0, 100.0);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 12.0 - 1e-9), "{places:?}");
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let points: Vec<f64> = (0..1000).map(f64::from).collect();
        let kept = thinned(&points, 60, |point| *point);
        assert!(kept.len() <= 60 && kept.len() > 50, "{}", kept.len());
        assert_eq!((kept[0], kept[kept.len() - 1]), (0.0, 999.0));
    }
}
