//! Any number of results against each other: what is grouped, refused, left out and marked, how it reads, and how it ends.
//!
//! After a change that is meant, `RINGSOCK_BLESS=1 cargo test --test comparison` rewrites the golden texts; read the diff.

mod common;
#[path = "common/golden.rs"]
mod golden;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use common::sound;
use golden::assert_golden;
use ringsock::compare::assemble::{Request, assemble};
use ringsock::compare::collect::collect;
use ringsock::compare::key;
use ringsock::compare::model::{Bearing, Change, Column, Comparison, Measured};
use ringsock::measure::environment::Clock;
use ringsock::measure::histogram::{Histogram, new_histogram, record_n};
use ringsock::measure::result::{
    Deflate, KernelTls, Mode, Negotiated, Outcome, RunResult, SeriesPart, Status, Tls, Wire,
};
use ringsock::measure::series::Compact;
use ringsock::measure::verdict::Level;
use serde_json::json;

/// What all runs here are made from: a tenth of the messages and of the batches is enough.
static BASE: LazyLock<RunResult> = LazyLock::new(|| {
    let mut result = sound();
    let all = std::mem::take(&mut result.latency).response;
    for slot in all.iter_recorded().filter(|slot| slot.count_at_value() >= 10) {
        record_n(&mut result.latency.response, slot.value_iterated_to(), slot.count_at_value() / 10);
    }
    result.batches.truncate(4);
    result.config = Some(Default::default());
    result
});

fn scaled(histogram: &Histogram, factor: f64) -> Histogram {
    let mut scaled = new_histogram();
    for slot in histogram.iter_recorded() {
        record_n(&mut scaled, (slot.value_iterated_to() as f64 * factor) as u64, slot.count_at_value());
    }
    scaled
}

