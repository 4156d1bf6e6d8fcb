//! Accepting and connecting, until a connection's task can be started.
//!
//! One for which there is no slot is accepted and closed, as the kernel does where the raw engine has no direct
//! descriptor left; then the listener is left alone for a while.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};

use ::tokio_uring::net::TcpStream;
use socket2::SockRef;

use super::super::{dial, read};
use super::{Held, World, wake};
use crate::engine::{Closed, ConnId, Handler};
use crate::limits::ACCEPT_PAUSE_NS;

impl<H: Handler> World<H> {
    pub(in super::super) fn accept_fault(&mut self) -> Option<io::Error> {
        self.config.faults.accept()
    }

    /// Ready with `true` when it is time to accept, with `false` when it never will be again.
    pub(in super::super) fn poll_may_accept(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.ending || self.listener.is_none() {
            Poll::Ready(false)
        } else if self.accept_again_ns <= self.connections.common.now_ns {
            Poll::Ready(true)
        } else {
            self.accept_task = Some(cx.waker().clone());
            self.want_turn();
            Poll::Pending
        }
    }

    /// Stops accepting if it was asked for, or takes it up again; else says when it will be.
    pub(super) fn steer_accept(&mut self) -> Option<u64> {
        if !self.connections.common.accepting {
            self.stop_accepting();
        }
        self.accept_task.as_ref()?;
        if self.accept_again_ns > self.connections.common.now_ns {
            return Some(self.accept_again_ns);
        }
        wake(&mut self.accept_task);
        None
    }

    /// Shuts the listener down, which ends an accept under way; only closing it would not.
    pub(super) fn stop_accepting(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            wake(&mut self.accept_task);
        }
    }

    pub(in super::super) fn on_accept(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        self.want_turn();
        self.connections.counters.completions += 1;
        if self.ending || self.listener.is_none() {
            return;
        }
        let error = match accepted {
            Ok((stream, peer)) => match self.free_slot() {
                Some(slot) => return self.open_accepted(slot, stream, peer),
                None => io::Error::from_raw_os_error(libc::ENFILE),
            },
            Err(error) => error,
        };
        if let Some(libc::ENFILE | libc::EMFILE | libc::ENOMEM | libc::ENOBUFS) = error.raw_os_error() {
            self.connections.counters.accept_refusals += 1;
            self.accept_again_ns = self.connections.common.now_ns + ACCEPT_PAUSE_NS;
        }
    }

    pub(super) fn free_slot(&mut self) -> Option<u32> {
        let unused = self.connections.slots.len() as u32;
        let unused = Some(unused).filter(|&slot| slot < self.config.connections_max);
        self.connections.free.pop().or(unused)
    }

    pub(super) fn open_accepted(&mut self, slot: u32, stream: TcpStream, peer: SocketAddr) {
        self.ensure_held(slot);
        let conn = self.handler.on_accept();
        let id = self.connections.insert(slot, conn);
        let address = self.config.peer_addresses.then(|| peer.ip());
        self.connections.introduce(&mut self.handler, id, address);
        self.open(id, stream);
    }

    pub(super) fn open(&mut self, id: ConnId, stream: TcpStream) {
        let stream = Rc::new(stream);
        let held = &mut self.held[id.index()];
        held.stream = Some(Rc::clone(&stream));
        held.reading = true;
        self.handler.on_open(&mut self.connections, id);
        self.start(|world| read(world, id, stream));
    }

    pub(super) fn open_connections(&mut self) {
        for (slot, route) in std::mem::take(&mut self.connections.connecting) {
            self.ensure_held(slot);
            let id = self.connections.id_at(slot);
            if slot < self.config.connections_max {
                self.held[slot as usize].connecting = true;
                self.start(|world| dial(world, id, route));
            } else {
                self.begin_close(slot, Closed::Connect(io::Error::from_raw_os_error(libc::ENFILE)));
            }
        }
    }

    pub(super) fn ensure_held(&mut self, slot: u32) {
        if self.held.len() <= slot as usize {
            self.held.resize_with(slot as usize + 1, Held::default);
        }
        self.held[slot as usize] = Held::default();
    }

    /// Ready when a connection that is being opened has been given up.
    pub(in super::super) fn poll_given_up(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        let held = &mut self.held[id.index()];
        if self.ending || held.closing.is_some() {
            return Poll::Ready(());
        }
        held.task = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(in super::super) fn on_dialled(&mut self, id: ConnId, result: io::Result<Option<TcpStream>>) {
        self.want_turn();
        let held = &mut self.held[id.index()];
        held.connecting = false;
        held.task = None;
        if self.ending {
            return;
        }
        if held.closing.is_some() {
            return self.try_finish_close(id.slot);
        }
        match result {
            Ok(Some(stream)) => {
                self.open(id, stream);
                self.connections.mark_dirty(id.slot);
            }
            Ok(None) => {}
            Err(error) => self.begin_close(id.slot, Closed::Connect(error)),
        }
    }
}
