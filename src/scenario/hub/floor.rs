//! One thread's part of the hub.
//!
//! Order of calls: [`Floor::enter`] for each member, [`Member::publish`] and its like as messages come; at the end of a turn
//! [`Floor::fetch`], [`Floor::next_delivery`] until it gives none, [`Floor::hand_over`].

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Hub, Parcel, TooManyTopics, Topic};
use crate::engine::ConnId;
use crate::limits::BATCH_BYTES;
use crate::scenario::messages::append_frame;
use crate::ws::frame::{MAX_UNMASKED_HEADER_BYTES, Opcode};

/// See the module's text. Clones are the same.
#[derive(Debug, Clone)]
pub struct Floor(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    hub: Arc<Hub>,
    thread: usize,
    /// Topics that have members here.
    topics: RefCell<HashMap<Box<str>, Rc<Local>>>,
    ready: RefCell<VecDeque<Ready>>,
    /// What other threads are to be handed, by thread.
    outbound: RefCell<Vec<VecDeque<Parcel>>>,
    /// Another thread has had no room for all that it was to be handed.
    is_backlogged: Cell<bool>,
}

/// What one thread knows of a topic.
#[derive(Debug)]
struct Local {
    topic: Arc<Topic>,
    /// Subscribers here. A place that is free is taken by the next one.
    subscribers: RefCell<Vec<Option<ConnId>>>,
    free: RefCell<Vec<usize>>,
    member_count: Cell<usize>,
    /// Batches that were published here and not delivered yet, with how many messages they hold.
    pending: RefCell<VecDeque<(Vec<u8>, u64)>>,
}

/// What is to be delivered, in order.
#[derive(Debug)]
enum Ready {
    /// The first of a topic's batches.
    Batch(Rc<Local>),
    Delivery(Delivery),
}

/// Frames for the subscribers of a topic on this thread.
#[derive(Debug)]
pub struct Delivery {
    local: Rc<Local>,
    /// All of one batch.
    pub frames: Bytes,
    /// How many messages they are.
    pub message_count: u64,
    /// Who has had them already.
    except: Option<ConnId>,
}

impl Delivery {
    /// Who is to get them, by place; `None` where a place is free. Members may come and go meanwhile.
    pub fn subscriber(&self, place: usize) -> Option<ConnId> {
        let at_place = self.local.subscribers.borrow().get(place).copied().flatten();
        at_place.filter(|&id| Some(id) != self.except)
    }

    /// How many places there are.
    pub fn place_count(&self) -> usize {
        self.local.subscribers.borrow().len()
    }
}

impl Floor {
    /// That of thread number `thread`.
    ///
    /// # Panics
    /// If the hub has no such thread.
    pub fn new(hub: Arc<Hub>, thread: usize) -> Self {
        assert!(thread < hub.thread_count(), "thread {thread} of a hub of {}", hub.thread_count());
        let outbound = std::iter::repeat_with(VecDeque::new).take(hub.thread_count()).collect();
        Self(Rc::new(Shared {
            hub,
            thread,
            topics: RefCell::default(),
            ready: RefCell::default(),
            outbound: RefCell::new(outbound),
            is_backlogged: Cell::new(false),
        }))
    }

    /// A member of the topic `name`, which subscribes as `subscriber` if that is given.
    ///
    /// # Errors
    /// It would be one topic too many.
    pub fn enter(&self, name: &str, subscriber: Option<ConnId>) -> Result<Member, TooManyTopics> {
        let topic = self.0.hub.enter(name)?;
        let mut topics = self.0.topics.borrow_mut();
        let local = topics.entry(name.into()).or_insert_with(|| {
            Rc::new(Local {
                topic,
                subscribers: RefCell::default(),
                free: RefCell::default(),
                member_count: Cell::new(0),
                pending: RefCell::default(),
            })
        });
        let local = Rc::clone(local);
        local.member_count.set(local.member_count.get() + 1);
        let place = subscriber.map(|id| local.subscribe(id, self.0.thread));
        Ok(Member { floor: Rc::clone(&self.0), local, place, blocks: false })
    }

    /// Takes what other threads have published.
    pub fn fetch(&self) {
        let Shared { hub, thread, topics, ready, .. } = &*self.0;
        for Parcel { topic, frames, message_count } in hub.fetch(*thread) {
            let known = topics.borrow().get(&topic.name).cloned();
            // The last subscriber here may have left, and another topic have its name by now.
            let Some(local) = known.filter(|local| Arc::ptr_eq(&local.topic, &topic)) else { continue };
            ready.borrow_mut().push_back(Ready::Delivery(Delivery {
                local,
                frames,
                message_count,
                except: None,
            }));
        }
    }

    /// What is to be delivered next, on this thread; what was published here is put aside for others on the way.
    pub fn next_delivery(&self) -> Option<Delivery> {
        loop {
            let next = self.0.ready.borrow_mut().pop_front()?;
            let delivery = match next {
                Ready::Delivery(delivery) => delivery,
                Ready::Batch(local) => {
                    let (bytes, message_count) = local.pending.borrow_mut().pop_front()?;
                    let frames = self.0.hub.hold(bytes);
                    self.0.send_off(&local.topic, &frames, message_count);
                    Delivery { local, frames, message_count, except: None }
                }
            };
            if delivery.place_count() > 0 {
                return Some(delivery);
            }
        }
    }

