//! Text that compresses as the messages of real applications do: JSON-like records, keys that repeat and values that don't.
//!
//! Invariant: ASCII, and the same for the same random numbers. It is not JSON once it is cut into messages, and need not
//! be: nobody parses it.

use std::io::Write as _;

const EVENTS: [&str; 8] = ["open", "close", "order", "cancel", "fill", "quote", "login", "logout"];

/// `byte_count` bytes of records, one a line.
pub(super) fn records(byte_count: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut text = Vec::with_capacity(byte_count + 256);
    let mut time_ms = 1_700_000_000_000_u64;
    while text.len() < byte_count {
        time_ms += random.u64(..1000);
        let name: String = std::iter::repeat_with(|| random.lowercase()).take(8).collect();
        let event = random.choice(EVENTS).expect("there are some");
        let written = writeln!(
            text,
            "{{\"id\":{},\"time\":{time_ms},\"user\":\"{name}\",\"event\":\"{event}\",\"price\":{:.2},\"size\":{},\"live\":{}}}",
            random.u32(..),
            random.f64() * 1000.0,
            random.u16(..),
            random.bool(),
        );
        written.expect("memory takes what it is given");
    }
    text.truncate(byte_count);
    text
}
