//! Which group and which cell every run belongs to.
//!
//! Invariants: runs of one cell have one workload and one value of every key that splits cells; a key that follows from the one that
//! results are grouped by splits nothing. Different workloads are never beside each other: where groups have none in common, that
//! is an error which says in what they differ.
//! Deliberately absent: numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::collect::{AbsentRun, Collected, Run};
use super::key::{self, KEY_COUNT, KEYS, LABEL, Splits, Values};
use super::workload::{FIELD_COUNT, Workload};
use crate::measure::environment::Clock;

/// Why results cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Two clocks.
    #[error(
        "instructions cannot be compared with time: {instructions} counts instructions, {real} real time; take \
         those of one with --clock real or --clock instructions"
    )]
    Clocks {
        /// A result in instructions.
        instructions: String,
        /// A result in real time.
        real: String,
    },
    /// Only one clock was wanted.
    #[error("none of the results is of the clock that --clock names: leave it out")]
    OtherClock,
    /// Nothing to group by.
    #[error(
        "the {count} results differ in nothing that they could be grouped by: compare results of several kernels, engines, …"
    )]
    Same {
        /// How many there are.
        count: usize,
    },
    /// Several keys to group by.
    #[error("the results differ in {}: say with --by which of these is to be compared", .names.join(", "))]
    Several {
        /// The keys.
        names: Vec<&'static str>,
    },
    /// One group only.
    #[error("all results have one {key}, {label}, so there is nothing to compare{}", .mend)]
    OneGroup {
        /// The key.
        key: &'static str,
        /// Its one value.
        label: String,
        /// What could be compared instead, if anything.
        mend: String,
    },
    /// Nothing in common.
    #[error("the groups have no workload in common: {differ}; compare runs of the same work")]
    Workloads {
        /// Fields and the values that groups have of them.
        differ: String,
    },
    /// No run counts.
    #[error("none of the {count} results counts: {reason}; repeat the runs")]
    Untrusted {
        /// How many there are.
        count: usize,
        /// Why the first does not.
        reason: String,
    },
}

/// One cell: what its runs have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellId {
    /// The work.
    pub workload: Workload,
    /// The place of each splitting key's value among all values, in the order of [`Layout::split_by`].
    ranks: Vec<usize>,
    /// Those values.
    pub values: Vec<String>,
}

/// A place in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The index in [`Layout::groups`].
    pub group: usize,
    /// The index in [`Layout::cells`].
    pub cell: usize,
}

/// See the module's text.
#[derive(Debug)]
pub struct Layout {
    /// The key that groups differ by, an index of [`KEYS`].
    pub by: usize,
    /// Its values, in order.
    pub groups: Vec<String>,
    /// The keys that split cells.
    pub split_by: Vec<usize>,
    /// All cells, in order.
    pub cells: Vec<CellId>,
    /// Where each run is, in the order of the runs.
    pub places: Vec<Place>,
    /// Runs that have no result, with their places.
    pub absent: Vec<(Place, AbsentRun)>,
    /// Of them, those that cannot be placed, since nothing of their label has a result.
    pub lost: Vec<AbsentRun>,
}

