//! What a server said of itself before and after a run, where it is one that does.
//!
//! Invariant: what is kept is small, whatever was said: counters that are not 0, and of each thread what tells how the work was
//! shared. Deliberately absent: differences. Counters only grow, so whoever reads subtracts; what is between the two is the whole
//! run, its handshakes, warm-up and drain included.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

/// What the answer's schema begins with; a version that is not known is not read.
const SCHEMA: &str = "ringsock-stats/1";

/// Before and after.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerStats {
    /// Before the first connection was opened.
    pub before: Option<ServerMoment>,
    /// After the last was closed.
    pub after: Option<ServerMoment>,
}

/// What it said at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerMoment {
    /// Its version.
    pub version: String,
    /// Its engine.
    pub engine: String,
    /// `uname -r` of its machine.
    pub kernel: String,
    /// How long it had been running.
    pub uptime_s: f64,
    /// Processor time of its process.
    pub cpu_s: f64,
    /// Resident memory of its process.
    pub resident_bytes: u64,
    /// Counters of all threads together that were not 0, by name; in the file, all on one line.
    #[serde(serialize_with = "on_one_line")]
    pub counters: BTreeMap<String, u64>,
    /// Its threads; in the file, all on one line.
    #[serde(serialize_with = "on_one_line")]
    pub threads: Vec<ServerThread>,
}

/// One of its threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerThread {
    /// The CPU that it is bound to, if it is.
    pub cpu: Option<u64>,
    /// Its processor time.
    pub cpu_s: f64,
    /// Messages that it received.
    pub messages: u64,
    /// Connections that it had.
    pub connections: u64,
}

fn on_one_line<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::value::to_raw_value(value).expect("plain data").serialize(serializer)
}

// ---- what is read, of the JSON at /stats

#[derive(Deserialize)]
struct Said {
    schema: String,
    uptime_s: f64,
    server: SaidOfServer,
    process: SaidOfProcess,
    total: SaidOfThread,
    threads: Vec<SaidOfThread>,
}

#[derive(Deserialize)]
struct SaidOfServer {
    version: String,
    engine: String,
    kernel: String,
}

#[derive(Deserialize)]
struct SaidOfProcess {
    cpu_s: f64,
    resident_bytes: u64,
}

#[derive(Deserialize)]
struct SaidOfThread {
    #[serde(default)]
    cpu: Option<u64>,
    cpu_s: f64,
    counters: BTreeMap<String, u64>,
}

impl ServerMoment {
    /// Of what `GET /stats` is answered with; `None` where that is something else.
    pub fn read(json: &str) -> Option<Self> {
        let said: Said = serde_json::from_str(json).ok().filter(|said: &Said| said.schema == SCHEMA)?;
        let thread = |said: SaidOfThread| {
            let count = |name| said.counters.get(name).copied().unwrap_or(0);
            let (messages, connections) = (count("messages"), count("connections"));
            ServerThread { cpu: said.cpu, cpu_s: said.cpu_s, messages, connections }
        };
        let mut counters = said.total.counters;
        counters.retain(|_, count| *count != 0);
        Some(Self {
            version: said.server.version,
            engine: said.server.engine,
            kernel: said.server.kernel,
            uptime_s: said.uptime_s,
            cpu_s: said.process.cpu_s,
            resident_bytes: said.process.resident_bytes,
            counters,
            threads: said.threads.into_iter().map(thread).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = r#"{"schema":"ringsock-stats/1","state":"serving","uptime_s":1.5,"new":[],
        "server":{"name":"ringsock","version":"0.1.0","engine":"uring","kernel":"6.1"},
        "process":{"id":1,"cpu_s":0.5,"resident_bytes":4096},
        "total":{"cpu_s":0.4,"counters":{"messages":7,"faults":0}},
        "threads":[{"name":"server-0","cpu":3,"cpu_s":0.25,"counters":{"messages":7,"connections":2}},
                   {"name":"server-admin","cpu":null,"cpu_s":0.15,"counters":{}}]}"#;

    #[test]
    fn what_a_server_says_is_kept_in_short() {
        let moment = ServerMoment::read(STATS).unwrap();
        assert_eq!((moment.version.as_str(), moment.engine.as_str()), ("0.1.0", "uring"));
        assert_eq!((moment.uptime_s, moment.cpu_s, moment.resident_bytes), (1.5, 0.5, 4096));
        assert_eq!(moment.counters, BTreeMap::from([("messages".to_owned(), 7)]));
        let first = ServerThread { cpu: Some(3), cpu_s: 0.25, messages: 7, connections: 2 };
        assert_eq!(moment.threads, [first, ServerThread { cpu_s: 0.15, ..ServerThread::default() }]);
        let text = serde_json::to_string_pretty(&moment).unwrap();
        assert_eq!(text.lines().count(), 10, "a field a line: {text}");
        assert_eq!(serde_json::from_str::<ServerMoment>(&text).unwrap(), moment);
    }

    #[test]
    fn what_another_server_says_is_not_taken_for_it() {
        for other in ["", "{}", "not JSON", "[1]", &STATS.replace("stats/1", "stats/2")] {
            assert_eq!(ServerMoment::read(other), None, "{other}");
        }
    }
}