/// A run on `kernel` in its boot number `boot`, with durations `factor` times those of [`BASE`], but for what boots differ by.
fn run(kernel: &str, boot: u64, factor: f64) -> RunResult {
    let mut result = BASE.clone();
    // Up to half a per cent, scattered, and another for each boot.
    let mixed = (boot + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (kernel.len() as u64 * 0x5851_F42D);
    let factor = factor * (1.0 + 0.005 * ((mixed >> 32) % 1000) as f64 / 1000.0);
    result.latency.response = scaled(&BASE.latency.response, factor);
    for batch in &mut result.batches {
        batch.headline = Compact::of(&scaled(&batch.headline.to_histogram(), factor));
    }
    result.cpu.server_cpu_s = Some(0.96 * factor);
    result.environment.kernel.release = Some(kernel.to_owned());
    result.environment.boot_id = Some(format!("{kernel}-{boot}"));
    result.created = format!("2026-11-22T08:{:02}:00Z", boot);
    result
}

fn engine(mut result: RunResult, engine: &str) -> RunResult {
    result.target.server_engine = Some(engine.to_owned());
    result
}

fn labelled(mut result: RunResult, label: &str) -> RunResult {
    result.series = Some(SeriesPart { name: "s".to_owned(), label: label.to_owned(), round: 0 });
    result
}

fn features(mut result: RunResult, switched: &str) -> RunResult {
    result.config.as_mut().unwrap().insert("server-uring-features".to_owned(), json!(switched));
    result
}

fn secured(mut result: RunResult, cipher_suite: &str) -> RunResult {
    let agreed = |resumed, connections| Negotiated {
        version: "TLS 1.3".to_owned(),
        cipher_suite: cipher_suite.to_owned(),
        resumed,
        connections,
    };
    result.target.tls = Some(Tls {
        trusts: "own".to_owned(),
        kernel: None,
        negotiated: vec![agreed(false, 3), agreed(true, 1)],
    });
    result
}

fn compressed(mut result: RunResult, level: u8) -> RunResult {
    result.plan.filling = Some("json".to_owned());
    result.target.deflate = Some(Deflate {
        server_no_context_takeover: false,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 12,
        generator_level: level,
        generator_threshold_bytes: 64,
        wire: None,
    });
    result
}

fn closed_loop(mut result: RunResult) -> RunResult {
    result.plan.mode = Mode::ClosedLoop { pipeline: 1 };
    result.latency.service = result.latency.response.clone();
    result
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    /// With each result as a file of its own, by number.
    fn of(results: &[RunResult]) -> Folder {
        let folder = Folder::new();
        for (number, result) in results.iter().enumerate() {
            folder.write(&format!("{number:03}.json"), &serde_json::to_string(result).unwrap());
        }
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn save(&self, name: &str, result: &RunResult) -> PathBuf {
        self.write(name, &serde_json::to_string(result).unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Text in which this folder has the same name everywhere.
    fn named(&self, text: &str) -> String {
        text.replace(self.path().to_str().unwrap(), "results")
    }
}

fn compared(folder: &Folder, by: Option<&str>, baseline: Option<&str>) -> Result<Comparison, String> {
    let collected = collect(&[folder.path().to_owned()]).map_err(|error| error.to_string())?;
    let by = by.map(|name| key::named(name).unwrap());
    let request =
        Request { by, baseline: baseline.map(str::to_owned), clock: None, command_line: Vec::new() };
    assemble(collected, &request).map_err(|error| error.to_string())
}

fn labels(comparison: &Comparison) -> Vec<&str> {
    comparison.groups.iter().map(|group| group.label.as_str()).collect()
}

fn shorts(comparison: &Comparison) -> Vec<&str> {
    comparison.cells.iter().map(|cell| cell.short.as_str()).collect()
}

fn measured(comparison: &Comparison, cell: usize, group: usize) -> &Measured {
    comparison.cells[cell].columns[group].measured().expect("it was measured")
}

fn change(comparison: &Comparison, cell: usize, group: usize, metric: &str) -> Change {
    let differences = &measured(comparison, cell, group).differences;
    differences.iter().find(|difference| difference.metric == metric).unwrap().change
}

/// `boots` boots of each kernel, which take `factor` times as long.
fn kernels(kernels: &[(&str, f64)], boots: u64) -> Vec<RunResult> {
    let of = |&(kernel, factor): &(&str, f64)| {
        (0..boots).map(|boot| run(kernel, boot, factor)).collect::<Vec<_>>()
    };
    kernels.iter().flat_map(of).collect()
}

#[test]
fn what_is_secured_otherwise_is_a_difference_of_its_own() {
    let suites = ["TLS13_AES_128_GCM_SHA256", "TLS13_CHACHA20_POLY1305_SHA256"];
    let plain = (0..3).map(|boot| run("6.12", boot, 1.0));
    let others = suites.iter().flat_map(|suite| (3..6).map(|boot| secured(run("6.12", boot, 1.3), suite)));
    let folder = Folder::of(&plain.chain(others).collect::<Vec<_>>());
    let comparison = compared(&folder, None, None).unwrap();
    assert_eq!(
        labels(&comparison),
        ["none", &format!("TLS 1.3 {}", suites[0]), &format!("TLS 1.3 {}", suites[1])]
    );
    let of_tls: Vec<_> =
        comparison.environment.iter().filter(|at| at.field.starts_with("target.tls")).collect();
    assert!(!of_tls.is_empty() && of_tls.iter().all(|at| at.bearing == Bearing::Expected), "{of_tls:?}");
}

#[test]
fn secured_and_plain_runs_are_never_put_together() {
    let runs = |kernel| [run(kernel, 0, 1.0), secured(run(kernel, 1, 1.3), "TLS13_AES_128_GCM_SHA256")];
    let comparison = compared(&Folder::of(&[runs("6.1"), runs("6.12")].concat()), None, None).unwrap();
    assert_eq!(labels(&comparison), ["6.1", "6.12"]);
    assert_eq!(comparison.cells.len(), 2, "{:?}", shorts(&comparison));
}

#[test]
fn compression_is_compared_and_what_compresses_is_other_work() {
    let at = |level, boot| compressed(run("6.12", boot, 1.0 + f64::from(level) / 10.0), level);
    let runs: Vec<_> = [1, 6].into_iter().flat_map(|level| (0..3).map(move |boot| at(level, boot))).collect();
    let comparison = compared(&Folder::of(&runs), None, None).unwrap();
    let said = |level| {
        format!(
            "windows of 15 and 12 bits, the generator each message by itself; the generator's level {level}, from 64 B"
        )
    };
    assert_eq!(labels(&comparison), [said(1), said(6)]);
    let mixed = [runs, (0..3).map(|boot| run("6.12", boot, 1.0)).collect()].concat();
    let comparison = compared(&Folder::of(&mixed), Some("deflate"), None).unwrap();
    assert_eq!(labels(&comparison), ["none", &said(1), &said(6)]);
    assert_eq!(shorts(&comparison), ["random", "json"]);
}

/// Fields that bear so.
fn fields(comparison: &Comparison, bearing: Bearing) -> Vec<&str> {
    let of_bearing = comparison.environment.iter().filter(|difference| difference.bearing == bearing);
    of_bearing.map(|difference| difference.field.as_str()).collect()
}

#[test]
fn counts_that_differ_from_run_to_run_are_no_difference() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.0)], 2);
    for (number, result) in (0_u64..).zip(&mut results) {
        *result = compressed(secured(result.clone(), "TLS13_AES_128_GCM_SHA256"), 1);
        let tls = result.target.tls.as_mut().unwrap();
        // As with --tls-resume: how many tickets came in time is chance, and in some runs none did.
        tls.negotiated[0].connections = 200 - number;
        tls.negotiated[1].connections = number;
        tls.negotiated.retain(|agreed| agreed.connections > 0);
        let handed_over = 200 - number % 2;
        tls.kernel =
            Some(KernelTls { asked: true, connections: 200, handed_over, missed: number % 2, refused: 0 });
        let mut wire = Wire::default();
        (0..1000 + number).for_each(|message| {
            wire.sent.add(true, 1024, 400 + number);
            wire.answers.add(message > number, 1024, 390 + number);
        });
        result.target.deflate.as_mut().unwrap().wire = Some(wire);
    }
    let found = compared(&Folder::of(&results), None, None).unwrap();
    assert_eq!((found.by.as_str(), found.cells.len()), ("kernel", 1));
    let told: Vec<_> = found.environment.iter().map(|difference| difference.field.as_str()).collect();
    assert!(!told.iter().any(|field| field.starts_with("target.")), "{told:?}");
}

