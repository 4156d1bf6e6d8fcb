//! The server: one pinned thread for each CPU, one engine each, and nothing shared between them but counts
//! and what is published.
//!
//! The load generator runs the same server in its own process when it is given no URL.

mod deflate;
mod options;
mod room;
mod stats;
mod survey;
mod tls_flags;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use deflate::{DeflateOptions, Takeover, WindowBits};
pub use options::{Options, OptionsError, Plan, SlowPolicy, engine_parser};
pub use room::RoomError;
pub use stats::{StatsLine, closing_account};
pub use survey::Survey;
pub use tls_flags::{TlsFlags, TlsPlan};

use crate::cpu;
use crate::engine::{Config, Ends, EngineError, Handler, Tapped, Tls, Waker, socket};
use crate::scenario::bare::Bare;
use crate::scenario::deflate::Account;
use crate::scenario::hub::Hub;
use crate::scenario::serve::{Serve, Served, Shared};
use crate::scenario::trace::{Role, Trace};

/// Why a server could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {error}; is another server there? --listen takes another port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// A thread could not be bound to its CPU.
    #[error("cannot bind a thread to CPU {cpu}: {error}")]
    Pin {
        /// The CPU.
        cpu: usize,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// No thread, no eventfd.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// An engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// How often threads that are to end are looked at.
const JOIN_INTERVAL: Duration = Duration::from_millis(10);

/// Counts that the threads leave when they are woken, by whomever.
#[derive(Debug, Default)]
struct Board {
    latest: Mutex<Vec<Left>>,
    changed: Condvar,
}

/// What a thread has left, and whether it has since it was asked.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    served: Served,
    is_new: bool,
}

impl Board {
    fn leave(&self, thread: usize, served: Served) {
        if let Ok(mut latest) = self.latest.lock() {
            latest[thread] = Left { served, is_new: true };
            self.changed.notify_one();
        }
    }
}

/// What a server's owner waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A thread has ended; unasked, that is a failure.
    ThreadEnded,
    /// Somebody called [`Stopper::stop`].
    StopAsked,
}

/// Asks whoever waits for a server to end it.
#[derive(Debug, Clone)]
pub struct Stopper(mpsc::Sender<Notice>);

impl Stopper {
    /// Has [`Server::wait`] return [`Notice::StopAsked`].
    pub fn stop(&self) {
        // Nobody listens only where the server has ended already.
        let _ = self.0.send(Notice::StopAsked);
    }
}

/// A running server. Dropping it leaves its threads running: end it with [`Server::drain`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    threads: Vec<JoinHandle<Result<(), ServerError>>>,
    thread_ids: Vec<i32>,
    wakers: Vec<Waker>,
    shared: Arc<Shared>,
    board: Arc<Board>,
    notices: mpsc::Receiver<Notice>,
    notify: mpsc::Sender<Notice>,
}

impl Server {
    /// Starts a server; it listens on every thread when this returns.
    ///
    /// # Errors
    /// The first thread's refusal.
    pub fn start(plan: &Plan) -> Result<Self, ServerError> {
        let listeners = listen(plan.listen, plan.cpus.len())?;
        let address = listeners[0].local_addr().map_err(ServerError::Thread)?;
        let board = Arc::new(Board::default());
        if let Ok(mut latest) = board.latest.lock() {
            *latest = vec![Left::default(); plan.cpus.len()];
        }
        let wakers = std::iter::repeat_with(Waker::new).take(plan.cpus.len());
        let wakers = wakers.collect::<Result<Vec<_>, _>>().map_err(ServerError::Thread)?;
        let hub = Arc::new(Hub::new(wakers.clone()));
        let (notify, notices) = mpsc::channel();
        let mut server = Self {
            address,
            threads: Vec::new(),
            thread_ids: Vec::new(),
            wakers,
            shared: Arc::new(Shared {
                hub,
                deflate_memory: Account::new(plan.deflate_bytes_in_all),
                ..Shared::default()
            }),
            board,
            notices,
            notify,
        };
        let (ready_tx, ready) = mpsc::channel();
        for (index, listener) in listeners.into_iter().enumerate() {
            server.start_thread(plan, index, listener, ready_tx.clone())?;
        }
        drop(ready_tx);
        for _ in 0..plan.cpus.len() {
            // A thread that ends instead of getting ready hangs up; its error is what joining it gives.
            match ready.recv() {
                Ok(thread_id) => server.thread_ids.push(thread_id),
                Err(_) => break,
            }
        }
        if server.thread_ids.len() < plan.cpus.len() {
            server.shared.abandon.store(true, Ordering::Relaxed);
            server.join()?;
            return Err(ServerError::Thread(std::io::ErrorKind::Other.into()));
        }
        Ok(server)
    }

