//! The page around its parts: head, key, sections, figures and tables.
//!
//! Invariant: every table has a caption and headings with a scope, and scrolls within itself; every figure says in its caption
//! what it shows. Choosing a theme or a group to stand out takes a radio button and the style sheet alone.
//! Deliberately absent: what sections show.

use super::View;
use super::markup::Markup;
use super::style;
use super::svg::{self, Says};

/// The whole document; `body` is what it holds.
pub(super) fn document(view: &View, title: &str, body: impl FnOnce(&mut Markup)) -> String {
    let mut page = Markup::default();
    page.constant("<!DOCTYPE html>\n");
    page.element("html", &[("lang", "en")], |page| {
        page.element("head", &[], |page| {
            page.empty("meta", &[("charset", "utf-8")]);
            page.empty("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
            page.leaf("title", &[], title);
            page.code("style", &format!("{}{}{}", style::colors(), style::SHEET, view.palette.css()));
        });
        page.line();
        page.element("body", &[], |page| {
            page.leaf("a", &[("class", "skip"), ("href", "#content")], "Skip to the content");
            // Shared by all charts: lines over a part of a response time that was a wake-up.
            page.constant(HATCH);
            body(page);
            page.code("script", style::SCRIPT);
        });
    });
    page.line();
    page.finish()
}

const HATCH: &str = "<svg class=\"defs\" aria-hidden=\"true\"><defs><pattern id=\"hatch\" width=\"5\" height=\"5\" \
    patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><path class=\"hatch-line\" d=\"M0 0V5\"/></pattern></defs></svg>\n";

/// Which group looks how, and the choice of one that stands out; stays in sight.
pub(super) fn key(page: &mut Markup, view: &View) {
    page.element("div", &[("class", "key")], |page| {
        page.element("fieldset", &[], |page| {
            page.leaf("legend", &[], "Stand out");
            page.element("label", &[], |page| {
                let attributes = [("type", "radio"), ("name", "only"), ("id", "only-none"), ("checked", "")];
                page.empty("input", &attributes);
                page.text("all alike");
            });
            for group in view.groups() {
                page.text(" ");
                page.element("label", &[], |page| {
                    let id = format!("only-{group}");
                    page.empty("input", &[("type", "radio"), ("name", "only"), ("id", &id)]);
                    swatch(page, view, group);
                    let name = if view.is_baseline(group) { "b" } else { "span" };
                    page.leaf(name, &[], view.label(group));
                    if view.is_baseline(group) {
                        page.leaf("span", &[("class", "soft")], "baseline");
                    }
                });
            }
        });
    });
    page.line();
}

/// A line and a marker as the group's are.
pub(super) fn swatch(page: &mut Markup, view: &View, group: usize) {
    let attributes = [("class", "swatch"), ("viewBox", "0 0 30 12"), ("aria-hidden", "true")];
    page.element("svg", &attributes, |svg| {
        // No `s`: the key and tables are to stay as they are.
        let base = if view.is_baseline(group) { "base" } else { "" };
        svg.element("g", &[("class", &format!("g{group} {base}"))], |svg| {
            svg.empty("path", &[("class", "line"), ("d", "M1 6H29")]);
            view.palette.marker(svg, group, (15.0, 6.0), 3.6);
        });
    });
}

/// A part of the page under its heading.
pub(super) fn section(page: &mut Markup, id: &str, title: &str, inside: impl FnOnce(&mut Markup)) {
    let heading = format!("{id}-heading");
    page.element("section", &[("id", id), ("aria-labelledby", &heading)], |page| {
        page.leaf("h2", &[("id", &heading)], title);
        inside(page);
    });
    page.line();
}

/// A figure: what it shows, how to read it, and the drawing.
pub(super) fn figure(page: &mut Markup, title: &str, note: &str, draw: impl FnOnce(&mut Markup)) {
    page.element("figure", &[], |page| {
        page.element("figcaption", &[], |page| {
            page.leaf("b", &[], title);
            page.text(note);
        });
        page.element("div", &[("class", "draw")], draw);
    });
    page.line();
}

/// A table: what it holds, how to read it, its heading row and its bodies.
pub(super) fn table(
    page: &mut Markup,
    title: &str,
    note: &str,
    head: impl FnOnce(&mut Markup),
    bodies: impl FnOnce(&mut Markup),
) {
    let region = [("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", title)];
    page.element("div", &region, |page| {
        page.element("table", &[], |page| {
            page.element("caption", &[], |page| {
                page.element("span", &[("class", "said")], |page| {
                    page.leaf("b", &[], title);
                    page.text(if note.is_empty() { "" } else { " " });
                    page.text(note);
                });
            });
            page.element("thead", &[], |page| page.element("tr", &[], head));
            page.line();
            bodies(page);
        });
    });
    page.line();
}

/// A column's heading.
pub(super) fn column(page: &mut Markup, title: &str, class: &str) {
    page.leaf("th", &[("scope", "col"), ("class", class)], title);
}

/// A row's heading: a group, with how it looks.
pub(super) fn group_heading(page: &mut Markup, view: &View, group: usize) {
    let label = view.label(group);
    page.element("th", &[("scope", "row"), ("class", "group"), ("title", label)], |page| {
        swatch(page, view, group);
        page.text(label);
    });
}

/// A table's row that is a group's.
pub(super) fn group_row(page: &mut Markup, group: usize, inside: impl FnOnce(&mut Markup)) {
    page.element("tr", &[("class", &format!("g{group}"))], inside);
    page.line();
}

/// A number: as it is written, and as it is.
pub(super) fn data(page: &mut Markup, value: f64, text: &str) {
    page.leaf("data", &[("value", &value.to_string())], text);
}

/// A number in a table, and in small print what else is to be said of it.
pub(super) fn number(page: &mut Markup, value: f64, text: &str, small: Option<&str>) {
    page.element("td", &[("class", "n")], |page| {
        data(page, value, text);
        if let Some(small) = small {
            page.leaf("small", &[], small);
        }
    });
}

/// A number in a table, or a dash where there is none.
pub(super) fn maybe_number(page: &mut Markup, value: Option<f64>, write: impl FnOnce(f64) -> String) {
    match value {
        Some(value) => number(page, value, &write(value), None),
        None => page.leaf("td", &[("class", "n soft")], "–"),
    }
}

/// What a key of a chart shows beside a word: a rectangle of those classes, one over the other.
pub(super) fn sample(page: &mut Markup, classes: &[&str], opacity: f64) {
    let attributes = [("viewBox", "0 0 18 11"), ("aria-hidden", "true")];
    page.element("svg", &attributes, |svg| {
        for class in classes {
            let opacity = opacity.to_string();
            let rect = [("class", *class), ("width", "18"), ("height", "11"), ("opacity", &opacity)];
            svg.empty("rect", &rect);
        }
    });
}

/// See [`svg::svg`].
pub(super) fn drawing(
    page: &mut Markup,
    size: (f64, f64),
    title: &str,
    description: &str,
    inside: impl FnOnce(&mut Markup),
) {
    svg::svg(page, size, Says { title, description }, inside);
}
