//! `ringsock-load` with flags from files: `--config`, `--dry-run` and `--replay`.

#[path = "common/peer.rs"]
mod peer;

use std::path::Path;
use std::process::Command;

use peer::Process;
use ringsock::measure::result::RunResult;
use ringsock::measure::store;

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-load");

/// Exit code, standard output and standard error.
fn run(flags: &[&str]) -> (Option<i32>, String, String) {
    let (status, output, errors) = Process::start(Command::new(BINARY).args(flags)).end();
    (status.code(), output, errors)
}

/// The result that a run said it saved.
fn saved(output: &str) -> (String, RunResult) {
    let path =
        output.lines().find_map(|line| line.strip_prefix("saved ")).expect("a saved result").to_owned();
    let result = store::load(Path::new(&path)).unwrap();
    (path, result)
}

#[test]
fn the_plan_of_a_dry_run_fed_back_is_the_same_plan() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.toml");
    for flags in [
        &["--rate", "5k", "--text", "-c", "3"][..],
        &["--closed-loop", "--pipeline", "4", "--engine", "epoll", "--results", "elsewhere"],
    ] {
        let (code, plan, errors) = run(&[flags, &["--dry-run"]].concat());
        assert_eq!(code, Some(0), "{errors}");
        assert!(plan.contains("# on this machine: cpus = "), "{plan}");
        std::fs::write(&file, &plan).unwrap();
        let (code, again, errors) = run(&["--dry-run", "--config", file.to_str().unwrap()]);
        assert_eq!((code, again), (Some(0), plan), "{errors}");
    }
    assert!(!Path::new("elsewhere").exists(), "a dry run made a folder");
    std::fs::write(&file, "connections = 1\nratee = 5\n").unwrap();
    let (code, _, errors) = run(&["--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("plan.toml:2: ratee") && errors.contains("did you mean rate?"), "{errors}");
}

#[test]
fn a_result_can_be_repeated_and_typed_flags_win() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().to_str().unwrap();
    let short = ["--quiet", "--results", results];
    let load =
        ["-d", "200ms", "-w", "10ms", "--rate", "700", "-c", "2", "--arrivals", "fixed", "--payload", "9"];
    let (code, output, errors) = run(&[&load[..], &short].concat());
    assert_eq!(code, Some(0), "{errors}");
    let (path, first) = saved(&output);
    let (code, output, errors) = run(&[&["--replay", &path][..], &short].concat());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "nothing differs");
    let (again, second) = saved(&output);
    assert_eq!((&first.plan, &first.target.load_cpus), (&second.plan, &second.target.load_cpus));
    assert_ne!(path, again);
    let (code, output, errors) = run(&[&["--replay", &again, "--closed-loop"][..], &short].concat());
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("rate was left out: it conflicts with --closed-loop"), "{errors}");
    let third = saved(&output).1;
    assert_eq!((third.plan.payload_bytes, third.plan.connections), (9, 2));
    assert!(third.summary.rate_offered_per_s.is_none());
}

#[test]
fn what_was_decided_otherwise_then_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().to_str().unwrap();
    let (_, output, errors) = run(&[
        "--quiet",
        "--results",
        results,
        "-d",
        "100ms",
        "-w",
        "0s",
        "--rate",
        "500",
        "--engine",
        "epoll",
    ]);
    assert!(output.starts_with("saved "), "{errors}");
    let (_, mut result) = saved(&output);
    result.environment.kernel.release = Some("1.2.3".to_owned());
    result.target.load_cpus = Some("1023".to_owned());
    result.target.engine = "uring".to_owned();
    let path = store::save(folder.path(), &result).unwrap();
    let (code, _, errors) = run(&["--replay", path.to_str().unwrap(), "--dry-run"]);
    assert_eq!(code, Some(0), "{errors}");
    for expected in ["kernel: then 1.2.3, now ", "engine: then uring, now epoll", "cpus: then 1023, which"] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    result.config = None;
    let path = store::save(folder.path(), &result).unwrap();
    let (code, _, errors) = run(&["--replay", path.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("an older ringsock saved it; its command line was: "), "{errors}");
}
