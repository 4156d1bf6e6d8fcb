//! A view of everything that goes between any engine and any handler: [`Tapped`] is a [`Layer`] that changes nothing; between
//! [`Tls`](super::Tls) and a handler it sees what is not encrypted.
//!
//! So nothing is looked at where nobody wants to look: what a thread runs is chosen by type.
//!
//! Invariants: every byte is shown once, in order for its direction, received ones before the handler sees them and queued ones
//! right after the call that queued them; bytes, intents, holds and timers pass through unchanged, answers in place without a copy.

use std::net::IpAddr;

use super::layer::{Layer, Passage, Queued, Upper, Whose};
use super::{Closed, ConnId, Connections, Handler, Io, Received};
use crate::tls::Secured;

/// Looks at what goes over connections. Times are in nanoseconds of [`clock_ns`](super::clock_ns).
pub trait Tap: 'static {
    /// What it keeps of one connection.
    type Conn: 'static;

    /// A connection is about to be.
    fn begin(&mut self) -> Self::Conn;
    /// It can be used now.
    fn on_open(&mut self, conn: &mut Self::Conn, now_ns: u64);
    /// Bytes arrived, and the handler will see them next.
    fn on_received(&mut self, conn: &mut Self::Conn, bytes: &[u8], now_ns: u64);
    /// The handler has queued bytes.
    fn on_queued(&mut self, conn: &mut Self::Conn, bytes: &[u8], now_ns: u64);
    /// It is gone.
    fn on_closed(&mut self, conn: Self::Conn, why: &Closed, now_ns: u64);
    /// A turn of the loop is over: time to write down what was seen in it.
    fn on_turn(&mut self);
}

/// A [`Handler`] that has a [`Tap`] look at the connections of another.
pub struct Tapped<H: Handler, T: Tap> {
    layer: Layer<H>,
    view: View<T>,
}

/// One of the engine's connections.
pub struct Link<C, T> {
    upper: Upper<C>,
    tapped: T,
}

struct View<T>(T);

impl<C, T: Tap> Passage<C> for View<T> {
    type Link = Link<C, T::Conn>;

    fn link(&mut self, upper: Upper<C>) -> Self::Link {
        Link { upper, tapped: self.0.begin() }
    }

    fn upper(link: &mut Self::Link) -> &mut Upper<C> {
        &mut link.upper
    }

    fn pass(&mut self, link: &mut Self::Link, io: &mut Io<'_>, queued: Queued<'_>) {
        let now_ns = io.clock_ns();
        queued.pass_on(io, |bytes| self.0.on_queued(&mut link.tapped, bytes, now_ns));
    }
}

type Outer<H, T> = Connections<Link<<H as Handler>::Conn, <T as Tap>::Conn>>;

impl<H: Handler, T: Tap> Tapped<H, T> {
    /// `handler`'s connections, looked at by `tap`.
    pub fn new(handler: H, tap: T) -> Self {
        Self { layer: Layer::new(handler), view: View(tap) }
    }

    /// Gives the handler back.
    pub fn into_inner(self) -> H {
        self.layer.handler
    }

    /// Calls the handler about a connection.
    fn tell(
        &mut self,
        outer: &mut Outer<H, T>,
        id: ConnId,
        call: impl FnOnce(&mut H, &mut Connections<H::Conn>, ConnId),
    ) {
        self.layer.enter(outer);
        self.layer.tell(outer, &mut self.view, id, call);
    }
}

impl<H: Handler, T: Tap> Handler for Tapped<H, T> {
    type Conn = Link<H::Conn, T::Conn>;

    fn on_accept(&mut self) -> Self::Conn {
        let upper = Upper::accepted(self.layer.handler.on_accept());
        self.view.link(upper)
    }

    fn on_address(&mut self, outer: &mut Outer<H, T>, id: ConnId, address: IpAddr) {
        self.layer.enter(outer);
        self.layer.introduce(outer, &mut self.view, id, address);
    }

    fn on_securing(&mut self, outer: &mut Outer<H, T>, id: ConnId) {
        self.tell(outer, id, |handler, inner, inner_id| handler.on_securing(inner, inner_id));
    }

    fn on_secured(&mut self, outer: &mut Outer<H, T>, id: ConnId, secured: &Secured, took_ns: u64) {
        self.tell(outer, id, |handler, inner, inner_id| {
            handler.on_secured(inner, inner_id, secured, took_ns);
        });
    }

    fn on_open(&mut self, outer: &mut Outer<H, T>, id: ConnId) {
        let now_ns = outer.clock_ns();
        if let Some((link, _)) = outer.get(id) {
            self.view.0.on_open(&mut link.tapped, now_ns);
        }
        self.tell(outer, id, |handler, inner, inner_id| handler.on_open(inner, inner_id));
    }

    fn on_bytes(&mut self, outer: &mut Outer<H, T>, id: ConnId, received: Received<'_>) {
        self.layer.enter(outer);
        let now_ns = outer.clock_ns();
        let Some(inner_id) = self.layer.known::<View<T>>(outer, id) else { return };
        if let Some((link, _)) = outer.get(id) {
            let bytes = &received.memory[received.range.clone()];
            self.view.0.on_received(&mut link.tapped, bytes, now_ns);
        }
        self.layer.deliver(outer, &mut self.view, inner_id, received, Whose::Belows);
    }

    fn on_end(&mut self, outer: &mut Outer<H, T>, id: ConnId) {
        self.tell(outer, id, |handler, inner, inner_id| handler.on_end(inner, inner_id));
    }

    /// None was asked for below.
    fn on_timer(&mut self, _outer: &mut Outer<H, T>, _id: ConnId) {}

    fn on_writable(&mut self, outer: &mut Outer<H, T>, id: ConnId) {
        self.layer.enter(outer);
        self.layer.writable(outer, &mut self.view, id);
    }

    fn on_closed(&mut self, outer: &mut Outer<H, T>, link: Self::Conn, why: Closed) {
        self.layer.enter(outer);
        self.view.0.on_closed(link.tapped, &why, outer.clock_ns());
        self.layer.close(outer, &mut self.view, link.upper, why);
    }

    fn on_wake(&mut self, outer: &mut Outer<H, T>) {
        self.layer.enter(outer);
        self.layer.wake(outer, &mut self.view);
    }

    fn on_turn(&mut self, outer: &mut Outer<H, T>) -> Option<u64> {
        self.layer.enter(outer);
        let turn_by_ns = self.layer.turn(outer, &mut self.view);
        self.view.0.on_turn();
        turn_by_ns
    }
}
