//! What holds of a client and a server that talk to each other, whatever they say and whatever becomes of it on the way. Used by
//! the fuzz target and by `tests/fuzz.rs`.
//!
//! The input is a script: first what each end offers and what it takes, then steps (see [`Talk::step`]). Without a fault each end
//! hears what the other said, all of it and in order. A wire's bytes may be flipped or cut off: then what was sent before the
//! fault is still heard; what comes after it is what a slow reading of the same bytes says, where they are not compressed; and a
//! fault that is found is told to the other end with its own close code.
//!
//! Memory is bounded by the script: at most [`STEPS_MAX`] steps of at most [`PIECE_BYTES_MAX`] each.

#[path = "pair_end.rs"]
mod end;

use ringsock::ws::extensions::{self, DeflateParameters};
use ringsock::ws::frame::Role;
use ringsock::ws::handshake::{Chosen, ClientHandshake, ServerHandshake};

use self::end::{Dialect, End};
use super::oracle::{self, Said};

const STEPS_MAX: usize = 300;
pub(super) const PIECE_BYTES_MAX: usize = 70_000;
/// The nonce is the peer's affair; any will do.
const NONCE: [u8; 16] = *b"the sample nonce";
const HEAD_BYTES_MAX: usize = 8192;

/// The input, read from the front; zeros behind its end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// A length: short ones exactly, and the lengths at which headers change and buffers end.
    fn length(&mut self) -> usize {
        match self.byte() {
            exact @ 0..=199 => usize::from(exact),
            200..=210 => 65_530 + usize::from(self.byte() % 12),
            211..=220 => PIECE_BYTES_MAX,
            long => usize::from(long - 220) * usize::from(self.byte()),
        }
    }
}

/// Panics when `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let mut script = Script(data);
    let Some(dialect) = open(&mut script) else { return };
    let limits = [u64::MAX, 1 << 20, 1000, 100];
    let chosen = script.byte();
    let mut talk = Talk {
        ends: [Role::Client, Role::Server].map(|role| {
            let index = if role == Role::Client { chosen } else { chosen >> 2 };
            End::new(role, &dialect, limits[usize::from(index % 4)])
        }),
        wires: [Wire::default(), Wire::default()],
        now_ns: 0,
    };
    for _ in 0..STEPS_MAX {
        if script.0.is_empty() {
            break;
        }
        talk.step(&mut script);
    }
    talk.finish();
    talk.judge(&dialect);
}

/// The opening handshake in both roles, over a wire that may flip a bit; how they talk from then on.
fn open(script: &mut Script<'_>) -> Option<Dialect> {
    let (what, cut) = (script.byte(), usize::from(script.byte()) + 1);
    let wishes = |byte: u8| DeflateParameters {
        server_no_context_takeover: byte & 1 != 0,
        client_no_context_takeover: byte & 2 != 0,
        server_max_window_bits: 9 + (byte >> 2) % 7,
        client_max_window_bits: 9 + (byte >> 5) % 7,
    };
    let (offered, ours) = (wishes(script.byte()), wishes(script.byte()));
    let mut client = ClientHandshake::new("localhost", 80, "/", NONCE, HEAD_BYTES_MAX).expect("valid");
    if what & 1 != 0 {
        client = client.offering_deflate(offered);
    }
    let flip = |bytes: &mut [u8], bit: u8, script: &mut Script<'_>| {
        if what & bit != 0 {
            let place = usize::from(script.byte()) * 4 + usize::from(script.byte() % 4);
            let length = bytes.len();
            bytes[place % length] ^= 1 << (script.byte() % 8);
        }
    };
    let mut request = client.request().to_vec();
    flip(&mut request, 4, script);
    let mut server = ServerHandshake::new(HEAD_BYTES_MAX);
    let mut answered = None;
    let mut refused = false;
    for piece in request.chunks(cut) {
        match server.on_bytes(piece) {
            Ok(None) => continue,
            Ok(Some(upgrade)) => {
                let agreed = extensions::agree(upgrade.extensions(), &ours);
                let agreed = agreed.ok().flatten().filter(|agreed| {
                    what & 2 != 0 && agreed.parameters.client_max_window_bits >= extensions::WINDOW_BITS_MIN
                });
                let answer = match &agreed {
                    Some(agreed) => upgrade
                        .accept_choosing(&Chosen { extensions: Some(&agreed.answer), ..Chosen::default() }),
                    None => upgrade.accept(),
                };
                answered = Some((answer, agreed.map(|agreed| agreed.parameters)));
            }
            Err(rejection) => {
                refused = true;
                assert!(client.on_bytes(&rejection.response()).is_err(), "a refusal opened a connection");
            }
        }
        break;
    }
    assert!(what & 4 != 0 || (answered.is_some() && !refused), "a sound request is not answered");
    let (answer, agreed) = answered?;
    let mut answer = answer.to_vec();
    flip(&mut answer, 8, script);
    for (index, piece) in answer.chunks(cut).enumerate() {
        match client.on_bytes(piece) {
            Ok(None) => {}
            Ok(Some(consumed_bytes)) => {
                assert!(index * cut + consumed_bytes <= answer.len());
                if what & 12 == 0 {
                    assert_eq!(client.deflate(), agreed, "the ends agreed on different things");
                }
                // What a flipped bit made them misunderstand is theirs to find out.
                let both = client.deflate().is_some() == agreed.is_some();
                return both.then(|| Dialect::new(client.deflate(), agreed, script.byte()));
            }
            Err(error) => {
                assert!(what & 12 != 0, "a sound answer is refused: {error}");
                return None;
            }
        }
    }
    assert!(what & 12 != 0, "a sound answer does not open");
    None
}

