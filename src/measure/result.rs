//! The schema: what one run's result file holds.
//!
//! Invariant: `schema` is the first field, so a reader can tell the version before it understands the rest.
//! Within a version fields are only added, and readers ignore those they don't know; whatever changes or takes
//! away a meaning makes a new version. Histograms are whole; the summary is derived from them.
//! Deliberately absent: files (see [`super::store`]) and judgement.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, Serializer};

use super::anatomy::Anatomy;
use super::environment::Environment;
use super::evidence::{Evidence, Exemplar};
use super::histogram::{self, Histogram, new_histogram};
use super::particulars::Particulars;
use super::samples::{Estimate, Inflation};
use super::series::Batch;
use super::server_stats::ServerStats;
use super::steadiness::Pace;
use super::units::size;
use super::verdict::Verdict;
pub use super::wire::{Carried, Deflate, KernelTls, Negotiated, Tls, Wire};

/// What [`RunResult::schema`] begins with; the version follows.
pub const SCHEMA_NAME: &str = "ringsock-result/";
/// The version this program writes, and the only one it reads.
pub const SCHEMA_VERSION: u64 = 1;
/// What [`RunResult::schema`] holds: name and version.
pub const SCHEMA: &str = "ringsock-result/1";

/// Everything about one run: what was asked, where, of whom, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Always [`SCHEMA`], and always the first field of the file.
    pub schema: String,
    /// When the result was made: RFC 3339, UTC, whole seconds. See [`utc_now`].
    pub created: String,
    /// What made it.
    pub tool: Tool,
    /// The command as typed, program name first.
    pub command_line: Vec<String>,
    /// Whether its numbers may be trusted, and why (not); `None` in files older than this field.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// Every flag in effect, by its long name without the dashes, as a config file would have it; `None` in files older than
    /// this field.
    #[serde(default)]
    pub config: Option<BTreeMap<String, serde_json::Value>>,
    /// The series of runs that this one is a part of.
    #[serde(default)]
    pub series: Option<SeriesPart>,
    /// The calibration of the generator that the verdict rests on.
    #[serde(default)]
    pub calibration: Option<CalibrationCited>,
    /// What the run was asked to do.
    pub plan: Plan,
    /// The machine that the load came from.
    pub environment: Environment,
    /// What that machine's io_uring could do; `None` in files older than this field.
    #[serde(default)]
    pub io_uring: Option<IoUring>,
    /// What the load went to, and how.
    pub target: Target,
    /// How the run ended.
    pub outcome: Outcome,
    /// What became of every message.
    pub accounting: Accounting,
    /// Every duration measured.
    pub latency: Latencies,
    /// The measured window in consecutive pieces; in the file, one line each.
    #[serde(serialize_with = "one_line_each")]
    pub intervals: Vec<Interval>,
    /// The measured window in batches, each with its histogram; in the file, one line each.
    #[serde(default, serialize_with = "one_line_each")]
    pub batches: Vec<Batch>,
    /// Processor time over the measured window.
    pub cpu: CpuUse,
    /// What the verdict was made from; `None` in files older than this field.
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// Where response times go, if the server stamped its answers.
    #[serde(default)]
    pub anatomy: Option<Anatomy>,
    /// What the scenario measured beside.
    #[serde(default, skip_serializing_if = "Particulars::is_empty")]
    pub particulars: Particulars,
    /// The worst messages, worst first; in the file, one line each.
    #[serde(default, serialize_with = "one_line_each")]
    pub exemplars: Vec<Exemplar>,
    /// What the server counted, before and after; `None` where it does not tell.
    #[serde(default)]
    pub server_stats: Option<ServerStats>,
    /// The headline numbers, derived from all of the above, for people and `jq`.
    pub summary: Summary,
}

impl RunResult {
    /// The durations that the run is about: response times in an open loop, service times in a closed one.
    pub fn headline(&self) -> &Histogram {
        match self.plan.mode {
            Mode::OpenLoop { .. } => &self.latency.response,
            Mode::ClosedLoop { .. } => &self.latency.service,
        }
    }
}

