//! The load generator: opens connections, warms up, measures, drains, and gives a whole result back.
//!
//! Each thread has a core, an engine and connections of its own, and shares nothing with the others while it
//! measures; this thread only keeps the time, asks for slices once a second, and merges histograms at the end.

mod arrivals;
pub mod calibrate;
mod client;
pub mod config;
mod endpoint;
mod flags;
pub mod heading;
mod options;
mod progress;
mod record;
mod schedule;
pub mod series;
#[cfg(test)]
mod simulation;
mod tally;
mod tls_flags;
mod tui;
mod witness;
mod worst;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;

pub use endpoint::Endpoint;
pub use flags::{PlanFlags, SeriesFlags};
pub use options::{Arrivals, Options, OptionsError, Plan};
pub use progress::Verbosity;
pub use tui::restore_terminal;

use crate::cpu;
use crate::engine::{Choice, Chosen, Config, Ends, EngineError, Feature, Probe, Tls, Waker, clock_ns};
use crate::limits;
use crate::measure::anatomy::{Anatomy, Collector};
use crate::measure::environment::Environment;
use crate::measure::evidence::{self, Evidence, Exemplar, ThreadUse};
use crate::measure::result::{
    self, Accounting, CpuUse, IoUring, Latencies, Mode, Outcome, RunResult, Status, Summary, Target, Tool,
};
use crate::measure::verdict;
use crate::measure::verdict::lag_bound_ns;
use crate::scenario::echo::Payloads;
use crate::server::{self, Server, ServerError};
use arrivals::Spans;
use client::{Client, Orders, Report, Task};
use progress::Progress;
use record::{Record, Recorded};
use schedule::Schedule;
use tally::{Slice, Window};
use tls_flags::TlsPlan;
use witness::Look;

/// Between the last connection's opening and the first message: threads wake up and see their orders.
const START_DELAY_NS: u64 = 20_000_000;
/// How often threads are asked what has happened: so often that a run is cut into enough batches to tell how much
/// its samples depend on each other, and seldom enough to cost nothing.
const SLICES_PER_RUN: u64 = 32;
const SLICE_NS_MIN: u64 = 100_000_000;
const SLICE_NS_MAX: u64 = 1_000_000_000;
/// How long the timekeeper looks away at most while it shows how warming up goes on.
const LOOK_NS: u64 = 100_000_000;

/// How often threads that are to end are looked at.
const JOIN_INTERVAL: Duration = Duration::from_millis(10);
/// How long after the end of the drain a thread may take to say goodbye to its connections.
const GOODBYE: Duration = Duration::from_secs(5);

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
    match causes.starts_with("connect") {
        true => "; is a WebSocket server running there?",
        false => "",
    }
}

/// What the thread that keeps the time waits for.
enum Event {
    Thread(Report),
    Ended,
    Interrupt,
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
        let measured = self.measure(endpoint, embedded.as_ref(), &mut progress);
        progress.finish();
        let drained = embedded.map_or(Ok(()), |server| server.drain(GOODBYE));
        let measured = measured?;
        drained?;
        Ok(self.into_result(measured, endpoint, command_line))
    }

    fn measure(
        &self,
        endpoint: &Endpoint,
        embedded: Option<&Server>,
        progress: &mut Progress,
    ) -> Result<Measured, LoadError> {
        let mut crew = Crew::start(&self.plan, endpoint, &self.events_tx)?;
        if embedded.is_some() && self.plan.cpus.iter().any(|cpu| self.plan.server_cpus.contains(cpu)) {
            progress.say(
                "warning: server and generator share a CPU: latencies show their rivalry, not the server",
            );
        }
        let connections = self.plan.connections;
        progress.say(&format!("opening {connections} connections to {}", endpoint.url));
        let opened = crew.wait_until_open(&self.events);
        if !matches!(opened, Ok(open) if open > 0) {
            crew.order_end_now();
            let mut accounting = Accounting::default();
            for client in crew.join(&self.events, |_, _| {})? {
                accounting.merge(&client.tally.accounting);
            }
            opened?;
            let causes: Vec<String> =
                accounting.errors.iter().map(|(class, count)| format!("{class} ({count})")).collect();
            return Err(LoadError::NoConnection {
                attempted: connections,
                url: endpoint.url.clone(),
                causes: causes.join(", "),
            });
        }
        let server_cpu = ServerCpu::new(&self.plan, embedded);
        let mut watch = Watch::new(&self.plan, crew, server_cpu, progress);
        let outcome = watch.run(&self.events);
        let measured = watch.finish(outcome, &self.events)?;
        match measured.is_unstamped {
            true => Err(LoadError::Unstamped { url: endpoint.url.clone() }),
            false => Ok(measured),
        }
    }

    fn into_result(self, measured: Measured, endpoint: &Endpoint, command_line: Vec<String>) -> RunResult {
        let Measured {
            outcome,
            accounting,
            latency,
            recorded,
            cpu,
            anatomy,
            is_unstamped: _,
            measured_s,
            evidence,
            exemplars,
            negotiated,
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
            environment: Environment::capture(),
            io_uring: Some(record_of_probe(&self.plan.probe)),
            target: target_of(&self.plan, endpoint, negotiated),
            outcome,
            accounting,
            latency,
            intervals: recorded.intervals,
            batches: recorded.batches,
            cpu,
            evidence: Some(evidence),
            anatomy,
            exemplars,
            summary,
        };
        result.verdict = Some(verdict::judge(&result));
        result
    }
}

