//! Repeated runs of several contenders: merged, their spread, and how one compares with another.
//!
//! Invariants: percentiles come from merged histograms, never from averaged percentiles, and are stated where their effective
//! samples suffice; the unit that chance draws in an interval is the run, since runs differ from each other by more than the
//! samples of one do; runs that are INVALID, or ended early, are counted and left out, and where that is many, nothing is
//! compared: those that are left are those that went well.
//! Deliberately absent: tests in place of intervals. They only decide which of several differences are marked as noise.

use super::histogram::{self, Histogram, PERCENTILES, new_histogram};
use super::holm;
use super::result::{Mode, RunResult, Status};
use super::samples::Inflation;
use super::series::Compact;
use super::student;
use super::verdict::Level;

/// The share of its rounds that each side has to have kept, so that the two are compared.
pub const KEPT_SHARE_MIN: f64 = 0.75;
/// The error that intervals, and all marks of one table together, are made for.
const ERROR: f64 = 0.05;

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
    /// How many of its samples tell as much as independent ones, for each of [`PERCENTILES`].
    pub effective_samples: [u64; PERCENTILES.len()],
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
        let inflation = Inflation::of_run(result);
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
            effective_samples: std::array::from_fn(|index| inflation.effective_samples(headline, index)),
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
        let sum = |of: fn(&Figures) -> f64| runs.iter().map(|run| of(run)).sum::<f64>();
        let per_message = |cpu_s: f64| {
            let answered = sum(|run| run.answered as f64);
            (answered > 0.0).then(|| cpu_s * 1e9 / answered)
        };
        match self {
            Self::Percentile(quantile) => percentile_ns(runs, quantile).map(|value_ns| value_ns as f64),
            Self::Rate => {
                let measured_s = sum(|run| run.measured_s);
                (measured_s > 0.0).then(|| sum(|run| run.answered_in_window) / measured_s)
            }
            Self::ServerCpu if runs.iter().any(|run| run.server_cpu_s.is_none()) => None,
            Self::ServerCpu => per_message(sum(|run| run.server_cpu_s.unwrap_or(0.0))),
            Self::LoadCpu => per_message(sum(|run| run.load_cpu_s)),
        }
    }
}

/// One of [`PERCENTILES`] of all runs' samples; `None` if their effective samples together are too few to state it.
pub fn percentile_ns(runs: &[&Figures], quantile: f64) -> Option<u64> {
    let index = PERCENTILES.iter().position(|&(_, other)| other == quantile)?;
    let effective = runs.iter().map(|run| run.effective_samples[index]).sum();
    let merged = histogram::has_enough_samples(effective, quantile).then(|| merged(runs))?;
    histogram::percentile_ns(&merged, quantile)
}

fn merged(runs: &[&Figures]) -> Histogram {
    let mut merged = new_histogram();
    runs.iter().for_each(|run| run.headline.add_to(&mut merged));
    merged
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
    /// The geometric mean: of the rounds' ratios, or that of one's runs over that of the other's.
    pub value: f64,
    /// The ends of its 95 % interval; `None` with fewer than two rounds.
    pub interval: Option<(f64, f64)>,
    /// How likely as much is by chance alone, where there is an interval.
    pub chance: Option<f64>,
    /// Rounds that it rests on; where they are no pairs, runs of the side that has fewer.
    pub rounds: usize,
    /// That it cannot be told from noise; [`mark_noise`] knows what else it stands beside.
    pub is_noise: bool,
}

impl Ratio {
    /// Half the interval's width as a share: a smaller difference could not have been seen.
    pub fn resolution(&self) -> Option<f64> {
        self.interval.map(|(low, high)| (high / low).sqrt() - 1.0)
    }

    /// Of the mean of logarithms, its standard error and degrees of freedom.
    fn of_logs(mean: f64, error: f64, freedom: f64, rounds: usize) -> Ratio {
        let half = student::two_sided_quantile(ERROR, freedom) * error;
        let chance = match error > 0.0 {
            true => student::two_sided_chance(mean / error, freedom),
            // Runs that are all alike: a difference is one.
            false => f64::from(u8::from(mean == 0.0)),
        };
        let interval = Some(((mean - half).exp(), (mean + half).exp()));
        Ratio { value: mean.exp(), interval, chance: Some(chance), rounds, is_noise: chance >= ERROR }
    }
}

