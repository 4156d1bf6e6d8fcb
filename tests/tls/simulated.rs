//! Conversations over TLS in fake time: whatever the network does to the records, what is said stays the same.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fastrand::Rng;
use ringsock::engine::memory::{Course, End, Ended, Plan, run_pair};
use ringsock::engine::{Closed, Config, ConnId, Connections, Ends, Faults, Handler, Received, Tapped, Tls};
use ringsock::limits::HEADROOM_BYTES;
use ringsock::scenario::serve::{Limits, Serve, Served, Shared, Timeouts};
use ringsock::scenario::trace::{Numbers, Role, Trace};
use ringsock::tls::{Cipher, Offer, Secured, Server, Session, Version};
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

/// A server's handler that drains when it is woken, and what it has counted then.
fn serve_in_the_clear(limits: Limits) -> (impl Handler, Rc<RefCell<Served>>, Arc<Shared>) {
    let shared = Arc::new(Shared::default());
    let counted = Rc::new(RefCell::new(Served::default()));
    let (theirs, leave) = (Arc::clone(&shared), Rc::clone(&counted));
    let report = move |served| {
        *leave.borrow_mut() = served;
        theirs.draining.store(true, Ordering::Relaxed);
    };
    (Serve::new(limits, Arc::clone(&shared), report), counted, shared)
}

/// The same under TLS.
fn serve(
    server: Server,
    handshake_ns: u64,
    close_ns: u64,
) -> (impl Handler, Rc<RefCell<Served>>, Arc<Shared>) {
    let (serve, counted, shared) = serve_in_the_clear(patient());
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

// ---- layers ----

/// A client that sends more than may wait, and reads little of what comes back, or nothing.
struct Slow {
    /// How long it waits between two reads; `None`: for ever.
    reads_every_ns: Option<u64>,
    is_open: bool,
}

impl Handler for Slow {
    type Conn = ();

    fn on_accept(&mut self) {
        unreachable!("a client has no listener")
    }

    fn on_open(&mut self, connections: &mut Connections<()>, id: ConnId) {
        const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        connections.get(id).unwrap().1.send(Bytes::from_static(REQUEST));
    }

    fn on_bytes(&mut self, connections: &mut Connections<()>, id: ConnId, _received: Received<'_>) {
        let now_ns = connections.now_ns();
        let (_, mut io) = connections.get(id).unwrap();
        if !std::mem::replace(&mut self.is_open, true) {
            let mut frames = Vec::new();
            (0..100).for_each(|_| frame(Opcode::Binary, true, &[7; 10_000], &mut frames));
            io.send(frames.into());
        }
        io.hold_reading(true);
        if let Some(every_ns) = self.reads_every_ns {
            io.wake_by(now_ns + every_ns);
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).unwrap().1.hold_reading(false);
    }

    fn on_end(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).unwrap().1.close();
    }

    fn on_closed(&mut self, connections: &mut Connections<()>, _conn: (), _why: Closed) {
        connections.stop();
    }

    fn on_wake(&mut self, connections: &mut Connections<()>) {
        connections.connect("127.0.0.1:1".parse().unwrap(), ());
    }
}

fn traced<H: Handler>(handler: H) -> Tapped<H, Trace> {
    Tapped::new(handler, Trace::new(Role::Server, Numbers::new(0), Box::new(std::io::sink())))
}

