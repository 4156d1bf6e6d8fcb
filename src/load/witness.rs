//! What happened to the generator's threads and the machine's CPUs, read from /proc before and after.
//!
//! Invariant: reading changes nothing and never fails; what cannot be read counts as nothing having happened, or is absent
//! where absence can be told.

use std::collections::BTreeSet;
use std::fs;

use crate::measure::evidence::{CpuTime, ThreadUse, Throttled};
use crate::measure::histogram::new_histogram;

/// How things stood at one moment.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// `None` where /proc does not tell.
    threads: Vec<Option<Thread>>,
    cpus: Vec<CpuTime>,
    throttled: Option<Throttled>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Thread {
    ran_ns: u64,
    waited_ns: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
    major_faults: u64,
}

impl Look {
    /// At these threads of this process, and at the whole machine.
    pub(super) fn take(thread_ids: &[i32]) -> Self {
        let text = |path: String| fs::read_to_string(path).unwrap_or_default();
        let threads = thread_ids.iter().map(|id| {
            let of = |file: &str| text(format!("/proc/self/task/{id}/{file}"));
            thread(&of("schedstat"), &of("status"), &of("stat"))
        });
        Self {
            threads: threads.collect(),
            cpus: cpu_times(),
            throttled: throttled(&text("/proc/self/cgroup".to_owned()), |path| fs::read_to_string(path).ok()),
        }
    }

    /// What each thread, pinned to the CPU of the same place in `cpus`, did from `before` to here; `None` where it cannot be
    /// told.
    pub(super) fn threads_since(&self, before: &Look, cpus: &[usize]) -> Vec<Option<ThreadUse>> {
        let pairs = self.threads.iter().zip(&before.threads).zip(cpus);
        let seconds = |after: u64, before: u64| after.saturating_sub(before) as f64 / 1e9;
        let used = |((after, before), &cpu): ((&Thread, &Thread), &usize)| ThreadUse {
            cpu: cpu as u64,
            cpu_s: seconds(after.ran_ns, before.ran_ns),
            waited_s: seconds(after.waited_ns, before.waited_ns),
            involuntary_switches: after.involuntary_switches.saturating_sub(before.involuntary_switches),
            voluntary_switches: after.voluntary_switches.saturating_sub(before.voluntary_switches),
            major_faults: after.major_faults.saturating_sub(before.major_faults),
            idle_s: None,
            headline: new_histogram(),
        };
        let known = |((after, before), cpu): ((&Option<Thread>, &Option<Thread>), _)| {
            Some(used(((after.as_ref()?, before.as_ref()?), cpu)))
        };
        pairs.map(known).collect()
    }

    /// How each CPU spent the time since `before`.
    pub(super) fn cpus_since(&self, before: &Look) -> Vec<CpuTime> {
        let difference = |after: &CpuTime| {
            let before = before.cpus.iter().find(|before| before.cpu == after.cpu)?;
            let since = |after: f64, before: f64| (after - before).max(0.0);
            Some(CpuTime {
                cpu: after.cpu,
                busy_s: since(after.busy_s, before.busy_s),
                interrupts_s: since(after.interrupts_s, before.interrupts_s),
                steal_s: since(after.steal_s, before.steal_s),
                idle_s: since(after.idle_s, before.idle_s),
            })
        };
        self.cpus.iter().filter_map(difference).collect()
    }

    /// What quotas took since `before`.
    pub(super) fn throttled_since(&self, before: &Look) -> Option<Throttled> {
        let (after, before) = (self.throttled?, before.throttled?);
        Some(Throttled {
            periods: after.periods.saturating_sub(before.periods),
            time_s: (after.time_s - before.time_s).max(0.0),
        })
    }
}

