//! From paths to the runs behind them: files, and directories searched to any depth.
//!
//! Invariants: a result that cannot be read is an error that names it, never one run fewer; every run knows the boot it belongs
//! to. Of a run only what a comparison needs is kept, so that hundreds fit into memory.
//! Deliberately absent: what runs have in common and in what they differ (see [`super::key`] and [`super::assemble`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io, thread};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{heatmap, sample};
use crate::measure::anatomy::Anatomy;
use crate::measure::environment::{Clock, Environment};
use crate::measure::evidence::Exemplar;
use crate::measure::result::{IoUring, Plan, RunResult, SCHEMA_NAME, Status, Target, Tool};
use crate::measure::series::Batch;
use crate::measure::store::{self, StoreError};
use crate::measure::verdict::{Level, judge};

/// What every boot's record is called; it stands beside the boot's results.
pub const BOOT_FILE: &str = "boot.json";
/// What the `schema` of a boot's record begins with; the version follows.
const BOOT_SCHEMA_NAME: &str = "ringsock-boot/";
const BOOT_SCHEMA: &str = "ringsock-boot/1";

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A result cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A path or directory cannot be looked at.
    #[error("cannot look at {}: {source}; check the name, and whether this user may read it", .path.display())]
    Look {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A boot's record cannot be used.
    #[error("the boot's record {} cannot be used: {cause}; copy it again, or move it away", .path.display())]
    Boot {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// No result anywhere.
    #[error(
        "there is no result in {places}; name files that ringsock-load saved, or directories that hold some"
    )]
    Empty {
        /// The paths given.
        places: String,
    },
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Collected {
    /// Every result, in the order of the paths given, then by name.
    pub runs: Vec<Run>,
    /// Runs that a boot's record names and that have no result.
    pub absent: Vec<AbsentRun>,
    /// What spoils the whole, in sentences.
    pub caveats: Vec<String>,
}

/// A result, as far as comparing needs it.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its path, as given or found.
    pub path: String,
    /// The path given that it was found under.
    pub directory: String,
    /// The boot it was measured in, by a name of its own.
    pub boot: String,
    /// What it is called in its series, or in its boot's plan.
    pub label: Option<String>,
    /// See [`RunResult::created`].
    pub created: String,
    /// See [`RunResult::tool`].
    pub tool: Tool,
    /// See [`RunResult::command_line`].
    pub command_line: Vec<String>,
    /// See [`RunResult::config`].
    pub config: Option<BTreeMap<String, Value>>,
    /// See [`RunResult::plan`].
    pub plan: Plan,
    /// See [`RunResult::environment`].
    pub environment: Environment,
    /// See [`RunResult::io_uring`].
    pub io_uring: Option<IoUring>,
    /// See [`RunResult::target`].
    pub target: Target,
    /// Its verdict's level.
    pub level: Level,
    /// Why it does not count, if it does not.
    pub left_out: Option<String>,
    /// What of it is compared.
    pub sample: sample::Run,
    /// The 99th percentile of its durations, as it stands; which of several runs is the one in the middle goes by it.
    pub p99_ns: u64,
    /// Its durations over time, in as many pieces as a map has columns.
    pub batches: Vec<Batch>,
    /// See [`RunResult::anatomy`].
    pub anatomy: Option<Box<Anatomy>>,
    /// See [`RunResult::exemplars`].
    pub exemplars: Vec<Exemplar>,
    /// The machine that the boot's record says it was booted on.
    pub guest: Guest,
}

/// What a boot was made with, as far as its record says; a result does not know.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Guest {
    /// QEMU's version; `None` where the kernel ran on the machine itself.
    pub qemu: Option<String>,
    /// `tcg` or `kvm`.
    pub accelerator: Option<String>,
    /// QEMU's model of a processor.
    pub cpu: Option<String>,
    /// Its memory.
    pub memory_mib: Option<u64>,
}

/// A run that a boot was to make, and that has no result.
#[derive(Debug, Clone)]
pub struct AbsentRun {
    /// What the plan calls it.
    pub label: String,
    /// The boot's kernel.
    pub release: String,
    /// The boot, as [`Run::boot`] has it.
    pub boot: String,
    /// The path given that the boot's record was found under.
    pub directory: String,
    /// It could not be had there, rather than failed.
    pub unavailable: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// What a boot's record says, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct BootRecord {
    kernel: BootKernel,
    #[serde(flatten)]
    guest: Guest,
    #[serde(default)]
    runs: Vec<BootRun>,
}

#[derive(Debug, Deserialize)]
struct BootKernel {
    release: String,
}

