//! TLS between any engine and any handler: a [`Layer`] that opens records on their way up, and seals them on their way down.
//!
//! Bytes that arrive are decrypted where they lie, and the handler may compose its answer there. Right after each of its calls,
//! what was queued is encrypted into the outbox of the engine's connection. So neither engines nor handlers know of TLS, and
//! without it nothing is different: what a thread runs is chosen by type.
//!
//! Invariants: nothing is sent unencrypted; a connection is shown to the handler from its beginning (so that it counts), but
//! opened only once it is secured; a peer's fault ends its own connection and no other; each state that waits for the peer
//! has a time limit here, or the handler's; a connection that is being failed is read until the peer is done, so that the
//! alert is not lost to a reset. Output that waits is the engine's, encrypted, and bounded by it.
//!
//! Handshakes cost a thousand times what a message does. So a connection that the handler does not want is not given one (see
//! [`Handler::on_securing`]), and of the others a thread goes on with so many in a turn ([`Tls::pacing_handshakes`]); the rest have
//! theirs in the turns that follow, in the order they came, and between them the connections that are open are served. Not
//! bounded is how many wait: they are connections like others, with a time limit, and whoever bounded them would have a few silent
//! peers keep everybody out.
//!
//! Where it was asked for ([`Tls::handing_to_kernel`]), a connection is handed to the kernel's TLS once it is secured and the
//! engine has a moment of quiet: see [`ktls`]. From then on its bytes are plain here as well, and pass through: a reply in
//! place is one to the engine too. Until then, and where the kernel refuses, its records are opened and sealed here.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;

use super::layer::{Layer, Memory, Passage, Queued, Upper, Whose};
use super::{Closed, ConnId, Connections, Counters, Handler, Io, Received, counters, ktls};
use crate::limits::{HEADROOM_BYTES, TLS_RECORDS_PER_KEY};
use crate::tls::{self, Fault, Handed, Session};

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

counters! {
    /// What became of TLS handshakes and connections.
    pub struct TlsCounters {
        /// Handshakes that succeeded.
        handshakes,
        /// Of those, by a ticket of an earlier connection.
        resumed,
        /// Connections whose first bytes were no TLS.
        not_tls,
        /// Handshakes that failed otherwise.
        failures,
        /// Handshakes that took too long.
        timeouts,
        /// Times that a handshake had to wait for a later turn, as others were gone on with in this one.
        put_off,
        /// Secured connections that were ended for what the peer's records held.
        faults,
        /// Secured connections that were closed because their keys had sealed as many records as they may.
        used_up,
        /// Secured connections whose peer hung up without saying so first.
        truncated,
        /// Secured connections that were handed to the kernel.
        kernel,
        /// Those that it refused: it has no such cipher, above all.
        kernel_refused,
        /// Those that were never quiet enough to be handed over, or changed their keys before.
        kernel_missed,
    }
}

/// A [`Handler`] that secures the connections of another.
pub struct Tls<H: Handler> {
    layer: Layer<H>,
    records: Records,
    ends: Ends,
    handshake_ns: u64,
    pace: Pace,
    records_per_key: u64,
    /// See [`Tls::handing_to_kernel`].
    to_kernel: bool,
}

/// One of the engine's connections.
pub struct Link<C> {
    session: Option<Box<Session>>,
    /// Instead of it, where the kernel opens and seals.
    handed: Option<Box<Handed>>,
    /// How many moments of quiet may still be asked for, to hand it over.
    quiets: u8,
    stage: Stage,
    /// It is among [`Pace::waiting`].
    is_put_off: bool,
    /// Meanwhile the peer has said that it will send nothing more.
    has_ended: bool,
    upper: Upper<C>,
    opened_ns: u64,
    /// In a stage that waits for the peer: for how long.
    until_ns: u64,
    why: Option<Box<tls::Error>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Below it is being opened, or the handler did not want it.
    Opening,
    Handshake,
    Open,
    /// The peer has said, or shown, that it will send nothing more.
    Ended,
    /// The peer was told of its fault; what it still sends is thrown away.
    Failed,
}

/// Handshakes that a turn goes on with.
struct Pace {
    per_turn: u32,
    /// In this turn.
    left: u32,
    /// Those that have to wait for a turn, each once.
    waiting: VecDeque<ConnId>,
}

/// How what is queued goes down: sealed, here or by the kernel.
struct Records {
    close_ns: u64,
    counters: TlsCounters,
    /// What sessions say by themselves, before it is queued.
    scratch: Vec<u8>,
}

