//! The generator's threads, as the one that keeps the time sees them: started, told, asked, and waited for.
//!
//! Invariant: a thread that was started is joined, or the run says that it is stuck; what it has measured is lost with neither.
//! Deliberately absent: when to do any of it (see [`super::watch`]), and what a thread does (see [`super::client`]).

use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::arrivals::Spans;
use super::churn::{self, Churn};
use super::client::{self, Client};
use super::fan::{self, Fan};
use super::parts::Published;
use super::scenario::Play;
use super::schedule::Schedule;
use super::tally::{Slice, Window};
use super::task::{Harvest, Orders, Report, Task};
use super::tls_flags::TlsPlan;
use super::{Endpoint, Filling, LoadError, Plan};
use crate::cpu;
use crate::engine::{Chosen, Config, Ends, Handler, Tapped, Tls, Waker, clock_ns};
use crate::limits;
use crate::measure::result::{Arrivals, Mode};
use crate::measure::verdict::lag_bound_ns;
use crate::scenario::echo::Payloads;
use crate::scenario::trace::{Numbers, Role, Trace};

/// How often threads that are to end are looked at.
const JOIN_INTERVAL: Duration = Duration::from_millis(10);
/// How long after the end of the drain a thread may take to say goodbye to its connections.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// What the thread that keeps the time waits for.
pub(super) enum Event {
    Thread(Report),
    Ended,
    /// A thread's part of the crowd is open.
    Crowd,
    Interrupt,
}

/// The generator's threads.
pub(super) struct Crew {
    pub(super) threads: Vec<JoinHandle<Result<Harvest, LoadError>>>,
    /// By thread, once it has opened its connections; 0 before.
    pub(super) thread_ids: Vec<i32>,
    ready_count: usize,
    /// Threads whose last connection has gone.
    pub(super) deserted_count: usize,
    wakers: Vec<Waker>,
    pub(super) orders: Arc<Orders>,
    published: Arc<Published>,
    spare: Arc<Mutex<Vec<Slice>>>,
    drain_timeout: Duration,
}

impl Crew {
    pub(super) fn start(plan: &Plan, endpoint: &Endpoint, events: &Sender<Event>) -> Result<Self, LoadError> {
        let mut crew = Self {
            threads: Vec::new(),
            thread_ids: vec![0; plan.cpus.len()],
            ready_count: 0,
            deserted_count: 0,
            wakers: Vec::new(),
            orders: Arc::new(Orders::default()),
            published: Arc::new(Published::by(plan.cpus.len())),
            spare: Arc::new(Mutex::new(Vec::new())),
            drain_timeout: plan.drain_timeout,
        };
        let fan = fan::Part::of(plan, &endpoint.target);
        for index in 0..plan.cpus.len() {
            let waker = Waker::new().map_err(LoadError::Thread)?;
            crew.wakers.push(waker.clone());
            let task = Task { fan: fan.clone(), ..crew.task(plan, endpoint, index, events) };
            let (cpu, engine, ended) = (plan.cpus[index], plan.engine.clone(), events.clone());
            let (tls, trace) = (plan.tls.clone(), plan.trace.clone());
            let churns = plan.scene.play == Play::Churn;
            let body = move || {
                let result = generate(cpu, &engine, tls, trace, churns, task, &waker);
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
        let sender_count = plan.scene.sending_threads(thread_count);
        let spans = |gap_ns| Spans::new(gap_ns, lag_bound_ns(plan.spin), sender_count);
        let (schedule, spans, pipeline) = match plan.mode {
            Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Burst } => {
                let Play::Burst { count, every } = plan.scene.play else {
                    unreachable!("bursts have a size")
                };
                let schedule = Schedule::bursts(count, every.as_nanos() as u64, index, thread_count);
                (Some(schedule), Some(spans(1e9 * thread_count as f64 / rate_per_s)), 0)
            }
            Mode::OpenLoop { .. } if index >= sender_count => (None, None, 0),
            Mode::OpenLoop { rate_per_s, arrivals } => {
                let gap_ns = 1e9 * sender_count as f64 / rate_per_s;
                let first_per_s = plan.warmup_rate_per_s.unwrap_or(rate_per_s);
                let mut schedule = Schedule::new(first_per_s, arrivals, plan.seed, index, sender_count);
                if plan.warmup_rate_per_s.is_some() {
                    schedule = schedule.with_change(plan.warmup.as_nanos() as u64, rate_per_s, sender_count);
                }
                (Some(schedule), Some(spans(gap_ns)), 0)
            }
            Mode::ClosedLoop { pipeline } => (None, None, pipeline),
        };
        let wish = plan.scene.wish();
        // The schedule is the server's.
        let schedule = schedule.filter(|_| wish.is_none());
        let mut endpoint = endpoint.clone();
        let mut payloads = match plan.filling {
            Filling::Random => Payloads::new(plan.payload_bytes, plan.text, &mut random),
            Filling::Json => Payloads::json(plan.payload_bytes, plan.text, &mut random),
        };
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
            variety: plan.scene.variety(plan.seed, (index, thread_count), &self.published),
            wish,
            bursts_every_ns: plan.scene.bursts_every_ns(),
            fan: None,
            deflate: plan.deflate,
            subprotocols: plan.subprotocols.clone(),
            random,
            orders: Arc::clone(&self.orders),
            report: Box::new(move |report| {
                // Nobody listens only where the run was given up.
                let _ = events.send(Event::Thread(report));
            }),
            spare: Arc::clone(&self.spare),
        }
    }

