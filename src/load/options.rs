//! The generator's flags: as typed, then validated.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::endpoint::Endpoint;
use super::heading::{LOAD, MACHINE, OUTPUT, SERIES, TARGET};
use super::scenario::{Play, ScenarioFlags, Scene};
use super::tls_flags::{TlsFlags, TlsPlan};
use super::{Verbosity, churn, clock, tui};
use crate::cpu::{self, CpuError, CpuList};
use crate::engine::uring::{Switch, Switches};
use crate::engine::{Choice, Chosen, EngineError, EngineKind, Probe, clock_ns, files};
use crate::limits;
use crate::measure::environment::{Clock, Environment};
use crate::measure::{calibration, result};
use crate::report::export::Format;
use crate::scenario::deflate::DeflateSettings;
use crate::scenario::sizes::Sizes;
use crate::scenario::stamps::Layout;
use crate::scenario::trace::Numbers;
use crate::server::{DeflateOptions, engine_parser};
use crate::tls::{IdentityError, TrustError};
use crate::ws::subprotocol::Subprotocol;

/// Descriptors that are not connections.
const OTHER_FILES: u64 = 128;
/// Of each thread: its ring, eventfd, timers, and a socket on its way into the ring's table.
const FILES_PER_THREAD: u64 = 16;

/// The gaps of the open loop's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// All gaps equal
    Fixed,
    /// Gaps exponentially distributed, as of many independent senders
    Poisson,
}

/// What the machine's clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClockFlag {
    /// Time
    Real,
    /// Instructions: in a guest of QEMU with -icount shift=0 and one CPU, a nanosecond is an instruction
    Instructions,
}

/// What messages are filled with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Filling {
    /// Random bytes, or letters and digits in text: they don't compress
    #[default]
    Random,
    /// JSON-like records, which compress as such messages do
    Json,
}

