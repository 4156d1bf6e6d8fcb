//! The opening handshake (RFC 6455 section 4), both roles, sans-I/O: HTTP/1.1 bytes in, a decision and bytes out.
//!
//! **Invariant:** the outcome depends on the bytes alone, never on how they were split, and nothing after the
//! blank line is ever taken: those bytes are frames that came early and stay with the caller. Each byte is
//! scanned once and the head is parsed once, so feeding it byte by byte costs no more than linear time. A head
//! that comes whole is read in place; only a split one is copied, into a buffer that never outgrows the bound.
//!
//! **Bounds:** the head's length is the caller's `max_head_bytes`; header lines are at most [`HEADERS_MAX`].
//!
//! **Stricter than HTTP asks:** a line that ends in a bare LF is refused (RFC 9112 section 2.2 lets a recipient
//! accept it, but two readings of where a head ends is how requests get smuggled past proxies), and so are
//! folded lines and control bytes.
//!
//! **Deliberately absent:** sockets, timeouts and randomness (the caller owns the nonce and the deadline);
//! routing (the caller looks at [`Upgrade::path`] and may answer [`Rejection::NotFound`]); redirects, cookies,
//! authentication; agreeing on a subprotocol (offers can be read, none is accepted or made yet). What an offer of
//! permessage-deflate comes to is [`extensions`]' affair.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use httparse::{EMPTY_HEADER, Header};
use sha1::{Digest as _, Sha1};

use super::extensions::{self, AnswerError, DeflateParameters};

#[cfg(test)]
mod tests;

/// Header lines a head may have before it is refused (431 in the server role).
pub const HEADERS_MAX: usize = 100;

/// How much of a refusing server's body an error message quotes, in bytes.
const BODY_QUOTE_BYTES_MAX: usize = 200;

/// Appended to the key before hashing (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Accepts non-zero padding bits: some clients send 22 random characters and `==`, which does decode to
/// 16 bytes, and that is all section 4.2.1 asks of a key.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The `Sec-WebSocket-Accept` value that answers `key`, the `Sec-WebSocket-Key` value as sent
/// (RFC 6455 section 4.2.2, step 5.4).
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    let written_bytes = STANDARD.encode_slice(digest, &mut accept).expect("28 characters hold 20 bytes");
    assert_eq!(written_bytes, accept.len());
    accept
}

// ---------------------------------------------------------------------------------------------------- server

/// The server's side: collects a request head and judges it.
///
/// Call [`on_bytes`](Self::on_bytes) until it gives something other than `Ok(None)`, then drop this: that
/// frees whatever was buffered.
#[derive(Debug)]
pub struct ServerHandshake {
    head: HeadReader,
}

impl ServerHandshake {
    /// A head longer than `max_head_bytes`, blank line included, is refused with 431.
    pub fn new(max_head_bytes: usize) -> Self {
        Self { head: HeadReader::new(max_head_bytes) }
    }

    /// Takes the next bytes from the client: `None` until the head is complete.
    ///
    /// # Errors
    /// [`Rejection`] names what is wrong with the request; send its [`response`](Rejection::response) and close.
    ///
    /// # Panics
    /// When called again after the head was complete.
    pub fn on_bytes<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<Upgrade<'a>>, Rejection> {
        match self.head.on_bytes(bytes)? {
            Some(head) => Upgrade::from_head(head).map(Some),
            None => Ok(None),
        }
    }
}

/// A valid request to speak WebSocket; it borrows from the head.
#[derive(Debug)]
pub struct Upgrade<'a> {
    head: Head<'a>,
    path: &'a str,
    query: Option<&'a str>,
    accept: [u8; 28],
}

