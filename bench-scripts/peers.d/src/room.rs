//! `/broadcast`: each message goes to every connection at this path, to the sender's as well, as it came.
//!
//! Each member has a channel of its own and a task that writes what comes through it: the idiom of these libraries' examples, with
//! one payload shared by all. What is there when a member's task runs is flushed once, where the library has a flush.
//!
//! Invariant: every member that is there when a message is published gets it, in the order of publishing. Deliberately absent:
//! bounds. A member that does not read makes its channel grow, so this is for measurements whose clients all read.

use std::future::Future;
use std::sync::Mutex;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const PATH: &str = "/broadcast";

/// Whether a request's target, as `/broadcast?role=publish`, is of the room.
pub fn is_room(target: &str) -> bool {
    target.split('?').next() == Some(PATH)
}

/// Everybody at the path; `Message` should be cheap to clone.
pub struct Room<Message> {
    members: Mutex<Members<Message>>,
}

struct Members<Message> {
    next: u64,
    all: Vec<(u64, UnboundedSender<Message>)>,
}

/// A place in the room, until it is dropped; then the channel ends.
pub struct Member<Message: 'static> {
    room: &'static Room<Message>,
    number: u64,
    outbox: UnboundedSender<Message>,
}

impl<Message: Clone> Room<Message> {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "a static has to be made by a constant function")]
    pub const fn new() -> Self {
        Self { members: Mutex::new(Members { next: 0, all: Vec::new() }) }
    }

    /// One more member, and what is published from now on.
    pub fn enter(&'static self) -> (Member<Message>, UnboundedReceiver<Message>) {
        let (outbox, inbox) = unbounded_channel();
        let mut members = self.members.lock().expect("a member that panics ends the process");
        let number = members.next;
        members.next += 1;
        members.all.push((number, outbox.clone()));
        (Member { room: self, number, outbox }, inbox)
    }
}

impl<Message: Clone> Member<Message> {
    /// Sends it to everybody.
    pub fn publish(&self, message: Message) {
        let members = self.room.members.lock().expect("a member that panics ends the process");
        for (_, outbox) in &members.all {
            // One whose task has ended is about to leave.
            let _ = outbox.send(message.clone());
        }
    }

    /// Sends it to this member alone.
    pub fn tell(&self, message: Message) {
        let _ = self.outbox.send(message);
    }
}

impl<Message> Drop for Member<Message> {
    fn drop(&mut self) {
        let mut members = self.room.members.lock().expect("a member that panics ends the process");
        members.all.retain(|(number, _)| *number != self.number);
    }
}

/// What a connection does in the room, of a library whose sockets are `Stream` and `Sink`: reading and publishing, and writing. They
/// are for two tasks, so that what was published does not make a connection look for input. The second ends after the first.
pub fn take_part<Socket, Message, Fault>(
    socket: Socket,
    room: &'static Room<Message>,
    is_data: impl Fn(&Message) -> bool,
) -> (impl Future<Output = ()>, impl Future<Output = ()>)
where
    Socket: Stream<Item = Result<Message, Fault>> + Sink<Message, Error = Fault> + Unpin,
    Message: Clone,
{
    let (mut sink, mut stream) = socket.split();
    let (member, mut inbox) = room.enter();
    let reading = async move {
        while let Some(Ok(message)) = stream.next().await {
            if is_data(&message) {
                member.publish(message);
            }
        }
    };
    let writing = async move {
        while let Some(message) = inbox.recv().await {
            let mut next = Some(message);
            while let Some(message) = next {
                if sink.feed(message).await.is_err() {
                    return;
                }
                next = inbox.try_recv().ok();
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
    };
    (reading, writing)
}
