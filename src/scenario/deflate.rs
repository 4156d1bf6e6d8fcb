//! The echo on a connection that agreed on permessage-deflate, of either end: inflate, judge, compress, queue.
//!
//! It is a path of its own, because answers are not made of the memory that requests came in. What a message costs is one
//! inflated piece at a time; the echo's fragments are its own, cut where the thread turns to another connection.
//!
//! Invariants: no more is inflated while more than the bound waits to be sent (a request of a kilobyte may make an answer
//! of a megabyte), nor in a turn than `turns` allows; and then the engine is told to read no further. What it had received by then is
//! kept, counted by the engine as what waits to be sent is, and bounded in all. What compression itself keeps is bounded in
//! all as well. Text is judged before any of it is passed on. Every frame is queued whole, so a Close or ping may follow at any
//! time.

mod account;
mod turns;

use super::echo::Answered;
pub use account::{Account, Entry};
pub use turns::WORK_MAX;
use turns::{CALL_WORK, MESSAGE_WORK, PIECE_BYTES, Turns};

use crate::engine::{ConnId, Io};
use crate::ws::connection::{Connection, Event};
pub use crate::ws::deflate::{Compression, DeflateSettings};
use crate::ws::deflate::{Compressor, Decompressor, DeflateSpace, InflateSpace};
use crate::ws::deflating::{Deflating, Payload};
pub use crate::ws::extensions::{DeflateParameters, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::ws::frame::{ControlFrame, Fault, Role};
use crate::ws::mask::Mask;

/// Servers don't mask (RFC 6455, 5.1).
const NO_KEY: Mask = Mask::from_bytes([0; 4]);

/// How often the answers that a connection waits for are looked at, where no slow peer keeps them.
const LOOK_NS: u64 = 1_000_000;

/// What the connections of a thread share.
pub struct Workspace {
    inflate: InflateSpace,
    deflate: DeflateSpace,
    /// Bytes that may wait to be sent before no more is inflated.
    queued_bytes_max: usize,
    /// What compression keeps.
    kept: Account,
    /// What was received and not read yet.
    unread: Account,
    turns: Turns,
    inflated_bytes: u64,
    keys: Keys,
}

/// Where masking keys come from.
#[derive(Debug)]
struct Keys(Option<fastrand::Rng>);

impl Keys {
    /// The key of the next frame, where our end masks.
    fn draw(&mut self) -> Option<Mask> {
        self.0.as_mut().map(|random| Mask::from_bytes(random.u32(..).to_ne_bytes()))
    }
}

impl Workspace {
    /// For a server's connections, with this bound on what waits to be sent.
    pub fn new(queued_bytes_max: usize) -> Self {
        Self {
            inflate: InflateSpace::default(),
            deflate: DeflateSpace::default(),
            queued_bytes_max,
            kept: Account::default(),
            unread: Account::default(),
            turns: Turns::default(),
            inflated_bytes: 0,
            keys: Keys(None),
        }
    }

    /// The same for a client's, whose frames are masked with keys drawn from `random`.
    pub fn masking(self, random: fastrand::Rng) -> Self {
        Self { keys: Keys(Some(random)), ..self }
    }

    /// The same, and what compression keeps, and what is received before it can be read, are put to these accounts.
    pub fn accounting(self, kept: Account, unread: Account) -> Self {
        Self { kept, unread, ..self }
    }

    /// Puts what a connection with these parameters keeps from message to message to its account; `None`: there is no room. A
    /// quarter of all is left to messages that are under way.
    pub fn reserve(&self, parameters: &DeflateParameters) -> Option<Entry> {
        let role = self.role();
        let kept_bytes =
            Compressor::takeover_bytes(parameters, role) + Decompressor::takeover_bytes(parameters, role);
        let mut entry = self.kept.entry();
        entry.set_within(kept_bytes, self.kept.bytes_max() / 4 * 3).then_some(entry)
    }

    /// The sockets have been looked at: there may be done some more. Then serve whoever is next, until nobody is.
    pub fn begin_turn(&mut self) {
        self.turns.begin();
    }

    /// Who is to be served next, with [`Deflated::take_turn`], if anybody still is in this turn.
    pub fn next_in_line(&mut self) -> Option<ConnId> {
        self.turns.next()
    }

    /// There is more to do: the thread may look at its sockets, and must not sleep.
    pub fn is_anybody_in_line(&self) -> bool {
        self.turns.is_anybody_left()
    }

    /// Bytes that all messages came to so far.
    pub fn inflated_bytes(&self) -> u64 {
        self.inflated_bytes
    }

    fn role(&self) -> Role {
        if self.keys.0.is_some() { Role::Client } else { Role::Server }
    }

    /// The key of a control frame, which nobody masks with where our end is the server's.
    fn key(&mut self) -> Mask {
        self.keys.draw().unwrap_or(NO_KEY)
    }
}

/// What a connection that has something left to read waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stall {
    /// Its answers have to go first.
    Output,
    /// Others have their turn; it stands in line.
    Turn,
}

