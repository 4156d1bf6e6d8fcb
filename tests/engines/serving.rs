//! The server's handler over a chosen engine, in a thread of the test, and how it is told and asked things.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringsock::engine::uring::Switches;
use ringsock::engine::{Choice, Config, EngineError, EngineKind, Probe, Waker, socket};
use ringsock::scenario::deflate::DeflateSettings;
use ringsock::scenario::serve::{Limits, Serve, Served, Shared, Timeouts};

use crate::peer::PATIENCE;

const SECOND_NS: u64 = 1_000_000_000;

/// Counts that the server left, and how many times it has.
type Board = (Mutex<(Served, u64)>, Condvar);

/// A server at work. It ends with the test.
pub(crate) struct Serving {
    pub(crate) engine: EngineKind,
    pub(crate) address: SocketAddr,
    /// The engine's thread, for signals.
    pub(crate) thread_id: i32,
    shared: Arc<Shared>,
    waker: Waker,
    board: Arc<Board>,
    thread: Option<JoinHandle<Result<(), EngineError>>>,
}

/// A server that puts up with everything for as long as a test may take.
pub(crate) fn limits() -> Limits {
    Limits {
        head_bytes: 8192,
        message_bytes: 1 << 30,
        connections: 4096,
        handshake_ns: 60 * SECOND_NS,
        close_ns: 60 * SECOND_NS,
        timeouts: Timeouts { close_ns: Some(60 * SECOND_NS), ..Timeouts::default() },
        ..Limits::default()
    }
}

/// A small engine that receives so many bytes at a time.
pub(crate) fn config(recv_buffer_bytes: usize) -> Config {
    Config {
        connections_max: 2048,
        recv_buffer_bytes,
        recv_buffers: 256,
        sq_entries: 64,
        cq_entries: 1024,
        uring: Choice::Auto.choose(&Probe::of_this_kernel(), &Switches::default()).unwrap().uring,
        ..Config::default()
    }
}

impl Serving {
    pub(crate) fn start(engine: EngineKind, config: Config, limits: Limits) -> Self {
        Self::start_with(engine, config, limits, None)
    }

    /// The same, and agrees to compression where that is given.
    pub(crate) fn start_with(
        engine: EngineKind,
        mut config: Config,
        limits: Limits,
        deflate: Option<DeflateSettings>,
    ) -> Self {
        let listener = socket::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        config.listener = Some(listener);
        let (shared, board, waker) =
            (Arc::<Shared>::default(), Arc::<Board>::default(), Waker::new().unwrap());
        let (ready, started) = mpsc::channel();
        let (theirs, leave, woken) = (Arc::clone(&shared), Arc::clone(&board), waker.clone());
        let report = move |served| {
            let mut left = leave.0.lock().unwrap();
            *left = (served, left.1 + 1);
            leave.1.notify_all();
        };
        let thread = std::thread::spawn(move || {
            let announce = move || ready.send(ringsock::cpu::current_thread_id()).unwrap();
            let mut serve = Serve::new(limits, theirs, report);
            if let Some(settings) = deflate {
                serve = serve.deflating(settings, config.outbox_bytes);
            }
            engine.run(config, &woken, serve, announce).map(drop)
        });
        let Ok(thread_id) = started.recv_timeout(PATIENCE) else {
            panic!("{} did not start: {:?}", engine.name(), thread.join().map(|ended| ended.err()));
        };
        Self { engine, address, thread_id, shared, waker, board, thread: Some(thread) }
    }

    /// What it has counted by now.
    pub(crate) fn served(&self) -> Served {
        let left = self.board.0.lock().unwrap();
        let before = left.1;
        self.waker.wake();
        let (left, timeout) =
            self.board.1.wait_timeout_while(left, PATIENCE, |left| left.1 == before).unwrap();
        assert!(!timeout.timed_out(), "{} does not answer when woken", self.engine.name());
        left.0
    }

    /// Waits for its counts to say so.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Served) -> bool) -> Served {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let served = self.served();
            if holds(&served) {
                return served;
            }
            assert!(Instant::now() < deadline, "{}: not in time: {what}; {served:?}", self.engine.name());
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Tells it to close every connection and end; [`Serving::wait`] for that.
    pub(crate) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Waits for its end; it must not have failed.
    pub(crate) fn wait(mut self) {
        let deadline = Instant::now() + PATIENCE;
        let thread = self.thread.take().unwrap();
        while !thread.is_finished() {
            assert!(Instant::now() < deadline, "{} does not end", self.engine.name());
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().unwrap().unwrap();
    }

    /// Every connection must be gone, and the server in order.
    pub(crate) fn stop(self) {
        self.until("all connections are gone", |served| served.connections == 0);
        assert_eq!(self.shared.open.load(Ordering::Relaxed), 0, "connections counted as open");
        assert!(self.shared.addresses.is_empty(), "addresses of connections that are gone");
        self.drain();
        self.wait();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shared.abandon.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            thread.join().unwrap().unwrap();
        }
    }
}
