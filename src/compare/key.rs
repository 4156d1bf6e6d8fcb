//! What results may be grouped by: the one table of keys.
//!
//! Invariant: a key's value is what was asked for or what was there, in a word or a line, and never empty; values have one order,
//! which every table and chart keeps. A new key is a row of [`KEYS`] and a function.
//! Deliberately absent: the workload. Different workloads are different cells, whatever results are grouped by.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::collect::Run;

/// A key: a row of [`KEYS`].
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// The value that a run has of it.
    value: fn(&Run) -> String,
    /// The order of values.
    order: fn(&str, &str) -> Ordering,
    /// Whether runs that differ in it are put together.
    pub splits: Splits,
}

/// Whether runs that differ in a key are put together. None splits that follows from the key that results are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splits {
    /// They never are.
    Always,
    /// They are not if some value of the key is in several groups, which then can be compared by themselves.
    IfShared,
    /// They are.
    Never,
}

/// Where kernels are.
pub const KERNEL: usize = 0;
/// Where the engine is.
pub const ENGINE: usize = 1;
/// Where the features are.
pub const FEATURES: usize = 2;
/// Where boot options are: the one key whose value depends on all runs together.
pub const BOOT_OPTIONS: usize = 7;
/// Where the label is.
pub const LABEL: usize = 10;
/// How many keys there are.
pub const KEY_COUNT: usize = 12;

/// Every key; where several tell runs apart equally well, the first is taken.
pub const KEYS: [Key; KEY_COUNT] = [
    Key {
        name: "kernel",
        about: "the kernel's release",
        value: kernel,
        order: by_version,
        splits: Splits::Always,
    },
    Key {
        name: "engine",
        about: "the server's I/O engine where it is known, else the generator's",
        value: engine,
        order: natural,
        splits: Splits::Always,
    },
    Key {
        name: "features",
        about: "the server's features of io_uring that were switched, as -multishot-recv",
        value: features,
        order: plain_first,
        splits: Splits::Always,
    },
    Key {
        name: "load-engine",
        about: "the generator's I/O engine",
        value: |run| filled(&run.target.engine),
        order: natural,
        splits: Splits::Always,
    },
    Key {
        name: "server",
        about: "what served, or its URL",
        value: |run| filled(run.target.server.as_deref().unwrap_or(&run.target.url)),
        order: natural,
        splits: Splits::Always,
    },
    Key {
        name: "tls",
        about: "what connections were secured with: version and cipher suite",
        value: secured_with,
        order: plain_first,
        splits: Splits::Always,
    },
    Key {
        name: "deflate",
        about: "the compression that was agreed on, and the generator's level",
        value: |run| run.target.deflate.map_or(NONE.to_owned(), |deflate| deflate.to_string()),
        order: plain_first,
        splits: Splits::Always,
    },
    Key {
        name: "boot-options",
        about: "the kernel's command line, less what every boot has",
        value: |run| filled(run.environment.kernel.command_line.as_deref().unwrap_or_default()),
        order: plain_first,
        splits: Splits::Always,
    },
    Key {
        name: "machine",
        about: "the machine's own name",
        value: machine,
        order: natural,
        splits: Splits::IfShared,
    },
    Key {
        name: "revision",
        about: "the version and revision of ringsock that measured",
        value: revision,
        order: natural,
        splits: Splits::Always,
    },
    Key {
        name: "label",
        about: "what the run is called in its series or plan",
        value: |run| filled(run.label.as_deref().unwrap_or_default()),
        order: natural,
        splits: Splits::IfShared,
    },
    Key {
        name: "directory",
        about: "the path on the command line that it was found under",
        value: |run| filled(&run.directory),
        // As they were given: a sort by it is stable.
        order: |_, _| Ordering::Equal,
        splits: Splits::Never,
    },
];

/// What stands for a value that a result does not have.
pub const UNKNOWN: &str = "unknown";
/// Nothing switched, or no option beside the common ones.
pub const DEFAULT: &str = "default";
/// Connections were not secured, messages not compressed.
pub const NONE: &str = "none";

/// A run's value of every key, in the order of [`KEYS`].
pub type Values = [String; KEY_COUNT];

/// The key of this name, as an index of [`KEYS`].
pub fn named(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}