/// Marks what is noise among all ratios that are shown together, so that chance makes up a difference anywhere among
/// them in 5 % of tables, not in 5 % of cells.
pub fn mark_noise<'a>(ratios: impl IntoIterator<Item = &'a mut Ratio>) {
    let ratios: Vec<_> = ratios.into_iter().collect();
    let chances: Vec<f64> = ratios.iter().map(|ratio| ratio.chance.unwrap_or(1.0)).collect();
    for (ratio, adjusted) in ratios.into_iter().zip(holm::adjusted(&chances)) {
        ratio.is_noise = adjusted >= ERROR;
    }
}

/// Mean, variance of the mean, and count less one.
fn moments(logs: &[f64]) -> (f64, f64, f64) {
    let (count, freedom) = (logs.len() as f64, logs.len() as f64 - 1.0);
    let mean = logs.iter().sum::<f64>() / count;
    let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
    (mean, squares / freedom.max(1.0) / count, freedom)
}

impl Contender {
    /// Runs that count.
    pub fn kept(&self) -> Vec<&Figures> {
        self.runs.iter().filter(|run| run.left_out.is_none()).collect()
    }

    /// Their headline durations in one histogram.
    pub fn merged(&self) -> Histogram {
        merged(&self.kept())
    }

    /// Rounds that were made, and those of them that count, if these are too few to speak for all.
    pub fn kept_too_few(&self) -> Option<(usize, usize)> {
        let (made, kept) = (self.runs.len() + self.failed.len(), self.kept().len());
        ((kept as f64) < KEPT_SHARE_MIN * made as f64).then_some((made, kept))
    }

    /// How far single runs lie apart.
    pub fn spread(&self, metric: Metric) -> Option<Spread> {
        Spread::of(self.kept().iter().filter_map(|run| metric.of(&[run])))
    }

