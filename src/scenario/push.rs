//! `push`: the server sends messages at a rate, unasked, each with a stamp that says when it was due.
//!
//! The loop is open on the server's side: message n of a connection is due n intervals after the connection was opened, whatever
//! became of those before, and none is left out. What could not be composed in time (the thread was busy, or the client does not
//! read) is composed as soon as it can be; its stamp says by how much it is late.
//!
//! A message is binary, all of the length asked for, little endian, times in nanoseconds of the server's `CLOCK_MONOTONIC`:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 8 | its number, from 0 |
//! | 8 to 16 | when it was due |
//! | 16 to 24 | when it was composed; it leaves at the end of that turn |
//! | 24 to end | the number's lowest byte, repeated |
//!
//! Invariants: numbers come in order and without a gap; no more than `--max-queued` and a message waits for a client, the rest
//! waits in the schedule, where it takes no memory. What the client says is read and not answered, but for pings and Close.

use super::Scenario;
use super::parameters::{Parameter, Query};
use super::table::OURS;
use crate::engine::Io;
use crate::limits::{PUSH_BYTES, PUSH_RATE};
use crate::scenario::messages::append_header;
use crate::ws::frame::Opcode;

/// Its row of the table.
pub const ABOUT: Scenario = Scenario {
    name: "push",
    paths: &["/push"],
    what: "The server sends stamped messages at a rate, unasked; late ones are sent late, none is left out.",
    needs: OURS,
    compresses: false,
    parameters: &[
        Parameter {
            name: "rate",
            values: "messages a second, 1 to 1000000",
            default: "1000",
            what: "how often",
        },
        Parameter { name: "bytes", values: "bytes, 24 to 1048576", default: "64", what: "payload" },
    ],
    metrics: "one-way times: from when a message was due (response) and from when it was composed (service); what lies between, \
              the server's lateness",
    flags: &["push-rate"],
};

const SECOND_NS: u128 = 1_000_000_000;
/// How often output that a connection waits for is looked at, where no slow peer keeps it.
const LOOK_NS: u64 = 1_000_000;

/// Bytes of a stamp: the shortest message.
pub const STAMP_BYTES: usize = 24;

/// What a message says of itself, in nanoseconds of the server's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which it is, from 0.
    pub number: u64,
    /// When it was to be sent.
    pub due_ns: u64,
    /// When it was composed.
    pub composed_ns: u64,
}

impl Stamp {
    fn append(self, payload_bytes: usize, out: &mut Vec<u8>) {
        for part in [self.number, self.due_ns, self.composed_ns] {
            out.extend_from_slice(&part.to_le_bytes());
        }
        out.resize(out.len() + payload_bytes - STAMP_BYTES, self.number as u8);
    }

    /// Reads a whole message; `None` where it is too short, or what stands behind the stamp is wrong.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (head, filling) = payload.split_at_checked(STAMP_BYTES)?;
        let part = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let stamp = Self { number: part(0), due_ns: part(8), composed_ns: part(16) };
        filling.iter().all(|&byte| byte == stamp.number as u8).then_some(stamp)
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    rate_per_s: u64,
    payload_bytes: usize,
}

impl Wish {
    /// What a request asks for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn asked_for(query: &Query<'_>) -> Result<Self, String> {
        let rate_per_s = query.number("rate", 1..=PUSH_RATE)?.unwrap_or(1000);
        let payload_bytes = query.number("bytes", STAMP_BYTES as u64..=PUSH_BYTES)?.unwrap_or(64) as usize;
        Ok(Self { rate_per_s, payload_bytes })
    }
}

/// One connection's schedule.
#[derive(Debug)]
pub struct Ticker {
    wish: Wish,
    start_ns: u64,
    /// Of the next message.
    number: u64,
}

impl Ticker {
    /// One that begins now; the first message is due at once.
    pub fn new(wish: Wish, now_ns: u64) -> Self {
        Self { wish, start_ns: now_ns, number: 0 }
    }

    fn due_ns(&self) -> u64 {
        let since_ns = u128::from(self.number) * SECOND_NS / u128::from(self.wish.rate_per_s);
        self.start_ns.saturating_add(u64::try_from(since_ns).unwrap_or(u64::MAX))
    }

    /// Sends what is due, as far as no more than `queued_bytes_max` wait, and asks to be called again when there is more to
    /// do; says how many messages it sent.
    pub fn tick(&mut self, io: &mut Io<'_>, queued_bytes_max: usize) -> u64 {
        let now_ns = io.clock_ns();
        let before = self.number;
        let mut due_ns = self.due_ns();
        while due_ns <= now_ns && io.queued_bytes() <= queued_bytes_max {
            let stamp = Stamp { number: self.number, due_ns, composed_ns: now_ns };
            let payload_bytes = self.wish.payload_bytes;
            io.write(|out| {
                append_header(Opcode::Binary, payload_bytes, out);
                stamp.append(payload_bytes, out);
            });
            self.number += 1;
            due_ns = self.due_ns();
        }
        if due_ns > now_ns {
            io.wake_by(due_ns);
        } else if io.waits_since_ns().is_none() {
            // Of a slow peer that has taken all the engine tells; this one may take it in this very turn.
            io.wake_by(now_ns + LOOK_NS);
        }
        self.number - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Wish, String> {
        Wish::asked_for(&Query::read(&ABOUT, Some(query))?)
    }

    #[test]
    fn a_query_says_how_often_and_how_much() {
        assert_eq!(asked(""), Ok(Wish { rate_per_s: 1000, payload_bytes: 64 }));
        assert_eq!(asked("bytes=1048576&rate=1"), Ok(Wish { rate_per_s: 1, payload_bytes: 1 << 20 }));
        for wrong in ["rate=0", "rate=1000001", "rate=1.5", "bytes=23", "bytes=1048577", "bytes=1KiB"] {
            assert!(asked(wrong).expect_err(wrong).contains("is not what it may be"), "{wrong}");
        }
    }

    #[test]
    fn the_schedule_is_a_function_of_the_rate_and_does_not_drift() {
        let mut ticker = Ticker::new(asked("rate=3").unwrap(), 100);
        let due_ns = |ticker: &mut Ticker, number| {
            ticker.number = number;
            ticker.due_ns()
        };
        assert_eq!(
            [0, 1, 2, 3].map(|number| due_ns(&mut ticker, number)),
            [100, 333_333_433, 666_666_766, 1_000_000_100]
        );
        assert_eq!(due_ns(&mut ticker, 3_000_000_000), 1_000_000_000_000_000_100);
        assert_eq!(due_ns(&mut ticker, u64::MAX), u64::MAX, "for ever");
    }

    #[test]
    fn a_stamp_is_read_back_and_what_stands_behind_it_is_checked() {
        for payload_bytes in [24, 25, 300] {
            let stamp = Stamp { number: 0x01FF, due_ns: 5, composed_ns: u64::MAX };
            let mut payload = Vec::new();
            stamp.append(payload_bytes, &mut payload);
            assert_eq!((payload.len(), Stamp::read(&payload)), (payload_bytes, Some(stamp)));
            for at in STAMP_BYTES..payload_bytes {
                payload[at] ^= 1;
                assert_eq!(Stamp::read(&payload), None, "byte {at}");
                payload[at] ^= 1;
            }
        }
        assert_eq!(Stamp::read(&[0; 23]), None);
    }
}
