//! The machine a run ran on: everything that is known to move a loopback benchmark, read from /proc and /sys.
//!
//! Invariant: capturing changes nothing and never fails. What a kernel doesn't have is recorded as absent
//! (`null`), since the absence is itself a difference between two kernels.
//! Deliberately absent: whatever stands after `--` on the kernel command line. It is handed to init, tells
//! the kernel nothing, and may hold what its owner would not publish.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Settings under /proc/sys that a TCP, loopback or io_uring benchmark feels. `kernel/sched_*` is added as found.
const SYSCTLS: [&str; 49] = [
    "fs/file-max",
    "fs/nr_open",
    "kernel/io_uring_disabled",
    "kernel/io_uring_group",
    "kernel/nmi_watchdog",
    "kernel/numa_balancing",
    "kernel/perf_event_paranoid",
    "kernel/pid_max",
    "kernel/randomize_va_space",
    "kernel/split_lock_mitigate",
    "kernel/threads-max",
    "kernel/timer_migration",
    "kernel/watchdog",
    "net/core/busy_poll",
    "net/core/busy_read",
    "net/core/default_qdisc",
    "net/core/netdev_budget",
    "net/core/netdev_budget_usecs",
    "net/core/netdev_max_backlog",
    "net/core/optmem_max",
    "net/core/rmem_default",
    "net/core/rmem_max",
    "net/core/rps_sock_flow_entries",
    "net/core/skb_defer_max",
    "net/core/somaxconn",
    "net/core/wmem_default",
    "net/core/wmem_max",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_abort_on_overflow",
    "net/ipv4/tcp_autocorking",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_early_demux",
    "net/ipv4/tcp_ecn",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_limit_output_bytes",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_mem",
    "net/ipv4/tcp_moderate_rcvbuf",
    "net/ipv4/tcp_no_metrics_save",
    "net/ipv4/tcp_notsent_lowat",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_slow_start_after_idle",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_timestamps",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_wmem",
    "vm/max_map_count",
    "vm/swappiness",
];

/// Where a run ran. `None` means that this machine does not have, or does not show, the thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// The machine's own name.
    pub hostname: Option<String>,
    /// What the machine's clock counts.
    pub clock: Clock,
    /// The kernel's name for this boot of it, in files since it was recorded.
    pub boot_id: Option<String>,
    /// The running kernel.
    pub kernel: Kernel,
    /// The processors and how they are driven.
    pub cpu: Cpu,
    /// The kernel's current clock source, such as `tsc`.
    pub clocksource: Option<String>,
    /// All memory the kernel manages.
    pub memory_total_bytes: Option<u64>,
    /// Transparent huge pages: the mode in force, such as `madvise`.
    pub transparent_hugepages: Option<String>,
    /// RLIMIT_NOFILE of this process when it looked.
    pub open_files: Option<OpenFiles>,
    /// Kernel settings by their sysctl name (`net.core.somaxconn`); `None` where this kernel has no such setting.
    pub sysctls: BTreeMap<String, Option<String>>,
    /// How this program was compiled.
    pub build: Build,
}

/// What a machine's clock counts, and so what every duration and rate measured on it is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Time.
    #[default]
    Real,
    /// Instructions of its one processor, a nanosecond each (QEMU's `-icount shift=0`): how long the path is that was gone, not how
    /// long it took. Not to be compared with time.
    Instructions,
}

/// The running kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: Option<String>,
    /// As `uname -v` says it: build number, preemption model, date.
    pub version: Option<String>,
    /// What the kernel was booted with, up to `--`.
    pub command_line: Option<String>,
}

