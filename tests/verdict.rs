//! What each check of a verdict is there for: a run that can be trusted, and one changed fact for every reason not to.

mod common;

use common::{counted, derive, secure_and_compress, sound};
use ringsock::measure::environment::Clock;
use ringsock::measure::evidence::{CpuTime, Throttled};
use ringsock::measure::histogram::{Histogram, new_histogram, record};
use ringsock::measure::result::{
    Arrivals, CalibrationCited, Interval, KernelTls, Latencies, Mode, RunResult, Status, Wire,
};
use ringsock::measure::series::Compact;
use ringsock::measure::verdict::{Finding, Level, Verdict, judge};

use Level::{Invalid, Suspect, Trusted};

/// Changes one fact of a run.
type Change = fn(&mut RunResult);

fn judged(change: Change) -> Verdict {
    judged_from(sound(), change)
}

fn judged_from(mut result: RunResult, change: Change) -> Verdict {
    change(&mut result);
    let measured_s = result.summary.measured_s;
    derive(&mut result, measured_s);
    result.verdict.unwrap()
}

fn finding<'a>(verdict: &'a Verdict, check: &str) -> &'a Finding {
    let found = verdict.findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("no finding of {check}: {verdict:#?}"))
}

/// Each change provokes this check, to this level, in words like these, and no other check.
fn assert_provoked(cases: &[(&str, Level, &str, Change)]) {
    for &(check, level, says, change) in cases {
        let verdict = judged(change);
        let found = finding(&verdict, check);
        assert_eq!((found.level, verdict.level), (level, level), "{check}: {verdict:#?}");
        assert!(found.says.contains(says), "{check} does not say {says:?}: {}", found.says);
        let failed: Vec<_> = verdict.reasons().iter().map(|finding| finding.check.as_str()).collect();
        assert_eq!(failed, [check], "{says}: one fact has one reason: {verdict:#?}");
    }
}

/// As above, where one fact rightly fails several checks.
fn assert_among(cases: &[(&str, Level, &str, Change)]) {
    for &(check, level, says, change) in cases {
        let verdict = judged(change);
        let found = finding(&verdict, check);
        assert_eq!(found.level, level, "{check}: {verdict:#?}");
        assert!(found.says.contains(says), "{check} does not say {says:?}: {}", found.says);
        assert!(verdict.level >= level);
    }
}

/// A histogram with the same number of durations, all of this length.
fn all(durations: &Histogram, value_ns: u64) -> Histogram {
    let mut histogram = new_histogram();
    histogram.record_n(value_ns, durations.len()).unwrap();
    histogram
}

/// The window, and whatever was counted in it, `factor` times as long.
fn scale_window(result: &mut RunResult, measured_s: f64) {
    let evidence = result.evidence.as_mut().unwrap();
    let factor = measured_s / result.summary.measured_s;
    result.summary.measured_s = measured_s;
    for thread in &mut evidence.threads {
        thread.cpu_s *= factor;
        thread.waited_s *= factor;
        thread.involuntary_switches = (thread.involuntary_switches as f64 * factor) as u64;
    }
    for cpu in &mut evidence.cpus {
        cpu.busy_s *= factor;
        cpu.interrupts_s *= factor;
        cpu.steal_s *= factor;
    }
    result.cpu.load_cpu_s *= factor;
    result.cpu.server_cpu_s = result.cpu.server_cpu_s.map(|cpu_s| cpu_s * factor);
    for batch in &mut result.batches {
        batch.length_s *= factor;
        batch.start_s *= factor;
    }
    if let Mode::OpenLoop { rate_per_s, .. } = &mut result.plan.mode {
        *rate_per_s /= factor;
    }
}

fn close_the_loop(result: &mut RunResult) {
    result.plan.mode = Mode::ClosedLoop { pipeline: 4 };
    result.evidence.as_mut().unwrap().arrivals = None;
}

