//! Where response times went: the parts of the messages about a percentile, group under group.
//!
//! Invariant: the parts of a bar add up to its length, since they are means of the same messages. Wake-ups are hatched within
//! their way, so that colour alone tells nothing.
//! Deliberately absent: percentiles of parts, which add up to nothing.

use super::markup::{Markup, px, shortened};
use super::page::{self, column, drawing, group_heading, group_row, maybe_number, number};
use super::scale::Scale;
use super::svg::{Axis, Plot};
use super::{View, all_measured};
use crate::compare::model::Cell;
use crate::measure::anatomy::Explained;

const PERCENTILES: [&str; 2] = ["p50", "p99"];
const ROW_PX: f64 = 21.0;

/// A piece of a bar: its name, its classes, its length.
type Piece = (&'static str, &'static [&'static str], fn(&Explained) -> f64);

const PIECES: [Piece; 6] = [
    ("in the generator", &["part-0"], |it| it.generator_ns),
    ("to the server", &["part-1"], |it| it.to_server_ns - it.to_server_wake_up_ns.unwrap_or(0.0)),
    ("server’s wake-up and queue", &["part-1", "hatch"], |it| it.to_server_wake_up_ns.unwrap_or(0.0)),
    ("in the server", &["part-2"], |it| it.in_server_ns),
    ("back", &["part-3"], |it| it.back_ns - it.back_wake_up_ns.unwrap_or(0.0)),
    ("generator’s wake-up and queue", &["part-3", "hatch"], |it| it.back_wake_up_ns.unwrap_or(0.0)),
];

pub(super) fn show(page: &mut Markup, view: &View, cell: &Cell) {
    let all: Vec<_> = PERCENTILES.iter().flat_map(|name| explained(cell, name)).collect();
    if all.is_empty() {
        return;
    }
    let shown: Vec<&Piece> =
        PIECES.iter().filter(|piece| all.iter().any(|(_, it)| (piece.2)(it) > 0.0)).collect();
    let what = if cell.closed_loop { "service times" } else { "response times" };
    let title = format!("Where {what} went: {}", cell.short);
    let note = "Means of the messages about a percentile; the parts add up. Both ways hold the rest of the sender’s turn, two kernels and \
        the wire; hatched: from the receiving kernel to the receiving program.";
    page::figure(page, &title, note, |page| {
        page.element("ul", &[("class", "part-key")], |page| {
            for piece in &shown {
                page.element("li", &[], |page| {
                    page::sample(page, piece.1, 1.0);
                    page.text(piece.0);
                });
            }
        });
        page.element("div", &[("class", "figures")], |page| {
            for name in PERCENTILES {
                panel(page, view, cell, name);
            }
        });
    });
    page.element("details", &[("class", "inner")], |page| {
        page.leaf("summary", &[], "The parts as a table");
        table(page, view, cell, &shown);
    });
}

fn explained<'a>(cell: &'a Cell, percentile: &str) -> Vec<(usize, &'a Explained)> {
    let of = |explained: &'a Vec<Explained>| explained.iter().find(|it| it.percentile == percentile);
    all_measured(cell).filter_map(|(group, it)| Some((group, of(&it.anatomy.as_ref()?.explained)?))).collect()
}

fn panel(page: &mut Markup, view: &View, cell: &Cell, percentile: &str) {
    let bars = explained(cell, percentile);
    if bars.is_empty() {
        return;
    }
    let plot = Plot {
        width: 580.0,
        height: 26.0 + ROW_PX * bars.len() as f64 + 38.0,
        left: 104.0,
        right: 64.0,
        top: 26.0,
        bottom: 38.0,
        x: Scale::from_zero(bars.iter().map(|(_, it)| it.response_ns)),
        y: Scale::Linear { from: 0.0, to: 1.0 },
    };
    let title = format!("Messages about the {percentile}: {}", cell.short);
    drawing(
        page,
        (plot.width, plot.height),
        &title,
        "A bar for each group, its parts in the order of time.",
        |svg| {
            let name = view.units.axis("mean of those messages");
            plot.x_axis(svg, &Axis { tick: &|value| view.units.tick(value), title: &name, ticks_max: 6 });
            let head = format!("about the {percentile}");
            svg.leaf("text", &[("class", "head"), ("x", &px(plot.left)), ("y", "14")], &head);
            for (row, (group, it)) in bars.iter().enumerate() {
                let top = plot.top + ROW_PX * row as f64 + 3.0;
                bar(svg, view, &plot, top, *group, it);
            }
        },
    );
}

fn bar(svg: &mut Markup, view: &View, plot: &Plot, top: f64, group: usize, it: &Explained) {
    let middle = top + (ROW_PX - 6.0) / 2.0;
    svg.element("g", &[("class", &view.palette.classes(group))], |svg| {
        view.palette.marker(svg, group, (7.0, middle), 3.4);
    });
    let text = px(middle + 3.8);
    svg.leaf("text", &[("x", "16"), ("y", &text)], &shortened(view.label(group), 13));
    let mut sum = 0.0;
    for (name, classes, length) in PIECES {
        let length = length(it).max(0.0);
        let (from, to) = (plot.x(sum), plot.x(sum + length));
        sum += length;
        if to - from < 0.05 {
            continue;
        }
        for class in classes {
            let (x, y, width, height) = (px(from), px(top), px(to - from), px(ROW_PX - 6.0));
            let rect = [("class", *class), ("x", &*x), ("y", &y), ("width", &width), ("height", &height)];
            svg.element("rect", &rect, |svg| {
                svg.leaf("title", &[], &format!("{name}: {}", view.units.duration(length)));
            });
        }
    }
    let x = px(plot.x(sum) + 5.0);
    svg.leaf("text", &[("x", &x), ("y", &text)], &view.units.duration(it.response_ns));
}

fn table(page: &mut Markup, view: &View, cell: &Cell, shown: &[&Piece]) {
    let head = |page: &mut Markup| {
        column(page, &view.comparison.by, "");
        column(page, "about", "");
        column(page, "messages", "n");
        column(page, "whole", "n");
        shown.iter().for_each(|piece| column(page, piece.0, "n"));
    };
    let title = format!("Parts of the mean of the messages about a percentile: {}.", cell.short);
    page::table(page, &title, "", head, |page| {
        page.element("tbody", &[], |page| {
            for percentile in PERCENTILES {
                for (group, it) in explained(cell, percentile) {
                    group_row(page, group, |page| {
                        group_heading(page, view, group);
                        page.leaf("td", &[], percentile);
                        number(page, it.messages as f64, &crate::report::text::count(it.messages), None);
                        number(page, it.response_ns, &view.units.duration(it.response_ns), None);
                        for piece in shown {
                            maybe_number(page, Some((piece.2)(it)), |value| {
                                view.units.duration(value.max(0.0))
                            });
                        }
                    });
                }
            }
        });
    });
}
