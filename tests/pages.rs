//! What `ringsock-server` tells of itself over plain HTTP: pages, counts, health, and who may have them. Over every engine.
//!
//! The exposition is read by a small checker of its grammar that shares no code with what writes it, and by promtool where that
//! is installed.

#[path = "common/peer.rs"]
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use peer::{PATIENCE, Peer, Process, request, tcp};
use ringsock::engine::uring::Switches;
use ringsock::engine::{Choice, EngineKind, Probe};
use ringsock::ws::frame::Opcode;
use rustix::process::Signal;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-server");
const PATHS: [&str; 4] = ["/", "/healthz", "/metrics", "/stats"];

/// Engines that this kernel runs.
fn engines() -> Vec<&'static str> {
    static PROBE: LazyLock<Probe> = LazyLock::new(Probe::of_this_kernel);
    let runs = |kind: &EngineKind| Choice::Named(*kind).choose(&PROBE, &Switches::default()).is_ok();
    let engines: Vec<_> = EngineKind::ALL.into_iter().filter(runs).map(EngineKind::name).collect();
    assert!(engines.contains(&"epoll"), "every kernel has epoll");
    engines
}

fn server(flags: &[&str]) -> (Process, SocketAddr) {
    peer::server(BINARY, &[&["--threads", "2"], flags].concat())
}

/// A server whose pages are at an address of their own: it, where it echoes, and where they are.
fn server_apart(flags: &[&str]) -> (Process, SocketAddr, SocketAddr) {
    let (process, address) = server(&[&["--admin", "127.0.0.1:0"], flags].concat());
    assert!(process.line().starts_with("engine "));
    let line = process.line();
    let admin = line.strip_prefix("admin on http://").and_then(|rest| rest.strip_suffix('/'));
    (process, address, admin.unwrap_or_else(|| panic!("no address: {line}")).parse().unwrap())
}

