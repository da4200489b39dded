// A TCP proxy that can close every connection, to force clients to reconnect while the server keeps running.
import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Proxy {
  sockets = new Set();
  isDown = false;
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
