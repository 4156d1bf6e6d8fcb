//! Conversations over TLS in fake time: whatever the network does to the records, what is said stays the same.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fastrand::Rng;
use ringsock::engine::memory::{Course, End, Ended, Plan, run_pair};
use ringsock::engine::{Closed, Config, ConnId, Connections, Ends, Faults, Handler, Received, Tls};
use ringsock::limits::HEADROOM_BYTES;
use ringsock::scenario::serve::{Limits, Serve, Served, Shared, Timeouts};
use ringsock::tls::{Cipher, Offer, Server, Session, Version};
use ringsock::ws::frame::Opcode;

use super::talk::{Heard, Script, Talk, frame};
use super::{ends, seed};

const SEEDS: u64 = 60;
const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3600 * SECOND_NS;
/// How long a handshake and a farewell may take, where that is what is looked at.
const BRIEF_NS: u64 = 5 * SECOND_NS;
const DRAIN_NS: u64 = 3000 * SECOND_NS;

fn patient() -> Limits {
    Limits {
        head_bytes: 8192,
        message_bytes: 1 << 30,
        connections: 100,
        handshake_ns: HOUR_NS,
        close_ns: HOUR_NS,
        timeouts: Timeouts::default(),
        stall_ns: None,
        ..Limits::default()
    }
}

fn tiny(random: &mut Rng) -> Config {
    Config {
        connections_max: 64,
        recv_buffer_bytes: random.usize(1..70_000),
        recv_buffers: 1 << random.u32(0..4),
        outbox_bytes: random.usize(0..5000),
        faults: Faults::seeded(random.u64(..), random.u32(2..20)),
        ..Config::default()
    }
}

fn any_offer(random: &mut Rng) -> Offer {
    Offer {
        version: random.choice([None, Some(Version::Tls12), Some(Version::Tls13)]).unwrap(),
        cipher: random
            .choice([None, Some(Cipher::Aes128Gcm), Some(Cipher::Aes256Gcm), Some(Cipher::ChaCha20Poly1305)])
            .unwrap(),
        resume: random.bool(),
    }
}

/// A server's handler under TLS that drains when it is woken, and what it has counted then.
fn serve(
    server: Server,
    handshake_ns: u64,
    close_ns: u64,
) -> (impl Handler, Rc<RefCell<Served>>, Arc<Shared>) {
    let shared = Arc::new(Shared::default());
    let counted = Rc::new(RefCell::new(Served::default()));
    let (theirs, leave) = (Arc::clone(&shared), Rc::clone(&counted));
    let report = move |served| {
        *leave.borrow_mut() = served;
        theirs.draining.store(true, Ordering::Relaxed);
    };
    let serve = Serve::new(patient(), Arc::clone(&shared), report);
    (Tls::new(serve, Ends::Server(server), handshake_ns, close_ns), counted, shared)
}

/// Messages in one or more frames, and a Close; what must be heard.
fn conversation(random: &mut Rng, bytes_max: usize) -> (Script, Vec<Heard>) {
    let (mut frames, mut hears) = (Vec::new(), Vec::new());
    for _ in 0..random.usize(0..20) {
        let any = random.usize(0..=bytes_max);
        let length = random.choice([0, 1, 125, 126, any]).unwrap().min(bytes_max);
        let text = random.bool();
        let payload: Vec<u8> =
            (0..length).map(|_| if text { random.alphanumeric() as u8 } else { random.u8(..) }).collect();
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        let cut = random.usize(0..=length);
        frame(opcode, false, &payload[..cut], &mut frames);
        frame(Opcode::Ping, true, b"between", &mut frames);
        frame(Opcode::Continuation, true, &payload[cut..], &mut frames);
        hears.push(Heard::Pong(b"between".to_vec()));
        hears.push(Heard::Message { text, payload });
    }
    frame(Opcode::Close, true, &1000_u16.to_be_bytes(), &mut frames);
    hears.push(Heard::Close(Some(1000)));
    hears.push(Heard::Closed { by_end: true });
    (Script { frames, closes: true, ..Script::default() }, hears)
}

