//! What a scenario measures beyond what every run does.
//!
//! Invariant: nothing here is in the books or the headline histogram that would not be there without it, so a reader who knows none of it
//! reads the rest rightly. Each part is there only where the run had it, and older files have none.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::histogram::{self, Histogram, new_histogram, record};
use super::result::Percentiles;

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Particulars {
    /// Sizes of the messages sent, where they vary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<SizesSent>,
    /// Of `burst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bursts: Option<Bursts>,
    /// Of `ping`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pings: Option<Pings>,
    /// Of `churn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<Churn>,
    /// Of `broadcast` and `rooms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan: Option<Fan>,
    /// Connections beside those that are measured: of `idle` and `slow`, and of `churn` where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crowd: Option<Crowd>,
    /// Of `slow`, and of others that have slow readers: the same run before it, without the crowd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_crowd: Option<Without>,
    /// Of `json`, where some were published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcasts: Option<Broadcasts>,
    /// Of `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushes: Option<Pushes>,
    /// Of `mix`, in the order they were given in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartPlayed>,
}

/// What was published to everybody, from the run's beginning to its end; beside the books, which have the publications as messages
/// and their results as answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broadcasts {
    /// Broadcasts sent to the server.
    pub published: u64,
    /// Those whose result came.
    pub results: u64,
    /// The least listeners that a result told of; 0 without results.
    pub listeners_min: u64,
    /// The most.
    pub listeners_max: u64,
    /// All results' listeners together: as often as broadcasts are to be heard.
    pub told: u64,
    /// Connections that were open at the end.
    pub connections: u64,
    /// Broadcasts that came to these.
    pub heard: u64,
}

impl Broadcasts {
    /// A result came, with how many listened.
    pub fn on_result(&mut self, listeners: u64) {
        let (listeners_min, listeners_max) = (listeners, listeners);
        self.merge(&Self { results: 1, listeners_min, listeners_max, told: listeners, ..Self::default() });
    }

    fn merge(&mut self, other: &Broadcasts) {
        self.listeners_min = match (self.results, other.results) {
            (0, _) => other.listeners_min,
            (_, 0) => self.listeners_min,
            _ => self.listeners_min.min(other.listeners_min),
        };
        self.listeners_max = self.listeners_max.max(other.listeners_max);
        self.published += other.published;
        self.results += other.results;
        self.told += other.told;
        self.connections += other.connections;
        self.heard += other.heard;
    }
}

/// What the server sent unasked, of the measured window; beside the books, which have what was due as sent, and what came as answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pushes {
    /// From when a message was due to when the server composed it.
    #[serde(with = "histogram::base64")]
    pub lateness: Histogram,
}

impl Default for Pushes {
    fn default() -> Self {
        Self { lateness: new_histogram() }
    }
}

/// What a part of `mix` came to, of the measured window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartPlayed {
    /// The scenario it plays.
    pub scenario: String,
    /// How many connections do.
    pub connections: u64,
    /// Messages sent.
    pub sent: u64,
    /// Those answered.
    pub answered: u64,
    /// Their headline durations: from when a message was due (open loop) or sent (closed loop) to its answer.
    #[serde(with = "histogram::base64")]
    pub headline: Histogram,
}

impl PartPlayed {
    /// One that nothing was sent of yet.
    pub fn of(scenario: &str, connections: u64) -> Self {
        Self { scenario: scenario.to_owned(), connections, sent: 0, answered: 0, headline: new_histogram() }
    }

    /// A message was answered after so long.
    pub fn on_answered(&mut self, took_ns: u64) {
        self.answered += 1;
        record(&mut self.headline, took_ns);
    }

    fn merge(&mut self, other: &PartPlayed) {
        self.sent += other.sent;
        self.answered += other.answered;
        histogram::merge(&mut self.headline, &other.headline);
    }
}

