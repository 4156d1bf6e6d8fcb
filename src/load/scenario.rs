//! `--scenario`: which one is played, with which flags of its own, and what it asks of the run.
//!
//! Invariant: a scenario's flags are those of its row in [`SCENARIOS`]; one that is given beside another scenario is refused by name. What is
//! taken for granted is written down in [`Scene::parameters`], so a result tells it though nobody typed it.
//! Deliberately absent: how a scenario is played, see [`super::client`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::client::Wish;
use super::crowd::{CrowdPlan, Manner};
use super::endpoint::Endpoint;
use super::fan;
use super::heading::LOAD;
use super::mix::{self, MixPart};
use super::options::OptionsError;
use super::parts::{Deed, Part, Published, Variety};
use super::{Filling, Options};
use crate::limits;
use crate::measure::result::{self, Mode};
use crate::scenario::sizes::Sizes;
use crate::scenario::work::Amount;
use crate::scenario::{self, SCENARIOS, Scenario, push};

/// Bursts that a run may have: the times of all of them are kept.
const BURSTS_MAX: u128 = 1_000_000;

/// The scenarios that the generator plays.
fn played() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().filter(|row| !row.metrics.is_empty())
}

/// Flags that choose a scenario, and those that belong to one.
#[derive(Debug, Clone, Args)]
pub struct ScenarioFlags {
    /// What is played; --list-scenarios describes them all
    #[arg(
        help_heading = LOAD,
        long,
        value_name = "NAME",
        default_value = "echo",
        value_parser = PossibleValuesParser::new(played().map(|row| row.name)),
    )]
    pub scenario: String,

    /// Send each message in so many fragments of about the same length (scenarios echo and burst) [default: 1]
    #[arg(help_heading = LOAD, long, value_name = "COUNT")]
    pub fragments: Option<u32>,

    /// Scenario burst: so many messages are due at one instant, over all connections
    #[arg(
        help_heading = LOAD,
        long,
        value_name = "COUNT",
        requires = "every",
        conflicts_with_all = ["rate", "arrivals", "warmup_rate", "closed_loop"]
    )]
    pub burst: Option<u64>,

    /// Scenario burst: from one burst to the next
    #[arg(help_heading = LOAD, long, value_name = "TIME", requires = "burst", value_parser = humantime::parse_duration)]
    pub every: Option<Duration>,

    /// Scenario ping: this share of the messages is pings, drawn by --seed; the others are data [default: 100%]
    #[arg(help_heading = LOAD, long, value_name = "PERCENT", value_parser = parse_share)]
    pub ping_share: Option<f64>,

    /// Scenario churn: so many connections stay open and silent besides
    #[arg(help_heading = LOAD, long, value_name = "COUNT")]
    pub idle_beside: Option<u32>,

    /// Scenario slow: this share of --connections are slow readers, which send, and are not measured; the others are, for as long
    /// again before without them [default: 10%]. Scenarios broadcast and rooms: slow subscribers, which publish nothing [default: none]
    #[arg(help_heading = LOAD, long, value_name = "PERCENT", value_parser = parse_share)]
    pub slow_share: Option<f64>,

    /// Scenarios slow, broadcast and rooms: what slow readers do: never read (stop), or some kilobytes now and then (dribble) [default: stop]
    #[arg(help_heading = LOAD, long, value_name = "MODE", value_enum)]
    pub slow_mode: Option<SlowMode>,

    /// Scenarios broadcast and rooms: so many of --connections publish, the first ones, and get their own messages as everybody does.
    /// --rate is that of all of them together [default: 1, or one a room]
    #[arg(help_heading = LOAD, long, value_name = "COUNT")]
    pub publishers: Option<u32>,

    /// Scenario rooms: so many, which connections join in turn [default: 4]
    #[arg(help_heading = LOAD, long, value_name = "COUNT")]
    pub rooms: Option<u32>,

    /// Scenario idle: so many of --connections send, and are measured; the others stay silent and answer the server's pings. The
    /// server started in this process pings each once a second [default: one in ten, 64 at most]
    #[arg(help_heading = LOAD, long, value_name = "COUNT")]
    pub active: Option<u32>,

    /// Scenario work: what the server does for each message: compute for so many microseconds, as us:100, or for times drawn from an
    /// exponential distribution by --seed, as us:exp:100 for their mean; or walk through so much memory, as kib:64
    #[arg(help_heading = LOAD, long, value_name = "WORK", value_parser = Amount::read)]
    pub work: Option<Amount>,

    /// Scenario json: this share of the messages is broadcasts, drawn by --seed: everybody hears them, the others are echoed
    /// [default: none]
    #[arg(help_heading = LOAD, long, value_name = "PERCENT", value_parser = parse_share)]
    pub broadcast_share: Option<f64>,

    /// Scenario push: so many messages a second the server sends to each connection, --payload bytes each. Nothing is sent by us;
    /// response time is one way, from when a message was due by the server's schedule, service time from when it was composed,
    /// both by the clock of the host that server and generator share
    #[arg(
        help_heading = LOAD,
        long,
        value_name = "RATE",
        value_parser = clap::value_parser!(u64).range(1..=limits::PUSH_RATE),
        conflicts_with_all = ["rate", "arrivals", "warmup_rate", "closed_loop"]
    )]
    pub push_rate: Option<u64>,

    /// Scenario mix: what a part of the connections does, as "echo weight=3 payload=1KiB", of the scenarios echo, ping, json and work with
    /// their flags without dashes; given for each part, or written as tables [[mix]] in a file for --config. Connections are shared
    /// out by weight, and all have the same part in the rate
    #[arg(help_heading = LOAD, long, value_name = "PART")]
    pub mix: Vec<MixPart>,
}

