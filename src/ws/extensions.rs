//! `Sec-WebSocket-Extensions` (RFC 6455, 9.1) and the negotiation of permessage-deflate (RFC 7692, 5 and 7.1), both
//! roles, sans-I/O: header values in, what was agreed and the header value to answer out.
//!
//! Invariants: a value is read by the RFC's grammar or refused as a whole, in one pass without allocation, so its cost is
//! bounded by the head's length; what is agreed is never more than either end asked for. An offer that is not
//! understood is declined and the next one looked at; an answer that is not understood fails the handshake.
//!
//! **Window bits 8.** Raw DEFLATE by zlib, which every peer and this project uses, does not compress with a window of 256
//! bytes. So a window of 8 bits that *we* should compress with is refused: the server declines such an offer, the client fails
//! on such an answer. One that the peer compresses with is no trouble, since what inflates here has 15 bits anyway.
//!
//! Deliberately absent: other extensions. They are read, as the grammar asks, and not taken.

use std::fmt::Write as _;

/// The extension's name (RFC 7692, 7).
pub const PERMESSAGE_DEFLATE: &str = "permessage-deflate";
/// The widest window, and the one where nothing is said: 32 KiB.
pub const WINDOW_BITS_MAX: u8 = 15;
/// The narrowest that zlib compresses raw DEFLATE with.
pub const WINDOW_BITS_MIN: u8 = 9;
/// The narrowest that may be spoken of (RFC 7692, 7.1.2).
const WINDOW_BITS_SPOKEN_MIN: u8 = 8;

const SERVER_NO_CONTEXT_TAKEOVER: &[u8] = b"server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &[u8] = b"client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &[u8] = b"server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &[u8] = b"client_max_window_bits";

/// A header value that breaks the grammar of RFC 6455, 9.1: the handshake fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Sec-WebSocket-Extensions is not a list of extensions with parameters")]
pub struct Malformed;

/// What both ends keep to, or one of them wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateParameters {
    /// The server compresses each message by itself.
    pub server_no_context_takeover: bool,
    /// The client does.
    pub client_no_context_takeover: bool,
    /// Base-2 logarithm of the server's window, 9 to 15.
    pub server_max_window_bits: u8,
    /// Of the client's; 8 where the peer said so of itself.
    pub client_max_window_bits: u8,
}

impl Default for DeflateParameters {
    /// What holds where nothing is said.
    fn default() -> Self {
        Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
        }
    }
}

// ------------------------------------------------------------------------------------------------------ grammar

/// A parameter's value: a token, quoted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value<'a> {
    /// What stands between the quotes, still escaped, or the token itself.
    raw: &'a [u8],
    quoted: bool,
}

impl<'a> Value<'a> {
    fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        let mut escaped = false;
        self.raw.iter().copied().filter(move |&byte| {
            escaped = self.quoted && byte == b'\\' && !escaped;
            !escaped
        })
    }

    /// A number as RFC 7692, 7.1.2 writes it: decimal, without leading zeros.
    fn window_bits(self) -> Option<u8> {
        let mut bits = 0_u8;
        for byte in self.bytes() {
            let digit = char::from(byte).to_digit(10)? as u8;
            bits = bits.checked_mul(10)?.checked_add(digit)?;
            if bits == 0 {
                return None;
            }
        }
        (WINDOW_BITS_SPOKEN_MIN..=WINDOW_BITS_MAX).contains(&bits).then_some(bits)
    }
}

/// What a header value is made of, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item<'a> {
    /// An extension's name.
    Extension(&'a [u8]),
    /// A parameter of the extension before.
    Parameter(&'a [u8], Option<Value<'a>>),
}

/// Reads one header value.
#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    rest: &'a [u8],
    /// An extension was read, and `;` or `,` has to follow.
    within: bool,
}

/// What tokens are made of (RFC 9110, 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl<'a> Reader<'a> {
    fn new(value: &'a [u8]) -> Self {
        Self { rest: value, within: false }
    }

    fn skip_space(&mut self) {
        let space = self.rest.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
        self.rest = &self.rest[space..];
    }

    /// Takes `byte`, with the space around it.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
            self.skip_space();
        }
        found
    }

    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.rest.iter().take_while(|&&byte| is_token_byte(byte)).count();
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// Behind the opening quote. What is quoted has to be a token as well.
    fn quoted(&mut self) -> Result<Value<'a>, Malformed> {
        let mut escaped = false;
        let is_end = |&byte: &u8| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        };
        let end = self.rest.iter().position(is_end).ok_or(Malformed)?;
        let value = Value { raw: &self.rest[..end], quoted: true };
        self.rest = &self.rest[end + 1..];
        if value.raw.is_empty() || !value.bytes().all(is_token_byte) { Err(Malformed) } else { Ok(value) }
    }

    fn parameter(&mut self) -> Result<Item<'a>, Malformed> {
        let name = self.token()?;
        let value = match self.take(b'=') {
            false => None,
            true if self.rest.first() == Some(&b'"') => {
                self.rest = &self.rest[1..];
                Some(self.quoted()?)
            }
            true => Some(Value { raw: self.token()?, quoted: false }),
        };
        Ok(Item::Parameter(name, value))
    }

    fn item(&mut self) -> Result<Option<Item<'a>>, Malformed> {
        if self.within && self.take(b';') {
            return self.parameter().map(Some);
        }
        self.skip_space();
        if self.within && !self.rest.is_empty() && self.rest[0] != b',' {
            return Err(Malformed);
        }
        // Empty elements are to be put up with (RFC 9110, 5.6.1.2).
        while self.take(b',') {}
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.within = true;
        self.token().map(|name| Some(Item::Extension(name)))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Item<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.item().transpose();
        if matches!(item, Some(Err(_))) {
            self.rest = &[];
            self.within = false;
        }
        item
    }
}

