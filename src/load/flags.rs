//! Flags beside those of a single run: where flags come from, and which runs are made.
//!
//! Deliberately absent: what they do; see [`super::config`] and [`super::series`].

use std::path::PathBuf;

use clap::Args;

use super::heading::{OUTPUT, SERIES};

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
    #[arg(help_heading = SERIES, long, value_name = "COUNT", default_value_t = 1)]
    pub runs: u64,

    /// Flags of one of those compared, over the common ones, as "--server-engine epoll"; give it once for each, the one that
    /// the others are compared with first. "" has the common flags as they are; the same twice shows the noise
    #[arg(help_heading = SERIES, long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub contender: Vec<String>,

    /// Make the runs of a round in an order drawn by --seed, and those of the next one backwards (A B B A), so that a machine
    /// that gets slower or faster meanwhile does so for all; as it is where several are compared
    #[arg(help_heading = SERIES, long, overrides_with = "no_interleave")]
    pub interleave: bool,

    /// Make all runs of one, then all of the next
    #[arg(help_heading = SERIES, long, overrides_with = "interleave")]
    pub no_interleave: bool,

    /// Go on with the series in this folder, which Ctrl-C, a crash or a reboot has ended; its flags are taken from there
    #[arg(help_heading = SERIES, long, value_name = "FOLDER", conflicts_with_all = ["config", "replay", "results"])]
    pub resume: Option<PathBuf>,
}
