//! What the engine asks of the kernel, but for sends: accepts, connects, receives, timeouts, wake-ups, cancels.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;
use io_uring::{opcode, squeue, types};

use super::super::{Closed, ConnId, Handler, Route, socket};
use super::tag::{self, Op};
use super::{Completion, Held, Switch, Uring, buffers, ring};
use crate::limits::HEADROOM_BYTES;

impl<H: Handler> Uring<'_, H> {
    pub(super) fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: whatever an entry points to (receive buffers, output segments, gathers, addresses, the
        // eventfd's count) is owned by `self` and left alone until the entry was submitted or, for a slow
        // send, completed.
        while unsafe { self.sq.push(entry) }.is_err() {
            // Full: submit what there is. Its results are fetched with the rest.
            self.sq.sync();
            match self.submitter.submit() {
                // CQ overflow or want of memory: the entry waits until the kernel takes others.
                Err(error)
                    if !matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)) =>
                {
                    self.failed = Some(error);
                    return;
                }
                _ => {}
            }
            self.connections.counters.enters += 1;
            if self.features.has(Switch::SqPoll) {
                // It may have to share this CPU.
                std::thread::yield_now();
            }
            self.sq.sync();
            if self.sq.is_full() {
                self.fetch_completions();
            }
        }
    }

    pub(super) fn arm_wake(&mut self) {
        let address: *mut u64 = &raw mut *self.wake_count;
        let read = opcode::Read::new(ring::plain(self.waker.descriptor()), address.cast(), 8);
        self.push(&read.build().user_data(tag::pack_alone(Op::Wake)));
    }

    /// Has the kernel end the wait when the next timer or sweep is due.
    pub(super) fn arm_timer(&mut self) {
        let timers_ns = self.connections.common.timers.next_ns();
        let Some(next_ns) = timers_ns.into_iter().chain(self.sweep_by()).min() else { return };
        if self.timer_ns.is_some_and(|armed_ns| armed_ns <= next_ns) {
            return;
        }
        self.timer_ns = Some(next_ns);
        *self.timer_at = std::time::Duration::from_nanos(next_ns).into();
        let timeout = opcode::Timeout::new(&raw const *self.timer_at).flags(types::TimeoutFlags::ABS);
        self.push(&timeout.build().user_data(tag::pack_alone(Op::Timer)));
    }

    pub(super) fn arm_recv(&mut self, id: ConnId) {
        let socket = types::Fd(self.held[id.index()].socket);
        let entry = if self.features.has(Switch::Bundles) {
            opcode::RecvMultiBundle::new(socket, buffers::GROUP).build()
        } else if self.features.has(Switch::MultishotRecv) {
            opcode::RecvMulti::new(socket, buffers::GROUP).build()
        } else if self.features.has(Switch::BufferRing) {
            let recv = opcode::Recv::new(socket, std::ptr::null_mut(), 0).buf_group(buffers::GROUP);
            recv.build().flags(Flags::BUFFER_SELECT)
        } else {
            let Some(buffer) = self.recv.lend() else {
                // Replies are made of all of them: once they are sent, there are some.
                self.connections.counters.no_buffers += 1;
                self.connections.mark_dirty(id.slot);
                self.more_to_do = true;
                return;
            };
            self.held[id.index()].buffer = buffer;
            let address = self.recv.address(buffer, HEADROOM_BYTES as u32).cast_mut();
            opcode::Recv::new(socket, address, self.recv.buffer_bytes() as u32).build()
        };
        self.held[id.index()].recv_armed = true;
        if let Some(error) = self.config.faults.receive() {
            return self.pretend(tag::pack(Op::Recv, id), &error);
        }
        self.push(&entry.flags(self.socket_flags).user_data(tag::pack(Op::Recv, id)));
    }

    /// Receives from a connection from now on, or from its turn on: where others wait for buffers, nobody is armed before them.
    #[inline]
    pub(super) fn begin_recv(&mut self, id: ConnId) {
        if self.starved.is_empty() {
            self.arm_recv(id);
        } else {
            self.held[id.index()].starved = true;
            self.starved.push_back(id);
        }
    }

    /// Its receive found no buffer, and is begun again when it is its turn. If that is what came of its turn, it keeps its place, so
    /// that a peer which always has more to be received cannot have all buffers each time. Whoever waits moves up with each turn
    /// in which anybody received anything.
    pub(super) fn starve(&mut self, id: ConnId) {
        let state = &mut self.held[id.index()];
        state.starved = true;
        if std::mem::take(&mut state.had_turn_in_vain) {
            self.starved.insert(self.starved_again, id);
            self.starved_again += 1;
        } else {
            self.starved.push_back(id);
        }
    }

    /// Begins receives that wait for buffers: no more in a turn than there are buffers, for the others would but fail again.
    pub(super) fn arm_starved(&mut self) {
        self.starved_again = 0;
        for _ in 0..self.recv.circulating() {
            let Some(id) = self.starved.pop_front() else { return };
            if self.connections.get(id).is_none() || self.held[id.index()].closing {
                continue;
            }
            let state = &mut self.held[id.index()];
            state.starved = false;
            if state.recv_armed || state.paused || state.ended {
                continue;
            }
            state.had_turn_in_vain = true;
            self.connections.counters.recv_rearms += 1;
            self.arm_recv(id);
        }
        self.more_to_do |= !self.starved.is_empty();
    }

    /// Takes an operation as failed, instead of submitting it.
    #[cold]
    pub(super) fn pretend(&mut self, user_data: u64, error: &io::Error) {
        let result = -error.raw_os_error().unwrap_or(libc::EIO);
        self.completions.push(Completion { user_data, result, flags: 0 });
    }

    pub(super) fn cancel(&mut self, op: Op, id: ConnId) {
        let cancel = opcode::AsyncCancel::new(tag::pack(op, id)).build();
        self.push(&cancel.flags(Flags::SKIP_SUCCESS).user_data(tag::pack(Op::Forget, id)));
    }

    pub(super) fn open_connections(&mut self) {
        for (slot, route) in std::mem::take(&mut self.connections.connecting) {
            self.ensure_held(slot);
            let id = self.connections.id_at(slot);
            if let Err(error) = self.start_connect(id, &route) {
                self.held[slot as usize].close_for(Closed::Connect(error));
                self.finish_close(slot, false);
            }
        }
    }

    pub(super) fn start_connect(&mut self, id: ConnId, route: &Route) -> io::Result<()> {
        assert!(!self.accepts, "the kernel may number a listening engine's descriptors");
        if id.slot >= self.config.connections_max {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let socket = socket::for_connecting(route)?;
        let state = &mut self.held[id.index()];
        if self.features.has(Switch::DirectDescriptors) {
            self.submitter.register_files_update(id.slot, &[socket.as_raw_fd()])?;
            state.socket = id.slot as i32;
        } else {
            state.socket = socket.as_raw_fd();
            state.descriptor = Some(socket.into());
        }
        state.connecting = true;
        let address = Box::new(socket2::SockAddr::from(route.to));
        let connect = opcode::Connect::new(types::Fd(state.socket), address.as_ptr().cast(), address.len());
        self.connect_addresses.push(address);
        self.push(&connect.build().flags(self.socket_flags).user_data(tag::pack(Op::Connect, id)));
        Ok(())
    }

    pub(super) fn ensure_held(&mut self, slot: u32) {
        if self.held.len() <= slot as usize {
            self.held.resize_with(slot as usize + 1, Held::default);
        }
        self.held[slot as usize] = Held::default();
    }
}
