//! What a comparison comes to: plain data, made once, that every output shows and no output works out again.
//!
//! Invariants: groups are in one order everywhere, and `columns[i]` of any cell belongs to `groups[i]`; a number that rests on
//! too little is `None`, never a guess; whoever reads this needs no result file beside it.
//! Deliberately absent: how any of it was computed, and how it looks.

use serde::{Deserialize, Serialize};

use crate::measure::anatomy::Anatomy;
use crate::measure::environment::Clock;
use crate::measure::evidence::Exemplar;
use crate::measure::result::Tool;
use crate::measure::verdict::Level;

/// What [`Comparison::schema`] holds.
pub const SCHEMA: &str = "ringsock-comparison/1";

/// Groups of results beside each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// What made it.
    pub tool: Tool,
    /// The command as typed.
    pub command_line: Vec<String>,
    /// The key that groups differ by, as `kernel`.
    pub by: String,
    /// What a duration is: real nanoseconds, or instructions. The same for all.
    pub clock: Clock,
    /// What is compared, in the key's order (kernels by version).
    pub groups: Vec<Group>,
    /// The index in `groups` of the one that the others are compared with.
    pub baseline: usize,
    /// One for each workload and whatever else differs within a group.
    pub cells: Vec<Cell>,
    /// All cells together, for each group but the baseline and each metric that at least two cells have.
    pub overall: Vec<Overall>,
    /// Main effects and interaction, where cells are the rows of kernels × another key.
    pub grid: Option<Grid>,
    /// What differs between the machines and settings of the groups.
    pub environment: Vec<EnvironmentDifference>,
    /// Every result that was read, those left out as well.
    pub sources: Vec<Source>,
    /// What spoils the comparison as a whole, in sentences.
    pub caveats: Vec<String>,
}

/// The results that have one value of the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// That value, as `6.12.57`.
    pub label: String,
    /// Boots that count.
    pub boots: u64,
    /// Runs that count.
    pub runs: u64,
}

/// One workload under one set of conditions, over all groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The workload and conditions in a line, as `echo, 16 × 64 B, closed loop × 1, epoll`.
    pub label: String,
    /// The same, short, for a row of a table or the axis of a chart.
    pub short: String,
    /// What cells differ in, by key, as `engine: epoll`.
    pub keys: Vec<(String, String)>,
    /// A closed loop: durations are service times, which say how long a turn around all connections takes.
    pub closed_loop: bool,
    /// Messages a second asked for; `None` in a closed loop.
    pub rate_per_s: Option<f64>,
    /// As many as there are groups.
    pub columns: Vec<Column>,
}

/// One group's part of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Column {
    /// Results.
    Measured(Box<Measured>),
    /// It cannot be had there, as an engine that the kernel lacks; shown as `n/a on 5.10`.
    Unavailable {
        /// In a sentence.
        reason: String,
    },
    /// There are no results that count.
    Missing {
        /// In a sentence: none were there, or why those that were do not count.
        reason: String,
    },
}

impl Column {
    /// Its results, if it has any.
    pub fn measured(&self) -> Option<&Measured> {
        match self {
            Column::Measured(measured) => Some(measured),
            _ => None,
        }
    }
}

/// A group's results in one cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Boots that count.
    pub boots: u64,
    /// Runs that count.
    pub runs: u64,
    /// Of those, SUSPECT ones.
    pub suspect: u64,
    /// Runs that do not count: INVALID ones and those that ended early.
    pub left_out: u64,
    /// Every metric that could be had, in the order of [`METRICS`](super::metric::METRICS).
    pub metrics: Vec<Estimate>,
    /// The latency spectrum, quantiles ascending.
    pub spectrum: Vec<SpectrumPoint>,
    /// Against the baseline, metric by metric; empty for the baseline itself.
    pub differences: Vec<Difference>,
    /// This group's quantile over the baseline's, quantiles ascending; empty for the baseline itself.
    pub quantile_ratios: Vec<RatioPoint>,
    /// Where response times went, of all runs together, if their server stamped its answers.
    pub anatomy: Option<Anatomy>,
    /// Durations over time: one run's, that of the group with the median p99.
    pub heatmap: Option<Heatmap>,
    /// That run's worst messages.
    pub exemplars: Vec<Exemplar>,
}

/// A metric of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Its name, as `p99`: a row of [`METRICS`](super::metric::METRICS).
    pub metric: String,
    /// Over all boots together.
    pub value: f64,
    /// The ends of its 95 % interval; `None` with fewer than two boots.
    pub interval: Option<(f64, f64)>,
    /// Its value in each boot, in the order of the sources.
    pub boots: Vec<f64>,
}

/// A point of the latency spectrum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SpectrumPoint {
    /// Share of durations at or below the value, 0 to 1.
    pub quantile: f64,
    /// Of all runs together.
    pub value_ns: f64,
    /// The ends of its 95 % interval; `None` with fewer than two boots.
    pub interval_ns: Option<(f64, f64)>,
}

