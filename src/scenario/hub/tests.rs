//! The hub without connections: who gets what, in which order, and what is bounded; on one thread by turns, and on several at
//! once.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::engine::ConnId;
use crate::limits::BATCH_BYTES;
use crate::ws::frame::Opcode;

fn hub(thread_count: usize) -> Arc<Hub> {
    Arc::new(Hub::new((0..thread_count).map(|_| Waker::new().expect("an eventfd")).collect()))
}

fn id(number: u32) -> ConnId {
    ConnId::first_in(number)
}

/// What a turn's end does: who gets which frames.
fn turn(floor: &Floor) -> Vec<(ConnId, Bytes, u64)> {
    let mut delivered = Vec::new();
    floor.fetch();
    while let Some(delivery) = floor.next_delivery() {
        for place in 0..delivery.place_count() {
            let Some(id) = delivery.subscriber(place) else { continue };
            delivered.push((id, delivery.frames.clone(), delivery.message_count));
        }
    }
    floor.hand_over();
    delivered
}

#[test]
fn what_is_published_in_a_turn_is_one_piece_of_memory_for_all() {
    let hub = hub(1);
    let floor = Floor::new(Arc::clone(&hub), 0);
    let members: Vec<_> = (0..3).map(|number| floor.enter("/a", Some(id(number))).unwrap()).collect();
    let _publisher_only = floor.enter("/a", None).unwrap();
    let _elsewhere = floor.enter("/b", Some(id(9))).unwrap();
    members[0].publish(Opcode::Text, b"one");
    members[2].publish(Opcode::Binary, b"two");
    let delivered = turn(&floor);
    let whom: Vec<_> = delivered.iter().map(|(id, ..)| id.index()).collect();
    assert_eq!(whom, [0, 1, 2]);
    for (_, frames, message_count) in &delivered {
        assert_eq!((&frames[..], *message_count), (&b"\x81\x03one\x82\x03two"[..], 2));
        assert_eq!(frames.as_ptr(), delivered[0].1.as_ptr(), "nothing is copied");
    }
    assert!(hub.held_bytes() >= 10);
    drop(delivered);
    assert_eq!(hub.held_bytes(), 0);
    assert!(turn(&floor).is_empty(), "once");
}

#[test]
fn long_batches_are_cut_and_nothing_is_lost_or_exchanged() {
    let floor = Floor::new(hub(1), 0);
    let member = floor.enter("/a", Some(id(0))).unwrap();
    let mut expected = Vec::new();
    for number in 0..100u8 {
        let payload = vec![number; 5000];
        member.publish(Opcode::Binary, &payload);
        expected.extend_from_slice(&[0x82, 126, (5000 >> 8) as u8, (5000 & 0xFF) as u8]);
        expected.extend(payload);
    }
    let delivered = turn(&floor);
    assert!(delivered.iter().all(|(_, frames, _)| frames.len() <= BATCH_BYTES + 5004));
    assert_eq!(delivered.iter().map(|(.., count)| count).sum::<u64>(), 100);
    let all: Vec<u8> = delivered.iter().flat_map(|(_, frames, _)| frames.to_vec()).collect();
    assert!(all == expected);
}

#[test]
fn who_publishes_for_the_others_is_not_told_again() {
    let hub = hub(2);
    let (here, there) = (Floor::new(Arc::clone(&hub), 0), Floor::new(Arc::clone(&hub), 1));
    let members = [0, 1].map(|number| here.enter("/json", Some(id(number))).unwrap());
    let _far = there.enter("/json", Some(id(0))).unwrap();
    assert_eq!(members[0].listener_count(), 3);
    let frame = members[0].publish_from(id(0), Opcode::Text, &[b"a", b"", b"bc"]);
    assert_eq!(frame[..], b"\x81\x03abc"[..]);
    let near = turn(&here);
    assert_eq!((near.len(), near[0].0.index()), (1, 1));
    let far = turn(&there);
    assert_eq!((far.len(), far[0].1.as_ptr()), (1, frame.as_ptr()), "the same memory on all threads");
}

#[test]
fn who_has_left_gets_nothing_and_a_topic_without_members_is_forgotten() {
    let hub = hub(2);
    let (here, there) = (Floor::new(Arc::clone(&hub), 0), Floor::new(Arc::clone(&hub), 1));
    let publisher = here.enter("/a", None).unwrap();
    let (one, two) = (there.enter("/a", Some(id(1))).unwrap(), there.enter("/a", Some(id(2))).unwrap());
    drop(one);
    publisher.publish(Opcode::Text, b"x");
    assert!(turn(&here).is_empty());
    // On its way: one leaves, another comes and takes its place.
    drop(two);
    let three = there.enter("/a", Some(id(3))).unwrap();
    turn(&there);
    assert_eq!((three.listener_count(), hub.topic_count()), (1, 1));
    publisher.publish(Opcode::Text, b"y");
    turn(&here);
    drop(three);
    assert!(turn(&there).is_empty(), "nobody is there any more");
    drop(publisher);
    assert_eq!((hub.topic_count(), hub.held_bytes()), (0, 0));
}

