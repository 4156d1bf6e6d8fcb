//! TLS that is none, stops halfway, lies about its length, or never stops changing its keys.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringsock::ws::frame::Opcode;

use crate::bed::{Bed, Expected, Way, hold};
use crate::openings::expected;
use crate::peer::{self, PATIENCE, Peer, frame};
use crate::wire::Stream;

const TLS: &[Way] = &[Way::Tls];

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(payload.len() as u16).to_be_bytes(), payload].concat()
}

#[test]
fn what_is_no_tls_is_turned_away_without_an_answer_in_the_clear() {
    hold(TLS, &[], |bed| {
        let no_tls = [
            peer::request(bed.address, "/"),
            frame(Opcode::Binary, b"no head, no TLS"),
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            vec![0; 5000],
            // A length that no record has, and the SSL 2 way to say hello.
            [&[22, 3, 3, 0xFF, 0xFF][..], &[0; 3000]].concat(),
            [&[0x80, 0x2E, 1, 3, 1, 0][..], &[7; 40]].concat(),
        ];
        for bytes in &no_tls {
            let mut stream = bed.tcp();
            stream.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            // An alert at most.
            assert!(answer.is_empty() || answer[0] == 21, "{}", String::from_utf8_lossy(&answer));
        }
        expected(&[("tls_not_tls", no_tls.len())])
    });
}

#[test]
fn handshakes_of_garbage_are_failed() {
    hold(TLS, &[], |bed| {
        let mut random = fastrand::Rng::with_seed(8);
        let noise: Vec<u8> = (0..2000).map(|_| random.u8(..)).collect();
        let hello = |body: &[u8]| {
            let length = (body.len() as u32).to_be_bytes();
            record(22, &[&[1][..], &length[1..], body].concat())
        };
        let garbage = [
            ("noise in a record", record(22, &noise)),
            ("noise in a hello", hello(&noise)),
            ("an empty hello", hello(b"")),
            ("a hello of nothing but zeros", hello(&[0; 500])),
            ("records of nothing", record(22, b"").repeat(2000)),
            (
                "a message of 16 MiB",
                record(22, &[&[1, 0xFF, 0xFF, 0xFF][..], &[0; 16_000]].concat()).repeat(20),
            ),
            ("an answer for a question", record(22, &[2, 0, 0, 2, 3, 3])),
            ("data before a handshake", record(23, &noise)),
            ("an alert that says goodbye", record(21, &[1, 0])),
            ("an alert that says why", record(21, &[2, 40])),
            ("an alert of one byte", record(21, &[2])),
            ("alerts without end", record(21, &[1, 90]).repeat(2000)),
            ("changes of cipher without end", record(20, &[1]).repeat(2000)),
        ];
        for (label, bytes) in &garbage {
            let mut stream = bed.tcp();
            // It may be failed before the last of it is written.
            let _ = stream.write_all(bytes);
            // What is incomplete, or allowed, is failed by the end.
            let _ = stream.shutdown(Shutdown::Write);
            let answer = Stream::Plain(stream).read_all();
            assert!(answer.first().is_none_or(|first| *first == 21), "{label}: {answer:?}");
        }
        expected(&[("tls_failures", garbage.len())])
    });
}

/// A connection that speaks WebSocket over this version of TLS.
fn open(bed: &Bed, version: usize) -> Peer<Stream> {
    let mut secured = crate::secure::secured(bed.config(version), bed.tcp());
    secured.conn.complete_io(&mut secured.sock).unwrap();
    let mut peer = bed.upgrade(Stream::Secured(Box::new(secured)));
    peer.echo(Opcode::Binary, b"good");
    peer
}

#[test]
fn records_that_are_not_of_the_keys_agreed_on_end_the_connection() {
    hold(TLS, &[], |bed| {
        let wrong = [
            ("a record that nobody sealed", record(23, &[5; 100])),
            ("a record too short for a seal", record(23, &[5; 3])),
            ("an empty record", record(23, b"")),
            ("a record that is too long", [&[23, 3, 3, 0x48, 0x01][..], &[0; 100]].concat()),
            ("a length of 65,535", [&[23, 3, 3, 0xFF, 0xFF][..], &[0; 100]].concat()),
            ("an alert in the clear", record(21, &[2, 20])),
            ("goodbye in the clear", record(21, &[1, 0])),
            ("a hello in the clear", record(22, &[1, 0, 0, 0])),
            // Its fourth and fifth byte are a length.
            ("a request in the clear", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(400)),
        ];
        for version in [13, 12] {
            for (label, bytes) in &wrong {
                let peer = open(bed, version);
                let mut tcp = peer.stream.tcp();
                tcp.write_all(bytes).unwrap();
                let mut answer = Vec::new();
                // An end or a reset, and nothing but an alert before it.
                let _ = tcp.read_to_end(&mut answer);
                assert!(answer.len() < 100, "TLS {version}, {label}: {} bytes", answer.len());
            }
        }
        expected(&[("tls_faults", 2 * wrong.len())])
    });
}

