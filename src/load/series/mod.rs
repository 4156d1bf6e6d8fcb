//! Several runs with one purpose: made one after the other, each on disk before the next begins, and continued where they
//! were interrupted.
//!
//! Invariants: a [`Controller`] decides what runs next from its plan and from the results so far, and from nothing else;
//! so a series is continued by showing it the results on disk. A run that measured nothing is an event, not the end.
//! Deliberately absent: how a run is made (a [`Runner`] knows), and what people read ([`crate::report::series`]).

mod condition;
mod curve;
mod live;
mod rounds;
mod search;
mod searching;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use serde_json::Value;

pub use condition::Condition;
pub use curve::Rates;
pub use live::{Live, Stopper};

use super::config::{self, ConfigError, Values};
use super::{LoadError, Options, OptionsError, Plan, SeriesFlags};
use crate::engine::Probe;
use crate::measure::environment::Environment;
use crate::measure::finding::Finding;
use crate::measure::manifest::{self, Contender, Ended, Header, Manifest, ManifestError, Planned};
use crate::measure::result::{self, RunResult, SeriesPart, Status, Tool};
use crate::measure::store;
use crate::report::export::{FORMATS, Format, write_beside};
use crate::report::{Style, text};
use curve::Curve;
use rounds::Rounds;
use searching::Searching;

/// Why a series was not made, or ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// Flags of the series that do not go together.
    #[error("{0}")]
    Flags(String),
    /// The flags of a run that do not go together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The flags of one of those compared.
    #[error("--contender \"{label}\": {cause}")]
    Contender {
        /// As typed.
        label: String,
        /// What is wrong.
        cause: String,
    },
    /// A run's flags are refused.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The manifest or a result cannot be written or read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The series was begun otherwise than it would be now.
    #[error("{} cannot be continued: {cause}; start a new series", .folder.display())]
    Changed {
        /// The series' folder.
        folder: PathBuf,
        /// What has changed.
        cause: String,
    },
}

impl SeriesError {
    /// Whether other flags would mend it.
    pub fn is_wrong_flags(&self) -> bool {
        match self {
            Self::Manifest(_) | Self::Changed { .. } => false,
            Self::Options(OptionsError::Engine(error)) => error.is_of_flags(),
            _ => true,
        }
    }
}

/// The flags of a run, without those of series and output.
#[derive(Debug, Parser)]
#[command(name = "ringsock-load")]
struct RunFlags {
    #[command(flatten)]
    load: Options,
}

/// One run: its flags, as they are typed and as they are kept.
#[derive(Debug, Clone)]
pub struct Setup {
    /// As a run takes them.
    pub options: Options,
    /// As its result keeps them.
    pub config: Values,
}

impl Setup {
    fn command() -> Command {
        RunFlags::command()
    }

    /// A run with the flags `config`.
    ///
    /// # Errors
    /// They do not go together.
    pub fn new(config: &Values) -> Result<Setup, ConfigError> {
        Setup::over(config, &Values::new())
    }

    /// A run with the flags `above` over those of `below`.
    fn over(below: &Values, above: &Values) -> Result<Setup, ConfigError> {
        let (matches, mut config) = config::combined(&Setup::command(), below, above, "the flags of a run")?;
        let of_a_run = |key: &String| {
            Setup::command()
                .get_arguments()
                .any(|arg| config::is_of_a_run(arg) && config::key_of(arg) == *key)
        };
        config.retain(|key, _| of_a_run(key));
        Ok(Setup { options: RunFlags::from_arg_matches(&matches)?.load, config })
    }

    /// This run with other values of some flags.
    ///
    /// # Errors
    /// They do not go together.
    pub fn with<const N: usize>(&self, changes: [(&str, Value); N]) -> Result<Setup, ConfigError> {
        let changes = changes.map(|(key, value)| (key.to_owned(), value));
        Setup::over(&self.config, &Values::from(changes))
    }

