//! Accepting: armed once, or again and again, and with the peer's address where that is asked for.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types};
use socket2::{SockAddr, SockAddrStorage};

use super::super::{ConnId, Handler};
use super::tag::{self, Op};
use super::{Switch, Uring};
use crate::limits::ACCEPT_PAUSE_NS;

/// Whose connection was accepted last. The kernel writes here while an accept is armed; there is one at a time.
pub(super) struct Caller {
    address: SockAddrStorage,
    length: libc::socklen_t,
}

impl Default for Caller {
    fn default() -> Self {
        Self { address: SockAddrStorage::zeroed(), length: 0 }
    }
}

impl Caller {
    /// Where the kernel is to write, for `accept(2)`.
    fn room(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        self.length = self.address.size_of();
        ((&raw mut self.address).cast(), &raw mut self.length)
    }

    /// What it wrote; no accept may be armed.
    fn take_address(&mut self) -> Option<IpAddr> {
        let length = self.length.min(self.address.size_of());
        let storage = std::mem::replace(&mut self.address, SockAddrStorage::zeroed());
        // SAFETY: the storage is all zeros, which is no address of a family that is known, or what the kernel wrote, and is
        // as long as it said, or was cut to the room.
        let address = unsafe { SockAddr::new(storage, length) };
        address.as_socket().map(|address| address.ip())
    }
}

impl<H: Handler> Uring<'_, H> {
    /// Arms the accept if it is time to; else says when it will be.
    pub(super) fn arm_accept(&mut self) -> Option<u64> {
        if !self.connections.common.accepting {
            self.stop_accepting();
        }
        let listener = self.config.listener.as_ref()?.as_raw_fd();
        let direct = self.features.has(Switch::DirectDescriptors);
        let again_ns = self.accept_again_ns?;
        if again_ns > self.connections.common.now_ns {
            return Some(again_ns);
        }
        self.accept_again_ns = None;
        if let Some(error) = self.config.faults.accept() {
            self.pretend(tag::pack_alone(Op::Accept), &error);
            return None;
        }
        let listener = types::Fd(listener);
        let accept = match self.features.has(Switch::MultishotAccept) {
            true => opcode::AcceptMulti::new(listener).allocate_file_index(direct).build(),
            false => {
                let slot = direct.then(types::DestinationSlot::auto_target);
                let (address, length) = match self.config.peer_addresses {
                    true => self.caller.room(),
                    false => (std::ptr::null_mut(), std::ptr::null_mut()),
                };
                opcode::Accept::new(listener, address, length).file_index(slot).build()
            }
        };
        self.push(&accept.user_data(tag::pack_alone(Op::Accept)));
        None
    }

    pub(super) fn stop_accepting(&mut self) {
        let Some(listener) = self.config.listener.take() else { return };
        let alone = ConnId { slot: 0, generation: 0 };
        if self.accept_again_ns.is_none() {
            self.cancel(Op::Accept, alone);
        }
        // The kernel holds the listener open until the cancel is through.
        drop(listener);
    }

    #[cold]
    pub(super) fn on_accept(&mut self, result: i32, flags: u32) {
        let stopping = self.connections.common.stopping;
        if result >= 0 {
            if self.features.has(Switch::DirectDescriptors) {
                // One that comes while we stop goes with the ring.
                if !stopping {
                    self.open_accepted(result as u32, result, None);
                }
            } else {
                // SAFETY: the kernel made this descriptor for us just now; nothing else owns it.
                let descriptor = unsafe { OwnedFd::from_raw_fd(result) };
                let connections_max = self.config.connections_max;
                let slot = if stopping { None } else { self.connections.take_slot(connections_max) };
                match slot {
                    Some(slot) => self.open_accepted(slot, result, Some(descriptor)),
                    // Closed, as the kernel does where its table of direct descriptors is full.
                    None => self.connections.counters.accept_refusals += 1,
                }
            }
        }
        if !cqueue::more(flags) {
            self.connections.counters.accept_rearms += 1;
            let mut again_ns = self.connections.common.now_ns;
            if matches!(-result, libc::ENFILE | libc::EMFILE | libc::ENOMEM | libc::ENOBUFS) {
                self.connections.counters.accept_refusals += 1;
                again_ns += ACCEPT_PAUSE_NS;
            }
            self.accept_again_ns = Some(again_ns);
        }
    }

    fn open_accepted(&mut self, slot: u32, socket: i32, descriptor: Option<OwnedFd>) {
        self.ensure_held(slot);
        let state = &mut self.held[slot as usize];
        (state.socket, state.descriptor) = (socket, descriptor);
        let conn = self.handler.on_accept();
        let id = self.connections.insert(slot, conn);
        let address = self.config.peer_addresses.then(|| self.caller.take_address()).flatten();
        self.connections.introduce(&mut self.handler, id, address);
        self.handler.on_open(&mut self.connections, id);
        self.begin_recv(id);
    }
}
