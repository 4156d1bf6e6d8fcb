//! When the copies of each publication were delivered: kept by each thread for its own subscribers, put together at the end.
//!
//! Each delivery's time is kept, as far as [`SAMPLES_MAX`] goes, since the median of a publication cannot be had from medians of its
//! parts. Beyond, some publications are looked at and others not: which, follows from publisher and number alone, so all threads
//! look at the same ones, each only at fewer than before when its memory is full.
//!
//! Invariants: memory is taken before anything is measured. A publication has a first, a median and a last delivery only if it came to
//! every subscriber that it was for.

use crate::measure::histogram::{self, Histogram, new_histogram};
use crate::measure::particulars;

/// Deliveries whose times are kept, on all threads together: 16 MiB.
const SAMPLES_MAX: usize = 1 << 22;
/// Shares of the subscribers, by when they joined, that are told apart.
pub(super) const TENTHS: u64 = 10;

/// What may be kept of how many publications.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Subscribers of this thread in the room that has most of them.
    pub(super) subscribers: usize,
    /// Deliveries that are to be expected on this thread; `None`: nobody knows.
    pub(super) expected: Option<f64>,
    /// Threads that share the memory.
    pub(super) threads: usize,
    /// Places that a publication may have, see [`super::board::Board::place`].
    pub(super) places: usize,
}

/// One thread's part. See the module's text.
#[derive(Debug)]
pub(in super::super) struct FanLog {
    /// Deliveries' times, a block of them for each publication.
    times_ns: Vec<f32>,
    block_length: usize,
    blocks: Vec<Block>,
    free: Vec<u32>,
    /// By place: which block a publication has, plus one.
    index: Vec<u32>,
    /// Publications of a lower one are not looked at.
    level: u32,
    /// Durations by when the subscriber joined.
    tenths: Vec<Histogram>,
    /// Subscribers by room, on all threads.
    pub(super) rooms: Vec<u64>,
    /// Publications of the window, by this thread's publishers.
    pub(super) publications: u64,
    /// Numbers that were passed over, but for those that came late; such; and those that came again.
    pub(super) gaps: u64,
    pub(super) out_of_order: u64,
    pub(super) repeated: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    publisher: u32,
    count: u32,
    number: u64,
}

/// One in two publications is of level 1 or higher, one in four of 2 or higher, and so on (the finalizer of SplitMix64: Steele, Lea and
/// Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
#[inline]
fn level_of(publisher: u32, number: u64) -> u32 {
    let mut mixed = (u64::from(publisher) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(number);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)).trailing_zeros()
}

impl FanLog {
    /// With nothing in it, in `rooms` of so many subscribers.
    pub(super) fn new(room: Room, rooms: Vec<u64>) -> Self {
        let block_length = room.subscribers.max(1);
        let times_max = SAMPLES_MAX / room.threads.max(1);
        // By chance there may be more than expected.
        let needed =
            room.expected.map_or(times_max, |expected| (expected * 1.1) as usize + 64 * block_length);
        let block_count = (needed.min(times_max) / block_length).max(1);
        Self {
            // Written to, so that no page is missing later.
            times_ns: vec![f32::NAN; block_count * block_length],
            block_length,
            blocks: vec![Block { publisher: u32::MAX, ..Block::default() }; block_count],
            free: (0..block_count as u32).rev().collect(),
            index: std::iter::repeat_with(|| std::hint::black_box(0)).take(room.places).collect(),
            level: 0,
            tenths: std::iter::repeat_with(new_histogram).take(TENTHS as usize).collect(),
            rooms,
            publications: 0,
            gaps: 0,
            out_of_order: 0,
            repeated: 0,
        }
    }

    /// A copy of a publication, whose place is this, took so long to a subscriber of this tenth.
    #[inline]
    pub(super) fn add(&mut self, place: usize, publisher: u32, number: u64, tenth: usize, took_ns: u64) {
        histogram::record(&mut self.tenths[tenth], took_ns);
        if level_of(publisher, number) < self.level {
            return;
        }
        let mut at = (self.index[place] as usize).wrapping_sub(1);
        let is_its_own =
            |block: &&mut Block| block.publisher == publisher && block.number == number && block.count > 0;
        if self.blocks.get_mut(at).filter(is_its_own).is_none() {
            let Some(begun) = self.begin(place, publisher, number) else { return };
            at = begun;
        }
        let block = &mut self.blocks[at];
        if (block.count as usize) < self.block_length {
            self.times_ns[at * self.block_length + block.count as usize] = took_ns as f32;
            block.count += 1;
        }
    }