/// What a run came to.
struct Measured {
    outcome: Outcome,
    accounting: Accounting,
    latency: Latencies,
    recorded: Recorded,
    cpu: CpuUse,
    anatomy: Option<Anatomy>,
    /// It was asked for, and the server does not stamp its answers.
    is_unstamped: bool,
    measured_s: f64,
    evidence: Evidence,
    exemplars: Vec<Exemplar>,
    negotiated: Vec<result::Negotiated>,
}

impl Measured {
    /// What the threads come to together.
    fn merge(
        plan: &Plan,
        outcome: Outcome,
        clients: Vec<Client>,
        mut recorded: Recorded,
        witnessed: Witnessed,
        measured_s: f64,
    ) -> Self {
        let Witnessed { cpu, mut evidence, mut threads } = witnessed;
        let (mut accounting, mut latency) = (Accounting::default(), Latencies::default());
        let mut exemplars = Vec::new();
        let mut spans = Vec::new();
        let (mut anatomy, mut is_unstamped) = (Collector::default(), false);
        let mut negotiated = Vec::new();
        for (thread, client) in clients.into_iter().enumerate() {
            accounting.merge(&client.tally.accounting);
            latency.merge(&client.tally.latency);
            evidence.held_back += client.tally.held_back;
            client.tally.anatomy.iter().for_each(|theirs| anatomy.merge(theirs));
            is_unstamped |= client.is_unstamped();
            client.tally.negotiated.iter().for_each(|theirs| theirs.add_to(&mut negotiated));
            if let Some(mut of_thread) = threads.get_mut(thread).and_then(Option::take) {
                of_thread.idle_s = plan.spin.then_some(client.idle_ns as f64 / 1e9);
                std::mem::swap(&mut of_thread.headline, &mut recorded.headline_of_threads[thread]);
                evidence.threads.push(of_thread);
            }
            spans.extend(client.tally.spans);
            exemplars.extend(client.worst.into_exemplars());
        }
        accounting.outstanding = accounting.sent - accounting.answered;
        match plan.mode {
            Mode::OpenLoop { .. } => latency.response = recorded.headline.clone(),
            Mode::ClosedLoop { .. } => latency.service = recorded.headline.clone(),
        }
        evidence.arrivals = spans.first().map(|first| evidence::Arrivals {
            messages_per_span: first.messages_per_span(),
            planned_span_ns: first.planned_span_ns(),
            spans_ns: spans.iter().flat_map(Spans::kept_ns).copied().collect(),
        });
        exemplars.sort_by_key(|exemplar| std::cmp::Reverse(exemplar.response_ns));
        exemplars.truncate(plan.exemplars);
        let anatomy = anatomy.finish();
        Self {
            outcome,
            accounting,
            latency,
            recorded,
            cpu,
            anatomy,
            is_unstamped,
            measured_s,
            evidence,
            exemplars,
            negotiated,
        }
    }
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// The plan as the result file keeps it.
fn record_of(plan: &Plan) -> result::Plan {
    result::Plan {
        scenario: "echo".to_owned(),
        url: plan.endpoint.as_ref().map(|endpoint| endpoint.url.clone()),
        connections: plan.connections.into(),
        threads: plan.cpus.len() as u64,
        payload_bytes: plan.payload_bytes as u64,
        text: plan.text,
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
fn target_of(plan: &Plan, endpoint: &Endpoint, negotiated: Vec<result::Negotiated>) -> Target {
    let ours = plan.endpoint.is_none().then_some(&plan.server_engine);
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
        tls: plan.tls.as_ref().map(|tls| result::Tls { trusts: tls.trusts.to_owned(), negotiated }),
    }
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
    options.max_connections = Some(plan.connections);
    options.bare = plan.bare_server;
    options.engine = Choice::Named(plan.server_engine.kind);
    let mut server = options.validate(&plan.probe)?;
    server.engine = plan.server_engine.clone();
    let identity = plan.tls.as_ref().and_then(|tls| tls.server.clone());
    let handshake_ns = plan.connect_timeout.as_nanos() as u64;
    server.tls = identity.map(|server| server::TlsPlan { server, handshake_ns, notice: None });
    Ok(Server::start(&server)?)
}

/// Whose CPU time is the server's.
enum ServerCpu {
    Unknown,
    Process(u32),
    Threads(Vec<i32>),
}

impl ServerCpu {
    fn new(plan: &Plan, embedded: Option<&Server>) -> Self {
        match (embedded, plan.server_pid) {
            (Some(server), _) => Self::Threads(server.thread_ids().to_vec()),
            (None, Some(process_id)) => Self::Process(process_id),
            (None, None) => Self::Unknown,
        }
    }

    fn used_ns(&self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Process(process_id) => cpu::used_ns(*process_id, None),
            Self::Threads(ids) => cpu::used_ns(std::process::id(), Some(ids)),
        }
    }
}

/// The generator's threads.
struct Crew {
    threads: Vec<JoinHandle<Result<Client, LoadError>>>,
    /// By thread, once it has opened its connections; 0 before.
    thread_ids: Vec<i32>,
    ready_count: usize,
    /// Threads whose last connection has gone.
    deserted_count: usize,
    wakers: Vec<Waker>,
    orders: Arc<Orders>,
    spare: Arc<Mutex<Vec<Slice>>>,
    drain_timeout: Duration,
}

impl Crew {
    fn start(plan: &Plan, endpoint: &Endpoint, events: &Sender<Event>) -> Result<Self, LoadError> {
        let mut crew = Self {
            threads: Vec::new(),
            thread_ids: vec![0; plan.cpus.len()],
            ready_count: 0,
            deserted_count: 0,
            wakers: Vec::new(),
            orders: Arc::new(Orders::default()),
            spare: Arc::new(Mutex::new(Vec::new())),
            drain_timeout: plan.drain_timeout,
        };
        for index in 0..plan.cpus.len() {
            let waker = Waker::new().map_err(LoadError::Thread)?;
            crew.wakers.push(waker.clone());
            let task = crew.task(plan, endpoint, index, events);
            let (cpu, engine, ended) = (plan.cpus[index], plan.engine.clone(), events.clone());
            let tls = plan.tls.clone();
            let body = move || {
                let result = generate(cpu, &engine, tls, task, &waker);
                let _ = ended.send(Event::Ended);
                result
            };
            let thread = std::thread::Builder::new().name(format!("load-{index}")).spawn(body);
            crew.threads.push(thread.map_err(LoadError::Thread)?);
        }
        Ok(crew)
    }

