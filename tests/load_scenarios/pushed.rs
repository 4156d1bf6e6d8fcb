//! Scenario `push`: what the server sends unasked arrives, is timed and is accounted for, over every engine; and a server that does
//! otherwise is found out.

use std::io::Write;
use std::time::Duration;

use ringsock::engine::clock_ns;
use ringsock::measure::result::{RunResult, Status};

use super::misbehaving;
use super::run::run;
use super::{ENGINES, is_listed, play};

#[test]
fn what_is_pushed_arrives_and_is_accounted_for_over_every_engine() {
    for engine in ENGINES {
        for (rate, flags) in [
            ("200", &["-c", "5", "--threads", "2"][..]),
            ("1000", &["-c", "2", "--payload", "200KiB"]),
            ("7", &["-c", "3", "--tls", "--duration", "1s"]),
        ] {
            let ended = play(engine, &[&["--scenario", "push", "--push-rate", rate], flags].concat());
            let result = &ended.results[0];
            is_listed(result, "push-rate", rate);
            let (plan, accounting) = (&result.plan, &result.accounting);
            let each = rate.parse::<f64>().unwrap() * plan.duration_s;
            let due = each * plan.connections as f64;
            // A window's edges are anywhere between two messages of each connection.
            let edges = plan.connections as f64;
            assert!((accounting.offered as f64 - due).abs() <= edges, "{} of {due}", accounting.offered);
            assert_eq!(accounting.sent, accounting.answered);
            let lateness = &result.particulars.pushes.as_ref().expect("they were counted").lateness;
            let (response, service) = (&result.latency.response, &result.latency.service);
            assert_eq!(
                (lateness.len(), service.len(), response.len()),
                (accounting.answered, accounting.answered, accounting.answered)
            );
            // A message's response time is its lateness and its service time, in each histogram to within its resolution.
            assert!(response.max() as f64 * 1.01 >= lateness.max().max(service.max()) as f64);
            assert!(result.latency.lag.is_empty() && result.summary.rate_offered_per_s.is_some());
            let verdict = result.verdict.as_ref().unwrap();
            for check in ["arrivals", "generator-lag"] {
                assert!(verdict.findings.iter().all(|finding| finding.check != check), "{verdict:?}");
            }
            assert!(ended.output.contains("server lateness"), "{}", ended.output);
        }
    }
}

/// A run of one connection at 100 a second against a server that sends these stamps (number, due, composed), by nanoseconds since
/// it began, as soon as they are composed.
fn sent(stamp: impl Fn(u64) -> Option<[u64; 3]> + Clone + Send + 'static) -> RunResult {
    let address = misbehaving::accepting(move |mut stream| {
        let Some(_) = misbehaving::upgraded(&mut stream, |upgrade| upgrade.accept()) else { return };
        let start_ns = clock_ns();
        for number in 0..2_000 {
            let due_ns = number * 10_000_000;
            std::thread::sleep(Duration::from_nanos((start_ns + due_ns).saturating_sub(clock_ns())));
            let Some([number, due_ns, composed_ns]) = stamp(number) else { continue };
            let mut payload = Vec::new();
            for part in [number, start_ns + due_ns, start_ns + composed_ns] {
                payload.extend(part.to_le_bytes());
            }
            payload.resize(64, number as u8);
            if stream.write_all(&[&[0x82, 64], &payload[..]].concat()).is_err() {
                return;
            }
        }
    });
    let url = format!("ws://{address}/");
    let ended = run(&["--scenario", "push", "--push-rate", "100", "-c", "1", "--duration", "1s", &url]);
    let code = ended.code.unwrap();
    ended.result(code, Status::Completed).clone()
}

#[test]
fn a_push_that_is_wrong_or_missing_is_found_out() {
    let on_time = |number| Some([number, number * 10_000_000, number * 10_000_000]);
    let sound = sent(on_time);
    assert!(
        sound.accounting.errors.is_empty() && sound.accounting.outstanding == 0,
        "{:?}",
        sound.accounting
    );

    let lossy = sent(move |number| on_time(number).filter(|_| number != 50));
    assert_eq!((lossy.accounting.errors.get("out of order"), lossy.accounting.outstanding), (Some(&1), 1));

    type Wrong = fn(u64) -> [u64; 3];
    let wrong: [(&str, Wrong); 3] = [
        ("stamp from the future", |due_ns| [50, due_ns, due_ns + 3_600_000_000_000]),
        ("wrong payload", |due_ns| [50, due_ns + 1, due_ns + 1]),
        ("repeated or late answer", |due_ns| [49, due_ns - 10_000_000, due_ns]),
    ];
    for (class, wrong) in wrong {
        let result =
            sent(move |number| if number == 50 { Some(wrong(500_000_000)) } else { on_time(number) });
        let (errors, outstanding) = (&result.accounting.errors, result.accounting.outstanding);
        assert_eq!((errors.get(class), outstanding), (Some(&1), 1), "{class}: {errors:?}");
    }
}

#[test]
fn what_makes_no_sense_of_a_push_is_refused() {
    let flags = ["--scenario", "push", "--push-rate", "100"];
    for (more, says) in [
        (&["--payload", "23"][..], "--payload 24 to 1MiB"),
        (&["--text"], "leave out --text"),
        (&["--rate", "5"], "cannot be used with"),
        (&["ws://192.0.2.1/"], "has to be on this host"),
    ] {
        let ended = run(&[&flags[..], more].concat());
        assert_eq!(ended.code, Some(2), "{more:?}");
        assert!(ended.errors.contains(says), "{more:?}: {}", ended.errors);
    }
    let ended = run(&["--scenario", "push"]);
    assert!(ended.errors.contains("give --push-rate"), "{}", ended.errors);
}
