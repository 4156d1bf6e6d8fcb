//! What holds of a connection that compresses, for any bytes at all: as a stream of frames the splits change nothing and no
//! more comes out than the limit allows; as a message it survives; as the payload of a message it is refused, or inflates to what
//! it holds and no more, and leaves the connection fit for the next message. Used by the fuzz target and by `tests/fuzz.rs`.
//!
//! The last two bytes of the input choose roles, parameters, the limit and the pieces.

use flate2::{Decompress, FlushDecompress, Status};
use ringsock::ws::connection::Event;
use ringsock::ws::deflate::{Compression, Compressor, DeflateSpace, INFLATED_BYTES, InflateSpace};
use ringsock::ws::deflating::Deflating;
use ringsock::ws::extensions::DeflateParameters;
use ringsock::ws::frame::{Fault, Header, MAX_HEADER_BYTES, Opcode, RSV1, Role};
use ringsock::ws::mask::{self, Mask};

const KEY: Mask = Mask::from_bytes([1, 2, 3, 4]);

/// Panics when `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let Some((bytes, &[how, cut])) = data.split_last_chunk::<2>() else { return };
    let role = if how & 1 == 0 { Role::Server } else { Role::Client };
    let parameters = DeflateParameters {
        server_no_context_takeover: how & 2 != 0,
        client_no_context_takeover: how & 4 != 0,
        server_max_window_bits: 9 + (how >> 3) % 7,
        client_max_window_bits: 9 + (how >> 4) % 7,
    };
    let limit = [50, 1000, 100_000, u64::MAX][usize::from(how >> 6)];
    let piece_bytes = 1 + usize::from(cut);
    let whole = receive(role, &parameters, limit, bytes, bytes.len());
    assert_eq!(receive(role, &parameters, limit, bytes, piece_bytes), whole, "in pieces of {piece_bytes}");
    assert_eq!(receive(role, &parameters, limit, bytes, 1), whole, "byte by byte");
    survives(role, &parameters, bytes, piece_bytes);
    leaves_what_follows_alone(role, &parameters, bytes, piece_bytes);
}

/// A message with this payload is refused, or it and the next are heard as they are.
fn leaves_what_follows_alone(role: Role, parameters: &DeflateParameters, payload: &[u8], piece_bytes: usize) {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let stream = [compressed(role, payload), compressed(role, hello)].concat();
    let heard = receive(role, parameters, u64::MAX, &stream, piece_bytes);
    match heard {
        (all, None) => assert_eq!(all, [(false, inflated(payload)), (false, b"Hello".to_vec())]),
        (all, Some(fault)) => assert!(all.is_empty() && fault == Fault::NotDeflate, "{all:?}, {fault}"),
    }
}

/// A frame for the end `role`, that is a compressed binary message with this payload.
fn compressed(role: Role, payload: &[u8]) -> Vec<u8> {
    let key = (role == Role::Server).then_some(KEY);
    let header = Header { fin: true, opcode: Opcode::Binary, mask: key, payload_bytes: payload.len() as u64 };
    let mut encoded = [0; MAX_HEADER_BYTES];
    let header_bytes = header.encode(&mut encoded);
    encoded[0] |= RSV1;
    let mut frame = [&encoded[..header_bytes], payload].concat();
    if let Some(key) = key {
        mask::unmask(key, &mut frame[header_bytes..]);
    }
    frame
}

/// What a payload inflates to by itself, with nothing appended.
fn inflated(mut payload: &[u8]) -> Vec<u8> {
    let (mut state, mut all) = (Decompress::new(false), Vec::new());
    let mut room = [0; 1 << 15];
    loop {
        let (taken_before, made_before) = (state.total_in(), state.total_out());
        let status = state.decompress(payload, &mut room, FlushDecompress::None).expect("it was accepted");
        payload = &payload[(state.total_in() - taken_before) as usize..];
        let made = (state.total_out() - made_before) as usize;
        all.extend_from_slice(&room[..made]);
        if status == Status::StreamEnd {
            state.reset(false);
        } else if payload.is_empty() && made < room.len() {
            return all;
        }
    }
}

type Received = (Vec<(bool, Vec<u8>)>, Option<Fault>);

/// The messages that end in a stream, and the fault that ends it.
fn receive(
    role: Role,
    parameters: &DeflateParameters,
    limit: u64,
    stream: &[u8],
    piece_bytes: usize,
) -> Received {
    let mut end = Deflating::new(role, parameters, limit, 0);
    let (mut space, mut message, mut all) = (InflateSpace::default(), Vec::new(), Vec::new());
    for piece in stream.chunks(piece_bytes.max(1)) {
        if let Err(fault) = take(&mut end, &mut piece.to_vec(), &mut space, limit, &mut message, &mut all) {
            return (all, Some(fault));
        }
    }
    (all, None)
}

fn take(
    end: &mut Deflating,
    memory: &mut [u8],
    space: &mut InflateSpace,
    limit: u64,
    message: &mut Vec<u8>,
    all: &mut Vec<(bool, Vec<u8>)>,
) -> Result<(), Fault> {
    let mut at = 0;
    while let Some(event) = end.next(&mut memory[at..])? {
        let mut from = at;
        at += event.consumed();
        let data = match event {
            Event::Data(data) => data,
            Event::Close { .. } => {
                end.connection().reply_to_close(KEY);
                continue;
            }
            _ => continue,
        };
        from += data.chunk.header_bytes;
        let payload = end.unmask(&data, memory, from);
        loop {
            let piece = end.read(payload, &memory[from..at], space)?;
            assert!(piece.bytes.len() <= INFLATED_BYTES.max(at - from), "more than there is room for");
            message.extend_from_slice(piece.bytes);
            assert!(message.len() as u64 <= limit, "more than the limit");
            from += piece.taken;
            if piece.is_last {
                assert_eq!(from, at, "a payload is taken whole");
                break;
            }
        }
        if payload.ends_message {
            all.push((payload.text, std::mem::take(message)));
        }
    }
    Ok(())
}

/// What one end says is what the other hears.
fn survives(role: Role, parameters: &DeflateParameters, bytes: &[u8], piece_bytes: usize) {
    let other = if role == Role::Server { Role::Client } else { Role::Server };
    let compression = Compression { level: 1 + (piece_bytes % 9) as u8, threshold_bytes: piece_bytes / 2 };
    let mut sender = Compressor::new(parameters, role, compression);
    let mut space = DeflateSpace::default();
    let key = || (role == Role::Client).then_some(KEY);
    let pieces: Vec<&[u8]> = bytes.chunks(piece_bytes).collect();
    for _ in 0..2 {
        for piece in &pieces {
            sender.write(piece, false, false, &mut space, key);
            sender.settle(false, &mut space, key);
        }
        sender.write(&[], false, true, &mut space, key);
    }
    let message = (false, bytes.to_vec());
    let heard = receive(other, parameters, u64::MAX, &space.frames, piece_bytes);
    assert_eq!(heard, (vec![message.clone(), message], None));
}
