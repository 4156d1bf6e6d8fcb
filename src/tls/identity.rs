//! Who a server is: a certificate and its key, from PEM files or made at the start.
//!
//! Invariant: an identity that was accepted is one that a handshake can be made with: key and certificate belong together.
//! Deliberately absent: certificates by name (one server has one), renewal while it runs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{ALPN, Server, trust};

/// How long a certificate that is made here is valid, and how long before it is made: clocks differ.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
const LEEWAY: Duration = Duration::from_secs(24 * 3600);

/// Why a server has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{flag} {}: {error}", .path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file holds something else.
    #[error("{flag} {}: {rule}", .path.display())]
    Content {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What it has to be.
        rule: String,
    },
    /// Certificate and key are not of a pair, or of a kind that is not known.
    #[error("--tls-cert and --tls-key: {0}; take the certificate and the key that was made with it")]
    Pair(rustls::Error),
    /// No certificate could be made.
    #[error("--tls-self-signed: {0}")]
    Making(String),
}

/// A certificate, those between it and its root, and its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Identity {
    /// From PEM files: the server's certificate first, those between it and its root after it; a key that is not encrypted
    /// (PKCS#8, SEC 1 or PKCS#1).
    ///
    /// # Errors
    /// A file that cannot be read or holds something else, and what would be right.
    pub fn from_pem(certificates: &Path, key: &Path) -> Result<Self, IdentityError> {
        let flag = "--tls-cert";
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(flag, certificates)?).collect();
        let chain = read.map_err(|error| content(flag, certificates, malformed(&error)))?;
        if chain.is_empty() {
            let rule = "there is no PEM certificate in it (-----BEGIN CERTIFICATE-----)";
            return Err(content(flag, certificates, rule.to_owned()));
        }
        let flag = "--tls-key";
        let key = PrivateKeyDer::from_pem_slice(&self::read(flag, key)?).map_err(|error| {
            let rule = match error {
                pem::Error::NoItemsFound => {
                    "there is no PEM private key in it that is not encrypted (-----BEGIN PRIVATE KEY-----); \
                     `openssl pkey` decrypts one"
                        .to_owned()
                }
                error => malformed(&error),
            };
            content(flag, key, rule)
        })?;
        Ok(Self { chain, key })
    }

    /// A fresh key (ECDSA, P-256), and a certificate that it has signed itself, for `localhost`, the loopback addresses and
    /// `address`.
    ///
    /// # Errors
    /// The system has no random numbers to give.
    pub fn self_signed(address: IpAddr) -> Result<Self, IdentityError> {
        let making = |error: rcgen::Error| IdentityError::Making(error.to_string());
        let mut params = CertificateParams::new(["localhost".to_owned()]).map_err(making)?;
        let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        if !address.is_unspecified() && !addresses.contains(&address) {
            addresses.push(address);
        }
        params.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ringsock self-signed");
        let now = std::time::SystemTime::now();
        params.not_before = (now - LEEWAY).into();
        params.not_after = (now + VALIDITY).into();
        let key = KeyPair::generate().map_err(making)?;
        let certificate = params.self_signed(&key).map_err(making)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| IdentityError::Making(error.to_owned()))?;
        Ok(Self { chain: vec![certificate.der().clone()], key })
    }

    /// The certificate itself, for those who are to trust it and nobody else.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The same, as a PEM file holds it.
    pub fn certificate_pem(&self) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(self.certificate());
        let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
        format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
    }

    /// SHA-256 of the certificate, as `AB:CD:…`: what `openssl x509 -fingerprint -sha256` shows.
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.certificate());
        digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// A server with this identity: TLS 1.2 and 1.3, tickets to resume with.
    ///
    /// # Errors
    /// Key and certificate are not of a pair, or of a kind that is not known.
    pub fn server(self) -> Result<Server, IdentityError> {
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(trust::ciphers(None)));
        let builder = builder.with_safe_default_protocol_versions().map_err(IdentityError::Pair)?;
        let builder = builder.with_no_client_auth();
        let mut config = builder.with_single_cert(self.chain, self.key).map_err(IdentityError::Pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ticketer = provider::Ticketer::new().map_err(IdentityError::Pair)?;
        config.enable_secret_extraction = true;
        Ok(Server(Arc::new(config)))
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|error| IdentityError::File { flag, path: path.to_owned(), error })
}

fn content(flag: &'static str, path: &Path, rule: String) -> IdentityError {
    IdentityError::Content { flag, path: path.to_owned(), rule }
}

fn malformed(error: &pem::Error) -> String {
    format!("it is no PEM file: {error}")
}
