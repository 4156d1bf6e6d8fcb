//! The server's handler against a client of the protocol, over any network: conversations that must come out the
//! same whatever the splits, the latency and the faults.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use ringsock::engine::Config;
use ringsock::engine::memory::{Course, End, Ended, Plan, run_pair};
use ringsock::scenario::deflate::DeflateSettings;
use ringsock::scenario::frames::Frames;
use ringsock::scenario::serve::{Limits, Serve, Served, Shared, Timeouts};
use ringsock::ws::frame::Opcode;

use super::talk::{Heard, Script, Talk, frame};
use super::{SECOND_NS, SEEDS, eager, seed, tiny};

/// When the server is told to drain, unless a test says otherwise.
pub(crate) const DRAIN_NS: u64 = 3000 * SECOND_NS;

/// A server that puts up with everything.
pub(crate) fn patient() -> Limits {
    Limits {
        head_bytes: 8192,
        message_bytes: 1 << 30,
        connections: 100,
        handshake_ns: 3600 * SECOND_NS,
        close_ns: 3600 * SECOND_NS,
        timeouts: Timeouts::default(),
        stall_ns: None,
        ..Limits::default()
    }
}

/// What came of a conversation.
pub(crate) struct Played {
    pub(crate) talk: Talk,
    /// What the server had counted when it was told to drain.
    pub(crate) served: Served,
    pub(crate) course: Course,
    /// Connections that the server counted as open at last.
    pub(crate) open: usize,
    /// Addresses that it counted as having some.
    addresses: usize,
}

/// Plays scripts against the server's handler, which drains at `drain_ns`.
pub(crate) fn play(
    plan: &Plan,
    configs: (Config, Config),
    limits: Limits,
    scripts: Vec<Script>,
    drain_ns: u64,
) -> Played {
    play_with(plan, configs, limits, scripts, drain_ns, None)
}

/// The same, and the server agrees to compression where that is given.
pub(crate) fn play_with(
    plan: &Plan,
    (server, client): (Config, Config),
    limits: Limits,
    scripts: Vec<Script>,
    drain_ns: u64,
    deflate: Option<DeflateSettings>,
) -> Played {
    let shared = Arc::new(Shared::default());
    let counted = Rc::new(RefCell::new(Served::default()));
    let (theirs, leave) = (Arc::clone(&shared), Rc::clone(&counted));
    let report = move |served| {
        *leave.borrow_mut() = served;
        theirs.draining.store(true, Ordering::Relaxed);
    };
    let mut plan = plan.clone();
    plan.wakes = vec![(End::Client, 0), (End::Server, drain_ns)];
    let mut serve = Serve::new(limits, Arc::clone(&shared), report);
    if let Some(settings) = deflate {
        serve = serve.deflating(settings, server.outbox_bytes);
    }
    let (_, talk, course) = run_pair(&plan, (server, serve), (client, Talk::new(scripts)));
    let served = *counted.borrow();
    let (open, addresses) = (shared.open.load(Ordering::Relaxed), shared.addresses.len());
    Played { talk, served, course, open, addresses }
}

/// Two engines of all kinds of faults.
pub(crate) fn faulty(random: &mut Rng) -> (Config, Config) {
    (tiny(random), eager(random))
}

/// A message that may be said in fragments with pings between them, and what will be heard of it.
pub(crate) fn message(random: &mut Rng, length: usize, out: &mut Vec<u8>, hears: &mut Vec<Heard>) {
    let text = random.bool();
    let payload: Vec<u8> = if text {
        let mut text = String::new();
        while text.len() < length {
            text.push(random.choice(['a', 'é', '€', '🦀']).unwrap());
        }
        text.into_bytes()
    } else {
        (0..length).map(|_| random.u8(..)).collect()
    };
    let mut opcode = if text { Opcode::Text } else { Opcode::Binary };
    let mut at = 0;
    while random.u8(0..3) == 0 {
        let end = random.usize(at..=payload.len());
        frame(opcode, false, &payload[at..end], out);
        (at, opcode) = (end, Opcode::Continuation);
        if random.bool() {
            let body: Vec<u8> = (0..random.usize(0..=125)).map(|_| random.u8(..)).collect();
            frame(Opcode::Ping, true, &body, out);
            hears.push(Heard::Pong(body));
        }
    }
    frame(opcode, true, &payload[at..], out);
    hears.push(Heard::Message { text, payload });
}

