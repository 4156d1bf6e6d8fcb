//! What differs between the machines and settings of what is compared, and how each difference bears on it.
//!
//! Invariant: a field that is not the same in all results of a cell is listed, whatever it is; one that no rule knows is a
//! confounder. What cells tell apart by themselves (the workload, the engine) is no difference within any of them.
//! Deliberately absent: any measure of how much a confounder moved the numbers. Nobody can tell from the results.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::collect::Run;
use super::key;
use super::model::{Bearing, EnvironmentDifference};
use crate::measure::environment::Clock;
use crate::measure::wire::Extent;

/// Values of one group that are written out; of more, their number is told.
const VALUES_SHOWN: usize = 3;

/// A run with its place in the comparison.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// The run.
    pub run: &'a Run,
    /// The index of its group.
    pub group: usize,
    /// The index of its cell.
    pub cell: usize,
}

/// Whatever differs among the runs of any cell, the worst first, then by field.
pub fn differences(placed: &[Placed], group_count: usize, by: usize) -> Vec<EnvironmentDifference> {
    let facts: Vec<Facts> = placed.iter().map(|placed| facts_of(placed.run)).collect();
    let fields: BTreeSet<&String> = facts.iter().flat_map(BTreeMap::keys).collect();
    let mut found = Vec::new();
    for field in fields {
        let values: Vec<Option<&str>> =
            facts.iter().map(|facts| facts.get(field).map(String::as_str)).collect();
        if !differs_within_a_cell(placed, &values) {
            continue;
        }
        let groups: Vec<BTreeSet<&str>> = (0..group_count)
            .map(|group| {
                let of_group = placed.iter().zip(&values).filter(|(placed, _)| placed.group == group);
                of_group.filter_map(|(_, value)| *value).collect()
            })
            .collect();
        let case = Case { field, by, placed, values: &values, groups: &groups };
        let (bearing, says) = case.judge();
        let values = groups.iter().map(shown).collect();
        found.push(EnvironmentDifference { field: field.clone(), values, bearing, says: says.to_owned() });
    }
    found.extend(times(placed, group_count));
    found.sort_by(|left, right| (left.bearing, &left.field).cmp(&(right.bearing, &right.field)));
    found
}

fn differs_within_a_cell(placed: &[Placed], values: &[Option<&str>]) -> bool {
    let mut first: BTreeMap<usize, Option<&str>> = BTreeMap::new();
    placed.iter().zip(values).any(|(placed, &value)| *first.entry(placed.cell).or_insert(value) != value)
}

fn shown(values: &BTreeSet<&str>) -> Option<String> {
    let text = values.iter().take(VALUES_SHOWN).copied().collect::<Vec<_>>().join(" | ");
    let more = values.len().saturating_sub(VALUES_SHOWN);
    let more = if more > 0 { format!(" | … ({} values)", values.len()) } else { String::new() };
    (!values.is_empty()).then(|| text + &more)
}

/// Every field of a result that says where and how it was measured, by its path in the file.
type Facts = BTreeMap<String, String>;

fn facts_of(run: &Run) -> Facts {
    let mut facts = Facts::new();
    flatten("environment", &json(&run.environment), &mut facts);
    flatten("io_uring", &json(&run.io_uring), &mut facts);
    flatten("target", &json(&run.target), &mut facts);
    in_words(run, &mut facts);
    flatten("tool", &json(&run.tool), &mut facts);
    flatten("guest", &json(&run.guest), &mut facts);
    flatten("plan", &json(&run.plan), &mut facts);
    if let Some(config) = &run.config {
        // What stands elsewhere as it came to be is not repeated as it was asked for.
        let others = config.iter().filter(|(flag, _)| !ELSEWHERE.contains(&flag.as_str()));
        others.for_each(|(flag, value)| flatten(&format!("config.{flag}"), value, &mut facts));
    }
    // Two clocks are never compared, and the mode is part of the workload.
    facts.retain(|field, _| field != "environment.clock" && !field.starts_with("plan.mode."));
    facts
}

/// How many connections went which way, and what messages came to, is not the same in any two runs: what is compared of it is
/// whether it was all, some or none.
fn in_words(run: &Run, facts: &mut Facts) {
    const COUNTS: [&str; 2] = ["target.tls.kernel.", "target.deflate.wire."];
    facts.retain(|field, _| !COUNTS.iter().any(|counts| field.starts_with(counts)));
    if run.target.tls.is_some() {
        facts.insert("target.tls.negotiated".to_owned(), key::secured_with(run));
    }
    if let Some(wire) = run.target.deflate.and_then(|deflate| deflate.wire) {
        for (field, carried) in [("sent", wire.sent), ("answers", wire.answers)] {
            let extent = match carried.extent() {
                Extent::None => "none compressed",
                Extent::Some => "some compressed",
                Extent::All => "all compressed",
            };
            facts.insert(format!("target.deflate.{field}"), extent.to_owned());
        }
    }
}

