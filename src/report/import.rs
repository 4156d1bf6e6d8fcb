//! What other tools measured, as far as a comparison can use it: their histograms.
//!
//! A format is known by its content, never by its file's name:
//!
//! - wrk2's output under `-L`, or its "Detailed Percentile spectrum" alone; values in milliseconds;
//! - a percentile distribution (`.hgrm`), the same table as HdrHistogram's tools write it; milliseconds assumed;
//! - an interval log (`.hlog`); nanoseconds assumed. Untagged rows are what was measured; histograms of other bounds or digits
//!   are counted anew.
//!
//! Invariant: whatever the bytes, reading them ends in a histogram or in an error that names line and cause; what the file leaves
//! open, or had to be assumed, is said in [`Imported::notes`].
//! Deliberately absent: a verdict. Nothing in these files could be held against the checks that make one. Only our own exports say
//! what the run's was: one of an INVALID run is refused, as its result is.

use std::path::{Path, PathBuf};

use super::text::{count, counted, printable};
use crate::measure::histogram::{self, Histogram, maximum_ns, merge, new_histogram};
use crate::measure::result::RunResult;
use crate::measure::store::{self, StoreError};
use crate::measure::verdict::Level;

/// A file, as far as it can be compared.
#[derive(Debug)]
pub enum Side {
    /// A result of ringsock.
    Result(Box<RunResult>),
    /// Another tool's histogram.
    Imported(Imported),
}

/// What another tool measured.
#[derive(Debug, PartialEq)]
pub struct Imported {
    /// What the file is, as `wrk2's percentile spectrum`.
    pub source: &'static str,
    /// Every duration, in nanoseconds.
    pub histogram: Histogram,
    /// What was assumed, what is less exact than it looks, and what is not in the histogram.
    pub notes: Vec<String>,
}

/// Why a file cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read, or is a bad result of ringsock.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// None of the formats.
    #[error(
        "{} is not a ringsock result, nor the output of wrk2 -L, a .hgrm or a .hlog; name a file that one of these wrote",
        .path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// Our own export, of a run whose numbers don't say what they seem to.
    #[error(
        "{} is an export of an INVALID run, which nothing is compared with; its result says why", .path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
    },
    /// One of the formats, until it goes wrong.
    #[error("{}, line {line}: {cause}", .path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there, and what mends it.
        cause: String,
    },
}

/// The line, from 1, that makes no sense, and why.
type Fault = (usize, String);

/// Reads a file of any of the formats.
///
/// # Errors
/// See [`ImportError`].
pub fn load(path: &Path) -> Result<Side, ImportError> {
    let bytes = store::read(path)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(Side::Result(Box::new(store::parse(path, &bytes)?)));
    }
    let text = String::from_utf8_lossy(&bytes);
    match parse(&text) {
        Some(Ok(_)) if says_invalid(&text) => Err(ImportError::Invalid { path: path.to_owned() }),
        Some(Ok(imported)) => Ok(Side::Imported(imported)),
        Some(Err((line, cause))) => {
            Err(ImportError::Bad { path: path.to_owned(), line, cause: printable(&cause) })
        }
        None => Err(ImportError::Unknown { path: path.to_owned() }),
    }
}

/// Whether a comment says so, as our exports begin with.
fn says_invalid(text: &str) -> bool {
    let comments = text.lines().filter_map(|line| line.strip_prefix('#'));
    let mut verdicts =
        comments.filter_map(|comment| comment.trim_matches(['[', ' ', ']']).strip_prefix("verdict: "));
    verdicts.next() == Some(Level::Invalid.name())
}

/// Reads text of any of the formats of other tools; `None` if it is of none.
pub fn parse(text: &str) -> Option<Result<Imported, Fault>> {
    let lines: Vec<_> =
        text.lines().map(str::trim).enumerate().map(|(index, line)| (index + 1, line)).collect();
    if let Some(heading) = lines.iter().position(|(_, line)| is_table_heading(line)) {
        let from_wrk2 = lines.iter().any(|(_, line)| line.starts_with("Detailed Percentile spectrum"));
        return Some(table(&lines[heading..], from_wrk2));
    }
    lines.iter().any(|(_, line)| is_of_interval_log(line)).then(|| interval_log(&lines))
}

