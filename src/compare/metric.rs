//! What is compared of a run: the one table of metrics, and which way each is better.
//!
//! Invariant: a metric's value over several runs comes from their merged histograms or summed counts, never from averaged values.
//! Deliberately absent: intervals and tests.

/// What a metric's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, or instructions where the clock counts those.
    Duration,
    /// A count a second.
    PerSecond,
}

/// A metric: a row of [`METRICS`].
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// What it is called in tables, flags and files.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// What its values are.
    pub unit: Unit,
    /// Whether more of it is better.
    pub more_is_better: bool,
}

/// Every metric, in the order of tables.
pub const METRICS: [Metric; 7] = [
    Metric {
        name: "p50",
        about: "median latency: response time in an open loop, service time in a closed one",
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric { name: "p90", about: "latency, 90th percentile", unit: Unit::Duration, more_is_better: false },
    Metric { name: "p99", about: "latency, 99th percentile", unit: Unit::Duration, more_is_better: false },
    Metric {
        name: "p99.9",
        about: "latency, 99.9th percentile",
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric { name: "rate", about: "messages answered a second", unit: Unit::PerSecond, more_is_better: true },
    Metric {
        name: "server-cpu",
        about: "the server's processor time per message",
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric {
        name: "load-cpu",
        about: "the generator's processor time per message",
        unit: Unit::Duration,
        more_is_better: false,
    },
];

/// The metric of that name.
pub fn named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}
