//! What a server does for peers whose messages inflate to far more than they sent, or are never ended: no more in a turn than others
//! can wait for, no more memory than there may be, and nothing at all for who does not read.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringsock::engine::memory::{Course, End, Plan, run_pair};
use ringsock::engine::{Closed, Config, ConnId, Connections, Handler, Received, Tap, Tapped};
use ringsock::scenario::deflate::{
    Account, Compression, DeflateParameters, DeflateSettings, WINDOW_BITS_MAX, WORK_MAX,
};
use ringsock::scenario::serve::{Limits, Peer, Serve, Served, Shared};
use ringsock::ws::deflate::{Compressor, DeflateSpace};
use ringsock::ws::frame::{Opcode, RSV1, Role};
use ringsock::ws::mask::Mask;

use super::SECOND_NS;
use super::talk::{Heard, Script, Talk, frame};
use super::websocket::patient;

const KEY: Mask = Mask::from_bytes([0x0F, 0x1E, 0x2D, 0x3C]);
const ALONE: DeflateParameters = DeflateParameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: WINDOW_BITS_MAX,
    client_max_window_bits: WINDOW_BITS_MAX,
};

/// As `--deflate` has it.
fn settings() -> DeflateSettings {
    let compression = Compression { level: 1, threshold_bytes: 64 };
    DeflateSettings { parameters: DeflateParameters::default(), compression }
}

fn config() -> Config {
    Config { recv_buffer_bytes: 65_600, recv_buffers: 16, connections_max: 64, ..Config::default() }
}

/// The first fragment of a compressed message that needs a window until its end.
fn endless() -> Vec<u8> {
    let mut begun = Vec::new();
    frame(Opcode::Binary, false, b"\x00\x05\x00\xfa\xffHe", &mut begun);
    begun[0] |= RSV1;
    begun
}

/// A compressed message of zeros.
fn zeros(byte_count: usize) -> Vec<u8> {
    let compression = Compression { level: 9, threshold_bytes: 0 };
    let mut compressor = Compressor::new(&ALONE, Role::Client, compression);
    let mut space = DeflateSpace::default();
    let piece = vec![0; byte_count.min(1 << 20)];
    for _ in 0..byte_count / piece.len() - 1 {
        compressor.write(&piece, false, false, &mut space, || Some(KEY));
    }
    compressor.write(&piece, false, true, &mut space, || Some(KEY));
    space.frames
}

/// A server that is stopped after so many turns in which it inflated something; it keeps the most of one.
struct Watched<R> {
    serve: Serve<R>,
    before: u64,
    most: u64,
    turns_left: u32,
}

impl<R: FnMut(Served) + 'static> Handler for Watched<R> {
    type Conn = Peer;

    fn on_accept(&mut self) -> Peer {
        self.serve.on_accept()
    }

    fn on_address(&mut self, connections: &mut Connections<Peer>, id: ConnId, address: IpAddr) {
        self.serve.on_address(connections, id, address);
    }

    fn on_open(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        self.serve.on_open(connections, id);
    }

    fn on_bytes(&mut self, connections: &mut Connections<Peer>, id: ConnId, received: Received<'_>) {
        self.serve.on_bytes(connections, id, received);
    }

    fn on_end(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        self.serve.on_end(connections, id);
    }

    fn on_timer(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        self.serve.on_timer(connections, id);
    }

    fn on_writable(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        self.serve.on_writable(connections, id);
    }

    fn on_closed(&mut self, connections: &mut Connections<Peer>, conn: Peer, why: Closed) {
        self.serve.on_closed(connections, conn, why);
    }

    fn on_wake(&mut self, connections: &mut Connections<Peer>) {
        self.serve.on_wake(connections);
    }

    /// The last of a turn, and the first after it: so all that is done between two looks at the sockets is counted as one.
    fn on_turn(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        let again_ns = self.serve.on_turn(connections);
        let inflated = self.serve.inflated_bytes();
        let more = inflated - std::mem::replace(&mut self.before, inflated);
        self.most = self.most.max(more);
        self.turns_left -= u32::from(more > 0);
        if self.turns_left == 0 {
            connections.stop();
        }
        again_ns
    }
}

/// Plays scripts against a server for so many turns in which it inflates something.
fn play(limits: Limits, shared: Shared, scripts: Vec<Script>, turns: u32, seed: u64) -> (Talk, u64, Course) {
    let plan =
        Plan { pipe_bytes: 1 << 20, latency_ns_max: 0, wakes: vec![(End::Client, 0)], ..Plan::seeded(seed) };
    let serve = Serve::new(limits, Arc::new(shared), drop).deflating(settings(), 1 << 20);
    let watched = Watched { serve, before: 0, most: 0, turns_left: turns };
    let (watched, talk, course) = run_pair(&plan, (config(), watched), (config(), Talk::new(scripts)));
    (talk, watched.most, course)
}

/// Somebody who neither compresses nor has anything to do with it.
fn honest() -> Script {
    let mut frames = Vec::new();
    (0..3).for_each(|number| frame(Opcode::Binary, true, &[number; 10], &mut frames));
    Script { frames, ..Script::default() }
}

fn assert_served(talk: &Talk, number: usize, seed: u64) {
    let heard = talk.said_to(number);
    let echoes: Vec<_> = (0..3).map(|byte| Heard::Message { text: false, payload: vec![byte; 10] }).collect();
    let all = heard.iter().take(3).copied().eq(&echoes);
    assert!(all, "seed {seed}: {heard:?}");
}