#[derive(Debug, Deserialize)]
struct BootRun {
    label: String,
    #[serde(default)]
    file: Option<String>,
    status: BootStatus,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BootStatus {
    Done,
    Unavailable,
    Failed,
}

/// A file that may be a result.
struct Candidate {
    path: PathBuf,
    directory: String,
    /// Named by itself: then it has to be one.
    named: bool,
}

/// Reads every result that the paths lead to.
///
/// # Errors
/// See [`CollectError`]; of several unreadable files the first by name is told.
pub fn collect(paths: &[PathBuf]) -> Result<Collected, CollectError> {
    let (candidates, records) = find(paths)?;
    let loaded = load_all(&candidates);
    let mut collected = Collected::default();
    for (candidate, loaded) in candidates.iter().zip(loaded) {
        let Some(mut run) = loaded? else { continue };
        run.directory.clone_from(&candidate.directory);
        collected.runs.push(run);
    }
    let record_of = |run: &Run| records.get(Path::new(&run.path).parent().unwrap_or(Path::new("")));
    for run in &mut collected.runs {
        let record = record_of(run).map(|(_, record)| record);
        let by_file = record.and_then(|record| label_in(record, &run.path));
        run.label = run.label.take().or(by_file);
        run.guest = record.map(|record| record.guest.clone()).unwrap_or_default();
    }
    name_boots(&mut collected, &records);
    for (boot, (directory, record)) in &records {
        collected.absent.extend(absent_runs(boot, directory, record));
    }
    if collected.runs.is_empty() {
        let places = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(CollectError::Empty { places });
    }
    Ok(collected)
}

/// The boots' records, by the directory they stand in, each with the path given that it was found under.
type Records = BTreeMap<PathBuf, (String, BootRecord)>;

fn find(paths: &[PathBuf]) -> Result<(Vec<Candidate>, Records), CollectError> {
    let (mut candidates, mut records) = (Vec::new(), Records::new());
    let mut seen = BTreeSet::new();
    for given in paths {
        let look = |source| CollectError::Look { path: given.clone(), source };
        // What is no directory is left to the reader, whose errors say more.
        let is_directory = fs::metadata(given).is_ok_and(|metadata| metadata.is_dir());
        let files = if is_directory { search(given)? } else { vec![given.clone()] };
        let directory = given.display().to_string();
        for path in files {
            let parent = path.parent().unwrap_or(Path::new("")).to_owned();
            if !records.contains_key(&parent)
                && let Some(record) = read_record(&parent)?
            {
                records.insert(parent, (directory.clone(), record));
            }
            if is_directory && path.file_name().is_some_and(|name| name == BOOT_FILE) {
                continue;
            }
            // The same file by two paths is still one run.
            let canonical = if path.exists() { fs::canonicalize(&path).map_err(look)? } else { path.clone() };
            if seen.insert(canonical) {
                candidates.push(Candidate { path, directory: directory.clone(), named: !is_directory });
            }
        }
    }
    Ok((candidates, records))
}

/// Every `*.json` below `directory`, by name. Links to directories are not followed: they could lead in circles.
fn search(directory: &Path) -> Result<Vec<PathBuf>, CollectError> {
    let look = |path: &Path, source| CollectError::Look { path: path.to_owned(), source };
    let (mut found, mut to_search) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = to_search.pop() {
        for entry in fs::read_dir(&directory).map_err(|error| look(&directory, error))? {
            let entry = entry.map_err(|error| look(&directory, error))?;
            let path = entry.path();
            if entry.file_type().map_err(|error| look(&path, error))?.is_dir() {
                to_search.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read_record(directory: &Path) -> Result<Option<BootRecord>, CollectError> {
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }
    let path = directory.join(BOOT_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(CollectError::Look { path, source }),
    };
    let bad = |cause: String| CollectError::Boot { path: path.clone(), cause };
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if !head.schema.starts_with(BOOT_SCHEMA_NAME) {
        return Ok(None);
    }
    if head.schema != BOOT_SCHEMA {
        return Err(bad(format!("its schema is {}, and this program reads {BOOT_SCHEMA}", head.schema)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(error.to_string()))
}

/// What became of reading one file: `None` for a file that is something else.
type Loaded = Result<Option<Run>, StoreError>;

/// Reads all files, on as many threads as there are CPUs; the answers are in the order of the files.
fn load_all(candidates: &[Candidate]) -> Vec<Loaded> {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(candidates.len());
    let worker = || {
        let mut loaded = Vec::new();
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(candidate) = candidates.get(index)
        {
            loaded.push((index, load(candidate)));
        }
        loaded
    };
    let mut all = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let join = |worker: thread::ScopedJoinHandle<Vec<_>>| match worker.join() {
            Ok(loaded) => loaded,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    all.sort_by_key(|&(index, _)| index);
    all.into_iter().map(|(_, loaded)| loaded).collect()
}

fn load(candidate: &Candidate) -> Loaded {
    let path = &candidate.path;
    let bytes = store::read(path)?;
    match store::parse(path, &bytes) {
        Ok(result) => Ok(Some(Run::of(path.display().to_string(), result))),
        Err(error) if candidate.named || claims_to_be_a_result(&bytes) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether a file says of itself that it is a result, by its first field; it may be damaged all the same.
fn claims_to_be_a_result(bytes: &[u8]) -> bool {
    /// The schema is a result's first field, so it comes early.
    const HEAD_BYTES: usize = 128;
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    head.windows(SCHEMA_NAME.len()).any(|window| window == SCHEMA_NAME.as_bytes())
}

impl Run {
    /// What comparing needs of a result. Its boot is named later, when all are known.
    fn of(path: String, result: RunResult) -> Run {
        let verdict = result.verdict.clone().unwrap_or_else(|| judge(&result));
        let p99_ns = result.headline().value_at_quantile(0.99);
        let (sample, batches) = (sample::Run::of(&result), heatmap::thinned(&result.batches));
        let early = match result.outcome.status {
            Status::Completed => None,
            status => {
                let reason = result.outcome.reason.as_deref().map(|reason| format!(": {reason}"));
                Some(format!("it did not complete ({}){}", status_name(status), reason.unwrap_or_default()))
            }
        };
        let invalid = || {
            let reasons = verdict.reasons();
            let first = reasons.first().map_or(String::new(), |finding| format!(": {}", finding.says));
            (verdict.level == Level::Invalid).then(|| format!("INVALID{first}"))
        };
        let empty = || sample.pieces.is_empty().then(|| "nothing was answered".to_owned());
        Run {
            path,
            directory: String::new(),
            boot: String::new(),
            label: result.series.map(|series| series.label).filter(|label| !label.is_empty()),
            created: result.created,
            tool: result.tool,
            command_line: result.command_line,
            config: result.config,
            plan: result.plan,
            environment: result.environment,
            io_uring: result.io_uring,
            target: result.target,
            level: verdict.level,
            left_out: early.or_else(invalid).or_else(empty),
            sample,
            p99_ns,
            batches,
            anatomy: result.anatomy.map(Box::new),
            exemplars: result.exemplars,
            guest: Guest::default(),
        }
    }

    /// This run as it would have been in the boot that lacks it, of which `beside` is a run: for its place in the comparison.
    pub fn elsewhere(&self, absent: &AbsentRun, beside: Option<&Run>) -> Run {
        let mut run = self.clone();
        if let Some(beside) = beside {
            run.environment.clone_from(&beside.environment);
        }
        run.environment.kernel.release = Some(absent.release.clone());
        run.directory.clone_from(&absent.directory);
        run
    }

    /// Whether it counts.
    pub fn counts(&self) -> bool {
        self.left_out.is_none()
    }

    /// What its durations are made of.
    pub fn clock(&self) -> Clock {
        self.environment.clock
    }

    /// The kernel's release.
    pub fn release(&self) -> &str {
        self.environment.kernel.release.as_deref().unwrap_or("unknown")
    }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Completed => "completed",
        Status::Interrupted => "interrupted",
        Status::ServerDied => "the server died",
        Status::Failed => "failed",
    }
}

/// What a boot's record calls the run of this file.
fn label_in(record: &BootRecord, path: &str) -> Option<String> {
    let name = Path::new(path).file_name()?.to_str()?;
    let named = |run: &&BootRun| run.file.as_deref().is_some_and(|file| Path::new(file).ends_with(name));
    record.runs.iter().find(named).map(|run| run.label.clone())
}

/// Says of every run which boot it is of: by its boot's record, else by the kernel's name for the boot, else by the kernel.
fn name_boots(collected: &mut Collected, records: &Records) {
    let mut guessed = BTreeSet::new();
    for run in &mut collected.runs {
        let parent = Path::new(&run.path).parent().unwrap_or(Path::new(""));
        let hostname = run.environment.hostname.as_deref().unwrap_or("an unknown machine");
        run.boot = match (&run.environment.boot_id, records.contains_key(parent)) {
            (_, true) => parent.display().to_string(),
            (Some(id), false) => format!("{} on {hostname}, boot {id}", run.release()),
            (None, false) => {
                guessed.insert(run.release().to_owned());
                format!("{} on {hostname}", run.release())
            }
        };
    }
    if !guessed.is_empty() {
        let releases = guessed.into_iter().collect::<Vec<_>>().join(", ");
        collected.caveats.push(format!(
            "results of {releases} do not say which boot they are of: all of one kernel and machine are taken as one boot"
        ));
    }
}

fn absent_runs(boot: &Path, directory: &str, record: &BootRecord) -> Vec<AbsentRun> {
    let absent = record.runs.iter().filter(|run| run.status != BootStatus::Done);
    let of_run = |run: &BootRun| AbsentRun {
        label: run.label.clone(),
        release: record.kernel.release.clone(),
        boot: boot.display().to_string(),
        directory: directory.to_owned(),
        unavailable: run.status == BootStatus::Unavailable,
        reason: run.reason.clone().unwrap_or_else(|| "its boot's record does not say why".to_owned()),
    };
    absent.map(of_run).collect()
}
