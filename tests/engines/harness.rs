//! Runs a handler made of one closure over an engine in a thread of its own, and tells it from outside.
//!
//! Everything waits with a deadline: what does not happen fails by name instead of hanging.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringsock::engine::{
    Closed, Config, ConnId, Connections, Counters, EngineError, EngineKind, Faults, Handler, Received, Waker,
    probe::Probe, socket, uring::Features,
};

/// How long anything may take that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a whole conversation may take.
const CONVERSATION: Duration = Duration::from_secs(90);
/// Engines that hold it at the same time: they mostly wait.
const AT_ONCE: usize = 4;

/// An engine that must hold every conversation.
pub(crate) struct Engine {
    /// As `--engine` and `--uring-features` say it.
    pub(crate) name: &'static str,
    /// The kernel takes buffers from a ring that can run out.
    pub(crate) has_buffer_ring: bool,
    kind: EngineKind,
    switches: &'static str,
}

const fn uring(name: &'static str, has_buffer_ring: bool, switches: &'static str) -> Engine {
    Engine { name, has_buffer_ring, kind: EngineKind::Uring, switches }
}

/// What Linux 5.19 does without.
const LEAST: &str = "-multishot-recv,-single-issuer,-defer-taskrun,-skipped-completions";

/// A further engine is a further row; so is each way in which one does without a feature.
pub(crate) const ENGINES: [Engine; 16] = [
    uring("uring", true, ""),
    uring("uring, no multishot receive", true, "-multishot-recv"),
    uring("uring, no multishot accept", true, "-multishot-accept"),
    uring("uring, no buffer ring", false, "-buffer-ring"),
    uring("uring, no direct descriptors", true, "-direct-descriptors"),
    uring("uring, neither direct nor multishot", true, "-direct-descriptors,-multishot-accept"),
    uring("uring, task work at once", true, "-defer-taskrun,-single-issuer,-registered-ring"),
    uring("uring, all completions", true, "-skipped-completions"),
    uring("uring of Linux 5.19", true, LEAST),
    uring(
        "uring, nothing",
        false,
        "-multishot-accept,-buffer-ring,-direct-descriptors,-single-issuer,\
        -registered-ring,-skipped-completions",
    ),
    uring("uring, submitting thread", true, "+sqpoll"),
    uring("uring, busy polling", true, "+napi=10us"),
    uring("uring, zero copy", true, "+zero-copy=2KiB"),
    uring("uring, bundles", true, "+bundles"),
    Engine { name: "epoll", has_buffer_ring: false, kind: EngineKind::Epoll, switches: "" },
    Engine { name: "tokio-uring", has_buffer_ring: false, kind: EngineKind::TokioUring, switches: "" },
];

impl Engine {
    /// A thread of the kernel submits for it.
    pub(crate) fn submits_by_thread(&self) -> bool {
        self.switches.contains("+sqpoll")
    }

    /// What it uses here; `None` where this kernel lacks what it is about.
    fn features(&self) -> Option<Features> {
        static PROBE: LazyLock<Probe> = LazyLock::new(Probe::of_this_kernel);
        Features::choose(&PROBE, &self.switches.parse().unwrap()).ok()
    }
}

/// Holds one conversation over each engine, or over those whose name begins with `RINGSOCK_ENGINE`, a few at once; a
/// failure names both.
pub(crate) fn hold(name: &str, conversation: fn(&'static Engine)) {
    let wanted = std::env::var("RINGSOCK_ENGINE").unwrap_or_default();
    let engines: Vec<_> = ENGINES.iter().filter(|engine| engine.name.starts_with(&wanted)).collect();
    assert!(!engines.is_empty(), "RINGSOCK_ENGINE: no engine's name begins with {wanted}");
    for engines in engines.chunks(AT_ONCE) {
        let started: Vec<_> = engines.iter().filter_map(|engine| start(engine, conversation)).collect();
        for (engine, thread, ended) in started {
            match ended.recv_timeout(CONVERSATION) {
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("{engine}: {name} does not end"),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    eprintln!("{engine}: {name} failed");
                    std::panic::resume_unwind(thread.join().expect_err("it hung up without an end"));
                }
            }
        }
    }
}

/// Begins a conversation in a thread; the engine's name, and what tells of its end.
fn start(
    engine: &'static Engine,
    conversation: fn(&'static Engine),
) -> Option<(&'static str, JoinHandle<()>, mpsc::Receiver<()>)> {
    if engine.features().is_none() {
        eprintln!("SKIPPED: this kernel has no {}", engine.name);
        return None;
    }
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        conversation(engine);
        let _ = done.send(());
    });
    Some((engine.name, thread, ended))
}

