//! Taking connections down.
//!
//! What is under way on a socket cannot be cancelled in this crate, but ends when the socket is shut down; only
//! then is the slot given up.

use std::net::Shutdown;

use super::{Held, World, wake};
use crate::engine::{Closed, Handler, Intent, Segment};

impl<H: Handler> World<H> {
    #[cold]
    pub(super) fn take_down(&mut self, slot: u32, intent: Intent) {
        let held = &mut self.held[slot as usize];
        match intent {
            Intent::Keep => {}
            Intent::ShutDown => {
                if let Some(stream) = held.stream.as_ref().filter(|_| !held.shut_down) {
                    // It fails where the peer has reset, of which the read tells.
                    let _ = stream.shutdown(Shutdown::Write);
                }
                held.shut_down = true;
                self.steer_reading(slot);
            }
            Intent::Close | Intent::Abort => self.begin_close(slot, Closed::ByUs),
        }
    }

    pub(super) fn begin_close(&mut self, slot: u32, why: Closed) {
        let held = &mut self.held[slot as usize];
        if held.closing.is_some() {
            return;
        }
        held.closing = Some(why);
        if let Some(stream) = held.stream.as_ref().filter(|_| held.reading || held.writing) {
            // What is under way cannot be cancelled, but does not outlast this. Not connected any more is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
        wake(&mut held.task);
        self.try_finish_close(slot);
    }

    pub(super) fn try_finish_close(&mut self, slot: u32) {
        let held = &self.held[slot as usize];
        if !held.reading && !held.writing && !held.connecting {
            self.finish_close(slot);
        }
    }

    /// Gives the slot up; nothing is under way on it.
    pub(super) fn finish_close(&mut self, slot: u32) {
        let (recv, pool) = (&mut self.recv, &mut self.connections.common.pool);
        let outbox = &mut self.connections.slots[slot as usize].line.outbox;
        while let Some(segment) = outbox.pop(pool) {
            match segment {
                Segment::InPlace { buffer, .. } => recv.release(buffer),
                Segment::Owned { bytes, .. } => pool.put(bytes),
                Segment::Shared(_) => {}
            }
        }
        self.connections.note_waiting(slot);
        let Held { closing, .. } = std::mem::take(&mut self.held[slot as usize]);
        let conn = self.connections.remove(slot);
        if slot < self.config.connections_max {
            self.connections.free.push(slot);
            // There is a place, and a descriptor, for one that waits.
            self.accept_again_ns = 0;
        } else {
            // Never usable, so the last to be taken.
            self.connections.free.insert(0, slot);
        }
        if let Some(conn) = conn {
            self.handler.on_closed(&mut self.connections, conn, closing.unwrap_or(Closed::ByUs));
        }
    }
}
