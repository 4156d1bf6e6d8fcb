//! Peers that are gone right behind what they sent: over every engine of [`crate::harness::ENGINES`], each connection is
//! told of its end, though nothing else would ever make the kernel look at it again.
//!
//! Where io_uring's multishot receive misses such an end, it does so a few times in ten thousand at most: so there are many.

use std::io::Write;
use std::net::TcpStream;

use crate::harness::{Engine, Event, Gate, Running, hold, listening, reset};
use ringsock::engine::Connections;

/// Connections that are opened before the first of them is heard from: fewer than an engine takes at a time.
const AT_ONCE: usize = 200;
const TIMES: usize = 15;

/// Receives and waits: whoever is not told of an end keeps the connection for ever.
fn listen(connections: &mut Connections<u64>, event: Event<'_>) {
    if let Event::End(id) = event {
        connections.get(id).expect("it has an end").1.close();
    }
}

/// Connections whose receives are armed.
fn crowd(running: &Running, times_before: usize) -> Vec<TcpStream> {
    let crowd = (0..AT_ONCE).map(|_| running.connect()).collect();
    running.until("all are open", |c| c.opened == ((times_before + 1) * AT_ONCE) as u64);
    crowd
}

fn say_and_vanish(mut peer: TcpStream) {
    peer.write_all(b"the last words").unwrap();
    reset(peer);
}

fn until_all_are_gone(running: &Running) {
    running.until("all are told of their end", |c| c.closed == c.opened);
}

#[test]
fn every_connection_reset_right_behind_its_data_is_told_of_its_end() {
    hold("every_connection_reset_right_behind_its_data_is_told_of_its_end", |engine: &'static Engine| {
        let running = engine.start(listening(), listen);
        for times_before in 0..TIMES {
            crowd(&running, times_before).into_iter().for_each(say_and_vanish);
            // The next crowd finds room even if some of these have to be found by looking.
            running.until("most are told", |c| c.opened - c.closed < 100);
        }
        until_all_are_gone(&running);
        running.stop();
    });
}

#[test]
fn connections_that_ended_while_the_engine_was_busy_are_all_told() {
    hold("connections_that_ended_while_the_engine_was_busy_are_all_told", |engine: &'static Engine| {
        let (gate, mut on_wake) = Gate::new();
        let running = engine.start(listening(), move |connections, event| match event {
            Event::Wake => on_wake(),
            event => listen(connections, event),
        });
        let crowd = crowd(&running, 0);
        gate.while_held(&running, || crowd.into_iter().for_each(say_and_vanish));
        until_all_are_gone(&running);
        running.stop();
    });
}
