//! Memory that is held for peers, and how much of it there may be: an [`Account`] is shared by whoever holds some, each of whom
//! has an [`Entry`].
//!
//! Invariants: what an account says is the sum of its entries; an entry that grows beyond the bound does not grow; what is given
//! up, or dropped, is free at once for the others, on whatever thread they are.
//!
//! Deliberately absent: memory itself. Whoever has it says how much it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much is held, of how much that may be.
#[derive(Debug, Clone)]
pub struct Account {
    held_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl Default for Account {
    /// Without a bound.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Account {
    /// Nothing is held, and so much may be.
    pub fn new(bytes_max: usize) -> Self {
        Self { held_bytes: Arc::default(), bytes_max }
    }

    /// Of all entries together.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// How much may be.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// An entry of nothing.
    pub(in crate::scenario) fn entry(&self) -> Entry {
        Entry { account: self.clone(), bytes: 0 }
    }
}

/// What one of them holds.
#[derive(Debug)]
pub struct Entry {
    account: Account,
    bytes: usize,
}

impl Entry {
    /// It holds `bytes` now; says whether it may, and if not, all stays as it was. Free of charge where nothing changes.
    #[must_use]
    pub(in crate::scenario) fn set(&mut self, bytes: usize) -> bool {
        self.set_within(bytes, self.account.bytes_max)
    }

    /// The same, but it may not where all entries then held more than `bytes_max`.
    #[must_use]
    pub(super) fn set_within(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let held_bytes = &self.account.held_bytes;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let before = held_bytes.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > bytes_max {
                held_bytes.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else if bytes < self.bytes {
            held_bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.account.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_share_the_bound_and_give_back_what_they_held() {
        let account = Account::new(10);
        let (mut one, mut two) = (account.entry(), account.entry());
        assert!(one.set(4) && two.set(6));
        assert!(!one.set(5), "there is no more");
        assert_eq!(account.held_bytes(), 10);
        assert!(two.set(1) && one.set(9) && !two.set(2));
        drop(one);
        assert!(two.set(10));
        drop(two);
        assert_eq!(account.held_bytes(), 0);
    }
}
