//! The page's style sheet and script.
//!
//! Invariant: both themes come from one list of colours (`light-dark()`), and text has a contrast of at least 4.5 to 1 to whatever it may
//! stand on, which a test works out; nothing is loaded.
//! Deliberately absent: groups' colours, which the palette has; a script that anything depends on.

/// Everything but colours.
pub(super) const SHEET: &str = include_str!("page.css");
/// Comfort alone: the chosen theme is remembered, and what a link leads to is opened.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// Named colours, on light and on dark.
const COLORS: [(&str, [&str; 2]); 16] = [
    ("page", ["#ffffff", "#14171a"]),
    ("raised", ["#f5f6f7", "#1d2125"]),
    ("chosen", ["#e8f0f8", "#25313c"]),
    ("ink", ["#16191d", "#e9ecef"]),
    ("soft", ["#525a63", "#a9b2bb"]),
    ("rule", ["#d4d9de", "#363c43"]),
    ("grid", ["#e6e9ec", "#2a2f35"]),
    ("axis", ["#7d868f", "#7d868f"]),
    ("link", ["#0b57a4", "#8cc2f5"]),
    ("focus", ["#b4470a", "#ffb86b"]),
    // Blue and orange: told apart by every kind of eye, and neither means "go".
    ("better", ["#0b62ab", "#7cbcf4"]),
    ("worse", ["#a8430b", "#f5a25d"]),
    ("better-shade", ["#56a3e0", "#2f7fc4"]),
    ("worse-shade", ["#ee9450", "#b9611f"]),
    ("warn-page", ["#fff3d6", "#3a2f14"]),
    ("heat", ["#0b3f73", "#9fd0ff"]),
];

/// What charts and tables stand on, by theme.
#[cfg(test)]
pub(super) const PAGES: [[&str; 2]; 2] = [["#ffffff", "#f5f6f7"], ["#14171a", "#1d2125"]];

/// How strongly a shade of the grid may cover the page.
pub(super) const SHADE_MAX_PERCENT: u32 = 55;

/// The parts of a response time, in the order of their happening: the rest of each way lies before its wake-up.
pub(super) const PART_COLORS: [[&str; 2]; 4] =
    [["#8a8f96", "#9aa1a9"], ["#2b7bba", "#5aa7e0"], ["#c9621d", "#ec9550"], ["#1f8a70", "#4fbf9f"]];

/// The colours as custom properties.
pub(super) fn colors() -> String {
    let mut css = String::from(":root{color-scheme:light dark;");
    for (name, [light, dark]) in COLORS {
        css.push_str(&format!("--{name}:light-dark({light},{dark});"));
    }
    for (part, [light, dark]) in PART_COLORS.iter().enumerate() {
        css.push_str(&format!("--part-{part}:light-dark({light},{dark});"));
    }
    css.push_str("}\n");
    css
}

#[cfg(test)]
mod tests {
    use super::super::contrast::{contrast, over};
    use super::*;

    fn color(name: &str, theme: usize) -> &'static str {
        COLORS.iter().find(|color| color.0 == name).unwrap_or_else(|| panic!("no colour {name}")).1[theme]
    }

    #[test]
    fn text_can_be_read_on_whatever_it_stands_on() {
        for theme in [0, 1] {
            assert_eq!([color("page", theme), color("raised", theme)], PAGES[theme]);
            for text in ["ink", "soft", "link", "better", "worse"] {
                for page in ["page", "raised", "chosen", "warn-page"] {
                    let ratio = contrast(color(text, theme), color(page, theme));
                    assert!(ratio >= 4.5, "{text} on {page} of theme {theme}: {ratio:.2}");
                }
            }
            for shade in ["better-shade", "worse-shade"] {
                let opacity = f64::from(SHADE_MAX_PERCENT) / 100.0;
                let page = over(color(shade, theme), opacity, color("page", theme));
                let ratio = contrast(color("ink", theme), &page);
                assert!(ratio >= 4.5, "ink on {shade} of theme {theme}: {ratio:.2}");
            }
        }
    }

    #[test]
    fn what_is_not_text_stands_out_too() {
        for theme in [0, 1] {
            let parts = PART_COLORS.map(|colors| colors[theme]);
            let others = ["axis", "focus", "better", "worse", "heat"].map(|name| color(name, theme));
            for drawn in parts.into_iter().chain(others) {
                for page in PAGES[theme] {
                    let ratio = contrast(drawn, page);
                    assert!(ratio >= 3.0, "{drawn} on {page}: {ratio:.2}");
                }
            }
        }
    }
}
