//! Bounds at their very edge, and what both ends agree to, over every split of the bytes.

use super::*;
use crate::ws::extensions::{self, DeflateParameters};
use crate::ws::subprotocol::{self, Subprotocol};

fn names(names: &[&str]) -> Vec<Subprotocol> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Whole, byte by byte, and every split in two.
fn every_split(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let in_two = (0..=bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
    in_two.chain([vec![bytes], bytes.chunks(1).collect()])
}

/// `count` header lines, those of the request among them.
fn with_headers(count: usize) -> String {
    with(REQUEST, ("X:\r\n".repeat(count - 6) + "X:").as_str())
}

#[test]
fn a_head_of_just_the_bound_is_taken_over_every_split_and_a_byte_more_is_not() {
    let request = REQUEST.as_bytes();
    for pieces in every_split(request) {
        let at = pieces[0].len();
        assert!(serve(pieces.clone(), request.len()).unwrap().is_some(), "split at {at}");
        let max_head_bytes = request.len() - 1;
        let too_long = Rejection::Head(HeadError::TooLong { max_head_bytes });
        assert_eq!(too_long.status_code(), 431);
        assert_eq!(serve(pieces, max_head_bytes), Err(too_long), "split at {at}");
    }
}

#[test]
fn as_many_header_lines_as_the_bound_are_taken_over_every_split_and_one_more_is_not() {
    for headers_max in [6, 7, 100, HEADERS_BOUND] {
        for (count, accepted) in [(headers_max, true), (headers_max + 1, false)] {
            let request = if count == 6 { with(REQUEST, "X:") } else { with_headers(count) };
            let splits: Vec<_> = match headers_max {
                // Of each the scan is linear; of all of them it is not.
                ..=100 => every_split(request.as_bytes()).collect(),
                _ => vec![vec![request.as_bytes()], request.as_bytes().chunks(7).collect()],
            };
            for pieces in splits {
                let mut server = ServerHandshake::new(1 << 20).with_headers_max(headers_max);
                let mut result = Ok(None);
                for piece in &pieces {
                    result = server.on_bytes(piece).map(|upgrade| upgrade.map(|upgrade| upgrade.accept()));
                    if !matches!(result, Ok(None)) {
                        break;
                    }
                }
                match accepted {
                    true => assert!(matches!(result, Ok(Some(_))), "{count} of {headers_max}: {result:?}"),
                    false => {
                        let too_many = HeadError::TooManyHeaders { headers_max: headers_max as u16 };
                        assert_eq!(result, Err(too_many.into()), "{count} of {headers_max}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_refusal_says_what_the_bound_is() {
    let mut server = ServerHandshake::new(MAX).with_headers_max(6);
    let rejection = server.on_bytes(with_headers(7).as_bytes()).unwrap_err();
    assert_eq!(
        (rejection.status_code(), rejection.to_string()),
        (431, "the head has more than 6 header lines".into())
    );
    assert!(String::from_utf8_lossy(&Rejection::Origin.response()).starts_with("HTTP/1.1 403 Forbidden\r\n"));
}

#[test]
fn what_both_ends_agree_to_is_the_same_over_every_split_of_what_they_say() {
    let offered = names(&["third", "second", "first"]);
    let wanted = DeflateParameters { server_max_window_bits: 11, ..DeflateParameters::default() };
    let client = || {
        ClientHandshake::new("here", 80, "/", NONCE, MAX)
            .unwrap()
            .offering_subprotocols(offered.clone())
            .offering_deflate(wanted)
    };
    let request = client().request();
    assert!(
        String::from_utf8_lossy(&request).contains("\r\nSec-WebSocket-Protocol: third, second, first\r\n")
    );
    for (spoken, chosen) in [(&["first", "second"][..], Some("second")), (&["other"], None), (&[], None)] {
        let spoken = names(spoken);
        for pieces in every_split(&request) {
            let mut server = ServerHandshake::new(MAX);
            let mut answer = None;
            for piece in pieces {
                if let Some(upgrade) = server.on_bytes(piece).unwrap() {
                    let agreed =
                        extensions::agree(upgrade.extensions(), &DeflateParameters::default()).unwrap();
                    let subprotocol = subprotocol::choose(upgrade.subprotocols(), &spoken);
                    let extensions = agreed.as_ref().map(|agreed| agreed.answer.as_str());
                    answer = Some(upgrade.accept_choosing(&Chosen { subprotocol, extensions }));
                    break;
                }
            }
            let answer = answer.expect("an answer");
            let split_at = answer.len() / 2;
            let mut client = client();
            assert_eq!(client.on_bytes(&answer[..split_at]), Ok(None));
            assert_eq!(client.on_bytes(&answer[split_at..]), Ok(Some(answer.len() - split_at)));
            assert_eq!(client.subprotocol().map(Subprotocol::as_str), chosen);
            assert_eq!(client.deflate(), Some(wanted));
        }
    }
}

#[test]
fn an_answer_may_choose_one_of_those_offered_and_nothing_else() {
    let judge = |lines: &str| {
        let mut client = ClientHandshake::new("here", 80, "/", NONCE, MAX).unwrap();
        client = client.offering_subprotocols(names(&["chat", "v2.chat"]));
        let response = if lines.is_empty() { RESPONSE.to_owned() } else { with(RESPONSE, lines) };
        client.on_bytes(response.as_bytes()).map(|_| client.subprotocol().map(ToString::to_string))
    };
    assert_eq!(judge(""), Ok(None));
    assert_eq!(judge("sec-websocket-protocol:\tv2.chat "), Ok(Some("v2.chat".to_owned())));
    for wrong in ["", "Chat", "other", "chat, v2.chat", "\"chat\""] {
        let error = judge(&format!("Sec-WebSocket-Protocol: {wrong}")).unwrap_err();
        assert_eq!(error, ResponseError::Subprotocol(wrong.to_owned()), "{wrong:?}");
    }
    let twice = judge("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat");
    assert_eq!(twice, Err(ResponseError::Subprotocols));
}

#[test]
fn origins_are_read_from_every_line() {
    let request = with(REQUEST, "Origin: http://a\r\nORIGIN:\tnull ");
    let mut server = ServerHandshake::new(MAX);
    let upgrade = server.on_bytes(request.as_bytes()).unwrap().unwrap();
    let origins: [&[u8]; 2] = [b"http://a", b"null"];
    assert_eq!(upgrade.origins().collect::<Vec<_>>(), origins);
}

#[test]
fn the_answers_extensions_may_come_in_several_lines_with_tabs_and_quotes() {
    let judge = |lines: &str| {
        let mut client = ClientHandshake::new("here", 80, "/", NONCE, MAX).unwrap();
        client = client.offering_deflate(DeflateParameters::default());
        client.on_bytes(with(RESPONSE, lines).as_bytes()).map(|_| client.deflate())
    };
    let bits = DeflateParameters { server_max_window_bits: 12, ..DeflateParameters::default() };
    assert_eq!(
        judge(
            "Sec-WebSocket-Extensions:,\r\nX-Between: x\r\nsec-websocket-extensions:\tpermessage-deflate\t;\tserver_max_window_bits\t=\t\"\\12\"\t,"
        ),
        Ok(Some(bits))
    );
    let repeated =
        judge("Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Extensions: permessage-deflate");
    assert!(matches!(repeated, Err(ResponseError::Answer(_))), "{repeated:?}");
}
