//! Where a response time goes, when the server stamps its answers: in four parts that add up to it, message by message.
//!
//! Percentiles of the parts do not add up to the percentile of the whole, so the parts are also averaged over the
//! messages whose response time lies about each percentile.
//!
//! Invariant: the four parts of a message sum to its response time, exactly. Stamps are of one clock (CLOCK_MONOTONIC) on
//! one host; a stamp out of order is counted and leaves the message out.

use serde::{Deserialize, Serialize};

use super::histogram::{self, Histogram, new_histogram, record};

/// Buckets of response time a factor of two, in which parts are summed: 3 % wide.
const BUCKETS_PER_OCTAVE: u64 = 32;
const BUCKETS: usize = 43 * BUCKETS_PER_OCTAVE as usize;

/// The percentiles explained, and the share of messages about each that is averaged.
pub const EXPLAINED: [(&str, f64, f64); 5] = [
    ("p50", 0.45, 0.55),
    ("p90", 0.88, 0.92),
    ("p99", 0.985, 0.995),
    ("p99.9", 0.9985, 0.9995),
    ("p99.99", 0.99985, 0.99995),
];

/// Collects parts; constant in memory.
#[derive(Debug)]
pub struct Collector {
    parts: [Histogram; 4],
    sums: Box<[Sum]>,
    disordered: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    messages: u64,
    response_ns: u64,
    parts_ns: [u64; 4],
}

impl Default for Collector {
    fn default() -> Self {
        let parts = [(); 4].map(|()| new_histogram());
        Self { parts, sums: vec![Sum::default(); BUCKETS].into(), disordered: 0 }
    }
}

/// The bucket of a response time: linear within each factor of two.
#[inline]
fn bucket(response_ns: u64) -> usize {
    let value = response_ns.max(BUCKETS_PER_OCTAVE);
    let octave = value.ilog2() - BUCKETS_PER_OCTAVE.ilog2();
    let within = (value >> octave) - BUCKETS_PER_OCTAVE;
    (u64::from(octave) * BUCKETS_PER_OCTAVE + within).min(BUCKETS as u64 - 1) as usize
}

impl Collector {
    /// Adds a message by its four moments and the intended one, all of one clock, in nanoseconds.
    #[inline]
    pub fn add(&mut self, intended_ns: u64, sent_ns: u64, seen_ns: u64, queued_ns: u64, answered_ns: u64) {
        if !(intended_ns <= sent_ns && sent_ns <= seen_ns && seen_ns <= queued_ns && queued_ns <= answered_ns)
        {
            self.disordered += 1;
            return;
        }
        let parts = [sent_ns - intended_ns, seen_ns - sent_ns, queued_ns - seen_ns, answered_ns - queued_ns];
        let response_ns = answered_ns - intended_ns;
        let sum = &mut self.sums[bucket(response_ns)];
        sum.messages += 1;
        sum.response_ns += response_ns;
        for ((histogram, total_ns), part_ns) in self.parts.iter_mut().zip(&mut sum.parts_ns).zip(parts) {
            record(histogram, part_ns);
            *total_ns += part_ns;
        }
    }

    /// Adds another's messages to these.
    pub fn merge(&mut self, other: &Collector) {
        for (ours, theirs) in self.parts.iter_mut().zip(&other.parts) {
            histogram::merge(ours, theirs);
        }
        for (ours, theirs) in self.sums.iter_mut().zip(&other.sums) {
            ours.messages += theirs.messages;
            ours.response_ns += theirs.response_ns;
            for (ours_ns, theirs_ns) in ours.parts_ns.iter_mut().zip(theirs.parts_ns) {
                *ours_ns += theirs_ns;
            }
        }
        self.disordered += other.disordered;
    }

    /// What the messages come to; `None` where none was stamped.
    pub fn finish(self) -> Option<Anatomy> {
        let messages: u64 = self.sums.iter().map(|sum| sum.messages).sum();
        if messages == 0 && self.disordered == 0 {
            return None;
        }
        let explained =
            EXPLAINED.iter().filter_map(|&(label, from, to)| self.about(messages, label, from, to));
        let explained = explained.collect();
        let [generator, to_server, in_server, back] = self.parts;
        let disordered = self.disordered;
        Some(Anatomy { generator, to_server, in_server, back, explained, disordered })
    }