#[test]
fn what_the_kernel_did_with_records_tells_runs_apart_and_what_was_asked_of_it_does_not() {
    let at = |handed_over, boot| {
        let mut result = secured(run("6.12", boot, 1.0), "TLS13_AES_128_GCM_SHA256");
        let kernel = KernelTls { asked: true, connections: 64, handed_over, ..KernelTls::default() };
        result.target.tls.as_mut().unwrap().kernel = Some(kernel);
        result
    };
    let mut not_asked = secured(run("6.12", 9, 1.0), "TLS13_AES_128_GCM_SHA256");
    not_asked.target.tls.as_mut().unwrap().kernel =
        Some(KernelTls { connections: 64, ..KernelTls::default() });
    let found =
        compared(&Folder::of(&[at(64, 0), at(32, 1), at(0, 2), not_asked]), Some("tls"), None).unwrap();
    let suite = "TLS 1.3 TLS13_AES_128_GCM_SHA256";
    let said = |more: &str| format!("{suite}{more}");
    assert_eq!(
        labels(&found),
        [suite, &said(", records by the kernel"), &said(", records by the kernel in part")]
    );
    assert_eq!(found.groups[0].runs, 2, "refused is as if it had not been asked for");
    let confounders = fields(&found, Bearing::Confounder);
    assert!(!confounders.iter().any(|field| field.starts_with("target.")), "{confounders:?}");
}

#[test]
fn a_server_that_agreed_and_did_not_compress_is_no_match_for_one_that_did() {
    let mut results: Vec<_> = (0..4).map(|boot| compressed(run("6.12", boot, 1.0), 1)).collect();
    for (index, result) in results.iter_mut().enumerate() {
        let mut wire = Wire::default();
        wire.sent.add(true, 1024, 400);
        wire.answers.add(index >= 2, 1024, if index >= 2 { 390 } else { 1024 });
        result.target.deflate.as_mut().unwrap().wire = Some(wire);
        result.target.server = Some(if index >= 2 { "b" } else { "a" }.to_owned());
    }
    let found = compared(&Folder::of(&results), None, None).unwrap();
    assert_eq!((found.by.as_str(), labels(&found)), ("server", vec!["a", "b"]));
    assert_eq!(fields(&found, Bearing::Confounder)[1..], ["target.deflate.answers"]);
    let difference = found.environment.iter().find(|at| at.field == "target.deflate.answers").unwrap();
    assert_eq!(difference.values, ["none compressed", "all compressed"].map(|said| Some(said.to_owned())));
}

#[test]
fn a_subprotocol_that_only_some_runs_had_is_a_confounder() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.0)], 2);
    results[2..].iter_mut().for_each(|result| result.target.subprotocol = Some("chat".to_owned()));
    let found = compared(&Folder::of(&results), None, None).unwrap();
    assert!(fields(&found, Bearing::Confounder).contains(&"target.subprotocol"), "{:?}", found.environment);
}

#[test]
fn kernels_are_grouped_by_version_and_the_oldest_is_the_baseline() {
    let folder = Folder::of(&kernels(
        &[("6.12.57", 1.0), ("7.2.0-rc1", 0.8), ("5.10.0-35", 1.3), ("6.1.0-40", 1.0)],
        7,
    ));
    let found = compared(&folder, None, None).unwrap();
    assert_eq!((found.by.as_str(), found.baseline), ("kernel", 0));
    assert_eq!(labels(&found), ["5.10.0-35", "6.1.0-40", "6.12.57", "7.2.0-rc1"]);
    assert!(found.groups.iter().all(|group| (group.boots, group.runs) == (7, 7)));
    assert_eq!(shorts(&found), ["echo"]);
    let other = compared(&folder, None, Some("6.12.57")).unwrap();
    let changes = [0, 1, 3].map(|group| change(&other, 0, group, "p50"));
    assert_eq!(changes, [Change::Worse, Change::Noise, Change::Better]);
    assert!(measured(&other, 0, 2).differences.is_empty(), "the baseline differs from nothing");
    let error = compared(&folder, None, Some("6.13")).unwrap_err();
    assert!(error.contains("--baseline 6.13: there is no such kernel, but 5.10.0-35, 6.1.0-40"), "{error}");
}

