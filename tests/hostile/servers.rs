//! The other role: servers that mean harm, and the generator, which ends by itself all the same, and says why.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use ringsock::engine::EngineKind;
use ringsock::ws::frame::{Header, MAX_HEADER_BYTES, Opcode};
use ringsock::ws::handshake::{Chosen, ServerHandshake};

use crate::misbehaving::{accepting, upgraded};
use crate::run::run;
use crate::wire::{self, BOMB, noise};

/// Runs at the same time: they mostly wait.
const AT_ONCE: usize = 4;

/// Agrees to compression.
const DEFLATING: Chosen<'_> = Chosen { subprotocol: None, extensions: Some("permessage-deflate") };

/// What a server does with one connection.
type Deed = fn(TcpStream);

/// A run against a server that does so, with these flags; `{}` in them is the address.
struct Case {
    label: &'static str,
    deed: Deed,
    flags: &'static [&'static str],
    /// Some class of errors begins so; nothing where messages stay unanswered, which is no error but fails the run.
    class: &'static str,
}

const fn case(label: &'static str, class: &'static str, deed: Deed) -> Case {
    Case { label, deed, flags: &["ws://{}/"], class }
}

/// Connections that never open: there is no result.
const AT_OPENING: [Case; 11] = [
    // With its request unread, that is a reset.
    case("closes at once", "handshake: ", drop),
    case("resets at once", "", |stream| wire::reset(&stream)),
    case("resets behind the request", "handshake: reset by server", |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        wire::reset(&stream);
    }),
    case("answers with noise", "handshake: server answered", |mut stream| {
        say_for_ever(&mut stream, &noise(5000));
    }),
    case("never ends its head", "handshake: server's answer cannot be read", |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n");
        say_for_ever(&mut stream, b"A: b\r\n");
    }),
    case("never ends a line", "handshake: server's answer cannot be read", |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nA: ");
        say_for_ever(&mut stream, b"x");
    }),
    case("says a byte now and then", "handshake: timed out", |mut stream| {
        for byte in b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }),
    case("answers another key", "handshake: server answered 101 with Sec-WebSocket-Accept", |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        stay(stream);
    }),
    case("chooses what was not offered", "handshake: server chose an extension", |mut stream| {
        let mut handshake = ServerHandshake::new(8192);
        let mut request = [0; 4096];
        let Ok(count) = stream.read(&mut request) else { return };
        if let Ok(Some(upgrade)) = handshake.on_bytes(&request[..count]) {
            let _ = stream.write_all(&upgrade.accept_choosing(&DEFLATING));
        }
        stay(stream);
    }),
    Case {
        flags: &["wss://{}/", "--insecure"],
        ..case("speaks no TLS", "TLS: ", |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            stay(stream);
        })
    },
    Case {
        flags: &["wss://{}/", "--insecure"],
        ..case("answers a hello with garbage in records", "TLS: ", |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            say_for_ever(&mut stream, &[&[22, 3, 3, 1, 0][..], &noise(256)].concat());
        })
    },
];

/// Connections that open, and break then: there is a result, with errors.
const AFTER_OPENING: [Case; 18] = [
    case("closes", "closed by server", |stream| drop(open(stream))),
    case("resets", "reset by server", |stream| {
        if let Some(stream) = open(stream) {
            wire::reset(&stream);
        }
    }),
    case("says goodbye", "closed by server (1001)", |stream| {
        say(stream, &frame(Opcode::Close, &1001_u16.to_be_bytes()));
    }),
    case("says goodbye with half a code", "protocol: close frame with half a code", |stream| {
        say(stream, &frame(Opcode::Close, b"\x03"));
    }),
    case("masks", "protocol: server frame masked", |stream| {
        say(stream, &crate::peer::frame(Opcode::Binary, b"masked"));
    }),
    case("uses an opcode that is none", "protocol: reserved opcode", |stream| say(stream, &[0x83, 0])),
    case("uses a bit that is reserved", "protocol: reserved bits", |stream| say(stream, &[0xC2, 0])),
    case("announces 2^63", "protocol: payload length of 2^63", |stream| {
        say(stream, &[&[0x82, 127][..], &(1_u64 << 63).to_be_bytes()].concat());
    }),
    case("announces 2^62", "", |stream| {
        say(stream, &[&[0x82, 127][..], &(1_u64 << 62).to_be_bytes()].concat());
    }),
    case("sends more than was asked for", "", |stream| {
        let Some(mut stream) = open(stream) else { return };
        let header = [&[0x82, 127][..], &(60_u64 << 20).to_be_bytes()].concat();
        let _ = stream.write_all(&header);
        say_for_ever(&mut stream, &[7; 4096]);
    }),
    case("answers what was not asked", "", |stream| {
        let Some(mut stream) = open(stream) else { return };
        say_for_ever(&mut stream, &frame(Opcode::Binary, &noise(64)));
    }),
    case("never reads", "", |stream| {
        let Some(stream) = open(stream) else { return };
        std::thread::sleep(Duration::from_secs(10));
        drop(stream);
    }),
    case("pings and never reads", "", |stream| {
        let Some(mut stream) = open(stream) else { return };
        while stream.write_all(&frame(Opcode::Ping, &[1; 125])).is_ok() {}
    }),
    case("never ends a message", "", |stream| {
        let Some(mut stream) = open(stream) else { return };
        let _ = stream.write_all(&[0x02, 0]);
        say_for_ever(&mut stream, &[0, 0]);
    }),
    case("never ends a frame", "", |stream| say(stream, &frame(Opcode::Binary, &[1; 64])[..30])),
    Case {
        flags: &["ws://{}/", "--deflate"],
        ..case("throws a bomb", "", |stream| {
            let Some(mut stream) = open_deflated(stream) else { return };
            let mut bomb = frame(Opcode::Binary, &BOMB);
            bomb[0] |= 0x40;
            say_for_ever(&mut stream, &bomb);
        })
    },
    Case {
        flags: &["ws://{}/", "--deflate"],
        ..case("deflates to garbage", "protocol: compressed message is not DEFLATE", |stream| {
            let Some(mut stream) = open_deflated(stream) else { return };
            let _ = stream.write_all(&[0xC2, 2, 0xFF, 0xFF]);
            stay(stream);
        })
    },
    Case {
        flags: &["ws://{}/", "--closed-loop"],
        ..case("answers wrongly", "wrong payload", |stream| {
            let Some(mut stream) = open(stream) else { return };
            let wrong = frame(Opcode::Binary, &[0xEE; 64]);
            while matches!(stream.read(&mut [0; 4096]), Ok(1..)) && stream.write_all(&wrong).is_ok() {}
        })
    },
];

