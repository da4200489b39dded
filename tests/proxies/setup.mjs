// A server and a proxy in front of it, for one test.
import assert from "node:assert/strict";
import { describe } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { PATIENCE } from "../browser/browser.mjs";
import { Server } from "../browser/server.mjs";
import { programs } from "./programs.mjs";
import { Proxy } from "./proxy.mjs";
import { Http2 } from "./reader.mjs";

/** Defines the tests of each proxy. Three proxies are tested at a time, because tests wait more than they compute. */
export function throughEach(define) {
  describe("through", { concurrency: 3 }, () => {
    for (const program of programs) describe(program.name, { concurrency: 1, timeout: 900_000 }, () => define(program));
  });
}

/**
 * Starts both. They end with the test. `changes` are [old, new] texts of the proxy's configuration. `listen` is a second address of the
 * server, for the proxy.
 */
export async function behind(t, program, { args = [], changes = [], listen } = {}) {
  const server = await Server.start(listen ? ["--listen", listen, ...args] : args);
  t.after(() => server.stop());
  const proxy = await Proxy.start(program, listen ?? new URL(server.url).host, changes);
  t.after(() => proxy.stop());
  return { server, proxy };
}

export const read = async (server, path) => (await fetch(server.url + path)).json();

export const clients = async (server) => (await read(server, "/clients")).clients;

/** Returns the milliseconds until the server has `count` streams. */
export async function streams(server, count) {
  const begin = performance.now();
  for (;;) {
    const { connections } = await read(server, "/metrics/json");
    const elapsed = performance.now() - begin;
    if (connections.streams === count) return elapsed;
    if (elapsed > PATIENCE) throw new Error(`${connections.streams} streams, not ${count}`);
    await pause(10);
  }
}

/**
 * Checks that the server notices within a second that a client is gone. `open` opens a stream beside `rest` ones, and returns what ends
 * it. The quickest of five counts, because a busy machine stands still at times.
 */
export async function noticesSoon(server, open, rest = 0) {
  const times = [];
  do {
    const leave = await open();
    await streams(server, rest + 1);
    await leave();
    times.push(await streams(server, rest));
  } while (times.at(-1) >= 1000 && times.length < 5);
  assert.ok(times.at(-1) < 1000, `${times} ms`);
}

/** A connection with HTTP/2 that ends with the test. */
export function http2(t, proxy, options) {
  const connection = new Http2(proxy.url, options);
  t.after(() => connection.close());
  return connection;
}
