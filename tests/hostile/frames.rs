//! Frames that break the protocol, each named by its close code; frames that dribble in; and what comes behind a Close.

use std::io::Write;
use std::time::Duration;

use ringsock::ws::frame::Opcode;

use crate::bed::{EVERY_WAY, Expected, Way, hold};
use crate::openings::expected;
use crate::peer::{fragment, frame};
use crate::wire::{expect_close, frame_beginning};

/// A header of a binary frame, its length in eight bytes, and a masking key.
fn announcing(payload_bytes: u64) -> Vec<u8> {
    [&[0x82, 0xFF][..], &payload_bytes.to_be_bytes(), &[1, 2, 3, 4]].concat()
}

/// What is wrong, how it is said, and what it is closed with.
fn breaches(way: Way) -> Vec<(&'static str, Vec<u8>, u16)> {
    let close = |payload: &[u8]| frame(Opcode::Close, payload);
    let mut unmasked = vec![0x82, 5];
    unmasked.extend_from_slice(b"naked");
    let mut all = vec![
        ("not masked", unmasked, 1002),
        ("not masked and empty", vec![0x81, 0], 1002),
        ("RSV2", frame_beginning(0xA2, b"x"), 1002),
        ("RSV3", frame_beginning(0x92, b"x"), 1002),
        ("RSV1 of a ping", frame_beginning(0xC9, b"x"), 1002),
        ("opcode 3", frame_beginning(0x83, b"x"), 1002),
        ("opcode 7", frame_beginning(0x87, b"x"), 1002),
        ("opcode 11", frame_beginning(0x8B, b"x"), 1002),
        ("opcode 15", frame_beginning(0x8F, b"x"), 1002),
        ("a ping of 126", frame_beginning(0x89, &[1; 126]), 1002),
        ("a close of 70,000", frame_beginning(0x88, &vec![1; 70_000]), 1002),
        ("a ping of 2^62", [&[0x89][..], &announcing(1 << 62)[1..]].concat(), 1002),
        ("a fragmented ping", frame_beginning(0x09, b"x"), 1002),
        ("2^63", announcing(1 << 63), 1002),
        ("2^63 and a little", announcing((1 << 63) + 7), 1002),
        ("2^64 - 1", announcing(u64::MAX), 1002),
        ("2^63 - 1", announcing(i64::MAX as u64), 1009),
        ("2^32 and a little", announcing((1 << 32) + 1), 1009),
        ("one byte over the limit", announcing((1 << 20) + 1), 1009),
        ("5 in two bytes", [&[0x82, 0xFE, 0, 5, 1, 2, 3, 4][..], b"hello"].concat(), 1002),
        ("125 in eight bytes", announcing(125), 1002),
        ("65,535 in eight bytes", announcing(65_535), 1002),
        ("nothing to continue", frame_beginning(0x80, b"x"), 1002),
        (
            "a message in another",
            [fragment(Opcode::Text, false, b"a"), frame(Opcode::Binary, b"b")].concat(),
            1002,
        ),
        ("text that is none", frame(Opcode::Text, b"\xC0\x80"), 1007),
        ("a surrogate", frame(Opcode::Text, b"\xED\xA0\x80"), 1007),
        ("half a character", frame(Opcode::Text, "🦀".as_bytes().split_at(2).0), 1007),
        (
            "half a character in fragments",
            [fragment(Opcode::Text, false, b"\xF0\x9F"), fragment(Opcode::Continuation, true, b"")].concat(),
            1007,
        ),
        ("half a close code", close(b"\x03"), 1002),
        ("close code 0", close(&[0, 0]), 1002),
        ("close code 999", close(&999_u16.to_be_bytes()), 1002),
        ("close code 1005", close(&1005_u16.to_be_bytes()), 1002),
        ("close code 1006", close(&1006_u16.to_be_bytes()), 1002),
        ("close code 65,535", close(&u16::MAX.to_be_bytes()), 1002),
        ("a close reason that is no text", close(b"\x03\xE8fine \xE2\x82"), 1007),
    ];
    if way != Way::Deflate {
        all.push(("RSV1", frame_beginning(0xC2, b"x"), 1002));
    }
    all
}

