"""What a server has to show before its figures with compression count; a stand-in on loopback plays the servers."""

import socket
import struct
import threading
import unittest
import zlib

import commands  # noqa: F401  (it puts the scripts on the path)
import features

AGREED = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
DECLINED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def read_message(received):
    """A client's compressed payload, unmasked; None at the end."""
    head = received.read(2)
    if len(head) < 2:
        return None
    length = head[1] & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", received.read(2))
    key, masked = received.read(4), received.read(length)
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(masked))


def frame(first, payload):
    length = len(payload)
    return (struct.pack("!BB", first, length) if length < 126 else struct.pack("!BBH", first, 126, length)) + payload


def play(listener, head, answer):
    """Serves one connection: `answer(text, compress)` makes the frames of a reply."""
    with listener, listener.accept()[0] as wire, wire.makefile("rb") as received:
        while received.readline() not in (b"\r\n", b""):
            pass
        wire.sendall(head)
        inflate, compress = zlib.decompressobj(-15), zlib.compressobj(1, wbits=-15)
        try:
            while (payload := read_message(received)) is not None:
                wire.sendall(answer(inflate.decompress(payload + features.TAIL), compress))
        except OSError:
            pass  # the client has seen enough


def deflated(text, compress):
    return (compress.compress(text) + compress.flush(zlib.Z_SYNC_FLUSH)).removesuffix(features.TAIL)


class Deflating(unittest.TestCase):
    def judged(self, answer, head=AGREED):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(10)
        server = threading.Thread(target=play, args=(listener, head, answer), daemon=True)
        server.start()
        try:
            return features.check_window("127.0.0.1:%d" % listener.getsockname()[1])
        finally:
            server.join(10)

    def test_one_that_compresses_and_keeps_its_window_is_taken(self):
        self.judged(lambda text, compress: frame(0xC1, deflated(text, compress)))

    def test_an_answer_may_come_in_fragments(self):
        def answer(text, compress):
            payload = deflated(text, compress)
            return frame(0x41, payload[:7]) + frame(0x80, payload[7:])

        self.judged(answer)

    def assert_refused(self, why, answer, head=AGREED):
        with self.assertRaisesRegex(ValueError, why):
            self.judged(answer, head)

    def test_one_that_forgets_its_window_is_refused(self):
        fresh = lambda text, _: frame(0xC1, deflated(text, zlib.compressobj(1, wbits=-15)))
        self.assert_refused("forgets its window", fresh)

    def test_one_that_agrees_and_does_not_compress_is_refused(self):
        self.assert_refused("and does not", lambda text, _: frame(0x81, text))

    def test_one_that_closes_is_told_apart_from_one_that_does_not_compress(self):
        self.assert_refused("closes the connection", lambda *_: frame(0x88, b"\x03\xea"))

    def test_one_that_declines_is_refused(self):
        self.assert_refused("does not agree", lambda text, _: frame(0x81, text), head=DECLINED)

    def test_one_that_answers_something_else_is_refused(self):
        other = lambda text, compress: frame(0xC1, deflated(text[::-1], compress))
        self.assert_refused("not what it was sent", other)


if __name__ == "__main__":
    unittest.main()
