//! Runs of `ringsock-load` that tests make: short unless they say otherwise, with whatever they saved.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::Path;
use std::process::Command;

use ringsock::measure::result::{RunResult, Status};
use ringsock::measure::store;

use crate::peer::Process;

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-load");

/// What a run came to.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
    pub(crate) results: Vec<RunResult>,
}

pub(crate) fn start(results: &Path, flags: &[&str]) -> Process {
    let short = ["--duration", "300ms", "--warmup", "50ms", "--drain-timeout", "500ms"];
    let given = |flag: &str| flags.contains(&flag);
    let defaults = short.chunks(2).filter(|pair| !given(pair[0])).flatten();
    Process::start(Command::new(BINARY).args(defaults).arg("--results").arg(results).args(flags))
}

pub(crate) fn end(mut process: Process, results: &Path) -> Ended {
    let (status, output, errors) = process.end();
    let mut files = Vec::new();
    for release in std::fs::read_dir(results).into_iter().flatten() {
        for file in std::fs::read_dir(release.unwrap().path()).unwrap() {
            files.push(file.unwrap().path());
        }
    }
    files.sort();
    let results: Vec<RunResult> = files.iter().map(|file| store::load(file).unwrap()).collect();
    for result in &results {
        result.accounting.check().unwrap();
    }
    Ended { code: status.code(), output, errors, results }
}

pub(crate) fn run(flags: &[&str]) -> Ended {
    let results = tempfile::tempdir().unwrap();
    let process = start(results.path(), flags);
    end(process, results.path())
}

impl Ended {
    /// The one result, of a run that ended so.
    pub(crate) fn result(&self, code: i32, status: Status) -> &RunResult {
        assert_eq!(self.code, Some(code), "{}\n{}", self.output, self.errors);
        let [result] = &self.results[..] else { panic!("{} results", self.results.len()) };
        assert_eq!(result.outcome.status, status, "{:?}", result.outcome);
        result
    }
}
