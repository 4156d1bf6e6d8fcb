//! What other tools wrote, read and compared: wrk2's spectrum, percentile distributions, interval logs; whole, damaged, and
//! none of these.

use super::*;

/// `histogram` as wrk2 -L prints it, steps of percentiles and all; written after its format, not by what reads it.
fn wrk2_output(histogram: &Histogram) -> String {
    let mut text = "Running 30s test @ http://127.0.0.1:80/index.html\n  2 threads and 100 connections\n  \
                    Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     6.60ms    1.92ms  12.50ms   68.46%\n  \
                    Latency Distribution (HdrHistogram - Recorded Latency)\n 50.000%    6.67ms\n\n  \
                    Detailed Percentile spectrum:\n       Value   Percentile   TotalCount 1/(1-Percentile)\n\n"
        .to_owned();
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        let quantile = step.quantile_iterated_to();
        total += step.count_since_last_iteration();
        let value_ms = step.value_iterated_to() as f64 / 1e6;
        text += &format!("{value_ms:12.3} {quantile:12.6} {total:12} {:12.2}\n", 1.0 / (1.0 - quantile));
    }
    text += &format!("#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n", 6.6, 1.9);
    text += &format!("#[Max     = {:12.3}, Total count    = {total:12}]\n", histogram.max() as f64 / 1e6);
    text + "#[Buckets =           27, SubBuckets     =         2048]\n\
            ----------------------------------------------------------\n  60017 requests in 30.01s, 19.81MB read\n\
            Requests/sec:   2000.15\nTransfer/sec:    676.14KB\n"
}

#[test]
fn wrk2s_spectrum_is_read_whole_or_alone() {
    let histogram = sample().latency.response;
    let whole = wrk2_output(&histogram);
    let read = imported(&whole);
    assert_eq!(read.source, "wrk2's percentile spectrum");
    assert_eq!(read.histogram.len(), histogram.len());
    for (label, quantile) in PERCENTILES {
        let (there, here) =
            (histogram.value_at_quantile(quantile), read.histogram.value_at_quantile(quantile));
        // Of a step between two rows the upper row's value, to wrk2's three decimals of a millisecond.
        assert!(
            here + 1_000 > there && (here as f64) < there as f64 * 1.2 + 1_000.0,
            "{label}: {there} {here}"
        );
    }
    let start = whole.find("       Value").unwrap();
    let end = whole.find("#[Mean").unwrap();
    let alone = imported(&whole[start..end]);
    assert_eq!((alone.source, &alone.histogram), ("a percentile distribution (.hgrm)", &read.histogram));
    let twice = whole.clone() + &whole[start..];
    assert_eq!(imported(&twice).histogram, read.histogram);
    assert!(imported(&twice).notes.iter().any(|note| note.contains("the first of its tables")));
}

#[test]
fn a_log_of_another_tool_is_read_by_its_untagged_rows() {
    let result = full_sample();
    let log = exported("hlog", &result);
    let read = imported(&log);
    assert_eq!(read.histogram, result.latency.response);
    let notes = read.notes.join("\n");
    assert!(notes.contains("4 intervals merged; values taken as nanoseconds"), "{notes}");
    assert!(notes.contains("for their tags: back, connect, generator,"), "{notes}");
    assert!(!notes.contains("maximum"), "{notes}");
    // Rows alone, with blanks between fields and foreign line ends, as Java's reader takes them.
    let rows: String =
        log.lines().filter(|line| !line.starts_with(['#', '"'])).collect::<Vec<_>>().join("\r\n");
    assert_eq!(imported(&rows.replace(',', " ")).histogram, result.latency.response);

    // Microseconds, at two digits and with bounds of their own: 1,000 values up to a second.
    let mut other = Histogram::new_with_bounds(1, 10_000_000, 2).unwrap();
    (1..=1_000).for_each(|n| other.record(n * 1_000).unwrap());
    let row = format!("1.0,1.0,1000.000,{}\n", encode(&other));
    let read = imported(&row);
    assert_eq!(read.histogram.len(), 1_000);
    assert_eq!(read.histogram.value_at_quantile(0.5), other.value_at_quantile(0.5));
    assert!(read.notes.join("\n").contains("the values may be no nanoseconds"), "{:?}", read.notes);
}

