//! JSON requests from text to what they ask for: first a plain table of nanoseconds a message, then criterion's timings.
//!
//! `cargo bench --bench json` measures; `cargo bench --bench json -- --test` runs all of it once, tiny.
//!
//! The server's way (`simd-json`, in place, the payload's source found) stands beside `serde_json` on the same messages: into a
//! tree of values, and, which is the best that can be had of it, into a struct that borrows the payload's source. Parsing may
//! write over what it parses, so each message is copied into the receive buffer first; that copy is a column of its own and part of the
//! others. No socket is involved.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ringsock::scenario::json::{Parser, Request, Requests};

/// How much to measure.
struct Effort {
    rounds: usize,
    /// Bytes to pass in one timed stretch, at least one message.
    stretch_bytes: usize,
}

const FULL: Effort = Effort { rounds: 101, stretch_bytes: 1 << 18 };
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
    messages(&mut criterion);
    criterion.final_summary();
}

/// A message, and where it lands.
struct Bench {
    name: String,
    message: Vec<u8>,
    memory: Vec<u8>,
    parser: Parser,
}

/// A way to treat it.
type Treatment = (&'static str, fn(&mut Bench));

const TREATMENTS: [Treatment; 4] = [
    ("copy in", Bench::copy_in),
    ("simd-json", Bench::simd),
    ("serde_json, values", Bench::serde_values),
    ("serde_json, borrowed", Bench::serde_borrowed),
];

/// What borrows most of a message.
#[derive(serde::Deserialize)]
struct Borrowed<'m> {
    r#type: &'m str,
    #[serde(borrow)]
    payload: &'m serde_json::value::RawValue,
}

impl Bench {
    fn new(name: String, message: Vec<u8>) -> Self {
        // As in a receive buffer, there is memory behind it.
        let memory = vec![0; message.len() + 256];
        Self { name, message, memory, parser: Parser::default() }
    }

    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for message_bytes in [64, 256, 1024, 16 << 10] {
            let mut text = Vec::new();
            Requests::broadcast(message_bytes).compose(7, &mut text);
            all.push(Self::new(format!("one string, {message_bytes} B"), text));
        }
        for message_bytes in [256, 1024, 16 << 10] {
            let record = r#"{"id":1234567,"price":17.25,"user":"somebody","live":true,"tags":["a","b"]}"#;
            let records = vec![record; message_bytes / record.len()].join(",");
            let text = format!(r#"{{"type":"broadcast","payload":[{records}]}}"#);
            all.push(Self::new(format!("records, {message_bytes} B"), text.into_bytes()));
        }
        let escaped = format!(r#"{{"type":"broadcast","payload":"{}"}}"#, r"line\n".repeat(36));
        all.push(Self::new("escapes, 256 B".to_owned(), escaped.into_bytes()));
        all
    }

    #[inline(never)]
    fn copy_in(&mut self) {
        self.memory[..self.message.len()].copy_from_slice(black_box(&self.message));
    }

    #[inline(never)]
    fn simd(&mut self) {
        self.copy_in();
        let request = self.parser.parse(&mut self.memory, self.message.len());
        let Ok(Request::Broadcast(Some(payload))) = black_box(request) else { unreachable!("a broadcast") };
        assert!(!payload.is_empty());
    }

    #[inline(never)]
    fn serde_values(&mut self) {
        self.copy_in();
        let text = &self.memory[..self.message.len()];
        let value: serde_json::Value = black_box(serde_json::from_slice(text).expect("JSON"));
        assert!(value["type"] == "broadcast" && !value["payload"].is_null());
    }

    #[inline(never)]
    fn serde_borrowed(&mut self) {
        self.copy_in();
        let text = &self.memory[..self.message.len()];
        let read: Borrowed<'_> = black_box(serde_json::from_slice(text).expect("JSON"));
        assert!(read.r#type == "broadcast" && !read.payload.get().is_empty());
    }
}

fn table(effort: &Effort) {
    println!("ns per message (median and least of {} rounds, in turn)", effort.rounds);
    print!("{:20}", "");
    TREATMENTS.iter().for_each(|(name, _)| print!(" {name:>21}"));
    println!();
    for mut bench in Bench::all() {
        print!("{:20}", bench.name);
        for (median_ns, least_ns) in message_ns(effort, &mut bench) {
            print!(" {median_ns:>11.1} {least_ns:>9.1}");
        }
        println!();
    }
    println!();
}

/// Each treatment's median and least time for one message.
fn message_ns(effort: &Effort, bench: &mut Bench) -> [(f64, f64); 4] {
    let calls = effort.stretch_bytes.div_ceil(bench.message.len());
    let mut times: [Vec<f64>; 4] = Default::default();
    // The first round warms up.
    for round in 0..=effort.rounds {
        for ((_, treat), times) in TREATMENTS.iter().zip(&mut times) {
            let start = Instant::now();
            (0..calls).for_each(|_| treat(black_box(bench)));
            if round > 0 {
                times.push(start.elapsed().as_nanos() as f64 / calls as f64);
            }
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[0])
    })
}

fn messages(criterion: &mut Criterion) {
    for mut bench in Bench::all() {
        let mut group = criterion.benchmark_group(&bench.name);
        group.warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_secs(1)).sample_size(20);
        group.throughput(Throughput::Bytes(bench.message.len() as u64));
        for (treatment, treat) in TREATMENTS {
            group.bench_function(treatment, |bencher| bencher.iter(|| treat(black_box(&mut bench))));
        }
    }
}
