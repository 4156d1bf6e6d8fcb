//! Heartbeats, idleness and time limits of the server's handler, in fake time: hours of silence cost nothing.
//!
//! What is due at a time is done then, or as much later as the network and a sleepy engine may take; never before.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringsock::engine::memory::{End, Ended, Plan, run_pair};
use ringsock::engine::{Config, Connections};
use ringsock::scenario::serve::{Limits, Serve, Served, Shared, Timeouts};
use ringsock::ws::frame::Opcode;
use ringsock::ws::handshake::ClientHandshake;

use super::actor::{Actor, Conn, Event};
use super::talk::{Heard, Script, Talk, frame};
use super::websocket::{Played, patient, play};
use super::{SECOND_NS, SEEDS, seed};

const HOUR_NS: u64 = 3600 * SECOND_NS;
/// Where a whole conversation of frames is not what is looked at, pipes take a frame at once.
const PIPE_BYTES: usize = 4096;

/// Plays one script, and gives what was heard, the server's counts, and the time that the network may add.
fn alone(seed: u64, limits: Limits, script: Script, drain_ns: u64) -> (Talk, Served, u64) {
    let plan = Plan { pipe_bytes: PIPE_BYTES, until_ns: 2 * HOUR_NS, ..Plan::seeded(seed) };
    let sound = || Config { recv_buffers: 4, ..Config::default() };
    let Played { talk, served, course, .. } = play(&plan, (sound(), sound()), limits, vec![script], drain_ns);
    assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", talk.heard);
    // There and back in pieces, each end sleeping too long.
    (talk, served, 100 * plan.latency_ns_max)
}

/// Holds the time of an event against when it was due after the connection opened.
fn assert_due(seed: u64, talk: &Talk, event: usize, due_ns: u64, slack_ns: u64) {
    let passed_ns = talk.heard[0][event].0 - talk.opened_ns[0];
    let bounds: RangeInclusive<u64> = due_ns..=due_ns + slack_ns;
    assert!(
        bounds.contains(&passed_ns),
        "seed {seed}: {:?} after {passed_ns} ns, not {due_ns}",
        talk.heard[0]
    );
}

#[test]
fn silence_is_pinged_and_a_ping_left_unanswered_ends_it() {
    seed::each(SEEDS, |seed| {
        let limits = Limits { timeouts: timeouts(None, Some(30)), ..patient() };
        let script = Script { rude: true, ..Script::default() };
        let (talk, served, slack_ns) = alone(seed, limits, script, HOUR_NS);
        assert!(
            matches!(talk.said_to(0)[..], [Heard::Ping, Heard::Closed { .. }]),
            "seed {seed}: {:?}",
            talk.heard
        );
        assert_due(seed, &talk, 0, 30 * SECOND_NS, slack_ns);
        assert_due(seed, &talk, 1, 60 * SECOND_NS, slack_ns);
        assert_eq!(served.timeouts, 1, "seed {seed}");
    });
}

#[test]
fn a_peer_that_answers_pings_stays_for_hours() {
    seed::each(SEEDS / 3, |seed| {
        let limits = Limits { timeouts: timeouts(None, Some(30)), ..patient() };
        let (talk, served, slack_ns) = alone(seed, limits, Script::default(), HOUR_NS);
        let heard = talk.said_to(0);
        let pings = heard.iter().take_while(|heard| ***heard == Heard::Ping).count();
        // Each waits for the silence after the answer to the one before.
        let fewest = (HOUR_NS / (30 * SECOND_NS + slack_ns)) as usize;
        assert!((fewest..=120).contains(&pings), "seed {seed}: {pings} pings in an hour");
        assert_eq!(
            heard[pings..],
            [&Heard::Close(Some(1001)), &Heard::Closed { by_end: true }],
            "seed {seed}"
        );
        assert_eq!(served.timeouts, 0, "seed {seed}");
    });
}

