//! One WebSocket connection after its opening handshake: open → closing → closed.
//!
//! Order of calls: [`Connection::next`] until it gives `None`, for each batch of bytes that arrive;
//! [`Connection::accept`] for each piece of data it reports, before the next call. Frames to send are
//! returned, never queued here. Time comes in as nanoseconds of any monotonic clock.
//!
//! Invariants: after a Close frame was sent nothing else may be ([`Connection::is_open`] is false), and after
//! a fault no further byte is looked at. Data is never assembled: a message of any length costs no memory.

use super::decoder::{Chunk, Decoder};
use super::frame::{ControlFrame, Fault, MAX_CONTROL_BYTES, Opcode, Role, close_code};
use super::mask::{self, Mask};
use super::utf8::Utf8;

/// Something a peer sent. It ends `consumed()` bytes into the bytes it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A piece of a message; pass it to [`Connection::accept`].
    Data(Data),
    /// A ping; answer with a pong of the same [`Connection::control_payload`].
    Ping {
        /// Bytes of input up to the frame's end.
        consumed: usize,
    },
    /// A pong, asked for or not.
    Pong {
        /// Bytes of input up to the frame's end.
        consumed: usize,
    },
    /// A Close frame; nothing more will be read. [`Connection::reply_to_close`] has the answer, if one is due.
    Close {
        /// Bytes of input up to the frame's end.
        consumed: usize,
        /// The peer's close code, where it gave one.
        code: Option<u16>,
    },
}

impl Event {
    /// Bytes of the input that this event took.
    #[inline(always)]
    pub fn consumed(&self) -> usize {
        match self {
            Self::Data(data) => data.chunk.header_bytes + data.chunk.payload_bytes,
            Self::Ping { consumed } | Self::Pong { consumed } | Self::Close { consumed, .. } => *consumed,
        }
    }
}

/// A piece of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "text must be validated: pass the piece to Connection::accept"]
pub struct Data {
    /// Where in the input, and of which frame.
    pub chunk: Chunk,
    /// The message is text.
    pub text: bool,
}

impl Data {
    /// This piece ends its message.
    #[inline(always)]
    pub fn ends_message(&self) -> bool {
        self.chunk.last && self.chunk.fin
    }

    /// This piece begins its message.
    #[inline(always)]
    pub fn begins_message(&self) -> bool {
        self.chunk.first && self.chunk.opcode != Opcode::Continuation
    }
}

/// When a connection is given up, in nanoseconds; `None` is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// Without a byte from the peer for this long, the connection is closed.
    pub idle_ns: Option<u64>,
    /// Without a byte from the peer for this long, it is pinged; without one for as long again, dropped.
    pub ping_ns: Option<u64>,
    /// How long a closing handshake may take before the connection is dropped.
    pub close_ns: Option<u64>,
}

/// What a connection puts up with beside the length of messages; 0 is no bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// Fragments of one message, empty ones too.
    pub fragments: u32,
    /// Pings and pongs a second, and as many at once after a second without.
    pub control_frames_per_s: u32,
}

/// What [`Connection::on_time`] found due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this instant (ns); `None`: nothing at all.
    Later(Option<u64>),
    /// Send an empty ping.
    Ping,
    /// The peer was silent for too long: close.
    Idle,
    /// The peer left a ping or our Close unanswered: drop the connection.
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// We sent Close and await the peer's.
    CloseSent,
    /// We sent Close for the peer's fault, and listen no more.
    Failed,
    /// Both Close frames have gone, or the peer's has come and ours is being sent.
    Closed,
}

/// What a whole control frame says.
enum Signal {
    Ping,
    Pong,
    Close(Option<u16>),
}

/// What only connections with control frames or fragmented messages need, which most are without.
struct Seldom {
    /// Payload of the last control frame.
    control_payload: [u8; MAX_CONTROL_BYTES],
    control_bytes: u8,
    /// When all pings and pongs so far would have come, had they come no faster than they may.
    due_ns: u64,
    /// Continuation frames of the message under way.
    continuation_count: u32,
}

/// How far ahead of their rate control frames may come: as many at once as in a second.
const CONTROL_BURST_NS: u64 = 1_000_000_000;

impl Seldom {
    fn boxed() -> Box<Self> {
        let control_payload = [0; MAX_CONTROL_BYTES];
        Box::new(Self { control_payload, control_bytes: 0, due_ns: 0, continuation_count: 0 })
    }

