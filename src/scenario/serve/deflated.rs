//! The server's connections that agreed on permessage-deflate: when they are answered, when they have to wait, and how
//! those that wait come to their end.
//!
//! A connection waits where its answers do: what it sent is answered further when they have gone, which `on_writable` tells of
//! a slow peer, and a timer of a quick one.

use super::{Awaited, Peer, Serve, Served};
use crate::engine::{Io, Received};
use crate::scenario::deflate::{Compression, DeflateParameters, DeflateSettings, Deflated, Workspace};
use crate::scenario::echo::Answered;
use crate::ws::extensions::{self, Agreement};
use crate::ws::handshake::Upgrade;

/// How often the answers that a connection waits for are looked at.
const LOOK_NS: u64 = 1_000_000;

/// What a thread compresses with, if it does.
pub(super) struct Deflation {
    settings: DeflateSettings,
    space: Workspace,
}

/// One connection.
pub struct Compressed {
    pub(super) deflated: Deflated,
    /// The peer will send nothing more, and must have taken what it waits for by then.
    ended_until_ns: Option<u64>,
}

impl Compressed {
    fn new(
        parameters: &DeflateParameters,
        compression: Compression,
        message_bytes_max: u64,
        now_ns: u64,
    ) -> Self {
        let deflated = Deflated::new(parameters, compression, message_bytes_max, now_ns);
        Self { deflated, ended_until_ns: None }
    }
}

impl<R: FnMut(Served)> Serve<R> {
    /// The same, and agrees to permessage-deflate where a client offers it. No more is inflated for a connection while
    /// more than `queued_bytes_max` wait to be sent on it.
    pub fn deflating(mut self, settings: DeflateSettings, queued_bytes_max: usize) -> Self {
        self.deflation = Some(Box::new(Deflation { settings, space: Workspace::new(queued_bytes_max) }));
        self
    }

    /// What comes of a client's offers of compression.
    pub(super) fn agree(&self, upgrade: &Upgrade<'_>) -> Option<Agreement> {
        let deflation = self.deflation.as_ref()?;
        let agreed = extensions::agree(upgrade.extensions(), &deflation.settings.parameters);
        agreed.expect("the handshake has checked the grammar")
    }

    /// A connection that agreed so.
    pub(super) fn compressed(&self, parameters: &DeflateParameters, now_ns: u64) -> Option<Peer> {
        let compression = self.deflation.as_ref()?.settings.compression;
        let message_bytes_max = self.limits.message_bytes;
        let mut compressed = Compressed::new(parameters, compression, message_bytes_max, now_ns);
        compressed.deflated.connection().bound(self.limits.bounds);
        Some(Peer::Compressed(Box::new(compressed)))
    }

    #[cold]
    pub(super) fn on_compressed_frames(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        received: Received<'_>,
        skipped_bytes: usize,
        now_ns: u64,
    ) {
        let (Peer::Compressed(compressed), Some(deflation)) = (&mut *conn, &mut self.deflation) else {
            return;
        };
        let mut range = received.range;
        range.start += skipped_bytes;
        let arrived = &mut received.memory[range];
        let answered = compressed.deflated.answer(&mut deflation.space, io, arrived, now_ns);
        self.on_answered(conn, io, answered, now_ns + 1, now_ns);
    }

    /// Goes on where a connection had to wait, as far as it can.
    #[cold]
    pub(super) fn go_on(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let (Peer::Compressed(compressed), Some(deflation)) = (&mut *conn, &mut self.deflation) else {
            return;
        };
        if !compressed.deflated.is_stalled() {
            return;
        }
        if compressed.ended_until_ns.is_some_and(|until_ns| until_ns <= now_ns) {
            self.served.on_timeout(Awaited::Progress);
            return io.abort();
        }
        let answered = compressed.deflated.go_on(&mut deflation.space, io, now_ns);
        self.on_answered(conn, io, answered, now_ns + LOOK_NS, now_ns);
    }

    fn on_answered(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        answered: Answered,
        look_ns: u64,
        now_ns: u64,
    ) {
        let Peer::Compressed(compressed) = &mut *conn else { return };
        self.served.messages += answered.messages;
        let is_open = compressed.deflated.connection().is_open();
        if is_open && compressed.deflated.is_stalled() {
            return io.wake_by(look_ns);
        }
        let has_ended = compressed.ended_until_ns.is_some();
        if !is_open || self.is_draining() {
            self.on_frames_while_closing(conn, io, answered.fault, now_ns);
        } else if has_ended {
            self.served.kinds.hangups += 1;
            self.part(conn, io, now_ns);
        }
    }

    /// The peer will send nothing more; says whether it is still owed answers.
    #[cold]
    pub(super) fn awaits_answers(&mut self, conn: &mut Peer, now_ns: u64) -> bool {
        let Peer::Compressed(compressed) = conn else { return false };
        let is_owed = compressed.deflated.is_stalled() && compressed.deflated.connection().is_open();
        compressed.ended_until_ns = is_owed.then_some(now_ns + self.limits.close_ns);
        is_owed
    }
}