#[test]
fn a_run_without_faults_is_trusted_by_every_check() {
    let verdict = judged(|_| {});
    assert_eq!(verdict.reasons(), [] as [&Finding; 0], "{verdict:#?}");
    assert_eq!(verdict.level, Trusted);
    assert!(verdict.findings.len() >= 25, "{verdict:#?}");
    assert!(verdict.findings.iter().all(|finding| !finding.says.is_empty()));
    let verdict = judged(close_the_loop);
    assert_eq!(verdict.level, Trusted, "{verdict:#?}");
    assert!(finding(&verdict, "mode").says.contains("not comparable with open-loop ones"));
}

#[test]
fn a_verdict_is_a_function_of_what_a_file_holds() {
    let result = sound();
    let text = serde_json::to_string(&result).unwrap();
    let read: RunResult = serde_json::from_str(&text).unwrap();
    assert_eq!(judge(&read), judge(&result));
    assert_eq!(Some(judge(&result)), result.verdict);
}

/// TLS and compression, all of which was done.
fn conditions(result: &mut RunResult) {
    secure_and_compress(result);
    (kernel(result).handed_over, kernel(result).missed) = (64, 0);
}

fn kernel(result: &mut RunResult) -> &mut KernelTls {
    result.target.tls.as_mut().unwrap().kernel.as_mut().unwrap()
}

fn wire(result: &mut RunResult) -> &mut Wire {
    result.target.deflate.as_mut().unwrap().wire.as_mut().unwrap()
}

#[test]
fn what_was_agreed_on_and_done_is_trusted_and_what_was_not_asked_for_is_not_judged() {
    let verdict = judged(conditions);
    assert_eq!(verdict.level, Trusted, "{verdict:#?}");
    assert!(finding(&verdict, "compression").says.contains("of the answers and 100 % of the messages"));
    assert!(finding(&verdict, "kernel-tls").says.contains("all of 64 connections"));
    let of = |change: Change| {
        let verdict = judged(change);
        verdict.findings.into_iter().map(|finding| finding.check).collect::<Vec<_>>()
    };
    for (checks, is_made) in [
        (of(|_| {}), false),
        (
            // Of a server elsewhere, by an older generator.
            of(|result| {
                conditions(result);
                result.target.tls.as_mut().unwrap().kernel = None;
                result.target.deflate.as_mut().unwrap().wire = None;
            }),
            false,
        ),
        (of(conditions), true),
    ] {
        for check in ["compression", "kernel-tls"] {
            assert_eq!(checks.iter().any(|made| made == check), is_made, "{check}: {checks:?}");
        }
    }
    let not_asked = of(|result| {
        conditions(result);
        (kernel(result).asked, kernel(result).handed_over) = (false, 0);
    });
    assert!(!not_asked.contains(&"kernel-tls".to_owned()), "{not_asked:?}");
}

