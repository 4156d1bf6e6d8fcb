//! The scenarios beside the echo, as clients of a server in a process of its own meet them: several threads, real sockets,
//! every engine.
//!
//! What each scenario answers, however bytes are cut, is told by `tests/engines.rs` and `tests/memory.rs`; what harm may be done
//! by `tests/hostile.rs`. Here it is what threads do together, and what is printed.

#[path = "common/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use peer::{Peer, Process, request, tcp};
use ringsock::engine::EngineKind;
use ringsock::scenario::broadcast::Publication;
use ringsock::scenario::json::{Reply, Requests};
use ringsock::scenario::{self, SCENARIOS};
use ringsock::ws::frame::Opcode;
use rustix::process::Signal;

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-server");

/// Runs a test against a server of three threads, over each engine.
fn over_each_engine(flags: &[&str], test: impl Fn(&Server)) {
    for engine in EngineKind::ALL {
        let ours = ["--threads", "3", "--stats", "50ms", "--scenarios", "all", "--engine", engine.name()];
        let (process, address) = peer::server(BINARY, &[&ours, flags].concat());
        let server = Server { process, address };
        eprintln!("over {}", engine.name());
        test(&server);
    }
}

struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    fn open(&self, target: &str) -> Peer {
        Peer::open_at(self.address, target)
    }

    /// Waits for a line of its counts that has this in it.
    fn until_counted(&self, what: &str) {
        while !self.process.line().contains(what) {}
    }

    /// What it had counted when it was told to end, by name.
    fn end(mut self) -> BTreeMap<String, u64> {
        self.process.signal(Signal::TERM);
        let (status, lines, errors) = self.process.end();
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""), "{lines}");
        let counted = lines.lines().filter_map(|line| line.split_once(' '));
        counted.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect()
    }
}

fn publication(publisher: u64, number: u64, payload_bytes: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    Publication { publisher, number, sent_ns: 0 }.compose(payload_bytes, &mut payload);
    payload
}

/// Reads publications until there were `count`; every publisher's must come in order, none left out and none twice.
fn hear(peer: &mut Peer, count: u64) {
    let mut next = BTreeMap::<u64, u64>::new();
    for _ in 0..count {
        let (fin, opcode, payload) = peer.next().expect("a message, not the end");
        assert_eq!((fin, opcode), (true, Opcode::Binary));
        let heard = Publication::read(&payload).expect("as it was published");
        let due = next.entry(heard.publisher).or_default();
        assert_eq!(heard.number, *due, "of publisher {}", heard.publisher);
        *due += 1;
    }
}

#[test]
fn every_subscriber_on_every_thread_hears_every_publisher_in_order() {
    const SUBSCRIBERS: usize = 24;
    const PUBLISHERS: u64 = 4;
    const MESSAGES: u64 = 500;
    over_each_engine(&["--max-queued", "1GiB"], |server| {
        for path in ["/broadcast", "/room/a"] {
            let subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| server.open(path)).collect();
            let elsewhere = server.open("/room/b");
            let publishers: Vec<_> =
                (0..PUBLISHERS).map(|_| server.open(&format!("{path}?role=publish"))).collect();
            std::thread::scope(|scope| {
                for mut peer in subscribers {
                    scope.spawn(move || hear(&mut peer, PUBLISHERS * MESSAGES));
                }
                for (publisher, mut peer) in publishers.into_iter().enumerate() {
                    scope.spawn(move || {
                        for number in 0..MESSAGES {
                            let payload_bytes = 24 + (number as usize * 37) % 3000;
                            peer.send(Opcode::Binary, &publication(publisher as u64, number, payload_bytes));
                        }
                        peer.send(Opcode::Close, b"");
                        peer.expect(Opcode::Close, b"");
                    });
                }
            });
            let mut elsewhere = elsewhere;
            elsewhere.send(Opcode::Binary, &publication(9, 0, 24));
            hear(&mut elsewhere, 1);
        }
    });
}

