//! What a generator thread is to do, what it is told meanwhile, and what it reports.
//!
//! Invariant: orders are read by the threads and written by the timekeeper alone, and a window is whole before it can be seen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::arrivals::Spans;
use super::client::Wish;
use super::endpoint::Endpoint;
use super::fan;
use super::parts::Variety;
use super::schedule::Schedule;
use super::tally::{Slice, Tally, Window};
use crate::measure::evidence::Exemplar;
use crate::measure::particulars::Particulars;
use crate::measure::result::Wire;
use crate::scenario::deflate::{DeflateParameters, DeflateSettings};
use crate::scenario::echo::Payloads;
use crate::ws::subprotocol::Subprotocol;

/// What the threads are told: the run's window, as soon as all have opened their connections.
#[derive(Debug, Default)]
pub(super) struct Orders {
    start_ns: AtomicU64,
    measure_ns: AtomicU64,
    end_ns: AtomicU64,
    drained_ns: AtomicU64,
    stop: AtomicBool,
    dismissed: AtomicBool,
}

impl Orders {
    pub(super) fn set(&self, window: Window) {
        self.measure_ns.store(window.measure_ns, Ordering::Relaxed);
        self.end_ns.store(window.end_ns, Ordering::Relaxed);
        self.drained_ns.store(window.drained_ns, Ordering::Relaxed);
        self.start_ns.store(window.start_ns, Ordering::Release);
    }

    /// The window is to end as soon as the threads see this.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the window is to end now.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The timekeeper has read the threads' CPU time: they may close their connections and end.
    pub(super) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Relaxed);
    }

    /// Whether the threads may end.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }

    /// The window, once it is set.
    pub(super) fn get(&self) -> Option<Window> {
        let start_ns = self.start_ns.load(Ordering::Acquire);
        (start_ns != 0).then(|| Window {
            start_ns,
            measure_ns: self.measure_ns.load(Ordering::Relaxed),
            end_ns: self.end_ns.load(Ordering::Relaxed),
            drained_ns: self.drained_ns.load(Ordering::Relaxed),
        })
    }
}

/// What a thread reports.
pub(super) enum Report {
    /// All of its connections have opened or failed.
    Ready {
        /// The generator thread, from 0.
        thread: usize,
        /// Those that are open.
        open: usize,
        /// The generator thread, for its CPU time.
        thread_id: i32,
    },
    /// What happened on a thread since its last slice.
    Slice(usize, Slice),
    /// The server was asked to stamp its answers, and does not.
    Unstamped,
    /// The last of its connections is gone, and not by our doing.
    Deserted,
}

/// What a thread leaves when it ends.
pub(super) struct Harvest {
    pub(super) tally: Tally,
    /// Its worst messages, worst first.
    pub(super) exemplars: Vec<Exemplar>,
    /// Time of the measured window in turns that found nothing to do, while spinning.
    pub(super) idle_ns: u64,
    /// The server was asked for stamps and gave none.
    pub(super) is_unstamped: bool,
    /// The compression that its connections agreed on.
    pub(super) deflate: Option<DeflateParameters>,
    /// What messages came to with it.
    pub(super) wire: Wire,
    /// The subprotocol that was chosen.
    pub(super) subprotocol: Option<Subprotocol>,
    /// What the scenario measured beside.
    pub(super) particulars: Particulars,
}

/// What a thread is to do.
pub(super) struct Task {
    /// The thread, from 0.
    pub(super) thread: usize,
    pub(super) endpoint: Endpoint,
    pub(super) connections: usize,
    pub(super) connect_gap_ns: f64,
    pub(super) connect_timeout_ns: u64,
    /// The open loop's schedule; `None` in a closed loop.
    pub(super) schedule: Option<Schedule>,
    /// A sample of when the schedule's messages were reached is taken so.
    pub(super) spans: Option<Spans>,
    /// Messages in flight per connection of a closed loop.
    pub(super) pipeline: u64,
    /// Poll without ever sleeping.
    pub(super) spin: bool,
    /// How many of the worst messages to keep.
    pub(super) exemplars: usize,
    pub(super) payloads: Payloads,
    /// What connections do, where it is not the plain echo.
    pub(super) variety: Option<Variety>,
    /// What the server is to send unasked, where it is.
    pub(super) wish: Option<Wish>,
    /// From one burst to the next, where messages come in bursts.
    pub(super) bursts_every_ns: Option<u64>,
    /// What it has to know where messages go from a few to everybody.
    pub(super) fan: Option<fan::Part>,
    /// Messages are compressed so.
    pub(super) deflate: Option<DeflateSettings>,
    /// Offered, the one liked best first.
    pub(super) subprotocols: Vec<Subprotocol>,
    pub(super) random: fastrand::Rng,
    pub(super) orders: Arc<Orders>,
    pub(super) report: Box<dyn Fn(Report) + Send>,
    /// Slices to be used again.
    pub(super) spare: Arc<Mutex<Vec<Slice>>>,
}
