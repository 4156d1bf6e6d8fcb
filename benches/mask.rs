//! Masking against memcpy: first a table of speed ratios from interleaved rounds, then criterion's timings.
//!
//! `cargo bench --bench mask` measures; `cargo bench --bench mask -- --test` runs all of it once, tiny.
//!
//! Every ratio is memcpy's time over the kernel's for the same number of bytes, the two timed in turn and the
//! median taken over the rounds, so a machine that slows down halfway slows both. It says nothing about
//! whole frames; that is what the decoder's bench is for.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ringsock::ws::mask::{self, Kernel, Mask};

const KEY: Mask = Mask::from_bytes([0x37, 0xfa, 0x21, 0x3d]);

/// Room in front of the source for the longest shift.
const SHIFT_BYTES_MAX: usize = 256;

/// How far a payload moves down while it is unmasked: not at all, a header's difference, two frames', many.
const SHIFTS: [usize; 4] = [0, 4, 8, SHIFT_BYTES_MAX];

/// How much to measure.
struct Effort {
    rounds: usize,
    /// Bytes to pass in one timed stretch, at least one call.
    stretch_bytes: usize,
    /// Payloads in L1, in L2, and in memory.
    payload_bytes: [usize; 3],
}

const FULL: Effort =
    Effort { rounds: 41, stretch_bytes: 2 << 20, payload_bytes: [16 << 10, 64 << 10, 128 << 20] };
const TINY: Effort = Effort { rounds: 1, stretch_bytes: 1, payload_bytes: [1 << 10, 4 << 10, 16 << 10] };

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Without `--bench` it is `cargo test` that runs this, and criterion is tiny then, too.
    let tiny = has("--test") || !has("--bench");
    if !has("--list") {
        ratio(if tiny { &TINY } else { &FULL });
    }
    let mut criterion = Criterion::default().configure_from_args();
    frames(&mut criterion);
    kernels(&mut criterion);
    criterion.final_summary();
}

