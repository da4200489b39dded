// The console in Chromium on a server with credentials, without events, and behind a path prefix.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";

import { Consoles, live, rows, shows } from "./console.mjs";
import { PrefixProxy } from "./prefix_proxy.mjs";
import { Server, program } from "./server.mjs";

let consoles, server, directory;
before(async () => (consoles = await Consoles.start()));
after(() => consoles.close());
afterEach(async () => {
  await server.stop();
  if (directory) rmSync(directory, { recursive: true });
  directory = undefined;
  await consoles.check();
});

/** Starts a server with these keys, and returns them. */
async function startWithKeys(rightsOf) {
  directory = mkdtempSync(join(tmpdir(), "fanline-console-"));
  const config = join(directory, "fanline.toml");
  const made = Object.entries(rightsOf).map(([name, rights]) => [name, spawnSync(program, ["key", name, ...rights], { encoding: "utf8" })]);
  for (const [name, { status, stderr }] of made) assert.equal(status, 0, `${name}: ${stderr}`);
  writeFileSync(config, made.map(([, { stdout }]) => stdout).join("\n"));
  server = await Server.start(["--config", config, "--retry", "200ms"]);
  return Object.fromEntries(made.map(([name, { stderr }]) => [name, stderr.trim()]));
}

async function enterKey(page, key) {
  await page.locator("#secret").fill(key);
  await page.getByRole("button", { name: "Use it" }).click();
}

test("what needs rights asks for a key, and keeps it for the tab", async () => {
  const keys = await startWithKeys({ admin: ["--subscribe", "**", "--publish", "**", "--admin"] });
  const page = await consoles.open(`${server.url}/demo`);
  await shows(page, "explanation", /[Kk]ey or token/);
  await shows(page, "overview-note", /[Kk]ey or token/);
  await page.locator("#overview-note").getByRole("button", { name: "Enter a key or token" }).click();
  await enterKey(page, keys.admin);
  await live(page);
  await shows(page, "published", /^\d/);
  assert.equal(await page.locator("#credentials").textContent(), "Access: with key");
  await page.reload();
  await live(page);
  assert.equal(await page.evaluate(() => localStorage.length + document.cookie.length), 0);
  // Other pages of the origin see the names of locks.
  const locks = await page.evaluate(async () => JSON.stringify(await navigator.locks.query()));
  assert.match(locks, /fanline/);
  assert.ok(!locks.includes(keys.admin), locks);
  const other = await consoles.open(`${server.url}/demo`);
  await shows(other, "explanation", /[Kk]ey or token/);
  await page.getByRole("button", { name: /^Access/ }).click();
  await page.getByRole("button", { name: "Forget it" }).click();
  await shows(page, "explanation", /[Kk]ey or token/);
});

test("publishing and disconnecting without the right explain what is missing", async () => {
  const keys = await startWithKeys({
    reader: ["--subscribe", "**"],
    admin: ["--subscribe", "**", "--publish", "**", "--admin"],
  });
  const page = await consoles.openLive(`${server.url}/demo?access_token=${keys.reader}#events`);
  assert.ok(!page.url().includes(keys.reader), "the token leaves the address");
  await page.locator("#publish-topic").fill("a");
  await page.getByRole("button", { name: "Publish", exact: true }).click();
  await page.locator("#publish-done").getByRole("button", { name: "Enter a key or token" }).click();
  await enterKey(page, keys.admin);
  await page.getByRole("button", { name: "Publish", exact: true }).click();
  await shows(page, "publish-done", /Published/);
  await page.locator("nav a", { hasText: "Subscribers" }).click();
  await page.locator("#subscribers-table tbody tr", { hasText: "console" }).first().waitFor();
});

test("a server without events says how to publish the first one, with a command that works", async () => {
  server = await Server.start();
  const page = await consoles.openLive(`${server.url}/demo`);
  const panel = page.locator("#first-event");
  await panel.waitFor();
  const command = await page.locator("#first-command").textContent();
  assert.match(execFileSync("bash", ["-c", `${command} --silent --show-error`], { encoding: "utf8" }), /"published":1/);
  await panel.waitFor({ state: "hidden" });
  await page.locator("#topics tbody tr", { hasText: "hello" }).waitFor();
  await page.locator("nav a", { hasText: "Events" }).click();
  await rows(page, '{"text":"world"}').waitFor();
});

test("the server's pages work under a path prefix", async () => {
  server = await Server.start();
  const proxy = await PrefixProxy.before(server.url, "/tools/fanline");
  try {
    const page = await consoles.open(`${proxy.url}/`);
    await page.getByRole("link", { name: "Console" }).click();
    await live(page);
    await shows(page, "streams", /^1$/);
    const command = await page.locator("#first-command").textContent();
    assert.ok(command.includes(`${proxy.url}/publish`), command);
    await page.locator("nav a", { hasText: "Events" }).click();
    await page.locator("#publish-topic").fill("below");
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await rows(page, "below").waitFor();
    await page.getByRole("link", { name: "API" }).click();
    await page.locator(".opblock-summary-path", { hasText: "/publish/{topic}" }).waitFor();
    await page.getByRole("link", { name: "Console" }).click();
    await live(page);
    assert.deepEqual(proxy.refused, []);
  } finally {
    await consoles.closePages();
    proxy.close();
  }
});
