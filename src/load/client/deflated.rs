//! The generator's connections that agreed on permessage-deflate: messages are compressed as they are sent, and answers
//! inflated and checked byte by byte like any other.
//!
//! Compressing is part of composing a message, so its time counts as the generator's, before the message is on its way: it is in
//! the response time, and in the service time.
//!
//! Invariant: the messages counted here are those of the books, sent and answered, with what they came to on the wire.

use super::{Client, Peer, Protocol, Sent};
use crate::engine::Io;
use crate::limits;
use crate::measure::result::Wire;
use crate::ws::connection::Event;
use crate::ws::deflate::{Compressor, DeflateSettings, DeflateSpace, InflateSpace};
use crate::ws::deflating::{Deflating, Payload};
use crate::ws::extensions::DeflateParameters;
use crate::ws::frame::{Fault, MAX_HEADER_BYTES, RSV1, Role, parse};

/// What a thread's connections compress with.
pub(super) struct Deflation {
    settings: DeflateSettings,
    /// What the first connection agreed on, and so all have to.
    agreed: Option<DeflateParameters>,
    wire: Wire,
    inflate: InflateSpace,
    deflate: DeflateSpace,
    message: Vec<u8>,
}

/// One connection.
pub(super) struct Compressed {
    pub(super) messages: Deflating,
    compressor: Compressor,
}

impl Deflation {
    pub(super) fn new(settings: DeflateSettings) -> Self {
        let (inflate, deflate) = (InflateSpace::default(), DeflateSpace::default());
        Self { settings, agreed: None, wire: Wire::default(), inflate, deflate, message: Vec::new() }
    }

    /// What to offer.
    pub(super) fn offer(&self) -> DeflateParameters {
        self.settings.parameters
    }

    /// A connection whose server answered so.
    ///
    /// # Errors
    /// It declined, or does not treat all connections alike.
    pub(super) fn open(
        &mut self,
        agreed: Option<DeflateParameters>,
        now_ns: u64,
    ) -> Result<Protocol, String> {
        let Some(parameters) = agreed else {
            return Err(
                "the server declined permessage-deflate (ringsock-server agrees with --deflate)".to_owned()
            );
        };
        if *self.agreed.get_or_insert(parameters) != parameters {
            return Err("the server agreed to other parameters of permessage-deflate than before \
                        (ringsock-server: raise --max-deflate-memory)"
                .to_owned());
        }
        Ok(Protocol::Compressed(Box::new(Compressed {
            messages: Deflating::new(Role::Client, &parameters, limits::MESSAGE_BYTES, now_ns),
            compressor: Compressor::new(&parameters, Role::Client, self.settings.compression),
        })))
    }
}

impl Client {
    /// What the connections agreed on.
    pub(super) fn agreed(&self) -> Option<DeflateParameters> {
        self.deflation.as_ref()?.agreed
    }

    /// What messages came to on the wire; nothing where none may be compressed.
    pub(super) fn wire(&self) -> Wire {
        self.deflation.as_ref().map(|deflation| deflation.wire).unwrap_or_default()
    }

    /// Sends the next message of a connection, if it compresses.
    pub(super) fn send_compressed(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        intended_ns: u64,
        now_ns: u64,
    ) {
        let key = self.random_key();
        let (Protocol::Compressed(compressed), Some(deflation)) = (&mut conn.protocol, &mut self.deflation)
        else {
            return;
        };
        let Deflation { deflate, message, wire, .. } = &mut **deflation;
        message.clear();
        self.task.payloads.compose(conn.next_number, message);
        // One write is one frame, so one key is enough.
        compressed.compressor.write(message, self.task.payloads.text(), true, deflate, || Some(key));
        if self.window.measures(intended_ns) {
            let (is_compressed, wire_bytes) = looks(&deflate.frames);
            wire.sent.add(is_compressed, message.len() as u64, wire_bytes);
        }
        io.write(|out| out.extend_from_slice(&deflate.frames));
        deflate.clear_frames();
        conn.next_number += 1;
        conn.in_flight.push_back(Sent { intended_ns, sent_ns: now_ns });
        self.note_sent(intended_ns);
    }

    /// What came on a connection that compresses.
    pub(super) fn on_compressed_frames(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        memory: &mut [u8],
        now_ns: u64,
    ) {
        let mut at = 0;
        loop {
            let Protocol::Compressed(compressed) = &mut conn.protocol else { return };
            let event = match compressed.messages.next(&mut memory[at..]) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(fault) => return conn.on_fault(io, fault, now_ns),
            };
            let start = at;
            at += event.consumed();
            match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    let payload = compressed.messages.unmask(&data, memory, from);
                    // Taken out, since what is inflated there is checked by all of the client.
                    let Some(mut deflation) = self.deflation.take() else { return };
                    let read = self.read_payload(conn, payload, &memory[from..at], &mut deflation.inflate);
                    self.deflation = Some(deflation);
                    match read {
                        Ok(()) if payload.ends_message => self.on_compressed_answer(conn, io, now_ns),
                        Ok(()) => {}
                        Err(fault) => return conn.on_fault(io, fault, now_ns),
                    }
                }
                Event::Ping { .. } => self.on_ping(conn, io),
                Event::Pong { .. } => {}
                Event::Close { code, .. } => self.on_close(conn, io, code, now_ns),
            }
        }
    }

    /// Whether an answer counts is for the books to say.
    fn on_compressed_answer(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let Protocol::Compressed(compressed) = &conn.protocol else { return };
        let seen = compressed.messages.seen();
        let answered_before = self.tally.accounting.answered;
        self.on_answer(conn, io, now_ns);
        if self.tally.accounting.answered > answered_before
            && let Some(deflation) = &mut self.deflation
        {
            deflation.wire.answers.add(seen.compressed, seen.payload_bytes, seen.wire_bytes);
        }
    }

    fn read_payload(
        &mut self,
        conn: &mut Peer,
        payload: Payload,
        mut rest: &[u8],
        space: &mut InflateSpace,
    ) -> Result<(), Fault> {
        loop {
            let Protocol::Compressed(compressed) = &mut conn.protocol else { return Ok(()) };
            let piece = compressed.messages.read(payload, rest, space)?;
            rest = &rest[piece.taken..];
            let is_last = piece.is_last;
            self.on_piece(conn, payload.text, piece.bytes);
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Whether the payload of a frame that we made is compressed, and how long it is.
fn looks(frame: &[u8]) -> (bool, u64) {
    let mut head = [0; MAX_HEADER_BYTES];
    let head_bytes = frame.len().min(MAX_HEADER_BYTES);
    head[..head_bytes].copy_from_slice(&frame[..head_bytes]);
    let is_compressed = head[0] & RSV1 != 0;
    head[0] &= !RSV1;
    let header = parse(&head[..head_bytes], Role::Client).ok().flatten();
    let (header, _) = header.expect("what we compress is in frames of ours");
    (is_compressed, header.payload_bytes)
}
