//! The trials: tiny rings and socket pairs of our own, thrown away after.
//!
//! Invariants: no trial touches the network or anything that is not its own; none blocks, because each ring of
//! requests has a timeout under way that ends its waits; nothing stays registered with the thread. Deliberately
//! absent: what a failure means beyond "not there".

use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use io_uring::register::Probe as Opcodes;
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Napi, TimeoutFlags, Timespec};
use io_uring::{IoUring, opcode, squeue};

use super::super::mapping::Mapping;
use super::{Feature, How};

/// Entries of every ring here.
const ENTRIES: u32 = 8;
/// Time that the requests of one ring may take altogether; they take microseconds.
const PATIENCE_NS: u32 = 200_000_000;
/// User data of the timeout that ends a ring's waits.
const GUARD: u64 = u64::MAX;
/// What [`Ring::buffer`] and the queues of a ring without `mmap` take: two pages of the largest size there is.
const MEMORY_BYTES: usize = 2 * PAGE_BYTES;
const PAGE_BYTES: usize = 64 * 1024;

/// `IORING_SETUP_*` of `include/uapi/linux/io_uring.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup(u32);

impl Setup {
    const NONE: Self = Self(0);
    const R_DISABLED: Self = Self(1 << 6);
    pub(super) const SQPOLL: Self = Self(1 << 1);
    pub(super) const CQSIZE: Self = Self(1 << 3);
    pub(super) const CLAMP: Self = Self(1 << 4);
    pub(super) const SUBMIT_ALL: Self = Self(1 << 7);
    pub(super) const COOP_TASKRUN: Self = Self(1 << 8);
    pub(super) const TASKRUN_FLAG: Self = Self(1 << 9);
    pub(super) const CQE32: Self = Self(1 << 11);
    pub(super) const SINGLE_ISSUER: Self = Self(1 << 12);
    pub(super) const DEFER_TASKRUN: Self = Self(1 << 13);
    pub(super) const NO_MMAP: Self = Self(1 << 14);
    pub(super) const REGISTERED_FD_ONLY: Self = Self(1 << 15);
    pub(super) const NO_SQARRAY: Self = Self(1 << 16);
    pub(super) const CQE_MIXED: Self = Self(1 << 18);
    pub(super) const SQE_MIXED: Self = Self(1 << 19);
    pub(super) const SQ_REWIND: Self = Self(1 << 20);

    /// Both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// `IORING_REGISTER_*` codes that io-uring 0.7 does not offer on a bare descriptor.
mod register {
    pub(super) const RING_FDS: u32 = 20;
    pub(super) const UNREGISTER_RING_FDS: u32 = 21;
    pub(super) const FILE_ALLOC_RANGE: u32 = 25;
    pub(super) const CLOCK: u32 = 29;
    pub(super) const RESIZE_RINGS: u32 = 33;
    pub(super) const MEM_REGION: u32 = 34;
    /// The descriptor is an index of a registered ring.
    pub(super) const USE_REGISTERED_RING: u32 = 1 << 31;
}

/// Two neighbouring 32-bit fields of one of the kernel's structures.
const fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

const fn second_of(word: u64) -> u32 {
    let [.., e, f, g, h] = word.to_ne_bytes();
    u32::from_ne_bytes([e, f, g, h])
}

/// `struct io_uring_params`, in words.
type Params = [u64; 15];

fn params(flags: Setup, memory: &Mapping) -> Params {
    let mut params = [0; 15];
    params[0] = pair(0, if flags.has(Setup::CQSIZE) { ENTRIES * 4 } else { 0 });
    params[1] = pair(flags.0, 0);
    // Milliseconds until the kernel's thread sleeps.
    params[2] = pair(u32::from(flags.has(Setup::SQPOLL)), 0);
    if flags.has(Setup::NO_MMAP) {
        let address = memory.address().as_ptr() as u64;
        (params[9], params[14]) = (address, address + PAGE_BYTES as u64);
    }
    params
}

fn code_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// `io_uring_setup(2)`: a descriptor, or an errno.
fn set_up(params: &mut Params) -> Result<RawFd, i32> {
    // SAFETY: `params` has the length of the structure. The memory that it names under NO_MMAP is the caller's
    // mapping, large enough for the queues of `ENTRIES` entries; the kernel holds on to its pages by itself.
    let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) };
    if descriptor < 0 { Err(code_of(&io::Error::last_os_error())) } else { Ok(descriptor as RawFd) }
}

