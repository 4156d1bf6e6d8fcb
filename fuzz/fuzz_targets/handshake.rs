//! Unbounded search for input that breaks the property of the opening handshake; the property itself is shared with the bounded
//! run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `fuzz/run handshake` builds and runs it.
#![no_main]

#[path = "../../tests/fuzz_bounded/handshake.rs"]
mod handshake;

libfuzzer_sys::fuzz_target!(|data: &[u8]| handshake::check(data));
