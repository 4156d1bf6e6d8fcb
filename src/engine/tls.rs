//! TLS between any engine and any handler: [`Tls`] is a handler to the engine below it, and an engine to the handler above.
//!
//! The handler has [`Connections`] of its own, as it would over an engine, and every rule of the seam holds: bytes that arrive are
//! decrypted where they lie, and the handler may compose its answer there. Right after each of its calls, what was queued
//! is encrypted into the outbox of the engine's connection. So neither engines nor handlers know of TLS, and without it
//! nothing is different: what a thread runs is chosen by type.
//!
//! Invariants: nothing is sent unencrypted; a connection is shown to the handler from its beginning (so that it counts), but
//! opened only once it is secured; a peer's fault ends its own connection and no other; each state that waits for the peer
//! has a time limit here, or the handler's; a connection that is being failed is read until the peer is done, so that the
//! alert is not lost to a reset. Output that waits is the engine's, encrypted, and bounded by it.
//!
//! Where it was asked for ([`Tls::handing_to_kernel`]), a connection is handed to the kernel's TLS once it is secured and the
//! engine has a moment of quiet: see [`ktls`]. From then on its bytes are plain here as well, and pass through: a reply in
//! place is one to the engine too. Until then, and where the kernel refuses, its records are opened and sealed here.
//!
//! Timers of the handler's are kept here, by way of [`Handler::on_turn`].

use std::net::IpAddr;
use std::ops::Range;

use super::{Closed, ConnId, Connections, Counters, Handler, Intent, Received, Segment, ktls};
use crate::limits::HEADROOM_BYTES;
use crate::tls::{self, Handed, Session};

/// Moments of quiet in which a record has come in part, after which a connection stays in this process.
const QUIETS: u8 = 8;

/// What the connections of a [`Tls`] are.
#[derive(Debug, Clone)]
pub enum Ends {
    /// Accepted.
    Server(tls::Server),
    /// Made.
    Client(tls::Client),
}

/// What became of TLS handshakes and connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TlsCounters {
    /// Handshakes that succeeded.
    pub handshakes: u64,
    /// Of those, by a ticket of an earlier connection.
    pub resumed: u64,
    /// Connections whose first bytes were no TLS.
    pub not_tls: u64,
    /// Handshakes that failed otherwise.
    pub failures: u64,
    /// Handshakes that took too long.
    pub timeouts: u64,
    /// Secured connections that were ended for what the peer's records held.
    pub faults: u64,
    /// Secured connections whose peer hung up without saying so first.
    pub truncated: u64,
    /// Secured connections that were handed to the kernel.
    pub kernel: u64,
    /// Those that it refused: it has no such cipher, above all.
    pub kernel_refused: u64,
    /// Those that were never quiet enough to be handed over, or changed their keys before.
    pub kernel_missed: u64,
}

impl std::ops::AddAssign for TlsCounters {
    fn add_assign(&mut self, other: Self) {
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
        self.not_tls += other.not_tls;
        self.failures += other.failures;
        self.timeouts += other.timeouts;
        self.faults += other.faults;
        self.truncated += other.truncated;
        self.kernel += other.kernel;
        self.kernel_refused += other.kernel_refused;
        self.kernel_missed += other.kernel_missed;
    }
}

/// A [`Handler`] that secures the connections of another.
pub struct Tls<H: Handler> {
    handler: H,
    /// As the handler knows them.
    inner: Connections<H::Conn>,
    /// The engine's name for each, by the handler's slot.
    outer_ids: Vec<ConnId>,
    ends: Ends,
    handshake_ns: u64,
    close_ns: u64,
    /// See [`Tls::handing_to_kernel`].
    to_kernel: bool,
    counters: TlsCounters,
    /// Slots whose output waits in the engine.
    waiting: Vec<u32>,
    /// What sessions say by themselves, before it is queued.
    scratch: Vec<u8>,
    /// Whose connection is being opened, if that is told.
    address: Option<IpAddr>,
}

