//! Flags from files beside those typed: `--config`, `--replay`, `--resume`, and the flags in effect as `--dry-run` shows and a
//! result keeps them.
//!
//! Invariant: there is one list of flags, clap's [`Command`]. A file's keys are checked against it, a file's values are
//! parsed by it, and what conflicts with what is asked of it; so a flag that is added there is known here.
//! A typed flag wins over a file: the file's own value of it goes, whatever of the file conflicts with it goes, and
//! whatever needs a flag that went. A switch that a file turns on is turned off in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::heading::{OUTPUT, SERIES};
use super::options::Plan;
use crate::cpu;
use crate::measure::manifest::{self, ManifestError};
use crate::measure::result::RunResult;
use crate::measure::store::{self, StoreError};

/// Flags and their values by key: the long name without dashes, or the name of what is typed without a flag (`url`). A
/// switch is `true` or `false`, a flag given several times an array; all else is a number or a text.
pub type Values = BTreeMap<String, Value>;

/// Flags about files of flags, which no such file may hold.
const NOT_IN_FILES: [&str; 5] = ["config", "replay", "resume", "dry-run", "list-scenarios"];

/// Why the flags could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// What clap says of the flags as a whole: wrong ones, or `--help`.
    #[error("{0}")]
    Flags(#[from] clap::Error),
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check the name after --config", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("{place}: {cause}")]
    Entry {
        /// File and, where it has one, line.
        place: String,
        /// What is wrong, and what would be right.
        cause: String,
    },
    /// The result to be repeated cannot be read.
    #[error(transparent)]
    Result(#[from] StoreError),
    /// The series to be continued cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A flag that is not the series'.
    #[error("--{key} {typed} contradicts the series, which has {there}: leave it out, or start a new series")]
    Contradiction {
        /// The flag.
        key: String,
        /// As typed.
        typed: Value,
        /// As the series has it.
        there: Value,
    },
    /// The result does not say how it was made.
    #[error(
        "{} does not hold its flags: an older ringsock saved it; its command line was: {command_line}",
        .path.display()
    )]
    NoConfig {
        /// The result's file.
        path: PathBuf,
        /// As typed then.
        command_line: String,
    },
}

/// All flags, from wherever.
#[derive(Debug)]
pub struct Settled {
    /// As clap reads them; from these a program takes its own types.
    pub matches: ArgMatches,
    /// What people should know: what of a file was left out.
    pub notes: Vec<String>,
    /// The result that is repeated.
    pub replayed: Option<Box<RunResult>>,
}

/// Puts together what was typed (`arguments`, the program's name first) with what the file named there holds.
///
/// # Errors
/// A file cannot be used, or clap refuses the whole.
pub fn settle(command: &Command, arguments: Vec<OsString>) -> Result<Settled, ConfigError> {
    // What is wrong by itself is wrong with any file.
    match command.clone().try_get_matches_from(&arguments) {
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => return Err(error.into()),
        _ => {}
    }
    // Typed flags may need a file's: here they need nothing.
    let typed = command.clone().ignore_errors(true).try_get_matches_from(&arguments)?;
    let path = |key: &str| {
        let known = command.get_arguments().any(|arg| arg.get_id() == key);
        known.then(|| typed.get_one::<PathBuf>(key).cloned()).flatten()
    };
    let (mut replayed, mut notes) = (None, Vec::new());
    let file = if let Some(path) = path("config") {
        Some(Layer::of_file(command, &path)?)
    } else if let Some(path) = path("replay") {
        let result = store::load(&path)?;
        let layer = Layer::of_result(command, &path, &result, &mut notes)?;
        replayed = Some(Box::new(result));
        Some(layer)
    } else if let Some(folder) = path("resume") {
        Some(Layer::of_series(command, &folder, &typed)?)
    } else {
        None
    };
    let mut all = arguments;
    if let Some(layer) = file {
        let values = layer.under(command, &given_ids(command, &typed), &mut notes);
        all.splice(1..1, arguments_of(command, &values, &layer.place)?);
    }
    let matches = command.clone().try_get_matches_from(all)?;
    Ok(Settled { matches, notes, replayed })
}

