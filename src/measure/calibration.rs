//! What a load generator can do on its machine by itself, found against a null server: the yardstick that verdicts on later
//! runs are held to.
//!
//! Invariant: as with results, `schema` is the first field, files are written whole and never over another, and readers
//! ignore fields they don't know. A calibration speaks for one kernel, processor, engine and payload; for another it is
//! not cited.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::histogram::{self, Histogram, percentile_ns};
use super::result::{CalibrationCited, Tool};
use super::store::{self, StoreError};

/// What [`Calibration::schema`] holds: name and version.
pub const SCHEMA: &str = "ringsock-calibration/1";
/// The folder, below that of the results, that calibrations are kept in.
const FOLDER: &str = "calibration";

/// Everything that was found. Rates and times are of one generator thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Always [`SCHEMA`], and always the first field of the file.
    pub schema: String,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// What made it.
    pub tool: Tool,
    /// Where.
    pub environment: Environment,
    /// What it speaks for.
    pub generator: Generator,
    /// CPU time a message, of the generator and of a loop that only moves the same bytes, by messages in flight.
    pub overhead: Vec<Overhead>,
    /// How late the generator is for messages that are far apart: a millisecond. Nothing but timers and the scheduler is in
    /// it.
    #[serde(with = "histogram::base64")]
    pub precision: Histogram,
    /// The rates that were tried, in the order they were.
    pub steps: Vec<Step>,
    /// The 99th percentile of lag that was to be kept, in nanoseconds.
    pub lag_bound_ns: u64,
    /// The highest rate at which it was, in messages a second; `None` where it was at none.
    pub rate_max_per_s: Option<f64>,
    /// What was measured at half of that rate; `None` where there is none.
    pub at_half: Option<AtHalf>,
}

/// What decides how fast a generator is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generator {
    /// Its I/O engine.
    pub engine: String,
    /// What of the kernel's offer the engine used.
    pub engine_features: Vec<String>,
    /// Whether it polled without ever sleeping.
    pub spin: bool,
    /// Connections.
    pub connections: u64,
    /// The size of each message.
    pub payload_bytes: u64,
    /// Text messages rather than binary ones.
    pub text: bool,
    /// The CPU that it was pinned to, and the null server's.
    pub cpus: [u64; 2],
}

/// Processor time a message in a closed loop, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overhead {
    /// Messages in flight, each connection.
    pub pipeline: u64,
    /// Of the generator: draws keys, encodes, masks, checks every byte, keeps histograms.
    pub generator_ns: f64,
    /// Of a loop on the same engine that sends and receives the same number of bytes.
    pub loop_ns: f64,
    /// The first over the second: the median over the rounds.
    pub ratio: f64,
    /// The ratio in each round; the two take turns.
    pub rounds: Vec<f64>,
}

/// One rate that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Messages a second.
    pub rate_per_s: f64,
    /// Of those, answered.
    pub achieved_per_s: f64,
    /// The generator's lag; `None` where too few messages were sent to say.
    pub lag_p99_ns: Option<u64>,
    /// Whether the lag kept within its bound, and the rate was achieved.
    pub passed: bool,
}

/// What nothing on this machine can be faster than at this rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AtHalf {
    /// The null server's response time.
    #[serde(with = "histogram::base64")]
    pub response: Histogram,
    /// The generator's lag.
    #[serde(with = "histogram::base64")]
    pub lag: Histogram,
    /// The share of its CPU that the generator used.
    pub cpu_share: f64,
}

impl Calibration {
    /// What of it a result cites, `path` being its file.
    pub fn cited(&self, path: &Path) -> CalibrationCited {
        let half = self.at_half.as_ref();
        let of_half = |histogram: fn(&AtHalf) -> &Histogram, quantile| {
            half.and_then(|half| percentile_ns(histogram(half), quantile)).unwrap_or(0)
        };
        CalibrationCited {
            path: path.display().to_string(),
            created: self.created.clone(),
            rate_max_per_s: self.rate_max_per_s.unwrap_or(0.0),
            lag_p99_ns: of_half(|half| &half.lag, 0.99),
            floor_p50_ns: of_half(|half| &half.response, 0.5),
        }
    }

    /// Whether it speaks for a run of `generator` in `environment`, made by this program. CPUs may differ, and connections
    /// by a factor of two.
    fn speaks_for(&self, generator: &Generator, environment: &Environment) -> bool {
        let machine = |environment: &Environment| {
            let Environment { hostname, kernel, cpu, .. } = environment;
            (hostname.clone(), kernel.release.clone(), kernel.version.clone(), cpu.model.clone())
        };
        let same =
            Generator { cpus: generator.cpus, connections: generator.connections, ..self.generator.clone() };
        let connections = self.generator.connections.max(1) as f64 / generator.connections.max(1) as f64;
        let version = |tool: &Tool| tool.version.clone();
        same == *generator
            && (0.5..=2.0).contains(&connections)
            && version(&self.tool) == version(&Tool::this(""))
            && self.environment.build.profile == environment.build.profile
            && machine(&self.environment) == machine(environment)
    }
}

