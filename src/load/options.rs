//! The generator's flags: as typed, then validated.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use crate::cpu::{self, CpuError, CpuList};
use crate::engine::uring::Switches;
use crate::engine::{Choice, Chosen, EngineError, EngineKind, Probe, files};
use crate::limits;
use crate::measure::result;
use crate::scenario::stamps::Layout;
use crate::server::engine_parser;

/// Descriptors that are not connections.
const OTHER_FILES: u64 = 128;
/// Rate of the open loop where none is asked for: low enough for one core of a small machine.
const DEFAULT_RATE_PER_S: f64 = 20_000.0;

/// The gaps of the open loop's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// All gaps equal
    Fixed,
    /// Gaps exponentially distributed, as of many independent senders
    Poisson,
}

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// ws://host:port/path of the server to measure; without it, a ringsock server is started in this process, on
    /// a free port of 127.0.0.1 and a CPU of its own
    pub url: Option<String>,

    /// Connections, shared out evenly among the threads
    #[arg(long, short = 'c', value_name = "COUNT", default_value_t = 64)]
    pub connections: u32,

    /// I/O engine of the generator, and of the server started in this process; auto takes the best that this kernel runs,
    /// and the report says which and why
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = engine_parser())]
    pub engine: Choice,

    /// I/O engine of the server started in this process [default: as --engine]
    #[arg(long, value_name = "NAME", conflicts_with = "url", value_parser = engine_parser())]
    pub server_engine: Option<Choice>,

    /// Features of io_uring to switch off or on for the engine uring, as -multishot-recv,+napi=50us; ringsock-server
    /// --help has the list
    #[arg(
        long,
        value_name = "LIST",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub uring_features: Switches,

    /// The same for the server started in this process [default: as --uring-features, unless --server-engine is given]
    #[arg(long, value_name = "LIST", conflicts_with = "url", allow_hyphen_values = true)]
    pub server_uring_features: Option<Switches>,

    /// Generator threads, each with its own ring [default: one for each of --cpus, else 1]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,

    /// CPUs to bind the generator's threads to, in turn, as 0,2-3 [default: the last ones this process may use]
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<CpuList>,

    /// CPUs for the server started in this process, a thread each [default: the first one this process may use]
    #[arg(long, value_name = "LIST", conflicts_with = "url")]
    pub server_cpus: Option<CpuList>,

    /// Process id of a server on this machine, whose CPU time is then measured too
    #[arg(long, value_name = "PID", requires = "url")]
    pub server_pid: Option<u32>,

    /// Payload of each message, as 64 or 64KiB
    #[arg(long, short = 'p', value_name = "BYTES", default_value = "64")]
    pub payload: ByteSize,

    /// Send text messages instead of binary ones
    #[arg(long)]
    pub text: bool,

    /// How long to measure
    #[arg(long, short = 'd', value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,

    /// How long to run before measuring
    #[arg(long, short = 'w', value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,

    /// How long to wait, after measuring, for answers that are still out
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// New connections a second, all threads together [default: as fast as they are accepted]
    #[arg(long, value_name = "RATE")]
    pub connect_rate: Option<f64>,

    /// How long a connection may take to open
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub connect_timeout: Duration,

    /// Open loop: messages a second, all connections together. The whole schedule is fixed beforehand, and
    /// response time counts from it [default: 20000]
    #[arg(long, short = 'r', value_name = "RATE", conflicts_with = "closed_loop")]
    pub rate: Option<f64>,

    /// Gaps of the open loop's schedule
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson, conflicts_with = "closed_loop")]
    pub arrivals: Arrivals,

    /// Closed loop: each connection sends as its answers come, for peak throughput
    #[arg(long)]
    pub closed_loop: bool,

    /// Messages in flight per connection in a closed loop
    #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "closed_loop")]
    pub pipeline: u32,

    /// Take response times apart: has the server, a ringsock-server on this host, write into each answer when it saw
    /// the message and when it queued the answer
    #[arg(long)]
    pub anatomy: bool,

    /// With --anatomy: note when the kernel received what arrives, to tell the kernels' and the wire's share of each way
    /// from the wake-up at its end. For the engine epoll; a server with a URL has a flag of the same name, and needs it for
    /// its end
    #[arg(long, requires = "anatomy")]
    pub kernel_timestamps: bool,

    /// Seed of the schedule, the payloads and the masking keys
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// Folder for the result file
    #[arg(long, value_name = "FOLDER", default_value = "results")]
    pub results: PathBuf,

    /// No progress, no report: only where the result was saved
    #[arg(long, short)]
    pub quiet: bool,
}

