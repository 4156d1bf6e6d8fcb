//! Frames through the protocol, from bytes received to bytes to send: first a plain table of nanoseconds a frame,
//! then criterion's timings.
//!
//! `cargo bench --bench decoder` measures; `cargo bench --bench decoder -- --test` runs all of it once, tiny.
//!
//! An echo destroys what it answers, so each batch is copied into the receive buffer first, as a kernel would;
//! that copy is timed as a column of its own and is part of the other two. No socket is involved.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ringsock::limits::HEADROOM_BYTES;
use ringsock::ws::connection::{Connection, Event};
use ringsock::ws::frame::{Header, MAX_HEADER_BYTES, Opcode, Role};
use ringsock::ws::in_place::InPlace;
use ringsock::ws::mask::{self, Mask};

/// Payload of each frame, and how many of them one receive holds.
const SHAPES: [(usize, usize); 5] = [(16, 64), (64, 64), (125, 64), (1024, 16), (64 << 10, 1)];

/// How much to measure.
struct Effort {
    rounds: usize,
    /// Bytes to pass in one timed stretch, at least one batch.
    stretch_bytes: usize,
}

const FULL: Effort = Effort { rounds: 101, stretch_bytes: 1 << 20 };
const TINY: Effort = Effort { rounds: 1, stretch_bytes: 1 };

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Without `--bench` it is `cargo test` that runs this, and criterion is tiny then, too.
    let tiny = has("--test") || !has("--bench");
    if !has("--list") {
        table(if tiny { &TINY } else { &FULL });
    }
    let mut criterion = Criterion::default().configure_from_args();
    batches(&mut criterion);
    criterion.final_summary();
}

// ---------------------------------------------------------------------------------------------------------
// What is measured
// ---------------------------------------------------------------------------------------------------------

/// One receive's worth of a client's frames, the connection they belong to, and the buffer they land in.
struct Batch {
    wire: Vec<u8>,
    frame_count: usize,
    memory: Vec<u8>,
    connection: Connection,
}

