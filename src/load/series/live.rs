//! Runs as they are really made, one after the other, until the user ends them.
//!
//! Invariant: an interruption ends the run under way early and keeps the next one from beginning, whenever it comes.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{RunError, Runner, Setup};
use crate::engine::Probe;
use crate::load::{Interrupter, Options, Run, Verbosity};
use crate::measure::result::RunResult;
use crate::report;

/// Ends a series early; what was measured until then stands.
#[derive(Clone, Default)]
pub struct Stopper(Arc<Stop>);

#[derive(Default)]
struct Stop {
    stopped: AtomicBool,
    current: Mutex<Option<Interrupter>>,
}

impl Stopper {
    /// Ends the run under way now, and begins no other.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        if let Ok(current) = self.0.current.lock() {
            current.iter().for_each(Interrupter::interrupt);
        }
    }

    fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// From now on `run` is the one to be ended.
    fn watch(&self, run: &Run) {
        if let Ok(mut current) = self.0.current.lock() {
            *current = Some(run.interrupter());
        }
        // It may have come in between.
        if self.is_stopped() {
            run.interrupter().interrupt();
        }
    }
}

/// See the module's text.
pub struct Live {
    probe: Probe,
    command_line: Vec<String>,
    verbosity: Verbosity,
    results: PathBuf,
    stopper: Stopper,
}

impl Live {
    /// Makes runs on this machine; `command_line` is for the record, and calibrations are looked up in `results`.
    pub fn new(probe: Probe, command_line: Vec<String>, verbosity: Verbosity, results: PathBuf) -> Self {
        Self { probe, command_line, verbosity, results, stopper: Stopper::default() }
    }

    /// What ends them early.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }
}

impl Runner for Live {
    fn run(&mut self, setup: &Setup) -> Result<RunResult, RunError> {
        // Of the flags of a run, where results are is none.
        let options = Options { results: self.results.clone(), ..setup.options.clone() };
        let run = Run::new(options.validate(&self.probe)?);
        self.stopper.watch(&run);
        // A bar goes away; lines of every second of every run would bury what the series says.
        let verbosity = if std::io::stderr().is_terminal() { self.verbosity } else { Verbosity::Quiet };
        Ok(run.execute(self.command_line.clone(), verbosity)?)
    }

    fn is_stopped(&self) -> bool {
        self.stopper.is_stopped()
    }

    fn say(&mut self, what: &str) {
        if self.verbosity != Verbosity::Quiet {
            report::tell(what);
        }
    }

    fn warn(&mut self, what: &str) {
        report::tell(format_args!("ringsock-load: {what}"));
    }
}
