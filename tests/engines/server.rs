//! The server's role: what a client says, cut in every way, and what it must hear.
//!
//! Each cut is a connection of its own, all of them at once. Their pieces go out in rounds, and a round begins
//! when the server has received the last one, so that each piece arrives alone. Where the server receives 64
//! bytes at a time, it cuts once more.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use fastrand::Rng;
use ringsock::engine::EngineKind;
use ringsock::scenario::serve::Limits;
use ringsock::ws::extensions::DeflateParameters;
use ringsock::ws::frame::{Opcode, Role};

use crate::listener::{Heard, Listener, frame};
use crate::peer::{request, tcp};
use crate::serving::{Serving, config, limits};
use crate::split::Split;
use crate::stamps::Stamped;

crate::conversations!("server":
    handshakes_that_are_well_formed_open,
    handshakes_that_are_not_are_answered_as_http_asks,
    a_head_that_is_too_long_is_refused,
    frames_right_behind_the_request_are_taken,
    messages_of_every_length_class_come_back,
    a_mebibyte_comes_back,
    fragments_come_back_with_pings_between_them,
    pings_of_every_length_are_answered,
    closes_of_all_kinds_are_answered,
    breaches_of_the_protocol_are_named_by_their_close_code,
    text_that_is_not_utf8_is_closed_with_1007,
    messages_over_the_limit_are_closed_with_1009,
    a_client_that_stops_sending_gets_every_echo,
    a_stream_that_stops_midway_ends,
);

/// What one end says on a connection.
pub(crate) struct Said {
    pub(crate) label: String,
    /// Sent whole before anything else: what is not to be cut.
    pub(crate) before: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) parts_at: Vec<usize>,
    /// Sends FIN behind it.
    pub(crate) ends: bool,
}

/// What must come back, up to the stream's end.
pub(crate) enum Hears {
    /// A refusal with this status.
    Refusal(u16),
    /// An upgrade, and frames.
    Frames(Vec<Heard>),
    /// An upgrade, and frames with stamps in them.
    Stamped(Stamped),
    /// An upgrade, and messages that may be compressed so.
    Deflated(DeflateParameters, Vec<Heard>),
}

impl Said {
    /// A whole conversation, its request cut like the rest.
    pub(crate) fn raw(label: &str, bytes: Vec<u8>) -> Self {
        Self { label: label.into(), before: Vec::new(), bytes, parts_at: Vec::new(), ends: false }
    }

    /// Frames behind an ordinary request.
    pub(crate) fn frames(label: &str, frames: &[Vec<u8>]) -> Self {
        let ends = frames.iter().scan(0, |at, frame| {
            *at += frame.len();
            Some(*at)
        });
        Self { before: ordinary(), parts_at: ends.collect(), ..Self::raw(label, frames.concat()) }
    }
}

fn ordinary() -> Vec<u8> {
    request("127.0.0.1:80".parse().unwrap(), "/")
}

pub(crate) fn client(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    frame(Role::Client, opcode, fin, payload)
}

pub(crate) fn goodbye() -> Vec<u8> {
    client(Opcode::Close, true, &1000u16.to_be_bytes())
}

/// `count` bytes of text with characters of every length.
pub(crate) fn text(count: usize) -> Vec<u8> {
    let mut text: String = ['a', 'é', '€', '🦀'].iter().cycle().take(count / 3).collect();
    while text.len() > count {
        text.pop();
    }
    text.extend(std::iter::repeat_n('z', count - text.len()));
    text.into_bytes()
}

/// Holds each conversation over every cut, with receives of 64 bytes and of 64 KiB.
pub(crate) fn hold_all(engine: EngineKind, limits: Limits, conversations: &[(Said, Hears)]) {
    hold_on(conversations, |recv_buffer_bytes| Serving::start(engine, config(recv_buffer_bytes), limits));
}

/// The same, with servers that are started so.
pub(crate) fn hold_on(conversations: &[(Said, Hears)], start: impl Fn(usize) -> Serving) {
    let mut random = crate::seed::seeded();
    for recv_buffer_bytes in [64, 65_600] {
        let serving = start(recv_buffer_bytes);
        for (said, hears) in conversations {
            let label = format!("{}, receives of {recv_buffer_bytes}", said.label);
            let splits = Split::all(said.bytes.len(), &said.parts_at, &mut random);
            // As many at once as leaves descriptors to the tests beside this one.
            for splits in splits.chunks(150) {
                play(&serving, said, hears, splits, &label);
            }
        }
        serving.stop();
    }
}