    /// This one's `metric` over `base`'s, with a t-interval over the logarithms of runs: of a factor that moves some runs and
    /// not others there are as many observations as runs, not as messages. `None` where runs do not tell, or either side has
    /// [too few][Contender::kept_too_few].
    ///
    /// With `by_round` it is that of the ratios of rounds that both have, so that what moved both contenders in a round
    /// cancels out: right where rounds were interleaved. Else the runs of each are apart, with a variance of their own (Welch,
    /// "The generalization of Student's problem when several different population variances are involved", Biometrika 34, 1947).
    pub fn over(&self, base: &Contender, metric: Metric, by_round: bool) -> Option<Ratio> {
        if self.kept_too_few().or(base.kept_too_few()).is_some() {
            return None;
        }
        let log = |run: &Figures| metric.of(&[run]).filter(|&value| value > 0.0).map(f64::ln);
        let logs = |runs: Vec<&Figures>| runs.into_iter().filter_map(log).collect::<Vec<f64>>();
        let lone =
            |mean: f64| Ratio { value: mean.exp(), interval: None, chance: None, rounds: 1, is_noise: true };
        if by_round {
            let bases = base.kept();
            let of_round = |run: &Figures| bases.iter().find(|other| other.round == run.round).copied();
            let pair = |run: &&Figures| Some(log(run)? - log(of_round(run)?)?);
            let (mean, variance, freedom) = moments(&self.kept().iter().filter_map(pair).collect::<Vec<_>>());
            return match freedom {
                1.0.. => Some(Ratio::of_logs(mean, variance.sqrt(), freedom, freedom as usize + 1)),
                _ => mean.is_finite().then(|| lone(mean)),
            };
        }
        let (ours, bases) = (moments(&logs(self.kept())), moments(&logs(base.kept())));
        let mean = ours.0 - bases.0;
        if ours.2 < 1.0 || bases.2 < 1.0 {
            return mean.is_finite().then(|| lone(mean));
        }
        let variance = ours.1 + bases.1;
        let freedom = variance.powi(2) / (ours.1.powi(2) / ours.2 + bases.1.powi(2) / bases.2);
        let freedom = if freedom.is_finite() { freedom } else { ours.2.min(bases.2) };
        let fewer = ours.2.min(bases.2) as usize + 1;
        Some(Ratio::of_logs(mean, variance.sqrt(), freedom, fewer))
    }
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
            effective_samples: [answered; PERCENTILES.len()],
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
        let ratio = b.over(&a, Metric::Percentile(0.5), true).unwrap();
        let (low, high) = ratio.interval.unwrap();
        assert!(low < 1.1 && 1.1 < high && high - low < 0.07 && !ratio.is_noise, "{ratio:?}");
        let apart = b.over(&a, Metric::Percentile(0.5), false).unwrap();
        assert!(apart.is_noise && apart.resolution().unwrap() > 0.05, "{apart:?}");
    }

    #[test]
    fn the_same_under_two_names_is_noise_as_often_as_the_interval_says() {
        for (rounds, by_round) in [(5, true), (10, true), (5, false), (10, false)] {
            let differ = (0..300).filter(|&seed| {
                let machine = |side: u64| if by_round { seed } else { seed + side };
                let a = contender("a", rounds, 1.0, machine(0), 1000 + seed);
                let b = contender("a", rounds, 1.0, machine(5000), 2000 + seed);
                !b.over(&a, Metric::Percentile(0.5), by_round).unwrap().is_noise
            });
            // Fifteen are expected; 2 to 31 is four standard deviations.
            let differ = differ.count();
            assert!((2..=31).contains(&differ), "{differ} of 300; {rounds} rounds");
        }
    }

    #[test]
    fn of_many_differences_shown_together_chance_makes_up_none() {
        let ratio =
            |chance| Ratio { value: 1.1, interval: Some((1.0, 1.2)), chance, rounds: 5, is_noise: false };
        let mut ratios = [Some(0.03), Some(0.001), None, Some(0.02), Some(0.012)].map(ratio);
        mark_noise(&mut ratios);
        // Times 5, 4, …: 0.005, 0.048, and 0.06 and all after it are noise.
        assert_eq!(ratios.map(|ratio| ratio.is_noise), [true, false, true, true, false]);
    }

    #[test]
    fn runs_that_do_not_count_are_left_out_and_one_run_each_proves_nothing() {
        let one = Contender { runs: vec![run(0, 1..=1000)], ..Contender::default() };
        let ratio = one.over(&one, Metric::LoadCpu, true).unwrap();
        assert!(ratio.interval.is_none() && ratio.is_noise && ratio.value == 1.0, "{ratio:?}");
        let mut none = one.clone();
        none.runs[0].left_out = Some("INVALID".to_owned());
        assert_eq!(one.over(&none, Metric::LoadCpu, true), None);
        assert_eq!(none.spread(Metric::Rate), None);
    }

    #[test]
    fn what_kept_less_than_three_quarters_of_its_rounds_is_not_compared() {
        let a = contender("a", 8, 1.0, 7, 1);
        let mut b = contender("b", 8, 1.1, 7, 2);
        for (round, compared) in [(0, true), (5, true), (3, false)] {
            b.runs[round].left_out = Some("INVALID".to_owned());
            for by_round in [true, false] {
                assert_eq!(b.over(&a, Metric::Rate, by_round).is_some(), compared, "{round}");
                assert_eq!(a.over(&b, Metric::Rate, by_round).is_some(), compared, "{round}");
            }
        }
        assert_eq!((a.kept_too_few(), b.kept_too_few()), (None, Some((8, 5))));
    }

    #[test]
    fn only_rounds_that_both_have_are_held_against_each_other() {
        let (mut a, mut b) = (contender("a", 8, 1.0, 7, 1), contender("b", 8, 1.1, 7, 2));
        // What is left out of one side only would bend its mean.
        a.runs[1].left_out = Some("INVALID".to_owned());
        b.runs[6].left_out = Some("INVALID".to_owned());
        let mut both = [a.clone(), b.clone()];
        both.iter_mut().for_each(|it| it.runs.retain(|run| ![1, 6].contains(&run.round)));
        let p50 = Metric::Percentile(0.5);
        assert_eq!(b.over(&a, p50, true), both[1].over(&both[0], p50, true));
    }

    #[test]
    fn merged_percentiles_need_effective_samples_and_those_of_runs_add_up() {
        let mut a = Contender { runs: vec![run(0, 1..=9_000), run(1, 1..=9_000)], ..Contender::default() };
        assert!(Metric::Percentile(0.999).of(&a.kept()).is_some());
        a.runs.iter_mut().for_each(|run| run.effective_samples.fill(400));
        assert_eq!(Metric::Percentile(0.999).of(&a.kept()), None);
        assert!(Metric::Percentile(0.99).of(&a.kept()).is_some(), "800 are enough");
        assert_eq!(Metric::Percentile(0.99).of(&a.kept()[..1]), None, "400 are not");
    }

    #[test]
    fn a_spread_has_the_middle_of_an_even_number() {
        let spread = Spread::of([4.0, 1.0, 3.0, 10.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.5, 10.0));
    }
}
