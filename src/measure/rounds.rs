//! Repeated runs of several contenders: merged, their spread, and how one compares with another.
//!
//! Invariants: percentiles come from merged histograms, never from averaged percentiles; the unit that chance draws in an
//! interval is the run, since runs differ from each other by more than the samples of one do; runs that are INVALID, or
//! ended early, are counted and left out.
//! Deliberately absent: tests of significance. An interval says more, and says it in the unit of the thing.

use super::histogram::{self, Histogram, new_histogram};
use super::result::{Mode, RunResult, Status};
use super::series::Compact;
use super::verdict::Level;

/// Draws behind an interval: the ends of a 95 % interval then rest on 50 draws each.
const DRAWS: usize = 2000;

/// One run, as far as it is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The repetition, from 0.
    pub round: u64,
    /// How far it can be trusted, if that was judged.
    pub level: Option<Level>,
    /// Why it is left out.
    pub left_out: Option<String>,
    /// A closed loop: durations are service times.
    pub closed_loop: bool,
    /// The headline durations, in nanoseconds: response times, in a closed loop service times.
    pub headline: Compact,
    /// Messages answered.
    pub answered: u64,
    /// Messages answered in the window, and its length.
    pub answered_in_window: f64,
    /// See [`Figures::answered_in_window`].
    pub measured_s: f64,
    /// Processor time of the server's threads, where it could be seen.
    pub server_cpu_s: Option<f64>,
    /// Processor time of the generator's threads.
    pub load_cpu_s: f64,
}

impl Figures {
    /// What a run of repetition `round` came to.
    pub fn of(result: &RunResult, round: u64) -> Figures {
        let level = result.verdict.as_ref().map(|verdict| verdict.level);
        let closed_loop = matches!(result.plan.mode, Mode::ClosedLoop { .. });
        let headline = if closed_loop { &result.latency.service } else { &result.latency.response };
        let reason = || result.outcome.reason.clone().unwrap_or("it did not end as planned".to_owned());
        let left_out = match (result.outcome.status, level) {
            (Status::Completed, Some(Level::Invalid)) => Some("INVALID".to_owned()),
            (Status::Completed, _) if result.accounting.answered == 0 => {
                Some("nothing was answered".to_owned())
            }
            (Status::Completed, _) => None,
            _ => Some(reason()),
        };
        Figures {
            round,
            level,
            left_out,
            closed_loop,
            headline: Compact::of(headline),
            answered: result.accounting.answered,
            answered_in_window: result.summary.rate_achieved_per_s * result.summary.measured_s,
            measured_s: result.summary.measured_s,
            server_cpu_s: result.cpu.server_cpu_s,
            load_cpu_s: result.cpu.load_cpu_s,
        }
    }
}

/// All runs of what is compared under one name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contender {
    /// The name.
    pub label: String,
    /// Its runs, those that are left out as well.
    pub runs: Vec<Figures>,
    /// Runs that measured nothing: their repetition and why.
    pub failed: Vec<(u64, String)>,
}

/// What is compared, of one run or of several together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// A percentile of the headline durations, in nanoseconds.
    Percentile(f64),
    /// Messages answered a second.
    Rate,
    /// The server's processor time per message, in nanoseconds.
    ServerCpu,
    /// The generator's processor time per message, in nanoseconds.
    LoadCpu,
}

impl Metric {
    /// Its value over several runs together; `None` where they do not tell.
    pub fn of(self, runs: &[&Figures]) -> Option<f64> {
        let drawn: Vec<_> = runs.iter().map(|run| (*run, 1)).collect();
        self.weighted(&Slots::new(runs.iter().copied(), self), &drawn)
    }

    /// The same where each run counts as often as it was drawn; `slots` are those of all runs.
    fn weighted(self, slots: &Slots, drawn: &[(&Figures, u64)]) -> Option<f64> {
        let sum =
            |of: fn(&Figures) -> f64| drawn.iter().map(|(run, times)| of(run) * *times as f64).sum::<f64>();
        let per_message = |cpu_s: f64| {
            let answered = sum(|run| run.answered as f64);
            (answered > 0.0).then(|| cpu_s * 1e9 / answered)
        };
        match self {
            Self::Percentile(quantile) => {
                slots.percentile(quantile, &drawn.iter().map(|&(_, times)| times).collect::<Vec<_>>())
            }
            Self::Rate => {
                let measured_s = sum(|run| run.measured_s);
                (measured_s > 0.0).then(|| sum(|run| run.answered_in_window) / measured_s)
            }
            Self::ServerCpu if drawn.iter().any(|(run, _)| run.server_cpu_s.is_none()) => None,
            Self::ServerCpu => per_message(sum(|run| run.server_cpu_s.unwrap_or(0.0))),
            Self::LoadCpu => per_message(sum(|run| run.load_cpu_s)),
        }
    }
}

