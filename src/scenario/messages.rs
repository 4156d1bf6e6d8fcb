//! Whole messages out of a connection's bytes, for scenarios that have to see all of one before they answer.
//!
//! Bytes are walked once. A message that lies whole in the memory it was received in is handed out there, unmasked in place and
//! without a copy; one that came in pieces is gathered first. A scenario may say that it cannot take another one yet: then what
//! came is kept, and the engine told to read no further.
//!
//! Invariants: text is valid before it is handed out; control frames are answered where they stand; a fault fails the connection
//! with the code that the echo would have failed it with; after our Close nothing is handed out any more. What is kept of a peer's
//! is counted, by the engine and in an [`Account`], bounded by it, and given back as soon as it has been handed out. Whatever is
//! sent here is sent in whole frames, so that a Close or ping may follow at any time.
//!
//! Deliberately absent: compression, which needs a message's bytes in another place than they came in; and the client's role.

use std::ops::Range;

use super::deflate::{Account, Entry};
use super::echo::Answered;
use crate::engine::{Io, Received};
use crate::limits::IN_PLACE_BYTES;
use crate::ws::connection::{Connection, Data, Event};
use crate::ws::frame::{ControlFrame, Fault, Header, MAX_UNMASKED_HEADER_BYTES, Opcode};
use crate::ws::mask::Mask;

/// Servers don't mask (RFC 6455, 5.1).
const NO_KEY: Mask = Mask::from_bytes([0; 4]);

/// One message, whole, unmasked and, if it is text, valid.
pub struct Message<'m> {
    /// It is text.
    pub is_text: bool,
    place: Place<'m>,
}

/// Where it lies.
enum Place<'m> {
    /// In what has come, whole.
    Whole {
        memory: &'m mut [u8],
        range: Range<usize>,
        /// It can be sent from there, and in front of it there is room for a reply's header.
        is_received: bool,
    },
    /// It came in pieces.
    Gathered(Vec<u8>),
}

impl Message<'_> {
    /// What it says.
    pub fn payload(&mut self) -> &mut [u8] {
        match &mut self.place {
            Place::Whole { memory, range, .. } => &mut memory[range.clone()],
            Place::Gathered(bytes) => bytes,
        }
    }

    /// What it says, and the memory that lies behind it, which must be left as it is.
    pub fn payload_and_rest(&mut self) -> (&mut [u8], usize) {
        match &mut self.place {
            Place::Whole { memory, range, .. } => (&mut memory[range.start..], range.len()),
            Place::Gathered(bytes) => {
                let byte_count = bytes.len();
                (bytes, byte_count)
            }
        }
    }

    /// Answers it with itself, from where it lies if that is worth it.
    pub fn echo(self, io: &mut Io<'_>) {
        let opcode = if self.is_text { Opcode::Text } else { Opcode::Binary };
        match self.place {
            Place::Whole { memory, range, is_received: true } if range.len() >= IN_PLACE_BYTES => {
                let header = header(opcode, range.len());
                let start = range.start - header.encoded_bytes();
                header.encode(&mut memory[start..range.start]);
                io.reply_in_place(start..range.end);
            }
            Place::Whole { memory, range, .. } => {
                io.write(|out| append_frame(opcode, &[&memory[range]], out));
            }
            Place::Gathered(bytes) if bytes.len() >= IN_PLACE_BYTES => {
                io.write(|out| append_header(opcode, bytes.len(), out));
                io.send(bytes.into());
            }
            Place::Gathered(bytes) => io.write(|out| append_frame(opcode, &[&bytes], out)),
        }
    }
}

fn header(opcode: Opcode, payload_bytes: usize) -> Header {
    Header { fin: true, opcode, mask: None, payload_bytes: payload_bytes as u64 }
}

/// Appends the header of a server's message.
pub(super) fn append_header(opcode: Opcode, payload_bytes: usize, out: &mut Vec<u8>) {
    let mut encoded = [0; MAX_UNMASKED_HEADER_BYTES];
    let header_bytes = header(opcode, payload_bytes).encode(&mut encoded);
    out.extend_from_slice(&encoded[..header_bytes]);
}

/// Appends a server's message that is made of these parts.
pub(super) fn append_frame(opcode: Opcode, parts: &[&[u8]], out: &mut Vec<u8>) {
    append_header(opcode, parts.iter().map(|part| part.len()).sum(), out);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Whether a scenario takes another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Take,
    /// Not before [`Messages::go_on`]: what has come is kept, and the peer not read from.
    Wait,
}

/// One connection's.
pub struct Messages {
    connection: Connection,
    /// The message under way, as far as it came in pieces.
    partial: Vec<u8>,
    /// What came and was not looked at, from `unread_at` on.
    unread: Vec<u8>,
    unread_at: usize,
    waits: bool,
    kept: Entry,
}

impl Messages {
    /// Of an open connection; what it keeps is put to `account`.
    pub fn new(connection: Connection, account: &Account) -> Self {
        let kept = account.entry();
        Self { connection, partial: Vec::new(), unread: Vec::new(), unread_at: 0, waits: false, kept }
    }

