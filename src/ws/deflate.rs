//! The two directions of permessage-deflate (RFC 7692, 7.2): a [`Compressor`] turns pieces of messages into frames, a
//! [`Decompressor`] payload of frames into pieces of messages.
//!
//! Invariants: memory is bounded whatever the messages' lengths: of a message under way there is what zlib keeps, less than the
//! threshold of what was not yet decided on, and at most [`FRAGMENT_BYTES`] and one piece of output; [`Decompressor::step`] never
//! gives more than the room it was given. RSV1 stands on the first frame of a compressed message and nowhere else.
//!
//! **Memory of a connection.** Nothing before its first compressed message in a direction; then what [`Compressor`] and
//! [`Decompressor`] say. Where messages are compressed by themselves (no context takeover) the state belongs to the thread,
//! and a connection has it only while a message is under way.
//!
//! **Ended streams.** A message may hold DEFLATE blocks that end their stream (7.2.3.4); what follows begins a new one with an
//! empty window. zlib's compressors do the same; one that ended its stream and still referred to what was before it would
//! be refused.
//!
//! **Ends of messages.** What is left out at a message's end is the lengths of an empty block (7.2.1), so a message is sound only
//! where [`TAIL`] is nothing but that: it gives no byte, and leaves the decompressor between blocks, at a whole byte. Else the
//! tail would be taken for payload, and the next message for the rest of this one's block.
//!
//! Deliberately absent: anything about who agreed to what (`extensions`) and what frames mean to each other (`deflating`).

use flate2::{Compress, Compression as Level, FlushCompress};
// Beneath flate2, which has no way to stop at a block's end.
use zlib_rs::{Inflate, InflateFlush, Status};

use super::extensions::{DeflateParameters, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use super::frame::{Fault, Header, MAX_HEADER_BYTES, Opcode, RSV1, Role};
use super::mask::{self, Mask};

/// What ends every flushed block, and is left out of messages (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// Compressed bytes of a message under way that make a fragment.
pub const FRAGMENT_BYTES: usize = 64 << 10;
/// Inflated bytes that one step gives at most.
pub const INFLATED_BYTES: usize = 16 << 10;
/// What zlib-rs keeps to inflate: a window of 32 KiB, tables, and itself.
const INFLATE_STATE_BYTES: usize = 48 << 10;
/// States without a message that a thread keeps for the next.
const IDLE_STATES: usize = 4;
/// Output memory that a thread keeps from message to message.
const OUTPUT_KEPT_BYTES: usize = 1 << 20;

/// How an end compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// zlib's level, 1 (fast) to 9 (small).
    pub level: u8,
    /// Messages shorter than this go as they are.
    pub threshold_bytes: usize,
}

/// What an end brings to the negotiation, and how it compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateSettings {
    /// What it wants.
    pub parameters: DeflateParameters,
    /// How it compresses.
    pub compression: Compression,
}

// ------------------------------------------------------------------------------------------------------ sending

/// What the compressors of a thread share.
#[derive(Debug, Default)]
pub struct DeflateSpace {
    /// Frames to be sent, in order; whoever sends them takes them out, and may add others.
    pub frames: Vec<u8>,
    /// Compressed payload that is in no frame yet.
    payload: Vec<u8>,
    idle: Vec<(u8, Compress)>,
}

impl DeflateSpace {
    /// Drops what was compressed of a message that will not be sent any further.
    pub fn give_up(&mut self) {
        self.payload.clear();
    }

    /// Bytes that were made and not sent yet.
    pub fn made_bytes(&self) -> usize {
        self.frames.len() + self.payload.len()
    }

    /// Whoever has sent [`DeflateSpace::frames`] says so.
    pub fn clear_frames(&mut self) {
        self.frames.clear();
        self.frames.shrink_to(OUTPUT_KEPT_BYTES);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No message, or the start of one that is shorter than the threshold so far.
    Undecided,
    /// A compressed message is under way; whether its first frame has gone.
    Compressing { begun: bool },
    /// One that is not compressed is, for want of memory.
    Plain { begun: bool },
}

/// Compresses the messages of one connection.
///
/// [`Compressor::write`] for each piece of a message, and [`Compressor::settle`] before the thread turns to another connection. Where
/// [what it would keep](Compressor::kept_after) is too much, [`Compressor::refrain`] before that piece.
///
/// With context takeover it keeps, from the first compressed message on, zlib-rs's state at memory level 8 (flate2 offers no
/// other): 128 KiB of hash heads, 64 KiB of pending output, 48 KiB of symbols, and 4 bytes per byte of window, so 242 KiB
/// with 9 bits and 368 KiB with 15, and 6 KiB of trees.
pub struct Compressor {
    compression: Compression,
    window_bits: u8,
    takes_over: bool,
    stage: Stage,
    held: Vec<u8>,
    state: Option<Compress>,
}

impl Compressor {
    /// For the end `role` of a connection with these parameters.
    ///
    /// # Panics
    /// Where its window is not one that zlib compresses with.
    pub fn new(parameters: &DeflateParameters, role: Role, compression: Compression) -> Self {
        let (no_takeover, window_bits) = match role {
            Role::Server => (parameters.server_no_context_takeover, parameters.server_max_window_bits),
            Role::Client => (parameters.client_no_context_takeover, parameters.client_max_window_bits),
        };
        assert!((WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&window_bits), "the negotiation refuses others");
        Self {
            compression,
            window_bits,
            takes_over: !no_takeover,
            stage: Stage::Undecided,
            held: Vec::new(),
            state: None,
        }
    }

