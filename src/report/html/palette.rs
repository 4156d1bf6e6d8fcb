//! How groups are told apart, in every chart alike: by colour, by dash and by marker, so that any two of the three may fail.
//!
//! Invariant: the baseline is neutral and solid; no two of the first 48 groups share colour, dash and marker. Every colour has a contrast
//! of at least 3 to 1 to its theme's page (WCAG 2.2, 1.4.11), and colours that share a dash stay apart for eyes that lack one
//! kind of cone (Machado et al. 2009, severity 1): tests work both out.
//! Deliberately absent: text in these colours; text is ink.

use super::markup::{Markup, px};

/// On light and on dark; found by annealing for distance in Oklab under normal and dichromatic vision, weighted to part the first
/// few best and those that share a dash.
const COLORS: [[&str; 2]; 11] = [
    ["#1b4dd1", "#5ba0fa"],
    ["#7b3606", "#cf6b58"],
    ["#0d957e", "#74f79e"],
    ["#cc51cb", "#9461b1"],
    ["#ad8604", "#f9d630"],
    ["#227995", "#42d9fa"],
    ["#632534", "#e399a6"],
    ["#718b4f", "#b4ba35"],
    ["#a3215a", "#d42975"],
    ["#350aa6", "#5367f4"],
    ["#906606", "#ae6704"],
];
/// The baseline's.
const NEUTRAL: [&str; 2] = ["#16191d", "#f2f4f6"];
const DASHES: [&str; 4] = ["", "7 3", "2 2.5", "9 3 2 3"];

/// A group's looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    /// Which colour; `None` for the baseline.
    color: Option<usize>,
    dash: usize,
    marker: usize,
}

/// The looks of all groups.
#[derive(Debug, Clone)]
pub(super) struct Palette(Vec<Look>);

impl Palette {
    /// For so many groups, of which one is the baseline.
    pub(super) fn new(groups: usize, baseline: usize) -> Self {
        let look = |group: usize| {
            if group == baseline {
                return Look { color: None, dash: 0, marker: 0 };
            }
            // The baseline takes no colour from the others.
            let number = if group < baseline { group + 1 } else { group };
            let (turn, color) = ((number - 1) / COLORS.len(), (number - 1) % COLORS.len());
            Look { color: Some(color), dash: (number + turn) % DASHES.len(), marker: number % MARKERS }
        };
        Self((0..groups).map(look).collect())
    }

    /// The style sheet's part: what each `.gN` looks like, and how one stands out while its radio button is checked.
    pub(super) fn css(&self) -> String {
        let mut css = String::new();
        for (group, look) in self.0.iter().enumerate() {
            let [light, dark] = look.color.map_or(NEUTRAL, |color| COLORS[color]);
            let dash = DASHES[look.dash];
            let dash = if dash.is_empty() { "none" } else { dash };
            css.push_str(&format!(
                ".g{group}{{--c:light-dark({light},{dark})}}.g{group} .line{{stroke-dasharray:{dash}}}\n\
                 :root:has(#only-{group}:checked) .s:not(.g{group}):not(.base){{opacity:.13}}\
                 :root:has(#only-{group}:checked) .s.g{group} .band{{display:inline;opacity:.22}}\
                 :root:has(#only-{group}:checked) .s.g{group} .line{{stroke-width:2.6}}\
                 :root:has(#only-{group}:checked) tr.g{group}{{background:var(--chosen)}}\n"
            ));
        }
        css
    }

    /// The classes of a group's part of a chart.
    pub(super) fn classes(&self, group: usize) -> String {
        let base = if self.0[group].color.is_none() { " base" } else { "" };
        format!("s g{group}{base}")
    }

    /// The group's marker at a place of a chart.
    pub(super) fn marker(&self, svg: &mut Markup, group: usize, (x, y): (f64, f64), radius: f64) {
        marker(svg, self.0[group].marker, (x, y), radius);
    }
}

/// How many shapes there are.
const MARKERS: usize = 6;

fn marker(svg: &mut Markup, shape: usize, (x, y): (f64, f64), radius: f64) {
    if shape == 0 {
        return svg.empty("circle", &[("class", "mark"), ("cx", &px(x)), ("cy", &px(y)), ("r", &px(radius))]);
    }
    let corners: &[(f64, f64)] = match shape {
        1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2 => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        3 => &[(0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)],
        4 => &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
        _ => &[
            (-0.4, -1.2),
            (0.4, -1.2),
            (0.4, -0.4),
            (1.2, -0.4),
            (1.2, 0.4),
            (0.4, 0.4),
            (0.4, 1.2),
            (-0.4, 1.2),
            (-0.4, 0.4),
            (-1.2, 0.4),
            (-1.2, -0.4),
            (-0.4, -0.4),
        ],
    };
    let points: Vec<_> =
        corners.iter().map(|(dx, dy)| format!("{},{}", px(x + dx * radius), px(y + dy * radius))).collect();
    svg.empty("polygon", &[("class", "mark"), ("points", &points.join(" "))]);
}

#[cfg(test)]
mod tests {
    use super::super::contrast::{contrast, dichromatic_distance};
    use super::super::style::PAGES;
    use super::*;

    #[test]
    fn every_color_stands_out_from_its_page() {
        for colors in COLORS.iter().chain([&NEUTRAL]) {
            for (theme, pages) in PAGES.iter().enumerate() {
                for page in pages {
                    let ratio = contrast(colors[theme], page);
                    assert!(ratio >= 3.0, "{} on {page}: {ratio:.2}", colors[theme]);
                }
            }
        }
    }

    #[test]
    fn colors_that_share_a_dash_differ_for_every_eye() {
        let looks = Palette::new(12, 0).0;
        let color = |look: &Look, theme: usize| look.color.map_or(NEUTRAL, |color| COLORS[color])[theme];
        for theme in [0, 1] {
            for (group, one) in looks.iter().enumerate() {
                for other in looks[..group].iter() {
                    let distance = dichromatic_distance(color(one, theme), color(other, theme));
                    let least = if one.dash == other.dash { 0.1 } else { 0.05 };
                    assert!(distance >= least, "{one:?} {other:?} in theme {theme}: {distance:.3}");
                }
            }
        }
    }

    #[test]
    fn no_two_groups_look_the_same() {
        for baseline in [0, 3, 47] {
            let looks = Palette::new(48, baseline).0;
            for (group, look) in looks.iter().enumerate() {
                assert!(!looks[..group].contains(look), "{group} of baseline {baseline}: {look:?}");
            }
        }
    }
}
