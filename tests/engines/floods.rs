//! More connections that send without end than there are receive buffers, and one that has little to say.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicI64, Ordering};

use ringsock::engine::Config;

use crate::harness::{Engine, Event, hold, listening};

const BUFFERS: u16 = 8;
const FLOODS: usize = 3 * BUFFERS as usize;
const ECHOES: usize = 20;
/// What the floods may get rid of until the other has had its echoes: hundreds of times what a turn takes for each.
const FLOOD_BYTES: i64 = 2 << 30;

#[test]
fn floods_from_more_connections_than_there_are_buffers_starve_nobody() {
    hold("floods_from_more_connections_than_there_are_buffers_starve_nobody", conversation);
}

/// Writes whatever the connections take, in turn, while something is left.
fn flood(mut streams: Vec<TcpStream>, left_bytes: &AtomicI64) {
    let zeros = vec![0; 64 * 1024];
    streams.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    while left_bytes.load(Ordering::Relaxed) > 0 {
        for stream in &mut streams {
            match stream.write(&zeros) {
                Ok(count) => drop(left_bytes.fetch_sub(count as i64, Ordering::Relaxed)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn conversation(engine: &'static Engine) {
    let config = Config { recv_buffers: BUFFERS, recv_buffer_bytes: 32 * 1024, ..listening() };
    let running = engine.start(config, |connections, event| {
        if let Event::Bytes(id, received) = event
            && received.memory[received.range.start] != 0
            && let Some((_, mut io)) = connections.get(id)
        {
            io.reply_in_place(received.range);
        }
    });
    let mut other = running.connect();
    let left_bytes = &AtomicI64::new(FLOOD_BYTES);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let streams = (0..FLOODS / 2).map(|_| running.connect()).collect();
            scope.spawn(move || flood(streams, left_bytes));
        }
        running.until("they flood it", |counters| counters.received_bytes > 16 << 20);
        let was_served = echoes(&mut other) && left_bytes.swap(0, Ordering::Relaxed) > 0;
        left_bytes.store(0, Ordering::Relaxed);
        assert!(was_served, "{FLOOD_BYTES} bytes of floods went before {ECHOES} echoes");
    });
    drop(other);
    running.stop();
}

fn echoes(other: &mut TcpStream) -> bool {
    (0..ECHOES).all(|_| {
        other.write_all(&[7]).unwrap();
        let mut answer = [0];
        other.read_exact(&mut answer).is_ok() && answer == [7]
    })
}
