// Tests the dashboard in a real browser with a real server.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, afterEach, test } from "node:test";

import { launch } from "./browser.mjs";
import { Server, program } from "./server.mjs";

let browser, server, page, errors, requests;

before(async () => (browser = await launch()));
after(() => browser?.close());

beforeEach(async () => {
  server = await Server.start(["--demo", "--retry", "200ms"]);
  page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  [errors, requests] = [[], []];
  page.on("pageerror", (error) => errors.push(error));
  page.on("console", (message) => message.text().includes("Content Security Policy") && errors.push(message.text()));
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`${server.url}/demo`);
  await page.locator("#state[data-state=open]").waitFor();
});

afterEach(async () => {
  await page.close();
  await server.stop();
  assert.deepEqual(errors, []);
  assert.deepEqual(requests.filter((url) => !url.startsWith(server.url) && !url.startsWith("data:")), []);
});

const text = (id) => page.locator(`#${id}`).textContent();
const shows = (id, expected) => page.waitForFunction(
  ([id, source]) => new RegExp(source).test(document.getElementById(id).textContent), [id, expected.source]);
const points = (chart) => page.evaluate((name) => charts[name].data[1].filter((value) => value != null).length, chart);
const pixels = (chart) => page.evaluate((name) => charts[name].plot.ctx.canvas.toDataURL(), chart);

test("every chart updates", async () => {
  for (const name of ["cpu", "memory", "network", "deliveries", "rate", "latency"]) {
    const [count, picture] = [await points(name), await pixels(name)];
    await page.waitForFunction(([name, count]) => charts[name].data[1].filter((value) => value != null).length > count + 1, [name, count]);
    await page.waitForFunction(([name, picture]) => charts[name].plot.ctx.canvas.toDataURL() !== picture, [name, picture]);
    const label = await page.locator(`#chart-${name} [role=img]`).getAttribute("aria-label");
    assert.match(label, /Now: .*\d/, "the label has the newest value");
  }
  assert.match(await text("rate"), /^\d+$/);
  assert.match(await text("latency"), /ms$/);
  assert.match(await text("position"), /^\d+-\d+$/);
});

test("an unselected topic is not subscribed", async () => {
  await page.locator("label.chip", { hasText: "metric" }).click();
  await page.locator("#state[data-state=open]").waitFor();
  await shows("stream", /: log, alert\./);
  const count = await points("memory");
  await server.publish("log", { type: "log", level: "info", message: "a visible line" });
  await shows("log", /a visible line/);
  await shows("rate", /^0$/);
  assert.equal(await points("memory"), count);

  await page.locator("#more").fill("comment:*");
  await page.getByRole("button", { name: "Apply" }).click();
  await shows("stream", /: log, alert, comment:\*\./);
  await server.publish("comment:7", { hello: "<b>bold</b>" });
  await shows("log", /"hello":"<b>bold<\/b>"/);
});

test("the tag filter shows only metrics with that tag", async () => {
  await page.locator("#tag option[value='core: 0']").waitFor({ state: "attached" });
  await page.locator("#tag").selectOption("core: 0");
  const tags = await page.locator("#values tr td:nth-child(2)").allTextContents();
  assert.ok(tags.length > 0 && tags.every((tag) => tag === "core: 0"), String(tags));
  await page.waitForFunction(() => charts.cpu.data[1].filter((value) => value != null).length > 1);
});

test("the page reconnects after a server restart and shows the gap", async () => {
  const position = await text("position");
  await server.stop();
  await page.locator("#state[data-state=lost]").waitFor();
  await shows("stream", /Connection lost at \d+-\d+\./);
  server = await server.restarted();
  await page.locator("#state[data-state=open]").waitFor();
  await shows("reconnects", /^1$/);
  await shows("resumed", /last from \d+-\d+/);
  await shows("stream", /Reconnected by itself after [\d.]+ s with \d+-\d+, which the server does not hold; \d+ replayed\./);
  await shows("stream", /Gap: missed an unknown number of events between \d+-\d+ and \d+-\d+, for the server has restarted/);
  await shows("missed", /unknown/);
  await page.waitForFunction((epoch) => !document.getElementById("position").textContent.startsWith(epoch), position.split("-")[0]);
});

test("disconnect lasts until reconnect, which resumes without loss", async () => {
  const button = page.getByRole("button", { name: "Disconnect" });
  await button.focus();
  await page.keyboard.press("Enter");
  await page.locator("#state[data-state=closed]").waitFor();
  await server.publish("alert", { type: "alert", level: "warning", message: "published while disconnected" });
  await page.keyboard.press("Enter");
  await page.locator("#state[data-state=open]").waitFor();
  await shows("alerts", /published while disconnected/);
  assert.equal(await text("missed"), "0");
});

test("the theme follows the system until one is chosen, which persists", async () => {
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: "light" });
  const light = await paper();
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await paper();
  assert.notEqual(light, dark);
  await page.getByRole("button", { name: /^Colours/ }).click();
  assert.equal(await paper(), light);
  await page.reload();
  assert.equal(await paper(), light);
});

test("the page fits a phone without horizontal scrolling", async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  await page.waitForFunction(() => charts.cpu.plot.width < 340);
  const { scrollWidth, clientWidth } = await page.evaluate(() => (({ scrollWidth, clientWidth }) => ({ scrollWidth, clientWidth }))(document.documentElement));
  assert.ok(scrollWidth <= clientWidth, `${scrollWidth} of ${clientWidth}`);
});

test("every control has an accessible name and is reachable by keyboard", async () => {
  const names = [];
  for (let press = 0; press < 30; press++) {
    await page.keyboard.press("Tab");
    names.push(await page.evaluate(() => document.activeElement.id || document.activeElement.value || document.activeElement.className));
  }
  for (const name of ["skip", "connect", "theme", "metric", "log", "alert", "more", "tag"]) assert.ok(names.includes(name), `${name} in ${names}`);
  const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select")].filter((control) =>
    !(control.textContent.trim() || control.labels?.length || control.ariaLabel)).map((control) => control.outerHTML));
  assert.deepEqual(nameless, []);
});

test("a server with keys accepts a page with a key and explains the refusal without one", async () => {
  const made = spawnSync(program, ["key", "wall", "--subscribe", "**"], { encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
  const directory = mkdtempSync(join(tmpdir(), "fanline-demo-"));
  const config = join(directory, "fanline.toml");
  writeFileSync(config, made.stdout);
  const guarded = await Server.start(["--demo", "--config", config]);
  const guest = await browser.newPage();
  try {
    await guest.goto(`${guarded.url}/demo`);
    await guest.getByText(/Refused: .*API key or token/).first().waitFor();
    await guest.goto(`${guarded.url}/demo?access_token=${made.stderr.trim()}`);
    await guest.locator("#state[data-state=open]").waitFor();
  } finally {
    await guest.close();
    await guarded.stop();
    rmSync(directory, { recursive: true });
  }
});