/// A quantile of one group over that of the baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RatioPoint {
    /// Share of durations at or below the value, 0 to 1.
    pub quantile: f64,
    /// 1 for no difference.
    pub ratio: f64,
    /// The ends of its 95 % interval; `None` with fewer than two boots on either side.
    pub interval: Option<(f64, f64)>,
}

/// A metric of a group against the baseline's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its name: a row of [`METRICS`](super::metric::METRICS).
    pub metric: String,
    /// This group's value over the baseline's.
    pub ratio: f64,
    /// The ends of its 95 % interval; `None` with fewer than two boots on either side.
    pub interval: Option<(f64, f64)>,
    /// How likely ranks as far apart are by chance alone, two-sided; `None` with fewer than two boots on either side.
    pub p: Option<f64>,
    /// The same, Holm-adjusted for all differences of its metric.
    pub p_adjusted: Option<f64>,
    /// The smallest difference that so many boots would show four times in five, by how boots of one group differ among
    /// themselves: 0.05 is five per cent. `None` with fewer than two boots on either side.
    pub detectable: Option<f64>,
    /// What it comes to.
    pub change: Change,
}

/// What a difference comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It cannot be told from chance; shown as `~`.
    #[default]
    Noise,
    /// Too few boots for any difference to be told from chance, however large; shown as `?`.
    TooFew,
    /// For the better.
    Better,
    /// For the worse.
    Worse,
}

/// A group against the baseline over all cells that both have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    /// The index in [`Comparison::groups`].
    pub group: usize,
    /// The metric's name.
    pub metric: String,
    /// Cells that it is made of.
    pub cells: u64,
    /// The geometric mean of their ratios.
    pub ratio: f64,
    /// The ends of its 95 % interval.
    pub interval: Option<(f64, f64)>,
}

/// A key's values (such as feature switches) over the groups, for one workload and one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The key of the rows, as `features`.
    pub rows_by: String,
    /// One for each workload and metric that it can be made of.
    pub tables: Vec<GridTable>,
}

/// See [`Grid`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GridTable {
    /// The workload and other conditions.
    pub label: String,
    /// The metric's name.
    pub metric: String,
    /// The value of the key that the others are held against, as `default`.
    pub reference: String,
    /// One for each other value.
    pub rows: Vec<GridRow>,
}

/// What one value of the row's key does, against the reference, in each group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GridRow {
    /// The value, as `-multishot-recv`.
    pub value: String,
    /// Its effect in each group: the ratio to the reference there; `None` where there is no such pair.
    pub effects: Vec<Option<Effect>>,
    /// Its main effect: over all groups that have it.
    pub main: Option<Effect>,
    /// Its interaction with the group, for each: the effect there over that in the baseline; `None` for the baseline itself.
    pub interactions: Vec<Option<Effect>>,
}

/// A ratio, and how sure of it one may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// 1 for none.
    pub ratio: f64,
    /// The ends of its 95 % interval, if there are boots enough for one.
    pub interval: Option<(f64, f64)>,
    /// What it comes to.
    pub change: Change,
}

/// Durations over time: how many of a piece's answers fell into which range.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Heatmap {
    /// The result's path, as in the sources.
    pub source: String,
    /// Where each row ends, ascending; it begins where the one before ends.
    pub edges_ns: Vec<u64>,
    /// In the order of time.
    pub columns: Vec<HeatColumn>,
}

/// A piece of the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeatColumn {
    /// Its start, after that of the window.
    pub start_s: f64,
    /// Its length.
    pub length_s: f64,
    /// Answers in each row.
    pub counts: Vec<u64>,
}

/// Something about machines or settings that is not the same in all results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentDifference {
    /// Its path in the result file, as `environment.cpu.governor`.
    pub field: String,
    /// Its value in each group: `None` if absent; several, separated by ` | `, where a group's results differ.
    pub values: Vec<Option<String>>,
    /// How it bears on the comparison.
    pub bearing: Bearing,
    /// Why, in a sentence.
    pub says: String,
}

/// How a difference of the environment bears on a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bearing {
    /// It may be the reason for a difference that is put down to the key.
    Confounder,
    /// It is what is compared, or follows from it.
    Expected,
    /// It cannot move a number.
    Harmless,
}

/// A result that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its path, as given or found.
    pub path: String,
    /// The index in [`Comparison::groups`]; `None` if it is in none.
    pub group: Option<usize>,
    /// The index in [`Comparison::cells`]; `None` if it is in none.
    pub cell: Option<usize>,
    /// The boot that it was measured in, by a name of its own within the comparison.
    pub boot: String,
    /// When it was measured: RFC 3339, UTC.
    pub created: String,
    /// What measured it.
    pub tool: Tool,
    /// The command that did.
    pub command_line: Vec<String>,
    /// Its verdict, if it has one.
    pub level: Option<Level>,
    /// Why it is left out.
    pub left_out: Option<String>,
}
