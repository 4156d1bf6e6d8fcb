//! TLS between engines and handlers: in fake time over any network (`simulated`), and on real sockets over each engine,
//! against rustls' own record layer as the other end (`sockets`).
//!
//! What flags do is told by their errors here too, and what a run's result says of TLS by runs (`recorded`). Other people's TLS is the part of `tests/peers.rs`.

#[path = "tls/flags.rs"]
mod flags;
#[path = "common/peer.rs"]
mod peer;
#[path = "tls/recorded.rs"]
mod recorded;
#[path = "common/secure.rs"]
mod secure;
#[path = "common/seed.rs"]
mod seed;
#[path = "tls/simulated.rs"]
mod simulated;
#[path = "tls/sockets.rs"]
mod sockets;
#[path = "memory/talk.rs"]
mod talk;

use std::net::{IpAddr, Ipv4Addr};

use ringsock::tls::{Client, Identity, Offer, Server, Trust};

/// A server, and a client that trusts it and nobody else.
fn ends(offer: &Offer) -> (Server, Client) {
    let identity = Identity::self_signed(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let trust = Trust::Certificate(identity.certificate().clone());
    (identity.server().unwrap(), trust.client("127.0.0.1", offer).unwrap())
}
