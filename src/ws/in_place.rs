//! A receive buffer that is read from the front and answered in the same memory.
//!
//! A masked request header is 4 bytes longer than the reply's, so each reply fits in front of where its
//! payload stands: the first keeps its payload where it is, later ones move down to follow it, unmasked on
//! the way. Many small requests in one buffer become one contiguous answer, sent without a copy.
//!
//! Invariant: the answer never reaches into bytes that were not read yet.

use std::ops::Range;

use super::connection::{Connection, Data, Event};
use super::frame::{ControlFrame, Fault, Header, MAX_CONTROL_BYTES, ShortMessage};
use super::mask;

/// See the module's text.
pub struct InPlace<'b> {
    memory: &'b mut [u8],
    read: usize,
    end: usize,
    reply: Range<usize>,
    /// End of the replies that were taken: they wait to be sent and must not be written over.
    floor: usize,
}

impl<'b> InPlace<'b> {
    /// `memory[received]` has arrived; what stands before it is free for reply headers and must be at least
    /// [`MAX_UNMASKED_HEADER_BYTES`](super::frame::MAX_UNMASKED_HEADER_BYTES).
    #[inline(always)]
    pub fn new(memory: &'b mut [u8], received: Range<usize>) -> Self {
        debug_assert!(received.start >= super::frame::MAX_UNMASKED_HEADER_BYTES);
        Self { read: received.start, end: received.end, reply: 0..0, floor: 0, memory }
    }

    /// Skips bytes that were handled elsewhere (the opening handshake).
    pub fn skip(&mut self, byte_count: usize) {
        self.read += byte_count;
        debug_assert!(self.read <= self.end);
    }

    /// Bytes not read yet.
    #[inline(always)]
    pub fn unread(&self) -> &[u8] {
        &self.memory[self.read..self.end]
    }

    /// The next event; its data, if any, is still unread until [`InPlace::echo`] or [`InPlace::discard`].
    ///
    /// # Errors
    /// As [`Connection::next`].
    #[inline(always)]
    pub fn next(&mut self, connection: &mut Connection) -> Result<Option<Event>, Fault> {
        let event = connection.next(&self.memory[self.read..self.end])?;
        if let Some(Event::Ping { consumed } | Event::Pong { consumed } | Event::Close { consumed, .. }) =
            event
        {
            self.read += consumed;
        }
        Ok(event)
    }

    /// Answers the short messages that come next, as long as each is whole, with themselves; says how many.
    /// [`InPlace::next`] and [`InPlace::echo`] would do the same, at three times the cost.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`]; nothing of that message is in the reply then.
    #[inline(always)]
    pub fn echo_short_messages(&mut self, connection: &mut Connection) -> Result<u64, Fault> {
        let mut message_count = 0;
        if !connection.takes_whole_messages(MAX_CONTROL_BYTES as u64) {
            return Ok(0);
        }
        while let Some(message) = ShortMessage::parse(&self.memory[self.read..self.end]) {
            let payload_at = self.read + ShortMessage::HEADER_BYTES;
            let read = payload_at + message.payload_bytes;
            if read > self.end {
                break;
            }
            if self.reply.is_empty() {
                let start = payload_at - ShortMessage::REPLY_HEADER_BYTES;
                self.reply = start..start;
            }
            let at = self.reply.end;
            let to = at + ShortMessage::REPLY_HEADER_BYTES;
            self.memory[at..to].copy_from_slice(&[message.first, message.payload_bytes as u8]);
            mask::unmask_down(message.mask, self.memory, payload_at, message.payload_bytes, to);
            let end = to + message.payload_bytes;
            if message.is_text() {
                connection.check_whole_text(&self.memory[to..end])?;
            }
            self.reply.end = end;
            self.read = read;
            message_count += 1;
        }
        Ok(message_count)
    }

    /// Answers a piece of a message with itself.
    ///
    /// Binary frames are mirrored frame by frame, also when they arrive in pieces: the header goes out with
    /// the first. Text must not be passed on before it is known to be valid, and a frame once begun cannot
    /// be taken back; so a text frame that arrives in pieces is answered by a fragment for each.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`]; nothing of this piece is in the reply then.
    #[inline(always)]
    pub fn echo(&mut self, connection: &mut Connection, data: &Data) -> Result<(), Fault> {
        let chunk = &data.chunk;
        let payload_at = self.read + chunk.header_bytes;
        self.read = payload_at + chunk.payload_bytes;
        let header = if chunk.first && (chunk.last || !data.text) {
            Some(Header {
                fin: chunk.fin,
                opcode: chunk.opcode,
                mask: None,
                payload_bytes: chunk.frame_bytes,
            })
        } else if data.text {
            Some(text_fragment(data))
        } else {
            None
        };
        let header_bytes = header.map_or(0, |header| header.encoded_bytes());
        if self.reply.is_empty() {
            let start = payload_at - header_bytes;
            assert!(start >= self.floor, "a reply would overwrite the one before");
            self.reply = start..start;
        }
        let at = self.reply.end;
        let to = at + header_bytes;
        assert!(to <= payload_at, "a reply would overtake its request");
        if let Some(header) = header {
            header.encode(&mut self.memory[at..to]);
        }
        connection.accept(data, self.memory, payload_at, to)?;
        self.reply.end = to + chunk.payload_bytes;
        Ok(())
    }

    /// Takes in a piece of a message without answering it, but still validates it.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`].
    pub fn discard(&mut self, connection: &mut Connection, data: &Data) -> Result<(), Fault> {
        let payload_at = self.read + data.chunk.header_bytes;
        self.read = payload_at + data.chunk.payload_bytes;
        connection.accept(data, self.memory, payload_at, payload_at)
    }

    /// Appends a control frame to the reply, if it fits into what has been read; else it is for the caller
    /// to send after [`InPlace::take_reply`].
    #[must_use]
    pub fn append(&mut self, frame: &ControlFrame) -> bool {
        let frame = frame.as_bytes();
        if self.reply.is_empty() {
            let start = self.read.saturating_sub(frame.len()).max(self.floor);
            self.reply = start..start;
        }
        let end = self.reply.end + frame.len();
        if end > self.read {
            return false;
        }
        self.memory[self.reply.end..end].copy_from_slice(frame);
        self.reply.end = end;
        true
    }

    /// The part of `memory` that holds the reply since the last call; empty where there is none.
    #[inline(always)]
    pub fn take_reply(&mut self) -> Range<usize> {
        let taken = self.reply.clone();
        self.floor = self.floor.max(taken.end);
        self.reply = taken.end..taken.end;
        taken
    }
}

/// The fragment that answers one piece of a text frame.
#[cold]
fn text_fragment(data: &Data) -> Header {
    let chunk = &data.chunk;
    let opcode = if chunk.first { chunk.opcode } else { super::frame::Opcode::Continuation };
    Header { fin: chunk.fin && chunk.last, opcode, mask: None, payload_bytes: chunk.payload_bytes as u64 }
}
