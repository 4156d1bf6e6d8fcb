//! What a run's connections do: all the same, or, of `mix`, some this and others that.
//!
//! Invariant: what a connection does, where it asks for it and what it sends follows from its number among all of the run, whichever
//! thread has it; so it is the same for any number of threads.
//! Deliberately absent: how it is done, see [`super::client`].

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::scenario::Scenario;
use crate::scenario::sizes::{Sizes, random_of};
use crate::scenario::work::Amount;

/// What messages are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Deed {
    /// Fillings and pings, each sent back by the server as it came, which is asked for nothing else.
    Echo {
        /// The share of messages that are pings; 0: none is.
        ping_share: f64,
    },
    /// The same without pings, and the server works for each.
    Work(Amount),
    /// Requests of JSON.
    Json {
        /// The share of them that everybody is to hear.
        broadcast_share: f64,
    },
}

/// What some of the connections do.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The row of the scenario they play.
    pub row: &'static Scenario,
    /// What they send.
    pub deed: Deed,
    /// How large messages are.
    pub sizes: Sizes,
    /// Frames a message.
    pub fragments: u32,
    /// How many connections there are of it, on all threads.
    pub connections: u64,
}

impl Part {
    /// Whether messages are fillings of one size, each in a frame.
    fn is_plain(&self) -> bool {
        let is_filling = matches!(self.deed, Deed::Work(_) | Deed::Echo { ping_share: 0.0 });
        is_filling && self.sizes.fixed().is_some() && self.fragments == 1
    }

    /// Path and query, of connection `number`.
    fn target(&self, seed: u64, number: u64) -> String {
        let path = self.row.paths[0];
        match self.deed {
            // The server draws for each connection by itself: with one seed, all of them would have long messages at once.
            Deed::Work(amount) => format!("{path}?{}", amount.query(random_of(seed, number, 0).u64(..))),
            Deed::Echo { .. } | Deed::Json { .. } => path.to_owned(),
        }
    }
}

/// How the connections of one thread differ.
#[derive(Debug, Clone)]
pub(super) struct Variety {
    pub(super) parts: Vec<Part>,
    pub(super) seed: u64,
    /// Which thread this is, and of how many.
    pub(super) thread: u64,
    pub(super) thread_count: u64,
    /// What was published on all of them.
    pub(super) published: Arc<Published>,
}

impl Variety {
    /// A thread's connection, as it is numbered among all threads'.
    pub(super) fn number_of(&self, ordinal: u32) -> u64 {
        u64::from(ordinal) * self.thread_count + self.thread
    }

    /// The part that connection `number` plays.
    pub(super) fn part_of(&self, number: u64) -> usize {
        let mut end = 0;
        let is_before = |part: &&Part| {
            end += part.connections;
            end <= number
        };
        self.parts.iter().take_while(is_before).count().min(self.parts.len() - 1)
    }

    /// Whether connection `number` sends nothing but plain messages, and nothing of it is to be told apart.
    pub(super) fn is_plain(&self, number: u64) -> bool {
        self.parts.len() == 1 && self.parts[self.part_of(number)].is_plain()
    }

    /// What connection `number` asks for: a path of the user's own stays as it is.
    pub(super) fn target<'u>(&self, asked: &'u str, number: u64) -> Cow<'u, str> {
        match asked {
            "/" => Cow::Owned(self.parts[self.part_of(number)].target(self.seed, number)),
            own => Cow::Borrowed(own),
        }
    }
}

/// What all threads have published together.
#[derive(Debug, Default)]
pub(super) struct Published {
    count: AtomicU64,
    sum: AtomicU64,
    /// Threads that may still publish.
    sending: AtomicUsize,
}

/// How many broadcasts, and which: a sum that another set of as many is not to have but by chance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) count: u64,
    sum: u64,
}

impl Heard {
    pub(super) fn add(&mut self, number: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(word_of(number));
    }
}

fn word_of(number: u64) -> u64 {
    random_of(0, 0, number).u64(..)
}

impl Published {
    /// By so many threads.
    pub(super) fn by(thread_count: usize) -> Self {
        Self { sending: AtomicUsize::new(thread_count), ..Self::default() }
    }

    pub(super) fn add(&self, number: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(word_of(number), Ordering::Relaxed);
    }

    /// A thread publishes nothing more.
    pub(super) fn end(&self) {
        self.sending.fetch_sub(1, Ordering::Release);
    }

    /// All there is to be heard, once nobody publishes any more.
    pub(super) fn all(&self) -> Option<Heard> {
        (self.sending.load(Ordering::Acquire) == 0).then(|| self.so_far())
    }

    /// What there was until now.
    pub(super) fn so_far(&self) -> Heard {
        Heard { count: self.count.load(Ordering::Relaxed), sum: self.sum.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{echo, work};

    fn part(row: &'static Scenario, deed: Deed, connections: u64) -> Part {
        Part { row, deed, sizes: Sizes::Fixed(64), fragments: 1, connections }
    }

    fn variety(parts: Vec<Part>, thread: u64, thread_count: u64) -> Variety {
        Variety { parts, seed: 1, thread, thread_count, published: Arc::default() }
    }

    #[test]
    fn every_connection_has_its_part_whatever_the_threads() {
        let parts = || {
            let echo = Deed::Echo { ping_share: 0.0 };
            vec![part(&echo::ABOUT, echo, 4), part(&work::ABOUT, Deed::Work(Amount::Fixed(5_000)), 3)]
        };
        let all = |thread_count: u64| {
            let mut all: Vec<_> = (0..thread_count)
                .flat_map(|thread| {
                    let variety = variety(parts(), thread, thread_count);
                    // As many as the thread's share of seven.
                    let share = 7 / thread_count + u64::from(thread < 7 % thread_count);
                    (0..share as u32).map(move |ordinal| {
                        let number = variety.number_of(ordinal);
                        (number, variety.target("/", number).into_owned())
                    })
                })
                .collect();
            all.sort_unstable();
            all
        };
        let alone = all(1);
        assert_eq!(alone.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
        assert_eq!(alone.iter().filter(|(_, target)| target == "/").count(), 4);
        assert_eq!(alone[6].1, "/work?us=5");
        assert_eq!((all(2), all(3)), (alone.clone(), alone));
    }

    #[test]
    fn a_path_of_ones_own_stays_and_connections_draw_differently() {
        let amount = Amount::read("us:exp:100").unwrap();
        let variety = variety(vec![part(&work::ABOUT, Deed::Work(amount), 2)], 0, 1);
        assert_eq!(variety.target("/mine?x=1", 0), "/mine?x=1");
        let targets = [0, 1].map(|number| variety.target("/", number).into_owned());
        assert!(targets.iter().all(|target| target.starts_with("/work?us=exp:100&seed=")), "{targets:?}");
        assert_ne!(targets[0], targets[1]);
        assert!(variety.is_plain(0) && variety.is_plain(1));
    }

    #[test]
    fn what_was_heard_is_what_was_published_only_if_nothing_is_missing_or_there_twice() {
        let published = Published::by(1);
        [5, 6, 7].into_iter().for_each(|number| published.add(number));
        let heard = |numbers: &[u64]| {
            let mut heard = Heard::default();
            numbers.iter().for_each(|&number| heard.add(number));
            heard
        };
        assert_eq!(published.all(), None, "there may be more");
        published.end();
        let all = published.all().unwrap();
        assert_eq!(all, heard(&[7, 5, 6]));
        assert!(all != heard(&[5, 6]) && all != heard(&[5, 6, 6]) && all != heard(&[5, 6, 8]));
    }
}
