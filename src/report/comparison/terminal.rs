//! A comparison for a terminal.
//!
//! Invariant: four groups fit into 100 columns; of more, as many as fit stand beside each other, always with the baseline.
//! Deliberately absent: spectra, maps and anatomies, which are pictures.

use super::super::Style;
use super::super::terminal::show_warnings;
use super::super::text::{printable, table, wrap};
use super::{
    MARKS, absences, caveats, certainty_text, change_text, effect_text, estimate_text, heading,
    interval_text, metrics_of, short_labels, sources, spread_text, title, verdict_text,
};
use crate::compare::metric::{Metric, cost};
use crate::compare::model::{Bearing, Cell, Column, Comparison, EnvironmentDifference, Grid, GridTable};

/// Metrics of which grids are shown here, beside what a message costs; other outputs have all.
const GRID_METRICS: [&str; 3] = ["p50", "p99", "rate"];
/// Between columns.
const GAP: usize = 2;

/// The whole comparison, ending in a newline.
pub(super) fn render(comparison: &Comparison, style: Style) -> String {
    let short = short_labels(comparison);
    let mut text = style.bold(&wrap(&title(comparison), style.width_columns, 2)) + "\n";
    text.push_str(&groups(comparison));
    text.push_str(&show_warnings(&caveats(comparison), style));
    text.push_str(&show_warnings(&confounders_counted(comparison), style));
    for metric in metrics_of(comparison) {
        text.push_str(&format!("\n{}\n", style.bold(&wrap(&heading(metric), style.width_columns, 2))));
        text.push_str(&metric_tables(comparison, metric, &short, style));
    }
    text.push_str(&format!("\n{}\n", wrap(MARKS, style.width_columns, 2)));
    for line in absences(comparison, &short) {
        text.push_str(&format!("{}\n", wrap(&line, style.width_columns, 2)));
    }
    if let Some(found) = &comparison.grid {
        text.push_str(&grid(comparison, found, &short, style));
    }
    text.push_str(&environment(comparison, &short, style));
    text.push('\n');
    for line in sources(comparison) {
        text.push_str(&format!("{}\n", wrap(&line, style.width_columns, 2)));
    }
    text
}

fn groups(comparison: &Comparison) -> String {
    let mut rows = vec![[comparison.by.as_str(), "boots", "runs", ""].map(str::to_owned).to_vec()];
    for (index, group) in comparison.groups.iter().enumerate() {
        let note = if index == comparison.baseline { "baseline" } else { "" };
        rows.push(vec![
            printable(&group.label),
            group.boots.to_string(),
            group.runs.to_string(),
            note.to_owned(),
        ]);
    }
    table(&rows)
}

/// That there are confounders has to be said before the numbers.
fn confounders_counted(comparison: &Comparison) -> Option<String> {
    let count = of_bearing(comparison, Bearing::Confounder).count();
    (count > 0).then(|| {
        let (what, are) = if count == 1 { ("difference", "is") } else { ("differences", "are") };
        format!("{count} {what} of the environment {are} not explained by what is compared: see \"confounders\" below")
    })
}

/// A row: its label, on a line of its own, and for each column two lines.
struct Row {
    label: String,
    columns: Vec<[String; 2]>,
}