#[test]
fn what_became_of_messages_and_connections_is_judged() {
    assert_provoked(&[
        ("outcome", Suspect, "ended by the user", |result| {
            result.outcome.status = Status::Interrupted;
            result.outcome.reason = Some("ended by the user".to_owned());
        }),
        ("outcome", Invalid, "the server was gone", |result| result.outcome.status = Status::ServerDied),
        ("outcome", Invalid, "the run failed", |result| result.outcome.status = Status::Failed),
        ("books", Invalid, "offered = sent + unsent does not hold", |result| result.accounting.offered += 1),
        ("books", Invalid, "199,980 answers, but 199,981 durations", |result| {
            record(&mut result.latency.response, 1000)
        }),
        ("answers", Invalid, "1 × wrong payload", |result| result.accounting.count_error("wrong payload")),
        ("answers", Invalid, "1 × out of order", |result| result.accounting.count_error("out of order")),
        ("answers", Invalid, "1 × repeated", |result| {
            result.accounting.count_error("repeated or late answer")
        }),
        ("answers", Invalid, "1 × unasked", |result| result.accounting.count_error("unasked answer")),
        ("answers", Invalid, "1 × protocol: a", |result| result.accounting.count_error("protocol: a")),
        (
            "unanswered",
            Suspect,
            "1 connection still waited at the end for an answer to a message of the warm-up",
            |result| result.accounting.count_error("unanswered since warm-up"),
        ),
        ("unanswered", Suspect, "none above the 99.995th means anything", |result| {
            let accounting = &mut result.accounting;
            (accounting.offered, accounting.sent) = (accounting.offered + 9, accounting.sent + 9);
            accounting.outstanding = 9;
        }),
        ("unsent", Suspect, "10 of 199,990 messages (0.005 %)", |result| {
            (result.accounting.offered, result.accounting.unsent) = (result.accounting.offered + 10, 10);
        }),
        ("connections", Suspect, "1 of 65 connections failed or lost (1 × connect: refused)", |result| {
            result.accounting.connections_failed = 1;
            result.accounting.count_error("connect: refused");
        }),
        ("connections", Suspect, "1 of 64 connections failed or lost (1 × reset by server)", |result| {
            result.accounting.count_error("reset by server")
        }),
        ("connections", Invalid, "of unknown cause", |result| result.accounting.connections_failed = 9),
        (
            "rate",
            Invalid,
            "98.7 % of the 199,980 messages due answered in time, bound 99.0 %: a queue grew",
            |result| {
                result.accounting.answered_late = 2_600;
            },
        ),
        (
            "compression",
            Suspect,
            "agreed to permessage-deflate and compressed none of 199,980 answers: these are the figures of plain ones",
            |result| {
                conditions(result);
                wire(result).answers.compressed = 0;
            },
        ),
        ("compression", Suspect, "64 B are shorter than --deflate-threshold, 65 B", |result| {
            conditions(result);
            (wire(result).sent.compressed, wire(result).answers.compressed) = (0, 0);
            result.target.deflate.as_mut().unwrap().generator_threshold_bytes = 65;
        }),
        ("compression", Suspect, "no message was sent compressed", |result| {
            conditions(result);
            wire(result).sent.compressed = 0;
            result.target.deflate.as_mut().unwrap().generator_threshold_bytes = 65;
        }),
        ("kernel-tls", Suspect, "63 of 64 connections (1 refused, 0 never quiet enough)", |result| {
            conditions(result);
            (kernel(result).handed_over, kernel(result).refused) = (63, 1);
        }),
        ("kernel-tls", Suspect, "figures of the server's own records", |result| {
            conditions(result);
            (kernel(result).handed_over, kernel(result).refused) = (0, 64);
        }),
        ("held-back", Suspect, "201 messages (0.10 %, bound 0.10 %) waited", |result| {
            result.evidence.as_mut().unwrap().held_back = 201;
        }),
    ]);
    // A message that is missing is missing from the rate as well.
    assert_among(&[
        ("unanswered", Invalid, "3,000 of 202,980 messages (1.5 %)", |result| {
            let accounting = &mut result.accounting;
            (accounting.offered, accounting.sent) = (accounting.offered + 3000, accounting.sent + 3000);
            accounting.outstanding = 3000;
        }),
        ("unsent", Invalid, "3,000 of 202,980 messages", |result| {
            (result.accounting.offered, result.accounting.unsent) = (result.accounting.offered + 3000, 3000);
        }),
        ("outcome", Invalid, "nothing was answered", |result| {
            result.accounting = Default::default();
            result.latency = Latencies::default();
            result.batches.clear();
            result.intervals = vec![Interval::default()];
        }),
    ]);
}

#[test]
fn answers_on_their_way_at_the_end_of_the_window_are_not_missing() {
    // A server, or a network, that always takes 300 ms: 3 % of ten seconds.
    let distant: Change = |result| {
        result.latency.response = all(&result.latency.response, 300_000_000);
        result.accounting.answered_late = 6_000;
        result.batches.clear();
    };
    assert_eq!(finding(&judged(distant), "rate").level, Trusted);
    // Mostly quick, on average 150 ms.
    let skewed: Change = |result| {
        let slower = |histogram: &Histogram| {
            let (count, mut slower) = (histogram.len(), new_histogram());
            slower.record_n(1_000_000, count - count / 5).unwrap();
            slower.record_n(746_000_000, count / 5).unwrap();
            slower
        };
        result.latency.response = slower(&result.latency.response);
        for batch in &mut result.batches {
            batch.headline = Compact::of(&slower(&batch.headline.to_histogram()));
        }
        result.accounting.answered_late = 3_000;
    };
    assert_eq!(finding(&judged(skewed), "rate").level, Trusted);
    let slowing: Change = |result| result.accounting.answered_late = 6_000;
    assert_eq!(finding(&judged(slowing), "rate").level, Invalid);
}