/// Whether all of these header values keep to the grammar.
///
/// # Errors
/// One does not.
pub fn check<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Malformed> {
    values.into_iter().flat_map(Reader::new).try_for_each(|item| item.map(|_| ()))
}

// -------------------------------------------------------------------------------------------------- negotiation

/// permessage-deflate as one offer or one answer has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Said {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Without a value, it says that the parameter is understood.
    client_max_window_bits: Option<Option<u8>>,
}

impl Said {
    /// Takes in a parameter; `None` where it is unknown, repeated, or has a value that it may not have (RFC 7692, 7.1).
    fn add(mut self, name: &[u8], value: Option<Value<'_>>) -> Option<Self> {
        let flag = |was_there: bool| (!was_there && value.is_none()).then_some(true);
        let bits = value.map(Value::window_bits);
        match name {
            SERVER_NO_CONTEXT_TAKEOVER => {
                self.server_no_context_takeover = flag(self.server_no_context_takeover)?;
            }
            CLIENT_NO_CONTEXT_TAKEOVER => {
                self.client_no_context_takeover = flag(self.client_no_context_takeover)?;
            }
            SERVER_MAX_WINDOW_BITS if self.server_max_window_bits.is_none() => {
                self.server_max_window_bits = Some(bits??);
            }
            CLIENT_MAX_WINDOW_BITS if self.client_max_window_bits.is_none() => {
                self.client_max_window_bits = Some(match bits {
                    Some(bits) => Some(bits?),
                    None => None,
                });
            }
            _ => return None,
        }
        Some(self)
    }
}

/// The extensions in `values`, in order: `None` is another extension, `Some(None)` a permessage-deflate that is none.
fn extensions<'a>(
    values: impl IntoIterator<Item = &'a [u8]>,
    mut each: impl FnMut(&'a [u8], Option<Option<Said>>),
) -> Result<(), Malformed> {
    let mut under_way: Option<(&[u8], Option<Option<Said>>)> = None;
    for item in values.into_iter().flat_map(Reader::new) {
        match item? {
            Item::Extension(name) => {
                let is_deflate = name.eq_ignore_ascii_case(PERMESSAGE_DEFLATE.as_bytes());
                if let Some((name, said)) =
                    under_way.replace((name, is_deflate.then(|| Some(Said::default()))))
                {
                    each(name, said);
                }
            }
            Item::Parameter(name, value) => {
                if let Some((_, Some(said))) = &mut under_way {
                    *said = said.and_then(|said| said.add(name, value));
                }
            }
        }
    }
    if let Some((name, said)) = under_way {
        each(name, said);
    }
    Ok(())
}

/// What a server agrees to, and how it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// What both ends keep to.
    pub parameters: DeflateParameters,
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub answer: String,
}

/// The server's role: the first of the client's offers that can be kept, by a server that wants `ours`. `None`: no
/// permessage-deflate, or none that we can do.
///
/// # Errors
/// The offers break the grammar.
pub fn agree<'a>(
    offers: impl IntoIterator<Item = &'a [u8]>,
    ours: &DeflateParameters,
) -> Result<Option<Agreement>, Malformed> {
    let mut agreement = None;
    extensions(offers, |_, said| {
        if agreement.is_none() {
            agreement = said.flatten().and_then(|offer| accept(&offer, ours));
        }
    })?;
    Ok(agreement)
}

/// RFC 7692, 7.1.1 and 7.1.2, the server's parts.
fn accept(offer: &Said, ours: &DeflateParameters) -> Option<Agreement> {
    let server_bits =
        ours.server_max_window_bits.min(offer.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX));
    if server_bits < WINDOW_BITS_MIN {
        return None;
    }
    // A client that did not speak of its window cannot be told to narrow it.
    let client_bits = match offer.client_max_window_bits {
        Some(most) => ours.client_max_window_bits.min(most.unwrap_or(WINDOW_BITS_MAX)),
        None => WINDOW_BITS_MAX,
    };
    let parameters = DeflateParameters {
        server_no_context_takeover: ours.server_no_context_takeover || offer.server_no_context_takeover,
        client_no_context_takeover: ours.client_no_context_takeover || offer.client_no_context_takeover,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
    };
    let says_server_bits = offer.server_max_window_bits.is_some() || server_bits < WINDOW_BITS_MAX;
    let answer = written(&Said {
        server_no_context_takeover: parameters.server_no_context_takeover,
        client_no_context_takeover: parameters.client_no_context_takeover,
        server_max_window_bits: says_server_bits.then_some(server_bits),
        client_max_window_bits: (client_bits < WINDOW_BITS_MAX).then_some(Some(client_bits)),
    });
    Some(Agreement { parameters, answer })
}

