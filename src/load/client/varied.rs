//! Connections on which messages are not all whole frames of one size: sizes vary, messages are sent in fragments, some are pings, all are
//! JSON ([`super::spoken`]), or connections do not all do the same.
//!
//! Invariant: what a connection sends follows from the seed, from which connection it is and from how much it has sent, never from when
//! answers came. Messages and pings are in the same books; a ping is answered by the Pong that names it, and by no other.

use std::collections::VecDeque;

use super::spoken::{Hearing, Talk};
use super::{Client, Peer, Protocol, Sent, Stage};
use crate::engine::Io;
use crate::load::parts::{Deed, Part, Variety};
use crate::measure::histogram;
use crate::measure::particulars::{PartPlayed, Particulars, Pings, SizesSent};
use crate::scenario::sizes::random_of;
use crate::ws::connection::{Connection, Data, Event};
use crate::ws::frame::{ControlFrame, Fault, Header, MAX_HEADER_BYTES, Opcode};
use crate::ws::mask::{self, Mask};

/// What a ping holds: its number, and a word that only this connection's ping of this number does.
const PING_BYTES: usize = 16;

/// How a thread's connections vary, at work.
pub(super) struct Varying {
    pub(super) variety: Variety,
    pub(super) seen: Particulars,
    message: Vec<u8>,
    pub(super) talk: Talk,
}

/// One connection.
pub(super) struct Varied {
    pub(super) connection: Connection,
    /// Which one it is of all threads'.
    pub(super) number: u64,
    /// What it plays.
    part: usize,
    /// Messages and pings so far.
    turn_count: u64,
    ping_count: u64,
    pings: VecDeque<Ping>,
    pub(super) hearing: Hearing,
}

struct Ping {
    number: u64,
    sent: Sent,
}

impl Varying {
    pub(super) fn new(variety: Variety) -> Self {
        let has = |is: fn(&Part) -> bool| variety.parts.iter().any(is);
        let publishes =
            |part: &Part| matches!(part.deed, Deed::Json { broadcast_share } if broadcast_share > 0.0);
        let played = |part: &Part| PartPlayed::of(part.row.name, part.connections);
        let is_mix = variety.parts.len() > 1;
        let seen = Particulars {
            pings: has(|part| ping_share(part) > 0.0).then(Pings::default),
            sizes: has(|part| part.sizes.fixed().is_none()).then(SizesSent::default),
            broadcasts: has(publishes).then(Default::default),
            parts: variety.parts.iter().filter(|_| is_mix).map(played).collect(),
            ..Particulars::default()
        };
        Self { variety, seen, message: Vec::new(), talk: Talk::default() }
    }

    /// What it came to.
    pub(super) fn into_particulars(mut self) -> Particulars {
        self.seen.broadcasts.iter_mut().for_each(|seen| seen.published = self.talk.published);
        self.seen
    }

    fn note_answered(&mut self, part: usize, headline_ns: u64) {
        self.seen.parts.get_mut(part).into_iter().for_each(|part| part.on_answered(headline_ns));
    }
}

fn ping_share(part: &Part) -> f64 {
    if let Deed::Echo { ping_share } = part.deed { ping_share } else { 0.0 }
}

impl Variety {
    fn is_ping(&self, part: &Part, number: u64, turn: u64) -> bool {
        let share = ping_share(part);
        share > 0.0 && random_of(!self.seed, number, turn).f64() < share
    }

    fn ping(&self, connection: u64, number: u64) -> [u8; PING_BYTES] {
        let word = random_of(self.seed, !connection, number).u64(..);
        let mut payload = [0; PING_BYTES];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        payload[8..].copy_from_slice(&word.to_le_bytes());
        payload
    }
}

impl Varied {
    pub(super) fn new(connection: Connection, number: u64, part: usize) -> Self {
        Self {
            connection,
            number,
            part,
            turn_count: 0,
            ping_count: 0,
            pings: VecDeque::new(),
            hearing: Hearing::default(),
        }
    }

    /// Pings that await their Pongs.
    pub(super) fn unanswered(&self) -> u64 {
        self.pings.len() as u64
    }

    /// When the oldest of them was due.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        self.pings.front().map(|ping| ping.sent.intended_ns)
    }
}