#[test]
fn who_does_not_read_is_dropped_and_who_reads_slowly_is_not_whatever_lies_between() {
    const LOOK_NS: u64 = 10 * SECOND_NS;
    let play = |seed, reads_every_ns, tls: bool, is_traced: bool| {
        let mut plan = Plan { latency_ns_max: 1_000_000, pipe_bytes: 4096, ..Plan::seeded(seed) };
        plan.wakes = vec![(End::Client, 0), (End::Server, LOOK_NS)];
        plan.until_ns = LOOK_NS + SECOND_NS;
        let configs = (
            Config { outbox_bytes: 64 * 1024, recv_buffer_bytes: 20_000, ..Config::default() },
            Config { outbox_bytes: usize::MAX, recv_buffer_bytes: 2000, ..Config::default() },
        );
        let limits = Limits { stall_ns: Some(2 * SECOND_NS), ..patient() };
        let (serve, counted, _) = serve_in_the_clear(limits);
        let slow = Slow { reads_every_ns, is_open: false };
        let (server, client) = ends(&Offer::default());
        let (server, client) = (Ends::Server(server), Ends::Client(client));
        match (tls, is_traced) {
            (false, false) => drop(run_pair(&plan, (configs.0, serve), (configs.1, slow))),
            (false, true) => drop(run_pair(&plan, (configs.0, traced(serve)), (configs.1, slow))),
            (true, false) => {
                let serve = Tls::new(serve, server, HOUR_NS, HOUR_NS);
                let slow = Tls::new(slow, client, HOUR_NS, HOUR_NS);
                drop(run_pair(&plan, (configs.0, serve), (configs.1, slow)));
            }
            (true, true) => {
                let serve = Tls::new(traced(serve), server, HOUR_NS, HOUR_NS);
                let slow = Tls::new(slow, client, HOUR_NS, HOUR_NS);
                drop(run_pair(&plan, (configs.0, serve), (configs.1, slow)));
            }
        }
        let served = *counted.borrow();
        (served.kinds.timeouts_stall, served.connections, served.engine.pauses > 0)
    };
    seed::each(5, |seed| {
        for (tls, is_traced) in [(false, false), (false, true), (true, false), (true, true)] {
            let how = format!("seed {seed}, TLS {tls}, traced {is_traced}");
            assert_eq!(play(seed, None, tls, is_traced), (1, 0, true), "{how}");
            assert_eq!(play(seed, Some(SECOND_NS), tls, is_traced), (0, 1, true), "{how}, reads");
        }
    });
}

// ---- handshakes ----

/// A server that counts how many connections are secured from one turn to the next.
#[derive(Default)]
struct Host {
    secured: u32,
    in_this_turn: u32,
    most_in_a_turn: u32,
}

impl Handler for Host {
    type Conn = ();

    fn on_accept(&mut self) {}

    fn on_secured(
        &mut self,
        _connections: &mut Connections<()>,
        _id: ConnId,
        _secured: &Secured,
        _took_ns: u64,
    ) {
        self.secured += 1;
        self.in_this_turn += 1;
    }

    fn on_open(&mut self, _connections: &mut Connections<()>, _id: ConnId) {}

    fn on_bytes(&mut self, _connections: &mut Connections<()>, _id: ConnId, _received: Received<'_>) {}

    fn on_end(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).unwrap().1.close();
    }

    fn on_timer(&mut self, _connections: &mut Connections<()>, _id: ConnId) {}

    fn on_closed(&mut self, _connections: &mut Connections<()>, _conn: (), _why: Closed) {}

    fn on_wake(&mut self, connections: &mut Connections<()>) {
        connections.stop();
    }

    fn on_turn(&mut self, _connections: &mut Connections<()>) -> Option<u64> {
        self.most_in_a_turn = self.most_in_a_turn.max(std::mem::take(&mut self.in_this_turn));
        None
    }
}

/// Clients that come all at once, and go once they are secured, or after a while.
struct Crowd {
    count: u32,
    gives_up_ns: Option<u64>,
    closed: Vec<Closed>,
}

impl Handler for Crowd {
    type Conn = ();

    fn on_accept(&mut self) {
        unreachable!("a client has no listener")
    }

    fn on_open(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).unwrap().1.close();
    }

    fn on_bytes(&mut self, _connections: &mut Connections<()>, _id: ConnId, _received: Received<'_>) {}

    fn on_end(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).unwrap().1.close();
    }

    fn on_timer(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).unwrap().1.abort();
    }

    fn on_closed(&mut self, connections: &mut Connections<()>, _conn: (), why: Closed) {
        self.closed.push(why);
        if connections.is_empty() {
            connections.stop();
        }
    }

    fn on_wake(&mut self, connections: &mut Connections<()>) {
        let now_ns = connections.now_ns();
        for _ in 0..self.count {
            let id = connections.connect("127.0.0.1:1".parse().unwrap(), ());
            if let Some(after_ns) = self.gives_up_ns {
                connections.get(id).unwrap().1.wake_by(now_ns + after_ns);
            }
        }
    }
}

