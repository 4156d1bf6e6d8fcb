//! Comparisons that were never made, the same for the same seed, for tests of what shows them.
//!
//! They hold everything a page may meet: groups that lack a cell, results that do not count, SUSPECT runs, single boots, and labels
//! that would break out of markup if they were let. Deliberately absent: statistics; the numbers are only plausible.

use ringsock::compare::metric::METRICS;
use ringsock::compare::model::*;
use ringsock::measure::anatomy::{Anatomy, Explained};
use ringsock::measure::environment::Clock;
use ringsock::measure::evidence::{Around, Exemplar, ServerStamps};
use ringsock::measure::histogram::new_histogram;
use ringsock::measure::result::Tool;
use ringsock::measure::verdict::Level;

/// What a file could hold to break out of text, of an attribute, of a style sheet, of a script.
pub(crate) const HOSTILE: &str = "</script><b>&\"'--></style>\u{202e}evil";

const KERNELS: [&str; 12] = [
    "5.10.239",
    "5.15.186",
    "6.1.128",
    "6.3.13",
    "6.6.98",
    "6.7.12",
    "6.9.12",
    "6.10.14",
    "6.11.11",
    "6.12.57",
    "6.15.3",
    "6.18.0-rc4",
];

/// What a comparison is to be like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) groups: usize,
    pub(crate) cells: usize,
    pub(crate) clock: Clock,
    /// With fewer than two there are no intervals.
    pub(crate) boots: usize,
    pub(crate) hostile: bool,
}

impl Shape {
    /// Real time, five boots, all cells.
    pub(crate) fn of(groups: usize) -> Self {
        Self { groups, cells: CELLS.len(), clock: Clock::Real, boots: 5, hostile: false }
    }
}

/// Payload, rate, engine, median in nanoseconds, messages a second, steepness of the tail.
type Workload = (&'static str, Option<f64>, &'static str, f64, f64, f64);

const CELLS: [Workload; 6] = [
    ("64 B", None, "uring", 24_000.0, 412_000.0, 0.25),
    ("64 B", None, "epoll", 31_000.0, 318_000.0, 0.3),
    ("64 B", Some(20_000.0), "uring", 21_000.0, 20_000.0, 0.9),
    ("64 B", Some(80_000.0), "uring", 26_000.0, 80_000.0, 1.3),
    ("64 B", Some(160_000.0), "uring", 48_000.0, 160_000.0, 2.6),
    ("16 KiB", None, "uring", 88_000.0, 96_000.0, 0.5),
];

/// The comparison of that shape and seed.
pub(crate) fn comparison(shape: Shape, seed: u64) -> Comparison {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut groups: Vec<Group> = (0..shape.groups)
        .map(|group| Group {
            label: KERNELS[group * KERNELS.len() / shape.groups.max(1)].to_owned(),
            boots: shape.boots as u64,
            runs: 2 * shape.boots as u64,
        })
        .collect();
    let baseline = if shape.groups > 4 { 2 } else { 0 };
    if shape.hostile {
        groups.last_mut().expect("a group").label = HOSTILE.to_owned();
    }
    let cells: Vec<Cell> =
        CELLS.iter().take(shape.cells).map(|it| cell(shape, baseline, it, &mut chance)).collect();
    let overall = overall(&cells, &groups, baseline);
    let sources = sources(shape, &groups, cells.len());
    let mut comparison = Comparison {
        schema: SCHEMA.to_owned(),
        created: "2026-11-22T18:04:33Z".to_owned(),
        tool: tool("ringsock-compare"),
        command_line: ["ringsock-compare", "report", "--by", "kernel", "results/series 7"].map(str::to_owned).to_vec(),
        by: "kernel".to_owned(),
        clock: shape.clock,
        grid: (shape.groups > 1).then(|| grid(shape, &groups, baseline, &mut chance)),
        environment: environment(&groups),
        groups,
        baseline,
        cells,
        overall,
        sources,
        caveats: vec!["6.1.128 ran on another CPU governor than the others, which alone may be the reason for a difference.".to_owned()],
    };
    if shape.hostile {
        poison(&mut comparison);
    }
    comparison
}

