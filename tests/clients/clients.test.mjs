// The clients of examples/ for Server-Sent Events.
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { EXAMPLES } from "../browser/program.mjs";
import { Server } from "../browser/server.mjs";
import { SSE, example, inBrowser, program, python, receivesEachEventOnce } from "./follow.mjs";

let server;
before(async () => (server = await Server.start(["--retry", "200ms"])));
after(() => server.stop());

const follows = (name, start) => receivesEachEventOnce(server, name, SSE, start);

test("curl", () => follows("curl", program("bash", example("curl.sh"), "URL")));
test("Node and fanline.js", () => follows("node", program("node", example("node/follow.mjs"), "URL")));
test("Python and httpx-sse", () => follows("httpx", program(python, example("python/follow_httpx.py"), "URL")));
test("Python and sseclient-py", () => follows("sseclient", program(python, example("python/follow_sseclient.py"), "URL")));
test("Rust", () => follows("rust", program(`${EXAMPLES}/follow`, "ADDRESS", "PATH")));

test("a browser", () => follows("browser", inBrowser("browser.html", "stream", "#events", async (page) => {
  const body = await readFile(example("browser.html"), "utf8");
  await page.route("**/browser.html*", (route) => route.fulfill({ body, contentType: "text/html" }));
})));

test("React, as Vite builds it", () => follows("react", inBrowser("index.html", "stream", "ol", async (page) => {
  await page.route("**/index.html*", (route) => route.fulfill({ path: example("react/dist/index.html") }));
  await page.route("**/assets/*", (route) => route.fulfill({ path: example(`react/dist${new URL(route.request().url()).pathname}`) }));
})));
