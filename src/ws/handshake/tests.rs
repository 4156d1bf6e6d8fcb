//! The opening handshake's behaviour: what is accepted, what is refused and with which status, that no split
//! of the input matters, and the exact text of what is sent. Random input is `tests/fuzz.rs`'s part.

use bytes::Bytes;

use super::client::BODY_QUOTE_BYTES_MAX;
use super::*;

mod edges;
mod pages;

const MAX: usize = 4096;

/// The key of RFC 6455 section 1.3, and the nonce it stands for.
const NONCE: [u8; 16] = *b"the sample nonce";

const REQUEST: &str = "GET /echo?size=9 HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What the server made of a request, owned so that splits can be compared.
#[derive(Debug, PartialEq)]
struct Opened {
    path: String,
    query: Option<String>,
    accept: Bytes,
    head_bytes: usize,
}

fn serve<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, max: usize) -> Result<Option<Opened>, Rejection> {
    let mut server = ServerHandshake::new(max);
    let mut before_bytes = 0;
    for piece in pieces {
        if let Some(upgrade) = server.on_bytes(piece)? {
            return Ok(Some(Opened {
                path: upgrade.path().to_owned(),
                query: upgrade.query().map(str::to_owned),
                accept: upgrade.accept(),
                head_bytes: before_bytes + upgrade.consumed_bytes(),
            }));
        }
        before_bytes += piece.len();
    }
    Ok(None)
}

fn serve_whole(request: &str) -> Result<Option<Opened>, Rejection> {
    serve([request.as_bytes()], MAX)
}

/// The status a request is answered with; 0 when it isn't complete.
fn status(request: &str) -> u16 {
    match serve_whole(request) {
        Ok(Some(_)) => 101,
        Ok(None) => 0,
        Err(rejection) => rejection.status_code(),
    }
}

fn connect<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    max: usize,
) -> Result<Option<usize>, ResponseError> {
    let mut client = ClientHandshake::new("server.example.com", 80, "/", NONCE, max).unwrap();
    let mut before_bytes = 0;
    for piece in pieces {
        if let Some(consumed_bytes) = client.on_bytes(piece)? {
            return Ok(Some(before_bytes + consumed_bytes));
        }
        before_bytes += piece.len();
    }
    Ok(None)
}

fn refusal(response: &str) -> String {
    connect([response.as_bytes()], MAX).unwrap_err().to_string()
}

/// `text` without the header line that starts with `name`.
fn without(text: &str, name: &str) -> String {
    assert!(text.contains(name), "{name:?} is not in {text:?}");
    text.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect()
}

/// `text` with `lines` put before its blank line.
fn with(text: &str, lines: &str) -> String {
    format!("{}{lines}\r\n\r\n", text.strip_suffix("\r\n").unwrap())
}

/// `text` with its header line `name: …` replaced by `lines`.
fn instead(text: &str, name: &str, lines: &str) -> String {
    with(&without(text, name), lines)
}

fn first_line(line: &str) -> String {
    format!("{line}\r\n{}", REQUEST.split_once("\r\n").unwrap().1)
}