fn tool(name: &str) -> Tool {
    Tool { name: name.to_owned(), version: "0.1.0".to_owned(), revision: Some("8973fb2".to_owned()) }
}

fn cell(shape: Shape, baseline: usize, workload: &Workload, chance: &mut fastrand::Rng) -> Cell {
    let (payload, rate, engine, ..) = *workload;
    let load = match rate {
        Some(rate) => format!("{} k/s", rate / 1000.0),
        None => "closed loop × 1".to_owned(),
    };
    let column = |group: usize, chance: &mut fastrand::Rng| match group {
        1 if engine == "uring" && payload == "16 KiB" && shape.groups > 2 => {
            Column::Unavailable { reason: "the kernel has no buffer rings (they came with 5.19)".to_owned() }
        }
        3 if rate == Some(160_000.0) => {
            Column::Missing { reason: "10 runs, all of them INVALID: the generator fell behind".to_owned() }
        }
        _ => Column::Measured(Box::new(measured(shape, group, baseline, workload, chance))),
    };
    Cell {
        label: format!("echo, 16 × {payload}, {load}, {engine}"),
        short: format!("{payload}, {load}, {engine}"),
        keys: vec![
            ("payload".to_owned(), payload.to_owned()),
            ("load".to_owned(), load),
            ("engine".to_owned(), engine.to_owned()),
        ],
        closed_loop: rate.is_none(),
        rate_per_s: rate,
        columns: (0..shape.groups).map(|group| column(group, chance)).collect(),
    }
}

/// A value's ends, if there are boots enough.
fn around(shape: Shape, value: f64, share: f64) -> Option<(f64, f64)> {
    (shape.boots > 1).then_some((value / (1.0 + share), value * (1.0 + share)))
}

/// By how much a group's quantile differs from the baseline's: newer kernels are faster in the bulk, one has a bad tail.
fn effect(group: usize, baseline: usize, nines: f64) -> f64 {
    let step = group as f64 - baseline as f64;
    let tail = if group % 5 == 3 { 0.18 } else { -0.012 * step };
    (1.0 - 0.021 * step) * (1.0 + tail * nines)
}

fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile.min(0.999_995)).log10()
}

fn value_at(workload: &Workload, group: usize, baseline: usize, quantile: f64) -> f64 {
    let nines = nines(quantile);
    workload.3 * (0.72 + 0.9 * nines * (1.0 + workload.5 * nines)) * effect(group, baseline, nines)
}

fn quantiles() -> impl Iterator<Item = f64> {
    let bulk = (0..100).map(|step| f64::from(step) / 100.0);
    let tail = (0..=60).map(|step| 1.0 - 10_f64.powf(-2.0 - f64::from(step) / 20.0));
    bulk.chain(tail).chain([1.0])
}

fn measured(
    shape: Shape,
    group: usize,
    baseline: usize,
    workload: &Workload,
    chance: &mut fastrand::Rng,
) -> Measured {
    let spectrum: Vec<SpectrumPoint> = quantiles()
        .map(|quantile| {
            let value_ns = value_at(workload, group, baseline, quantile) * (0.995 + 0.01 * chance.f64());
            SpectrumPoint {
                quantile,
                value_ns,
                interval_ns: around(shape, value_ns, 0.015 + 0.03 * nines(quantile)),
            }
        })
        .collect();
    let ratios = |chance: &mut fastrand::Rng| -> Vec<RatioPoint> {
        let ratio = |quantile: f64| effect(group, baseline, nines(quantile)) * (0.995 + 0.01 * chance.f64());
        let mut ratio = ratio;
        quantiles()
            .map(|quantile| {
                let ratio = ratio(quantile);
                RatioPoint { quantile, ratio, interval: around(shape, ratio, 0.02 + 0.03 * nines(quantile)) }
            })
            .collect()
    };
    let metrics: Vec<Estimate> =
        METRICS.iter().map(|metric| estimate(shape, group, baseline, workload, metric.name)).collect();
    let is_baseline = group == baseline;
    let differences = match is_baseline {
        true => Vec::new(),
        false => metrics.iter().map(|it| difference(shape, group, baseline, &it.metric, chance)).collect(),
    };
    Measured {
        boots: shape.boots as u64,
        runs: 2 * shape.boots as u64,
        suspect: u64::from(group % 4 == 1),
        left_out: u64::from(group % 7 == 4) * 2,
        metrics,
        spectrum,
        differences,
        quantile_ratios: if is_baseline { Vec::new() } else { ratios(chance) },
        anatomy: (workload.2 == "uring").then(|| anatomy(workload, group, baseline)),
        heatmap: Some(heatmap(workload, group, baseline, chance)),
        exemplars: (0..6).map(|rank| exemplar(workload, group, baseline, rank, chance)).collect(),
    }
}

