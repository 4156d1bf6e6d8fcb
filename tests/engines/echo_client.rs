//! The client that echoes: whatever a server says comes back, its faults are answered as RFC 6455 asks, and a visit that goes
//! wrong or does not end costs no other.
//!
//! The server is a script of the test for each visit, on a plain socket.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringsock::engine::{EngineKind, Waker};
use ringsock::scenario::echo_client::{EchoClient, Host, Limits, Visit, Visited};
use ringsock::ws::deflate::{Compression, Compressor, DeflateSettings, DeflateSpace};
use ringsock::ws::extensions::{self, DeflateParameters};
use ringsock::ws::frame::{Opcode, Role};
use ringsock::ws::handshake::{Chosen, ServerHandshake};

use crate::deflate::Inflating;
use crate::listener::{Heard, Listener, frame};
use crate::peer::PATIENCE;
use crate::serving::config;

crate::conversations!("echo client":
    what_a_server_says_comes_back_and_pings_are_answered,
    breaches_of_the_protocol_are_answered_with_their_close_code,
    a_visit_that_goes_wrong_is_told_and_the_next_one_follows,
    what_is_only_read_is_kept_and_not_echoed,
    compressed_messages_come_back_also_where_they_outgrow_what_may_wait,
);

const PATIENT: Limits = Limits {
    opening_ns: PATIENCE.as_nanos() as u64,
    visit_ns: PATIENCE.as_nanos() as u64,
    close_ns: PATIENCE.as_nanos() as u64,
};
/// What may wait on a compressed connection.
const QUEUED_BYTES_MAX: usize = 16 << 10;

/// A server's end of a connection, after the request.
struct Served {
    stream: TcpStream,
    request: Vec<u8>,
    listener: Listener,
}

impl Served {
    fn new(mut stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "a whole request");
            request.extend(byte);
        }
        Self { stream, request, listener: Listener::to(Role::Client) }
    }

    fn accept(&mut self) {
        let mut handshake = ServerHandshake::new(8192);
        let response = handshake.on_bytes(&self.request).unwrap().unwrap().accept();
        self.stream.write_all(&response).unwrap();
    }

    /// Accepts, and agrees to the compression that is offered.
    fn agree(&mut self) -> DeflateParameters {
        let mut handshake = ServerHandshake::new(8192);
        let upgrade = handshake.on_bytes(&self.request).unwrap().unwrap();
        let agreed = extensions::agree(upgrade.extensions(), &DeflateParameters::default());
        let agreed = agreed.unwrap().expect("an offer");
        let chosen = Chosen { extensions: Some(&agreed.answer), ..Chosen::default() };
        self.stream.write_all(&upgrade.accept_choosing(&chosen)).unwrap();
        agreed.parameters
    }

    fn send(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        self.stream.write_all(&frame(Role::Server, opcode, fin, payload)).unwrap();
    }

    /// Hears so many things, and no more.
    fn hear(&mut self, count: usize) -> Vec<Heard> {
        let mut buffer = [0; 64 * 1024];
        while self.listener.heard.len() < count {
            let byte_count = self.stream.read(&mut buffer).unwrap();
            assert!(byte_count > 0, "the end, after {:?}", self.listener.heard);
            self.listener.on_bytes(&mut buffer[..byte_count]);
        }
        assert_eq!(self.listener.heard.len(), count, "{:?}", self.listener.heard);
        std::mem::take(&mut self.listener.heard)
    }

    /// Closes first; the answer must be the same code.
    fn close(&mut self, code: u16) {
        self.send(Opcode::Close, true, &code.to_be_bytes());
        assert_eq!(self.hear(1), [Heard::Close(Some(code))]);
    }
}

type Script = fn(&mut Served);

