//! `work`: the server computes for a given time, or walks a given amount of memory, for each message, and then sends it back.
//!
//! One thread is one server with a queue, which is what this scenario is there to show: what arrives while it works waits. The
//! client's side is `echo`'s own: each message comes back as it went.
//!
//! Invariants: a message costs no more than the bounds of the table; between two looks at its sockets a thread works for
//! [`WORK_PER_TURN_NS`](crate::limits::WORK_PER_TURN_NS) and the rest of a message at most, however many there are ([`Line`]).
//! Connections that wait are served in turn, a message each once that time is up.
//!
//! Deliberately absent: work in other threads. And time that is not there: over simulated networks it is real time that passes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::hint::black_box;
use std::rc::{Rc, Weak};

use super::Scenario;
use super::parameters::{Parameter, Query, number};
use super::table::OURS;
use crate::engine::{ConnId, clock_ns};
use crate::limits::{WORK_KIB, WORK_PER_TURN_NS, WORK_US};

/// Its row of the table.
pub const ABOUT: Scenario = Scenario {
    name: "work",
    paths: &["/work"],
    what: "The server works for each message and then echoes it: for a time, or through so much memory.",
    needs: OURS,
    compresses: false,
    parameters: &[
        Parameter {
            name: "us",
            values: "microseconds, 0 to 1000000, or exp:MEAN for times drawn from an exponential distribution",
            default: "0",
            what: "compute",
        },
        Parameter {
            name: "kib",
            values: "KiB, 1 to 65536, a cache line at a time; not beside us",
            default: "none",
            what: "walk memory",
        },
        Parameter { name: "seed", values: "a number up to 2^64 - 1", default: "0", what: "seed of exp:" },
    ],
    metrics: "response and service times, as of echo: how work queues",
    flags: &["work", "fragments"],
};

/// No draw is longer than so many means: one in 485 million would be.
const MEANS_MAX: f64 = 20.0;
const LINE_BYTES: usize = 64;
const LINE_WORDS: usize = LINE_BYTES / size_of::<u64>();

/// What a message costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So much time, in nanoseconds.
    Fixed(u64),
    /// So much on average.
    Exponential {
        /// In nanoseconds.
        mean_ns: u64,
        /// Seed of what is drawn on each connection.
        seed: u64,
    },
    /// So much memory, read and written.
    Memory {
        /// In KiB.
        kib: u64,
    },
}

impl Amount {
    /// What a request asks for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn asked_for(query: &Query<'_>) -> Result<Self, String> {
        let us = |text| number(text, &(0..=WORK_US));
        let seed = query.number("seed", 0..=u64::MAX)?.unwrap_or(0);
        let time = query.parse("us", |text| match text.strip_prefix("exp:") {
            Some(mean) => us(mean).map(|mean_us| Self::Exponential { mean_ns: mean_us * 1000, seed }),
            None => us(text).map(|us| Self::Fixed(us * 1000)),
        })?;
        let memory = query.number("kib", 1..=WORK_KIB)?.map(|kib| Self::Memory { kib });
        match (time, memory) {
            (Some(_), Some(_)) => {
                Err("scenario work: us and kib do not go together: leave one of them out".into())
            }
            (time, memory) => Ok(time.or(memory).unwrap_or(Self::Fixed(0))),
        }
    }
}

// ---- the client's side ----

impl Amount {
    /// Reads what a client asks for: `us:100`, `us:exp:100` or `kib:64`; the seed of what is drawn comes with [`Self::query`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((name @ ("us" | "kib"), value)) => {
                Self::asked_for(&Query::read(&ABOUT, Some(&format!("{name}={value}")))?)
            }
            _ => Err("write work as us:100, us:exp:100 (microseconds) or kib:64".to_owned()),
        }
    }

    /// The query that asks a server for it.
    pub fn query(self, seed: u64) -> String {
        match self {
            Self::Fixed(ns) => format!("us={}", ns / 1000),
            Self::Exponential { mean_ns, .. } => format!("us=exp:{}&seed={seed}", mean_ns / 1000),
            Self::Memory { kib } => format!("kib={kib}"),
        }
    }
}

