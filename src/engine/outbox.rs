//! What waits to be sent on one connection, in order.
//!
//! Invariants: segments leave in the order they were queued; those that a send covers are left alone until it
//! is over; an outbox that is empty owns no heap memory. The bound on its size is the engine's to enforce:
//! it stops receiving from a peer whose outbox is over it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::{
    OUTPUT_BUFFER_KEPT_BYTES, OUTPUT_BYTES_KEPT, OUTPUT_JOINED_BYTES, QUEUE_SEGMENTS_KEPT, QUEUES_KEPT,
};

/// A piece of output.
#[derive(Debug)]
pub(crate) enum Segment {
    /// Part of the receive buffer `buffer`, which is lent until this was sent or copied.
    InPlace {
        /// The engine's name for the buffer.
        buffer: u32,
        /// First byte to send.
        start: u32,
        /// One past the last byte to send.
        end: u32,
    },
    /// Bytes of this connection's own.
    Owned {
        /// From the [`BufferPool`].
        bytes: Vec<u8>,
        /// Bytes sent already.
        start: usize,
    },
    /// Bytes that several connections send.
    Shared(Bytes),
}

impl Segment {
    fn byte_count(&self) -> usize {
        match self {
            Self::InPlace { start, end, .. } => (end - start) as usize,
            Self::Owned { bytes, start } => bytes.len() - start,
            Self::Shared(bytes) => bytes.len(),
        }
    }

    fn advance(&mut self, byte_count: usize) {
        match self {
            Self::InPlace { start, .. } => *start += byte_count as u32,
            Self::Owned { start, .. } => *start += byte_count,
            Self::Shared(bytes) => bytes::Buf::advance(bytes, byte_count),
        }
    }
}

/// Segments behind the first. Its box goes to the pool with it.
#[derive(Debug, Default)]
struct Queue(VecDeque<Segment>);

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Most outboxes hold one segment at most; it needs no allocation.
    front: Option<Segment>,
    /// Those behind it; `None` where there are none.
    rest: Option<Box<Queue>>,
    queued_bytes: usize,
    /// Segments, from the front on, that a send under way covers.
    in_flight_count: u32,
}

impl Outbox {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    #[inline]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    #[inline]
    pub(crate) fn push(&mut self, pool: &mut BufferPool, segment: Segment) {
        self.queued_bytes += segment.byte_count();
        if self.front.is_none() {
            self.front = Some(segment);
            return;
        }
        self.rest.get_or_insert_with(|| pool.get_queue()).0.push_back(segment);
    }

    /// Lets `write` append to the last segment, or to a fresh one from `pool`.
    #[inline]
    pub(crate) fn append(&mut self, pool: &mut BufferPool, write: impl FnOnce(&mut Vec<u8>)) {
        let all_in_flight = self.segment_count() <= self.in_flight_count as usize;
        let last = match &mut self.rest {
            Some(rest) => rest.0.back_mut(),
            None => self.front.as_mut(),
        };
        if let Some(Segment::Owned { bytes, .. }) = last.filter(|_| !all_in_flight) {
            let before = bytes.len();
            write(bytes);
            self.queued_bytes += bytes.len() - before;
            return;
        }
        let mut bytes = pool.get();
        write(&mut bytes);
        self.push(pool, Segment::Owned { bytes, start: 0 });
    }

    /// What is to be sent first.
    #[inline]
    pub(crate) fn front(&self) -> Option<&Segment> {
        self.front.as_ref()
    }

    /// Bytes of the front segment; 0 where there is none.
    #[inline]
    pub(crate) fn front_bytes(&self) -> usize {
        self.front.as_ref().map_or(0, Segment::byte_count)
    }

    /// Beside its segments, of which there are none now, `byte_count` bytes count as queued: they wait further below.
    #[inline]
    pub(crate) fn count_below(&mut self, byte_count: usize) {
        debug_assert!(self.front.is_none());
        self.queued_bytes = byte_count;
    }

