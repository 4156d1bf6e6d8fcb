//! The limit on open files (`RLIMIT_NOFILE`), against which direct descriptors count too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::EngineError;

/// Sees to it that this process may have `needed` open files, raising the limit if it can be raised.
///
/// # Errors
/// [`EngineError::TooFewFiles`]: the hard limit is lower, and we may not raise it.
pub fn ensure(needed: u64) -> Result<(), EngineError> {
    let limit = getrlimit(Resource::Nofile);
    let holds = |bound: Option<u64>| bound.is_none_or(|bound| bound >= needed);
    if holds(limit.current) {
        return Ok(());
    }
    let maximum = if holds(limit.maximum) { limit.maximum } else { Some(needed) };
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .map_err(|_| EngineError::TooFewFiles { needed, limit: limit.maximum.unwrap_or(u64::MAX) })
}

/// The largest limit up to `wanted` that can be had; it is set.
pub fn raise_towards(wanted: u64) -> u64 {
    if ensure(wanted).is_ok() {
        return wanted;
    }
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(wanted);
    match ensure(hard) {
        Ok(()) => hard,
        Err(_) => limit.current.unwrap_or(hard),
    }
}
