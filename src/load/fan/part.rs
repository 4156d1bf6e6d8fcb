//! Who joins which room, who publishes, and how much there is going to be: worked out from the plan, before anything is opened.
//!
//! Invariant: connections are numbered over all threads, thread by thread in turn, so that publishers and rooms are spread over threads;
//! connection i joins room i modulo rooms, and the first of them publish.

use std::sync::Arc;

use super::log::Room;
use super::{Board, Line, Publisher, Step, Subscriber};
use crate::load::options::Plan;
use crate::load::scenario::Play;
use crate::measure::result::Mode;
use crate::scenario::broadcast;

/// What every thread of a run has to know.
#[derive(Debug, Clone)]
pub(in super::super) struct Part {
    pub(super) board: Arc<Board>,
    /// Path and query, by room.
    pub(super) targets: Arc<[String]>,
    pub(super) payload_bytes: usize,
    pub(super) threads: usize,
    /// Publications of the measured window; `None` in a closed loop.
    pub(super) publications: Option<f64>,
}

/// Path and query of each room on a server whose URL has `target`; of the one for all, where there are no rooms. A path of its own is the
/// user's choice, and `/` is none.
pub(in super::super) fn targets(rooms: Option<u32>, target: &str) -> Vec<String> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let Some(rooms) = rooms else {
        let path = if path == "/" { broadcast::ABOUT.paths[0] } else { path };
        return vec![format!("{path}{query}")];
    };
    let own = broadcast::ABOUT_ROOMS.paths[0].trim_end_matches("NAME");
    let path = if path == "/" { own } else { path };
    (0..rooms).map(|room| format!("{}/r{room}{query}", path.trim_end_matches('/'))).collect()
}

impl Part {
    /// Of `plan`, if it is one for this; `target` is path and query of the server's URL.
    pub(in super::super) fn of(plan: &Plan, target: &str) -> Option<Self> {
        let Play::Fan { publishers, rooms } = plan.scene.play else { return None };
        let (publishers, threads) = (publishers as usize, plan.cpus.len());
        let (measured_s, warmup_s) = (plan.duration.as_secs_f64(), plan.warmup.as_secs_f64());
        let rates_per_s = match plan.mode {
            Mode::OpenLoop { rate_per_s, .. } => {
                Some((rate_per_s, plan.warmup_rate_per_s.unwrap_or(rate_per_s)))
            }
            Mode::ClosedLoop { .. } => None,
        };
        let in_all =
            rates_per_s.map(|(rate_per_s, first_per_s)| rate_per_s * measured_s + first_per_s * warmup_s);
        // A thread's publishers have more to do where they are fewer; and by chance there may be more.
        let of_each = in_all.map_or(u64::MAX, |in_all| (3.0 * in_all / publishers as f64) as u64 + 64);
        let board = Board::new(publishers, rooms.unwrap_or(1) as usize, threads, of_each);
        Some(Self {
            board: Arc::new(board),
            targets: targets(rooms, target).into(),
            payload_bytes: plan.payload_bytes,
            threads,
            publications: rates_per_s.map(|(rate_per_s, _)| rate_per_s * measured_s),
        })
    }

    /// Which connection the thread's next one is, when it has begun `index`.
    pub(super) fn ordinal(&self, thread: usize, index: usize) -> usize {
        index * self.threads + thread
    }

    /// A connection to be, on the thread with these publishers.
    pub(super) fn subscriber(&self, ordinal: usize, publishers: &[Publisher]) -> Subscriber {
        let room = ordinal % self.board.rooms();
        let place = ordinal / self.threads;
        let lines = std::iter::repeat_with(Line::default).take(self.board.publishers_in(room));
        Subscriber {
            step: Step::Connecting,
            since_ns: 0,
            failure: None,
            source: 0,
            room: room as u32,
            rank: 0,
            tenth: 0,
            publishes: (place < publishers.len()).then_some(place as u32),
            lines: lines.collect(),
            partial: Vec::new(),
        }
    }

    /// What is to be kept of deliveries on a thread that has so many subscribers in the room that has most.
    pub(super) fn room_for_log(&self, subscribers: usize) -> Room {
        Room {
            subscribers,
            expected: self.publications.map(|publications| publications * subscribers as f64),
            threads: self.threads,
            places: self.board.publishers() * self.board.known(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_leads_to_the_scenarios_own_and_any_other_is_kept() {
        for (rooms, target, expected) in [
            (None, "/", &["/broadcast"][..]),
            (None, "/?x=1", &["/broadcast?x=1"]),
            (None, "/broadcast", &["/broadcast"]),
            (None, "/publish?to=all", &["/publish?to=all"]),
            (Some(2), "/", &["/room/r0", "/room/r1"]),
            (Some(1), "/?x", &["/room/r0?x"]),
            (Some(2), "/chat/", &["/chat/r0", "/chat/r1"]),
        ] {
            assert_eq!(targets(rooms, target), expected, "{target}");
        }
    }
}
