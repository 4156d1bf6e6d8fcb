//! What the live view knows: plain data, fed with snapshots, read by the view.
//!
//! Invariant: memory is bounded however long a run is. The history is at most [`POINTS_MAX`] points; when it would
//! grow beyond, neighbours are merged in pairs, counts and all, so that no percentile is ever averaged. What a
//! snapshot brings is counted exactly once, whether it came alone or merged with others.
//! Deliberately absent: clocks, threads, the terminal. Time is handed in.

use std::time::Duration;

use crate::load::tally::Slice;
use crate::load::{Endpoint, Plan, record_of};
use crate::measure::evidence::CpuTime;
use crate::measure::histogram::{self, Histogram};
use crate::measure::result::Mode;
use crate::measure::verdict::lag_bound_ns;
use crate::report::terminal;

/// What the timekeeper calls the time before the measured window, and the window itself.
pub(crate) const WARMING_UP: &str = "warming up";
pub(crate) const MEASURING: &str = "measuring";

/// Points of the history: more than a terminal has columns of dots.
pub(super) const POINTS_MAX: usize = 600;
/// Notes that are kept.
pub(super) const NOTES_MAX: usize = 8;
/// The shortest point: there are no more redraws than that.
const POINT_MIN: Duration = Duration::from_millis(200);
/// Messages in a point, where the rate is known: enough to state its p99.
const POINT_MESSAGES: f64 = 700.0;

/// What stays the same over a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Header {
    pub(crate) url: String,
    /// What is done, in a line.
    pub(crate) workload: String,
    /// What does the I/O, of both ends where they differ.
    pub(crate) engines: String,
    /// The rate asked for in an open loop, in messages a second.
    pub(crate) offered_per_s: Option<f64>,
    /// The 99th percentile of lag that is put up with.
    pub(crate) lag_bound_ns: u64,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) load_cpus: Vec<usize>,
    /// Of the server in this process.
    pub(crate) server_cpus: Vec<usize>,
}

impl Header {
    pub(crate) fn of(plan: &Plan, endpoint: &Endpoint) -> Self {
        let ours = plan.endpoint.is_none();
        let record = record_of(plan);
        let (load, server) = (plan.engine.kind.name(), plan.server_engine.kind.name());
        Self {
            url: endpoint.url.clone(),
            workload: terminal::workload(&record),
            engines: match ours && load != server {
                true => format!("server {server}, load {load}"),
                false => load.to_owned(),
            },
            offered_per_s: match plan.mode {
                Mode::OpenLoop { rate_per_s, .. } => Some(rate_per_s * record.answers_per_message()),
                Mode::ClosedLoop { .. } => None,
            },
            lag_bound_ns: lag_bound_ns(plan.spin),
            warmup: plan.warmup,
            duration: plan.duration,
            load_cpus: plan.cpus.clone(),
            server_cpus: if ours { plan.server_cpus.clone() } else { Vec::new() },
        }
    }

    pub(super) fn is_open_loop(&self) -> bool {
        self.offered_per_s.is_some()
    }

    /// CPUs that both ends were given.
    pub(super) fn shared_cpus(&self) -> Vec<usize> {
        self.load_cpus.iter().copied().filter(|cpu| self.server_cpus.contains(cpu)).collect()
    }

    fn first_point(&self) -> Duration {
        let enough = self.offered_per_s.map_or(0.0, |rate| POINT_MESSAGES / rate);
        // Twenty points at least, however few messages.
        POINT_MIN.max(Duration::from_secs_f64(enough.min(self.duration.as_secs_f64() / 20.0)))
    }
}

/// Durations counted in slots a 32nd of an octave wide: two digits, in a few hundred entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Slot and count, ascending by slot.
    slots: Vec<(u16, u64)>,
    max_ns: u64,
}

/// Slots per octave, as a power of two.
const SLOT_BITS: u32 = 5;

fn slot_of(value_ns: u64) -> u16 {
    let octave = (value_ns | 1).ilog2().saturating_sub(SLOT_BITS);
    ((u64::from(octave) << SLOT_BITS) + (value_ns >> octave)) as u16
}

