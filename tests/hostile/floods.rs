//! More of everything than anyone needs: pings, tiny frames, empty fragments; and readers that never read.

use std::io::Write;
use std::sync::atomic::{AtomicI64, Ordering};

use ringsock::ws::frame::Opcode;

use crate::bed::{Bed, EVERY_WAY, Expected, hold};
use crate::openings::expected;
use crate::peer::{Peer, fragment, frame};
use crate::wire::{Stream, expect_close, noise};

/// What a deaf peer may get rid of: both kernels' buffers, and what the server takes before it stops reading.
const SENT_BYTES_MAX: usize = 256 << 20;
/// What all of an attack may cost the server while it lasts: 4 MiB of receive buffers, 4 MiB of output buffers kept for
/// reuse, and for each of four deaf peers what may wait for one (256 KiB) and what a turn may add to it, which is what all
/// receive buffers hold (4 MiB); twice that, since buffers grow by doubling.
const HELD_BYTES_MAX: u64 = 2 * (8 << 20) + 2 * 4 * (4 << 20);
/// What a deaf peer's kernel takes in for it.
const DEAF_BYTES: usize = 64 * 1024;

/// Says this again and again on a new connection, and never reads.
fn deafly(bed: &Bed, pattern: &[u8]) -> Peer<Stream> {
    let mut peer = bed.open();
    socket2::SockRef::from(peer.stream.tcp()).set_recv_buffer_size(DEAF_BYTES).unwrap();
    let before = bed.counts().get("pauses");
    let pattern = pattern.repeat(DEAF_BYTES.div_ceil(pattern.len()));
    let mut at = 0;
    // A writer that had to wait has not shown that nobody reads: only that, and a pause, has.
    loop {
        let taken_bytes = peer.stream.write_until_stuck(&pattern, &mut at, SENT_BYTES_MAX);
        if taken_bytes == 0 && bed.counts().get("pauses") > before {
            return peer;
        }
    }
}

#[test]
fn peers_that_say_much_and_never_read_are_not_read_from_without_end() {
    hold(EVERY_WAY, &["--max-control-rate", "0"], |bed| {
        let before = bed.resident_bytes();
        let deaf = [
            deafly(bed, &frame(Opcode::Ping, &[9; 125])),
            deafly(bed, &frame(Opcode::Text, b"")),
            deafly(bed, &frame(Opcode::Binary, &[1; 3])),
            deafly(bed, &frame(Opcode::Binary, &noise(60_000))),
        ];
        let held = bed.resident_bytes().saturating_sub(before);
        assert!(held < HELD_BYTES_MAX, "{held} bytes for {} peers that never read", deaf.len());
        deaf.into_iter().for_each(|peer| peer.stream.reset());
        vec![("pauses", 4..=u64::MAX)]
    });
}

#[test]
fn peers_that_fall_silent_with_answers_waiting_are_dropped_when_pings_are_asked_for() {
    hold(EVERY_WAY, &["--ping-interval", "1500ms"], |bed| {
        let vanished = deafly(bed, &frame(Opcode::Binary, &noise(60_000)));
        let never_read = bed.open();
        bed.settled();
        drop((vanished, never_read));
        expected(&[("timeouts", 2), ("timeouts_ping", 2)])
    });
}

/// Reads and throws away until the other end is done, in a thread of its own, while `bytes` are said.
fn while_reading(peer: Peer<Stream>, bytes: &[u8]) {
    let Peer { stream, .. } = peer;
    match stream {
        Stream::Plain(tcp) => {
            let mut reader = Stream::Plain(tcp.try_clone().unwrap());
            let reading = std::thread::spawn(move || reader.read_all().len());
            (&tcp).write_all(bytes).unwrap();
            reading.join().unwrap();
        }
        Stream::Secured(secured) => {
            let mut stream = Stream::Secured(secured);
            for piece in bytes.chunks(8 * 1024) {
                stream.write_all(piece).unwrap();
                answered(&mut stream);
            }
            stream.read_all();
        }
    }
}

