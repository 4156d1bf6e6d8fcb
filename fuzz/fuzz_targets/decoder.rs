//! Unbounded search for input that breaks the property of the frame decoder, the connection and the echo in
//! place; the property itself is shared with the bounded run in `tests/fuzz.rs`, so this file holds nothing but
//! the link to libFuzzer.
//!
//! `cargo +nightly fuzz run decoder fuzz/corpus/decoder fuzz/seeds/decoder` (create the corpus folder first:
//! what is found goes there).
#![no_main]

#[path = "../../tests/fuzz_bounded/decoder.rs"]
mod decoder;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoder::check(data));
