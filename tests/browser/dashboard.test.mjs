// examples/dashboard and examples/axum in windows of Chromium.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { Consoles } from "./console.mjs";
import { Network } from "./network.mjs";
import { Program } from "./program.mjs";

let windows;
before(async () => (windows = await Consoles.start()));
after(() => windows.close());
afterEach(() => windows.check());

/** The samples that a dashboard's chart shows. */
const samples = (page) => page.locator("#rate-chart").evaluate((path) => (path.getAttribute("d") ?? "").split("L").length - 1);
const atLeast = (page, count) => page.waitForFunction((count) => (document.getElementById("rate-chart").getAttribute("d") ?? "").split("L").length > count, count);

test("dashboards show the work of the program, and its history to those that come later or were offline", async () => {
  const program = await Program.start("dashboard");
  const network = await Network.before(program.url);
  try {
    const first = await windows.open(network.url);
    await first.getByText("live", { exact: true }).waitFor();
    await atLeast(first, 1);
    const second = await windows.open(program.url);
    // A page shows each rate for a second.
    for (const page of [first, second]) {
      await page.evaluate(() => {
        const rate = document.getElementById("rate");
        window.rates = [];
        new MutationObserver(() => window.rates.push(parseInt(rate.textContent))).observe(rate, { childList: true });
      });
    }
    await second.getByRole("button", { name: "Add 200 jobs" }).click();
    for (const page of [first, second]) await page.waitForFunction(() => window.rates.some((rate) => rate > 0));
    await atLeast(second, 1);
    const begin = await samples(second);
    await network.down(first);
    await atLeast(second, begin + 2);
    const missed = await samples(second);
    await network.up(first);
    network.reset();
    await atLeast(first, missed);
    assert.ok(!(await first.locator("#error").textContent()));
  } finally {
    network.close();
    await program.stop();
  }
});

test("a dashboard says why no jobs were added", async () => {
  const program = await Program.start("dashboard");
  try {
    const page = await windows.open(program.url);
    assert.equal((await fetch(`${program.url}/jobs/10001`, { method: "POST" })).status, 503);
    await page.route("**/jobs/*", (route) => route.continue({ url: `${program.url}/jobs/10001` }));
    await page.getByRole("button", { name: "Add 200 jobs" }).click();
    await page.getByText("No jobs were added: too many jobs are waiting").waitFor();
  } finally {
    await program.stop();
  }
});

test("the minimal application greets in every window", async () => {
  const program = await Program.start("axum");
  try {
    const [first, second] = [await windows.open(program.url), await windows.open(program.url)];
    await first.getByLabel("Name").fill("Anna & <Ben>");
    await first.getByRole("button", { name: "Greet" }).click();
    for (const page of [first, second]) await page.getByText("Hello, Anna & <Ben>!").waitFor();
    const later = await windows.open(program.url);
    await later.getByText("Hello, Anna & <Ben>!").waitFor();
  } finally {
    await program.stop();
  }
});
