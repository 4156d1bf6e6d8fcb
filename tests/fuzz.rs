//! The fuzz targets' properties, run for a bounded time on every test run: random bytes, and the targets' seed
//! files with random edits. A failure shows its seed and input; `RINGSOCK_SEED=<seed>` plays it again.
//!
//! Not a replacement for `cargo fuzz`, which is guided by coverage.

use fastrand::Rng;

#[path = "fuzz_bounded/decoder.rs"]
mod decoder;
#[path = "fuzz_bounded/deflate.rs"]
mod deflate;
#[path = "fuzz_bounded/extensions.rs"]
mod extensions;
#[path = "fuzz_bounded/handshake.rs"]
mod handshake;
#[path = "fuzz_bounded/oracle.rs"]
mod oracle;
#[path = "fuzz_bounded/pair.rs"]
mod pair;
#[path = "fuzz_bounded/reader.rs"]
mod reader;
#[path = "common/seed.rs"]
mod seed;
#[path = "fuzz_bounded/tls.rs"]
mod tls;
#[path = "fuzz_bounded/utf8.rs"]
mod utf8;

#[test]
fn the_handshake_holds_for_random_and_mutated_input() {
    let seeds: [&[u8]; 4] = [
        include_bytes!("../fuzz/seeds/handshake/request"),
        include_bytes!("../fuzz/seeds/handshake/request-absolute"),
        include_bytes!("../fuzz/seeds/handshake/response"),
        include_bytes!("../fuzz/seeds/handshake/response-404"),
    ];
    // What HTTP heads are made of: random bytes alone would seldom get past the request line.
    let tokens: [&[u8]; 14] = [
        b"\r\n",
        b"\n",
        b"\r",
        b": ",
        b",",
        b" ",
        b"\t",
        b"\r\n\r\n",
        b"HTTP/1.0",
        b"websocket",
        b"Connection: ",
        b"Content-Length: 1\r\n",
        b"http://",
        b"?",
    ];
    run(20_000, &seeds, &tokens, handshake::check);
}

#[test]
fn the_decoder_holds_for_random_and_mutated_input() {
    let seeds: [&[u8]; 5] = [
        include_bytes!("../fuzz/seeds/decoder/client"),
        include_bytes!("../fuzz/seeds/decoder/client-fragments"),
        include_bytes!("../fuzz/seeds/decoder/client-lengths"),
        include_bytes!("../fuzz/seeds/decoder/server"),
        include_bytes!("../fuzz/seeds/decoder/server-faults"),
    ];
    // Headers, half headers, and halves of characters; a key of zeros leaves what is behind it readable.
    let tokens: [&[u8]; 12] = [
        b"\x81\x83\0\0\0\0abc",
        b"\x82\x81\0\0\0\0\xff",
        b"\x01\x82\0\0\0\0\xe2\x82",
        b"\x80\x81\0\0\0\0\xac",
        b"\x89\x80\0\0\0\0",
        b"\x88\x82\0\0\0\0\x03\xe8",
        b"\x82\xfe\x00\x7e",
        b"\x82\xff\0\0\0\0\0\x01\0\0",
        b"\x01\x02\xe2\x82",
        b"\x80\x01\xac",
        b"\x89\x00",
        b"\xc3",
    ];
    run(3_000, &seeds, &tokens, decoder::check);
}

#[test]
fn the_negotiation_of_extensions_holds_for_random_and_mutated_input() {
    let seeds: [&[u8]; 2] = [
        include_bytes!("../fuzz/seeds/extensions/offers"),
        include_bytes!("../fuzz/seeds/extensions/answer"),
    ];
    let tokens: [&[u8]; 14] = [
        b"permessage-deflate",
        b"; client_max_window_bits",
        b"; client_max_window_bits=8",
        b"; server_max_window_bits=\"15\"",
        b"; server_max_window_bits=8",
        b"; server_no_context_takeover",
        b"; client_no_context_takeover",
        b", permessage-deflate",
        b"\n",
        b",",
        b";",
        b"=",
        b"\"",
        b"\\",
    ];
    run(50_000, &seeds, &tokens, extensions::check_any);
}

#[test]
fn compression_holds_for_random_and_mutated_input() {
    let seeds: [&[u8]; 3] = [
        include_bytes!("../fuzz/seeds/deflate/server"),
        include_bytes!("../fuzz/seeds/deflate/client"),
        include_bytes!("../fuzz/seeds/deflate/bomb"),
    ];
    // Whole messages, fragments, blocks that are stored, empty, or end their stream.
    let tokens: [&[u8]; 10] = [
        b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\x41\x83\0\0\0\0\xf2\x48\xcd",
        b"\x80\x84\0\0\0\0\xc9\xc9\x07\x00",
        b"\xc2\x81\0\0\0\0\x00",
        b"\xc9\x80\0\0\0\0",
        b"\x00\x00\xff\xff",
        b"\x00\x05\x00\xfa\xff",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\x88\x80\0\0\0\0",
    ];
    run(3_000, &seeds, &tokens, deflate::check);
}

/// Calls `check` with `case_count` inputs. It panics when a property is broken, which the harness reports
/// along with what is printed here.
fn run(case_count: usize, seeds: &[&[u8]], tokens: &[&[u8]], check: fn(&[u8])) {
    let mut rng = seed::seeded();
    for _ in 0..case_count {
        let input = input(&mut rng, seeds, tokens);
        let guard = ShownOnPanic(&input);
        check(&input);
        drop(guard);
    }
}

/// Prints the input if `check` unwinds past it.
struct ShownOnPanic<'a>(&'a [u8]);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input: b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// One in eight is noise; the others are a seed with up to four edits and two random bytes behind it.
fn input(rng: &mut Rng, seeds: &[&[u8]], tokens: &[&[u8]]) -> Vec<u8> {
    if rng.u8(..8) == 0 {
        let noise_bytes = rng.usize(..300);
        return std::iter::repeat_with(|| rng.u8(..)).take(noise_bytes).collect();
    }
    let mut bytes = seeds[rng.usize(..seeds.len())].to_vec();
    for _ in 0..rng.usize(..=4) {
        edit(rng, &mut bytes, tokens);
    }
    bytes.extend([rng.u8(..), rng.u8(..)]);
    bytes
}

fn edit(rng: &mut Rng, bytes: &mut Vec<u8>, tokens: &[&[u8]]) {
    let at = rng.usize(..=bytes.len());
    let end = at + rng.usize(..=(bytes.len() - at).min(8));
    match rng.u8(..5) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << rng.u8(..8)),
        3 => drop(bytes.splice(at..at, tokens[rng.usize(..tokens.len())].iter().copied())),
        _ => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
    }
}