    /// How long it sends.
    fn time(&self) -> Duration {
        self.options.warmup + self.options.duration
    }
}

/// A run that is to be made.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its place in the series.
    pub planned: Planned,
    /// Its flags.
    pub setup: Setup,
}

/// How a run ended.
pub enum End {
    /// Something was measured.
    Measured(Box<RunResult>),
    /// Nothing was, and why.
    Failed(String),
}

/// What is still to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Left {
    /// Runs, this one included; where it depends on results, those that are expected.
    pub runs: u64,
    /// Whether there may be more or fewer.
    pub is_guess: bool,
    /// The time that they send.
    pub time: Duration,
}

/// Decides what runs next.
pub trait Controller {
    /// The next run; `None` if there is none. Every step is answered by one [`Controller::on_end`].
    fn next_step(&mut self) -> Result<Option<Step>, SeriesError>;
    /// How it ended.
    fn on_end(&mut self, step: &Step, end: &End);
    /// What is left, before the next run.
    fn left(&self) -> Left;
    /// What came of all runs so far.
    fn finding(&self) -> Finding;
    /// The same for people; `folder` is where the results are.
    fn report(&self, folder: &Path, style: Style) -> String;
    /// Whether the verdict on every run so far is TRUSTED.
    fn is_trusted(&self) -> bool;
    /// Whether it came to what it was made for, and no run went wrong.
    fn is_success(&self) -> bool;
    /// What is compared, with its flags.
    fn contenders(&self) -> Vec<(String, Setup)>;
    /// The runs in their order, as far as known beforehand.
    fn order(&self) -> Vec<Planned>;
}

/// Makes runs.
pub trait Runner {
    /// Makes one.
    ///
    /// # Errors
    /// Nothing was measured.
    fn run(&mut self, setup: &Setup) -> Result<RunResult, RunError>;
    /// Whether the user wants no more of them.
    fn is_stopped(&self) -> bool;
    /// Tells the user what is being done.
    fn say(&mut self, what: &str);
    /// Tells the user what went wrong, quiet or not; the series goes on.
    fn warn(&mut self, what: &str);
}

/// Whether every message of the run was sent and answered rightly, as far as the user let it go on. The exit code of a
/// single run and that of a series rest on it.
pub fn went_well(result: &RunResult) -> bool {
    let accounting = &result.accounting;
    let accounted_for =
        accounting.error_count() == 0 && accounting.outstanding == 0 && accounting.unsent == 0;
    let as_planned = matches!(result.outcome.status, Status::Completed | Status::Interrupted);
    as_planned && accounted_for && accounting.answered > 0
}

/// Why a run measured nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its flags are refused.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// It could not be made.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// How a series ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is nothing left to run.
    Complete,
    /// The user ended it.
    Interrupted,
}

/// What is asked for.
pub struct Request<'a> {
    /// The flags of the series.
    pub flags: &'a SeriesFlags,
    /// The flags of its runs.
    pub options: &'a Options,
    /// All flags in effect but those about output.
    pub config: Values,
    /// What the kernel's io_uring can do.
    pub probe: &'a Probe,
    /// As typed.
    pub command_line: Vec<String>,
}

/// What came of it.
pub struct Outcome {
    /// For people, ending in a newline.
    pub report: String,
    /// Where it is.
    pub folder: PathBuf,
    /// How it ended.
    pub ending: Ending,
    /// See [`Controller::is_success`].
    pub success: bool,
    /// Whether the verdict on every run is TRUSTED.
    pub trusted: bool,
}

