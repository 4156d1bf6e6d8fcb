//! `echo`: the server sends every message back as it came.
//!
//! The server's side composes its answer in the memory that the request arrived in; it never copies payload,
//! and never holds a message together. The client's side numbers its messages and checks every byte of every
//! answer, so that a wrong, missing, repeated or reordered one cannot go unseen. Where answers are stamped (see
//! [`super::stamps`]), every byte but the stamps' is.

use super::frames::Frames;
use super::stamps::{BYTES_MAX, Layout, START, Stamper};
use super::table::ANY_ECHO;
use super::{Parameter, Scenario};
use crate::engine::{HEADROOM_BYTES, Io, Received};
use crate::ws::connection::{Connection, Data, Event};
use crate::ws::frame::{ControlFrame, Fault, Header, MAX_HEADER_BYTES, MAX_UNMASKED_HEADER_BYTES, Opcode};
use crate::ws::in_place::InPlace;
use crate::ws::mask::{self, Mask};

const _: () = assert!(HEADROOM_BYTES >= MAX_UNMASKED_HEADER_BYTES, "a reply header must fit in front");

/// Its row of the table.
pub const ABOUT: Scenario = Scenario {
    name: "echo",
    paths: &["/", "/echo"],
    what: "Every message comes back as it came.",
    needs: ANY_ECHO,
    compresses: true,
    parameters: &[Parameter {
        name: "anatomy",
        values: "nothing behind the name, or kernel",
        default: "not there: no stamps",
        what: "ringsock-server stamps each binary message with when it had it, and answered it",
    }],
    metrics: "sizes sent, where they vary",
    flags: &["fragments"],
};

/// Servers don't mask (RFC 6455, 5.1).
const NO_KEY: Mask = Mask::from_bytes([0; 4]);

/// What happened on the server's side while it answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Messages that ended.
    pub messages: u64,
    /// Frames that began.
    pub frames: Frames,
    /// The peer's fault that failed the connection, if any.
    pub fault: Option<Fault>,
}

/// Answers what arrived after the first `skipped_bytes` of `received`.
#[inline]
pub fn answer(
    connection: &mut Connection,
    io: &mut Io<'_>,
    received: Received<'_>,
    skipped_bytes: usize,
    now_ns: u64,
) -> Answered {
    answer_and::<true>(connection, io, received, skipped_bytes, now_ns, |_, _, _| {})
}

/// As [`answer`], and stamps what it answers.
///
/// Out of line, so that the ordinary echo is no larger for it.
#[cold]
#[inline(never)]
pub fn answer_stamped(
    connection: &mut Connection,
    stamper: &mut Stamper,
    io: &mut Io<'_>,
    received: Received<'_>,
    skipped_bytes: usize,
    now_ns: u64,
) -> Answered {
    let (received_ns, arrived_ns) = (io.received_ns(), io.arrived_ns());
    answer_and::<false>(connection, io, received, skipped_bytes, now_ns, |data, in_place, io| {
        let payload = in_place.last_mut(data.chunk.payload_bytes);
        stamper.stamp(data, payload, received_ns, arrived_ns, || io.clock_ns());
    })
}

/// Answers, and calls `echoed` after each piece of an answer, unless `SHORTCUT` lets short messages pass without.
#[inline(always)]
fn answer_and<const SHORTCUT: bool>(
    connection: &mut Connection,
    io: &mut Io<'_>,
    received: Received<'_>,
    skipped_bytes: usize,
    now_ns: u64,
    echoed: impl FnMut(&Data, &mut InPlace<'_>, &Io<'_>),
) -> Answered {
    let mut answered = Answered::default();
    let mut in_place = InPlace::new(received.memory, received.range);
    in_place.skip(skipped_bytes);
    connection.on_received(now_ns);
    if let Err(fault) = converse::<SHORTCUT>(connection, io, &mut in_place, &mut answered, echoed) {
        answered.fault = Some(fault);
        send_control(io, &mut in_place, connection.fail(fault, now_ns, NO_KEY));
    }
    io.reply_in_place(in_place.take_reply());
    answered
}