/// The key of a flag in a file.
pub(super) fn key_of(arg: &Arg) -> String {
    arg.get_long().unwrap_or(arg.get_id().as_str()).to_owned()
}

fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| key_of(arg) == key)
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// Whether a flag says something about a single run, rather than about several or about what comes of it.
pub fn is_of_a_run(arg: &Arg) -> bool {
    !matches!(arg.get_help_heading(), Some(OUTPUT | SERIES))
}

fn given_ids(command: &Command, matches: &ArgMatches) -> BTreeSet<String> {
    let ids = command.get_arguments().map(|arg| arg.get_id().as_str());
    ids.filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine)).map(str::to_owned).collect()
}

/// What a file says.
struct Layer {
    /// The file, for messages.
    place: String,
    values: Values,
}

impl Layer {
    fn of_file(command: &Command, path: &Path) -> Result<Self, ConfigError> {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let place = path.display().to_string();
        Ok(Self { values: parse(command, &place, &text)?, place })
    }

    fn of_result(
        command: &Command,
        path: &Path,
        result: &RunResult,
        notes: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let place = path.display().to_string();
        let Some(values) = &result.config else {
            let command_line = result.command_line.join(" ");
            return Err(ConfigError::NoConfig { path: path.to_owned(), command_line });
        };
        for (key, value) in values {
            check(command, key, value).map_err(|cause| ConfigError::Entry { place: place.clone(), cause })?;
        }
        let mut values = values.clone();
        repeat_cpus(&mut values, result, notes);
        if let Some(process_id) = values.remove("server-pid") {
            notes.push(format!("server-pid: then {process_id}, which may be another process now: left out"));
        }
        Ok(Self { place, values })
    }

    /// The flags of a series that is to be continued, which typed ones may repeat but not change.
    fn of_series(command: &Command, folder: &Path, typed: &ArgMatches) -> Result<Self, ConfigError> {
        let values = manifest::read::<serde::de::IgnoredAny>(folder)?.header.config;
        let given = given_ids(command, typed);
        let is_bound = |arg: &&Arg| arg.get_help_heading() != Some(OUTPUT) && arg.get_id() != "resume";
        for arg in
            command.get_arguments().filter(is_bound).filter(|arg| given.contains(arg.get_id().as_str()))
        {
            let key = key_of(arg);
            let (typed, there) = (value_in(arg, typed).unwrap_or_default(), values.get(&key));
            if Some(&typed) != there {
                let there = there.cloned().unwrap_or_default();
                return Err(ConfigError::Contradiction { key, typed, there });
            }
        }
        Ok(Self { place: folder.display().to_string(), values })
    }