/// One connection.
pub struct Deflated {
    messages: Deflating,
    compressor: Compressor,
    /// The payload that is being read, and how much of it is left.
    current: Option<(Payload, usize)>,
    /// What came and was not looked at yet, from the payload's rest on.
    unread: Vec<u8>,
    stall: Option<Stall>,
    /// Of the message under way.
    text: bool,
    kept_entry: Entry,
    unread_entry: Entry,
}

impl Deflated {
    /// An open connection with these parameters, at the end that `space` is for, and what was [reserved](Workspace::reserve) for
    /// it.
    pub fn new(
        space: &Workspace,
        parameters: &DeflateParameters,
        reserved: Entry,
        compression: Compression,
        message_bytes_max: u64,
        now_ns: u64,
    ) -> Self {
        let role = space.role();
        Self {
            messages: Deflating::new(role, parameters, message_bytes_max, now_ns),
            compressor: Compressor::new(parameters, role, compression),
            current: None,
            unread: Vec::new(),
            stall: None,
            text: false,
            kept_entry: reserved,
            unread_entry: space.unread.entry(),
        }
    }

    /// For time and closing.
    pub fn connection(&mut self) -> &mut Connection {
        self.messages.connection()
    }

    /// Something came that waits to be answered.
    pub fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Answers what arrived.
    pub fn answer(
        &mut self,
        space: &mut Workspace,
        io: &mut Io<'_>,
        arrived: &mut [u8],
        now_ns: u64,
    ) -> Answered {
        self.connection().on_received(now_ns);
        if self.stall.is_none() && space.turns.may_begin() {
            let (answered, read_bytes) = self.converse(space, io, arrived, now_ns);
            return self.settle(space, io, &arrived[read_bytes..], answered, now_ns);
        }
        if self.stall.is_none() {
            self.stall = Some(Stall::Turn);
            space.turns.line_up(io.id(), false);
        }
        self.settle(space, io, arrived, Answered::default(), now_ns)
    }

    /// All that waited to be sent has been: answers what came before, as far as there is room for the answers.
    pub fn on_sent(&mut self, space: &mut Workspace, io: &mut Io<'_>, now_ns: u64) -> Answered {
        if self.stall != Some(Stall::Output) {
            return Answered::default();
        }
        if !space.turns.may_begin() {
            self.stall = Some(Stall::Turn);
            space.turns.line_up(io.id(), true);
            return Answered::default();
        }
        self.go_on(space, io, now_ns)
    }

    /// The time that was asked for has come: the same, if a quick peer was waited for. Of a slow one the engine tells.
    pub fn on_time(&mut self, space: &mut Workspace, io: &mut Io<'_>, now_ns: u64) -> Answered {
        if self.stall != Some(Stall::Output) || io.waits_since_ns().is_some() {
            return Answered::default();
        }
        if io.queued_bytes() > space.queued_bytes_max {
            io.wake_by(now_ns + LOOK_NS);
            return Answered::default();
        }
        self.on_sent(space, io, now_ns)
    }

    /// It is [next in line](Workspace::next_in_line): answers more of what came before.
    pub fn take_turn(&mut self, space: &mut Workspace, io: &mut Io<'_>, now_ns: u64) -> Answered {
        if self.stall != Some(Stall::Turn) {
            return Answered::default();
        }
        // It is we who let it wait.
        self.connection().on_alive(now_ns);
        self.go_on(space, io, now_ns)
    }

    fn go_on(&mut self, space: &mut Workspace, io: &mut Io<'_>, now_ns: u64) -> Answered {
        let mut unread = std::mem::take(&mut self.unread);
        self.stall = None;
        let (answered, read_bytes) = self.converse(space, io, &mut unread, now_ns);
        unread.drain(..read_bytes);
        self.unread = if unread.is_empty() { Vec::new() } else { unread };
        self.settle(space, io, &[], answered, now_ns)
    }

    /// Keeps what was not read, and counts what is kept.
    fn settle(
        &mut self,
        space: &mut Workspace,
        io: &mut Io<'_>,
        unread: &[u8],
        mut answered: Answered,
        now_ns: u64,
    ) -> Answered {
        let kept_bytes = self.compressor.kept_bytes() + self.messages.decompressor().kept_bytes();
        let has_room = self.kept_entry.set(kept_bytes) && {
            self.unread.extend_from_slice(unread);
            self.unread_entry.set(self.unread.len())
        };
        if !has_room && answered.fault.is_none() {
            answered.fault = Some(self.fail(Fault::NoMemory, space, now_ns));
            flush(space, io);
        }
        io.keep(self.unread.len());
        io.hold_reading(self.is_stalled());
        answered
    }

