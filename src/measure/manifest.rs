//! A series of runs on disk: a folder with one result file a run, and the manifest that says which is which.
//!
//! Invariant: the manifest is only ever appended to, a JSON object a line, each on disk before the next run begins: first
//! the plan, then a line for every run that ended, at last what was found. A last line that a crash cut off is as good as
//! not written. A result file that no line names belongs to no series: it was saved just before a crash.
//! Deliberately absent: what the runs are for.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::environment::Kernel;
use super::result::{RunResult, Tool};
use super::store::{self, StoreError};

/// What [`Header::schema`] holds.
pub const SCHEMA: &str = "ringsock-series/1";
/// The manifest's name in the folder of its series.
pub const FILE_NAME: &str = "manifest.jsonl";

/// Why a series cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is not on disk, or cannot be read.
    #[error("{}: {source}; {mend}", .path.display())]
    File {
        /// The manifest or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What may help.
        mend: &'static str,
    },
    /// Somebody else writes to it.
    #[error("{} is being written by another ringsock-load: wait for it or end it", .0.display())]
    InUse(PathBuf),
    /// A line is none of a manifest.
    #[error("{}:{line}: {cause}; it was changed or is damaged: start a new series", .path.display())]
    Damaged {
        /// The manifest.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// A run's result cannot be read or written.
    #[error(transparent)]
    Result(#[from] StoreError),
}

/// What a series is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The series' name: that of its folder.
    pub name: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// What makes it.
    pub tool: Tool,
    /// As typed.
    pub command_line: Vec<String>,
    /// The kernel that all runs are made on.
    pub kernel: Kernel,
    /// Every flag in effect, as a config file would have it.
    pub config: BTreeMap<String, serde_json::Value>,
    /// Names of the formats that results are exported in; older manifests have none.
    #[serde(default)]
    pub export: Vec<String>,
    /// What is compared.
    pub contenders: Vec<Contender>,
    /// The runs in their order, as far as it is known beforehand.
    pub order: Vec<Planned>,
}

/// One of those compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contender {
    /// Its name in tables.
    pub label: String,
    /// The flags of its runs; their seed is that of the first round.
    pub config: BTreeMap<String, serde_json::Value>,
    /// What its flags leave to the machine, and came to here: engines, CPUs.
    pub chosen: BTreeMap<String, String>,
}

/// A run by its place in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// A contender's label, or the step of a search or curve.
    pub label: String,
    /// The repetition, from 0.
    pub round: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// See [`Planned::label`].
    pub label: String,
    /// See [`Planned::round`].
    pub round: u64,
    /// Its result's file, in the manifest's folder; `None` if nothing was measured.
    pub file: Option<String>,
    /// Why nothing was measured.
    pub failed: Option<String>,
    /// Ended by the user: it is to be repeated.
    #[serde(default)]
    pub interrupted: bool,
}

/// A line of the manifest. `F` is what a series of this kind finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<F> {
    Header(Box<Header>),
    Run(Ended),
    Finding(F),
}

/// What a manifest holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents<F> {
    /// The plan.
    pub header: Header,
    /// The runs that ended, in order.
    pub runs: Vec<Ended>,
    /// What came of them, once all have ended.
    pub finding: Option<F>,
}

/// A manifest that is being written.
#[derive(Debug)]
pub struct Manifest {
    folder: PathBuf,
    file: File,
}

impl Manifest {
    /// Begins a series: makes a folder for it in `directory`, below a folder of the kernel's name, and writes the plan.
    /// The header's name becomes the folder's.
    ///
    /// # Errors
    /// The folder or the manifest could not be made.
    pub fn begin(directory: &Path, header: &mut Header) -> Result<Manifest, ManifestError> {
        let release = header.kernel.release.as_deref().unwrap_or_default();
        let folder = store::new_folder(directory, release, &header.created, "series")?;
        header.name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = folder.join(FILE_NAME);
        let file = OpenOptions::new().append(true).create_new(true).open(&path).map_err(writing(&path))?;
        let mut manifest = Manifest { folder, file };
        manifest.lock()?;
        manifest.append(&Line::<()>::Header(Box::new(header.clone())))?;
        let synced = File::open(&manifest.folder).and_then(|folder| folder.sync_all());
        synced.map_err(writing(&manifest.folder))?;
        Ok(manifest)
    }

