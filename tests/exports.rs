//! Exports as golden texts and as their real readers see them; in `imports`, what other tools wrote.
//!
//! Readers are the Rust crate's log iterator, and through `tests/peers/`: Python's `hdrhistogram`, `prometheus-client` and
//! `hdr-plot`, and Node's `hdr-histogram-js`. plotFiles.html is a page and benchstat a Go program: their rules for a line are
//! written down here, independently of what writes the lines. After a change that is meant,
//! `RINGSOCK_BLESS=1 cargo test --test exports` rewrites the golden texts; read the diff.

mod common;
#[path = "common/foreign.rs"]
mod foreign;
#[path = "common/golden.rs"]
mod golden;
#[path = "exports/imports.rs"]
mod imports;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{sample, secure_and_compress};
use foreign::{Peer, Process};
use golden::assert_golden;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use ringsock::measure::anatomy::{Collector, Moments, Parts};
use ringsock::measure::evidence::{Evidence, ThreadUse};
use ringsock::measure::histogram::{
    self, Histogram, PERCENTILES, decode, encode, new_histogram, percentile_ns, record,
};
use ringsock::measure::result::{Mode, RunResult};
use ringsock::measure::series::{Batch, Compact};
use ringsock::measure::store::{StoreError, save};
use ringsock::measure::verdict::{Finding, Level, Verdict};
use ringsock::report::export::{FORMATS, Format, write_beside};
use ringsock::report::import::{self, Imported};
use serde_json::Value;

fn format(name: &str) -> Format {
    *FORMATS.iter().find(|format| format.name == name).expect("a format of the table")
}

fn exported(name: &str, result: &RunResult) -> String {
    (format(name).render)(result)
}

/// A run with everything that an export can hold: batches that leave three late answers out, two threads, stamps of the
/// server, and a verdict whose words would break every format that does not quote them.
fn full_sample() -> RunResult {
    let mut result = sample();
    secure_and_compress(&mut result);
    let mut shares = [(); 4].map(|()| new_histogram());
    let mut number = 0;
    for slot in result.latency.response.iter_recorded() {
        for _ in 0..slot.count_at_value() {
            shares[if number >= result.latency.response.len() - 3 { 3 } else { number as usize % 3 }]
                .record(slot.value_iterated_to())
                .unwrap();
            number += 1;
        }
    }
    result.batches.clear();
    let lengths_s = [4.0, 4.0, 2.0];
    let mut start_s = 0.0;
    for (histogram, length_s) in shares.iter().zip(lengths_s) {
        let headline = Compact::of(histogram);
        let answered = headline.len();
        result.batches.push(Batch { start_s, length_s, sent: answered + 1, answered, headline });
        start_s += length_s;
    }
    let thread = |cpu, headline| ThreadUse {
        cpu,
        cpu_s: 4.5,
        waited_s: 0.01,
        involuntary_switches: 3,
        voluntary_switches: 1_000,
        major_faults: 0,
        idle_s: None,
        headline,
    };
    let mut second = result.latency.response.clone();
    second.subtract(&shares[0]).unwrap();
    let threads = vec![thread(1, shares[0].clone()), thread(3, second)];
    result.evidence = Some(Evidence { threads, ..Evidence::default() });
    let mut collector = Collector::default();
    for n in 0..1_000 {
        let answered_ns = n + 12_000 + n % 100;
        collector.add(Parts::of(&Moments {
            intended_ns: n,
            sent_ns: n + 150,
            arrived_ns: None,
            seen_ns: n + 6_000,
            queued_ns: n + 8_000,
            returned_ns: None,
            answered_ns,
            read_ns: answered_ns,
        }));
    }
    result.anatomy = collector.finish();
    let finding =
        |level, check: &str, says: &str| Finding { level, check: check.to_owned(), says: says.to_owned() };
    result.verdict = Some(Verdict {
        level: Level::Suspect,
        findings: vec![
            finding(Level::Trusted, "rate", "99.99 % of the rate asked for"),
            finding(Level::Suspect, "generator-lag", "p99 of 15.0 µs, \"bound\" 10 µs, at C:\\x"),
            finding(Level::Suspect, "payloads", "1,200 were wrong\nsee the server's log"),
        ],
    });
    result
}

