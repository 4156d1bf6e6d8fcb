//! Whether messages left as they were planned to: the achieved arrival process against the one asked for.
//!
//! Spans of m consecutive Poisson arrivals follow an Erlang distribution of shape m and known mean, with nothing left to
//! fit, so the Anderson–Darling test holds exactly. It weighs both ends of the distribution more than a test of
//! the largest distance does. It finds what bends many spans, such as a wrong rate or another distribution, or a generator
//! that is held up again and again; of n spans, one that a rare stall struck weighs 1/n, and only lag tells of it. The idea of testing a generator so is that of Kogias et al., "Lancet",
//! USENIX ATC 2019.
//!
//! Invariant: everything is a function of the spans alone.
//! Deliberately absent: a test that successive spans are independent. Spans are thinned, so few are neighbours.

use super::evidence::Arrivals;

/// Fewer spans than this are not tested.
pub const SPANS_MIN: u64 = 20;
/// How far a span of fixed gaps may be off its plan, as a share of it; or by the bound on lag, if that is more.
pub const FIXED_TOLERANCE_SHARE: f64 = 0.05;
/// The largest share of spans that is further off where 99 % of lags keep within the bound: a span has two ends, and where
/// neither is later than the bound, it is off by no more than that.
const OFF_PLAN_SHARE_MAX: f64 = 0.02;

/// More messages than a span of any generator has, few enough to be summed over.
const MESSAGES_PER_SPAN_MAX: u64 = 1 << 20;

/// Whether there are spans enough, and a plan to hold them against. A file may say anything.
fn can_be_tested(arrivals: &Arrivals) -> bool {
    arrivals.spans_ns.len() as u64 >= SPANS_MIN && arrivals.planned_span_ns > 0.0
}

/// The probability that truly Poisson arrivals at the planned rate look no more Poisson than these; uniform between 0 and
/// 1 where they are. `None` of fewer than [`SPANS_MIN`] spans, or of a plan without length.
pub fn poisson_p(arrivals: &Arrivals) -> Option<f64> {
    let mean_ns = arrivals.planned_span_ns;
    let shape = arrivals.messages_per_span;
    if !(1..=MESSAGES_PER_SPAN_MAX).contains(&shape) || !can_be_tested(arrivals) {
        return None;
    }
    let mut spans_ns = arrivals.spans_ns.clone();
    spans_ns.sort_unstable();
    let tails = |&span_ns: &u64| erlang_tails(shape, span_ns as f64 / mean_ns * shape as f64);
    let tails: Vec<_> = spans_ns.iter().map(tails).collect();
    Some(1.0 - anderson_darling_cdf(tails.len() as f64, anderson_darling(&tails)))
}

/// The share of spans that are further off the planned length than a span of fixed gaps may be, sent by a generator whose lag
/// is to keep within `lag_bound_ns`; and the largest share that one which does can have, in a sample of as many (by three
/// standard deviations). `None` as above.
pub fn off_plan_share(arrivals: &Arrivals, lag_bound_ns: u64) -> Option<(f64, f64)> {
    let mean_ns = arrivals.planned_span_ns;
    if !can_be_tested(arrivals) {
        return None;
    }
    let tolerance_ns = f64::max(lag_bound_ns as f64, FIXED_TOLERANCE_SHARE * mean_ns);
    let count = arrivals.spans_ns.len() as f64;
    let share_max = OFF_PLAN_SHARE_MAX + 3.0 * (OFF_PLAN_SHARE_MAX / count).sqrt();
    let off = arrivals.spans_ns.iter().filter(|&&span_ns| (span_ns as f64 - mean_ns).abs() > tolerance_ns);
    Some((off.count() as f64 / count, share_max))
}

/// The probabilities that the sum of `shape` exponential variables of mean 1 is at most `x`, and more than `x`.
///
/// The latter is that of fewer than `shape` Poisson events in a time of `x` (Johnson, Kotz and Balakrishnan, "Continuous
/// Univariate Distributions" 1, 17.2). The smaller tail is summed, outward from its largest term and of positive terms
/// only, so it keeps its relative precision; a few hundred terms are enough at a shape of 10,000.
fn erlang_tails(shape: u64, x: f64) -> (f64, f64) {
    let n = shape as f64;
    let below_mean = x < n;
    let (mut k, mut term) = if below_mean { (n, poisson(n, x)) } else { (n - 1.0, poisson(n - 1.0, x)) };
    let mut sum = 0.0;
    while term > sum * f64::EPSILON {
        sum += term;
        if below_mean {
            k += 1.0;
            term *= x / k;
        } else {
            term *= k / x;
            k -= 1.0;
        }
    }
    let sum = f64::min(sum, 1.0);
    if below_mean { (sum, 1.0 - sum) } else { (1.0 - sum, sum) }
}

