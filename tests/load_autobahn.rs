//! `ringsock-load --autobahn`: every case of a fuzzing server is held over every engine, and what cannot be is named.
//!
//! The suite is played by a thread of the test; `bench-scripts/autobahn` runs the real one.

#[path = "common/peer.rs"]
mod peer;
#[path = "common/run.rs"]
mod run;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use peer::PATIENCE;
use ringsock::ws::handshake::ServerHandshake;
use run::run;

/// Closes with 1000, unmasked.
const CLOSE: &[u8] = b"\x88\x02\x03\xE8";

/// A fuzzing server of three cases, the second of which it refuses; the targets that it was asked for, by order.
fn suite(listener: &TcpListener) -> Vec<String> {
    let mut targets = Vec::new();
    while targets.last().is_none_or(|target: &String| !target.starts_with("/updateReports")) {
        let mut stream = listener.accept().unwrap().0;
        let request = request(&mut stream);
        let target = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap().to_owned();
        let mut handshake = ServerHandshake::new(8192);
        let upgrade = handshake.on_bytes(&request).unwrap().unwrap();
        if target.contains("case=2&") {
            stream.write_all(b"HTTP/1.1 500 Oops\r\n\r\n").unwrap();
        } else {
            let said: &[u8] = match upgrade.path() {
                "/getCaseCount" => b"\x81\x013",
                "/runCase" => b"\x82\x03abc",
                _ => b"",
            };
            stream.write_all(&[&upgrade.accept(), said, CLOSE].concat()).unwrap();
            let mut answer = Vec::new();
            while answer.len() < answer_bytes(upgrade.path()) {
                let mut byte = [0];
                assert_eq!(stream.read(&mut byte).unwrap(), 1, "{target}: {answer:?}");
                answer.push(byte[0]);
            }
        }
        targets.push(target);
    }
    targets
}

/// A client's Close frame with a code has 8 bytes, and so much is an echo of three bytes longer.
fn answer_bytes(path: &str) -> usize {
    if path == "/runCase" { 9 + 8 } else { 8 }
}

fn request(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "a whole request");
        request.extend(byte);
    }
    request
}

#[test]
fn every_case_is_held_over_every_engine_and_the_one_that_was_refused_is_named() {
    for engine in ["uring", "tokio-uring", "epoll"] {
        for more in [&[][..], &["--deflate"]] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("ws://{}/", listener.local_addr().unwrap());
            let suite = std::thread::spawn(move || suite(&listener));
            let ended = run(&[&["--autobahn", "me", "--engine", engine, &url], more].concat());
            let (engine, output) = (format!("{engine} {more:?}"), &ended.output);
            let expected = [
                "/getCaseCount",
                "/runCase?case=1&agent=me",
                "/runCase?case=2&agent=me",
                "/runCase?case=3&agent=me",
                "/updateReports?agent=me",
            ];
            assert_eq!(suite.join().unwrap(), expected, "{engine}");
            assert_eq!((ended.code, ended.results.len()), (Some(1), 0), "{engine}: {}", ended.errors);
            assert!(ended.errors.contains("case 2: handshake: ") && ended.errors.contains("500"), "{engine}");
            assert!(output.starts_with("3 cases as me over ") && output.contains(", 1 not held"), "{output}");
        }
    }
}

#[test]
fn a_server_that_is_no_fuzzing_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let ended = run(&["--autobahn", "me", &url]);
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains("getCaseCount: connect: "), "{}", ended.errors);
}

#[test]
fn a_secured_server_is_visited_over_every_engine_where_it_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("certificate.pem");
    let certificate = certificate.to_str().unwrap();
    let flags = ["--tls-self-signed", "--tls-save-cert", certificate];
    let (_server, address) = peer::server(env!("CARGO_BIN_EXE_ringsock-server"), &flags);
    let url = format!("wss://{address}/");
    for engine in ["uring", "tokio-uring", "epoll"] {
        let trusting = run(&["--autobahn", "me", "--engine", engine, "--ca", certificate, &url]);
        // It is no fuzzing server, and says so in its answer.
        assert!(trusting.errors.contains("getCaseCount: handshake: "), "{engine}: {}", trusting.errors);
        assert!(trusting.errors.contains("404"), "{engine}: {}", trusting.errors);
        let wary = run(&["--autobahn", "me", "--engine", engine, &url]);
        assert!(wary.errors.contains("getCaseCount: TLS: "), "{engine}: {}", wary.errors);
    }
}

#[test]
fn what_it_cannot_be_used_with_is_refused_with_the_mend() {
    for (flags, mend) in [
        (&["--autobahn", "me"][..], "URL"),
        (&["--autobahn", "a&b", "ws://127.0.0.1:1/"], "letters, digits"),
        (&["--autobahn", "me", "tcp://127.0.0.1:1/"], "write ws://"),
        (&["--autobahn", "me", "--runs", "2", "ws://127.0.0.1:1/"], "--runs"),
    ] {
        let ended = run(flags);
        assert_eq!(ended.code, Some(2), "{flags:?}: {}", ended.errors);
        assert!(ended.errors.contains(mend), "{flags:?}: {}", ended.errors);
    }
}