#[test]
fn the_generator_is_judged() {
    assert_provoked(&[
        ("evidence", Suspect, "only 1 of 2 generator threads left a record", |result| {
            // The other one's CPU was busy with nobody knows whom.
            result.plan.threads = 2;
            result.target.load_cpus = Some("1-2".to_owned());
            let evidence = result.evidence.as_mut().unwrap();
            evidence.cpus.push(CpuTime { cpu: 2, busy_s: 5.0, ..CpuTime::default() });
        }),
        ("evidence", Suspect, "only 0 of 1 generator thread left a record", |result| {
            result.evidence.as_mut().unwrap().threads.clear();
        }),
        ("generator-lag", Invalid, "more than half of the response time's p99 of 1.20 ms", |result| {
            result.latency.lag = all(&result.latency.lag, 700_000);
        }),
        ("generator-lag", Suspect, "p99 200 µs, bound 100 µs sleeping", |result| {
            result.latency.lag = all(&result.latency.lag, 200_000);
        }),
        ("generator-lag", Suspect, "p99 30.0 µs, bound 20.0 µs spinning", |result| {
            result.evidence.as_mut().unwrap().spin = true;
            result.latency.lag = all(&result.latency.lag, 30_000);
        }),
        ("generator-lag", Suspect, "but p99.9 50.0 ms of the response time's 12.0 ms", |result| {
            result.latency.lag = all(&result.latency.lag, 1_000);
            result.latency.lag.record_n(50_000_000, 400).unwrap();
        }),
        (
            "generator-lag",
            Suspect,
            "p99 90.0 µs, bound 100 µs sleeping between messages: more than half",
            |result| {
                // A server that is faster than the generator can be punctual.
                let quick = |histogram: &Histogram| all(histogram, 120_000);
                result.latency.response = quick(&result.latency.response);
                result.latency.lag = all(&result.latency.lag, 90_000);
                for batch in &mut result.batches {
                    batch.headline = Compact::of(&quick(&batch.headline.to_histogram()));
                }
            },
        ),
        ("arrivals", Suspect, "not Poisson at the planned rate", |result| {
            // Held up again and again, and then all at once.
            let arrivals = result.evidence.as_mut().unwrap().arrivals.as_mut().unwrap();
            arrivals.spans_ns.iter_mut().step_by(4).for_each(|span_ns| *span_ns = 100);
        }),
        ("arrivals", Suspect, "not Poisson", |result| {
            result.evidence.as_mut().unwrap().arrivals.as_mut().unwrap().spans_ns.fill(50_000);
        }),
        ("arrivals", Suspect, "gaps are not fixed", |result| {
            result.evidence.as_mut().unwrap().spin = true;
            result.plan.mode = Mode::OpenLoop { rate_per_s: 20_000.0, arrivals: Arrivals::Fixed };
        }),
        ("arrivals", Suspect, "cannot be tested, 20 could", |result| {
            result.evidence.as_mut().unwrap().arrivals.as_mut().unwrap().spans_ns.truncate(19);
        }),
        ("arrivals", Suspect, "when messages left was not recorded", |result| {
            result.evidence.as_mut().unwrap().arrivals = None;
        }),
        ("generator-cpu", Suspect, "on CPU 1, worked 95.0 % of the window, bound 90 %", |result| {
            let evidence = result.evidence.as_mut().unwrap();
            evidence.threads[0].cpu_s = 9.5;
            evidence.cpus[1].busy_s = 9.6;
        }),
        ("generator-cpu", Suspect, "worked 93.0 % of the window", |result| {
            let evidence = result.evidence.as_mut().unwrap();
            evidence.spin = true;
            (evidence.threads[0].cpu_s, evidence.threads[0].idle_s) = (9.9, Some(0.7));
            evidence.cpus[1].busy_s = 9.9;
        }),
        (
            "generator-cpu",
            Suspect,
            "worked 98.0 % of the window, the server's 50 %: the generator was the bottleneck",
            |result| {
                close_the_loop(result);
                let evidence = result.evidence.as_mut().unwrap();
                (evidence.threads[0].cpu_s, evidence.cpus[1].busy_s) = (9.8, 9.8);
                result.cpu.server_cpu_s = Some(5.0);
            },
        ),
        ("waiting", Suspect, "not running for 2.0 % of the window, bound 1.0 %", |result| {
            result.evidence.as_mut().unwrap().threads[0].waited_s = 0.2;
        }),
        ("preemption", Suspect, "101/s, bound 100/s", |result| {
            result.evidence.as_mut().unwrap().threads[0].involuntary_switches = 1_010;
        }),
        ("page-faults", Suspect, "3 page faults had to read from storage", |result| {
            result.evidence.as_mut().unwrap().threads[0].major_faults = 3;
        }),
        ("calibration", Suspect, "20,000/s a thread, calibrated up to 15,000/s", |result| {
            result.calibration = Some(CalibrationCited { rate_max_per_s: 15_000.0, ..Default::default() });
        }),
    ]);
}

