//! Where a response time goes, when the server stamps its answers: in four parts that add up to it, message by message.
//!
//! What is stamped is when a message was *composed* and when it had been *received*. Between composing and sending lies the
//! rest of the sender's turn, and engines differ in how much that is: all send at the end of a turn, but epoll an answer at
//! once, to have its receive buffer back. So both ways hold a share of the engine that sent, beside the kernels and
//! the wire. Deliberately absent: stamps of the sending itself, which an answer under way could not carry.
//!
//! Percentiles of the parts do not add up to the percentile of the whole, so the parts are also averaged over the
//! messages whose response time lies about each percentile.
//!
//! Invariant: the four parts of a message sum to its response time, exactly. Stamps are of one clock (CLOCK_MONOTONIC) on
//! one host; a stamp that cannot be is counted and leaves the message out.

use serde::{Deserialize, Serialize};

use super::histogram::{self, Histogram, new_histogram, record};

/// Buckets of response time a factor of two, in which parts are summed: 3 % wide.
const BUCKETS_PER_OCTAVE: u64 = 32;
const BUCKETS: usize = 43 * BUCKETS_PER_OCTAVE as usize;

/// The percentiles explained, and the share of messages about each that is averaged.
pub const EXPLAINED: [(&str, f64, f64); 5] = [
    ("p50", 0.45, 0.55),
    ("p90", 0.88, 0.92),
    ("p99", 0.985, 0.995),
    ("p99.9", 0.9985, 0.9995),
    ("p99.99", 0.99985, 0.99995),
];

/// When things happened to one message, all of one clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moments {
    /// It was to be sent.
    pub intended_ns: u64,
    /// It was composed, in the turn that sent it.
    pub sent_ns: u64,
    /// The server's kernel received it, if that was noted.
    pub arrived_ns: Option<u64>,
    /// The server had received it.
    pub seen_ns: u64,
    /// The server had composed the answer.
    pub queued_ns: u64,
    /// Our kernel received the answer, if that was noted.
    pub returned_ns: Option<u64>,
    /// We had received the answer.
    pub answered_ns: u64,
    /// Now, as the answer is looked at.
    pub read_ns: u64,
}

/// The parts of one message's response time; the first four add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// See [`Anatomy::generator`].
    pub generator_ns: u64,
    /// See [`Anatomy::to_server`].
    pub to_server_ns: u64,
    /// See [`Anatomy::in_server`].
    pub in_server_ns: u64,
    /// See [`Anatomy::back`].
    pub back_ns: u64,
    /// Of the way to the server, and of the way back: from the kernel's receiving it to the engine's.
    pub wake_ups_ns: [Option<u64>; 2],
    /// See [`Anatomy::overlapped`].
    pub overlapped: bool,
}

impl Parts {
    /// The parts; `None` if the moments cannot be of one clock.
    ///
    /// An end that stamps what it received with the beginning of its turn, though it receives within turns, says that it
    /// had the message before that was sent: the way there took no time then. What no turn can explain is an answer
    /// composed before its message was, or after it was read.
    #[inline]
    pub fn of(at: &Moments) -> Option<Self> {
        let in_order = at.intended_ns <= at.sent_ns
            && at.sent_ns <= at.queued_ns
            && at.seen_ns <= at.queued_ns
            && at.queued_ns <= at.read_ns
            && at.sent_ns <= at.answered_ns;
        if !in_order {
            return None;
        }
        let queued_ns = at.queued_ns.min(at.answered_ns);
        let seen_ns = at.seen_ns.clamp(at.sent_ns, queued_ns);
        let wake_up = |arrived_ns: Option<u64>, from_ns, turn_ns| {
            arrived_ns.map(|arrived_ns: u64| turn_ns - arrived_ns.clamp(from_ns, turn_ns))
        };
        Some(Self {
            generator_ns: at.sent_ns - at.intended_ns,
            to_server_ns: seen_ns - at.sent_ns,
            in_server_ns: queued_ns - seen_ns,
            back_ns: at.answered_ns - queued_ns,
            wake_ups_ns: [
                wake_up(at.arrived_ns, at.sent_ns, seen_ns),
                wake_up(at.returned_ns, queued_ns, at.answered_ns),
            ],
            overlapped: seen_ns != at.seen_ns || queued_ns != at.queued_ns,
        })
    }

