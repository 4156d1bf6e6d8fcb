//! The search against servers whose answer is known: queues with noise, cliffs, servers that do not recover.

use super::*;
use crate::load::series::Setup;
use crate::load::series::tests::result_of;
use crate::measure::verdict::{self, Level, Verdict};
use serde_json::Value;

/// A server in simulated time.
trait Server {
    /// Response times, in nanoseconds, at a Poisson rate; and the share that was answered in time.
    fn serve(&mut self, rate_per_s: f64, seconds: f64, random: &mut fastrand::Rng) -> (Vec<u64>, f64);
}

/// One queue, a service time that is constant but for noise: answers that wait together are slow together.
struct Queue {
    capacity_per_s: f64,
    /// Of the run's own speed: how far it may be off, either way.
    between_runs: f64,
}

impl Server for Queue {
    fn serve(&mut self, rate_per_s: f64, seconds: f64, random: &mut fastrand::Rng) -> (Vec<u64>, f64) {
        let speed = 1.0 + self.between_runs * (2.0 * random.f64() - 1.0);
        let service_s = 1.0 / (self.capacity_per_s * speed);
        let (mut waiting_s, mut at_s, mut answered_in_time) = (0.0_f64, 0.0, 0_u64);
        let mut responses = Vec::new();
        while at_s < seconds {
            let gap_s = -(1.0 - random.f64()).ln() / rate_per_s;
            at_s += gap_s;
            waiting_s = (waiting_s - gap_s).max(0.0);
            let response_s = waiting_s + service_s * (0.9 + 0.2 * random.f64());
            waiting_s = response_s;
            answered_in_time += u64::from(at_s + response_s < seconds + 0.001);
            responses.push((response_s * 1e9) as u64);
        }
        let share = answered_in_time as f64 / responses.len() as f64;
        (responses, share)
    }
}

/// Fast up to a rate, slow from there on.
struct Cliff {
    at_per_s: f64,
    /// After overload it is slow down to this share of that rate.
    recovers_below: f64,
    slow: bool,
}

impl Server for Cliff {
    fn serve(&mut self, rate_per_s: f64, seconds: f64, random: &mut fastrand::Rng) -> (Vec<u64>, f64) {
        self.slow =
            rate_per_s > self.at_per_s || (self.slow && rate_per_s > self.at_per_s * self.recovers_below);
        let typical_ns = if self.slow { 50_000_000.0 } else { 100_000.0 };
        let count = (rate_per_s * seconds) as u64;
        // Its own messages tell little: of a billion the first ones do.
        let responses = (0..count.min(200_000)).map(|_| (typical_ns * (0.5 + random.f64())) as u64);
        (responses.collect(), 1.0)
    }
}

fn search(server: &mut dyn Server, condition: &str, start_per_s: f64, seed: u64) -> SearchFinding {
    let spec = Spec {
        condition: condition.parse().unwrap(),
        start_per_s,
        precision: 0.03,
        step_s: 1.0,
        clock: Clock::Real,
    };
    let condition = spec.condition.clone();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut search = Search::new(spec);
    let setup = Setup::new(&crate::load::config::Values::new()).unwrap();
    while let Some(trial) = search.next_trial() {
        let (steps, _) = search.left();
        assert!(steps > 0);
        let duration = format!("{}ns", (trial.seconds * 1e9) as u64);
        let setup =
            setup.with([("rate", trial.rate_per_s.into()), ("duration", Value::String(duration))]).unwrap();
        let (responses, in_time) = server.serve(trial.rate_per_s, trial.seconds, &mut random);
        let mut result = result_of(&setup, responses);
        let accounting = &mut result.accounting;
        accounting.answered = (accounting.offered as f64 * in_time) as u64;
        accounting.outstanding = accounting.offered - accounting.answered;
        search.on_result(&Evidence::of(&result, &condition), trial.seconds);
        assert!(search.runs < 200, "the number of runs is bounded");
    }
    assert_eq!(search.left().0, 0);
    search.finding()
}

fn bracket(finding: &SearchFinding) -> (f64, f64) {
    (finding.highest_pass_per_s.unwrap(), finding.lowest_fail_per_s.unwrap())
}

