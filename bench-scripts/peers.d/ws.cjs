// Node's ws, with bufferutil as its documentation advises: one write a message; it has no interface for batching. A message at
// /broadcast is framed once for everybody, by ws's own Sender, as socket.io has it.
// Arguments: HOST:PORT, then --tls CERTIFICATE KEY (PEM files) or --deflate.
"use strict";
const { Sender, WebSocket, WebSocketServer } = require("ws");
const { readFileSync } = require("node:fs");
const plain = require("node:http");
const secured = require("node:https");
require("bufferutil"); // ws would silently do without

const MESSAGE_BYTES_MAX = (64 << 20) + 1024;
// As ringsock-server has them.
const DEFLATE = { threshold: 64, zlibDeflateOptions: { level: 1 } };
const [address, feature, certificate, key] = process.argv.slice(2);
const [host, port] = address.split(":");
const http =
  feature === "--tls"
    ? secured.createServer({ cert: readFileSync(certificate), key: readFileSync(key) })
    : plain.createServer();
const perMessageDeflate = feature === "--deflate" && DEFLATE;
const server = new WebSocketServer({ server: http, perMessageDeflate, maxPayload: MESSAGE_BYTES_MAX });
const room = new Set();
const publish = (message, binary) => {
  const frame = [Buffer.concat(Sender.frame(message, { fin: true, opcode: binary ? 2 : 1, mask: false, readOnly: false }))];
  for (const socket of room) if (socket.readyState === WebSocket.OPEN) socket._sender.sendFrame(frame);
};
server.on("connection", (socket, request) => {
  // How a connection ends is the client's affair; what it lost the client counts.
  socket.on("error", () => {});
  if (request.url.split("?")[0] === "/broadcast") {
    room.add(socket);
    socket.on("close", () => room.delete(socket));
    socket.on("message", publish);
  } else {
    socket.on("message", (message, binary) => socket.send(message, { binary }));
  }
});
http.on("connection", (stream) => stream.setNoDelay(true));
http.listen({ host, port: Number(port), backlog: 4096 }, () => {
  const { address, port } = http.address();
  console.log(`listening on ws://${address}:${port}/`);
});
