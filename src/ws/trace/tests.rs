//! Golden lines for every kind of frame and head, over every split of the bytes.

use super::*;

/// A frame with any first byte; masked by a client.
fn frame(first: u8, sender: Role, payload: &[u8]) -> Vec<u8> {
    let key = [0x12, 0x34, 0x56, 0x78];
    let mask_bit = if sender == Role::Client { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(mask_bit | short as u8),
        medium @ 126..=0xFFFF => {
            bytes.push(mask_bit | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(mask_bit | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    if sender == Role::Client {
        bytes.extend(key);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// The lines told of `pieces`, that of their end among them.
fn lines<'a>(sender: Role, deflate: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut frames = Frames::new(sender, deflate);
    let mut all = Vec::new();
    for piece in pieces {
        frames.on_bytes(piece, |line| all.push(line.to_owned()));
    }
    all.extend(frames.end());
    all
}

/// The same lines over every split in two, and byte by byte.
fn told(sender: Role, deflate: bool, stream: &[u8]) -> Vec<String> {
    let whole = lines(sender, deflate, [stream]);
    assert_eq!(lines(sender, deflate, stream.chunks(1)), whole, "byte by byte");
    for at in 0..=stream.len().min(300) {
        let (one, two) = stream.split_at(at);
        assert_eq!(lines(sender, deflate, [one, two]), whole, "split at {at}");
    }
    whole
}

#[test]
fn a_line_tells_a_frame() {
    let client = |first, payload: &[u8]| frame(first, Role::Client, payload);
    let stream = [
        client(0x81, b"hello"),
        client(0x82, &[0, 1, 0xFE, 0xFF]),
        client(0x81, b""),
        client(0x89, b"\x01?"),
        client(0x8A, b""),
        client(0x88, &[&1000_u16.to_be_bytes()[..], b"bye"].concat()),
        client(0x88, &1001_u16.to_be_bytes()),
        client(0x88, b""),
        client(0x88, b"x"),
    ];
    assert_eq!(
        told(Role::Client, false, &stream.concat()),
        [
            "text FIN masked 5 bytes \"hello\"",
            "binary FIN masked 4 bytes 0001feff",
            "text FIN masked 0 bytes",
            "ping FIN masked 2 bytes 013f",
            "pong FIN masked 0 bytes",
            "close FIN masked 5 bytes 1000 \"bye\"",
            "close FIN masked 2 bytes 1001",
            "close FIN masked 0 bytes",
            "close FIN masked 1 bytes 78",
        ]
    );
    assert_eq!(
        told(Role::Server, false, &frame(0x82, Role::Server, b"echo")),
        ["binary FIN unmasked 4 bytes 6563686f"]
    );
}

#[test]
fn fragments_are_shown_as_what_their_message_is_and_long_ones_cut() {
    let server = |first, payload: &[u8]| frame(first, Role::Server, payload);
    let stream = [
        server(0x01, "grüß ".as_bytes()),
        server(0x89, b"between"),
        server(0x00, "€".repeat(11).as_bytes()),
        server(0x80, b"end"),
        server(0x02, b"ab"),
        server(0x80, b"cd"),
        server(0x82, &[7; 126]),
        server(0x82, &[8; 70_000]),
        server(0x81, b"next"),
    ];
    let euros = "€".repeat(10);
    assert_eq!(
        told(Role::Server, false, &stream.concat()),
        [
            "text unmasked 7 bytes \"grüß \"".to_owned(),
            "ping FIN unmasked 7 bytes 6265747765656e".to_owned(),
            format!("continuation unmasked 33 bytes \"{euros}…\""),
            "continuation FIN unmasked 3 bytes \"end\"".to_owned(),
            "binary unmasked 2 bytes 6162".to_owned(),
            "continuation FIN unmasked 2 bytes 6364".to_owned(),
            format!("binary FIN unmasked 126 bytes {}…", "07".repeat(32)),
            format!("binary FIN unmasked 70000 bytes {}…", "08".repeat(32)),
            "text FIN unmasked 4 bytes \"next\"".to_owned(),
        ]
    );
}

#[test]
fn nothing_that_drives_a_terminal_or_breaks_a_line_gets_through() {
    let text = "\u{1b}[31m\r\n\t\"\\\0\u{9b}\u{202e}\u{7f}";
    let told = told(Role::Server, false, &frame(0x81, Role::Server, text.as_bytes()));
    assert_eq!(
        told,
        ["text FIN unmasked 17 bytes \"\\u{1b}[31m\\r\\n\\t\\\"\\\\\\0\\u{9b}\\u{202e}\\u{7f}\""]
    );
    let broken = lines(Role::Server, false, [&frame(0x81, Role::Server, b"a\xff\xc3")[..]]);
    assert_eq!(broken, ["text FIN unmasked 3 bytes \"a\\xff\\xc3\""]);
}

#[test]
fn a_compressed_message_is_shown_in_hex_and_rsv1_named() {
    let stream = [
        frame(0x41, Role::Client, b"\xf2\x48"),
        frame(0x80, Role::Client, b"\xcd\x00"),
        frame(0x81, Role::Client, b"plain"),
    ];
    assert_eq!(
        told(Role::Client, true, &stream.concat()),
        [
            "text RSV1 masked 2 bytes f248",
            "continuation FIN masked 2 bytes cd00",
            "text FIN masked 5 bytes \"plain\"",
        ]
    );
}

#[test]
fn a_header_that_breaks_the_protocol_is_named_and_nothing_behind_it_is_read() {
    for (deflate, header, line) in [
        (
            false,
            &[0xC1, 0x80][..],
            "text FIN RSV1 masked: fault: reserved bits set without a negotiated extension",
        ),
        (
            true,
            &[0xC0, 0x80],
            "continuation FIN RSV1 masked: fault: reserved bits set without a negotiated extension",
        ),
        (
            false,
            &[0xB1, 0x80],
            "text FIN RSV2 RSV3 masked: fault: reserved bits set without a negotiated extension",
        ),
        (false, &[0x83, 0x80], "opcode 0x3 FIN masked: fault: reserved opcode 0x3"),
        (false, &[0x81, 0x05], "text FIN unmasked: fault: client frame not masked"),
        (false, &[0x09, 0x80], "ping masked: fault: fragmented control frame"),
        (false, &[0x89, 0xFE], "ping FIN masked: fault: control frame longer than 125 bytes"),
        (false, &[0x82, 0xFE, 0, 5], "binary FIN masked: fault: payload length not minimally encoded"),
        (
            false,
            &[0x82, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0],
            "binary FIN masked: fault: payload length of 2^63 or more",
        ),
    ] {
        let stream = [&frame(0x81, Role::Client, b"a"), header, &frame(0x81, Role::Client, b"b")].concat();
        assert_eq!(told(Role::Client, deflate, &stream), ["text FIN masked 1 bytes \"a\"", line]);
    }
}

#[test]
fn what_is_cut_off_is_told_at_the_end() {
    let whole = frame(0x81, Role::Client, &[b'x'; 100]);
    assert_eq!(told(Role::Client, false, &whole[..1]), ["header 81: cut off"]);
    assert_eq!(
        told(Role::Client, false, &whole[..6 + 3]),
        ["text FIN masked 100 bytes \"xxx…\": cut off after 3 of its bytes"]
    );
    let preview = format!("text FIN masked 100 bytes \"{}…\"", "x".repeat(32));
    assert_eq!(
        told(Role::Client, false, &whole[..6 + 99]),
        [preview.clone(), format!("{preview}: cut off after 99 of its bytes")]
    );
    assert_eq!(told(Role::Client, false, &whole), [preview]);
}

#[test]
fn heads_are_told_in_a_line_wherever_they_are_split() {
    let request = b"GET /echo?x HTTP/1.1\r\nHost: a\r\n\r\nframes".as_slice();
    let accepted = b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-protocol: chat\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; x\r\n\r\n"
        .as_slice();
    for at in 0..=request.len() {
        let mut head = HeadText::default();
        let taken = head.take(&request[..at]);
        let taken = taken + head.take(&request[taken..]);
        assert_eq!((taken, head.is_whole()), (request.len() - 6, true), "split at {at}");
        assert_eq!(head.request(), "request \"GET /echo?x HTTP/1.1\", 33 bytes");
    }
    let mut head = HeadText::default();
    head.take(accepted);
    assert!(head.is_whole() && head.accepts() && head.agrees_to_deflate());
    assert_eq!(
        head.answer(b""),
        "accepted \"HTTP/1.1 101 Switching Protocols\", subprotocol \"chat\", extensions \"permessage-deflate; x\""
    );
    let mut head = HeadText::default();
    head.take(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    assert!(!head.accepts() && !head.agrees_to_deflate());
    assert_eq!(head.answer(b"no\n"), "rejected \"HTTP/1.1 403 Forbidden\": \"no\"");
    let mut head = HeadText::default();
    head.take(b"\x16\x03\x01");
    assert_eq!(head.request(), "request \"\\u{16}\\u{3}\\u{1}\", 3 bytes, not whole");
    let mut endless = HeadText::default();
    (0..100).for_each(|_| assert_eq!(endless.take(&[b'x'; 1000]), 1000));
    assert_eq!(endless.kept.len(), HEAD_BYTES);
}
