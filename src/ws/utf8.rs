//! Incremental UTF-8 validation of text messages (RFC 3629; RFC 6455, section 8.1), in chunks of any size.
//!
//! The invariant: between calls, the bytes seen are valid UTF-8 followed by at most three bytes that can
//! still become a code point. So a fault is reported with the chunk that holds the first impossible byte.
//!
//! It deliberately keeps no text and gives no position: the only answer to a fault is close code 1007.

/// The text cannot be UTF-8, or ended inside a code point. Answered with close code 1007.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text is not valid UTF-8")]
pub struct InvalidUtf8;

/// Chunks up to this many bytes are first tried as ASCII; a longer one is left to the vector validator, which
/// skips ASCII by itself and has the length to pay for its start.
const ASCII_FIRST_BYTES_MAX: usize = 256;

/// Validator of one text message, four bytes: the code point that the last chunk left unfinished.
///
/// Call [`push`](Self::push) for every chunk, then [`finish`](Self::finish), then begin with the next message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8 {
    unfinished: [u8; 3],
    unfinished_bytes: u8,
}

impl Utf8 {
    /// A validator at the start of a message.
    pub const fn new() -> Self {
        Self { unfinished: [0; 3], unfinished_bytes: 0 }
    }

    /// Takes the next chunk of the message.
    ///
    /// # Errors
    /// As soon as no continuation could make the message valid: a stray or missing continuation byte, an
    /// overlong form, a surrogate, or a code point above U+10FFFF (RFC 3629, sections 3 and 4). The validator
    /// is then at the start of a message again.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        if self.unfinished_bytes == 0 && bytes.len() <= ASCII_FIRST_BYTES_MAX && is_ascii(bytes) {
            return Ok(());
        }
        self.push_any(bytes)
    }

    /// Ends the message; the validator is then at the start of the next one.
    ///
    /// # Errors
    /// When the message ended inside a code point.
    #[inline]
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        if std::mem::take(self).unfinished_bytes == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }

    #[inline(never)]
    fn push_any(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        let rest = self.finish_code_point(bytes)?;
        let Err(error) = simdutf8::compat::from_utf8(rest) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        self.keep(&rest[error.valid_up_to()..]);
        Ok(())
    }

    /// Takes bytes until the unfinished code point, if any, is complete; returns those that follow it.
    fn finish_code_point<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        let Self { unfinished: [a, b, c], unfinished_bytes } = std::mem::take(self);
        if unfinished_bytes == 0 {
            return Ok(bytes);
        }
        let mut code_point = [a, b, c, 0];
        let mut code_point_bytes = usize::from(unfinished_bytes);
        for (taken, byte) in bytes.iter().enumerate() {
            code_point[code_point_bytes] = *byte;
            code_point_bytes += 1;
            match std::str::from_utf8(&code_point[..code_point_bytes]) {
                Ok(_) => return Ok(&bytes[taken + 1..]),
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        self.keep(&code_point[..code_point_bytes]);
        Ok(&[])
    }

    /// Keeps a viable start of a code point, one to three bytes, for the next chunk.
    fn keep(&mut self, start: &[u8]) {
        self.unfinished[..start.len()].copy_from_slice(start);
        self.unfinished_bytes = start.len() as u8;
    }
}

