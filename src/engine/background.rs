//! A thread that runs only where no other wants to.
//!
//! Invariant: changes the calling thread and no other. It stands among the engines because the call is not in rustix,
//! and `unsafe` has no other home.

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