#[test]
fn servers_that_break_the_handshake_are_named_and_the_generator_ends() {
    judge_all(&AT_OPENING, |case, ended| {
        assert_eq!((ended.code, ended.results.len()), (Some(1), 0), "{}", ended.errors);
        assert!(ended.errors.contains(case.class), "{}", ended.errors);
    });
}

#[test]
fn servers_that_break_the_protocol_are_errors_by_class_and_the_generator_ends() {
    judge_all(&AFTER_OPENING, |case, ended| {
        assert_eq!((ended.code, ended.results.len()), (Some(1), 1), "{}\n{}", ended.output, ended.errors);
        let accounting = &ended.results[0].accounting;
        let has_class = accounting.errors.keys().any(|class| class.starts_with(case.class));
        let is_unanswered = accounting.unsent + accounting.outstanding > 0;
        assert!(has_class || case.class.is_empty() && is_unanswered, "{accounting:?}");
    });
}

/// Makes each run over each engine; a failure names both.
fn judge_all(cases: &'static [Case], judge: fn(&Case, crate::run::Ended)) {
    let all: Vec<(&Case, EngineKind)> =
        cases.iter().flat_map(|case| EngineKind::ALL.map(|engine| (case, engine))).collect();
    let (left, failed) = (Mutex::new(all), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((case, engine)) = left.lock().unwrap().pop() else { return };
                    let judged = std::panic::catch_unwind(|| judge(case, ended(case, engine)));
                    if judged.is_err() {
                        failed.lock().unwrap().push(format!(
                            "a server that {}, {}",
                            case.label,
                            engine.name()
                        ));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("; "));
}

/// What a run against such a server comes to.
fn ended(case: &Case, engine: EngineKind) -> crate::run::Ended {
    let address = accepting(case.deed).to_string();
    let flags: Vec<String> = case.flags.iter().map(|flag| flag.replace("{}", &address)).collect();
    let mut all = vec!["--engine", engine.name(), "-c", "4", "--connect-timeout", "5s"];
    if !case.flags.contains(&"--closed-loop") {
        all.extend(["--rate", "2000"]);
    }
    all.extend(flags.iter().map(String::as_str));
    let ended = run(&all);
    assert!(!ended.errors.contains("panicked"), "{}", ended.errors);
    ended
}

// ---- what servers do ----

/// Until the other end has enough.
fn say_for_ever(stream: &mut TcpStream, pattern: &[u8]) {
    let much = pattern.repeat((64 * 1024_usize).div_ceil(pattern.len()));
    while stream.write_all(&much).is_ok() {}
}

/// Reads until the other end is gone.
fn stay(mut stream: TcpStream) {
    while matches!(stream.read(&mut [0; 16 * 1024]), Ok(1..)) {}
}

fn open(mut stream: TcpStream) -> Option<TcpStream> {
    upgraded(&mut stream, |upgrade| upgrade.accept())?;
    Some(stream)
}

fn open_deflated(mut stream: TcpStream) -> Option<TcpStream> {
    upgraded(&mut stream, |upgrade| upgrade.accept_choosing(&DEFLATING))?;
    Some(stream)
}

fn say(stream: TcpStream, bytes: &[u8]) {
    let Some(mut stream) = open(stream) else { return };
    let _ = stream.write_all(bytes);
    stay(stream);
}

/// A server's frame.
fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let header = Header { fin: true, opcode, mask: None, payload_bytes: payload.len() as u64 };
    let mut bytes = vec![0; MAX_HEADER_BYTES];
    let header_bytes = header.encode(&mut bytes);
    bytes.truncate(header_bytes);
    bytes.extend_from_slice(payload);
    bytes
}