/// The standard library's `is_ascii` goes byte by byte over what its vectors leave, 18 ns for 125 bytes; this
/// takes the last 16 bytes as one more lane that overlaps the others, 2 ns.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; 16]);
    let Some(last) = bytes.last_chunk::<16>() else { return bytes.is_ascii() };
    let lanes = bytes.as_chunks::<16>().0.iter().chain([last]);
    lanes.fold(0, |all, lane| all | u128::from_ne_bytes(*lane)) & HIGH_BITS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether one validator, given these chunks, takes them all and then the end of the message.
    fn is_valid<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut utf8 = Utf8::new();
        chunks.into_iter().all(|chunk| utf8.push(chunk).is_ok()) && utf8.finish().is_ok()
    }

    /// Whether the bytes are accepted so far, as one chunk and byte by byte, which must agree.
    fn is_prefix(bytes: &[u8]) -> bool {
        let whole = Utf8::new().push(bytes).is_ok();
        let mut utf8 = Utf8::new();
        let bytewise = bytes.iter().all(|byte| utf8.push(&[*byte]).is_ok());
        assert_eq!(whole, bytewise, "one chunk against single bytes: {bytes:02x?}");
        whole
    }

    fn oracle(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_ok()
    }

    /// Whether the bytes start some valid text. Only the last, unfinished code point needs completing, and if
    /// anything completes it, then a second byte from either end of its lead's range does, and 0x80s after it.
    fn oracle_prefix(bytes: &[u8]) -> bool {
        let completions: [&[u8]; 7] =
            [&[], &[0x80], &[0x80; 2], &[0xbf], &[0xbf, 0x80], &[0x80; 3], &[0xbf, 0x80, 0x80]];
        completions.iter().any(|end| oracle(&[bytes, end].concat()))
    }

    /// A byte from each class that RFC 3629, section 4, tells apart, both ends of every range.
    const CLASSES: [u8; 24] = [
        0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
        0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
    ];

    /// Calls `check` with every sequence of `len` bytes out of `alphabet`.
    fn each_sequence(alphabet: &[u8], len: u32, mut check: impl FnMut(&[u8])) {
        let mut sequence = vec![0; len as usize];
        for mut number in 0..alphabet.len().pow(len) {
            for byte in &mut sequence {
                *byte = alphabet[number % alphabet.len()];
                number /= alphabet.len();
            }
            check(&sequence);
        }
    }

    #[test]
    fn the_state_fits_eight_bytes() {
        assert!(size_of::<Utf8>() <= 8);
    }

    #[test]
    fn text_is_judged_alike_however_it_is_split() {
        let texts: [&[u8]; 12] = [
            b"",
            b"plain",
            "κόσμε ±÷ £ €uro 한글 𐍈 🦀 \u{10ffff}\u{feff}\u{0}".as_bytes(),
            "\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}".as_bytes(),
            b"ends inside \xf0\x9f\xa6",
            b"ends inside \xe2\x82",
            b"overlong \xc0\xaf",
            b"overlong \xe0\x9f\xbf and on",
            b"overlong \xf0\x8f\xbf\xbf and on",
            b"surrogate \xed\xa0\x80 and on",
            b"too high \xf4\x90\x80\x80 and on",
            b"stray \x80 and on",
        ];
        for text in texts {
            let expected = oracle(text);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let chunks = [&text[..first], &text[first..second], &text[second..]];
                    assert_eq!(is_valid(chunks), expected, "{chunks:02x?}");
                }
            }
            assert_eq!(is_valid(text.chunks(1)), expected, "{text:02x?}");
        }
    }

    #[test]
    fn every_sequence_of_two_bytes_is_judged_as_the_standard_library_does() {
        let all: Vec<u8> = (0..=255).collect();
        each_sequence(&all, 2, |bytes| {
            assert_eq!(is_valid([bytes]), oracle(bytes), "{bytes:02x?}");
            assert_eq!(is_valid(bytes.chunks(1)), oracle(bytes), "{bytes:02x?}");
        });
    }

    #[test]
    fn bytes_are_accepted_exactly_as_long_as_something_can_complete_them() {
        let all: Vec<u8> = (0..=255).collect();
        for len in 0..=2 {
            each_sequence(&all, len, |bytes| {
                assert_eq!(is_prefix(bytes), oracle_prefix(bytes), "{bytes:02x?}")
            });
        }
        // A third and a fourth byte are continuations or not; the classes hold every border.
        for len in 3..=4 {
            each_sequence(&CLASSES, len, |bytes| {
                assert_eq!(is_valid([bytes]), oracle(bytes), "{bytes:02x?}");
                assert_eq!(is_prefix(bytes), oracle_prefix(bytes), "{bytes:02x?}");
            });
        }
    }

    #[test]
    fn every_code_point_is_accepted_in_one_piece_and_byte_by_byte() {
        for code_point in '\0'..=char::MAX {
            let mut buffer = [0; 4];
            let bytes = code_point.encode_utf8(&mut buffer).as_bytes();
            assert!(is_valid([bytes]) && is_valid(bytes.chunks(1)), "{code_point:?}");
        }
    }

    #[test]
    fn a_fault_is_found_at_any_place_of_a_long_chunk() {
        for len in [1, 15, 16, 17, 63, 64, 65, 125, 255, 256, 257, 300] {
            for at in 0..len {
                let mut text = vec![b'x'; len];
                text[at] = 0xff;
                assert_eq!(Utf8::new().push(&text), Err(InvalidUtf8), "{at} of {len}");
                // An unfinished code point is viable at the end, and nowhere before it.
                text[at] = 0xe2;
                assert_eq!(Utf8::new().push(&text).is_ok(), at == len - 1, "{at} of {len}");
            }
        }
    }

    #[test]
    fn finish_and_a_fault_both_lead_back_to_the_start_of_a_message() {
        let mut utf8 = Utf8::new();
        assert_eq!(utf8.push(b"\xf0\x9f"), Ok(()));
        assert_eq!(utf8.finish(), Err(InvalidUtf8));
        assert_eq!(utf8.push(b"text"), Ok(()));
        assert_eq!(utf8.finish(), Ok(()));
        assert_eq!(utf8.push(b"\xf0\x9f"), Ok(()));
        assert_eq!(utf8.push(b"x"), Err(InvalidUtf8));
        assert_eq!(utf8.finish(), Ok(()));
    }
}