/// What slow readers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SlowMode {
    /// They never read
    Stop,
    /// They read some kilobytes now and then
    Dribble,
}

/// A share, from per cent: `10%`.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    let share = percent.map(|percent| percent / 100.0).filter(|&share| share > 0.0 && share <= 1.0);
    share.ok_or("write a share as 10%: above 0 %, at most 100 %".to_owned())
}

/// What makes a scenario another one than echo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Play {
    /// Messages, each by itself.
    Echo,
    /// So many at one instant, so often.
    Burst {
        /// Messages a burst.
        count: u64,
        /// From one to the next.
        every: Duration,
    },
    /// Connections come and go, each with one message.
    Churn,
    /// Messages beside slow readers.
    Slow,
    /// Messages beside a silent crowd.
    Idle,
    /// Messages of a few to everybody.
    Fan {
        /// How many publish.
        publishers: u32,
        /// In how many rooms, if in any.
        rooms: Option<u32>,
    },
    /// Pings, as this share of the messages.
    Ping {
        /// Above 0, at most 1.
        share: f64,
    },
    /// Messages that the server works for.
    Work(Amount),
    /// Messages of JSON.
    Json {
        /// The share of broadcasts.
        broadcast_share: f64,
    },
    /// Messages that the server sends unasked.
    Push {
        /// To each connection.
        rate_per_s: u64,
        /// How many there are of these.
        connections: u32,
    },
    /// Some this, others that.
    Mix,
}

/// A scenario with its flags, checked.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Its row.
    pub row: &'static Scenario,
    /// What is done.
    pub play: Play,
    /// How large messages are.
    pub sizes: Sizes,
    /// Frames a message.
    pub fragments: u32,
    /// What connections do in a mix.
    parts: Vec<Part>,
    /// Connections beside the measured ones.
    pub crowd: Option<CrowdPlan>,
    /// See [`result::Plan::parameters`].
    pub parameters: BTreeMap<String, String>,
}

impl Scene {
    /// Whether connections send messages that are not all whole frames of one size.
    pub fn is_varied(&self) -> bool {
        let is_filling = !matches!(self.play, Play::Ping { .. } | Play::Json { .. } | Play::Mix);
        self.sizes.fixed().is_none() || self.fragments > 1 || !is_filling
    }