/// The CPUs that threads of process `process_id` are bound to, as `0,2`; `None` where no thread is bound to a single one, or
/// the process is gone. Threads that are bound to none are taken for those that started the others.
pub(super) fn bound_cpus(process_id: u32) -> Option<String> {
    let threads = fs::read_dir(format!("/proc/{process_id}/task")).ok()?;
    let status =
        |thread: std::io::Result<fs::DirEntry>| fs::read_to_string(thread.ok()?.path().join("status")).ok();
    bound(threads.filter_map(status))
}

fn bound(statuses: impl Iterator<Item = String>) -> Option<String> {
    let cpu = |status: String| -> Option<usize> {
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().parse().ok()
    };
    let cpus: BTreeSet<usize> = statuses.filter_map(cpu).collect();
    (!cpus.is_empty()).then(|| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
}

/// From `/proc/PID/task/TID/` `schedstat` (ns run, ns waited, slices), `status` and `stat`.
/// `None` where there is nothing to read, or the kernel keeps no such times: it then says that the thread never ran.
fn thread(schedstat: &str, status: &str, stat: &str) -> Option<Thread> {
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mut times = schedstat.split_ascii_whitespace();
    let field = |name: &str| number(status.lines().find_map(|line| line.strip_prefix(name)));
    // The name, in parentheses, may hold anything; majflt is the tenth field after it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let (ran_ns, waited_ns, times_run) = (number(times.next()), number(times.next()), number(times.next()));
    let thread = Thread {
        ran_ns,
        waited_ns,
        voluntary_switches: field("voluntary_ctxt_switches:"),
        involuntary_switches: field("nonvoluntary_ctxt_switches:"),
        major_faults: number(after_name.split_ascii_whitespace().nth(9)),
    };
    (times_run > 0 && !status.is_empty() && !stat.is_empty()).then_some(thread)
}

/// How every CPU has spent the time since the machine started; empty where that cannot be read.
pub(super) fn cpu_times() -> Vec<CpuTime> {
    let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
    cpus(&fs::read_to_string("/proc/stat").unwrap_or_default(), ticks_per_s)
}

/// The lines `cpuN user nice system idle iowait irq softirq steal …` of `/proc/stat`.
fn cpus(stat: &str, ticks_per_s: f64) -> Vec<CpuTime> {
    let line = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let cpu = fields.next()?.parse().ok()?;
        let ticks: Vec<f64> = fields.map(|field| field.parse().unwrap_or(0.0) / ticks_per_s).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0.0);
        Some(CpuTime {
            cpu,
            busy_s: at(0) + at(1) + at(2),
            interrupts_s: at(5) + at(6),
            steal_s: at(7),
            idle_s: at(3) + at(4),
        })
    };
    // The first line, `cpu` alone, sums the others up.
    stat.lines().filter(|line| !line.starts_with("cpu ")).filter_map(line).collect()
}

/// What the quotas of this process' control group and of those above it took; `read` reads a file. `None` where there is no
/// `cpu.stat` that speaks of throttling (control groups v2: Linux 4.15; v1: `cpu.stat` in nanoseconds).
fn throttled(cgroup: &str, read: impl Fn(&str) -> Option<String>) -> Option<Throttled> {
    let mut whole: Option<Throttled> = None;
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => "/sys/fs/cgroup".to_owned(),
            _ if controllers.split(',').any(|name| name == "cpu") => format!("/sys/fs/cgroup/{controllers}"),
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            if let Some(of_level) = read(&format!("{root}{path}/cpu.stat")).as_deref().and_then(throttled_of)
            {
                let whole = whole.get_or_insert_default();
                whole.periods += of_level.periods;
                whole.time_s += of_level.time_s;
            }
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    whole
}

