//! A server in a process of its own, attacked over each engine, and what must be as before afterwards.
//!
//! An attack is played until two times in a row leave no more memory behind than there was, so that what is merely warmed
//! up is told from what leaks: a leak grows every time. After each time an honest client that was there all along, and a new one, are
//! served; every connection and descriptor is given back; and the server's counts say what happened. In the end it goes with
//! exit code 0 and has nothing to complain about.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ringsock::engine::EngineKind;
use ringsock::ws::extensions::DeflateParameters;
use ringsock::ws::handshake::ClientHandshake;
use rustix::process::Signal;
use rustls::ClientConfig;

use crate::honest::{Honest, Working};
use crate::peer::{self, PATIENCE, Peer, Process, resident_bytes, tcp};
use crate::secure::{self, TLS12, TLS13};
use crate::wire::{Stream, tcp_from};

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-server");
/// How long all of a test may take over one engine.
const ATTACK: Duration = Duration::from_secs(240);
/// Descriptors that all attacks at once may take.
const DESCRIPTORS: u64 = 8192;
/// Memory that two times more may take without being a leak: pages that chance touches, some for each connection, and no
/// more than so many however many there are. So a leak shows that is a page for each of a few connections, a kilobyte for each
/// of 500, 80 bytes for each of 6,688. Where chance touched more, the attack is played again: only a leak does so each time.
const GROWTH_BYTES: u64 = 16 * 1024;
const GROWTH_BYTES_PER_CONNECTION: u64 = 4 * 1024;
const GROWTH_BYTES_MAX: u64 = 1 << 20;
/// Times that an attack is played before its memory counts as leaking.
const TIMES_MAX: usize = 20;

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Plain,
    Tls,
    /// Honest clients and those of [`Bed::open`] offer compression.
    Deflate,
}

pub(crate) const PLAIN_AND_TLS: &[Way] = &[Way::Plain, Way::Tls];
pub(crate) const EVERY_WAY: &[Way] = &[Way::Plain, Way::Tls, Way::Deflate];

/// Flags of a server that soon finds whose end it was not told of, and counts a timeout then.
pub(crate) const FINDING: &[&str] =
    &["--handshake-timeout", "3s", "--ping-interval", "30s", "--close-timeout", "2s"];

/// Counts that an attack must have raised, and by how much; all other counts of [`TROUBLE`] must stand still.
pub(crate) type Expected = Vec<(&'static str, RangeInclusive<u64>)>;

/// What a server counts that nobody does who behaves.
const TROUBLE: [&str; 7] =
    ["rejected", "faults", "timeouts", "tls_not_tls", "tls_failures", "tls_timeouts", "tls_faults"];

/// A server under attack.
pub(crate) struct Bed {
    pub(crate) way: Way,
    pub(crate) address: SocketAddr,
    process: Mutex<Process>,
    id: u32,
    configs: Option<[Arc<ClientConfig>; 2]>,
    connects: AtomicU64,
}

/// What a server has counted, by its own words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Of a line of `--stats`: `7 faults` in its words, `tls_faults 7` by name.
    fn parse(line: &str) -> Self {
        let counted = |part: &str| {
            let (first, last) = (part.trim().split_once(' ')?, part.trim().rsplit_once(' ')?);
            let in_words = first.0.parse().ok().map(|count| (first.1.to_owned(), count));
            in_words.or_else(|| Some((last.0.to_owned(), last.1.parse().ok()?)))
        };
        Self(line.split([',', '|', ':']).filter_map(counted).collect())
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Plays an attack against a server with these flags, over each engine and each of these ways, all of them at once.
pub(crate) fn hold(ways: &[Way], flags: &'static [&'static str], attack: fn(&Bed) -> Expected) {
    // Its crowds are of this process.
    ringsock::engine::files::raise_towards(DESCRIPTORS);
    let mut started = Vec::new();
    for (index, (engine, way)) in
        EngineKind::ALL.iter().flat_map(|&engine| ways.iter().map(move |&way| (engine, way))).enumerate()
    {
        let name = format!("{}, {way:?}", engine.name());
        let (done, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let bed = Bed::start(engine, way, flags, index);
            bed.stand(attack);
            let _ = done.send(());
        });
        started.push((name, thread.expect("a thread"), ended));
    }
    let mut failed = Vec::new();
    let deadline = Instant::now() + ATTACK;
    for (name, thread, ended) in started {
        match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => failed.push(format!("{name} (no end)")),
            // Its own message stands above.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                thread.join().expect_err("it hung up without an end");
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "over {}", failed.join("; over "));
}

