//! What `ringsock-server --probe` prints: the kernel, the engine that would run and why, and every feature.
//!
//! Invariant: text and JSON are made of the same rows. Deliberately absent: probing, and choosing an engine.

use serde::Serialize;

use crate::engine::probe::Group;
use crate::engine::{Choice, Chosen, EngineKind, Feature, Probe, Use};

/// What [`Survey::json`] begins with; the version follows the slash.
const SCHEMA: &str = "ringsock-probe/1";
/// Where the columns of the text begin: the first release, whether it is here, its use, what it is.
const COLUMNS: [usize; 4] = [23, 30, 37, 48];

/// A kernel, and what an engine would make of it.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// [`SCHEMA`].
    schema: &'static str,
    /// `uname -r`.
    kernel: String,
    /// Why io_uring cannot be used at all, and the mend.
    refusal: Option<String>,
    /// What `--engine` was.
    asked: String,
    /// The engine that would run.
    engine: Option<&'static str>,
    /// Why it is not the one that is liked best; why none can run.
    reason: Option<String>,
    /// The engine whose use of the features is told: the one that would run, else the one asked for.
    uses_by: &'static str,
    features: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    constant: &'static str,
    what: &'static str,
    group: &'static str,
    since: &'static str,
    there: bool,
    #[serde(rename = "use")]
    used: &'static str,
}

impl Row {
    fn new(feature: Feature, probe: &Probe, kind: EngineKind) -> Self {
        let there = probe.has(feature);
        let used = match (kind.use_of(feature), there) {
            (Use::Needs, _) => "needs",
            (Use::Uses, true) => "uses",
            (Use::Uses, false) => "would use",
            (Use::Ignores, _) => "no",
        };
        Self {
            name: feature.name(),
            constant: feature.symbol(),
            what: feature.what(),
            group: feature.group().name(),
            since: feature.since(),
            there,
            used,
        }
    }

    fn line(&self) -> String {
        let there = if self.there { "yes" } else { "no" };
        // Most are not used: a dash lets the others stand out.
        let used = if self.used == "no" { "-" } else { self.used };
        aligned(&format!("  {}", self.name), [self.since, there, used, self.what])
    }
}

/// A line of the table.
fn aligned(first: &str, rest: [&str; 4]) -> String {
    let mut line = first.to_owned();
    for (column, text) in COLUMNS.into_iter().zip(rest) {
        line = format!("{line:<column$}{text}");
    }
    line + "\n"
}

impl Survey {
    /// Of the kernel probed, for an `--engine` of this choice.
    pub fn new(asked: Choice, probe: &Probe) -> Self {
        let chosen = asked.choose(probe);
        let kind = chosen.as_ref().map_or(asked.preferred(), |chosen| chosen.kind);
        let (engine, reason) = match chosen {
            Ok(Chosen { kind, passed_over, .. }) => (Some(kind.name()), passed_over),
            Err(refusal) => (None, Some(refusal.to_string())),
        };
        Self {
            schema: SCHEMA,
            kernel: probe.release.clone(),
            refusal: probe.refusal.clone().map(|refusal| refusal.into_error(&probe.release).to_string()),
            asked: asked.to_string(),
            engine,
            reason,
            uses_by: kind.name(),
            features: Feature::ALL.into_iter().map(|feature| Row::new(feature, probe, kind)).collect(),
        }
    }

    /// One JSON object, ending in a newline.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a survey is plain data") + "\n"
    }

    /// The verdict in a line, what forbids io_uring if anything does, and the table.
    pub fn text(&self) -> String {
        let mut text = self.verdict();
        if let Some(refusal) = self.refusal.as_ref().filter(|refusal| !text.contains(*refusal)) {
            text.push_str(&format!("{refusal}\n"));
        }
        text.push('\n');
        text.push_str(&aligned("feature", ["since", "here", self.uses_by, "what it is"]));
        for group in Group::ALL.map(Group::name) {
            text.push_str(&format!("{group}\n"));
            self.features.iter().filter(|row| row.group == group).for_each(|row| text.push_str(&row.line()));
        }
        text
    }

    fn verdict(&self) -> String {
        let Self { kernel, asked, .. } = self;
        let (there, all) = (self.features.iter().filter(|row| row.there).count(), self.features.len());
        let takes = match self.engine {
            Some(engine) => format!("takes {engine}"),
            None => "cannot run".to_owned(),
        };
        let reason = self.reason.as_deref().unwrap_or("all that it needs is there");
        format!(
            "Linux {kernel} has {there} of {all} features of io_uring; --engine {asked} {takes}: {reason}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::probe::Refusal;

    #[test]
    fn a_kernel_that_forbids_io_uring_is_named_with_the_mend_whatever_runs_instead() {
        let forbidden = Refusal::Forbidden { setting: "2".to_owned() };
        for (refusal, mend) in [
            (forbidden, "set the sysctl kernel.io_uring_disabled to 0 (it is 2)"),
            (Refusal::Missing, "has no io_uring: run outside"),
        ] {
            let probe = Probe::refused("6.6.1", refusal);
            for choice in EngineKind::ALL.map(Choice::Named).into_iter().chain([Choice::Auto]) {
                let survey = Survey::new(choice, &probe);
                let text = survey.text();
                assert!(text.starts_with("Linux 6.6.1 has 0 of "), "{text}");
                assert_eq!(text.matches(mend).count(), 1, "{text}");
                assert!(!text.contains(" yes "), "{text}");
                let json: serde_json::Value = serde_json::from_str(&survey.json()).unwrap();
                assert!(json["refusal"].as_str().unwrap().contains(mend));
            }
        }
    }

    #[test]
    fn every_line_of_the_table_is_aligned_and_says_what_the_engine_makes_of_it() {
        let probe = Probe::with("5.19.0", Feature::ALL.into_iter().filter(|f| *f != Feature::MultishotRecv));
        let text = Survey::new(Choice::Named(EngineKind::Uring), &probe).text();
        let line = |name: &str| {
            let start = format!("  {name} ");
            text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{name}: {text}"))
        };
        for feature in Feature::ALL {
            let line = line(feature.name());
            for (column, word) in COLUMNS.into_iter().zip([feature.since(), "", "", feature.what()]) {
                assert!(line[column..].starts_with(word) && line[..column].ends_with(' '), "{line}");
            }
            assert!(line.len() <= 110, "{line}");
        }
        for (name, words) in [
            ("ext-arg", ["yes", "needs"]),
            ("multishot-accept", ["yes", "uses"]),
            ("multishot-recv", ["no", "would use"]),
            ("epoll-wait", ["yes", "-"]),
        ] {
            let [here, used] = words;
            let line = line(name);
            assert!(line[COLUMNS[1]..].starts_with(here) && line[COLUMNS[2]..].starts_with(used), "{line}");
        }
    }
}
