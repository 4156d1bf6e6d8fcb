//! What a generator thread counts and times.
//!
//! Invariant: every message of the measured window is in exactly one of `unsent`, `answered` and, by
//! difference, `outstanding`; a duration is recorded once, in nanoseconds, where it was measured.

use super::arrivals::Spans;
use super::bursts::BurstLog;
use super::fan::FanLog;
use crate::measure::anatomy::{Collector, Parts};
use crate::measure::histogram::{self, Histogram, new_histogram};
use crate::measure::result::{Accounting, Latencies, Negotiated};
use crate::tls::Secured;

/// When the phases of a run begin, in nanoseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The first message.
    pub(super) start_ns: u64,
    /// The first message that is measured.
    pub(super) measure_ns: u64,
    /// No message is sent from here on.
    pub(super) end_ns: u64,
    /// Answers are no longer waited for.
    pub(super) drained_ns: u64,
}

impl Window {
    /// Moves the end to `now_ns`, if it is later: what was sent so far belongs to the window as before.
    pub(super) fn end_at(&mut self, now_ns: u64) {
        if now_ns < self.end_ns {
            let drain_ns = self.drained_ns - self.end_ns;
            self.end_ns = now_ns + 1;
            self.measure_ns = self.measure_ns.min(self.end_ns);
            self.drained_ns = self.end_ns + drain_ns;
        }
    }

    /// Whether a message intended at `intended_ns` is measured.
    #[inline]
    pub(super) fn measures(&self, intended_ns: u64) -> bool {
        (self.measure_ns..self.end_ns).contains(&intended_ns)
    }
}

/// What happened since the last look; made of the headline duration, whose histogram all of these make up.
#[derive(Debug)]
pub(super) struct Slice {
    /// Response time in an open loop, service time in a closed one.
    pub(super) headline: Histogram,
    /// Measured messages sent.
    pub(super) sent: u64,
    /// Measured messages answered.
    pub(super) answered: u64,
    /// Measured messages that the generator came to later than its lag's bound.
    pub(super) lagging: u64,
    /// Errors of all classes.
    pub(super) errors: u64,
}

impl Slice {
    pub(super) fn new() -> Self {
        Self { headline: new_histogram(), sent: 0, answered: 0, lagging: 0, errors: 0 }
    }

    pub(super) fn merge(&mut self, other: &Slice) {
        histogram::merge(&mut self.headline, &other.headline);
        self.sent += other.sent;
        self.answered += other.answered;
        self.lagging += other.lagging;
        self.errors += other.errors;
    }

    pub(super) fn clear(&mut self) {
        self.headline.reset();
        (self.sent, self.answered, self.lagging, self.errors) = (0, 0, 0, 0);
    }
}

/// See the module's text.
pub(super) struct Tally {
    /// Counts of the whole run.
    pub(super) accounting: Accounting,
    /// All durations but the headline's.
    pub(super) latency: Latencies,
    /// The slice under way.
    pub(super) slice: Slice,
    /// Answers that came after the window: part of the whole, and of no interval.
    pub(super) late: Slice,
    /// The parts of response times, where the server stamps its answers.
    pub(super) anatomy: Option<Box<Collector>>,
    /// When bursts were answered, where messages come in bursts.
    pub(super) bursts: Option<Box<BurstLog>>,
    /// When publications were delivered, where messages are.
    pub(super) fan: Option<Box<FanLog>>,
    /// When the schedule's messages were reached; `None` in a closed loop.
    pub(super) spans: Option<Spans>,
    /// Messages that could not be sent when they were, because the server was not reading.
    pub(super) held_back: u64,
    /// What connections were secured with.
    pub(super) negotiated: Vec<Negotiated>,
    /// Errors that earlier slices have told of.
    errors_told: u64,
}

