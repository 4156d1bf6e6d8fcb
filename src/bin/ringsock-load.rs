//! `ringsock-load`: flags in, one run, exit code out.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Command, CommandFactory, FromArgMatches, Parser};
use ringsock::engine::{EngineError, Probe};
use ringsock::load::config::{self, ConfigError, Settled};
use ringsock::load::heading;
use ringsock::load::series::{Ending, Live, Request, SeriesError, went_well};
use ringsock::load::{
    self, LoadError, Options, OptionsError, Plan, PlanFlags, Run, SeriesFlags, restore_terminal,
};
use ringsock::measure::result::RunResult;
use ringsock::measure::{calibration, store};
use ringsock::report::export::write_beside;
use ringsock::report::{self, Style, terminal};
use ringsock::scenario;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `--strict` makes of a result that is not TRUSTED.
const NOT_TRUSTED: u8 = 3;
/// What was asked for by name is not to be had on this kernel.
const UNAVAILABLE: u8 = 4;

/// Load generator for WebSocket echo servers: latency histograms, free of coordinated omission.
///
/// Without a URL it starts a ringsock server in this process and measures that. Ctrl-C ends the measurement
/// early, and what was measured is still reported and saved; a second one exits at once.
///
/// Every result carries a verdict: TRUSTED, SUSPECT (something that could have bent the numbers was seen) or INVALID (they do
/// not say what they seem to), with a reason for each check that failed.
///
/// Exit code: 0 if every message was sent and answered rightly, of a series in every run (of a curve, but for overload; of a
/// search for the highest rate, if one rate passed and one failed); 1 if not, or if nothing could be measured, or a series was
/// interrupted; 2 for a wrong flag; 3 with --strict, where something was measured and the verdict is not TRUSTED, of a series
/// on every run that measured something; 4 where an engine or feature that was asked for by name is not to be had on this kernel.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Flags {
    #[command(flatten)]
    load: Options,
    #[command(flatten)]
    series: SeriesFlags,
    #[command(flatten)]
    plan: PlanFlags,

    /// Describe every scenario, what it needs of the server, what it reports, and its flags, and exit
    #[arg(long, exclusive = true)]
    list_scenarios: bool,
}

const EXAMPLES: &str = "\
Response time counts from when the schedule intended a message to be sent; service time from when it was.

Examples:
  ringsock-load                                              server and load in one process
  ringsock-load ws://127.0.0.1:9001/ --rate 50000 --cpus 1   open loop, Poisson arrivals
  ringsock-load ws://127.0.0.1:9001/ --closed-loop --pipeline 64    peak throughput
  ringsock-load ws://127.0.0.1:8080/chat --text --payload 1KiB --arrivals fixed --duration 1m
  ringsock-load --payload zipf:16..64KiB --fragments 2       sizes drawn by --seed; --list-scenarios has more to play:
  ringsock-load --scenario churn --rate 500                  connect, upgrade, a message, close, 500 times a second
  ringsock-load --scenario idle -c 10000 ws://127.0.0.1:9001/ --server-pid 4711     what a silent connection costs
  ringsock-load --rate 50k --dry-run > bench.toml            the flags in effect, as a file for --config
  ringsock-load --replay results/A.json                      the same run again
  ringsock-load --runs 10 ws://127.0.0.1:9001/ ws://127.0.0.1:9002/         two servers in turn, compared
  ringsock-load --runs 10 --contender '' --contender '--server-engine epoll'
  ringsock-load ws://127.0.0.1:9001/ --find-max-rate 'p99<1ms'              the highest rate that keeps this
  ringsock-load ws://127.0.0.1:9001/ --curve                latency at 10 to 150 % of the capacity, and the recovery
  ringsock-load --resume results/6.1.0/20261122T080433Z-series              where Ctrl-C or a crash ended it
  ringsock-load --export hlog,csv                            the result for other tools, too
  ringsock-load --strict --duration 30s || exit              in a script: go on with numbers to be trusted only
  ringsock-compare results/A.json results/B.json             two runs side by side";

