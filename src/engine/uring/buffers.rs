//! The receive buffers: one slab of memory, lent to the kernel through a provided-buffer ring
//! (`IORING_REGISTER_PBUF_RING`, Linux 5.19), or, where that is switched off, one by one with each receive.
//!
//! Invariants: a buffer is either the kernel's (in the ring, or lent) or ours (a receive completed into it and its
//! bytes, or replies made of them, are still wanted), never both; each buffer has [`HEADROOM_BYTES`] in front
//! that the kernel does not write. Only as many buffers circulate as the load needs, so that it keeps to memory that is
//! in cache.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::super::mapping::Mapping;
use crate::limits::{HEADROOM_BYTES, RECV_BUFFERS_AT_FIRST};

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// How the kernel comes by a buffer.
enum Lending {
    /// It takes the next from a ring.
    Ring {
        /// Entries, as many as there are buffers.
        entries: Mapping,
        /// The ring's tail as it will be after [`RecvBuffers::publish`].
        tail: u16,
        /// Where in the ring each buffer was last put.
        places: Vec<u16>,
    },
    /// Each receive brings one of these.
    Single {
        /// Ours and not in use; the one used last comes first.
        free: Vec<u32>,
    },
}

/// See the module's text.
pub(super) struct RecvBuffers {
    slab: Mapping,
    lending: Lending,
    stride_bytes: usize,
    buffer_bytes: usize,
    count: u32,
    /// How many are in use, with the kernel or with us.
    circulating: u32,
    /// How many are to be: those above it are taken out as they come back.
    wanted: u32,
    /// Taken out.
    reserve: Vec<u32>,
    /// Buffers from this number on were never used.
    untouched: u32,
    /// Segments that still refer to a buffer of ours.
    uses: Vec<u16>,
}

impl RecvBuffers {
    /// `count` (a power of two) buffers of `buffer_bytes`, in a ring registered with the one behind `submitter`.
    pub(super) fn register(submitter: &Submitter<'_>, count: u16, buffer_bytes: usize) -> io::Result<Self> {
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        // SAFETY: the ring's memory is page-aligned, holds `count` entries, and lives until `Drop`, which
        // comes after the io_uring instance is closed (the loop owns both and drops the instance first).
        unsafe {
            submitter.register_buf_ring_with_flags(entries.address().as_ptr() as u64, count, GROUP, 0)?
        };
        let lending = Lending::Ring { entries, tail: 0, places: vec![0; usize::from(count)] };
        Self::new(lending, count.into(), buffer_bytes)
    }

    /// `count` buffers of `buffer_bytes` to be lent one by one.
    pub(super) fn single(count: u32, buffer_bytes: usize) -> io::Result<Self> {
        Self::new(Lending::Single { free: Vec::new() }, count, buffer_bytes)
    }

    fn new(lending: Lending, count: u32, buffer_bytes: usize) -> io::Result<Self> {
        // An odd number of cache lines: else the first lines of all buffers would fall into a few cache sets.
        let lines = (HEADROOM_BYTES + buffer_bytes).div_ceil(64) | 1;
        let stride_bytes = lines * 64;
        let slab = Mapping::new(stride_bytes * count as usize)?;
        let uses = vec![0; count as usize];
        let (wanted, reserve, untouched) = (RECV_BUFFERS_AT_FIRST.min(count), Vec::new(), 0);
        let mut buffers = Self {
            slab,
            lending,
            stride_bytes,
            buffer_bytes,
            count,
            circulating: 0,
            wanted,
            reserve,
            untouched,
            uses,
        };
        buffers.circulate();
        buffers.publish();
        Ok(buffers)
    }

    /// Received bytes that a buffer holds.
    #[inline]
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// How many buffers are in use, with the kernel or with us.
    pub(super) fn circulating(&self) -> u32 {
        self.circulating
    }

    /// The kernel ran out of buffers: twice as many circulate from now on, if there are as many.
    pub(super) fn grow(&mut self) {
        self.wanted = self.circulating.saturating_mul(2).min(self.count);
        self.circulate();
    }

    /// No more are to circulate than at first.
    pub(super) fn shrink(&mut self) {
        self.wanted = RECV_BUFFERS_AT_FIRST.min(self.count);
    }

