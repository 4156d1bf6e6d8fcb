//! Looking after connections that fell silent: the kernel may have kept their end to itself.
//!
//! A multishot receive is woken for data and for the end behind it. Where both come close together, it may take the data and
//! go back to waiting, and nothing will ever wake it again: the peer is gone, and the connection stays for good. One such race
//! is what "io_uring/poll: fix multishot recv missing EOF on wakeup race" (a68ed2df7213, Linux 7.0) mends. On Linux 6.18.44
//! both may come while nobody runs, and the end is told; yet of peers that reset right behind their data a few in ten thousand
//! or in a hundred thousand are still missed: the receive is armed, no work is queued for it, and the socket is closed. Peers
//! that mean harm have the patience.
//!
//! So a connection that was heard from, and then not for a whole [`SWEEP_NS`], has its receive cancelled, once, until it is
//! heard from again. What is cancelled is begun anew like any other receive that ended, and that looks at the socket itself:
//! at data, at an end, at an error, at a record of TLS that the kernel opens. Nothing can be lost in between, for a cancelled
//! receive has taken nothing. A receive that begins anew misses no end; those that are no multishots begin anew each time.
//!
//! Invariants: what is received costs one store; a connection that stays silent costs one cancel and one receive, once; while
//! nobody is heard from, there is no sweep and no timer. No sweep takes long: it goes on a little later where there are many
//! slots.

use super::super::Handler;
use super::tag::Op;
use super::{Switch, Uring};

/// Between two sweeps: an end that the kernel did not tell of is found within two of these and what it takes to sweep.
const SWEEP_NS: u64 = 1_000_000_000;
/// Slots that are looked at without a pause, and the pause.
const SLOTS_AT_ONCE: usize = 512;
const PAUSE_NS: u64 = 5_000_000;
/// How many sweeps it takes to find a connection silent: the first may come right after it was heard from.
pub(super) const SWEEPS_TO_SILENCE: u8 = 2;

/// How far sweeping has come.
#[derive(Default)]
pub(super) struct Sweep {
    /// When to go on; `None` while everybody who was heard from has been looked after.
    at_ns: Option<u64>,
    /// Where to.
    next_slot: usize,
    /// Receives counted when the sweep began.
    receives: u64,
    /// It met connections that will have to be met again.
    is_not_last: bool,
}

impl<H: Handler> Uring<'_, H> {
    /// When the kernel has to end the wait for a sweep.
    #[inline]
    pub(super) fn sweep_by(&self) -> Option<u64> {
        self.sweep.at_ns
    }

    /// Sweeps if it is time to, and sees that there will be a sweep if there were receives.
    #[inline]
    pub(super) fn sweep_in_time(&mut self) {
        let now_ns = self.connections.common.now_ns;
        match self.sweep.at_ns {
            Some(at_ns) if at_ns <= now_ns => self.sweep_on(),
            None if self.connections.counters.receives != self.sweep.receives => self.begin_sweeping(),
            _ => {}
        }
    }

    #[cold]
    fn begin_sweeping(&mut self) {
        self.sweep.receives = self.connections.counters.receives;
        if self.features.has(Switch::MultishotRecv) {
            self.sweep.at_ns = Some(self.connections.common.now_ns + SWEEP_NS);
        }
    }

    #[cold]
    fn sweep_on(&mut self) {
        let first = self.sweep.next_slot;
        if first == 0 {
            self.sweep.receives = self.connections.counters.receives;
            self.sweep.is_not_last = false;
        }
        let end = self.held.len().min(first + SLOTS_AT_ONCE);
        for slot in first..end {
            let state = &mut self.held[slot];
            if state.sweeps_to_silence == 0 {
                continue;
            }
            state.sweeps_to_silence -= 1;
            state.had_turn_in_vain = false;
            if state.sweeps_to_silence > 0 {
                self.sweep.is_not_last = true;
            } else if state.recv_armed && !state.recv_cancelled && !state.closing {
                self.cancel(Op::Recv, self.connections.id_at(slot as u32));
            }
        }
        let now_ns = self.connections.common.now_ns;
        if end < self.held.len() {
            (self.sweep.next_slot, self.sweep.at_ns) = (end, Some(now_ns + PAUSE_NS));
        } else {
            (self.sweep.next_slot, self.sweep.at_ns) =
                (0, self.sweep.is_not_last.then_some(now_ns + SWEEP_NS));
        }
    }
}