    /// What is left of it under flags that are given above it.
    fn under(&self, command: &Command, given: &BTreeSet<String>, notes: &mut Vec<String>) -> Values {
        let mut gone: BTreeMap<String, String> = BTreeMap::new();
        for key in self.values.keys() {
            let Some(arg) = find(command, key) else { continue };
            if given.contains(arg.get_id().as_str()) {
                gone.insert(key.clone(), String::new());
            } else if let Some(other) = given.iter().find(|id| conflicts(command, arg, id)) {
                gone.insert(
                    key.clone(),
                    format!("it conflicts with {}, which was typed", name(command, other)),
                );
            }
        }
        if gone.is_empty() {
            return self.values.clone();
        }
        for (key, value) in &self.values {
            let needs = find(command, key).map(|arg| needs_of(command, arg, value)).unwrap_or_default();
            let missing = needs.iter().find(|need| gone.get(*need).is_some_and(|why| !why.is_empty()));
            if let Some(need) = missing.filter(|_| !gone.contains_key(key)) {
                gone.insert(key.clone(), format!("it needs {}, which was left out", name(command, need)));
            }
        }
        let of_effect = |key: &&String| self.values.get(*key) != Some(&Value::Bool(false));
        for (key, why) in gone.iter().filter(|(key, why)| !why.is_empty() && of_effect(key)) {
            notes.push(format!("{}: {key} was left out: {why}", self.place));
        }
        self.values.iter().filter(|(key, _)| !gone.contains_key(*key)).map(owned).collect()
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// A flag as it is typed, by its id or key.
fn name(command: &Command, id_or_key: &str) -> String {
    let arg = command.get_arguments().find(|arg| arg.get_id() == id_or_key);
    match arg.or_else(|| find(command, id_or_key)).and_then(Arg::get_long) {
        Some(long) => format!("--{long}"),
        None => format!("the {}", id_or_key.to_uppercase()),
    }
}

/// Whether clap has the two in conflict, whichever of them says so.
fn conflicts(command: &Command, arg: &Arg, other: &str) -> bool {
    let says = |arg: &Arg, other: &str| {
        command.get_arg_conflicts_with(arg).iter().any(|conflicting| conflicting.get_id() == other)
    };
    let other_arg = command.get_arguments().find(|arg| arg.get_id() == other);
    says(arg, other) || other_arg.is_some_and(|other| says(other, arg.get_id().as_str()))
}

/// The keys that `arg` needs beside itself: clap tells them when it is given alone.
fn needs_of(command: &Command, arg: &Arg, value: &Value) -> Vec<String> {
    let alone = Values::from([(key_of(arg), value.clone())]);
    let Ok(arguments) = arguments_of(command, &alone, "") else { return Vec::new() };
    let program = OsString::from(command.get_name());
    match command.clone().try_get_matches_from([program].into_iter().chain(arguments)) {
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else {
                return Vec::new();
            };
            // As in usage: `--closed-loop`, `--rate <RATE>`, `<URL>...`.
            let word = |text: &String| text.split(' ').next().unwrap_or_default().to_lowercase();
            let bare = |text: &String| word(text).trim_matches(['-', '<', '>', '[', ']', '.']).to_owned();
            missing.iter().map(bare).collect()
        }
        _ => Vec::new(),
    }
}

/// The CPUs of then, where this process may use them.
fn repeat_cpus(values: &mut Values, result: &RunResult, notes: &mut Vec<String>) {
    let available = cpu::available();
    let embedded = result.plan.url.is_none();
    let sides =
        [("cpus", &result.target.load_cpus, true), ("server-cpus", &result.target.server_cpus, embedded)];
    for (key, cpus, is_ours) in sides {
        let Some(list) = cpus.as_ref().filter(|_| is_ours) else { continue };
        match list.parse::<cpu::CpuList>() {
            Ok(cpus) if cpus.0.iter().all(|cpu| available.contains(cpu)) => {
                values.insert(key.to_owned(), Value::String(list.clone()));
            }
            _ => {
                values.remove(key);
                notes.push(format!(
                    "{key}: then {list}, which this process may not use now (it may use {available:?}): others are chosen"
                ));
            }
        }
    }
    values.insert("threads".to_owned(), result.plan.threads.into());
}

/// Reads a file of flags: TOML without tables.
fn parse(command: &Command, file: &str, text: &str) -> Result<Values, ConfigError> {
    let line = |offset: usize| format!("{file}:{}", 1 + text[..offset.min(text.len())].matches('\n').count());
    let entry = |place: String, cause: String| ConfigError::Entry { place, cause };
    let table = DeTable::parse(text).map_err(|error| {
        let place = error.span().map_or(file.to_owned(), |span| line(span.start));
        entry(place, format!("{}; write flags as rate = 50000, text as \"10s\"", error.message().trim_end()))
    })?;
    let mut values = Values::new();
    for (key, value) in table.get_ref() {
        let at = || line(key.span().start);
        let json = flag_of(key.get_ref(), value.get_ref())
            .map_err(|cause| entry(at(), format!("{}: {cause}", key.get_ref())))?;
        check(command, key.get_ref(), &json).map_err(|cause| entry(at(), cause))?;
        values.insert(key.get_ref().to_string(), json);
    }
    Ok(values)
}

/// A flag's value; the parts of a mix may be tables.
fn flag_of(key: &str, value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::Array(items) if key == "mix" => items.iter().map(|item| part_of(item.get_ref())).collect(),
        value => json_of(value),
    }
}

