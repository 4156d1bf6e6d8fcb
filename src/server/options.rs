//! The server's flags: as typed, then validated.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::admin::About;
use super::deflate::DeflateOptions;
use super::room::{self, RoomError};
use super::tls_flags::{TlsFlags, TlsPlan};
use crate::cpu::{self, CpuError, CpuList};
use crate::engine::uring::Switches;
use crate::engine::{Choice, Chosen, Config, EngineError, Faults, Probe, clock_ns};
use crate::limits;
use crate::scenario::deflate::DeflateSettings;
use crate::scenario::serve::{
    AllowedOrigins, Bounds, Limits, Origin, Shared, SlowConsumer, Subprotocol, Terms, Timeouts,
};
use crate::scenario::trace::Numbers;
use crate::scenario::{SCENARIOS, at_path};
use crate::tls::IdentityError;

/// The groups of `--help`.
const MACHINE: &str = "Engine and CPUs";
const HANDSHAKE: &str = "Opening handshake";
const LIMITS: &str = "Limits";
const TELLING: &str = "Counters and live page";
const COMPRESSION: &str = "Compression";
const TLS: &str = "TLS";

/// What becomes of a subscriber for whom too much waits, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SlowPolicy {
    /// It misses what comes until some of that has gone; counted as slow_dropped
    DropNewest,
    /// It is closed with 1008; counted as slow_closed
    Close,
    /// Those who publish are not read from until all of that has gone; counted as slow_blocked
    Block,
}

impl From<SlowPolicy> for SlowConsumer {
    fn from(policy: SlowPolicy) -> Self {
        match policy {
            SlowPolicy::DropNewest => Self::DropNewest,
            SlowPolicy::Close => Self::Close,
            SlowPolicy::Block => Self::Block,
        }
    }
}

/// Scenarios that are played besides the echo, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedScenarios(Vec<&'static str>);

impl ServedScenarios {
    /// All there are.
    pub fn all() -> Self {
        Self(Self::names().collect())
    }

    /// Those that have paths of their own, and the echo.
    fn names() -> impl Iterator<Item = &'static str> {
        SCENARIOS
            .iter()
            .filter(|row| {
                at_path(&row.paths[0].replace("NAME", "x")).is_some_and(|(first, _)| first.name == row.name)
            })
            .map(|row| row.name)
    }
}

