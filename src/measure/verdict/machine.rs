//! Checks of the machine that a run had, or had to share.
//!
//! Invariant: only CPUs that the run used are looked at; what others do elsewhere is their own business.
//! Deliberately absent: frequency governors and the like, which differ from machine to machine and not within a run. Their
//! harm shows as drift; a comparison lists them.

use std::collections::BTreeSet;

use super::{Case, Found, invalid, listed, suspect, trusted};
use crate::measure::evidence::CpuTime;
use crate::measure::units::{counted, duration, percent};

/// The kernel counts processor time in ticks of this length, by what it finds at each.
const TICK_S: f64 = 0.01;
/// The largest share of the window that others may have used of the generator's CPUs, beyond what ticks cannot tell.
const OTHERS_SHARE_MAX: f64 = 0.05;
/// A larger share of a CPU's time stolen by the hypervisor is felt.
const STEAL_SHARE_MAX: f64 = 0.01;
/// A larger one is most of what is felt.
const STEAL_SHARE_INVALID: f64 = 0.1;
/// Clock sources that are read by a call to the kernel and from a device, taking a microsecond or more.
const SLOW_CLOCKS: [&str; 5] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];

fn shared(case: &Case) -> BTreeSet<u64> {
    case.server_cpus.iter().flat_map(|server| server & &case.load_cpus).collect()
}

/// Whether generator and server had CPUs of their own.
pub(super) fn shared_cpus(case: &Case) -> Found {
    let shared = shared(case);
    if !shared.is_empty() {
        return suspect(format!(
            "generator and server share CPU {}: durations tell of their rivalry; give each its own (--cpus, \
             --server-cpus)",
            listed(&shared)
        ));
    }
    match (&case.server_cpus, case.load_cpus.is_empty()) {
        (_, true) => suspect("the generator was bound to no CPU; bind it (--cpus)"),
        (Some(_), _) => trusted("generator and server have CPUs of their own"),
        (None, _) => trusted(format!(
            "the generator has CPU {}; the server's are not known, so what else ran there is looked at",
            listed(&case.load_cpus)
        )),
    }
}

/// Whether somebody else ran on the generator's CPUs.
///
/// Ticks sample: of n, the half that a process is found at is a number with a standard deviation of √n/2. Two of those are
/// allowed for.
pub(super) fn neighbours(case: &Case) -> Found {
    let evidence = case.evidence?;
    let shared = shared(case);
    let others = |cpu: &CpuTime| {
        let own_s: f64 =
            evidence.threads.iter().filter(|thread| thread.cpu == cpu.cpu).map(|thread| thread.cpu_s).sum();
        (cpu.cpu, cpu.busy_s - own_s, cpu.interrupts_s)
    };
    // Of a shared one, the server is the neighbour, and another check says it.
    let is_looked_at = |cpu: &&CpuTime| case.load_cpus.contains(&cpu.cpu) && !shared.contains(&cpu.cpu);
    let looked_at = evidence.cpus.iter().filter(is_looked_at).map(others);
    let (cpu, others_s, interrupts_s) = looked_at.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let uncertain_s = TICK_S * (case.window_s / TICK_S).sqrt();
    let share = case.share(others_s.max(0.0));
    let interrupts = percent(case.share(interrupts_s));
    if others_s > OTHERS_SHARE_MAX * case.window_s + uncertain_s {
        let who =
            if case.server_cpus.is_none() { "somebody else, perhaps the server," } else { "somebody else" };
        return suspect(format!(
            "{who} used {} of the generator's CPU {cpu}, bound {}; stop it, or bind the two apart (taskset, --cpus)",
            percent(share),
            percent(OTHERS_SHARE_MAX)
        ));
    }
    trusted(format!(
        "others used at most {} of the generator's CPUs, interrupts {interrupts}",
        percent(share)
    ))
}

/// Whether the hypervisor gave the run's CPUs to somebody else.
pub(super) fn steal(case: &Case) -> Found {
    let used: BTreeSet<u64> = case.server_cpus.iter().flatten().chain(&case.load_cpus).copied().collect();
    let looked_at = case.evidence?.cpus.iter().filter(|cpu| used.contains(&cpu.cpu));
    let worst = looked_at.max_by(|a, b| a.steal_s.total_cmp(&b.steal_s))?;
    let share = case.share(worst.steal_s);
    // One tick in a short window is a large share, and may be chance.
    let is_felt = share > STEAL_SHARE_MAX && worst.steal_s > 2.5 * TICK_S;
    if !is_felt {
        return trusted(format!("at most {} of a CPU stolen by the hypervisor", percent(share)));
    }
    let bound = if share > STEAL_SHARE_INVALID { STEAL_SHARE_INVALID } else { STEAL_SHARE_MAX };
    let says = format!(
        "the hypervisor gave {} of CPU {} to others, bound {}; run when the host is quiet, or on a machine of your own",
        percent(share),
        worst.cpu,
        percent(bound)
    );
    if share > STEAL_SHARE_INVALID { invalid(says) } else { suspect(says) }
}

/// Whether a quota held threads up.
pub(super) fn throttling(case: &Case) -> Found {
    match case.evidence?.throttled {
        None => trusted("no CPU quota to be seen"),
        Some(throttled) if throttled.periods == 0 => trusted("the CPU quota was never used up"),
        Some(throttled) => suspect(format!(
            "the CPU quota ran out in {} and held threads up for {}; raise it (cpu.max), or lower --rate",
            counted(throttled.periods, "period"),
            duration(throttled.time_s * 1e9)
        )),
    }
}

/// Whether looking at the clock is cheap.
pub(super) fn clock(case: &Case) -> Found {
    let source = case.result.environment.clocksource.as_deref()?;
    if SLOW_CLOCKS.contains(&source) {
        return suspect(format!(
            "the clock source is {source}: each look at it is a call to the kernel and a microsecond or more; boot \
             with clocksource=tsc, if the machine's is stable"
        ));
    }
    trusted(format!("the clock source is {source}"))
}

/// Whether the program was compiled to be fast.
pub(super) fn build(case: &Case) -> Found {
    match case.result.environment.build.profile.as_deref()? {
        "debug" => suspect("made by a debug build; repeat with cargo run --release"),
        profile => trusted(format!("made by a {profile} build")),
    }
}