/// Some messages, and a Close; what must be heard.
pub(crate) fn conversation(random: &mut Rng, bytes_max: usize) -> (Script, Vec<Heard>) {
    let (mut frames, mut hears) = (Vec::new(), Vec::new());
    for _ in 0..random.usize(0..20) {
        let any = random.usize(0..=bytes_max);
        let length = random.choice([0, 1, 125, 126, 127, any]).unwrap();
        message(random, length.min(bytes_max), &mut frames, &mut hears);
    }
    let code = random.choice([None, Some(1000), Some(1001), Some(4999)]).unwrap();
    let reason = code.map_or(Vec::new(), |code: u16| [&code.to_be_bytes()[..], b"bye"].concat());
    frame(Opcode::Close, true, &reason, &mut frames);
    hears.push(Heard::Close(code));
    hears.push(Heard::Closed { by_end: true });
    (Script { frames, closes: true, ..Script::default() }, hears)
}

/// Counts masked frames by opcode, from the bytes alone (RFC 6455, 5.2).
fn count_frames(mut bytes: &[u8], counts: &mut Frames) {
    while let [first, second, rest @ ..] = bytes {
        *match first & 0xF {
            0 => &mut counts.frames_continuation,
            1 => &mut counts.frames_text,
            2 => &mut counts.frames_binary,
            8 => &mut counts.frames_close,
            9 => &mut counts.frames_ping,
            10 => &mut counts.frames_pong,
            other => unreachable!("opcode {other}"),
        } += 1;
        let extra = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = rest[..extra].iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        let length = if extra == 0 { usize::from(second & 0x7F) } else { length };
        bytes = &rest[extra + 4 + length..];
    }
}

#[test]
fn every_message_is_echoed_once_and_in_order_and_every_close_is_answered() {
    let messages = Cell::new(0);
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::seeded(seed);
        // Through a narrow pipe less, so that no seed takes long.
        let bytes_max = (plan.pipe_bytes * 5).clamp(10, 70_000);
        let (scripts, hears): (Vec<_>, Vec<_>) =
            (0..random.usize(1..5)).map(|_| conversation(&mut random, bytes_max)).unzip();
        let mut sent = Frames::default();
        scripts.iter().for_each(|script: &Script| count_frames(&script.frames, &mut sent));
        let Played { talk, served, course, open, .. } =
            play(&plan, faulty(&mut random), patient(), scripts, DRAIN_NS);
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", talk.heard);
        for (number, hears) in hears.iter().enumerate() {
            let heard = talk.said_to(number);
            assert!(
                heard.iter().copied().eq(hears),
                "seed {seed}, connection {number}: {heard:?}, not {hears:?}"
            );
        }
        let said =
            hears.iter().flatten().filter(|heard| matches!(heard, Heard::Message { .. })).count() as u64;
        assert_eq!((served.messages, served.upgrades), (said, hears.len() as u64), "seed {seed}");
        assert_eq!(served.frames, sent, "seed {seed}");
        assert_eq!((served.faults, served.timeouts, served.rejections, open), (0, 0, 0, 0), "seed {seed}");
        messages.set(messages.get() + said);
    });
    assert!(messages.get() > 0);
}