/// A run has many intervals; a field a line would bury the rest of the file under them.
fn one_line_each<T: Serialize, S: Serializer>(items: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let line = |item| serde_json::value::to_raw_value(item).expect("an item is plain data");
    serializer.collect_seq(items.iter().map(line))
}

/// Which part of which series of runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesPart {
    /// The series' name: that of its folder.
    pub name: String,
    /// What is compared with others in it, as `--server-engine epoll`, or the step of a search or curve.
    pub label: String,
    /// The repetition, from 0.
    pub round: u64,
}

/// What a calibration of the generator found on this machine, in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationCited {
    /// The calibration's file.
    pub path: String,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// The highest rate of one generator thread at which its lag kept within its bound, in messages a second.
    pub rate_max_per_s: f64,
    /// The 99th percentile of its lag at half of that rate, in nanoseconds.
    pub lag_p99_ns: u64,
    /// The median response time of the null server at half of that rate, in nanoseconds: at that rate nothing can be faster here. 0
    /// where no rate was kept.
    pub floor_p50_ns: u64,
}

/// The program that made a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// The binary, such as `ringsock-load`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The git revision it was built from, with `-dirty` if changed since; `None` if not from a checkout.
    pub revision: Option<String>,
}

impl Tool {
    /// This build of ringsock, playing the binary called `name`.
    pub fn this(name: &str) -> Tool {
        Tool {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: option_env!("RINGSOCK_REVISION").map(str::to_owned),
        }
    }
}

/// What a run was asked to do: enough to run it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What is said between client and server, such as `echo`.
    pub scenario: String,
    /// The server's URL as asked for; `None` where the run starts a server of its own.
    pub url: Option<String>,
    /// How many connections carry the load.
    pub connections: u64,
    /// How many threads drive them.
    pub threads: u64,
    /// What is particular to the scenario: its flags, by long name without the dashes, with what was given or taken. `fan-out` is none
    /// of them: to how many a message goes, on average, where that is not one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The size of each message; of the largest, where they vary (see `parameters`).
    pub payload_bytes: u64,
    /// Text messages rather than binary ones.
    pub text: bool,
    /// What messages are filled with, such as `json`; `None`: random bytes, which don't compress.
    #[serde(default)]
    pub filling: Option<String>,
    /// The measured window.
    pub duration_s: f64,
    /// Load before the window, sent but not measured.
    pub warmup_s: f64,
    /// How long after the window to wait for answers still missing.
    pub drain_timeout_s: f64,
    /// How fast connections are opened; `None` for as fast as they can be.
    pub connect_rate_per_s: Option<f64>,
    /// When messages are sent.
    pub mode: Mode,
    /// What every random choice follows from: arrivals, payloads, masking keys.
    pub seed: u64,
}

impl Plan {
    /// The size of messages, or how it is drawn: `64 B`, `uniform:1..100`.
    pub fn payload(&self) -> String {
        self.parameters.get("payload").cloned().unwrap_or_else(|| size(self.payload_bytes))
    }

    /// How many answers a message is to have, on average: the books count these, rates that are asked for do not.
    pub fn answers_per_message(&self) -> f64 {
        let fan_out = self.parameters.get("fan-out").and_then(|fan_out| fan_out.parse().ok());
        fan_out.filter(|fan_out: &f64| fan_out.is_finite() && *fan_out > 0.0).unwrap_or(1.0)
    }

    /// What else is particular to the scenario, as `burst 1000, every 1s`; empty where nothing is.
    pub fn particulars(&self) -> String {
        let others = self.parameters.iter().filter(|(flag, _)| *flag != "payload");
        others.map(|(flag, value)| format!("{flag} {value}")).collect::<Vec<_>>().join(", ")
    }

