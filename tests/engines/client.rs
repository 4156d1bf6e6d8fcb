//! The generator's role: what a server answers, cut in every way, and what the generator must make of it.
//!
//! The server is a script of the test on a plain socket. It sends each answer in the pieces of one cut, with a
//! pause between them, so that they arrive alone.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use clap::Parser;
use ringsock::engine::EngineKind;
use ringsock::load::{Options, Run, Verbosity};
use ringsock::measure::result::{RunResult, Status};
use ringsock::ws::frame::{Opcode, Role};
use ringsock::ws::handshake::ServerHandshake;

use crate::kernel::bombard;
use crate::listener::{Heard, Listener, frame};
use crate::peer::PATIENCE;
use crate::serving::{Serving, config, limits};
use crate::split::Split;

crate::conversations!("client":
    echoes_are_counted_however_they_are_cut,
    fragmented_echoes_and_pings_between_them_are_taken,
    frames_in_the_same_piece_as_the_upgrade_are_taken,
    answers_that_are_wrong_are_counted_by_class,
    breaches_of_the_protocol_end_the_connection_and_are_named,
    ends_of_all_kinds_are_told_apart,
    a_handshake_that_fails_is_named,
    a_slow_server_is_waited_for,
    signals_while_it_measures_lose_nothing,
);

/// How long the pauses between the pieces of an answer are together.
const PAUSES: Duration = Duration::from_millis(1);

/// A server's end of a connection, after the request.
struct Answering {
    stream: TcpStream,
    split: Split,
    listener: Listener,
    /// How many of what was heard has been looked at.
    seen: usize,
    messages: Vec<Vec<u8>>,
    request: Vec<u8>,
}

/// Why a script is over: the client has gone.
struct Gone;

type Script = fn(&mut Answering) -> Result<(), Gone>;

impl Answering {
    /// Reads the request.
    fn new(mut stream: TcpStream, split: Split) -> Result<Self, Gone> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            let Ok(1) = stream.read(&mut byte) else { return Err(Gone) };
            request.push(byte[0]);
        }
        let listener = Listener::to(Role::Client);
        Ok(Self { stream, split, listener, seen: 0, messages: Vec::new(), request })
    }

    /// The response that opens a connection.
    fn upgrade(&self) -> Vec<u8> {
        let mut handshake = ServerHandshake::new(8192);
        handshake.on_bytes(&self.request).unwrap().unwrap().accept().to_vec()
    }

    /// Sends in the pieces of the cut.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let pieces = self.split.pieces(bytes.len());
        let count = pieces.len();
        let pause = PAUSES / count.max(1) as u32;
        for (number, piece) in pieces.into_iter().enumerate() {
            // The cut may have been made for a longer stream.
            let piece = piece.start.min(bytes.len())..piece.end.min(bytes.len());
            self.stream.write_all(&bytes[piece]).map_err(|_| Gone)?;
            if number + 1 < count {
                std::thread::sleep(pause);
            }
        }
        Ok(())
    }

    /// The next thing that the client says.
    fn hear(&mut self) -> Result<Heard, Gone> {
        let mut buffer = [0; 16 * 1024];
        while self.seen == self.listener.heard.len() {
            let Ok(count @ 1..) = self.stream.read(&mut buffer) else { return Err(Gone) };
            self.listener.on_bytes(&mut buffer[..count]);
        }
        self.seen += 1;
        Ok(self.listener.heard[self.seen - 1].clone())
    }

    /// The next message, which is kept; a Close is answered, and the end.
    fn message(&mut self) -> Result<Vec<u8>, Gone> {
        match self.hear()? {
            Heard::Binary(payload) | Heard::Text(payload) => {
                self.messages.push(payload.clone());
                Ok(payload)
            }
            Heard::Close(_) => {
                let _ = self.stream.write_all(&server(Opcode::Close, true, &1000u16.to_be_bytes()));
                Err(Gone)
            }
            other => panic!("not a message: {other:?}"),
        }
    }

    /// Answers `count` messages as an echo does.
    fn echo(&mut self, count: usize) -> Result<(), Gone> {
        for _ in 0..count {
            let payload = self.message()?;
            self.send(&server(Opcode::Binary, true, &payload))?;
        }
        Ok(())
    }
}

fn server(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    frame(Role::Server, opcode, fin, payload)
}

