// Many consoles in one Chromium over HTTP/1.1, which opens six connections to a server.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { PATIENCE } from "./browser.mjs";
import { Consoles, live, rows, shows } from "./console.mjs";
import { Server } from "./server.mjs";

const TABS = 7;
let consoles, server;
// `workstation` is a name of this machine, but not a secure context as localhost is: tabs cannot share a stream there.
before(async () => (consoles = await Consoles.start(["--host-resolver-rules=MAP workstation 127.0.0.1"])));
after(() => consoles.close());
beforeEach(async () => (server = await Server.start(["--retry", "200ms"])));
afterEach(async () => {
  await consoles.check();
  await server.stop();
});

const streams = async () => (await (await fetch(`${server.url}/`)).json()).clients;

/** Waits until the server has `count` streams. Those from which a tab reads history end by themselves. */
async function has(count) {
  for (const end = Date.now() + PATIENCE; (await streams()) !== count; ) assert.ok(Date.now() < end, `${await streams()} streams`);
}

test("seven tabs all show live data, over one stream", async () => {
  const tabs = [];
  for (let n = 0; n < TABS; n++) tabs.push(await consoles.openLive(`${server.url}/demo#events`, { beside: tabs[0] }));
  await server.publish("a", "for all tabs");
  await Promise.all(tabs.map((tab) => rows(tab, "for all tabs").waitFor()));
  await has(1);
  // Their requests for figures and lists do not wait either.
  for (const tab of tabs) await tab.locator("nav a", { hasText: "Overview" }).click();
  await Promise.all(tabs.map((tab) => shows(tab, "retained", /^1$/)));
  // The tab with the stream closes.
  await tabs.shift().close();
  await server.publish("a", "for the others");
  for (const tab of tabs) await tab.locator("nav a", { hasText: "Events" }).click();
  await Promise.all(tabs.map((tab) => rows(tab, "for the others").waitFor()));
});

test("a tab that gets no connection says that the browser's limit is the reason", async () => {
  const url = `${server.url.replace("127.0.0.1", "workstation")}/demo#events`;
  const tabs = [];
  for (let n = 0; n < 5; n++) tabs.push(await consoles.openLive(url, { beside: tabs[0] }));
  const late = await consoles.open(url, { beside: tabs[0] });
  const later = await consoles.open(url, { beside: tabs[0] });
  for (const tab of [late, later]) await shows(tab, "explanation", /at most six connections/);
  // Requests still work.
  await server.publish("a", 1);
  await later.locator("nav a", { hasText: "Overview" }).click();
  await shows(later, "retained", /^1$/);
  await tabs.pop().close();
  await tabs.pop().close();
  await Promise.all([live(late), live(later)]);
});

test("a stream without an answer is explained", async () => {
  const page = await consoles.open(server.url);
  await page.route(/\/stream\?/, () => {});
  await page.goto(`${server.url}/demo`);
  await shows(page, "explanation", /has not answered for 5 s.*at most six connections/);
  await page.unrouteAll();
});
