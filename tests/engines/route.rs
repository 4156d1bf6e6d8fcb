//! Connections over a route of their own: from the address asked for, and with little room for what is received.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use ringsock::engine::{Closed, Config, ConnId, Connections, EngineKind, Handler, Received, Route, Waker};
use socket2::SockRef;

use crate::conversations;

/// Connects once, reads nothing, and ends when it is woken.
struct Dial {
    route: Option<Route>,
}

impl Handler for Dial {
    type Conn = ();

    fn on_accept(&mut self) {
        unreachable!("there is no listener")
    }

    fn on_open(&mut self, connections: &mut Connections<()>, id: ConnId) {
        connections.get(id).expect("it has opened").1.hold_reading(true);
    }

    fn on_bytes(&mut self, _: &mut Connections<()>, _: ConnId, _: Received<'_>) {}
    fn on_end(&mut self, _: &mut Connections<()>, _: ConnId) {}
    fn on_timer(&mut self, _: &mut Connections<()>, _: ConnId) {}

    fn on_closed(&mut self, _: &mut Connections<()>, (): (), why: Closed) {
        panic!("it was to stay: {why:?}");
    }

    fn on_wake(&mut self, connections: &mut Connections<()>) {
        connections.stop();
    }

    fn on_turn(&mut self, connections: &mut Connections<()>) -> Option<u64> {
        if let Some(route) = self.route.take() {
            connections.connect_over(route, ());
            return Some(0);
        }
        None
    }
}

/// What `look` sees of the connection that an engine makes over a route.
fn dialled<T>(
    engine: EngineKind,
    over: impl FnOnce(Route) -> Route,
    look: impl FnOnce(&mut TcpStream, IpAddr) -> T,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let route = over(Route::from(listener.local_addr().unwrap()));
    let waker = Waker::new().unwrap();
    std::thread::scope(|scope| {
        let running = waker.clone();
        let config = Config { connections_max: 4, ..Config::default() };
        let thread = scope.spawn(move || engine.run(config, &running, Dial { route: Some(route) }, || {}));
        let (mut stream, peer) = listener.accept().unwrap();
        let seen = look(&mut stream, peer.ip());
        waker.wake();
        thread.join().unwrap().unwrap();
        seen
    })
}

mod conversation {
    use super::*;

    pub(super) fn a_connection_comes_from_the_address_asked_for(engine: EngineKind) {
        for from in ["127.0.0.1", "127.1.0.1", "127.9.255.254"] {
            let from: IpAddr = from.parse().unwrap();
            let came_from = dialled(engine, |route| Route { from: Some(from), ..route }, |_, peer| peer);
            assert_eq!(came_from, from);
        }
    }

    pub(super) fn a_reader_with_little_room_soon_holds_its_peer_up(engine: EngineKind) {
        let taken_bytes = |receive_bytes| {
            dialled(
                engine,
                |route| Route { receive_bytes, ..route },
                |stream, _| {
                    // Else the kernel would keep megabytes at this end.
                    SockRef::from(&*stream).set_send_buffer_size(4 << 10).unwrap();
                    stream.set_nonblocking(true).unwrap();
                    let (mut taken_bytes, mut tries) = (0, 0);
                    while tries < 20 {
                        match stream.write(&[0; 1024]) {
                            Ok(bytes) => (taken_bytes, tries) = (taken_bytes + bytes, 0),
                            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                                tries += 1;
                                std::thread::sleep(Duration::from_millis(5));
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                    taken_bytes
                },
            )
        };
        let (little, ordinary) = (taken_bytes(Some(4 << 10)), taken_bytes(None));
        assert!(little < 32 << 10 && ordinary > 2 * little, "{little} and {ordinary} bytes");
    }
}

conversations!("route":
    a_connection_comes_from_the_address_asked_for,
    a_reader_with_little_room_soon_holds_its_peer_up,
);
