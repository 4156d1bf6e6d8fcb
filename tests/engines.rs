//! Every conversation over every engine, however the bytes are cut: for any handler (`seam`), for the server, for the
//! generator, for the client that echoes, and under faults of a real kernel.
//!
//! A conversation is one test. It runs over each engine, and where bytes are cut, over each way to cut them; a
//! failure names the role, the conversation, the engine and the cut. What the handlers' own rules are is told
//! by `tests/protocol.rs` and `tests/memory.rs`, what flags do by `tests/server.rs` and `tests/load.rs`.

#[path = "engines/client.rs"]
mod client;
#[path = "engines/deflate.rs"]
mod deflate;
#[path = "engines/echo_client.rs"]
mod echo_client;
#[path = "engines/ends.rs"]
mod ends;
#[path = "engines/floods.rs"]
mod floods;
#[path = "engines/harness.rs"]
mod harness;
#[path = "engines/kernel.rs"]
mod kernel;
#[path = "engines/limits.rs"]
mod limits;
#[path = "engines/listener.rs"]
mod listener;
#[path = "common/peer.rs"]
mod peer;
#[path = "engines/route.rs"]
mod route;
#[path = "engines/scenes.rs"]
mod scenes;
#[path = "engines/seam.rs"]
mod seam;
#[path = "common/seed.rs"]
mod seed;
#[path = "engines/server.rs"]
mod server;
#[path = "engines/serving.rs"]
mod serving;
#[path = "engines/split.rs"]
mod split;
#[path = "engines/stamps.rs"]
mod stamps;
#[path = "engines/states.rs"]
mod states;
#[path = "engines/times.rs"]
mod times;

/// One test for each conversation named, over every engine.
macro_rules! conversations {
    ($role:literal: $($name:ident),* $(,)?) => { $(
        #[test]
        fn $name() {
            crate::hold($role, stringify!($name), conversation::$name);
        }
    )* };
}
pub(crate) use conversations;

use std::sync::mpsc;
use std::time::Duration;

use ringsock::engine::EngineKind;

/// How long a conversation may take over one engine.
const CONVERSATION: Duration = Duration::from_secs(90);

/// Holds one conversation over each engine, all of them at once; a failure names both.
fn hold(role: &'static str, name: &'static str, conversation: fn(EngineKind)) {
    let started = EngineKind::ALL.map(|engine| {
        let (done, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("{role}/{name}/{}", engine.name()));
        let thread = thread.spawn(move || {
            conversation(engine);
            let _ = done.send(());
        });
        (engine, thread.expect("a thread"), ended)
    });
    let mut failed = Vec::new();
    for (engine, thread, ended) in started {
        match ended.recv_timeout(CONVERSATION) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => failed.push(format!("{} (no end)", engine.name())),
            // Its own message stands above.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                thread.join().expect_err("it hung up without an end");
                failed.push(engine.name().to_owned());
            }
        }
    }
    assert!(failed.is_empty(), "{role}, {name}, over {}", failed.join(", "));
}

/// The flags that have a binary run over `engine`.
fn flags_of(engine: EngineKind) -> Vec<String> {
    vec!["--engine".into(), engine.name().into()]
}
