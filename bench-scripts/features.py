"""What a cell may ask for beyond its load, permessage-deflate or TLS: how both ends are told, and proof of what came of it.

Kept: a figure stands for what its cell says, or there is none. The generator's result file says what was agreed on and what
came over the wire, and `Feature.refusal` whether that is what was meant; and what no result file can say, that a server
keeps its window, a conversation shows (`check_window`): messages alike compress almost as well one by one at a higher
level. What such conversations are held with serves others too. Deliberately absent: how fast any of it is.
Tested by its examples: python3 -m doctest bench-scripts/features.py
"""

import os
import random
import socket
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

# Of a conversation with a server that is slow, or does not answer.
ANSWER_SECONDS_MAX = 10
OFFER = "permessage-deflate; client_max_window_bits"
TAIL = b"\x00\x00\xff\xff"
CERTIFICATE, KEY = "certificate.pem", "key.pem"
MESSAGE_BYTES = 1024


@dataclass(frozen=True)
class Feature:
    """One of them."""

    name: str
    title: str
    # The generator's flags.
    load: tuple
    scheme: str = "ws"
    # Where the server has it, after the first slash.
    path: str = ""
    # What CPU time is counted for.
    unit: str = "messages"

    def refusal(self, result):
        """Why `result`, a result file, is not what was meant; None if it is."""
        refusals = {"deflate": deflate_refusal, "tls": tls_refusal}
        return refusals[self.name](result["target"].get(self.name)) if self.name in refusals else None

    def prove(self, address):
        """A conversation that shows what no result file can say; ValueError if it does not."""
        if self.name == "deflate":
            check_window(address)


DEFLATE = Feature(
    "deflate", "permessage-deflate with context takeover both ways, JSON-like text",
    ("--deflate", "--filling", "json", "--text"),
)
TLS = Feature(
    "tls", "TLS 1.3, AES-128-GCM",
    # Who the server is matters to nobody here, and a guest's clock is not of this year.
    ("--insecure", "--tls-version", "1.3", "--tls-cipher", "aes-128-gcm"), scheme="wss",
)


def deflate_refusal(agreed):
    """
    >>> all_of_them = {"messages": 9, "compressed": 9, "payload_bytes": 9216, "wire_bytes": 3600}
    >>> whole = {"server_no_context_takeover": False, "client_no_context_takeover": False,
    ...          "server_max_window_bits": 15, "client_max_window_bits": 15, "generator_level": 1,
    ...          "wire": {"sent": all_of_them, "answers": all_of_them}}
    >>> deflate_refusal(whole), deflate_refusal(None)
    (None, 'nothing was compressed')
    >>> deflate_refusal(whole | {"server_no_context_takeover": True, "client_max_window_bits": 12})
    'agreed on server_no_context_takeover True, client_max_window_bits 12'
    >>> deflate_refusal(whole | {"wire": {"sent": all_of_them, "answers": all_of_them | {"compressed": 8}}})
    'it agreed to compress, and only 8 of 9 answers came compressed'
    """
    meant = {
        "server_no_context_takeover": False, "client_no_context_takeover": False,
        "server_max_window_bits": 15, "client_max_window_bits": 15,
    }
    if not agreed:
        return "nothing was compressed"
    wrong = [f"{name} {agreed[name]}" for name, value in meant.items() if agreed[name] != value]
    if wrong:
        return f"agreed on {', '.join(wrong)}"
    answers = agreed["wire"]["answers"]
    if answers["compressed"] < answers["messages"]:
        return f"it agreed to compress, and only {answers['compressed']} of {answers['messages']} answers came compressed"
    return None


def answer_bytes(target):
    """What an answer of a run with compression came to on the wire, on average, by `target`, its result file's.

    >>> answer_bytes({"deflate": {"wire": {"answers": {"messages": 8, "compressed": 8, "wire_bytes": 3152}}}})
    394.0
    """
    answers = target["deflate"]["wire"]["answers"]
    return answers["wire_bytes"] / answers["messages"]


def tls_refusal(agreed):
    """
    >>> rightly = {"version": "TLS 1.3", "cipher_suite": "TLS13_AES_128_GCM_SHA256", "resumed": False, "connections": 64}
    >>> tls_refusal({"negotiated": [rightly]}), tls_refusal(None)
    (None, 'nothing was encrypted')
    >>> tls_refusal({"negotiated": [rightly, rightly | {"version": "TLS 1.2"}]})
    'agreed on TLS 1.3 TLS13_AES_128_GCM_SHA256, TLS 1.2 TLS13_AES_128_GCM_SHA256'
    """
    found = [f"{it['version']} {it['cipher_suite']}" for it in (agreed or {}).get("negotiated", [])]
    if not found:
        return "nothing was encrypted"
    return None if set(found) == {"TLS 1.3 TLS13_AES_128_GCM_SHA256"} else f"agreed on {', '.join(found)}"


