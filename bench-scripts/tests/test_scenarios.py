"""What a server has to show before it is measured broadcasting, what is made of figures, and what a crowd that failed means.

Stand-ins on loopback play the servers, and small programs ringsock-server and ringsock-load; nothing is built or measured.
"""

import contextlib
import io
import json
import random
import socket
import sys
import tempfile
import threading
import types
import unittest
from pathlib import Path
from unittest import mock

from commands import command, program
import features
import interleaved
import scenes

scenarios = command("scenarios")

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class StandIn:
    """A server, a thread a connection: `targets(room, sender)` says who gets a message, `frames(payload)` as what."""

    def __init__(self, targets, frames, head):
        self.targets, self.frames, self.head = targets, frames, head
        self.lock, self.room, self.wires = threading.Lock(), [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self.listener.accept()
                self.wires.append(wire)
                threading.Thread(target=self.serve, args=(wire,), daemon=True).start()

    def serve(self, wire):
        with contextlib.suppress(OSError), wire.makefile("rb") as received:
            is_for_room = received.readline().startswith(b"GET /broadcast ")
            while received.readline() not in (b"\r\n", b""):
                pass
            if is_for_room:
                self.room.append(wire)
            wire.sendall(self.head)
            while (payload := read_message(received)) is not None:
                with self.lock:
                    for target in self.targets(self.room, wire) if is_for_room else [wire]:
                        target.sendall(self.frames(payload))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A thread that waits in accept() does not see the listener closed.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join(10)
        for open_socket in (self.listener, *self.wires):
            open_socket.close()


def read_message(received):
    """A client's payload, unmasked; None at the end."""
    head = received.read(2)
    if len(head) < 2:
        return None
    length = head[1] & 0x7F
    if length >= 126:
        length = int.from_bytes(received.read(2 if length == 126 else 8), "big")
    key, masked = received.read(4), received.read(length)
    return (int.from_bytes(masked, "big") ^ int.from_bytes((key * (length // 4 + 1))[:length], "big")).to_bytes(length, "big")


def frame(payload, first=0x82):
    length = len(payload)
    if length < 126:
        return bytes([first, length]) + payload
    form, size = (126, 2) if length < 1 << 16 else (127, 8)
    return bytes([first, form]) + length.to_bytes(size, "big") + payload


def everybody(room, _):
    return room


class Broadcasting(unittest.TestCase):
    def judged(self, targets=everybody, frames=frame, head=UPGRADED):
        with StandIn(targets, frames, head) as server, mock.patch.object(features, "ANSWER_SECONDS_MAX", 0.5):
            scenes.BROADCAST.prove(server.address)

    def assert_refused(self, why, **how):
        with self.assertRaisesRegex(ValueError, why):
            self.judged(**how)

    def test_one_that_delivers_to_everybody_is_taken(self):
        self.judged()

    def test_messages_may_come_in_fragments_with_pings_between(self):
        self.judged(frames=lambda payload: frame(payload[:5], 0x02) + frame(b"there?", 0x89) + frame(payload[5:], 0x80))

    def test_one_that_leaves_the_sender_out_is_refused(self):
        others = lambda room, sender: [it for it in room if it is not sender]
        self.assert_refused("its own message of 7 bytes does not come within", targets=others)

    def test_one_that_only_echoes_is_refused(self):
        self.assert_refused("another's message of 7 bytes does not come within", targets=lambda _, sender: [sender])

    def test_one_that_delivers_twice_is_refused(self):
        self.assert_refused("does not come as it was", targets=lambda room, _: [*room, *room])

    def test_one_that_changes_a_byte_is_refused(self):
        self.assert_refused("does not come as it was", frames=lambda payload: frame(payload[:-1] + b"?"))

    def test_one_that_makes_text_of_it_is_refused(self):
        self.assert_refused("with the opcode 1", frames=lambda payload: frame(payload, 0x81))

    def test_one_that_delivers_elsewhere_too_is_refused(self):
        class Everywhere(StandIn):
            def serve(self, wire):
                self.room.append(wire)
                super().serve(wire)

        with Everywhere(lambda room, _: dict.fromkeys(room), frame, UPGRADED) as server:
            with self.assertRaisesRegex(ValueError, "does not come as it was"):
                scenes.BROADCAST.prove(server.address)

    def test_one_that_does_not_know_the_path_is_refused(self):
        self.assert_refused("answers the handshake with `HTTP/1.1 404", head=b"HTTP/1.1 404 Not Found\r\n\r\n")


def comparison(**server_ns):
    """Four rounds alike; `uring_again` for the name with a space."""
    runs = {
        name.replace("_", " "): [{"server_ns": value, "load_ns": 1}] * 4 for name, value in server_ns.items()
    }
    return interleaved.Comparison(runs, "uring", "uring again", random.Random(1))


def said_of(compared):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        scenarios.print_aims(compared)
    return said.getvalue()


class Aims(unittest.TestCase):
    def test_broadcast_is_held_against_the_best_peer(self):
        (cell, *_) = scenarios.CELLS["broadcast"]
        met = said_of({cell: comparison(uring=60, uring_again=60, epoll=10, bun=100, soketto=200)})
        self.assertIn("uring at most 0.7 of the best peer, bun: 0.600 [0.600, 0.600]: met", met)
        missed = said_of({cell: comparison(uring=80, uring_again=80, epoll=10, bun=200, soketto=100)})
        self.assertIn("the best peer, soketto: 0.800 [0.800, 0.800]: MISSED", missed)

    def test_churn_must_not_be_dearer_than_any(self):
        (cell,) = scenarios.CELLS["churn"]
        said = said_of({cell: comparison(uring=80, uring_again=80, bun=70, soketto=100)})
        self.assertIn("uring not dearer than the best peer, bun: 1.143 [1.143, 1.143]: MISSED", said)

    def test_json_is_held_against_the_echo_of_the_same_engine(self):
        (cell, *_) = scenarios.CELLS["json"]
        runs = {"uring": 100, "uring_again": 100, "uring,_json": 120, "epoll": 100, "epoll,_json": 140}
        said = said_of({cell: comparison(**runs)})
        self.assertIn("at most 1.3 of echo over uring: 1.200 [1.200, 1.200]: met", said)
        self.assertIn("at most 1.3 of echo over epoll: 1.400 [1.400, 1.400]: MISSED", said)

    def test_what_was_not_measured_is_said_to_be_missing(self):
        cells = {cell: comparison(uring=80, uring_again=80) for cells in scenarios.CELLS.values() for cell in cells}
        said = said_of(cells)
        self.assertEqual(said.count("no peer was measured"), 3)
        self.assertEqual(said.count("epoll was not measured"), 2)


class Loads(unittest.TestCase):
    def test_json_and_echo_differ_in_path_and_scenario_alone(self):
        bench = types.SimpleNamespace(binaries={"ringsock-server": "s"}, progress=mock.Mock(), tables=mock.Mock())
        cells = scenarios.CELLS["json"]
        given = types.SimpleNamespace(cells={"json": cells}, rounds=1)
        scenarios.json_and_echo(bench, given, {"cells": []})
        _, contenders, _, notes = bench.tables.call_args.args
        played = {it.name: (it.feature or cells[0].feature) for it in contenders}
        self.assertEqual({name for name, it in played.items() if it is scenes.JSON}, {"uring, json", "epoll, json"})
        self.assertEqual({name for name, it in played.items() if it is scenes.TEXT}, {"uring", "uring again", "epoll"})
        self.assertEqual(notes["epoll, json"], "json")
        for it in contenders:
            self.assertEqual(it.command_for(played[it.name]), it.command, "the server is the same")
            self.assertTrue(it.has(cells[0].feature))

    def test_echo_of_text_has_nothing_to_refuse(self):
        self.assertIsNone(scenes.TEXT.refusal({"target": {}, "plan": {"scenario": "echo"}}))

    def test_a_figure_of_another_scenario_is_refused(self):
        result = {"plan": {"scenario": "echo", "connections": 9}, "target": {}}
        with self.assertRaisesRegex(interleaved.RunFailed, "it played echo"):
            interleaved.figures(result, scenes.CHURN)


class Flags(unittest.TestCase):
    def parsed(self, *words):
        with mock.patch.object(sys, "argv", ["scenarios", *words]):
            return scenarios.parse_flags()

    def error_of(self, *words):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as ended:
            self.parsed(*words)
        self.assertEqual(ended.exception.code, 2)
        return said.getvalue()

    def test_what_is_chosen_is_measured(self):
        self.assertEqual(self.parsed().only, list(scenarios.SCENARIOS))
        given = self.parsed("--only", "broadcast", "--only", "churn", "--cell", "1000x64B*")
        self.assertEqual([cell.name for cells in given.cells.values() for cell in cells], ["1000x64Bx1-broadcast"])
        self.assertFalse(any(self.parsed("--only", "idle").cells.values()))

    def test_what_cannot_be_is_refused(self):
        for words, why in (
            (("--cell", "9x*"), "--cell: none of that name; there are 1000x64Bx1-broadcast"),
            (("--only", "idle", "--cell", "64x*"), "none of the scenario idle"),
            (("--only", "chess"), "invalid choice: 'chess'"),
            (("--connections", "9"), "--connections: 1000 or more"),
            (("--hold", "60"), "--hold: `60` is no time"),
        ):
            with self.subTest(words=words):
                self.assertIn(why, self.error_of(*words))


SERVER = """\
#!/bin/sh
echo "listening on ws://127.0.0.1:9/"
exec sleep 60
"""
REFUSING = """\
#!/bin/sh
echo "ringsock-server: {why}" >&2
exit 1
"""
LOAD = """\
#!/bin/sh
echo "$*" > {folder}/flags
echo "saved {folder}/result.json"
"""


class Crowd(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)

    def hold(self, server=SERVER, **crowd):
        """What is said of a crowd, by a script whose programs these are."""
        crowd = {
            "connections": 4936, "opened": 4936, "held": 4936, "heartbeats": 9999,
            "server_memory": {"before_bytes": 0, "after_bytes": 1_480_800},
            "kernel_memory": {when: {"slab_bytes": 0, "tcp_buffer_bytes": 0} for when in ("before", "after")}, **crowd,
        }
        result = {
            "accounting": {"offered": 1, "errors": {}, "connections_failed": 0}, "outcome": {"status": "completed"},
            "particulars": {"crowd": crowd}, "cpu": {"server_cpu_s": 6.0},
            "summary": {"measured_s": 60.0, "response": {"p50_ns": 5, "p99_ns": 7}},
        }
        (self.folder / "result.json").write_text(json.dumps(result))
        binaries = {
            "ringsock-server": program(self.folder, "server", server),
            "ringsock-load": program(self.folder, "load", LOAD.format(folder=self.folder)),
        }
        cpu = min(interleaved.os.sched_getaffinity(0))
        given = types.SimpleNamespace(connections=5000, hold="60s", server_cpu=cpu, load_cpu=cpu)
        folder = types.SimpleNamespace(name=str(self.folder))
        bench = types.SimpleNamespace(given=given, binaries=binaries, folder=folder, load_flags=[], progress=mock.Mock())
        said, document = io.StringIO(), {}
        with contextlib.redirect_stdout(said):
            scenarios.crowd(bench, given, document)
        return said.getvalue(), document["idle"]

    def test_one_that_was_held_is_measured(self):
        said, document = self.hold()
        self.assertIn("server's own memory   300 B a connection", said)
        self.assertIn("at most 300: met", said)
        self.assertEqual(document["connections"], 4936)
        flags = (self.folder / "flags").read_text()
        self.assertIn("--scenario idle --connections 5000", flags)

    def test_more_memory_misses_the_aim(self):
        said, _ = self.hold(server_memory={"before_bytes": 0, "after_bytes": 1_490_000})
        self.assertIn("at most 300: MISSED", said)

    def test_one_that_lost_some_is_no_measurement(self):
        with self.assertRaisesRegex(interleaved.CannotMeasure, "4,936 were opened and 4,935 held"):
            self.hold(held=4935)

    def test_one_whose_heartbeats_were_not_answered_is_no_measurement(self):
        with self.assertRaisesRegex(interleaved.CannotMeasure, "9,871 heartbeats were answered, and 9,872 were due"):
            self.hold(heartbeats=9871)

    def test_where_the_limit_on_open_files_forbids_it_it_is_skipped_loudly(self):
        said, document = self.hold(REFUSING.format(why="raise it with ulimit -n 5500"))
        self.assertIn("idle: SKIPPED: 5,000 connections: the hard limit on open files (RLIMIT_NOFILE) is", said)
        self.assertIn("ulimit -n 5500", document["skipped"])

    def test_where_more_threads_would_help_it_is_no_skip(self):
        with self.assertRaisesRegex(interleaved.CannotMeasure, "have --threads 9"):
            self.hold(REFUSING.format(why="have --threads 9, or raise it with ulimit -n 5500"))

    def test_any_other_failure_is_no_skip(self):
        with self.assertRaisesRegex(interleaved.CannotMeasure, "the address is taken"):
            self.hold(REFUSING.format(why="the address is taken"))


if __name__ == "__main__":
    unittest.main()
