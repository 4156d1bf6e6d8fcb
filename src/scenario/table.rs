//! The table of scenarios: what each is called, where a server answers it, what it does and needs, and what is reported of it.
//!
//! Invariant: [`SCENARIOS`] is the one list of them. What `--list-scenarios` prints, what paths a server answers at, what refusals
//! quote and which flags the generator takes is read from there; a scenario that is not there does not exist.
//! Deliberately absent: how they are played, which is for server and generator.

use super::{Parameter, broadcast, echo, json, push, work};

/// One of them, as people are told of it.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What `--scenario` and results call it.
    pub name: &'static str,
    /// Where a server answers it, the generator's first; capitals at the end stand for a name of the client's choice.
    pub paths: &'static [&'static str],
    /// What is done.
    pub what: &'static str,
    /// What it takes of a server.
    pub needs: &'static str,
    /// Whether permessage-deflate is agreed to there; it is declined elsewhere.
    pub compresses: bool,
    /// What the query of the request may say.
    pub parameters: &'static [Parameter],
    /// What the generator reports of it, beyond what it reports of every run; nothing where it does not play it.
    pub metrics: &'static str,
    /// The generator's flags that belong to it, by long name; those of every scenario are not among them.
    pub flags: &'static [&'static str],
}

/// What a server needs that does nothing but keep to RFC 6455 and answer each message.
pub(super) const ANY_ECHO: &str = "any WebSocket server that echoes";
/// What only this one has.
pub(super) const OURS: &str = "ringsock-server, or one that does the same";

/// All there are; of those at one path, the first is what a server calls it.
pub const SCENARIOS: &[Scenario] = &[
    echo::ABOUT,
    Scenario {
        name: "burst",
        what: "many messages due at one instant, every so often, over all connections",
        metrics: "time to drain, from a burst's first message being due to its last answer",
        flags: &["burst", "every", "fragments"],
        ..echo::ABOUT
    },
    Scenario {
        name: "ping",
        what: "pings that name themselves, alone or among data",
        needs: "any WebSocket server (RFC 6455, 5.5.2), and one that echoes with --ping-share below 100%; limits on control frames \
                a second have to allow for the rate",
        metrics: "round trips of pings; of data beside them",
        flags: &["ping-share"],
        ..echo::ABOUT
    },
    Scenario {
        name: "churn",
        what: "connect, secure, upgrade, one message, close; again and again, at --rate connections a second or -c at a time",
        metrics: "connections a second; connect, TLS, upgrade, first message, close and whole life",
        flags: &["idle-beside"],
        ..echo::ABOUT
    },
    Scenario {
        name: "slow",
        what: "a share of the connections sends and stops reading, or dribbles; the others are measured as in echo",
        metrics: "the percentiles of the others, beside those of a run without slow readers; the server's memory",
        flags: &["slow-share", "slow-mode"],
        ..echo::ABOUT
    },
    Scenario {
        name: "idle",
        what: "a crowd of connections stays silent and answers heartbeats, a few others are measured as in echo",
        metrics: "connections held, heartbeats answered, the server's and the kernel's memory for each",
        flags: &["active"],
        ..echo::ABOUT
    },
    Scenario {
        name: "mix",
        what: "some connections do this, others that: echo, ping, json and work, by weights",
        needs: "what its parts need",
        metrics: "each part's connections, messages and times, beside those of all",
        flags: &["mix"],
        ..echo::ABOUT
    },
    json::ABOUT,
    broadcast::ABOUT,
    broadcast::ABOUT_ROOMS,
    push::ABOUT,
    work::ABOUT,
];

impl Scenario {
    /// Whether it is answered at this path, and if so, what stands there for the name.
    fn name_in<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.paths.iter().find_map(|own| match own.strip_suffix("NAME") {
            Some(before) => path.strip_prefix(before),
            None => (path == *own).then_some(""),
        })
    }

    /// A few lines on it, each a label and a text.
    fn describe(&self) -> Vec<(String, String)> {
        let compression = if self.compresses { "agreed to where it is asked for" } else { "declined" };
        let reports = if self.metrics.is_empty() { "not played by ringsock-load" } else { self.metrics };
        let flags: Vec<_> = self.flags.iter().map(|flag| format!("--{flag}")).collect();
        let flags = if flags.is_empty() { "none of its own".to_owned() } else { flags.join(", ") };
        let mut rows = vec![
            (self.name.to_owned(), self.what.to_owned()),
            ("  needs".to_owned(), format!("{}; compression: {compression}", self.needs)),
            ("  path".to_owned(), self.paths.join(" and ")),
        ];
        rows.extend(self.parameters.iter().map(|parameter| ("  query".to_owned(), parameter.to_string())));
        rows.extend([("  reports".to_owned(), reports.to_owned()), ("  flags".to_owned(), flags)]);
        rows
    }
}

/// The row of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// What a server does at `path`, and what its name stands for there.
pub fn at_path(path: &str) -> Option<(&'static Scenario, &str)> {
    SCENARIOS.iter().find_map(|scenario| Some((scenario, scenario.name_in(path)?)))
}

/// What `--list-scenarios` prints: labels, and texts beside them.
pub fn list() -> Vec<(String, String)> {
    SCENARIOS.iter().flat_map(Scenario::describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_scenario() {
        for scenario in SCENARIOS {
            let namesakes = SCENARIOS.iter().filter(|other| other.name == scenario.name);
            assert_eq!(namesakes.count(), 1, "{}", scenario.name);
            assert_eq!(find(scenario.name).unwrap().what, scenario.what);
        }
        assert!(find("no such thing").is_none());
    }

    #[test]
    fn a_path_leads_to_what_a_server_does_there_and_to_nothing_else() {
        for scenario in SCENARIOS {
            for path in scenario.paths {
                let asked = path.replace("NAME", "x");
                let (found, name) = at_path(&asked).expect("its own path");
                let does = if scenario.paths == echo::ABOUT.paths { "echo" } else { scenario.name };
                let stands_for = if path.ends_with("NAME") { "x" } else { "" };
                assert_eq!((found.name, name), (does, stands_for));
            }
        }
        for path in ["/echo/", "/Echo", "/json/", "/jso", "/room", "//", "/work?us=1", ""] {
            assert!(at_path(path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_list_says_each_name_path_parameter_and_flag() {
        for scenario in SCENARIOS {
            let rows = scenario.describe();
            assert_eq!(rows[0].0, scenario.name);
            let text: String = rows.into_iter().map(|(_, text)| text + "\n").collect();
            assert!(text.contains(scenario.paths[0]), "{text}");
            for parameter in scenario.parameters {
                assert!(text.contains(&format!("?{}=", parameter.name)), "{text}");
            }
            assert!(scenario.flags.iter().all(|flag| text.contains(&format!("--{flag}"))), "{text}");
        }
        assert!(list().len() > SCENARIOS.len());
    }
}
