//! The opening handshake (RFC 6455 section 4), both roles, sans-I/O: HTTP/1.1 bytes in, a decision and bytes out.
//!
//! **Invariant:** the outcome depends on the bytes alone, never on how they were split, and nothing after the
//! blank line is ever taken: those bytes are frames that came early and stay with the caller. Each byte is
//! scanned once and the head is parsed once, so feeding it byte by byte costs no more than linear time. A head
//! that comes whole is read in place; only a split one is copied, into a buffer that never outgrows the bound.
//!
//! **Bounds:** the head's length is the caller's `max_head_bytes`; header lines are at most [`HEADERS_MAX`], or what the
//! server's caller says.
//!
//! **Deliberately absent:** sockets, timeouts and randomness (the caller owns the nonce and the deadline);
//! routing and origins (the caller looks at [`Upgrade::path`] and [`Upgrade::origins`], and may answer
//! [`Rejection::NotFound`] or [`Rejection::Origin`]); redirects, cookies, authentication. What offers come to is the affair of
//! [`extensions`] and [`subprotocol`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use super::{extensions, subprotocol};

mod client;
mod head;
mod server;
#[cfg(test)]
mod tests;

pub use client::{AddressError, ClientHandshake, ResponseError};
pub use head::HeadError;
pub use server::{Asked, Chosen, PageRequest, Rejection, ServerHandshake, Upgrade};

/// Header lines a head may have before it is refused (431 in the server role), where nothing else is asked for.
pub const HEADERS_MAX: usize = 100;
/// The most header lines that may be asked for.
pub const HEADERS_BOUND: usize = 1024;

/// Appended to the key before hashing (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` value that answers `key`, the `Sec-WebSocket-Key` value as sent
/// (RFC 6455 section 4.2.2, step 5.4).
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    let written_bytes = STANDARD.encode_slice(digest, &mut accept).expect("28 characters hold 20 bytes");
    assert_eq!(written_bytes, accept.len());
    accept
}
