//! What a run noted about itself and its machine, so that it can be judged: the raw facts, without judgement.
//!
//! Invariant: every fact covers the measured window, and one that this machine does not show is absent, not nought.
//! Deliberately absent: bounds and words. [`super::verdict`] has both.

use serde::{Deserialize, Serialize};

use super::histogram::{self, Histogram};

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Whether generator threads polled without ever sleeping.
    pub spin: bool,
    /// Messages that fell due while the server was not reading, and waited for it in the generator.
    pub held_back: u64,
    /// The times at which the generator got to its messages; `None` in a closed loop.
    pub arrivals: Option<Arrivals>,
    /// The generator's threads.
    pub threads: Vec<ThreadUse>,
    /// The machine's CPUs.
    pub cpus: Vec<CpuTime>,
    /// What the control group's CPU quota took away; `None` where there is no quota to be seen.
    pub throttled: Option<Throttled>,
}

/// The arrival process as it was achieved: a sample of spans, each the time that a fixed number of consecutive
/// messages of one thread took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    /// Messages in a span: 1 where gaps are long, more where they are shorter than a generator can be punctual.
    pub messages_per_span: u64,
    /// How long a span lasts on average, by the plan, in nanoseconds.
    pub planned_span_ns: f64,
    /// Spans, evenly thinned over the window; each in nanoseconds.
    #[serde(serialize_with = "on_one_line")]
    pub spans_ns: Vec<u64>,
}

fn on_one_line<S: serde::Serializer>(spans: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::value::to_raw_value(spans).expect("numbers are plain data").serialize(serializer)
}

/// One generator thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadUse {
    /// The CPU it was pinned to.
    pub cpu: u64,
    /// Processor time.
    pub cpu_s: f64,
    /// Time it was ready to run, and did not: the CPU was another's (`schedstat`'s run delay).
    pub waited_s: f64,
    /// Times that it was made to give up the CPU.
    pub involuntary_switches: u64,
    /// Times that it gave it up to wait.
    pub voluntary_switches: u64,
    /// Page faults that had to wait for storage.
    pub major_faults: u64,
    /// While spinning: time in turns that found nothing to do. What is left of the window is work.
    pub idle_s: Option<f64>,
    /// Its headline durations.
    #[serde(with = "histogram::base64")]
    pub headline: Histogram,
}

/// How one CPU spent the window, by `/proc/stat`; its clock ticks are a hundredth of a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuTime {
    /// The CPU's number.
    pub cpu: u64,
    /// In processes: `user`, `nice` and `system`.
    pub busy_s: f64,
    /// In interrupts: `irq` and `softirq`.
    pub interrupts_s: f64,
    /// Given by the hypervisor to somebody else.
    pub steal_s: f64,
    /// Idle, waiting for storage or not.
    pub idle_s: f64,
}

/// What a CPU quota did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Throttled {
    /// Periods in which the quota ran out.
    pub periods: u64,
    /// Time that threads were held up for it.
    pub time_s: f64,
}

/// One of the worst messages, and what went on around it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exemplar {
    /// The generator thread, from 0.
    pub thread: u64,
    /// The connection, by a number that is its own within the thread.
    pub connection: u64,
    /// The message's number on that connection, from 0.
    pub number: u64,
    /// When it was to be sent, after the start of the window.
    pub intended_s: f64,
    /// From then to the answer (in a closed loop: from the actual send).
    pub response_ns: u64,
    /// From the intended to the actual send.
    pub queued_ns: u64,
    /// From the actual send to the answer.
    pub service_ns: u64,
    /// Where the server stamps its answers: from the actual send to when the server saw it, and from then until
    /// its answer was queued.
    pub server: Option<ServerStamps>,
    /// Other answers that the same turn of the generator brought and that took at least nine tenths as long.
    pub others_in_turn: u64,
    /// What the generator's thread did meanwhile.
    pub around: Around,
}

/// What a server's stamps say of one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStamps {
    /// From the actual send to when the server saw the message.
    pub to_server_ns: u64,
    /// From then until its answer was queued.
    pub in_server_ns: u64,
}

/// A thread between two looks at it, which enclose a message's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// Time between the looks.
    pub span_ns: u64,
    /// Turns of the engine's loop.
    pub turns: u64,
    /// The longest time from the beginning of one to that of the next, waiting included: much longer than the gaps between
    /// messages and answers, and the thread was not running.
    pub longest_turn_ns: u64,
    /// Calls that waited for the kernel.
    pub waits: u64,
    /// Receives.
    pub receives: u64,
    /// Receives that found no buffer.
    pub starved_receives: u64,
    /// Sends that the socket's buffer had no room for.
    pub short_sends: u64,
    /// Times that the thread was made to give up its CPU.
    pub involuntary_switches: u64,
    /// Times that it gave it up to wait.
    pub voluntary_switches: u64,
}
