//! The server's role against peers that go too far: each limit is reached, whoever went beyond it is told or dropped, what
//! happened is counted by its name, and somebody else is served meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use ringsock::engine::{Config, EngineKind};
use ringsock::scenario::serve::{Bounds, Limits, Served};
use ringsock::ws::frame::{Opcode, Role};

use crate::listener::{Heard, frame};
use crate::peer::{PATIENCE, Peer, request, tcp};
use crate::server::{Hears, Said, client, hold_all};
use crate::serving::{Serving, config, limits};
use crate::states::{fill, hear_numbered, numbered, reset};

crate::conversations!("server":
    more_fragments_than_may_be_are_closed_with_1008,
    more_control_frames_than_may_be_are_closed_with_1008,
    more_connections_from_one_address_than_may_be_are_told_so_and_yet_more_are_dropped,
    more_bytes_waiting_in_all_than_may_be_are_not_added_to,
    a_peer_that_is_stuck_is_dropped_and_one_that_is_silent_is_not,
    what_befalls_connections_is_counted_by_kind,
);

const MS: u64 = 1_000_000;

/// A connection from this address of loopback.
fn tcp_from(ours: [u8; 4], server: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ours, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn open_from(ours: [u8; 4], server: SocketAddr) -> Peer {
    let mut stream = tcp_from(ours, server);
    stream.write_all(&request(server, "/")).unwrap();
    Peer::after_request(stream, server)
}

/// A client whose kernel takes in little before it asks the server to wait.
fn open_narrowly(server: SocketAddr) -> Peer {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&request(server, "/")).unwrap();
    Peer::after_request(stream, server)
}

/// All that comes until the end, which may be a reset.
fn rest_of(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    if let Err(error) = stream.read_to_end(&mut all) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&all).into_owned()
}

mod conversation {
    use super::*;

    pub(super) fn more_fragments_than_may_be_are_closed_with_1008(engine: EngineKind) {
        let limits = Limits { bounds: Bounds { fragments: 4, ..Bounds::default() }, ..limits() };
        let fragments = |count: usize, opcode| -> Vec<Vec<u8>> {
            let nth = |number: usize| if number == 0 { opcode } else { Opcode::Continuation };
            // Some are empty, and count as well.
            let payload = |number: usize| vec![b'a'; 3 * (number % 2)];
            (0..count).map(|number| client(nth(number), number + 1 == count, &payload(number))).collect()
        };
        let as_many = fragments(4, Opcode::Binary);
        let conversations = [Opcode::Binary, Opcode::Text].map(|opcode| {
            let mut too_many = fragments(5, opcode);
            // Which of them is the last does not matter.
            too_many[4][0] &= 0x7F;
            // Messages in few fragments do not add up.
            let frames = [as_many.clone(), as_many.clone(), too_many].concat();
            let whole = Heard::Binary(vec![b'a'; 6]);
            let said = Said { ends: true, ..Said::frames(&format!("{opcode:?}"), &frames) };
            (said, Hears::Frames(vec![whole.clone(), whole, Heard::Close(Some(1008))]))
        });
        hold_all(engine, limits, &conversations);
    }

    pub(super) fn more_control_frames_than_may_be_are_closed_with_1008(engine: EngineKind) {
        const RATE: u32 = 10;
        let bounds = Bounds { control_frames_per_s: RATE, ..Bounds::default() };
        let serving = Serving::start(engine, config(4096), Limits { bounds, ..limits() });
        let mut honest = Peer::open(serving.address);
        for (faults, opcode) in [(1, Opcode::Ping), (2, Opcode::Pong)] {
            let mut flood = Peer::open(serving.address);
            let began = Instant::now();
            // It would take minutes at the rate.
            let frames = client(opcode, true, b"x").repeat(2000);
            // It is told before it has sent all.
            let _ = flood.stream.write_all(&frames);
            let mut pongs = 0;
            let code = loop {
                let (_, opcode, payload) = flood.next().expect("a Close before the end");
                match opcode {
                    Opcode::Pong => pongs += 1,
                    _ => break u16::from_be_bytes([payload[0], payload[1]]),
                }
            };
            assert_eq!(code, 1008);
            if opcode == Opcode::Ping {
                // As many at once as in a second, and more only for the time that has passed: the server saw less of it.
                let most = f64::from(RATE) * (1.0 + began.elapsed().as_secs_f64());
                assert!(pongs >= RATE && f64::from(pongs) <= most, "{pongs} pongs, at most {most:.1}");
            }
            honest.send(Opcode::Ping, b"?");
            honest.expect(Opcode::Pong, b"?");
            serving.until("it is counted", |served| served.kinds.faults_policy == faults);
        }
        drop(honest);
        serving.stop();
    }

