// A TCP proxy that can cut every connection, so that a client has to come back to a server that has gone on.
import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Proxy {
  sockets = new Set();
  isDown = false;
  /** Connections that were served. */
  served = 0;
  /** What the server has sent since `heard` was last emptied. */
  heard = "";

  static async before(url) {
    const proxy = new Proxy();
    const { hostname, port } = new URL(url);
    proxy.server = createServer((client) => {
      client.on("error", () => {});
      if (proxy.isDown) return client.destroy();
      proxy.served++;
      const server = connect(Number(port), hostname);
      for (const socket of [client, server]) {
        proxy.sockets.add(socket);
        socket.on("close", () => proxy.sockets.delete(socket)).on("error", () => {});
      }
      server.on("data", (bytes) => (proxy.heard += bytes));
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
