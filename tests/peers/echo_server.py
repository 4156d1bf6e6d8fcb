"""An echo server made with Python's `websockets`, for ringsock-load to drive.

Speaks the same command line as ringsock-server as far as the tests need it: `--listen HOST:PORT` (port 0: any free
one), a first stdout line `listening on ws://HOST:PORT/`, and SIGTERM closes every connection with 1001 and exits 0.
With `--tls-cert FILE --tls-key FILE` it speaks TLS, and says wss://.
`--deflate` has it agree to permessage-deflate, as it does by itself; without, it declines.
`--lifetime SECONDS` ends it by itself, so that a test runner that is killed leaves nothing behind.
"""

import argparse
import asyncio
import signal
import ssl

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

MESSAGE_BYTES_MAX = 64 << 20


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # a peer that goes without a closing handshake is its own test's affair


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--lifetime", type=float, default=None, metavar="SECONDS")
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--tls-cert", default=None, metavar="FILE")
    parser.add_argument("--tls-key", default=None, metavar="FILE")
    options = parser.parse_args()
    secured = None
    if options.tls_cert is not None:
        secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secured.load_cert_chain(options.tls_cert, options.tls_key)
    host, _, port = options.listen.rpartition(":")

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    compression = "deflate" if options.deflate else None
    async with serve(
        echo, host, int(port), max_size=MESSAGE_BYTES_MAX, compression=compression, ssl=secured
    ) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"listening on {'wss' if secured else 'ws'}://{host}:{port}/", flush=True)
        try:
            await asyncio.wait_for(stop.wait(), options.lifetime)
        except asyncio.TimeoutError:
            print(f"lifetime of {options.lifetime} s is over", flush=True)


asyncio.run(main())
