// The network between a window and a server. While it is down, it loses every byte and closes no connection, as a train in a
// tunnel does.
import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Network {
  #isDown = false;
  #sockets = new Set();

  static async before(url) {
    const network = new Network();
    const { hostname, port } = new URL(url);
    network.listener = createServer((client) => network.#join(client, connect(Number(port), hostname))).listen(0, "127.0.0.1");
    await once(network.listener, "listening");
    network.url = `http://127.0.0.1:${network.listener.address().port}`;
    return network;
  }

  #join(...ends) {
    // A connection that has lost bytes gets no more: it would have a hole.
    let hasHole = false;
    for (const [from, to] of [ends, ends.toReversed()]) {
      this.#sockets.add(from);
      from.on("data", (bytes) => {
        // The other end has closed the connection meanwhile, and answers so.
        if (to.destroyed && !this.#isDown) from.destroy();
        else (hasHole ||= this.#isDown) || to.write(bytes);
      });
      from.on("close", () => this.#sockets.delete(from));
      from.on("close", () => (hasHole ||= this.#isDown) || to.destroy()).on("error", () => {});
    }
  }

  /** Takes `page` offline. */
  async down(page) {
    this.#isDown = true;
    await page.context().setOffline(true);
  }

  async up(page) {
    this.#isDown = false;
    await page.context().setOffline(false);
  }

  /** Closes all connections, as a network does that has forgotten them. */
  reset() {
    for (const socket of this.#sockets) socket.destroy();
  }

  close() {
    this.reset();
    this.listener.close();
  }
}