    /// Thread `index`'s share of the plan.
    fn task(&self, plan: &Plan, endpoint: &Endpoint, index: usize, events: &Sender<Event>) -> Task {
        let thread_count = plan.cpus.len();
        let connections = plan.connections as usize;
        let share = connections / thread_count + usize::from(index < connections % thread_count);
        let events = events.clone();
        let mut random = fastrand::Rng::with_seed(plan.seed.wrapping_add(index as u64));
        let (schedule, spans, pipeline) = match plan.mode {
            Mode::OpenLoop { rate_per_s, arrivals } => {
                let gap_ns = 1e9 * thread_count as f64 / rate_per_s;
                let first_per_s = plan.warmup_rate_per_s.unwrap_or(rate_per_s);
                let mut schedule = Schedule::new(first_per_s, arrivals, plan.seed, index, thread_count);
                if plan.warmup_rate_per_s.is_some() {
                    schedule = schedule.with_change(plan.warmup.as_nanos() as u64, rate_per_s, thread_count);
                }
                (Some(schedule), Some(Spans::new(gap_ns, lag_bound_ns(plan.spin), thread_count)), 0)
            }
            Mode::ClosedLoop { pipeline } => (None, None, pipeline),
        };
        let mut endpoint = endpoint.clone();
        let mut payloads = Payloads::new(plan.payload_bytes, plan.text, &mut random);
        if let Some(layout) = plan.stamps {
            endpoint.target = layout.ask(&endpoint.target);
            payloads = payloads.stamped(layout);
        }
        Task {
            thread: index,
            endpoint,
            connections: share,
            connect_gap_ns: plan.connect_rate_per_s.map_or(0.0, |rate| 1e9 * thread_count as f64 / rate),
            connect_timeout_ns: plan.connect_timeout.as_nanos() as u64,
            schedule,
            spans,
            pipeline,
            spin: plan.spin,
            exemplars: plan.exemplars,
            payloads,
            random,
            orders: Arc::clone(&self.orders),
            report: Box::new(move |report| {
                // Nobody listens only where the run was given up.
                let _ = events.send(Event::Thread(report));
            }),
            spare: Arc::clone(&self.spare),
        }
    }

