//! A run that never happened, the same one every time, for tests of files and of texts.

use std::collections::BTreeMap;

use ringsock::measure::environment::{Build, Clock, Cpu, Environment, Kernel, OpenFiles};
use ringsock::measure::evidence::{self, CpuTime, Evidence, ThreadUse, Throttled};
use ringsock::measure::histogram::{Histogram, new_histogram, record};
use ringsock::measure::particulars::Particulars;
use ringsock::measure::result::{
    Accounting, Arrivals, Carried, CpuUse, Deflate, Interval, IoUring, KernelTls, Latencies, Mode,
    Negotiated, Outcome, Plan, RunResult, SCHEMA, Summary, Target, Tls, Tool, Wire,
};
use ringsock::measure::series::{Batch, Compact};
use ringsock::measure::verdict::judge;

/// `count` durations of which the share slower than x falls off as 1/x, the fastest at `scale_ns`.
fn long_tailed(count: u64, scale_ns: u64) -> Histogram {
    let mut histogram = new_histogram();
    (1..=count).for_each(|rank| record(&mut histogram, scale_ns * count / (count - rank + 1)));
    histogram
}

/// The batches that durations would have come in, all but `late` of them: eight of about the same length at a time in
/// one of 40 batches, so that they count for an eighth of their number.
fn batches(durations: &Histogram, late: u64) -> Vec<Batch> {
    const COUNT: usize = 40;
    let mut batches = vec![new_histogram(); COUNT];
    let values = durations
        .iter_recorded()
        .flat_map(|slot| (0..slot.count_at_value()).map(move |_| slot.value_iterated_to()));
    for (rank, value_ns) in values.enumerate().skip(late as usize) {
        // Splitmix: scattered, and the same on every machine.
        let mixed = (rank as u64 / 8).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let scattered = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 33;
        record(&mut batches[scattered as usize % COUNT], value_ns);
    }
    let batch = |(index, histogram): (usize, &Histogram)| Batch {
        start_s: 0.25 * index as f64,
        length_s: 0.25,
        sent: histogram.len(),
        answered: histogram.len(),
        headline: Compact::of(histogram),
    };
    batches.iter().enumerate().map(batch).collect()
}

/// What a punctual generator thread on CPU 1 and a server on CPU 0 leave behind in ten seconds.
fn evidence(headline: &Histogram) -> Evidence {
    let thread = ThreadUse {
        cpu: 1,
        cpu_s: 1.02,
        waited_s: 0.012,
        involuntary_switches: 14,
        voluntary_switches: 151_000,
        major_faults: 0,
        idle_s: None,
        headline: headline.clone(),
    };
    let cpu = |cpu, busy_s| CpuTime { cpu, busy_s, interrupts_s: 0.21, steal_s: 0.01, idle_s: 9.78 - busy_s };
    // The middles of 200 equal shares of the exponential distribution.
    let span_ns = |index: u32| -((f64::from(index) + 0.5) / 200.0).ln() * 50_000.0;
    Evidence {
        spin: false,
        held_back: 0,
        arrivals: Some(evidence::Arrivals {
            messages_per_span: 1,
            planned_span_ns: 50_000.0,
            spans_ns: (0..200).map(|index| span_ns(index) as u64).collect(),
        }),
        threads: vec![thread],
        cpus: vec![cpu(0, 0.97), cpu(1, 1.11)],
        throttled: Some(Throttled { periods: 0, time_s: 0.0 }),
    }
}

/// [`sample`] without its faults: every message answered, and a verdict of TRUSTED.
#[allow(dead_code)] // Not every test that has this file needs it.
pub(crate) fn sound() -> RunResult {
    let mut result = sample();
    let accounting = &mut result.accounting;
    (accounting.offered, accounting.sent) = (accounting.answered, accounting.answered);
    (accounting.unsent, accounting.outstanding, accounting.connections_failed) = (0, 0, 0);
    accounting.errors.clear();
    derive(&mut result, 10.0);
    result
}

