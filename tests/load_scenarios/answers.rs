//! Scenarios in which the server does more than echo: `work` and `json`, over every engine and against servers that answer wrongly.

use ringsock::measure::result::{RunResult, Status};
use ringsock::scenario::json::{Requests, Said};

use super::misbehaving::{Answer, misbehaving};
use super::run::run;
use super::{ENGINES, is_listed, play};

/// A message of text, short or not.
fn say(answer: &mut Answer<'_>, text: &[u8]) {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..=125 => frame.push(short as u8),
        long => frame.extend([&[126][..], &(long as u16).to_be_bytes()].concat()),
    }
    answer.raw(&[&frame, text].concat());
}

#[test]
fn work_takes_its_time_over_every_engine() {
    for engine in ENGINES {
        for (work, flags) in [
            ("us:200", &["--threads", "2"][..]),
            ("us:exp:50", &["--closed-loop", "--pipeline", "3"]),
            ("kib:64", &["--payload", "uniform:0..2000", "--text", "--fragments", "2"]),
        ] {
            let rate: &[&str] = if flags.contains(&"--closed-loop") { &[] } else { &["--rate", "300"] };
            let ended =
                play(engine, &[&["--scenario", "work", "--work", work, "-c", "4"], rate, flags].concat());
            let result = &ended.results[0];
            is_listed(result, "work", work);
            if work == "us:200" {
                let least_ns = result.latency.service.min();
                assert!(least_ns >= 199_000, "a message took {least_ns} ns, and the work alone 200 µs");
            }
        }
    }
}

#[test]
fn a_path_of_ones_own_is_asked_for_as_it_is() {
    let (_server, address) = super::peer::server(
        env!("CARGO_BIN_EXE_ringsock-server"),
        &["--threads", "1", "--scenarios", "work"],
    );
    let flags = ["--scenario", "work", "--work", "us:0", "--rate", "300", "-c", "1"];
    let least_ns = |target: &str| {
        let ended = play("epoll", &[&flags[..], &[&format!("ws://{address}{target}")]].concat());
        ended.results[0].latency.service.min()
    };
    assert!(least_ns("/work?us=3000") >= 2_990_000);
    assert!(least_ns("/") < 2_990_000);
    let ended = run(&[&flags[..], &[&format!("ws://{address}/no-such-place")]].concat());
    assert_eq!((ended.code, ended.results.len()), (Some(1), 0));
    assert!(ended.errors.contains("404"), "{}", ended.errors);
}

#[test]
fn json_is_answered_over_every_engine() {
    for engine in ENGINES {
        for flags in [
            &["--rate", "1000", "-c", "5", "--threads", "2"][..],
            &[
                "--closed-loop",
                "--pipeline",
                "4",
                "-c",
                "3",
                "--payload",
                "uniform:0..9000",
                "--fragments",
                "3",
            ],
            &["--closed-loop", "-c", "1", "--payload", "300KiB"],
        ] {
            let ended = play(engine, &[&["--scenario", "json"], flags].concat());
            assert_eq!(ended.results[0].particulars.broadcasts, None);
        }
    }
}

#[test]
fn everybody_hears_every_broadcast_over_every_engine() {
    for engine in ENGINES {
        for flags in [
            &["--rate", "500", "-c", "6", "--threads", "2", "--broadcast-share", "20%"][..],
            &["--closed-loop", "-c", "3", "--broadcast-share", "100%", "--server-cpus", "0,0"],
        ] {
            let ended = play(engine, &[&["--scenario", "json"], flags].concat());
            let result = &ended.results[0];
            is_listed(
                result,
                "broadcast-share",
                flags[flags.len() - if flags.contains(&"--rate") { 1 } else { 3 }],
            );
            let seen = result.particulars.broadcasts.expect("they were counted");
            let connections = result.plan.connections;
            assert_eq!((seen.listeners_min, seen.listeners_max), (connections, connections), "{seen:?}");
            assert_eq!((seen.results, seen.connections), (seen.published, connections), "{seen:?}");
            assert_eq!((seen.heard, seen.told), (seen.published * connections, seen.published * connections));
            let sent = result.accounting.sent + result.accounting.warmup_messages;
            assert!(seen.published > 0, "{seen:?}");
            assert_eq!(seen.published == sent, flags.contains(&"100%"), "{seen:?} of {sent}");
            assert!(ended.output.contains("\nbroadcasts "), "{}", ended.output);
        }
    }
}

/// A run of one connection against a server that does this with each message.
fn lied_to(share: &[&str], react: impl FnMut(usize, &mut Answer<'_>) + Clone + Send + 'static) -> RunResult {
    let address = misbehaving(react);
    let flags = ["--scenario", "json", "--rate", "200", "--warmup", "0s", "-c", "1"];
    let url = format!("ws://{address}/");
    let ended = run(&[&flags[..], share, &[url.as_str()]].concat());
    ended.result(1, Status::Completed).clone()
}

#[test]
fn wrong_answers_to_json_are_found_out() {
    type Lie = fn(&[u8]) -> Vec<u8>;
    let lies: [(&str, Lie); 5] = [
        ("wrong payload", |asked| asked.to_ascii_uppercase()),
        ("wrong payload", |asked| {
            // Another message of this connection, and more of it than there is.
            let number = Said::read(asked).unwrap().number().unwrap();
            let mut text = Vec::new();
            Requests::echo(70).compose(number + 1000, &mut text);
            text
        }),
        ("wrong payload", |asked| String::from_utf8_lossy(asked).replace("echo", "broadcast").into_bytes()),
        ("error reply", |_| br#"{"type":"error","message":"no"}"#.to_vec()),
        ("wrong payload", |_| b"[]".to_vec()),
    ];
    for (number, (class, lie)) in lies.into_iter().enumerate() {
        let result = lied_to(&[], move |messages, answer| {
            let asked = answer.messages[messages - 1].clone();
            say(answer, &if messages == 20 { lie(&asked) } else { asked });
        });
        let errors = &result.accounting.errors;
        assert_eq!((errors.get(class), errors.len()), (Some(&1), 1), "lie {number}: {errors:?}");
        assert_eq!(result.accounting.outstanding, 0, "lie {number}: {:?}", result.accounting);
    }
    let result = lied_to(&[], |messages, answer| {
        if messages % 20 != 1 {
            let asked = answer.messages[messages - 1].clone();
            say(answer, &asked);
        }
        if messages % 20 == 2 {
            let held_back = answer.messages[messages - 2].clone();
            say(answer, &held_back);
        }
    });
    let errors = &result.accounting.errors;
    assert!(
        errors.contains_key("out of order") && errors.contains_key("repeated or late answer"),
        "{errors:?}"
    );
}

#[test]
fn a_broadcast_that_is_not_heard_or_heard_twice_is_an_error() {
    for (times, class) in [(0, "missing broadcast"), (2, "repeated broadcast")] {
        let result = lied_to(&["--broadcast-share", "100%"], move |messages, answer| {
            let asked = answer.messages[messages - 1].clone();
            for _ in 0..if messages == 20 { times } else { 1 } {
                say(answer, &asked);
            }
            let text = String::from_utf8(asked).unwrap().replace("broadcast", "broadcastResult");
            say(answer, format!("{},\"listenCount\":1}}", &text[..text.len() - 1]).as_bytes());
        });
        let errors = &result.accounting.errors;
        assert_eq!((errors.get(class), errors.len()), (Some(&1), 1), "{errors:?}");
        assert_eq!(result.accounting.outstanding, 0);
    }
}
