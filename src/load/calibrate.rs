//! `--calibrate`: what the generator can do on this machine by itself, found against a null server.
//!
//! The null server sends bytes back as they came, in this process, on a CPU of its own. Four things are measured: what
//! the generator's work costs over a loop that only moves the same bytes; how punctual it is when there is next to nothing
//! to do; the highest rate at which its lag keeps within its bound; and, at half of that, the response time that no server
//! on this machine can be faster than.

mod pump;

use std::time::Duration;

use super::{LoadError, Plan, Run, Verbosity};
use crate::measure::calibration::{AtHalf, Calibration, Generator, Overhead, SCHEMA, Step};
use crate::measure::environment::{Clock, Environment};
use crate::measure::histogram::percentile_ns;
use crate::measure::result::{self, Arrivals, Mode, RunResult, Tool};
use crate::measure::steadiness::Pace;
use crate::measure::verdict::lag_bound_ns;
use crate::report::text;

/// Rounds of generator and loop, taking turns.
const OVERHEAD_ROUNDS: usize = 8;
/// Messages in flight, each connection: where system calls are nearly all, and where they are next to nothing.
const OVERHEAD_PIPELINES: [u64; 2] = [1, 64];
/// Messages a millisecond apart.
const PRECISION_RATE_PER_S: f64 = 1_000.0;
/// The search begins here, in messages a second, and doubles.
const RATE_FIRST_PER_S: f64 = 10_000.0;
/// The search ends when highest pass and lowest failure are within this factor.
const RATE_WITHIN: f64 = 1.08;
/// A stall of the machine is not the generator's limit, nor one lucky second its ability: a rate is tried until it has
/// passed or failed so often.
const MAJORITY: usize = 2;

/// Calibrates the first generator thread of `plan`; each measurement takes `step`. `say` is told what goes on.
///
/// # Errors
/// A run that failed.
pub fn calibrate(plan: &Plan, step: Duration, say: impl Fn(&str)) -> Result<Calibration, LoadError> {
    let calibrator = Calibrator { plan: one_thread(plan, step), say: &say };
    say("the generator over a loop that only moves bytes");
    let overhead: Result<Vec<_>, _> =
        OVERHEAD_PIPELINES.iter().map(|&pipeline| calibrator.overhead(pipeline)).collect();
    let overhead = overhead?;
    say("how punctual it is for a message a millisecond");
    let precision = calibrator.open_loop(PRECISION_RATE_PER_S, step * 2)?.latency.lag;
    let (steps, rate_max_per_s) = calibrator.search()?;
    let at_half = match rate_max_per_s {
        Some(rate_per_s) => {
            say("the null server at half of that rate");
            let result = calibrator.open_loop(rate_per_s / 2.0, step * 3)?;
            let cpu_share = result.cpu.load_cpu_s / result.summary.measured_s;
            Some(AtHalf { cpu_share, response: result.latency.response, lag: result.latency.lag })
        }
        None => None,
    };
    Ok(Calibration {
        schema: SCHEMA.to_owned(),
        created: result::utc_now(),
        tool: Tool::this("ringsock-load"),
        environment: Environment::capture(),
        generator: generator(plan),
        overhead,
        precision,
        steps,
        lag_bound_ns: lag_bound_ns(plan.spin),
        rate_max_per_s,
        at_half,
    })
}

/// What decides how fast the generator of `plan` is.
pub(super) fn generator(plan: &Plan) -> Generator {
    let first = |cpus: &[usize]| cpus.first().copied().unwrap_or(0) as u64;
    Generator {
        engine: plan.engine.kind.name().to_owned(),
        engine_features: plan.engine.features.clone(),
        spin: plan.spin,
        connections: plan.connections.into(),
        payload_bytes: plan.payload_bytes as u64,
        text: plan.text,
        cpus: [first(&plan.cpus), first(&plan.server_cpus)],
    }
}

/// One generator thread of `plan` against a null server of ours.
fn one_thread(plan: &Plan, step: Duration) -> Plan {
    let mut plan = plan.clone();
    plan.endpoint = None;
    plan.bare_server = true;
    plan.server_pid = None;
    plan.cpus.truncate(1);
    plan.server_cpus.truncate(1);
    (plan.warmup, plan.duration) = (step / 4, step);
    plan.exemplars = 0;
    plan
}

