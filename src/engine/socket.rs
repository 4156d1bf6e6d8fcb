//! Listening and connecting sockets, with the options a latency benchmark needs.
//!
//! Sockets are made here and handed to an engine, which does all further I/O on them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::Route;

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

/// An unconnected socket for `route`, `TCP_NODELAY` set.
///
/// # Errors
/// As `socket(2)`: above all out of descriptors; as `bind(2)` where the route begins at an address that is not this machine's.
pub(super) fn for_connecting(route: &Route) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(route.to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = route.receive_bytes {
        // Before connecting, since the window's scale is agreed on then.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(from) = route.from {
        leave_port_open(&socket)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    Ok(socket)
}

/// Has `bind(2)` to port 0 choose none yet.
fn leave_port_open(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is an integer of the length given, which is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            std::ptr::from_ref(&on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