    /// What the connections of a thread of so many do, where it is not the plain echo.
    pub(super) fn variety(
        &self,
        seed: u64,
        (thread, thread_count): (usize, usize),
        published: &Arc<Published>,
    ) -> Option<Variety> {
        let parts = match self.play {
            Play::Mix => self.parts.clone(),
            _ => vec![self.only_part()?],
        };
        let (thread, thread_count) = (thread as u64, thread_count as u64);
        Some(Variety { parts, seed, thread, thread_count, published: Arc::clone(published) })
    }

    /// What all connections do, where it is not the plain echo.
    fn only_part(&self) -> Option<Part> {
        let deed = match self.play {
            Play::Work(amount) => Deed::Work(amount),
            Play::Json { broadcast_share } => Deed::Json { broadcast_share },
            Play::Ping { share } => Deed::Echo { ping_share: share },
            _ if !self.is_varied() => return None,
            _ => Deed::Echo { ping_share: 0.0 },
        };
        let (row, sizes, fragments) = (self.row, self.sizes, self.fragments);
        Some(Part { row, deed, sizes, fragments, connections: u64::MAX })
    }

    /// Of the largest message.
    pub fn payload_bytes_max(&self) -> usize {
        let of_parts = self.parts.iter().map(|part| part.sizes.max_bytes());
        of_parts.max().unwrap_or(self.sizes.max_bytes())
    }

    /// Whether pings are sent.
    pub(super) fn pings(&self) -> bool {
        let is_of_pings = |part: &Part| matches!(part.deed, Deed::Echo { ping_share } if ping_share > 0.0);
        matches!(self.play, Play::Ping { .. }) || self.parts.iter().any(is_of_pings)
    }

    /// From one burst to the next.
    pub(super) fn bursts_every_ns(&self) -> Option<u64> {
        if let Play::Burst { every, .. } = self.play { Some(every.as_nanos() as u64) } else { None }
    }

    /// Whether it is held against itself without those beside.
    pub(super) fn is_held_against_itself(&self) -> bool {
        self.crowd.is_some() && matches!(self.play, Play::Slow | Play::Fan { .. })
    }

    /// How many of so many threads send.
    pub(super) fn sending_threads(&self, thread_count: usize) -> usize {
        match self.play {
            Play::Fan { publishers, .. } => thread_count.min(publishers as usize),
            _ => thread_count,
        }
    }

    /// Of so many connections asked for, those that are measured.
    pub(super) fn measured(&self, connections: u32) -> u32 {
        match (self.play, self.crowd) {
            (Play::Slow | Play::Idle | Play::Fan { .. }, Some(crowd)) => connections - crowd.connections,
            _ => connections,
        }
    }

    /// When messages are sent, if the scenario decides it.
    pub fn mode(&self) -> Option<Mode> {
        let (rate_per_s, arrivals) = match self.play {
            Play::Burst { count, every } => (count as f64 / every.as_secs_f64(), result::Arrivals::Burst),
            Play::Push { rate_per_s, connections } => {
                (rate_per_s as f64 * f64::from(connections), result::Arrivals::Fixed)
            }
            _ => return None,
        };
        Some(Mode::OpenLoop { rate_per_s, arrivals })
    }

    /// What the server is to send each connection unasked, if that is played.
    pub(super) fn wish(&self) -> Option<Wish> {
        let Play::Push { rate_per_s, .. } = self.play else { return None };
        Some(Wish { rate_per_s, payload_bytes: self.sizes.max_bytes() })
    }
}

