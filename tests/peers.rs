//! ringsock against independent WebSocket implementations: Python's `websockets` and Node's `ws`.
//!
//! Each library's client holds a conversation with `ringsock-server`, and `ringsock-load` drives an echo server made
//! with each. The conversations themselves are in `tests/peers/`; this file starts, bounds and judges them. Every
//! process started here has a deadline and is killed by its own id when its handle is dropped, whichever way the
//! test ends.
//!
//! `tests/peers/install` puts the libraries under the target directory, from here, at first use. Where that can't be
//! done the test says so on standard error and passes unrun, unless `CI` is set or `RINGSOCK_PEERS=require`: then it fails.
//!
//! Nothing here measures: how long anything takes is only bounded, never judged.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
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

/// No process of a test lives longer; far above what any of them needs on a busy machine.
const PROCESS_TIME_MAX: Duration = Duration::from_secs(120);
/// Package downloads included.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(300);

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

fn client_and_our_server_agree(peer: Peer) {
    if !peer.is_ready() {
        return;
    }
    let (server, url) = our_server();
    let client = Process::start(peer.name(), peer.command("client").args([&url, "conversation"]));
    let (status, transcript) = client.wait();
    for check in CHECKS {
        let line = format!("ok {check}");
        assert!(transcript.lines().any(|it| it == line), "no `{line}` from {peer:?}:\n{transcript}");
    }
    assert!(status.success(), "{peer:?}'s client ended with {status}:\n{transcript}");
    end_with_exit_0(server);
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
    if !peer.is_ready() {
        return;
    }
    let lifetime = PROCESS_TIME_MAX.as_secs().to_string();
    let mut command = peer.command("echo_server");
    command.args(["--listen", "127.0.0.1:0", "--lifetime", &lifetime]);
    let server = Process::start(peer.name(), &mut command);
    let url = server.wait_for_line("listening on ").split_off("listening on ".len());
    let results = tempfile::tempdir().expect("a directory for results");

    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-load"));
    command.arg(&url).args("--connections 8 --payload 64 --duration 1s --warmup 200ms --quiet".split(' '));
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-server"));
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

/// An independent implementation, and where `tests/peers/install` puts it.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Python,
    Node,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Python => "python",
            Peer::Node => "node",
        }
    }

    /// Runs the peer's helper program of that name, without its extension.
    fn command(self, program: &str) -> Command {
        let prefix = installed();
        let file = |extension| sources().join(program).with_extension(extension);
        match self {
            Peer::Python => {
                let mut command = Command::new(prefix.join("python/bin/python3"));
                command.arg(file("py")).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Peer::Node => {
                let mut command = Command::new("node");
                command.arg(file("mjs")).env("NODE_PATH", prefix.join("node/node_modules"));
                command
            }
        }
    }

    /// Whether the peer can be run; installs it at first use. Panics instead of `false` where the peers are required.
    fn is_ready(self) -> bool {
        static PYTHON: OnceLock<Result<(), String>> = OnceLock::new();
        static NODE: OnceLock<Result<(), String>> = OnceLock::new();
        let cell = match self {
            Peer::Python => &PYTHON,
            Peer::Node => &NODE,
        };
        let Err(why) = cell.get_or_init(|| self.install()) else { return true };
        let name = self.name();
        assert!(!required(), "the {name} peer could not be installed, and it is required here:\n{why}");
        // Not eprintln!: the test harness hides what that prints for tests that pass.
        writeln!(std::io::stderr(), "skipped: mend what stops `tests/peers/install {name}`:\n{why}")
            .expect("standard error");
        false
    }

    fn install(self) -> Result<(), String> {
        // `timeout` ends the package manager too, which killing the script alone would not.
        let mut command = Command::new("timeout");
        command.args([INSTALL_TIME_MAX.as_secs().to_string().as_str(), "bash"]);
        command.arg(sources().join("install")).arg("--prefix").arg(installed()).arg(self.name());
        let time_max = INSTALL_TIME_MAX + Duration::from_secs(10);
        let (status, transcript) = Process::start_for("tests/peers/install", &mut command, time_max).wait();
        if status.success() { Ok(()) } else { Err(format!("{transcript}it ended with {status}")) }
    }
}

fn required() -> bool {
    std::env::var_os("CI").is_some_and(|it| !it.is_empty())
        || std::env::var_os("RINGSOCK_PEERS").as_deref() == Some(OsStr::new("require"))
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

/// `target/peers`: beside cargo's own directory for tests.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers")
}

/// A child with a deadline, its output collected as it comes. Dropping it kills it and waits.
struct Process {
    name: &'static str,
    child: Child,
    deadline: Instant,
    lines: Receiver<String>,
    transcript: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    fn start(name: &'static str, command: &mut Command) -> Process {
        Process::start_for(name, command, PROCESS_TIME_MAX)
    }

    fn start_for(name: &'static str, command: &mut Command, time_max: Duration) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (sender, lines) = channel();
        let transcript = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        // Nobody may be waiting for a line any more; the transcript has it all the same.
        let readers = vec![
            read_lines(stdout, transcript.clone(), move |line| drop(sender.send(line))),
            read_lines(stderr, transcript.clone(), drop),
        ];
        Process { name, child, deadline: Instant::now() + time_max, lines, transcript, readers }
    }

    /// The next line of standard output that starts so; panics at the end of the output or of the time.
    fn wait_for_line(&self, start: &str) -> String {
        loop {
            match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(_) => {}
                Err(why) => panic!("{}: no line `{start}` ({why}):\n{}", self.name, self.transcript()),
            }
        }
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .unwrap_or_else(|error| panic!("SIGTERM to {}: {error}:\n{}", self.name, self.transcript()));
    }

    /// How the process ended, and all it printed; panics when its time is over.
    fn wait(mut self) -> (ExitStatus, String) {
        let status = loop {
            match self.child.try_wait().expect("waiting for a child of our own") {
                Some(status) => break status,
                None if Instant::now() >= self.deadline => {
                    panic!("{} did not end in its time:\n{}", self.name, self.transcript())
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of output");
        }
        (status, self.transcript())
    }

    fn transcript(&self) -> String {
        self.transcript.lock().expect("no reader panics").clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where the process has ended and been waited for already, which is the aim.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends each line to the transcript, then hands it to `on_line`.
fn read_lines(
    from: impl Read + Send + 'static,
    transcript: Arc<Mutex<String>>,
    on_line: impl Fn(String) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut all = transcript.lock().expect("no reader panics");
            all.push_str(&line);
            all.push('\n');
            drop(all);
            on_line(line);
        }
    })
}
