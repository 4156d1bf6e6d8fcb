//! A sample of when a thread got to its messages, for the test of the arrival process that was achieved.
//!
//! Invariant: spans cover the measured window evenly and are never more than [`SPANS_MAX`]: when they would be, every
//! other one is dropped, and from then on only every other one is taken.

/// Spans kept at most, of all threads together: with many more the test would find what the lag may do to them.
const SPANS_MAX: usize = 1 << 11;
/// A span holds so many messages that their number varies it, if they are Poisson, this many times more than a generator
/// does whose lag just keeps within its bound. (Variances: a span's is messages × gap², that of the lag at its two ends
/// 2 × (bound / 2.5)².) Finer than that, the sample would test the kernel's timers, which the bound on the lag does.
const VARIANCE_RATIO: f64 = 20.0;
/// Beyond so many, spans would be few.
const MESSAGES_PER_SPAN_MAX: f64 = (1 << 20) as f64;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Spans {
    messages_per_span: u64,
    lag_bound_ns: u64,
    planned_span_ns: f64,
    kept_ns: Vec<u64>,
    kept_max: usize,
    /// Of so many spans one is taken.
    stride: u64,
    /// Spans to be passed over until then.
    skipped: u64,
    /// Messages until the span under way ends, and when it began; `None` before the first message.
    left: u64,
    since_ns: Option<u64>,
}

impl Spans {
    /// Of one of `thread_count` threads with this mean gap, whose lag is to stay below `lag_bound_ns`.
    pub(super) fn new(gap_ns: f64, lag_bound_ns: u64, thread_count: usize) -> Self {
        let lag_variance = 2.0 * (lag_bound_ns as f64 / 2.5).powi(2);
        let messages = (VARIANCE_RATIO * lag_variance / gap_ns.powi(2)).ceil();
        let messages_per_span = messages.clamp(1.0, MESSAGES_PER_SPAN_MAX) as u64;
        Self {
            messages_per_span,
            lag_bound_ns,
            planned_span_ns: gap_ns * messages_per_span as f64,
            kept_ns: Vec::new(),
            kept_max: (SPANS_MAX / thread_count.max(1)).max(2),
            stride: 1,
            skipped: 0,
            left: messages_per_span,
            since_ns: None,
        }
    }

    /// The generator got to a message of the measured window.
    #[inline]
    pub(super) fn on_due(&mut self, now_ns: u64) {
        let Some(since_ns) = self.since_ns else {
            self.since_ns = Some(now_ns);
            return;
        };
        self.left -= 1;
        if self.left == 0 {
            self.end_span(now_ns - since_ns);
            (self.left, self.since_ns) = (self.messages_per_span, Some(now_ns));
        }
    }

    fn end_span(&mut self, span_ns: u64) {
        if self.skipped + 1 < self.stride {
            self.skipped += 1;
            return;
        }
        self.skipped = 0;
        if self.kept_ns.len() >= self.kept_max {
            let mut index = 0;
            self.kept_ns.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride *= 2;
        }
        self.kept_ns.push(span_ns);
    }

    /// The 99th percentile of lag that is put up with.
    #[inline]
    pub(super) fn lag_bound_ns(&self) -> u64 {
        self.lag_bound_ns
    }

    pub(super) fn messages_per_span(&self) -> u64 {
        self.messages_per_span
    }

    pub(super) fn planned_span_ns(&self) -> f64 {
        self.planned_span_ns
    }

    pub(super) fn kept_ns(&self) -> &[u64] {
        &self.kept_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_longer_where_gaps_are_shorter_than_a_generator_is_punctual() {
        let messages = |gap_ns: f64, bound_ns| Spans::new(gap_ns, bound_ns, 1).messages_per_span();
        assert_eq!(messages(1e9, 100_000), 1);
        assert_eq!(messages(50_000.0, 100_000), 26);
        assert_eq!(messages(50_000.0, 20_000), 2);
        assert_eq!(messages(1_000.0, 100_000), 64_000);
        assert_eq!(messages(10.0, 100_000), 1 << 20);
    }

    #[test]
    fn however_many_spans_there_are_the_kept_ones_are_bounded_and_spread_evenly() {
        for count in [0, 1, 100, SPANS_MAX, SPANS_MAX + 1, 10 * SPANS_MAX, 1_000_000] {
            let mut spans = Spans::new(1e9, 100_000, 1);
            // The length of a span tells its place.
            let mut now_ns = 0;
            for number in 0..=count as u64 {
                now_ns += number;
                spans.on_due(now_ns);
            }
            let kept = spans.kept_ns();
            assert!(
                kept.len() <= SPANS_MAX && kept.len() >= count.min(SPANS_MAX / 2),
                "{count}: {}",
                kept.len()
            );
            let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().all(|&gap| gap <= 2 * gaps[0]), "{count}: {gaps:?}");
        }
    }
}
