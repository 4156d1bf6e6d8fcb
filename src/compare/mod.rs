//! Many results against each other: what differs, and how sure that is.
//!
//! Invariant: what is compared is one workload at a time, and the unit that chance draws is the boot, since boots of one kernel
//! differ from each other by more than the runs of one do.
//! Deliberately absent: how a comparison looks. [`crate::report`] shows a [`model::Comparison`].

pub mod contrast;
pub mod difference;
pub mod metric;
pub mod model;
pub mod rank;
pub mod resample;
pub mod sample;