#[test]
fn breaches_of_the_protocol_end_their_own_connection_by_the_right_code() {
    hold(EVERY_WAY, &[], |bed| {
        let breaches = breaches(bed.way);
        for (label, wrong, code) in &breaches {
            let mut peer = bed.open();
            // What follows looks like frames, and is not heard.
            let behind = frame(Opcode::Binary, &[7; 100]).repeat(50);
            peer.echo(Opcode::Binary, b"good");
            peer.stream.write_all(&[&wrong[..], &behind].concat()).unwrap();
            expect_close(&mut peer, *code, label);
        }
        expected(&[("faults", breaches.len())])
    });
}

#[test]
fn frames_of_noise_are_failed_sooner_or_later() {
    const COUNT: usize = 40;
    hold(EVERY_WAY, &[], |bed| {
        let mut random = fastrand::Rng::with_seed(66);
        for _ in 0..COUNT {
            let mut peer = bed.open();
            // Unmasked bytes of a mask that nobody knows: a header is wrong in one of the first frames.
            let noise: Vec<u8> = (0..100_000).map(|_| random.u8(..)).collect();
            // It may have been failed before the last of it is written.
            let _ = peer.stream.write_all(&[&frame_beginning(0x83, b"")[..], &noise].concat());
            expect_close(&mut peer, 1002, "noise");
        }
        expected(&[("faults", COUNT)])
    });
}

#[test]
fn frames_that_dribble_in_are_answered_and_hold_nobody_up() {
    const COUNT: usize = 30;
    hold(EVERY_WAY, &[], |bed| {
        let mut slow: Vec<_> = (0..COUNT).map(|_| bed.open()).collect();
        let said = [
            fragment(Opcode::Text, false, "ä".as_bytes()),
            frame(Opcode::Ping, b"?"),
            fragment(Opcode::Continuation, true, "🦀 slowly".as_bytes()),
            frame(Opcode::Binary, b"the next"),
        ]
        .concat();
        for byte in said {
            slow.iter_mut().for_each(|peer| peer.stream.write_all(&[byte]).unwrap());
            std::thread::sleep(Duration::from_millis(2));
        }
        for peer in &mut slow {
            let (mut text, mut last) = (Vec::new(), false);
            while !last {
                let (fin, opcode, payload) = peer.next().expect("a frame, not the end");
                match opcode {
                    Opcode::Pong => assert_eq!(payload, b"?"),
                    _ => {
                        text.extend_from_slice(&payload);
                        last = fin;
                    }
                }
            }
            assert_eq!(text, "ä🦀 slowly".as_bytes());
            loop {
                let (fin, _, payload) = peer.next().expect("a frame, not the end");
                text.extend_from_slice(&payload);
                if fin {
                    break;
                }
            }
            assert!(text.ends_with(b"the next"), "{}", String::from_utf8_lossy(&text));
        }
        Expected::new()
    });
}

#[test]
fn what_follows_a_close_is_not_answered() {
    const COUNT: usize = 20;
    hold(EVERY_WAY, &[], |bed| {
        for index in 0..COUNT {
            let mut peer = bed.open();
            let close = frame(Opcode::Close, &1000_u16.to_be_bytes());
            let behind = match index % 3 {
                0 => frame(Opcode::Binary, &[1; 1000]).repeat(30),
                1 => close.clone(),
                _ => vec![0xFF; 5000],
            };
            peer.stream.write_all(&[close, behind].concat()).unwrap();
            let closed = (true, Opcode::Close, 1000_u16.to_be_bytes().to_vec());
            assert_eq!(peer.next(), Some(closed));
            assert_eq!(peer.stream.read_all(), b"", "nothing behind the Close");
        }
        Expected::new()
    });
}

#[test]
fn peers_that_never_answer_a_close_are_given_up_in_time() {
    const COUNT: usize = 50;
    hold(EVERY_WAY, &["--close-timeout", "500ms"], |bed| {
        let mut staying: Vec<_> = (0..COUNT).map(|_| bed.open()).collect();
        for peer in &mut staying {
            peer.stream.write_all(&frame_beginning(0x83, b"x")).unwrap();
        }
        bed.settled();
        drop(staying);
        expected(&[("faults", COUNT), ("timeouts", COUNT)])
    });
}
