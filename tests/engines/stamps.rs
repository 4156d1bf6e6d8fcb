//! A client that asks for stamps: what comes back is the echo, but for the stamps, however the bytes are cut.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringsock::engine::{Config, EngineKind, Waker, clock_ns};
use ringsock::scenario::serve::Serve;
use ringsock::scenario::stamps::{Layout, START};
use ringsock::ws::frame::Opcode;

use crate::listener::Heard;
use crate::peer::{PATIENCE, Peer, request, tcp};
use crate::server::{Hears, Said, client, echoed, goodbye, hold_all, text};
use crate::serving::{Serving, config, limits};

crate::conversations!("server":
    stamps_stand_where_they_were_asked_for_however_the_message_is_cut,
    stamps_stand_in_fragments_and_large_messages,
    what_cannot_be_stamped_comes_back_as_it_came,
    frames_right_behind_a_request_for_stamps_are_stamped,
    the_kernels_arrival_is_stamped_or_refused_by_name,
);

/// What must come back where answers are stamped: each message, and whether it is.
pub(crate) struct Stamped {
    layout: Layout,
    asked_ns: u64,
    heard: Vec<(Heard, bool)>,
}

impl Stamped {
    /// Checks the stamps, and that all else is as it must be.
    pub(crate) fn check(&self, heard: &[Heard], label: &str) {
        let now_ns = clock_ns();
        assert_eq!(heard.len(), self.heard.len(), "{label}: {heard:?}");
        for (got, (expected, is_stamped)) in heard.iter().zip(&self.heard) {
            let mut got = got.clone();
            if let (true, Heard::Binary(got), Heard::Binary(sent)) = (is_stamped, &mut got, expected) {
                let number = |at: usize| u64::from_le_bytes(got[at..at + 8].try_into().unwrap());
                let (seen_ns, queued_ns) = (number(START), number(START + 8));
                assert!(
                    self.asked_ns <= seen_ns && seen_ns <= queued_ns && queued_ns <= now_ns,
                    "{label}: asked at {}, seen at {seen_ns}, queued at {queued_ns}, now {now_ns}",
                    self.asked_ns
                );
                if self.layout == Layout::WithArrival {
                    assert_eq!(number(START + 16), 0, "{label}: nobody asked the engine for arrivals");
                }
                let stamps = START..self.layout.end();
                got[stamps.clone()].copy_from_slice(&sent[stamps]);
            }
            assert!(got == *expected, "{label}: {got:?}, not {expected:?}");
        }
    }
}

/// Bytes that no stamp could be.
fn payload(count: usize) -> Vec<u8> {
    (0..count).map(|at| 0x80 | at as u8).collect()
}

fn target(layout: Layout) -> Vec<u8> {
    request("127.0.0.1:80".parse().unwrap(), &layout.ask("/"))
}

/// Frames of a client's that asked for stamps, and what it must hear.
fn said(label: &str, layout: Layout, frames: &[Vec<u8>], heard: Vec<(Heard, bool)>) -> (Said, Hears) {
    let label = format!("{label}, {layout:?}");
    let mut said = Said::frames(&label, &[frames, &[goodbye()]].concat());
    // Cut inside the stamps as well, whatever header stands before them.
    let starts = said.parts_at.clone();
    let inside = starts.iter().flat_map(|start| [20, 30, 40].map(|behind| start + behind));
    said.parts_at.extend(inside.chain([20, 30, 40]));
    said.before = target(layout);
    let heard = heard.into_iter().chain([(Heard::Close(Some(1000)), false)]).collect();
    (said, Hears::Stamped(Stamped { layout, asked_ns: clock_ns(), heard }))
}

const LAYOUTS: [Layout; 2] = [Layout::Pair, Layout::WithArrival];

mod conversation {
    use super::*;

