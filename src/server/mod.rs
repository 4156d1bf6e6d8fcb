//! The server: one pinned thread for each CPU, one engine each, and nothing shared between them but counts
//! and what is published.
//!
//! Each thread tells what all of them counted, over HTTP ([`admin`]); with an address of its own for that, one more thread does. It
//! outlives the others, so that there is an answer while the server ends.
//!
//! The load generator runs the same server in its own process when it is given no URL.

mod admin;
mod board;
mod deflate;
mod options;
mod room;
mod stats;
mod survey;
mod tls_flags;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use admin::snapshot::{Counted, Identity, Process, SCHEMA as STATS_SCHEMA, Snapshot, Thread};
pub use deflate::{DeflateOptions, Takeover, WindowBits};
pub use options::{Admin, Options, OptionsError, Plan, ServedScenarios, SlowPolicy, engine_parser};
pub use room::RoomError;
pub use stats::{StatsLine, closing_account};
pub use survey::Survey;
pub use tls_flags::{TlsFlags, TlsPlan};

use crate::cpu;
use crate::engine::{
    Config, Ends, EngineError, EngineKind, Handler, Tapped, Tls, Waker, clock_ns, socket, thread_cpu_ns,
};
use crate::limits;
use crate::scenario::bare::Bare;
use crate::scenario::deflate::Account;
use crate::scenario::hub::Hub;
use crate::scenario::serve::{Limits, Serve, Served, Shared};
use crate::scenario::trace::{Role, Trace};
use admin::{About, Desk};
use board::{Board, Left};

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

/// How long [`Server::served`] waits for a thread that is busy.
const GATHER_TIME: Duration = Duration::from_millis(200);

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
    admin_address: Option<SocketAddr>,
    /// That of the admin address last, if there is one.
    threads: Vec<JoinHandle<Result<(), ServerError>>>,
    thread_ids: Vec<i32>,
    shared: Arc<Shared>,
    /// What the thread of the admin address has for its own.
    admin_shared: Arc<Shared>,
    board: Arc<Board>,
    about: Arc<About>,
    notices: mpsc::Receiver<Notice>,
    notify: mpsc::Sender<Notice>,
}

