//! What comes back on the generator's connections: taken apart, checked byte by byte, and timed.
//!
//! Invariant: answers are matched to messages in order, and any other order is an error; a message's time ends once, with the last byte
//! of its answer.

use super::{CLOSE_NS, Client, Peer, Protocol, Sent, Stage};
use crate::engine::Io;
use crate::load::task::Report;
use crate::measure::anatomy::{Moments, Parts};
use crate::measure::evidence::{Exemplar, ServerStamps};
use crate::scenario::echo::Mismatch;
use crate::ws::connection::Event as WsEvent;

impl Client {
    #[inline]
    pub(super) fn on_frames(&mut self, conn: &mut Peer, io: &mut Io<'_>, memory: &mut [u8], now_ns: u64) {
        let mut at = 0;
        loop {
            let Protocol::Open(connection) = &mut conn.protocol else {
                return self.on_other_frames(conn, io, memory, now_ns);
            };
            let event = match connection.next(&memory[at..]) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(fault) => return conn.on_fault(io, fault, now_ns),
            };
            // Nothing out of line takes the event whole: that would keep it in memory for data as well.
            match event {
                WsEvent::Data(data) => {
                    let from = at + data.chunk.header_bytes;
                    at = from + data.chunk.payload_bytes;
                    if let Err(fault) = connection.accept(&data, memory, from, from) {
                        return conn.on_fault(io, fault, now_ns);
                    }
                    self.on_piece(conn, data.text, &memory[from..at]);
                    if data.ends_message() {
                        self.on_answer(conn, io, now_ns);
                    }
                }
                WsEvent::Ping { consumed } => {
                    at += consumed;
                    self.on_ping(conn, io);
                }
                WsEvent::Pong { consumed } => at += consumed,
                WsEvent::Close { consumed, code } => {
                    at += consumed;
                    self.on_close(conn, io, code, now_ns);
                }
            }
        }
    }

    /// Of a connection that is not of the ordinary kind.
    #[cold]
    fn on_other_frames(&mut self, conn: &mut Peer, io: &mut Io<'_>, memory: &mut [u8], now_ns: u64) {
        match conn.protocol {
            Protocol::Compressed(_) => self.on_compressed_frames(conn, io, memory, now_ns),
            Protocol::Pushed(_) => self.on_pushed_frames(conn, io, memory, now_ns),
            _ => self.on_varied_frames(conn, io, memory, now_ns),
        }
    }

    #[cold]
    pub(super) fn on_ping(&mut self, conn: &mut Peer, io: &mut Io<'_>) {
        let key = self.random_key();
        let Some(connection) = conn.protocol.connection() else { return };
        if let Some(frame) = connection.pong(key) {
            io.write(|out| out.extend_from_slice(frame.as_bytes()));
        }
    }

    #[cold]
    pub(super) fn on_close(&mut self, conn: &mut Peer, io: &mut Io<'_>, code: Option<u16>, now_ns: u64) {
        let key = self.random_key();
        let Some(connection) = conn.protocol.connection() else { return };
        if self.stage != Stage::Closing {
            let code = code.map_or("no code".to_owned(), |code| code.to_string());
            conn.failure = Some(format!("closed by server ({code})"));
        }
        if let Some(frame) = connection.reply_to_close(key) {
            io.write(|out| out.extend_from_slice(frame.as_bytes()));
        }
        // The server closes first (RFC 6455, 7.1.1), unless it forgets to.
        io.wake_by(now_ns + CLOSE_NS);
    }

    /// A piece of an answer.
    #[inline]
    pub(super) fn on_piece(&mut self, conn: &mut Peer, text: bool, piece: &[u8]) {
        let checked = self.task.payloads.check(conn.answer_number, conn.answer_bytes, text, piece);
        if let Some(layout) = self.task.payloads.stamps() {
            conn.take_stamps(layout, piece);
        }
        conn.answer_bytes += piece.len();
        if let Err(mismatch) = checked {
            self.on_mismatch(conn, mismatch);
        }
    }

    /// The end of an answer.
    #[inline]
    pub(super) fn on_answer(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        self.on_answer_of(conn, io, now_ns, self.task.payloads.payload_bytes());
    }

    /// The end of an answer that is to have so many bytes; its headline duration, if it has one that is measured.
    #[inline(always)]
    pub(super) fn on_answer_of(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        now_ns: u64,
        payload_bytes: usize,
    ) -> Option<u64> {
        if conn.answer_bytes != payload_bytes {
            self.on_mismatch(conn, Mismatch::Payload);
        }
        conn.answer_bytes = 0;
        if std::mem::take(&mut conn.answer_is_wrong) && std::mem::take(&mut conn.answer_is_surplus) {
            return None;
        }
        let Some(sent) = conn.in_flight.pop_front() else {
            self.tally.accounting.count_error("unasked answer");
            return None;
        };
        let number = conn.answer_number;
        conn.answer_number += 1;
        self.unanswered -= 1;
        let parts = self.looks_closer.then(|| self.look_closer(conn, io, &sent, now_ns)).flatten();
        let headline_ns = self.tally.on_answered(&self.window, sent.intended_ns, sent.sent_ns, now_ns);
        if let Some(headline_ns) = headline_ns
            && self.worst.is_worth(headline_ns)
        {
            self.on_bad_answer(&sent, io.index(), number, now_ns, parts);
        }
        let goes_on = self.stage == Stage::Running && now_ns < self.window.end_ns && conn.failure.is_none();
        if self.task.schedule.is_none() && goes_on {
            self.send(conn, io, now_ns, now_ns);
        }
        headline_ns
    }

    /// What more is noted of an answer, where more is.
    #[cold]
    fn look_closer(&mut self, conn: &mut Peer, io: &Io<'_>, sent: &Sent, now_ns: u64) -> Option<Parts> {
        if let Some(bursts) = &mut self.tally.bursts {
            bursts.on_answered(&self.window, sent.intended_ns, now_ns);
        }
        if self.tally.anatomy.is_some() { self.parts(conn, io, sent, now_ns) } else { None }
    }

    /// Where the response time of the message just answered went, by the server's stamps; `None` where they cannot be of our
    /// clock.
    pub(super) fn parts(&mut self, conn: &mut Peer, io: &Io<'_>, sent: &Sent, now_ns: u64) -> Option<Parts> {
        let Some(stamps) = std::mem::take(&mut conn.stamps).read() else {
            self.tally.anatomy = None;
            self.tell(Report::Unstamped);
            return None;
        };
        let parts = Parts::of(&Moments {
            intended_ns: sent.intended_ns,
            sent_ns: sent.sent_ns,
            arrived_ns: stamps.arrived_ns,
            seen_ns: stamps.seen_ns,
            queued_ns: stamps.queued_ns,
            returned_ns: io.arrived_ns(),
            answered_ns: now_ns,
            read_ns: io.clock_ns(),
        });
        self.tally.on_parts(&self.window, sent.intended_ns, parts);
        parts
    }

    /// One of the slowest so far.
    #[cold]
    pub(super) fn on_bad_answer(
        &mut self,
        sent: &Sent,
        connection: usize,
        number: u64,
        now_ns: u64,
        parts: Option<Parts>,
    ) {
        let exemplar = Exemplar {
            thread: self.task.thread as u64,
            connection: connection as u64,
            number,
            intended_s: sent.intended_ns.saturating_sub(self.window.measure_ns) as f64 / 1e9,
            response_ns: now_ns.saturating_sub(sent.intended_ns),
            queued_ns: sent.sent_ns.saturating_sub(sent.intended_ns),
            service_ns: now_ns.saturating_sub(sent.sent_ns),
            server: parts.map(|parts| ServerStamps {
                to_server_ns: parts.to_server_ns,
                in_server_ns: parts.in_server_ns,
            }),
            ..Exemplar::default()
        };
        self.worst.consider(exemplar, sent.intended_ns);
    }

    /// One error a message, however many of its pieces are wrong.
    #[cold]
    pub(super) fn on_mismatch(&mut self, conn: &mut Peer, mismatch: Mismatch) {
        if std::mem::replace(&mut conn.answer_is_wrong, true) {
            return;
        }
        self.tally.accounting.count_error(match mismatch {
            Mismatch::Payload => "wrong payload",
            Mismatch::Order { answered } if answered < conn.answer_number => {
                conn.answer_is_surplus = true;
                "repeated or late answer"
            }
            // Never asked: the number itself is wrong.
            Mismatch::Order { answered } if answered >= conn.next_number => "wrong payload",
            Mismatch::Order { answered } => {
                // Those in between stay outstanding, so that this answer is timed from its own message.
                let missing_count = (answered - conn.answer_number) as usize;
                conn.in_flight.drain(..missing_count.min(conn.in_flight.len()));
                self.unanswered -= missing_count as u64;
                conn.answer_number = answered;
                "out of order"
            }
        });
    }
}