/// As the flag has it: the scenario, then the rest as it stands there.
fn part_of(value: &DeValue<'_>) -> Result<Value, String> {
    let DeValue::Table(table) = value else { return json_of(value) };
    let (mut scenario, mut others) = (String::new(), String::new());
    for (key, value) in table {
        let value = json_of(value.get_ref())?;
        let text = text_of(&value).ok_or("a part has texts and numbers")?;
        match key.get_ref().as_ref() {
            "scenario" => scenario = text,
            key => others.push_str(&format!(" {key}={text}")),
        }
    }
    Ok(Value::String(scenario + &others))
}

fn json_of(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::String(text) => Ok(Value::String(text.to_string())),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map(Value::from).map_err(|_| "the number is too large".to_owned())
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse::<f64>().ok();
            let number = parsed.and_then(serde_json::Number::from_f64);
            number.map(Value::Number).ok_or("no flag takes this number".to_owned())
        }
        DeValue::Boolean(value) => Ok(Value::Bool(*value)),
        DeValue::Array(items) => items.iter().map(|item| json_of(item.get_ref())).collect(),
        DeValue::Datetime(_) => Err("no flag takes a date".to_owned()),
        DeValue::Table(_) => Err("flags stand in no table: take away the [brackets] above".to_owned()),
    }
}

/// Whether `key` is a flag that takes `value`; if not, why.
fn check(command: &Command, key: &str, value: &Value) -> Result<(), String> {
    let Some(arg) = find(command, key).filter(|_| !NOT_IN_FILES.contains(&key)) else {
        return Err(unknown(command, key));
    };
    let alone = Values::from([(key.to_owned(), value.clone())]);
    let program = OsString::from(command.get_name());
    let arguments = arguments_of(command, &alone, "").map_err(|error| match error {
        ConfigError::Entry { cause, .. } => cause,
        other => other.to_string(),
    })?;
    match command.clone().try_get_matches_from([program].into_iter().chain(arguments)) {
        Err(error)
            if !matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) =>
        {
            let text = error.to_string();
            let lines = text.trim_start_matches("error: ").lines().map(str::trim);
            let said = lines.take_while(|line| !line.starts_with("For more")).filter(|line| !line.is_empty());
            Err(format!("{}: {}", key_of(arg), said.collect::<Vec<_>>().join(" ")))
        }
        _ => Ok(()),
    }
}

/// An error for a key that is no flag's, with the nearest that is.
fn unknown(command: &Command, key: &str) -> String {
    if NOT_IN_FILES.contains(&key) {
        return format!("{key} cannot stand in a file of flags: type it");
    }
    let argument = format!("--{}", key.replace('_', "-"));
    let nearest = match find(command, &argument[2..]) {
        Some(arg) => Some(key_of(arg)),
        None => {
            let program = command.get_name().to_owned();
            let refused = command.clone().try_get_matches_from([program, argument]).err();
            match refused.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
                Some(ContextValue::String(flag)) => Some(flag.trim_start_matches('-').to_owned()),
                _ => None,
            }
        }
    };
    let mend = nearest.map_or("--help lists them".to_owned(), |nearest| format!("did you mean {nearest}?"));
    format!("{key} is no flag of {}: {mend}", command.get_name())
}

/// Flags as they would be typed.
fn arguments_of(command: &Command, values: &Values, place: &str) -> Result<Vec<OsString>, ConfigError> {
    let mut arguments = Vec::new();
    for (key, value) in values {
        let refuse = |cause: &str| {
            Err(ConfigError::Entry { place: place.to_owned(), cause: format!("{key} {cause}, not {value}") })
        };
        let Some(arg) = find(command, key) else { return refuse("is no flag and has no value") };
        let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
        match value {
            Value::Bool(on) if is_switch(arg) || optional => {
                arguments.extend(on.then(|| OsString::from(format!("--{key}"))));
            }
            _ if is_switch(arg) => return refuse("is a switch: write true or false"),
            Value::Array(_) if !takes_several(arg) => return refuse("takes one value"),
            Value::Array(items) => {
                for item in items {
                    let Some(text) = text_of(item) else { return refuse("takes texts and numbers") };
                    arguments.push(argument(arg, &text));
                }
            }
            _ => match text_of(value) {
                Some(text) => arguments.push(argument(arg, &text)),
                None => return refuse("takes a text or a number"),
            },
        }
    }
    Ok(arguments)
}

