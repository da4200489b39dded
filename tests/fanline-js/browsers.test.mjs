// fanline.js in Debian's Chromium and Firefox, with a real server: cuts, restarts, refusals, tokens, and several tabs.
// The environment variable FANLINE is the path of the program.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { Server, program } from "../browser/server.mjs";
import { launch, names } from "./browsers.mjs";
import { Front } from "./front.mjs";

const PATIENCE = 60_000;
const SECRET = "a secret of the tests that has 32 bytes or more";
const token = (lifetime) => execFileSync(program, ["token", "--secret", SECRET, "--subscribe", "**", "--expires-in", lifetime], { encoding: "utf8" }).trim();

const suite = (name) =>
  describe(name, { concurrency: false }, () => {
    let browser, server, front;
    before(async () => (browser = await launch(name)));
    after(() => browser?.close());

    const serve = async (...args) => {
      server = await Server.start(["--retry", "200ms", ...args]);
      front = await Front.before(server);
    };
    const stop = async () => {
      for (const page of await browser.pages()) if (page.url().startsWith(front.url)) await page.close();
      front.close();
      await server.stop();
    };
    const withServer = (args, run) => async () => {
      await serve(...args);
      try {
        await run();
      } finally {
        await stop();
      }
    };

    /** A tab with an open stream. `window.log` has its events and gaps. */
    const open = async (options = {}, { path = "/stream", isOpen = true, hurry = 1 } = {}) => {
      const page = await browser.newPage();
      page.setDefaultTimeout(PATIENCE);
      await page.exposeFunction("issue", token);
      await page.goto(`${front.url}/health/live`);
      // The client's regular checks are faster, and `check()` makes one at once.
      await page.evaluate((hurry) => {
        const { setInterval } = window;
        window.setInterval = (run, delay) => setInterval((window.check = run), delay / hurry);
      }, hurry);
      await page.evaluate(async (options, path, module) => {
        const { connect } = await import(module);
        Object.assign(window, { log: [], states: [], tokens: [...(options.tokens ?? [])], connect });
        if (options.tokens) options.token = async () => window.tokens.shift();
        // Of the next lifetime. A token that is made earlier may have ended before the page has opened.
        if (options.lifetimes) options.token = () => window.issue(options.lifetimes.shift());
        window.stream = connect(path, {
          ...options,
          onEvent: ({ data }) => window.log.push(data),
          onGap: ({ reason }) => window.log.push(reason),
          onState: (...state) => window.states.push(state),
        });
      }, options, path, `${front.url}/fanline.js`);
      if (isOpen) await state(page, "open");
      return page;
    };
    const state = (page, wanted) => page.waitForFunction((wanted) => window.states.at(-1)?.[0] === wanted, { polling: 20 }, wanted);
    const has = async (page, count) => {
      await page.waitForFunction((count) => window.log.length >= count, { polling: 20 }, count);
      return page.evaluate(() => window.log);
    };
    const until = async (condition) => {
      for (const end = Date.now() + PATIENCE; !(await condition()); ) {
        assert.ok(Date.now() < end, `after ${PATIENCE} ms: ${condition}`);
        await pause(5);
      }
    };
    let published;
    const publish = async (count, topic = "t") => {
      for (let sent = 0; sent < count; sent++) {
        await server.publish(topic, ++published);
      }
    };
    const upTo = (last, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
    const streams = async () => (await (await fetch(`${server.url}/health`)).json()).connected_clients;

    test("delivers each event once across cuts", withServer([], async () => {
      published = 0;
      const page = await open({ topics: ["t"] });
      for (let round = 1; round <= 3; round++) {
        await publish(10);
        // The connection is open again, so that there is one to cut.
        await has(page, 40 * round - 30);
        await publish(10);
        front.cut();
        await publish(20);
      }
      assert.deepEqual(await has(page, 120), upTo(120));
      assert.ok(front.requests >= 4);
    }));

    for (const status of [401, 429, 502, 503]) {
      test(`returns after answers with ${status}, which end an EventSource`, withServer([], async () => {
        published = 0;
        const page = await open({ topics: ["t"], tokens: Array(99).fill("") });
        await publish(5);
        await has(page, 5);
        [front.refusal, front.requests] = [status, 0];
        front.cut();
        await state(page, "waiting");
        await publish(5);
        await page.waitForFunction(() => window.states.filter(([state]) => state === "waiting").length >= 3, { polling: 20 });
        front.refusal = undefined;
        await publish(5);
        assert.deepEqual(await has(page, 15), upTo(15));
      }));
    }

    test("reports the gap of a restarted server, and continues", withServer([], async () => {
      published = 0;
      const page = await open();
      await publish(3);
      await has(page, 3);
      await server.stop();
      await state(page, "waiting");
      server = await server.restarted();
      front.server = server;
      await publish(3);
      assert.deepEqual(await has(page, 7), [1, 2, 3, "epoch", 4, 5, 6]);
    }));

    test("closes when the server refuses for good, and says why", withServer([], async () => {
      const page = await open({ topics: ["a b"] }, { isOpen: false });
      await state(page, "closed");
      const [, detail] = await page.evaluate(() => window.states.at(-1));
      assert.match(detail, /parameter topics/);
    }));

    test("uses a new token before the old one ends", withServer(["--jwt-secret", SECRET, "--anonymous-publish", "**"], async () => {
      published = 0;
      const page = await open({ lifetimes: ["10s", "1h"] });
      await publish(3);
      await page.waitForFunction(() => window.states.length >= 4, { polling: 20 });
      await publish(3);
      assert.deepEqual(await has(page, 6), upTo(6));
      assert.deepEqual(await page.evaluate(() => window.states.map(([state]) => state)), ["connecting", "open", "connecting", "open"]);
    }));

    test("asks for another token after a 401", withServer(["--jwt-secret", SECRET, "--anonymous-publish", "**"], async () => {
      published = 0;
      const page = await open({ tokens: ["wrong", token("1h")] });
      await publish(3);
      assert.deepEqual(await has(page, 3), upTo(3));
      assert.equal(front.requests, 2);
    }));

    test("replaces a silent connection when the network is back", withServer([], async () => {
      published = 0;
      const page = await open();
      await publish(3);
      await has(page, 3);
      front.isSilent = true;
      await publish(3);
      front.isSilent = false;
      await page.evaluate(() => window.dispatchEvent(new Event("online")));
      assert.deepEqual(await has(page, 6), upTo(6));
    }));

    test("notices by itself that a connection is silent", withServer([], async () => {
      published = 0;
      const page = await open({}, { path: "/stream?heartbeat=1", hurry: 20 });
      front.isSilent = true;
      await publish(3);
      const { requests } = front;
      await page.waitForFunction(() => window.states.length > 2, { polling: 20 });
      front.isSilent = false;
      front.cut();
      assert.deepEqual(await has(page, 3), upTo(3));
      assert.ok(front.requests > requests);
    }));

    test("seven tabs share a connection, and each gets every event once when leaders close", withServer([], async () => {
      published = 0;
      const pages = [];
      for (let tab = 0; tab < 7; tab++) pages.push(await open());
      assert.deepEqual([await streams(), front.requests], [1, 1]);
      await publish(10);
      for (const page of pages) await has(page, 10);
      for (let closed = 0; closed < 3; closed++) {
        const sending = publish(30);
        const leader = pages.shift();
        // Half of the time by the page itself, otherwise with the tab.
        if (closed % 2) await leader.evaluate(() => window.stream.close());
        else await leader.close();
        await sending;
        await publish(5);
        for (const page of pages) assert.deepEqual(await has(page, published), upTo(published));
      }
      await until(async () => (await streams()) === 1);
    }));

    // Firefox runs tabs of one origin in one process, which would hang as a whole.
    test("a leader that hangs is replaced, and follows when it is back", { skip: name === "firefox" }, withServer([], async () => {
      published = 0;
      const [leader, other] = [await open(), await open()];
      await publish(3);
      await has(leader, 3);
      const { requests } = front;
      const hanging = leader.evaluate(() => {
        const request = new XMLHttpRequest();
        request.open("GET", "/hold", false);
        request.send();
      });
      await until(() => front.release);
      await publish(3);
      // The next connection is that of the new leader.
      await until(async () => {
        await other.evaluate(() => window.check());
        return front.requests > requests;
      });
      assert.deepEqual(await has(other, 6), upTo(6));
      await publish(3);
      assert.deepEqual(await has(other, 9), upTo(9));
      front.release();
      await hanging;
      await until(async () => (await streams()) === 1);
      await publish(3);
      for (const page of [leader, other]) assert.deepEqual(await has(page, 12), upTo(12));
    }));

    test("all tabs survive a cut, and a tab that resumes joins them", withServer([], async () => {
      published = 0;
      const pages = [await open(), await open()];
      await publish(10);
      const id = await has(pages[0], 10).then(() => pages[0].evaluate(() => window.stream.lastEventId));
      front.cut();
      await publish(10);
      pages.push(await open({ lastEventId: id }));
      pages.push(await open({ lastEventId: "earliest" }));
      await publish(10);
      const expected = [upTo(30), upTo(30), upTo(30, 11), upTo(30)];
      for (const [index, page] of pages.entries()) assert.deepEqual(await has(page, expected[index].length), expected[index], `tab ${index}`);
      await until(async () => {
        await publish(1);
        return (await streams()) === 1;
      });
      for (const [index, page] of pages.entries()) {
        const all = upTo(published, expected[index][0]);
        assert.deepEqual(await has(page, all.length), all);
      }
    }));

    test("tabs with other topics or tokens have streams of their own", withServer([], async () => {
      published = 0;
      await open();
      await open({ topics: ["t"] });
      const [one, two] = [await open({ topics: ["a"] }), await open({ topics: ["a"] })];
      assert.equal(await streams(), 3);
      await publish(1, "a");
      for (const page of [one, two]) assert.deepEqual(await has(page, 1), [1]);
    }));
  });

describe("fanline.js", { concurrency: true }, () => {
  names.forEach(suite);
});
