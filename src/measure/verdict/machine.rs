//! Checks of the machine that a run had, or had to share.
//!
//! Invariant: only CPUs that the run used are looked at; what others do elsewhere is their own business.
//! Deliberately absent: frequency governors and the like, which differ from machine to machine and not within a run. Their
//! harm shows as drift; a comparison lists them.

use std::collections::BTreeSet;

use super::{Case, Found, cpu_list, invalid, listed, suspect, trusted};
use crate::measure::environment::Clock;
use crate::measure::evidence::{CpuTime, Evidence, ThreadUse};
use crate::measure::units::{counted, percent};

/// The kernel may count processor time by what it finds at each of its ticks. How long they are (CONFIG_HZ) no file says: at most
/// this, the unit of `/proc/stat`, mostly less.
const TICK_S: f64 = 0.01;
/// The largest share of the window that others may have used of the generator's CPUs, beyond what ticks cannot tell.
const OTHERS_SHARE_MAX: f64 = 0.05;
/// A larger share of a CPU's time stolen by the hypervisor is felt.
const STEAL_SHARE_MAX: f64 = 0.01;
/// A larger one is most of what is felt.
const STEAL_SHARE_INVALID: f64 = 0.1;
/// Clock sources that are read by a call to the kernel and from a device, taking a microsecond or more.
const SLOW_CLOCKS: [&str; 5] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];
/// Those of them that move with the kernel's tick.
const TICKING_CLOCKS: [&str; 2] = ["jiffies", "refined-jiffies"];

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
    if let Some(siblings) = shared_core(case) {
        return suspect(format!(
            "CPUs {} of generator and server are threads of one core: each slows the other down; give each a core of its \
             own (--cpus, --server-cpus)",
            listed(&siblings)
        ));
    }
    match (&case.server_cpus, case.load_cpus.is_empty()) {
        (_, true) => suspect("the generator was bound to no CPU; bind it (--cpus)"),
        (Some(_), _) if case.result.environment.cpu.siblings.is_none() => {
            trusted("generator and server have CPUs of their own; whether those share a core is not known")
        }
        (Some(_), _) => trusted("generator and server have cores of their own"),
        (None, _) => trusted(format!(
            "the server's CPUs are not known (--server-pid); whatever else ran on the generator's CPU {} is looked at",
            listed(&case.load_cpus)
        )),
    }
}

/// CPUs of a core that has some of the generator's and others of the server's.
fn shared_core(case: &Case) -> Option<BTreeSet<u64>> {
    let server = case.server_cpus.as_ref()?;
    let cores = case.result.environment.cpu.siblings.iter().flatten().map(|core| cpu_list(core));
    let of_both = cores.filter(|core| !core.is_disjoint(&case.load_cpus) && !core.is_disjoint(server));
    of_both
        .map(|core| {
            core.iter().filter(|&cpu| case.load_cpus.contains(cpu) || server.contains(cpu)).copied().collect()
        })
        .next()
}

/// How long processes ran on the generator's CPUs that were not its threads, if it can be told.
///
/// `/proc/stat` tells processes from interrupts. The time of a thread holds the interrupts that struck it, unless the kernel
/// keeps them apart (CONFIG_IRQ_TIME_ACCOUNTING), and no file says whether it does. Where threads have more time than
/// all processes of their CPU together, it does not, there or on any other CPU; then those of the interrupts that struck
/// nobody else are subtracted with the threads' time. All of them are taken for such as struck the threads, which makes
/// others look larger, never smaller.
struct Others<'a> {
    case: &'a Case<'a>,
    threads: &'a [ThreadUse],
    threads_hold_interrupts: bool,
    /// What counting by ticks may be wrong by.
    uncertain_s: f64,
}

impl<'a> Others<'a> {
    fn of(case: &'a Case<'a>, evidence: &'a Evidence) -> Self {
        let uncertain_s = TICK_S * (case.window_s / TICK_S).sqrt();
        let mut others =
            Others { case, threads: &evidence.threads, threads_hold_interrupts: false, uncertain_s };
        let beyond = |(own_s, busy_s): (f64, f64)| own_s > busy_s + uncertain_s;
        let of_generator = evidence.cpus.iter().any(|cpu| beyond((others.own_s(cpu), cpu.busy_s)));
        let of_server = case.server_cpus.as_ref().zip(case.result.cpu.server_cpu_s);
        let of_server = of_server.is_some_and(|(cpus, server_s)| {
            let busy_s = evidence.cpus.iter().filter(|cpu| cpus.contains(&cpu.cpu)).map(|cpu| cpu.busy_s);
            // Ticks of several CPUs err apart.
            beyond((server_s, busy_s.sum::<f64>() + uncertain_s * ((cpus.len() as f64).sqrt() - 1.0)))
        });
        others.threads_hold_interrupts = of_generator || of_server;
        others
    }