impl<C> Link<C> {
    fn new(upper: Upper<C>) -> Self {
        Self {
            session: None,
            handed: None,
            quiets: 0,
            stage: Stage::Opening,
            is_put_off: false,
            has_ended: false,
            upper,
            opened_ns: 0,
            until_ns: u64::MAX,
            why: None,
        }
    }

    /// Sends what is queued, the alert last, and FIN; then waits for the peer's, for `close_ns`.
    fn fail(&mut self, io: &mut Io<'_>, why: tls::Error, close_ns: u64) {
        (self.stage, self.until_ns) = (Stage::Failed, io.common.now_ns + close_ns);
        self.why.get_or_insert(Box::new(why));
        io.shut_down();
        io.wake_by(self.until_ns);
    }
}

impl<C> Passage<C> for Records {
    type Link = Link<C>;

    fn link(&mut self, upper: Upper<C>) -> Link<C> {
        Link::new(upper)
    }

    #[inline]
    fn upper(link: &mut Link<C>) -> &mut Upper<C> {
        &mut link.upper
    }

    #[inline]
    fn pass(&mut self, link: &mut Link<C>, io: &mut Io<'_>, queued: Queued<'_>) {
        match link.stage {
            Stage::Open | Stage::Ended => {}
            // It will be.
            Stage::Opening | Stage::Handshake => return,
            Stage::Failed => return queued.take(|_| {}),
        }
        let is_used_up = match (&mut link.session, &mut link.handed) {
            (Some(session), _) => {
                queued.take(|bytes| io.write(|out| session.seal(bytes, out)));
                session.is_used_up()
            }
            (None, Some(handed)) => {
                queued.pass_on(io, |bytes| handed.on_passed_on(bytes.len()));
                handed.is_used_up()
            }
            (None, None) => unreachable!("an open connection is secured"),
        };
        if is_used_up {
            self.end_used_up(link, io);
        }
    }

    /// The peer is told so; where the kernel has the keys, by the engine.
    fn end(&mut self, link: &mut Link<C>, io: &mut Io<'_>) {
        if let Some(session) = link.session.as_deref_mut() {
            session.close(&mut self.scratch);
            self.send_scratch(io);
        }
    }

    fn count(&self, counters: &mut Counters) {
        counters.tls = self.counters;
    }
}

impl Records {
    /// Sends what a session had to say.
    fn send_scratch(&mut self, io: &mut Io<'_>) {
        if !self.scratch.is_empty() {
            io.write(|out| out.append(&mut self.scratch));
        }
    }

    /// Its keys have sealed all that they may, and that goes out still.
    #[cold]
    fn end_used_up<C>(&mut self, link: &mut Link<C>, io: &mut Io<'_>) {
        self.counters.used_up += 1;
        self.end(link, io);
        link.fail(io, Fault::KeysUsedUp.into(), self.close_ns);
    }
}

type Outer<H> = Connections<Link<<H as Handler>::Conn>>;

impl<H: Handler> Tls<H> {
    /// `handler`'s connections, secured. A handshake may take `handshake_ns`, a peer that is being turned away `close_ns` to
    /// go; both in nanoseconds.
    pub fn new(handler: H, ends: Ends, handshake_ns: u64, close_ns: u64) -> Self {
        Self {
            layer: Layer::new(handler),
            records: Records { close_ns, counters: TlsCounters::default(), scratch: Vec::new() },
            ends,
            handshake_ns,
            pace: Pace { per_turn: u32::MAX, left: u32::MAX, waiting: VecDeque::new() },
            records_per_key: TLS_RECORDS_PER_KEY,
            to_kernel: false,
        }
    }

    /// Has connections be handed to the kernel's TLS, if `to_kernel`. The engine has to have [`Config::kernel_tls`](super::Config)
    /// set.
    #[must_use]
    pub fn handing_to_kernel(mut self, to_kernel: bool) -> Self {
        self.to_kernel = to_kernel;
        self
    }

    /// Makes `per_turn` steps of handshakes in a turn, at least 1: a step is what follows of bytes that came, public-key
    /// cryptography as a rule. Otherwise, any number.
    #[must_use]
    pub fn pacing_handshakes(mut self, per_turn: u32) -> Self {
        assert!(per_turn > 0, "no handshake would ever end");
        (self.pace.per_turn, self.pace.left) = (per_turn, per_turn);
        self
    }

