//! Sending: what never waits, what does for a slow peer, and what became of either. See the parent's text.

use std::io;

use io_uring::{cqueue, opcode, types};

use super::super::faults::SendFault;
use super::super::{BufferPool, Closed, ConnId, Handler, Intent, Segment};
use super::buffers::RecvBuffers;
use super::tag::{self, Op};
use super::{Switch, Uring};
use crate::limits::SEND_PIECES;

/// A send of this turn.
pub(super) struct Flight {
    pub(super) slot: u32,
    pub(super) segment_count: u32,
    /// What the completion said, if there was one.
    pub(super) result: Option<i32>,
    /// Where it is parked, if it is one without copy, and whether it stays there for now.
    pub(super) parked: Option<(u32, bool)>,
}

/// As much as is joined where a turn has left more pieces than a send may have.
const OUTPUT_JOINED_BYTES: usize = 1 << 20;

/// Pieces for one gathering send. Boxed: its address must not change until it is submitted.
pub(super) struct Gather {
    header: libc::msghdr,
    pieces: [libc::iovec; SEND_PIECES],
}

impl<H: Handler> Uring<'_, H> {
    /// Sends from the front of the outbox without waiting; see the module's text.
    #[inline]
    pub(super) fn send(&mut self, slot: u32) {
        if self.connections.slots[slot as usize].line.outbox.segment_count() > SEND_PIECES {
            self.join_output(slot);
        }
        let line = &mut self.connections.slots[slot as usize].line;
        let id = ConnId { slot, generation: line.generation };
        let segment_count = line.outbox.segment_count().min(SEND_PIECES);
        let socket = types::Fd(self.held[slot as usize].socket);
        let fault = self.config.faults.send(line.outbox.queued_bytes());
        if line.outbox.front_bytes() >= self.zero_copy_bytes && fault.is_none() && self.send_zero_copy(slot) {
            return;
        }
        let line = &mut self.connections.slots[slot as usize].line;
        line.outbox.set_in_flight(segment_count);
        let mut result = None;
        let entry = if segment_count == 1 {
            let (address, mut byte_count) = piece(&self.recv, line.outbox.front().expect("not empty"));
            if let Some(SendFault::Short(short_bytes)) = fault {
                byte_count = short_bytes;
                result = Some(short_bytes as i32);
            }
            opcode::Send::new(socket, address, byte_count as u32).flags(self.send_flags).build()
        } else {
            if self.gathers_used == self.gathers.len() {
                self.gathers.push(Box::new(Gather::new()));
            }
            let gather = &mut self.gathers[self.gathers_used];
            self.gathers_used += 1;
            gather.fill(line.outbox.iter().map(|segment| piece(&self.recv, segment)));
            opcode::SendMsg::new(socket, &raw const gather.header).flags(self.send_flags as u32).build()
        };
        let state = &mut self.held[slot as usize];
        state.flight = self.flights.len() as u32;
        // There is something to do once this has gone out whole, and no completion to say that it has.
        self.more_to_do |=
            line.outbox.segment_count() > segment_count || line.intent != Intent::Keep || state.behind;
        if let Some(SendFault::Failed(error)) = &fault {
            result = error.raw_os_error().map(|code| -code);
        }
        self.more_to_do |= result.is_some();
        self.flights.push(Flight { slot, segment_count: segment_count as u32, result, parked: None });
        self.connections.counters.sends += 1;
        if matches!(fault, Some(SendFault::Failed(_))) {
            return;
        }
        self.sends_submitted += usize::from(!self.features.has(Switch::SkippedCompletions));
        self.push(&entry.flags(self.send_entry_flags).user_data(tag::pack(Op::Send, id)));
    }

    /// A send that waits until the peer takes something; one segment at a time, and it completes visibly.
    pub(super) fn send_slowly(&mut self, slot: u32) {
        self.own_output(slot);
        self.connections.note_waiting(slot);
        let line = &mut self.connections.slots[slot as usize].line;
        line.outbox.set_in_flight(1);
        let id = ConnId { slot, generation: line.generation };
        let (address, byte_count) = piece(&self.recv, line.outbox.front().expect("not empty"));
        let state = &mut self.held[slot as usize];
        let entry = opcode::Send::new(types::Fd(state.socket), address, byte_count as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .flags(self.socket_flags)
            .user_data(tag::pack(Op::SlowSend, id));
        (state.slow_send, state.behind) = (true, true);
        self.connections.counters.sends += 1;
        self.push(&entry);
    }

    /// Makes one piece of many small ones: a turn has one send, which must take what a turn may bring.
    #[cold]
    fn join_output(&mut self, slot: u32) {
        let line = &mut self.connections.slots[slot as usize].line;
        line.outbox.join(
            &mut self.connections.common.pool,
            OUTPUT_JOINED_BYTES,
            |buffer, start, end, out| {
                out.extend_from_slice(&self.recv.memory(buffer)[start as usize..end as usize]);
                self.recv.release(buffer);
            },
        );
    }

    /// Copies what waits for a slow peer out of the receive buffers.
    pub(super) fn own_output(&mut self, slot: u32) {
        let line = &mut self.connections.slots[slot as usize].line;
        line.outbox.own(&mut self.connections.common.pool, |buffer, start, end, out| {
            out.extend_from_slice(&self.recv.memory(buffer)[start as usize..end as usize]);
            self.recv.release(buffer);
        });
    }

    /// Finds out what became of this turn's sends, and frees what they sent.
    pub(super) fn settle_sends(&mut self) {
        self.connections.counters.completions += self.completions.len() as u64;
        for completion in &self.completions {
            let (op, id) = tag::unpack(completion.user_data);
            if op == Op::Send {
                let flight = self.held[id.index()].flight;
                self.flights[flight as usize].result = Some(completion.result);
            } else if op == Op::ZeroCopy && !cqueue::notif(completion.flags) {
                let flight = self.parked_flight(id.slot);
                let flight = &mut self.flights[flight];
                flight.result = Some(completion.result);
                flight.parked = Some((id.slot, cqueue::more(completion.flags)));
            }
        }
        self.gathers_used = 0;
        (self.sends_submitted, self.sends_completed) = (0, 0);
        let mut flights = std::mem::take(&mut self.flights);
        for flight in flights.drain(..) {
            match flight.result {
                Some(result) if flight.parked.is_some() => self.on_zero_copy(&flight, result),
                None => self.on_sent(&flight),
                Some(result) if self.is_whole(&flight, result) => self.on_sent(&flight),
                Some(result) => self.on_short_send(&flight, result),
            }
        }
        self.flights = flights;
    }

    /// Whether a send that completed visibly went out whole.
    pub(super) fn is_whole(&self, flight: &Flight, result: i32) -> bool {
        let outbox = &self.connections.slots[flight.slot as usize].line.outbox;
        let segments = outbox.iter().take(flight.segment_count as usize);
        let byte_count: usize = segments.map(|segment| piece(&self.recv, segment).1).sum();
        usize::try_from(result) == Ok(byte_count)
    }

    #[inline]
    pub(super) fn on_sent(&mut self, flight: &Flight) {
        let line = &mut self.connections.slots[flight.slot as usize].line;
        let before = line.outbox.queued_bytes();
        line.outbox.set_in_flight(0);
        for _ in 0..flight.segment_count {
            let pool = &mut self.connections.common.pool;
            let segment = line.outbox.pop(pool).expect("what was sent is still queued");
            free_segment(&mut self.recv, pool, segment);
        }
        self.connections.counters.sent_bytes += (before - line.outbox.queued_bytes()) as u64;
        let behind = self.held[flight.slot as usize].behind;
        if behind || !line.outbox.is_empty() || line.intent != Intent::Keep {
            line.mark_dirty(flight.slot, &mut self.connections.common);
        }
        if behind {
            self.connections.note_progress(flight.slot);
            self.tell_writable(flight.slot);
        }
    }

    /// Tells the handler once a peer that kept output waiting has taken all of it.
    #[cold]
    pub(super) fn tell_writable(&mut self, slot: u32) {
        let state = &mut self.held[slot as usize];
        if state.behind && self.connections.slots[slot as usize].line.outbox.is_empty() {
            state.behind = false;
            self.connections.note_waiting(slot);
            let id = self.connections.id_at(slot);
            self.handler.on_writable(&mut self.connections, id);
        }
    }

    #[cold]
    pub(super) fn on_short_send(&mut self, flight: &Flight, result: i32) {
        let slot = flight.slot;
        self.connections.slots[slot as usize].line.outbox.set_in_flight(0);
        match result {
            0.. => {
                self.advance(slot, result as usize);
                if result > 0 && self.held[slot as usize].behind {
                    self.connections.note_progress(slot);
                }
            }
            _ if matches!(-result, libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => {}
            error => return self.begin_close(slot, Closed::Broken(io::Error::from_raw_os_error(-error))),
        }
        self.connections.counters.short_sends += 1;
        if self.connections.slots[slot as usize].line.outbox.is_empty() {
            self.connections.mark_dirty(slot);
            self.tell_writable(slot);
        } else {
            self.send_slowly(slot);
        }
    }

    pub(super) fn advance(&mut self, slot: u32, byte_count: usize) {
        let line = &mut self.connections.slots[slot as usize].line;
        let (recv, pool) = (&mut self.recv, &mut self.connections.common.pool);
        line.outbox.advance(pool, byte_count, |pool, segment| free_segment(recv, pool, segment));
        self.connections.counters.sent_bytes += byte_count as u64;
    }

    #[cold]
    pub(super) fn on_slow_send(&mut self, id: ConnId, result: i32) {
        let state = &mut self.held[id.index()];
        state.slow_send = false;
        self.connections.slots[id.index()].line.outbox.set_in_flight(0);
        if state.closing {
            return self.try_finish_close(id.slot);
        }
        match result {
            0.. => {
                self.advance(id.slot, result as usize);
                if result > 0 {
                    self.connections.note_progress(id.slot);
                }
            }
            _ if matches!(-result, libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => {}
            error => return self.begin_close(id.slot, Closed::Broken(io::Error::from_raw_os_error(-error))),
        }
        self.tell_writable(id.slot);
        // The rest goes out without waiting again, or receiving is taken up again.
        self.connections.mark_dirty(id.slot);
    }
}

/// Where a segment's bytes are.
#[inline]
pub(super) fn piece(recv: &RecvBuffers, segment: &Segment) -> (*const u8, usize) {
    match segment {
        Segment::InPlace { buffer, start, end } => (recv.address(*buffer, *start), (end - start) as usize),
        Segment::Owned { bytes, start } => (bytes[*start..].as_ptr(), bytes.len() - start),
        Segment::Shared(bytes) => (bytes.as_ptr(), bytes.len()),
    }
}

#[inline]
pub(super) fn free_segment(recv: &mut RecvBuffers, pool: &mut BufferPool, segment: Segment) {
    match segment {
        Segment::InPlace { buffer, .. } => recv.release(buffer),
        Segment::Owned { bytes, .. } => pool.put(bytes),
        Segment::Shared(_) => {}
    }
}

impl Gather {
    pub(super) fn new() -> Self {
        // SAFETY: all-zero is a valid msghdr: no name, no pieces, no control data.
        let header = unsafe { std::mem::zeroed() };
        Self { header, pieces: [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SEND_PIECES] }
    }

    /// Takes the first [`SEND_PIECES`] of `pieces`.
    fn fill(&mut self, pieces: impl Iterator<Item = (*const u8, usize)>) {
        let mut piece_count = 0;
        for (place, (address, byte_count)) in self.pieces.iter_mut().zip(pieces) {
            *place = libc::iovec { iov_base: address.cast_mut().cast(), iov_len: byte_count };
            piece_count += 1;
        }
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = piece_count;
    }
}
