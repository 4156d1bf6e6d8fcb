//! Whether the kernel would encrypt and decrypt TLS records itself (`CONFIG_TLS`, Linux 4.13), found out by trying.
//!
//! Deliberately absent: handing it a connection's keys. That is not built, so nobody is told that it is used.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use super::EngineError;

/// Why `--ktls` cannot be had on this kernel, of this release; there is always a reason.
pub fn refusal(release: &str) -> EngineError {
    match try_out() {
        Ok(()) => EngineError::KernelTlsUnused,
        Err(error) => EngineError::NoKernelTls { release: release.to_owned(), error },
    }
}

/// Asks for it on a connection of our own: the kernel takes it only on connections that are established.
fn try_out() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let name = b"tls";
    // SAFETY: the kernel reads as many bytes as it is told, of a name that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_ULP,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
