//! The one histogram configuration: 1 ns to 1 h at 3 significant digits, and how it becomes text and back.
//!
//! Invariant: every histogram in the program and in every result file has the same bounds, so any two can be
//! merged, exactly. That is also the only way they are combined: percentiles are never averaged.
//! Deliberately absent: correction after the fact for coordinated omission. Response times are measured from
//! the intended send to begin with, so filling gaps in again would count the same delay twice.

use std::io::Read;

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// Counts of durations in nanoseconds. Made by [`new_histogram`], filled by [`record`].
pub type Histogram = hdrhistogram::Histogram<u64>;

/// The shortest duration told apart from nothing, in nanoseconds.
pub const LOWEST_NS: u64 = 1;
/// The longest duration told apart from anything longer: one hour, in nanoseconds.
pub const HIGHEST_NS: u64 = 3_600 * 1_000_000_000;
/// Decimal digits that survive: a recorded value is at most 0.1 % away from the true one.
pub const SIGNIFICANT_DIGITS: u8 = 3;

/// The percentiles that reports print, as label and quantile, ascending. The maximum comes after them.
pub const PERCENTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("p99.999", 0.99999),
];

/// An empty histogram of the one configuration (about 270 kB).
pub fn new_histogram() -> Histogram {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).expect("the bounds are constant")
}

/// Counts one duration. Never fails and never drops: 0 counts as 1 ns, anything over an hour as one hour,
/// and [`clamped_count`] says how many of the latter there were.
#[inline]
pub fn record(histogram: &mut Histogram, duration_ns: u64) {
    // The crate would clamp too, but to the end of its last array slot, which lies somewhere past an hour.
    histogram.saturating_record(duration_ns.clamp(LOWEST_NS, HIGHEST_NS));
}

/// Counts `count` durations of the same length, as [`record`] would.
pub fn record_n(histogram: &mut Histogram, duration_ns: u64, count: u64) {
    histogram.saturating_record_n(duration_ns.clamp(LOWEST_NS, HIGHEST_NS), count);
}

/// How many values stand at the upper bound: an hour (to within resolution) or longer.
pub fn clamped_count(histogram: &Histogram) -> u64 {
    histogram.count_at(HIGHEST_NS)
}

/// Adds every count of `from` to `into`: the only sound way to combine two histograms.
pub fn merge(into: &mut Histogram, from: &Histogram) {
    into.add(from).expect("all histograms have the same bounds");
}

/// The value at `quantile` (0 to 1) in nanoseconds, or `None` if there are too few samples to state it.
pub fn percentile_ns(histogram: &Histogram, quantile: f64) -> Option<u64> {
    has_enough_samples(histogram.len(), quantile)
        .then(|| histogram.value_at_quantile(quantile).min(maximum_ns(histogram).unwrap_or(0)))
}

/// The largest recorded value in nanoseconds, or `None` of an empty histogram.
pub fn maximum_ns(histogram: &Histogram) -> Option<u64> {
    // `max` answers with the upper edge of the value's slot; of the last slot, that lies past an hour.
    (!histogram.is_empty()).then(|| histogram.max().min(HIGHEST_NS))
}

/// Whether `sample_count` independent samples bound the percentile from above, at 95 % confidence.
pub fn has_enough_samples(sample_count: u64, quantile: f64) -> bool {
    bounding_ranks(sample_count, quantile).is_some()
}

/// The ranks, from 1, of the two among `sample_count` independent samples that the percentile lies between at 95 %
/// confidence; `None` where the upper one is past the last sample: the data hold no upper bound.
///
/// ⌊np − 1.96·√(np(1−p))⌋ and ⌈np + 1.96·√(np(1−p))⌉ + 1: the normal approximation to the order statistics of a
/// quantile (Kogias et al., "Lancet", USENIX ATC 2019; David and Nagaraja, "Order Statistics", 7.1). Nothing is assumed
/// of the distribution's shape. Samples of a run are not independent: [`super::samples`] says for how many they count.
pub fn bounding_ranks(sample_count: u64, quantile: f64) -> Option<(u64, u64)> {
    let n = sample_count as f64;
    let margin = 1.96 * (n * quantile * (1.0 - quantile)).sqrt();
    let upper = (n * quantile + margin).ceil() + 1.0;
    (upper <= n).then(|| ((n * quantile - margin).floor().max(1.0) as u64, upper as u64))
}

