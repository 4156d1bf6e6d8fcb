//! `json`: requests are parsed where they were received, routed by their type, and answered with JSON.
//!
//! The protocol is that of the public websocket-shootout, whose clients work here:
//!
//! | a client says | what comes of it |
//! |---|---|
//! | `{"type":"echo","payload":…}` | the same message |
//! | `{"type":"broadcast","payload":…}` | `{"type":"broadcast","payload":…}` to every client of this path, the sender first, and to that `{"type":"broadcastResult","payload":…,"listenCount":N}` |
//! | anything else | `{"type":"error","message":"…"}`, which says what is wrong; the connection lives |
//!
//! A payload is any JSON, passed on as its source text; without one, it is null. Of a name that is there twice, the last one
//! counts.
//!
//! `simd-json` writes strings that have escapes over their source. So a message with a backslash is parsed in a copy, and any
//! other one, which parsing leaves as it is, where it lies; either way its source is there to be passed on. Where values stand in it
//! is told by the names around them, which the parser gives as parts of the source.
//!
//! Invariants: nesting takes no stack: the parser builds a tape in a loop, and only its first level is gone through. Memory that
//! parsing took is given back after a message that was long. Text is valid UTF-8 before it comes here.

use std::ops::Range;

use serde::Deserialize;
use simd_json::{Buffers, ErrorType, INPUT_PADDING, Node, Tape};

use super::Scenario;
use super::hub::Member;
use super::messages::{Message, append_frame};
use super::table::OURS;
use crate::engine::Io;
use crate::limits::{JSON_BYTES, JSON_DEPTH};
use crate::ws::frame::Opcode;

/// Its row of the table.
pub const ABOUT: Scenario = Scenario {
    name: "json",
    paths: &["/json"],
    what: "JSON is parsed, routed by \"type\" (echo, broadcast) and answered, as websocket-shootout's servers do.",
    needs: OURS,
    compresses: false,
    parameters: &[],
    metrics: "response and service times, as of echo; broadcasts published, heard and listened to",
    flags: &["broadcast-share", "fragments"],
};

/// What parsing a longer message took is given back.
const KEPT_MESSAGE_BYTES: usize = 64 * 1024;

/// What a message asks for; ranges are parts of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To be sent back.
    Echo,
    /// That everybody is told this, if there is anything.
    Broadcast(Option<Range<usize>>),
}

/// Why a message is not answered but with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A binary message.
    #[error("JSON comes in text messages, and this one was binary")]
    Binary,
    /// See [`JSON_BYTES`].
    #[error("a JSON message may be 1 MiB long, and this one was longer")]
    TooLong,
    /// Not JSON by RFC 8259.
    #[error("this is not JSON (RFC 8259)")]
    Malformed,
    /// See [`JSON_DEPTH`].
    #[error("JSON may be nested 1024 deep, and this was deeper")]
    TooDeep,
    /// An array, a string, a number.
    #[error("a message is an object, such as {{'type':'echo','payload':1}} with double quotes")]
    NotAnObject,
    /// No type, or one that is no string.
    #[error("the object has no 'type' that is a string: it is to be 'echo' or 'broadcast'")]
    NoType,
    /// Neither of the two.
    #[error("the 'type' is neither 'echo' nor 'broadcast', which is all there is")]
    UnknownType,
}

impl Refusal {
    /// The answer's text.
    pub fn reply(self) -> String {
        // What it says has nothing that JSON would escape; a test holds that.
        format!("{{\"type\":\"error\",\"message\":\"{self}\"}}")
    }
}

/// What parsing needs, for all connections of a thread.
pub struct Parser {
    buffers: Buffers,
    tape: Vec<Node<'static>>,
    copy: Vec<u8>,
}

impl Default for Parser {
    fn default() -> Self {
        Self { buffers: Buffers::with_max_depth(0, JSON_DEPTH), tape: Vec::new(), copy: Vec::new() }
    }
}

impl Parser {
    /// Reads the message in the first `byte_count` bytes of `memory`, all of which is afterwards what it was.
    ///
    /// # Errors
    /// Why it is no request.
    pub fn parse(&mut self, memory: &mut [u8], byte_count: usize) -> Result<Request, Refusal> {
        if byte_count > JSON_BYTES {
            return Err(Refusal::TooLong);
        }
        let routed = if memory[..byte_count].contains(&b'\\') {
            self.copy.clear();
            self.copy.extend_from_slice(&memory[..byte_count]);
            self.copy.resize(byte_count + INPUT_PADDING, b' ');
            let mut copy = std::mem::take(&mut self.copy);
            let routed = self.route(&mut copy, byte_count);
            self.copy = copy;
            routed
        } else {
            self.route(memory, byte_count)
        };
        let request = routed.map(|routed| routed.request(&memory[..byte_count]));
        if byte_count > KEPT_MESSAGE_BYTES {
            *self = Self::default();
        }
        request
    }

