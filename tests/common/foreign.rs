//! Programs that are not ours, for tests: Python and Node with the libraries that `tests/peers/install` puts under the
//! target directory, at first use; and a Chromium, if the system has one.
//!
//! Every process started here has a deadline and is killed by its own id when its handle is dropped, whichever way the
//! test ends. Where the libraries can't be installed the test says so on standard error and passes unrun, unless `CI` is set or
//! `RINGSOCK_PEERS=require`: then it fails.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No process of a test lives longer; far above what any of them needs on a busy machine.
pub(crate) const PROCESS_TIME_MAX: Duration = Duration::from_secs(120);
/// Package downloads included.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(300);

/// An independent implementation, and where `tests/peers/install` puts it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Python,
    Node,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Python => "python",
            Peer::Node => "node",
        }
    }

    /// Runs the peer's helper program of that name, without its extension.
    pub(crate) fn command(self, program: &str) -> Command {
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
    pub(crate) fn is_ready(self) -> bool {
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

/// A Chromium to look at pages with, by whatever name it is installed. Panics instead of `None` where peers are required.
pub(crate) fn browser() -> Option<PathBuf> {
    const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = NAMES.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    let found = places.into_iter().find(|place| place.is_file());
    if found.is_none() {
        assert!(!required(), "no Chromium here, and it is required (Debian: apt-get install chromium)");
        writeln!(std::io::stderr(), "skipped: no Chromium here (Debian: apt-get install chromium)")
            .expect("standard error");
    }
    found
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
pub(crate) struct Process {
    pub(crate) name: &'static str,
    child: Child,
    deadline: Instant,
    lines: Receiver<String>,
    transcript: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Process {
        Process::start_for(name, command, PROCESS_TIME_MAX)
    }

    pub(crate) fn start_for(name: &'static str, command: &mut Command, time_max: Duration) -> Process {
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
    pub(crate) fn wait_for_line(&self, start: &str) -> String {
        loop {
            match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(_) => {}
                Err(why) => panic!("{}: no line `{start}` ({why}):\n{}", self.name, self.transcript()),
            }
        }
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .unwrap_or_else(|error| panic!("SIGTERM to {}: {error}:\n{}", self.name, self.transcript()));
    }

    /// How the process ended, and all it printed; panics when its time is over.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
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
