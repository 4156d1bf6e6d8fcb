//! What a stream of frames means, worked out the slow and obvious way, and the same asked of ringsock.
//!
//! The oracle ([`expected`]) is given the whole stream at once and shares no code with the crate but the names
//! of opcodes and faults. What it finds must be what [`Connection`] reports however the stream is cut, and
//! what an echo server answers must be, read by the oracle again, each message once and a pong for each ping.
//!
//! It deliberately holds whole messages, and knows nothing of time or of closing first: that is the part of
//! `tests/closing.rs`.

use std::ops::Range;

use ringsock::limits::HEADROOM_BYTES;
use ringsock::ws::connection::{Connection, Event};
use ringsock::ws::frame::{ControlFrame, Fault, Role};
use ringsock::ws::in_place::InPlace;
use ringsock::ws::mask::Mask;

const KEY: Mask = Mask::from_bytes([0x11, 0x22, 0x33, 0x44]);

/// One thing that a peer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Message {
        text: bool,
        payload: Vec<u8>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    Fault(Fault),
    /// What the stream's end left of a message, where it is not empty.
    Unfinished {
        text: bool,
        payload: Vec<u8>,
    },
}

/// A data frame that came whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DataFrame {
    fin: bool,
    opcode: u8,
    text: bool,
    payload: Vec<u8>,
}

/// What a stream says, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) said: Vec<Said>,
    data_frames: Vec<DataFrame>,
}

// ---------------------------------------------------------------------------------------------------------
// The oracle
// ---------------------------------------------------------------------------------------------------------

/// A frame as it stands at the start of some bytes; `payload` is what they hold of it, unmasked.
struct Frame {
    fin: bool,
    opcode: u8,
    payload: Vec<u8>,
    payload_bytes: u64,
    wire_bytes: usize,
}

impl Frame {
    fn is_whole(&self) -> bool {
        self.payload.len() as u64 == self.payload_bytes
    }
}