    fn route(&mut self, memory: &mut [u8], byte_count: usize) -> Result<Routed, Refusal> {
        let start = memory.as_ptr().addr();
        let mut tape = Tape(std::mem::take(&mut self.tape)).reset();
        let parsed = if memory.len() - byte_count >= INPUT_PADDING {
            simd_json::fill_tape_padded(memory, byte_count, &mut self.buffers, &mut tape)
        } else {
            simd_json::fill_tape(&mut memory[..byte_count], &mut self.buffers, &mut tape)
        };
        let routed = match parsed {
            Ok(()) => Routed::of(&tape.0, start),
            Err(error) if *error.error() == ErrorType::DepthLimitExceeded => Err(Refusal::TooDeep),
            Err(_) => Err(Refusal::Malformed),
        };
        self.tape = tape.reset().0;
        routed
    }
}

/// What the names of the first level say.
enum Routed {
    Echo,
    Broadcast(Option<Named>),
}

/// Where a value stands: behind its name, and before the next one.
struct Named {
    name_at: usize,
    next_name_at: Option<usize>,
}

impl Routed {
    /// Goes through the first level of an object whose text begins at address `start`.
    fn of(tape: &[Node<'_>], start: usize) -> Result<Self, Refusal> {
        let [Node::Object { len, .. }, nodes @ ..] = tape else { return Err(Refusal::NotAnObject) };
        let (mut kind, mut payload) = (None, None::<Named>);
        let (mut at, mut is_behind_payload) = (0, false);
        for _ in 0..*len {
            let [Node::String(name), value, ..] = nodes[at..] else { unreachable!("a name and its value") };
            let name_at = name.as_ptr().addr() - start;
            if std::mem::take(&mut is_behind_payload)
                && let Some(payload) = &mut payload
            {
                payload.next_name_at = Some(name_at);
            }
            match name {
                "type" => kind = Some(value),
                "payload" => {
                    payload = Some(Named { name_at, next_name_at: None });
                    is_behind_payload = true;
                }
                _ => {}
            }
            at += 2 + match value {
                Node::Object { count, .. } | Node::Array { count, .. } => count,
                Node::String(_) | Node::Static(_) => 0,
            };
        }
        match kind {
            Some(Node::String("echo")) => Ok(Self::Echo),
            Some(Node::String("broadcast")) => Ok(Self::Broadcast(payload)),
            Some(Node::String(_)) => Err(Refusal::UnknownType),
            _ => Err(Refusal::NoType),
        }
    }

    fn request(self, source: &[u8]) -> Request {
        match self {
            Self::Echo => Request::Echo,
            Self::Broadcast(payload) => Request::Broadcast(payload.map(|named| named.value_in(source))),
        }
    }
}

impl Named {
    /// Where its value is in the source, which is known to be JSON.
    fn value_in(&self, source: &[u8]) -> Range<usize> {
        let mut colon_at = self.name_at;
        while source[colon_at] != b'"' {
            colon_at += if source[colon_at] == b'\\' { 2 } else { 1 };
        }
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let skip = |at: usize| at + source[at..].iter().take_while(|byte| is_space(byte)).count();
        let start = skip(skip(colon_at + 1) + 1);
        // What follows it is a comma and the next name's quote, or the brace that ends it all.
        let skip_back = |at: usize| at - source[..at].iter().rev().take_while(|byte| is_space(byte)).count();
        let end = skip_back(self.next_name_at.map_or(source.len(), |name_at| name_at - 1));
        start..skip_back(end - 1)
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was sent back.
    Echo,
    /// It was published.
    Broadcast,
    /// It was answered with an error.
    Error,
}

/// Answers a message of `member`'s.
pub fn answer(parser: &mut Parser, member: &Member, io: &mut Io<'_>, mut message: Message<'_>) -> Answer {
    let is_text = message.is_text;
    let (memory, byte_count) = message.payload_and_rest();
    let request = if is_text { parser.parse(memory, byte_count) } else { Err(Refusal::Binary) };
    match request {
        Ok(Request::Echo) => {
            message.echo(io);
            Answer::Echo
        }
        Ok(Request::Broadcast(payload)) => {
            let payload = payload.map_or(&b"null"[..], |range| &memory[range]);
            broadcast(member, io, payload);
            Answer::Broadcast
        }
        Err(refusal) => {
            io.write(|out| append_frame(Opcode::Text, &[refusal.reply().as_bytes()], out));
            Answer::Error
        }
    }
}

fn broadcast(member: &Member, io: &mut Io<'_>, payload: &[u8]) {
    let parts = [b"{\"type\":\"broadcast\",\"payload\":", payload, b"}"];
    io.send(member.publish_from(io.id(), Opcode::Text, &parts));
    let count = format!(",\"listenCount\":{}}}", member.listener_count());
    let parts = [b"{\"type\":\"broadcastResult\",\"payload\":", payload, count.as_bytes()];
    io.write(|out| append_frame(Opcode::Text, &parts, out));
}

// ---- the client's side ----

/// What a client of ours asks, message by message; what it is answered says which it was the answer to.
#[derive(Debug, Clone, Copy)]
pub struct Requests {
    /// `echo` or `broadcast`.
    kind: &'static str,
    message_bytes: usize,
}

/// What a server said, and about which message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The answer to an echo.
    Echo(u64),
    /// Somebody's broadcast.
    Broadcast(u64),
    /// The answer to a broadcast, with how many there were to hear it, if the server says.
    BroadcastResult(u64, Option<u64>),
    /// An error, in its words.
    Error(String),
}

/// What a server said, in its own words: to be held against what was asked, see [`Said::reply_to`].
#[derive(Debug, Deserialize)]
pub struct Said<'t> {
    #[serde(borrow)]
    r#type: std::borrow::Cow<'t, str>,
    #[serde(borrow)]
    payload: Option<SaidPayload<'t>>,
    #[serde(alias = "listenerCount", rename = "listenCount")]
    listen_count: Option<u64>,
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SaidPayload<'t> {
    number: u64,
    #[serde(borrow)]
    filling: std::borrow::Cow<'t, str>,
}