/// As it is read.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(ns) => write!(f, "us:{}", ns / 1000),
            Self::Exponential { mean_ns, .. } => write!(f, "us:exp:{}", mean_ns / 1000),
            Self::Memory { kib } => write!(f, "kib:{kib}"),
        }
    }
}

/// Memory that is walked, shared by all connections of a thread: as much as any of them ever asked for.
type Memory = Rc<RefCell<Vec<u64>>>;

/// What the connections of a thread share.
#[derive(Debug, Default)]
pub struct Ground {
    /// Given back with the last connection that walks it.
    memory: Weak<RefCell<Vec<u64>>>,
    /// Who has to wait for a turn.
    pub line: Line,
}

/// Who works when.
#[derive(Debug, Default)]
pub struct Line {
    waiting: VecDeque<ConnId>,
    spent_ns: u64,
}

impl Line {
    /// Whether what has come now has to wait: for those that came before, or for the next turn.
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.is_spent()
    }

    /// Whether enough was done in this turn.
    pub fn is_spent(&self) -> bool {
        self.spent_ns >= WORK_PER_TURN_NS
    }

    /// There is more to do for `id`, which stands nowhere in the line.
    pub fn line_up(&mut self, id: ConnId) {
        self.waiting.push_back(id);
    }

    /// Who comes next.
    pub fn call_next(&mut self) -> Option<ConnId> {
        self.waiting.pop_front()
    }

    /// Time may be spent again; whether there is anybody to spend it on.
    pub fn begin_turn(&mut self) -> bool {
        self.spent_ns = 0;
        !self.waiting.is_empty()
    }
}

/// What works for one connection.
#[derive(Debug)]
pub struct Worker {
    amount: Amount,
    random: fastrand::Rng,
    memory: Memory,
}

impl Worker {
    /// One that does so much for each message.
    pub fn new(amount: Amount, ground: &mut Ground) -> Self {
        let seed = if let Amount::Exponential { seed, .. } = amount { seed } else { 0 };
        let memory = match amount {
            Amount::Memory { kib } => {
                let memory = ground.memory.upgrade().unwrap_or_default();
                let word_count = kib as usize * 1024 / size_of::<u64>();
                let more = word_count.saturating_sub(memory.borrow().len());
                memory.borrow_mut().extend(std::iter::repeat_n(1, more));
                ground.memory = Rc::downgrade(&memory);
                memory
            }
            Amount::Fixed(_) | Amount::Exponential { .. } => Memory::default(),
        };
        Self { amount, random: fastrand::Rng::with_seed(seed), memory }
    }

    /// Does what one message costs; says for how many nanoseconds it has.
    pub fn work(&mut self, line: &mut Line) -> u64 {
        let begun_ns = clock_ns();
        match self.amount {
            Amount::Fixed(0) => return 0,
            Amount::Fixed(ns) => spin_until(begun_ns + ns),
            Amount::Exponential { mean_ns, .. } => spin_until(begun_ns + self.draw(mean_ns)),
            Amount::Memory { kib } => self.walk(kib),
        }
        let took_ns = clock_ns() - begun_ns;
        line.spent_ns += took_ns;
        took_ns
    }

    fn draw(&mut self, mean_ns: u64) -> u64 {
        // 1 - x is never 0.
        let means = -(1.0 - self.random.f64()).ln();
        (mean_ns as f64 * means.min(MEANS_MAX)) as u64
    }

    fn walk(&self, kib: u64) {
        let word_count = kib as usize * 1024 / size_of::<u64>();
        for word in self.memory.borrow_mut()[..word_count].iter_mut().step_by(LINE_WORDS) {
            *word = black_box(*word).wrapping_mul(5).wrapping_add(1);
        }
    }
}