fn is_table_heading(line: &str) -> bool {
    line.split_whitespace().eq(["Value", "Percentile", "TotalCount", "1/(1-Percentile)"])
}

fn is_of_interval_log(line: &str) -> bool {
    let is_row = || row_fields(line).3.is_some_and(|histogram| histogram.starts_with("HIST"));
    line.starts_with("#[Histogram log format version") || line.starts_with("\"StartTimestamp\"") || is_row()
}

/// A percentile distribution, from its heading on: each row has a value in milliseconds and how many were no longer.
fn table(lines: &[(usize, &str)], from_wrk2: bool) -> Result<Imported, Fault> {
    let mut histogram = new_histogram();
    let (mut last_ms, mut last_total, mut is_whole) = (0.0, 0, false);
    let mut line_of_last = lines[0].0;
    let rows = lines[1..].iter().filter(|(_, line)| !line.is_empty());
    for &(number, line) in rows.clone() {
        let (value_ms, quantile, total) = match table_row(line) {
            Ok(row) => row,
            // With few decimals several rows may read 100 %, so what follows the first is looked at.
            Err(_) if is_whole => break,
            Err(cause) => return Err((number, cause)),
        };
        if value_ms < last_ms || total < last_total {
            return Err((number, "values and counts have to ascend; the rows are out of order".to_owned()));
        }
        histogram::record_n(&mut histogram, (value_ms * 1e6).round() as u64, total - last_total);
        (last_ms, last_total, is_whole, line_of_last) = (value_ms, total, quantile >= 1.0, number);
    }
    if !is_whole {
        return Err((line_of_last, "the table ends before the 100th percentile; save it whole".to_owned()));
    }
    if let Some((number, stated)) =
        rows.clone().find_map(|&(number, line)| Some((number, footer_total(line)?)))
        && stated != last_total
    {
        let cause = format!("a total count of {stated} is stated, but the table's rows come to {last_total}");
        return Err((number, cause));
    }
    if histogram.is_empty() {
        return Err((line_of_last, "the table counts nothing".to_owned()));
    }
    let mut notes = vec!["a value between two rows of its table is given as the upper one's".to_owned()];
    if from_wrk2 {
        notes.push(
            "response times: wrk2 counts from the intended send, to within about 1 ms by its own account"
                .to_owned(),
        );
        if rows.filter(|(_, line)| is_table_heading(line)).count() > 0 {
            notes.push("the first of its tables, the corrected one; the others are left out".to_owned());
        }
    } else {
        notes.push("values taken as milliseconds; from which moment they count is not said".to_owned());
    }
    let source = if from_wrk2 { "wrk2's percentile spectrum" } else { "a percentile distribution (.hgrm)" };
    Ok(Imported { source, histogram, notes })
}

/// Value in milliseconds, quantile, and how many values there are up to this one. The fourth column, which the last row may
/// lack, says nothing new.
fn table_row(line: &str) -> Result<(f64, f64, u64), String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (3 | 4) = fields.len() else {
        return Err(format!("expected value, percentile and count, not `{}`", shortened(line)));
    };
    let number = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    let value_ms =
        number(fields[0]).ok_or_else(|| format!("`{}` is no value in milliseconds", shortened(fields[0])))?;
    let quantile = number(fields[1]).filter(|quantile| *quantile <= 1.0);
    let quantile =
        quantile.ok_or_else(|| format!("`{}` is no percentile from 0 to 1", shortened(fields[1])))?;
    // A total that sums cannot overflow.
    let total = fields[2].parse().ok().filter(|total| *total <= 1 << 62);
    let total = total.ok_or_else(|| format!("`{}` is no count", shortened(fields[2])))?;
    Ok((value_ms, quantile, total))
}

