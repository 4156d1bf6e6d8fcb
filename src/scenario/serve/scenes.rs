//! The server's connections whose scenario works on whole messages: who is asked for, what each message is handed to, and what is
//! done at the end of a turn for all of them together.
//!
//! A connection waits for one of two things, and is not read from meanwhile: for its turn, where messages cost time
//! ([`Line`](work::Line)), or for the hub, where it publishes faster than a subscriber it has to wait for, or another
//! thread, takes.
//!
//! Invariant: one [`Stage`] a thread, made with the first such connection; a server that has none does nothing here.

use std::sync::Arc;

use super::{Awaited, NO_KEY, Peer, Serve, Served, SlowConsumer};
use crate::engine::{ConnId, Connections, Io, Received};
use crate::limits::WAITING_PIECE_BYTES;
use crate::scenario::broadcast::{self, Role};
use crate::scenario::deflate::Account;
use crate::scenario::echo::Answered;
use crate::scenario::hub::{Delivery, Floor, Hub, Member};
use crate::scenario::messages::{Message, Messages, Next};
use crate::scenario::serve::counters::Scenes;
use crate::scenario::{self, Query, json, push, work};
use crate::ws::connection::Connection;
use crate::ws::frame::{Fault, Opcode};
use crate::ws::handshake::Rejection;

/// What a thread has for such connections.
pub(super) struct Stage {
    floor: Floor,
    ground: work::Ground,
    parser: json::Parser,
    /// What messages that came in pieces, or have to wait, take.
    unread: Account,
    /// Publishers that wait for the hub.
    held: Vec<ConnId>,
}

impl Stage {
    fn new(hub: Arc<Hub>, thread: usize, unread_bytes_max: usize) -> Self {
        Self {
            floor: Floor::new(hub, thread),
            ground: work::Ground::default(),
            parser: json::Parser::default(),
            unread: Account::new(unread_bytes_max),
            held: Vec::new(),
        }
    }
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    Echo,
    Json,
    Work(work::Amount),
    Topic(Role),
    Push(push::Wish),
}

impl Wanted {
    /// By path and query.
    pub(super) fn read(path: &str, query: Option<&str>, served: &[&str]) -> Result<Self, Rejection> {
        let (scenario, name) = scenario::at_path(path).ok_or(Rejection::NotFound)?;
        if scenario.name == scenario::echo::ABOUT.name {
            // What it does not know there, the echo has always let pass.
            return Ok(Self::Echo);
        }
        if !served.contains(&scenario.name) {
            return Err(Rejection::NotServed { scenario: scenario.name });
        }
        let query = Query::read(scenario, query);
        let read = |query: &Query<'_>| match scenario.name {
            "json" => Ok(Self::Json),
            "work" => work::Amount::asked_for(query).map(Self::Work),
            "push" => push::Wish::asked_for(query).map(Self::Push),
            "rooms" => broadcast::check_name(name).and_then(|()| Role::asked_for(query)).map(Self::Topic),
            _ => Role::asked_for(query).map(Self::Topic),
        };
        query.and_then(|query| read(&query)).map_err(Rejection::Parameter)
    }
}

/// One connection.
pub struct Scene {
    pub(super) messages: Messages,
    part: Part,
    /// The peer will send nothing more, and must have been served by then.
    ended_until_ns: Option<u64>,
}

/// What is done for it.
enum Part {
    Json(Member),
    Work(work::Worker),
    Topic(Member),
    Push(push::Ticker),
}

impl Part {
    fn member(&mut self) -> Option<&mut Member> {
        match self {
            Self::Json(member) | Self::Topic(member) => Some(member),
            Self::Work(_) | Self::Push(_) => None,
        }
    }

    /// Whether another message may be taken now.
    fn is_ready(&self, stage: &Stage) -> bool {
        match self {
            Self::Json(member) | Self::Topic(member) => member.may_publish(),
            Self::Work(_) => !stage.ground.line.is_busy(),
            Self::Push(_) => true,
        }
    }

