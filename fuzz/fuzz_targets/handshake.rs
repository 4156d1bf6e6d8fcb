//! Unbounded search for input that breaks the handshake's property; the property itself is shared with the
//! bounded run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `cargo +nightly fuzz run handshake fuzz/corpus/handshake fuzz/seeds/handshake` (create the corpus folder
//! first: what is found goes there).
#![no_main]

#[path = "../../tests/fuzz_bounded/handshake.rs"]
mod handshake;

libfuzzer_sys::fuzz_target!(|data: &[u8]| handshake::check(data));
