//! Result files, and what is made from them: written whole or not at all, never over another, and read with suspicion.
//!
//! Invariant: a file of a finished name is complete and on disk, and is never touched again. Two processes
//! that finish in the same second both keep their result.
//! Deliberately absent: any search, index or clean-up of old results. They are files; `ls` and `rm` know them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::result::{RunResult, SCHEMA, SCHEMA_NAME, SCHEMA_VERSION};

/// Why a result could not be saved or loaded. Each says which file, what happened and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The result is not on disk.
    #[error("cannot save a result at {}: {source}; {}", .path.display(), write_mend(.source))]
    Write {
        /// What was being made or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name is taken by a file that holds something else, and stays as it was.
    #[error("{} is there already and holds something else; move it away, or delete it", .path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read at all.
    #[error("cannot read result {}: {source}; {}", .path.display(), read_mend(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends before the result does.
    #[error("result {} is cut off after {bytes} bytes; copy it again, or repeat the run", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// All there is of it.
        bytes: usize,
    },
    /// Complete, but not a result.
    #[error("{} is not a ringsock result: {cause}; name a file that ringsock-load saved", .path.display())]
    NotAResult {
        /// The file.
        path: PathBuf,
        /// What it is instead, or where it stops making sense.
        cause: String,
    },
    /// A result of this version by its own word, but not by its content.
    #[error("result {} is damaged: {cause}; copy it again, or repeat the run", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        cause: String,
    },
    /// A result in a version of the schema that this program doesn't read.
    #[error("result {} has schema {found}, but this ringsock {} reads {SCHEMA}; {}", .path.display(),
        env!("CARGO_PKG_VERSION"), version_mend(found))]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// What its `schema` field says.
        found: String,
    },
}

fn write_mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a results directory that this user may write to"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space or choose another directory"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where a directory should: choose another results directory"
        }
        _ => "check the results directory or choose another",
    }
}

fn read_mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "check the name; results are saved as <results>/<kernel release>/<time>-<scenario>.json"
        }
        io::ErrorKind::PermissionDenied => "ask its owner, or read it as a user who may",
        io::ErrorKind::IsADirectory => "name one of the .json files in it",
        _ => "check the file and the disk it is on",
    }
}

fn version_mend(found: &str) -> &'static str {
    match schema_version(found) {
        Some(version) if version > SCHEMA_VERSION => "read it with the newer ringsock that wrote it",
        _ => "read it with the ringsock that wrote it",
    }
}

fn schema_version(schema: &str) -> Option<u64> {
    schema.strip_prefix(SCHEMA_NAME)?.parse().ok()
}

/// Saves to `<directory>/<kernel release>/<UTC time>-<scenario>.json` and returns that path, with `-2`, `-3` …
/// before `.json` where the name was taken. When this returns, the file has reached the disk.
pub fn save(directory: &Path, result: &RunResult) -> Result<PathBuf, StoreError> {
    save_in(&directory.join(kernel_directory(result)), result)
}

/// Saves as [`save`] does, to `<directory>/<UTC time>-<scenario>.json`.
pub fn save_in(directory: &Path, result: &RunResult) -> Result<PathBuf, StoreError> {
    save_as(directory, &file_stem(result), "json", &json(result))
}

/// As it is written: indented, and ending in a newline.
pub(super) fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("what is saved is plain data");
    text.push('\n');
    text
}

/// Saves `text` to `<directory>/<stem>.<extension>` and returns that path, with `-2`, `-3` … before the dot where the
/// name was taken. When this returns, the file has reached the disk.
///
/// # Errors
/// [`StoreError::Write`].
pub(super) fn save_as(
    directory: &Path,
    stem: &str,
    extension: &str,
    text: &str,
) -> Result<PathBuf, StoreError> {
    fs::create_dir_all(directory).map_err(write_error(directory))?;
    let stem = path_component(stem, "unnamed");
    for number in 1_u32.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = directory.join(format!("{stem}{suffix}.{extension}"));
        match publish(&path, text.as_bytes()) {
            Ok(()) => return Ok(path),
            Err(StoreError::Taken { .. }) => continue,
            Err(error) => return Err(error),
        }
    }
    unreachable!("a directory holds fewer than 2^32 names")
}

/// Writes a file whole, under a name that is free. When this returns, it has reached the disk.
///
/// # Errors
/// [`StoreError::Taken`] where there is a file of this name, whatever it holds; [`StoreError::Write`].
pub fn publish(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = Temporary::create(directory)?;
    temporary.fill(bytes)?;
    temporary.publish(path)?;
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(write_error(directory))
}

/// As [`publish`], but content with a file that holds these very bytes already.
///
/// # Errors
/// [`StoreError::Taken`] where it holds others; [`StoreError::Write`].
pub fn publish_once(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    match publish(path, bytes) {
        Err(StoreError::Taken { .. }) if fs::read(path).is_ok_and(|there| there == bytes) => Ok(()),
        other => other,
    }
}

/// Makes a folder of its own for several results, `<directory>/<kernel release>/<UTC time>-<kind>`, with `-2`, `-3` …
/// where the name was taken.
///
/// # Errors
/// [`StoreError::Write`].
pub fn new_folder(directory: &Path, release: &str, created: &str, kind: &str) -> Result<PathBuf, StoreError> {
    let directory = directory.join(path_component(release, "unknown-kernel"));
    fs::create_dir_all(&directory).map_err(write_error(&directory))?;
    for number in 1_u32.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let folder = directory.join(format!("{}-{kind}{suffix}", stamp(created)));
        match fs::create_dir(&folder) {
            Ok(()) => {
                let synced = File::open(&directory).and_then(|directory| directory.sync_all());
                return synced.map(|()| folder).map_err(write_error(&directory));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(write_error(&folder)(error)),
        }
    }
    unreachable!("a directory holds fewer than 2^32 names")
}

