// The console over WebSocket.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { PATIENCE } from "./browser.mjs";
import { Consoles, live, rows, shows } from "./console.mjs";
import { Server } from "./server.mjs";

let consoles, server;
before(async () => (consoles = await Consoles.start()));
after(() => consoles.close());
beforeEach(async () => (server = await Server.start(["--retry", "200ms"])));
afterEach(async () => {
  await server.stop();
  await consoles.check();
});

/** The transports of the console's streams. The streams from which it reads history end by themselves. */
async function transports() {
  const { clients } = await (await fetch(`${server.url}/clients`)).json();
  return clients.filter(({ client_name }) => client_name === "console").map(({ transport }) => transport);
}

/** Waits until the console follows with this transport alone. The server learns a little later that a stream was closed. */
async function followsWith(transport) {
  const end = Date.now() + PATIENCE;
  while (String(await transports()) !== transport) assert.ok(Date.now() < end, `the transports are ${await transports()}`);
}
const choose = (page, name) => page.locator("#transport label", { hasText: name }).click();

test("the console switches between Server-Sent Events and WebSocket", async () => {
  const page = await consoles.openLive(`${server.url}/demo#events`);
  await followsWith("sse");
  for (const [name, transport] of [["WebSocket", "websocket"], ["SSE", "sse"], ["WebSocket", "websocket"]]) {
    await choose(page, name);
    await live(page);
    await server.publish("orders.1", { by: transport });
    await rows(page, `"by":"${transport}"`).first().waitFor();
    await followsWith(transport);
  }
  await page.locator("nav a", { hasText: "Subscribers" }).click();
  await page.locator("#subscribers-table tbody tr", { hasText: "console" }).filter({ hasText: "WebSocket" }).waitFor();
  await page.locator("nav a", { hasText: "Events" }).click();
  // A text, and a name.
  await server.send({ topic: "orders.2", event: "paid", text: "<b>thanks</b>" });
  await rows(page, "paid").filter({ hasText: "<b>thanks</b>" }).waitFor();
});

test("a WebSocket has the chosen topics, and continues after the server restarted", async () => {
  const page = await consoles.openLive(`${server.url}/demo#events/orders.*`);
  await choose(page, "WebSocket");
  await live(page);
  await server.publish("other", 1);
  await server.publish("orders.1", "before");
  await rows(page, "before").waitFor();
  await server.stop("SIGTERM");
  await shows(page, "state-text", /Reconnecting|Connecting/);
  server = await server.restarted();
  await live(page);
  // The new server does not have the events of the old one.
  await page.locator("#events > li.gap").first().waitFor();
  await server.publish("orders.2", "after");
  await rows(page, "after").waitFor();
  assert.equal(await rows(page, "other").count(), 0);
});

test("a refused WebSocket says why, and connects when it may", async () => {
  await server.stop();
  server = await Server.start(["--retry", "200ms", "--anonymous-subscribe", "open"]);
  const page = await consoles.open(`${server.url}/demo#events/closed`);
  await choose(page, "WebSocket");
  await shows(page, "explanation", /[Kk]ey or token|anonymous_subscribe/);
  await page.locator("#follow-topics").fill("open");
  await page.keyboard.press("Enter");
  await live(page);
  await followsWith("websocket");
});
