//! Thousands of connections that come and go, each in its own manner: 20,000 of them against each engine, and 5,000 over TLS.

use std::io::Write;

use ringsock::ws::frame::Opcode;

use crate::bed::{Bed, Expected, FINDING, Way, hold};
use crate::peer::{self, frame};
use crate::wire::{self, frame_beginning};

const THREADS: usize = 4;
/// Ways to come and go.
const MANNERS: usize = 8;
/// Connections from one address: far fewer than there are ports, which the kernel keeps for a minute after.
const FROM_ONE_ADDRESS: usize = 500;

/// Comes and goes. Those that end without having read anything alternate with those that wait for an answer, so that the
/// queue of connections to be accepted never overflows.
fn come_and_go(bed: &Bed, manner: usize, source: [u8; 4]) {
    let tcp = bed.tcp_from(source);
    match manner {
        0 => wire::reset(&tcp),
        2 => {}
        4 => {
            let mut tcp = tcp;
            tcp.write_all(&peer::request(bed.address, "/")[..40]).unwrap();
            wire::reset(&tcp);
        }
        1 => {
            let mut stream = bed.secure(tcp);
            stream.write_all(&peer::request(bed.address, "/elsewhere")).unwrap();
            assert!(stream.read_all().starts_with(b"HTTP/1.1 404 "));
        }
        3 => bed.upgrade(bed.secure(tcp)).stream.reset(),
        5 => {
            let mut peer = bed.upgrade(bed.secure(tcp));
            peer.echo(Opcode::Text, b"hello");
            peer.send(Opcode::Close, b"");
            peer.expect(Opcode::Close, b"");
            peer.expect_end();
        }
        6 => {
            let mut peer = bed.upgrade(bed.secure(tcp));
            peer.stream.write_all(&frame_beginning(0x83, b"x")).unwrap();
            wire::expect_close(&mut peer, 1002, "in a crowd");
        }
        _ => {
            let mut peer = bed.upgrade(bed.secure(tcp));
            peer.stream.write_all(&frame(Opcode::Binary, &[1; 500])[..100]).unwrap();
        }
    }
}

fn crowd(bed: &Bed, count: usize) -> Expected {
    let each = count / THREADS;
    assert_eq!(count % (THREADS * MANNERS), 0, "each thread sees each manner as often");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for index in 0..each {
                    let block = thread * each.div_ceil(FROM_ONE_ADDRESS) + index / FROM_ONE_ADDRESS;
                    come_and_go(bed, index % MANNERS, [127, 1, (block / 200) as u8, (block % 200) as u8 + 1]);
                }
            });
        }
    });
    let share = (count / MANNERS) as u64;
    // Over TLS, one manner hangs up before a handshake. Two reset: whether that is seen as an end, and whether what was said
    // before it is seen at all, is the kernel's affair.
    let (hung_up, reset) = if bed.way == Way::Tls { (share, share) } else { (0, 0) };
    vec![
        ("upgraded", 4 * share..=4 * share),
        ("rejected", share..=share),
        ("faults", share..=share),
        ("tls_not_tls", 0..=reset),
        ("tls_failures", hung_up..=hung_up + 2 * reset),
    ]
}

#[test]
fn twenty_thousand_connections_come_and_go_and_leave_nothing_behind() {
    // Played three times at least.
    hold(&[Way::Plain], FINDING, |bed| crowd(bed, 6688));
}

#[test]
fn five_thousand_secured_connections_come_and_go_and_leave_nothing_behind() {
    // Fewer: most of them have both ends make a handshake, and those of the clients take all of a test machine's time.
    hold(&[Way::Tls], FINDING, |bed| crowd(bed, 1696));
}

#[test]
fn connections_that_vanish_all_at_once_leave_nothing_behind() {
    hold(&[Way::Plain, Way::Deflate], FINDING, |bed| {
        let mut crowd: Vec<_> = (0..300).map(|_| bed.open()).collect();
        crowd.iter_mut().for_each(|peer| peer.send(Opcode::Binary, &[1; 5000]));
        for (index, peer) in crowd.into_iter().enumerate() {
            if index % 3 > 0 {
                wire::reset(peer.stream.tcp());
            }
        }
        vec![]
    });
}