#[test]
fn a_generator_that_is_within_its_means_is_left_alone() {
    let fine: [Change; 5] = [
        // Late by much more than its bound, and by nothing against what it measures.
        |result| {
            result.latency.lag = all(&result.latency.lag, 150_000);
            result.latency.response = all(&result.latency.response, 10_000_000);
            for batch in &mut result.batches {
                batch.headline = Compact::of(&all(&batch.headline.to_histogram(), 10_000_000));
            }
        },
        |result| {
            result.calibration = Some(CalibrationCited { rate_max_per_s: 60_000.0, ..Default::default() });
        },
        // Spinning takes all of a CPU, and is not work.
        |result| {
            let evidence = result.evidence.as_mut().unwrap();
            evidence.spin = true;
            (evidence.threads[0].cpu_s, evidence.threads[0].idle_s) = (9.99, Some(8.5));
            evidence.cpus[1].busy_s = 10.0;
        },
        // Both at their limit.
        |result| {
            close_the_loop(result);
            let evidence = result.evidence.as_mut().unwrap();
            (evidence.threads[0].cpu_s, evidence.cpus[1].busy_s) = (9.9, 9.9);
            result.cpu.server_cpu_s = Some(9.9);
        },
        |result| {
            result.plan.mode = Mode::OpenLoop { rate_per_s: 20_000.0, arrivals: Arrivals::Fixed };
            result.evidence.as_mut().unwrap().arrivals.as_mut().unwrap().spans_ns.fill(51_000);
        },
    ];
    for change in fine {
        let verdict = judged(change);
        assert_eq!(verdict.reasons(), [] as [&Finding; 0], "{verdict:#?}");
    }
}

#[test]
fn the_machine_is_judged() {
    assert_provoked(&[
        ("shared-cpus", Suspect, "share CPU 1", |result| result.target.server_cpus = Some("0-1".to_owned())),
        (
            "neighbours",
            Suspect,
            "somebody else used 14 % of the generator's CPU 1, bound 8.2 % (interrupts: 2.1 %)",
            |result| {
                result.evidence.as_mut().unwrap().cpus[1].busy_s = 2.4;
            },
        ),
        (
            "neighbours",
            Suspect,
            "used 15 % of the generator's CPU 1, bound 8.2 % (interrupts: 40 %, which",
            |result| {
                // Threads' time with interrupts in it, processes' without: less is left than others took.
                let evidence = result.evidence.as_mut().unwrap();
                evidence.threads[0].cpu_s = 5.0;
                (evidence.cpus[1].busy_s, evidence.cpus[1].interrupts_s) = (2.5, 4.0);
            },
        ),
        ("neighbours", Suspect, "somebody else used 25 % of", |result| {
            // The same, seen by the server's time.
            result.cpu.server_cpu_s = Some(3.0);
            let evidence = result.evidence.as_mut().unwrap();
            evidence.threads[0].cpu_s = 4.0;
            (evidence.cpus[1].busy_s, evidence.cpus[1].interrupts_s) = (3.5, 3.0);
        }),
        ("shared-cpus", Suspect, "CPUs 0, 1 of generator and server are threads of one core", |result| {
            result.environment.cpu.siblings = Some(vec!["0-1".to_owned(), "2-3".to_owned()]);
        }),
        ("neighbours", Suspect, "somebody else, perhaps the server, used", |result| {
            result.target.server_cpus = None;
            result.evidence.as_mut().unwrap().cpus[1].busy_s = 2.4;
        }),
        ("steal", Suspect, "gave 2.0 % of CPU 0 to others, bound 1.0 %", |result| {
            result.evidence.as_mut().unwrap().cpus[0].steal_s = 0.2;
        }),
        ("steal", Invalid, "gave 15 % of CPU 1 to others, bound 10 %", |result| {
            result.evidence.as_mut().unwrap().cpus[1].steal_s = 1.5;
        }),
        ("throttling", Suspect, "ran out in 4 periods and held threads up for 120 ms", |result| {
            result.evidence.as_mut().unwrap().throttled = Some(Throttled { periods: 4, time_s: 0.12 });
        }),
        ("clock", Suspect, "the clock source is hpet", |result| {
            result.environment.clocksource = Some("hpet".to_owned());
        }),
        ("build", Suspect, "a debug build", |result| {
            result.environment.build.profile = Some("debug".to_owned());
        }),
    ]);
    assert_among(&[("shared-cpus", Suspect, "bound to no CPU", |result| {
        result.target.load_cpus = None;
        result.evidence.as_mut().unwrap().threads.clear();
    })]);
}

