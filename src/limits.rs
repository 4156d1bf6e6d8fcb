//! Every bound that is ours to choose, in one place, asserted against each other at compile time.
//!
//! What the protocol itself fixes (header sizes, control payloads) stands in `ws::frame`.

/// Free bytes in front of every received piece, so that a reply header fits even where the request's header
/// came with an earlier piece. Also keeps what follows aligned for vector stores.
pub const HEADROOM_BYTES: usize = 64;

/// Received bytes per buffer, unless asked otherwise: a 64 KiB message and its header in one piece.
pub const RECV_BUFFER_BYTES: usize = 64 * 1024 + 64;
/// Fewest and most received bytes per buffer that may be asked for.
pub const RECV_BUFFER_BYTES_RANGE: (usize, usize) = (64, 16 << 20);
/// Receive buffers per thread, unless asked otherwise. A power of two (the kernel's rule for buffer rings).
pub const RECV_BUFFERS: u16 = 1024;
/// Buffers lent to the kernel at first, and when large pieces are received; more follow when it runs out of them for
/// small ones. So what is received stays in cache.
pub const RECV_BUFFERS_AT_FIRST: u32 = 8;
/// Received pieces that are this large on average are better off waiting for a buffer that is still in cache.
pub const LARGE_RECV_BYTES: u64 = 16 * 1024;
/// The kernel's bound on entries of a buffer ring (Linux 5.19, `IORING_REGISTER_PBUF_RING`).
pub const RECV_BUFFERS_MAX: u16 = 1 << 15;

/// Submission queue entries per ring, unless asked otherwise.
pub const SQ_ENTRIES: u32 = 1024;
/// Completion queue entries per ring, unless asked otherwise.
pub const CQ_ENTRIES: u32 = 8192;
/// The kernel's bound on submission queue entries (`IORING_MAX_ENTRIES`).
pub const SQ_ENTRIES_MAX: u32 = 32768;

/// Pieces gathered into one send.
pub const SEND_PIECES: usize = 64;
/// Bytes that may wait for a peer which does not read, before we stop reading from it.
pub const OUTBOX_BYTES: usize = 1 << 20;
/// Bytes that may wait for all peers of a server together before we stop reading from those that keep some waiting.
pub const OUTBOX_BYTES_IN_ALL: u64 = 1 << 30;
/// What compression may keep for all connections of a server together: 1,863 that take over context at both ends,
/// and a quarter for messages under way of others.
pub const DEFLATE_BYTES_IN_ALL: u64 = 1 << 30;
/// A pooled output buffer that has grown beyond this is freed rather than kept.
pub const OUTPUT_BUFFER_KEPT_BYTES: usize = 256 * 1024;
/// Pooled output buffers that are kept for reuse hold this much together, per thread.
pub const OUTPUT_BYTES_KEPT: usize = 4 << 20;
/// Queues of segments kept for reuse, per thread, and the longest that is.
pub const QUEUES_KEPT: usize = 64;
/// See [`QUEUES_KEPT`].
pub const QUEUE_SEGMENTS_KEPT: usize = 256;
/// Copies of what a slow peer has yet to take are joined up to this size.
pub const OUTPUT_JOINED_BYTES: usize = 64 * 1024;

/// Connections per server where the limit on descriptors allows them and nothing else is asked.
pub const CONNECTIONS: u32 = 65_536;
/// The kernel's bound on direct descriptors of one ring (Linux 5.19, `IORING_MAX_FIXED_FILES`).
pub const DIRECT_DESCRIPTORS: u64 = 1 << 20;
/// Most threads that a server may be asked to have.
pub const THREADS: usize = 4096;
/// Memory of an idle connection, the server's own, but for its share of what grows in steps.
pub const IDLE_CONNECTION_BYTES: usize = 224;
/// How long engines leave the listener alone when there is no descriptor or slot for what it has.
pub const ACCEPT_PAUSE_NS: u64 = 50_000_000;
/// Connections beyond the limit that are told so (503) rather than left waiting.
pub const REFUSED_CONNECTIONS: u32 = 256;
/// Connections at a time to the address that `ringsock-server --admin` gives, beside the others.
pub const ADMIN_CONNECTIONS: u32 = 256;

