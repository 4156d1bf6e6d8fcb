//! ringsock against independent WebSocket implementations: Python's `websockets` and Node's `ws`.
//!
//! Each library's client holds a conversation with `ringsock-server`, and `ringsock-load` drives an echo server made
//! with each. The conversations themselves are in `tests/peers/`; this file judges them, `foreign` starts and bounds them, and
//! says what happens where a library can't be installed.
//!
//! Nothing here measures: how long anything takes is only bounded, never judged.

#[path = "common/foreign.rs"]
mod foreign;

use std::path::Path;
use std::process::Command;

use foreign::{PROCESS_TIME_MAX, Peer, Process};
use ringsock::engine::EngineKind;
use serde_json::Value;

/// What a conversation checks, by the names both clients report: a check that got lost fails the test.
const CHECKS: [&str; 9] = [
    "text messages",
    "binary messages",
    "fragmented messages",
    "pings",
    "close codes",
    "pipelined messages",
    "concurrent connections",
    "unknown path",
    "compression offer",
];

#[test]
fn python_client_and_our_server_agree() {
    client_and_our_server_agree(Peer::Python);
}

#[test]
fn node_client_and_our_server_agree() {
    client_and_our_server_agree(Peer::Node);
}

#[test]
fn python_client_is_told_that_our_server_goes_away() {
    client_is_told_that_our_server_goes_away(Peer::Python);
}

#[test]
fn node_client_is_told_that_our_server_goes_away() {
    client_is_told_that_our_server_goes_away(Peer::Node);
}

#[test]
fn python_server_answers_every_message_of_an_open_loop() {
    server_answers_every_message(Peer::Python, &["--rate", "2000"]);
}

#[test]
fn node_server_answers_every_message_of_an_open_loop() {
    server_answers_every_message(Peer::Node, &["--rate", "2000"]);
}

#[test]
fn python_server_answers_every_message_of_a_closed_loop() {
    server_answers_every_message(Peer::Python, &["--closed-loop", "--pipeline", "4"]);
}

#[test]
fn node_server_answers_every_message_of_a_closed_loop() {
    server_answers_every_message(Peer::Node, &["--closed-loop", "--pipeline", "4", "--text"]);
}

#[test]
fn python_client_and_our_server_agree_compressed() {
    client_and_our_server_agree_on(Peer::Python, &["--deflate", "--deflate-threshold", "0"], "compressed");
}

#[test]
fn node_client_and_our_server_agree_compressed() {
    client_and_our_server_agree_on(Peer::Node, &["--deflate"], "compressed");
}

#[test]
fn node_client_and_our_server_agree_on_what_the_server_wants() {
    let flags = [
        "--deflate",
        "--deflate-takeover",
        "neither",
        "--deflate-window-bits",
        "10,11",
        "--deflate-level",
        "9",
    ];
    client_and_our_server_agree_on(Peer::Node, &flags, "compressed");
}

#[test]
fn python_server_answers_every_compressed_message() {
    let flags = ["--rate", "2000", "--text", "--filling", "json", "--payload", "700", "--deflate"];
    server_answers_every_message(Peer::Python, &flags);
}

#[test]
fn node_server_answers_every_compressed_message() {
    let flags = ["--closed-loop", "--filling", "json", "--payload", "20KiB", "--deflate"];
    server_answers_every_message(Peer::Node, &flags);
}

#[test]
fn node_server_answers_every_message_that_is_compressed_by_itself() {
    let flags = ["--rate", "1000", "--filling", "json", "--payload", "2KiB", "--deflate"];
    let more = ["--deflate-takeover", "neither", "--deflate-window-bits", "9", "--deflate-level", "6"];
    server_answers_every_message(Peer::Node, &[&flags[..], &more].concat());
}

/// Over each engine: `websockets` has OpenSSL's TLS below it, as `ws` has.
#[test]
fn python_client_and_our_server_agree_over_tls() {
    EngineKind::ALL.into_iter().for_each(|engine| secured_client_and_our_server_agree(Peer::Python, engine));
}

#[test]
fn node_client_and_our_server_agree_over_tls() {
    EngineKind::ALL.into_iter().for_each(|engine| secured_client_and_our_server_agree(Peer::Node, engine));
}

#[test]
fn python_server_answers_every_message_over_tls() {
    EngineKind::ALL.into_iter().for_each(|engine| secured_server_answers_every_message(Peer::Python, engine));
}

#[test]
fn node_server_answers_every_message_over_tls() {
    EngineKind::ALL.into_iter().for_each(|engine| secured_server_answers_every_message(Peer::Node, engine));
}

fn secured_client_and_our_server_agree(peer: Peer, engine: EngineKind) {
    if !peer.is_ready() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory for the certificate");
    let certificate = folder.path().join("certificate.pem");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-server"));
    command.args("--listen 127.0.0.1:0 --threads 1 --tls-self-signed --tls-save-cert".split(' '));
    command.arg(&certificate).args(["--engine", engine.name()]);
    let server = Process::start("ringsock-server", &mut command);
    let url = server.wait_for_line("listening on wss://").split_off("listening on ".len());
    let mut command = peer.command("client");
    // What OpenSSL and Node each are told whom to trust by.
    command.env("SSL_CERT_FILE", &certificate).env("NODE_EXTRA_CA_CERTS", &certificate);
    converse(peer, command, &url);
    end_with_exit_0(server);
}

