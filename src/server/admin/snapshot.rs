//! What a server tells of itself, as JSON: who it is, how it is, and everything that it counted, in all and by thread.
//!
//! Invariant: `schema` is the first field. Within a version fields and counters are only added, and readers ignore those they
//! don't know. A counter's name is that of its field in [`Served`] and the engine's counters, which say what it counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer};

use super::super::board::Left;
use crate::engine::clock_ns;
use crate::scenario::serve::{Served, Shared};

/// What [`Snapshot::schema`] holds: name and version.
pub const SCHEMA: &str = "ringsock-stats/1";

/// What is the same as long as a server runs, and where to see what is not.
#[derive(Debug)]
pub(in super::super) struct About {
    pub(in super::super) engine: &'static str,
    pub(in super::super) features: Vec<String>,
    pub(in super::super) tls: bool,
    pub(in super::super) deflate: bool,
    pub(in super::super) subprotocols: Vec<String>,
    pub(in super::super) connections_max: u64,
    /// By thread: its name, and the CPU that it is bound to.
    pub(in super::super) threads: Vec<(String, Option<usize>)>,
    pub(in super::super) started_ns: u64,
    pub(in super::super) shared: Arc<Shared>,
}

/// What the kernel counts of this process.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Processor time of all threads, in seconds.
    pub cpu_s: f64,
    /// Memory that is resident; 0 where /proc does not say.
    pub resident_bytes: u64,
}

impl Process {
    fn this() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        Self {
            id: std::process::id(),
            cpu_s: time.tv_sec as f64 + time.tv_nsec as f64 / 1e9,
            resident_bytes: pages * rustix::param::page_size() as u64,
        }
    }
}

/// Everything at one moment.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Always [`SCHEMA`].
    pub schema: &'static str,
    /// `serving` or `draining`.
    pub state: &'static str,
    /// Since the server began, in seconds.
    pub uptime_s: f64,
    /// Who it is.
    pub server: Identity,
    /// Of the process, with whatever else it does: a generator with a server of its own is one process.
    pub process: Process,
    /// Of all threads together.
    pub total: Counted,
    /// By thread.
    pub threads: Vec<Thread>,
}

/// Who it is.
#[derive(Debug, Clone, Serialize)]
pub struct Identity {
    /// Always `ringsock`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it was built from, if that is known.
    pub revision: Option<&'static str>,
    /// Its engine.
    pub engine: &'static str,
    /// What that uses of the kernel's offer.
    pub features: Vec<String>,
    /// `uname -r`.
    pub kernel: String,
    /// Connections are secured.
    pub tls: bool,
    /// Compression is agreed to.
    pub deflate: bool,
    /// What is spoken.
    pub subprotocols: Vec<String>,
    /// Connections that there may be at a time.
    pub connections_max: u64,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Counted {
    /// Processor time of the threads, in seconds.
    pub cpu_s: f64,
    /// By name.
    #[serde(serialize_with = "by_name")]
    pub counters: Served,
}

fn by_name<S: Serializer>(served: &Served, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(served.all_named())
}

impl Counted {
    fn of(left: &Left) -> Self {
        Self { cpu_s: left.cpu_ns as f64 / 1e9, counters: left.served }
    }
}

/// What one thread counted.
#[derive(Debug, Clone, Serialize)]
pub struct Thread {
    /// As the kernel knows it.
    pub name: String,
    /// The CPU that it is bound to, if it is.
    pub cpu: Option<usize>,
    /// Its counts.
    #[serde(flatten)]
    pub counted: Counted,
}

impl About {
    pub(super) fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    pub(super) fn uptime_s(&self) -> f64 {
        clock_ns().saturating_sub(self.started_ns) as f64 / 1e9
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            name: "ringsock",
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("RINGSOCK_REVISION"),
            engine: self.engine,
            features: self.features.clone(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            tls: self.tls,
            deflate: self.deflate,
            subprotocols: self.subprotocols.clone(),
            connections_max: self.connections_max,
        }
    }

    /// With what the threads have left.
    pub(in super::super) fn snapshot(&self, left: &[Left]) -> Snapshot {
        let mut total = Left::default();
        for thread in left {
            total.served += thread.served;
            total.cpu_ns += thread.cpu_ns;
        }
        let thread = |((name, cpu), left): (&(String, Option<usize>), &Left)| Thread {
            name: name.clone(),
            cpu: *cpu,
            counted: Counted::of(left),
        };
        Snapshot {
            schema: SCHEMA,
            state: if self.is_draining() { "draining" } else { "serving" },
            uptime_s: self.uptime_s(),
            server: self.identity(),
            process: Process::this(),
            total: Counted::of(&total),
            threads: self.threads.iter().zip(left).map(thread).collect(),
        }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            engine: "epoll",
            features: vec!["one \"thing\"".to_owned(), "another\\".to_owned()],
            tls: false,
            deflate: true,
            subprotocols: vec!["chat".to_owned()],
            connections_max: 100,
            threads: vec![("server-0".to_owned(), Some(3)), ("server-1".to_owned(), None)],
            started_ns: clock_ns(),
            shared: Arc::default(),
        }
    }
}

impl Snapshot {
    /// As it is answered: one line of JSON.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("plain data");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_holds_every_counter_in_all_and_by_thread() {
        let mut served = Served { messages: 3, ..Served::default() };
        served.engine.enters = 5;
        let left = Left { served, cpu_ns: 1_500_000_000 };
        let text = About::example().snapshot(&[left, left]).json();
        assert!(text.starts_with("{\"schema\":\"ringsock-stats/1\","), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["state"], "serving");
        assert_eq!((&json["total"]["cpu_s"], &json["threads"][1]["cpu_s"]), (&3.0.into(), &1.5.into()));
        assert_eq!(json["threads"][0]["cpu"], 3);
        for (name, count) in served.all_named() {
            assert_eq!(json["threads"][0]["counters"][name], count, "{name}");
            assert_eq!(json["total"]["counters"][name], 2 * count, "{name}");
        }
        assert!(json["process"]["resident_bytes"].as_u64().unwrap() > 100_000, "{text}");
        assert!(json["process"]["cpu_s"].as_f64().unwrap() > 0.0, "{text}");
    }
}