/// What a handler is told; connections carry a number: what `connect` gave, or the count of those before.
pub(crate) enum Event<'a> {
    Open(ConnId),
    Bytes(ConnId, Received<'a>),
    End(ConnId),
    Timer(ConnId),
    Writable(ConnId),
    Closed(u64, Closed),
    Wake,
}

type Behaviour = Box<dyn FnMut(&mut Connections<u64>, Event<'_>) + Send>;

/// The one handler, so that engines fit into a table.
pub(crate) struct Actor {
    behaviour: Behaviour,
    accepted: u64,
    counters: Arc<Mutex<Counters>>,
    stop: Arc<AtomicBool>,
}

impl Handler for Actor {
    type Conn = u64;

    fn on_accept(&mut self) -> u64 {
        self.accepted += 1;
        self.accepted - 1
    }

    fn on_open(&mut self, connections: &mut Connections<u64>, id: ConnId) {
        (self.behaviour)(connections, Event::Open(id));
    }

    fn on_bytes(&mut self, connections: &mut Connections<u64>, id: ConnId, received: Received<'_>) {
        (self.behaviour)(connections, Event::Bytes(id, received));
    }

    fn on_end(&mut self, connections: &mut Connections<u64>, id: ConnId) {
        (self.behaviour)(connections, Event::End(id));
    }

    fn on_timer(&mut self, connections: &mut Connections<u64>, id: ConnId) {
        (self.behaviour)(connections, Event::Timer(id));
    }

    fn on_writable(&mut self, connections: &mut Connections<u64>, id: ConnId) {
        (self.behaviour)(connections, Event::Writable(id));
    }

    fn on_closed(&mut self, connections: &mut Connections<u64>, number: u64, why: Closed) {
        (self.behaviour)(connections, Event::Closed(number, why));
    }

    fn on_wake(&mut self, connections: &mut Connections<u64>) {
        if self.stop.load(Ordering::Relaxed) {
            connections.stop();
        } else {
            (self.behaviour)(connections, Event::Wake);
        }
    }

    fn on_turn(&mut self, connections: &mut Connections<u64>) -> Option<u64> {
        *self.counters.lock().unwrap() = connections.counters();
        None
    }
}

/// An engine at work.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) waker: Waker,
    pub(crate) counters: Arc<Mutex<Counters>>,
    narrow_bytes: usize,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Actor, EngineError>>>,
}

/// A tiny engine that listens on a free port.
pub(crate) fn listening() -> Config {
    Config { listener: Some(socket::listen("127.0.0.1:0".parse().unwrap()).unwrap()), ..connecting() }
}

/// A tiny engine that only connects.
pub(crate) fn connecting() -> Config {
    Config {
        listener: None,
        connections_max: 512,
        recv_buffer_bytes: 4096,
        recv_buffers: 256,
        sq_entries: 64,
        cq_entries: 256,
        outbox_bytes: 64 * 1024,
        outbox_bytes_in_all: usize::MAX,
        uring: Features::default(),
        kernel_timestamps: false,
        peer_addresses: false,
        faults: Faults::default(),
    }
}

impl Engine {
    pub(crate) fn start(
        &'static self,
        mut config: Config,
        behaviour: impl FnMut(&mut Connections<u64>, Event<'_>) + Send + 'static,
    ) -> Running {
        config.uring = self.features().expect("the kernel has it");
        let (counters, stop) = (Arc::<Mutex<Counters>>::default(), Arc::<AtomicBool>::default());
        let address = config.listener.as_ref().map(|listener| listener.local_addr().unwrap());
        let waker = Waker::new().unwrap();
        let actor = Actor {
            behaviour: Box::new(behaviour),
            accepted: 0,
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
        };
        let (ready, started) = mpsc::channel();
        let theirs = waker.clone();
        let thread = std::thread::spawn(move || {
            self.kind.run(config, &theirs, actor, move || ready.send(()).unwrap())
        });
        if started.recv_timeout(PATIENCE).is_err() {
            panic!("{} did not start: {:?}", self.name, thread.join().map(|ended| ended.err()));
        }
        let address = address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        // Pages that are not copied count in full against the peer's buffer, however little of them is used: a
        // narrow one would take in a page in each of its acknowledgements' delays.
        let narrow_bytes = if self.switches.contains("zero-copy") { 256 * 1024 } else { 4096 };
        Running { address, waker, counters, narrow_bytes, stop, thread: Some(thread) }
    }
}

impl Running {
    pub(crate) fn connect(&self) -> TcpStream {
        client(self.address)
    }