/// What came of a visit for each script, in order; a script that failed fails here.
fn visit_all(
    engine: EngineKind,
    limits: Limits,
    deflate: Option<DeflateSettings>,
    echoes: bool,
    scripts: &[Script],
) -> Vec<Visited> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for script in scripts {
                let mut served = Served::new(listener.accept().unwrap().0);
                script(&mut served);
                // The client may go first, or after us.
                let _ = served.stream.shutdown(Shutdown::Both);
            }
        });
        run(engine, limits, deflate, address, echoes, scripts.len())
    })
}

fn run(
    engine: EngineKind,
    limits: Limits,
    deflate: Option<DeflateSettings>,
    address: SocketAddr,
    echoes: bool,
    visit_count: usize,
) -> Vec<Visited> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let next = {
        let (all, mut begun) = (Arc::clone(&all), 0);
        move |before: Option<Visited>| {
            all.lock().unwrap().extend(before);
            begun += 1;
            (begun <= visit_count).then(|| Visit { target: format!("/{begun}"), echoes })
        }
    };
    let host = Host { address, name: "127.0.0.1".to_owned(), port: address.port(), tls: false };
    let mut client = EchoClient::new(host, limits, fastrand::Rng::with_seed(7), next);
    if let Some(settings) = deflate {
        client = client.deflating(settings, QUEUED_BYTES_MAX);
    }
    engine.run(config(8 << 10), &Waker::new().unwrap(), client, || {}).unwrap();
    let all = all.lock().unwrap();
    assert_eq!(all.len(), visit_count);
    all.clone()
}

fn assert_well(visits: &[Visited]) {
    assert!(visits.iter().all(|visited| visited.failure.is_none()), "{visits:?}");
}

mod conversation {
    use super::*;

    pub(super) fn what_a_server_says_comes_back_and_pings_are_answered(engine: EngineKind) {
        let script: Script = |served| {
            served.accept();
            served.send(Opcode::Text, false, "snow ☃".as_bytes());
            served.send(Opcode::Ping, true, b"between");
            served.send(Opcode::Continuation, true, "man".as_bytes());
            served.send(Opcode::Binary, true, b"");
            let expected = [
                Heard::Pong(b"between".to_vec()),
                Heard::Text("snow ☃man".into()),
                Heard::Binary(Vec::new()),
            ];
            assert_eq!(served.hear(3), expected);
            // In many pieces.
            let large: Vec<u8> = (0..300_000_u32).map(|index| index as u8).collect();
            served.send(Opcode::Binary, true, &large);
            assert!(served.hear(1) == [Heard::Binary(large)], "another message");
            served.close(1001);
        };
        assert_well(&visit_all(engine, PATIENT, None, true, &[script, script]));
    }

    pub(super) fn breaches_of_the_protocol_are_answered_with_their_close_code(engine: EngineKind) {
        let reserved: Script = |served| {
            served.accept();
            served.send(Opcode::Text, true, b"before");
            served.stream.write_all(&[0x83, 0]).unwrap();
            assert_eq!(served.hear(2), [Heard::Text(b"before".to_vec()), Heard::Close(Some(1002))]);
        };
        let no_text: Script = |served| {
            served.accept();
            served.send(Opcode::Text, true, b"\xFF");
            assert_eq!(served.hear(1), [Heard::Close(Some(1007))]);
        };
        let half_code: Script = |served| {
            served.accept();
            served.send(Opcode::Close, true, b"\x03");
            assert_eq!(served.hear(1), [Heard::Close(Some(1002))]);
        };
        assert_well(&visit_all(engine, PATIENT, None, true, &[reserved, no_text, half_code]));
    }

