//! The server's handler on connections that compress, over any network: what is said comes back, whatever was agreed on, and
//! however little room there is for it.

use std::cell::Cell;

use fastrand::Rng;
use ringsock::engine::memory::{Ended, Plan};
use ringsock::scenario::deflate::{Compression, DeflateParameters, DeflateSettings};
use ringsock::ws::deflate::{Compressor, DeflateSpace};
use ringsock::ws::frame::{Opcode, Role};
use ringsock::ws::mask::Mask;

use super::talk::{Heard, Script, frame};
use super::websocket::{Played, patient, play_with};
use super::{SECOND_NS, SEEDS, eager, seed, tiny};

const KEY: Mask = Mask::from_bytes([0x0F, 0x1E, 0x2D, 0x3C]);

fn any_parameters(random: &mut Rng) -> DeflateParameters {
    DeflateParameters {
        server_no_context_takeover: random.bool(),
        client_no_context_takeover: random.bool(),
        server_max_window_bits: random.u8(9..=15),
        client_max_window_bits: random.u8(9..=15),
    }
}

/// Some messages, compressed or not, in fragments or not, with pings between them; and a Close, or none.
fn conversation(random: &mut Rng, agreed: DeflateParameters, bytes_max: usize) -> (Script, Vec<Heard>) {
    let compression = Compression { level: random.u8(1..=9), threshold_bytes: random.usize(0..50) };
    let mut compressor = Compressor::new(&agreed, Role::Client, compression);
    let (mut space, mut hears) = (DeflateSpace::default(), Vec::new());
    for _ in 0..random.usize(0..15) {
        let any = random.usize(0..=bytes_max);
        let length = random.choice([0, 1, 125, 126, any]).unwrap().min(bytes_max);
        let (letters, text) = (random.usize(1..26), random.bool());
        let payload: Vec<u8> = (0..length).map(|_| b'a' + random.usize(..letters) as u8).collect();
        let mut at = 0;
        while random.u8(0..3) == 0 {
            let end = random.usize(at..=length);
            compressor.write(&payload[at..end], text, false, &mut space, || Some(KEY));
            compressor.settle(text, &mut space, || Some(KEY));
            at = end;
            let body: Vec<u8> = (0..random.usize(0..=125)).map(|_| random.u8(..)).collect();
            frame(Opcode::Ping, true, &body, &mut space.frames);
            hears.push(Heard::Pong(body));
        }
        compressor.write(&payload[at..], text, true, &mut space, || Some(KEY));
        hears.push(Heard::Message { text, payload });
    }
    frame(Opcode::Close, true, &1000_u16.to_be_bytes(), &mut space.frames);
    hears.extend([Heard::Close(Some(1000)), Heard::Closed { by_end: true }]);
    (Script { frames: space.frames, closes: true, deflate: Some(agreed), ..Script::default() }, hears)
}

#[test]
fn every_compressed_message_is_echoed_once_and_in_order_whatever_was_agreed_on() {
    let messages = Cell::new(0);
    seed::each(SEEDS, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan::seeded(seed);
        // Through a narrow pipe less, so that no seed takes long.
        let bytes_max = (plan.pipe_bytes * 5).clamp(10, 70_000);
        let parameters = any_parameters(&mut random);
        let threshold_bytes = random.choice([0, 30, 1000, 60_000]).unwrap();
        let settings = DeflateSettings {
            parameters,
            compression: Compression { level: random.u8(1..=9), threshold_bytes },
        };
        let (scripts, hears): (Vec<_>, Vec<_>) =
            (0..random.usize(1..4)).map(|_| conversation(&mut random, parameters, bytes_max)).unzip();
        let configs = (tiny(&mut random), eager(&mut random));
        let drain_ns = 3000 * SECOND_NS;
        let Played { talk, served, course, .. } =
            play_with(&plan, configs, patient(), scripts, drain_ns, Some(settings));
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", talk.heard);
        for (number, hears) in hears.iter().enumerate() {
            let heard = talk.said_to(number);
            // Pongs overtake an answer that is still being made, as they may.
            let is_pong = |heard: &&Heard| matches!(heard, Heard::Pong(_));
            let others = heard.iter().copied().filter(|heard| !is_pong(heard));
            let pongs = heard.iter().copied().filter(is_pong);
            assert!(
                others.eq(hears.iter().filter(|heard| !is_pong(heard)))
                    && pongs.eq(hears.iter().filter(is_pong)),
                "seed {seed}, connection {number}: {heard:?}, not {hears:?}"
            );
        }
        let said =
            hears.iter().flatten().filter(|heard| matches!(heard, Heard::Message { .. })).count() as u64;
        assert_eq!((served.messages, served.faults, served.timeouts), (said, 0, 0), "seed {seed}");
        messages.set(messages.get() + said);
    });
    assert!(messages.get() > 0);
}

#[test]
fn answers_that_have_to_wait_all_come() {
    let stalled = Cell::new(0);
    seed::each(SEEDS / 3, |seed| {
        let mut random = Rng::with_seed(seed);
        let plan = Plan { pipe_bytes: random.usize(500..5000), ..Plan::seeded(seed) };
        let parameters = any_parameters(&mut random);
        let settings =
            DeflateSettings { parameters, compression: Compression { level: 1, threshold_bytes: 30_000 } };
        let compression = Compression { level: 9, threshold_bytes: 0 };
        let mut compressor = Compressor::new(&parameters, Role::Client, compression);
        let mut space = DeflateSpace::default();
        let payload = vec![b'z'; 20_000];
        for _ in 0..5 {
            compressor.write(&payload, true, true, &mut space, || Some(KEY));
        }
        let script = Script { frames: space.frames, deflate: Some(parameters), ..Script::default() };
        let mut configs = (tiny(&mut random), eager(&mut random));
        configs.0.outbox_bytes = 3000;
        let drain_ns = 3000 * SECOND_NS;
        let Played { talk, course, .. } =
            play_with(&plan, configs, patient(), vec![script], drain_ns, Some(settings));
        assert_eq!(course.ended, Ended::Stopped, "seed {seed}: {:?}", talk.heard);
        let message = Heard::Message { text: true, payload };
        let mut hears = vec![&message; 5];
        let (close, end) = (Heard::Close(Some(1001)), Heard::Closed { by_end: true });
        hears.extend([&close, &end]);
        assert_eq!(talk.said_to(0), hears, "seed {seed}");
        stalled.set(stalled.get() + course.server.pauses);
    });
    assert!(stalled.get() > 0, "nobody had to wait");
}
