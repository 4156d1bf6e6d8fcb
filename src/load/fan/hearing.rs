//! What comes to subscribers: each message is checked against what was published, byte for byte, then put in order, then timed.
//!
//! A thousand copies of each message make this the generator's hot path. A message that lies whole in what was received is compared where
//! it lies, never copied; that it is the one due next is the rule, and all else is out of line.
//!
//! Invariant: a copy that cannot be told whose it is, is wrong and nothing else: what it was meant to be is then passed over.

use super::board::Unknown;
use super::order::Heard;
use super::{CLOSE_NS, Fan, Stage, Step, Subscriber};
use crate::engine::Io;
use crate::scenario::broadcast::Publication;
use crate::ws::connection::Event;
use crate::ws::frame::Fault;
use crate::ws::mask::Mask;

/// Classes of errors.
const WRONG: &str = "wrong payload";
const ELSEWHERE: &str = "of another room";
const MISSED: &str = "missed publication";
const REPEATED: &str = "repeated publication";
const OUT_OF_ORDER: &str = "out of order";
const FORGOTTEN: &str = "too late to be checked";

impl Fan {
    #[inline]
    pub(super) fn on_frames(
        &mut self,
        conn: &mut Subscriber,
        io: &mut Io<'_>,
        memory: &mut [u8],
        now_ns: u64,
    ) {
        let mut at = 0;
        loop {
            let Step::Open(connection) = &mut conn.step else { return };
            let event = match connection.next(&memory[at..]) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(fault) => return on_fault(conn, io, fault),
            };
            let start = at;
            at += event.consumed();
            match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    if let Err(fault) = connection.accept(&data, memory, from, from) {
                        return on_fault(conn, io, fault);
                    }
                    let piece = &memory[from..at];
                    if data.begins_message() && data.ends_message() {
                        self.on_message(conn, io, data.text, piece, now_ns);
                    } else {
                        self.on_piece(conn, io, (data.text, data.ends_message()), piece, now_ns);
                    }
                }
                Event::Ping { .. } => {
                    if let Some(frame) =
                        connection.pong(Mask::from_bytes(self.task.random.u32(..).to_ne_bytes()))
                    {
                        io.write(|out| out.extend_from_slice(frame.as_bytes()));
                    }
                }
                Event::Pong { .. } => {}
                Event::Close { code, .. } => self.on_close(conn, io, code, now_ns),
            }
        }
    }

    /// A part of a message that did not come whole.
    fn on_piece(
        &mut self,
        conn: &mut Subscriber,
        io: &mut Io<'_>,
        (text, ends_message): (bool, bool),
        piece: &[u8],
        now_ns: u64,
    ) {
        // One byte too many shows as well as all of them.
        let room_bytes = (self.part.payload_bytes + 1).saturating_sub(conn.partial.len());
        conn.partial.extend_from_slice(&piece[..piece.len().min(room_bytes)]);
        if ends_message {
            let mut payload = std::mem::take(&mut conn.partial);
            self.on_message(conn, io, text, &payload, now_ns);
            payload.clear();
            conn.partial = payload;
        }
    }

    #[inline]
    fn on_message(
        &mut self,
        conn: &mut Subscriber,
        io: &mut Io<'_>,
        text: bool,
        payload: &[u8],
        now_ns: u64,
    ) {
        let board = &self.part.board;
        let rooms = board.rooms() as u64;
        let Some(head) = Publication::head(payload).filter(|head| {
            head.publisher < board.publishers() as u64 && head.publisher % rooms == u64::from(conn.room)
        }) else {
            return self.on_stranger(payload);
        };
        let truth = match board.look(head.publisher as usize, head.number) {
            Ok(truth) => truth,
            Err(unknown) => return self.on_unknown(conn, head, unknown),
        };
        let line = &mut conn.lines[(head.publisher / rooms) as usize];
        let is_right = head.sent_ns == truth.sent_ns
            && payload.len() == self.part.payload_bytes
            && Publication::read(payload).is_some()
            && !text;
        if is_right && head.number == line.next() {
            line.hear_next();
            self.heard += 1;
        } else if !self.is_delivery(conn, head, is_right) {
            return;
        }
        if truth.is_measured {
            let took_ns = self.tally.on_delivered(
                &self.window,
                (truth.due_ns, truth.sent_ns),
                now_ns,
                self.task.pipeline == 0,
            );
            let place = self.part.board.place(head.publisher as usize, head.number);
            if let Some(log) = &mut self.tally.fan {
                log.add(place, head.publisher as u32, head.number, conn.tenth, took_ns);
            }
        }
        if let Some(place) = conn.publishes {
            self.on_copy(conn, io, place as usize, head, now_ns);
        }
    }

    /// A message that came to one of our publishers: in a closed loop its own brings the next.
    fn on_copy(&mut self, conn: &Subscriber, io: &mut Io<'_>, place: usize, head: Publication, now_ns: u64) {
        let is_its_own = head.publisher == u64::from(self.publishers[place].number);
        let goes_on = self.stage == Stage::Running && now_ns < self.window.end_ns && conn.failure.is_none();
        if is_its_own && !self.is_open_loop() && goes_on {
            self.publish(place, io, None);
        }
    }

    /// A message that is not the one that is due next, or not as it was published: whether it is a delivery all the same.
    #[cold]
    fn is_delivery(&mut self, conn: &mut Subscriber, head: Publication, is_right: bool) -> bool {
        let line = &mut conn.lines[head.publisher as usize / self.part.board.rooms()];
        if !is_right {
            self.tally.accounting.count_error(WRONG);
            let is_due = head.number == line.next();
            if is_due {
                line.hear_next();
                self.heard += 1;
            }
            return is_due;
        }
        let heard = line.hear(head.number);
        self.on_heard(heard)
    }

    /// Counts what was not the next; whether it had not come before.
    fn on_heard(&mut self, heard: Heard) -> bool {
        let accounting = &mut self.tally.accounting;
        match heard {
            Heard::New { missed } => {
                self.heard += 1 + missed;
                self.gaps += missed;
                if missed > 0 {
                    *accounting.errors.entry(MISSED.to_owned()).or_default() += missed;
                }
                true
            }
            Heard::Late => {
                self.gaps -= 1;
                self.out_of_order += 1;
                // It was counted as missed, and is in one class only.
                if let Some(missed) = accounting.errors.get_mut(MISSED) {
                    *missed -= 1;
                    if *missed == 0 {
                        accounting.errors.remove(MISSED);
                    }
                }
                accounting.count_error(OUT_OF_ORDER);
                true
            }
            Heard::Again => {
                self.repeated += 1;
                accounting.count_error(REPEATED);
                false
            }
        }
    }

    /// Whose it is cannot be told, or it is nobody's of this room.
    #[cold]
    fn on_stranger(&mut self, payload: &[u8]) {
        let is_of_another = Publication::read(payload).is_some_and(|publication| {
            publication.publisher < self.part.board.publishers() as u64
                && self.part.board.look(publication.publisher as usize, publication.number).is_ok_and(
                    |truth| truth.sent_ns == publication.sent_ns && payload.len() == self.part.payload_bytes,
                )
        });
        self.tally.accounting.count_error(if is_of_another { ELSEWHERE } else { WRONG });
    }

    /// Its publisher is known, and nothing else of it.
    #[cold]
    fn on_unknown(&mut self, conn: &mut Subscriber, head: Publication, unknown: Unknown) {
        match unknown {
            Unknown::NeverSent => self.tally.accounting.count_error(WRONG),
            Unknown::Forgotten => {
                self.tally.accounting.count_error(FORGOTTEN);
                let line = &mut conn.lines[head.publisher as usize / self.part.board.rooms()];
                let heard = line.hear(head.number);
                self.on_heard(heard);
            }
        }
    }

    #[cold]
    fn on_close(&mut self, conn: &mut Subscriber, io: &mut Io<'_>, code: Option<u16>, now_ns: u64) {
        let key = self.random_key();
        if self.stage != Stage::Closing {
            let code = code.map_or("no code".to_owned(), |code| code.to_string());
            conn.failure = Some(format!("closed by server ({code})"));
        }
        let Step::Open(connection) = &mut conn.step else { return };
        if let Some(frame) = connection.reply_to_close(key) {
            io.write(|out| out.extend_from_slice(frame.as_bytes()));
        }
        // The server closes first (RFC 6455, 7.1.1), unless it forgets to.
        io.wake_by(now_ns + CLOSE_NS);
    }
}

/// The server broke the protocol: nothing more of it is looked at.
#[cold]
fn on_fault(conn: &mut Subscriber, io: &mut Io<'_>, fault: Fault) {
    conn.give_up(io, format!("protocol: {fault}"));
}