    pub(super) fn a_visit_that_goes_wrong_is_told_and_the_next_one_follows(engine: EngineKind) {
        let refusal: Script =
            |served| served.stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        let end: Script = |_| {};
        let silence: Script = |served| {
            served.accept();
            assert_eq!(served.stream.read(&mut [0]).unwrap_or(0), 0, "nothing, until it gives up");
        };
        let unclosed: Script = |served| {
            served.accept();
            served.close(1000);
            assert_eq!(served.stream.read(&mut [0]).unwrap_or(0), 0, "nothing, until it closes in our stead");
        };
        let good: Script = |served| {
            served.accept();
            served.close(1000);
        };
        let short = Duration::from_millis(200).as_nanos() as u64;
        let limits = Limits { visit_ns: short, close_ns: short, ..PATIENT };
        let scripts = [refusal, end, silence, unclosed, good];
        let failures: Vec<_> = visit_all(engine, limits, None, true, &scripts)
            .into_iter()
            .map(|visited| visited.failure.unwrap_or_default())
            .collect();
        for (failure, expected) in failures.iter().zip(["handshake: ", "closed", "come to an end"]) {
            assert!(failure.contains(expected), "{failure:?}, not {expected:?}");
        }
        assert_eq!(failures[3..], ["", ""]);
    }

    pub(super) fn what_is_only_read_is_kept_and_not_echoed(engine: EngineKind) {
        let script: Script = |served| {
            served.accept();
            served.send(Opcode::Text, true, b"517");
            served.send(Opcode::Binary, true, &[b'x'; 2000]);
            served.close(1000);
        };
        let visits = visit_all(engine, PATIENT, None, false, &[script]);
        assert_well(&visits);
        assert!(visits[0].message.starts_with(b"517xxx") && visits[0].message.len() == 1024);
    }

    pub(super) fn compressed_messages_come_back_also_where_they_outgrow_what_may_wait(engine: EngineKind) {
        // What is shorter goes back as it is, many times larger than it came.
        let compression = Compression { level: 1, threshold_bytes: 64 << 10 };
        let settings = DeflateSettings { parameters: DeflateParameters::default(), compression };
        let compressed: Script = |served| {
            let mut random = fastrand::Rng::with_seed(3);
            let noise = std::iter::repeat_with(|| random.alphanumeric() as u8).take(100_000).collect();
            let messages =
                [vec![b"short".to_vec(), noise, Vec::new()], vec![vec![b'a'; 60_000]; 200]].concat();
            let agreed = served.agree();
            let mut space = DeflateSpace::default();
            let least = Compression { level: 1, threshold_bytes: 0 };
            let mut compressor = Compressor::new(&agreed, Role::Server, least);
            for message in &messages {
                compressor.write(message, true, true, &mut space, || None);
            }
            space.frames.extend(frame(Role::Server, Opcode::Close, true, &1000_u16.to_be_bytes()));
            served.stream.write_all(&space.frames).unwrap();
            let mut inflating = Inflating::new(Role::Server, &agreed);
            while inflating.heard.len() <= messages.len() {
                let mut buffer = [0; 64 << 10];
                let byte_count = served.stream.read(&mut buffer).unwrap();
                assert!(byte_count > 0, "the end, after {} messages", inflating.heard.len());
                inflating.on_bytes(&mut buffer[..byte_count]);
            }
            assert_eq!(inflating.heard.pop(), Some(Heard::Close(Some(1000))));
            assert!(inflating.heard == messages.into_iter().map(Heard::Text).collect::<Vec<_>>(), "others");
        };
        let breach: Script = |served| {
            let agreed = served.agree();
            // A ping that says it were compressed.
            served.stream.write_all(&[0xC9, 0]).unwrap();
            let (mut inflating, mut buffer) = (Inflating::new(Role::Server, &agreed), [0; 1024]);
            let byte_count = served.stream.read(&mut buffer).unwrap();
            inflating.on_bytes(&mut buffer[..byte_count]);
            assert_eq!(inflating.heard, [Heard::Close(Some(1002))]);
        };
        let declined: Script = |served| {
            served.accept();
            served.send(Opcode::Text, true, b"as it is");
            assert_eq!(served.hear(1), [Heard::Text(b"as it is".to_vec())]);
            served.close(1000);
        };
        assert_well(&visit_all(engine, PATIENT, Some(settings), true, &[compressed, breach, declined]));
    }
}
