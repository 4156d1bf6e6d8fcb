//! What holds of the incremental validation of text for any bytes at all: however the text is cut, the verdict is the standard
//! library's, and falls with the piece that holds the first impossible byte. Used by the fuzz target and by `tests/fuzz.rs`.
//!
//! The last two bytes of the input choose the pieces, and how much ASCII stands in front, so that short inputs reach what only
//! long chunks do.

use ringsock::ws::utf8::Utf8;

/// Texts up to this long are also cut in two at every place.
const CUT_EVERYWHERE_BYTES: usize = 100;

/// Panics when `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let Some((bytes, &[lead, cut])) = data.split_last_chunk::<2>() else { return };
    let text = [&vec![b'a'; 2 * usize::from(lead)], bytes].concat();
    let expected = impossible_at(&text);
    let agrees = |pieces: &[&[u8]]| assert_eq!(verdict(pieces), verdict_of(expected, pieces), "{pieces:?}");
    agrees(&[&text]);
    agrees(&text.chunks(1).collect::<Vec<_>>());
    agrees(&text.chunks(1 + usize::from(cut)).collect::<Vec<_>>());
    if bytes.len() <= CUT_EVERYWHERE_BYTES {
        for at in text.len() - bytes.len()..=text.len() {
            agrees(&[&text[..at], &[], &text[at..]]);
        }
    }
}

/// Where a text goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Valid,
    /// The piece after which nothing can mend it.
    Impossible(usize),
    /// It ends inside a code point.
    Unfinished,
}

/// The length of the shortest beginning that no continuation makes valid; the text's own length and one more where only the
/// end comes too early. Worked out a byte at a time.
fn impossible_at(text: &[u8]) -> Option<usize> {
    let error = std::str::from_utf8(text).err()?;
    let valid = error.valid_up_to();
    let is_impossible =
        |&end: &usize| std::str::from_utf8(&text[valid..end]).is_err_and(|error| error.error_len().is_some());
    Some((valid + 1..=text.len()).find(is_impossible).unwrap_or(text.len() + 1))
}

fn verdict_of(impossible_at: Option<usize>, pieces: &[&[u8]]) -> Verdict {
    let Some(end) = impossible_at else { return Verdict::Valid };
    let mut seen_bytes = 0;
    for (index, piece) in pieces.iter().enumerate() {
        seen_bytes += piece.len();
        if seen_bytes >= end {
            return Verdict::Impossible(index);
        }
    }
    Verdict::Unfinished
}

fn verdict(pieces: &[&[u8]]) -> Verdict {
    let mut validator = Utf8::new();
    for (index, piece) in pieces.iter().enumerate() {
        if validator.push(piece).is_err() {
            assert_eq!(validator.finish(), Ok(()), "it is at the start of a message again");
            return Verdict::Impossible(index);
        }
    }
    if validator.finish().is_ok() { Verdict::Valid } else { Verdict::Unfinished }
}