impl<'a> Upgrade<'a> {
    /// The checks of RFC 6455 section 4.2.1, the most telling cause first.
    fn from_head(head: Head<'a>) -> Result<Self, Rejection> {
        let mut storage = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut storage);
        head.parsed(request.parse(head.bytes)).map_err(|error| match error {
            HeadError::Malformed(httparse::Error::Version) => Rejection::HttpVersion,
            other => Rejection::Head(other),
        })?;
        ensure(request.version == Some(1), Rejection::HttpVersion)?;
        ensure(request.method == Some("GET"), Rejection::Method)?;
        let (path, query) = request.path.and_then(split_target).ok_or(Rejection::Target)?;
        let key = check_request_headers(request.headers)?;
        extensions::check(values(request.headers, "Sec-WebSocket-Extensions"))
            .map_err(|_| Rejection::Extensions)?;
        Ok(Self { head, path, query, accept: accept_key(key) })
    }

    /// The path asked for, as sent (percent-encoding kept), without the query; it starts with `/`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the `?` of the request target, if there is one.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// How many bytes of the slice last given to [`ServerHandshake::on_bytes`] belong to the head; the rest
    /// are frames already.
    pub fn consumed_bytes(&self) -> usize {
        self.head.consumed_bytes
    }

    /// Subprotocols offered, in the client's order of preference (section 11.3.4).
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a [u8]> {
        self.head.values("Sec-WebSocket-Protocol").flat_map(list_elements)
    }

    /// Extension offers, one raw field value per header line, of the grammar of section 9.1: for [`extensions::agree`].
    pub fn extensions(&self) -> impl Iterator<Item = &'a [u8]> {
        self.head.values("Sec-WebSocket-Extensions")
    }

    /// The 101 response; WebSocket frames follow it (section 4.2.2). Agrees to no subprotocol or extension.
    pub fn accept(&self) -> Bytes {
        self.accept_with(b"")
    }

    /// The same, and agrees to `extensions`, the value of a header field.
    pub fn accept_extended(&self, extensions: &str) -> Bytes {
        self.accept_with(format!("\r\nSec-WebSocket-Extensions: {extensions}").as_bytes())
    }

    fn accept_with(&self, lines: &[u8]) -> Bytes {
        let before: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: ";
        [before, &self.accept, lines, b"\r\n\r\n"].concat().into()
    }
}

/// Why a request is refused; [`response`](Self::response) is what to tell the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not a head that can be read, or one over a bound.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Not HTTP/1.1 (section 4.2.1, item 1). 400, since 505 is for a major version that is unknown.
    #[error("WebSocket opens with an HTTP/1.1 request")]
    HttpVersion,
    /// A method other than GET.
    #[error("WebSocket opens with GET")]
    Method,
    /// Neither `/path` nor `http://host/path`.
    #[error("the request target is neither a path nor an http URL")]
    Target,
    /// A body is announced, which would be mistaken for frames.
    #[error("a request to open a WebSocket has no body")]
    Body,
    /// Host missing, repeated, or not a host (RFC 9112 section 3.2).
    #[error("exactly one Host header is needed, naming a host")]
    Host,
    /// A plain HTTP request: `Upgrade` lacks `websocket` or `Connection` lacks `Upgrade`.
    #[error("only WebSocket is spoken here: send Upgrade: websocket and Connection: Upgrade")]
    UpgradeRequired,
    /// `Sec-WebSocket-Version` is not 13 (section 4.4).
    #[error("only Sec-WebSocket-Version: 13 is spoken here")]
    WebSocketVersion,
    /// `Sec-WebSocket-Key` missing, repeated, or not the base64 of 16 bytes.
    #[error("exactly one Sec-WebSocket-Key header is needed, the base64 of 16 bytes")]
    Key,
    /// `Sec-WebSocket-Extensions` breaks the grammar (section 9.1).
    #[error("Sec-WebSocket-Extensions has to be a list of extensions with parameters (RFC 6455, 9.1)")]
    Extensions,
    /// The caller's verdict on [`Upgrade::path`].
    #[error("there is no WebSocket at this path")]
    NotFound,
    /// The caller's verdict on its own load.
    #[error("there are as many connections as this server takes")]
    Busy,
    /// The caller's verdict on how many connections the client's address has. 429 (RFC 6585, 4) tells the client that it is
    /// about itself; 503 would have a proxy take the server for overloaded.
    #[error("there are as many connections from this address as this server takes")]
    TooManyFromAddress,
}

impl Rejection {
    /// The HTTP status of the response: 400, 404, 405, 426, 429, 431 or 503.
    pub fn status_code(&self) -> u16 {
        match self {
            Self::Head(HeadError::TooLong { .. } | HeadError::TooManyHeaders) => 431,
            Self::Head(_) | Self::HttpVersion | Self::Target | Self::Body | Self::Host | Self::Key => 400,
            Self::Extensions => 400,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::UpgradeRequired | Self::WebSocketVersion => 426,
            Self::TooManyFromAddress => 429,
            Self::Busy => 503,
        }
    }

