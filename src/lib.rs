//! ringsock: a WebSocket benchmark server on io_uring, a load generator that measures honest latency
//! histograms against it, and the means to compare the results across kernels.
//!
//! The map, bottom up; `tests/tidy.rs` holds the import direction.
//!
//! | module | what it is | may import |
//! |---|---|---|
//! | [`limits`] | every bound, asserted against each other at compile time | nothing |
//! | [`cpu`] | CPU lists, pinning | nothing |
//! | [`ws`] | the protocol, sans-I/O: bytes, time and random numbers are given to it | nothing |
//! | [`tls`] | TLS, sans-I/O: certificates, trust, handshakes, records | limits |
//! | [`engine`] | I/O engines: bytes, connections, time; they know nothing of WebSocket | limits, cpu, tls |
//! | [`measure`] | histograms, environment, the result file and its schema | nothing |
//! | [`scenario`] | what server and client say to each other | ws, engine, limits |
//! | [`server`] | one pinned thread per core, one engine each | scenario, engine, tls, limits, cpu |
//! | [`load`] | the generator: schedule, phases, client | scenario, engine, tls, ws, measure, report, server, limits, cpu |
//! | [`compare`] | many results against each other: what differs, how sure that is | measure |
//! | [`report`] | what people read, made from result files alone | measure, compare |
#![deny(unsafe_code)]

pub mod compare;
pub mod cpu;
pub mod engine;
pub mod limits;
pub mod load;
pub mod measure;
pub mod report;
pub mod scenario;
pub mod server;
pub mod tls;
pub mod ws;