#[inline(always)]
fn converse<const SHORTCUT: bool>(
    connection: &mut Connection,
    io: &mut Io<'_>,
    in_place: &mut InPlace<'_>,
    answered: &mut Answered,
    mut echoed: impl FnMut(&Data, &mut InPlace<'_>, &Io<'_>),
) -> Result<(), Fault> {
    loop {
        if SHORTCUT {
            let (message_count, text_count) = in_place.echo_short_messages(connection)?;
            answered.messages += message_count;
            answered.frames.on_whole_messages(message_count, text_count);
        }
        let Some(event) = in_place.next(connection)? else { return Ok(()) };
        answered.frames.on_event(&event);
        match event {
            Event::Data(data) => {
                if connection.is_open() {
                    in_place.echo(connection, &data)?;
                    echoed(&data, in_place, io);
                } else {
                    in_place.discard(connection, &data)?;
                }
                answered.messages += u64::from(data.ends_message());
            }
            Event::Ping { .. } => send_control(io, in_place, connection.pong(NO_KEY)),
            Event::Pong { .. } => {}
            Event::Close { .. } => send_control(io, in_place, connection.reply_to_close(NO_KEY)),
        }
    }
}

#[cold]
fn send_control(io: &mut Io<'_>, in_place: &mut InPlace<'_>, frame: Option<ControlFrame>) {
    let Some(frame) = frame else { return };
    if !in_place.append(&frame) {
        io.reply_in_place(in_place.take_reply());
        io.write(|out| out.extend_from_slice(frame.as_bytes()));
    }
}

/// Payloads of the client's side: each message is known by its number, and any byte of it can be checked.
///
/// A message begins with its number (8 bytes, or 16 hexadecimal digits in text; cut to the payload's size,
/// low end first) and goes on with a window of a fixed random text that moves with the number.
#[derive(Debug)]
pub struct Payloads {
    text: bool,
    payload_bytes: usize,
    number_bytes: usize,
    /// Every message's header, but for its masking key.
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: usize,
    pattern: Vec<u8>,
    /// From the window of one message to that of the next.
    stride: usize,
    /// What the server stamps.
    stamps: Option<Layout>,
}

/// Windows differ between consecutive messages; a prime, so that they do for any pipeline depth.
const WINDOWS: u64 = 251;

/// JSON-like messages up to this size have windows of their own; larger ones overlap, further apart than any compressor
/// looks back.
const JSON_APART_BYTES_MAX: usize = 64 << 10;

/// The number's length in text.
const NUMBER_BYTES_MAX: usize = 16;
/// Header and number.
const HEAD_BYTES_MAX: usize = MAX_HEADER_BYTES + NUMBER_BYTES_MAX;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Bytes, length or kind differ.
    Payload,
    /// It is the answer to another message than the oldest one unanswered.
    Order {
        /// Number of the message that it answers.
        answered: u64,
    },
}

impl Payloads {
    /// Messages of `payload_bytes`, their filling drawn from `random`: it does not compress.
    pub fn new(payload_bytes: usize, text: bool, random: &mut fastrand::Rng) -> Self {
        let length = payload_bytes + WINDOWS as usize;
        let pattern = if text {
            std::iter::repeat_with(|| random.alphanumeric() as u8).take(length).collect()
        } else {
            std::iter::repeat_with(|| random.u8(..)).take(length).collect()
        };
        Self::of_pattern(payload_bytes, text, pattern, 1)
    }

    /// Messages that compress as JSON does: their filling is cut from JSON-like records with values drawn from `random`. Windows
    /// overlap only beyond the 32 KiB that a compressor looks back on, so that no message is a copy of the one before.
    pub fn json(payload_bytes: usize, text: bool, random: &mut fastrand::Rng) -> Self {
        let stride = if payload_bytes <= JSON_APART_BYTES_MAX { payload_bytes } else { WINDOWS as usize };
        let pattern = super::records::records(payload_bytes + WINDOWS as usize * stride, random);
        Self::of_pattern(payload_bytes, text, pattern, stride)
    }

    fn of_pattern(payload_bytes: usize, text: bool, pattern: Vec<u8>, stride: usize) -> Self {
        let number_bytes = payload_bytes.min(if text { 16 } else { 8 });
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        let no_key_yet = Some(NO_KEY);
        let header = Header { fin: true, opcode, mask: no_key_yet, payload_bytes: payload_bytes as u64 };
        let mut encoded = [0; MAX_HEADER_BYTES];
        let header_bytes = header.encode(&mut encoded);
        let header = encoded;
        Self { text, payload_bytes, number_bytes, header, header_bytes, pattern, stride, stamps: None }
    }

    /// The same messages for a server that stamps its answers so: zeros stand where the stamps will.
    ///
    /// # Panics
    /// Where messages are text, or too short for the stamps.
    pub fn stamped(self, layout: Layout) -> Self {
        assert!(!self.text && self.payload_bytes >= layout.end(), "stamps need room in binary messages");
        Self { stamps: Some(layout), ..self }
    }

    /// Where the server's stamps are, if it was asked for them.
    #[inline]
    pub fn stamps(&self) -> Option<Layout> {
        self.stamps
    }

