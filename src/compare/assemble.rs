//! A comparison, put together from runs.
//!
//! Invariants: runs that do not count are in no number, and each is listed with the reason; what differs in nothing but its seed is
//! drawn together, what differs in anything else is told.
//! Deliberately absent: statistics (see [`super::resample`] and what builds on it) and files.

use std::collections::{BTreeMap, BTreeSet};

use super::collect::{Collected, Run};
use super::contrast::Contrast;
use super::difference::{self, BOOTS_MIN, Judged};
use super::environment::{self, Placed};
use super::grid::{self, GridCell};
use super::heatmap;
use super::key::{FEATURES, KEYS};
use super::layout::{Layout, LayoutError, Place, lay_out};
use super::metric::{METRICS, Metric, Quantity};
use super::model::{Cell, Change, Column, Comparison, Difference, Group, Measured, Overall, SCHEMA, Source};
use super::resample::Resampled;
use super::sample::{Boot, Sample};
use super::workload::NO_RATE;
use crate::measure::anatomy::Anatomy;
use crate::measure::environment::Clock;
use crate::measure::result::{Tool, utc_now};
use crate::measure::units::counted;
use crate::measure::verdict::{CLOSED_LOOP, Level};

/// What every draw follows from: the same results give the same comparison.
const SEED: u64 = 1;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The key to group by, an index of [`KEYS`]; `None` to find it.
    pub by: Option<usize>,
    /// The label of the group to compare with; `None` for the first.
    pub baseline: Option<String>,
    /// Leave out results of another clock; `None` where all must have the same.
    pub clock: Option<Clock>,
    /// The command as typed.
    pub command_line: Vec<String>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Runs cannot be beside each other.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No such baseline.
    #[error("--baseline {label}: there is no such {key}, but {}", .there.join(", "))]
    Baseline {
        /// What was asked for.
        label: String,
        /// The key.
        key: &'static str,
        /// What there is.
        there: Vec<String>,
    },
}

/// Compares everything that was collected.
///
/// # Errors
/// See [`AssembleError`].
pub fn assemble(mut collected: Collected, request: &Request) -> Result<Comparison, AssembleError> {
    if let Some(clock) = request.clock {
        collected.runs.retain(|run| run.clock() == clock);
        if collected.runs.is_empty() {
            return Err(LayoutError::OtherClock.into());
        }
    }
    let layout = lay_out(&collected, request.by)?;
    let replays = leave_out_replays(&mut collected.runs, &layout.places);
    let baseline = match &request.baseline {
        Some(label) => baseline_named(&layout, label)?,
        None => first_complete(&layout, &collected.runs),
    };
    let bench = Bench::new(&collected, &layout, baseline);
    let mut cells = bench.cells();
    adjust(&mut cells, baseline);
    let caveats = [collected.caveats.clone(), replays.into_iter().collect(), bench.caveats(&cells)].concat();
    Ok(Comparison {
        schema: SCHEMA.to_owned(),
        created: utc_now(),
        tool: Tool::this("ringsock-compare"),
        command_line: request.command_line.clone(),
        by: KEYS[layout.by].name.to_owned(),
        clock: collected.runs[0].clock(),
        groups: bench.groups(),
        baseline,
        overall: bench.overall(),
        grid: bench.grid(),
        environment: environment::differences(&bench.placed(), layout.groups.len(), layout.by),
        sources: bench.sources(),
        cells,
        caveats,
    })
}

/// The first group that has results in as many cells as any: what the others are compared with must be there.
fn first_complete(layout: &Layout, runs: &[Run]) -> usize {
    let places = runs.iter().zip(&layout.places).filter(|(run, _)| run.counts()).map(|(_, place)| *place);
    let filled: BTreeSet<Place> = places.collect();
    let cells = |&group: &usize| filled.iter().filter(|place| place.group == group).count();
    let most = (0..layout.groups.len()).map(|group| cells(&group)).max();
    (0..layout.groups.len()).find(|group| Some(cells(group)) == most).unwrap_or(0)
}

fn baseline_named(layout: &Layout, label: &str) -> Result<usize, AssembleError> {
    let at = layout.groups.iter().position(|group| group == label);
    at.ok_or_else(|| AssembleError::Baseline {
        label: label.to_owned(),
        key: KEYS[layout.by].name,
        there: layout.groups.clone(),
    })
}