    /// The mean parts of the messages from quantile `from` to quantile `to`, in order of response time; the buckets at
    /// either end count in full. `None` where fewer than five messages lie between.
    fn about(&self, messages: u64, label: &str, from: f64, to: f64) -> Option<Explained> {
        if (messages as f64) * (to - from) < 5.0 {
            return None;
        }
        let (first, last) = ((messages as f64 * from) as u64, (messages as f64 * to) as u64);
        let (mut passed, mut band) = (0, Sum::default());
        for sum in &self.sums {
            let before = passed;
            passed += sum.messages;
            if passed <= first || before > last {
                continue;
            }
            band.messages += sum.messages;
            band.response_ns += sum.response_ns;
            for (total_ns, part_ns) in band.parts_ns.iter_mut().zip(sum.parts_ns) {
                *total_ns += part_ns;
            }
        }
        let mean_ns = |total_ns: u64| total_ns as f64 / band.messages as f64;
        let [generator_ns, to_server_ns, in_server_ns, back_ns] = band.parts_ns.map(mean_ns);
        Some(Explained {
            percentile: label.to_owned(),
            messages: band.messages,
            response_ns: mean_ns(band.response_ns),
            generator_ns,
            to_server_ns,
            in_server_ns,
            back_ns,
        })
    }
}

/// Each part's histogram, and what the parts are about each percentile of the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anatomy {
    /// From the intended to the actual send: it waited in the generator.
    #[serde(with = "histogram::base64")]
    pub generator: Histogram,
    /// From the actual send until the server saw it: two kernels, the wire, and the server's queue.
    #[serde(with = "histogram::base64")]
    pub to_server: Histogram,
    /// From then until the answer was queued.
    #[serde(with = "histogram::base64")]
    pub in_server: Histogram,
    /// From then until the generator saw it.
    #[serde(with = "histogram::base64")]
    pub back: Histogram,
    /// The mean parts of the messages about each percentile of response time.
    pub explained: Vec<Explained>,
    /// Messages left out because their stamps were out of order: the clocks are not one.
    pub disordered: u64,
}

/// The mean of the messages about one percentile; the parts add up to the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// Which, as `p99`.
    pub percentile: String,
    /// Messages averaged.
    pub messages: u64,
    /// Their mean response time.
    pub response_ns: f64,
    /// See [`Anatomy::generator`].
    pub generator_ns: f64,
    /// See [`Anatomy::to_server`].
    pub to_server_ns: f64,
    /// See [`Anatomy::in_server`].
    pub in_server_ns: f64,
    /// See [`Anatomy::back`].
    pub back_ns: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_ascend_and_are_three_percent_wide() {
        let mut last = 0;
        for shift in 0..41 {
            for step in 0..64 {
                let value = (1_u64 << shift) + ((step << shift) >> 6);
                let at = bucket(value);
                assert!(at >= last, "{value}");
                last = at;
            }
        }
        assert!(bucket(histogram::HIGHEST_NS) < BUCKETS - 1);
        assert_eq!(bucket(1_000_000), bucket(1_010_000));
        assert_ne!(bucket(1_000_000), bucket(1_040_000));
    }

    #[test]
    fn the_parts_of_the_slow_messages_are_told_from_those_of_the_many() {
        let mut collectors = [Collector::default(), Collector::default()];
        for number in 0..100_000_u64 {
            let start_ns = 1_000_000 * number;
            let collector = &mut collectors[(number % 2) as usize];
            // One in fifty is slow, and it is the server that takes the time.
            let in_server_ns = if number % 50 == 0 { 900_000 } else { 1_000 };
            let seen_ns = start_ns + 5_000 + 20_000;
            let queued_ns = seen_ns + in_server_ns;
            collector.add(start_ns, start_ns + 5_000, seen_ns, queued_ns, queued_ns + 30_000 + number % 7);
        }
        collectors[0].add(10, 9, 11, 12, 13);
        let [mut whole, other] = collectors;
        whole.merge(&other);
        let anatomy = whole.finish().unwrap();
        assert_eq!((anatomy.disordered, anatomy.back.len()), (1, 100_000));
        let about = |label| anatomy.explained.iter().find(|row| row.percentile == label).unwrap();
        for row in &anatomy.explained {
            let sum_ns = row.generator_ns + row.to_server_ns + row.in_server_ns + row.back_ns;
            assert!((sum_ns - row.response_ns).abs() < 1e-6, "{row:?}");
        }
        assert_eq!((about("p50").in_server_ns, about("p50").to_server_ns), (1_000.0, 20_000.0));
        assert_eq!((about("p99").in_server_ns, about("p99").generator_ns), (900_000.0, 5_000.0));
        assert_eq!(about("p99.9").in_server_ns, 900_000.0);
    }
}
