//! Stamps: a server of ours writes into each echo when it had received the message and when it composed the answer, so
//! that a client on the same host can take a response time apart.
//!
//! A client asks for them with the query of its opening handshake (`/?anatomy`). On such a connection the server writes
//! over a part of each binary message's payload, little endian, in nanoseconds of the monotonic clock:
//!
//! | bytes | what |
//! |---|---|
//! | 8 to 16 | *seen*: the receive that brought the message's first byte of payload was over, and the server knew |
//! | 16 to 24 | *queued*: the part of the answer that these bytes are in was composed; when it leaves is the engine's affair |
//! | 24 to 32 | *arrived*: the kernel received it; asked for with `/?anatomy=kernel`, 0 where the engine cannot tell |
//!
//! Invariant: lengths, opcodes and fragments are the echo's. Messages that are text, or whose first frame is too short to
//! hold all the stamps, come back as they came. Deliberately absent: any promise about bytes that a client puts there
//! itself; it sends zeros, and zeros that come back are a server's that does not stamp.

use std::ops::Range;

use crate::ws::connection::Data;

/// Where the first stamp begins.
pub const START: usize = 8;
const SEEN: Range<usize> = 0..8;
const QUEUED: Range<usize> = 8..16;
const ARRIVED: Range<usize> = 16..24;
/// Bytes of all the stamps.
pub const BYTES_MAX: usize = ARRIVED.end;

/// Which stamps a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Seen and queued.
    Pair,
    /// The same, and when the kernel received the message.
    WithArrival,
}

impl Layout {
    /// What a request's query asks for, if it asks for stamps.
    pub fn asked_for(query: Option<&str>) -> Option<Self> {
        query?.split('&').find_map(|parameter| match parameter {
            "anatomy" => Some(Self::Pair),
            "anatomy=kernel" => Some(Self::WithArrival),
            _ => None,
        })
    }

    /// A request's target (path and query) that asks for them too.
    pub fn ask(self, target: &str) -> String {
        let joint = if target.contains('?') { '&' } else { '?' };
        let parameter = match self {
            Self::Pair => "anatomy",
            Self::WithArrival => "anatomy=kernel",
        };
        format!("{target}{joint}{parameter}")
    }

    /// Bytes of the stamps.
    pub const fn byte_count(self) -> usize {
        match self {
            Self::Pair => QUEUED.end,
            Self::WithArrival => ARRIVED.end,
        }
    }

    /// Where the stamps end: what a message must have at least.
    pub const fn end(self) -> usize {
        START + self.byte_count()
    }

    /// What of a piece of `byte_count` bytes, which begins at `offset` of its message, are stamps: where in the piece, and
    /// which of them.
    fn overlap(self, offset: usize, byte_count: usize) -> (Range<usize>, Range<usize>) {
        let start = offset.clamp(START, self.end());
        let end = (offset + byte_count).clamp(start, self.end());
        let in_piece = if start == end { 0..0 } else { start - offset..end - offset };
        (in_piece, start - START..end - START)
    }
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Stamper {
    layout: Layout,
    /// Of the message under way.
    offset: usize,
    is_stamped: bool,
    stamps: [u8; BYTES_MAX],
}

impl Stamper {
    /// For a connection that asked so.
    pub fn new(layout: Layout) -> Self {
        Self { layout, offset: 0, is_stamped: false, stamps: [0; BYTES_MAX] }
    }

