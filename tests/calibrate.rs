//! `ringsock-load --calibrate`: what it finds, saves and cites. How good the numbers are is this machine's affair.

#[path = "common/peer.rs"]
mod peer;

use std::path::Path;
use std::process::Command;

use peer::Process;
use ringsock::measure::calibration::Calibration;
use ringsock::measure::store;

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-load");

fn load(results: &Path, flags: &[&str]) -> (Option<i32>, String, String) {
    let (status, output, errors) =
        Process::start(Command::new(BINARY).arg("--results").arg(results).args(flags)).end();
    (status.code(), output, errors)
}

fn saved(output: &str) -> &Path {
    let line = output.lines().find_map(|line| line.strip_prefix("saved "));
    Path::new(line.unwrap_or_else(|| panic!("{output}")))
}

#[test]
fn a_calibration_is_saved_and_cited_by_the_runs_that_it_speaks_for() {
    let results = tempfile::tempdir().unwrap();
    let (code, output, errors) = load(results.path(), &["--calibrate=50ms", "-c", "4"]);
    let text = std::fs::read_to_string(saved(&output)).unwrap();
    assert!(text.starts_with("{\n  \"schema\": \"ringsock-calibration/1\","), "{text}");
    let calibration: Calibration = serde_json::from_str(&text).unwrap();
    // A machine that is busy otherwise may keep no rate: that is then the finding.
    assert_eq!(code, Some(if calibration.rate_max_per_s.is_some() { 0 } else { 1 }), "{errors}");
    assert_eq!(calibration.at_half.is_some(), calibration.rate_max_per_s.is_some());
    assert_eq!(calibration.overhead.iter().map(|of| of.pipeline).collect::<Vec<_>>(), [1, 64]);
    assert!(calibration.overhead.iter().all(|of| of.loop_ns > 0.0 && of.ratio > 0.0), "{text}");
    assert!(!calibration.precision.is_empty() && !calibration.steps.is_empty());
    // It passed twice, and nothing faster did.
    let passes =
        |rate| calibration.steps.iter().filter(|step| step.passed && step.rate_per_s == rate).count();
    let twice = calibration.steps.iter().map(|step| step.rate_per_s).filter(|&rate| passes(rate) == 2);
    assert_eq!(twice.reduce(f64::max), calibration.rate_max_per_s);
    assert!(output.contains("of a loop that only moves the same bytes"), "{output}");

    let short = ["--duration", "100ms", "--warmup", "0s", "--rate", "1000", "-c", "2"];
    let (_, output, _) = load(results.path(), &short);
    let cited = store::load(saved(&output)).unwrap().calibration.expect("it speaks for this run");
    assert_eq!(
        (cited.created, cited.rate_max_per_s),
        (calibration.created, calibration.rate_max_per_s.unwrap_or(0.0))
    );
    let (_, output, _) = load(results.path(), &[&short[..], &["--payload", "65"]].concat());
    assert_eq!(store::load(saved(&output)).unwrap().calibration, None);
}

#[test]
fn a_calibration_measures_no_server_of_others_and_has_bounds() {
    let results = tempfile::tempdir().unwrap();
    for (flags, cause) in [
        (&["--calibrate", "ws://127.0.0.1:9/"][..], "cannot be used with"),
        (&["--calibrate=1ms"], "a step has to take 50ms to 1m"),
    ] {
        let (code, _, errors) = load(results.path(), flags);
        assert_eq!(code, Some(2), "{flags:?}");
        assert!(errors.contains(cause), "{errors}");
    }
}
