// The pages of the server in Chromium: colours, icon, sizes, and the API's viewer.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { Consoles, live } from "./console.mjs";
import { Server } from "./server.mjs";

let consoles, server;
before(async () => {
  consoles = await Consoles.start();
  server = await Server.start(["--demo"]);
});
after(async () => {
  await consoles.close();
  await server.stop();
});
afterEach(() => consoles.check());

const PAGES = ["/", "/demo", "/docs"];
const paper = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

test("pages follow the system's colours until others are chosen, and the button says which", async () => {
  for (const path of PAGES) {
    const page = await consoles.open(server.url + path, { colorScheme: "dark" });
    const dark = await paper(page);
    await page.emulateMedia({ colorScheme: "light" });
    const light = await paper(page);
    assert.notEqual(light, dark, path);
    const button = page.locator("#theme");
    assert.equal(await button.textContent(), "Theme: system");
    await button.click();
    assert.equal(await button.textContent(), "Theme: light");
    await button.click();
    assert.equal(await button.textContent(), "Theme: dark");
    assert.equal(await paper(page), dark);
    await page.reload();
    assert.equal(await button.textContent(), "Theme: dark");
    assert.equal(await paper(page), dark);
    await page.context().close();
  }
});

test("pages have an icon", async () => {
  for (const path of PAGES) {
    const page = await consoles.open(server.url + path);
    const address = await page.locator("link[rel=icon]").evaluate((link) => link.href);
    const icon = await page.evaluate(async (address) => (await fetch(address)).headers.get("content-type"), address);
    assert.equal(icon, "image/svg+xml");
    assert.ok(await page.locator("h1 img").evaluate((image) => image.naturalWidth > 0));
  }
});

test("pages fit a phone without horizontal scrolling", async () => {
  for (const path of ["/", "/docs", "/demo", "/demo#events", "/demo#subscribers"]) {
    const page = await consoles.open(server.url + path, { viewport: { width: 390, height: 844 } });
    if (path.startsWith("/demo")) await live(page);
    if (path === "/docs") await page.locator(".opblock").first().waitFor();
    if (path === "/demo#events") await page.locator("#events > li summary").first().click();
    if (path === "/demo#subscribers") await page.locator("#subscribers-table tbody tr").first().waitFor();
    const { scrollWidth, clientWidth } = await page.evaluate(() => (({ scrollWidth, clientWidth }) => ({ scrollWidth, clientWidth }))(document.documentElement));
    assert.ok(scrollWidth <= clientWidth, `${path}: ${scrollWidth} of ${clientWidth}`);
  }
});

test("the console shows the latest values of --demo", async () => {
  const page = await consoles.openLive(`${server.url}/demo`);
  await page.locator("#values tbody tr", { hasText: /cpu usage.*\d %/ }).first().waitFor();
});

test("the API's viewer lists the endpoints and sends requests", async () => {
  const page = await consoles.open(`${server.url}/docs`);
  const health = page.locator(".opblock", { has: page.locator("[data-path='/health']") });
  await health.locator(".opblock-summary-control").click();
  await health.getByRole("button", { name: "Try it out" }).click();
  await health.getByRole("button", { name: "Execute" }).click();
  await health.locator(".live-responses-table", { hasText: "healthy" }).waitFor();
  assert.equal(await health.locator(".request-url pre").textContent(), `${server.url}/health`);
});
