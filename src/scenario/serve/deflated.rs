//! The server's connections that agreed on permessage-deflate: when they are answered, when they have to wait, and how
//! those that wait come to their end.
//!
//! A connection waits where its answers do: what it sent is answered further when they have gone, which `on_writable` tells of
//! a slow peer, and a timer of a quick one. It waits as well where others have their turn: once a turn those that stand in line are
//! served.
//!
//! What compression keeps has a bound. What a connection keeps from message to message is set aside when it is agreed on; where there
//! is no room, the connection is agreed to without context takeover, at either end (RFC 7692, 7.1.1, lets a server say so unasked). Such a
//! one keeps something only while a message is under way that has come in part, and where there is no room for that either,
//! it is closed with 1013. Rejected: to decline, which the clients that insist on compression would have to take for a failure; and
//! to let it wait for room, which peers that never end their messages would never give.

use super::{Awaited, Peer, Serve, Served};
use crate::engine::{Connections, Io, Received};
use crate::scenario::deflate::{Account, DeflateParameters, DeflateSettings, Deflated, Entry, Workspace};
use crate::scenario::echo::Answered;
use crate::ws::extensions::{self, Agreement};
use crate::ws::handshake::Upgrade;

/// What a thread compresses with, if it does.
pub(super) struct Deflation {
    settings: DeflateSettings,
    space: Workspace,
}

/// What was agreed on with one client, and what was set aside for it.
pub(super) struct Agreed {
    pub(super) agreement: Agreement,
    reserved: Entry,
}

/// One connection.
pub struct Compressed {
    pub(super) deflated: Deflated,
    /// The peer will send nothing more, and must have taken what it waits for by then.
    ended_until_ns: Option<u64>,
}

impl<R: FnMut(Served)> Serve<R> {
    /// The same, and agrees to permessage-deflate where a client offers it. No more is inflated for a connection while
    /// more than `queued_bytes_max` wait to be sent on it.
    pub fn deflating(mut self, settings: DeflateSettings, queued_bytes_max: usize) -> Self {
        let unread = Account::new(self.limits.queued_bytes_in_all);
        let space = Workspace::new(queued_bytes_max).accounting(self.shared.deflate_memory.clone(), unread);
        self.deflation = Some(Box::new(Deflation { settings, space }));
        self.has_turns = true;
        self
    }

    /// What comes of a client's offers of compression.
    pub(super) fn agree(&mut self, upgrade: &Upgrade<'_>) -> Option<Agreed> {
        let Deflation { settings, space } = &**self.deflation.as_ref()?;
        let agree = |wanted: &DeflateParameters| {
            let agreed = extensions::agree(upgrade.extensions(), wanted);
            agreed.expect("the handshake has checked the grammar")
        };
        let agreement = agree(&settings.parameters)?;
        if let Some(reserved) = space.reserve(&agreement.parameters) {
            return Some(Agreed { agreement, reserved });
        }
        let agreement = agree(&DeflateParameters {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            ..settings.parameters
        })?;
        let reserved = space.reserve(&agreement.parameters)?;
        self.served.upgrades_without_takeover += 1;
        Some(Agreed { agreement, reserved })
    }

    /// A connection that agreed so.
    pub(super) fn compressed(&self, agreed: Agreed, now_ns: u64) -> Option<Peer> {
        let Deflation { settings, space } = &**self.deflation.as_ref()?;
        let (parameters, compression) = (&agreed.agreement.parameters, settings.compression);
        let message_bytes_max = self.limits.message_bytes;
        let mut deflated =
            Deflated::new(space, parameters, agreed.reserved, compression, message_bytes_max, now_ns);
        deflated.connection().bound(self.limits.bounds);
        Some(Peer::Compressed(Box::new(Compressed { deflated, ended_until_ns: None })))
    }

    /// Serves those that stand in line, as many as may be in a turn; when to be called again.
    #[cold]
    pub(super) fn serve_line(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        let now_ns = connections.now_ns();
        while let Some(id) = self.deflation.as_mut()?.space.next_in_line() {
            let Some((conn, mut io)) = connections.get(id) else { continue };
            let (Peer::Compressed(compressed), Some(deflation)) = (&mut *conn, &mut self.deflation) else {
                continue;
            };
            // It is we who let it wait.
            let until_ns = now_ns.saturating_add(self.limits.close_ns);
            compressed.ended_until_ns = compressed.ended_until_ns.and(Some(until_ns));
            let answered = compressed.deflated.take_turn(&mut deflation.space, &mut io, now_ns);
            self.on_answered(conn, &mut io, answered, now_ns);
        }
        self.deflation.as_ref()?.space.is_anybody_in_line().then_some(now_ns)
    }

    /// The sockets have been looked at.
    #[inline]
    pub(super) fn begin_turn(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        let deflation = self.deflation.as_mut()?;
        deflation.space.begin_turn();
        if deflation.space.is_anybody_in_line() { self.serve_line(connections) } else { None }
    }

    /// Bytes that messages came to so far, on connections that compress.
    pub fn inflated_bytes(&self) -> u64 {
        self.deflation.as_ref().map_or(0, |deflation| deflation.space.inflated_bytes())
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
        self.on_answered(conn, io, answered, now_ns);
    }

    /// A slow peer has taken all that waited for it.
    #[cold]
    pub(super) fn on_sent(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let (Peer::Compressed(compressed), Some(deflation)) = (&mut *conn, &mut self.deflation) else {
            return;
        };
        if compressed.deflated.is_stalled() {
            let answered = compressed.deflated.on_sent(&mut deflation.space, io, now_ns);
            self.on_answered(conn, io, answered, now_ns);
        }
    }

    /// Goes on where a connection had to wait, as far as it can, or gives it up.
    #[cold]
    pub(super) fn go_on(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let (Peer::Compressed(compressed), Some(deflation)) = (&mut *conn, &mut self.deflation) else {
            return;
        };
        if !compressed.deflated.is_stalled() {
            return;
        }
        if let Some(until_ns) = compressed.ended_until_ns {
            if until_ns <= now_ns {
                self.served.on_timeout(Awaited::Progress);
                return io.abort();
            }
            io.wake_by(until_ns);
        }
        let answered = compressed.deflated.on_time(&mut deflation.space, io, now_ns);
        self.on_answered(conn, io, answered, now_ns);
    }

    fn on_answered(&mut self, conn: &mut Peer, io: &mut Io<'_>, answered: Answered, now_ns: u64) {
        let Peer::Compressed(compressed) = &mut *conn else { return };
        self.served.on_answered(&answered);
        self.served.messages_compressed += answered.messages;
        let is_open = compressed.deflated.connection().is_open();
        if is_open && compressed.deflated.is_stalled() {
            return;
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
    pub(super) fn awaits_answers(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) -> bool {
        let Peer::Compressed(compressed) = conn else { return false };
        let is_owed = compressed.deflated.is_stalled() && compressed.deflated.connection().is_open();
        let until_ns = now_ns + self.limits.close_ns;
        compressed.ended_until_ns = is_owed.then_some(until_ns);
        if is_owed {
            io.wake_by(until_ns);
        }
        is_owed
    }
}
