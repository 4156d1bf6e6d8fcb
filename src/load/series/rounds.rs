//! Repeated runs of one or several contenders, compared.
//!
//! Invariants: the number of runs and their order are fixed before the first; all contenders of a round have the same seed,
//! so the same arrivals. Each second round goes backwards, so that over two of them every contender stands at the same
//! place on average, and a machine that drifts steadily does not favour any.
//! Deliberately absent: stopping early because the answer looks clear. It would find differences that are not there.

use std::path::Path;
use std::time::Duration;

use super::{Controller, End, Left, Planned, Request, SeriesError, Setup, Step, went_well};
use crate::load::SeriesFlags;
use crate::load::config;
use crate::measure::environment::Clock;
use crate::measure::finding::{self, Finding};
use crate::measure::rounds::{Contender, Figures};
use crate::measure::verdict::Level;
use crate::report::Style;
use crate::report::series::{self as report, Comparison};

/// Runs of a series at most: the seed of a round is counted up from the first.
const RUNS_MAX: u64 = 100_000;
/// A contender whose first runs failed, as many of them, is given up, and the series with it.
const FAILURES_MAX: usize = 3;

/// See the module's text.
pub(super) struct Rounds {
    setups: Vec<Setup>,
    contenders: Vec<Contender>,
    /// Contender and round of each run.
    order: Vec<(usize, u64)>,
    next: usize,
    seed: u64,
    interleaved: bool,
    given_up: Option<String>,
    went_wrong: bool,
}

impl Rounds {
    pub(super) fn new(request: &Request<'_>) -> Result<Rounds, SeriesError> {
        let flags = request.flags;
        if !(1..=RUNS_MAX).contains(&flags.runs) {
            return Err(SeriesError::Flags(format!("--runs {}: has to be 1 to {RUNS_MAX}", flags.runs)));
        }
        let named = contenders_of(request)?;
        let (seed, count) = (request.options.seed, named.len());
        let interleaved = count > 1 && !flags.no_interleave;
        let order = if interleaved {
            interleaved_order(count, flags.runs, seed)
        } else {
            (0..count).flat_map(|contender| (0..flags.runs).map(move |round| (contender, round))).collect()
        };
        let (labels, setups): (Vec<_>, Vec<Setup>) = named.into_iter().unzip();
        if setups.windows(2).any(|pair| pair[0].options.clock != pair[1].options.clock) {
            let cause =
                "--contender: --clock is of the machine, and so of all contenders: give it once, outside"
                    .to_owned();
            return Err(SeriesError::Flags(cause));
        }
        let contenders =
            labels.into_iter().map(|label| Contender { label, ..Contender::default() }).collect();
        Ok(Rounds {
            setups,
            contenders,
            order,
            next: 0,
            seed,
            interleaved,
            given_up: None,
            went_wrong: false,
        })
    }

    /// Gives the series up if a contender only ever fails.
    fn consider_giving_up(&mut self, index: usize) {
        let planned = self.order.iter().filter(|&&(contender, _)| contender == index).count();
        let Contender { label, runs, failed } = &self.contenders[index];
        if runs.is_empty() && failed.len() >= planned.min(FAILURES_MAX) {
            let last = failed.last().map(|(_, why)| why.as_str()).unwrap_or_default();
            self.given_up = Some(format!("all {} runs of {label} failed, at last: {last}", failed.len()));
        }
    }
}

impl Controller for Rounds {
    fn next_step(&mut self) -> Result<Option<Step>, SeriesError> {
        let Some(&(index, round)) = self.order.get(self.next).filter(|_| self.given_up.is_none()) else {
            return Ok(None);
        };
        let setup = self.setups[index].with([("seed", self.seed.wrapping_add(round).into())])?;
        let planned = Planned { label: self.contenders[index].label.clone(), round };
        Ok(Some(Step { planned, setup }))
    }

    fn on_end(&mut self, step: &Step, end: &End) {
        let (index, round) = self.order[self.next];
        debug_assert_eq!(step.planned.label, self.contenders[index].label);
        self.next += 1;
        match end {
            End::Measured(result) => {
                self.went_wrong |= !went_well(result);
                self.contenders[index].runs.push(Figures::of(result, round));
            }
            End::Failed(why) => {
                self.went_wrong = true;
                self.contenders[index].failed.push((round, why.clone()));
                self.consider_giving_up(index);
            }
        }
    }

    fn left(&self) -> Left {
        let rest = &self.order[self.next..];
        let time = rest.iter().map(|&(index, _)| self.setups[index].time()).sum::<Duration>();
        Left { runs: rest.len() as u64, is_guess: false, time }
    }

    fn finding(&self) -> Finding {
        let failed = self.contenders.iter().map(|contender| contender.failed.len() as u64).sum();
        let given_up = self.given_up.clone();
        Finding::Rounds(finding::Rounds { runs: self.next as u64, failed, given_up })
    }

    fn report(&self, folder: &Path, style: Style) -> String {
        let comparison = Comparison {
            contenders: &self.contenders,
            planned: self.order.len(),
            interleaved: self.interleaved,
            clock: self.setups.first().map_or(Clock::Real, |setup| setup.options.clock.into()),
            seed: self.seed,
            given_up: self.given_up.as_deref(),
        };
        report::render_comparison(&comparison, folder, style)
    }

    fn is_trusted(&self) -> bool {
        let mut runs = self.contenders.iter().flat_map(|contender| &contender.runs);
        runs.all(|run| run.level == Some(Level::Trusted))
    }

    fn is_success(&self) -> bool {
        self.next == self.order.len() && !self.went_wrong && self.given_up.is_none()
    }

