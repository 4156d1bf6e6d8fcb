//! `ringsock-compare`: two result files side by side. Flags in, one call, exit code out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringsock::report::{self, Style, compare};

/// Shows two saved results side by side: percentiles, rate and processor time, each with its ratio b/a,
/// and everything that differs in what was asked for and where it ran.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = AFTER_HELP)]
struct Flags {
    /// The result to compare with: the baseline, a
    baseline: PathBuf,
    /// The result to compare: b. A ratio above 1 means that b's number is the larger one
    contender: PathBuf,
}

const AFTER_HELP: &str = "\
Examples:
  The same load on two kernels:
    ringsock-compare results/6.1.0/20261122T080433Z-echo.json \\
      results/6.12.1/20261122T091502Z-echo.json

  Only what is different about the two machines and plans:
    ringsock-compare a.json b.json | sed -n '/^plan/,$p'

What to know:
  Each run's verdict stands above the numbers: SUSPECT marks its column, INVALID withholds all ratios.
  Response time counts from the intended send, service time from the actual send.
  \"too few samples\" stands where a run has too few independent ones to state that percentile.
  One run each cannot tell a difference from noise: repeat both, in turn, before believing a ratio.

Exit status: 0 when both were compared, 2 when a file or a flag is no good.";

fn main() -> ExitCode {
    let flags = Flags::parse();
    match compare::compare_files(&flags.baseline, &flags.contender, Style::of_stdout()) {
        Ok(text) => match report::print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("cannot write the comparison: {error}; check where the output goes")),
        },
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(cause: &str) -> ExitCode {
    eprintln!("ringsock-compare: {cause}");
    ExitCode::from(2)
}