/// The middle of what falls in `slot`, in nanoseconds.
fn value_of(slot: u16) -> u64 {
    let slot = u64::from(slot);
    let octave = (slot >> SLOT_BITS).saturating_sub(1);
    let low = (slot - (octave << SLOT_BITS)) << octave;
    low + (1 << octave) / 2
}

impl Counts {
    pub(crate) fn of(histogram: &Histogram) -> Self {
        let mut slots: Vec<(u16, u64)> = Vec::new();
        for recorded in histogram.iter_recorded() {
            let slot = slot_of(recorded.value_iterated_to());
            match slots.last_mut() {
                Some((last, count)) if *last == slot => *count += recorded.count_at_value(),
                _ => slots.push((slot, recorded.count_at_value())),
            }
        }
        Self { slots, max_ns: histogram::maximum_ns(histogram).unwrap_or(0) }
    }

    pub(crate) fn merge(&mut self, other: &Counts) {
        for &(slot, count) in &other.slots {
            match self.slots.binary_search_by_key(&slot, |&(slot, _)| slot) {
                Ok(at) => self.slots[at].1 += count,
                Err(at) => self.slots.insert(at, (slot, count)),
            }
        }
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub(super) fn len(&self) -> u64 {
        self.slots.iter().map(|&(_, count)| count).sum()
    }

    /// The value at `quantile` to within 1.6 %, or `None` if there are too few samples to state it.
    pub(super) fn percentile_ns(&self, quantile: f64) -> Option<u64> {
        let total = self.len();
        if !histogram::has_enough_samples(total, quantile) {
            return None;
        }
        let rank = ((quantile * total as f64).ceil() as u64).clamp(1, total);
        let mut below = 0;
        let slot = self.slots.iter().find(|&&(_, count)| {
            below += count;
            below >= rank
        });
        slot.map(|&(slot, _)| value_of(slot).min(self.max_ns))
    }

    pub(super) fn max_ns(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.max_ns)
    }

    /// Values, each the middle of its slot, and their counts, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.slots.iter().map(|&(slot, count)| (value_of(slot).min(self.max_ns), count))
    }
}

/// A stretch of the measured window.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Piece {
    /// After the start of the window.
    pub(crate) start: Duration,
    pub(crate) length: Duration,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) errors: u64,
    /// Messages that the generator came to later than its bound.
    pub(crate) lagging: u64,
    /// Of the headline duration.
    pub(crate) counts: Counts,
}

impl Piece {
    pub(crate) fn of(start: Duration, length: Duration, slice: &Slice) -> Self {
        Self {
            start,
            length,
            sent: slice.sent,
            answered: slice.answered,
            errors: slice.errors,
            lagging: slice.lagging,
            counts: Counts::of(&slice.headline),
        }
    }

    fn merge(&mut self, next: &Piece) {
        self.length += next.length;
        self.sent += next.sent;
        self.answered += next.answered;
        self.errors += next.errors;
        self.lagging += next.lagging;
        self.counts.merge(&next.counts);
    }

    /// Answers a second.
    pub(super) fn rate_per_s(&self) -> f64 {
        self.answered as f64 / self.length.as_secs_f64().max(1e-9)
    }

    pub(super) fn middle_s(&self) -> f64 {
        (self.start + self.length / 2).as_secs_f64()
    }
}

/// What has happened since the last snapshot that got through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Since the first message, warm-up included.
    pub(crate) elapsed: Duration,
    /// [`WARMING_UP`] and the like, where it has changed.
    pub(crate) phase: Option<&'static str>,
    pub(crate) notes: Vec<String>,
    pub(crate) piece: Option<Piece>,
}

impl Snapshot {
    /// Has what came after this one counted here.
    pub(crate) fn merge(&mut self, next: Snapshot) {
        self.elapsed = self.elapsed.max(next.elapsed);
        self.phase = next.phase.or(self.phase);
        self.notes.extend(next.notes);
        let surplus = self.notes.len().saturating_sub(NOTES_MAX);
        self.notes.drain(..surplus);
        match (&mut self.piece, next.piece) {
            (Some(piece), Some(next)) => piece.merge(&next),
            (piece @ None, next) => *piece = next,
            (Some(_), None) => {}
        }
    }
}

