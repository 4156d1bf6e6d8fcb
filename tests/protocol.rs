//! The protocol against an obviously right reading of RFC 6455, over every way to cut the input.
//!
//! Each stream is heard and echoed whole, byte by byte, cut in two everywhere (near each frame's ends, where
//! it is long) and in random pieces. What it must mean is told twice: by the oracle of the fuzz targets, and,
//! for every fault, by name.

use std::iter::repeat_n;

use fastrand::Rng;
use ringsock::ws::frame::{Fault, Role};

#[path = "fuzz_bounded/oracle.rs"]
mod oracle;
#[path = "common/seed.rs"]
mod seed;

use oracle::Said;

const TEXT: u8 = 0x81;
const TEXT_START: u8 = 0x01;
const BINARY: u8 = 0x82;
const BINARY_START: u8 = 0x02;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

const LENGTHS_BYTES: [usize; 8] = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000];
/// Characters of one to four bytes.
const CHARACTERS: [char; 4] = ['a', 'é', '€', '🦀'];
/// Streams up to this long are cut in two at every place.
const CUT_EVERYWHERE_BYTES: usize = 700;
/// How far around the ends of a longer stream's frames: longer than any header.
const CUT_AROUND_BYTES: usize = 15;

/// Frames of one sender, one behind the other.
struct Stream {
    sender: Role,
    bytes: Vec<u8>,
    /// Where frames begin.
    frames_at: Vec<usize>,
}

impl Stream {
    fn from(sender: Role) -> Self {
        Self { sender, bytes: Vec::new(), frames_at: Vec::new() }
    }

    /// A frame whose payload is masked where the sender's are, its length in the shortest form.
    fn frame(self, first: u8, payload: &[u8]) -> Self {
        let length = payload.len();
        let extended: &[u8] = match length {
            0..=125 => &[],
            126..=0xFFFF => &(length as u16).to_be_bytes(),
            _ => &(length as u64).to_be_bytes(),
        };
        let short = [length as u8, 126, 127][[0, 2, 8].iter().position(|&n| n == extended.len()).unwrap()];
        let mask_bit = if self.sender == Role::Client { 0x80 } else { 0 };
        let head = [&[first, mask_bit | short][..], extended].concat();
        self.raw(&head, payload)
    }

    /// A frame whose head, but for the key, is given.
    fn raw(mut self, head: &[u8], payload: &[u8]) -> Self {
        self.frames_at.push(self.bytes.len());
        self.bytes.extend_from_slice(head);
        let key = [0x5A, 0xC3, self.bytes.len() as u8 | 1, 0xFE];
        if head[1] & 0x80 != 0 {
            self.bytes.extend_from_slice(&key);
            self.bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]));
        } else {
            self.bytes.extend_from_slice(payload);
        }
        self
    }

    /// Holds the crate to the oracle over every cut; what the stream says is returned.
    fn checked(&self, message_bytes_max: u64, random: &mut Rng) -> Vec<Said> {
        let Self { sender, bytes, .. } = self;
        let expected = oracle::expected(bytes, *sender, message_bytes_max);
        let agree = |cuts: &[usize]| oracle::agree(&expected, bytes, *sender, message_bytes_max, cuts);
        agree(&[]);
        agree(&(1..bytes.len()).collect::<Vec<_>>());
        self.places_to_cut().into_iter().for_each(|cut| agree(&[cut]));
        for _ in 0..8 {
            let mut cuts: Vec<usize> =
                (0..random.usize(2..9)).map(|_| random.usize(..=bytes.len())).collect();
            cuts.sort_unstable();
            agree(&cuts);
        }
        expected.said
    }

    fn places_to_cut(&self) -> Vec<usize> {
        let near = |cut: &usize| self.frames_at.iter().any(|at| at.abs_diff(*cut) <= CUT_AROUND_BYTES);
        let is_short = self.bytes.len() <= CUT_EVERYWHERE_BYTES;
        (1..self.bytes.len()).filter(|cut| is_short || near(cut)).collect()
    }
}

/// The same conversation told by either end: `tell` is given an empty stream.
fn from_both(tell: impl Fn(Stream) -> Stream) -> [Stream; 2] {
    [Role::Client, Role::Server].map(|sender| tell(Stream::from(sender)))
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 253) as u8).collect()
}

/// `count` bytes of text with characters of every length.
fn text(count: usize) -> Vec<u8> {
    let mut text: String = CHARACTERS.iter().cycle().take(count / 3).collect();
    while text.len() > count {
        text.pop();
    }
    let missing = count - text.len();
    text.extend(repeat_n('z', missing));
    text.into_bytes()
}

