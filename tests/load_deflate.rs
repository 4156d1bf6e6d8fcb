//! `ringsock-load --deflate`: compressed messages are all answered over every engine, the result says what was agreed on, and
//! a server that does not compress is refused by name.

#[path = "common/peer.rs"]
mod peer;
#[path = "common/run.rs"]
mod run;

use peer::server;
use ringsock::measure::result::{Deflate, Status};
use run::run;

const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");
const JSON: [&str; 8] = ["--rate", "1000", "-c", "4", "--filling", "json", "--payload", "1KiB"];

const DEFAULT: Deflate = Deflate {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
    level: 1,
    threshold_bytes: 64,
};

#[test]
fn compressed_messages_are_answered_and_the_result_says_how_they_were_compressed() {
    let narrow = Deflate { server_max_window_bits: 9, client_max_window_bits: 12, level: 6, ..DEFAULT };
    let alone = Deflate {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        threshold_bytes: 0,
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
        assert_eq!(result.target.deflate, Some(expected), "{flags:?}");
        assert_eq!(result.plan.filling.as_deref(), Some("json"), "{flags:?}");
    }
    let plain = run(&JSON);
    assert_eq!(plain.result(0, Status::Completed).target.deflate, None);
}

#[test]
fn compressed_messages_of_every_size_are_answered() {
    for size in ["0", "1", "63", "64", "300KiB"] {
        let flags = ["--deflate", "--closed-loop", "--pipeline", "3", "-c", "2", "--payload", size];
        let ended = run(&flags);
        let accounting = &ended.result(0, Status::Completed).accounting;
        assert!(accounting.answered > 0 && accounting.errors.is_empty(), "{size}: {accounting:?}");
        assert_eq!(accounting.outstanding, 0, "{size}");
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
