//! Unbounded search for input that breaks the property of a client and a server that talk to each other; the property itself is
//! shared with the bounded run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `fuzz/run pair` builds and runs it.
#![no_main]

#[allow(dead_code, reason = "other targets use the rest")]
#[path = "../../tests/fuzz_bounded/oracle.rs"]
mod oracle;
#[path = "../../tests/fuzz_bounded/pair.rs"]
mod pair;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pair::check(data));
