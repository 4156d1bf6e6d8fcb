//! One end of the pair: a connection of the crate's, what it said and what it heard.
//!
//! It speaks as the generator and the server do: a message frame by frame, or through a compressor; control frames between. It
//! answers pings and Closes by itself. What it said is kept as the other end should hear it, each with the place on the wire
//! where it ends.

use ringsock::ws::connection::{Connection, Due, Event, Timeouts};
use ringsock::ws::deflate::{Compression, Compressor, DeflateSpace, INFLATED_BYTES, InflateSpace};
use ringsock::ws::deflating::Deflating;
use ringsock::ws::extensions::DeflateParameters;
use ringsock::ws::frame::{ControlFrame, Fault, Header, MAX_HEADER_BYTES, Opcode, Role};
use ringsock::ws::mask::{self, Mask};

use super::oracle::Said;

const TIMEOUTS: Timeouts = Timeouts { idle_ns: Some(500), ping_ns: Some(100), close_ns: Some(300) };

/// What the handshake came to.
pub(super) struct Dialect {
    /// As the client and as the server understood it.
    deflate: Option<[DeflateParameters; 2]>,
    compression: Compression,
}

impl Dialect {
    /// Both ends agreed on compression, or neither did.
    pub(super) fn new(client: Option<DeflateParameters>, server: Option<DeflateParameters>, how: u8) -> Self {
        let compression = Compression { level: 1 + how % 9, threshold_bytes: usize::from(how) / 2 };
        Self { deflate: client.zip(server).map(|(client, server)| [client, server]), compression }
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.deflate.is_some()
    }
}

enum Talker {
    Plain(Box<Connection>),
    Deflated(Box<Deflated>),
}

struct Deflated {
    gate: Deflating,
    compressor: Compressor,
    out: DeflateSpace,
    inflated: InflateSpace,
}

/// A message of which a part was sent or heard.
#[derive(Default)]
struct Partial {
    text: bool,
    payload: Vec<u8>,
}

pub(super) struct End {
    role: Role,
    message_bytes_max: u64,
    talker: Talker,
    /// What is to go on the wire.
    pub(super) out: Vec<u8>,
    out_bytes: usize,
    /// What arrived before it gave up.
    received: Vec<u8>,
    key: u32,
    said: Vec<(Said, usize)>,
    saying: Option<Partial>,
    heard: Vec<Said>,
    hearing: Partial,
    told_fault: bool,
    /// It gave the connection up: the peer was silent for too long.
    is_gone: bool,
}