fn metric_tables(comparison: &Comparison, metric: &Metric, short: &[String], style: Style) -> String {
    let mut rows: Vec<Row> =
        comparison.cells.iter().map(|cell| cell_row(comparison, cell, metric, short)).collect();
    rows.extend(mean_row(comparison, metric));
    let width = |column: usize| {
        let cells = rows.iter().flat_map(|row| &row.columns[column]).map(|cell| cell.chars().count());
        cells.chain([short[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..short.len()).map(width).collect();
    let blocks = blocks(&widths, comparison.baseline, style.width_columns);
    blocks.iter().map(|block| show(&rows, block, &widths, short)).collect::<Vec<_>>().join("\n")
}

/// Which columns stand beside each other: the baseline, and as many others as fit, at least one.
fn blocks(widths: &[usize], baseline: usize, width_columns: usize) -> Vec<Vec<usize>> {
    let mut blocks = Vec::new();
    let (mut block, mut taken) = (vec![baseline], widths[baseline] + GAP);
    for column in (0..widths.len()).filter(|&column| column != baseline) {
        if block.len() > 1 && taken + GAP + widths[column] > width_columns {
            blocks.push(std::mem::replace(&mut block, vec![baseline]));
            taken = widths[baseline] + GAP;
        }
        block.push(column);
        taken += GAP + widths[column];
    }
    blocks.push(block);
    blocks.iter_mut().for_each(|block| block.sort_unstable());
    blocks
}

fn show(rows: &[Row], block: &[usize], widths: &[usize], short: &[String]) -> String {
    let line = |cell: &dyn Fn(usize) -> String| {
        let mut line = String::new();
        for &column in block {
            let text = cell(column);
            let padding = " ".repeat(GAP + widths[column] - text.chars().count());
            line.extend([padding, text]);
        }
        line.trim_end().to_owned()
    };
    let mut text = line(&|column| short[column].clone()) + "\n";
    for row in rows {
        text.push_str(&format!("{}\n", row.label));
        for part in 0..2 {
            let line = line(&|column| row.columns[column][part].clone());
            if !line.is_empty() {
                text.push_str(&format!("{line}\n"));
            }
        }
    }
    text
}

fn cell_row(comparison: &Comparison, cell: &Cell, metric: &Metric, short: &[String]) -> Row {
    let column = |(group, column): (usize, &Column)| {
        let measured = match column {
            Column::Measured(measured) => measured,
            Column::Unavailable { .. } => return [format!("n/a on {}", short[group]), String::new()],
            Column::Missing { .. } => return ["missing".to_owned(), String::new()],
        };
        let Some(value) = estimate_text(measured, metric.name, comparison.clock) else {
            return ["-".to_owned(), String::new()];
        };
        match measured.differences.iter().find(|difference| difference.metric == metric.name) {
            Some(difference) => [format!("{value} {}", verdict_text(difference)), certainty_text(difference)],
            None => [value, spread_text(measured, metric.name)],
        }
    };
    Row { label: printable(&cell.label), columns: cell.columns.iter().enumerate().map(column).collect() }
}

/// The geometric mean of the changes of all cells.
fn mean_row(comparison: &Comparison, metric: &Metric) -> Option<Row> {
    let of_metric = || comparison.overall.iter().filter(|overall| overall.metric == metric.name);
    let cells = of_metric().map(|overall| overall.cells).max()?;
    let column = |group: usize| {
        let Some(overall) = of_metric().find(|overall| overall.group == group) else {
            return [String::new(), String::new()];
        };
        let of = if overall.cells == cells { String::new() } else { format!(" (of {})", overall.cells) };
        let interval = overall.interval.map(interval_text).unwrap_or_default();
        [format!("{}{of}", change_text(overall.ratio)), interval]
    };
    let columns = (0..comparison.groups.len()).map(column).collect();
    Some(Row { label: format!("geometric mean of {cells} cells"), columns })
}

fn grid(comparison: &Comparison, grid: &Grid, short: &[String], style: Style) -> String {
    let mut text = format!("\n{}\n", style.bold(&format!("{} against {}", grid.rows_by, comparison.by)));
    text.push_str(&wrap(
        &format!(
            "What switching does, against what is not switched; in parentheses its interaction: how it differs from what it does \
             in {}. All metrics: --format markdown, html or json.",
            short[comparison.baseline]
        ),
        style.width_columns,
        0,
    ));
    text.push('\n');
    for table in grid.tables.iter().filter(|table| {
        GRID_METRICS.contains(&table.metric.as_str()) || table.metric == cost(comparison.clock)
    }) {
        text.push_str(&format!("\n{}, {}\n", printable(&table.label), table.metric));
        text.push_str(&grid_table(table, short));
    }
    text
}

fn grid_table(grid: &GridTable, short: &[String]) -> String {
    let mut rows =
        vec![[&[format!("against {}", grid.reference)][..], short, &["everywhere".to_owned()]].concat()];
    for row in &grid.rows {
        let effects = row.effects.iter().map(|effect| effect_text(effect.as_ref()));
        let main = effect_text(row.main.as_ref());
        rows.push([printable(&row.value)].into_iter().chain(effects).chain([main]).collect());
        let interaction = |effect: &Option<_>| {
            effect.as_ref().map_or(String::new(), |effect| format!("({})", effect_text(Some(effect))))
        };
        if row.interactions.iter().any(Option::is_some) {
            rows.push([String::new()].into_iter().chain(row.interactions.iter().map(interaction)).collect());
        }
    }
    table(&rows)
}

fn of_bearing(comparison: &Comparison, bearing: Bearing) -> impl Iterator<Item = &EnvironmentDifference> {
    comparison.environment.iter().filter(move |difference| difference.bearing == bearing)
}

/// Confounders with their values; of what is expected or harmless, the fields by reason.
fn environment(comparison: &Comparison, short: &[String], style: Style) -> String {
    if comparison.environment.is_empty() {
        return "\nenvironment: the same\n".to_owned();
    }
    let mut text = String::new();
    let confounders: Vec<_> = of_bearing(comparison, Bearing::Confounder).collect();
    if !confounders.is_empty() {
        text.push_str(&format!("\n{}\n", style.bold("confounders: what else may be the reason")));
    }
    for difference in confounders {
        text.push_str(&style.warning(&printable(&difference.field)));
        text.push('\n');
        for (value, label) in difference.values.iter().zip(short) {
            let value = printable(value.as_deref().unwrap_or("absent"));
            text.push_str(&format!(
                "  {label}: {}\n",
                wrap(&value, style.width_columns.saturating_sub(4), 4)
            ));
        }
        text.push_str(&format!("  {}\n", wrap(&difference.says, style.width_columns.saturating_sub(2), 2)));
    }
    for (bearing, title) in
        [(Bearing::Expected, "expected differences"), (Bearing::Harmless, "harmless differences")]
    {
        let lines = by_reason(of_bearing(comparison, bearing));
        if lines.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{}\n", style.bold(title)));
        lines.iter().for_each(|line| text.push_str(&format!("{}\n", wrap(line, style.width_columns, 2))));
    }
    text
}

/// A line for each reason, with its fields; those of one table share its name.
fn by_reason<'a>(differences: impl Iterator<Item = &'a EnvironmentDifference>) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for difference in differences {
        let field = printable(difference.field.strip_prefix("environment.").unwrap_or(&difference.field));
        match reasons.iter_mut().find(|(says, _)| *says == difference.says) {
            Some((_, fields)) => fields.push(field),
            None => reasons.push((&difference.says, vec![field])),
        }
    }
    reasons.iter().map(|(says, fields)| format!("{says}: {}", fields.join(", "))).collect()
}