/// The rate at which a queue's p99 is the bound, from runs much longer than any step.
fn truth(capacity_per_s: f64, bound_ns: u64) -> f64 {
    let (mut low, mut high) = (0.3 * capacity_per_s, 1.2 * capacity_per_s);
    while high / low > 1.002 {
        let middle = (low * high).sqrt();
        let mut queue = Queue { capacity_per_s, between_runs: 0.0 };
        let mut random = fastrand::Rng::with_seed(99);
        let (mut responses, _) = queue.serve(middle, 1_000_000.0 / middle, &mut random);
        responses.sort_unstable();
        let p99 = responses[responses.len() * 99 / 100];
        if p99 < bound_ns { low = middle } else { high = middle }
    }
    low
}

#[test]
fn the_rate_of_a_queue_is_bracketed_closely_whatever_the_noise() {
    let expected = truth(5_000.0, 2_000_000);
    for seed in 0..12 {
        let start = [100.0, 4_000.0, 60_000.0][seed as usize % 3];
        let finding =
            search(&mut Queue { capacity_per_s: 5_000.0, between_runs: 0.0 }, "p99<2ms", start, seed);
        let (pass, fail) = bracket(&finding);
        assert!(pass < fail && fail / pass < 1.03 / 0.97 + 1e-9, "{pass} to {fail}");
        // The queue of a step is a sample too: a bit beyond the bracket is chance.
        assert!(
            0.93 * pass < expected && expected < 1.07 * fail,
            "{pass} to {fail}, not {expected}; seed {seed}"
        );
        assert!(
            !matches!(finding.descent, Descent::Hysteresis { .. } | Descent::NotMade),
            "{:?}",
            finding.descent
        );
        assert!(finding.runs < 60, "{} runs", finding.runs);
    }
}

#[test]
fn runs_that_differ_from_each_other_do_not_look_like_a_server_that_does_not_recover() {
    let expected = truth(5_000.0, 2_000_000);
    let found = (0..12).map(|seed| {
        search(&mut Queue { capacity_per_s: 5_000.0, between_runs: 0.02 }, "p99<2ms", 1_000.0, seed)
    });
    let found: Vec<SearchFinding> = found.collect();
    for finding in &found {
        let (pass, fail) = bracket(finding);
        assert!(0.88 * pass < expected && expected < 1.12 * fail, "{pass} to {fail}, not {expected}");
    }
    let blamed = found.iter().filter(|finding| matches!(finding.descent, Descent::Hysteresis { .. })).count();
    assert!(blamed <= 3, "{blamed} of 12");
}

#[test]
fn a_cliff_is_found_on_both_sides() {
    for at_per_s in [70.0, 1_234.0, 77_777.0, 3_000_000.0] {
        let mut server = Cliff { at_per_s, recovers_below: 1.0, slow: false };
        let finding = search(&mut server, "p90<1ms,max<10ms", 20_000.0, 1);
        let (pass, fail) = bracket(&finding);
        assert!(pass <= at_per_s && at_per_s < fail && fail / pass < 1.062, "{pass} to {fail}");
        assert_eq!(finding.descent, Descent::Recovers);
        assert!(finding.steps.iter().all(|step| step.runs == 1 && !step.by_value));
    }
}

#[test]
fn a_server_that_stays_slow_after_overload_is_told_from_one_that_does_not() {
    for (recovers_below, seed) in [(0.9, 1), (0.5, 2), (0.2, 3)] {
        let mut server = Cliff { at_per_s: 10_000.0, recovers_below, slow: false };
        // From below, so that bisection itself finds a rate: each overload is followed by rates that stay slow.
        let finding = search(&mut server, "p99<1ms", 9_700.0, seed);
        let pass = finding.highest_pass_per_s.unwrap();
        assert_eq!(pass, 9_700.0, "what passed before the first overload");
        let Descent::Hysteresis { passes_per_s: Some(passes), fails_per_s } = finding.descent else {
            panic!("{:?}", finding.descent)
        };
        let threshold = 10_000.0 * recovers_below;
        assert!(
            passes <= threshold && threshold < fails_per_s && fails_per_s < pass + 1.0,
            "{passes}, {fails_per_s}"
        );
    }
    let mut never = Cliff { at_per_s: 10_000.0, recovers_below: 0.0, slow: false };
    let finding = search(&mut never, "p99<1ms", 9_700.0, 1);
    assert!(
        matches!(finding.descent, Descent::Hysteresis { passes_per_s: None, .. }),
        "{:?}",
        finding.descent
    );
}