#[test]
fn a_broadcast_by_json_comes_to_all_threads_and_says_how_many_listen() {
    const CLIENTS: u64 = 16;
    over_each_engine(&[], |server| {
        let requests = Requests::broadcast(200);
        let mut peers: Vec<_> = (0..CLIENTS).map(|_| server.open("/json")).collect();
        let read = |peer: &mut Peer| {
            let (fin, opcode, text) = peer.next().expect("a reply, not the end");
            assert_eq!((fin, opcode), (true, Opcode::Text));
            requests.read(&text).expect("a reply to what was asked")
        };
        for number in 0..CLIENTS * 3 {
            let sender = (number % CLIENTS) as usize;
            let mut text = Vec::new();
            requests.compose(number, &mut text);
            peers[sender].send(Opcode::Text, &text);
            for peer in &mut peers {
                assert_eq!(read(peer), Reply::Broadcast(number));
            }
            assert_eq!(read(&mut peers[sender]), Reply::BroadcastResult(number, Some(CLIENTS)));
        }
        // Many at once from one client: its own answers are in order.
        let mut burst = Vec::new();
        (0..50).for_each(|number| {
            let mut text = Vec::new();
            requests.compose(number, &mut text);
            burst.extend(peer::frame(Opcode::Text, &text));
        });
        std::io::Write::write_all(&mut peers[0].stream, &burst).unwrap();
        for number in 0..50 {
            assert_eq!(read(&mut peers[0]), Reply::Broadcast(number));
            assert_eq!(read(&mut peers[0]), Reply::BroadcastResult(number, Some(CLIENTS)));
            assert_eq!(read(&mut peers[1]), Reply::Broadcast(number));
        }
    });
}

/// A subscriber that takes in little while it does not read; a window much narrower would wait for acknowledgements most of the
/// time.
fn narrow(server: &Server) -> Peer {
    let peer = server.open("/room/x");
    socket2::SockRef::from(&peer.stream).set_recv_buffer_size(128 * 1024).unwrap();
    peer
}

const LARGE_BYTES: usize = 60_000;

#[test]
fn under_drop_newest_a_slow_subscriber_misses_messages_and_is_served_again() {
    over_each_engine(&["--slow-consumer", "drop-newest", "--max-queued", "100KB"], |server| {
        let (mut slow, mut quick) = (narrow(server), server.open("/room/x"));
        let mut publisher = server.open("/room/x?role=publish");
        let mut number = 0;
        // As many as it takes: kernels hold some.
        for _ in 0..400 {
            publisher.send(Opcode::Binary, &publication(1, number, LARGE_BYTES));
            assert_eq!(
                Publication::read(&quick.next().unwrap().2).unwrap().number,
                number,
                "nothing is missed"
            );
            number += 1;
        }
        server.until_counted("slow_dropped");
        let flood = number;
        let is_back = AtomicBool::new(false);
        let heard = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut heard = vec![Publication::read(&slow.next().unwrap().2).unwrap().number];
                while heard.last() < Some(&flood) {
                    heard.push(Publication::read(&slow.next().unwrap().2).unwrap().number);
                }
                is_back.store(true, Ordering::Relaxed);
                heard
            });
            while !is_back.load(Ordering::Relaxed) {
                publisher.send(Opcode::Binary, &publication(1, number, LARGE_BYTES));
                number += 1;
                quick.next().unwrap();
            }
            reading.join().unwrap()
        });
        assert!(heard.is_sorted_by(|a, b| a < b), "in order, none twice: {heard:?}");
        assert!((heard.len() as u64) < flood, "some were missed: {heard:?}");
    });
}

#[test]
fn under_close_a_slow_subscriber_hears_a_beginning_and_is_closed_with_1008() {
    // It takes its time over what waits, and over the Close behind it.
    over_each_engine(&["--max-queued", "100KB", "--close-timeout", "60s"], |server| {
        let (mut slow, mut quick) = (narrow(server), server.open("/room/x"));
        let mut publisher = server.open("/room/x?role=publish");
        for number in 0..400 {
            publisher.send(Opcode::Binary, &publication(1, number, LARGE_BYTES));
            assert_eq!(
                Publication::read(&quick.next().unwrap().2).unwrap().number,
                number,
                "nothing is missed"
            );
        }
        server.until_counted("slow_closed 1");
        for number in 0.. {
            match slow.next() {
                Some((_, Opcode::Binary, payload)) => {
                    assert_eq!(Publication::read(&payload).unwrap().number, number);
                }
                Some((_, Opcode::Close, payload)) => {
                    assert_eq!(payload[..2], 1008u16.to_be_bytes());
                    break;
                }
                other => panic!("{:?}", other.map(|(_, opcode, _)| opcode)),
            }
        }
    });
}

#[test]
fn under_block_publishers_wait_for_a_slow_subscriber_and_nobody_misses_anything() {
    const MESSAGES: u64 = 400;
    over_each_engine(&["--slow-consumer", "block", "--max-queued", "100KB"], |server| {
        let (mut slow, quick) = (narrow(server), server.open("/room/x"));
        let publisher = server.open("/room/x?role=publish");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut publisher, mut quick) = (publisher, quick);
                scope.spawn(move || hear(&mut quick, MESSAGES));
                for number in 0..MESSAGES {
                    publisher.send(Opcode::Binary, &publication(1, number, LARGE_BYTES));
                }
                publisher.send(Opcode::Close, b"");
                publisher.expect(Opcode::Close, b"");
            });
            server.until_counted("slow_blocked");
            hear(&mut slow, MESSAGES);
        });
    });
}