/// Counted instructions repeat exactly: a boot with the seed of another is that other once more, and tells nothing new.
fn leave_out_replays(runs: &mut [Run], places: &[Place]) -> Option<String> {
    let mut replays = Vec::new();
    for (index, run) in
        runs.iter().enumerate().filter(|(_, run)| run.counts() && run.clock() == Clock::Instructions)
    {
        let is_original = |(before, other): &(usize, &Run)| {
            places[*before] == places[index]
                && other.counts()
                && other.boot != run.boot
                && other.sample.pieces == run.sample.pieces
        };
        if let Some((original, _)) = runs[..index].iter().enumerate().find(is_original) {
            replays.push((index, original));
        }
    }
    for &(replay, original) in &replays {
        runs[replay].left_out =
            Some(format!("a replay of {}: the same in every duration", runs[original].path));
    }
    let count = counted(replays.len() as u64, "result");
    (!replays.is_empty()).then(|| {
        format!("{count} left out as replays: boots with the seed of another one repeat it exactly, and tell nothing new")
    })
}

/// Sets what a difference comes to, of all differences of one metric together: metrics of one run are mostly different views of one
/// thing, and taking each as a guess of its own would hide what all of them show.
fn adjust(cells: &mut [Cell], baseline: usize) {
    let mut families: BTreeMap<String, Vec<Judged>> = BTreeMap::new();
    for cell in cells {
        let Some(base) = cell.columns[baseline].measured().map(|measured| measured.boots) else { continue };
        for column in &mut cell.columns {
            let Column::Measured(measured) = column else { continue };
            let boots = (base, measured.boots);
            for difference in &mut measured.differences {
                let family = families.entry(difference.metric.clone()).or_default();
                family.push(Judged { difference, boots });
            }
        }
    }
    families.values_mut().for_each(|family| difference::adjust(family));
}

/// What real time is where a processor is played by a program.
const EMULATED: &str = "some guests were emulated (QEMU's TCG) and measured in real time: that is the emulation's time and no processor's; count \
    instructions instead (--clock instructions)";

/// What has to be known of the two metrics in instruction time.
const SPLIT: &str = "server and generator share the one virtual CPU: how many messages each finds in a turn, and so what each costs, is up to the \
    scheduler as well; cpu, both together, is what the path costs";

/// Everything that the parts of a comparison are made from.
struct Bench<'a> {
    collected: &'a Collected,
    layout: &'a Layout,
    baseline: usize,
    /// The runs of each place that count, by index.
    counting: BTreeMap<Place, Vec<usize>>,
    /// What each place's runs come to.
    samples: BTreeMap<Place, Resampled>,
}

impl<'a> Bench<'a> {
    fn new(collected: &'a Collected, layout: &'a Layout, baseline: usize) -> Self {
        let mut counting: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        for (index, place) in
            layout.places.iter().enumerate().filter(|(index, _)| collected.runs[*index].counts())
        {
            counting.entry(*place).or_default().push(index);
        }
        let mut boots: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        for (place, indices) in &counting {
            boots
                .entry(place.group)
                .or_default()
                .extend(indices.iter().map(|&index| collected.runs[index].boot.as_str()));
        }
        let sample = |(place, indices): (&Place, &Vec<usize>)| {
            let of_boot = |boot: &&str| {
                let runs =
                    indices.iter().map(|&index| &collected.runs[index]).filter(|run| run.boot == *boot);
                let runs: Vec<_> = runs.map(|run| run.sample.clone()).collect();
                (!runs.is_empty()).then_some(Boot { runs })
            };
            let boots = boots[&place.group].iter().map(of_boot).collect();
            (*place, Resampled::new(&Sample { group: place.group, cell: place.cell, boots }, SEED))
        };
        let samples = counting.iter().map(sample).collect();
        Bench { collected, layout, baseline, counting, samples }
    }

