//! Connections on which the server sends unasked, by a schedule of its own, and stamps what it sends.
//!
//! The loop is open on the server's side, so what an echo says of its messages is said of these: a message's response time counts from when it
//! was due, its service time from when it was composed, both to its arrival here, by the one clock that server and generator share. What
//! lies between due and composed is the server's lateness.
//!
//! Invariants: which messages are of the measured window follows from a connection's first stamp and the rate alone, so one that never comes is
//! outstanding, whoever lost it; numbers come in order and without a gap, and each message is due when the rate says, or it is an error.
//! Deliberately absent: anything sent by us but Pongs and Close.

use super::{Client, Peer, Protocol, Sent};
use crate::engine::{Connections, Io};
use crate::load::tally::Window;
use crate::measure::histogram;
use crate::measure::particulars::Pushes;
use crate::scenario::push::{self, Stamp};
use crate::ws::connection::{Connection, Event};

const SECOND_NS: u128 = 1_000_000_000;
/// A connection's memory for messages in pieces is given back beyond this.
const KEPT_BYTES: usize = 64 << 10;

/// What each of the connections asks for.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Wish {
    pub(in super::super) rate_per_s: u64,
    pub(in super::super) payload_bytes: usize,
}

impl Wish {
    /// Path and query.
    pub(super) fn target(self) -> String {
        let Self { rate_per_s, payload_bytes } = self;
        format!("{}?rate={rate_per_s}&bytes={payload_bytes}", push::ABOUT.paths[0])
    }
}

/// What a thread's connections are sent.
pub(super) struct Pushing {
    wish: Wish,
    seen: Pushes,
    /// Of the open connections, in order, so many have had all of the window.
    pub(super) settled: usize,
    /// Those that nothing more is to come on.
    ended: Vec<Course>,
}

impl Pushing {
    pub(super) fn new(wish: Wish) -> Self {
        Self { wish, seen: Pushes::default(), settled: 0, ended: Vec::new() }
    }
}

/// One connection.
pub(super) struct Pushed {
    pub(super) connection: Connection,
    /// A message that has come in part.
    unread: Vec<u8>,
    course: Course,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy)]
struct Course {
    rate_per_s: u64,
    /// When message 0 was due: until there is a stamp, when the connection was opened.
    start_ns: u64,
    has_begun: bool,
    /// Of the message that is to come.
    next_number: u64,
    /// Messages of the measured window so far.
    measured: u64,
}

impl Course {
    fn new(rate_per_s: u64, start_ns: u64) -> Self {
        Self { rate_per_s, start_ns, has_begun: false, next_number: 0, measured: 0 }
    }

    /// From message 0 to message `number`.
    fn after_ns(&self, number: u64) -> u64 {
        u64::try_from(u128::from(number) * SECOND_NS / u128::from(self.rate_per_s)).unwrap_or(u64::MAX)
    }

    /// How many messages are due before `at_ns`.
    fn due_before(&self, at_ns: u64) -> u64 {
        let since_ns = u128::from(at_ns.saturating_sub(self.start_ns));
        u64::try_from((since_ns * u128::from(self.rate_per_s)).div_ceil(SECOND_NS)).unwrap_or(u64::MAX)
    }

    fn expected(&self, window: &Window) -> u64 {
        self.due_before(window.end_ns).saturating_sub(self.due_before(window.measure_ns))
    }

    /// Takes a message that came at `now_ns`: its stamp, if it counts, and what is wrong with it, if anything is.
    fn take(&mut self, stamp: Option<Stamp>, now_ns: u64) -> (Option<Stamp>, Option<&'static str>) {
        let Some(stamp) = stamp else {
            // It stands for the one that was to come.
            self.next_number += 1;
            return (None, Some("wrong payload"));
        };
        if !std::mem::replace(&mut self.has_begun, true) {
            self.start_ns = stamp.due_ns.saturating_sub(self.after_ns(stamp.number));
        }
        if stamp.number < self.next_number {
            return (None, Some("repeated or late answer"));
        }
        let is_in_order = stamp.number == self.next_number;
        self.next_number = stamp.number.saturating_add(1);
        let is_due = stamp.due_ns == self.start_ns.saturating_add(self.after_ns(stamp.number));
        if !is_due || stamp.composed_ns < stamp.due_ns {
            return (None, Some("wrong payload"));
        }
        if stamp.composed_ns > now_ns {
            return (None, Some("stamp from the future"));
        }
        (Some(stamp), (!is_in_order).then_some("out of order"))
    }
}

impl Pushed {
    pub(super) fn new(connection: Connection, pushing: &Pushing, now_ns: u64) -> Self {
        Self { connection, unread: Vec::new(), course: Course::new(pushing.wish.rate_per_s, now_ns) }
    }
}

