//! `ringsock-load --scenario`: every scenario against a server of ours over every engine, short, with books that add up; and against servers
//! that answer wrongly.

#[path = "load_scenarios/answers.rs"]
mod answers;
#[path = "common/misbehaving.rs"]
mod misbehaving;
#[path = "common/peer.rs"]
mod peer;
#[path = "load_scenarios/pushed.rs"]
mod pushed;
#[path = "common/run.rs"]
mod run;

use misbehaving::misbehaving;
use ringsock::measure::result::{RunResult, Status};
use run::{Ended, run};

const ENGINES: [&str; 3] = ["uring", "tokio-uring", "epoll"];

/// A run over this engine in which every message is sent and rightly answered.
fn play(engine: &str, flags: &[&str]) -> Ended {
    // A busy machine may take its time.
    let ended = run(&[&["--engine", engine, "--drain-timeout", "20s"], flags].concat());
    let result = ended.result(0, Status::Completed);
    let accounting = &result.accounting;
    assert!(accounting.answered > 0 && accounting.errors.is_empty(), "{flags:?}: {accounting:?}");
    assert_eq!((accounting.outstanding, accounting.unsent), (0, 0), "{flags:?}");
    assert_eq!(result.headline().len(), accounting.answered, "{flags:?}");
    ended
}

fn is_listed(result: &RunResult, flag: &str, value: &str) {
    assert_eq!(
        result.plan.parameters.get(flag).map(String::as_str),
        Some(value),
        "{:?}",
        result.plan.parameters
    );
}

#[test]
fn messages_of_every_size_and_fragmented_ones_come_back_over_every_engine() {
    for engine in ENGINES {
        for (flags, payload) in [
            (&["--payload", "sweep", "--closed-loop", "--pipeline", "2", "-c", "3"][..], "sweep"),
            (
                &["--payload", "uniform:0..3000", "--text", "--rate", "2000", "-c", "3", "--fragments", "4"],
                "uniform:0..3000",
            ),
            (
                &["--payload", "zipf:16..64KiB:0.8", "--closed-loop", "--pipeline", "8", "-c", "3"],
                "zipf:16..65536:0.8",
            ),
        ] {
            let ended = play(engine, flags);
            let result = &ended.results[0];
            is_listed(result, "payload", payload);
            let sizes = result.particulars.sizes.expect("sizes were counted");
            assert_eq!(sizes.messages, result.accounting.sent, "{flags:?}");
            assert!(
                sizes.min_bytes < sizes.max_bytes && sizes.max_bytes <= result.plan.payload_bytes,
                "{sizes:?}"
            );
            assert!(ended.output.contains(payload) && ended.output.contains("\nsizes "), "{}", ended.output);
        }
        let ended = play(engine, &["--fragments", "3", "--payload", "200", "--rate", "1000", "-c", "3"]);
        is_listed(&ended.results[0], "fragments", "3");
        assert_eq!(ended.results[0].particulars.sizes, None);
    }
}

#[test]
fn a_seed_draws_the_same_messages_whatever_the_timing() {
    // One connection, fixed arrivals, and as many messages: the sizes are those of its first ones.
    let sizes = |engine, seed| {
        let flags = [
            "--payload",
            "uniform:0..1000",
            "--warmup",
            "0s",
            "--rate",
            "1000",
            "--arrivals",
            "fixed",
            "-c",
            "1",
        ];
        let ended = play(engine, &[&flags[..], &["--seed", seed]].concat());
        ended.results[0].particulars.sizes.expect("sizes were counted")
    };
    let first = sizes("epoll", "5");
    assert_eq!(sizes("uring", "5"), first);
    assert_ne!(sizes("epoll", "6"), first);
}

#[test]
fn bursts_drain_over_every_engine() {
    for engine in ENGINES {
        let flags = ["--scenario", "burst", "--burst", "100", "--every", "50ms", "-c", "4", "--threads", "2"];
        let ended = play(engine, &flags);
        let result = &ended.results[0];
        assert_eq!(result.plan.scenario, "burst");
        is_listed(result, "burst", "100");
        is_listed(result, "every", "50ms");
        let bursts = result.particulars.bursts.as_ref().expect("bursts were counted");
        assert_eq!((bursts.bursts, bursts.drained, bursts.drain.len()), (6, 6, 6));
        assert_eq!(result.accounting.offered, 600);
        assert!(bursts.drain.max() >= result.headline().max(), "a burst lasts as long as its slowest answer");
        assert!(
            ended.output.starts_with("ringsock-load 0.1.0: burst (burst 100, every 50ms)"),
            "{}",
            ended.output
        );
    }
}