/// Flags whose effect is in the plan, the target or the workload.
const ELSEWHERE: [&str; 34] = [
    "url",
    "connections",
    "threads",
    "payload",
    "text",
    "duration",
    "warmup",
    "drain-timeout",
    "connect-rate",
    "rate",
    "arrivals",
    "closed-loop",
    "pipeline",
    "seed",
    "engine",
    "server-engine",
    "cpus",
    "server-cpus",
    "clock",
    "server-pid",
    "filling",
    "deflate",
    "deflate-takeover",
    "deflate-window-bits",
    "deflate-level",
    "deflate-threshold",
    "tls",
    "tls-version",
    "tls-cipher",
    "tls-resume",
    "ktls",
    "subprotocol",
    "ca",
    "insecure",
];

fn json(part: &impl Serialize) -> Value {
    serde_json::to_value(part).expect("parts of a result are plain data")
}

fn flatten(path: &str, value: &Value, facts: &mut Facts) {
    let text = match value {
        Value::Null => return,
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| flatten(&format!("{path}.{name}"), value, facts));
            return;
        }
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => plain(other),
    };
    facts.insert(path.to_owned(), if text.is_empty() { "empty".to_owned() } else { text });
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One field that differs.
struct Case<'a> {
    field: &'a str,
    by: usize,
    placed: &'a [Placed<'a>],
    values: &'a [Option<&'a str>],
    /// Its values in each group.
    groups: &'a [BTreeSet<&'a str>],
}

/// What a rule asks of a field beside its name.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    /// Results are grouped by one of these keys.
    By(&'static [&'static str]),
    /// They are grouped by kernel, and runs of one cell and kernel have one value.
    OfKernel,
    /// They are grouped by kernel, and those groups that have it have the same.
    OnlyInSomeKernels,
    /// They are grouped by kernel, and the values are numbers within a few per cent of each other.
    NearByKernel,
    /// Command lines differ only in what says nothing of how a kernel runs.
    OnlyNames,
    /// The generator's engine is the one that is compared.
    OfLoadEngine,
    /// All servers were the runs' own.
    OwnServers,
}
use When::*;

/// A rule: fields that begin so, when this holds, bear so, and why.
type Rule = (&'static str, When, Bearing, &'static str);

const IT: &str = "it is what is compared";
const USES: &str = "an engine uses what the kernel has";
const ENGINES: [&str; 2] = ["engine", "load-engine"];
const FEATURES: [&str; 3] = ["features", "engine", "load-engine"];

