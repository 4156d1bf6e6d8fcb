//! `ringsock-load --scenario`: every scenario against a server of ours over every engine, short, with books that add up; and against servers
//! that answer wrongly.

#[path = "common/misbehaving.rs"]
mod misbehaving;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/run.rs"]
mod run;

use misbehaving::misbehaving;
use ringsock::measure::result::{RunResult, Status};
use run::{Ended, run};

const ENGINES: [&str; 3] = ["uring", "tokio-uring", "epoll"];

/// A run over this engine in which every message is sent and rightly answered.
fn play(engine: &str, flags: &[&str]) -> Ended {
    let ended = run(&[&["--engine", engine], flags].concat());
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
fn the_list_needs_no_server_and_names_every_scenario() {
    let ended = run(&["--list-scenarios"]);
    assert_eq!((ended.code, ended.results.len()), (Some(0), 0));
    for name in ringsock::scenario::SCENARIOS.iter().map(|scenario| scenario.name) {
        assert!(ended.output.lines().any(|line| line.starts_with(name)), "{}", ended.output);
    }
}

#[test]
fn messages_of_every_size_and_fragmented_ones_come_back_over_every_engine() {
    for engine in ENGINES {
        for (flags, payload) in [
            (&["--payload", "sweep", "--rate", "150", "-c", "3"][..], "sweep"),
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
        let flags = ["--scenario", "burst", "--burst", "300", "--every", "50ms", "-c", "4", "--threads", "2"];
        let ended = play(engine, &flags);
        let result = &ended.results[0];
        assert_eq!(result.plan.scenario, "burst");
        is_listed(result, "burst", "300");
        is_listed(result, "every", "50ms");
        let bursts = result.particulars.bursts.as_ref().expect("bursts were counted");
        assert_eq!((bursts.bursts, bursts.drained, bursts.drain.len()), (6, 6, 6));
        assert_eq!(result.accounting.offered, 1800);
        assert!(bursts.drain.max() >= result.headline().max(), "a burst lasts as long as its slowest answer");
        assert!(
            ended.output.starts_with("ringsock-load 0.1.0: burst (burst 300, every 50ms)"),
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