/// One connection for each split, their pieces in rounds.
fn play(serving: &Serving, said: &Said, hears: &Hears, splits: &[Split], label: &str) {
    let mut streams: Vec<TcpStream> = splits.iter().map(|_| tcp(serving.address)).collect();
    let pieces: Vec<_> = splits.iter().map(|split| split.pieces(said.bytes.len())).collect();
    let rounds = pieces.iter().map(Vec::len).max().unwrap_or(0);
    // What is more than the kernels hold must be read while it is sent.
    let is_large = said.bytes.len() > 100_000;
    let answers: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let read = |mut stream: TcpStream| scope.spawn(move || read_all(&mut stream));
        let early: Vec<_> = match is_large {
            true => streams.iter().map(|stream| read(stream.try_clone().unwrap())).collect(),
            false => Vec::new(),
        };
        let mut sent_bytes = serving.served().engine.received_bytes;
        for (stream, split) in streams.iter_mut().zip(splits) {
            stream.write_all(&said.before).unwrap_or_else(|error| panic!("{label}, {split}: {error}"));
            sent_bytes += said.before.len() as u64;
        }
        for round in 0..rounds {
            if !is_large {
                serving.until(label, |served| served.engine.received_bytes >= sent_bytes);
            }
            for ((stream, pieces), split) in streams.iter_mut().zip(&pieces).zip(splits) {
                let Some(piece) = pieces.get(round) else { continue };
                sent_bytes += piece.len() as u64;
                let written = stream.write_all(&said.bytes[piece.clone()]);
                written.unwrap_or_else(|error| panic!("{label}, {split}, {piece:?}: {error}"));
            }
        }
        if said.ends {
            streams.iter().for_each(|stream| stream.shutdown(Shutdown::Write).unwrap());
        }
        let readers = if is_large { early } else { streams.drain(..).map(read).collect() };
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    for (answer, split) in answers.into_iter().zip(splits) {
        check(answer, hears, &format!("{label}, {split}"));
    }
}

/// Everything up to the end, which may not be a reset.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => all.extend(b"... and no end"),
        Err(error) => all.extend(format!("... {error}").bytes()),
    }
    all
}

fn check(answer: Vec<u8>, hears: &Hears, label: &str) {
    let head_bytes = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    let (head, rest) = answer.split_at(head_bytes);
    let head = String::from_utf8_lossy(head);
    match hears {
        Hears::Refusal(status) => {
            let start = format!("HTTP/1.1 {status} ");
            let body = String::from_utf8_lossy(rest);
            assert!(head.starts_with(&start), "{label}: not {status}: {head}{body}");
            let length = format!("Content-Length: {}\r\n", rest.len());
            assert!(head.contains(&length) && rest.ends_with(b"\n"), "{label}: {head}{body}");
        }
        Hears::Deflated(agreed, expected) => {
            assert!(head.starts_with("HTTP/1.1 101 "), "{label}: {}", String::from_utf8_lossy(&answer));
            let heard = crate::deflate::heard(agreed, rest);
            assert!(heard == *expected, "{label}: {heard:?}, not {expected:?}");
        }
        Hears::Frames(_) | Hears::Stamped(_) => {
            assert!(head.starts_with("HTTP/1.1 101 "), "{label}: {}", String::from_utf8_lossy(&answer));
            let mut listener = Listener::to(Role::Server);
            let listened = std::panic::AssertUnwindSafe(|| listener.on_bytes(&mut rest.to_vec()));
            assert!(std::panic::catch_unwind(listened).is_ok(), "{label}: {rest:?}");
            match hears {
                Hears::Frames(expected) => {
                    assert!(listener.heard == *expected, "{label}: {:?}, not {expected:?}", listener.heard);
                }
                Hears::Stamped(stamped) => stamped.check(&listener.heard, label),
                Hears::Refusal(_) | Hears::Deflated(..) => unreachable!("it is judged above"),
            }
            assert!(listener.at_boundary(), "{label}: the stream ends inside a frame");
        }
    }
}

