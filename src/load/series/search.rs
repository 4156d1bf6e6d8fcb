//! The highest rate at which a condition holds: a search over open-loop runs, told nothing but their results.
//!
//! It begins at a rate and doubles (or halves) it until one rate passes and a higher one fails, then bisects in between, by
//! ratio, until the two are close. Each step is long enough for its percentiles; one that does not decide is repeated, each
//! time twice as long, and its histograms are merged. One that fails where the verdict blames the generator or the machine is
//! made anew. Then it comes back down: a run at half as much again as the highest rate that passed, and right after it, on
//! new connections, one at that rate, which a server that does not recover fails now. (On the same connections the backlog
//! of the overload would be served first, and every server near its limit would fail for as long as that takes; how long
//! that is, a curve's recovery measures.)
//!
//! Invariants: what it says of a rate rests on every run at that rate in that phase, and on no other; the number of runs is
//! bounded. Deliberately absent: clocks and sockets. It can be simulated.

use super::condition::{Condition, Evidence, Judgement};
use crate::measure::environment::Clock;
use crate::measure::finding::{Descent, OVERLOAD, SearchFinding, SearchStep};
use crate::report::text;

/// From one step to the next while the rate is not bracketed.
const GROWTH: f64 = 2.0;
/// No machine is asked for more.
const RATE_MAX_PER_S: f64 = 1e8;
/// No step takes longer; a rate at which it would have to is not searched.
const STEP_S_MAX: f64 = 60.0;
/// How often a step that does not decide is looked at, the first time included; intervals allow for as many.
const LOOKS_PER_STEP_MAX: u32 = 4;
/// How often a step is made anew that failed, but perhaps not by the server.
const ANEW_MAX: u32 = 2;
/// The overload before the way back, by the highest rate that passed: enough that a backlog builds whatever the precision.
const OVERLOAD_FACTOR: f64 = 1.5;
/// Steps further down, each twice as far as the last, when the highest rate fails on the way back.
const DESCENT_STEPS_MAX: u32 = 6;

/// What is searched, and how closely.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    /// What has to hold.
    pub(super) condition: Condition,
    /// The first rate.
    pub(super) start_per_s: f64,
    /// The highest rate that passes and the lowest that fails are to be within this share of their middle.
    pub(super) precision: f64,
    /// The shortest step, in seconds.
    pub(super) step_s: f64,
    /// What durations are made of.
    pub(super) clock: Clock,
}

/// Why a step is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Looking for a rate that passes and one that fails.
    Bracket,
    /// Between the two.
    Narrow,
    /// Overload, before the way back.
    Above,
    /// The highest rate that passed, again.
    Back,
    /// Lower rates, since that one failed.
    Descend(u32),
    Done,
}

/// A run that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trial {
    /// At this rate.
    pub(super) rate_per_s: f64,
    /// For so long.
    pub(super) seconds: f64,
    /// The step, from 0, and which run of it, from 0.
    pub(super) step: usize,
    /// See [`Trial::step`].
    pub(super) run: u32,
    /// In a word or two.
    pub(super) purpose: &'static str,
}

/// See the module's text. [`Search::next_trial`] and [`Search::on_result`] are called in turn.
#[derive(Debug)]
pub(super) struct Search {
    spec: Spec,
    phase: Phase,
    rate_per_s: f64,
    /// What runs at this rate have said so far.
    evidence: Evidence,
    /// Runs in it.
    looks: u32,
    /// How often this step was made anew.
    anew: u32,
    /// All runs of this step.
    runs_of_step: u32,
    highest_pass: Option<f64>,
    lowest_fail: Option<f64>,
    /// How often the way back was gone, and the highest rate failed.
    failed_back: u32,
    descent: Descent,
    lowest_fail_down: Option<f64>,
    steps: Vec<SearchStep>,
    runs: u64,
    sent_s: f64,
    ended_by: Option<String>,
}

impl Search {
    /// A search that has not begun.
    pub(super) fn new(spec: Spec) -> Search {
        Search {
            phase: Phase::Bracket,
            rate_per_s: round_rate(spec.start_per_s),
            evidence: Evidence::none(&spec.condition),
            looks: 0,
            anew: 0,
            runs_of_step: 0,
            highest_pass: None,
            lowest_fail: None,
            failed_back: 0,
            descent: Descent::NotMade,
            lowest_fail_down: None,
            steps: Vec::new(),
            runs: 0,
            sent_s: 0.0,
            ended_by: None,
            spec,
        }
    }

    /// The lowest rate whose steps are not too long.
    pub(super) fn rate_min_per_s(condition: &Condition) -> f64 {
        condition.messages_needed() / STEP_S_MAX
    }

