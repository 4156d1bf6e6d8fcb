//! The receiving side of a connection on which permessage-deflate was agreed (RFC 7692, 6 and 7.2.2): a [`Connection`] behind a
//! gate that knows RSV1.
//!
//! The gate looks at each frame's first byte before the connection does, and takes RSV1 off where it may stand: on the first
//! frame of a message. So the decoder and the connection are those that know nothing of compression, and refuse the bit
//! wherever else it is.
//!
//! Invariants: the limit on messages counts inflated bytes, and is noticed at the first piece beyond it; text is judged
//! inflated; what was inflated is given out in pieces of the caller's room, so a message of any length and any ratio costs
//! no memory.

use super::connection::{Connection, Data, Event};
use super::deflate::{Decompressor, InflateSpace};
use super::extensions::DeflateParameters;
use super::frame::{Fault, Opcode, RSV1, Role};

/// Payload of a data frame, from one batch of bytes, that is to be read; unmasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Its message is text.
    pub text: bool,
    /// Its message ends with it.
    pub ends_message: bool,
}

/// A piece of a message, inflated and judged.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Bytes of the payload that it took.
    pub taken: usize,
    /// The piece itself; may be empty.
    pub bytes: &'a [u8],
    /// The payload holds nothing more.
    pub is_last: bool,
}

/// The message that was read last, or as much of it as has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its first frame had RSV1.
    pub compressed: bool,
    /// Its bytes, inflated.
    pub payload_bytes: u64,
    /// The payload of its frames, without headers.
    pub wire_bytes: u64,
}

/// See the module's text. Order of calls: [`Deflating::next`], and after each [`Event::Data`], [`Deflating::unmask`] and then
/// [`Deflating::read`] until it gives the last piece.
pub struct Deflating {
    connection: Connection,
    decompressor: Decompressor,
    /// RSV1 was taken off a frame that has not been reported yet.
    is_marked: bool,
    is_compressed: bool,
    message_bytes: u64,
    wire_bytes: u64,
    message_bytes_max: u64,
}

impl Deflating {
    /// An open connection whose own end is `role`.
    pub fn new(role: Role, parameters: &DeflateParameters, message_bytes_max: u64, now_ns: u64) -> Self {
        // What does not compress grows by less than this, whatever the compressor's settings; and frames that hold nothing
        // must come to an end as well.
        let frames_bytes_max = message_bytes_max.saturating_add(message_bytes_max / 4).saturating_add(1024);
        Self {
            connection: Connection::new(role, frames_bytes_max, now_ns),
            decompressor: Decompressor::new(parameters, role),
            is_marked: false,
            is_compressed: false,
            message_bytes: 0,
            wire_bytes: 0,
            message_bytes_max,
        }
    }

    /// What it is the gate of: for time, control frames and closing.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// For what it keeps.
    pub fn decompressor(&self) -> &Decompressor {
        &self.decompressor
    }

    /// What the message came to: of a whole one, between the last piece that [`Deflating::read`] gave of it and the next frame.
    pub fn seen(&self) -> Seen {
        let Self { is_compressed: compressed, message_bytes: payload_bytes, wire_bytes, .. } = *self;
        Seen { compressed, payload_bytes, wire_bytes }
    }

    /// As [`Connection::next`]. `bytes` loses the bit that this is about.
    ///
    /// # Errors
    /// As [`Connection::next`], and [`Fault::ReservedBits`] where RSV1 may not stand.
    pub fn next(&mut self, bytes: &mut [u8]) -> Result<Option<Event>, Fault> {
        if !self.connection.in_frame()
            && !self.connection.is_closed()
            && let Some(first) = bytes.first_mut()
            && *first & RSV1 != 0
        {
            let opcode = *first & 0x0F;
            if opcode != Opcode::Text as u8 && opcode != Opcode::Binary as u8 {
                return Err(Fault::ReservedBits);
            }
            *first &= !RSV1;
            self.is_marked = true;
        }
        let event = self.connection.next(bytes)?;
        if let Some(Event::Data(data)) = &event
            && data.chunk.first
        {
            self.on_frame(data)?;
        }
        Ok(event)
    }

    fn on_frame(&mut self, data: &Data) -> Result<(), Fault> {
        if data.begins_message() {
            self.is_compressed = std::mem::take(&mut self.is_marked);
            (self.message_bytes, self.wire_bytes) = (0, 0);
        }
        self.wire_bytes = self.wire_bytes.saturating_add(data.chunk.frame_bytes);
        if self.is_compressed { Ok(()) } else { self.count(data.chunk.frame_bytes) }
    }

    fn count(&mut self, byte_count: u64) -> Result<(), Fault> {
        self.message_bytes = self.message_bytes.saturating_add(byte_count);
        if self.message_bytes > self.message_bytes_max { Err(Fault::MessageTooBig) } else { Ok(()) }
    }

    /// Unmasks the payload of `data`, `memory[from..]`, where it stands.
    ///
    /// # Panics
    /// If the payload reaches beyond `memory`.
    pub fn unmask(&mut self, data: &Data, memory: &mut [u8], from: usize) -> Payload {
        let unjudged = Data { text: false, ..*data };
        self.connection.accept(&unjudged, memory, from, from).expect("what is no text is not judged");
        Payload { text: data.text, ends_message: data.ends_message() }
    }

    /// The next piece in what is left of a payload.
    ///
    /// # Errors
    /// The message is too long, not UTF-8, or not DEFLATE: answer with [`Connection::fail`].
    pub fn read<'a>(
        &mut self,
        payload: Payload,
        rest: &'a [u8],
        space: &'a mut InflateSpace,
    ) -> Result<Piece<'a>, Fault> {
        let piece = if self.is_compressed {
            let (room, mut idle) = space.split();
            let step = self.decompressor.step(rest, payload.ends_message, room, &mut idle)?;
            Piece { taken: step.taken, bytes: &room[..step.made], is_last: step.is_done }
        } else {
            Piece { taken: rest.len(), bytes: rest, is_last: true }
        };
        if !self.is_compressed {
            self.judge(payload, piece.bytes, piece.is_last)?;
            return Ok(piece);
        }
        // What is within the limit is judged first, as it would be if it had come alone.
        let room_bytes = self.message_bytes_max - self.message_bytes;
        let within = piece.bytes.len().min(usize::try_from(room_bytes).unwrap_or(usize::MAX));
        self.judge(payload, &piece.bytes[..within], piece.is_last && within == piece.bytes.len())?;
        self.count(piece.bytes.len() as u64)?;
        Ok(piece)
    }

    fn judge(&mut self, payload: Payload, bytes: &[u8], is_last: bool) -> Result<(), Fault> {
        let ends_message = payload.ends_message && is_last;
        if payload.text { self.connection.check_text(bytes, ends_message) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
