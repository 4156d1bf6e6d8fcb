//! Connections that speak JSON: requests that are echoed, and some that everybody is to hear.
//!
//! A message's payload names the connection and which of its messages it is. So an answer is that of its own message, and a broadcast is one
//! that its connection was to publish, or it is wrong; and who has heard all that was published is known by a count and a sum, without
//! anybody keeping what the others have heard.
//!
//! Invariants: an answer ends a message's time, a broadcast none; a connection waits, at the end, for all broadcasts of all threads,
//! as for its answers.

use super::{Client, Peer, Protocol};
use crate::engine::{Connections, Io};
use crate::load::parts::{Deed, Heard, Part, Variety};
use crate::scenario::echo::Mismatch;
use crate::scenario::json::{Reply, Requests, Said};
use crate::scenario::sizes::random_of;
use crate::ws::connection::Data;

/// Bits of a name that say which message it is of its connection; those above say which connection. Together they are few enough for
/// a peer that has no other numbers than doubles.
const MESSAGE_BITS: u32 = 33;
const CONNECTION_BITS: u32 = 53 - MESSAGE_BITS;
/// A connection's memory for messages in pieces is given back beyond this.
const KEPT_BYTES: usize = 64 << 10;

/// What a thread's connections have to say.
#[derive(Default)]
pub(super) struct Talk {
    /// Broadcasts of this thread.
    pub(super) published: u64,
    /// Of the open connections, in order, so many have heard all there was.
    settled: usize,
}

/// What a connection hears.
#[derive(Default)]
pub(super) struct Hearing {
    /// A message that has come in part.
    unread: Vec<u8>,
    heard: Heard,
}

fn name_of(connection: u64, message: u64) -> u64 {
    (connection & ((1 << CONNECTION_BITS) - 1)) << MESSAGE_BITS | message & ((1 << MESSAGE_BITS) - 1)
}

/// Connection and message of a name.
fn named(name: u64) -> (u64, u64) {
    (name >> MESSAGE_BITS, name & ((1 << MESSAGE_BITS) - 1))
}

/// Whether a message is one that everybody is to hear.
fn is_broadcast(variety: &Variety, part: &Part, connection: u64, message: u64) -> bool {
    let Deed::Json { broadcast_share } = part.deed else { return false };
    broadcast_share > 0.0
        && random_of(variety.seed.rotate_left(32), connection, message).f64() < broadcast_share
}

fn requests(variety: &Variety, part: &Part, connection: u64, message: u64) -> Requests {
    let payload_bytes = part.sizes.of(variety.seed, connection, message);
    match is_broadcast(variety, part, connection, message) {
        true => Requests::broadcast(payload_bytes),
        false => Requests::echo(payload_bytes),
    }
}

impl Talk {
    /// Appends the text of a connection's message.
    pub(super) fn compose(
        &mut self,
        variety: &Variety,
        part: &Part,
        connection: u64,
        message: u64,
        out: &mut Vec<u8>,
    ) {
        let name = name_of(connection, message);
        requests(variety, part, connection, message).compose(name, out);
        if is_broadcast(variety, part, connection, message) {
            variety.published.add(name);
            self.published += 1;
        }
    }

    /// Some of the open connections are gone.
    pub(super) fn forget(&mut self) {
        self.settled = 0;
    }
}

impl Client {
    /// A piece of a message of JSON.
    pub(super) fn on_json_piece(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        data: &Data,
        piece: &[u8],
        now_ns: u64,
    ) {
        let Protocol::Varied(varied) = &mut conn.protocol else { return };
        let unread = &mut varied.hearing.unread;
        if data.ends_message() && unread.is_empty() {
            return self.on_said(conn, io, data.text, piece, now_ns);
        }
        unread.extend_from_slice(piece);
        if !data.ends_message() {
            return;
        }
        let mut whole = std::mem::take(unread);
        self.on_said(conn, io, data.text, &whole, now_ns);
        if let Protocol::Varied(varied) = &mut conn.protocol
            && whole.capacity() <= KEPT_BYTES
        {
            whole.clear();
            varied.hearing.unread = whole;
        }
    }

