//! `--autobahn`: the Autobahn|Testsuite's fuzzing server against our client, which echoes in each of its cases.
//!
//! The suite's own protocol: `/getCaseCount` sends the number of cases, `/runCase?case=N&agent=A` is a case,
//! `/updateReports?agent=A` has the reports written. They say what passed; here is only told which cases could not be
//! held at all. `bench-scripts/autobahn` starts the suite, and judges.
//!
//! Invariant: each case is tried, whatever came of the one before.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{LoadError, OptionsError, Plan, crew};
use crate::engine::{Config, Waker};
use crate::limits;
use crate::scenario::echo_client::{EchoClient, Host, Limits, Visit, Visited};

/// How long a case may take. The suite gives up on the longest, a thousand messages of 128 KiB, after 480 s.
const CASE: Duration = Duration::from_secs(500);
/// How long the suite may take to close, once both ends said so.
const CLOSE: Duration = Duration::from_secs(5);
/// One case at a time, and room for those that are closed while the next is opened: an engine may have a table for all
/// that it is given.
const CONNECTIONS_MAX: u32 = 8;
/// More than any version of the suite has.
const CASES_MAX: u64 = 10_000;

/// What came of the cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Cases that the suite has.
    pub cases: u64,
    /// What could not be held, and why.
    pub failures: Vec<String>,
}

enum Step {
    Count,
    Case(u64),
    Report,
}

/// What is visited, in order.
struct Course {
    agent: String,
    step: Option<Step>,
    tried: Tried,
}

impl Course {
    fn new(agent: &str) -> Self {
        Self { agent: agent.to_owned(), step: None, tried: Tried::default() }
    }

    fn on_visited(&mut self, visited: Option<Visited>) -> Option<Visit> {
        let before = self.step.take();
        let failure = visited.as_ref().and_then(|visited| visited.failure.clone());
        let next = match (before, visited) {
            (Some(Step::Count), Some(visited)) => match count_of(&visited) {
                Ok(cases) => {
                    self.tried.cases = cases;
                    Some(Step::Case(1))
                }
                Err(why) => {
                    self.tried.failures.push(format!("getCaseCount: {why}"));
                    None
                }
            },
            (Some(Step::Case(number)), _) => {
                self.tried.failures.extend(failure.map(|why| format!("case {number}: {why}")));
                Some(Step::Case(number + 1))
            }
            (Some(Step::Report), _) => {
                self.tried.failures.extend(failure.map(|why| format!("updateReports: {why}")));
                None
            }
            (None, _) | (_, None) => Some(Step::Count),
        };
        self.step = match next {
            Some(Step::Case(number)) if number > self.tried.cases => Some(Step::Report),
            next => next,
        };
        let agent = &self.agent;
        Some(match self.step.as_ref()? {
            Step::Count => Visit { target: "/getCaseCount".to_owned(), echoes: false },
            Step::Case(number) => {
                Visit { target: format!("/runCase?case={number}&agent={agent}"), echoes: true }
            }
            Step::Report => Visit { target: format!("/updateReports?agent={agent}"), echoes: false },
        })
    }
}

fn count_of(visited: &Visited) -> Result<u64, String> {
    if let Some(failure) = &visited.failure {
        return Err(failure.clone());
    }
    let text = String::from_utf8_lossy(&visited.message);
    let count = text.trim().parse().ok().filter(|count| (1..=CASES_MAX).contains(count));
    count.ok_or_else(|| format!("{text:?} is no number of cases: is this the suite's fuzzing server?"))
}

/// Whether `plan` has a URL that [`hold`] can go to.
///
/// # Errors
/// It has not.
pub fn check(plan: &Plan) -> Result<(), OptionsError> {
    match &plan.endpoint {
        Some(endpoint) if endpoint.bare => Err(OptionsError::Url {
            url: endpoint.url.clone(),
            rule: "--autobahn speaks WebSocket: write ws://host:port/, or wss:// for TLS",
        }),
        _ => Ok(()),
    }
}

