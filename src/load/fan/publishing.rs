//! How publications leave: due by schedule or brought by their own copies, and held back while the server does not read.
//!
//! Invariant: what is due is published, kept in its publisher's backlog, or counted as unsent, as often as it was to be delivered; a
//! publication is on the board before it is in any connection's output.

use std::collections::VecDeque;

use super::board::Truth;
use super::{Fan, Stage, Subscriber};
use crate::engine::{ConnId, Connections, Io};
use crate::load::client::fragment;
use crate::scenario::broadcast::Publication;
use crate::ws::mask::Mask;

/// Output of earlier turns that may wait on a connection before publications wait in the generator: the server is not reading.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// Output that a turn may queue on a connection.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// Publications that the schedule may have sent before the engine has its turn.
pub(super) const SENDS_PER_TURN_MAX: usize = 1 << 8;
/// Those that fell due in the window's last turn and are sent after its end.
pub(super) const SENDS_AT_END_MAX: usize = 1 << 10;

/// A connection that publishes.
pub(super) struct Publisher {
    /// Once it is open, for as long as it is.
    pub(super) id: Option<ConnId>,
    /// Which one it is of all threads'.
    pub(super) number: u32,
    published: u64,
    /// When those were due that wait for the server to read.
    pub(super) backlog: VecDeque<u64>,
    /// The turn that looked last whether there is room, and what was waiting from earlier ones then.
    looked_ns: u64,
    waiting_bytes: usize,
}

/// Whether another message may be queued on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Free,
    /// This turn has queued enough.
    Full,
    /// What earlier turns queued is still there: the server does not read.
    NotRead,
}

impl Fan {
    /// How many one of its publications is to come to.
    pub(super) fn fan_out(&self, place: usize) -> u64 {
        let room = self.publishers[place].number as usize % self.part.board.rooms();
        self.tally.fan.as_ref().map_or(0, |log| log.rooms[room])
    }

    /// In a closed loop: one more.
    pub(super) fn publish_next(&mut self, connections: &mut Connections<Subscriber>, place: usize) {
        let Some((conn, mut io)) = self.publishers[place].id.and_then(|id| connections.get(id)) else {
            return;
        };
        if conn.failure.is_none() {
            self.publish(place, &mut io, None);
        }
    }

    /// Publishes what was due then; `None`: now.
    pub(super) fn publish(&mut self, place: usize, io: &mut Io<'_>, due_ns: Option<u64>) {
        let sent_ns = io.clock_ns();
        let due_ns = due_ns.unwrap_or(sent_ns);
        let truth = Truth { due_ns, sent_ns, is_measured: self.window.measures(due_ns) };
        let publisher = &mut self.publishers[place];
        let number = publisher.published;
        publisher.published += 1;
        let publication = Publication { publisher: publisher.number.into(), number, sent_ns };
        self.part.board.publish(publisher.number as usize, number, truth);
        self.message.clear();
        publication.compose(self.part.payload_bytes, &mut self.message);
        let random = &mut self.task.random;
        let key = || Mask::from_bytes(random.u32(..).to_ne_bytes());
        io.write(|out| fragment(&self.message, false, 1, key, out));
        self.worked = true;
        let fan_out = self.fan_out(place);
        if truth.is_measured {
            self.tally.on_published(fan_out);
            self.tally.fan.iter_mut().for_each(|log| log.publications += 1);
        } else {
            self.tally.accounting.warmup_messages += fan_out;
        }
    }

    /// Publishes what the schedule has due, `count_max` at most; says when the next is.
    pub(super) fn publish_due(
        &mut self,
        connections: &mut Connections<Subscriber>,
        count_max: usize,
    ) -> Option<u64> {
        for _ in 0..count_max {
            let due_ns = self.window.start_ns + self.task.schedule.as_ref()?.next_ns();
            if due_ns >= self.window.end_ns {
                return Some(self.window.end_ns);
            }
            let now_ns = connections.clock_ns();
            if due_ns > now_ns {
                return Some(due_ns);
            }
            self.task.schedule.as_mut()?.advance();
            self.publish_in_turn(connections, due_ns, now_ns);
        }
        Some(0)
    }