    fn wake(&self) {
        self.wakers.iter().for_each(Waker::wake);
    }

    /// How many connections are open, when all have opened or failed.
    fn wait_until_open(&mut self, events: &Receiver<Event>) -> Result<usize, LoadError> {
        let mut open_count = 0;
        while self.ready_count < self.threads.len() {
            match events.recv() {
                Ok(Event::Thread(Report::Ready { thread, open, thread_id })) => {
                    self.ready_count += 1;
                    self.deserted_count += usize::from(open == 0);
                    open_count += open;
                    self.thread_ids[thread] = thread_id;
                }
                Ok(Event::Interrupt) | Err(_) => return Err(LoadError::InterruptedEarly),
                // An engine that refused: joining it tells why.
                Ok(Event::Ended) => return Ok(0),
                Ok(Event::Thread(Report::Deserted)) => self.deserted_count += 1,
                Ok(Event::Thread(Report::Slice(..) | Report::Unstamped)) => {}
            }
        }
        Ok(open_count)
    }

    fn order(&self, window: Window) {
        self.orders.set(window);
        self.wake();
    }

    /// Lets the threads go once they have drained.
    fn dismiss(&self) {
        self.orders.dismiss();
        self.wake();
    }

    fn order_end_now(&self) {
        self.orders.dismiss();
        let now_ns = clock_ns();
        self.order(Window { start_ns: now_ns, measure_ns: now_ns, end_ns: now_ns, drained_ns: now_ns });
    }

    fn used_ns(&self) -> u64 {
        cpu::used_ns(std::process::id(), Some(&self.thread_ids)).unwrap_or(0)
    }

    /// Has a slice's memory used again.
    fn reuse(&self, mut slice: Slice) {
        slice.clear();
        if let Ok(mut spare) = self.spare.lock() {
            spare.push(slice);
        }
    }

