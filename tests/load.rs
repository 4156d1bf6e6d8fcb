//! `ringsock-load` against servers that behave and servers that don't: what it reports, saves and returns.

#[path = "common/misbehaving.rs"]
mod misbehaving;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/run.rs"]
mod run;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use misbehaving::misbehaving;
use ringsock::measure::result::{RunResult, Status, Summary};
use ringsock::measure::samples::Inflation;
use ringsock::measure::verdict::{Level, judge};
use run::{end, run, start};
use rustix::process::Signal;

const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");

#[test]
fn a_machine_whose_clock_counts_time_is_not_believed_to_count_instructions() {
    for (flags, says) in
        [(&[][..], "--clock instructions: "), (&["--spin"], "--spin: "), (&["--calibrate"], "--calibrate: ")]
    {
        let ended = run(&[&["--clock", "instructions"], flags].concat());
        assert_eq!((ended.code, ended.results.len()), (Some(2), 0), "{flags:?}: {}", ended.errors);
        assert!(ended.errors.contains(says) && ended.errors.contains("leave "), "{}", ended.errors);
    }
}

#[test]
fn a_run_against_the_embedded_server_adds_up() {
    for flags in [
        &["--rate", "5000"][..],
        &["--rate", "5000", "--arrivals", "fixed", "--text"],
        &["--closed-loop", "--pipeline", "8", "-c", "4"],
        &["--rate", "2000", "-c", "4", "--threads", "2"],
    ] {
        let ended = run(flags);
        let result = ended.result(0, Status::Completed);
        let accounting = &result.accounting;
        assert!(accounting.answered > 100 && accounting.errors.is_empty(), "{flags:?}: {accounting:?}");
        assert_eq!((accounting.outstanding, accounting.unsent), (0, 0), "{flags:?}");
        assert!(accounting.warmup_messages > 0, "{flags:?}");
        let connections = result.plan.connections;
        assert_eq!((accounting.connections_opened, accounting.connections_failed), (connections, 0));
        let latency = &result.latency;
        let open_loop = !flags.contains(&"--closed-loop");
        let of_open_loop = if open_loop { accounting.answered } else { 0 };
        assert_eq!((latency.response.len(), latency.lag.len()), (of_open_loop, of_open_loop), "{flags:?}");
        assert_eq!((latency.service.len(), latency.connect.len()), (accounting.answered, connections));
        let of_intervals: u64 = result.intervals.iter().map(|interval| interval.answered).sum();
        assert_eq!(of_intervals, accounting.answered - accounting.answered_late, "{flags:?}");
        assert!(ended.output.contains("saved "), "{}", ended.output);
    }
}

#[test]
fn what_the_server_counted_is_saved_from_before_and_after() {
    let (_server, address) = peer::server(SERVER, &["--threads", "2", "--engine", "epoll"]);
    let url = format!("ws://{address}/echo");
    let flags = ["--rate", "2000", "-c", "4"];
    // The second run finds what the first has left; the server in the process itself is asked as well.
    for (run_count, target) in [(1, &[url.as_str()][..]), (2, &[&url]), (1, &[])] {
        let ended = run(&[&flags, target].concat());
        let result = ended.result(0, Status::Completed);
        let stats = result.server_stats.as_ref().expect("it tells");
        let (before, after) = (stats.before.as_ref().unwrap(), stats.after.as_ref().unwrap());
        let grown = |name: &str| after.counters[name] - before.counters.get(name).unwrap_or(&0);
        let accounting = &result.accounting;
        assert_eq!(grown("messages"), accounting.answered + accounting.warmup_messages, "{stats:?}");
        assert_eq!((grown("upgrades"), after.counters["upgrades"]), (4, 4 * run_count), "{stats:?}");
        assert!(after.uptime_s > before.uptime_s && after.cpu_s > before.cpu_s, "{stats:?}");
        let of_threads: u64 = after.threads.iter().map(|thread| thread.messages).sum();
        assert_eq!(of_threads, after.counters["messages"], "{stats:?}");
        if !target.is_empty() {
            assert_eq!((after.engine.as_str(), after.threads.len()), ("epoll", 2), "{stats:?}");
        }
    }
}

#[test]
fn a_server_that_does_not_tell_what_it_counted_is_measured_all_the_same() {
    let (_mute, mute) = peer::server(SERVER, &["--threads", "1", "--admin", "none"]);
    let foreign = misbehaving(|messages, answer| answer.message(messages - 1));
    for address in [mute, foreign] {
        let ended = run(&["--rate", "500", "-c", "2", &format!("ws://{address}/")]);
        assert_eq!(ended.result(0, Status::Completed).server_stats, None);
        assert!(!ended.errors.contains("stats"), "nothing is said of it: {}", ended.errors);
    }
}