fn written(said: &Said) -> String {
    let mut text = PERMESSAGE_DEFLATE.to_owned();
    let mut add = |name: &[u8], bits: Option<u8>| {
        let name = std::str::from_utf8(name).expect("names are ASCII");
        let written = match bits {
            Some(bits) => write!(text, "; {name}={bits}"),
            None => write!(text, "; {name}"),
        };
        written.expect("a string takes what it is given");
    };
    if said.server_no_context_takeover {
        add(SERVER_NO_CONTEXT_TAKEOVER, None);
    }
    if said.client_no_context_takeover {
        add(CLIENT_NO_CONTEXT_TAKEOVER, None);
    }
    if let Some(bits) = said.server_max_window_bits {
        add(SERVER_MAX_WINDOW_BITS, Some(bits));
    }
    if let Some(bits) = said.client_max_window_bits {
        add(CLIENT_MAX_WINDOW_BITS, bits);
    }
    text
}

/// The client's role: the value of `Sec-WebSocket-Extensions` that asks for `wanted`.
pub fn offer(wanted: &DeflateParameters) -> String {
    let narrow = |bits: u8| (bits < WINDOW_BITS_MAX).then_some(bits);
    written(&Said {
        server_no_context_takeover: wanted.server_no_context_takeover,
        client_no_context_takeover: wanted.client_no_context_takeover,
        server_max_window_bits: narrow(wanted.server_max_window_bits),
        // Always said, so that the server may ask for a narrower one.
        client_max_window_bits: Some(narrow(wanted.client_max_window_bits)),
    })
}

/// Why an answer fails the handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It breaks the grammar.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Something that was not asked for (RFC 6455, 4.1).
    #[error("an extension that was not offered: {0:?}")]
    NotOffered(String),
    /// permessage-deflate, twice.
    #[error("permessage-deflate more than once")]
    Repeated,
    /// A parameter that is unknown, repeated, or has a value that it may not have.
    #[error("permessage-deflate with parameters that it does not have")]
    Parameters,
    /// Less than was asked for, or more than was offered (RFC 7692, 7.1).
    #[error("permessage-deflate with {0}")]
    Mismatch(&'static str),
}

/// The client's role: what the server answered to [`offer`] of `wanted`. `None`: it declined.
///
/// # Errors
/// The handshake fails: close the connection.
pub fn on_answer<'a>(
    answer: impl IntoIterator<Item = &'a [u8]>,
    wanted: &DeflateParameters,
) -> Result<Option<DeflateParameters>, AnswerError> {
    let mut judged = Ok(None);
    extensions(answer, |name, said| {
        let Ok(before) = &judged else { return };
        judged = match (said, before) {
            (None, _) => {
                let shown = &name[..name.len().min(64)];
                Err(AnswerError::NotOffered(String::from_utf8_lossy(shown).into_owned()))
            }
            (Some(_), Some(_)) => Err(AnswerError::Repeated),
            (Some(None), None) => Err(AnswerError::Parameters),
            (Some(Some(said)), None) => judge_answer(&said, wanted).map(Some),
        };
    })?;
    judged
}

/// RFC 7692, 7.1.1 and 7.1.2, the client's parts.
fn judge_answer(said: &Said, wanted: &DeflateParameters) -> Result<DeflateParameters, AnswerError> {
    let mismatch = |what| Err(AnswerError::Mismatch(what));
    if wanted.server_no_context_takeover && !said.server_no_context_takeover {
        return mismatch("context takeover by the server, which was not to be");
    }
    let server_bits = said.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX);
    if server_bits > wanted.server_max_window_bits {
        return mismatch("a wider window of the server's than was asked for");
    }
    let client_bits = match said.client_max_window_bits {
        None => wanted.client_max_window_bits,
        Some(None) => return Err(AnswerError::Parameters),
        Some(Some(bits)) if bits > wanted.client_max_window_bits => {
            return mismatch("a wider window of the client's than was offered");
        }
        Some(Some(bits)) if bits < WINDOW_BITS_MIN => {
            return mismatch("a window of 256 bytes for the client, which zlib cannot compress with");
        }
        Some(Some(bits)) => bits,
    };
    Ok(DeflateParameters {
        server_no_context_takeover: said.server_no_context_takeover,
        client_no_context_takeover: said.client_no_context_takeover || wanted.client_no_context_takeover,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
    })
}

#[cfg(test)]
mod tests;