    /// What it keeps from message to message, once it has compressed one, in bytes: nothing without context takeover.
    pub fn takeover_bytes(parameters: &DeflateParameters, role: Role) -> usize {
        let (no_takeover, window_bits) = match role {
            Role::Server => (parameters.server_no_context_takeover, parameters.server_max_window_bits),
            Role::Client => (parameters.client_no_context_takeover, parameters.client_max_window_bits),
        };
        if no_takeover { 0 } else { Self::state_bytes(window_bits) }
    }

    fn state_bytes(window_bits: u8) -> usize {
        ((128 + 64 + 48 + 6) << 10) + (4 << window_bits)
    }

    /// What it keeps now, or will from its first message on, in bytes; less than a page is not counted.
    pub fn kept_bytes(&self) -> usize {
        self.kept_with(self.takes_over || self.state.is_some(), self.held.capacity())
    }

    /// The same after it will have taken the next piece, of so many bytes, of a message that does not end with it.
    pub fn kept_after(&self, piece_bytes: usize) -> usize {
        let held_bytes = self.held.len() + piece_bytes;
        match self.stage {
            Stage::Undecided if held_bytes < self.compression.threshold_bytes => {
                self.kept_with(self.takes_over, held_bytes.max(self.held.capacity()))
            }
            Stage::Undecided => self.kept_with(true, 0),
            Stage::Compressing { .. } | Stage::Plain { .. } => self.kept_bytes(),
        }
    }

    fn kept_with(&self, has_state: bool, held_bytes: usize) -> usize {
        let state_bytes = if has_state { Self::state_bytes(self.window_bits) } else { 0 };
        state_bytes + (held_bytes & !0xFFF)
    }

    /// Takes the next piece of a message, and its end with the last; frames that are due are added to `space`. `key` draws the
    /// masking key of each frame, where there is one.
    pub fn write(
        &mut self,
        piece: &[u8],
        text: bool,
        ends_message: bool,
        space: &mut DeflateSpace,
        mut key: impl FnMut() -> Option<Mask>,
    ) {
        if let Stage::Plain { begun } = self.stage {
            return self.write_plain(piece, text, begun, ends_message, space, key());
        }
        if self.stage == Stage::Undecided {
            if self.held.len() + piece.len() < self.compression.threshold_bytes {
                if !ends_message {
                    self.held.reserve_exact(piece.len());
                    return self.held.extend_from_slice(piece);
                }
                return self.write_plain(piece, text, false, true, space, key());
            }
            self.stage = Stage::Compressing { begun: false };
            if self.state.is_none() {
                self.state = Some(self.new_state(space));
            }
            let held = std::mem::take(&mut self.held);
            self.compress(&held, false, space);
        }
        self.compress(piece, ends_message, space);
        if ends_message {
            self.emit(text, true, space, key());
            self.stage = Stage::Undecided;
            self.end_context(space);
        } else if space.payload.len() >= FRAGMENT_BYTES {
            self.emit(text, false, space, key());
        }
    }

    /// The message under way is not to be compressed, which either end may do to any (RFC 7692, 6).
    ///
    /// # Panics
    /// If it is being.
    pub fn refrain(&mut self) {
        assert!(!matches!(self.stage, Stage::Compressing { .. }), "its beginning was compressed");
        if self.stage == Stage::Undecided {
            self.stage = Stage::Plain { begun: false };
        }
    }

    /// Makes a frame of the piece and what was held back before it.
    fn write_plain(
        &mut self,
        piece: &[u8],
        text: bool,
        begun: bool,
        ends_message: bool,
        space: &mut DeflateSpace,
        key: Option<Mask>,
    ) {
        let held = std::mem::take(&mut self.held);
        if !ends_message && held.is_empty() && piece.is_empty() {
            return;
        }
        let opcode = opcode_of(text, !begun);
        frame(opcode, false, ends_message, key, [&held, piece], &mut space.frames);
        self.stage = if ends_message { Stage::Undecided } else { Stage::Plain { begun: true } };
    }

