//! `ringsock-load --deflate`: compressed messages are all answered over every engine; the result says what was agreed on, and
//! what came over the wire each way; a server that declines is refused by name, and one that agrees and never compresses is
//! told.

#[path = "common/peer.rs"]
mod peer;
#[path = "common/run.rs"]
mod run;

use peer::server;
use ringsock::measure::result::{Deflate, RunResult, Status, Wire};
use ringsock::measure::verdict::Level;
use run::run;

const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");
const JSON: [&str; 8] = ["--rate", "1000", "-c", "4", "--filling", "json", "--payload", "1KiB"];

const DEFAULT: Deflate = Deflate {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
    generator_level: 1,
    generator_threshold_bytes: 64,
    wire: None,
};

/// What messages came to, which is of as many as the books have.
fn wire(result: &RunResult) -> Wire {
    let wire = result.target.deflate.and_then(|deflate| deflate.wire).expect("it was counted");
    let accounting = &result.accounting;
    assert_eq!((wire.sent.messages, wire.answers.messages), (accounting.sent, accounting.answered));
    for carried in [wire.sent, wire.answers] {
        assert_eq!(carried.payload_bytes, carried.messages * result.plan.payload_bytes);
    }
    wire
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the verdict's check of compression says, and how far it trusts the run.
fn judged(result: &RunResult) -> Option<(Level, &str)> {
    let findings = &result.verdict.as_ref().unwrap().findings;
    let found = findings.iter().find(|finding| finding.check == "compression");
    found.map(|finding| (finding.level, &*finding.says))
}

#[test]
fn compressed_messages_are_answered_and_the_result_says_how_they_were_compressed() {
    let narrow =
        Deflate { server_max_window_bits: 9, client_max_window_bits: 12, generator_level: 6, ..DEFAULT };
    let alone = Deflate {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        generator_threshold_bytes: 0,
        ..DEFAULT
    };
    for (flags, expected) in [
        (&["--engine", "uring", "--text"][..], DEFAULT),
        (&["--engine", "epoll", "--deflate-window-bits", "9,12", "--deflate-level", "6"], narrow),
        (&["--engine", "tokio-uring", "--deflate-takeover", "neither", "--deflate-threshold", "0B"], alone),
    ] {
        let ended = run(&[&JSON[..], &["--deflate"], flags].concat());
        let result = ended.result(0, Status::Completed);
        let accounting = &result.accounting;
        assert!(accounting.answered > 50 && accounting.errors.is_empty(), "{flags:?}: {accounting:?}");
        assert_eq!((accounting.outstanding, accounting.unsent), (0, 0), "{flags:?}");
        let agreed = result.target.deflate.map(|deflate| Deflate { wire: None, ..deflate });
        assert_eq!(agreed, Some(expected), "{flags:?}");
        for carried in [wire(result).sent, wire(result).answers] {
            assert_eq!(carried.compressed, carried.messages, "{flags:?}");
            // JSON-like text comes to less than two thirds even by itself, and to more than a tenth.
            let (plain, came_to) = (carried.payload_bytes, carried.wire_bytes);
            assert!(came_to < plain * 2 / 3 && came_to > plain / 10, "{flags:?}: {plain} B as {came_to} B");
        }
        assert_eq!(judged(result).unwrap().0, Level::Trusted, "{flags:?}");
        assert!(
            on_one_line(&ended.output).contains("answers compressed 100 %, 1,024 B as "),
            "{}",
            ended.output
        );
        assert_eq!(result.plan.filling.as_deref(), Some("json"), "{flags:?}");
    }
    let plain = run(&JSON);
    let plain = plain.result(0, Status::Completed);
    assert_eq!((plain.target.deflate, judged(plain)), (None, None));
}

#[test]
fn a_server_that_agrees_and_never_compresses_is_told_by_what_came_over_the_wire() {
    let (_server, address) = server(SERVER, &["--threads", "1", "--deflate", "--deflate-threshold", "64KiB"]);
    let url = format!("ws://{address}/");
    let ended = run(&[&JSON[..], &["--deflate", &url]].concat());
    let result = ended.result(0, Status::Completed);
    let Wire { sent, answers } = wire(result);
    assert_eq!((sent.compressed, answers.compressed), (sent.messages, 0));
    assert!(sent.wire_bytes < sent.payload_bytes * 2 / 3, "{sent:?}");
    assert_eq!(answers.wire_bytes, answers.payload_bytes);
    let (level, says) = judged(result).unwrap();
    assert_eq!(level, Level::Suspect);
    assert!(says.contains("agreed to permessage-deflate and compressed none of"), "{says}");
    assert!(on_one_line(&ended.output).contains("no answers compressed"), "{}", ended.output);
}

#[test]
fn messages_below_the_threshold_are_not_taken_for_compressed_ones() {
    let ended = run(&["--deflate", "--payload", "63", "-c", "2", "--rate", "500"]);
    let result = ended.result(0, Status::Completed);
    let Wire { sent, answers } = wire(result);
    assert_eq!((sent.compressed, answers.compressed), (0, 0));
    assert_eq!((sent.wire_bytes, answers.wire_bytes), (sent.payload_bytes, answers.payload_bytes));
    let (level, says) = judged(result).unwrap();
    assert!(
        level == Level::Suspect && says.contains("63 B are shorter than --deflate-threshold, 64 B"),
        "{says}"
    );
}

#[test]
fn compressed_messages_of_every_size_are_answered() {
    for size in ["0", "1", "63", "64", "300KiB"] {
        let flags = ["--deflate", "--closed-loop", "--pipeline", "3", "-c", "2", "--payload", size];
        let ended = run(&flags);
        let accounting = &ended.result(0, Status::Completed).accounting;
        assert!(accounting.answered > 0 && accounting.errors.is_empty(), "{size}: {accounting:?}");
        assert_eq!(accounting.outstanding, 0, "{size}");
        wire(&ended.results[0]);
    }
}

#[test]
fn a_server_that_declines_is_refused_by_name() {
    let (_server, address) = server(SERVER, &["--threads", "1"]);
    let ended = run(&["--deflate", &format!("ws://{address}/")]);
    assert_eq!((ended.code, ended.results.len()), (Some(1), 0), "{}", ended.output);
    assert!(ended.errors.contains("declined permessage-deflate"), "{}", ended.errors);
}

#[test]
fn flags_that_do_not_go_with_compression_are_refused_with_the_mend() {
    for (flags, mend) in [
        (&["--deflate", "--anatomy"][..], "leave out --deflate"),
        (&["--deflate", "tcp://127.0.0.1:1/"], "measure a ws:// one"),
        (&["--deflate", "--calibrate"], "leave it out"),
        (&["--deflate-level", "3"], "--deflate"),
    ] {
        let ended = run(flags);
        assert_eq!(ended.code, Some(2), "{flags:?}: {}", ended.errors);
        assert!(ended.errors.contains(mend), "{flags:?}: {}", ended.errors);
    }
}