/// Makes the handshake of a connection but for its last bytes: those and, behind them, all that its client has to say.
fn all_at_once(bed: &Bed, version: usize) -> (crate::secure::Secured, Vec<u8>) {
    let mut secured = crate::secure::secured(bed.config(version), bed.tcp());
    while secured.conn.is_handshaking() {
        if secured.conn.wants_write() {
            secured.conn.write_tls(&mut secured.sock).unwrap();
        }
        assert_ne!(secured.conn.read_tls(&mut secured.sock).unwrap(), 0, "it hung up");
        secured.conn.process_new_packets().unwrap();
    }
    let goodbye = frame(Opcode::Close, &1000_u16.to_be_bytes());
    let said = [peer::request(bed.address, "/"), frame(Opcode::Text, b"all at once"), goodbye].concat();
    secured.conn.writer().write_all(&said).unwrap();
    let mut last = Vec::new();
    while secured.conn.wants_write() {
        secured.conn.write_tls(&mut last).unwrap();
    }
    (secured, last)
}

#[test]
fn clients_that_say_all_at_once_and_hang_up_are_answered_though_their_handshakes_have_to_wait() {
    hold(TLS, &["--max-tls-handshakes", "1"], |bed| {
        let mut clients: Vec<_> = (0..24).map(|_| all_at_once(bed, 13)).collect();
        for (secured, last) in &mut clients {
            secured.sock.write_all(last).unwrap();
            secured.sock.shutdown(Shutdown::Write).unwrap();
        }
        for (mut secured, _) in clients {
            let mut answer = Vec::new();
            let _ = secured.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.contains("all at once"), "{answer}");
        }
        Expected::new()
    });
}

#[test]
fn a_record_that_is_cut_off_is_no_data() {
    const EACH: usize = 10;
    hold(TLS, &[], |bed| {
        for index in 0..EACH {
            let peer = open(bed, if index.is_multiple_of(2) { 13 } else { 12 });
            let mut tcp = peer.stream.tcp();
            tcp.write_all(&record(23, &[5; 5000])[..index * 40 + 1]).unwrap();
            tcp.shutdown(Shutdown::Write).unwrap();
            let _ = tcp.read_to_end(&mut Vec::new());
        }
        vec![("tls_truncated", EACH as u64..=EACH as u64)]
    });
}

#[test]
fn changes_of_keys_are_followed_with_data_between_them_and_failed_without() {
    hold(TLS, &[], |bed| {
        let mut peer = open(bed, 13);
        let change = |peer: &mut Peer<Stream>| {
            let Stream::Secured(secured) = &mut peer.stream else { unreachable!("TLS is the way") };
            secured.conn.refresh_traffic_keys().unwrap();
            // It may have been failed by then.
            let _ = secured.conn.write_tls(&mut secured.sock);
        };
        for _ in 0..200 {
            change(&mut peer);
            peer.echo(Opcode::Binary, b"with new keys");
        }
        let mut flooding = open(bed, 13);
        for _ in 0..200 {
            change(&mut flooding);
        }
        let _ = flooding.stream.tcp().read_to_end(&mut Vec::new());
        peer.echo(Opcode::Binary, b"others are served");
        peer.stream.reset();
        expected(&[("tls_faults", 1)])
    });
}

#[test]
fn renegotiation_is_refused() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: there is no openssl here, which is what asks for renegotiation");
        return;
    }
    hold(TLS, &[], |bed| {
        const COUNT: usize = 5;
        for _ in 0..COUNT {
            let address = bed.address.to_string();
            let mut client = Command::new("openssl");
            client.args(["s_client", "-tls1_2", "-connect", &address]).stdin(Stdio::piped());
            let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            bed.count_connection();
            // `R` at the start of a line asks for it. It is read once the handshake is over; the end of input would be another
            // reason to go.
            let mut input = client.stdin.take().unwrap();
            input.write_all(b"R\n").unwrap();
            let deadline = Instant::now() + PATIENCE;
            while client.try_wait().unwrap().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = client.kill();
            drop(input);
            let output = client.wait_with_output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            // So it says when it has asked, and so when alert 100 has answered; it goes then, with an alert of its own.
            for expected in ["RENEGOTIATING", "no renegotiation"] {
                assert!(errors.contains(expected), "{errors}");
            }
            assert_eq!(output.status.code(), Some(1), "{errors}");
        }
        expected(&[("tls_faults", COUNT)])
    });
}

#[test]
fn a_tls_client_on_the_wrong_port_does_no_harm() {
    hold(&[Way::Plain], &[], |bed| {
        const COUNT: usize = 20;
        for _ in 0..COUNT {
            let mut stream = bed.tcp();
            stream.write_all(&[&[22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[9; 500]].concat()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let answer = Stream::Plain(stream).read_all();
            assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
        }
        expected(&[("rejected", COUNT)])
    });
}
