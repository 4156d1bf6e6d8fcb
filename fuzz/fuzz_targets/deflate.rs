//! Unbounded search for input that breaks the property of a connection that compresses; the property itself is shared with the
//! bounded run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `fuzz/run deflate` builds and runs it.
#![no_main]

#[path = "../../tests/fuzz_bounded/deflate.rs"]
mod deflate;

libfuzzer_sys::fuzz_target!(|data: &[u8]| deflate::check(data));