#[test]
fn a_silent_connection_is_closed_with_1000_when_asked_to() {
    seed::each(SEEDS, |seed| {
        let limits = Limits { timeouts: timeouts(Some(600), None), ..patient() };
        let mut frames = Vec::new();
        frame(Opcode::Text, true, b"hello", &mut frames);
        let (talk, served, slack_ns) = alone(seed, limits, Script { frames, ..Script::default() }, HOUR_NS);
        let hello = Heard::Message { text: true, payload: b"hello".to_vec() };
        let hears = [&hello, &Heard::Close(Some(1000)), &Heard::Closed { by_end: true }];
        assert_eq!(talk.said_to(0), hears, "seed {seed}");
        assert_due(seed, &talk, 1, 600 * SECOND_NS, slack_ns);
        assert_eq!(served.timeouts, 1, "seed {seed}");
    });
}

#[test]
fn a_close_left_unanswered_ends_the_connection_in_time() {
    seed::each(SEEDS, |seed| {
        let timeouts = Timeouts { close_ns: Some(5 * SECOND_NS), ..timeouts(Some(600), None) };
        let script = Script { rude: true, ..Script::default() };
        let (talk, served, slack_ns) = alone(seed, Limits { timeouts, ..patient() }, script, HOUR_NS);
        assert!(
            matches!(talk.said_to(0)[..], [Heard::Close(Some(1000)), Heard::Closed { .. }]),
            "seed {seed}: {:?}",
            talk.heard
        );
        assert_due(seed, &talk, 0, 600 * SECOND_NS, slack_ns);
        assert_due(seed, &talk, 1, 605 * SECOND_NS, slack_ns);
        assert_eq!(served.timeouts, 2, "seed {seed}: idle, and then impolite");
    });
}

#[test]
fn a_peer_that_never_asks_for_anything_is_let_go_in_time() {
    seed::each(SEEDS, |seed| {
        let limits = Limits { handshake_ns: 10 * SECOND_NS, ..patient() };
        let script = Script { mute: true, ..Script::default() };
        let (talk, served, slack_ns) = alone(seed, limits, script, HOUR_NS);
        assert!(matches!(talk.said_to(0)[..], [Heard::Closed { .. }]), "seed {seed}: {:?}", talk.heard);
        assert_due(seed, &talk, 0, 10 * SECOND_NS, slack_ns);
        assert_eq!((served.timeouts, served.upgrades), (1, 0), "seed {seed}");
    });
}

#[test]
fn a_goodbye_that_the_peer_does_not_take_is_given_up_in_time() {
    seed::each(SEEDS, |seed| {
        // A fault is answered, and the rest of what the peer has to say is waited for so long.
        let limits = Limits { close_ns: 7 * SECOND_NS, ..patient() };
        let frames = vec![0xC2, 0x80, 0, 0, 0, 0];
        let script = Script { frames, rude: true, ..Script::default() };
        let (talk, served, slack_ns) = alone(seed, limits, script, HOUR_NS);
        let heard = talk.said_to(0);
        assert_eq!(heard, [&Heard::Close(Some(1002)), &Heard::Closed { by_end: true }], "seed {seed}");
        assert_due(seed, &talk, 1, 0, slack_ns);
        assert_eq!((served.faults, served.timeouts), (1, 0), "seed {seed}: it left by itself");
    });
}

#[test]
fn a_peer_that_stops_in_the_middle_of_a_frame_is_dropped_in_time() {
    seed::each(SEEDS, |seed| {
        let limits = Limits { stall_ns: Some(60 * SECOND_NS), ..patient() };
        let mut frames = Vec::new();
        frame(Opcode::Binary, true, &[7; 200], &mut frames);
        frames.truncate(1 + seed as usize % (frames.len() - 1));
        let (talk, served, slack_ns) = alone(seed, limits, Script { frames, ..Script::default() }, HOUR_NS);
        assert!(matches!(talk.said_to(0)[..], [Heard::Closed { .. }]), "seed {seed}: {:?}", talk.heard);
        assert_due(seed, &talk, 0, 60 * SECOND_NS, slack_ns);
        assert_eq!((served.timeouts, served.kinds.timeouts_stall), (1, 1), "seed {seed}");
    });
}