impl ScenarioFlags {
    /// Checks the scenario's flags, and the others of `options` against it; `thread_count` are to play it.
    ///
    /// # Errors
    /// The first that does not go with it, and what would.
    pub fn validate(&self, options: &Options, thread_count: usize) -> Result<Scene, OptionsError> {
        let row = scenario::find(&self.scenario).expect("clap knows the table");
        self.refuse_strangers(row)?;
        let play = match row.name {
            "burst" => self.burst(options, thread_count)?,
            "ping" => Play::Ping { share: self.ping_share.unwrap_or(1.0) },
            "churn" => Play::Churn,
            "slow" => Play::Slow,
            "idle" => Play::Idle,
            "broadcast" | "rooms" => fan::flags::play(self, options.connections, row.name == "rooms")?,
            "work" => Play::Work(self.work.ok_or_else(|| {
                OptionsError::Scenario(
                    "--scenario work: give --work, as us:100, us:exp:100 or kib:64".to_owned(),
                )
            })?),
            "json" => Play::Json { broadcast_share: self.broadcast_share.unwrap_or(0.0) },
            "push" => self.push(options)?,
            "mix" => Play::Mix,
            _ => Play::Echo,
        };
        let crowd = self.crowd(play, options.connections, thread_count)?;
        let scene = Scene {
            row,
            play,
            parts: self.parts(play, options)?,
            crowd,
            sizes: options.payload,
            fragments: self.fragments.unwrap_or(1),
            parameters: self.parameters(options, play, crowd),
        };
        if !(1..=limits::FRAGMENTS).contains(&scene.fragments) {
            let rule = "has to be 1 to 1048576, as many as ringsock-server takes";
            return Err(OptionsError::Number {
                flag: "--fragments",
                value: scene.fragments.to_string(),
                rule,
            });
        }
        fan::flags::check(scene.play, scene.crowd, options)?;
        check_beside(&scene, options)?;
        Ok(scene)
    }

