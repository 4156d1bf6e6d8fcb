//! When the kernel received what a receive brings: `SO_TIMESTAMPING`, of TCP since Linux 4.14.
//!
//! The kernel notes the time when it takes a packet in, before TCP sees it, and tells it with `recvmsg(2)`: of the last
//! packet that the receive brought a byte of (Documentation/networking/timestamping.rst). The time is of CLOCK_REALTIME; the
//! offset to the monotonic clock is read again every second, since the former may be set. Both are slewed alike, so between
//! two readings nothing but a step of the clock goes wrong, and for a second at most.
//!
//! The kernel begins to note times some milliseconds after the first socket of the machine asks for it: what arrives
//! earlier has none. Deliberately absent: times of sending, and of the hardware.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::{MaybeUninit, size_of};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::super::clock_ns;

/// How often the offset between the clocks is read.
const CLOCKS_INTERVAL_NS: u64 = 1_000_000_000;
/// How long the kernel may take to begin.
const TRIAL: Duration = Duration::from_secs(2);
/// Between two tries.
const TRIAL_PAUSE: Duration = Duration::from_millis(5);

/// What the kernel tells with a receive (`struct scm_timestamping`): by software, unused, by the hardware.
type Timestamps = [libc::timespec; 3];

/// Room for the one control message; as many `u64` as it takes, for their alignment.
// SAFETY: it only adds up sizes.
const CONTROL_WORDS: usize = unsafe { libc::CMSG_SPACE(size_of::<Timestamps>() as u32) } as usize / 8 + 1;

/// Receives, and says when the kernel did.
pub(super) struct Arrivals {
    /// To be subtracted from CLOCK_REALTIME to have the monotonic one.
    offset_ns: i64,
    read_again_ns: u64,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self { offset_ns: 0, read_again_ns: 0 }
    }

    /// As recv(2), with the monotonic time at which the kernel received the last of it, if it noted that. `now_ns` is the
    /// monotonic clock, or not long ago.
    #[cold]
    #[inline(never)]
    pub(super) fn receive(
        &mut self,
        socket: impl AsFd,
        room: &mut [u8],
        now_ns: u64,
    ) -> Result<(usize, Option<u64>), Errno> {
        if now_ns >= self.read_again_ns {
            self.offset_ns = realtime_offset_ns();
            self.read_again_ns = now_ns + CLOCKS_INTERVAL_NS;
        }
        let (byte_count, realtime_ns) = receive_message(socket.as_fd(), room)?;
        Ok((byte_count, realtime_ns.and_then(|ns| u64::try_from(ns - self.offset_ns).ok())))
    }
}

/// Has the kernel note when it receives for `socket`.
///
/// # Errors
/// As `setsockopt(2)`.
pub(super) fn ask(socket: impl AsFd) -> Result<(), Errno> {
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    // SAFETY: the kernel reads an integer of the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            (&raw const flags).cast(),
            size_of::<libc::c_uint>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Tries it on a connection of our own.
///
/// # Errors
/// What the kernel refused, or [`io::ErrorKind::TimedOut`] where it notes nothing.
pub(in super::super) fn try_out() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(TRIAL))?;
    ask(&receiver)?;
    let deadline = Instant::now() + TRIAL;
    loop {
        sender.write_all(b"?")?;
        if let (1, Some(_)) = Arrivals::new().receive(&receiver, &mut [0; 1], clock_ns())? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(TRIAL_PAUSE);
        // Both ends as they were, whatever became of the byte.
        receiver.write_all(b"!")?;
        sender.read_exact(&mut [0; 1])?;
    }
}

