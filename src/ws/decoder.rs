//! Bytes in, chunks of frames out, nothing copied.
//!
//! A [`Chunk`] is a place in the caller's buffer: payload, still masked, with the key turned to its phase.
//! Between two calls the decoder keeps a split header (13 bytes at most) and where in the frame it is;
//! it never keeps payload. What frames mean to each other (fragments, closing) is `connection`'s.

use super::frame::{self, Fault, Header, MAX_HEADER_BYTES, Opcode, Role};
use super::mask::Mask;

/// A piece of one frame's payload: as much of it as the bytes at hand hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of the header that stand in front of the payload in this input; 0 for a later chunk.
    pub header_bytes: usize,
    /// Bytes of payload that follow them in this input.
    pub payload_bytes: usize,
    /// Key for exactly these bytes; `None` where the frame is not masked.
    pub mask: Option<Mask>,
    /// The frame's opcode.
    pub opcode: Opcode,
    /// The frame's FIN bit.
    pub fin: bool,
    /// Payload length of the whole frame.
    pub frame_bytes: u64,
    /// This chunk begins the frame.
    pub first: bool,
    /// This chunk ends the frame.
    pub last: bool,
}

/// Cuts a byte stream into [`Chunk`]s.
///
/// Call [`Decoder::next`] with the unread bytes until it gives `None`; it has then taken in all of them.
#[derive(Debug)]
pub struct Decoder {
    sender: Role,
    split: [u8; MAX_HEADER_BYTES - 1],
    split_bytes: u8,
    /// The header of the frame under way is known but none of its payload was handed out yet.
    fresh: bool,
    header: Header,
    remaining_bytes: u64,
}

impl Decoder {
    /// A decoder for what `sender` sends.
    pub fn new(sender: Role) -> Self {
        let header = Header { fin: true, opcode: Opcode::Continuation, mask: None, payload_bytes: 0 };
        Self { sender, split: [0; 13], split_bytes: 0, fresh: false, header, remaining_bytes: 0 }
    }

    /// Whether the next byte is a frame's first.
    #[inline(always)]
    pub fn at_frame_boundary(&self) -> bool {
        self.split_bytes == 0 && !self.fresh && self.remaining_bytes == 0
    }

    /// The next chunk of `bytes`, which are consumed up to the chunk's end; all of them where there is none.
    ///
    /// # Errors
    /// A header that is not legal. The decoder is of no further use then.
    #[inline(always)]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Chunk>, Fault> {
        if self.split_bytes != 0 || self.remaining_bytes != 0 {
            return self.resume(bytes);
        }
        match frame::parse(bytes, self.sender)? {
            Some((header, header_bytes)) => Ok(self.begin(header, header_bytes, bytes.len())),
            None => {
                self.split[..bytes.len()].copy_from_slice(bytes);
                self.split_bytes = bytes.len() as u8;
                Ok(None)
            }
        }
    }

    #[inline(always)]
    fn begin(&mut self, header: Header, header_bytes: usize, available_bytes: usize) -> Option<Chunk> {
        let available = available_bytes - header_bytes;
        if header.payload_bytes <= available as u64 {
            // The common case touches no state at all.
            return Some(Chunk {
                header_bytes,
                payload_bytes: header.payload_bytes as usize,
                mask: header.mask,
                opcode: header.opcode,
                fin: header.fin,
                frame_bytes: header.payload_bytes,
                first: true,
                last: true,
            });
        }
        self.header = header;
        self.remaining_bytes = header.payload_bytes;
        self.fresh = true;
        self.take_payload(header_bytes, available)
    }

    /// Payload of a frame whose header came earlier, or the rest of a split header.
    #[cold]
    fn resume(&mut self, bytes: &[u8]) -> Result<Option<Chunk>, Fault> {
        if self.split_bytes == 0 {
            return Ok(self.take_payload(0, bytes.len()));
        }
        let held = usize::from(self.split_bytes);
        let mut joined = [0; MAX_HEADER_BYTES];
        joined[..held].copy_from_slice(&self.split[..held]);
        let added = bytes.len().min(MAX_HEADER_BYTES - held);
        joined[held..held + added].copy_from_slice(&bytes[..added]);
        match frame::parse(&joined[..held + added], self.sender)? {
            Some((header, header_bytes)) => {
                self.split_bytes = 0;
                Ok(self.begin(header, header_bytes - held, bytes.len()))
            }
            None => {
                self.split[held..held + added].copy_from_slice(&bytes[..added]);
                self.split_bytes += added as u8;
                Ok(None)
            }
        }
    }

    fn take_payload(&mut self, header_bytes: usize, available: usize) -> Option<Chunk> {
        let taken = self.remaining_bytes.min(available as u64);
        if taken == 0 {
            return None;
        }
        let done = self.header.payload_bytes - self.remaining_bytes;
        self.remaining_bytes -= taken;
        let first = std::mem::take(&mut self.fresh);
        Some(Chunk {
            header_bytes: if first { header_bytes } else { 0 },
            payload_bytes: taken as usize,
            mask: self.header.mask.map(|mask| mask.rotated((done % 4) as usize)),
            opcode: self.header.opcode,
            fin: self.header.fin,
            frame_bytes: self.header.payload_bytes,
            first,
            last: self.remaining_bytes == 0,
        })
    }
}
