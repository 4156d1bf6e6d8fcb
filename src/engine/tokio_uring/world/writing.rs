//! From outboxes to writes, and what becomes of them.
//!
//! Invariant: a segment that a write covers is the first of its outbox and left alone until the write is over. One
//! write takes one segment; small ones are joined, which costs less than the lists that a gathering write allocates.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker as TaskWaker};

use super::super::await_write;
use super::super::memory::Lent;
use super::{World, Writing, passes};
use crate::engine::faults::SendFault;
use crate::engine::{Closed, Handler, Intent, Segment, Slot};
use crate::limits::OUTPUT_JOINED_BYTES;

/// Longest write: lengths of operations have 32 bits.
const WRITE_BYTES_MAX: usize = 1 << 30;

impl<H: Handler> World<H> {
    /// Carries out what was asked of connections since the last turn.
    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.connections.common.dirty);
        for slot in dirty.drain(..) {
            self.flush(slot);
        }
        // Whether there is more, the turn itself looks at.
        self.connections.return_dirty(dirty);
    }

    #[inline]
    pub(super) fn flush(&mut self, slot: u32) {
        let Slot { line, conn } = &mut self.connections.slots[slot as usize];
        line.dirty = false;
        if conn.is_none() {
            return;
        }
        let intent = line.intent;
        let held = &self.held[slot as usize];
        if held.closing.is_some() {
            return;
        }
        if held.connecting {
            // Anything but giving up waits until it can be used.
            if intent == Intent::Abort {
                self.begin_close(slot, Closed::ByUs);
            }
            return;
        }
        if !line.outbox.is_empty() && intent != Intent::Abort {
            if held.writing {
                self.own_output(slot);
                if self.held[slot as usize].behind {
                    self.connections.note_waiting(slot);
                }
            } else {
                self.write(slot);
            }
        } else if intent != Intent::Keep {
            return self.take_down(slot, intent);
        }
        self.steer_reading(slot);
    }

    /// Copies what waits behind a write out of the receive buffers.
    pub(super) fn own_output(&mut self, slot: u32) {
        let line = &mut self.connections.slots[slot as usize].line;
        line.outbox.own(&mut self.connections.common.pool, |buffer, start, end, out| {
            out.extend_from_slice(&self.recv.memory(buffer)[start as usize..end as usize]);
            self.recv.release(buffer);
        });
    }

    /// Writes the front of the outbox, small pieces joined into one.
    #[inline]
    pub(super) fn write(&mut self, slot: u32) {
        let pool = &mut self.connections.common.pool;
        let line = &mut self.connections.slots[slot as usize].line;
        if line.outbox.segment_count() > 1 {
            let recv = &mut self.recv;
            line.outbox.join(pool, OUTPUT_JOINED_BYTES, |buffer, start, end, out| {
                out.extend_from_slice(&recv.memory(buffer)[start as usize..end as usize]);
                recv.release(buffer);
            });
        }
        line.outbox.set_in_flight(1);
        self.connections.counters.sends += 1;
        let held = &mut self.held[slot as usize];
        held.writing = true;
        let (address, byte_count) = match line.outbox.iter().next().expect("not empty") {
            Segment::InPlace { buffer, start, end } => {
                (self.recv.address(*buffer, *start).cast_const(), (end - start) as usize)
            }
            Segment::Owned { bytes, start } => (bytes[*start..].as_ptr(), bytes.len() - start),
            Segment::Shared(bytes) => (bytes.as_ptr(), bytes.len()),
        };
        let wanted_bytes = byte_count.min(WRITE_BYTES_MAX);
        let lent_bytes = match self.config.faults.send(wanted_bytes) {
            None => wanted_bytes,
            Some(SendFault::Short(short_bytes)) => short_bytes,
            Some(SendFault::Failed(error)) => return self.on_written(slot, wanted_bytes, Err(error)),
        };
        // SAFETY: a segment in flight stays in its outbox, untouched, until `on_written`; the outbox and the
        // receive buffers outlive the runtime.
        let lent = unsafe { Lent::new(address, lent_bytes) };
        let stream = held.stream.as_ref().expect("what is open has a socket");
        let operation = stream.write(lent).submit();
        self.writes.push(Writing { slot, wanted_bytes, operation, turn: self.turn });
        self.wrote = true;
    }

    /// Ready with the turn that has written last, once it has; with `None` when the engine ends.
    pub(in super::super) fn poll_wrote(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        self.settle_task.clone_from(cx.waker());
        if std::mem::take(&mut self.wrote) {
            Poll::Ready(Some(self.turn))
        } else if self.ending {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// The kernel has tried all writes of the turns up to `turn`: what is not over waits for its peer, and is left
    /// to a task of its own.
    pub(in super::super) fn settle(&mut self, turn: u64) {
        let mut cx = Context::from_waker(TaskWaker::noop());
        let mut index = 0;
        while let Some(write) = self.writes.get_mut(index) {
            match Pin::new(&mut write.operation).poll(&mut cx) {
                Poll::Pending if write.turn > turn => index += 1,
                Poll::Pending => {
                    let write = self.writes.swap_remove(index);
                    self.on_held_up(write);
                }
                Poll::Ready((result, _)) => {
                    let Writing { slot, wanted_bytes, .. } = self.writes.swap_remove(index);
                    self.on_written(slot, wanted_bytes, result);
                }
            }
        }
    }

    #[cold]
    pub(super) fn on_held_up(&mut self, write: Writing) {
        let held = &mut self.held[write.slot as usize];
        held.behind = true;
        held.counted = !held.cut;
        self.connections.counters.short_sends += u64::from(held.counted);
        held.resume();
        self.connections.note_waiting(write.slot);
        self.start(|world| await_write(world, write));
    }

    #[inline]
    pub(in super::super) fn on_written(&mut self, slot: u32, wanted_bytes: usize, result: io::Result<usize>) {
        self.connections.counters.completions += 1;
        let held = &mut self.held[slot as usize];
        let line = &mut self.connections.slots[slot as usize].line;
        held.writing = false;
        held.resume();
        line.outbox.set_in_flight(0);
        if self.ending {
            return;
        }
        if held.closing.is_some() {
            self.want_turn();
            return self.try_finish_close(slot);
        }
        let byte_count = match result {
            Ok(byte_count) => byte_count,
            Err(error) if passes(&error) => 0,
            Err(error) => {
                self.want_turn();
                return self.begin_close(slot, Closed::Broken(error));
            }
        };
        let (recv, pool) = (&mut self.recv, &mut self.connections.common.pool);
        line.outbox.advance(pool, byte_count, |pool, segment| match segment {
            Segment::InPlace { buffer, .. } => recv.release(buffer),
            Segment::Owned { bytes, .. } => pool.put(bytes),
            Segment::Shared(_) => {}
        });
        self.connections.counters.sent_bytes += byte_count as u64;
        held.cut = byte_count < wanted_bytes;
        let counted = std::mem::take(&mut held.counted);
        if held.cut {
            self.connections.counters.short_sends += u64::from(!counted);
            held.behind = true;
        }
        if held.behind && byte_count > 0 {
            self.connections.note_progress(slot);
        }
        let line = &self.connections.slots[slot as usize].line;
        if held.behind || !line.outbox.is_empty() || line.intent != Intent::Keep {
            self.want_turn();
            self.connections.mark_dirty(slot);
            self.tell_writable(slot);
        }
    }

    /// Tells the handler once a peer that kept output waiting has taken all of it.
    pub(super) fn tell_writable(&mut self, slot: u32) {
        let held = &mut self.held[slot as usize];
        if held.behind && self.connections.slots[slot as usize].line.outbox.is_empty() {
            held.behind = false;
            self.connections.note_waiting(slot);
            let id = self.connections.id_at(slot);
            self.handler.on_writable(&mut self.connections, id);
        }
    }
}
