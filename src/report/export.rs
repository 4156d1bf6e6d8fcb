//! A result in the formats that other tools read: the table of formats, and what they have in common.
//!
//! Invariant: every export says the verdict and its reasons, in whatever way its format leaves for it, and is a pure
//! function of the result: exported again, a result gives the same bytes. A percentile that too few samples bound is
//! left out, never guessed.
//! Deliberately absent: any number that the result does not hold or imply, and reading exports back (see [`super::import`]).

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::terminal::{machine, workload};
use super::text::printable;
use super::{csv, gobench, hgrm, hlog, prometheus};
use crate::measure::histogram::Histogram;
use crate::measure::result::{Mode, RunResult};
use crate::measure::samples::Inflation;
use crate::measure::store::{StoreError, publish_once};
use crate::measure::verdict::{Finding, Level};

/// A format: a row of [`FORMATS`].
#[derive(Clone, Copy)]
pub struct Format {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What its files' names end in.
    pub extension: &'static str,
    /// What reads it, in a line.
    pub about: &'static str,
    /// How several results make one text.
    pub several: Several,
    /// A result in this format, ending in a newline.
    pub render: fn(&RunResult) -> String,
}

/// How several results make one text of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Several {
    /// Each is a file of its own.
    Apart,
    /// One after another.
    Joined,
    /// One after another, the first line only once.
    UnderOneHeading,
}

/// Every format. A new one is a file beside this and a row here.
pub const FORMATS: [Format; 5] = [
    Format {
        name: "hlog",
        extension: "hlog",
        about: "HdrHistogram interval log 1.3: every histogram, whole, for HdrHistogram's tools in any language",
        several: Several::Apart,
        render: hlog::render,
    },
    Format {
        name: "hgrm",
        extension: "hgrm",
        about: "percentile distribution in milliseconds, for HdrHistogram's plotFiles.html and hdr-plot",
        several: Several::Apart,
        render: hgrm::render,
    },
    Format {
        name: "csv",
        extension: "csv",
        about: "a table with a row for the run, each other duration and each batch, for data frames and spreadsheets",
        several: Several::UnderOneHeading,
        render: csv::render,
    },
    Format {
        name: "gobench",
        extension: "bench",
        about: "Go benchmark text, for benchstat; an INVALID run gives no benchmark line",
        several: Several::Joined,
        render: gobench::render,
    },
    Format {
        name: "prometheus",
        extension: "prom",
        about: "Prometheus text exposition, for a Pushgateway or node_exporter's textfile collector",
        several: Several::Apart,
        render: prometheus::render,
    },
];

impl fmt::Debug for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.name == other.name
    }
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Format] {
        &FORMATS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.about))
    }
}

impl Format {
    /// Results as one text; `None` where this format cannot hold as many.
    pub fn render_all(&self, results: &[RunResult]) -> Option<String> {
        if self.several == Several::Apart && results.len() > 1 {
            return None;
        }
        let texts = results.iter().map(self.render).enumerate().map(|(index, text)| {
            let heading = index > 0 && self.several == Several::UnderOneHeading;
            let body = if heading { text.split_once('\n').map(|(_, rest)| rest.to_owned()) } else { None };
            body.unwrap_or(text)
        });
        Some(texts.collect())
    }
}

/// Writes `result` in each format beside its own file: `<name>.json` gets a `<name>.hlog`. Each is written whole or not
/// at all, and one that is there already with the very same content is left alone.
///
/// # Errors
/// [`StoreError::Taken`] where a file of the name holds something else; [`StoreError::Write`].
pub fn write_beside(
    json_path: &Path,
    result: &RunResult,
    formats: &[Format],
) -> Result<Vec<PathBuf>, StoreError> {
    let write = |format: &Format| {
        let path = json_path.with_extension(format.extension);
        publish_once(&path, (format.render)(result).as_bytes()).map(|()| path)
    };
    formats.iter().map(write).collect()
}

/// The durations that the run is about, and their name: response times of an open loop, service times of a closed one.
pub(super) fn headline(result: &RunResult) -> (&'static str, &Histogram) {
    match result.plan.mode {
        Mode::OpenLoop { .. } => ("response", result.headline()),
        Mode::ClosedLoop { .. } => ("service", result.headline()),
    }
}

