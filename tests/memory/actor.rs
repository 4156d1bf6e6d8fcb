//! A handler made of a state and one function on it, that holds its engine to the order of calls.

use ringsock::engine::{Closed, ConnId, Connections, Handler, Received};

/// Byte `at` of stream `stream`: any shift, loss or exchange shows.
pub(crate) fn byte(stream: usize, at: usize) -> u8 {
    (at.wrapping_mul(0x9E37_79B1) >> 13) as u8 ^ (stream as u8).wrapping_mul(37)
}

/// One connection: its number, and how far it has come.
pub(crate) struct Conn {
    number: usize,
    opened: bool,
    ended: bool,
}

impl Conn {
    fn new(number: usize) -> Self {
        Self { number, opened: false, ended: false }
    }
}

/// Makes a connection that is known by `number`.
pub(crate) fn connect(connections: &mut Connections<Conn>, number: usize) {
    connections.connect("127.0.0.1:1".parse().unwrap(), Conn::new(number));
}

/// What a handler is told, with the connection's number.
pub(crate) enum Event<'a> {
    Open(ConnId, usize),
    Bytes(ConnId, usize, Received<'a>),
    End(ConnId),
    Timer(ConnId, usize),
    Writable(ConnId),
    Closed(usize, Closed),
    Wake,
}

/// See the module's text. Accepted connections are numbered from 0.
pub(crate) struct Actor<T> {
    pub(crate) state: T,
    behave: fn(&mut T, &mut Connections<Conn>, Event<'_>),
    accepted: usize,
    opened: usize,
    closed: usize,
    refused: usize,
    left_open: usize,
}

impl<T: 'static> Actor<T> {
    pub(crate) fn new(state: T, behave: fn(&mut T, &mut Connections<Conn>, Event<'_>)) -> Self {
        Self { state, behave, accepted: 0, opened: 0, closed: 0, refused: 0, left_open: 0 }
    }

    /// Each connection that opened was told closed, but for those there were when it stopped.
    pub(crate) fn assert_order_was_kept(&self) {
        assert_eq!(self.opened + self.refused, self.closed + self.left_open, "opened against closed");
        assert!(self.accepted == 0 || self.accepted == self.opened, "what is accepted is opened");
    }

    fn tell(&mut self, connections: &mut Connections<Conn>, event: Event<'_>) {
        (self.behave)(&mut self.state, connections, event);
        self.left_open = connections.len();
    }
}

fn look(connections: &mut Connections<Conn>, id: ConnId) -> &mut Conn {
    let (conn, _) = connections.get(id).expect("a connection that is told of is there");
    assert!(conn.opened, "{} was told of before it was open", conn.number);
    conn
}

impl<T: 'static> Handler for Actor<T> {
    type Conn = Conn;

    fn on_accept(&mut self) -> Conn {
        self.accepted += 1;
        Conn::new(self.accepted - 1)
    }

    fn on_open(&mut self, connections: &mut Connections<Conn>, id: ConnId) {
        let (conn, _) = connections.get(id).expect("it is there");
        assert!(!std::mem::replace(&mut conn.opened, true), "{} opens twice", conn.number);
        self.opened += 1;
        let number = conn.number;
        self.tell(connections, Event::Open(id, number));
    }

    fn on_bytes(&mut self, connections: &mut Connections<Conn>, id: ConnId, received: Received<'_>) {
        let conn = look(connections, id);
        assert!(!conn.ended && !received.range.is_empty(), "{}: bytes after its end, or none", conn.number);
        let number = conn.number;
        self.tell(connections, Event::Bytes(id, number, received));
    }

    fn on_end(&mut self, connections: &mut Connections<Conn>, id: ConnId) {
        let conn = look(connections, id);
        assert!(!std::mem::replace(&mut conn.ended, true), "{} ends twice", conn.number);
        self.tell(connections, Event::End(id));
    }

    fn on_timer(&mut self, connections: &mut Connections<Conn>, id: ConnId) {
        let number = connections.get(id).expect("a timer's connection is there").0.number;
        self.tell(connections, Event::Timer(id, number));
    }

    fn on_writable(&mut self, connections: &mut Connections<Conn>, id: ConnId) {
        look(connections, id);
        self.tell(connections, Event::Writable(id));
    }

    fn on_closed(&mut self, connections: &mut Connections<Conn>, conn: Conn, why: Closed) {
        self.closed += 1;
        self.refused += usize::from(!conn.opened);
        assert_eq!(matches!(why, Closed::Connect(_)), !conn.opened, "{}: {why:?}", conn.number);
        self.tell(connections, Event::Closed(conn.number, why));
    }

    fn on_wake(&mut self, connections: &mut Connections<Conn>) {
        self.tell(connections, Event::Wake);
    }
}
