//! `ringsock-load` making several runs: on real sockets, short, and continued after it was killed.

#[path = "common/peer.rs"]
mod peer;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use peer::{PATIENCE, Process};
use ringsock::measure::finding::Finding;
use ringsock::measure::manifest::{self, Contents};
use ringsock::measure::store;
use rustix::process::Signal;

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-load");
const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");
const SHORT: [&str; 8] = ["-d", "200ms", "-w", "20ms", "--drain-timeout", "300ms", "-c", "2"];

fn start(results: &Path, flags: &[&str]) -> Process {
    Process::start(Command::new(BINARY).arg("--results").arg(results).args(SHORT).args(flags))
}

/// The folder of the one series below `results`, once there is one.
fn series_folder(results: &Path) -> Option<PathBuf> {
    let entry = |folder: &Path| Some(std::fs::read_dir(folder).ok()?.next()?.ok()?.path());
    entry(&entry(results)?)
}

fn contents(folder: &Path) -> Contents<Finding> {
    manifest::read(folder).unwrap()
}

#[test]
fn two_servers_are_compared_round_by_round() {
    let (_one, first) = peer::server(SERVER, &["--threads", "1"]);
    let (_two, second) = peer::server(SERVER, &["--threads", "1", "--engine", "epoll"]);
    let results = tempfile::tempdir().unwrap();
    let urls = [first, second].map(|address| format!("ws://{address}/"));
    let flags = [urls[0].as_str(), &urls[1], "--runs", "2", "--rate", "1000", "--export", "csv"];
    let (status, output, errors) = start(results.path(), &flags).end();
    assert_eq!(status.code(), Some(0), "{output}\n{errors}");
    let folder = series_folder(results.path()).unwrap();
    let contents = contents(&folder);
    let labels: Vec<_> = contents.runs.iter().map(|run| run.label.as_str()).collect();
    assert_eq!((labels[0], labels[1]), (labels[3], labels[2]), "A B B A: {labels:?}");
    assert_ne!(labels[0], labels[1]);
    for run in &contents.runs {
        let result = store::load(&folder.join(run.file.as_ref().unwrap())).unwrap();
        assert_eq!(result.plan.url.as_ref(), Some(&run.label));
        assert_eq!((result.plan.seed, result.accounting.error_count()), (1 + run.round, 0));
    }
    let exported = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|it| it == "csv"));
    assert_eq!(exported.count(), 4);
    assert!(output.contains(&format!("over {}", urls[0])) && output.contains("saved "), "{output}");
    assert!(errors.contains("run 1 of 4: ") && errors.contains("run 4 of 4: "), "{errors}");
}

