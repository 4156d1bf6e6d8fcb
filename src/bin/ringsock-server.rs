//! `ringsock-server`: flags in, one server, exit code out.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use ringsock::engine::Probe;
use ringsock::server::{Options, OptionsError, Server, StatsLine, Survey, closing_account};
use ringsock::{report, scenario};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// WebSocket server over io_uring, tokio-uring or epoll, for benchmarks.
///
/// Echoes every message at / and /echo; asked for with ?anatomy, it stamps each binary one with when it was seen and
/// answered. At other paths it does what --list-scenarios says: publish and subscribe, JSON, messages at a rate. SIGINT or SIGTERM: stops accepting, closes connections with 1001, and
/// exits once they are gone or after --close-timeout; a second signal exits at once.
///
/// Exit code: 0 after a signal; 1 if it could not start or a thread failed; 2 for a wrong flag.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Flags {
    #[command(flatten)]
    server: Options,

    /// Print what was done, this often, and all counters at the end; 0s: never. Each line has what is now and rates since
    /// the last line, then counts since the start: connections accepted, opening handshakes that led to WebSocket (upgraded)
    /// or were turned down (rejected), connections failed for what the client sent (faults), given up for what it did not do
    /// in time (timeouts) or lost (resets); sends of which the kernel took only a part because the client reads slowly (short
    /// sends), and times that a client was not read from until it had read (pauses). Completions/enter is how much one
    /// system call found to do. What follows behind a further bar are counters that say why: faults_too_big, timeouts_idle
    #[arg(help_heading = TELLING, long, value_name = "TIME", value_parser = humantime::parse_duration)]
    stats: Option<Duration>,

    /// Print what this kernel's io_uring can do for networking, which engine would run and what it would use, and exit
    #[arg(help_heading = TELLING, long)]
    probe: bool,

    /// Print what clients may ask for, by path and query, and exit
    #[arg(long)]
    list_scenarios: bool,

    /// Print that as JSON
    #[arg(help_heading = TELLING, long, requires = "probe")]
    json: bool,
}

/// What flags about are that have it tell of itself.
const TELLING: &str = "What it tells";

const EXAMPLES: &str = "\
Examples:
  ringsock-server --cpus 0                            one thread on CPU 0
  ringsock-server --listen [::]:9001 --stats 1s       IPv6 and IPv4, counts every second
  ringsock-server --max-connections 200000            raises the limit on open files, or says to what
  ringsock-server --engine epoll                      another I/O engine, same server
  ringsock-server --admin 127.0.0.1:9100              counters and live page at http://127.0.0.1:9100/, and only there
  ringsock-server --tls-self-signed --tls-save-cert here.pem    wss://, for ringsock-load --ca here.pem
  ringsock-server --probe                             what this kernel's io_uring can do
  ringsock-load ws://127.0.0.1:9001/ --cpus 1         drive it from another CPU";

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(code) => code,
        Err(error) => {
            report::tell(format_args!("ringsock-server: {}", report::explain(&*error)));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    if flags.list_scenarios {
        report::print(&report::text::labelled(&scenario::list())).context("standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    let probe = Probe::of_this_kernel();
    if flags.probe {
        let survey = Survey::new(flags.server.engine, &flags.server.uring_features, &probe);
        report::print(&if flags.json { survey.json() } else { survey.text() }).context("standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = match flags.server.validate(&probe) {
        Ok(plan) => plan,
        Err(OptionsError::Engine(refusal)) if !refusal.is_of_flags() => {
            return Err(refusal.into());
        }
        Err(error) => {
            report::tell(format_args!("ringsock-server: {error}"));
            return Ok(ExitCode::from(2));
        }
    };
    let server = Server::start(&plan)?;
    let scheme = if plan.tls.is_some() { "wss" } else { "ws" };
    writeln!(std::io::stdout(), "listening on {scheme}://{}/", server.address())
        .context("standard output")?;
    // A script may have closed our output once it had read the address.
    let _ = writeln!(std::io::stdout(), "engine {}", plan.engine);
    if let Some(address) = server.admin_address() {
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let _ = writeln!(std::io::stdout(), "admin on {scheme}://{address}/");
    }
    if let Some(notice) = plan.tls.as_ref().and_then(|tls| tls.notice.as_ref()) {
        let _ = writeln!(std::io::stdout(), "{notice}");
    }

    let stopper = server.stopper();
    std::thread::spawn(move || {
        let mut arrived = signals.forever();
        arrived.next();
        stopper.stop();
        // The second one is in a hurry.
        let signal = arrived.next().unwrap_or(SIGTERM);
        std::process::exit(128 + signal);
    });
    watch(flags.stats, &server);
    let served = server.drain(flags.server.close_timeout)?;
    if flags.stats.is_some_and(|interval| !interval.is_zero()) {
        // Who has closed our output no longer wants to know.
        let _ = write!(std::io::stdout(), "counted until the end:\n{}", closing_account(&served));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints counts every `interval`, until a signal comes or a thread fails. Without one it uses no CPU.
fn watch(interval: Option<Duration>, server: &Server) {
    let mut stats = StatsLine::new(Instant::now());
    let interval = interval.filter(|interval| !interval.is_zero());
    let mut next = interval.map(|interval| Instant::now() + interval);
    loop {
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        if server.wait(left).is_some() {
            return;
        }
        next = next.zip(interval).map(|(next, interval)| next + interval);
        // Who has closed our output no longer wants to know.
        let _ = writeln!(std::io::stdout(), "{}", stats.line(Instant::now(), &server.served()));
    }
}
