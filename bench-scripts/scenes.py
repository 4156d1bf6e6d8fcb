"""Scenarios of ringsock-load as cells ask for them, and proof that a server broadcasts before its figures count.

Kept: a figure stands for what its cell says, or there is none. `Scenario.refusal` reads in the generator's result file
whether it was that scenario, and whether everybody got everything; and before the first figure a server has to show, to
three clients and one that is elsewhere, that /broadcast delivers to all, to the sender as well, byte for byte and in order.
Deliberately absent: how fast any of it is.
Tested by its examples: python3 -m doctest bench-scripts/scenes.py
"""

from contextlib import ExitStack
from dataclasses import dataclass

import features

ROOM = "broadcast"
# The first byte of a binary message in one frame.
BINARY = 0x82
# About the borders between the three forms that a frame's length has, and longer than one segment of loopback.
SIZES = (24, 125, 126, 1024, 65535, 65536)


@dataclass(frozen=True)
class Scenario(features.Feature):
    """One of them; its name is what `--scenario` calls it."""

    def refusal(self, result):
        """Why `result`, a result file, is not what was meant; None if it is.

        >>> said = {"plan": {"scenario": "churn", "connections": 64}}
        >>> CHURN.refusal(said), JSON.refusal(said)
        (None, 'it played churn')
        """
        played = result["plan"]["scenario"]
        if played != self.name:
            return f"it played {played}"
        return fan_refusal(result) if self is BROADCAST else None

    def prove(self, address):
        if self is BROADCAST:
            check_broadcast(address)


BROADCAST = Scenario(
    "broadcast", "broadcast: one of them publishes, and every one gets it",
    ("--scenario", "broadcast", "--publishers", "1"), path=ROOM, unit="deliveries",
)
CHURN = Scenario(
    "churn", "churn: connect, upgrade, one message, close; again and again, so many at a time", ("--scenario", "churn"),
    unit="connections",
)
JSON = Scenario("json", "json: parsed, routed by type and answered", ("--scenario", "json"), path="json")
# The same sizes and the same opcode without JSON.
TEXT = features.Feature("text", "echo of text", ("--text",))


def fan_refusal(result):
    """Why a result file of a broadcast is not that of one in which everybody got everything; None if it is.

    >>> def result(**changed):
    ...     fan = {"subscribers": 9, "rooms": 1, "gaps": 0, "out_of_order": 0, "repeated": 0, **changed}
    ...     return {"plan": {"connections": 9}, "particulars": {"fan": fan}}
    >>> fan_refusal(result()), fan_refusal({"plan": {"connections": 9}, "particulars": None})
    (None, 'it does not say who got what')
    >>> fan_refusal(result(subscribers=8, gaps=2))
    'subscribers 8, gaps 2'
    """
    fan = (result.get("particulars") or {}).get("fan")
    if not fan:
        return "it does not say who got what"
    meant = {
        "subscribers": result["plan"]["connections"], "rooms": 1, "gaps": 0, "out_of_order": 0, "repeated": 0,
    }
    wrong = [f"{name} {fan[name]}" for name, value in meant.items() if fan[name] != value]
    return ", ".join(wrong) or None


# ---- a conversation of four


class Client:
    """One of them, at a path of the server; `with` ends its connection."""

    def __init__(self, address, path):
        self.wire = features.connect(address)
        self.received = self.wire.makefile("rb")
        try:
            features.upgrade(self.wire, self.received, f"/{path}")
        except BaseException:
            self.__exit__()
            raise

    def send(self, payload):
        self.wire.sendall(features.frame(payload, BINARY))

    def expect(self, payload, what):
        """ValueError unless this comes next."""
        try:
            first, came = features.next_message(self.received)
        except TimeoutError:
            raise ValueError(f"{what} does not come within {features.ANSWER_SECONDS_MAX} s") from None
        if (first & 0x7F, came) != (2, payload):
            found = f"{len(came)} bytes with the opcode {first & 0x0F} instead of {len(payload)}"
            raise ValueError(f"{what} does not come as it was: {found}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.received.close()
        self.wire.close()


def check_broadcast(address):
    """That each message at /broadcast comes to every client there, and to none elsewhere; ValueError says what is wrong."""
    with ExitStack() as held:
        other = held.enter_context(Client(address, ""))
        room = []
        for count in (1, 2, 3):
            room.append(held.enter_context(Client(address, ROOM)))
            # Who has had a message of its own is there for sure.
            publish(room, room[-1], [b"%d of us" % count])
        for number, size in enumerate(SIZES):
            publish(room, room[number % 3], [bytes([number * 8 + part]) * size for part in range(3)])
        # The first that comes to it is its own, which comes to nobody else.
        publish([other], other, [b"elsewhere"])
        publish(room, room[0], [b"the last"])


def publish(room, sender, payloads):
    """What one sends at once comes to everybody next, in that order."""
    for payload in payloads:
        sender.send(payload)
    for member in room:
        for payload in payloads:
            whose = "its own message" if member is sender else "another's message"
            member.expect(payload, f"{whose} of {len(payload)} bytes")