#[test]
fn a_series_that_was_killed_is_gone_on_with() {
    let results = tempfile::tempdir().unwrap();
    let process = start(results.path(), &["--runs", "3", "--rate", "500"]);
    process.until_error_line("run 2 of 3");
    process.signal(Signal::KILL);
    drop(process);
    let folder = series_folder(results.path()).unwrap();
    assert_eq!(contents(&folder).runs.len(), 1);
    let resume = |flags: &[&str]| {
        let (status, output, errors) =
            Process::start(Command::new(BINARY).arg("--resume").arg(&folder).args(flags)).end();
        (status.code(), output, errors)
    };
    let (code, _, errors) = resume(&["--rate", "501"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("--rate 501 contradicts the series, which has 500"), "{errors}");
    let (code, output, errors) = resume(&["--quiet"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    assert_eq!(output, format!("saved {}\n", folder.display()));
    let contents = contents(&folder);
    assert_eq!(contents.runs.iter().map(|run| run.round).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(contents.finding.is_some());
}

#[test]
fn an_interrupt_ends_the_run_and_the_series_and_says_how_to_go_on() {
    let results = tempfile::tempdir().unwrap();
    let flags =
        ["--results", results.path().to_str().unwrap(), "--runs", "2", "-d", "1h", "-w", "0s", "-c", "2"];
    let mut process = Process::start(Command::new(BINARY).args(flags));
    process.until_error_line("run 1 of 2");
    // Most likely it is measuring by then; if not, there is nothing to be saved.
    std::thread::sleep(Duration::from_millis(500));
    process.signal(Signal::INT);
    let begun = Instant::now();
    let (status, output, errors) = process.end();
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(status.code(), Some(1), "{output}\n{errors}");
    assert!(errors.contains("go on with: ringsock-load --resume "), "{errors}");
    let runs = contents(&series_folder(results.path()).unwrap()).runs;
    assert!(runs.len() <= 1 && runs.iter().all(|run| run.interrupted), "{runs:?}");
}

#[test]
fn a_server_that_is_not_there_fails_its_runs_alone() {
    let (_server, there) = peer::server(SERVER, &["--threads", "1"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let results = tempfile::tempdir().unwrap();
    let urls = [format!("ws://{there}/"), format!("ws://{nobody}/")];
    let (status, output, errors) =
        start(results.path(), &[&urls[0], &urls[1], "--runs", "9", "--rate", "500"]).end();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(output.contains("given up: all 3 runs of ") && output.contains("connect: refused"), "{output}");
}

#[test]
fn the_highest_rate_of_a_server_is_searched_saved_and_readable_again() {
    let (_server, address) = peer::server(SERVER, &["--threads", "1"]);
    let results = tempfile::tempdir().unwrap();
    let url = format!("ws://{address}/");
    let flags = ["--rate", "400", "--step", "50ms", "--precision", "25%", "--find-max-rate", "p50<20ms"];
    let common =
        ["--results", results.path().to_str().unwrap(), "-w", "10ms", "--drain-timeout", "200ms", "-c", "2"];
    let mut process = Process::start(Command::new(BINARY).args(common).args(flags).arg(&url));
    let (status, output, errors) = process.end();
    let folder = series_folder(results.path()).unwrap();
    let contents = contents(&folder);
    let Some(Finding::Search(found)) = contents.finding else { panic!("{output}\n{errors}") };
    // How fast this machine is now is not for a test to say; that the books and the exit code agree, is.
    let bracketed = found.highest_pass_per_s.is_some() && found.lowest_fail_per_s.is_some();
    assert_eq!(status.code(), Some(i32::from(!bracketed)), "{output}");
    assert_eq!(found.runs as usize, contents.runs.len());
    assert!(found.steps.len() >= 2 && output.contains("p50<20ms holds"), "{output}");
    for run in contents.runs.iter().filter_map(|run| run.file.as_ref()) {
        assert!(store::load(&folder.join(run)).unwrap().summary.rate_offered_per_s.is_some());
    }
    let again = Process::start(Command::new(BINARY).arg("--resume").arg(&folder)).end();
    assert_eq!((again.0.code(), again.1), (status.code(), output), "the same is found again, without a run");
    assert!(!again.2.contains("run "), "{}", again.2);
}

#[test]
fn flags_that_make_no_sense_together_are_refused_before_anything_is_begun() {
    let results = tempfile::tempdir().unwrap();
    for (flags, mend) in [
        (&["--find-max-rate", "p99>1ms"][..], "write p99<1ms"),
        (&["--find-max-rate", "p99<1ms", "--closed-loop"], "cannot be used with"),
        (&["--find-max-rate", "p99<1ms", "--runs", "2"], "cannot be used with"),
        (&["--find-max-rate", "p99.99<1ms", "--rate", "10"], "begin there or above"),
        (&["--find-max-rate", "p99<1ms", "ws://127.0.0.1:1/", "ws://127.0.0.1:2/"], "search it by itself"),
        (&["--find-max-rate", "p99<1ms", "--calibrate"], "cannot be used with"),
        (&["--runs", "2", "--calibrate"], "cannot be used with"),
        (&["--precision", "1%"], "--find-max-rate"),
        (&["--resume", "x"], "cannot be used with '--resume"),
    ] {
        let mut process =
            Process::start(Command::new(BINARY).arg("--results").arg(results.path()).args(flags));
        let (status, _, errors) = process.end();
        assert_eq!(status.code(), Some(2), "{flags:?}: {errors}");
        assert!(errors.contains(mend), "{flags:?}: {errors}");
    }
    assert_eq!(std::fs::read_dir(results.path()).unwrap().count(), 0);
}