    fn own_s(&self, cpu: &CpuTime) -> f64 {
        self.threads.iter().filter(|thread| thread.cpu == cpu.cpu).map(|thread| thread.cpu_s).sum()
    }

    fn of_cpu(&self, cpu: &CpuTime) -> f64 {
        let interrupts_s = if self.threads_hold_interrupts { cpu.interrupts_s } else { 0.0 };
        (cpu.busy_s + interrupts_s - self.own_s(cpu)).max(0.0)
    }

    /// A CPU that is shared with the server is another check's, and of one whose thread left no record nothing can be told.
    fn can_tell(&self, cpu: &CpuTime) -> bool {
        let all_recorded = self.threads.len() as u64 >= self.case.result.plan.threads;
        let recorded = all_recorded || self.threads.iter().any(|thread| thread.cpu == cpu.cpu);
        let server = self.case.server_cpus.as_ref();
        recorded
            && self.case.load_cpus.contains(&cpu.cpu)
            && !server.is_some_and(|server| server.contains(&cpu.cpu))
    }
}

/// Whether somebody else ran on the generator's CPUs.
///
/// Ticks sample: of n, the half that a process is found at is a number with a standard deviation of √n/2. Two of those are
/// allowed for, at the length that a tick has at most.
pub(super) fn neighbours(case: &Case) -> Found {
    let evidence = case.evidence?;
    let others = Others::of(case, evidence);
    let looked_at = evidence.cpus.iter().filter(|cpu| others.can_tell(cpu));
    let by_cpu = looked_at.map(|cpu| (cpu, others.of_cpu(cpu)));
    let (cpu, others_s) = by_cpu.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let share = percent(case.share(others_s));
    let bound_s = OTHERS_SHARE_MAX * case.window_s + others.uncertain_s;
    let bound = percent(case.share(bound_s));
    let interrupts = percent(case.share(cpu.interrupts_s));
    let held = if others.threads_hold_interrupts { ", which its threads' time holds" } else { "" };
    if others_s > bound_s {
        let who =
            if case.server_cpus.is_none() { "somebody else, perhaps the server," } else { "somebody else" };
        return suspect(format!(
            "{who} used {share} of the generator's CPU {}, bound {bound} (interrupts: {interrupts}{held}); stop it, or \
             bind the two apart (taskset, --cpus)",
            cpu.cpu
        ));
    }
    trusted(format!(
        "others used at most {share} of a CPU of the generator, bound {bound} (interrupts: {interrupts}{held})"
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
            case.clock().duration(throttled.time_s * 1e9)
        )),
    }
}

/// What a run under a clock that counts instructions is: said of each one, since its file may come to be read anywhere. And whether
/// the machine is one that can be so.
pub(super) fn instruction_time(case: &Case) -> Found {
    let cpu = &case.result.environment.cpu;
    if cpu.count != Some(1) {
        let count = cpu.count.map_or("an unknown number of CPUs".to_owned(), |count| counted(count, "CPU"));
        return invalid(format!(
            "said to be in instructions of one CPU, but the machine has {count}: durations here are of mixed clocks; boot the \
             guest with -smp 1 -icount shift=0"
        ));
    }
    if cpu.hypervisor != Some(true) {
        return invalid(
            "said to be in instructions, but the machine is no virtual one, and its clock counts time; leave out --clock",
        );
    }
    let lag = case.offered_per_s.map_or("", |_| {
        "; response times hold both ends' turns and every wait for the one CPU, the generator's lag for the most part the server's \
         turns"
    });
    trusted(format!(
        "instruction time: a nanosecond is an instruction, and durations are the length of the path on one virtual CPU that \
         generator and server share, without caches or cycles; never to be compared with real time{lag}"
    ))
}

/// Whether looking at the clock is cheap, and whether it moves between ticks.
pub(super) fn clock(case: &Case) -> Found {
    let source = case.result.environment.clocksource.as_deref()?;
    if case.clock() == Clock::Instructions {
        // A device is read by one instruction; but what moves with the tick alone tells nothing shorter apart.
        return match TICKING_CLOCKS.contains(&source) {
            true => suspect(format!(
                "the clock source is {source}: it stands still for millions of instructions; boot with clocksource=tsc"
            )),
            false => trusted(format!("the clock source is {source}")),
        };
    }
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
