//! Checks of the generator: that it did what was asked, when it was to, and had the processor time to.
//!
//! Invariant: whatever the generator adds to a duration is judged against that duration, or against what cannot matter.
//! Deliberately absent: the machine around it.

use super::{CLOSED_LOOP, Case, Found, Level, invalid, suspect, trusted};
use crate::measure::arrivals::{SPANS_MIN, off_plan_share, poisson_p};
use crate::measure::evidence::ThreadUse;
use crate::measure::histogram::{Histogram, maximum_ns, percentile_ns};
use crate::measure::result::{Arrivals, CalibrationCited, Mode};
use crate::measure::units::{counted, duration_ns, percent, rate};

/// A lag with a 99th percentile up to this is punctual, for a generator that spins.
const LAG_P99_SPINNING_NS: u64 = 20_000;
/// The same for one that sleeps between messages: what waking up takes.
const LAG_P99_SLEEPING_NS: u64 = 100_000;
/// A lag's 99th percentile of less than this share of the median response time changes nothing that is seen.
pub const LAG_SHARE_OF_MEDIAN: f64 = 0.05;
/// A lag of more than this share of the response time at the same percentile is most of what was measured.
const LAG_SHARE_OF_RESPONSE: f64 = 0.5;
/// Poisson arrivals that look less like it than one in so many truly Poisson ones.
const ARRIVALS_P_MIN: f64 = 0.001;
/// A median response time of less than this many times the null server's is as fast as the machine can show.
const FLOOR_FACTOR: f64 = 1.1;
/// The largest share of the window that a thread may work in an open loop: what is left is for bursts.
const WORK_SHARE_OPEN_MAX: f64 = 0.9;
/// In a closed loop, a generator that works more than this, against a server that does not, is what was measured.
const WORK_SHARE_CLOSED_MAX: f64 = 0.95;
/// The largest share of the window that a thread may have waited for its CPU.
const WAITED_SHARE_MAX: f64 = 0.01;
/// Times a second that a thread may be made to give up its CPU. The kernel's own (ksoftirqd, kworker, RCU) do it some thirty
/// times a second on a busy loopback; what it costs is in the time waited.
const INVOLUNTARY_PER_S_MAX: f64 = 100.0;

/// Whether the run noted what it can be judged by.
pub(super) fn evidence(case: &Case) -> Found {
    let Some(evidence) = case.evidence else {
        return suspect(
            "this older file lacks what arrivals, processor time and neighbours are judged by; repeat the run",
        );
    };
    let (seen, planned) = (evidence.threads.len() as u64, case.result.plan.threads);
    if seen < planned {
        return suspect(format!(
            "only {seen} of {} left a record of its processor time; /proc may be hidden here",
            counted(planned, "generator thread")
        ));
    }
    trusted(format!("{} left a record", counted(seen, "generator thread")))
}

/// The 99th percentile of lag that is put up with, in nanoseconds: of a generator that spins, or of one that sleeps.
pub fn lag_bound_ns(spin: bool) -> u64 {
    if spin { LAG_P99_SPINNING_NS } else { LAG_P99_SLEEPING_NS }
}

fn bound_of(case: &Case) -> u64 {
    lag_bound_ns(case.evidence.is_some_and(|evidence| evidence.spin))
}

/// Messages are due many at once, and can only be sent one after the other.
fn is_of_bursts(case: &Case) -> bool {
    matches!(case.result.plan.mode, Mode::OpenLoop { arrivals: Arrivals::Burst, .. })
}

