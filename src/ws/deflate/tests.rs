//! A compressor's frames, read back by a plain connection's decoder and by zlib.

use flate2::{Decompress, FlushDecompress};

use super::*;
use crate::ws::decoder::Decoder;

const PARAMETERS: DeflateParameters = DeflateParameters {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

fn compressor(threshold_bytes: usize, parameters: &DeflateParameters) -> Compressor {
    Compressor::new(parameters, Role::Server, Compression { level: 6, threshold_bytes })
}

/// Frames as (RSV1, FIN, opcode, payload).
fn frames(mut bytes: &[u8]) -> Vec<(bool, bool, Opcode, Vec<u8>)> {
    let (mut decoder, mut all) = (Decoder::new(Role::Server), Vec::new());
    while let Some(&first) = bytes.first() {
        let plain = [&[first & !RSV1], &bytes[1..]].concat();
        let chunk = decoder.next(&plain).unwrap().expect("a whole frame");
        let end = chunk.header_bytes + chunk.payload_bytes;
        all.push((first & RSV1 != 0, chunk.fin, chunk.opcode, bytes[chunk.header_bytes..end].to_vec()));
        bytes = &bytes[end..];
    }
    all
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let ended = [payload, &TAIL].concat();
    Decompress::new(false).decompress_vec(&ended, &mut out, FlushDecompress::None).unwrap();
    out
}

#[test]
fn messages_below_the_threshold_go_as_they_are_however_they_come() {
    let (mut space, mut sender) = (DeflateSpace::default(), compressor(5, &PARAMETERS));
    sender.write(b"ab", true, false, &mut space, || None);
    sender.settle(true, &mut space, || None);
    assert!(space.frames.is_empty(), "nothing is decided yet");
    sender.write(b"cd", true, true, &mut space, || None);
    sender.write(b"", false, true, &mut space, || None);
    sender.write(b"ab", true, false, &mut space, || None);
    sender.write(b"cde", true, true, &mut space, || None);
    let sent = frames(&space.frames);
    assert_eq!(sent[0], (false, true, Opcode::Text, b"abcd".to_vec()));
    assert_eq!(sent[1], (false, true, Opcode::Binary, Vec::new()));
    let (rsv1, fin, opcode, payload) = &sent[2];
    assert_eq!((*rsv1, *fin, *opcode, inflated(payload)), (true, true, Opcode::Text, b"abcde".to_vec()));
    assert_eq!(sent.len(), 3);
}

#[test]
fn the_rfcs_hello_is_compressed_as_in_the_rfc() {
    let (mut space, mut sender) = (DeflateSpace::default(), compressor(0, &PARAMETERS));
    sender.write(b"Hello", true, true, &mut space, || None);
    assert_eq!(space.frames, *b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", "RFC 7692, 7.2.3.1");
    space.clear_frames();
    sender.write(b"Hello", true, true, &mut space, || None);
    assert_eq!(space.frames, *b"\xc1\x05\xf2\x00\x11\x00\x00", "RFC 7692, 7.2.3.2");
    for _ in 0..2 {
        space.clear_frames();
        sender.write(b"", true, true, &mut space, || None);
        assert_eq!(space.frames, *b"\xc1\x01\x00", "RFC 7692, 7.2.3.6");
    }
}

#[test]
fn rsv1_stands_on_the_first_frame_alone_and_fragments_are_bounded() {
    let (mut space, mut sender) = (DeflateSpace::default(), compressor(0, &PARAMETERS));
    let mut random = fastrand::Rng::with_seed(1);
    let message: Vec<u8> = (0..1_000_000).map(|_| random.u8(..)).collect();
    let pieces = message.chunks(10_000);
    let last = pieces.len() - 1;
    for (index, piece) in pieces.enumerate() {
        sender.write(piece, false, index == last, &mut space, || None);
    }
    let sent = frames(&space.frames);
    assert!(sent.len() > 5);
    let mut payload = Vec::new();
    for (index, (rsv1, fin, opcode, part)) in sent.iter().enumerate() {
        let expected = if index == 0 { Opcode::Binary } else { Opcode::Continuation };
        assert_eq!((*rsv1, *fin, *opcode), (index == 0, index == sent.len() - 1, expected));
        assert!(part.len() < 3 * FRAGMENT_BYTES, "{}", part.len());
        payload.extend_from_slice(part);
    }
    assert!(inflated(&payload) == message);
}

#[test]
fn without_context_takeover_states_go_from_connection_to_connection() {
    let alone = DeflateParameters { server_no_context_takeover: true, ..PARAMETERS };
    let mut space = DeflateSpace::default();
    let mut first_of = |sender: &mut Compressor| {
        space.clear_frames();
        sender.write(b"Hello", true, true, &mut space, || None);
        (space.frames.clone(), space.idle.len(), sender.state.is_some())
    };
    let narrow = DeflateParameters { server_max_window_bits: 9, ..alone };
    let (mut one, mut two, mut three) =
        (compressor(0, &alone), compressor(0, &alone), compressor(0, &narrow));
    let hello = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00".to_vec();
    for _ in 0..2 {
        assert_eq!(first_of(&mut one), (hello.clone(), 1, false));
        assert_eq!(first_of(&mut two), (hello.clone(), 1, false));
    }
    assert_eq!(first_of(&mut three), (hello, 2, false), "of another window");
}
