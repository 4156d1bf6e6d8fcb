//! The server's role, over the life of connections: resets in every state, peers that do not read, many at once,
//! the end of the server, and a message larger than its memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringsock::engine::{Config, EngineKind};
use ringsock::scenario::serve::{Limits, Timeouts};
use ringsock::ws::frame::{Header, MAX_HEADER_BYTES, Opcode, Role, close_code};

use crate::listener::{Heard, Listener, frame};
use crate::peer::{PATIENCE, Peer, request, resident_bytes, tcp};
use crate::serving::{Serving, config, limits};

crate::conversations!("server":
    a_reset_in_every_state_ends_its_connection_alone,
    a_peer_that_does_not_read_holds_nobody_up_and_loses_nothing,
    many_connections_at_once_are_all_served,
    connections_beyond_the_limit_are_told_so,
    a_drain_under_load_completes_every_echo_and_closes_with_1001,
    a_silent_connection_is_closed_and_one_that_never_asks_is_dropped,
    a_message_larger_than_memory_streams_through,
);

/// Closes with a reset instead of FIN.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

fn client(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    frame(Role::Client, opcode, true, payload)
}

/// Writes until the peer takes nothing more for a while; how much it took.
pub(crate) fn fill(stream: &mut TcpStream, bytes: &[u8], until: impl Fn() -> bool) -> usize {
    stream.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let (mut at, mut stuck_count) = (0, 0);
    while !(until() && stuck_count > 10) {
        match stream.write(&bytes[at..]) {
            Ok(count) => (at, stuck_count) = (at + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                stuck_count += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(at < bytes.len(), "it took all of {at} bytes");
        assert!(Instant::now() < deadline, "still not stuck after {at} bytes");
    }
    stream.set_nonblocking(false).unwrap();
    at
}

/// Messages with a number each, one behind the other, from `numbers`.
pub(crate) fn numbered(numbers: std::ops::Range<u32>, payload_bytes: usize) -> Vec<u8> {
    numbers.flat_map(|number| client(Opcode::Binary, &payload(number, payload_bytes))).collect()
}

fn payload(number: u32, payload_bytes: usize) -> Vec<u8> {
    number.to_le_bytes().iter().copied().cycle().take(payload_bytes).collect()
}

/// Reads to the stream's end. Gives back the whole messages heard, which must be the first of [`numbered`], and
/// the close code, which is answered.
pub(crate) fn hear_numbered(peer: &mut Peer, payload_bytes: usize) -> (u32, Option<u16>) {
    let mut count = 0;
    let mut code = None;
    while let Some((_, opcode, bytes)) = peer.next() {
        if opcode == Opcode::Close {
            code = Some(u16::from_be_bytes([bytes[0], bytes[1]]));
            // It may have given up already.
            let _ = peer.stream.write_all(&client(Opcode::Close, &bytes[..2]));
        } else {
            assert!(code.is_none(), "a message behind the Close");
            assert!(bytes == payload(count, payload_bytes), "message {count} is another: {:?}", &bytes[..4]);
            count += 1;
        }
    }
    (count, code)
}

mod conversation {
    use super::*;

    pub(super) fn a_reset_in_every_state_ends_its_connection_alone(engine: EngineKind) {
        let config = Config { outbox_bytes: 64 * 1024, ..config(4096) };
        let serving = Serving::start(engine, config, limits());
        let mut bystander = Peer::open(serving.address);
        let ask = request(serving.address, "/");
        let message = client(Opcode::Binary, &[7; 300]);
        let fragment = frame(Role::Client, Opcode::Text, false, b"half");
        let gone = |label: &str| {
            serving.until(label, |served| served.connections == 1);
        };
        // What was sent when the reset comes.
        for (label, bytes) in [
            ("before the request", Vec::new()),
            ("inside the request", ask[..40].to_vec()),
            ("behind the request", ask.clone()),
            ("inside a header", [&ask[..], &message[..3]].concat()),
            ("inside a frame", [&ask[..], &message[..150]].concat()),
            ("inside a message", [&ask[..], &fragment].concat()),
            ("with an echo unread", [&ask[..], &message].concat()),
            ("behind a breach", [&ask[..], &[0xFF, 0xFF, 0, 0]].concat()),
            ("behind a refusal", request(serving.address, "/elsewhere")),
        ] {
            for received_first in [true, false] {
                let before = serving.served().engine.received_bytes;
                let mut stream = tcp(serving.address);
                stream.write_all(&bytes).unwrap();
                if received_first {
                    let all = before + bytes.len() as u64;
                    serving.until(label, |served| served.engine.received_bytes >= all);
                }
                reset(stream);
                gone(label);
                bystander.echo(Opcode::Binary, b"others are served");
            }
        }
        // While a send waits for it, and it is not received from.
        let mut deaf = Peer::open(serving.address);
        let before = serving.served().engine.pauses;
        let much = client(Opcode::Binary, &vec![1; 64 << 20]);
        fill(&mut deaf.stream, &much, || serving.served().engine.pauses > before);
        reset(deaf.stream);
        gone("a peer that does not read");
        bystander.echo(Opcode::Text, b"still");
        drop(bystander);
        serving.stop();
    }

    pub(super) fn a_peer_that_does_not_read_holds_nobody_up_and_loses_nothing(engine: EngineKind) {
        const BYTES: usize = 500;
        let config = Config { outbox_bytes: 128 * 1024, ..config(4096) };
        let serving = Serving::start(engine, config, limits());
        let mut others: Vec<Peer> = (0..10).map(|_| Peer::open(serving.address)).collect();
        let mut deaf = Peer::open(serving.address);
        let all = numbered(0..100_000, BYTES);
        let frame_bytes = all.len() / 100_000;
        // The bound on what the server holds for it is why this comes to an end.
        let mut at = fill(&mut deaf.stream, &all, || serving.served().engine.pauses > 0);
        for other in &mut others {
            other.echo(Opcode::Binary, &[3; 5000]);
        }
        // It goes on where it stopped, reading at last.
        let whole_count = at.div_ceil(frame_bytes) + 10;
        let end = whole_count * frame_bytes;
        let mut writer = deaf.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&all[at..end]).unwrap();
                at = end;
                writer.write_all(&client(Opcode::Close, &close_code::NORMAL.to_be_bytes())).unwrap();
            });
            assert_eq!(hear_numbered(&mut deaf, BYTES), (whole_count as u32, Some(1000)));
        });
        drop((deaf, others));
        serving.stop();
    }

    pub(super) fn many_connections_at_once_are_all_served(engine: EngineKind) {
        const COUNT: usize = 300;
        let serving = Serving::start(engine, config(512), limits());
        let mut peers: Vec<TcpStream> = (0..COUNT).map(|_| tcp(serving.address)).collect();
        let ask = request(serving.address, "/");
        // All requests at once, in two pieces; then all messages, the larger ones in many receives.
        for cut in [&ask[..50], &ask[50..]] {
            peers.iter_mut().for_each(|peer| peer.write_all(cut).unwrap());
        }
        let mut peers: Vec<Peer> =
            peers.into_iter().map(|peer| Peer::after_request(peer, serving.address)).collect();
        serving.until("all are upgraded", |served| served.upgrades == COUNT as u64);
        for round in 0..3u8 {
            let payload_of = |number: usize| vec![number as u8 ^ round; number * 10];
            for (number, peer) in peers.iter_mut().enumerate() {
                peer.send(Opcode::Binary, &payload_of(number));
            }
            for (number, peer) in peers.iter_mut().enumerate() {
                peer.expect(Opcode::Binary, &payload_of(number));
            }
        }
        // Half of them leave without a word.
        peers.truncate(COUNT / 2);
        serving.until("half are gone", |served| served.connections == COUNT as u64 / 2);
        for peer in &mut peers {
            peer.send(Opcode::Close, b"");
        }
        for peer in &mut peers {
            peer.expect(Opcode::Close, b"");
            peer.expect_end();
        }
        serving.stop();
    }

    pub(super) fn connections_beyond_the_limit_are_told_so(engine: EngineKind) {
        told_so_beyond(engine, Limits { connections: 3, ..limits() });
        told_so_beyond(engine, Limits { connections_of_thread: 3, ..limits() });
    }

    fn told_so_beyond(engine: EngineKind, three: Limits) {
        let serving = Serving::start(engine, config(4096), three);
        let mut inside: Vec<Peer> = (0..3).map(|_| Peer::open(serving.address)).collect();
        serving.until("three are in", |served| served.upgrades == 3);
        for _ in 0..20 {
            let mut stream = tcp(serving.address);
            // Frames behind it must not have the answer lost to a reset.
            let ask = [request(serving.address, "/"), client(Opcode::Binary, &[1; 500])].concat();
            stream.write_all(&ask).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        inside.iter_mut().for_each(|peer| peer.echo(Opcode::Binary, b"still here"));
        inside.truncate(2);
        serving.until("one has left", |served| served.connections == 2);
        inside.push(Peer::open(serving.address));
        inside.iter_mut().for_each(|peer| peer.echo(Opcode::Text, b"me too"));
        drop(inside);
        serving.stop();
    }

    pub(super) fn a_drain_under_load_completes_every_echo_and_closes_with_1001(engine: EngineKind) {
        const CLIENTS: usize = 16;
        let echoed = AtomicUsize::new(0);
        for recv_buffer_bytes in [64, 65_600] {
            let serving = Serving::start(engine, config(recv_buffer_bytes), limits());
            std::thread::scope(|scope| {
                for number in 0..CLIENTS {
                    // One size each: some end inside a receive, some take many.
                    let payload_bytes = [10, 64, 126, 1000, 9000][number % 5];
                    let mut peer = Peer::open(serving.address);
                    let mut writer = peer.stream.try_clone().unwrap();
                    scope.spawn(move || {
                        // Until the server takes nothing more.
                        for number in 0.. {
                            if writer
                                .write_all(&client(Opcode::Binary, &payload(number, payload_bytes)))
                                .is_err()
                            {
                                return;
                            }
                        }
                    });
                    let echoed = &echoed;
                    scope.spawn(move || {
                        let heard = hear_until_close(&mut peer, payload_bytes);
                        echoed.fetch_add(heard, Ordering::Relaxed);
                    });
                }
                serving.until("they are at it", |served| served.messages > 2000);
                serving.drain();
            });
            serving.wait();
        }
        assert!(echoed.into_inner() > 0);
    }

    /// Hears whole echoes in order, then 1001; answers by ending the stream, as a client in the middle of its
    /// own frames cannot by a Close.
    fn hear_until_close(peer: &mut Peer, payload_bytes: usize) -> usize {
        for count in 0.. {
            let (_, opcode, bytes) = peer.next().expect("a Close before the end");
            if opcode == Opcode::Close {
                assert_eq!(bytes[..2], 1001u16.to_be_bytes());
                peer.stream.shutdown(Shutdown::Both).unwrap();
                return count;
            }
            assert!(bytes == payload(count as u32, payload_bytes), "message {count} is another");
        }
        unreachable!("the stream ends")
    }

    pub(super) fn a_silent_connection_is_closed_and_one_that_never_asks_is_dropped(engine: EngineKind) {
        const MS: u64 = 1_000_000;
        let timeouts =
            Timeouts { idle_ns: Some(150 * MS), ping_ns: Some(100 * MS), close_ns: Some(100 * MS) };
        let limits = Limits { handshake_ns: 100 * MS, close_ns: 100 * MS, timeouts, ..limits() };
        let serving = Serving::start(engine, config(4096), limits);
        let mut mute = tcp(serving.address);
        let mut silent = Peer::open(serving.address);
        silent.echo(Opcode::Binary, b"x");
        assert_eq!(mute.read(&mut [0; 1]).unwrap_or(0), 0, "it asked for nothing");
        // It leaves the ping unanswered, and is idle at last.
        silent.expect(Opcode::Ping, b"");
        let (_, opcode, payload) = silent.next().expect("a Close");
        assert_eq!((opcode, &payload[..2]), (Opcode::Close, &1000u16.to_be_bytes()[..]));
        // Nor does it answer the Close.
        assert_eq!(silent.stream.read(&mut [0; 1]).unwrap_or(0), 0);
        serving.until("all are given up", |served| served.timeouts == 3);
        serving.stop();
    }

    pub(super) fn a_message_larger_than_memory_streams_through(engine: EngineKind) {
        const MESSAGE: u64 = 256 << 20;
        let flags = ["--threads=1", "--max-message=512MiB", "--buffers=64", "--max-queued=1MiB"];
        let flags: Vec<String> =
            flags.iter().map(|&flag| flag.to_owned()).chain(crate::flags_of(engine)).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (server, address) = crate::peer::server(env!("CARGO_BIN_EXE_ringsock-server"), &flags);
        let mut peer = Peer::open(address);
        // What the ordinary paths need is there before it is measured.
        peer.echo(Opcode::Binary, &vec![1; 1 << 20]);
        let before = resident_bytes(server.id());
        let mask = Some(ringsock::ws::mask::Mask::from_bytes([0; 4]));
        let header = Header { fin: true, opcode: Opcode::Binary, mask, payload_bytes: MESSAGE };
        let mut head = [0; MAX_HEADER_BYTES];
        let head_bytes = header.encode(&mut head);
        // A prime: no power of two of the path's makes a shift unseen.
        let chunk: Vec<u8> = (0..65_521u32).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 24) as u8).collect();
        let mut writer = peer.stream.try_clone().unwrap();
        let mut most = before;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&head[..head_bytes]).unwrap();
                let mut left = MESSAGE as usize;
                while left > 0 {
                    let count = left.min(chunk.len());
                    writer.write_all(&chunk[..count]).unwrap();
                    left -= count;
                }
            });
            let mut head = [0; 10];
            peer.stream.read_exact(&mut head).unwrap();
            assert_eq!((head[0], head[1], &head[2..]), (0x82, 127, &MESSAGE.to_be_bytes()[..]));
            let (mut left, mut buffer) = (MESSAGE as usize, vec![0; chunk.len()]);
            for round in 0.. {
                let count = left.min(chunk.len());
                peer.stream.read_exact(&mut buffer[..count]).unwrap();
                assert!(buffer[..count] == chunk[..count], "{} bytes before its end", left);
                left -= count;
                if round % 256 == 0 {
                    most = most.max(resident_bytes(server.id()));
                }
                if left == 0 {
                    break;
                }
            }
        });
        peer.echo(Opcode::Text, b"and the next");
        let grown = most.max(resident_bytes(server.id())) - before;
        assert!(grown < 16 << 20, "{grown} bytes more for a message of {MESSAGE}");
    }

    #[test]
    fn a_listener_hears_what_was_said() {
        let mut listener = Listener::to(Role::Client);
        let mut bytes = [client(Opcode::Binary, b"x"), client(Opcode::Ping, b"y")].concat();
        listener.on_bytes(&mut bytes[..7]);
        assert!(listener.at_boundary());
        listener.on_bytes(&mut bytes[7..9]);
        assert_eq!(listener.heard, [Heard::Binary(b"x".to_vec())]);
        assert!(!listener.at_boundary());
    }
}
