//! Durations over time: a run's batches as columns of counts.
//!
//! Invariant: every answer that a batch holds is in exactly one row of one column; rows have the same edges for all groups of a cell,
//! so that maps beside each other can be compared.
//! Deliberately absent: colours, and which run is shown.

use super::model::{HeatColumn, Heatmap};
use crate::measure::series::{Batch, Compact};

/// Columns of a map, at most.
pub const COLUMNS_MAX: usize = 60;
/// Rows of a map, at most; fewer where values are few.
const ROWS: usize = 30;

/// Batches put together until they are at most [`COLUMNS_MAX`], all of about the same length.
pub fn thinned(batches: &[Batch]) -> Vec<Batch> {
    let per_column = batches.len().div_ceil(COLUMNS_MAX).max(1);
    let merged = |batches: &[Batch]| {
        let mut headline = Compact::default();
        batches.iter().for_each(|batch| headline.merge(&batch.headline));
        let last = batches.last().expect("chunks are never empty");
        Batch {
            start_s: batches[0].start_s,
            length_s: last.start_s + last.length_s - batches[0].start_s,
            sent: batches.iter().map(|batch| batch.sent).sum(),
            answered: batches.iter().map(|batch| batch.answered).sum(),
            headline,
        }
    };
    batches.chunks(per_column).map(merged).collect()
}

/// Where rows end, ascending, each as many times the one before, from the shortest to the longest of all these durations.
pub fn edges_ns<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<u64> {
    let ends = batches.into_iter().filter_map(|batch| {
        let mut values = batch.headline.iter().map(|(value_ns, _)| value_ns);
        let first = values.next()?;
        Some((first, values.last().unwrap_or(first)))
    });
    let all = ends.reduce(|left, right| (left.0.min(right.0), left.1.max(right.1)));
    let Some((shortest_ns, longest_ns)) = all else { return Vec::new() };
    let step = (longest_ns as f64 / shortest_ns as f64).powf(1.0 / ROWS as f64);
    let edge = |row: usize| match row {
        // No rounding may leave the longest out.
        ROWS => longest_ns,
        _ => ((shortest_ns as f64 * step.powi(row as i32)).round() as u64).min(longest_ns),
    };
    let mut edges: Vec<u64> = (1..=ROWS).map(edge).collect();
    edges.dedup();
    edges
}

/// The map of a run with these batches.
pub fn map(source: &str, batches: &[Batch], edges_ns: &[u64]) -> Heatmap {
    let column = |batch: &Batch| {
        let mut counts = vec![0; edges_ns.len()];
        for (value_ns, count) in batch.headline.iter() {
            counts[edges_ns.partition_point(|&edge_ns| edge_ns < value_ns)] += count;
        }
        HeatColumn { start_s: batch.start_s, length_s: batch.length_s, counts }
    };
    Heatmap {
        source: source.to_owned(),
        edges_ns: edges_ns.to_vec(),
        columns: batches.iter().map(column).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::{new_histogram, record};

    fn batch(start_s: f64, values_ns: &[u64]) -> Batch {
        let mut histogram = new_histogram();
        values_ns.iter().for_each(|&value_ns| record(&mut histogram, value_ns));
        let answered = values_ns.len() as u64;
        Batch { start_s, length_s: 0.5, sent: answered, answered, headline: Compact::of(&histogram) }
    }

    #[test]
    fn every_answer_is_in_one_row_of_one_column() {
        for count in [0, 1, 59, 60, 61, 512] {
            let batches: Vec<Batch> =
                (0..count).map(|at| batch(0.5 * at as f64, &[at + 1, 1_000_000 * (at + 1)])).collect();
            let thin = thinned(&batches);
            assert!(thin.len() <= COLUMNS_MAX);
            let map = map("x", &thin, &edges_ns(&thin));
            let counted: u64 = map.columns.iter().flat_map(|column| &column.counts).sum();
            assert_eq!(counted, 2 * count);
            let length_s: f64 = map.columns.iter().map(|column| column.length_s).sum();
            assert_eq!(length_s, 0.5 * count as f64);
            assert!(map.edges_ns.is_sorted_by(|left, right| left < right) && map.edges_ns.len() <= ROWS);
        }
    }

    #[test]
    fn one_value_is_one_row() {
        let batches = [batch(0.0, &[700, 700])];
        assert_eq!(edges_ns(&batches), [700]);
    }
}