#[test]
fn there_are_as_many_topics_as_may_be_and_no_more() {
    let hub = hub(1);
    let floor = Floor::new(Arc::clone(&hub), 0);
    let mut members: Vec<_> =
        (0..ROOMS).map(|number| floor.enter(&number.to_string(), None).unwrap()).collect();
    assert_eq!(floor.enter("one more", None).map(drop), Err(TooManyTopics));
    assert!(floor.enter("7", None).is_ok(), "one that is there may be entered");
    members.pop();
    assert!(floor.enter("one more", None).is_ok());
    drop(members);
    assert_eq!(hub.topic_count(), 0);
}

#[test]
fn a_thread_that_does_not_look_has_publishers_wait_and_they_are_woken_when_it_does() {
    let hub = hub(2);
    let (here, there) = (Floor::new(Arc::clone(&hub), 0), Floor::new(Arc::clone(&hub), 1));
    let (publisher, _subscriber) = (here.enter("/a", None).unwrap(), there.enter("/a", Some(id(0))).unwrap());
    let mut published = 0u64;
    while publisher.may_publish() {
        publisher.publish(Opcode::Binary, &[0; 60_000]);
        published += 1;
        turn(&here);
        assert!(published < 200, "it is never told to wait");
    }
    assert!(hub.held_bytes() < MAILBOX_BYTES + 3 * 60_100);
    let is_woken = |thread: usize| hub.mailboxes[thread].is_woken.load(Ordering::SeqCst);
    assert!(is_woken(1) && !is_woken(0));
    let mut heard = turn(&there).len() as u64;
    assert!(is_woken(0), "it may go on");
    turn(&here);
    assert!(publisher.may_publish());
    heard += turn(&there).len() as u64;
    assert_eq!(heard, published);
}

#[test]
fn one_that_blocks_holds_up_its_topic_only_and_wakes_who_waited() {
    let hub = hub(2);
    let (here, there) = (Floor::new(Arc::clone(&hub), 0), Floor::new(Arc::clone(&hub), 1));
    let (publisher, other) = (here.enter("/a", None).unwrap(), here.enter("/b", None).unwrap());
    let (mut slow, mut slower) =
        (there.enter("/a", Some(id(0))).unwrap(), there.enter("/a", Some(id(1))).unwrap());
    assert!(slow.block() && !slow.block() && slower.block());
    assert!(!publisher.may_publish() && other.may_publish());
    let is_woken = |thread: usize| hub.mailboxes[thread].is_woken.load(Ordering::SeqCst);
    slow.unblock();
    slow.unblock();
    assert!(!publisher.may_publish() && !is_woken(0), "there is another one");
    drop(slower);
    assert!(publisher.may_publish() && is_woken(0), "who has left blocks nobody");
}

#[test]
fn threads_that_publish_to_each_other_all_hear_all_in_order() {
    const THREADS: usize = 4;
    const MESSAGES: u64 = 20_000;
    let (hub, done) = (hub(THREADS), AtomicU64::new(0));
    let entered = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (hub, done, entered) = (Arc::clone(&hub), &done, &entered);
            scope.spawn(move || {
                let floor = Floor::new(hub, thread);
                let member = floor.enter("/a", Some(id(0))).unwrap();
                entered.wait();
                let (mut published, mut heard) = (0, [0u64; THREADS]);
                let mut is_done = false;
                while done.load(Ordering::SeqCst) < THREADS as u64 {
                    for _ in 0..7 {
                        if published < MESSAGES && member.may_publish() {
                            let text = format!("{thread} {published:>90}");
                            member.publish(Opcode::Text, text.as_bytes());
                            published += 1;
                        }
                    }
                    for (_, frames, message_count) in turn(&floor) {
                        let messages = frames.chunks_exact(94);
                        assert_eq!((messages.len() as u64, messages.remainder().len()), (message_count, 0));
                        for message in messages {
                            let text = std::str::from_utf8(&message[2..]).unwrap();
                            let (from, number) = text.split_once(' ').unwrap();
                            let due = &mut heard[from.parse::<usize>().unwrap()];
                            assert_eq!(number.trim().parse(), Ok(*due), "thread {thread}, from {from}");
                            *due += 1;
                        }
                    }
                    if !is_done && heard == [MESSAGES; THREADS] {
                        is_done = true;
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!((hub.topic_count(), hub.held_bytes()), (0, 0));
}