fn invalid_sample() -> RunResult {
    let mut result = full_sample();
    result.verdict.as_mut().unwrap().level = Level::Invalid;
    result
}

/// As an older program left it: in one piece, and without a verdict.
fn old_sample() -> RunResult {
    let mut result = sample();
    result.batches.clear();
    result.evidence = None;
    result.verdict = None;
    result
}

fn closed_loop_sample() -> RunResult {
    let mut result = sample();
    result.verdict = full_sample().verdict;
    result.plan.mode = Mode::ClosedLoop { pipeline: 8 };
    result.latency.response = new_histogram();
    result
}

/// With each histogram's text as the number of values in it: deflating may come to other bytes elsewhere.
fn without_payloads(hlog: &str) -> String {
    let line = |line: &str| match line.rsplit_once(",HIST") {
        Some((row, rest)) => format!("{row},({} values)\n", decode(&format!("HIST{rest}")).unwrap().len()),
        None => format!("{line}\n"),
    };
    hlog.lines().map(line).collect()
}

#[test]
fn every_format_reads_as_golden() {
    for format in FORMATS {
        let text = (format.render)(&full_sample());
        let text = if format.name == "hlog" { without_payloads(&text) } else { text };
        assert_golden(&format!("export.{}", format.extension), &text);
    }
}

#[test]
fn every_format_says_the_verdict_and_its_reasons_of_older_files_as_well() {
    for format in FORMATS {
        for (result, expected) in [
            (full_sample(), ["SUSPECT", "generator-lag: p99 of 15.0 µs"]),
            (invalid_sample(), ["INVALID", "payloads: 1,200 were wrong"]),
            (old_sample(), ["INVALID", "answers: 1,200 × wrong payload"]),
        ] {
            let text = (format.render)(&result);
            for words in expected {
                assert!(text.contains(words), "{format:?} without {words}:\n{text:.2000}");
            }
            assert!(text.ends_with('\n') && !text.contains('\r'), "{format:?}");
        }
    }
}

#[test]
fn every_format_says_where_its_numbers_are_instructions() {
    let mut result = full_sample();
    result.environment.clock = ringsock::measure::environment::Clock::Instructions;
    for (name, says) in [
        ("hlog", "times, in instructions;"),
        ("hgrm", "times in millions of instructions"),
        ("csv", ",instructions,"),
        ("gobench", " instr/op "),
        ("prometheus", "clock=\"instructions\""),
    ] {
        let text = exported(name, &result);
        assert!(text.contains(says), "{name} does not say {says:?}:\n{text}");
    }
    assert!(!exported("gobench", &result).contains("ns/op"));
}

#[test]
fn a_closed_loop_is_about_service_times() {
    let result = closed_loop_sample();
    for (name, expected) in [
        ("hlog", "untagged ones are service times"),
        ("hgrm", "# values: service times"),
        ("csv", "\nrun,service,"),
        ("gobench", "/kind=binary/pipeline=8 199980 "),
        ("prometheus", "_count{measure=\"service\"} 199980"),
    ] {
        let text = exported(name, &result);
        assert!(text.contains(expected), "{name}:\n{text:.2000}");
    }
    assert_eq!(imported(&exported("hlog", &result)).histogram, result.latency.service);
}

// ---- .hlog

fn imported(text: &str) -> Imported {
    import::parse(text)
        .expect("a format that is known")
        .unwrap_or_else(|(line, cause)| panic!("line {line}: {cause}"))
}

