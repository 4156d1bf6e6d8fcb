//! `ringsock-load --tui` in a real pseudo-terminal: the view appears, and the terminal comes back as it was, whatever ends
//! the run.

#[path = "common/peer.rs"]
mod peer;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use peer::PATIENCE;
use ringsock::measure::result::{RunResult, Status};
use ringsock::measure::store;
use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

const BINARY: &str = env!("CARGO_BIN_EXE_ringsock-load");
const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// The verdict's words as they are drawn.
const JUDGED: [&str; 3] = ["TRUSTED so far", "SUSPECT so far", "INVALID so far"];

/// A terminal: what is typed goes into `master`, what is shown comes out.
struct Terminal {
    master: File,
    slave: File,
    shown: Arc<Mutex<Vec<u8>>>,
    modes_before: String,
}

impl Terminal {
    fn new() -> Self {
        let open = |path: &str| OpenOptions::new().read(true).write(true).open(path).unwrap();
        let master = open("/dev/ptmx");
        let (mut number, unlocked): (libc::c_uint, libc::c_int) = (0, 0);
        // SAFETY: ioctl_tty(2): the first reads an int, the second writes an unsigned one; both live on this stack.
        unsafe {
            assert_eq!(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked), 0);
            assert_eq!(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number), 0);
        }
        let slave = open(&format!("/dev/pts/{number}"));
        let terminal = Self { modes_before: modes(&slave), shown: read_all(&master), master, slave };
        terminal.resize(100, 30);
        terminal
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// `ringsock-load --tui` on this terminal, which is its controlling one; its report goes elsewhere.
    fn run(&self, results: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = Command::new(BINARY);
        let slave = || Stdio::from(self.slave.try_clone().unwrap());
        command.stdin(slave()).stdout(Stdio::piped()).stderr(slave());
        command.args(["--tui", "--rate", "2000", "-c", "4", "--warmup", "100ms", "--results"]).arg(results);
        command.args(flags).env_remove("NO_COLOR").envs(variables.iter().copied());
        // SAFETY: between fork and exec only two system calls are made; nothing is allocated, no lock taken.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                Ok(ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        let mut child = command.spawn().unwrap();
        Running { report: child.stdout.take().unwrap(), child }
    }

    fn type_in(&self, keys: &[u8]) {
        (&self.master).write_all(keys).unwrap();
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until one of these is to be read on the screen; what is to be read there.
    fn wait_for(&self, any: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = screen_after(&self.shown());
            if any.iter().any(|what| screen.contains(what)) {
                return screen;
            }
            assert!(Instant::now() < deadline, "none of {any:?}:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_bytes(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown().contains(what) {
            assert!(Instant::now() < deadline, "no {what:?} in {}", self.shown().escape_debug());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process has ended: is everything as before it began?
    fn assert_given_back(&self) {
        self.wait_for_bytes(LEAVE);
        self.wait_for_bytes(&format!("{LEAVE}{SHOW_CURSOR}"));
        let shown = self.shown();
        assert_eq!(shown.matches(LEAVE).count(), 1, "{}", shown.escape_debug());
        let (_, after) = shown.split_once(LEAVE).unwrap();
        assert!(!after.contains(ENTER), "entered again: {}", after.escape_debug());
        assert!(!after.replace(SHOW_CURSOR, "").contains('\x1b'), "drawn after: {}", after.escape_debug());
        assert_eq!(modes(&self.slave), self.modes_before);
    }
}

/// The text on a screen after it was sent `bytes`: as much of a terminal as it takes to read what is drawn cell by cell.
fn screen_after(bytes: &str) -> String {
    let mut rows = vec![vec![' '; 200]; 60];
    let (mut row, mut column) = (0, 0);
    let mut rest = bytes;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\x1b' => {
                let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
                let (sequence, after) = rest.split_at(end);
                let number = |text: &str| text.parse::<usize>().expect("a row and a column");
                match (sequence.strip_prefix('['), after.bytes().next()) {
                    (Some(place), Some(b'H')) => {
                        let (y, x) = place.split_once(';').expect("a row and a column");
                        (row, column) = (number(y) - 1, number(x) - 1);
                    }
                    (Some("2"), Some(b'J')) => rows.iter_mut().for_each(|row| row.fill(' ')),
                    _ => {}
                }
                rest = after.get(1..).unwrap_or("");
            }
            '\r' => column = 0,
            '\n' => row += 1,
            _ => {
                if let Some(cell) = rows.get_mut(row).and_then(|row| row.get_mut(column)) {
                    *cell = c;
                }
                column += 1;
            }
        }
    }
    let lines = rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n");
    lines.collect::<String>().trim_end().to_owned()
}

fn modes(terminal: &File) -> String {
    let modes = tcgetattr(terminal).unwrap();
    let (input, output) = (modes.input_modes, modes.output_modes);
    format!(
        "{input:?} {output:?} {:?} {:?} {:?}",
        modes.control_modes, modes.local_modes, modes.special_codes
    )
}

fn read_all(master: &File) -> Arc<Mutex<Vec<u8>>> {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (mut master, into) = (master.try_clone().unwrap(), Arc::clone(&shown));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
    shown
}

struct Running {
    child: Child,
    report: ChildStdout,
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end: exit code and report.
    fn end(&mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + 2 * PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut report = String::new();
        self.report.read_to_string(&mut report).unwrap();
        (status.code(), report)
    }

