//! Whether the machine's clock counts instructions, where the user says so: `--clock instructions`.
//!
//! Invariant: a machine whose clock is sure to count something else is refused, with what would mend it. What the machine says of
//! itself comes first; then a walk through memory, for a clock that counts instructions knows of no cache.
//! Deliberately absent: any guess that real time is none. Without the flag nothing is looked at.

use std::hint::black_box;
use std::time::Instant;

use crate::measure::environment::Environment;

/// Steps of a walk: enough for what a look at the clock takes not to show.
const STEPS: usize = 50_000;
/// Numbers in the cycle that fits every first-level cache: 4 KiB.
const NEAR: usize = 1 << 10;
/// Numbers in the one that fits none: 8 MiB.
const FAR: usize = 1 << 21;
/// Walks of each kind. The shortest counts: interrupts lengthen some, in instructions as well.
const WALKS: usize = 7;
/// How much longer the far walk may be by a clock that counts instructions. Where time is counted, it is several times as long.
const FAR_OVER_NEAR_MAX: f64 = 1.02;

/// Why durations here cannot be instructions, and what would mend it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClockError {
    /// Instructions of several CPUs are no one number.
    #[error(
        "--clock instructions: {0}, and instructions are counted of one: boot the guest with -smp 1 -icount shift=0, or leave \
         --clock out"
    )]
    Cpus(String),
    /// Not a guest.
    #[error(
        "--clock instructions: this machine does not say that it is a virtual one, so its clock counts time: run it in a guest \
         of QEMU with -accel tcg -icount shift=0 -smp 1, or leave --clock out"
    )]
    NotVirtual,
    /// A guest whose clock knows of caches.
    #[error(
        "--clock instructions: one walk through far memory took {0:.2} times as long as one of as many instructions through \
         near memory, so this machine's clock counts time: start QEMU with -icount shift=0, or leave --clock out"
    )]
    CountsTime(f64),
    /// The generator would have the one CPU to itself.
    #[error(
        "--spin: with --clock instructions there is one CPU, and a generator that never sleeps keeps the server off it: leave \
         --spin out"
    )]
    Spin,
    /// A calibration is of punctuality.
    #[error(
        "--calibrate: punctuality is a matter of time, and --clock instructions counts none: leave one of them out"
    )]
    Calibrate,
    /// The live view's figures are times.
    #[error("--tui: its figures are times, and --clock instructions counts none: leave one of them out")]
    Tui,
}

/// What of the flags concerns this.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beside {
    pub(super) spin: bool,
    pub(super) calibrate: bool,
    pub(super) tui: bool,
}

/// Whether a run with these flags, in a machine like this, may say that its clock counts instructions.
///
/// # Errors
/// The first thing that speaks against it.
pub(super) fn check(environment: &Environment, beside: Beside) -> Result<(), ClockError> {
    for (is_given, refusal) in [
        (beside.spin, ClockError::Spin),
        (beside.calibrate, ClockError::Calibrate),
        (beside.tui, ClockError::Tui),
    ] {
        if is_given {
            return Err(refusal);
        }
    }
    check_machine(environment)?;
    let (near, far) = (cycle(NEAR), cycle(FAR));
    let measured = |cycle: &[u32]| {
        let begin = Instant::now();
        black_box(walk(cycle));
        begin.elapsed().as_nanos() as u64
    };
    let shortest = |cycle: &[u32]| (0..WALKS).map(|_| measured(cycle)).min().unwrap_or(0);
    check_walks(shortest(&near), shortest(&far))
}

fn check_machine(environment: &Environment) -> Result<(), ClockError> {
    match environment.cpu.count {
        Some(1) => {}
        Some(count) => return Err(ClockError::Cpus(format!("this machine has {count} CPUs online"))),
        None => {
            return Err(ClockError::Cpus("it is not to be seen how many CPUs are online (/sys)".to_owned()));
        }
    }
    match environment.cpu.hypervisor {
        Some(true) => Ok(()),
        _ => Err(ClockError::NotVirtual),
    }
}

fn check_walks(near_ns: u64, far_ns: u64) -> Result<(), ClockError> {
    let ratio = far_ns as f64 / near_ns.max(1) as f64;
    if ratio <= FAR_OVER_NEAR_MAX { Ok(()) } else { Err(ClockError::CountsTime(ratio)) }
}

/// Each number is the place of the next, in one cycle through all places, scattered so that nothing can be fetched ahead: a
/// linear congruential generator of full period (Hull and Dobell 1962). `length` is a power of two.
fn cycle(length: usize) -> Vec<u32> {
    let next = |place: usize| (place.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)) % length;
    (0..length).map(|place| next(place) as u32).collect()
}

/// As many instructions whatever the cycle, each waiting for the one before.
#[inline(never)]
fn walk(cycle: &[u32]) -> u32 {
    (0..STEPS).fold(0, |place, _| cycle[place as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::environment::Cpu;

    fn machine(count: Option<u64>, hypervisor: Option<bool>) -> Environment {
        Environment { cpu: Cpu { count, hypervisor, ..Cpu::default() }, ..Environment::default() }
    }

    #[test]
    fn only_a_virtual_machine_of_one_cpu_may_count_instructions() {
        assert_eq!(check_machine(&machine(Some(1), Some(true))), Ok(()));
        for (environment, words) in [
            (machine(Some(2), Some(true)), "this machine has 2 CPUs online"),
            (machine(None, Some(true)), "how many CPUs are online"),
            (machine(Some(1), Some(false)), "does not say that it is a virtual one"),
            (machine(Some(1), None), "does not say that it is a virtual one"),
        ] {
            let refused = check_machine(&environment).unwrap_err().to_string();
            assert!(refused.contains(words) && refused.contains("leave --clock out"), "{refused}");
        }
    }

    #[test]
    fn a_clock_that_knows_of_caches_counts_time() {
        assert_eq!(check_walks(200_000, 200_100), Ok(()));
        let refused = check_walks(50_000, 400_000).unwrap_err().to_string();
        assert!(refused.contains("8.00 times as long") && refused.contains("-icount shift=0"), "{refused}");
    }

    #[test]
    fn a_walk_comes_through_every_place_once() {
        for length in [NEAR, 1 << 16] {
            let cycle = cycle(length);
            let mut seen = vec![false; length];
            let mut place = 0;
            for _ in 0..length {
                assert!(!std::mem::replace(&mut seen[place], true), "{length}: {place} again");
                place = cycle[place] as usize;
            }
            assert_eq!(place, 0);
        }
    }

    #[test]
    fn what_makes_no_sense_on_one_cpu_or_without_time_is_refused_by_name() {
        for (beside, flag) in [
            (Beside { spin: true, ..Beside::default() }, "--spin"),
            (Beside { calibrate: true, ..Beside::default() }, "--calibrate"),
            (Beside { tui: true, ..Beside::default() }, "--tui"),
        ] {
            let refused = check(&machine(Some(1), Some(true)), beside).unwrap_err().to_string();
            assert!(refused.starts_with(flag) && refused.contains("leave"), "{refused}");
        }
    }
}
