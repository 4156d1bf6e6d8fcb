//! `ringsock-server` as its users meet it: flags, limits, time limits, signals and messages, over real sockets.

#[path = "common/peer.rs"]
mod peer;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use peer::{PATIENCE, Peer, Process, fragment, frame, request, resident_bytes, serving, tcp};
use ringsock::engine::uring::Switches;
use ringsock::engine::{Choice, Probe, files};
use ringsock::ws::frame::Opcode;
use rustix::process::Signal;

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-server");

fn server(flags: &[&str]) -> (Process, SocketAddr) {
    let one_thread = ["--threads", "1"];
    peer::server(BINARY, &[&one_thread, flags].concat())
}

/// Everything that comes back for `bytes`, up to the end of the stream.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = tcp(address);
    stream.write_all(bytes).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

fn refused(flags: &[&str]) -> (Option<i32>, String) {
    let (status, _, errors) = Process::start(Command::new(BINARY).args(flags)).end();
    (status.code(), errors)
}

#[test]
fn it_says_where_it_listens_and_echoes_there() {
    let (_server, address) = server(&[]);
    let mut peer = Peer::open(address);
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
        peer.echo(Opcode::Binary, &vec![size as u8; size]);
    }
    peer.echo(Opcode::Text, "grüß dich".as_bytes());
    peer.send(Opcode::Ping, b"are you there");
    peer.expect(Opcode::Pong, b"are you there");
    peer.send(Opcode::Close, &1000u16.to_be_bytes());
    peer.expect(Opcode::Close, &1000u16.to_be_bytes());
    peer.expect_end();
}

#[test]
fn it_listens_on_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let process = Process::start(Command::new(BINARY).args(["--listen", "[::1]:0"]));
    let line = process.line();
    let address = line.strip_prefix("listening on ws://").unwrap().trim_end_matches('/');
    let address: SocketAddr = address.parse().unwrap();
    assert!(address.is_ipv6());
    Peer::open(address).echo(Opcode::Binary, b"six");
}

#[test]
fn a_port_in_use_is_named_with_the_mend() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_server, ours) = server(&[]);
    for address in [taken.local_addr().unwrap(), ours] {
        let (code, errors) = refused(&["--listen", &address.to_string()]);
        assert_eq!(code, Some(1));
        assert!(
            errors.contains(&format!("cannot listen on {address}")) && errors.contains("--listen"),
            "{errors}"
        );
    }
}

#[test]
fn wrong_flags_are_named_with_what_would_be_right() {
    for (flags, mend) in [
        (["--cpus", "999"], "CPU 999 is not available"),
        (["--cpus", "1-0"], "0,2-3"),
        (["--threads", "0"], "--threads 0: has to be 1 to 4096"),
        (["--buffers", "3"], "--buffers 3: has to be a power of two"),
        (["--buffers", "0"], "--buffers 0: has to be a power of two"),
        (["--buffer-size", "1"], "has to be 64 B to 16 MiB"),
        (["--sq-entries", "1000"], "--sq-entries 1000: has to be a power of two"),
        (["--cq-entries", "2"], "from --sq-entries"),
        (["--max-connections", "0"], "has to be 1 or more"),
        (["--max-connections-per-address", "0"], "has to be 1 or more"),
        (["--stall-timeout", "soon"], "--stall-timeout"),
        (["--listen", "nowhere"], "--listen"),
        (["--idle-timeout", "soon"], "--idle-timeout"),
    ] {
        let (code, errors) = refused(&flags);
        assert_eq!(code, Some(2), "{flags:?}");
        assert!(errors.contains(mend), "{flags:?}: {errors}");
    }
}

/// What has a command stay within its limits; `None` where nothing has.
fn unprivileged() -> Option<&'static str> {
    const SETPRIV: &str = "setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource ";
    let mut words = SETPRIV.split_whitespace().chain(["true"]);
    let mut tried = Command::new(words.next().expect("its name"));
    if tried.args(words).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        Some(SETPRIV)
    } else if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may raise its limit, and there is no setpriv to take that away");
        None
    } else {
        Some("")
    }
}