#[test]
fn handshakes_of_a_crowd_are_spread_over_turns_and_all_of_them_succeed() {
    const CROWD: u32 = 12;
    let most_without_a_bound = Cell::new(0);
    seed::each(SEEDS / 3, |seed| {
        for per_turn in [1, 2, u32::MAX] {
            let mut random = Rng::with_seed(seed);
            let mut plan = Plan { latency_ns_max: 1000, ..Plan::seeded(seed) };
            plan.wakes = vec![(End::Client, 0), (End::Server, DRAIN_NS)];
            let (server, client) = ends(&any_offer(&mut random));
            let host = Tls::new(Host::default(), Ends::Server(server), HOUR_NS, HOUR_NS);
            let crowd = Crowd { count: CROWD, gives_up_ns: None, closed: Vec::new() };
            let crowd = Tls::new(crowd, Ends::Client(client), HOUR_NS, HOUR_NS);
            let configs = (tiny(&mut random), Config { outbox_bytes: usize::MAX, ..tiny(&mut random) });
            let host = host.pacing_handshakes(per_turn);
            let (host, crowd, course) = run_pair(&plan, (configs.0, host), (configs.1, crowd));
            let host = host.into_inner();
            assert_eq!((course.ended, host.secured), (Ended::Stopped, CROWD), "seed {seed}, {per_turn}");
            assert_eq!(crowd.into_inner().closed.len(), CROWD as usize, "seed {seed}, {per_turn}");
            assert!(host.most_in_a_turn <= per_turn, "seed {seed}, {per_turn}: {}", host.most_in_a_turn);
            if per_turn == u32::MAX {
                most_without_a_bound.set(host.most_in_a_turn.max(most_without_a_bound.get()));
            }
        }
    });
    assert!(most_without_a_bound.get() > 2, "no two came at once, so nothing was bounded");
}

#[test]
fn connections_that_are_not_wanted_cost_no_handshake() {
    seed::each(SEEDS / 3, |seed| {
        let three_in_all = Limits { connections: 3, ..patient() };
        let two_from_one = Limits { connections_per_address: Some(2), ..patient() };
        for (limits, inside, full, from_address, dropped) in
            [(three_in_all, 3, 4, 0, 0), (two_from_one, 2, 0, 2, 3)]
        {
            let mut random = Rng::with_seed(seed);
            let mut plan = Plan::seeded(seed);
            plan.wakes = vec![(End::Client, 0), (End::Server, DRAIN_NS)];
            let (server, client) = ends(&Offer::default());
            let (serve, counted, shared) = serve_in_the_clear(limits);
            let serve = Tls::new(traced(serve), Ends::Server(server), HOUR_NS, HOUR_NS);
            let talk = Talk::new(vec![Script::default(); 7]);
            let talk = Tls::new(talk, Ends::Client(client), HOUR_NS, HOUR_NS);
            // All are there before any is gone again.
            let config = Config { peer_addresses: true, faults: Faults::default(), ..tiny(&mut random) };
            let theirs = Config { outbox_bytes: usize::MAX, ..tiny(&mut random) };
            let (_, _, course) = run_pair(&plan, (config, serve), (theirs, talk));
            assert_eq!(course.ended, Ended::Stopped, "seed {seed}");
            let served = *counted.borrow();
            let (tls, kinds) = (served.engine.tls, served.kinds);
            // Whoever is turned away leaves its place to the next: at least so many come in.
            assert!(tls.handshakes >= inside && tls.handshakes == served.upgrades, "seed {seed}: {served:?}");
            let turned_away =
                kinds.rejections_full + kinds.rejections_from_address + kinds.drops_from_address;
            assert_eq!(tls.handshakes + turned_away, 7, "seed {seed}: {served:?}");
            assert_eq!(kinds.rejections_full > 0, full > 0, "seed {seed}: {served:?}");
            assert_eq!(kinds.rejections_from_address > 0, from_address > 0, "seed {seed}: {served:?}");
            assert!(kinds.drops_from_address <= dropped, "seed {seed}: {served:?}");
            assert_eq!((tls.failures, tls.timeouts, tls.not_tls), (0, 0, 0), "seed {seed}");
            assert_eq!(shared.open.load(Ordering::Relaxed), 0, "seed {seed}");
        }
    });
}