/// The processors. Lists of CPUs are in the kernel's form: `0-3,8`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// The model's name (on Arm, implementer and part number).
    pub model: Option<String>,
    /// How many CPUs are online.
    pub count: Option<u64>,
    /// Which CPUs are online.
    pub online: Option<String>,
    /// Which CPUs this process may run on.
    pub allowed: Option<String>,
    /// Which CPUs are kept from the scheduler (`isolcpus`).
    pub isolated: Option<String>,
    /// Microcode revision of the first CPU.
    pub microcode: Option<String>,
    /// Whether sibling threads share cores.
    pub smt_active: Option<bool>,
    /// The CPUs of each core that has several, each core a list; `None` where the kernel does not say, or in files older than
    /// this field.
    pub siblings: Option<Vec<String>>,
    /// Whether the CPU says that it is a virtual one (x86 only).
    pub hypervisor: Option<bool>,
    /// Frequency governor; several, sorted, if the CPUs differ.
    pub governor: Option<String>,
    /// Frequency driver; several, sorted, if the CPUs differ.
    pub frequency_driver: Option<String>,
    /// Whether the CPUs may run above their base frequency.
    pub turbo: Option<bool>,
    /// The driver that puts idle CPUs to sleep.
    pub idle_driver: Option<String>,
    /// The governor that decides how deeply.
    pub idle_governor: Option<String>,
    /// Each vulnerability the kernel knows, and how it is mitigated here.
    pub vulnerabilities: BTreeMap<String, String>,
}

/// RLIMIT_NOFILE; `None` is "unlimited".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenFiles {
    /// The limit in force, in descriptors.
    pub soft_count: Option<u64>,
    /// What it may be raised to, in descriptors.
    pub hard_count: Option<u64>,
}

/// How this program was compiled. Its version and revision stand in [`Tool`](super::result::Tool).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// As `rustc --version` says it.
    pub rustc: Option<String>,
    /// The target triple.
    pub target: Option<String>,
    /// Instruction sets the compiler was allowed to use everywhere, comma-separated.
    pub target_features: Option<String>,
    /// Cargo's profile family: `release` or `debug`.
    pub profile: Option<String>,
}

impl Environment {
    /// Looks at the machine that this process runs on.
    pub fn capture() -> Environment {
        Environment::capture_from(Path::new("/"))
    }

    /// Looks at the `proc` and `sys` directories below `root`, so that any machine can be played in a test.
    pub fn capture_from(root: &Path) -> Environment {
        let root = Root(root);
        Environment {
            hostname: root.read("proc/sys/kernel/hostname"),
            // No file tells; whoever runs it has to say so.
            clock: Clock::Real,
            boot_id: root.read("proc/sys/kernel/random/boot_id"),
            kernel: root.kernel(),
            cpu: root.cpu(),
            clocksource: root.read("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            memory_total_bytes: root.memory_total_bytes(),
            transparent_hugepages: root.chosen("sys/kernel/mm/transparent_hugepage/enabled"),
            open_files: root.open_files(),
            sysctls: root.sysctls(),
            build: Build::of_this_program(),
        }
    }
}

impl Build {
    fn of_this_program() -> Build {
        let known = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
        Build {
            rustc: known(option_env!("RINGSOCK_RUSTC")),
            target: known(option_env!("RINGSOCK_TARGET")),
            target_features: known(option_env!("RINGSOCK_TARGET_FEATURES")),
            profile: known(option_env!("RINGSOCK_PROFILE")),
        }
    }
}

/// The directory that `proc` and `sys` are in. Whatever can't be read is `None`.
struct Root<'a>(&'a Path);