    pub(super) fn more_connections_from_one_address_than_may_be_are_told_so_and_yet_more_are_dropped(
        engine: EngineKind,
    ) {
        const CROWD: [u8; 4] = [127, 0, 0, 77];
        let config = Config { peer_addresses: true, ..config(4096) };
        let limits = Limits { connections_per_address: Some(3), ..limits() };
        let serving = Serving::start(engine, config, limits);
        let mut honest = open_from([127, 0, 0, 78], serving.address);
        for round in 1..=3 {
            let mut inside: Vec<_> = (0..3).map(|_| open_from(CROWD, serving.address)).collect();
            let mut surplus: Vec<_> = (0..3).map(|_| tcp_from(CROWD, serving.address)).collect();
            serving.until("all are there", |served| served.connections == 7);
            for _ in 0..5 {
                assert_eq!(rest_of(&mut tcp_from(CROWD, serving.address)), "", "it takes no place");
            }
            open_from([127, 0, 0, 79], serving.address).echo(Opcode::Binary, b"from elsewhere");
            for stream in &mut surplus {
                stream.write_all(&request(serving.address, "/")).unwrap();
                let answer = rest_of(stream);
                assert!(answer.starts_with("HTTP/1.1 429 ") && answer.ends_with("takes\n"), "{answer}");
            }
            inside.iter_mut().for_each(|peer| peer.echo(Opcode::Binary, b"still here"));
            honest.echo(Opcode::Text, b"and so am I");
            drop((inside, surplus));
            let served = serving.until("all but one are gone", |served| served.connections == 1);
            assert_eq!(
                (served.kinds.rejections_from_address, served.kinds.drops_from_address),
                (3 * round, 5 * round),
                "and their places are free again"
            );
        }
        drop(honest);
        serving.stop();
    }

