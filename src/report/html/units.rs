//! Numbers as this report writes them: durations by the comparison's clock, ratios as changes.
//!
//! Invariant: what counts instructions is never written with a unit of time.
//! Deliberately absent: rounding of what is kept; a table's `<data value>` holds the model's number in full.

use crate::compare::metric::{Metric, Unit};
use crate::measure::environment::Clock;
use crate::report::text;

/// Beyond a factor of two either way a change is written as a factor.
const FACTOR_FROM: f64 = 2.0;

/// How durations and rates are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    pub(super) clock: Clock,
}

impl Units {
    /// A duration: `24.1 µs`, or `24.1 kinstr`.
    pub(super) fn duration(self, value: f64) -> String {
        self.clock.duration(value)
    }

    /// A duration at an axis: as short as it can be said.
    pub(super) fn tick(self, value: f64) -> String {
        let steps: [(f64, &str); 4] = match self.clock {
            Clock::Real => [(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")],
            Clock::Instructions => [(1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")],
        };
        let (step, unit) = steps.into_iter().find(|(step, _)| value >= *step * 0.9995).unwrap_or(steps[3]);
        if value == 0.0 { "0".to_owned() } else { format!("{}{unit}", short(value / step)) }
    }

    /// What stands at an axis of durations.
    pub(super) fn axis(self, what: &str) -> String {
        match self.clock {
            Clock::Real => what.to_owned(),
            Clock::Instructions => format!("{what}, instructions"),
        }
    }

    /// What a count a second is a count by.
    pub(super) fn per_second(self) -> &'static str {
        match self.clock {
            Clock::Real => "per second",
            Clock::Instructions => "per 10⁹ instructions",
        }
    }

    /// A count a second: `19,999/s`; by instructions, `19,999/G`.
    pub(super) fn rate(self, per_s: f64) -> String {
        let rate = text::rate(per_s);
        match self.clock {
            Clock::Real => rate,
            Clock::Instructions => rate.replace("/s", "/G"),
        }
    }

    /// A metric's value.
    pub(super) fn value(self, metric: &Metric, value: f64) -> String {
        match metric.unit {
            Unit::Duration => self.duration(value),
            Unit::PerSecond => self.rate(value),
        }
    }

    /// A metric's value at an axis.
    pub(super) fn value_tick(self, metric: &Metric, value: f64) -> String {
        match metric.unit {
            Unit::Duration => self.tick(value),
            Unit::PerSecond => count_tick(value),
        }
    }

    /// What stands at an axis of a metric's values.
    pub(super) fn value_axis(self, metric: &Metric) -> String {
        match metric.unit {
            Unit::Duration => self.axis(title(metric.name)),
            Unit::PerSecond => format!("messages {}", self.per_second()),
        }
    }

    /// The ends of an interval, the unit said once where it is one: `23.9–24.1 µs`.
    pub(super) fn range(self, metric: &Metric, (low, high): (f64, f64)) -> String {
        let (low, high) = (self.value(metric, low), self.value(metric, high));
        for separator in [' ', '/'] {
            if let (Some((number, unit)), Some((_, other))) =
                (low.split_once(separator), high.split_once(separator))
                && unit == other
            {
                return format!("{number}–{high}");
            }
        }
        format!("{low}–{high}")
    }
}

/// A metric's name in words, as titles and headings have it.
pub(super) fn title(metric: &str) -> &str {
    match metric {
        "p50" | "p90" | "p99" | "p99.9" => metric,
        "rate" => "throughput",
        "cpu" => "CPU per message, both ends",
        "server-cpu" => "server CPU per message",
        "load-cpu" => "generator CPU per message",
        other => other,
    }
}

/// A count at an axis: `20 k`.
pub(super) fn count_tick(value: f64) -> String {
    let steps = [(1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")];
    let (step, unit) = steps.into_iter().find(|(step, _)| value >= *step * 0.9995).unwrap_or(steps[3]);
    if value == 0.0 { "0".to_owned() } else { format!("{}{unit}", short(value / step)) }
}

/// At most three decimals, and no zeros at the end.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A ratio as a change: `−12.3 %`, `+0.4 %`, `×2.31`.
pub(super) fn change(ratio: f64) -> String {
    if !(1.0 / FACTOR_FROM..=FACTOR_FROM).contains(&ratio) {
        return factor(ratio);
    }
    percent_change(ratio)
}

/// A change and its interval, both as percentages or both as factors: `−12.3 %` and `−15.1 … −9.4 %`.
pub(super) fn change_with_interval(ratio: f64, interval: Option<(f64, f64)>) -> (String, Option<String>) {
    let all = [Some(ratio), interval.map(|it| it.0), interval.map(|it| it.1)];
    let is_small = all.into_iter().flatten().all(|it| (1.0 / FACTOR_FROM..=FACTOR_FROM).contains(&it));
    if !is_small {
        let range = interval.map(|(low, high)| format!("{} … {}", factor(low), factor(high)));
        return (factor(ratio), range);
    }
    let number = |ratio: f64| percent_change(ratio).trim_end_matches(" %").to_owned();
    (percent_change(ratio), interval.map(|(low, high)| format!("{} … {} %", number(low), number(high))))
}

fn percent_change(ratio: f64) -> String {
    let percent = 100.0 * (ratio - 1.0);
    let decimals = if percent.abs() < 0.0995 { 2 } else { 1 };
    let digits = format!("{:.decimals$}", percent.abs());
    let sign = match () {
        () if digits.bytes().all(|digit| matches!(digit, b'0' | b'.')) => "±",
        () if percent < 0.0 => "−",
        () => "+",
    };
    format!("{sign}{} %", if sign == "±" { "0" } else { &digits })
}

fn factor(ratio: f64) -> String {
    match ratio {
        _ if ratio >= 99.5 || ratio == 0.0 => format!("×{ratio:.0}"),
        _ if ratio >= 9.95 => format!("×{ratio:.1}"),
        _ if ratio >= 0.0995 => format!("×{ratio:.2}"),
        _ => format!("×{ratio:.4}"),
    }
}

/// A share in per cent, for a smallest detectable difference: `3.1 %`.
pub(super) fn share(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// A probability: `0.012`, `< 0.001`.
pub(super) fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_no_unit_of_time() {
        let units = Units { clock: Clock::Instructions };
        assert_eq!(
            [812.0, 24_130.0, 1.5e6].map(|it| units.duration(it)),
            ["812 instr", "24.1 kinstr", "1.50 Minstr"]
        );
        assert_eq!([0.0, 500.0, 2e4, 5e6].map(|it| units.tick(it)), ["0", "500", "20 k", "5 M"]);
        assert_eq!(units.rate(12_000.0), "12,000/G");
    }

    #[test]
    fn changes_are_percentages_until_a_factor_says_more() {
        assert_eq!(
            [0.877, 1.0, 1.0004, 1.5, 2.31, 0.2, 140.0].map(change),
            ["−12.3 %", "±0 %", "+0.04 %", "+50.0 %", "×2.31", "×0.20", "×140"]
        );
        let (effect, interval) = change_with_interval(1.2, Some((1.1, 2.4)));
        assert_eq!((effect.as_str(), interval.as_deref()), ("×1.20", Some("×1.10 … ×2.40")));
    }

    #[test]
    fn a_range_says_one_unit_once() {
        let units = Units { clock: Clock::Real };
        let p99 = crate::compare::metric::named("p99").expect("a metric");
        let rate = crate::compare::metric::named("rate").expect("a metric");
        assert_eq!(units.range(p99, (23_900.0, 24_100.0)), "23.9–24.1 µs");
        assert_eq!(units.range(rate, (19_000.0, 20_000.0)), "19,000–20,000/s");
    }
}