    /// Does with a message what is done here.
    fn take(
        &mut self,
        stage: &mut Stage,
        counts: &mut Scenes,
        io: &mut Io<'_>,
        mut message: Message<'_>,
    ) -> Next {
        let may_go_on = match self {
            Self::Work(worker) => {
                counts.worked_ns += worker.work(&mut stage.ground.line);
                message.echo(io);
                !stage.ground.line.is_spent()
            }
            Self::Json(member) => match json::answer(&mut stage.parser, member, io, message) {
                json::Answer::Echo => true,
                json::Answer::Error => {
                    counts.json_errors += 1;
                    true
                }
                json::Answer::Broadcast => {
                    (counts.published, counts.delivered) = (counts.published + 1, counts.delivered + 1);
                    member.may_publish()
                }
            },
            Self::Topic(member) => {
                let opcode = if message.is_text { Opcode::Text } else { Opcode::Binary };
                member.publish(opcode, message.payload());
                counts.published += 1;
                member.may_publish()
            }
            Self::Push(_) => true,
        };
        if may_go_on { Next::Take } else { Next::Wait }
    }
}

/// What waits for a turn, or for the hub, is to be looked at again.
fn line_up(stage: &mut Stage, part: &Part, id: ConnId) {
    match part {
        Part::Work(_) => stage.ground.line.line_up(id),
        Part::Json(_) | Part::Topic(_) | Part::Push(_) => stage.held.push(id),
    }
}

/// Whether a connection that waits for the hub may go on, or is gone.
fn is_ready(stage: &Stage, connections: &mut Connections<Peer>, id: ConnId) -> bool {
    match connections.get(id) {
        Some((Peer::Scene(scene), _)) => scene.part.is_ready(stage),
        _ => true,
    }
}

impl<R: FnMut(Served)> Serve<R> {
    /// The same, as thread number `thread` of those that the hub has.
    pub fn as_thread(mut self, thread: usize) -> Self {
        self.thread = thread;
        self
    }

    /// What a connection at another path than the echo's becomes.
    pub(super) fn scene(
        &mut self,
        asked: Wanted,
        path: &str,
        io: &Io<'_>,
        connection: Connection,
        now_ns: u64,
    ) -> Result<Peer, Rejection> {
        let (hub, thread, bytes_max) = (&self.shared.hub, self.thread, self.limits.queued_bytes_in_all);
        let stage =
            self.stage.get_or_insert_with(|| Box::new(Stage::new(Arc::clone(hub), thread, bytes_max)));
        let enter = |role| {
            let subscriber = Some(io.id()).filter(|_| role == Role::Both);
            stage.floor.enter(path, subscriber).map_err(|_| Rejection::TooManyRooms)
        };
        let part = match asked {
            Wanted::Echo => unreachable!("the echo is no scene"),
            Wanted::Json => Part::Json(enter(Role::Both)?),
            Wanted::Topic(role) => Part::Topic(enter(role)?),
            Wanted::Work(amount) => Part::Work(work::Worker::new(amount, &mut stage.ground)),
            Wanted::Push(wish) => Part::Push(push::Ticker::new(wish, now_ns)),
        };
        self.has_turns = true;
        let messages = Messages::new(connection, &stage.unread);
        Ok(Peer::Scene(Box::new(Scene { messages, part, ended_until_ns: None })))
    }

    #[cold]
    pub(super) fn on_scene_frames(
        &mut self,
        conn: &mut Peer,
        io: &mut Io<'_>,
        received: Received<'_>,
        skipped_bytes: usize,
        now_ns: u64,
    ) {
        let (Peer::Scene(scene), Some(stage)) = (&mut *conn, &mut self.stage) else { return };
        let Scene { messages, part, .. } = &mut **scene;
        let waited = messages.waits();
        let answered = if waited || part.is_ready(stage) || !messages.connection().is_open() {
            messages.receive(io, received, skipped_bytes, now_ns, |io, message| {
                part.take(stage, &mut self.served.scenes, io, message)
            })
        } else {
            messages.put_off(io, received, skipped_bytes, now_ns)
        };
        if !waited && messages.waits() {
            line_up(stage, part, io.id());
        }
        self.on_scene_answered(conn, io, answered, now_ns);
    }