    /// The flags given that belong to certain scenarios.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("fragments", self.fragments.is_some()),
            ("burst", self.burst.is_some()),
            ("every", self.every.is_some()),
            ("ping-share", self.ping_share.is_some()),
            ("idle-beside", self.idle_beside.is_some()),
            ("slow-share", self.slow_share.is_some()),
            ("slow-mode", self.slow_mode.is_some()),
            ("publishers", self.publishers.is_some()),
            ("rooms", self.rooms.is_some()),
            ("active", self.active.is_some()),
            ("work", self.work.is_some()),
            ("broadcast-share", self.broadcast_share.is_some()),
            ("push-rate", self.push_rate.is_some()),
            ("mix", !self.mix.is_empty()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag)
    }

    fn refuse_strangers(&self, row: &Scenario) -> Result<(), OptionsError> {
        let Some(flag) = self.given().find(|flag| !row.flags.contains(flag)) else { return Ok(()) };
        let of: Vec<_> =
            SCENARIOS.iter().filter(|row| row.flags.contains(&flag)).map(|row| row.name).collect();
        Err(OptionsError::Scenario(format!(
            "--{flag}: the scenario {} does not know it: it goes with --scenario {}",
            row.name,
            of.join(" or ")
        )))
    }

    fn burst(&self, options: &Options, thread_count: usize) -> Result<Play, OptionsError> {
        let refuse = |why: String| Err(OptionsError::Scenario(why));
        let Some((count, every)) = self.burst.zip(self.every) else {
            return refuse("--scenario burst: give --burst COUNT and --every TIME".to_owned());
        };
        if !(thread_count as u64..=1 << 30).contains(&count) {
            return refuse(format!("--burst {count}: has to be one a thread or more, and 2^30 at most"));
        }
        let time_ns = (options.warmup + options.duration).as_nanos();
        if every < Duration::from_micros(100) || time_ns / every.as_nanos() > BURSTS_MAX {
            return refuse(format!(
                "--every {every:?}: has to be 100us or longer, and a run has a million bursts at most"
            ));
        }
        Ok(Play::Burst { count, every })
    }

    fn parts(&self, play: Play, options: &Options) -> Result<Vec<Part>, OptionsError> {
        if play != Play::Mix {
            return Ok(Vec::new());
        }
        if self.mix.len() < 2 {
            let form = "--scenario mix: give two parts or more, each as --mix \"echo weight=3\", or as [[mix]] in a file";
            return Err(OptionsError::Scenario(form.to_owned()));
        }
        if options.url.iter().any(|url| Endpoint::parse(url).is_ok_and(|endpoint| endpoint.target != "/")) {
            let why = "--scenario mix: each part has its own path: leave the URL's out";
            return Err(OptionsError::Scenario(why.to_owned()));
        }
        mix::share_out(&self.mix, options.connections, options.payload).map_err(OptionsError::Scenario)
    }

    fn push(&self, options: &Options) -> Result<Play, OptionsError> {
        let refuse = |why: &str| Err(OptionsError::Scenario(format!("--scenario push: {why}")));
        let Some(rate_per_s) = self.push_rate else {
            return refuse("give --push-rate, in messages a second to each connection");
        };
        let sizes = push::STAMP_BYTES..=limits::PUSH_BYTES as usize;
        if !options.payload.fixed().is_some_and(|bytes| sizes.contains(&bytes)) {
            return refuse("messages are of one size, which holds a stamp: --payload 24 to 1MiB");
        }
        if options.text || options.filling != Filling::Random {
            return refuse("the server says what messages are: leave out --text and --filling");
        }
        Ok(Play::Push { rate_per_s, connections: options.connections })
    }

    /// Those beside the measured ones, of `connections` in all (or besides, of churn).
    fn crowd(
        &self,
        play: Play,
        connections: u32,
        thread_count: usize,
    ) -> Result<Option<CrowdPlan>, OptionsError> {
        let (count, manner, flag) = match play {
            Play::Churn => {
                let beside = self.idle_beside.filter(|&count| count > 0);
                return Ok(beside.map(|connections| CrowdPlan {
                    connections,
                    manner: Manner::Silent,
                    threads: thread_count,
                }));
            }
            Play::Fan { .. } if self.slow_share.is_none() && self.slow_mode.is_none() => return Ok(None),
            Play::Slow | Play::Fan { .. } => {
                let share = self.slow_share.unwrap_or(0.1);
                let manner = match self.slow_mode.unwrap_or(SlowMode::Stop) {
                    SlowMode::Stop => Manner::Stop,
                    SlowMode::Dribble => Manner::Dribble,
                };
                (((f64::from(connections) * share).round() as u32).max(1), manner, "--slow-share")
            }
            Play::Idle => {
                let active = self.active.unwrap_or((connections / 10).min(64).max(thread_count as u32));
                (connections.saturating_sub(active), Manner::Silent, "--active")
            }
            Play::Echo
            | Play::Burst { .. }
            | Play::Ping { .. }
            | Play::Work(_)
            | Play::Json { .. }
            | Play::Push { .. }
            | Play::Mix => {
                return Ok(None);
            }
        };
        let measured = connections.saturating_sub(count) as usize;
        if count == 0 || measured < thread_count {
            return Err(OptionsError::Scenario(format!(
                "{flag}: of {connections} connections, {measured} would be measured on {thread_count} threads and {count} be beside \
                 them: there has to be one a thread to measure, and one beside; give more --connections"
            )));
        }
        Ok(Some(CrowdPlan { connections: count, manner, threads: thread_count }))
    }

    fn parameters(
        &self,
        options: &Options,
        play: Play,
        crowd: Option<CrowdPlan>,
    ) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut add = |flag: &str, value: String| {
            all.insert(flag.to_owned(), value);
        };
        if options.payload.fixed().is_none() {
            add("payload", options.payload.to_string());
        }
        if let Some(fragments) = self.fragments.filter(|&fragments| fragments > 1) {
            add("fragments", fragments.to_string());
        }
        match play {
            Play::Echo => {}
            Play::Churn => {
                crowd.iter().for_each(|crowd| add("idle-beside", crowd.connections.to_string()));
            }
            Play::Slow | Play::Fan { .. } => {
                if let Some(crowd) = crowd {
                    add("slow-share", percent(self.slow_share.unwrap_or(0.1)));
                    add("slow-mode", crowd.manner.name().to_owned());
                }
                let fast = options.connections - crowd.map_or(0, |crowd| crowd.connections);
                fan::flags::add_parameters(play, fast, &mut all);
            }
            Play::Idle => {
                let beside = crowd.map_or(0, |crowd| crowd.connections);
                add("active", (options.connections - beside).to_string());
            }
            Play::Burst { count, every } => {
                add("burst", count.to_string());
                add("every", humantime::format_duration(every).to_string());
            }
            Play::Ping { share } => {
                add("ping-share", percent(share));
            }
            Play::Work(amount) => add("work", amount.to_string()),
            Play::Json { broadcast_share: share } if share > 0.0 => add("broadcast-share", percent(share)),
            Play::Json { .. } => {}
            Play::Push { rate_per_s, .. } => add("push-rate", rate_per_s.to_string()),
            Play::Mix => {
                let parts: Vec<_> = self.mix.iter().map(ToString::to_string).collect();
                add("mix", parts.join("; "));
            }
        }
        all
    }
}