impl Tally {
    /// Of an open loop, with `spans`, or of a closed one.
    pub(super) fn new(spans: Option<Spans>) -> Self {
        let (accounting, latency) = (Accounting::default(), Latencies::default());
        let (slice, late) = (Slice::new(), Slice::new());
        Self {
            accounting,
            latency,
            slice,
            late,
            anatomy: None,
            bursts: None,
            fan: None,
            spans,
            held_back: 0,
            negotiated: Vec::new(),
            errors_told: 0,
        }
    }

    /// Ends the slice under way; the next one begins in `fresh`, which is empty.
    pub(super) fn hand_over(&mut self, fresh: Slice) -> Slice {
        let mut full = std::mem::replace(&mut self.slice, fresh);
        let errors = self.accounting.error_count();
        full.errors = errors - self.errors_told;
        self.errors_told = errors;
        full
    }

    /// The schedule's message was reached at `now_ns`, and is sent now or, if the server does not read, later.
    #[inline]
    pub(super) fn on_due(&mut self, window: &Window, intended_ns: u64, now_ns: u64) {
        if window.measures(intended_ns) {
            let lag_ns = now_ns.saturating_sub(intended_ns);
            histogram::record(&mut self.latency.lag, lag_ns);
            if let Some(spans) = &mut self.spans {
                spans.on_due(now_ns);
                self.slice.lagging += u64::from(lag_ns > spans.lag_bound_ns());
            }
        }
    }

    /// It could not be sent then.
    pub(super) fn on_held_back(&mut self, window: &Window, intended_ns: u64) {
        self.held_back += u64::from(window.measures(intended_ns));
    }

    #[inline]
    pub(super) fn on_sent(&mut self, window: &Window, intended_ns: u64) {
        if !window.measures(intended_ns) {
            self.accounting.warmup_messages += 1;
            return;
        }
        self.accounting.offered += 1;
        self.accounting.sent += 1;
        self.slice.sent += 1;
    }

    /// A message of the window was sent that is to come to so many.
    pub(super) fn on_published(&mut self, count: u64) {
        self.accounting.offered += count;
        self.accounting.sent += count;
        self.slice.sent += count;
    }

    /// A copy of one has come to one of them; its headline duration.
    #[inline]
    pub(super) fn on_delivered(
        &mut self,
        window: &Window,
        (intended_ns, sent_ns): (u64, u64),
        now_ns: u64,
        is_open_loop: bool,
    ) -> u64 {
        self.accounting.answered += 1;
        let late = now_ns >= window.end_ns;
        self.accounting.answered_late += u64::from(late);
        let slice = if late { &mut self.late } else { &mut self.slice };
        slice.answered += 1;
        let headline_ns = now_ns.saturating_sub(intended_ns);
        histogram::record(&mut slice.headline, headline_ns);
        if is_open_loop {
            histogram::record(&mut self.latency.service, now_ns.saturating_sub(sent_ns));
        }
        headline_ns
    }

    pub(super) fn on_unsent(&mut self, window: &Window, intended_ns: u64) {
        self.on_many_unsent(window, intended_ns, 1);
    }

    pub(super) fn on_many_unsent(&mut self, window: &Window, intended_ns: u64, count: u64) {
        if window.measures(intended_ns) {
            self.accounting.offered += count;
            self.accounting.unsent += count;
        }
    }

    /// The answer's headline duration, if its message was measured: response time in an open loop, service time in a
    /// closed one.
    #[inline]
    pub(super) fn on_answered(
        &mut self,
        window: &Window,
        intended_ns: u64,
        sent_ns: u64,
        now_ns: u64,
    ) -> Option<u64> {
        if !window.measures(intended_ns) {
            return None;
        }
        self.accounting.answered += 1;
        let late = now_ns >= window.end_ns;
        self.accounting.answered_late += u64::from(late);
        let slice = if late { &mut self.late } else { &mut self.slice };
        slice.answered += 1;
        // In a closed loop a message is intended when it is sent.
        let headline_ns = now_ns.saturating_sub(intended_ns);
        histogram::record(&mut slice.headline, headline_ns);
        if self.spans.is_some() {
            histogram::record(&mut self.latency.service, now_ns.saturating_sub(sent_ns));
        }
        Some(headline_ns)
    }

