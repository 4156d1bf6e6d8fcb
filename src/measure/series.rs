//! The measured window in consecutive batches, each with a histogram of its own.
//!
//! Invariant: the batches cover what was handed in, in order and without loss, and are never more than
//! [`BATCHES_MAX`]: when they would be, neighbours are merged in pairs. So memory and file stay bounded however long a
//! run is, and what a batch holds is exact, only its length grows.
//! Deliberately absent: percentiles of batches as stored numbers. The histograms have them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::histogram::{self, Histogram, new_histogram};

/// Batches that are kept at most: enough for a heatmap and for batch statistics.
pub const BATCHES_MAX: usize = 512;

/// A histogram as the values that occur: `(value_ns, count)`, ascending by value. Takes memory by what was
/// recorded, not by what could have been; values are the upper ends of their slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compact(Vec<(u64, u64)>);

impl Compact {
    /// The values recorded in `histogram`.
    pub fn of(histogram: &Histogram) -> Compact {
        let slots = histogram.iter_recorded();
        Compact(slots.map(|slot| (slot.value_iterated_to(), slot.count_at_value())).collect())
    }

    /// The histogram that this was made of (about 270 kB).
    pub fn to_histogram(&self) -> Histogram {
        let mut histogram = new_histogram();
        self.add_to(&mut histogram);
        histogram
    }

    /// Adds every count to `histogram`.
    pub fn add_to(&self, histogram: &mut Histogram) {
        for &(value_ns, count) in &self.0 {
            histogram.saturating_record_n(value_ns, count);
        }
    }

    /// Values and their counts, ascending, in nanoseconds.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// How many values there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|&(_, count)| count).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many values lie above `value_ns`, which is the upper end of a slot (as every percentile is).
    pub fn count_above(&self, value_ns: u64) -> u64 {
        let first = self.0.partition_point(|&(value, _)| value <= value_ns);
        self.0[first..].iter().map(|&(_, count)| count).sum()
    }

    /// Adds another's counts to these.
    pub fn merge(&mut self, other: &Compact) {
        let mut merged = Vec::with_capacity(self.0.len().max(other.0.len()));
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let Some(&&(value, count)) = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if b.0 < a.0 => right.peek(),
            (None, _) => right.peek(),
            _ => left.peek(),
        } {
            // Equal values: the left one comes first, and the right one is added to it.
            if left.peek().is_some_and(|&&(ours, _)| ours == value) {
                left.next();
            } else {
                right.next();
            }
            match merged.last_mut() {
                Some((last, total)) if *last == value => *total += count,
                _ => merged.push((value, count)),
            }
        }
        merged.shrink_to_fit();
        self.0 = merged;
    }

    /// What is left of these counts when another's are taken away.
    pub fn without(&self, other: &Compact) -> Compact {
        let mut taken = other.0.iter().peekable();
        let left = |&(value, count): &(u64, u64)| {
            while taken.next_if(|&&(theirs, _)| theirs < value).is_some() {}
            let gone = taken.next_if(|&&(theirs, _)| theirs == value).map_or(0, |&(_, gone)| gone);
            (count > gone).then(|| (value, count - gone))
        };
        Compact(self.0.iter().filter_map(left).collect())
    }
}

impl FromIterator<(u64, u64)> for Compact {
    /// Of values, strictly ascending, each the upper end of a slot, and their counts.
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(counts: I) -> Compact {
        let counts: Vec<_> = counts.into_iter().collect();
        debug_assert!(counts.is_sorted_by(|a, b| a.0 < b.0), "values ascend");
        Compact(counts)
    }
}

impl Serialize for Compact {
    /// As every other histogram of a result: base64 of the HdrHistogram V2 deflate encoding.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        histogram::encode(&self.to_histogram()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Compact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Compact, D::Error> {
        let text = String::deserialize(deserializer)?;
        histogram::decode(&text).map(|histogram| Compact::of(&histogram)).map_err(serde::de::Error::custom)
    }
}

/// A piece of the measured window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Its start, after the start of the window.
    pub start_s: f64,
    /// Its length.
    pub length_s: f64,
    /// Messages sent in it.
    pub sent: u64,
    /// Answers received in it.
    pub answered: u64,
    /// Their headline durations: response times in an open loop, service times in a closed one.
    pub headline: Compact,
}

