//! What flags are about: the groups of `--help`.
//!
//! Invariant: every flag stands under one of these. Those under [`OUTPUT`] and [`SERIES`] decide nothing about a single
//! run, and are not kept in its result.

/// What is measured.
pub const TARGET: &str = "Target";
/// What is sent, when and for how long.
pub const LOAD: &str = "Load";
/// What the generator runs on.
pub const MACHINE: &str = "Engine and CPUs";
/// Which runs are made, where there are several.
pub const SERIES: &str = "Series of runs";
/// Where flags come from, and what is done with results.
pub const OUTPUT: &str = "Plan and output";