    /// A client whose kernel takes in little before it asks us to wait.
    pub(crate) fn connect_narrowly(&self) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(self.narrow_bytes).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What the engine has done by its next turn.
    pub(crate) fn counters(&self) -> Counters {
        self.waker.wake();
        std::thread::sleep(Duration::from_millis(5));
        *self.counters.lock().unwrap()
    }

    /// Waits for the counters to say so.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Counters) -> bool) -> Counters {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counters = self.counters();
            if holds(&counters) {
                return counters;
            }
            assert!(Instant::now() < deadline, "not in time: {what}; {counters:?}");
        }
    }

    /// Ends the engine; it must not have failed.
    pub(crate) fn stop(mut self) {
        self.end().unwrap();
    }

    /// Waits for a handler that ends the engine itself.
    pub(crate) fn wait(mut self) {
        let deadline = Instant::now() + PATIENCE;
        let thread = self.thread.take().unwrap();
        while !thread.is_finished() {
            assert!(Instant::now() < deadline, "the engine does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().unwrap().unwrap();
    }

    fn end(&mut self) -> Result<(), EngineError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        thread.join().map_or_else(|panic| std::panic::resume_unwind(panic), |ended| ended.map(drop))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.end();
        }
    }
}

/// Lets a test hold an engine's thread while the peers do something, so that one turn finds all of it.
pub(crate) struct Gate {
    hold: Arc<AtomicBool>,
    held: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Gate {
    pub(crate) fn new() -> (Self, impl FnMut() + Send) {
        let (held_tx, held) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let hold = Arc::new(AtomicBool::new(false));
        let wanted = Arc::clone(&hold);
        let on_wake = move || {
            if wanted.swap(false, Ordering::Relaxed) {
                held_tx.send(()).unwrap();
                gone.recv_timeout(PATIENCE).unwrap();
            }
        };
        (Self { hold, held, go }, on_wake)
    }

    pub(crate) fn while_held(&self, running: &Running, act: impl FnOnce()) {
        self.hold.store(true, Ordering::Relaxed);
        running.waker.wake();
        self.held.recv_timeout(PATIENCE).unwrap();
        act();
        self.go.send(()).unwrap();
    }
}

/// A blocking client that gives up rather than hang.
pub(crate) fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Closes with a reset instead of FIN.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Byte `at` of stream `stream`: any shift, loss or exchange shows.
pub(crate) fn byte(stream: usize, at: usize) -> u8 {
    (at.wrapping_mul(0x9E37_79B1) >> 13) as u8 ^ (stream as u8).wrapping_mul(37)
}

pub(crate) fn bytes(stream: usize, range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|at| byte(stream, at)).collect()
}

/// Reads the bytes from `range` of stream `stream`.
pub(crate) fn expect(reader: &mut TcpStream, stream: usize, range: std::ops::Range<usize>) {
    let mut at = range.start;
    let mut buffer = vec![0; 64 * 1024];
    while at < range.end {
        let room = buffer.len().min(range.end - at);
        let count = match reader.read(&mut buffer[..room]) {
            Ok(count) => count,
            Err(error) => panic!("stream {stream}, byte {at} of {range:?}: {error}"),
        };
        assert_ne!(count, 0, "stream {stream} ended at byte {at} of {range:?}");
        for (offset, &got) in buffer[..count].iter().enumerate() {
            assert_eq!(got, byte(stream, at + offset), "stream {stream}, byte {}", at + offset);
        }
        at += count;
    }
}

/// Sends and gets back the bytes from `range` of stream `stream`.
pub(crate) fn echo(both: &mut TcpStream, stream: usize, range: std::ops::Range<usize>) {
    both.write_all(&bytes(stream, range.clone())).unwrap();
    expect(both, stream, range);
}

/// The peer must end the stream here, with FIN.
pub(crate) fn expect_end(reader: &mut TcpStream) {
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "the stream goes on");
}

/// Reads what there is until the stream ends, by FIN or reset.
pub(crate) fn drain(reader: &mut TcpStream) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return total,
            Ok(count) => total += count,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return total,
            Err(error) => panic!("after {total} bytes: {error}"),
        }
    }
}