    /// Makes a fragment of what was compressed of the message under way and is in no frame yet, so that `space` is free for
    /// another connection. `text` is the message's kind.
    pub fn settle(&mut self, text: bool, space: &mut DeflateSpace, mut key: impl FnMut() -> Option<Mask>) {
        if !space.payload.is_empty() {
            self.emit(text, false, space, key());
        }
    }

    fn new_state(&self, space: &mut DeflateSpace) -> Compress {
        let fitting = space.idle.iter().position(|(bits, _)| *bits == self.window_bits);
        let idle = fitting.filter(|_| !self.takes_over).map(|index| space.idle.swap_remove(index).1);
        let level = Level::new(self.compression.level.into());
        idle.unwrap_or_else(|| Compress::new_with_window_bits(level, false, self.window_bits))
    }

    fn end_context(&mut self, space: &mut DeflateSpace) {
        if self.takes_over {
            return;
        }
        if let Some(mut state) = self.state.take().filter(|_| space.idle.len() < IDLE_STATES) {
            state.reset();
            space.idle.push((self.window_bits, state));
        }
    }

    /// Adds what `piece` comes to; with the message's end all there is, but for the tail.
    fn compress(&mut self, piece: &[u8], ends_message: bool, space: &mut DeflateSpace) {
        let state = self.state.as_mut().expect("it was made when the message began");
        let flush = if ends_message { FlushCompress::Sync } else { FlushCompress::None };
        let out = &mut space.payload;
        let before_bytes = out.len();
        let mut rest = piece;
        loop {
            // Room for what does not compress, and for the flush, so that one call does where it can.
            out.reserve(rest.len() + rest.len() / 8 + 64);
            let taken_before = state.total_in();
            state.compress_vec(rest, out, flush).expect("a stream that only it writes is sound");
            rest = &rest[(state.total_in() - taken_before) as usize..];
            if rest.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
        if !ends_message {
            return;
        }
        if out.len() == before_bytes {
            // Nothing since the last flush, so zlib adds nothing: an empty message (RFC 7692, 7.2.3.6).
            return out.push(0);
        }
        assert!(out.ends_with(&TAIL), "a flush ends with an empty block");
        out.truncate(out.len() - TAIL.len());
    }

    fn emit(&mut self, text: bool, fin: bool, space: &mut DeflateSpace, key: Option<Mask>) {
        let first = self.stage == Stage::Compressing { begun: false };
        frame(opcode_of(text, first), first, fin, key, [&space.payload, &[]], &mut space.frames);
        self.stage = Stage::Compressing { begun: true };
        space.payload.clear();
        space.payload.shrink_to(OUTPUT_KEPT_BYTES);
    }
}

/// Of a message's first frame, or another.
fn opcode_of(text: bool, first: bool) -> Opcode {
    match (first, text) {
        (false, _) => Opcode::Continuation,
        (true, true) => Opcode::Text,
        (true, false) => Opcode::Binary,
    }
}

/// Appends a frame with the payload's two parts.
fn frame(opcode: Opcode, rsv1: bool, fin: bool, key: Option<Mask>, payload: [&[u8]; 2], out: &mut Vec<u8>) {
    let payload_bytes = payload.iter().map(|part| part.len() as u64).sum();
    let mut header = [0; MAX_HEADER_BYTES];
    let header_bytes = Header { fin, opcode, mask: key, payload_bytes }.encode(&mut header);
    header[0] |= if rsv1 { RSV1 } else { 0 };
    out.extend_from_slice(&header[..header_bytes]);
    let start = out.len();
    payload.iter().for_each(|part| out.extend_from_slice(part));
    if let Some(key) = key {
        mask::unmask(key, &mut out[start..]);
    }
}

// ---------------------------------------------------------------------------------------------------- receiving

/// What the decompressors of a thread share.
pub struct InflateSpace {
    /// Where pieces of messages are inflated to: [`INFLATED_BYTES`].
    pub room: Box<[u8]>,
    idle: Vec<Inflate>,
}

impl Default for InflateSpace {
    fn default() -> Self {
        Self { room: vec![0; INFLATED_BYTES].into(), idle: Vec::new() }
    }
}

impl InflateSpace {
    /// The room, and the states that are idle.
    pub(super) fn split(&mut self) -> (&mut [u8], Idle<'_>) {
        (&mut self.room, Idle(&mut self.idle))
    }
}

/// States of decompressors that keep no context.
pub(super) struct Idle<'a>(&'a mut Vec<Inflate>);

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that were taken.
    pub taken: usize,
    /// Bytes that were written.
    pub made: usize,
    /// All of the input, and of the message where this was its end, has been given out.
    pub is_done: bool,
}