fn takes_several(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

fn argument(arg: &Arg, text: &str) -> OsString {
    match arg.get_long() {
        Some(long) => OsString::from(format!("--{long}={text}")),
        None => OsString::from(text),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A number where the text is one and nothing else would be read from it.
fn value_of(text: &str) -> Value {
    let whole = text.parse::<i64>().ok().map(Value::from);
    let number = whole.or_else(|| {
        let number = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
        number.map(Value::Number)
    });
    let is_exact = |number: &Value| {
        let written = number.to_string();
        written == text
    };
    number.filter(is_exact).unwrap_or(Value::String(text.to_owned()))
}

/// The flags in effect that `keep` accepts: those given, and the defaults of those that go with them.
pub fn effective(command: &Command, matches: &ArgMatches, keep: impl Fn(&Arg) -> bool) -> Values {
    let given = given_ids(command, matches);
    let kept =
        command.get_arguments().filter(|arg| keep(arg) && !NOT_IN_FILES.contains(&key_of(arg).as_str()));
    let mut values = Values::new();
    for arg in kept {
        let id = arg.get_id().as_str();
        let Some(value) = value_in(arg, matches) else { continue };
        let in_conflict = || given.iter().any(|given| conflicts(command, arg, given));
        let lacks_something = || {
            let needs = needs_of(command, arg, &value);
            needs
                .iter()
                .any(|need| find(command, need).is_none_or(|need| !given.contains(need.get_id().as_str())))
        };
        // A switch that is off conflicts with nothing.
        let is_off = value == Value::Bool(false);
        if is_off || given.contains(id) || (!in_conflict() && !lacks_something()) {
            values.insert(key_of(arg), value);
        }
    }
    values
}

fn value_in(arg: &Arg, matches: &ArgMatches) -> Option<Value> {
    let id = arg.get_id().as_str();
    if is_switch(arg) {
        return Some(Value::Bool(matches.get_flag(id)));
    }
    let raw = matches.get_raw(id)?.map(|text| text.to_string_lossy().into_owned());
    let mut items: Vec<Value> = raw.map(|text| value_of(&text)).collect();
    match takes_several(arg) {
        true => Some(Value::Array(items)),
        false => items.pop(),
    }
}

/// Flags from their kept form.
///
/// # Errors
/// One is unknown here, or its value is refused.
pub fn read_back(command: &Command, values: &Values, place: &str) -> Result<ArgMatches, ConfigError> {
    for (key, value) in values {
        check(command, key, value).map_err(|cause| ConfigError::Entry { place: place.to_owned(), cause })?;
    }
    let arguments = arguments_of(command, values, place)?;
    let program = OsString::from(command.get_name());
    Ok(command.clone().try_get_matches_from([program].into_iter().chain(arguments))?)
}

/// The flags in `words`, as they stand alone.
///
/// # Errors
/// What clap says of them.
pub(super) fn typed(command: &Command, words: &[String]) -> Result<Values, clap::Error> {
    let all: Vec<_> = [command.get_name().to_owned()].into_iter().chain(words.iter().cloned()).collect();
    let matches = match command.clone().try_get_matches_from(&all) {
        // They may go with flags that are not among them.
        Err(error)
            if matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) =>
        {
            command.clone().ignore_errors(true).try_get_matches_from(&all)?
        }
        other => other?,
    };
    let given = given_ids(command, &matches);
    let args = command.get_arguments().filter(|arg| given.contains(arg.get_id().as_str()));
    Ok(args.filter_map(|arg| Some((key_of(arg), value_in(arg, &matches)?))).collect())
}

/// The flags in effect where those of `above` are given over those of `below`.
///
/// # Errors
/// They do not go together.
pub(super) fn combined(
    command: &Command,
    below: &Values,
    above: &Values,
    place: &str,
) -> Result<(ArgMatches, Values), ConfigError> {
    let layer = Layer { place: place.to_owned(), values: below.clone() };
    let on = above.iter().filter(|(_, value)| **value != Value::Bool(false));
    let given = on.filter_map(|(key, _)| Some(find(command, key)?.get_id().to_string())).collect();
    let mut values = layer.under(command, &given, &mut Vec::new());
    values.extend(above.iter().map(owned));
    let matches = read_back(command, &values, place)?;
    let values = effective(command, &matches, |_| true);
    Ok((matches, values))
}

/// A value that no flag gave, but this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The flag that would fix it.
    pub key: &'static str,
    /// The value.
    pub value: String,
    /// Why this one.
    pub why: String,
}

/// What `values` leave to the machine that `plan` is made of them on.
pub fn chosen(plan: &Plan, values: &Values) -> Vec<Chosen> {
    let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let engine = |chosen: &crate::engine::Chosen| match &chosen.passed_over {
        Some(why) => format!("taken by auto: {why}"),
        None => "the best that this kernel runs".to_owned(),
    };
    let mut all = vec![
        Chosen { key: "engine", value: plan.engine.kind.name().to_owned(), why: engine(&plan.engine) },
        Chosen { key: "cpus", value: list(&plan.cpus), why: "the last that this process may use".to_owned() },
    ];
    if plan.endpoint.is_none() {
        let why = "the first that this process may use".to_owned();
        all.push(Chosen { key: "server-cpus", value: list(&plan.server_cpus), why });
    }
    all.retain(|chosen| values.get(chosen.key).is_none_or(|value| value == "auto"));
    all
}

/// A file for `--config` with every value, grouped as `--help` is, and what was chosen for this machine as comments.
pub fn render(command: &Command, values: &Values, chosen: &[Chosen]) -> String {
    let mut groups: Vec<(&str, String)> = Vec::new();
    for arg in command.get_arguments() {
        let (key, heading) = (key_of(arg), arg.get_help_heading().unwrap_or("Others"));
        let mut lines = String::new();
        lines.extend(values.get(&key).map(|value| format!("{key} = {}\n", toml_of(value))));
        if let Some(Chosen { key, value, why }) = chosen.iter().find(|chosen| chosen.key == key) {
            let value = toml_of(&Value::String(value.clone()));
            lines.push_str(&format!("# on this machine: {key} = {value}, {why}\n"));
        }
        match groups.iter_mut().find(|(other, _)| *other == heading) {
            Some((_, group)) => group.push_str(&lines),
            None => groups.push((heading, lines)),
        }
    }
    let filled = groups.iter().filter(|(_, lines)| !lines.is_empty());
    filled.map(|(heading, lines)| format!("# {heading}\n{lines}")).collect::<Vec<_>>().join("\n")
}

fn toml_of(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// What was decided for the replayed run and is decided otherwise now.
pub fn differences(then: &RunResult, plan: &Plan) -> Vec<String> {
    let list = |names: &[String]| names.join(", ");
    let embedded = then.target.server_engine.as_ref().filter(|_| plan.endpoint.is_none());
    let features = then.target.server_engine_features.as_deref().unwrap_or_default();
    let kernel = then.environment.kernel.release.clone().unwrap_or("unknown".to_owned());
    let pairs = [
        ("kernel", kernel, plan.engine.release.clone()),
        ("engine", then.target.engine.clone(), plan.engine.kind.name().to_owned()),
        ("what the engine uses", list(&then.target.engine_features), list(&plan.engine.features)),
        (
            "the server's engine",
            embedded.cloned().unwrap_or_default(),
            embedded.map_or(String::new(), |_| plan.server_engine.kind.name().to_owned()),
        ),
        (
            "what the server's engine uses",
            embedded.map_or(String::new(), |_| list(features)),
            embedded.map_or(String::new(), |_| list(&plan.server_engine.features)),
        ),
        ("ringsock", then.tool.version.clone(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let differ = pairs.into_iter().filter(|(_, then, now)| then != now);
    differ.map(|(what, then, now)| format!("{what}: then {then}, now {now}")).collect()
}

#[cfg(test)]
mod tests;
