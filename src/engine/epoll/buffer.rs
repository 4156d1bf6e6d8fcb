//! The one receive buffer of a thread: headroom, then room for what arrives, whose first byte is aligned to a
//! cache line.
//!
//! It is received into, handed to the handler and sent from, one after the other: ordinary borrows keep these
//! apart. Memory is taken from the kernel only as far as receives reach into it.

use std::io;

use super::super::mapping::Mapping;
use crate::limits::HEADROOM_BYTES;

/// See the module's text.
pub(super) struct RecvBuffer {
    mapping: Mapping,
    byte_count: usize,
}

impl RecvBuffer {
    /// With room for `room_bytes` behind the headroom.
    pub(super) fn new(room_bytes: usize) -> io::Result<Self> {
        let byte_count = HEADROOM_BYTES + room_bytes;
        Ok(Self { mapping: Mapping::new(byte_count)?, byte_count })
    }

    /// All of it, headroom first.
    #[inline]
    pub(super) fn memory(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `byte_count` long, zeroed at first and ours alone; `&mut self` keeps other
        // references out.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.address().as_ptr(), self.byte_count) }
    }

    /// Where to receive.
    #[inline]
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.memory()[HEADROOM_BYTES..]
    }

    /// The bytes from `start` to `end` of [`RecvBuffer::memory`].
    #[inline]
    pub(super) fn part(&self, start: u32, end: u32) -> &[u8] {
        // SAFETY: the mapping is `byte_count` long and initialised; `&self` keeps `&mut` references out.
        let memory = unsafe { std::slice::from_raw_parts(self.mapping.address().as_ptr(), self.byte_count) };
        &memory[start as usize..end as usize]
    }
}
