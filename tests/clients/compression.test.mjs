// Real clients of compressed streams: every event arrives once and in order, whatever interrupts the shared encoding, and as soon as
// without compression.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { Server } from "../browser/server.mjs";
import { Proxy } from "./proxy.mjs";
import { fetched, kinds } from "./readers.mjs";

const HISTORY = 1000;
const EVENTS = 10_000;

async function until(condition, what) {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `after 60 s: ${what()}`);
    await pause(5);
  }
}

/** What an event of a metric looks like: similar to the one before. */
const metric = (n) => ({ n, host: `web-${n % 7}`, cpu: (n * 7919) % 1000 / 10, text: n % 50 ? "ok" : "größer ☃".repeat(n % 400) });

/** A server, a reader that may lose its connection, and what they published and received. */
class Run {
  published = [];
  received = [];

  static async start(kind, query) {
    const run = new Run();
    run.server = await Server.start(["--retry", "100ms", "--history", `${HISTORY}`, "--firehose-history", `${HISTORY}`]);
    run.proxy = await Proxy.before(run.server.url, true);
    run.stop = await kind(`http://${run.proxy.address}/stream?heartbeat=1${query}`, (event) => run.received.push(event));
    return run;
  }

  async end() {
    await this.stop();
    this.proxy.close();
    await this.server.stop();
  }

  /** Publishes the next `count` events, in one request. */
  async publish(count) {
    const events = Array.from({ length: count }, (_, index) => metric(this.published.length + index));
    const body = events.map((data) => JSON.stringify({ topic: "t", data })).join("\n");
    const headers = { "content-type": "application/x-ndjson" };
    const answer = await (await fetch(`${this.server.url}/publish`, { method: "POST", headers, body })).json();
    assert.equal(answer.published, count);
    this.published.push(...events.map((data) => JSON.stringify(data)));
  }

  /** Publishes in parts, each of which the reader must have before the next. */
  async publishInParts(count, part) {
    for (let sent = 0; sent < count; sent += part) {
      await this.publish(Math.min(part, count - sent));
      await this.hasAll();
    }
  }

  of(...types) {
    return this.received.filter(({ type }) => types.includes(type));
  }

  /** Waits until the reader has the newest event. */
  hasAll() {
    const newest = this.published.at(-1);
    return until(() => this.of("message").at(-1)?.data === newest, () => this.state());
  }

  has(type, count) {
    return until(() => this.of(type).length >= count, () => `${count} of ${type}; ${this.state()}`);
  }

  state() {
    return `${this.of("message").length} of ${this.published.length} events, then ${JSON.stringify(this.received.at(-1))?.slice(0, 200)}`;
  }

  /** Waits for a keep-alive, which is written for this reader alone. */
  keptAlive() {
    this.proxy.received = "";
    return until(() => this.proxy.received, () => "no keep-alive");
  }

  cut() {
    this.proxy.cut();
    this.proxy.isDown = false;
  }

  /** The encodings of the streams that are open, as the server lists them. */
  async encodings() {
    const { clients } = await (await fetch(`${this.server.url}/clients`)).json();
    return clients.map(({ encoding }) => encoding);
  }

  /** Every published event was received once and in order, except those that gaps count. Returns the number of missing events. */
  assertExact() {
    let [next, missing] = [0, 0];
    for (const { type, data } of this.of("message", "gap")) {
      if (type === "gap") {
        const { missed } = JSON.parse(data);
        [next, missing] = [next + missed, missing + missed];
      } else {
        assert.equal(data, this.published[next], `event ${next}`);
        next += 1;
      }
    }
    assert.equal(next, this.published.length);
    return missing;
  }
}

// With everything and with one topic.
const queries = ["", "&topics=t"];

describe("10,000 events", { concurrency: 3 }, () => {
  Object.entries(kinds).forEach(([name, kind], index) => test(name, { timeout: 600_000 }, async () => {
    const run = await Run.start(kind, queries[index % 2]);
    try {
      await run.has("system", 1);
      await until(async () => `${await run.encodings()}` === "gzip", () => "no compressed stream alone");
      await run.publishInParts(30, 1);
      await run.keptAlive();
      await run.publishInParts(2_000, 97);
      // Connections that end and begin anywhere in the shared encoding.
      for (let cuts = 0; cuts < 6; cuts++) {
        await run.publish(7 + ((61 * cuts) % 130));
        run.cut();
        await run.publish(11);
        await run.hasAll();
      }
      assert.equal(run.assertExact(), 0);
      // Too far behind to resume.
      run.proxy.cut();
      await run.publish(HISTORY + 500);
      run.proxy.isDown = false;
      await run.has("gap", 1);
      await run.hasAll();
      await run.keptAlive();
      await run.publishInParts(30, 1);
      await run.publishInParts(EVENTS - run.published.length, 331);
    } finally {
      await run.end();
    }
    const missing = run.assertExact();
    assert.ok(missing >= 500 && missing <= HISTORY + 600, `${missing} events are missing`);
    assert.equal(run.of("gap").length, 1);
  }));
});

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

// The smallest of five medians, because a busy machine delays one of the two at times.
test("an event is at most 5 ms later than on an uncompressed stream", { timeout: 600_000 }, async () => {
  const server = await Server.start();
  const streams = [{}, { "accept-encoding": "identity" }].map((headers) => ({ reader: fetched(headers), arrived: {} }));
  try {
    for (const stream of streams) {
      const take = ({ type, data }) => type === "message" && (stream.arrived[JSON.parse(data).n] = performance.now());
      stream.stop = await stream.reader(`${server.url}/stream?topics=t`, take);
    }
    const listed = async () => (await (await fetch(`${server.url}/clients`)).json()).clients.map(({ encoding }) => encoding);
    await until(async () => (await listed()).length === 2, () => "no streams");
    assert.deepEqual((await listed()).toSorted(), ["gzip", null]);
    const later = [];
    for (let n = 0; n < 250; n++) {
      await server.publish("t", metric(n));
      await until(() => streams.every(({ arrived }) => n in arrived), () => `event ${n}`);
      const [compressed, plain] = streams.map(({ arrived }) => arrived[n]);
      later.push(compressed - plain);
    }
    const medians = Array.from({ length: 5 }, (_, round) => median(later.slice(50 * round, 50 * round + 50)));
    assert.ok(Math.min(...medians) < 5, `${medians} ms`);
  } finally {
    for (const { stop } of streams) await stop?.();
    await server.stop();
  }
});