impl<'t> Said<'t> {
    /// Reads a message's text; `None` where no server of this protocol says such a thing.
    pub fn read(text: &'t [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The number of the message that it is about, if it has one.
    pub fn number(&self) -> Option<u64> {
        self.payload.as_ref().map(|payload| payload.number)
    }

    /// What it is to a client that asks so; `None` where it is nothing, or says something else than it should.
    pub fn reply_to(&self, requests: &Requests) -> Option<Reply> {
        if self.r#type == "error" {
            return Some(Reply::Error(self.message.clone().unwrap_or_default()));
        }
        let SaidPayload { number, filling } = self.payload.as_ref()?;
        let is_right = filling.len() == requests.filling_bytes(*number)
            && filling.bytes().all(|byte| byte == letter(*number));
        match self.r#type.as_ref() {
            _ if !is_right => None,
            "echo" if requests.kind == "echo" => Some(Reply::Echo(*number)),
            "broadcast" => Some(Reply::Broadcast(*number)),
            "broadcastResult" if requests.kind == "broadcast" => {
                Some(Reply::BroadcastResult(*number, self.listen_count))
            }
            _ => None,
        }
    }
}

impl Requests {
    /// Echoes, each `message_bytes` long or as short as can be.
    pub const fn echo(message_bytes: usize) -> Self {
        Self { kind: "echo", message_bytes }
    }

    /// Broadcasts, likewise.
    pub const fn broadcast(message_bytes: usize) -> Self {
        Self { kind: "broadcast", message_bytes }
    }

    /// Appends the text of message `number`.
    pub fn compose(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head(number).as_bytes());
        out.resize(out.len() + self.filling_bytes(number), letter(number));
        out.extend_from_slice(END);
    }

    /// Reads what a server said; `None` where it is no answer to anything that was asked.
    pub fn read(&self, text: &[u8]) -> Option<Reply> {
        Said::read(text)?.reply_to(self)
    }

    fn head(&self, number: u64) -> String {
        format!("{{\"type\":\"{}\",\"payload\":{{\"number\":{number},\"filling\":\"", self.kind)
    }

    fn filling_bytes(&self, number: u64) -> usize {
        self.message_bytes.saturating_sub(self.head(number).len() + END.len())
    }
}

const END: &[u8] = b"\"}}";

fn letter(number: u64) -> u8 {
    b'a' + (number % 26) as u8
}

#[cfg(test)]
mod tests;
