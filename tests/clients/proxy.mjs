// A TCP proxy that can close or refuse every connection, to force clients to reconnect while the server keeps running.
import { once } from "node:events";
import { connect, createServer } from "node:net";

const UNAVAILABLE = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const IN_BAND =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" +
  'retry: 1000\nevent: system\ndata: {"message":"unavailable","reason":"connections","detail":"full","retry":1000}\n\n';

export class Proxy {
  sockets = new Set();
  isDown = false;
  /** Whether requests are refused, as by a server that is full: in band, then with a 503, and so on. */
  isFull = false;
  /** Number of refused requests. */
  refusals = 0;
  /** Number of accepted connections. */
  connections = 0;
  /** Bytes from the server since this was last cleared. */
  received = "";

  /** `refusesInBand`: whether every second refusal is an event stream. */
  static async before(url, refusesInBand) {
    const proxy = new Proxy();
    const { hostname, port } = new URL(url);
    proxy.server = createServer((client) => {
      client.on("error", () => {});
      if (proxy.isDown) return client.destroy();
      if (proxy.isFull) {
        const refusal = proxy.refusals++ % 2 || !refusesInBand ? UNAVAILABLE : IN_BAND;
        return client.once("data", () => client.end(refusal));
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
