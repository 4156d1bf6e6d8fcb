//! `echo`: the server sends every message back as it came.
//!
//! The server's side composes its answer in the memory that the request arrived in; it never copies payload,
//! and never holds a message together. The client's side numbers its messages and checks every byte of every
//! answer, so that a wrong, missing, repeated or reordered one cannot go unseen.

use crate::engine::{HEADROOM_BYTES, Io, Received};
use crate::ws::connection::{Connection, Event};
use crate::ws::frame::{ControlFrame, Fault, MAX_UNMASKED_HEADER_BYTES};
use crate::ws::in_place::InPlace;
use crate::ws::mask::Mask;

const _: () = assert!(HEADROOM_BYTES >= MAX_UNMASKED_HEADER_BYTES, "a reply header must fit in front");

/// Servers don't mask (RFC 6455, 5.1).
const NO_KEY: Mask = Mask::from_bytes([0; 4]);

/// What happened on the server's side while it answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Messages that ended.
    pub messages: u64,
    /// The peer's fault that failed the connection, if any.
    pub fault: Option<Fault>,
}

/// Answers what arrived after the first `skipped_bytes` of `received`.
#[inline]
pub fn answer(
    connection: &mut Connection,
    io: &mut Io<'_>,
    received: Received<'_>,
    skipped_bytes: usize,
    now_ns: u64,
) -> Answered {
    let mut answered = Answered::default();
    let mut in_place = InPlace::new(received.memory, received.range);
    in_place.skip(skipped_bytes);
    connection.on_received(now_ns);
    if let Err(fault) = converse(connection, io, &mut in_place, &mut answered) {
        answered.fault = Some(fault);
        send_control(io, &mut in_place, connection.fail(fault, now_ns, NO_KEY));
    }
    io.reply_in_place(in_place.take_reply());
    answered
}

#[inline]
fn converse(
    connection: &mut Connection,
    io: &mut Io<'_>,
    in_place: &mut InPlace<'_>,
    answered: &mut Answered,
) -> Result<(), Fault> {
    while let Some(event) = in_place.next(connection)? {
        match event {
            Event::Data(data) => {
                if connection.is_open() {
                    in_place.echo(connection, &data)?;
                } else {
                    in_place.discard(connection, &data)?;
                }
                answered.messages += u64::from(data.ends_message());
            }
            Event::Ping { .. } => send_control(io, in_place, connection.pong(NO_KEY)),
            Event::Pong { .. } => {}
            Event::Close { .. } => send_control(io, in_place, connection.reply_to_close(NO_KEY)),
        }
    }
    Ok(())
}

#[cold]
fn send_control(io: &mut Io<'_>, in_place: &mut InPlace<'_>, frame: Option<ControlFrame>) {
    let Some(frame) = frame else { return };
    if !in_place.append(&frame) {
        io.reply_in_place(in_place.take_reply());
        io.write(|out| out.extend_from_slice(frame.as_bytes()));
    }
}
