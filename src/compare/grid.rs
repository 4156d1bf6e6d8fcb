//! Features against groups: what each switched feature does, everywhere and in each group.
//!
//! Invariant: an effect is of cells that differ in the features alone, and of boots that have both.
//! Deliberately absent: features switched together, apart from each other. A list of switches is one value.

use std::collections::BTreeMap;

use super::contrast::Contrast;
use super::difference::effects;
use super::key::{DEFAULT, FEATURES, KEYS};
use super::metric::{METRICS, Metric};
use super::model::{Effect, Grid, GridRow, GridTable};
use super::resample::Resampled;

/// A cell, as far as a grid needs it.
pub(super) struct GridCell<'a> {
    /// What cells of one table have in common, as its label.
    pub table: String,
    /// Its features.
    pub features: &'a str,
    /// Each group's samples; `None` where it has no run that counts.
    pub samples: Vec<Option<&'a Resampled>>,
}

/// The grid of cells that differ in features; `None` where none is [`DEFAULT`], or none is anything else.
pub(super) fn grid(cells: &[GridCell], baseline: usize) -> Option<Grid> {
    let mut by_table: BTreeMap<&str, Vec<&GridCell>> = BTreeMap::new();
    cells.iter().for_each(|cell| by_table.entry(&cell.table).or_default().push(cell));
    let mut tables = Vec::new();
    for (label, cells) in by_table {
        let Some(reference) = cells.iter().find(|cell| cell.features == DEFAULT) else { continue };
        let others: Vec<_> = cells.iter().copied().filter(|cell| cell.features != DEFAULT).collect();
        tables.extend(METRICS.iter().filter_map(|metric| table(label, metric, reference, &others, baseline)));
    }
    (!tables.is_empty()).then(|| Grid { rows_by: KEYS[FEATURES].name.to_owned(), tables })
}

fn table(
    label: &str,
    metric: &Metric,
    reference: &GridCell,
    others: &[&GridCell],
    baseline: usize,
) -> Option<GridTable> {
    let rows: Vec<Vec<Option<Contrast>>> =
        others.iter().map(|other| contrasts(metric, reference, other, baseline)).collect();
    if rows.iter().flatten().all(Option::is_none) {
        return None;
    }
    // All effects of a table are told from chance together.
    let width = rows[0].len();
    let mut told = effects(metric.name, &rows.concat()).into_iter();
    let group_count = (width - 1) / 2;
    let mut row = |other: &&GridCell| {
        let mut take = |count: usize| told.by_ref().take(count).collect::<Vec<Option<Effect>>>();
        let (effects, main, interactions) = (take(group_count), take(1).remove(0), take(group_count));
        GridRow { value: other.features.to_owned(), effects, main, interactions }
    };
    let rows: Vec<GridRow> = others.iter().map(&mut row).collect();
    Some(GridTable {
        label: label.to_owned(),
        metric: metric.name.to_owned(),
        reference: DEFAULT.to_owned(),
        rows,
    })
}

/// The effect in each group, the main effect, and the interaction in each group.
fn contrasts(
    metric: &Metric,
    reference: &GridCell,
    other: &GridCell,
    baseline: usize,
) -> Vec<Option<Contrast>> {
    let quantity = metric.quantity;
    let has = |sample: &Resampled| sample.number(quantity).is_some();
    let pair = |group: usize| {
        let (other, reference) = (other.samples[group]?, reference.samples[group]?);
        (has(other) && has(reference)).then_some((other, reference))
    };
    let pairs: Vec<_> = (0..reference.samples.len()).map(pair).collect();
    let of_pair = |&(other, reference): &(_, _)| Contrast::ratio_of(quantity, other, reference);
    let there: Vec<_> = pairs.iter().flatten().copied().collect();
    let interaction = |(group, pair): (usize, &Option<(&Resampled, &Resampled)>)| {
        let ((other, reference), (other_base, reference_base)) = ((*pair)?, pairs[baseline]?);
        let terms = [(1.0, other), (-1.0, reference), (-1.0, other_base), (1.0, reference_base)];
        if group == baseline { None } else { Contrast::of(quantity, &terms) }
    };
    let main = if there.is_empty() { None } else { Contrast::geometric_mean(quantity, &there) };
    let effects = pairs.iter().map(|pair| pair.as_ref().and_then(of_pair));
    effects.chain([main]).chain(pairs.iter().enumerate().map(interaction)).collect()
}
