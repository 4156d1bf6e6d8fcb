//! Numbers, units and lines as people read them.
//!
//! Invariant: durations keep three significant digits, which is all that the histograms hold, and a table's
//! columns line up whatever is in them. Deliberately absent: locales; a decimal point is a point.

use crate::measure::histogram::HIGHEST_NS;

/// What stands where a number would be a guess.
pub const TOO_FEW: &str = "too few samples";

/// A duration at three significant digits, in ns, µs, ms or s. From an hour up, `≥ 1 h`: the histograms end there.
pub fn duration(duration_ns: f64) -> String {
    if duration_ns >= HIGHEST_NS as f64 {
        return "≥ 1 h".to_owned();
    }
    let mut value = duration_ns;
    let mut units = ["ns", "µs", "ms", "s"].into_iter().peekable();
    // 999.5 would round up to a fourth digit.
    while let Some(unit) = units.next() {
        if value < 999.5 || units.peek().is_none() {
            return format!("{} {unit}", three_digits(value));
        }
        value /= 1000.0;
    }
    unreachable!("the last unit takes any value")
}

/// A whole number of nanoseconds, which needs no invented decimals.
pub fn duration_ns(duration_ns: u64) -> String {
    if duration_ns < 1000 { format!("{duration_ns} ns") } else { duration(duration_ns as f64) }
}

/// A percentile, or the words that stand in for it.
pub fn percentile(percentile_ns: Option<u64>) -> String {
    percentile_ns.map_or(TOO_FEW.to_owned(), duration_ns)
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A count with its thousands set apart: `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate per second, in whole messages once decimals no longer matter.
pub fn rate(per_s: f64) -> String {
    if per_s >= 999.5 {
        format!("{}/s", count(per_s.round() as u64))
    } else {
        format!("{}/s", three_digits(per_s))
    }
}

/// A size, in KiB or MiB where it is a whole number of them.
pub fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
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

/// `1 connection`, `2 connections`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Text from a file, with what could steer a terminal made visible.
pub fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(visible).collect()
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

    #[test]
    fn durations_keep_three_digits_across_every_change_of_unit() {
        for (value_ns, expected) in [
            (1, "1 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_994, "9.99 µs"),
            (9_996, "10.0 µs"),
            (99_949, "99.9 µs"),
            (99_960, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (1_500_000_000, "1.50 s"),
            (3_599_000_000_000, "3599 s"),
            (HIGHEST_NS, "≥ 1 h"),
        ] {
            assert_eq!(duration_ns(value_ns), expected);
        }
        assert_eq!(duration(107.25), "107 ns");
        assert_eq!(duration(0.5), "0.50 ns");
    }

    #[test]
    fn counts_rates_and_sizes_read_as_people_write_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.5, 99.96, 999.6, 19_998.7].map(rate), ["0.50/s", "100/s", "1,000/s", "19,999/s"]);
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