    fn four(&self) -> [u64; 4] {
        [self.generator_ns, self.to_server_ns, self.in_server_ns, self.back_ns]
    }
}

/// Collects parts; constant in memory.
#[derive(Debug)]
pub struct Collector {
    parts: [Histogram; 4],
    /// Of the way to the server, and of the way back; made with the first message that has one.
    splits: [Option<Box<Split>>; 2],
    sums: Box<[Sum]>,
    overlapped: u64,
    disordered: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    messages: u64,
    response_ns: u64,
    parts_ns: [u64; 4],
    wake_ups_ns: [u64; 2],
    /// Messages of which those were noted.
    woken: [u64; 2],
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.response_ns += other.response_ns;
        let add_all = |ours: &mut [u64], theirs: &[u64]| {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
        };
        add_all(&mut self.parts_ns, &other.parts_ns);
        add_all(&mut self.wake_ups_ns, &other.wake_ups_ns);
        add_all(&mut self.woken, &other.woken);
    }
}

impl Default for Collector {
    fn default() -> Self {
        let parts = [(); 4].map(|()| new_histogram());
        let sums = vec![Sum::default(); BUCKETS].into();
        Self { parts, splits: [None, None], sums, overlapped: 0, disordered: 0 }
    }
}

/// The bucket of a response time: linear within each factor of two.
#[inline]
fn bucket(response_ns: u64) -> usize {
    let value = response_ns.max(BUCKETS_PER_OCTAVE);
    let octave = value.ilog2() - BUCKETS_PER_OCTAVE.ilog2();
    let within = (value >> octave) - BUCKETS_PER_OCTAVE;
    (u64::from(octave) * BUCKETS_PER_OCTAVE + within).min(BUCKETS as u64 - 1) as usize
}

impl Collector {
    /// Adds a message; `None` where its [`Parts`] could not be told.
    pub fn add(&mut self, parts: Option<Parts>) {
        let Some(parts) = parts else {
            self.disordered += 1;
            return;
        };
        self.overlapped += u64::from(parts.overlapped);
        let four_ns = parts.four();
        let response_ns = four_ns.iter().sum();
        let mut sum = Sum { messages: 1, response_ns, parts_ns: four_ns, ..Sum::default() };
        for (histogram, part_ns) in self.parts.iter_mut().zip(four_ns) {
            record(histogram, part_ns);
        }
        let ways_ns = [parts.to_server_ns, parts.back_ns];
        for (way, wake_up_ns) in parts.wake_ups_ns.into_iter().enumerate() {
            let Some(wake_up_ns) = wake_up_ns else { continue };
            (sum.wake_ups_ns[way], sum.woken[way]) = (wake_up_ns, 1);
            let split = self.splits[way].get_or_insert_with(Split::boxed);
            record(&mut split.kernel, ways_ns[way] - wake_up_ns);
            record(&mut split.wake_up, wake_up_ns);
        }
        self.sums[bucket(response_ns)].add(&sum);
    }

    /// Adds another's messages to these.
    pub fn merge(&mut self, other: &Collector) {
        for (ours, theirs) in self.parts.iter_mut().zip(&other.parts) {
            histogram::merge(ours, theirs);
        }
        for (ours, theirs) in self.splits.iter_mut().zip(&other.splits) {
            let Some(theirs) = theirs else { continue };
            let ours = ours.get_or_insert_with(Split::boxed);
            histogram::merge(&mut ours.kernel, &theirs.kernel);
            histogram::merge(&mut ours.wake_up, &theirs.wake_up);
        }
        for (ours, theirs) in self.sums.iter_mut().zip(&other.sums) {
            ours.add(theirs);
        }
        self.overlapped += other.overlapped;
        self.disordered += other.disordered;
    }

