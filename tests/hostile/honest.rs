//! The client that does everything right, and must not notice what others do: it echoes without a pause in a thread of its own.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringsock::ws::frame::Opcode;

use crate::bed::Way;
use crate::peer::{PATIENCE, Peer, frame};
use crate::wire::{Stream, deflated, frame_beginning, inflated};

/// Between two echoes: others need the CPUs, too.
const PAUSE: Duration = Duration::from_millis(5);

/// One connection, and how many messages it has said.
pub(crate) struct Honest {
    peer: Peer<Stream>,
    way: Way,
    number: usize,
}

impl Honest {
    pub(crate) fn new(mut peer: Peer<Stream>, way: Way) -> Self {
        peer.deflates = way == Way::Deflate;
        Self { peer, way, number: 0 }
    }

    /// Says the next message, and must hear the same.
    pub(crate) fn echo(&mut self) {
        const LENGTHS: [usize; 5] = [0, 1, 125, 3000, 70_000];
        let (length, is_text) = (LENGTHS[self.number % LENGTHS.len()], self.number.is_multiple_of(2));
        // Letters, so that it may be text.
        let message: Vec<u8> =
            (0..length).map(|at| b'a' + ((at * 7 + at / 251 + self.number) % 26) as u8).collect();
        self.number += 1;
        let opcode = if is_text { Opcode::Text } else { Opcode::Binary };
        let said = match self.way {
            Way::Deflate => frame_beginning(if is_text { 0xC1 } else { 0xC2 }, &deflated(&message)),
            Way::Plain | Way::Tls => frame(opcode, &message),
        };
        self.peer.stream.write_all(&said).unwrap();
        let (got, compressed, payload) = self.hear();
        let heard = if compressed { inflated(&payload, length + 1) } else { payload };
        assert!(got == opcode && heard == message, "message {}: not what was said", self.number);
    }

    /// The next message: what it is, whether it is compressed, and its payload.
    fn hear(&mut self) -> (Opcode, bool, Vec<u8>) {
        let (mut kind, mut message) = (None, Vec::new());
        loop {
            let (fin, opcode, payload) = self.peer.next().expect("a frame, not the end");
            match opcode {
                Opcode::Ping => self.peer.send(Opcode::Pong, &payload),
                Opcode::Close | Opcode::Pong => panic!("{opcode:?} {}", String::from_utf8_lossy(&payload)),
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    let (kind, compressed) = *kind.get_or_insert((opcode, self.peer.was_compressed));
                    message.extend_from_slice(&payload);
                    if fin {
                        return (kind, compressed, message);
                    }
                }
            }
        }
    }

    /// Says goodbye, as it should.
    pub(crate) fn leave(mut self) {
        self.peer.send(Opcode::Close, &1000_u16.to_be_bytes());
        assert_eq!(self.peer.next(), Some((true, Opcode::Close, 1000_u16.to_be_bytes().to_vec())));
        self.peer.expect_end();
    }

    /// Waits for the server to say goodbye, for it is being ended.
    pub(crate) fn expect_going_away(mut self) {
        self.peer.expect_close(1001);
    }
}

/// An honest client at work.
pub(crate) struct Working {
    stop: Arc<AtomicBool>,
    echoes: Arc<AtomicU64>,
    thread: JoinHandle<Honest>,
}

impl Working {
    pub(crate) fn start(mut honest: Honest) -> Self {
        let (stop, echoes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&echoes));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                honest.echo();
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            honest
        });
        Self { stop, echoes, thread }
    }

    /// It must be served from here on, as it was before.
    pub(crate) fn expect_more(&self) {
        let (before, deadline) = (self.echoes.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        // One may be under way: the second began after that.
        while self.echoes.load(Ordering::Relaxed) < before + 2 {
            assert!(!self.thread.is_finished(), "the honest client was not served: see above");
            assert!(Instant::now() < deadline, "the honest client waits and waits");
            std::thread::sleep(PAUSE);
        }
    }

    pub(crate) fn end(self) -> Honest {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("an honest client that was served to its end")
    }
}