/// Whether messages were sent when they were to be.
pub(super) fn lag(case: &Case) -> Found {
    case.offered_per_s?;
    let latency = &case.result.latency;
    let both = |of: fn(&Histogram) -> Option<u64>| of(&latency.lag).zip(of(&latency.response));
    let p99 = both(|durations| percentile_ns(durations, 0.99)).map(|values| ("p99", values));
    // Of fewer than there is a 99th percentile of, the longest is what is known.
    let (at, (lag_ns, response_ns)) = p99.or_else(|| Some(("the longest", both(maximum_ns)?)))?;
    let spin = case.evidence.is_some_and(|evidence| evidence.spin);
    let (bound_ns, how) = (bound_of(case), if spin { "spinning" } else { "sleeping between messages" });
    let mend = match spin {
        true => "give its CPUs to the generator alone (isolcpus, taskset), or lower --rate",
        false => "use --spin, give its CPUs to the generator alone, or lower --rate",
    };
    let is_most_of =
        |lag_ns: u64, response_ns: u64| lag_ns as f64 > LAG_SHARE_OF_RESPONSE * response_ns as f64;
    let says = format!("{at} {}, bound {} {how}", duration_ns(lag_ns), duration_ns(bound_ns));
    if is_most_of(lag_ns, response_ns) {
        let says = format!(
            "{says}: more than half of the response time's {} of {}, so that tells of the generator; {mend}",
            at.trim_start_matches("the "),
            duration_ns(response_ns)
        );
        // Within its bound, it did what a generator can; the server is faster than that. Of a burst, most is sent after the rest.
        return if lag_ns > bound_ns && !is_of_bursts(case) { invalid(says) } else { suspect(says) };
    }
    if is_of_bursts(case) {
        return trusted(format!(
            "{at} {}: what it takes to send those of a burst before",
            duration_ns(lag_ns)
        ));
    }
    let median_ns = latency.response.value_at_quantile(0.5);
    if lag_ns > bound_ns && lag_ns as f64 > LAG_SHARE_OF_MEDIAN * median_ns as f64 {
        return suspect(format!(
            "{says}, and more than {} of the median response time of {}; {mend}",
            percent(LAG_SHARE_OF_MEDIAN),
            duration_ns(median_ns)
        ));
    }
    let tail = percentile_ns(&latency.lag, 0.999).zip(percentile_ns(&latency.response, 0.999));
    if let Some((lag_ns, response_ns)) = tail
        && lag_ns > bound_ns
        && is_most_of(lag_ns, response_ns)
    {
        return suspect(format!(
            "{says}, but p99.9 {} of the response time's {}: from there on, durations tell of the generator; {mend}",
            duration_ns(lag_ns),
            duration_ns(response_ns)
        ));
    }
    trusted(says)
}

/// Whether the arrivals were the process that was asked for.
pub(super) fn arrivals(case: &Case) -> Found {
    let Mode::OpenLoop { arrivals: asked, .. } = case.result.plan.mode else { return None };
    if asked == Arrivals::Burst || case.result.plan.scenario == "push" {
        // All at one instant: how late each was is its lag. Or sent by the server.
        return None;
    }
    let Some(arrivals) = &case.evidence?.arrivals else {
        return suspect("when messages left was not recorded, so whether they left as planned is not known");
    };
    let spans = arrivals.spans_ns.len() as u64;
    let seen =
        format!("{} of {} each", counted(spans, "span"), counted(arrivals.messages_per_span, "message"));
    let too_few =
        || suspect(format!("{seen} cannot be tested, {SPANS_MIN} could; run longer, or at a higher --rate"));
    let mend = "something held the generator up; see its lag and who shares its CPUs";
    match asked {
        Arrivals::Poisson => match poisson_p(arrivals) {
            None => too_few(),
            Some(p) if p < ARRIVALS_P_MIN => {
                // Further down the distribution's approximation ends.
                let p = if p < 1e-5 { "< 0.00001".to_owned() } else { format!("= {p:.5}") };
                suspect(format!(
                    "not Poisson at the planned rate (Anderson–Darling p {p}, bound {ARRIVALS_P_MIN}; {seen}): {mend}"
                ))
            }
            Some(p) => trusted(format!("Poisson at the planned rate (Anderson–Darling p = {p:.3}; {seen})")),
        },
        Arrivals::Fixed => match off_plan_share(arrivals, bound_of(case)) {
            None => too_few(),
            Some((off, bound)) if off > bound => suspect(format!(
                "gaps are not fixed: {} off their plan, bound {} ({seen}): {mend}",
                percent(off),
                percent(bound)
            )),
            Some((off, _)) => trusted(format!("fixed gaps: {} off their plan ({seen})", percent(off))),
        },
        Arrivals::Burst => None,
    }
}

