// Bun.serve: Bun corks a connection while it handles its input, so replies to one receive leave in one write.
// Arguments: HOST:PORT, then --tls CERTIFICATE KEY (PEM files) or --deflate.
const MESSAGE_BYTES_MAX = (64 << 20) + 1024;
const [address, feature, certificate, key] = process.argv.slice(2);
const [hostname, port] = address.split(":");
const compresses = feature === "--deflate";
const server = Bun.serve({
  hostname,
  port: Number(port),
  tls: feature === "--tls" ? { cert: Bun.file(certificate), key: Bun.file(key) } : undefined,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("a WebSocket handshake is needed", { status: 426 });
  },
  websocket: {
    // Dedicated: each connection has its own, which keep their windows.
    perMessageDeflate: compresses && { compress: "dedicated", decompress: "dedicated" },
    maxPayloadLength: MESSAGE_BYTES_MAX,
    backpressureLimit: 8 * MESSAGE_BYTES_MAX,
    idleTimeout: 0,
    message: compresses ? (socket, message) => socket.send(message, true) : (socket, message) => socket.send(message),
  },
});
console.log(`listening on ws://${server.hostname}:${server.port}/`);
