//! How many connections a server has room for, and each of its threads: it is a matter of descriptors.
//!
//! Ordinary descriptors count against the limit on open files (`RLIMIT_NOFILE`) all together. Direct ones do not: the kernel holds
//! the table of each ring against that limit by itself, and against `IORING_MAX_FIXED_FILES`, when it is registered. So where each
//! thread has a table, more threads have room for more connections than there may be open files.
//!
//! Connections are spread over the threads' listeners by a hash of their addresses (`SO_REUSEPORT`), so shares are even but for
//! chance. Invariant: a table has room for an even share, for what chance adds to it but once in a billion times, and for those
//! that are told that there is no room. Where all connections fit into each table, nothing is left to chance.

use crate::engine::{EngineError, files};
use crate::limits::{ADMIN_CONNECTIONS, CONNECTIONS, DIRECT_DESCRIPTORS, REFUSED_CONNECTIONS, THREADS};

/// Descriptors that are not connections: standard streams, and of each thread its ring or epoll instance, listener,
/// eventfd and timers.
const OTHER_FILES: u64 = 64;
const FILES_PER_THREAD: u64 = 16;
/// Those of the admin address's thread, its connections among them.
const ADMIN_FILES: u64 = ADMIN_CONNECTIONS as u64 + REFUSED_CONNECTIONS as u64 + FILES_PER_THREAD;

/// By how many standard deviations a thread's share may exceed an even one.
const DEVIATIONS: u64 = 6;

/// For how many there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// On all threads together.
    pub(super) connections: u32,
    /// On each thread, those that are told that there is no room among them.
    pub(super) slots: u32,
}

impl Room {
    /// All of them may fall to one thread.
    fn in_each(connections: u32) -> Self {
        Self { connections, slots: connections.saturating_add(REFUSED_CONNECTIONS) }
    }

    /// Those of one thread that are let in.
    pub(super) fn connections_of_thread(self) -> u32 {
        self.connections.min(self.slots - REFUSED_CONNECTIONS)
    }
}

/// Why there is too little room.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The limit on open files is too low.
    #[error(transparent)]
    Files(EngineError),
    /// So are the tables that these threads have.
    #[error(
        "--threads {threads} has no room for {connections} connections: the table of direct descriptors of each thread holds \
         {table} at most, by the limit on open files or the kernel's; {mend}"
    )]
    Tables {
        /// How many were asked for.
        connections: u32,
        /// Threads there are to be.
        threads: usize,
        /// Direct descriptors that each may have.
        table: u64,
        /// What would do.
        mend: String,
    },
}

/// Room for as many as are `asked` for, else for as many as the limit on open files allows, which is raised as far as it can be.
/// `has_tables`: each thread has a table of direct descriptors. `has_admin`: there is an admin address besides, with a thread of
/// its own, which has none.
pub(super) fn make(
    asked: Option<u32>,
    threads: usize,
    has_tables: bool,
    has_admin: bool,
) -> Result<Room, RoomError> {
    let others = other_files(threads) + if has_admin { ADMIN_FILES } else { 0 };
    let overhead = u64::from(REFUSED_CONNECTIONS) + others;
    let Some(connections) = asked else {
        let limit = files::raise_towards(u64::from(CONNECTIONS) + overhead);
        let count = limit.saturating_sub(overhead).min(CONNECTIONS.into());
        let too_few = || EngineError::TooFewFiles { needed: overhead + 1, limit };
        return if count == 0 { Err(RoomError::Files(too_few())) } else { Ok(Room::in_each(count as u32)) };
    };
    let needed = u64::from(connections) + overhead;
    match files::ensure(needed) {
        Ok(()) if !has_tables || needed <= DIRECT_DESCRIPTORS => Ok(Room::in_each(connections)),
        Err(error) if !has_tables => Err(RoomError::Files(error)),
        _ => spread(connections, threads, files::raise_towards(needed)),
    }
}

/// Room in the tables of `threads` threads, under a `limit` on open files that is too low for all in each.
fn spread(connections: u32, threads: usize, limit: u64) -> Result<Room, RoomError> {
    let table = limit.min(DIRECT_DESCRIPTORS);
    let fits = |threads: usize| share(connections, threads) <= table && other_files(threads) <= limit;
    if threads > 1 && fits(threads) {
        return Ok(Room { connections, slots: table as u32 });
    }
    let needed = u64::from(connections) + u64::from(REFUSED_CONNECTIONS) + other_files(threads);
    let more_threads =
        (2..=THREADS).find(|&threads| fits(threads)).map(|enough| format!("have --threads {enough}"));
    let raise = || format!("raise the limit with `ulimit -n {needed}` (LimitNOFILE= in a systemd unit)");
    let raise = (needed <= DIRECT_DESCRIPTORS).then(raise);
    let mends: Vec<_> =
        more_threads.into_iter().chain(raise).chain(["ask for fewer connections".to_owned()]).collect();
    let mend = mends.join(", or ");
    Err(RoomError::Tables { connections, threads, table, mend })
}

/// Slots that each of `threads` threads needs: the share of one is binomial, its variance at most its mean.
fn share(connections: u32, threads: usize) -> u64 {
    let even = u64::from(connections).div_ceil(threads as u64);
    even + DEVIATIONS * (even.isqrt() + 1) + u64::from(REFUSED_CONNECTIONS)
}

fn other_files(threads: usize) -> u64 {
    OTHER_FILES + FILES_PER_THREAD * threads as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_fit_under_a_limit_of_20000_open_files_where_threads_are_many() {
        let room = spread(1_000_000, 64, 20_000).unwrap();
        assert_eq!(room, Room { connections: 1_000_000, slots: 20_000 });
        assert_eq!(room.connections_of_thread(), 20_000 - REFUSED_CONNECTIONS);
        let error = spread(1_000_000, 2, 20_000).unwrap_err().to_string();
        let enough = (2..).find(|&threads| spread(1_000_000, threads, 20_000).is_ok()).unwrap();
        assert!(1_000_000 / enough < 20_000 && enough < 60, "{enough} threads");
        for expected in [
            &*format!("--threads {enough}"),
            "--threads 2 has no room",
            "holds 20000 at most",
            "ulimit -n 1000352",
        ] {
            assert!(error.contains(expected), "no `{expected}` in {error}");
        }
    }

    #[test]
    fn where_no_number_of_threads_would_do_only_the_limit_is_named() {
        let error = spread(1_000_000, 4, 300).unwrap_err().to_string();
        assert!(!error.contains("have --threads") && error.contains("ulimit -n"), "{error}");
    }

    #[test]
    fn where_it_is_the_kernels_bound_no_higher_limit_is_asked_for() {
        let error = spread(2_000_000, 1, 3_000_000).unwrap_err().to_string();
        assert!(error.contains("have --threads 2,") && !error.contains("ulimit"), "{error}");
        assert_eq!(spread(2_000_000, 2, 3_000_000).unwrap().slots, 1 << 20);
    }

    #[test]
    fn a_share_has_room_for_what_chance_adds_to_an_even_one() {
        const CONNECTIONS: u32 = 100_000;
        let mut random = fastrand::Rng::with_seed(4);
        for threads in [2, 3, 16, 64] {
            for _ in 0..20 {
                let mut shares = vec![0_u64; threads];
                (0..CONNECTIONS).for_each(|_| shares[random.usize(..threads)] += 1);
                let most = shares.into_iter().max().unwrap();
                let room = share(CONNECTIONS, threads) - u64::from(REFUSED_CONNECTIONS);
                assert!(most <= room, "{most} of {CONNECTIONS} fell to one of {threads} threads");
            }
        }
    }
}
