//! Peers that mean harm, over real sockets and against every engine: what they do must end with them.
//!
//! | file | what is done to the server |
//! |---|---|
//! | `openings` | heads that come slowly, never, without end, or hold something else |
//! | `frames` | frames that break the protocol, dribble in, or follow a Close |
//! | `floods` | more of everything than anyone needs, and readers that never read |
//! | `resets` | connections that end at any moment, in any manner |
//! | `compressed` | bombs and garbage, where compression was agreed on |
//! | `records` | TLS that is none, stops halfway, or never stops changing its keys |
//! | `crowds` | thousands of connections that come and go |
//! | `scenes` | subscribers that never read or vanish, publishers that flood, rooms without number |
//! | `servers` | the other role: servers that do all this to the generator |
//!
//! `bed` has the server, in a process of its own, and what must be as before after each attack; `honest` is the client that must
//! not notice. What an answer has to be, byte for byte, is told by `tests/engines.rs`; here it is who else is served, what
//! is left behind, and what was counted. Nothing is timed: deadlines are against hanging.

#[path = "hostile/bed.rs"]
mod bed;
#[path = "hostile/compressed.rs"]
mod compressed;
#[path = "hostile/crowds.rs"]
mod crowds;
#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/honest.rs"]
mod honest;
#[path = "common/misbehaving.rs"]
mod misbehaving;
#[path = "hostile/openings.rs"]
mod openings;
#[path = "common/peer.rs"]
mod peer;
#[path = "hostile/records.rs"]
mod records;
#[path = "hostile/resets.rs"]
mod resets;
#[path = "common/run.rs"]
mod run;
#[path = "hostile/scenes.rs"]
mod scenes;
#[path = "common/secure.rs"]
mod secure;
#[path = "hostile/servers.rs"]
mod servers;
#[path = "hostile/wire.rs"]
mod wire;
