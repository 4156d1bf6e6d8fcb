//! What holds of a stream of frames for any bytes at all. Used by the fuzz target and by `tests/fuzz.rs`.
//!
//! The last two bytes of the input choose who sends it, the bound on messages, and the pieces it comes in.

use ringsock::ws::frame::Role;

use super::oracle;

/// Streams up to this long are also cut in two at every place.
const CUT_EVERYWHERE_BYTES: usize = 80;

/// Panics when `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let Some((stream, &[who, cut])) = data.split_last_chunk::<2>() else { return };
    let sender = if who % 2 == 0 { Role::Client } else { Role::Server };
    let message_bytes_max = [u64::MAX, 1 << 20, 1000, 20][usize::from(who / 2 % 4)];
    let piece_bytes = 1 + usize::from(cut);
    let expected = oracle::expected(stream, sender, message_bytes_max);
    let agree = |cuts: &[usize]| oracle::agree(&expected, stream, sender, message_bytes_max, cuts);
    agree(&[]);
    agree(&(1..stream.len()).collect::<Vec<_>>());
    agree(&(piece_bytes..stream.len()).step_by(piece_bytes).collect::<Vec<_>>());
    if stream.len() <= CUT_EVERYWHERE_BYTES {
        (1..stream.len()).for_each(|cut| agree(&[cut]));
    }
}