#[test]
fn what_happens_on_cpus_that_the_run_did_not_use_is_nobody_elses_business() {
    let verdict = judged(|result| {
        let evidence = result.evidence.as_mut().unwrap();
        let mut elsewhere = evidence.cpus[1].clone();
        (elsewhere.cpu, elsewhere.busy_s, elsewhere.steal_s) = (2, 9.0, 3.0);
        evidence.cpus.push(elsewhere);
    });
    assert_eq!(verdict.level, Trusted, "{verdict:#?}");
    // Interrupts are not somebody else, whether threads' times hold them or not.
    for (cpu_s, busy_s, interrupts_s) in [(5.0, 1.1, 4.0), (1.1, 1.2, 4.0)] {
        let mut result = sound();
        let evidence = result.evidence.as_mut().unwrap();
        evidence.threads[0].cpu_s = cpu_s;
        (evidence.cpus[1].busy_s, evidence.cpus[1].interrupts_s) = (busy_s, interrupts_s);
        let verdict = judge(&result);
        assert_eq!(verdict.level, Trusted, "{verdict:#?}");
    }
    // A server keeps its own CPU busy.
    let verdict = judged(|result| result.evidence.as_mut().unwrap().cpus[0].busy_s = 9.9);
    assert_eq!(verdict.level, Trusted, "{verdict:#?}");
}

#[test]
fn what_a_passing_check_did_not_see_is_said() {
    let says = |check: &str, change: Change| finding(&judged(change), check).says.clone();
    assert!(says("stalls", |_| {}).starts_with("no 250 ms with fewer than half"));
    assert!(
        says("shared-cpus", |result| result.target.server_cpus = None).contains("not known (--server-pid)")
    );
    assert!(says("shared-cpus", |_| {}).ends_with("is not known"), "siblings of an older file");
    let apart: Change = |result| result.environment.cpu.siblings = Some(vec!["0,2".to_owned()]);
    assert_eq!(says("shared-cpus", apart), "generator and server have cores of their own");
    let calibrated = |rate_max_per_s, floor_p50_ns| {
        let mut result = sound();
        result.calibration =
            Some(CalibrationCited { rate_max_per_s, floor_p50_ns, ..CalibrationCited::default() });
        finding(&judge(&result), "calibration").says.clone()
    };
    let fastest = calibrated(60_000.0, 23_000);
    assert!(fastest.contains("a null server's at 30,000/s 23.0 µs: this server is as fast"), "{fastest}");
    assert!(calibrated(60_000.0, 12_000).ends_with("a null server's at 30,000/s 12.0 µs"));
    // Above half of the highest rate, or without a floor, there is nothing to compare with.
    for (rate_max_per_s, floor_p50_ns) in [(30_000.0, 23_000), (60_000.0, 0)] {
        assert!(!calibrated(rate_max_per_s, floor_p50_ns).contains("null server"));
    }
}