/// One of the engine's connections.
pub struct Link<C> {
    session: Option<Box<Session>>,
    /// Instead of it, where the kernel opens and seals.
    handed: Option<Box<Handed>>,
    /// How many moments of quiet may still be asked for, to hand it over.
    quiets: u8,
    stage: Stage,
    /// What the engine was asked for so far.
    intent: Intent,
    inner: Inner<C>,
    opened_ns: u64,
    /// In a stage that waits for the peer: for how long.
    until_ns: u64,
    why: Option<Box<tls::Error>>,
}

/// The handler's side of it.
enum Inner<C> {
    /// Accepted, and not known to the handler's connections yet.
    Accepted(C),
    Known(ConnId),
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Below it is being opened.
    Opening,
    Handshake,
    Open,
    /// The peer has said, or shown, that it will send nothing more.
    Ended,
    /// The peer was told of its fault; what it still sends is thrown away.
    Failed,
}

impl<C> Link<C> {
    fn new(inner: Inner<C>) -> Self {
        Self {
            session: None,
            handed: None,
            quiets: 0,
            stage: Stage::Opening,
            intent: Intent::Keep,
            inner,
            opened_ns: 0,
            until_ns: u64::MAX,
            why: None,
        }
    }
}

/// What a handler may have composed answers in.
#[derive(Clone, Copy)]
struct Memory<'a> {
    bytes: &'a [u8],
    /// It is what the engine has handed over, from its beginning: it can be sent from.
    is_engines: bool,
}

impl<'a> Memory<'a> {
    const NONE: Self = Self { bytes: &[], is_engines: false };

    fn ours(bytes: &'a [u8]) -> Self {
        Self { bytes, is_engines: false }
    }
}

type Outer<H> = Connections<Link<<H as Handler>::Conn>>;

impl<H: Handler> Tls<H> {
    /// `handler`'s connections, secured. A handshake may take `handshake_ns`, a peer that is being turned away `close_ns` to
    /// go; both in nanoseconds.
    pub fn new(handler: H, ends: Ends, handshake_ns: u64, close_ns: u64) -> Self {
        Self {
            handler,
            inner: Connections::with_capacity(0),
            outer_ids: Vec::new(),
            ends,
            handshake_ns,
            close_ns,
            to_kernel: false,
            counters: TlsCounters::default(),
            waiting: Vec::new(),
            scratch: Vec::new(),
            address: None,
        }
    }

    /// Has connections be handed to the kernel's TLS, if `to_kernel`. The engine has to have [`Config::kernel_tls`](super::Config)
    /// set.
    #[must_use]
    pub fn handing_to_kernel(mut self, to_kernel: bool) -> Self {
        self.to_kernel = to_kernel;
        self
    }

    /// Gives the handler back.
    pub fn into_inner(self) -> H {
        self.handler
    }

    // ---- the handler's side ----

    /// Has the handler see the engine's time.
    #[inline]
    fn enter(&mut self, outer: &Outer<H>, now_ns: u64) {
        let common = &mut self.inner.common;
        (common.now_ns, common.simulated) = (now_ns, outer.common.simulated);
    }

    fn count(&mut self, outer: &Outer<H>) {
        self.inner.counters = Counters { tls: self.counters, ..outer.counters };
    }

    /// The handler has been called: what it asked for is passed on. `memory` is what it may have composed answers in.
    #[inline]
    fn leave(&mut self, outer: &mut Outer<H>, memory: Memory<'_>) {
        let mut dirty = std::mem::take(&mut self.inner.common.dirty);
        for slot in dirty.drain(..) {
            self.pass_on(outer, slot, memory);
        }
        self.inner.common.dirty = dirty;
        if !self.inner.connecting.is_empty() {
            self.connect(outer);
        }
        if !self.inner.common.accepting {
            outer.stop_accepting();
        }
        if self.inner.common.stopping {
            outer.stop();
        }
    }

    fn connect(&mut self, outer: &mut Outer<H>) {
        for (slot, address) in self.inner.connecting.split_off(0) {
            let id = self.inner.id_at(slot);
            let outer_id = outer.connect(address, Link::new(Inner::Known(id)));
            self.name(slot, outer_id);
            // It may have been given up at once.
            self.pass_on(outer, slot, Memory::NONE);
        }
    }

