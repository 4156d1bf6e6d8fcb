//! What is received, from the RFC's examples and from our own compressor, in every piece; and what is refused.

use fastrand::Rng;

use super::*;
use crate::ws::deflate::{Compression, Compressor, DeflateSpace, INFLATED_BYTES};
use crate::ws::frame::close_code;
use crate::ws::mask::Mask;

const LIMIT: u64 = 1 << 20;

fn client() -> Deflating {
    Deflating::new(Role::Client, &DeflateParameters::default(), LIMIT, 0)
}

/// Messages (text or not, and their bytes) in a stream that comes in pieces.
fn receive(end: &mut Deflating, stream: &[u8], piece_bytes: usize) -> Result<Vec<(bool, Vec<u8>)>, Fault> {
    let (mut all, mut message) = (Vec::new(), Vec::new());
    let mut space = InflateSpace::default();
    for piece in stream.chunks(piece_bytes.max(1)) {
        let mut memory = piece.to_vec();
        let mut at = 0;
        while let Some(event) = end.next(&mut memory[at..])? {
            let start = at;
            at += event.consumed();
            let Event::Data(data) = event else { continue };
            let mut from = start + data.chunk.header_bytes;
            let payload = end.unmask(&data, &mut memory, from);
            loop {
                let piece = end.read(payload, &memory[from..at], &mut space)?;
                assert!(piece.bytes.len() <= INFLATED_BYTES.max(memory.len()));
                message.extend_from_slice(piece.bytes);
                from += piece.taken;
                if piece.is_last {
                    break;
                }
            }
            if payload.ends_message {
                all.push((payload.text, std::mem::take(&mut message)));
            }
        }
    }
    Ok(all)
}

