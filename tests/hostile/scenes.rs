//! Scenarios in which one client's doings reach others: subscribers that never read, vanish or come without number, and those who
//! publish more than anybody takes.

use std::io::Write;

use ringsock::ws::frame::Opcode;

use crate::bed::{Bed, Expected, PLAIN_AND_TLS, hold};
use crate::openings::expected;
use crate::peer::{Peer, fragment, frame};
use crate::wire::{Stream, frame_beginning, noise};

const LARGE_BYTES: usize = 60_000;
/// What a deaf peer's kernel takes in for it.
const DEAF_BYTES: usize = 64 * 1024;
/// More than both kernels hold for a deaf peer, and the server on top.
const ROUNDS_MAX: usize = 2000;

fn deaf(bed: &Bed) -> Peer<Stream> {
    let peer = bed.open_at("/broadcast");
    socket2::SockRef::from(peer.stream.tcp()).set_recv_buffer_size(DEAF_BYTES).unwrap();
    peer
}

/// Publishes a message at a time, which a listener must hear, until the server says that it is enough.
fn publish_until(
    bed: &Bed,
    listener: &mut Peer<Stream>,
    publisher: &mut Peer<Stream>,
    enough: impl Fn() -> bool,
) {
    let payload = noise(LARGE_BYTES);
    for _ in 0..ROUNDS_MAX {
        for _ in 0..20 {
            publisher.send(Opcode::Binary, &payload);
            listener.expect(Opcode::Binary, &payload);
        }
        if enough() {
            return;
        }
    }
    panic!("never enough: {:?}", bed.counts());
}

#[test]
fn subscribers_that_never_read_are_closed_and_cost_the_others_nothing() {
    hold(PLAIN_AND_TLS, &["--close-timeout", "2s"], |bed| {
        const DEAF: u64 = 3;
        let before = bed.counts().get("slow_closed");
        let (mut listener, mut publisher) =
            (bed.open_at("/broadcast"), bed.open_at("/broadcast?role=publish"));
        let never_reading: Vec<_> = (0..DEAF).map(|_| deaf(bed)).collect();
        publish_until(bed, &mut listener, &mut publisher, || {
            bed.counts().get("slow_closed") == before + DEAF
        });
        // They do not take the Close either.
        let mut all = expected(&[("faults", DEAF as usize), ("faults_policy", DEAF as usize)]);
        bed.until("they are dropped", |bed| bed.counts().get("connections") <= 3);
        all.push(("timeouts", 0..=DEAF));
        drop(never_reading);
        all
    });
}

#[test]
fn publishers_that_flood_wait_for_who_blocks_them_and_memory_is_bounded() {
    /// What one turn may receive, the same framed, and sealed under TLS, and what an allocator keeps of all that: of the flood it
    /// is a fraction.
    const HELD_BYTES_MAX: u64 = 48 << 20;
    const MESSAGES: usize = (192 << 20) / LARGE_BYTES;
    hold(PLAIN_AND_TLS, &["--slow-consumer", "block"], |bed| {
        let before = (bed.counts().get("slow_blocked"), bed.resident_bytes());
        let never_reading = deaf(bed);
        let mut publisher = bed.open_at("/broadcast?role=publish");
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let payload = noise(LARGE_BYTES);
                (0..MESSAGES).for_each(|_| publisher.send(Opcode::Binary, &payload));
                publisher.send(Opcode::Close, b"");
                publisher.expect(Opcode::Close, b"");
            });
            bed.until("publishers wait", |bed| bed.counts().get("slow_blocked") > before.0);
            let held = bed.resident_bytes().saturating_sub(before.1);
            assert!(held < HELD_BYTES_MAX, "{held} bytes for one that does not read");
            assert!(!flood.is_finished(), "nobody waited: {:?}", bed.counts());
            // Once it has gone, the flood goes on to nobody.
            never_reading.stream.reset();
        });
        vec![("slow_blocked", 1..=u64::MAX)]
    });
}

#[test]
fn subscribers_that_vanish_at_any_moment_are_forgotten_and_rooms_with_them() {
    hold(PLAIN_AND_TLS, &[], |bed| {
        let (mut listener, mut publisher) =
            (bed.open_at("/broadcast"), bed.open_at("/broadcast?role=publish"));
        for round in 0..10 {
            let vanishing: Vec<_> = (0..4).map(|_| bed.open_at("/broadcast")).collect();
            let mut alone = bed.open_at(&format!("/room/{round}"));
            alone.echo(Opcode::Text, b"anybody?");
            let payload = noise(10_000);
            publisher.send(Opcode::Binary, &payload);
            for (index, mut peer) in vanishing.into_iter().enumerate() {
                if index % 2 == 0 {
                    peer.stream.write_all(&frame_beginning(0x82, &payload)).unwrap();
                }
                peer.stream.reset();
            }
            alone.stream.reset();
            // Others may have said something before they vanished.
            while listener.next().expect("what was published").2 != payload {}
        }
        Expected::new()
    });
}

#[test]
fn messages_that_never_end_and_json_that_is_none_harm_nobody() {
    hold(PLAIN_AND_TLS, &[], |bed| {
        let mut json = bed.open_at("/json");
        for text in
            [&b"{"[..], b"[[[[[[[[", b"\"\\u\"", b"{\"type\":", b"nul", b"-", b"", b"{\"type\":\"echo\"}x"]
        {
            json.send(Opcode::Text, text);
            let (_, opcode, reply) = json.next().expect("a reply");
            assert!(opcode == Opcode::Text && reply.starts_with(b"{\"type\":\"error\""), "{reply:?}");
        }
        json.send(Opcode::Text, "[".repeat(900_000).as_bytes());
        assert!(json.next().expect("a reply").2.starts_with(b"{\"type\":\"error\""));
        json.echo(Opcode::Text, b"{\"type\":\"echo\"}");
        let mut endless: Vec<_> = ["/json", "/broadcast", "/work"].map(|target| bed.open_at(target)).into();
        for peer in &mut endless {
            peer.stream.write_all(&fragment(Opcode::Binary, false, &noise(LARGE_BYTES))).unwrap();
            peer.stream.write_all(&fragment(Opcode::Continuation, false, &noise(LARGE_BYTES))).unwrap();
        }
        // One is too long in the end.
        let mut too_long = bed.open_at("/json");
        too_long.stream.write_all(&fragment(Opcode::Binary, false, &noise(1 << 20))).unwrap();
        too_long.stream.write_all(&fragment(Opcode::Continuation, true, b"x")).unwrap();
        crate::wire::expect_close(&mut too_long, 1009, "too long");
        endless.into_iter().for_each(|peer| peer.stream.reset());
        expected(&[("faults", 1), ("faults_too_big", 1)])
    });
}

#[test]
fn work_that_is_asked_for_without_end_leaves_others_their_turn() {
    hold(PLAIN_AND_TLS, &[], |bed| {
        let mut greedy = bed.open_at("/work?us=20000");
        // Twenty seconds of it, which nobody waits for.
        greedy.stream.write_all(&frame(Opcode::Binary, b"x").repeat(1000)).unwrap();
        greedy.next().expect("it has begun");
        let mut honest = bed.honest();
        (0..5).for_each(|_| honest.echo());
        honest.leave();
        greedy.stream.reset();
        Expected::new()
    });
}