impl Batch {
    fn merge(&mut self, next: &Batch) {
        self.length_s = next.start_s + next.length_s - self.start_s;
        self.sent += next.sent;
        self.answered += next.answered;
        self.headline.merge(&next.headline);
    }
}

/// Collects batches as they end. See the module's text.
#[derive(Debug, Default)]
pub struct Series {
    batches: Vec<Batch>,
    /// How many of the batches handed in make one that is kept: a power of two, once there were many; 0: one.
    doublings: u32,
    /// How many the last one holds.
    in_last: u64,
}

impl Series {
    /// Adds the batch that follows the last.
    pub fn push(&mut self, batch: Batch) {
        let per_kept = 1 << self.doublings;
        match self.batches.last_mut() {
            Some(last) if self.in_last < per_kept => {
                last.merge(&batch);
                self.in_last += 1;
                return;
            }
            _ => {}
        }
        if self.batches.len() == BATCHES_MAX {
            self.halve();
            return self.push(batch);
        }
        self.batches.push(batch);
        self.in_last = 1;
    }

    fn halve(&mut self) {
        let pairs = std::mem::take(&mut self.batches);
        let mut pairs = pairs.into_iter();
        while let Some(mut first) = pairs.next() {
            if let Some(second) = pairs.next() {
                first.merge(&second);
            }
            self.batches.push(first);
        }
        self.in_last = 1 << (self.doublings + 1);
        self.doublings += 1;
    }

    /// All batches so far.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// All batches.
    pub fn into_batches(self) -> Vec<Batch> {
        self.batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(start_s: f64, values_ns: &[u64]) -> Batch {
        let mut histogram = new_histogram();
        values_ns.iter().for_each(|&value_ns| histogram::record(&mut histogram, value_ns));
        let answered = values_ns.len() as u64;
        Batch { start_s, length_s: 1.0, sent: answered, answered, headline: Compact::of(&histogram) }
    }

    #[test]
    fn a_compact_histogram_holds_what_the_whole_one_does() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut values = || (0..500).map(|_| random.u64(..) >> random.u32(20..63)).collect::<Vec<_>>();
        let (left, right) = (values(), values());
        let mut merged = batch(0.0, &left).headline;
        merged.merge(&batch(0.0, &right).headline);
        let whole = batch(0.0, &[&left[..], &right].concat()).headline;
        assert_eq!(merged, whole);
        let (left, right) = (batch(0.0, &left).headline, batch(0.0, &right).headline);
        assert_eq!((whole.without(&left), whole.without(&right)), (right, left));
        assert!(whole.without(&whole).is_empty());
        let histogram = whole.to_histogram();
        assert_eq!(Compact::of(&histogram), whole);
        for quantile in [0.0, 0.5, 0.9, 0.999, 1.0] {
            let value_ns = histogram.value_at_quantile(quantile);
            let oracle: u64 =
                whole.iter().filter(|&(value, _)| value > value_ns).map(|(_, count)| count).sum();
            assert_eq!(whole.count_above(value_ns), oracle);
            assert!(oracle as f64 <= (1.0 - quantile) * 1000.0 + 1e-6, "{quantile}: {oracle}");
        }
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Compact>(&text).unwrap(), whole);
    }

    #[test]
    fn any_number_of_batches_stays_bounded_and_loses_nothing() {
        for count in [0, 1, 2, BATCHES_MAX - 1, BATCHES_MAX, BATCHES_MAX + 1, 2 * BATCHES_MAX, 5000, 86_400] {
            let mut series = Series::default();
            (0..count).for_each(|at| series.push(batch(at as f64, &[at as u64 + 1])));
            let batches = series.into_batches();
            assert!(
                batches.len() <= BATCHES_MAX && (count < 2 || batches.len() >= count.min(BATCHES_MAX / 2))
            );
            assert_eq!(batches.iter().map(|batch| batch.answered).sum::<u64>(), count as u64);
            assert_eq!(batches.iter().map(|batch| batch.headline.len()).sum::<u64>(), count as u64);
            let mut at_s = 0.0;
            for batch in &batches {
                assert_eq!(batch.start_s, at_s);
                at_s += batch.length_s;
            }
            assert_eq!(at_s, count as f64);
        }
    }
}
