//! The load generator: opens connections, warms up, measures, drains, and gives a whole result back.
//!
//! Each thread ([`client`]) has a core, an engine and connections of its own, and shares nothing with the others while it
//! measures; another ([`watch`]) only keeps the time, asks them ([`crew`]) for slices, and merges histograms at the end.
//! Here is what a run is made of, from plan to result.

mod arrivals;
pub mod autobahn;
mod bursts;
pub mod calibrate;
mod churn;
mod client;
pub mod clock;
pub mod config;
mod crew;
mod crowd;
mod deflate;
mod endpoint;
mod fan;
mod flags;
pub mod heading;
pub mod mix;
mod options;
mod parts;
mod progress;
mod record;
pub mod scenario;
mod schedule;
pub mod series;
mod server_stats;
#[cfg(test)]
mod simulation;
mod sources;
mod tally;
mod task;
mod tls_flags;
mod tui;
mod watch;
mod witness;
mod worst;

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;

pub use endpoint::Endpoint;
pub use flags::{PlanFlags, SeriesFlags};
pub use options::{Arrivals, Filling, Options, OptionsError, Plan};
pub use progress::Verbosity;
pub use tui::restore_terminal;

use crate::cpu;
use crate::engine::{Choice, EngineError, Feature, Probe};
use crate::measure::environment::{Clock, Environment};
use crate::measure::result::{
    self, Accounting, IoUring, KernelTls, RunResult, Status, Summary, Target, Tool,
};
use crate::measure::verdict;
use crate::scenario::serve::Served;
use crate::server::{self, Server, ServerError};
use crew::{Crew, Event, GOODBYE};
use crowd::Crowd;
use progress::Progress;
use scenario::Play;
use server_stats::Inquiry;
use watch::{Agreed, Measured, ServerCpu, Watch};

/// How often a server of the run's own pings the silent connections of `idle`.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(1);

/// Why a run gave no result.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server of our own did not start.
    #[error("the server in this process: {0}")]
    Server(#[from] ServerError),
    /// Its flags are the server's own defaults; they may still not suit this machine.
    #[error("the server in this process: {0}")]
    ServerOptions(#[from] server::OptionsError),
    /// A generator thread's engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread could not be started or bound.
    #[error("cannot start a generator thread: {0}")]
    Thread(std::io::Error),
    /// Nothing was measured.
    #[error(
        "none of {attempted} connections to {url} opened: {causes}{}",
        hint(.causes)
    )]
    NoConnection {
        /// Connections tried.
        attempted: u32,
        /// The server's URL.
        url: String,
        /// What went wrong, by class.
        causes: String,
    },
    /// Ended by the user before anything was measured.
    #[error("interrupted before measuring began")]
    InterruptedEarly,
    /// `--anatomy`, of a server that does not know what that is.
    #[error(
        "the server at {url} does not stamp its answers: --anatomy needs ringsock-server, of this version or a newer one; \
         leave it out to measure another server"
    )]
    Unstamped {
        /// The server's URL.
        url: String,
    },
    /// A thread hangs.
    #[error("a generator thread does not end; nothing was saved")]
    Stuck,
    /// The live view cannot be shown.
    #[error("the terminal cannot be used for the live view: {0}; leave out --tui")]
    Terminal(std::io::Error),
}

/// What may help where nothing opened.
fn hint(causes: &str) -> &'static str {
    if causes.starts_with("connect") {
        "; is a WebSocket server running there?"
    } else if causes.starts_with("handshake: closed by server")
        || causes.starts_with("handshake: reset by server")
    {
        "; it did so without an answer: does it speak TLS (wss://)?"
    } else if causes.starts_with("TLS: the peer does not speak TLS") {
        "; is it a server without TLS (ws://)?"
    } else {
        ""
    }
}

/// Ends a run early; what was measured until then stands.
#[derive(Clone)]
pub struct Interrupter(Sender<Event>);

impl Interrupter {
    /// Ends the measurement now.
    pub fn interrupt(&self) {
        // Nobody listens only where the run is over.
        let _ = self.0.send(Event::Interrupt);
    }
}

