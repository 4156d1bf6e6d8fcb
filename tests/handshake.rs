//! What users may ask of the opening handshake (subprotocols, origins, bounds on heads), over every engine through the flags
//! (`flags`), and what `--trace-frames` writes, through the flags and in fake time (`traced`).
//!
//! The handshake's own rules are told by the unit tests of `src/ws/handshake`, over every split of the bytes.

#[path = "handshake/flags.rs"]
mod flags;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/run.rs"]
mod run;
#[path = "common/seed.rs"]
mod seed;
#[path = "memory/talk.rs"]
mod talk;
#[path = "handshake/traced.rs"]
mod traced;

const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");
const ENGINES: [&str; 3] = ["uring", "tokio-uring", "epoll"];