    /// For time and closing.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// A message had to wait, or may have to: [`Messages::go_on`] is due some time.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Hands each message that has come to `take`, from the first `skipped_bytes` of `received` on, until one has to wait.
    pub fn receive(
        &mut self,
        io: &mut Io<'_>,
        received: Received<'_>,
        skipped_bytes: usize,
        now_ns: u64,
        take: impl FnMut(&mut Io<'_>, Message<'_>) -> Next,
    ) -> Answered {
        let Received { memory, range } = received;
        let arrived = range.start + skipped_bytes..range.end;
        self.connection.on_received(now_ns);
        let mut answered = Answered::default();
        let mut read_to = arrived.start;
        if !self.waits {
            match self.read(io, memory, arrived.clone(), true, &mut answered, take) {
                Ok(at) => read_to = at,
                Err(fault) => return self.fail(io, fault, answered, now_ns),
            }
        }
        self.unread.extend_from_slice(&memory[read_to..arrived.end]);
        self.settle(io, answered, now_ns)
    }

    /// The same, where others have their turn: everything waits.
    pub fn put_off(
        &mut self,
        io: &mut Io<'_>,
        received: Received<'_>,
        skipped_bytes: usize,
        now_ns: u64,
    ) -> Answered {
        self.waits = true;
        self.receive(io, received, skipped_bytes, now_ns, |_, _| Next::Wait)
    }

    /// Goes on with what waited.
    pub fn go_on(
        &mut self,
        io: &mut Io<'_>,
        now_ns: u64,
        take: impl FnMut(&mut Io<'_>, Message<'_>) -> Next,
    ) -> Answered {
        let mut answered = Answered::default();
        if !std::mem::take(&mut self.waits) {
            return answered;
        }
        // It is we who let it wait.
        self.connection.on_alive(now_ns);
        let mut unread = std::mem::take(&mut self.unread);
        let left = self.unread_at..unread.len();
        match self.read(io, &mut unread, left, false, &mut answered, take) {
            Ok(at) if at < unread.len() => (self.unread, self.unread_at) = (unread, at),
            Ok(_) => self.unread_at = 0,
            Err(fault) => return self.fail(io, fault, answered, now_ns),
        }
        self.settle(io, answered, now_ns)
    }

    /// Reads until there is nothing left, or something has to wait; says up to where.
    fn read(
        &mut self,
        io: &mut Io<'_>,
        memory: &mut [u8],
        range: Range<usize>,
        is_received: bool,
        answered: &mut Answered,
        mut take: impl FnMut(&mut Io<'_>, Message<'_>) -> Next,
    ) -> Result<usize, Fault> {
        let mut at = range.start;
        while let Some(event) = self.connection.next(&memory[at..range.end])? {
            let start = at;
            at += event.consumed();
            answered.frames.on_event(&event);
            match event {
                Event::Data(data) => {
                    let payload = start + data.chunk.header_bytes..at;
                    self.connection.accept(&data, memory, payload.start, payload.start)?;
                    answered.messages += u64::from(data.ends_message());
                    if !self.connection.is_open() {
                        // We have closed, and will say nothing more.
                        continue;
                    }
                    let place = if data.begins_message() && data.ends_message() {
                        Some(Place::Whole { memory: &mut *memory, range: payload, is_received })
                    } else {
                        self.gather(&data, &memory[payload])?
                    };
                    let Some(place) = place else { continue };
                    if take(io, Message { is_text: data.text, place }) == Next::Wait {
                        self.waits = true;
                        return Ok(at);
                    }
                }
                Event::Ping { .. } => send(io, self.connection.pong(NO_KEY)),
                Event::Pong { .. } => {}
                Event::Close { .. } => send(io, self.connection.reply_to_close(NO_KEY)),
            }
        }
        Ok(range.end)
    }

    /// Takes in a piece; the message, if it ends.
    fn gather(&mut self, data: &Data, piece: &[u8]) -> Result<Option<Place<'static>>, Fault> {
        self.partial.extend_from_slice(piece);
        if data.ends_message() {
            return Ok(Some(Place::Gathered(std::mem::take(&mut self.partial))));
        }
        if self.kept.set(self.kept_bytes()) { Ok(None) } else { Err(Fault::NoMemory) }
    }

    fn kept_bytes(&self) -> usize {
        self.partial.capacity() + self.unread.capacity()
    }

    /// Counts what is kept, and has the peer not read from while it waits.
    fn settle(&mut self, io: &mut Io<'_>, answered: Answered, now_ns: u64) -> Answered {
        if !self.kept.set(self.kept_bytes()) {
            return self.fail(io, Fault::NoMemory, answered, now_ns);
        }
        io.keep(self.kept_bytes());
        io.hold_reading(self.waits);
        answered
    }

    /// Nothing more of what came will be looked at.
    fn fail(&mut self, io: &mut Io<'_>, fault: Fault, answered: Answered, now_ns: u64) -> Answered {
        (self.partial, self.unread, self.unread_at, self.waits) = (Vec::new(), Vec::new(), 0, false);
        send(io, self.connection.fail(fault, now_ns, NO_KEY));
        // Nothing is always right.
        let _ = self.kept.set(0);
        io.keep(0);
        io.hold_reading(false);
        Answered { fault: Some(fault), ..answered }
    }
}

fn send(io: &mut Io<'_>, frame: Option<ControlFrame>) {
    if let Some(frame) = frame {
        io.write(|out| out.extend_from_slice(frame.as_bytes()));
    }
}
