// An HTTP proxy in front of a server that can refuse streams, cut them, and keep them silent.
import { once } from "node:events";
import { createServer, request } from "node:http";

export class Front {
  /** The status of each answer to a request for a stream; undefined passes the request on. */
  refusal;
  streams = new Set();
  /** The number of requests for a stream. */
  requests = 0;
  /** Whether bytes of the server are dropped. A stream that has lost some gets no more: it would have a hole. */
  isSilent = false;
  /** Ends the response to a request for /hold, which blocks the page that asks for it synchronously. */
  release;

  static async before(server) {
    const front = new Front();
    front.server = server;
    front.http = createServer((incoming, response) => front.answer(incoming, response)).listen(0, "127.0.0.1");
    await once(front.http, "listening");
    front.url = `http://127.0.0.1:${front.http.address().port}`;
    return front;
  }

  answer(incoming, response) {
    if (incoming.url === "/hold") return (this.release = () => response.end());
    const isStream = incoming.url.startsWith("/stream");
    if (isStream) {
      this.requests++;
      if (this.refusal) return response.writeHead(this.refusal).end();
      this.streams.add(response);
      response.on("close", () => this.streams.delete(response));
    }
    // Without an agent, because the server may close a kept connection at the moment of its next request.
    const outgoing = request(this.server.url + incoming.url, { method: incoming.method, headers: incoming.headers, agent: false });
    outgoing.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.headers).flushHeaders();
      let isSilent = false;
      answer.on("data", (bytes) => (isSilent ||= this.isSilent) || response.write(bytes));
      answer.on("end", () => response.end()).on("error", () => response.destroy());
    });
    outgoing.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    response.on("close", () => outgoing.destroy());
    incoming.pipe(outgoing);
  }

  cut() {
    for (const response of this.streams) response.destroy();
  }

  close() {
    this.http.closeAllConnections();
    this.http.close();
  }
}
