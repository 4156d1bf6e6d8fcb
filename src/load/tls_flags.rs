//! The generator's flags about TLS: as typed, then validated.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;

use super::endpoint::Endpoint;
use super::heading::TARGET;
use super::options::OptionsError;
use crate::tls::{Cipher, Client, Identity, Offer, Server, Trust, Version};

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct TlsFlags {
    /// Have the server started in this process speak TLS, with a certificate of its own that only this generator trusts
    #[arg(help_heading = TARGET, long, conflicts_with_all = ["url", "calibrate"])]
    pub tls: bool,

    /// Have that server hand its connections to the kernel's TLS (engines uring and epoll; needs the kernel's module tls)
    #[arg(help_heading = TARGET, long, requires = "tls")]
    pub ktls: bool,

    /// Of a wss:// server, trust the certificates in this PEM file and what they have signed [default: what this machine
    /// trusts]
    #[arg(help_heading = TARGET, long, value_name = "FILE", conflicts_with_all = ["insecure", "tls"])]
    pub ca: Option<PathBuf>,

    /// Trust a wss:// server whatever certificate it shows
    #[arg(help_heading = TARGET, long, conflicts_with = "tls")]
    pub insecure: bool,

    /// Offer this version of TLS only
    #[arg(help_heading = TARGET, long, value_name = "VERSION", value_enum)]
    pub tls_version: Option<Version>,

    /// Offer this cipher only; otherwise AES-128-GCM is the one liked best
    #[arg(help_heading = TARGET, long, value_name = "CIPHER", value_enum)]
    pub tls_cipher: Option<Cipher>,

    /// Resume TLS sessions with tickets of connections opened before; without it each makes a full handshake, as those of
    /// many users do
    #[arg(help_heading = TARGET, long)]
    pub tls_resume: bool,
}

/// How a run's connections are secured.
#[derive(Debug, Clone)]
pub struct TlsPlan {
    /// What the generator trusts and offers.
    pub client: Client,
    /// Whom it trusts, for the record: `system`, `file`, `own` or `anyone`.
    pub trusts: &'static str,
    /// What the server of our own shows.
    pub server: Option<Server>,
}

impl TlsFlags {
    /// How connections to `endpoint`, or to a server of our own, are to be secured; `None`: not at all.
    ///
    /// # Errors
    /// The first flag that is wrong, and what would be right.
    pub fn validate(&self, endpoint: Option<&Endpoint>) -> Result<Option<TlsPlan>, OptionsError> {
        let is_wanted = endpoint.map_or(self.tls, |endpoint| endpoint.tls);
        if !is_wanted {
            return match self.unused() {
                None => Ok(None),
                Some(flag) => Err(OptionsError::NoTls { flag }),
            };
        }
        let offer = Offer { version: self.tls_version, cipher: self.tls_cipher, resume: self.tls_resume };
        let Some(endpoint) = endpoint else {
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let identity = Identity::self_signed(address)?;
            let trust = Trust::Certificate(identity.certificate().clone());
            let client = trust.client(&address.to_string(), &offer)?;
            return Ok(Some(TlsPlan { client, trusts: "own", server: Some(identity.server()?) }));
        };
        let (trust, trusts) = match &self.ca {
            Some(path) => (Trust::File(path.clone()), "file"),
            None if self.insecure => (Trust::Anyone, "anyone"),
            None => (Trust::System, "system"),
        };
        Ok(Some(TlsPlan { client: trust.client(&endpoint.host, &offer)?, trusts, server: None }))
    }

    /// A flag that says how, where nothing is secured.
    fn unused(&self) -> Option<&'static str> {
        let given = [
            ("--ca", self.ca.is_some()),
            ("--insecure", self.insecure),
            ("--tls-version", self.tls_version.is_some()),
            ("--tls-cipher", self.tls_cipher.is_some()),
            ("--tls-resume", self.tls_resume),
        ];
        given.into_iter().find(|&(_, given)| given).map(|(flag, _)| flag)
    }
}