/// The probability of `k` Poisson events where `mean` are expected.
///
/// From 20 up by Stirling's series for k!, which leaves k·ln(mean/k) + k − mean: there, unlike in mean^k/k!, nothing large cancels.
fn poisson(k: f64, mean: f64) -> f64 {
    if k < 20.0 {
        let factorial: f64 = (1..=k as u64).map(|factor| factor as f64).product();
        return mean.powf(k) / factorial * (-mean).exp();
    }
    let series = 1.0 / (12.0 * k) - 1.0 / (360.0 * k.powi(3)) + 1.0 / (1260.0 * k.powi(5));
    (k * (mean / k).ln() + k - mean - series).exp() / (std::f64::consts::TAU * k).sqrt()
}

/// The Anderson–Darling statistic of a sample against a fully specified distribution, of which `tails` are the probabilities
/// at each value, ascending, to be at most and more than it.
fn anderson_darling(tails: &[(f64, f64)]) -> f64 {
    // A value the distribution cannot have is as far out as can be said.
    let ln = |probability: f64| probability.max(f64::MIN_POSITIVE).ln();
    let n = tails.len() as f64;
    let pairs = tails.iter().zip(tails.iter().rev()).enumerate();
    let sum: f64 = pairs
        .map(|(index, (&(lower, _), &(_, upper)))| (2 * index + 1) as f64 * (ln(lower) + ln(upper)))
        .sum();
    -n - sum / n
}

/// The probability that the statistic of a sample of `n` of the distribution itself is below `statistic`, to about six digits.
///
/// Source: Marsaglia and Marsaglia, "Evaluating the Anderson-Darling distribution", Journal of Statistical Software 9(2),
/// 2004: the limit for large n, fitted in two pieces, and what finite n adds to it, in three.
fn anderson_darling_cdf(n: f64, statistic: f64) -> f64 {
    let z = statistic;
    if z <= 0.0 {
        return 0.0;
    }
    let limit = if z < 2.0 {
        let fit = polynomial(z, &[2.00012, 0.247105, -0.0649821, 0.0347962, -0.011672, 0.00168691]);
        (-1.2337141 / z).exp() / z.sqrt() * fit
    } else {
        (-polynomial(z, &[1.0776, -2.30695, 0.43424, -0.082433, 0.008056, -0.0003146]).exp()).exp()
    };
    let middle_from = 0.01265 + 0.1757 / n;
    let correction = if limit > 0.8 {
        polynomial(limit, &[-130.2137, 745.2337, -1705.091, 1950.646, -1116.36, 255.7844]) / n
    } else if limit < middle_from {
        let t = limit / middle_from;
        let fit = t.sqrt() * (1.0 - t) * (49.0 * t - 102.0);
        fit * (0.0037 / n.powi(3) + 0.00078 / n.powi(2) + 0.00006 / n)
    } else {
        let t = (limit - middle_from) / (0.8 - middle_from);
        let fit = polynomial(t, &[-0.00022633, 6.54034, -14.6538, 14.458, -8.259, 1.91864]);
        fit * (0.04213 / n + 0.01365 / n.powi(2))
    };
    (limit + correction).clamp(0.0, 1.0)
}

