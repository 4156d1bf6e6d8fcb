//! Sends without a copy (`IORING_OP_SEND_ZC`, Linux 6.0), where they are switched on.
//!
//! Such a send never waits either, and completes twice: once with how far it got, in the system call that submits it,
//! and once when the kernel reads its bytes no more, perhaps long after. In between its segment is parked.
//! Invariant: what is parked is not touched, even if its connection is long gone. So receive buffers may wait for a
//! slow peer here, with what its kernel's window took; the rest is copied out, as ever. At most half of those
//! in circulation may, so that there is always something to receive into.

use std::io;

use io_uring::{opcode, types};

use super::super::{Closed, ConnId, Handler, Segment};
use super::Uring;
use super::send::{Flight, free_segment, piece};
use super::tag::{self, Op};

/// `IORING_SEND_ZC_REPORT_USAGE` (Linux 6.2): the notification says whether the kernel copied after all. An older kernel
/// refuses the flag, and the engine does without.
pub(super) const REPORT_USAGE: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`, in the result of a notification.
const COPIED: u32 = 1 << 31;

/// What one zero-copy send reads from.
pub(super) struct Parked {
    /// Where in this turn's flights the send is.
    flight: u32,
    /// Taken from the outbox when the send is through.
    segment: Option<Segment>,
    /// It reads from a receive buffer.
    in_place: bool,
    /// As in [`REPORT_USAGE`].
    flags: u16,
}

impl<H: Handler> Uring<'_, H> {
    /// Sends the front of the outbox from where it lies, if it may; says whether it did.
    pub(super) fn send_zero_copy(&mut self, slot: u32) -> bool {
        let line = &mut self.connections.slots[slot as usize].line;
        let in_place = matches!(line.outbox.front(), Some(Segment::InPlace { .. }));
        if in_place && self.parked_in_place_count >= self.recv.circulating() / 2 {
            return false;
        }
        self.parked_in_place_count += u32::from(in_place);
        line.outbox.set_in_flight(1);
        let (address, byte_count) = piece(&self.recv, line.outbox.front().expect("not empty"));
        let place = self.parking.pop().unwrap_or_else(|| {
            self.parked.push(None);
            self.parked.len() as u32 - 1
        });
        let state = &mut self.held[slot as usize];
        state.flight = self.flights.len() as u32;
        self.parked[place as usize] =
            Some(Parked { flight: state.flight, segment: None, in_place, flags: self.zero_copy_flags });
        self.flights.push(Flight { slot, segment_count: 1, result: None, parked: None });
        let entry = opcode::SendZc::new(types::Fd(state.socket), address, byte_count as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
            .zc_flags(self.zero_copy_flags)
            .build()
            .flags(self.socket_flags);
        self.connections.counters.sends += 1;
        self.connections.counters.zero_copies += 1;
        self.sends_submitted += 1;
        // What comes after it is sent in the next turn.
        self.more_to_do = true;
        self.push(&entry.user_data(tag::pack(Op::ZeroCopy, ConnId { slot: place, generation: 0 })));
        true
    }

    /// Where in this turn's flights the send is that is parked at `place`.
    pub(super) fn parked_flight(&self, place: u32) -> usize {
        self.parked[place as usize].as_ref().expect("a send is parked until it is over").flight as usize
    }

    /// A zero-copy send is through; the kernel may go on reading what it sent.
    pub(super) fn on_zero_copy(&mut self, flight: &Flight, result: i32) {
        let slot = flight.slot;
        let (place, goes_on) = flight.parked.expect("it is one without copy");
        self.connections.slots[slot as usize].line.outbox.set_in_flight(0);
        let was_whole = self.is_whole(flight, result);
        if result > 0 {
            let sent = self.take_sent(slot, result as usize);
            self.parked[place as usize].as_mut().expect("it has a place").segment = Some(sent);
        }
        let used_flags = self.parked[place as usize].as_ref().map_or(0, |parked| parked.flags);
        if !goes_on {
            self.unpark(place);
        }
        if was_whole {
            self.connections.mark_dirty(slot);
            return self.tell_writable(slot);
        }
        match -result {
            // No room, or no memory for what may not be copied: what is left is copied.
            ..=0 | libc::EAGAIN | libc::ENOMEM | libc::ENOBUFS | libc::EINTR => {
                self.connections.counters.short_sends += 1;
                self.send_slowly(slot);
            }
            libc::EINVAL if used_flags != 0 => {
                self.zero_copy_flags = 0;
                self.connections.mark_dirty(slot);
            }
            error => self.begin_close(slot, Closed::Broken(io::Error::from_raw_os_error(error))),
        }
    }

    /// The kernel reads what was sent no more.
    pub(super) fn on_zero_copy_over(&mut self, place: u32, result: i32) {
        self.connections.counters.zero_copies_copied += u64::from(result as u32 & COPIED != 0);
        self.unpark(place);
    }

    /// Takes the front segment out of the outbox; what of it was not sent stays there.
    fn take_sent(&mut self, slot: u32, sent_bytes: usize) -> Segment {
        let line = &mut self.connections.slots[slot as usize].line;
        let recv = &mut self.recv;
        self.connections.counters.sent_bytes += sent_bytes as u64;
        line.outbox.take_front(&mut self.connections.common.pool, sent_bytes, |pool, front| {
            let rest = match front {
                Segment::Shared(bytes) => return Segment::Shared(bytes.slice(sent_bytes..)),
                Segment::Owned { bytes, start } => &bytes[start + sent_bytes..],
                Segment::InPlace { buffer, start, end } => {
                    &recv.memory(*buffer)[*start as usize + sent_bytes..*end as usize]
                }
            };
            let mut bytes = pool.get();
            bytes.extend_from_slice(rest);
            Segment::Owned { bytes, start: 0 }
        })
    }

    fn unpark(&mut self, place: u32) {
        let parked = self.parked[place as usize].take().expect("a place is given up once");
        self.parked_in_place_count -= u32::from(parked.in_place);
        if let Some(segment) = parked.segment {
            free_segment(&mut self.recv, &mut self.connections.common.pool, segment);
        }
        self.parking.push(place);
    }
}