fn message(text: bool, payload: &[u8]) -> Said {
    Said::Message { text, payload: payload.to_vec() }
}

// ---------------------------------------------------------------------------------------------------------
// What must be heard and echoed
// ---------------------------------------------------------------------------------------------------------

#[test]
fn a_message_of_any_length_arrives_whole_however_it_is_cut() {
    let random = &mut seed::seeded();
    for length in LENGTHS_BYTES {
        for (kind, payload) in [(BINARY, bytes(length)), (TEXT, text(length))] {
            for stream in from_both(|stream| stream.frame(kind, &payload).frame(BINARY, b"!")) {
                let said = stream.checked(u64::MAX, random);
                assert!(said == [message(kind == TEXT, &payload), message(false, b"!")], "length {length}");
            }
        }
    }
}

#[test]
fn fragments_join_into_their_message_with_control_frames_between_them() {
    let random = &mut seed::seeded();
    for (kind, is_text) in [(BINARY_START, false), (TEXT_START, true)] {
        for stream in from_both(|stream| {
            stream
                .frame(kind, "a€".as_bytes())
                .frame(PING, b"are you there")
                .frame(MORE, b"")
                .frame(PONG, b"")
                .frame(PING, &bytes(125))
                .frame(MORE, &text(130))
                .frame(LAST, b"")
                .frame(kind, b"")
                .frame(LAST, b"next")
        }) {
            let whole = ["a€".as_bytes(), &text(130)].concat();
            let expected = [
                Said::Ping(b"are you there".to_vec()),
                Said::Pong(Vec::new()),
                Said::Ping(bytes(125)),
                message(is_text, &whole),
                message(is_text, b"next"),
            ];
            assert_eq!(stream.checked(u64::MAX, random), expected);
        }
    }
}

#[test]
fn a_character_may_be_cut_by_fragments() {
    let random = &mut seed::seeded();
    let crab = "🦀€é".as_bytes();
    for stream in from_both(|stream| {
        let stream = stream.frame(TEXT_START, &crab[..1]);
        let stream = crab[1..].iter().fold(stream, |stream, byte| stream.frame(MORE, &[*byte]));
        stream.frame(PING, b"").frame(LAST, b"")
    }) {
        assert_eq!(stream.checked(u64::MAX, random), [Said::Ping(Vec::new()), message(true, crab)]);
    }
}

#[test]
fn many_small_messages_are_each_answered_once_and_in_order() {
    let random = &mut seed::seeded();
    for stream in from_both(|stream| {
        (0..40u8).fold(stream, |stream, number| {
            let kind = if number % 3 == 0 { TEXT } else { BINARY };
            stream.frame(kind, &repeat_n(number, usize::from(number % 7)).collect::<Vec<_>>())
        })
    }) {
        assert_eq!(stream.checked(u64::MAX, random).len(), 40);
    }
}

#[test]
fn what_the_end_cuts_off_is_neither_lost_nor_made_up() {
    let random = &mut seed::seeded();
    for stream in from_both(|stream| {
        stream
            .frame(TEXT, "é".as_bytes())
            .frame(BINARY_START, b"xy")
            .frame(PING, b"?")
            .frame(LAST, &bytes(200))
    }) {
        for end in 0..stream.bytes.len() {
            let (bytes, frames_at) = (stream.bytes[..end].to_vec(), Vec::new());
            Stream { sender: stream.sender, bytes, frames_at }.checked(u64::MAX, &mut random.fork());
        }
    }
}

#[test]
fn random_conversations_are_heard_and_echoed_alike_however_they_are_cut() {
    let random = &mut seed::seeded();
    for _ in 0..150 {
        let sender = if random.bool() { Role::Client } else { Role::Server };
        let stream = (0..random.usize(1..12)).fold(Stream::from(sender), |stream, _| any(stream, random));
        let message_bytes_max = if random.u8(..4) == 0 { 300 } else { u64::MAX };
        stream.checked(message_bytes_max, random);
    }
}

/// A message in up to three fragments, or a control frame; one in sixteen is nonsense.
fn any(stream: Stream, random: &mut Rng) -> Stream {
    let length = random.choice([0, 1, 3, 16, 125, 126, 200]).unwrap();
    let (first, payload) = if random.bool() { (0x01, text(length)) } else { (0x02, bytes(length)) };
    match random.u8(..16) {
        0 => stream.frame(random.u8(..), &payload),
        1 => stream.frame(if random.bool() { PING } else { PONG }, &payload[..length.min(125)]),
        2 => stream.frame(CLOSE, &[3, random.u8(230..250), b'x']),
        3..6 => {
            let middle = random.usize(..=length);
            let stream = stream.frame(first, &payload[..middle]).frame(PING, b"between");
            stream.frame(LAST, &payload[middle..])
        }
        _ => stream.frame(0x80 | first, &payload),
    }
}

