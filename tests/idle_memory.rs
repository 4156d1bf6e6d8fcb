//! What an idle connection costs the server in memory of its own.

#[path = "common/peer.rs"]
mod peer;

use peer::{Peer, resident_bytes};
use ringsock::engine::files;
use ringsock::ws::frame::Opcode;

const WARM: usize = 500;
const ALL: usize = 10_000;
const BYTES_PER_CONNECTION_MAX: u64 = 512;

#[test]
fn an_idle_connection_costs_half_a_kilobyte_at_most() {
    if let Err(error) = files::ensure(ALL as u64 + 500) {
        eprintln!("SKIPPED, nothing was tested: {error}");
        return;
    }
    // One timer each, as there is with the defaults, where the stall is looked for when the handshake's time is over.
    let timeouts = ["--handshake-timeout", "1h", "--stall-timeout", "1h"];
    let flags = [&["--threads", "1", "--max-connections", "10001"][..], &timeouts].concat();
    let (server, address) = peer::server(env!("CARGO_BIN_EXE_ringsock-server"), &flags);
    let open = |count: usize| -> Vec<Peer> {
        let mut peers: Vec<_> = (0..count).map(|_| Peer::open(address)).collect();
        // Each has been used, so that what use costs is counted too.
        peers.iter_mut().for_each(|peer| peer.echo(Opcode::Binary, &[1; 64]));
        peers
    };
    let warm = open(WARM);
    let before = resident_bytes(server.id());
    let idle = open(ALL - WARM);
    let grown = resident_bytes(server.id()).saturating_sub(before);
    let each = grown / idle.len() as u64;
    eprintln!("{each} bytes for each idle connection");
    assert!(each <= BYTES_PER_CONNECTION_MAX, "{each} bytes for each of {} connections", idle.len());
    drop((warm, idle));
}