fn estimate(shape: Shape, group: usize, baseline: usize, workload: &Workload, metric: &str) -> Estimate {
    let value = match metric {
        "p50" => value_at(workload, group, baseline, 0.5),
        "p90" => value_at(workload, group, baseline, 0.9),
        "p99" => value_at(workload, group, baseline, 0.99),
        "p99.9" => value_at(workload, group, baseline, 0.999),
        "rate" if workload.1.is_some() => workload.4 * 0.9998,
        "rate" => workload.4 / effect(group, baseline, 0.0),
        "cpu" => 3_400.0 * effect(group, baseline, 0.05) * (workload.3 / 24_000.0).sqrt(),
        "server-cpu" => 2_100.0 * effect(group, baseline, 0.0) * (workload.3 / 24_000.0).sqrt(),
        _ => 1_300.0 * effect(group, baseline, 0.1),
    };
    let boots = (0..shape.boots).map(|boot| value * (0.98 + 0.01 * boot as f64)).collect();
    Estimate { metric: metric.to_owned(), value, interval: around(shape, value, 0.02), boots }
}

fn difference(
    shape: Shape,
    group: usize,
    baseline: usize,
    metric: &str,
    chance: &mut fastrand::Rng,
) -> Difference {
    let more_is_better = metric == "rate";
    let nines = match metric {
        "p90" => 1.0,
        "p99" => 2.0,
        "p99.9" => 3.0,
        _ => 0.1,
    };
    let of_time = effect(group, baseline, nines) * (0.98 + 0.04 * chance.f64());
    let ratio = if more_is_better { 1.0 / of_time } else { of_time };
    let spread = 0.01 + 0.02 * nines + 0.02 * chance.f64();
    let interval = around(shape, ratio, spread);
    let change = match interval {
        None => Change::TooFew,
        Some((low, high)) if low <= 1.0 && high >= 1.0 => Change::Noise,
        _ if (ratio > 1.0) == more_is_better => Change::Better,
        _ => Change::Worse,
    };
    let p = interval.map(|_| if change == Change::Noise { 0.31 + 0.3 * chance.f64() } else { 0.0004 });
    let detectable = interval.map(|_| 1.4 * spread);
    Difference {
        metric: metric.to_owned(),
        ratio,
        interval,
        p,
        p_adjusted: p.map(|p| (p * 20.0_f64).min(1.0)),
        detectable,
        change,
    }
}

fn anatomy(workload: &Workload, group: usize, baseline: usize) -> Anatomy {
    let explained =
        [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)].map(|(percentile, quantile)| {
            let response_ns = value_at(workload, group, baseline, quantile);
            let generator_ns = if workload.1.is_some() { 0.07 * response_ns } else { 0.0 };
            let rest = response_ns - generator_ns;
            Explained {
                percentile: percentile.to_owned(),
                messages: 20_000,
                response_ns,
                generator_ns,
                to_server_ns: 0.42 * rest,
                in_server_ns: 0.2 * rest,
                back_ns: 0.38 * rest,
                to_server_wake_up_ns: (group % 3 != 2).then_some(0.22 * rest),
                back_wake_up_ns: Some(0.11 * rest),
            }
        });
    Anatomy {
        generator: new_histogram(),
        to_server: new_histogram(),
        in_server: new_histogram(),
        back: new_histogram(),
        to_server_split: None,
        back_split: None,
        explained: explained.into(),
        overlapped: 0,
        disordered: 0,
    }
}

