//! Frame headers and what may go wrong with them (RFC 6455, 5.2 and 5.5).
//!
//! Invariant: a header that [`parse`] returns is legal for the direction it came from, and a header that
//! [`Header::encode`] writes is the shortest one for its length. Payload is none of this file's business.

use super::mask::Mask;

/// Longest header there is: 2 bytes, 8 of length, 4 of masking key.
pub const MAX_HEADER_BYTES: usize = 14;
/// Longest header without a masking key, as a server sends it.
pub const MAX_UNMASKED_HEADER_BYTES: usize = 10;
/// Longest payload of a control frame (RFC 6455, 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
/// Marks a compressed message where permessage-deflate was agreed on (RFC 7692, 7.2.3).
pub const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// Which end of the connection: decides who masks (RFC 6455, 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Masks what it sends.
    Client,
    /// Never masks.
    Server,
}

/// RFC 6455, 5.2 and 11.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message under way.
    Continuation = 0x0,
    /// A message of UTF-8 text, or its first fragment.
    Text = 0x1,
    /// A message of bytes, or its first fragment.
    Binary = 0x2,
    /// The closing handshake (5.5.1).
    Close = 0x8,
    /// Asks for a pong (5.5.2).
    Ping = 0x9,
    /// Answers a ping, or comes unasked (5.5.3).
    Pong = 0xA,
}

impl Opcode {
    #[inline(always)]
    fn from_bits(bits: u8) -> Result<Self, Fault> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            other => return Err(Fault::ReservedOpcode(other)),
        })
    }

    /// Close, ping or pong: never fragmented, at most [`MAX_CONTROL_BYTES`] long.
    #[inline(always)]
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Close codes that this project sends (RFC 6455, 7.4.1).
pub mod close_code {
    /// The purpose was fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The endpoint is going away: a server shuts down.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A text message was not UTF-8, or a compressed one not DEFLATE.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// More of something than we put up with, where no other code fits.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// A message was longer than we take.
    pub const TOO_BIG: u16 = 1009;
    /// We cannot now, for no fault of the peer's: there is too much of others. In the IANA registry, and in no RFC.
    pub const TRY_AGAIN_LATER: u16 = 1013;

    /// Whether a peer may put `code` into a Close frame: the assigned codes (RFC 6455, 7.4.1, and the IANA
    /// registry's 1012 to 1014), libraries' 3000s and applications' 4000s. 1004 to 1006 and 1015 never
    /// travel.
    pub fn may_be_sent(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// Why a connection is failed: what a peer did wrong, as a rule. Each carries the close code that answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// RSV1 to RSV3 without an extension that gives them a meaning (5.2).
    #[error("reserved bits set without a negotiated extension")]
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15 (5.2).
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// A control frame without FIN (5.5).
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A control frame over 125 bytes (5.5).
    #[error("control frame longer than 125 bytes")]
    ControlTooLong,
    /// A length in more bytes than it needs (5.2).
    #[error("payload length not minimally encoded")]
    LengthNotMinimal,
    /// A 64-bit length with its top bit set (5.2).
    #[error("payload length of 2^63 or more")]
    LengthTooLarge,
    /// A client's frame without a masking key (5.1).
    #[error("client frame not masked")]
    NotMasked,
    /// A server's frame with a masking key (5.1).
    #[error("server frame masked")]
    Masked,
    /// A continuation with no message under way (5.4).
    #[error("continuation frame without a message to continue")]
    NothingToContinue,
    /// A new message inside a fragmented one (5.4).
    #[error("new message before the last fragment of the one under way")]
    MessageInterrupted,
    /// A message beyond the limit that was set.
    #[error("message longer than the limit")]
    MessageTooBig,
    /// A message in more fragments than the limit that was set (5.4 sets none).
    #[error("more fragments in a message than the limit")]
    TooManyFragments,
    /// More pings and pongs in a second than the limit that was set (5.5 sets none).
    #[error("more pings and pongs a second than the limit")]
    TooManyControlFrames,
    /// A text message or a close reason that is not UTF-8 (8.1).
    #[error("text is not valid UTF-8")]
    InvalidUtf8,
    /// A compressed message that cannot be inflated (RFC 7692, 7.2.2).
    #[error("compressed message is not DEFLATE")]
    NotDeflate,
    /// There is no memory for what has come, since others have it: nothing that this peer did wrong.
    #[error("out of memory for what has come: try again later")]
    NoMemory,
    /// A peer that asked to be sent what others say, and takes too little of it.
    #[error("more waits for this subscriber than the limit: it reads too slowly")]
    SlowSubscriber,
    /// A Close frame with one byte of payload (5.5.1).
    #[error("close frame with half a code")]
    CloseTruncated,
    /// A Close frame with a code that may not travel (7.4).
    #[error("close code {0} may not be sent")]
    CloseCode(u16),
}

impl Fault {
    /// The code that fails the connection for this fault (RFC 6455, 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::MessageTooBig => close_code::TOO_BIG,
            // Not 1009: no message is too big, there is too much of what carries it. The JavaScript libraries that have
            // such a limit (ws, undici) close with this code as well.
            Self::TooManyFragments | Self::TooManyControlFrames | Self::SlowSubscriber => {
                close_code::POLICY_VIOLATION
            }
            Self::InvalidUtf8 | Self::NotDeflate => close_code::INVALID_PAYLOAD,
            Self::NoMemory => close_code::TRY_AGAIN_LATER,
            _ => close_code::PROTOCOL_ERROR,
        }
    }
}

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Last fragment of its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key, if the frame is masked.
    pub mask: Option<Mask>,
    /// Length of the payload that follows.
    pub payload_bytes: u64,
}

