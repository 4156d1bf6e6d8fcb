//! The opening handshake: what a server asks of a request beside the RFC's own rules, and what its answer makes of a connection.

use super::deflated::Agreed;
use super::scenes::Wanted;
use super::{Peer, Place, Serve, Served, Stamped};
use crate::engine::{Io, Received};
use crate::limits;
use crate::scenario::SCENARIOS;
use crate::scenario::stamps::{Layout, Stamper};
use crate::ws::connection::Connection;
use crate::ws::frame::Role;
use crate::ws::handshake::{Asked, Chosen, HEADERS_BOUND, HEADERS_MAX, Rejection, Upgrade};
pub use crate::ws::origin::{AllowedOrigins, Origin};
use crate::ws::subprotocol;
pub use crate::ws::subprotocol::Subprotocol;

const _: () = assert!(limits::HANDSHAKE_HEADERS == HEADERS_MAX);
const _: () = assert!(limits::HANDSHAKE_HEADERS_RANGE.1 <= HEADERS_BOUND);

/// What a server asks of requests, and offers.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Header lines that a request may have.
    pub headers_max: usize,
    /// Those that are spoken; it is the client's order that rules.
    pub subprotocols: Vec<Subprotocol>,
    /// Whose pages may connect.
    pub origins: AllowedOrigins,
    /// Which scenarios are played besides the echo, by name.
    pub scenarios: Vec<&'static str>,
}

impl Default for Terms {
    fn default() -> Self {
        let origins = AllowedOrigins::default();
        let scenarios = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        Self { headers_max: limits::HANDSHAKE_HEADERS, subprotocols: Vec::new(), origins, scenarios }
    }
}

/// A request that was accepted.
struct Accepted {
    response: bytes::Bytes,
    head_bytes: usize,
    stamps: Option<Layout>,
    agreed: Option<Agreed>,
    /// Of another scenario than the echo.
    scene: Option<Peer>,
}

impl<R: FnMut(Served)> Serve<R> {
    /// The same, on these terms.
    pub fn on_terms(mut self, terms: Terms) -> Self {
        self.terms = Box::new(terms);
        self
    }

    #[cold]
    pub(super) fn on_head(&mut self, conn: &mut Peer, io: &mut Io<'_>, received: Received<'_>, now_ns: u64) {
        let Peer::Opening { handshake, place, .. } = conn else { return };
        let head = &received.memory[received.range.clone()];
        let asked = match &self.desk {
            Some(_) => handshake.on_bytes_of_any(head),
            None => handshake.on_bytes(head).map(|upgrade| upgrade.map(Asked::Upgrade)),
        };
        let judged = match asked {
            Ok(None) => return,
            Ok(Some(_)) if *place != Place::Free => Err(place.refusal()),
            Ok(Some(Asked::Upgrade(upgrade))) => self.judge(&upgrade, io, now_ns),
            Ok(Some(Asked::Page(request))) => match self.answer_page(&request) {
                Ok(answer) => return self.send_page(conn, io, answer, now_ns),
                Err(rejection) => Err(rejection),
            },
            Err(rejection) => Err(rejection),
        };
        match judged {
            Ok(accepted) => self.open(conn, io, received, accepted, now_ns),
            Err(rejection) => {
                self.served.on_rejection(&rejection);
                let is_head = matches!(conn, Peer::Opening { handshake, .. } if handshake.is_head(head));
                let response = self.refusal(&rejection, is_head);
                io.send(response);
                self.leave(conn, io, now_ns);
            }
        }
    }

    fn judge(&mut self, upgrade: &Upgrade<'_>, io: &Io<'_>, now_ns: u64) -> Result<Accepted, Rejection> {
        if !self.terms.origins.allow(upgrade.origins()) {
            return Err(Rejection::Origin);
        }
        let (mut stamps, mut agreed, mut scene) = (None, None, None);
        match Wanted::read(upgrade.path(), upgrade.query(), &self.terms.scenarios)? {
            Wanted::Echo => {
                stamps = Layout::asked_for(upgrade.query());
                // Stamps are written over an echo's own bytes, which a compressed one has none of.
                agreed = if stamps.is_none() { self.agree(upgrade) } else { None };
            }
            wanted => {
                scene = Some(self.scene(wanted, upgrade.path(), io, self.connection(now_ns), now_ns)?)
            }
        }
        let response = upgrade.accept_choosing(&Chosen {
            subprotocol: subprotocol::choose(upgrade.subprotocols(), &self.terms.subprotocols),
            extensions: agreed.as_ref().map(|agreed| agreed.agreement.answer.as_str()),
        });
        Ok(Accepted { response, head_bytes: upgrade.consumed_bytes(), stamps, agreed, scene })
    }

    fn connection(&self, now_ns: u64) -> Connection {
        let mut connection = Connection::new(Role::Server, self.limits.message_bytes, now_ns);
        connection.bound(self.limits.bounds);
        connection
    }

    /// Answers a request, and the frames that came right behind it.
    fn open(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        received: Received<'_>,
        accepted: Accepted,
        now_ns: u64,
    ) {
        let Accepted { response, head_bytes, stamps, agreed, scene } = accepted;
        self.served.upgrades += 1;
        io.send(response);
        let connection = self.connection(now_ns);
        if let Some(scene) = scene {
            *conn = scene;
            self.on_scene_frames(conn, io, received, head_bytes, now_ns);
            self.on_scene_time(conn, io, now_ns);
        } else if let Some(compressed) = agreed.and_then(|agreed| self.compressed(agreed, now_ns)) {
            *conn = compressed;
            self.on_compressed_frames(conn, io, received, head_bytes, now_ns);
        } else if let Some(layout) = stamps {
            let stamper = Stamper::new(layout);
            *conn = Peer::Stamped(Box::new(Stamped { connection, stamper }));
            self.on_frames_to_stamp(conn, io, received, head_bytes, now_ns);
        } else {
            *conn = Peer::Open(connection);
            self.on_frames(conn, io, received, head_bytes, now_ns);
        }
        self.look_at_time(conn, io, now_ns);
    }
}