#[test]
fn pings_are_answered_alone_and_among_data_over_every_engine() {
    for engine in ENGINES {
        for flags in [&["--rate", "2000"][..], &["--closed-loop", "--pipeline", "4"]] {
            let alone = play(engine, &[&["--scenario", "ping", "-c", "3"], flags].concat());
            let (accounting, pings) =
                (&alone.results[0].accounting, alone.results[0].particulars.pings.as_ref().unwrap());
            assert_eq!((pings.sent, pings.answered), (accounting.sent, accounting.answered));
            assert_eq!((pings.round_trip.len(), &pings.data), (accounting.answered, &None));
            let among =
                play(engine, &[&["--scenario", "ping", "-c", "3", "--ping-share", "20%"], flags].concat());
            let (accounting, pings) =
                (&among.results[0].accounting, among.results[0].particulars.pings.as_ref().unwrap());
            let data = pings.data.as_ref().expect("there was data, too");
            assert_eq!(pings.round_trip.len() + data.len(), accounting.answered);
            assert!(pings.sent > 0 && pings.sent < accounting.sent / 2, "{pings:?}");
        }
    }
}

#[test]
fn a_wrong_pong_and_a_missing_one_are_errors() {
    let pong = |payload: &[u8]| [&[0x8A, payload.len() as u8], payload].concat();
    let flags = ["--scenario", "ping", "--rate", "500", "--warmup", "0s", "-c", "1"];
    let wrong = misbehaving(move |messages, answer| {
        let mut payload = answer.messages[messages - 1].clone();
        payload[15] ^= u8::from(messages == 20);
        answer.raw(&pong(&payload));
    });
    let ended = run(&[&flags[..], &[&format!("ws://{wrong}/")]].concat());
    let accounting = &ended.result(1, Status::Completed).accounting;
    assert_eq!(
        (accounting.errors.get("wrong pong"), accounting.errors.get("missing pong")),
        (Some(&1), Some(&1))
    );
    assert_eq!(accounting.outstanding, 1, "{accounting:?}");

    let missing = misbehaving(move |messages, answer| {
        if messages != 20 {
            let payload = answer.messages[messages - 1].clone();
            answer.raw(&pong(&payload));
        }
    });
    let ended = run(&[&flags[..], &[&format!("ws://{missing}/")]].concat());
    let accounting = &ended.result(1, Status::Completed).accounting;
    assert_eq!(
        (accounting.errors.get("missing pong"), accounting.outstanding),
        (Some(&1), 1),
        "{accounting:?}"
    );
}

#[test]
fn connections_come_and_go_over_every_engine() {
    for engine in ENGINES {
        for flags in [
            &["--rate", "100", "-c", "16", "--payload", "uniform:0..2000"][..],
            &["--closed-loop", "-c", "4", "--threads", "2", "--idle-beside", "6"],
            &["--closed-loop", "-c", "4", "--tls", "--text"],
        ] {
            let ended = play(engine, &[&["--scenario", "churn"], flags].concat());
            let result = &ended.results[0];
            let (accounting, latency) = (&result.accounting, &result.latency);
            let churn = result.particulars.churn.as_ref().expect("lives were counted");
            assert_eq!(
                (churn.first_message.len(), churn.close.len()),
                (accounting.answered, accounting.answered)
            );
            assert_eq!(latency.tls_handshake.is_some(), flags.contains(&"--tls"));
            let lives = accounting.answered + accounting.warmup_messages;
            let beside = result.particulars.crowd.as_ref().map_or(0, |crowd| crowd.held);
            assert_eq!(beside, if flags.contains(&"--idle-beside") { 6 } else { 0 });
            // A warm-up's life may have been given up at the end.
            assert!(accounting.connections_opened <= lives + beside, "{flags:?}: {accounting:?}");
            // One due at the window's end may have connected, and never have been whole.
            let timed = latency.connect.len();
            assert!(
                (accounting.answered..=accounting.sent).contains(&timed),
                "{flags:?}: {timed}, {accounting:?}"
            );
            assert!(churn.connections_per_s > 0.0, "{flags:?}: {churn:?}");
            assert!((1..=result.plan.connections).contains(&churn.at_once_max), "{flags:?}: {churn:?}");
            assert!(ended.output.contains("\nlives "), "{}", ended.output);
        }
    }
}