impl Filling {
    /// What a result says of it.
    pub(super) fn recorded(self) -> Option<String> {
        (self == Self::Json).then(|| "json".to_owned())
    }
}

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// ws://host:port/path (wss:// over TLS) of the server to measure; where the path is /, a scenario asks for its own. Without a URL
    /// a ringsock server is started in this process, on a free port of 127.0.0.1 and a CPU of its own. Several are compared in a
    /// series of runs
    #[arg(help_heading = TARGET)]
    pub url: Vec<String>,

    /// Connections, shared out evenly among the threads; of the scenario churn, as many at a time at most
    #[arg(help_heading = LOAD, long, short = 'c', value_name = "COUNT", default_value_t = 64)]
    pub connections: u32,

    /// I/O engine of the generator, and of the server started in this process; auto takes the best that this kernel runs,
    /// and the report says which and why
    #[arg(help_heading = MACHINE, long, value_name = "NAME", default_value = "auto", value_parser = engine_parser())]
    pub engine: Choice,

    /// I/O engine of the server started in this process [default: as --engine]
    #[arg(help_heading = TARGET, long, value_name = "NAME", conflicts_with = "url", value_parser = engine_parser())]
    pub server_engine: Option<Choice>,

    /// Features of io_uring to switch off or on for the engine uring, as -multishot-recv,+napi=50us; ringsock-server
    /// --help has the list
    #[arg(
        help_heading = MACHINE,
        long,
        value_name = "LIST",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub uring_features: Switches,

    /// The same for the server started in this process [default: as --uring-features, unless --server-engine is given]
    #[arg(help_heading = TARGET, long, value_name = "LIST", conflicts_with = "url", allow_hyphen_values = true)]
    pub server_uring_features: Option<Switches>,

    /// Generator threads, each with its own ring [default: one for each of --cpus, else 1]
    #[arg(help_heading = MACHINE, long, value_name = "COUNT")]
    pub threads: Option<usize>,

    /// CPUs to bind the generator's threads to, in turn, as 0,2-3 [default: the last ones this process may use]
    #[arg(help_heading = MACHINE, long, value_name = "LIST")]
    pub cpus: Option<CpuList>,

    /// CPUs for the server started in this process, a thread each [default: the first one this process may use]
    #[arg(help_heading = TARGET, long, value_name = "LIST", conflicts_with = "url")]
    pub server_cpus: Option<CpuList>,

    /// Process id of a server on this machine, whose CPU time is then measured too
    #[arg(help_heading = TARGET, long, value_name = "PID", requires = "url")]
    pub server_pid: Option<u32>,

    /// What this machine's clock counts. With instructions, every duration is the length of a path and not time: it is
    /// labelled so, is never compared with time, and the verdict leaves out what means nothing then
    #[arg(help_heading = MACHINE, long, value_name = "WHAT", value_enum, default_value_t = ClockFlag::Real)]
    pub clock: ClockFlag,

    /// See there.
    #[command(flatten)]
    pub scenario: ScenarioFlags,

    /// Payload of each message, as 64 or 64KiB; or drawn for each by --seed: uniform:A..B, or zipf:A..B or zipf:A..B:EXPONENT
    /// [default of EXPONENT: 1], where small ones are the most; or sweep: 0, 125, 126, 65535, 65536 bytes and 1 MiB in turn
    #[arg(help_heading = LOAD, long, short = 'p', value_name = "BYTES", default_value = "64")]
    pub payload: Sizes,

    /// Send text messages instead of binary ones
    #[arg(help_heading = LOAD, long)]
    pub text: bool,

    /// What messages are filled with
    #[arg(help_heading = LOAD, long, value_enum, default_value_t = Filling::Random)]
    pub filling: Filling,

    /// See there.
    #[command(flatten, next_help_heading = LOAD)]
    pub deflate: DeflateOptions,

    /// Subprotocols to offer, the one liked best first; may be given several times, or several with commas between. A server that
    /// chooses none of them is refused; the one started in this process speaks them all
    #[arg(help_heading = LOAD, long, value_name = "NAME", value_delimiter = ',')]
    pub subprotocol: Vec<Subprotocol>,

    /// How long to measure
    #[arg(help_heading = LOAD, long, short = 'd', value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,

    /// How long to run before measuring
    #[arg(help_heading = LOAD, long, short = 'w', value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,

    /// How long to wait, after measuring, for answers that are still out
    #[arg(help_heading = LOAD, long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// New connections a second, all threads together [default: as fast as they are accepted]
    #[arg(help_heading = LOAD, long, value_name = "RATE", value_parser = parse_rate)]
    pub connect_rate: Option<f64>,

    /// How long a connection may take to open
    #[arg(help_heading = LOAD, long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub connect_timeout: Duration,

    /// Open loop: messages a second, all connections together, as 20000 or 20k; of the scenario churn, connections a second. The
    /// whole schedule is fixed beforehand, and response time counts from it
    #[arg(
        help_heading = LOAD,
        long,
        short = 'r',
        value_name = "RATE",
        default_value = "20000",
        value_parser = parse_rate,
        conflicts_with = "closed_loop"
    )]
    pub rate: f64,

    /// Another rate during the warm-up, as an overload to see the recovery from: measuring begins when --rate does
    #[arg(help_heading = LOAD, long, value_name = "RATE", value_parser = parse_rate, conflicts_with = "closed_loop")]
    pub warmup_rate: Option<f64>,

    /// Gaps of the open loop's schedule
    #[arg(help_heading = LOAD, long, value_enum, default_value_t = Arrivals::Poisson, conflicts_with = "closed_loop")]
    pub arrivals: Arrivals,

    /// Closed loop: each connection sends as its answers come, for peak throughput; of the scenario churn, each is followed by the
    /// next
    #[arg(help_heading = LOAD, long)]
    pub closed_loop: bool,

    /// Messages in flight per connection in a closed loop
    // Clap does not ask for what conflicts with something that is there: so they are in conflict themselves.
    #[arg(
        help_heading = LOAD,
        long,
        value_name = "COUNT",
        default_value_t = 1,
        requires = "closed_loop",
        conflicts_with_all = ["rate", "arrivals"]
    )]
    pub pipeline: u32,

    /// Take response times apart: has the server, a ringsock-server on this host, write into each answer when it saw
    /// the message and when it queued the answer
    #[arg(help_heading = LOAD, long, conflicts_with = "calibrate")]
    pub anatomy: bool,

    /// With --anatomy: note when the kernel received what arrives, to tell the kernels' and the wire's share of each way
    /// from the wake-up at its end. For the engine epoll; a server with a URL has a flag of the same name, and needs it for
    /// its end
    #[arg(help_heading = LOAD, long, requires = "anatomy")]
    pub kernel_timestamps: bool,

    /// Never sleep: generator threads poll, and are late by less, at the price of their CPUs
    #[arg(help_heading = LOAD, long)]
    pub spin: bool,

    /// How many of the worst messages to keep, with what went on around them; of each moment only the worst
    #[arg(help_heading = LOAD, long, value_name = "COUNT", default_value_t = 10)]
    pub exemplars: usize,

    /// Seed of the schedule, the payloads and the masking keys
    #[arg(help_heading = LOAD, long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// Calibrate the generator instead of measuring a server: its overhead, its punctuality, its highest rate, and the
    /// least response time that can be measured on this machine. Saved below --results, and cited by later verdicts.
    /// TIME is that of one step of some forty [default: 1s]
    #[arg(
        help_heading = SERIES,
        long,
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1s",
        conflicts_with = "url"
    )]
    pub calibrate: Option<Duration>,

    /// Folder for the result file
    #[arg(help_heading = OUTPUT, long, value_name = "FOLDER", default_value = "results")]
    pub results: PathBuf,

    /// Write the result in this format too, beside its file; may be given several times, or several with commas between
    #[arg(help_heading = OUTPUT, long, value_name = "FORMAT", value_enum, value_delimiter = ',')]
    pub export: Vec<Format>,

    /// Show the run on the whole terminal while it goes on: rate, percentiles over time, response times so far, CPUs, and
    /// the verdict so far. q ends the measurement, p pauses, ? helps.
    ///
    /// It is drawn, five times a second at most, by a thread that runs only on time that nobody else asks for, and not on
    /// the CPUs that are measured where there are others. Where there are none, as on a machine with two CPUs, one for the
    /// server and one for the generator, it and the terminal still take a little time from one of them: leave it out for
    /// figures to be kept.
    #[arg(help_heading = OUTPUT, long, conflicts_with_all = ["quiet", "calibrate"])]
    pub tui: bool,

    /// Write a line to standard error for each frame, both ways, for what opens a connection and for what fails it: seconds since
    /// the start, the connection's number, <- for what came and -> for what is sent, then the frame. For debugging servers: it
    /// takes time, so figures are worth nothing then
    #[arg(help_heading = OUTPUT, long, conflicts_with_all = ["tui", "calibrate"])]
    pub trace_frames: bool,

    /// No progress, no report: only where the result was saved
    #[arg(help_heading = OUTPUT, long, short)]
    pub quiet: bool,

    /// Exit with 3 unless the verdict on the result is TRUSTED
    #[arg(help_heading = OUTPUT, long)]
    pub strict: bool,

    /// What is spoken below WebSocket.
    #[command(flatten)]
    pub tls: TlsFlags,
}

