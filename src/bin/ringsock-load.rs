//! `ringsock-load`: flags in, one run, exit code out.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use ringsock::engine::Probe;
use ringsock::load::{Interrupter, Options, OptionsError, Run, Verbosity};
use ringsock::measure::result::{RunResult, Status};
use ringsock::measure::store;
use ringsock::report::{self, Style, terminal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator for WebSocket echo servers: latency histograms, free of coordinated omission.
///
/// Without a URL it starts a ringsock server in this process and measures that. Ctrl-C ends the measurement
/// early, and what was measured is still reported and saved; a second one exits at once.
///
/// Exit code: 0 if every message was sent and answered rightly; 1 if not, or if nothing could be measured; 2 for a
/// wrong flag.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Flags {
    #[command(flatten)]
    load: Options,
}

const EXAMPLES: &str = "\
Response time counts from when the schedule intended a message to be sent; service time from when it was.

Examples:
  ringsock-load                                              server and load in one process
  ringsock-load ws://127.0.0.1:9001/ --rate 50000 --cpus 1   open loop, Poisson arrivals
  ringsock-load ws://127.0.0.1:9001/ --closed-loop --pipeline 64    peak throughput
  ringsock-load ws://127.0.0.1:8080/chat --text --payload 1KiB --arrivals fixed --duration 1m
  ringsock-compare results/A.json results/B.json             two runs side by side";

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringsock-load: {}", report::explain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let plan = match flags.load.validate(&Probe::of_this_kernel()) {
        Ok(plan) => plan,
        Err(OptionsError::Engine(refusal)) if !refusal.is_of_flags() => {
            return Err(refusal.into());
        }
        Err(error) => {
            eprintln!("ringsock-load: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    store::prepare(&flags.load.results)?;
    let run = Run::new(plan);
    watch_signals(run.interrupter())?;
    let verbosity = if flags.load.quiet { Verbosity::Quiet } else { Verbosity::Progress };
    let result = run.execute(std::env::args().collect(), verbosity)?;
    // Saved first: a report that cannot be printed must not cost the result.
    let saved = store::save(&flags.load.results, &result);
    if !flags.load.quiet {
        report::print(&terminal::render(&result, Style::of_stdout())).context("standard output")?;
    }
    report::print(&format!("saved {}\n", saved?.display())).context("standard output")?;
    Ok(judge(&result))
}

/// Success only if all went as planned.
fn judge(result: &RunResult) -> ExitCode {
    let as_planned = matches!(result.outcome.status, Status::Completed | Status::Interrupted);
    let accounting = &result.accounting;
    let accounted_for =
        accounting.error_count() == 0 && accounting.outstanding == 0 && accounting.unsent == 0;
    let measured = accounting.answered > 0;
    if as_planned && accounted_for && measured { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn watch_signals(interrupter: Interrupter) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    std::thread::spawn(move || {
        let mut arrived = signals.forever();
        arrived.next();
        interrupter.interrupt();
        let signal = arrived.next().unwrap_or(SIGTERM);
        std::process::exit(128 + signal);
    });
    Ok(())
}