impl FromStr for ServedScenarios {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        if list == "all" {
            return Ok(Self::all());
        }
        let known = |name: &str| {
            let found = Self::names().find(|&own| own == name);
            found.ok_or_else(|| {
                let all: Vec<_> = Self::names().collect();
                format!("no scenario is called {name:?}: write all, or some of {}", all.join(","))
            })
        };
        list.split(',').map(known).collect::<Result<_, _>>().map(Self)
    }
}

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Address and port to listen on, as 127.0.0.1:9001, [::1]:9001 or [::]:9001 (IPv6 and IPv4); port 0 takes
    /// a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,

    /// I/O engine; auto takes the best that this kernel runs, and says which and why
    #[arg(help_heading = MACHINE, long, value_name = "NAME", default_value = "auto", value_parser = engine_parser())]
    pub engine: Choice,

    /// Features of io_uring to switch off or on for the engine uring, as -multishot-recv,+zero-copy=64KiB. On where the
    /// kernel has them: multishot-accept, multishot-recv, buffer-ring, direct-descriptors, single-issuer, defer-taskrun,
    /// registered-ring, skipped-completions. Off: sqpoll[=CPU], napi[=TIME], zero-copy[=SIZE], bundles
    #[arg(help_heading = MACHINE, long,
        value_name = "LIST",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub uring_features: Switches,

    /// Threads, each with its own ring, listener and connections [default: one for each of --cpus, else one
    /// for each CPU this process may use]. More threads than CPUs hold more connections over the engine uring, as each has a
    /// table of descriptors of its own: see --max-connections
    #[arg(help_heading = MACHINE, long, value_name = "COUNT")]
    pub threads: Option<usize>,

    /// CPUs to bind the threads to, in turn, as 0,2-3 [default: those this process may use]
    #[arg(help_heading = MACHINE, long, value_name = "LIST")]
    pub cpus: Option<CpuList>,

    /// Longest message that is taken; a longer one closes its connection with 1009
    #[arg(help_heading = LIMITS, long, value_name = "SIZE", default_value = "64MiB")]
    pub max_message: ByteSize,

    /// Fragments of one message, empty ones too; more close its connection with 1008. 0: any number. No message is held
    /// together here, so what this bounds is work without an end, not memory
    #[arg(help_heading = LIMITS, long, value_name = "COUNT", default_value_t = limits::FRAGMENTS)]
    pub max_fragments: u32,

    /// Pings and pongs that a client may send a second, and as many at once after a second without; more close its
    /// connection with 1008. 0: any number. The default is beyond what a client reaches that waits for each answer, over
    /// loopback too; take 0 to measure pings with many in flight, which cost what small messages do
    #[arg(help_heading = LIMITS, long, value_name = "COUNT", default_value_t = limits::CONTROL_FRAMES_PER_S)]
    pub max_control_rate: u32,

    /// Connections at a time; further ones are answered 503, or under TLS closed before their handshake [default: what the limit on open files allows, at
    /// most 65536]. Over the engine uring (without --ktls) the limit holds for each thread by itself: more are spread over
    /// --threads, where it cannot be raised
    #[arg(help_heading = LIMITS, long, value_name = "COUNT")]
    pub max_connections: Option<u32>,

    /// Connections at a time from one address (IPv6: from one /64); as many again are answered 429, or under TLS closed before
    /// their handshake, further ones dropped
    /// [default: any number, as the load of a benchmark comes from one address; set it where strangers can connect]
    #[arg(help_heading = LIMITS, long, value_name = "COUNT")]
    pub max_connections_per_address: Option<u32>,

    /// Longest head of an opening handshake that is taken; a longer one is answered 431
    #[arg(help_heading = LIMITS, long, value_name = "SIZE", default_value = "8KiB")]
    pub max_head: ByteSize,

    /// Header lines that the head of an opening handshake may have; with more, it is answered 431
    #[arg(help_heading = LIMITS, long, value_name = "COUNT", default_value_t = limits::HANDSHAKE_HEADERS)]
    pub max_headers: usize,

    /// A subprotocol that is spoken; may be given several times, or several with commas between. Of those that a client
    /// offers, in the order that it likes them, the first of these is chosen; where there is none, the connection has none
    #[arg(help_heading = HANDSHAKE, long, value_name = "NAME", value_delimiter = ',')]
    pub subprotocol: Vec<Subprotocol>,

    /// An origin whose pages may connect, as https://example.com or null; may be given several times, or several with commas
    /// between. Other pages are answered 403. A request without Origin is let in: browsers always send one for a page, and
    /// other clients could write there what they like [default: any, as an echo has no secrets]
    #[arg(help_heading = HANDSHAKE, long, value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<Origin>,

    /// How long a client may take over its opening handshake; 0s: for ever
    #[arg(help_heading = LIMITS, long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub handshake_timeout: Duration,

    /// Close connections that were silent for this long; 0s: never, as silence is legal, and clients that are idle are
    /// measured too. What a silent one costs is its place among --max-connections; --ping-interval finds those that are gone
    #[arg(help_heading = LIMITS, long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub idle_timeout: Duration,

    /// Ping connections that were silent for this long, and drop them after as long again: so peers that vanished are found.
    /// 0s: never
    #[arg(help_heading = LIMITS, long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub ping_interval: Duration,

    /// How long a closing handshake may take, and the drain after a signal; 0s: not at all
    #[arg(help_heading = LIMITS, long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub close_timeout: Duration,

    /// Drop connections of clients that stop in the middle of a frame, or take nothing of what waits for them, for this
    /// long; 0s: never
    #[arg(help_heading = LIMITS, long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub stall_timeout: Duration,

    /// Bytes that one receive can take; larger messages stream through in pieces
    #[arg(help_heading = MACHINE, long, value_name = "SIZE", default_value = "65600B")]
    pub buffer_size: ByteSize,

    /// Receive buffers per thread of the engine uring, a power of two; only those that the load needs are touched
    #[arg(help_heading = MACHINE, long, value_name = "COUNT", default_value_t = limits::RECV_BUFFERS)]
    pub buffers: u16,

    /// Submission queue entries per ring (engines uring and tokio-uring), a power of two
    #[arg(help_heading = MACHINE, long, value_name = "COUNT", default_value_t = limits::SQ_ENTRIES)]
    pub sq_entries: u32,

    /// Completion queue entries per ring (engines uring and tokio-uring), a power of two
    #[arg(help_heading = MACHINE, long, value_name = "COUNT", default_value_t = limits::CQ_ENTRIES)]
    pub cq_entries: u32,

    /// Bytes that may wait for a client which does not read, before we stop reading from it
    #[arg(help_heading = LIMITS, long, value_name = "SIZE", default_value = "1MiB")]
    pub max_queued: ByteSize,

    /// Bytes that may wait for all clients that do not read together, shared out evenly over the threads; beyond, each of
    /// them is no longer read from until it has taken what waits for it. The answer to one receive may be waiting for each on
    /// top (with --deflate up to --max-queued). Clients that read are served as ever. What compressed clients sent ahead of being
    /// inflated counts too; who would have more of that wait is closed with 1013. 0B: any number
    #[arg(help_heading = LIMITS, long, value_name = "SIZE", default_value = "1GiB")]
    pub max_queued_in_all: ByteSize,

    /// Which scenarios clients may ask for besides the echo, by name, as json,push; or all. What they take is at the client's
    /// choice: work computes for as long as it says. --list-scenarios describes them
    #[arg(help_heading = LIMITS, long, value_name = "NAMES", default_value = "echo")]
    pub scenarios: ServedScenarios,

    /// What becomes of a client that others' messages are sent to (/broadcast, /room/NAME, /json), when more than --max-queued waits
    /// for it
    #[arg(help_heading = LIMITS, long, value_name = "POLICY", value_enum, default_value_t = SlowPolicy::Close)]
    pub slow_consumer: SlowPolicy,

    /// Note when the kernel received each message (engine epoll), for clients that ask: ringsock-load --anatomy
    /// --kernel-timestamps
    #[arg(help_heading = MACHINE, long)]
    pub kernel_timestamps: bool,

    /// Write a line to standard error for each frame, both ways, for what opens a connection and for what fails it: seconds since
    /// the start, the connection's number, <- for what came and -> for what is sent, then the frame. For debugging clients: it
    /// takes time
    #[arg(long)]
    pub trace_frames: bool,

    /// Where plain HTTP is answered: GET /metrics (Prometheus), /stats (JSON), /healthz (503 once the server is ending), and / (a
    /// live page for browsers; asked to upgrade, it is the echo). here: on the address of --listen, whose listener is gone once the server
    /// is ending; ADDRESS: on that one alone, by one more thread, which answers until the last connection of the others is gone and
    /// echoes for its own page; none: nowhere. Whoever can reach it can read it; --tls-cert and --allow-origin hold there too
    #[arg(help_heading = TELLING, long, value_name = "here|ADDRESS|none", default_value = "here")]
    pub admin: Admin,

    /// See there.
    #[command(flatten, next_help_heading = COMPRESSION)]
    pub deflate: DeflateOptions,

    /// With --deflate: memory that compression may keep for all clients together. What a client's windows take is set aside when it
    /// connects, 422 KiB by default; once three quarters are, it is agreed that neither end keeps its window. Such a client has
    /// memory only while a message has come in part: where there is no room for that, its messages are answered uncompressed,
    /// and if they are compressed themselves, it is closed with 1013. 0B: any number
    #[arg(help_heading = COMPRESSION, long, value_name = "SIZE", default_value = "1GiB", requires = "deflate")]
    pub max_deflate_memory: ByteSize,

    /// Send bytes back as they came, without WebSocket: the floor to measure against
    #[arg(long, hide = true)]
    pub bare: bool,

    /// What is spoken below WebSocket.
    #[command(flatten, next_help_heading = TLS)]
    pub tls: TlsFlags,
}

