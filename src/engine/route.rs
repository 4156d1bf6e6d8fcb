//! Where a connection of ours goes, and what is particular to our end of it.
//!
//! Invariant: a route that says nothing but where to is the ordinary one: the kernel chooses address and port, and the sizes of buffers.

use std::net::{IpAddr, SocketAddr};

use super::{ConnId, Connections};

/// See the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Whom to connect to.
    pub to: SocketAddr,
    /// The address of this machine to connect from. The kernel chooses a port only when it knows both ends
    /// (`IP_BIND_ADDRESS_NO_PORT`, Linux 4.2), so there are as many for each pair of addresses.
    pub from: Option<IpAddr>,
    /// What the kernel may keep of received bytes until we read them (`SO_RCVBUF`, which doubles it for its own needs, and has a
    /// least size). [`super::memory`] has no such buffer.
    pub receive_bytes: Option<usize>,
}

impl From<SocketAddr> for Route {
    fn from(to: SocketAddr) -> Self {
        Self { to, from: None, receive_bytes: None }
    }
}

impl<C> Connections<C> {
    /// As [`Connections::connect`], over this route.
    pub fn connect_over(&mut self, route: Route, conn: C) -> ConnId {
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        let id = self.insert(index, conn);
        self.connecting.push((index, route));
        id
    }
}
