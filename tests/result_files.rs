//! Result files as programs meet them: saved by several at once, cut off, damaged, older, newer, and not ours.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{sample, secure_and_compress};
use ringsock::measure::histogram::{Histogram, new_histogram, record};
use ringsock::measure::result::{Latencies, Mode, Outcome, RunResult, SCHEMA, Status, Summary};
use ringsock::measure::store::{StoreError, load, save};
use serde_json::Value;

/// The text of a saved file, and a place to put variants of it.
struct Saved {
    directory: tempfile::TempDir,
    text: String,
}

impl Saved {
    fn new() -> Saved {
        let directory = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(save(directory.path(), &sample()).unwrap()).unwrap();
        Saved { directory, text }
    }

    fn variant(&self, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join("variant.json");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn load_variant(&self, bytes: &[u8]) -> Result<RunResult, StoreError> {
        load(&self.variant(bytes))
    }

    fn replaced(&self, from: &str, to: &str) -> String {
        assert!(self.text.contains(from), "{from}");
        self.text.replacen(from, to, 1)
    }

    /// The error's text, with the directory's own name taken out.
    fn error_of(&self, text: &str) -> String {
        let error = self.load_variant(text.as_bytes()).unwrap_err().to_string();
        error.replace(&self.directory.path().display().to_string(), "DIR")
    }
}

/// The seed of this run's random choices; `RINGSOCK_TEST_SEED` repeats one.
fn seed() -> u64 {
    let seed = std::env::var("RINGSOCK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("RINGSOCK_TEST_SEED={seed}");
    seed
}

fn random_histogram(random: &mut fastrand::Rng) -> Histogram {
    let mut histogram = new_histogram();
    for _ in 0..random.usize(..2_000) {
        // Any magnitude from 0 to past the hour is as likely as any other.
        let bits = random.u32(..64);
        record(&mut histogram, random.u64(..) >> bits);
    }
    histogram
}

#[test]
fn a_result_survives_its_file_whatever_was_measured() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..20 {
        let mut result = sample();
        result.latency = Latencies {
            response: random_histogram(&mut random),
            service: random_histogram(&mut random),
            lag: random_histogram(&mut random),
            connect: random_histogram(&mut random),
            handshake: random_histogram(&mut random),
            tls_handshake: random.bool().then(|| random_histogram(&mut random)),
        };
        result.plan.duration_s = random.f64() * 1e3;
        result.plan.mode = Mode::ClosedLoop { pipeline: random.u64(..) };
        result.outcome =
            Outcome { status: Status::ServerDied, reason: Some("reset \u{1b} \"quoted\"".to_owned()) };
        result.summary =
            Summary::new(&result.plan, &result.accounting, &result.latency, &result.batches, random.f64());
        assert_eq!(load(&save(directory.path(), &result).unwrap()).unwrap(), result);
    }
}

#[test]
fn the_name_tells_kernel_time_and_scenario() {
    let directory = tempfile::tempdir().unwrap();
    let path = save(directory.path(), &sample()).unwrap();
    assert_eq!(path, directory.path().join("6.12.1/20261122T080433Z-echo.json"));
}

#[test]
fn the_first_field_tells_the_version_and_histograms_intervals_and_batches_are_a_line_each() {
    let saved = Saved::new();
    let lines: Vec<_> = saved.text.lines().collect();
    assert_eq!(lines[1], format!(r#"  "schema": "{SCHEMA}","#));
    for name in ["response", "service", "lag", "connect", "handshake"] {
        let start = format!(r#"    "{name}": "HISTFAA"#);
        assert_eq!(lines.iter().filter(|line| line.starts_with(&start)).count(), 1, "{name}");
    }
    // Batches begin the same way.
    let intervals = lines.iter().filter(|line| line.starts_with(r#"    {"start_s":"#));
    assert_eq!(intervals.count(), sample().intervals.len() + sample().batches.len());
    assert!(saved.text.ends_with("}\n"));
}

#[test]
fn results_of_the_same_second_are_all_kept() {
    let directory = tempfile::tempdir().unwrap();
    let save_five = |seed: u64| {
        let save_one = |offset| {
            let mut result = sample();
            result.plan.seed = seed + offset;
            save(directory.path(), &result).unwrap()
        };
        (0..5).map(save_one).collect::<Vec<_>>()
    };
    let paths: BTreeSet<PathBuf> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || save_five(thread * 5))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let seeds: BTreeSet<u64> = paths.iter().map(|path| load(path).unwrap().plan.seed).collect();
    assert_eq!(seeds, (0..20).collect());
    let name = |number| directory.path().join(format!("6.12.1/20261122T080433Z-echo{number}.json"));
    assert!(paths.contains(&name("".to_owned())) && (2..=20).all(|n| paths.contains(&name(format!("-{n}")))));
    assert_eq!(
        fs::read_dir(directory.path().join("6.12.1")).unwrap().count(),
        20,
        "nothing temporary is left"
    );
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let saved = Saved::new();
    let complete = saved.text.trim_end().len();
    // Every length up to the histograms' text and after it; of that text itself, a sample, since it is long.
    for length in
        (0..complete).filter(|length| *length < 3_000 || length % 101 == 0 || complete - length < 3_000)
    {
        let error = saved.load_variant(&saved.text.as_bytes()[..length]).unwrap_err();
        assert!(matches!(error, StoreError::Truncated { bytes, .. } if bytes == length), "{length}: {error}");
    }
    assert_eq!(
        saved.load_variant(&saved.text.as_bytes()[..complete]).unwrap(),
        sample(),
        "the newline is spare"
    );
}

#[test]
fn a_file_with_any_byte_changed_never_panics() {
    let saved = Saved::new();
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..400 {
        let mut bytes = saved.text.clone().into_bytes();
        bytes[random.usize(..saved.text.len())] = random.u8(..);
        // A changed digit is a valid file; what matters here is to come back from everything.
        let _ = saved.load_variant(&bytes);
    }
}

#[test]
fn fields_from_a_later_program_of_the_same_version_are_tolerated() {
    let saved = Saved::new();
    let text = saved.replaced(r#""plan": {"#, r#""weather": {"fair": true}, "plan": { "colour": [1, {}],"#);
    assert_eq!(saved.load_variant(text.as_bytes()).unwrap(), sample());
}

#[test]
fn unreadable_files_are_refused_in_words_that_help() {
    let saved = Saved::new();
    let schema = |text: &str| saved.replaced(SCHEMA, text);
    let program = env!("CARGO_PKG_VERSION");
    for (text, expected) in [
        (
            schema("ringsock-result/2"),
            format!(
                "result DIR/variant.json has schema ringsock-result/2, but this ringsock {program} reads \
                 ringsock-result/1; read it with the newer ringsock that wrote it"
            ),
        ),
        (
            schema("ringsock-result/0"),
            format!(
                "result DIR/variant.json has schema ringsock-result/0, but this ringsock {program} reads \
                 ringsock-result/1; read it with the ringsock that wrote it"
            ),
        ),
        (
            schema("other/1"),
            "DIR/variant.json is not a ringsock result: its schema is \"other/1\"; \
             name a file that ringsock-load saved"
                .to_owned(),
        ),
        (
            "{}".to_owned(),
            "DIR/variant.json is not a ringsock result: it has no schema field; \
             name a file that ringsock-load saved"
                .to_owned(),
        ),
        (
            "hello".to_owned(),
            "DIR/variant.json is not a ringsock result: expected value at line 1 column 1; \
             name a file that ringsock-load saved"
                .to_owned(),
        ),
        (
            saved.text[..100].to_owned(),
            "result DIR/variant.json is cut off after 100 bytes; copy it again, or repeat the run".to_owned(),
        ),
    ] {
        assert_eq!(saved.error_of(&text), expected);
    }
    let damaged = saved.error_of(&saved.replaced("HISTFAA", "HISTFBA"));
    assert!(damaged.starts_with("result DIR/variant.json is damaged: a histogram"), "{damaged}");
    assert!(damaged.ends_with("copy it again, or repeat the run"), "{damaged}");
}

#[test]
fn a_file_older_than_the_record_of_engines_and_kernel_can_still_be_read() {
    let saved = Saved::new();
    let mut json: serde_json::Value = serde_json::from_str(&saved.text).unwrap();
    json.as_object_mut().unwrap().remove("io_uring").unwrap();
    for field in ["engine_reason", "server_engine", "server_engine_features"] {
        json["target"].as_object_mut().unwrap().remove(field).unwrap();
    }
    let mut expected = sample();
    expected.io_uring = None;
    (expected.target.server_engine, expected.target.server_engine_features) = (None, None);
    assert_eq!(saved.load_variant(json.to_string().as_bytes()).unwrap(), expected);
}

#[test]
fn a_file_older_than_verdicts_and_batches_can_still_be_read() {
    let saved = Saved::new();
    let mut json: serde_json::Value = serde_json::from_str(&saved.text).unwrap();
    for field in ["verdict", "batches", "evidence"] {
        json.as_object_mut().unwrap().remove(field).unwrap();
    }
    json["summary"].as_object_mut().unwrap().remove("estimates").unwrap();
    let mut expected = sample();
    (expected.verdict, expected.evidence) = (None, None);
    expected.batches.clear();
    expected.summary.estimates.clear();
    assert_eq!(saved.load_variant(json.to_string().as_bytes()).unwrap(), expected);
}

#[test]
fn what_lay_below_messages_survives_its_file_and_files_older_than_its_counts_can_still_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut result = sample();
    secure_and_compress(&mut result);
    let path = save(directory.path(), &result).unwrap();
    assert_eq!(load(&path).unwrap(), result);

    let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let tls = json["target"]["tls"].as_object_mut().unwrap();
    tls.remove("kernel").unwrap();
    // What was asked for, which no longer says what happened.
    tls.insert("ktls".to_owned(), true.into());
    let deflate = json["target"]["deflate"].as_object_mut().unwrap();
    deflate.remove("wire").unwrap();
    for (now, before) in [("generator_level", "level"), ("generator_threshold_bytes", "threshold_bytes")] {
        let value = deflate.remove(now).unwrap();
        deflate.insert(before.to_owned(), value);
    }
    fs::write(&path, json.to_string()).unwrap();
    result.target.tls.as_mut().unwrap().kernel = None;
    result.target.deflate.as_mut().unwrap().wire = None;
    assert_eq!(load(&path).unwrap(), result);
}

#[test]
fn all_features_of_the_kernel_take_one_line() {
    let line = r#"    "features": {"direct-descriptors":true,"multishot-recv":true,"napi":false}"#;
    assert_eq!(Saved::new().text.lines().filter(|found| *found == line).count(), 1);
}

#[test]
fn a_later_version_is_named_even_if_nothing_else_can_be_understood() {
    let saved = Saved::new();
    let error = saved.load_variant(br#"{"schema": "ringsock-result/9", "plan": 5}"#).unwrap_err();
    assert!(matches!(error, StoreError::OtherVersion { found, .. } if found == "ringsock-result/9"));
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_what_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("results");
    fs::write(&file, "in the way").unwrap();
    let error = save(&file, &sample()).unwrap_err().to_string();
    let expected = format!("cannot save a result at {}: ", file.join("6.12.1").display());
    assert!(error.starts_with(&expected) && error.ends_with("choose another results directory"), "{error}");
    let missing = load(Path::new("no/such.json")).unwrap_err().to_string();
    assert_eq!(
        missing,
        "cannot read result no/such.json: No such file or directory (os error 2); check the name; results are \
         saved as <results>/<kernel release>/<time>-<scenario>.json"
    );
}