/// Of `#[Max     =       12.503, Total count    =        59000]`: the count.
fn footer_total(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("#[Max")?.split_once("Total count")?.1;
    rest.trim_start_matches([' ', '=']).trim_end_matches(']').trim().parse().ok()
}

/// Tag, start, length and histogram of a row of an interval log, each as it stands; not all are there in other lines.
fn row_fields(line: &str) -> (Option<&str>, [Option<&str>; 3], usize, Option<&str>) {
    let mut fields = line.split([',', ' ']).filter(|field| !field.is_empty()).peekable();
    let tag = fields.next_if(|field| field.starts_with("Tag=")).map(|field| &field["Tag=".len()..]);
    let numbers = [(); 3].map(|()| fields.next());
    let histogram = fields.next();
    (tag, numbers, fields.count(), histogram)
}

fn interval_log(lines: &[(usize, &str)]) -> Result<Imported, Fault> {
    let mut histogram = new_histogram();
    let (mut rows, mut tags) = (0_u64, std::collections::BTreeSet::new());
    let mut odd_unit = None;
    for &(number, line) in lines {
        let is_legend = line.starts_with('"');
        if line.is_empty() || line.starts_with('#') || is_legend {
            continue;
        }
        let (tag, interval_max, encoded) = interval(line).map_err(|cause| (number, cause))?;
        if let Some(tag) = tag {
            tags.insert(tag);
            continue;
        }
        let of_row = histogram::decode_foreign(encoded).map_err(|error| (number, error.to_string()))?;
        merge(&mut histogram, &of_row);
        if histogram.len() > 1 << 62 {
            return Err((number, "the counts of its histograms overflow".to_owned()));
        }
        rows += 1;
        odd_unit = odd_unit.or_else(|| other_unit(interval_max, &of_row).map(|ratio| (number, ratio)));
    }
    let last_line = lines.last().map_or(1, |&(number, _)| number);
    let tags = tags.into_iter().map(shortened).collect::<Vec<_>>().join(", ");
    if rows == 0 && !tags.is_empty() {
        let cause =
            format!("every row has a tag ({tags}), and only rows without one are read; take a tag off");
        return Err((last_line, cause));
    }
    if histogram.is_empty() {
        return Err((last_line, "the log holds no interval in which anything was measured".to_owned()));
    }
    let mut notes = vec![format!(
        "{} merged; values taken as nanoseconds; from which moment they count is not said",
        counted(rows, "interval")
    )];
    if !tags.is_empty() {
        notes.push(format!("rows left out, for their tags: {tags}"));
    }
    if let Some((number, ratio)) = odd_unit {
        notes.push(format!(
            "line {number} states a maximum {} times smaller than its histogram's, where milliseconds and nanoseconds \
             would make it 1,000,000: the values may be no nanoseconds",
            count(ratio)
        ));
    }
    Ok(Imported { source: "an interval log (.hlog)", histogram, notes })
}

/// Tag, stated maximum and encoded histogram of a row.
fn interval(line: &str) -> Result<(Option<&str>, f64, &str), String> {
    let (tag, numbers, more, encoded) = row_fields(line);
    let (Some(encoded), 0) = (encoded, more) else {
        return Err(format!("expected start, length, maximum and histogram, not `{}`", shortened(line)));
    };
    let mut values = [0.0; 3];
    for ((value, text), what) in values.iter_mut().zip(numbers).zip(["start", "length", "maximum"]) {
        let text = text.expect("it stands before the histogram");
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        *value = number.ok_or_else(|| format!("`{}` is no {what} of an interval", shortened(text)))?;
    }
    Ok((tag, values[2], encoded))
}

/// How many times a row's histogram's maximum is the maximum that is stated, if that is far from nanoseconds a millisecond.
fn other_unit(stated: f64, histogram: &Histogram) -> Option<u64> {
    let ratio = maximum_ns(histogram)? as f64 / stated;
    // Stated to three decimals, of which the last may be all there is.
    (stated >= 0.01 && !(5e5..2e6).contains(&ratio)).then_some(ratio as u64)
}

/// A piece of a file, short enough for a message.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
