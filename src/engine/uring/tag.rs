//! What a completion belongs to, packed into its 64 bits of user data.
//!
//! 8 bits of operation, 24 of the connection's generation, 32 of its slot: the one place that packs and
//! unpacks them.

use super::super::{ConnId, GENERATION_MASK};

/// What was asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    /// Accept, on the listener; it may go on.
    Accept = 1,
    /// Connect of a new socket.
    Connect = 2,
    /// Receive; it may go on.
    Recv = 3,
    /// A send that never waits; most complete only if they failed.
    Send = 4,
    /// A send that waits for a slow peer.
    SlowSend = 5,
    /// Read of the eventfd.
    Wake = 6,
    /// A timeout for the earliest timer.
    Timer = 7,
    /// Close or cancel: completes only if it failed, and then there is nothing to do.
    Forget = 8,
    /// Shutdown of the sending side, or the wait for room to say so in.
    Shutdown = 9,
    /// A send without copy; it completes once when it is through and once when its memory is free. Its slot is a
    /// parking place.
    ZeroCopy = 10,
    /// The end of everything that is under way.
    CancelAll = 11,
}

/// User data for `op` on `id`.
#[inline]
pub(super) fn pack(op: Op, id: ConnId) -> u64 {
    (op as u64) << 56 | u64::from(id.generation) << 32 | u64::from(id.slot)
}

/// User data for an operation on no connection.
pub(super) fn pack_alone(op: Op) -> u64 {
    (op as u64) << 56
}

/// Reverses [`pack`].
#[inline]
pub(super) fn unpack(user_data: u64) -> (Op, ConnId) {
    let op = match user_data >> 56 {
        1 => Op::Accept,
        2 => Op::Connect,
        3 => Op::Recv,
        4 => Op::Send,
        5 => Op::SlowSend,
        6 => Op::Wake,
        7 => Op::Timer,
        8 => Op::Forget,
        9 => Op::Shutdown,
        10 => Op::ZeroCopy,
        11 => Op::CancelAll,
        other => unreachable!("operation {other} was never submitted"),
    };
    (op, ConnId { slot: user_data as u32, generation: (user_data >> 32) as u32 & GENERATION_MASK })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_keeps_operation_slot_and_generation_apart() {
        let ops =
            [Op::Accept, Op::Connect, Op::Recv, Op::Send, Op::SlowSend, Op::Wake, Op::Timer, Op::Forget];
        for op in ops.into_iter().chain([Op::Shutdown, Op::ZeroCopy, Op::CancelAll]) {
            for slot in [0, 1, u32::MAX] {
                for generation in [0, 1, GENERATION_MASK] {
                    let id = ConnId { slot, generation };
                    assert_eq!(unpack(pack(op, id)), (op, id));
                }
            }
        }
    }
}