#[test]
fn whatever_else_differs_makes_cells_and_what_follows_from_the_key_does_not() {
    let mut results = Vec::new();
    for (kernel, revision) in [("6.1", "aaa"), ("6.12", "bbb")] {
        for boot in 0..2 {
            for name in ["epoll", "uring"] {
                let mut result = engine(run(kernel, boot, 1.0), name);
                result.tool.revision = Some(revision.to_owned());
                results.push(labelled(result, &format!("echo {name}")));
            }
            let mut large = engine(run(kernel, boot, 2.0), "uring");
            large.plan.payload_bytes = 65_536;
            large.tool.revision = Some(revision.to_owned());
            results.push(labelled(large, "large"));
        }
    }
    let folder = Folder::of(&results);
    let by_kernel = compared(&folder, None, None).unwrap();
    assert_eq!(shorts(&by_kernel), ["64 B, epoll", "64 B, uring", "64 KiB, uring"]);
    assert_eq!(by_kernel.cells[0].label, "echo, 64 × 64 B, open loop at 20,000/s, epoll");
    assert_eq!(by_kernel.overall[0].cells, 3);
    let revision =
        by_kernel.environment.iter().find(|difference| difference.field == "tool.revision").unwrap();
    assert_eq!((revision.bearing, revision.values[1].as_deref()), (Bearing::Confounder, Some("bbb")));
    let by_engine = compared(&folder, Some("engine"), Some("uring")).unwrap();
    assert_eq!((labels(&by_engine), by_engine.baseline), (vec!["epoll", "uring"], 1));
    let kernels = ["64 B, 6.1", "64 B, 6.12", "64 KiB, 6.1", "64 KiB, 6.12"];
    assert_eq!(shorts(&by_engine), kernels, "labels that name the engine are no condition");
    assert!(matches!(by_engine.cells[2].columns[0], Column::Missing { .. }));
    let error = compared(&folder, Some("features"), None).unwrap_err();
    assert!(
        error.contains("one features, default") && error.contains("kernel, engine, revision, label"),
        "{error}"
    );
}

#[test]
fn what_differs_has_to_be_named_where_it_is_not_one_thing() {
    let results = [
        engine(run("6.1", 0, 1.0), "epoll"),
        engine(run("6.1", 0, 1.0), "uring"),
        features(engine(run("6.1", 0, 1.0), "uring"), "-multishot-recv"),
    ];
    let error = compared(&Folder::of(&results), None, None).unwrap_err();
    assert!(error.contains("differ in engine, features: say with --by"), "{error}");
    let two = Folder::of(&results[..2]);
    assert_eq!(compared(&two, None, None).unwrap().by, "engine");
    let error = compared(&Folder::of(&results[..1]), None, None).unwrap_err();
    assert!(error.contains("differ in nothing"), "{error}");
}

#[test]
fn different_workloads_are_refused_by_the_names_of_their_fields() {
    let mut other = closed_loop(run("6.12", 0, 1.0));
    other.plan.payload_bytes = 1024;
    let error = compared(&Folder::of(&[run("6.1", 0, 1.0), other]), None, None).unwrap_err();
    for part in [
        "no workload in common",
        "payload is 64 B in 6.1; 1 KiB in 6.12",
        "mode is open in 6.1; closed × 1 in 6.12",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("connections"), "{error}");
}

#[test]
fn a_workload_that_only_some_groups_have_is_missing_in_the_others() {
    let results = [run("6.1", 0, 1.0), run("6.12", 0, 1.0), closed_loop(run("6.12", 0, 1.0))];
    let found = compared(&Folder::of(&results), None, None).unwrap();
    let missing =
        found.cells.iter().map(|cell| matches!(cell.columns[0], Column::Missing { .. })).collect::<Vec<_>>();
    assert_eq!(missing, [true, false], "closed loops come first");
    assert!(found.caveats.iter().any(|line| line.starts_with("closed loop")));
}

#[test]
fn invalid_and_unfinished_runs_never_count_and_suspect_ones_are_marked() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.0)], 3);
    results[0].verdict.as_mut().unwrap().level = Level::Suspect;
    let mut invalid = run("6.12", 0, 50.0);
    invalid.verdict.as_mut().unwrap().level = Level::Invalid;
    let mut unfinished = run("6.12", 1, 50.0);
    unfinished.outcome = Outcome { status: Status::Interrupted, reason: Some("SIGINT".to_owned()) };
    results.extend([invalid, unfinished]);
    let folder = Folder::of(&results);
    let found = compared(&folder, None, None).unwrap();
    let (base, other) = (measured(&found, 0, 0), measured(&found, 0, 1));
    assert_eq!((base.runs, base.suspect, base.left_out), (3, 1, 0));
    assert_eq!((other.runs, other.suspect, other.left_out), (3, 0, 2));
    assert_eq!(change(&found, 0, 1, "p50"), Change::TooFew, "three boots of each");
    assert!(other.differences[0].ratio < 1.01, "fifty times as long would show");
    let reasons: Vec<_> = found.sources.iter().filter_map(|source| source.left_out.as_deref()).collect();
    assert_eq!(reasons, ["INVALID", "it did not complete (interrupted): SIGINT"]);
    assert!(found.caveats.iter().any(|line| line.contains("1 run is SUSPECT")), "{:?}", found.caveats);
    let output = program(&folder, &["--strict"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("µs* "), "{}", text(&output.stdout));
}