    /// A whole message: somebody's broadcast, or the answer to one of ours.
    fn on_said(&mut self, conn: &mut Peer, io: &mut Io<'_>, is_text: bool, text: &[u8], now_ns: u64) {
        let (Protocol::Varied(varied), Some(varying)) = (&mut conn.protocol, &mut self.varying) else {
            return;
        };
        let said = Said::read(text).filter(|_| is_text);
        let variety = &varying.variety;
        let (connection, message) = named(said.as_ref().and_then(Said::number).unwrap_or(u64::MAX));
        let part = &variety.parts[variety.part_of(connection)];
        let reply = said.and_then(|said| said.reply_to(&requests(variety, part, connection, message)));
        let is_ours = connection == named(name_of(varied.number, 0)).0;
        let is_broadcast = is_broadcast(variety, part, connection, message);
        match reply {
            Some(Reply::Broadcast(name)) if is_broadcast => return varied.hearing.heard.add(name),
            Some(Reply::Echo(_)) if is_ours && !is_broadcast => {}
            Some(Reply::BroadcastResult(_, Some(listeners))) if is_ours => {
                varying.seen.broadcasts.iter_mut().for_each(|seen| seen.on_result(listeners));
            }
            Some(Reply::Error(_)) => {
                self.tally.accounting.count_error("error reply");
                // The message is answered; that it is wrong has been said.
                return self.on_varied_answer(conn, io, now_ns, 0);
            }
            _ => {
                self.on_mismatch(conn, Mismatch::Payload);
                return self.on_varied_answer(conn, io, now_ns, 0);
            }
        }
        if message != conn.answer_number & ((1 << MESSAGE_BITS) - 1) {
            self.on_mismatch(conn, Mismatch::Order { answered: message });
        }
        self.on_varied_answer(conn, io, now_ns, 0);
    }

    /// Whether broadcasts are still to come.
    pub(super) fn awaits_broadcasts(&mut self, connections: &mut Connections<Peer>) -> bool {
        let Some(varying) = self.varying.as_mut().filter(|varying| varying.seen.broadcasts.is_some()) else {
            return false;
        };
        let Some(all) = varying.variety.published.all() else { return true };
        while let Some(&id) = self.open.get(varying.talk.settled) {
            if let Some((conn, _)) = connections.get(id)
                && conn.failure.is_none()
                && let Protocol::Varied(varied) = &conn.protocol
                && is_listener(varied.number, &varying.variety)
                && varied.hearing.heard.count < all.count
            {
                return true;
            }
            varying.talk.settled += 1;
        }
        false
    }

    /// The connection is about to end: what it has not heard is an error, and so is what nobody said.
    pub(super) fn settle_hearing(&mut self, conn: &Peer) {
        let (Protocol::Varied(varied), Some(varying)) = (&conn.protocol, &mut self.varying) else { return };
        let Some(seen) = &mut varying.seen.broadcasts else { return };
        if !is_listener(varied.number, &varying.variety) {
            return;
        }
        let (heard, all) = (varied.hearing.heard, varying.variety.published.so_far());
        seen.connections += 1;
        seen.heard += heard.count;
        let class = match heard.count.cmp(&all.count) {
            // The server had closed it.
            _ if conn.failure.is_some() => return,
            std::cmp::Ordering::Less => "missing broadcast",
            std::cmp::Ordering::Greater => "repeated broadcast",
            std::cmp::Ordering::Equal if heard != all => "wrong broadcast",
            std::cmp::Ordering::Equal => return,
        };
        let errors = &mut self.tally.accounting.errors;
        *errors.entry(class.to_owned()).or_default() += heard.count.abs_diff(all.count).max(1);
    }
}

/// Whether a connection is where broadcasts are heard.
fn is_listener(connection: u64, variety: &Variety) -> bool {
    matches!(variety.parts[variety.part_of(connection)].deed, Deed::Json { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_message_of_one_connection_and_exact_as_a_double() {
        for (connection, message) in [(0, 0), (1, 0), (0, 1), ((1 << 20) - 1, (1 << 33) - 1)] {
            let name = name_of(connection, message);
            assert_eq!(named(name), (connection, message));
            assert_eq!(name as f64 as u64, name);
            assert!(name < 1 << 53);
        }
    }
}
