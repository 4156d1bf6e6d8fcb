//! The client's role: the request that asks for an upgrade, and the server's answer to it judged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use httparse::Header;

use super::extensions::{AnswerError, DeflateParameters};
use super::head::{HeadReader, is_authority, list_elements, lists, only_value, storage, values};
use super::subprotocol::{self, Subprotocol, WrongChoice};
use super::{HeadError, accept_key, extensions};

/// How much of a refusing server's body an error message quotes, in bytes.
pub(super) const BODY_QUOTE_BYTES_MAX: usize = 200;

/// The client's side: send [`request`](Self::request), then give what comes back to
/// [`on_bytes`](Self::on_bytes).
#[derive(Debug)]
pub struct ClientHandshake {
    /// IPv6 in brackets.
    host: String,
    port: u16,
    /// The scheme's own, which Host leaves out.
    default_port: u16,
    target: String,
    key: String,
    accept: [u8; 28],
    head: HeadReader,
    /// What was offered of permessage-deflate, and what of it was agreed to.
    offered: Option<DeflateParameters>,
    agreed: Option<DeflateParameters>,
    /// Subprotocols offered, and which the server chose.
    subprotocols: Vec<Subprotocol>,
    chosen: Option<Subprotocol>,
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
        let host = bracketed(host)?;
        let key = STANDARD.encode(nonce);
        Ok(Self {
            host,
            port,
            default_port: 80,
            target: target.to_owned(),
            accept: accept_key(key.as_bytes()),
            key,
            head: HeadReader::new(max_head_bytes),
            offered: None,
            agreed: None,
            subprotocols: Vec::new(),
            chosen: None,
        })
    }

    /// The same for `wss`, whose own port is another.
    pub fn over_tls(mut self) -> Self {
        self.default_port = 443;
        self
    }

    /// The same, and offers permessage-deflate with these parameters.
    pub fn offering_deflate(mut self, wanted: DeflateParameters) -> Self {
        self.offered = Some(wanted);
        self
    }

    /// The same, and offers these subprotocols, the one liked best first; each may stand there once.
    pub fn offering_subprotocols(mut self, names: Vec<Subprotocol>) -> Self {
        self.subprotocols = names;
        self
    }

    /// What the server agreed to of the permessage-deflate that was offered, once its head is complete.
    pub fn deflate(&self) -> Option<DeflateParameters> {
        self.agreed
    }

    /// Which of the subprotocols offered the server chose, once its head is complete. `None`: none, and the connection is a
    /// WebSocket all the same (section 4.1); whether that will do is the caller's to say.
    pub fn subprotocol(&self) -> Option<&Subprotocol> {
        self.chosen.as_ref()
    }

    /// The request, to be sent first.
    pub fn request(&self) -> Bytes {
        let Self { host, port, target, key, .. } = self;
        let port = if *port == self.default_port { String::new() } else { format!(":{port}") };
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        );
        if !self.subprotocols.is_empty() {
            request += &format!("Sec-WebSocket-Protocol: {}\r\n", subprotocol::offer(&self.subprotocols));
        }
        if let Some(wanted) = &self.offered {
            request += &format!("Sec-WebSocket-Extensions: {}\r\n", extensions::offer(wanted));
        }
        (request + "\r\n").into()
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
        let mut storage = storage();
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            head.bytes,
            head.room(&mut storage),
        );
        head.parsed(parsed)?;
        check_response(&response, &self.accept, &bytes[head.consumed_bytes..])?;
        self.agreed = check_extensions(response.headers, self.offered.as_ref())?;
        self.chosen = check_subprotocol(response.headers, &self.subprotocols)?.cloned();
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
    Ok(())
}

/// Which of those offered was chosen.
fn check_subprotocol<'o>(
    headers: &[Header<'_>],
    offered: &'o [Subprotocol],
) -> Result<Option<&'o Subprotocol>, ResponseError> {
    let values = values(headers, "Sec-WebSocket-Protocol");
    subprotocol::on_answer(values, offered).map_err(|wrong| match wrong {
        WrongChoice::NotOffered(name) => ResponseError::Subprotocol(quote(name, BODY_QUOTE_BYTES_MAX)),
        WrongChoice::Repeated => ResponseError::Subprotocols,
    })
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

/// A host as Host and URLs write it: IPv6 in brackets.
fn bracketed(host: &str) -> Result<String, AddressError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_ipv6 = bare.unwrap_or(host).parse::<core::net::Ipv6Addr>().is_ok();
    let is_name = !host.contains([':', '[', ']']) && is_authority(host.as_bytes());
    if !is_ipv6 && !is_name {
        return Err(AddressError::Host(host.to_owned()));
    }
    Ok(if is_ipv6 { format!("[{}]", bare.unwrap_or(host)) } else { host.to_owned() })
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
    /// More than one answer to the offer (section 11.3.4).
    #[error("server chose a subprotocol more than once")]
    Subprotocols,
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
