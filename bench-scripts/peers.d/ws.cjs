// Node's ws, with bufferutil as its documentation advises: one write a message; it has no interface for batching.
"use strict";
const { WebSocketServer } = require("ws");
const { createServer } = require("node:http");
require("bufferutil"); // ws would silently do without

const MESSAGE_BYTES_MAX = (64 << 20) + 1024;
const [host, port] = process.argv[2].split(":");
const http = createServer();
const server = new WebSocketServer({ server: http, perMessageDeflate: false, maxPayload: MESSAGE_BYTES_MAX });
server.on("connection", (socket) => {
  // How a connection ends is the client's affair; what it lost the client counts.
  socket.on("error", () => {});
  socket.on("message", (message, binary) => socket.send(message, { binary }));
});
http.on("connection", (stream) => stream.setNoDelay(true));
http.listen({ host, port: Number(port), backlog: 4096 }, () => {
  const { address, port } = http.address();
  console.log(`listening on ws://${address}:${port}/`);
});
