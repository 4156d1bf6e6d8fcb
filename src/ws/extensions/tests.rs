//! Grammar and negotiation against tables from the RFCs, and each role against the other.

use super::*;

fn agreed(offers: &[&str], ours: DeflateParameters) -> Option<String> {
    agree(offers.iter().map(|offer| offer.as_bytes()), &ours).unwrap().map(|agreement| agreement.answer)
}

fn answered(answer: &str, wanted: DeflateParameters) -> Result<Option<DeflateParameters>, AnswerError> {
    on_answer([answer.as_bytes()], &wanted)
}

const ANY: DeflateParameters = DeflateParameters {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

#[test]
fn what_the_grammar_allows_is_read_and_nothing_else() {
    for good in [
        "",
        " ",
        ",",
        ", ,\t,",
        "a",
        "a, b",
        "a;b;c=d;e=\"f\"",
        " a ; b = c , d ;e= \"f\" ",
        "a;b=\"\\c\"",
        "permessage-deflate; client_max_window_bits, permessage-deflate",
        "!#$%&'*+-.^_`|~09azAZ",
    ] {
        assert_eq!(check([good.as_bytes()]), Ok(()), "{good:?}");
    }
    for bad in [
        ";",
        "=",
        "a;",
        "a;;b",
        "a;=b",
        "a;b=",
        "a;b=\"",
        "a;b=\"c",
        "a;b=\"\"",
        "a;b=\"c d\"",
        "a;b=\"c\"d",
        "a b",
        "a;b c",
        "a;b=c d",
        "a=b",
        "\"a\"",
        "a;\"b\"",
        "a;b=\"\\\"\"",
        "a;b=\"c\\",
        "a;b=c,;",
        "é",
        "a\0",
        "a/b",
    ] {
        assert_eq!(check([bad.as_bytes()]), Err(Malformed), "{bad:?}");
        assert_eq!(agree([bad.as_bytes()], &ANY), Err(Malformed), "{bad:?}");
        assert_eq!(answered(bad, ANY), Err(AnswerError::Malformed(Malformed)), "{bad:?}");
    }
}

#[test]
fn a_fault_in_any_line_is_one_of_all() {
    assert_eq!(check([&b"a"[..], b"b;", b"c"]), Err(Malformed));
    assert_eq!(agree([&b"permessage-deflate"[..], b";"], &ANY), Err(Malformed));
}

#[test]
fn the_first_offer_that_can_be_kept_is_answered() {
    for (offers, answer) in [
        (&[][..], None),
        (&["x-webkit-deflate-frame"][..], None),
        (&["permessage-deflate"][..], Some("permessage-deflate")),
        (&["PerMessage-Deflate"][..], Some("permessage-deflate")),
        (&["other; x=\"y\"", "permessage-deflate"][..], Some("permessage-deflate")),
        (&["permessage-deflate; client_max_window_bits"][..], Some("permessage-deflate")),
        (
            &["permessage-deflate; client_max_window_bits=10"][..],
            Some("permessage-deflate; client_max_window_bits=10"),
        ),
        (
            &["permessage-deflate; client_max_window_bits=8"][..],
            Some("permessage-deflate; client_max_window_bits=8"),
        ),
        (
            &["permessage-deflate; server_max_window_bits=\"1\\2\""][..],
            Some("permessage-deflate; server_max_window_bits=12"),
        ),
        (
            &["permessage-deflate; server_max_window_bits=15"][..],
            Some("permessage-deflate; server_max_window_bits=15"),
        ),
        // 256 bytes cannot be compressed with; the next offer can be kept.
        (&["permessage-deflate; server_max_window_bits=8"][..], None),
        (
            &["permessage-deflate; server_max_window_bits=8, permessage-deflate; server_no_context_takeover"]
                [..],
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        (
            &["permessage-deflate; client_no_context_takeover; server_no_context_takeover"][..],
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
    ] {
        assert_eq!(agreed(offers, ANY).as_deref(), answer, "{offers:?}");
    }
}

#[test]
fn offers_fall_back_in_order_over_lines_elements_and_extensions_unknown() {
    let bits = |bits| Some(format!("permessage-deflate; server_max_window_bits={bits}"));
    for (offers, answer) in [
        // One list, however it is cut into lines.
        (
            &["permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=9"]
                [..],
            bits(9),
        ),
        (
            &["permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9"],
            bits(9),
        ),
        (
            &[
                "permessage-deflate; server_max_window_bits=10",
                "permessage-deflate; server_max_window_bits=9",
            ],
            bits(10),
        ),
        (&["", ",", ", ,\t", "permessage-deflate; server_max_window_bits=9"], bits(9)),
        (
            &[
                "unknown; server_max_window_bits=10; server_max_window_bits=10, permessage-deflate; server_max_window_bits=9",
            ],
            bits(9),
        ),
        // A parameter belongs to the extension before it, and to no other.
        (
            &["permessage-deflate; server_max_window_bits=9, other; server_max_window_bits=10; unknown"],
            bits(9),
        ),
        (&["other; permessage-deflate"], None),
        (&["permessage-deflate2, xpermessage-deflate, permessage_deflate"], None),
        // Space where the grammar has some, and values quoted as they may be.
        (&["\tpermessage-deflate\t;\tserver_max_window_bits\t=\t9\t,\t"], bits(9)),
        (&["permessage-deflate;server_max_window_bits=\"9\""], bits(9)),
        (&["permessage-deflate;server_max_window_bits=\"\\9\""], bits(9)),
        (&["permessage-deflate;server_max_window_bits=\"\\1\\2\""], bits(12)),
        // A parameter in both spellings is there twice.
        (&["permessage-deflate; server_max_window_bits=9; server_max_window_bits=\"9\""], None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
    ] {
        assert_eq!(agreed(offers, ANY), answer, "{offers:?}");
    }
}

#[test]
fn an_answer_is_read_by_the_same_grammar() {
    let narrow = Ok(Some(DeflateParameters { server_max_window_bits: 12, ..ANY }));
    for answer in [
        "permessage-deflate; server_max_window_bits=12",
        "\tPERMESSAGE-DEFLATE\t;\tserver_max_window_bits\t=\t\"12\"\t",
        ", ,permessage-deflate;server_max_window_bits=\"\\1\\2\",,",
    ] {
        assert_eq!(answered(answer, ANY), narrow, "{answer:?}");
    }
    let lines = [&b""[..], b"permessage-deflate", b"permessage-deflate"];
    assert_eq!(on_answer(lines, &ANY), Err(AnswerError::Repeated));
    assert_eq!(
        on_answer([&b"permessage-deflate"[..], b"x;y"], &ANY),
        Err(AnswerError::NotOffered("x".to_owned()))
    );
}

#[test]
fn an_escape_takes_what_follows_whatever_it_is() {
    // A backslash is no token's, escaped or not; an escaped quote does not end the value.
    for bad in ["a;b=\"\\\\\"", "a;b=\"c\\\"\"", "a;b=\"\\,\"", "a;b=\"\\ \"", "a;b=\"c\\\", d=\"e\""] {
        assert_eq!(check([bad.as_bytes()]), Err(Malformed), "{bad:?}");
    }
    assert_eq!(check([&b"a;b=\"\\c\\d\";e"[..]]), Ok(()));
}

#[test]
fn an_offer_with_a_parameter_that_is_unknown_repeated_or_wrong_is_declined() {
    for parameters in [
        "unknown",
        "unknown=1",
        "Server_No_Context_Takeover",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=010",
        "server_max_window_bits=0",
        "server_max_window_bits=+9",
        "server_max_window_bits=999999999999",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=x",
        "client_max_window_bits; client_max_window_bits=10",
    ] {
        assert_eq!(agreed(&[&format!("permessage-deflate; {parameters}")], ANY), None, "{parameters}");
        let fallback = format!("permessage-deflate; {parameters}, permessage-deflate");
        assert_eq!(agreed(&[&fallback], ANY).as_deref(), Some("permessage-deflate"), "{parameters}");
        let answer = format!("permessage-deflate; {parameters}");
        assert_eq!(answered(&answer, ANY), Err(AnswerError::Parameters), "{parameters}");
    }
}

#[test]
fn a_server_asks_for_what_it_wants_as_far_as_it_may() {
    let strict = DeflateParameters {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 10,
        client_max_window_bits: 11,
    };
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10";
    // A client that does not speak of its window cannot be told to narrow it (RFC 7692, 7.1.2.2).
    assert_eq!(agreed(&["permessage-deflate"], strict).as_deref(), Some(both));
    let with_client = format!("{both}; client_max_window_bits=11");
    let offers = ["permessage-deflate; client_max_window_bits; server_max_window_bits=12"];
    assert_eq!(agreed(&offers, strict), Some(with_client));
    let narrow = format!("{}9; client_max_window_bits=10", both.strip_suffix("10").unwrap());
    let offers = ["permessage-deflate; client_max_window_bits=10; server_max_window_bits=9"];
    assert_eq!(agreed(&offers, strict), Some(narrow));
}

#[test]
fn an_answer_binds_the_client_or_fails_the_handshake() {
    let narrow = DeflateParameters { server_max_window_bits: 12, client_max_window_bits: 12, ..ANY };
    let strict = DeflateParameters { server_no_context_takeover: true, ..ANY };
    assert_eq!(answered("", ANY), Ok(None));
    assert_eq!(answered("permessage-deflate", ANY), Ok(Some(ANY)));
    assert_eq!(
        answered("permessage-deflate; client_no_context_takeover; client_max_window_bits=9", ANY),
        Ok(Some(DeflateParameters { client_no_context_takeover: true, client_max_window_bits: 9, ..ANY }))
    );
    assert_eq!(
        answered("permessage-deflate; server_max_window_bits=8", narrow),
        Ok(Some(DeflateParameters { server_max_window_bits: 8, ..narrow }))
    );
    for (answer, wanted) in [
        ("permessage-deflate", strict),
        ("permessage-deflate", narrow),
        ("permessage-deflate; server_max_window_bits=13", narrow),
        ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=13", narrow),
        ("permessage-deflate; client_max_window_bits=8", ANY),
    ] {
        assert!(matches!(answered(answer, wanted), Err(AnswerError::Mismatch(_))), "{answer}");
    }
    assert_eq!(answered("permessage-deflate; client_max_window_bits", ANY), Err(AnswerError::Parameters));
    assert_eq!(answered("permessage-deflate, permessage-deflate", ANY), Err(AnswerError::Repeated));
    assert_eq!(answered("permessage-deflate, x", ANY), Err(AnswerError::NotOffered("x".to_owned())));
}

#[test]
fn whatever_a_client_of_ours_wants_a_server_of_ours_agrees_within_both_wishes() {
    let all = || {
        (0..4 * 49_u8).map(|number| DeflateParameters {
            server_no_context_takeover: number & 1 != 0,
            client_no_context_takeover: number & 2 != 0,
            server_max_window_bits: 9 + number / 4 % 7,
            client_max_window_bits: 9 + number / 28,
        })
    };
    for wanted in all() {
        for ours in all().step_by(3) {
            let offer = offer(&wanted);
            let agreement = agree([offer.as_bytes()], &ours).unwrap().unwrap();
            let theirs = answered(&agreement.answer, wanted).unwrap().unwrap();
            assert_eq!(theirs, agreement.parameters, "{offer} against {ours:?}");
            let least = |a: u8, b: u8| a.min(b);
            let expected = DeflateParameters {
                server_no_context_takeover: wanted.server_no_context_takeover
                    || ours.server_no_context_takeover,
                client_no_context_takeover: wanted.client_no_context_takeover
                    || ours.client_no_context_takeover,
                server_max_window_bits: least(wanted.server_max_window_bits, ours.server_max_window_bits),
                client_max_window_bits: least(wanted.client_max_window_bits, ours.client_max_window_bits),
            };
            assert_eq!(theirs, expected, "{offer} against {ours:?}");
        }
    }
}