/// V2 histogram with a zlib wrapping: the outer and the inner magic number of the HdrHistogram format.
const V2_DEFLATE_COOKIE: u32 = 0x1c84_9314;
const V2_COOKIE: u32 = 0x1c84_9313;
/// Bytes of the inflated form before the counts: cookie, payload length, normalizing offset, digits, lowest,
/// highest, conversion ratio.
const V2_HEADER_BYTES: usize = 40;
/// A full histogram inflates to some 34,000 counts of at most 9 bytes each.
const INFLATED_BYTES_MAX: usize = 1 << 20;
/// Of five digits and all of 63 bits, to some 6,300,000; no run comes near.
const FOREIGN_INFLATED_BYTES_MAX: usize = 16 << 20;
const _: () = assert!(INFLATED_BYTES_MAX > 34_000 * 9 + V2_HEADER_BYTES);

/// Why a text is not a histogram of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not base64 at all.
    #[error("a histogram is not valid base64 ({0})")]
    Base64(String),
    /// Base64, but not an intact HdrHistogram V2 deflate encoding inside.
    #[error("a histogram is damaged: {0}")]
    Damaged(String),
    /// A histogram, but in an older encoding, or in one without compression.
    #[error("a histogram is not in the V2 deflate encoding; write it again with a newer HdrHistogram")]
    OtherEncoding,
    /// Intact, but recorded with other bounds, so that it could not be merged with ours.
    #[error(
        "a histogram runs from {lowest_ns} to {highest_ns} ns at {digits} digits, not from 1 ns to 1 h at 3"
    )]
    OtherBounds {
        /// Its lowest discernible value, in nanoseconds.
        lowest_ns: u64,
        /// Its highest trackable value, in nanoseconds.
        highest_ns: u64,
        /// Its significant decimal digits.
        digits: u32,
    },
}

/// The histogram as base64 of the HdrHistogram V2 deflate encoding, which other HdrHistogram tools read.
pub fn encode(histogram: &Histogram) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("counts stay below 2^63 and memory takes every write");
    STANDARD.encode(bytes)
}

/// The inverse of [`encode`]. Any text is safe to hand in: memory is bounded, and damage is an error.
pub fn decode(text: &str) -> Result<Histogram, DecodeError> {
    let plain = unwrap(text, INFLATED_BYTES_MAX)?;
    let (digits, lowest_ns, highest_ns) = bounds(&plain);
    if (digits, lowest_ns, highest_ns) != (u32::from(SIGNIFICANT_DIGITS), LOWEST_NS, HIGHEST_NS) {
        return Err(DecodeError::OtherBounds { lowest_ns, highest_ns, digits });
    }
    deserialize(&plain)
}

/// As [`decode`], of a histogram that another tool recorded, in nanoseconds, with whatever bounds and digits.
/// Each of its values is counted anew at the upper end of its slot, which is what that tool reports it as.
pub fn decode_foreign(text: &str) -> Result<Histogram, DecodeError> {
    let plain = unwrap(text, FOREIGN_INFLATED_BYTES_MAX)?;
    let (_, _, highest_ns) = bounds(&plain);
    if highest_ns > i64::MAX as u64 {
        return Err(damaged("its bounds are out of range"));
    }
    let mut ours = new_histogram();
    let foreign = deserialize(&plain)?;
    for slot in foreign.iter_recorded() {
        record_n(&mut ours, slot.value_iterated_to(), slot.count_at_value());
    }
    Ok(ours)
}

/// The histogram's plain form, with nothing but its counts unchecked.
fn unwrap(text: &str, bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let bytes = STANDARD.decode(text).map_err(|error| DecodeError::Base64(error.to_string()))?;
    let plain = inflate(&bytes, bytes_max)?;
    if plain.len() < V2_HEADER_BYTES || big_endian_u32(&plain, 0) != V2_COOKIE {
        return Err(damaged("its inner header is missing"));
    }
    if big_endian_u32(&plain, 4) as usize != plain.len() - V2_HEADER_BYTES {
        return Err(damaged("its inner length is not the length it states"));
    }
    Ok(plain)
}

/// Digits, lowest and highest value, as the plain form states them.
fn bounds(plain: &[u8]) -> (u32, u64, u64) {
    (big_endian_u32(plain, 12), big_endian_u64(plain, 16), big_endian_u64(plain, 24))
}

fn deserialize(plain: &[u8]) -> Result<Histogram, DecodeError> {
    // Nine 0xff bytes are the one number the crate cannot negate; real counts are far below 2^55.
    if plain[V2_HEADER_BYTES..].windows(9).any(|window| window == [0xff; 9]) {
        return Err(damaged("a count is out of range"));
    }
    let mut plain = plain;
    let histogram: Histogram =
        Deserializer::new().deserialize(&mut plain).map_err(|error| damaged(&error.to_string()))?;
    // The crate sums counts without looking for overflow.
    if histogram.len() > 1 << 62 { Err(damaged("its counts overflow")) } else { Ok(histogram) }
}