/// As it is typed.
pub(super) fn percent(share: f64) -> String {
    // A share is a percentage divided by 100, which is not always the nearest number again.
    format!("{}%", (share * 1e8).round() / 1e6)
}

/// What does not go together, whatever the scenario is called.
fn check_beside(scene: &Scene, options: &Options) -> Result<(), OptionsError> {
    let refuse = |why: String| Err(OptionsError::Scenario(why));
    let what = match scene.play {
        Play::Ping { .. } => "--scenario ping",
        Play::Churn => "--scenario churn",
        Play::Work(_) => "--scenario work",
        Play::Json { .. } => "--scenario json",
        Play::Push { .. } => "--scenario push",
        Play::Mix => "--scenario mix",
        _ if scene.sizes.fixed().is_none() => "--payload with sizes that vary",
        _ if scene.fragments > 1 => "--fragments",
        _ => "a crowd beside what is measured",
    };
    let is_other = matches!(scene.play, Play::Churn | Play::Work(_) | Play::Push { .. });
    if scene.is_varied() || scene.crowd.is_some() || is_other {
        let is_measured_as_in_echo = matches!(scene.play, Play::Slow | Play::Idle) && !scene.is_varied();
        let bare = options.url.iter().any(|url| url.starts_with("tcp://"));
        for (flag, given) in [
            ("--anatomy", options.anatomy),
            ("--deflate", options.deflate.deflate),
            ("a tcp:// server", bare),
        ] {
            if given && !(is_measured_as_in_echo && flag != "a tcp:// server") {
                return refuse(format!("{what} does not go with {flag}: leave one of them out"));
            }
        }
    }
    check_json(scene, options)?;
    if scene.play == Play::Churn {
        let subprotocol = !options.subprotocol.is_empty();
        for (flag, given) in [("--pipeline", options.pipeline > 1), ("--subprotocol", subprotocol)] {
            if given {
                return refuse(format!("--scenario churn does not go with {flag}: leave it out"));
            }
        }
    } else if scene.crowd.is_some() && !options.subprotocol.is_empty() {
        return refuse("--subprotocol is not offered by the connections beside: leave it out".to_owned());
    }
    if options.calibrate.is_some() && (scene.row.name != "echo" || scene.is_varied()) {
        return refuse("--calibrate is of echo with messages of one size: leave out the rest".to_owned());
    }
    Ok(())
}