    pub(super) fn stamps_stand_where_they_were_asked_for_however_the_message_is_cut(engine: EngineKind) {
        let conversations = LAYOUTS.map(|layout| {
            let sizes = [layout.end(), layout.end() + 1, 40];
            let (mut frames, mut heard) = (Vec::new(), Vec::new());
            for size in sizes {
                let (frame, echo) = echoed(false, payload(size));
                frames.extend([frame, client(Opcode::Ping, true, b"?")]);
                heard.extend([(echo, true), (Heard::Pong(b"?".to_vec()), false)]);
            }
            said("three of them", layout, &frames, heard)
        });
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn stamps_stand_in_fragments_and_large_messages(engine: EngineKind) {
        let conversations = LAYOUTS.map(|layout| {
            let whole = payload(50);
            let fragments = [
                client(Opcode::Binary, false, &whole[..40]),
                client(Opcode::Ping, true, b"!"),
                client(Opcode::Continuation, false, b""),
                client(Opcode::Continuation, true, &whole[40..]),
            ];
            let (middle, middle_heard) = echoed(false, payload(200));
            let (large, large_heard) = echoed(false, payload(70_000));
            let heard = vec![
                (Heard::Pong(b"!".to_vec()), false),
                (Heard::Binary(whole), true),
                (middle_heard, true),
                (large_heard, true),
            ];
            said("fragments", layout, &[&fragments[..], &[middle, large]].concat(), heard)
        });
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn what_cannot_be_stamped_comes_back_as_it_came(engine: EngineKind) {
        let conversations = LAYOUTS.map(|layout| {
            let (short, short_heard) = echoed(false, payload(layout.end() - 1));
            let (words, words_heard) = echoed(true, text(60));
            let (empty, empty_heard) = echoed(false, Vec::new());
            let whole = payload(40);
            let begun_short = [
                client(Opcode::Binary, false, &whole[..10]),
                client(Opcode::Continuation, true, &whole[10..]),
            ];
            let (last, last_heard) = echoed(false, payload(layout.end()));
            let heard = vec![
                (short_heard, false),
                (words_heard, false),
                (empty_heard, false),
                (Heard::Binary(whole), false),
                (last_heard, true),
            ];
            said("as they came", layout, &[&[short, words, empty], &begun_short[..], &[last]].concat(), heard)
        });
        let text_in_pieces = Said::frames("none asked for", &[echoed(false, payload(40)).0, goodbye()]);
        let unasked = Hears::Frames(vec![Heard::Binary(payload(40)), Heard::Close(Some(1000))]);
        hold_all(engine, limits(), &conversations);
        hold_all(engine, limits(), &[(text_in_pieces, unasked)]);
    }

    pub(super) fn the_kernels_arrival_is_stamped_or_refused_by_name(engine: EngineKind) {
        let config = Config { kernel_timestamps: true, ..config(4096) };
        if engine != EngineKind::Epoll {
            let serve = Serve::new(limits(), Arc::default(), |_| {});
            let refused = engine.run(config, &Waker::new().unwrap(), serve, || {}).err().unwrap().to_string();
            assert!(refused.contains(engine.name()) && refused.contains("--engine epoll"), "{refused}");
            return;
        }
        let serving = Serving::start(engine, config, limits());
        let mut stream = tcp(serving.address);
        stream.write_all(&target(Layout::WithArrival)).unwrap();
        let mut peer = Peer::after_request(stream, serving.address);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked_ns = clock_ns();
            peer.send(Opcode::Binary, &payload(64));
            let (_, _, answer) = peer.next().expect("an answer");
            let number = |at: usize| u64::from_le_bytes(answer[at..at + 8].try_into().unwrap());
            let (queued_ns, arrived_ns) = (number(START + 8), number(START + 16));
            if arrived_ns != 0 {
                // Two clocks, whose offset is known to within the time of reading it.
                let tolerated_ns = 1_000_000;
                assert!(asked_ns < arrived_ns + tolerated_ns && arrived_ns < queued_ns + tolerated_ns);
                break;
            }
            if Instant::now() > deadline {
                eprintln!("SKIPPED, nothing was tested: this kernel notes no arrivals");
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        peer.send(Opcode::Close, &1000_u16.to_be_bytes());
        peer.expect(Opcode::Close, &1000_u16.to_be_bytes());
        peer.expect_end();
        serving.stop();
    }

    pub(super) fn frames_right_behind_a_request_for_stamps_are_stamped(engine: EngineKind) {
        let (frame, heard) = echoed(false, payload(30));
        let (_, hears) = said("early frames", Layout::Pair, &[], vec![(heard, true)]);
        let bytes = [target(Layout::Pair), frame, goodbye()].concat();
        hold_all(engine, limits(), &[(Said::raw("early frames", bytes), hears)]);
    }
}