// ---------------------------------------------------------------------------------------------------------
// What must be refused
// ---------------------------------------------------------------------------------------------------------

/// Tells a greeting, what `wrong` adds, and more; it must end in `fault`, and nothing behind it be heard.
fn refused(fault: Fault, close_code: u16, message_bytes_max: u64, wrong: impl Fn(Stream) -> Stream) {
    let random = &mut seed::seeded();
    assert_eq!(fault.close_code(), close_code, "{fault}");
    for stream in from_both(|stream| {
        let stream = stream.frame(BINARY, b"hello").frame(PING, b"1");
        wrong(stream).frame(PING, b"unheard").frame(BINARY, b"unheard").frame(CLOSE, b"")
    }) {
        let said = stream.checked(message_bytes_max, random);
        let (last, before) = said.split_last().unwrap();
        assert_eq!(last, &Said::Fault(fault));
        assert_eq!(before[..2], [message(false, b"hello"), Said::Ping(b"1".to_vec())]);
        let unheard = |said: &Said| matches!(said, Said::Ping(payload) if payload == b"unheard");
        assert!(!before.iter().any(unheard), "heard on after {fault}");
    }
}

/// [`refused`] as a breach of the protocol, whatever the limit.
fn broken(fault: Fault, wrong: impl Fn(Stream) -> Stream) {
    refused(fault, 1002, u64::MAX, wrong);
}

/// A head with the sender's own masking and the given length bits.
fn head(stream: &Stream, first: u8, short: u8, extended: &[u8]) -> Vec<u8> {
    let mask_bit = if stream.sender == Role::Client { 0x80 } else { 0 };
    [&[first, mask_bit | short][..], extended].concat()
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        broken(Fault::ReservedBits, |stream| stream.frame(BINARY | bit, b"x"));
        broken(Fault::ReservedBits, |stream| stream.frame(PING | bit, b"x"));
    }
    for opcode in (3..8).chain(11..16) {
        broken(Fault::ReservedOpcode(opcode), |stream| stream.frame(0x80 | opcode, b"x"));
    }
}

#[test]
fn fragmented_and_long_control_frames_are_refused() {
    for opcode in [CLOSE, PING, PONG] {
        broken(Fault::ControlFragmented, |stream| stream.frame(opcode & 0x7F, b"x"));
        broken(Fault::ControlTooLong, |stream| stream.frame(opcode, &bytes(126)));
        broken(Fault::ControlTooLong, |stream| stream.frame(opcode, &bytes(65_536)));
    }
}

#[test]
fn lengths_in_too_many_bytes_are_refused() {
    let long = |stream: Stream, short: u8, extended: &[u8]| {
        let head = head(&stream, BINARY, short, extended);
        stream.raw(&head, b"xyz")
    };
    for length in [0u16, 1, 125] {
        broken(Fault::LengthNotMinimal, |stream| long(stream, 126, &length.to_be_bytes()));
    }
    for length in [0u64, 125, 126, 65_535] {
        broken(Fault::LengthNotMinimal, |stream| long(stream, 127, &length.to_be_bytes()));
    }
    for length in [1u64 << 63, u64::MAX] {
        broken(Fault::LengthTooLarge, |stream| long(stream, 127, &length.to_be_bytes()));
    }
}

#[test]
fn the_longest_length_that_may_be_announced_is_only_too_big() {
    refused(Fault::MessageTooBig, 1009, 1 << 40, |stream| {
        let head = head(&stream, BINARY, 127, &(u64::MAX >> 1).to_be_bytes());
        stream.raw(&head, b"and so on")
    });
}

#[test]
fn the_wrong_masking_is_refused() {
    let random = &mut seed::seeded();
    for (sender, head, fault) in
        [(Role::Client, [BINARY, 1], Fault::NotMasked), (Role::Server, [BINARY, 0x81], Fault::Masked)]
    {
        let stream = Stream::from(sender).frame(TEXT, b"good").raw(&head, b"x").frame(TEXT, b"unheard");
        let expected = [message(true, b"good"), Said::Fault(fault)];
        assert_eq!(stream.checked(u64::MAX, random), expected);
    }
}

