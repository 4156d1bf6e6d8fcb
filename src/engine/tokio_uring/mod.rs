//! The engine over the crate `tokio-uring`, as its users write servers: one runtime a thread, a task for each
//! connection, buffers that an operation owns until it is over.
//!
//! A connection's task does nothing but read, hand over what came and read again. Writes belong to all: what a
//! pass of the scheduler has queued is written at its end by one task ([`World::poll_turn`]). A second one has a
//! no-op follow on a turn's writes and, when that is over, looks what has become of them ([`World::settle`]). Each
//! runs once for a batch of completions, where tasks that awaited their own writes would all be run once more.
//!
//! Entries are worked off in order, so a write that is not over by then is one that the kernel tried and could not
//! take. It counts as short, as does one that was taken in part; its connection is *behind* until everything has
//! gone, of which the handler is told, and is read from only while its outbox is below the bound. Such a write is
//! awaited by a task of its own, and what is queued behind it is copied out of the receive buffers.
//!
//! What the crate does not offer, and this engine thus goes without: multishot operations and buffer rings (so a
//! connection that waits holds a buffer), direct descriptors, completions left out, cancelling, timeouts (a timerfd
//! is read instead), and `DEFER_TASKRUN`: the crate sleeps in `epoll_wait` on the ring and never enters the ring to
//! get completions, and with that flag only such a call makes them. Of [`Counters`](super::Counters), `enters`,
//! `no_buffers`, `cq_overflows` and the two of rearming stay 0: the crate does not show them.
//!
//! Invariants: at most one read and one write are under way per connection; a slot is given up when both are over,
//! which shutting the socket down brings about; none is under way when the runtime ends, for it frees what
//! operations own before the kernel is done with them.

mod memory;
mod world;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use ::tokio_uring::fs::File;
use ::tokio_uring::net::TcpStream;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use tokio::net::TcpSocket;

use super::uring::explain_set_up;
use super::{Config, ConnId, EngineError, Handler, Route, Waker, socket};
pub(super) use world::HELD_BYTES;
use world::{Next, World, Writing};

/// What `--engine` and result files call it.
pub const NAME: &str = "tokio-uring";

type Shared<H> = Rc<RefCell<World<H>>>;

/// Runs `handler` on this thread until it calls [`Connections::stop`](super::Connections::stop), and gives it back.
///
/// `ready` is called once the ring is set up, before anything is accepted.
///
/// # Errors
/// The ring could not be set up, or no descriptor was free for it.
///
/// # Panics
/// If the handler does.
pub fn run<H: Handler>(
    mut config: Config,
    waker: &Waker,
    handler: H,
    ready: impl FnOnce(),
) -> Result<H, EngineError> {
    let listener = config.listener.take();
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC);
    let timer = timer.map_err(io::Error::from).map_err(EngineError::io("making a timerfd"))?;
    let files = Files {
        wakes: waker.descriptor().try_clone().map_err(EngineError::io("sharing the eventfd"))?,
        timer: timer.try_clone().map_err(EngineError::io("sharing the timerfd"))?,
        listener: listener
            .as_ref()
            .map(TcpListener::try_clone)
            .transpose()
            .map_err(EngineError::io("sharing the listener"))?,
    };
    let runtime = set_up(&config)?;
    let world = World::new(config, waker.clone(), handler, timer, listener);
    ready();
    let ended = runtime.block_on(live(Rc::clone(&world), files));
    if !matches!(ended, Ok(End::Stopped)) {
        // Operations are under way, and the runtime frees what they own.
        std::mem::forget((runtime, world));
        match ended {
            Err(error) => std::panic::resume_unwind(error.into_panic()),
            Ok(_) => panic!("a handler panicked"),
        }
    }
    drop(runtime);
    let Some(world) = Rc::into_inner(world) else { panic!("a task has outlived its runtime") };
    Ok(world.into_inner().handler)
}

fn set_up(config: &Config) -> Result<tokio_uring::Runtime, EngineError> {
    let mut ring = tokio_uring::uring_builder();
    // Completions don't interrupt us: they are made when we enter the kernel anyway (5.19).
    ring.setup_coop_taskrun()
        // An entry that fails does not hold up those behind it (5.18).
        .setup_submit_all()
        .setup_cqsize(config.cq_entries)
        .dontfork();
    let mut builder = tokio_uring::builder();
    builder.entries(config.sq_entries).uring_builder(&ring);
    tokio_uring::Runtime::new(&builder).map_err(|error| explain_set_up(error, "COOP_TASKRUN", "5.19"))
}

/// How a run ended.
enum End {
    Stopped,
    Panicked,
}

/// What the tasks that serve no connection work on.
struct Files {
    wakes: OwnedFd,
    timer: OwnedFd,
    listener: Option<TcpListener>,
}

/// Starts the tasks that there always are, and ends with the turns.
async fn live<H: Handler>(world: Shared<H>, files: Files) -> Result<End, tokio::task::JoinError> {
    // First: it has to have been run before anything is written.
    start(&world, settle(Rc::clone(&world)));
    start(&world, wait_for_wakes(Rc::clone(&world), files.wakes));
    start(&world, wait_for_timer(Rc::clone(&world), files.timer));
    if let Some(listener) = files.listener {
        start(&world, accept(Rc::clone(&world), listener));
    }
    ::tokio_uring::spawn(turns(world)).await
}