    /// Stamps a piece of an answer, just composed in `payload`, whose message `data` says of. `received_ns`: when we
    /// had received it; `arrived_ns`: when the kernel had, if that is known.
    /// `clock_ns` is asked for the time where a piece needs it.
    pub fn stamp(
        &mut self,
        data: &Data,
        payload: &mut [u8],
        received_ns: u64,
        arrived_ns: Option<u64>,
        clock_ns: impl FnOnce() -> u64,
    ) {
        if data.begins_message() {
            self.offset = 0;
            self.is_stamped = !data.text && data.chunk.frame_bytes >= self.layout.end() as u64;
            self.stamps[SEEN].copy_from_slice(&received_ns.to_le_bytes());
            self.stamps[ARRIVED].copy_from_slice(&arrived_ns.unwrap_or(0).to_le_bytes());
        }
        let (in_piece, stamped) = self.layout.overlap(self.offset, payload.len());
        if self.is_stamped && !stamped.is_empty() {
            // Once, though its bytes leave in two pieces.
            if stamped.start <= QUEUED.start && stamped.end > QUEUED.start {
                self.stamps[QUEUED].copy_from_slice(&clock_ns().to_le_bytes());
            }
            payload[in_piece].copy_from_slice(&self.stamps[stamped]);
        }
        // No further than needed, so that it cannot overflow.
        self.offset = (self.offset + payload.len()).min(self.layout.end());
    }
}

/// What an answer's stamps say, in nanoseconds of the server's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// When the server had received the message.
    pub seen_ns: u64,
    /// When the answer was composed.
    pub queued_ns: u64,
    /// When the server's kernel received the message, if its engine can tell.
    pub arrived_ns: Option<u64>,
}

/// The client's side: the stamps of the answer under way, in however many pieces they come.
#[derive(Debug, Default)]
pub struct Reader([u8; BYTES_MAX]);

impl Reader {
    /// Takes in `piece`, which begins at `offset` of its answer.
    pub fn take(&mut self, layout: Layout, offset: usize, piece: &[u8]) {
        let (in_piece, stamped) = layout.overlap(offset, piece.len());
        self.0[stamped].copy_from_slice(&piece[in_piece]);
    }

    /// The stamps of an answer that came whole; `None` where the server wrote none.
    pub fn read(&self) -> Option<Stamps> {
        let number = |place: Range<usize>| u64::from_le_bytes(self.0[place].try_into().expect("8 bytes"));
        let stamps = Stamps {
            seen_ns: number(SEEN),
            queued_ns: number(QUEUED),
            arrived_ns: Some(number(ARRIVED)).filter(|&ns| ns != 0),
        };
        (stamps.seen_ns != 0 && stamps.queued_ns != 0).then_some(stamps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_for_stamps_among_its_other_parameters_or_does_not() {
        for (query, layout) in [
            (None, None),
            (Some("anatomy"), Some(Layout::Pair)),
            (Some("x=1&anatomy=kernel"), Some(Layout::WithArrival)),
            (Some("anatomy2&x=anatomy"), None),
        ] {
            assert_eq!(Layout::asked_for(query), layout, "{query:?}");
        }
        for layout in [Layout::Pair, Layout::WithArrival] {
            for target in ["/", "/echo?x=1"] {
                let asked = layout.ask(target);
                let (path, query) = asked.split_once('?').unwrap();
                assert!(target.starts_with(path), "{asked}");
                assert_eq!(Layout::asked_for(Some(query)), Some(layout), "{asked}");
            }
        }
    }

    #[test]
    fn stamps_are_read_from_whatever_pieces_they_come_in() {
        let mut answer = [0xAA; 40];
        for (at, ns) in [(8, 7_u64), (16, 9_u64), (24, 5_u64)] {
            answer[at..at + 8].copy_from_slice(&ns.to_le_bytes());
        }
        for (layout, arrived_ns) in [(Layout::Pair, None), (Layout::WithArrival, Some(5))] {
            for first in 0..=answer.len() {
                for second in first..=answer.len() {
                    let mut reader = Reader::default();
                    for (from, to) in [(0, first), (first, second), (second, answer.len())] {
                        reader.take(layout, from, &answer[from..to]);
                    }
                    let expected = Stamps { seen_ns: 7, queued_ns: 9, arrived_ns };
                    assert_eq!(reader.read(), Some(expected), "{layout:?}, cut at {first} and {second}");
                }
            }
        }
        assert_eq!(Reader::default().read(), None);
    }
}
