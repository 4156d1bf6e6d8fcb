//! `/proc/stat`: what each CPU has done since the machine started.

use rustix::param::clock_ticks_per_second;

use crate::measure::evidence::CpuTime;

/// A reading of all CPUs that are online; empty where the file cannot be read.
pub(super) fn read() -> Vec<CpuTime> {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    parse(&text, clock_ticks_per_second())
}

/// The lines `cpu0 user nice system idle iowait irq softirq steal …` (proc(5)), in clock ticks.
fn parse(stat: &str, ticks_per_s: u64) -> Vec<CpuTime> {
    let line = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split(' ');
        let cpu = fields.next()?.parse().ok()?;
        let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
        let seconds = |ticks: u64| ticks as f64 / ticks_per_s as f64;
        Some(CpuTime {
            cpu,
            busy_s: seconds(user + nice + system),
            interrupts_s: seconds(irq + softirq),
            steal_s: seconds(steal),
            idle_s: seconds(idle + iowait),
        })
    };
    stat.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_single_cpus_count() {
        let stat = "cpu  10 20 30 40 50 60 70 80 90 0\ncpu0 1 2 3 4 5 6 7 8 9 0\ncpu12 100 0 0 0 0 0 0 1 0 0\n\
                    cpu13 1 2\nintr 9 9\ncpufreq 1\n";
        let times = parse(stat, 100);
        assert_eq!(times.iter().map(|time| time.cpu).collect::<Vec<_>>(), [0, 12]);
        let expected = CpuTime { cpu: 0, busy_s: 0.06, interrupts_s: 0.13, steal_s: 0.08, idle_s: 0.09 };
        assert_eq!(times[0], expected);
    }

    #[test]
    fn this_machine_can_be_read() {
        let times = read();
        assert!(!times.is_empty());
        assert!(times.iter().all(|time| time.busy_s + time.idle_s > 0.0), "{times:?}");
    }
}