    /// Goes on with what waited.
    fn go_on_with_scene(&mut self, stage: &mut Stage, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let Peer::Scene(scene) = &mut *conn else { return };
        let Scene { messages, part, ended_until_ns } = &mut **scene;
        if !messages.waits() {
            return;
        }
        // It is we who let it wait.
        *ended_until_ns = ended_until_ns.and(Some(now_ns.saturating_add(self.limits.close_ns)));
        let answered =
            messages.go_on(io, now_ns, |io, message| part.take(stage, &mut self.served.scenes, io, message));
        if messages.waits() {
            line_up(stage, part, io.id());
        }
        self.on_scene_answered(conn, io, answered, now_ns);
    }

    fn on_scene_answered(&mut self, conn: &mut Peer, io: &mut Io<'_>, answered: Answered, now_ns: u64) {
        let Peer::Scene(scene) = &mut *conn else { return };
        self.served.on_answered(&answered);
        if !scene.messages.connection().is_open() || self.is_draining() {
            self.on_frames_while_closing(conn, io, answered.fault, now_ns);
        } else if !scene.messages.waits() && scene.ended_until_ns.is_some() {
            self.served.kinds.hangups += 1;
            self.part(conn, io, now_ns);
        }
    }

    /// We have closed: what waits is not to be answered any more, but may have the peer's Close behind it.
    #[cold]
    pub(super) fn after_close_of_scene(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let Peer::Scene(scene) = &mut *conn else { return };
        let answered = scene.messages.go_on(io, now_ns, |_, _| Next::Take);
        self.served.on_answered(&answered);
        if answered.fault.is_some() || scene.messages.connection().is_closed() {
            self.on_frames_while_closing(conn, io, answered.fault, now_ns);
        }
    }

    /// Time has come, or room for more output.
    #[cold]
    pub(super) fn on_scene_time(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        let Peer::Scene(scene) = &mut *conn else { return };
        let Scene { messages, part, ended_until_ns } = &mut **scene;
        if let Some(until_ns) = *ended_until_ns {
            if until_ns <= now_ns {
                self.served.on_timeout(Awaited::Progress);
                return io.abort();
            }
            io.wake_by(until_ns);
        }
        if messages.waits() {
            // It cannot say that it is there.
            messages.connection().on_alive(now_ns);
        }
        if let Part::Push(ticker) = part
            && messages.connection().is_open()
        {
            self.served.scenes.pushed += ticker.tick(io, self.limits.queued_bytes);
        }
    }

    /// A slow peer has taken all that waited for it.
    #[cold]
    pub(super) fn on_scene_sent(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) {
        if let Peer::Scene(scene) = conn
            && let Some(member) = scene.part.member()
        {
            member.unblock();
        }
        self.on_scene_time(conn, io, now_ns);
    }

    /// The peer will send nothing more; says whether it still waits.
    #[cold]
    pub(super) fn scene_is_owed(&mut self, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) -> bool {
        let Peer::Scene(scene) = conn else { return false };
        let is_owed = scene.messages.waits() && scene.messages.connection().is_open();
        let until_ns = now_ns + self.limits.close_ns;
        scene.ended_until_ns = is_owed.then_some(until_ns);
        if is_owed {
            io.wake_by(until_ns);
        }
        is_owed
    }

