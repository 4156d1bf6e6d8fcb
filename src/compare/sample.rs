//! What chance draws from: the runs of one group in one cell, by boot, each in pieces.
//!
//! Invariants: pieces of a run together are its whole headline histogram; a boot has its place among the group's boots, so that
//! cells measured in the same boots can be drawn together.
//! Deliberately absent: which runs count. Whoever makes a [`Sample`] has left out those that do not.

use crate::measure::histogram::{PERCENTILES, has_enough_samples};
use crate::measure::result::RunResult;
use crate::measure::samples::Inflation;
use crate::measure::series::{Batch, Compact};

use super::metric::Quantity;

/// Pieces that a run is cut into at most, of equal length in time but for what was answered after the window.
///
/// They are the blocks of a block bootstrap: answers that were slow together have to be drawn together, so a piece must be longer
/// than a stall (Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17(3), 1989).
/// Ten are as few as batch means are made of elsewhere, see [`BATCHES_MIN`](crate::measure::samples::BATCHES_MIN).
pub const PIECES_MAX: usize = 10;

/// One group's runs in one cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The group's index.
    pub group: usize,
    /// The cell's index.
    pub cell: usize,
    /// As many as the group has boots over all cells, always in the same order; `None` where no run of the boot counts here.
    pub boots: Vec<Option<Boot>>,
}

/// One boot's runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Boot {
    /// At least one.
    pub runs: Vec<Run>,
}

/// One run, as far as it is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The headline durations, in nanoseconds, of consecutive pieces of the window, and of what was answered after it; none empty.
    pub pieces: Vec<Compact>,
    /// How many of its durations tell as much as independent ones, for each of [`PERCENTILES`].
    pub effective_samples: [u64; PERCENTILES.len()],
    /// What is summed over runs.
    pub totals: Totals,
}

/// What of runs is summed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Totals {
    /// Messages answered.
    pub answered: f64,
    /// Messages answered in time, see [`Summary`](crate::measure::result::Summary).
    pub answered_in_window: f64,
    /// Length of the windows.
    pub measured_s: f64,
    /// Processor time of the servers' threads; `None` if of any it could not be seen.
    pub server_cpu_s: Option<f64>,
    /// Processor time of the generators' threads.
    pub load_cpu_s: f64,
}

impl Run {
    /// What is compared of `result`.
    pub fn of(result: &RunResult) -> Run {
        let (headline, inflation) = (result.headline(), Inflation::of_run(result));
        let summary = &result.summary;
        Run {
            pieces: pieces(&Compact::of(headline), &result.batches),
            effective_samples: std::array::from_fn(|index| inflation.effective_samples(headline, index)),
            totals: Totals {
                answered: result.accounting.answered as f64,
                answered_in_window: summary.rate_achieved_per_s * summary.measured_s,
                measured_s: summary.measured_s,
                server_cpu_s: result.cpu.server_cpu_s,
                load_cpu_s: result.cpu.load_cpu_s,
            },
        }
    }
}

/// `whole` in pieces: neighbouring batches together, and what is in none of them.
fn pieces(whole: &Compact, batches: &[Batch]) -> Vec<Compact> {
    let count = batches.len().min(PIECES_MAX);
    let mut pieces = vec![Compact::default(); count];
    let mut in_batches = Compact::default();
    for (index, batch) in batches.iter().enumerate() {
        pieces[index * count / batches.len()].merge(&batch.headline);
    }
    pieces.iter().for_each(|piece| in_batches.merge(piece));
    pieces.push(whole.without(&in_batches));
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

impl Sample {
    /// The boots that have runs here, each with its place among the group's.
    pub fn present(&self) -> impl Iterator<Item = (usize, &Boot)> {
        self.boots.iter().enumerate().filter_map(|(place, boot)| Some((place, boot.as_ref()?)))
    }

    /// Whether there are effective samples enough for `quantile`: that they bound it, from above and from below.
    pub fn supports(&self, quantile: f64) -> bool {
        let runs = self.present().flat_map(|(_, boot)| &boot.runs);
        has_enough_samples(
            runs.map(|run| run.effective_samples_at(quantile)).sum(),
            quantile.max(1.0 - quantile),
        )
    }
}

impl Run {
    /// How many of its durations tell as much as independent ones of any quantile: as of the neighbour among [`PERCENTILES`] of
    /// which they tell less.
    fn effective_samples_at(&self, quantile: f64) -> u64 {
        let above = PERCENTILES.partition_point(|&(_, other)| other < quantile).min(PERCENTILES.len() - 1);
        let below = if PERCENTILES[above].1 == quantile { above } else { above.saturating_sub(1) };
        self.effective_samples[below].min(self.effective_samples[above])
    }
}

impl Totals {
    /// Of no runs.
    pub const ZERO: Totals = Totals {
        answered: 0.0,
        answered_in_window: 0.0,
        measured_s: 0.0,
        server_cpu_s: Some(0.0),
        load_cpu_s: 0.0,
    };

    /// Adds a run's, `times` over.
    pub fn add(&mut self, run: &Totals, times: f64) {
        self.answered += run.answered * times;
        self.answered_in_window += run.answered_in_window * times;
        self.measured_s += run.measured_s * times;
        self.server_cpu_s =
            self.server_cpu_s.zip(run.server_cpu_s).map(|(sum, server_s)| sum + server_s * times);
        self.load_cpu_s += run.load_cpu_s * times;
    }

    /// `quantity`, in messages a second or nanoseconds a message; `None` where it is a quantile, unknown or not above 0.
    pub fn value(&self, quantity: Quantity) -> Option<f64> {
        let value = match quantity {
            Quantity::Quantile(_) => None,
            Quantity::Rate => Some(self.answered_in_window / self.measured_s),
            Quantity::ServerCpu => self.server_cpu_s.map(|server_s| server_s * 1e9 / self.answered),
            Quantity::LoadCpu => Some(self.load_cpu_s * 1e9 / self.answered),
        };
        value.filter(|value| value.is_finite() && *value > 0.0)
    }
}