#[test]
fn a_life_that_ends_early_is_outstanding_with_its_cause() {
    let flags = ["--scenario", "churn", "--rate", "100", "--warmup", "0s"];
    // It hangs up on every other one's message.
    let counter = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let address = misbehaving::accepting(move |mut stream| {
        use std::io::{Read, Write};
        let number = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Some(_) = misbehaving::upgraded(&mut stream, |upgrade| upgrade.accept()) else { return };
        let mut buffer = [0; 1024];
        if number > 0 && number.is_multiple_of(2) {
            return;
        }
        // A message of 5 bytes, masked: sent back as it was, then Close for Close.
        stream.read_exact(&mut buffer[..11]).unwrap();
        let payload: Vec<u8> = (0..5).map(|at| buffer[6 + at] ^ buffer[2 + at % 4]).collect();
        stream.write_all(&[&[0x82, 5], &payload[..]].concat()).unwrap();
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(&[0x88, 2, 3, 0xE8]);
    });
    let ended =
        run(&[&flags[..], &["--payload", "5", "--drain-timeout", "20s", &format!("ws://{address}/")]]
            .concat());
    let accounting = &ended.result(1, Status::Completed).accounting;
    assert!(accounting.answered > 5 && accounting.outstanding > 5, "{accounting:?}");
    assert_eq!(accounting.error_count(), accounting.outstanding, "{accounting:?}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = run(&[&flags[..], &[&format!("ws://{nobody}/")]].concat());
    assert_eq!((ended.code, ended.results.len()), (Some(1), 0));
    assert!(ended.errors.contains("connect: refused"), "{}", ended.errors);
}

#[test]
fn slow_readers_are_slow_and_the_others_are_measured_beside_a_run_without_them() {
    for engine in ENGINES {
        for mode in ["stop", "dribble"] {
            let flags = [
                "--scenario",
                "slow",
                "-c",
                "20",
                "--slow-share",
                "20%",
                "--slow-mode",
                mode,
                "--rate",
                "500",
            ];
            let ended = play(engine, &[&flags[..], &["--payload", "4KiB"]].concat());
            let result = &ended.results[0];
            let crowd = result.particulars.crowd.as_ref().expect("they were counted");
            assert_eq!((crowd.manner.as_str(), crowd.opened, crowd.held, crowd.failed), (mode, 4, 4, 0));
            assert!(crowd.sent_bytes > 100_000 && crowd.read_bytes < crowd.sent_bytes / 2, "{crowd:?}");
            // What was being received when it stopped may have come.
            assert!(crowd.read_bytes > 0 || mode == "stop", "{crowd:?}");
            assert!(crowd.server_memory.as_ref().is_some_and(|memory| memory.after_bytes > 0), "{crowd:?}");
            let without = result.particulars.without_crowd.as_ref().expect("there was a run without them");
            assert_eq!((without.headline.len(), without.offered), (without.answered, without.answered));
            assert_eq!((result.plan.connections, result.accounting.connections_opened), (20, 20));
            assert!(
                ended.output.contains("beside the crowd") && ended.output.contains("without it"),
                "{}",
                ended.output
            );
        }
    }
}

#[test]
fn a_silent_crowd_is_held_and_answers_heartbeats() {
    for engine in ENGINES {
        let flags = [
            "--scenario",
            "idle",
            "-c",
            "300",
            "--active",
            "5",
            "--rate",
            "500",
            "--duration",
            "2s",
            "--threads",
            "2",
        ];
        let ended = play(engine, &flags);
        let result = &ended.results[0];
        let crowd = result.particulars.crowd.as_ref().expect("they were counted");
        assert_eq!((crowd.manner.as_str(), crowd.opened, crowd.held, crowd.failed), ("silent", 295, 295, 0));
        assert!(crowd.heartbeats > 0 && crowd.kernel_memory.is_some(), "{crowd:?}");
        assert_eq!(crowd.server_memory.as_ref().unwrap().of, "server and generator");
        assert_eq!((result.plan.connections, result.accounting.connections_opened), (300, 300));
        assert_eq!(result.latency.connect.len(), 300);
    }
    let (server, address) = peer::server(env!("CARGO_BIN_EXE_ringsock-server"), &["--threads", "1"]);
    let process_id = server.id().to_string();
    let flags = [
        "--scenario",
        "idle",
        "-c",
        "200",
        "--server-pid",
        &process_id,
        "--rate",
        "500",
        &format!("ws://{address}/"),
    ];
    let ended = play("epoll", &flags);
    let crowd = ended.results[0].particulars.crowd.as_ref().unwrap();
    assert_eq!((crowd.held, crowd.server_memory.as_ref().unwrap().of.as_str()), (180, "server"));
}

#[test]
fn more_connections_than_a_threads_table_may_have_are_refused_with_the_threads_that_would_do() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let Some(limit) = limit.filter(|&limit| limit < 1 << 30) else {
        eprintln!("SKIPPED, nothing was tested: open files have no limit here");
        return;
    };
    let many = (3 * limit).to_string();
    let ended = run(&["--engine", "uring", "-c", &many]);
    assert_eq!((ended.code, ended.results.len()), (Some(2), 0));
    assert!(
        ended.errors.contains("give --threads 4") || ended.errors.contains("give --threads 3"),
        "{}",
        ended.errors
    );
}
