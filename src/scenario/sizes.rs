//! How large messages are: all alike, drawn from a distribution, or a sweep across the lengths at which frames change.
//!
//! Invariant: the size of a message follows from the seed, its connection and its number alone, so two runs of one seed send the same
//! messages, whatever the timing was.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;

use crate::limits;

/// What a sweep goes through: nothing, the longest and shortest payload of each form of a frame's length (RFC 6455, 5.2), and a
/// message that is larger than a receive buffer.
pub const SWEEP_BYTES: [usize; 6] = [0, 125, 126, 65_535, 65_536, 1 << 20];

/// A bound on the exponent of Zipf's law: beyond, nearly all messages are of the smallest size.
const EXPONENT_MAX: f64 = 10.0;

/// See the module's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sizes {
    /// All of one size.
    Fixed(usize),
    /// Every size from the first to the last, as often as any other.
    Uniform(usize, usize),
    /// From the first to the last: the k-th smallest size is as frequent as k to the power of minus this exponent.
    Zipf(usize, usize, f64),
    /// Each of [`SWEEP_BYTES`] in turn, on every connection.
    Sweep,
}

impl Sizes {
    /// The size, if all are of one.
    pub fn fixed(&self) -> Option<usize> {
        match *self {
            Self::Fixed(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The largest that there may be, in bytes.
    pub fn max_bytes(&self) -> usize {
        match *self {
            Self::Fixed(bytes) => bytes,
            Self::Uniform(_, last) | Self::Zipf(_, last, _) => last,
            Self::Sweep => SWEEP_BYTES[SWEEP_BYTES.len() - 1],
        }
    }

    /// The size of message `number` of a connection, in bytes.
    pub fn of(&self, seed: u64, connection: u64, number: u64) -> usize {
        match *self {
            Self::Fixed(bytes) => bytes,
            Self::Uniform(first, last) => random_of(seed, connection, number).usize(first..=last),
            Self::Zipf(first, last, exponent) => {
                let mut random = random_of(seed, connection, number);
                first + Zipf::new((last - first) as f64 + 1.0, exponent).rank(&mut random) - 1
            }
            Self::Sweep => SWEEP_BYTES[(number % SWEEP_BYTES.len() as u64) as usize],
        }
    }
}

/// Random numbers that follow from these three alone.
pub fn random_of(seed: u64, connection: u64, number: u64) -> fastrand::Rng {
    // Two rounds of a mixing function whose every output bit depends on every input bit: the generator's own first numbers are
    // alike for seeds that are.
    let mix = |value: u64| {
        let value = (value ^ (value >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let value = (value ^ (value >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        value ^ (value >> 32)
    };
    let of_connection = mix(seed.wrapping_add(connection.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    fastrand::Rng::with_seed(mix(of_connection.wrapping_add(number)))
}

/// Zipf's law over ranks from 1 to `count`, by rejection from the integral of a continuous one (W. Hörmann, G. Derflinger:
/// Rejection-inversion to generate variates from monotone discrete distributions, 1996): no table, whatever the count.
struct Zipf {
    count: f64,
    exponent: f64,
}

impl Zipf {
    fn new(count: f64, exponent: f64) -> Self {
        Self { count, exponent }
    }

    fn density(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// The integral of the density from 1 to `x`.
    fn integral(&self, x: f64) -> f64 {
        let (slope, log) = (1.0 - self.exponent, x.ln());
        if (slope * log).abs() < 1e-9 { log } else { (slope * log).exp_m1() / slope }
    }

    fn inverse(&self, area: f64) -> f64 {
        let slope = 1.0 - self.exponent;
        let scaled = (slope * area).max(-1.0);
        if scaled.abs() < 1e-9 { area.exp() } else { (scaled.ln_1p() / slope).exp() }
    }

    fn rank(&self, random: &mut fastrand::Rng) -> usize {
        let (from, to) = (self.integral(1.5) - 1.0, self.integral(self.count + 0.5));
        loop {
            let area = to + random.f64() * (from - to);
            let rank = self.inverse(area).round().clamp(1.0, self.count);
            if area >= self.integral(rank + 0.5) - self.density(rank) {
                return rank as usize;
            }
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Uniform(first, last) => write!(f, "uniform:{first}..{last}"),
            Self::Zipf(first, last, exponent) => write!(f, "zipf:{first}..{last}:{exponent}"),
            Self::Sweep => f.write_str("sweep"),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = |text: &str| -> Result<usize, String> {
            let size: ByteSize = text.parse().map_err(|_| {
                format!(
                    "`{text}` is no size: write 64 or 64KiB, or uniform:A..B, zipf:A..B or zipf:A..B:EXPONENT, or sweep"
                )
            })?;
            let fits = size.as_u64() <= limits::MESSAGE_BYTES;
            fits.then_some(size.as_u64() as usize).ok_or(format!("{text} has to be 64 MiB or less"))
        };
        let range = |text: &str| -> Result<(usize, usize), String> {
            let (first, last) =
                text.split_once("..").ok_or(format!("`{text}` is no range: write A..B, as 16..4KiB"))?;
            let (first, last) = (bytes(first)?, bytes(last)?);
            if first > last {
                Err(format!("{text}: the smallest size stands first"))
            } else {
                Ok((first, last))
            }
        };
        if text == "sweep" {
            return Ok(Self::Sweep);
        }
        if let Some(rest) = text.strip_prefix("uniform:") {
            let (first, last) = range(rest)?;
            return Ok(Self::Uniform(first, last));
        }
        let Some(rest) = text.strip_prefix("zipf:") else { return bytes(text).map(Self::Fixed) };
        let (rest, exponent) = rest.rsplit_once(':').unwrap_or((rest, "1"));
        let exponent = exponent.parse().ok().filter(|exponent| (0.0..=EXPONENT_MAX).contains(exponent));
        let (first, last) = range(rest)?;
        let exponent = exponent.ok_or("the exponent of zipf:A..B:EXPONENT is a number from 0 to 10")?;
        Ok(Self::Zipf(first, last, exponent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, written) in [
            ("64", "64"),
            ("4KiB", "4096"),
            ("uniform:1..2KiB", "uniform:1..2048"),
            ("zipf:16..64KiB", "zipf:16..65536:1"),
            ("zipf:16..64:0.5", "zipf:16..64:0.5"),
            ("sweep", "sweep"),
        ] {
            let sizes: Sizes = text.parse().unwrap();
            assert_eq!(sizes.to_string(), written);
            assert_eq!(written.parse(), Ok(sizes));
        }
        for (text, mend) in [
            ("x", "write 64 or 64KiB, or uniform:A..B"),
            ("65MiB", "64 MiB or less"),
            ("uniform:5", "write A..B"),
            ("uniform:5..4", "smallest size stands first"),
            ("zipf:1..2:x", "a number from 0 to 10"),
            ("zipf:1..2:11", "a number from 0 to 10"),
            ("zipf:1..2:NaN", "a number from 0 to 10"),
        ] {
            let error = text.parse::<Sizes>().unwrap_err();
            assert!(error.contains(mend), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_follows_from_seed_connection_and_number_alone() {
        for sizes in [Sizes::Uniform(0, 1 << 20), Sizes::Zipf(0, 1 << 20, 0.3)] {
            let drawn = |seed, connection| {
                (0..50).map(|number| sizes.of(seed, connection, number)).collect::<Vec<_>>()
            };
            assert_eq!(drawn(1, 2), drawn(1, 2));
            assert_ne!(drawn(1, 2), drawn(1, 3));
            assert_ne!(drawn(1, 2), drawn(2, 2));
        }
    }

    #[test]
    fn a_sweep_takes_each_size_in_turn() {
        let sizes: Vec<_> = (0..12).map(|number| Sizes::Sweep.of(9, 9, number)).collect();
        assert_eq!(sizes, [SWEEP_BYTES, SWEEP_BYTES].concat());
    }

    /// Against the law itself, summed up rank by rank.
    #[test]
    fn zipf_and_uniform_draw_each_size_as_often_as_they_say() {
        const DRAWS: u64 = 200_000;
        for (first, last, exponent) in
            [(10, 10, 1.0), (0, 4, 1.0), (100, 199, 0.5), (5, 54, 1.0), (1, 30, 2.5)]
        {
            let weight = |size: usize| ((size - first + 1) as f64).powf(-exponent);
            let whole: f64 = (first..=last).map(weight).sum();
            let laws = [
                (
                    Sizes::Zipf(first, last, exponent),
                    Box::new(|size| weight(size) / whole) as Box<dyn Fn(usize) -> f64>,
                ),
                (Sizes::Uniform(first, last), Box::new(|_| 1.0 / (last - first + 1) as f64)),
            ];
            for (sizes, share_of) in laws {
                let mut counts = vec![0u64; last + 1];
                (0..DRAWS).for_each(|number| counts[sizes.of(3, 1, number)] += 1);
                for (size, &count) in counts.iter().enumerate().skip(first) {
                    let expected = share_of(size) * DRAWS as f64;
                    // Six deviations of a binomial count.
                    let tolerance = 6.0 * (expected * (1.0 - share_of(size))).sqrt() + 1e-6;
                    let off = (count as f64 - expected).abs();
                    assert!(off <= tolerance, "{sizes}: {size} came {count} times, not {expected}");
                }
            }
        }
    }
}