    /// A ping or pong came at `now_ns`: a bucket that `interval_ns` fill by one and a second to the brim.
    fn count_control(&mut self, now_ns: u64, interval_ns: u32) -> Result<(), Fault> {
        self.due_ns = self.due_ns.max(now_ns) + u64::from(interval_ns);
        if self.due_ns > now_ns + CONTROL_BURST_NS { Err(Fault::TooManyControlFrames) } else { Ok(()) }
    }
}

/// See the module's text.
pub struct Connection {
    decoder: Decoder,
    state: State,
    in_message: bool,
    in_text: bool,
    utf8: Utf8,
    pinged: bool,
    seldom: Option<Box<Seldom>>,
    /// How many continuation frames a message may have.
    continuation_count_max: u32,
    /// From one ping or pong to the next, on average; 0: no bound.
    control_interval_ns: u32,
    message_bytes: u64,
    message_bytes_max: u64,
    last_received_ns: u64,
    /// When the ping or the Close that awaits an answer was sent; once closed, when the peer's Close came. 0 while nothing does.
    asked_ns: u64,
}

impl Connection {
    /// An open connection whose own end is `role`.
    pub fn new(role: Role, message_bytes_max: u64, now_ns: u64) -> Self {
        let peer = match role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        Self {
            decoder: Decoder::new(peer),
            state: State::Open,
            in_message: false,
            in_text: false,
            utf8: Utf8::default(),
            pinged: false,
            seldom: None,
            continuation_count_max: u32::MAX,
            control_interval_ns: 0,
            message_bytes: 0,
            message_bytes_max,
            last_received_ns: now_ns,
            asked_ns: 0,
        }
    }

    /// Has the connection put up with this much, of what comes from now on.
    pub fn bound(&mut self, bounds: Bounds) {
        // The first fragment is no continuation; without a bound, one less than none is as many as can be counted.
        self.continuation_count_max = bounds.fragments.wrapping_sub(1);
        self.control_interval_ns = 1_000_000_000_u32.checked_div(bounds.control_frames_per_s).unwrap_or(0);
    }

