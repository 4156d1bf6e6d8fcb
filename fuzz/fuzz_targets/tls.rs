//! Unbounded search for input that breaks the property of TLS, during the handshake and after it; the property itself is shared
//! with the bounded run in `tests/fuzz.rs`, so this file holds nothing but the link to libFuzzer.
//!
//! `fuzz/run tls` builds and runs it.
#![no_main]

#[path = "../../tests/fuzz_bounded/tls.rs"]
mod tls;

libfuzzer_sys::fuzz_target!(|data: &[u8]| tls::check(data));