/// Why flags were refused.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// About the URL.
    #[error("`{url}`: {rule}")]
    Url {
        /// What was typed.
        url: String,
        /// What would be right.
        rule: &'static str,
    },
    /// The host has no address.
    #[error("`{host}` cannot be resolved: {error}")]
    Resolve {
        /// Host and port.
        host: String,
        /// The resolver's word.
        error: std::io::Error,
    },
    /// A CPU list.
    #[error("{flag}: {error}")]
    Cpus {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        error: CpuError,
    },
    /// A number outside its bounds.
    #[error("{flag} {value}: {rule}")]
    Number {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        rule: &'static str,
    },
    /// `--anatomy` with what it does not go with.
    #[error("--anatomy: {0}")]
    Anatomy(String),
    /// No such process.
    #[error("--server-pid {0}: there is no process of this number whose CPU time can be read")]
    ServerPid(u32),
    /// Too many connections for the limit on open files.
    #[error("--connections: {0}")]
    Files(EngineError),
    /// The flags are right, and an engine cannot run on this kernel.
    #[error(transparent)]
    Engine(EngineError),
}

/// Where a server is, from its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As typed.
    pub url: String,
    /// For the Host header.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub target: String,
    /// The first address of the host.
    pub address: SocketAddr,
    /// `tcp://`: no WebSocket, the server sends bytes back as they came (a floor to measure against).
    pub bare: bool,
}

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server; `None`: one of our own, in this process.
    pub endpoint: Option<Endpoint>,
    /// See [`Options::connections`].
    pub connections: u32,
    /// What the kernel's io_uring can do.
    pub probe: Probe,
    /// What does the generator's I/O.
    pub engine: Chosen,
    /// What does the I/O of the server of our own.
    pub server_engine: Chosen,
    /// A generator thread for each.
    pub cpus: Vec<usize>,
    /// A thread of the server of our own for each.
    pub server_cpus: Vec<usize>,
    /// See [`Options::server_pid`].
    pub server_pid: Option<u32>,
    /// See [`Options::payload`].
    pub payload_bytes: usize,
    /// See [`Options::text`].
    pub text: bool,
    /// See [`Options::duration`].
    pub duration: Duration,
    /// See [`Options::warmup`].
    pub warmup: Duration,
    /// See [`Options::drain_timeout`].
    pub drain_timeout: Duration,
    /// See [`Options::connect_rate`].
    pub connect_rate_per_s: Option<f64>,
    /// See [`Options::connect_timeout`].
    pub connect_timeout: Duration,
    /// Open or closed loop.
    pub mode: result::Mode,
    /// What the server is to stamp its answers with, see [`Options::anatomy`].
    pub stamps: Option<Layout>,
    /// See [`Options::seed`].
    pub seed: u64,
}