/// RFC 6455, 5.2, in the order of the bits on the wire; `None` where the header is not whole.
fn read_frame(bytes: &[u8], sender: Role) -> Result<Option<Frame>, Fault> {
    if bytes.len() < 2 {
        return Ok(None);
    }
    let (fin, reserved, opcode) = (bytes[0] >> 7 == 1, bytes[0] >> 4 & 7, bytes[0] & 15);
    let (masked, short_length) = (bytes[1] >> 7 == 1, bytes[1] & 127);
    if reserved != 0 {
        return Err(Fault::ReservedBits);
    }
    if ![0, 1, 2, 8, 9, 10].contains(&opcode) {
        return Err(Fault::ReservedOpcode(opcode));
    }
    if opcode >= 8 && !fin {
        return Err(Fault::ControlFragmented);
    }
    if opcode >= 8 && short_length > 125 {
        return Err(Fault::ControlTooLong);
    }
    if masked != (sender == Role::Client) {
        return Err(if masked { Fault::Masked } else { Fault::NotMasked });
    }
    let length_bytes = [0, 2, 8][usize::from(short_length.max(125) - 125)];
    if bytes.len() < 2 + length_bytes {
        return Ok(None);
    }
    let extended = bytes[2..2 + length_bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    let payload_bytes = if length_bytes == 0 { u64::from(short_length) } else { extended };
    if payload_bytes >= 1 << 63 {
        return Err(Fault::LengthTooLarge);
    }
    if (length_bytes == 2 && payload_bytes < 126) || (length_bytes == 8 && payload_bytes < 1 << 16) {
        return Err(Fault::LengthNotMinimal);
    }
    let payload_at = 2 + length_bytes + if masked { 4 } else { 0 };
    if bytes.len() < payload_at {
        return Ok(None);
    }
    let key: [u8; 4] = if masked { bytes[payload_at - 4..payload_at].try_into().unwrap() } else { [0; 4] };
    let payload: Vec<u8> = bytes[payload_at..]
        .iter()
        .take(usize::try_from(payload_bytes).unwrap())
        .enumerate()
        .map(|(index, byte)| byte ^ key[index % 4])
        .collect();
    let wire_bytes = payload_at + payload.len();
    Ok(Some(Frame { fin, opcode, payload, payload_bytes, wire_bytes }))
}

/// A message under way.
#[derive(Default)]
struct Assembly {
    text: bool,
    payload: Vec<u8>,
    /// Of its frames so far, the part that has yet to come included.
    declared_bytes: u64,
}

/// All that `stream`, sent by `sender`, says to one who takes messages of up to `message_bytes_max`.
pub(crate) fn expected(stream: &[u8], sender: Role, message_bytes_max: u64) -> Heard {
    let mut heard = Heard::default();
    if let Err(fault) = listen(stream, sender, message_bytes_max, &mut heard) {
        heard.said.push(Said::Fault(fault));
    }
    heard
}

fn listen(mut rest: &[u8], sender: Role, message_bytes_max: u64, heard: &mut Heard) -> Result<(), Fault> {
    let mut assembly: Option<Assembly> = None;
    while let Some(frame) = read_frame(rest, sender)? {
        rest = &rest[frame.wire_bytes..];
        if frame.opcode >= 8 {
            if !frame.is_whole() {
                break;
            }
            heard.said.push(judge_control(frame)?);
            if let Some(Said::Close(..)) = heard.said.last() {
                return Ok(());
            }
            continue;
        }
        // A header alone says nothing yet.
        if !frame.is_whole() && frame.payload.is_empty() {
            break;
        }
        let mut message = match (frame.opcode, assembly.take()) {
            (0, None) => return Err(Fault::NothingToContinue),
            (0, Some(message)) => message,
            (_, Some(_)) => return Err(Fault::MessageInterrupted),
            (opcode, None) => Assembly { text: opcode == 1, ..Assembly::default() },
        };
        message.declared_bytes = message.declared_bytes.saturating_add(frame.payload_bytes);
        if message.declared_bytes > message_bytes_max {
            return Err(Fault::MessageTooBig);
        }
        message.payload.extend_from_slice(&frame.payload);
        let ends = frame.fin && frame.is_whole();
        if message.text && !is_utf8(&message.payload, ends) {
            return Err(Fault::InvalidUtf8);
        }
        if frame.is_whole() {
            let Frame { fin, opcode, payload, .. } = frame;
            heard.data_frames.push(DataFrame { fin, opcode, text: message.text, payload });
        }
        if ends {
            heard.said.push(Said::Message { text: message.text, payload: message.payload });
        } else {
            assembly = Some(message);
        }
    }
    if let Some(Assembly { text, payload, .. }) = assembly.filter(|message| !message.payload.is_empty()) {
        heard.said.push(Said::Unfinished { text, payload });
    }
    Ok(())
}

/// Whether `bytes` are text or, before the end, may yet become it.
fn is_utf8(bytes: &[u8], ended: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !ended && error.error_len().is_none(),
    }
}

fn judge_control(frame: Frame) -> Result<Said, Fault> {
    Ok(match (frame.opcode, &frame.payload[..]) {
        (9, _) => Said::Ping(frame.payload),
        (10, _) => Said::Pong(frame.payload),
        (_, []) => Said::Close(None, Vec::new()),
        (_, [_]) => return Err(Fault::CloseTruncated),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from(*high) * 256 + u16::from(*low);
            // RFC 6455, 7.4, and the codes that IANA has assigned since.
            let travels = (1000..=1014).contains(&code) && ![1004, 1005, 1006].contains(&code);
            if !travels && !(3000..5000).contains(&code) {
                return Err(Fault::CloseCode(code));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(Fault::InvalidUtf8);
            }
            Said::Close(Some(code), frame.payload)
        }
    })
}

// ---------------------------------------------------------------------------------------------------------
// The same, asked of the crate
// ---------------------------------------------------------------------------------------------------------

/// `stream` in pieces that end at each of `cuts`, which must ascend and lie within it.
fn pieces<'s>(stream: &'s [u8], cuts: &'s [usize]) -> impl Iterator<Item = &'s [u8]> {
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([stream.len()]);
    starts.zip(ends).map(|(start, end)| &stream[start..end])
}

fn receiver_of(sender: Role, message_bytes_max: u64) -> Connection {
    let own = if sender == Role::Client { Role::Server } else { Role::Client };
    Connection::new(own, message_bytes_max, 0)
}

