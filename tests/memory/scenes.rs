//! The scenarios that are not the echo, over any network: what comes in pieces, late and through narrow pipes must come to the
//! same as what comes whole.

use std::cell::Cell;

use fastrand::Rng;
use ringsock::engine::memory::{End, Ended, Plan, Stall};
use ringsock::engine::{Config, Faults};
use ringsock::scenario::broadcast::Publication;
use ringsock::scenario::json::{Refusal, Requests};
use ringsock::scenario::push::Stamp;
use ringsock::scenario::serve::{Limits, SlowConsumer};
use ringsock::ws::frame::Opcode;

use super::talk::{Heard, Script, frame};
use super::websocket::{DRAIN_NS, Played, conversation, faulty, message, patient, play};
use super::{SECOND_NS, SEEDS, eager, seed, tiny};

fn said(text: &str) -> Heard {
    Heard::Message { text: true, payload: text.as_bytes().to_vec() }
}

/// Says a text in fragments or not, pings between them; the pongs go to `hears`.
fn say_text(random: &mut Rng, text: &[u8], out: &mut Vec<u8>, hears: &mut Vec<Heard>) {
    let (mut at, mut opcode) = (0, Opcode::Text);
    while random.u8(0..3) == 0 {
        let end = random.usize(at..=text.len());
        frame(opcode, false, &text[at..end], out);
        (at, opcode) = (end, Opcode::Continuation);
        frame(Opcode::Ping, true, b"between", out);
        hears.push(Heard::Pong(b"between".to_vec()));
    }
    frame(opcode, true, &text[at..], out);
}

fn goodbye(out: &mut Vec<u8>, hears: &mut Vec<Heard>) {
    frame(Opcode::Close, true, &1000u16.to_be_bytes(), out);
    hears.extend([Heard::Close(Some(1000)), Heard::Closed { by_end: true }]);
}

fn assert_heard(played: &Played, number: usize, hears: &[Heard], seed: u64) {
    let heard = played.talk.said_to(number);
    assert!(heard.iter().copied().eq(hears), "seed {seed}, connection {number}: {heard:?}, not {hears:?}");
}

#[test]
fn json_is_answered_in_order_however_it_comes() {
    let errors = Cell::new(0);
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::seeded(seed);
        let (mut scripts, mut all_hears, mut wrong) = (Vec::new(), Vec::new(), 0);
        for _ in 0..random.usize(1..4) {
            let (mut frames, mut hears) = (Vec::new(), Vec::new());
            for number in 0..random.u64(0..12) {
                let text = match random.u8(0..6) {
                    0 => r#"{"payload":"\u00e9\"\\","type":"ec\u0068o"}"#.to_owned(),
                    1 => r#"{"type":"echo","payload":"#.to_owned(),
                    2 => r#" {"type" : "shout"}"#.to_owned(),
                    _ => {
                        let mut text = Vec::new();
                        let room = plan.pipe_bytes.min(4000);
                        Requests::echo(random.usize(0..=room)).compose(number, &mut text);
                        String::from_utf8(text).unwrap()
                    }
                };
                say_text(&mut random, text.as_bytes(), &mut frames, &mut hears);
                hears.push(match text.as_str() {
                    text if text.ends_with(':') => said(&Refusal::Malformed.reply()),
                    text if text.contains("shout") => said(&Refusal::UnknownType.reply()),
                    text => said(text),
                });
                wrong += u64::from(text.ends_with(':') || text.contains("shout"));
            }
            goodbye(&mut frames, &mut hears);
            scripts.push(Script { target: "/json".into(), frames, closes: true, ..Script::default() });
            all_hears.push(hears);
        }
        let played = play(&plan, faulty(&mut random), patient(), scripts, DRAIN_NS);
        assert_eq!(played.course.ended, Ended::Stopped, "seed {seed}: {:?}", played.talk.heard);
        for (number, hears) in all_hears.iter().enumerate() {
            assert_heard(&played, number, hears, seed);
        }
        assert_eq!(played.served.scenes.json_errors, wrong, "seed {seed}");
        assert_eq!((played.served.faults, played.served.timeouts, played.open), (0, 0, 0), "seed {seed}");
        errors.set(errors.get() + wrong);
    });
    assert!(errors.get() > 0);
}