#[test]
fn percentiles_and_verdict_follow_from_what_is_saved() {
    let ended = run(&["--rate", "2000", "--duration", "1200ms"]);
    let result = ended.result(0, Status::Completed);
    let RunResult { plan, accounting, latency, batches, summary, .. } = result;
    assert!(Inflation::of_run(result).is_measured(), "{} batches", batches.len());
    assert_eq!(*summary, Summary::new(plan, accounting, latency, batches, summary.measured_s));
    assert_eq!(result.verdict, Some(judge(result)));
}

#[test]
fn strict_succeeds_only_with_a_result_that_can_be_trusted() {
    // A third of a second is no window to speak of, whatever else there is to say.
    let flags = ["--rate", "2000", "-c", "4"];
    let (lenient, strict) = (run(&flags), run(&[&flags[..], &["--strict"]].concat()));
    for (ended, code) in [(lenient, 0), (strict, 3)] {
        let verdict = ended.result(code, Status::Completed).verdict.as_ref().unwrap();
        assert!(verdict.level != Level::Trusted, "{verdict:#?}");
        assert!(verdict.reasons().iter().any(|finding| finding.check == "window"), "{verdict:#?}");
        assert!(ended.output.contains("\nverdict "), "{}", ended.output);
    }
}

#[test]
fn payloads_of_every_size_are_answered_and_checked() {
    for text in [&[][..], &["--text"]] {
        for payload in ["0", "1", "7", "8", "70000"] {
            let flags = [&["--payload", payload, "--rate", "500", "-c", "3"], text].concat();
            let ended = run(&flags);
            let result = ended.result(0, Status::Completed);
            assert!(result.accounting.answered > 0, "{flags:?}");
            assert_eq!(result.plan.payload_bytes.to_string(), payload);
        }
    }
}

#[test]
fn messages_larger_than_all_buffers_on_the_way_do_not_lock_both_ends() {
    for flags in [["--payload", "16MiB", "--pipeline", "1"], ["--payload", "64KiB", "--pipeline", "256"]] {
        let ended = run(&[&flags[..], &["--closed-loop", "-c", "1"]].concat());
        assert!(ended.result(0, Status::Completed).accounting.answered > 0, "{flags:?}");
    }
}

#[test]
fn an_interrupted_run_is_reported_and_saved() {
    for flags in [&["--rate", "2000"][..], &["--closed-loop"]] {
        let results = tempfile::tempdir().unwrap();
        let process = start(results.path(), &[flags, &["--duration", "1h"]].concat());
        // Its first line of progress: it is measuring.
        process.until_error_line(" of ");
        process.signal(Signal::INT);
        let ended = end(process, results.path());
        let result = ended.result(0, Status::Interrupted);
        assert!(result.accounting.answered > 0 && result.summary.measured_s < 3600.0);
        assert!(ended.output.contains("saved "), "{}", ended.output);
    }
}

#[test]
fn a_server_that_dies_is_reported_and_saved() {
    for flags in [&["--rate", "2000"][..], &["--closed-loop"], &["--rate", "2000", "--threads", "2"]] {
        let (server, address) = peer::server(SERVER, &["--threads", "1"]);
        let results = tempfile::tempdir().unwrap();
        let url = format!("ws://{address}/");
        let process = start(results.path(), &[flags, &["--duration", "1h", &url]].concat());
        process.until_error_line(" of ");
        server.signal(Signal::KILL);
        let ended = end(process, results.path());
        let result = ended.result(1, Status::ServerDied);
        assert!(result.accounting.answered > 0 && result.accounting.error_count() > 0, "{flags:?}");
    }
}

#[test]
fn a_server_that_stops_answering_ends_a_closed_loop_all_the_same() {
    let address = misbehaving(|messages, answer| {
        if messages <= 50 {
            answer.message(messages - 1);
        }
    });
    let ended = run(&["--closed-loop", "--warmup", "0s", "-c", "1", &format!("ws://{address}/")]);
    let result = ended.result(1, Status::Completed);
    let accounting = &result.accounting;
    // Answers to the warm-up's messages are not counted; one message stays unanswered.
    assert_eq!(accounting.sent + accounting.warmup_messages, 51, "{accounting:?}");
    assert!(accounting.outstanding <= 1, "{accounting:?}");
}

#[test]
fn nobody_there_is_said_with_the_cause() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = run(&[&format!("ws://{nobody}/")]);
    assert_eq!((ended.code, ended.results.len()), (Some(1), 0));
    assert!(ended.errors.contains("connect: refused (64)"), "{}", ended.errors);
    assert!(ended.errors.contains("is a WebSocket server running there?"), "{}", ended.errors);
}