    #[cold]
    fn begin(&mut self, place: usize, publisher: u32, number: u64) -> Option<usize> {
        while self.free.is_empty() {
            self.level += 1;
            let level = self.level;
            let is_dropped =
                |block: &Block| block.count > 0 && level_of(block.publisher, block.number) < level;
            for (at, block) in self.blocks.iter_mut().enumerate().filter(|(_, block)| is_dropped(block)) {
                block.count = 0;
                self.free.push(at as u32);
            }
        }
        if level_of(publisher, number) < self.level {
            return None;
        }
        let at = self.free.pop()?;
        self.blocks[at as usize] = Block { publisher, number, count: 0 };
        self.index[place] = at + 1;
        Some(at as usize)
    }

    fn times_ns(&self, at: usize) -> &[f32] {
        let start = at * self.block_length;
        &self.times_ns[start..start + self.blocks[at].count as usize]
    }

    /// What the threads' parts come to.
    pub(in super::super) fn finish(logs: &[FanLog]) -> Option<particulars::Fan> {
        let rooms = &logs.first()?.rooms;
        let sum = |of: fn(&FanLog) -> u64| logs.iter().map(of).sum::<u64>();
        let mut fan = particulars::Fan {
            publications: sum(|log| log.publications),
            subscribers: rooms.iter().sum(),
            rooms: rooms.len() as u64,
            gaps: sum(|log| log.gaps),
            out_of_order: sum(|log| log.out_of_order),
            repeated: sum(|log| log.repeated),
            ..particulars::Fan::default()
        };
        put_together(logs, rooms, &mut fan);
        for tenth in 0..TENTHS as usize {
            let mut took = new_histogram();
            logs.iter().for_each(|log| histogram::merge(&mut took, &log.tenths[tenth]));
            if !took.is_empty() {
                fan.positions.push(particulars::Position {
                    joined_after_percent: 10 * tenth as u64,
                    deliveries: took.len(),
                    mean_ns: took.mean(),
                    p50_ns: histogram::percentile_ns(&took, 0.5),
                    p99_ns: histogram::percentile_ns(&took, 0.99),
                });
            }
        }
        Some(fan)
    }
}

