//! Verdicts on real runs: each kind of trouble is brought about, and has to be named. That it is what it is was decided on
//! constructed results (`measure::verdict`); here it is whether the generator sees it.
//!
//! A machine that runs tests gives other reasons for doubt as well, so what is asked is whether a reason is among them.

#[path = "common/misbehaving.rs"]
mod misbehaving;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/run.rs"]
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use misbehaving::misbehaving;
use ringsock::cpu;
use ringsock::measure::result::RunResult;
use ringsock::measure::verdict::{Finding, Level};
use run::{Ended, end, run, start};
use rustix::process::Signal;

const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");

fn finding<'a>(result: &'a RunResult, check: &str) -> &'a Finding {
    let verdict = result.verdict.as_ref().expect("every run has one");
    let found = verdict.findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("no finding on {check}: {:?}", verdict.findings))
}

/// The one result's finding on `check`, of this level; the verdict is no better.
fn assert_finding(ended: &Ended, check: &str, level: Level) {
    let [result] = &ended.results[..] else { panic!("{} results: {}", ended.results.len(), ended.errors) };
    let found = finding(result, check);
    assert_eq!(found.level, level, "{}", found.says);
    assert!(result.verdict.as_ref().unwrap().level >= level);
    let reason = format!("! {} {check}: ", level.name());
    assert!(level == Level::Trusted || ended.output.contains(&reason), "{}", ended.output);
}

#[test]
fn a_server_that_is_stopped_and_goes_on_leaves_a_growing_queue_behind() {
    let (server, address) = peer::server(SERVER, &["--threads", "1"]);
    let results = tempfile::tempdir().unwrap();
    let url = format!("ws://{address}/");
    let process = start(results.path(), &["--rate", "2000", "--duration", "2s", &url]);
    process.until_error_line(" of ");
    server.signal(Signal::STOP);
    let ended = end(process, results.path());
    server.signal(Signal::CONT);
    assert_finding(&ended, "rate", Level::Invalid);
    assert_finding(&ended, "unanswered", Level::Invalid);
    assert_finding(&ended, "stalls", Level::Suspect);
}

#[test]
fn a_generator_that_is_stopped_is_late_and_its_arrivals_are_not_the_plan() {
    let results = tempfile::tempdir().unwrap();
    let flags = ["--rate", "2000", "--duration", "3s", "--arrivals", "fixed"];
    let process = start(results.path(), &flags);
    process.until_error_line(" of ");
    for _ in 0..4 {
        process.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(150));
        process.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = end(process, results.path());
    let [result] = &ended.results[..] else { panic!("{}", ended.errors) };
    assert!(finding(result, "generator-lag").level > Level::Trusted, "{}", ended.output);
    assert_finding(&ended, "arrivals", Level::Suspect);
    // The response time holds the delay as well: nothing is made to look better.
    let late = |histogram: &ringsock::measure::histogram::Histogram| {
        histogram.count_between(50_000_000, u64::MAX >> 1)
    };
    assert!(late(&result.latency.lag) > 100 && late(&result.latency.response) > 100, "{}", ended.output);
    assert!(result.exemplars[0].response_ns > 100_000_000, "{:?}", result.exemplars[0]);
}

#[test]
fn a_core_that_is_shared_is_named() {
    let first = cpu::available()[0].to_string();
    let ended = run(&["--rate", "1000", "--cpus", &first, "--server-cpus", &first]);
    assert_finding(&ended, "shared-cpus", Level::Suspect);
    // A server apart, known by its process id.
    let (server, address) = peer::server(SERVER, &["--cpus", &first]);
    let process_id = server.id().to_string();
    let url = format!("ws://{address}/");
    let ended = run(&["--rate", "1000", "--cpus", &first, "--server-pid", &process_id, &url]);
    assert_finding(&ended, "shared-cpus", Level::Suspect);
}