impl Options {
    /// Checks every flag, resolves the URL, raises the limit on open files, and chooses engines for the kernel probed.
    ///
    /// # Errors
    /// The first flag that is wrong, and what would be right.
    pub fn validate(&self, probe: &Probe) -> Result<Plan, OptionsError> {
        let number = |flag, value: &dyn ToString, holds: bool, rule| {
            let value = value.to_string();
            if holds { Ok(()) } else { Err(OptionsError::Number { flag, value, rule }) }
        };
        let cpus = self.generator_cpus()?;
        number("--threads", &cpus.len(), (1..=4096).contains(&cpus.len()), "has to be 1 to 4096")?;
        let connections = self.connections;
        number(
            "--connections",
            &connections,
            connections as usize >= cpus.len(),
            "has to be one a thread or more",
        )?;
        number(
            "--payload",
            &self.payload,
            self.payload.as_u64() <= limits::MESSAGE_BYTES,
            "has to be 64 MiB or less",
        )?;
        number("--pipeline", &self.pipeline, (1..=1 << 16).contains(&self.pipeline), "has to be 1 to 65536")?;
        let rate = self.rate.unwrap_or(DEFAULT_RATE_PER_S);
        let is_rate = |rate: f64| rate > 0.0 && rate <= 1e9;
        number("--rate", &rate, is_rate(rate), "has to be above 0, in messages a second")?;
        if let Some(rate) = self.connect_rate {
            number("--connect-rate", &rate, is_rate(rate), "has to be above 0, in connections a second")?;
        }
        let milliseconds = self.duration.as_secs_f64() * 1e3;
        let in_range = (1.0..=86_400_000.0 * 365.0).contains(&milliseconds);
        number("--duration", &format_args!("{:?}", self.duration), in_range, "has to be 1ms to a year")?;
        if let Some(process_id) = self.server_pid
            && cpu::used_ns(process_id, None).is_none()
        {
            return Err(OptionsError::ServerPid(process_id));
        }
        files::ensure(u64::from(connections) + OTHER_FILES).map_err(OptionsError::Files)?;
        let endpoint = self.url.as_deref().map(Endpoint::parse).transpose()?;
        let stamps = self.stamps(endpoint.as_ref())?;
        let choose = |choice: Choice, switches: &Switches| {
            choice.choose(probe, switches).map_err(OptionsError::Engine)
        };
        let mut engine = choose(self.engine, &self.uring_features)?;
        if self.kernel_timestamps {
            engine = engine.with_kernel_timestamps().map_err(OptionsError::Engine)?;
        }
        let mut server_engine = match (self.server_engine, &self.server_uring_features) {
            (None, None) => engine.clone(),
            (choice, switches) => {
                choose(choice.unwrap_or(self.engine), switches.as_ref().unwrap_or(&Switches::default()))?
            }
        };
        // Where only the generator's engine can, only the way back is split, and the report says so.
        let can_note = server_engine.kind == EngineKind::Epoll && !server_engine.kernel_timestamps;
        if self.kernel_timestamps && can_note {
            server_engine = server_engine.with_kernel_timestamps().map_err(OptionsError::Engine)?;
        }
        Ok(Plan {
            endpoint,
            connections,
            probe: probe.clone(),
            engine,
            server_engine,
            cpus,
            server_cpus: self.embedded_server_cpus()?,
            server_pid: self.server_pid,
            payload_bytes: self.payload.as_u64() as usize,
            text: self.text,
            duration: self.duration,
            warmup: self.warmup,
            drain_timeout: self.drain_timeout,
            connect_rate_per_s: self.connect_rate,
            connect_timeout: self.connect_timeout,
            mode: if self.closed_loop {
                result::Mode::ClosedLoop { pipeline: self.pipeline.into() }
            } else {
                result::Mode::OpenLoop { rate_per_s: rate, arrivals: self.arrivals.into() }
            },
            stamps,
            seed: self.seed,
        })
    }

    fn stamps(&self, endpoint: Option<&Endpoint>) -> Result<Option<Layout>, OptionsError> {
        if !self.anatomy {
            return Ok(None);
        }
        let refuse = |why: String| Err(OptionsError::Anatomy(why));
        let layout = if self.kernel_timestamps { Layout::WithArrival } else { Layout::Pair };
        if self.text {
            return refuse("stamps are no text: leave out --text".to_owned());
        }
        if endpoint.is_some_and(|endpoint| endpoint.bare) {
            return refuse("a tcp:// server sends bytes back as they came: measure a ws:// one".to_owned());
        }
        let least = layout.end();
        if self.payload.as_u64() < least as u64 {
            return refuse(format!(
                "stamps take messages of {least} B or more: --payload {least}, not {}",
                self.payload
            ));
        }
        Ok(Some(layout))
    }

