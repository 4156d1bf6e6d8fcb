//! What `--trace-frames` writes: through the flags over every engine, and in fake time, where the network cuts the bytes in every
//! way; and that nothing else is different for it.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use ringsock::engine::memory::{End, Ended, Plan, run_pair};
use ringsock::engine::{Config, Ends, Faults, Handler, Tapped, Tls};
use ringsock::scenario::deflate::{Compression, DeflateParameters, DeflateSettings};
use ringsock::scenario::serve::{Limits, Serve, Served, Shared, Timeouts};
use ringsock::scenario::trace::{Numbers, Role, Trace};
use ringsock::tls::{Identity, Offer, Trust};
use ringsock::ws::frame::Opcode;
use rustix::process::Signal;

use super::peer::{Peer, Process, fragment, request, server, tcp};
use super::run::run;
use super::talk::{Heard, Script, Talk, frame};
use super::{ENGINES, SERVER, seed};

const HOUR_NS: u64 = 3_600_000_000_000;
const DRAIN_NS: u64 = HOUR_NS / 2;

/// A line without its time, which has to be one: seconds with six decimals, and never less than before.
fn without_time<'a>(line: &'a str, last: &mut f64) -> &'a str {
    let (time, rest) = line.trim_start().split_once(' ').unwrap_or_else(|| panic!("no time: {line:?}"));
    let decimals = time.split_once('.').unwrap_or_else(|| panic!("no seconds: {line:?}")).1;
    let seconds: f64 = time.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
    assert!(decimals.len() == 6 && seconds >= *last, "{line:?} after {last}");
    *last = seconds;
    rest
}

fn without_times(lines: &str) -> Vec<&str> {
    let mut last = 0.0;
    lines.lines().map(|line| without_time(line, &mut last)).collect()
}

// ---- through the flags ----

#[test]
fn the_lines_of_a_conversation_read_as_expected_over_every_engine() {
    for engine in ENGINES {
        let (mut server, address) = server(SERVER, &["--threads", "1", "--engine", engine, "--trace-frames"]);
        let mut peer = Peer::open(address);
        peer.echo(Opcode::Text, "grüß\u{1b}[2J".as_bytes());
        peer.send(Opcode::Ping, b"hi");
        peer.expect(Opcode::Pong, b"hi");
        for (fin, opcode, piece) in
            [(false, Opcode::Text, b"hal".as_slice()), (true, Opcode::Continuation, b"lo")]
        {
            peer.stream.write_all(&fragment(opcode, fin, piece)).unwrap();
            assert_eq!(peer.next(), Some((fin, opcode, piece.to_vec())));
        }
        peer.echo(Opcode::Binary, &[7; 70_000]);
        peer.send(Opcode::Text, b"\xff");
        peer.expect_close(1007);
        drop(peer);
        let mut lost = tcp(address);
        lost.write_all(&request(address, "/nowhere")).unwrap();
        lost.read_to_end(&mut Vec::new()).unwrap();
        drop(lost);
        server.signal(Signal::TERM);
        let (status, _, errors) = server.end();
        assert!(status.success(), "{engine}: {errors}");
        let (head_bytes, lost_bytes) = (request(address, "/").len(), request(address, "/nowhere").len());
        let sevens = "07".repeat(32);
        let expected = [
            "#1 -- open".to_owned(),
            format!("#1 <- request \"GET / HTTP/1.1\", {head_bytes} bytes"),
            "#1 -> accepted \"HTTP/1.1 101 Switching Protocols\"".to_owned(),
            "#1 <- text FIN masked 10 bytes \"grüß\\u{1b}[2J\"".to_owned(),
            "#1 -> text FIN unmasked 10 bytes \"grüß\\u{1b}[2J\"".to_owned(),
            "#1 <- ping FIN masked 2 bytes 6869".to_owned(),
            "#1 -> pong FIN unmasked 2 bytes 6869".to_owned(),
            "#1 <- text masked 3 bytes \"hal\"".to_owned(),
            "#1 -> text unmasked 3 bytes \"hal\"".to_owned(),
            "#1 <- continuation FIN masked 2 bytes \"lo\"".to_owned(),
            "#1 -> continuation FIN unmasked 2 bytes \"lo\"".to_owned(),
            format!("#1 <- binary FIN masked 70000 bytes {sevens}…"),
            format!("#1 -> binary FIN unmasked 70000 bytes {sevens}…"),
            "#1 <- text FIN masked 1 bytes \"\\xff\"".to_owned(),
            "#1 -> close FIN unmasked 25 bytes 1007 \"text is not valid UTF-8\"".to_owned(),
        ];
        let lines = without_times(&errors);
        let of_first: Vec<_> = lines.iter().copied().filter(|line| line.starts_with("#1 ")).collect();
        assert_eq!(of_first[..expected.len()], expected, "{engine}");
        let of_second: Vec<_> = lines.iter().copied().filter(|line| line.starts_with("#2 ")).collect();
        let rejected = [
            "#2 -- open".to_owned(),
            format!("#2 <- request \"GET /nowhere HTTP/1.1\", {lost_bytes} bytes"),
            "#2 -> rejected \"HTTP/1.1 404 Not Found\": \"there is no WebSocket at this path\"".to_owned(),
        ];
        assert_eq!(of_second[..rejected.len()], rejected, "{engine}");
    }
}