    /// Waits for the threads to end, and hands out what they were, in order; their slices go to `on_slice`.
    fn join(
        mut self,
        events: &Receiver<Event>,
        mut on_slice: impl FnMut(usize, &Slice),
    ) -> Result<Vec<Client>, LoadError> {
        let deadline = Instant::now() + self.drain_timeout + GOODBYE;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            // A thread says that it has ended a moment before it has: don't wait for another word of it.
            match events.recv_timeout(JOIN_INTERVAL) {
                Ok(Event::Thread(Report::Slice(thread, slice))) => {
                    on_slice(thread, &slice);
                    self.reuse(slice);
                }
                Ok(_) => {}
                Err(_) if Instant::now() < deadline => {}
                Err(_) => return Err(LoadError::Stuck),
            }
        }
        for event in events.try_iter() {
            if let Event::Thread(Report::Slice(thread, slice)) = event {
                on_slice(thread, &slice);
            }
        }
        let ended = std::mem::take(&mut self.threads).into_iter().map(|thread| match thread.join() {
            Ok(client) => client,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    }
}

/// A generator thread's life.
fn generate(
    cpu: usize,
    engine: &Chosen,
    tls: Option<TlsPlan>,
    task: Task,
    waker: &Waker,
) -> Result<Client, LoadError> {
    cpu::pin_current_thread(cpu).map_err(LoadError::Thread)?;
    // The kernel may else end a wait 50 µs late, to save itself wake-ups, and so would every message be.
    cpu::end_waits_on_time();
    // Answers are always read, however much of ours waits: a server that echoes would else wait for us as we for it.
    // What may wait is bounded by the plan in a closed loop, by the backlog's threshold in an open one.
    let connections_max = (task.connections as u32).max(1);
    let overhead_bytes = tls.as_ref().map_or(0, |_| limits::TLS_OVERHEAD_BYTES);
    let config = Config {
        connections_max,
        recv_buffer_bytes: limits::RECV_BUFFER_BYTES + overhead_bytes,
        outbox_bytes: usize::MAX,
        uring: engine.uring.clone(),
        kernel_timestamps: engine.kernel_timestamps,
        ..Config::default()
    };
    let Some(tls) = tls else {
        return Ok(engine.kind.run(config, waker, Client::new(task), || {})?);
    };
    let connect_timeout_ns = task.connect_timeout_ns;
    let client = Tls::new(Client::new(task), Ends::Client(tls.client), connect_timeout_ns, client::CLOSE_NS);
    Ok(engine.kind.run(config, waker, client, || {})?.into_inner())
}

/// What was noted of the measured window from outside the generator's threads.
#[derive(Default)]
struct Witnessed {
    cpu: CpuUse,
    evidence: Evidence,
    /// By thread; `None` where the kernel does not tell.
    threads: Vec<Option<ThreadUse>>,
}

/// Keeps the time of a run.
struct Watch<'a> {
    plan: &'a Plan,
    crew: Crew,
    window: Window,
    slice_ns: u64,
    progress: &'a mut Progress,
    server_cpu: ServerCpu,
    server_used_ns: Option<u64>,
    load_used_ns: u64,
    looked: Look,
    witnessed: Witnessed,
    record: Record,
    slices_awaited: usize,
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan, crew: Crew, server_cpu: ServerCpu, progress: &'a mut Progress) -> Self {
        let start_ns = clock_ns() + START_DELAY_NS;
        let measure_ns = start_ns + plan.warmup.as_nanos() as u64;
        let duration_ns = plan.duration.as_nanos() as u64;
        let end_ns = measure_ns + duration_ns;
        let drained_ns = end_ns + plan.drain_timeout.as_nanos() as u64;
        let window = Window { start_ns, measure_ns, end_ns, drained_ns };
        Self {
            plan,
            crew,
            window,
            slice_ns: (duration_ns / SLICES_PER_RUN).clamp(SLICE_NS_MIN, SLICE_NS_MAX),
            progress,
            server_cpu,
            server_used_ns: None,
            load_used_ns: 0,
            looked: Look::default(),
            witnessed: Witnessed::default(),
            record: Record::new(window, plan.cpus.len()),
            slices_awaited: 0,
        }
    }

    /// From the first message to the end of the measured window.
    fn run(&mut self, events: &Receiver<Event>) -> Outcome {
        self.crew.order(self.window);
        if let Some(early) = self.wait(self.window.measure_ns, events) {
            return early;
        }
        self.looked = Look::take(&self.crew.thread_ids);
        self.load_used_ns = self.crew.used_ns();
        self.server_used_ns = self.server_cpu.used_ns();
        let mut tick_ns = self.window.measure_ns;
        let early = loop {
            tick_ns = (tick_ns + self.slice_ns).min(self.window.end_ns);
            if let Some(early) = self.wait(tick_ns, events) {
                break Some(early);
            }
            if tick_ns == self.window.end_ns {
                break None;
            }
            self.ask_for_slices();
        };
        self.note_cpu();
        early.unwrap_or_else(Outcome::completed)
    }

    fn note_cpu(&mut self) {
        self.witnessed.cpu.load_cpu_s = self.crew.used_ns().saturating_sub(self.load_used_ns) as f64 / 1e9;
        let server_ns = self.server_cpu.used_ns().zip(self.server_used_ns);
        self.witnessed.cpu.server_cpu_s =
            server_ns.map(|(now, before)| now.saturating_sub(before) as f64 / 1e9);
        let look = Look::take(&self.crew.thread_ids);
        self.witnessed.threads = look.threads_since(&self.looked, &self.plan.cpus);
        self.witnessed.evidence = Evidence {
            spin: self.plan.spin,
            cpus: look.cpus_since(&self.looked),
            throttled: look.throttled_since(&self.looked),
            ..Evidence::default()
        };
    }