#[test]
fn the_crates_own_reader_finds_every_row_of_a_log() {
    let result = full_sample();
    let text = exported("hlog", &result);
    let mut times = Vec::new();
    let (mut merged, mut tags, mut last_start_s) = (new_histogram(), BTreeMap::new(), 0.0);
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        match entry.unwrap_or_else(|error| panic!("{error:?}")) {
            LogEntry::StartTime(time) | LogEntry::BaseTime(time) => times.push(time.as_secs_f64()),
            LogEntry::Interval(row) => {
                let histogram = decode(row.encoded_histogram()).unwrap();
                let start_s = row.start_timestamp().as_secs_f64();
                assert!(start_s >= last_start_s, "rows have to ascend");
                last_start_s = start_s;
                let stated_ns = row.max() * 1e6;
                assert!((stated_ns - histogram::maximum_ns(&histogram).unwrap() as f64).abs() <= 500.0);
                match row.tag() {
                    None => histogram::merge(&mut merged, &histogram),
                    Some(tag) => {
                        assert_eq!((start_s, row.duration().as_secs_f64()), (0.0, 10.0));
                        tags.insert(tag.as_str().to_owned(), histogram);
                    }
                }
            }
        }
    }
    // 08:04:33, less 10 s of the window and 5 s of a drain that waited in vain for 10 messages.
    assert_eq!(times, [1_795_334_658.0; 2]);
    assert_eq!(merged, result.latency.response, "late answers, which are in no batch, included");
    let anatomy = result.anatomy.unwrap();
    let threads = result.evidence.unwrap().threads;
    for (tag, histogram) in [
        ("service", &result.latency.service),
        ("lag", &result.latency.lag),
        ("connect", &result.latency.connect),
        ("handshake", &result.latency.handshake),
        ("thread-0", &threads[0].headline),
        ("thread-1", &threads[1].headline),
        ("generator", &anatomy.generator),
        ("to-server", &anatomy.to_server),
        ("in-server", &anatomy.in_server),
        ("back", &anatomy.back),
    ] {
        assert_eq!(tags.remove(tag).as_ref(), Some(histogram), "{tag}");
    }
    assert_eq!(tags.into_keys().collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_log_has_no_line_that_stops_javas_reader() {
    // It splits at blanks, commas and line ends; a line's first piece has to be a comment, the legend, a tag or a number.
    for line in exported("hlog", &full_sample()).lines() {
        let first = line.split([' ', ',']).next().unwrap();
        let known =
            first.starts_with('#') || first.starts_with("\"StartTimestamp\"") || first.starts_with("Tag=");
        assert!(known || first.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn batches_that_contradict_the_whole_give_way_to_it() {
    let mut result = full_sample();
    let first = result.batches[0].headline.clone();
    result.batches[1].headline.merge(&first);
    let text = exported("hlog", &result);
    assert_eq!(text.lines().filter(|line| line.starts_with("0.000,10.000,")).count(), 1);
    assert_eq!(imported(&text).histogram, result.latency.response);
}

/// The seed of this run's random choices; `RINGSOCK_TEST_SEED` repeats one.
fn random() -> fastrand::Rng {
    let seed = std::env::var("RINGSOCK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("RINGSOCK_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn random_histogram(random: &mut fastrand::Rng) -> Histogram {
    let mut histogram = new_histogram();
    // Any magnitude from 0 to past the hour is as likely as any other.
    (0..random.usize(1..2_000)).for_each(|_| record(&mut histogram, random.u64(..) >> random.u32(..64)));
    histogram
}

#[test]
fn whatever_was_measured_comes_back_from_a_log_and_from_a_distribution() {
    let mut random = random();
    let mut result = sample();
    for _ in 0..50 {
        result.latency.response = random_histogram(&mut random);
        let response = &result.latency.response;
        result.batches = vec![Batch { headline: Compact::of(response), length_s: 1.0, ..Batch::default() }];
        assert_eq!(imported(&exported("hlog", &result)).histogram, *response);
        // A distribution names some values only; those it names are exact, and so is how many lie below them.
        let text = exported("hgrm", &result);
        let distribution = imported(&text).histogram;
        assert_eq!((distribution.len(), distribution.max()), (response.len(), response.max()));
        for quantile in [0.5, 0.75, 0.9] {
            assert_eq!(
                distribution.value_at_quantile(quantile),
                response.value_at_quantile(quantile),
                "{text}"
            );
        }
    }
}

// ---- real readers of other languages

/// What the peer's reader says of a file; `None` where it cannot be had, and need not be.
fn read_by(peer: Peer, program: &str, how: &[&str], path: &Path) -> Option<Value> {
    if !peer.is_ready() {
        return None;
    }
    let (status, transcript) = Process::start(peer.name(), peer.command(program).args(how).arg(path)).wait();
    assert!(status.success(), "{program} ended with {status}:\n{transcript}");
    Some(serde_json::from_str(transcript.trim()).unwrap_or_else(|error| panic!("{error}:\n{transcript}")))
}

fn written(name: &str, result: &RunResult) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let json = save(directory.path(), result).unwrap();
    let [path] = write_beside(&json, result, &[format(name)]).unwrap().try_into().unwrap();
    (directory, path)
}

/// The rows that both languages' readers have to find: tag, start and end in milliseconds, count.
fn assert_rows(rows: &Value, result: &RunResult) {
    let rows = rows.as_array().unwrap();
    let untagged: Vec<_> = rows.iter().filter(|row| row[0].is_null()).collect();
    let start_ms = 1_795_334_658_000.0;
    let expected = [(0.0, 4_000.0), (4_000.0, 8_000.0), (8_000.0, 10_000.0), (10_000.0, 15_000.0)];
    let times: Vec<_> = untagged
        .iter()
        .map(|row| (row[1].as_f64().unwrap() - start_ms, row[2].as_f64().unwrap() - start_ms))
        .collect();
    assert_eq!(times, expected);
    let total: f64 = untagged.iter().map(|row| row[3].as_f64().unwrap()).sum();
    assert_eq!(total, result.latency.response.len() as f64);
    let tags: Vec<_> = rows.iter().filter_map(|row| row[0].as_str()).collect();
    let parts = ["generator", "to-server", "in-server", "back"];
    assert_eq!(tags[..6], ["service", "lag", "connect", "handshake", "thread-0", "thread-1"]);
    assert_eq!(tags[6..], parts);
}

fn percentiles(histogram: &Histogram) -> Value {
    Value::from(
        [0.5, 0.75, 0.9, 0.99, 0.999, 0.9999].map(|quantile| histogram.value_at_quantile(quantile)).to_vec(),
    )
}

fn recorded(histogram: &Histogram) -> Value {
    Compact::of(histogram).iter().map(|(value, count)| Value::from(vec![value, count])).collect()
}

#[test]
fn pythons_hdrhistogram_reads_the_log_value_by_value() {
    let result = full_sample();
    let (_directory, path) = written("hlog", &result);
    let Some(read) = read_by(Peer::Python, "read_exports", &["hlog"], &path) else { return };
    assert_rows(&read["rows"], &result);
    assert_eq!(read["start_s"], 1_795_334_658.0);
    assert_eq!(read["recorded"], recorded(&result.latency.response));
}

#[test]
fn nodes_hdr_histogram_js_reads_the_log() {
    let result = full_sample();
    let (_directory, path) = written("hlog", &result);
    let Some(read) = read_by(Peer::Node, "read_hlog", &[], &path) else { return };
    assert_rows(&read["rows"], &result);
    assert_eq!(read["percentiles"], percentiles(&result.latency.response));
}

#[test]
fn a_log_that_pythons_hdrhistogram_wrote_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("theirs.txt");
    let Some(wrote) = read_by(Peer::Python, "read_exports", &["write-hlog"], &path) else { return };
    let read = imported(&fs::read_to_string(&path).unwrap()).histogram;
    let mut theirs = new_histogram();
    for pair in wrote["recorded"].as_array().unwrap() {
        histogram::record_n(&mut theirs, pair[0].as_u64().unwrap(), pair[1].as_u64().unwrap());
    }
    assert_eq!(read, theirs, "two digits become three, at the upper end of each slot");
}

#[test]
fn hdr_plots_parser_reads_the_distribution() {
    let result = full_sample();
    let (_directory, path) = written("hgrm", &result);
    let Some(read) = read_by(Peer::Python, "read_exports", &["hdr-plot"], &path) else { return };
    let rows = read["rows"].as_array().unwrap();
    let all = plot_files_points(&fs::read_to_string(&path).unwrap());
    assert_eq!(rows.len(), all.len(), "both skip the last row, and nothing else");
    let at = |quantile: f64| {
        let row = rows.iter().find(|row| row["Percentile"].as_f64().unwrap() >= quantile).unwrap();
        (row["Latency"].as_f64().unwrap() * 1e6).round() as u64
    };
    for quantile in [0.5, 0.75, 0.9] {
        assert_eq!(at(quantile), result.latency.response.value_at_quantile(quantile));
    }
    let footer = |name: &str| read["footer"][name].as_str().unwrap().parse::<f64>().unwrap();
    assert_eq!(footer("Total count"), 199_980.0);
    assert_eq!((footer("Max") * 1e6).round() as u64, result.latency.response.max());
    assert!((footer("Mean") * 1e6 - result.latency.response.mean()).abs() < 1.0);
}

#[test]
fn an_export_of_an_invalid_run_is_not_compared_with() {
    for (level, is_refused) in [(Level::Invalid, true), (Level::Suspect, false)] {
        let mut result = full_sample();
        result.verdict.as_mut().unwrap().level = level;
        for name in ["hgrm", "hlog"] {
            let (_directory, path) = written(name, &result);
            let told = import::load(&path).err().map(|error| error.to_string());
            assert_eq!(told.is_some_and(|told| told.contains("INVALID run")), is_refused, "{name}");
        }
    }
}

#[test]
fn prometheus_own_parser_reads_the_exposition() {
    let result = full_sample();
    let (_directory, path) = written("prometheus", &result);
    let Some(read) = read_by(Peer::Python, "read_exports", &["prometheus"], &path) else { return };
    let families = read.as_array().unwrap();
    let family =
        |name: &str| families.iter().find(|it| it[0] == name).unwrap_or_else(|| panic!("no {name}: {read}"));
    for family in families {
        assert!(family[2].as_str().is_some_and(|help| !help.is_empty()), "{}", family[0]);
        assert_ne!(family[1], "unknown", "{}", family[0]);
    }
    let sample = |name: &str, family_of: &str, labels: &[(&str, &str)]| {
        let samples = family(family_of)[3].as_array().unwrap();
        let fits = |it: &&Value| it[0] == name && labels.iter().all(|(label, value)| it[1][label] == *value);
        let found: Vec<_> = samples.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}");
        found[0][2].as_str().unwrap().parse::<f64>().unwrap()
    };
    let single = |name: &str| sample(name, name.trim_end_matches("_total"), &[]);
    assert_eq!(single("ringsock_messages_answered_total"), 199_980.0);
    assert_eq!(sample("ringsock_verdict", "ringsock_verdict", &[("level", "SUSPECT")]), 1.0);
    let percentile = "ringsock_duration_percentile_seconds";
    let p99 = sample(percentile, percentile, &[("measure", "response"), ("percentile", "99")]);
    assert_eq!(p99, percentile_ns(&result.latency.response, 0.99).unwrap() as f64 / 1e9);
    let response = [("measure", "response"), ("le", "+Inf")];
    assert_eq!(sample("ringsock_duration_seconds_bucket", "ringsock_duration_seconds", &response), 199_980.0);
    let info = &family("ringsock_run_info")[3][0][1];
    let reasons = info["verdict_reasons"].as_str().unwrap();
    assert!(reasons.contains(r#""bound" 10 µs, at C:\x;"#), "quotes and backslashes survive: {reasons}");
}

// ---- .hgrm, by plotFiles.html's rule

/// plotFiles.html's rule: a line that does not begin with # and falls into exactly four pieces at blanks, of which the
/// first and the last are numbers as JavaScript's parseFloat sees them, is a point.
fn plot_files_points(text: &str) -> Vec<(f64, f64)> {
    let point = |line: &str| {
        let line = line.trim();
        let pieces: Vec<_> = line.split(' ').filter(|piece| !piece.is_empty()).collect();
        if line.starts_with('#') || pieces.len() != 4 {
            return None;
        }
        // parseFloat takes what a text begins with; ours begin with a number only where they are one.
        let begins_as_number =
            |piece: &str| piece.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        let number = |piece: &str| begins_as_number(piece).then(|| piece.parse::<f64>().ok()).flatten();
        Some((number(pieces[3])?, number(pieces[0])?))
    };
    text.split('\n').filter_map(point).collect()
}

#[test]
fn plot_files_finds_the_curve_and_nothing_else() {
    let result = full_sample();
    let points = plot_files_points(&exported("hgrm", &result));
    assert!(points.len() > 60, "{points:?}");
    assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{points:?}");
    assert_eq!(points[0].0, 1.0);
    // 1/(1-p) is 2 at the median; values are milliseconds.
    let median_ms = points.iter().find(|point| point.0 == 2.0).unwrap().1;
    assert_eq!((median_ms * 1e6).round() as u64, result.latency.response.value_at_quantile(0.5));
}

#[test]
fn a_distribution_of_few_values_says_which_percentiles_are_none() {
    let mut result = old_sample();
    result.latency.response = new_histogram();
    (1..=100).for_each(|n| record(&mut result.latency.response, n * 1_000));
    assert!(exported("hgrm", &result).contains("\n# too few samples to state p99 and above"));
    result.latency.response = new_histogram();
    let empty = exported("hgrm", &result);
    assert_eq!(plot_files_points(&empty), []);
    assert!(empty.contains("Total count    =            0]"), "{empty}");
}

// ---- CSV

/// RFC 4180's grammar, with bare newlines between records.
fn csv_records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if cell.is_empty() => loop {
                match characters.next().expect("a closing quote") {
                    '"' if characters.next_if_eq(&'"').is_some() => cell.push('"'),
                    '"' => {
                        assert!(matches!(characters.peek(), Some(',' | '\n')), "text after a closing quote");
                        break;
                    }
                    other => cell.push(other),
                }
            },
            ',' => record.push(std::mem::take(&mut cell)),
            '\n' => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            other => {
                assert_ne!(other, '"', "a bare quote inside a cell");
                cell.push(other);
            }
        }
    }
    assert!(record.is_empty() && cell.is_empty(), "the last record ends like all others");
    records
}

#[test]
fn every_csv_row_has_every_column_and_says_whose_it_is() {
    let result = full_sample();
    let records = csv_records(&exported("csv", &result));
    let column =
        |name: &str| records[0].iter().position(|it| it == name).unwrap_or_else(|| panic!("no {name}"));
    for record in &records {
        assert_eq!(record.len(), records[0].len(), "{record:?}");
    }
    for record in &records[1..] {
        assert_eq!(
            (record[column("verdict")].as_str(), record[column("kernel")].as_str()),
            ("SUSPECT", "6.12.1")
        );
    }
    let reasons = &records[1][column("verdict_reasons")];
    assert!(reasons.contains("\"bound\" 10 µs") && reasons.contains("wrong\\nsee"), "{reasons}");
    let kinds: Vec<_> = records[1..].iter().map(|record| record[0].as_str()).collect();
    assert_eq!(kinds, [vec!["run"], vec!["part"; 10], vec!["batch"; 3]].concat());
    let run = &records[1];
    assert_eq!(run[column("p99_ns")], percentile_ns(&result.latency.response, 0.99).unwrap().to_string());
    assert_eq!(run[column("p99.999_ns")], "", "too few samples");
    assert_eq!(run[column("unsent")], "10");
}

// ---- Go benchmarks, by their published grammar

/// Keys in force at each benchmark line, and that line's name, iterations and values by unit. The grammar (Go proposal
/// 14313): a configuration line is `key: value`, its key beginning with a small letter and holding neither blanks nor
/// capitals; an empty value takes the key back; a benchmark line begins with `Benchmark` and a capital, then an iteration
/// count, then pairs of value and unit; all other lines say nothing.
#[expect(clippy::type_complexity, reason = "read in one place, below")]
fn go_benchmarks(text: &str) -> Vec<(BTreeMap<String, String>, String, u64, BTreeMap<String, f64>)> {
    let (mut keys, mut found) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        if let Some(name) = line.strip_prefix("Benchmark") {
            assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{line}");
            assert!(fields.len() >= 4 && fields.len().is_multiple_of(2), "{line}");
            let values = fields[2..].chunks(2).map(|pair| (pair[1].to_owned(), pair[0].parse().unwrap()));
            let values: BTreeMap<_, f64> = values.collect();
            assert_eq!(values.len(), fields.len() / 2 - 1, "a unit stands twice: {line}");
            found.push((keys.clone(), fields[0].to_owned(), fields[1].parse().unwrap(), values));
        } else if let Some((key, value)) = line.split_once(':')
            && key.starts_with(|c: char| c.is_lowercase())
            && !key.contains(|c: char| c.is_whitespace() || c.is_uppercase())
            && (value.is_empty() || value.starts_with(' '))
        {
            match value.trim_start() {
                "" => drop(keys.remove(key)),
                value => drop(keys.insert(key.to_owned(), value.to_owned())),
            }
        }
    }
    found
}

#[test]
fn a_run_is_one_go_benchmark_under_its_configuration() {
    let result = full_sample();
    let [(keys, name, iterations, values)] = go_benchmarks(&exported("gobench", &result)).try_into().unwrap();
    assert_eq!(name, "BenchmarkEcho/conns=64/size=64/kind=binary/rate=20000/arrivals=poisson");
    assert_eq!(iterations, 199_980);
    let names: Vec<_> = keys.keys().map(String::as_str).collect();
    let expected =
        ["clock", "cpu", "deflate", "engine", "kernel", "server", "server-engine", "tls", "tool", "verdict"];
    assert_eq!(names, expected);
    assert_eq!((keys["kernel"].as_str(), keys["verdict"].as_str()), ("6.12.1", "SUSPECT"));
    for (label, quantile) in PERCENTILES {
        let stated = percentile_ns(&result.latency.response, quantile).map(|value_ns| value_ns as f64);
        assert_eq!(values.get(&format!("{label}-ns")).copied(), stated, "{label}");
    }
    assert!(!values.contains_key("p99.999-ns"), "too few samples");
    assert!((values["ns/op"] - result.latency.response.mean()).abs() < 0.1);
    assert_eq!((values["server-cpu-ns/op"], values["msgs/s"]), (4800.5, 19998.0));
}

#[test]
fn an_invalid_run_is_no_benchmark_and_leaves_no_key_behind() {
    assert_eq!(go_benchmarks(&exported("gobench", &invalid_sample())), []);
    // A file older than verdicts gets the one that it still can, here for its wrong answers, in every line.
    let text = exported("gobench", &old_sample());
    assert!(text.contains("verdict: INVALID") && go_benchmarks(&text).is_empty(), "{text}");
    let text = exported("prometheus", &old_sample());
    assert!(text.contains("ringsock_verdict{level=\"INVALID\"} 1\n"), "{text}");
    let mut elsewhere = full_sample();
    elsewhere.target.server_engine = None;
    elsewhere.environment.kernel.release = Some("6.18.0".to_owned());
    let joined = format("gobench").render_all(&[full_sample(), invalid_sample(), elsewhere]).unwrap();
    let found = go_benchmarks(&joined);
    assert_eq!(found.len(), 2);
    assert!(!found[1].0.contains_key("server-engine"), "{:?}", found[1].0);
    assert_eq!((found[1].0["kernel"].as_str(), found[1].0["verdict"].as_str()), ("6.18.0", "SUSPECT"));
}

// ---- files and flags

#[test]
fn an_export_never_replaces_a_file_and_repeats_itself_without_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let (result, other) = (full_sample(), sample());
    let json = save(directory.path(), &result).unwrap();
    let paths = write_beside(&json, &result, &FORMATS).unwrap();
    let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let stem = "20261122T080433Z-echo";
    assert_eq!(
        names,
        ["hlog", "hgrm", "csv", "bench", "prom"].map(|extension| format!("{stem}.{extension}"))
    );
    assert_eq!(write_beside(&json, &result, &FORMATS).unwrap(), paths);
    let error = write_beside(&json, &other, &[format("csv")]).unwrap_err();
    assert!(matches!(&error, StoreError::Taken { path } if *path == paths[2]), "{error}");
    assert_eq!(fs::read_to_string(&paths[2]).unwrap(), exported("csv", &result));
    assert_eq!(fs::read_dir(json.parent().unwrap()).unwrap().count(), 6, "and nothing is left lying about");
}