impl Particulars {
    /// Whether the run had none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every histogram in it, by a name of one word or more joined by hyphens.
    pub fn histograms(&self) -> Vec<(Cow<'static, str>, &Histogram)> {
        let mut all = Vec::new();
        all.extend(self.bursts.iter().map(|bursts| ("burst-drain", &bursts.drain)));
        if let Some(pings) = &self.pings {
            all.push(("ping-round-trip", &pings.round_trip));
            all.extend(pings.data.as_ref().map(|data| ("data-round-trip", data)));
        }
        if let Some(churn) = &self.churn {
            all.extend([("first-message", &churn.first_message), ("close", &churn.close)]);
        }
        if let Some(fan) = &self.fan {
            all.extend([("first-delivery", &fan.first), ("median-delivery", &fan.median)]);
            all.extend([("last-delivery", &fan.last), ("spread", &fan.spread)]);
        }
        all.extend(self.pushes.iter().map(|pushes| ("server-lateness", &pushes.lateness)));
        all.extend(self.without_crowd.iter().map(|without| ("without-crowd", &without.headline)));
        let mut all: Vec<_> =
            all.into_iter().map(|(name, histogram)| (Cow::Borrowed(name), histogram)).collect();
        let parts = self.parts.iter().enumerate();
        all.extend(
            parts.map(|(at, part)| (format!("part-{}-{}", at + 1, part.scenario).into(), &part.headline)),
        );
        all
    }

    /// Adds another thread's. Crowds, bursts and what is published are put together elsewhere: they are of all threads.
    pub fn merge(&mut self, other: &Particulars) {
        if let Some(theirs) = &other.sizes {
            self.sizes.get_or_insert_default().merge(theirs);
        }
        if let Some(theirs) = &other.pings {
            self.pings.get_or_insert_default().merge(theirs);
        }
        if let Some(theirs) = &other.churn {
            self.churn.get_or_insert_default().merge(theirs);
        }
        if let Some(theirs) = &other.broadcasts {
            self.broadcasts.get_or_insert_default().merge(theirs);
        }
        if let Some(theirs) = &other.pushes {
            let ours = &mut self.pushes.get_or_insert_default().lateness;
            histogram::merge(ours, &theirs.lateness);
        }
        if self.parts.is_empty() {
            self.parts.clone_from(&other.parts);
        } else {
            self.parts.iter_mut().zip(&other.parts).for_each(|(part, theirs)| part.merge(theirs));
        }
    }
}

/// Payloads of the messages that the books count as sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SizesSent {
    /// How many.
    pub messages: u64,
    /// All of them together.
    pub bytes: u64,
    /// The smallest.
    pub min_bytes: u64,
    /// The largest.
    pub max_bytes: u64,
    /// Their mean.
    pub mean_bytes: f64,
}

impl SizesSent {
    /// Counts a message of so many bytes.
    pub fn add(&mut self, bytes: u64) {
        self.merge(&Self { messages: 1, bytes, min_bytes: bytes, max_bytes: bytes, mean_bytes: 0.0 });
    }

    fn merge(&mut self, other: &SizesSent) {
        self.min_bytes = match (self.messages, other.messages) {
            (0, _) => other.min_bytes,
            (_, 0) => self.min_bytes,
            _ => self.min_bytes.min(other.min_bytes),
        };
        self.max_bytes = self.max_bytes.max(other.max_bytes);
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.mean_bytes = self.bytes as f64 / self.messages.max(1) as f64;
    }
}

/// Bursts of the measured window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bursts {
    /// All of them: `bursts = drained + undrained`.
    pub bursts: u64,
    /// Those of which every message was sent and answered.
    pub drained: u64,
    /// The others: in no duration.
    pub undrained: u64,
    /// Of those drained: from when the burst was due to its last answer.
    #[serde(with = "histogram::base64")]
    pub drain: Histogram,
}

impl Default for Bursts {
    fn default() -> Self {
        Self { bursts: 0, drained: 0, undrained: 0, drain: new_histogram() }
    }
}

/// Pings of the measured window; they are messages of the books as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pings {
    /// Those sent.
    pub sent: u64,
    /// Those whose own Pong came.
    pub answered: u64,
    /// From when a ping was due (open loop) or sent (closed loop) to its Pong.
    #[serde(with = "histogram::base64")]
    pub round_trip: Histogram,
    /// The same of the messages that were no pings; `None` where all were.
    #[serde(default, with = "histogram::base64::option", skip_serializing_if = "Option::is_none")]
    pub data: Option<Histogram>,
}

impl Default for Pings {
    fn default() -> Self {
        Self { sent: 0, answered: 0, round_trip: new_histogram(), data: None }
    }
}