#[test]
fn somebody_else_on_the_generators_core_is_seen() {
    let core = *cpu::available().last().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    let neighbour = std::thread::spawn(move || {
        cpu::pin_current_thread(core).unwrap();
        while !seen.load(Ordering::Relaxed) {
            std::hint::black_box(0);
        }
    });
    let core = core.to_string();
    let ended = run(&["--rate", "1000", "--cpus", &core, "--duration", "2s"]);
    over.store(true, Ordering::Relaxed);
    neighbour.join().unwrap();
    assert_finding(&ended, "neighbours", Level::Suspect);
}

#[test]
fn a_rate_beyond_capacity_is_invalid() {
    let ended = run(&["--rate", "5000000", "-c", "4", "--duration", "300ms"]);
    assert_finding(&ended, "rate", Level::Invalid);
    assert!(ended.output.contains("verdict      INVALID"), "{}", ended.output);
}

#[test]
fn too_few_samples_are_said_and_no_number_is_made_of_them() {
    let ended = run(&["--rate", "200", "--duration", "1s"]);
    assert_finding(&ended, "samples", Level::Suspect);
    let result = &ended.results[0];
    assert_eq!(result.summary.response.p99_9_ns, None);
    assert!(ended.output.contains("too few samples"), "{}", ended.output);
}

#[test]
fn answers_that_are_wrong_doubled_or_out_of_order_are_invalid() {
    let wrong = misbehaving(|messages, answer| match messages % 3 {
        0 => answer.payload(&[0; 64]),
        _ => answer.message(messages - 1),
    });
    let doubled = misbehaving(|messages, answer| {
        answer.message(messages - 1);
        if messages.is_multiple_of(10) {
            answer.message(messages - 1);
        }
    });
    let swapped = misbehaving(|messages, answer| {
        if messages.is_multiple_of(2) {
            answer.message(messages - 1);
            answer.message(messages - 2);
        }
    });
    let missing = misbehaving(|messages, answer| {
        if !messages.is_multiple_of(10) {
            answer.message(messages - 1);
        }
    });
    for address in [wrong, doubled, swapped, missing] {
        let ended = run(&["--rate", "1000", "-c", "1", &format!("ws://{address}/")]);
        assert_finding(&ended, "answers", Level::Invalid);
    }
}

#[test]
fn a_run_that_ends_early_is_not_trusted() {
    let results = tempfile::tempdir().unwrap();
    let process = start(results.path(), &["--rate", "1000", "--duration", "1h"]);
    process.until_error_line(" of ");
    process.signal(Signal::INT);
    assert_finding(&end(process, results.path()), "outcome", Level::Suspect);

    let (server, address) = peer::server(SERVER, &["--threads", "1"]);
    let results = tempfile::tempdir().unwrap();
    let url = format!("ws://{address}/");
    let process = start(results.path(), &["--rate", "1000", "--duration", "1h", &url]);
    process.until_error_line(" of ");
    server.signal(Signal::KILL);
    assert_finding(&end(process, results.path()), "outcome", Level::Invalid);
}

#[test]
fn strict_is_content_with_trusted_runs_only() {
    let ended = run(&["--strict", "--rate", "200"]);
    // A window of 0.3 s has too few samples, however quiet the machine.
    assert_eq!(ended.code, Some(3), "{}", ended.output);
    assert_eq!(ended.results.len(), 1, "it is saved all the same");
    assert_eq!(run(&["--rate", "200"]).code, Some(0));
}

#[test]
fn a_spinning_generator_tells_how_much_of_its_time_it_had_left() {
    let ended = run(&["--spin", "--rate", "1000", "--duration", "1s"]);
    let [result] = &ended.results[..] else { panic!("{}", ended.errors) };
    let thread = &result.evidence.as_ref().unwrap().threads[0];
    let idle_s = thread.idle_s.expect("it spins");
    assert!(idle_s > 0.0 && idle_s <= result.summary.measured_s * 1.01, "{thread:?}");
    assert!(finding(result, "generator-cpu").says.contains('%'));
}