#[test]
fn work_is_done_for_each_message_and_each_comes_back_in_order() {
    let worked = Cell::new(0);
    // Time that is worked is real.
    seed::each(SEEDS / 5, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::seeded(seed);
        let bytes_max = (plan.pipe_bytes * 5).clamp(10, 20_000);
        let query = random.choice(["", "?us=0", "?us=100", "?us=exp:50&seed=3", "?kib=64"]).unwrap();
        let (mut scripts, hears): (Vec<_>, Vec<_>) =
            (0..random.usize(1..5)).map(|_| conversation(&mut random, bytes_max)).unzip();
        scripts.iter_mut().for_each(|script| script.target = format!("/work{query}"));
        let played = play(&plan, faulty(&mut random), patient(), scripts, DRAIN_NS);
        assert_eq!(played.course.ended, Ended::Stopped, "seed {seed}: {:?}", played.talk.heard);
        for (number, hears) in hears.iter().enumerate() {
            assert_heard(&played, number, hears, seed);
        }
        let messages =
            hears.iter().flatten().filter(|heard| matches!(heard, Heard::Message { .. })).count() as u64;
        let served = played.served;
        assert_eq!((served.messages, served.faults, served.timeouts), (messages, 0, 0), "seed {seed}");
        if query == "?us=100" {
            assert!(served.scenes.worked_ns >= 100_000 * messages, "seed {seed}");
        }
        worked.set(worked.get() + served.scenes.worked_ns);
    });
    assert!(worked.get() > 0);
}

#[test]
fn what_is_published_comes_to_everybody_in_the_publishers_order_without_gap_or_repetition() {
    let heard_of_others = Cell::new(0);
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::seeded(seed);
        let publishers = random.usize(2..5);
        let scripts: Vec<_> = (0..publishers)
            .map(|publisher| {
                let (mut frames, mut pongs) = (Vec::new(), Vec::new());
                for number in 0..random.u64(0..20) {
                    let mut payload = Vec::new();
                    let publication = Publication { publisher: publisher as u64, number, sent_ns: 0 };
                    publication.compose(24 + random.usize(0..(plan.pipe_bytes * 2).min(300)), &mut payload);
                    say_binary(&mut random, &payload, &mut frames, &mut pongs);
                }
                let room = ["/broadcast", "/room/a", "/room/b"][publisher % random.usize(1..=3)];
                Script { target: room.into(), frames, ..Script::default() }
            })
            .collect();
        let rooms: Vec<_> = scripts.iter().map(|script| script.target.clone()).collect();
        let played = play(&plan, faulty(&mut random), patient(), scripts, DRAIN_NS);
        assert_eq!(played.course.ended, Ended::Stopped, "seed {seed}: {:?}", played.talk.heard);
        assert_eq!((played.served.faults, played.open), (0, 0), "seed {seed}");
        let mut delivered = 0;
        for subscriber in 0..publishers {
            let mut next = vec![None; publishers];
            for heard in played.talk.said_to(subscriber) {
                let Heard::Message { text, payload } = heard else { continue };
                let publication = Publication::read(payload).expect("as it was published");
                let publisher = publication.publisher as usize;
                assert!(!text && rooms[publisher] == rooms[subscriber], "seed {seed}: of another room");
                // Who came later has missed the first ones; of its own nobody misses any.
                let due: &mut Option<u64> = &mut next[publisher];
                if publisher == subscriber {
                    due.get_or_insert(0);
                }
                let number = due.unwrap_or(publication.number);
                assert_eq!(publication.number, number, "seed {seed}: {publisher} to {subscriber}");
                *due = Some(number + 1);
                delivered += 1;
                heard_of_others.set(heard_of_others.get() + u64::from(publisher != subscriber));
            }
        }
        assert_eq!(played.served.scenes.delivered, delivered, "seed {seed}");
    });
    assert!(heard_of_others.get() > 0);
}