impl Header {
    /// Length of this header on the wire: 2 to [`MAX_HEADER_BYTES`].
    #[inline(always)]
    pub fn encoded_bytes(&self) -> usize {
        let length_bytes = match self.payload_bytes {
            0..=125 => 0,
            126..=0xFFFF => 2,
            _ => 8,
        };
        2 + length_bytes + if self.mask.is_some() { 4 } else { 0 }
    }

    /// Writes the header to the front of `out` and returns its length, [`Header::encoded_bytes`].
    ///
    /// # Panics
    /// If `out` is shorter than that.
    #[inline(always)]
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let mask_bit = if self.mask.is_some() { MASKED } else { 0 };
        out[0] = self.opcode as u8 | if self.fin { FIN } else { 0 };
        let mut at = 2;
        match self.payload_bytes {
            short @ 0..=125 => out[1] = mask_bit | short as u8,
            medium @ 126..=0xFFFF => {
                out[1] = mask_bit | 126;
                out[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                at = 4;
            }
            long => {
                out[1] = mask_bit | 127;
                out[2..10].copy_from_slice(&long.to_be_bytes());
                at = 10;
            }
        }
        if let Some(mask) = self.mask {
            out[at..at + 4].copy_from_slice(&mask.to_bytes());
            at += 4;
        }
        at
    }
}

/// Reads a header sent by `sender` from the front of `bytes`: the header and its length, or `None` where
/// `bytes` ends inside it.
///
/// # Errors
/// As soon as the bytes at hand show the fault, even where the header is not complete.
#[inline(always)]
pub fn parse(bytes: &[u8], sender: Role) -> Result<Option<(Header, usize)>, Fault> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & RESERVED_BITS != 0 {
        return Err(Fault::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & 0x0F)?;
    let fin = first & FIN != 0;
    let length = second & 0x7F;
    if opcode.is_control() {
        if !fin {
            return Err(Fault::ControlFragmented);
        }
        if usize::from(length) > MAX_CONTROL_BYTES {
            return Err(Fault::ControlTooLong);
        }
    }
    let masked = second & MASKED != 0;
    match sender {
        Role::Client if !masked => return Err(Fault::NotMasked),
        Role::Server if masked => return Err(Fault::Masked),
        _ => {}
    }
    let (payload_bytes, length_bytes) = match length {
        127 => {
            let Some(&extended) = rest.first_chunk::<8>() else { return Ok(None) };
            let value = u64::from_be_bytes(extended);
            if value >> 63 != 0 {
                return Err(Fault::LengthTooLarge);
            }
            if value <= 0xFFFF {
                return Err(Fault::LengthNotMinimal);
            }
            (value, 8)
        }
        126 => {
            let Some(&extended) = rest.first_chunk::<2>() else { return Ok(None) };
            let value = u16::from_be_bytes(extended);
            if value < 126 {
                return Err(Fault::LengthNotMinimal);
            }
            (u64::from(value), 2)
        }
        short => (u64::from(short), 0),
    };
    let mut header_bytes = 2 + length_bytes;
    let mask = if masked {
        let Some(&key) = rest.get(length_bytes..).and_then(|key| key.first_chunk::<4>()) else {
            return Ok(None);
        };
        header_bytes += 4;
        Some(Mask::from_bytes(key))
    } else {
        None
    };
    Ok(Some((Header { fin, opcode, mask, payload_bytes }, header_bytes)))
}

/// The commonest header there is: a whole data message of at most 125 bytes, from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShortMessage {
    /// The first byte: FIN, and text or binary. It is the reply's first byte too.
    pub(super) first: u8,
    /// At most 125.
    pub(super) payload_bytes: usize,
    /// Its masking key.
    pub(super) mask: Mask,
}

impl ShortMessage {
    /// Length of the header that [`ShortMessage::parse`] reads.
    pub(super) const HEADER_BYTES: usize = 6;
    /// Length of the reply's.
    pub(super) const REPLY_HEADER_BYTES: usize = 2;