    /// The whole response, its body naming the cause in one line of text. Close once it is sent.
    pub fn response(&self) -> Bytes {
        // A 426 must carry Upgrade, and whoever sends Upgrade must list it in Connection (RFC 9110 sections
        // 15.5.22 and 7.8); the version tells the client what to retry with (RFC 6455 section 4.4).
        let (reason, fields) = match self.status_code() {
            404 => ("Not Found", "Connection: close\r\n"),
            405 => ("Method Not Allowed", "Allow: GET\r\nConnection: close\r\n"),
            426 => (
                "Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: close, Upgrade\r\n",
            ),
            429 => ("Too Many Requests", "Connection: close\r\n"),
            503 => ("Service Unavailable", "Connection: close\r\n"),
            431 => ("Request Header Fields Too Large", "Connection: close\r\n"),
            _ => ("Bad Request", "Connection: close\r\n"),
        };
        let code = self.status_code();
        let body = format!("{self}\n");
        let body_bytes = body.len();
        format!(
            "HTTP/1.1 {code} {reason}\r\n{fields}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {body_bytes}\r\n\r\n{body}"
        )
        .into()
    }
}

/// Gives back the key.
fn check_request_headers<'a>(headers: &[Header<'a>]) -> Result<&'a [u8], Rejection> {
    let is_zero = |length: &[u8]| !length.is_empty() && length.iter().all(|&digit| digit == b'0');
    ensure(values(headers, "Transfer-Encoding").next().is_none(), Rejection::Body)?;
    ensure(values(headers, "Content-Length").all(is_zero), Rejection::Body)?;
    ensure(only_value(headers, "Host").is_some_and(is_authority), Rejection::Host)?;
    ensure(lists(headers, "Upgrade", "websocket"), Rejection::UpgradeRequired)?;
    ensure(lists(headers, "Connection", "upgrade"), Rejection::UpgradeRequired)?;
    ensure(only_value(headers, "Sec-WebSocket-Version") == Some(b"13"), Rejection::WebSocketVersion)?;
    only_value(headers, "Sec-WebSocket-Key").filter(|key| is_key(key)).ok_or(Rejection::Key)
}

fn ensure(holds: bool, rejection: Rejection) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(rejection) }
}

fn is_key(key: &[u8]) -> bool {
    // The decoder wants room for whole groups of three bytes.
    key.len() == 24 && KEY_BASE64.decode_slice(key, &mut [0; 18]) == Ok(16)
}

/// Path and query of an origin-form or absolute-form target (RFC 9112 section 3.2).
fn split_target(target: &str) -> Option<(&str, Option<&str>)> {
    let origin = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, origin) = rest.split_at(authority_bytes);
        let is_http = ["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        if !is_http || !is_authority(authority.as_bytes()) {
            return None;
        }
        origin
    };
    let (path, query) = match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    };
    Some((if path.is_empty() { "/" } else { path }, query))
}

// ---------------------------------------------------------------------------------------------------- client

/// The client's side: send [`request`](Self::request), then give what comes back to
/// [`on_bytes`](Self::on_bytes).
#[derive(Debug)]
pub struct ClientHandshake {
    request: Bytes,
    accept: [u8; 28],
    head: HeadReader,
    /// What was offered of permessage-deflate, and what of it was agreed to.
    offered: Option<DeflateParameters>,
    agreed: Option<DeflateParameters>,
}

impl ClientHandshake {
    /// `host` is a name, an IPv4 address, or an IPv6 address with or without brackets; `target` is the path,
    /// with the query if any. `nonce` must be fresh random bytes (section 4.1, item 7). The answer's head may
    /// be `max_head_bytes` long, blank line included.
    ///
    /// # Errors
    /// [`AddressError`] when `host` or `target` cannot stand in a request, so neither can smuggle in a line.
    pub fn new(
        host: &str,
        port: u16,
        target: &str,
        nonce: [u8; 16],
        max_head_bytes: usize,
    ) -> Result<Self, AddressError> {
        let is_target = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !target.starts_with('/') || !target.bytes().all(is_target) {
            return Err(AddressError::Target(target.to_owned()));
        }
        let authority = authority(host, port)?;
        let key = STANDARD.encode(nonce);
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let accept = accept_key(key.as_bytes());
        let head = HeadReader::new(max_head_bytes);
        Ok(Self { request: request.into(), accept, head, offered: None, agreed: None })
    }