struct Calibrator<'a> {
    plan: Plan,
    say: &'a dyn Fn(&str),
}

impl Calibrator<'_> {
    fn run(&self, mode: Mode, duration: Duration) -> Result<RunResult, LoadError> {
        let plan = Plan { mode, duration, ..self.plan.clone() };
        Run::new(plan).execute(Vec::new(), Verbosity::Quiet)
    }

    fn open_loop(&self, rate_per_s: f64, duration: Duration) -> Result<RunResult, LoadError> {
        self.run(Mode::OpenLoop { rate_per_s, arrivals: Arrivals::Poisson }, duration)
    }

    /// A B B A …: what drifts slowly strikes both alike. Neither spins: that would count idling as work.
    fn overhead(&self, pipeline: u64) -> Result<Overhead, LoadError> {
        let plan = Plan { spin: false, duration: self.plan.duration / 2, ..self.plan.clone() };
        let of_generator = || {
            let plan = Plan { mode: Mode::ClosedLoop { pipeline }, ..plan.clone() };
            let result = Run::new(plan).execute(Vec::new(), Verbosity::Quiet)?;
            Ok::<_, LoadError>(result.cpu.load_ns_per_message(&result.accounting).unwrap_or(f64::NAN))
        };
        let mut rounds = Vec::new();
        let (mut generator_ns, mut loop_ns) = (Vec::new(), Vec::new());
        for round in 0..OVERHEAD_ROUNDS {
            let (of_generator_ns, of_loop_ns) = if round % 2 == 0 {
                let of_generator_ns = of_generator()?;
                (of_generator_ns, pump::cpu_ns_per_message(&plan, pipeline)?)
            } else {
                let of_loop_ns = pump::cpu_ns_per_message(&plan, pipeline)?;
                (of_generator()?, of_loop_ns)
            };
            generator_ns.push(of_generator_ns);
            loop_ns.push(of_loop_ns);
            rounds.push(of_generator_ns / of_loop_ns);
        }
        let ratio = median(rounds.clone());
        (self.say)(&format!("  {ratio:.3} of its CPU time a message with {pipeline} in flight"));
        Ok(Overhead { pipeline, generator_ns: median(generator_ns), loop_ns: median(loop_ns), ratio, rounds })
    }

    /// Doubles the rate until the lag leaves its bound, then bisects.
    fn search(&self) -> Result<(Vec<Step>, Option<f64>), LoadError> {
        let mut steps = Vec::new();
        let (mut passed, mut failed): (Option<f64>, Option<f64>) = (None, None);
        let mut rate_per_s = RATE_FIRST_PER_S;
        loop {
            match self.keeps_up(rate_per_s, &mut steps)? {
                true => passed = Some(rate_per_s),
                false => failed = Some(rate_per_s),
            }
            rate_per_s = match (passed, failed) {
                (None, Some(failed)) if failed <= PRECISION_RATE_PER_S => return Ok((steps, None)),
                (None, _) => rate_per_s / 4.0,
                (Some(passed), None) => passed * 2.0,
                (Some(passed), Some(failed)) if failed / passed <= RATE_WITHIN => {
                    return Ok((steps, Some(passed)));
                }
                (Some(passed), Some(failed)) => (passed * failed).sqrt(),
            };
        }
    }

    fn keeps_up(&self, rate_per_s: f64, steps: &mut Vec<Step>) -> Result<bool, LoadError> {
        let (mut passes, mut failures) = (0, 0);
        while passes < MAJORITY && failures < MAJORITY {
            let result = self.open_loop(rate_per_s, self.plan.duration)?;
            let achieved_per_s = result.summary.rate_achieved_per_s;
            let lag_p99_ns = percentile_ns(&result.latency.lag, 0.99);
            let passed = Pace::of(&result).is_kept()
                && lag_p99_ns.is_some_and(|lag_ns| lag_ns <= lag_bound_ns(self.plan.spin));
            let lag = text::percentile(lag_p99_ns, Clock::Real);
            let verdict = if passed { "kept up" } else { "did not" };
            (self.say)(&format!("{} asked for, p99 of lag {lag}: {verdict}", text::rate(rate_per_s)));
            steps.push(Step { rate_per_s, achieved_per_s, lag_p99_ns, passed });
            if passed {
                passes += 1;
            } else {
                failures += 1;
            }
        }
        Ok(passes == MAJORITY)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
