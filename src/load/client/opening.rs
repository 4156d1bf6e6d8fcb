//! How the generator's connections come about: asked for at their pace, a few at a time, secured and upgraded, each timed.
//!
//! Invariant: a connection that was begun is counted as opened or as failed, once, and the thread reports when the last of them is.

use std::borrow::Cow;

use super::pushed::Pushed;
use super::varied::Varied;
use super::{Client, Peer, Protocol, Stage};
use crate::cpu;
use crate::engine::{Closed, ConnId, Connections, Io};
use crate::limits;
use crate::load::endpoint::Endpoint;
use crate::load::task::Report;
use crate::tls;
use crate::ws::connection::Connection;
use crate::ws::frame::Role;
use crate::ws::handshake::ClientHandshake;

/// Connections that one thread opens at a time.
const OPENING_MAX: usize = 32;

impl Client {
    pub(super) fn open_more(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        let now_ns = connections.clock_ns();
        if self.next_connect_ns == 0.0 {
            self.next_connect_ns = now_ns as f64;
        }
        while self.unopened > 0 && self.opening < OPENING_MAX {
            if self.task.connect_gap_ns > 0.0 && self.next_connect_ns > now_ns as f64 {
                return Some(self.next_connect_ns as u64);
            }
            self.next_connect_ns += self.task.connect_gap_ns;
            self.unopened -= 1;
            self.opening += 1;
            let ordinal = (self.task.connections - self.unopened - 1) as u32;
            let peer = Peer::new(connections.clock_ns(), ordinal);
            let id = connections.connect(self.task.endpoint.address, peer);
            if let Some((_, mut io)) = connections.get(id) {
                io.wake_by(now_ns + self.task.connect_timeout_ns);
            }
        }
        None
    }

    pub(super) fn on_opened_or_failed(&mut self) {
        self.opening -= 1;
        if self.opening == 0 && self.unopened == 0 && self.stage == Stage::Opening {
            self.stage = Stage::Ready;
            let (thread, open) = (self.task.thread, self.open.len());
            self.tell(Report::Ready { thread, open, thread_id: cpu::current_thread_id() });
        }
    }

    /// A connection can be used: what comes first is asked for.
    pub(super) fn on_connected(&mut self, connections: &mut Connections<Peer>, id: ConnId) {
        let now_ns = connections.now_ns();
        let Some((conn, mut io)) = connections.get(id) else { return };
        self.tally.on_connected(now_ns.saturating_sub(conn.since_ns));
        if self.task.endpoint.bare {
            self.tally.accounting.connections_opened += 1;
            // Its answers are our own frames, masked.
            let connection = Connection::new(Role::Server, limits::MESSAGE_BYTES, now_ns);
            return self.on_established(id, conn, Protocol::Open(connection));
        }
        let Endpoint { host, port, target, tls, .. } = &self.task.endpoint;
        let nonce = self.task.random.u128(..).to_ne_bytes();
        let target = match &self.varying {
            Some(varying) => varying.variety.target(target, varying.variety.number_of(conn.ordinal)),
            None if target == "/" => self.task.wish.map_or(Cow::Borrowed("/"), |wish| wish.target().into()),
            None => Cow::Borrowed(&**target),
        };
        match ClientHandshake::new(host, *port, &target, nonce, limits::HANDSHAKE_HEAD_BYTES) {
            Ok(mut handshake) => {
                handshake = handshake.offering_subprotocols(self.task.subprotocols.clone());
                if *tls {
                    handshake = handshake.over_tls();
                }
                if let Some(deflation) = &self.deflation {
                    handshake = handshake.offering_deflate(deflation.offer());
                }
                io.send(handshake.request());
                conn.protocol = Protocol::Handshake { handshake: Box::new(handshake), since_ns: now_ns };
            }
            Err(error) => conn.give_up(&mut io, format!("handshake: {error}")),
        }
    }

    pub(super) fn on_established(&mut self, id: ConnId, conn: &mut Peer, protocol: Protocol) {
        conn.protocol = protocol;
        self.open.push(id);
        self.on_opened_or_failed();
    }

    fn open_plain(&self, ordinal: u32, now_ns: u64) -> Protocol {
        let connection = Connection::new(Role::Client, limits::MESSAGE_BYTES, now_ns);
        if let Some(pushing) = &self.pushing {
            return Protocol::Pushed(Box::new(Pushed::new(connection, pushing, now_ns)));
        }
        let Some(varying) = &self.varying else { return Protocol::Open(connection) };
        let number = varying.variety.number_of(ordinal);
        if varying.variety.is_plain(number) {
            return Protocol::Open(connection);
        }
        let part = varying.variety.part_of(number);
        Protocol::Varied(Box::new(Varied::new(connection, number, part)))
    }

    pub(super) fn on_response(
        &mut self,
        id: ConnId,
        conn: &mut Peer,
        io: &mut Io<'_>,
        bytes: &[u8],
        now_ns: u64,
    ) -> usize {
        let Protocol::Handshake { handshake, since_ns } = &mut conn.protocol else { return 0 };
        match handshake.on_bytes(bytes) {
            Ok(None) => bytes.len(),
            Ok(Some(head_bytes)) => {
                let (agreed, since_ns) = (handshake.deflate(), *since_ns);
                let chosen = self.on_chosen(handshake.subprotocol());
                let protocol = chosen.and_then(|()| match &mut self.deflation {
                    None => Ok(self.open_plain(conn.ordinal, now_ns)),
                    Some(deflation) => deflation.open(agreed, now_ns),
                });
                match protocol {
                    Ok(protocol) => {
                        self.tally.on_upgraded(now_ns.saturating_sub(since_ns));
                        self.on_established(id, conn, protocol);
                    }
                    Err(why) => conn.give_up(io, format!("handshake: {why}")),
                }
                head_bytes
            }
            Err(error) => {
                conn.give_up(io, format!("handshake: {error}"));
                bytes.len()
            }
        }
    }
}

pub(in super::super) fn describe(why: &Closed) -> String {
    match why {
        Closed::ByUs => "closed by server".to_owned(),
        Closed::Connect(error) => format!("connect: {}", describe_error(error)),
        Closed::Broken(error) => describe_error(error),
        // It is given up where it takes too long, and for nothing else.
        Closed::Tls(error) if **error == tls::Error::GivenUp => format!("TLS: {}", tls::Error::Late),
        Closed::Tls(error) => format!("TLS: {error}"),
    }
}

fn describe_error(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::ConnectionReset => "reset by server".to_owned(),
        ErrorKind::BrokenPipe => "reset by server".to_owned(),
        ErrorKind::AddrNotAvailable => "no local port left (net.ipv4.ip_local_port_range)".to_owned(),
        _ => error.to_string(),
    }
}