    fn publish_in_turn(&mut self, connections: &mut Connections<Subscriber>, due_ns: u64, now_ns: u64) {
        self.turn = if self.turn + 1 < self.publishers.len() { self.turn + 1 } else { 0 };
        let place = self.turn;
        let fan_out = self.fan_out(place);
        let Some((conn, mut io)) = self.publishers[place].id.and_then(|id| connections.get(id)) else {
            return self.tally.on_many_unsent(&self.window, due_ns, fan_out);
        };
        let lagging = self.tally.slice.lagging;
        self.tally.on_due(&self.window, due_ns, now_ns);
        self.tally.slice.lagging = lagging + (self.tally.slice.lagging - lagging) * fan_out;
        if conn.failure.is_some() {
            // Closed by the server, or given up, and not gone yet.
            return self.tally.on_many_unsent(&self.window, due_ns, fan_out);
        }
        let publisher = &mut self.publishers[place];
        let space = publisher.space(&io, self.last_turn_ns);
        if space == Space::Free && publisher.backlog.is_empty() {
            return self.publish(place, &mut io, Some(due_ns));
        }
        publisher.backlog.push_back(due_ns);
        self.has_backlogs = true;
        if space == Space::NotRead && self.window.measures(due_ns) {
            self.tally.held_back += fan_out;
        }
    }

    pub(super) fn publish_backlogs(&mut self, connections: &mut Connections<Subscriber>) {
        self.has_backlogs = false;
        for place in 0..self.publishers.len() {
            let Some((conn, mut io)) = self.publishers[place].id.and_then(|id| connections.get(id)) else {
                continue;
            };
            while conn.failure.is_none()
                && self.publishers[place].space(&io, self.last_turn_ns) == Space::Free
                && let Some(due_ns) = self.publishers[place].backlog.pop_front()
            {
                self.publish(place, &mut io, Some(due_ns));
            }
            self.has_backlogs |= !self.publishers[place].backlog.is_empty();
        }
    }

    /// Nothing is published from here on; what should have been is counted.
    pub(super) fn stop_publishing(&mut self) {
        self.stage = Stage::Draining;
        for place in 0..self.publishers.len() {
            let fan_out = self.fan_out(place);
            for due_ns in std::mem::take(&mut self.publishers[place].backlog) {
                self.tally.on_many_unsent(&self.window, due_ns, fan_out);
            }
        }
        if let Some(mut schedule) = self.task.schedule.take() {
            let window = self.window;
            for end_ns in [window.measure_ns, window.end_ns] {
                schedule.pass_over(end_ns.saturating_sub(window.start_ns), |after_ns, count| {
                    self.turn = (self.turn + 1) % self.publishers.len().max(1);
                    let fan_out = self.fan_out(self.turn);
                    self.tally.on_many_unsent(&window, window.start_ns + after_ns, count * fan_out);
                });
            }
        }
        if std::mem::take(&mut self.may_publish) {
            self.part.board.stop_publishing();
        }
    }
}

impl Publisher {
    pub(super) fn new(ordinal: usize) -> Self {
        Self {
            id: None,
            number: ordinal as u32,
            published: 0,
            backlog: VecDeque::new(),
            looked_ns: 0,
            waiting_bytes: 0,
        }
    }

    /// In the turn that began at `turn_ns`.
    fn space(&mut self, io: &Io<'_>, turn_ns: u64) -> Space {
        let queued_bytes = io.queued_bytes();
        if self.looked_ns != turn_ns {
            (self.looked_ns, self.waiting_bytes) = (turn_ns, queued_bytes);
        }
        if self.waiting_bytes > WAITING_BYTES_MAX {
            Space::NotRead
        } else if queued_bytes > QUEUED_BYTES_MAX {
            Space::Full
        } else {
            Space::Free
        }
    }
}
