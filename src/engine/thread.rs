//! What the kernel says of the calling thread.

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
}