#[test]
fn accept_key_is_the_one_in_the_rfc() {
    assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn each_request_gets_its_status() {
    let long = format!("X-Long: {}", "x".repeat(MAX));
    let many = |count: usize| "X-Many: x\r\n".repeat(count - 6) + "X-Last: x";
    let cases = [
        ("as in the RFC", REQUEST.to_owned(), 101),
        ("not over yet", REQUEST[..REQUEST.len() - 1].to_owned(), 0),
        ("one empty line in front", format!("\r\n{REQUEST}"), 101),
        ("only empty lines", "\r\n\r\n".to_owned(), 400),
        ("POST", first_line("POST / HTTP/1.1"), 405),
        ("HEAD", first_line("HEAD / HTTP/1.1"), 405),
        ("lower-case method", first_line("get / HTTP/1.1"), 405),
        ("HTTP/1.0", first_line("GET / HTTP/1.0"), 400),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        ("HTTP/0.9", first_line("GET /"), 400),
        ("absolute target", first_line("GET http://server.example.com/echo HTTP/1.1"), 101),
        ("asterisk target", first_line("GET * HTTP/1.1"), 400),
        ("authority target", first_line("GET server.example.com:80 HTTP/1.1"), 400),
        ("foreign scheme", first_line("GET ftp://server.example.com/ HTTP/1.1"), 400),
        ("absolute target without host", first_line("GET http:///echo HTTP/1.1"), 400),
        ("space in target", first_line("GET /a b HTTP/1.1"), 400),
        ("fragment in target", first_line("GET /a#b HTTP/1.1"), 400),
        ("target that is not ASCII", first_line("GET /é HTTP/1.1"), 400),
        ("absolute target with user name", first_line("GET http://me@host/ HTTP/1.1"), 400),
        ("absolute target with a port that is none", first_line("GET http://host:x/ HTTP/1.1"), 400),
        ("HTTP/1.2", first_line("GET / HTTP/1.2"), 400),
        ("HTTP/2.0", first_line("GET / HTTP/2.0"), 400),
        ("OPTIONS", first_line("OPTIONS / HTTP/1.1"), 405),
        ("CONNECT", first_line("CONNECT host:80 HTTP/1.1"), 405),
        ("two spaces in the request line", first_line("GET  / HTTP/1.1"), 400),
        ("space behind the version", first_line("GET / HTTP/1.1 "), 400),
        ("no Host", without(REQUEST, "Host"), 400),
        ("empty Host", instead(REQUEST, "Host", "Host:"), 400),
        ("two Hosts", with(REQUEST, "Host: server.example.com"), 400),
        ("Host that is none", instead(REQUEST, "Host", "Host: a b"), 400),
        ("Host with user name", instead(REQUEST, "Host", "Host: me@a"), 400),
        ("Host with a path", instead(REQUEST, "Host", "Host: a/b"), 400),
        ("list of Hosts", instead(REQUEST, "Host", "Host: a, b"), 400),
        ("Host with two ports", instead(REQUEST, "Host", "Host: a:1:2"), 400),
        ("Host with a port that is none", instead(REQUEST, "Host", "Host: a:b"), 400),
        ("Host with a port beyond all", instead(REQUEST, "Host", "Host: a:65536"), 400),
        ("Host with nothing but a port", instead(REQUEST, "Host", "Host: :80"), 400),
        ("Host with half a bracket", instead(REQUEST, "Host", "Host: [::1"), 400),
        ("Host in brackets that is no address", instead(REQUEST, "Host", "Host: [a]"), 400),
        ("Host with an empty port", instead(REQUEST, "Host", "Host: a:"), 101),
        ("Host in any case", instead(REQUEST, "Host", "hOST:\tEXAMPLE.com:80 "), 101),
        ("IPv6 Host with port", instead(REQUEST, "Host", "Host: [::1]:9001"), 101),
        ("no Upgrade", without(REQUEST, "Upgrade"), 426),
        ("Upgrade to another protocol", instead(REQUEST, "Upgrade", "Upgrade: h2c"), 426),
        ("Upgrade that only begins alike", instead(REQUEST, "Upgrade", "Upgrade: websocket2"), 426),
        ("no Connection", without(REQUEST, "Connection"), 426),
        ("Connection: keep-alive", instead(REQUEST, "Connection", "Connection: keep-alive"), 426),
        ("no version", without(REQUEST, "Sec-WebSocket-Version"), 426),
        ("version 8", instead(REQUEST, "Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 426),
        ("version list", instead(REQUEST, "Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8"), 426),
        ("version twice", with(REQUEST, "Sec-WebSocket-Version: 13"), 426),
        ("no key", without(REQUEST, "Sec-WebSocket-Key"), 400),
        ("two keys", with(REQUEST, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (
            "key of 15 bytes",
            instead(REQUEST, "Sec-WebSocket-Key", "Sec-WebSocket-Key: QUJDREVGR0hJSktMTU5P"),
            400,
        ),
        (
            "key of 17 bytes",
            instead(REQUEST, "Sec-WebSocket-Key", "Sec-WebSocket-Key: QUJDREVGR0hJSktMTU5PUFE="),
            400,
        ),
        (
            "key not base64",
            instead(REQUEST, "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhl!HNhbXBsZSBub25jZQ=="),
            400,
        ),
        (
            "key unpadded",
            instead(REQUEST, "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"),
            400,
        ),
        (
            "key with padding bits",
            instead(REQUEST, "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="),
            101,
        ),
        (
            "key with a space inside",
            instead(REQUEST, "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBu b25jZQ="),
            400,
        ),
        (
            "key of the URL alphabet",
            instead(REQUEST, "Sec-WebSocket-Key", "Sec-WebSocket-Key: ----------------------=="),
            400,
        ),
        (
            "version with a zero in front",
            instead(REQUEST, "Sec-WebSocket-Version", "Sec-WebSocket-Version: 013"),
            426,
        ),
        (
            "version in quotes",
            instead(REQUEST, "Sec-WebSocket-Version", "Sec-WebSocket-Version: \"13\""),
            426,
        ),
        ("lengths that are all zero", with(REQUEST, "Content-Length: 0\r\nContent-Length: 00"), 101),
        ("empty length", with(REQUEST, "Content-Length:"), 400),
        ("length with a sign", with(REQUEST, "Content-Length: +0"), 400),
        ("one length of two that is not zero", with(REQUEST, "Content-Length: 0\r\nContent-Length: 1"), 400),
        ("empty Transfer-Encoding", with(REQUEST, "Transfer-Encoding:"), 400),
        ("tab before the colon", with(REQUEST, "X-Tab\t: a"), 400),
        ("space in a name", with(REQUEST, "X Space: a"), 400),
        ("tab-folded line", with(REQUEST, "X-Folded: a\r\n\tb"), 400),
        ("bare LF at the end of the head", REQUEST.replace("\r\n\r\n", "\r\n\n"), 400),
        ("subprotocols", with(REQUEST, "Sec-WebSocket-Protocol: a, b\r\nsec-websocket-protocol:\tc"), 101),
        ("subprotocols with empty elements", with(REQUEST, "Sec-WebSocket-Protocol: ,a,, b,"), 101),
        ("empty list of subprotocols", with(REQUEST, "Sec-WebSocket-Protocol:"), 101),
        ("subprotocol that is no token", with(REQUEST, "Sec-WebSocket-Protocol: a b"), 400),
        ("subprotocol in quotes", with(REQUEST, "Sec-WebSocket-Protocol: \"a\""), 400),
        ("subprotocol twice in a line", with(REQUEST, "Sec-WebSocket-Protocol: a, b, a"), 400),
        (
            "subprotocol twice, in two lines",
            with(REQUEST, "Sec-WebSocket-Protocol: a\r\nX-Between: x\r\nSec-WebSocket-Protocol: b, a"),
            400,
        ),
        (
            "extensions in two lines",
            with(REQUEST, "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b; c"),
            101,
        ),
        (
            "extensions, the second line of which is none",
            with(REQUEST, "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b;"),
            400,
        ),
        ("extension that is none", with(REQUEST, "Sec-WebSocket-Extensions: a b"), 400),
        ("extension with half a parameter", with(REQUEST, "Sec-WebSocket-Extensions: a; b="), 400),
        (
            "extension quoted so that it is no token",
            with(REQUEST, "Sec-WebSocket-Extensions: a; b=\"c, d\""),
            400,
        ),
        ("body by length", with(REQUEST, "Content-Length: 5"), 400),
        ("length that is no number", with(REQUEST, "Content-Length: -0"), 400),
        ("empty body", with(REQUEST, "Content-Length: 0"), 101),
        ("body in chunks", with(REQUEST, "Transfer-Encoding: chunked"), 400),
        ("100 headers", with(REQUEST, &many(100)), 101),
        ("101 headers", with(REQUEST, &many(101)), 431),
        ("long header", with(REQUEST, &long), 431),
        ("folded line", with(REQUEST, "X-Folded: a\r\n b"), 400),
        ("folded Upgrade", instead(REQUEST, "Upgrade", "Upgrade:\r\n websocket"), 400),
        ("space before the colon", with(REQUEST, "X-Space : a"), 400),
        ("header without a name", with(REQUEST, ": a"), 400),
        ("header without a colon", with(REQUEST, "X-Colonless"), 400),
        ("bare LF", REQUEST.replacen("\r\n", "\n", 1), 400),
        ("bare CR", with(REQUEST, "X-CR: a\rb"), 400),
        ("NUL", with(REQUEST, "X-NUL: \0"), 400),
        ("TLS client hello", "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03".to_owned(), 400),
    ];
    for (label, request, expected) in cases {
        assert_eq!(status(&request), expected, "{label}: {request:?} gave {:?}", serve_whole(&request));
    }
}

#[test]
fn token_lists_allow_any_case_space_empty_elements_and_repeated_lines() {
    for lines in [
        "Connection: keep-alive, Upgrade",
        "connection:upgrade",
        "CONNECTION: \t ,, keep-alive\t,UPGRADE ,, ",
        "Connection: keep-alive\r\nX-Between: x\r\nConnection: upgrade",
        "Connection:\r\nConnection: ,\r\nConnection: upgrade",
    ] {
        assert_eq!(status(&instead(REQUEST, "Connection", lines)), 101, "{lines:?}");
        assert_eq!(connect([instead(RESPONSE, "Connection", lines).as_bytes()], MAX).map(|_| ()), Ok(()));
    }
    for lines in ["Upgrade: h2c, WebSocket", "upgrade: ,WEBSOCKET,", "Upgrade: h2c\r\nUpgrade:\twebsocket\t"]
    {
        assert_eq!(status(&instead(REQUEST, "Upgrade", lines)), 101, "{lines:?}");
    }
    for lines in ["Connection: up grade", "Connection: keep-alive; upgrade", "Connection: \"upgrade\""] {
        assert_eq!(status(&instead(REQUEST, "Connection", lines)), 426, "{lines:?}");
    }
}

#[test]
fn path_and_query_are_told_apart() {
    for (target, path, query) in [
        ("/", "/", None),
        ("/echo", "/echo", None),
        ("/echo?", "/echo", Some("")),
        ("/a?b=http://c/?d", "/a", Some("b=http://c/?d")),
        ("/a%20b//c", "/a%20b//c", None),
        ("/x://y", "/x://y", None),
        ("http://host", "/", None),
        ("HTTP://host:80/echo?x", "/echo", Some("x")),
        ("ws://[::1]:9001?x", "/", Some("x")),
    ] {
        let opened = serve_whole(&first_line(&format!("GET {target} HTTP/1.1"))).unwrap().unwrap();
        assert_eq!((opened.path.as_str(), opened.query.as_deref()), (path, query), "{target}");
    }
}

#[test]
fn offers_are_readable_and_none_is_accepted() {
    let request = with(
        REQUEST,
        "Sec-WebSocket-Protocol: chat.v2,, chat.v1\r\nSec-WebSocket-Extensions: permessage-deflate; x=\"ab\"\r\n\
         sec-websocket-protocol:last \r\nsec-websocket-extensions:  other",
    );
    let mut server = ServerHandshake::new(MAX);
    let upgrade = server.on_bytes(request.as_bytes()).unwrap().unwrap();
    let protocols: [&[u8]; 3] = [b"chat.v2", b"chat.v1", b"last"];
    let extensions: [&[u8]; 2] = [b"permessage-deflate; x=\"ab\"", b"other"];
    assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), protocols);
    assert_eq!(upgrade.extensions().collect::<Vec<_>>(), extensions);
    assert_eq!(upgrade.accept(), RESPONSE);
}

#[test]
fn a_split_request_opens_like_a_whole_one_and_early_frames_stay() {
    let stream = [REQUEST.as_bytes(), b"\x81\x85\r\n\r\n early frame"].concat();
    let whole = serve([&stream[..]], MAX).unwrap().unwrap();
    assert_eq!(whole.head_bytes, REQUEST.len());
    for at in 0..=stream.len() {
        let (one, two) = stream.split_at(at);
        assert_eq!(serve([one, two], MAX).unwrap().as_ref(), Some(&whole), "split at {at}");
    }
    for piece_bytes in 1..=7 {
        let pieces = stream.chunks(piece_bytes);
        assert_eq!(serve(pieces, MAX).unwrap().as_ref(), Some(&whole), "pieces of {piece_bytes}");
    }
}

#[test]
fn a_split_response_opens_like_a_whole_one_and_early_frames_stay() {
    let stream = [RESPONSE.as_bytes(), b"\x81\x05\r\n\r\n early frame"].concat();
    for at in 0..=stream.len() {
        let (one, two) = stream.split_at(at);
        assert_eq!(connect([one, two], MAX), Ok(Some(RESPONSE.len())), "split at {at}");
    }
    for piece_bytes in 1..=7 {
        assert_eq!(connect(stream.chunks(piece_bytes), MAX), Ok(Some(RESPONSE.len())), "{piece_bytes}");
    }
}

#[test]
fn the_head_may_be_as_long_as_the_bound_and_no_longer() {
    let (request, response) = (REQUEST.as_bytes(), RESPONSE.as_bytes());
    for piece_bytes in [1, 7, MAX] {
        assert!(serve(request.chunks(piece_bytes), request.len()).unwrap().is_some());
        let max_head_bytes = request.len() - 1;
        let too_long = HeadError::TooLong { max_head_bytes };
        assert_eq!(serve(request.chunks(piece_bytes), max_head_bytes), Err(too_long.into()));

        assert!(connect(response.chunks(piece_bytes), response.len()).unwrap().is_some());
        let max_head_bytes = response.len() - 1;
        let too_long = HeadError::TooLong { max_head_bytes };
        assert_eq!(connect(response.chunks(piece_bytes), max_head_bytes), Err(too_long.into()));
    }
}

#[test]
fn a_head_that_fills_the_bound_without_ending_is_not_waited_for() {
    let started = &REQUEST.as_bytes()[..64];
    assert_eq!(serve([started], 65), Ok(None));
    assert_eq!(serve([started], 64), Err(HeadError::TooLong { max_head_bytes: 64 }.into()));
}

#[test]
fn a_whole_head_is_not_copied_and_a_split_one_never_outgrows_the_bound() {
    let mut server = ServerHandshake::new(MAX);
    assert!(server.on_bytes(REQUEST.as_bytes()).unwrap().is_some());
    assert_eq!(server.head.kept.capacity(), 0);

    let mut server = ServerHandshake::new(REQUEST.len() + 10);
    for byte in REQUEST.as_bytes() {
        server.on_bytes(std::slice::from_ref(byte)).unwrap();
        assert!(server.head.kept.capacity() <= REQUEST.len() + 10);
    }
}

#[test]
#[should_panic(expected = "a handshake that is over")]
fn bytes_after_the_head_are_the_callers_bug() {
    let mut server = ServerHandshake::new(MAX);
    server.on_bytes(REQUEST.as_bytes()).unwrap().unwrap();
    let _ = server.on_bytes(b"\x81");
}

#[test]
fn responses_read_as_expected() {
    let shown = |rejection: Rejection| String::from_utf8(rejection.response().to_vec()).unwrap();
    let accepted = serve_whole(REQUEST).unwrap().unwrap().accept;
    assert_eq!(
        accepted,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
    assert_eq!(
        shown(serve_whole(&without(REQUEST, "Host")).unwrap_err()),
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 49\r\n\r\nexactly one Host header is needed, naming a host\n"
    );
    assert_eq!(
        shown(Rejection::NotFound),
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 35\r\n\r\nthere is no WebSocket at this path\n"
    );
    assert_eq!(
        shown(serve_whole(&first_line("PUT / HTTP/1.1")).unwrap_err()),
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 25\r\n\r\nWebSocket opens with GET\n"
    );
    assert_eq!(
        shown(serve_whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err()),
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Connection: close, Upgrade\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 79\r\n\r\n\
         only WebSocket is spoken here: send Upgrade: websocket and Connection: Upgrade\n"
    );
    assert_eq!(
        shown(serve([REQUEST.as_bytes()], 64).unwrap_err()),
        "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 33\r\n\r\n\
         the head is longer than 64 bytes\n"
    );
}

#[test]
fn the_clients_request_reads_as_expected_and_our_server_accepts_it() {
    let client = ClientHandshake::new("server.example.com", 9001, "/echo?size=9", NONCE, MAX).unwrap();
    assert_eq!(
        client.request(),
        "GET /echo?size=9 HTTP/1.1\r\nHost: server.example.com:9001\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let opened = serve([&client.request()[..]], MAX).unwrap().unwrap();
    assert_eq!((opened.path.as_str(), opened.query.as_deref()), ("/echo", Some("size=9")));
    assert_eq!(connect([&opened.accept[..]], MAX), Ok(Some(opened.accept.len())));
}

#[test]
fn host_carries_the_port_unless_it_is_the_schemes_own_and_brackets_ipv6() {
    for (host, port, tls, expected) in [
        ("localhost", 80, false, "localhost"),
        ("localhost", 80, true, "localhost:80"),
        ("localhost", 443, true, "localhost"),
        ("127.0.0.1", 9001, false, "127.0.0.1:9001"),
        ("127.0.0.1", 9001, true, "127.0.0.1:9001"),
        ("::1", 80, false, "[::1]"),
        ("::1", 443, true, "[::1]"),
        ("[2001:db8::1]", 443, false, "[2001:db8::1]:443"),
        ("[2001:db8::1]", 8443, true, "[2001:db8::1]:8443"),
    ] {
        let client = ClientHandshake::new(host, port, "/", NONCE, MAX).unwrap();
        let request = if tls { client.over_tls().request() } else { client.request() };
        let request = String::from_utf8(request.to_vec()).unwrap();
        assert!(request.contains(&format!("\r\nHost: {expected}\r\n")), "{request}");
    }
}

#[test]
fn nothing_can_be_smuggled_into_the_request() {
    for host in ["", " ", "a b", "a\r\nX: y", "a/b", "a@b", "host:80", "[::1", "::1]", "[host]", "é"] {
        let error = ClientHandshake::new(host, 80, "/", NONCE, MAX).unwrap_err();
        assert_eq!(error, AddressError::Host(host.to_owned()));
    }
    for target in ["", "echo", "http://a/", "/a b", "/a\r\nX: y", "/a\n", "/\t", "/a#b", "/é", "/\0", "/\x7f"]
    {
        let error = ClientHandshake::new("a", 80, target, NONCE, MAX).unwrap_err();
        assert_eq!(error, AddressError::Target(target.to_owned()));
    }
}

#[test]
fn a_wrong_answer_is_refused_with_its_cause() {
    let accept = "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let cases = [
        (without(RESPONSE, "Upgrade"), "server answered 101 without Upgrade: websocket"),
        (instead(RESPONSE, "Upgrade", "Upgrade: h2c"), "server answered 101 without Upgrade: websocket"),
        (without(RESPONSE, "Connection"), "server answered 101 without Connection: Upgrade"),
        (RESPONSE.replace("1.1", "1.0"), "server answered 101 over HTTP/1.0, not HTTP/1.1"),
        (
            instead(RESPONSE, "Sec-WebSocket-Accept", accept),
            "server answered 101 with Sec-WebSocket-Accept \"AAAAAAAAAAAAAAAAAAAAAAAAAAA=\", not \
             \"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\": it isn't a WebSocket server, or a proxy replayed an older answer",
        ),
        (
            without(RESPONSE, "Sec-WebSocket-Accept"),
            "server answered 101 with Sec-WebSocket-Accept \"\", not \"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\": \
             it isn't a WebSocket server, or a proxy replayed an older answer",
        ),
        (
            with(RESPONSE, "Sec-WebSocket-Extensions: permessage-deflate"),
            "server chose an extension that was not offered: \"permessage-deflate\"",
        ),
        (
            with(RESPONSE, "Sec-WebSocket-Protocol: chat"),
            "server chose a subprotocol that was not offered: \"chat\"",
        ),
        (
            with(RESPONSE, "X-Folded: a\r\n b"),
            "server's answer cannot be read: the head is not well-formed HTTP/1.1: invalid header name",
        ),
        (
            with(RESPONSE, &"X: y\r\n".repeat(HEADERS_MAX)),
            "server's answer cannot be read: the head has more than 100 header lines",
        ),
        (
            with(RESPONSE, &"x".repeat(MAX)),
            "server's answer cannot be read: the head is longer than 4096 bytes",
        ),
        (
            "-ERR unknown command\r\n".to_owned(),
            "server answered \"-ERR unknown com\", which isn't HTTP: check the port, and that it doesn't want \
             TLS (wss)",
        ),
        (
            "\x15\x03\x01\0\x02\x02".to_owned(),
            "server answered \"\\u{15}\\u{3}\\u{1}\\0\\u{2}\\u{2}\", which isn't HTTP: check the port, and that it \
             doesn't want TLS (wss)",
        ),
    ];
    for (response, expected) in cases {
        assert_eq!(refusal(&response), expected, "{response:?}");
    }
}

#[test]
fn any_other_status_is_told_with_a_hint_and_what_the_server_said() {
    let not_found = String::from_utf8(Rejection::NotFound.response().to_vec()).unwrap();
    assert_eq!(
        refusal(&not_found),
        "server answered 404 Not Found instead of 101 Switching Protocols: check the path of the URL \
         (it said \"there is no WebSocket at this path\\n\")"
    );
    assert_eq!(
        refusal("HTTP/1.1 200\r\n\r\n"),
        "server answered 200 instead of 101 Switching Protocols: check that the URL is a WebSocket's"
    );
    let long =
        refusal(&format!("HTTP/1.0 500 Oops\r\n\r\n\x1b[31m{}", "x".repeat(10 * BODY_QUOTE_BYTES_MAX)));
    assert!(long.contains("500 Oops instead") && long.contains("\\u{1b}[31mxxx"), "{long}");
    assert_eq!(long.matches('x').count(), BODY_QUOTE_BYTES_MAX - "\x1b[31m".len(), "{long}");
}
