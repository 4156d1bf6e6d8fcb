//! Listening and connecting sockets, with the options a latency benchmark needs.
//!
//! Sockets are made here and handed to an engine, which does all further I/O on them.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// A listener that shares its address with those of the other threads (`SO_REUSEPORT`, Linux 3.9): the kernel
/// spreads connections over them. Accepted sockets inherit `TCP_NODELAY` from it.
///
/// # Errors
/// As `bind(2)` and `listen(2)`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// An unconnected socket for `address`, `TCP_NODELAY` set.
///
/// # Errors
/// As `socket(2)`: above all out of descriptors.
pub(crate) fn for_connecting(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}
