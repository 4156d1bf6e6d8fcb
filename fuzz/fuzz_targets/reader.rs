//! Unbounded search for input that breaks the property of the readers of files; the property itself is shared with the bounded
//! run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `fuzz/run reader` builds and runs it.
#![no_main]

#[path = "../../tests/fuzz_bounded/reader.rs"]
mod reader;

libfuzzer_sys::fuzz_target!(|data: &[u8]| reader::check(data));
