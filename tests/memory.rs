//! The seam's guarantees in fake time: two handlers over the memory engine, whatever the network and chance do.
//!
//! Every property is held over many seeds, and a failure names its seed. A property about a path counts that the
//! path was taken. What real kernels do is the part of `tests/engines.rs`.

#[path = "memory/actor.rs"]
mod actor;
#[path = "memory/bombs.rs"]
mod bombs;
#[path = "memory/deflate.rs"]
mod deflate;
#[path = "memory/endings.rs"]
mod endings;
#[path = "memory/scenes.rs"]
mod scenes;
#[path = "common/seed.rs"]
mod seed;
#[path = "memory/talk.rs"]
mod talk;
#[path = "memory/websocket.rs"]
mod websocket;

use std::cell::{Cell, RefCell};

use actor::{Actor, Conn, Event, byte};
use bytes::Bytes;
use fastrand::Rng;
use ringsock::engine::memory::{Course, End, Ended, Plan, run_pair};
use ringsock::engine::{Closed, Config, ConnId, Connections, Faults};

const SEEDS: u64 = 300;
const SECOND_NS: u64 = 1_000_000_000;

/// A small engine, so that rare paths become ordinary ones.
fn tiny(random: &mut Rng) -> Config {
    Config {
        connections_max: 64,
        recv_buffer_bytes: random.usize(1..3000),
        recv_buffers: 1 << random.u32(0..4),
        outbox_bytes: random.usize(0..5000),
        faults: Faults::seeded(random.u64(..), random.u32(2..20)),
        ..Config::default()
    }
}

/// One that reads whatever it has queued: two that wait for each other to read would do so for ever.
fn eager(random: &mut Rng) -> Config {
    Config { outbox_bytes: usize::MAX, ..tiny(random) }
}

/// What every seed took together: a path that none took has been tested by none.
#[derive(Default)]
struct Taken(RefCell<[u64; 7]>);

impl Taken {
    fn add(&self, course: &Course, faults: &Faults) {
        let counters = course.server;
        let [accepts, receives, sends] = faults.made();
        let more = [
            counters.short_sends,
            counters.pauses,
            counters.no_buffers,
            counters.accept_refusals,
            accepts,
            receives,
            sends,
        ];
        self.0.borrow_mut().iter_mut().zip(more).for_each(|(sum, count)| *sum += count);
    }

    fn assert_all(&self) {
        let sums = self.0.borrow();
        assert!(
            sums.iter().all(|&sum| sum > 0),
            "short sends, pauses, receives without a buffer, accepts refused, faults: {sums:?}"
        );
    }
}

/// What a client that sends streams has to do, and what came of it.
struct Streams {
    random: Rng,
    totals: Vec<usize>,
    got: Vec<usize>,
    closed: Vec<Option<Closed>>,
}

impl Streams {
    fn new(plan: &Plan, random: &mut Rng) -> Self {
        // Through a narrow pipe less, so that no seed takes long.
        let most = (plan.pipe_bytes * 50).min(20_000);
        let totals: Vec<usize> = (0..random.usize(1..8)).map(|_| random.usize(1..=most)).collect();
        let closed = totals.iter().map(|_| None).collect();
        Self { got: vec![0; totals.len()], closed, totals, random: random.fork() }
    }

    /// The client's part: queues a stream in pieces of all kinds, checks what comes back, and leaves.
    fn on_event(&mut self, connections: &mut Connections<Conn>, event: Event<'_>) {
        match event {
            Event::Wake => {
                for number in 0..self.totals.len() {
                    actor::connect(connections, number);
                }
            }
            Event::Open(id, number) => {
                let (_, mut io) = connections.get(id).unwrap();
                let mut at = 0;
                while at < self.totals[number] {
                    let end = (at + self.random.usize(1..2000)).min(self.totals[number]);
                    let piece: Vec<u8> = (at..end).map(|at| byte(number, at)).collect();
                    if self.random.bool() {
                        io.send(Bytes::from(piece));
                    } else {
                        io.write(|out| out.extend_from_slice(&piece));
                    }
                    at = end;
                }
            }
            Event::Bytes(id, number, received) => {
                for &got in &received.memory[received.range] {
                    assert_eq!(
                        got,
                        byte(number, self.got[number]),
                        "stream {number}, byte {}",
                        self.got[number]
                    );
                    self.got[number] += 1;
                }
                assert!(self.got[number] <= self.totals[number], "stream {number} goes on");
                if self.got[number] == self.totals[number] {
                    let (_, mut io) = connections.get(id).unwrap();
                    if self.random.bool() { io.close() } else { io.shut_down() }
                }
            }
            Event::End(id) => connections.get(id).unwrap().1.close(),
            Event::Closed(number, why) => {
                assert!(self.closed[number].replace(why).is_none(), "stream {number} ends twice");
                if self.closed.iter().all(Option::is_some) {
                    connections.stop();
                }
            }
            Event::Timer(..) | Event::Writable(..) => {}
        }
    }