fn throttled_of(cpu_stat: &str) -> Option<Throttled> {
    let field = |name: &str| -> Option<u64> {
        cpu_stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let time_s = match (field("throttled_usec "), field("throttled_time ")) {
        (Some(time_us), _) => time_us as f64 / 1e6,
        (None, Some(time_ns)) => time_ns as f64 / 1e9,
        (None, None) => 0.0,
    };
    Some(Throttled { periods: field("nr_throttled ")?, time_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_to_work() {
        let ids = [crate::cpu::current_thread_id()];
        let before = Look::take(&ids);
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_millis(50) {
            std::hint::black_box(0);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        let after = Look::take(&ids);
        let used = after.threads_since(&before, &[7]).remove(0).unwrap();
        // At most what passed; how much less is the machine's affair.
        assert!(used.cpu_s > 0.0 && used.voluntary_switches > 0 && used.cpu == 7, "{used:?}");
        let cpus = after.cpus_since(&before);
        assert_eq!(cpus.len(), fs::read_to_string("/proc/stat").unwrap().matches("\ncpu").count());
    }

    #[test]
    fn names_of_threads_cannot_shift_the_fields() {
        let stat = "17 (a) b) 1 2 (c) S 1 17 17 0 -1 4194560 90 0 33 0 5 6 0 0 20";
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        let expected = Thread {
            ran_ns: 100,
            waited_ns: 20,
            voluntary_switches: 12,
            involuntary_switches: 3,
            major_faults: 33,
        };
        assert_eq!(thread("100 20 5\n", status, stat), Some(expected));
        for [schedstat, status, stat] in [
            ["", "", ""],
            ["0 0 0\n", status, stat],
            ["", status, stat],
            ["100 20 5", "", stat],
            ["100 20 5", status, ""],
        ] {
            assert_eq!(thread(schedstat, status, stat), None, "absent, not nought");
        }
    }

    #[test]
    fn the_cpus_of_a_server_are_those_its_threads_are_bound_to() {
        let of = |lists: &[&str]| {
            bound(lists.iter().map(|list| format!("Name:\tx\nCpus_allowed_list:\t{list}\nx:\t1\n")))
        };
        assert_eq!(of(&["0-3", "2", "0", "2"]).as_deref(), Some("0,2"));
        assert_eq!(of(&["0-3", "0-3"]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(bound_cpus(u32::MAX), None);
    }

    #[test]
    fn cpus_are_read_one_by_one_and_without_what_old_kernels_lack() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 10 50 700 20 3 4 200 0 0\ncpu3 1 0 0 5\nintr 17 0\n";
        let all = cpus(stat, 100.0);
        let first = CpuTime { cpu: 0, busy_s: 1.6, interrupts_s: 0.07, steal_s: 2.0, idle_s: 7.2 };
        assert_eq!(all.len(), 2);
        assert!((all[0].busy_s - first.busy_s).abs() < 1e-9 && (all[0].steal_s - 2.0).abs() < 1e-9);
        assert!((all[0].idle_s - first.idle_s).abs() < 1e-9 && (all[0].interrupts_s - 0.07).abs() < 1e-9);
        assert_eq!((all[1].cpu, all[1].steal_s), (3, 0.0));
    }

    #[test]
    fn quotas_of_every_level_count_in_both_versions_of_control_groups() {
        let read = |path: &str| {
            let text = match path {
                "/sys/fs/cgroup/a/b/cpu.stat" => {
                    "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 30\n"
                }
                "/sys/fs/cgroup/a/cpu.stat" => "nr_throttled 1\nthrottled_usec 10\n",
                "/sys/fs/cgroup/cpu.stat" => "usage_usec 77\n",
                "/sys/fs/cgroup/cpu,cpuacct/x/cpu.stat" => "nr_throttled 4\nthrottled_time 5000\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let v2 = throttled("0::/a/b\n", read).unwrap();
        assert_eq!(v2.periods, 3);
        assert!((v2.time_s - 40e-6).abs() < 1e-12);
        let v1 = throttled("4:memory:/x\n3:cpu,cpuacct:/x\n", read).unwrap();
        assert_eq!(v1.periods, 4);
        assert!((v1.time_s - 5e-6).abs() < 1e-12);
        assert_eq!(throttled("0::/\n", read), None);
        assert_eq!(throttled("", read), None);
    }
}
