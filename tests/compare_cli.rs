//! What people read at the end of a run and from `ringsock-compare`, as golden texts.
//!
//! After a change that is meant, `RINGSOCK_BLESS=1 cargo test --test compare_cli` rewrites them; read the diff.

mod common;
#[path = "common/golden.rs"]
mod golden;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::{counted, derive, sample, secure_and_compress, sound};
use golden::assert_golden;
use ringsock::measure::anatomy::{Collector, Moments, Parts};
use ringsock::measure::evidence::{Around, Exemplar, ServerStamps};
use ringsock::measure::histogram;
use ringsock::measure::particulars::{
    Broadcasts, Bursts, Churn, Crowd, Fan, KernelMemory, KernelUse, PartPlayed, Particulars, Pings, Position,
    Pushes, ServerMemory, SizesSent, Without,
};
use ringsock::measure::result::{Accounting, Arrivals, Latencies, Mode, Outcome, RunResult, Status};
use ringsock::measure::series::{Batch, Compact};
use ringsock::measure::store::{load, save};
use ringsock::report::{Style, anatomy, compare, terminal};

/// A closed-loop run of few messages, that somebody stopped, on another kernel.
fn short_run() -> RunResult {
    let mut result = sample();
    result.plan.mode = Mode::ClosedLoop { pipeline: 4 };
    result.plan.connections = 1;
    result.plan.payload_bytes = 65_536;
    result.plan.text = true;
    result.outcome = Outcome { status: Status::Interrupted, reason: Some("SIGINT".to_owned()) };
    result.accounting = Accounting { offered: 100, sent: 100, answered: 100, ..Accounting::default() };
    result.accounting.connections_opened = 1;
    result.latency = Latencies::default();
    (1..=100).for_each(|n| ringsock::measure::histogram::record(&mut result.latency.service, n * 100));
    result.environment.kernel.release = Some("6.18.0".to_owned());
    result.environment.kernel.command_line =
        Some(format!("quiet mitigations=off{}", " isolcpus=1".repeat(8)));
    result.environment.sysctls.insert("net.core.busy_poll".to_owned(), Some("50".to_owned()));
    result.target.server = None;
    result.target.engine_features.clear();
    result.io_uring.as_mut().unwrap().features.insert("napi".to_owned(), true);
    (result.target.server_engine, result.target.server_engine_features) = (None, None);
    result.target.server_cpus = None;
    result.cpu.server_cpu_s = None;
    result.batches.clear();
    let evidence = result.evidence.as_mut().unwrap();
    evidence.arrivals = None;
    evidence.threads[0].cpu_s = 0.1;
    (evidence.threads[0].waited_s, evidence.threads[0].involuntary_switches) = (0.0, 1);
    evidence.cpus.iter_mut().for_each(|cpu| cpu.busy_s = 0.1);
    evidence.cpus.iter_mut().for_each(|cpu| cpu.steal_s = 0.0);
    derive(&mut result, 0.5);
    result
}

/// The same work as [`sound`], a little slower, and with a neighbour.
fn slower_run() -> RunResult {
    let mut result = sound();
    result.latency.response = new_scaled(&result, 1.1);
    result.cpu.server_cpu_s = Some(1.2);
    result.plan.seed = 8;
    result.environment.kernel.release = Some("6.18.0".to_owned());
    result.evidence.as_mut().unwrap().cpus[1].busy_s = 2.5;
    derive(&mut result, 10.0);
    result
}

fn new_scaled(result: &RunResult, factor: f64) -> ringsock::measure::histogram::Histogram {
    let mut scaled = ringsock::measure::histogram::new_histogram();
    for slot in result.latency.response.iter_recorded() {
        scaled.record_n((slot.value_iterated_to() as f64 * factor) as u64, slot.count_at_value()).unwrap();
    }
    scaled
}

#[test]
fn an_open_loop_run_reads_as_golden() {
    assert_golden("run-open-loop.txt", &terminal::render(&sample(), Style::PLAIN));
}

#[test]
fn a_run_without_faults_reads_as_golden() {
    assert_golden("run-trusted.txt", &terminal::render(&sound(), Style::PLAIN));
}

#[test]
fn a_run_over_tls_and_compression_reads_as_golden() {
    let mut result = sound();
    secure_and_compress(&mut result);
    derive(&mut result, 10.0);
    assert_golden("run-secured.txt", &terminal::render(&result, Style::PLAIN));
}