/// Coefficients ascend.
fn polynomial(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().rev().fold(0.0, |value, coefficient| value * x + coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(random: &mut fastrand::Rng) -> f64 {
        -(1.0 - random.f64()).ln()
    }

    /// Spans of `messages` gaps each, which `gap` draws with a planned mean of 50 µs.
    fn spans(messages: u64, count: u64, mut gap_ns: impl FnMut() -> f64) -> Arrivals {
        let mut span_ns = || (0..messages).map(|_| gap_ns()).sum::<f64>() as u64;
        Arrivals {
            messages_per_span: messages,
            planned_span_ns: 50_000.0 * messages as f64,
            spans_ns: (0..count).map(|_| span_ns()).collect(),
        }
    }

    #[test]
    fn the_limit_distribution_has_the_quantiles_of_the_tables() {
        // Stephens, in D'Agostino and Stephens, "Goodness-of-fit techniques", table 4.2, case 0.
        for (statistic, probability) in
            [(1.248, 0.75), (1.933, 0.9), (2.492, 0.95), (3.070, 0.975), (3.857, 0.99)]
        {
            let found = anderson_darling_cdf(1e9, statistic);
            assert!((found - probability).abs() < 0.0005, "{statistic}: {found}");
        }
        // The paper's own example of a small sample.
        assert!((anderson_darling_cdf(1e9, 6.0) - 0.99898).abs() < 0.0001);
        assert_eq!(anderson_darling_cdf(100.0, 0.0), 0.0);
        assert!((anderson_darling_cdf(100.0, 1e6) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn erlang_tails_are_exact_for_one_and_two_and_near_the_normal_for_many() {
        for x in [1e-12, 0.3, 1.0, 4.0, 50.0] {
            let (lower, upper) = erlang_tails(1, x);
            assert!((upper / (-x).exp() - 1.0).abs() < 1e-9, "{x}: {upper}");
            assert!((lower / -(-x).exp_m1() - 1.0).abs() < 1e-9, "{x}: {lower}");
            let (_, upper) = erlang_tails(2, x);
            assert!((upper / ((1.0 + x) * (-x).exp()) - 1.0).abs() < 1e-9, "{x}: {upper}");
        }
        // From 20 on by another formula.
        for shape in [20_u64, 21, 22] {
            let direct: f64 = (0..shape).map(|k| poisson_slowly(k, 18.5)).sum();
            let (lower, upper) = erlang_tails(shape, 18.5);
            assert!((upper - direct).abs() < 1e-9 && (lower + upper - 1.0).abs() < 1e-15, "{shape}: {upper}");
        }
        // Wilson and Hilferty: the cube root is normal, to about 1e-4 here; 0.975 lies 1.96 deviations out.
        let n = 10_000.0_f64;
        let x = n * (1.0 - 1.0 / (9.0 * n) + 1.959964 / (3.0 * n.sqrt())).powi(3);
        let (lower, upper) = erlang_tails(10_000, x);
        assert!((lower - 0.975).abs() < 1e-5 && (upper - 0.025).abs() < 1e-5, "{lower} {upper}");
        assert_eq!(erlang_tails(3, 0.0), (0.0, 1.0));
        assert_eq!(erlang_tails(3, 1e9), (1.0, 0.0));
    }

    fn poisson_slowly(k: u64, mean: f64) -> f64 {
        (1..=k).fold((-mean).exp(), |term, factor| term * mean / factor as f64)
    }

    #[test]
    fn poisson_arrivals_pass_with_evenly_spread_p() {
        for (messages, count, runs) in [(1, 500, 500), (1, 20, 500), (40, 200, 300), (1000, 50, 100)] {
            let mut random = fastrand::Rng::with_seed(11);
            let p = |_| poisson_p(&spans(messages, count, || 50_000.0 * exponential(&mut random))).unwrap();
            let p: Vec<f64> = (0..runs).map(p).collect();
            // Four standard deviations of a share.
            for bound in [0.1, 0.5, 0.9] {
                let share = p.iter().filter(|&&p| p < bound).count() as f64 / f64::from(runs);
                let tolerance = 4.0 * (bound * (1.0 - bound) / f64::from(runs)).sqrt();
                assert!((share - bound).abs() < tolerance, "{messages}: {share} below {bound}");
            }
        }
    }

    #[test]
    fn what_is_not_poisson_at_the_planned_rate_fails() {
        let mut random = fastrand::Rng::with_seed(5);
        let fails = |arrivals: Arrivals| poisson_p(&arrivals).unwrap() < 0.001;
        assert!(fails(spans(1, 2000, || 50_000.0)), "fixed gaps");
        assert!(fails(spans(40, 500, || 50_000.0)), "fixed gaps, many to a span");
        for (messages, count) in [(1, 4000), (40, 500)] {
            assert!(fails(spans(messages, count, || 55_000.0 * exponential(&mut random))), "10 % too slow");
            assert!(fails(spans(messages, count, || 45_000.0 * exponential(&mut random))), "10 % too fast");
        }
        // The same mean, and gaps that vary 1.3 times as much.
        let lognormal = |random: &mut fastrand::Rng| {
            let normal =
                (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
            50_000.0 * (normal - 0.5).exp()
        };
        assert!(fails(spans(1, 2000, || lognormal(&mut random))), "lognormal gaps");
        // Held up for 5 ms in every 50: what fell due meanwhile leaves at once, after it.
        let (mut due_ns, mut left_ns) = (0.0_f64, 0.0);
        let held_up = || {
            due_ns += 50_000.0 * exponential(&mut random);
            let into_period_ns = due_ns % 50e6;
            let leaves_ns = due_ns + if into_period_ns < 5e6 { 5e6 - into_period_ns } else { 0.0 };
            let gap_ns = leaves_ns - left_ns;
            left_ns = leaves_ns;
            gap_ns
        };
        assert!(fails(spans(1, 2000, held_up)), "bursts after stalls");
    }

    #[test]
    fn fixed_gaps_are_held_to_their_plan() {
        let mut random = fastrand::Rng::with_seed(5);
        let punctual = spans(20, 500, || 50_000.0 + 2_000.0 * (random.f64() - 0.5));
        let off = |arrivals: &Arrivals| off_plan_share(arrivals, 100_000).unwrap().0;
        assert_eq!(off(&punctual), 0.0);
        let mut late = punctual.clone();
        late.spans_ns[..20].iter_mut().for_each(|span_ns| *span_ns += 150_000);
        assert_eq!(off(&late), 0.04);
        assert_eq!(off_plan_share(&late, 160_000).unwrap().0, 0.0);
        late.spans_ns[..20].iter_mut().for_each(|span_ns| *span_ns -= 110_000);
        assert_eq!(
            (off(&late), off_plan_share(&late, 20_000)),
            (0.0, Some((0.0, 0.02 + 3.0 * 0.00004_f64.sqrt())))
        );
        // Of a span of 1 s, 5 % are 50 ms.
        late.planned_span_ns = 1e9;
        late.spans_ns = vec![1_049_000_000; 50];
        assert_eq!(off(&late), 0.0);
        late.spans_ns = vec![949_000_000; 50];
        assert_eq!(off(&late), 1.0);
    }

    #[test]
    fn fixed_gaps_of_a_generator_within_its_lag_bound_are_fixed_enough() {
        for bound_ns in [20_000, 100_000] {
            for seed in 0..50 {
                // One message in a hundred leaves half a millisecond late, the others within the bound.
                let mut random = fastrand::Rng::with_seed(seed);
                let mut lag_ns = || match random.u32(0..105) {
                    0 => 500_000.0,
                    _ => random.f64() * bound_ns as f64,
                };
                let mut last_ns = 0.0;
                let gap_ns = || {
                    let now_ns = lag_ns();
                    let gap_ns = 200_000.0 + now_ns - last_ns;
                    last_ns = now_ns;
                    f64::max(gap_ns, 0.0)
                };
                let arrivals = Arrivals { planned_span_ns: 200_000.0, ..spans(1, 2048, gap_ns) };
                let (share, share_max) = off_plan_share(&arrivals, bound_ns).unwrap();
                assert!(share > 0.005 && share <= share_max, "{bound_ns}: {share}, bound {share_max}");
            }
        }
    }

    #[test]
    fn too_few_spans_and_impossible_plans_are_not_tested() {
        let few = spans(1, SPANS_MIN - 1, || 50_000.0);
        assert_eq!((poisson_p(&few), off_plan_share(&few, 1)), (None, None));
        let sound = spans(1, 50, || 50_000.0);
        for planned_span_ns in [0.0, -1.0, f64::NAN] {
            let arrivals = Arrivals { planned_span_ns, ..sound.clone() };
            assert_eq!((poisson_p(&arrivals), off_plan_share(&arrivals, 1)), (None, None));
        }
        for messages_per_span in [0, u64::MAX] {
            assert_eq!(poisson_p(&Arrivals { messages_per_span, ..sound.clone() }), None);
        }
        let at_once = poisson_p(&Arrivals { spans_ns: vec![0; 50], ..sound }).unwrap();
        assert!(at_once < 1e-4, "{at_once}");
    }
}