def make_identity(folder):
    """Puts a certificate of this machine's, self-signed with P-256, and its key into `folder`; why not, if it cannot be."""
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE",
        "-out", str(Path(folder) / CERTIFICATE), "-keyout", str(Path(folder) / KEY),
    ]
    try:
        made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError:
        return "there is no openssl here to make a certificate with (Debian: apt-get install openssl)"
    return None if made.returncode == 0 else f"openssl makes no certificate: {made.stderr.strip()}"


# ---- a conversation, compressed


def check_window(address):
    """That a server keeps its compressor's window: a message that it has just sent comes to a fraction, once more.

    ValueError says what is wrong: answers also have to be compressed, and the same as what was sent.
    """
    message = records(MESSAGE_BYTES, random.Random(1))
    first, again = sizes_of_answers(address, [message, message])
    if again * 4 > first:
        raise ValueError(f"it forgets its window: {first} bytes at first, and {again} for what it has just sent")


def records(count_bytes, order):
    """Text as the generator's `--filling json` has it.

    >>> len(records(1000, random.Random(1)))
    1000
    """
    lines, length, time_ms = [], 0, 1_700_000_000_000
    while length < count_bytes:
        time_ms += order.randrange(1000)
        name = "".join(order.choices("abcdefghijklmnopqrstuvwxyz", k=8))
        event = order.choice(["open", "close", "order", "cancel", "fill", "quote", "login", "logout"])
        lines.append(
            f'{{"id":{order.randrange(1 << 32)},"time":{time_ms},"user":"{name}","event":"{event}",'
            f'"price":{order.random() * 1000:.2f},"size":{order.randrange(1 << 16)},"live":{order.choice(["true", "false"])}}}\n'
        )
        length += len(lines[-1])
    return "".join(lines).encode()[:count_bytes]


def sizes_of_answers(address, messages):
    """The payload bytes of each answer; ValueError if any is not compressed, or not the message."""
    with connect(address) as wire, wire.makefile("rb") as received:
        compress, inflate = zlib.compressobj(1, wbits=-15), zlib.decompressobj(-15)
        head = upgrade(wire, received, "/", OFFER)
        if b"permessage-deflate" not in head.lower():
            raise ValueError("it does not agree to permessage-deflate")
        sizes = []
        for message in messages:
            deflated = compress.compress(message) + compress.flush(zlib.Z_SYNC_FLUSH)
            wire.sendall(frame(deflated.removesuffix(TAIL)))
            payload = answer(received)
            try:
                inflated = inflate.decompress(payload + TAIL)
            except zlib.error as error:
                raise ValueError(f"what it answers is not DEFLATE: {error}") from None
            if inflated != message:
                raise ValueError("what it answers is not what it was sent")
            sizes.append(len(payload))
        return sizes


# ---- any conversation


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS_MAX)


def upgrade(wire, received, target, offer=None):
    """The client's side of the opening handshake; the head of the answer. ValueError if that is no 101."""
    lines = [
        f"GET {target} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *([f"Sec-WebSocket-Extensions: {offer}"] if offer else []), "", "",
    ]
    wire.sendall("\r\n".join(lines).encode())
    # An empty line ends the head, and a connection that ends is read as empty for ever.
    head = b"".join(iter(lambda: received.readline().strip(b"\r\n"), b""))
    if not head.startswith(b"HTTP/1.1 101"):
        raise ValueError(f"it answers the handshake with `{head[:40].decode(errors='replace')}`")
    return head


def frame(payload, first=0xC1):
    """A client's message in one frame, masked; unless its first byte is another, compressed text.

    >>> made = frame(b"abc")
    >>> hex(made[0]), made[1] - 128, len(made)
    ('0xc1', 3, 9)
    >>> frame(bytes(65536), 0x82)[:10].hex()
    '82ff0000000000010000'
    """
    key = os.urandom(4)
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, 0xFE, length)
    else:
        head = struct.pack("!BBQ", first, 0xFF, length)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def answer(received):
    """The payload of the next message; ValueError if it is not compressed."""
    first, payload = next_message(received)
    if not first & 0x40:
        raise ValueError("it agrees to compress, and does not")
    return payload


def next_message(received):
    """The next message: its first byte, and its payload from all its frames."""
    first, payload = None, b""
    while True:
        head = received.read(2)
        if len(head) < 2:
            raise ValueError("it hung up")
        if head[0] & 0x0F == 8:
            raise ValueError("it closes the connection instead of an answer")
        length = head[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(received.read(2 if length == 126 else 8), "big")
        part = received.read(length)
        if head[0] & 0x08:
            continue  # a ping, to which nothing is owed that soon
        first, payload = head[0] if first is None else first, payload + part
        if head[0] & 0x80:
            return first, payload
