//! The network between the two ends: pipes that hold so much and no more, and deliver what was written in pieces
//! of any size, each after a while of its own.
//!
//! Invariants: bytes are read in the order they were written; what is read is what was written, but for the tail
//! that a reset destroys; nothing arrives before its time. It knows no handler: who reads and writes, and when,
//! is the ends' affair.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;

use super::Plan;

/// When fake time begins, in nanoseconds: not at 0, so that a time in the past can be told from none.
pub(super) const START_NS: u64 = 1_000_000_000;
/// Never.
pub(super) const NEVER_NS: u64 = u64::MAX;

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Fin,
    Reset,
}

/// What a read brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    Bytes(usize),
    Fin,
    Reset,
}

/// One direction of a link.
#[derive(Debug, Default)]
struct Pipe {
    /// Written and not read yet.
    bytes: VecDeque<u8>,
    /// When how many of them arrive, in order.
    arrivals: VecDeque<(u64, usize)>,
    /// What comes after them, and when.
    ending: Option<(u64, Ending)>,
    /// Whoever read has closed: what is written is answered by a reset.
    abandoned: bool,
    /// When a write finds out that it is in vain.
    broken_ns: Option<u64>,
}

impl Pipe {
    fn last_arrival_ns(&self) -> u64 {
        self.arrivals.back().map_or(0, |&(at_ns, _)| at_ns)
    }

    /// Keeps the first `kept_bytes`; the rest is lost on its way.
    fn truncate(&mut self, kept_bytes: usize) {
        self.bytes.truncate(kept_bytes);
        let mut room_bytes = kept_bytes;
        for (_, byte_count) in &mut self.arrivals {
            *byte_count = room_bytes.min(*byte_count);
            room_bytes -= *byte_count;
        }
        self.arrivals.retain(|&(_, byte_count)| byte_count > 0);
    }
}

/// All links, and chance.
pub(super) struct Net {
    pub(super) now_ns: u64,
    pub(super) random: fastrand::Rng,
    /// Links cut by chance, and connections refused by it.
    pub(super) resets: u64,
    pub(super) refusals: u64,
    /// The server takes connections.
    pub(super) listening: bool,
    plan: Plan,
    /// Each link's pipes, by the end that they lead to.
    links: Vec<[Pipe; 2]>,
    /// What the client called the server on each.
    names: Vec<IpAddr>,
    /// Links that the server has yet to accept, and when they are there.
    backlog: VecDeque<(u64, usize)>,
}