/// Why flags were refused.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// About the URL.
    #[error("`{url}`: {rule}")]
    Url {
        /// What was typed.
        url: String,
        /// What would be right.
        rule: &'static str,
    },
    /// One run has one target.
    #[error("`{url}`: a run has one server: leave one of the URLs out")]
    SecondUrl {
        /// The second one.
        url: String,
    },
    /// The host has no address.
    #[error("`{host}` cannot be resolved: {error}")]
    Resolve {
        /// Host and port.
        host: String,
        /// The resolver's word.
        error: std::io::Error,
    },
    /// A CPU list.
    #[error("{flag}: {error}")]
    Cpus {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        error: CpuError,
    },
    /// A number outside its bounds.
    #[error("{flag} {value}: {rule}")]
    Number {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        rule: &'static str,
    },
    /// Nothing to draw on.
    #[error(
        "--tui: neither standard error nor standard output is a terminal: run it in one, or leave --tui out for a \
         line a second"
    )]
    NoTerminal,
    /// A flag about TLS, and no TLS.
    #[error("{flag}: that is about TLS: give a wss:// URL, or --tls without one")]
    NoTls {
        /// The flag.
        flag: &'static str,
    },
    /// Whom to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The certificate of the server of our own.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// `--anatomy` with what it does not go with.
    #[error("--anatomy: {0}")]
    Anatomy(String),
    /// `--clock instructions` where the clock cannot count them, or with what it does not go with.
    #[error(transparent)]
    Clock(#[from] clock::ClockError),
    /// A scenario's flag with what it does not go with.
    #[error("{0}")]
    Scenario(String),
    /// `--deflate` with what it does not go with.
    #[error("--deflate: {0}")]
    Deflate(&'static str),
    /// `--subprotocol` with what it does not go with.
    #[error("--subprotocol: {0}")]
    Subprotocol(&'static str),
    /// No such process.
    #[error("--server-pid {0}: there is no process of this number whose CPU time can be read")]
    ServerPid(u32),
    /// Too many connections for the limit on open files.
    #[error("--connections: {0}")]
    Files(EngineError),
    /// Too many for the tables of the threads there are.
    #[error(
        "--connections {connections}: each thread's table of direct descriptors may have as many as the limit on open files, which \
         is {limit}: give --threads {threads}, or raise the limit with `ulimit -n` (LimitNOFILE= in a systemd unit)"
    )]
    FilesOfThreads {
        /// As asked for.
        connections: u32,
        /// RLIMIT_NOFILE.
        limit: u64,
        /// As many as would do.
        threads: u64,
    },
    /// The flags are right, and an engine cannot run on this kernel.
    #[error(transparent)]
    Engine(EngineError),
}