/// A boot's record with these runs.
fn boot_record(release: &str, runs: serde_json::Value) -> String {
    json!({ "schema": "ringsock-boot/1", "kernel": { "release": release, "source": "x.deb", "sha256": "0" },
        "seed": 1, "ordinal": 0, "clock": "real", "vcpus": 1, "memory_mib": 512, "command_line": "quiet",
        "runs": runs })
    .to_string()
}

#[test]
fn a_boots_record_says_which_boot_it_was_and_what_it_could_not_run() {
    let folder = Folder::new();
    for (kernel, boot) in [("5.10", 0), ("5.10", 1), ("6.1", 0), ("6.1", 1)] {
        // Of all boots the kernel's name is the same: the record decides.
        let unnamed = |mut result: RunResult| {
            result.environment.boot_id = Some("the same".to_owned());
            result.environment.kernel.release = Some(kernel.to_owned());
            result
        };
        let name = |file: &str| format!("{kernel}/{boot}/{file}.json");
        folder.save(&name("a"), &unnamed(engine(run(kernel, boot, 1.0), "epoll")));
        if kernel == "6.1" {
            folder
                .save(&name("b"), &unnamed(labelled(engine(run(kernel, boot, 1.0), "uring"), "echo uring")));
        }
        let uring = match kernel {
            "6.1" => json!({ "label": "echo uring", "file": "b.json", "status": "done", "reason": null }),
            _ => {
                json!({ "label": "echo uring", "file": null, "status": "unavailable", "reason": "5.10 lacks buffer rings" })
            }
        };
        let epoll = json!({ "label": "echo epoll", "file": "a.json", "status": "done", "reason": null });
        folder.write(&name("boot"), &boot_record(kernel, json!([epoll, uring])));
    }
    folder.write("series/manifest.json", r#"{"schema": "ringsock-series/1"}"#);
    folder.write("notes.json", "[1, 2");
    let found = compared(&folder, None, None).unwrap();
    assert_eq!(found.groups.iter().map(|group| group.boots).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(shorts(&found), ["epoll", "uring"]);
    assert_eq!(
        found.cells[1].columns[0],
        Column::Unavailable { reason: "5.10 lacks buffer rings".to_owned() }
    );
    assert_eq!(measured(&found, 1, 1).boots, 2);
    let output = program(&folder, &["--fail-if", "p99>+5%"]);
    assert!(
        text(&output.stdout).contains("n/a on 5.10: 5.10 lacks buffer rings (uring)"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(
        output.status.code(),
        Some(0),
        "what cannot be had is no regression: {}",
        text(&output.stderr)
    );
    folder.write("6.1/0/boot.json", r#"{"schema": "ringsock-boot/1", "kernel": 3}"#);
    let error = compared(&folder, None, None).unwrap_err();
    assert!(error.contains("6.1/0/boot.json cannot be used"), "{error}");
}

#[test]
fn without_a_word_on_boots_a_kernel_is_one_boot_and_that_is_said() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.5)], 3);
    results.iter_mut().for_each(|result| result.environment.boot_id = None);
    let found = compared(&Folder::of(&results), None, None).unwrap();
    assert!(found.groups.iter().all(|group| (group.boots, group.runs) == (1, 3)));
    let difference = &measured(&found, 0, 1).differences[0];
    assert_eq!((difference.interval, difference.p, difference.change), (None, None, Change::TooFew));
    assert!(
        found.caveats.iter().any(|line| line.contains("of 6.1, 6.12 do not say which boot")),
        "{:?}",
        found.caveats
    );
}

#[test]
fn instructions_are_never_compared_with_time() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.0)], 1);
    results[1].environment.clock = Clock::Instructions;
    let folder = Folder::of(&results);
    let error = compared(&folder, None, None).unwrap_err();
    assert!(
        error.contains("001.json counts instructions") && error.contains("000.json real time"),
        "{error}"
    );
    assert_eq!(program(&folder, &[]).status.code(), Some(2));
    // Those of one clock alone are comparable, if there are enough.
    let time = kernels(&[("6.6", 1.0)], 1);
    fs::write(folder.path().join("002.json"), serde_json::to_vec(&time[0]).unwrap()).unwrap();
    let output = program(&folder, &["--clock", "real"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("6.6") && !text.contains("6.12"), "{output:?}");
    let alone = program(&folder, &["--clock", "instructions"]);
    assert_eq!(alone.status.code(), Some(3), "{alone:?}");
}

