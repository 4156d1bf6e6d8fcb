//! What work a run did, and what a cell of a comparison is called by it.
//!
//! Invariant: two runs have the same workload only if every field is the same; nothing else of a plan is part of it.
//! Deliberately absent: how long, from where and by whom. That may differ, and is then told with the environment.

use crate::measure::result::{Arrivals, Mode, Plan};
use crate::measure::units::{count, rate, size};

/// What stands for the rate of a closed loop.
pub const NO_RATE: &str = "no rate";

/// What is done; in the order of cells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    scenario: String,
    /// What is particular to it.
    particulars: String,
    mode: Kind,
    text: bool,
    /// What messages are filled with, where it is not random.
    filling: Option<String>,
    connections: u64,
    payload_bytes: u64,
    /// How sizes are drawn, where they vary.
    payload: Option<String>,
    /// The bits of the rate: of numbers from 0 up they have the order that the numbers have. 0 in a closed loop.
    rate_bits: u64,
    threads: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Closed { pipeline: u64 },
    Fixed,
    Poisson,
    Burst,
}

/// How many fields a workload has.
pub const FIELD_COUNT: usize = 8;

impl Workload {
    /// The work that a plan asks for.
    pub fn of(plan: &Plan) -> Workload {
        let (mode, rate_per_s) = match plan.mode {
            Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Fixed } => (Kind::Fixed, rate_per_s),
            Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Poisson } => (Kind::Poisson, rate_per_s),
            Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Burst } => (Kind::Burst, rate_per_s),
            Mode::ClosedLoop { pipeline } => (Kind::Closed { pipeline }, 0.0),
        };
        Workload {
            scenario: plan.scenario.clone(),
            particulars: plan.particulars(),
            mode,
            text: plan.text,
            filling: plan.filling.clone(),
            connections: plan.connections,
            payload_bytes: plan.payload_bytes,
            payload: plan.parameters.get("payload").cloned(),
            rate_bits: rate_per_s.max(0.0).to_bits(),
            threads: plan.threads,
        }
    }

    /// Messages a second asked for; `None` in a closed loop.
    pub fn rate_per_s(&self) -> Option<f64> {
        (!self.is_closed_loop()).then(|| f64::from_bits(self.rate_bits))
    }

    /// Whether connections wait for their answers.
    pub fn is_closed_loop(&self) -> bool {
        matches!(self.mode, Kind::Closed { .. })
    }

    /// Name and value of every field; the value is as it stands in a short label.
    pub fn fields(&self) -> [(&'static str, String); FIELD_COUNT] {
        let mode = match self.mode {
            Kind::Closed { pipeline } => format!("closed × {}", count(pipeline)),
            Kind::Fixed => "open, fixed gaps".to_owned(),
            Kind::Poisson => "open".to_owned(),
            Kind::Burst => "open, bursts".to_owned(),
        };
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        [
            ("scenario", self.scenario_in_full()),
            ("connections", format!("{} conns", count(self.connections))),
            ("payload", self.payload()),
            ("kind", if self.text { "text" } else { "binary" }.to_owned()),
            ("filling", self.filling.clone().unwrap_or_else(|| "random".to_owned())),
            ("mode", mode),
            ("rate", self.rate_per_s().map_or(NO_RATE.to_owned(), rate)),
            ("threads", threads),
        ]
    }

    /// In a line: `echo, 16 × 64 B, closed loop × 1`. What is usual is not said: random, binary messages, one thread.
    pub fn label(&self) -> String {
        let filling = self.filling.iter().map(|filling| format!(" {filling}")).collect::<String>();
        let kind = filling + if self.text { " text" } else { "" };
        let mode = match (self.mode, self.rate_per_s()) {
            (Kind::Closed { pipeline }, _) => format!("closed loop × {}", count(pipeline)),
            (Kind::Fixed, per_s) => format!("open loop at {} (fixed gaps)", rate(per_s.unwrap_or(0.0))),
            (Kind::Poisson, per_s) => format!("open loop at {}", rate(per_s.unwrap_or(0.0))),
            (Kind::Burst, per_s) => format!("open loop at {} (in bursts)", rate(per_s.unwrap_or(0.0))),
        };
        let threads = if self.threads == 1 { String::new() } else { format!(", {} threads", self.threads) };
        let (connections, payload) = (count(self.connections), self.payload());
        format!("{}, {connections} × {payload}{kind}, {mode}{threads}", self.scenario_in_full())
    }

    fn payload(&self) -> String {
        self.payload.clone().unwrap_or_else(|| size(self.payload_bytes))
    }

    fn scenario_in_full(&self) -> String {
        match self.particulars.is_empty() {
            true => self.scenario.clone(),
            false => format!("{} ({})", self.scenario, self.particulars),
        }
    }
}
