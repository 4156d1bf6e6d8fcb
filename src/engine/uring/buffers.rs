//! The receive buffers: one slab of memory, lent to the kernel through a provided-buffer ring
//! (`IORING_REGISTER_PBUF_RING`, Linux 5.19).
//!
//! Invariants: a buffer is either the kernel's (in the ring) or ours (a receive completed into it and its
//! bytes, or replies made of them, are still wanted), never both; each buffer has [`HEADROOM_BYTES`] in front
//! that the kernel does not write. Only as many buffers circulate as the load has needed so far, so that a
//! light one keeps to memory that is in cache.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::super::mapping::Mapping;
use crate::limits::{HEADROOM_BYTES, RECV_BUFFERS_AT_FIRST};

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// See the module's text.
pub(super) struct RecvBuffers {
    slab: Mapping,
    ring: Mapping,
    stride_bytes: usize,
    buffer_bytes: usize,
    count: u16,
    /// Buffers below this number circulate; those above were never used.
    circulating: u16,
    /// The ring's tail as it will be after [`RecvBuffers::publish`].
    tail: u16,
    /// Segments that still refer to a buffer of ours.
    uses: Vec<u16>,
}

impl RecvBuffers {
    /// `count` (a power of two) buffers of `buffer_bytes`, registered with the ring behind `submitter`.
    pub(super) fn register(submitter: &Submitter<'_>, count: u16, buffer_bytes: usize) -> io::Result<Self> {
        // An odd number of cache lines: else the first lines of all buffers would fall into a few cache sets.
        let lines = (HEADROOM_BYTES + buffer_bytes).div_ceil(64) | 1;
        let stride_bytes = lines * 64;
        let slab = Mapping::new(stride_bytes * usize::from(count))?;
        let ring = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        // SAFETY: the ring's memory is page-aligned, holds `count` entries, and lives until `Drop`, which
        // comes after the io_uring instance is closed (the loop owns both and drops the instance first).
        unsafe { submitter.register_buf_ring_with_flags(ring.address().as_ptr() as u64, count, GROUP, 0)? };
        let uses = vec![0; usize::from(count)];
        let mut buffers =
            Self { slab, ring, stride_bytes, buffer_bytes, count, circulating: 0, tail: 0, uses };
        buffers.circulate(RECV_BUFFERS_AT_FIRST.min(count));
        buffers.publish();
        Ok(buffers)
    }

    /// The kernel ran out of buffers: twice as many circulate from now on, if there are as many.
    pub(super) fn grow(&mut self) {
        self.circulate(self.circulating.saturating_mul(2).min(self.count));
    }

    fn circulate(&mut self, target: u16) {
        for buffer in self.circulating..target {
            self.give(buffer);
        }
        self.circulating = self.circulating.max(target);
    }

    /// The whole buffer, headroom first. It must be ours.
    #[inline]
    pub(super) fn memory(&mut self, buffer: u16) -> &mut [u8] {
        assert!(buffer < self.count);
        // SAFETY: `buffer` is below `count`, so the range lies in the slab; the kernel does not write to a
        // buffer that is ours, and `&mut self` keeps other references out.
        unsafe {
            let start = self.slab.address().as_ptr().add(usize::from(buffer) * self.stride_bytes);
            std::slice::from_raw_parts_mut(start, HEADROOM_BYTES + self.buffer_bytes)
        }
    }

    /// Where byte `offset` of a buffer is, for the kernel to read.
    #[inline]
    pub(super) fn address(&self, buffer: u16, offset: u32) -> *const u8 {
        assert!(buffer < self.count && offset as usize <= HEADROOM_BYTES + self.buffer_bytes);
        // SAFETY: in the slab, by the assertion.
        unsafe { self.slab.address().as_ptr().add(usize::from(buffer) * self.stride_bytes + offset as usize) }
    }

    /// `uses` segments refer to this buffer of ours; with none it goes back to the kernel.
    #[inline]
    pub(super) fn hold(&mut self, buffer: u16, uses: u16) {
        if uses == 0 {
            self.give(buffer);
        } else {
            self.uses[usize::from(buffer)] = uses;
        }
    }

    /// One segment less refers to this buffer; after the last it goes back to the kernel.
    #[inline]
    pub(super) fn release(&mut self, buffer: u16) {
        let uses = &mut self.uses[usize::from(buffer)];
        *uses -= 1;
        if *uses == 0 {
            self.give(buffer);
        }
    }

    #[inline]
    fn give(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.address(buffer, HEADROOM_BYTES as u32);
        // SAFETY: `index` is below `count`, so the entry lies in the ring's memory; the kernel does not read
        // it before the tail has passed it. There is room: the ring has an entry for every buffer.
        let entry = unsafe { &mut *self.ring.address().cast::<BufRingEntry>().as_ptr().add(index) };
        entry.set_addr(address as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see the buffers that were given back.
    #[inline]
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail is a 16-bit field of the ring's first entry, aligned, and written by us alone;
        // Release orders the entries before it.
        unsafe {
            let tail = BufRingEntry::tail(self.ring.address().cast::<BufRingEntry>().as_ptr());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}