impl Pings {
    /// Counts the answer to a message that was no ping.
    pub fn on_data(&mut self, took_ns: u64) {
        record(self.data.get_or_insert_with(new_histogram), took_ns);
    }

    fn merge(&mut self, other: &Pings) {
        self.sent += other.sent;
        self.answered += other.answered;
        histogram::merge(&mut self.round_trip, &other.round_trip);
        if let Some(theirs) = &other.data {
            histogram::merge(self.data.get_or_insert_with(new_histogram), theirs);
        }
    }
}

/// Connections of the measured window that came and went. Their whole lives are the run's headline; connecting, TLS and upgrade are
/// among its other durations, of the window's connections alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Churn {
    /// Lives that were whole, by the window's length.
    pub connections_per_s: f64,
    /// How many there were at once, at most, on all threads together (each thread's own maximum, added up).
    pub at_once_max: u64,
    /// Those that we had to close first, since the server did not after the closing handshake: their ports stay taken on this side.
    pub closed_by_us: u64,
    /// From sending the message to having its answer.
    #[serde(with = "histogram::base64")]
    pub first_message: Histogram,
    /// From sending our Close frame to the end of the TCP connection.
    #[serde(with = "histogram::base64")]
    pub close: Histogram,
}

impl Default for Churn {
    fn default() -> Self {
        Self {
            connections_per_s: 0.0,
            at_once_max: 0,
            closed_by_us: 0,
            first_message: new_histogram(),
            close: new_histogram(),
        }
    }
}

impl Churn {
    fn merge(&mut self, other: &Churn) {
        self.at_once_max += other.at_once_max;
        self.closed_by_us += other.closed_by_us;
        histogram::merge(&mut self.first_message, &other.first_message);
        histogram::merge(&mut self.close, &other.close);
    }
}

/// What was published in the measured window, each message to every subscriber of its room. In the books, a message is a delivery: one
/// publication to one subscriber.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fan {
    /// Messages published.
    pub publications: u64,
    /// Subscribers that were there when it began, in all rooms.
    pub subscribers: u64,
    /// Rooms; 1 where all are in one.
    pub rooms: u64,
    /// Deliveries in time, by the window's length.
    pub deliveries_per_s: f64,
    /// Deliveries of the whole run that were passed over: a later one of the same publisher came, and they never did.
    pub gaps: u64,
    /// Those that came after a later one.
    pub out_of_order: u64,
    /// Those that had come before.
    pub repeated: u64,
    /// One in so many publications was looked at for the durations below, drawn evenly; 1: all were.
    pub looked_at_one_in: u64,
    /// How many that were, of which anything was delivered.
    pub looked_at: u64,
    /// Of these, those that came to every subscriber of their room: the others are in no duration.
    pub complete: u64,
    /// From when a message was due (open loop) or sent (closed loop) to its first delivery.
    #[serde(with = "histogram::base64")]
    pub first: Histogram,
    /// To the one that half of the subscribers had it by.
    #[serde(with = "histogram::base64")]
    pub median: Histogram,
    /// To the last.
    #[serde(with = "histogram::base64")]
    pub last: Histogram,
    /// From the first to the last.
    #[serde(with = "histogram::base64")]
    pub spread: Histogram,
    /// Who is served late: subscribers of all rooms in tenths, by when they joined theirs; those that got anything.
    pub positions: Vec<Position>,
}

impl Default for Fan {
    fn default() -> Self {
        Self {
            publications: 0,
            subscribers: 0,
            rooms: 0,
            deliveries_per_s: 0.0,
            gaps: 0,
            out_of_order: 0,
            repeated: 0,
            looked_at_one_in: 1,
            looked_at: 0,
            complete: 0,
            first: new_histogram(),
            median: new_histogram(),
            last: new_histogram(),
            spread: new_histogram(),
            positions: Vec::new(),
        }
    }
}

/// Deliveries to a tenth of the subscribers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// So many of a hundred joined before them, and ten more begin with the next.
    pub joined_after_percent: u64,
    /// How many deliveries.
    pub deliveries: u64,
    /// What they took on average.
    pub mean_ns: f64,
    /// What half of them took at most; `None` where they are too few.
    pub p50_ns: Option<u64>,
    /// What 99 of 100 took at most; `None` where they are too few.
    pub p99_ns: Option<u64>,
}

