//! Before the upgrade: heads that come slowly, or never, or without end, and heads that try to pass for something else.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::bed::{EVERY_WAY, Expected, PLAIN_AND_TLS, Way, hold};
use crate::peer::{self, Peer, frame};
use crate::wire::{Stream, expect_close, frame_beginning};

use ringsock::ws::frame::Opcode;

/// Connections of an attack that keeps them open.
const MANY: usize = 100;

#[test]
fn heads_that_come_byte_by_byte_are_cut_off_in_time() {
    hold(PLAIN_AND_TLS, &["--handshake-timeout", "1s", "--tls-handshake-timeout", "5s"], |bed| {
        let mut slow: Vec<Stream> = (0..MANY).map(|_| bed.connect()).collect();
        let request = peer::request(bed.address, "/");
        // A byte each, now and then, for longer than a head may take.
        for byte in request.iter().take(15) {
            for stream in &mut slow {
                // It may have been cut off.
                let _ = stream.write_all(&[*byte]);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        slow.iter_mut().for_each(|stream| assert_eq!(stream.read_all(), b""));
        expected(&[("timeouts", MANY), ("timeouts_handshake", MANY)])
    });
}

#[test]
fn connections_that_say_nothing_are_given_up_in_time() {
    hold(PLAIN_AND_TLS, &["--handshake-timeout", "700ms", "--tls-handshake-timeout", "5s"], |bed| {
        let mut silent: Vec<Stream> = (0..MANY).map(|_| bed.connect()).collect();
        for stream in &mut silent[..MANY / 2] {
            stream.write_all(&peer::request(bed.address, "/")[..50]).unwrap();
        }
        silent.iter_mut().for_each(|stream| assert_eq!(stream.read_all(), b""));
        expected(&[("timeouts", MANY), ("timeouts_handshake", MANY)])
    });
}

#[test]
fn connections_that_only_stop_sending_are_given_up_at_once() {
    hold(PLAIN_AND_TLS, &[], |bed| {
        let mut half: Vec<Stream> = (0..MANY).map(|_| bed.connect()).collect();
        for (index, stream) in half.iter_mut().enumerate() {
            stream.write_all(&peer::request(bed.address, "/")[..index]).unwrap();
            stream.tcp().shutdown(Shutdown::Write).unwrap();
        }
        half.iter_mut().for_each(|stream| assert_eq!(stream.read_all(), b""));
        Expected::new()
    });
}

/// A request of these lines, what WebSocket needs last.
fn head(start: &str, lines: &str) -> Vec<u8> {
    let needed = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    format!("{start}\r\n{lines}{needed}").into_bytes()
}

#[test]
fn heads_that_are_none_are_refused_once_and_nothing_behind_them_is_heard() {
    hold(PLAIN_AND_TLS, &[], |bed| {
        let get = "GET / HTTP/1.1";
        let behind = head(get, "");
        let refused: Vec<(u16, Vec<u8>)> = vec![
            (404, head("GET /elsewhere HTTP/1.1", "")),
            (405, head("POST / HTTP/1.1", "")),
            (400, head("GET / HTTP/1.0", "")),
            (
                400,
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client that speaks TLS here\r\n\r\n"
                    .to_vec(),
            ),
            (400, head(get, "Content-Length: 5\r\n")),
            (400, head(get, "Content-Length: 0\r\nContent-Length: 40\r\n")),
            (400, head(get, "Transfer-Encoding: chunked\r\n")),
            (400, head(get, "Transfer-Encoding: identity\r\nContent-Length: 0\r\n")),
            (400, head(get, "Host: another\r\n")),
            (400, head(get, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")),
            (400, head(get, "A: b\r\n folded: into the line before\r\n")),
            (400, head(get, "A: nothing\0at all\r\n")),
            (400, head(get, "A : a space before the colon\r\n")),
            (431, head(get, &format!("Cookie: {}\r\n", "x".repeat(9000)))),
            (431, head(get, &"A: b\r\n".repeat(1000))),
        ];
        let count = refused.len();
        for (status, head) in refused {
            let mut stream = bed.connect();
            // A second request right behind, and frames: none of it may be answered.
            let all = [&head[..], &behind, &frame(Opcode::Binary, &[1; 1000])].concat();
            stream.write_all(&all).unwrap();
            let answer = read_to_end_politely(&mut stream);
            let start = format!("HTTP/1.1 {status} ");
            assert!(
                answer.starts_with(&start),
                "not {status}: {answer} to {}",
                String::from_utf8_lossy(&head)
            );
            let answers = answer.matches("HTTP/1.1 4").count() + answer.matches("HTTP/1.1 1").count();
            assert_eq!(answers, 1, "{answer}");
        }
        expected(&[("rejected", count)])
    });
}

/// What the server says up to its end; then ours, so that it need not wait for it.
fn read_to_end_politely(stream: &mut Stream) -> String {
    let answer = stream.read_all();
    let _ = stream.tcp().shutdown(Shutdown::Both);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_head_without_end_is_refused_once_it_is_too_long() {
    hold(PLAIN_AND_TLS, &[], |bed| {
        const ENDLESS: [&[u8]; 3] = [b"x", b"a: b\r\n", b"GET / HTTP/1.1 \t"];
        for pattern in ENDLESS {
            let mut stream = bed.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nA: ").unwrap();
            // It is answered long before that, and what follows is read and thrown away.
            let _ = stream.write_all(&pattern.repeat(500_000 / pattern.len()));
            let answer = read_to_end_politely(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        expected(&[("rejected", ENDLESS.len())])
    });
}

#[test]
fn noise_in_place_of_a_head_is_turned_away() {
    const COUNT: usize = 60;
    hold(PLAIN_AND_TLS, &[], |bed| {
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..COUNT {
            let mut stream = bed.connect();
            let noise: Vec<u8> = (0..random.usize(1..3000)).map(|_| random.u8(..)).collect();
            stream.write_all(&noise).unwrap();
            stream.tcp().shutdown(Shutdown::Write).unwrap();
            let answer = read_to_end_politely(&mut stream);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        // A byte or two may still be the beginning of something.
        vec![("rejected", COUNT as u64 / 2..=COUNT as u64)]
    });
}

#[test]
fn a_second_request_behind_an_upgrade_is_taken_for_what_it_is_no_frame() {
    const COUNT: usize = 20;
    hold(EVERY_WAY, &[], |bed| {
        for _ in 0..COUNT {
            let handshake = bed.handshake();
            let mut stream = bed.connect();
            stream.write_all(&[handshake.request(), handshake.request()].concat()).unwrap();
            let mut peer = Peer::after_handshake(stream, handshake);
            // `G` has FIN clear, RSV1 set and opcode 7.
            expect_close(&mut peer, 1002, "a request for a frame");
        }
        expected(&[("faults", COUNT), ("faults_protocol", COUNT)])
    });
}

#[test]
fn frames_in_the_same_piece_as_the_head_are_judged_like_others() {
    hold(EVERY_WAY, &[], |bed| {
        let good = frame(Opcode::Binary, b"early");
        for wrong in [frame_beginning(0x83, b"x"), frame_beginning(0xA2, b"x")] {
            let handshake = bed.handshake();
            let mut stream = bed.connect();
            stream.write_all(&[&handshake.request()[..], &good, &wrong].concat()).unwrap();
            let mut peer = Peer::after_handshake(stream, handshake);
            peer.expect(Opcode::Binary, b"early");
            expect_close(&mut peer, 1002, "a wrong frame behind the head");
        }
        expected(&[("faults", 2)])
    });
}

#[test]
fn connections_beyond_the_limit_are_turned_away_and_those_within_it_served() {
    hold(PLAIN_AND_TLS, &["--max-connections", "20"], |bed| {
        // Beside the honest one.
        let mut within: Vec<Peer<Stream>> = (0..19).map(|_| bed.open()).collect();
        for _ in 0..MANY {
            if bed.way == Way::Tls {
                // To be told why, it would need a handshake.
                let mut stream = bed.tcp();
                let _ = stream.write_all(&[22, 3, 1]);
                match stream.read(&mut [0; 10]) {
                    Ok(0) => {}
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                    other => panic!("it is not closed unanswered: {other:?}"),
                }
                continue;
            }
            let mut stream = bed.connect();
            stream.write_all(&peer::request(bed.address, "/")).unwrap();
            let answer = read_to_end_politely(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        within.iter_mut().for_each(|peer| peer.echo(Opcode::Text, b"within"));
        expected(&[("rejected", MANY), ("rejections_full", MANY)])
    });
}

#[test]
fn answers_to_a_refused_peer_that_never_reads_nor_goes_are_given_up_in_time() {
    hold(PLAIN_AND_TLS, &["--close-timeout", "500ms"], |bed| {
        let mut staying: Vec<Stream> = (0..MANY).map(|_| bed.connect()).collect();
        for stream in &mut staying {
            stream.write_all(&peer::request(bed.address, "/elsewhere")).unwrap();
        }
        bed.settled();
        staying.iter_mut().for_each(|stream| {
            let mut answer = [0; 12];
            // The answer may have been lost to the reset that ended it.
            if stream.read_exact(&mut answer).is_ok() {
                assert_eq!(&answer, b"HTTP/1.1 404");
            }
        });
        expected(&[
            ("rejected", MANY),
            ("rejections_not_found", MANY),
            ("timeouts", MANY),
            ("timeouts_close", MANY),
        ])
    });
}

/// So many of each, and no more.
pub(crate) fn expected(counts: &[(&'static str, usize)]) -> Expected {
    counts.iter().map(|&(name, count)| (name, count as u64..=count as u64)).collect()
}
