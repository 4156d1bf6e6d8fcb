//! Taking a connection down: in order, and not before the kernel holds nothing of it.

use std::os::fd::{AsFd, IntoRawFd};

use io_uring::squeue::Flags;
use io_uring::{opcode, types};

use super::super::{Closed, Handler, Intent, Kernel, ktls};
use super::send::free_segment;
use super::tag::{self, Op};
use super::{Switch, Uring};

impl<H: Handler> Uring<'_, H> {
    #[cold]
    pub(super) fn take_down(&mut self, slot: u32, intent: Intent) {
        if intent != Intent::Abort && !self.say_goodbye(slot) {
            return;
        }
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

    /// To a peer whose records the kernel seals. Whether that is done with; else it is tried again when there is room.
    fn say_goodbye(&mut self, slot: u32) -> bool {
        let id = self.connections.id_at(slot);
        let state = &mut self.held[slot as usize];
        let Some(socket) = &state.descriptor else { return true };
        let said = ktls::say_goodbye(&mut self.connections, slot, socket.as_fd());
        if !said && !state.shutting_down {
            // Of a descriptor that the slot must not lose meanwhile either.
            state.shutting_down = true;
            let poll = opcode::PollAdd::new(types::Fd(state.socket), libc::POLLOUT as u32).build();
            self.push(&poll.flags(self.socket_flags).user_data(tag::pack(Op::Shutdown, id)));
        }
        said
    }

    pub(super) fn begin_close(&mut self, slot: u32, why: Closed) {
        let id = self.connections.id_at(slot);
        let state = &mut self.held[slot as usize];
        if state.closing {
            return;
        }
        state.close_for(why);
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
        if self.held[slot as usize].shutting_down
            && self.connections.slots[slot as usize].line.kernel == Kernel::HasKeys
        {
            self.cancel(Op::Shutdown, id);
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
        let why = self.held[slot as usize].take_why();
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