    fn start_thread(
        &mut self,
        plan: &Plan,
        index: usize,
        listener: TcpListener,
        ready: mpsc::Sender<i32>,
    ) -> Result<(), ServerError> {
        let waker = self.wakers[index].clone();
        let (plan, notify) = (plan.clone(), self.notify.clone());
        let (shared, board) = (Arc::clone(&self.shared), Arc::clone(&self.board));
        let body = move || {
            let result = serve(&plan, index, listener, &waker, shared, board, ready);
            let _ = notify.send(Notice::ThreadEnded);
            result
        };
        let thread = std::thread::Builder::new().name(format!("server-{index}")).spawn(body);
        self.threads.push(thread.map_err(ServerError::Thread)?);
        Ok(())
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kernel thread ids of its threads, for their CPU time.
    pub fn thread_ids(&self) -> &[i32] {
        &self.thread_ids
    }

    /// What each thread did so far.
    pub fn served(&self) -> Vec<Served> {
        let Ok(mut latest) = self.board.latest.lock() else { return Vec::new() };
        latest.iter_mut().for_each(|left| left.is_new = false);
        self.wakers.iter().for_each(Waker::wake);
        let all_left = |latest: &mut Vec<Left>| latest.iter().any(|left| !left.is_new);
        // A thread that ended leaves nothing more; its last counts stand.
        let waited = self.board.changed.wait_timeout_while(latest, Duration::from_millis(200), all_left);
        waited.map(|(latest, _)| served_of(&latest)).unwrap_or_default()
    }

    /// Waits for something to happen; `None` where nothing did before `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Notice> {
        match timeout {
            Some(timeout) => self.notices.recv_timeout(timeout).ok(),
            None => self.notices.recv().ok(),
        }
    }

    /// A handle to have [`Server::wait`] return, from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.notify.clone())
    }

    /// Stops accepting, closes every connection with 1001, and ends when all are gone, or after `bound`. Gives back what
    /// each thread has counted.
    ///
    /// # Errors
    /// A thread had failed.
    pub fn drain(self, bound: Duration) -> Result<Vec<Served>, ServerError> {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.wakers.iter().for_each(Waker::wake);
        let until = Instant::now() + bound;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // A thread says that it has ended a moment before it has: don't wait for another word of it.
            self.wait(Some(left.min(JOIN_INTERVAL)));
        }
        self.shared.abandon.store(true, Ordering::Relaxed);
        let board = Arc::clone(&self.board);
        self.join()?;
        Ok(board.latest.lock().map(|latest| served_of(&latest)).unwrap_or_default())
    }

    fn join(self) -> Result<(), ServerError> {
        self.wakers.iter().for_each(Waker::wake);
        let mut result = Ok(());
        for thread in self.threads {
            match thread.join() {
                Ok(ended) => result = result.and(ended),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    }
}

fn served_of(latest: &[Left]) -> Vec<Served> {
    latest.iter().map(|left| left.served).collect()
}

/// A listener for each thread, all on one address.
fn listen(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, ServerError> {
    let listen_error = |error| ServerError::Listen { address, error };
    if address.port() != 0 {
        // Sharing the address is for our own threads: another server of this user's on it is a mistake, and
        // would get half of the connections.
        drop(TcpListener::bind(address).map_err(listen_error)?);
    }
    let first = socket::listen(address).map_err(listen_error)?;
    let address = first.local_addr().map_err(listen_error)?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(socket::listen(address).map_err(listen_error)?);
    }
    Ok(listeners)
}

/// A thread's life.
fn serve(
    plan: &Plan,
    index: usize,
    listener: TcpListener,
    waker: &Waker,
    shared: Arc<Shared>,
    board: Arc<Board>,
    ready: mpsc::Sender<i32>,
) -> Result<(), ServerError> {
    let cpu = plan.cpus[index];
    cpu::pin_current_thread(cpu).map_err(|error| ServerError::Pin { cpu, error })?;
    let mut config = plan.engine_config();
    config.listener = Some(listener);
    let announce = move || {
        // Nobody listens only where the start has failed on another thread.
        let _ = ready.send(cpu::current_thread_id());
    };
    if plan.bare {
        plan.engine.kind.run(config, waker, Bare, announce)?;
    } else {
        let mut handler = Serve::new(plan.limits, shared, move |served| board.leave(index, served))
            .on_terms(plan.terms.clone())
            .as_thread(index);
        if let Some(settings) = plan.deflate {
            handler = handler.deflating(settings, plan.outbox_bytes);
        }
        match &plan.trace {
            None => run(plan, config, waker, handler, announce)?,
            Some(numbers) => {
                let trace = Trace::to_standard_error(Role::Server, numbers.clone());
                run(plan, config, waker, Tapped::new(handler, trace), announce)?;
            }
        }
    }
    Ok(())
}

/// Runs a handler until it ends, over TLS if that is planned.
fn run<H: Handler>(
    plan: &Plan,
    config: Config,
    waker: &Waker,
    handler: H,
    announce: impl FnOnce(),
) -> Result<(), ServerError> {
    match &plan.tls {
        None => drop(plan.engine.kind.run(config, waker, handler, announce)?),
        Some(tls) => {
            let ends = Ends::Server(tls.server.clone());
            let handler = Tls::new(handler, ends, tls.handshake_ns, plan.limits.close_ns)
                .pacing_handshakes(tls.handshakes_per_turn)
                .handing_to_kernel(plan.engine.kernel_tls);
            plan.engine.kind.run(config, waker, handler, announce)?;
        }
    }
    Ok(())
}