/// [`sound`] in a guest whose clock counts instructions: one CPU, and whatever that does to a generator.
#[allow(dead_code)] // As above.
pub(crate) fn counted() -> RunResult {
    let mut result = sound();
    let environment = &mut result.environment;
    environment.clock = Clock::Instructions;
    environment.cpu.count = Some(1);
    environment.cpu.online = Some("0".to_owned());
    environment.cpu.siblings = None;
    environment.cpu.hypervisor = Some(true);
    (result.target.load_cpus, result.target.server_cpus) = (Some("0".to_owned()), Some("0".to_owned()));
    let evidence = result.evidence.as_mut().unwrap();
    evidence.cpus.truncate(1);
    evidence.cpus[0].busy_s = 4.9;
    let thread = &mut evidence.threads[0];
    (thread.cpu, thread.waited_s, thread.involuntary_switches) = (0, 1.8, 41_000);
    result.latency.lag = result.latency.service.clone();
    derive(&mut result, 10.0);
    result
}

/// What a run over TLS and permessage-deflate says of both: the kernel had most of the connections, and nearly all answers
/// were compressed.
#[allow(dead_code)] // As above.
pub(crate) fn secure_and_compress(result: &mut RunResult) {
    let negotiated = |resumed, connections| Negotiated {
        version: "TLS 1.3".to_owned(),
        cipher_suite: "TLS13_AES_128_GCM_SHA256".to_owned(),
        resumed,
        connections,
    };
    result.target.tls = Some(Tls {
        trusts: "own".to_owned(),
        kernel: Some(KernelTls { asked: true, connections: 64, handed_over: 61, refused: 0, missed: 2 }),
        negotiated: vec![negotiated(false, 60), negotiated(true, 4)],
    });
    let (sent, answered) = (result.accounting.sent, result.accounting.answered);
    let payload_bytes = result.plan.payload_bytes;
    let carried = |messages: u64, compressed| Carried {
        messages,
        compressed,
        payload_bytes: messages * payload_bytes,
        wire_bytes: messages * payload_bytes * 5 / 8,
    };
    result.target.deflate = Some(Deflate {
        server_no_context_takeover: false,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 12,
        generator_level: 1,
        generator_threshold_bytes: 64,
        wire: Some(Wire { sent: carried(sent, sent), answers: carried(answered, answered - 100) }),
    });
}

/// Makes summary and verdict anew.
pub(crate) fn derive(result: &mut RunResult, measured_s: f64) {
    let RunResult { plan, accounting, latency, batches, .. } = &*result;
    result.summary = Summary::new(plan, accounting, latency, batches, measured_s);
    result.verdict = Some(judge(result));
}

/// An open-loop run of 200,000 messages on a machine that doesn't exist, and not without faults.
pub(crate) fn sample() -> RunResult {
    let plan = Plan {
        scenario: "echo".to_owned(),
        parameters: BTreeMap::new(),
        url: None,
        connections: 64,
        threads: 1,
        payload_bytes: 64,
        text: false,
        filling: None,
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
        tls_handshake: None,
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
    let batches = batches(&latency.response, accounting.answered_late);
    let summary = Summary::new(&plan, &accounting, &latency, &batches, 10.0);
    let evidence = Some(evidence(&latency.response));
    let mut result = RunResult {
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
            deflate: None,
            subprotocol: None,
            tls: None,
        },
        outcome: Outcome::completed(),
        accounting,
        latency,
        intervals: vec![interval.clone(), Interval { start_s: 1.0, ..interval }],
        batches,
        cpu: CpuUse { load_cpu_s: 1.02, server_cpu_s: Some(0.96) },
        evidence,
        anatomy: None,
        particulars: Particulars::default(),
        exemplars: Vec::new(),
        server_stats: None,
        summary,
    };
    result.verdict = Some(judge(&result));
    result
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
        clocksource: text("kvm-clock"),
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
