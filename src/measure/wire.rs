//! What lay between the two ends' messages and the wire, as a result keeps it: compression and TLS.
//!
//! Invariant: what was agreed on, what came of it, and what this end alone did are told apart. Counts are of what happened,
//! never of what was asked for; where nobody could count, they are `None`, which is not nought. Words are made of agreements
//! and of coarse shares, so that runs alike in them have the same words however their counts differ.
//! Deliberately absent: whether that is enough for the run's numbers to be of compression or of the kernel's TLS. The verdict
//! says it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::units::size;

/// A larger share of connections or messages counts as all of them, where words are made.
const NEARLY_ALL: f64 = 0.99;

/// How much of a whole, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing of it.
    None,
    /// Some of it.
    Some,
    /// All of it, or so nearly all that the rest is chance.
    All,
}

impl Extent {
    /// Of `part` in `whole`; nothing of nothing.
    pub fn of(part: u64, whole: u64) -> Extent {
        match part {
            0 => Extent::None,
            _ if part as f64 >= NEARLY_ALL * whole as f64 => Extent::All,
            _ => Extent::Some,
        }
    }
}

/// permessage-deflate (RFC 7692) as it was agreed on, how the generator compressed, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deflate {
    /// The server agreed to compress each message by itself.
    pub server_no_context_takeover: bool,
    /// The generator did.
    pub client_no_context_takeover: bool,
    /// Base-2 logarithm of the server's window.
    pub server_max_window_bits: u8,
    /// Of the generator's.
    pub client_max_window_bits: u8,
    /// The generator's level, 1 to 9. Nothing on the wire says a server's; one of the run's own has the same.
    #[serde(alias = "level")]
    pub generator_level: u8,
    /// The generator sent messages shorter than this as they are. As with the level, a server of the run's own does the same.
    #[serde(alias = "threshold_bytes")]
    pub generator_threshold_bytes: u64,
    /// What the measured window's messages came to; `None` in files older than this field.
    #[serde(default)]
    pub wire: Option<Wire>,
}

impl fmt::Display for Deflate {
    /// As `windows of 15 and 15 bits; the generator's level 1, from 64 B`: the server's window, then the generator's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, client) = (self.server_max_window_bits, self.client_max_window_bits);
        let alone = match (self.server_no_context_takeover, self.client_no_context_takeover) {
            (false, false) => "",
            (true, false) => ", the server each message by itself",
            (false, true) => ", the generator each message by itself",
            (true, true) => ", each message by itself",
        };
        let (level, from) = (self.generator_level, size(self.generator_threshold_bytes));
        write!(f, "windows of {server} and {client} bits{alone}; the generator's level {level}, from {from}")
    }
}

/// Messages of the measured window on connections that agreed on permessage-deflate, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// Those that the books count as sent.
    pub sent: Carried,
    /// The answers to them, as far as they came.
    pub answers: Carried,
}

impl Wire {
    /// Counts another thread's in.
    pub fn merge(&mut self, other: &Wire) {
        self.sent.merge(&other.sent);
        self.answers.merge(&other.answers);
    }
}

/// Messages that went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// All of them.
    pub messages: u64,
    /// Of those, compressed: RSV1 stood on their first frame.
    pub compressed: u64,
    /// Their bytes as they were before and after.
    pub payload_bytes: u64,
    /// The payload of their frames, without headers.
    pub wire_bytes: u64,
}

impl Carried {
    /// Counts a message of so many bytes that came to so many on the wire.
    pub fn add(&mut self, compressed: bool, payload_bytes: u64, wire_bytes: u64) {
        self.messages += 1;
        self.compressed += u64::from(compressed);
        self.payload_bytes += payload_bytes;
        self.wire_bytes += wire_bytes;
    }

    /// How many were compressed, in a word.
    pub fn extent(&self) -> Extent {
        Extent::of(self.compressed, self.messages)
    }

    fn merge(&mut self, other: &Carried) {
        self.messages += other.messages;
        self.compressed += other.compressed;
        self.payload_bytes += other.payload_bytes;
        self.wire_bytes += other.wire_bytes;
    }
}