/// How a CPU spent the last moment, and the run so far: shares from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CpuShare {
    pub(super) cpu: usize,
    /// In processes and interrupts, lately.
    pub(super) busy: f64,
    /// Taken by the hypervisor, lately.
    pub(super) steal: f64,
    /// The same over the measured window so far.
    pub(super) steal_so_far: f64,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) header: Header,
    pub(super) phase: &'static str,
    /// Since the first message, warm-up included.
    pub(super) elapsed: Duration,
    pub(super) notes: Vec<String>,
    /// All pieces so far as one.
    pub(super) whole: Piece,
    pub(super) points: Vec<Piece>,
    point_length: Duration,
    pub(super) cpus: Vec<CpuShare>,
    cpu_times_at_start: Vec<CpuTime>,
    cpu_times_before: Vec<CpuTime>,
    /// Whether the user has asked for the end.
    pub(super) ending: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
}

impl Model {
    pub(super) fn new(header: Header) -> Self {
        Self {
            point_length: header.first_point(),
            header,
            phase: "connecting",
            elapsed: Duration::ZERO,
            notes: Vec::new(),
            whole: Piece::default(),
            points: Vec::new(),
            cpus: Vec::new(),
            cpu_times_at_start: Vec::new(),
            cpu_times_before: Vec::new(),
            ending: false,
            paused: false,
            help: false,
        }
    }

    pub(super) fn on_snapshot(&mut self, snapshot: Snapshot) {
        self.elapsed = self.elapsed.max(snapshot.elapsed);
        self.phase = snapshot.phase.unwrap_or(self.phase);
        self.notes.extend(snapshot.notes);
        self.notes.drain(..self.notes.len().saturating_sub(NOTES_MAX));
        if let Some(piece) = snapshot.piece {
            self.whole.merge(&piece);
            self.append(piece);
        }
    }

    /// Between two words of the timekeeper time goes on.
    pub(super) fn on_time(&mut self, passed: Duration) {
        if self.phase != WARMING_UP && self.phase != MEASURING {
            return;
        }
        self.elapsed += passed;
        if self.elapsed >= self.header.warmup {
            self.phase = MEASURING;
        }
    }

    fn append(&mut self, piece: Piece) {
        match self.points.last_mut() {
            Some(last) if last.length + piece.length <= self.point_length => last.merge(&piece),
            _ => self.points.push(piece),
        }
        if self.points.len() > POINTS_MAX {
            let longest = self.points.iter().map(|point| point.length).max().unwrap_or_default();
            self.point_length = 2 * self.point_length.max(longest);
            let points = std::mem::take(&mut self.points);
            self.points = points.chunks(2).map(merged).collect();
        }
    }

    /// `/proc/stat` as it reads now.
    pub(super) fn on_cpu_times(&mut self, now: Vec<CpuTime>) {
        if self.points.is_empty() || self.cpu_times_at_start.is_empty() {
            self.cpu_times_at_start.clone_from(&now);
        }
        let steal = |from: &[CpuTime], to: &CpuTime| shares_since(from, to).map_or(0.0, |(_, steal)| steal);
        let share = |to: &CpuTime| {
            let (busy, lately) = shares_since(&self.cpu_times_before, to)?;
            let steal_so_far = steal(&self.cpu_times_at_start, to);
            Some(CpuShare { cpu: to.cpu as usize, busy, steal: lately, steal_so_far })
        };
        let shares: Vec<CpuShare> = now.iter().filter_map(share).collect();
        self.cpus = shares;
        self.cpu_times_before = now;
    }