    /// Hands over what other threads are to have, as far as they have room for it.
    pub fn hand_over(&self) {
        let Shared { hub, thread, outbound, is_backlogged, .. } = &*self.0;
        let mut is_left = false;
        for (to, parcels) in outbound.borrow_mut().iter_mut().enumerate() {
            if !parcels.is_empty() {
                hub.hand_over(*thread, to, parcels);
                is_left |= !parcels.is_empty();
            }
        }
        is_backlogged.set(is_left);
    }

    /// How much everybody, on all threads, has yet to send, for each of them.
    pub fn held_bytes_a_thread(&self) -> usize {
        self.0.hub.held_bytes() / self.0.hub.thread_count()
    }
}

impl Shared {
    /// For every other thread that has somebody who listens.
    fn send_off(&self, topic: &Arc<Topic>, frames: &Bytes, message_count: u64) {
        for (to, parcels) in self.outbound.borrow_mut().iter_mut().enumerate() {
            if to != self.thread && topic.listeners[to].load(Ordering::SeqCst) > 0 {
                parcels.push_back(Parcel { topic: Arc::clone(topic), frames: frames.clone(), message_count });
            }
        }
    }
}

impl Local {
    fn subscribe(&self, id: ConnId, thread: usize) -> usize {
        let mut subscribers = self.subscribers.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or(subscribers.len());
        if place == subscribers.len() {
            subscribers.push(None);
        }
        subscribers[place] = Some(id);
        self.topic.listeners[thread].fetch_add(1, Ordering::SeqCst);
        place
    }

    fn unsubscribe(&self, place: usize, thread: usize) {
        self.subscribers.borrow_mut()[place] = None;
        self.free.borrow_mut().push(place);
        self.topic.listeners[thread].fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection's membership. It must not outlive the thread.
#[derive(Debug)]
pub struct Member {
    floor: Rc<Shared>,
    local: Rc<Local>,
    /// Where it subscribes, if it does.
    place: Option<usize>,
    blocks: bool,
}

impl Member {
    /// Publishes a message to all subscribers.
    pub fn publish(&self, opcode: Opcode, payload: &[u8]) {
        let mut pending = self.local.pending.borrow_mut();
        let fits = |batch: &&mut (Vec<u8>, u64)| batch.0.len() + payload.len() <= BATCH_BYTES;
        if let Some((bytes, message_count)) = pending.back_mut().filter(fits) {
            append_frame(opcode, &[payload], bytes);
            *message_count += 1;
            return;
        }
        let mut bytes = Vec::with_capacity(payload.len() + MAX_UNMASKED_HEADER_BYTES);
        append_frame(opcode, &[payload], &mut bytes);
        pending.push_back((bytes, 1));
        self.floor.ready.borrow_mut().push_back(Ready::Batch(Rc::clone(&self.local)));
    }

    /// Publishes a message, made of these parts, to all but `publisher`, who is to be sent it at once: it is given back.
    pub fn publish_from(&self, publisher: ConnId, opcode: Opcode, parts: &[&[u8]]) -> Bytes {
        let payload_bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(payload_bytes + MAX_UNMASKED_HEADER_BYTES);
        append_frame(opcode, parts, &mut bytes);
        let frames = self.floor.hub.hold(bytes);
        self.floor.send_off(&self.local.topic, &frames, 1);
        let local = Rc::clone(&self.local);
        let delivery = Delivery { local, frames: frames.clone(), message_count: 1, except: Some(publisher) };
        self.floor.ready.borrow_mut().push_back(Ready::Delivery(delivery));
        frames
    }

    /// How many subscribe, on all threads.
    pub fn listener_count(&self) -> usize {
        self.local.topic.listener_count()
    }

    /// Whether publishers may go on: nobody blocks the topic, and other threads keep up. If not, this thread is woken when
    /// they may.
    pub fn may_publish(&self) -> bool {
        let Topic { blocking, has_waiting, .. } = &*self.local.topic;
        if blocking.load(Ordering::SeqCst) > 0 {
            has_waiting[self.floor.thread].store(true, Ordering::SeqCst);
            // Who ceased to block in between has not seen that somebody waits.
            if blocking.load(Ordering::SeqCst) > 0 {
                return false;
            }
        }
        !self.floor.is_backlogged.get()
    }

    /// Has publishers wait for this member, which is slow. Says whether they did not before.
    pub fn block(&mut self) -> bool {
        let begins = !std::mem::replace(&mut self.blocks, true);
        if begins {
            self.local.topic.blocking.fetch_add(1, Ordering::SeqCst);
        }
        begins
    }

    /// It need not be waited for any more.
    pub fn unblock(&mut self) {
        if !std::mem::take(&mut self.blocks) {
            return;
        }
        let Topic { blocking, has_waiting, .. } = &*self.local.topic;
        if blocking.fetch_sub(1, Ordering::SeqCst) == 1 {
            for (thread, has_waiting) in has_waiting.iter().enumerate() {
                if has_waiting.swap(false, Ordering::SeqCst) {
                    self.floor.hub.wake(thread);
                }
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.unblock();
        if let Some(place) = self.place {
            self.local.unsubscribe(place, self.floor.thread);
        }
        let left = self.local.member_count.get() - 1;
        self.local.member_count.set(left);
        if left == 0 {
            self.floor.topics.borrow_mut().remove(&self.local.topic.name);
        }
        self.floor.hub.leave(&self.local.topic.name);
    }
}