/// Opens, and echoes so many messages.
fn begin(answering: &mut Answering, count: usize) -> Result<(), Gone> {
    let upgrade = answering.upgrade();
    answering.send(&upgrade)?;
    answering.echo(count)
}

/// A server that plays `script` on each connection.
fn scripted(script: Script, split: &Split) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let split = split.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let split = split.clone();
            std::thread::spawn(move || {
                if let Ok(mut answering) = Answering::new(stream, split) {
                    let _ = script(&mut answering);
                }
            });
        }
    });
    address
}

/// What a run came to: a result, or why there is none.
type Ended = Result<Box<RunResult>, String>;

fn run(engine: EngineKind, address: SocketAddr, flags: &[&str]) -> Ended {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }
    let url = format!("ws://{address}/");
    let given = |flag: &str| flags.contains(&flag);
    // A run ends when all is answered, however long it may wait for that.
    let defaults = [["-c", "1"], ["--rate", "500"], ["--drain-timeout", "1h"]];
    let stands = |pair: &&[&str; 2]| !(given(pair[0]) || pair[0] == "--rate" && given("--closed-loop"));
    let mut short = vec!["load", "--warmup", "0s", "--duration", "150ms"];
    short.extend(defaults.iter().filter(stands).flatten());
    let more = ["--connect-timeout", "10s", &url];
    let own = crate::flags_of(engine);
    let all = short.iter().chain(&more).chain(flags).copied().chain(own.iter().map(String::as_str));
    let plan = Flags::parse_from(all).options.validate(&ringsock::engine::Probe::of_this_kernel()).unwrap();
    let result = Run::new(plan).execute(Vec::new(), Verbosity::Quiet).map_err(|error| error.to_string())?;
    result.accounting.check().unwrap();
    assert_eq!(result.target.engine, engine.name());
    Ok(Box::new(result))
}

/// A run for every cut of answers of about `byte_count` bytes, several at once; `check` is given the cut's label.
fn each(
    engine: EngineKind,
    label: &str,
    byte_count: usize,
    script: Script,
    check: impl Fn(&str, Ended) + Sync,
) {
    each_with(engine, label, byte_count, &[], script, check);
}

/// As [`each`], with flags.
fn each_with(
    engine: EngineKind,
    label: &str,
    byte_count: usize,
    flags: &[&str],
    script: Script,
    check: impl Fn(&str, Ended) + Sync,
) {
    let splits = Split::some(byte_count, &mut crate::seed::seeded());
    each_of(engine, label, splits, flags, script, check);
}

/// As [`each_with`], for the cuts given.
fn each_of(
    engine: EngineKind,
    label: &str,
    splits: Vec<Split>,
    flags: &[&str],
    script: Script,
    check: impl Fn(&str, Ended) + Sync,
) {
    let check = &check;
    std::thread::scope(|scope| {
        for split in splits {
            scope.spawn(move || {
                let ended = run(engine, scripted(script, &split), flags);
                check(&format!("{label}, {split}"), ended);
            });
        }
    });
}

/// The run completed, and nothing is amiss.
fn assert_right(label: &str, ended: Ended) -> Box<RunResult> {
    let result = ended.unwrap_or_else(|error| panic!("{label}: {error}"));
    let accounting = &result.accounting;
    assert_eq!(result.outcome.status, Status::Completed, "{label}: {:?}", result.outcome);
    assert!(accounting.answered > 0 && accounting.errors.is_empty(), "{label}: {accounting:?}");
    // How many of a moment's messages still get out at its end is the machine's affair; what was sent comes back.
    assert_eq!(accounting.outstanding, 0, "{label}: {accounting:?}");
    result
}

/// The run had one error, of this class.
fn assert_one(label: &str, class: &str, ended: Ended) -> Box<RunResult> {
    let result = ended.unwrap_or_else(|error| panic!("{label}: {error}"));
    let errors = &result.accounting.errors;
    assert!(errors.len() == 1 && errors.get(class) == Some(&1), "{label}: {errors:?}, not `{class}` once");
    result
}

mod conversation {
    use super::*;

    /// Bytes of an echo of 64, and of the upgrade.
    const ECHO: usize = 66;
    const UPGRADE: usize = 129;
    /// Where in an echo the message's number stands.
    const NUMBER: std::ops::Range<usize> = 2..10;