fn heatmap(workload: &Workload, group: usize, baseline: usize, chance: &mut fastrand::Rng) -> Heatmap {
    let mut edges_ns: Vec<u64> = Vec::new();
    let mut edge = 1_000.0_f64;
    while edge < 5e8 {
        edges_ns.push(edge as u64);
        edge *= 1.19;
    }
    let column = |second: usize, chance: &mut fastrand::Rng| {
        let mut counts = vec![0; edges_ns.len()];
        // A hiccup a third of the way through.
        let slow = if second / 2 == 10 { 3.0 } else { 1.0 };
        for _ in 0..3_000 {
            let value = slow * value_at(workload, group, baseline, chance.f64());
            let row = edges_ns.iter().position(|&edge| value < edge as f64).unwrap_or(edges_ns.len() - 1);
            counts[row] += 1;
        }
        HeatColumn { start_s: second as f64 * 0.25, length_s: 0.25, counts }
    };
    let columns = (0..60).map(|second| column(second, chance)).collect();
    Heatmap {
        source: format!("results/series 7/{group}/boot-3/run-1.json"),
        edges_ns: edges_ns.clone(),
        columns,
    }
}

fn exemplar(
    workload: &Workload,
    group: usize,
    baseline: usize,
    rank: u64,
    chance: &mut fastrand::Rng,
) -> Exemplar {
    let response_ns = (value_at(workload, group, baseline, 1.0) * (3.0 - 0.1 * rank as f64)) as u64;
    Exemplar {
        thread: 0,
        connection: rank,
        number: 1000 * rank + 17,
        intended_s: 5.0 + 0.5 * chance.f64() + if rank == 5 { 7.0 } else { 0.0 },
        response_ns,
        queued_ns: response_ns / 10,
        service_ns: response_ns - response_ns / 10,
        server: Some(ServerStamps { to_server_ns: response_ns / 3, in_server_ns: response_ns / 2 }),
        others_in_turn: 3,
        around: Around {
            span_ns: 2 * response_ns,
            turns: 12,
            longest_turn_ns: response_ns / 2,
            ..Around::default()
        },
    }
}

fn overall(cells: &[Cell], groups: &[Group], baseline: usize) -> Vec<Overall> {
    let mut found = Vec::new();
    for group in (0..groups.len()).filter(|group| *group != baseline) {
        for metric in METRICS {
            let ratios: Vec<f64> = cells
                .iter()
                .filter_map(|cell| cell.columns[group].measured())
                .filter_map(|it| it.differences.iter().find(|it| it.metric == metric.name))
                .map(|it| it.ratio)
                .collect();
            if ratios.len() > 1 {
                let ratio = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
                let metric = metric.name.to_owned();
                let interval = Some((0.985 * ratio, 1.015 * ratio));
                found.push(Overall { group, metric, cells: ratios.len() as u64, ratio, interval });
            }
        }
    }
    found
}

fn grid(shape: Shape, groups: &[Group], baseline: usize, chance: &mut fastrand::Rng) -> Grid {
    let mut effect = |about: f64| {
        let ratio = about * (0.97 + 0.06 * chance.f64());
        let change = match ratio {
            _ if shape.boots < 2 => Change::TooFew,
            _ if ratio > 1.05 => Change::Worse,
            _ if ratio < 0.95 => Change::Better,
            _ => Change::Noise,
        };
        Effect { ratio, interval: around(shape, ratio, 0.03), change }
    };
    let switches =
        [("-multishot-recv", 1.22), ("-buffer-ring", 1.4), ("+napi", 0.86), ("-direct-descriptors", 1.03)];
    let mut table = |metric: &str| GridTable {
        label: "echo, 16 × 64 B, closed loop × 1".to_owned(),
        metric: metric.to_owned(),
        reference: "default".to_owned(),
        rows: switches
            .iter()
            .map(|&(value, about)| GridRow {
                value: value.to_owned(),
                effects: (0..groups.len())
                    .map(|group| (group != 1 || value != "+napi").then(|| effect(about)))
                    .collect(),
                main: Some(effect(about)),
                interactions: (0..groups.len())
                    .map(|group| (group != baseline).then(|| effect(1.0)))
                    .collect(),
            })
            .collect(),
    };
    Grid { rows_by: "features".to_owned(), tables: vec![table("p99"), table("server-cpu")] }
}

