//! The table of scenarios: what each is called, what it does, and what it needs.
//!
//! Invariant: whoever lists or chooses scenarios reads it here; one that is not here does not exist. Deliberately absent: how they
//! are played, which is for server and generator.

/// One row. See [`SCENARIOS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// What `--scenario` and result files call it.
    pub name: &'static str,
    /// The path by which our server is asked for it.
    pub path: &'static str,
    /// What is done.
    pub summary: &'static str,
    /// What it needs of the server.
    pub needs: &'static str,
    /// What the generator reports of it, beyond what it reports of every run.
    pub metrics: &'static str,
    /// The generator's flags that belong to it, by long name; those of every scenario are not among them.
    pub flags: &'static [&'static str],
}

const ANY: &str = "any server that echoes";

/// Every scenario that the generator plays.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "echo",
        path: "/echo",
        summary: "every message comes back; sizes may be drawn from a distribution, messages fragmented or pipelined",
        needs: ANY,
        metrics: "sizes sent, where they vary",
        flags: &["fragments"],
    },
    Scenario {
        name: "burst",
        path: "/echo",
        summary: "many messages due at one instant, every so often, over all connections",
        needs: ANY,
        metrics: "time to drain, from a burst's first message being due to its last answer",
        flags: &["burst", "every", "fragments"],
    },
    Scenario {
        name: "ping",
        path: "/echo",
        summary: "pings that name themselves, alone or among data",
        needs: "any WebSocket server (RFC 6455, 5.5.2), and one that echoes with --ping-share below 100%; limits on control frames \
                a second have to allow for the rate",
        metrics: "round trips of pings; of data beside them",
        flags: &["ping-share"],
    },
    Scenario {
        name: "churn",
        path: "/echo",
        summary: "connect, secure, upgrade, one message, close; again and again, at --rate connections a second or -c at a time",
        needs: ANY,
        metrics: "connections a second; connect, TLS, upgrade, first message, close and whole life",
        flags: &["idle-beside"],
    },
    Scenario {
        name: "slow",
        path: "/echo",
        summary: "a share of the connections sends and stops reading, or dribbles; the others are measured as in echo",
        needs: ANY,
        metrics: "the percentiles of the others, beside those of a run without slow readers; the server's memory",
        flags: &["slow-share", "slow-mode"],
    },
    Scenario {
        name: "idle",
        path: "/echo",
        summary: "a crowd of connections stays silent and answers heartbeats, a few others are measured as in echo",
        needs: ANY,
        metrics: "connections held, heartbeats answered, the server's and the kernel's memory for each",
        flags: &["active"],
    },
];

/// The row of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_scenario() {
        for scenario in SCENARIOS {
            let namesakes = SCENARIOS.iter().filter(|other| other.name == scenario.name);
            assert_eq!(namesakes.count(), 1, "{}", scenario.name);
            assert_eq!(find(scenario.name), Some(scenario));
        }
        assert_eq!(find("no such thing"), None);
    }
}
