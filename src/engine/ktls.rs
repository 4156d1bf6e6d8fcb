//! Kernel TLS (`CONFIG_TLS`; to be sealed by Linux 4.13, to be opened by 4.17, TLS 1.3 from 5.1 on): what is asked of a socket.
//!
//! [`Tls`](super::Tls) makes the handshake and the first records; then it asks its engine for a moment of quiet
//! (`Io::ask_quiet`): everything received has been handed over, nothing is being received, all output has gone. In it the
//! engine asks for the keys ([`Event::Quiet`]) and gives them to the kernel, and from then on the connection's bytes are plain
//! to it, sent and received as any others. Whatever the peer sends until then is opened in this process, so nothing has to be
//! guessed about what lies in the socket: the kernel begins at the very record that is next.
//!
//! What is left are records without data. A receive that meets one fails, with `EIO`; then it is fetched by itself
//! ([`on_failed_receive`]), and [`Tls`](super::Tls) says what follows. Our own alerts are sent likewise.
//!
//! Invariants: where the kernel refuses, nothing has changed, and the connection goes on in this process; one of which it has
//! taken only one direction is given up; nothing here waits.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{Closed, ConnId, Connections, EngineError, Handler, Kernel};
use crate::tls::{Fault, RecordCipher, TrafficKeys};

/// What the engine is asked to use of the kernel, for the record.
pub const KERNEL_TLS: &str = "kernel TLS";

/// `TLS_RX_EXPECT_NO_PAD` (Linux 6.0): whoever does not pad has its records opened where they are wanted.
const RX_EXPECT_NO_PAD: libc::c_int = 4;
/// Content types (RFC 8446, 5.1).
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
/// Most that one record holds (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// What an engine tells [`Tls`](super::Tls) of a connection.
pub enum Event<'a> {
    /// It is quiet, as was asked for: the keys are wanted.
    Quiet,
    /// The kernel took the keys, or why it did not; it is as it was then.
    Handed(io::Result<()>),
    /// A record of this kind (RFC 8446, 5.1), which brings no data.
    Control(u8, &'a [u8]),
    /// The peer is at fault. The connection is closed once an answer has been sent.
    Fault(Fault),
}

/// What is to be done about it.
#[derive(Default)]
pub struct Answer {
    /// Keys to open with from the next record on.
    pub opening: Option<TrafficKeys>,
    /// A record to be sent: what kind, and what it holds.
    pub say: Option<(u8, Vec<u8>)>,
    /// Keys to seal with, once that has been sent.
    pub sealing: Option<TrafficKeys>,
}

/// The alert for a fault, if the peer is to be told.
pub(super) fn alert(fault: Fault) -> Option<(u8, Vec<u8>)> {
    fault.alert().map(|description| (ALERT, vec![FATAL, description]))
}

// ---- what engines do ----

/// In a moment of quiet: gives the kernel the keys, if there are any. Whether the kernel has them.
///
/// # Errors
/// It has taken a part: the connection can only be closed.
#[cold]
pub(super) fn hand_over<H: Handler>(
    handler: &mut H,
    connections: &mut Connections<H::Conn>,
    id: ConnId,
    socket: BorrowedFd<'_>,
) -> Result<bool, Closed> {
    connections.slots[id.index()].line.want_quiet(false);
    let Answer { sealing: Some(sealing), opening: Some(opening), .. } =
        handler.on_kernel_tls(connections, id, Event::Quiet)
    else {
        return Ok(false);
    };
    // Until it has the first key, the kernel passes everything through as it is.
    let taken = set_option(socket, libc::SOL_TCP, libc::TCP_ULP, b"tls")
        .and_then(|()| give_keys(socket, libc::TLS_RX, &opening));
    if let Err(error) = taken {
        handler.on_kernel_tls(connections, id, Event::Handed(Err(error)));
        return Ok(false);
    }
    give_keys(socket, libc::TLS_TX, &sealing).map_err(Closed::Broken)?;
    if opening.is_tls13 {
        // An older kernel opens records as it always did.
        let _ = set_option(socket, libc::SOL_TLS, RX_EXPECT_NO_PAD, &1_i32.to_ne_bytes());
    }
    connections.slots[id.index()].line.kernel = Kernel::HasKeys;
    handler.on_kernel_tls(connections, id, Event::Handed(Ok(())));
    Ok(true)
}

/// A receive failed with `code`. Why the connection is to be closed, unless what stood in the way has been worked off.
#[cold]
pub(super) fn on_failed_receive<H: Handler>(
    handler: &mut H,
    connections: &mut Connections<H::Conn>,
    id: ConnId,
    socket: BorrowedFd<'_>,
    code: i32,
) -> Result<(), Closed> {
    let fault = match code {
        _ if connections.slots[id.index()].line.kernel == Kernel::Without => None,
        libc::EIO => return on_control(handler, connections, id, socket),
        libc::EBADMSG => Some(Fault::BadRecordMac),
        libc::EMSGSIZE => Some(Fault::RecordOverflow),
        // Of a record whose head is none.
        libc::EINVAL => Some(Fault::UnexpectedMessage),
        _ => None,
    };
    match fault {
        None => Err(Closed::Broken(io::Error::from_raw_os_error(code))),
        Some(fault) => Err(fail(handler, connections, id, socket, fault)),
    }
}

