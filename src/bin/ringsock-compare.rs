//! `ringsock-compare`: results against each other, or in other tools' formats. Flags in, one call, exit code out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};
use ringsock::compare::assemble::{AssembleError, Request, assemble};
use ringsock::compare::collect::{CollectError, collect};
use ringsock::compare::gate::{self, Check, Condition, Outcome};
use ringsock::compare::key;
use ringsock::compare::layout::LayoutError;
use ringsock::compare::model::{Column, Comparison};
use ringsock::measure::environment::Clock;
use ringsock::measure::store::{load, publish};
use ringsock::report::export::{Format, write_beside};
use ringsock::report::{self, Style, compare, comparison};

/// A condition of --fail-if holds, for sure.
const REGRESSION: u8 = 1;
/// A file or a flag is no good.
const BAD_INPUT: u8 = 2;
/// Nothing to compare, or not what a condition asks for.
const NO_DATA: u8 = 3;
/// What there is may not be believed.
const UNTRUSTED: u8 = 4;
/// A condition can be neither confirmed nor ruled out.
const UNDECIDED: u8 = 5;

/// Compares saved results: of kernels, engines, or whatever else they differ in. Every cell of the comparison is one workload under one
/// set of conditions; every difference has its 95 % interval, and says whether chance could have made it.
///
/// Two result files and no other flag are shown side by side instead, whole, with all that differs between them.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = AFTER_HELP)]
#[command(
    override_usage = "ringsock-compare [--by <KEY>] [--baseline <LABEL>] [--format <FORMAT>] <PATH>...\n       \
                            ringsock-compare <RESULT> <RESULT>\n       \
                            ringsock-compare --export <FORMAT> [--beside] <RESULT>..."
)]
struct Flags {
    /// Results, or directories that are searched for results to any depth. Two files beside each other may also be what
    /// another tool measured: the output of wrk2 -L, a .hgrm or a .hlog
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What to compare [default: the kernel if it differs, else whatever alone does]
    #[arg(long, value_name = "KEY", value_parser = key_parser())]
    by: Option<usize>,
    /// The kernel (or engine, …) that the others are compared with, as it stands in the table [default: the first that
    /// has results wherever any has]
    #[arg(long, value_name = "LABEL")]
    baseline: Option<String>,
    /// Of results in real time and such in instructions (those of guests without KVM), which cannot be compared, take these
    #[arg(long, value_name = "CLOCK", value_enum)]
    clock: Option<ClockFlag>,
    /// How the comparison is written [default: terminal]
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<comparison::Format>,
    /// Write it to this file, which may not be there yet, rather than to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Fail if, in any cell and group, the metric changed by more than this against the baseline, as p99>+5% or rate<-3%, for sure: if
    /// all of the 95 % interval lies beyond. May be given several times
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Condition>,
    /// What follows where the interval lies across a bound, or there is none: with fail, exit status 5
    #[arg(long, value_name = "OUTCOME", value_enum, default_value_t = Undecided::Pass, requires = "fail_if")]
    undecided: Undecided,
    /// Exit with 4 if any run that counts is SUSPECT
    #[arg(long)]
    strict: bool,
    /// Compare nothing, but write each result to standard output in this format; with --beside, several formats
    /// may be given, with commas between
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        value_delimiter = ',',
        conflicts_with_all = ["by", "baseline", "clock", "format", "output", "fail_if", "strict"]
    )]
    export: Vec<Format>,
    /// Write exports to files beside the results instead, and print their names
    #[arg(long, requires = "export")]
    beside: bool,
}

/// Whose results are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClockFlag {
    /// Those in time
    Real,
    /// Those in instructions
    Instructions,
}

/// What follows from a condition that cannot be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Undecided {
    /// Nothing
    Pass,
    /// Exit status 5
    Fail,
}