fn compare_command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringsock-compare")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn saved_results_are_exported_later() {
    let directory = tempfile::tempdir().unwrap();
    let [a, b] = [full_sample(), old_sample()].map(|result| save(directory.path(), &result).unwrap());
    let [a, b] = [a.to_str().unwrap(), b.to_str().unwrap()];
    let output = compare_command(&["--export", "gobench", a, b]);
    let expected = exported("gobench", &full_sample()) + &exported("gobench", &old_sample());
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected.as_str()));
    let output = compare_command(&["--export=csv", a, b]);
    assert_eq!(csv_records(text(&output.stdout)).len(), 1 + 14 + 5, "one heading");
    let output = compare_command(&["--export", "hlog", a]);
    assert_eq!(text(&output.stdout), exported("hlog", &full_sample()));
    let output = compare_command(&["--export", "hlog,prometheus", "--beside", a, b]);
    let stems = [a, b].map(|path| path.strip_suffix(".json").unwrap());
    let expected = stems.map(|stem| format!("{stem}.hlog\n{stem}.prom\n")).concat();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected.as_str()));
    for (arguments, cause) in [
        (vec!["--export", "hlog", a, b], "one hlog text holds one result only, not 2; add --beside"),
        (vec!["--export", "csv,hgrm", a], "one format only; add --beside"),
        (vec!["--export", "pdf", a], "[possible values: hlog, hgrm, csv, gobench, prometheus]"),
        (vec!["--beside", a, b], "--export"),
        (vec!["--export", "csv", stems[0]], "cannot read result"),
    ] {
        let output = compare_command(&arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}");
        assert!(text(&output.stderr).contains(cause), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_run_exports_beside_its_result_and_names_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-load"));
    command.args("--rate 500 -c 2 -d 300ms -w 50ms --quiet --export hlog,csv --export gobench".split(' '));
    let (_, transcript) =
        Process::start("ringsock-load", command.arg("--results").arg(directory.path())).wait();
    let named = |start: &str| {
        let line = |line: &str| line.strip_prefix(start).map(PathBuf::from);
        transcript.lines().filter_map(line).collect::<Vec<_>>()
    };
    let [json] = <[PathBuf; 1]>::try_from(named("saved ")).unwrap_or_else(|_| panic!("{transcript}"));
    let result = ringsock::measure::store::load(&json).unwrap();
    let expected = ["hlog", "csv", "bench"].map(|extension| json.with_extension(extension));
    assert_eq!(named("exported "), expected);
    let read = imported(&fs::read_to_string(&expected[0]).unwrap());
    assert_eq!(read.histogram, result.latency.response);
}