/// Where a server answers plain HTTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Admin {
    /// Where it speaks WebSocket.
    #[default]
    Here,
    /// At an address of its own.
    At(SocketAddr),
    /// Nowhere.
    None,
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "here" => Ok(Self::Here),
            "none" => Ok(Self::None),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|_| "write an address and port, as 127.0.0.1:9100, or here, or none".to_owned()),
        }
    }
}

/// Reads an engine's name; the names are part of the help.
pub fn engine_parser() -> impl TypedValueParser<Value = Choice> {
    PossibleValuesParser::new(Choice::names()).try_map(|name| name.parse())
}

/// Why flags were refused.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// About `--cpus`.
    #[error("--cpus: {0}")]
    Cpus(#[from] CpuError),
    /// A number outside its bounds.
    #[error("{flag} {value}: {rule}")]
    Number {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: u64,
        /// What would be right.
        rule: &'static str,
    },
    /// About TLS.
    #[error(transparent)]
    Tls(#[from] IdentityError),
    /// `--ktls` without a certificate.
    #[error(
        "--ktls: there is no TLS to be handed over: it goes with --tls-cert and --tls-key, or --tls-self-signed"
    )]
    KtlsWithoutTls,
    /// About `--max-connections`.
    #[error("--max-connections: {0}")]
    Room(RoomError),
    /// The flags are right, and the engine cannot run on this kernel.
    #[error(transparent)]
    Engine(EngineError),
}

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What does the I/O.
    pub engine: Chosen,
    /// A thread for each, bound to it.
    pub cpus: Vec<usize>,
    /// What to put up with.
    pub limits: Limits,
    /// What requests have to be like, and may ask for.
    pub terms: Terms,
    /// Frames are traced, as [`Options::trace_frames`] says.
    pub trace: Option<Numbers>,
    /// Where plain HTTP is answered.
    pub admin: Admin,
    /// Echo bytes instead of messages.
    pub bare: bool,
    /// Compression, if it is agreed to.
    pub deflate: Option<DeflateSettings>,
    /// See [`Options::max_deflate_memory`].
    pub deflate_bytes_in_all: usize,
    /// How connections are secured, if they are.
    pub tls: Option<TlsPlan>,
    /// Connections that a thread has slots for.
    pub slots: u32,
    /// See [`Options::buffer_size`].
    pub recv_buffer_bytes: usize,
    /// See [`Options::buffers`].
    pub recv_buffers: u16,
    /// See [`Options::sq_entries`].
    pub sq_entries: u32,
    /// See [`Options::cq_entries`].
    pub cq_entries: u32,
    /// See [`Options::max_queued`].
    pub outbox_bytes: usize,
    /// A thread's share of [`Options::max_queued_in_all`].
    pub outbox_bytes_in_all: usize,
}