fn say_binary(random: &mut Rng, payload: &[u8], out: &mut Vec<u8>, hears: &mut Vec<Heard>) {
    let start = out.len();
    say_text(random, payload, out, hears);
    // The first frame's opcode, of which the rest are continuations.
    out[start] ^= Opcode::Text as u8 ^ Opcode::Binary as u8;
}

/// Says more than a subscriber that reads nothing lets through, under a policy.
fn flooded(seed: u64, slow_consumer: SlowConsumer) -> Played {
    let mut random = Rng::with_seed(seed);
    let plan = Plan { pipe_bytes: 500, ..Plan::seeded(seed) };
    let mut frames = Vec::new();
    for number in 0..100 {
        let mut payload = Vec::new();
        Publication { publisher: 7, number, sent_ns: 0 }.compose(100, &mut payload);
        frame(Opcode::Binary, true, &payload, &mut frames);
    }
    let deaf = Script { target: "/room/x".into(), deaf: true, ..Script::default() };
    let listener = Script { target: "/room/x".into(), ..Script::default() };
    let publisher = Script { target: "/room/x?role=publish".into(), frames, ..Script::default() };
    let limits = Limits { queued_bytes: 1000, slow_consumer, ..patient() };
    // Small receives, so that it is no single turn that brings all of it.
    let server = Config { recv_buffer_bytes: 200, outbox_bytes: 1000, ..tiny(&mut random) };
    play(&plan, (server, eager(&mut random)), limits, vec![listener, deaf, publisher], 1000 * SECOND_NS)
}

#[test]
fn a_subscriber_that_reads_nothing_is_treated_as_the_policy_says_and_memory_is_bounded() {
    let (closed, dropped, blocked) = (Cell::new(0), Cell::new(0), Cell::new(0));
    seed::each(SEEDS / 3, |seed| {
        let count = |played: &Played| {
            let messages = played.talk.said_to(0);
            messages.iter().filter(|heard| matches!(heard, Heard::Message { .. })).count()
        };
        let played = flooded(seed, SlowConsumer::Close);
        let scenes = played.served.scenes;
        assert_eq!(
            (scenes.slow_closed, scenes.slow_dropped + scenes.slow_blocked),
            (played.served.faults, 0)
        );
        assert_eq!(played.served.kinds.faults_policy, played.served.faults, "seed {seed}");
        closed.set(closed.get() + scenes.slow_closed);

        let played = flooded(seed, SlowConsumer::DropNewest);
        let scenes = played.served.scenes;
        assert_eq!((scenes.slow_closed, scenes.slow_blocked, played.served.faults), (0, 0, 0), "seed {seed}");
        dropped.set(dropped.get() + scenes.slow_dropped);

        let played = flooded(seed, SlowConsumer::Block);
        let scenes = played.served.scenes;
        assert_eq!((scenes.slow_closed, scenes.slow_dropped, played.served.faults), (0, 0, 0), "seed {seed}");
        if scenes.slow_blocked > 0 {
            assert!(scenes.published < 100, "seed {seed}: the publisher was not held: {scenes:?}");
            assert!(count(&played) as u64 <= scenes.published, "seed {seed}");
        }
        blocked.set(blocked.get() + scenes.slow_blocked);
    });
    assert!(closed.get() > 0 && dropped.get() > 0 && blocked.get() > 0, "{closed:?} {dropped:?} {blocked:?}");
}

#[test]
fn everybody_is_told_to_go_when_the_server_drains_whatever_waits() {
    seed::each(SEEDS / 3, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::seeded(seed);
        let drain_ns = random.u64(0..20 * plan.latency_ns_max.max(1));
        let targets =
            ["/json", "/work?us=20", "/broadcast", "/room/a", "/push?rate=1000", "/room/a?role=publish"];
        let scripts: Vec<_> = targets
            .iter()
            .map(|&target| {
                let (mut frames, mut hears) = (Vec::new(), Vec::new());
                for _ in 0..10 {
                    message(&mut random, 50, &mut frames, &mut hears);
                }
                Script { target: target.into(), frames, ..Script::default() }
            })
            .collect();
        let limits = Limits { slow_consumer: SlowConsumer::Block, queued_bytes: 500, ..patient() };
        let Played { talk, course, open, .. } = play(&plan, faulty(&mut random), limits, scripts, drain_ns);
        assert_eq!((course.ended, open), (Ended::Stopped, 0), "seed {seed}: {:?}", talk.heard);
        for (number, target) in targets.iter().enumerate() {
            let heard = talk.said_to(number);
            let (end, heard) = heard.split_last().unwrap();
            // Those that had not been let in yet are turned away without a word.
            let Some(close) = heard.last() else { continue };
            assert_eq!(**end, Heard::Closed { by_end: true }, "seed {seed}, {target}");
            assert_eq!(**close, Heard::Close(Some(1001)), "seed {seed}, {target}: {heard:?}");
        }
    });
}

