//! From values to places on an axis, and the round values that an axis names.
//!
//! Invariant: a scale's ends differ and are finite, so that every finite value has a place; ticks lie within the scale, ascend, and
//! are values that people say (1, 2 or 5 times a power of ten; percentiles with one more nine each).
//! Deliberately absent: pixels and words.

/// How values are laid along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Equal differences, equal lengths.
    Linear {
        /// The value at its beginning.
        from: f64,
        /// The value at its end.
        to: f64,
    },
    /// Equal ratios, equal lengths; both ends above 0.
    Log {
        /// The value at its beginning.
        from: f64,
        /// The value at its end.
        to: f64,
    },
    /// Quantiles, each further nine an equal length; from 0 to `to`, which is below 1.
    Tail {
        /// The quantile at its end.
        to: f64,
    },
}

/// From this ratio of largest to smallest on, a scale is logarithmic.
const LOG_FROM: f64 = 8.0;

impl Scale {
    /// Linear or logarithmic, as the span of the values asks, with a little room at either end.
    pub(super) fn covering(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values);
        if low > 0.0 && high / low >= LOG_FROM { Self::log(low, high) } else { Self::linear(low, high) }
    }

    /// Linear, with a little room at either end, but none below 0 for values above it.
    pub(super) fn linear(low: f64, high: f64) -> Self {
        let span = if high > low { high - low } else { low.abs().max(1.0) * 0.1 };
        let from = low - 0.06 * span;
        Self::Linear { from: if low >= 0.0 { from.max(0.0) } else { from }, to: high + 0.06 * span }
    }

    /// Linear from 0.
    pub(super) fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let (_, high) = ends(values);
        Self::Linear { from: 0.0, to: if high > 0.0 { high } else { 1.0 } }
    }

    /// Logarithmic, with a little room at either end.
    pub(super) fn log(low: f64, high: f64) -> Self {
        let room = (high / low).powf(0.04).max(1.02);
        Self::Log { from: low / room, to: high * room }
    }

    /// Of quantiles: to the largest below 1.
    pub(super) fn tail(quantiles: impl IntoIterator<Item = f64>) -> Self {
        let most = quantiles.into_iter().filter(|quantile| *quantile < 1.0).fold(0.9, f64::max);
        Self::Tail { to: most.min(1.0 - 1e-9) }
    }

    /// Where a value stands: 0 at the beginning, 1 at the end, beyond either outside.
    pub(super) fn share(&self, value: f64) -> f64 {
        match *self {
            Self::Linear { from, to } => (value - from) / (to - from),
            Self::Log { from, to } => {
                // What is not above 0 is infinitely far below; the beginning will do.
                if value > 0.0 { (value / from).ln() / (to / from).ln() } else { 0.0 }
            }
            Self::Tail { to } => nines(value) / nines(to),
        }
    }

    /// Whether a value stands on it, its ends included.
    pub(super) fn has(&self, value: f64) -> bool {
        (-1e-9..=1.0 + 1e-9).contains(&self.share(value))
    }

    /// Round values on it, at most about so many.
    pub(super) fn ticks(&self, count_max: usize) -> Vec<f64> {
        match *self {
            Self::Linear { from, to } => linear_ticks(from, to, count_max),
            Self::Log { from, to } => log_ticks(from, to, count_max),
            Self::Tail { to } => tail_ticks(to),
        }
    }
}

fn ends(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) = finite
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile.clamp(0.0, 1.0 - 1e-9)).log10()
}

fn linear_ticks(from: f64, to: f64, count_max: usize) -> Vec<f64> {
    let least = (to - from) / count_max.max(1) as f64;
    let power = 10_f64.powf(least.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= least * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let first = (from / step - 1e-9).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    (first..=last).map(|times| times as f64 * step).collect()
}

/// 1, 2 and 5 of each power of ten; if those are too many, 1 and 3, then every power, then every second one and so on.
fn log_ticks(from: f64, to: f64, count_max: usize) -> Vec<f64> {
    let powers = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
    let within = |value: &f64| *value >= from * 0.999 && *value <= to * 1.001;
    let of = |digits: &'static [f64], every: usize| -> Vec<f64> {
        let powers = powers.clone().filter(|power| power.rem_euclid(every as i32) == 0);
        powers
            .flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)))
            .filter(within)
            .collect()
    };
    let sets: [(&'static [f64], usize); 5] =
        [(&[1.0, 2.0, 5.0], 1), (&[1.0, 3.0], 1), (&[1.0], 1), (&[1.0], 2), (&[1.0], 3)];
    let fitting =
        sets.iter().map(|&(digits, every)| of(digits, every)).find(|ticks| ticks.len() <= count_max);
    let ticks = fitting.unwrap_or_default();
    // Less than half a power of ten holds one or two of those: equal steps say more.
    if ticks.len() < 3 { linear_ticks(from, to, count_max) } else { ticks }
}

fn tail_ticks(to: f64) -> Vec<f64> {
    let mut ticks = vec![0.0, 0.5];
    let mut beyond = 0.1;
    while 1.0 - beyond <= to + 1e-12 {
        ticks.push(1.0 - beyond);
        beyond /= 10.0;
    }
    ticks
}

/// A quantile in per cent, with no more digits than it has: `99.9`.
pub(super) fn percentile(quantile: f64) -> String {
    let text = format!("{:.6}", 100.0 * quantile);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(Scale::Linear { from: 0.0, to: 9.0 }.ticks(5), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(Scale::Log { from: 9.0, to: 600.0 }.ticks(8), [10.0, 20.0, 50.0, 100.0, 200.0, 500.0]);
        assert_eq!(Scale::Log { from: 900.0, to: 1.1e6 }.ticks(5), [1e3, 1e4, 1e5, 1e6]);
        assert_eq!(Scale::Log { from: 21.0, to: 49.0 }.ticks(6), [25.0, 30.0, 35.0, 40.0, 45.0].map(|it| it));
    }

    #[test]
    fn each_further_nine_is_as_long() {
        let scale = Scale::tail([0.5, 0.999, 1.0]);
        let places = [0.0, 0.9, 0.99, 0.999].map(|quantile| (scale.share(quantile) * 300.0).round());
        assert_eq!(places, [0.0, 100.0, 200.0, 300.0]);
        let names: Vec<_> = scale.ticks(9).into_iter().map(percentile).collect();
        assert_eq!(names, ["0", "50", "90", "99", "99.9"]);
    }

    #[test]
    fn a_wide_span_asks_for_a_logarithm_and_none_for_room() {
        assert!(matches!(Scale::covering([10.0, 100.0]), Scale::Log { .. }));
        assert!(matches!(Scale::covering([10.0, 20.0]), Scale::Linear { .. }));
        for scale in [
            Scale::covering([]),
            Scale::covering([5.0]),
            Scale::covering([0.0, f64::NAN]),
            Scale::from_zero([]),
        ] {
            assert!(scale.share(1.0).is_finite(), "{scale:?}");
            assert!(scale.ticks(5).len() < 20, "{scale:?}");
        }
    }
}
