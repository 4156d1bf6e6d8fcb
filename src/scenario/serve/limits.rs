//! What a server puts up with, and what its threads share so as to hold to it together.
//!
//! Every state that waits for a peer has a time limit here, but for silence between messages, which is legal and costs
//! nothing but the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::addresses::Addresses;
use crate::limits;
use crate::scenario::deflate::Account;
use crate::scenario::hub::Hub;
use crate::ws::connection::{Bounds, Timeouts};

const SECOND_NS: u64 = 1_000_000_000;

/// What a server puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest head of an opening handshake.
    pub head_bytes: usize,
    /// Longest message.
    pub message_bytes: u64,
    /// Fragments of a message, and control frames in a second.
    pub bounds: Bounds,
    /// Connections of all threads together.
    pub connections: usize,
    /// Of them, those of one thread.
    pub connections_of_thread: usize,
    /// Of them, those from one address; as many again are told so, and further ones dropped. Needs
    /// [`Config::peer_addresses`](crate::engine::Config::peer_addresses).
    pub connections_per_address: Option<u32>,
    /// Bytes that may wait for one peer, where it is for us to say what is sent to it.
    pub queued_bytes: usize,
    /// What becomes of subscribers for whom more waits.
    pub slow_consumer: SlowConsumer,
    /// Received bytes that may wait on all connections of a thread until they can be inflated; the engine bounds what waits to be sent.
    pub queued_bytes_in_all: usize,
    /// How long the opening handshake may take.
    pub handshake_ns: u64,
    /// How long a closing handshake, and the end of a connection that is turned away, may take.
    pub close_ns: u64,
    /// How long a peer may stop in the middle of a frame, or take nothing of what waits for it; `None` is for ever.
    pub stall_ns: Option<u64>,
    /// Heartbeat and idleness.
    pub timeouts: Timeouts,
}

/// What becomes of a subscriber for whom too much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowConsumer {
    /// It misses what comes until some of that has gone.
    DropNewest,
    /// It is failed with 1008.
    Close,
    /// Those who publish on its topic are not read from until all of that has gone.
    Block,
}

impl Default for Limits {
    fn default() -> Self {
        let close_ns = 5 * SECOND_NS;
        Self {
            head_bytes: limits::HANDSHAKE_HEAD_BYTES,
            message_bytes: limits::MESSAGE_BYTES,
            bounds: Bounds {
                fragments: limits::FRAGMENTS,
                control_frames_per_s: limits::CONTROL_FRAMES_PER_S,
            },
            connections: limits::CONNECTIONS as usize,
            connections_of_thread: limits::CONNECTIONS as usize,
            connections_per_address: None,
            queued_bytes: limits::OUTBOX_BYTES,
            slow_consumer: SlowConsumer::Close,
            queued_bytes_in_all: limits::OUTBOX_BYTES_IN_ALL as usize,
            handshake_ns: 10 * SECOND_NS,
            close_ns,
            stall_ns: Some(60 * SECOND_NS),
            timeouts: Timeouts { close_ns: Some(close_ns), ..Timeouts::default() },
        }
    }
}

/// What the threads of a server share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Connections of all threads.
    pub open: AtomicUsize,
    /// The same by address, where they are limited.
    pub addresses: Addresses,
    /// What compression keeps for them.
    pub deflate_memory: Account,
    /// What is published, across threads.
    pub hub: Arc<Hub>,
    /// The server is to end: every connection is closed with 1001, and the thread ends with the last.
    pub draining: AtomicBool,
    /// The drain took too long: end at once.
    pub abandon: AtomicBool,
}