/// The values of all runs.
pub fn values_of(runs: &[Run]) -> Vec<Values> {
    let mut all: Vec<Values> = runs.iter().map(|run| KEYS.map(|key| (key.value)(run))).collect();
    let lines = all.iter().map(|values| options(&values[BOOT_OPTIONS]));
    let common = lines.reduce(|left, right| left.intersection(&right).copied().collect());
    let common: BTreeSet<String> = common.into_iter().flatten().map(str::to_owned).collect();
    for values in &mut all {
        values[BOOT_OPTIONS] = without(&values[BOOT_OPTIONS], &common);
    }
    all
}

/// Options of a command line that say something of how the kernel runs, rather than where it was found or who started it.
pub fn options(command_line: &str) -> BTreeSet<&str> {
    const ELSEWHERE: [&str; 4] = ["BOOT_IMAGE=", "initrd=", "ringsock.", UNKNOWN];
    let says = |word: &&str| !ELSEWHERE.iter().any(|start| word.starts_with(start));
    command_line.split_whitespace().filter(says).collect()
}

/// A command line in its own order, less the options that all have.
fn without(command_line: &str, common: &BTreeSet<String>) -> String {
    let left = options(command_line);
    let words = command_line.split_whitespace().filter(|word| left.contains(word) && !common.contains(*word));
    let words = words.collect::<Vec<_>>().join(" ");
    if words.is_empty() { DEFAULT.to_owned() } else { words }
}

/// Indices of `values` in the order of key `key`; equal ones keep theirs, and each stands once.
pub fn ordered<'a>(key: usize, values: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let mut found: Vec<&str> = values.into_iter().filter(|value| seen.insert(*value)).collect();
    found.sort_by(|left, right| (KEYS[key].order)(left, right));
    found
}

/// The order of two values of a key.
pub fn order(key: usize, left: &str, right: &str) -> Ordering {
    (KEYS[key].order)(left, right)
}

/// Whether every value of `of` goes with one value of `key` alone: then the one follows from the other.
pub fn follows(key: usize, of: usize, all: &[Values]) -> bool {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    all.iter().all(|values| *seen.entry(&values[of]).or_insert(&values[key]) == values[key])
}

/// Whether runs have more than one value of `key`.
pub fn varies(key: usize, all: &[Values]) -> bool {
    all.iter().any(|values| values[key] != all[0][key])
}

/// What to group by where nobody says it: the kernel if it differs, else the only key that does, but labels and directories only if
/// nothing else does.
///
/// # Errors
/// The names of several keys that differ, or of none.
pub fn default_key(all: &[Values]) -> Result<usize, Vec<&'static str>> {
    let varying: Vec<usize> = (0..KEY_COUNT).filter(|&key| varies(key, all)).collect();
    let names = || varying.iter().map(|&key| KEYS[key].name).collect();
    let conditions: Vec<usize> =
        varying.iter().copied().filter(|&key| key != LABEL && KEYS[key].splits != Splits::Never).collect();
    match (varying.contains(&KERNEL), &conditions[..]) {
        (true, _) => Ok(KERNEL),
        // Keys that follow from each other are one difference by several names.
        (_, [first, others @ ..]) => {
            let same = |other: &usize| follows(*other, *first, all) && follows(*first, *other, all);
            if others.iter().all(same) { Ok(*first) } else { Err(names()) }
        }
        (_, []) => varying.first().copied().ok_or_else(Vec::new),
    }
}

fn filled(text: &str) -> String {
    if text.trim().is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
}

fn kernel(run: &Run) -> String {
    filled(run.release())
}

fn engine(run: &Run) -> String {
    filled(run.target.server_engine.as_deref().unwrap_or(&run.target.engine))
}

/// As asked for: `--server-uring-features`, which without it are those of the generator, unless the server's engine is its own.
fn features(run: &Run) -> String {
    let Some(config) = &run.config else { return UNKNOWN.to_owned() };
    let text = |flag: &str| config.get(flag).and_then(|value| value.as_str());
    let shared = || text("uring-features").filter(|_| text("server-engine").is_none());
    let switched = text("server-uring-features").or_else(shared).unwrap_or_default();
    if switched.is_empty() { DEFAULT.to_owned() } else { switched.to_owned() }
}

/// In words that the numbers of connections have no part in.
pub fn secured_with(run: &Run) -> String {
    run.target.tls.as_ref().map_or(NONE.to_owned(), |tls| filled(&tls.to_string()))
}

fn machine(run: &Run) -> String {
    filled(run.environment.hostname.as_deref().unwrap_or_default())
}

fn revision(run: &Run) -> String {
    let tool = &run.tool;
    tool.revision.as_ref().map_or(tool.version.clone(), |revision| format!("{} {revision}", tool.version))
}