    /// Segments from the front on.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.front.iter().chain(self.rest.iter().flat_map(|rest| &rest.0))
    }

    /// How many segments wait.
    #[inline]
    pub(crate) fn segment_count(&self) -> usize {
        usize::from(self.front.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.0.len())
    }

    /// Takes the front segment out.
    #[inline]
    pub(crate) fn pop(&mut self, pool: &mut BufferPool) -> Option<Segment> {
        let segment = self.front.take()?;
        self.queued_bytes -= segment.byte_count();
        if self.rest.is_some() {
            self.move_up(pool);
        }
        Some(segment)
    }

    /// The front segment was taken out, and another is behind it.
    fn move_up(&mut self, pool: &mut BufferPool) {
        let Some(mut rest) = self.rest.take() else { return };
        self.front = rest.0.pop_front();
        self.put_rest(pool, rest);
    }

    /// Keeps what is behind the front segment, if anything is.
    fn put_rest(&mut self, pool: &mut BufferPool, rest: Box<Queue>) {
        if rest.0.is_empty() {
            pool.put_queue(rest);
        } else {
            self.rest = Some(rest);
        }
    }

    /// `byte_count` bytes were sent: drops what they covered, giving whole segments to `sent`.
    pub(crate) fn advance(
        &mut self,
        pool: &mut BufferPool,
        mut byte_count: usize,
        mut sent: impl FnMut(&mut BufferPool, Segment),
    ) {
        while let Some(front) = &mut self.front {
            let front_bytes = front.byte_count();
            if front_bytes > byte_count {
                front.advance(byte_count);
                self.queued_bytes -= byte_count;
                return;
            }
            byte_count -= front_bytes;
            let segment = self.pop(pool).expect("front is there");
            sent(pool, segment);
        }
        assert_eq!(byte_count, 0, "more was sent than was queued");
    }

    /// Takes the front segment out, `sent_bytes` of which were sent. The others, which `rest` makes a segment of,
    /// take its place.
    pub(crate) fn take_front(
        &mut self,
        pool: &mut BufferPool,
        sent_bytes: usize,
        rest: impl FnOnce(&mut BufferPool, &Segment) -> Segment,
    ) -> Segment {
        let front = self.front.as_mut().expect("what was sent is still queued");
        if front.byte_count() <= sent_bytes {
            return self.pop(pool).expect("front is there");
        }
        self.queued_bytes -= sent_bytes;
        let rest = rest(pool, front);
        std::mem::replace(front, rest)
    }

    /// Replaces every in-place segment that is not in flight by a copy of its bytes, so that receive buffers don't
    /// wait for a slow peer. `copy` appends a segment's bytes to a buffer and gives the receive buffer back.
    ///
    /// Copies that follow each other are joined: however small the pieces that a slow peer makes us queue,
    /// there are few to look at the next time.
    pub(crate) fn own(&mut self, pool: &mut BufferPool, mut copy: impl FnMut(u32, u32, u32, &mut Vec<u8>)) {
        let in_flight_count = self.in_flight_count as usize;
        if !self.iter().skip(in_flight_count).any(|segment| matches!(segment, Segment::InPlace { .. })) {
            return;
        }
        let mut kept = pool.get_queue();
        let mut rest = self.rest.take();
        let behind = rest.iter_mut().flat_map(|rest| rest.0.drain(..));
        for segment in self.front.take().into_iter().chain(behind) {
            let (buffer, start, end) = match segment {
                Segment::InPlace { buffer, start, end } if kept.0.len() >= in_flight_count => {
                    (buffer, start, end)
                }
                segment => {
                    kept.0.push_back(segment);
                    continue;
                }
            };
            let may_append = kept.0.len() > in_flight_count;
            let joined_bytes_max = OUTPUT_JOINED_BYTES.saturating_sub((end - start) as usize);
            match kept.0.back_mut() {
                Some(Segment::Owned { bytes, .. }) if may_append && bytes.len() <= joined_bytes_max => {
                    copy(buffer, start, end, bytes);
                }
                _ => {
                    let mut bytes = pool.get();
                    copy(buffer, start, end, &mut bytes);
                    kept.0.push_back(Segment::Owned { bytes, start: 0 });
                }
            }
        }
        self.front = kept.0.pop_front();
        self.put_rest(pool, kept);
        if let Some(emptied) = rest {
            pool.put_queue(emptied);
        }
    }

    /// Makes one segment of the first ones, as many as come to `byte_count_max` together, for a send that takes
    /// only one. No send may be under way. `copy` is as for [`Outbox::own`].
    pub(crate) fn join(
        &mut self,
        pool: &mut BufferPool,
        byte_count_max: usize,
        mut copy: impl FnMut(u32, u32, u32, &mut Vec<u8>),
    ) {
        assert_eq!(self.in_flight_count, 0, "what a send covers stays as it is");
        let mut byte_count = 0;
        let fits = |segment: &&Segment| {
            byte_count += segment.byte_count();
            byte_count <= byte_count_max
        };
        let joined_count = self.iter().take_while(fits).count();
        if joined_count < 2 {
            return;
        }
        let mut joined = pool.get();
        for _ in 0..joined_count {
            match self.pop(pool) {
                Some(Segment::InPlace { buffer, start, end }) => copy(buffer, start, end, &mut joined),
                Some(Segment::Owned { bytes, start }) => {
                    joined.extend_from_slice(&bytes[start..]);
                    pool.put(bytes);
                }
                Some(Segment::Shared(bytes)) => joined.extend_from_slice(&bytes),
                None => unreachable!("they were counted"),
            }
        }
        self.queued_bytes += joined.len();
        if let Some(second) = self.front.replace(Segment::Owned { bytes: joined, start: 0 }) {
            self.rest.get_or_insert_with(|| pool.get_queue()).0.push_front(second);
        }
    }

    /// A send covers this many segments from now on; they stay as they are until it is over (0).
    #[inline]
    pub(crate) fn set_in_flight(&mut self, segment_count: usize) {
        self.in_flight_count = segment_count as u32;
    }
}