impl Request<'_> {
    /// Whether more than one run is asked for.
    pub fn is_wanted(flags: &SeriesFlags, options: &Options) -> bool {
        let several = flags.runs != 1 || !flags.contender.is_empty() || options.url.len() > 1;
        several || flags.find_max_rate.is_some() || flags.curve.is_some() || flags.resume.is_some()
    }

    /// The folder of all results: of a series that is gone on with, the one that it was begun in.
    pub fn results(&self) -> &Path {
        let begun_in = self.flags.resume.as_deref().and_then(|folder| folder.parent()?.parent());
        begun_in.unwrap_or(&self.options.results)
    }

    /// What the flags ask for.
    ///
    /// # Errors
    /// They do not go together.
    pub fn plan(&self) -> Result<Box<dyn Controller>, SeriesError> {
        let flags = self.flags;
        self.check_scenario()?;
        let controller: Box<dyn Controller> = match (&flags.find_max_rate, &flags.curve) {
            (Some(condition), _) => Box::new(Searching::new(self, condition)?),
            (None, Some(rates)) => Box::new(Curve::new(self, rates)?),
            (None, None) => Box::new(Rounds::new(self)?),
        };
        for (_, setup) in controller.contenders() {
            setup.options.validate(self.probe)?;
        }
        Ok(controller)
    }

    /// A search and a curve raise --rate, and a curve finds its capacity by a closed loop: not every scenario has these.
    fn check_scenario(&self) -> Result<(), SeriesError> {
        let scenario = &*self.options.scenario.scenario;
        let (flag, has_none) = match (&self.flags.find_max_rate, &self.flags.curve) {
            (Some(_), _) => ("--find-max-rate", ["push", "burst", "broadcast", "rooms", ""]),
            (None, Some(_)) => ("--curve", ["push", "burst", "broadcast", "rooms", "churn"]),
            (None, None) => return Ok(()),
        };
        if has_none.contains(&scenario) {
            return Err(SeriesError::Flags(format!(
                "{flag} does not go with --scenario {scenario}: repeat runs at rates of your choice, as with --contender '--rate 100'"
            )));
        }
        Ok(())
    }

    /// The runs as comments of a file of flags.
    pub fn describe(&self, controller: &dyn Controller) -> String {
        let (left, order) = (controller.left(), controller.order());
        let about = if left.is_guess { "about " } else { "" };
        let mut lines = format!("\n# {about}{} runs, {} or a little more\n", left.runs, span(left.time));
        for (index, Planned { label, round }) in order.iter().enumerate() {
            lines.push_str(&format!("# {}. {}, round {}\n", index + 1, text::printable(label), round + 1));
        }
        lines
    }

    /// The flags of a run, of those of the series.
    fn run_config(&self) -> Result<Values, ConfigError> {
        let command = Setup::command();
        let known: Vec<String> =
            command.get_arguments().filter(|arg| config::is_of_a_run(arg)).map(config::key_of).collect();
        let values = self.config.iter().filter(|(key, _)| known.contains(key));
        Ok(values.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Makes the runs of `controller`: those that are not on disk, where a series is continued.
    ///
    /// # Errors
    /// The series cannot be continued, or its manifest not be written.
    pub fn execute(
        &self,
        controller: &mut dyn Controller,
        runner: &mut dyn Runner,
        style: Style,
    ) -> Result<Outcome, SeriesError> {
        let mut header = self.header(controller)?;
        let mut exports = self.options.export.clone();
        let (mut manifest, past, found) = match &self.flags.resume {
            None => (Manifest::begin(&self.options.results, &mut header)?, Vec::new(), None),
            Some(folder) => {
                let (manifest, contents) = Manifest::resume::<Finding>(folder)?;
                check_unchanged(folder, &contents.header, &header)?;
                if exports.is_empty() {
                    let names = &contents.header.export;
                    exports
                        .extend(FORMATS.iter().filter(|format| names.iter().any(|name| name == format.name)));
                }
                (manifest, contents.runs, contents.finding)
            }
        };
        let ending = drive(controller, &mut manifest, past, runner, &exports)?;
        let finding = controller.finding();
        if ending == Ending::Complete && found.as_ref() != Some(&finding) {
            manifest.found(&finding)?;
        }
        let folder = manifest.folder().to_owned();
        let report = controller.report(&folder, style);
        Ok(Outcome {
            report,
            folder,
            ending,
            success: controller.is_success(),
            trusted: controller.is_trusted(),
        })
    }

    fn header(&self, controller: &dyn Controller) -> Result<Header, SeriesError> {
        let contender = |(label, setup): (String, Setup)| {
            let chosen = chosen_of(&setup.options.validate(self.probe)?);
            Ok(Contender { label, config: setup.config, chosen })
        };
        Ok(Header {
            schema: manifest::SCHEMA.to_owned(),
            name: String::new(),
            created: result::utc_now(),
            tool: Tool::this("ringsock-load"),
            command_line: self.command_line.clone(),
            kernel: Environment::capture().kernel,
            config: self.config.clone(),
            export: self.options.export.iter().map(|format| format.name.to_owned()).collect(),
            contenders: controller
                .contenders()
                .into_iter()
                .map(contender)
                .collect::<Result<_, SeriesError>>()?,
            order: controller.order(),
        })
    }
}

/// What a plan's flags left open and this machine decided.
fn chosen_of(plan: &Plan) -> BTreeMap<String, String> {
    let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut chosen = BTreeMap::from([
        ("engine".to_owned(), plan.engine.kind.name().to_owned()),
        ("cpus".to_owned(), list(&plan.cpus)),
    ]);
    if plan.endpoint.is_none() {
        chosen.insert("server-engine".to_owned(), plan.server_engine.kind.name().to_owned());
        chosen.insert("server-cpus".to_owned(), list(&plan.server_cpus));
    }
    chosen
}

/// Runs of one series are compared: they have to be made under the same conditions.
fn check_unchanged(folder: &Path, then: &Header, now: &Header) -> Result<(), SeriesError> {
    let refuse = |cause: String| Err(SeriesError::Changed { folder: folder.to_owned(), cause });
    let kernel = |header: &Header| {
        let known = |text: &Option<String>| text.clone().unwrap_or("unknown".to_owned());
        format!("{} ({})", known(&header.kernel.release), known(&header.kernel.version))
    };
    if kernel(then) != kernel(now) {
        return refuse(format!("it was begun on Linux {}, and this is {}", kernel(then), kernel(now)));
    }
    if then.tool != now.tool {
        let version = |tool: &Tool| {
            let revision = tool.revision.iter().map(|revision| format!(", revision {revision}"));
            tool.version.clone() + &revision.collect::<String>()
        };
        return refuse(format!(
            "it was begun by ringsock {}, and this is {}",
            version(&then.tool),
            version(&now.tool)
        ));
    }
    for (then, now) in then.contenders.iter().zip(&now.contenders) {
        for (key, value) in &then.chosen {
            let here = now.chosen.get(key).cloned().unwrap_or_default();
            if here != *value {
                return refuse(format!("{}: {key} was {value}, and is {here} now", then.label));
            }
        }
    }
    if then.contenders != now.contenders || then.order != now.order {
        return refuse("its manifest plans other runs than its flags ask for".to_owned());
    }
    Ok(())
}

/// Makes the controller's runs. `past` are those on disk, which are shown to it instead of being made again.
///
/// # Errors
/// A result or the manifest cannot be written or read.
fn drive(
    controller: &mut dyn Controller,
    manifest: &mut Manifest,
    past: Vec<Ended>,
    runner: &mut dyn Runner,
    exports: &[Format],
) -> Result<Ending, SeriesError> {
    let mut past = past.into_iter().filter(|run| !run.interrupted);
    let mut pace = Pace::default();
    loop {
        let left = controller.left();
        let Some(step) = controller.next_step()? else { return Ok(Ending::Complete) };
        if let Some(run) = past.next() {
            controller.on_end(&step, &recall(manifest.folder(), &step, run)?);
            pace.made += 1;
            continue;
        }
        if runner.is_stopped() {
            return Ok(Ending::Interrupted);
        }
        runner.say(&pace.line(&step, left));
        let begun = Instant::now();
        let end = make(&step, manifest, runner, exports)?;
        pace.add(begun.elapsed(), step.setup.time());
        match end {
            Some(end) => controller.on_end(&step, &end),
            None => return Ok(Ending::Interrupted),
        }
    }
}

/// Makes one run and writes it down; `None` if the user ended it.
fn make(
    step: &Step,
    manifest: &mut Manifest,
    runner: &mut dyn Runner,
    exports: &[Format],
) -> Result<Option<End>, SeriesError> {
    let Planned { label, round } = step.planned.clone();
    let name = manifest.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut ended = Ended { label: label.clone(), round, file: None, failed: None, interrupted: false };
    let end = match runner.run(&step.setup) {
        Ok(mut result) => {
            result.series = Some(SeriesPart { name, label, round });
            result.config = Some(step.setup.config.clone());
            ended.interrupted = result.outcome.status == Status::Interrupted;
            ended.file = Some(manifest.save(&result)?);
            End::Measured(Box::new(result))
        }
        Err(RunError::Load(LoadError::InterruptedEarly)) => return Ok(None),
        Err(error) => {
            runner.say(&format!("failed: {error}"));
            ended.failed = Some(error.to_string());
            End::Failed(error.to_string())
        }
    };
    let (interrupted, file) = (ended.interrupted, ended.file.clone());
    // First, so that a run which is on disk is never made again; what an export lacks can be made of its result.
    manifest.ended(ended)?;
    if let (End::Measured(result), Some(file)) = (&end, file)
        && let Err(error) = write_beside(&manifest.folder().join(&file), result, exports)
    {
        runner.warn(&format!("{file} is saved, but not exported: {error}"));
    }
    Ok((!interrupted).then_some(end))
}

/// A run that is on disk.
fn recall(folder: &Path, step: &Step, run: Ended) -> Result<End, SeriesError> {
    if (&run.label, run.round) != (&step.planned.label, step.planned.round) {
        let cause = format!(
            "its manifest has {}, round {} where {}, round {} was to come",
            run.label, run.round, step.planned.label, step.planned.round
        );
        return Err(SeriesError::Changed { folder: folder.to_owned(), cause });
    }
    match run.file {
        Some(file) => {
            let result = store::load(&folder.join(file)).map_err(ManifestError::from)?;
            Ok(End::Measured(Box::new(result)))
        }
        None => Ok(End::Failed(run.failed.unwrap_or("for an unknown reason".to_owned()))),
    }
}

/// How far a series is, and how fast it goes.
#[derive(Default)]
struct Pace {
    /// Runs that have ended, those of an earlier session as well.
    made: u64,
    /// Of those of this session: what a run takes beside its sending.
    overhead: Duration,
    timed: u32,
}

impl Pace {
    fn add(&mut self, took: Duration, sending: Duration) {
        self.overhead += took.saturating_sub(sending);
        self.timed += 1;
        self.made += 1;
    }

    fn line(&self, step: &Step, left: Left) -> String {
        let overhead = self.overhead.checked_div(self.timed).unwrap_or(Duration::ZERO);
        let time = left.time + overhead * left.runs as u32;
        let about = if left.is_guess { "about " } else { "" };
        let total = self.made + left.runs;
        let round = match step.planned.round {
            0 => String::new(),
            round => format!(", round {}", round + 1),
        };
        let label = text::printable(&step.planned.label);
        format!("run {} of {about}{total}: {label}{round}; about {} left", self.made + 1, span(time))
    }
}

/// A time as people say it: `40 s`, `12 min`, `3 h 5 min`.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=90 => format!("{} s", seconds.max(1)),
        seconds @ 91..=5400 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests;