    /// Has AES-GCM keys seal so many records, instead of [`TLS_RECORDS_PER_KEY`]: not everybody has the time.
    #[must_use]
    pub fn bounding_keys(mut self, records_per_key: u64) -> Self {
        self.records_per_key = records_per_key;
        self
    }

    /// Gives the handler back.
    pub fn into_inner(self) -> H {
        self.layer.handler
    }

    /// Calls the handler about a connection.
    fn tell(
        &mut self,
        outer: &mut Outer<H>,
        id: ConnId,
        call: impl FnOnce(&mut H, &mut Connections<H::Conn>, ConnId),
    ) {
        self.layer.tell(outer, &mut self.records, id, call);
    }

    /// Sends what a session had to say. It waits as what the handler says does.
    fn send_scratch(&mut self, outer: &mut Outer<H>, id: ConnId) {
        if self.records.scratch.is_empty() {
            return;
        }
        let Some((link, mut io)) = outer.get(id) else { return self.records.scratch.clear() };
        self.records.send_scratch(&mut io);
        if let Some(inner_id) = link.upper.id() {
            self.layer.pass_on(outer, &mut self.records, inner_id.slot, Memory::NONE);
        }
    }

    fn fail(&mut self, outer: &mut Outer<H>, id: ConnId, why: tls::Error) {
        if let Some((link, mut io)) = outer.get(id) {
            link.fail(&mut io, why, self.records.close_ns);
        }
    }

    // ---- the handshake ----

    fn begin_session(&mut self) -> Result<Session, tls::Error> {
        let mut session = match &self.ends {
            Ends::Server(server) => Session::server(server)?,
            Ends::Client(client) => Session::client(client, &mut self.records.scratch)?,
        };
        session.bound_keys(self.records_per_key);
        if self.to_kernel {
            session.keep_secrets();
        }
        Ok(session)
    }

    fn begin_handshake(&mut self, outer: &mut Outer<H>, id: ConnId) {
        let session = self.begin_session();
        let Some((link, mut io)) = outer.get(id) else { return };
        let now_ns = io.common.now_ns;
        let until_ns = now_ns.saturating_add(self.handshake_ns);
        (link.stage, link.opened_ns, link.until_ns) = (Stage::Handshake, now_ns, until_ns);
        io.wake_by(until_ns);
        match session {
            Ok(session) => {
                link.quiets = if self.to_kernel { QUIETS } else { 0 };
                link.session = Some(Box::new(session));
                self.send_scratch(outer, id);
            }
            Err(error) => {
                self.records.counters.failures += 1;
                self.fail(outer, id, error);
            }
        }
    }

    fn on_handshake_bytes(&mut self, outer: &mut Outer<H>, id: ConnId, bytes: &[u8]) {
        let Some((link, mut io)) = outer.get(id) else { return };
        let Some(session) = link.session.as_deref_mut() else { return };
        session.keep(bytes);
        if link.is_put_off || session.awaits_more() {
            return;
        }
        if self.pace.left > 0 && self.pace.waiting.is_empty() {
            return self.go_on(outer, id);
        }
        // What it sends meanwhile stays with the kernel.
        io.put_off(true);
        link.is_put_off = true;
        self.pace.waiting.push_back(id);
        self.records.counters.put_off += 1;
    }

    /// Goes on with the handshakes that had to wait, as many as may be in this turn still.
    fn go_on_with_others(&mut self, outer: &mut Outer<H>) {
        while self.pace.left > 0 {
            let Some(id) = self.pace.waiting.pop_front() else { break };
            let Some((link, mut io)) = outer.get(id) else { continue };
            link.is_put_off = false;
            io.put_off(false);
            let has_ended = link.has_ended;
            if link.stage == Stage::Handshake && link.upper.is_kept() {
                self.go_on(outer, id);
            }
            if has_ended {
                self.on_end(outer, id);
            }
        }
        self.pace.left = self.pace.per_turn;
    }

    /// Does what follows of what has come of a handshake.
    fn go_on(&mut self, outer: &mut Outer<H>, id: ConnId) {
        self.pace.left -= 1;
        let Some((link, _)) = outer.get(id) else { return };
        let Some(session) = link.session.as_deref_mut() else { return };
        let result = session.on_handshake(&[], &mut self.records.scratch);
        self.send_scratch(outer, id);
        match result {
            Ok(None) => {}
            Ok(Some(secured)) => self.on_secured(outer, id, &secured),
            Err(error) => {
                match error {
                    tls::Error::NotTls => self.records.counters.not_tls += 1,
                    _ => self.records.counters.failures += 1,
                }
                self.fail(outer, id, error);
            }
        }
    }

