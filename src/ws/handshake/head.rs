//! The head of an HTTP/1.1 message, a request's or a response's: found, bounded, and its fields looked up.
//!
//! **Invariant:** what is found depends on the bytes alone, never on how they were split, and nothing after the blank line is
//! taken. Each byte is scanned once. A head that comes whole is read in place; only a split one is copied, into a buffer that
//! never outgrows the bound.
//!
//! **Stricter than HTTP asks:** a line that ends in a bare LF is refused (RFC 9112 section 2.2 lets a recipient
//! accept it, but two readings of where a head ends is how requests get smuggled past proxies), and so are
//! folded lines and control bytes.
//!
//! **Deliberately absent:** what a field means; that is its role's affair.

use core::mem::MaybeUninit;

use httparse::Header;

use super::{HEADERS_BOUND, HEADERS_MAX};

/// Why a head, request's or response's, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// No blank line within the bound.
    #[error("the head is longer than {max_head_bytes} bytes")]
    TooLong {
        /// The bound.
        max_head_bytes: usize,
    },
    /// More header lines than the bound.
    #[error("the head has more than {headers_max} header lines")]
    TooManyHeaders {
        /// The bound.
        headers_max: u16,
    },
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
pub(super) struct HeadReader {
    pub(super) kept: Vec<u8>,
    pub(super) max_head_bytes: usize,
    /// At most [`HEADERS_BOUND`].
    pub(super) headers_max: u16,
    /// How much of CR LF CR LF the last bytes match; 4 once the head is complete.
    blank_line_bytes: u8,
}

impl HeadReader {
    pub(super) const fn new(max_head_bytes: usize) -> Self {
        Self { kept: Vec::new(), max_head_bytes, headers_max: HEADERS_MAX as u16, blank_line_bytes: 0 }
    }

    pub(super) fn on_bytes<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<Head<'a>>, HeadError> {
        assert!(self.blank_line_bytes < 4, "bytes given to a handshake that is over");
        match self.scan(bytes)? {
            Some(consumed_bytes) if self.kept.is_empty() => Ok(Some(Head {
                bytes: &bytes[..consumed_bytes],
                consumed_bytes,
                headers_max: self.headers_max,
            })),
            Some(consumed_bytes) => {
                self.keep(&bytes[..consumed_bytes]);
                Ok(Some(Head { bytes: &self.kept, consumed_bytes, headers_max: self.headers_max }))
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
pub(super) struct Head<'a> {
    pub(super) bytes: &'a [u8],
    /// How much of the slice last given it took.
    pub(super) consumed_bytes: usize,
    headers_max: u16,
}

/// Room for as many header lines as may be asked for. It is not written before it is needed.
pub(super) type Storage<'a> = [MaybeUninit<Header<'a>>; HEADERS_BOUND];

/// See [`Storage`].
pub(super) const fn storage<'a>() -> Storage<'a> {
    [const { MaybeUninit::uninit() }; HEADERS_BOUND]
}

impl<'a> Head<'a> {
    /// As much of `storage` as this head may take.
    pub(super) fn room<'s, 'h>(&self, storage: &'s mut Storage<'h>) -> &'s mut [MaybeUninit<Header<'h>>] {
        &mut storage[..usize::from(self.headers_max)]
    }

    /// The parser must have ended exactly where the scan did: should the two ever read a head differently,
    /// it is refused.
    pub(super) fn parsed(&self, result: httparse::Result<usize>) -> Result<(), HeadError> {
        match result {
            Ok(httparse::Status::Complete(parsed_bytes)) if parsed_bytes == self.bytes.len() => Ok(()),
            Ok(_) => Err(HeadError::Malformed(httparse::Error::NewLine)),
            Err(httparse::Error::TooManyHeaders) => {
                Err(HeadError::TooManyHeaders { headers_max: self.headers_max })
            }
            Err(other) => Err(HeadError::Malformed(other)),
        }
    }

    /// Field values by name, from the text itself: the parsed headers would have to be kept on the heap.
    /// Sound because a head that parsed has one field per line, and no field name holds a space, so the
    /// request line cannot match.
    pub(super) fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.split(|&byte| byte == b'\n').filter_map(move |line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let is_named = line[..colon].eq_ignore_ascii_case(name.as_bytes());
            is_named.then(|| line[colon + 1..].trim_ascii())
        })
    }
}

pub(super) fn values<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

/// The value of a field that must stand exactly once.
pub(super) fn only_value<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let mut found = values(headers, name);
    found.next().filter(|_| found.next().is_none())
}

/// Whether the comma-separated list, over all lines of that name (RFC 9110 section 5.3), holds `token`.
pub(super) fn lists(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name).flat_map(list_elements).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// Elements of a comma-separated list, the empty ones left out (RFC 9110 section 5.6.1.2).
pub(super) fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Whether a host and perhaps a port stand here (RFC 3986, 3.2.2 and 3.2.3), and nothing else.
pub(super) fn is_authority(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let port = match value.strip_prefix('[') {
        Some(literal) => {
            let Some((address, port)) = literal.split_once(']') else { return false };
            if address.parse::<core::net::Ipv6Addr>().is_err() {
                return false;
            }
            port
        }
        None => {
            let (host, port) = value.split_at(value.find(':').unwrap_or(value.len()));
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
            if host.is_empty() || !host.bytes().all(is_allowed) {
                return false;
            }
            port
        }
    };
    // It may be left out behind its colon.
    let is_port = |port: &str| {
        port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    port.is_empty() || port.strip_prefix(':').is_some_and(is_port)
}