    /// What to run next; `None` when it is over.
    pub(super) fn next_trial(&self) -> Option<Trial> {
        let purpose = match self.phase {
            Phase::Done => return None,
            Phase::Bracket => "to bracket",
            Phase::Narrow => "between",
            Phase::Above => OVERLOAD,
            Phase::Back => "back from overload",
            Phase::Descend(_) => "further down",
        };
        let seconds = self.step_s(self.rate_per_s) * f64::from(1 << self.looks);
        let (step, run) = (self.steps.len(), self.runs_of_step);
        Some(Trial { rate_per_s: self.rate_per_s, seconds: seconds.min(STEP_S_MAX), step, run, purpose })
    }

    fn step_s(&self, rate_per_s: f64) -> f64 {
        // To the hundredth, so that it looks like a time somebody chose.
        let needed_s = self.spec.condition.messages_needed() / rate_per_s;
        (needed_s.max(self.spec.step_s).min(STEP_S_MAX) * 100.0).ceil() / 100.0
    }

    /// What the run came to that [`Search::next_trial`] asked for.
    pub(super) fn on_result(&mut self, evidence: &Evidence, sent_s: f64) {
        self.evidence.add(evidence);
        (self.runs, self.sent_s) = (self.runs + 1, self.sent_s + sent_s);
        (self.runs_of_step, self.looks) = (self.runs_of_step + 1, self.looks + 1);
        let judgement = self.spec.condition.judge(&self.evidence, self.spec.clock);
        let may_repeat = self.looks < LOOKS_PER_STEP_MAX && self.phase != Phase::Above;
        if matches!(judgement, Judgement::Undecided(_)) && may_repeat {
            return;
        }
        let (passed, why, by_value) = match judgement {
            Judgement::Pass => (true, None, false),
            Judgement::Fail(why) => (false, Some(why), false),
            Judgement::Undecided(holds) => (holds, None, true),
        };
        let may_be_others = !passed && self.evidence.not_the_servers().is_some();
        if may_be_others && self.anew < ANEW_MAX && self.phase != Phase::Above {
            (self.evidence, self.looks) = (Evidence::none(&self.spec.condition), 0);
            self.anew += 1;
            return;
        }
        self.end_step(passed, why, by_value);
    }

    /// The server broke at this rate, or the run could not be made: it does not sustain it.
    pub(super) fn on_failure(&mut self, why: &str, sent_s: f64) {
        (self.runs, self.sent_s) = (self.runs + 1, self.sent_s + sent_s);
        self.runs_of_step += 1;
        self.end_step(false, Some(why.to_owned()), false);
    }

    /// Nothing more can be learnt: the server is gone.
    pub(super) fn give_up(&mut self, why: &str) {
        self.ended_by = Some(why.to_owned());
        self.phase = Phase::Done;
    }

    fn end_step(&mut self, passed: bool, why: Option<String>, by_value: bool) {
        let trial = self.next_trial().map_or("", |trial| trial.purpose);
        self.steps.push(SearchStep {
            purpose: trial.to_owned(),
            rate_per_s: self.rate_per_s,
            runs: self.runs_of_step.into(),
            passed,
            by_value,
            figures: self.spec.condition.describe(&self.evidence, self.spec.clock),
            why,
            lag_p99_ns: self.evidence.lag_p99_ns(),
            level: self.evidence.level(),
            made_anew: self.anew.into(),
            not_the_servers: self.evidence.not_the_servers().filter(|_| !passed).map(str::to_owned),
        });
        self.evidence = Evidence::none(&self.spec.condition);
        (self.runs_of_step, self.looks, self.anew) = (0, 0, 0);
        match self.phase {
            Phase::Bracket | Phase::Narrow => self.after_bisection(passed),
            Phase::Above => (self.phase, self.rate_per_s) = (Phase::Back, self.highest_pass.unwrap_or(0.0)),
            Phase::Back => self.after_back(passed),
            Phase::Descend(depth) => self.after_descent(passed, depth),
            Phase::Done => {}
        }
    }