#[test]
fn too_low_a_limit_on_open_files_is_named_with_the_number_needed() {
    let Some(prefix) = unprivileged() else { return };
    let script = format!(
        "ulimit -n 1024; exec {prefix}{BINARY} --listen 127.0.0.1:0 --threads 1 --max-connections 5000"
    );
    let (status, _, errors) = Process::start(Command::new("bash").args(["-c", &script])).end();
    assert_eq!(status.code(), Some(2), "{errors}");
    // 5000 connections, 256 more to be told that it is full, 16 for the thread, 64 for everything else.
    for expected in ["--max-connections", "5336", "1024", "ulimit -n 5336"] {
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn more_threads_hold_more_connections_than_there_may_be_open_files() {
    const COUNT: usize = 900;
    let choice: Choice = "uring".parse().unwrap();
    let there_is = choice.choose(&Probe::of_this_kernel(), &Switches::default()).is_ok();
    if !there_is || files::ensure(COUNT as u64 + 200).is_err() {
        eprintln!(
            "SKIPPED, nothing was tested: there is no io_uring, or there may not be {COUNT} open files"
        );
        return;
    }
    let Some(prefix) = unprivileged() else { return };
    let with_threads = |count: u32| {
        let flags = format!("--listen 127.0.0.1:0 --engine uring --max-connections 1000 --threads {count}");
        let mut command = Command::new("bash");
        command.args(["-c", &format!("ulimit -n 700; exec {prefix}{BINARY} {flags}")]);
        command
    };
    let (status, _, errors) = Process::start(&mut with_threads(2)).end();
    assert_eq!(status.code(), Some(2), "{errors}");
    for expected in ["--threads 2 has no room", "holds 700 at most", "have --threads 4", "ulimit -n 1352"] {
        assert!(errors.contains(expected), "no `{expected}` in {errors}");
    }
    let (_server, address) = serving(&mut with_threads(4));
    let mut peers: Vec<_> = (0..COUNT).map(|_| Peer::open(address)).collect();
    peers.iter_mut().for_each(|peer| peer.echo(Opcode::Binary, b"here"));
}

#[test]
fn a_signal_closes_connections_with_1001_and_ends_it_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut server, address) = server(&["--close-timeout", "15s"]);
        let mut peers: Vec<_> = (0..5).map(|_| Peer::open(address)).collect();
        let half_open = tcp(address);
        peers[0].echo(Opcode::Binary, b"x");
        server.signal(signal);
        peers.iter_mut().for_each(|peer| peer.expect_close(1001));
        let (status, _, errors) = server.end();
        assert!(status.success(), "{status}: {errors}");
        assert!(TcpStream::connect(address).is_err(), "nobody listens there any more");
        drop(half_open);
    }
}

#[test]
fn a_peer_that_never_answers_does_not_hold_up_the_end() {
    let (mut server, address) = server(&["--close-timeout", "300ms"]);
    let mut peer = Peer::open(address);
    peer.echo(Opcode::Binary, b"x");
    // One in the middle of a frame, one that has not asked for anything.
    let mut midway = Peer::open(address);
    midway.stream.write_all(&frame(Opcode::Binary, &[1; 1000])[..500]).unwrap();
    let silent = tcp(address);
    server.signal(Signal::TERM);
    let (status, _, errors) = server.end();
    assert!(status.success(), "{status}: {errors}");
    drop((peer, midway, silent));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut server, address) = server(&["--close-timeout", "1h"]);
    let mut peer = Peer::open(address);
    peer.echo(Opcode::Binary, b"x");
    server.signal(Signal::TERM);
    assert_eq!(peer.next().map(|(_, opcode, _)| opcode), Some(Opcode::Close));
    server.signal(Signal::TERM);
    let (status, _, _) = server.end();
    assert_eq!(status.code(), Some(128 + 15));
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let (_server, address) = server(&["--max-connections", "2"]);
    let (mut first, mut second) = (Peer::open(address), Peer::open(address));
    let answer = answer_to(address, &request(address, "/"));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    first.echo(Opcode::Binary, b"still here");
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    while answer_starts(address, "/") != "HTTP/1.1 101" {
        assert!(Instant::now() < deadline, "nobody gets in though one has left");
    }
    second.echo(Opcode::Binary, b"me too");
}