/// Of no scenario that there is: one would not have all of it.
#[test]
fn what_scenarios_measure_is_told_and_comes_back_from_the_file() {
    let mut result = sound();
    "slow".clone_into(&mut result.plan.scenario);
    for (flag, value) in [("slow-share", "10%"), ("slow-mode", "dribble"), ("payload", "zipf:16..65536:1")] {
        result.plan.parameters.insert(flag.to_owned(), value.to_owned());
    }
    let durations = result.latency.service.clone();
    let memory = |before, after| KernelUse { slab_bytes: before, tcp_buffer_bytes: after };
    result.particulars = Particulars {
        sizes: Some(SizesSent {
            messages: 199_980,
            bytes: 2_000_000_000,
            min_bytes: 16,
            max_bytes: 65_536,
            mean_bytes: 10_001.0,
        }),
        bursts: Some(Bursts { bursts: 100, drained: 99, undrained: 1, drain: durations.clone() }),
        pings: Some(Pings {
            sent: 20_000,
            answered: 19_999,
            round_trip: durations.clone(),
            data: Some(durations.clone()),
        }),
        churn: Some(Churn {
            connections_per_s: 1234.5,
            at_once_max: 64,
            closed_by_us: 2,
            first_message: durations.clone(),
            close: durations.clone(),
        }),
        crowd: Some(Crowd {
            manner: "dribble".to_owned(),
            connections: 7,
            opened: 6,
            failed: 1,
            held: 5,
            heartbeats: 0,
            sent_bytes: 64 << 20,
            read_bytes: 5 << 10,
            server_memory: Some(ServerMemory {
                of: "server".to_owned(),
                before_bytes: 9 << 20,
                after_bytes: 19 << 20,
            }),
            kernel_memory: Some(KernelMemory {
                before: memory(50 << 20, 0),
                after: memory(51 << 20, 8 << 20),
            }),
        }),
        without_crowd: Some(Without {
            offered: 200_000,
            answered: 200_000,
            rate_achieved_per_s: 20_000.0,
            percentiles: result.summary.service.clone(),
            headline: durations.clone(),
        }),
        broadcasts: Some(Broadcasts {
            published: 300,
            results: 299,
            listeners_min: 63,
            listeners_max: 64,
            told: 19_100,
            connections: 64,
            heard: 19_099,
        }),
        pushes: Some(Pushes { lateness: durations.clone() }),
        parts: vec![PartPlayed {
            scenario: "work".to_owned(),
            connections: 5,
            sent: 50_000,
            answered: 49_999,
            headline: durations.clone(),
        }],
        fan: Some(Fan {
            publications: 400,
            subscribers: 1000,
            rooms: 2,
            deliveries_per_s: 20_000.0,
            gaps: 3,
            repeated: 2,
            looked_at: 400,
            complete: 397,
            first: durations.clone(),
            positions: vec![Position {
                joined_after_percent: 90,
                deliveries: 40_000,
                mean_ns: 87_654.0,
                p50_ns: Some(80_000),
                p99_ns: None,
            }],
            ..Fan::default()
        }),
    };
    let text = terminal::render(&result, Style::PLAIN);
    let on_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "slow (slow-mode dribble, slow-share 10%), 64 connections, zipf:16..65536:1 binary,",
        "199,980 messages of 16 to 65,536 B, 10,001 B on average,",
        "100 = 99 drained + 1 not",
        "20,000 sent = 19,999 answered + 1 outstanding",
        "64 at once at most; 2 closed by us first, whose ports stay taken",
        "7 connections (dribble) = 6 opened + 1 failed; 5 held to the end",
        "300 published, 299 answered, each with 63 to 64 listening: 19,099 heard of 19,100",
        "server lateness",
        "beside the crowd",
    ] {
        assert!(on_one_line.contains(told), "{told}: {text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = save(folder.path(), &result).unwrap();
    assert_eq!(load(&path).unwrap(), result);
}

#[test]
fn a_run_in_instruction_time_reads_as_golden_and_shows_no_duration_as_time() {
    let mut result = explained_run(false);
    result.environment = counted().environment;
    derive(&mut result, 10.0);
    let text = terminal::render(&result, Style::PLAIN);
    assert_no_time(&text);
    assert_golden("run-instructions.txt", &terminal::render(&counted(), Style::PLAIN));
    assert_no_time(&terminal::render(&counted(), Style::PLAIN));
    let text = compare::render(["a.json", "b.json"], &counted(), &counted(), Style::PLAIN);
    assert!(text.contains("(instruction time)") && text.contains("! instruction time: "), "{text}");
    assert_no_time(&text);
}

/// No number stands before a unit of time shorter than the second, of which the plan and the window are made.
fn assert_no_time(text: &str) {
    let words: Vec<_> = text.split_whitespace().collect();
    let is_time = |pair: &&[&str]| {
        pair[0].starts_with(|c: char| c.is_ascii_digit())
            && ["ns", "µs", "ms"].contains(&pair[1].trim_matches([',', ';', ')']))
    };
    let found: Vec<_> = words.windows(2).filter(is_time).collect();
    assert!(found.is_empty() && text.contains(" kinstr"), "{found:?} in\n{text}");
}

#[test]
fn a_short_interrupted_closed_loop_run_reads_as_golden() {
    assert_golden("run-closed-loop.txt", &terminal::render(&short_run(), Style::PLAIN));
}

/// A run whose server stamped its answers: one in fifty waited in the server, one in a thousand in the generator as well.
fn explained_run(with_kernel: bool) -> RunResult {
    let mut result = sample();
    let mut collector = Collector::default();
    for number in 0..100_000_u64 {
        let intended_ns = 1_000_000 * number;
        let sent_ns = intended_ns + if number.is_multiple_of(1_000) { 2_000_000 } else { 200 + number % 100 };
        let seen_ns = sent_ns + 9_000 + number % 3_000;
        let queued_ns = seen_ns + if number.is_multiple_of(50) { 1_500_000 } else { 1_200 };
        let answered_ns = queued_ns + 12_000 + number % 5_000;
        collector.add(Parts::of(&Moments {
            intended_ns,
            sent_ns,
            arrived_ns: None,
            seen_ns,
            queued_ns,
            returned_ns: with_kernel.then_some(queued_ns + 5_000),
            answered_ns,
            read_ns: answered_ns + 500,
        }));
    }
    result.anatomy = collector.finish();
    let around = Around {
        span_ns: 3_900_000,
        turns: 12,
        longest_turn_ns: 3_400_000,
        waits: 11,
        receives: 24,
        involuntary_switches: 1,
        ..Around::default()
    };
    result.exemplars = vec![
        Exemplar {
            thread: 0,
            connection: 17,
            number: 1_234,
            intended_s: 3.210_987,
            response_ns: 3_523_000,
            queued_ns: 2_000_000,
            service_ns: 1_523_000,
            server: Some(ServerStamps { to_server_ns: 10_000, in_server_ns: 1_500_000 }),
            others_in_turn: 3,
            around,
        },
        Exemplar {
            thread: 1,
            connection: 3,
            number: 7,
            intended_s: 0.5,
            response_ns: 1_500_400,
            ..Exemplar::default()
        },
    ];
    result
}

#[test]
fn an_anatomy_reads_as_golden() {
    assert_golden("anatomy.txt", &anatomy::render(&explained_run(false), Style::PLAIN));
    let narrow = Style { width_columns: 60, color: false };
    let mut closed_loop = explained_run(true);
    closed_loop.plan.mode = Mode::ClosedLoop { pipeline: 1 };
    closed_loop.anatomy.as_mut().unwrap().overlapped = 1_234;
    closed_loop.anatomy.as_mut().unwrap().disordered = 1;
    closed_loop.target.engine_features.push("kernel timestamps".to_owned());
    closed_loop.exemplars.iter_mut().for_each(|exemplar| exemplar.server = None);
    assert_golden("anatomy-narrow.txt", &anatomy::render(&closed_loop, narrow));
    let whole = terminal::render(&explained_run(false), Style::PLAIN);
    assert!(whole.contains("where it goes") && whole.contains("worst messages"), "{whole}");
    assert_eq!(anatomy::render(&sample(), Style::PLAIN), "");
}

#[test]
fn a_part_has_the_percentiles_that_the_whole_has() {
    let mut result = explained_run(false);
    let shown = |result: &RunResult| {
        let text = anatomy::render(result, Style::PLAIN);
        let has_bar = |label: &str| text.lines().any(|line| line.starts_with(label) && line.contains('='));
        let back = text.lines().find(|line| line.starts_with("back")).unwrap();
        let cells: Vec<_> = back.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        (has_bar("p99 "), has_bar("p99.9 "), cells[2] == "-", cells[3] == "-")
    };
    result.batches.clear();
    assert_eq!(shown(&result), (true, true, false, false), "samples taken as independent");
    // As many messages; all that were slow, one in 800, waited for one stall.
    let batch = |batch: u64| {
        let mut headline = histogram::new_histogram();
        let slow = if batch == 7 { 120 } else { 0 };
        (0..5_000 - slow).for_each(|number| histogram::record(&mut headline, 20_000 + number));
        (0..slow).for_each(|number| histogram::record(&mut headline, 1_500_000 - 1_000 * number));
        headline
    };
    let headlines: Vec<_> = (0..20).map(batch).collect();
    result.latency.response = histogram::new_histogram();
    headlines.iter().for_each(|headline| histogram::merge(&mut result.latency.response, headline));
    let batches = headlines.iter().map(|headline| Batch {
        start_s: 0.0,
        length_s: 0.5,
        sent: 5_000,
        answered: 5_000,
        headline: Compact::of(headline),
    });
    result.batches = batches.collect();
    derive(&mut result, 10.0);
    let whole = terminal::render(&result, Style::PLAIN);
    let stated = |label: &str| {
        let line = whole.lines().find(|line| line.split("  ").next() == Some(label));
        line.is_some_and(|line| !line.contains("too few samples"))
    };
    assert!(stated("p99") && !stated("p99.9"), "{whole}");
    assert_eq!(shown(&result), (true, false, false, true));
}

#[test]
fn a_result_from_before_the_probe_is_told_from_one_with_it() {
    let mut old = sample();
    old.io_uring = None;
    let text = compare::render(["a", "b"], &old, &sample(), Style::PLAIN);
    assert!(text.contains("\nio_uring: differs\n  known  no → yes\n"), "{text}");
    assert!(compare::render(["a", "b"], &old, &old, Style::PLAIN).contains("\nio_uring: the same\n"));
}

#[test]
fn engines_that_differ_are_told_apart_and_one_that_auto_passed_over_is_named() {
    let mut result = sample();
    result.target.engine_reason = Some("not uring: it is forbidden".to_owned());
    result.target.engine = "epoll".to_owned();
    result.target.engine_features.clear();
    let text = terminal::render(&result, Style::PLAIN);
    let expected =
        "\nengine       server uring (multishot recv, direct descriptors); load epoll; not uring: it is";
    assert!(text.contains(expected), "{text}");
    (result.target.server_engine, result.target.server_engine_features) = (Some("epoll".to_owned()), None);
    let text = terminal::render(&result, Style::PLAIN);
    assert!(text.contains("\nengine       epoll; not uring: it is forbidden\n"), "{text}");
}

#[test]
fn a_verdict_stands_before_the_numbers_with_its_reasons_the_worst_first() {
    let mut result = sample();
    result.accounting.unsent += 1;
    result.environment.build.profile = Some("debug".to_owned());
    derive(&mut result, 10.0);
    let text = terminal::render(&result, Style::PLAIN);
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part}:\n{text}"));
    let order = [
        "\nverdict      INVALID (",
        "\n! INVALID books: the books don't",
        "\n! SUSPECT build: made by a debug",
    ];
    assert!(order.map(at).is_sorted() && at("! SUSPECT build") < at("\nlatency "), "{text}");
    let text = terminal::render(&sound(), Style::PLAIN);
    assert!(text.contains("\nverdict      TRUSTED (") && !text.contains('!'), "{text}");
}

