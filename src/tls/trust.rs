//! Whom a client trusts, and what it offers.
//!
//! Invariant: a server that cannot prove who it is is refused, unless the user said that anyone will do; even then it has to
//! hold the key of the certificate that it shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{self as provider, cipher_suite};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{ALPN, Client};

/// Tickets that a thread's connections keep to resume with.
const TICKETS: usize = 256;

/// Whom a client trusts.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Whom this machine trusts: its certificate store, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    System,
    /// The certificates of a PEM file, and what they have signed.
    File(PathBuf),
    /// One certificate: that of the server in this process.
    Certificate(CertificateDer<'static>),
    /// Anyone.
    Anyone,
}

/// A version to insist on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// TLS 1.2
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3
    #[value(name = "1.3")]
    Tls13,
}

/// A cipher to insist on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Cipher {
    /// AES-GCM with keys of 128 bits
    #[value(name = "aes-128-gcm")]
    Aes128Gcm,
    /// AES-GCM with keys of 256 bits
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    /// ChaCha20-Poly1305
    #[value(name = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

/// What a client offers, beyond what it is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer {
    /// This version only.
    pub version: Option<Version>,
    /// This cipher only.
    pub cipher: Option<Cipher>,
    /// Resume with tickets of earlier connections.
    pub resume: bool,
}

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// `--ca` cannot be read, or holds something else.
    #[error("--ca {}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// This machine trusts nobody.
    #[error(
        "this machine has no certificates to trust ({why}): install them (Debian: ca-certificates), or name some with --ca \
         FILE, or trust anyone with --insecure"
    )]
    NoRoots {
        /// What was found.
        why: String,
    },
    /// Nobody is called that.
    #[error("`{host}` is neither a name nor an address that a certificate could have")]
    Name {
        /// The host.
        host: String,
    },
    /// The offer is empty.
    #[error("TLS: {0}")]
    Offer(rustls::Error),
}

impl Trust {
    /// A client of the server called `host`: a name, or an address without brackets.
    ///
    /// # Errors
    /// There is nobody to trust, or nothing to offer.
    pub fn client(&self, host: &str, offer: &Offer) -> Result<Client, TrustError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| TrustError::Name { host: host.to_owned() })?;
        let ciphers = Arc::new(ciphers(offer.cipher));
        let builder = rustls::ClientConfig::builder_with_provider(ciphers.clone());
        let versions: &[_] = match offer.version {
            None => rustls::ALL_VERSIONS,
            Some(Version::Tls12) => &[&rustls::version::TLS12],
            Some(Version::Tls13) => &[&rustls::version::TLS13],
        };
        let builder = builder.with_protocol_versions(versions).map_err(TrustError::Offer)?;
        let builder = match self.roots()? {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(NoProof(ciphers))),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption =
            if offer.resume { Resumption::in_memory_sessions(TICKETS) } else { Resumption::disabled() };
        config.enable_secret_extraction = true;
        Ok(Client { config: Arc::new(config), name })
    }

    /// `None`: anyone.
    fn roots(&self) -> Result<Option<RootCertStore>, TrustError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::Anyone => return Ok(None),
            Self::Certificate(certificate) => roots.add(certificate.clone()).map_err(TrustError::Offer)?,
            Self::File(path) => add_file(&mut roots, path)?,
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                let (added_count, _) = roots.add_parsable_certificates(found.certs);
                if added_count == 0 {
                    let why = found.errors.first().map_or("none were found".to_owned(), ToString::to_string);
                    return Err(TrustError::NoRoots { why });
                }
            }
        }
        Ok(Some(roots))
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let refuse = |why: String| TrustError::File { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| refuse(format!("it is no PEM file: {error}")))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("there is no PEM certificate in it (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(())
}

/// All ciphers or one, the fastest first where AES has instructions of its own, as it has had on x86-64 since 2010.
pub(super) fn ciphers(only: Option<Cipher>) -> CryptoProvider {
    use Cipher::{Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
    let all = [
        (Aes128Gcm, cipher_suite::TLS13_AES_128_GCM_SHA256),
        (Aes256Gcm, cipher_suite::TLS13_AES_256_GCM_SHA384),
        (ChaCha20Poly1305, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
        (Aes128Gcm, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (Aes128Gcm, cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        (Aes256Gcm, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (Aes256Gcm, cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        (ChaCha20Poly1305, cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        (ChaCha20Poly1305, cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ];
    let wanted = all.into_iter().filter(|(cipher, _)| only.is_none_or(|only| only == *cipher));
    let cipher_suites = wanted.map(|(_, suite)| suite).collect();
    CryptoProvider { cipher_suites, ..provider::default_provider() }
}

/// Takes any certificate; the server still has to hold its key.
#[derive(Debug)]
struct NoProof(Arc<CryptoProvider>);

impl ServerCertVerifier for NoProof {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