/// Makes the directory and sees whether results can be saved below it, before a run is made for nothing.
///
/// # Errors
/// [`StoreError::Write`].
pub fn prepare(directory: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(directory).map_err(write_error(directory))?;
    Temporary::create(directory).map(drop)
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Write { path, source }
}

fn kernel_directory(result: &RunResult) -> String {
    path_component(result.environment.kernel.release.as_deref().unwrap_or_default(), "unknown-kernel")
}

/// Such as `20261122T080433Z-echo`.
fn file_stem(result: &RunResult) -> String {
    format!("{}-{}", stamp(&result.created), path_component(&result.plan.scenario, "run"))
}

/// A time as file names have it.
fn stamp(created: &str) -> String {
    let time: String = created.chars().filter(char::is_ascii_alphanumeric).collect();
    path_component(&time, "undated")
}

/// `text` as one name in a directory: short, no separators, nothing hidden, nothing a shell would mind.
fn path_component(text: &str, if_empty: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '~');
    let name: String = text.chars().take(100).map(|c| if allowed(c) { c } else { '_' }).collect();
    let name = name.trim_start_matches(['.', '-', '~']);
    if name.is_empty() { if_empty.to_owned() } else { name.to_owned() }
}

/// A file being written under a name that nobody mistakes for a result; gone when dropped.
struct Temporary {
    path: PathBuf,
    file: File,
    /// Whether the temporary name is given up, and may by now be somebody else's.
    is_published: bool,
}

impl Temporary {
    /// In the directory of the final name, since a rename can't cross file systems.
    fn create(directory: &Path) -> Result<Temporary, StoreError> {
        for attempt in 0_u32.. {
            let path = directory.join(format!(".{}-{attempt}.tmp", std::process::id()));
            match File::create_new(&path) {
                Ok(file) => return Ok(Temporary { path, file, is_published: false }),
                // Another thread's, or left by a process that was killed and had this id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(write_error(&path)(error)),
            }
        }
        unreachable!("a directory holds fewer than 2^32 names")
    }

    fn fill(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_all());
        written.map_err(write_error(&self.path))
    }

    /// Gives the file its name, if that is free.
    fn publish(mut self, path: &Path) -> Result<(), StoreError> {
        match rename_to_free_name(&self.path, path) {
            Ok(()) => self.is_published = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Taken { path: path.to_owned() });
            }
            Err(error) => return Err(write_error(path)(error)),
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_published {
            // If it can't go, there is no one left to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames, or fails with `AlreadyExists`: looking first and renaming after would race with another process.
fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without RENAME_NOREPLACE (NFS for one) say EINVAL; a hard link doesn't replace either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => other.map_err(io::Error::from),
    }
}

/// Reads a result of this version. Fields it doesn't know are ignored; any damage is an error, never a panic.
pub fn load(path: &Path) -> Result<RunResult, StoreError> {
    parse(path, &read(path)?)
}

/// All bytes of a file that may be a result.
pub fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|source| StoreError::Read { path: path.to_owned(), source })
}

/// [`load`] of bytes that were read from `path`.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<RunResult, StoreError> {
    #[derive(Deserialize)]
    struct Head {
        schema: Option<serde_json::Value>,
    }
    let path = path.to_owned();
    // The version decides whether the rest can be understood, so it is read first and alone.
    let head: Head = match serde_json::from_slice(bytes) {
        Ok(head) => head,
        Err(error) if error.is_eof() || is_unclosed_object(bytes) => {
            return Err(StoreError::Truncated { path, bytes: bytes.len() });
        }
        Err(error) => return Err(StoreError::NotAResult { path, cause: error.to_string() }),
    };
    let schema = match head.schema {
        Some(serde_json::Value::String(schema)) if schema.starts_with(SCHEMA_NAME) => schema,
        Some(other) => return Err(StoreError::NotAResult { path, cause: format!("its schema is {other}") }),
        None => return Err(StoreError::NotAResult { path, cause: "it has no schema field".to_owned() }),
    };
    if schema != SCHEMA {
        return Err(StoreError::OtherVersion { path, found: schema });
    }
    serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged { path, cause: error.to_string() })
}

/// A text cut off inside a number (`10.`) isn't always reported as ended too early.
fn is_unclosed_object(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii();
    bytes.starts_with(b"{") && !bytes.ends_with(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_system_can_lead_a_file_out_of_its_directory() {
        for (text, expected) in [
            ("6.12.1-amd64+deb13", "6.12.1-amd64+deb13"),
            ("../../etc", "_.._etc"),
            ("..", "none"),
            (".hidden", "hidden"),
            ("-rf x\n\0/é", "rf_x____"),
            ("", "none"),
        ] {
            assert_eq!(path_component(text, "none"), expected);
        }
        assert_eq!(path_component(&"k".repeat(1000), "none").len(), 100);
    }

    #[test]
    fn a_taken_name_is_refused_by_rename_and_by_link() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert_eq!(rename_to_free_name(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::hard_link(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&to).unwrap(), "old");
    }

    #[test]
    fn a_temporary_file_that_is_not_published_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut temporary = Temporary::create(directory.path()).unwrap();
        temporary.fill(b"half a resu").unwrap();
        drop(temporary);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
