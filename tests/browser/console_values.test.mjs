// The latest values of the console in Chromium.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { Consoles } from "./console.mjs";
import { Server } from "./server.mjs";

let consoles, server;
before(async () => (consoles = await Consoles.start()));
after(() => consoles.close());
// The ring of the topic has one event: what the console shows of the others are latest values.
beforeEach(async () => (server = await Server.start(["--history", "1", "--firehose-history", "64"])));
afterEach(async () => {
  await server.stop();
  await consoles.check();
});

const set = (core, value) =>
  server.send({ topic: "load", key: `cpu core: ${core}`, data: { name: "cpu", value, unit: "percent", tags: { core: `${core}` } } });
const remove = (core) => server.send({ topic: "load", key: `cpu core: ${core}`, delete: true });
const shown = (page) => page.locator("#values tbody tr").evaluateAll((rows) => rows.map((row) => row.textContent));

test("all current values are there when the console has opened", async () => {
  for (let core = 0; core < 20; core++) await set(core, core);
  for (let value = 0; value < 100; value++) await set(0, value);
  await remove(19);
  const page = await consoles.openLive(`${server.url}/demo`);
  // Without another event, and before the page asks for figures again.
  await page.locator("#values tbody tr").nth(18).waitFor();
  const texts = await shown(page);
  assert.equal(texts.length, 19);
  assert.match(texts[0], /core: 0.*99/);
});

// The best of twenty openings counts: beside other tests, the browser may wait for a processor longer than that. The times are taken in the
// page, because each call of the test into the page takes some milliseconds.
test("all current values are shown within 100 ms of the hello", async () => {
  for (let core = 0; core < 100; core++) await set(core, core);
  const page = await consoles.open(`${server.url}/demo`);
  await page.addInitScript(() => {
    const times = (window.times = {});
    const look = () => {
      if (document.querySelector("#state[data-state=open]")) times.hello ??= performance.now();
      if (document.querySelectorAll("#values tbody tr").length === 100) times.shown ??= performance.now();
    };
    new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
  });
  const times = [];
  while (times.length < 20 && !(Math.min(...times) <= 100)) {
    await page.reload();
    const both = await page.waitForFunction(() => window.times.hello && window.times.shown && window.times);
    const { hello, shown } = await both.jsonValue();
    times.push(shown - hello);
  }
  assert.ok(Math.min(...times) <= 100, `${times}`);
});

test("a hidden tab shows the current values as soon as it returns", async () => {
  await set(1, 10);
  await set(2, 20);
  const page = await consoles.openLive(`${server.url}/demo`);
  await page.locator("#values tbody tr").nth(1).waitFor();
  const turn = (isHidden) =>
    page.evaluate((isHidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
      document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
      return Array.from(document.querySelectorAll("#values tbody tr"), (row) => row.textContent);
    }, isHidden);
  await turn(true);
  for (let value = 30; value <= 60; value++) await set(1, value);
  await remove(2);
  await server.send({ topic: "load", data: "the last event" });
  await page.locator("#events > li", { hasText: "the last event" }).waitFor({ state: "attached" });
  const texts = await turn(false);
  assert.equal(texts.length, 1, `${texts}`);
  assert.match(texts[0], /60/);
});