/// Memory of outboxes to be used again, so that steady traffic allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    kept_bytes: usize,
    #[expect(clippy::vec_box, reason = "outboxes hold the boxes")]
    queues: Vec<Box<Queue>>,
}

impl BufferPool {
    /// With what the ordinary paths need before anything is given back, so that they never allocate.
    pub(crate) fn stocked() -> Self {
        let mut queues = Vec::with_capacity(QUEUES_KEPT);
        queues.resize_with(QUEUES_KEPT / 4, || Box::new(Queue(VecDeque::with_capacity(8))));
        Self { queues, ..Self::default() }
    }

    #[inline]
    pub(crate) fn get(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.kept_bytes -= buffer.capacity();
        buffer
    }

    fn get_queue(&mut self) -> Box<Queue> {
        self.queues.pop().unwrap_or_default()
    }

    fn put_queue(&mut self, queue: Box<Queue>) {
        debug_assert!(queue.0.is_empty());
        let is_small = (1..=QUEUE_SEGMENTS_KEPT).contains(&queue.0.capacity());
        if is_small && self.queues.len() < QUEUES_KEPT {
            self.queues.push(queue);
        }
    }

    #[inline]
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        let byte_count = buffer.capacity();
        let fits =
            byte_count <= OUTPUT_BUFFER_KEPT_BYTES && self.kept_bytes + byte_count <= OUTPUT_BYTES_KEPT;
        if fits && byte_count != 0 {
            buffer.clear();
            self.kept_bytes += byte_count;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox) -> Vec<u8> {
        let (mut all, mut pool) = (Vec::new(), BufferPool::default());
        while let Some(segment) = outbox.pop(&mut pool) {
            match segment {
                Segment::Owned { bytes, start } => all.extend_from_slice(&bytes[start..]),
                Segment::Shared(bytes) => all.extend_from_slice(&bytes),
                Segment::InPlace { .. } => panic!("still in place"),
            }
        }
        all
    }

    #[test]
    fn what_a_short_send_left_goes_out_once_and_in_order() {
        for sent_bytes in 0..=9 {
            let mut pool = BufferPool::default();
            let mut outbox = Outbox::default();
            outbox.push(&mut pool, Segment::Shared(Bytes::from_static(b"abc")));
            outbox.push(&mut pool, Segment::InPlace { buffer: 7, start: 2, end: 5 });
            outbox.append(&mut pool, |out| out.extend_from_slice(b"ghi"));
            outbox.advance(&mut pool, sent_bytes, |_, _| {});
            assert_eq!(outbox.queued_bytes(), 9 - sent_bytes);
            outbox.own(&mut pool, |buffer, start, end, out| {
                assert_eq!(buffer, 7);
                out.extend_from_slice(&b"..def"[start as usize..end as usize]);
            });
            assert_eq!(drain(&mut outbox), &b"abcdefghi"[sent_bytes..], "after {sent_bytes} bytes");
        }
    }