/// Connections beside those that are measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crowd {
    /// What they do: `silent`, `stop` or `dribble`.
    pub manner: String,
    /// How many were asked for: `connections = opened + failed`.
    pub connections: u64,
    /// Those whose handshake succeeded.
    pub opened: u64,
    /// Those that never came so far.
    pub failed: u64,
    /// Of those opened, those still open at the end of the measured window.
    pub held: u64,
    /// The server's pings that they answered.
    pub heartbeats: u64,
    /// Bytes of messages that they sent, of those that send.
    pub sent_bytes: u64,
    /// Bytes that they read after their handshakes.
    pub read_bytes: u64,
    /// The server's own memory, where it can be seen.
    pub server_memory: Option<ServerMemory>,
    /// The kernel's, of the generator's machine: of both ends, where the server runs there too.
    pub kernel_memory: Option<KernelMemory>,
}

/// Resident memory (`VmRSS`) of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMemory {
    /// Whose: `server`, or `server and generator` where they are one process.
    pub of: String,
    /// Before the crowd was opened.
    pub before_bytes: u64,
    /// At the end of the measured window.
    pub after_bytes: u64,
}

impl ServerMemory {
    /// What it grew by for each of so many connections.
    pub fn per_connection_bytes(&self, connections: u64) -> Option<f64> {
        let grown_bytes = self.after_bytes as f64 - self.before_bytes as f64;
        (connections > 0).then(|| grown_bytes / connections as f64)
    }
}

/// Memory of a kernel, at two times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelMemory {
    /// Before the crowd was opened.
    pub before: KernelUse,
    /// At the end of the measured window.
    pub after: KernelUse,
}

impl KernelMemory {
    /// What it grew by for each of so many connections, both kinds together.
    pub fn per_connection_bytes(&self, connections: u64) -> Option<f64> {
        let all = |used: &KernelUse| (used.slab_bytes + used.tcp_buffer_bytes) as f64;
        (connections > 0).then(|| (all(&self.after) - all(&self.before)) / connections as f64)
    }
}

/// Memory of a kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelUse {
    /// Sockets and all other objects: `Slab` of `/proc/meminfo`.
    pub slab_bytes: u64,
    /// What waits in TCP's buffers: `mem` of `TCP` in `/proc/net/sockstat`.
    pub tcp_buffer_bytes: u64,
}

/// A run that the main one is held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Without {
    /// Messages offered and answered.
    pub offered: u64,
    /// See there.
    pub answered: u64,
    /// Messages answered in time, by the window's length.
    pub rate_achieved_per_s: f64,
    /// Its headline durations' percentiles.
    pub percentiles: Percentiles,
    /// Its headline durations.
    #[serde(with = "histogram::base64")]
    pub headline: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_threads_add_up_whichever_had_none() {
        let mut sizes = SizesSent::default();
        sizes.merge(&SizesSent::default());
        [5, 0, 1000].into_iter().for_each(|bytes| sizes.add(bytes));
        sizes.merge(&SizesSent::default());
        let expected =
            SizesSent { messages: 3, bytes: 1005, min_bytes: 0, max_bytes: 1000, mean_bytes: 335.0 };
        assert_eq!(sizes, expected);
    }

    #[test]
    fn what_a_run_did_not_have_takes_no_place_in_its_file_and_is_not_needed_there() {
        let none = Particulars::default();
        assert_eq!(serde_json::to_string(&none).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<Particulars>("{}").unwrap(), none);
        let some = Particulars { pings: Some(Pings::default()), ..none };
        let text = serde_json::to_string(&some).unwrap();
        assert_eq!(serde_json::from_str::<Particulars>(&text).unwrap(), some);
    }

    #[test]
    fn memory_is_what_was_added_for_each_connection() {
        let memory = ServerMemory { of: "server".to_owned(), before_bytes: 1000, after_bytes: 4000 };
        assert_eq!(memory.per_connection_bytes(10), Some(300.0));
        assert_eq!(memory.per_connection_bytes(0), None);
        let at = |slab_bytes, tcp_buffer_bytes| KernelUse { slab_bytes, tcp_buffer_bytes };
        let memory = KernelMemory { before: at(100, 10), after: at(600, 0) };
        assert_eq!(memory.per_connection_bytes(7), Some(70.0));
    }
}