impl Net {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            now_ns: START_NS,
            random: fastrand::Rng::with_seed(plan.seed),
            resets: 0,
            refusals: 0,
            listening: true,
            plan: plan.clone(),
            links: Vec::new(),
            names: Vec::new(),
            backlog: VecDeque::new(),
        }
    }

    fn later(&mut self) -> u64 {
        self.now_ns + self.random.u64(0..=self.plan.latency_ns_max)
    }

    fn one_in(&mut self, one_in: u32) -> bool {
        one_in != 0 && self.random.u32(0..one_in) == 0
    }

    /// Some of `count`, at least 1: often all, sometimes a single one.
    fn part_of(&mut self, count: usize) -> usize {
        match self.random.u8(0..8) {
            0 => 1,
            1..4 => self.random.usize(1..=count),
            _ => count,
        }
    }

    /// Time passes until `next_ns`, and now and then a little more: whoever waited for it sleeps too long.
    pub(super) fn wait_until(&mut self, next_ns: u64) {
        self.now_ns = next_ns;
        if self.one_in(8) {
            self.now_ns = self.later();
        }
    }

    /// Now and then, cuts a link, whatever state it is in.
    pub(super) fn disturb(&mut self) {
        if self.links.is_empty() || !self.one_in(self.plan.reset_one_in) {
            return;
        }
        let link = self.random.usize(0..self.links.len());
        if self.links[link].iter().all(|pipe| pipe.abandoned || pipe.broken_ns.is_some()) {
            return;
        }
        self.resets += 1;
        self.break_off(link, 0);
        self.break_off(link, 1);
    }

    // ---- opening ----

    /// A link from the client to the server, and when it is there; `None` for a refusal.
    pub(super) fn connect(&mut self, name: IpAddr) -> (u64, Option<usize>) {
        let at_ns = self.later();
        let by_chance = self.one_in(self.plan.refuse_one_in);
        if by_chance || !self.listening {
            self.refusals += u64::from(by_chance);
            return (at_ns, None);
        }
        let link = self.links.len();
        self.links.push(Default::default());
        self.names.push(name);
        self.backlog.push_back((at_ns, link));
        (at_ns, Some(link))
    }

    /// What the client called the server when it made this link.
    pub(super) fn name(&self, link: usize) -> IpAddr {
        self.names[link]
    }

    /// When there will be a link to accept.
    pub(super) fn acceptable_ns(&self) -> u64 {
        self.backlog.front().map_or(NEVER_NS, |&(at_ns, _)| at_ns)
    }

    pub(super) fn accept(&mut self) -> Option<usize> {
        let &(at_ns, link) = self.backlog.front()?;
        (at_ns <= self.now_ns).then(|| {
            self.backlog.pop_front();
            link
        })
    }

    /// Nobody accepts any more; who waits for it is turned away.
    pub(super) fn stop_listening(&mut self, server: usize) {
        self.listening = false;
        for (_, link) in std::mem::take(&mut self.backlog) {
            self.close(link, server);
        }
    }

    // ---- bytes ----

    /// When there will be something for `end` to read.
    pub(super) fn readable_ns(&self, link: usize, end: usize) -> u64 {
        let pipe = &self.links[link][end];
        match (pipe.arrivals.front(), pipe.ending) {
            (Some(&(at_ns, _)), _) | (None, Some((at_ns, _))) => at_ns,
            (None, None) => NEVER_NS,
        }
    }

    /// When `end` will be able to write, or to find out that it cannot.
    pub(super) fn writable_ns(&self, link: usize, end: usize) -> u64 {
        let pipe = &self.links[link][1 - end];
        if pipe.bytes.len() < self.plan.pipe_bytes { 0 } else { pipe.broken_ns.unwrap_or(NEVER_NS) }
    }

    /// Takes what has room, cut into pieces that arrive one after the other.
    pub(super) fn write(&mut self, link: usize, end: usize, bytes: &[u8]) -> io::Result<usize> {
        let pipe = &self.links[link][1 - end];
        if pipe.broken_ns.is_some_and(|at_ns| at_ns <= self.now_ns) {
            return Err(io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        if matches!(pipe.ending, Some((_, Ending::Fin))) {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        let count = bytes.len().min(self.plan.pipe_bytes.saturating_sub(pipe.bytes.len()));
        if count == 0 {
            return Ok(0);
        }
        if pipe.abandoned || pipe.ending.is_some() {
            self.break_off(link, end);
            return Ok(count);
        }
        let mut left = count;
        while left > 0 {
            let piece = self.part_of(left);
            let at_ns = self.later();
            let pipe = &mut self.links[link][1 - end];
            pipe.arrivals.push_back((at_ns.max(pipe.last_arrival_ns()), piece));
            left -= piece;
        }
        self.links[link][1 - end].bytes.extend(&bytes[..count]);
        Ok(count)
    }

    /// Reads into the front of `memory` some of what has arrived. There must be something.
    pub(super) fn read(&mut self, link: usize, end: usize, memory: &mut [u8]) -> Arrived {
        let now_ns = self.now_ns;
        let arrived = self.links[link][end].arrivals.iter().take_while(|&&(at_ns, _)| at_ns <= now_ns);
        let arrived_bytes: usize = arrived.map(|&(_, byte_count)| byte_count).sum();
        if arrived_bytes == 0 {
            let (at_ns, ending) = self.links[link][end].ending.expect("something to read");
            assert!(at_ns <= now_ns, "read before it arrived");
            return if ending == Ending::Fin { Arrived::Fin } else { Arrived::Reset };
        }
        let count = self.part_of(arrived_bytes.min(memory.len()));
        let pipe = &mut self.links[link][end];
        for (place, byte) in memory.iter_mut().zip(pipe.bytes.drain(..count)) {
            *place = byte;
        }
        let mut left = count;
        while let Some((_, byte_count)) = pipe.arrivals.front_mut().filter(|_| left > 0) {
            let taken = left.min(*byte_count);
            *byte_count -= taken;
            left -= taken;
            if *byte_count == 0 {
                pipe.arrivals.pop_front();
            }
        }
        Arrived::Bytes(count)
    }

    // ---- ending ----

    /// `end` will write nothing more.
    pub(super) fn shut_down(&mut self, link: usize, end: usize) {
        let at_ns = self.later();
        let pipe = &mut self.links[link][1 - end];
        if pipe.ending.is_none() {
            pipe.ending = Some((at_ns.max(pipe.last_arrival_ns()), Ending::Fin));
        }
    }

    /// `end` is gone: FIN, or a reset where it leaves something unread, as `close(2)` has it.
    pub(super) fn close(&mut self, link: usize, end: usize) {
        let incoming = &mut self.links[link][end];
        let has_unread = !incoming.bytes.is_empty();
        *incoming = Pipe { abandoned: true, broken_ns: incoming.broken_ns, ..Pipe::default() };
        if has_unread {
            self.break_off(link, 1 - end);
        } else {
            self.shut_down(link, end);
        }
    }

    /// `end` is told, after some of what is on its way to it, that the link is broken.
    fn break_off(&mut self, link: usize, end: usize) {
        let at_ns = self.later();
        let incoming_bytes = self.links[link][end].bytes.len();
        let kept_bytes = self.random.usize(0..=incoming_bytes);
        let incoming = &mut self.links[link][end];
        if incoming.abandoned || incoming.ending.is_some_and(|(_, ending)| ending == Ending::Reset) {
            return;
        }
        incoming.truncate(kept_bytes);
        let at_ns = at_ns.max(incoming.last_arrival_ns());
        incoming.ending = Some((at_ns, Ending::Reset));
        let outgoing = &mut self.links[link][1 - end];
        outgoing.broken_ns = Some(outgoing.broken_ns.map_or(at_ns, |before_ns| before_ns.min(at_ns)));
    }
}