#[test]
fn resets_never_upset_the_others_nor_what_is_counted() {
    let (whole, cut_off) = (Cell::new(0), Cell::new(0));
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan { reset_one_in: 100, ..Plan::seeded(seed) };
        let (scripts, hears): (Vec<_>, Vec<_>) = (0..4).map(|_| conversation(&mut random, 500)).unzip();
        // As many as there are: one that was not counted out would have another turned away.
        let limits = Limits { connections_per_address: Some(4), ..patient() };
        let (mut server, client) = faulty(&mut random);
        server.peer_addresses = true;
        let Played { talk, served, course, open, addresses } =
            play(&plan, (server, client), limits, scripts, DRAIN_NS);
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}");
        let mut lost = 0;
        for (number, hears) in hears.iter().enumerate() {
            // What was heard is what was to be heard, up to where it was cut off.
            let mut heard = talk.said_to(number);
            let is_whole = heard.iter().copied().eq(hears);
            lost += u64::from(!is_whole);
            heard.pop();
            assert!(hears.iter().zip(&heard).all(|(a, &b)| a == b), "seed {seed}, connection {number}");
        }
        assert!(lost <= course.resets, "seed {seed}: {lost} cut off by {} resets", course.resets);
        assert_eq!((served.faults, served.rejections, open, addresses), (0, 0, 0, 0), "seed {seed}");
        whole.set(whole.get() + 4 - lost);
        cut_off.set(cut_off.get() + lost);
    });
    assert!(whole.get() > 0 && cut_off.get() > 0, "{whole:?} whole, {cut_off:?} cut off");
}

#[test]
fn a_drain_at_any_moment_cuts_no_echo_and_closes_everyone_with_1001() {
    let echoed = Cell::new(0);
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::seeded(seed);
        let drain_ns = random.u64(0..20 * plan.latency_ns_max.max(1));
        let (mut frames, mut hears) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            let length = random.usize(0..(plan.pipe_bytes * 2).clamp(2, 300));
            message(&mut random, length, &mut frames, &mut hears);
        }
        let scripts = vec![Script { frames, ..Script::default() }; 3];
        let Played { talk, course, .. } = play(&plan, faulty(&mut random), patient(), scripts, drain_ns);
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", talk.heard);
        for number in 0..3 {
            let heard = talk.said_to(number);
            let (end, heard) = heard.split_last().unwrap();
            // Those that had not been let in yet are turned away without a word.
            let Some((close, heard)) = heard.split_last() else { continue };
            assert_eq!(
                (*close, *end),
                (&Heard::Close(Some(1001)), &Heard::Closed { by_end: true }),
                "seed {seed}"
            );
            assert!(heard.iter().zip(&hears).all(|(a, b)| *a == b), "seed {seed}, connection {number}");
            echoed.set(echoed.get() + heard.len());
        }
    });
    assert!(echoed.get() > 0);
}

#[test]
fn a_surplus_of_connections_is_told_so() {
    seed::each(SEEDS / 3, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::seeded(seed);
        // The refused answer is no upgrade, which the client here does not put up with: only counts are looked at.
        let limits = Limits { connections: 0, ..patient() };
        let shared = Arc::new(Shared::default());
        let rejected = Rc::new(Cell::new(0));
        let (leave, theirs) = (Rc::clone(&rejected), Arc::clone(&shared));
        let report = move |served: Served| {
            leave.set(served.rejections);
            theirs.draining.store(true, Ordering::Relaxed);
        };
        let mut plan = plan;
        plan.wakes = vec![(End::Client, 0), (End::Server, DRAIN_NS)];
        let client = super::Actor::new(vec![Vec::new(); 3], |said, connections, event| match event {
            super::Event::Wake => (0..3).for_each(|number| super::actor::connect(connections, number)),
            super::Event::Open(id, _) => {
                let request = ringsock::ws::handshake::ClientHandshake::new("here", 80, "/", [1; 16], 8192);
                let (_, mut io) = connections.get(id).unwrap();
                io.send(request.unwrap().request());
                // What comes behind it must not have the answer lost to a reset.
                io.write(|out| out.extend_from_slice(&[0x82; 300]));
            }
            super::Event::Bytes(_, number, received) => {
                said[number].extend_from_slice(&received.memory[received.range]);
            }
            super::Event::End(id) => connections.get(id).unwrap().1.close(),
            super::Event::Closed(..) if connections.is_empty() => connections.stop(),
            _ => {}
        });
        let server = (tiny(&mut random), Serve::new(limits, Arc::clone(&shared), report));
        let (_, client, course) = run_pair(&plan, server, (eager(&mut random), client));
        assert_eq!((course.ended, rejected.get()), (Ended::Stopped, 3), "seed {seed}");
        for answer in client.state {
            let answer = String::from_utf8(answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("takes\n"),
                "seed {seed}: {answer}"
            );
        }
    });
}
