// Bun.serve: Bun corks a connection while it handles its input, so replies to one receive leave in one write.
const MESSAGE_BYTES_MAX = (64 << 20) + 1024;
const [hostname, port] = process.argv[2].split(":");
const server = Bun.serve({
  hostname,
  port: Number(port),
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("a WebSocket handshake is needed", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: MESSAGE_BYTES_MAX,
    backpressureLimit: 8 * MESSAGE_BYTES_MAX,
    idleTimeout: 0,
    message(socket, message) {
      socket.send(message);
    },
  },
});
console.log(`listening on ws://${server.hostname}:${server.port}/`);