#[test]
fn a_boot_that_repeats_another_exactly_tells_nothing_new() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.5)], 3);
    results.push(RunResult { environment: results[1].environment.clone(), ..results[0].clone() });
    results.push(results[0].clone());
    results[7].environment.boot_id = Some("another".to_owned());
    results.remove(6);
    results.iter_mut().for_each(|result| result.environment.clock = Clock::Instructions);
    let found = compared(&Folder::of(&results), None, None).unwrap();
    assert_eq!((found.groups[0].boots, found.groups[0].runs), (3, 3));
    let reason = found.sources[6].left_out.as_deref().unwrap();
    assert!(reason.contains("a replay of") && reason.contains("000.json"), "{reason}");
}

#[test]
fn a_damaged_result_is_an_error_that_names_it() {
    let folder = Folder::of(&kernels(&[("6.1", 1.0), ("6.12", 1.0)], 1));
    let good = fs::read_to_string(folder.path().join("000.json")).unwrap();
    let damaged = folder.write("deep/down/bad.json", &good[..good.len() / 2]);
    let output = program(&folder, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(damaged.to_str().unwrap()), "{}", text(&output.stderr));
    let empty = Folder::new();
    let output = program(&empty, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}

#[test]
fn the_environment_is_told_with_what_each_difference_means() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.0)], 2);
    for (index, result) in results.iter_mut().enumerate() {
        let environment = &mut result.environment;
        let on_new = index >= 2;
        environment.hostname = Some(format!("guest-{index}"));
        environment.cpu.governor = Some(if on_new { "powersave" } else { "performance" }.to_owned());
        environment.memory_total_bytes = Some(1_000_000_000 + 1_000_000 * u64::from(on_new));
        environment.kernel.version =
            Some(format!("#1 of {}", environment.kernel.release.as_deref().unwrap()));
        let mitigation = if on_new { "Mitigation: B" } else { "Mitigation: A" };
        environment.cpu.vulnerabilities.insert("spectre_v2".to_owned(), mitigation.to_owned());
        environment
            .sysctls
            .insert("net.core.busy_poll".to_owned(), Some(if on_new { "50" } else { "0" }.to_owned()));
        environment.kernel.command_line = Some(format!("BOOT_IMAGE=/boot/{index} quiet"));
        if on_new {
            environment
                .cpu
                .vulnerabilities
                .insert("gather_data_sampling".to_owned(), "Not affected".to_owned());
            environment.sysctls.insert("kernel.io_uring_group".to_owned(), Some("-1".to_owned()));
            result.io_uring.as_mut().unwrap().features.insert("napi".to_owned(), true);
            result.config.as_mut().unwrap().insert("spin".to_owned(), json!(true));
        }
        result.plan.seed = index as u64;
    }
    let found = compared(&Folder::of(&results), None, None).unwrap();
    let fields = |bearing| fields(&found, bearing);
    assert_eq!(
        fields(Bearing::Confounder),
        [
            "config.spin",
            "environment.cpu.governor",
            "environment.cpu.vulnerabilities.spectre_v2",
            "environment.sysctls.net.core.busy_poll"
        ]
    );
    assert_eq!(
        fields(Bearing::Expected),
        [
            "environment.cpu.vulnerabilities.gather_data_sampling",
            "environment.kernel.release",
            "environment.kernel.version",
            "environment.memory_total_bytes",
            "environment.sysctls.kernel.io_uring_group",
            "io_uring.features.napi",
        ]
    );
    assert_eq!(
        fields(Bearing::Harmless),
        ["environment.boot_id", "environment.hostname", "environment.kernel.command_line", "plan.seed"]
    );
    let governor = &found.environment[1];
    assert_eq!(governor.values, [Some("performance".to_owned()), Some("powersave".to_owned())]);
}

#[test]
fn groups_that_were_measured_one_after_the_other_are_told() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.0)], 2);
    for (index, result) in results.iter_mut().enumerate() {
        result.created = format!("2026-11-22T08:{index:02}:00Z");
    }
    let bearing = |results: &[RunResult]| {
        let found = compared(&Folder::of(results), None, None).unwrap();
        found
            .environment
            .iter()
            .find(|difference| difference.field == "created")
            .map(|difference| difference.bearing)
    };
    assert_eq!(bearing(&results), Some(Bearing::Confounder));
    results[3].created = "2026-11-22T08:00:30Z".to_owned();
    assert_eq!(bearing(&results), Some(Bearing::Harmless));
}