/// Raises the limit on open files to what the generator needs: in one table for all, or, where the engine gives each of its threads a
/// table of direct descriptors, in the largest of those; says how many threads the crowd needs then, `thread_count` or more.
fn ensure_files(
    engine: &Chosen,
    connections: u32,
    scene: &Scene,
    thread_count: usize,
) -> Result<usize, OptionsError> {
    let spare = if scene.play == Play::Churn { u64::from(churn::slack(connections as usize)) } else { 0 };
    let measured = u64::from(scene.measured(connections)) + spare;
    let beside = u64::from(scene.crowd.map_or(0, |crowd| crowd.connections));
    let has_tables = engine.kind == EngineKind::Uring && engine.uring.has(Switch::DirectDescriptors);
    if !has_tables {
        files::ensure(measured + beside + OTHER_FILES).map_err(OptionsError::Files)?;
        return Ok(thread_count);
    }
    files::ensure(measured.div_ceil(thread_count as u64) + OTHER_FILES).map_err(|error| match error {
        EngineError::TooFewFiles { limit, .. } if limit > OTHER_FILES => {
            let threads = measured.div_ceil(limit - OTHER_FILES);
            OptionsError::FilesOfThreads { connections, limit, threads }
        }
        error => OptionsError::Files(error),
    })?;
    let limit = files::raise_towards(beside.div_ceil(thread_count as u64) + OTHER_FILES);
    let crowd_threads = crowd_threads(beside, limit.min(limits::DIRECT_DESCRIPTORS));
    let needed = OTHER_FILES + FILES_PER_THREAD * crowd_threads;
    files::ensure(needed).map_err(OptionsError::Files)?;
    Ok(thread_count.max(crowd_threads as usize))
}