impl End {
    pub(super) fn new(role: Role, dialect: &Dialect, message_bytes_max: u64) -> Self {
        let talker = match &dialect.deflate {
            None => Talker::Plain(Box::new(Connection::new(role, message_bytes_max, 0))),
            Some([client, server]) => {
                let parameters = if role == Role::Client { client } else { server };
                Talker::Deflated(Box::new(Deflated {
                    gate: Deflating::new(role, parameters, message_bytes_max, 0),
                    compressor: Compressor::new(parameters, role, dialect.compression),
                    out: DeflateSpace::default(),
                    inflated: InflateSpace::default(),
                }))
            }
        };
        Self {
            role,
            message_bytes_max,
            talker,
            out: Vec::new(),
            out_bytes: 0,
            received: Vec::new(),
            key: 0x9E37_79B9,
            said: Vec::new(),
            saying: None,
            heard: Vec::new(),
            hearing: Partial::default(),
            told_fault: false,
            is_gone: false,
        }
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    pub(super) fn message_bytes_max(&self) -> u64 {
        self.message_bytes_max
    }

    /// It found a fault, and sent a Close for it.
    pub(super) fn told_fault(&self) -> bool {
        self.told_fault
    }

    /// For another reason than a Close that it heard.
    pub(super) fn has_stopped_listening(&self) -> bool {
        self.is_gone || matches!(self.heard.last(), Some(Said::Fault(_)))
    }

    /// Everything, and last what it heard of a message that did not end.
    pub(super) fn heard_in_all(&self) -> Vec<Said> {
        let mut all = self.heard.clone();
        let is_over = matches!(all.last(), Some(Said::Fault(_) | Said::Close(..)));
        if !is_over && !self.hearing.payload.is_empty() {
            all.push(Said::Unfinished { text: self.hearing.text, payload: self.hearing.payload.clone() });
        }
        all
    }

    fn connection(&mut self) -> &mut Connection {
        match &mut self.talker {
            Talker::Plain(connection) => connection,
            Talker::Deflated(deflated) => deflated.gate.connection(),
        }
    }

    fn next_key(&mut self) -> Mask {
        self.key = self.key.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
        Mask::from_bytes(self.key.to_be_bytes())
    }

    // ---- saying ----

    fn send(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.out_bytes += bytes.len();
    }

    fn send_control(&mut self, frame: Option<ControlFrame>, said: Said) {
        let Some(frame) = frame else { return };
        self.settle();
        self.send(frame.as_bytes());
        self.said.push((said, self.out_bytes));
    }

    /// A piece of a message: goes on with the one under way, whose kind stays what it was. `random`: it does not compress.
    pub(super) fn say(&mut self, text: bool, ends: bool, random: bool, length: usize, content: u8) {
        if self.is_gone || !self.connection().is_open() {
            return;
        }
        let begins = self.saying.is_none();
        let mut message = self.saying.take().unwrap_or(Partial { text, payload: Vec::new() });
        let mut piece = Vec::with_capacity(length + 3);
        let mut noise = fastrand::Rng::with_seed(u64::from(content));
        while piece.len() < length {
            match (message.text, random) {
                (true, _) => piece.extend(
                    "aß€🦀"
                        .chars()
                        .nth(usize::from(content) % 4)
                        .map(String::from)
                        .unwrap_or_default()
                        .bytes(),
                ),
                (false, true) => piece.push(noise.u8(..)),
                (false, false) => piece.push(content),
            }
        }
        message.payload.extend_from_slice(&piece);
        self.say_piece(begins, message.text, ends, &piece);
        if ends {
            let said = Said::Message { text: message.text, payload: message.payload };
            self.said.push((said, self.out_bytes));
        } else {
            self.saying = Some(message);
        }
    }

    fn say_piece(&mut self, begins: bool, text: bool, ends: bool, piece: &[u8]) {
        let key = self.next_key();
        let key = (self.role == Role::Client).then_some(key);
        match &mut self.talker {
            Talker::Deflated(deflated) => {
                deflated.compressor.write(piece, text, ends, &mut deflated.out, || key);
                self.send_compressed();
            }
            Talker::Plain(_) => {
                let opcode = match (begins, text) {
                    (false, _) => Opcode::Continuation,
                    (true, true) => Opcode::Text,
                    (true, false) => Opcode::Binary,
                };
                let mut header = [0; MAX_HEADER_BYTES];
                let payload_bytes = piece.len() as u64;
                let header_bytes = Header { fin: ends, opcode, mask: key, payload_bytes }.encode(&mut header);
                let mut payload = piece.to_vec();
                mask::unmask(key.unwrap_or(Mask::from_bytes([0; 4])), &mut payload);
                self.send(&header[..header_bytes]);
                self.send(&payload);
            }
        }
    }

    fn send_compressed(&mut self) {
        if let Talker::Deflated(deflated) = &mut self.talker {
            let frames = std::mem::take(&mut deflated.out.frames);
            self.send(&frames);
        }
    }

    /// As a thread does before it turns to another connection, and before a control frame.
    pub(super) fn settle(&mut self) {
        let text = self.saying.as_ref().is_some_and(|message| message.text);
        let key = self.next_key();
        let key = (self.role == Role::Client).then_some(key);
        let may_speak = !self.is_gone && self.connection().is_open();
        if let Talker::Deflated(deflated) = &mut self.talker {
            if may_speak {
                deflated.compressor.settle(text, &mut deflated.out, || key);
                self.send_compressed();
            } else {
                deflated.out.give_up();
            }
        }
    }

    pub(super) fn ping(&mut self, payload: &[u8]) {
        self.control(Opcode::Ping, payload, Said::Ping(payload.to_vec()));
    }

    pub(super) fn pong_unasked(&mut self, payload: &[u8]) {
        self.control(Opcode::Pong, payload, Said::Pong(payload.to_vec()));
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8], said: Said) {
        let key = self.next_key();
        let mask = (self.role == Role::Client).then_some(key);
        let may_speak = !self.is_gone && self.connection().is_open();
        self.send_control(may_speak.then(|| ControlFrame::new(opcode, payload, mask)), said);
    }

