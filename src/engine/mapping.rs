//! Memory straight from the kernel: page-aligned, zeroed, and backed only where it is touched.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// An anonymous mapping.
pub(super) struct Mapping {
    address: NonNull<u8>,
    byte_count: usize,
}

impl Mapping {
    /// # Errors
    /// As `mmap(2)`: out of memory or of address space.
    pub(super) fn new(byte_count: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice aliases nothing.
        let address = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                byte_count,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { address, byte_count })
    }

    /// Its first byte.
    #[inline]
    pub(super) fn address(&self) -> NonNull<u8> {
        self.address
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nothing refers to it any more. It fails only for
        // addresses that are none.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.byte_count) };
    }
}
