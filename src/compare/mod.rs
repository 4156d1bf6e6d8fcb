//! Many results against each other: what differs, and how sure that is.
//!
//! Paths become runs ([`collect`]); runs have keys ([`key`]) and a workload ([`workload`]), which make groups and cells of them
//! ([`assemble`]); of each group's runs in a cell come numbers and their certainty ([`sample`], [`resample`], [`contrast`],
//! [`difference`]). All of it ends in one [`model::Comparison`], which may be held to conditions ([`gate`]).
//!
//! Invariant: what is compared is one workload at a time, and the unit that chance draws is the boot, since boots of one kernel
//! differ from each other by more than the runs of one do.
//! Deliberately absent: how a comparison looks. [`crate::report`] shows a [`model::Comparison`].

pub mod assemble;
pub mod collect;
pub mod contrast;
pub mod difference;
pub mod environment;
pub mod gate;
mod grid;
pub mod heatmap;
pub mod key;
pub mod layout;
pub mod metric;
pub mod model;
pub mod rank;
pub mod resample;
pub mod sample;
pub mod workload;

#[cfg(test)]
mod simulated;