const AFTER_HELP: &str = "\
Examples:
  Two runs, whole, with everything that differs between their machines and plans:
    ringsock-compare results/6.1.0/20261122T080433Z-echo.json \\
      results/6.12.1/20261122T091502Z-echo.json

  All kernels below a directory, the oldest as the baseline:
    ringsock-compare results/

  The same as a page for a browser, with charts:
    ringsock-compare --format html --output report.html results/

  The engines of one kernel, epoll as the baseline, as Markdown:
    ringsock-compare --by engine --baseline epoll --format markdown results/6.12.1/

  A gate: exit status 1 if any p99 rose, or any rate fell, by more than 5 % for sure:
    ringsock-compare --fail-if 'p99>+5%' --fail-if 'rate<-5%' old/ new/

  A result beside what wrk2 measured:
    wrk -t1 -c64 -d30s -R20000 -L http://127.0.0.1:8080/ > wrk2.txt
    ringsock-compare wrk2.txt results/6.12.1/20261122T091502Z-echo.json

  All runs of two kernels, by Go's benchstat:
    ringsock-compare --format gobench results/ > runs.bench
    benchstat -col kernel runs.bench

What to know:
  The boot is what chance draws: ten runs in one boot are one boot. Without two boots of each group there are no
  intervals, and with two or three no difference can be told from chance; the table says how many would do.
  ~ is no proof that nothing changed: beside it stands the smallest change that would have been seen.
  INVALID runs and those that ended early never count; SUSPECT ones do, and mark their column.
  Different workloads are never compared. Other differences are listed: what follows from the kernel is expected,
  what may be the reason for a difference is a confounder.
  All the differences of one metric share its 5 % of false alarms (Holm); --fail-if goes by each interval alone,
  and needs four boots of each side.
  Metrics of --fail-if: p50, p90, p99, p99.9, rate, cpu (both ends), server-cpu, load-cpu.
  benchstat keeps runs of unlike verdicts apart; its -ignore verdict puts them together.

Exit status:
  0  compared, and no condition of --fail-if holds for sure
  1  a condition of --fail-if holds
  2  a file or a flag is no good, or results cannot be compared: other workloads, another clock
  3  no data: no results, no two groups of them in any cell, or a metric of --fail-if is missing in one
  4  not to be trusted: all results are INVALID or ended early; with --strict, a SUSPECT one counts
  5  with --undecided fail: a condition can be neither confirmed nor ruled out";

fn key_parser() -> impl TypedValueParser<Value = usize> {
    let keys = key::KEYS.map(|key| clap::builder::PossibleValue::new(key.name).help(key.about));
    PossibleValuesParser::new(keys).map(|name| key::named(&name).expect("only names of keys are taken"))
}

/// Why the program ends early.
struct Failure {
    status: u8,
    cause: String,
}