/// Plays one client of `push` for 1.9 seconds, and checks all that its stamps say; what each is late by, in nanoseconds.
fn pushed(seed: u64, stall: Option<Stall>, rate: u64) -> Vec<u64> {
    let plan = Plan { pipe_bytes: 65_536, stall, ..Plan::seeded(seed) };
    let script = Script { target: format!("/push?rate={rate}&bytes=100"), ..Script::default() };
    let config = || Config { recv_buffers: 16, faults: Faults::default(), ..Config::default() };
    let Played { talk, served, course, .. } =
        play(&plan, (config(), config()), patient(), vec![script], 19 * SECOND_NS / 10);
    assert_eq!(course.ended, Ended::Stopped, "seed {seed}");
    let mut start_ns = None;
    let mut late_ns = Vec::new();
    for (heard_ns, heard) in &talk.heard[0] {
        let Heard::Message { text: false, payload } = heard else { continue };
        let stamp = Stamp::read(payload).expect("a stamp");
        assert_eq!(
            (payload.len(), stamp.number),
            (100, late_ns.len() as u64),
            "seed {seed}: in order, no gap"
        );
        let start_ns = *start_ns.get_or_insert(stamp.due_ns);
        assert_eq!(stamp.due_ns, start_ns + stamp.number * SECOND_NS / rate, "seed {seed}");
        assert!(
            stamp.composed_ns >= stamp.due_ns && *heard_ns >= stamp.composed_ns,
            "seed {seed}: {stamp:?}"
        );
        late_ns.push(stamp.composed_ns - stamp.due_ns);
    }
    // What was on its way when the server was told to end may be heard or not; nothing else.
    let (due, pushed) = (19 * rate / 10, served.scenes.pushed);
    assert!((due - due / 10..=due + due / 10).contains(&pushed), "seed {seed}: {pushed} of {due}");
    assert!(late_ns.len() as u64 >= pushed, "seed {seed}: {} of {pushed} were heard", late_ns.len());
    late_ns
}

#[test]
fn pushes_are_made_by_the_schedule_and_late_ones_are_sent_late() {
    seed::each(20, |seed| {
        let late_ns = pushed(seed, None, 500);
        // A timer comes up to a latency late.
        assert!(late_ns.iter().all(|&late_ns| late_ns <= 10_000_000), "seed {seed}");

        let stall = Stall { end: End::Server, every_ns: SECOND_NS / 2, length_ns: SECOND_NS / 5 };
        let late_ns = pushed(seed, Some(stall), 500);
        let longest_ns = late_ns.iter().copied().max().unwrap();
        assert!(
            (SECOND_NS / 5 - 12_000_000..SECOND_NS / 5 + 12_000_000).contains(&longest_ns),
            "seed {seed}: {longest_ns}"
        );
    });
}

#[test]
fn a_client_that_does_not_read_pushes_is_not_sent_them_without_end() {
    seed::each(20, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan { pipe_bytes: 1000, ..Plan::seeded(seed) };
        let script =
            Script { target: "/push?rate=1000000&bytes=1000".into(), deaf: true, ..Script::default() };
        let limits = Limits { queued_bytes: 20_000, ..patient() };
        let played =
            play(&plan, (tiny(&mut random), eager(&mut random)), limits, vec![script], 5 * SECOND_NS);
        // What may wait, the message beyond, and what the pipe holds.
        assert!((1..=24).contains(&played.served.scenes.pushed), "seed {seed}: {:?}", played.served.scenes);
    });
}