    /// Whether messages may still be sent.
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The closing handshake is complete, or the peer failed: once what is queued has been sent, the
    /// transport may be closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Failed)
    }

    /// The peer has sent part of a frame, and the rest is to come.
    #[inline(always)]
    pub fn in_frame(&self) -> bool {
        !self.decoder.at_frame_boundary()
    }

    /// A message of `payload_bytes` that comes whole and now changes nothing here: it can be answered without
    /// [`Connection::next`].
    #[inline(always)]
    pub(super) fn takes_whole_messages(&self, payload_bytes_max: u64) -> bool {
        self.is_open() && !self.in_message && !self.in_frame() && payload_bytes_max <= self.message_bytes_max
    }

    /// Judges a text message that came whole.
    #[inline(always)]
    pub(super) fn check_whole_text(&mut self, text: &[u8]) -> Result<(), Fault> {
        self.check_text(text, true)
    }

    /// Since when a peer that has sent part of a frame keeps the rest to itself.
    pub fn stuck_since_ns(&self) -> Option<u64> {
        self.in_frame().then_some(self.last_received_ns)
    }

    /// Bytes arrived from the peer: it is alive.
    #[inline(always)]
    pub fn on_received(&mut self, now_ns: u64) {
        self.last_received_ns = now_ns;
        self.pinged = false;
    }

    /// The peer was seen to be alive at `at_ns`, though nothing came from it.
    pub fn on_alive(&mut self, at_ns: u64) {
        if at_ns > self.last_received_ns {
            self.on_received(at_ns);
        }
    }

    /// The next event in `bytes`; `None` where they hold no further one, and then all of them are taken in.
    ///
    /// # Errors
    /// The peer broke the protocol: answer with [`Connection::fail`].
    #[inline(always)]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Event>, Fault> {
        if self.is_closed() {
            return Ok(None);
        }
        let Some(chunk) = self.decoder.next(bytes)? else { return Ok(None) };
        if chunk.opcode.is_control() {
            let consumed = chunk.header_bytes + chunk.payload_bytes;
            // Passed and returned in parts for the same reason as in the decoder: `chunk` and the event stay in
            // registers where they are data's.
            return Ok(self.on_control(Chunk { ..chunk }, bytes)?.map(|signal| match signal {
                Signal::Ping => Event::Ping { consumed },
                Signal::Pong => Event::Pong { consumed },
                Signal::Close(code) => Event::Close { consumed, code },
            }));
        }
        if chunk.first {
            self.on_frame(&chunk)?;
        }
        let text = self.in_text;
        if chunk.last && chunk.fin {
            self.in_message = false;
        }
        Ok(Some(Event::Data(Data { chunk, text })))
    }

    /// Fragmentation and size, judged when a data frame begins (RFC 6455, 5.4).
    #[inline(always)]
    fn on_frame(&mut self, chunk: &Chunk) -> Result<(), Fault> {
        if chunk.opcode == Opcode::Continuation {
            if !self.in_message {
                return Err(Fault::NothingToContinue);
            }
            self.on_continuation(chunk.fin)?;
        } else {
            if self.in_message {
                return Err(Fault::MessageInterrupted);
            }
            self.in_message = true;
            self.in_text = chunk.opcode == Opcode::Text;
            self.message_bytes = 0;
        }
        self.message_bytes = self.message_bytes.saturating_add(chunk.frame_bytes);
        if self.message_bytes > self.message_bytes_max { Err(Fault::MessageTooBig) } else { Ok(()) }
    }

    /// Out of line, and counted back to 0 where a fragmented message ends rather than where any begins: what is not
    /// fragmented passes as if there were no limit.
    #[inline(never)]
    fn on_continuation(&mut self, fin: bool) -> Result<(), Fault> {
        let count = &mut self.seldom.get_or_insert_with(Seldom::boxed).continuation_count;
        *count = count.saturating_add(1);
        if *count > self.continuation_count_max {
            return Err(Fault::TooManyFragments);
        }
        if fin {
            *count = 0;
        }
        Ok(())
    }

    /// Unmasks the payload of `data`, `memory[from..]`, to `memory[to..]` in one pass, and validates text.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`] as soon as the text so far cannot become valid.
    ///
    /// # Panics
    /// If `to > from`, or the payload reaches beyond `memory`.
    #[inline(always)]
    pub fn accept(&mut self, data: &Data, memory: &mut [u8], from: usize, to: usize) -> Result<(), Fault> {
        let length = data.chunk.payload_bytes;
        match data.chunk.mask {
            Some(key) => mask::unmask_down(key, memory, from, length, to),
            None if from == to => {}
            None => memory.copy_within(from..from + length, to),
        }
        if data.text { self.check_text(&memory[to..to + length], data.ends_message()) } else { Ok(()) }
    }

    /// Judges a piece of a text message, unmasked and inflated.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`] as soon as the text so far cannot become valid.
    #[inline]
    pub(super) fn check_text(&mut self, text: &[u8], ends_message: bool) -> Result<(), Fault> {
        self.utf8.push(text).map_err(|_| Fault::InvalidUtf8)?;
        if ends_message { self.utf8.finish().map_err(|_| Fault::InvalidUtf8) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn on_control(&mut self, chunk: Chunk, bytes: &[u8]) -> Result<Option<Signal>, Fault> {
        if self.is_heartbeat(&chunk) {
            return Ok(Some(Signal::Pong));
        }
        let seldom = self.seldom.get_or_insert_with(Seldom::boxed);
        if chunk.first {
            seldom.control_bytes = 0;
            // A Close is the last of them anyway.
            if chunk.opcode != Opcode::Close {
                seldom.count_control(self.last_received_ns, self.control_interval_ns)?;
            }
        }
        let consumed = chunk.header_bytes + chunk.payload_bytes;
        let held = usize::from(seldom.control_bytes);
        let place = &mut seldom.control_payload[held..held + chunk.payload_bytes];
        place.copy_from_slice(&bytes[chunk.header_bytes..consumed]);
        if let Some(key) = chunk.mask {
            mask::unmask(key, place);
        }
        seldom.control_bytes += chunk.payload_bytes as u8;
        if !chunk.last {
            return Ok(None);
        }
        Ok(Some(match chunk.opcode {
            Opcode::Ping => Signal::Ping,
            Opcode::Pong => Signal::Pong,
            _ => Signal::Close(self.on_close()?),
        }))
    }

    /// Whether this is the answer to our ping, which is empty: nothing is kept of it, so that a crowd which is idle but for
    /// heartbeats stays as small as it was.
    fn is_heartbeat(&mut self, chunk: &Chunk) -> bool {
        let is_answer = chunk.opcode == Opcode::Pong && chunk.frame_bytes == 0;
        if !is_answer || self.asked_ns == 0 || !self.is_open() {
            return false;
        }
        self.asked_ns = 0;
        if let Some(seldom) = &mut self.seldom {
            seldom.control_bytes = 0;
        }
        true
    }

    /// RFC 6455, 5.5.1 and 7.1.5.
    fn on_close(&mut self) -> Result<Option<u16>, Fault> {
        let code = match self.control_payload() {
            [] => None,
            [_] => return Err(Fault::CloseTruncated),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !close_code::may_be_sent(code) {
                    return Err(Fault::CloseCode(code));
                }
                simdutf8::basic::from_utf8(reason).map_err(|_| Fault::InvalidUtf8)?;
                Some(code)
            }
        };
        Ok(code)
    }

    /// Payload of the control frame that was reported last, unmasked.
    pub fn control_payload(&self) -> &[u8] {
        self.seldom
            .as_ref()
            .map_or(&[], |seldom| &seldom.control_payload[..usize::from(seldom.control_bytes)])
    }

    /// The pong for the ping that was reported last; `None` once we are closing. `key` masks it where our end
    /// is the client.
    pub fn pong(&self, key: Mask) -> Option<ControlFrame> {
        let reply = || ControlFrame::new(Opcode::Pong, self.control_payload(), self.mask_with(key));
        self.is_open().then(reply)
    }

    /// An empty ping, for heartbeats.
    pub fn ping(&mut self, now_ns: u64, key: Mask) -> Option<ControlFrame> {
        if !self.is_open() {
            return None;
        }
        self.pinged = true;
        self.asked_ns = now_ns;
        Some(ControlFrame::new(Opcode::Ping, &[], self.mask_with(key)))
    }

    /// After [`Event::Close`]: the Close that answers it with the same code, unless ours went first.
    /// The connection is closed then.
    pub fn reply_to_close(&mut self, key: Mask) -> Option<ControlFrame> {
        let ours_is_due = self.is_open();
        self.state = State::Closed;
        self.asked_ns = self.last_received_ns;
        let payload = self.control_payload();
        let code = &payload[..payload.len().min(2)];
        ours_is_due.then(|| ControlFrame::new(Opcode::Close, code, self.mask_with(key)))
    }

    /// Begins the closing handshake; `None` where it has begun already.
    pub fn close(&mut self, code: u16, reason: &str, now_ns: u64, key: Mask) -> Option<ControlFrame> {
        if !self.is_open() {
            return None;
        }
        self.state = State::CloseSent;
        self.asked_ns = now_ns;
        Some(ControlFrame::close(code, reason, self.mask_with(key)))
    }

    /// Fails the connection (RFC 6455, 7.1.7): the Close frame to send, unless one went already. No further
    /// byte of the peer's is looked at.
    pub fn fail(&mut self, fault: Fault, now_ns: u64, key: Mask) -> Option<ControlFrame> {
        let frame = self.close(fault.close_code(), &fault.to_string(), now_ns, key);
        self.state = State::Failed;
        frame
    }

    /// What is due at `now_ns`. Ask again when the time it names has come, and after each answer but `Later`.
    pub fn on_time(&mut self, now_ns: u64, timeouts: &Timeouts) -> Due {
        let after = |start_ns: u64, delay_ns: Option<u64>| delay_ns.map(|ns| start_ns.saturating_add(ns));
        let is_due = |at_ns: Option<u64>| at_ns.is_some_and(|at| at <= now_ns);
        if self.state != State::Open {
            let abort_at = after(self.asked_ns, timeouts.close_ns);
            return if is_due(abort_at) { Due::Abort } else { Due::Later(abort_at) };
        }
        let idle_at = after(self.last_received_ns, timeouts.idle_ns);
        let asked_or_received_ns = if self.pinged { self.asked_ns } else { self.last_received_ns };
        let ping_at = after(asked_or_received_ns, timeouts.ping_ns);
        if is_due(idle_at) {
            return Due::Idle;
        }
        if is_due(ping_at) {
            return if self.pinged { Due::Abort } else { Due::Ping };
        }
        Due::Later([idle_at, ping_at].into_iter().flatten().min())
    }

    fn mask_with(&self, key: Mask) -> Option<Mask> {
        // Who hears from a server is a client, and clients mask.
        match self.decoder.sender() {
            Role::Server => Some(key),
            Role::Client => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Empty, from a client.
    const PONG: [u8; 6] = [0x8A, 0x80, 1, 2, 3, 4];

    #[test]
    fn nothing_is_kept_of_heartbeats_and_every_other_pong_is_counted() {
        let mut connection = Connection::new(Role::Server, 1 << 20, 1);
        connection.bound(Bounds { fragments: 0, control_frames_per_s: 1 });
        let pong = Ok(Some(Event::Pong { consumed: PONG.len() }));
        for now_ns in (1_000..10_000).step_by(1_000) {
            connection.ping(now_ns, Mask::from_bytes([0; 4])).unwrap();
            connection.on_received(now_ns + 10);
            assert_eq!(connection.next(&PONG), pong);
            assert!(connection.seldom.is_none());
        }
        assert_eq!(connection.next(&PONG), pong, "unasked, and within the bound");
        assert_eq!(connection.next(&PONG), Err(Fault::TooManyControlFrames));
    }
}
