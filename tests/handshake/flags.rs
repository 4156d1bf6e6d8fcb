//! Flags of the server and the generator that are about the opening handshake, over every engine.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use ringsock::measure::result::Status;
use ringsock::ws::frame::Opcode;

use super::peer::{Process, frame, server, tcp};
use super::run::run;
use super::{ENGINES, SERVER};

const LEAST: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

fn start(engine: &str, flags: &[&str]) -> (Process, SocketAddr) {
    server(SERVER, &[&["--threads", "1", "--engine", engine], flags].concat())
}

/// What comes back for a request with these lines, its head cut at `cut`, and a Close behind it.
fn answer(address: SocketAddr, lines: &str, cut: usize) -> String {
    let head = format!("GET / HTTP/1.1\r\n{LEAST}{lines}\r\n");
    let mut stream = tcp(address);
    let (one, two) = head.as_bytes().split_at(cut);
    stream.write_all(one).unwrap();
    let goodbye = frame(Opcode::Close, &1000_u16.to_be_bytes());
    // Where the first part was refused already, the rest may find nobody.
    let _ = stream.write_all(&[two, &goodbye].concat());
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

#[test]
fn the_first_of_the_clients_subprotocols_that_is_spoken_is_chosen() {
    for engine in ENGINES {
        let (_server, address) = start(engine, &["--subprotocol", "chat,v2.chat", "--subprotocol", "last"]);
        for (lines, chosen) in [
            ("Sec-WebSocket-Protocol: other, v2.chat, chat\r\n", Some("v2.chat")),
            ("Sec-WebSocket-Protocol: other\r\nsec-websocket-protocol:,last,chat\r\n", Some("last")),
            ("Sec-WebSocket-Protocol: CHAT\r\n", None),
            ("", None),
        ] {
            let answer = answer(address, lines, 20);
            assert_eq!(status(&answer), "101", "{engine}, {lines:?}: {answer}");
            let line = answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
            assert_eq!(line, chosen, "{engine}, {lines:?}: {answer}");
        }
        for lines in ["Sec-WebSocket-Protocol: chat, other, chat\r\n", "Sec-WebSocket-Protocol: a/b\r\n"] {
            let answer = answer(address, lines, 20);
            assert!(status(&answer) == "400" && answer.contains("each of them once"), "{engine}: {answer}");
        }
    }
}

#[test]
fn only_pages_of_the_origins_listed_connect_and_the_others_are_counted() {
    for engine in ENGINES {
        let flags =
            ["--allow-origin", "https://a.example", "--allow-origin", "http://b:81,null", "--stats", "50ms"];
        let (server, address) = start(engine, &flags);
        for lines in ["", "Origin: HTTPS://A.Example:443\r\n", "Origin: http://b:81\r\n", "Origin: null\r\n"]
        {
            assert_eq!(status(&answer(address, lines, 20)), "101", "{engine}, {lines:?}");
        }
        for lines in
            ["Origin: http://a.example\r\n", "Origin: http://b\r\n", "Origin: null\r\nOrigin: null\r\n"]
        {
            let answer = answer(address, lines, 20);
            assert!(
                status(&answer) == "403" && answer.contains("this origin"),
                "{engine}, {lines:?}: {answer}"
            );
        }
        while !server.line().contains("4 upgraded, 3 rejected") {}
    }
}

#[test]
fn heads_up_to_the_bounds_are_taken_and_no_others() {
    for engine in ENGINES {
        let (_server, address) = start(engine, &["--max-head", "300B", "--max-headers", "7"]);
        let least_bytes = "GET / HTTP/1.1\r\n".len() + LEAST.len() + "X: \r\n".len() + "\r\n".len();
        for cut in [0, 1, 20, 250] {
            for (head_bytes, expected) in [(300, "101"), (301, "431")] {
                let line = format!("X: {}\r\n", "x".repeat(head_bytes - least_bytes));
                let answer = answer(address, &line, cut);
                assert_eq!(status(&answer), expected, "{engine}, {head_bytes} bytes, cut at {cut}: {answer}");
            }
            // Five are there.
            for (count, expected) in [(2, "101"), (3, "431")] {
                let answer = answer(address, &"X:\r\n".repeat(count), cut.min(100));
                assert_eq!(status(&answer), expected, "{engine}, {count} more lines, cut at {cut}: {answer}");
            }
        }
    }
}

#[test]
fn wrong_flags_are_named_with_what_would_be_right() {
    for (flags, mend) in [
        (["--max-head", "100B"], "--max-head 100: has to be 256 B to 1 MiB"),
        (["--max-head", "2MiB"], "has to be 256 B to 1 MiB"),
        (["--max-headers", "4"], "--max-headers 4: has to be 5 to 1024"),
        (["--max-headers", "1025"], "has to be 5 to 1024"),
        (["--subprotocol", "a b"], "letters, digits and"),
        (["--allow-origin", "https://a/path"], "no path"),
        (["--allow-origin", "a.example"], "https://example.com"),
    ] {
        let (status, _, errors) = Process::start(Command::new(SERVER).args(flags)).end();
        assert_eq!(status.code(), Some(2), "{flags:?}");
        assert!(
            errors.split_whitespace().collect::<Vec<_>>().join(" ").contains(mend),
            "{flags:?}: {errors}"
        );
    }
}

#[test]
fn the_generator_records_and_shows_the_subprotocol_that_was_chosen() {
    for engine in ENGINES {
        let ended = run(&["--engine", engine, "--rate", "500", "-c", "3", "--subprotocol", "v2.chat,chat"]);
        let result = ended.result(0, Status::Completed);
        assert_eq!(result.target.subprotocol.as_deref(), Some("v2.chat"), "{engine}");
        assert!(result.accounting.answered > 0 && result.accounting.errors.is_empty(), "{engine}");
        assert!(ended.output.contains("subprotocol v2.chat"), "{engine}: {}", ended.output);
    }
    let (_server, address) = start("auto", &["--subprotocol", "second"]);
    let url = format!("ws://{address}/");
    let ended = run(&["--rate", "500", "-c", "1", "--subprotocol", "first", "--subprotocol", "second", &url]);
    assert_eq!(ended.result(0, Status::Completed).target.subprotocol.as_deref(), Some("second"));
    let ended = run(&["--rate", "500", "-c", "1", &url]);
    assert_eq!(ended.result(0, Status::Completed).target.subprotocol, None);
}

#[test]
fn a_server_that_chooses_no_subprotocol_is_refused_by_name() {
    let (_server, address) = start("auto", &["--subprotocol", "chat"]);
    let ended = run(&["--subprotocol", "Chat", &format!("ws://{address}/")]);
    assert_eq!((ended.code, ended.results.len()), (Some(1), 0), "{}", ended.output);
    assert!(ended.errors.contains("none of the subprotocols offered"), "{}", ended.errors);
    for (flags, mend) in [
        (&["--subprotocol", "a,b,a"][..], "offered once"),
        (&["--subprotocol", "a b"], "letters, digits"),
        (&["--subprotocol", "a", "tcp://127.0.0.1:1/"], "measure a ws:// one"),
        (&["--subprotocol", "a", "--calibrate"], "leave it out"),
    ] {
        let ended = run(flags);
        assert_eq!(ended.code, Some(2), "{flags:?}: {}", ended.errors);
        assert!(ended.errors.contains(mend), "{flags:?}: {}", ended.errors);
    }
}
