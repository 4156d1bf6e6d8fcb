//! A client that agreed on compression: what it says compressed comes back, however the bytes are cut; what it may not say is
//! named by its close code; and answers many times larger than what they answer wait for it to read.

use std::io::{Read, Write};
use std::net::Shutdown;

use ringsock::engine::{Config, EngineKind};
use ringsock::scenario::serve::Limits;
use ringsock::ws::connection::Event;
use ringsock::ws::deflate::{Compression, Compressor, DeflateSettings, DeflateSpace, InflateSpace};
use ringsock::ws::deflating::Deflating;
use ringsock::ws::extensions::DeflateParameters;
use ringsock::ws::frame::{Opcode, Role};
use ringsock::ws::handshake::ClientHandshake;
use ringsock::ws::mask::Mask;

use crate::listener::Heard;
use crate::peer::tcp;
use crate::server::{Hears, Said, client, goodbye, hold_on, text};
use crate::serving::{Serving, config, limits};

crate::conversations!("server":
    compressed_messages_come_back_however_they_are_cut,
    large_compressed_messages_come_back,
    breaches_on_a_connection_that_compresses_are_named_by_their_close_code,
    a_bomb_is_closed_with_1009,
    a_client_that_offers_nothing_is_answered_as_ever,
    answers_many_times_larger_than_the_requests_wait_for_the_reader,
);

const KEY: Mask = Mask::from_bytes([0x12, 0x34, 0x56, 0x78]);

const fn parameters(no_takeover: bool, window_bits: u8) -> DeflateParameters {
    DeflateParameters {
        server_no_context_takeover: no_takeover,
        client_no_context_takeover: no_takeover,
        server_max_window_bits: window_bits,
        client_max_window_bits: window_bits,
    }
}

fn settings(parameters: DeflateParameters, threshold_bytes: usize) -> DeflateSettings {
    DeflateSettings { parameters, compression: Compression { level: 1, threshold_bytes } }
}

fn request(wanted: &DeflateParameters) -> Vec<u8> {
    let handshake = ClientHandshake::new("127.0.0.1", 80, "/", [7; 16], 8192).unwrap();
    handshake.offering_deflate(*wanted).request().to_vec()
}

/// Says messages compressed.
struct Speaker {
    compressor: Compressor,
    space: DeflateSpace,
}

impl Speaker {
    fn new(parameters: &DeflateParameters) -> Self {
        let compression = Compression { level: 9, threshold_bytes: 0 };
        let compressor = Compressor::new(parameters, Role::Client, compression);
        Self { compressor, space: DeflateSpace::default() }
    }

    /// The frames of a message whose pieces are fragments, if there is anything in them.
    fn say(&mut self, text: bool, pieces: &[&[u8]]) -> Vec<u8> {
        for (index, piece) in pieces.iter().enumerate() {
            self.compressor.write(piece, text, index + 1 == pieces.len(), &mut self.space, || Some(KEY));
            self.compressor.settle(text, &mut self.space, || Some(KEY));
        }
        std::mem::take(&mut self.space.frames)
    }
}

/// Listens to the frames of a peer that compresses.
pub(crate) struct Inflating {
    messages: Deflating,
    space: InflateSpace,
    message: Vec<u8>,
    pub(crate) heard: Vec<Heard>,
}

impl Inflating {
    /// At our end, `role`.
    pub(crate) fn new(role: Role, agreed: &DeflateParameters) -> Self {
        let messages = Deflating::new(role, agreed, 1 << 30, 0);
        Self { messages, space: InflateSpace::default(), message: Vec::new(), heard: Vec::new() }
    }

    /// Takes in bytes as they come, each once.
    pub(crate) fn on_bytes(&mut self, memory: &mut [u8]) {
        let mut at = 0;
        while let Some(event) = self.messages.next(&mut memory[at..]).expect("frames without a fault") {
            let mut from = at;
            at += event.consumed();
            let payload = |messages: &mut Deflating| messages.connection().control_payload().to_vec();
            self.heard.push(match event {
                Event::Data(data) => {
                    from += data.chunk.header_bytes;
                    let payload = self.messages.unmask(&data, memory, from);
                    loop {
                        let piece = self.messages.read(payload, &memory[from..at], &mut self.space);
                        let piece = piece.expect("sound messages");
                        self.message.extend_from_slice(piece.bytes);
                        from += piece.taken;
                        if piece.is_last {
                            break;
                        }
                    }
                    match (payload.ends_message, payload.text) {
                        (false, _) => continue,
                        (true, true) => Heard::Text(std::mem::take(&mut self.message)),
                        (true, false) => Heard::Binary(std::mem::take(&mut self.message)),
                    }
                }
                Event::Ping { .. } => Heard::Ping(payload(&mut self.messages)),
                Event::Pong { .. } => Heard::Pong(payload(&mut self.messages)),
                Event::Close { code, .. } => Heard::Close(code),
            });
        }
    }
}