#[test]
fn between_two_looks_at_others_no_more_is_inflated_than_they_can_wait_for_however_many_bombs_there_are() {
    const BOMBS: usize = 20;
    let limits = Limits { message_bytes: Limits::default().message_bytes, ..patient() };
    let bomb = zeros(64 << 20);
    assert!(bomb.len() < 70_000, "{}", bomb.len());
    for seed in 0..2 {
        let attacker =
            Script { frames: bomb.clone(), deflate: Some(DeflateParameters::default()), ..Script::default() };
        let mut scripts = vec![attacker; BOMBS];
        scripts.push(honest());
        let (talk, most, _) = play(limits, Shared::default(), scripts, 60, seed);
        assert!(most >= 1 << 20, "seed {seed}: they were bombs: {most}");
        // Twice, as a turn's end is where the next begins.
        assert!(most <= 2 * WORK_MAX as u64, "seed {seed}: {most} bytes in a turn");
        assert_served(&talk, BOMBS, seed);
    }
}

#[test]
fn what_waits_to_be_inflated_is_bounded_in_all() {
    const BOMBS: usize = 10;
    let limits = Limits { queued_bytes_in_all: 100_000, ..patient() };
    let attacker =
        Script { frames: zeros(64 << 20), deflate: Some(DeflateParameters::default()), ..Script::default() };
    let mut scripts = vec![attacker; BOMBS];
    scripts.push(honest());
    let (talk, ..) = play(limits, Shared::default(), scripts, 40, 1);
    let closed =
        (0..BOMBS).filter(|&number| talk.said_to(number).contains(&&Heard::Close(Some(1013)))).count();
    assert!((1..BOMBS).contains(&closed), "{closed}");
    assert_served(&talk, BOMBS, 1);
}

#[test]
fn what_compression_keeps_is_bounded_and_who_needs_none_of_it_is_served() {
    let memory = Account::new(40_000);
    let shared = Shared { deflate_memory: memory.clone(), ..Shared::default() };
    let endless = Script { frames: endless(), deflate: Some(ALONE), ..Script::default() };
    let whole = Script {
        frames: zeros(1000),
        deflate: Some(DeflateParameters::default()),
        agreed: Some(ALONE),
        ..Script::default()
    };
    let mut uncompressed = Vec::new();
    frame(Opcode::Binary, true, &[7; 100_000], &mut uncompressed);
    let in_parts = Script { frames: uncompressed, ..whole.clone() };
    let (shared, scripts) = (Arc::new(shared), vec![endless, whole, honest(), in_parts]);
    let (draining, counted) =
        (Arc::clone(&shared), std::rc::Rc::new(std::cell::Cell::new(Served::default())));
    let leave = std::rc::Rc::clone(&counted);
    let report = move |served: Served| {
        leave.set(served);
        draining.draining.store(true, Ordering::Relaxed);
    };
    let wakes = vec![(End::Client, 0), (End::Server, 100 * SECOND_NS)];
    let plan = Plan { pipe_bytes: 1 << 16, latency_ns_max: 0, wakes, ..Plan::seeded(1) };
    let serve = Serve::new(patient(), shared, report).deflating(settings(), 1 << 20);
    let (_, talk, _) = run_pair(&plan, (config(), serve), (config(), Talk::new(scripts)));
    assert_eq!(talk.said_to(0)[0], &Heard::Close(Some(1013)));
    assert_eq!(talk.said_to(1)[0], &Heard::Message { text: false, payload: vec![0; 1000] });
    assert_served(&talk, 2, 1);
    // There is no room for a compressor, and its own message needs no decompressor.
    assert_eq!(talk.said_to(3)[0], &Heard::Message { text: false, payload: vec![7; 100_000] });
    let served = counted.get();
    assert_eq!((served.kinds.faults_no_memory, served.faults), (1, 1));
    assert_eq!((served.upgrades, served.upgrades_without_takeover), (4, 2));
    assert_eq!(memory.held_bytes(), 0, "who is gone keeps nothing");
}

/// Looks away.
struct Blind;

impl Tap for Blind {
    type Conn = ();

    fn begin(&mut self) {}
    fn on_open(&mut self, (): &mut (), _now_ns: u64) {}
    fn on_received(&mut self, (): &mut (), _bytes: &[u8], _now_ns: u64) {}
    fn on_queued(&mut self, (): &mut (), _bytes: &[u8], _now_ns: u64) {}
    fn on_closed(&mut self, (): (), _why: &Closed, _now_ns: u64) {}
    fn on_turn(&mut self) {}
}

#[test]
fn a_peer_that_does_not_read_is_not_looked_at_all_the_time() {
    let frames = zeros(30_000).repeat(100);
    let deaf =
        Script { frames, deaf: true, deflate: Some(DeflateParameters::default()), ..Script::default() };
    let plan = Plan {
        pipe_bytes: 5000,
        wakes: vec![(End::Client, 0)],
        until_ns: 1000 * SECOND_NS,
        ..Plan::seeded(3)
    };
    let limits = Limits { stall_ns: Some(400 * SECOND_NS), ..patient() };
    let settings =
        DeflateSettings { compression: Compression { level: 1, threshold_bytes: 40_000 }, ..settings() };
    let serve = || Serve::new(limits, Arc::default(), drop).deflating(settings, 100_000);
    let talk = || (config(), Talk::new(vec![deaf.clone()]));
    let (_, _, bare) = run_pair(&plan, (config(), serve()), talk());
    let (_, _, tapped) = run_pair(&plan, (config(), Tapped::new(serve(), Blind)), talk());
    for (label, course) in [("alone", bare), ("under a tap", tapped)] {
        assert!(course.elapsed_ns >= 400 * SECOND_NS, "{label}: {course:?}");
        assert_eq!((course.server.pauses, course.server.closed), (1, 1), "{label}: it was stuck");
        // A thousand looks a second would be 400,000.
        assert!(course.server.enters < 2000, "{label}: {} turns", course.server.enters);
    }
}