/// Every value that occurs in any of several runs, ascending, with the run and the count there.
struct Slots(Vec<(u64, usize, u64)>);

impl Slots {
    fn new<'a>(runs: impl Iterator<Item = &'a Figures>, metric: Metric) -> Slots {
        let mut slots = Vec::new();
        if let Metric::Percentile(_) = metric {
            for (index, run) in runs.enumerate() {
                slots.extend(run.headline.iter().map(|(value_ns, count)| (value_ns, index, count)));
            }
            slots.sort_unstable();
        }
        Slots(slots)
    }

    /// The percentile where run `i` counts `times[i]` times; `None` where there are too few samples for it.
    fn percentile(&self, quantile: f64, times: &[u64]) -> Option<f64> {
        let total: u64 = self.0.iter().map(|&(_, run, count)| count * times[run]).sum();
        if !histogram::has_enough_samples(total, quantile) {
            return None;
        }
        let rank = ((quantile * total as f64).ceil() as u64).max(1);
        let mut passed = 0;
        let reached = self.0.iter().find(|&&(_, run, count)| {
            passed += count * times[run];
            passed >= rank
        });
        reached.map(|&(value_ns, ..)| value_ns as f64)
    }
}

/// Smallest, median and largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The median; of an even number, the mean of the middle two.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Some(Spread { min, median, max })
    }
}

/// One contender's metric over another's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Over all runs of each.
    pub value: f64,
    /// The ends of its 95 % interval; `None` with fewer than two runs of each.
    pub interval: Option<(f64, f64)>,
}

impl Ratio {
    /// Whether no difference can be told from noise.
    pub fn is_noise(&self) -> bool {
        self.interval.is_none_or(|(low, high)| low <= 1.0 && 1.0 <= high)
    }
}

impl Contender {
    /// Runs that count.
    pub fn kept(&self) -> Vec<&Figures> {
        self.runs.iter().filter(|run| run.left_out.is_none()).collect()
    }

    /// Their headline durations in one histogram.
    pub fn merged(&self) -> Histogram {
        let mut merged = new_histogram();
        self.kept().iter().for_each(|run| run.headline.add_to(&mut merged));
        merged
    }

    /// How far single runs lie apart.
    pub fn spread(&self, metric: Metric) -> Option<Spread> {
        Spread::of(self.kept().iter().filter_map(|run| metric.of(&[run])))
    }

    /// This one's `metric` over `base`'s, with a percentile bootstrap over runs.
    ///
    /// With `by_round` whole rounds are drawn, so that what moved both contenders in a round cancels out: right where
    /// rounds were interleaved. Else the runs of each are drawn by themselves.
    pub fn over(&self, base: &Contender, metric: Metric, by_round: bool, seed: u64) -> Option<Ratio> {
        let (ours, bases) = (self.kept(), base.kept());
        let value = quotient(metric.of(&ours), metric.of(&bases))?;
        if ours.len() < 2 || bases.len() < 2 {
            return Some(Ratio { value, interval: None });
        }
        let our_slots = Slots::new(ours.iter().copied(), metric);
        let base_slots = Slots::new(bases.iter().copied(), metric);
        let mut random = fastrand::Rng::with_seed(seed);
        let rounds = 1 + ours.iter().chain(&bases).map(|run| run.round).max().unwrap_or(0) as usize;
        let mut ratios: Vec<f64> = (0..DRAWS)
            .filter_map(|_| {
                let drawn = draw(rounds, &mut random);
                let base_drawn = if by_round { drawn.clone() } else { draw(rounds, &mut random) };
                let ours = metric.weighted(&our_slots, &counted(&ours, &drawn));
                quotient(ours, metric.weighted(&base_slots, &counted(&bases, &base_drawn)))
            })
            .collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let end =
            |quantile: f64| ratios.get((quantile * (ratios.len() as f64 - 1.0)).round() as usize).copied();
        Some(Ratio { value, interval: end(0.025).zip(end(0.975)) })
    }
}

fn quotient(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    above.zip(below).filter(|&(_, below)| below > 0.0).map(|(above, below)| above / below)
}

/// How often each of `count` was drawn in as many draws.
fn draw(count: usize, random: &mut fastrand::Rng) -> Vec<u64> {
    let mut times = vec![0; count];
    (0..count).for_each(|_| times[random.usize(..count)] += 1);
    times
}

