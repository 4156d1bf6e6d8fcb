//! Faults that a kernel may answer with, made to happen when a test wants them.
//!
//! An engine asks before each accept, receive and send whether it is to be taken as failed. Only such faults are
//! made as leave nothing done and nothing lost: a real kernel may give any of them at any time. Without a plan
//! the question costs a branch.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What becomes of a send instead of success.
#[derive(Debug)]
pub(crate) enum SendFault {
    /// Nothing was sent.
    Failed(io::Error),
    /// No more than so many bytes are to be sent: at least 1, and fewer than there were.
    Short(usize),
}

/// A plan of faults, the same for the same seed and order of questions. The default plans none.
#[derive(Debug, Clone)]
pub struct Faults {
    random: fastrand::Rng,
    /// Every so many questions, on average, is answered with a fault; 0: never.
    one_in: u32,
    made: Arc<[AtomicU64; 3]>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { random: fastrand::Rng::with_seed(0), one_in: 0, made: Arc::default() }
    }
}

impl Faults {
    /// Faults in one of `one_in` operations, drawn from `seed`.
    pub fn seeded(seed: u64, one_in: u32) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), one_in, made: Arc::default() }
    }

    /// Faults made so far by this plan and its clones: of accepts, receives and sends.
    pub fn made(&self) -> [u64; 3] {
        std::array::from_fn(|site| self.made[site].load(Ordering::Relaxed))
    }

    /// `accept(2)`: the connection was gone again, no descriptor or memory was free, a signal came.
    #[inline]
    pub(crate) fn accept(&mut self) -> Option<io::Error> {
        self.draw(0, &[libc::ECONNABORTED, libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::EINTR])
    }

    /// `recv(2)`: no memory was free, a signal came.
    #[inline]
    pub(crate) fn receive(&mut self) -> Option<io::Error> {
        self.draw(1, &[libc::ENOBUFS, libc::EINTR])
    }

    /// `send(2)` of `byte_count` bytes: no memory was free, a signal came, or not all was taken.
    #[inline]
    pub(crate) fn send(&mut self, byte_count: usize) -> Option<SendFault> {
        let error = self.draw(2, &[libc::ENOBUFS, libc::EINTR, 0, 0])?;
        match error.raw_os_error() {
            Some(0) if byte_count > 1 => Some(SendFault::Short(self.random.usize(1..byte_count))),
            Some(0) => None,
            _ => Some(SendFault::Failed(error)),
        }
    }

    #[inline]
    fn draw(&mut self, site: usize, codes: &[i32]) -> Option<io::Error> {
        if self.one_in == 0 {
            return None;
        }
        self.draw_rarely(site, codes)
    }

    #[cold]
    fn draw_rarely(&mut self, site: usize, codes: &[i32]) -> Option<io::Error> {
        if self.random.u32(0..self.one_in) != 0 {
            return None;
        }
        self.made[site].fetch_add(1, Ordering::Relaxed);
        Some(io::Error::from_raw_os_error(codes[self.random.usize(0..codes.len())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_rare_seeded_and_counted() {
        let mut none = Faults::default();
        assert!((0..1000).all(|_| none.accept().is_none() && none.send(9).is_none()));
        let (mut one, mut same) = (Faults::seeded(5, 4), Faults::seeded(5, 4));
        let codes = |faults: &mut Faults| -> Vec<_> {
            (0..1000).filter_map(|_| faults.receive()?.raw_os_error()).collect()
        };
        let drawn = codes(&mut one);
        assert_eq!(drawn, codes(&mut same));
        assert!((150..350).contains(&drawn.len()), "{} of 1000", drawn.len());
        assert_eq!(one.made(), [0, drawn.len() as u64, 0]);
        for _ in 0..1000 {
            if let Some(SendFault::Short(byte_count)) = one.send(3) {
                assert!((1..3).contains(&byte_count));
            }
        }
    }
}