    fn runs_at(&self, place: Place) -> Vec<&'a Run> {
        let indices = self.counting.get(&place).map_or(&[][..], Vec::as_slice);
        indices.iter().map(|&index| &self.collected.runs[index]).collect()
    }

    fn sample(&self, group: usize, cell: usize) -> Option<&Resampled> {
        self.samples.get(&Place { group, cell })
    }

    fn groups(&self) -> Vec<Group> {
        let group = |(index, label): (usize, &String)| {
            let runs: Vec<_> = self
                .counting
                .iter()
                .filter(|(place, _)| place.group == index)
                .flat_map(|(_, runs)| runs)
                .collect();
            let boots: BTreeSet<_> = runs.iter().map(|&&run| &self.collected.runs[run].boot).collect();
            Group { label: label.clone(), boots: boots.len() as u64, runs: runs.len() as u64 }
        };
        self.layout.groups.iter().enumerate().map(group).collect()
    }

    fn cells(&self) -> Vec<Cell> {
        let all_keys = self.layout.cell_keys();
        let cells = self.layout.cells.iter().zip(all_keys).enumerate();
        cells.map(|(index, (id, keys))| self.cell(index, id, keys)).collect()
    }

    fn cell(&self, index: usize, id: &super::layout::CellId, keys: Vec<(String, String)>) -> Cell {
        let edges_ns = heatmap::edges_ns(
            (0..self.layout.groups.len())
                .filter_map(|group| middle(&self.runs_at(Place { group, cell: index })))
                .flat_map(|run| &run.batches),
        );
        let conditions = keys.iter().filter(|(name, _)| super::key::named(name).is_some());
        let conditions = conditions.map(|(_, value)| value.as_str());
        let label =
            std::iter::once(id.workload.label().as_str()).chain(conditions).collect::<Vec<_>>().join(", ");
        let says = keys.iter().map(|(_, value)| value.as_str()).filter(|&value| value != NO_RATE);
        let short = says.collect::<Vec<_>>().join(", ");
        let short = if short.is_empty() { id.workload.fields()[0].1.clone() } else { short };
        Cell {
            label,
            short,
            keys,
            closed_loop: id.workload.is_closed_loop(),
            rate_per_s: id.workload.rate_per_s(),
            columns: (0..self.layout.groups.len())
                .map(|group| self.column(Place { group, cell: index }, &edges_ns))
                .collect(),
        }
    }

    fn column(&self, place: Place, edges_ns: &[u64]) -> Column {
        let left_out = self.left_out_at(place);
        let Some(sample) = self.samples.get(&place) else { return self.empty(place, &left_out) };
        let runs = self.runs_at(place);
        let base = self.sample(self.baseline, place.cell).filter(|_| place.group != self.baseline);
        let (metrics, spectrum) = difference::measured(sample);
        let (mut differences, quantile_ratios) =
            base.map(|base| difference::against(base, sample)).unwrap_or_default();
        if !self.is_closed_loop(place.cell) {
            // In an open loop the rate is what was asked for.
            differences.retain(|difference| difference.metric != "rate");
        }
        let middle = middle(&runs);
        Column::Measured(Box::new(Measured {
            boots: sample.boots() as u64,
            runs: runs.len() as u64,
            suspect: runs.iter().filter(|run| run.level == Level::Suspect).count() as u64,
            left_out: left_out.len() as u64,
            metrics,
            spectrum,
            differences,
            quantile_ratios,
            anatomy: anatomy(&runs),
            heatmap: middle
                .filter(|run| !run.batches.is_empty())
                .map(|run| heatmap::map(&run.path, &run.batches, edges_ns)),
            exemplars: middle.map(|run| run.exemplars.clone()).unwrap_or_default(),
        }))
    }

    /// A place without a run that counts.
    fn empty(&self, place: Place, left_out: &[&Run]) -> Column {
        if let Some(run) = left_out.first() {
            let reason = run.left_out.clone().unwrap_or_default();
            let count = counted(left_out.len() as u64, "result");
            return Column::Missing { reason: format!("{count} left out: {reason}") };
        }
        let mut here =
            self.layout.absent.iter().filter(|(other, _)| *other == place).map(|(_, absent)| absent);
        match here.clone().find(|absent| absent.unavailable).or_else(|| here.next()) {
            Some(absent) if absent.unavailable => Column::Unavailable { reason: absent.reason.clone() },
            Some(absent) => Column::Missing { reason: format!("it failed: {}", absent.reason) },
            None => Column::Missing { reason: "there is no result of it".to_owned() },
        }
    }

    fn left_out_at(&self, place: Place) -> Vec<&'a Run> {
        let all = self.collected.runs.iter().zip(&self.layout.places);
        all.filter(|(run, other)| **other == place && !run.counts()).map(|(run, _)| run).collect()
    }

    fn overall(&self) -> Vec<Overall> {
        let mut found = Vec::new();
        for group in (0..self.layout.groups.len()).filter(|&group| group != self.baseline) {
            for metric in METRICS.iter().filter(|metric| self.has_mean(metric)) {
                let has = |sample: &&Resampled| sample.number(metric.quantity).is_some();
                let pair = |cell| {
                    if metric.quantity == Quantity::Rate && !self.is_closed_loop(cell) {
                        return None;
                    }
                    let other = self.sample(group, cell).filter(has)?;
                    Some((other, self.sample(self.baseline, cell).filter(has)?))
                };
                let pairs: Vec<_> = (0..self.layout.cells.len()).filter_map(pair).collect();
                if pairs.len() < 2 {
                    continue;
                }
                let Some(mean) = Contrast::geometric_mean(metric.quantity, &pairs) else { continue };
                found.push(Overall {
                    group,
                    metric: metric.name.to_owned(),
                    cells: pairs.len() as u64,
                    ratio: mean.ratio(),
                    interval: mean.interval().filter(|_| mean.boots() as u64 >= BOOTS_MIN),
                });
            }
        }
        found
    }

    fn is_closed_loop(&self, cell: usize) -> bool {
        self.layout.cells[cell].workload.is_closed_loop()
    }

    /// Response times of an open loop and service times of a closed one have no mean.
    fn has_mean(&self, metric: &Metric) -> bool {
        let mut loops = (0..self.layout.cells.len()).map(|cell| self.is_closed_loop(cell));
        let first = loops.next();
        !matches!(metric.quantity, Quantity::Quantile(_)) || loops.all(|other| Some(other) == first)
    }

    fn grid(&self) -> Option<super::model::Grid> {
        let cell = |(index, id)| {
            Some(GridCell {
                table: self.layout.beside(id, FEATURES),
                features: self.layout.value(id, FEATURES)?,
                samples: (0..self.layout.groups.len()).map(|group| self.sample(group, index)).collect(),
            })
        };
        let cells: Option<Vec<_>> = self.layout.cells.iter().enumerate().map(cell).collect();
        grid::grid(&cells?, self.baseline)
    }

    /// The runs that count, where they are.
    fn placed(&self) -> Vec<Placed<'a>> {
        let of_place = |(place, indices): (&Place, &Vec<usize>)| {
            let Place { group, cell } = *place;
            let runs = &self.collected.runs;
            indices.iter().map(|&index| Placed { run: &runs[index], group, cell }).collect::<Vec<_>>()
        };
        self.counting.iter().flat_map(of_place).collect()
    }

    fn sources(&self) -> Vec<Source> {
        let source = |(run, place): (&Run, &Place)| Source {
            path: run.path.clone(),
            group: Some(place.group),
            cell: Some(place.cell),
            boot: run.boot.clone(),
            created: run.created.clone(),
            tool: run.tool.clone(),
            command_line: run.command_line.clone(),
            level: Some(run.level),
            left_out: run.left_out.clone(),
        };
        self.collected.runs.iter().zip(&self.layout.places).map(source).collect()
    }

    fn caveats(&self, cells: &[Cell]) -> Vec<String> {
        let mut lines = Vec::new();
        if cells.iter().any(|cell| cell.closed_loop) {
            lines.push(CLOSED_LOOP.to_owned());
        }
        let columns = || cells.iter().flat_map(|cell| &cell.columns).filter_map(Column::measured);
        let suspect: u64 = columns().map(|measured| measured.suspect).sum();
        if suspect > 0 {
            lines.push(format!("{} SUSPECT, and marked: the numbers may be bent", are(suspect)));
        }
        let differences: Vec<_> = columns().flat_map(|measured| &measured.differences).collect();
        let too_few = differences.iter().filter(|difference| difference.change == Change::TooFew).count();
        if too_few > 0 {
            let of_metric = |metric: &Metric| {
                differences.iter().filter(|difference| difference.metric == metric.name).count() as u64
            };
            let family = METRICS.iter().map(of_metric).max().unwrap_or(0);
            lines.push(format!(
                "{too_few} of {} cannot be told from chance, however large, with so few boots: it takes {} of each group at least",
                counted(differences.len() as u64, "difference"),
                counted(difference::boots_needed(family), "boot"),
            ));
        }
        let is_split =
            |difference: &&&Difference| ["server-cpu", "load-cpu"].contains(&difference.metric.as_str());
        if self.collected.runs[0].clock() == Clock::Instructions
            && differences.iter().any(|difference| is_split(&difference))
        {
            lines.push(SPLIT.to_owned());
        }
        let is_emulated =
            |run: &Run| run.clock() == Clock::Real && run.guest.accelerator.as_deref() == Some("tcg");
        if self.collected.runs.iter().any(is_emulated) {
            lines.push(EMULATED.to_owned());
        }
        let failed = self.layout.absent.iter().filter(|(_, absent)| !absent.unavailable).count();
        if failed > 0 {
            lines.push(format!("{} failed in a boot and left no result", counted(failed as u64, "run")));
        }
        let lost: BTreeSet<_> =
            self.layout.lost.iter().map(|absent| (&absent.label, &absent.reason)).collect();
        lines.extend(lost.iter().map(|(label, reason)| format!("{label} has no result anywhere: {reason}")));
        lines
    }
}

fn are(count: u64) -> String {
    format!("{} {}", counted(count, "run"), if count == 1 { "is" } else { "are" })
}

/// The run with the median p99; of an even number the better of the two in the middle.
fn middle<'a>(runs: &[&'a Run]) -> Option<&'a Run> {
    let mut sorted = runs.to_vec();
    sorted.sort_by_key(|run| run.p99_ns);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// Of all runs that have one, together.
fn anatomy(runs: &[&Run]) -> Option<Anatomy> {
    let mut all = runs.iter().filter_map(|run| run.anatomy.as_deref());
    let mut merged = all.next()?.clone();
    all.for_each(|other| merged.merge(other));
    Some(merged)
}
