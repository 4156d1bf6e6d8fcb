//! Numbers, units and lines as people read them.
//!
//! Invariant: a table's columns line up whatever is in them. Deliberately absent: durations, counts and rates
//! as words, which a verdict's sentences need as well and [`crate::measure::units`] has.

use crate::measure::environment::Clock;
pub use crate::measure::units::{count, counted, duration, duration_ns, percent, rate, size};

/// What stands where a number would be a guess.
pub const TOO_FEW: &str = "too few samples";

/// What must stand beside every duration under a clock that counts instructions.
pub const INSTRUCTION_TIME: &str = "instruction time: a nanosecond is one instruction (instr) of the machine's one virtual CPU, a \
    second 1,000,000,000; path length, without caches or cycles, never to be compared with real time";

/// A percentile, or the words that stand in for it.
pub fn percentile(percentile_ns: Option<u64>, clock: Clock) -> String {
    percentile_ns.map_or(TOO_FEW.to_owned(), |percentile_ns| clock.duration_ns(percentile_ns))
}

/// An interval of durations, the unit said once if it is one: `23.9–24.1 µs`.
pub fn duration_range(low_ns: u64, high_ns: u64, clock: Clock) -> String {
    let (low, high) = (clock.duration_ns(low_ns), clock.duration_ns(high_ns));
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number}–{high}"),
        _ => format!("{low}–{high}"),
    }
}

/// A ratio, to a thousandth while that means anything.
pub fn ratio(ratio: f64) -> String {
    match ratio {
        _ if ratio > 0.0 && ratio < 0.0005 => "< 0.001".to_owned(),
        _ if ratio < 9.9995 => format!("{ratio:.3}"),
        _ => format!("{ratio:.1}"),
    }
}

/// Text from a file, with what could steer a terminal made visible.
pub fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(visible).collect()
}

/// Labels, and texts beside them, of a hundred columns.
pub fn labelled(rows: &[(String, String)]) -> String {
    const COLUMNS: usize = 11;
    let line = |(label, text): &(String, String)| {
        let indented = format!("\n{:COLUMNS$}", "");
        format!("{label:<COLUMNS$}{}\n", wrap(text, 100 - COLUMNS, 0).replace('\n', &indented))
    };
    rows.iter().map(line).collect()
}

/// Lines of at most `width_columns`, broken between words, the later ones indented by `indent_columns`.
pub fn wrap(text: &str, width_columns: usize, indent_columns: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for (index, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > width_columns {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent_columns));
            column = indent_columns;
        } else if index > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

/// Rows as a table: the first column to the left, all others to the right, two spaces between.
pub fn table(rows: &[Vec<String>]) -> String {
    let width = |text: &String| text.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(width).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column] - width(cell));
            let gap = if column == 0 { "" } else { "  " };
            let (before, after) = if column == 0 { ("", padding.as_str()) } else { (padding.as_str(), "") };
            line.extend([gap, before, cell, after]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::HIGHEST_NS;

    #[test]
    fn sizes_and_ratios_read_as_people_write_them() {
        assert_eq!(
            [0, 64, 1024, 1500, 65_536, 1 << 20].map(size),
            ["0 B", "64 B", "1 KiB", "1500 B", "64 KiB", "1 MiB"]
        );
        assert_eq!(
            [0.0, 1e-9, 0.0512, 1.0, 9.9999, 12.04].map(ratio),
            ["0.000", "< 0.001", "0.051", "1.000", "10.0", "12.0"]
        );
    }

    #[test]
    fn a_range_says_one_unit_once() {
        assert_eq!(duration_range(23_900, 24_100, Clock::Real), "23.9–24.1 µs");
        assert_eq!(duration_range(999_000, 1_010_000, Clock::Real), "999 µs–1.01 ms");
        assert_eq!(duration_range(7, HIGHEST_NS, Clock::Real), "7 ns–≥ 1 h");
        assert_eq!(duration_range(23_900, 24_100, Clock::Instructions), "23.9–24.1 kinstr");
    }

    #[test]
    fn a_file_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\r\n\u{9b}é"), "a\\u{1b}[31mb\\r\\n\\u{9b}é");
    }

    #[test]
    fn long_lines_break_between_words_and_keep_every_word() {
        assert_eq!(wrap("aa bb cc dd", 5, 2), "aa bb\n  cc\n  dd");
        assert_eq!(wrap("unbreakable", 3, 2), "unbreakable");
    }

    #[test]
    fn columns_line_up_whatever_the_letters() {
        let rows =
            [vec!["p50".to_owned(), "9 µs".to_owned()], vec!["p99.9".to_owned(), "10.1 µs".to_owned()]];
        assert_eq!(table(&rows), "p50       9 µs\np99.9  10.1 µs\n");
    }
}
