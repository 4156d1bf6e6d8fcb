//! TLS 1.2 and 1.3 without I/O: whom to trust, who we are, and what becomes of a connection's bytes.
//!
//! | file | what it keeps |
//! |---|---|
//! | `identity` | a server's certificate and key: from PEM files, or made on the spot |
//! | `trust` | whom a client trusts, and what it offers |
//! | `session` | one connection: rustls through the handshake, then records |
//! | `record` | the records themselves: opened in place, sealed in the output |
//! | `control` | what records without data mean |
//! | `handed` | a connection whose records the kernel opens and seals |
//!
//! rustls (cryptography by ring) makes the handshake: versions, certificates, key exchange, tickets. After it, its keys are
//! taken over and records are ours, because rustls copies each payload four times on its way through an echo, and here it is
//! copied once. The engines know nothing of it: [`crate::engine::Tls`] stands between them and a handler.
//!
//! Deliberately absent: renegotiation (refused, as TLS 1.3 has none), 0-RTT data (it can be replayed), client certificates,
//! revocation.

mod control;
mod handed;
mod identity;
mod record;
mod session;
mod trust;

pub use handed::{Handed, RecordCipher, Response, TrafficKeys};
pub use identity::{Identity, IdentityError};
pub use session::{Opened, Secured, Session};
pub use trust::{Cipher, Offer, Trust, TrustError, Version};

use std::sync::Arc;

/// The only protocol that is spoken over it (RFC 7301; RFC 6455 is an upgrade of HTTP/1.1).
const ALPN: &[u8] = b"http/1.1";

/// What a server shows its clients: made by [`Identity::server`].
#[derive(Debug, Clone)]
pub struct Server(pub(crate) Arc<rustls::ServerConfig>);

/// What a client trusts and offers, and the name it asks for: made by [`Trust::client`].
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) config: Arc<rustls::ClientConfig>,
    pub(crate) name: rustls::pki_types::ServerName<'static>,
}

/// What a peer did after the handshake that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record is not what was sealed with our common keys.
    #[error("a record fails authentication")]
    BadRecordMac,
    /// A record is longer than RFC 8446, 5.1 allows.
    #[error("a record is too long")]
    RecordOverflow,
    /// A record or message that has no place there.
    #[error("an unexpected message")]
    UnexpectedMessage,
    /// Records without data, one after the other, cost us and bring nothing.
    #[error("too many records without data")]
    NoData,
    /// The peer has changed its keys, and the kernel, which has the connection's, does not take new ones.
    #[error("the peer changed its keys, which this kernel's TLS does not follow (Linux 6.14 can)")]
    KeysNotTaken,
    /// Nobody is at fault: our keys have sealed as many records as they may.
    #[error("its keys have sealed as many records as they may, and no others follow")]
    KeysUsedUp,
    /// The peer says that we are at fault (RFC 8446, 6.2).
    #[error("the peer sent alert {0}")]
    Alert(u8),
}

impl Fault {
    /// What the peer is told (RFC 8446, 6.2); nothing where it has told us, or is told that we are done.
    pub(crate) fn alert(self) -> Option<u8> {
        match self {
            Self::BadRecordMac => Some(20),
            Self::RecordOverflow => Some(22),
            Self::UnexpectedMessage | Self::NoData => Some(10),
            Self::KeysNotTaken => Some(80),
            Self::Alert(_) | Self::KeysUsedUp => None,
        }
    }
}

/// Why a connection is not, or no longer, secured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Its first bytes are no TLS.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The handshake failed.
    #[error("handshake: {error}{}", hint(.error))]
    Handshake {
        /// What rustls says.
        error: rustls::Error,
    },
    /// The handshake is longer than `limits::TLS_HANDSHAKE_BYTES`.
    #[error("handshake: too long")]
    TooLong,
    /// The handshake took longer than it may.
    #[error("handshake: timed out")]
    Late,
    /// We closed the connection during the handshake.
    #[error("handshake: not over when the connection was closed")]
    GivenUp,
    /// The peer hung up during the handshake.
    #[error("handshake: the peer hung up")]
    HungUp,
    /// After the handshake.
    #[error("{0}")]
    Fault(#[from] Fault),
}

impl Error {
    fn handshake(error: rustls::Error) -> Self {
        Self::Handshake { error }
    }
}

/// What mends it.
fn hint(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            " (--ca FILE names whom to trust, --insecure trusts anyone)"
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => " (take a name or address that the certificate has, or --insecure)",
        rustls::Error::InvalidCertificate(Certificate::Other(why))
            if why.to_string().contains("CaUsedAsEndEntity") =>
        {
            " (the server shows an authority's certificate as its own: make it with basicConstraints=CA:FALSE, or take --insecure)"
        }
        rustls::Error::InvalidMessage(_) => " (does the server speak TLS on this port? ws:// is without)",
        _ => "",
    }
}