impl Client {
    /// Sends the next message or ping of a connection, if it varies.
    pub(super) fn send_varied(&mut self, conn: &mut Peer, io: &mut Io<'_>, intended_ns: u64, now_ns: u64) {
        let sent = Sent { intended_ns, sent_ns: now_ns };
        let (Protocol::Varied(varied), Some(varying)) = (&mut conn.protocol, &mut self.varying) else {
            return;
        };
        let Varying { variety, seen, message, talk } = &mut **varying;
        let part = &variety.parts[varied.part];
        let turn = varied.turn_count;
        varied.turn_count += 1;
        let random = &mut self.task.random;
        let mut key = || Mask::from_bytes(random.u32(..).to_ne_bytes());
        let is_measured = self.window.measures(intended_ns);
        if variety.is_ping(part, varied.number, turn) {
            let number = varied.ping_count;
            varied.ping_count += 1;
            let payload = variety.ping(varied.number, number);
            let frame = ControlFrame::new(Opcode::Ping, &payload, Some(key()));
            io.write(|out| out.extend_from_slice(frame.as_bytes()));
            varied.pings.push_back(Ping { number, sent });
            seen.pings.iter_mut().for_each(|pings| pings.sent += u64::from(is_measured));
        } else {
            let payload_bytes = part.sizes.of(variety.seed, varied.number, conn.next_number);
            message.clear();
            let mut text = self.task.payloads.text();
            if matches!(part.deed, Deed::Json { .. }) {
                text = true;
                talk.compose(variety, part, varied.number, conn.next_number, message);
            } else {
                self.task.payloads.compose_sized(conn.next_number, payload_bytes, message);
            }
            io.write(|out| fragment(message, text, part.fragments, key, out));
            conn.next_number += 1;
            conn.in_flight.push_back(sent);
            if let Some(sizes) = seen.sizes.as_mut().filter(|_| is_measured) {
                sizes.add(message.len() as u64);
            }
        }
        if is_measured {
            seen.parts.get_mut(varied.part).into_iter().for_each(|part| part.sent += 1);
        }
        self.note_sent(intended_ns);
    }

    /// What came on a connection that varies.
    pub(super) fn on_varied_frames(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        memory: &mut [u8],
        now_ns: u64,
    ) {
        let mut at = 0;
        loop {
            let Protocol::Varied(varied) = &mut conn.protocol else { return };
            let event = match varied.connection.next(&memory[at..]) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(fault) => return conn.on_fault(io, fault, now_ns),
            };
            let start = at;
            at += event.consumed();
            match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    if let Err(fault) = self.on_varied_data(conn, io, &data, memory, from, now_ns) {
                        return conn.on_fault(io, fault, now_ns);
                    }
                }
                Event::Ping { .. } => self.on_ping(conn, io),
                Event::Pong { .. } => self.on_pong(conn, io, now_ns),
                Event::Close { code, .. } => self.on_close(conn, io, code, now_ns),
            }
        }
    }

    fn on_varied_data(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        data: &Data,
        memory: &mut [u8],
        from: usize,
        now_ns: u64,
    ) -> Result<(), Fault> {
        let (Protocol::Varied(varied), Some(varying)) = (&mut conn.protocol, &self.varying) else {
            return Ok(());
        };
        varied.connection.accept(data, memory, from, from)?;
        let piece = &memory[from..from + data.chunk.payload_bytes];
        let (variety, number) = (&varying.variety, varied.number);
        let part = &variety.parts[varied.part];
        if matches!(part.deed, Deed::Json { .. }) {
            self.on_json_piece(conn, io, data, piece, now_ns);
            return Ok(());
        }
        let size_of = |message| part.sizes.of(variety.seed, number, message);
        let payloads = &self.task.payloads;
        let checked = payloads.check_sized(&size_of, conn.answer_number, conn.answer_bytes, data.text, piece);
        let payload_bytes = data.ends_message().then(|| size_of(conn.answer_number));
        conn.answer_bytes += piece.len();
        if let Err(mismatch) = checked {
            self.on_mismatch(conn, mismatch);
        }
        if let Some(payload_bytes) = payload_bytes {
            self.on_varied_answer(conn, io, now_ns, payload_bytes);
        }
        Ok(())
    }

    /// The end of an answer that is to have so many bytes; pings are no answers.
    pub(super) fn on_varied_answer(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        now_ns: u64,
        payload_bytes: usize,
    ) {
        let Protocol::Varied(varied) = &conn.protocol else { return };
        let part = varied.part;
        let headline_ns = self.on_answer_of(conn, io, now_ns, payload_bytes);
        let (Some(varying), Some(headline_ns)) = (&mut self.varying, headline_ns) else { return };
        varying.note_answered(part, headline_ns);
        if let Some(pings) = &mut varying.seen.pings {
            pings.on_data(headline_ns);
        }
    }

    /// A Pong: of the oldest ping, of a later one (a server may leave out those before: RFC 6455, 5.5.3; they stay outstanding),
    /// or of none.
    fn on_pong(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let (Protocol::Varied(varied), Some(varying)) = (&mut conn.protocol, &mut self.varying) else {
            return;
        };
        let Some(pings) = &mut varying.seen.pings else { return };
        let (payload, connection) = (varied.connection.control_payload(), varied.number);
        let is_named = |ping: &Ping| varying.variety.ping(connection, ping.number) == payload;
        let Some(skipped) = varied.pings.iter().position(is_named) else {
            return self.tally.accounting.count_error("wrong pong");
        };
        for _ in varied.pings.drain(..skipped) {
            self.tally.accounting.count_error("missing pong");
            self.unanswered -= 1;
        }
        let Some(Ping { number, sent }) = varied.pings.pop_front() else { return };
        self.unanswered -= 1;
        let headline_ns = self.tally.on_answered(&self.window, sent.intended_ns, sent.sent_ns, now_ns);
        if let Some(headline_ns) = headline_ns {
            pings.answered += 1;
            histogram::record(&mut pings.round_trip, headline_ns);
            varying.note_answered(varied.part, headline_ns);
            if self.worst.is_worth(headline_ns) {
                self.on_bad_answer(&sent, io.index(), number, now_ns, None);
            }
        }
        let goes_on = self.stage == Stage::Running && now_ns < self.window.end_ns && conn.failure.is_none();
        if self.task.schedule.is_none() && goes_on {
            self.send(conn, io, now_ns, now_ns);
        }
    }
}

