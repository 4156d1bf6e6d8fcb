//! What a server tells of itself over HTTP: its pages, by path.
//!
//! | path | what is there |
//! |---|---|
//! | `/` | the live page, for browsers |
//! | `/metrics` | counters, for Prometheus ([`metrics`]) |
//! | `/stats` | the same as JSON ([`snapshot`]) |
//! | `/healthz` | 200 while connections are taken, 503 while the server ends |
//!
//! Invariants: any thread can answer for all; what it tells of others is what they left on the [`Board`]. Nothing that a request
//! says is in an answer. No answer may be read by pages of another origin: none says that it may.

mod http;
pub(super) mod metrics;
pub(super) mod snapshot;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::board::Board;
use crate::scenario::serve::{Answer, PageRequest, Pages, Question, Rejection};
use http::Content;
pub(super) use snapshot::About;

/// The live page.
const PAGE: &str = include_str!("page.html");
const TEXT: &str = "text/plain; charset=utf-8";

/// The pages of one thread.
pub(super) struct Desk {
    thread: usize,
    about: Arc<About>,
    board: Arc<Board>,
    /// What was made of the last round, by page: whoever asks again meanwhile gets the same.
    made: [(Option<u64>, Bytes); 2],
}

impl Desk {
    /// For thread number `thread` of those on the board.
    pub(super) fn new(thread: usize, about: Arc<About>, board: Arc<Board>) -> Self {
        Self { thread, about, board, made: Default::default() }
    }

    fn counted(&mut self, question: Question) -> Bytes {
        let round = self.board.round();
        let index = usize::from(question.path == METRICS);
        if round.is_none() || self.made[index].0 != round {
            self.made[index] = (round, self.make(question.path));
        }
        let whole = &self.made[index].1;
        if question.is_head { http::head_of(whole) } else { whole.clone() }
    }

    fn make(&self, path: &str) -> Bytes {
        let (about, left) = (&*self.about, self.board.latest());
        let (kind, body) = match path {
            METRICS => (metrics::CONTENT_TYPE, metrics::render(about, &left)),
            _ => ("application/json", about.snapshot(&left).json()),
        };
        Content { kind, body: body.as_bytes(), policy: http::NOTHING }.answer(200)
    }
}

const METRICS: &str = "/metrics";
const STATS: &str = "/stats";

impl Pages for Desk {
    fn answer(&mut self, request: &PageRequest<'_>, is_draining: bool) -> Result<Answer, Rejection> {
        let is_head = request.is_head;
        let path = match request.path {
            "/" => return Ok(Answer::Whole(live_page(is_head))),
            "/healthz" => return Ok(Answer::Whole(health(is_draining || self.about.is_draining(), is_head))),
            // There is a WebSocket there, and it has to be asked for.
            "/echo" => return Err(Rejection::UpgradeRequired),
            METRICS => METRICS,
            STATS => STATS,
            _ => return Err(Rejection::NotFound),
        };
        let question = Question { path, is_head };
        Ok(if self.board.ask(self.thread) {
            Answer::Whole(self.counted(question))
        } else {
            Answer::Waits(question)
        })
    }

    fn answer_waiting(&mut self, question: Question, is_late: bool) -> Option<Bytes> {
        (is_late || self.board.is_complete(self.thread)).then(|| self.counted(question))
    }
}

fn health(is_draining: bool, is_head: bool) -> Bytes {
    let (code, body) = if is_draining { (503, "draining\n") } else { (200, "ok\n") };
    let whole = Content { kind: TEXT, body: body.as_bytes(), policy: http::NOTHING }.answer(code);
    if is_head { http::head_of(&whole) } else { whole }
}

fn live_page(is_head: bool) -> Bytes {
    static WHOLE: LazyLock<Bytes> = LazyLock::new(|| {
        let policy = &http::policy_of(PAGE);
        Content { kind: "text/html; charset=utf-8", body: PAGE.as_bytes(), policy }.answer(200)
    });
    if is_head { http::head_of(&WHOLE) } else { WHOLE.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Waker;

    fn desk() -> Desk {
        let board = Board::new(vec![Waker::new().unwrap()]);
        Desk::new(0, Arc::new(About::example()), Arc::new(board))
    }

    fn whole(desk: &mut Desk, path: &str, is_head: bool, is_draining: bool) -> String {
        match desk.answer(&PageRequest { path, is_head }, is_draining) {
            Ok(Answer::Whole(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn health_says_whether_connections_are_taken() {
        let mut desk = desk();
        assert!(whole(&mut desk, "/healthz", false, false).starts_with("HTTP/1.1 200 OK\r\n"));
        let draining = whole(&mut desk, "/healthz", false, true);
        assert!(draining.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{draining}");
        assert!(draining.ends_with("\r\n\r\ndraining\n"), "{draining}");
    }

    #[test]
    fn an_answer_to_head_is_that_to_get_without_its_body() {
        let mut desk = desk();
        for path in ["/", "/healthz"] {
            let get = whole(&mut desk, path, false, false);
            let head = whole(&mut desk, path, true, false);
            assert!(head.ends_with("\r\n\r\n") && get.starts_with(&head), "{head}");
            assert!(get.len() > head.len(), "{path} has a body");
        }
    }

    #[test]
    fn counts_are_waited_for_and_told_as_they_are_where_they_do_not_come() {
        let mut desk = desk();
        for path in [METRICS, STATS] {
            let Ok(Answer::Waits(question)) = desk.answer(&PageRequest { path, is_head: false }, false)
            else {
                panic!("{path}: nobody has left anything yet");
            };
            assert_eq!(question, Question { path, is_head: false });
            assert_eq!(desk.answer_waiting(question, false), None);
            assert!(desk.answer_waiting(question, true).is_some());
        }
    }

    #[test]
    fn there_are_no_other_pages() {
        let answer = |path| desk().answer(&PageRequest { path, is_head: false }, false).err();
        assert_eq!(answer("/favicon.ico"), Some(Rejection::NotFound));
        assert_eq!(answer("/metrics/"), Some(Rejection::NotFound));
        assert_eq!(answer("/echo"), Some(Rejection::UpgradeRequired));
    }
}