#[test]
fn features_make_a_grid_of_effects_and_interactions() {
    let mut results = Vec::new();
    for boot in 0..5 {
        for (kernel, costs) in [("6.1", 1.1), ("6.12", 1.3)] {
            results.push(labelled(run(kernel, boot, 1.0), "plain"));
            results.push(labelled(features(run(kernel, boot, costs), "-multishot-recv"), "without"));
        }
    }
    let found = compared(&Folder::of(&results), None, None).unwrap();
    assert_eq!(shorts(&found), ["default", "-multishot-recv"]);
    let grid = found.grid.as_ref().unwrap();
    let table = grid.tables.iter().find(|table| table.metric == "p50").unwrap();
    let [row] = &table.rows[..] else { panic!("{table:?}") };
    assert_eq!((table.reference.as_str(), row.value.as_str()), ("default", "-multishot-recv"));
    let near = |effect: &Option<ringsock::compare::model::Effect>, ratio: f64| {
        let effect = effect.as_ref().unwrap();
        assert!((effect.ratio / ratio - 1.0).abs() < 0.01, "{effect:?} is not {ratio}");
        effect.change
    };
    assert_eq!(near(&row.effects[0], 1.1), Change::Worse);
    assert_eq!(near(&row.effects[1], 1.3), Change::Worse);
    assert_eq!(near(&row.main, (1.1_f64 * 1.3).sqrt()), Change::Worse);
    assert_eq!((row.interactions[0].is_none(), near(&row.interactions[1], 1.3 / 1.1)), (true, Change::Worse));
}