/// The thread of which `of` is largest, and that value.
fn most(case: &Case, of: impl Fn(&ThreadUse) -> f64) -> Option<(u64, f64)> {
    let threads = case.evidence?.threads.iter();
    threads.map(|thread| (thread.cpu, of(thread))).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Whether its threads had time to spare.
pub(super) fn cpu(case: &Case) -> Found {
    let work_s = |thread: &ThreadUse| thread.idle_s.map_or(thread.cpu_s, |idle_s| case.window_s - idle_s);
    let (cpu, work) = most(case, |thread| case.share(work_s(thread)))?;
    let server_cpus = case.server_cpus.as_ref().map_or(1, |cpus| cpus.len().max(1));
    let server = case.result.cpu.server_cpu_s.map(|server_s| case.share(server_s) / server_cpus as f64);
    let of_server = server.map_or("unknown".to_owned(), percent);
    let says = format!("the busiest thread, on CPU {cpu}, worked {} of the window", percent(work));
    if case.offered_per_s.is_some() {
        if work > WORK_SHARE_OPEN_MAX {
            let bound = percent(WORK_SHARE_OPEN_MAX);
            return suspect(format!("{says}, bound {bound}; lower --rate, or use more --threads"));
        }
    } else if work > WORK_SHARE_CLOSED_MAX && server.is_none_or(|server| server < WORK_SHARE_CLOSED_MAX) {
        return suspect(format!(
            "{says}, the server's {of_server}: the generator was the bottleneck, and the rate is its own; use more \
             --threads, and --server-pid to see the server's time"
        ));
    }
    trusted(format!("{says}; the server's CPUs: {of_server}"))
}

/// Whether its threads had to wait for their CPU.
pub(super) fn waiting(case: &Case) -> Found {
    let (cpu, waited) = most(case, |thread| case.share(thread.waited_s))?;
    let waited_share = percent(waited);
    if waited > WAITED_SHARE_MAX {
        return suspect(format!(
            "the thread on CPU {cpu} was ready and not running for {waited_share} of the window, bound {}: another \
             one runs there; bind it elsewhere",
            percent(WAITED_SHARE_MAX)
        ));
    }
    trusted(format!("threads were ready and not running for at most {waited_share} of the window"))
}

/// Whether its threads were interrupted.
pub(super) fn preemption(case: &Case) -> Found {
    let per_s = |thread: &ThreadUse| thread.involuntary_switches as f64 / case.window_s.max(1e-9);
    let (cpu, switches) = most(case, per_s)?;
    if switches > INVOLUNTARY_PER_S_MAX {
        return suspect(format!(
            "the thread on CPU {cpu} was made to give it up {}, bound {}: another one runs there; bind it elsewhere",
            rate(switches),
            rate(INVOLUNTARY_PER_S_MAX)
        ));
    }
    trusted(format!("threads gave up their CPU unasked at most {}", rate(switches)))
}

/// Whether its threads waited for storage.
pub(super) fn page_faults(case: &Case) -> Found {
    let threads = &case.evidence?.threads;
    let faults = threads.iter().fold(0_u64, |sum, thread| sum.saturating_add(thread.major_faults));
    if threads.is_empty() {
        return None;
    }
    if faults > 0 {
        return suspect(format!(
            "{} had to read from storage while measuring: memory is short; free some, or use fewer connections",
            counted(faults, "page fault")
        ));
    }
    trusted("no page fault had to read from storage")
}

/// Whether each thread was asked for no more than it is known to do punctually on this machine.
pub(super) fn calibration(case: &Case) -> Found {
    if !matches!(&*case.result.plan.scenario, "echo" | "slow" | "idle") {
        // It is of echoes, a message of ours each.
        return None;
    }
    let per_thread = case.offered_per_s? / case.result.plan.threads.max(1) as f64;
    let Some(calibration) = &case.result.calibration else {
        return trusted(
            "not calibrated (ringsock-load --calibrate tells what this machine's generator can do)",
        );
    };
    let says =
        format!("{} a thread, calibrated up to {}", rate(per_thread), rate(calibration.rate_max_per_s));
    if per_thread > calibration.rate_max_per_s {
        return suspect(format!("{says} ({}); lower --rate, or use more --threads", calibration.path));
    }
    trusted(match at_floor(case, calibration, per_thread) {
        Some(floor) => format!("{says}; {floor}"),
        None => says,
    })
}

/// How the median response time compares with the null server's, where the two are comparable: the latter was measured at
/// half of the highest rate, and queues are shorter below.
fn at_floor(case: &Case, calibration: &CalibrationCited, per_thread: f64) -> Option<String> {
    let (half, floor_ns) = (calibration.rate_max_per_s / 2.0, calibration.floor_p50_ns);
    let response = &case.result.latency.response;
    // A calibration that found no such rate has no floor either.
    if floor_ns == 0 || response.is_empty() || per_thread > half {
        return None;
    }
    let median_ns = response.value_at_quantile(0.5);
    let both = format!(
        "the median response time is {}, a null server's at {} {}",
        duration_ns(median_ns),
        rate(half),
        duration_ns(floor_ns)
    );
    Some(match (median_ns as f64) < FLOOR_FACTOR * floor_ns as f64 {
        true => format!("{both}: this server is as fast as this machine can show"),
        false => both,
    })
}

/// What kind of number a closed loop gives.
pub(super) fn mode(case: &Case) -> Found {
    matches!(case.result.plan.mode, Mode::ClosedLoop { .. }).then(|| (Level::Trusted, CLOSED_LOOP.to_owned()))
}