    fn is_whole(&self, number: usize) -> bool {
        self.got[number] == self.totals[number]
    }
}

/// The server's part: sends everything back, from wherever; leaves when the peer does.
fn echoing(random: &mut Rng, connections: &mut Connections<Conn>, event: Event<'_>) {
    match event {
        Event::Bytes(id, _, received) => {
            let (_, mut io) = connections.get(id).unwrap();
            let cut = random.usize(received.range.start..=received.range.end);
            let rest = &received.memory[cut..received.range.end];
            io.reply_in_place(received.range.start..cut);
            match random.u8(0..3) {
                0 => io.send(Bytes::copy_from_slice(rest)),
                1 if !rest.is_empty() => io.write(|out| out.extend_from_slice(rest)),
                _ => io.reply_in_place(cut..received.range.end),
            }
        }
        Event::End(id) => connections.get(id).unwrap().1.close(),
        Event::Wake => {
            assert!(connections.is_empty(), "a client has left, and its connection is still here");
            connections.stop();
        }
        _ => {}
    }
}

/// Streams to an echo and back, by a plan that `change` may change.
fn stream_and_echo(seed: u64, change: impl FnOnce(&mut Plan), taken: &Taken) -> (Streams, Course) {
    let mut random = Rng::with_seed(seed);
    let mut plan = Plan::seeded(seed);
    plan.wakes = vec![(End::Client, 0), (End::Server, 1000 * SECOND_NS)];
    change(&mut plan);
    let (server, client) = (tiny(&mut random), eager(&mut random));
    let faults = server.faults.clone();
    let streams = Streams::new(&plan, &mut random);
    let (server, client, course) = run_pair(
        &plan,
        (server, Actor::new(random.fork(), echoing)),
        (client, Actor::new(streams, Streams::on_event)),
    );
    server.assert_order_was_kept();
    client.assert_order_was_kept();
    taken.add(&course, &faults);
    (client.state, course)
}

#[test]
fn bytes_come_back_whole_in_order_and_once_whatever_the_splits_and_faults() {
    let taken = Taken::default();
    seed::each(SEEDS, |seed| {
        let (streams, course) = stream_and_echo(seed, |_| {}, &taken);
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", course);
        assert_eq!(streams.got, streams.totals, "seed {seed}");
        let total: usize = streams.totals.iter().sum();
        let (server, client) = (course.server, course.client);
        for (what, count) in [
            ("sent by the client", client.sent_bytes),
            ("received by the server", server.received_bytes),
            ("sent by the server", server.sent_bytes),
            ("received by the client", client.received_bytes),
        ] {
            assert_eq!(count, total as u64, "seed {seed}: bytes {what}");
        }
    });
    taken.assert_all();
}

#[test]
fn a_reset_ends_its_own_connection_and_no_other() {
    let (resets, refusals) = (Cell::new(0), Cell::new(0));
    seed::each(SEEDS, |seed| {
        let chance = |plan: &mut Plan| (plan.reset_one_in, plan.refuse_one_in) = (50, 4);
        let (streams, course) = stream_and_echo(seed, chance, &Taken::default());
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {course:?}");
        let count = |is: &dyn Fn(usize) -> bool| (0..streams.totals.len()).filter(|&n| is(n)).count() as u64;
        let refused = count(&|n| matches!(streams.closed[n], Some(Closed::Connect(_))));
        assert_eq!(refused, course.refusals, "seed {seed}");
        let broken = count(&|n| matches!(streams.closed[n], Some(Closed::Broken(_))));
        let cut_off = count(&|n| !streams.is_whole(n)) - refused;
        assert!(broken <= course.resets, "seed {seed}: {broken} broken by {} resets", course.resets);
        assert!(cut_off <= course.resets, "seed {seed}: {cut_off} cut off by {} resets", course.resets);
        resets.set(resets.get() + cut_off);
        refusals.set(refusals.get() + refused);
    });
    assert!(resets.get() > 0 && refusals.get() > 0, "{resets:?} cut off, {refusals:?} refused");
}

