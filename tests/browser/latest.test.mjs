// The page of docs/dashboards.md in two windows of Chromium, one of which is offline for a while.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { PATIENCE, launch } from "./browser.mjs";
import { Network } from "./network.mjs";
import { Server } from "./server.mjs";

const ADDRESS = "http://localhost:8000";
let browser, dashboard;
before(async () => {
  browser = await launch();
  const documentation = await readFile(new URL("../../docs/dashboards.md", import.meta.url), "utf8");
  dashboard = documentation.match(/```html\n(.*?)```/s)[1];
  assert.ok(dashboard.includes(ADDRESS));
});
after(() => browser.close());

/** A dashboard in a window of its own, whose server is at `url`. */
const open = async (url) => {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(`${url}/health/live`);
  await page.setContent(dashboard.replace(ADDRESS, url));
  return page;
};

const shows = (page, text) => page.waitForFunction((text) => document.getElementById("rooms").textContent === text, text);

test("dashboards are equal after one of them was offline", async () => {
  const server = await Server.start(["--retry", "100ms"]);
  const network = await Network.before(server.url);
  const set = (room, free) => server.send({ topic: "rooms", key: room, data: { room, free } });
  const remove = (room) => server.send({ topic: "rooms", key: room, delete: true });
  try {
    for (const room of ["blue", "green", "red"]) await set(room, 1);
    const [near, far] = [await open(server.url), await open(network.url)];
    for (const page of [near, far]) await shows(page, "blue,1\ngreen,1\nred,1");
    await network.down(far);
    for (let free = 2; free <= 50; free++) await set("blue", free);
    await remove("green");
    await set("black", 7);
    await shows(near, "black,7\nblue,50\nred,1");
    assert.equal(await far.locator("#rooms").textContent(), "blue,1\ngreen,1\nred,1");
    await network.up(far);
    network.reset();
    await shows(far, "black,7\nblue,50\nred,1");
    await remove("red");
    for (const page of [near, far]) await shows(page, "black,7\nblue,50");
    const late = await open(server.url);
    await shows(late, "black,7\nblue,50");
  } finally {
    network.close();
    await server.stop();
  }
});