    #[test]
    fn a_segment_in_flight_is_neither_moved_nor_copied() {
        let (mut pool, mut outbox) = (BufferPool::default(), Outbox::default());
        for start in [0, 3, 6] {
            outbox.push(&mut pool, Segment::InPlace { buffer: start, start, end: start + 3 });
        }
        outbox.set_in_flight(1);
        outbox.own(&mut pool, |_, start, end, out| out.extend((start..end).map(|at| at as u8)));
        let kinds: Vec<_> =
            outbox.iter().map(|segment| matches!(segment, Segment::InPlace { buffer: 0, .. })).collect();
        assert_eq!(kinds, [true, false], "the others were joined");
        outbox.set_in_flight(0);
        let sent = outbox.take_front(&mut pool, 2, |_, _| Segment::Owned { bytes: vec![2], start: 0 });
        assert!(matches!(sent, Segment::InPlace { buffer: 0, start: 0, end: 3 }));
        assert_eq!(outbox.queued_bytes(), 7);
        assert_eq!(drain(&mut outbox), [2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_segment_in_flight_is_not_appended_to() {
        let mut pool = BufferPool::default();
        let mut outbox = Outbox::default();
        outbox.append(&mut pool, |out| out.push(b'a'));
        outbox.append(&mut pool, |out| out.push(b'b'));
        assert_eq!(outbox.segment_count(), 1);
        outbox.set_in_flight(1);
        outbox.append(&mut pool, |out| out.push(b'c'));
        outbox.append(&mut pool, |out| out.push(b'd'));
        assert_eq!(outbox.segment_count(), 2);
        assert_eq!(drain(&mut outbox), b"abcd");
    }

    #[test]
    fn what_a_slow_peer_leaves_is_kept_in_few_segments() {
        let mut pool = BufferPool::default();
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        let copy = |_: u32, start: u32, end: u32, out: &mut Vec<u8>| {
            out.extend((start..end).map(|byte| byte as u8));
        };
        for turn in 0..100 {
            outbox.push(&mut pool, Segment::InPlace { buffer: 1, start: turn, end: turn + 2 });
            expected.extend([turn as u8, turn as u8 + 1]);
            outbox.own(&mut pool, copy);
            if turn == 0 {
                outbox.set_in_flight(1);
            }
        }
        assert_eq!(outbox.segment_count(), 2, "one in flight, one that grows");
        assert_eq!(outbox.queued_bytes(), expected.len());
        assert_eq!(drain(&mut outbox), expected);
    }

    #[test]
    fn what_a_send_covers_is_left_where_it_is() {
        let (mut pool, mut outbox) = (BufferPool::default(), Outbox::default());
        for buffer in 0..3 {
            outbox.push(&mut pool, Segment::InPlace { buffer, start: 10 * buffer, end: 10 * buffer + 2 });
        }
        outbox.set_in_flight(1);
        outbox.own(&mut pool, |buffer, start, end, out| {
            assert_ne!(buffer, 0, "it is being sent from");
            out.extend((start..end).map(|byte| byte as u8));
        });
        let front = outbox.pop(&mut pool);
        assert!(matches!(front, Some(Segment::InPlace { buffer: 0, start: 0, end: 2 })), "{front:?}");
        assert_eq!(drain(&mut outbox), [10, 11, 20, 21]);
    }

    #[test]
    fn joining_keeps_order_and_count_whatever_fits() {
        for byte_count_max in 0..=12 {
            let (mut pool, mut outbox) = (BufferPool::default(), Outbox::default());
            outbox.push(&mut pool, Segment::Shared(Bytes::from_static(b"abc")));
            outbox.push(&mut pool, Segment::InPlace { buffer: 7, start: 2, end: 5 });
            outbox.append(&mut pool, |out| out.extend_from_slice(b"ghi"));
            outbox.push(&mut pool, Segment::Shared(Bytes::from_static(b"jk")));
            let mut copied_count = 0;
            outbox.join(&mut pool, byte_count_max, |buffer, start, end, out| {
                assert_eq!(buffer, 7);
                copied_count += 1;
                out.extend_from_slice(&b"..def"[start as usize..end as usize]);
            });
            let left = match byte_count_max {
                ..6 => 4,
                6..9 => 3,
                9..11 => 2,
                _ => 1,
            };
            assert_eq!(
                (outbox.segment_count(), outbox.queued_bytes()),
                (left, 11),
                "of {byte_count_max} bytes"
            );
            assert_eq!(copied_count, u32::from(left < 4));
            outbox.own(&mut pool, |_, _, _, out| out.extend_from_slice(b"def"));
            assert_eq!(drain(&mut outbox), b"abcdefghijk");
        }
    }

    #[test]
    fn an_empty_outbox_owns_no_memory() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        for _ in 0..100 {
            outbox.push(&mut pool, Segment::Shared(Bytes::from_static(b"x")));
        }
        drain(&mut outbox);
        assert!(outbox.rest.is_none());
    }
}