#[test]
fn the_rfcs_examples_are_read() {
    let hello = (true, b"Hello".to_vec());
    for (section, stream, count) in [
        ("7.2.3.1", &b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..], 1),
        ("7.2.3.1, fragmented", b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", 1),
        ("7.2.3.2", b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00", 2),
        ("7.2.3.3", b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 1),
        ("7.2.3.4", b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 1),
        (
            "7.2.3.4, and on",
            b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00",
            2,
        ),
        ("7.2.3.5", b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 1),
        ("not compressed", b"\x81\x05Hello", 1),
    ] {
        for piece_bytes in 1..=stream.len() {
            let heard = receive(&mut client(), stream, piece_bytes);
            assert_eq!(heard, Ok(vec![hello.clone(); count]), "{section} in pieces of {piece_bytes}");
        }
    }
    assert_eq!(receive(&mut client(), b"\xc1\x01\x00", 1), Ok(vec![(true, Vec::new())]), "7.2.3.6");
}

#[test]
fn what_we_compress_comes_out_again_whatever_was_agreed() {
    let mut random = Rng::with_seed(7);
    for round in 0..120_u64 {
        let parameters = DeflateParameters {
            server_no_context_takeover: random.bool(),
            client_no_context_takeover: random.bool(),
            server_max_window_bits: random.u8(9..=15),
            client_max_window_bits: random.u8(9..=15),
        };
        let role = if round % 2 == 0 { Role::Server } else { Role::Client };
        let other = if round % 2 == 0 { Role::Client } else { Role::Server };
        let compression = Compression { level: random.u8(1..=9), threshold_bytes: random.usize(0..200) };
        let mut sender = Compressor::new(&parameters, role, compression);
        let mut end = Deflating::new(other, &parameters, LIMIT, 0);
        let (mut space, mut said) = (DeflateSpace::default(), Vec::new());
        for _ in 0..random.usize(1..12) {
            let length = random.choice([0, 1, 100, 1000, 70_000]).unwrap();
            let letters = random.usize(1..=26);
            let message: Vec<u8> = (0..length).map(|_| b'a' + random.usize(..letters) as u8).collect();
            let text = random.bool();
            let mut at = 0;
            loop {
                let to = if random.bool() { length } else { random.usize(at..=length) };
                let mut keys = random.fork();
                let key = || (role == Role::Client).then(|| Mask::from_bytes(keys.u32(..).to_ne_bytes()));
                sender.write(&message[at..to], text, to == length, &mut space, key);
                at = to;
                if at == length {
                    break;
                }
                sender.settle(text, &mut space, || (role == Role::Client).then(|| Mask::from_bytes([1; 4])));
            }
            said.push((text, message));
        }
        let piece_bytes = random.usize(1..5000);
        let heard = receive(&mut end, &space.frames, piece_bytes);
        assert!(heard.as_ref() == Ok(&said), "round {round}: {parameters:?}, {compression:?}");
    }
}

/// A compressed message of `count` zeros.
fn zeros(count: usize) -> Vec<u8> {
    let compression = Compression { level: 9, threshold_bytes: 0 };
    let mut sender = Compressor::new(&DeflateParameters::default(), Role::Server, compression);
    let mut space = DeflateSpace::default();
    let piece = vec![0; count.min(1 << 20)];
    let pieces = count / piece.len();
    for index in 1..=pieces {
        sender.write(&piece, false, index == pieces, &mut space, || None);
    }
    space.frames
}

#[test]
fn a_bomb_is_refused_at_the_limit_and_never_in_memory_as_a_whole() {
    let (fits, bomb) = (zeros(LIMIT as usize), zeros(200 * LIMIT as usize));
    assert!(bomb.len() < LIMIT as usize / 4, "{}", bomb.len());
    for piece_bytes in [1000, bomb.len()] {
        assert_eq!(receive(&mut client(), &fits, piece_bytes).map(|heard| heard.len()), Ok(1));
        let refused = receive(&mut client(), &bomb, piece_bytes);
        assert_eq!(refused, Err(Fault::MessageTooBig));
        assert_eq!(Fault::MessageTooBig.close_code(), close_code::TOO_BIG);
    }
}

#[test]
fn frames_that_inflate_to_nothing_come_to_an_end() {
    let nothing = [b"\x02\x7d", &[0, 0, 0, 0xFF, 0xFF].repeat(25)[..]].concat();
    let first = [&[0x42], &nothing[1..]].concat();
    let further = [&[0x00], &nothing[1..]].concat();
    let mut end = client();
    assert_eq!(receive(&mut end, &first, 1000), Ok(Vec::new()));
    let mut rounds = 0;
    let fault = loop {
        match receive(&mut end, &further, 1000) {
            Ok(_) => rounds += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault, Fault::MessageTooBig);
    assert!(rounds < 2 * LIMIT as usize / 125, "{rounds}");
}

#[test]
fn rsv1_is_refused_where_it_may_not_stand_and_the_other_bits_everywhere() {
    let hello = b"\x41\x03\xf2\x48\xcd";
    for (label, stream) in [
        ("a continuation", [&hello[..], b"\xc0\x04\xc9\xc9\x07\x00"].concat()),
        ("a ping", b"\xc9\x00".to_vec()),
        ("a ping inside", [&hello[..], b"\xc9\x00"].concat()),
        ("a close", b"\xc8\x02\x03\xe8".to_vec()),
        ("RSV2", b"\xa1\x00".to_vec()),
        ("RSV1 and RSV3", b"\xd1\x00".to_vec()),
        ("a reserved opcode", b"\xc3\x00".to_vec()),
    ] {
        for piece_bytes in [1, stream.len()] {
            assert_eq!(receive(&mut client(), &stream, piece_bytes), Err(Fault::ReservedBits), "{label}");
        }
    }
    assert_eq!(
        receive(&mut client(), &[&hello[..], b"\xc1\x00"].concat(), 1),
        Err(Fault::MessageInterrupted)
    );
}

#[test]
fn what_is_no_deflate_and_text_that_is_no_text_is_refused_with_1007() {
    for (stream, fault) in [
        (&b"\xc2\x01\xff"[..], Fault::NotDeflate),
        (b"\xc2\x05\x07\x00\x00\x00\x00", Fault::NotDeflate),
        // Refers to what is before the window's beginning.
        (b"\xc2\x05\xf2\x00\x11\x00\x00", Fault::NotDeflate),
        (b"\xc1\x06\x00\x01\x00\xfe\xff\xff", Fault::InvalidUtf8),
        // Ends inside a character.
        (b"\xc1\x08\x00\x02\x00\xfd\xff\xe2\x82\x00", Fault::InvalidUtf8),
    ] {
        for piece_bytes in [1, stream.len()] {
            assert_eq!(receive(&mut client(), stream, piece_bytes), Err(fault), "{stream:x?}");
        }
        assert_eq!(fault.close_code(), close_code::INVALID_PAYLOAD);
    }
}

#[test]
fn a_message_that_ends_within_a_block_is_refused_and_its_tail_is_never_payload() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let stored =
        |length: u16| [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), b"abcdef"].concat();
    let cases = [
        ("a block that the tail would fill", stored(10)),
        ("one that it would fill in part", stored(20)),
        ("one that it would be more than enough for", stored(8)),
        ("the end of a block, and no beginning of another", stored(6)),
        ("nothing at all", Vec::new()),
        ("a last block, and no beginning of another", b"\xf3\x48\xcd\xc9\xc9\x07\x00".to_vec()),
        ("half of the codes of a block", b"\x04\xc0\x81".to_vec()),
        ("half a literal", hello[..4].to_vec()),
        ("the tail left in", [&hello[..], b"\x00\x00\xff\xff"].concat()),
        ("lengths in part", [&hello[..], b"\x00"].concat()),
    ];
    for takeover in [true, false] {
        let parameters = DeflateParameters { server_no_context_takeover: !takeover, ..Default::default() };
        for (label, payload) in &cases {
            let wrong = [&[0xC2, payload.len() as u8][..], payload].concat();
            for piece_bytes in [1, 2, 100] {
                let mut end = Deflating::new(Role::Client, &parameters, LIMIT, 0);
                let heard = receive(&mut end, &wrong, piece_bytes);
                assert_eq!(heard, Err(Fault::NotDeflate), "{label}, in pieces of {piece_bytes}");
            }
        }
        let sound = [&stored(6)[..], b"\x00"].concat();
        let stream = [&[0xC2, sound.len() as u8][..], &sound, &[0xC2, 7], hello].concat();
        let heard = receive(&mut Deflating::new(Role::Client, &parameters, LIMIT, 0), &stream, 3);
        assert_eq!(heard, Ok(vec![(false, b"abcdef".to_vec()), (false, b"Hello".to_vec())]));
    }
}

#[test]
fn a_message_is_seen_with_what_it_came_to_however_it_came() {
    let seen = |compressed, payload_bytes, wire_bytes| Seen { compressed, payload_bytes, wire_bytes };
    for (stream, expected) in [
        (&b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..], seen(true, 5, 7)),
        // In two fragments, with a ping between.
        (b"\x41\x03\xf2\x48\xcd\x89\x00\x80\x04\xc9\xc9\x07\x00", seen(true, 5, 7)),
        (b"\x81\x05Hello", seen(false, 5, 5)),
        (b"\x01\x02He\x80\x03llo", seen(false, 5, 5)),
        (b"\x81\x00", seen(false, 0, 0)),
        // Of two messages it is the last.
        (b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x81\x02Hi", seen(false, 2, 2)),
    ] {
        for piece_bytes in 1..=stream.len() {
            let mut end = client();
            receive(&mut end, stream, piece_bytes).unwrap();
            assert_eq!(end.seen(), expected, "{stream:x?} in pieces of {piece_bytes}");
        }
    }
}