    pub(super) fn close(&mut self, code: u16, reason: &str, now_ns: u64) {
        if self.is_gone || !self.connection().is_open() {
            return;
        }
        self.settle();
        let key = self.next_key();
        let frame = self.connection().close(code, reason, now_ns, key);
        self.send_control(frame, close_said(code, reason));
    }

    pub(super) fn on_time(&mut self, now_ns: u64) {
        for _ in 0..4 {
            if self.is_gone {
                return;
            }
            let key = self.next_key();
            match self.connection().on_time(now_ns, &TIMEOUTS) {
                Due::Later(at_ns) => return assert!(at_ns.is_none_or(|at_ns| at_ns > now_ns)),
                Due::Ping => {
                    let frame = self.connection().ping(now_ns, key);
                    self.send_control(frame, Said::Ping(Vec::new()));
                }
                Due::Idle => self.close(1001, "silent", now_ns),
                Due::Abort => self.is_gone = true,
            }
        }
        panic!("something is due for ever");
    }

    // ---- hearing ----

    pub(super) fn on_bytes(&mut self, mut bytes: Vec<u8>, now_ns: u64) {
        if self.is_gone {
            return;
        }
        self.received.extend_from_slice(&bytes);
        let (was_closed, heard_before) = (self.connection().is_closed(), self.heard.len());
        self.connection().on_received(now_ns);
        if let Err(fault) = self.hear(&mut bytes) {
            self.heard.push(Said::Fault(fault));
            // What was begun ends here, as it would for whoever drops a message at a fault.
            self.settle();
            let key = self.next_key();
            let frame = self.connection().fail(fault, now_ns, key);
            self.told_fault = frame.is_some();
            self.send_control(frame, close_said(fault.close_code(), &fault.to_string()));
        }
        assert!(!was_closed || self.heard.len() == heard_before, "looked at bytes behind the end");
    }

    fn hear(&mut self, memory: &mut [u8]) -> Result<(), Fault> {
        let mut at = 0;
        loop {
            let event = match &mut self.talker {
                Talker::Plain(connection) => connection.next(&memory[at..])?,
                Talker::Deflated(deflated) => deflated.gate.next(&mut memory[at..])?,
            };
            let Some(event) = event else { return Ok(()) };
            let start = at;
            at += event.consumed();
            assert!(at <= memory.len(), "an event ends behind its bytes");
            match event {
                Event::Data(data) => {
                    self.hearing.text = data.text;
                    self.hear_data(&data, &mut memory[start..at])?;
                    if data.ends_message() {
                        let Partial { text, payload } = std::mem::take(&mut self.hearing);
                        self.heard.push(Said::Message { text, payload });
                    }
                }
                Event::Ping { .. } => self.on_ping(),
                Event::Pong { .. } => {
                    let payload = self.connection().control_payload().to_vec();
                    self.heard.push(Said::Pong(payload));
                }
                Event::Close { code, .. } => self.on_close(code),
            }
        }
    }