/// A message and its echo.
pub(crate) fn echoed(text_message: bool, payload: Vec<u8>) -> (Vec<u8>, Heard) {
    let opcode = if text_message { Opcode::Text } else { Opcode::Binary };
    let said = client(opcode, true, &payload);
    (said, if text_message { Heard::Text(payload) } else { Heard::Binary(payload) })
}

const KEY_LINE: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A request of the lines given.
fn head(lines: &[&str]) -> Vec<u8> {
    (lines.concat() + "\r\n").into_bytes()
}

mod conversation {
    use super::*;

    pub(super) fn handshakes_that_are_well_formed_open(engine: EngineKind) {
        let version = "Sec-WebSocket-Version: 13\r\n";
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        let many: String = (0..90).map(|number| format!("X-{number}: y\r\n")).collect();
        let heads: [(&str, Vec<u8>); 7] = [
            ("minimal", head(&["GET / HTTP/1.1\r\nHost: a\r\n", upgrade, version, KEY_LINE])),
            ("many headers", head(&["GET / HTTP/1.1\r\nHost: a\r\n", &many, upgrade, version, KEY_LINE])),
            (
                "mixed case",
                head(&[
                    "GET /echo HTTP/1.1\r\nhOsT: Example.COM:9001\r\nUPGRADE: WebSocket\r\n",
                    "connection: keep-alive, UPGRADE\r\nsec-websocket-VERSION: 13\r\n",
                    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                ]),
            ),
            ("a query", head(&["GET /?x=1&y=/ HTTP/1.1\r\nHost: a\r\n", upgrade, version, KEY_LINE])),
            ("a whole URL", head(&["GET ws://a/echo HTTP/1.1\r\nHost: a\r\n", upgrade, version, KEY_LINE])),
            (
                "offers",
                head(&[
                    "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
                    "Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://a\r\n",
                    upgrade,
                    version,
                    KEY_LINE,
                ]),
            ),
            ("IPv6 host", head(&["GET / HTTP/1.1\r\nHost: [::1]:80\r\n", upgrade, version, KEY_LINE])),
        ];
        let conversations = heads.map(|(label, head)| {
            let said = Said { parts_at: vec![head.len()], ..Said::raw(label, [head, goodbye()].concat()) };
            (said, Hears::Frames(vec![Heard::Close(Some(1000))]))
        });
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn handshakes_that_are_not_are_answered_as_http_asks(engine: EngineKind) {
        let upgrade = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        let version = "Sec-WebSocket-Version: 13\r\n";
        let cases: [(&str, u16, &[&str]); 14] = [
            ("another path", 404, &["GET /elsewhere HTTP/1.1\r\n", upgrade, version, KEY_LINE]),
            ("plain HTTP", 426, &["GET / HTTP/1.1\r\nHost: a\r\n"]),
            ("version 8", 426, &["GET / HTTP/1.1\r\n", upgrade, "Sec-WebSocket-Version: 8\r\n", KEY_LINE]),
            ("no version", 426, &["GET / HTTP/1.1\r\n", upgrade, KEY_LINE]),
            ("no key", 400, &["GET / HTTP/1.1\r\n", upgrade, version]),
            ("two keys", 400, &["GET / HTTP/1.1\r\n", upgrade, version, KEY_LINE, KEY_LINE]),
            ("a short key", 400, &["GET / HTTP/1.1\r\n", upgrade, version, "Sec-WebSocket-Key: abc=\r\n"]),
            ("POST", 405, &["POST / HTTP/1.1\r\n", upgrade, version, KEY_LINE]),
            ("HTTP/1.0", 400, &["GET / HTTP/1.0\r\n", upgrade, version, KEY_LINE]),
            ("a wrong host", 400, &["GET / HTTP/1.1\r\nHost: a b\r\n", &upgrade[9..], version, KEY_LINE]),
            ("no host", 400, &["GET / HTTP/1.1\r\n", &upgrade[9..], version, KEY_LINE]),
            ("two hosts", 400, &["GET / HTTP/1.1\r\nHost: b\r\n", upgrade, version, KEY_LINE]),
            ("a body", 400, &["GET / HTTP/1.1\r\nContent-Length: 1\r\n", upgrade, version, KEY_LINE]),
            ("a bare line feed", 400, &["GET / HTTP/1.1\n", upgrade, version, KEY_LINE]),
        ];
        let conversations: Vec<_> = cases
            .iter()
            .map(|(label, status, lines)| (Said::raw(label, head(lines)), Hears::Refusal(*status)))
            .collect();
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn a_head_that_is_too_long_is_refused(engine: EngineKind) {
        let limits = Limits { head_bytes: 300, ..limits() };
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 400]].concat();
        let hundred: String = (0..101).map(|_| "X:\r\n").collect();
        let conversations =
            [(Said { parts_at: vec![300], ..Said::raw("too long", endless) }, Hears::Refusal(431))];
        hold_all(engine, limits, &conversations);
        let many = head(&["GET / HTTP/1.1\r\nHost: a\r\n", &hundred]);
        let parts_at = vec![many.len()];
        let conversations = [(Said { parts_at, ..Said::raw("too many headers", many) }, Hears::Refusal(431))];
        hold_all(engine, super::limits(), &conversations);
    }