/// Threads whose tables of `table` descriptors hold so many connections, some of each table left to other files.
fn crowd_threads(connections: u64, table: u64) -> u64 {
    connections.div_ceil(table.saturating_sub(OTHER_FILES).max(1))
}

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server; `None`: one of our own, in this process.
    pub endpoint: Option<Endpoint>,
    /// How connections are secured, if they are.
    pub tls: Option<TlsPlan>,
    /// The server of our own sends bytes back as they came, and speaks no WebSocket.
    pub bare_server: bool,
    /// Those of [`Options::connections`] that are measured.
    pub connections: u32,
    /// What the kernel's io_uring can do.
    pub probe: Probe,
    /// What does the generator's I/O.
    pub engine: Chosen,
    /// What does the I/O of the server of our own.
    pub server_engine: Chosen,
    /// A generator thread for each.
    pub cpus: Vec<usize>,
    /// A thread of the server of our own for each.
    pub server_cpus: Vec<usize>,
    /// See [`Options::server_pid`].
    pub server_pid: Option<u32>,
    /// What is played.
    pub scene: Scene,
    /// Of the largest message, see [`Options::payload`].
    pub payload_bytes: usize,
    /// See [`Options::text`].
    pub text: bool,
    /// See [`Options::filling`].
    pub filling: Filling,
    /// See [`Options::deflate`].
    pub deflate: Option<DeflateSettings>,
    /// The same, as typed: for a server of our own.
    pub deflate_flags: DeflateOptions,
    /// See [`Options::subprotocol`].
    pub subprotocols: Vec<Subprotocol>,
    /// Frames are traced, as [`Options::trace_frames`] says.
    pub trace: Option<Numbers>,
    /// See [`Options::duration`].
    pub duration: Duration,
    /// See [`Options::warmup`].
    pub warmup: Duration,
    /// See [`Options::drain_timeout`].
    pub drain_timeout: Duration,
    /// See [`Options::connect_rate`].
    pub connect_rate_per_s: Option<f64>,
    /// See [`Options::connect_timeout`].
    pub connect_timeout: Duration,
    /// Open or closed loop.
    pub mode: result::Mode,
    /// What the server is to stamp its answers with, see [`Options::anatomy`].
    pub stamps: Option<Layout>,
    /// See [`Options::spin`].
    pub spin: bool,
    /// See [`Options::exemplars`].
    pub exemplars: usize,
    /// See [`Options::warmup_rate`].
    pub warmup_rate_per_s: Option<f64>,
    /// See [`Options::seed`].
    pub seed: u64,
    /// See [`Options::clock`].
    pub clock: Clock,
    /// The newest calibration that speaks for this generator.
    pub calibration: Option<result::CalibrationCited>,
}

/// Messages or connections a second: a number, of thousands with `k`, of millions with `M`.
///
/// # Errors
/// Not of this form, or not finite.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.strip_suffix(['k', 'M']) {
        Some(number) => (number, if text.ends_with('k') { 1e3 } else { 1e6 }),
        None => (text, 1.0),
    };
    let rate = number.parse::<f64>().ok().filter(|rate| rate.is_finite());
    rate.map(|rate| rate * factor).ok_or("write a rate as 20000, 20k or 1.5M".to_owned())
}