/// Fetches a record without data, and does what follows of it.
fn on_control<H: Handler>(
    handler: &mut H,
    connections: &mut Connections<H::Conn>,
    id: ConnId,
    socket: BorrowedFd<'_>,
) -> Result<(), Closed> {
    let mut plain = vec![0; RECORD_BYTES_MAX];
    let (content, byte_count) = receive_record(socket, &mut plain).map_err(Closed::Broken)?;
    if content == APPLICATION_DATA {
        // Data does not fail a receive: that was something else, and this cannot be put back.
        return Err(Closed::Broken(io::Error::from_raw_os_error(libc::EIO)));
    }
    let answer = handler.on_kernel_tls(connections, id, Event::Control(content, &plain[..byte_count]));
    if let Some(keys) = answer.opening
        && give_keys(socket, libc::TLS_RX, &keys).is_err()
    {
        return Err(fail(handler, connections, id, socket, Fault::KeysNotTaken));
    }
    let line = &mut connections.slots[id.index()].line;
    let Some((content, bytes)) = answer.say.filter(|_| line.kernel == Kernel::HasKeys) else { return Ok(()) };
    if content == ALERT && bytes.first() == Some(&FATAL) {
        line.kernel = Kernel::HasKeysAndIsDone;
    }
    let said = send_record(socket, content, &bytes);
    match answer.sealing {
        // What could not be said is an alert, and the peer will learn it otherwise.
        None => Ok(()),
        // Once the change is announced, nothing can be said under the old keys; to a peer that does not read it cannot
        // be announced.
        Some(keys) => said.and_then(|()| give_keys(socket, libc::TLS_TX, &keys)).map_err(Closed::Broken),
    }
}

fn fail<H: Handler>(
    handler: &mut H,
    connections: &mut Connections<H::Conn>,
    id: ConnId,
    socket: BorrowedFd<'_>,
    fault: Fault,
) -> Closed {
    let answer = handler.on_kernel_tls(connections, id, Event::Fault(fault));
    // A record that could not be opened leaves an error behind, of which a send would fail: asking for it takes it away.
    let _ = rustix::net::sockopt::socket_error(socket);
    if let Some((content, bytes)) = answer.say {
        // Where it cannot be sent the peer learns less.
        let _ = send_record(socket, content, &bytes);
    }
    connections.slots[id.index()].line.kernel = Kernel::HasKeysAndIsDone;
    Closed::ByUs
}

/// Says that nothing more will be sent (RFC 8446, 6.1), unless that was said. All output has to have gone. Whether it is done
/// with: if not, the peer does not read, and it is to be said once there is room.
#[cold]
pub(super) fn say_goodbye<C>(connections: &mut Connections<C>, slot: u32, socket: BorrowedFd<'_>) -> bool {
    let line = &mut connections.slots[slot as usize].line;
    if line.kernel != Kernel::HasKeys {
        return true;
    }
    match send_record(socket, ALERT, &[WARNING, CLOSE_NOTIFY]) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM | libc::EINTR)) => {
            false
        }
        // Where the connection is broken, whoever receives from it is told.
        _ => {
            line.kernel = Kernel::HasKeysAndIsDone;
            true
        }
    }
}

// ---- the socket ----

/// The kernel's `struct tls12_crypto_info_*`, which differ in the lengths of their members alone (include/uapi/linux/tls.h):
/// version, cipher, part of the nonce, key, salt, sequence number.
fn crypto_info(keys: &TrafficKeys) -> Vec<u8> {
    let (cipher, salt_bytes) = match keys.cipher {
        RecordCipher::Aes128Gcm => (libc::TLS_CIPHER_AES_GCM_128, 4),
        RecordCipher::Aes256Gcm => (libc::TLS_CIPHER_AES_GCM_256, 4),
        RecordCipher::ChaCha20Poly1305 => (libc::TLS_CIPHER_CHACHA20_POLY1305, 0),
    };
    let version: u16 = if keys.is_tls13 { 0x0304 } else { 0x0303 };
    let (salt, nonce) = keys.iv.split_at(salt_bytes);
    let sequence = keys.sequence.to_be_bytes();
    [&version.to_ne_bytes(), &cipher.to_ne_bytes(), nonce, &keys.key, salt, &sequence].concat()
}

fn give_keys(socket: BorrowedFd<'_>, direction: libc::c_int, keys: &TrafficKeys) -> io::Result<()> {
    set_option(socket, libc::SOL_TLS, direction, &crypto_info(keys))
}

fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told, of a value that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for a control message of one byte; as many `u64` as it takes, for their alignment.
// SAFETY: it only adds up sizes.
const CONTROL_WORDS: usize = unsafe { libc::CMSG_SPACE(1) } as usize / size_of::<u64>() + 1;

/// sendmsg(2) of one record of kind `content`, without waiting.
fn send_record(socket: BorrowedFd<'_>, content: u8, plain: &[u8]) -> io::Result<()> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut piece = libc::iovec { iov_base: plain.as_ptr().cast_mut().cast(), iov_len: plain.len() };
    let message = message(&mut piece, &mut control);
    // SAFETY: the control buffer is aligned for a header and has room for it and its one byte; the kernel only reads what the
    // message points to, and all of that outlives the call.
    let result = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = libc::CMSG_LEN(1) as _;
        libc::CMSG_DATA(header).write(content);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// recvmsg(2) of what is next, without waiting: what kind of record it is, and how many bytes.
fn receive_record(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<(u8, usize)> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let mut message = message(&mut piece, &mut control);
    // SAFETY: the kernel writes no further than the piece and the control buffer reach, both of which outlive the call.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let byte_count = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has set the control buffer's length to what it wrote there, whole headers with their data.
    let content = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_type = !header.is_null()
            && (*header).cmsg_level == libc::SOL_TLS
            && (*header).cmsg_type == libc::TLS_GET_RECORD_TYPE;
        is_type.then(|| libc::CMSG_DATA(header).read())
    };
    Ok((content.unwrap_or(APPLICATION_DATA), byte_count))
}

fn message(piece: &mut libc::iovec, control: &mut [u64; CONTROL_WORDS]) -> libc::msghdr {
    // SAFETY: all of its fields may be zero.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: it only adds up sizes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(1) } as _;
    message
}

// ---- what this kernel has ----

/// Finds out whether this kernel, of this release, does TLS: by a connection of our own for each version and cipher. What it
/// does is told for people, as `TLS 1.2 with AES-128-GCM; TLS 1.3 with AES-128-GCM, AES-256-GCM`.
///
/// # Errors
/// [`EngineError::NoKernelTls`]: none at all.
pub fn survey(release: &str) -> Result<String, EngineError> {
    let refused = |error| EngineError::NoKernelTls { release: release.to_owned(), error };
    let mut offers = Vec::new();
    let mut refusal = None;
    for (is_tls13, version) in [(false, "TLS 1.2"), (true, "TLS 1.3")] {
        let mut ciphers = Vec::new();
        for cipher in RecordCipher::ALL {
            let (name, key_bytes) = match cipher {
                RecordCipher::Aes128Gcm => ("AES-128-GCM", 16),
                RecordCipher::Aes256Gcm => ("AES-256-GCM", 32),
                RecordCipher::ChaCha20Poly1305 => ("ChaCha20-Poly1305", 32),
            };
            let keys = TrafficKeys { is_tls13, cipher, key: vec![0; key_bytes], iv: [0; 12], sequence: 0 };
            match try_out(&keys) {
                Ok(()) => ciphers.push(name),
                Err(error) => drop(refusal.get_or_insert(error)),
            }
        }
        if !ciphers.is_empty() {
            offers.push(format!("{version} with {}", ciphers.join(", ")));
        }
    }
    match refusal {
        Some(error) if offers.is_empty() => Err(refused(error)),
        _ => Ok(offers.join("; ")),
    }
}

/// The kernel takes keys only on connections that are established.
fn try_out(keys: &TrafficKeys) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    set_option(stream.as_fd(), libc::SOL_TCP, libc::TCP_ULP, b"tls")?;
    give_keys(stream.as_fd(), libc::TLS_RX, keys)?;
    give_keys(stream.as_fd(), libc::TLS_TX, keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_laid_out_as_the_kernel_reads_them() {
        let keys = |cipher, key_bytes: u8| TrafficKeys {
            is_tls13: true,
            cipher,
            key: (100..100 + key_bytes).collect(),
            iv: std::array::from_fn(|at| at as u8),
            sequence: 7,
        };
        let info = crypto_info(&keys(RecordCipher::Aes128Gcm, 16));
        assert_eq!(info.len(), size_of::<libc::tls12_crypto_info_aes_gcm_128>());
        assert_eq!(info[..4], [[4, 3], [51, 0]].concat());
        assert_eq!((&info[4..12], info[12]), (&[4, 5, 6, 7, 8, 9, 10, 11][..], 100));
        assert_eq!(info[28..], [0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 7]);
        let info = crypto_info(&keys(RecordCipher::Aes256Gcm, 32));
        assert_eq!(info.len(), size_of::<libc::tls12_crypto_info_aes_gcm_256>());
        let info = crypto_info(&keys(RecordCipher::ChaCha20Poly1305, 32));
        assert_eq!(info.len(), size_of::<libc::tls12_crypto_info_chacha20_poly1305>());
        assert_eq!((&info[4..16], info[16]), (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11][..], 100));
    }
}