impl Client {
    /// What came on a connection that is sent to.
    pub(super) fn on_pushed_frames(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        memory: &mut [u8],
        now_ns: u64,
    ) {
        let mut at = 0;
        loop {
            let Protocol::Pushed(pushed) = &mut conn.protocol else { return };
            let event = match pushed.connection.next(&memory[at..]) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(fault) => return conn.on_fault(io, fault, now_ns),
            };
            let start = at;
            at += event.consumed();
            match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    if let Err(fault) = pushed.connection.accept(&data, memory, from, from) {
                        return conn.on_fault(io, fault, now_ns);
                    }
                    let piece = &memory[from..at];
                    let is_whole = data.ends_message() && pushed.unread.is_empty();
                    if !is_whole {
                        pushed.unread.extend_from_slice(piece);
                    }
                    if data.ends_message() {
                        let mut unread = std::mem::take(&mut pushed.unread);
                        let message = if is_whole { piece } else { &unread };
                        self.on_push(conn, io, data.text, message, now_ns);
                        unread.clear();
                        unread.shrink_to(KEPT_BYTES);
                        if let Protocol::Pushed(pushed) = &mut conn.protocol {
                            pushed.unread = unread;
                        }
                    }
                }
                Event::Ping { .. } => self.on_ping(conn, io),
                Event::Pong { .. } => {}
                Event::Close { code, .. } => self.on_close(conn, io, code, now_ns),
            }
        }
    }

    /// A whole message.
    fn on_push(&mut self, conn: &mut Peer, io: &Io<'_>, is_text: bool, message: &[u8], now_ns: u64) {
        let (Protocol::Pushed(pushed), Some(pushing)) = (&mut conn.protocol, &mut self.pushing) else {
            return;
        };
        let is_right = !is_text && message.len() == pushing.wish.payload_bytes;
        let (stamp, fault) = pushed.course.take(Stamp::read(message).filter(|_| is_right), now_ns);
        fault.into_iter().for_each(|class| self.tally.accounting.count_error(class));
        let Some(Stamp { number, due_ns, composed_ns }) = stamp else { return };
        self.tally.on_sent(&self.window, due_ns);
        let Some(headline_ns) = self.tally.on_answered(&self.window, due_ns, composed_ns, now_ns) else {
            return;
        };
        pushed.course.measured += 1;
        histogram::record(&mut pushing.seen.lateness, composed_ns - due_ns);
        if self.worst.is_worth(headline_ns) {
            let sent = Sent { intended_ns: due_ns, sent_ns: composed_ns };
            self.on_bad_answer(&sent, io.index(), number, now_ns, None);
        }
    }

    /// Whether messages of the window are still to come.
    pub(super) fn awaits_pushes(&mut self, connections: &mut Connections<Peer>) -> bool {
        let Some(pushing) = &mut self.pushing else { return false };
        while let Some(&id) = self.open.get(pushing.settled) {
            if let Some((conn, _)) = connections.get(id)
                && conn.failure.is_none()
                && let Protocol::Pushed(pushed) = &conn.protocol
                && pushed.course.next_number < pushed.course.due_before(self.window.end_ns)
            {
                return true;
            }
            pushing.settled += 1;
        }
        false
    }

    /// The connection is about to end, or has: nothing more of it counts.
    pub(super) fn settle_pushes(&mut self, conn: &Peer) {
        if let (Protocol::Pushed(pushed), Some(pushing)) = (&conn.protocol, &mut self.pushing) {
            pushing.ended.push(pushed.course);
        }
    }

    /// What never came is outstanding. What there was beside the books.
    pub(super) fn close_books_of_pushes(&mut self) -> Option<Pushes> {
        let pushing = self.pushing.take()?;
        for course in &pushing.ended {
            let missing = course.expected(&self.window).saturating_sub(course.measured);
            self.tally.accounting.offered += missing;
            self.tally.accounting.sent += missing;
        }
        Some(pushing.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64, due_ns: u64) -> Option<Stamp> {
        Some(Stamp { number, due_ns, composed_ns: due_ns + 5 })
    }

    #[test]
    fn a_window_has_the_messages_that_are_due_in_it_whenever_the_first_was() {
        for rate_per_s in [1, 3, 1000, 999_983, 1_000_000] {
            let mut course = Course::new(rate_per_s, 0);
            assert_eq!(course.take(stamp(2, 10_000_000_000), u64::MAX).1, Some("out of order"));
            let due = |number| course.start_ns + course.after_ns(number);
            assert_eq!(due(2), 10_000_000_000);
            for (start_ns, end_ns) in [(due(5), due(9)), (due(5) - 1, due(9) + 1), (due(5) + 1, due(9) - 1)] {
                let window = Window { start_ns: 0, measure_ns: start_ns, end_ns, drained_ns: end_ns };
                let counted = (0..20).filter(|&number| window.measures(due(number))).count() as u64;
                assert_eq!(course.expected(&window), counted, "{rate_per_s} {start_ns} {end_ns}");
            }
        }
    }

    #[test]
    fn what_is_not_the_next_message_when_it_is_due_is_told_by_its_kind() {
        let mut course = Course::new(1000, 7);
        let (ms, now_ns) = (1_000_000, 1 << 40);
        assert_eq!(course.take(stamp(0, 50), now_ns), (stamp(0, 50), None));
        assert_eq!(course.take(stamp(1, 50 + ms), now_ns), (stamp(1, 50 + ms), None));
        assert_eq!(course.take(stamp(1, 50 + ms), now_ns), (None, Some("repeated or late answer")));
        assert_eq!(course.take(stamp(3, 50 + 3 * ms), now_ns), (stamp(3, 50 + 3 * ms), Some("out of order")));
        assert_eq!(course.take(stamp(4, 51 + 4 * ms), now_ns), (None, Some("wrong payload")));
        assert_eq!(course.take(None, now_ns), (None, Some("wrong payload")));
        assert_eq!(course.take(stamp(6, 50 + 6 * ms), 54 + 6 * ms), (None, Some("stamp from the future")));
        let early = Stamp { number: 7, due_ns: 50 + 7 * ms, composed_ns: 49 + 7 * ms };
        assert_eq!(course.take(Some(early), now_ns), (None, Some("wrong payload")));
        assert_eq!(course.take(stamp(8, 50 + 8 * ms), now_ns), (stamp(8, 50 + 8 * ms), None));
    }
}