    pub(super) fn wake(&self) {
        self.wakers.iter().for_each(Waker::wake);
    }

    /// How many connections are open, when all have opened or failed.
    pub(super) fn wait_until_open(&mut self, events: &Receiver<Event>) -> Result<usize, LoadError> {
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
                Ok(Event::Crowd | Event::Thread(Report::Slice(..) | Report::Unstamped)) => {}
            }
        }
        Ok(open_count)
    }

    pub(super) fn order(&self, window: Window) {
        self.orders.set(window);
        self.wake();
    }

    /// Lets the threads go once they have drained.
    pub(super) fn dismiss(&self) {
        self.orders.dismiss();
        self.wake();
    }

    pub(super) fn order_end_now(&self) {
        self.orders.dismiss();
        let now_ns = clock_ns();
        self.order(Window { start_ns: now_ns, measure_ns: now_ns, end_ns: now_ns, drained_ns: now_ns });
    }

    pub(super) fn used_ns(&self) -> u64 {
        cpu::used_ns(std::process::id(), Some(&self.thread_ids)).unwrap_or(0)
    }

    /// Has a slice's memory used again.
    pub(super) fn reuse(&self, mut slice: Slice) {
        slice.clear();
        if let Ok(mut spare) = self.spare.lock() {
            spare.push(slice);
        }
    }

    /// Waits for the threads to end, and hands out what they were, in order; their slices go to `on_slice`.
    pub(super) fn join(
        mut self,
        events: &Receiver<Event>,
        mut on_slice: impl FnMut(usize, &Slice),
    ) -> Result<Vec<Harvest>, LoadError> {
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
            Ok(harvest) => harvest,
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
    trace: Option<Numbers>,
    churns: bool,
    task: Task,
    waker: &Waker,
) -> Result<Harvest, LoadError> {
    cpu::pin_current_thread(cpu).map_err(LoadError::Thread)?;
    // The kernel may else end a wait 50 µs late, to save itself wake-ups, and so would every message be.
    cpu::end_waits_on_time();
    // Answers are always read, however much of ours waits: a server that echoes would else wait for us as we for it.
    // What may wait is bounded by the plan in a closed loop, by the backlog's threshold in an open one.
    let connections_max =
        (task.connections as u32).max(1) + if churns { churn::slack(task.connections) } else { 0 };
    let overhead_bytes = tls.as_ref().map_or(0, |_| limits::TLS_OVERHEAD_BYTES);
    let config = Config {
        connections_max,
        recv_buffer_bytes: limits::RECV_BUFFER_BYTES + overhead_bytes,
        outbox_bytes: usize::MAX,
        uring: engine.uring.clone(),
        kernel_timestamps: engine.kernel_timestamps,
        ..Config::default()
    };
    let connect_timeout_ns = task.connect_timeout_ns;
    let ground = (engine, config, waker, tls, connect_timeout_ns);
    match churns {
        _ if task.fan.is_some() => Ok(run_traced(ground, trace, Fan::new(task))?.into_harvest()),
        true => Ok(run_traced(ground, trace, Churn::new(task))?.into_harvest()),
        false => Ok(run_traced(ground, trace, Client::new(task))?.into_harvest()),
    }
}

/// What a handler runs on: engine, its configuration, what wakes it, how it is secured, and how long that may take.
type Ground<'a> = (&'a Chosen, Config, &'a Waker, Option<TlsPlan>, u64);

/// Runs a handler until it ends, traced if that is planned, and gives it back.
fn run_traced<H: Handler>(
    (engine, config, waker, tls, connect_timeout_ns): Ground<'_>,
    trace: Option<Numbers>,
    handler: H,
) -> Result<H, LoadError> {
    let Some(numbers) = trace else { return run(engine, config, waker, tls, connect_timeout_ns, handler) };
    let handler = Tapped::new(handler, Trace::to_standard_error(Role::Client, numbers));
    Ok(run(engine, config, waker, tls, connect_timeout_ns, handler)?.into_inner())
}

/// Runs a handler until it ends, over TLS if that is planned, and gives it back.
pub(super) fn run<H: Handler>(
    engine: &Chosen,
    config: Config,
    waker: &Waker,
    tls: Option<TlsPlan>,
    connect_timeout_ns: u64,
    handler: H,
) -> Result<H, LoadError> {
    let Some(tls) = tls else { return Ok(engine.kind.run(config, waker, handler, || {})?) };
    let handler = Tls::new(handler, Ends::Client(tls.client), connect_timeout_ns, client::CLOSE_NS);
    Ok(engine.kind.run(config, waker, handler, || {})?.into_inner())
}