    fn ask_for_slices(&mut self) {
        self.slices_awaited = self.crew.threads.len();
        self.crew.wake();
    }

    /// Waits until `until_ns`; an outcome if the run ends before that.
    fn wait(&mut self, until_ns: u64, events: &Receiver<Event>) -> Option<Outcome> {
        loop {
            let now_ns = clock_ns();
            if now_ns >= until_ns {
                return None;
            }
            if self.crew.deserted_count == self.crew.threads.len() {
                let reason = "every connection was closed by the server, or lost".to_owned();
                return Some(Outcome { status: Status::ServerDied, reason: Some(reason) });
            }
            if now_ns < self.window.measure_ns {
                let elapsed = now_ns.saturating_sub(self.window.start_ns);
                self.progress.phase(Duration::from_nanos(elapsed), tui::WARMING_UP);
            }
            // Each look may take a CPU away from what is measured.
            let warming_up = now_ns < self.window.measure_ns;
            let look_ns = if warming_up { LOOK_NS } else { u64::MAX };
            match events.recv_timeout(Duration::from_nanos((until_ns - now_ns).min(look_ns))) {
                Ok(Event::Thread(Report::Slice(thread, slice))) => self.on_slice(thread, slice),
                Ok(Event::Thread(Report::Deserted)) => {
                    self.crew.deserted_count += 1;
                }
                Ok(Event::Interrupt) => {
                    let reason = "ended by the user".to_owned();
                    return Some(Outcome { status: Status::Interrupted, reason: Some(reason) });
                }
                Ok(Event::Ended) => {
                    let reason = "a generator thread ended early".to_owned();
                    return Some(Outcome { status: Status::Failed, reason: Some(reason) });
                }
                Ok(Event::Thread(Report::Unstamped)) => {
                    let reason = "the server does not stamp its answers".to_owned();
                    return Some(Outcome { status: Status::Failed, reason: Some(reason) });
                }
                Ok(Event::Thread(Report::Ready { .. })) | Err(_) => {}
            }
        }
    }

    fn on_slice(&mut self, thread: usize, slice: Slice) {
        self.record.add(thread, &slice);
        self.crew.reuse(slice);
        self.slices_awaited = self.slices_awaited.saturating_sub(1);
        if self.slices_awaited > 0 {
            return;
        }
        let now_ns = clock_ns();
        let since = |start_ns| Duration::from_nanos(now_ns.saturating_sub(start_ns));
        let elapsed = since(self.window.start_ns);
        let (start_ns, batch) = self.record.batch();
        self.progress.batch(elapsed, since(start_ns), batch);
        let Some((start_ns, interval)) = self.record.end_batch(now_ns) else { return };
        self.progress.interval(elapsed, since(start_ns), interval);
    }

    /// Ends the run: now, where it ends early. Then the last answers are waited for.
    fn finish(mut self, outcome: Outcome, events: &Receiver<Event>) -> Result<Measured, LoadError> {
        let now_ns = clock_ns();
        if outcome.status != Status::Completed {
            if outcome.status == Status::Interrupted && now_ns < self.window.measure_ns {
                self.crew.orders.stop();
                self.crew.dismiss();
                self.crew.join(events, |_, _| {})?;
                return Err(LoadError::InterruptedEarly);
            }
            self.crew.orders.stop();
            self.window.end_at(now_ns);
            self.record.set_window(self.window);
        }
        self.progress
            .phase(Duration::from_nanos(self.window.end_ns.saturating_sub(self.window.start_ns)), "draining");
        self.crew.dismiss();
        let mut record = self.record;
        let clients = self.crew.join(events, |thread, slice| record.add(thread, slice))?;
        for (thread, client) in clients.iter().enumerate() {
            record.add(thread, &client.tally.slice);
            record.add_late(thread, &client.tally.late);
        }
        let recorded = record.finish();
        let measured_s = (self.window.end_ns - self.window.measure_ns) as f64 / 1e9;
        Ok(Measured::merge(self.plan, outcome, clients, recorded, self.witnessed, measured_s))
    }
}