/// A ring that is not mapped: for registering.
fn bare_ring(flags: Setup, memory: &Mapping) -> Result<OwnedFd, i32> {
    let descriptor = set_up(&mut params(flags, memory))?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `io_uring_register(2)` with a structure of 64-bit words; whatever they point to has to outlive the ring.
fn register(ring: RawFd, opcode: u32, words: &mut [u64], count: u32) -> Result<i32, i32> {
    // SAFETY: every structure that is passed here is as long as the kernel's; the addresses in them are those of
    // mappings and arrays that outlive the ring, and of descriptors.
    let result =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring, opcode, words.as_mut_ptr(), count) };
    if result < 0 { Err(code_of(&io::Error::last_os_error())) } else { Ok(result as i32) }
}

/// What the kernel says of itself, before anything is tried.
pub(super) struct Kernel {
    features: u32,
    opcodes: Opcodes,
    memory: Mapping,
}

impl Kernel {
    /// An errno where no ring can be had.
    pub(super) fn ask() -> Result<Self, i32> {
        let memory = Mapping::new(MEMORY_BYTES).map_err(|error| code_of(&error))?;
        let ring = IoUring::new(ENTRIES).map_err(|error| code_of(&error))?;
        let mut opcodes = Opcodes::new();
        // Before Linux 5.6 there is no such list, and none of the operations that are asked for.
        let _ = ring.submitter().register_probe(&mut opcodes);
        let mut bare = params(Setup::NONE, &memory);
        let descriptor = set_up(&mut bare)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
        Ok(Self { features: second_of(bare[2]), opcodes, memory })
    }

    /// Whether it has the feature.
    pub(super) fn has(&self, feature: Feature) -> bool {
        match feature.row().how {
            How::Setup(flags) => self.sets_up(flags),
            How::Bit(bit) => self.features & bit != 0,
            How::Opcode(opcode) => self.opcodes.is_supported(opcode),
            How::Trial(trial) => Ring::new().is_ok_and(|mut ring| trial(&mut ring)),
        }
    }

    fn sets_up(&self, flags: Setup) -> bool {
        if !flags.has(Setup::REGISTERED_FD_ONLY) {
            return bare_ring(flags, &self.memory).is_ok();
        }
        let Ok(index) = set_up(&mut params(flags, &self.memory)) else { return false };
        // The thread has few places for registered rings: give this one back.
        let mut update = [pair(index as u32, 0), 0];
        let opcode = register::UNREGISTER_RING_FDS | register::USE_REGISTERED_RING;
        register(index, opcode, &mut update, 1).is_ok()
    }
}

/// A ring with a socket pair, for trials. The ring is dropped first.
pub(super) struct Ring {
    ring: IoUring,
    ours: UnixStream,
    theirs: UnixStream,
    memory: Mapping,
    /// The timeout that ends all waits has come.
    late: bool,
    submitted_count: u64,
}

/// What became of a request: its result, and whether more is to come.
struct Outcome {
    result: i32,
    more: bool,
}

impl Ring {
    fn new() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let memory = Mapping::new(MEMORY_BYTES)?;
        let ring = IoUring::new(ENTRIES)?;
        let mut ring = Self { ring, ours, theirs, memory, late: false, submitted_count: 0 };
        let patience = Timespec::new().nsec(PATIENCE_NS);
        ring.push(&opcode::Timeout::new(&patience).build().user_data(GUARD))?;
        // The time is read when the request is submitted.
        ring.ring.submit()?;
        Ok(ring)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entries of this file point to is read while they are submitted, or lies in `self.memory`
        // and in sockets of ours that nobody writes to any more when the ring is dropped, or is waited for.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// Submits a request and waits for its first completion.
    fn outcome(&mut self, entry: squeue::Entry) -> Option<Outcome> {
        self.submitted_count += 1;
        let wanted = self.submitted_count;
        self.push(&entry.user_data(wanted)).ok()?;
        while !self.late {
            self.ring.submit_and_wait(1).ok()?;
            for completion in self.ring.completion() {
                if completion.user_data() == wanted {
                    let more = io_uring::cqueue::more(completion.flags());
                    return Some(Outcome { result: completion.result(), more });
                }
                self.late |= completion.user_data() == GUARD;
            }
        }
        None
    }