/// What a server's bytes say, inflated.
pub(crate) fn heard(agreed: &DeflateParameters, stream: &[u8]) -> Vec<Heard> {
    let mut inflating = Inflating::new(Role::Client, agreed);
    inflating.on_bytes(&mut stream.to_vec());
    assert!(!inflating.messages.connection().in_frame(), "the stream ends inside a frame");
    inflating.heard
}

/// Frames behind a request that offers compression.
fn said(label: &str, wanted: &DeflateParameters, frames: &[Vec<u8>]) -> Said {
    Said { before: request(wanted), ..Said::frames(&format!("{label}, {wanted:?}"), frames) }
}

fn hold_all(engine: EngineKind, limits: Limits, settings: DeflateSettings, conversations: &[(Said, Hears)]) {
    hold_on(conversations, |recv_buffer_bytes| {
        Serving::start_with(engine, config(recv_buffer_bytes), limits, Some(settings))
    });
}

mod conversation {
    use super::*;

    pub(super) fn compressed_messages_come_back_however_they_are_cut(engine: EngineKind) {
        for agreed in [parameters(false, 15), parameters(true, 15), parameters(false, 9)] {
            let mut speaker = Speaker::new(&agreed);
            let words = text(90);
            let frames = [
                speaker.say(true, &[b"Hello"]),
                speaker.say(true, &[&words]),
                client(Opcode::Ping, true, b"?"),
                speaker.say(false, &[b""]),
                // Not compressed, and among fragments.
                client(Opcode::Text, true, &words),
                client(Opcode::Binary, false, b"in two"),
                client(Opcode::Continuation, true, b" pieces"),
                speaker.say(true, &[&words[..40], b"", &words[40..]]),
                goodbye(),
            ];
            let hears = vec![
                Heard::Text(b"Hello".to_vec()),
                Heard::Text(words.clone()),
                Heard::Pong(b"?".to_vec()),
                Heard::Binary(Vec::new()),
                Heard::Text(words.clone()),
                Heard::Binary(b"in two pieces".to_vec()),
                Heard::Text(words),
                Heard::Close(Some(1000)),
            ];
            for threshold_bytes in [0, 60] {
                let said = said("messages", &agreed, &frames);
                let conversation = [(said, Hears::Deflated(agreed, hears.clone()))];
                hold_all(engine, limits(), settings(agreed, threshold_bytes), &conversation);
            }
        }
    }

    pub(super) fn large_compressed_messages_come_back(engine: EngineKind) {
        let agreed = parameters(false, 15);
        let mut speaker = Speaker::new(&agreed);
        let mut random = fastrand::Rng::with_seed(5);
        let noise: Vec<u8> = (0..200_000).map(|_| random.u8(..)).collect();
        let words = text(1 << 20);
        let pieces: Vec<&[u8]> = words.chunks(100_000).collect();
        let frames = [
            speaker.say(false, &[&noise]),
            speaker.say(true, &pieces),
            speaker.say(false, &[&vec![0; 5 << 20]]),
            goodbye(),
        ];
        let hears = vec![
            Heard::Binary(noise),
            Heard::Text(words),
            Heard::Binary(vec![0; 5 << 20]),
            Heard::Close(Some(1000)),
        ];
        let said = said("large messages", &agreed, &frames);
        hold_all(engine, limits(), settings(agreed, 64), &[(said, Hears::Deflated(agreed, hears))]);
    }

