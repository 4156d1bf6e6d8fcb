//! What server and client say to each other.
//!
//! [`serve`] is the server's side of a connection's life (opening handshake, heartbeat, closing); a scenario,
//! one file each, is what happens on it in between, and how the client checks what came back. A server is asked for one by the
//! path of the request.
//!
//! Invariant: [`SCENARIOS`] is the one list of them. What `--list-scenarios` prints, what paths a server answers at and what
//! refusals quote is read from there.

pub mod bare;
pub mod broadcast;
pub mod deflate;
pub mod echo;
pub mod echo_client;
pub mod hub;
pub mod json;
pub mod messages;
mod parameters;
pub mod push;
mod records;
pub mod serve;
pub mod stamps;
pub mod trace;
pub mod work;

pub use parameters::{Parameter, Query};

/// One of them, as people are told of it.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What `--scenario` and results call it.
    pub name: &'static str,
    /// Where a server answers it; capitals at the end stand for a name of the client's choice.
    pub paths: &'static [&'static str],
    /// What is said.
    pub what: &'static str,
    /// What it takes of a server.
    pub needs: &'static str,
    /// Whether permessage-deflate is agreed to there; it is declined elsewhere.
    pub compresses: bool,
    /// What the query of the request may say.
    pub parameters: &'static [Parameter],
}

/// What a server needs that does nothing but keep to RFC 6455 and answer each message.
const ANY_ECHO: &str = "any WebSocket server that echoes";
/// What only this one has.
const OURS: &str = "ringsock-server, or one that does the same";

/// All there are.
pub const SCENARIOS: [Scenario; 6] =
    [echo::ABOUT, json::ABOUT, broadcast::ABOUT, broadcast::ABOUT_ROOMS, push::ABOUT, work::ABOUT];

impl Scenario {
    /// Whether it is answered at this path, and if so, what stands there for the name.
    fn name_in<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.paths.iter().find_map(|own| match own.strip_suffix("NAME") {
            Some(before) => path.strip_prefix(before),
            None => (path == *own).then_some(""),
        })
    }

    /// A few lines on it.
    fn describe(&self, text: &mut String) {
        use std::fmt::Write as _;
        let compression = if self.compresses { "agreed to where it is asked for" } else { "declined" };
        let Self { name, what, needs, .. } = self;
        let mut write = |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("a string takes all");
        write(format_args!("{name}, at {}\n  {what}\n", self.paths.join(" and ")));
        write(format_args!("  needs: {needs}; compression: {compression}\n"));
        for parameter in self.parameters {
            write(format_args!("  {parameter}\n"));
        }
    }
}

/// The scenario at `path`, and what its name stands for there.
pub fn at_path(path: &str) -> Option<(&'static Scenario, &str)> {
    SCENARIOS.iter().find_map(|scenario| Some((scenario, scenario.name_in(path)?)))
}

/// What `--list-scenarios` prints.
pub fn list() -> String {
    let mut text = String::new();
    for scenario in &SCENARIOS {
        if !text.is_empty() {
            text.push('\n');
        }
        scenario.describe(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_and_paths_of_its_own() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        let mut paths: Vec<_> = SCENARIOS.iter().flat_map(|scenario| scenario.paths).collect();
        names.sort_unstable();
        paths.sort_unstable();
        let (name_count, path_count) = (names.len(), paths.len());
        names.dedup();
        paths.dedup();
        assert_eq!((names.len(), paths.len()), (name_count, path_count));
    }

    #[test]
    fn a_path_leads_to_its_scenario_and_to_no_other() {
        for scenario in &SCENARIOS {
            for path in scenario.paths {
                let asked = path.replace("NAME", "x");
                let (found, name) = at_path(&asked).expect("its own path");
                assert_eq!(
                    (found.name, name),
                    (scenario.name, if path.ends_with("NAME") { "x" } else { "" })
                );
            }
        }
        for path in ["/echo/", "/Echo", "/json/", "/jso", "/room", "//", "/work?us=1", ""] {
            assert!(at_path(path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_list_says_each_name_path_and_parameter() {
        let text = list();
        for scenario in &SCENARIOS {
            assert!(text.contains(&format!("{}, at {}", scenario.name, scenario.paths[0])), "{text}");
            for parameter in scenario.parameters {
                assert!(text.contains(&format!("?{}=", parameter.name)), "{text}");
            }
        }
        assert!(text.lines().all(|line| line.len() <= 160), "{text}");
    }
}
