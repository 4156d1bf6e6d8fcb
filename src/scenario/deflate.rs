//! The echo on a connection that agreed on permessage-deflate, of either end: inflate, judge, compress, queue.
//!
//! It is a path of its own, because answers are not made of the memory that requests came in. What a message costs is one
//! inflated piece at a time; the echo's fragments are its own, cut where the thread turns to another connection.
//!
//! Invariants: no more is inflated while more than the bound waits to be sent (a request of a kilobyte may make an answer
//! of a megabyte), and then the engine is told to read no further, so what has come and was not looked at stays small. Text
//! is judged before any of it is passed on. Every frame is queued whole, so a Close or ping may follow at any time.

use super::echo::Answered;
use crate::engine::Io;
use crate::ws::connection::{Connection, Event};
pub use crate::ws::deflate::{Compression, DeflateSettings};
use crate::ws::deflate::{Compressor, DeflateSpace, InflateSpace};
use crate::ws::deflating::{Deflating, Payload};
pub use crate::ws::extensions::{DeflateParameters, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::ws::frame::{ControlFrame, Fault, Role};
use crate::ws::mask::Mask;

/// Servers don't mask (RFC 6455, 5.1).
const NO_KEY: Mask = Mask::from_bytes([0; 4]);

/// What the connections of a thread share.
pub struct Workspace {
    inflate: InflateSpace,
    deflate: DeflateSpace,
    /// Bytes that may wait to be sent before no more is inflated.
    queued_bytes_max: usize,
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
        let (inflate, deflate) = (InflateSpace::default(), DeflateSpace::default());
        Self { inflate, deflate, queued_bytes_max, keys: Keys(None) }
    }

    /// The same for a client's, whose frames are masked with keys drawn from `random`.
    pub fn masking(self, random: fastrand::Rng) -> Self {
        Self { keys: Keys(Some(random)), ..self }
    }

    fn role(&self) -> Role {
        if self.keys.0.is_some() { Role::Client } else { Role::Server }
    }

    /// The key of a control frame, which nobody masks with where our end is the server's.
    fn key(&mut self) -> Mask {
        self.keys.draw().unwrap_or(NO_KEY)
    }
}

/// One connection.
pub struct Deflated {
    messages: Deflating,
    compressor: Compressor,
    /// The payload that is being read, and how much of it is left.
    current: Option<(Payload, usize)>,
    /// What came and was not looked at yet, from the payload's rest on.
    unread: Vec<u8>,
    /// Of the message under way.
    text: bool,
}

impl Deflated {
    /// An open connection with these parameters, at the end that `space` is for.
    pub fn new(
        space: &Workspace,
        parameters: &DeflateParameters,
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
            text: false,
        }
    }

    /// For time and closing.
    pub fn connection(&mut self) -> &mut Connection {
        self.messages.connection()
    }

    /// Something came that waits for output to be sent: go on with [`Deflated::go_on`].
    pub fn is_stalled(&self) -> bool {
        self.current.is_some() || !self.unread.is_empty()
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
        if self.is_stalled() {
            self.unread.extend_from_slice(arrived);
            return self.go_on(space, io, now_ns);
        }
        let (answered, read_bytes) = self.converse(space, io, arrived, now_ns);
        self.unread.extend_from_slice(&arrived[read_bytes..]);
        io.hold_reading(self.is_stalled());
        answered
    }

    /// Answers what came before, as far as there is room for the answers now.
    pub fn go_on(&mut self, space: &mut Workspace, io: &mut Io<'_>, now_ns: u64) -> Answered {
        let mut unread = std::mem::take(&mut self.unread);
        let (answered, read_bytes) = self.converse(space, io, &mut unread, now_ns);
        unread.drain(..read_bytes);
        self.unread = if unread.is_empty() { Vec::new() } else { unread };
        io.hold_reading(self.is_stalled());
        answered
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
            answered.fault = Some(fault);
            self.current = None;
            queue(self.connection().fail(fault, now_ns, space.key()), space);
            memory.len()
        });
        if !space.deflate.frames.is_empty() {
            io.write(|out| out.extend_from_slice(&space.deflate.frames));
            space.deflate.clear_frames();
        }
        (answered, read_bytes)
    }

    /// Reads until there is nothing left, or too much of answers in `space` beside the `queued_bytes`; says how much.
    fn read(
        &mut self,
        space: &mut Workspace,
        memory: &mut [u8],
        queued_bytes: usize,
        answered: &mut Answered,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        if !self.connection().is_open() {
            // Closed while it waited.
            at = self.current.take().map_or(0, |(_, left_bytes)| left_bytes);
        }
        loop {
            while let Some((payload, left_bytes)) = self.current {
                if queued_bytes + space.deflate.frames.len() > space.queued_bytes_max {
                    return Ok(at);
                }
                let piece = self.messages.read(payload, &memory[at..at + left_bytes], &mut space.inflate)?;
                let ends = payload.ends_message && piece.is_last;
                let key = || space.keys.draw();
                self.compressor.write(piece.bytes, payload.text, ends, &mut space.deflate, key);
                at += piece.taken;
                self.current = (!piece.is_last).then_some((payload, left_bytes - piece.taken));
                answered.messages += u64::from(ends);
            }
            let Some(event) = self.messages.next(&mut memory[at..])? else { return Ok(memory.len()) };
            let start = at;
            at += event.consumed();
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

fn queue(frame: Option<ControlFrame>, space: &mut Workspace) {
    if let Some(frame) = frame {
        space.deflate.frames.extend_from_slice(frame.as_bytes());
    }
}
