//! A comparison as Markdown, with the tables of GitHub: for issues, mails and commit messages.
//!
//! Invariant: nothing taken from a file can break a table or become markup.
//! Deliberately absent: spectra, maps and anatomies, which are pictures.

use super::super::text::printable;
use super::{
    MARKS, absences, caveats, certainty_text, change_text, effect_text, estimate_text, heading,
    interval_text, metrics_of, short_labels, sources, spread_text, title, verdict_text,
};
use crate::compare::metric::Metric;
use crate::compare::model::{Bearing, Cell, Change, Column, Comparison, Grid, GridTable};

/// The whole comparison, ending in a newline.
pub(super) fn render(comparison: &Comparison) -> String {
    let short = short_labels(comparison);
    let mut text = format!("## {}\n\n", escaped(&title(comparison)));
    text.push_str(&groups(comparison));
    let list =
        |lines: Vec<String>| lines.iter().map(|line| format!("- {}\n", escaped(line))).collect::<String>();
    let warnings = caveats(comparison);
    if !warnings.is_empty() {
        text.push_str(&format!("\n{}", list(warnings)));
    }
    for metric in metrics_of(comparison) {
        text.push_str(&format!(
            "\n### {}\n\n{}",
            escaped(&heading(metric)),
            metric_table(comparison, metric, &short)
        ));
    }
    text.push_str(&format!("\n{}\n", escaped(MARKS)));
    let absences = absences(comparison, &short);
    if !absences.is_empty() {
        text.push_str(&format!("\n{}", list(absences)));
    }
    if let Some(found) = &comparison.grid {
        text.push_str(&grid(comparison, found, &short));
    }
    text.push_str(&environment(comparison, &short));
    text.push_str(&format!("\n### Sources\n\n{}", list(sources(comparison))));
    text
}

/// Text with whatever Markdown would take for markup made plain.
fn escaped(text: &str) -> String {
    let mut plain = String::new();
    for c in printable(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '&') {
            plain.push('\\');
        }
        plain.push(c);
    }
    plain
}

/// Rows as a table; the first is its heading. The first column stands to the left, all others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let alignment = |column: usize| if column == 0 { ":--" } else { "--:" }.to_owned();
    let [heading, rest @ ..] = rows else { return String::new() };
    let alignments: Vec<String> = (0..heading.len()).map(alignment).collect();
    let rest = rest.iter().map(|row| line(row));
    [line(heading), line(&alignments)].into_iter().chain(rest).collect()
}

fn groups(comparison: &Comparison) -> String {
    let mut rows = vec![[comparison.by.as_str(), "boots", "runs"].map(str::to_owned).to_vec()];
    for (index, group) in comparison.groups.iter().enumerate() {
        let note = if index == comparison.baseline { " (baseline)" } else { "" };
        let label = format!("{}{note}", escaped(&group.label));
        rows.push(vec![label, group.boots.to_string(), group.runs.to_string()]);
    }
    table(&rows)
}

fn headings(first: &str, short: &[String]) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(short.iter().map(|label| escaped(label))).collect()
}

fn metric_table(comparison: &Comparison, metric: &Metric, short: &[String]) -> String {
    let mut rows = vec![headings("", short)];
    for cell in &comparison.cells {
        let cells = cell.columns.iter().enumerate();
        let cells = cells.map(|(group, column)| cell_text(comparison, column, metric, &short[group]));
        rows.push(std::iter::once(label(cell)).chain(cells).collect());
    }
    let of_metric = || comparison.overall.iter().filter(|overall| overall.metric == metric.name);
    if let Some(cells) = of_metric().map(|overall| overall.cells).max() {
        let column = |group: usize| {
            let Some(overall) = of_metric().find(|overall| overall.group == group) else {
                return String::new();
            };
            let of = if overall.cells == cells { String::new() } else { format!(" (of {})", overall.cells) };
            let interval = overall.interval.map(|interval| format!(" {}", interval_text(interval)));
            escaped(&format!("{}{}{of}", change_text(overall.ratio), interval.unwrap_or_default()))
        };
        let means = (0..comparison.groups.len()).map(column);
        rows.push(std::iter::once(format!("geometric mean of {cells} cells")).chain(means).collect());
    }
    table(&rows)
}

fn label(cell: &Cell) -> String {
    escaped(&cell.label)
}

fn cell_text(comparison: &Comparison, column: &Column, metric: &Metric, short: &str) -> String {
    let measured = match column {
        Column::Measured(measured) => measured,
        Column::Unavailable { .. } => return escaped(&format!("n/a on {short}")),
        Column::Missing { .. } => return "missing".to_owned(),
    };
    let Some(value) = estimate_text(measured, metric.name, comparison.clock) else { return "-".to_owned() };
    let value = escaped(&value);
    let Some(difference) = measured.differences.iter().find(|difference| difference.metric == metric.name)
    else {
        return format!("{value} {}", escaped(&spread_text(measured, metric.name)));
    };
    let verdict = escaped(&verdict_text(difference));
    let verdict = match difference.change {
        Change::Better | Change::Worse => format!("**{verdict}**"),
        Change::Noise | Change::TooFew => verdict,
    };
    format!("{value} {verdict} {}", escaped(&certainty_text(difference))).trim_end().to_owned()
}

fn grid(comparison: &Comparison, grid: &Grid, short: &[String]) -> String {
    let mut text = format!(
        "\n### {} against {}\n\nWhat switching does, against what is not switched; in parentheses its interaction: how it differs \
         from what it does in {}.\n",
        escaped(&grid.rows_by),
        escaped(&comparison.by),
        escaped(&short[comparison.baseline])
    );
    for table in &grid.tables {
        text.push_str(&format!("\n{}, {}:\n\n", escaped(&table.label), escaped(&table.metric)));
        text.push_str(&grid_table(table, short));
    }
    text
}

fn grid_table(grid: &GridTable, short: &[String]) -> String {
    let mut heading = headings(&format!("against {}", escaped(&grid.reference)), short);
    heading.push("everywhere".to_owned());
    let mut rows = vec![heading];
    for row in &grid.rows {
        let cell = |(effect, interaction): (&Option<_>, &Option<_>)| {
            let effect: &Option<crate::compare::model::Effect> = effect;
            let interaction: &Option<crate::compare::model::Effect> = interaction;
            let beside = interaction.as_ref().map(|effect| format!(" ({})", effect_text(Some(effect))));
            escaped(&format!("{}{}", effect_text(effect.as_ref()), beside.unwrap_or_default()))
        };
        let effects = row.effects.iter().zip(&row.interactions).map(cell);
        let main = escaped(&effect_text(row.main.as_ref()));
        rows.push([escaped(&row.value)].into_iter().chain(effects).chain([main]).collect());
    }
    table(&rows)
}

fn environment(comparison: &Comparison, short: &[String]) -> String {
    if comparison.environment.is_empty() {
        return "\n### Environment\n\nThe same everywhere.\n".to_owned();
    }
    let mut heading = headings("field", short);
    heading.splice(1..1, ["bearing".to_owned()]);
    heading.push("why".to_owned());
    let mut rows = vec![heading];
    for difference in &comparison.environment {
        let bearing = match difference.bearing {
            Bearing::Confounder => "**confounder**",
            Bearing::Expected => "expected",
            Bearing::Harmless => "harmless",
        };
        let values = difference.values.iter().map(|value| escaped(value.as_deref().unwrap_or("absent")));
        let cells = [escaped(&difference.field), bearing.to_owned()].into_iter().chain(values);
        rows.push(cells.chain([escaped(&difference.says)]).collect());
    }
    format!("\n### Environment\n\n{}", table(&rows))
}
