// A client made with Node's `ws` that checks an echo server.
//
//     client.mjs URL conversation   every check below, one line each: `ok NAME` or `FAILED NAME: why`; exit 1 if any failed
//     client.mjs URL compressed     the same over connections that must agree on permessage-deflate, with several parameters
//     client.mjs URL goodbye        opens connections, prints `open`, and expects each to be closed with 1001
//
// URL ends in `/`. client.py makes the same checks under the same names; tests/peers.rs holds the list.
// `ws` is found through NODE_PATH (where tests/peers/install put it).

import assert from 'node:assert/strict';
import { on, once } from 'node:events';
import { createRequire } from 'node:module';

const { WebSocket } = createRequire(import.meta.url)('ws');

const CHECK_MS_MAX = 30_000;
// Both sides of each change in the length form of a frame header (RFC 6455 section 5.2), and one far beyond.
const SIZES_BYTES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20];

const [url, mode] = process.argv.slice(2);
const compressed = mode === 'compressed';
// What connections offer in turn, in the mode `compressed`.
const OFFERS = [
  {},
  { clientNoContextTakeover: true },
  { serverNoContextTakeover: true },
  { serverMaxWindowBits: 9, clientMaxWindowBits: 9 },
  { serverMaxWindowBits: 12, serverNoContextTakeover: true, clientNoContextTakeover: true },
].map((offer) => ({ ...offer, threshold: 0 }));
let offersMade = 0;

// A connection without compression, unless that is what is checked: what the frames say is what the check means.
async function openTo(url, options = {}) {
  const perMessageDeflate = compressed && OFFERS[offersMade++ % OFFERS.length];
  const ws = new WebSocket(url, { perMessageDeflate, ...options });
  ws.inbox = on(ws, 'message', { close: ['close'] });
  await once(ws, 'open');
  assert.equal('permessage-deflate' in ws._extensions, compressed, 'whether compression was agreed on');
  return ws;
}

// The next message, as text or as a Buffer, whichever kind it came as.
async function receive(ws) {
  const { done, value } = await ws.inbox.next();
  assert.ok(!done, 'closed instead of answering');
  const [data, isBinary] = value;
  return isBinary ? data : data.toString();
}

async function finish(ws) {
  ws.close(1000);
  await once(ws, 'close');
}

// Text of exactly `sizeBytes` in UTF-8, with code points of one to four bytes.
function textOf(sizeBytes) {
  const unit = 'ring-é-€-😀 ';
  const unitBytes = Buffer.byteLength(unit);
  return unit.repeat(Math.floor(sizeBytes / unitBytes)) + 'r'.repeat(sizeBytes % unitBytes);
}