/// How connections were secured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Whom the generator trusted: `system` (what its machine trusts), `file` (`--ca`), `own` (the server's of the run's own)
    /// or `anyone` (`--insecure`).
    pub trusts: String,
    /// What became of the connections at a server of the run's own; `None` of any other, which nobody can tell from outside,
    /// and in files older than this field.
    #[serde(default)]
    pub kernel: Option<KernelTls>,
    /// What was agreed on, and how often.
    pub negotiated: Vec<Negotiated>,
}

impl fmt::Display for Tls {
    /// Every version and suite that was agreed on, once, whatever the number of connections, and whether the server had the
    /// kernel seal and open records: as `TLS 1.3 TLS13_AES_128_GCM_SHA256, records by the kernel`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agreed = |agreed: &Negotiated| format!("{} {}", agreed.version, agreed.cipher_suite);
        let agreed: BTreeSet<String> = self.negotiated.iter().map(agreed).collect();
        f.write_str(&agreed.into_iter().collect::<Vec<_>>().join(", "))?;
        f.write_str(match self.kernel.map_or(Extent::None, |kernel| kernel.extent()) {
            Extent::None => "",
            Extent::Some => ", records by the kernel in part",
            Extent::All => ", records by the kernel",
        })
    }
}

/// Connections of a server, from the first to the last, by who opened and sealed their records at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelTls {
    /// It was asked to hand them to the kernel's TLS (`--ktls`).
    pub asked: bool,
    /// Secured, in all.
    pub connections: u64,
    /// Of those, handed over.
    pub handed_over: u64,
    /// Of those, refused by the kernel.
    pub refused: u64,
    /// Of those, given up because they were never quiet enough. What is in none of these was gone before anything was tried, or
    /// still waited for its moment at the end.
    pub missed: u64,
}

impl KernelTls {
    /// How many were handed over, in a word.
    pub fn extent(&self) -> Extent {
        Extent::of(self.handed_over, self.connections)
    }
}

/// What was agreed on with the server, and on how many connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negotiated {
    /// As `TLS 1.3`.
    pub version: String,
    /// By its registered name, as `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// By a ticket of an earlier connection.
    pub resumed: bool,
    /// How many were secured so.
    pub connections: u64,
}

impl Negotiated {
    /// Counts these in.
    pub fn add_to(&self, all: &mut Vec<Self>) {
        let same = |other: &&mut Self| {
            (&self.version, &self.cipher_suite, self.resumed)
                == (&other.version, &other.cipher_suite, other.resumed)
        };
        match all.iter_mut().find(same) {
            Some(other) => other.connections += self.connections,
            None => all.push(self.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_happened_and_not_what_was_asked_for_and_forgive_a_few() {
        let agreed = Negotiated {
            version: "TLS 1.3".to_owned(),
            cipher_suite: "X".to_owned(),
            resumed: false,
            connections: 200,
        };
        let said = |kernel| {
            let resumed = Negotiated { resumed: true, connections: 7, ..agreed.clone() };
            Tls { trusts: "own".to_owned(), kernel, negotiated: vec![agreed.clone(), resumed] }.to_string()
        };
        let at = |handed_over| {
            Some(KernelTls { asked: true, connections: 200, handed_over, ..KernelTls::default() })
        };
        assert_eq!(said(None), "TLS 1.3 X");
        assert_eq!(said(at(0)), "TLS 1.3 X");
        assert_eq!(said(at(1)), "TLS 1.3 X, records by the kernel in part");
        assert_eq!(said(at(197)), said(at(1)));
        assert_eq!(said(at(198)), "TLS 1.3 X, records by the kernel");
        assert_eq!(said(at(200)), said(at(198)));
        assert_eq!(Extent::of(0, 0), Extent::None);
    }

    #[test]
    fn messages_are_counted_each_way_and_together() {
        let mut all = Wire::default();
        let mut thread = Wire::default();
        thread.sent.add(false, 10, 10);
        thread.answers.add(true, 100, 30);
        all.merge(&thread);
        all.merge(&thread);
        assert_eq!(all.sent, Carried { messages: 2, compressed: 0, payload_bytes: 20, wire_bytes: 20 });
        assert_eq!(all.answers, Carried { messages: 2, compressed: 2, payload_bytes: 200, wire_bytes: 60 });
    }
}