impl Plan {
    /// The engine's share of the plan, but for its listener.
    pub fn engine_config(&self) -> Config {
        Config {
            listener: None,
            connections_max: self.slots,
            recv_buffer_bytes: self.recv_buffer_bytes
                + self.tls.as_ref().map_or(0, |_| limits::TLS_OVERHEAD_BYTES),
            recv_buffers: self.recv_buffers,
            sq_entries: self.sq_entries,
            cq_entries: self.cq_entries,
            outbox_bytes: self.outbox_bytes,
            outbox_bytes_in_all: self.outbox_bytes_in_all,
            peer_addresses: self.limits.connections_per_address.is_some(),
            uring: self.engine.uring.clone(),
            kernel_timestamps: self.engine.kernel_timestamps,
            kernel_tls: self.engine.kernel_tls,
            faults: Faults::default(),
        }
    }

    /// What a server of this plan, begun at `started_ns`, tells of itself.
    pub(super) fn about(&self, started_ns: u64, shared: Arc<Shared>) -> About {
        let bound = self.cpus.iter().enumerate().map(|(index, &cpu)| (format!("server-{index}"), Some(cpu)));
        let admins = matches!(self.admin, Admin::At(_)).then(|| ("server-admin".to_owned(), None));
        About {
            engine: self.engine.kind.name(),
            features: self.engine.features.clone(),
            tls: self.tls.is_some(),
            deflate: self.deflate.is_some(),
            subprotocols: self.terms.subprotocols.iter().map(ToString::to_string).collect(),
            connections_max: self.limits.connections as u64,
            threads: bound.chain(admins).collect(),
            started_ns,
            shared,
        }
    }
}

