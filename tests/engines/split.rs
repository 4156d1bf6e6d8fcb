//! The ways to cut a stream of bytes.

use std::fmt;
use std::ops::Range;

use fastrand::Rng;

/// Streams up to this long also go a byte at a time.
const BYTES_MAX: usize = 600;
/// Streams up to this long are cut in two at every place.
const EVERY_CUT_MAX: usize = 300;
/// Longer ones near the ends of their parts: as far as any header reaches.
const AROUND_BYTES: usize = 15;

/// How a stream is cut.
#[derive(Debug, Clone)]
pub(crate) enum Split {
    Whole,
    Bytes,
    At(usize),
    Random(Vec<usize>),
}

impl fmt::Display for Split {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(out, "whole"),
            Self::Bytes => write!(out, "byte by byte"),
            Self::At(cut) => write!(out, "cut at {cut}"),
            Self::Random(cuts) => write!(out, "cut at {cuts:?}"),
        }
    }
}

impl Split {
    /// Every way for a stream of `byte_count` bytes, whose parts begin at `parts_at`.
    pub(crate) fn all(byte_count: usize, parts_at: &[usize], random: &mut Rng) -> Vec<Self> {
        let near = |cut: &usize| parts_at.iter().any(|at| at.abs_diff(*cut) <= AROUND_BYTES);
        let cuts = (1..byte_count).filter(|cut| byte_count <= EVERY_CUT_MAX || near(cut));
        let mut all = Self::some(byte_count, random);
        all.extend(cuts.map(Self::At));
        all
    }

    /// Whole, byte by byte where that is not too many, and in random pieces.
    pub(crate) fn some(byte_count: usize, random: &mut Rng) -> Vec<Self> {
        let mut some = vec![Self::Whole];
        if byte_count <= BYTES_MAX {
            some.push(Self::Bytes);
        }
        some.extend((0..3).map(|_| {
            let mut cuts: Vec<usize> =
                (0..random.usize(2..9)).map(|_| random.usize(0..=byte_count)).collect();
            cuts.sort_unstable();
            Self::Random(cuts)
        }));
        some
    }

    /// The pieces that it makes of `byte_count` bytes, none of them empty.
    pub(crate) fn pieces(&self, byte_count: usize) -> Vec<Range<usize>> {
        let cuts: Vec<usize> = match self {
            Self::Whole => Vec::new(),
            Self::Bytes => (1..byte_count).collect(),
            Self::At(cut) => vec![*cut],
            Self::Random(cuts) => cuts.clone(),
        };
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(byte_count));
        starts.zip(ends).map(|(start, end)| start..end).filter(|piece| !piece.is_empty()).collect()
    }

    /// Whether it cuts inside these bytes.
    pub(crate) fn cuts(&self, bytes: &Range<usize>) -> bool {
        let inside = |cut: &usize| (bytes.start + 1..bytes.end).contains(cut);
        match self {
            Self::Whole => false,
            Self::Bytes => true,
            Self::At(cut) => inside(cut),
            Self::Random(cuts) => cuts.iter().any(inside),
        }
    }
}
