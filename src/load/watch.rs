//! Keeps the time of a run: orders its window, collects slices in it, notes what the kernel knows of it, and puts together what it came to.
//!
//! Invariant: processor time and the kernel's counts are taken at the window's two ends, before any thread is let go.
//! Deliberately absent: opening connections, which comes before, and the result file, which is made of [`Measured`].

use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::arrivals::Spans;
use super::bursts::BurstLog;
use super::crew::{Crew, Event};
use super::crowd::{Crowd, Left};
use super::fan::FanLog;
use super::progress::Progress;
use super::record::{Record, Recorded};
use super::scenario::Play;
use super::tally::{Slice, Window};
use super::task::{Harvest, Report};
use super::witness::Look;
use super::{LoadError, Plan, tui};
use crate::cpu;
use crate::engine::clock_ns;
use crate::measure::anatomy::{Anatomy, Collector};
use crate::measure::evidence::{self, Evidence, Exemplar, ThreadUse};
use crate::measure::particulars::{self, Particulars, Without};
use crate::measure::result::{
    self, Accounting, CpuUse, Latencies, Mode, Negotiated, Outcome, Status, Summary, Wire,
};
use crate::scenario::deflate::DeflateParameters;
use crate::server::Server;

/// Between the last connection's opening and the first message: threads wake up and see their orders.
const START_DELAY_NS: u64 = 20_000_000;
/// How often threads are asked what has happened: so often that a run is cut into enough batches to tell how much
/// its samples depend on each other, and seldom enough to cost nothing.
const SLICES_PER_RUN: u64 = 32;
const SLICE_NS_MIN: u64 = 100_000_000;
const SLICE_NS_MAX: u64 = 1_000_000_000;
/// How long the timekeeper looks away at most while it shows how warming up goes on.
const LOOK_NS: u64 = 100_000_000;

/// Whose CPU time is the server's.
pub(super) enum ServerCpu {
    Unknown,
    Process(u32),
    Threads(Vec<i32>),
}

impl ServerCpu {
    pub(super) fn new(plan: &Plan, embedded: Option<&Server>) -> Self {
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

/// What was noted of the measured window from outside the generator's threads.
#[derive(Default)]
struct Witnessed {
    cpu: CpuUse,
    evidence: Evidence,
    /// By thread; `None` where the kernel does not tell.
    threads: Vec<Option<ThreadUse>>,
}

/// Keeps the time of a run.
pub(super) struct Watch<'a> {
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
    /// Those beside.
    crowd: Option<Crowd>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        crew: Crew,
        crowd: Option<Crowd>,
        server_cpu: ServerCpu,
        progress: &'a mut Progress,
    ) -> Self {
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
            crowd,
        }
    }

    /// From the first message to the end of the measured window.
    pub(super) fn run(&mut self, events: &Receiver<Event>) -> Outcome {
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
                Ok(Event::Crowd | Event::Thread(Report::Ready { .. })) | Err(_) => {}
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
    pub(super) fn finish(
        mut self,
        outcome: Outcome,
        events: &Receiver<Event>,
    ) -> Result<Measured, LoadError> {
        let now_ns = clock_ns();
        self.crowd.iter_mut().for_each(Crowd::note_end);
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
        let mut harvests = self.crew.join(events, |thread, slice| record.add(thread, slice))?;
        for (thread, harvest) in harvests.iter().enumerate() {
            record.add(thread, &harvest.tally.slice);
            record.add_late(thread, &harvest.tally.late);
        }
        let recorded = record.finish();
        let measured_s = (self.window.end_ns - self.window.measure_ns) as f64 / 1e9;
        let left = self.crowd.map(Crowd::disperse).transpose()?;
        let logs = harvests.iter_mut().filter_map(|harvest| harvest.tally.bursts.take());
        let logs: Vec<BurstLog> = logs.map(|log| *log).collect();
        let fans = harvests.iter_mut().filter_map(|harvest| harvest.tally.fan.take());
        let fan = FanLog::finish(&fans.map(|log| *log).collect::<Vec<_>>());
        let mut measured =
            Measured::merge(self.plan, outcome, harvests, recorded, self.witnessed, measured_s);
        if let Play::Burst { count, .. } = self.plan.scene.play {
            measured.particulars.bursts = BurstLog::finish(&logs, &self.window, count);
        }
        if let Some(churn) = &mut measured.particulars.churn {
            let books = &measured.accounting;
            churn.connections_per_s = (books.answered - books.answered_late) as f64 / measured_s.max(1e-9);
        }
        measured.particulars.fan = fan.map(|fan| {
            let books = &measured.accounting;
            let in_time = books.answered - books.answered_late;
            particulars::Fan { deliveries_per_s: in_time as f64 / measured_s.max(1e-9), ..fan }
        });
        left.into_iter().for_each(|left| measured.add_crowd(left));
        Ok(measured)
    }
}