/// Page-touched memory that starts on a cache line, so that every run has the same alignments.
struct Memory {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Memory {
    fn new(len: usize) -> Self {
        let bytes = vec![0x5a; len + 64];
        let start = bytes.as_ptr().align_offset(64);
        Self { bytes, start, len }
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

// ---------------------------------------------------------------------------------------------------------
// The ratio table
// ---------------------------------------------------------------------------------------------------------

fn ratio(effort: &Effort) {
    println!(
        "speed as a multiple of memcpy's (1.00 = as fast; interleaved, median of {} rounds)",
        effort.rounds
    );
    println!("selected: {}", Kernel::selected().name());
    for payload_bytes in effort.payload_bytes {
        ratio_at(effort, payload_bytes);
    }
    println!();
    short_frames(effort);
    println!();
}

fn ratio_at(effort: &Effort, payload_bytes: usize) {
    let mut source = Memory::new(SHIFT_BYTES_MAX + payload_bytes);
    let mut target = Memory::new(payload_bytes);
    let calls = effort.stretch_bytes.div_ceil(payload_bytes);
    let (mut rows, mut copies_ns) = (Vec::new(), Vec::new());
    for kernel in Kernel::all_available() {
        let mut row = format!("{:8}", kernel.name());
        let mut add = |(ratio, copy_ns): (f64, f64)| {
            row += &format!(" {ratio:>9.2}");
            copies_ns.push(copy_ns);
        };
        for shift in SHIFTS {
            add(compare(effort.rounds, calls, &mut source, &mut target, |source, _| {
                kernel.unmask_down(KEY, source, SHIFT_BYTES_MAX, payload_bytes, SHIFT_BYTES_MAX - shift);
            }));
        }
        add(compare(effort.rounds, calls, &mut source, &mut target, |source, target| {
            kernel.mask_into(KEY, &source[SHIFT_BYTES_MAX..], target);
        }));
        rows.push(row);
    }
    let gib_s = payload_bytes as f64 / median(&mut copies_ns) * 1e9 / f64::from(1 << 30);
    println!("\n{} KiB (memcpy {gib_s:.1} GiB/s)", payload_bytes >> 10);
    println!("{:8}  in place    down 4    down 8  down 256 mask_into", "");
    rows.iter().for_each(|row| println!("{row}"));
}

/// The median ratio of memcpy's time to `masked`'s, and memcpy's median time for one call, ns.
fn compare(
    rounds: usize,
    calls: usize,
    source: &mut Memory,
    target: &mut Memory,
    masked: impl Fn(&mut [u8], &mut [u8]),
) -> (f64, f64) {
    let (mut ratios, mut copies) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let mut time = |is_copy: bool| {
            let (source, target) = (black_box(source.as_mut()), black_box(target.as_mut()));
            time_ns(calls, || if is_copy { copy(source, target) } else { masked(source, target) })
        };
        // Each goes first in every other round.
        let (first, second) = (time(round % 2 == 0), time(round % 2 == 1));
        let (copy_ns, masked_ns) = if round % 2 == 0 { (first, second) } else { (second, first) };
        // The first round warms up.
        if round > 0 {
            ratios.push(copy_ns / masked_ns);
            copies.push(copy_ns);
        }
    }
    (median(&mut ratios), median(&mut copies))
}

fn copy(source: &mut [u8], target: &mut [u8]) {
    black_box(target).copy_from_slice(black_box(&source[SHIFT_BYTES_MAX..]));
}

/// Time of one call, ns.
fn time_ns(calls: usize, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| call());
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

// ---------------------------------------------------------------------------------------------------------
// Short frames
// ---------------------------------------------------------------------------------------------------------

/// Payload lengths on either side of every step of the inline code, and a little beyond it.
const SHORT_PAYLOADS_BYTES: [usize; 8] = [3, 7, 16, 64, 125, 128, 200, 500];

/// Frames in one buffer, as in a receive that holds a pipelined batch.
const BATCH: usize = 64;

/// A masked client's header and the reply's, for payloads up to 125 bytes.
const HEADERS_BYTES: (usize, usize) = (6, 2);

fn short_frames(effort: &Effort) {
    println!("a batch of {BATCH} frames moved down, ns a payload");
    println!("{:7} {:>8} {:>8}", "", "unmasked", "memmove");
    for payload_bytes in SHORT_PAYLOADS_BYTES {
        let (mut memory, lens) = batch(payload_bytes);
        let calls = effort.stretch_bytes.div_ceil(memory.len);
        let (mut unmasked_ns, mut moved_ns) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            unmasked_ns.push(time_ns(calls, || unmask_batch(black_box(memory.as_mut()), black_box(&lens))));
            moved_ns.push(time_ns(calls, || move_batch(black_box(memory.as_mut()), black_box(&lens))));
        }
        let [unmasked_ns, moved_ns] = [unmasked_ns, moved_ns].map(|mut ns| median(&mut ns) / BATCH as f64);
        println!("{payload_bytes:>5} B {unmasked_ns:>8.2} {moved_ns:>8.2}");
    }
}

fn batch(payload_bytes: usize) -> (Memory, [usize; BATCH]) {
    (Memory::new(BATCH * (payload_bytes + HEADERS_BYTES.0)), [payload_bytes; BATCH])
}

/// What an echo does to a batch, but for decoding and writing headers. Key and length come from memory for
/// every frame, or the compiler would hoist what depends on them out of the loop.
#[inline(never)]
fn unmask_batch(memory: &mut [u8], lens: &[usize]) {
    let (mut src, mut dst) = HEADERS_BYTES;
    for len in lens {
        let key = memory[src - 4..src].try_into().expect("a key is four bytes");
        mask::unmask_down(Mask::from_bytes(key), memory, src, *len, dst);
        src += len + HEADERS_BYTES.0;
        dst += len + HEADERS_BYTES.1;
    }
}

#[inline(never)]
fn move_batch(memory: &mut [u8], lens: &[usize]) {
    let (mut src, mut dst) = HEADERS_BYTES;
    for len in lens {
        memory.copy_within(src..src + len, dst);
        src += len + HEADERS_BYTES.0;
        dst += len + HEADERS_BYTES.1;
    }
}

// ---------------------------------------------------------------------------------------------------------
// Criterion
// ---------------------------------------------------------------------------------------------------------

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("unmask a batch of {BATCH} frames"));
    brief(&mut group);
    group.throughput(Throughput::Elements(BATCH as u64));
    for payload_bytes in SHORT_PAYLOADS_BYTES {
        let (mut memory, lens) = batch(payload_bytes);
        group.bench_function(format!("{payload_bytes} B"), |bencher| {
            bencher.iter(|| unmask_batch(black_box(memory.as_mut()), black_box(&lens)));
        });
    }
}

fn kernels(criterion: &mut Criterion) {
    for payload_bytes in [16 << 10, 64 << 10] {
        let mut group = criterion.benchmark_group(format!("unmask {} KiB", payload_bytes >> 10));
        brief(&mut group);
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        let mut source = Memory::new(SHIFT_BYTES_MAX + payload_bytes);
        let mut target = Memory::new(payload_bytes);
        group.bench_function("memcpy", |bencher| {
            bencher.iter(|| copy(source.as_mut(), target.as_mut()));
        });
        for kernel in Kernel::all_available() {
            group.bench_function(kernel.name(), |bencher| {
                bencher.iter(|| kernel.unmask(KEY, &mut black_box(source.as_mut())[..payload_bytes]));
            });
        }
    }
}

/// Enough for a first look: the ratios above are what decides.
fn brief(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(20);
}