fn environment(groups: &[Group]) -> Vec<EnvironmentDifference> {
    let difference =
        |field: &str, value: &dyn Fn(usize) -> Option<String>, bearing, says: &str| EnvironmentDifference {
            field: field.to_owned(),
            values: (0..groups.len()).map(value).collect(),
            bearing,
            says: says.to_owned(),
        };
    vec![
        difference(
            "environment.hostname",
            &|group| Some(format!("bench-{}", group % 2)),
            Bearing::Harmless,
            "A name moves no number.",
        ),
        difference(
            "environment.kernel.release",
            &|group| Some(groups[group].label.clone()),
            Bearing::Expected,
            "It is what is compared.",
        ),
        difference(
            "environment.cpu.governor",
            &|group| (group != 1).then(|| if group == 2 { "powersave" } else { "performance" }.to_owned()),
            Bearing::Confounder,
            "Another governor changes the clock rate, and with it every duration.",
        ),
    ]
}

fn sources(shape: Shape, groups: &[Group], cells: usize) -> Vec<Source> {
    let mut sources = Vec::new();
    for (group, _) in groups.iter().enumerate() {
        for cell in 0..cells {
            for run in 0..2 * shape.boots {
                let left_out = (run == 3 && group % 7 == 4).then(|| "INVALID: generator-lag".to_owned());
                sources.push(Source {
                    path: format!(
                        "results/series 7/{group}/boot-{}/cell-{cell}-run-{}.json",
                        run / 2,
                        run % 2
                    ),
                    group: Some(group),
                    cell: Some(cell),
                    boot: format!("{group}-{}", run / 2),
                    created: format!("2026-11-21T{:02}:{:02}:33Z", run, cell),
                    tool: tool("ringsock-load"),
                    command_line: [
                        "ringsock-load",
                        "--connections",
                        "16",
                        "--payload",
                        "64",
                        "--results",
                        "/results/series 7",
                    ]
                    .map(str::to_owned)
                    .to_vec(),
                    level: Some(match run {
                        3 if left_out.is_some() => Level::Invalid,
                        1 => Level::Suspect,
                        _ => Level::Trusted,
                    }),
                    left_out,
                });
            }
        }
    }
    sources
}

/// Hostile text wherever a file's text gets to.
fn poison(comparison: &mut Comparison) {
    let evil = || HOSTILE.to_owned();
    comparison.by = evil();
    comparison.caveats.push(evil());
    comparison.command_line.push(evil());
    comparison.tool.version = evil();
    for cell in &mut comparison.cells {
        (cell.label, cell.short) = (evil(), evil());
        cell.keys.push((evil(), evil()));
        for column in &mut cell.columns {
            match column {
                Column::Unavailable { reason } | Column::Missing { reason } => *reason = evil(),
                Column::Measured(measured) => {
                    if let Some(map) = &mut measured.heatmap {
                        map.source = evil();
                    }
                }
            }
        }
    }
    for difference in &mut comparison.environment {
        (difference.field, difference.says) = (evil(), evil());
        difference.values[0] = Some(evil());
    }
    for source in &mut comparison.sources {
        (source.path, source.boot, source.created, source.left_out) = (evil(), evil(), evil(), Some(evil()));
        source.command_line.push(evil());
    }
    if let Some(grid) = &mut comparison.grid {
        grid.rows_by = evil();
        for table in &mut grid.tables {
            (table.label, table.reference, table.rows[0].value) = (evil(), evil(), evil());
        }
    }
}
