//! How connections end, in fake time: heartbeats, idleness, the closing handshake, faults.
//!
//! Two [`Connection`]s, one of either role, are stepped against each other where both sides matter; elsewhere
//! one stands alone and the test is its peer. How bytes become messages is the part of `tests/protocol.rs`.

use std::collections::VecDeque;

use fastrand::Rng;
use ringsock::ws::connection::{Bounds, Connection, Due, Event, Timeouts};
use ringsock::ws::frame::{ControlFrame, Fault, Header, MAX_HEADER_BYTES, Opcode, Role, parse};
use ringsock::ws::mask::{self, Mask};

#[path = "common/seed.rs"]
mod seed;

const KEY: Mask = Mask::from_bytes([0x0F, 0x1E, 0x2D, 0x3C]);
const ROLES: [Role; 2] = [Role::Client, Role::Server];
const START_NS: u64 = 1_000_000;
const NEVER: Timeouts = Timeouts { idle_ns: None, ping_ns: None, close_ns: None };

fn connection(role: Role) -> Connection {
    Connection::new(role, 1 << 20, START_NS)
}

fn other(role: Role) -> Role {
    if role == Role::Client { Role::Server } else { Role::Client }
}

/// What a whole frame sent by `sender` says: its opcode and its payload.
fn read(frame: Option<ControlFrame>, sender: Role) -> Option<(Opcode, Vec<u8>)> {
    let frame = frame?;
    let (header, header_bytes) = parse(frame.as_bytes(), sender).unwrap().unwrap();
    let mut payload = frame.as_bytes()[header_bytes..].to_vec();
    assert_eq!(header.payload_bytes, payload.len() as u64);
    if let Some(key) = header.mask {
        mask::unmask(key, &mut payload);
    }
    Some((header.opcode, payload))
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A control frame from the peer of `role`.
fn from_peer(role: Role, opcode: Opcode, payload: &[u8]) -> ControlFrame {
    let key = (role == Role::Server).then_some(KEY);
    ControlFrame::new(opcode, payload, key)
}

/// The one event in a whole control frame from the peer.
fn hear(connection: &mut Connection, role: Role, opcode: Opcode, payload: &[u8]) -> Event {
    connection.next(from_peer(role, opcode, payload).as_bytes()).unwrap().expect("an event")
}

// ---------------------------------------------------------------------------------------------------------
// Time
// ---------------------------------------------------------------------------------------------------------

#[test]
fn pings_and_pongs_may_come_at_their_rate_for_ever_and_for_a_second_all_at_once() {
    const RATE: u32 = 8;
    const INTERVAL_NS: u64 = 1_000_000_000 / RATE as u64;
    for role in ROLES {
        let mut connection = connection(role);
        connection.bound(Bounds { control_frames_per_s: RATE, ..Bounds::default() });
        let come = |connection: &mut Connection, at_ns: u64, opcode| {
            connection.on_received(at_ns);
            connection.next(from_peer(role, opcode, b"?").as_bytes())
        };
        let mut now_ns = START_NS;
        for number in 0..100 {
            let opcode = [Opcode::Ping, Opcode::Pong][number % 2];
            come(&mut connection, now_ns, opcode).expect("in time");
            now_ns += INTERVAL_NS;
        }
        // A second's worth more is there, and no more than that after an hour of silence.
        for pause_ns in [0, 3_600_000_000_000] {
            now_ns += pause_ns + 1_000_000_000;
            for number in 0..RATE {
                come(&mut connection, now_ns, Opcode::Ping)
                    .unwrap_or_else(|_| panic!("ping {number} at once"));
            }
        }
        now_ns += INTERVAL_NS - 1;
        assert_eq!(come(&mut connection, now_ns, Opcode::Pong), Err(Fault::TooManyControlFrames));
        let goodbye = connection.fail(Fault::TooManyControlFrames, now_ns, KEY);
        let payload = close_payload(1008, &Fault::TooManyControlFrames.to_string());
        assert_eq!(read(goodbye, role), Some((Opcode::Close, payload)));
    }
}

#[test]
fn a_close_is_heard_however_many_control_frames_came_before() {
    for role in ROLES {
        let mut connection = connection(role);
        connection.bound(Bounds { control_frames_per_s: 1, ..Bounds::default() });
        connection.on_received(START_NS);
        hear(&mut connection, role, Opcode::Ping, b"");
        assert!(matches!(hear(&mut connection, role, Opcode::Close, b""), Event::Close { code: None, .. }));
    }
}

#[test]
fn without_bounds_control_frames_and_fragments_may_come_in_any_number() {
    for role in ROLES {
        let mut connection = connection(role);
        connection.bound(Bounds::default());
        for number in 0..1000 {
            hear(&mut connection, role, Opcode::Ping, b"");
            let key = (role == Role::Server).then_some(KEY);
            let opcode = if number == 0 { Opcode::Binary } else { Opcode::Continuation };
            let header = Header { fin: false, opcode, mask: key, payload_bytes: 0 };
            let mut bytes = [0; MAX_HEADER_BYTES];
            let header_bytes = header.encode(&mut bytes);
            connection.next(&bytes[..header_bytes]).unwrap().expect("an empty fragment");
        }
    }
}

#[test]
fn without_timeouts_nothing_is_ever_due() {
    for role in ROLES {
        let mut connection = connection(role);
        assert_eq!(connection.on_time(u64::MAX, &NEVER), Due::Later(None));
        connection.close(1000, "", START_NS, KEY).unwrap();
        assert_eq!(connection.on_time(u64::MAX, &NEVER), Due::Later(None));
    }
}

#[test]
fn timeouts_too_long_for_the_clock_are_never_due() {
    let timeouts = Timeouts { idle_ns: Some(u64::MAX), ping_ns: Some(u64::MAX), close_ns: Some(u64::MAX) };
    let mut connection = connection(Role::Server);
    assert_eq!(connection.on_time(u64::MAX - 1, &timeouts), Due::Later(Some(u64::MAX)));
}

#[test]
fn silence_is_pinged_and_a_ping_left_unanswered_ends_it() {
    let timeouts = Timeouts { ping_ns: Some(100), ..NEVER };
    for role in ROLES {
        let mut connection = connection(role);
        assert_eq!(connection.on_time(START_NS, &timeouts), Due::Later(Some(START_NS + 100)));
        assert_eq!(connection.on_time(START_NS + 99, &timeouts), Due::Later(Some(START_NS + 100)));
        assert_eq!(connection.on_time(START_NS + 130, &timeouts), Due::Ping);
        let ping = connection.ping(START_NS + 130, KEY);
        assert_eq!(read(ping, role), Some((Opcode::Ping, Vec::new())));
        // The answer has as long as the silence had, from when the ping was sent.
        assert_eq!(connection.on_time(START_NS + 130, &timeouts), Due::Later(Some(START_NS + 230)));
        assert_eq!(connection.on_time(START_NS + 229, &timeouts), Due::Later(Some(START_NS + 230)));
        assert_eq!(connection.on_time(START_NS + 230, &timeouts), Due::Abort);
    }
}

#[test]
fn any_byte_answers_a_ping() {
    let timeouts = Timeouts { ping_ns: Some(100), ..NEVER };
    for role in ROLES {
        let mut connection = connection(role);
        for round in 0..5 {
            let start_ns = START_NS + round * 150;
            assert_eq!(connection.on_time(start_ns + 100, &timeouts), Due::Ping, "round {round}");
            connection.ping(start_ns + 100, KEY).unwrap();
            connection.on_received(start_ns + 150);
            assert_eq!(connection.on_time(start_ns + 249, &timeouts), Due::Later(Some(start_ns + 250)));
        }
    }
}

#[test]
fn silence_that_is_too_long_is_idleness_whatever_was_pinged() {
    for ping_ns in [None, Some(300)] {
        let timeouts = Timeouts { idle_ns: Some(500), ping_ns, ..NEVER };
        let mut connection = connection(Role::Server);
        connection.on_received(START_NS + 50);
        connection.ping(START_NS + 350, KEY).unwrap();
        assert_eq!(connection.on_time(START_NS + 549, &timeouts), Due::Later(Some(START_NS + 550)));
        assert_eq!(connection.on_time(START_NS + 550, &timeouts), Due::Idle);
        connection.on_received(START_NS + 551);
        assert!(matches!(connection.on_time(START_NS + 551, &timeouts), Due::Later(Some(_))));
    }
}

#[test]
fn a_close_left_unanswered_ends_in_time_whatever_else_the_peer_says() {
    let timeouts = Timeouts { idle_ns: Some(10), ping_ns: Some(10), close_ns: Some(1000) };
    for role in ROLES {
        let mut connection = connection(role);
        connection.close(1001, "bye", START_NS + 7, KEY).unwrap();
        connection.on_received(START_NS + 500);
        assert_eq!(connection.on_time(START_NS + 600, &timeouts), Due::Later(Some(START_NS + 1007)));
        assert_eq!(connection.on_time(START_NS + 1007, &timeouts), Due::Abort);
    }
}

#[test]
fn an_answered_close_has_its_time_from_when_it_came() {
    // The time counted from the connection's start, or its last ping, so an old connection was aborted with
    // its answer unsent.
    let timeouts = Timeouts { close_ns: Some(1000), ..NEVER };
    for role in ROLES {
        let mut connection = connection(role);
        let came_ns = START_NS + 1_000_000;
        connection.on_received(came_ns);
        assert!(matches!(hear(&mut connection, role, Opcode::Close, b""), Event::Close { code: None, .. }));
        connection.reply_to_close(KEY).unwrap();
        connection.on_received(came_ns + 900);
        assert_eq!(connection.on_time(came_ns + 999, &timeouts), Due::Later(Some(came_ns + 1000)));
        assert_eq!(connection.on_time(came_ns + 1000, &timeouts), Due::Abort);
    }
}

#[test]
fn a_failed_connection_ends_in_time() {
    let timeouts = Timeouts { close_ns: Some(1000), ..NEVER };
    let mut connection = connection(Role::Server);
    connection.fail(Fault::NotMasked, START_NS + 5000, KEY).unwrap();
    assert_eq!(connection.on_time(START_NS + 5999, &timeouts), Due::Later(Some(START_NS + 6000)));
    assert_eq!(connection.on_time(START_NS + 6000, &timeouts), Due::Abort);
}

// ---------------------------------------------------------------------------------------------------------
// The closing handshake
// ---------------------------------------------------------------------------------------------------------

#[test]
fn a_close_is_answered_with_its_code_and_nothing_else() {
    for role in ROLES {
        for code in [None, Some(1000), Some(1001), Some(4321)] {
            let payload = code.map_or(Vec::new(), |code| close_payload(code, "because"));
            let mut connection = connection(role);
            let event = hear(&mut connection, role, Opcode::Close, &payload);
            assert_eq!(event, Event::Close { consumed: event.consumed(), code });
            let answer = connection.reply_to_close(KEY);
            let code_bytes = payload[..payload.len().min(2)].to_vec();
            assert_eq!(read(answer, role), Some((Opcode::Close, code_bytes)));
            assert_silent(&mut connection, role);
        }
    }
}

/// Closed: sends nothing more and listens to nothing more.
fn assert_silent(connection: &mut Connection, role: Role) {
    assert!(connection.is_closed() && !connection.is_open());
    assert!(connection.ping(START_NS, KEY).is_none());
    assert!(connection.pong(KEY).is_none());
    assert!(connection.close(1000, "", START_NS, KEY).is_none());
    assert!(connection.fail(Fault::ReservedBits, START_NS, KEY).is_none());
    for bytes in [from_peer(role, Opcode::Ping, b"?").as_bytes(), b"\xFF\xFF nonsense"] {
        assert_eq!(connection.next(bytes), Ok(None));
    }
}

#[test]
fn our_close_goes_out_once_and_the_answer_to_it_is_not_answered() {
    for role in ROLES {
        let mut connection = connection(role);
        let close = connection.close(1001, "maintenance", START_NS, KEY);
        assert_eq!(read(close, role), Some((Opcode::Close, close_payload(1001, "maintenance"))));
        assert!(connection.close(1000, "", START_NS, KEY).is_none());
        assert!(connection.ping(START_NS, KEY).is_none());
        assert!(!connection.is_closed());
        // What the peer sent before it saw the Close is still read, but a ping is no longer answered.
        assert!(matches!(hear(&mut connection, role, Opcode::Ping, b"?"), Event::Ping { .. }));
        assert!(connection.pong(KEY).is_none());
        let event = hear(&mut connection, role, Opcode::Close, &close_payload(1001, ""));
        assert!(matches!(event, Event::Close { code: Some(1001), .. }));
        assert!(connection.reply_to_close(KEY).is_none());
        assert_silent(&mut connection, role);
    }
}

#[test]
fn a_fault_is_answered_with_its_code_and_reason() {
    for role in ROLES {
        for fault in [Fault::ReservedBits, Fault::InvalidUtf8, Fault::MessageTooBig, Fault::CloseCode(1005)] {
            let mut connection = connection(role);
            let frame = connection.fail(fault, START_NS, KEY);
            let payload = close_payload(fault.close_code(), &fault.to_string());
            assert_eq!(read(frame, role), Some((Opcode::Close, payload)));
            assert_silent(&mut connection, role);
        }
    }
}

#[test]
fn a_fault_after_our_close_sends_no_second_one() {
    for role in ROLES {
        let mut connection = connection(role);
        connection.close(1000, "", START_NS, KEY).unwrap();
        assert!(connection.next(&[0xFF, 0xFF]).is_err());
        assert!(connection.fail(Fault::ReservedBits, START_NS, KEY).is_none());
        assert_silent(&mut connection, role);
    }
}

// ---------------------------------------------------------------------------------------------------------
// Client against server
// ---------------------------------------------------------------------------------------------------------

/// One end, and the bytes that are on their way to it.
struct End {
    role: Role,
    connection: Connection,
    arriving: VecDeque<u8>,
    /// Numbers of the messages sent and of those received.
    sent: Vec<u64>,
    received: Vec<u64>,
    partial: Vec<u8>,
    pings_sent: usize,
    pongs_received: usize,
    pongs_owed: usize,
    /// Codes of the Close frames that went out and that came in.
    close_sent: Option<u16>,
    close_received: Option<u16>,
}

impl End {
    fn new(role: Role) -> Self {
        Self {
            role,
            connection: connection(role),
            arriving: VecDeque::new(),
            sent: Vec::new(),
            received: Vec::new(),
            partial: Vec::new(),
            pings_sent: 0,
            pongs_received: 0,
            pongs_owed: 0,
            close_sent: None,
            close_received: None,
        }
    }

    /// Something that an open end may say at any time.
    fn speak(&mut self, random: &mut Rng, out: &mut VecDeque<u8>) {
        if !self.connection.is_open() {
            return;
        }
        match random.u8(..20) {
            0 => {
                let code = 3000 + u16::from(random.u8(..));
                out.extend(self.connection.close(code, "enough", START_NS, KEY).unwrap().as_bytes());
                self.close_sent = Some(code);
            }
            1..4 => {
                out.extend(self.connection.ping(START_NS, KEY).unwrap().as_bytes());
                self.pings_sent += 1;
            }
            _ => self.send_message(random, out),
        }
    }

    /// A message that is its number, sometimes in two fragments.
    fn send_message(&mut self, random: &mut Rng, out: &mut VecDeque<u8>) {
        let number = self.sent.len() as u64;
        self.sent.push(number);
        let digits = format!("{number:0width$}", width = random.usize(1..200));
        let cut = random.usize(..=digits.len());
        if random.bool() {
            self.send_frame(Opcode::Text, false, &digits.as_bytes()[..cut], out);
            self.send_frame(Opcode::Continuation, true, &digits.as_bytes()[cut..], out);
        } else {
            self.send_frame(Opcode::Text, true, digits.as_bytes(), out);
        }
    }

    fn send_frame(&self, opcode: Opcode, fin: bool, payload: &[u8], out: &mut VecDeque<u8>) {
        let mask = (self.role == Role::Client).then_some(KEY);
        let header = Header { fin, opcode, mask, payload_bytes: payload.len() as u64 };
        let mut head = [0; MAX_HEADER_BYTES];
        let head_bytes = header.encode(&mut head);
        let mut payload = payload.to_vec();
        if let Some(key) = mask {
            mask::unmask(key, &mut payload);
        }
        out.extend(&head[..head_bytes]);
        out.extend(payload);
    }

    /// Takes in up to `count` of the bytes on their way, and answers what has to be answered.
    fn listen(&mut self, count: usize, out: &mut VecDeque<u8>) {
        let count = count.min(self.arriving.len());
        let mut memory: Vec<u8> = self.arriving.drain(..count).collect();
        let mut at = 0;
        while let Some(event) = self.connection.next(&memory[at..]).expect("the other end keeps the rules") {
            let start = at;
            at += event.consumed();
            match event {
                Event::Data(data) => {
                    let from = start + data.chunk.header_bytes;
                    self.connection.accept(&data, &mut memory, from, from).expect("digits are text");
                    self.partial.extend_from_slice(&memory[from..at]);
                    if data.ends_message() {
                        let digits = String::from_utf8(std::mem::take(&mut self.partial)).unwrap();
                        self.received.push(digits.parse().unwrap());
                    }
                }
                Event::Ping { .. } => {
                    let pong = self.connection.pong(KEY);
                    self.pongs_owed += usize::from(pong.is_some());
                    out.extend(pong.iter().flat_map(ControlFrame::as_bytes));
                }
                Event::Pong { .. } => self.pongs_received += 1,
                Event::Close { code, .. } => {
                    self.close_received = code;
                    if let Some(answer) = self.connection.reply_to_close(KEY) {
                        self.close_sent = code;
                        out.extend(answer.as_bytes());
                    }
                }
            }
        }
    }
}

/// Both ends say and hear things in random order until both have closed.
fn converse(random: &mut Rng) -> [End; 2] {
    let mut ends = ROLES.map(End::new);
    while !ends.iter().all(|end| end.connection.is_closed()) {
        let index = random.usize(..2);
        let mut out = VecDeque::new();
        if random.u8(..3) == 0 {
            ends[index].speak(random, &mut out);
        } else {
            ends[index].listen(random.usize(1..60), &mut out);
        }
        ends[1 - index].arriving.extend(out);
    }
    ends
}

#[test]
fn client_and_server_close_cleanly_and_lose_nothing_said_before() {
    let random = &mut seed::seeded();
    let (mut crossed, mut answered) = (0, 0);
    for _ in 0..500 {
        let ends = converse(random);
        for (own, peer) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
            assert_eq!(own.role, other(peer.role));
            assert_eq!(own.received, peer.sent, "what the {:?} sent before its Close", peer.role);
            assert_eq!(own.close_received, peer.close_sent, "the {:?}'s code", peer.role);
            assert_eq!(own.pongs_received, peer.pongs_owed);
            assert!(own.pongs_received <= own.pings_sent);
            assert!(own.partial.is_empty() && own.arriving.is_empty());
        }
        let same_code = ends[0].close_sent == ends[1].close_sent;
        *(if same_code { &mut answered } else { &mut crossed }) += 1;
    }
    assert!(crossed > 0 && answered > 0, "{crossed} closes crossed, {answered} were answered");
}
