//! `broadcast` and `rooms`: what a client sends goes to everybody on the same path, itself as well, byte for byte.
//!
//! `/broadcast` is one room for all; `/room/NAME` is one for each name, which is there as long as somebody is in it. Who asks with
//! `?role=publish` is not sent anything.
//!
//! A client that is to tell losses, repetitions and delays needs to know what it gets: [`Publication`] is what ours publish,
//! binary, little endian, at least [`PUBLICATION_BYTES`] long:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 8 | who published it: a number of the client's choice |
//! | 8 to 16 | its number among that publisher's, from 0 |
//! | 16 to 24 | when it was sent, in nanoseconds of the publisher's `CLOCK_MONOTONIC` |
//! | 24 to end | the number's lowest byte, repeated |
//!
//! The server reads none of it.

use super::Scenario;
use super::parameters::{Parameter, Query};
use super::table::OURS;
use crate::limits::ROOM_NAME_BYTES;

const ROLE: Parameter = Parameter {
    name: "role",
    values: "both, or publish to be sent nothing",
    default: "both",
    what: "what this client does",
};

const FAN_METRICS: &str = "deliveries; of each message the first, the median and the last, and their spread; gaps, repetitions, order; \
                           who is served late, by when they joined; what slow subscribers do to the others";

/// The row of the table for `broadcast`.
pub const ABOUT: Scenario = Scenario {
    name: "broadcast",
    paths: &["/broadcast"],
    what: "Each message goes to every client at this path, on whatever thread.",
    needs: OURS,
    compresses: false,
    parameters: &[ROLE],
    metrics: FAN_METRICS,
    flags: &["publishers", "slow-share", "slow-mode"],
};

/// The row of the table for `rooms`.
pub const ABOUT_ROOMS: Scenario = Scenario {
    name: "rooms",
    paths: &["/room/NAME"],
    what: "The same for each name: 1 to 64 letters, digits, - . _ and ~.",
    needs: OURS,
    compresses: false,
    parameters: &[ROLE],
    metrics: FAN_METRICS,
    flags: &["rooms", "publishers", "slow-share", "slow-mode"],
};

/// What a client is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It publishes, and is sent what others publish.
    Both,
    /// It publishes only.
    Publish,
}

impl Role {
    /// What a request asks for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn asked_for(query: &Query<'_>) -> Result<Self, String> {
        let role = query.parse("role", |text| match text {
            "both" => Some(Self::Both),
            "publish" => Some(Self::Publish),
            _ => None,
        })?;
        Ok(role.unwrap_or(Self::Both))
    }
}

/// Whether a room may be called so.
///
/// # Errors
/// What it may be called.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if (1..=ROOM_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(format!("scenario rooms: a room has a name of 1 to {ROOM_NAME_BYTES} letters, digits, - . _ and ~"))
}

/// The shortest payload that holds a [`Publication`].
pub const PUBLICATION_BYTES: usize = 24;

/// What a message says that one of our clients published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// Whose it is.
    pub publisher: u64,
    /// Which of that publisher's.
    pub number: u64,
    /// When it was sent, by the publisher's monotonic clock.
    pub sent_ns: u64,
}

impl Publication {
    /// Appends the payload, `payload_bytes` long.
    ///
    /// # Panics
    /// If that is too short.
    pub fn compose(self, payload_bytes: usize, out: &mut Vec<u8>) {
        let filling_bytes = payload_bytes.checked_sub(PUBLICATION_BYTES).expect("room for a publication");
        for part in [self.publisher, self.number, self.sent_ns] {
            out.extend_from_slice(&part.to_le_bytes());
        }
        out.resize(out.len() + filling_bytes, self.number as u8);
    }

    /// Reads a payload back; `None` where it is too short, or its filling wrong.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let read = Self::head(payload)?;
        is_filled(&payload[PUBLICATION_BYTES..], read.number as u8).then_some(read)
    }

    /// What a payload says first, whatever it is filled with; `None` where it is too short.
    #[inline]
    pub fn head(payload: &[u8]) -> Option<Self> {
        let head = payload.first_chunk::<PUBLICATION_BYTES>()?;
        let part = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        Some(Self { publisher: part(0), number: part(8), sent_ns: part(16) })
    }
}

/// Whether every byte is this one: the first is, and each is as the one before it. That is one comparison of memory with itself, which
/// is several times as fast as looking at byte after byte.
#[inline]
fn is_filled(bytes: &[u8], byte: u8) -> bool {
    match bytes {
        [] => true,
        [first, rest @ ..] => *first == byte && *rest == bytes[..rest.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_a_short_plain_name() {
        for name in ["a", "A-z_0.9~", &"x".repeat(64)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", &"x".repeat(65), "a/b", "a%20b", "ü", "a b", "a\0"] {
            assert!(check_name(name).unwrap_err().contains("1 to 64"), "{name}");
        }
    }

    #[test]
    fn a_role_is_one_of_two() {
        let asked = |query| Role::asked_for(&Query::read(&ABOUT, query).unwrap());
        assert_eq!(asked(None), Ok(Role::Both));
        assert_eq!(asked(Some("role=both")), Ok(Role::Both));
        assert_eq!(asked(Some("role=publish")), Ok(Role::Publish));
        assert!(asked(Some("role=")).unwrap_err().contains("both, or publish"));
    }

    #[test]
    fn a_publication_is_read_back_and_any_changed_byte_of_its_filling_is_seen() {
        for payload_bytes in [24, 25, 200] {
            let publication = Publication { publisher: 3, number: 0x1234_5678, sent_ns: u64::MAX };
            let mut payload = Vec::new();
            publication.compose(payload_bytes, &mut payload);
            assert_eq!((payload.len(), Publication::read(&payload)), (payload_bytes, Some(publication)));
            for at in 0..payload_bytes {
                payload[at] ^= 1;
                assert_ne!(Publication::read(&payload), Some(publication), "byte {at}");
                payload[at] ^= 1;
            }
        }
        assert_eq!(Publication::read(&[0; 23]), None);
    }
}
