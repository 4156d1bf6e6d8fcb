//! Chance in tests, shown so that it can be taken back.

/// A random generator whose seed is printed, which the harness shows where the test fails;
/// `RINGSOCK_SEED=<seed>` plays it again.
pub(crate) fn seeded() -> fastrand::Rng {
    let seed = match std::env::var("RINGSOCK_SEED") {
        Ok(text) => text.parse().expect("RINGSOCK_SEED is a whole number below 2^64"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("replay with RINGSOCK_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