/// How correlated the samples of `measure` are: those of messages as the headline's, of which alone it is known; connections
/// are taken as independent.
pub(super) fn inflation(result: &RunResult, measure: &str) -> Inflation {
    match measure {
        "connect" | "handshake" | "tls-handshake" | "first-message" | "close" => Inflation::UNKNOWN,
        _ => Inflation::of_run(result),
    }
}

/// Every other histogram of the whole window, by a name without spaces; none is empty.
pub(super) fn side_histograms(result: &RunResult) -> Vec<(String, &Histogram)> {
    let latency = &result.latency;
    let named = |(name, histogram): (&str, _)| (name.to_owned(), histogram);
    let mut found: Vec<(String, &Histogram)> = [
        ("response", &latency.response),
        ("service", &latency.service),
        ("lag", &latency.lag),
        ("connect", &latency.connect),
        ("handshake", &latency.handshake),
    ]
    .map(named)
    .into();
    found.retain(|(name, _)| name != headline(result).0);
    found.extend(latency.tls_handshake.iter().map(|histogram| ("tls-handshake".to_owned(), histogram)));
    let threads = result.evidence.iter().flat_map(|evidence| &evidence.threads).enumerate();
    found.extend(threads.map(|(number, thread)| (format!("thread-{number}"), &thread.headline)));
    if let Some(anatomy) = &result.anatomy {
        let parts = [
            ("generator", &anatomy.generator),
            ("to-server", &anatomy.to_server),
            ("in-server", &anatomy.in_server),
            ("back", &anatomy.back),
        ];
        found.extend(parts.map(named));
    }
    found.extend(
        result.particulars.histograms().into_iter().map(|(name, histogram)| (name.into_owned(), histogram)),
    );
    found.retain(|(_, histogram)| !histogram.is_empty());
    found
}

/// The verdict's level, and why it is no better, on one line; of a file older than verdicts, the one it can still get.
pub(super) fn verdict(result: &RunResult) -> (&'static str, String) {
    let verdict = super::verdict::of(result);
    let reasons = verdict.findings.iter().filter(|finding| finding.level != Level::Trusted);
    let line = |finding: &Finding| {
        // One that is milder than the whole is told from those that decided it.
        let milder = finding.level != verdict.level;
        let level = if milder { format!("{} ", finding.level.name()) } else { String::new() };
        format!("{level}{}: {}", finding.check, finding.says)
    };
    (verdict.level.name(), printable(&reasons.map(line).collect::<Vec<_>>().join("; ")))
}

/// What sets this run's configuration apart from others', as keys and values; the same keys for every run.
pub(super) fn configuration(result: &RunResult) -> [(&'static str, String); 11] {
    let text = |text: &Option<String>| printable(text.as_deref().unwrap_or_default());
    let (environment, target) = (&result.environment, &result.target);
    let tls = target.tls.as_ref().map(ToString::to_string);
    let deflate = target.deflate.map(|deflate| deflate.to_string());
    [
        ("kernel", text(&environment.kernel.release)),
        ("cpu", text(&environment.cpu.model)),
        ("clock", environment.clock.name().to_owned()),
        ("engine", printable(&target.engine)),
        ("server-engine", text(&target.server_engine)),
        ("server", text(&target.server)),
        ("tls", text(&tls)),
        ("deflate", text(&deflate)),
        ("subprotocol", text(&target.subprotocol)),
        ("label", printable(result.series.as_ref().map_or("", |series| &series.label))),
        ("tool", printable(&format!("{} {}", result.tool.name, result.tool.version))),
    ]
}

/// All that a reader should know of a run before its numbers, as `# key: value` lines.
pub(super) fn comments(result: &RunResult) -> String {
    let (level, reasons) = verdict(result);
    let mut lines = vec![format!("# verdict: {level}\n")];
    if !reasons.is_empty() {
        lines.push(format!("# verdict-reasons: {reasons}\n"));
    }
    for (key, value) in [
        ("plan", workload(&result.plan)),
        ("target", result.target.url.clone()),
        ("machine", machine(result)),
        ("created", result.created.clone()),
    ] {
        lines.push(format!("# {key}: {}\n", printable(&value)));
    }
    let known = configuration(result).into_iter().filter(|(_, value)| !value.is_empty());
    lines.extend(known.map(|(key, value)| format!("# {key}: {value}\n")));
    lines.concat()
}
