//! The server's role in the scenarios beside the echo: what a client says, cut in every way, and what it must hear.

use ringsock::engine::EngineKind;
use ringsock::scenario::json::Refusal;
use ringsock::scenario::push::Stamp;
use ringsock::ws::frame::Opcode;

use crate::listener::Heard;
use crate::peer::{Peer, request};
use crate::server::{Hears, Said, client, goodbye, hold_all, text};
use crate::serving::{Serving, config, limits};

crate::conversations!("server":
    json_is_routed_by_type_however_it_is_cut,
    work_is_an_echo_that_takes_its_time,
    breaches_at_other_paths_are_named_by_their_close_code,
    what_is_asked_wrongly_is_refused,
    one_room_is_one_conversation,
    pushes_come_unasked_by_the_schedule,
);

fn at(target: &str, label: &str, frames: &[Vec<u8>]) -> Said {
    let before = request("127.0.0.1:80".parse().unwrap(), target);
    Said { before, ..Said::frames(label, frames) }
}

mod conversation {
    use super::*;

    pub(super) fn json_is_routed_by_type_however_it_is_cut(engine: EngineKind) {
        let plain = r#"{"type":"echo","payload":{"a":[1,2.50,"x"]}}"#.as_bytes();
        let escaped = r#" {"payload":"\u00e9\"\\","type":"echo"}"#.as_bytes();
        let frames = [
            client(Opcode::Text, true, plain),
            client(Opcode::Text, false, &escaped[..9]),
            client(Opcode::Ping, true, b"?"),
            client(Opcode::Continuation, true, &escaped[9..]),
            client(Opcode::Text, true, b"{\"type\":\"echo\""),
            client(Opcode::Text, true, b"{\"type\":\"shout\"}"),
            client(Opcode::Text, true, b"[]"),
            client(Opcode::Text, true, b"{}"),
            client(Opcode::Binary, true, plain),
            goodbye(),
        ];
        let error = |refusal: Refusal| Heard::Text(refusal.reply().into_bytes());
        let hears = vec![
            Heard::Text(plain.to_vec()),
            Heard::Pong(b"?".to_vec()),
            Heard::Text(escaped.to_vec()),
            error(Refusal::Malformed),
            error(Refusal::UnknownType),
            error(Refusal::NotAnObject),
            error(Refusal::NoType),
            error(Refusal::Binary),
            Heard::Close(Some(1000)),
        ];
        let long = format!("{{\"type\":\"echo\",\"payload\":\"{}\"}}", "long ".repeat(20_000)).into_bytes();
        let of_long = [client(Opcode::Text, true, &long), goodbye()];
        let hears_long = vec![Heard::Text(long.clone()), Heard::Close(Some(1000))];
        hold_all(
            engine,
            limits(),
            &[
                (at("/json", "requests", &frames), Hears::Frames(hears)),
                (at("/json", "a long one", &of_long), Hears::Frames(hears_long)),
            ],
        );
    }

    pub(super) fn work_is_an_echo_that_takes_its_time(engine: EngineKind) {
        let (short, long) = (text(40), text(3000));
        let frames = [
            client(Opcode::Text, true, &short),
            client(Opcode::Binary, true, b""),
            client(Opcode::Text, false, &long[..1000]),
            client(Opcode::Ping, true, b""),
            client(Opcode::Continuation, true, &long[1000..]),
            client(Opcode::Binary, true, &long),
            goodbye(),
        ];
        let hears = || {
            Hears::Frames(vec![
                Heard::Text(short.clone()),
                Heard::Binary(Vec::new()),
                Heard::Pong(Vec::new()),
                Heard::Text(long.clone()),
                Heard::Binary(long.clone()),
                Heard::Close(Some(1000)),
            ])
        };
        let conversations =
            ["/work", "/work?us=300", "/work?kib=16"].map(|target| (at(target, target, &frames), hears()));
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn breaches_at_other_paths_are_named_by_their_close_code(engine: EngineKind) {
        let breaches = [
            (client(Opcode::Text, true, b"\xFF"), 1007),
            (client(Opcode::Continuation, true, b"x"), 1002),
            (client(Opcode::Close, true, b"x"), 1002),
        ];
        let targets = ["/json", "/work", "/room/of-nobody?role=publish"];
        let conversations: Vec<_> = targets
            .iter()
            .flat_map(|target| {
                breaches.iter().map(move |(breach, code)| {
                    let frames = [client(Opcode::Ping, true, b"?"), breach.clone()];
                    let said = Said { ends: true, ..at(target, &format!("{target}, {code}"), &frames) };
                    let hears = vec![Heard::Pong(b"?".to_vec()), Heard::Close(Some(*code))];
                    (said, Hears::Frames(hears))
                })
            })
            .collect();
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn what_is_asked_wrongly_is_refused(engine: EngineKind) {
        let conversations =
            [("/work?us=1000001", 400), ("/push?role=both", 400), ("/room/%20", 400), ("/jsons", 404)].map(
                |(target, status)| {
                    let bytes = request("127.0.0.1:80".parse().unwrap(), target);
                    (Said { ends: true, ..Said::raw(target, bytes) }, Hears::Refusal(status))
                },
            );
        hold_all(engine, limits(), &conversations);
    }

    pub(super) fn one_room_is_one_conversation(engine: EngineKind) {
        let serving = Serving::start(engine, config(4096), limits());
        let open = |target| Peer::open_at(serving.address, target);
        let (mut one, mut two, mut other) = (open("/room/a"), open("/room/a"), open("/room/b"));
        let mut silent = open("/room/a?role=publish");
        for size in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            for (opcode, payload) in [(Opcode::Text, text(size)), (Opcode::Binary, vec![size as u8; size])] {
                silent.send(opcode, &payload);
                one.expect(opcode, &payload);
                two.expect(opcode, &payload);
                two.send(opcode, &payload);
                two.expect(opcode, &payload);
                one.expect(opcode, &payload);
            }
        }
        other.echo(Opcode::Text, b"nothing of this was heard here");
        silent.send(Opcode::Ping, b"?");
        silent.expect(Opcode::Pong, b"?");
        let served = serving.served();
        assert_eq!((served.scenes.published, served.scenes.delivered), (29, 57));
        // Nobody is left in it, and then somebody is again.
        drop((one, two, silent));
        serving.until("they are gone", |served| served.connections == 1);
        let mut again = open("/room/a");
        again.echo(Opcode::Text, b"is anybody here?");
        drop((again, other));
        serving.stop();
    }

    pub(super) fn pushes_come_unasked_by_the_schedule(engine: EngineKind) {
        const INTERVAL_NS: u64 = 1_000_000;
        let serving = Serving::start(engine, config(4096), limits());
        let mut peer = Peer::open_at(serving.address, "/push?bytes=300");
        let mut first = None;
        for number in 0..300 {
            let (fin, opcode, payload) = peer.next().expect("a message, not the end");
            let stamp = Stamp::read(&payload).expect("a stamp");
            assert_eq!((fin, opcode, payload.len(), stamp.number), (true, Opcode::Binary, 300, number));
            let start_ns = *first.get_or_insert(stamp.due_ns);
            assert_eq!(stamp.due_ns, start_ns + number * INTERVAL_NS);
            assert!(stamp.composed_ns >= stamp.due_ns && stamp.composed_ns <= ringsock::engine::clock_ns());
        }
        // What a client says there is read, and answered where it is a ping.
        peer.send(Opcode::Text, b"thank you");
        peer.send(Opcode::Ping, b"?");
        while peer.next().expect("a pong among them").1 != Opcode::Pong {}
        drop(peer);
        serving.stop();
    }
}