/// What is left as it is comes first.
fn plain_first(left: &str, right: &str) -> Ordering {
    let rank = |value: &str| value != DEFAULT && value != NONE;
    rank(left).cmp(&rank(right)).then_with(|| natural(left, right))
}

/// Releases by version: 5.10 before 6.1 before 6.12; 7.2-rc3 before 7.2, and that before 7.2.1.
pub fn by_version(left: &str, right: &str) -> Ordering {
    let (left_numbers, left_rest) = version(left);
    let (right_numbers, right_rest) = version(right);
    left_numbers
        .cmp(&right_numbers)
        .then_with(|| candidate(left_rest).cmp(&candidate(right_rest)))
        .then_with(|| natural(left_rest, right_rest))
}

/// The numbers that a release begins with, without noughts at their end, and what follows them.
fn version(release: &str) -> (Vec<u64>, &str) {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let (numbers, rest) = release.split_at(end);
    let mut numbers: Vec<u64> = numbers.split('.').filter_map(|number| number.parse().ok()).collect();
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    (numbers, rest)
}

/// Which release candidate: `-rc3`, `~rc3+…`; what is none is later than all.
fn candidate(rest: &str) -> u64 {
    let number = rest.split_once("rc").map(|(_, after)| after);
    let digits = number.map(|after| after.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}

/// Text in which numbers count as such: `-2` before `-10`.
pub fn natural(left: &str, right: &str) -> Ordering {
    let (left_pieces, right_pieces) = (pieces(left), pieces(right));
    left_pieces.cmp(&right_pieces).then_with(|| left.cmp(right))
}

/// Numbers come before text.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    Number(u128),
    Text(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_number = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        let number = piece.parse().ok().filter(|_| is_number).map(Piece::Number);
        found.push(number.unwrap_or(Piece::Text(piece)));
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_in_the_order_of_their_versions() {
        let expected = [
            "5.10.0-34-cloud-amd64",
            "5.10.0-101-cloud-amd64",
            "6.1",
            "6.1.0-39-amd64",
            "6.1.1",
            "6.12.57+deb13-cloud-amd64",
            "7.2-rc3",
            "7.2.0-rc10+",
            "7.2",
            "7.2.1~rc1",
            "7.2.1",
            "7.10",
        ];
        let mut shuffled = expected;
        shuffled.reverse();
        shuffled.sort_by(|left, right| by_version(left, right));
        assert_eq!(shuffled, expected);
    }

    #[test]
    fn what_every_boot_was_given_tells_none_apart() {
        let common = ["quiet", "root=/dev/vda"].map(str::to_owned).into();
        assert_eq!(without("BOOT_IMAGE=/boot/6.1 root=/dev/vda quiet", &common), DEFAULT);
        assert_eq!(without("quiet mitigations=off isolcpus=1", &common), "mitigations=off isolcpus=1");
        assert_eq!(without(UNKNOWN, &common), DEFAULT);
    }

    #[test]
    fn keys_have_names_of_their_own_and_stand_where_they_are_looked_for() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEY_COUNT);
        let places = [KERNEL, ENGINE, FEATURES, BOOT_OPTIONS, LABEL].map(|index| KEYS[index].name);
        assert_eq!(places, ["kernel", "engine", "features", "boot-options", "label"]);
    }

    #[test]
    fn the_default_key_is_the_kernel_or_the_only_difference() {
        const DIRECTORY: usize = KEY_COUNT - 1;
        let values = |changes: &[(usize, &str)]| {
            let mut values = KEYS.map(|_| "x".to_owned());
            changes.iter().for_each(|&(key, value)| values[key] = value.to_owned());
            values
        };
        let plain = values(&[]);
        let case = |other: Values| default_key(&[plain.clone(), other]);
        assert_eq!(case(values(&[(KERNEL, "y"), (ENGINE, "y")])), Ok(KERNEL));
        assert_eq!(case(values(&[(ENGINE, "y"), (LABEL, "y")])), Ok(ENGINE));
        assert_eq!(case(values(&[(LABEL, "y"), (DIRECTORY, "y")])), Ok(LABEL));
        assert_eq!(case(values(&[(DIRECTORY, "y")])), Ok(DIRECTORY));
        assert_eq!(case(plain.clone()), Err(Vec::new()));
        let crossed = [plain.clone(), values(&[(ENGINE, "y")]), values(&[(FEATURES, "y")])];
        assert_eq!(default_key(&crossed), Err(vec!["engine", "features"]));
    }
}
