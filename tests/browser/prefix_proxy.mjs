// A reverse proxy that serves a server under a path prefix.
import { once } from "node:events";
import { createServer, request } from "node:http";

export class PrefixProxy {
  static async before(url, prefix) {
    const proxy = new PrefixProxy();
    proxy.refused = [];
    proxy.server = createServer((incoming, outgoing) => {
      if (!incoming.url.startsWith(`${prefix}/`)) {
        proxy.refused.push(incoming.url);
        return outgoing.writeHead(404).end();
      }
      const { method, headers } = incoming;
      // Without an agent, because the server may close a kept connection at the moment of its next request.
      const passed = request(new URL(incoming.url.slice(prefix.length), url), { method, headers, agent: false }, (response) => {
        outgoing.writeHead(response.statusCode, response.headers);
        response.pipe(outgoing);
      });
      passed.on("error", () => outgoing.destroy());
      outgoing.on("close", () => passed.destroy());
      incoming.pipe(passed);
    }).listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}${prefix}`;
    return proxy;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
