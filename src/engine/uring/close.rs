//! Taking a connection down: in order, and not before the kernel holds nothing of it.

use std::os::fd::IntoRawFd;

use io_uring::squeue::Flags;
use io_uring::{opcode, types};

use super::super::{Closed, Handler, Intent};
use super::send::free_segment;
use super::tag::{self, Op};
use super::{Switch, Uring};

impl<H: Handler> Uring<'_, H> {
    #[cold]
    pub(super) fn take_down(&mut self, slot: u32, intent: Intent) {
        let state = &mut self.held[slot as usize];
        match intent {
            Intent::Keep => {}
            Intent::ShutDown if state.shut_down => self.steer_recv(slot),
            Intent::ShutDown => {
                (state.shut_down, state.shutting_down) = (true, true);
                let id = self.connections.id_at(slot);
                let shutdown = opcode::Shutdown::new(types::Fd(state.socket), libc::SHUT_WR).build();
                // A worker thread of the kernel does it and looks the descriptor up only then: until it has, the
                // slot must not go to another connection, which would be shut down in this one's place.
                self.push(&shutdown.flags(self.socket_flags).user_data(tag::pack(Op::Shutdown, id)));
                self.steer_recv(slot);
            }
            Intent::Close | Intent::Abort => self.begin_close(slot, Closed::ByUs),
        }
    }

    pub(super) fn begin_close(&mut self, slot: u32, why: Closed) {
        let id = self.connections.id_at(slot);
        let state = &mut self.held[slot as usize];
        if state.closing.is_some() {
            return;
        }
        state.closing = Some(why);
        let (recv_armed, slow_send) = (state.recv_armed && !state.recv_cancelled, state.slow_send);
        if recv_armed {
            self.cancel(Op::Recv, id);
        }
        if slow_send {
            self.cancel(Op::SlowSend, id);
        }
        if self.held[slot as usize].connecting {
            self.cancel(Op::Connect, id);
        }
        self.try_finish_close(slot);
    }

    pub(super) fn try_finish_close(&mut self, slot: u32) {
        let state = &self.held[slot as usize];
        if !state.recv_armed && !state.slow_send && !state.connecting && !state.shutting_down {
            self.finish_close(slot, true);
        }
    }

    /// Gives the slot up; the kernel holds nothing of it but, if `installed`, the descriptor.
    pub(super) fn finish_close(&mut self, slot: u32, installed: bool) {
        let id = self.connections.id_at(slot);
        let outbox = &mut self.connections.slots[slot as usize].line.outbox;
        while let Some(segment) = outbox.pop(&mut self.connections.common.pool) {
            free_segment(&mut self.recv, &mut self.connections.common.pool, segment);
        }
        self.connections.note_waiting(slot);
        if installed {
            let close = match self.held[slot as usize].descriptor.take() {
                None => opcode::Close::new(types::Fixed(slot)).build(),
                Some(descriptor) => opcode::Close::new(types::Fd(descriptor.into_raw_fd())).build(),
            };
            self.push(&close.flags(Flags::SKIP_SUCCESS).user_data(tag::pack(Op::Forget, id)));
        }
        let why = self.held[slot as usize].closing.take().unwrap_or(Closed::ByUs);
        if !self.features.has(Switch::DirectDescriptors) {
            self.connections.free_slot(slot, self.config.connections_max);
        } else if !self.accepts {
            self.freed.push(slot);
        }
        if self.accepts && self.accept_again_ns.is_some() {
            // A descriptor is free again.
            self.accept_again_ns = Some(0);
        }
        if let Some(conn) = self.connections.remove(slot) {
            self.handler.on_closed(&mut self.connections, conn, why);
        }
    }
}
