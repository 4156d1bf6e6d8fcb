//! Unbounded search for input that breaks the property of the negotiation of extensions; the property itself is shared with the
//! bounded run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `fuzz/run extensions` builds and runs it.
#![no_main]

#[path = "../../tests/fuzz_bounded/extensions.rs"]
mod extensions;

libfuzzer_sys::fuzz_target!(|data: &[u8]| extensions::check_any(data));