/// Whether the last two times together left no more than so much more: than the one before them, and than the first of them,
/// for memory that happened to be given back before would hide a leak.
fn is_steady(left: &[u64], growth_bytes: u64) -> bool {
    let &[.., before, first, last] = left else { return false };
    last <= before.min(first) + growth_bytes
}

#[test]
fn memory_that_grows_with_each_attack_is_not_steady() {
    let leaking = |each: u64| (0..20).map(|time| (10 << 20) + time * each).collect::<Vec<_>>();
    for times in 3..20 {
        let a_few = GROWTH_BYTES + 4 * GROWTH_BYTES_PER_CONNECTION;
        assert!(!is_steady(&leaking(4 * 8 * 1024)[..times], a_few), "8 KiB for each of 4 connections");
        assert!(!is_steady(&leaking(500 * 1100)[..times], GROWTH_BYTES_MAX), "1100 bytes for each of 500");
        assert!(is_steady(&leaking(0)[..times], 0));
    }
    assert!(!is_steady(&[9, 9], 9), "two times show no trend");
    assert!(!is_steady(&[50, 20, 40], 10), "what was given back before hides nothing");
    assert!(is_steady(&[50, 60, 55], 10), "what only warmed up is no leak");
}

impl Bed {
    fn start(engine: EngineKind, way: Way, given: &[&str], index: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("certificate.pem");
        let cpus = ringsock::cpu::available();
        let cpu = cpus[index % cpus.len()].to_string();
        // 4 MiB of receive buffers, small outboxes: what is bounded is soon full.
        let ours = ["--threads", "1", "--stats", "50ms", "--max-connections", "1000", "--buffers", "64"];
        let ours =
            [&ours[..], &["--max-message", "1MiB", "--max-queued", "256KiB", "--scenarios", "all"]].concat();
        let mut flags = vec!["--engine", engine.name(), "--cpus", &cpu];
        flags.extend(ours.chunks(2).filter(|pair| !given.contains(&pair[0])).flatten());
        // Those about TLS are refused without it.
        let is_for_way = |pair: &&[&str]| way == Way::Tls || !pair[0].contains("-tls-");
        flags.extend(given.chunks(2).filter(is_for_way).flatten());
        match way {
            Way::Plain => {}
            Way::Tls => flags.extend(["--tls-self-signed", "--tls-save-cert", certificate.to_str().unwrap()]),
            Way::Deflate => flags.push("--deflate"),
        }
        let (process, address) = peer::server(BINARY, &flags);
        let configs = (way == Way::Tls).then(|| {
            let roots = secure::roots(&certificate);
            [TLS13, TLS12].map(|suite| secure::config(roots.clone(), vec![suite]))
        });
        let id = process.id();
        Self { way, address, process: Mutex::new(process), id, configs, connects: AtomicU64::new(0) }
    }

    /// Attacks it, again and again, and sees that nothing is left of it.
    fn stand(self, attack: fn(&Bed) -> Expected) {
        let honest = Working::start(self.honest());
        honest.expect_more();
        // What was left behind by each time.
        let mut left: Vec<u64> = Vec::new();
        loop {
            let (before, files) = (self.settled(), self.files());
            let connects = self.connects.load(Ordering::Relaxed);
            let expected = attack(&self);
            let after = self.settled();
            self.compare(&before, &after, &expected);
            honest.expect_more();
            let mut another = self.honest();
            (0..5).for_each(|_| another.echo());
            another.leave();
            self.settled();
            self.until("its descriptors are given back", |bed| bed.files() == files);
            left.push(self.resident_bytes());
            let connections = self.connects.load(Ordering::Relaxed) - connects;
            let growth_bytes = GROWTH_BYTES + GROWTH_BYTES_PER_CONNECTION * connections;
            if is_steady(&left, growth_bytes.min(GROWTH_BYTES_MAX)) {
                break;
            }
            assert!(left.len() < TIMES_MAX, "each time it has more memory: {left:?}");
        }
        self.end(honest);
    }

    /// SIGTERM ends it well: the last client is told, and nothing is complained about.
    fn end(self, honest: Working) {
        let honest = honest.end();
        let mut process = self.process.into_inner().unwrap();
        process.signal(Signal::TERM);
        honest.expect_going_away();
        let (status, _, errors) = process.end();
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
    }

    // ---- connections ----

    /// A TCP connection, whatever is spoken there.
    pub(crate) fn tcp(&self) -> TcpStream {
        self.connects.fetch_add(1, Ordering::Relaxed);
        tcp(self.address)
    }

