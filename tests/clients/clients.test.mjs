// Each client of examples/ loses its connection, is refused in band and with a 503, and still receives each event once, in order.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { launch } from "../browser/browser.mjs";
import { Server } from "../browser/server.mjs";
import { Proxy } from "./proxy.mjs";

const example = (path) => new URL(`../../examples/${path}`, import.meta.url).pathname;
const python = process.env.PYTHON ?? "python3";

let server;
before(async () => (server = await Server.start(["--retry", "200ms"])));
after(() => server.stop());

async function until(condition, what) {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `after 30 s: ${what()}`);
    await pause(5);
  }
}

/** `start(proxy, path, lines)` starts a client that pushes `id data` to `lines`, and returns a function that stops it. */
async function receivesEachEventOnce(name, start) {
  const topic = `example.${name}`;
  const proxy = await Proxy.before(server.url);
  const lines = [];
  const published = [];
  const publish = async (count) => {
    for (let sent = 0; sent < count; sent++) {
      const data = { n: published.length + 1, text: "ünï ☃ : data" };
      published.push(`${await server.publish(topic, data)} ${JSON.stringify(data)}`);
    }
  };
  const all = () => until(() => lines.length >= published.length, () => `${lines.length} of ${published.length} events`);
  const stop = await start(proxy, `/stream?topics=${topic}&heartbeat=1`, lines);
  try {
    // Not only "connected", which is also a string in /fanline.js.
    await until(() => /"message": ?"connected"/.test(proxy.received), () => "no hello");
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
    assert.ok(!proxy.received.includes("event: gap"), "unexpected gap");
    // A keep-alive comment is not an event.
    proxy.received = "";
    await until(() => /(^|\n):/.test(proxy.received), () => "no comment");
    await publish(1);
    await all();
    assert.deepEqual(lines, published);
  } finally {
    await stop();
    proxy.close();
  }
}

const program = (command, ...args) => async (proxy, path, lines) => {
  const filled = args.map((arg) => arg.replace("URL", `http://${proxy.address}${path}`).replace("ADDRESS", proxy.address).replace("PATH", path));
  const child = spawn(command, filled, { stdio: ["ignore", "pipe", "inherit"], detached: true });
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  // Kills the process group, because a shell has children.
  return () => process.kill(-child.pid, "SIGKILL");
};

test("curl", () => receivesEachEventOnce("curl", program("bash", example("curl.sh"), "URL")));
test("Node and fanline.js", () => receivesEachEventOnce("node", program("node", example("node/follow.mjs"), "URL")));
test("Python and httpx-sse", () => receivesEachEventOnce("httpx", program(python, example("python/follow_httpx.py"), "URL")));
test("Python and sseclient-py", () => receivesEachEventOnce("sseclient", program(python, example("python/follow_sseclient.py"), "URL")));
test("Rust", () => receivesEachEventOnce("rust", program(process.env.FOLLOW ?? example("../target/debug/examples/follow"), "ADDRESS", "PATH")));

/** A page in Chromium that shows each event as an element of `list`. `serve` routes the page to the proxy's origin. */
const inBrowser = (name, list, serve) => async (proxy, path, lines) => {
  const browser = await launch();
  const page = await browser.newPage();
  await serve(page);
  await page.exposeFunction("shown", (line) => lines.push(line));
  await page.addInitScript((list) => new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach((node) => {
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    const items = node.matches(`${list} > *`) ? [node] : node.querySelectorAll(`${list} > *`);
    items.forEach((item) => window.shown(item.textContent));
  }))).observe(document, { childList: true, subtree: true }), list);
  await page.goto(`http://${proxy.address}/${name}?stream=${encodeURIComponent(path)}`);
  return () => browser.close();
};

test("a browser", () => receivesEachEventOnce("browser", inBrowser("browser.html", "#events", async (page) => {
  const body = await readFile(example("browser.html"), "utf8");
  await page.route("**/browser.html*", (route) => route.fulfill({ body, contentType: "text/html" }));
})));

test("React, as Vite builds it", () => receivesEachEventOnce("react", inBrowser("index.html", "ol", async (page) => {
  await page.route("**/index.html*", (route) => route.fulfill({ path: example("react/dist/index.html") }));
  await page.route("**/assets/*", (route) => route.fulfill({ path: example(`react/dist${new URL(route.request().url()).pathname}`) }));
})));