#[test]
fn of_too_few_messages_the_longest_lag_is_called_that() {
    let verdict = judged(|result| {
        let mut few = new_histogram();
        (1..=500).for_each(|n| record(&mut few, n * 1_000));
        result.latency.lag = few;
    });
    let lag = finding(&verdict, "generator-lag");
    assert!(lag.says.starts_with("the longest 500 µs, bound 100 µs"), "{}", lag.says);
}

#[test]
fn strict_is_satisfied_by_trusted_runs_alone() {
    for (change, level) in [
        ((|_| {}) as Change, Trusted),
        (|result| result.plan.warmup_s = 0.0, Suspect),
        (|result| result.accounting.count_error("wrong payload"), Invalid),
    ] {
        let verdict = judged(change);
        assert_eq!(verdict.level, level);
        assert_eq!((verdict.satisfies(true), verdict.satisfies(false)), (level == Trusted, true));
    }
}

#[test]
fn the_numbers_are_judged() {
    assert_provoked(&[
        ("window", Suspect, "0.9 s, bound 1 s", |result| scale_window(result, 0.9)),
        ("window", Suspect, "no warm-up", |result| result.plan.warmup_s = 0.0),
        ("range", Suspect, "2 answers of an hour or longer", |result| {
            result.latency.service.record_n(3_600_000_000_000, 2).unwrap();
        }),
        ("samples", Suspect, "taken as independent", |result| result.batches.clear()),
        ("drift", Suspect, "in the last, bound 10 %, in a trend", |result| {
            for (index, batch) in result.batches.iter_mut().enumerate() {
                let mut slower = new_histogram();
                let factor = 1.0 + 0.01 * index as f64;
                batch.headline.iter().for_each(|(value_ns, count)| {
                    slower.record_n((value_ns as f64 * factor) as u64, count).unwrap();
                });
                batch.headline = Compact::of(&slower);
            }
        }),
        (
            "stalls",
            Suspect,
            "fewer than half of the expected answers for 250 ms (2.5 % of the window), first at 5.00 s",
            |result| {
                // The time of day at which they came, not what they took.
                let moved = std::mem::take(&mut result.batches[20].answered);
                result.batches[21].answered += moved;
            },
        ),
    ]);
}

/// Slow answers that all came in one batch.
fn gather_slow_ones(result: &mut RunResult) {
    let mut gathered = new_histogram();
    for batch in &mut result.batches {
        let mut rest = new_histogram();
        batch.headline.iter().for_each(|(value_ns, count)| {
            let to = if value_ns > 1_000_000 { &mut gathered } else { &mut rest };
            to.record_n(value_ns, count).unwrap();
        });
        batch.headline = Compact::of(&rest);
    }
    result.batches[7].headline.merge(&Compact::of(&gathered));
}

#[test]
fn a_percentile_of_few_independent_answers_is_too_few_and_what_would_do_is_said() {
    assert_provoked(&[(
        "samples",
        Suspect,
        "effective of 199,980 samples, 563 needed; run at least",
        gather_slow_ones,
    )]);
    let mut result = sound();
    gather_slow_ones(&mut result);
    derive(&mut result, 10.0);
    assert_eq!((result.summary.response.p99_ns, result.summary.service.p99_ns), (None, None));
    assert!(result.summary.response.p50_ns.is_some());
    assert!(result.summary.estimates.iter().all(|estimate| estimate.percentile != "p99"));
}

#[test]
fn an_older_file_gets_what_can_be_checked_and_is_at_best_suspect() {
    let verdict = judged(|result| {
        result.evidence = None;
        result.batches.clear();
    });
    assert_eq!(verdict.level, Suspect);
    let failed: Vec<_> = verdict.reasons().iter().map(|finding| finding.check.as_str()).collect();
    assert_eq!(failed, ["evidence", "samples"], "{verdict:#?}");
    assert!(verdict.findings.len() > 12, "{verdict:#?}");
    let verdict = judged(|result| {
        result.evidence = None;
        result.accounting.count_error("wrong payload");
    });
    assert_eq!(verdict.level, Invalid);
}