    /// Length of each payload.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    #[inline]
    fn number(&self, number: u64) -> [u8; NUMBER_BYTES_MAX] {
        let mut bytes = [0; NUMBER_BYTES_MAX];
        if self.text {
            for (index, digit) in bytes.iter_mut().enumerate() {
                *digit = b"0123456789abcdef"[(number >> (4 * index)) as usize & 0xF];
            }
        } else {
            bytes[..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// What stands behind the number.
    #[inline]
    fn filling(&self, number: u64) -> &[u8] {
        self.filling_of(number, self.number_bytes, self.payload_bytes)
    }

    /// The same, of a message of `payload_bytes`.
    #[inline(always)]
    fn filling_of(&self, number: u64, number_bytes: usize, payload_bytes: usize) -> &[u8] {
        let start = (number % WINDOWS) as usize * self.stride;
        &self.pattern[start + number_bytes..start + payload_bytes]
    }

    /// Appends message `number_of_message` as a client's frame, masked with `key`.
    #[inline]
    pub fn encode(&self, number_of_message: u64, key: Mask, out: &mut Vec<u8>) {
        // Header and number go out as one piece of fixed length, cut to what is used: no call for either.
        let mut head = [0; HEAD_BYTES_MAX];
        head[..MAX_HEADER_BYTES].copy_from_slice(&self.header);
        head[self.header_bytes - 4..][..4].copy_from_slice(&key.to_bytes());
        let number: &mut [u8] = &mut head[self.header_bytes..][..NUMBER_BYTES_MAX];
        number.copy_from_slice(&self.number(number_of_message));
        mask::unmask(key, number);
        let start = out.len();
        out.extend_from_slice(&head);
        out.truncate(start + self.header_bytes + self.number_bytes);
        let filling = self.filling(number_of_message);
        match self.stamps {
            None => mask::mask_onto(key.rotated(self.number_bytes), filling, out),
            Some(layout) => Self::encode_behind_room(layout, filling, key, out),
        }
    }

    /// Appends the payload of message `number_of_message`, as it is before it is compressed.
    pub fn compose(&self, number_of_message: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number(number_of_message)[..self.number_bytes]);
        out.extend_from_slice(self.filling(number_of_message));
    }

    /// The same of a message of `payload_bytes`, where sizes vary: at most as many as these payloads were made for.
    pub fn compose_sized(&self, number_of_message: u64, payload_bytes: usize, out: &mut Vec<u8>) {
        let number_bytes = self.number_bytes.min(payload_bytes);
        out.extend_from_slice(&self.number(number_of_message)[..number_bytes]);
        out.extend_from_slice(self.filling_of(number_of_message, number_bytes, payload_bytes));
    }

    /// As [`Payloads::check`], where sizes vary: `size_of` a message's number is its payload's length.
    ///
    /// # Errors
    /// As there.
    pub fn check_sized(
        &self,
        size_of: &dyn Fn(u64) -> usize,
        number: u64,
        offset: usize,
        text: bool,
        piece: &[u8],
    ) -> Result<(), Mismatch> {
        let is_right = |number: u64| {
            let payload_bytes = size_of(number);
            let number_bytes = self.number_bytes.min(payload_bytes);
            offset + piece.len() <= payload_bytes
                && self.is_right_of(number, number_bytes, payload_bytes, offset, piece)
        };
        if text == self.text && is_right(number) {
            return Ok(());
        }
        let has_number = text == self.text && offset == 0 && piece.len() >= self.number_bytes;
        let answered = self.read_number(piece).filter(|_| has_number && self.number_bytes >= 8);
        match answered.filter(|&answered| answered != number && is_right(answered)) {
            Some(answered) => Err(Mismatch::Order { answered }),
            None => Err(Mismatch::Payload),
        }
    }

    /// Messages are text.
    pub fn text(&self) -> bool {
        self.text
    }

    /// Appends zeros where stamps will stand, and the filling behind them.
    #[cold]
    fn encode_behind_room(layout: Layout, filling: &[u8], key: Mask, out: &mut Vec<u8>) {
        mask::mask_onto(key.rotated(START), &[0; BYTES_MAX][..layout.byte_count()], out);
        mask::mask_onto(key.rotated(layout.end()), &filling[layout.byte_count()..], out);
    }

    /// Whether `piece` is what stands from `offset` on in message `number`.
    ///
    /// # Errors
    /// What is wrong. An answer to another message is told from a corrupt one by its number, where the
    /// piece holds it.
    #[inline]
    pub fn check(&self, number: u64, offset: usize, text: bool, piece: &[u8]) -> Result<(), Mismatch> {
        if text != self.text || offset + piece.len() > self.payload_bytes {
            return Err(Mismatch::Payload);
        }
        let is_right = match self.stamps {
            None => self.is_right(number, offset, piece),
            Some(layout) => self.is_right_around(layout, number, offset, piece),
        };
        if is_right { Ok(()) } else { Err(self.explain(number, offset, piece)) }
    }

    /// Whether `piece`, which is no longer than the message, is right but for the stamps.
    #[cold]
    fn is_right_around(&self, layout: Layout, number: u64, offset: usize, piece: &[u8]) -> bool {
        let stamps_at = START.saturating_sub(offset).min(piece.len());
        let rest_at = layout.end().saturating_sub(offset).min(piece.len());
        self.is_right(number, offset, &piece[..stamps_at])
            && self.is_right(number, offset + rest_at, &piece[rest_at..])
    }

    #[inline(always)]
    fn is_right(&self, number: u64, offset: usize, piece: &[u8]) -> bool {
        self.is_right_of(number, self.number_bytes, self.payload_bytes, offset, piece)
    }

    #[inline(always)]
    fn is_right_of(
        &self,
        number: u64,
        number_bytes: usize,
        payload_bytes: usize,
        offset: usize,
        piece: &[u8],
    ) -> bool {
        let of_number = &self.number(number)[offset.min(number_bytes)..number_bytes];
        let (got_number, got_filling) = piece.split_at(of_number.len().min(piece.len()));
        let filling_offset = offset.max(number_bytes) - number_bytes;
        let filling = &self.filling_of(number, number_bytes, payload_bytes)
            [filling_offset..filling_offset + got_filling.len()];
        *got_number == of_number[..got_number.len()] && got_filling == filling
    }

    #[cold]
    fn explain(&self, number: u64, offset: usize, piece: &[u8]) -> Mismatch {
        let holds_number = offset == 0 && piece.len() >= self.number_bytes && self.number_bytes >= 8;
        let Some(answered) = self.read_number(piece).filter(|&answered| holds_number && answered != number)
        else {
            return Mismatch::Payload;
        };
        match self.check(answered, offset, self.text, piece) {
            Ok(()) => Mismatch::Order { answered },
            Err(_) => Mismatch::Payload,
        }
    }

    fn read_number(&self, piece: &[u8]) -> Option<u64> {
        if !self.text {
            return piece.first_chunk().map(|&bytes| u64::from_le_bytes(bytes));
        }
        let digits = piece.get(..self.number_bytes)?;
        digits
            .iter()
            .rev()
            .try_fold(0u64, |number, &digit| Some(number << 4 | u64::from(char::from(digit).to_digit(16)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::frame::{Role, parse};

    fn payload(payloads: &Payloads, number: u64) -> Vec<u8> {
        let key = Mask::from_bytes([9, 8, 7, 6]);
        let mut frame = Vec::new();
        payloads.encode(number, key, &mut frame);
        let (header, header_bytes) = parse(&frame, Role::Client).unwrap().unwrap();
        assert_eq!(header.mask, Some(key));
        assert_eq!(header.payload_bytes as usize, frame.len() - header_bytes);
        let mut payload = frame.split_off(header_bytes);
        mask::unmask(key, &mut payload);
        payload
    }

    #[test]
    fn a_message_is_recognised_in_whatever_pieces_it_arrives() {
        for text in [false, true] {
            for size in [0, 1, 7, 8, 9, 15, 16, 17, 64, 300] {
                for fill in [Payloads::new, Payloads::json] {
                    let payloads = fill(size, text, &mut fastrand::Rng::with_seed(3));
                    let bytes = payload(&payloads, 1234);
                    assert!(!text || bytes.is_ascii());
                    for cut in 0..=size {
                        assert_eq!(payloads.check(1234, 0, text, &bytes[..cut]), Ok(()));
                        assert_eq!(payloads.check(1234, cut, text, &bytes[cut..]), Ok(()));
                    }
                    let mut composed = Vec::new();
                    payloads.compose(1234, &mut composed);
                    assert_eq!(composed, bytes);
                }
            }
        }
    }

    #[test]
    fn of_a_stamped_answer_all_but_the_stamps_is_checked_in_whatever_pieces_it_arrives() {
        for layout in [Layout::Pair, Layout::WithArrival] {
            for size in [layout.end(), layout.end() + 1, 64] {
                let payloads = Payloads::new(size, false, &mut fastrand::Rng::with_seed(3)).stamped(layout);
                let mut bytes = payload(&payloads, 1234);
                let stamps = START..layout.end();
                assert!(
                    bytes[stamps.clone()].iter().all(|&byte| byte == 0),
                    "room for stamps is sent as zeros"
                );
                bytes[stamps.clone()].fill(0xFF);
                for cut in 0..=size {
                    assert_eq!(payloads.check(1234, 0, false, &bytes[..cut]), Ok(()), "{size}, cut at {cut}");
                    assert_eq!(
                        payloads.check(1234, cut, false, &bytes[cut..]),
                        Ok(()),
                        "{size}, cut at {cut}"
                    );
                }
                for at in 0..size {
                    bytes[at] ^= 1;
                    let is_right = payloads.check(1234, 0, false, &bytes).is_ok();
                    assert_eq!(is_right, stamps.contains(&at), "{size}, byte {at}");
                    bytes[at] ^= 1;
                }
                let other = payload(&payloads, 1236);
                let mismatch = Err(Mismatch::Order { answered: 1236 });
                assert_eq!(payloads.check(1234, 0, false, &other), mismatch);
            }
        }
    }

    #[test]
    fn json_compresses_as_json_does_and_no_message_is_a_copy_of_those_before() {
        for size in [1024, 16 << 10, 80 << 10] {
            let payloads = Payloads::json(size, true, &mut fastrand::Rng::with_seed(3));
            let mut compress = flate2::Compress::new(flate2::Compression::new(6), false);
            let mut out = Vec::with_capacity(1 << 20);
            for number in 0..30 {
                let mut message = Vec::new();
                payloads.compose(number, &mut message);
                out.clear();
                compress.compress_vec(&message, &mut out, flate2::FlushCompress::Sync).unwrap();
                let ratio = message.len() as f64 / out.len() as f64;
                assert!((1.5..4.0).contains(&ratio), "{size} B, message {number}: {ratio}");
            }
        }
    }

    #[test]
    fn of_messages_whose_sizes_vary_every_byte_and_the_order_are_checked() {
        let sizes = [0, 1, 7, 8, 20, 64, 300];
        let size_of = |number: u64| sizes[number as usize % sizes.len()];
        for text in [false, true] {
            let payloads = Payloads::new(300, text, &mut fastrand::Rng::with_seed(3));
            for number in 0..14 {
                let mut bytes = Vec::new();
                payloads.compose_sized(number, size_of(number), &mut bytes);
                assert_eq!(bytes.len(), size_of(number));
                for cut in 0..=bytes.len() {
                    let (head, rest) = bytes.split_at(cut);
                    assert_eq!(payloads.check_sized(&size_of, number, 0, text, head), Ok(()));
                    assert_eq!(payloads.check_sized(&size_of, number, cut, text, rest), Ok(()));
                }
                let other = payloads.check_sized(&size_of, number + 7, 0, text, &bytes);
                let tells = bytes.len() >= payloads.number_bytes;
                let mismatch = if tells { Mismatch::Order { answered: number } } else { Mismatch::Payload };
                assert!(other == Err(mismatch) || bytes.len() < 2, "{number}: {other:?}");
                for at in 0..bytes.len() {
                    bytes[at] ^= 1;
                    let checked = payloads.check_sized(&size_of, number, 0, text, &bytes);
                    assert!(checked.is_err(), "message {number}, byte {at}");
                    bytes[at] ^= 1;
                }
                bytes.push(0);
                assert_eq!(payloads.check_sized(&size_of, number, 0, text, &bytes), Err(Mismatch::Payload));
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        for text in [false, true] {
            let payloads = Payloads::new(40, text, &mut fastrand::Rng::with_seed(3));
            let good = payload(&payloads, 77);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(payloads.check(77, 0, text, &bad), Err(Mismatch::Payload), "bit {bit}");
            }
        }
    }

    #[test]
    fn another_messages_answer_is_called_out_of_order() {
        for text in [false, true] {
            let payloads = Payloads::new(64, text, &mut fastrand::Rng::with_seed(3));
            let other = payload(&payloads, 79);
            assert_eq!(payloads.check(77, 0, text, &other), Err(Mismatch::Order { answered: 79 }));
        }
    }

    #[test]
    fn the_wrong_kind_and_the_wrong_length_are_seen() {
        let payloads = Payloads::new(10, false, &mut fastrand::Rng::with_seed(3));
        let mut bytes = payload(&payloads, 5);
        assert_eq!(payloads.check(5, 0, true, &bytes), Err(Mismatch::Payload));
        bytes.push(0);
        assert_eq!(payloads.check(5, 0, false, &bytes), Err(Mismatch::Payload));
    }
}