    pub(super) fn breaches_on_a_connection_that_compresses_are_named_by_their_close_code(engine: EngineKind) {
        let agreed = parameters(false, 15);
        let with_first = |first: u8, payload: &[u8]| {
            let mut frame = client(Opcode::Binary, true, payload);
            frame[0] = first;
            frame
        };
        let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
        let begun = with_first(0x41, &hello[..3]);
        let cases = [
            ("RSV1 of a ping", vec![with_first(0xC9, b"")], 1002),
            ("RSV1 of a continuation", vec![begun.clone(), with_first(0xC0, &hello[3..])], 1002),
            ("RSV2", vec![with_first(0xE1, hello)], 1002),
            ("no DEFLATE", vec![with_first(0xC2, b"\xFF\xFF")], 1007),
            (
                "the end of a message within a block",
                vec![with_first(0xC2, b"\x00\x0a\x00\xf5\xffabcdef")],
                1007,
            ),
            ("no text", vec![with_first(0xC1, b"\x00\x01\x00\xfe\xff\xff")], 1007),
            ("half a character", vec![with_first(0xC1, b"\x00\x02\x00\xfd\xff\xe2\x82\x00")], 1007),
        ];
        let conversations = cases.map(|(label, wrong, code)| {
            let frames = [vec![with_first(0xC1, hello)], wrong].concat();
            let said = Said { ends: true, ..said(label, &agreed, &frames) };
            (said, Hears::Deflated(agreed, vec![Heard::Text(b"Hello".to_vec()), Heard::Close(Some(code))]))
        });
        hold_all(engine, limits(), settings(agreed, 0), &conversations);
    }

    pub(super) fn a_bomb_is_closed_with_1009(engine: EngineKind) {
        let agreed = parameters(false, 15);
        let limits = Limits { message_bytes: 100_000, ..limits() };
        let mut speaker = Speaker::new(&agreed);
        let frames = [speaker.say(false, &[&vec![0; 100_000]]), speaker.say(false, &[&vec![0; 50 << 20]])];
        assert!(frames[1].len() < 60_000, "{}", frames[1].len());
        let said = Said { ends: true, ..said("a bomb", &agreed, &frames) };
        let hears = vec![Heard::Binary(vec![0; 100_000]), Heard::Close(Some(1009))];
        hold_all(engine, limits, settings(agreed, 1 << 16), &[(said, Hears::Deflated(agreed, hears))]);
    }

    pub(super) fn a_client_that_offers_nothing_is_answered_as_ever(engine: EngineKind) {
        let marked = {
            let mut frame = client(Opcode::Text, true, b"Hello");
            frame[0] |= 0x40;
            frame
        };
        let (good, echo) = crate::server::echoed(true, text(100));
        let said = Said { ends: true, ..Said::frames("no offer", &[good, marked]) };
        let hears = Hears::Frames(vec![echo, Heard::Close(Some(1002))]);
        hold_all(engine, limits(), settings(parameters(false, 15), 0), &[(said, hears)]);
    }

    pub(super) fn answers_many_times_larger_than_the_requests_wait_for_the_reader(engine: EngineKind) {
        const MESSAGES: usize = 400;
        let agreed = parameters(false, 15);
        let config = Config { outbox_bytes: 100_000, ..config(65_600) };
        // Everything shorter goes back as it is: a thousand times what came.
        let serving = Serving::start_with(engine, config, limits(), Some(settings(agreed, 60_001)));
        let mut speaker = Speaker::new(&agreed);
        let mut stream = tcp(serving.address);
        stream.write_all(&request(&agreed)).unwrap();
        let zeros = vec![0; 60_000];
        let frames: Vec<u8> = (0..MESSAGES).flat_map(|_| speaker.say(false, &[&zeros])).collect();
        assert!(frames.len() < 40_000, "{}", frames.len());
        stream.write_all(&frames).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Until nothing more of it goes out, for want of a reader.
        let mut before = 0;
        serving.until("it waits for the reader", |served| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let sent = served.engine.sent_bytes;
            sent > 0 && std::mem::replace(&mut before, sent) == sent
        });
        let waiting = serving.served();
        assert!(waiting.messages < MESSAGES as u64 / 2, "{} messages are answered unread", waiting.messages);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head_bytes = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let all = heard(&agreed, &answer[head_bytes..]);
        assert_eq!(all.len(), MESSAGES);
        assert!(all.iter().all(|heard| *heard == Heard::Binary(zeros.clone())));
        serving.stop();
    }
}
