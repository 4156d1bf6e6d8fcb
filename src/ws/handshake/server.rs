//! The server's role: a request head in, an [`Upgrade`] or a [`Rejection`] out, and the bytes that answer it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use httparse::Header;

use super::head::{Head, HeadReader, is_authority, list_elements, lists, only_value, storage, values};
use super::subprotocol::{self, Subprotocol};
use super::{HEADERS_BOUND, HeadError, accept_key, extensions};

/// Accepts non-zero padding bits: some clients send 22 random characters and `==`, which does decode to
/// 16 bytes, and that is all section 4.2.1 asks of a key.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The server's side: collects a request head and judges it.
///
/// Call [`on_bytes`](Self::on_bytes) until it gives something other than `Ok(None)`, then drop this: that
/// frees whatever was buffered.
#[derive(Debug)]
pub struct ServerHandshake {
    pub(super) head: HeadReader,
}

impl ServerHandshake {
    /// A head longer than `max_head_bytes`, blank line included, is refused with 431.
    pub fn new(max_head_bytes: usize) -> Self {
        Self { head: HeadReader::new(max_head_bytes) }
    }

    /// The same, and more than `headers_max` header lines are refused with 431; at most [`HEADERS_BOUND`].
    pub fn with_headers_max(mut self, headers_max: usize) -> Self {
        self.head.headers_max = headers_max.min(HEADERS_BOUND) as u16;
        self
    }

    /// Takes the next bytes from the client: `None` until the head is complete.
    ///
    /// # Errors
    /// [`Rejection`] names what is wrong with the request; send its [`response`](Rejection::response) and close.
    ///
    /// # Panics
    /// When called again after the head was complete.
    pub fn on_bytes<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<Upgrade<'a>>, Rejection> {
        let Some(head) = self.head.on_bytes(bytes)? else { return Ok(None) };
        match Asked::from_head(head, false)? {
            Asked::Upgrade(upgrade) => Ok(Some(upgrade)),
            Asked::Page(_) => Err(Rejection::UpgradeRequired),
        }
    }

    /// Whether it was a HEAD request that ended with `bytes`, the last that were given.
    pub fn is_head(&self, bytes: &[u8]) -> bool {
        let head = if self.head.kept.is_empty() { bytes } else { &self.head.kept };
        head.starts_with(b"HEAD ")
    }

    /// As [`on_bytes`](Self::on_bytes), where requests for pages are answered too.
    ///
    /// # Errors
    /// As [`on_bytes`](Self::on_bytes), but for what asks for a page.
    ///
    /// # Panics
    /// As [`on_bytes`](Self::on_bytes).
    pub fn on_bytes_of_any<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<Asked<'a>>, Rejection> {
        match self.head.on_bytes(bytes)? {
            Some(head) => Asked::from_head(head, true).map(Some),
            None => Ok(None),
        }
    }
}

/// What a request asks for.
#[derive(Debug)]
pub enum Asked<'a> {
    /// To speak WebSocket.
    Upgrade(Upgrade<'a>),
    /// A page.
    Page(PageRequest<'a>),
}

/// A GET or HEAD that has nothing of WebSocket about it; it borrows from the head.
///
/// A request with `Sec-WebSocket-Key` and without `Upgrade` is none: it comes from a client of ours, and through a proxy that
/// took the `Upgrade` away (RFC 9110 section 7.8), which is to be told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<'a> {
    /// As [`Upgrade::path`].
    pub path: &'a str,
    /// Whether the answer is to come without its body (RFC 9110 section 9.3.2).
    pub is_head: bool,
}

impl<'a> Asked<'a> {
    /// The checks of RFC 6455 section 4.2.1, the most telling cause first; `takes_pages`: of those that RFC 9112 makes, if it is a page
    /// that is asked for.
    fn from_head(head: Head<'a>, takes_pages: bool) -> Result<Self, Rejection> {
        let mut storage = storage();
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(head.bytes, head.room(&mut storage));
        head.parsed(parsed).map_err(|error| match error {
            HeadError::Malformed(httparse::Error::Version) => Rejection::HttpVersion,
            other => Rejection::Head(other),
        })?;
        ensure(request.version == Some(1), Rejection::HttpVersion)?;
        let is_page = takes_pages
            && !lists(request.headers, "Upgrade", "websocket")
            && values(request.headers, "Sec-WebSocket-Key").next().is_none();
        let is_head = is_page && request.method == Some("HEAD");
        ensure(is_head || request.method == Some("GET"), Rejection::Method)?;
        let (path, query) = request.path.and_then(split_target).ok_or(Rejection::Target)?;
        check_framing(request.headers)?;
        if is_page {
            return Ok(Self::Page(PageRequest { path, is_head }));
        }
        let key = check_request_headers(request.headers)?;
        extensions::check(values(request.headers, "Sec-WebSocket-Extensions"))
            .map_err(|_| Rejection::Extensions)?;
        let offered = values(request.headers, "Sec-WebSocket-Protocol").flat_map(list_elements);
        subprotocol::check(offered).map_err(|_| Rejection::Subprotocol)?;
        Ok(Self::Upgrade(Upgrade { head, path, query, accept: accept_key(key) }))
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

    /// Values of Origin header lines, of which a browser sends one (section 4.1, item 8).
    pub fn origins(&self) -> impl Iterator<Item = &'a [u8]> {
        self.head.values("Origin")
    }

