//! The flags of permessage-deflate, the same for the server and the generator.
//!
//! Invariant: without `--deflate` there is none of it, and the others are refused.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use crate::scenario::deflate::{
    Compression, DeflateParameters, DeflateSettings, WINDOW_BITS_MAX, WINDOW_BITS_MIN,
};

/// The longest threshold: so much of a message may be kept until it is decided whether it is compressed.
const THRESHOLD_BYTES_MAX: u64 = 64 << 10;

/// Ends whose compressors keep their window from message to message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Takeover {
    /// Both ends
    Both,
    /// The server only
    Server,
    /// The client only
    Client,
    /// Neither: each message is compressed by itself
    Neither,
}

/// Windows of both ends, by their base-2 logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowBits {
    /// The server's.
    pub server: u8,
    /// The client's.
    pub client: u8,
}

impl FromStr for WindowBits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (server, client) = text.split_once(',').unwrap_or((text, text));
        let bits = |text: &str| {
            let bits = text.parse().ok().filter(|bits| (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(bits));
            bits.ok_or_else(|| {
                "a window has 9 to 15 bits (8 is more than zlib can do): write 12, or 12,15".to_owned()
            })
        };
        Ok(Self { server: bits(server)?, client: bits(client)? })
    }
}

impl fmt::Display for WindowBits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server == self.client {
            true => write!(out, "{}", self.server),
            false => write!(out, "{},{}", self.server, self.client),
        }
    }
}

fn parse_threshold(text: &str) -> Result<ByteSize, String> {
    let size = text.parse::<ByteSize>()?;
    if size.as_u64() <= THRESHOLD_BYTES_MAX { Ok(size) } else { Err("has to be 64 KiB or less".to_owned()) }
}

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct DeflateOptions {
    /// Compress messages with permessage-deflate (RFC 7692). The server agrees where a client offers it; ringsock-load
    /// offers it, and refuses a server that declines
    #[arg(long)]
    pub deflate: bool,

    /// With --deflate: whose compressor keeps its window from message to message, which makes messages smaller and
    /// takes memory per connection: 375 KiB to compress, 48 KiB to inflate
    #[arg(long, value_name = "ENDS", value_enum, default_value_t = Takeover::Both, requires = "deflate")]
    pub deflate_takeover: Takeover,

    /// With --deflate: base-2 logarithm of the compressors' windows, 9 to 15; two with a comma are the server's and the client's
    #[arg(long, value_name = "BITS", default_value = "15", requires = "deflate")]
    pub deflate_window_bits: WindowBits,

    /// With --deflate: how hard to compress, from 1 (fast) to 9 (small)
    #[arg(long, value_name = "LEVEL", default_value_t = 1, requires = "deflate",
        value_parser = clap::value_parser!(u8).range(1..=9))]
    pub deflate_level: u8,

    /// With --deflate: send messages that are shorter as they are
    #[arg(long, value_name = "SIZE", default_value = "64B", requires = "deflate", value_parser = parse_threshold)]
    pub deflate_threshold: ByteSize,
}

impl DeflateOptions {
    /// What they come to; `None` without `--deflate`.
    pub fn settings(&self) -> Option<DeflateSettings> {
        let keeps = |end| self.deflate_takeover == Takeover::Both || self.deflate_takeover == end;
        self.deflate.then(|| DeflateSettings {
            parameters: DeflateParameters {
                server_no_context_takeover: !keeps(Takeover::Server),
                client_no_context_takeover: !keeps(Takeover::Client),
                server_max_window_bits: self.deflate_window_bits.server,
                client_max_window_bits: self.deflate_window_bits.client,
            },
            compression: Compression {
                level: self.deflate_level,
                threshold_bytes: self.deflate_threshold.as_u64() as usize,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        options: DeflateOptions,
    }

    fn settings(flags: &str) -> Result<Option<DeflateSettings>, clap::Error> {
        let all = ["ringsock"].into_iter().chain(flags.split_whitespace());
        Flags::try_parse_from(all).map(|flags| flags.options.settings())
    }

    #[test]
    fn nothing_is_compressed_unless_asked_for() {
        assert_eq!(settings("").unwrap(), None);
        for alone in ["--deflate-takeover both", "--deflate-window-bits 9", "--deflate-level 2"] {
            assert!(settings(alone).unwrap_err().to_string().contains("--deflate"), "{alone}");
        }
        let default = settings("--deflate").unwrap().unwrap();
        assert_eq!(default.parameters, DeflateParameters::default());
        assert_eq!(default.compression, Compression { level: 1, threshold_bytes: 64 });
    }

    #[test]
    fn flags_are_the_parameters_of_the_rfc() {
        let flags = "--deflate --deflate-takeover client --deflate-window-bits 9,12 --deflate-level 9 \
            --deflate-threshold 1KiB";
        let expected = DeflateSettings {
            parameters: DeflateParameters {
                server_no_context_takeover: true,
                client_no_context_takeover: false,
                server_max_window_bits: 9,
                client_max_window_bits: 12,
            },
            compression: Compression { level: 9, threshold_bytes: 1024 },
        };
        assert_eq!(settings(flags).unwrap(), Some(expected));
        for (wrong, mend) in [
            ("--deflate-window-bits 8", "9 to 15"),
            ("--deflate-window-bits 16", "9 to 15"),
            ("--deflate-window-bits 9,x", "9 to 15"),
            ("--deflate-level 0", "1..=9"),
            ("--deflate-threshold 1MiB", "64 KiB or less"),
        ] {
            let error = settings(&format!("--deflate {wrong}")).unwrap_err().to_string();
            assert!(error.contains(mend), "{wrong}: {error}");
        }
    }
}