    fn name(&mut self, slot: u32, outer_id: ConnId) {
        if self.outer_ids.len() <= slot as usize {
            self.outer_ids.resize(slot as usize + 1, outer_id);
        }
        self.outer_ids[slot as usize] = outer_id;
    }

    /// Passes on what was queued for a connection, encrypted, and how far it is to be taken down.
    #[inline]
    fn pass_on(&mut self, outer: &mut Outer<H>, slot: u32, memory: Memory<'_>) {
        let line = &mut self.inner.slots[slot as usize].line;
        line.dirty = false;
        let Some(&outer_id) = self.outer_ids.get(slot as usize).filter(|_| line.in_use) else { return };
        let Some((link, mut io)) = outer.get(outer_id) else { return };
        if !matches!(&link.inner, Inner::Known(id) if id.slot == slot && id.generation == line.generation) {
            // It has yet to be connected, and is passed on then.
            return;
        }
        let pool = &mut self.inner.common.pool;
        if let Some(session) = link.session.as_deref_mut() {
            let may_send = matches!(link.stage, Stage::Open | Stage::Ended);
            while let Some(segment) = line.outbox.pop(pool) {
                let bytes = match &segment {
                    Segment::InPlace { start, end, .. } => &memory.bytes[*start as usize..*end as usize],
                    Segment::Owned { bytes, start } => &bytes[*start..],
                    Segment::Shared(bytes) => bytes,
                };
                if may_send {
                    io.write(|out| session.seal(bytes, out));
                }
                if let Segment::Owned { bytes, .. } = segment {
                    pool.put(bytes);
                }
            }
        } else if link.handed.is_some() {
            let may_send = matches!(link.stage, Stage::Open | Stage::Ended);
            while let Some(segment) = line.outbox.pop(pool) {
                match segment {
                    _ if !may_send => {}
                    Segment::InPlace { start, end, .. } if memory.is_engines => {
                        io.reply_in_place(start as usize..end as usize);
                    }
                    Segment::InPlace { start, end, .. } => {
                        io.write(|out| out.extend_from_slice(&memory.bytes[start as usize..end as usize]));
                    }
                    Segment::Owned { bytes, start } => {
                        io.write(|out| out.extend_from_slice(&bytes[start..]));
                        pool.put(bytes);
                    }
                    Segment::Shared(bytes) => io.send(bytes),
                }
            }
        }
        io.hold_reading(line.is_held_by_handler());
        io.keep(line.kept_bytes);
        if line.intent > link.intent {
            link.intent = line.intent;
            if let Some(session) = link.session.as_deref_mut().filter(|_| line.intent != Intent::Abort) {
                session.close(&mut self.scratch);
                if !self.scratch.is_empty() {
                    io.write(|out| out.append(&mut self.scratch));
                }
            }
            match line.intent {
                Intent::Keep => {}
                Intent::ShutDown => io.shut_down(),
                Intent::Close => io.close(),
                Intent::Abort => io.abort(),
            }
        }
        let waiting_bytes = io.queued_bytes();
        if line.outbox.is_empty() {
            if waiting_bytes > 0 && line.outbox.queued_bytes() == 0 {
                self.waiting.push(slot);
            }
            line.outbox.count_below(waiting_bytes);
        }
    }

    /// What still waits in the engine, of what waited when this was last asked.
    fn count_waiting(&mut self, outer: &mut Outer<H>) {
        let (inner, outer_ids) = (&mut self.inner, &self.outer_ids);
        self.waiting.retain(|&slot| {
            let line = &mut inner.slots[slot as usize].line;
            let waiting_bytes = match outer.get(outer_ids[slot as usize]) {
                Some((_, io)) if line.in_use => {
                    // A handler may have a layer of its own between, which looks for it here.
                    line.waiting.follow(&mut io.line.waiting);
                    io.queued_bytes()
                }
                _ => 0,
            };
            if line.outbox.is_empty() {
                line.outbox.count_below(waiting_bytes);
            }
            waiting_bytes > 0
        });
    }

