//! `ringsock-load --scenario broadcast` and `rooms`: every delivery is accounted for, over every engine and across threads; a server that
//! loses, doubles, swaps or changes one is found out; and slow subscribers are told of, under each policy.

#[path = "common/misbehaving.rs"]
mod misbehaving;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/run.rs"]
mod run;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use peer::Process;
use ringsock::measure::result::{RunResult, Status};
use ringsock::ws::frame::{Header, MAX_HEADER_BYTES, Opcode, Role, parse};
use ringsock::ws::mask;
use run::run;

const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");
const ENGINES: [&str; 3] = ["uring", "tokio-uring", "epoll"];

/// Books in which each publication came to everybody, `fan_out` on average.
fn assert_whole(result: &RunResult, fan_out: f64) {
    let (accounting, fan) = (&result.accounting, result.particulars.fan.as_ref().expect("it was published"));
    assert!(accounting.errors.is_empty(), "{accounting:?}");
    assert!(fan.publications > 0 && accounting.unsent == 0 && accounting.outstanding == 0, "{accounting:?}");
    let deliveries = fan.publications as f64 * fan_out;
    assert!(
        (accounting.answered as f64 - deliveries).abs() < 0.5 + deliveries * fan_out.fract(),
        "{accounting:?}"
    );
    assert_eq!(result.headline().len(), accounting.answered);
    assert_eq!((fan.gaps, fan.out_of_order, fan.repeated), (0, 0, 0));
    assert_eq!((fan.looked_at_one_in, fan.looked_at, fan.complete), (1, fan.publications, fan.publications));
    for histogram in [&fan.first, &fan.median, &fan.last, &fan.spread] {
        assert_eq!(histogram.len(), fan.publications);
    }
    assert!(fan.first.max() <= fan.last.max() && fan.median.max() <= fan.last.max());
    let (last_ns, slowest_ns) = (fan.last.max(), result.headline().max());
    assert!(
        last_ns.abs_diff(slowest_ns) <= slowest_ns / 500,
        "{slowest_ns} is some message's last: {last_ns}"
    );
    let by_position: u64 = fan.positions.iter().map(|position| position.deliveries).sum();
    assert_eq!(by_position, accounting.answered);
    assert!(fan.deliveries_per_s > 0.0);
}

#[test]
fn every_publication_comes_to_every_subscriber_on_every_thread_over_every_engine() {
    for engine in ENGINES {
        let (_server, address) =
            peer::server(SERVER, &["--threads", "3", "--scenarios", "broadcast,rooms", "--engine", engine]);
        for (flags, path, fan_out) in [
            (&["--scenario", "broadcast", "--publishers", "3", "--rate", "300", "-c", "23"][..], "/", 23.0),
            (&["--scenario", "broadcast", "--closed-loop", "-c", "15", "-p", "24"], "/broadcast", 15.0),
            // In pieces.
            (&["--scenario", "broadcast", "--rate", "50", "-c", "5", "-p", "200000"], "/room/one", 5.0),
            (&["--scenario", "rooms", "--rooms", "5", "--rate", "300", "-c", "20"], "/", 4.0),
            (
                &["--scenario", "rooms", "--rooms", "2", "--closed-loop", "--pipeline", "4", "-c", "6"],
                "/",
                3.0,
            ),
        ] {
            let url = format!("ws://{address}{path}");
            let ended = run(&[
                &["--engine", engine, "--threads", "2", "--duration", "1s", "--drain-timeout", "20s"],
                flags,
                &[url.as_str()],
            ]
            .concat());
            let result = ended.result(0, Status::Completed);
            assert_whole(result, fan_out);
            assert_eq!(result.plan.parameters["fan-out"], fan_out.to_string());
            assert_eq!(result.accounting.connections_opened, result.plan.connections);
            let fan = result.particulars.fan.as_ref().unwrap();
            assert_eq!(fan.subscribers, result.plan.connections);
            for words in ["\npublished ", "first delivery", "spread", "\njoined"] {
                assert!(ended.output.contains(words), "{words}: {}", ended.output);
            }
        }
    }
}