    /// What the front of `bytes` is, where it is that; everything else, and every fault, is [`parse`]'s.
    #[inline(always)]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ref rest @ ..] = bytes else { return None };
        let text_or_binary = first == FIN | Opcode::Text as u8 || first == FIN | Opcode::Binary as u8;
        let payload_bytes = usize::from(second ^ MASKED);
        if !text_or_binary || payload_bytes > MAX_CONTROL_BYTES {
            return None;
        }
        Some(Self { first, payload_bytes, mask: Mask::from_bytes(*rest.first_chunk()?) })
    }

    /// The message is text.
    #[inline(always)]
    pub(super) fn is_text(&self) -> bool {
        self.first & 0x0F == Opcode::Text as u8
    }
}

/// A whole control frame, ready to send: header, masking key if a client sends it, payload.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; 2 + 4 + MAX_CONTROL_BYTES],
    length: u8,
}

impl ControlFrame {
    /// `mask` is the key for a client's frame and `None` for a server's.
    ///
    /// # Panics
    /// If `opcode` is no control opcode or `payload` is over [`MAX_CONTROL_BYTES`].
    pub fn new(opcode: Opcode, payload: &[u8], mask: Option<Mask>) -> Self {
        assert!(opcode.is_control() && payload.len() <= MAX_CONTROL_BYTES);
        let header = Header { fin: true, opcode, mask, payload_bytes: payload.len() as u64 };
        let mut bytes = [0; 2 + 4 + MAX_CONTROL_BYTES];
        let start = header.encode(&mut bytes);
        let end = start + payload.len();
        bytes[start..end].copy_from_slice(payload);
        if let Some(mask) = mask {
            super::mask::unmask(mask, &mut bytes[start..end]);
        }
        Self { bytes, length: end as u8 }
    }

    /// A Close frame; the reason is cut at a character's end where it is over 123 bytes (5.5.1).
    pub fn close(code: u16, reason: &str, mask: Option<Mask>) -> Self {
        let mut end = reason.len().min(MAX_CONTROL_BYTES - 2);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let mut payload = [0; MAX_CONTROL_BYTES];
        payload[..2].copy_from_slice(&code.to_be_bytes());
        payload[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
        Self::new(Opcode::Close, &payload[..2 + end], mask)
    }

    /// The frame on the wire.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(payload_bytes: u64) -> Header {
        Header {
            fin: true,
            opcode: Opcode::Binary,
            mask: Some(Mask::from_bytes([1, 2, 3, 4])),
            payload_bytes,
        }
    }

    #[test]
    fn headers_survive_the_wire_at_every_length_form() {
        for length in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, u64::MAX >> 1] {
            for mask in [None, masked(0).mask] {
                let header = Header { mask, ..masked(length) };
                let mut bytes = [0xAA; MAX_HEADER_BYTES];
                let written = header.encode(&mut bytes);
                let sender = if mask.is_some() { Role::Client } else { Role::Server };
                assert_eq!(written, header.encoded_bytes());
                assert_eq!(parse(&bytes[..written], sender), Ok(Some((header, written))));
                for cut in 0..written {
                    assert_eq!(parse(&bytes[..cut], sender), Ok(None), "length {length} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn longer_length_forms_than_needed_are_refused() {
        assert_eq!(parse(&[0x82, 126, 0, 125], Role::Server), Err(Fault::LengthNotMinimal));
        assert_eq!(
            parse(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Role::Server),
            Err(Fault::LengthNotMinimal)
        );
        assert_eq!(parse(&[0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0], Role::Server), Err(Fault::LengthTooLarge));
    }

    #[test]
    fn every_first_byte_is_judged_as_the_rfc_says() {
        for first in 0..=255u8 {
            let expected = match (first & RESERVED_BITS, first & 0x0F, first & FIN != 0) {
                (1.., _, _) => Some(Fault::ReservedBits),
                (0, opcode @ (3..=7 | 11..=15), _) => Some(Fault::ReservedOpcode(opcode)),
                (0, 8..=10, false) => Some(Fault::ControlFragmented),
                _ => None,
            };
            assert_eq!(parse(&[first, 0], Role::Server).err(), expected, "first byte {first:#x}");
        }
    }

    #[test]
    fn masking_is_the_clients_duty_and_nobody_elses() {
        assert_eq!(parse(&[0x81, 0x05], Role::Client), Err(Fault::NotMasked));
        assert_eq!(parse(&[0x81, 0x85], Role::Server), Err(Fault::Masked));
    }

    #[test]
    fn control_frames_longer_than_125_bytes_are_refused() {
        assert_eq!(parse(&[0x89, 126], Role::Server), Err(Fault::ControlTooLong));
        assert_eq!(parse(&[0x89, 0xFF], Role::Client), Err(Fault::ControlTooLong));
    }

    #[test]
    fn a_long_close_reason_is_cut_at_a_character() {
        let reason = "é".repeat(100);
        let frame = ControlFrame::close(close_code::GOING_AWAY, &reason, None);
        assert_eq!(frame.as_bytes().len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame.as_bytes()[4..]).is_ok());
    }

    #[test]
    fn close_codes_that_may_travel_are_the_assigned_ones() {
        let sent: Vec<u16> = (0..=5001).filter(|&code| close_code::may_be_sent(code)).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(sent, expected);
    }
}