/// Places all runs; `by` is an index of [`KEYS`].
///
/// # Errors
/// See [`LayoutError`].
pub fn lay_out(collected: &Collected, by: Option<usize>) -> Result<Layout, LayoutError> {
    let runs = &collected.runs;
    check_clocks(runs)?;
    if !runs.iter().any(Run::counts) {
        let reason = runs.iter().find_map(|run| run.left_out.clone()).unwrap_or_default();
        return Err(LayoutError::Untrusted { count: runs.len(), reason });
    }
    let (stand_ins, lost) = stand_ins(collected);
    let with_absent: Vec<Run> = runs.iter().chain(stand_ins.iter().map(|(run, _)| run)).cloned().collect();
    let values = key::values_of(&with_absent);
    let by = match by {
        Some(by) => by,
        None => key::default_key(&values).map_err(|names| match names.is_empty() {
            true => LayoutError::Same { count: runs.len() },
            false => LayoutError::Several { names },
        })?,
    };
    let groups = owned(key::ordered(by, values.iter().map(|values| values[by].as_str())));
    if let [label] = &groups[..] {
        return Err(one_group(by, label, &values));
    }
    let splits = |&key: &usize| {
        let may = match KEYS[key].splits {
            Splits::Always => true,
            Splits::IfShared => !key::follows(by, key, &values),
            Splits::Never => false,
        };
        may && key != by && key::varies(key, &values) && !key::follows(key, by, &values)
    };
    let split_by: Vec<usize> = (0..KEY_COUNT).filter(splits).collect();
    let ids = cell_ids(&with_absent, &values, &split_by);
    let cells: Vec<CellId> = ids.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
    let place = |(values, id): (&Values, &CellId)| Place {
        group: groups.iter().position(|label| *label == values[by]).expect("every value is a group"),
        cell: cells.binary_search(id).expect("every cell is listed"),
    };
    let mut places: Vec<Place> = values.iter().zip(&ids).map(place).collect();
    let absent_places = places.split_off(runs.len());
    let absent = absent_places.into_iter().zip(stand_ins.into_iter().map(|(_, absent)| absent)).collect();
    let layout = Layout { by, groups, split_by, cells, places, absent, lost };
    layout.check_common(runs)?;
    Ok(layout)
}

fn owned(values: Vec<&str>) -> Vec<String> {
    values.into_iter().map(str::to_owned).collect()
}

fn check_clocks(runs: &[Run]) -> Result<(), LayoutError> {
    let of = |clock: Clock| runs.iter().find(|run| run.clock() == clock).map(|run| run.path.clone());
    match (of(Clock::Instructions), of(Clock::Real)) {
        (Some(instructions), Some(real)) => Err(LayoutError::Clocks { instructions, real }),
        _ => Ok(()),
    }
}

fn one_group(by: usize, label: &str, values: &[Values]) -> LayoutError {
    let others: Vec<&str> =
        (0..KEY_COUNT).filter(|&key| key::varies(key, values)).map(|key| KEYS[key].name).collect();
    let mend = match others.is_empty() {
        true => String::new(),
        false => format!("; the results differ in {}: take one of these for --by", others.join(", ")),
    };
    LayoutError::OneGroup { key: KEYS[by].name, label: label.to_owned(), mend }
}

/// For each absent run one with a result that has its label, as it would have been in that boot; and those that have none.
fn stand_ins(collected: &Collected) -> (Vec<(Run, AbsentRun)>, Vec<AbsentRun>) {
    let (mut placed, mut lost) = (Vec::new(), Vec::new());
    for absent in &collected.absent {
        let mut runs = collected.runs.iter();
        match runs.clone().find(|run| run.label.as_ref() == Some(&absent.label)) {
            Some(run) => {
                placed.push((run.elsewhere(absent, runs.find(|run| run.boot == absent.boot)), absent.clone()))
            }
            None => lost.push(absent.clone()),
        }
    }
    (placed, lost)
}

fn cell_ids(runs: &[Run], values: &[Values], split_by: &[usize]) -> Vec<CellId> {
    let ranks: Vec<Vec<&str>> = split_by
        .iter()
        .map(|&key| key::ordered(key, values.iter().map(|values| values[key].as_str())))
        .collect();
    let id = |(run, values): (&Run, &Values)| {
        let rank = |(&key, order): (&usize, &Vec<&str>)| {
            order.iter().position(|value| *value == values[key]).expect("every value has a place")
        };
        CellId {
            workload: Workload::of(&run.plan),
            ranks: split_by.iter().zip(&ranks).map(rank).collect(),
            values: split_by.iter().map(|&key| values[key].clone()).collect(),
        }
    };
    runs.iter().zip(values).map(id).collect()
}

impl Layout {
    /// Name and value of everything that cells can differ in: the workload's fields, then the keys. What is usual is not left out.
    fn parts(&self, cell: &CellId) -> Vec<(&'static str, String)> {
        let keys = self.split_by.iter().zip(&cell.values).map(|(&key, value)| {
            // A value by itself says enough, but for these.
            (KEYS[key].name, value.clone())
        });
        cell.workload.fields().into_iter().chain(keys).collect()
    }