/// A way to treat a batch.
type Treatment = (&'static str, fn(&mut Batch));

const TREATMENTS: [Treatment; 4] = [
    ("copy in", Batch::copy_in),
    ("decode", Batch::decode),
    ("echo, general way", Batch::echo),
    ("echo", Batch::echo_short),
];

impl Batch {
    fn new(opcode: Opcode, payload_bytes: usize, frame_count: usize) -> Self {
        let mut wire = Vec::new();
        for number in 0..frame_count {
            let key = Mask::from_bytes([0x37, 0xfa, 0x21, number as u8]);
            let header = Header { fin: true, opcode, mask: Some(key), payload_bytes: payload_bytes as u64 };
            let mut head = [0; MAX_HEADER_BYTES];
            let head_bytes = header.encode(&mut head);
            wire.extend_from_slice(&head[..head_bytes]);
            let payload_at = wire.len();
            wire.resize(payload_at + payload_bytes, b'a' + (number % 26) as u8);
            mask::unmask(key, &mut wire[payload_at..]);
        }
        let memory = vec![0; HEADROOM_BYTES + wire.len()];
        Self { wire, frame_count, memory, connection: Connection::new(Role::Server, 1 << 20, 0) }
    }

    #[inline(never)]
    fn copy_in(&mut self) {
        self.memory[HEADROOM_BYTES..].copy_from_slice(black_box(&self.wire));
    }

    /// Every payload unmasked where it stands, text validated.
    #[inline(never)]
    fn decode(&mut self) {
        self.copy_in();
        let Self { memory, connection, frame_count, .. } = self;
        let (mut at, mut messages) = (HEADROOM_BYTES, 0);
        while let Some(event) = connection.next(&memory[at..]).expect("legal frames") {
            let Event::Data(data) = event else { unreachable!("no control frames") };
            let payload_at = at + data.chunk.header_bytes;
            connection.accept(&data, memory, payload_at, payload_at).expect("valid text");
            at = payload_at + data.chunk.payload_bytes;
            messages += usize::from(data.ends_message());
        }
        assert_eq!(black_box(messages), *frame_count);
    }

    /// The whole batch answered in place, short messages the short way: what the server does.
    #[inline(never)]
    fn echo_short(&mut self) {
        self.copy_in();
        let Self { memory, connection, .. } = self;
        let range = HEADROOM_BYTES..memory.len();
        let mut in_place = InPlace::new(memory, range);
        loop {
            in_place.echo_short_messages(connection).expect("valid text");
            let Some(event) = in_place.next(connection).expect("legal frames") else { break };
            let Event::Data(data) = event else { unreachable!("no control frames") };
            in_place.echo(connection, &data).expect("valid text");
        }
        assert!(!black_box(in_place.take_reply()).is_empty());
    }

    /// The whole batch answered in place, all messages the general way.
    #[inline(never)]
    fn echo(&mut self) {
        self.copy_in();
        let Self { memory, connection, .. } = self;
        let range = HEADROOM_BYTES..memory.len();
        let mut in_place = InPlace::new(memory, range);
        while let Some(event) = in_place.next(connection).expect("legal frames") {
            let Event::Data(data) = event else { unreachable!("no control frames") };
            in_place.echo(connection, &data).expect("valid text");
        }
        assert!(!black_box(in_place.take_reply()).is_empty());
    }
}

// ---------------------------------------------------------------------------------------------------------
// The table
// ---------------------------------------------------------------------------------------------------------

fn table(effort: &Effort) {
    println!("ns per frame, masked by a client (median and least of {} rounds, in turn)", effort.rounds);
    print!("{:16}", "");
    TREATMENTS.iter().for_each(|(name, _)| print!(" {name:>17}"));
    println!();
    for (name, opcode) in [("binary", Opcode::Binary), ("text", Opcode::Text)] {
        for (payload_bytes, frame_count) in SHAPES {
            let mut batch = Batch::new(opcode, payload_bytes, frame_count);
            print!("{name:6} {payload_bytes:>7} B");
            for (median_ns, least_ns) in frame_ns(effort, &mut batch) {
                print!(" {median_ns:>8.1} {least_ns:>8.1}");
            }
            println!();
        }
    }
    println!();
}

/// Each treatment's median and least time for one frame.
fn frame_ns(effort: &Effort, batch: &mut Batch) -> [(f64, f64); 4] {
    let calls = effort.stretch_bytes.div_ceil(batch.wire.len());
    let mut times: [Vec<f64>; 4] = Default::default();
    // The first round warms up.
    for round in 0..=effort.rounds {
        for ((_, treat), times) in TREATMENTS.iter().zip(&mut times) {
            let start = Instant::now();
            (0..calls).for_each(|_| treat(black_box(batch)));
            if round > 0 {
                times.push(start.elapsed().as_nanos() as f64 / (calls * batch.frame_count) as f64);
            }
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[0])
    })
}

// ---------------------------------------------------------------------------------------------------------
// Criterion
// ---------------------------------------------------------------------------------------------------------

fn batches(criterion: &mut Criterion) {
    for (name, opcode) in [("binary", Opcode::Binary), ("text", Opcode::Text)] {
        for (payload_bytes, frame_count) in SHAPES {
            let mut batch = Batch::new(opcode, payload_bytes, frame_count);
            let mut group = criterion.benchmark_group(format!("{frame_count} x {payload_bytes} B {name}"));
            group.warm_up_time(Duration::from_millis(200));
            group.measurement_time(Duration::from_secs(1)).sample_size(20);
            group.throughput(Throughput::Elements(frame_count as u64));
            for (treatment, treat) in TREATMENTS {
                group.bench_function(treatment, |bencher| bencher.iter(|| treat(black_box(&mut batch))));
            }
        }
    }
}