function bytesOf(sizeBytes) {
  const bytes = Buffer.alloc(sizeBytes);
  for (let i = 0, state = 1; i < sizeBytes; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

// Equal without an assertion's diff of a megabyte.
function checkEqual(what, got, want) {
  const same = Buffer.isBuffer(want) ? Buffer.isBuffer(got) && got.equals(want) : got === want;
  if (!same) throw new Error(`${what}: got ${brief(got)}, want ${brief(want)}`);
}

function brief(value) {
  const text = Buffer.isBuffer(value) ? `0x${value.subarray(0, 30).toString('hex')}` : JSON.stringify(value) ?? 'undefined';
  return text.length < 80 ? text : `${text.slice(0, 60)}… (${value.length} long)`;
}

async function textMessages(url) {
  const ws = await openTo(url);
  for (const size of SIZES_BYTES) {
    ws.send(textOf(size));
    checkEqual(`${size} bytes`, await receive(ws), textOf(size));
  }
  await finish(ws);
}

async function binaryMessages(url) {
  const ws = await openTo(url);
  for (const size of SIZES_BYTES) {
    ws.send(bytesOf(size));
    checkEqual(`${size} bytes`, await receive(ws), bytesOf(size));
  }
  await finish(ws);
}

function sendFragments(ws, fragments, binary) {
  fragments.forEach((fragment, i) => ws.send(fragment, { binary, fin: i === fragments.length - 1 }));
}

async function fragmentedMessages(url) {
  const ws = await openTo(url);
  sendFragments(ws, ['one ', '', 'twö ', 'thr€e'], false);
  checkEqual('text', await receive(ws), 'one twö thr€e');
  const parts = [Buffer.alloc(125, 0), Buffer.alloc(126, 1), Buffer.alloc(65536, 2)];
  sendFragments(ws, parts, true);
  checkEqual('binary', await receive(ws), Buffer.concat(parts));
  sendFragments(ws, [Buffer.of(0xe2), Buffer.of(0x82), Buffer.of(0xac)], false);
  checkEqual('a code point over three fragments', await receive(ws), '€');
  await finish(ws);
}

async function ping(ws, payload) {
  const pong = once(ws, 'pong');
  ws.ping(payload);
  checkEqual('pong', (await pong)[0], payload);
}

async function pings(url) {
  const ws = await openTo(url);
  for (const payload of [Buffer.alloc(0), Buffer.from('ping'), bytesOf(125)]) await ping(ws, payload);
  ws.send('before ', { fin: false });
  await ping(ws, Buffer.from('inside'));
  ws.send('after', { fin: true });
  checkEqual('the message around the ping', await receive(ws), 'before after');
  await finish(ws);
}

async function closeCodes(url) {
  for (const code of [1000, 1001, 3000, 4999]) {
    const ws = await openTo(url);
    ws.close(code, "the peer's reason");
    const [answer] = await once(ws, 'close');
    checkEqual(`answer to ${code}`, answer, code);
  }
}

async function pipelinedMessages(url) {
  const ws = await openTo(url);
  const messages = Array.from({ length: 1000 }, (_, i) => `${i}:${textOf(i % 200)}`);
  for (const message of messages) ws.send(message);
  for (const message of messages) checkEqual('in order', await receive(ws), message);
  await finish(ws);
}

async function concurrentConnections(url) {
  await Promise.all(
    Array.from({ length: 16 }, async (_, index) => {
      const ws = await openTo(`${url}echo`);
      for (let turn = 0; turn < 50; turn++) {
        const message = `connection ${index}, turn ${turn}`;
        ws.send(message);
        checkEqual('own message', await receive(ws), message);
      }
      await finish(ws);
    }),
  );
}

async function unknownPath(url) {
  const ws = new WebSocket(`${url}no/such/path`, { perMessageDeflate: false });
  const [, response] = await Promise.race([
    once(ws, 'unexpected-response'),
    once(ws, 'open').then(() => assert.fail('accepted, want 404')),
  ]);
  response.destroy();
  checkEqual('status', response.statusCode, 404);
}

// What this library offers when nobody tells it otherwise; taken or declined, the echo holds.
async function compressionOffer(url) {
  const ws = await openTo(url, { perMessageDeflate: true });
  ws.send(textOf(4096));
  checkEqual('echo', await receive(ws), textOf(4096));
  await finish(ws);
}

const CHECKS = [
  ['text messages', textMessages],
  ['binary messages', binaryMessages],
  ['fragmented messages', fragmentedMessages],
  ['pings', pings],
  ['close codes', closeCodes],
  ['pipelined messages', pipelinedMessages],
  ['concurrent connections', concurrentConnections],
  ['unknown path', unknownPath],
  ['compression offer', compressionOffer],
];

function bounded(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${CHECK_MS_MAX} ms`)), CHECK_MS_MAX);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function conversation(url) {
  let failed = 0;
  for (const [name, check] of CHECKS) {
    try {
      await bounded(check(url));
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1; // every check reports, whatever went wrong in the one before
      console.log(`FAILED ${name}: ${error}`);
    }
  }
  return failed;
}

async function goodbye(url) {
  const connections = await Promise.all(Array.from({ length: 4 }, () => openTo(url)));
  for (const ws of connections) {
    ws.send('still here');
    checkEqual('echo', await receive(ws), 'still here');
  }
  const closes = connections.map((ws) => once(ws, 'close'));
  console.log('open');
  let failed = 0;
  for (const close of closes) {
    const [code] = await bounded(close);
    failed += code !== 1001;
    console.log(`${code === 1001 ? 'ok' : 'FAILED'} closed with ${code}`);
  }
  return failed;
}

process.exit(Math.min(1, await { conversation, compressed: conversation, goodbye }[mode](url)));