/// The first bytes of the answer to an upgrade request for `target`.
fn answer_starts(address: SocketAddr, target: &str) -> String {
    let mut stream = tcp(address);
    stream.write_all(&request(address, target)).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    String::from_utf8(start.to_vec()).unwrap()
}

#[test]
fn an_opening_handshake_that_takes_too_long_is_cut_off() {
    let (_server, address) = server(&["--handshake-timeout", "200ms"]);
    let mut silent = tcp(address);
    let mut slow = tcp(address);
    let mut writer = slow.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        for byte in request(address, "/") {
            if writer.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the whole request was taken, a byte at a time");
    });
    for stream in [&mut silent, &mut slow] {
        let mut all = Vec::new();
        // An end or a reset, and no answer.
        let _ = stream.read_to_end(&mut all);
        assert_eq!(String::from_utf8_lossy(&all), "");
    }
    dripping.join().unwrap();
    Peer::open(address).echo(Opcode::Binary, b"others are served");
}

#[test]
fn a_silent_connection_is_closed_when_asked_to() {
    let (_server, address) = server(&["--idle-timeout", "200ms"]);
    let mut peer = Peer::open(address);
    peer.echo(Opcode::Binary, b"x");
    peer.expect_close(1000);
}

#[test]
fn pings_are_sent_and_a_peer_that_leaves_one_unanswered_is_dropped() {
    let (_server, address) = server(&["--ping-interval", "150ms"]);
    let mut peer = Peer::open(address);
    for _ in 0..3 {
        peer.expect(Opcode::Ping, b"");
        peer.send(Opcode::Pong, b"");
    }
    peer.expect(Opcode::Ping, b"");
    assert!(ends(&mut peer.stream), "it is dropped without a word");
}

/// Reads to the end; whether nothing came before it.
fn ends(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let result = stream.read_to_end(&mut rest);
    let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(result.as_ref().err().is_none_or(reset), "{result:?}");
    rest.is_empty()
}

#[test]
fn a_close_frame_left_unanswered_ends_the_connection_in_time() {
    let (_server, address) = server(&["--idle-timeout", "100ms", "--close-timeout", "200ms"]);
    let mut peer = Peer::open(address);
    assert_eq!(peer.next().map(|(_, opcode, _)| opcode), Some(Opcode::Close));
    assert!(ends(&mut peer.stream));
}

#[test]
fn a_peer_that_says_goodbye_and_never_reads_is_dropped_in_time() {
    // As much may wait as is sent: else the server would stop reading before the goodbye.
    let flags = ["--close-timeout=300ms", "--handshake-timeout=100ms", "--stats=50ms", "--max-queued=64MiB"];
    let (server, address) = server(&flags);
    for goodbye in [&frame(Opcode::Close, b"")[..], &[]] {
        let mut deaf = Peer::open(address);
        // The time limit of the opening handshake passes: it must not be what ends the connection.
        std::thread::sleep(Duration::from_millis(150));
        // More than both kernels hold.
        let message = frame(Opcode::Binary, &vec![1; 900_000]);
        for _ in 0..8 {
            deaf.stream.write_all(&message).unwrap();
        }
        deaf.stream.write_all(goodbye).unwrap();
        deaf.stream.shutdown(std::net::Shutdown::Write).unwrap();
        until_line(&server, "1 connections,");
        until_line(&server, "0 connections,");
        drop(deaf);
    }
}

