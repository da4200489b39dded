// Runs a client of examples/ behind a proxy that loses its connection and refuses the next ones.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

import { PATIENCE, launch } from "../browser/browser.mjs";
import { Proxy } from "./proxy.mjs";

export const example = (path) => new URL(`../../examples/${path}`, import.meta.url).pathname;
export const python = process.env.PYTHON ?? "python3";

// What a client follows, and what a quiet connection sends: a keep-alive, which may be compressed.
export const SSE = { path: "/stream", quiet: /./s, isRefusedInBand: true };
export const WEBSOCKET = { path: "/ws", quiet: /"type":"heartbeat"/, isRefusedInBand: false };

async function until(condition, what) {
  // A client waits for up to 45 s between two attempts, the longer the more of them have failed.
  const deadline = Date.now() + 3 * PATIENCE;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `after ${3 * PATIENCE} ms: ${what()}`);
    await pause(5);
  }
}

/** Whether the server has a client of this topic. */
async function isFollowed(server, topic) {
  const { clients } = await (await fetch(`${server.url}/clients`)).json();
  return clients.some(({ topics }) => topics.includes(topic));
}

/**
 * A client loses its connection, is refused, and still receives each event once, in order. `start(proxy, path, lines)` starts it. It
 * pushes `id data` to `lines`. Returns a function that stops it.
 */
export async function receivesEachEventOnce(server, name, transport, start) {
  const topic = `example.${name}`;
  const proxy = await Proxy.before(server.url, transport.isRefusedInBand);
  const lines = [];
  const published = [];
  const publish = async (count) => {
    for (let sent = 0; sent < count; sent++) {
      const data = { n: published.length + 1, text: "ünï ☃ : data" };
      published.push(`${await server.publish(topic, data)} ${JSON.stringify(data)}`);
    }
  };
  const all = () => until(() => lines.length >= published.length, () => `${lines.length} of ${published.length} events`);
  const stop = await start(proxy, `${transport.path}?topics=${topic}&heartbeat=1`, lines);
  try {
    await until(() => isFollowed(server, topic), () => "no stream");
    await publish(50);
    await until(() => lines.length > 10, () => `${lines.length} events`);
    proxy.cut();
    await publish(50);
    [proxy.connections, proxy.received, proxy.isFull, proxy.isDown] = [0, "", true, false];
    await until(() => proxy.refusals >= 2, () => `${proxy.refusals} refused requests`);
    proxy.isFull = false;
    await publish(50);
    await all();
    assert.ok(proxy.connections > 0, "the client did not reconnect");
    // A comment or a heartbeat is not an event.
    proxy.received = "";
    await until(() => transport.quiet.test(proxy.received), () => "no sign of a quiet connection");
    await publish(1);
    await all();
    assert.deepEqual(lines, published);
  } finally {
    await stop();
    proxy.close();
  }
}

/** A program whose standard output has a line for each event. */
export const program = (command, ...args) => async (proxy, path, lines) => {
  const address = { URL: `http://${proxy.address}${path}`, SOCKET: `ws://${proxy.address}${path}`, ADDRESS: proxy.address, PATH: path };
  const child = spawn(command, args.map((arg) => address[arg] ?? arg), { stdio: ["ignore", "pipe", "inherit"], detached: true });
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  // Kills the process group, because a shell has children.
  return () => process.kill(-child.pid, "SIGKILL");
};

/** Runs a program to its end. Returns its exit code and standard error. */
export async function ended(command, ...args) {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
  const [code] = await once(child, "close");
  return { code, errors };
}

/** A flag of Chromium: a page that a test fulfils has no address, and could open no WebSocket to this machine. */
export const MAY_CONNECT = "--disable-features=LocalNetworkAccessChecks";

/** A page in Chromium that shows each event as an element of `list`. `serve` routes the page to the proxy's origin. */
export const inBrowser = (name, parameter, list, serve) => async (proxy, path, lines) => {
  const browser = await launch([MAY_CONNECT]);
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await serve(page);
  await page.exposeFunction("shown", (line) => lines.push(line));
  await page.addInitScript((list) => new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach((node) => {
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    const items = node.matches(`${list} > *`) ? [node] : node.querySelectorAll(`${list} > *`);
    items.forEach((item) => window.shown(item.textContent));
  }))).observe(document, { childList: true, subtree: true }), list);
  await page.goto(`http://${proxy.address}/${name}?${parameter}=${encodeURIComponent(path)}`);
  return () => browser.close();
};