/// Longest HTTP head of an opening handshake, unless asked otherwise.
pub const HANDSHAKE_HEAD_BYTES: usize = 8 * 1024;
/// Shortest and longest bound on a head that may be asked for: a request of a browser takes 500 bytes.
pub const HANDSHAKE_HEAD_BYTES_RANGE: (usize, usize) = (256, 1 << 20);
/// Header lines of an opening handshake, unless asked otherwise.
pub const HANDSHAKE_HEADERS: usize = 100;
/// Fewest and most of them that may be asked for: five are needed.
pub const HANDSHAKE_HEADERS_RANGE: (usize, usize) = (5, 1024);
/// Most bytes of TLS records that a peer may take for its handshake: chains of certificates are a few KiB long.
pub const TLS_HANDSHAKE_BYTES: usize = 128 * 1024;
/// Records that are sealed with one AES-GCM key: RFC 8446, 5.5 allows 2^24.5 full ones. Under TLS 1.3 another key follows, under
/// TLS 1.2 the connection is closed.
pub const TLS_RECORDS_PER_KEY: u64 = 1 << 24;
/// Steps of TLS handshakes that a thread of a server makes in one turn, unless asked otherwise: of a millisecond or so together
/// where the key is one of an elliptic curve.
pub const TLS_HANDSHAKES_PER_TURN: u32 = 4;
/// What records add to 64 KiB of data, generously: so that it is still one receive.
pub const TLS_OVERHEAD_BYTES: usize = 512;
/// Fragments of a message, unless asked otherwise: sixteen times as many as Autobahn's fuzzing client sends at most.
pub const FRAGMENTS: u32 = 1 << 20;
/// Pings and pongs a second and connection, unless asked otherwise.
pub const CONTROL_FRAMES_PER_S: u32 = 100_000;
/// Longest message, unless asked otherwise.
pub const MESSAGE_BYTES: u64 = 64 << 20;

/// Longest name of a room.
pub const ROOM_NAME_BYTES: usize = 64;
/// Rooms of a server at a time.
pub const ROOMS: usize = 1 << 16;
/// Published frames of one turn and topic are handed on together up to this size.
pub const BATCH_BYTES: usize = 64 * 1024;
/// What may lie in the mailbox of a thread before those who publish are no longer read from.
pub const MAILBOX_BYTES: usize = 4 << 20;
/// What a piece of output costs beside its bytes where it waits for a subscriber.
pub const WAITING_PIECE_BYTES: usize = 64;
/// Messages at least this long are answered in the memory they came in; shorter ones are copied, which costs less than sending
/// one more piece.
pub const IN_PLACE_BYTES: usize = 1024;
/// Longest JSON message that is parsed: what a parser keeps of one is up to 28 times as long.
pub const JSON_BYTES: usize = 1 << 20;
/// How deep JSON may be nested.
pub const JSON_DEPTH: usize = 1024;
/// What a thread works for its clients before it looks at its other connections again, but for the message under way.
pub const WORK_PER_TURN_NS: u64 = 1_000_000;
/// Longest work for a message, and greatest mean of one that is drawn.
pub const WORK_US: u64 = 1_000_000;
/// Most memory that is walked for a message.
pub const WORK_KIB: u64 = 64 * 1024;
/// Messages pushed a second, and their longest payload.
pub const PUSH_RATE: u64 = 1_000_000;
/// See [`PUSH_RATE`].
pub const PUSH_BYTES: u64 = 1 << 20;

const _: () = {
    assert!(HEADROOM_BYTES.is_power_of_two());
    assert!(RECV_BUFFERS.is_power_of_two() && RECV_BUFFERS <= RECV_BUFFERS_MAX);
    assert!(OUTPUT_JOINED_BYTES <= OUTPUT_BUFFER_KEPT_BYTES && OUTPUT_BUFFER_KEPT_BYTES <= OUTPUT_BYTES_KEPT);
    assert!(RECV_BUFFERS_AT_FIRST <= RECV_BUFFERS as u32);
    assert!(RECV_BUFFER_BYTES >= RECV_BUFFER_BYTES_RANGE.0 && RECV_BUFFER_BYTES <= RECV_BUFFER_BYTES_RANGE.1);
    assert!(OUTBOX_BYTES >= RECV_BUFFER_BYTES, "a reply to one full buffer has to fit");
    assert!(CQ_ENTRIES >= 2 * SQ_ENTRIES, "the kernel asks for at least as many; twice keeps overflow rare");
    assert!(SQ_ENTRIES.is_power_of_two() && SQ_ENTRIES <= SQ_ENTRIES_MAX && CQ_ENTRIES.is_power_of_two());
};
