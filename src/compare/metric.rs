//! What is compared of a run: the one table of metrics, and which way each is better.
//!
//! Invariant: a metric's value over several runs comes from their merged histograms or summed counts, never from averaged values.
//! Deliberately absent: intervals and tests.

use crate::measure::environment::Clock;

/// What a metric's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, or instructions where the clock counts those.
    Duration,
    /// A count a second.
    PerSecond,
}

/// What of a run a metric is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity {
    /// The quantile of the headline durations.
    Quantile(f64),
    /// Messages answered in the window, by its length.
    Rate,
    /// The processor time of both ends, by messages answered.
    Cpu,
    /// The server's processor time, by messages answered.
    ServerCpu,
    /// The generator's processor time, by messages answered.
    LoadCpu,
}

/// A metric: a row of [`METRICS`].
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// What it is called in tables, flags and files.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// What it is made of.
    pub quantity: Quantity,
    /// What its values are.
    pub unit: Unit,
    /// Whether more of it is better.
    pub more_is_better: bool,
}

/// Every metric, in the order of tables.
pub const METRICS: [Metric; 8] = [
    Metric {
        name: "p50",
        about: "median latency: response time in an open loop, service time in a closed one",
        quantity: Quantity::Quantile(0.5),
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric {
        name: "p90",
        about: "latency, 90th percentile",
        quantity: Quantity::Quantile(0.9),
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric {
        name: "p99",
        about: "latency, 99th percentile",
        quantity: Quantity::Quantile(0.99),
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric {
        name: "p99.9",
        about: "latency, 99.9th percentile",
        quantity: Quantity::Quantile(0.999),
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric {
        name: "rate",
        about: "messages answered a second",
        quantity: Quantity::Rate,
        unit: Unit::PerSecond,
        more_is_better: true,
    },
    Metric {
        name: "cpu",
        about: "processor time of server and generator together, per message",
        quantity: Quantity::Cpu,
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric {
        name: "server-cpu",
        about: "the server's processor time per message",
        quantity: Quantity::ServerCpu,
        unit: Unit::Duration,
        more_is_better: false,
    },
    Metric {
        name: "load-cpu",
        about: "the generator's processor time per message",
        quantity: Quantity::LoadCpu,
        unit: Unit::Duration,
        more_is_better: false,
    },
];

/// What a message costs, in short: the server's processor time; but where instructions are counted both ends share one processor, and
/// only what they cost together does not rest on how it was shared out.
pub fn cost(clock: Clock) -> &'static str {
    match clock {
        Clock::Real => "server-cpu",
        Clock::Instructions => "cpu",
    }
}

/// The metric of that name.
pub fn named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}
