// A server that receives requests, answers the first ones, and closes the connection of each later one without an answer.
import { once } from "node:events";
import { createServer } from "node:http";

export class ClosingServer {
  /** Bodies of the requests so far. */
  bodies = [];
  /** How many requests it still answers. */
  answers = 0;

  static async start() {
    const server = new ClosingServer();
    server.http = createServer(async (request, response) => {
      let body = "";
      for await (const bytes of request) body += bytes;
      server.bodies.push(body);
      if (server.answers-- > 0) response.end("{}");
      else request.socket.destroy();
    }).listen(0, "127.0.0.1");
    await once(server.http, "listening");
    server.address = `127.0.0.1:${server.http.address().port}`;
    return server;
  }

  close() {
    this.http.closeAllConnections();
    this.http.close();
  }
}