    /// Nothing more of what came will be looked at.
    fn fail(&mut self, fault: Fault, space: &mut Workspace, now_ns: u64) -> Fault {
        (self.current, self.unread, self.stall) = (None, Vec::new(), None);
        // Less is always right.
        let _ = self.unread_entry.set(0);
        queue(self.connection().fail(fault, now_ns, space.key()), space);
        fault
    }

    /// Says what happened, and how many bytes of `memory` were read.
    fn converse(
        &mut self,
        space: &mut Workspace,
        io: &mut Io<'_>,
        memory: &mut [u8],
        now_ns: u64,
    ) -> (Answered, usize) {
        let mut answered = Answered::default();
        let judged = self.read(space, memory, io.queued_bytes(), &mut answered);
        if self.connection().is_open() && judged.is_ok() {
            self.compressor.settle(self.text, &mut space.deflate, || space.keys.draw());
        } else {
            space.deflate.give_up();
        }
        let read_bytes = judged.unwrap_or_else(|fault| {
            answered.fault = Some(self.fail(fault, space, now_ns));
            memory.len()
        });
        flush(space, io);
        match self.stall {
            None => {}
            // Not before this turn's output was tried.
            Some(Stall::Output) => io.wake_by(now_ns + 1),
            Some(Stall::Turn) => space.turns.line_up(io.id(), true),
        }
        (answered, read_bytes)
    }

    /// Reads until there is nothing left, or too much of answers in `space` beside the `queued_bytes`, or enough was done; says how
    /// much.
    fn read(
        &mut self,
        space: &mut Workspace,
        memory: &mut [u8],
        queued_bytes: usize,
        answered: &mut Answered,
    ) -> Result<usize, Fault> {
        let (mut at, mut work) = (0, 0);
        if !self.connection().is_open() {
            // Closed while it waited.
            at = self.current.take().map_or(0, |(_, left_bytes)| left_bytes);
        }
        loop {
            while let Some((payload, left_bytes)) = self.current {
                self.stall = if queued_bytes + space.deflate.made_bytes() > space.queued_bytes_max {
                    Some(Stall::Output)
                } else if work >= CALL_WORK {
                    Some(Stall::Turn)
                } else {
                    None
                };
                if self.stall.is_some() {
                    return Ok(at);
                }
                let part = &memory[at..at + left_bytes.min(PIECE_BYTES)];
                let ends_with_part = payload.ends_message && part.len() == left_bytes;
                let of_part = Payload { ends_message: ends_with_part, ..payload };
                let piece = self.messages.read(of_part, part, &mut space.inflate)?;
                let ends = ends_with_part && piece.is_last;
                let kept_bytes = self.messages.decompressor().kept_bytes();
                let kept_after = self.compressor.kept_after(piece.bytes.len());
                if !ends
                    && kept_after > self.compressor.kept_bytes()
                    && !self.kept_entry.set(kept_bytes + kept_after)
                {
                    self.compressor.refrain();
                }
                let key = || space.keys.draw();
                self.compressor.write(piece.bytes, payload.text, ends, &mut space.deflate, key);
                at += piece.taken;
                let is_last = piece.is_last && part.len() == left_bytes;
                self.current = (!is_last).then_some((payload, left_bytes - piece.taken));
                answered.messages += u64::from(ends);
                space.inflated_bytes += piece.bytes.len() as u64;
                let done = piece.taken + piece.bytes.len() + if ends { MESSAGE_WORK } else { 0 };
                work += done;
                space.turns.spend(done);
            }
            let Some(event) = self.messages.next(&mut memory[at..])? else { return Ok(memory.len()) };
            let start = at;
            at += event.consumed();
            answered.frames.on_event(&event);
            match event {
                Event::Data(data) if self.connection().is_open() => {
                    at = start + data.chunk.header_bytes;
                    let payload = self.messages.unmask(&data, memory, at);
                    self.text = payload.text;
                    self.current = Some((payload, data.chunk.payload_bytes));
                }
                // We have closed, and will say nothing more.
                Event::Data(data) => answered.messages += u64::from(data.ends_message()),
                Event::Ping { .. } => queue(self.connection().pong(space.key()), space),
                Event::Pong { .. } => {}
                Event::Close { .. } => queue(self.connection().reply_to_close(space.key()), space),
            }
        }
    }
}

/// Hands what was made to the engine.
fn flush(space: &mut Workspace, io: &mut Io<'_>) {
    if !space.deflate.frames.is_empty() {
        io.write(|out| out.extend_from_slice(&space.deflate.frames));
        space.deflate.clear_frames();
    }
}

fn queue(frame: Option<ControlFrame>, space: &mut Workspace) {
    if let Some(frame) = frame {
        space.deflate.frames.extend_from_slice(frame.as_bytes());
    }
}