/// Waits for a line of `--stats` that starts so.
fn until_line(server: &Process, start: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let line = server.line();
        if line.starts_with(start) {
            return line;
        }
        assert!(Instant::now() < deadline, "no line `{start}`, at last `{line}`");
    }
}

#[test]
fn a_message_over_the_limit_is_closed_with_1009() {
    let (_server, address) = server(&["--max-message", "1000B"]);
    let mut peer = Peer::open(address);
    peer.echo(Opcode::Binary, &[1; 1000]);
    peer.send(Opcode::Binary, &[1; 1001]);
    peer.expect_close(1009);
    let mut peer = Peer::open(address);
    let fragments =
        [fragment(Opcode::Binary, false, &[1; 600]), fragment(Opcode::Continuation, true, &[1; 600])];
    peer.stream.write_all(&fragments.concat()).unwrap();
    assert_eq!(peer.next(), Some((false, Opcode::Binary, vec![1; 600])));
    peer.expect_close(1009);
}

#[test]
fn a_large_message_streams_through_in_bounded_memory() {
    const MESSAGE: usize = 32 << 20;
    // 4 MiB of receive buffers; the outbox, what one turn adds to it, and buffers kept for reuse come on top.
    let (server, address) = server(&["--buffers", "64"]);
    for opcode in [Opcode::Binary, Opcode::Text] {
        let mut peer = Peer::open(address);
        // Small enough to come in one piece: text that does not is answered in fragments.
        peer.echo(opcode, &[b'a'; 1000]);
        let id = server.id();
        let before = resident_bytes(id);
        let mut writer = peer.stream.try_clone().unwrap();
        let message: Vec<u8> = (0..MESSAGE).map(|at| b'a' + (at % 23) as u8).collect();
        let bytes = frame(opcode, &message);
        let most = std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&bytes).unwrap());
            let watching = scope.spawn(move || resident_bytes_at_most(id, 20));
            // Text comes back in fragments, binary in the one frame that it was.
            let mut got = 0;
            let mut fin = false;
            while !fin {
                let (last, _, payload) = peer.next().expect("a frame, not the end");
                assert!(payload[..] == message[got..got + payload.len()], "at byte {got}");
                (got, fin) = (got + payload.len(), last);
            }
            assert_eq!(got, MESSAGE);
            watching.join().unwrap()
        });
        let grown = most.max(resident_bytes(server.id())).saturating_sub(before);
        assert!(grown < 12 << 20, "{opcode:?}: {grown} bytes more for a message of {MESSAGE}");
    }
}

/// The most that process `id` has resident, looked at `count` times.
fn resident_bytes_at_most(id: u32, count: usize) -> u64 {
    let look = |_| {
        std::thread::sleep(Duration::from_millis(5));
        resident_bytes(id)
    };
    (0..count).map(look).max().unwrap_or(0)
}

