//! Unbounded search for input that breaks the property of the validation of text; the property itself is shared with the bounded
//! run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `fuzz/run utf8` builds and runs it.
#![no_main]

#[path = "../../tests/fuzz_bounded/utf8.rs"]
mod utf8;

libfuzzer_sys::fuzz_target!(|data: &[u8]| utf8::check(data));