fn main() -> ExitCode {
    let command = Flags::command();
    let settled = match config::settle(&command, std::env::args_os().collect()) {
        Ok(settled) => settled,
        Err(ConfigError::Flags(error)) => error.exit(),
        Err(error) => return refuse(&error),
    };
    let flags = Flags::from_arg_matches(&settled.matches).unwrap_or_else(|error| error.exit());
    match run(&flags, &command, &settled) {
        Ok(code) => code,
        Err(error) => {
            report::tell(format_args!("ringsock-load: {}", report::explain(&*error)));
            if is_of_kernel(&error) { ExitCode::from(UNAVAILABLE) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether it comes of what this kernel has not, and of nothing that went wrong.
fn is_of_kernel(error: &anyhow::Error) -> bool {
    let of_series = error.downcast_ref().and_then(|error| match error {
        SeriesError::Options(OptionsError::Engine(refusal)) => Some(refusal),
        _ => None,
    });
    let of_run = error.downcast_ref().and_then(|error| match error {
        LoadError::Engine(refusal) => Some(refusal),
        _ => None,
    });
    error.downcast_ref().or(of_series).or(of_run).is_some_and(EngineError::is_of_kernel)
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    report::tell(format_args!("ringsock-load: {error}"));
    ExitCode::from(2)
}

fn run(flags: &Flags, command: &Command, settled: &Settled) -> anyhow::Result<ExitCode> {
    if flags.list_scenarios {
        report::print(&report::text::labelled(&scenario::list())).context("standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let probe = Probe::of_this_kernel();
    if Request::is_wanted(&flags.series, &flags.load) {
        return run_series(flags, command, settled, &probe);
    }
    let plan = match flags.load.validate(&probe) {
        Ok(plan) => plan,
        Err(OptionsError::Engine(refusal)) if !refusal.is_of_flags() => {
            return Err(refusal.into());
        }
        Err(error) => return Ok(refuse(&error)),
    };
    say_notes(settled, Some(&plan));
    if flags.plan.dry_run {
        let values = config::effective(command, &settled.matches, |_| true);
        report::print(&config::render(command, &values, &config::chosen(&plan, &values)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(agent) = &flags.series.autobahn {
        return hold_autobahn(flags, &plan, agent);
    }
    store::prepare(&flags.load.results)?;
    if let Some(step) = flags.load.calibrate {
        return calibrate(flags, &plan, step);
    }
    let run = Run::new(plan);
    let interrupter = run.interrupter();
    watch_signals(move || interrupter.interrupt())?;
    let mut result = run.execute(std::env::args().collect(), flags.load.verbosity())?;
    result.config = Some(config::effective(command, &settled.matches, config::is_of_a_run));
    // Saved first: a report that cannot be printed must not cost the result.
    let saved = store::save(&flags.load.results, &result);
    if !flags.load.quiet {
        report::print(&terminal::render(&result, Style::of_stdout())).context("standard output")?;
    }
    let saved = saved?;
    report::print(&format!("saved {}\n", saved.display())).context("standard output")?;
    for path in write_beside(&saved, &result, &flags.load.export)? {
        report::print(&format!("exported {}\n", path.display())).context("standard output")?;
    }
    Ok(exit_code(&result, flags.load.strict))
}

/// Several runs with one purpose.
fn run_series(
    flags: &Flags,
    command: &Command,
    settled: &Settled,
    probe: &Probe,
) -> anyhow::Result<ExitCode> {
    let request = Request {
        flags: &flags.series,
        options: &flags.load,
        config: config::effective(command, &settled.matches, |arg| {
            arg.get_help_heading() != Some(heading::OUTPUT) && arg.get_id() != "resume"
        }),
        probe,
        command_line: std::env::args().collect(),
    };
    let mut controller = match request.plan() {
        Ok(controller) => controller,
        Err(error) => return refuse_series(error),
    };
    say_notes(settled, None);
    if flags.plan.dry_run {
        let values = config::effective(command, &settled.matches, |_| true);
        report::print(&(config::render(command, &values, &[]) + &request.describe(&*controller)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (command_line, results) = (request.command_line.clone(), request.results().to_owned());
    let mut live = Live::new(probe.clone(), command_line, flags.load.verbosity(), results);
    let stopper = live.stopper();
    watch_signals(move || stopper.stop())?;
    let outcome = match request.execute(&mut *controller, &mut live, Style::of_stdout()) {
        Ok(outcome) => outcome,
        Err(error) => return refuse_series(error),
    };
    let saved = || format!("saved {}\n", outcome.folder.display());
    report::print(&if flags.load.quiet { saved() } else { outcome.report.clone() })
        .context("standard output")?;
    let is_complete = outcome.ending == Ending::Complete;
    if !is_complete {
        let folder = outcome.folder.display();
        report::tell(format_args!("ringsock-load: interrupted; go on with: ringsock-load --resume {folder}"));
    }
    Ok(match outcome.success && is_complete {
        _ if flags.load.strict && !outcome.trusted => ExitCode::from(NOT_TRUSTED),
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn refuse_series(error: SeriesError) -> anyhow::Result<ExitCode> {
    if error.is_wrong_flags() { Ok(refuse(&error)) } else { Err(error.into()) }
}

fn calibrate(flags: &Flags, plan: &Plan, step: Duration) -> anyhow::Result<ExitCode> {
    let say = |what: &str| {
        if !flags.load.quiet {
            report::tell(what);
        }
    };
    let found = load::calibrate::calibrate(plan, step, say)?;
    let saved = calibration::save(&flags.load.results, &found);
    if !flags.load.quiet {
        let text = report::calibration::render(&found, Style::of_stdout());
        report::print(&text).context("standard output")?;
    }
    report::print(&format!("saved {}\n", saved?.display())).context("standard output")?;
    Ok(if found.rate_max_per_s.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Success if every case of the suite could be held; which of them passed, the suite knows.
fn hold_autobahn(flags: &Flags, plan: &Plan, agent: &str) -> anyhow::Result<ExitCode> {
    if let Err(error) = load::autobahn::check(plan) {
        return Ok(refuse(&error));
    }
    let tried = load::autobahn::hold(plan, agent)?;
    for failure in &tried.failures {
        report::tell(format_args!("ringsock-load: {failure}"));
    }
    if !flags.load.quiet {
        let (cases, failed) = (tried.cases, tried.failures.len());
        report::print(&format!("{cases} cases as {agent} over {}, {failed} not held\n", plan.engine))
            .context("standard output")?;
    }
    Ok(if tried.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What of a file was left out, and what is not as it was.
fn say_notes(settled: &Settled, plan: Option<&Plan>) {
    let differences = settled.replayed.as_ref().zip(plan).map(|(then, plan)| config::differences(then, plan));
    for note in settled.notes.iter().chain(differences.iter().flatten()) {
        report::tell(format_args!("note: {note}"));
    }
}

/// Success only if all went as planned; if `strict`, only if the result can also be trusted.
fn exit_code(result: &RunResult, strict: bool) -> ExitCode {
    if !report::verdict::of(result).satisfies(strict) {
        return ExitCode::from(NOT_TRUSTED);
    }
    if went_well(result) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first signal has `end` called; the second ends this process.
fn watch_signals(end: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    std::thread::spawn(move || {
        let mut arrived = signals.forever();
        arrived.next();
        end();
        let signal = arrived.next().unwrap_or(SIGTERM);
        restore_terminal();
        std::process::exit(128 + signal);
    });
    Ok(())
}