    /// The same, and offers permessage-deflate with these parameters.
    pub fn offering_deflate(mut self, wanted: DeflateParameters) -> Self {
        let before = &self.request[..self.request.len() - 2];
        let line = format!("Sec-WebSocket-Extensions: {}\r\n\r\n", extensions::offer(&wanted));
        self.request = [before, line.as_bytes()].concat().into();
        self.offered = Some(wanted);
        self
    }

    /// What the server agreed to of the permessage-deflate that was offered, once its head is complete.
    pub fn deflate(&self) -> Option<DeflateParameters> {
        self.agreed
    }

    /// The request, to be sent first.
    pub fn request(&self) -> Bytes {
        self.request.clone()
    }

    /// Takes the next bytes from the server: `None` until its head is complete, then how many bytes of this
    /// slice belong to the head; the rest are frames already.
    ///
    /// # Errors
    /// [`ResponseError`] names what is wrong with the answer; close the connection.
    ///
    /// # Panics
    /// When called again after the head was complete.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Result<Option<usize>, ResponseError> {
        self.check_is_http(bytes)?;
        let Some(head) = self.head.on_bytes(bytes)? else { return Ok(None) };
        let mut storage = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut storage);
        head.parsed(response.parse(head.bytes))?;
        check_response(&response, &self.accept, &bytes[head.consumed_bytes..])?;
        self.agreed = check_extensions(response.headers, self.offered.as_ref())?;
        Ok(Some(head.consumed_bytes))
    }

    /// Something that isn't HTTP may never send a blank line: notice it at its first bytes, not at a timeout.
    fn check_is_http(&self, bytes: &[u8]) -> Result<(), ResponseError> {
        let expected = b"HTTP/".iter().take(self.head.max_head_bytes).skip(self.head.kept.len());
        if expected.zip(bytes).all(|(expected, byte)| expected == byte) {
            return Ok(());
        }
        Err(ResponseError::NotHttp { start: quote(bytes, 16) })
    }
}

/// The checks of RFC 6455 section 4.1, second list. `rest` is what came after the head.
fn check_response(
    response: &httparse::Response<'_, '_>,
    accept: &[u8; 28],
    rest: &[u8],
) -> Result<(), ResponseError> {
    let code = response.code.unwrap_or(0);
    if code != 101 {
        let reason = response.reason.unwrap_or("").to_owned();
        return Err(ResponseError::Status { code, reason, body: quote(rest, BODY_QUOTE_BYTES_MAX) });
    }
    let headers: &[Header<'_>] = response.headers;
    if response.version != Some(1) {
        return Err(ResponseError::HttpVersion);
    }
    if !lists(headers, "Upgrade", "websocket") {
        return Err(ResponseError::Upgrade);
    }
    if !lists(headers, "Connection", "upgrade") {
        return Err(ResponseError::Connection);
    }
    if only_value(headers, "Sec-WebSocket-Accept") != Some(accept) {
        let got = values(headers, "Sec-WebSocket-Accept").map(String::from_utf8_lossy).collect::<Vec<_>>();
        let expected = String::from_utf8_lossy(accept).into_owned();
        return Err(ResponseError::Accept { expected, got: got.join(", ") });
    }
    if let Some(protocol) = values(headers, "Sec-WebSocket-Protocol").next() {
        return Err(ResponseError::Subprotocol(quote(protocol, BODY_QUOTE_BYTES_MAX)));
    }
    Ok(())
}

/// What was agreed to, of what was offered.
fn check_extensions(
    headers: &[Header<'_>],
    offered: Option<&DeflateParameters>,
) -> Result<Option<DeflateParameters>, ResponseError> {
    let mut answer = values(headers, "Sec-WebSocket-Extensions");
    match offered {
        Some(wanted) => Ok(extensions::on_answer(answer, wanted)?),
        None => match answer.find_map(|value| list_elements(value).next()) {
            Some(extension) => Err(ResponseError::Extension(quote(extension, BODY_QUOTE_BYTES_MAX))),
            None => Ok(None),
        },
    }
}

/// The value of Host: the port left out when it is the scheme's own, IPv6 in brackets.
fn authority(host: &str, port: u16) -> Result<String, AddressError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_ipv6 = bare.unwrap_or(host).parse::<core::net::Ipv6Addr>().is_ok();
    let is_name = !host.contains([':', '[', ']']) && is_authority(host.as_bytes());
    if !is_ipv6 && !is_name {
        return Err(AddressError::Host(host.to_owned()));
    }
    let host = if is_ipv6 { format!("[{}]", bare.unwrap_or(host)) } else { host.to_owned() };
    Ok(if port == 80 { host } else { format!("{host}:{port}") })
}

/// A host or target that cannot stand in a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Empty, or with characters that no host has.
    #[error("{0:?} is not a host: give a name, an IPv4 or an IPv6 address, without the port")]
    Host(String),
    /// Not starting with `/`, or with a space, `#`, control or non-ASCII character.
    #[error("{0:?} is not a path: start it with / and percent-encode spaces, # and whatever isn't ASCII")]
    Target(String),
}