impl Root<'_> {
    /// The trimmed text of a file. Bytes that aren't UTF-8 are replaced: a strange one must not hide the rest.
    fn read(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.0.join(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Like [`read`](Self::read), with an empty file as good as none.
    fn read_filled(&self, path: &str) -> Option<String> {
        self.read(path).filter(|text| !text.is_empty())
    }

    fn read_flag(&self, path: &str) -> Option<bool> {
        self.read(path).map(|text| text == "1")
    }

    /// The bracketed one of the choices in a file such as `always [madvise] never`.
    fn chosen(&self, path: &str) -> Option<String> {
        let text = self.read(path)?;
        let (_, from_bracket) = text.split_once('[')?;
        Some(from_bracket.split_once(']')?.0.to_owned())
    }

    /// The sorted names in a directory.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The value behind `key` in a file of `key : value` lines; the first, where there are several.
    fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.read(path)?;
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    }

    fn kernel(&self) -> Kernel {
        let command_line = self.read("proc/cmdline");
        let for_the_kernel = |text: String| {
            let words: Vec<_> = text.split_whitespace().take_while(|&word| word != "--").collect();
            words.join(" ")
        };
        Kernel {
            release: self.read("proc/sys/kernel/osrelease"),
            version: self.read("proc/sys/kernel/version"),
            command_line: command_line.map(for_the_kernel),
        }
    }

    fn cpu(&self) -> Cpu {
        let cpuinfo = |key| self.field("proc/cpuinfo", key);
        let online = self.read_filled("sys/devices/system/cpu/online");
        Cpu {
            model: cpuinfo("model name").or_else(|| {
                Some(format!("implementer {} part {}", cpuinfo("CPU implementer")?, cpuinfo("CPU part")?))
            }),
            count: online.as_deref().and_then(cpu_count),
            online,
            allowed: self.field("proc/self/status", "Cpus_allowed_list"),
            isolated: self.read_filled("sys/devices/system/cpu/isolated"),
            microcode: cpuinfo("microcode"),
            smt_active: self.read_flag("sys/devices/system/cpu/smt/active"),
            siblings: self.siblings(),
            hypervisor: cpuinfo("flags").map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            governor: self.of_all_cpus("cpufreq/scaling_governor"),
            frequency_driver: self.of_all_cpus("cpufreq/scaling_driver"),
            turbo: self.turbo(),
            idle_driver: self.read_filled("sys/devices/system/cpu/cpuidle/current_driver"),
            idle_governor: self.read_filled("sys/devices/system/cpu/cpuidle/current_governor"),
            vulnerabilities: self.vulnerabilities(),
        }
    }

    /// See [`Cpu::siblings`].
    fn siblings(&self) -> Option<Vec<String>> {
        let cores = self.values_of_cpus("topology/thread_siblings_list");
        let has_several = |core: &String| cpu_count(core).is_some_and(|count| count > 1);
        (!cores.is_empty()).then(|| cores.into_iter().filter(has_several).collect())
    }

    /// As below, several apart by commas.
    fn of_all_cpus(&self, file: &str) -> Option<String> {
        let values = self.values_of_cpus(file);
        (!values.is_empty()).then(|| values.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// The distinct values of one file below every `cpuN`.
    fn values_of_cpus(&self, file: &str) -> BTreeSet<String> {
        let directory = "sys/devices/system/cpu";
        let cpus = self.names(directory).into_iter().filter(|name| {
            name.strip_prefix("cpu").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        });
        cpus.filter_map(|cpu| self.read_filled(&format!("{directory}/{cpu}/{file}"))).collect()
    }

    /// Two drivers, two files, opposite senses.
    fn turbo(&self) -> Option<bool> {
        let off = self.read_flag("sys/devices/system/cpu/intel_pstate/no_turbo");
        off.map(|off| !off).or_else(|| self.read_flag("sys/devices/system/cpu/cpufreq/boost"))
    }

    fn vulnerabilities(&self) -> BTreeMap<String, String> {
        let directory = "sys/devices/system/cpu/vulnerabilities";
        let state = |name: String| Some((name.clone(), self.read(&format!("{directory}/{name}"))?));
        self.names(directory).into_iter().filter_map(state).collect()
    }

    fn memory_total_bytes(&self) -> Option<u64> {
        let text = self.field("proc/meminfo", "MemTotal")?;
        text.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    }

    /// From /proc rather than getrlimit, so that it too can be played in a test.
    fn open_files(&self) -> Option<OpenFiles> {
        let text = self.read("proc/self/limits")?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let mut limits = line.split_whitespace().map(|limit| limit.parse().ok());
        Some(OpenFiles { soft_count: limits.next()?, hard_count: limits.next()? })
    }

    fn sysctls(&self) -> BTreeMap<String, Option<String>> {
        let scheduler = self.names("proc/sys/kernel").into_iter().filter(|name| name.starts_with("sched_"));
        let paths =
            SYSCTLS.into_iter().map(str::to_owned).chain(scheduler.map(|name| format!("kernel/{name}")));
        // Settings of several numbers are separated by tabs.
        let value = |path: &str| Some(self.read(&format!("proc/sys/{path}"))?.replace('\t', " "));
        paths.map(|path| (path.replace('/', "."), value(&path))).collect()
    }
}

/// How many CPUs a list such as `0-3,8` names; `None` if it is no such list.
fn cpu_count(list: &str) -> Option<u64> {
    let range_count = |range: &str| -> Option<u64> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.split(',').map(range_count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn everything_a_machine_shows_is_recorded() {
        let root = machine(&[
            ("proc/sys/kernel/hostname", "bench-1\n"),
            ("proc/sys/kernel/osrelease", "6.12.1\n"),
            ("proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC\n"),
            ("proc/cmdline", "quiet mitigations=off -- --token secret\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Fast One\nmicrocode\t: 0x2b\nflags\t\t: fpu hypervisor\n",
            ),
            ("proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n"),
            ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n"),
            (
                "proc/self/limits",
                "Limit  Soft  Hard  Units\nMax open files            1024       unlimited  files\n",
            ),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            ("proc/sys/kernel/sched_new_knob", "7\n"),
            ("sys/devices/system/cpu/online", "0-2,8\n"),
            ("sys/devices/system/cpu/isolated", "\n"),
            ("sys/devices/system/cpu/smt/active", "0\n"),
            ("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,2\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1\n"),
            ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0,2\n"),
            ("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ]);
        let found = Environment::capture_from(root.path());
        let text = |value: &str| Some(value.to_owned());

        assert_eq!(found.hostname, text("bench-1"));
        assert_eq!(found.kernel.release, text("6.12.1"));
        assert_eq!(
            found.kernel.command_line,
            text("quiet mitigations=off"),
            "init's own arguments stay private"
        );
        assert_eq!(found.cpu.model, text("Fast One"));
        assert_eq!(found.cpu.count, Some(4));
        assert_eq!(found.cpu.allowed, text("0-1"));
        assert_eq!(found.cpu.isolated, None);
        assert_eq!((found.cpu.smt_active, found.cpu.hypervisor), (Some(false), Some(true)));
        assert_eq!(found.cpu.siblings, Some(vec!["0,2".to_owned()]));
        assert_eq!(found.cpu.turbo, Some(false));
        assert_eq!(found.cpu.governor, text("performance, powersave"));
        assert_eq!(found.cpu.vulnerabilities["meltdown"], "Not affected");
        assert_eq!(found.memory_total_bytes, Some(2048 * 1024));
        assert_eq!(found.transparent_hugepages, text("madvise"));
        assert_eq!(found.open_files, Some(OpenFiles { soft_count: Some(1024), hard_count: None }));
        assert_eq!(found.sysctls["net.ipv4.tcp_rmem"], text("4096 131072 6291456"));
        assert_eq!(found.sysctls["kernel.sched_new_knob"], text("7"));
        assert_eq!(found.sysctls["kernel.io_uring_disabled"], None);
        assert!(found.build.rustc.unwrap().starts_with("rustc "));
    }

    #[test]
    fn a_machine_that_shows_nothing_is_recorded_as_such() {
        let root = machine(&[]);
        let found = Environment::capture_from(root.path());
        assert!(found.sysctls.values().all(Option::is_none) && found.sysctls.len() == SYSCTLS.len());
        let unknown =
            Environment { sysctls: found.sysctls.clone(), build: found.build.clone(), ..Default::default() };
        assert_eq!(found, unknown);
    }

    #[test]
    fn the_machine_at_hand_can_be_captured() {
        let found = Environment::capture();
        assert!(found.kernel.release.is_some() && found.cpu.count >= Some(1) && found.open_files.is_some());
    }

    #[test]
    fn a_strange_cpu_list_has_no_count() {
        assert_eq!(cpu_count("0"), Some(1));
        assert_eq!(cpu_count("0-3,8,10-11"), Some(7));
        for strange in ["", "a", "3-1", "0,,1", "0-18446744073709551615"] {
            assert_eq!(cpu_count(strange), None, "{strange}");
        }
    }
}
