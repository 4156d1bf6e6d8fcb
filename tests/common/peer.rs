//! A blocking WebSocket client for tests, and processes of our own that end with the test.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ringsock::ws::frame::{Header, MAX_HEADER_BYTES, Opcode, Role, parse};
use ringsock::ws::handshake::ClientHandshake;
use ringsock::ws::mask::{self, Mask};

/// How long anything may take that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const KEY: Mask = Mask::from_bytes([0x12, 0x34, 0x56, 0x78]);

/// A client's end of a connection, over TCP unless said otherwise.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    unread: Vec<u8>,
    /// Frames may be compressed messages; whether the last one began one.
    pub(crate) deflates: bool,
    pub(crate) was_compressed: bool,
}

/// The upgrade request for `target`.
pub(crate) fn request(address: SocketAddr, target: &str) -> Vec<u8> {
    handshake(address, target).request().to_vec()
}

pub(crate) fn handshake(address: SocketAddr, target: &str) -> ClientHandshake {
    ClientHandshake::new(&address.ip().to_string(), address.port(), target, [7; 16], 8192).unwrap()
}

/// A masked frame.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    fragment(opcode, true, payload)
}

pub(crate) fn fragment(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let header = Header { fin, opcode, mask: Some(KEY), payload_bytes: payload.len() as u64 };
    let mut bytes = vec![0; MAX_HEADER_BYTES];
    let header_bytes = header.encode(&mut bytes);
    bytes.truncate(header_bytes);
    bytes.extend_from_slice(payload);
    mask::unmask(KEY, &mut bytes[header_bytes..]);
    bytes
}

/// A TCP connection that gives up rather than hang.
pub(crate) fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Peer {
    /// An open connection to `/`.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::open_at(address, "/")
    }

    /// The same, to another path.
    pub(crate) fn open_at(address: SocketAddr, target: &str) -> Self {
        let mut stream = tcp(address);
        stream.write_all(&request(address, target)).unwrap();
        Self::after_handshake(stream, handshake(address, target))
    }
}

impl<S: Read + Write> Peer<S> {
    /// Reads the answer to [`request`].
    pub(crate) fn after_request(stream: S, address: SocketAddr) -> Self {
        Self::after_handshake(stream, handshake(address, "/"))
    }

    /// Reads the answer to a handshake's request.
    pub(crate) fn after_handshake(stream: S, mut handshake: ClientHandshake) -> Self {
        let mut peer = Self { stream, unread: Vec::new(), deflates: false, was_compressed: false };
        let mut head = [0; 1];
        loop {
            peer.stream.read_exact(&mut head).unwrap();
            if handshake.on_bytes(&head).unwrap().is_some() {
                return peer;
            }
        }
    }

    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        self.stream.write_all(&frame(opcode, payload)).unwrap();
    }

    /// The next frame: FIN, opcode and payload; `None` at the stream's end.
    pub(crate) fn next(&mut self) -> Option<(bool, Opcode, Vec<u8>)> {
        const RSV1: u8 = 0x40;
        let mut buffer = [0; 16 * 1024];
        self.was_compressed = false;
        loop {
            if let Some(first) = self.unread.first_mut().filter(|_| self.deflates) {
                self.was_compressed |= *first & RSV1 != 0;
                *first &= !RSV1;
            }
            if let Some((header, header_bytes)) = parse(&self.unread, Role::Server).unwrap() {
                let end = header_bytes + header.payload_bytes as usize;
                if self.unread.len() >= end {
                    let payload = self.unread[header_bytes..end].to_vec();
                    self.unread.drain(..end);
                    return Some((header.fin, header.opcode, payload));
                }
            }
            let count = self.stream.read(&mut buffer).unwrap();
            if count == 0 {
                assert!(self.unread.is_empty(), "the stream ends inside a frame");
                return None;
            }
            self.unread.extend_from_slice(&buffer[..count]);
        }
    }

    /// The next frame must be this one.
    pub(crate) fn expect(&mut self, opcode: Opcode, payload: &[u8]) {
        let (fin, got, bytes) = self.next().expect("a frame, not the end");
        assert_eq!((fin, got), (true, opcode));
        assert!(bytes == payload, "{opcode:?} with another payload: {:?}", String::from_utf8_lossy(&bytes));
    }

    pub(crate) fn echo(&mut self, opcode: Opcode, payload: &[u8]) {
        self.send(opcode, payload);
        self.expect(opcode, payload);
    }

    /// The next frame must be a Close with this code; it is answered, and the server closes.
    pub(crate) fn expect_close(&mut self, code: u16) {
        let (_, opcode, payload) = self.next().expect("a Close frame, not the end");
        assert_eq!(opcode, Opcode::Close, "{payload:?}");
        assert_eq!(payload[..2], code.to_be_bytes(), "{}", String::from_utf8_lossy(&payload));
        // It may have closed already.
        let _ = self.stream.write_all(&frame(Opcode::Close, &payload[..2]));
        self.expect_end();
    }

    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.next(), None);
    }
}

/// A process of our own: killed with the test, if it has not ended.
pub(crate) struct Process {
    child: Child,
    pub(crate) lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let errors = lines_of(child.stderr.take().unwrap());
        Self { child, lines, errors }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line on standard output")
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end: status, and the rest of standard output and standard error.
    pub(crate) fn end(&mut self) -> (ExitStatus, String, String) {
        let deadline = Instant::now() + 3 * PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "process {} does not end", self.child.id());
            std::thread::sleep(Duration::from_millis(5));
        };
        let all = |lines: &Receiver<String>| lines.iter().map(|line| line + "\n").collect::<String>();
        (status, all(&self.lines), all(&self.errors))
    }

    /// Waits for a line on standard error that contains `what`.
    pub(crate) fn until_error_line(&self, what: &str) -> String {
        loop {
            let line = self.errors.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line with `{what}` on standard error"));
            if line.contains(what) {
                return line;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// `ringsock-server` with these flags, and where it listens.
pub(crate) fn server(binary: &str, flags: &[&str]) -> (Process, SocketAddr) {
    serving(Command::new(binary).args(["--listen", "127.0.0.1:0"]).args(flags))
}

/// The same, started so.
pub(crate) fn serving(command: &mut Command) -> (Process, SocketAddr) {
    let process = Process::start(command);
    let line = process.line();
    let rest = line.strip_prefix("listening on ws://").or(line.strip_prefix("listening on wss://"));
    let address = rest.and_then(|rest| rest.strip_suffix('/'));
    let address = address.unwrap_or_else(|| panic!("no address: {line}")).parse().unwrap();
    (process, address)
}

/// Memory of its own that process `id` has resident, in bytes.
pub(crate) fn resident_bytes(id: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
    let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("an Rss line");
    rss.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}