/// What [`Connection`] makes of `stream`. Nothing may come of the bytes behind a fault or a Close.
fn heard(stream: &[u8], sender: Role, message_bytes_max: u64, cuts: &[usize]) -> Vec<Said> {
    let mut connection = receiver_of(sender, message_bytes_max);
    let (mut said, mut message) = (Vec::new(), (false, Vec::new()));
    for piece in pieces(stream, cuts) {
        let ended = connection.is_closed();
        let said_before = said.len();
        if let Err(fault) = hear_piece(&mut connection, piece, &mut said, &mut message) {
            said.push(Said::Fault(fault));
            assert!(connection.fail(fault, 0, KEY).is_some(), "the fault is answered");
        }
        assert!(!ended || said.len() == said_before, "looked at bytes behind the end");
    }
    if !connection.is_closed() && !message.1.is_empty() {
        said.push(Said::Unfinished { text: message.0, payload: message.1 });
    }
    said
}

fn hear_piece(
    connection: &mut Connection,
    piece: &[u8],
    said: &mut Vec<Said>,
    message: &mut (bool, Vec<u8>),
) -> Result<(), Fault> {
    let mut memory = piece.to_vec();
    let mut at = 0;
    while let Some(event) = connection.next(&memory[at..])? {
        let start = at;
        at += event.consumed();
        match event {
            Event::Data(data) => {
                let from = start + data.chunk.header_bytes;
                if data.begins_message() {
                    assert!(message.1.is_empty(), "a message begins inside another");
                }
                connection.accept(&data, &mut memory, from, start)?;
                message.0 = data.text;
                message.1.extend_from_slice(&memory[start..start + data.chunk.payload_bytes]);
                if data.ends_message() {
                    said.push(Said::Message { text: data.text, payload: std::mem::take(&mut message.1) });
                }
            }
            Event::Ping { .. } => said.push(Said::Ping(connection.control_payload().to_vec())),
            Event::Pong { .. } => said.push(Said::Pong(connection.control_payload().to_vec())),
            Event::Close { code, .. } => {
                said.push(Said::Close(code, connection.control_payload().to_vec()));
                assert!(connection.reply_to_close(KEY).is_some(), "the Close is answered");
            }
        }
    }
    Ok(())
}

/// What an echo server sends back.
#[derive(Default)]
struct Echoed {
    /// All of it.
    bytes: Vec<u8>,
    /// Replies that were composed in place.
    reply_count: usize,
    /// Control frames that did not fit in place.
    apart_count: usize,
}

/// Fills what no reply may touch.
const GUARD: u8 = 0xA5;

/// A part of what is sent for one piece: where it stands in the piece's memory, or a frame apart.
enum Part {
    InPlace(Range<usize>),
    Apart(Vec<u8>),
}

/// Which way short messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The same as all others.
    General,
    /// As the server has them.
    Short,
}

/// Echoes `stream` in the memory that it arrives in, and watches the memory.
fn echoed(stream: &[u8], message_bytes_max: u64, cuts: &[usize], way: Way) -> Echoed {
    let mut connection = receiver_of(Role::Client, message_bytes_max);
    let mut echoed = Echoed::default();
    for piece in pieces(stream, cuts) {
        let end = HEADROOM_BYTES + piece.len();
        let mut memory = [&[GUARD; HEADROOM_BYTES][..], piece, &[GUARD; 64]].concat();
        let mut parts = Vec::new();
        let mut in_place = InPlace::new(&mut memory, HEADROOM_BYTES..end);
        if let Err(fault) = echo_piece(&mut connection, &mut in_place, piece, &mut parts, way) {
            let frame = connection.fail(fault, 0, KEY);
            send(&mut in_place, frame, &mut parts);
        }
        parts.push(Part::InPlace(in_place.take_reply()));
        assert_eq!(memory[end..], [GUARD; 64], "wrote beyond what was received");
        let mut floor = 0;
        for part in parts {
            match part {
                Part::InPlace(range) if range.is_empty() => {}
                Part::InPlace(range) => {
                    assert!(floor <= range.start && range.end <= end, "a reply in the place of another");
                    floor = range.end;
                    echoed.reply_count += 1;
                    echoed.bytes.extend_from_slice(&memory[range]);
                }
                Part::Apart(frame) => {
                    echoed.apart_count += 1;
                    echoed.bytes.extend(frame);
                }
            }
        }
    }
    echoed
}