    fn run_timers(&mut self, outer: &mut Outer<H>) {
        while let Some((at_ns, id)) = self.inner.common.timers.pop_due(self.inner.common.now_ns) {
            let Some((_, io)) = self.inner.get(id) else { continue };
            if io.line.wake_at_ns != at_ns {
                continue;
            }
            io.line.wake_at_ns = u64::MAX;
            if let Some((_, below)) = outer.get(self.outer_ids[id.index()]) {
                io.line.waiting.follow(&mut below.line.waiting);
            }
            self.handler.on_timer(&mut self.inner, id);
            self.leave(outer, Memory::NONE);
        }
    }

    // ---- the engine's side ----

    /// Sends what a session had to say.
    fn send_scratch(&mut self, outer: &mut Outer<H>, id: ConnId) {
        if let Some((_, mut io)) = outer.get(id).filter(|_| !self.scratch.is_empty()) {
            io.write(|out| out.append(&mut self.scratch));
        }
    }

    fn begin_session(&mut self) -> Result<Session, tls::Error> {
        match &self.ends {
            Ends::Server(server) => Session::server(server),
            Ends::Client(client) => Session::client(client, &mut self.scratch),
        }
    }

    fn on_handshake_bytes(&mut self, outer: &mut Outer<H>, id: ConnId, bytes: &[u8]) {
        let Some((link, _)) = outer.get(id) else { return };
        let Some(session) = link.session.as_deref_mut() else { return };
        let result = session.on_handshake(bytes, &mut self.scratch);
        self.send_scratch(outer, id);
        match result {
            Ok(None) => {}
            Ok(Some(secured)) => self.on_secured(outer, id, &secured),
            Err(error) => {
                match error {
                    tls::Error::NotTls => self.counters.not_tls += 1,
                    _ => self.counters.failures += 1,
                }
                self.fail(outer, id, error);
            }
        }
    }

    fn on_secured(&mut self, outer: &mut Outer<H>, id: ConnId, secured: &tls::Secured) {
        self.counters.handshakes += 1;
        self.counters.resumed += u64::from(secured.resumed);
        let now_ns = outer.received_ns();
        let Some((link, _)) = outer.get(id) else { return };
        let Inner::Known(inner_id) = link.inner else { return };
        let took_ns = now_ns.saturating_sub(link.opened_ns);
        link.stage = Stage::Open;
        self.handler.on_secured(&mut self.inner, inner_id, secured, took_ns);
        self.handler.on_open(&mut self.inner, inner_id);
        self.leave(outer, Memory::NONE);
        let Some((link, _)) = outer.get(id) else { return };
        let mut kept = link.session.as_deref_mut().map(Session::take_kept).unwrap_or_default();
        let range = HEADROOM_BYTES..kept.len();
        if !range.is_empty() {
            self.on_records(outer, id, &mut kept, range);
        }
        self.ask_quiet(outer, id);
    }

    /// So that the connection can be handed over, if that is to be tried.
    fn ask_quiet(&mut self, outer: &mut Outer<H>, id: ConnId) {
        if let Some((link, mut io)) = outer.get(id)
            && link.quiets > 0
            && link.stage == Stage::Open
        {
            io.ask_quiet();
        }
    }

    /// The keys, if everything that has come has been opened. If not, the rest of what has come is waited for.
    fn on_quiet(&mut self, outer: &mut Outer<H>, id: ConnId) -> ktls::Answer {
        let nothing = ktls::Answer::default();
        let Some((link, _)) = outer.get(id) else { return nothing };
        let Some(session) = link.session.as_deref_mut().filter(|_| link.stage == Stage::Open) else {
            return nothing;
        };
        if let Some((sealing, opening)) = session.keys() {
            return ktls::Answer { sealing: Some(sealing), opening: Some(opening), say: None };
        }
        link.quiets = if session.has_kept() { link.quiets.saturating_sub(1) } else { 0 };
        if link.quiets == 0 {
            session.forget_secrets();
            self.counters.kernel_missed += 1;
        }
        nothing
    }