/// What messages of JSON cannot be.
fn check_json(scene: &Scene, options: &Options) -> Result<(), OptionsError> {
    let speaks = |part: &Part| matches!(part.deed, Deed::Json { .. });
    if !matches!(scene.play, Play::Json { .. }) && !scene.parts.iter().any(speaks) {
        return Ok(());
    }
    let refuse = |why: &str| Err(OptionsError::Scenario(format!("--scenario json: {why}")));
    if scene.payload_bytes_max() > limits::JSON_BYTES {
        return refuse("ringsock-server takes messages up to 1 MiB: give a smaller --payload");
    }
    if options.filling != Filling::Random {
        return refuse("what requests hold is theirs: leave out --filling");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }

    fn scene(flags: &[&str]) -> Result<Scene, String> {
        let words = std::iter::once(&"ringsock-load").chain(flags);
        let flags = Flags::try_parse_from(words).map_err(|error| error.to_string())?;
        flags.options.scenario.validate(&flags.options, 2).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flag_of_another_scenario_is_refused_by_name_with_its_own() {
        for (flags, says) in [
            (
                &["--ping-share", "5%"][..],
                "--ping-share: the scenario echo does not know it: it goes with --scenario ping",
            ),
            (&["--burst", "5", "--every", "1s"], "--burst: the scenario echo does not know it"),
            (&["--scenario", "ping", "--fragments", "2"], "it goes with --scenario echo or burst"),
            (&["--scenario", "burst"], "give --burst COUNT and --every TIME"),
            (&["--scenario", "burst", "--burst", "1", "--every", "1s"], "one a thread or more"),
            (&["--scenario", "burst", "--burst", "5", "--every", "1us"], "100us or longer"),
            (&["--scenario", "burst", "--burst", "5", "--every", "1s", "--rate", "5"], "cannot be used with"),
            (&["--scenario", "ping", "--ping-share", "101%"], "at most 100 %"),
            (&["--scenario", "ping", "--deflate"], "--scenario ping does not go with --deflate"),
            (&["--payload", "sweep", "--anatomy"], "sizes that vary does not go with --anatomy"),
            (&["--fragments", "2", "tcp://127.0.0.1:1"], "--fragments does not go with a tcp:// server"),
            (&["--fragments", "0"], "has to be 1 to 1048576"),
            (&["--scenario", "ping", "--calibrate"], "--calibrate is of echo"),
            (&["--scenario", "churn", "--closed-loop", "--pipeline", "2"], "does not go with --pipeline"),
            (&["--scenario", "slow", "-c", "2"], "give more --connections"),
            (&["--scenario", "idle", "--active", "64"], "one beside; give more --connections"),
            (&["--scenario", "idle", "tcp://127.0.0.1:1"], "does not go with a tcp:// server"),
            (&["--scenario", "slow", "--active", "5"], "it goes with --scenario idle"),
            (&["--scenario", "chess"], "[possible values: echo, burst"),
        ] {
            let error = scene(flags).unwrap_err();
            assert!(error.contains(says), "{flags:?}: {error}");
        }
    }

    #[test]
    fn a_scene_knows_what_nobody_typed() {
        assert!(scene(&[]).unwrap().parameters.is_empty());
        assert!(!scene(&[]).unwrap().is_varied());
        let ping = scene(&["--scenario", "ping"]).unwrap();
        assert_eq!(ping.parameters["ping-share"], "100%");
        let burst = scene(&["--scenario", "burst", "--burst", "500", "--every", "50ms"]).unwrap();
        assert_eq!((&*burst.parameters["burst"], &*burst.parameters["every"]), ("500", "50ms"));
        let Some(Mode::OpenLoop { rate_per_s, arrivals: result::Arrivals::Burst }) = burst.mode() else {
            panic!("{:?}", burst.mode())
        };
        assert_eq!(rate_per_s, 10_000.0);
        let slow = scene(&["--scenario", "slow", "-c", "50"]).unwrap();
        assert_eq!((&*slow.parameters["slow-share"], &*slow.parameters["slow-mode"]), ("10%", "stop"));
        assert_eq!((slow.crowd.unwrap().connections, slow.measured(50)), (5, 45));
        let idle = scene(&["--scenario", "idle", "-c", "5000"]).unwrap();
        assert_eq!((&*idle.parameters["active"], idle.crowd.unwrap().connections), ("64", 4936));
        let drawn = scene(&["--payload", "uniform:1..9", "--fragments", "3"]).unwrap();
        assert_eq!((&*drawn.parameters["payload"], &*drawn.parameters["fragments"]), ("uniform:1..9", "3"));
    }

    #[test]
    fn every_flag_of_the_table_exists() {
        let command = Flags::command();
        for row in SCENARIOS {
            for flag in row.flags {
                assert!(command.get_arguments().any(|arg| arg.get_long() == Some(flag)), "{flag}");
            }
        }
    }
}