    /// The scenario with what is particular to it: `echo`, `burst (burst 1000, every 1s)`.
    pub fn scenario_in_full(&self) -> String {
        match self.particulars() {
            none if none.is_empty() => self.scenario.clone(),
            some => format!("{} ({some})", self.scenario),
        }
    }
}

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mode {
    /// On a schedule fixed in advance, whatever the answers do. The mode for latency.
    OpenLoop {
        /// Messages over all connections.
        rate_per_s: f64,
        /// The gaps between them.
        arrivals: Arrivals,
    },
    /// On each connection, as soon as an answer makes room. The mode for peak throughput.
    ClosedLoop {
        /// Messages in flight per connection.
        pipeline: u64,
    },
}

/// The gaps of an open loop's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// All gaps equal.
    Fixed,
    /// Gaps exponentially distributed, as of many independent senders.
    Poisson,
    /// Many at one instant, every so often: see `burst` and `every` of the parameters.
    Burst,
}

/// What the kernel's io_uring could do, found out by trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoUring {
    /// Why it could not be used at all.
    pub refusal: Option<String>,
    /// Whether a feature was there, by its name, as `multishot-recv`; in the file, all on one line.
    #[serde(serialize_with = "on_one_line")]
    pub features: BTreeMap<String, bool>,
}

/// A kernel has dozens of features.
fn on_one_line<S: Serializer>(features: &BTreeMap<String, bool>, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::value::to_raw_value(features).expect("names are plain data").serialize(serializer)
}

/// What the load went to, and how it was driven.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The URL that was connected to.
    pub url: String,
    /// What served it, where that is known, such as `embedded ringsock 0.1.0`.
    pub server: Option<String>,
    /// The I/O engine that drove the load, such as `uring`.
    pub engine: String,
    /// What of the kernel's offer the engine used, such as `multishot recv`.
    pub engine_features: Vec<String>,
    /// Why the engine asked for was not this one, where another had been liked better.
    #[serde(default)]
    pub engine_reason: Option<String>,
    /// The server's I/O engine, where it is known: that of a server of the run's own.
    #[serde(default)]
    pub server_engine: Option<String>,
    /// What of the kernel's offer that engine used.
    #[serde(default)]
    pub server_engine_features: Option<Vec<String>>,
    /// CPUs the server was pinned to, as in `0,2-3`; `None` if not pinned or not known.
    pub server_cpus: Option<String>,
    /// CPUs the load was pinned to; `None` if not pinned.
    pub load_cpus: Option<String>,
    /// The compression that was agreed on; `None`: messages went as they are.
    #[serde(default)]
    pub deflate: Option<Deflate>,
    /// The subprotocol that was chosen; `None`: none was offered.
    #[serde(default)]
    pub subprotocol: Option<String>,
    /// How connections were secured; `None` where they were not.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// In a word.
    pub status: Status,
    /// In a sentence, where there is more to say.
    pub reason: Option<String>,
}

impl Outcome {
    /// The whole measured window ran.
    pub fn completed() -> Outcome {
        Outcome { status: Status::Completed, reason: None }
    }
}

/// How a run ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The whole measured window ran.
    Completed,
    /// Somebody ended it early; what was measured until then stands.
    Interrupted,
    /// The server stopped answering or closed every connection.
    ServerDied,
    /// Something else broke; `reason` says what.
    Failed,
}

/// What became of every message of the measured window, in messages; and of every connection.
///
/// A message belongs to the window if its *intended* send lies in it. In a closed loop a message is intended
/// when it is sent, so `offered == sent`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// Intended in the measured window.
    pub offered: u64,
    /// Of those, given to the engine to send.
    pub sent: u64,
    /// Of those, never sent: the connection was gone, or the run ended first.
    pub unsent: u64,
    /// Of `sent`, answered by the end of the drain, rightly or (see `errors`) wrongly.
    pub answered: u64,
    /// Of `sent`, unanswered when the drain ended or lost with their connection.
    pub outstanding: u64,
    /// Of `answered`, answered after the window, during the drain.
    pub answered_late: u64,
    /// Sent before the window; in none of the other counts.
    pub warmup_messages: u64,
    /// Connections whose handshake succeeded.
    pub connections_opened: u64,
    /// Connections that never came so far.
    pub connections_failed: u64,
    /// Whatever went wrong, counted by class, such as `connect: refused`, `wrong payload`, `out of order`.
    pub errors: BTreeMap<String, u64>,
}