    fn on_handed(&mut self, outer: &mut Outer<H>, id: ConnId, result: std::io::Result<()>) {
        let Some((link, _)) = outer.get(id) else { return };
        link.quiets = 0;
        match (result, link.session.take()) {
            (Ok(()), Some(session)) => {
                link.handed = Some(Box::new(session.into_handed()));
                self.counters.kernel += 1;
            }
            (_, mut session) => {
                session.iter_mut().for_each(|session| session.forget_secrets());
                link.session = session;
                self.counters.kernel_refused += 1;
            }
        }
    }

    /// A record without data, opened by the kernel.
    fn on_control(&mut self, outer: &mut Outer<H>, id: ConnId, content: u8, plain: &[u8]) -> ktls::Answer {
        let nothing = ktls::Answer::default();
        let Some((link, _)) = outer.get(id) else { return nothing };
        let Some(handed) = link.handed.as_deref_mut().filter(|_| link.stage == Stage::Open) else {
            return nothing;
        };
        match handed.on_record(content, plain) {
            Ok(response) => {
                if response.end {
                    self.end(outer, id);
                }
                let tls::Response { say, sealing, opening, .. } = response;
                ktls::Answer { say, sealing, opening }
            }
            Err(fault) => {
                self.counters.faults += 1;
                self.fail(outer, id, fault.into());
                ktls::Answer { say: ktls::alert(fault), ..nothing }
            }
        }
    }

    /// What the kernel has opened is handed to the handler as it lies, and answered where it lies.
    #[inline]
    fn on_plain(&mut self, outer: &mut Outer<H>, id: ConnId, memory: &mut [u8], range: Range<usize>) {
        let Some((link, _)) = outer.get(id) else { return };
        let (Some(handed), Inner::Known(inner_id)) = (link.handed.as_deref_mut(), &link.inner) else {
            return;
        };
        handed.on_data();
        debug_assert_eq!(range.start, HEADROOM_BYTES, "as every engine has it");
        self.inner.deliver(&mut self.handler, *inner_id, 0, memory, range.len());
        self.leave(outer, Memory { bytes: memory, is_engines: true });
    }

    /// Completes the record that was kept, if any; then what lies whole in `memory` is opened where it is.
    #[inline]
    fn on_traffic(&mut self, outer: &mut Outer<H>, id: ConnId, memory: &mut [u8], mut range: Range<usize>) {
        let Some((link, _)) = outer.get(id) else { return };
        let Some(session) = link.session.as_deref_mut() else {
            return self.on_plain(outer, id, memory, range);
        };
        let (used_bytes, is_whole) = session.complete(&memory[range.clone()]);
        range.start += used_bytes;
        if is_whole {
            let mut kept = session.take_kept();
            let kept_range = HEADROOM_BYTES..kept.len();
            self.on_records(outer, id, &mut kept, kept_range);
            self.ask_quiet(outer, id);
        }
        if !range.is_empty() {
            self.on_records(outer, id, memory, range);
        }
    }

    /// Opens the records in `memory`, hands their data to the handler, and keeps what is left.
    #[inline]
    fn on_records(&mut self, outer: &mut Outer<H>, id: ConnId, memory: &mut [u8], range: Range<usize>) {
        let Some((link, mut io)) = outer.get(id) else { return };
        if link.stage != Stage::Open {
            return;
        }
        let (Some(session), Inner::Known(inner_id)) = (link.session.as_deref_mut(), &link.inner) else {
            return;
        };
        let (inner_id, end) = (*inner_id, range.end);
        let opened = session.open_all(memory, range, &mut self.scratch);
        session.keep(&memory[if opened.end.is_none() { opened.rest } else { end }..end]);
        if !self.scratch.is_empty() {
            io.write(|out| out.append(&mut self.scratch));
        }
        if !opened.plain.is_empty() {
            let headroom = opened.plain.start - HEADROOM_BYTES;
            let memory = &mut memory[headroom..opened.plain.end];
            self.inner.deliver(&mut self.handler, inner_id, 0, memory, opened.plain.len());
            self.leave(outer, Memory::ours(memory));
        }
        match opened.end {
            None => {}
            Some(Ok(())) => self.end(outer, id),
            Some(Err(fault)) => {
                self.counters.faults += 1;
                if let Some(session) = outer.get(id).and_then(|(link, _)| link.session.as_deref_mut()) {
                    session.tell(fault, &mut self.scratch);
                }
                self.send_scratch(outer, id);
                self.fail(outer, id, fault.into());
            }
        }
    }

