//! Student's t distribution: how likely a difference is by chance, and how wide an interval has to be.
//!
//! Invariant: right to four digits from one degree of freedom on, fractions included.
//! Deliberately absent: other distributions, and gamma functions: the density is integrated.

use std::f64::consts::FRAC_PI_2;

/// Pieces of an integral; even, for Simpson's rule.
const PIECES: u32 = 2000;
/// From here on it is a normal distribution to four digits.
const FREEDOM_MAX: f64 = 10_000.0;

/// The chance that |T| is `t` or more, with as many degrees of freedom (1 or more).
///
/// With t = √ν·tan θ the density is cosᵛ⁻¹ θ, up to a factor (Abramowitz and Stegun, "Handbook of Mathematical Functions",
/// 26.7.3 and 26.7.4, have its integral for whole ν), so the chance is a quotient of two integrals.
pub fn two_sided_chance(t: f64, freedom: f64) -> f64 {
    let freedom = freedom.clamp(1.0, FREEDOM_MAX);
    let angle = (t.abs() / freedom.sqrt()).atan();
    let density = |angle: f64| angle.cos().max(0.0).powf(freedom - 1.0);
    integral(density, angle, FRAC_PI_2) / integral(density, 0.0, FRAC_PI_2)
}

/// What |T| exceeds with this chance (above 0, below 1).
pub fn two_sided_quantile(chance: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided_chance(high, freedom) > chance {
        high *= 2.0;
    }
    while high - low > 1e-7 * high {
        let middle = (low + high) / 2.0;
        if two_sided_chance(middle, freedom) > chance { low = middle } else { high = middle }
    }
    high
}

/// By Simpson's rule.
fn integral(of: impl Fn(f64) -> f64, from: f64, to: f64) -> f64 {
    let piece = (to - from) / f64::from(PIECES);
    let weighted = |index: u32| {
        let weight = match index {
            0 | PIECES => 1.0,
            _ if index % 2 == 1 => 4.0,
            _ => 2.0,
        };
        weight * of(from + piece * f64::from(index))
    };
    (0..=PIECES).map(weighted).sum::<f64>() * piece / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in
            [(1.0, 12.7062), (2.0, 4.30265), (4.0, 2.77645), (9.0, 2.26216), (30.0, 2.04227), (1e9, 1.9602)]
        {
            let quantile = two_sided_quantile(0.05, freedom);
            assert!((quantile / expected - 1.0).abs() < 1e-4, "{freedom}: {quantile}");
            assert!((two_sided_chance(-quantile, freedom) - 0.05).abs() < 1e-6);
        }
        assert!((two_sided_chance(0.0, 3.5) - 1.0).abs() < 1e-12);
        let between = two_sided_quantile(0.05, 4.5);
        assert!(2.57058 < between && between < 2.77645, "{between}");
    }
}