    pub(super) fn more_bytes_waiting_in_all_than_may_be_are_not_added_to(engine: EngineKind) {
        const DEAF: usize = 12;
        const BYTES: usize = 500;
        const IN_ALL: usize = 64 * 1024;
        let config = Config { outbox_bytes_in_all: IN_ALL, recv_buffers: 16, ..config(4096) };
        let serving = Serving::start(engine, config, limits());
        let mut honest = Peer::open(serving.address);
        let all = numbered(0..20_000, BYTES);
        let frame_bytes = all.len() / 20_000;
        let mut deaf: Vec<_> = (0..DEAF).map(|_| open_narrowly(serving.address)).collect();
        let sent: Vec<usize> = deaf
            .iter_mut()
            .enumerate()
            .map(|(number, peer)| {
                let so_many = number as u64 + 1;
                let at = fill(&mut peer.stream, &all, || serving.served().engine.pauses >= so_many);
                honest.echo(Opcode::Binary, &[9; 3000]);
                at
            })
            .collect();
        let engine_counts = serving.served().engine;
        assert!(engine_counts.pauses_in_all > 0, "{engine_counts:?}");
        let waiting_bytes = engine_counts.received_bytes - engine_counts.sent_bytes;
        // Each may have one turn's worth more; without this bound it would be a mebibyte for each.
        let most = IN_ALL + DEAF * 16 * 4096;
        assert!(waiting_bytes < most as u64, "{waiting_bytes} bytes wait");
        // Those that read at last have lost nothing, in whatever order they come back.
        for (mut peer, at) in deaf.into_iter().zip(sent).rev() {
            let whole_count = at.div_ceil(frame_bytes);
            let mut writer = peer.stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    writer.write_all(&all[at..whole_count * frame_bytes]).unwrap();
                    writer.write_all(&client(Opcode::Close, true, &1000u16.to_be_bytes())).unwrap();
                });
                assert_eq!(hear_numbered(&mut peer, BYTES), (whole_count as u32, Some(1000)));
            });
        }
        drop(honest);
        serving.stop();
    }

    pub(super) fn a_peer_that_is_stuck_is_dropped_and_one_that_is_silent_is_not(engine: EngineKind) {
        let config = Config { outbox_bytes: 64 * 1024, ..config(4096) };
        let limits = Limits { stall_ns: Some(300 * MS), ..limits() };
        let serving = Serving::start(engine, config, limits);
        let mut silent = Peer::open(serving.address);
        let message = client(Opcode::Binary, true, &[1; 300]);
        for (number, part) in [&message[..3], &message[..100]].into_iter().enumerate() {
            let mut midway = Peer::open(serving.address);
            midway.stream.write_all(part).unwrap();
            serving.until("it is dropped", |served| served.kinds.timeouts_stall == number as u64 + 1);
            // What of a binary frame has come is answered at once.
            rest_of(&mut midway.stream);
        }
        let mut deaf = Peer::open(serving.address);
        let much = client(Opcode::Binary, true, &vec![1; 64 << 20]);
        fill(&mut deaf.stream, &much, || serving.served().engine.pauses > 0);
        let is_gone = |served: &Served| served.kinds.timeouts_stall == 3 && served.connections == 1;
        let served = serving.until("it is dropped", is_gone);
        assert_eq!(served.timeouts, 3, "{served:?}");
        silent.echo(Opcode::Text, b"I had nothing to say");
        drop((silent, deaf));
        serving.stop();
    }

    pub(super) fn what_befalls_connections_is_counted_by_kind(engine: EngineKind) {
        let serving = Serving::start(engine, config(4096), Limits { message_bytes: 100, ..limits() });
        let ask = request(serving.address, "/");
        let said = |frames: Vec<u8>| {
            let mut stream = tcp(serving.address);
            stream.write_all(&[&ask[..], &frames].concat()).unwrap();
            rest_of(&mut stream);
        };
        said(vec![0x82, 0x01, 0, 0]);
        said(client(Opcode::Text, true, b"\xFF"));
        said(client(Opcode::Binary, true, &[0; 101]));
        said(client(Opcode::Close, true, b""));
        for head in ["GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\r\n\r\n"] {
            let mut stream = tcp(serving.address);
            stream.write_all(head.as_bytes()).unwrap();
            rest_of(&mut stream);
        }
        let mut stream = tcp(serving.address);
        stream.write_all(&request(serving.address, "/elsewhere")).unwrap();
        rest_of(&mut stream);
        drop(stream);
        let hangs_up = Peer::open(serving.address);
        drop(hangs_up);
        let resets = Peer::open(serving.address);
        serving.until("the last is there", |served| served.upgrades == 6);
        reset(resets.stream);
        let served = serving.until("all are gone", |served| served.connections == 0);
        let counted: Vec<_> = served.kinds.named().filter(|(_, count)| *count != 0).collect();
        let expected = [
            ("faults_protocol", 1),
            ("faults_invalid_data", 1),
            ("faults_too_big", 1),
            ("rejections_malformed", 1),
            ("rejections_not_found", 1),
            ("rejections_not_websocket", 1),
            ("resets", 1),
            ("hangups", 1),
        ];
        assert_eq!(counted, expected);
        assert_eq!((served.upgrades, served.rejections, served.faults, served.timeouts), (6, 3, 3, 0));
        let whole = frame(Role::Client, Opcode::Binary, true, b"served");
        let mut last = Peer::open(serving.address);
        last.stream.write_all(&whole).unwrap();
        last.expect(Opcode::Binary, b"served");
        drop(last);
        serving.stop();
    }
}