    /// The peer will send nothing more.
    fn end(&mut self, outer: &mut Outer<H>, id: ConnId) {
        let Some((link, _)) = outer.get(id) else { return };
        link.stage = Stage::Ended;
        if let Inner::Known(inner_id) = link.inner {
            self.handler.on_end(&mut self.inner, inner_id);
            self.leave(outer, Memory::NONE);
        }
    }

    /// Sends what is queued, the alert last, and FIN; then waits for the peer's.
    fn fail(&mut self, outer: &mut Outer<H>, id: ConnId, why: tls::Error) {
        let until_ns = outer.now_ns() + self.close_ns;
        let Some((link, mut io)) = outer.get(id) else { return };
        (link.stage, link.until_ns) = (Stage::Failed, until_ns);
        link.why.get_or_insert(Box::new(why));
        io.shut_down();
        io.wake_by(until_ns);
    }
}

impl<H: Handler> Handler for Tls<H> {
    type Conn = Link<H::Conn>;

    fn on_accept(&mut self) -> Self::Conn {
        Link::new(Inner::Accepted(self.handler.on_accept()))
    }

    fn on_address(&mut self, _outer: &mut Outer<H>, _id: ConnId, address: IpAddr) {
        // The handler's connections get to know it when it is opened, which is next.
        self.address = Some(address);
    }

    fn on_open(&mut self, outer: &mut Outer<H>, id: ConnId) {
        let now_ns = outer.now_ns();
        self.enter(outer, now_ns);
        let session = self.begin_session();
        let until_ns = now_ns.saturating_add(self.handshake_ns);
        let Some((link, mut io)) = outer.get(id) else { return };
        (link.stage, link.opened_ns, link.until_ns) = (Stage::Handshake, now_ns, until_ns);
        match std::mem::replace(&mut link.inner, Inner::Gone) {
            Inner::Accepted(conn) => {
                let slot = self.inner.free.pop().unwrap_or(self.inner.slots.len() as u32);
                link.inner = Inner::Known(self.inner.insert(slot, conn));
                self.inner.slots[slot as usize].line.outbox.count_below(0);
                self.name(slot, id);
            }
            inner => link.inner = inner,
        }
        io.wake_by(until_ns);
        if let (Inner::Known(inner_id), Some(address)) = (&link.inner, self.address.take()) {
            let inner_id = *inner_id;
            self.inner.introduce(&mut self.handler, inner_id, Some(address));
            self.leave(outer, Memory::NONE);
        }
        let Some((link, _)) = outer.get(id) else { return };
        match session {
            Ok(mut session) => {
                if self.to_kernel {
                    session.keep_secrets();
                    link.quiets = QUIETS;
                }
                link.session = Some(Box::new(session));
                self.send_scratch(outer, id);
            }
            Err(error) => {
                self.counters.failures += 1;
                self.fail(outer, id, error);
            }
        }
    }

    #[inline]
    fn on_bytes(&mut self, outer: &mut Outer<H>, id: ConnId, received: Received<'_>) {
        // Received, and not yet decrypted: that is part of what a message takes.
        let now_ns = outer.received_ns();
        self.enter(outer, now_ns);
        self.inner.common.arrived_ns = outer.common.arrived_ns;
        let Received { memory, range } = received;
        let Some((link, _)) = outer.get(id) else { return };
        match link.stage {
            Stage::Open => self.on_traffic(outer, id, memory, range),
            Stage::Handshake => self.on_handshake_bytes(outer, id, &memory[range]),
            Stage::Opening | Stage::Ended | Stage::Failed => {}
        }
    }