fn damaged(cause: &str) -> DecodeError {
    DecodeError::Damaged(cause.to_owned())
}

/// Takes the zlib wrapping off, to the very end: the crate's own decoder stops before the checksum, and so
/// would take a flipped bit for a measurement.
fn inflate(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    if bytes.len() < 8 || big_endian_u32(bytes, 0) != V2_DEFLATE_COOKIE {
        return Err(match bytes {
            // The three bytes that every encoding of a histogram begins with, which base64 shows as HIST.
            [0x1c, 0x84, 0x93, cookie, ..] if *cookie != V2_DEFLATE_COOKIE as u8 => {
                DecodeError::OtherEncoding
            }
            _ => damaged("it does not begin as a V2 deflate histogram"),
        });
    }
    if big_endian_u32(bytes, 4) as usize != bytes.len() - 8 {
        return Err(damaged("its length is not the length it states"));
    }
    let mut plain = Vec::new();
    ZlibDecoder::new(&bytes[8..])
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|error| damaged(&error.to_string()))?;
    if plain.len() > bytes_max { Err(damaged("it inflates without end")) } else { Ok(plain) }
}

fn big_endian_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn big_endian_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// For `#[serde(with = "histogram::base64")]`: a [`Histogram`] field is one JSON string.
pub mod base64 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Histogram;

    /// Writes [`super::encode`]'s text.
    pub fn serialize<S: Serializer>(histogram: &Histogram, serializer: S) -> Result<S::Ok, S::Error> {
        super::encode(histogram).serialize(serializer)
    }

    /// Reads it back; a [`super::DecodeError`] becomes the format's own error, with its place in the file.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Histogram, D::Error> {
        super::decode(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }

    /// The same for a histogram that may be absent.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use super::Histogram;

        /// Writes the text, or nothing.
        pub fn serialize<S: Serializer>(
            histogram: &Option<Histogram>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            histogram.as_ref().map(super::super::encode).serialize(serializer)
        }

        /// Reads it back, if it is there.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Histogram>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| super::super::decode(&text)).transpose().map_err(serde::de::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn filled(values_ns: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = new_histogram();
        values_ns.into_iter().for_each(|value| record(&mut histogram, value));
        histogram
    }

    #[test]
    fn nothing_recorded_is_ever_lost() {
        let histogram = filled([0, 1, HIGHEST_NS, HIGHEST_NS + 1, u64::MAX]);
        assert_eq!(histogram.len(), 5);
        assert_eq!(histogram.count_at(1), 2, "0 counts as 1 ns");
        assert_eq!(clamped_count(&histogram), 3);
        assert_eq!(maximum_ns(&histogram), Some(HIGHEST_NS));
        assert_eq!(clamped_count(&filled([HIGHEST_NS / 2])), 0);
    }

    #[test]
    fn a_percentile_needs_an_upper_rank_inside_the_samples() {
        // At n = 8 the median's interval ends at ⌈4 + 1.96·√2⌉ + 1 = 8; at n = 7 it would end at 8 as well.
        for (quantile, smallest) in [(0.5, 8), (0.99, 563), (0.999, 5_662)] {
            assert_eq!((1..).find(|&n| has_enough_samples(n, quantile)), Some(smallest), "{quantile}");
        }
        for quantile in PERCENTILES.map(|(_, quantile)| quantile) {
            assert!(has_enough_samples((5.7 / (1.0 - quantile)) as u64 + 2, quantile), "{quantile}");
            assert!(!has_enough_samples((1.0 / (1.0 - quantile)) as u64, quantile), "{quantile}");
        }
        assert!(!has_enough_samples(0, 0.5));
        assert_eq!(percentile_ns(&filled(0..1000), 0.999), None);
        assert_eq!(percentile_ns(&filled(1..=1000), 0.5), Some(500));
    }

    #[test]
    fn a_merge_equals_recording_everything_in_one_histogram() {
        let mut merged = filled(0..500);
        merge(&mut merged, &filled((500..90_000).step_by(7)));
        assert_eq!(merged, filled((0..500).chain((500..90_000).step_by(7))));
    }

    #[test]
    fn a_histogram_survives_its_text() {
        for histogram in [filled([]), filled([0]), filled([u64::MAX]), filled((0..1 << 40).step_by(1 << 24))]
        {
            let again = decode(&encode(&histogram)).unwrap();
            assert_eq!(again, histogram);
            assert_eq!(maximum_ns(&again), maximum_ns(&histogram));
        }
    }

    #[test]
    fn no_flipped_bit_passes_for_a_measurement() {
        let histogram = filled((0..3_000_000).step_by(997));
        let bytes = STANDARD.decode(encode(&histogram)).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // zlib leaves some header bits without meaning; such a flip may pass, but only unchanged.
            if let Ok(read) = decode(&STANDARD.encode(flipped)) {
                assert_eq!(read, histogram, "bit {bit}");
            }
        }
    }

    /// A histogram text with a chosen header and chosen count bytes.
    fn forged(stated_bytes: u32, highest_ns: u64, counts: &[u8]) -> String {
        forged_with(stated_bytes, u32::from(SIGNIFICANT_DIGITS), LOWEST_NS, highest_ns, counts)
    }

    fn forged_with(stated_bytes: u32, digits: u32, lowest_ns: u64, highest_ns: u64, counts: &[u8]) -> String {
        let mut plain = V2_COOKIE.to_be_bytes().to_vec();
        plain.extend(stated_bytes.to_be_bytes());
        plain.extend([0; 4]);
        plain.extend(digits.to_be_bytes());
        plain.extend(lowest_ns.to_be_bytes());
        plain.extend(highest_ns.to_be_bytes());
        plain.extend(1.0_f64.to_be_bytes());
        plain.extend(counts);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&plain).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut bytes = V2_DEFLATE_COOKIE.to_be_bytes().to_vec();
        bytes.extend((zlib.len() as u32).to_be_bytes());
        bytes.extend(zlib);
        STANDARD.encode(bytes)
    }

    #[test]
    fn hostile_text_is_an_error_not_a_panic() {
        assert_eq!(decode(&forged(2, HIGHEST_NS, &[1, 2])).unwrap().len(), 1, "the forgery itself is sound");
        let huge_count = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].repeat(4);
        let cases = [
            (forged(u32::MAX, HIGHEST_NS, &[2]), "inner length"),
            (forged(9, HIGHEST_NS, &[0xff; 9]), "out of range"),
            (forged(36, HIGHEST_NS, &huge_count), "overflow"),
            (forged(2, HIGHEST_NS, &[0x80, 0x80]), "damaged"),
            (forged(1 << 21, HIGHEST_NS, &[0; 1 << 21]), "without end"),
            (forged(1, 1_000, &[2]), "from 1 to 1000 ns"),
            ("!".to_owned(), "base64"),
            (String::new(), "begin"),
            (STANDARD.encode(V2_DEFLATE_COOKIE.to_be_bytes()), "begin"),
            ("HISTiQAAAGV42pNp".to_owned(), "not in the V2 deflate encoding"),
        ];
        for (text, expected) in cases {
            let error = decode(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_foreign_histogram_is_counted_anew_whatever_its_bounds() {
        let mut foreign = Histogram::new_with_bounds(1_000, 10_000_000_000_000, 2).unwrap();
        [1, 5_000, 123_456, 9_000_000_000_000].iter().for_each(|&value_ns| foreign.record(value_ns).unwrap());
        let ours = decode_foreign(&encode(&foreign)).unwrap();
        let upper = |value_ns| foreign.highest_equivalent(value_ns);
        assert_eq!(ours, filled([upper(1), upper(5_000), upper(123_456), HIGHEST_NS]));
        let histogram = filled((0..1 << 40).step_by(1 << 24));
        assert_eq!(decode_foreign(&encode(&histogram)), Ok(histogram));
    }

    #[test]
    fn a_foreign_header_cannot_do_harm() {
        let extremes = [0, 1, 2, 1_000, 1 << 40, 1 << 62, i64::MAX as u64, 1 << 63, u64::MAX];
        for digits in [0, 1, 5, 6, u32::MAX] {
            for (lowest_ns, highest_ns) in
                extremes.into_iter().flat_map(|low| extremes.map(|high| (low, high)))
            {
                for counts in [vec![2], vec![2; 40], [vec![0xff; 4], vec![1, 2]].concat()] {
                    let stated_bytes = counts.len() as u32;
                    let text = forged_with(stated_bytes, digits, lowest_ns, highest_ns, &counts);
                    if let Ok(histogram) = decode_foreign(&text) {
                        assert!(histogram.len() <= 40, "{digits} {lowest_ns} {highest_ns}");
                    }
                }
            }
        }
    }
}