#[test]
fn a_file_older_than_verdicts_gets_the_one_that_it_still_can() {
    let mut old = sound();
    (old.verdict, old.evidence) = (None, None);
    old.batches.clear();
    let text = terminal::render(&old, Style::PLAIN);
    assert!(text.contains("! SUSPECT evidence: this older file lacks what arrivals"), "{text}");
    assert!(text.contains("\nIntervals take all samples as independent"), "{text}");
}

#[test]
fn no_ratio_is_made_of_an_invalid_run() {
    let text = compare::render(["a", "b"], &sound(), &sample(), Style::PLAIN);
    assert!(text.contains("! no ratios: b is INVALID") && text.contains("b (INVALID)"), "{text}");
    let ratios = text.lines().filter(|line| line.ends_with("  1.000")).count();
    assert_eq!(ratios, 0, "{text}");
    let both = compare::render(["a", "b"], &sample(), &sample(), Style::PLAIN);
    assert!(both.contains("! no ratios: a and b are INVALID"), "{both}");
}

#[test]
fn every_mode_and_arrival_process_is_named() {
    let mut result = sample();
    let title =
        |result: &RunResult| terminal::render(result, Style::PLAIN).lines().next().unwrap().to_owned();
    assert!(title(&result).ends_with("open loop at 20,000/s (Poisson)"));
    result.plan.mode = Mode::OpenLoop { rate_per_s: 50.0, arrivals: Arrivals::Fixed };
    assert!(title(&result).ends_with("open loop at 50.0/s (fixed gaps)"));
}