    pub(super) fn frames_right_behind_the_request_are_taken(engine: EngineKind) {
        let (text, heard) = echoed(true, "grüß dich 🦀".into());
        let (binary, also_heard) = echoed(false, vec![7; 30]);
        let ping = client(Opcode::Ping, true, b"!");
        let bytes = [ordinary(), text, ping, binary, goodbye()].concat();
        let hears = vec![heard, Heard::Pong(b"!".to_vec()), also_heard, Heard::Close(Some(1000))];
        hold_all(engine, limits(), &[(Said::raw("early frames", bytes), Hears::Frames(hears))]);
    }

    pub(super) fn messages_of_every_length_class_come_back(engine: EngineKind) {
        let mut conversations = Vec::new();
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for is_text in [false, true] {
                let payload = match is_text {
                    true => text(length),
                    false => (0..length).map(|at| (at % 251) as u8).collect(),
                };
                let (said, heard) = echoed(is_text, payload);
                let (next, next_heard) = echoed(!is_text, b"next".to_vec());
                let kind = if is_text { "text" } else { "binary" };
                let said = Said::frames(&format!("{kind} of {length}"), &[said, next, goodbye()]);
                conversations.push((said, Hears::Frames(vec![heard, next_heard, Heard::Close(Some(1000))])));
            }
        }
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn a_mebibyte_comes_back(engine: EngineKind) {
        let mut random = Rng::with_seed(1);
        let serving = Serving::start(engine, config(4096), limits());
        for is_text in [false, true] {
            let payload = match is_text {
                true => text(1 << 20),
                false => (0..1 << 20).map(|at| (at % 251) as u8).collect(),
            };
            let (said, heard) = echoed(is_text, payload);
            let said = Said::frames(if is_text { "text" } else { "binary" }, &[said, goodbye()]);
            let hears = Hears::Frames(vec![heard, Heard::Close(Some(1000))]);
            let splits = Split::some(said.bytes.len(), &mut random);
            play(&serving, &said, &hears, &splits, &format!("1 MiB of {}", said.label));
        }
        serving.stop();
    }

    pub(super) fn fragments_come_back_with_pings_between_them(engine: EngineKind) {
        let ping = |payload: &[u8]| client(Opcode::Ping, true, payload);
        let more = |payload: &[u8]| client(Opcode::Continuation, false, payload);
        let last = |payload: &[u8]| client(Opcode::Continuation, true, payload);
        let crab = "🦀".as_bytes();
        let said = Said::frames(
            "fragments",
            &[
                client(Opcode::Text, false, &[b"a", &crab[..1]].concat()),
                ping(b"1"),
                more(&crab[1..2]),
                more(b""),
                more(&crab[2..]),
                ping(b""),
                last(b""),
                client(Opcode::Binary, false, b""),
                more(&[9; 130]),
                ping(&[3; 20]),
                last(b"x"),
                goodbye(),
            ],
        );
        let hears = vec![
            Heard::Pong(b"1".to_vec()),
            Heard::Pong(Vec::new()),
            Heard::Text("a🦀".into()),
            Heard::Pong(vec![3; 20]),
            Heard::Binary([&[9; 130][..], b"x"].concat()),
            Heard::Close(Some(1000)),
        ];
        hold_all(engine, limits(), &[(said, Hears::Frames(hears))]);
    }

