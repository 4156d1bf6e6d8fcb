//! CPU lists and pinning.
//!
//! Reads what the process may use; changes nothing but the calling thread's own affinity.

use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPUs in the order they were asked for, as `0,2-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

/// Why a CPU list was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// Not of the form `0,2-3`.
    #[error("`{0}` is no CPU list: write numbers and ranges, such as 0,2-3")]
    Syntax(String),
    /// A CPU that this process may not run on.
    #[error("CPU {cpu} is not available to this process, which may use {available:?}")]
    Unavailable {
        /// The CPU that was asked for.
        cpu: usize,
        /// Those it could have been.
        available: Vec<usize>,
    },
}

impl FromStr for CpuList {
    type Err = CpuError;

    fn from_str(text: &str) -> Result<Self, CpuError> {
        let syntax = || CpuError::Syntax(text.to_owned());
        let number = |part: &str| part.trim().parse::<usize>().ok().filter(|&cpu| cpu < CpuSet::MAX_CPU);
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first).ok_or_else(syntax)?, number(last).ok_or_else(syntax)?);
            if first > last {
                return Err(syntax());
            }
            cpus.extend((first..=last).filter(|cpu| !cpus.contains(cpu)).collect::<Vec<_>>());
        }
        Ok(Self(cpus))
    }
}

/// CPUs that this process may run on, ascending; never empty.
pub fn available() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| {
        let mut only_first = CpuSet::new();
        only_first.set(0);
        only_first
    });
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Whether every CPU of `list` may be used.
///
/// # Errors
/// [`CpuError::Unavailable`] names the first that may not.
pub fn check(list: &CpuList) -> Result<(), CpuError> {
    let available = available();
    match list.0.iter().find(|cpu| !available.contains(cpu)) {
        Some(&cpu) => Err(CpuError::Unavailable { cpu, available }),
        None => Ok(()),
    }
}

/// Has the kernel end this thread's waits as soon after their time limit as it can (`PR_SET_TIMERSLACK`, Linux 2.6.28).
pub fn end_waits_on_time() {
    // Refused by nothing but a seccomp filter; waits end 50 µs late then, and the generator's lag shows it.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Binds the calling thread to `cpu`.
///
/// # Errors
/// The CPU is offline or forbidden (`sched_setaffinity(2)`).
pub fn pin_current_thread(cpu: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Keeps the calling thread off `busy`, if it may run anywhere else; says whether it may.
pub fn keep_current_thread_off(busy: &[usize]) -> bool {
    let mut set = CpuSet::new();
    available().into_iter().filter(|cpu| !busy.contains(cpu)).for_each(|cpu| set.set(cpu));
    set.count() > 0 && sched_setaffinity(None, &set).is_ok()
}

/// The kernel's id of the calling thread.
pub fn current_thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// CPU time, in nanoseconds, that the threads of process `process_id` have used, all of them or those in
/// `thread_ids`; `None` where one cannot be read (it has ended).
///
/// From `/proc/PID/task/TID/schedstat`: exact where `getrusage` counts ticks.
pub fn used_ns(process_id: u32, thread_ids: Option<&[i32]>) -> Option<u64> {
    let tasks = format!("/proc/{process_id}/task");
    let used_by = |thread: &str| -> Option<u64> {
        let schedstat = std::fs::read_to_string(format!("{tasks}/{thread}/schedstat")).ok()?;
        schedstat.split_ascii_whitespace().next()?.parse().ok()
    };
    let threads = std::fs::read_dir(&tasks).ok()?;
    let names: Option<Vec<String>> =
        threads.map(|thread| thread.ok()?.file_name().into_string().ok()).collect();
    let Some(ids) = thread_ids else { return names?.iter().map(|thread| used_by(thread)).sum() };
    let own: Option<u64> = ids.iter().map(|id| used_by(&id.to_string())).sum();
    // Threads of the kernel that work for a ring are named after the thread that set it up (Linux 5.12).
    let works_for_one = |thread: &&String| {
        let name = std::fs::read_to_string(format!("{tasks}/{thread}/comm")).unwrap_or_default();
        let maker = name.trim_end().strip_prefix("iou-sqp-").or(name.trim_end().strip_prefix("iou-wrk-"));
        maker.and_then(|id| id.parse().ok()).is_some_and(|id: i32| ids.contains(&id))
    };
    // One that has ended meanwhile has nothing to tell.
    let helpers: u64 = names?.iter().filter(works_for_one).filter_map(|thread| used_by(thread)).sum();
    own.map(|own| own + helpers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_drop_repeats() {
        assert_eq!("3,0-2,1".parse(), Ok(CpuList(vec![3, 0, 1, 2])));
    }

    #[test]
    fn what_is_no_list_is_named_in_the_error() {
        for text in ["", "a", "2-", "3-1", "0,,1", "-1", "99999999"] {
            assert_eq!(text.parse::<CpuList>(), Err(CpuError::Syntax(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn a_thread_keeps_off_busy_cpus_only_where_there_are_others() {
        std::thread::spawn(|| {
            let all = available();
            assert!(!keep_current_thread_off(&all));
            assert_eq!(available(), all, "nowhere else to go: nothing changes");
            assert_eq!(keep_current_thread_off(&all[..1]), all.len() > 1);
            assert_eq!(available(), if all.len() > 1 { &all[1..] } else { &all[..] });
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_cpu_we_may_not_use_is_refused() {
        let error = check(&CpuList(vec![CpuSet::MAX_CPU - 1])).unwrap_err().to_string();
        assert!(error.contains("not available to this process"), "{error}");
    }
}
