//! What every engine must do for a handler, on real loopback sockets: each conversation runs over each engine
//! of [`crate::harness::ENGINES`], with tiny queues and buffers, so that the rare paths become ordinary ones.
//!
//! A conversation about a path asserts by the engine's counters that the path was taken.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{
    ENGINES, Engine, Event, Gate, PATIENCE, bytes, connecting, drain, echo, expect, expect_end, hold,
    listening, reset,
};
use bytes::Bytes;
use ringsock::engine::{Closed, Config, ConnId, Connections, Faults};

macro_rules! conversations {
    ($($name:ident),* $(,)?) => { $(
        #[test]
        fn $name() {
            hold(stringify!($name), conversation::$name);
        }
    )* };
}

conversations!(
    bytes_come_back_on_many_connections,
    want_of_buffers_loses_nothing,
    buffers_grow_until_they_suffice,
    what_has_arrived_before_receiving_begins_is_received_whole,
    short_sends_lose_nothing_and_keep_the_order,
    segments_of_all_kinds_leave_in_the_order_they_were_queued,
    a_peer_that_does_not_read_is_not_read_from_and_holds_nobody_up,
    a_writer_is_told_when_a_slow_peer_has_taken_everything,
    what_arrives_can_be_sent_to_others_from_where_it_is,
    a_peer_that_sends_without_end_holds_nobody_up,
    urgent_data_hides_nothing_behind_it,
    full_queues_lose_nothing,
    connections_beyond_the_limit_are_refused_until_others_close,
    a_reset_ends_its_connection_in_every_state,
    a_peer_that_only_stops_sending_still_gets_its_answer,
    a_shut_down_connection_still_receives,
    shutting_down_never_hits_the_slots_next_connection,
    closing_sends_what_is_queued_first,
    closing_waits_for_a_slow_peer,
    aborting_ends_at_once,
    a_refused_connection_is_reported,
    a_connection_that_does_not_come_about_can_be_given_up,
    a_handler_told_of_an_end_can_connect_again,
    a_refused_slot_is_not_preferred_to_a_free_one,
    timers_come_in_time_and_never_to_the_slots_next_connection,
    an_id_is_never_used_again,
    the_end_of_one_connection_can_be_told_to_another,
    stopping_sends_what_is_queued_and_closes_the_rest,
    nobody_gets_in_once_accepting_has_stopped,
    faults_of_the_kernel_lose_nothing,
);

/// Sends everything back; closes when the peer has ended.
fn echoing(connections: &mut Connections<u64>, event: Event<'_>) {
    match event {
        Event::Bytes(id, received) => {
            connections.get(id).expect("it has bytes").1.reply_in_place(received.range);
        }
        Event::End(id) => connections.get(id).expect("it has an end").1.close(),
        _ => {}
    }
}

/// Runs `act` for each of `count` streams at once.
fn at_once(count: usize, act: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for stream in 0..count {
            let act = &act;
            scope.spawn(move || act(stream));
        }
    });
}

/// Sends all of a stream from one thread while another reads it back.
fn pump(stream: TcpStream, number: usize, byte_count: usize, before_reading: impl FnOnce()) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = stream;
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&bytes(number, 0..byte_count)).unwrap());
        before_reading();
        expect(&mut reader, number, 0..byte_count);
    });
}