#[test]
fn silence_between_frames_is_no_stall() {
    seed::each(SEEDS / 3, |seed| {
        let limits = Limits { stall_ns: Some(60 * SECOND_NS), ..patient() };
        let mut frames = Vec::new();
        frame(Opcode::Binary, false, b"a fragment", &mut frames);
        let (talk, served, _) = alone(seed, limits, Script { frames, ..Script::default() }, HOUR_NS);
        let hears = [&Heard::Close(Some(1001)), &Heard::Closed { by_end: true }];
        assert_eq!(talk.said_to(0), hears, "seed {seed}: it stayed until the end");
        assert_eq!(served.timeouts, 0, "seed {seed}");
    });
}

/// A client that asks for far more than a pipe holds, and how it reads what comes back.
struct Reader {
    /// It takes some this often, or nothing at all, until it goes.
    every_ns: Option<u64>,
    opened_ns: u64,
}

impl Reader {
    const GOES_NS: u64 = 4000 * SECOND_NS;

    fn behave(&mut self, connections: &mut Connections<Conn>, event: Event<'_>) {
        let now_ns = connections.now_ns();
        match event {
            Event::Wake => super::actor::connect(connections, 0),
            Event::Open(id, _) => {
                self.opened_ns = now_ns;
                let (_, mut io) = connections.get(id).unwrap();
                io.send(ClientHandshake::new("here", 80, "/", [1; 16], 8192).unwrap().request());
                let mut frames = Vec::new();
                (0..64).for_each(|_| frame(Opcode::Binary, true, &[3; 1000], &mut frames));
                io.write(|out| out.append(&mut frames));
                io.hold_reading(true);
                io.wake_by(now_ns + self.every_ns.unwrap_or(Self::GOES_NS));
            }
            Event::Timer(id, _) => {
                let (_, mut io) = connections.get(id).unwrap();
                if now_ns >= self.opened_ns + Self::GOES_NS {
                    return io.abort();
                }
                io.hold_reading(false);
                io.wake_by(now_ns + self.every_ns.unwrap_or(Self::GOES_NS));
            }
            Event::Bytes(id, ..) => connections.get(id).unwrap().1.hold_reading(true),
            Event::End(id) => connections.get(id).unwrap().1.close(),
            Event::Closed(..) => connections.stop(),
            Event::Writable(_) => {}
        }
    }
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_in_time_and_one_that_takes_little_is_not() {
    seed::each(SEEDS / 3, |seed| {
        for (every_ns, dropped) in [(None, 1), (Some(50 * SECOND_NS), 0)] {
            let limits = Limits { stall_ns: Some(60 * SECOND_NS), ..patient() };
            let mut plan = Plan { pipe_bytes: PIPE_BYTES, until_ns: 3 * HOUR_NS, ..Plan::seeded(seed) };
            plan.wakes = vec![(End::Client, 0), (End::Server, HOUR_NS)];
            let (shared, counted) = (Arc::new(Shared::default()), Rc::new(Cell::new(Served::default())));
            let (theirs, leave) = (Arc::clone(&shared), Rc::clone(&counted));
            let report = move |served: Served| {
                if !theirs.draining.swap(true, Ordering::Relaxed) {
                    leave.set(served);
                }
            };
            let config = || Config { recv_buffers: 4, ..Config::default() };
            let reader = Reader { every_ns, opened_ns: 0 };
            let client = (config(), Actor::new(reader, Reader::behave));
            let (_, _, course) = run_pair(&plan, (config(), Serve::new(limits, shared, report)), client);
            assert_eq!(course.ended, Ended::Stopped, "seed {seed}, every {every_ns:?}");
            let served = counted.get();
            let stalls = (served.timeouts, served.kinds.timeouts_stall);
            assert_eq!(stalls, (dropped, dropped), "seed {seed}, every {every_ns:?}");
            assert_eq!(served.connections, 1 - dropped, "seed {seed}, every {every_ns:?}");
        }
    });
}

fn timeouts(idle_s: Option<u64>, ping_s: Option<u64>) -> Timeouts {
    let nanoseconds = |seconds: u64| seconds * SECOND_NS;
    Timeouts { idle_ns: idle_s.map(nanoseconds), ping_ns: ping_s.map(nanoseconds), close_ns: Some(HOUR_NS) }
}
