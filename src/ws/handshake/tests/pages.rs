//! Requests that ask for a page instead of WebSocket.

use super::*;

/// What comes of a request where pages are answered: `upgrade`, the page's path, with `HEAD ` in front, or a status.
fn asked_in(pieces: &[&[u8]]) -> String {
    let mut server = ServerHandshake::new(MAX);
    for piece in pieces {
        match server.on_bytes_of_any(piece) {
            Ok(None) => {}
            Ok(Some(Asked::Upgrade(_))) => return "upgrade".to_owned(),
            Ok(Some(Asked::Page(page))) => {
                return format!("{}{}", if page.is_head { "HEAD " } else { "" }, page.path);
            }
            Err(rejection) => return rejection.status_code().to_string(),
        }
    }
    "nothing".to_owned()
}

fn asked(request: &str) -> String {
    asked_in(&[request.as_bytes()])
}

#[test]
fn a_request_without_anything_of_websocket_is_for_a_page() {
    for (request, expected) in [
        ("GET /stats HTTP/1.1\r\nHost: a\r\n\r\n", "/stats"),
        ("GET /stats?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", "/stats"),
        ("GET http://a/stats HTTP/1.1\r\nHost: a\r\n\r\n", "/stats"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /"),
        // As a proxy writes that always asks to upgrade, and as curl does.
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", "/"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "/"),
        (REQUEST, "upgrade"),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "426"),
        ("GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "426"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "405"),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", "400"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ] {
        assert_eq!(asked(request), expected, "{request}");
        let bytes = request.as_bytes();
        for at in 1..bytes.len() {
            assert_eq!(asked_in(&[&bytes[..at], &bytes[at..]]), expected, "{request}, cut at {at}");
        }
    }
}

#[test]
fn where_no_pages_are_answered_nothing_is_one() {
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 426);
    assert_eq!(status("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
}

#[test]
fn a_refusal_names_the_methods_that_are_taken() {
    let text = |methods| String::from_utf8(Rejection::Method.response_allowing(methods).to_vec()).unwrap();
    assert!(text("GET, HEAD").contains("\r\nAllow: GET, HEAD\r\n"));
    assert!(text("GET").contains("\r\nAllow: GET\r\n"));
    assert!(!String::from_utf8(Rejection::NotFound.response().to_vec()).unwrap().contains("Allow"));
}