/// What a run came to.
pub(super) struct Measured {
    pub(super) outcome: Outcome,
    pub(super) accounting: Accounting,
    pub(super) latency: Latencies,
    pub(super) recorded: Recorded,
    pub(super) cpu: CpuUse,
    pub(super) anatomy: Option<Anatomy>,
    /// It was asked for, and the server does not stamp its answers.
    pub(super) is_unstamped: bool,
    pub(super) agreed: Agreed,
    pub(super) measured_s: f64,
    pub(super) evidence: Evidence,
    pub(super) exemplars: Vec<Exemplar>,
    pub(super) particulars: Particulars,
}

/// What connections agreed on with the server, and what came of it.
#[derive(Default)]
pub(super) struct Agreed {
    /// The compression.
    pub(super) deflate: Option<DeflateParameters>,
    /// What messages came to with it.
    pub(super) wire: Wire,
    /// The subprotocol that was chosen.
    pub(super) subprotocol: Option<String>,
    /// What connections were secured with.
    pub(super) negotiated: Vec<Negotiated>,
}

impl Agreed {
    /// All of a run's connections agreed on the same, but for how they were secured.
    fn add(&mut self, harvest: &Harvest) {
        self.deflate = self.deflate.or(harvest.deflate);
        self.wire.merge(&harvest.wire);
        let chosen = || harvest.subprotocol.as_ref().map(ToString::to_string);
        self.subprotocol = self.subprotocol.take().or_else(chosen);
        harvest.tally.negotiated.iter().for_each(|theirs| theirs.add_to(&mut self.negotiated));
    }
}

impl Measured {
    /// What another run is held against, of a plan recorded so.
    pub(super) fn as_without(&self, plan: &result::Plan) -> Without {
        let Self { accounting, latency, recorded, measured_s, .. } = self;
        let summary = Summary::new(plan, accounting, latency, &recorded.batches, *measured_s);
        let is_open_loop = matches!(plan.mode, Mode::OpenLoop { .. });
        let (percentiles, headline) = match is_open_loop {
            true => (summary.response, &latency.response),
            false => (summary.service, &latency.service),
        };
        Without {
            offered: accounting.offered,
            answered: accounting.answered,
            rate_achieved_per_s: summary.rate_achieved_per_s,
            percentiles,
            headline: headline.clone(),
        }
    }

    /// Those beside are in the books as connections, and their errors as errors.
    fn add_crowd(&mut self, left: Left) {
        for tally in &left.tallies {
            self.accounting.merge(&tally.accounting);
            // A crowd's connections are opened as fast as they may be, and not what churn measures.
            if self.particulars.churn.is_none() {
                self.latency.merge(&tally.latency);
            }
            tally.negotiated.iter().for_each(|theirs| theirs.add_to(&mut self.agreed.negotiated));
        }
        self.particulars.crowd = Some(left.crowd);
    }

    /// What the threads come to together.
    fn merge(
        plan: &Plan,
        outcome: Outcome,
        harvests: Vec<Harvest>,
        mut recorded: Recorded,
        witnessed: Witnessed,
        measured_s: f64,
    ) -> Self {
        let Witnessed { cpu, mut evidence, mut threads } = witnessed;
        let (mut accounting, mut latency) = (Accounting::default(), Latencies::default());
        let mut exemplars = Vec::new();
        let mut spans = Vec::new();
        let (mut anatomy, mut is_unstamped) = (Collector::default(), false);
        let mut agreed = Agreed::default();
        let mut particulars = Particulars::default();
        for (thread, harvest) in harvests.into_iter().enumerate() {
            accounting.merge(&harvest.tally.accounting);
            latency.merge(&harvest.tally.latency);
            evidence.held_back += harvest.tally.held_back;
            harvest.tally.anatomy.iter().for_each(|theirs| anatomy.merge(theirs));
            is_unstamped |= harvest.is_unstamped;
            agreed.add(&harvest);
            particulars.merge(&harvest.particulars);
            if let Some(mut of_thread) = threads.get_mut(thread).and_then(Option::take) {
                of_thread.idle_s = plan.spin.then_some(harvest.idle_ns as f64 / 1e9);
                std::mem::swap(&mut of_thread.headline, &mut recorded.headline_of_threads[thread]);
                evidence.threads.push(of_thread);
            }
            spans.extend(harvest.tally.spans);
            exemplars.extend(harvest.exemplars);
        }
        accounting.outstanding = accounting.sent - accounting.answered;
        match plan.mode {
            Mode::OpenLoop { .. } => latency.response = recorded.headline.clone(),
            Mode::ClosedLoop { .. } => latency.service = recorded.headline.clone(),
        }
        let has_arrivals = !matches!(plan.scene.play, Play::Burst { .. } | Play::Push { .. });
        evidence.arrivals = spans.first().filter(|_| has_arrivals).map(|first| evidence::Arrivals {
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
            agreed,
            measured_s,
            evidence,
            exemplars,
            particulars,
        }
    }
}