/// A run to be made.
pub struct Run {
    plan: Plan,
    events_tx: Sender<Event>,
    events: Receiver<Event>,
}

impl Run {
    /// A run of `plan`.
    pub fn new(plan: Plan) -> Self {
        let (events_tx, events) = mpsc::channel();
        Self { plan, events_tx, events }
    }

    /// What ends it early.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(self.events_tx.clone())
    }

    /// Makes the run, on a thread of its own that keeps off the measuring CPUs, if there are others. `command_line` is for
    /// the record.
    ///
    /// # Errors
    /// Nothing could be measured.
    pub fn execute(self, command_line: Vec<String>, verbosity: Verbosity) -> Result<RunResult, LoadError> {
        // Here, where every CPU that this process may use can be seen.
        let (embedded, endpoint) = match &self.plan.endpoint {
            Some(endpoint) => (None, endpoint.clone()),
            None => {
                let server = start_server(&self.plan)?;
                let is_secured = self.plan.tls.is_some();
                let endpoint = Endpoint::embedded(server.address(), self.plan.bare_server, is_secured);
                (Some(server), endpoint)
            }
        };
        let timekeeper = std::thread::Builder::new().name("timekeeper".to_owned()).spawn(move || {
            let server_cpus = if embedded.is_some() { &self.plan.server_cpus[..] } else { &[] };
            cpu::keep_current_thread_off(&[&self.plan.cpus, server_cpus].concat());
            self.execute_against(embedded, &endpoint, command_line, verbosity)
        });
        match timekeeper.map_err(LoadError::Thread)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn execute_against(
        self,
        embedded: Option<Server>,
        endpoint: &Endpoint,
        command_line: Vec<String>,
        verbosity: Verbosity,
    ) -> Result<RunResult, LoadError> {
        let mut progress = Progress::new(verbosity, &self.plan, endpoint, self.interrupter())?;
        let inquiry = Inquiry::before(&self.plan, endpoint, embedded.as_ref());
        let measured = self.measure_all(endpoint, embedded.as_ref(), &mut progress);
        let server_stats = if measured.is_ok() { inquiry.after(embedded.as_ref()) } else { None };
        progress.finish();
        let drained = embedded.map(|server| server.drain(GOODBYE)).transpose();
        let measured = measured?;
        let served = drained?;
        let result = self.into_result(measured, served.as_deref(), endpoint, command_line);
        Ok(RunResult { server_stats, ..result })
    }

    /// Of a scenario that is held against itself, first without those beside.
    fn measure_all(
        &self,
        endpoint: &Endpoint,
        embedded: Option<&Server>,
        progress: &mut Progress,
    ) -> Result<Measured, LoadError> {
        if !self.plan.scene.is_held_against_itself() {
            return self.measure(&self.plan, endpoint, embedded, progress);
        }
        let mut alone = self.plan.clone();
        alone.scene.crowd = None;
        progress.say("first without slow readers");
        let without = self.measure(&alone, endpoint, embedded, progress)?;
        match without.outcome.status {
            Status::Completed => {}
            // It is not the run that was asked for, and must not be saved as that.
            Status::Interrupted => return Err(LoadError::InterruptedEarly),
            Status::ServerDied | Status::Failed => return Ok(without),
        }
        progress.say("now with them");
        let mut measured = self.measure(&self.plan, endpoint, embedded, progress)?;
        measured.particulars.without_crowd = Some(without.as_without(&record_of(&alone)));
        Ok(measured)
    }

    fn measure(
        &self,
        plan: &Plan,
        endpoint: &Endpoint,
        embedded: Option<&Server>,
        progress: &mut Progress,
    ) -> Result<Measured, LoadError> {
        let shared = plan.cpus.iter().any(|cpu| plan.server_cpus.contains(cpu));
        if embedded.is_some() && shared && plan.clock == Clock::Real {
            progress.say(
                "warning: server and generator share a CPU: latencies show their rivalry, not the server",
            );
        }
        if let Some(crowd) = plan.scene.crowd {
            progress.say(&format!("opening {} connections to {} beside", crowd.connections, endpoint.url));
        }
        let process_id = embedded.map(|_| std::process::id()).or(plan.server_pid);
        let server = (process_id, embedded.is_some());
        let crowd = Crowd::gather(plan, endpoint, server, &self.events_tx, &self.events)?;
        let connections = plan.connections;
        progress.say(&format!("opening {connections} connections to {}", endpoint.url));
        let mut crew = Crew::start(plan, endpoint, &self.events_tx)?;
        let opened = crew.wait_until_open(&self.events);
        if !matches!(opened, Ok(open) if open > 0) {
            crew.order_end_now();
            let mut accounting = Accounting::default();
            for harvest in crew.join(&self.events, |_, _| {})? {
                accounting.merge(&harvest.tally.accounting);
            }
            crowd.map(Crowd::disperse).transpose()?;
            opened?;
            let causes: Vec<String> =
                accounting.errors.iter().map(|(class, count)| format!("{class} ({count})")).collect();
            return Err(LoadError::NoConnection {
                attempted: connections,
                url: endpoint.url.clone(),
                causes: causes.join(", "),
            });
        }
        let server_cpu = ServerCpu::new(plan, embedded);
        let mut watch = Watch::new(plan, crew, crowd, server_cpu, progress);
        let outcome = watch.run(&self.events);
        let measured = watch.finish(outcome, &self.events)?;
        match measured.is_unstamped {
            true => Err(LoadError::Unstamped { url: endpoint.url.clone() }),
            false => Ok(measured),
        }
    }

    /// `served`: what a server of the run's own has counted, by thread.
    fn into_result(
        self,
        measured: Measured,
        served: Option<&[Served]>,
        endpoint: &Endpoint,
        command_line: Vec<String>,
    ) -> RunResult {
        let Measured {
            outcome,
            accounting,
            latency,
            recorded,
            cpu,
            anatomy,
            is_unstamped: _,
            particulars,
            agreed,
            measured_s,
            evidence,
            exemplars,
        } = measured;
        let plan = record_of(&self.plan);
        let summary = Summary::new(&plan, &accounting, &latency, &recorded.batches, measured_s);
        let mut result = RunResult {
            schema: result::SCHEMA.to_owned(),
            created: result::utc_now(),
            tool: Tool::this("ringsock-load"),
            command_line,
            verdict: None,
            config: None,
            series: None,
            calibration: self.plan.calibration.clone(),
            plan,
            environment: Environment { clock: self.plan.clock, ..Environment::capture() },
            io_uring: Some(record_of_probe(&self.plan.probe)),
            target: target_of(&self.plan, endpoint, agreed, served),
            outcome,
            accounting,
            latency,
            intervals: recorded.intervals,
            batches: recorded.batches,
            cpu,
            evidence: Some(evidence),
            anatomy,
            particulars,
            exemplars,
            server_stats: None,
            summary,
        };
        result.verdict = Some(verdict::judge(&result));
        result
    }
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// The plan as the result file keeps it.
fn record_of(plan: &Plan) -> result::Plan {
    result::Plan {
        scenario: plan.scene.row.name.to_owned(),
        parameters: plan.scene.parameters.clone(),
        url: plan.endpoint.as_ref().map(|endpoint| endpoint.url.clone()),
        connections: match plan.scene.play {
            // Those of churn come and go; its crowd is besides.
            Play::Churn => plan.connections.into(),
            _ => {
                u64::from(plan.connections) + plan.scene.crowd.map_or(0, |crowd| u64::from(crowd.connections))
            }
        },
        threads: plan.cpus.len() as u64,
        payload_bytes: plan.payload_bytes as u64,
        text: plan.text,
        filling: plan.filling.recorded(),
        duration_s: plan.duration.as_secs_f64(),
        warmup_s: plan.warmup.as_secs_f64(),
        drain_timeout_s: plan.drain_timeout.as_secs_f64(),
        connect_rate_per_s: plan.connect_rate_per_s,
        mode: plan.mode,
        seed: plan.seed,
    }
}

fn record_of_probe(probe: &Probe) -> IoUring {
    let named = |feature: Feature| (feature.name().to_owned(), probe.has(feature));
    IoUring {
        refusal: probe.refusal.clone().map(|refusal| refusal.into_error(&probe.release).to_string()),
        features: Feature::ALL.into_iter().map(named).collect(),
    }
}

/// Who talked to whom, and over what.
fn target_of(plan: &Plan, endpoint: &Endpoint, agreed: Agreed, served: Option<&[Served]>) -> Target {
    let ours = plan.endpoint.is_none().then_some(&plan.server_engine);
    let deflate = plan.deflate.zip(agreed.deflate);
    let reason = plan.engine.passed_over.as_ref().or(ours.and_then(|engine| engine.passed_over.as_ref()));
    Target {
        url: endpoint.url.clone(),
        server: ours.map(|_| format!("embedded ringsock {}", env!("CARGO_PKG_VERSION"))),
        engine: plan.engine.kind.name().to_owned(),
        engine_features: plan.engine.features.clone(),
        engine_reason: reason.cloned(),
        server_engine: ours.map(|engine| engine.kind.name().to_owned()),
        server_engine_features: ours.map(|engine| engine.features.clone()),
        server_cpus: match plan.server_pid {
            Some(process_id) => witness::bound_cpus(process_id),
            None => ours.map(|_| list(&plan.server_cpus)),
        },
        load_cpus: Some(list(&plan.cpus)),
        deflate: deflate
            .map(|(settings, parameters)| deflate::record_of(&settings, &parameters, agreed.wire)),
        subprotocol: agreed.subprotocol,
        tls: plan.tls.as_ref().map(|tls| result::Tls {
            trusts: tls.trusts.to_owned(),
            kernel: served.map(|threads| kernel_tls_of(plan.server_engine.kernel_tls, threads)),
            negotiated: agreed.negotiated,
        }),
    }
}

/// What became of a server's connections, rather than what it was asked for.
fn kernel_tls_of(asked: bool, threads: &[Served]) -> KernelTls {
    let mut kernel = KernelTls { asked, ..KernelTls::default() };
    for tls in threads.iter().map(|served| served.engine.tls) {
        kernel.connections += tls.handshakes;
        kernel.handed_over += tls.kernel;
        kernel.refused += tls.kernel_refused;
        kernel.missed += tls.kernel_missed;
    }
    kernel
}

/// The server that a run without a URL measures, with the defaults of its own flags.
fn start_server(plan: &Plan) -> Result<Server, LoadError> {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        server: server::Options,
    }
    let mut options = Flags::parse_from(["embedded", "--listen", "127.0.0.1:0"]).server;
    options.cpus = Some(cpu::CpuList(plan.server_cpus.clone()));
    options.max_connections = Some(
        match plan.scene.play {
            // Those that have said goodbye may not be gone when the next come.
            Play::Churn => 2 * plan.connections + plan.cpus.len() as u32 + 64,
            _ => plan.connections,
        } + plan.scene.crowd.map_or(0, |crowd| crowd.connections),
    );
    // What is measured is what was asked for, on every connection.
    options.max_deflate_memory = ByteSize::b(0);
    options.bare = plan.bare_server;
    options.deflate = plan.deflate_flags.clone();
    options.subprotocol = plan.subprotocols.clone();
    options.scenarios = server::ServedScenarios::all();
    if plan.scene.pings() {
        // As many as are sent.
        options.max_control_rate = 0;
    }
    if plan.scene.play == Play::Idle {
        options.ping_interval = IDLE_PING_INTERVAL;
    }
    options.engine = Choice::Named(plan.server_engine.kind);
    let mut server = options.validate(&plan.probe)?;
    server.engine = plan.server_engine.clone();
    let identity = plan.tls.as_ref().and_then(|tls| tls.server.clone());
    let handshake_ns = plan.connect_timeout.as_nanos() as u64;
    let handshakes_per_turn = crate::limits::TLS_HANDSHAKES_PER_TURN;
    server.tls =
        identity.map(|server| server::TlsPlan { server, handshake_ns, handshakes_per_turn, notice: None });
    Ok(Server::start(&server)?)
}
