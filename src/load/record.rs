//! What a run comes to while it goes on: slices in; batches, intervals and whole histograms out.
//!
//! Invariant: every slice is in one batch, one interval, its thread's histogram and the whole; memory does not grow with
//! the run but by an [`Interval`] a second, and after a day not at all. Deliberately absent: clocks; the caller says what time it is.

use super::tally::{Slice, Window};
use crate::measure::histogram::{self, Histogram, new_histogram};
use crate::measure::result::Interval;
use crate::measure::series::{Batch, Compact, Series};

/// Length of an interval, at least.
const INTERVAL_NS_MIN: u64 = 1_000_000_000;
/// Intervals, about, at most: a day of seconds. Longer runs have longer ones.
const INTERVALS_MAX: u64 = 24 * 3600;

/// See the module's text.
pub(super) struct Record {
    window: Window,
    headline_of_threads: Vec<Histogram>,
    series: Series,
    intervals: Vec<Interval>,
    interval_ns: u64,
    batch: Slice,
    batch_start_ns: u64,
    interval: Slice,
    interval_start_ns: u64,
    interval_is_over: bool,
}

impl Record {
    pub(super) fn new(window: Window, thread_count: usize) -> Self {
        Self {
            window,
            headline_of_threads: (0..thread_count).map(|_| new_histogram()).collect(),
            series: Series::default(),
            intervals: Vec::new(),
            interval_ns: ((window.end_ns - window.measure_ns) / INTERVALS_MAX).max(INTERVAL_NS_MIN),
            batch: Slice::new(),
            batch_start_ns: window.measure_ns,
            interval: Slice::new(),
            interval_start_ns: window.measure_ns,
            interval_is_over: false,
        }
    }

    /// The window ends earlier than planned.
    pub(super) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// What a thread did since its last slice.
    pub(super) fn add(&mut self, thread: usize, slice: &Slice) {
        self.batch.merge(slice);
        histogram::merge(&mut self.headline_of_threads[thread], &slice.headline);
    }

    /// Answers that came after the window: in the whole, but in no batch.
    pub(super) fn add_late(&mut self, thread: usize, slice: &Slice) {
        histogram::merge(&mut self.headline_of_threads[thread], &slice.headline);
    }

    /// The batch under way, and its beginning.
    pub(super) fn batch(&self) -> (u64, &Slice) {
        (self.batch_start_ns, &self.batch)
    }

    /// What was added since the last call ended at `now_ns`. Ends the interval as well where it is long enough, and hands
    /// it out with its beginning.
    pub(super) fn end_batch(&mut self, now_ns: u64) -> Option<(u64, &Slice)> {
        let after_start_s = |at_ns: u64| at_ns.saturating_sub(self.window.measure_ns) as f64 / 1e9;
        self.series.push(Batch {
            start_s: after_start_s(self.batch_start_ns),
            length_s: now_ns.saturating_sub(self.batch_start_ns) as f64 / 1e9,
            sent: self.batch.sent,
            answered: self.batch.answered,
            headline: Compact::of(&self.batch.headline),
        });
        if std::mem::take(&mut self.interval_is_over) {
            self.interval.clear();
            self.interval_start_ns = self.batch_start_ns;
        }
        self.batch_start_ns = now_ns;
        self.interval.merge(&self.batch);
        self.batch.clear();
        // A batch ends a little after it is asked to.
        if now_ns + self.interval_ns / 20 < self.interval_start_ns + self.interval_ns
            && now_ns < self.window.end_ns
        {
            return None;
        }
        let (start_ns, interval) = (self.interval_start_ns, &self.interval);
        self.intervals.push(Interval {
            start_s: after_start_s(start_ns),
            length_s: now_ns.saturating_sub(start_ns) as f64 / 1e9,
            sent: interval.sent,
            answered: interval.answered,
            p50_ns: histogram::percentile_ns(&interval.headline, 0.5),
            p99_ns: histogram::percentile_ns(&interval.headline, 0.99),
            max_ns: histogram::maximum_ns(&interval.headline),
        });
        // Cleared when the next begins: the caller has a look at it first.
        self.interval_is_over = true;
        Some((start_ns, &self.interval))
    }

    /// The last batch ends with the window.
    pub(super) fn finish(mut self) -> Recorded {
        if self.window.end_ns > self.batch_start_ns {
            self.end_batch(self.window.end_ns);
        }
        let mut headline = new_histogram();
        self.headline_of_threads.iter().for_each(|of_thread| histogram::merge(&mut headline, of_thread));
        Recorded {
            headline,
            headline_of_threads: self.headline_of_threads,
            batches: self.series.into_batches(),
            intervals: self.intervals,
        }
    }
}

/// See [`Record`].
pub(super) struct Recorded {
    pub(super) headline: Histogram,
    pub(super) headline_of_threads: Vec<Histogram>,
    pub(super) batches: Vec<Batch>,
    pub(super) intervals: Vec<Interval>,
}
