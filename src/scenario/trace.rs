//! `--trace-frames`: a [`Tap`] that writes a line for each frame, both ways, and for what opens and ends a connection.
//!
//! Invariants: lines of a turn leave together, in one write where they are few, so that a slow reader of them holds a turn up and
//! not every frame; what cannot be written any more (a closed standard error) is not composed any more, and never ends anything.
//!
//! Deliberately absent: choosing which connections or frames. `grep '#7 '` does that.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::{Closed, Tap};
pub use crate::ws::frame::Role;
use crate::ws::trace::{Frames, HeadText};

/// Lines of a turn beyond this many bytes are written before it is over.
const LINES_BYTES: usize = 64 * 1024;

/// What the traces of several threads have in common.
#[derive(Debug, Clone)]
pub struct Numbers {
    start_ns: u64,
    next: Arc<AtomicU64>,
}

impl Numbers {
    /// Connections count from 1, and time from `start_ns`, in nanoseconds of [`clock_ns`](crate::engine::clock_ns).
    pub fn new(start_ns: u64) -> Self {
        Self { start_ns, next: Arc::new(AtomicU64::new(1)) }
    }
}

/// One thread's [`Tap`].
pub struct Trace {
    ours: Role,
    numbers: Numbers,
    lines: String,
    /// `None` where it can take nothing more.
    out: Option<Box<dyn Write + Send>>,
}

/// One connection.
pub struct Traced {
    number: u64,
    stage: Stage,
}

enum Stage {
    /// The request, the answer, and what came behind the request before its answer.
    Opening { request: HeadText, answer: HeadText, early: Vec<u8> },
    /// Frames of the client and of the server.
    Open(Box<(Frames, Frames)>),
    /// Whatever still comes has no meaning.
    Rejected,
}

/// As seen from here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Trace {
    /// Our ends are `ours`; lines go to `out`.
    pub fn new(ours: Role, numbers: Numbers, out: Box<dyn Write + Send>) -> Self {
        Self { ours, numbers, lines: String::new(), out: Some(out) }
    }

    /// Lines go to standard error.
    pub fn to_standard_error(ours: Role, numbers: Numbers) -> Self {
        Self::new(ours, numbers, Box::new(io::stderr()))
    }

    fn tell(&mut self, number: u64, mark: &str, now_ns: u64, what: &str) {
        if self.out.is_none() {
            return;
        }
        let now_us = now_ns.saturating_sub(self.numbers.start_ns) / 1000;
        let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
        writeln!(self.lines, "{seconds:>4}.{micros:06} #{number} {mark} {what}")
            .expect("a string takes what it is given");
        if self.lines.len() > LINES_BYTES {
            self.write();
        }
    }

    fn write(&mut self) {
        if let Some(out) = self.out.as_mut().filter(|_| !self.lines.is_empty())
            && out.write_all(self.lines.as_bytes()).and_then(|()| out.flush()).is_err()
        {
            self.out = None;
        }
        self.lines.clear();
    }

    fn sender(&self, way: Way) -> Role {
        match (way, self.ours) {
            (Way::Out, ours) => ours,
            (Way::In, Role::Client) => Role::Server,
            (Way::In, Role::Server) => Role::Client,
        }
    }

    fn on_bytes(&mut self, conn: &mut Traced, way: Way, bytes: &[u8], now_ns: u64) {
        if self.out.is_none() {
            return;
        }
        let sender = self.sender(way);
        match &mut conn.stage {
            Stage::Opening { request, early, .. } if sender == Role::Client => {
                let was_whole = request.is_whole();
                let taken = request.take(bytes);
                early.extend_from_slice(&bytes[taken..]);
                if request.is_whole() && !was_whole {
                    let line = request.request();
                    self.tell(conn.number, way.mark(), now_ns, &line);
                }
            }
            Stage::Opening { answer, .. } => {
                let taken = answer.take(bytes);
                if answer.is_whole() {
                    self.on_answer(conn, way, &bytes[taken..], now_ns);
                }
            }
            Stage::Open(frames) => {
                let frames = if sender == Role::Client { &mut frames.0 } else { &mut frames.1 };
                frames.on_bytes(bytes, |line| self.tell(conn.number, way.mark(), now_ns, line));
            }
            Stage::Rejected => {}
        }
    }

    /// The answer's head is there, and `rest` behind it.
    fn on_answer(&mut self, conn: &mut Traced, way: Way, rest: &[u8], now_ns: u64) {
        let Stage::Opening { request, answer, early } = std::mem::replace(&mut conn.stage, Stage::Rejected)
        else {
            return;
        };
        let other_way = if way == Way::In { Way::Out } else { Way::In };
        if !request.is_whole() {
            self.tell(conn.number, other_way.mark(), now_ns, &request.request());
        }
        self.tell(conn.number, way.mark(), now_ns, &answer.answer(rest));
        if answer.accepts() {
            let deflate = answer.agrees_to_deflate();
            let frames = |sender| Frames::new(sender, deflate);
            conn.stage = Stage::Open(Box::new((frames(Role::Client), frames(Role::Server))));
            self.on_bytes(conn, other_way, &early, now_ns);
            self.on_bytes(conn, way, rest, now_ns);
        }
    }
}

impl Way {
    fn mark(self) -> &'static str {
        match self {
            Self::In => "<-",
            Self::Out => "->",
        }
    }
}

impl Tap for Trace {
    type Conn = Traced;

    fn begin(&mut self) -> Traced {
        let number = self.numbers.next.fetch_add(1, Ordering::Relaxed);
        let (request, answer) = (HeadText::default(), HeadText::default());
        Traced { number, stage: Stage::Opening { request, answer, early: Vec::new() } }
    }

    fn on_open(&mut self, conn: &mut Traced, now_ns: u64) {
        self.tell(conn.number, "--", now_ns, "open");
    }

    fn on_received(&mut self, conn: &mut Traced, bytes: &[u8], now_ns: u64) {
        self.on_bytes(conn, Way::In, bytes, now_ns);
    }

    fn on_queued(&mut self, conn: &mut Traced, bytes: &[u8], now_ns: u64) {
        self.on_bytes(conn, Way::Out, bytes, now_ns);
    }

    fn on_closed(&mut self, conn: Traced, why: &Closed, now_ns: u64) {
        if let Stage::Open(frames) = &conn.stage {
            for (frames, sender) in [(&frames.0, Role::Client), (&frames.1, Role::Server)] {
                let way = if self.sender(Way::In) == sender { Way::In } else { Way::Out };
                if let Some(line) = frames.end() {
                    self.tell(conn.number, way.mark(), now_ns, &line);
                }
            }
        }
        let what = match why {
            Closed::ByUs => "closed".to_owned(),
            Closed::Connect(error) => format!("not connected: {error}"),
            Closed::Broken(error) => format!("broken: {error}"),
            Closed::Tls(error) => format!("TLS: {error}"),
        };
        self.tell(conn.number, "--", now_ns, &what);
    }

    fn on_turn(&mut self) {
        self.write();
    }
}

impl Drop for Trace {
    /// What was seen since the last turn.
    fn drop(&mut self) {
        self.write();
    }
}