    fn contenders(&self) -> Vec<(String, Setup)> {
        let labels = self.contenders.iter().map(|contender| contender.label.clone());
        labels.zip(self.setups.iter().cloned()).collect()
    }

    fn order(&self) -> Vec<Planned> {
        let planned =
            |&(index, round): &(usize, u64)| Planned { label: self.contenders[index].label.clone(), round };
        self.order.iter().map(planned).collect()
    }
}

/// Rounds in pairs: one in an order that is drawn, the next the same backwards.
fn interleaved_order(contenders: usize, rounds: u64, seed: u64) -> Vec<(usize, u64)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut order = Vec::new();
    let mut places: Vec<usize> = (0..contenders).collect();
    for round in 0..rounds {
        if round % 2 == 0 {
            random.shuffle(&mut places);
        } else {
            places.reverse();
        }
        order.extend(places.iter().map(|&contender| (contender, round)));
    }
    order
}

/// What is compared: every URL with every contender's flags.
fn contenders_of(request: &Request<'_>) -> Result<Vec<(String, Setup)>, SeriesError> {
    let SeriesFlags { contender: flags, .. } = request.flags;
    let urls = &request.options.url;
    if flags.len() == 1 && urls.len() < 2 {
        let cause = "is compared with nothing: give --contender again, \"\" for the common flags as they are";
        return Err(SeriesError::Contender { label: flags[0].clone(), cause: cause.to_owned() });
    }
    if urls.len() > 1 && request.options.server_pid.is_some() {
        let mend = "give each server's with its URL: --contender \"ws://… --server-pid …\"";
        return Err(SeriesError::Flags(format!(
            "--server-pid is that of one server, and there are several: {mend}"
        )));
    }
    let common = request.run_config()?;
    let no_flags = [String::new()];
    let flags = if flags.is_empty() { &no_flags[..] } else { flags };
    let mut all: Vec<(String, Setup)> = Vec::new();
    for url in urls.iter().map(Some).chain(urls.is_empty().then_some(None)) {
        let mut below = common.clone();
        below.extend(url.map(|url| ("url".to_owned(), vec![url.clone()].into())));
        for flags in flags {
            let setup = contender(&below, flags, urls.len() > 1)?;
            let parts = [url.filter(|_| urls.len() > 1).map(String::as_str), Some(flags.trim())];
            let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
            let label = if parts.is_empty() { "the common flags".to_owned() } else { parts.join(" ") };
            let same = all
                .iter()
                .filter(|(other, _)| *other == label || other.starts_with(&format!("{label} #")))
                .count();
            all.push((if same > 0 { format!("{label} #{}", same + 1) } else { label }, setup));
        }
    }
    Ok(all)
}

fn contender(below: &config::Values, flags: &str, url_is_given: bool) -> Result<Setup, SeriesError> {
    let refuse = |cause: String| SeriesError::Contender { label: flags.to_owned(), cause };
    let words = words(flags).map_err(&refuse)?;
    let first_line = |error: &dyn ToString| {
        let text = error.to_string();
        text.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned()
    };
    let above = config::typed(&Setup::command(), &words).map_err(|error| refuse(first_line(&error)))?;
    if url_is_given && above.contains_key("url") {
        return Err(refuse("names a URL, and so do the common flags: leave one of the two out".to_owned()));
    }
    let command = Setup::command();
    let for_all = command
        .get_arguments()
        .find(|arg| !config::is_of_a_run(arg) && above.contains_key(&config::key_of(arg)));
    if let Some(arg) = for_all {
        return Err(refuse(format!("--{} is the same for all runs: give it outside", config::key_of(arg))));
    }
    Setup::over(below, &above).map_err(|error| refuse(first_line(&error)))
}

/// Words as a shell has them: apart by spaces, held together by quotes of either kind.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = Vec::new();
    let (mut quote, mut in_word) = (None, false);
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                if !in_word {
                    words.push(String::new());
                }
                in_word = true;
            }
            None if c.is_whitespace() => in_word = false,
            _ => {
                if !in_word {
                    words.push(String::new());
                }
                in_word = true;
                words.last_mut().expect("a word was begun").push(c);
            }
        }
    }
    match quote {
        Some(open) => Err(format!("a {open} is not closed")),
        None => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let split = |text| words(text).unwrap();
        assert_eq!(split("  --a  b='c d'\t\"e 'f\" ''"), ["--a", "b=c d", "e 'f", ""]);
        assert!(split("").is_empty());
        assert_eq!(words("a \"b"), Err("a \" is not closed".to_owned()));
    }

    #[test]
    fn over_two_rounds_every_contender_stands_at_the_same_place_on_average() {
        for contenders in [2, 3, 5] {
            let order = interleaved_order(contenders, 6, 1);
            assert_eq!(order.len(), 6 * contenders);
            for pair in order.chunks(2 * contenders) {
                let sums: Vec<usize> = (0..contenders)
                    .map(|contender| {
                        let places = pair.iter().enumerate().filter(|(_, run)| run.0 == contender);
                        places.map(|(place, _)| place).sum()
                    })
                    .collect();
                assert!(sums.iter().all(|&sum| sum == 2 * contenders - 1), "{pair:?}");
            }
            assert_eq!(order, interleaved_order(contenders, 6, 1), "a seed fixes the order");
        }
        let firsts: Vec<usize> = (0..40).map(|seed| interleaved_order(2, 1, seed)[0].0).collect();
        let a_first = firsts.iter().filter(|&&first| first == 0).count();
        assert!((5..=35).contains(&a_first), "A first in {a_first} of 40");
    }
}
