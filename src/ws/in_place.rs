//! A receive buffer that is read from the front and answered in the same memory.
//!
//! A masked request header is 4 bytes longer than the reply's, so each reply fits in front of where its
//! payload stands: replies begin at a cache line and follow each other, each payload moving down while it is
//! unmasked. Many small requests in one buffer become one contiguous answer, sent without a copy.
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

    /// Answers the short messages that come next, as long as each is whole, with themselves; says how many, and how many of
    /// them were text.
    /// [`InPlace::next`] and [`InPlace::echo`] would do the same, at three times the cost.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`]; nothing of that message is in the reply then.
    #[inline(always)]
    pub fn echo_short_messages(&mut self, connection: &mut Connection) -> Result<(u64, u64), Fault> {
        let (mut message_count, mut text_count) = (0, 0);
        if !connection.takes_whole_messages(MAX_CONTROL_BYTES as u64) {
            return Ok((0, 0));
        }
        while let Some(message) = ShortMessage::parse(&self.memory[self.read..self.end]) {
            let payload_at = self.read + ShortMessage::HEADER_BYTES;
            let read = payload_at + message.payload_bytes;
            if read > self.end {
                break;
            }
            if self.reply.is_empty() {
                let start = aligned(payload_at - ShortMessage::REPLY_HEADER_BYTES, self.floor);
                self.reply = start..start;
            }
            let at = self.reply.end;
            let to = at + ShortMessage::REPLY_HEADER_BYTES;
            self.memory[at..to].copy_from_slice(&[message.first, message.payload_bytes as u8]);
            mask::unmask_down(message.mask, self.memory, payload_at, message.payload_bytes, to);
            let end = to + message.payload_bytes;
            if message.is_text() {
                connection.check_whole_text(&self.memory[to..end])?;
                text_count += 1;
            }
            self.reply.end = end;
            self.read = read;
            message_count += 1;
        }
        Ok((message_count, text_count))
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
            let start = aligned(payload_at - header_bytes, self.floor);
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

    /// The last `byte_count` bytes of the reply: the payload of the piece that [`InPlace::echo`] has just answered.
    pub fn last_mut(&mut self, byte_count: usize) -> &mut [u8] {
        debug_assert!(byte_count <= self.reply.len());
        &mut self.memory[self.reply.end - byte_count..self.reply.end]
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

/// The fragment that answers one piece of a text frame. Inline, so that `data` stays in registers.
#[inline(always)]
fn text_fragment(data: &Data) -> Header {
    let chunk = &data.chunk;
    let opcode = if chunk.first { chunk.opcode } else { super::frame::Opcode::Continuation };
    Header { fin: chunk.fin && chunk.last, opcode, mask: None, payload_bytes: chunk.payload_bytes as u64 }
}

/// Moving payload costs nothing beyond unmasking it, and the kernel copies from aligned memory faster.
#[inline(always)]
fn aligned(start: usize, floor: usize) -> usize {
    (start & !63).max(floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::frame::{Opcode, Role};
    use crate::ws::mask::{self, Mask};

    const HEADROOM_BYTES: usize = 16;
    const KEY: Mask = Mask::from_bytes([1, 2, 3, 4]);

    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let header = Header { fin: true, opcode, mask: Some(KEY), payload_bytes: payload.len() as u64 };
        let mut bytes = vec![0; header.encoded_bytes()];
        header.encode(&mut bytes);
        bytes.extend_from_slice(payload);
        mask::unmask(KEY, &mut bytes[header.encoded_bytes()..]);
        bytes
    }

    fn server() -> Connection {
        Connection::new(Role::Server, 1 << 20, 0)
    }

    fn memory_with(received: &[u8]) -> (Vec<u8>, Range<usize>) {
        let memory = [&[0; HEADROOM_BYTES], received].concat();
        let range = HEADROOM_BYTES..memory.len();
        (memory, range)
    }

    /// Echoes messages and answers pings; the pongs that did not fit are returned.
    fn answer(connection: &mut Connection, in_place: &mut InPlace<'_>) -> Vec<ControlFrame> {
        let mut apart = Vec::new();
        while let Some(event) = in_place.next(connection).unwrap() {
            match event {
                Event::Data(data) => in_place.echo(connection, &data).unwrap(),
                _ => apart.extend(connection.pong(KEY).filter(|pong| !in_place.append(pong))),
            }
        }
        apart
    }

    #[test]
    fn small_messages_and_pings_in_one_buffer_become_one_contiguous_answer() {
        let (mut asked, mut due) = (Vec::new(), Vec::new());
        for number in 0..50 {
            asked.extend(frame(Opcode::Binary, &[number; 16]));
            due.extend([0x82, 16]);
            due.extend([number; 16]);
        }
        asked.extend(frame(Opcode::Ping, b"?"));
        due.extend([0x8A, 1, b'?']);
        let (mut memory, range) = memory_with(&asked);
        let mut in_place = InPlace::new(&mut memory, range);
        assert!(answer(&mut server(), &mut in_place).is_empty());
        let reply = in_place.take_reply();
        assert!(in_place.take_reply().is_empty() && in_place.unread().is_empty());
        assert_eq!(memory[reply], due);
    }

    #[test]
    fn a_reply_that_was_taken_is_not_written_over_by_the_next() {
        let (mut memory, range) =
            memory_with(&[frame(Opcode::Text, &[b'1'; 110]), frame(Opcode::Ping, b"2")].concat());
        let (mut connection, mut in_place) = (server(), InPlace::new(&mut memory, range));
        let mut taken = Vec::new();
        while let Some(event) = in_place.next(&mut connection).unwrap() {
            match event {
                Event::Data(data) => in_place.echo(&mut connection, &data).unwrap(),
                _ => assert!(in_place.append(&connection.pong(KEY).unwrap())),
            }
            taken.push(in_place.take_reply());
        }
        let long_close = connection.close(1001, &"x".repeat(100), 0, KEY).unwrap();
        assert!(!in_place.append(&long_close), "there is room only where the replies stand");
        let replies: Vec<&[u8]> = taken.into_iter().map(|range| &memory[range]).collect();
        assert_eq!(replies, [&[&b"\x81\x6E"[..], &[b'1'; 110]].concat()[..], b"\x8A\x012"]);
    }

    #[test]
    fn a_pong_with_no_room_in_place_is_left_to_the_caller() {
        let ping = frame(Opcode::Ping, &[b'x'; 125]);
        let (before, rest) = ping.split_at(ping.len() - 1);
        let mut connection = server();
        let (mut memory, range) = memory_with(before);
        assert!(answer(&mut connection, &mut InPlace::new(&mut memory, range)).is_empty());

        let (mut memory, range) = memory_with(&[rest, &frame(Opcode::Text, b"next")].concat());
        let mut in_place = InPlace::new(&mut memory, range);
        let apart = answer(&mut connection, &mut in_place);
        assert_eq!(apart.len(), 1);
        assert_eq!(apart[0].as_bytes()[..2], [0x8A, 125]);
        let reply = in_place.take_reply();
        assert_eq!(memory[reply], *b"\x81\x04next");
    }

    #[test]
    fn nothing_of_a_piece_with_invalid_text_is_in_the_reply() {
        let (mut memory, range) =
            memory_with(&[frame(Opcode::Text, b"ok"), frame(Opcode::Text, b"a\xFF")].concat());
        let (mut connection, mut in_place) = (server(), InPlace::new(&mut memory, range));
        let faults = std::iter::from_fn(|| match in_place.next(&mut connection).unwrap()? {
            Event::Data(data) => Some(in_place.echo(&mut connection, &data)),
            other => panic!("{other:?}"),
        });
        assert_eq!(faults.collect::<Vec<_>>(), [Ok(()), Err(Fault::InvalidUtf8)]);
        let reply = in_place.take_reply();
        assert_eq!(memory[reply], *b"\x81\x02ok");
    }
}