    /// The sockets have been looked at: serves who waited, delivers what was published, and hands over what others are to have.
    /// When to be called again.
    #[cold]
    pub(super) fn end_turn_of_scenes(&mut self, connections: &mut Connections<Peer>) -> Option<u64> {
        let mut stage = self.stage.take()?;
        let now_ns = connections.now_ns();
        self.serve_work(&mut stage, connections, now_ns);
        stage.floor.hand_over();
        self.release(&mut stage, connections, now_ns);
        stage.floor.fetch();
        while let Some(delivery) = stage.floor.next_delivery() {
            self.deliver(&stage, &delivery, connections, now_ns);
        }
        stage.floor.hand_over();
        let may_go_on = stage.held.iter().any(|&id| is_ready(&stage, connections, id));
        let has_more = stage.ground.line.begin_turn() || may_go_on;
        self.stage = Some(stage);
        has_more.then_some(now_ns)
    }

    fn serve_work(&mut self, stage: &mut Stage, connections: &mut Connections<Peer>, now_ns: u64) {
        // One at least in each turn, so that there is an end to it.
        while let Some(id) = stage.ground.line.call_next() {
            if let Some((conn, mut io)) = connections.get(id) {
                self.go_on_with_scene(stage, conn, &mut io, now_ns);
            }
            if stage.ground.line.is_spent() {
                break;
            }
        }
    }

    /// Lets those go on who waited for the hub, if they may.
    fn release(&mut self, stage: &mut Stage, connections: &mut Connections<Peer>, now_ns: u64) {
        for id in std::mem::take(&mut stage.held) {
            if !is_ready(stage, connections, id) {
                stage.held.push(id);
            } else if let Some((conn, mut io)) = connections.get(id) {
                self.go_on_with_scene(stage, conn, &mut io, now_ns);
            }
        }
    }

    fn deliver(
        &mut self,
        stage: &Stage,
        delivery: &Delivery,
        connections: &mut Connections<Peer>,
        now_ns: u64,
    ) {
        let is_too_much_in_all = stage.floor.held_bytes_a_thread() > self.limits.queued_bytes_in_all;
        for place in 0..delivery.place_count() {
            let Some(id) = delivery.subscriber(place) else { continue };
            let Some((conn, mut io)) = connections.get(id) else { continue };
            let Peer::Scene(scene) = &mut *conn else { continue };
            if !scene.messages.connection().is_open() {
                continue;
            }
            // What is queued in this turn for one that reads is on its way, however much it is.
            let waiting_bytes = io.queued_bytes() + WAITING_PIECE_BYTES * io.queued_pieces();
            let is_slow = io.waits_since_ns().is_some()
                && (waiting_bytes > self.limits.queued_bytes || is_too_much_in_all);
            if is_slow && !self.keeps_slow(delivery, conn, &mut io, now_ns) {
                continue;
            }
            io.send(delivery.frames.clone());
            self.served.scenes.delivered += delivery.message_count;
        }
    }

    /// Does with a subscriber that is slow what is to be done; says whether it is sent this all the same.
    #[cold]
    fn keeps_slow(&mut self, delivery: &Delivery, conn: &mut Peer, io: &mut Io<'_>, now_ns: u64) -> bool {
        let Peer::Scene(scene) = &mut *conn else { return false };
        let counts = &mut self.served.scenes;
        match self.limits.slow_consumer {
            SlowConsumer::DropNewest => {
                counts.slow_dropped += delivery.message_count;
                false
            }
            SlowConsumer::Close => {
                counts.slow_closed += 1;
                let fault = Fault::SlowSubscriber;
                if let Some(frame) = scene.messages.connection().fail(fault, now_ns, NO_KEY) {
                    io.write(|out| out.extend_from_slice(frame.as_bytes()));
                }
                self.served.on_fault(fault);
                self.leave(conn, io, now_ns);
                false
            }
            SlowConsumer::Block => {
                let begins = scene.part.member().is_some_and(Member::block);
                counts.slow_blocked += u64::from(begins);
                true
            }
        }
    }
}