/// Appends a message as `count` frames of about the same length, each masked with a key of its own.
pub(in super::super) fn fragment(
    message: &[u8],
    text: bool,
    count: u32,
    mut key: impl FnMut() -> Mask,
    out: &mut Vec<u8>,
) {
    let count = count as usize;
    for index in 0..count {
        let piece = &message[message.len() * index / count..message.len() * (index + 1) / count];
        let opcode = match (index, text) {
            (0, true) => Opcode::Text,
            (0, false) => Opcode::Binary,
            _ => Opcode::Continuation,
        };
        let key = key();
        let header =
            Header { fin: index + 1 == count, opcode, mask: Some(key), payload_bytes: piece.len() as u64 };
        let mut encoded = [0; MAX_HEADER_BYTES];
        let header_bytes = header.encode(&mut encoded);
        out.extend_from_slice(&encoded[..header_bytes]);
        mask::mask_onto(key, piece, out);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scenario::sizes::Sizes;
    use crate::ws::frame::Role;

    #[test]
    fn fragments_are_one_message_whatever_its_length() {
        for (bytes, count) in [(0, 3), (1, 3), (10, 3), (70_000, 2), (5, 1)] {
            let message: Vec<u8> = (0..bytes).map(|byte| byte as u8).collect();
            let (mut wire, mut random) = (Vec::new(), fastrand::Rng::with_seed(1));
            fragment(&message, false, count, || Mask::from_bytes(random.u32(..).to_ne_bytes()), &mut wire);
            let mut connection = Connection::new(Role::Server, 1 << 20, 0);
            let (mut at, mut got, mut frames, mut ends) = (0, Vec::new(), 0, 0);
            while let Some(event) = connection.next(&wire[at..]).unwrap() {
                let Event::Data(data) = event else { panic!("{event:?}") };
                let from = at + data.chunk.header_bytes;
                connection.accept(&data, &mut wire, from, from).unwrap();
                at += event.consumed();
                got.extend_from_slice(&wire[from..at]);
                frames += u32::from(data.chunk.first);
                ends += u32::from(data.ends_message());
            }
            assert_eq!((got, frames, ends, at), (message, count, 1, wire.len()), "{bytes} bytes in {count}");
        }
    }

    #[test]
    fn which_messages_are_pings_follows_from_seed_and_connection_and_is_the_share_asked_for() {
        let drawn = |seed, connection| {
            let deed = Deed::Echo { ping_share: 0.1 };
            let (row, sizes) = (&crate::scenario::echo::ABOUT, Sizes::Fixed(1));
            let parts = vec![Part { row, deed, sizes, fragments: 1, connections: 1 }];
            let variety = Variety { parts, seed, thread: 0, thread_count: 1, published: Arc::default() };
            let is_ping = |turn| variety.is_ping(&variety.parts[0], connection, turn);
            (0..10_000).map(is_ping).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1, 1), drawn(1, 1));
        assert_ne!(drawn(1, 1), drawn(1, 2));
        assert_ne!(drawn(1, 1), drawn(2, 1));
        let pings = drawn(1, 1).into_iter().filter(|&is_ping| is_ping).count();
        // Five deviations of a binomial count.
        assert!(pings.abs_diff(1000) < 150, "{pings}");
    }
}