    fn circulate(&mut self) {
        while self.circulating < self.wanted {
            let buffer = self.reserve.pop().unwrap_or(self.untouched);
            self.untouched = self.untouched.max(buffer + 1);
            self.circulating += 1;
            self.give(buffer);
        }
    }

    /// A buffer for one receive, where there is no ring; `None` while replies are made of all of them.
    pub(super) fn lend(&mut self) -> Option<u32> {
        if matches!(&self.lending, Lending::Single { free } if free.is_empty()) {
            self.grow();
        }
        match &mut self.lending {
            Lending::Ring { .. } => unreachable!("the kernel takes buffers from its ring"),
            Lending::Single { free } => free.pop(),
        }
    }

    /// The buffer that the kernel took from the ring after `buffer`.
    pub(super) fn following(&self, buffer: u32) -> u32 {
        let Lending::Ring { entries, places, .. } = &self.lending else {
            unreachable!("bundles come from a ring")
        };
        let index = (u32::from(places[buffer as usize]) + 1) & (self.count - 1);
        // SAFETY: `index` is below `count`, so the entry lies in the ring's memory; only we write entries.
        let entry = unsafe { &*entries.address().cast::<BufRingEntry>().as_ptr().add(index as usize) };
        entry.bid().into()
    }

    /// The whole buffer, headroom first. It must be ours.
    #[inline]
    pub(super) fn memory(&mut self, buffer: u32) -> &mut [u8] {
        assert!(buffer < self.count);
        // SAFETY: `buffer` is below `count`, so the range lies in the slab; the kernel does not write to a
        // buffer that is ours, and `&mut self` keeps other references out.
        unsafe {
            let start = self.slab.address().as_ptr().add(buffer as usize * self.stride_bytes);
            std::slice::from_raw_parts_mut(start, HEADROOM_BYTES + self.buffer_bytes)
        }
    }

    /// Where byte `offset` of a buffer is, for the kernel to read.
    #[inline]
    pub(super) fn address(&self, buffer: u32, offset: u32) -> *const u8 {
        assert!(buffer < self.count && offset as usize <= HEADROOM_BYTES + self.buffer_bytes);
        // SAFETY: in the slab, by the assertion.
        unsafe { self.slab.address().as_ptr().add(buffer as usize * self.stride_bytes + offset as usize) }
    }

    /// `uses` segments refer to this buffer of ours; with none it goes back to the kernel.
    #[inline]
    pub(super) fn hold(&mut self, buffer: u32, uses: u16) {
        if uses == 0 {
            self.give(buffer);
        } else {
            self.uses[buffer as usize] = uses;
        }
    }

    /// One segment less refers to this buffer; after the last it goes back to the kernel.
    #[inline]
    pub(super) fn release(&mut self, buffer: u32) {
        let uses = &mut self.uses[buffer as usize];
        *uses -= 1;
        if *uses == 0 {
            self.give(buffer);
        }
    }

    #[inline]
    fn give(&mut self, buffer: u32) {
        if self.circulating > self.wanted {
            self.circulating -= 1;
            return self.reserve.push(buffer);
        }
        let address = self.address(buffer, HEADROOM_BYTES as u32);
        match &mut self.lending {
            Lending::Single { free } => free.push(buffer),
            Lending::Ring { entries, tail, places } => {
                let index = *tail & (self.count - 1) as u16;
                // SAFETY: `index` is below `count`, so the entry lies in the ring's memory; the kernel does not read
                // it before the tail has passed it. There is room: the ring has an entry for every buffer.
                let entry =
                    unsafe { &mut *entries.address().cast::<BufRingEntry>().as_ptr().add(index.into()) };
                entry.set_addr(address as u64);
                entry.set_len(self.buffer_bytes as u32);
                entry.set_bid(buffer as u16);
                places[buffer as usize] = index;
                *tail = tail.wrapping_add(1);
            }
        }
    }

    /// Lets the kernel see the buffers that were given back.
    #[inline]
    pub(super) fn publish(&mut self) {
        let Lending::Ring { entries, tail, .. } = &self.lending else { return };
        // SAFETY: the tail is a 16-bit field of the ring's first entry, aligned, and written by us alone;
        // Release orders the entries before it.
        unsafe {
            let shared = BufRingEntry::tail(entries.address().cast::<BufRingEntry>().as_ptr());
            (*shared.cast::<AtomicU16>()).store(*tail, Ordering::Release);
        }
    }
}