#[test]
fn a_server_that_never_or_always_passes_ends_the_search() {
    let never =
        search(&mut Cliff { at_per_s: 0.0, recovers_below: 1.0, slow: false }, "p99<1ms", 20_000.0, 1);
    assert_eq!((never.highest_pass_per_s, &never.descent), (None, &Descent::NotMade));
    let lowest = never.lowest_fail_per_s.unwrap();
    assert!(lowest < 2.1 * Search::rate_min_per_s(&"p99<1ms".parse().unwrap()), "{lowest}");
    let always =
        search(&mut Cliff { at_per_s: 1e12, recovers_below: 1.0, slow: false }, "p99<1ms", 20_000.0, 1);
    assert_eq!((always.lowest_fail_per_s, always.highest_pass_per_s), (None, Some(RATE_MAX_PER_S)));
}

#[test]
fn a_step_that_does_not_decide_is_repeated_longer_and_at_last_counted_by_its_value() {
    /// Its p99 is the bound, to the nanosecond.
    struct OnTheEdge;
    impl Server for OnTheEdge {
        fn serve(&mut self, rate_per_s: f64, seconds: f64, random: &mut fastrand::Rng) -> (Vec<u64>, f64) {
            let count = (rate_per_s * seconds) as u64;
            ((0..count).map(|_| (random.f64() * 1e6 / 0.9901) as u64).collect(), 1.0)
        }
    }
    let finding = search(&mut OnTheEdge, "p99<1ms", 10_000.0, 1);
    let by_value: Vec<_> = finding.steps.iter().filter(|step| step.by_value).collect();
    let repeated = |step: &&SearchStep| step.runs == 4 || step.purpose == "overload";
    assert!(!by_value.is_empty() && by_value.iter().all(repeated), "{:?}", finding.steps);
    let mut search = Search::new(Spec {
        condition: "p99<1ms".parse().unwrap(),
        start_per_s: 10_000.0,
        precision: 0.03,
        step_s: 2.0,
        clock: Clock::Real,
    });
    let mut seconds = Vec::new();
    let setup = Setup::new(&crate::load::config::Values::new()).unwrap();
    let condition = search.spec.condition.clone();
    while search.steps.is_empty() {
        let trial = search.next_trial().unwrap();
        seconds.push(trial.seconds);
        let (responses, _) = OnTheEdge.serve(10_000.0, 2.0, &mut fastrand::Rng::with_seed(1));
        search.on_result(&Evidence::of(&result_of(&setup, responses), &condition), trial.seconds);
    }
    assert_eq!(seconds, [2.0, 4.0, 8.0, 16.0]);
}

#[test]
fn steps_are_as_long_as_their_percentiles_need() {
    let first = |condition: &str, start_per_s| {
        let spec = Spec {
            condition: condition.parse().unwrap(),
            start_per_s,
            precision: 0.03,
            step_s: 2.0,
            clock: Clock::Real,
        };
        Search::new(spec).next_trial().unwrap().seconds
    };
    assert_eq!(first("p50<1ms", 20_000.0), 2.0);
    // 8.4 / 0.001 effective samples, ten times as many messages, and a twentieth more.
    assert_eq!(first("p99.9<1ms", 20_000.0), 4.41);
    assert_eq!(first("p99.9<1ms", 2_000.0), 44.1);
}

#[test]
fn rates_read_well() {
    for (rate, expected) in [(28_284.27, 28_280.0), (1.0, 1.0), (123.456, 123.5), (0.5, 0.5), (1e8, 1e8)] {
        assert!((round_rate(rate) - expected).abs() < 1e-9 * expected, "{rate}: {}", round_rate(rate));
    }
}