/// What is between two ends, in one direction.
#[derive(Default)]
struct Wire {
    /// All that was sent into it, as it arrives.
    bytes: Vec<u8>,
    /// So much of it has arrived.
    done_bytes: usize,
    /// Where the first fault lies.
    fault_at: Option<usize>,
    is_cut: bool,
}

impl Wire {
    fn take_in(&mut self, sent: &mut Vec<u8>) {
        if !self.is_cut {
            self.bytes.append(sent);
        }
        sent.clear();
    }
}

struct Talk {
    /// Client, server.
    ends: [End; 2],
    /// From each of them to the other.
    wires: [Wire; 2],
    now_ns: u64,
}

impl Talk {
    /// One step: who does it is one bit of its first byte, what it is the others.
    fn step(&mut self, script: &mut Script<'_>) {
        let code = script.byte();
        let who = usize::from(code & 1);
        let end = &mut self.ends[who];
        match code >> 1 & 15 {
            0..=3 => {
                let (kind, length) = (script.byte(), script.length());
                let content = script.byte();
                end.say(kind & 1 != 0, kind & 2 == 0, kind & 4 != 0, length, content);
            }
            4 => end.ping(&vec![script.byte(); usize::from(script.byte() % 126)]),
            5 => end.pong_unasked(&vec![script.byte(); usize::from(script.byte() % 126)]),
            6 => {
                let codes = [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999];
                let reason = "é".repeat(usize::from(script.byte() % 100));
                end.close(codes[usize::from(script.byte() % 8)], &reason, self.now_ns);
            }
            7 => self.flip(who, script),
            8 => {
                // What has not arrived by now never does.
                let wire = &mut self.wires[who];
                wire.fault_at = Some(wire.fault_at.unwrap_or(usize::MAX).min(wire.done_bytes));
                wire.bytes.truncate(wire.done_bytes);
                wire.is_cut = true;
            }
            9 => {
                self.now_ns += u64::from(script.byte());
                for end in &mut self.ends {
                    end.on_time(self.now_ns);
                }
            }
            10 => end.settle(),
            _ => {
                let length = script.length();
                self.deliver(who, length);
            }
        }
        self.collect();
    }

    /// Flips a bit of what is under way.
    fn flip(&mut self, who: usize, script: &mut Script<'_>) {
        let wire = &mut self.wires[who];
        let (place, bit) = (script.length(), script.byte() % 8);
        let under_way = wire.bytes.len() - wire.done_bytes;
        if under_way > 0 {
            let at = wire.done_bytes + place % under_way;
            wire.bytes[at] ^= 1 << bit;
            wire.fault_at = Some(wire.fault_at.unwrap_or(usize::MAX).min(at));
        }
    }

    fn collect(&mut self) {
        for (end, wire) in self.ends.iter_mut().zip(&mut self.wires) {
            wire.take_in(&mut end.out);
        }
    }

    fn deliver(&mut self, from: usize, length: usize) {
        let wire = &mut self.wires[from];
        let length = length.min(wire.bytes.len() - wire.done_bytes);
        let piece = wire.bytes[wire.done_bytes..][..length].to_vec();
        wire.done_bytes += length;
        self.ends[1 - from].on_bytes(piece, self.now_ns);
    }

    /// Everything arrives. Answers may bring answers, but none without end: nobody answers a pong or the second Close.
    fn finish(&mut self) {
        self.ends.iter_mut().for_each(End::settle);
        self.collect();
        for round in 0.. {
            assert!(round < 8, "they answer each other for ever");
            if self.wires.iter().all(|wire| wire.done_bytes == wire.bytes.len()) {
                break;
            }
            for from in 0..2 {
                self.deliver(from, usize::MAX);
                self.collect();
            }
        }
    }

    fn judge(&self, dialect: &Dialect) {
        for (from, wire) in self.wires.iter().enumerate() {
            let (speaker, listener) = (&self.ends[from], &self.ends[1 - from]);
            let heard = listener.heard_in_all();
            speaker.is_heard(listener, &heard, wire.fault_at);
            if !dialect.is_compressed() {
                let expected =
                    oracle::expected(listener.received(), speaker.role(), listener.message_bytes_max());
                assert!(heard == expected.said, "heard {heard:#?}, expected {:#?}", expected.said);
            }
            // Who finds a fault says so, if it still may speak, and is understood.
            let back = &self.wires[1 - from];
            if let Some(Said::Fault(fault)) = heard.last()
                && listener.told_fault()
                && back.fault_at.is_none()
                && !speaker.has_stopped_listening()
            {
                let said = speaker.heard_in_all();
                let told =
                    matches!(said.last(), Some(Said::Close(Some(code), _)) if *code == fault.close_code());
                assert!(told, "{fault:?} is answered with {:?}", said.last());
            }
        }
    }
}