#[test]
fn maps_of_a_cell_have_the_same_rows_and_hold_every_answer_of_their_run() {
    let found = compared(&Folder::of(&kernels(&[("6.1", 1.0), ("6.12", 1.4)], 2)), None, None).unwrap();
    let maps = [0, 1].map(|group| measured(&found, 0, group).heatmap.as_ref().unwrap());
    assert_eq!(maps[0].edges_ns, maps[1].edges_ns);
    let answers: u64 = BASE.batches.iter().map(|batch| batch.headline.len()).sum();
    for map in maps {
        assert_eq!(map.columns.iter().flat_map(|column| &column.counts).sum::<u64>(), answers);
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn program(folder: &Folder, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-compare"));
    command.args(flags).arg(folder.path()).output().unwrap()
}

#[test]
fn a_gate_ends_in_the_status_that_says_what_it_found() {
    let folder = Folder::of(&kernels(&[("6.1", 1.0), ("6.12", 1.2)], 5));
    let status = |flags: &[&str]| {
        let output = program(&folder, flags);
        (output.status.code().unwrap(), text(&output.stderr).to_owned())
    };
    let (code, says) = status(&["--fail-if", "p50>+5%"]);
    assert!(code == 1 && says.contains("REGRESSION: 6.12, echo"), "{code}: {says}");
    assert!(says.contains("p50>+5%: ruled out in 0 of 1 pair\n"), "{says}");
    assert_eq!(status(&["--fail-if", "p50>+50%"]).0, 0);
    assert_eq!(status(&["--fail-if", "cpu>+50%", "--fail-if", "p99>+50%"]).0, 0);
    assert_eq!(status(&["--fail-if", "rate<-3%"]).0, 3, "the rate of an open loop was asked for");
    let few = Folder::of(&kernels(&[("6.1", 1.0), ("6.12", 1.2)], 3));
    let said = program(&few, &["--fail-if", "p50>+5%", "--undecided", "fail"]).status.code();
    assert_eq!(said, Some(5), "three boots are sure of nothing");
    // What was seen lies in its own interval.
    let ratio = measured(&compared(&folder, None, None).unwrap(), 0, 1).differences[0].ratio;
    let seen = format!("p50>{:+.3}%", 100.0 * (ratio - 1.0));
    let (code, says) = status(&["--fail-if", &seen]);
    assert!(code == 0 && says.contains("cannot tell: 6.12"), "{code}: {says}");
    assert_eq!(status(&["--fail-if", &seen, "--undecided", "fail"]).0, 5);
    assert_eq!(status(&["--fail-if", "p42>+5%"]).0, 2);
    assert_eq!(status(&["--fail-if", "p50"]).0, 2);
    assert_eq!(status(&["--undecided", "fail"]).0, 2, "it says nothing without a condition");
    assert_eq!(status(&["--strict", "--fail-if", "p50>+5%"]).0, 1, "nothing is suspect here");
}

#[test]
fn a_gate_without_the_numbers_it_asks_for_fails() {
    let mut results = kernels(&[("6.1", 1.0), ("6.12", 1.0)], 2);
    results.iter_mut().for_each(|result| result.cpu.server_cpu_s = None);
    let folder = Folder::of(&results);
    assert_eq!(program(&folder, &["--fail-if", "server-cpu>+5%"]).status.code(), Some(3));
    for result in &mut results[2..] {
        result.verdict.as_mut().unwrap().level = Level::Invalid;
    }
    assert_eq!(program(&Folder::of(&results), &[]).status.code(), Some(4), "one side is INVALID");
    results.iter_mut().for_each(|result| result.verdict.as_mut().unwrap().level = Level::Invalid);
    assert_eq!(program(&Folder::of(&results), &[]).status.code(), Some(4), "all are");
    assert_eq!(
        program(&Folder::of(&[run("6.1", 0, 1.0)]), &[]).status.code(),
        Some(3),
        "nothing to compare with"
    );
}

/// Four kernels, three engines on those that have them, two scenarios, a confounder and a run that does not count.
fn full_series() -> Folder {
    let folder = Folder::new();
    for boot in 0..8 {
        for (kernel, small, large) in [
            ("5.10.0-35-cloud-amd64", 1.2, 1.0),
            ("6.1.0-40-cloud-amd64", 1.0, 1.0),
            ("6.12.57", 0.9, 1.001),
            ("7.2.0-rc3", 0.9, 1.08),
        ] {
            let directory = format!("{kernel}/{boot}");
            let mut runs = Vec::new();
            for name in ["epoll", "tokio-uring", "uring"] {
                for (scenario, factor) in [("small", small), ("large", large)] {
                    let label = format!("{scenario} {name}");
                    if kernel.starts_with("5.10") && name != "epoll" {
                        runs.push(json!({ "label": label, "file": null, "status": "unavailable",
                            "reason": format!("{name} needs Linux 5.19") }));
                        continue;
                    }
                    let mut result = engine(run(kernel, boot, factor * (2.0 + name.len() as f64)), name);
                    if scenario == "large" {
                        result.plan.payload_bytes = 65_536;
                    }
                    if kernel == "7.2.0-rc3" {
                        result.environment.cpu.governor = Some("powersave".to_owned());
                        result.verdict.as_mut().unwrap().level = Level::Suspect;
                    }
                    if kernel == "6.12.57" && boot == 3 && name == "uring" {
                        result.verdict.as_mut().unwrap().level = Level::Invalid;
                    }
                    let file = format!("{}.json", label.replace(' ', "-"));
                    folder.save(&format!("{directory}/{file}"), &labelled(result, &label));
                    runs.push(json!({ "label": label, "file": file, "status": "done", "reason": null }));
                }
            }
            folder.write(&format!("{directory}/boot.json"), &boot_record(kernel, runs.into()));
        }
    }
    folder
}

#[test]
fn a_whole_series_reads_as_golden_and_fits_a_terminal() {
    let folder = full_series();
    let output = program(&folder, &[]);
    let terminal = folder.named(text(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_golden("comparison.txt", &terminal);
    let wide: Vec<_> = terminal.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    let output = program(&folder, &["--format", "markdown"]);
    assert_golden("comparison.md", &folder.named(text(&output.stdout)));
    let page = folder.path().join("report.html");
    let output = program(&folder, &["--format", "html", "--output", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = fs::read_to_string(page).unwrap();
    let parts = ["<!doctype html>", "5.10.0-35-cloud-amd64", "7.2.0-rc3", "tokio-uring needs Linux 5.19"];
    assert!(parts.iter().all(|part| page.to_lowercase().contains(&part.to_lowercase())), "{}", &page[..500]);
}

#[test]
fn a_comparison_as_json_is_the_comparison() {
    let folder = Folder::of(&kernels(&[("6.1", 1.0), ("6.12", 1.2)], 2));
    let file = folder.path().join("comparison.out");
    let flags = ["--format", "json", "--output", file.to_str().unwrap()];
    let output = program(&folder, &flags);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""), "{}", text(&output.stderr));
    let read: Comparison = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut made = compared(&folder, None, None).unwrap();
    (made.created, made.command_line) = (read.created.clone(), read.command_line.clone());
    assert!(read == made, "the file holds another comparison");
    let again = program(&folder, &flags);
    assert_eq!(again.status.code(), Some(2), "a file that is there is never overwritten");
    assert!(text(&again.stderr).contains("is there already"), "{}", text(&again.stderr));
}

#[test]
fn go_benchmark_text_has_the_key_and_a_line_for_every_run_that_counts() {
    let mut results = Vec::new();
    for boot in 0..2 {
        for kernel in ["6.1", "6.12"] {
            results.push(engine(run(kernel, boot, 1.0), "uring"));
            results.push(engine(run(kernel, boot, 1.0), "epoll"));
        }
    }
    results[0].verdict.as_mut().unwrap().level = Level::Invalid;
    let folder = Folder::of(&results);
    let output = program(&folder, &["--by", "engine", "--format", "gobench"]);
    let written = text(&output.stdout);
    assert_eq!(written.lines().filter(|line| line.starts_with("Benchmark")).count(), 7, "{written}");
    let mut engine = "";
    let mut engines = Vec::new();
    for line in written.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(benchmark) = line.strip_prefix("Benchmark") {
            let fields: Vec<_> = benchmark.split_whitespace().collect();
            assert!(fields.len() % 2 == 0 && fields[1].parse::<u64>().is_ok(), "{line}");
            assert!(fields[2..].chunks(2).all(|pair| pair[0].parse::<f64>().is_ok()), "{line}");
            engines.push(engine);
        } else if !line.starts_with("Unit ") {
            let (key, value) = line.split_once(':').unwrap();
            assert!(key.starts_with(|c: char| c.is_ascii_lowercase()) && !key.contains(' '), "{line}");
            engine = if key == "engine" { value.trim() } else { engine };
        }
    }
    assert_eq!(engines, ["epoll", "epoll", "epoll", "epoll", "uring", "uring", "uring"]);
}