impl Failure {
    fn bad_input(error: impl ToString) -> Failure {
        Failure { status: BAD_INPUT, cause: error.to_string() }
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let done = match &flags.paths[..] {
        paths if !flags.export.is_empty() => export(&flags, paths),
        [a, b] if flags.is_side_by_side() => {
            let text = compare::compare_files(a, b, Style::of_stdout()).map_err(Failure::bad_input);
            text.and_then(|text| print(&text, "comparison")).map(|()| 0)
        }
        paths => compare_groups(&flags, paths),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(Failure { status, cause }) => {
            report::tell(format_args!("ringsock-compare: {cause}"));
            ExitCode::from(status)
        }
    }
}

impl Flags {
    /// Two files, and nothing that only a comparison of groups has.
    fn is_side_by_side(&self) -> bool {
        let says_nothing = self.by.is_none()
            && self.baseline.is_none()
            && self.clock.is_none()
            && self.format.is_none()
            && self.output.is_none()
            && self.fail_if.is_empty()
            && !self.strict;
        says_nothing && self.paths.iter().all(|path| !path.is_dir())
    }
}

fn print(text: &str, what: &str) -> Result<(), Failure> {
    let failed = |error| format!("cannot write the {what}: {error}; check where the output goes");
    report::print(text).map_err(|error| Failure::bad_input(failed(error)))
}

/// The exit status of a comparison that was made and written.
fn compare_groups(flags: &Flags, paths: &[PathBuf]) -> Result<u8, Failure> {
    let request = Request {
        by: flags.by,
        baseline: flags.baseline.clone(),
        clock: flags.clock.map(|clock| match clock {
            ClockFlag::Real => Clock::Real,
            ClockFlag::Instructions => Clock::Instructions,
        }),
        command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    let collected =
        collect(paths).map_err(|error| Failure { status: status_of(&error), cause: error.to_string() })?;
    let comparison = assemble(collected, &request)
        .map_err(|error| Failure { status: status_of_assembly(&error), cause: error.to_string() })?;
    let format = flags.format.unwrap_or(comparison::FORMATS[0]);
    let style = if flags.output.is_some() { Style::PLAIN } else { Style::of_stdout() };
    let text = (format.render)(&comparison, style).map_err(Failure::bad_input)?;
    match &flags.output {
        Some(path) => publish(path, text.as_bytes()).map_err(Failure::bad_input)?,
        None => print(&text, "comparison")?,
    }
    let checks = gate::check(&comparison, &flags.fail_if);
    let gates = comparison::gate::render(&comparison, &checks, style);
    if !gates.is_empty() {
        report::tell(gates.trim_end_matches('\n'));
    }
    let (status, says) = judge(flags, &comparison, &checks);
    if let Some(says) = says {
        report::tell(format_args!("ringsock-compare: {says}"));
    }
    Ok(status)
}

fn status_of(error: &CollectError) -> u8 {
    if matches!(error, CollectError::Empty { .. }) { NO_DATA } else { BAD_INPUT }
}

fn status_of_assembly(error: &AssembleError) -> u8 {
    match error {
        AssembleError::Layout(LayoutError::Untrusted { .. }) => UNTRUSTED,
        AssembleError::Layout(
            LayoutError::Same { .. } | LayoutError::OneGroup { .. } | LayoutError::OtherClock,
        ) => NO_DATA,
        _ => BAD_INPUT,
    }
}

/// The exit status, and why it is not 0. What may not be believed decides nothing, not even that there is a regression.
fn judge(flags: &Flags, comparison: &Comparison, checks: &[Check]) -> (u8, Option<&'static str>) {
    let columns = || comparison.cells.iter().flat_map(|cell| &cell.columns).filter_map(Column::measured);
    let none_compared = columns().all(|measured| measured.differences.is_empty());
    let some_left_out = comparison.sources.iter().any(|source| source.left_out.is_some());
    let has = |outcome: Outcome| checks.iter().any(|check| check.outcome == outcome);
    if none_compared && some_left_out {
        return (UNTRUSTED, Some("nothing could be compared: what there was to compare with does not count"));
    }
    if none_compared {
        return (
            NO_DATA,
            Some("nothing could be compared: no cell has results of the baseline and of another group"),
        );
    }
    if flags.strict && columns().any(|measured| measured.suspect > 0) {
        return (UNTRUSTED, Some("--strict: some of the runs that count are SUSPECT"));
    }
    match () {
        () if has(Outcome::Broken) => (REGRESSION, Some("a condition of --fail-if holds")),
        () if has(Outcome::NoData) => {
            (NO_DATA, Some("a condition of --fail-if has no data to be decided by"))
        }
        () if has(Outcome::CannotTell) && flags.undecided == Undecided::Fail => {
            (UNDECIDED, Some("a condition of --fail-if can be neither confirmed nor ruled out: add boots"))
        }
        () => (0, None),
    }
}

/// Every file is read before the first is written.
fn export(flags: &Flags, paths: &[PathBuf]) -> Result<u8, Failure> {
    let results = paths.iter().map(|path| load(path)).collect::<Result<Vec<_>, _>>();
    let results = results.map_err(Failure::bad_input)?;
    if flags.beside {
        let mut written = String::new();
        for (path, result) in paths.iter().zip(&results) {
            let exports = write_beside(path, result, &flags.export).map_err(Failure::bad_input)?;
            exports.iter().for_each(|path| written.push_str(&format!("{}\n", path.display())));
        }
        return print(&written, "export").map(|()| 0);
    }
    let [format] = flags.export[..] else {
        return Err(Failure::bad_input("one text can be of one format only; add --beside to write files"));
    };
    let text = format.render_all(&results).ok_or_else(|| {
        Failure::bad_input(format!(
            "one {format:?} text holds one result only, not {}; add --beside to write files",
            results.len()
        ))
    })?;
    print(&text, "export").map(|()| 0)
}