#[test]
fn a_server_in_the_same_process_is_asked_at_the_scenarios_own_path_over_tls_too() {
    for flags in [&["--scenario", "broadcast", "--tls"][..], &["--scenario", "rooms", "--publishers", "3"]] {
        let ended = run(&[flags, &["--rate", "200", "-c", "12", "--drain-timeout", "20s"]].concat());
        let result = ended.result(0, Status::Completed);
        assert_whole(result, result.plan.parameters["fan-out"].parse().unwrap());
        // Rooms of 3 each; nobody publishes in the last.
        assert_eq!(result.particulars.fan.as_ref().unwrap().subscribers, 12);
    }
}

/// Which copies of a message one subscriber gets, by the subscriber and by how many messages there were before.
type Lie = fn(subscriber: usize, number: usize, payload: &[u8], held: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>>;

#[derive(Default)]
struct Lobby {
    streams: Vec<TcpStream>,
    held: BTreeMap<usize, Vec<Vec<u8>>>,
    message_count: usize,
}

/// A server of one room, which sends each message to all that are there, as `lie` has it.
fn lying(lie: Lie) -> SocketAddr {
    let lobby = Arc::new(Mutex::new(Lobby::default()));
    misbehaving::accepting(move |mut stream| {
        let Some(mut unread) = misbehaving::upgraded(&mut stream, |upgrade| upgrade.accept()) else { return };
        lobby.lock().unwrap().streams.push(stream.try_clone().unwrap());
        let mut buffer = [0; 16 * 1024];
        loop {
            while let Some((header, header_bytes)) = parse(&unread, Role::Client).unwrap() {
                let end = header_bytes + header.payload_bytes as usize;
                if unread.len() < end {
                    break;
                }
                let mut payload: Vec<u8> = unread.drain(..end).skip(header_bytes).collect();
                mask::unmask(header.mask.unwrap(), &mut payload);
                if header.opcode == Opcode::Close {
                    let _ = stream.write_all(&[0x88, 2, 3, 0xE8]);
                    // The lobby has a handle, too.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
                publish(&mut lobby.lock().unwrap(), lie, &payload);
            }
            let Ok(count @ 1..) = stream.read(&mut buffer) else { return };
            unread.extend_from_slice(&buffer[..count]);
        }
    })
}

fn publish(lobby: &mut Lobby, lie: Lie, payload: &[u8]) {
    let number = lobby.message_count;
    lobby.message_count += 1;
    for (subscriber, stream) in lobby.streams.iter_mut().enumerate() {
        for copy in lie(subscriber, number, payload, lobby.held.entry(subscriber).or_default()) {
            let header =
                Header { fin: true, opcode: Opcode::Binary, mask: None, payload_bytes: copy.len() as u64 };
            let mut head = [0; MAX_HEADER_BYTES];
            let head_bytes = header.encode(&mut head);
            // A client that has gone is no concern of these tests.
            let _ = stream.write_all(&[&head[..head_bytes], &copy].concat());
        }
    }
}

const SUBSCRIBERS: u64 = 6;

fn changed(payload: &[u8], at: usize) -> Vec<u8> {
    let mut changed = payload.to_vec();
    changed[at] ^= 0x40;
    changed
}

#[test]
fn a_server_that_loses_doubles_swaps_or_changes_a_delivery_is_found_out() {
    /// A name, what the peer does, the errors that are to be counted, and a number of the test's.
    type Case = (&'static str, Lie, &'static [(&'static str, u64)], u64);
    let lies: [Case; 9] = [
        ("nothing", |_, _, payload, _| vec![payload.to_vec()], &[], 0),
        (
            "one lost",
            |subscriber, number, payload, _| match (subscriber, number) {
                (4, 20) => vec![],
                _ => vec![payload.to_vec()],
            },
            &[("missed publication", 1)],
            1,
        ),
        (
            "one doubled",
            |subscriber, number, payload, _| match (subscriber, number) {
                (4, 20) => vec![payload.to_vec(), payload.to_vec()],
                _ => vec![payload.to_vec()],
            },
            &[("repeated publication", 1)],
            0,
        ),
        (
            "two swapped",
            |subscriber, number, payload, held| match (subscriber, number) {
                (4, 20) => {
                    held.push(payload.to_vec());
                    vec![]
                }
                (4, 21) => vec![payload.to_vec(), held.pop().unwrap()],
                _ => vec![payload.to_vec()],
            },
            &[("out of order", 1)],
            0,
        ),
        (
            "a byte of the filling",
            |subscriber, number, payload, _| match (subscriber, number) {
                (4, 20) => vec![changed(payload, 50)],
                _ => vec![payload.to_vec()],
            },
            &[("wrong payload", 1)],
            0,
        ),
        (
            "a byte of when it was sent",
            |subscriber, number, payload, _| match (subscriber, number) {
                (4, 20) => vec![changed(payload, 17)],
                _ => vec![payload.to_vec()],
            },
            &[("wrong payload", 1)],
            0,
        ),
        (
            "a byte of who sent it",
            |subscriber, number, payload, _| match (subscriber, number) {
                (4, 20) => vec![changed(payload, 0)],
                _ => vec![payload.to_vec()],
            },
            &[("missed publication", 1), ("wrong payload", 1)],
            1,
        ),
        (
            "a byte of its number",
            |subscriber, number, payload, _| match (subscriber, number) {
                (4, 20) => vec![changed(payload, 14)],
                _ => vec![payload.to_vec()],
            },
            &[("missed publication", 1), ("wrong payload", 1)],
            1,
        ),
        (
            "a byte too many",
            |subscriber, number, payload, _| match (subscriber, number) {
                (4, 20) => vec![[payload, &[20]].concat()],
                _ => vec![payload.to_vec()],
            },
            &[("wrong payload", 1)],
            0,
        ),
    ];
    for (what, lie, classes, outstanding) in lies {
        let address = lying(lie);
        let (connections, url) = (SUBSCRIBERS.to_string(), format!("ws://{address}/"));
        let flags = ["--scenario", "broadcast", "-c", &connections, "--threads", "2", "--rate", "300"];
        let ended = run(&[&flags[..], &["--warmup", "0s", "--drain-timeout", "20s", &url]].concat());
        let result = ended.result(i32::from(!classes.is_empty()), Status::Completed);
        let (accounting, fan) = (&result.accounting, result.particulars.fan.as_ref().unwrap());
        let errors: Vec<_> =
            accounting.errors.iter().map(|(class, &count)| (class.as_str(), count)).collect();
        assert_eq!(errors, classes, "{what}");
        assert_eq!(accounting.offered, fan.publications * SUBSCRIBERS, "{what}");
        assert_eq!((accounting.outstanding, accounting.unsent), (outstanding, 0), "{what}");
        assert_eq!(fan.complete, fan.publications - outstanding, "{what}");
        let counts = |class: &str| accounting.errors.get(class).copied().unwrap_or(0);
        let expected = ["missed publication", "out of order", "repeated publication"].map(counts);
        assert_eq!([fan.gaps, fan.out_of_order, fan.repeated], expected, "{what}");
    }
}

/// A run beside two slow subscribers, of a server with this policy; and what that had counted.
fn beside_slow(policy: &str, drain_timeout: &str) -> (run::Ended, BTreeMap<String, u64>) {
    let (mut server, address): (Process, _) = peer::server(
        SERVER,
        &[
            &["--threads", "2", "--stats", "1h", "--scenarios", "broadcast"][..],
            &["--slow-consumer", policy, "--max-queued", "1MB"],
        ]
        .concat(),
    );
    let flags = ["--scenario", "broadcast", "-c", "6", "--slow-share", "34%", "--slow-mode", "stop"];
    let load = ["--rate", "80", "-p", "100000", "--duration", "1s", "--threads", "2"];
    let ended =
        run(&[&flags[..], &load, &["--drain-timeout", drain_timeout, &format!("ws://{address}/")]].concat());
    server.signal(rustix::process::Signal::TERM);
    let (_, lines, errors) = server.end();
    assert_eq!(errors, "", "{lines}");
    let counted = lines.lines().filter_map(|line| line.split_once(' '));
    let counted = counted.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    (ended, counted.collect())
}

#[test]
fn slow_subscribers_are_closed_or_left_out_and_the_others_get_everything() {
    for (policy, counter) in [("close", "slow_closed"), ("drop-newest", "slow_dropped")] {
        let (ended, counted) = beside_slow(policy, "20s");
        let result = ended.result(0, Status::Completed);
        assert_whole(result, 4.0);
        let crowd = result.particulars.crowd.as_ref().expect("they were there");
        assert_eq!((crowd.manner.as_str(), crowd.opened), ("stop", 2), "{policy}");
        // Whoever does not read does not see either that it was closed.
        assert!(crowd.held == 2 || policy == "close", "{policy}: {crowd:?}");
        assert_eq!(crowd.sent_bytes, 0, "they publish nothing");
        assert!(counted.get(counter).is_some_and(|&count| count > 0), "{policy}: {counted:?}");
        let without = result.particulars.without_crowd.as_ref().expect("there was a run without them");
        assert_eq!(without.offered, without.answered, "{policy}");
        let parameters = &result.plan.parameters;
        assert_eq!((&*parameters["slow-share"], &*parameters["fan-out"]), ("34%", "4"));
        assert!(ended.output.contains("beside the crowd"), "{}", ended.output);
    }
}

#[test]
fn where_publishers_are_blocked_by_slow_subscribers_what_is_not_delivered_is_told() {
    let (ended, counted) = beside_slow("block", "5s");
    let result = &ended.results[0];
    let accounting = &result.accounting;
    assert!(counted.get("slow_blocked").is_some_and(|&count| count > 0), "{counted:?}");
    assert!(accounting.unsent + accounting.outstanding > accounting.offered / 10, "{accounting:?}");
    assert!(accounting.errors.is_empty(), "nobody misses anything in between: {accounting:?}");
    let fan = result.particulars.fan.as_ref().unwrap();
    assert_eq!((fan.gaps, result.particulars.crowd.as_ref().unwrap().held), (0, 2));
    let without = result.particulars.without_crowd.as_ref().expect("there was a run without them");
    assert!(without.answered > 0, "{without:?}");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_mend() {
    for (flags, says) in [
        (&["--scenario", "broadcast", "-p", "23"][..], "of 24 or more"),
        (&["--scenario", "broadcast", "-p", "uniform:30..40"], "one size"),
        (&["--scenario", "broadcast", "--text"], "does not go with --text"),
        (&["--scenario", "broadcast", "--rooms", "2"], "it goes with --scenario rooms"),
        (&["--scenario", "rooms", "--rooms", "0"], "has to be 1 to 64"),
        (&["--scenario", "rooms", "--publishers", "65"], "give fewer, or more --connections"),
        (&["--scenario", "broadcast", "--publishers", "0"], "has to be 1 to"),
        (&["--scenario", "broadcast", "--publishers", "9000", "-c", "9000"], "give fewer, or more --rooms"),
        (&["--scenario", "broadcast", "tcp://127.0.0.1:1"], "does not go with a tcp:// server"),
        (&["--scenario", "broadcast", "--slow-share", "99%", "-c", "2"], "give more --connections"),
        (&["--publishers", "2"], "it goes with --scenario broadcast or rooms"),
    ] {
        let ended = run(flags);
        assert_eq!((ended.code, ended.results.len()), (Some(2), 0), "{flags:?}");
        assert!(ended.errors.contains(says), "{flags:?}: {}", ended.errors);
    }
}