#[test]
fn every_message_is_echoed_once_and_in_order_however_records_are_cut() {
    let messages = Cell::new(0);
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let mut plan = Plan::seeded(seed);
        plan.wakes = vec![(End::Client, 0), (End::Server, DRAIN_NS)];
        let bytes_max = (plan.pipe_bytes * 5).clamp(10, 70_000);
        let (scripts, hears): (Vec<_>, Vec<_>) =
            (0..random.usize(1..5)).map(|_| conversation(&mut random, bytes_max)).unzip();
        let (server, client) = ends(&any_offer(&mut random));
        let (serve, counted, shared) = serve(server, HOUR_NS, HOUR_NS);
        let talk = Tls::new(Talk::new(scripts), Ends::Client(client), HOUR_NS, HOUR_NS);
        let configs = (tiny(&mut random), Config { outbox_bytes: usize::MAX, ..tiny(&mut random) });
        let (_, talk, course) = run_pair(&plan, (configs.0, serve), (configs.1, talk));
        let talk = talk.into_inner();
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
        let served = *counted.borrow();
        assert_eq!((served.messages, served.upgrades), (said, hears.len() as u64), "seed {seed}");
        let tls = served.engine.tls;
        assert_eq!((tls.handshakes, tls.failures, tls.faults, tls.truncated), (served.upgrades, 0, 0, 0));
        assert_eq!(shared.open.load(Ordering::Relaxed), 0, "seed {seed}");
        messages.set(messages.get() + said);
    });
    assert!(messages.get() > 0);
}

#[test]
fn a_drain_at_any_moment_turns_away_those_in_their_handshake_and_closes_the_others_with_1001() {
    let (closed, turned_away) = (Cell::new(0), Cell::new(0));
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let mut plan = Plan::seeded(seed);
        plan.wakes = vec![(End::Client, 0), (End::Server, random.u64(0..20 * plan.latency_ns_max.max(1)))];
        let (server, client) = ends(&Offer::default());
        let (serve, _, shared) = serve(server, HOUR_NS, HOUR_NS);
        let scripts = vec![Script::default(); 3];
        let talk = Tls::new(Talk::new(scripts), Ends::Client(client), HOUR_NS, HOUR_NS);
        let configs = (tiny(&mut random), Config { outbox_bytes: usize::MAX, ..tiny(&mut random) });
        let (_, talk, course) = run_pair(&plan, (configs.0, serve), (configs.1, talk));
        let talk = talk.into_inner();
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", talk.heard);
        assert_eq!(shared.open.load(Ordering::Relaxed), 0, "seed {seed}");
        for number in 0..3 {
            match &talk.said_to(number)[..] {
                [Heard::Close(Some(1001)), Heard::Closed { by_end: true }] => closed.set(closed.get() + 1),
                [Heard::Closed { .. }] => turned_away.set(turned_away.get() + 1),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    });
    assert!(closed.get() > 0 && turned_away.get() > 0, "{closed:?} closed, {turned_away:?} turned away");
}

/// A client that says something at once, and keeps what it hears.
struct Raw {
    says: Bytes,
    heard: Vec<u8>,
    closed: Option<Closed>,
}

impl Raw {
    fn new(says: impl Into<Bytes>) -> Self {
        Self { says: says.into(), heard: Vec::new(), closed: None }
    }
}

impl Handler for Raw {
    type Conn = ();

    fn on_accept(&mut self) {
        unreachable!("a client has no listener")
    }

