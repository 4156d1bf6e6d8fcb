//! The search for the highest rate as a series of runs: one run a trial, each on disk.
//!
//! Invariant: the search is told of runs only; so it takes the same way again when they are read from disk.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::condition::{Condition, Evidence};
use super::search::{Search, Spec, Trial};
use super::{Controller, End, Left, Planned, Request, SeriesError, Setup, Step};
use crate::measure::finding::Finding;
use crate::measure::result::Status;
use crate::report::Style;
use crate::report::series as report;

/// See the module's text.
pub(super) struct Searching {
    base: Setup,
    condition: Condition,
    search: Search,
    seed: u64,
    runs: u64,
    measured: u64,
    /// Runs in a row that measured nothing.
    failed: u32,
}

/// A time as a flag takes it.
pub(super) fn flag_of(time: Duration) -> Value {
    Value::String(humantime::format_duration(time).to_string().replace(' ', ""))
}

impl Searching {
    pub(super) fn new(request: &Request<'_>, condition: &Condition) -> Result<Searching, SeriesError> {
        let (flags, options) = (request.flags, request.options);
        if let [_, second, ..] = &options.url[..] {
            let cause = format!(
                "--find-max-rate searches one server's rate: leave {second} out, and search it by itself"
            );
            return Err(SeriesError::Flags(cause));
        }
        let rate_min = Search::rate_min_per_s(condition);
        if options.rate < rate_min {
            return Err(SeriesError::Flags(format!(
                "--rate {}: `{condition}` takes more than a minute a step to be judged below {rate_min:.0} messages a second: \
                 begin there or above, or search a lower percentile",
                options.rate
            )));
        }
        if flags.step < Duration::from_millis(1) {
            return Err(SeriesError::Flags(format!("--step {:?}: has to be 1ms or more", flags.step)));
        }
        let spec = Spec {
            condition: condition.clone(),
            start_per_s: options.rate,
            precision: flags.precision,
            step_s: flags.step.as_secs_f64(),
            clock: options.clock.into(),
        };
        let base = Setup::new(&request.run_config()?)?.with([("duration", flag_of(flags.step))])?;
        let (condition, seed) = (condition.clone(), options.seed);
        Ok(Searching { base, condition, search: Search::new(spec), seed, runs: 0, measured: 0, failed: 0 })
    }

    fn setup(&self, trial: &Trial) -> Result<Setup, SeriesError> {
        Ok(self.base.with([
            ("rate", trial.rate_per_s.into()),
            ("duration", flag_of(Duration::from_millis((trial.seconds * 1e3).round() as u64))),
            // The same arrivals over and over would tell the same over and over.
            ("seed", self.seed.wrapping_add(self.runs).into()),
        ])?)
    }
}

impl Controller for Searching {
    fn next_step(&mut self) -> Result<Option<Step>, SeriesError> {
        let Some(trial) = self.search.next_trial() else { return Ok(None) };
        let planned = Planned { label: Search::label(&trial), round: trial.run.into() };
        Ok(Some(Step { planned, setup: self.setup(&trial)? }))
    }

    fn on_end(&mut self, step: &Step, end: &End) {
        self.runs += 1;
        let sent_s = step.setup.time().as_secs_f64();
        match end {
            End::Measured(result) if result.outcome.status == Status::Completed => {
                (self.measured, self.failed) = (self.measured + 1, 0);
                self.search.on_result(&Evidence::of(result, &self.condition), sent_s);
            }
            End::Measured(result) => {
                let why = result.outcome.reason.as_deref().unwrap_or("the run did not end as planned");
                self.search.on_failure(why, sent_s);
            }
            // Overload may keep a server from accepting; twice in a row, or from the start, it is not there.
            End::Failed(why) if self.measured == 0 || self.failed > 0 => self.search.give_up(why),
            End::Failed(why) => {
                self.failed += 1;
                self.search.on_failure(why, 0.0);
            }
        }
    }

    fn left(&self) -> Left {
        let (runs, seconds) = self.search.left();
        let time = Duration::from_secs_f64(seconds) + self.base.options.warmup * runs as u32;
        Left { runs, is_guess: true, time }
    }

    fn finding(&self) -> Finding {
        Finding::Search(self.search.finding())
    }

    fn report(&self, folder: &Path, style: Style) -> String {
        let is_embedded = self.base.options.url.is_empty();
        let clock = self.base.options.clock.into();
        report::render_search(&self.search.finding(), is_embedded, clock, folder, style)
    }

    fn is_trusted(&self) -> bool {
        // It goes where runs fail on purpose: --strict is refused with it.
        false
    }

    fn is_success(&self) -> bool {
        let finding = self.search.finding();
        finding.ended_by.is_none()
            && finding.highest_pass_per_s.is_some()
            && finding.lowest_fail_per_s.is_some()
    }

    fn contenders(&self) -> Vec<(String, Setup)> {
        vec![(format!("the highest rate with {}", self.condition), self.base.clone())]
    }

    fn order(&self) -> Vec<Planned> {
        Vec::new()
    }
}