    pub(super) fn echoes_are_counted_however_they_are_cut(engine: EngineKind) {
        each(
            engine,
            "echo of 64",
            ECHO,
            |answering| begin(answering, usize::MAX),
            |label, ended| {
                assert_right(label, ended);
            },
        );
        for size in ["0", "126", "70000"] {
            let byte_count = size.parse::<usize>().unwrap() + 4;
            let flags = ["--payload", size, "--rate", "100"];
            let script: Script = |answering| begin(answering, usize::MAX);
            each_with(engine, &format!("echo of {size}"), byte_count, &flags, script, |label, ended| {
                assert_right(label, ended);
            });
        }
    }

    pub(super) fn fragmented_echoes_and_pings_between_them_are_taken(engine: EngineKind) {
        let script: Script = |answering| {
            begin(answering, 1)?;
            loop {
                let payload = answering.message()?;
                let (start, rest) = payload.split_at(payload.len() / 3);
                let answer = [
                    server(Opcode::Ping, true, b"one"),
                    server(Opcode::Binary, false, start),
                    server(Opcode::Ping, true, &[2; 125]),
                    server(Opcode::Continuation, false, b""),
                    server(Opcode::Continuation, true, rest),
                    server(Opcode::Pong, true, b"unasked"),
                ];
                answering.send(&answer.concat())?;
                // Both pings are answered, in order, whatever else it sends meanwhile.
                for expected in [b"one".to_vec(), vec![2; 125]] {
                    match answering.hear()? {
                        Heard::Pong(payload) => assert_eq!(payload, expected),
                        other => panic!("not a pong: {other:?}"),
                    }
                }
            }
        };
        // Of a closed loop: the message behind an answer comes behind its pongs.
        each_with(engine, "fragments", ECHO + 150, &["--closed-loop"], script, |label, ended| {
            assert_right(label, ended);
        });
    }

    pub(super) fn frames_in_the_same_piece_as_the_upgrade_are_taken(engine: EngineKind) {
        let script: Script = |answering| {
            let early = [answering.upgrade(), server(Opcode::Ping, true, b"early")].concat();
            answering.send(&early)?;
            assert_eq!(answering.hear()?, Heard::Pong(b"early".to_vec()));
            answering.echo(usize::MAX)
        };
        each(engine, "a ping", UPGRADE + 7, script, |label, ended| drop(assert_right(label, ended)));
        let script: Script = |answering| {
            let early = [answering.upgrade(), server(Opcode::Binary, true, &[0; 64])].concat();
            answering.send(&early)?;
            answering.echo(usize::MAX)
        };
        let flags = ["--drain-timeout", "300ms"];
        each_with(engine, "a message", UPGRADE + ECHO, &flags, script, |label, ended| {
            let result = ended.unwrap_or_else(|error| panic!("{label}: {error}"));
            assert!(result.accounting.error_count() > 0, "{label}: nobody asked for it");
        });
    }

    pub(super) fn answers_that_are_wrong_are_counted_by_class(engine: EngineKind) {
        // After 20 right answers one that is wrong in a way of its own; then right ones again.
        let spoiled: Script = |answering| {
            begin(answering, 20)?;
            let mut payload = answering.message()?;
            *payload.last_mut().unwrap() ^= 1;
            answering.send(&server(Opcode::Binary, true, &payload))?;
            answering.echo(usize::MAX)
        };
        let of_another_kind: Script = |answering| {
            begin(answering, 20)?;
            let payload = answering.message()?;
            // Text that is text: else it would be a breach of the protocol.
            answering.send(&server(Opcode::Text, true, &vec![b'a'; payload.len()]))?;
            answering.echo(usize::MAX)
        };
        let short: Script = |answering| {
            begin(answering, 20)?;
            let payload = answering.message()?;
            answering.send(&server(Opcode::Binary, true, &payload[..63]))?;
            answering.echo(usize::MAX)
        };
        let missing: Script = |answering| {
            begin(answering, 20)?;
            answering.message()?;
            answering.echo(usize::MAX)
        };
        let repeated: Script = |answering| {
            begin(answering, 20)?;
            let payload = answering.message()?;
            answering.send(&server(Opcode::Binary, true, &payload).repeat(2))?;
            answering.echo(usize::MAX)
        };
        let late: Script = |answering| {
            begin(answering, 20)?;
            let payload = answering.message()?;
            let old = server(Opcode::Binary, true, &answering.messages[5].clone());
            answering.send(&[server(Opcode::Binary, true, &payload), old].concat())?;
            answering.echo(usize::MAX)
        };
        let cases: [(&str, &str, u64, Script); 6] = [
            ("a flipped bit", "wrong payload", 0, spoiled),
            ("text for binary", "wrong payload", 0, of_another_kind),
            ("a byte missing", "wrong payload", 0, short),
            ("an answer missing", "out of order", 1, missing),
            ("an answer repeated", "repeated or late answer", 0, repeated),
            ("an old answer", "repeated or late answer", 0, late),
        ];
        for (label, class, lost, script) in cases {
            let mut splits = Split::some(ECHO, &mut crate::seed::seeded());
            if class != "wrong payload" {
                // An answer to another message is known by its number, where that comes whole.
                splits.retain(|split| !split.cuts(&NUMBER));
            }
            // What is never answered is waited for in vain.
            let drain = if lost == 0 { "1h" } else { "500ms" };
            each_of(engine, label, splits, &["--drain-timeout", drain], script, |label, ended| {
                let result = assert_one(label, class, ended);
                let accounting = &result.accounting;
                assert_eq!(accounting.outstanding, lost, "{label}");
                assert!(accounting.answered > 25, "{label}: it goes on");
            });
        }
    }

