"""A client made with Python's `websockets` that checks an echo server.

    client.py URL conversation   every check below, one line each: `ok NAME` or `FAILED NAME: why`; exit 1 if any failed
    client.py URL compressed     the same over connections that must agree on permessage-deflate, with several parameters
    client.py URL goodbye        opens connections, prints `open`, and expects each to be closed with 1001

URL ends in `/`. client.mjs makes the same checks under the same names; tests/peers.rs holds the list.
"""

import asyncio
import random
import sys
from itertools import cycle

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

CHECK_SECONDS_MAX = 30
# Both sides of each change in the length form of a frame header (RFC 6455 section 5.2), and one far beyond.
SIZES_BYTES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]


# What connections offer in turn, in the mode `compressed`.
OFFERS = cycle(
    [
        {},
        {"client_no_context_takeover": True},
        {"server_no_context_takeover": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
        {"server_max_window_bits": 12, "server_no_context_takeover": True, "client_no_context_takeover": True},
    ]
)


def open_to(url, **options):
    """A connection without compression or proxy: what the frames say is what the check means."""
    defaults = {"compression": None, "proxy": None, "max_size": 16 << 20}
    if COMPRESSED:
        offer = {"client_max_window_bits": True, **next(OFFERS)}
        defaults["extensions"] = [ClientPerMessageDeflateFactory(**offer)]
    return connect(url, **{**defaults, **options})


def text_of(size_bytes):
    """Text of exactly `size_bytes` in UTF-8, with code points of one to four bytes."""
    unit = "ring-é-€-😀 "
    count, rest = divmod(size_bytes, len(unit.encode()))
    return unit * count + "r" * rest


def check_equal(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {brief(got)}, want {brief(want)}")


def brief(value):
    text = repr(value)
    return text if len(text) < 80 else f"{text[:60]}… ({len(value)} long)"


async def text_messages(url):
    async with open_to(url) as ws:
        check_equal("compressed", bool(ws.protocol.extensions), COMPRESSED)
        for size in SIZES_BYTES:
            await ws.send(text_of(size))
            check_equal(f"{size} bytes", await ws.recv(), text_of(size))


async def binary_messages(url):
    source = random.Random(1)
    async with open_to(url) as ws:
        for size in SIZES_BYTES:
            message = source.randbytes(size)
            await ws.send(message)
            check_equal(f"{size} bytes", await ws.recv(), message)


async def fragmented_messages(url):
    async with open_to(url) as ws:
        await ws.send(["one ", "", "twö ", "thr€e"])
        check_equal("text", await ws.recv(), "one twö thr€e")
        await ws.send([b"\0" * 125, b"\1" * 126, b"\2" * 65536])
        check_equal("binary", await ws.recv(), b"\0" * 125 + b"\1" * 126 + b"\2" * 65536)
        await ws.send([b"\xe2", b"\x82", b"\xac"], text=True)
        check_equal("a code point over three fragments", await ws.recv(), "€")


async def pings(url):
    async with open_to(url) as ws:
        for payload in (b"", b"ping", bytes(range(125))):
            await (await ws.ping(payload))  # the library matches the pong's payload

        async def with_a_ping_inside():
            yield "before "
            await (await ws.ping(b"inside"))
            yield "after"

        await ws.send(with_a_ping_inside())
        check_equal("the message around the ping", await ws.recv(), "before after")


async def close_codes(url):
    for code in (1000, 1001, 3000, 4999):
        ws = await open_to(url)
        await ws.close(code, "the peer's reason")
        check_equal(f"answer to {code}", ws.protocol.close_rcvd and ws.protocol.close_rcvd.code, code)


async def pipelined_messages(url):
    async with open_to(url) as ws:
        messages = [f"{i}:{text_of(i % 200)}" for i in range(1000)]

        async def send_all():
            for message in messages:
                await ws.send(message)

        sender = asyncio.create_task(send_all())
        for message in messages:
            check_equal("in order", await ws.recv(), message)
        await sender


async def concurrent_connections(url):
    async def one(index):
        async with open_to(url + "echo") as ws:
            for turn in range(50):
                message = f"connection {index}, turn {turn}"
                await ws.send(message)
                check_equal("own message", await ws.recv(), message)

    await asyncio.gather(*(one(index) for index in range(16)))


async def unknown_path(url):
    try:
        async with open_to(url + "no/such/path"):
            raise AssertionError("accepted, want 404")
    except InvalidStatus as refusal:
        check_equal("status", refusal.response.status_code, 404)


async def compression_offer(url):
    """What this library offers when nobody tells it otherwise; taken or declined, the echo holds."""
    async with open_to(url, compression="deflate", extensions=None) as ws:
        check_equal("agreed", bool(ws.protocol.extensions), COMPRESSED)
        await ws.send(text_of(4096))
        check_equal("echo", await ws.recv(), text_of(4096))


CHECKS = [
    text_messages,
    binary_messages,
    fragmented_messages,
    pings,
    close_codes,
    pipelined_messages,
    concurrent_connections,
    unknown_path,
    compression_offer,
]


async def conversation(url):
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            await asyncio.wait_for(check(url), CHECK_SECONDS_MAX)
            print(f"ok {name}", flush=True)
        except Exception as error:  # every check reports, whatever went wrong in the one before
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
    return failed


async def goodbye(url):
    connections = [await open_to(url) for _ in range(4)]
    for ws in connections:
        await ws.send("still here")
        check_equal("echo", await ws.recv(), "still here")
    print("open", flush=True)
    failed = 0
    for ws in connections:
        try:
            await asyncio.wait_for(ws.recv(), CHECK_SECONDS_MAX)
        except ConnectionClosed:
            pass
        code = ws.protocol.close_rcvd and ws.protocol.close_rcvd.code
        failed += code != 1001
        print(f"{'ok' if code == 1001 else 'FAILED'} closed with {code}", flush=True)
    return failed


if __name__ == "__main__":
    _, target, mode = sys.argv
    COMPRESSED = mode == "compressed"
    modes = {"conversation": conversation, "compressed": conversation, "goodbye": goodbye}
    sys.exit(min(1, asyncio.run(modes[mode](target))))