/// Writes until the peer takes nothing more; how much it took.
fn fill(stream: &mut TcpStream, number: usize, until: impl Fn() -> bool) -> usize {
    stream.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let (mut at, mut stuck_count) = (0, 0);
    while !(until() && stuck_count > 20) {
        match stream.write(&bytes(number, at..at + 16 * 1024)) {
            Ok(count) => (at, stuck_count) = (at + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                stuck_count += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(Instant::now() < deadline, "still not stuck after {at} bytes");
    }
    stream.set_nonblocking(false).unwrap();
    at
}

mod conversation {
    use super::*;

    pub(crate) fn bytes_come_back_on_many_connections(engine: &'static Engine) {
        let running = engine.start(listening(), echoing);
        at_once(50, |stream| {
            let mut client = running.connect();
            let mut at = 0;
            for size in [1, 2, 63, 64, 65, 4095, 4096, 4097, 30_000] {
                echo(&mut client, stream, at..at + size);
                at += size;
            }
            client.shutdown(Shutdown::Write).unwrap();
            expect_end(&mut client);
        });
        let counters = running.until("all are closed", |c| c.closed == 50);
        let total = 50 * (1 + 2 + 63 + 64 + 65 + 4095 + 4096 + 4097 + 30_000);
        assert_eq!((counters.opened, counters.received_bytes, counters.sent_bytes), (50, total, total));
        running.stop();
    }

    pub(crate) fn want_of_buffers_loses_nothing(engine: &'static Engine) {
        let config = Config { recv_buffers: 2, recv_buffer_bytes: 64, ..listening() };
        let running = engine.start(config, echoing);
        at_once(24, |stream| pump(running.connect(), stream, 40_000, || {}));
        let counters = running.counters();
        if engine.has_buffer_ring {
            assert!(counters.no_buffers > 0 && counters.recv_rearms >= counters.no_buffers, "{counters:?}");
        }
        running.stop();
    }

    pub(crate) fn buffers_grow_until_they_suffice(engine: &'static Engine) {
        let (gate, mut on_wake) = Gate::new();
        // 8 circulate at first; 200 connections with a buffer's worth each need more at once.
        let config = Config { recv_buffers: 256, recv_buffer_bytes: 64, cq_entries: 1024, ..listening() };
        let running = engine.start(config, move |connections, event| match event {
            Event::Wake => on_wake(),
            event => echoing(connections, event),
        });
        let mut clients: Vec<_> = (0..200).map(|_| running.connect()).collect();
        running.until("all are open", |c| c.opened == 200);
        let mut wants = Vec::new();
        for round in 0..4 {
            let at = round * 64..(round + 1) * 64;
            gate.while_held(&running, || {
                for (stream, client) in clients.iter_mut().enumerate() {
                    client.write_all(&bytes(stream, at.clone())).unwrap();
                }
            });
            for (stream, client) in clients.iter_mut().enumerate() {
                expect(client, stream, at.clone());
            }
            wants.push(running.counters().no_buffers);
        }
        if engine.has_buffer_ring {
            assert!(wants[0] > 0 && wants[2] == wants[3], "receives without a buffer by round: {wants:?}");
        }
        running.stop();
    }

    pub(crate) fn what_has_arrived_before_receiving_begins_is_received_whole(engine: &'static Engine) {
        let (gate, mut on_wake) = Gate::new();
        let config = Config { recv_buffer_bytes: 64, ..listening() };
        let running = engine.start(config, move |connections, event| match event {
            Event::Wake => on_wake(),
            event => echoing(connections, event),
        });
        // More buffers' worth than the kernel fills in one go, and nothing more to come.
        for buffer_count in [31, 32, 33, 63, 64, 65, 200] {
            let mut client = None;
            gate.while_held(&running, || {
                let mut early = running.connect();
                early.write_all(&bytes(3, 0..buffer_count * 64)).unwrap();
                client = Some(early);
            });
            expect(&mut client.unwrap(), 3, 0..buffer_count * 64);
        }
        running.stop();
    }

    pub(crate) fn short_sends_lose_nothing_and_keep_the_order(engine: &'static Engine) {
        // All may wait, so that the kernel has room for the rest only bit by bit once reading begins.
        let running = engine.start(Config { outbox_bytes: 8 << 20, ..listening() }, echoing);
        at_once(8, |stream| {
            pump(running.connect_narrowly(), stream, 6 << 20, || {
                running.until("all has come", |c| c.received_bytes == 8 * (6 << 20));
            });
        });
        let counters = running.until("all is sent", |c| c.sent_bytes == c.received_bytes);
        assert_eq!(counters.sent_bytes, 8 * (6 << 20));
        assert!(counters.short_sends > 1, "{counters:?}");
        running.stop();
    }

    pub(crate) fn segments_of_all_kinds_leave_in_the_order_they_were_queued(engine: &'static Engine) {
        const PIECE: usize = 1000;
        let running = engine.start(listening(), |connections, event| {
            // Answers `PIECE` bytes with themselves between written and shared ones, 50 times.
            let Event::Bytes(id, received) = event else { return };
            let (_, mut io) = connections.get(id).unwrap();
            let count = received.range.len() / 50;
            for index in 0..50 {
                let start = received.range.start + index * count;
                let own = 3 * index * count;
                io.write(|out| out.extend(bytes(9, own..own + count)));
                received.memory[start..start + count]
                    .copy_from_slice(&bytes(9, own + count..own + 2 * count));
                io.reply_in_place(start..start + count);
                io.send(Bytes::from(bytes(9, own + 2 * count..own + 3 * count)));
            }
        });
        let mut quick = running.connect();
        quick.write_all(&[0; PIECE]).unwrap();
        expect(&mut quick, 9, 0..3 * PIECE);
        running.stop();

        // The same to a peer that falls behind, with pieces that fill its window many times over.
        let running = engine.start(
            Config { recv_buffer_bytes: 64 * 1024, outbox_bytes: 1 << 30, ..listening() },
            |connections, event| {
                let Event::Bytes(id, received) = event else { return };
                let (_, mut io) = connections.get(id).unwrap();
                received.memory[received.range.start] = crate::harness::byte(4, 0);
                io.reply_in_place(received.range.start..received.range.start + 1);
                for index in 0..100 {
                    let at = 1 + index * 80_000;
                    io.write(|out| out.extend(bytes(4, at..at + 40_000)));
                    io.send(Bytes::from(bytes(4, at + 40_000..at + 80_000)));
                }
            },
        );
        let mut slow = running.connect_narrowly();
        slow.write_all(b"?").unwrap();
        let counters = running.until("a send falls short", |c| c.short_sends > 0);
        assert!(counters.sent_bytes < 8_000_001, "{counters:?}");
        expect(&mut slow, 4, 0..8_000_001);
        running.stop();
    }

    pub(crate) fn a_peer_that_does_not_read_is_not_read_from_and_holds_nobody_up(engine: &'static Engine) {
        const OUTBOX: usize = 64 * 1024;
        let most = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&most);
        let config = Config { outbox_bytes: OUTBOX, recv_buffer_bytes: 1024, ..listening() };
        let running = engine.start(config, move |connections, event| {
            let id = if let Event::Bytes(id, _) = &event { Some(*id) } else { None };
            echoing(connections, event);
            if let Some((_, io)) = id.and_then(|id| connections.get(id)) {
                seen.fetch_max(io.queued_bytes(), Ordering::Relaxed);
            }
        });
        let mut deaf = running.connect_narrowly();
        let sent = fill(&mut deaf, 1, || running.counters().pauses > 0);
        let before = running.counters();
        // What one turn can bring is not bounded by the outbox: as many buffers as circulate, at most.
        let bound = OUTBOX + 256 * 1024;
        assert!(most.load(Ordering::Relaxed) <= bound, "{} bytes were queued", most.load(Ordering::Relaxed));

        let mut other = running.connect();
        echo(&mut other, 2, 0..100_000);
        assert_eq!(running.counters().pauses, before.pauses, "only the deaf peer is paused");

        expect(&mut deaf, 1, 0..sent);
        echo(&mut deaf, 1, sent..sent + 10_000);
        running.stop();
    }

    pub(crate) fn a_writer_is_told_when_a_slow_peer_has_taken_everything(engine: &'static Engine) {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let running = engine.start(listening(), move |connections, event| match event {
            Event::Bytes(id, _) => {
                let (_, mut io) = connections.get(id).unwrap();
                // Large ones, which wait for the peer, and small ones behind them, which need not.
                io.send(Bytes::from(bytes(0, 0..6_000_000)));
                for index in 0..30 {
                    io.send(Bytes::from(bytes(0, 6_000_000 + index * 10..6_000_010 + index * 10)));
                }
            }
            Event::Writable(id) => {
                assert_eq!(connections.get(id).unwrap().1.queued_bytes(), 0);
                count.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        });
        let mut slow = running.connect_narrowly();
        for round in 1..=3 {
            let before = running.counters().short_sends;
            slow.write_all(b"?").unwrap();
            running.until("a send falls short", |c| c.short_sends > before);
            assert_eq!(told.load(Ordering::Relaxed) as u64, round - 1);
            expect(&mut slow, 0, 0..6_000_300);
            running.until("the writer is told", |_| told.load(Ordering::Relaxed) as u64 == round);
        }
        running.stop();
    }

    pub(crate) fn what_arrives_can_be_sent_to_others_from_where_it_is(engine: &'static Engine) {
        const TOTAL: usize = 8 << 20;
        let config = Config { outbox_bytes: 1 << 30, ..listening() };
        let running = engine.start(config, |connections, event| {
            let Event::Bytes(id, received) = event else { return };
            for other in connections.ids().into_iter().filter(|&other| other != id) {
                let (_, mut io) = connections.get(other).unwrap();
                let middle = received.range.start + received.range.len() / 2;
                io.reply_in_place(received.range.start..middle);
                io.reply_in_place(middle..received.range.end);
            }
        });
        let mut listeners: Vec<_> = (0..3).map(|_| running.connect()).collect();
        let mut deaf = running.connect_narrowly();
        let mut speaker = running.connect();
        running.until("all are open", |c| c.opened == 5);
        std::thread::scope(|scope| {
            scope.spawn(|| speaker.write_all(&bytes(2, 0..TOTAL)).unwrap());
            for listener in &mut listeners {
                scope.spawn(|| expect(listener, 2, 0..TOTAL));
            }
        });
        running.until("the deaf one falls behind", |c| c.short_sends > 0);
        expect(&mut deaf, 2, 0..TOTAL);
        running.until("all is sent", |c| c.sent_bytes == 4 * TOTAL as u64);
        running.stop();
    }

    pub(crate) fn a_peer_that_sends_without_end_holds_nobody_up(engine: &'static Engine) {
        // With a buffer so small, more has come before one is seen to.
        let config = Config { recv_buffer_bytes: 64, ..listening() };
        let running = engine.start(config, |connections, event| match event {
            Event::Bytes(_, received) if received.memory[received.range.start] == 0 => {}
            event => echoing(connections, event),
        });
        let mut endless = running.connect();
        let ending = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ending.load(Ordering::Relaxed) {
                    endless.write_all(&[0; 256 * 1024]).unwrap();
                }
            });
            running.until("it sends", |c| c.received_bytes > 1 << 20);
            let mut other = running.connect();
            for at in 0..20 {
                other.write_all(&[7]).unwrap();
                let mut answer = [0];
                let answered = other.read_exact(&mut answer);
                if answered.is_err() || answer != [7] {
                    ending.store(true, Ordering::Relaxed);
                    panic!("answer {at}: {answered:?}, {answer:?}");
                }
            }
            ending.store(true, Ordering::Relaxed);
        });
        running.stop();
    }

    pub(crate) fn urgent_data_hides_nothing_behind_it(engine: &'static Engine) {
        if engine.submits_by_thread() {
            // Received by that thread, what follows an urgent byte may wait for the next arrival (Linux 6.18, seen
            // in one of four runs).
            return;
        }
        let (gate, mut on_wake) = Gate::new();
        let running = engine.start(listening(), move |connections, event| match event {
            Event::Wake => on_wake(),
            event => echoing(connections, event),
        });
        let mut client = running.connect();
        echo(&mut client, 0, 0..10);
        // A receive ends at the urgent byte, which is left out, though there is more.
        gate.while_held(&running, || {
            client.write_all(&bytes(0, 10..20)).unwrap();
            socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
            client.write_all(&bytes(0, 20..30)).unwrap();
        });
        expect(&mut client, 0, 10..30);
        running.stop();
    }

    pub(crate) fn full_queues_lose_nothing(engine: &'static Engine) {
        let (gate, mut on_wake) = Gate::new();
        let config = Config { sq_entries: 2, cq_entries: 4, recv_buffer_bytes: 512, ..listening() };
        let running = engine.start(config, move |connections, event| match event {
            Event::Wake => on_wake(),
            event => echoing(connections, event),
        });
        let mut clients: Vec<_> = (0..64).map(|_| running.connect()).collect();
        running.until("all are open", |c| c.opened == 64);
        for round in 0..5 {
            let at = round * 3000..(round + 1) * 3000;
            gate.while_held(&running, || {
                for (stream, client) in clients.iter_mut().enumerate() {
                    client.write_all(&bytes(stream, at.clone())).unwrap();
                }
            });
            for (stream, client) in clients.iter_mut().enumerate() {
                expect(client, stream, at.clone());
            }
        }
        at_once(8, |stream| {
            pump(running.connect_narrowly(), stream, 6 << 20, || {
                running.until("a send falls short", |c| c.short_sends > 0);
            });
        });
        let counters = running.counters();
        if engine.has_buffer_ring {
            assert!(counters.cq_overflows > 0 && counters.recv_rearms > 0, "{counters:?}");
        }
        running.stop();
    }

    pub(crate) fn connections_beyond_the_limit_are_refused_until_others_close(engine: &'static Engine) {
        let running = engine.start(Config { connections_max: 2, ..listening() }, echoing);
        let mut first = running.connect();
        let mut second = running.connect();
        echo(&mut first, 1, 0..100);
        echo(&mut second, 2, 0..100);
        let mut third = running.connect();
        running.until("one is refused", |c| c.accept_refusals > 0);
        assert_eq!(drain(&mut third), 0, "a refused connection is closed");
        echo(&mut first, 1, 100..200);

        drop(first);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut again = running.connect();
            again.write_all(b"?").ok();
            if again.read(&mut [0; 1]).is_ok_and(|count| count == 1) {
                break;
            }
            assert!(Instant::now() < deadline, "nobody gets in though one has left");
        }
        echo(&mut second, 2, 100..200);
        running.stop();
    }

    pub(crate) fn a_reset_ends_its_connection_in_every_state(engine: &'static Engine) {
        let broken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&broken);
        let config = Config { outbox_bytes: 16 * 1024, ..listening() };
        let running = engine.start(config, move |connections, event| match event {
            Event::Closed(_, Closed::Broken(_)) => drop(count.fetch_add(1, Ordering::Relaxed)),
            event => echoing(connections, event),
        });
        // Idle.
        let idle = running.connect();
        running.until("it is open", |c| c.opened == 1);
        reset(idle);
        running.until("the idle one is gone", |c| c.closed == 1);
        // With an answer unread.
        let mut unread = running.connect();
        unread.write_all(b"x").unwrap();
        running.until("it is answered", |c| c.sent_bytes == 1);
        reset(unread);
        running.until("the unread one is gone", |c| c.closed == 2);
        // While a send waits for it, and it is not received from.
        let mut deaf = running.connect_narrowly();
        fill(&mut deaf, 1, || running.counters().pauses > 0);
        reset(deaf);
        running.until("the deaf one is gone", |c| c.closed == 3);
        // Before it was looked at.
        for _ in 0..20 {
            reset(running.connect());
        }
        let counters = running.until("all are gone", |c| c.opened == c.closed && c.closed >= 3);
        assert!(broken.load(Ordering::Relaxed) >= 3, "{counters:?}");
        echo(&mut running.connect(), 7, 0..1000);
        running.stop();
    }

    pub(crate) fn a_peer_that_only_stops_sending_still_gets_its_answer(engine: &'static Engine) {
        let running = engine.start(listening(), |connections, event| match event {
            Event::End(id) => {
                let (_, mut io) = connections.get(id).unwrap();
                io.send(Bytes::from(bytes(5, 1000..9_000_000)));
                io.close();
            }
            event => echoing(connections, event),
        });
        let mut client = running.connect_narrowly();
        client.write_all(&bytes(5, 0..1000)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        running.until("a send falls short", |c| c.short_sends > 0);
        expect(&mut client, 5, 0..9_000_000);
        expect_end(&mut client);
        running.until("it is closed", |c| c.closed == 1);
        running.stop();
    }

    pub(crate) fn a_shut_down_connection_still_receives(engine: &'static Engine) {
        let received = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&received);
        let running = engine.start(listening(), move |connections, event| match event {
            Event::Bytes(id, received) => {
                let mut all = all.lock().unwrap();
                all.extend_from_slice(&received.memory[received.range]);
                if all.len() == 1 {
                    let (_, mut io) = connections.get(id).unwrap();
                    io.send(Bytes::from(bytes(6, 0..2_000_000)));
                    io.shut_down();
                }
            }
            Event::End(id) => connections.get(id).unwrap().1.close(),
            _ => {}
        });
        let mut client = running.connect_narrowly();
        client.write_all(b"a").unwrap();
        expect(&mut client, 6, 0..2_000_000);
        expect_end(&mut client);
        client.write_all(b"bc").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        running.until("it is closed", |c| c.closed == 1);
        assert_eq!(*received.lock().unwrap(), b"abc");
        running.stop();
    }

    pub(crate) fn shutting_down_never_hits_the_slots_next_connection(engine: &'static Engine) {
        // `s` has the connection shut down and given up in one go; anything else is echoed.
        let running =
            engine.start(Config { connections_max: 1, ..listening() }, |connections, event| match event {
                Event::Bytes(id, received) if received.memory[received.range.start] == b's' => {
                    connections.get(id).unwrap().1.shut_down();
                    let soon_ns = connections.now_ns();
                    connections.get(id).unwrap().1.wake_by(soon_ns);
                }
                Event::Timer(id) => connections.get(id).unwrap().1.abort(),
                event => echoing(connections, event),
            });
        let mut closed_count = 0;
        for _ in 0..200 {
            let mut client = running.connect();
            client.write_all(b"s").unwrap();
            assert_eq!(drain(&mut client), 0);
            closed_count += 1;
            running.until("the slot is free", |c| c.closed >= closed_count);
            let mut next = running.connect();
            echo(&mut next, 0, 0..10);
            next.shutdown(Shutdown::Write).unwrap();
            expect_end(&mut next);
            closed_count += 1;
            running.until("the slot is free again", |c| c.closed >= closed_count);
        }
        running.stop();
    }

    pub(crate) fn closing_sends_what_is_queued_first(engine: &'static Engine) {
        let running = engine.start(listening(), |connections, event| {
            if let Event::Open(id) = event {
                let (_, mut io) = connections.get(id).unwrap();
                for index in 0..100 {
                    io.write(|out| out.extend(bytes(0, index * 20..index * 20 + 10)));
                    io.send(Bytes::from(bytes(0, index * 20 + 10..index * 20 + 20)));
                }
                io.close();
            }
        });
        for _ in 0..20 {
            let mut client = running.connect();
            expect(&mut client, 0, 0..2000);
            expect_end(&mut client);
        }
        running.until("all are closed", |c| c.closed == 20);
        running.stop();
    }

    pub(crate) fn closing_waits_for_a_slow_peer(engine: &'static Engine) {
        let running = engine.start(listening(), |connections, event| {
            if let Event::Open(id) = event {
                let (_, mut io) = connections.get(id).unwrap();
                io.send(Bytes::from(bytes(0, 0..9_000_000)));
                io.send(Bytes::from(bytes(0, 9_000_000..9_000_100)));
                io.close();
            }
        });
        let mut slow = running.connect_narrowly();
        let counters = running.until("a send falls short", |c| c.short_sends > 0);
        assert_eq!(counters.closed, 0, "it is not closed before it has everything");
        expect(&mut slow, 0, 0..9_000_100);
        expect_end(&mut slow);
        running.until("it is closed", |c| c.closed == 1);
        running.stop();
    }

    pub(crate) fn aborting_ends_at_once(engine: &'static Engine) {
        let running = engine.start(listening(), |connections, event| match event {
            Event::Open(id) => {
                connections.get(id).unwrap().1.send(Bytes::from(bytes(0, 0..8_000_000)));
            }
            Event::Bytes(id, _) => connections.get(id).unwrap().1.abort(),
            _ => {}
        });
        let mut slow = running.connect_narrowly();
        running.until("a send falls short", |c| c.short_sends > 0);
        slow.write_all(b"?").unwrap();
        running.until("it is gone though it has not read", |c| c.closed == 1);
        assert!(drain(&mut slow) < 8_000_000);
        running.stop();
    }

    pub(crate) fn a_refused_connection_is_reported(engine: &'static Engine) {
        let nobody = nobody_listens();
        let (tell, told) = mpsc::channel();
        let running = engine.start(connecting(), move |connections, event| match event {
            Event::Wake if connections.is_empty() && connections.counters().opened == 0 => {
                connections.connect(nobody, 42);
            }
            Event::Open(_) => panic!("nobody listens there"),
            Event::Closed(number, Closed::Connect(error)) => tell.send((number, error.kind())).unwrap(),
            Event::Closed(_, why) => panic!("{why:?}"),
            _ => {}
        });
        running.waker.wake();
        let expected = (42, std::io::ErrorKind::ConnectionRefused);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), expected);
        running.stop();
    }

    pub(crate) fn a_connection_that_does_not_come_about_can_be_given_up(engine: &'static Engine) {
        // A listener whose queue is full: the kernel drops further attempts, which are made again for minutes.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "the queue is never full");
        }
        let (tell, told) = mpsc::channel();
        let running = engine.start(connecting(), move |connections, event| match event {
            Event::Wake if connections.counters().opened == 0 => {
                let id = connections.connect(address, 1);
                let soon_ns = connections.now_ns() + 20_000_000;
                connections.get(id).unwrap().1.wake_by(soon_ns);
            }
            Event::Timer(id) => connections.get(id).unwrap().1.abort(),
            Event::Open(_) => panic!("the queue is full"),
            Event::Closed(number, Closed::ByUs) => tell.send(number).unwrap(),
            Event::Closed(_, why) => panic!("{why:?}"),
            _ => {}
        });
        running.waker.wake();
        assert_eq!(told.recv_timeout(PATIENCE).expect("it is given up when its time is over"), 1);
        running.stop();
    }

    pub(crate) fn a_handler_told_of_an_end_can_connect_again(engine: &'static Engine) {
        let nobody = nobody_listens();
        let (tell, told) = mpsc::channel();
        // Of two connections at a time one is too many: that end comes before the loop waits.
        let config = Config { connections_max: 1, ..connecting() };
        let running = engine.start(config, move |connections, event| match event {
            Event::Wake if connections.counters().opened == 0 => {
                connections.connect(nobody, 0);
                connections.connect(nobody, 100);
            }
            Event::Closed(number, Closed::Connect(_)) => {
                if number % 100 < 10 {
                    connections.connect(nobody, number + 1);
                } else {
                    tell.send(number).unwrap();
                }
            }
            _ => {}
        });
        running.waker.wake();
        let mut ended = [told.recv_timeout(PATIENCE).unwrap(), told.recv_timeout(PATIENCE).unwrap()];
        ended.sort_unstable();
        assert_eq!(ended, [10, 110]);
        running.stop();
    }

    pub(crate) fn a_refused_slot_is_not_preferred_to_a_free_one(engine: &'static Engine) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = mpsc::channel();
        let mut next = 0;
        let config = Config { connections_max: 1, ..connecting() };
        let running = engine.start(config, move |connections, event| match event {
            Event::Wake => {
                if next < 3 {
                    connections.connect(address, next);
                }
                next += 1;
            }
            Event::Open(id) => tell.send(format!("open {}", connections.get(id).unwrap().0)).unwrap(),
            Event::End(id) => connections.get(id).unwrap().1.close(),
            Event::Closed(number, Closed::ByUs) => tell.send(format!("closed {number}")).unwrap(),
            Event::Closed(number, _) => tell.send(format!("refused {number}")).unwrap(),
            _ => {}
        });
        running.waker.wake();
        let first = listener.accept().unwrap();
        let next_told = || told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(next_told(), "open 0");
        running.waker.wake();
        assert_eq!(next_told(), "refused 1");
        drop(first);
        assert_eq!(next_told(), "closed 0");
        running.waker.wake();
        assert_eq!(next_told(), "open 2");
        running.stop();
    }

    pub(crate) fn timers_come_in_time_and_never_to_the_slots_next_connection(engine: &'static Engine) {
        const MS: u64 = 1_000_000;
        let (tell, told) = mpsc::channel();
        let config = Config { connections_max: 1, ..listening() };
        let running = engine.start(config, move |connections, event| match event {
            Event::Open(id) => {
                let now_ns = connections.now_ns();
                let (&mut number, mut io) = connections.get(id).unwrap();
                if number == 0 {
                    // The earliest counts, in whatever order they are set.
                    io.wake_by(now_ns + 60_000 * MS);
                    io.wake_by(now_ns + 20 * MS);
                    io.wake_by(now_ns + 40 * MS);
                    tell.send((number, "due", now_ns + 20 * MS)).unwrap();
                }
            }
            Event::Timer(id) => {
                let now_ns = connections.now_ns();
                let (&mut number, mut io) = connections.get(id).unwrap();
                tell.send((number, "timer", now_ns)).unwrap();
                // The first connection leaves a timer behind.
                io.wake_by(now_ns + 30 * MS);
                io.close();
            }
            event => echoing(connections, event),
        });
        let first = running.connect();
        let (_, _, due_ns) = told.recv_timeout(PATIENCE).unwrap();
        let (number, what, at_ns) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!((number, what), (0, "timer"));
        assert!(at_ns >= due_ns, "{} ns too early", due_ns - at_ns);
        drop(first);
        running.until("the first is gone", |c| c.closed == 1);

        let mut second = running.connect();
        echo(&mut second, 0, 0..10);
        assert!(told.recv_timeout(Duration::from_millis(80)).is_err(), "the second has set no timer");
        running.stop();
    }

    pub(crate) fn an_id_is_never_used_again(engine: &'static Engine) {
        let ids = Arc::new(Mutex::new(Vec::<ConnId>::new()));
        let seen = Arc::clone(&ids);
        let config = Config { connections_max: 1, ..listening() };
        let running = engine.start(config, move |connections, event| match event {
            Event::Open(id) => {
                let mut seen = seen.lock().unwrap();
                for &old in seen.iter() {
                    assert!(old != id && old.index() == id.index(), "{old:?} and {id:?}");
                    assert!(connections.get(old).is_none(), "{old:?} is gone");
                }
                assert_eq!(connections.ids(), [id]);
                seen.push(id);
            }
            event => echoing(connections, event),
        });
        for round in 1..=5 {
            let mut client = running.connect();
            echo(&mut client, 0, 0..10);
            drop(client);
            running.until("it is closed", |c| c.closed == round);
        }
        assert_eq!(ids.lock().unwrap().len(), 5);
        running.stop();
    }

    pub(crate) fn the_end_of_one_connection_can_be_told_to_another(engine: &'static Engine) {
        // Its end is told while the other's output is being sent already.
        let running = engine.start(listening(), |connections, event| match event {
            Event::End(id) => {
                let later_ns = connections.now_ns() + 5_000_000;
                connections.get(id).unwrap().1.wake_by(later_ns);
            }
            Event::Timer(id) => {
                for other in connections.ids().into_iter().filter(|&other| other != id) {
                    connections.get(other).unwrap().1.write(|out| out.extend(bytes(0, 0..1000)));
                }
                connections.get(id).unwrap().1.close();
            }
            Event::Closed(..) => {
                for other in connections.ids() {
                    connections.get(other).unwrap().1.write(|out| out.extend(bytes(0, 1000..200_000)));
                }
            }
            _ => {}
        });
        let mut listeners: Vec<_> = (0..4).map(|_| running.connect()).collect();
        running.until("all are open", |c| c.opened == 4);
        let leaving = running.connect();
        running.until("the leaving one is open", |c| c.opened == 5);
        leaving.shutdown(Shutdown::Write).unwrap();
        for listener in &mut listeners {
            expect(listener, 0, 0..200_000);
        }
        running.stop();
    }

    pub(crate) fn stopping_sends_what_is_queued_and_closes_the_rest(engine: &'static Engine) {
        let running = engine.start(listening(), |connections, event| {
            if let Event::Bytes(id, received) = event {
                connections.get(id).unwrap().1.reply_in_place(received.range);
                connections.stop();
            }
        });
        let mut idle = running.connect();
        let mut last = running.connect();
        running.until("both are open", |c| c.opened == 2);
        echo(&mut last, 0, 0..100);
        running.wait();
        assert_eq!((drain(&mut idle), drain(&mut last)), (0, 0));
    }

    pub(crate) fn faults_of_the_kernel_lose_nothing(engine: &'static Engine) {
        let mut made = [0; 3];
        for seed in 0..8 {
            let faults = Faults::seeded(seed, 3);
            let config = Config { faults: faults.clone(), recv_buffer_bytes: 1024, ..listening() };
            let running = engine.start(config, echoing);
            at_once(20, |stream| pump(running.connect(), stream, 30_000, || {}));
            running.until("all are closed", |c| c.opened == 20 && c.closed == 20);
            running.stop();
            made = std::array::from_fn(|site| made[site] + faults.made()[site]);
        }
        assert!(made.iter().all(|&count| count > 0), "of accepts, receives and sends: {made:?}");
    }

    pub(crate) fn nobody_gets_in_once_accepting_has_stopped(engine: &'static Engine) {
        let running = engine.start(listening(), |connections, event| match event {
            Event::Wake if connections.counters().received_bytes > 0 => connections.stop_accepting(),
            event => echoing(connections, event),
        });
        let mut inside = running.connect();
        echo(&mut inside, 0, 0..10);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&running.address, PATIENCE).is_ok() {
            running.waker.wake();
            assert!(Instant::now() < deadline, "they still get in");
        }
        echo(&mut inside, 0, 10..20);
        running.stop();
    }
}

/// An address where a connection is refused.
fn nobody_listens() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn every_engine_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = ENGINES.iter().map(|engine| engine.name).collect();
    assert_eq!(names.len(), ENGINES.len());
}
