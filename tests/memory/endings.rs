//! Heartbeats, idleness and time limits of the server's handler, in fake time: hours of silence cost nothing.
//!
//! What is due at a time is done then, or as much later as the network and a sleepy engine may take; never before.

use std::ops::RangeInclusive;

use ringsock::engine::Config;
use ringsock::engine::memory::{Ended, Plan};
use ringsock::scenario::serve::{Limits, Served, Timeouts};
use ringsock::ws::frame::Opcode;

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

fn timeouts(idle_s: Option<u64>, ping_s: Option<u64>) -> Timeouts {
    let nanoseconds = |seconds: u64| seconds * SECOND_NS;
    Timeouts { idle_ns: idle_s.map(nanoseconds), ping_ns: ping_s.map(nanoseconds), close_ns: Some(HOUR_NS) }
}
