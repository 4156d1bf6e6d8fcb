//! The client's end of TLS for tests: rustls with its own record layer, blocking.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedCipherSuite};

pub(crate) const TLS12: SupportedCipherSuite = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
pub(crate) const TLS13: SupportedCipherSuite = cipher_suite::TLS13_AES_128_GCM_SHA256;

/// A secured connection.
pub(crate) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Who trusts the one certificate in a PEM file.
pub(crate) fn roots(certificate: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    roots
}

/// A client that trusts those, and can do so much.
pub(crate) fn config(roots: RootCertStore, cipher_suites: Vec<SupportedCipherSuite>) -> Arc<ClientConfig> {
    let provider = CryptoProvider { cipher_suites, ..ring::default_provider() };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A client's end on a TCP connection; the handshake is made by whatever is said first.
pub(crate) fn secured(config: Arc<ClientConfig>, stream: TcpStream) -> Secured {
    let name = ServerName::from(stream.peer_addr().unwrap().ip());
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}
