//! What an idle connection costs the server in memory of its own, and the kernel at both of its ends.
//!
//! Pages of 4 KiB are asked for: with huge ones the memory that a process has goes up in steps of 2 MiB, which is more than ten
//! thousand connections take. What the kernel takes is told and not judged: others use it meanwhile.

#[path = "common/peer.rs"]
mod peer;

use std::process::Command;

use peer::{Peer, resident_bytes, serving};
use ringsock::engine::uring::Switches;
use ringsock::engine::{Choice, EngineKind, Probe, files};
use ringsock::ws::frame::Opcode;

const WARM: usize = 500;
const BYTES_PER_CONNECTION_MAX: u64 = 300;

#[test]
fn an_idle_connection_costs_300_bytes_at_most() {
    for (engine, count) in [(EngineKind::Uring, 15_000), (EngineKind::Epoll, 5_000)] {
        let choice: Choice = engine.name().parse().unwrap();
        if let Err(error) = files::ensure(count as u64 + 500) {
            eprintln!("SKIPPED, nothing was tested of {}: {error}", engine.name());
        } else if let Err(error) = choice.choose(&Probe::of_this_kernel(), &Switches::default()) {
            eprintln!("SKIPPED, nothing was tested of {}: {error}", engine.name());
        } else {
            hold(engine.name(), count);
        }
    }
}

fn hold(engine: &str, count: usize) {
    // One timer each, as there is with the defaults, where the stall is looked for when the handshake's time is over.
    let timeouts = ["--handshake-timeout", "1h", "--stall-timeout", "1h"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock-server"));
    command.args(["--listen", "127.0.0.1:0", "--threads", "1", "--engine", engine]).args(timeouts);
    command.args(["--max-connections", &(count + 1).to_string()]).env("MIMALLOC_ALLOW_THP", "0");
    let (server, address) = serving(&mut command);
    let open = |count: usize| -> Vec<Peer> {
        let mut peers: Vec<_> = (0..count).map(|_| Peer::open(address)).collect();
        // Each has been used, so that what use costs is counted too.
        peers.iter_mut().for_each(|peer| peer.echo(Opcode::Binary, &[1; 64]));
        peers
    };
    let warm = open(WARM);
    let (own_before, slab_before, buffers_before) = (resident_bytes(server.id()), slab_bytes(), tcp_bytes());
    let idle = open(count - WARM);
    let each = |now: u64, before: u64| now.saturating_sub(before) / idle.len() as u64;
    let own = each(resident_bytes(server.id()), own_before);
    eprintln!(
        "{engine}: of {count} idle connections each takes {own} bytes of the server's own; of the kernel's, at both ends, {} bytes of \
         slab and {} of TCP's buffers",
        each(slab_bytes(), slab_before),
        each(tcp_bytes(), buffers_before),
    );
    assert!(own <= BYTES_PER_CONNECTION_MAX, "{own} bytes for each of {} connections", idle.len());
    drop((warm, idle));
}

/// Objects of the kernel's: sockets, files, requests of rings.
fn slab_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let slab = meminfo.lines().find_map(|line| line.strip_prefix("Slab:")).expect("a Slab line");
    slab.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Pages that all TCP sockets together have reserved for what they buffer.
fn tcp_bytes() -> u64 {
    let sockstat = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let tcp = sockstat.lines().find(|line| line.starts_with("TCP:")).expect("a TCP line");
    tcp.split_whitespace().last().unwrap().parse::<u64>().unwrap() * 4096
}