    fn hear_data(&mut self, data: &ringsock::ws::connection::Data, frame: &mut [u8]) -> Result<(), Fault> {
        let from = data.chunk.header_bytes;
        match &mut self.talker {
            Talker::Plain(connection) => {
                connection.accept(data, frame, from, 0)?;
                self.hearing.payload.extend_from_slice(&frame[..data.chunk.payload_bytes]);
            }
            Talker::Deflated(deflated) => {
                let payload = deflated.gate.unmask(data, frame, from);
                let mut rest = &frame[from..];
                loop {
                    let piece = deflated.gate.read(payload, rest, &mut deflated.inflated)?;
                    assert!(piece.bytes.len() <= INFLATED_BYTES.max(rest.len()), "more than its room");
                    self.hearing.payload.extend_from_slice(piece.bytes);
                    rest = &rest[piece.taken..];
                    if piece.is_last {
                        assert!(rest.is_empty(), "a payload is taken whole");
                        break;
                    }
                }
            }
        }
        assert!(self.hearing.payload.len() as u64 <= self.message_bytes_max, "more than the limit");
        Ok(())
    }

    fn on_ping(&mut self) {
        let payload = self.connection().control_payload().to_vec();
        self.heard.push(Said::Ping(payload.clone()));
        let key = self.next_key();
        let frame = self.connection().pong(key);
        self.send_control(frame, Said::Pong(payload));
    }

    fn on_close(&mut self, code: Option<u16>) {
        let payload = self.connection().control_payload().to_vec();
        self.heard.push(Said::Close(code, payload.clone()));
        self.settle();
        let key = self.next_key();
        let frame = self.connection().reply_to_close(key);
        assert!(self.connection().is_closed());
        self.send_control(frame, Said::Close(code, payload[..payload.len().min(2)].to_vec()));
    }

    /// Panics unless `heard`, all that `listener` heard, is what was said here, as far as no fault of the wire, which lies at
    /// `fault_at`, and no limit of the listener's stood in the way.
    pub(super) fn is_heard(&self, listener: &End, heard: &[Said], fault_at: Option<usize>) {
        let sound = self.said.iter().take_while(|(_, end)| fault_at.is_none_or(|at| *end <= at));
        let sound: Vec<&Said> = sound.map(|(said, _)| said).collect();
        let is_too_long = |payload: &[u8]| payload.len() as u64 > listener.message_bytes_max;
        let mut rest = heard.iter();
        for said in &sound {
            match (rest.next(), said) {
                (Some(heard), said) if heard == *said => {}
                (None, _) if listener.is_gone => return,
                (Some(Said::Unfinished { .. }), _) if listener.is_gone => return,
                // The first that is too long, or one said in the middle of it, is not heard any more.
                (Some(Said::Fault(Fault::MessageTooBig)), _) => {
                    let all = self.said.iter().map(|(said, _)| said);
                    let saying = self.saying.iter().map(|message| &message.payload[..]);
                    let messages = all.filter_map(|said| match said {
                        Said::Message { payload, .. } => Some(&payload[..]),
                        _ => None,
                    });
                    return assert!(messages.chain(saying).any(is_too_long), "no message was too long");
                }
                (heard, said) => panic!("said {said:#?}, heard {heard:#?}"),
            }
        }
        if fault_at.is_some() || listener.is_gone {
            return;
        }
        match (rest.next(), &self.saying) {
            (None, _) => {}
            (Some(Said::Unfinished { text, payload }), Some(saying)) => {
                assert!(
                    *text == saying.text && saying.payload.starts_with(payload),
                    "not what is being said"
                );
            }
            (Some(Said::Fault(Fault::MessageTooBig)), Some(saying)) => assert!(is_too_long(&saying.payload)),
            (Some(more), _) => panic!("nobody said {more:#?}"),
        }
        assert!(rest.next().is_none());
    }
}

/// A Close as it is heard: its reason is cut to what a control frame holds, at a character's end.
fn close_said(code: u16, reason: &str) -> Said {
    let kept = (0..=reason.len().min(123)).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
    Said::Close(Some(code), [&code.to_be_bytes(), &reason.as_bytes()[..kept]].concat())
}
