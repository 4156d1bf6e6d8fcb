//! What a server counts: one number for everything that befalls its connections, with names fit for a page of metrics.
//!
//! Invariants: every rejection, fault and timeout is counted twice, in all and by its kind, and nowhere but here; nothing is
//! counted for a message but the message itself. A name is that of its field: what `--stats` prints is what is written here.

use crate::engine::{Closed, Counters, counters};
use crate::scenario::echo::Answered;
use crate::scenario::frames::Frames;
use crate::ws::frame::{Fault, close_code};
use crate::ws::handshake::Rejection;

counters! {
    /// Why connections did not come about, or did not end well, by kind.
    pub struct Kinds {
        /// Failed with 1002: a breach of the protocol.
        faults_protocol,
        /// Failed with 1007: text that is not UTF-8, or what cannot be inflated.
        faults_invalid_data,
        /// Failed with 1008: more fragments or control frames than are put up with.
        faults_policy,
        /// Failed with 1009: a message over the limit.
        faults_too_big,
        /// Failed with 1013: there was no memory left for what compression keeps, or for what has to wait until it is inflated.
        faults_no_memory,
        /// Answered 400: a head that cannot be read, or asks for WebSocket wrongly.
        rejections_malformed,
        /// Answered 403: it may not come in.
        rejections_forbidden,
        /// Answered 404: another path.
        rejections_not_found,
        /// Answered 405 or 426: plain HTTP, or another version of WebSocket.
        rejections_not_websocket,
        /// Answered 429, or under TLS closed before the handshake: as many connections from its address as may be.
        rejections_from_address,
        /// Answered 431: a head over the limit.
        rejections_head_too_long,
        /// Answered 503, or under TLS closed before the handshake: as many connections in all as may be.
        rejections_full,
        /// The opening handshake was not over in time.
        timeouts_handshake,
        /// Nothing came for too long.
        timeouts_idle,
        /// A ping was left unanswered.
        timeouts_ping,
        /// A closing handshake was not over in time, or who was turned away did not go.
        timeouts_close,
        /// A peer stopped in the middle of a frame, or took nothing of what waited for it.
        timeouts_stall,
        /// Dropped without an answer: far more connections from its address than may be.
        drops_from_address,
        /// Reset by the peer, or broken otherwise.
        resets,
        /// Ended by the peer without a Close frame.
        hangups,
    }
}

counters! {
    /// What was done at the paths of other scenarios than the echo.
    pub struct Scenes {
        /// Messages that were published, on topics with subscribers or without.
        published,
        /// Messages that subscribers were sent.
        delivered,
        /// Messages that a subscriber was not sent, because too much waited for it (`--slow-consumer drop-newest`).
        slow_dropped,
        /// Subscribers failed with 1008, because too much waited for them (`--slow-consumer close`).
        slow_closed,
        /// Times that publishers had to wait for a subscriber (`--slow-consumer block`).
        slow_blocked,
        /// Messages that were pushed.
        pushed,
        /// JSON messages that were answered with an error.
        json_errors,
        /// Nanoseconds that were worked for messages.
        worked_ns,
    }
}

/// What of a peer was waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    Handshake,
    Bytes,
    Pong,
    Close,
    /// That it goes on with a frame, or with reading.
    Progress,
}

counters! {
    /// Counts of one thread, or of several together.
    pub struct Served {
        /// Connections now.
        connections,
        /// Messages received whole.
        messages,
        /// Of those, on connections that asked for stamps.
        messages_stamped,
        /// Of those, on connections that agreed on compression.
        messages_compressed,
        /// Closing handshakes that were completed, whoever began them.
        closes,
        /// Pings that were sent, because a peer was silent.
        pings,
        /// Requests for pages, by plain HTTP, that were answered.
        pages,
        /// Opening handshakes that were accepted.
        upgrades,
        /// Of those, agreed to compress without context takeover, because there was no memory left for it.
        upgrades_without_takeover,
        /// Bytes that messages came to on connections that compress.
        inflated_bytes,
        /// Opening handshakes that were turned down; [`Kinds`] says why.
        rejections,
        /// Connections failed for the peer's breach of the protocol or of a limit; [`Kinds`] says which.
        faults,
        /// Times that a peer took too long; [`Kinds`] says for what.
        timeouts,
        ; /// The same and more, by kind.
        kinds: Kinds
        ; /// Frames received, by opcode.
        frames: Frames
        ; /// What other scenarios than the echo have done.
        scenes: Scenes
        ; /// The engine's counters.
        engine: Counters
    }
}