    fn on_open(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).unwrap().1.send(self.says.clone());
    }

    fn on_bytes(&mut self, _connections: &mut Connections<()>, _id: ConnId, received: Received<'_>) {
        self.heard.extend_from_slice(&received.memory[received.range]);
    }

    fn on_end(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).unwrap().1.close();
    }

    fn on_timer(&mut self, _connections: &mut Connections<()>, _id: ConnId) {}

    fn on_closed(&mut self, connections: &mut Connections<()>, _conn: (), why: Closed) {
        self.closed = Some(why);
        connections.stop();
    }

    fn on_wake(&mut self, connections: &mut Connections<()>) {
        connections.connect("127.0.0.1:1".parse().unwrap(), ());
    }
}

fn against(raw: Raw, seed: u64) -> (Raw, Served, Course) {
    let mut random = Rng::with_seed(seed);
    let mut plan = Plan::seeded(seed);
    plan.wakes = vec![(End::Client, 0), (End::Server, DRAIN_NS)];
    let (serve, counted, shared) = serve(ends(&Offer::default()).0, BRIEF_NS, BRIEF_NS);
    let configs = (tiny(&mut random), Config { outbox_bytes: usize::MAX, ..tiny(&mut random) });
    let (_, raw, course) = run_pair(&plan, (configs.0, serve), (configs.1, raw));
    assert_eq!((course.ended, shared.open.load(Ordering::Relaxed)), (Ended::Stopped, 0), "seed {seed}");
    let served = *counted.borrow();
    (raw, served, course)
}

#[test]
fn what_is_no_tls_is_closed_and_counted() {
    for says in
        [&b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"[..], b"\x00", &[0xFF; 5000], b"\x16\x03\x01\xFF\xFF"]
    {
        seed::each(20, |seed| {
            let (_, served, _) = against(Raw::new(says), seed);
            let tls = served.engine.tls;
            assert_eq!((tls.not_tls, tls.failures, tls.handshakes, tls.timeouts), (1, 0, 0, 0), "{says:?}");
        });
    }
}

#[test]
fn a_handshake_that_makes_no_sense_is_answered_by_an_alert() {
    // A handshake record with a message of no known kind; an alert; a ClientHello that ends early.
    for says in
        [&[22, 3, 1, 0, 4, 99, 0, 0, 0][..], &[21, 3, 1, 0, 2, 2, 40], &[22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3]]
    {
        seed::each(20, |seed| {
            let (raw, served, _) = against(Raw::new(Bytes::copy_from_slice(says)), seed);
            let tls = served.engine.tls;
            assert_eq!((tls.failures, tls.not_tls, tls.handshakes), (1, 0, 0), "seed {seed}, {says:?}");
            let is_alert = raw.heard.first().is_none_or(|&kind| kind == 21);
            assert!(is_alert && (says[0] == 21) == raw.heard.is_empty(), "{says:?}: {:?}", raw.heard);
        });
    }
}

#[test]
fn whoever_stops_in_the_middle_of_a_handshake_is_given_up_in_time() {
    let client = ends(&Offer::default()).1;
    let mut hello = Vec::new();
    Session::client(&client, &mut hello).unwrap();
    for part_bytes in [0, 1, 5, 40, hello.len()] {
        seed::each(10, |seed| {
            let (raw, served, course) = against(Raw::new(hello[..part_bytes].to_vec()), seed);
            let tls = served.engine.tls;
            assert_eq!(
                (tls.timeouts, tls.failures, tls.handshakes),
                (1, 0, 0),
                "seed {seed}, {part_bytes} bytes"
            );
            assert!(raw.closed.is_some() && course.elapsed_ns >= BRIEF_NS, "seed {seed}");
        });
    }
}

#[test]
fn a_record_that_was_tampered_with_ends_its_connection() {
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let (server, client) = ends(&Offer { version: Some(Version::Tls13), ..Offer::default() });
        let (mut out, mut sealed) = (Vec::new(), Vec::new());
        let mut ours = Session::client(&client, &mut out).unwrap();
        let mut theirs = Session::server(&server).unwrap();
        shake_hands(&mut ours, &mut theirs, out);
        let plain: Vec<u8> = (0..random.usize(1..40_000)).map(|_| random.u8(..)).collect();
        ours.seal(&plain, &mut sealed);
        let mut memory = vec![0; HEADROOM_BYTES];
        memory.extend_from_slice(&sealed);
        // Lengths left alone: a record cut short is another matter.
        let at = HEADROOM_BYTES + random.usize(0..sealed.len());
        let (mut start, mut in_length) = (HEADROOM_BYTES, false);
        while start < memory.len() {
            in_length |= (start + 3..start + 5).contains(&at);
            start += 5 + usize::from(u16::from_be_bytes([memory[start + 3], memory[start + 4]]));
        }
        if in_length {
            return;
        }
        memory[at] ^= 1 << random.u8(0..8);
        let range = HEADROOM_BYTES..memory.len();
        let opened = theirs.open_all(&mut memory, range, &mut Vec::new());
        assert!(matches!(opened.end, Some(Err(_))), "seed {seed}, byte {at}: {opened:?}");
        assert!(plain.starts_with(&memory[opened.plain]), "seed {seed}: what came before it is as it was");
    });
}

