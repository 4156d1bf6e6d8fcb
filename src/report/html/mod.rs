//! A comparison as one page: tables and small charts that need nothing but a browser.
//!
//! Invariant: the page loads nothing, works from a file without a script, and is well-formed as XML too; a number in a table stands
//! in a `data` element whose `value` is the model's, to the last bit; what is told by colour is also told by shape or in words.
//! Deliberately absent: any number that the [`Comparison`] does not hold, and any opinion that it does not state.

mod anatomy;
mod bars;
mod cell;
#[cfg(test)]
mod contrast;
mod curve;
mod effect;
mod environment;
mod forest;
mod grid;
mod heading;
mod heatmap;
mod markup;
mod page;
mod palette;
mod provenance;
mod rows;
mod scale;
mod shift;
mod spectrum;
mod style;
mod summary;
mod svg;
mod units;

use crate::compare::model::{Cell, Comparison, Difference, Estimate, Measured};
use markup::Markup;
use palette::Palette;
use units::Units;

/// The page, as the text of an HTML file in UTF-8.
pub fn render(comparison: &Comparison) -> String {
    let view = View {
        labels: super::comparison::short_groups(comparison),
        comparison,
        units: Units { clock: comparison.clock },
        palette: Palette::new(comparison.groups.len(), comparison.baseline),
    };
    page::document(&view, &heading::title(&view), |page| {
        heading::header(page, &view);
        page::key(page, &view);
        page.element("main", &[("id", "content")], |page| {
            for section in SECTIONS.iter().filter(|section| (section.applies)(&view)) {
                page::section(page, section.id, section.title, |page| (section.show)(page, &view));
            }
        });
        heading::footer(page, &view);
    })
}

/// A part of the page.
struct Section {
    id: &'static str,
    title: &'static str,
    applies: fn(&View) -> bool,
    show: fn(&mut Markup, &View),
}

/// All parts, in their order. A new one is a file and a line here.
const SECTIONS: [Section; 8] = [
    Section { id: "summary", title: "Summary", applies: |_| true, show: summary::show },
    Section { id: "changes", title: "What changed", applies: forest::applies, show: forest::show },
    Section {
        id: "cells",
        title: "Cell by cell",
        applies: |view| !view.comparison.cells.is_empty(),
        show: cell::show,
    },
    Section { id: "load", title: "Latency against load", applies: curve::applies, show: curve::show },
    Section { id: "costs", title: "Throughput and processor time", applies: bars::applies, show: bars::show },
    Section { id: "grid", title: "Effects and interactions", applies: grid::applies, show: grid::show },
    Section { id: "environment", title: "What else differs", applies: |_| true, show: environment::show },
    Section {
        id: "sources",
        title: "Where every number comes from",
        applies: |_| true,
        show: provenance::show,
    },
];

/// What every part needs.
struct View<'a> {
    comparison: &'a Comparison,
    /// Groups' labels, as short as tells them apart; the top of the page has them whole.
    labels: Vec<String>,
    units: Units,
    palette: Palette,
}

/// From so many groups on, bands of several at once would hide each other.
const MANY_GROUPS: usize = 5;

impl View<'_> {
    fn label(&self, group: usize) -> &str {
        self.labels.get(group).map_or("", |label| label)
    }

    fn baseline(&self) -> &str {
        self.label(self.comparison.baseline)
    }

    fn is_baseline(&self, group: usize) -> bool {
        group == self.comparison.baseline
    }

    fn groups(&self) -> std::ops::Range<usize> {
        0..self.comparison.groups.len()
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        self.groups().filter(|&group| !self.is_baseline(group))
    }

    fn is_many(&self) -> bool {
        self.comparison.groups.len() >= MANY_GROUPS
    }
}

/// A group's results in a cell.
fn measured(cell: &Cell, group: usize) -> Option<&Measured> {
    cell.columns.get(group)?.measured()
}

fn estimate<'a>(measured: &'a Measured, metric: &str) -> Option<&'a Estimate> {
    measured.metrics.iter().find(|estimate| estimate.metric == metric)
}

fn difference<'a>(measured: &'a Measured, metric: &str) -> Option<&'a Difference> {
    measured.differences.iter().find(|difference| difference.metric == metric)
}

/// The groups that have results in a cell, with them.
fn all_measured(cell: &Cell) -> impl Iterator<Item = (usize, &Measured)> {
    cell.columns.iter().enumerate().filter_map(|(group, column)| Some((group, column.measured()?)))
}