impl Served {
    /// Every counter there is, by name.
    pub fn all_named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let ours =
            self.named().chain(self.kinds.named()).chain(self.frames.named()).chain(self.scenes.named());
        ours.chain(self.engine.named()).chain(self.engine.named_of_tls())
    }

    /// Takes over what a connection's input came to.
    #[inline]
    pub(super) fn on_answered(&mut self, answered: &Answered) {
        self.messages += answered.messages;
        self.frames += answered.frames;
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        self.faults += 1;
        let kinds = &mut self.kinds;
        *match fault.close_code() {
            close_code::INVALID_PAYLOAD => &mut kinds.faults_invalid_data,
            close_code::POLICY_VIOLATION => &mut kinds.faults_policy,
            close_code::TOO_BIG => &mut kinds.faults_too_big,
            close_code::TRY_AGAIN_LATER => &mut kinds.faults_no_memory,
            _ => &mut kinds.faults_protocol,
        } += 1;
    }

    pub(super) fn on_rejection(&mut self, rejection: &Rejection) {
        self.rejections += 1;
        let kinds = &mut self.kinds;
        *match rejection.status_code() {
            403 => &mut kinds.rejections_forbidden,
            404 => &mut kinds.rejections_not_found,
            405 | 426 => &mut kinds.rejections_not_websocket,
            429 => &mut kinds.rejections_from_address,
            431 => &mut kinds.rejections_head_too_long,
            503 => &mut kinds.rejections_full,
            _ => &mut kinds.rejections_malformed,
        } += 1;
    }

    pub(super) fn on_timeout(&mut self, awaited: Awaited) {
        self.timeouts += 1;
        let kinds = &mut self.kinds;
        *match awaited {
            Awaited::Handshake => &mut kinds.timeouts_handshake,
            Awaited::Bytes => &mut kinds.timeouts_idle,
            Awaited::Pong => &mut kinds.timeouts_ping,
            Awaited::Close => &mut kinds.timeouts_close,
            Awaited::Progress => &mut kinds.timeouts_stall,
        } += 1;
    }

    pub(super) fn on_closed(&mut self, why: &Closed) {
        self.kinds.resets += u64::from(matches!(why, Closed::Broken(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_name_of_its_own_and_sums_add_up_by_name() {
        let mut served = Served { messages: 5, ..Served::default() };
        served.engine.tls.timeouts = 3;
        let once = served;
        served += once;
        let named: Vec<_> = served.all_named().collect();
        let mut names: Vec<_> = named.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), named.len(), "a name is given twice: {named:?}");
        let other_than_zero: Vec<_> = named.into_iter().filter(|(_, value)| *value != 0).collect();
        assert_eq!(other_than_zero, [("messages", 10), ("tls_timeouts", 6)]);
    }

    #[test]
    fn what_is_counted_in_all_is_counted_by_kind() {
        let mut served = Served::default();
        for fault in [Fault::NotMasked, Fault::InvalidUtf8, Fault::MessageTooBig, Fault::NoMemory] {
            served.on_fault(fault);
        }
        for rejection in [Rejection::Busy, Rejection::NotFound, Rejection::Key, Rejection::Method] {
            served.on_rejection(&rejection);
        }
        for awaited in [Awaited::Handshake, Awaited::Bytes, Awaited::Pong, Awaited::Close, Awaited::Progress]
        {
            served.on_timeout(awaited);
        }
        assert_eq!((served.faults, served.rejections, served.timeouts), (4, 4, 5));
        let kinds: Vec<_> = served.kinds.named().map(|(_, count)| count).collect();
        assert_eq!(kinds.iter().sum::<u64>(), 4 + 4 + 5);
        assert!(kinds.iter().all(|&count| count <= 1), "each is of a kind of its own: {served:?}");
    }
}