#[test]
fn a_narrow_terminal_gets_narrow_lines_and_colour_changes_no_letter() {
    let narrow = terminal::render(&sample(), Style { width_columns: 60, color: false });
    assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
    let coloured = terminal::render(&short_run(), Style { color: true, ..Style::PLAIN });
    let bare =
        ["\x1b[1m", "\x1b[33m", "\x1b[0m"].iter().fold(coloured.clone(), |text, code| text.replace(code, ""));
    assert!(coloured.contains("\x1b[33m! SUSPECT outcome: interrupted"), "{coloured}");
    assert_eq!(bare, terminal::render(&short_run(), Style::PLAIN));
}

#[test]
fn two_runs_of_the_same_work_read_as_golden() {
    let text = compare::render(["old.json", "new.json"], &sound(), &slower_run(), Style::PLAIN);
    assert_golden("compare-same-work.txt", &text);
}

#[test]
fn two_runs_of_different_work_read_as_golden() {
    let text = compare::render(["old.json", "new.json"], &sample(), &short_run(), Style::PLAIN);
    assert_golden("compare-different-work.txt", &text);
}

#[test]
fn a_run_differs_from_itself_in_nothing() {
    let text = compare::render(["x", "x"], &sound(), &sound(), Style::PLAIN);
    for part in ["plan", "target", "tool", "environment"] {
        assert!(text.contains(&format!("\n{part}: the same\n")), "{text}");
    }
    let ratios = |text: &str| text.lines().filter(|line| line.ends_with(" 1.000")).count();
    assert_eq!(ratios(&text), 2 + 2 * 6 + 3, "p99.99 and p99.999 have too few samples:\n{text}");
}