/// Why the server's answer does not open a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not a head that can be read, or one over a bound.
    #[error("server's answer cannot be read: {0}")]
    Head(#[from] HeadError),
    /// Another protocol, seen from its first bytes.
    #[error(
        "server answered {start:?}, which isn't HTTP: check the port, and that it doesn't want TLS (wss)"
    )]
    NotHttp {
        /// Its first bytes.
        start: String,
    },
    /// Any status but 101, with as much of the body as had come along with the head.
    #[error("server answered {code}{}{reason} instead of 101 Switching Protocols: {}{}",
        if reason.is_empty() { "" } else { " " }, status_hint(*code), said(body))]
    Status {
        /// The status code.
        code: u16,
        /// The reason phrase; may be empty.
        reason: String,
        /// The start of the body.
        body: String,
    },
    /// 101 over HTTP/1.0, which has no upgrade.
    #[error("server answered 101 over HTTP/1.0, not HTTP/1.1")]
    HttpVersion,
    /// `Upgrade` does not say `websocket`.
    #[error("server answered 101 without Upgrade: websocket")]
    Upgrade,
    /// `Connection` does not list `Upgrade`.
    #[error("server answered 101 without Connection: Upgrade")]
    Connection,
    /// Missing, repeated, or not the answer to our key.
    #[error(
        "server answered 101 with Sec-WebSocket-Accept {got:?}, not {expected:?}: \
        it isn't a WebSocket server, or a proxy replayed an older answer"
    )]
    Accept {
        /// What our key asks for.
        expected: String,
        /// What came, joined by commas; empty if nothing did.
        got: String,
    },
    /// An extension that was not offered (section 4.1).
    #[error("server chose an extension that was not offered: {0:?}")]
    Extension(String),
    /// An answer that does not fit the extension that was offered.
    #[error("server answered with {0}")]
    Answer(#[from] AnswerError),
    /// A subprotocol that was not offered (section 4.1).
    #[error("server chose a subprotocol that was not offered: {0:?}")]
    Subprotocol(String),
}

/// The tail of a status error; nothing when no body came.
fn said(body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(" (it said {body:?})") }
}

fn status_hint(code: u16) -> &'static str {
    match code {
        300..=399 => "it redirects, so give the URL it points to",
        401 | 403 | 407 => "it refuses this client",
        404 | 410 => "check the path of the URL",
        429 | 503 => "it refuses more connections for now",
        500..=599 => "it failed",
        _ => "check that the URL is a WebSocket's",
    }
}

/// The start of what a peer sent; shown with `{:?}`, so that nothing in it can drive a terminal.
fn quote(bytes: &[u8], max_bytes: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(max_bytes)]).into_owned()
}

// -------------------------------------------------------------------------------------------------- the head

/// Why a head, request's or response's, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// No blank line within the bound.
    #[error("the head is longer than {max_head_bytes} bytes")]
    TooLong {
        /// The bound.
        max_head_bytes: usize,
    },
    /// More than [`HEADERS_MAX`] header lines.
    #[error("the head has more than {HEADERS_MAX} header lines")]
    TooManyHeaders,
    /// A line ends in LF without CR.
    #[error("a line of the head ends in LF alone, not CRLF")]
    BareLineFeed,
    /// A byte that no head has; what a TLS client sends first is one.
    #[error("the head holds control byte {0:#04x} (is this TLS on a port that speaks plain text?)")]
    ControlByte(u8),
    /// Whatever else breaks the grammar, folded lines among it.
    #[error("the head is not well-formed HTTP/1.1: {0}")]
    Malformed(httparse::Error),
}

