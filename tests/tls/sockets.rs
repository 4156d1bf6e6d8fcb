//! TLS on real sockets over each engine; the other end is rustls with its own record layer, blocking.
//!
//! Each conversation is held twice over engines that hand connections to the kernel's TLS: with this process opening and sealing
//! records, and with the kernel doing it, where it can. Where it has to, so that these cannot be left out unseen, the variable
//! `RINGSOCK_KTLS` says `require`: `bench-scripts/tests/ktls` does, in kernels that can.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use ringsock::engine::{EngineKind, Probe, TlsCounters, ktls};
use ringsock::server;
use ringsock::ws::frame::{Opcode, Role, parse};
use ringsock::ws::handshake::ClientHandshake;
use rustls::crypto::ring;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedCipherSuite};

use super::peer::{PATIENCE, frame, request, tcp};
use super::secure::{self, Secured, TLS12, TLS13};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: server::Options,
}

/// What a server does its work with.
#[derive(Clone, Copy)]
struct Way {
    engine: EngineKind,
    /// The kernel opens and seals records.
    kernel: bool,
}

/// A server with a certificate of its own.
struct Running {
    server: server::Server,
    address: SocketAddr,
    roots: RootCertStore,
}

impl Running {
    fn start(way: Way, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("certificate.pem");
        let mut flags =
            vec!["server", "--listen", "127.0.0.1:0", "--threads", "1", "--max-connections", "100"];
        flags.extend(["--engine", way.engine.name(), "--tls-self-signed", "--tls-save-cert"]);
        flags.push(saved.to_str().unwrap());
        flags.extend(more);
        flags.extend(way.kernel.then_some("--ktls"));
        let plan = Flags::parse_from(flags).server.validate(&Probe::of_this_kernel()).unwrap();
        Self::of(&plan, &saved)
    }

    fn of(plan: &server::Plan, saved: &Path) -> Self {
        let server = server::Server::start(plan).unwrap();
        Self { address: server.address(), server, roots: secure::roots(saved) }
    }

    /// A client that trusts it, and can do so much.
    fn config(&self, cipher_suites: Vec<SupportedCipherSuite>) -> Arc<ClientConfig> {
        secure::config(self.roots.clone(), cipher_suites)
    }

    fn open(&self) -> Wss {
        Wss::open(self.address, self.config(vec![TLS13]))
    }

    fn counts(&self) -> TlsCounters {
        self.server.served()[0].engine.tls
    }

