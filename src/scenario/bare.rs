//! `bare`: bytes go back as they came; no handshake, no frames, no limits.
//!
//! The floor that `bench-scripts/floor` measures the echo against: what the engine, the kernel's TCP and the
//! generator cost by themselves.

use crate::engine::{Closed, ConnId, Connections, Handler, Received};

/// One a thread.
#[derive(Debug, Default)]
pub struct Bare;

impl Handler for Bare {
    type Conn = ();

    fn on_accept(&mut self) {}

    fn on_open(&mut self, _connections: &mut Connections<()>, _id: ConnId) {}

    fn on_bytes(&mut self, connections: &mut Connections<()>, id: ConnId, received: Received<'_>) {
        if let Some((_, mut io)) = connections.get(id) {
            io.reply_in_place(received.range);
        }
    }

    fn on_end(&mut self, connections: &mut Connections<()>, id: ConnId) {
        if let Some((_, mut io)) = connections.get(id) {
            io.close();
        }
    }

    fn on_timer(&mut self, _connections: &mut Connections<()>, _id: ConnId) {}

    fn on_closed(&mut self, _connections: &mut Connections<()>, _conn: (), _why: Closed) {}

    /// It is woken to end.
    fn on_wake(&mut self, connections: &mut Connections<()>) {
        connections.stop();
    }
}
