//! Many tests at once: Holm's adjustment.
//!
//! Invariant: where nothing differs, the chance that any adjusted p is below 5 % is itself 5 % at most, whatever the tests have
//! to do with each other.
//! Deliberately absent: tests.

/// `p` of each of several tests, adjusted for all of them: the k-th smallest of m times m − k + 1, at least the one before,
/// 1 at most. In the order given.
///
/// Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979.
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut before) = (vec![1.0; p.len()], 0.0);
    for (rank, &index) in order.iter().enumerate() {
        before = (p[index] * (p.len() - rank) as f64).clamp(before, 1.0);
        adjusted[index] = before;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worked_example_comes_out() {
        // 0.005 · 4, 0.01 · 3; then 0.03 · 2 and 0.04 · 1, which may not be less than the one before.
        let expected = [0.03, 0.06, 0.06, 0.02];
        for (ours, expected) in adjusted(&[0.01, 0.04, 0.03, 0.005]).into_iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-12, "{ours} is not {expected}");
        }
        assert_eq!(adjusted(&[0.7, 0.6]), [1.0, 1.0]);
        assert_eq!(adjusted(&[0.04]), [0.04]);
        assert!(adjusted(&[]).is_empty());
    }

    #[test]
    fn it_rejects_exactly_what_the_step_by_step_procedure_does() {
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..500 {
            let p: Vec<f64> = (0..random.usize(1..12)).map(|_| random.f64().powi(4)).collect();
            let mut sorted = p.clone();
            sorted.sort_by(f64::total_cmp);
            let bound = |step: usize| 0.05 / (p.len() - step) as f64;
            let rejected = sorted.iter().enumerate().take_while(|&(step, p)| *p < bound(step)).count();
            let adjusted = adjusted(&p);
            for (p, adjusted) in p.iter().zip(adjusted) {
                assert_eq!(adjusted < 0.05, sorted[..rejected].contains(p), "{p} of {sorted:?}");
            }
        }
    }
}