/// Holds all cases of the fuzzing server at `plan`'s URL, over `plan`'s engine, secured and compressed as it says.
///
/// # Errors
/// The engine cannot run.
///
/// # Panics
/// Where `plan` has no URL.
pub fn hold(plan: &Plan, agent: &str) -> Result<Tried, LoadError> {
    let endpoint = plan.endpoint.as_ref().expect("the flag needs a URL");
    let host = Host {
        address: endpoint.address,
        name: endpoint.host.clone(),
        port: endpoint.port,
        tls: endpoint.tls,
    };
    let times = Limits {
        opening_ns: plan.connect_timeout.as_nanos() as u64,
        visit_ns: CASE.as_nanos() as u64,
        close_ns: CLOSE.as_nanos() as u64,
    };
    let course = Arc::new(Mutex::new(Course::new(agent)));
    let next = {
        let course = Arc::clone(&course);
        move |visited| course.lock().expect("its one thread does not panic").on_visited(visited)
    };
    let mut client = EchoClient::new(host, times, fastrand::Rng::with_seed(plan.seed), next);
    if let Some(settings) = plan.deflate {
        client = client.deflating(settings, limits::OUTBOX_BYTES);
    }
    let overhead_bytes = plan.tls.as_ref().map_or(0, |_| limits::TLS_OVERHEAD_BYTES);
    let config = Config {
        connections_max: CONNECTIONS_MAX,
        recv_buffer_bytes: limits::RECV_BUFFER_BYTES + overhead_bytes,
        uring: plan.engine.uring.clone(),
        ..Config::default()
    };
    let waker = Waker::new().map_err(LoadError::Thread)?;
    crew::run(&plan.engine, config, &waker, plan.tls.clone(), times.opening_ns, client)?;
    let course = course.lock().expect("its one thread does not panic");
    Ok(course.tried.clone())
}

/// A name that can stand in a URL as it is.
///
/// # Errors
/// It is empty, or has other characters.
pub(super) fn parse_agent(text: &str) -> Result<String, String> {
    let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    match !text.is_empty() && text.bytes().all(may_stand) {
        true => Ok(text.to_owned()),
        false => Err("letters, digits, - . _ and ~".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visited(message: &str, failure: Option<&str>) -> Option<Visited> {
        Some(Visited { message: message.as_bytes().to_vec(), failure: failure.map(str::to_owned) })
    }

    #[test]
    fn every_case_is_tried_whatever_came_of_the_one_before() {
        let mut course = Course::new("us");
        let mut targets = Vec::new();
        let mut before = None;
        while let Some(visit) = course.on_visited(before.take()) {
            before = match visit.target.as_str() {
                "/getCaseCount" => visited("3", None),
                "/runCase?case=2&agent=us" => visited("", Some("connect: refused")),
                _ => visited("", None),
            };
            targets.push((visit.target, visit.echoes));
        }
        let expected = [
            ("/getCaseCount", false),
            ("/runCase?case=1&agent=us", true),
            ("/runCase?case=2&agent=us", true),
            ("/runCase?case=3&agent=us", true),
            ("/updateReports?agent=us", false),
        ];
        assert_eq!(targets, expected.map(|(target, echoes)| (target.to_owned(), echoes)));
        let failures = vec!["case 2: connect: refused".to_owned()];
        assert_eq!(course.tried, Tried { cases: 3, failures });
    }

    #[test]
    fn without_a_number_of_cases_nothing_is_tried() {
        for (message, failure) in [("", None), ("0", None), ("99999", None), ("x", None), ("3", Some("gone"))]
        {
            let mut course = Course::new("us");
            assert!(course.on_visited(None).is_some());
            assert_eq!(course.on_visited(visited(message, failure)), None, "{message:?}, {failure:?}");
            assert!(course.tried.failures[0].starts_with("getCaseCount: "), "{:?}", course.tried);
        }
    }

    #[test]
    fn an_agent_can_stand_in_a_url() {
        assert_eq!(parse_agent("ringsock-uring_1.0~x").as_deref(), Ok("ringsock-uring_1.0~x"));
        for wrong in ["", "a b", "a&case=1", "ä", "a/b"] {
            assert!(parse_agent(wrong).is_err(), "{wrong:?}");
        }
    }
}
