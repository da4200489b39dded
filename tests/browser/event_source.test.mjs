// The browser's own EventSource outlives refusals and restarts of the server.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { PATIENCE, launch } from "./browser.mjs";
import { Server } from "./server.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

/** Opens a page of the server whose EventSource reads `/stream`. The page logs each event and the states after errors. */
const follow = async (server) => {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(`${server.url}/health/live`);
  await page.evaluate(() => {
    globalThis.log = [];
    const source = new EventSource("/stream");
    source.onerror = () => log.push(source.readyState === EventSource.CLOSED ? "closed" : "reconnecting");
    source.onmessage = ({ data }) => log.push(data);
    source.addEventListener("system", ({ data }) => log.push(JSON.parse(data).message));
    source.addEventListener("gap", () => log.push("gap"));
  });
  return page;
};

const logged = (page, text, times = 1) =>
  page.waitForFunction(([text, times]) => log.filter((entry) => entry === text).length >= times, [text, times]);

// Node closes the connection of an answer that is no longer referenced.
const answers = [];

/** Takes the only place for a subscriber of everything. Returns a function that leaves it. */
const take = async (server) => {
  const leaving = new AbortController();
  const answer = await fetch(`${server.url}/stream`, { signal: leaving.signal });
  answers.push(answer);
  assert.equal(answer.status, 200);
  return () => leaving.abort();
};

test("a refused EventSource reconnects, and gives up with --stream-refusals status", async () => {
  const args = ["--max-firehose", "1"];
  const [retry, status] = await Promise.all([Server.start(args), Server.start([...args, "--stream-refusals", "status"])]);
  try {
    const leave = await take(retry);
    await take(status);
    const [patient, hopeless] = await Promise.all([follow(retry), follow(status)]);
    await logged(hopeless, "closed");
    assert.deepEqual(await hopeless.evaluate(() => log), ["closed"]);
    await logged(patient, "reconnecting");
    leave();
    await logged(patient, "connected");
    // It may be refused again before the server knows that the place is free.
    assert.match(await patient.evaluate(() => log.join()), /^(unavailable,reconnecting,)+connected$/);
  } finally {
    await Promise.all([retry.stop(), status.stop()]);
  }
});

test("an EventSource gets every event over restarts with --history-file", async () => {
  const directory = await mkdtemp(join(tmpdir(), "fanline-history-"));
  let server = await Server.start(["--retry", "200ms", "--history-file", join(directory, "history")]);
  try {
    const page = await follow(server);
    await logged(page, "connected");
    const published = [];
    for (let round = 1; round <= 3; round++) {
      for (let n = 0; n < 20; n++) {
        published.push(`${published.length}`);
        await server.publish("t", published.length - 1);
      }
      await server.stop("SIGTERM");
      server = await server.restarted();
      await logged(page, "connected", round + 1);
    }
    await logged(page, published.at(-1));
    await logged(page, "connected", 4);
    const log = await page.evaluate(() => globalThis.log);
    assert.deepEqual(log.filter((entry) => /^\d+$/.test(entry)), published);
    assert.ok(!log.includes("gap") && !log.includes("closed"), log.join());
  } finally {
    await server.stop();
    await rm(directory, { recursive: true });
  }
});
