//! `Sec-WebSocket-Protocol` (RFC 6455, 4.1, 4.2.2 and 11.3.4), both roles, sans-I/O: names in, the one agreed on out.
//!
//! Invariants: what is agreed on was offered by the client and is spoken by the server; a list that breaks the grammar, or
//! names something twice, is refused as a whole, at a cost that is bounded by the head's length.
//!
//! **Whose order rules:** the client's. It lists its names "ordered by preference" (4.1, item 10), while a server only says what
//! it is willing to use (4.2.2, item 4): to one that is, all of them are equally good.
//!
//! **More lenient than the grammar:** empty elements, and a list of nothing else, are no offer and no fault (RFC 9110, 5.6.1.2, asks
//! that of recipients where a name stands beside them). Names are compared byte by byte, as browsers do: the RFC knows no
//! other equality of them.
//!
//! Deliberately absent: what a subprotocol means.

use std::fmt;
use std::str::FromStr;

use super::extensions::is_token_byte;

/// A subprotocol's name: a token (RFC 9110, 5.6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subprotocol(String);

/// What cannot be a subprotocol's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a subprotocol's name is made of letters, digits and !#$%&'*+-.^_`|~, as chat or v2.chat.example.com"
)]
pub struct NotAName;

impl FromStr for Subprotocol {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        if is_name(text.as_bytes()) { Ok(Self(text.to_owned())) } else { Err(NotAName) }
    }
}

impl Subprotocol {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// A client's list that is none: an element is no token, or stands there twice (RFC 6455, 4.1, item 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Sec-WebSocket-Protocol is not a list of names, each once")]
pub struct Malformed;

/// Judges all that a client offers, over all header lines.
///
/// # Errors
/// An element is no token, or there twice.
pub fn check<'a>(offered: impl Iterator<Item = &'a [u8]>) -> Result<(), Malformed> {
    let mut names: Vec<&[u8]> = offered.collect();
    // A head holds thousands of short names: comparing each with each would cost their square.
    names.sort_unstable();
    let are_names = names.iter().all(|name| is_name(name));
    let are_distinct = names.windows(2).all(|pair| pair[0] != pair[1]);
    if are_names && are_distinct { Ok(()) } else { Err(Malformed) }
}

/// The server's role: the first of the client's names that is one of `spoken`. `None`: no subprotocol, and the answer names none.
pub fn choose<'a, 's>(
    mut offered: impl Iterator<Item = &'a [u8]>,
    spoken: &'s [Subprotocol],
) -> Option<&'s Subprotocol> {
    offered.find_map(|name| spoken.iter().find(|ours| ours.0.as_bytes() == name))
}

/// Why a server's choice fails the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongChoice<'a> {
    /// Not one of those that were offered.
    NotOffered(&'a [u8]),
    /// More than one header line (11.3.4).
    Repeated,
}

/// The client's role: which of `offered` the server chose, by the values of its header lines; `None` where it chose none.
///
/// # Errors
/// The handshake fails: close the connection.
pub fn on_answer<'a, 'o>(
    mut values: impl Iterator<Item = &'a [u8]>,
    offered: &'o [Subprotocol],
) -> Result<Option<&'o Subprotocol>, WrongChoice<'a>> {
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(WrongChoice::Repeated);
    }
    let chosen = offered.iter().find(|ours| ours.0.as_bytes() == value);
    chosen.map(Some).ok_or(WrongChoice::NotOffered(value))
}

/// The client's role: the value of `Sec-WebSocket-Protocol` that offers `names`, in this order.
pub fn offer(names: &[Subprotocol]) -> String {
    names.iter().map(Subprotocol::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(names: &[&str]) -> Vec<Subprotocol> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn bytes<'a>(names: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
        names.iter().map(|name| name.as_bytes())
    }

    #[test]
    fn names_are_tokens() {
        for good in ["a", "v2.chat.example.com", "!#$%&'*+-.^_`|~09azAZ"] {
            assert_eq!(good.parse::<Subprotocol>().unwrap().as_str(), good);
            assert_eq!(check(bytes(&[good])), Ok(()));
        }
        for bad in ["", " ", "a b", "a,b", "a;b", "a/b", "\"a\"", "a\t", "é", "a\r\nX: y", "\u{7f}", "a\0"] {
            assert_eq!(bad.parse::<Subprotocol>(), Err(NotAName), "{bad:?}");
            assert_eq!(check(bytes(&["fine", bad])), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_name_may_be_offered_once_only() {
        assert_eq!(check(bytes(&[])), Ok(()));
        assert_eq!(check(bytes(&["chat", "Chat", "chat2", "cha"])), Ok(()));
        assert_eq!(check(bytes(&["chat", "other", "chat"])), Err(Malformed));
    }

    #[test]
    fn the_clients_order_rules_among_what_is_spoken() {
        for (offered, ours, chosen) in [
            (&["b", "a"][..], &["a", "b"][..], Some("b")),
            (&["x", "a", "b"], &["b", "a"], Some("a")),
            (&["A"], &["a"], None),
            (&["x", "y"], &["a"], None),
            (&["x"], &[], None),
            (&[], &["a"], None),
        ] {
            let ours = spoken(ours);
            let choice = choose(bytes(offered), &ours).map(Subprotocol::as_str);
            assert_eq!(choice, chosen, "{offered:?} of {ours:?}");
        }
    }

    #[test]
    fn a_choice_is_one_of_those_offered_or_none_or_fails() {
        let offered = spoken(&["a", "b"]);
        assert_eq!(offer(&offered), "a, b");
        assert_eq!(on_answer(bytes(&[]), &offered), Ok(None));
        assert_eq!(on_answer(bytes(&["b"]), &offered), Ok(Some(&offered[1])));
        for wrong in ["", "c", "B", "a, b", "a,"] {
            let expected = Err(WrongChoice::NotOffered(wrong.as_bytes()));
            assert_eq!(on_answer(bytes(&[wrong]), &offered), expected, "{wrong:?}");
        }
        assert_eq!(on_answer(bytes(&["a", "a"]), &offered), Err(WrongChoice::Repeated));
        assert_eq!(on_answer(bytes(&["a"]), &[]), Err(WrongChoice::NotOffered(b"a")));
    }
}