    /// It must end with a report and a result of this status.
    fn assert_reported(&mut self, results: &Path, status: Status) {
        let (code, report) = self.end();
        assert_eq!(code, Some(0), "{report}");
        assert!(report.contains("\nlatency ") && report.contains("\nsaved "), "{report}");
        let [result] = &saved(results)[..] else { panic!("not one result") };
        assert_eq!(result.outcome.status, status);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn saved(results: &Path) -> Vec<RunResult> {
    let folders = std::fs::read_dir(results).unwrap().map(|folder| folder.unwrap().path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    files.map(|file| store::load(&file.unwrap().path()).unwrap()).collect()
}

#[test]
fn a_run_that_ends_by_itself_gives_the_terminal_back() {
    let (terminal, results) = (Terminal::new(), tempfile::tempdir().unwrap());
    let mut running = terminal.run(results.path(), &["--duration", "1s"], &[]);
    let screen = terminal.wait_for(&["measuring"]);
    for part in
        ["rate ──", "response time over time ──", "response times so far ──", "CPUs ──", "messages ──"]
    {
        assert!(screen.contains(part), "no {part}:\n{screen}");
    }
    running.assert_reported(results.path(), Status::Completed);
    terminal.assert_given_back();
    let shown = terminal.shown();
    assert!(shown.starts_with(ENTER) && shown.contains("\x1b[38;5;"), "{}", shown.escape_debug());
    let (_, after) = shown.split_once(LEAVE).unwrap();
    assert!(after.contains("opening 4 connections"), "what was said is said again: {}", after.escape_debug());
}

#[test]
fn keys_and_signals_end_the_run_with_a_report_and_give_the_terminal_back() {
    let ends: [fn(&Terminal, &Running); 3] = [
        |terminal, _| terminal.type_in(b"\x03"),
        |terminal, _| terminal.type_in(b"q"),
        |_, running| running.signal(Signal::TERM),
    ];
    for end in ends {
        let (terminal, results) = (Terminal::new(), tempfile::tempdir().unwrap());
        let mut running = terminal.run(results.path(), &["--duration", "60s"], &[]);
        terminal.wait_for(&JUDGED);
        assert_ne!(modes(&terminal.slave), terminal.modes_before, "keys are read one by one");
        end(&terminal, &running);
        running.assert_reported(results.path(), Status::Interrupted);
        terminal.assert_given_back();
    }
}

#[test]
fn a_second_ctrl_c_leaves_at_once_and_gives_the_terminal_back() {
    let (server, address) = peer::server(SERVER, &["--cpus", "0"]);
    let (terminal, results) = (Terminal::new(), tempfile::tempdir().unwrap());
    let flags = ["--duration", "60s", "--drain-timeout", "60s", &format!("ws://{address}/")];
    let mut running = terminal.run(results.path(), &flags, &[]);
    terminal.wait_for(&JUDGED);
    // Answers that never come: after the first Ctrl-C there is a minute of waiting for them.
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(100));
    terminal.type_in(b"\x03");
    std::thread::sleep(Duration::from_millis(300));
    terminal.type_in(b"\x03");
    assert_eq!(running.end().0, Some(128 + 2));
    terminal.assert_given_back();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "release builds end with a panic, and don't panic on request")]
fn a_panic_while_drawing_costs_neither_the_run_nor_the_terminal() {
    let (terminal, results) = (Terminal::new(), tempfile::tempdir().unwrap());
    let variables = [("RINGSOCK_PANIC_IN_VIEW", "1")];
    let mut running = terminal.run(results.path(), &["--duration", "300ms"], &variables);
    running.assert_reported(results.path(), Status::Completed);
    terminal.assert_given_back();
    let shown = terminal.shown();
    let (_, after) = shown.split_once(LEAVE).unwrap();
    assert!(after.contains("the live view was asked to panic"), "readable: {}", after.escape_debug());
}

#[test]
fn the_view_follows_the_terminals_size_and_its_keys() {
    let (terminal, results) = (Terminal::new(), tempfile::tempdir().unwrap());
    let variables = [("NO_COLOR", "1")];
    let mut running = terminal.run(results.path(), &["--duration", "60s"], &variables);
    terminal.wait_for(&JUDGED);
    terminal.resize(50, 10);
    terminal.wait_for(&["50×10 is too small"]);
    terminal.resize(120, 40);
    let screen = terminal.wait_for(&["pause drawing"]);
    assert!(!screen.contains("too small"), "{screen}");
    terminal.type_in(b"?");
    terminal.wait_for(&["┌ help ─"]);
    terminal.type_in(b"?p");
    let screen = terminal.wait_for(&["PAUSED"]);
    assert!(!screen.contains("┌ help ─"), "{screen}");
    assert!(!terminal.shown().contains("\x1b[38;5;"), "NO_COLOR: {}", terminal.shown().escape_debug());
    terminal.type_in(b"q");
    running.assert_reported(results.path(), Status::Interrupted);
    terminal.assert_given_back();
}

#[test]
fn without_a_terminal_the_flag_is_wrong_and_the_error_says_what_to_do() {
    let mut command = Command::new(BINARY);
    let output = command.args(["--tui", "--duration", "1s"]).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("is a terminal: run it in one, or leave --tui out"), "{errors}");
}
