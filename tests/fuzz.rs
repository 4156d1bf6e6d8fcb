//! The fuzz targets' properties, run for a bounded time on every test run: every committed input as it is, then random bytes and
//! committed inputs with random edits. A failure shows its seed and input; `RINGSOCK_SEED=<seed>` plays it again.
//!
//! Not a replacement for `fuzz/run`, which is guided by coverage.

use std::path::Path;

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
    run("handshake", 20_000, &tokens, handshake::check);
}

#[test]
fn the_decoder_holds_for_random_and_mutated_input() {
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
    run("decoder", 3_000, &tokens, decoder::check);
}

#[test]
fn the_negotiation_of_extensions_holds_for_random_and_mutated_input() {
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
    run("extensions", 50_000, &tokens, extensions::check_any);
}

#[test]
fn compression_holds_for_random_and_mutated_input() {
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
    run("deflate", 3_000, &tokens, deflate::check);
}

#[test]
fn a_client_and_a_server_understand_each_other_whatever_they_say() {
    // A message, a fragment, a ping, a Close, a flipped bit, a cut, time, pieces that arrive at either end.
    let tokens: [&[u8]; 10] = [
        b"\x00\x01\x50\x02",
        b"\x01\x03\x50\x07",
        b"\x08\x01\x05",
        b"\x0c\x00\x00",
        b"\x0e\x05\x03",
        b"\x10",
        b"\x12\xff",
        b"\x15",
        b"\x16\xc7",
        b"\x17\xc7",
    ];
    run("pair", 6_000, &tokens, pair::check);
}

#[test]
fn tls_holds_against_garbage_tampering_and_forgery() {
    // Records of every kind: data, empty data, alerts, handshake messages whole and in part, a flipped bit.
    let tokens: [&[u8]; 10] = [
        b"\x00\x03abc",
        b"\x00\x00",
        b"\x01\x02\x01\x00",
        b"\x01\x02\x02\x28",
        b"\x02\x04\x01\x00\x00\x00",
        b"\x02\x05\x18\x00\x00\x01\x01",
        b"\x02\x02\x04\x00",
        b"\x40\x02ab",
        b"\x88\xf0",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ];
    // Data amid a handshake message, and padding that makes a record too long.
    tls::check(&[6, 255, 2, 2, 24, 0, 0, 1, 65]);
    tls::check(&[6, 255, 0xB8, 0]);
    run("tls", 600, &tokens, tls::check);
}

#[test]
fn text_is_judged_as_the_standard_library_does_however_it_is_cut() {
    let tokens: [&[u8]; 8] = [
        b"\xe2\x82\xac",
        b"\xf0\x9f\xa6\x80",
        b"\xf0\x9f",
        b"\xed\xa0",
        b"\xc0\x80",
        b"\xf4\x90",
        b"\xc3",
        b"a",
    ];
    run("utf8", 10_000, &tokens, utf8::check);
}

#[test]
fn files_are_read_or_refused_whatever_they_hold() {
    let tokens: [&[u8]; 12] = [
        b"null",
        b"-1",
        b"1e400",
        b"18446744073709551615",
        b"\"\"",
        b"{}",
        b"[",
        b"\\ud800",
        b"ringsock-result/1",
        b"\n",
        b"\xff",
        b"0",
    ];
    run("reader", 2_000, &tokens, reader::check);
}

/// Calls `check` with each input committed for `target`, then with `case_count` made of them. It panics when a property is
/// broken, which the harness reports along with what is printed here.
fn run(target: &str, case_count: usize, tokens: &[&[u8]], check: fn(&[u8])) {
    let seeds = committed(target);
    for seed in &seeds {
        checked(seed, check);
    }
    let mut rng = seed::seeded();
    for _ in 0..case_count {
        checked(&input(&mut rng, &seeds, tokens), check);
    }
}

fn checked(input: &[u8], check: fn(&[u8])) {
    let guard = ShownOnPanic(input);
    check(input);
    drop(guard);
}

/// The inputs written by hand, and those found.
fn committed(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut paths = Vec::new();
    for folder in ["seeds", "corpus"].map(|kind| root.join(kind).join(target)) {
        let files =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        paths.extend(files.map(|file| file.unwrap().path()));
    }
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
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

/// One in eight is noise; the others are a committed input with up to four edits, half of them with two random bytes behind it,
/// which choose how it is looked at.
fn input(rng: &mut Rng, seeds: &[Vec<u8>], tokens: &[&[u8]]) -> Vec<u8> {
    if rng.u8(..8) == 0 {
        let noise_bytes = rng.usize(..300);
        return std::iter::repeat_with(|| rng.u8(..)).take(noise_bytes).collect();
    }
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(..=4) {
        edit(rng, &mut bytes, tokens);
    }
    if rng.bool() {
        bytes.extend([rng.u8(..), rng.u8(..)]);
    }
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