    /// What the messages come to; `None` where none was stamped.
    pub fn finish(self) -> Option<Anatomy> {
        let messages: u64 = self.sums.iter().map(|sum| sum.messages).sum();
        if messages == 0 && self.disordered == 0 {
            return None;
        }
        let explained =
            EXPLAINED.iter().filter_map(|&(label, from, to)| self.about(messages, label, from, to));
        let explained = explained.collect();
        let [generator, to_server, in_server, back] = self.parts;
        let [to_server_split, back_split] = self.splits.map(|split| split.map(|split| *split));
        let (overlapped, disordered) = (self.overlapped, self.disordered);
        Some(Anatomy {
            generator,
            to_server,
            in_server,
            back,
            to_server_split,
            back_split,
            explained,
            overlapped,
            disordered,
        })
    }

    /// The mean parts of the messages from quantile `from` to quantile `to`, in order of response time; the buckets at
    /// either end count in full. `None` where fewer than five messages lie between.
    fn about(&self, messages: u64, label: &str, from: f64, to: f64) -> Option<Explained> {
        if (messages as f64) * (to - from) < 5.0 {
            return None;
        }
        let (first, last) = ((messages as f64 * from) as u64, (messages as f64 * to) as u64);
        let (mut passed, mut band) = (0, Sum::default());
        for sum in &self.sums {
            let before = passed;
            passed += sum.messages;
            if passed > first && before <= last {
                band.add(sum);
            }
        }
        let mean_ns = |total_ns: u64| total_ns as f64 / band.messages as f64;
        let wake_up_ns =
            |way: usize| (band.woken[way] > 0).then(|| band.wake_ups_ns[way] as f64 / band.woken[way] as f64);
        let [generator_ns, to_server_ns, in_server_ns, back_ns] = band.parts_ns.map(mean_ns);
        Some(Explained {
            percentile: label.to_owned(),
            messages: band.messages,
            response_ns: mean_ns(band.response_ns),
            generator_ns,
            to_server_ns,
            in_server_ns,
            back_ns,
            to_server_wake_up_ns: wake_up_ns(0),
            back_wake_up_ns: wake_up_ns(1),
        })
    }
}

/// Each part's histogram, and what the parts are about each percentile of the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anatomy {
    /// From the intended send until it was composed: it waited in the generator.
    #[serde(with = "histogram::base64")]
    pub generator: Histogram,
    /// From its composing until the server had received it: the rest of our turn, two kernels, the wire, the server's
    /// wake-up, and its wait in the server's queue.
    #[serde(with = "histogram::base64")]
    pub to_server: Histogram,
    /// From then until the answer was composed: what was received with it and came before it, and the work on it.
    #[serde(with = "histogram::base64")]
    pub in_server: Histogram,
    /// From then until we had received the answer: the rest of the server's turn, two kernels, the wire, our wake-up, and
    /// its wait in our queue.
    #[serde(with = "histogram::base64")]
    pub back: Histogram,
    /// The way to the server, split by when the server's kernel received it; `None` where its engine could not tell.
    #[serde(default)]
    pub to_server_split: Option<Split>,
    /// The way back, split by when our kernel received it; `None` where our engine could not tell.
    #[serde(default)]
    pub back_split: Option<Split>,
    /// The mean parts of the messages about each percentile of response time.
    pub explained: Vec<Explained>,
    /// Messages (or answers) said to have been received before they were composed, by the beginning of the turn that
    /// received them while it was under way: their way there took no time. No engine of ours says so any more.
    #[serde(default)]
    pub overlapped: u64,
    /// Messages left out because their stamps cannot be of our clock.
    pub disordered: u64,
}

