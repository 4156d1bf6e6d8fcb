//! One send from the front of an outbox, and what it says.
//!
//! It never waits: sockets of this engine are non-blocking. What was sent is the caller's to drop from the outbox.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use super::super::faults::SendFault;
use super::super::{Outbox, Segment};
use super::buffer::RecvBuffer;
use crate::limits::SEND_PIECES;

/// How many bytes a send got rid of.
pub(super) enum Sent {
    /// All that were offered.
    All(usize),
    /// Fewer: the kernel has no room for more, and will tell when it has.
    Full(usize),
    /// Fewer, for a reason that may be gone by the next turn.
    Stopped(usize),
    Failed(Errno),
}

/// Sends from the front of a queue that is not empty.
#[inline]
pub(super) fn send_front(socket: &OwnedFd, outbox: &Outbox, buffer: &RecvBuffer) -> Sent {
    if outbox.segment_count() > 1 {
        return send_gathered(socket, outbox, buffer);
    }
    let bytes = piece(buffer, outbox.front().expect("not empty"));
    judge(send(socket, bytes, SendFlags::NOSIGNAL), bytes.len())
}

fn send_gathered(socket: &OwnedFd, outbox: &Outbox, buffer: &RecvBuffer) -> Sent {
    let mut pieces = [IoSlice::new(&[]); SEND_PIECES];
    let (mut piece_count, mut byte_count) = (0, 0);
    for (place, segment) in pieces.iter_mut().zip(outbox.iter()) {
        *place = IoSlice::new(piece(buffer, segment));
        piece_count += 1;
        byte_count += place.len();
    }
    let mut control = SendAncillaryBuffer::default();
    judge(sendmsg(socket, &pieces[..piece_count], &mut control, SendFlags::NOSIGNAL), byte_count)
}

#[inline]
fn judge(result: Result<usize, Errno>, offered_bytes: usize) -> Sent {
    match result {
        Ok(byte_count) if byte_count < offered_bytes => Sent::Full(byte_count),
        Ok(byte_count) => Sent::All(byte_count),
        Err(Errno::AGAIN) => Sent::Full(0),
        Err(Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Sent::Stopped(0),
        Err(error) => Sent::Failed(error),
    }
}

/// As [`send_front`], but for what `fault` has the kernel do.
#[cold]
pub(super) fn send_with_fault(
    socket: &OwnedFd,
    outbox: &Outbox,
    buffer: &RecvBuffer,
    fault: &SendFault,
) -> Sent {
    match fault {
        SendFault::Failed(error) => judge(Err(Errno::from_io_error(error).unwrap_or(Errno::IO)), 0),
        SendFault::Short(byte_count) => {
            let front = piece(buffer, outbox.front().expect("not empty"));
            let front = &front[..front.len().min(*byte_count)];
            match judge(send(socket, front, SendFlags::NOSIGNAL), front.len()) {
                // The kernel has room for the rest, and will not tell.
                Sent::All(byte_count) => Sent::Stopped(byte_count),
                other => other,
            }
        }
    }
}

/// A segment's bytes.
#[inline]
fn piece<'a>(buffer: &'a RecvBuffer, segment: &'a Segment) -> &'a [u8] {
    match segment {
        Segment::InPlace { start, end, .. } => buffer.part(*start, *end),
        Segment::Owned { bytes, start } => &bytes[*start..],
        Segment::Shared(bytes) => bytes,
    }
}