/// Runs of a search whose verdict says what `doubt` has for their number, each of these response times.
fn doubted(
    response_ns: impl Fn(f64) -> u64,
    doubt: impl Fn(u64) -> Option<(&'static str, Level)>,
) -> SearchFinding {
    let condition: Condition = "p99<1ms".parse().unwrap();
    let mut search = Search::new(Spec {
        condition: condition.clone(),
        start_per_s: 4_000.0,
        precision: 0.1,
        step_s: 3.0,
        clock: Clock::Real,
    });
    let setup = Setup::new(&crate::load::config::Values::new()).unwrap();
    while let Some(trial) = search.next_trial() {
        let setup = setup.with([("rate", trial.rate_per_s.into())]).unwrap();
        let count = (trial.rate_per_s * trial.seconds) as usize;
        let mut result = result_of(&setup, std::iter::repeat_n(response_ns(trial.rate_per_s), count));
        let finding = |(check, level): (&str, Level)| verdict::Finding {
            check: check.to_owned(),
            level,
            says: "so it was".to_owned(),
        };
        let findings: Vec<_> = doubt(search.runs).map(finding).into_iter().collect();
        let level = findings.first().map_or(Level::Trusted, |finding| finding.level);
        result.verdict = Some(Verdict { level, findings });
        search.on_result(&Evidence::of(&result, &condition), trial.seconds);
        assert!(search.runs < 200, "the number of runs is bounded");
    }
    search.finding()
}

fn slow_above_10k(rate_per_s: f64) -> u64 {
    if rate_per_s > 10_000.0 { 5_000_000 } else { 100_000 }
}

#[test]
fn a_step_that_failed_while_the_machine_stole_time_is_made_anew_and_the_server_not_blamed() {
    // The second run, at 8000/s, is slow for the machine's reasons; the same again is not.
    let runs = std::cell::Cell::new(0);
    let once = |rate_per_s: f64| {
        runs.set(runs.get() + 1);
        if runs.get() == 2 { 5_000_000 } else { slow_above_10k(rate_per_s) }
    };
    let found = doubted(once, |run| (run == 1).then_some(("steal", Level::Suspect)));
    let (pass, fail) = bracket(&found);
    assert!(pass <= 10_000.0 && 10_000.0 < fail, "{pass}, {fail}");
    let step = &found.steps[1];
    assert_eq!((step.passed, step.runs, step.made_anew), (true, 2, 1));
    assert!(found.steps.iter().all(|step| step.not_the_servers.is_none()), "{:?}", found.steps);
}

#[test]
fn a_limit_that_stays_the_generators_is_said_to_be_no_servers() {
    let found = doubted(slow_above_10k, |_| Some(("generator-lag", Level::Invalid)));
    let (pass, fail) = bracket(&found);
    assert!(pass <= 10_000.0 && 10_000.0 < fail, "{pass}, {fail}");
    let step = found.steps.iter().find(|step| step.rate_per_s == fail).unwrap();
    assert_eq!((step.runs, step.made_anew), (3, 2));
    assert_eq!(step.not_the_servers.as_deref(), Some("generator-lag: so it was"));
    let passed = found.steps.iter().filter(|step| step.passed);
    assert!(passed.into_iter().all(|step| step.runs == 1 && step.not_the_servers.is_none()));
    let text = crate::report::series::render_search(
        &found,
        false,
        Clock::Real,
        std::path::Path::new("x"),
        crate::report::Style::PLAIN,
    );
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("is the generator's or the machine's, not the server's: generator-lag: so"),
        "{text}"
    );
}

#[test]
fn a_server_that_answers_wrongly_does_not_pass_however_fast_it_is() {
    let found = doubted(|_| 1_000, |run| (run > 0).then_some(("answers", Level::Invalid)));
    assert_eq!(bracket(&found).0, 4_000.0);
    assert!(found.steps.iter().skip(1).all(|step| !step.passed && step.made_anew == 0), "{:?}", found.steps);
    let suspect = doubted(slow_above_10k, |_| Some(("drift", Level::Suspect)));
    assert!(suspect.steps.iter().all(|step| step.made_anew == 0), "a check of the numbers blames nobody");
}

#[test]
fn the_way_back_is_from_half_as_much_again_as_the_highest_rate() {
    let found = doubted(slow_above_10k, |_| None);
    let overload = found.steps.iter().find(|step| step.purpose == OVERLOAD).unwrap();
    assert_eq!(overload.rate_per_s, round_rate(1.5 * found.highest_pass_per_s.unwrap()));
    let text = crate::report::series::render_search(
        &found,
        false,
        Clock::Real,
        std::path::Path::new("x"),
        crate::report::Style::PLAIN,
    );
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = format!("right after an overload of {}", text::rate(overload.rate_per_s));
    assert!(text.contains(&expected) && text.contains("and fails at"), "{text}");
}
