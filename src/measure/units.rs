//! Durations, counts and rates in words: for the sentences of a verdict, and for every report.
//!
//! Invariant: durations keep three significant digits, which is all that the histograms hold.
//! Deliberately absent: locales; a decimal point is a point. Tables and lines are [`crate::report`]'s.

use super::environment::Clock;
use super::histogram::HIGHEST_NS;

/// What a duration is shown in: one of that clock, and a thousand, a million, a milliard of it.
const TIME_UNITS: [&str; 4] = ["ns", "µs", "ms", "s"];
const INSTRUCTION_UNITS: [&str; 4] = ["instr", "kinstr", "Minstr", "Ginstr"];

/// How what a clock counts is written.
impl Clock {
    /// What it counts, as flags and files have it.
    pub fn name(self) -> &'static str {
        match self {
            Clock::Real => "real",
            Clock::Instructions => "instructions",
        }
    }

    /// What a `_ns` is of, in full.
    pub fn unit(self) -> &'static str {
        match self {
            Clock::Real => "nanoseconds",
            Clock::Instructions => "instructions",
        }
    }

    fn units(self) -> [&'static str; 4] {
        match self {
            Clock::Real => TIME_UNITS,
            Clock::Instructions => INSTRUCTION_UNITS,
        }
    }

    /// A duration at three significant digits: `24.6 µs`, or `24.6 kinstr` where a nanosecond is an instruction. From
    /// an hour up, `≥ 1 h`: the histograms end there.
    pub fn duration(self, duration_ns: f64) -> String {
        if duration_ns >= HIGHEST_NS as f64 {
            return match self {
                Clock::Real => "≥ 1 h".to_owned(),
                Clock::Instructions => format!("≥ {} Ginstr", HIGHEST_NS / 1_000_000_000),
            };
        }
        let mut value = duration_ns;
        let mut units = self.units().into_iter().peekable();
        // 999.5 would round up to a fourth digit.
        while let Some(unit) = units.next() {
            if value < 999.5 || units.peek().is_none() {
                return format!("{} {unit}", three_digits(value));
            }
            value /= 1000.0;
        }
        unreachable!("the last unit takes any value")
    }

    /// A whole number of nanoseconds or instructions, which needs no invented decimals.
    pub fn duration_ns(self, duration_ns: u64) -> String {
        match duration_ns < 1000 {
            true => format!("{duration_ns} {}", self.units()[0]),
            false => self.duration(duration_ns as f64),
        }
    }
}

/// A duration of real time: see [`Clock::duration`].
pub fn duration(duration_ns: f64) -> String {
    Clock::Real.duration(duration_ns)
}

/// A whole number of nanoseconds of real time: see [`Clock::duration_ns`].
pub fn duration_ns(duration_ns: u64) -> String {
    Clock::Real.duration_ns(duration_ns)
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

/// `1 connection`, `2 connections`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A share of one as a percentage, at as many digits as tell it from nothing and from all: `0.005 %`, `41 %`, `99.98 %`.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let distance = percent.abs().min((100.0 - percent).abs());
    let decimals = match distance {
        _ if distance == 0.0 || distance >= 9.95 => 0,
        _ if distance >= 0.995 => 1,
        _ if distance >= 0.00995 => 2,
        _ => 3,
    };
    format!("{percent:.decimals$} %")
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
    fn an_instruction_is_never_shown_as_a_nanosecond() {
        let clock = Clock::Instructions;
        assert_eq!(
            [1, 999, 24_600, 1_010_000, 3_599_000_000_000, HIGHEST_NS].map(|value| clock.duration_ns(value)),
            ["1 instr", "999 instr", "24.6 kinstr", "1.01 Minstr", "3599 Ginstr", "≥ 3600 Ginstr"]
        );
        assert_eq!(clock.duration(0.5), "0.50 instr");
    }

    #[test]
    fn counts_rates_and_shares_read_as_people_write_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.5, 99.96, 999.6, 19_998.7].map(rate), ["0.50/s", "100/s", "1,000/s", "19,999/s"]);
        assert_eq!(
            [0.0, 0.00005, 0.0123, 0.414, 0.9998, 1.0, 1.3].map(percent),
            ["0 %", "0.005 %", "1.2 %", "41 %", "99.98 %", "100 %", "130 %"]
        );
    }
}