#[test]
fn under_tls_the_clear_text_is_shown_and_compression_marked_at_both_ends() {
    let flags =
        ["--listen", "127.0.0.1:0", "--threads", "1", "--tls-self-signed", "--deflate", "--trace-frames"];
    let mut server = Process::start(Command::new(SERVER).args(flags));
    let line = server.line();
    let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("no address: {line}"));
    let load = ["--rate", "100", "-c", "1", "--text", "--filling", "json", "--payload", "200"];
    let ended = run(&[&load[..], &["--insecure", "--deflate", "--trace-frames", url]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    server.signal(Signal::TERM);
    let (status, _, errors) = server.end();
    assert!(status.success(), "{errors}");
    // The generator first asks the server what it counted, which is not traced there.
    assert!(errors.contains("#1 -> answered \"HTTP/1.1 200 OK\""), "{errors}");
    for (lines, number, there, back) in [(&errors, 2, "<-", "->"), (&ended.errors, 1, "->", "<-")] {
        for part in [
            format!("#{number} {there} request \"GET / HTTP/1.1\""),
            format!(
                "#{number} {back} accepted \"HTTP/1.1 101 Switching Protocols\", extensions \"permessage-deflate"
            ),
            format!("#{number} {there} text FIN RSV1 masked "),
            format!("#{number} {back} text FIN RSV1 unmasked "),
            format!("#{number} {there} close FIN masked 2 bytes 1000"),
            format!("#{number} {back} close FIN unmasked 2 bytes 1000"),
        ] {
            assert!(lines.contains(&part), "no {part:?} in {lines}");
        }
        assert!(!lines.contains(": fault: "), "{lines}");
    }
}

#[test]
fn a_closed_standard_error_is_no_concern_of_the_connections() {
    let mut command = Command::new(SERVER);
    command.args(["--listen", "127.0.0.1:0", "--threads", "1", "--trace-frames"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let address =
        line.trim().strip_prefix("listening on ws://").unwrap().trim_end_matches('/').parse().unwrap();
    let mut peer = Peer::open(address);
    for _ in 0..100 {
        peer.echo(Opcode::Text, b"still here");
    }
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ended, None, "it ended");
}

// ---- in fake time ----

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn trace(&self, ours: Role) -> Trace {
        Trace::new(ours, Numbers::new(0), Box::new(self.clone()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn patient() -> Limits {
    Limits {
        head_bytes: 8192,
        message_bytes: 1 << 30,
        connections: 100,
        handshake_ns: HOUR_NS,
        close_ns: HOUR_NS,
        timeouts: Timeouts::default(),
        stall_ns: None,
        ..Limits::default()
    }
}

/// A server's handler that drains when it is woken, and what it has counted then.
fn serve(deflates: bool, queued_bytes_max: usize) -> (impl Handler, Rc<RefCell<Served>>, Arc<Shared>) {
    let shared = Arc::new(Shared::default());
    let counted = Rc::new(RefCell::new(Served::default()));
    let (theirs, leave) = (Arc::clone(&shared), Rc::clone(&counted));
    let report = move |served| {
        *leave.borrow_mut() = served;
        theirs.draining.store(true, Ordering::Relaxed);
    };
    let mut serve = Serve::new(patient(), Arc::clone(&shared), report);
    if deflates {
        let settings = DeflateSettings {
            parameters: DeflateParameters::default(),
            compression: Compression { level: 1, threshold_bytes: 0 },
        };
        serve = serve.deflating(settings, queued_bytes_max);
    }
    (serve, counted, shared)
}

fn tiny(random: &mut Rng) -> Config {
    Config {
        connections_max: 64,
        recv_buffer_bytes: random.usize(1..70_000),
        recv_buffers: 1 << random.u32(0..4),
        outbox_bytes: random.usize(0..5000),
        faults: Faults::seeded(random.u64(..), random.u32(2..20)),
        ..Config::default()
    }
}

/// Plays `script` against a traced server, and gives its lines without their times.
fn lines_of<S: Handler, C: Handler>(seed: u64, server: S, client: C, kept: &Kept) -> Vec<String> {
    let mut random = Rng::with_seed(seed);
    let plan = Plan { wakes: vec![(End::Client, 0), (End::Server, DRAIN_NS)], ..Plan::seeded(seed) };
    let configs = (tiny(&mut random), Config { outbox_bytes: usize::MAX, ..tiny(&mut random) });
    let (server, _, course) = run_pair(&plan, (configs.0, server), (configs.1, client));
    assert_eq!(course.ended, Ended::Stopped, "seed {seed}");
    // It writes its last lines when it is dropped.
    drop(server);
    without_times(&kept.text()).into_iter().map(str::to_owned).collect()
}

/// Lines of one direction; the network decides how the two mix.
fn of<'a>(lines: &'a [String], mark: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.strip_prefix(mark)).collect()
}

#[test]
fn the_lines_are_the_same_however_the_network_cuts_the_bytes() {
    seed::each(60, |seed| {
        let mut frames = Vec::new();
        frame(Opcode::Binary, false, b"one", &mut frames);
        frame(Opcode::Ping, true, b"between", &mut frames);
        frame(Opcode::Continuation, true, &[9; 300], &mut frames);
        frames.extend([0x83, 0x80]);
        let script = || vec![Script { frames: frames.clone(), ..Script::default() }];
        let nines = format!("{}…", "09".repeat(32));
        let came = [
            "text".to_owned(),
            "binary masked 3 bytes 6f6e65".to_owned(),
            "ping FIN masked 7 bytes 6265747765656e".to_owned(),
            format!("continuation FIN masked 300 bytes {nines}"),
            "opcode 0x3 FIN masked: fault: reserved opcode 0x3".to_owned(),
        ];
        let sent = [
            "accepted \"HTTP/1.1 101 Switching Protocols\"".to_owned(),
            "binary unmasked 3 bytes 6f6e65".to_owned(),
            "pong FIN unmasked 7 bytes 6265747765656e".to_owned(),
            format!("continuation FIN unmasked 300 bytes {nines}"),
            "close FIN unmasked 21 bytes 1002 \"reserved opcode 0x3\"".to_owned(),
        ];
        let check = |lines: Vec<String>, how: &str| {
            let heard = of(&lines, "#1 <- ");
            assert!(heard[0].starts_with("request \"GET / HTTP/1.1\", "), "seed {seed}, {how}: {lines:#?}");
            assert_eq!(heard[1..], came[1..], "seed {seed}, {how}");
            assert_eq!(of(&lines, "#1 -> "), sent, "seed {seed}, {how}");
            assert_eq!(lines.first().map(String::as_str), Some("#1 -- open"), "seed {seed}, {how}");
            assert!(lines.last().unwrap().starts_with("#1 -- "), "seed {seed}, {how}: {lines:#?}");
        };
        let kept = Kept::default();
        let traced = Tapped::new(serve(false, 0).0, kept.trace(Role::Server));
        check(lines_of(seed, traced, Talk::new(script()), &kept), "plain");

        let identity = Identity::self_signed(IpAddr::from([127, 0, 0, 1])).unwrap();
        let trust = Trust::Certificate(identity.certificate().clone());
        let client = trust.client("127.0.0.1", &Offer::default()).unwrap();
        let kept = Kept::default();
        let traced = Tapped::new(serve(false, 0).0, kept.trace(Role::Server));
        let traced = Tls::new(traced, Ends::Server(identity.server().unwrap()), HOUR_NS, HOUR_NS);
        let talk = Tls::new(Talk::new(script()), Ends::Client(client), HOUR_NS, HOUR_NS);
        check(lines_of(seed, traced, talk, &kept), "under TLS");
    });
}

#[test]
fn every_message_is_echoed_once_and_in_order_with_both_ends_traced() {
    seed::each(60, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan { wakes: vec![(End::Client, 0), (End::Server, DRAIN_NS)], ..Plan::seeded(seed) };
        let bytes_max = (plan.pipe_bytes * 5).clamp(10, 70_000);
        let configs = (tiny(&mut random), Config { outbox_bytes: usize::MAX, ..tiny(&mut random) });
        let (mut scripts, mut hears) = (Vec::new(), Vec::new());
        for _ in 0..random.usize(1..5) {
            let (mut frames, mut heard) = (Vec::new(), Vec::new());
            for _ in 0..random.usize(0..20) {
                let text = random.bool();
                let count = random.usize(0..=bytes_max);
                let payload: Vec<u8> = (0..count).map(|_| random.alphanumeric() as u8).collect();
                frame(if text { Opcode::Text } else { Opcode::Binary }, true, &payload, &mut frames);
                heard.push(Heard::Message { text, payload });
            }
            frame(Opcode::Close, true, &1000_u16.to_be_bytes(), &mut frames);
            heard.extend([Heard::Close(Some(1000)), Heard::Closed { by_end: true }]);
            let deflate = random.bool().then(DeflateParameters::default);
            scripts.push(Script { frames, closes: true, deflate, ..Script::default() });
            hears.push(heard);
        }
        let (theirs, ours) = (Kept::default(), Kept::default());
        let (serve, counted, shared) = serve(true, configs.0.outbox_bytes);
        let server = Tapped::new(serve, theirs.trace(Role::Server));
        let client = Tapped::new(Talk::new(scripts), ours.trace(Role::Client));
        let (_, client, course) = run_pair(&plan, (configs.0, server), (configs.1, client));
        let talk = client.into_inner();
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", talk.heard);
        for (number, heard) in hears.iter().enumerate() {
            let said = talk.said_to(number);
            assert!(
                said.iter().copied().eq(heard),
                "seed {seed}, connection {number}: {said:?}, not {heard:?}"
            );
        }
        let served = *counted.borrow();
        assert_eq!(served.upgrades, hears.len() as u64, "seed {seed}");
        assert_eq!(shared.open.load(Ordering::Relaxed), 0, "seed {seed}");
        // What one end sends is what comes to the other, frame for frame.
        let closes = |kept: &Kept, what: &str| kept.text().matches(what).count();
        for (kept, mark) in [(&theirs, "<-"), (&ours, "->")] {
            let what = format!("{mark} close FIN masked 2 bytes 1000");
            assert_eq!(closes(kept, &what), hears.len(), "seed {seed}: {}", kept.text());
        }
    });
}