    pub(super) fn breaches_of_the_protocol_end_the_connection_and_are_named(engine: EngineKind) {
        macro_rules! cases {
            ($(($label:literal, $class:literal, $wrong:expr)),* $(,)?) => { [$(
                ($label, $class, {
                    let script: Script = |answering| {
                        begin(answering, 10)?;
                        answering.message()?;
                        answering.send(&$wrong)?;
                        // Leaving something unread would be a reset.
                        while answering.message().is_ok() {}
                        Ok(())
                    };
                    script
                }),
            )*] };
        }
        let cases = cases!(
            ("masked", "protocol: server frame masked", [0x82, 0x81, 1, 2, 3, 4, 5]),
            ("reserved", "protocol: reserved bits set without a negotiated extension", [0xC2, 1, 5]),
            ("opcode", "protocol: reserved opcode 0xb", [0x8B, 1, 5]),
            (
                "continuation",
                "protocol: continuation frame without a message to continue",
                server(Opcode::Continuation, true, b"x")
            ),
            ("UTF-8", "protocol: text is not valid UTF-8", server(Opcode::Close, true, b"\x03\xE8\xC3\x28")),
            ("ping", "protocol: fragmented control frame", [0x09, 1, 5]),
            ("close", "protocol: close code 1005 may not be sent", [0x88, 2, 3, 0xED]),
        );
        for (label, class, script) in cases {
            each(engine, label, 5, script, |label, ended| {
                let result = assert_one(label, class, ended);
                assert!(result.accounting.answered <= 10, "{label}: {:?}", result.accounting);
            });
        }
    }

    pub(super) fn ends_of_all_kinds_are_told_apart(engine: EngineKind) {
        let close: Script = |answering| {
            begin(answering, 10)?;
            answering.send(&server(Opcode::Close, true, b"\x03\xE9restart"))?;
            // The client answers, and may have been sending until then.
            while !matches!(answering.hear()?, Heard::Close(Some(1001))) {}
            Ok(())
        };
        let close_without_code: Script = |answering| {
            begin(answering, 10)?;
            answering.send(&server(Opcode::Close, true, b""))?;
            while !matches!(answering.hear()?, Heard::Close(None)) {}
            Ok(())
        };
        let half_close: Script = |answering| {
            begin(answering, 10)?;
            let _ = answering.stream.shutdown(Shutdown::Write);
            while answering.hear().is_ok() {}
            Ok(())
        };
        let reset: Script = |answering| {
            begin(answering, 10)?;
            answering.message()?;
            let _ = socket2::SockRef::from(&answering.stream).set_linger(Some(Duration::ZERO));
            Ok(())
        };
        let reset_inside_a_frame: Script = |answering| {
            begin(answering, 10)?;
            let payload = answering.message()?;
            answering.send(&server(Opcode::Binary, true, &payload)[..30])?;
            let _ = socket2::SockRef::from(&answering.stream).set_linger(Some(Duration::ZERO));
            Ok(())
        };
        let cases: [(&str, &str, Script); 5] = [
            ("close", "closed by server (1001)", close),
            ("close without a code", "closed by server (no code)", close_without_code),
            ("half-close", "closed by server", half_close),
            ("reset", "reset by server", reset),
            ("reset inside a frame", "reset by server", reset_inside_a_frame),
        ];
        for (label, class, script) in cases {
            each(engine, label, ECHO, script, |label, ended| {
                assert_one(label, class, ended);
            });
        }
    }