/// Finds the blank line, keeping what came before it only when the head is split.
#[derive(Debug)]
struct HeadReader {
    kept: Vec<u8>,
    max_head_bytes: usize,
    /// How much of CR LF CR LF the last bytes match; 4 once the head is complete.
    blank_line_bytes: u8,
}

impl HeadReader {
    const fn new(max_head_bytes: usize) -> Self {
        Self { kept: Vec::new(), max_head_bytes, blank_line_bytes: 0 }
    }

    fn on_bytes<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<Head<'a>>, HeadError> {
        assert!(self.blank_line_bytes < 4, "bytes given to a handshake that is over");
        match self.scan(bytes)? {
            Some(consumed_bytes) if self.kept.is_empty() => {
                Ok(Some(Head { bytes: &bytes[..consumed_bytes], consumed_bytes }))
            }
            Some(consumed_bytes) => {
                self.keep(&bytes[..consumed_bytes]);
                Ok(Some(Head { bytes: &self.kept, consumed_bytes }))
            }
            None => {
                self.keep(bytes);
                Ok(None)
            }
        }
    }

    /// Looks for the end of the head in `bytes`: how many of them belong to it.
    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        let room_bytes = self.max_head_bytes - self.kept.len();
        for (index, &byte) in bytes.iter().take(room_bytes).enumerate() {
            self.blank_line_bytes = match (byte, self.blank_line_bytes) {
                (b'\r', 2) => 3,
                (b'\r', _) => 1,
                (b'\n', 1) => 2,
                (b'\n', 3) => {
                    self.blank_line_bytes = 4;
                    return Ok(Some(index + 1));
                }
                (b'\n', _) => return Err(HeadError::BareLineFeed),
                (b'\t' | b' '..=b'~' | 0x80.., _) => 0,
                _ => return Err(HeadError::ControlByte(byte)),
            };
        }
        if bytes.len() < room_bytes {
            return Ok(None);
        }
        Err(HeadError::TooLong { max_head_bytes: self.max_head_bytes })
    }

    /// Doubles like a `Vec`, but never past the bound. `scan` has checked that `bytes` fit.
    fn keep(&mut self, bytes: &[u8]) {
        let needed_bytes = self.kept.len() + bytes.len();
        if needed_bytes > self.kept.capacity() {
            let capacity_bytes = needed_bytes.max(2 * self.kept.capacity()).min(self.max_head_bytes);
            self.kept.reserve_exact(capacity_bytes - self.kept.len());
        }
        self.kept.extend_from_slice(bytes);
    }
}

/// A complete head, blank line included.
#[derive(Debug, Clone, Copy)]
struct Head<'a> {
    bytes: &'a [u8],
    /// How much of the slice last given it took.
    consumed_bytes: usize,
}

impl<'a> Head<'a> {
    /// The parser must have ended exactly where the scan did: should the two ever read a head differently,
    /// it is refused.
    fn parsed(&self, result: httparse::Result<usize>) -> Result<(), HeadError> {
        match result {
            Ok(httparse::Status::Complete(parsed_bytes)) if parsed_bytes == self.bytes.len() => Ok(()),
            Ok(_) => Err(HeadError::Malformed(httparse::Error::NewLine)),
            Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyHeaders),
            Err(other) => Err(HeadError::Malformed(other)),
        }
    }

    /// Field values by name, from the text itself: the parsed headers would have to be kept on the heap.
    /// Sound because a head that parsed has one field per line, and no field name holds a space, so the
    /// request line cannot match.
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.split(|&byte| byte == b'\n').filter_map(move |line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let is_named = line[..colon].eq_ignore_ascii_case(name.as_bytes());
            is_named.then(|| line[colon + 1..].trim_ascii())
        })
    }
}

fn values<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

/// The value of a field that must stand exactly once.
fn only_value<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let mut found = values(headers, name);
    found.next().filter(|_| found.next().is_none())
}

/// Whether the comma-separated list, over all lines of that name (RFC 9110 section 5.3), holds `token`.
fn lists(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name).flat_map(list_elements).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// Elements of a comma-separated list, the empty ones left out (RFC 9110 section 5.6.1.2).
fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Whether only characters of a host and port (RFC 3986 section 3.2.2) stand here, and at least one.
fn is_authority(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte);
    !value.is_empty() && value.iter().all(is_allowed)
}