/// A message fell through the books: the named sum doesn't come out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{equation} does not hold: {left} against {right} messages")]
pub struct AccountingError {
    /// The rule, such as `offered = sent + unsent`.
    pub equation: &'static str,
    /// Its left side, in messages.
    pub left: u64,
    /// Its right side, in messages.
    pub right: u64,
}

impl Accounting {
    /// Whether every message is somewhere, and nowhere twice.
    pub fn check(&self) -> Result<(), AccountingError> {
        let sent_or_not = self.sent.saturating_add(self.unsent);
        let answered_or_not = self.answered.saturating_add(self.outstanding);
        let rules = [
            ("offered = sent + unsent", self.offered, sent_or_not, self.offered == sent_or_not),
            ("sent = answered + outstanding", self.sent, answered_or_not, self.sent == answered_or_not),
            (
                "answered_late <= answered",
                self.answered_late,
                self.answered,
                self.answered_late <= self.answered,
            ),
        ];
        match rules.into_iter().find(|&(_, _, _, holds)| !holds) {
            Some((equation, left, right, _)) => Err(AccountingError { equation, left, right }),
            None => Ok(()),
        }
    }

    /// Counts one error of `class`.
    pub fn count_error(&mut self, class: &str) {
        match self.errors.get_mut(class) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(class.to_owned(), 1)),
        }
    }

    /// All errors of all classes.
    pub fn error_count(&self) -> u64 {
        self.errors.values().fold(0, |total, &count| total.saturating_add(count))
    }

    /// Adds another thread's books to these.
    pub fn merge(&mut self, other: &Accounting) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.answered += other.answered;
        self.outstanding += other.outstanding;
        self.answered_late += other.answered_late;
        self.warmup_messages += other.warmup_messages;
        self.connections_opened += other.connections_opened;
        self.connections_failed += other.connections_failed;
        for (class, count) in &other.errors {
            *self.errors.entry(class.clone()).or_default() += count;
        }
    }
}

/// Every duration measured, each in a histogram of nanoseconds; in the file, each one base64 string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// From the intended send to the answer: what a user waits.
    #[serde(with = "histogram::base64")]
    pub response: Histogram,
    /// From the actual send to the answer: what the server takes.
    #[serde(with = "histogram::base64")]
    pub service: Histogram,
    /// From the intended to the actual send: what the generator itself adds.
    #[serde(with = "histogram::base64")]
    pub lag: Histogram,
    /// From asking for a TCP connection to having it.
    #[serde(with = "histogram::base64")]
    pub connect: Histogram,
    /// From having it, or from the end of the TLS handshake, to the end of the WebSocket handshake.
    #[serde(with = "histogram::base64")]
    pub handshake: Histogram,
    /// From having the TCP connection to the end of the TLS handshake; `None` without TLS.
    #[serde(default, with = "histogram::base64::option", skip_serializing_if = "Option::is_none")]
    pub tls_handshake: Option<Histogram>,
}

impl Default for Latencies {
    /// Five empty histograms (about 1.4 MB).
    fn default() -> Latencies {
        Latencies {
            response: new_histogram(),
            service: new_histogram(),
            lag: new_histogram(),
            connect: new_histogram(),
            handshake: new_histogram(),
            tls_handshake: None,
        }
    }
}

impl Latencies {
    /// Adds another thread's measurements to these.
    pub fn merge(&mut self, other: &Latencies) {
        histogram::merge(&mut self.response, &other.response);
        histogram::merge(&mut self.service, &other.service);
        histogram::merge(&mut self.lag, &other.lag);
        histogram::merge(&mut self.connect, &other.connect);
        histogram::merge(&mut self.handshake, &other.handshake);
        if let Some(theirs) = &other.tls_handshake {
            histogram::merge(self.tls_handshake.get_or_insert_with(new_histogram), theirs);
        }
    }
}

