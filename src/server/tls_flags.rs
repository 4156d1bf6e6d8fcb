//! The server's flags about TLS: as typed, then validated.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::OptionsError;
use crate::engine::{Chosen, Probe, ktls};
use crate::limits;
use crate::tls::{Identity, IdentityError, Server};

const _: () = assert!(limits::TLS_HANDSHAKE_BYTES == 128 * 1024, "--help says so");

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct TlsFlags {
    /// Speak TLS (wss://), with the certificate in this PEM file, those between it and its root after it
    #[arg(long, value_name = "FILE", requires = "tls_key", group = "secured", conflicts_with_all = ["tls_self_signed", "bare"])]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key: a PEM file, not encrypted
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Speak TLS (wss://), with a certificate made at the start, for localhost, the loopback addresses and --listen's; its
    /// fingerprint is printed
    #[arg(long, group = "secured", conflicts_with = "bare")]
    pub tls_self_signed: bool,

    /// Save that certificate as a PEM file, for clients to trust: ringsock-load --ca FILE
    #[arg(long, value_name = "FILE", requires = "tls_self_signed")]
    pub tls_save_cert: Option<PathBuf>,

    /// How long a client may take over its TLS handshake; 0s: for ever. It may take 128KiB of records for it, too
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "secured", value_parser = humantime::parse_duration)]
    pub tls_handshake_timeout: Duration,

    /// Steps of TLS handshakes that a thread makes in a row, each with public-key cryptography: tenths of a millisecond, or more
    /// with an RSA key. Then it looks after the connections that are open; the other handshakes wait their turn, within
    /// --tls-handshake-timeout. 0: any number, so that a crowd of new clients holds everybody up
    #[arg(long, value_name = "COUNT", default_value_t = limits::TLS_HANDSHAKES_PER_TURN, requires = "secured")]
    pub max_tls_handshakes: u32,

    /// After each handshake hand the connection to the kernel's TLS, so that answers are composed in place as without TLS
    /// (engines uring and epoll; needs the kernel's module tls)
    #[arg(long, conflicts_with = "bare")]
    pub ktls: bool,
}

/// What a server with TLS is to be.
#[derive(Debug, Clone)]
pub struct TlsPlan {
    /// What it shows its clients.
    pub server: Server,
    /// How long a handshake may take.
    pub handshake_ns: u64,
    /// Steps of handshakes in a turn.
    pub handshakes_per_turn: u32,
    /// What its user should know: whom clients have to trust, what the kernel does.
    pub notice: Option<String>,
}

impl TlsFlags {
    /// Reads or makes the certificate of a server that listens on `address`; `None`: no TLS.
    ///
    /// # Errors
    /// The first flag that is wrong, and what would be right.
    pub fn validate(&self, address: IpAddr) -> Result<Option<TlsPlan>, OptionsError> {
        let (identity, notice) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => (Identity::from_pem(certificate, key)?, None),
            _ if self.tls_self_signed => {
                let identity = Identity::self_signed(address)?;
                let notice = self.announce(&identity)?;
                (identity, Some(notice))
            }
            _ => return Ok(None),
        };
        let handshake_ns = match u64::try_from(self.tls_handshake_timeout.as_nanos()) {
            Ok(0) | Err(_) => u64::MAX / 4,
            Ok(handshake_ns) => handshake_ns.min(u64::MAX / 4),
        };
        let handshakes_per_turn = match self.max_tls_handshakes {
            0 => u32::MAX,
            count => count,
        };
        Ok(Some(TlsPlan { server: identity.server()?, handshake_ns, handshakes_per_turn, notice }))
    }

    /// The engine for connections that are secured so; and what the kernel does, where it is to do it.
    ///
    /// # Errors
    /// `--ktls` where there is no TLS, or with an engine or a kernel that cannot.
    pub fn engine(
        &self,
        engine: Chosen,
        probe: &Probe,
        plan: Option<&mut TlsPlan>,
    ) -> Result<Chosen, OptionsError> {
        if !self.ktls {
            return Ok(engine);
        }
        let plan = plan.ok_or(OptionsError::KtlsWithoutTls)?;
        let engine = engine.with_kernel_tls(probe).map_err(OptionsError::Engine)?;
        let offer = ktls::survey(&probe.release).map_err(OptionsError::Engine)?;
        let said =
            format!("{} of this kernel: {offer}; other connections stay in this process", ktls::KERNEL_TLS);
        plan.notice = Some(plan.notice.iter().fold(said, |said, notice| format!("{notice}\n{said}")));
        Ok(engine)
    }

    fn announce(&self, identity: &Identity) -> Result<String, IdentityError> {
        let fingerprint = identity.fingerprint();
        Ok(match &self.tls_save_cert {
            None => format!(
                "certificate self-signed, SHA-256 {fingerprint}; --tls-save-cert FILE saves it for clients to trust"
            ),
            Some(path) => {
                save(path, &identity.certificate_pem()).map_err(|error| IdentityError::File {
                    flag: "--tls-save-cert",
                    path: path.clone(),
                    error,
                })?;
                let path = path.display();
                format!("certificate self-signed, SHA-256 {fingerprint}; trust it: ringsock-load --ca {path}")
            }
        })
    }
}

/// Writes the file whole or not at all; an older one, of a server that ran before, is replaced.
fn save(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut name = path.file_name().ok_or(std::io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let unfinished = path.with_file_name(name);
    let mut file = std::fs::File::create(&unfinished)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let saved = written.and_then(|()| std::fs::rename(&unfinished, path));
    if saved.is_err() {
        // It is of no use to anyone; why it could not be saved is what is told.
        let _ = std::fs::remove_file(&unfinished);
    }
    saved
}
