//! What a run measured and where: histograms, the environment, the result file and its schema.
//!
//! Invariant: every number here is a count or carries its unit in its name, and a histogram is kept whole, so
//! that whatever is derived from it can be derived again by somebody who distrusts the summary.
//! Deliberately absent: clocks, sockets and, but for a verdict's sentences, anything for people to read (that is
//! [`crate::report`]).

pub mod anatomy;
pub mod arrivals;
pub mod calibration;
pub mod environment;
pub mod evidence;
pub mod finding;
pub mod histogram;
pub mod holm;
pub mod manifest;
pub mod particulars;
pub mod result;
pub mod rounds;
pub mod samples;
pub mod series;
pub mod server_stats;
pub mod steadiness;
pub mod store;
pub mod student;
pub mod units;
pub mod verdict;
pub mod wire;