    fn on_secured(&mut self, outer: &mut Outer<H>, id: ConnId, secured: &tls::Secured) {
        self.records.counters.handshakes += 1;
        self.records.counters.resumed += u64::from(secured.resumed);
        let now_ns = outer.received_ns();
        let Some((link, _)) = outer.get(id) else { return };
        let took_ns = now_ns.saturating_sub(link.opened_ns);
        link.stage = Stage::Open;
        self.tell(outer, id, |handler, inner, inner_id| {
            // What was queued before goes out now.
            inner.mark_dirty(inner_id.slot);
            handler.on_secured(inner, inner_id, secured, took_ns);
            handler.on_open(inner, inner_id);
        });
        let Some((link, _)) = outer.get(id) else { return };
        let mut kept = link.session.as_deref_mut().map(Session::take_kept).unwrap_or_default();
        let range = HEADROOM_BYTES..kept.len();
        if !range.is_empty() {
            self.on_records(outer, id, &mut kept, range);
        }
        self.ask_quiet(outer, id);
    }

    // ---- handing it to the kernel ----

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
            self.records.counters.kernel_missed += 1;
        }
        nothing
    }

    fn on_handed(&mut self, outer: &mut Outer<H>, id: ConnId, result: std::io::Result<()>) {
        let Some((link, _)) = outer.get(id) else { return };
        link.quiets = 0;
        match (result, link.session.take()) {
            (Ok(()), Some(session)) => {
                link.handed = Some(Box::new(session.into_handed()));
                self.records.counters.kernel += 1;
            }
            (_, mut session) => {
                session.iter_mut().for_each(|session| session.forget_secrets());
                link.session = session;
                self.records.counters.kernel_refused += 1;
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
                self.records.counters.faults += 1;
                self.fail(outer, id, fault.into());
                ktls::Answer { say: ktls::alert(fault), ..nothing }
            }
        }
    }

    /// What the kernel has opened is handed to the handler as it lies, and answered where it lies.
    #[inline]
    fn on_plain(&mut self, outer: &mut Outer<H>, id: ConnId, memory: &mut [u8], range: Range<usize>) {
        let Some((link, _)) = outer.get(id) else { return };
        let (Some(handed), Some(inner_id)) = (link.handed.as_deref_mut(), link.upper.id()) else { return };
        if let Err(fault) = handed.on_data() {
            self.records.counters.faults += 1;
            return self.fail(outer, id, fault.into());
        }
        let received = Received { memory, range };
        self.layer.deliver(outer, &mut self.records, inner_id, received, Whose::Belows);
    }

    // ---- records ----

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
        let Some((link, _)) = outer.get(id) else { return };
        if link.stage != Stage::Open {
            return;
        }
        let (Some(session), Some(inner_id)) = (link.session.as_deref_mut(), link.upper.id()) else { return };
        let end = range.end;
        let opened = session.open_all(memory, range, &mut self.records.scratch);
        session.keep(&memory[if opened.end.is_none() { opened.rest } else { end }..end]);
        self.send_scratch(outer, id);
        if !opened.plain.is_empty() {
            let headroom = opened.plain.start - HEADROOM_BYTES;
            let received = Received {
                memory: &mut memory[headroom..opened.plain.end],
                range: HEADROOM_BYTES..HEADROOM_BYTES + opened.plain.len(),
            };
            self.layer.deliver(outer, &mut self.records, inner_id, received, Whose::Ours);
        }
        match opened.end {
            None => {}
            Some(Ok(())) => self.end(outer, id),
            Some(Err(fault)) => {
                self.records.counters.faults += 1;
                if let Some(session) = outer.get(id).and_then(|(link, _)| link.session.as_deref_mut()) {
                    session.tell(fault, &mut self.records.scratch);
                }
                self.send_scratch(outer, id);
                self.fail(outer, id, fault.into());
            }
        }
    }

    /// The peer will send nothing more.
    fn end(&mut self, outer: &mut Outer<H>, id: ConnId) {
        if let Some((link, _)) = outer.get(id).filter(|(link, _)| link.stage == Stage::Open) {
            link.stage = Stage::Ended;
            self.tell(outer, id, |handler, inner, inner_id| handler.on_end(inner, inner_id));
        }
    }
}

impl<H: Handler> Handler for Tls<H> {
    type Conn = Link<H::Conn>;

    fn on_accept(&mut self) -> Self::Conn {
        Link::new(Upper::accepted(self.layer.handler.on_accept()))
    }

