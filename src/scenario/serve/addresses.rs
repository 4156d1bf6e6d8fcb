//! How many connections each address has, over all threads of a server.
//!
//! Invariants: who was counted in is counted out when it is gone, once; an address without connections takes no memory. IPv4
//! mapped into IPv6 counts as IPv4. IPv6 counts by its first 64 bits: that is the least that one customer is given (RFC 6177),
//! who has as many addresses in it as it likes (RFC 8981).
//!
//! The table is behind a lock, which is taken when a connection comes and when it goes, and not at all where there is no limit.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

/// What counts as one address. Keyed by the standard library's hash, which a peer cannot foresee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6(u64),
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<HashMap<Origin, u32>>);

impl Addresses {
    /// Counts a connection from `address` in; says how many there are with it.
    pub(super) fn enter(&self, address: IpAddr) -> u32 {
        let mut counts = self.counts();
        let count = counts.entry(Origin::of(address)).or_default();
        *count += 1;
        *count
    }

    /// Counts one out.
    pub(super) fn leave(&self, address: IpAddr) {
        let mut counts = self.counts();
        let origin = Origin::of(address);
        let count = counts.get_mut(&origin).expect("it was counted in");
        *count -= 1;
        if *count == 0 {
            counts.remove(&origin);
        }
    }

    /// How many addresses have connections.
    pub fn len(&self) -> usize {
        self.counts().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<Origin, u32>> {
        // Whoever panicked holding it had changed one number or none.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_counted_by_what_one_peer_can_choose_its_address_from() {
        let addresses = Addresses::default();
        assert_eq!(addresses.enter(address("192.0.2.1")), 1);
        assert_eq!(addresses.enter(address("::ffff:192.0.2.1")), 2, "IPv4, whatever socket it came to");
        assert_eq!(addresses.enter(address("192.0.2.2")), 1);
        assert_eq!(addresses.enter(address("2001:db8:0:1::1")), 1);
        assert_eq!(addresses.enter(address("2001:db8:0:1:ffff::2")), 2, "the same /64");
        assert_eq!(addresses.enter(address("2001:db8:0:2::1")), 1, "another");
        assert_eq!(addresses.len(), 4);
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let addresses = Addresses::default();
        for _ in 0..3 {
            addresses.enter(address("192.0.2.1"));
        }
        addresses.leave(address("192.0.2.1"));
        assert_eq!(addresses.enter(address("192.0.2.1")), 3);
        (0..3).for_each(|_| addresses.leave(address("192.0.2.1")));
        assert!(addresses.is_empty());
    }
}