    fn on_end(&mut self, outer: &mut Outer<H>, id: ConnId) {
        self.enter(outer, outer.now_ns());
        let Some((link, mut io)) = outer.get(id) else { return };
        match link.stage {
            Stage::Opening | Stage::Handshake => {
                self.counters.failures += 1;
                link.why.get_or_insert(Box::new(tls::Error::HungUp));
                link.stage = Stage::Failed;
                io.close();
            }
            Stage::Open => {
                self.counters.truncated += u64::from(link.intent == Intent::Keep);
                self.end(outer, id);
            }
            Stage::Ended => {}
            Stage::Failed => io.close(),
        }
    }

    fn on_timer(&mut self, outer: &mut Outer<H>, id: ConnId) {
        let now_ns = outer.now_ns();
        let Some((link, mut io)) = outer.get(id) else { return };
        if !matches!(link.stage, Stage::Handshake | Stage::Failed) {
            return;
        }
        if now_ns < link.until_ns {
            return io.wake_by(link.until_ns);
        }
        if link.stage == Stage::Handshake {
            self.counters.timeouts += 1;
            link.why.get_or_insert(Box::new(tls::Error::Late));
        }
        io.abort();
    }

    fn on_writable(&mut self, outer: &mut Outer<H>, id: ConnId) {
        self.enter(outer, outer.now_ns());
        let Some((link, _)) = outer.get(id) else { return };
        if let (Stage::Open | Stage::Ended, Inner::Known(inner_id)) = (link.stage, &link.inner) {
            let inner_id = *inner_id;
            self.count_waiting(outer);
            self.handler.on_writable(&mut self.inner, inner_id);
            self.leave(outer, Memory::NONE);
        }
    }

    fn on_kernel_tls(&mut self, outer: &mut Outer<H>, id: ConnId, event: ktls::Event<'_>) -> ktls::Answer {
        self.enter(outer, outer.now_ns());
        match event {
            ktls::Event::Quiet => self.on_quiet(outer, id),
            ktls::Event::Handed(result) => {
                self.on_handed(outer, id, result);
                ktls::Answer::default()
            }
            ktls::Event::Control(content, plain) => self.on_control(outer, id, content, plain),
            ktls::Event::Fault(fault) => {
                self.counters.faults += 1;
                if let Some((link, _)) = outer.get(id) {
                    link.why.get_or_insert(Box::new(fault.into()));
                }
                ktls::Answer { say: ktls::alert(fault), ..ktls::Answer::default() }
            }
        }
    }

    fn on_closed(&mut self, outer: &mut Outer<H>, link: Self::Conn, why: Closed) {
        self.enter(outer, outer.now_ns());
        let why = match (link.why, why, link.stage) {
            (Some(error), ..) => Closed::Tls(error),
            // The handler gave it up while it waited for the handshake.
            (None, Closed::ByUs, Stage::Handshake) => Closed::Tls(Box::new(tls::Error::Late)),
            (None, why, _) => why,
        };
        let conn = match link.inner {
            Inner::Accepted(conn) => {
                self.inner.departed = None;
                Some(conn)
            }
            Inner::Known(id) => {
                let line = &mut self.inner.slots[id.index()].line;
                while line.outbox.pop(&mut self.inner.common.pool).is_some() {}
                line.outbox.count_below(0);
                let conn = self.inner.remove(id.slot);
                self.inner.free.push(id.slot);
                conn
            }
            Inner::Gone => None,
        };
        if let Some(conn) = conn {
            self.handler.on_closed(&mut self.inner, conn, why);
        }
        self.leave(outer, Memory::NONE);
    }

    fn on_wake(&mut self, outer: &mut Outer<H>) {
        self.enter(outer, outer.now_ns());
        self.count(outer);
        self.handler.on_wake(&mut self.inner);
        self.leave(outer, Memory::NONE);
    }

    fn on_turn(&mut self, outer: &mut Outer<H>) -> Option<u64> {
        self.enter(outer, outer.now_ns());
        self.count(outer);
        self.count_waiting(outer);
        self.run_timers(outer);
        let turn_by_ns = self.handler.on_turn(&mut self.inner);
        self.leave(outer, Memory::NONE);
        turn_by_ns.into_iter().chain(self.inner.common.timers.next_ns()).min()
    }
}