    fn result(&mut self, entry: squeue::Entry) -> Option<i32> {
        self.outcome(entry).map(|outcome| outcome.result)
    }

    /// Whether the request succeeds and goes on.
    fn goes_on(&mut self, entry: squeue::Entry) -> bool {
        self.outcome(entry).is_some_and(|outcome| outcome.result >= 0 && outcome.more)
    }

    fn our_end(&self) -> Fd {
        Fd(self.ours.as_raw_fd())
    }

    fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Gives our end of the pair something to receive.
    fn speak(&mut self) -> bool {
        self.theirs.write_all(b"x").is_ok()
    }

    fn buffer(&self) -> *mut u8 {
        self.memory.address().as_ptr()
    }

    pub(super) fn polls_on(&mut self) -> bool {
        let poll = opcode::PollAdd::new(self.our_end(), libc::POLLIN as u32).multi(true);
        self.speak() && self.goes_on(poll.build())
    }

    pub(super) fn accepts_on(&mut self) -> bool {
        let Ok((listener, _client)) = knocked_at() else { return false };
        let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()));
        let Some(outcome) = self.outcome(accept.build()) else { return false };
        if outcome.result >= 0 {
            // SAFETY: the kernel has just made this descriptor for us.
            drop(unsafe { OwnedFd::from_raw_fd(outcome.result) });
        }
        outcome.result >= 0 && outcome.more
    }

    pub(super) fn receives_on(&mut self) -> bool {
        let provide = opcode::ProvideBuffers::new(self.buffer(), 64, 1, 0, 0).build();
        let receive = opcode::RecvMulti::new(self.our_end(), 0).build();
        self.speak() && self.result(provide).is_some_and(|result| result >= 0) && self.goes_on(receive)
    }

    pub(super) fn times_out_on(&mut self) -> bool {
        let moment = Timespec::new().nsec(1000);
        let timeout = opcode::Timeout::new(&moment).count(2).flags(TimeoutFlags::MULTISHOT).build();
        self.outcome(timeout).is_some_and(|outcome| outcome.result == -libc::ETIME && outcome.more)
    }

    /// Kernels before 5.19 ignored the field of these flags: one that does takes any.
    fn looks_at_flags(&mut self, with_flags: impl Fn(u16) -> squeue::Entry, flag: u16) -> bool {
        const NO_FLAG: u16 = 1 << 14;
        self.result(with_flags(NO_FLAG)) == Some(-libc::EINVAL) && self.result(with_flags(flag)) == Some(1)
    }

    pub(super) fn polls_first(&mut self) -> bool {
        const POLL_FIRST: u16 = 1;
        let (end, buffer) = (self.our_end(), self.buffer());
        let receive = |flags| opcode::Recv::new(end, buffer, 64).ioprio(flags).build();
        self.speak() && self.looks_at_flags(receive, POLL_FIRST)
    }

    pub(super) fn sends_vectors(&mut self) -> bool {
        const VECTORIZED: u16 = 1 << 5;
        let piece = libc::iovec { iov_base: self.buffer().cast(), iov_len: 1 };
        let (end, pieces) = (self.our_end(), (&raw const piece).cast());
        self.looks_at_flags(|flags| opcode::Send::new(end, pieces, 1).ioprio(flags).build(), VECTORIZED)
    }

    pub(super) fn cancels_by_descriptor(&mut self) -> bool {
        let nothing = CancelBuilder::fd(self.our_end());
        self.result(opcode::AsyncCancel2::new(nothing).build()) == Some(-libc::ENOENT)
    }

    pub(super) fn sets_socket_options(&mut self) -> bool {
        let on: libc::c_int = 1;
        let (level, name, value) =
            (libc::SOL_SOCKET as u32, libc::SO_KEEPALIVE as u32, (&raw const on).cast());
        let set = opcode::SetSockOpt::new(self.our_end(), level, name, value, size_of_val(&on) as u32);
        self.result(set.build()) == Some(0)
    }

    pub(super) fn registers_buffers(&mut self) -> bool {
        let piece = libc::iovec { iov_base: self.buffer().cast(), iov_len: 64 };
        // SAFETY: the mapping outlives the ring.
        unsafe { self.ring.submitter().register_buffers(&[piece]) }.is_ok()
    }

    fn registers_ring_of_buffers(&mut self, flags: u16) -> bool {
        // SAFETY: the mapping is page-aligned, longer than the ring's entries, and outlives the ring.
        unsafe {
            self.ring.submitter().register_buf_ring_with_flags(self.buffer() as u64, ENTRIES as u16, 0, flags)
        }
        .is_ok()
    }

    pub(super) fn registers_buffer_ring(&mut self) -> bool {
        self.registers_ring_of_buffers(0)
    }

    pub(super) fn registers_incremental_buffers(&mut self) -> bool {
        const INC: u16 = 2;
        self.registers_ring_of_buffers(INC)
    }

    pub(super) fn registers_itself(&mut self) -> bool {
        let ring = self.descriptor();
        let mut update = [pair(u32::MAX, 0), ring as u64];
        if register(ring, register::RING_FDS, &mut update, 1) != Ok(1) {
            return false;
        }
        // The kernel wrote the place that it took into the first word, which now says what to give back.
        update[1] = 0;
        register(ring, register::UNREGISTER_RING_FDS, &mut update, 1) == Ok(1)
    }

    fn has_sparse_table(&mut self) -> bool {
        self.ring.submitter().register_files_sparse(2).is_ok()
    }

    pub(super) fn accepts_directly(&mut self) -> bool {
        let Ok((listener, _client)) = knocked_at() else { return false };
        let accept =
            opcode::Accept::new(Fd(listener.as_raw_fd()), std::ptr::null_mut(), std::ptr::null_mut());
        let accept = accept.file_index(Some(DestinationSlot::auto_target())).build();
        self.has_sparse_table() && self.result(accept) == Some(0)
    }

    pub(super) fn bounds_descriptors(&mut self) -> bool {
        let mut range = [pair(1, 1), 0];
        self.has_sparse_table()
            && register(self.descriptor(), register::FILE_ALLOC_RANGE, &mut range, 0).is_ok()
    }

    pub(super) fn cancels_at_once(&mut self) -> bool {
        let nothing = CancelBuilder::user_data(0);
        let cancelled = self.ring.submitter().register_sync_cancel(None, nothing);
        cancelled.is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
    }

    pub(super) fn registers_napi(&mut self) -> bool {
        self.ring.submitter().register_napi(&mut Napi::new()).is_ok()
    }

    pub(super) fn registers_clock(&mut self) -> bool {
        let mut clock = [pair(libc::CLOCK_MONOTONIC as u32, 0), 0];
        register(self.descriptor(), register::CLOCK, &mut clock, 0).is_ok()
    }

    pub(super) fn registers_wait_region(&mut self) -> bool {
        const USER_MEMORY: u32 = 1;
        const WAIT_ARGUMENTS: u64 = 1;
        // Only before the ring is enabled.
        let Ok(ring) = bare_ring(Setup::R_DISABLED, &self.memory) else { return false };
        let page_bytes = rustix::param::page_size() as u64;
        let region = [self.buffer() as u64, page_bytes, pair(USER_MEMORY, 0), 0, 0, 0, 0, 0];
        let mut arguments = [region.as_ptr() as u64, WAIT_ARGUMENTS, 0, 0];
        register(ring.as_raw_fd(), register::MEM_REGION, &mut arguments, 1).is_ok()
    }

    pub(super) fn resizes(&mut self) -> bool {
        // Only where completions are deferred.
        let deferred = Setup::SINGLE_ISSUER.and(Setup::DEFER_TASKRUN);
        let Ok(ring) = bare_ring(deferred, &self.memory) else { return false };
        let mut larger = params(Setup::NONE, &self.memory);
        larger[0] = pair(ENTRIES * 2, ENTRIES * 4);
        register(ring.as_raw_fd(), register::RESIZE_RINGS, &mut larger, 1).is_ok()
    }
}

/// A listener of our own that a client waits at.
fn knocked_at() -> io::Result<(socket2::Socket, socket2::Socket)> {
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    let (listener, client) = (socket()?, socket()?);
    // An empty name has the kernel choose one that no file belongs to.
    listener.bind(&socket2::SockAddr::unix("")?)?;
    listener.listen(1)?;
    client.connect(&listener.local_addr()?)?;
    Ok((listener, client))
}