    /// Subprotocols offered, in the client's order of preference (section 11.3.4), for [`subprotocol::choose`]; each is a
    /// token and there once.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a [u8]> {
        self.head.values("Sec-WebSocket-Protocol").flat_map(list_elements)
    }

    /// Extension offers, one raw field value per header line, of the grammar of section 9.1: for [`extensions::agree`].
    pub fn extensions(&self) -> impl Iterator<Item = &'a [u8]> {
        self.head.values("Sec-WebSocket-Extensions")
    }

    /// The 101 response; WebSocket frames follow it (section 4.2.2). Agrees to no subprotocol or extension.
    pub fn accept(&self) -> Bytes {
        self.accept_choosing(&Chosen::default())
    }

    /// The same, and agrees to what was `chosen` of the client's offers.
    pub fn accept_choosing(&self, chosen: &Chosen<'_>) -> Bytes {
        let before: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: ";
        let mut response = [before, &self.accept, b"\r\n"].concat();
        let mut add = |line: String| response.extend_from_slice(line.as_bytes());
        if let Some(name) = chosen.subprotocol {
            add(format!("Sec-WebSocket-Protocol: {name}\r\n"));
        }
        if let Some(extensions) = chosen.extensions {
            add(format!("Sec-WebSocket-Extensions: {extensions}\r\n"));
        }
        response.extend_from_slice(b"\r\n");
        response.into()
    }
}

/// What a server agrees to, of a client's offers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chosen<'a> {
    /// One of [`Upgrade::subprotocols`].
    pub subprotocol: Option<&'a Subprotocol>,
    /// The value of `Sec-WebSocket-Extensions`, from [`extensions::agree`].
    pub extensions: Option<&'a str>,
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
    /// `Sec-WebSocket-Protocol` breaks the grammar, or names something twice (section 4.1, item 10).
    #[error("Sec-WebSocket-Protocol has to be a list of names, each of them once")]
    Subprotocol,
    /// The caller's verdict on [`Upgrade::origins`] (section 4.2.2, item 4).
    #[error("pages of this origin may not connect here")]
    Origin,
    /// The caller's verdict on [`Upgrade::path`].
    #[error("there is no WebSocket at this path")]
    NotFound,
    /// The same, of a path that other servers of this kind answer at.
    #[error(
        "scenario {scenario} is not served here: start the server with --scenarios {scenario}, or --scenarios all"
    )]
    NotServed {
        /// What the path stands for.
        scenario: &'static str,
    },
    /// The caller's verdict on [`Upgrade::path`] or [`Upgrade::query`], with what would be right.
    #[error("{0}")]
    Parameter(String),
    /// The caller's verdict on its own load.
    #[error("there are as many connections as this server takes")]
    Busy,
    /// The same, of what the path names.
    #[error("there are as many rooms as this server keeps: enter one that is there, or try again later")]
    TooManyRooms,
    /// The caller's verdict on how many connections the client's address has. 429 (RFC 6585, 4) tells the client that it is
    /// about itself; 503 would have a proxy take the server for overloaded.
    #[error("there are as many connections from this address as this server takes")]
    TooManyFromAddress,
}

impl Rejection {
    /// The HTTP status of the response: 400, 403, 404, 405, 426, 429, 431 or 503.
    pub fn status_code(&self) -> u16 {
        match self {
            Self::Head(HeadError::TooLong { .. } | HeadError::TooManyHeaders { .. }) => 431,
            Self::Head(_) | Self::HttpVersion | Self::Target | Self::Body | Self::Host | Self::Key => 400,
            Self::Extensions | Self::Subprotocol | Self::Parameter(_) => 400,
            Self::Origin => 403,
            Self::NotFound | Self::NotServed { .. } => 404,
            Self::Method => 405,
            Self::UpgradeRequired | Self::WebSocketVersion => 426,
            Self::TooManyFromAddress => 429,
            Self::Busy | Self::TooManyRooms => 503,
        }
    }

    /// The whole response, its body naming the cause in one line of text. Close once it is sent.
    pub fn response(&self) -> Bytes {
        self.response_allowing("GET")
    }

    /// The same, of a server that takes these methods.
    pub fn response_allowing(&self, methods: &str) -> Bytes {
        // A 426 must carry Upgrade, and whoever sends Upgrade must list it in Connection (RFC 9110 sections
        // 15.5.22 and 7.8); the version tells the client what to retry with (RFC 6455 section 4.4).
        let (reason, fields) = match self.status_code() {
            403 => ("Forbidden", "Connection: close\r\n"),
            404 => ("Not Found", "Connection: close\r\n"),
            405 => ("Method Not Allowed", "Connection: close\r\n"),
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
        let allow = if code == 405 { format!("Allow: {methods}\r\n") } else { String::new() };
        let body = format!("{self}\n");
        let body_bytes = body.len();
        format!(
            "HTTP/1.1 {code} {reason}\r\n{allow}{fields}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {body_bytes}\r\n\r\n{body}"
        )
        .into()
    }
}

/// What holds of any request: no body, and one host.
fn check_framing(headers: &[Header<'_>]) -> Result<(), Rejection> {
    let is_zero = |length: &[u8]| !length.is_empty() && length.iter().all(|&digit| digit == b'0');
    ensure(values(headers, "Transfer-Encoding").next().is_none(), Rejection::Body)?;
    ensure(values(headers, "Content-Length").all(is_zero), Rejection::Body)?;
    ensure(only_value(headers, "Host").is_some_and(is_authority), Rejection::Host)
}

/// Gives back the key.
fn check_request_headers<'a>(headers: &[Header<'a>]) -> Result<&'a [u8], Rejection> {
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

/// Path and query of an origin-form or absolute-form target (RFC 9112 section 3.2). No target has a fragment, and all is ASCII
/// (RFC 6455 section 3).
fn split_target(target: &str) -> Option<(&str, Option<&str>)> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return None;
    }
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