/// All rules; the first that fits decides.
#[rustfmt::skip]
const RULES: [Rule; 54] = [
    ("environment.kernel.release", By(&["kernel"]), Bearing::Expected, IT),
    ("environment.kernel.release", Always, Bearing::Confounder, "the kernel is not the same"),
    ("environment.kernel.version", OfKernel, Bearing::Expected, "it names the build of the kernel that is compared"),
    ("environment.kernel.version", Always, Bearing::Confounder,
        "two builds of a kernel may differ in configuration and compiler"),
    ("environment.kernel.command_line", By(&["boot-options"]), Bearing::Expected, IT),
    ("environment.kernel.command_line", OnlyNames, Bearing::Harmless,
        "it differs only in where the kernel was found and by whom it was started"),
    ("environment.kernel.command_line", Always, Bearing::Confounder,
        "boot options can change any path: boot all with the same, or compare --by boot-options"),
    ("io_uring", OfKernel, Bearing::Expected, "what io_uring can do follows from the kernel"),
    ("environment.cpu.vulnerabilities.", OnlyInSomeKernels, Bearing::Expected, "only some of the kernels know it"),
    ("environment.cpu.vulnerabilities.", By(&["boot-options"]), Bearing::Expected,
        "mitigations follow from the boot options"),
    ("environment.cpu.vulnerabilities.", Always, Bearing::Confounder,
        "mitigations cost time on every way into the kernel"),
    ("environment.cpu", Always, Bearing::Confounder, "the processor, or how it is driven, is not the same"),
    ("environment.sysctls.", OnlyInSomeKernels, Bearing::Expected, "only some of the kernels have it"),
    ("environment.sysctls.fs.file-max", NearByKernel, Bearing::Expected, SIZED),
    ("environment.sysctls.kernel.threads-max", NearByKernel, Bearing::Expected, SIZED),
    ("environment.sysctls.net.ipv4.tcp_mem", NearByKernel, Bearing::Expected, SIZED),
    ("environment.sysctls.net.ipv4.tcp_rmem", NearByKernel, Bearing::Expected, SIZED),
    ("environment.sysctls.net.ipv4.tcp_wmem", NearByKernel, Bearing::Expected, SIZED),
    ("environment.sysctls.", Always, Bearing::Confounder, "a setting of the kernel: set it alike everywhere"),
    ("environment.memory_total_bytes", NearByKernel, Bearing::Expected,
        "kernels keep a little more or less of the memory for themselves"),
    ("environment.clocksource", Always, Bearing::Confounder, "clocks differ in what reading them costs"),
    ("environment.hostname", By(&["machine"]), Bearing::Expected, IT),
    ("environment.hostname", Always, Bearing::Harmless, "a name"),
    ("environment.boot_id", Always, Bearing::Harmless, "every boot has its own"),
    ("environment.open_files", Always, Bearing::Harmless, "a limit that a run either keeps or is refused by"),
    ("environment.build", Always, Bearing::Confounder, "the programs were compiled otherwise"),
    ("target.engine_features", OfKernel, Bearing::Expected, USES),
    ("target.server_engine_features", OfKernel, Bearing::Expected, USES),
    ("target.engine_reason", OfKernel, Bearing::Expected, "it follows from the kernel"),
    ("target.server_engine_features", By(&FEATURES), Bearing::Expected, "it follows from what is compared"),
    ("target.server_engine", By(&ENGINES), Bearing::Expected, IT),
    ("target.engine", OfLoadEngine, Bearing::Expected, IT),
    ("target.engine", Always, Bearing::Confounder,
        "the generator's engine, which is in every duration: give all runs the same with --engine"),
    ("config.server-uring-features", By(&["features"]), Bearing::Expected, IT),
    ("config.uring-features", By(&["features"]), Bearing::Confounder,
        "the generator's features were switched as well: switch the server's alone with --server-uring-features"),
    ("target.server", By(&["server"]), Bearing::Expected, IT),
    ("target.tls", By(&["tls"]), Bearing::Expected, IT),
    ("target.tls.trusts", Always, Bearing::Harmless, "whom the generator trusts"),
    ("target.tls", Always, Bearing::Confounder,
        "they were not secured alike: give all runs the same --tls-version and --tls-cipher"),
    ("target.subprotocol", Always, Bearing::Confounder, "a subprotocol may change what a server does: offer all the same"),
    ("target.deflate.sent", Always, Bearing::Confounder, COMPRESSED),
    ("target.deflate.answers", Always, Bearing::Confounder, COMPRESSED),
    ("target.deflate", By(&["deflate"]), Bearing::Expected, IT),
    ("target.url", OwnServers, Bearing::Harmless, "a server of the run's own, on any free port"),
    ("target.url", By(&["server", "tls"]), Bearing::Harmless, "the address of what is compared"),
    ("plan.url", By(&["server", "tls"]), Bearing::Harmless, "the address of what is compared"),
    ("plan.seed", Always, Bearing::Harmless, "other arrivals and payloads, of the same distribution"),
    ("plan.drain_timeout_s", Always, Bearing::Harmless, "how long to wait after the measured window"),
    ("plan.", Always, Bearing::Confounder, "the runs were asked for otherwise: repeat them alike"),
    ("tool.name", Always, Bearing::Harmless, "a name"),
    ("tool.", By(&["revision"]), Bearing::Expected, IT),
    ("tool.", Always, Bearing::Confounder, "another build of ringsock, in generator and server: measure with one"),
    ("guest.", Always, Bearing::Confounder, "they were booted on machines that are not the same: boot all alike"),
    ("config.exemplars", Always, Bearing::Harmless, "how many of the worst messages are kept"),
];

const COMPRESSED: &str = "compression was agreed on, and was not used alike: runs that compress did other work than runs that do not";
const SIZED: &str = "a kernel sizes it by the memory that it leaves";

/// What is said of a field that no rule knows.
const UNKNOWN: &str = "nothing is known of its bearing, so it may be the reason";

