//! What server and client say to each other.
//!
//! [`serve`] is the server's side of a connection's life (opening handshake, heartbeat, closing); a scenario,
//! one file each, is what happens on it in between, and how the client checks what came back.

pub mod bare;
pub mod deflate;
pub mod echo;
pub mod echo_client;
mod json;
pub mod serve;
pub mod sizes;
pub mod stamps;
mod table;
pub mod trace;

pub use table::{SCENARIOS, Scenario, find};
