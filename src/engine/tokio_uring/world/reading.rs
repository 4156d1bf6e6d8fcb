//! What a connection's task tells and asks.
//!
//! A receive buffer is lent to a read, then looked at by the handler, then free or held by the segments that the
//! handler made of it; never two of these at once.

use std::io;
use std::task::{Context, Poll};

use super::super::memory::Room;
use super::{Next, World, passes, wake};
use crate::engine::{Closed, ConnId, Handler};

/// After arrivals up to this long, the next read is begun only when the answer has been tried. What is longer is
/// likely a piece, with more of it there already.
const DEFER_BYTES_MAX: usize = 4 * 1024;

impl<H: Handler> World<H> {
    pub(in super::super) fn receive_fault(&mut self) -> Option<io::Error> {
        self.config.faults.receive()
    }

    pub(in super::super) fn begin_reading(&mut self, id: ConnId) -> Next {
        if self.ending || self.held[id.index()].closing.is_some() {
            return Next::End;
        }
        match self.recv.take() {
            Ok(room) => Next::Read(room),
            Err(error) => {
                self.want_turn();
                self.begin_close(id.slot, Closed::Broken(error));
                Next::End
            }
        }
    }

    #[inline]
    pub(in super::super) fn on_read(&mut self, id: ConnId, result: io::Result<usize>, room: Room) -> Next {
        self.want_turn();
        self.connections.counters.completions += 1;
        if self.ending || self.held[id.index()].closing.is_some() {
            self.recv.hold(room.number, 0);
            return Next::End;
        }
        match result {
            Ok(byte_count @ 1..) => {
                self.on_bytes(id, room.number, byte_count);
                if self.is_to_wait(id.slot, byte_count) { Next::Wait } else { self.begin_reading(id) }
            }
            Ok(0) => {
                self.recv.hold(room.number, 0);
                self.handler.on_end(&mut self.connections, id);
                Next::End
            }
            Err(error) => {
                self.recv.hold(room.number, 0);
                if passes(&error) {
                    return self.begin_reading(id);
                }
                self.begin_close(id.slot, Closed::Broken(error));
                Next::End
            }
        }
    }

    #[inline]
    pub(super) fn on_bytes(&mut self, id: ConnId, buffer: u32, byte_count: usize) {
        let memory = self.recv.memory(buffer);
        let uses = self.connections.deliver(&mut self.handler, id, buffer, memory, byte_count);
        self.recv.hold(buffer, uses);
    }

    /// Whether to read no more for now: because the peer does not read, the handler holds it, or because the next bytes will hardly come
    /// before our answer has gone. A read that has to wait is tried twice, and costs more than one that finds
    /// its bytes; begun one pass of the scheduler later it often does.
    #[inline]
    pub(super) fn is_to_wait(&mut self, slot: u32, byte_count: usize) -> bool {
        let line = &self.connections.slots[slot as usize].line;
        let queued_bytes = line.outbox.queued_bytes();
        let held = &mut self.held[slot as usize];
        held.paused =
            line.holds_reading || (held.behind && self.connections.is_too_much_waiting(slot, &self.config));
        held.deferred = !held.behind && queued_bytes > 0 && byte_count <= DEFER_BYTES_MAX;
        if held.paused {
            self.connections.count_pause(slot, &self.config);
        }
        held.paused || held.deferred
    }

    /// Reads again from a peer that has taken enough of what waited for it.
    #[inline]
    pub(super) fn steer_reading(&mut self, slot: u32) {
        let held = &mut self.held[slot as usize];
        if held.paused {
            let line = &self.connections.slots[slot as usize].line;
            let has_room = !held.behind || self.connections.is_little_waiting(slot, &self.config);
            if has_room && !line.holds_reading {
                held.paused = false;
                wake(&mut held.task);
            }
        }
    }

    /// Ready when a connection is to be read from again, or to be closed.
    pub(in super::super) fn poll_resumed(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        let held = &mut self.held[id.index()];
        if self.ending || !(held.paused || held.deferred) || held.closing.is_some() {
            return Poll::Ready(());
        }
        held.task = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(in super::super) fn on_reader_ended(&mut self, id: ConnId) {
        let held = &mut self.held[id.index()];
        held.reading = false;
        if held.closing.is_some() && !self.ending {
            self.want_turn();
            self.try_finish_close(id.slot);
        }
    }
}