#[test]
fn a_handshake_that_is_given_up_is_told_apart_from_one_that_is_late() {
    let plan = Plan { wakes: vec![(End::Client, 0)], ..Plan::seeded(1) };
    for (handshake_ns, gives_up_ns, told) in [
        (2 * BRIEF_NS, Some(BRIEF_NS), "handshake: not over when the connection was closed"),
        (BRIEF_NS, Some(2 * BRIEF_NS), "handshake: timed out"),
        (BRIEF_NS, None, "handshake: timed out"),
    ] {
        let crowd = Crowd { count: 1, gives_up_ns, closed: Vec::new() };
        let crowd = Tls::new(crowd, Ends::Client(ends(&Offer::default()).1), handshake_ns, HOUR_NS);
        // It hears the handshake, and says nothing.
        let configs = (Config::default(), Config::default());
        let (_, crowd, _) = run_pair(&plan, (configs.0, Host::default()), (configs.1, crowd));
        let closed = crowd.into_inner().closed;
        let [Closed::Tls(error)] = &closed[..] else { panic!("{closed:?}") };
        assert_eq!(error.to_string(), told);
    }
}

#[test]
fn keys_that_have_sealed_all_they_may_are_changed_or_end_their_connection_cleanly() {
    // Its Finished, the answer to the request, and one of echoes: those that follow each other share a record.
    const RECORDS: u64 = 3;
    let ended = Cell::new(0);
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let offer = any_offer(&mut random);
        let mut plan = Plan::seeded(seed);
        plan.wakes = vec![(End::Client, 0), (End::Server, DRAIN_NS)];
        let (server, client) = ends(&offer);
        let (serve, counted, shared) = serve_in_the_clear(patient());
        let serve = Tls::new(serve, Ends::Server(server), HOUR_NS, HOUR_NS).bounding_keys(RECORDS);
        let (script, hears) = conversation(&mut random, 5000);
        let talk = Tls::new(Talk::new(vec![script]), Ends::Client(client), HOUR_NS, HOUR_NS);
        let configs = (tiny(&mut random), Config { outbox_bytes: usize::MAX, ..tiny(&mut random) });
        let (_, talk, course) = run_pair(&plan, (configs.0, serve), (configs.1, talk));
        let talk = talk.into_inner();
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", talk.heard);
        let (tls, heard) = (counted.borrow().engine.tls, talk.said_to(0));
        if tls.used_up == 0 {
            assert!(heard.iter().copied().eq(&hears), "seed {seed}: {heard:?}, not {hears:?}");
        } else {
            // What was sealed before has all arrived, and it is a farewell that it ends with.
            assert_eq!(heard.last(), Some(&&Heard::Closed { by_end: true }), "seed {seed}: {heard:?}");
            let said = &heard[..heard.len() - 1];
            assert!(said.iter().copied().eq(&hears[..said.len()]), "seed {seed}: {heard:?}, not {hears:?}");
            assert!(offer.version != Some(Version::Tls13) && offer.cipher != Some(Cipher::ChaCha20Poly1305));
        }
        assert_eq!((tls.faults, tls.truncated), (0, 0), "seed {seed}");
        assert_eq!(shared.open.load(Ordering::Relaxed), 0, "seed {seed}");
        ended.set(ended.get() + tls.used_up);
    });
    assert!(ended.get() > 0, "nothing was used up");
}