/// Inflates the messages of one connection.
///
/// From the first compressed message on it has zlib-rs's state of some 48 KiB, whose window always has 32 KiB: a narrower
/// one that was agreed on saves nothing here.
pub struct Decompressor {
    takes_over: bool,
    /// The last step filled its room: there may be more.
    is_full: bool,
    /// What comes next is no DEFLATE; what stood before it was given out first, so that all splits come to the same.
    has_failed: bool,
    state: Option<Inflate>,
}

impl Decompressor {
    /// For what the other end than `role` sends on a connection with these parameters.
    pub fn new(parameters: &DeflateParameters, role: Role) -> Self {
        let no_takeover = match role {
            Role::Server => parameters.client_no_context_takeover,
            Role::Client => parameters.server_no_context_takeover,
        };
        Self { takes_over: !no_takeover, is_full: false, has_failed: false, state: None }
    }

    /// What it keeps from message to message, once it has inflated one, in bytes: nothing without context takeover.
    pub fn takeover_bytes(parameters: &DeflateParameters, role: Role) -> usize {
        if Self::new(parameters, role).takes_over { INFLATE_STATE_BYTES } else { 0 }
    }

    /// What it keeps now, or will from its first message on, in bytes.
    pub fn kept_bytes(&self) -> usize {
        if self.takes_over || self.state.is_some() { INFLATE_STATE_BYTES } else { 0 }
    }

    /// Inflates some of `input` into `out`. Call again, with what was not taken, until it is done; `ends_message`: the
    /// message ends with this input.
    ///
    /// # Errors
    /// [`Fault::NotDeflate`]; the connection is of no further use then.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        ends_message: bool,
        out: &mut [u8],
        idle: &mut Idle<'_>,
    ) -> Result<Step, Fault> {
        let new_state = || Inflate::new(false, WINDOW_BITS_MAX);
        let state = self.state.get_or_insert_with(|| idle.0.pop().unwrap_or_else(new_state));
        let (mut taken, mut made) = (0, 0);
        if self.has_failed {
            return Err(Fault::NotDeflate);
        }
        loop {
            let rest = &input[taken..];
            if rest.is_empty() && !self.is_full {
                break;
            }
            if made == out.len() {
                return Ok(Step { taken, made, is_done: false });
            }
            let (taken_before, made_before) = (state.total_in(), state.total_out());
            let inflated = state.decompress(rest, &mut out[made..], InflateFlush::NoFlush);
            let took = (state.total_in() - taken_before) as usize;
            let added = (state.total_out() - made_before) as usize;
            taken += took;
            made += added;
            self.is_full = made == out.len();
            match inflated {
                Ok(Status::StreamEnd) => {
                    state.reset(false);
                    self.is_full = false;
                }
                Ok(_) if took > 0 || added > 0 || rest.is_empty() => {}
                _ => {
                    self.has_failed = true;
                    return Ok(Step { taken, made, is_done: false });
                }
            }
        }
        if ends_message {
            if !ends_with_tail(state) {
                self.has_failed = true;
                return Ok(Step { taken, made, is_done: false });
            }
            self.end_message(idle);
        }
        Ok(Step { taken, made, is_done: true })
    }

    fn end_message(&mut self, idle: &mut Idle<'_>) {
        if self.takes_over {
            return;
        }
        if let Some(mut state) = self.state.take().filter(|_| idle.0.len() < IDLE_STATES) {
            state.reset(false);
            idle.0.push(state);
        }
    }
}

/// Gives a decompressor, which has inflated all it could, the [`TAIL`]; says whether that was what the module's text asks for.
///
/// zlib has no word for where it is, but stops behind a block if asked to. So of the tail and a byte more it takes the tail alone
/// where a block ends with it; and of an empty block and a byte more, the block alone where that began at a whole byte.
fn ends_with_tail(state: &mut Inflate) -> bool {
    let mut takes_all_but_one = |bytes: &[u8]| {
        let (taken_before, made_before) = (state.total_in(), state.total_out());
        let inflated = state.decompress(bytes, &mut [0], InflateFlush::Block);
        let (took, made) = (state.total_in() - taken_before, state.total_out() - made_before);
        inflated == Ok(Status::Ok) && took == bytes.len() as u64 - 1 && made == 0
    };
    takes_all_but_one(&[0x00, 0x00, 0xFF, 0xFF, 0x00])
        && takes_all_but_one(&[0x00, 0x00, 0x00, 0xFF, 0xFF, 0x00])
}

#[cfg(test)]
mod tests;