/// An answer that was whole, up to the stream's end.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Reads one; it must say how long it is, and be that long unless it is one to HEAD.
    fn read(mut stream: TcpStream, is_head: bool) -> Self {
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap_or_else(|error| panic!("after `{all}`: {error}"));
        let (head, body) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: `{all}`"));
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let answer = Self {
            status: status.unwrap_or_else(|| panic!("{head}")),
            head: format!("{head}\r\n"),
            body: body.to_owned(),
        };
        let length: usize =
            answer.header("Content-Length").unwrap_or_else(|| panic!("{head}")).parse().unwrap();
        assert_eq!(answer.body.len(), if is_head { 0 } else { length }, "{head}");
        assert!(answer.header("Connection").is_some_and(|value| value.starts_with("close")), "{head}");
        answer
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn ask(address: SocketAddr, head: &str) -> Answer {
    let mut stream = tcp(address);
    stream.write_all(head.as_bytes()).unwrap();
    Answer::read(stream, head.starts_with("HEAD"))
}

fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

fn stats(address: SocketAddr) -> Value {
    let answer = get(address, "/stats");
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// Asks until the counters of all threads together say so.
fn until_stats(
    address: SocketAddr,
    what: &str,
    mut holds: impl FnMut(&dyn Fn(&str) -> u64) -> bool,
) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = stats(address);
        let count = |name: &str| stats["total"]["counters"][name].as_u64().expect("a counter of that name");
        if holds(&count) {
            return stats;
        }
        assert!(Instant::now() < deadline, "not in time: {what}: {stats}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_page_is_answered_whole_however_it_is_asked_for() {
    for engine in engines() {
        let (_server, address) = server(&["--engine", engine]);
        for path in PATHS {
            let answer = get(address, path);
            assert_eq!(answer.status, 200, "{engine} {path}: {answer:?}");
            assert!(!answer.body.is_empty(), "{engine} {path}");
            let head = ask(address, &format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!((head.status, head.header("Content-Type")), (200, answer.header("Content-Type")));
            let query = get(address, &format!("{path}?a=b&c"));
            assert_eq!(query.status, 200, "{engine} {path}?");

            let mut dripping = tcp(address);
            for byte in format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").bytes() {
                dripping.write_all(&[byte]).unwrap();
            }
            assert_eq!(Answer::read(dripping, false).status, 200, "{engine} {path}, a byte at a time");

            let mut half_closed = tcp(address);
            half_closed.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
            half_closed.shutdown(Shutdown::Write).unwrap();
            assert_eq!(
                Answer::read(half_closed, false).status,
                200,
                "{engine} {path}, of one that has ended"
            );

            // What follows is neither answered nor in the answer's way.
            let two = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(2) + &"x".repeat(100_000);
            let answer = ask(address, &two);
            assert_eq!(answer.status, 200, "{engine} {path}, with more behind");
        }
    }
}

#[test]
fn what_is_no_page_is_refused_as_http_asks() {
    for engine in engines() {
        let (_server, address) = server(&["--engine", engine]);
        for (start, lines, status) in [
            ("GET /elsewhere HTTP/1.1", "Host: a\r\n", 404),
            ("GET /metrics/ HTTP/1.1", "Host: a\r\n", 404),
            ("GET /echo HTTP/1.1", "Host: a\r\n", 426),
            ("POST /stats HTTP/1.1", "Host: a\r\n", 405),
            ("OPTIONS / HTTP/1.1", "Host: a\r\n", 405),
            ("GET /stats HTTP/1.0", "Host: a\r\n", 400),
            ("GET /stats HTTP/1.1", "", 400),
            ("GET /stats HTTP/1.1", "Host: a\r\nHost: b\r\n", 400),
            ("GET /stats HTTP/1.1", "Host: a\r\nContent-Length: 3\r\n", 400),
            ("GET /stats HTTP/1.1", "Host: a\r\nTransfer-Encoding: chunked\r\n", 400),
            // From a client that speaks WebSocket, through a proxy that does not.
            ("GET / HTTP/1.1", "Host: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426),
            ("HEAD / HTTP/1.1", "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", 405),
        ] {
            let answer = ask(address, &format!("{start}\r\n{lines}\r\n"));
            assert_eq!(answer.status, status, "{engine}: {start} {lines}");
            if status == 405 {
                assert_eq!(answer.header("Allow"), Some("GET, HEAD"));
            }
        }
        let mut stream = tcp(address);
        stream.write_all(&request(address, "/metrics")).unwrap();
        assert_eq!(Answer::read(stream, false).status, 404, "{engine}: there is no WebSocket at a page");
        Peer::open(address).echo(Opcode::Text, b"asked to upgrade, / is the echo");
    }
}

#[test]
fn counts_are_right_once_traffic_has_ended() {
    for engine in engines() {
        let (_server, address) = server(&["--engine", engine, "--deflate"]);
        let mut peers: Vec<_> = (0..4).map(|_| Peer::open(address)).collect();
        let mut payload_bytes = 0;
        for peer in &mut peers {
            for size in [0, 10, 1000, 70_000] {
                peer.echo(Opcode::Binary, &vec![7; size]);
                payload_bytes += size as u64;
            }
            peer.echo(Opcode::Text, "grüß dich".as_bytes());
        }
        let mut leaves = peers.pop().unwrap();
        leaves.send(Opcode::Close, &1000u16.to_be_bytes());
        leaves.expect(Opcode::Close, &1000u16.to_be_bytes());
        leaves.expect_end();
        let mut breaks = peers.pop().unwrap();
        breaks.send(Opcode::Text, b"\xff");
        breaks.expect_close(1007);

        let stats = until_stats(address, "everything is counted", |count| {
            count("messages") == 20
                && count("upgrades") == 4
                && count("closes") == 1
                && count("faults_invalid_data") == 1
                // The one that asks is there as well.
                && count("connections") == 3
        });
        let count = |name: &str| stats["total"]["counters"][name].as_u64().unwrap();
        assert!(count("received_bytes") > payload_bytes && count("sent_bytes") > payload_bytes, "{stats}");
        assert_eq!(count("opened") - count("closed"), count("connections"), "{engine}: {stats}");
        assert_eq!((count("waiting_bytes"), count("waiting_connections")), (0, 0), "{engine}: {stats}");
        assert_eq!(stats["server"]["engine"], engine);
        assert_eq!(stats["threads"].as_array().unwrap().len(), 2);
        assert!(stats["total"]["cpu_s"].as_f64().unwrap() > 0.0, "{stats}");

        let families = families(&get(address, "/metrics").body);
        let sum = |name: &str| families[name].samples.iter().map(|(_, value)| value).sum::<f64>();
        assert_eq!(sum("ringsock_server_messages_total"), 20.0);
        assert_eq!(sum("ringsock_server_upgrades_total"), 4.0);
        assert_eq!(sum("ringsock_server_faults_total"), 1.0);
        assert!(sum("ringsock_server_pages_total") >= count("pages") as f64, "{engine}");
        drop(peers);
    }
}

#[test]
fn what_waits_for_a_peer_that_does_not_read_is_told() {
    for engine in engines() {
        let (_server, address) = server(&["--engine", engine]);
        let deaf = Peer::open(address);
        let message = peer::frame(Opcode::Binary, &vec![1; 1 << 20]);
        deaf.stream.set_nonblocking(true).unwrap();
        let mut at = 0;
        let told = until_stats(address, "its answers wait", |count| {
            // As much as the kernels hold, and then some, until the server reads no further.
            while let Ok(count) = (&deaf.stream).write(&message[at % message.len()..]) {
                at += count;
            }
            count("waiting_connections") == 1 && count("waiting_bytes") > 0 && count("pauses") > 0
        });
        assert!(told["total"]["counters"]["short_sends"].as_u64().unwrap() > 0, "{engine}: {told}");
        drop(deaf);
        until_stats(address, "nothing waits any more", |count| {
            count("waiting_connections") == 0 && count("waiting_bytes") == 0
        });
    }
}

#[test]
fn many_ask_at_once_and_all_are_answered() {
    for engine in engines() {
        let (_server, address) = server(&["--engine", engine]);
        let mut streams: Vec<_> = (0..100).map(|_| tcp(address)).collect();
        for (index, stream) in streams.iter_mut().enumerate() {
            let path = PATHS[index % PATHS.len()];
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        }
        // Some go before they have heard, which nobody minds.
        streams.drain(..20).for_each(drop);
        for stream in streams {
            assert_eq!(Answer::read(stream, false).status, 200, "{engine}");
        }
        Peer::open(address).echo(Opcode::Binary, b"and it echoes");
    }
}

#[test]
fn limits_hold_for_pages_too() {
    let (_server, address) = server(&["--max-head", "300B", "--max-connections", "2"]);
    let long = format!("GET /stats HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(400));
    assert_eq!(ask(address, &long).status, 431);
    let (first, _second) = (Peer::open(address), Peer::open(address));
    for path in PATHS {
        assert_eq!(get(address, path).status, 503, "{path}");
    }
    drop(first);
    until_healthy(address, "a place that was left is not free");
}

#[test]
fn who_has_an_answer_and_does_not_go_is_given_up() {
    // Nobody has time to close here; an answer is taken all the same.
    let (_server, address) = server(&["--max-connections", "1", "--close-timeout", "0s"]);
    let mut stays = tcp(address);
    stays.write_all(b"GET /stats HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(Answer::read(stays.try_clone().unwrap(), false).status, 200);
    until_healthy(address, "one that does not go keeps its place");
    drop(stays);
}

fn until_healthy(address: SocketAddr, otherwise: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = tcp(address);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // A refusal may be cut short where there is no time for it.
        let _ = stream.read_to_end(&mut answer);
        if answer.starts_with(b"HTTP/1.1 200 ") {
            return;
        }
        assert!(Instant::now() < deadline, "{otherwise}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn pages_of_other_origins_cannot_read_what_is_told() {
    let (_server, address) = server(&["--allow-origin", "https://example.com"]);
    for path in PATHS {
        let answer =
            ask(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nOrigin: https://other.com\r\n\r\n"));
        assert_eq!(answer.status, 200);
        assert!(!answer.head.to_lowercase().contains("access-control-"), "{path}: {}", answer.head);
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("Cross-Origin-Resource-Policy"), Some("same-origin"), "{path}");
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{path}: {policy}");
    }
    let foreign = String::from_utf8(request(address, "/")).unwrap();
    let foreign = foreign.replacen("\r\n", "\r\nOrigin: https://other.com\r\n", 1);
    assert_eq!(ask(address, &foreign).status, 403, "the allow-list holds for WebSocket as before");
}

#[test]
fn pages_can_be_moved_or_left_out() {
    let (_server, address, admin) = server_apart(&[]);
    for path in PATHS {
        assert_eq!(get(address, path).status, 426, "{path}: they have moved");
        assert_eq!(get(admin, path).status, 200, "{path}");
    }
    Peer::open(address).echo(Opcode::Binary, b"a thread of the server");
    Peer::open(admin).echo(Opcode::Binary, b"for the page itself");
    let stats = until_stats(admin, "both are counted", |count| count("messages") == 2);
    let names: Vec<_> = stats["threads"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["server-0", "server-1", "server-admin"]);

    let (_server, address) = server(&["--admin", "none"]);
    for path in PATHS {
        assert_eq!(get(address, path).status, 426, "{path}: there are none");
    }
    Peer::open(address).echo(Opcode::Binary, b"and it echoes");

    let (status, _, errors) = Process::start(Command::new(BINARY).args(["--admin", "nowhere"])).end();
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("--admin") && errors.contains("127.0.0.1:9100"), "{errors}");
}

#[test]
fn an_address_of_its_own_tells_that_the_server_is_ending() {
    for engine in engines() {
        let (mut server, address, admin) = server_apart(&["--engine", engine, "--close-timeout", "20s"]);
        assert_eq!(get(admin, "/healthz").status, 200, "{engine}");
        let mut peer = Peer::open(address);
        peer.echo(Opcode::Binary, b"x");
        server.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while get(admin, "/healthz").status != 503 {
            assert!(Instant::now() < deadline, "{engine}: it does not say so");
        }
        assert_eq!(stats(admin)["state"], "draining", "{engine}");
        assert_eq!(families(&get(admin, "/metrics").body)["ringsock_server_draining"].samples[0].1, 1.0);
        peer.expect_close(1001);
        let (status, _, errors) = server.end();
        assert!(status.success(), "{engine}: {status}: {errors}");
        assert!(TcpStream::connect(admin).is_err(), "{engine}: nobody tells any more");
    }
}

// ---- the exposition, by its grammar

#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(BTreeMap<String, String>, f64)>,
}

/// Reads text exposition format 0.0.4, and panics where it is none: names, HELP and TYPE before samples and once, all samples of a
/// family together, no sample twice, labels with their escapes.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut seen = BTreeSet::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'), "the last line has no end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(name, true) && !help.is_empty(), "{line}");
            assert!(families.insert(name.to_owned(), Family::default()).is_none(), "twice: {line}");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert_eq!(name, current, "TYPE stands behind its HELP");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            families.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            let (name, labels, value) = sample(line);
            assert_eq!(name, current, "a sample of another family: {line}");
            assert!(seen.insert((name.to_owned(), labels.clone())), "twice: {line}");
            assert!(value.is_finite() && value >= 0.0, "{line}");
            families.get_mut(name).unwrap().samples.push((labels, value));
        }
    }
    for (name, family) in &families {
        assert!(!family.kind.is_empty() && !family.samples.is_empty(), "{name}: {family:?}");
    }
    families
}

fn is_name(name: &str, may_have_colons: bool) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || may_have_colons && byte == b':';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(fits)
}