fn echo_piece(
    connection: &mut Connection,
    in_place: &mut InPlace<'_>,
    piece: &[u8],
    parts: &mut Vec<Part>,
    way: Way,
) -> Result<(), Fault> {
    loop {
        if way == Way::Short {
            in_place.echo_short_messages(connection)?;
        }
        let Some(event) = in_place.next(connection)? else { return Ok(()) };
        match event {
            Event::Data(data) => in_place.echo(connection, &data)?,
            Event::Ping { .. } => send(in_place, connection.pong(KEY), parts),
            Event::Pong { .. } => {}
            Event::Close { .. } => send(in_place, connection.reply_to_close(KEY), parts),
        }
        let unread = in_place.unread();
        assert!(piece.ends_with(unread), "a reply was written over bytes that are yet to be read");
    }
}

fn send(in_place: &mut InPlace<'_>, frame: Option<ControlFrame>, parts: &mut Vec<Part>) {
    let Some(frame) = frame else { return };
    if !in_place.append(&frame) {
        parts.push(Part::InPlace(in_place.take_reply()));
        parts.push(Part::Apart(frame.as_bytes().to_vec()));
    }
}

// ---------------------------------------------------------------------------------------------------------
// The comparison
// ---------------------------------------------------------------------------------------------------------

/// Panics unless the crate, given `stream` cut at `cuts`, hears what the oracle did, and echoes that, where
/// it is the server.
pub(crate) fn agree(expected: &Heard, stream: &[u8], sender: Role, message_bytes_max: u64, cuts: &[usize]) {
    let heard = heard(stream, sender, message_bytes_max, cuts);
    assert!(heard == expected.said, "cut at {cuts:?}: heard {heard:#?}, expected {:#?}", expected.said);
    if sender == Role::Client {
        let general = echoed(stream, message_bytes_max, cuts, Way::General);
        let short = echoed(stream, message_bytes_max, cuts, Way::Short);
        assert!(general.bytes == short.bytes, "cut at {cuts:?}: short messages go two ways");
        echo_agrees(expected, &short, cuts);
    }
}

/// The answer is read with no limit on messages: they were taken, so they may be sent.
fn echo_agrees(asked: &Heard, echoed: &Echoed, cuts: &[usize]) {
    let got = expected(&echoed.bytes, Role::Server, u64::MAX);
    let due: Vec<Said> = asked.said.iter().filter_map(answer_to).collect();
    assert!(got.said == due, "cut at {cuts:?}: echoed {:#?}, expected {due:#?}", got.said);
    assert_eq!(binary_frames(&got), binary_frames(asked), "cut at {cuts:?}: binary frames");
    if cuts.is_empty() {
        assert!(got.data_frames.starts_with(&asked.data_frames), "frames that came in one piece");
        let failed = matches!(asked.said.last(), Some(Said::Fault(_)));
        assert!(echoed.reply_count <= 1, "one piece, {} replies", echoed.reply_count);
        assert!(echoed.apart_count <= usize::from(failed), "only a reason may need more room than there is");
    }
}

/// RFC 6455: 5.5.3 for pings, 5.5.1 for Close, 7.1.7 for faults.
fn answer_to(said: &Said) -> Option<Said> {
    Some(match said {
        Said::Pong(_) => return None,
        Said::Ping(payload) => Said::Pong(payload.clone()),
        Said::Close(code, payload) => Said::Close(*code, payload[..payload.len().min(2)].to_vec()),
        Said::Fault(fault) => {
            let code = fault.close_code();
            let reason = fault.to_string();
            Said::Close(Some(code), [&code.to_be_bytes(), reason.as_bytes()].concat())
        }
        Said::Message { .. } | Said::Unfinished { .. } => said.clone(),
    })
}

fn binary_frames(heard: &Heard) -> Vec<&DataFrame> {
    heard.data_frames.iter().filter(|frame| !frame.text).collect()
}