    pub(super) fn pings_of_every_length_are_answered(engine: EngineKind) {
        let payloads: Vec<Vec<u8>> = (0..=125).map(|length| vec![length as u8; length]).collect();
        let mut frames: Vec<_> = payloads.iter().map(|payload| client(Opcode::Ping, true, payload)).collect();
        // One that was not asked for is no fault.
        frames.push(client(Opcode::Pong, true, b"unasked"));
        frames.push(goodbye());
        let mut hears: Vec<_> = payloads.into_iter().map(Heard::Pong).collect();
        hears.push(Heard::Close(Some(1000)));
        let said = Said { parts_at: Vec::new(), ..Said::frames("pings", &frames) };
        hold_all(engine, limits(), &[(said, Hears::Frames(hears))]);
        let longest = Said::frames("the longest ping", &[client(Opcode::Ping, true, &[1; 125]), goodbye()]);
        let hears = vec![Heard::Pong(vec![1; 125]), Heard::Close(Some(1000))];
        hold_all(engine, limits(), &[(longest, Hears::Frames(hears))]);
    }

    pub(super) fn closes_of_all_kinds_are_answered(engine: EngineKind) {
        let close = |code: Option<u16>, reason: &[u8]| {
            let payload = code.map_or(Vec::new(), |code| [&code.to_be_bytes()[..], reason].concat());
            let said = Said::frames(
                &format!("close {code:?} of {}", payload.len()),
                &[client(Opcode::Binary, true, b"last"), client(Opcode::Close, true, &payload)],
            );
            (said, Hears::Frames(vec![Heard::Binary(b"last".to_vec()), Heard::Close(code)]))
        };
        let conversations = [
            close(None, b""),
            close(Some(1000), b""),
            close(Some(1001), "auf Wiedersehen, für immer 🦀".as_bytes()),
            close(Some(1000), &text(123)),
            close(Some(3000), b"library"),
            close(Some(4999), b"application"),
        ];
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn breaches_of_the_protocol_are_named_by_their_close_code(engine: EngineKind) {
        let with_first = |first: u8, payload: &[u8]| {
            let mut frame = client(Opcode::Binary, true, payload);
            frame[0] = first;
            frame
        };
        let long_control = |first: u8| {
            let mut frame = client(Opcode::Binary, true, &[1; 126]);
            frame[0] = first;
            frame
        };
        let start = client(Opcode::Text, false, b"a");
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("not masked", frame(Role::Server, Opcode::Binary, true, b"x")),
            ("reserved bit 1", with_first(0xC2, b"x")),
            ("reserved bit 2", with_first(0xA2, b"x")),
            ("reserved bit 3 of a ping", with_first(0x99, b"x")),
            ("opcode 3", with_first(0x83, b"x")),
            ("opcode 15", with_first(0x8F, b"x")),
            ("a ping too long", long_control(0x89)),
            ("a close too long", long_control(0x88)),
            ("a fragmented ping", with_first(0x09, b"x")),
            ("a fragmented close", with_first(0x08, b"\x03\xE8")),
            ("a close code that may not travel", client(Opcode::Close, true, &1005u16.to_be_bytes())),
            ("half a close code", client(Opcode::Close, true, b"\x03")),
            ("nothing to continue", client(Opcode::Continuation, true, b"x")),
            ("a message inside another", [start.clone(), client(Opcode::Binary, true, b"x")].concat()),
            ("a length in too many bytes", [&[0x82, 0xFE, 0, 5, 1, 2, 3, 4][..], b"hello"].concat()),
            ("a length beyond all", vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        ];
        let conversations: Vec<_> = cases
            .into_iter()
            .map(|(label, wrong)| {
                // What is behind it is not heard any more; the client ends when it has been told.
                let (good, heard) = echoed(false, b"good".to_vec());
                let unheard = client(Opcode::Binary, true, b"unheard");
                let said = Said { ends: true, ..Said::frames(label, &[good, wrong, unheard]) };
                (said, Hears::Frames(vec![heard, Heard::Close(Some(1002))]))
            })
            .collect();
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn text_that_is_not_utf8_is_closed_with_1007(engine: EngineKind) {
        let crab = "🦀".as_bytes();
        let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
            ("a stray byte", vec![client(Opcode::Text, true, b"good \x80 bad")]),
            ("a surrogate", vec![client(Opcode::Text, true, b"\xED\xA0\x80")]),
            ("an unfinished end", vec![client(Opcode::Text, true, &crab[..3])]),
            (
                "an unfinished end in fragments",
                vec![
                    client(Opcode::Text, false, &crab[..1]),
                    client(Opcode::Continuation, true, &crab[1..3]),
                ],
            ),
            (
                "cut inside a character by fragments",
                vec![
                    client(Opcode::Text, false, &crab[..2]),
                    client(Opcode::Continuation, false, &[0xFF]),
                    client(Opcode::Continuation, true, b"never"),
                ],
            ),
            ("a close reason", vec![client(Opcode::Close, true, b"\x03\xE8fine \xE2\x82")]),
        ];
        let conversations: Vec<_> = cases
            .into_iter()
            .map(|(label, frames)| {
                let said = Said { ends: true, ..Said::frames(label, &frames) };
                (said, Hears::Frames(vec![Heard::Close(Some(1007))]))
            })
            .collect();
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn messages_over_the_limit_are_closed_with_1009(engine: EngineKind) {
        let limits = Limits { message_bytes: 200, ..limits() };
        let at_limit = echoed(false, vec![1; 200]);
        let cases = [
            ("one frame", vec![client(Opcode::Binary, true, &[1; 201])]),
            ("text", vec![client(Opcode::Text, true, &[b'a'; 201])]),
            (
                "fragments",
                vec![
                    client(Opcode::Text, false, &[b'a'; 150]),
                    client(Opcode::Continuation, true, &[b'a'; 51]),
                ],
            ),
            ("announced, and begun", vec![vec![0x82, 0xFF, 0, 0, 0, 0, 0xFF, 0, 0, 0, 1, 2, 3, 4, 9]]),
        ];
        let conversations = cases.map(|(label, frames)| {
            let frames = [vec![at_limit.0.clone()], frames].concat();
            let said = Said { ends: true, ..Said::frames(label, &frames) };
            (said, Hears::Frames(vec![at_limit.1.clone(), Heard::Close(Some(1009))]))
        });
        hold_all(engine, limits, &conversations);
    }

    pub(super) fn a_client_that_stops_sending_gets_every_echo(engine: EngineKind) {
        let (first, first_heard) = echoed(true, text(60));
        let (second, second_heard) = echoed(false, vec![5; 90]);
        // FIN behind the request's last byte, and behind the last frame's, with no Close.
        let only_request = Said { ends: true, ..Said::raw("behind the request", ordinary()) };
        let said = Said { ends: true, ..Said::frames("behind frames", &[first, second]) };
        let conversations = [
            (only_request, Hears::Frames(Vec::new())),
            (said, Hears::Frames(vec![first_heard, second_heard])),
        ];
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn a_stream_that_stops_midway_ends(engine: EngineKind) {
        let serving = Serving::start(engine, config(4096), limits());
        let whole = [ordinary(), client(Opcode::Text, true, b"one"), client(Opcode::Binary, true, &[2; 40])];
        let whole = whole.concat();
        let mut streams: Vec<_> = (0..whole.len())
            .map(|cut| {
                let mut stream = tcp(serving.address);
                stream.write_all(&whole[..cut]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                stream
            })
            .collect();
        for (cut, stream) in streams.iter_mut().enumerate() {
            let answer = String::from_utf8_lossy(&read_all(stream)).into_owned();
            assert!(!answer.contains("..."), "cut off at {cut}: {answer}");
            assert_eq!(answer.starts_with("HTTP/1.1 101 "), cut >= ordinary().len(), "cut off at {cut}");
        }
        serving.stop();
    }
}
