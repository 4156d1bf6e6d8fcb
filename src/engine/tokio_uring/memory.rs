//! The memory that operations read into and write from.
//!
//! The crate wants to own the buffer of an operation until it is over. It is given leases: an address and a
//! length, as small as a slice. What they point to stands in receive buffers or in outboxes, which the engine
//! keeps where they are until the operation has completed, and keeps alive until the runtime is gone.
//!
//! Invariants: a receive buffer is free, lent to one read, or referred to by segments of outboxes; each has
//! [`HEADROOM_BYTES`] in front that the kernel does not write. There are as many as were needed at once so far. A
//! connection that waits for bytes holds one: address space, but no memory beyond what a message of it has touched.

use std::io;

use ::tokio_uring::buf::{IoBuf, IoBufMut};

use super::super::mapping::Mapping;
use crate::limits::HEADROOM_BYTES;

/// Buffers that are mapped at a time.
const CHUNK_BUFFERS: usize = 64;

/// See the module's text.
pub(super) struct RecvBuffers {
    chunks: Vec<Mapping>,
    stride_bytes: usize,
    buffer_bytes: usize,
    /// The one used last is used next: it is in cache.
    free: Vec<u32>,
    /// Segments that refer to a buffer.
    uses: Vec<u16>,
}

impl RecvBuffers {
    pub(super) fn new(buffer_bytes: usize) -> Self {
        // An odd number of cache lines: else the first lines of all buffers would fall into a few cache sets.
        let lines = (HEADROOM_BYTES + buffer_bytes).div_ceil(64) | 1;
        Self {
            chunks: Vec::new(),
            stride_bytes: lines * 64,
            buffer_bytes,
            free: Vec::new(),
            uses: Vec::new(),
        }
    }

    /// A free buffer, to be read into.
    ///
    /// # Errors
    /// Out of address space.
    #[inline]
    pub(super) fn take(&mut self) -> io::Result<Room> {
        if self.free.is_empty() {
            self.grow()?;
        }
        let number = self.free.pop().expect("there is one after growing");
        Ok(Room {
            address: self.address(number, HEADROOM_BYTES as u32),
            byte_count: self.buffer_bytes,
            number,
        })
    }

    #[cold]
    fn grow(&mut self) -> io::Result<()> {
        self.chunks.push(Mapping::new(self.stride_bytes * CHUNK_BUFFERS)?);
        let first = self.uses.len() as u32;
        self.uses.resize(self.uses.len() + CHUNK_BUFFERS, 0);
        self.free.extend((first..first + CHUNK_BUFFERS as u32).rev());
        Ok(())
    }

    /// The whole buffer, headroom first. No operation may be under way on it.
    #[inline]
    pub(super) fn memory(&mut self, number: u32) -> &mut [u8] {
        let start = self.address(number, 0);
        // SAFETY: all of the buffer lies in its chunk; the kernel does not write to a buffer once its read is over,
        // and `&mut self` keeps other references out.
        unsafe { std::slice::from_raw_parts_mut(start, HEADROOM_BYTES + self.buffer_bytes) }
    }

    /// Where byte `offset` of a buffer is.
    #[inline]
    pub(super) fn address(&self, number: u32, offset: u32) -> *mut u8 {
        let (chunk, index) = (number as usize / CHUNK_BUFFERS, number as usize % CHUNK_BUFFERS);
        assert!(offset as usize <= HEADROOM_BYTES + self.buffer_bytes);
        // SAFETY: `index` is below the chunk's count and `offset` within the buffer, so it lies in the chunk.
        unsafe { self.chunks[chunk].address().as_ptr().add(index * self.stride_bytes + offset as usize) }
    }

    /// `uses` segments refer to this buffer, which was lent to a read; with none it is free.
    #[inline]
    pub(super) fn hold(&mut self, number: u32, uses: u16) {
        self.uses[number as usize] = uses;
        if uses == 0 {
            self.free.push(number);
        }
    }

    /// One segment less refers to this buffer; after the last it is free.
    #[inline]
    pub(super) fn release(&mut self, number: u32) {
        let uses = &mut self.uses[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.free.push(number);
        }
    }
}

/// A receive buffer, lent to a read.
pub(super) struct Room {
    address: *mut u8,
    byte_count: usize,
    pub(super) number: u32,
}

// SAFETY: the address stays valid while the read is under way, wherever the lease is moved: chunks of receive
// buffers are unmapped only when the runtime is gone. They are zeroed, so every byte is initialized.
unsafe impl IoBuf for Room {
    fn stable_ptr(&self) -> *const u8 {
        self.address
    }

    fn bytes_init(&self) -> usize {
        self.byte_count
    }

    fn bytes_total(&self) -> usize {
        self.byte_count
    }
}

// SAFETY: as above; and nobody else refers to a buffer that is lent to a read.
unsafe impl IoBufMut for Room {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.address
    }

    unsafe fn set_init(&mut self, _byte_count: usize) {}
}

/// Bytes of an outbox's first segment, lent to a write.
pub(super) struct Lent {
    address: *const u8,
    byte_count: usize,
}

impl Lent {
    /// # Safety
    /// The bytes stay where they are, and are not written to, until the write is over.
    pub(super) unsafe fn new(address: *const u8, byte_count: usize) -> Self {
        Self { address, byte_count }
    }
}

// SAFETY: whoever made it promised that its bytes stay.
unsafe impl IoBuf for Lent {
    fn stable_ptr(&self) -> *const u8 {
        self.address
    }

    fn bytes_init(&self) -> usize {
        self.byte_count
    }

    fn bytes_total(&self) -> usize {
        self.byte_count
    }
}
