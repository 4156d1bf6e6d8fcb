// An echo server made with Node's `ws`, for ringsock-load to drive.
//
// Speaks the same command line as ringsock-server as far as the tests need it: `--listen HOST:PORT` (port 0: any free
// one), a first stdout line `listening on ws://HOST:PORT/`, and SIGTERM closes every connection with 1001 and exits 0.
// With `--tls-cert FILE --tls-key FILE` it speaks TLS, and says wss://.
// `--deflate` has it agree to permessage-deflate, and compress everything.
// `--lifetime SECONDS` ends it by itself, so that a test runner that is killed leaves nothing behind.
// `ws` is found through NODE_PATH (where tests/peers/install put it).

import { readFileSync } from 'node:fs';
import { createServer as createPlain } from 'node:http';
import { createServer as createSecured } from 'node:https';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

const { WebSocketServer } = createRequire(import.meta.url)('ws');

const MESSAGE_BYTES_MAX = 64 << 20;
const CLOSE_GRACE_MS = 2000;

const { values: options } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:0' },
    lifetime: { type: 'string' },
    deflate: { type: 'boolean', default: false },
    'tls-cert': { type: 'string' },
    'tls-key': { type: 'string' },
  },
});
const colon = options.listen.lastIndexOf(':');
const host = options.listen.slice(0, colon);
const isSecured = options['tls-cert'] !== undefined;
const http = isSecured
  ? createSecured({ cert: readFileSync(options['tls-cert']), key: readFileSync(options['tls-key']) })
  : createPlain();
const server = new WebSocketServer({
  server: http,
  maxPayload: MESSAGE_BYTES_MAX,
  perMessageDeflate: options.deflate && { threshold: 0 },
  maxFragments: 0, // no bound of its own: Autobahn's 9.3.1 sends 65,536 fragments, four times the default bound
});

server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on('error', () => {}); // `ws` closes with the right code by itself; the peer sees it
});
const scheme = isSecured ? 'wss' : 'ws';
http.listen(Number(options.listen.slice(colon + 1)), host, () => {
  console.log(`listening on ${scheme}://${host}:${http.address().port}/`);
});

function stop() {
  for (const socket of server.clients) socket.close(1001);
  server.close();
  http.close(() => process.exit(0));
  setTimeout(() => process.exit(0), CLOSE_GRACE_MS);
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
if (options.lifetime !== undefined) setTimeout(stop, Number(options.lifetime) * 1000).unref();