    /// Of the run, from 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        let total = self.header.warmup + self.header.duration;
        (self.elapsed.as_secs_f64() / total.as_secs_f64().max(1e-9)).min(1.0)
    }

    /// Since measuring began.
    pub(super) fn measured(&self) -> Duration {
        self.elapsed.saturating_sub(self.header.warmup).min(self.header.duration)
    }

    pub(super) fn remaining(&self) -> Duration {
        (self.header.warmup + self.header.duration).saturating_sub(self.elapsed)
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.whole.sent.saturating_sub(self.whole.answered)
    }

    /// Of the messages sent, those that the generator was late for; `None` without a schedule or a message.
    pub(super) fn lagging_share(&self) -> Option<f64> {
        let known = self.header.is_open_loop() && self.whole.sent > 0;
        known.then(|| self.whole.lagging as f64 / self.whole.sent as f64)
    }
}

fn merged(pieces: &[Piece]) -> Piece {
    let mut whole = pieces[0].clone();
    pieces[1..].iter().for_each(|piece| whole.merge(piece));
    whole
}

/// Shares of being busy and of steal between two readings; `None` where no tick has passed.
fn shares_since(before: &[CpuTime], now: &CpuTime) -> Option<(f64, f64)> {
    let before = before.iter().find(|time| time.cpu == now.cpu)?;
    let busy = now.busy_s + now.interrupts_s - before.busy_s - before.interrupts_s;
    let (steal, idle) = (now.steal_s - before.steal_s, now.idle_s - before.idle_s);
    let total = busy + steal + idle;
    // Idle time has been seen to run backwards.
    (total > 0.0).then(|| ((busy / total).clamp(0.0, 1.0), (steal / total).clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::{HIGHEST_NS, new_histogram, record};

    fn counts(values_ns: impl IntoIterator<Item = u64>) -> Counts {
        let mut histogram = new_histogram();
        values_ns.into_iter().for_each(|value| record(&mut histogram, value));
        Counts::of(&histogram)
    }

    fn piece(start_ms: u64, length_ms: u64, answered: u64) -> Piece {
        let (start, length) = (Duration::from_millis(start_ms), Duration::from_millis(length_ms));
        Piece { start, length, sent: answered, answered, ..Piece::default() }
    }

    #[test]
    fn a_slot_is_never_further_than_a_64th_from_what_fell_in_it() {
        let mut value_ns = 1;
        while value_ns <= HIGHEST_NS {
            for value_ns in [value_ns - 1, value_ns, value_ns + 1] {
                let middle = value_of(slot_of(value_ns));
                assert!(middle.abs_diff(value_ns) * 64 <= value_ns, "{value_ns} became {middle}");
            }
            assert!(slot_of(value_ns - 1) <= slot_of(value_ns));
            value_ns = value_ns * 17 / 16 + 1;
        }
        let slots = usize::from(slot_of(HIGHEST_NS));
        assert!(slots < 1300, "{slots} slots: the bound on memory rests on their number");
    }

    #[test]
    fn percentiles_of_counts_are_those_of_the_histogram() {
        let mut histogram = new_histogram();
        (0..40_000).for_each(|n| record(&mut histogram, 20_000 + n * n % 3_000_000));
        let coarse = Counts::of(&histogram);
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            let exact = histogram::percentile_ns(&histogram, quantile).unwrap() as f64;
            let ratio = coarse.percentile_ns(quantile).unwrap() as f64 / exact;
            assert!((ratio - 1.0).abs() < 1.0 / 60.0, "{quantile}: {ratio}");
        }
        assert_eq!(coarse.max_ns(), histogram::maximum_ns(&histogram));
        assert_eq!(counts(0..100).percentile_ns(0.99), None, "too few samples");
    }

    #[test]
    fn merged_counts_are_the_counts_of_everything() {
        let mut merged = counts((0..9_000).step_by(7));
        merged.merge(&counts((5_000..3_000_000).step_by(501)));
        assert_eq!(merged, counts((0..9_000).step_by(7).chain((5_000..3_000_000).step_by(501))));
    }

    #[test]
    fn snapshots_that_did_not_get_through_are_counted_with_the_next() {
        let mut waiting = Snapshot::default();
        for n in 0..50 {
            let notes = vec![format!("note {n}")];
            let piece = Some(piece(n * 100, 100, 10));
            waiting.merge(Snapshot { notes, piece, ..Snapshot::default() });
        }
        let whole = waiting.piece.clone().unwrap();
        assert_eq!((whole.start, whole.length), (Duration::ZERO, Duration::from_secs(5)));
        assert_eq!(whole.answered, 500);
        assert_eq!(waiting.notes.len(), NOTES_MAX);
        assert_eq!(waiting.notes.last().unwrap(), "note 49");
    }

    #[test]
    fn a_day_of_snapshots_stays_in_bounds_and_loses_nothing() {
        let header = Header { duration: Duration::from_secs(86_400), ..Header::default() };
        let mut model = Model::new(header);
        let shape = counts((0..60).map(|n| 1_000 + n * n * n * 400));
        let pieces = 86_400 * 5;
        for n in 0..pieces {
            let piece = Piece { counts: shape.clone(), ..piece(n * 200, 200, 60) };
            let notes = vec!["again".to_owned()];
            model.on_snapshot(Snapshot { piece: Some(piece), notes, ..Snapshot::default() });
            assert!(model.points.len() <= POINTS_MAX && model.notes.len() <= NOTES_MAX);
        }
        assert!(model.points.len() > POINTS_MAX / 3, "{} points are too coarse", model.points.len());
        assert_eq!(model.points.iter().map(|point| point.counts.len()).sum::<u64>(), pieces * 60);
        assert_eq!(model.whole.counts.len(), pieces * 60);
        let covered: Duration = model.points.iter().map(|point| point.length).sum();
        assert_eq!(covered, Duration::from_secs(86_400));
        assert!(model.points.is_sorted_by_key(|point| point.start));
    }

    #[test]
    fn time_goes_on_and_measuring_begins_without_a_word_of_the_timekeeper() {
        let header = Header { warmup: Duration::from_secs(2), ..Header::default() };
        let mut model = Model::new(header);
        model.on_time(Duration::from_secs(9));
        assert_eq!(model.elapsed, Duration::ZERO, "connecting takes as long as it takes");
        model.on_snapshot(Snapshot { phase: Some(WARMING_UP), ..Snapshot::default() });
        model.on_time(Duration::from_millis(1_900));
        assert_eq!(model.phase, WARMING_UP);
        model.on_time(Duration::from_millis(200));
        assert_eq!((model.phase, model.elapsed), (MEASURING, Duration::from_millis(2_100)));
        model.on_snapshot(Snapshot { phase: Some("draining"), ..Snapshot::default() });
        model.on_time(Duration::from_secs(1));
        assert_eq!((model.phase, model.elapsed), ("draining", Duration::from_millis(2_100)));
    }

    #[test]
    fn points_hold_enough_messages_for_a_p99_where_the_rate_is_known() {
        let length = |offered_per_s, seconds| {
            let duration = Duration::from_secs(seconds);
            Header { offered_per_s, duration, ..Header::default() }.first_point().as_millis()
        };
        assert_eq!(length(Some(20_000.0), 10), 200);
        assert_eq!(length(Some(700.0), 60), 1_000);
        assert_eq!(length(Some(1.0), 60), 3_000, "a picture of a slow run needs points too");
        assert_eq!(length(None, 60), 200);
    }

    #[test]
    fn cpu_shares_are_differences_between_readings() {
        let reading =
            |busy_s, steal_s, idle_s| vec![CpuTime { cpu: 3, busy_s, interrupts_s: 0.0, steal_s, idle_s }];
        let mut model = Model::new(Header::default());
        model.on_cpu_times(reading(100.0, 5.0, 50.0));
        assert_eq!(model.cpus, [], "one reading says nothing");
        model.on_snapshot(Snapshot { piece: Some(piece(0, 100, 1)), ..Snapshot::default() });
        model.on_cpu_times(reading(100.6, 5.1, 50.3));
        model.on_cpu_times(reading(101.5, 5.1, 50.4));
        let [share] = model.cpus[..] else { panic!("{:?}", model.cpus) };
        assert_eq!(share.cpu, 3);
        assert!((share.busy - 0.9).abs() < 1e-6 && share.steal.abs() < 1e-6, "{share:?}");
        assert!((share.steal_so_far - 0.05).abs() < 1e-6, "{share:?}");
    }
}
