//! Which address of this machine connections come from: one has some 28,000 ports for one target
//! (`net.ipv4.ip_local_port_range`), and a loopback target can be reached from all of 127.0.0.0/8.
//!
//! Invariant: threads draw on addresses of their own, but for the kernel's choice: those that stay come from there on the first thread
//! alone, and elsewhere only where there is no other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::engine::{Closed, Route};

/// Addresses a thread may use beside the first.
const ADDRESSES_MAX: u32 = 1 << 16;
/// Connections from one address after which the next is taken: near the end of the ports, the kernel searches long for a free one.
const CONNECTIONS_PER_ADDRESS: u32 = 16_000;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Sources {
    thread: usize,
    /// The address under way: 0 is the kernel's choice.
    number: u32,
    used: u32,
    is_exhausted: bool,
}

impl Sources {
    pub(super) fn new(thread: usize) -> Self {
        Self { thread, number: 0, used: 0, is_exhausted: false }
    }

    /// A route to `to` for one more connection that is to stay, and the number of the address that it comes from.
    pub(super) fn for_staying(&mut self, to: SocketAddr) -> (Route, u32) {
        let is_others = self.thread > 0 && self.number == 0;
        if (is_others || self.used == CONNECTIONS_PER_ADDRESS) && can_spread(to) {
            self.move_on(self.number);
        }
        self.used += 1;
        (self.route(to), self.number)
    }

    /// A route to `to`, and the number of the address that it comes from.
    pub(super) fn for_passing(&self, to: SocketAddr) -> (Route, u32) {
        (self.route(to), self.number)
    }

    fn route(&self, to: SocketAddr) -> Route {
        let from = (self.number > 0).then(|| IpAddr::V4(self.address()));
        Route { from, ..Route::from(to) }
    }

    fn address(&self) -> Ipv4Addr {
        // 127.0.0.0/16 is left to those that are meant by it.
        let [high, low] = (self.number as u16).to_be_bytes();
        Ipv4Addr::new(127, 1 + (self.thread % 254) as u8, high, low)
    }

    fn move_on(&mut self, from_number: u32) {
        if from_number == self.number {
            self.is_exhausted |= self.number + 1 == ADDRESSES_MAX;
            (self.number, self.used) = ((self.number + 1) % ADDRESSES_MAX, 0);
        }
    }

    /// A connection from the address of this number has failed so: whether it is worth trying again, from the next address.
    pub(super) fn can_retry(&mut self, to: SocketAddr, number: u32, why: &Closed) -> bool {
        let is_out_of_ports =
            matches!(why, Closed::Connect(error) if error.kind() == io::ErrorKind::AddrNotAvailable);
        if !is_out_of_ports || !can_spread(to) || self.is_exhausted {
            return false;
        }
        self.move_on(number);
        true
    }
}

/// Whether another address of this machine reaches it as well.
fn can_spread(to: SocketAddr) -> bool {
    matches!(to.ip(), IpAddr::V4(ip) if ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out_of_ports() -> Closed {
        Closed::Connect(io::ErrorKind::AddrNotAvailable.into())
    }

    #[test]
    fn connections_that_stay_are_spread_over_addresses_before_ports_run_out() {
        let to: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for (thread, expected) in [
            (0, [None, Some("127.1.0.1"), Some("127.1.0.2")]),
            (3, ["127.4.0.1", "127.4.0.2", "127.4.0.3"].map(Some)),
        ] {
            let (mut sources, mut counts) = (Sources::new(thread), std::collections::BTreeMap::new());
            for _ in 0..3 * CONNECTIONS_PER_ADDRESS {
                *counts.entry(sources.for_staying(to).0.from.map(|from| from.to_string())).or_insert(0) += 1;
            }
            let expected = expected.map(|from| (from.map(str::to_owned), CONNECTIONS_PER_ADDRESS));
            assert!(counts.into_iter().eq(expected), "thread {thread}");
        }
    }

    #[test]
    fn the_next_address_is_taken_once_however_many_connections_found_no_port() {
        let to: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let mut sources = Sources::new(0);
        for _ in 0..5 {
            assert!(sources.can_retry(to, 0, &out_of_ports()));
        }
        assert_eq!(sources.for_passing(to).0.from, Some("127.1.0.1".parse().unwrap()));
        assert!(!sources.can_retry(to, 1, &Closed::ByUs));
        // Elsewhere this machine has one address that would do.
        let far: SocketAddr = "192.0.2.1:9".parse().unwrap();
        assert!(!sources.can_retry(far, 1, &out_of_ports()));
    }

    #[test]
    fn it_ends_where_every_address_is_used_up() {
        let to: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let mut sources = Sources::new(0);
        let mut tries = 0;
        while sources.can_retry(to, sources.number, &out_of_ports()) {
            tries += 1;
            assert!(tries <= ADDRESSES_MAX, "it goes on for ever");
        }
        assert_eq!(tries, ADDRESSES_MAX);
    }
}