impl Case<'_> {
    fn judge(&self) -> (Bearing, &'static str) {
        let fits = |rule: &&Rule| self.field.starts_with(rule.0) && self.holds(rule.1);
        RULES
            .iter()
            .find(fits)
            .map_or((Bearing::Confounder, UNKNOWN), |&(_, _, bearing, says)| (bearing, says))
    }

    fn holds(&self, when: When) -> bool {
        /// How far sizes that follow from the memory lie apart where it is the same machine's.
        const NEAR: f64 = 0.05;
        let name = key::KEYS[self.by].name;
        let by_kernel = name == "kernel";
        match when {
            Always => true,
            By(names) => names.contains(&name),
            OfKernel => by_kernel && self.follows_the_kernel(),
            OnlyInSomeKernels => by_kernel && self.is_only_in_some(),
            NearByKernel => by_kernel && self.is_within(NEAR),
            OnlyNames => self.differs_only_in_names(),
            OfLoadEngine => {
                let server_is_known = |placed: &Placed| placed.run.target.server_engine.is_some();
                name == "load-engine" || (name == "engine" && !self.placed.iter().any(server_is_known))
            }
            OwnServers => self.placed.iter().all(|placed| placed.run.plan.url.is_none()),
        }
    }

    /// All runs of one cell and kernel have one value.
    fn follows_the_kernel(&self) -> bool {
        let mut seen: BTreeMap<(&str, usize), Option<&str>> = BTreeMap::new();
        self.placed.iter().zip(self.values).all(|(placed, &value)| {
            *seen.entry((placed.run.release(), placed.cell)).or_insert(value) == value
        })
    }

    /// Those groups that have it have the same; the others have none.
    fn is_only_in_some(&self) -> bool {
        let mut there = self.groups.iter().filter(|values| !values.is_empty());
        let first = there.next();
        there.all(|values| Some(values) == first) && self.groups.iter().any(BTreeSet::is_empty)
    }

    /// All numbers in it are as many, and within this share of each other.
    fn is_within(&self, share: f64) -> bool {
        let numbers = |value: &&str| {
            value.split_whitespace().map(|word| word.parse().ok()).collect::<Option<Vec<f64>>>()
        };
        let all: Option<Vec<Vec<f64>>> = self.values.iter().flatten().map(numbers).collect();
        let Some(all) = all else { return false };
        let near = |(left, right): (&f64, &f64)| (left - right).abs() <= share * left.abs().max(right.abs());
        all.iter().all(|row| row.len() == all[0].len() && row.iter().zip(&all[0]).all(near))
    }

    fn differs_only_in_names(&self) -> bool {
        let lines: BTreeSet<&str> = self
            .placed
            .iter()
            .map(|placed| placed.run.environment.kernel.command_line.as_deref().unwrap_or(""))
            .collect();
        let mut options = lines.iter().map(|line| key::options(line));
        let first = options.next();
        options.all(|options| Some(&options) == first.as_ref())
    }
}

/// When the groups were measured: harmless if they took turns.
fn times(placed: &[Placed], group_count: usize) -> Option<EnvironmentDifference> {
    let ranges: Vec<Option<(&str, &str)>> = (0..group_count)
        .map(|group| {
            let times = placed.iter().filter(|placed| placed.group == group);
            let times: BTreeSet<&str> = times.map(|placed| placed.run.created.as_str()).collect();
            Some((*times.first()?, *times.last()?))
        })
        .collect();
    let there: Vec<_> = ranges.iter().flatten().collect();
    if there.windows(2).all(|pair| pair[0] == pair[1]) {
        return None;
    }
    let apart = |left: &(&str, &str), right: &(&str, &str)| left.1 < right.0 || right.1 < left.0;
    let in_blocks =
        there.iter().enumerate().any(|(at, left)| there[..at].iter().any(|right| apart(left, right)));
    let is_real = placed.iter().any(|placed| placed.run.clock() == Clock::Real);
    let (bearing, says) = match (in_blocks, is_real) {
        (true, true) => (
            Bearing::Confounder,
            "some groups were measured after others, so that whatever changed meanwhile is in the difference: take turns",
        ),
        (true, false) => (Bearing::Harmless, "instructions are the same at any time"),
        (false, _) => (Bearing::Harmless, "the groups took turns"),
    };
    let shown = |range: &Option<(&str, &str)>| {
        range.map(|(from, to)| if from == to { from.to_owned() } else { format!("{from} … {to}") })
    };
    let values = ranges.iter().map(shown).collect();
    Some(EnvironmentDifference { field: "created".to_owned(), values, bearing, says: says.to_owned() })
}