    fn on_address(&mut self, outer: &mut Outer<H>, id: ConnId, address: IpAddr) {
        self.layer.enter(outer);
        self.layer.introduce(outer, &mut self.records, id, address);
    }

    fn on_open(&mut self, outer: &mut Outer<H>, id: ConnId) {
        self.layer.enter(outer);
        let is_wanted = |outer: &mut Outer<H>| outer.get(id).is_some_and(|(link, _)| link.upper.is_kept());
        if is_wanted(outer) {
            self.tell(outer, id, |handler, inner, inner_id| handler.on_securing(inner, inner_id));
        }
        if is_wanted(outer) {
            self.begin_handshake(outer, id);
        }
    }

    #[inline]
    fn on_bytes(&mut self, outer: &mut Outer<H>, id: ConnId, received: Received<'_>) {
        // Received, and not yet decrypted: that is part of what a message takes.
        let now_ns = outer.received_ns();
        self.layer.enter_at(outer, now_ns);
        let Received { memory, range } = received;
        let Some((link, _)) = outer.get(id) else { return };
        match link.stage {
            Stage::Open => self.on_traffic(outer, id, memory, range),
            Stage::Handshake => self.on_handshake_bytes(outer, id, &memory[range]),
            Stage::Opening | Stage::Ended | Stage::Failed => {}
        }
    }

    fn on_end(&mut self, outer: &mut Outer<H>, id: ConnId) {
        self.layer.enter(outer);
        let Some((link, mut io)) = outer.get(id) else { return };
        match link.stage {
            // What it sent before is to be read before.
            Stage::Handshake if link.is_put_off => link.has_ended = true,
            Stage::Handshake if link.upper.is_kept() => {
                self.records.counters.failures += 1;
                link.why.get_or_insert(Box::new(tls::Error::HungUp));
                link.stage = Stage::Failed;
                io.close();
            }
            Stage::Open => {
                self.records.counters.truncated += u64::from(link.upper.is_kept());
                self.end(outer, id);
            }
            Stage::Ended => {}
            Stage::Opening | Stage::Handshake | Stage::Failed => io.close(),
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
        if link.stage == Stage::Handshake && link.upper.is_kept() {
            self.records.counters.timeouts += 1;
            link.why.get_or_insert(Box::new(tls::Error::Late));
        }
        io.abort();
    }

    fn on_writable(&mut self, outer: &mut Outer<H>, id: ConnId) {
        self.layer.enter(outer);
        if outer.get(id).is_some_and(|(link, _)| matches!(link.stage, Stage::Open | Stage::Ended)) {
            self.layer.writable(outer, &mut self.records, id);
        }
    }

    fn on_kernel_tls(&mut self, outer: &mut Outer<H>, id: ConnId, event: ktls::Event<'_>) -> ktls::Answer {
        self.layer.enter(outer);
        match event {
            ktls::Event::Quiet => self.on_quiet(outer, id),
            ktls::Event::Handed(result) => {
                self.on_handed(outer, id, result);
                ktls::Answer::default()
            }
            ktls::Event::Control(content, plain) => self.on_control(outer, id, content, plain),
            ktls::Event::Fault(fault) => {
                self.records.counters.faults += 1;
                if let Some((link, _)) = outer.get(id) {
                    link.why.get_or_insert(Box::new(fault.into()));
                }
                ktls::Answer { say: ktls::alert(fault), ..ktls::Answer::default() }
            }
        }
    }

    fn on_closed(&mut self, outer: &mut Outer<H>, link: Self::Conn, why: Closed) {
        self.layer.enter(outer);
        let why = match (link.why, why, link.stage) {
            (Some(error), ..) => Closed::Tls(error),
            // The handler gave it up meanwhile: why, it knows.
            (None, Closed::ByUs, Stage::Handshake) => Closed::Tls(Box::new(tls::Error::GivenUp)),
            (None, why, _) => why,
        };
        self.layer.close(outer, &mut self.records, link.upper, why);
    }

    fn on_wake(&mut self, outer: &mut Outer<H>) {
        self.layer.enter(outer);
        self.layer.wake(outer, &mut self.records);
    }

    fn on_turn(&mut self, outer: &mut Outer<H>) -> Option<u64> {
        self.layer.enter(outer);
        self.go_on_with_others(outer);
        let turn_by_ns = self.layer.turn(outer, &mut self.records);
        if self.pace.waiting.is_empty() { turn_by_ns } else { Some(outer.now_ns()) }
    }
}