fn compare_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-compare"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    compare_command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A directory with `sound`, `slower_run` and whatever else is written there.
fn two_files() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let a = save(directory.path(), &sound()).unwrap();
    let b = save(directory.path(), &slower_run()).unwrap();
    (directory, a, b)
}

#[test]
fn the_program_prints_the_comparison_and_succeeds() {
    let (_directory, a, b) = two_files();
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let output = run(&[a, b]);
    assert_eq!(text(&output.stdout), compare::render([a, b], &sound(), &slower_run(), Style::PLAIN));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn bad_files_end_in_exit_code_2_and_one_line_that_names_them() {
    let (directory, good, _) = two_files();
    let good_text = fs::read_to_string(&good).unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("truncated.json", &good_text[..good_text.len() / 2]);
    write("newer.json", &good_text.replacen("ringsock-result/1", "ringsock-result/2", 1));
    write("other.json", "{\"schema\": \"somebody-else/1\"}");
    write("no.json", "no JSON");
    for (name, expected) in [
        ("missing.json", "cannot read result"),
        ("truncated.json", "is cut off after"),
        ("newer.json", "has schema ringsock-result/2, but this ringsock"),
        ("other.json", "is not a ringsock result"),
        ("no.json", "is not a ringsock result"),
    ] {
        let bad = directory.path().join(name);
        for files in [[&bad, &good], [&good, &bad]] {
            let output = run(&files.map(|path| path.to_str().unwrap()));
            let error = text(&output.stderr);
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{name}");
            assert!(error.starts_with("ringsock-compare: ") && error.lines().count() == 1, "{error}");
            assert!(error.contains(expected) && error.contains(bad.to_str().unwrap()), "{error}");
        }
    }
}

#[test]
fn instructions_are_not_put_beside_time() {
    let (directory, real, _) = two_files();
    let mut result = counted();
    result.created = "2026-11-22T08:05:33Z".to_owned();
    let counted = save(directory.path(), &result).unwrap();
    let [counted, real] = [&counted, &real].map(|path| path.to_str().unwrap());
    for files in [[counted, real], [real, counted]] {
        let output = run(&files);
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
        assert!(error.contains(&format!("{counted} is in instructions")), "{error}");
        assert!(
            error.contains(&format!("and {real} in time")) && error.contains("the same --clock"),
            "{error}"
        );
    }
    assert_eq!(run(&[counted, counted]).status.code(), Some(0));
}

#[test]
fn a_missing_argument_is_a_usage_error() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("<PATH>"), "{}", text(&output.stderr));
}

#[test]
fn the_help_teaches() {
    let output = compare_command(&["--help"]).env("COLUMNS", "100").output().unwrap();
    assert_golden("compare-help.txt", text(&output.stdout));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (_directory, a, b) = two_files();
    let mut command = compare_command(&[a.to_str().unwrap(), b.to_str().unwrap()]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let (_directory, a, b) = two_files();
    let mut command = compare_command(&[a.to_str().unwrap(), b.to_str().unwrap()]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot write the comparison"), "{}", text(&output.stderr));
}