fn spin_until(until_ns: u64) {
    while clock_ns() < until_ns {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Amount, String> {
        Amount::asked_for(&Query::read(&ABOUT, Some(query))?)
    }

    #[test]
    fn a_query_says_how_much() {
        assert_eq!(asked(""), Ok(Amount::Fixed(0)));
        assert_eq!(asked("us=1000000"), Ok(Amount::Fixed(1_000_000_000)));
        assert_eq!(asked("us=exp:7&seed=9"), Ok(Amount::Exponential { mean_ns: 7000, seed: 9 }));
        assert_eq!(asked("kib=65536"), Ok(Amount::Memory { kib: 65536 }));
        for wrong in
            ["us=1000001", "us=exp:", "us=exp:-1", "us=exp:1000001", "us=", "kib=0", "kib=65537", "seed=x"]
        {
            assert!(asked(wrong).expect_err(wrong).contains("is not what it may be"), "{wrong}");
        }
        assert!(asked("us=1&kib=1").unwrap_err().contains("do not go together"));
    }

    #[test]
    fn a_client_asks_for_what_it_was_told_to() {
        for (text, query) in
            [("us:100", "us=100"), ("us:exp:7", "us=exp:7&seed=9"), ("kib:64", "kib=64"), ("us:0", "us=0")]
        {
            let amount = Amount::read(text).unwrap();
            assert_eq!((amount.to_string().as_str(), amount.query(9).as_str()), (text, query));
            let heard = asked(query).unwrap();
            assert_eq!(heard.to_string(), text);
        }
        for (wrong, why) in [
            ("100", "write work as"),
            ("seed:1", "write work as"),
            ("us:", "us is not"),
            ("kib:0", "kib is not"),
            ("us:1&kib=1", "us is not"),
        ] {
            let error = Amount::read(wrong).expect_err(wrong);
            assert!(error.contains(why) || error.contains("do not go together"), "{wrong}: {error}");
        }
    }

    #[test]
    fn draws_are_exponential_bounded_and_the_same_for_the_same_seed() {
        let worker = |seed| Worker::new(Amount::Exponential { mean_ns: 1000, seed }, &mut Ground::default());
        let draw = |seed| {
            let mut worker = worker(seed);
            (0..20_000).map(|_| worker.draw(1000)).collect::<Vec<_>>()
        };
        let draws = draw(7);
        assert_eq!(draws, draw(7));
        assert_ne!(draws, draw(8));
        assert!(draws.iter().all(|&ns| ns <= 20_000));
        let share = |more_than_ns| draws.iter().filter(|&&ns| ns > more_than_ns).count() as f64 / 20_000.0;
        // A share of p has a standard deviation of sqrt(p(1-p)/20,000), at most 0.0035.
        for means in [0.1, 1.0, 2.0, 3.0] {
            let due = f64::exp(-means);
            assert!((share((1000.0 * means) as u64) - due).abs() < 0.015, "{means}: {}", share(1000));
        }
    }

    #[test]
    fn time_is_spent_and_counted_and_the_line_is_busy_until_the_next_turn() {
        let mut ground = Ground::default();
        let mut worker = Worker::new(Amount::Fixed(WORK_PER_TURN_NS), &mut ground);
        assert!(!ground.line.is_busy());
        let before_ns = clock_ns();
        let took_ns = worker.work(&mut ground.line);
        assert!(took_ns >= WORK_PER_TURN_NS && clock_ns() - before_ns >= took_ns);
        assert!(ground.line.is_busy() && !ground.line.begin_turn() && !ground.line.is_busy());
    }

    #[test]
    fn memory_is_shared_walked_a_line_at_a_time_and_given_back() {
        let mut ground = Ground::default();
        let mut small = Worker::new(Amount::Memory { kib: 1 }, &mut ground);
        let large = Worker::new(Amount::Memory { kib: 4 }, &mut ground);
        small.work(&mut ground.line);
        let memory = ground.memory.upgrade().unwrap();
        assert_eq!(memory.borrow().len() * size_of::<u64>(), 4096);
        let touched: Vec<_> =
            memory.borrow().iter().enumerate().filter(|(_, word)| **word != 1).map(|(at, _)| at).collect();
        assert_eq!(touched, (0..128).step_by(LINE_WORDS).collect::<Vec<_>>());
        drop((small, large, memory));
        assert!(ground.memory.upgrade().is_none(), "nobody walks it any more");
    }
}
