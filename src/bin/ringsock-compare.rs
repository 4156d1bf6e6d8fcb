//! `ringsock-compare`: two files side by side, or results in other tools' formats. Flags in, one call, exit code out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringsock::measure::store::load;
use ringsock::report::export::{Format, write_beside};
use ringsock::report::{self, Style, compare};

/// Shows two saved results side by side: percentiles, rate and processor time, each with its ratio b/a,
/// and everything that differs in what was asked for and where it ran. With --export, gives results in
/// formats that other tools read.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = AFTER_HELP)]
#[command(override_usage = "ringsock-compare <BASELINE> <CONTENDER>\n       \
                            ringsock-compare --export <FORMAT> [--beside] <RESULT>...")]
struct Flags {
    /// The result to compare with: the baseline, a. It, or the contender, may also be what another tool measured: the
    /// output of wrk2 -L, a .hgrm or a .hlog
    baseline: PathBuf,
    /// The result to compare: b. A ratio above 1 means that b's number is the larger one
    #[arg(required_unless_present = "export")]
    contender: Option<PathBuf>,
    /// More results to export
    #[arg(requires = "export", hide = true)]
    more: Vec<PathBuf>,
    /// Compare nothing, but write each result to standard output in this format; with --beside, several formats
    /// may be given, with commas between
    #[arg(long, value_name = "FORMAT", value_enum, value_delimiter = ',')]
    export: Vec<Format>,
    /// Write exports to files beside the results instead, and print their names
    #[arg(long, requires = "export")]
    beside: bool,
}

const AFTER_HELP: &str = "\
Examples:
  The same load on two kernels:
    ringsock-compare results/6.1.0/20261122T080433Z-echo.json \\
      results/6.12.1/20261122T091502Z-echo.json

  Only what is different about the two machines and plans:
    ringsock-compare a.json b.json | sed -n '/^plan/,$p'

  A result beside what wrk2 measured:
    wrk -t1 -c64 -d30s -R20000 -L http://127.0.0.1:8080/ > wrk2.txt
    ringsock-compare wrk2.txt results/6.12.1/20261122T091502Z-echo.json

  All runs of two kernels, by Go's benchstat:
    ringsock-compare --export gobench results/6.*/*.json > runs.bench
    benchstat -col kernel runs.bench

What to know:
  Each run's verdict stands above the numbers: SUSPECT marks its column, INVALID withholds all ratios.
  Response time counts from the intended send, service time from the actual send.
  \"too few samples\" stands where a run has too few independent ones to state that percentile.
  One run each cannot tell a difference from noise: repeat both, in turn, before believing a ratio.
  Another tool's file holds durations only, so there is no verdict on it.
  benchstat keeps runs of unlike verdicts apart; its -ignore verdict puts them together.

Exit status: 0 when both were compared or all was exported, 2 when a file or a flag is no good.";

fn main() -> ExitCode {
    let flags = Flags::parse();
    let done = match &flags.contender {
        Some(contender) if flags.export.is_empty() => {
            compare::compare_files(&flags.baseline, contender, Style::of_stdout())
                .map_err(|error| error.to_string())
        }
        _ => export(&flags),
    };
    match done.map(|text| report::print(&text)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            let what = if flags.export.is_empty() { "comparison" } else { "export" };
            fail(&format!("cannot write the {what}: {error}; check where the output goes"))
        }
        Err(cause) => fail(&cause),
    }
}

/// The text for standard output. Every file is read before the first is written.
fn export(flags: &Flags) -> Result<String, String> {
    let paths: Vec<_> = [&flags.baseline].into_iter().chain(&flags.contender).chain(&flags.more).collect();
    let results = paths.iter().map(|path| load(path)).collect::<Result<Vec<_>, _>>();
    let results = results.map_err(|error| error.to_string())?;
    if flags.beside {
        let mut written = String::new();
        for (path, result) in paths.iter().zip(&results) {
            let exports = write_beside(path, result, &flags.export).map_err(|error| error.to_string())?;
            exports.iter().for_each(|path| written.push_str(&format!("{}\n", path.display())));
        }
        return Ok(written);
    }
    let [format] = flags.export[..] else {
        return Err("one text can be of one format only; add --beside to write files".to_owned());
    };
    format.render_all(&results).ok_or_else(|| {
        format!(
            "one {format:?} text holds one result only, not {}; add --beside to write files",
            results.len()
        )
    })
}

fn fail(cause: &str) -> ExitCode {
    eprintln!("ringsock-compare: {cause}");
    ExitCode::from(2)
}