#[test]
fn a_handshake_with_a_changed_byte_may_fail_and_never_panics() {
    let failed = Cell::new(0);
    seed::each(10 * SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let (server, client) = ends(&any_offer(&mut random));
        let mut to_them = Vec::new();
        let mut ours = Session::client(&client, &mut to_them).unwrap();
        let mut theirs = Session::server(&server).unwrap();
        let flights_before = random.usize(0..4);
        for flight in 0..8 {
            let (taker, mut bytes) =
                (if flight % 2 == 0 { &mut theirs } else { &mut ours }, std::mem::take(&mut to_them));
            if flight == flights_before && !bytes.is_empty() {
                let at = random.usize(0..bytes.len());
                bytes[at] ^= 1 << random.u8(0..8);
            }
            match taker.on_handshake(&bytes, &mut to_them) {
                Ok(None) => {}
                Ok(Some(_)) => return,
                Err(_) => return failed.set(failed.get() + 1),
            }
        }
    });
    assert!(failed.get() > 0);
}

/// Lets two sessions speak until both are secured.
fn shake_hands(ours: &mut Session, theirs: &mut Session, mut to_them: Vec<u8>) {
    let (mut done, mut turns) = ([false; 2], 0);
    let mut to_us = Vec::new();
    while done != [true; 2] {
        done[1] |= theirs.on_handshake(&std::mem::take(&mut to_them), &mut to_us).unwrap().is_some();
        if !done[0] {
            done[0] = ours.on_handshake(&std::mem::take(&mut to_us), &mut to_them).unwrap().is_some();
        }
        turns += 1;
        assert!(turns < 10, "they do not come together");
    }
}

#[test]
fn a_client_that_trusts_another_server_says_so_and_is_gone() {
    seed::each(SEEDS / 3, |seed| {
        let mut random = Rng::with_seed(seed);
        let mut plan = Plan::seeded(seed);
        plan.wakes = vec![(End::Client, 0), (End::Server, DRAIN_NS)];
        let (serve, counted, _) = serve(ends(&Offer::default()).0, BRIEF_NS, BRIEF_NS);
        let stranger = Ends::Client(ends(&Offer::default()).1);
        let client = Tls::new(Raw::new("unheard"), stranger, HOUR_NS, BRIEF_NS);
        let configs = (tiny(&mut random), Config { outbox_bytes: usize::MAX, ..tiny(&mut random) });
        let (_, client, course) = run_pair(&plan, (configs.0, serve), (configs.1, client));
        let (client, served) = (client.into_inner(), *counted.borrow());
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}");
        assert_eq!((served.engine.tls.handshakes, served.messages), (0, 0), "seed {seed}");
        let Some(Closed::Tls(error)) = &client.closed else { panic!("seed {seed}: {:?}", client.closed) };
        assert!(error.to_string().contains("--insecure"), "seed {seed}: {error}");
    });
}
