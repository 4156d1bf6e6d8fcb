//! Steady echo traffic allocates nothing: every allocation in this process is counted, but for those of the
//! thread that plays the client.

#[path = "common/peer.rs"]
mod peer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use peer::{Peer, frame};
use ringsock::engine::Probe;
use ringsock::server::{Options, Server};
use ringsock::ws::frame::Opcode;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_CLIENT: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

impl Counting {
    fn count() {
        // A thread that is ending has no such variable any more.
        if !IS_CLIENT.try_with(Cell::get).unwrap_or(false) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, byte_count: usize) -> *mut u8 {
        Self::count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(address, layout, byte_count) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: Options,
}

/// Sends `batch` and reads as many bytes as its answer has, `count` times.
fn rounds(peer: &mut Peer, batch: &[u8], answer: &mut [u8], count: usize) {
    for _ in 0..count {
        peer.stream.write_all(batch).unwrap();
        peer.stream.read_exact(answer).unwrap();
    }
}

#[test]
fn steady_echo_traffic_allocates_nothing() {
    let flags = ["server", "--listen", "127.0.0.1:0", "--threads", "1", "--max-connections", "64"];
    let server =
        Server::start(&Flags::parse_from(flags).server.validate(&Probe::of_this_kernel()).unwrap()).unwrap();
    IS_CLIENT.set(true);
    let counted_before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut peers: Vec<_> = (0..8).map(|_| Peer::open(server.address())).collect();
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > counted_before, "the server's allocations are counted");

    for (name, opcode, payload_bytes, packed_count) in [
        ("64 B", Opcode::Binary, 64, 1),
        ("64 B of text", Opcode::Text, 64, 1),
        ("64 B, 64 in flight", Opcode::Binary, 64, 64),
        ("64 KiB", Opcode::Binary, 65_536, 1),
        ("pings", Opcode::Ping, 20, 3),
    ] {
        let batch = frame(opcode, &vec![b'a'; payload_bytes]).repeat(packed_count);
        let mut answer = vec![0; batch.len() - 4 * packed_count];
        for peer in &mut peers {
            rounds(peer, &batch, &mut answer, 20);
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..50 {
            for peer in &mut peers {
                rounds(peer, &batch, &mut answer, 5);
            }
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(allocations, 0, "{name}: allocations for {} messages", 2000 * packed_count);
    }
    drop(peers);
    server.drain(Duration::from_secs(10)).unwrap();
}