/// What a check of CPUs apart, or of promptness, would have against any run on one CPU.
const OF_TIME_ALONE: [&str; 9] = [
    "generator-lag",
    "arrivals",
    "generator-cpu",
    "waiting",
    "preemption",
    "calibration",
    "shared-cpus",
    "neighbours",
    "steal",
];

#[test]
fn a_sound_run_in_instruction_time_is_trusted_and_says_what_it_is() {
    for close in [false, true] {
        let verdict = judged_from(counted(), if close { close_the_loop } else { |_| {} });
        assert_eq!(verdict.reasons(), [] as [&Finding; 0], "{verdict:#?}");
        assert!(verdict.satisfies(true));
        let says = &finding(&verdict, "instruction-time").says;
        assert!(says.contains("never to be compared with real time"), "{says}");
        assert_eq!(says.contains("response times hold both ends' turns"), !close, "{says}");
        for check in OF_TIME_ALONE {
            assert!(verdict.findings.iter().all(|finding| finding.check != check), "{check}");
        }
    }
    assert!(judged(|_| {}).findings.iter().all(|finding| finding.check != "instruction-time"));
}

#[test]
fn every_check_that_instruction_time_leaves_out_would_be_made_of_the_same_run_in_real_time() {
    let verdict = judged_from(counted(), |result| result.environment.clock = Clock::Real);
    // What shares the CPU with a server that is known is another check's.
    let of_unknown = judged_from(counted(), |result| {
        result.environment.clock = Clock::Real;
        result.target.server_cpus = None;
    });
    for check in OF_TIME_ALONE {
        finding(if check == "neighbours" { &of_unknown } else { &verdict }, check);
    }
    for check in ["generator-lag", "waiting", "preemption", "shared-cpus"] {
        assert_ne!(finding(&verdict, check).level, Trusted, "{check}");
    }
}

#[test]
fn what_still_means_something_in_instruction_time_is_judged() {
    let cases: [(&str, Level, &str, Change); 11] = [
        ("outcome", Invalid, "the server was gone", |result| result.outcome.status = Status::ServerDied),
        ("books", Invalid, "offered = sent + unsent", |result| result.accounting.offered += 1),
        ("answers", Invalid, "wrong payload", |result| result.accounting.count_error("wrong payload")),
        ("rate", Invalid, "a queue grew", |result| result.accounting.answered_late = 2_600),
        ("evidence", Suspect, "only 0 of 1", |result| result.evidence.as_mut().unwrap().threads.clear()),
        ("page-faults", Suspect, "3 page faults", |result| {
            result.evidence.as_mut().unwrap().threads[0].major_faults = 3;
        }),
        ("throttling", Suspect, "held threads up for 50.0 Minstr", |result| {
            result.evidence.as_mut().unwrap().throttled = Some(Throttled { periods: 2, time_s: 0.05 });
        }),
        ("clock", Suspect, "stands still for millions of instructions", |result| {
            result.environment.clocksource = Some("refined-jiffies".to_owned());
        }),
        ("instruction-time", Invalid, "the machine has 2 CPUs", |result| {
            result.environment.cpu.count = Some(2);
        }),
        ("instruction-time", Invalid, "the machine is no virtual one", |result| {
            result.environment.cpu.hypervisor = Some(false);
        }),
        ("window", Suspect, "no warm-up", |result| result.plan.warmup_s = 0.0),
    ];
    for (check, level, says, change) in cases {
        let verdict = judged_from(counted(), change);
        let found = finding(&verdict, check);
        assert_eq!((found.level, verdict.level), (level, level), "{check}: {verdict:#?}");
        assert!(found.says.contains(says), "{check} does not say {says:?}: {}", found.says);
        assert_eq!(verdict.reasons().len(), 1, "{says}: one fact has one reason: {verdict:#?}");
    }
    // A device's clock is read by one instruction.
    let hpet = judged_from(counted(), |result| result.environment.clocksource = Some("hpet".to_owned()));
    assert_eq!(hpet.level, Trusted, "{hpet:#?}");
}
