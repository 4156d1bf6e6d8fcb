//! Unbounded search for input that breaks the property of the frame decoder, the connection and the echo in place; the property
//! itself is shared with the bounded run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `fuzz/run decoder` builds and runs it.
#![no_main]

#[path = "../../tests/fuzz_bounded/decoder.rs"]
mod decoder;
#[allow(dead_code, reason = "other targets use the rest")]
#[path = "../../tests/fuzz_bounded/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoder::check(data));