    /// The same, from another address of this machine.
    pub(crate) fn tcp_from(&self, source: [u8; 4]) -> TcpStream {
        self.connects.fetch_add(1, Ordering::Relaxed);
        tcp_from(source, self.address)
    }

    /// A connection that has been made by another program.
    pub(crate) fn count_connection(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection, secured where that is the way; nothing has been said on it.
    pub(crate) fn connect(&self) -> Stream {
        self.secure(self.tcp())
    }

    pub(crate) fn secure(&self, stream: TcpStream) -> Stream {
        let Some([config, _]) = &self.configs else { return Stream::Plain(stream) };
        let mut secured = secure::secured(Arc::clone(config), stream);
        secured.conn.complete_io(&mut secured.sock).unwrap();
        Stream::Secured(Box::new(secured))
    }

    /// A client of TLS 1.3, or 1.2.
    pub(crate) fn config(&self, version: usize) -> Arc<ClientConfig> {
        let [tls13, tls12] = self.configs.as_ref().expect("a server with TLS");
        Arc::clone(if version == 12 { tls12 } else { tls13 })
    }

    /// An opening handshake; it offers compression where that is the way.
    pub(crate) fn handshake(&self) -> ClientHandshake {
        let handshake = peer::handshake(self.address, "/");
        match self.way {
            Way::Plain | Way::Tls => handshake,
            Way::Deflate => handshake.offering_deflate(DeflateParameters {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                server_max_window_bits: 15,
                client_max_window_bits: 15,
            }),
        }
    }

    /// A connection that speaks WebSocket.
    pub(crate) fn open(&self) -> Peer<Stream> {
        self.upgrade(self.connect())
    }

    /// The same, at another path, where nothing is compressed.
    pub(crate) fn open_at(&self, target: &str) -> Peer<Stream> {
        let handshake = peer::handshake(self.address, target);
        let mut stream = self.connect();
        stream.write_all(&handshake.request()).unwrap();
        Peer::after_handshake(stream, handshake)
    }

    pub(crate) fn upgrade(&self, mut stream: Stream) -> Peer<Stream> {
        let handshake = self.handshake();
        stream.write_all(&handshake.request()).unwrap();
        Peer::after_handshake(stream, handshake)
    }

    pub(crate) fn honest(&self) -> Honest {
        Honest::new(self.open(), self.way)
    }

    // ---- what it counts and holds ----

    /// Its latest counts.
    pub(crate) fn counts(&self) -> Counts {
        let process = self.process.lock().unwrap();
        let mut line = process.line();
        while let Ok(later) = process.lines.try_recv() {
            line = later;
        }
        Counts::parse(&line)
    }

    /// Waits for it to hold.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + 2 * PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not in time: {what}; {:?}", self.counts());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until every connection that was made has been accepted and is gone, but the honest client's; the counts then.
    pub(crate) fn settled(&self) -> Counts {
        let (made, deadline) = (self.connects.load(Ordering::Relaxed), Instant::now() + 3 * PATIENCE);
        loop {
            let is_settled =
                |counts: &Counts| (counts.get("accepted"), counts.get("connections")) == (made, 1);
            let counts = self.counts();
            if is_settled(&counts) {
                // That line may be of a moment ago, when nothing had begun; the next one is not.
                let counts = self.counts();
                if is_settled(&counts) {
                    return counts;
                }
            }
            assert!(Instant::now() < deadline, "{made} connections were made: {counts:?}");
        }
    }

    fn compare(&self, before: &Counts, after: &Counts, expected: &Expected) {
        let rise = |name: &str| after.get(name) - before.get(name);
        let wrong = |(name, range): &(&'static str, RangeInclusive<u64>)| {
            let rise = rise(name);
            (!range.contains(&rise)).then(|| format!("{name}: {rise} more, not {range:?}"))
        };
        let quiet = TROUBLE.iter().filter(|&&name| expected.iter().all(|(other, _)| *other != name));
        let all: Expected = quiet.map(|&name| (name, 0..=0)).chain(expected.iter().cloned()).collect();
        let wrong: Vec<_> = all.iter().filter_map(wrong).collect();
        assert!(wrong.is_empty(), "{}; {after:?}", wrong.join(", "));
    }

    /// Its open descriptors, and the sockets among io_uring's direct ones, where the kernel shows these.
    fn files(&self) -> [usize; 2] {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.id)).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let direct = |name: &String| {
            let info =
                std::fs::read_to_string(format!("/proc/{}/fdinfo/{name}", self.id)).unwrap_or_default();
            info.matches(": socket:[").count()
        };
        [names.len(), names.iter().map(direct).sum()]
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(self.id)
    }
}
