//! Flags beside those of a single run: where flags come from, and which runs are made.
//!
//! Deliberately absent: what they do; see [`super::config`] and [`super::series`].

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::autobahn;
use super::heading::{OUTPUT, SERIES};
use super::options::parse_rate;
use super::series::{Condition, Rates};

/// Where flags come from.
#[derive(Debug, Clone, Args)]
pub struct PlanFlags {
    /// Take flags from a TOML file: their long names are the keys, as rate = 50000 or closed-loop = true. Typed flags
    /// win, and drop what they conflict with
    #[arg(help_heading = OUTPUT, long, value_name = "FILE", conflicts_with = "replay")]
    pub config: Option<PathBuf>,

    /// Repeat the run that this result was saved from; typed flags win, and what differs on this machine is said
    #[arg(help_heading = OUTPUT, long, value_name = "RESULT")]
    pub replay: Option<PathBuf>,

    /// Run nothing: print every flag in effect as a file for --config, and what was chosen for this machine
    #[arg(help_heading = OUTPUT, long)]
    pub dry_run: bool,
}

/// Which runs are made.
#[derive(Debug, Clone, Args)]
pub struct SeriesFlags {
    /// Make each run this often, and merge and compare what comes of them. Round r has the seed --seed + r, the same for all
    /// that is compared
    #[arg(help_heading = SERIES, long, value_name = "COUNT", default_value_t = 1, conflicts_with = "calibrate")]
    pub runs: u64,

    /// Flags of one of those compared, over the common ones, as "--server-engine epoll"; give it once for each, the one that
    /// the others are compared with first. "" has the common flags as they are; the same twice shows the noise
    #[arg(help_heading = SERIES, long, value_name = "FLAGS", allow_hyphen_values = true, conflicts_with = "calibrate")]
    pub contender: Vec<String>,

    /// Make the runs of a round in an order drawn by --seed, and those of the next one backwards (A B B A), so that a machine
    /// that gets slower or faster meanwhile does so for all; as it is where several are compared
    #[arg(help_heading = SERIES, long, overrides_with = "no_interleave")]
    pub interleave: bool,

    /// Make all runs of one, then all of the next
    #[arg(help_heading = SERIES, long, overrides_with = "interleave")]
    pub no_interleave: bool,

    /// Find the highest rate of an open loop at which this holds, as "p99<1ms" or "p99.9<5ms,max<100ms": percentiles, max or
    /// mean of response times. Begins at --rate. A step is judged by the percentile's confidence interval and repeated if
    /// that does not tell; fewer than 99 % answered in time fail too. In the end it comes back down from overload, to see
    /// whether the server recovers
    #[arg(
        help_heading = SERIES,
        long,
        value_name = "CONDITION",
        conflicts_with_all = ["closed_loop", "burst", "duration", "runs", "contender", "calibrate", "strict"]
    )]
    pub find_max_rate: Option<Condition>,

    /// How close the highest rate that passes and the lowest that fails have to be: each within this of their middle
    #[arg(
        help_heading = SERIES,
        long,
        value_name = "PERCENT",
        default_value = "3%",
        value_parser = parse_precision,
        requires = "find_max_rate"
    )]
    pub precision: f64,

    /// How long a step measures at least; longer where its percentiles need more messages
    #[arg(
        help_heading = SERIES,
        long,
        value_name = "TIME",
        default_value = "3s",
        value_parser = humantime::parse_duration,
        requires = "find_max_rate"
    )]
    pub step: Duration,

    /// Measure latency at a set of rates, ascending, each for --duration: messages a second, or per cent of the capacity, as
    /// --curve=10k,20k,50k [default of RATES: 10%,50%,90%,110%,150%]. More than the capacity is overload by intent, and a
    /// second run measures the recovery from it: overload during the warm-up, then half of the capacity, on the same connections
    #[arg(
        help_heading = SERIES,
        long,
        value_name = "RATES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10%,50%,90%,110%,150%",
        conflicts_with_all = ["closed_loop", "rate", "warmup_rate", "burst", "runs", "contender", "find_max_rate", "calibrate", "strict"]
    )]
    pub curve: Option<Rates>,

    /// The capacity that the curve's percentages are of, in messages a second [default: what a closed loop reaches with 256
    /// messages in flight, measured first]
    #[arg(help_heading = SERIES, long, value_name = "RATE", value_parser = parse_rate, requires = "curve")]
    pub capacity: Option<f64>,

    /// Go on with the series in this folder, which Ctrl-C, a crash or a reboot has ended; its flags are taken from there
    #[arg(help_heading = SERIES, long, value_name = "FOLDER", conflicts_with_all = ["config", "replay", "results", "calibrate"])]
    pub resume: Option<PathBuf>,

    /// Measure nothing: hold every case of the Autobahn|Testsuite's fuzzing server at the URL, as the client AGENT. For
    /// bench-scripts/autobahn, which judges them
    #[arg(
        help_heading = SERIES,
        long,
        value_name = "AGENT",
        hide = true,
        value_parser = autobahn::parse_agent,
        requires = "url",
        conflicts_with_all = ["dry_run", "calibrate", "runs", "contender", "find_max_rate", "curve", "resume"]
    )]
    pub autobahn: Option<String>,
}

/// A share, from per cent: `3%`.
fn parse_precision(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    let share = percent.map(|percent| percent / 100.0).filter(|share| (0.001..=0.25).contains(share));
    share.ok_or("write 0.1% to 25%".to_owned())
}