    /// What cells differ in, by name, for each: a part that follows from those before it is left out.
    pub fn cell_keys(&self) -> Vec<Vec<(String, String)>> {
        let all: Vec<_> = self.cells.iter().map(|cell| self.parts(cell)).collect();
        let count = FIELD_COUNT + self.split_by.len();
        let mut chosen: Vec<usize> = Vec::new();
        for part in 0..count {
            // What the chosen parts are, against this one.
            let mut seen: BTreeMap<Vec<&String>, &String> = BTreeMap::new();
            let follows = all.iter().all(|parts| {
                let before = chosen.iter().map(|&part| &parts[part].1).collect();
                *seen.entry(before).or_insert(&parts[part].1) == &parts[part].1
            });
            // A workload's field is worth saying wherever it differs, a label only where nothing else tells cells apart.
            let varies = all.iter().any(|parts| parts[part].1 != all[0][part].1);
            if !follows || (part < FIELD_COUNT && varies) {
                chosen.push(part);
            }
        }
        let of_cell = |parts: &Vec<(&'static str, String)>| {
            chosen.iter().map(|&part| (parts[part].0.to_owned(), parts[part].1.clone())).collect()
        };
        all.iter().map(of_cell).collect()
    }

    /// The value of `key` that a cell has; `None` if cells are not split by it.
    pub fn value<'a>(&self, cell: &'a CellId, key: usize) -> Option<&'a str> {
        let at = self.split_by.iter().position(|&split| split == key)?;
        Some(&cell.values[at])
    }

    /// What a cell has beside its features and whatever goes with them, in a line: what the cells of one grid have in common.
    pub fn beside(&self, cell: &CellId, without: usize) -> String {
        let keys = self.split_by.iter().zip(&cell.values);
        let others = keys.filter(|(key, _)| **key != without && **key != LABEL);
        let others: Vec<&str> = others.map(|(_, value)| value.as_str()).collect();
        [&[cell.workload.label().as_str()], &others[..]].concat().join(", ")
    }

    /// Some cell has to be in two groups.
    fn check_common(&self, runs: &[Run]) -> Result<(), LayoutError> {
        let counting = self.places.iter().zip(runs).filter(|(_, run)| run.counts()).map(|(place, _)| *place);
        let places: BTreeSet<Place> = counting.chain(self.absent.iter().map(|(place, _)| *place)).collect();
        let groups: BTreeSet<usize> = places.iter().map(|place| place.group).collect();
        let groups_of = |cell: usize| places.iter().filter(|place| place.cell == cell).count();
        // With one group that counts there is nothing to differ from: its cells say why.
        if groups.len() < 2 || (0..self.cells.len()).any(|cell| groups_of(cell) > 1) {
            return Ok(());
        }
        Err(LayoutError::Workloads { differ: self.differ(&places) })
    }

    /// In which parts the groups differ, and their values.
    fn differ(&self, places: &BTreeSet<Place>) -> String {
        let parts: Vec<_> = self.cells.iter().map(|cell| self.parts(cell)).collect();
        let values_of = |group: usize, part: usize| {
            let of_group = places.iter().filter(|place| place.group == group);
            of_group.map(|place| parts[place.cell][part].1.as_str()).collect::<BTreeSet<_>>()
        };
        let groups: Vec<usize> =
            places.iter().map(|place| place.group).collect::<BTreeSet<_>>().into_iter().collect();
        let mut lines = Vec::new();
        for (part, (name, _)) in parts[0].iter().enumerate() {
            let first = values_of(groups[0], part);
            if groups.iter().all(|&group| values_of(group, part) == first) {
                continue;
            }
            let says = |&group: &usize| {
                let values = values_of(group, part).into_iter().collect::<Vec<_>>().join(", ");
                format!("{values} in {}", self.groups[group])
            };
            lines.push(format!("{name} is {}", groups.iter().map(says).collect::<Vec<_>>().join("; ")));
        }
        lines.join("; ")
    }
}