#[test]
fn what_was_done_is_counted_by_name() {
    let (process, address) = peer::server(BINARY, &["--threads", "2", "--stats", "1h", "--scenarios", "all"]);
    let server = Server { process, address };
    let mut room = server.open("/room/a");
    room.echo(Opcode::Text, b"to myself");
    let mut json = server.open("/json");
    json.send(Opcode::Text, b"{");
    assert!(json.next().unwrap().2.starts_with(br#"{"type":"error""#));
    server.open("/work?us=1000").echo(Opcode::Binary, b"work");
    server.open("/push?rate=100").next().unwrap();
    drop((room, json));
    let counted = server.end();
    let count = |name: &str| counted.get(name).copied().unwrap_or(0);
    assert_eq!((count("published"), count("delivered"), count("json_errors")), (1, 1, 1), "{counted:?}");
    assert!(count("worked_ns") >= 1_000_000 && count("pushed") >= 1, "{counted:?}");
}

#[test]
fn what_is_not_asked_for_by_flag_is_not_served_and_the_flag_is_named() {
    for (flags, target, is_served) in [
        (&[][..], "/json", false),
        (&["--scenarios", "push"], "/json", false),
        (&["--scenarios", "push"], "/work?us=1", false),
        (&["--scenarios", "push"], "/push", true),
        (&["--scenarios", "echo"], "/echo", true),
    ] {
        let (_server, address) = peer::server(BINARY, &[&["--threads", "1"], flags].concat());
        let mut stream = tcp(address);
        std::io::Write::write_all(&mut stream, &request(address, target)).unwrap();
        let mut head = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut head).unwrap();
        let status: &[u8] = if is_served { b"HTTP/1.1 101" } else { b"HTTP/1.1 404" };
        assert_eq!(head, status, "{flags:?}: {target}");
        if !is_served {
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut stream, &mut rest).unwrap();
            let scenario = target.trim_start_matches('/').split('?').next().unwrap();
            assert!(rest.contains(&format!("start the server with --scenarios {scenario}")), "{rest}");
        }
    }
    let flags = ["--scenarios", "echo,chess"];
    let (status, _, errors) = Process::start(Command::new(BINARY).args(flags)).end();
    assert_eq!(status.code(), Some(2));
    assert!(
        errors.contains("no scenario is called") && errors.contains("echo,json,broadcast,rooms,push,work"),
        "{errors}"
    );
}

#[test]
fn a_request_that_asks_wrongly_is_told_what_would_be_right() {
    let (_server, address) =
        peer::server(BINARY, &["--threads", "1", "--scenarios", "work,rooms,push,json,broadcast"]);
    let answer = |target: &str| {
        let mut stream = tcp(address);
        std::io::Write::write_all(&mut stream, &request(address, target)).unwrap();
        let mut all = String::new();
        std::io::Read::read_to_string(&mut stream, &mut all).unwrap();
        all
    };
    for (target, status, mend) in [
        ("/work?us=x", 400, "microseconds, 0 to 1000000"),
        ("/work?ms=1", 400, "?us=  compute"),
        ("/work?us=1&kib=1", 400, "leave one of them out"),
        ("/push?rate=0", 400, "messages a second, 1 to 1000000"),
        ("/push?bytes=23", 400, "bytes, 24 to 1048576"),
        ("/json?a", 400, "there are none"),
        ("/broadcast?role=sing", 400, "both, or publish"),
        ("/room/", 400, "1 to 64 letters"),
        ("/room/a/b", 400, "1 to 64 letters"),
        ("/rooms", 404, "no WebSocket at this path"),
    ] {
        let answer = answer(target);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert!(answer.contains(mend) && answer.ends_with('\n'), "{target}: {answer}");
    }
}

#[test]
fn both_programs_list_the_scenarios_of_the_one_table() {
    for binary in [BINARY, env!("CARGO_BIN_EXE_ringsock-load")] {
        let (status, text, errors) = Process::start(Command::new(binary).arg("--list-scenarios")).end();
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
        assert_eq!(text, ringsock::report::text::labelled(&scenario::list()));
        assert!(SCENARIOS.iter().all(|row| text.lines().any(|line| line.starts_with(row.name))));
    }
}