    /// The parts of an answered message's response time, where they could be told.
    pub(super) fn on_parts(&mut self, window: &Window, intended_ns: u64, parts: Option<Parts>) {
        if let Some(anatomy) = self.anatomy.as_mut().filter(|_| window.measures(intended_ns)) {
            anatomy.add(parts);
        }
    }

    pub(super) fn on_connected(&mut self, took_ns: u64) {
        histogram::record(&mut self.latency.connect, took_ns);
    }

    pub(super) fn on_secured(&mut self, secured: &Secured, took_ns: u64) {
        histogram::record(self.latency.tls_handshake.get_or_insert_with(new_histogram), took_ns);
        self.on_secured_untimed(secured);
    }

    /// What was agreed on, outside of the measured window, where only what is within it is timed.
    pub(super) fn on_secured_untimed(&mut self, secured: &Secured) {
        let negotiated = Negotiated {
            version: secured.version.to_owned(),
            cipher_suite: secured.cipher_suite.clone(),
            resumed: secured.resumed,
            connections: 1,
        };
        negotiated.add_to(&mut self.negotiated);
    }

    pub(super) fn on_upgraded(&mut self, took_ns: u64) {
        histogram::record(&mut self.latency.handshake, took_ns);
        self.accounting.connections_opened += 1;
    }

    /// A connection was opened outside of the measured window, where only those within it are timed.
    pub(super) fn on_opened_untimed(&mut self) {
        self.accounting.connections_opened += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window =
        Window { start_ns: 0, measure_ns: 1_000, end_ns: 1_000_000, drained_ns: 2_000_000 };

    #[test]
    fn response_counts_from_the_intended_send_and_service_from_the_actual_one() {
        let mut tally = Tally::new(Some(Spans::new(1e6, 100_000, 1)));
        // Reached 100 ns late, kept back by a server that does not read, sent at 700,000.
        tally.on_due(&WINDOW, 2_000, 2_100);
        tally.on_sent(&WINDOW, 2_000);
        tally.on_answered(&WINDOW, 2_000, 700_000, 702_000);
        let only = |durations: &Histogram| (durations.len(), durations.max());
        let within = |(count, value_ns): (u64, u64), expected_ns: u64| {
            count == 1 && value_ns.abs_diff(expected_ns) * 1000 <= expected_ns
        };
        assert!(within(only(&tally.slice.headline), 700_000), "response {:?}", only(&tally.slice.headline));
        assert!(within(only(&tally.latency.service), 2_000), "service {:?}", only(&tally.latency.service));
        assert!(within(only(&tally.latency.lag), 100), "lag {:?}", only(&tally.latency.lag));
    }

    #[test]
    fn every_error_and_every_late_message_is_told_of_once() {
        let mut tally = Tally::new(Some(Spans::new(1e6, 100_000, 1)));
        tally.on_due(&WINDOW, 2_000, 102_000);
        tally.on_due(&WINDOW, 2_000, 102_001);
        tally.accounting.count_error("wrong payload");
        tally.accounting.count_error("lost");
        let told = |slice: Slice| (slice.lagging, slice.errors);
        assert_eq!(told(tally.hand_over(Slice::new())), (1, 2));
        tally.accounting.count_error("lost");
        assert_eq!(told(tally.hand_over(Slice::new())), (0, 1));
    }

    #[test]
    fn late_answers_are_counted_and_belong_to_no_interval() {
        let mut tally = Tally::new(Some(Spans::new(1e6, 100_000, 1)));
        tally.on_sent(&WINDOW, 999_000);
        tally.on_answered(&WINDOW, 999_000, 999_000, 1_000_000);
        assert_eq!((tally.accounting.answered, tally.accounting.answered_late), (1, 1));
        assert_eq!((tally.slice.answered, tally.slice.headline.len()), (0, 0));
        assert_eq!(tally.late.headline.len(), 1);
    }
}