    /// Goes on with the series in `folder`, past what it holds.
    ///
    /// # Errors
    /// There is none, it is damaged before its last line, or somebody else writes to it.
    pub fn resume<F: DeserializeOwned>(folder: &Path) -> Result<(Manifest, Contents<F>), ManifestError> {
        let path = folder.join(FILE_NAME);
        let opened = OpenOptions::new().read(true).append(true).open(&path);
        let mut file = opened.map_err(reading(&path))?;
        let mut manifest =
            Manifest { folder: folder.to_owned(), file: file.try_clone().map_err(reading(&path))? };
        manifest.lock()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(reading(&path))?;
        let (contents, sound_bytes) = parse(&path, &text)?;
        manifest.file.set_len(sound_bytes as u64).map_err(writing(&path))?;
        manifest.file.seek(io::SeekFrom::End(0)).map_err(writing(&path))?;
        Ok((manifest, contents))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Saves a run's result beside the manifest; [`Manifest::ended`] then names it.
    ///
    /// # Errors
    /// It is not on disk.
    pub fn save(&self, result: &RunResult) -> Result<String, ManifestError> {
        let path = store::save_in(&self.folder, result)?;
        Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Writes that a run has ended.
    ///
    /// # Errors
    /// The line is not on disk.
    pub fn ended(&mut self, run: Ended) -> Result<(), ManifestError> {
        self.append(&Line::<()>::Run(run))
    }

    /// Writes what was found.
    ///
    /// # Errors
    /// The line is not on disk.
    pub fn found<F: Serialize>(&mut self, finding: &F) -> Result<(), ManifestError> {
        self.append(&Line::Finding(finding))
    }

    fn append<F: Serialize>(&mut self, line: &Line<F>) -> Result<(), ManifestError> {
        let mut text = serde_json::to_string(line).expect("a line is plain data");
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(writing(&self.folder.join(FILE_NAME)))
    }

    fn lock(&self) -> Result<(), ManifestError> {
        match self.file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(ManifestError::InUse(self.folder.join(FILE_NAME))),
            // A file system without locks: then nobody is kept out.
            Err(TryLockError::Error(_)) => Ok(()),
        }
    }
}

/// Reads the manifest in `folder`.
///
/// # Errors
/// There is none, or it is damaged before its last line.
pub fn read<F: DeserializeOwned>(folder: &Path) -> Result<Contents<F>, ManifestError> {
    let path = folder.join(FILE_NAME);
    let text = fs::read(&path).map_err(reading(&path))?;
    parse(&path, &text).map(|(contents, _)| contents)
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> ManifestError {
    let path = path.to_owned();
    let mend = "name the folder of a series, as <results>/<kernel release>/<time>-series";
    move |source| ManifestError::File { path, source, mend }
}

fn writing(path: &Path) -> impl FnOnce(io::Error) -> ManifestError {
    let path = path.to_owned();
    let mend = "see that there is space and that this user may write there, then --resume the series";
    move |source| ManifestError::File { path, source, mend }
}

/// What the text of the manifest at `path` says, and how many bytes of it are whole lines.
///
/// # Errors
/// It is damaged before its last line.
pub fn parse<F: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<(Contents<F>, usize), ManifestError> {
    let damaged = |line, cause: &dyn ToString| ManifestError::Damaged {
        path: path.to_owned(),
        line,
        cause: cause.to_string(),
    };
    let whole_bytes = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut lines = text[..whole_bytes].split_inclusive(|&byte| byte == b'\n').enumerate();
    let header = match lines.next().map(|(_, line)| serde_json::from_slice::<Line<F>>(line)) {
        Some(Ok(Line::Header(header))) if header.schema == SCHEMA => *header,
        Some(Ok(Line::Header(header))) => {
            return Err(damaged(1, &format!("its schema is {}, not {SCHEMA}", header.schema)));
        }
        Some(Err(error)) => return Err(damaged(1, &error)),
        _ => return Err(damaged(1, &"it does not begin with a plan")),
    };
    let mut contents = Contents { header, runs: Vec::new(), finding: None };
    let mut sound_bytes = text.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    for (index, line) in lines {
        match serde_json::from_slice(line) {
            Ok(Line::Run(run)) => contents.runs.push(run),
            Ok(Line::Finding(finding)) => contents.finding = Some(finding),
            Ok(Line::Header(_)) => return Err(damaged(index + 1, &"a second plan")),
            // What reached the disk of a last line may even have its end and lack its middle.
            Err(_) if sound_bytes + line.len() == whole_bytes && whole_bytes == text.len() => break,
            Err(error) => return Err(damaged(index + 1, &error)),
        }
        sound_bytes += line.len();
    }
    Ok((contents, sound_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            schema: SCHEMA.to_owned(),
            name: String::new(),
            created: "2026-11-22T08:04:33Z".to_owned(),
            tool: Tool::this("ringsock-load"),
            command_line: vec!["ringsock-load".to_owned()],
            kernel: Kernel { release: Some("6.1.0".to_owned()), ..Kernel::default() },
            config: BTreeMap::from([("rate".to_owned(), 5.into())]),
            export: Vec::new(),
            contenders: Vec::new(),
            order: vec![Planned { label: "a".to_owned(), round: 0 }],
        }
    }

    fn run(round: u64) -> Ended {
        Ended {
            label: "a".to_owned(),
            round,
            file: Some(format!("{round}.json")),
            failed: None,
            interrupted: false,
        }
    }

    #[test]
    fn wherever_a_crash_cuts_the_manifest_what_was_whole_is_read_and_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let mut plan = header();
        let mut manifest = Manifest::begin(directory.path(), &mut plan).unwrap();
        assert!(manifest.folder().ends_with("6.1.0/20261122T080433Z-series"), "{:?}", manifest.folder());
        for round in 0..3 {
            manifest.ended(run(round)).unwrap();
        }
        let folder = manifest.folder().to_owned();
        drop(manifest);
        let file = folder.join(FILE_NAME);
        let text = fs::read(&file).unwrap();
        let ends: Vec<usize> = (0..text.len()).filter(|&at| text[at] == b'\n').map(|at| at + 1).collect();
        for cut in ends[0]..=text.len() {
            fs::write(&file, &text[..cut]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            let (mut manifest, contents) = Manifest::resume::<u64>(&folder).unwrap();
            assert_eq!((contents.header, contents.runs.len()), (plan.clone(), whole), "cut at {cut}");
            manifest.ended(run(7)).unwrap();
            drop(manifest);
            let runs = read::<u64>(&folder).unwrap().runs;
            assert_eq!((runs.len(), runs.last()), (whole + 1, Some(&run(7))), "cut at {cut}");
        }
        // A last line of which only the ends reached the disk.
        let mut holed = text.clone();
        holed[ends[2] + 5..text.len() - 1].fill(0);
        fs::write(&file, holed).unwrap();
        assert_eq!(read::<u64>(&folder).unwrap().runs.len(), 2);
    }

    #[test]
    fn what_is_damaged_is_refused_by_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::begin(directory.path(), &mut header()).unwrap();
        (0..2).for_each(|round| manifest.ended(run(round)).unwrap());
        let (folder, file) = (manifest.folder().to_owned(), manifest.folder().join(FILE_NAME));
        let text = fs::read_to_string(&file).unwrap();
        let refusal = |text: String| {
            fs::write(&file, text).unwrap();
            read::<u64>(&folder).unwrap_err().to_string()
        };
        assert!(refusal(text.replacen("{\"run", "{\"rum", 1)).contains("manifest.jsonl:2: unknown variant"));
        assert!(refusal(text.replace("series/1", "series/9")).contains("its schema is ringsock-series/9"));
        assert!(refusal(String::new()).contains(":1: it does not begin with a plan"));
        let first = text.lines().next().unwrap();
        assert!(refusal(format!("{first}\n{text}")).contains(":2: a second plan"));
        let nowhere = read::<u64>(directory.path()).unwrap_err().to_string();
        assert!(nowhere.contains("name the folder of a series"), "{nowhere}");
    }

    #[test]
    fn two_cannot_write_one_series_and_two_begun_in_one_second_have_a_folder_each() {
        let directory = tempfile::tempdir().unwrap();
        let first = Manifest::begin(directory.path(), &mut header()).unwrap();
        let refused = Manifest::resume::<u64>(first.folder()).unwrap_err().to_string();
        assert!(refused.contains("another ringsock-load"), "{refused}");
        let second = Manifest::begin(directory.path(), &mut header()).unwrap();
        assert_ne!(first.folder(), second.folder());
        drop(first);
        let mut found = second;
        found.found(&7_u64).unwrap();
        assert_eq!(read::<u64>(found.folder()).unwrap().finding, Some(7));
    }
}
