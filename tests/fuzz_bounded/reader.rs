//! What holds of the readers of files for any bytes at all: results, manifests of series, calibrations, records of boots and
//! other tools' histograms. Damage is an error that reads well, never a panic; what was read can be judged and shown, and written
//! and read back it is the same. Used by the fuzz target and by `tests/fuzz.rs`.
//!
//! The last of the input's bytes but one chooses the reader.

use std::path::Path;

use ringsock::compare::collect::{BOOT_FILE, CollectError, collect};
use ringsock::compare::sample;
use ringsock::measure::calibration::Calibration;
use ringsock::measure::manifest::{self, ManifestError};
use ringsock::measure::result::RunResult;
use ringsock::measure::store::{self, StoreError};
use ringsock::measure::verdict::judge;
use ringsock::report::{Style, import, terminal};

/// A finding has the shape of its series; the reader of manifests is given any.
type Contents = manifest::Contents<serde_json::Value>;

/// Panics when `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let Some((bytes, &[kind, _])) = data.split_last_chunk::<2>() else { return };
    match kind % 8 {
        0..=3 => result(bytes),
        4 => series(bytes),
        5 => calibration(bytes),
        6 => boot(bytes),
        _ => foreign(bytes),
    }
}

/// An error has a cause, and fits a terminal: what is quoted of the file is bounded.
fn reads_well(error: &dyn std::error::Error, bytes: &[u8]) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 2000 + 8 * bytes.len(), "{text}");
}

fn result(bytes: &[u8]) {
    let path = Path::new("a.json");
    let read = match store::parse(path, bytes) {
        Ok(result) => result,
        Err(error) => {
            assert!(!matches!(error, StoreError::Read { .. } | StoreError::Write { .. }));
            return reads_well(&error, bytes);
        }
    };
    let again = serde_json::to_vec(&read).expect("what was read can be written");
    assert_eq!(store::parse(path, &again).expect("what was written can be read"), read);
    is_of_use(&read);
}

/// What programs make of a result.
fn is_of_use(result: &RunResult) {
    let verdict = judge(result);
    assert!(verdict.findings.iter().all(|finding| !finding.says.is_empty()));
    sample::Run::of(result);
    assert!(!terminal::render(result, Style::PLAIN).is_empty());
}

fn series(bytes: &[u8]) {
    let path = Path::new("manifest.jsonl");
    let parse = |bytes: &[u8]| -> Result<(Contents, usize), ManifestError> { manifest::parse(path, bytes) };
    match parse(bytes) {
        Err(error) => reads_well(&error, bytes),
        Ok((contents, sound_bytes)) => {
            assert!(bytes[..sound_bytes].ends_with(b"\n"), "what is kept are whole lines");
            // Cut to what is sound, as `--resume` does, it says the same.
            let (again, again_bytes) = parse(&bytes[..sound_bytes]).expect("it was sound");
            assert_eq!((again, again_bytes), (contents, sound_bytes));
        }
    }
}

fn calibration(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<Calibration>(bytes) else { return };
    let again = serde_json::to_vec(&read).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<Calibration>(&again).expect("and read again"), read);
    read.cited(Path::new("a.json"));
}

fn boot(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("room for a folder");
    std::fs::write(folder.path().join(BOOT_FILE), bytes).expect("room for a file");
    // There is no result beside it, so the best that can come of it is that nothing is there.
    match collect(&[folder.path().to_owned()]) {
        Err(error @ (CollectError::Empty { .. } | CollectError::Boot { .. })) => reads_well(&error, bytes),
        other => panic!("{other:?}"),
    }
}

fn foreign(bytes: &[u8]) {
    match import::parse(&String::from_utf8_lossy(bytes)) {
        Some(Ok(imported)) => assert!(!imported.histogram.is_empty()),
        Some(Err((line, cause))) => assert!(line > 0 && !cause.is_empty() && cause.len() < 1000, "{cause}"),
        None => {}
    }
}