/// A piece of the measured window. Percentiles are of response times, `None` where too few were measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its start, after the start of the window.
    pub start_s: f64,
    /// Its length.
    pub length_s: f64,
    /// Messages sent in it.
    pub sent: u64,
    /// Answers received in it.
    pub answered: u64,
    /// The median.
    pub p50_ns: Option<u64>,
    /// The 99th percentile.
    pub p99_ns: Option<u64>,
    /// The longest; `None` if nothing was answered.
    pub max_ns: Option<u64>,
}

/// Processor time, user and system, spent over the measured window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuUse {
    /// By the generator's threads.
    pub load_cpu_s: f64,
    /// By the server's threads, where they can be seen.
    pub server_cpu_s: Option<f64>,
}

impl CpuUse {
    /// The generator's processor time per answered message; `None` if nothing was answered.
    pub fn load_ns_per_message(&self, accounting: &Accounting) -> Option<f64> {
        per_message_ns(self.load_cpu_s, accounting)
    }

    /// The server's processor time per answered message; `None` if unseen or nothing was answered.
    pub fn server_ns_per_message(&self, accounting: &Accounting) -> Option<f64> {
        per_message_ns(self.server_cpu_s?, accounting)
    }
}

fn per_message_ns(cpu_s: f64, accounting: &Accounting) -> Option<f64> {
    (accounting.answered > 0).then(|| cpu_s * 1e9 / accounting.answered as f64)
}

/// The headline numbers. Derived; where they disagree with the histograms, the histograms are right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How long the measured window really was.
    pub measured_s: f64,
    /// The rate asked for; `None` in a closed loop, which asks for no rate.
    pub rate_offered_per_s: Option<f64>,
    /// Messages answered in time, by the window's real length. In time is what was answered within the window and, of what
    /// was answered after it, as much as was in flight when it began: see [`Pace`]. A server that always takes a second
    /// thus achieves what is asked of it, and one that is overloaded what it answers a second: its backlog does not count.
    pub rate_achieved_per_s: f64,
    /// Of response times.
    pub response: Percentiles,
    /// Of service times.
    pub service: Percentiles,
    /// All errors of all classes.
    pub errors: u64,
    /// The headline durations' percentiles with their 95 % confidence intervals, those that can be stated; in the file,
    /// one line each. Empty in files older than this field.
    #[serde(default, serialize_with = "one_line_each")]
    pub estimates: Vec<Estimate>,
}

impl Summary {
    /// Derives the headline numbers of a window that really lasted `measured_s`. Without batches, samples are taken as
    /// independent.
    pub fn new(
        plan: &Plan,
        accounting: &Accounting,
        latency: &Latencies,
        batches: &[Batch],
        measured_s: f64,
    ) -> Summary {
        let (rate_offered_per_s, headline) = match plan.mode {
            Mode::OpenLoop { rate_per_s, .. } => {
                (Some(rate_per_s * plan.answers_per_message()), &latency.response)
            }
            Mode::ClosedLoop { .. } => (None, &latency.service),
        };
        let inflation = Inflation::of(headline, batches);
        let in_time = Pace::new(accounting, headline, batches, measured_s).in_time;
        Summary {
            measured_s,
            rate_offered_per_s,
            // JSON knows no infinity: a window of no length has no rate.
            rate_achieved_per_s: if measured_s > 0.0 { in_time as f64 / measured_s } else { 0.0 },
            response: Percentiles::of(&latency.response, &inflation),
            service: Percentiles::of(&latency.service, &inflation),
            errors: accounting.error_count(),
            estimates: inflation.estimates(headline),
        }
    }
}

/// Nanoseconds at the usual percentiles; `None` where there are too few effective samples to state one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names say it, and each would say the same.
pub struct Percentiles {
    /// How many durations were measured.
    pub samples: u64,
    pub p50_ns: Option<u64>,
    pub p75_ns: Option<u64>,
    pub p90_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    #[serde(rename = "p99.9_ns")]
    pub p99_9_ns: Option<u64>,
    #[serde(rename = "p99.99_ns")]
    pub p99_99_ns: Option<u64>,
    #[serde(rename = "p99.999_ns")]
    pub p99_999_ns: Option<u64>,
    /// The longest; `None` only if nothing was measured.
    pub max_ns: Option<u64>,
}