impl Server {
    /// Starts a server; it listens on every thread when this returns.
    ///
    /// # Errors
    /// The first thread's refusal.
    pub fn start(plan: &Plan) -> Result<Self, ServerError> {
        let mut listeners = listen(plan.listen, plan.cpus.len())?;
        let address = listeners[0].local_addr().map_err(ServerError::Thread)?;
        let mut admin_address = None;
        if let Admin::At(address) = plan.admin {
            let listener = listen(address, 1)?.remove(0);
            admin_address = Some(listener.local_addr().map_err(ServerError::Thread)?);
            listeners.push(listener);
        }
        let wakers = listeners.iter().map(|_| Waker::new()).collect::<Result<Vec<_>, _>>();
        let wakers = wakers.map_err(ServerError::Thread)?;
        let hub = Arc::new(Hub::new(wakers.clone()));
        let board = Arc::new(Board::new(wakers));
        let share = || {
            let deflate_memory = Account::new(plan.deflate_bytes_in_all);
            Arc::new(Shared { hub: Arc::clone(&hub), deflate_memory, ..Shared::default() })
        };
        let (shared, admin_shared) = (share(), share());
        let about = Arc::new(plan.about(clock_ns(), Arc::clone(&shared)));
        let (notify, notices) = mpsc::channel();
        let mut server = Self {
            address,
            admin_address,
            threads: Vec::new(),
            thread_ids: Vec::new(),
            shared,
            admin_shared,
            board,
            about,
            notices,
            notify,
        };
        let (ready_tx, ready) = mpsc::channel();
        let count = listeners.len();
        for (index, listener) in listeners.into_iter().enumerate() {
            server.start_thread(plan, index, listener, ready_tx.clone())?;
        }
        drop(ready_tx);
        for _ in 0..count {
            // A thread that ends instead of getting ready hangs up; its error is what joining it gives.
            match ready.recv() {
                Ok(thread_id) => server.thread_ids.push(thread_id),
                Err(_) => break,
            }
        }
        if server.thread_ids.len() < count {
            server.abandon();
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
        let (plan, notify, board) = (plan.clone(), self.notify.clone(), Arc::clone(&self.board));
        let is_admins = index == plan.cpus.len();
        let shared = Arc::clone(if is_admins { &self.admin_shared } else { &self.shared });
        let desk = Desk::new(index, Arc::clone(&self.about), Arc::clone(&board));
        let name = self.about.threads[index].0.clone();
        let body = move || {
            let seat = Seat { index, listener, shared, board: Arc::clone(&board), desk };
            let result = if is_admins { serve_admin(&plan, seat, ready) } else { serve(&plan, seat, ready) };
            board.end(index);
            let _ = notify.send(Notice::ThreadEnded);
            result
        };
        let thread = std::thread::Builder::new().name(name).spawn(body);
        self.threads.push(thread.map_err(ServerError::Thread)?);
        Ok(())
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where plain HTTP is answered, if that is another address.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Kernel thread ids of its threads, for their CPU time.
    pub fn thread_ids(&self) -> &[i32] {
        &self.thread_ids
    }

    /// What each thread did so far.
    pub fn served(&self) -> Vec<Served> {
        self.board.gather(GATHER_TIME).iter().map(|left| left.served).collect()
    }

    /// The same, and everything else that it tells over HTTP.
    pub fn snapshot(&self) -> Snapshot {
        self.about.snapshot(&self.board.gather(GATHER_TIME))
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
        let until = Instant::now() + bound;
        let count = self.threads.len() - usize::from(self.admin_address.is_some());
        self.shared.draining.store(true, Ordering::Relaxed);
        self.wake();
        self.wait_for(&self.threads[..count], until);
        // It told until now that the others were ending.
        self.admin_shared.draining.store(true, Ordering::Relaxed);
        self.wake();
        self.wait_for(&self.threads[count..], until);
        self.abandon();
        let board = Arc::clone(&self.board);
        self.join()?;
        Ok(board.latest().iter().map(|left| left.served).collect())
    }

    fn wait_for(&self, threads: &[JoinHandle<Result<(), ServerError>>], until: Instant) {
        while threads.iter().any(|thread| !thread.is_finished()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // A thread says that it has ended a moment before it has: don't wait for another word of it.
            self.wait(Some(left.min(JOIN_INTERVAL)));
        }
    }

    fn wake(&self) {
        self.board.wakers().iter().for_each(Waker::wake);
    }

    fn abandon(&self) {
        self.shared.abandon.store(true, Ordering::Relaxed);
        self.admin_shared.abandon.store(true, Ordering::Relaxed);
    }

    fn join(self) -> Result<(), ServerError> {
        self.wake();
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

/// What a thread is given.
struct Seat {
    index: usize,
    listener: TcpListener,
    shared: Arc<Shared>,
    board: Arc<Board>,
    desk: Desk,
}

/// A thread's life.
fn serve(plan: &Plan, seat: Seat, ready: mpsc::Sender<i32>) -> Result<(), ServerError> {
    let cpu = plan.cpus[seat.index];
    cpu::pin_current_thread(cpu).map_err(|error| ServerError::Pin { cpu, error })?;
    let Seat { index, listener, shared, board, desk } = seat;
    let mut config = plan.engine_config();
    config.listener = Some(listener);
    let announce = announcing(ready);
    let waker = board.wakers()[index].clone();
    if plan.bare {
        plan.engine.kind.run(config, &waker, Bare, announce)?;
        return Ok(());
    }
    let mut handler = handler(plan, plan.limits, shared, board, index);
    if plan.admin == Admin::Here {
        handler = handler.with_pages(desk);
    }
    let kind = plan.engine.kind;
    match &plan.trace {
        None => run(plan, kind, config, &waker, handler, announce),
        Some(numbers) => {
            let trace = Trace::to_standard_error(Role::Server, numbers.clone());
            run(plan, kind, config, &waker, Tapped::new(handler, trace), announce)
        }
    }
}

/// The life of the thread of the admin address, over the engine that every kernel has.
fn serve_admin(plan: &Plan, seat: Seat, ready: mpsc::Sender<i32>) -> Result<(), ServerError> {
    let Seat { index, listener, shared, board, desk } = seat;
    let limits = Limits { connections: limits::ADMIN_CONNECTIONS as usize, ..plan.limits };
    let config = Config {
        listener: Some(listener),
        connections_max: limits::ADMIN_CONNECTIONS + limits::REFUSED_CONNECTIONS,
        kernel_timestamps: false,
        kernel_tls: false,
        ..plan.engine_config()
    };
    let waker = board.wakers()[index].clone();
    let handler = handler(plan, limits, shared, board, index).with_pages(desk);
    run(plan, EngineKind::Epoll, config, &waker, handler, announcing(ready))
}

fn announcing(ready: mpsc::Sender<i32>) -> impl FnOnce() {
    move || {
        // Nobody listens only where the start has failed on another thread.
        let _ = ready.send(cpu::current_thread_id());
    }
}

/// What speaks WebSocket, as planned.
fn handler(
    plan: &Plan,
    limits: Limits,
    shared: Arc<Shared>,
    board: Arc<Board>,
    index: usize,
) -> Serve<impl FnMut(Served) + 'static> {
    let report = move |served| board.leave(index, Left { served, cpu_ns: thread_cpu_ns() });
    let handler = Serve::new(limits, shared, report).on_terms(plan.terms.clone()).as_thread(index);
    match plan.deflate {
        Some(settings) => handler.deflating(settings, plan.outbox_bytes),
        None => handler,
    }
}

/// Runs a handler until it ends, over TLS if that is planned.
fn run<H: Handler>(
    plan: &Plan,
    kind: EngineKind,
    config: Config,
    waker: &Waker,
    handler: H,
    announce: impl FnOnce(),
) -> Result<(), ServerError> {
    match &plan.tls {
        None => drop(kind.run(config, waker, handler, announce)?),
        Some(tls) => {
            let ends = Ends::Server(tls.server.clone());
            let handler = Tls::new(handler, ends, tls.handshake_ns, plan.limits.close_ns)
                .pacing_handshakes(tls.handshakes_per_turn)
                .handing_to_kernel(config.kernel_tls);
            kind.run(config, waker, handler, announce)?;
        }
    }
    Ok(())
}