fn check(flag: &'static str, value: u64, holds: bool, rule: &'static str) -> Result<(), OptionsError> {
    if holds { Ok(()) } else { Err(OptionsError::Number { flag, value, rule }) }
}

impl Options {
    /// Checks every flag, raises the limit on open files, and chooses the engine for the kernel probed.
    ///
    /// # Errors
    /// The first flag that is wrong, and what would be right.
    pub fn validate(&self, probe: &Probe) -> Result<Plan, OptionsError> {
        if let Some(list) = &self.cpus {
            cpu::check(list)?;
        }
        let cpus = self.cpus.as_ref().map_or_else(cpu::available, |list| list.0.clone());
        let threads = self.threads.unwrap_or(cpus.len());
        check("--threads", threads as u64, (1..=limits::THREADS).contains(&threads), "has to be 1 to 4096")?;
        self.check_sizes()?;
        let connections_max = self.max_connections.unwrap_or(1);
        check("--max-connections", connections_max.into(), connections_max > 0, "has to be 1 or more")?;
        let mut engine = self.engine.choose(probe, &self.uring_features).map_err(OptionsError::Engine)?;
        if self.kernel_timestamps {
            engine = engine.with_kernel_timestamps().map_err(OptionsError::Engine)?;
        }
        if self.max_connections_per_address.is_some() {
            engine = engine.with_peer_addresses();
        }
        let mut tls = self.tls.validate(self.listen.ip())?;
        let engine = self.tls.engine(engine, probe, tls.as_mut())?;
        let room = room::make(
            self.max_connections,
            threads,
            engine.has_direct_descriptors(),
            matches!(self.admin, Admin::At(_)),
        );
        let room = room.map_err(OptionsError::Room)?;
        let nanoseconds =
            |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4);
        let unless_zero = |time: Duration| Some(nanoseconds(time)).filter(|&ns| ns != 0);
        let outbox_bytes_in_all = match self.max_queued_in_all.as_u64() {
            0 => usize::MAX,
            in_all => (in_all as usize / threads).max(1),
        };
        let limits = Limits {
            head_bytes: self.max_head.as_u64() as usize,
            message_bytes: self.max_message.as_u64(),
            bounds: Bounds { fragments: self.max_fragments, control_frames_per_s: self.max_control_rate },
            connections: room.connections as usize,
            connections_of_thread: room.connections_of_thread() as usize,
            connections_per_address: self.max_connections_per_address,
            queued_bytes: self.max_queued.as_u64() as usize,
            slow_consumer: self.slow_consumer.into(),
            queued_bytes_in_all: outbox_bytes_in_all,
            handshake_ns: unless_zero(self.handshake_timeout).unwrap_or(u64::MAX / 4),
            close_ns: nanoseconds(self.close_timeout),
            stall_ns: unless_zero(self.stall_timeout),
            timeouts: Timeouts {
                idle_ns: unless_zero(self.idle_timeout),
                ping_ns: unless_zero(self.ping_interval),
                close_ns: Some(nanoseconds(self.close_timeout)),
            },
        };
        Ok(Plan {
            listen: self.listen,
            engine,
            cpus: cpus.iter().copied().cycle().take(threads).collect(),
            limits,
            terms: Terms {
                headers_max: self.max_headers,
                subprotocols: self.subprotocol.clone(),
                origins: AllowedOrigins::new(self.allow_origin.clone()),
                scenarios: self.scenarios.0.clone(),
            },
            trace: self.trace_frames.then(|| Numbers::new(clock_ns())),
            admin: if self.bare { Admin::None } else { self.admin },
            bare: self.bare,
            deflate: self.deflate.settings(),
            deflate_bytes_in_all: match self.max_deflate_memory.as_u64() {
                0 => usize::MAX,
                in_all => in_all as usize,
            },
            tls,
            slots: room.slots,
            recv_buffer_bytes: self.buffer_size.as_u64() as usize,
            recv_buffers: self.buffers,
            sq_entries: self.sq_entries,
            cq_entries: self.cq_entries,
            outbox_bytes: self.max_queued.as_u64() as usize,
            outbox_bytes_in_all,
        })
    }

    fn check_sizes(&self) -> Result<(), OptionsError> {
        let message = self.max_message.as_u64();
        check("--max-message", message, message > 0, "has to be 1 byte or more")?;
        let per_address = self.max_connections_per_address.unwrap_or(1);
        check("--max-connections-per-address", per_address.into(), per_address > 0, "has to be 1 or more")?;
        let (least, most) = limits::HANDSHAKE_HEAD_BYTES_RANGE;
        let head = self.max_head.as_u64();
        let head_holds = (least as u64..=most as u64).contains(&head);
        check("--max-head", head, head_holds, "has to be 256 B to 1 MiB")?;
        let (least, most) = limits::HANDSHAKE_HEADERS_RANGE;
        let headers_hold = (least..=most).contains(&self.max_headers);
        check("--max-headers", self.max_headers as u64, headers_hold, "has to be 5 to 1024")?;
        let (least, most) = limits::RECV_BUFFER_BYTES_RANGE;
        let size = self.buffer_size.as_u64();
        check(
            "--buffer-size",
            size,
            (least as u64..=most as u64).contains(&size),
            "has to be 64 B to 16 MiB",
        )?;
        let buffers_hold = self.buffers.is_power_of_two() && self.buffers <= limits::RECV_BUFFERS_MAX;
        check("--buffers", self.buffers.into(), buffers_hold, "has to be a power of two up to 32768")?;
        let sq_holds = self.sq_entries.is_power_of_two() && self.sq_entries <= limits::SQ_ENTRIES_MAX;
        check("--sq-entries", self.sq_entries.into(), sq_holds, "has to be a power of two up to 32768")?;
        let cq = self.cq_entries;
        let cq_holds = cq.is_power_of_two() && cq >= self.sq_entries && cq <= 2 * limits::SQ_ENTRIES_MAX;
        check("--cq-entries", cq.into(), cq_holds, "has to be a power of two, from --sq-entries to 65536")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn the_flags_defaults_are_the_limits() {
        let options = Flags::parse_from(["server"]).options;
        assert_eq!(options.buffer_size.as_u64(), limits::RECV_BUFFER_BYTES as u64);
        assert_eq!(options.max_queued.as_u64(), limits::OUTBOX_BYTES as u64);
        assert_eq!(options.max_message.as_u64(), limits::MESSAGE_BYTES);
        assert_eq!(options.max_queued_in_all.as_u64(), limits::OUTBOX_BYTES_IN_ALL);
        assert_eq!(options.max_deflate_memory.as_u64(), limits::DEFLATE_BYTES_IN_ALL);
        assert_eq!(options.max_head.as_u64(), limits::HANDSHAKE_HEAD_BYTES as u64);
        assert_eq!(options.max_headers, limits::HANDSHAKE_HEADERS);
    }
}