#[test]
fn the_same_seed_gives_the_same_course() {
    seed::each(20, |seed| {
        let course = || {
            let chance = |plan: &mut Plan| plan.reset_one_in = 200;
            let (streams, course) = stream_and_echo(seed, chance, &Taken::default());
            format!("{:?} {:?} {course:?}", streams.got, streams.closed)
        };
        assert_eq!(course(), course(), "seed {seed}");
    });
    let course = |seed| stream_and_echo(seed, |_| {}, &Taken::default()).1.turns;
    assert_ne!(course(1), course(2));
}

/// Clients that knock again until they are served.
#[derive(Default)]
struct Knocking {
    served: [bool; 8],
    turned_away: u64,
}

impl Knocking {
    fn on_event(&mut self, connections: &mut Connections<Conn>, event: Event<'_>) {
        match event {
            Event::Wake => (0..self.served.len()).for_each(|number| actor::connect(connections, number)),
            Event::Open(id, _) => connections.get(id).unwrap().1.write(|out| out.push(b'?')),
            Event::Bytes(id, number, _) => {
                self.served[number] = true;
                connections.get(id).unwrap().1.close();
            }
            Event::End(id) => connections.get(id).unwrap().1.close(),
            Event::Closed(number, _) if !self.served[number] => {
                self.turned_away += 1;
                actor::connect(connections, number);
            }
            Event::Closed(..) if self.served.iter().all(|&served| served) => connections.stop(),
            _ => {}
        }
    }
}

#[test]
fn connections_beyond_the_limit_get_in_when_others_have_left() {
    let turned_away = Cell::new(0);
    seed::each(SEEDS / 3, |seed| {
        let mut random = Rng::with_seed(seed);
        let mut plan = Plan::seeded(seed);
        plan.wakes = vec![(End::Client, 0), (End::Server, 1000 * SECOND_NS)];
        let server = Config { connections_max: 2, ..tiny(&mut random) };
        let server = (server, Actor::new(random.fork(), echoing));
        let client = (eager(&mut random), Actor::new(Knocking::default(), Knocking::on_event));
        let (_, client, course) = run_pair(&plan, server, client);
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}");
        assert!(course.server.accept_refusals > 0, "seed {seed}");
        turned_away.set(turned_away.get() + client.state.turned_away);
    });
    assert!(turned_away.get() > 0);
}

/// Connections with timers, set again whenever they come.
struct Punctual {
    seed: u64,
    random: Rng,
    slack_ns: u64,
    left: [u32; 5],
    due_ns: [Option<u64>; 5],
}

impl Punctual {
    fn set(&mut self, connections: &mut Connections<Conn>, id: ConnId, number: usize) {
        // The earliest counts, in whatever order they are set.
        for _ in 0..self.random.usize(1..4) {
            let at_ns = connections.now_ns() + self.random.u64(0..SECOND_NS);
            connections.get(id).unwrap().1.wake_by(at_ns);
            let due_ns = &mut self.due_ns[number];
            *due_ns = Some(due_ns.map_or(at_ns, |due_ns| due_ns.min(at_ns)));
        }
    }