/// Saves below `results`, as `calibration/<UTC time>-<kernel release>.json`.
///
/// # Errors
/// [`StoreError::Write`].
pub fn save(results: &Path, calibration: &Calibration) -> Result<PathBuf, StoreError> {
    let kernel = calibration.environment.kernel.release.as_deref().unwrap_or("unknown-kernel");
    let time: String = calibration.created.chars().filter(char::is_ascii_alphanumeric).collect();
    store::save_as(&results.join(FOLDER), &format!("{time}-{kernel}"), "json", &store::json(calibration))
}

/// The newest calibration below `results` that speaks for a run of `generator` in `environment`. Files that are none, or
/// cannot be read, speak for nothing.
pub fn latest(results: &Path, generator: &Generator, environment: &Environment) -> Option<CalibrationCited> {
    let files = std::fs::read_dir(results.join(FOLDER)).ok()?;
    let read = |path: PathBuf| {
        let modified = std::fs::metadata(&path).ok()?.modified().ok();
        let calibration: Calibration = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let fits = calibration.schema == SCHEMA && calibration.speaks_for(generator, environment);
        fits.then(|| (modified, calibration.cited(&path)))
    };
    let all = files.filter_map(|file| read(file.ok()?.path()));
    // Of the same second, the one that was written last.
    let newest = all
        .max_by(|(a_modified, a), (b_modified, b)| (&a.created, a_modified).cmp(&(&b.created, b_modified)));
    newest.map(|(_, cited)| cited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::{new_histogram, record};

    fn calibration(created: &str, rate_max_per_s: f64) -> Calibration {
        let mut lag = new_histogram();
        (0..1000).for_each(|n| record(&mut lag, 1000 + n));
        Calibration {
            schema: SCHEMA.to_owned(),
            created: created.to_owned(),
            tool: Tool::this("ringsock-load"),
            environment: Environment { hostname: Some("a".to_owned()), ..Environment::default() },
            generator: Generator {
                engine: "uring".to_owned(),
                engine_features: vec!["buffer-ring".to_owned()],
                spin: false,
                connections: 64,
                payload_bytes: 64,
                text: false,
                cpus: [1, 0],
            },
            overhead: vec![Overhead {
                pipeline: 1,
                generator_ns: 5.0,
                loop_ns: 4.0,
                ratio: 1.25,
                rounds: vec![1.25],
            }],
            precision: lag.clone(),
            steps: vec![Step { rate_per_s: 1e4, achieved_per_s: 1e4, lag_p99_ns: Some(2000), passed: true }],
            lag_bound_ns: 100_000,
            rate_max_per_s: Some(rate_max_per_s),
            at_half: Some(AtHalf { response: lag.clone(), lag, cpu_share: 0.3 }),
        }
    }

    #[test]
    fn the_newest_calibration_that_speaks_for_a_run_is_cited() {
        let results = tempfile::tempdir().unwrap();
        let one = calibration("2026-11-22T08:00:00Z", 1e5);
        assert_eq!(latest(results.path(), &one.generator, &one.environment), None);
        let path = save(results.path(), &one).unwrap();
        assert!(path.ends_with("calibration/20261122T080000Z-unknown-kernel.json"), "{path:?}");
        save(results.path(), &calibration("2026-11-22T07:00:00Z", 3e5)).unwrap();
        save(results.path(), &calibration("2026-11-22T08:00:00Z", 2e5)).unwrap();
        std::fs::write(results.path().join(FOLDER).join("z.json"), "{\"schema\": 1").unwrap();
        let cited = |generator: &Generator| latest(results.path(), generator, &one.environment);
        let newest = cited(&one.generator).unwrap();
        assert_eq!((newest.rate_max_per_s, newest.created), (2e5, one.created.clone()));
        assert_eq!(newest.lag_p99_ns, one.cited(&path).lag_p99_ns);
        let elsewhere = Generator { cpus: [0, 1], connections: 100, ..one.generator.clone() };
        assert!(cited(&elsewhere).is_some());
        for other in [
            Generator { spin: true, ..one.generator.clone() },
            Generator { engine: "epoll".to_owned(), ..one.generator.clone() },
            Generator { payload_bytes: 65, ..one.generator.clone() },
            Generator { connections: 1, ..one.generator.clone() },
            Generator { engine_features: Vec::new(), ..one.generator.clone() },
        ] {
            assert_eq!(cited(&other), None, "{other:?}");
        }
        let other = Environment { hostname: Some("b".to_owned()), ..one.environment.clone() };
        assert_eq!(latest(results.path(), &one.generator, &other), None);
    }
}
