//! A run that never happened, the same one every time, for tests of files and of texts.

use std::collections::BTreeMap;

use ringsock::measure::environment::{Build, Cpu, Environment, Kernel, OpenFiles};
use ringsock::measure::histogram::{Histogram, new_histogram, record};
use ringsock::measure::result::{
    Accounting, Arrivals, CpuUse, Interval, IoUring, Latencies, Mode, Outcome, Plan, RunResult, SCHEMA,
    Summary, Target, Tool,
};

/// `count` durations of which the share slower than x falls off as 1/x, the fastest at `scale_ns`.
fn long_tailed(count: u64, scale_ns: u64) -> Histogram {
    let mut histogram = new_histogram();
    (1..=count).for_each(|rank| record(&mut histogram, scale_ns * count / (count - rank + 1)));
    histogram
}

/// An open-loop run of 200,000 messages on a machine that doesn't exist.
pub(crate) fn sample() -> RunResult {
    let plan = Plan {
        scenario: "echo".to_owned(),
        url: None,
        connections: 64,
        threads: 1,
        payload_bytes: 64,
        text: false,
        duration_s: 10.0,
        warmup_s: 2.0,
        drain_timeout_s: 5.0,
        connect_rate_per_s: None,
        mode: Mode::OpenLoop { rate_per_s: 20_000.0, arrivals: Arrivals::Poisson },
        seed: 7,
    };
    let accounting = Accounting {
        offered: 200_000,
        sent: 199_990,
        unsent: 10,
        answered: 199_980,
        outstanding: 10,
        answered_late: 3,
        warmup_messages: 40_021,
        connections_opened: 64,
        connections_failed: 1,
        errors: BTreeMap::from([("connect: refused".to_owned(), 1), ("wrong payload".to_owned(), 1_200)]),
    };
    let latency = Latencies {
        response: long_tailed(199_980, 12_000),
        service: long_tailed(199_980, 11_000),
        lag: long_tailed(199_990, 150),
        connect: long_tailed(64, 40_000),
        handshake: long_tailed(64, 55_000),
    };
    let interval = Interval {
        start_s: 0.0,
        length_s: 1.0,
        sent: 20_011,
        answered: 20_010,
        p50_ns: Some(24_000),
        p99_ns: Some(1_200_000),
        max_ns: Some(90_000_000),
    };
    let summary = Summary::new(&plan, &accounting, &latency, 10.0);
    RunResult {
        schema: SCHEMA.to_owned(),
        created: "2026-11-22T08:04:33Z".to_owned(),
        tool: Tool { name: "ringsock-load".to_owned(), version: "0.1.0".to_owned(), revision: None },
        command_line: ["ringsock-load", "--rate", "20000"].map(str::to_owned).to_vec(),
        verdict: None,
        config: None,
        series: None,
        calibration: None,
        plan,
        environment: environment(),
        io_uring: Some(io_uring()),
        target: Target {
            url: "ws://127.0.0.1:40123/echo".to_owned(),
            server: Some("embedded ringsock 0.1.0".to_owned()),
            engine: "uring".to_owned(),
            engine_features: ["multishot recv", "direct descriptors"].map(str::to_owned).to_vec(),
            engine_reason: None,
            server_engine: Some("uring".to_owned()),
            server_engine_features: Some(
                ["multishot recv", "direct descriptors"].map(str::to_owned).to_vec(),
            ),
            server_cpus: Some("0".to_owned()),
            load_cpus: Some("1".to_owned()),
        },
        outcome: Outcome::completed(),
        accounting,
        latency,
        intervals: vec![interval.clone(), Interval { start_s: 1.0, ..interval }],
        batches: Vec::new(),
        cpu: CpuUse { load_cpu_s: 1.02, server_cpu_s: Some(0.96) },
        evidence: None,
        anatomy: None,
        exemplars: Vec::new(),
        summary,
    }
}

fn io_uring() -> IoUring {
    let features = [("direct-descriptors", true), ("multishot-recv", true), ("napi", false)];
    IoUring { refusal: None, features: features.map(|(name, there)| (name.to_owned(), there)).into() }
}

fn environment() -> Environment {
    let text = |value: &str| Some(value.to_owned());
    Environment {
        hostname: text("bench-1"),
        kernel: Kernel {
            release: text("6.12.1"),
            version: text("#1 SMP PREEMPT_DYNAMIC"),
            command_line: text("quiet mitigations=auto"),
        },
        cpu: Cpu {
            model: text("Model 7 Processor"),
            count: Some(2),
            online: text("0-1"),
            hypervisor: Some(true),
            vulnerabilities: BTreeMap::from([("meltdown".to_owned(), "Not affected".to_owned())]),
            ..Cpu::default()
        },
        memory_total_bytes: Some(8 << 30),
        open_files: Some(OpenFiles { soft_count: Some(1024), hard_count: None }),
        sysctls: BTreeMap::from([
            ("kernel.io_uring_disabled".to_owned(), text("0")),
            ("net.core.busy_poll".to_owned(), None),
        ]),
        build: Build { rustc: text("rustc 1.95.0"), profile: text("release"), ..Build::default() },
        ..Environment::default()
    }
}
