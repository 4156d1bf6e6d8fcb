//! What the kernel says of the calling thread, and how it is to treat it.
//!
//! Invariant: no other thread is looked at or changed.

/// How often a thread left its CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// To wait for something.
    pub voluntary: u64,
    /// Because another was to run.
    pub involuntary: u64,
}

impl Switches {
    /// Of the calling thread, since it began: `getrusage(RUSAGE_THREAD)`, Linux 2.6.26; some 200 ns.
    pub fn of_this_thread() -> Self {
        // SAFETY: an all-zero rusage is a valid one.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a rusage that lives through the call, which writes nothing else.
        let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
        assert_eq!(result, 0, "getrusage fails only for what it does not know");
        Self { voluntary: usage.ru_nvcsw as u64, involuntary: usage.ru_nivcsw as u64 }
    }
}

/// Processor time of the calling thread, since it began, in nanoseconds (Linux 2.6.12); some 200 ns.
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Has the kernel run the calling thread only on time that nobody else asks for (`SCHED_IDLE`, Linux 2.6.23), and
/// niced by 19 where that is refused.
///
/// Niceness alone is not enough: since Linux 6.6 a niced thread that has begun its slice (3 ms) may finish it while a
/// thread of normal priority, just woken, waits; one of `SCHED_IDLE` is preempted at once.
pub fn yield_to_all_others() {
    // Whether it is refused decides nothing here: the thread is then merely less polite.
    let _ = rustix::process::setpriority_process(None, 19);
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads `param`, which lives on this stack, during the call, and keeps no pointer to it; 0
    // names the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_leaves_its_cpu_voluntarily() {
        let before = Switches::of_this_thread();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let after = Switches::of_this_thread();
        assert!(after.voluntary > before.voluntary && after.involuntary >= before.involuntary);
    }

    #[test]
    fn only_the_calling_thread_steps_back() {
        // Fields 19 and 41 of stat(5): niceness and scheduling policy; the name before them may hold spaces.
        let nice_and_policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
            (fields[16].to_owned(), fields[38].to_owned())
        };
        let before = nice_and_policy();
        let inside = std::thread::spawn(move || {
            yield_to_all_others();
            nice_and_policy()
        });
        assert_eq!(inside.join().unwrap(), ("19".to_owned(), libc::SCHED_IDLE.to_string()));
        assert_eq!(nice_and_policy(), before);
    }
}
