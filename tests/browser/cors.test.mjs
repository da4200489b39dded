// CORS, as a real browser enforces it.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { PATIENCE, launch } from "./browser.mjs";
import { Server } from "./server.mjs";

let browser, site, allowed, foreign;

before(async () => {
  browser = await launch();
  site = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html>")).listen(0, "127.0.0.1");
  await once(site, "listening");
  const { port } = site.address();
  [allowed, foreign] = [`http://127.0.0.1:${port}`, `http://localhost:${port}`];
});
after(async () => {
  await browser?.close();
  site?.close();
});

async function on(origin, visit) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  try {
    await page.goto(origin);
    return await visit(page);
  } finally {
    await page.close();
  }
}

test("a page of an allowed origin subscribes, publishes, and resumes with its last event id", async () => {
  let server = await Server.start(["--retry", "200ms", "--cors-origin", allowed, "--cors-credentials"]);
  try {
    await on(allowed, async (page) => {
      await page.evaluate((url) => {
        [window.seen, window.gaps] = [[], 0];
        window.source = new EventSource(`${url}/stream?topics=t`, { withCredentials: true });
        window.source.onmessage = (event) => window.seen.push(event.data);
        window.source.addEventListener("gap", () => window.gaps++);
        return new Promise((opened) => (window.source.onopen = opened));
      }, server.url);
      // A cross-origin JSON request is preflighted, and the page can read the response.
      const answer = await page.evaluate(async (url) => {
        const headers = { "content-type": "application/json" };
        const response = await fetch(`${url}/publish`, { method: "POST", headers, body: '{"topic":"t","data":1}' });
        return response.json();
      }, server.url);
      assert.match(answer.id, /^\d+-1$/);
      await page.waitForFunction(() => window.seen.length === 1);
      // The Last-Event-ID header is preflighted, too.
      const resumed = await page.evaluate(async (url) => {
        const response = await fetch(`${url}/stream?topics=t`, { headers: { "last-event-id": "earliest" } });
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        while (!text.includes("data: 1")) text += (await reader.read()).value;
        await reader.cancel();
        return text;
      }, server.url);
      assert.match(resumed, /"replayed":1/);
      const problem = await page.evaluate(async (url) => (await fetch(`${url}/nothing`)).json(), server.url);
      assert.equal(problem.status, 404);
      // A new server at the same address does not have the old position, and sends a gap.
      await server.stop();
      server = await server.restarted();
      await page.waitForFunction(() => window.gaps === 1);
    });
  } finally {
    await server.stop();
  }
});

test("a page of another origin cannot read anything", async () => {
  const server = await Server.start(["--cors-origin", allowed]);
  try {
    await on(foreign, async (page) => {
      const outcome = await page.evaluate((url) => new Promise((done) => {
        const source = new EventSource(`${url}/stream`);
        source.onopen = () => done("open");
        source.onerror = () => done(source.readyState === EventSource.CLOSED ? "refused" : "waiting");
      }), server.url);
      assert.equal(outcome, "refused");
      const fetched = await page.evaluate((url) => fetch(`${url}/health`).then(() => "read", (error) => error.name), server.url);
      assert.equal(fetched, "TypeError");
    });
  } finally {
    await server.stop();
  }
});
