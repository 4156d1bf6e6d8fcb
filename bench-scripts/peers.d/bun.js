// Bun.serve: Bun corks a connection while it handles its input, so replies to one receive leave in one write. What a message at
// /broadcast is sent to everybody by is its own publish and subscribe.
// Arguments: HOST:PORT, then --tls CERTIFICATE KEY (PEM files) or --deflate.
const MESSAGE_BYTES_MAX = (64 << 20) + 1024;
const ROOM = "/broadcast";
const [address, feature, certificate, key] = process.argv.slice(2);
const [hostname, port] = address.split(":");
const compresses = feature === "--deflate";
const echo = compresses ? (socket, message) => socket.send(message, true) : (socket, message) => socket.send(message);
const server = Bun.serve({
  hostname,
  port: Number(port),
  tls: feature === "--tls" ? { cert: Bun.file(certificate), key: Bun.file(key) } : undefined,
  fetch(request, server) {
    const isForRoom = new URL(request.url).pathname === ROOM;
    const upgraded = server.upgrade(request, { data: isForRoom });
    return upgraded ? undefined : new Response("a WebSocket handshake is needed", { status: 426 });
  },
  websocket: {
    // Dedicated: each connection has its own, which keep their windows.
    perMessageDeflate: compresses && { compress: "dedicated", decompress: "dedicated" },
    maxPayloadLength: MESSAGE_BYTES_MAX,
    backpressureLimit: 8 * MESSAGE_BYTES_MAX,
    idleTimeout: 0,
    open: (socket) => socket.data && socket.subscribe(ROOM),
    message: (socket, message) => (socket.data ? server.publish(ROOM, message) : echo(socket, message)),
  },
});
console.log(`listening on ws://${server.hostname}:${server.port}/`);
