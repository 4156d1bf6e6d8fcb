//! Publish and subscribe, across the threads of a server.
//!
//! A *topic* has members: connections that publish, that subscribe, or both. What is published in one turn of a thread's loop is
//! composed into one piece of memory, its *frames*, which every subscriber on every thread sends from: nothing is copied for a
//! subscriber. All sends of a turn leave at its end, so nothing is late for it.
//!
//! | who | what |
//! |---|---|
//! | [`Hub`] | what threads share: which topics there are, and a mailbox for each thread |
//! | [`Floor`] | one thread's part: its members by topic, and what is to be delivered and handed over at the end of the turn |
//! | [`Member`] | one connection's part; dropped, it has left |
//!
//! Invariants: what one publisher publishes is delivered to each subscriber in that order, once. Who subscribed before a message was
//! published gets it, on whatever thread either is. A lock is taken when a member comes or goes, and once a turn for each thread
//! that is handed something, never for a message. A thread is woken once for all that is in its mailbox. A topic without members takes no memory.
//!
//! What waits is bounded at each place: frames in a mailbox by [`MAILBOX_BYTES`], beyond which publishers are to wait
//! ([`Member::may_publish`]); frames that subscribers have yet to send, by what the server makes of a slow one. [`Hub::held_bytes`]
//! says how much all of it comes to.
//!
//! Deliberately absent: one order for the messages of several publishers; two subscribers may see them differently interleaved.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::engine::Waker;
use crate::limits::{MAILBOX_BYTES, ROOMS};

mod floor;

pub use floor::{Delivery, Floor, Member};

/// What the threads of a server share. The default is that of one thread.
#[derive(Debug, Default)]
pub struct Hub {
    /// None where there is one thread only.
    mailboxes: Vec<Mailbox>,
    topics: Mutex<HashMap<Box<str>, Listed>>,
    held_bytes: AtomicUsize,
}

#[derive(Debug)]
struct Listed {
    topic: Arc<Topic>,
    member_count: usize,
}

/// There are as many topics as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTopics;

/// What threads know of a topic. What is ordered against other threads' looks is so by `SeqCst` throughout: it is rare.
#[derive(Debug)]
struct Topic {
    name: Box<str>,
    /// Subscribers, by thread.
    listeners: Vec<AtomicUsize>,
    /// Subscribers that everybody has to wait for.
    blocking: AtomicUsize,
    /// Threads that have publishers waiting for those.
    has_waiting: Vec<AtomicBool>,
}

impl Topic {
    fn new(name: &str, thread_count: usize) -> Self {
        Self {
            name: name.into(),
            listeners: std::iter::repeat_with(AtomicUsize::default).take(thread_count).collect(),
            blocking: AtomicUsize::new(0),
            has_waiting: std::iter::repeat_with(AtomicBool::default).take(thread_count).collect(),
        }
    }

    fn listener_count(&self) -> usize {
        self.listeners.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }
}

/// Frames on their way to another thread.
#[derive(Debug)]
struct Parcel {
    topic: Arc<Topic>,
    frames: Bytes,
    message_count: u64,
}

#[derive(Debug)]
struct Mailbox {
    waker: Waker,
    /// The thread was woken, and has not looked since.
    is_woken: AtomicBool,
    mail: Mutex<Mail>,
}

#[derive(Debug, Default)]
struct Mail {
    parcels: Vec<Parcel>,
    byte_count: usize,
    /// Threads that have more than there was room for.
    waiting: Vec<usize>,
}

/// Frames, counted for as long as anybody has yet to send some of them.
struct Held {
    bytes: Vec<u8>,
    hub: Arc<Hub>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hub.held_bytes.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked holding it had done what it was there to do, or nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Of as many threads as there are wakers, each of which wakes the thread of that number.
    pub fn new(wakers: Vec<Waker>) -> Self {
        let mailbox = |waker| Mailbox { waker, is_woken: AtomicBool::new(false), mail: Mutex::default() };
        let mailboxes = if wakers.len() > 1 { wakers.into_iter().map(mailbox).collect() } else { Vec::new() };
        Self { mailboxes, ..Self::default() }
    }

    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.mailboxes.len().max(1)
    }

    /// How many topics have members.
    pub fn topic_count(&self) -> usize {
        lock(&self.topics).len()
    }

    /// Frames that somebody has yet to send, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    fn hold(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        self.held_bytes.fetch_add(bytes.capacity(), Ordering::Relaxed);
        Bytes::from_owner(Held { bytes, hub: Arc::clone(self) })
    }

    /// The topic of that name, with one member more.
    fn enter(&self, name: &str) -> Result<Arc<Topic>, TooManyTopics> {
        let mut topics = lock(&self.topics);
        if let Some(listed) = topics.get_mut(name) {
            listed.member_count += 1;
            return Ok(Arc::clone(&listed.topic));
        }
        if topics.len() >= ROOMS {
            return Err(TooManyTopics);
        }
        let topic = Arc::new(Topic::new(name, self.thread_count()));
        topics.insert(name.into(), Listed { topic: Arc::clone(&topic), member_count: 1 });
        Ok(topic)
    }

    /// One member less.
    fn leave(&self, name: &str) {
        let mut topics = lock(&self.topics);
        let listed = topics.get_mut(name).expect("a member's topic is listed");
        listed.member_count -= 1;
        if listed.member_count == 0 {
            topics.remove(name);
            if topics.is_empty() {
                topics.shrink_to_fit();
            }
        }
    }

    fn wake(&self, thread: usize) {
        if let Some(mailbox) = self.mailboxes.get(thread)
            && !mailbox.is_woken.swap(true, Ordering::SeqCst)
        {
            mailbox.waker.wake();
        }
    }

    /// Puts parcels into a thread's mailbox, as far as there is room; what is left, that thread will ask for by waking `from`.
    fn hand_over(&self, from: usize, to: usize, parcels: &mut std::collections::VecDeque<Parcel>) {
        let mut mail = lock(&self.mailboxes[to].mail);
        while mail.byte_count < MAILBOX_BYTES
            && let Some(parcel) = parcels.pop_front()
        {
            mail.byte_count += parcel.frames.len();
            mail.parcels.push(parcel);
        }
        if !parcels.is_empty() && !mail.waiting.contains(&from) {
            mail.waiting.push(from);
        }
        drop(mail);
        self.wake(to);
    }

    /// Takes what lies in a thread's mailbox.
    fn fetch(&self, thread: usize) -> Vec<Parcel> {
        let Some(mailbox) = self.mailboxes.get(thread) else { return Vec::new() };
        if !mailbox.is_woken.load(Ordering::SeqCst) {
            return Vec::new();
        }
        // Before it looks: whoever adds something afterwards wakes it again.
        mailbox.is_woken.store(false, Ordering::SeqCst);
        let mail = std::mem::take(&mut *lock(&mailbox.mail));
        mail.waiting.into_iter().for_each(|thread| self.wake(thread));
        mail.parcels
    }
}

#[cfg(test)]
mod tests;