    /// Waits for its counts to say so.
    fn until(&self, what: &str, holds: impl Fn(&TlsCounters) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.counts()) {
            assert!(Instant::now() < deadline, "not in time: {what}: {:?}", self.counts());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A client.
struct Wss {
    stream: Secured,
    unread: Vec<u8>,
}

impl Wss {
    fn open(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let mut stream = secure::secured(config, tcp(address));
        stream.write_all(&request(address, "/")).unwrap();
        let mut handshake = ClientHandshake::new("127.0.0.1", address.port(), "/", [7; 16], 8192).unwrap();
        let mut byte = [0];
        loop {
            stream.read_exact(&mut byte).unwrap();
            if handshake.on_bytes(&byte).unwrap().is_some() {
                return Self { stream, unread: Vec::new() };
            }
        }
    }

    /// The next message or control frame; `None` behind a close_notify.
    fn next(&mut self) -> Option<(Opcode, Vec<u8>)> {
        let (mut message, mut kind) = (Vec::new(), None);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some((header, header_bytes)) = parse(&self.unread, Role::Server).unwrap() {
                let end = header_bytes + header.payload_bytes as usize;
                if self.unread.len() >= end {
                    message.extend_from_slice(&self.unread[header_bytes..end]);
                    self.unread.drain(..end);
                    let kind = *kind.get_or_insert(header.opcode);
                    if header.fin {
                        return Some((kind, message));
                    }
                    continue;
                }
            }
            // rustls tells a close_notify from a connection that was cut.
            let count = self.stream.read(&mut buffer).unwrap();
            if count == 0 {
                return None;
            }
            self.unread.extend_from_slice(&buffer[..count]);
        }
    }

    fn echo(&mut self, opcode: Opcode, payload: &[u8]) {
        self.stream.write_all(&frame(opcode, payload)).unwrap();
        let (got, bytes) = self.next().expect("an echo");
        assert!(got == opcode && bytes == payload, "{} bytes of {got:?}, not {}", bytes.len(), payload.len());
    }
}

fn over_each_engine(conversation: impl Fn(Way)) {
    for engine in EngineKind::ALL {
        eprintln!("over {}", engine.name());
        conversation(Way { engine, kernel: false });
    }
    if let Err(error) = ktls::survey(&Probe::of_this_kernel().release) {
        assert!(std::env::var_os("RINGSOCK_KTLS").is_none_or(|word| word != "require"), "{error}");
        eprintln!("SKIPPED, the kernel's TLS was not tested: {error}");
        return;
    }
    for engine in [EngineKind::Uring, EngineKind::Epoll] {
        eprintln!("over {} and the kernel's TLS", engine.name());
        conversation(Way { engine, kernel: true });
    }
}

/// Whether a kernel takes new keys for old ones (Linux 6.14).
fn kernel_follows_changes() -> bool {
    let release = Probe::of_this_kernel().release;
    let mut numbers = release.split(['.', '-', '+']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

fn some_bytes(byte_count: usize) -> Vec<u8> {
    (0..byte_count).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn messages_of_every_size_come_back_in_every_version_and_cipher() {
    over_each_engine(|way| {
        let running = Running::start(way, &[]);
        for &suite in ring::ALL_CIPHER_SUITES {
            if !suite.usable_for_signature_algorithm(rustls::SignatureAlgorithm::ECDSA) {
                continue;
            }
            let mut wss = Wss::open(running.address, running.config(vec![suite]));
            let agreed = wss.stream.conn.negotiated_cipher_suite().unwrap();
            assert_eq!(agreed.suite(), suite.suite());
            assert_eq!(wss.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            for byte_count in [0, 1, 64, 125, 126, 16_384, 65_536, 1 << 20] {
                wss.echo(Opcode::Binary, &some_bytes(byte_count));
            }
            wss.echo(Opcode::Text, "so many words, ".repeat(10_000).as_bytes());
        }
        if way.kernel {
            running.until("each was handed over or refused", |tls| {
                tls.kernel + tls.kernel_refused == tls.handshakes
            });
            // AES-GCM with keys of both lengths, in both versions.
            assert!(running.counts().kernel >= 4, "{:?}", running.counts());
        }
        running.server.drain(PATIENCE).unwrap();
    });
}

#[test]
fn keys_are_changed_when_the_client_changes_them() {
    over_each_engine(|way| {
        let running = Running::start(way, &[]);
        let mut wss = running.open();
        if way.kernel {
            wss.echo(Opcode::Text, b"hello");
            running.until("it is handed over", |tls| tls.kernel == 1);
        }
        if way.kernel && !kernel_follows_changes() {
            wss.stream.conn.refresh_traffic_keys().unwrap();
            wss.stream.write_all(&frame(Opcode::Text, b"with the second keys")).unwrap();
            let told = wss.stream.read(&mut [0; 100]).unwrap_err().to_string();
            assert!(told.contains("InternalError"), "{told}");
            running.until("it is a fault", |tls| tls.faults == 1);
            running.open().echo(Opcode::Text, b"others are served");
            running.server.drain(PATIENCE).unwrap();
            return;
        }
        for byte_count in [10, 20_000, 30] {
            wss.echo(Opcode::Binary, &some_bytes(byte_count));
            wss.stream.conn.refresh_traffic_keys().unwrap();
        }
        wss.echo(Opcode::Text, b"with the fourth keys");
        running.server.drain(PATIENCE).unwrap();
    });
}

#[test]
fn sessions_are_resumed_in_both_versions() {
    over_each_engine(|way| {
        let running = Running::start(way, &[]);
        for suites in [vec![TLS13], vec![TLS12]] {
            let config = running.config(suites);
            for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut wss = Wss::open(running.address, Arc::clone(&config));
                // Behind this answer the ticket has come, too.
                wss.echo(Opcode::Text, b"hello");
                assert_eq!(wss.stream.conn.handshake_kind(), Some(expected));
            }
        }
        running.until("all is counted", |tls| (tls.handshakes, tls.resumed) == (4, 2));
        running.server.drain(PATIENCE).unwrap();
    });
}

#[test]
fn both_sides_say_when_they_are_done() {
    over_each_engine(|way| {
        let running = Running::start(way, &[]);
        // The server closes after the closing handshake of WebSocket.
        let mut wss = running.open();
        wss.stream.write_all(&frame(Opcode::Close, &1000_u16.to_be_bytes())).unwrap();
        assert_eq!(wss.next(), Some((Opcode::Close, 1000_u16.to_be_bytes().to_vec())));
        assert_eq!(wss.next(), None, "close_notify, which rustls insists on");
        // The client says so and goes; the server says so too.
        let mut wss = running.open();
        wss.stream.conn.send_close_notify();
        wss.stream.flush().unwrap();
        assert_eq!(wss.next(), None);
        running.until("nobody was cut off", |tls| (tls.handshakes, tls.truncated, tls.faults) == (2, 0, 0));
        // The client goes without a word.
        let wss = running.open();
        wss.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        running.until("one was cut off", |tls| (tls.handshakes, tls.truncated) == (3, 1));
        running.server.drain(PATIENCE).unwrap();
    });
}

#[test]
fn what_a_slow_reader_keeps_waiting_arrives_whole_and_the_goodbye_behind_it() {
    over_each_engine(|way| {
        let running = Running::start(way, &["--max-queued", "64MiB"]);
        let (mut wss, message) = (running.open(), some_bytes(60_000));
        for _ in 0..200 {
            wss.stream.write_all(&frame(Opcode::Binary, &message)).unwrap();
        }
        wss.stream.write_all(&frame(Opcode::Close, &1000_u16.to_be_bytes())).unwrap();
        for _ in 0..200 {
            assert!(wss.next() == Some((Opcode::Binary, message.clone())));
        }
        assert_eq!(wss.next(), Some((Opcode::Close, 1000_u16.to_be_bytes().to_vec())));
        assert_eq!(wss.next(), None, "close_notify");
        assert!(running.server.served()[0].engine.short_sends > 0, "it was not slow enough");
        running.until("nobody was cut off", |tls| (tls.truncated, tls.faults) == (0, 0));
        running.server.drain(PATIENCE).unwrap();
    });
}

#[test]
fn records_that_are_not_ours_end_their_connection_alone() {
    over_each_engine(|way| {
        let running = Running::start(way, &[]);
        let mut wss = running.open();
        wss.echo(Opcode::Text, b"hello");
        if way.kernel {
            running.until("it is handed over", |tls| tls.kernel == 1);
        }
        wss.stream.sock.write_all(&[&[23, 3, 3, 0, 64][..], &[7; 64]].concat()).unwrap();
        let told = wss.stream.read(&mut [0; 100]).unwrap_err().to_string();
        assert!(told.contains("BadRecordMac"), "{told}");
        running.until("it is a fault", |tls| tls.faults == 1);
        running.open().echo(Opcode::Text, b"others are served");
        running.server.drain(PATIENCE).unwrap();
    });
}

#[test]
fn what_the_kernel_refuses_is_served_by_this_process() {
    if ktls::survey(&Probe::of_this_kernel().release).is_ok() {
        eprintln!(
            "SKIPPED, nothing was tested: this kernel takes keys, and which it refuses is told by another test"
        );
        return;
    }
    for engine in [EngineKind::Uring, EngineKind::Epoll] {
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("certificate.pem");
        let flags = ["server", "--listen", "127.0.0.1:0", "--threads", "1", "--max-connections", "100"];
        let more =
            ["--engine", engine.name(), "--tls-self-signed", "--tls-save-cert", saved.to_str().unwrap()];
        let flags = Flags::parse_from(flags.into_iter().chain(more));
        let mut plan = flags.server.validate(&Probe::of_this_kernel()).unwrap();
        // As if it had been there when the server started.
        plan.engine.kernel_tls = true;
        let running = Running::of(&plan, &saved);
        let mut all: Vec<_> = (0..20).map(|_| running.open()).collect();
        for byte_count in [10, 65_536, 1 << 20] {
            all.iter_mut().for_each(|wss| wss.echo(Opcode::Binary, &some_bytes(byte_count)));
        }
        running.until("each was refused", |tls| (tls.kernel, tls.kernel_refused) == (0, 20));
        let mut wss = all.pop().unwrap();
        wss.stream.write_all(&frame(Opcode::Close, &1000_u16.to_be_bytes())).unwrap();
        assert_eq!(wss.next(), Some((Opcode::Close, 1000_u16.to_be_bytes().to_vec())));
        assert_eq!(wss.next(), None, "close_notify");
        drop(all);
        running.server.drain(PATIENCE).unwrap();
    }
}

#[test]
fn a_reader_that_never_reads_is_not_read_from_without_end() {
    const QUEUED_BYTES_MAX: usize = 48 << 20;
    over_each_engine(|way| {
        let running = Running::start(way, &["--max-queued", "256KiB", "--close-timeout", "200ms"]);
        let mut wss = running.open();
        wss.stream.sock.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let (message, mut sent_bytes) = (frame(Opcode::Binary, &some_bytes(60_000)), 0);
        let error = loop {
            if let Err(error) = wss.stream.write_all(&message) {
                break error;
            }
            sent_bytes += message.len();
            assert!(sent_bytes < QUEUED_BYTES_MAX, "{}: it takes all there is", way.engine.name());
        };
        // The last is what write_all makes of rustls' own buffer being full.
        let full = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::WriteZero];
        assert!(full.contains(&error.kind()), "{error}");
        running.open().echo(Opcode::Text, b"others are served meanwhile");
        let pauses = running.server.served()[0].engine.pauses;
        assert!(pauses > 0, "{}: it was not stopped reading from", way.engine.name());
        drop(wss);
        running.server.drain(PATIENCE).unwrap();
    });
}

#[test]
fn handshakes_that_never_end_and_plain_http_leave_others_alone() {
    over_each_engine(|way| {
        let running = Running::start(way, &["--tls-handshake-timeout", "300ms"]);
        let silent: Vec<_> = (0..10).map(|_| tcp(running.address)).collect();
        let mut half = tcp(running.address);
        half.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
        let mut plain = tcp(running.address);
        plain.write_all(&request(running.address, "/")).unwrap();
        running.open().echo(Opcode::Text, b"served");
        running.until("all are given up", |tls| (tls.timeouts, tls.not_tls) == (11, 1));
        for mut stream in silent.into_iter().chain([half]) {
            let ended = stream.read(&mut [0; 100]);
            assert!(
                matches!(ended, Ok(0))
                    || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
            );
        }
        assert_eq!(plain.read(&mut [0; 100]).unwrap(), 0, "no answer to what is no TLS");
        drop(plain);
        running.open().echo(Opcode::Text, b"still served");
        running.server.drain(PATIENCE).unwrap();
    });
}