#[test]
fn a_bad_file_is_an_error_that_names_line_and_cause() {
    let log = exported("hlog", &full_sample());
    let table = exported("hgrm", &full_sample());
    let row = log.lines().last().unwrap();
    let only_tagged =
        log.lines().filter(|line| line.starts_with(['#', '"', 'T'])).collect::<Vec<_>>().join("\n");
    let row_3 = |row: &str| format!("#[Histogram log format version 1.3]\n\n{row}\n");
    let rows = table.lines().take_while(|line| !line.contains(" 0.5")).collect::<Vec<_>>().join("\n");
    let table_of = |rows: &str| format!("Value Percentile TotalCount 1/(1-Percentile)\n\n{rows}\n");
    for (text, line, cause) in [
        (row_3("1.0,2.0,3.0"), 3, "expected start, length, maximum and histogram, not `1.0,2.0,3.0`"),
        (row_3(&format!("x{row}")), 3, "is no start of an interval"),
        (row_3(&row[..row.len() - 30]), 3, "a histogram is "),
        (row_3("0,1,2,HISTIgAAAFd42pNp"), 3, "a histogram is not in the V2 deflate encoding"),
        (row_3(&format!("{row},5")), 3, "expected start, length, maximum and histogram"),
        (only_tagged.clone(), only_tagged.lines().count(), "every row has a tag (back, "),
        (row_3(""), 3, "no interval in which anything was measured"),
        (
            table.replace("Total count    =       199980", "Total count    =       199981"),
            95,
            "199981 is stated",
        ),
        (rows.clone(), rows.lines().count(), "ends before the 100th percentile"),
        (table_of(" 2.0 0.0 5 1.0\n 1.0 0.5 6 2.0"), 4, "out of order"),
        (table_of(" 2.0 0.0 5 1.0\n 3.0 0.5 4 2.0"), 4, "out of order"),
        (table_of(" -2.0 0.0 5 1.0"), 3, "`-2.0` is no value in milliseconds"),
        (table_of(" 2.0 50.0 5 1.0"), 3, "`50.0` is no percentile"),
        (table_of(" 2.0 0.5 five 1.0"), 3, "`five` is no count"),
        (table_of(" 2.0 1.0 0"), 3, "counts nothing"),
        (table_of(""), 1, "ends before"),
    ] {
        let (found, error) = import::parse(&text).expect("a format that is known").unwrap_err();
        assert!(error.contains(cause), "{cause}: {error}");
        let line = if cause.contains("is stated") {
            text.lines().position(|line| line.starts_with("#[Max")).unwrap() + 1
        } else {
            line
        };
        assert_eq!(found, line, "{cause}");
    }
    for text in ["", "no format", "Value Percentile", "1,2,3,4", "{"] {
        assert!(import::parse(text).is_none(), "{text}");
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut random = random();
    let mut small = sample();
    small.latency.response = random_histogram(&mut random);
    (small.latency.service, small.latency.lag) = (new_histogram(), new_histogram());
    let texts = [exported("hlog", &small), exported("hgrm", &small), wrk2_output(&small.latency.response)];
    for _ in 0..2_000 {
        let mut bytes = random.choice(&texts).unwrap().clone().into_bytes();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, *random.choice(b"0,.# \n9-eHT=").unwrap()),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Some(Ok(read)) = import::parse(&String::from_utf8_lossy(&bytes)) {
            assert!(!read.histogram.is_empty());
        }
    }
}

#[test]
fn an_imported_side_is_compared_by_its_durations_alone() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let json = save(directory.path(), &full_sample()).unwrap();
    fs::rename(json, directory.path().join("ours.json")).unwrap();
    write("wrk2.txt", &wrk2_output(&sample().latency.service));
    write("theirs.hlog", &exported("hlog", &full_sample()));
    write("bad.hlog", "#[Histogram log format version 1.3]\n1,2\n");
    write("none.txt", "nothing\n");
    let run = |files: [&str; 2]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-compare"));
        command.args(files).current_dir(directory.path()).output().unwrap()
    };
    let output = run(["wrk2.txt", "ours.json"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert_golden("compare-imported.txt", text(&output.stdout));
    let output = run(["theirs.hlog", "wrk2.txt"]);
    assert_eq!(text(&output.stdout).matches("no verdict: imported from").count(), 2);
    let json = save(directory.path(), &invalid_sample()).unwrap();
    fs::rename(json, directory.path().join("invalid.json")).unwrap();
    let output = run(["wrk2.txt", "invalid.json"]);
    let comparison = text(&output.stdout);
    assert!(comparison.contains("! no ratios: b is INVALID"), "{comparison}");
    assert!(comparison.lines().filter(|line| line.starts_with("latency ")).all(|line| line.ends_with(" -")));
    for (bad, cause) in [
        ("bad.hlog", "bad.hlog, line 2: expected start, length, maximum and histogram, not `1,2`"),
        ("none.txt", "none.txt is not a ringsock result, nor the output of wrk2 -L"),
    ] {
        let output = run(["ours.json", bad]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
        let error = text(&output.stderr);
        assert!(error.contains(cause) && error.lines().count() == 1, "{error}");
    }
}