/// First, median, last and spread of the publications that all threads looked at.
fn put_together(logs: &[FanLog], rooms: &[u64], fan: &mut particulars::Fan) {
    let level = logs.iter().map(|log| log.level).max().unwrap_or(0);
    fan.looked_at_one_in = 1 << level.min(63);
    let mut parts = Vec::new();
    for (thread, log) in logs.iter().enumerate() {
        let blocks = log.blocks.iter().enumerate();
        let kept =
            blocks.filter(|(_, block)| block.count > 0 && level_of(block.publisher, block.number) >= level);
        parts.extend(kept.map(|(at, block)| (block.publisher, block.number, thread, at)));
    }
    parts.sort_unstable();
    let mut times_ns: Vec<f32> = Vec::new();
    for of_one in parts.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        times_ns.clear();
        for &(_, _, thread, at) in of_one {
            times_ns.extend_from_slice(logs[thread].times_ns(at));
        }
        fan.looked_at += 1;
        if times_ns.len() as u64 != rooms[of_one[0].0 as usize % rooms.len()] {
            continue;
        }
        fan.complete += 1;
        let middle = (times_ns.len() - 1) / 2;
        let (_, &mut median_ns, _) = times_ns.select_nth_unstable_by(middle, f32::total_cmp);
        let first_ns = times_ns.iter().copied().fold(f32::INFINITY, f32::min);
        let last_ns = times_ns.iter().copied().fold(0.0, f32::max);
        for (histogram, took_ns) in [
            (&mut fan.first, first_ns),
            (&mut fan.median, median_ns),
            (&mut fan.last, last_ns),
            (&mut fan.spread, last_ns - first_ns),
        ] {
            histogram::record(histogram, took_ns as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const PLACES: usize = 1 << 12;

    fn log(subscribers: usize, times: usize, rooms: &[u64]) -> FanLog {
        // As many as are asked for: what is taken in reserve is taken away again.
        let expected = Some(times.saturating_sub(64 * subscribers) as f64 / 1.1);
        FanLog::new(Room { subscribers, expected, threads: 1, places: PLACES }, rooms.to_vec())
    }

    /// Deliveries as they may come: publication after publication, each to every subscriber, shuffled among their neighbours.
    fn deliveries(
        random: &mut fastrand::Rng,
        publications: u64,
        rooms: &[u64],
    ) -> Vec<(u32, u64, usize, u64)> {
        let mut all = Vec::new();
        for number in 0..publications {
            for publisher in 0..3_u32 {
                let due = all.len();
                for subscriber in 0..rooms[publisher as usize % rooms.len()] {
                    all.push((publisher, number, subscriber as usize, random.u64(1_000..50_000_000)));
                }
                random.shuffle(&mut all[due.saturating_sub(40)..]);
            }
        }
        all
    }

    /// Each publication's times, sorted.
    type Oracle = BTreeMap<(u32, u64), Vec<u64>>;

    fn expected(of: &Oracle, at: impl Fn(&[u64]) -> u64) -> Histogram {
        let mut all = new_histogram();
        of.values().for_each(|times_ns| histogram::record(&mut all, at(times_ns)));
        all
    }

    fn assert_like(fan: &particulars::Fan, oracle: &Oracle) {
        for (name, found, expected) in [
            ("first", &fan.first, expected(oracle, |times_ns| times_ns[0])),
            ("median", &fan.median, expected(oracle, |times_ns| times_ns[(times_ns.len() - 1) / 2])),
            ("last", &fan.last, expected(oracle, |times_ns| times_ns[times_ns.len() - 1])),
            ("spread", &fan.spread, expected(oracle, |times_ns| times_ns[times_ns.len() - 1] - times_ns[0])),
        ] {
            assert_eq!(found.len(), expected.len(), "{name}");
            for quantile in [0.0, 0.1, 0.5, 0.9, 1.0] {
                let (a, b) = (found.value_at_quantile(quantile), expected.value_at_quantile(quantile));
                assert!(a.abs_diff(b) as f64 <= 2e-3 * b as f64 + 4.0, "{name} at {quantile}: {a}, not {b}");
            }
        }
    }

    #[test]
    fn first_median_last_and_spread_are_those_of_a_slow_oracle_however_deliveries_are_spread_over_threads() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let rooms = [random.u64(1..40), random.u64(1..40)];
            let mut logs: Vec<_> = (0..3).map(|_| log(40, 1 << 20, &rooms)).collect();
            let mut oracle = Oracle::new();
            for (publisher, number, subscriber, took_ns) in deliveries(&mut random, 100, &rooms) {
                let place = (publisher as usize) << 10 | number as usize;
                logs[subscriber % 3].add(place, publisher, number, subscriber % 10, took_ns);
                oracle.entry((publisher, number)).or_default().push(took_ns);
            }
            oracle.values_mut().for_each(|times_ns| times_ns.sort_unstable());
            let fan = FanLog::finish(&logs).unwrap();
            assert_eq!((fan.looked_at, fan.complete, fan.looked_at_one_in), (300, 300, 1), "seed {seed}");
            assert_like(&fan, &oracle);
            let all: u64 = oracle.values().map(|times_ns| times_ns.len() as u64).sum();
            assert_eq!(fan.positions.iter().map(|position| position.deliveries).sum::<u64>(), all);
        }
    }

    #[test]
    fn where_memory_is_short_all_threads_look_at_the_same_publications_and_at_every_delivery_of_them() {
        let mut random = fastrand::Rng::with_seed(5);
        let rooms = [30];
        // One thread has far less room than the other.
        let mut logs = vec![log(15, 15 * 2_000, &rooms), log(15, 15 * 100, &rooms)];
        let mut oracle = Oracle::new();
        for (publisher, number, subscriber, took_ns) in deliveries(&mut random, 1_000, &rooms) {
            // Of 1024 places each.
            let place = (publisher as usize) << 10 | number as usize;
            logs[subscriber % 2].add(place, publisher, number, 0, took_ns);
            oracle.entry((publisher, number)).or_default().push(took_ns);
        }
        let fan = FanLog::finish(&logs).unwrap();
        assert!(fan.looked_at_one_in >= 32 && (20..=100).contains(&fan.looked_at), "{}", fan.looked_at);
        assert_eq!(fan.complete, fan.looked_at);
        let level = fan.looked_at_one_in.trailing_zeros();
        oracle.retain(|&(publisher, number), _| level_of(publisher, number) >= level);
        oracle.values_mut().for_each(|times_ns| times_ns.sort_unstable());
        assert_eq!(oracle.len() as u64, fan.looked_at);
        assert_like(&fan, &oracle);
    }

    #[test]
    fn a_publication_that_did_not_come_to_everybody_has_no_last_delivery() {
        let mut log = log(4, 1 << 12, &[4]);
        (0..4).for_each(|_| log.add(0, 0, 0, 0, 100));
        (0..3).for_each(|_| log.add(1, 0, 1, 0, 100));
        let fan = FanLog::finish(&[log]).unwrap();
        assert_eq!((fan.looked_at, fan.complete, fan.last.len()), (2, 1, 1));
    }

    #[test]
    fn a_place_that_is_needed_again_leaves_what_was_there_before() {
        let mut log = log(2, 1 << 12, &[2]);
        for number in [0, PLACES as u64, 2 * PLACES as u64] {
            (0..2).for_each(|_| log.add(0, 0, number, 0, 1_000 + number));
        }
        assert_eq!(FanLog::finish(&[log]).unwrap().complete, 3);
    }

    #[test]
    fn levels_halve_again_and_again() {
        let numbers = 1 << 16;
        for publisher in [0, 1, 77] {
            for level in [1, 2, 5, 8] {
                let kept = (0..numbers).filter(|&number| level_of(publisher, number) >= level).count() as f64;
                let expected = (numbers >> level) as f64;
                assert!((kept / expected - 1.0).abs() < 0.3, "{publisher}, {level}: {kept}, not {expected}");
            }
        }
    }
}
