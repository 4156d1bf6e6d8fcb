//! Plain HTTP beside the opening handshake: who asks for a page is answered, and leaves.
//!
//! Invariants: a request that asks to speak WebSocket comes by here in no case; a page's answer goes out whole, and then its connection
//! leaves; all this costs nothing where nobody asks. A loop is never blocked: where an answer has to wait
//! until other threads have left their counts, the connection waits and the loop goes on, and what has not come in
//! [`GATHER_NS`] is told as it was left last.
//!
//! Deliberately absent: what pages there are and what they say ([`Pages`], which whoever runs the server gives); a second request on a
//! connection, which is closed after the first (RFC 9112, 9.6); bodies of requests, which are refused.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Peer, Serve, Served};
use crate::engine::{ConnId, Connections, Io};
use crate::ws::handshake::{PageRequest, Rejection};

/// How long an answer waits for the counts of other threads.
const GATHER_NS: u64 = 100_000_000;
/// The least time that a client has to take its answer: a `--close-timeout` of nothing would cut it.
const TAKING_NS_MIN: u64 = 1_000_000_000;

/// What a server answers to plain HTTP.
pub trait Pages: 'static {
    /// Answers a request to a server that is ending, or not; whole, head and body.
    ///
    /// # Errors
    /// There is no such page.
    fn answer(&mut self, request: &PageRequest<'_>, is_draining: bool) -> Result<Answer, Rejection>;
    /// Answers what had to wait; `None` where counts of other threads are still missing, unless it `is_late`: then it is answered
    /// from those that there are.
    fn answer_waiting(&mut self, question: Question, is_late: bool) -> Option<Bytes>;
}

/// What a request for a page comes to.
#[derive(Debug)]
pub enum Answer {
    /// The answer.
    Whole(Bytes),
    /// There is one once other threads have left their counts: the engine is woken when they have.
    Waits(Question),
}

/// What was asked, of what has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The page, by its path.
    pub path: &'static str,
    /// Without its body.
    pub is_head: bool,
}

/// The pages of one thread, and who waits for one.
pub(super) struct Desk {
    pages: Box<dyn Pages>,
    waiting: HashMap<ConnId, Waiting>,
}

struct Waiting {
    question: Question,
    until_ns: u64,
    /// The peer will send nothing more.
    has_ended: bool,
}

impl<R: FnMut(Served)> Serve<R> {
    /// The same, and answers plain HTTP with these pages; without, it is refused as what does not ask to speak WebSocket.
    pub fn with_pages(mut self, pages: impl Pages) -> Self {
        self.desk = Some(Box::new(Desk { pages: Box::new(pages), waiting: HashMap::new() }));
        self
    }

    /// How a request is refused, by its head alone if that is what was asked for (RFC 9110, 9.3.2).
    #[cold]
    pub(super) fn refusal(&self, rejection: &Rejection, is_head: bool) -> Bytes {
        let methods = if self.desk.is_some() { "GET, HEAD" } else { "GET" };
        let response = rejection.response_allowing(methods);
        let head_bytes = response.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        match head_bytes.filter(|_| is_head) {
            Some(head_bytes) => response.slice(..head_bytes),
            None => response,
        }
    }

    /// What a request for a page is answered.
    #[cold]
    pub(super) fn answer_page(&mut self, request: &PageRequest<'_>) -> Result<Answer, Rejection> {
        let is_draining = self.is_draining();
        let desk = self.desk.as_mut().ok_or(Rejection::UpgradeRequired)?;
        let answer = desk.pages.answer(request, is_draining)?;
        self.served.pages += 1;
        Ok(answer)
    }

    /// Sends an answer, or has the connection wait for it.
    #[cold]
    pub(super) fn send_page(&mut self, conn: &mut Peer, io: &mut Io<'_>, answer: Answer, now_ns: u64) {
        match answer {
            Answer::Whole(bytes) => self.finish_page(conn, io, bytes, false, now_ns),
            Answer::Waits(question) => {
                let until_ns = now_ns + GATHER_NS;
                *conn = Peer::Leaving { until_ns: until_ns + self.taking_ns() };
                io.wake_by(until_ns);
                let Some(desk) = &mut self.desk else { return };
                desk.waiting.insert(io.id(), Waiting { question, until_ns, has_ended: false });
            }
        }
    }

    fn taking_ns(&self) -> u64 {
        self.limits.close_ns.max(TAKING_NS_MIN)
    }

    fn finish_page(&mut self, conn: &mut Peer, io: &mut Io<'_>, bytes: Bytes, has_ended: bool, now_ns: u64) {
        let until_ns = now_ns + self.taking_ns();
        *conn = Peer::Leaving { until_ns };
        io.send(bytes);
        if has_ended {
            io.close()
        } else {
            io.shut_down()
        }
        io.wake_by(until_ns);
    }

    /// Other threads may have left their counts: answers who waits for them.
    #[inline]
    pub(super) fn on_counts(&mut self, connections: &mut Connections<Peer>) {
        if self.desk.as_ref().is_some_and(|desk| !desk.waiting.is_empty()) {
            self.answer_all(connections);
        }
    }

    #[cold]
    fn answer_all(&mut self, connections: &mut Connections<Peer>) {
        let now_ns = connections.now_ns();
        let Some(desk) = &mut self.desk else { return };
        for (id, waiting) in std::mem::take(&mut desk.waiting) {
            // Who has gone meanwhile is not answered.
            let Some((conn, mut io)) = connections.get(id) else { continue };
            self.answer_one(conn, &mut io, waiting, now_ns);
        }
    }

    fn answer_one(&mut self, conn: &mut Peer, io: &mut Io<'_>, waiting: Waiting, now_ns: u64) {
        let Some(desk) = &mut self.desk else { return };
        match desk.pages.answer_waiting(waiting.question, waiting.until_ns <= now_ns) {
            Some(bytes) => self.finish_page(conn, io, bytes, waiting.has_ended, now_ns),
            None => drop(desk.waiting.insert(io.id(), waiting)),
        }
    }

    /// A connection that is leaving may be owed a page, and it may be time to send it; says whether it was owed one.
    #[cold]
    pub(super) fn look_at_page(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) -> bool {
        let Some(desk) = &mut self.desk else { return false };
        let Some(waiting) = desk.waiting.remove(&io.id()) else { return false };
        io.wake_by(waiting.until_ns.max(now_ns + 1));
        self.answer_one(conn, io, waiting, now_ns);
        true
    }

    /// The peer will send nothing more; says whether it waits for a page.
    #[cold]
    pub(super) fn awaits_page(&mut self, io: &Io<'_>) -> bool {
        let Some(desk) = &mut self.desk else { return false };
        desk.waiting.get_mut(&io.id()).map(|waiting| waiting.has_ended = true).is_some()
    }
}