    fn on_event(&mut self, connections: &mut Connections<Conn>, event: Event<'_>) {
        let seed = self.seed;
        match event {
            Event::Wake => (0..self.left.len()).for_each(|number| actor::connect(connections, number)),
            Event::Open(id, number) => self.set(connections, id, number),
            Event::Timer(id, number) => {
                let (now_ns, due) = (connections.now_ns(), self.due_ns[number].take());
                let due = due.unwrap_or_else(|| panic!("seed {seed}: {number} has set no timer"));
                assert!(now_ns >= due, "seed {seed}: {} ns early", due - now_ns);
                assert!(now_ns <= due + self.slack_ns, "seed {seed}: {} ns late", now_ns - due);
                self.left[number] -= 1;
                if self.left[number] == 0 {
                    return connections.get(id).unwrap().1.close();
                }
                // Traffic beside it changes nothing.
                connections.get(id).unwrap().1.write(|out| out.push(0));
                self.set(connections, id, number);
            }
            Event::Closed(..) if connections.is_empty() => connections.stop(),
            _ => {}
        }
    }
}

#[test]
fn timers_come_when_they_are_due_and_none_is_lost() {
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let mut plan = Plan::seeded(seed);
        plan.wakes = vec![(End::Client, 0), (End::Server, 1000 * SECOND_NS)];
        let slack_ns = plan.latency_ns_max;
        let punctual = Punctual { seed, random: random.fork(), slack_ns, left: [20; 5], due_ns: [None; 5] };
        let server = (tiny(&mut random), Actor::new(random.fork(), echoing));
        let client = (eager(&mut random), Actor::new(punctual, Punctual::on_event));
        let (_, client, course) = run_pair(&plan, server, client);
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}");
        assert_eq!(client.state.left, [0; 5], "seed {seed}: a timer never came");
    });
}

/// Sends more than the pipe holds, and again whenever it has gone.
struct Writer {
    chunk: usize,
    rounds: u32,
}

impl Writer {
    fn on_event(&mut self, connections: &mut Connections<Conn>, event: Event<'_>) {
        match event {
            Event::Open(id, _) => connections.get(id).unwrap().1.send(Bytes::from(vec![1; self.chunk])),
            Event::Writable(id) => {
                self.rounds -= 1;
                let (_, mut io) = connections.get(id).unwrap();
                assert_eq!(io.queued_bytes(), 0, "told though some is left");
                if self.rounds > 0 {
                    io.send(Bytes::from(vec![1; self.chunk]));
                } else {
                    io.close();
                }
            }
            Event::Closed(..) => connections.stop(),
            _ => {}
        }
    }
}

#[test]
fn a_writer_is_told_when_a_slow_peer_has_taken_everything() {
    seed::each(SEEDS / 3, |seed| {
        let mut random = Rng::with_seed(seed);
        let mut plan = Plan::seeded(seed);
        plan.wakes = vec![(End::Client, 0)];
        let chunk = plan.pipe_bytes + random.usize(1..500);
        let server = (tiny(&mut random), Actor::new(Writer { chunk, rounds: 5 }, Writer::on_event));
        let reader = Actor::new(0, |got: &mut usize, connections, event| match event {
            Event::Wake => actor::connect(connections, 0),
            Event::Bytes(_, _, received) => *got += received.range.len(),
            Event::End(id) => connections.get(id).unwrap().1.close(),
            Event::Closed(..) => connections.stop(),
            _ => {}
        });
        let (writer, reader, course) = run_pair(&plan, server, (eager(&mut random), reader));
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", course.server);
        assert_eq!((writer.state.rounds, reader.state), (0, 5 * chunk), "seed {seed}");
    });
}

#[test]
fn two_that_never_stop_are_told_from_two_that_are_done() {
    let plan = Plan { wakes: vec![(End::Client, 0)], until_ns: 10 * SECOND_NS, ..Plan::seeded(1) };
    let silent = || (Config::default(), Actor::new((), |(), _, _| {}));
    let (.., idle) = run_pair(&plan, silent(), silent());
    assert_eq!(idle.ended, Ended::Quiet);
    let restless = Actor::new((), |(), connections, event| match event {
        Event::Wake => actor::connect(connections, 0),
        Event::Open(id, _) | Event::Timer(id, _) => {
            let soon_ns = connections.now_ns() + 1000 * 1000;
            connections.get(id).unwrap().1.wake_by(soon_ns);
        }
        _ => {}
    });
    let (.., course) = run_pair(&plan, silent(), (Config::default(), restless));
    assert_eq!(course.ended, Ended::OutOfTime);
    assert!(course.elapsed_ns > 10 * SECOND_NS && course.elapsed_ns < 11 * SECOND_NS);
}
