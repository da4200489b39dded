// The clients of examples/ for WebSocket.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { PATIENCE, launch } from "../browser/browser.mjs";
import { Server } from "../browser/server.mjs";
import { MAY_CONNECT, WEBSOCKET, ended, example, inBrowser, program, python, receivesEachEventOnce } from "./follow.mjs";

let server;
before(async () => (server = await Server.start(["--retry", "200ms"])));
after(() => server.stop());

const follows = (name, start) => receivesEachEventOnce(server, name, WEBSOCKET, start);
const serve = async (page) => {
  const body = await readFile(example("websocket.html"), "utf8");
  await page.route("**/websocket.html*", (route) => route.fulfill({ body, contentType: "text/html" }));
};

test("Node and ws", () => follows("ws", program("node", example("node/follow_websocket.mjs"), "SOCKET")));
test("Python and websockets", () => follows("websockets", program(python, example("python/follow_websocket.py"), "SOCKET")));
test("a browser", () => follows("page", inBrowser("websocket.html", "socket", "#events", serve)));

test("clients give up after a refusal for good", async () => {
  const closed = await Server.start(["--anonymous-subscribe", "open"]);
  try {
    for (const [command, file] of [["node", "node/follow_websocket.mjs"], [python, "python/follow_websocket.py"]]) {
      const { code, errors } = await ended(command, example(file), `${closed.url.replace("http", "ws")}/ws?topics=closed`);
      assert.equal(code, 1, errors);
      assert.match(errors, /40[13]/);
    }
  } finally {
    await closed.stop();
  }
});

test("pages publish and receive over one connection", async () => {
  const browser = await launch([MAY_CONNECT]);
  try {
    const pages = await Promise.all([1, 2].map(() => browser.newPage()));
    for (const page of pages) {
      page.setDefaultTimeout(PATIENCE);
      await serve(page);
      await page.goto(`${server.url}/websocket.html`);
      await page.locator("#state", { hasText: /^connected$/ }).waitFor();
    }
    await pages[0].locator("input").fill("<b>hello</b>");
    await pages[0].locator("button").click();
    for (const page of pages) await page.locator("#events li", { hasText: '"<b>hello</b>"' }).waitFor();
  } finally {
    await browser.close();
  }
});