fn counted<'a>(runs: &[&'a Figures], times: &[u64]) -> Vec<(&'a Figures, u64)> {
    runs.iter().map(|run| (*run, times[run.round as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(round: u64, values_ns: impl IntoIterator<Item = u64>) -> Figures {
        let mut histogram = new_histogram();
        values_ns.into_iter().for_each(|value_ns| histogram::record(&mut histogram, value_ns));
        let answered = histogram.len();
        Figures {
            round,
            level: Some(Level::Trusted),
            left_out: None,
            closed_loop: false,
            headline: Compact::of(&histogram),
            answered,
            answered_in_window: answered as f64,
            measured_s: 1.0,
            server_cpu_s: Some(answered as f64 * 1e-6),
            load_cpu_s: answered as f64 * 2e-6,
        }
    }

    /// Rounds whose machine is slower or faster as a whole by up to a half; this one's latency is `factor` of that.
    fn contender(label: &str, rounds: u64, factor: f64, machine_seed: u64, own_seed: u64) -> Contender {
        let mut machine = fastrand::Rng::with_seed(machine_seed);
        let mut own = fastrand::Rng::with_seed(own_seed);
        let runs = (0..rounds).map(|round| {
            let base_ns = 100_000.0 * (1.0 + machine.f64() / 2.0) * factor * (1.0 + own.f64() / 50.0);
            run(round, (0..200).map(|_| (base_ns * (1.0 + own.f64())) as u64))
        });
        Contender { label: label.to_owned(), runs: runs.collect(), failed: Vec::new() }
    }

    #[test]
    fn a_percentile_of_several_runs_is_that_of_all_their_samples() {
        let (fast, slow) = (run(0, 1..=9_000), run(1, (1..=1_000).map(|value| value * 1_000)));
        let all = Contender { runs: vec![fast, slow], ..Contender::default() };
        let merged = all.merged();
        for quantile in [0.5, 0.9, 0.99] {
            let expected = histogram::percentile_ns(&merged, quantile).unwrap() as f64;
            let value = Metric::Percentile(quantile).of(&all.kept()).unwrap();
            assert_eq!(value, expected, "{quantile}");
        }
        // Means of the two runs' own percentiles would say 504,500 here.
        let p99 = Metric::Percentile(0.99).of(&all.kept()).unwrap();
        assert!((p99 - 900_000.0).abs() < 2_000.0, "{p99}");
        assert_eq!(Metric::ServerCpu.of(&all.kept()).map(f64::round), Some(1_000.0));
        assert_eq!(Metric::Rate.of(&all.kept()), Some(5_000.0));
    }

    #[test]
    fn interleaved_rounds_tell_a_small_difference_that_the_machine_drowns_otherwise() {
        let (a, b) = (contender("a", 10, 1.0, 7, 1), contender("b", 10, 1.1, 7, 2));
        let ratio = b.over(&a, Metric::Percentile(0.5), true, 1).unwrap();
        let (low, high) = ratio.interval.unwrap();
        assert!(low < 1.1 && 1.1 < high && high - low < 0.05 && !ratio.is_noise(), "{ratio:?}");
        let apart = b.over(&a, Metric::Percentile(0.5), false, 1).unwrap();
        assert!(apart.is_noise(), "{apart:?}");
        assert_eq!(b.over(&a, Metric::Percentile(0.5), true, 1), Some(ratio), "a seed fixes the interval");
    }

    #[test]
    fn the_same_under_two_names_is_noise_as_often_as_the_interval_says() {
        let differ = (0..100).filter(|&seed| {
            let (a, b) =
                (contender("a", 10, 1.0, seed, 1000 + seed), contender("a", 10, 1.0, seed, 2000 + seed));
            !b.over(&a, Metric::Percentile(0.5), true, seed).unwrap().is_noise()
        });
        // Five are expected; a bootstrap of ten runs is a little narrow.
        let differ = differ.count();
        assert!((1..=15).contains(&differ), "{differ} of 100");
    }

    #[test]
    fn runs_that_do_not_count_are_left_out_and_one_run_each_proves_nothing() {
        let mut a = Contender { runs: vec![run(0, 1..=1000), run(1, 1..=1000)], ..Contender::default() };
        let b = a.clone();
        a.runs[1].left_out = Some("INVALID".to_owned());
        assert_eq!(a.kept().len(), 1);
        let ratio = b.over(&a, Metric::LoadCpu, true, 1).unwrap();
        assert!(ratio.interval.is_none() && ratio.is_noise(), "{ratio:?}");
        a.runs[0].left_out = Some("INVALID".to_owned());
        assert_eq!(b.over(&a, Metric::LoadCpu, true, 1), None);
        assert_eq!(a.spread(Metric::Rate), None);
    }

    #[test]
    fn a_spread_has_the_middle_of_an_even_number() {
        let spread = Spread::of([4.0, 1.0, 3.0, 10.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.5, 10.0));
    }
}
