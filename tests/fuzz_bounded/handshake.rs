//! What holds of the opening handshake for any bytes at all. Used by the fuzz target and by `tests/fuzz.rs`.
//!
//! The last two bytes of the input choose the bound on the head and how the rest is cut in pieces (the last,
//! so that a seed file begins as the HTTP it is). Nothing here knows which inputs are valid: that is the
//! part of the unit tests.

use ringsock::ws::handshake::{Asked, ClientHandshake, Rejection, ResponseError, ServerHandshake};

/// The nonce of RFC 6455 section 1.3, so that its sample response opens.
const NONCE: [u8; 16] = *b"the sample nonce";

/// Panics when `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let Some((stream, &[bound, cut])) = data.split_last_chunk::<2>() else { return };
    let max_head_bytes = if bound >= 128 { 8192 } else { 4 * usize::from(bound) };
    let piece_bytes = 1 + usize::from(cut);
    server_is_blind_to_splits(stream, max_head_bytes, piece_bytes);
    a_page_is_asked_for_by_what_opens_nothing(stream, max_head_bytes, piece_bytes);
    client_is_blind_to_splits(stream, max_head_bytes, piece_bytes);
    request_says_what_was_asked(stream);
}

/// Path, query, the response's text and the head's length.
type Opened = (String, Option<String>, Vec<u8>, usize);

fn serve(stream: &[u8], max_head_bytes: usize, piece_bytes: usize) -> Result<Option<Opened>, Rejection> {
    let mut server = ServerHandshake::new(max_head_bytes);
    for (index, piece) in stream.chunks(piece_bytes).enumerate() {
        if let Some(upgrade) = server.on_bytes(piece)? {
            let head_bytes = index * piece_bytes + upgrade.consumed_bytes();
            let (path, query) = (upgrade.path().to_owned(), upgrade.query().map(str::to_owned));
            return Ok(Some((path, query, upgrade.accept().to_vec(), head_bytes)));
        }
    }
    Ok(None)
}

fn server_is_blind_to_splits(stream: &[u8], max_head_bytes: usize, piece_bytes: usize) {
    let whole = serve(stream, max_head_bytes, stream.len().max(1));
    assert_eq!(serve(stream, max_head_bytes, piece_bytes), whole, "in pieces of {piece_bytes}");
    assert_eq!(serve(stream, max_head_bytes, 1), whole, "byte by byte");
    match whole {
        Ok(None) => assert!(stream.is_empty() || stream.len() < max_head_bytes, "waits past its bound"),
        Ok(Some((path, _, _, head_bytes))) => {
            assert!(path.starts_with('/'));
            assert!(head_bytes <= max_head_bytes && stream[..head_bytes].ends_with(b"\r\n\r\n"));
        }
        Err(rejection) => refusal_is_readable(&rejection),
    }
}

/// Path, and whether the body is to be left out; `None` of what opens.
type Page = Option<(String, bool)>;

fn serve_any(stream: &[u8], max_head_bytes: usize, piece_bytes: usize) -> Result<Option<Page>, Rejection> {
    let mut server = ServerHandshake::new(max_head_bytes);
    for piece in stream.chunks(piece_bytes) {
        match server.on_bytes_of_any(piece)? {
            None => {}
            Some(Asked::Upgrade(_)) => return Ok(Some(None)),
            Some(Asked::Page(page)) => return Ok(Some(Some((page.path.to_owned(), page.is_head)))),
        }
    }
    Ok(None)
}

fn a_page_is_asked_for_by_what_opens_nothing(stream: &[u8], max_head_bytes: usize, piece_bytes: usize) {
    let any = serve_any(stream, max_head_bytes, stream.len().max(1));
    assert_eq!(serve_any(stream, max_head_bytes, piece_bytes), any, "in pieces of {piece_bytes}");
    match (&any, serve(stream, max_head_bytes, piece_bytes)) {
        (Ok(None), Ok(None)) | (Ok(Some(None)), Ok(Some(_))) | (Err(_), Err(_)) => {}
        (Ok(Some(Some((path, false)))), Err(Rejection::UpgradeRequired)) => assert!(path.starts_with('/')),
        (Ok(Some(Some((path, true)))), Err(Rejection::Method)) => assert!(path.starts_with('/')),
        (any, upgrades) => panic!("{any:?} where pages are answered, {upgrades:?} where not"),
    }
}

/// A refusal, read back by our own client, says its status and cause.
fn refusal_is_readable(rejection: &Rejection) {
    match connect(&rejection.response(), 8192, 8192) {
        Err(ResponseError::Status { code, body, .. }) => {
            assert_eq!(code, rejection.status_code());
            assert_eq!(body, format!("{rejection}\n"));
            let length = format!("\r\nContent-Length: {}\r\n", body.len());
            let response = rejection.response();
            assert!(response.windows(length.len()).any(|window| window == length.as_bytes()));
        }
        other => panic!("{rejection:?} reads as {other:?}"),
    }
}

fn connect(stream: &[u8], max_head_bytes: usize, piece_bytes: usize) -> Result<Option<usize>, ResponseError> {
    let mut client = ClientHandshake::new("localhost", 80, "/", NONCE, max_head_bytes).expect("valid");
    for (index, piece) in stream.chunks(piece_bytes).enumerate() {
        if let Some(consumed_bytes) = client.on_bytes(piece)? {
            return Ok(Some(index * piece_bytes + consumed_bytes));
        }
    }
    Ok(None)
}

fn client_is_blind_to_splits(stream: &[u8], max_head_bytes: usize, piece_bytes: usize) {
    // How much an error can quote does depend on the split.
    let outcome = |piece_bytes| {
        connect(stream, max_head_bytes, piece_bytes).map_err(|error| match error {
            ResponseError::Status { code, reason, .. } => format!("{code} {reason}"),
            ResponseError::NotHttp { .. } => "not HTTP".to_owned(),
            other => other.to_string(),
        })
    };
    let whole = outcome(stream.len().max(1));
    assert_eq!(outcome(piece_bytes), whole, "in pieces of {piece_bytes}");
    assert_eq!(outcome(1), whole, "byte by byte");
    if let Ok(Some(head_bytes)) = whole {
        assert!(head_bytes <= max_head_bytes && stream[..head_bytes].ends_with(b"\r\n\r\n"));
    }
}

/// Whatever host and target are asked for, either they are refused, or our server reads back exactly them.
fn request_says_what_was_asked(stream: &[u8]) {
    let text = String::from_utf8_lossy(stream);
    let (host, target) = text.split_once(' ').unwrap_or(("localhost", &text));
    for (host, target) in [(host, target), ("localhost", &format!("/{target}"))] {
        let Ok(mut client) = ClientHandshake::new(host, 9001, target, NONCE, 8192) else { continue };
        let request = client.request();
        let opened = serve(&request, request.len(), request.len());
        let Ok(Some((path, query, response, head_bytes))) = opened else {
            panic!("our own request is not accepted: {opened:?}")
        };
        assert_eq!(head_bytes, request.len());
        assert_eq!(query.map_or(path.clone(), |query| format!("{path}?{query}")), target);
        assert_eq!(client.on_bytes(&response), Ok(Some(response.len())));
    }
}