/// Says this again and again on a new connection, while something is left of what all may say.
fn flood(bed: &Bed, pattern: &[u8], left_bytes: &AtomicI64) {
    let mut peer = bed.open();
    let piece = pattern.repeat(DEAF_BYTES / pattern.len());
    while left_bytes.fetch_sub(piece.len() as i64, Ordering::Relaxed) > 0 {
        peer.stream.write_all(&piece).unwrap();
    }
    peer.stream.reset();
}

#[test]
fn floods_without_end_take_no_more_than_their_turn_from_an_honest_client() {
    const ECHOES: i64 = 50;
    /// What floods may get rid of for each echo: 16 times what a turn may take, which is all receive buffers (4 MiB). A client
    /// that has to wait for a CPU hears its echo turns later; one that is not served never does, for the floods go on.
    const SHARE_BYTES: i64 = 64 << 20;
    hold(EVERY_WAY, &["--max-control-rate", "0"], |bed| {
        let left_bytes = &AtomicI64::new(ECHOES * SHARE_BYTES);
        let mut honest = bed.honest();
        let was_served = std::thread::scope(|scope| {
            // They have no answer that somebody would have to read.
            for pong in [frame(Opcode::Pong, b""), frame(Opcode::Pong, &[9; 125])] {
                scope.spawn(move || flood(bed, &pong, left_bytes));
            }
            while left_bytes.load(Ordering::Relaxed) == ECHOES * SHARE_BYTES {
                std::thread::yield_now();
            }
            // Without a pause: the next is said when the one before has come back.
            (0..ECHOES).for_each(|_| honest.echo());
            left_bytes.swap(0, Ordering::Relaxed) > 0
        });
        assert!(was_served, "floods of {} bytes in the time of {ECHOES} echoes", ECHOES * SHARE_BYTES);
        honest.leave();
        Expected::new()
    });
}

/// Takes what has come.
fn answered(stream: &mut Stream) {
    use std::io::{ErrorKind, Read};
    stream.tcp().set_nonblocking(true).unwrap();
    let mut buffer = [0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(1..) => {}
            Ok(0) => panic!("it ended midway"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    stream.tcp().set_nonblocking(false).unwrap();
}

#[test]
fn floods_of_pings_and_tiny_messages_are_answered_while_they_are_read() {
    hold(EVERY_WAY, &["--max-control-rate", "0"], |bed| {
        let goodbye = frame(Opcode::Close, &1000_u16.to_be_bytes());
        for flood in [frame(Opcode::Ping, b""), frame(Opcode::Pong, b"unasked"), frame(Opcode::Text, b"")] {
            while_reading(bed.open(), &[flood.repeat(20_000), goodbye.clone()].concat());
        }
        Expected::new()
    });
}

#[test]
fn floods_of_empty_fragments_leave_nothing_behind() {
    hold(EVERY_WAY, &[], |bed| {
        let goodbye = frame(Opcode::Close, &1000_u16.to_be_bytes());
        for kind in [Opcode::Text, Opcode::Binary] {
            let flood = fragment(Opcode::Continuation, false, b"").repeat(20_000);
            let last = fragment(Opcode::Continuation, true, b"");
            let begun = fragment(kind, false, b"");
            while_reading(bed.open(), &[begun.clone(), flood.clone(), last, goodbye.clone()].concat());
            // One that never comes to its end.
            let mut peer = bed.open();
            peer.stream.write_all(&[begun, flood].concat()).unwrap();
            peer.stream.reset();
        }
        Expected::new()
    });
}

#[test]
fn more_fragments_and_pings_than_are_put_up_with_are_closed_with_1008() {
    hold(EVERY_WAY, &["--max-fragments", "1000", "--max-control-rate", "1000"], |bed| {
        let fragments = fragment(Opcode::Continuation, false, b"").repeat(2000);
        let begun = fragment(Opcode::Binary, false, b"");
        let floods = [[begun, fragments].concat(), frame(Opcode::Ping, b"").repeat(3000)];
        for flood in &floods {
            let mut peer = bed.open();
            peer.stream.write_all(flood).unwrap();
            expect_close(&mut peer, 1008, "a flood");
        }
        expected(&[("faults", floods.len()), ("faults_policy", floods.len())])
    });
}
