//! What a real kernel does to an engine: signals in the middle of everything, and no descriptor left.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringsock::engine::{Config, EngineKind};
use ringsock::ws::frame::Opcode;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::peer::{PATIENCE, Peer, request, tcp};
use crate::serving::{Serving, config, limits};

crate::conversations!("server":
    signals_in_the_middle_of_everything_lose_nothing,
    want_of_descriptors_keeps_others_waiting_and_harms_nobody_inside,
);

/// Signals that were handled.
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Has `SIGUSR1` interrupt system calls, and nothing else: no `SA_RESTART`.
fn handle_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler only adds to an atomic, which is safe at any point; the action is initialised.
        let result = unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    });
}

/// Interrupts threads of this process, again and again, while `act` runs.
pub(crate) fn bombard(thread_ids: impl Fn() -> Vec<i32> + Sync, act: impl FnOnce()) {
    handle_signals();
    let before = HANDLED.load(Ordering::Relaxed);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for thread_id in thread_ids() {
                    // SAFETY: tgkill reads its three integers; the thread is of this process, or gone.
                    unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread_id, libc::SIGUSR1) };
                }
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        /// Ends the signals where `act` panics, too.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _ends = Ends(&done);
        act();
    });
    let handled = HANDLED.load(Ordering::Relaxed) - before;
    assert!(handled > 50, "only {handled} signals");
}

/// The descriptors of a process.
fn descriptors(id: u32) -> BTreeSet<u64> {
    let all = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    all.filter_map(|entry| entry.unwrap().file_name().to_string_lossy().parse().ok()).collect()
}

/// The limit under which so many more have room, in the gaps between those that there are and behind them.
fn limit_with_room(taken: &BTreeSet<u64>, room: u64) -> u64 {
    let free = (0..).filter(|number| !taken.contains(number));
    free.take(room as usize).last().unwrap() + 1
}

/// A connection that has asked to be upgraded.
struct Asking {
    stream: TcpStream,
    address: SocketAddr,
}

impl Asking {
    fn new(address: SocketAddr) -> Self {
        let mut stream = tcp(address);
        stream.write_all(&request(address, "/")).unwrap();
        Self { stream, address }
    }

    /// Whether the server has answered.
    fn is_answered(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0; 1]);
        self.stream.set_nonblocking(false).unwrap();
        match peeked {
            Ok(count) => {
                assert_eq!(count, 1, "it was turned away");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                false
            }
        }
    }

    fn open(self) -> Peer {
        Peer::after_request(self.stream, self.address)
    }
}

/// Takes out of `asking` those that are answered, until there are `count`.
fn answered(asking: &mut Vec<Asking>, count: usize) -> Vec<Peer> {
    let deadline = Instant::now() + PATIENCE;
    let mut peers = Vec::new();
    loop {
        let (inside, waiting): (Vec<_>, Vec<_>) = asking.drain(..).partition(Asking::is_answered);
        *asking = waiting;
        peers.extend(inside.into_iter().map(Asking::open));
        if peers.len() >= count {
            return peers;
        }
        assert!(Instant::now() < deadline, "{} more got in, not {count}", peers.len());
        std::thread::sleep(Duration::from_millis(2));
    }
}

mod conversation {
    use super::*;

    pub(super) fn signals_in_the_middle_of_everything_lose_nothing(engine: EngineKind) {
        let config = Config { outbox_bytes: 64 * 1024, ..config(2048) };
        let serving = Serving::start(engine, config, limits());
        bombard(
            || vec![serving.thread_id],
            || {
                std::thread::scope(|scope| {
                    for number in 0..6 {
                        let address = serving.address;
                        scope.spawn(move || {
                            for size in [0, 1, 126, 3000, 300_000] {
                                // Accepting, receiving and sending are all interrupted.
                                let mut peer = Peer::open(address);
                                let payload: Vec<u8> = (0..size).map(|at| (at * 7 + number) as u8).collect();
                                for _ in 0..20 {
                                    // Sent from a thread of its own: more than both kernels hold.
                                    let mut writer = peer.stream.try_clone().unwrap();
                                    let frame = crate::peer::frame(Opcode::Binary, &payload);
                                    std::thread::scope(|scope| {
                                        scope.spawn(move || writer.write_all(&frame).unwrap());
                                        peer.expect(Opcode::Binary, &payload);
                                    });
                                }
                                peer.send(Opcode::Close, &1000u16.to_be_bytes());
                                peer.expect(Opcode::Close, &1000u16.to_be_bytes());
                                peer.expect_end();
                            }
                        });
                    }
                });
            },
        );
        let served = serving.until("all have left", |served| served.connections == 0);
        assert_eq!((served.messages, served.upgrades, served.faults, served.timeouts), (600, 30, 0, 0));
        serving.stop();
    }

    pub(super) fn want_of_descriptors_keeps_others_waiting_and_harms_nobody_inside(engine: EngineKind) {
        const ROOM: u64 = 4;
        const WAITING: usize = 12;
        let flags = ["--threads=1".to_owned(), "--max-connections=64".to_owned()];
        let flags: Vec<String> = flags.into_iter().chain(crate::flags_of(engine)).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (server, address) = crate::peer::server(env!("CARGO_BIN_EXE_ringsock-server"), &flags);
        let count_before = descriptors(server.id()).len();
        let mut inside: Vec<Peer> = (0..3).map(|_| Peer::open(address)).collect();
        let taken = descriptors(server.id());
        // Direct descriptors have a table of their own, which the limit no longer concerns.
        let are_plain = taken.len() > count_before;
        let pid = Pid::from_raw(server.id() as i32);
        let limit = Rlimit { current: Some(limit_with_room(&taken, ROOM)), maximum: hard_limit(server.id()) };
        prlimit(pid, Resource::Nofile, limit).unwrap();

        let mut asking: Vec<Asking> = (0..WAITING).map(|_| Asking::new(address)).collect();
        let mut guests = answered(&mut asking, if are_plain { 1 } else { WAITING });
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Those inside are served all the while; one of them leaves whenever nobody else gets in.
            for peer in inside.iter_mut().chain(&mut guests) {
                peer.echo(Opcode::Binary, b"others wait");
            }
            guests.extend(answered(&mut asking, 0));
            assert!(!are_plain || guests.len() as u64 <= ROOM, "{} in {ROOM} descriptors", guests.len());
            if asking.is_empty() {
                break;
            }
            if guests.len() as u64 == ROOM {
                guests.remove(0);
            }
            assert!(Instant::now() < deadline, "{} still wait", asking.len());
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(guests);
        inside.iter_mut().for_each(|peer| peer.echo(Opcode::Text, b"and at last"));
        Peer::open(address).echo(Opcode::Text, b"anybody");
    }

    /// The hard limit on open files, which stays.
    fn hard_limit(id: u32) -> Option<u64> {
        let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(4).unwrap().parse().ok()
    }
}
