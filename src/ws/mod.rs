//! The WebSocket protocol (RFC 6455) and its compression (RFC 7692), sans-I/O.
//!
//! Nothing here owns a socket, reads a clock or draws a random number: bytes, `now` and masking keys are
//! handed in, events and bytes come out. So every state is reachable in a test, in fake time, over every
//! split of the input.

pub mod connection;
pub mod decoder;
pub mod deflate;
pub mod deflating;
pub mod extensions;
pub mod frame;
pub mod handshake;
pub mod in_place;
#[allow(unsafe_code)]
pub mod mask;
pub mod origin;
pub mod subprotocol;
pub mod trace;
pub mod utf8;