    fn generator_cpus(&self) -> Result<Vec<usize>, OptionsError> {
        let flag = "--cpus";
        if let Some(list) = &self.cpus {
            cpu::check(list).map_err(|error| OptionsError::Cpus { flag, error })?;
        }
        let mut cpus = match &self.cpus {
            Some(list) => list.0.clone(),
            None => cpu::available().into_iter().rev().collect(),
        };
        let threads = self.threads.unwrap_or(if self.cpus.is_some() { cpus.len() } else { 1 });
        if self.cpus.is_none() {
            // The first is left to the server, where there is another.
            cpus.truncate(threads.min(cpus.len().saturating_sub(1)).max(1));
        }
        Ok(cpus.iter().copied().cycle().take(threads).collect())
    }

    fn embedded_server_cpus(&self) -> Result<Vec<usize>, OptionsError> {
        let flag = "--server-cpus";
        match &self.server_cpus {
            Some(list) => {
                cpu::check(list).map_err(|error| OptionsError::Cpus { flag, error })?;
                Ok(list.0.clone())
            }
            None => Ok(cpu::available().into_iter().take(1).collect()),
        }
    }
}

impl Endpoint {
    /// Reads `ws://host[:port][/path][?query]` and looks the host up.
    ///
    /// # Errors
    /// Not of this form, or the host is unknown.
    pub fn parse(url: &str) -> Result<Self, OptionsError> {
        let refuse = |rule| OptionsError::Url { url: url.to_owned(), rule };
        let form = "write ws://host:port/path, as ws://127.0.0.1:9001/";
        let uri: http::Uri = url.parse().map_err(|_| refuse(form))?;
        let bare = match uri.scheme_str() {
            Some("ws") => false,
            Some("tcp") => true,
            Some("wss" | "https") => return Err(refuse("TLS is not spoken yet: use ws://")),
            _ => return Err(refuse(form)),
        };
        let authority = uri.authority().ok_or_else(|| refuse(form))?;
        if authority.as_str().contains('@') {
            return Err(refuse("user names are not used by WebSocket: leave out what stands before the @"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None => 80,
            Some(port) => port.parse().map_err(|_| refuse("the port has to be a number from 1 to 65535"))?,
        };
        let resolve = |error| OptionsError::Resolve { host: format!("{host}:{port}"), error };
        let address = (host.as_str(), port).to_socket_addrs().map_err(resolve)?.next();
        let address = address.ok_or_else(|| resolve(std::io::ErrorKind::NotFound.into()))?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let target = if target.starts_with('/') { target } else { format!("/{target}") };
        Ok(Self { url: url.to_owned(), host, port, target, address, bare })
    }

    /// The server in this process.
    pub fn embedded(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => ip.to_string(),
        };
        let (port, target) = (address.port(), "/".to_owned());
        Self { url: format!("ws://{address}/"), host, port, target, address, bare: false }
    }
}

impl From<Arrivals> for result::Arrivals {
    fn from(arrivals: Arrivals) -> Self {
        match arrivals {
            Arrivals::Fixed => Self::Fixed,
            Arrivals::Poisson => Self::Poisson,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, target) in [
            ("ws://127.0.0.1:9001/echo?x=1", "127.0.0.1", 9001, "/echo?x=1"),
            ("ws://127.0.0.1", "127.0.0.1", 80, "/"),
            ("ws://[::1]:8080", "::1", 8080, "/"),
            ("ws://127.0.0.1:9001?x", "127.0.0.1", 9001, "/?x"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!(
                (endpoint.host.as_str(), endpoint.port, endpoint.target.as_str()),
                (host, port, target)
            );
        }
    }

    #[test]
    fn what_is_no_websocket_url_is_refused_with_the_mend() {
        for (url, mend) in [
            ("127.0.0.1:9001", "write ws://"),
            ("http://127.0.0.1/", "write ws://"),
            ("wss://127.0.0.1/", "use ws://"),
            ("ws://me@127.0.0.1/", "before the @"),
            ("ws://", "write ws://"),
            ("ws://127.0.0.1:99999/", "1 to 65535"),
            ("ws://127.0.0.1:abc/", "1 to 65535"),
            ("ws://127.0.0.1:/", "1 to 65535"),
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains(mend), "{url}: {error}");
        }
    }
}