    pub(super) fn a_handshake_that_fails_is_named(engine: EngineKind) {
        let page: Script = |answering| answering.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let wrong_accept: Script = |answering| {
            let response = String::from_utf8(answering.upgrade()).unwrap();
            let (before, _) = response.split_once("Sec-WebSocket-Accept: ").unwrap();
            answering
                .send(format!("{before}Sec-WebSocket-Accept: c29tZXRoaW5nIGVsc2U=\r\n\r\n").as_bytes())?;
            answering.hear().map(drop)
        };
        let no_upgrade: Script = |answering| {
            let response = String::from_utf8(answering.upgrade()).unwrap();
            answering.send(response.replace("Upgrade: websocket\r\n", "").as_bytes())?;
            answering.hear().map(drop)
        };
        let extension: Script = |answering| {
            let response = String::from_utf8(answering.upgrade()).unwrap();
            let extended = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
            answering.send(response.replace("\r\n\r\n", extended).as_bytes())?;
            answering.hear().map(drop)
        };
        let not_http: Script = |answering| {
            answering.send(b"SSH-2.0-OpenSSH_9.6\r\n")?;
            answering.hear().map(drop)
        };
        let endless: Script = |answering| {
            answering.send(&[b"HTTP/1.1 101 ".to_vec(), vec![b'x'; 9000]].concat())?;
            answering.hear().map(drop)
        };
        let ends_midway: Script = |answering| {
            let response = answering.upgrade();
            answering.send(&response[..60])
        };
        let reset: Script = |answering| {
            let response = answering.upgrade();
            answering.send(&response[..60])?;
            let _ = socket2::SockRef::from(&answering.stream).set_linger(Some(Duration::ZERO));
            Ok(())
        };
        let cases: [(&str, usize, &str, Script); 8] = [
            ("a page", 43, "200", page),
            ("a wrong accept", UPGRADE, "Sec-WebSocket-Accept", wrong_accept),
            ("no upgrade", 100, "Upgrade", no_upgrade),
            ("an extension", 170, "permessage-deflate", extension),
            ("another protocol", 21, "isn't HTTP", not_http),
            ("an endless head", 9013, "8192", endless),
            ("an end midway", 60, "handshake: closed by server (1)", ends_midway),
            ("a reset", 60, "handshake: reset by server (1)", reset),
        ];
        for (label, byte_count, cause, script) in cases {
            each(engine, label, byte_count, script, |label, ended| {
                let error = ended.err().unwrap_or_else(|| panic!("{label}: it opened"));
                assert!(error.contains(cause) && error.contains("handshake: "), "{label}: {error}");
            });
        }
    }

    pub(super) fn a_slow_server_is_waited_for(engine: EngineKind) {
        let script: Script = |answering| {
            begin(answering, 10)?;
            std::thread::sleep(Duration::from_millis(60));
            answering.echo(usize::MAX)
        };
        each(engine, "a pause", ECHO, script, |label, ended| {
            let result = assert_right(label, ended);
            let slow = result.latency.response.count_between(30_000_000, u64::MAX >> 1);
            assert!(slow > 5, "{label}: {slow} messages waited");
        });
    }

    pub(super) fn signals_while_it_measures_lose_nothing(engine: EngineKind) {
        // Every generator's thread that there is: those of the conversations beside this one can bear it, too.
        let generators = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().map_while(Result::ok);
            let is_one = |task: &std::fs::DirEntry| {
                std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("load-"))
            };
            tasks.filter(is_one).filter_map(|task| task.file_name().to_string_lossy().parse().ok()).collect()
        };
        bombard(generators, || {
            let serving = Serving::start(engine, config(4096), limits());
            for flags in [&["--rate", "5000", "-c", "20"][..], &["--payload", "200000", "--rate", "200"]] {
                assert_right(&format!("{flags:?}"), run(engine, serving.address, flags));
            }
            serving.stop();
        });
    }
}
