//! Connections that end at any moment of their life, by a reset, by hanging up, and by falling silent for good.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use ringsock::ws::frame::Opcode;

use crate::bed::{Bed, EVERY_WAY, FINDING, Way, hold};
use crate::openings::expected;
use crate::peer::{self, fragment, frame};
use crate::wire::{self, Stream, frame_beginning};

/// Connections brought into each state by one attack.
const EACH: usize = 8;

/// How far a connection has come, and what brings it there.
type State = (&'static str, fn(&Bed) -> Stream);

/// More than both kernels and the server may take of a peer that does not read.
const SENT_BYTES_MAX: usize = 256 << 20;

fn said(bed: &Bed, bytes: &[u8]) -> Stream {
    let mut peer = bed.open();
    peer.stream.write_all(bytes).unwrap();
    peer.stream
}

const STATES: [State; 15] = [
    ("before the head", |bed| bed.connect()),
    ("in the head", |bed| {
        let mut stream = bed.connect();
        stream.write_all(&peer::request(bed.address, "/")[..60]).unwrap();
        stream
    }),
    ("behind the head", |bed| {
        let mut stream = bed.connect();
        stream.write_all(&bed.handshake().request()).unwrap();
        stream
    }),
    ("behind a head that is refused", |bed| {
        let mut stream = bed.connect();
        stream.write_all(&peer::request(bed.address, "/elsewhere")).unwrap();
        stream
    }),
    ("after the upgrade", |bed| bed.open().stream),
    ("in a frame's header", |bed| said(bed, &frame(Opcode::Binary, &[1; 200])[..3])),
    ("in a masking key", |bed| said(bed, &frame(Opcode::Binary, b"12345")[..4])),
    ("in a payload", |bed| said(bed, &frame(Opcode::Binary, &[1; 100_000])[..50_000])),
    ("in a ping", |bed| said(bed, &frame(Opcode::Ping, &[1; 100])[..50])),
    ("in a fragmented message", |bed| said(bed, &fragment(Opcode::Text, false, "ä".as_bytes()))),
    ("behind a message", |bed| said(bed, &frame(Opcode::Text, b"never heard"))),
    ("with answers queued", |bed| {
        let mut peer = bed.open();
        // Noise, so that answers are no shorter where they are compressed.
        peer.stream.write_until_stuck(&frame(Opcode::Binary, &wire::noise(60_000)), &mut 0, SENT_BYTES_MAX);
        peer.stream
    }),
    ("behind its Close", |bed| said(bed, &frame(Opcode::Close, &1000_u16.to_be_bytes()))),
    ("behind its half Close", |bed| said(bed, &frame(Opcode::Close, &1000_u16.to_be_bytes())[..7])),
    ("with half a compressed message", |bed| match bed.way {
        Way::Deflate => said(bed, &frame_beginning(0x41, &wire::deflated(b"half of it")[..5])),
        Way::Plain | Way::Tls => bed.open().stream,
    }),
];

#[test]
fn connections_that_end_at_any_moment_leave_nothing_behind() {
    hold(EVERY_WAY, FINDING, |bed| {
        for (_, state) in STATES {
            let mut streams: Vec<Stream> = (0..EACH).map(|_| state(bed)).collect();
            for stream in streams.split_off(EACH / 2) {
                stream.reset();
            }
            for stream in streams.split_off(EACH / 4) {
                // The kernel makes a reset of it where something came that was not read.
                drop(stream);
            }
            for stream in streams {
                // It may have been reset by then.
                let _ = stream.tcp().shutdown(Shutdown::Both);
            }
        }
        // A head that came before an end is refused; before a reset it may not have been read. Over TLS there is something
        // that a peer has not read, a ticket, and so every end is a reset, before which even the handshake may not be over.
        match bed.way {
            Way::Tls => vec![("rejected", 0..=EACH as u64), ("tls_failures", 0..=EACH as u64)],
            Way::Plain | Way::Deflate => vec![("rejected", EACH as u64 / 2..=EACH as u64)],
        }
    });
}

#[test]
fn a_peer_that_resets_after_it_was_failed_is_forgotten() {
    hold(EVERY_WAY, &[], |bed| {
        for _ in 0..EACH {
            let mut peer = bed.open();
            peer.stream.write_all(&frame_beginning(0x83, b"x")).unwrap();
            assert_eq!(peer.next().map(|(_, opcode, _)| opcode), Some(Opcode::Close));
            peer.stream.reset();
        }
        expected(&[("faults", EACH)])
    });
}

/// The first bytes of a ClientHello, and all of it.
fn client_hello(bed: &Bed, share: usize) -> TcpStream {
    use rustls::pki_types::ServerName;
    let name = ServerName::from(bed.address.ip());
    let mut connection = rustls::ClientConnection::new(bed.config(13), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    let mut stream = bed.tcp();
    stream.write_all(&hello[..hello.len() / share]).unwrap();
    stream
}

#[test]
fn tls_handshakes_that_end_midway_leave_nothing_behind() {
    hold(&[Way::Tls], &[], |bed| {
        for share in [100, 2, 1] {
            for index in 0..EACH {
                let stream = client_hello(bed, share);
                if index.is_multiple_of(2) {
                    wire::reset(&stream);
                }
            }
        }
        // Half of those whose hello is not whole hang up; what is whole is answered, and who hangs up then, without having
        // read, resets. A reset may be seen as an end.
        vec![("tls_failures", EACH as u64..=3 * EACH as u64)]
    });
}

#[test]
fn tls_handshakes_that_stop_midway_are_given_up_in_time() {
    hold(&[Way::Tls], &["--tls-handshake-timeout", "1s"], |bed| {
        let stopped: Vec<TcpStream> =
            (0..3 * EACH).map(|index| client_hello(bed, [100, 2, 1][index % 3])).collect();
        bed.settled();
        drop(stopped);
        expected(&[("tls_timeouts", 3 * EACH)])
    });
}
