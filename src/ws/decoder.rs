//! Bytes in, chunks of frames out, nothing copied.
//!
//! A [`Chunk`] is a place in the caller's buffer: payload, still masked, with the key turned to its phase.
//! Between two calls the decoder keeps the header of the frame under way, as it came, and where in the frame it is;
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
    /// The header of the frame under way, as it came: 14 bytes, where what it says would be 24 beside as many to put a split
    /// one together in. Bytes of payload may stand behind it.
    header: [u8; MAX_HEADER_BYTES],
    /// How much of it has come, if not all has.
    split_bytes: u8,
    /// Payload to come of the frame under way; 0 where there is none, or its header is split.
    remaining_bytes: u64,
}

impl Decoder {
    /// A decoder for what `sender` sends.
    pub fn new(sender: Role) -> Self {
        Self { sender, header: [0; MAX_HEADER_BYTES], split_bytes: 0, remaining_bytes: 0 }
    }

    /// Whose frames these are.
    pub(super) fn sender(&self) -> Role {
        self.sender
    }

    /// Whether the next byte is a frame's first.
    #[inline(always)]
    pub fn at_frame_boundary(&self) -> bool {
        self.split_bytes == 0 && self.remaining_bytes == 0
    }

    /// The next chunk of `bytes`, which are consumed up to the chunk's end; all of them where there is none.
    ///
    /// # Errors
    /// A header that is not legal. The decoder is of no further use then.
    #[inline(always)]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Chunk>, Fault> {
        if self.split_bytes == 0
            && self.remaining_bytes == 0
            && let Some((header, header_bytes)) = frame::parse(bytes, self.sender)?
            && header.payload_bytes <= (bytes.len() - header_bytes) as u64
        {
            // The common case touches no state at all.
            let payload_bytes = header.payload_bytes as usize;
            let whole = Piece { header, header_bytes, payload_bytes, done_bytes: 0 };
            return Ok(Some(whole.chunk()));
        }
        // What is out of line returns no chunk: it would return it by reference, and so keep every other chunk in
        // memory as well, which made a small frame take four times as long.
        let piece = self.next_piece(bytes)?;
        Ok(piece.map(Piece::chunk))
    }

    /// Of a frame that is not all in `bytes`; its header is kept.
    #[cold]
    #[inline(never)]
    fn next_piece(&mut self, bytes: &[u8]) -> Result<Option<Piece>, Fault> {
        if self.remaining_bytes != 0 {
            let Ok(Some((header, _))) = frame::parse(&self.header, self.sender) else {
                unreachable!("it was whole and legal when it came");
            };
            return Ok(self.take_payload(header, 0, bytes.len()));
        }
        let held = usize::from(self.split_bytes);
        let added = bytes.len().min(MAX_HEADER_BYTES - held);
        self.header[held..held + added].copy_from_slice(&bytes[..added]);
        let Some((header, header_bytes)) = frame::parse(&self.header[..held + added], self.sender)? else {
            self.split_bytes += added as u8;
            return Ok(None);
        };
        self.split_bytes = 0;
        self.remaining_bytes = header.payload_bytes;
        Ok(self.take_payload(header, header_bytes - held, bytes.len() - (header_bytes - held)))
    }

    /// As much of the frame under way as there is; `None` where nothing is, and the frame not empty.
    fn take_payload(&mut self, header: Header, header_bytes: usize, available: usize) -> Option<Piece> {
        let taken = self.remaining_bytes.min(available as u64);
        if taken == 0 && header.payload_bytes != 0 {
            return None;
        }
        let done_bytes = header.payload_bytes - self.remaining_bytes;
        self.remaining_bytes -= taken;
        Some(Piece { header, header_bytes, payload_bytes: taken as usize, done_bytes })
    }
}

/// What a [`Chunk`] is made of.
struct Piece {
    header: Header,
    header_bytes: usize,
    payload_bytes: usize,
    /// Payload of the frame that came before.
    done_bytes: u64,
}

impl Piece {
    #[inline(always)]
    fn chunk(self) -> Chunk {
        let header = self.header;
        Chunk {
            header_bytes: self.header_bytes,
            payload_bytes: self.payload_bytes,
            mask: header.mask.map(|mask| mask.rotated((self.done_bytes % 4) as usize)),
            opcode: header.opcode,
            fin: header.fin,
            frame_bytes: header.payload_bytes,
            first: self.done_bytes == 0,
            last: self.done_bytes + self.payload_bytes as u64 == header.payload_bytes,
        }
    }
}
