//! What server and client say to each other.
//!
//! [`serve`] is the server's side of a connection's life (opening handshake, heartbeat, closing); a scenario,
//! one file each, is what happens on it in between, and how the client checks what came back. A server is asked for one by the
//! path of the request.
//! [`SCENARIOS`] is the one list of them.

pub mod bare;
pub mod broadcast;
pub mod deflate;
pub mod echo;
pub mod echo_client;
pub mod frames;
pub mod hub;
pub mod json;
pub mod messages;
mod parameters;
pub mod push;
mod records;
pub mod serve;
pub mod sizes;
pub mod stamps;
mod table;
pub mod trace;
pub mod work;

pub use parameters::{Parameter, Query};
pub use table::{SCENARIOS, Scenario, at_path, find, list};