impl Anatomy {
    /// Adds another run's messages to these. What is explained of a percentile is then the mean of the messages about each run's own.
    pub fn merge(&mut self, other: &Anatomy) {
        let parts = [
            (&mut self.generator, &other.generator),
            (&mut self.to_server, &other.to_server),
            (&mut self.in_server, &other.in_server),
            (&mut self.back, &other.back),
        ];
        parts.into_iter().for_each(|(ours, theirs)| histogram::merge(ours, theirs));
        let splits =
            [(&mut self.to_server_split, &other.to_server_split), (&mut self.back_split, &other.back_split)];
        for (ours, theirs) in splits {
            match (ours.as_mut(), theirs) {
                (Some(ours), Some(theirs)) => {
                    histogram::merge(&mut ours.kernel, &theirs.kernel);
                    histogram::merge(&mut ours.wake_up, &theirs.wake_up);
                }
                // What one of them could not tell is not known of both.
                _ => *ours = None,
            }
        }
        for theirs in &other.explained {
            match self.explained.iter_mut().find(|ours| ours.percentile == theirs.percentile) {
                Some(ours) => ours.merge(theirs),
                None => self.explained.push(theirs.clone()),
            }
        }
        self.overlapped += other.overlapped;
        self.disordered += other.disordered;
    }
}

impl Explained {
    fn merge(&mut self, other: &Explained) {
        let (ours, theirs) = (self.messages as f64, other.messages as f64);
        let mean = |left: f64, right: f64| (left * ours + right * theirs) / (ours + theirs);
        let mean_if_both = |left: Option<f64>, right: Option<f64>| Some(mean(left?, right?));
        self.response_ns = mean(self.response_ns, other.response_ns);
        self.generator_ns = mean(self.generator_ns, other.generator_ns);
        self.to_server_ns = mean(self.to_server_ns, other.to_server_ns);
        self.in_server_ns = mean(self.in_server_ns, other.in_server_ns);
        self.back_ns = mean(self.back_ns, other.back_ns);
        self.to_server_wake_up_ns = mean_if_both(self.to_server_wake_up_ns, other.to_server_wake_up_ns);
        self.back_wake_up_ns = mean_if_both(self.back_wake_up_ns, other.back_wake_up_ns);
        self.messages += other.messages;
    }
}

/// One way, in two. Where one receive brings several messages, all have the last one's arrival, so that the wake-up is
/// rather too short than too long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// From its composing until the receiving end's kernel had it: the rest of the sender's turn, both kernels, the wire.
    #[serde(with = "histogram::base64")]
    pub kernel: Histogram,
    /// From then until the receiving end received it: it slept, or was busy with others.
    #[serde(with = "histogram::base64")]
    pub wake_up: Histogram,
}

impl Split {
    fn boxed() -> Box<Self> {
        Box::new(Self { kernel: new_histogram(), wake_up: new_histogram() })
    }
}