    fn after_bisection(&mut self, passed: bool) {
        let end = if passed { &mut self.highest_pass } else { &mut self.lowest_fail };
        *end = Some(self.rate_per_s);
        match (self.highest_pass, self.lowest_fail) {
            (Some(pass), None) if pass >= RATE_MAX_PER_S => self.phase = Phase::Done,
            (Some(pass), None) => self.rate_per_s = round_rate((pass * GROWTH).min(RATE_MAX_PER_S)),
            (None, fail) => {
                let next = round_rate(fail.unwrap_or(0.0) / GROWTH);
                if next < Search::rate_min_per_s(&self.spec.condition) {
                    self.phase = Phase::Done;
                }
                self.rate_per_s = next;
            }
            (Some(pass), Some(fail)) => {
                let middle = round_rate((pass * fail).sqrt());
                // Where rates are as small as their rounding there is nothing in between.
                if is_close(pass, fail, self.spec.precision) || middle <= pass || middle >= fail {
                    (self.phase, self.rate_per_s) = (Phase::Above, overload_of(pass));
                } else {
                    (self.phase, self.rate_per_s) = (Phase::Narrow, middle);
                }
            }
        }
    }

    /// Once may be chance: runs differ. Twice in a row, each after an overload, is the server.
    fn after_back(&mut self, passed: bool) {
        match (passed, self.failed_back) {
            (true, 0) => (self.phase, self.descent) = (Phase::Done, Descent::Recovers),
            (true, _) => (self.phase, self.descent) = (Phase::Done, Descent::Unsteady),
            (false, 0) => {
                self.failed_back = 1;
                (self.phase, self.rate_per_s) = (Phase::Above, overload_of(self.rate_per_s));
            }
            (false, _) => self.descend(0),
        }
    }

    fn after_descent(&mut self, passed: bool, depth: u32) {
        if passed && depth == 0 {
            (self.phase, self.descent) = (Phase::Done, Descent::Unsteady);
        } else if passed {
            let fails_per_s = self.lowest_fail_down.unwrap_or(self.rate_per_s);
            self.descent = Descent::Hysteresis { passes_per_s: Some(self.rate_per_s), fails_per_s };
            self.phase = Phase::Done;
        } else {
            self.descend(depth + 1);
        }
    }

    fn descend(&mut self, depth: u32) {
        let failed = self.rate_per_s;
        self.lowest_fail_down = Some(failed);
        let share = 1.0 - (2.0 * self.spec.precision * f64::from(1 << depth)).min(0.75);
        let next = round_rate(failed * share);
        if depth == DESCENT_STEPS_MAX || next < Search::rate_min_per_s(&self.spec.condition) {
            self.descent = Descent::Hysteresis { passes_per_s: None, fails_per_s: failed };
            self.phase = Phase::Done;
        } else {
            (self.phase, self.rate_per_s) = (Phase::Descend(depth), next);
        }
    }

    /// Steps that are still to come, as far as can be told, and the seconds that they take.
    pub(super) fn left(&self) -> (u64, f64) {
        let halvings = |ratio: f64| {
            let close = (1.0 + self.spec.precision) / (1.0 - self.spec.precision);
            (ratio.ln() / close.ln()).log2().ceil().max(0.0) as u64
        };
        let steps = match (self.phase, self.highest_pass, self.lowest_fail) {
            (Phase::Done, ..) => 0,
            (Phase::Bracket, ..) => 2 + halvings(GROWTH) + 2,
            (Phase::Narrow, Some(pass), Some(fail)) => halvings(fail / pass) + 2,
            (Phase::Narrow | Phase::Above, ..) => 2,
            (Phase::Back | Phase::Descend(_), ..) => 1,
        };
        (steps, steps as f64 * self.step_s(self.rate_per_s))
    }

    /// What was found so far.
    pub(super) fn finding(&self) -> SearchFinding {
        SearchFinding {
            condition: self.spec.condition.to_string(),
            precision: self.spec.precision,
            highest_pass_per_s: self.highest_pass,
            lowest_fail_per_s: self.lowest_fail,
            descent: self.descent.clone(),
            steps: self.steps.clone(),
            runs: self.runs,
            sent_s: self.sent_s,
            ended_by: self.ended_by.clone(),
        }
    }

    /// How a step is called.
    pub(super) fn label(trial: &Trial) -> String {
        format!("step {}, {}: {}", trial.step + 1, trial.purpose, text::rate(trial.rate_per_s))
    }
}

/// The overload that a server is to come back from to this rate.
fn overload_of(pass_per_s: f64) -> f64 {
    round_rate(pass_per_s * OVERLOAD_FACTOR).min(RATE_MAX_PER_S)
}

/// Whether the two are within `precision` of their middle, either way.
fn is_close(pass: f64, fail: f64, precision: f64) -> bool {
    fail * (1.0 - precision) <= pass * (1.0 + precision)
}

/// A rate that reads well: four digits.
fn round_rate(rate_per_s: f64) -> f64 {
    let unit = 10_f64.powf(rate_per_s.log10().floor() - 3.0);
    let rounded = (rate_per_s / unit).round() * unit;
    // What a division by a tenth leaves behind the comma.
    (rounded * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
