//! Where compression was agreed on: bombs, garbage, and messages that never end.

use std::io::Write;
use std::thread;

use ringsock::ws::frame::Opcode;

use crate::bed::{Bed, Expected, Way, hold};
use crate::openings::expected;
use crate::peer::{self, frame};
use crate::wire::{BOMB, deflated, expect_close, frame_beginning};

const DEFLATE: &[Way] = &[Way::Deflate];
const BINARY: u8 = 0xC2;
const TEXT: u8 = 0xC1;

/// Fragments of a compressed message; `fin` closes it.
fn in_fragments(first: u8, payload: &[u8], piece_bytes: usize, fin: bool) -> Vec<u8> {
    let count = payload.len().div_ceil(piece_bytes);
    let piece = |(index, piece): (usize, &[u8])| {
        let opcode = if index == 0 { first & 0x4F } else { 0 };
        let is_last = fin && index + 1 == count;
        frame_beginning(opcode | if is_last { 0x80 } else { 0 }, piece)
    };
    payload.chunks(piece_bytes).enumerate().flat_map(piece).collect()
}

#[test]
fn bombs_are_closed_with_1009_after_bounded_memory() {
    /// 48 at a time, which inflate to 64 MiB each, and of which 4 MiB each are put up with: 192 MiB.
    const EACH: usize = 12;
    /// Half of that. It is 422 KiB for a connection's windows and 128 KiB for what it sent ahead of being inflated, 26 MiB;
    /// 8 MiB of buffers; and the allocator, which begins on 2 MiB for each size of large blocks, another 40 MiB.
    const HELD_BYTES_MAX: u64 = 96 << 20;
    hold(DEFLATE, &["--max-message", "4MiB"], |bed| {
        let bombs = [
            frame_beginning(BINARY, &BOMB),
            frame_beginning(TEXT, &BOMB),
            in_fragments(BINARY, &BOMB, 1000, true),
            in_fragments(TEXT, &BOMB, 100, false),
        ];
        let before = bed.resident_bytes();
        let throw = &|bomb: &[u8]| {
            let mut peer = bed.open();
            peer.deflates = true;
            // It may be failed before the last of it is written.
            let _ = peer.stream.write_all(bomb);
            expect_close(&mut peer, 1009, "a bomb");
        };
        let most = thread::scope(|scope| {
            let thrown: Vec<_> = bombs
                .iter()
                .flat_map(|bomb| (0..EACH).map(move |_| bomb))
                .map(|bomb| scope.spawn(move || throw(bomb)))
                .collect();
            let mut most = 0;
            while thrown.iter().any(|thread| !thread.is_finished()) {
                most = most.max(bed.resident_bytes());
                thread::yield_now();
            }
            most
        });
        let held = most.max(bed.resident_bytes()).saturating_sub(before);
        assert!(held < HELD_BYTES_MAX, "{held} bytes more for bombs");
        expected(&[("faults", bombs.len() * EACH), ("faults_too_big", bombs.len() * EACH)])
    });
}

#[test]
fn compressed_garbage_is_closed_with_1007() {
    hold(DEFLATE, &[], |bed| {
        let mut random = fastrand::Rng::with_seed(7);
        let good = deflated(&b"what compresses, compresses, compresses ".repeat(500));
        let mut spoilt = good.clone();
        // The type of the first block: 3 is none.
        spoilt[0] |= 6;
        let mut wrong = vec![
            ("no block type", frame_beginning(BINARY, &spoilt)),
            ("no block type at all", frame_beginning(BINARY, &[0xFF, 0xFF])),
            ("lengths that do not match", frame_beginning(BINARY, &[0x00, 0x05, 0x00, 0x05, 0x00, 1, 2, 3])),
            ("text that is none", frame_beginning(TEXT, &deflated(b"good \xC0\x80 bad"))),
            ("half a character", frame_beginning(TEXT, &deflated(&"🦀".as_bytes()[..2]))),
        ];
        for _ in 0..10 {
            let mut noise: Vec<u8> = (0..5000).map(|_| random.u8(..)).collect();
            noise[0] |= 6;
            wrong.push(("noise", frame_beginning(BINARY, &noise)));
        }
        for (label, frames) in &wrong {
            let mut peer = bed.open();
            peer.deflates = true;
            peer.stream.write_all(frames).unwrap();
            expect_close(&mut peer, 1007, label);
        }
        expected(&[("faults", wrong.len())])
    });
}

#[test]
fn reserved_bits_where_compression_has_no_use_for_them_are_closed_with_1002() {
    hold(DEFLATE, &[], |bed| {
        let half = &deflated(b"half and half")[..4];
        let wrong = [
            ("RSV1 of a continuation", [frame_beginning(0x41, half), frame_beginning(0xC0, half)].concat()),
            ("RSV1 of a ping", frame_beginning(0xC9, b"")),
            ("RSV1 of a close", frame_beginning(0xC8, b"")),
            ("RSV1 and RSV2", frame_beginning(0xE2, half)),
        ];
        for (label, frames) in &wrong {
            let mut peer = bed.open();
            peer.deflates = true;
            peer.stream.write_all(frames).unwrap();
            expect_close(&mut peer, 1002, label);
        }
        expected(&[("faults", wrong.len())])
    });
}

#[test]
fn offers_that_break_the_grammar_or_ask_for_too_much_do_no_harm() {
    hold(DEFLATE, &[], |bed| {
        let long = format!("permessage-deflate{}", "; a=b".repeat(1000));
        let many = vec!["x-unknown; y=\"quoted\""; 100].join(", ");
        let offers = [
            ("permessage-deflate; server_max_window_bits=\"", 400),
            ("permessage-deflate;;", 400),
            ("permessage-deflate; server_max_window_bits=7", 101),
            ("permessage-deflate; client_max_window_bits=99999999999999999999", 101),
            ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", 101),
            (&long, 101),
            (&many, 101),
        ];
        let refused = offers.iter().filter(|(_, status)| *status == 400).count();
        for (offer, status) in offers {
            let request = String::from_utf8(peer::request(bed.address, "/")).unwrap();
            let request =
                request.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"));
            let mut stream = bed.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream.write_all(&frame(Opcode::Close, b"")).unwrap();
            let answer = String::from_utf8_lossy(&stream.read_all()).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{offer}: {answer}");
            assert!(!answer.contains("permessage-deflate"), "{offer}: {answer}");
        }
        expected(&[("rejected", refused)])
    });
}

#[test]
fn a_message_that_inflates_to_nothing_for_ever_leaves_nothing_behind() {
    hold(DEFLATE, &[], |bed: &Bed| {
        // Empty stored blocks: each piece is sound, and none brings anything.
        let nothing = [0, 0, 0, 0xFF, 0xFF].repeat(20_000);
        let mut peer = bed.open();
        peer.stream.write_all(&in_fragments(BINARY, &nothing, 1000, false)).unwrap();
        peer.stream.write_all(&frame(Opcode::Ping, b"still there?")).unwrap();
        peer.deflates = true;
        let pong = (true, Opcode::Pong, b"still there?".to_vec());
        let mut heard = peer.next();
        while heard
            .as_ref()
            .is_some_and(|(_, opcode, payload)| *opcode != Opcode::Pong && payload.len() < 100)
        {
            heard = peer.next();
        }
        assert_eq!(heard, Some(pong));
        peer.stream.reset();
        Expected::new()
    });
}