impl Options {
    /// How much to show while the run goes on.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.tui) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Live,
            (false, false) => Verbosity::Progress,
        }
    }

    /// Checks every flag, resolves the URL, raises the limit on open files, and chooses engines for the kernel probed.
    ///
    /// # Errors
    /// The first flag that is wrong, and what would be right.
    pub fn validate(&self, probe: &Probe) -> Result<Plan, OptionsError> {
        let number = |flag, value: &dyn ToString, holds: bool, rule| {
            let value = value.to_string();
            if holds { Ok(()) } else { Err(OptionsError::Number { flag, value, rule }) }
        };
        let cpus = self.generator_cpus()?;
        number("--threads", &cpus.len(), (1..=4096).contains(&cpus.len()), "has to be 1 to 4096")?;
        let connections = self.connections;
        number(
            "--connections",
            &connections,
            connections as usize >= cpus.len(),
            "has to be one a thread or more",
        )?;
        number("--pipeline", &self.pipeline, (1..=1 << 16).contains(&self.pipeline), "has to be 1 to 65536")?;
        number("--exemplars", &self.exemplars, self.exemplars <= 1000, "has to be 1000 or less")?;
        let rate = self.rate;
        let is_rate = |rate: f64| rate > 0.0 && rate <= 1e9;
        number("--rate", &rate, is_rate(rate), "has to be above 0, in messages a second")?;
        if let Some(rate) = self.warmup_rate {
            number("--warmup-rate", &rate, is_rate(rate), "has to be above 0, in messages a second")?;
        }
        if let Some(rate) = self.connect_rate {
            number("--connect-rate", &rate, is_rate(rate), "has to be above 0, in connections a second")?;
        }
        if let Some(step) = self.calibrate {
            let in_range = (0.05..=60.0).contains(&step.as_secs_f64());
            number("--calibrate", &format_args!("{step:?}"), in_range, "a step has to take 50ms to 1m")?;
        }
        let milliseconds = self.duration.as_secs_f64() * 1e3;
        let in_range = (1.0..=86_400_000.0 * 365.0).contains(&milliseconds);
        number("--duration", &format_args!("{:?}", self.duration), in_range, "has to be 1ms to a year")?;
        if self.tui && !tui::has_terminal() {
            return Err(OptionsError::NoTerminal);
        }
        if let Some(process_id) = self.server_pid
            && cpu::used_ns(process_id, None).is_none()
        {
            return Err(OptionsError::ServerPid(process_id));
        }
        let endpoint = match &self.url[..] {
            [] => None,
            [url] => Some(Endpoint::parse(url)?),
            [_, second, ..] => return Err(OptionsError::SecondUrl { url: second.clone() }),
        };
        let mut scene = self.scenario.validate(self, cpus.len())?;
        if let (Play::Push { .. }, Some(endpoint)) = (scene.play, &endpoint) {
            endpoint.check_is_of_this_host()?;
        }
        let stamps = self.stamps(endpoint.as_ref())?;
        let environment = Environment::capture();
        if self.clock == ClockFlag::Instructions {
            let (calibrate, tui) = (self.calibrate.is_some(), self.tui);
            clock::check(&environment, clock::Beside { spin: self.spin, calibrate, tui })?;
        }
        let endpoint_is_bare = endpoint.as_ref().is_some_and(|endpoint| endpoint.bare);
        let choose = |choice: Choice, switches: &Switches| {
            choice.choose(probe, switches).map_err(OptionsError::Engine)
        };
        let mut engine = choose(self.engine, &self.uring_features)?;
        let crowd_threads = ensure_files(&engine, connections, &scene, cpus.len())?;
        if let Some(crowd) = &mut scene.crowd {
            crowd.threads = crowd_threads;
        }
        if self.kernel_timestamps {
            engine = engine.with_kernel_timestamps().map_err(OptionsError::Engine)?;
        }
        let mut server_engine = match (self.server_engine, &self.server_uring_features) {
            (None, None) => engine.clone(),
            (choice, switches) => {
                choose(choice.unwrap_or(self.engine), switches.as_ref().unwrap_or(&Switches::default()))?
            }
        };
        // Where only the generator's engine can, only the way back is split, and the report says so.
        let can_note = server_engine.kind == EngineKind::Epoll && !server_engine.kernel_timestamps;
        if self.kernel_timestamps && can_note {
            server_engine = server_engine.with_kernel_timestamps().map_err(OptionsError::Engine)?;
        }
        if self.tls.ktls {
            server_engine = server_engine.with_kernel_tls(probe).map_err(OptionsError::Engine)?;
        }
        let mut plan = Plan {
            tls: self.tls.validate(endpoint.as_ref())?,
            endpoint,
            bare_server: false,
            connections: scene.measured(connections),
            probe: probe.clone(),
            engine,
            server_engine,
            cpus,
            server_cpus: self.embedded_server_cpus()?,
            server_pid: self.server_pid,
            payload_bytes: scene.payload_bytes_max(),
            text: self.text,
            filling: self.filling,
            deflate: self.compression(endpoint_is_bare)?,
            deflate_flags: self.deflate.clone(),
            subprotocols: self.subprotocols(endpoint_is_bare)?,
            trace: self.trace_frames.then(|| Numbers::new(clock_ns())),
            duration: self.duration,
            warmup: self.warmup,
            drain_timeout: self.drain_timeout,
            connect_rate_per_s: self.connect_rate,
            connect_timeout: self.connect_timeout,
            mode: match scene.mode() {
                Some(mode) => mode,
                None if self.closed_loop => result::Mode::ClosedLoop { pipeline: self.pipeline.into() },
                None => result::Mode::OpenLoop { rate_per_s: rate, arrivals: self.arrivals.into() },
            },
            scene,
            stamps,
            spin: self.spin,
            exemplars: self.exemplars,
            warmup_rate_per_s: self.warmup_rate,
            seed: self.seed,
            clock: self.clock.into(),
            calibration: None,
        };
        // Of punctuality in time, which says nothing of instructions; and a generator that compresses or encrypts is
        // another one than that which is calibrated.
        if plan.clock == Clock::Real && plan.deflate.is_none() && plan.tls.is_none() {
            let generator = super::calibrate::generator(&plan);
            plan.calibration = calibration::latest(&self.results, &generator, &environment);
        }
        Ok(plan)
    }

    fn compression(&self, endpoint_is_bare: bool) -> Result<Option<DeflateSettings>, OptionsError> {
        let settings = self.deflate.settings();
        if settings.is_some() && endpoint_is_bare {
            return Err(OptionsError::Deflate(
                "a tcp:// server sends bytes back as they came: measure a ws:// one",
            ));
        }
        if settings.is_some() && self.calibrate.is_some() {
            return Err(OptionsError::Deflate("a calibration compresses nothing: leave it out"));
        }
        Ok(settings)
    }

    fn subprotocols(&self, endpoint_is_bare: bool) -> Result<Vec<Subprotocol>, OptionsError> {
        let names = &self.subprotocol;
        let refuse = |why| Err(OptionsError::Subprotocol(why));
        if (1..names.len()).any(|at| names[..at].contains(&names[at])) {
            return refuse("a name is offered once: leave the other one out");
        }
        if !names.is_empty() && endpoint_is_bare {
            return refuse("a tcp:// server speaks no WebSocket: measure a ws:// one");
        }
        if !names.is_empty() && self.calibrate.is_some() {
            return refuse("a calibration offers none: leave it out");
        }
        Ok(names.clone())
    }

    fn stamps(&self, endpoint: Option<&Endpoint>) -> Result<Option<Layout>, OptionsError> {
        if !self.anatomy {
            return Ok(None);
        }
        let refuse = |why: String| Err(OptionsError::Anatomy(why));
        let layout = if self.kernel_timestamps { Layout::WithArrival } else { Layout::Pair };
        if self.text {
            return refuse("stamps are no text: leave out --text".to_owned());
        }
        if self.deflate.deflate {
            return refuse("compressed answers have no place for stamps: leave out --deflate".to_owned());
        }
        if endpoint.is_some_and(|endpoint| endpoint.bare) {
            return refuse("a tcp:// server sends bytes back as they came: measure a ws:// one".to_owned());
        }
        let least = layout.end();
        if self.payload.max_bytes() < least {
            return refuse(format!(
                "stamps take messages of {least} B or more: --payload {least}, not {}",
                self.payload
            ));
        }
        Ok(Some(layout))
    }

    fn generator_cpus(&self) -> Result<Vec<usize>, OptionsError> {
        let flag = "--cpus";
        if let Some(list) = &self.cpus {
            cpu::check(list).map_err(|error| OptionsError::Cpus { flag, error })?;
        }
        let mut cpus = match &self.cpus {
            Some(list) => list.0.clone(),
            None => cpu::available().into_iter().rev().collect(),
        };
        let threads = self.threads.unwrap_or(if self.cpus.is_some() { cpus.len() } else { 1 });
        if self.cpus.is_none() {
            // The first is left to the server, where there is another.
            cpus.truncate(threads.min(cpus.len().saturating_sub(1)).max(1));
        }
        Ok(cpus.iter().copied().cycle().take(threads).collect())
    }

    fn embedded_server_cpus(&self) -> Result<Vec<usize>, OptionsError> {
        let flag = "--server-cpus";
        match &self.server_cpus {
            Some(list) => {
                cpu::check(list).map_err(|error| OptionsError::Cpus { flag, error })?;
                Ok(list.0.clone())
            }
            None => Ok(cpu::available().into_iter().take(1).collect()),
        }
    }
}

impl From<ClockFlag> for Clock {
    fn from(clock: ClockFlag) -> Self {
        match clock {
            ClockFlag::Real => Self::Real,
            ClockFlag::Instructions => Self::Instructions,
        }
    }
}

impl From<Arrivals> for result::Arrivals {
    fn from(arrivals: Arrivals) -> Self {
        match arrivals {
            Arrivals::Fixed => Self::Fixed,
            Arrivals::Poisson => Self::Poisson,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_gets_as_many_threads_as_its_descriptors_need_tables() {
        for (connections, table, threads) in [
            (0, 20_000, 0),
            (1, 20_000, 1),
            (19_872, 20_000, 1),
            (19_873, 20_000, 2),
            (1_000_000, 20_000, 51),
        ] {
            assert_eq!(crowd_threads(connections, table), threads, "{connections} in tables of {table}");
        }
        assert_eq!(crowd_threads(5, OTHER_FILES), 5, "a table of nothing is no division by zero");
    }
}