/// Spawns a task that the engine waits for when it ends.
fn start<H: Handler>(world: &Shared<H>, task: impl Future<Output = ()> + 'static) {
    world.borrow_mut().on_task_started();
    spawn_counted(Rc::clone(world), task);
}

fn spawn_counted<H: Handler>(world: Shared<H>, task: impl Future<Output = ()> + 'static) {
    struct Counted<H: Handler>(Shared<H>);
    impl<H: Handler> Drop for Counted<H> {
        fn drop(&mut self) {
            self.0.borrow_mut().on_task_ended(std::thread::panicking());
        }
    }
    let counted = Counted(world);
    ::tokio_uring::spawn(async move {
        let _counted = counted;
        task.await;
    });
}

async fn turns<H: Handler>(world: Shared<H>) -> End {
    if let End::Panicked = poll_fn(|cx| world.borrow_mut().poll_turn(cx)).await {
        return End::Panicked;
    }
    // What was queued in the last turn is tried: entries are worked off in order, and this one stands behind it.
    // That it did not fail is no news.
    let _ = tokio_uring::no_op().await;
    world.borrow_mut().end();
    poll_fn(|cx| world.borrow_mut().poll_end(cx)).await
}

async fn settle<H: Handler>(world: Shared<H>) {
    while let Some(turn) = poll_fn(|cx| world.borrow_mut().poll_wrote(cx)).await {
        // It stands behind the turn's writes; that it did not fail is no news.
        let _ = ::tokio_uring::no_op().await;
        world.borrow_mut().settle(turn);
    }
}

async fn wait_for_wakes<H: Handler>(world: Shared<H>, wakes: OwnedFd) {
    let wakes = File::from_std(wakes.into());
    let mut count = vec![0; 8];
    while !world.borrow().is_ending() {
        // It fails for no reason that the next read would not meet as well.
        (_, count) = wakes.read_at(count, 0).await;
        world.borrow_mut().on_woken();
    }
}

async fn wait_for_timer<H: Handler>(world: Shared<H>, timer: OwnedFd) {
    let timer = File::from_std(timer.into());
    let mut count = vec![0; 8];
    while !world.borrow().is_ending() {
        (_, count) = timer.read_at(count, 0).await;
        world.borrow_mut().on_timer_fired();
    }
}

async fn accept<H: Handler>(world: Shared<H>, listener: TcpListener) {
    let listener = tokio_uring::net::TcpListener::from_std(listener);
    while poll_fn(|cx| world.borrow_mut().poll_may_accept(cx)).await {
        let fault = world.borrow_mut().accept_fault();
        let accepted = match fault {
            None => listener.accept().await,
            Some(error) => Err(error),
        };
        world.borrow_mut().on_accept(accepted);
    }
}

/// A connection's task.
async fn read<H: Handler>(world: Shared<H>, id: ConnId, stream: Rc<TcpStream>) {
    let mut next = world.borrow_mut().begin_reading(id);
    loop {
        match next {
            Next::Read(room) => {
                let fault = world.borrow_mut().receive_fault();
                let (result, room) = match fault {
                    None => stream.read(room).await,
                    Some(error) => (Err(error), room),
                };
                next = world.borrow_mut().on_read(id, result, room);
            }
            Next::Wait => {
                poll_fn(|cx| world.borrow_mut().poll_resumed(id, cx)).await;
                next = world.borrow_mut().begin_reading(id);
            }
            Next::End => break,
        }
    }
    // The world's is the last one, and closes the socket.
    drop(stream);
    world.borrow_mut().on_reader_ended(id);
}

/// Waits for a write that a slow peer holds up.
async fn await_write<H: Handler>(world: Shared<H>, write: Writing) {
    let Writing { slot, wanted_bytes, operation, .. } = write;
    let (result, _) = operation.await;
    world.borrow_mut().on_written(slot, wanted_bytes, result);
}

async fn dial<H: Handler>(world: Shared<H>, id: ConnId, route: Route) {
    let result = connect(&world, id, &route).await;
    world.borrow_mut().on_dialled(id, result);
}

/// `None` where it was given up. Over tokio, for a connect of the crate could not be: its socket is out of reach
/// until it ends.
async fn connect<H: Handler>(world: &Shared<H>, id: ConnId, route: &Route) -> io::Result<Option<TcpStream>> {
    let socket = socket::for_connecting(route)?;
    socket.set_nonblocking(true)?;
    let mut connecting = pin!(TcpSocket::from_std_stream(socket.into()).connect(route.to));
    let connected = poll_fn(|cx| match world.borrow_mut().poll_given_up(id, cx) {
        Poll::Ready(()) => Poll::Ready(Ok(None)),
        Poll::Pending => connecting.as_mut().poll(cx).map_ok(Some),
    });
    let Some(stream) = connected.await? else { return Ok(None) };
    let stream = stream.into_std()?;
    // Else operations would fail where they have to wait.
    stream.set_nonblocking(false)?;
    Ok(Some(TcpStream::from_std(stream)))
}
