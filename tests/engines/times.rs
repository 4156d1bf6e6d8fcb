//! What the engines say of when bytes came, on real loopback sockets.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};

use ringsock::engine::clock_ns;

use crate::harness::{Engine, Event, Gate, PATIENCE, hold, listening};

/// Receives that are looked at.
const RECEIVES: usize = 400;

#[test]
fn bytes_are_never_said_to_have_been_received_before_they_were_sent() {
    hold("bytes_are_never_said_to_have_been_received_before_they_were_sent", conversation);
}

fn say_the_time(mut stream: &TcpStream) {
    stream.write_all(&clock_ns().to_le_bytes()).unwrap();
}

/// The handler has both peers speak whenever it hears one, so that bytes arrive while a turn is under way, after others of
/// that turn.
fn conversation(engine: &'static Engine) {
    let (gate, mut on_wake) = Gate::new();
    let (done, ended) = mpsc::channel();
    let peers = Arc::<Mutex<Vec<TcpStream>>>::default();
    let heard = Arc::clone(&peers);
    let (mut receives, mut within_turn) = (0, 0);
    let running = engine.start(listening(), move |connections, event| match event {
        Event::Wake => on_wake(),
        Event::Bytes(_, received) => {
            let (turn_ns, received_ns) = (connections.now_ns(), connections.received_ns());
            assert!(received_ns <= clock_ns(), "received in the future");
            let stamps = received.memory[received.range].as_chunks().0;
            for said_ns in stamps.iter().map(|&stamp| u64::from_le_bytes(stamp)) {
                assert!(said_ns <= received_ns, "received {} ns before it was sent", said_ns - received_ns);
                within_turn += usize::from(said_ns > turn_ns);
            }
            receives += 1;
            if receives < RECEIVES {
                heard.lock().unwrap().iter().for_each(say_the_time);
            } else if receives == RECEIVES {
                done.send(within_turn).unwrap();
            }
        }
        _ => {}
    });
    peers.lock().unwrap().extend([running.connect(), running.connect()]);
    running.until("both are open", |counters| counters.opened == 2);
    gate.while_held(&running, || peers.lock().unwrap().iter().for_each(say_the_time));
    let within_turn = ended.recv_timeout(PATIENCE).expect("every receive is heard of");
    if engine.name == "epoll" {
        assert!(within_turn > 0, "nothing arrived within a turn");
    }
    running.stop();
}
