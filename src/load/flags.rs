//! Flags that say where the others come from.
//!
//! Deliberately absent: what they do; see [`super::config`].

use std::path::PathBuf;

use clap::Args;

use super::heading::OUTPUT;

/// See the module's text.
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