/// How far CLOCK_REALTIME is ahead of the monotonic clock: of a few readings the one that took the least time between.
fn realtime_offset_ns() -> i64 {
    let read = || {
        let (before_ns, realtime, after_ns) = (clock_ns(), clock_gettime(ClockId::Realtime), clock_ns());
        let realtime_ns = realtime.tv_sec * 1_000_000_000 + realtime.tv_nsec;
        (after_ns - before_ns, realtime_ns - (before_ns + (after_ns - before_ns) / 2) as i64)
    };
    let readings = [read(), read(), read()];
    readings.into_iter().min_by_key(|&(took_ns, _)| took_ns).map_or(0, |(_, offset_ns)| offset_ns)
}

/// recvmsg(2): how many bytes, and the time that came with them, of CLOCK_REALTIME.
fn receive_message(socket: BorrowedFd<'_>, room: &mut [u8]) -> Result<(usize, Option<i64>), Errno> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut pieces = [IoSliceMut::new(room)];
    // SAFETY: all of its fields may be zero.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = pieces.as_mut_ptr().cast();
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the kernel writes no further than the one piece and the control buffer reach, both of which outlive the
    // call; an IoSliceMut is laid out as an iovec.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let byte_count = usize::try_from(result).map_err(|_| last_error())?;
    // SAFETY: the kernel has set the control buffer's length to what it wrote there.
    Ok((byte_count, unsafe { noted_time(&message) }))
}

/// The time by software among the control messages.
///
/// # Safety
/// `message` has been received: its control buffer holds whole control messages up to its length.
unsafe fn noted_time(message: &libc::msghdr) -> Option<i64> {
    // SAFETY: promised by the caller; each header is within the buffer, or null at its end.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so within the buffer, which is aligned for it.
        let head = unsafe { header.read_unaligned() };
        if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_TIMESTAMPING {
            // SAFETY: such a message carries three times.
            let times = unsafe { libc::CMSG_DATA(header).cast::<Timestamps>().read_unaligned() };
            let ns = times[0].tv_sec * 1_000_000_000 + times[0].tv_nsec;
            return Some(ns).filter(|&ns| ns != 0);
        }
        // SAFETY: as for the first.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Skips where the kernel notes nothing, as in some sandboxes.
    fn pair() -> Option<(TcpStream, TcpStream)> {
        if let Err(error) = try_out() {
            eprintln!("SKIPPED, nothing was tested: no kernel timestamps here: {error}");
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        receiver.set_read_timeout(Some(TRIAL)).unwrap();
        ask(&receiver).unwrap();
        Some((sender, receiver))
    }

    #[test]
    fn an_arrival_lies_between_the_sending_and_the_receiving() {
        let Some((mut sender, receiver)) = pair() else { return };
        let mut arrivals = Arrivals::new();
        let mut noted_count = 0;
        for _ in 0..400 {
            let sent_ns = clock_ns();
            sender.write_all(b"twelve bytes").unwrap();
            let (byte_count, arrived_ns) = arrivals.receive(&receiver, &mut [0; 64], clock_ns()).unwrap();
            assert_eq!(byte_count, 12);
            let Some(arrived_ns) = arrived_ns else {
                // The kernel has yet to begin.
                std::thread::sleep(TRIAL_PAUSE);
                continue;
            };
            // The clocks' offset is read to within the time that the reading takes.
            assert!(sent_ns < arrived_ns + 100_000 && arrived_ns < clock_ns() + 100_000);
            noted_count += 1;
        }
        assert!(noted_count > 0, "no arrival in {:?}", 400 * TRIAL_PAUSE);
    }

    #[test]
    fn the_end_of_a_stream_and_an_empty_socket_are_told_as_recv_tells_them() {
        let Some((sender, receiver)) = pair() else { return };
        receiver.set_nonblocking(true).unwrap();
        let mut arrivals = Arrivals::new();
        assert_eq!(arrivals.receive(&receiver, &mut [0; 64], clock_ns()), Err(Errno::AGAIN));
        drop(sender);
        receiver.set_nonblocking(false).unwrap();
        assert_eq!(arrivals.receive(&receiver, &mut [0; 64], clock_ns()), Ok((0, None)));
    }
}