fn secured_server_answers_every_message(peer: Peer, engine: EngineKind) {
    if !peer.is_ready() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory for the certificate");
    let file = |name: &str| folder.path().join(name).to_str().expect("a plain name").to_owned();
    let made = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=here".split(' '),
        )
        .args("-addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE".split(' '))
        .args(["-out", &file("certificate.pem"), "-keyout", &file("key.pem")])
        .output();
    if !made.as_ref().is_ok_and(|made| made.status.success()) {
        eprintln!("SKIPPED, nothing was tested: openssl makes no certificate: {made:?}");
        return;
    }
    let tls = ["--tls-cert", &file("certificate.pem"), "--tls-key", &file("key.pem")];
    let how = ["--rate", "1000", "--ca", &file("certificate.pem"), "--engine", engine.name()];
    answers_every_message(peer, &tls, &how);
}

fn client_and_our_server_agree(peer: Peer) {
    client_and_our_server_agree_on(peer, &[], "conversation");
}

fn client_and_our_server_agree_on(peer: Peer, flags: &[&str], conversation: &str) {
    if !peer.is_ready() {
        return;
    }
    let (server, url) = our_server_with(flags);
    converse_about(conversation, peer, peer.command("client"), &url);
    end_with_exit_0(server);
}

fn converse(peer: Peer, command: Command, url: &str) {
    converse_about("conversation", peer, command, url);
}

fn converse_about(conversation: &str, peer: Peer, mut command: Command, url: &str) {
    let client = Process::start(peer.name(), command.args([url, conversation]));
    let (status, transcript) = client.wait();
    for check in CHECKS {
        let line = format!("ok {check}");
        assert!(transcript.lines().any(|it| it == line), "no `{line}` from {peer:?}:\n{transcript}");
    }
    assert!(status.success(), "{peer:?}'s client ended with {status}:\n{transcript}");
}

fn client_is_told_that_our_server_goes_away(peer: Peer) {
    if !peer.is_ready() {
        return;
    }
    let (server, url) = our_server();
    let client = Process::start(peer.name(), peer.command("client").args([&url, "goodbye"]));
    client.wait_for_line("open");
    end_with_exit_0(server);
    let (status, transcript) = client.wait();
    assert!(status.success(), "{peer:?}'s client ended with {status}:\n{transcript}");
}

fn server_answers_every_message(peer: Peer, how: &[&str]) {
    if peer.is_ready() {
        answers_every_message(peer, &[], how);
    }
}

fn answers_every_message(peer: Peer, served_how: &[&str], how: &[&str]) {
    let lifetime = PROCESS_TIME_MAX.as_secs().to_string();
    let mut command = peer.command("echo_server");
    command.args(["--listen", "127.0.0.1:0", "--lifetime", &lifetime]).args(served_how);
    command.args(how.iter().filter(|flag| **flag == "--deflate"));
    let server = Process::start(peer.name(), &mut command);
    let url = server.wait_for_line("listening on ").split_off("listening on ".len());
    let results = tempfile::tempdir().expect("a directory for results");

    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-load"));
    command.arg(&url).args("--connections 8 --duration 1s --warmup 200ms --quiet".split(' '));
    let load = Process::start("ringsock-load", command.args(how).arg("--results").arg(results.path()));
    let saved = load.wait_for_line("saved ").split_off("saved ".len());
    let (status, transcript) = load.wait();
    assert!(status.success(), "ringsock-load ended with {status}:\n{transcript}");

    assert!(Path::new(&saved).starts_with(results.path()), "saved elsewhere than asked: {saved}");
    all_answered(&std::fs::read_to_string(&saved).expect("the saved result"));
    end_with_exit_0(server);
}

/// The result accounts for every message: something was sent, all of it was answered, nothing went wrong.
fn all_answered(result: &str) {
    let result: Value = serde_json::from_str(result).expect("the result is JSON");
    let accounting = &result["accounting"];
    let count = |name: &str| total(&accounting[name]).unwrap_or_else(|| panic!("no {name} in {accounting}"));
    assert!(count("sent") > 0, "nothing sent: {accounting}");
    assert_eq!(count("answered"), count("sent"), "{accounting}");
    assert_eq!(count("outstanding"), 0, "{accounting}");
    assert_eq!(count("errors"), 0, "{accounting}");
}

/// A count, or the sum of counts by class.
fn total(value: &Value) -> Option<u64> {
    match value {
        Value::Object(classes) => classes.values().map(total).sum(),
        other => other.as_u64(),
    }
}

/// A running `ringsock-server` on a free port, and its URL (ends in `/`).
fn our_server() -> (Process, String) {
    our_server_with(&[])
}

/// The same with further flags.
fn our_server_with(flags: &[&str]) -> (Process, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-server"));
    command.args(flags);
    let server =
        Process::start("ringsock-server", command.args("--listen 127.0.0.1:0 --threads 1".split(' ')));
    let url = server.wait_for_line("listening on ").split_off("listening on ".len());
    (server, url)
}

/// SIGTERM closes, drains and ends a server with success: ours by its documentation, the peers' as they were written.
fn end_with_exit_0(server: Process) {
    server.terminate();
    let name = server.name;
    let (status, transcript) = server.wait();
    assert!(status.success(), "{name} ended with {status} on SIGTERM:\n{transcript}");
}