#[test]
fn a_flood_of_small_messages_to_a_peer_that_never_reads_takes_bounded_memory() {
    let (server, address) = server(&["--stats", "50ms"]);
    let mut other = Peer::open(address);
    let before = resident_bytes(server.id());
    let mut deaf = Peer::open(address);
    deaf.stream.set_nonblocking(true).unwrap();
    let small = frame(Opcode::Binary, &[1; 20]);
    let (mut sent_bytes, mut at) = (0usize, 0);
    let mut stuck_count = 0;
    while stuck_count < 100 {
        match deaf.stream.write(&small[at..]) {
            Ok(count) => {
                at = (at + count) % small.len();
                (sent_bytes, stuck_count) = (sent_bytes + count, 0);
            }
            Err(_) => {
                stuck_count += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(sent_bytes < 256 << 20, "it reads on and on");
    }
    other.echo(Opcode::Binary, b"others are served");
    let grown = resident_bytes(server.id()).saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more after {sent_bytes} bytes of small messages");
    let deadline = Instant::now() + PATIENCE;
    while until_line(&server, "2 connections,").contains(" 0 pauses") {
        assert!(Instant::now() < deadline, "it was never stopped being read from");
    }
}

#[test]
fn stats_count_what_was_done() {
    let (server, address) = server(&["--stats", "100ms"]);
    let mut peer = Peer::open(address);
    (0..10).for_each(|_| peer.echo(Opcode::Binary, b"x"));
    answer_to(address, &request(address, "/elsewhere"));
    let deadline = Instant::now() + PATIENCE;
    while !until_line(&server, "1 connections,")
        .contains("2 accepted, 1 upgraded, 1 rejected, 0 faults, 0 timeouts")
    {
        assert!(Instant::now() < deadline, "the counts do not come");
    }
    drop(server);
}

#[test]
fn limits_are_held_as_the_flags_say_and_the_last_account_says_what_happened() {
    let flags = [
        "--max-fragments=2",
        "--max-control-rate=5",
        "--stall-timeout=200ms",
        "--max-connections-per-address=4",
        "--stats=1h",
    ];
    let (mut server, address) = server(&flags);
    let mut honest = Peer::open(address);
    let mut crumbs = Peer::open(address);
    let three = [(Opcode::Binary, false), (Opcode::Continuation, false), (Opcode::Continuation, true)];
    crumbs.stream.write_all(&three.map(|(opcode, fin)| fragment(opcode, fin, b"")).concat()).unwrap();
    for opcode in [Opcode::Binary, Opcode::Continuation] {
        assert_eq!(crumbs.next(), Some((false, opcode, Vec::new())));
    }
    crumbs.expect_close(1008);
    let mut flood = Peer::open(address);
    flood.stream.write_all(&frame(Opcode::Pong, b"").repeat(500)).unwrap();
    flood.expect_close(1008);
    let mut midway = Peer::open(address);
    midway.stream.write_all(&frame(Opcode::Binary, b"never whole")[..4]).unwrap();
    assert!(ends(&mut midway.stream), "it is dropped without a word");
    // Those that were here before may not be gone yet, but there are never more than four answered with an upgrade.
    let mut crowd: Vec<_> = (0..3).map(|_| tcp(address)).collect();
    let deadline = Instant::now() + PATIENCE;
    while answer_starts(address, "/") != "HTTP/1.1 429" {
        assert!(Instant::now() < deadline, "as many get in as like to");
        crowd.push(tcp(address));
    }
    honest.echo(Opcode::Binary, b"still served");
    server.signal(Signal::TERM);
    honest.expect_close(1001);
    drop(crowd);
    let (status, output, errors) = server.end();
    assert!(status.success(), "{status}: {errors}");
    let account = output.split_once("counted until the end:\n").expect("a last account").1;
    for line in ["faults 2", "faults_policy 2", "timeouts_stall 1", "messages 1"] {
        assert!(account.lines().any(|counted| counted == line), "no `{line}`: {account}");
    }
    assert!(account.contains("rejections_from_address "), "{account}");
}

#[test]
fn a_server_at_rest_uses_no_cpu() {
    let (server, address) = server(&[]);
    let peers: Vec<_> = (0..100).map(|_| Peer::open(address)).collect();
    // What follows an opening: task work, memory given back, and a look after those that fell silent.
    std::thread::sleep(Duration::from_millis(3500));
    let before = (used_ns(server.id()), switches(server.id()));
    std::thread::sleep(Duration::from_millis(1500));
    let used_ns = used_ns(server.id()) - before.0;
    let switches = switches(server.id()) - before.1;
    assert!(used_ns < 1_000_000, "{used_ns} ns of CPU at rest");
    assert!(switches <= 5, "woken {switches} times at rest");
    drop(peers);
}

fn threads(id: u32) -> Vec<std::path::PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    tasks.map(|task| task.unwrap().path()).collect()
}

fn used_ns(id: u32) -> u64 {
    ringsock::cpu::used_ns(id, None).unwrap()
}

fn switches(id: u32) -> u64 {
    let of = |task: std::path::PathBuf| -> u64 {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    };
    threads(id).into_iter().map(of).sum()
}
