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
            Quantity::Cpu => {
                self.server_cpu_s.map(|server_s| (server_s + self.load_cpu_s) * 1e9 / self.answered)
            }
            Quantity::ServerCpu => self.server_cpu_s.map(|server_s| server_s * 1e9 / self.answered),
            Quantity::LoadCpu => Some(self.load_cpu_s * 1e9 / self.answered),
        };
        value.filter(|value| value.is_finite() && *value > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(count: u64) -> Vec<Batch> {
        let headline = |index: u64| [(index + 1, 2), (1000, 1)].into_iter().collect();
        (0..count).map(|index| Batch { headline: headline(index), ..Batch::default() }).collect()
    }

    #[test]
    fn pieces_together_are_the_whole_however_many_batches_there_are() {
        for count in [0, 1, 9, 10, 11, 25, 512] {
            let batches = batches(count);
            let mut whole: Compact = [(999, 5), (1000, 3)].into_iter().collect();
            batches.iter().for_each(|batch| whole.merge(&batch.headline));
            let pieces = pieces(&whole, &batches);
            // What was answered after the window is one more.
            assert_eq!(pieces.len(), count.min(10) as usize + 1, "{count}");
            let sizes = pieces[..pieces.len() - 1].iter().map(Compact::len);
            assert!(sizes.clone().max() <= sizes.min().map(|least| least + 3), "{count}: of equal length");
            let mut again = Compact::default();
            pieces.iter().for_each(|piece| again.merge(piece));
            assert_eq!(again, whole);
        }
    }

    #[test]
    fn a_quantile_needs_effective_samples_on_both_sides_and_between_percentiles_the_fewer() {
        let run = Run {
            pieces: Vec::new(),
            effective_samples: [100, 100, 90, 600, 500, 500, 500],
            totals: Totals::ZERO,
        };
        assert_eq!(
            [0.2, 0.5, 0.9, 0.95, 0.99, 0.995, 1.0].map(|quantile| run.effective_samples_at(quantile)),
            [100, 100, 90, 90, 600, 500, 500]
        );
        let boot = || Some(Boot { runs: vec![run.clone()] });
        let sample = |boots| Sample { boots, ..Sample::default() };
        assert!(sample(vec![boot()]).supports(0.99) && !sample(vec![boot()]).supports(0.999));
        assert!(!sample(vec![boot()]).supports(0.01) && sample(vec![boot(); 6]).supports(0.01));
        assert!(sample(vec![boot(); 12]).supports(0.999), "twelve boots together do");
        assert!(!sample(vec![None; 12]).supports(0.5));
    }

    #[test]
    fn sums_of_runs_make_rates_and_costs() {
        let run = Totals {
            answered: 100.0,
            answered_in_window: 90.0,
            measured_s: 2.0,
            server_cpu_s: Some(1e-6),
            load_cpu_s: 4e-6,
        };
        let mut sum = Totals::ZERO;
        sum.add(&run, 2.0);
        sum.add(&Totals { answered: 200.0, answered_in_window: 240.0, ..run }, 1.0);
        let values = [Quantity::Rate, Quantity::ServerCpu, Quantity::LoadCpu, Quantity::Quantile(0.5)];
        assert_eq!(values.map(|of| sum.value(of)), [Some(70.0), Some(7.5), Some(30.0), None]);
        sum.add(&Totals { server_cpu_s: None, ..run }, 1.0);
        assert_eq!(sum.value(Quantity::ServerCpu), None, "of one run it is not known");
        assert_eq!(Totals::ZERO.value(Quantity::Rate), None);
    }
}
