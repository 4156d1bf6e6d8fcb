//! How much a thread inflates and compresses before it looks at its other connections again, and who is next.
//!
//! A kilobyte may inflate to a megabyte, so time is shared by what is done, not by what came: *work* is bytes that were read, bytes
//! that they came to, and [`MESSAGE_WORK`] for each end of a message. A call does [`CALL_WORK`] at most and then stands in line,
//! and all calls of a turn do [`TURN_WORK`]; what arrives after that goes into the line unread.
//!
//! Invariants: between two looks at its sockets a thread does no more than [`WORK_MAX`], however many connections there are; while
//! anybody stands in line it does not sleep. Who has only just come is served before those who have had a call already, so a peer
//! that sends little does not wait for those that sent much; of these, one at least is served in each turn, and they come in turn.

use std::collections::VecDeque;

use crate::engine::ConnId;

/// Of one call.
pub(super) const CALL_WORK: usize = 256 << 10;
/// Of all calls of a turn, each of which may be begun with the last of it.
const TURN_WORK: usize = 1 << 20;
/// What a message costs beside its bytes: a flush, and a compressor that is made fit for the next.
pub(super) const MESSAGE_WORK: usize = 512;
/// Most of a payload that is read at once, and so most that a call overdoes it by, but for one inflated piece.
pub(super) const PIECE_BYTES: usize = 16 << 10;
/// Most that is done between two looks at the sockets: a turn's work, the call that was begun with the last of it, and one more for who
/// would not be served else; each overdone by a piece read and a piece inflated.
pub const WORK_MAX: usize =
    TURN_WORK + 2 * CALL_WORK + 2 * (PIECE_BYTES + crate::ws::deflate::INFLATED_BYTES);

/// Connections of a thread that have something left to do.
#[derive(Debug, Default)]
pub(super) struct Turns {
    left_work: usize,
    /// Those of whom nothing was done yet since they came.
    fresh: VecDeque<ConnId>,
    /// The others.
    begun: VecDeque<ConnId>,
    /// One of them was served in this turn.
    has_served: bool,
}

impl Turns {
    /// What the next call may do.
    pub(super) fn may_begin(&self) -> bool {
        self.left_work > 0
    }

    /// Somebody has done so much.
    pub(super) fn spend(&mut self, work: usize) {
        self.left_work = self.left_work.saturating_sub(work);
    }

    /// There is more to do for `id`, which stands nowhere in the line.
    pub(super) fn line_up(&mut self, id: ConnId, has_begun: bool) {
        if has_begun { self.begun.push_back(id) } else { self.fresh.push_back(id) }
    }

    /// The sockets have been looked at.
    pub(super) fn begin(&mut self) {
        (self.left_work, self.has_served) = (TURN_WORK, false);
    }

    /// Who is to be served now, if anybody still is in this turn.
    pub(super) fn next(&mut self) -> Option<ConnId> {
        if self.left_work > 0
            && let Some(id) = self.fresh.pop_front()
        {
            return Some(id);
        }
        if self.left_work > 0 || !self.has_served {
            self.has_served = true;
            return self.begun.pop_front();
        }
        None
    }

    /// Somebody has to be served in the next turn.
    pub(super) fn is_anybody_left(&self) -> bool {
        !self.fresh.is_empty() || !self.begun.is_empty()
    }
}