/// The mean of the messages about one percentile; the four parts add up to the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// Which, as `p99`.
    pub percentile: String,
    /// Messages averaged.
    pub messages: u64,
    /// Their mean response time.
    pub response_ns: f64,
    /// See [`Anatomy::generator`].
    pub generator_ns: f64,
    /// See [`Anatomy::to_server`].
    pub to_server_ns: f64,
    /// See [`Anatomy::in_server`].
    pub in_server_ns: f64,
    /// See [`Anatomy::back`].
    pub back_ns: f64,
    /// Of the way to the server: the wake-up, see [`Split::wake_up`].
    #[serde(default)]
    pub to_server_wake_up_ns: Option<f64>,
    /// Of the way back: the wake-up.
    #[serde(default)]
    pub back_wake_up_ns: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_ascend_and_are_three_percent_wide() {
        let mut last = 0;
        for shift in 0..41 {
            for step in 0..64 {
                let value = (1_u64 << shift) + ((step << shift) >> 6);
                let at = bucket(value);
                assert!(at >= last, "{value}");
                last = at;
            }
        }
        assert!(bucket(histogram::HIGHEST_NS) < BUCKETS - 1);
        assert_eq!(bucket(1_000_000), bucket(1_010_000));
        assert_ne!(bucket(1_000_000), bucket(1_040_000));
    }

    #[test]
    fn the_parts_of_the_slow_messages_are_told_from_those_of_the_many() {
        let mut collectors = [Collector::default(), Collector::default()];
        for number in 0..100_000_u64 {
            let start_ns = 1_000_000 * number;
            let collector = &mut collectors[(number % 2) as usize];
            // One in fifty is slow, and it is the server that takes the time.
            let in_server_ns = if number % 50 == 0 { 900_000 } else { 1_000 };
            let seen_ns = start_ns + 5_000 + 20_000;
            let queued_ns = seen_ns + in_server_ns;
            let answered_ns = queued_ns + 30_000 + number % 7;
            let moments = Moments {
                intended_ns: start_ns,
                ..moments(start_ns + 5_000, seen_ns, queued_ns, answered_ns)
            };
            // The kernel of every other message's server tells when it had it.
            let arrived_ns = (number % 2 == 0).then_some(seen_ns - 15_000);
            collector.add(Parts::of(&Moments { arrived_ns, ..moments }));
        }
        collectors[0].add(Parts::of(&Moments { intended_ns: 10, ..moments(9, 11, 12, 13) }));
        let [mut whole, other] = collectors;
        whole.merge(&other);
        let anatomy = whole.finish().unwrap();
        assert_eq!((anatomy.disordered, anatomy.overlapped, anatomy.back.len()), (1, 0, 100_000));
        let split = anatomy.to_server_split.as_ref().unwrap();
        assert_eq!((split.kernel.len(), split.wake_up.len()), (50_000, 50_000));
        assert!(split.kernel.max().abs_diff(5_000) < 10 && split.wake_up.max().abs_diff(15_000) < 15);
        assert!(anatomy.back_split.is_none());
        let about = |label| anatomy.explained.iter().find(|row| row.percentile == label).unwrap();
        for row in &anatomy.explained {
            let sum_ns = row.generator_ns + row.to_server_ns + row.in_server_ns + row.back_ns;
            assert!((sum_ns - row.response_ns).abs() < 1e-6, "{row:?}");
        }
        assert_eq!((about("p50").in_server_ns, about("p50").to_server_ns), (1_000.0, 20_000.0));
        assert_eq!((about("p99").in_server_ns, about("p99").generator_ns), (900_000.0, 5_000.0));
        assert_eq!(about("p99.9").in_server_ns, 900_000.0);
        assert_eq!((about("p50").to_server_wake_up_ns, about("p50").back_wake_up_ns), (Some(15_000.0), None));
    }

    /// A message sent as intended, and looked at when its answer came.
    fn moments(sent_ns: u64, seen_ns: u64, queued_ns: u64, answered_ns: u64) -> Moments {
        Moments {
            intended_ns: sent_ns,
            sent_ns,
            arrived_ns: None,
            seen_ns,
            queued_ns,
            returned_ns: None,
            answered_ns,
            read_ns: answered_ns,
        }
    }

    #[test]
    fn parts_add_up_to_the_response_time_whatever_arrived_within_a_turn() {
        for seen_ns in [90, 100, 150, 180] {
            for answered_ns in [170, 180, 250] {
                for arrived_ns in [None, Some(50), Some(140), Some(500)] {
                    let mut at = moments(100, seen_ns, 180, answered_ns);
                    (at.intended_ns, at.read_ns) = (95, 260);
                    (at.arrived_ns, at.returned_ns) = (arrived_ns, arrived_ns);
                    let parts = Parts::of(&at).unwrap();
                    assert_eq!(parts.four().iter().sum::<u64>(), answered_ns - 95, "{at:?}");
                    assert_eq!(parts.overlapped, seen_ns < 100 || seen_ns > answered_ns || answered_ns < 180);
                    let [there_ns, back_ns] = parts.wake_ups_ns;
                    assert_eq!(there_ns.is_some(), arrived_ns.is_some());
                    assert!(there_ns.unwrap_or(0) <= parts.to_server_ns, "{at:?}");
                    assert!(back_ns.unwrap_or(0) <= parts.back_ns, "{at:?}");
                }
            }
        }
    }

    #[test]
    fn stamps_of_another_clock_are_told_by_what_no_turn_can_explain() {
        let good = moments(100, 150, 180, 250);
        assert!(Parts::of(&good).is_some());
        for bad in [
            Moments { seen_ns: 20, queued_ns: 50, ..good },
            Moments { seen_ns: 1_000, queued_ns: 1_030, ..good },
            Moments { seen_ns: 190, ..good },
            Moments { intended_ns: 101, ..good },
        ] {
            assert_eq!(Parts::of(&bad), None, "{bad:?}");
        }
    }
}
