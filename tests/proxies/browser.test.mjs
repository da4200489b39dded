// EventSource in Chromium through each proxy: many streams on one connection, restarts of the proxy and of the server, refusals.
import assert from "node:assert/strict";
import { X509Certificate, createHash } from "node:crypto";
import { after, before, test } from "node:test";

import { PATIENCE, launch } from "../browser/browser.mjs";
import { certificate } from "./proxy.mjs";
import { behind, noticesSoon, streams, throughEach } from "./setup.mjs";

const RETRY = ["--retry", "200ms"];

let browser;
before(async () => {
  // Trusts this certificate alone: a proxy that starts may show another one, and pages must not take its responses then.
  const { publicKey } = new X509Certificate(certificate);
  const pin = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
  browser = await launch([`--ignore-certificate-errors-spki-list=${pin}`]);
});
after(() => browser.close());

/** A page of the proxy's origin. Its function `follow(path)` opens an EventSource and records what it gets. */
async function page(t, proxy) {
  const context = await browser.newContext();
  t.after(() => context.close());
  await context.addInitScript(() => {
    window.sources = [];
    window.follow = (path) => {
      const source = Object.assign(new EventSource(path), { data: [], system: [], errors: 0 });
      source.onmessage = (event) => source.data.push(JSON.parse(event.data));
      source.addEventListener("system", (event) => source.system.push(JSON.parse(event.data)));
      source.onerror = () => source.errors++;
      window.sources.push(source);
    };
    window.all = (condition) => window.sources.every(condition);
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(`${proxy.url}/health/live`);
  return page;
}

/** Opens `count` streams, and waits for the hello of each. */
async function follow(page, path, count) {
  await page.evaluate(([path, count]) => { for (let opened = 0; opened < count; opened++) window.follow(path); }, [path, count]);
  await page.waitForFunction(() => window.all((source) => source.system.some(({ message }) => message === "connected")));
}

throughEach((program) => {
  test("a page has 100 streams and other requests on one connection", async (t) => {
    const { server, proxy } = await behind(t, program);
    const at = await page(t, proxy);
    const network = await at.context().newCDPSession(at);
    const connections = [];
    network.on("Network.responseReceived", ({ response }) => {
      if (response.url.includes("/stream")) connections.push([response.connectionId, response.protocol]);
    });
    await network.send("Network.enable");
    await follow(at, "/stream?topics=t", 100);
    await streams(server, 100);
    assert.equal(connections.length, 100);
    assert.equal(new Set(connections.map(String)).size, 1, "one connection");
    assert.equal(connections[0][1], "h2");
    await server.publish("t", "to all");
    await at.waitForFunction(() => window.all(({ data }) => data.includes("to all")));
    assert.equal(await at.evaluate(async () => (await fetch("/health/live")).status), 200);
  });

  test("a page receives events and answers over a WebSocket, which outlives the timeouts", async (t) => {
    // 2 s in place of 90 s.
    const changes = program.quiet ? [[program.quiet, program.quiet.replace("90s", "2s")]] : [];
    const { server, proxy } = await behind(t, program, { changes });
    const at = await page(t, proxy);
    await at.evaluate(() => {
      window.messages = [];
      window.open = () => {
        window.socket = new WebSocket(`wss://${location.host}/ws?topics=t&heartbeat=1`);
        window.socket.onmessage = ({ data }) => window.messages.push(JSON.parse(data));
      };
      window.open();
      window.has = (condition, count = 1) => window.messages.filter(condition).length >= count;
    });
    await at.waitForFunction(() => window.has(({ type, data }) => type === "system" && data.message === "connected"));
    await server.publish("t", "over WebSocket");
    await at.waitForFunction(() => window.has(({ type, data }) => type === "event" && data === "over WebSocket"));
    await at.evaluate(() => window.socket.send(JSON.stringify({ type: "ping", ref: "p" })));
    await at.waitForFunction(() => window.has(({ type, ref }) => type === "pong" && ref === "p"));
    await at.waitForFunction(() => window.has(({ type }) => type === "heartbeat", 4));
    await server.publish("t", "late");
    await at.waitForFunction(() => window.has(({ data }) => data === "late"));
    await noticesSoon(server, async () => {
      await at.evaluate(() => window.socket.readyState === WebSocket.OPEN || window.open());
      return () => at.evaluate(() => window.socket.close());
    });
  });

  test("a stream resumes without a gap after the proxy was killed and restarted", async (t) => {
    const { server, proxy } = await behind(t, program, { args: RETRY });
    const at = await page(t, proxy);
    await follow(at, "/stream?topics=t", 1);
    await server.publish("t", 1);
    await at.waitForFunction(() => window.sources[0].data.length === 1);
    await proxy.kill();
    await at.waitForFunction(() => window.sources[0].errors > 0);
    await server.publish("t", 2);
    await proxy.run();
    await server.publish("t", 3);
    await at.waitForFunction(() => window.sources[0].data.length === 3);
    assert.deepEqual(await at.evaluate(() => window.sources[0].data), [1, 2, 3]);
  });

  test("streams outlive a restart of the server, with the farewell and while it is down", async (t) => {
    let { server, proxy } = await behind(t, program, { args: RETRY });
    const at = await page(t, proxy);
    await follow(at, "/stream?topics=t", 5);
    await server.stop("SIGTERM");
    const farewell = ({ system, errors }) => errors > 0 && system.some(({ message }) => message === "server restarting");
    await at.waitForFunction(`window.all(${farewell})`);
    // An attempt to reconnect has failed or waits.
    if (!program.waits) await at.waitForFunction(() => window.all(({ system }) => system.some(({ message }) => message === "unavailable")));
    assert.ok(await at.evaluate(() => window.all(({ readyState }) => readyState !== EventSource.CLOSED)));
    server = await server.restarted();
    t.after(() => server.stop());
    await streams(server, 5);
    await server.publish("t", "after");
    await at.waitForFunction(() => window.all(({ data }) => data.includes("after")));
  });

  test("a page is kept by a temporary refusal and closed by a permanent one", async (t) => {
    const { server, proxy } = await behind(t, program, { args: [...RETRY, "--max-firehose", "1", "--anonymous-subscribe", "open.**,t"] });
    const at = await page(t, proxy);
    await follow(at, "/stream?topics=open.**", 1);
    await at.evaluate(() => window.follow("/stream?topics=open.**"));
    await at.waitForFunction(() => window.sources[1].system.some(({ message, reason }) => message === "unavailable" && reason === "firehose"));
    await at.evaluate(() => window.follow("/stream?topics=closed"));
    await at.waitForFunction(() => window.sources[2].readyState === EventSource.CLOSED);
    // The first one makes room.
    await at.evaluate(() => window.sources[0].close());
    await at.waitForFunction(() => window.sources[1].system.some(({ message }) => message === "connected"));
    await server.publish("open.t", "now");
    await at.waitForFunction(() => window.sources[1].data.includes("now"));
  });
});
