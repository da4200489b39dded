// Requests through a proxy, over HTTP/2 or HTTP/1.1 with TLS, of which a test reads or writes each byte as it comes.
import { EventEmitter } from "node:events";
import { connect } from "node:http2";
import http from "node:http";
import https from "node:https";
import { createGunzip } from "node:zlib";

import { certificate } from "./proxy.mjs";

const PATIENCE = 60_000;

// Enough for all that a test looks for, and little to search again with each piece of a large body.
const KEPT = 64 * 1024;

/** A response: its status, and the last text of the body so far. */
export class Exchange {
  text = "";
  changed = new EventEmitter().setMaxListeners(0);

  /** Follows the body of a response, and decodes it as it arrives. */
  read(incoming, status, headers) {
    const isCompressed = headers["content-encoding"] === "gzip";
    const body = isCompressed ? createGunzip() : incoming;
    // A close without an end is a lost connection, as for EventSource.
    if (isCompressed) incoming.on("data", (bytes) => body.write(bytes)).on("close", () => body.end()).on("error", () => {});
    body.setEncoding("utf8");
    body.on("data", (text) => this.change(() => (this.text = (this.text + text).slice(-KEPT))));
    body.on("close", () => this.finish());
    body.on("error", () => {});
    this.change(() => Object.assign(this, { status, headers }));
  }

  finish() {
    this.change(() => (this.ended = true));
  }

  change(make) {
    make();
    this.changed.emit("change");
  }

  /** Waits until `condition` of this response is true. */
  async until(condition, what = condition) {
    const signal = AbortSignal.timeout(PATIENCE);
    return new Promise((done, failed) => {
      const look = () => {
        const value = condition(this);
        if (value || signal.aborted || this.ended) this.changed.off("change", look);
        if (value) done(value);
        else if (signal.aborted || this.ended) {
          failed(new Error(`${this.ended ? "ended" : "timed out"} before ${what}; ${this.status} ${this.text.slice(-500)}`));
        }
      };
      signal.addEventListener("abort", look);
      this.changed.on("change", look);
      look();
    });
  }

  /** Waits until the body contains `text`. */
  has(text) {
    return this.until(() => this.text.includes(text), text);
  }

  /** Waits for `count` keep-alive comments. */
  keptAlive(count) {
    return this.until(() => (this.text.match(/^:/gm)?.length ?? 0) >= count, `${count} comments`);
  }

  /** Waits for the end of the response. */
  async end() {
    await this.until(() => this.ended, "the end");
    return this;
  }
}

/** A connection with HTTP/2. `from` is the client's address. */
export class Http2 {
  constructor(url, { from } = {}) {
    this.session = connect(url, { ca: certificate, ...(from && { localAddress: from }) });
    this.session.on("error", () => {});
  }

  /** Sends a request. Without a `body` it has none; the caller of `open` writes to `stream` and ends it. */
  open(path, { method = "GET", headers = {}, body } = {}) {
    const stream = this.session.request({ ":method": method, ":path": path, ...headers }, { endStream: method === "GET" });
    const exchange = Object.assign(new Exchange(), { stream });
    stream.on("response", (fields) => exchange.read(stream, fields[":status"], fields));
    stream.on("close", () => exchange.status ?? exchange.finish()).on("error", () => {});
    if (body !== undefined) stream.end(body);
    return exchange;
  }

  close() {
    this.session.destroy();
  }
}

/** Sends a GET over a connection of its own with HTTP/1.1, and waits for the head of the response. */
export async function openHttp1(url, path, { from, headers = {} } = {}) {
  const { request } = url.startsWith("https:") ? https : http;
  const options = { ca: certificate, agent: false, ALPNProtocols: ["http/1.1"], headers, ...(from && { localAddress: from }) };
  const outgoing = request(new URL(path, url), options);
  const response = await new Promise((done, failed) => outgoing.on("response", done).on("error", failed).end());
  outgoing.on("error", () => {});
  const exchange = Object.assign(new Exchange(), { close: () => outgoing.destroy() });
  exchange.read(response, response.statusCode, response.headers);
  return exchange;
}