fn sample(line: &str) -> (&str, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name, true), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, behind) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label, false), "{line}");
            let mut value = String::new();
            let mut characters = behind.char_indices();
            let end = loop {
                match characters.next().unwrap_or_else(|| panic!("{line}")) {
                    (at, '"') => break at,
                    (_, '\\') => match characters.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                        other => panic!("{other:?} is escaped: {line}"),
                    },
                    (_, character) => value.push(character),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = &behind[end + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    (name, labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

#[test]
fn the_exposition_keeps_to_its_grammar() {
    for engine in engines() {
        let (_server, address) = server(&["--engine", engine]);
        let answer = get(address, "/metrics");
        assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let families = families(&answer.body);
        let info = &families["ringsock_server_info"].samples[0].0;
        assert_eq!(info["engine"], engine);
        let threads: BTreeSet<_> = families["ringsock_server_messages_total"]
            .samples
            .iter()
            .map(|(labels, _)| &labels["thread"])
            .collect();
        assert_eq!(threads.len(), 2);
        assert!(families["process_resident_memory_bytes"].samples[0].1 > 1e5);
        promtool(&answer.body);
    }
}

/// Where there is one; it knows conventions as well as the grammar.
fn promtool(text: &str) {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = command else {
        let _ = writeln!(std::io::stderr(), "skipped: no promtool here (Debian: apt-get install prometheus)");
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "promtool: {said}");
}
