//! Charts that are rows: cells with a heading each, and the groups of each beneath it.
//!
//! Invariant: rows stand in the order of the tables. Deliberately absent: what a row shows.

use super::View;
use super::markup::{Markup, px, shortened};

const HEAD_PX: f64 = 19.0;
const ROW_PX: f64 = 15.0;
/// Space for groups' names.
pub(super) const LABEL_PX: f64 = 96.0;
const LABEL_CHARACTERS: usize = 13;

/// One line of such a chart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Which block it belongs to: a cell's index, or what comes after all cells.
    pub(super) block: usize,
    /// The group, in the middle of this line; `None` for the block's heading.
    pub(super) group: Option<usize>,
    /// Where its middle is.
    pub(super) y: f64,
}

/// Rows for these blocks from `top` on, and where they end.
pub(super) fn layout(top: f64, blocks: &[(usize, Vec<usize>)]) -> (Vec<Row>, f64) {
    let mut rows = Vec::new();
    let mut y = top;
    for (block, groups) in blocks {
        rows.push(Row { block: *block, group: None, y: y + HEAD_PX / 2.0 + 2.0 });
        y += HEAD_PX;
        for group in groups {
            rows.push(Row { block: *block, group: Some(*group), y: y + ROW_PX / 2.0 });
            y += ROW_PX;
        }
        y += 3.0;
    }
    (rows, y)
}

/// A block's name over its rows.
pub(super) fn heading(svg: &mut Markup, row: &Row, text: &str, characters_max: usize) {
    let attributes = [("class", "head"), ("x", "0"), ("y", &*px(row.y + 3.8))];
    svg.leaf("text", &attributes, &shortened(text, characters_max));
}

/// A group's name and marker before its row.
pub(super) fn group(svg: &mut Markup, view: &View, row: &Row, group: usize) {
    svg.element("g", &[("class", &view.palette.classes(group))], |svg| {
        view.palette.marker(svg, group, (6.0, row.y), 3.4);
    });
    let attributes = [("x", "14"), ("y", &*px(row.y + 3.8))];
    svg.leaf("text", &attributes, &shortened(view.label(group), LABEL_CHARACTERS));
}

/// Hides the chart's grid behind a block's name, which would be hard to read over it.
pub(super) fn veil(svg: &mut Markup, row: &Row, width: f64) {
    let (y, width) = (px(row.y - 8.5), px(width));
    svg.empty("rect", &[("class", "veil"), ("x", "0"), ("y", &y), ("width", &width), ("height", "17")]);
}