#[test]
fn messages_that_do_not_follow_one_another_are_refused() {
    for frame in [LAST, MORE] {
        for payload in [&b""[..], b"x"] {
            broken(Fault::NothingToContinue, |stream| stream.frame(frame, payload));
        }
    }
    broken(Fault::NothingToContinue, |stream| {
        stream.frame(TEXT_START, b"a").frame(LAST, b"b").frame(LAST, b"c")
    });
    for frame in [TEXT, BINARY, TEXT_START, BINARY_START] {
        for payload in [&b""[..], b"x"] {
            broken(Fault::MessageInterrupted, |stream| {
                stream.frame(BINARY_START, b"a").frame(PONG, b"").frame(frame, payload)
            });
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_in_one_frame_and_across_fragments() {
    let not_utf8 = |wrong: &dyn Fn(Stream) -> Stream| refused(Fault::InvalidUtf8, 1007, u64::MAX, wrong);
    // Stray, overlong, a surrogate, beyond the last code point, never a byte of UTF-8.
    for bad in [&b"\x80"[..], b"\xC0\x80", b"\xE0\x80\x80", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xFF"] {
        let payload = [b"good \xC3\xA9 ", bad, b" more"].concat();
        not_utf8(&|stream| stream.frame(TEXT, &payload));
        for cut in 1..payload.len() {
            not_utf8(&|stream| {
                let stream = stream.frame(TEXT_START, &payload[..cut]).frame(PONG, b"");
                stream.frame(LAST, &payload[cut..])
            });
        }
    }
    for unfinished in [&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\xA6"] {
        not_utf8(&|stream| stream.frame(TEXT, unfinished));
        not_utf8(&|stream| stream.frame(TEXT_START, unfinished).frame(MORE, b"").frame(LAST, b""));
        not_utf8(&|stream| stream.frame(TEXT_START, unfinished).frame(LAST, b"a"));
    }
}

#[test]
fn a_message_beyond_the_limit_is_refused_as_one_frame_and_as_fragments() {
    let random = &mut seed::seeded();
    for limit in [10u64, 125, 126, 70_000] {
        let (at, beyond) = (bytes(limit as usize), bytes(limit as usize + 1));
        let (half, rest) = beyond.split_at(beyond.len() / 2);
        let too_big = |wrong: &dyn Fn(Stream) -> Stream| refused(Fault::MessageTooBig, 1009, limit, wrong);
        too_big(&|stream| stream.frame(BINARY, &beyond));
        too_big(&|stream| stream.frame(TEXT_START, &beyond));
        too_big(&|stream| stream.frame(BINARY_START, half).frame(PONG, b"").frame(LAST, rest));
        too_big(&|stream| stream.frame(BINARY_START, &at).frame(MORE, b"").frame(MORE, b"!"));
        for stream in from_both(|stream| {
            // The limit is each message's own.
            stream.frame(BINARY, &at).frame(BINARY_START, &at[1..]).frame(LAST, b"!").frame(TEXT, b"!")
        }) {
            let said = stream.checked(limit, random);
            assert!(said.len() == 3 && said.iter().all(|said| matches!(said, Said::Message { .. })));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// Close frames
// ---------------------------------------------------------------------------------------------------------

#[test]
fn a_close_is_heard_with_its_code_and_nothing_behind_it() {
    let random = &mut seed::seeded();
    let long_reason = [&[3, 232][..], &text(123)].concat();
    for (payload, code) in [
        (&b""[..], None),
        (b"\x03\xE8", Some(1000)),
        (b"\x03\xE9going away", Some(1001)),
        (b"\x0B\xB8", Some(3000)),
        (b"\x13\x87bye", Some(4999)),
        (&long_reason, Some(1000)),
    ] {
        for stream in from_both(|stream| {
            let stream = stream.frame(TEXT_START, b"cut off").frame(CLOSE, payload);
            stream.frame(LAST, b"unheard").frame(0xFF, b"nor is nonsense refused")
        }) {
            assert_eq!(stream.checked(u64::MAX, random), [Said::Close(code, payload.to_vec())]);
        }
    }
}

#[test]
fn close_frames_that_may_not_travel_are_refused() {
    broken(Fault::CloseTruncated, |stream| stream.frame(CLOSE, b"\x03"));
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        broken(Fault::CloseCode(code), |stream| stream.frame(CLOSE, &code.to_be_bytes()));
    }
    for reason in [&b"\x80"[..], b"fine \xE2\x82", b"\xC0\xAF"] {
        let payload = [b"\x03\xE8", reason].concat();
        refused(Fault::InvalidUtf8, 1007, u64::MAX, |stream| stream.frame(CLOSE, &payload));
    }
}
