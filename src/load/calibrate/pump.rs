//! A loop that only sends and receives: what a generator could cost at least.
//!
//! Each connection sends the bytes of some messages, and those of another for each that has come back. The bytes are always
//! the same; nothing is masked, checked, timed or counted but their number.

use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use super::super::{LoadError, Plan, start_server};
use crate::cpu;
use crate::engine::{Closed, Config, ConnId, Connections, Handler, Received, Waker};
use crate::scenario::echo::Payloads;
use crate::server::Server;
use crate::ws::mask::Mask;

/// How long the pump may take to answer or end.
const PATIENCE: Duration = Duration::from_secs(10);

struct Pump {
    server: std::net::SocketAddr,
    unopened: u32,
    /// Messages in flight, each connection.
    pipeline: u64,
    frame: Vec<u8>,
    messages: u64,
    /// Told how many messages there were, whenever the thread is woken; the first time, also which thread it is.
    told: Sender<(i32, u64)>,
    ending: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Handler for Pump {
    /// Bytes of the message that has come back in part.
    type Conn = usize;

    fn on_accept(&mut self) -> usize {
        unreachable!("a pump has no listener")
    }

    fn on_open(&mut self, connections: &mut Connections<usize>, id: ConnId) {
        if let Some((_, mut io)) = connections.get(id) {
            for _ in 0..self.pipeline {
                io.write(|out| out.extend_from_slice(&self.frame));
            }
        }
    }

    fn on_bytes(&mut self, connections: &mut Connections<usize>, id: ConnId, received: Received<'_>) {
        let Some((part_bytes, mut io)) = connections.get(id) else { return };
        *part_bytes += received.range.len();
        while *part_bytes >= self.frame.len() {
            *part_bytes -= self.frame.len();
            self.messages += 1;
            io.write(|out| out.extend_from_slice(&self.frame));
        }
    }

    fn on_end(&mut self, connections: &mut Connections<usize>, id: ConnId) {
        if let Some((_, mut io)) = connections.get(id) {
            io.close();
        }
    }

    fn on_timer(&mut self, _: &mut Connections<usize>, _: ConnId) {}

    fn on_closed(&mut self, _: &mut Connections<usize>, _: usize, _: Closed) {}

    fn on_wake(&mut self, connections: &mut Connections<usize>) {
        if self.ending.load(std::sync::atomic::Ordering::Relaxed) {
            return connections.stop();
        }
        // Nobody listens only where the run was given up.
        let _ = self.told.send((cpu::current_thread_id(), self.messages));
    }

    fn on_turn(&mut self, connections: &mut Connections<usize>) -> Option<u64> {
        for _ in 0..std::mem::take(&mut self.unopened) {
            connections.connect(self.server, 0);
        }
        None
    }
}

/// The CPU time of a loop that moves the bytes of `plan`'s messages, `pipeline` of them in flight each connection, a
/// message, in nanoseconds.
///
/// # Errors
/// Server or loop did not start, or made no message.
pub(super) fn cpu_ns_per_message(plan: &Plan, pipeline: u64) -> Result<f64, LoadError> {
    let server = start_server(plan)?;
    let measured = measure(plan, pipeline, &server);
    server.drain(PATIENCE)?;
    measured
}

fn measure(plan: &Plan, pipeline: u64, server: &Server) -> Result<f64, LoadError> {
    let payloads = Payloads::new(plan.payload_bytes, plan.text, &mut fastrand::Rng::with_seed(plan.seed));
    let mut frame = Vec::new();
    payloads.encode(0, Mask::from_bytes([1, 2, 3, 4]), &mut frame);
    let ending = std::sync::Arc::default();
    let (told, answers) = mpsc::channel();
    let pump = Pump {
        server: server.address(),
        unopened: plan.connections,
        pipeline,
        frame,
        messages: 0,
        told,
        ending: std::sync::Arc::clone(&ending),
    };
    let waker = Waker::new().map_err(LoadError::Thread)?;
    let (cpu, engine, of_thread) = (plan.cpus[0], plan.engine.clone(), waker.clone());
    let connections_max = plan.connections;
    let body = move || {
        cpu::pin_current_thread(cpu).map_err(LoadError::Thread)?;
        let uring = engine.uring.clone();
        let config = Config { connections_max, outbox_bytes: usize::MAX, uring, ..Config::default() };
        engine.kind.run(config, &of_thread, pump, || {})?;
        Ok::<_, LoadError>(())
    };
    let thread =
        std::thread::Builder::new().name("pump".to_owned()).spawn(body).map_err(LoadError::Thread)?;
    let look = || {
        waker.wake();
        let (thread_id, messages) = answers.recv_timeout(PATIENCE).ok()?;
        Some((messages, cpu::used_ns(std::process::id(), Some(&[thread_id]))?))
    };
    std::thread::sleep(plan.warmup);
    let before = look();
    std::thread::sleep(plan.duration);
    let after = look();
    ending.store(true, std::sync::atomic::Ordering::Relaxed);
    waker.wake();
    match thread.join() {
        Ok(ended) => ended?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    match (before, after) {
        (Some((messages_before, used_before_ns)), Some((messages, used_ns)))
            if messages > messages_before =>
        {
            Ok((used_ns - used_before_ns) as f64 / (messages - messages_before) as f64)
        }
        _ => Err(LoadError::Stuck),
    }
}