#[test]
fn a_server_that_refuses_the_handshake_is_named_with_its_answer() {
    let (_server, address) = peer::server(SERVER, &["--threads", "1"]);
    let ended = run(&[&format!("ws://{address}/elsewhere")]);
    assert_eq!((ended.code, ended.results.len()), (Some(1), 0));
    assert!(ended.errors.contains("404"), "{}", ended.errors);

    // With a page behind the head, too long for one receive.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                // The head in two pieces, the page right behind the second.
                stream.set_nodelay(true).unwrap();
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\n");
                std::thread::sleep(Duration::from_millis(50));
                let page = vec![b'<'; 1 << 20];
                let _ = stream.write_all(&[&b"\r\n"[..], &page].concat());
                let _ = stream.read(&mut request);
            });
        }
    });
    let ended = run(&["-c", "4", &format!("ws://{address}/")]);
    assert_eq!((ended.code, ended.results.len()), (Some(1), 0));
    assert!(ended.errors.contains("404") && !ended.errors.contains("panicked"), "{}", ended.errors);
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    // It accepts by its queue alone, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", silent.local_addr().unwrap());
    let ended = run(&["--connect-timeout", "200ms", "-c", "4", &url]);
    assert_eq!((ended.code, ended.results.len()), (Some(1), 0));
    assert!(ended.errors.contains("handshake: timed out (4)"), "{}", ended.errors);
}

#[test]
fn wrong_flags_end_with_2() {
    for flags in [
        &["http://127.0.0.1/"][..],
        &["ws://"],
        &["--rate", "0"],
        &["--rate", "5", "--closed-loop"],
        &["--pipeline", "2"],
        &["--pipeline", "2", "--rate", "5"],
        &["--cpus", "999"],
        &["--duration", "0s"],
        &["--connections", "0"],
        &["--payload", "65MiB"],
        &["--kernel-timestamps"],
        &["--anatomy", "--kernel-timestamps", "--payload", "31", "--engine", "epoll"],
        &["--anatomy", "--text"],
        &["--anatomy", "--payload", "23"],
        &["--anatomy", "tcp://127.0.0.1:9/"],
    ] {
        let ended = run(flags);
        assert_eq!((ended.code, ended.results.len()), (Some(2), 0), "{flags:?}: {}", ended.errors);
        assert!(!ended.errors.is_empty(), "{flags:?}");
    }
}

#[test]
fn answers_in_the_wrong_order_are_errors_and_all_are_accounted_for() {
    let address = misbehaving(|messages, answer| {
        if messages.is_multiple_of(2) {
            answer.message(messages - 1);
            answer.message(messages - 2);
        }
    });
    let ended = run(&["--rate", "2000", "--warmup", "0s", "-c", "1", &format!("ws://{address}/")]);
    let result = ended.result(1, Status::Completed);
    assert!(result.accounting.errors["out of order"] > 10, "{:?}", result.accounting);
}

#[test]
fn a_stall_shows_in_full_in_the_response_time() {
    let address = misbehaving(|messages, answer| {
        if messages == 300 {
            std::thread::sleep(Duration::from_millis(300));
        }
        answer.message(messages - 1);
    });
    let url = format!("ws://{address}/");
    let ended = run(&[
        "--rate",
        "1000",
        "--arrivals",
        "fixed",
        "--warmup",
        "0s",
        "-c",
        "1",
        "--duration",
        "800ms",
        &url,
    ]);
    let result = ended.result(0, Status::Completed);
    // Everything that was due during the stall waited for its rest: a third of all messages.
    let stalled = |histogram: &ringsock::measure::histogram::Histogram| {
        histogram.count_between(100_000_000, u64::MAX >> 1)
    };
    assert!(stalled(&result.latency.response) > 100, "{}", stalled(&result.latency.response));
    assert_eq!(result.accounting.outstanding + result.accounting.unsent, 0);
}

#[test]
fn a_rate_beyond_all_means_is_accounted_for_and_ends() {
    let ended = run(&["--rate", "30000000", "-c", "4", "--duration", "100ms", "--drain-timeout", "5s"]);
    let [result] = &ended.results[..] else { panic!("{}", ended.errors) };
    let offered = result.accounting.offered;
    assert!((2_900_000..3_100_000).contains(&offered), "{:?}", result.accounting);
    // What was queued before the measured window keeps both ends busy throughout it.
    assert!(result.accounting.warmup_messages > 0, "{:?}", result.accounting);
    assert_ne!(result.outcome.status, Status::Failed);
}

#[test]
fn connections_open_no_faster_than_asked() {
    let begun = Instant::now();
    run(&["--connect-rate", "50", "-c", "26", "--rate", "500"]).result(0, Status::Completed);
    assert!(begun.elapsed() >= Duration::from_millis(500), "26 connections, 50 a second");
}

#[test]
fn quiet_prints_the_saved_line_alone_and_nothing_is_overwritten() {
    let results = tempfile::tempdir().unwrap();
    for count in 1..=3 {
        let process = start(results.path(), &["--quiet", "--rate", "500", "--duration", "50ms"]);
        let ended = end(process, results.path());
        assert_eq!((ended.code, ended.results.len()), (Some(0), count), "{}", ended.errors);
        assert_eq!((ended.output.lines().count(), ended.errors.as_str()), (1, ""), "{}", ended.output);
        assert!(ended.output.starts_with("saved "), "{}", ended.output);
    }
}
