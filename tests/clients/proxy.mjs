// A TCP proxy that can close or refuse every connection, to force clients to reconnect while the server keeps running.
import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Proxy {
  sockets = new Set();
  isDown = false;
  /** Whether requests get a 503, as from a server that is full. */
  isFull = false;
  /** Number of requests that got a 503. */
  refusals = 0;
  /** Number of accepted connections. */
  connections = 0;
  /** Bytes from the server since this was last cleared. */
  received = "";

  static async before(url) {
    const proxy = new Proxy();
    const { hostname, port } = new URL(url);
    proxy.server = createServer((client) => {
      client.on("error", () => {});
      if (proxy.isDown) return client.destroy();
      if (proxy.isFull) {
        client.once("data", () => client.end(`HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`));
        return proxy.refusals++;
      }
      proxy.connections++;
      const server = connect(Number(port), hostname);
      for (const socket of [client, server]) {
        proxy.sockets.add(socket);
        socket.on("close", () => proxy.sockets.delete(socket)).on("error", () => {});
      }
      server.on("data", (bytes) => (proxy.received += bytes));
      client.on("close", () => server.destroy());
      server.on("close", () => client.destroy());
      client.pipe(server).pipe(client);
    }).listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    proxy.address = `127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  cut() {
    this.isDown = true;
    for (const socket of this.sockets) socket.destroy();
  }

  close() {
    this.cut();
    this.server.close();
  }
}