impl Percentiles {
    /// Reads them off a histogram whose samples are as correlated as `inflation` says.
    pub fn of(histogram: &Histogram, inflation: &Inflation) -> Percentiles {
        let [p50_ns, p75_ns, p90_ns, p99_ns, p99_9_ns, p99_99_ns, p99_999_ns] =
            std::array::from_fn(|index| inflation.percentile_ns(histogram, index));
        let max_ns = histogram::maximum_ns(histogram);
        Percentiles {
            samples: histogram.len(),
            p50_ns,
            p75_ns,
            p90_ns,
            p99_ns,
            p99_9_ns,
            p99_99_ns,
            p99_999_ns,
            max_ns,
        }
    }
}

/// The time now in the form of [`RunResult::created`]: RFC 3339, UTC, whole seconds.
pub fn utc_now() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since_epoch.as_secs())
}

/// RFC 3339 of a count of seconds since 1970. Called once a run, so years and months are simply counted off;
/// a calendar library would have nothing else to do here.
fn utc(unix_s: u64) -> String {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut days, second) = (unix_s / 86_400, unix_s % 86_400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_text_is_name_and_version() {
        assert_eq!(SCHEMA, format!("{SCHEMA_NAME}{SCHEMA_VERSION}"));
    }

    #[test]
    fn dates_are_right_at_every_seam_of_the_calendar() {
        // Expected values by GNU date: date -u -d @N +%FT%TZ
        for (unix_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_169_599, "1972-02-28T23:59:59Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (978_307_199, "2000-12-31T23:59:59Z"),
            (978_307_200, "2001-01-01T00:00:00Z"),
            (1_795_334_673, "2026-11-22T08:04:33Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(unix_s), expected);
        }
    }

    #[test]
    fn a_lost_message_is_found_in_the_books() {
        let sound = Accounting {
            offered: 10,
            sent: 8,
            unsent: 2,
            answered: 7,
            outstanding: 1,
            answered_late: 3,
            ..Accounting::default()
        };
        assert_eq!(sound.check(), Ok(()));
        let equation = |books: Accounting| books.check().unwrap_err().to_string();
        assert_eq!(
            equation(Accounting { unsent: 1, ..sound.clone() }),
            "offered = sent + unsent does not hold: 10 against 9 messages"
        );
        assert_eq!(
            equation(Accounting { outstanding: 2, ..sound.clone() }),
            "sent = answered + outstanding does not hold: 8 against 9 messages"
        );
        assert_eq!(
            equation(Accounting { answered_late: 8, ..sound.clone() }),
            "answered_late <= answered does not hold: 8 against 7 messages"
        );
        assert!(Accounting { unsent: u64::MAX, ..sound.clone() }.check().is_err(), "no overflow");
    }

    #[test]
    fn merged_books_still_balance() {
        let mut books = Accounting { offered: 3, sent: 2, unsent: 1, answered: 2, ..Accounting::default() };
        books.count_error("reset");
        let mut other =
            Accounting { offered: 5, sent: 5, answered: 4, outstanding: 1, ..Accounting::default() };
        other.count_error("reset");
        other.count_error("protocol");
        books.merge(&other);
        assert_eq!(books.check(), Ok(()));
        assert_eq!((books.offered, books.errors["reset"], books.error_count()), (8, 2, 3));
    }

    #[test]
    fn processor_time_is_shared_among_answered_messages_only() {
        let cpu = CpuUse { load_cpu_s: 2.0, server_cpu_s: None };
        let books = Accounting { answered: 1_000_000, outstanding: 5, ..Accounting::default() };
        assert_eq!(cpu.load_ns_per_message(&books), Some(2_000.0));
        assert_eq!(cpu.server_ns_per_message(&books), None);
        assert_eq!(cpu.load_ns_per_message(&Accounting::default()), None);
    }
}
