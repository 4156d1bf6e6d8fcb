//! Chance in tests, shown so that it can be taken back.
#![allow(dead_code, reason = "each test binary uses a part of it")]

/// A random generator whose seed is printed, which the harness shows where the test fails;
/// `RINGSOCK_SEED=<seed>` plays it again.
pub(crate) fn seeded() -> fastrand::Rng {
    let seed = asked_for().unwrap_or_else(|| fastrand::u64(..));
    eprintln!("replay with RINGSOCK_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Plays `count` seeds, others every time; the one that fails is printed, and `RINGSOCK_SEED=<seed>` plays it
/// alone.
pub(crate) fn each(count: u64, play: impl Fn(u64)) {
    let (first, count) = asked_for().map_or_else(|| (fastrand::u64(..), count), |seed| (seed, 1));
    for seed in (0..count).map(|number| first.wrapping_add(number)) {
        let told = Told(seed);
        play(seed);
        std::mem::forget(told);
    }
}

fn asked_for() -> Option<u64> {
    let text = std::env::var("RINGSOCK_SEED").ok()?;
    Some(text.parse().expect("RINGSOCK_SEED is a whole number below 2^64"))
}

/// Says which seed it was, if it is dropped: while a panic unwinds.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("seed {0} failed: replay with RINGSOCK_SEED={0}", self.0);
    }
}
