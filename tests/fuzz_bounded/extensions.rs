//! What holds of `Sec-WebSocket-Extensions` for any bytes at all. Used by the fuzz target and by `tests/fuzz.rs`.
//!
//! Each line of the input is a header value; its last two bytes choose what each end wants.

use ringsock::ws::extensions::{AnswerError, DeflateParameters, agree, check, offer, on_answer};

fn wishes(byte: u8) -> DeflateParameters {
    DeflateParameters {
        server_no_context_takeover: byte & 1 != 0,
        client_no_context_takeover: byte & 2 != 0,
        server_max_window_bits: 9 + (byte >> 2) % 7,
        client_max_window_bits: 9 + (byte >> 5) % 7,
    }
}

/// Panics when `data` breaks the property.
pub(crate) fn check_any(data: &[u8]) {
    let Some((text, &[ours, wanted])) = data.split_last_chunk::<2>() else { return };
    let (ours, wanted) = (wishes(ours), wishes(wanted));
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    let is_sound = check(lines.iter().copied()).is_ok();

    let agreed = agree(lines.iter().copied(), &ours);
    assert_eq!(agreed.is_ok(), is_sound);
    // Several lines are one list (RFC 6455, 9.1).
    let joined = lines.join(&b", "[..]);
    if is_sound {
        assert_eq!(agree([&joined[..]], &ours), agreed);
    }
    if let Ok(Some(agreed)) = agreed {
        let parameters = agreed.parameters;
        assert!((9..=ours.server_max_window_bits).contains(&parameters.server_max_window_bits));
        assert!((8..=15).contains(&parameters.client_max_window_bits));
        assert!(parameters.server_no_context_takeover || !ours.server_no_context_takeover);
        assert!(parameters.client_no_context_takeover || !ours.client_no_context_takeover);
        // It says what it means.
        let read_back = on_answer([agreed.answer.as_bytes()], &DeflateParameters::default());
        if parameters.client_max_window_bits >= 9 {
            assert_eq!(read_back, Ok(Some(parameters)), "{}", agreed.answer);
        }
    }

    let answered = on_answer(lines.iter().copied(), &wanted);
    let is_malformed = matches!(answered, Err(AnswerError::Malformed(_)));
    assert_eq!(is_malformed, !is_sound);
    if let Ok(Some(parameters)) = answered {
        assert!((8..=wanted.server_max_window_bits).contains(&parameters.server_max_window_bits));
        assert!((9..=wanted.client_max_window_bits).contains(&parameters.client_max_window_bits));
        assert!(parameters.server_no_context_takeover || !wanted.server_no_context_takeover);
        assert!(parameters.client_no_context_takeover || !wanted.client_no_context_takeover);
    }

    let offered = offer(&wanted);
    let met = agree([offered.as_bytes()], &ours).expect("our own offer is sound").expect("and can be kept");
    assert_eq!(on_answer([met.answer.as_bytes()], &wanted), Ok(Some(met.parameters)));
}
