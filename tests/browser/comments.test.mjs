// examples/comments in windows of Chromium: each browser session is a person of its own.
import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";

import { Consoles, live } from "./console.mjs";
import { Network } from "./network.mjs";
import { Program } from "./program.mjs";

let windows, directory, server;
before(async () => {
  windows = await Consoles.start();
  directory = await mkdtemp(join(tmpdir(), "fanline-comments-"));
  server = await Program.start("comments", "127.0.0.1:0", join(directory, "comments.db"));
});
after(async () => {
  await windows.close();
  await server.stop();
  await rm(directory, { recursive: true });
});
afterEach(() => windows.check());

let discussions = 0;
/** Opens windows of a new discussion. */
const open = (...people) => {
  const url = `${server.url}/?discussion=test-${++discussions}`;
  return Promise.all(people.map(async (name) => {
    const page = await windows.openLive(url);
    await page.getByLabel("Your name").fill(name);
    return page;
  }));
};
const write = async (page, text) => {
  await page.getByLabel("Comment", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Send" }).click();
};
/** Waits until the page has the answer for the comment that was sent: it has emptied the field, and the focus is there. */
const answered = (page) => page.waitForFunction(() => document.querySelector("#compose [name=text]").value === "");
/** Writes a comment that the server has stored when this returns. Requests that overlap may be stored in another order. */
const store = async (page, text) => {
  await write(page, text);
  await answered(page);
};
const comment = (page, text) => page.locator("#comments > li", { hasText: text });
const edit = async (page, text, changed) => {
  const item = comment(page, text);
  await item.getByRole("button", { name: /^Edit/ }).click();
  await item.getByRole("textbox").fill(changed);
  await item.getByRole("button", { name: "Save" }).click();
  // The answer closes the form. It may come after the event.
  await page.locator("#comments form:not([hidden])").waitFor({ state: "detached" });
};
const remove = (page, text) => comment(page, text).getByRole("button", { name: /^Delete/ }).click();
/** Waits until the page shows these comments, in this order. */
const shows = (page, ...texts) =>
  page.waitForFunction(
    (expected) => JSON.stringify([...document.querySelectorAll("#comments .text")].map((text) => text.textContent)) === expected,
    JSON.stringify(texts),
  );
const deferred = () => {
  let resolve;
  const promise = new Promise((settle) => (resolve = settle));
  return { promise, resolve };
};
/** Types a letter again and again until its hint is shown: a hint ends after 4 s, even if a browser stood still meanwhile. */
const type = async (page, letter, hint) => {
  for (let end = Date.now() + 60_000; ; ) {
    // What the server has published by its answer comes before the next comment.
    const answer = page.waitForResponse("**/typing");
    await page.getByLabel("Comment", { exact: true }).press(letter);
    await (await answer).finished();
    const isShown = await hint().waitFor({ timeout: 5000 }).then(() => true, () => false);
    if (isShown) return;
    assert.ok(Date.now() < end, "no hint that a person is typing");
  }
};
/** Publishes through the API, as a third person. */
const api = async (page, method, path, body) => {
  const name = new URL(page.url()).searchParams.get("discussion");
  const headers = { "content-type": "application/json" };
  return fetch(`${server.url}/discussions/${name}/${path}`, { method, headers, body: JSON.stringify(body) });
};

test("two windows show what either writes, edits and deletes", async () => {
  const [anna, ben] = await open("Anna", "Ben");
  await store(anna, "first");
  await shows(ben, "first");
  await store(ben, "second");
  await shows(anna, "first", "second");
  await edit(ben, "first", "first, corrected");
  await shows(anna, "first, corrected", "second");
  await comment(anna, "first").getByText("edited").waitFor();
  await remove(anna, "second");
  await shows(ben, "first, corrected");
});

test("the others see that a person is typing, until the comment comes", async () => {
  const [anna, ben] = await open("Anna", "Ben");
  await type(anna, "H", () => ben.getByText("Anna is typing"));
  assert.equal(await anna.locator("#typing").textContent(), "");
  const text = await anna.getByLabel("Comment", { exact: true }).inputValue();
  await anna.getByRole("button", { name: "Send" }).click();
  await shows(ben, text);
  assert.equal(await ben.locator("#typing").textContent(), "");
  await type(ben, "H", () => anna.getByText("Ben is typing"));
  await anna.waitForFunction(() => document.getElementById("typing").textContent === "");
});

test("a window that was offline catches up", async () => {
  const [anna] = await open("Anna");
  const network = await Network.before(server.url);
  const ben = await windows.openLive(network.url + new URL(anna.url()).search);
  await ben.getByLabel("Your name").fill("Ben");
  try {
    for (const text of ["one", "two", "three"]) await store(anna, text);
    await shows(ben, "one", "two", "three");
    await network.down(ben);
    await ben.locator("#state[data-state=offline]").waitFor();
    await edit(anna, "one", "one, edited");
    await remove(anna, "two");
    await store(anna, "four");
    await shows(anna, "one, edited", "three", "four");
    // What Ben writes meanwhile is not lost.
    await write(ben, "from a train");
    await ben.getByText("Not saved").waitFor();
    await shows(ben, "one", "two", "three");
    await network.up(ben);
    await shows(ben, "one, edited", "three", "four");
    await live(ben);
    await ben.getByRole("button", { name: "Send" }).click();
    await shows(anna, "one, edited", "three", "four", "from a train");
    await shows(ben, "one, edited", "three", "four", "from a train");
    assert.equal(await ben.locator("#error").textContent(), "");
  } finally {
    network.close();
  }
});

test("a change between the list and the stream is shown", async () => {
  const [anna] = await open("Anna");
  await store(anna, "old");
  const ben = await windows.open(`${server.url}/style.css`);
  const written = deferred();
  await ben.route("**/live/stream?*", async (route) => {
    await written.promise;
    await route.continue();
  });
  await ben.goto(anna.url());
  await shows(ben, "old");
  await store(anna, "new");
  await shows(anna, "old", "new");
  written.resolve();
  await shows(ben, "old", "new");
});

test("what is written while a comment is sent stays", async () => {
  const [anna] = await open("Anna");
  const answered = deferred();
  await anna.route("**/comments", async (route) => {
    const response = await route.fetch();
    await answered.promise;
    await route.fulfill({ response });
  });
  await write(anna, "first");
  await shows(anna, "first");
  const entered = anna.getByLabel("Comment", { exact: true });
  await entered.fill("second");
  const response = anna.waitForResponse("**/comments");
  answered.resolve();
  await (await response).finished();
  // The page handles the response before it handles this.
  await anna.evaluate(() => new Promise((resolve) => setTimeout(resolve)));
  assert.equal(await entered.inputValue(), "second");
  await anna.getByRole("button", { name: "Send" }).click();
  await shows(anna, "first", "second");
});

test("an event whose comment could not be fetched is not lost", async () => {
  const [anna, ben] = await open("Anna", "Ben");
  let failures = 0;
  await ben.route("**/comments/*", (route) => (failures++ < 2 ? route.abort() : route.continue()));
  await store(anna, "hello");
  await shows(ben, "hello");
  assert.equal(failures, 3);
});

test("no older answer replaces a newer one", async () => {
  const [anna, ben] = await open("Anna", "Ben");
  await store(anna, "version 0");
  await shows(ben, "version 0");
  // The first answer is late: by then, there is a newer text.
  let requests = 0;
  const [answered, late] = [deferred(), deferred()];
  await ben.route("**/comments/*", async (route) => {
    const response = await route.fetch();
    if (requests++ === 0) {
      answered.resolve();
      await late.promise;
    }
    await route.fulfill({ response });
  });
  await edit(anna, "version 0", "version 1");
  await answered.promise;
  await edit(anna, "version 1", "version 2");
  await shows(anna, "version 2");
  late.resolve();
  await store(anna, "the end");
  await shows(ben, "version 2", "the end");
});

test("windows survive a restart of the server, and load what they missed before it", async () => {
  const [anna] = await open("Anna");
  await store(anna, "before");
  const network = await Network.before(server.url);
  const ben = await windows.openLive(network.url + new URL(anna.url()).search);
  try {
    await shows(ben, "before");
    await network.down(ben);
    await store(anna, "missed");
    await shows(anna, "before", "missed");
    await server.stop();
    server = await server.restarted();
    await network.up(ben);
    network.reset();
    // The new server has no events of the old one: the window gets a gap.
    await shows(ben, "before", "missed");
    await live(anna);
    await store(anna, "after");
    await shows(ben, "before", "missed", "after");
  } finally {
    network.close();
  }
});

test("a tab that opens later shows everything, and shares the connection", async () => {
  const [anna] = await open("Anna");
  await store(anna, "early");
  await shows(anna, "early");
  const second = await windows.openLive(anna.url(), { beside: anna });
  await shows(second, "early");
  assert.equal(await second.getByLabel("Your name").inputValue(), "Anna");
  await store(second, "late");
  await shows(anna, "early", "late");
});

test("comments are text, and bad ones are refused with the reason", async () => {
  const [anna, ben] = await open("Anna", "<b>Ben</b>");
  const hostile = '<img src=x onerror="document.title = 1"> & "quotes"\nsecond line';
  await store(ben, hostile);
  await shows(anna, hostile);
  assert.equal(await anna.locator("#comments .author").textContent(), "<b>Ben</b>");
  assert.equal(await anna.title(), "Comments");
  for (const [body, reason] of [
    [{ author: "Cleo", text: " \n" }, "the comment is empty"],
    [{ author: "", text: "x" }, "the name is empty"],
    [{ author: "Cleo", text: "x".repeat(2001) }, "the comment has 2001 characters, at most 2000 are allowed"],
  ]) {
    const answer = await api(anna, "POST", "comments", body);
    assert.deepEqual([answer.status, await answer.text()], [422, reason]);
  }
  assert.equal((await api(anna, "PUT", "comments/999999", { text: "x" })).status, 404);
  assert.equal((await fetch(`${server.url}/discussions/a%20b/typing`, { method: "POST", headers: { "content-type": "application/json" }, body: '{"author":"a","page":"1"}' })).status, 422);
});

test("a person can do everything with the keyboard, on a phone without horizontal scrolling", async () => {
  const page = await windows.openLive(`${server.url}/?discussion=keyboard`, { viewport: { width: 390, height: 800 } });
  await page.getByLabel("Your name").focus();
  await page.keyboard.type("Anna");
  await page.keyboard.press("Tab");
  await page.keyboard.type("typed");
  await page.keyboard.press("Control+Enter");
  await shows(page, "typed");
  await answered(page);
  await comment(page, "typed").getByRole("button", { name: "Edit the comment of Anna" }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type(", changed");
  await page.keyboard.press("Control+Enter");
  await shows(page, "typed, changed");
  await page.waitForFunction(() => document.activeElement.matches(".change"));
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await shows(page);
  assert.ok(await page.evaluate(() => document.activeElement.name === "text"));
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
});

test("fewer than 30 lines of the example concern fanline", async () => {
  const folder = new URL("../../examples/comments/", import.meta.url);
  const files = (await readdir(folder)).filter((name) => /\.(rs|js|html)$/.test(name));
  const lines = (await Promise.all(files.map((name) => readFile(new URL(name, folder), "utf8")))).flatMap((text) => text.split("\n"));
  const code = lines.map((line) => line.trim()).filter((line) => line && !/^(\/\/|\/\*|\*)/.test(line));
  // What is imported from the crate and from fanline.js, and what is made of it.
  const concerns = code.filter((line) => /fanline|\bhub\b|Hub|Server|Topic|topic|Event::|Payload|publish|position|connect\(|lastEventId|onEvent|onGap|onState|stream/.test(line));
  assert.ok(concerns.length > 10 && concerns.length < 30, `${concerns.length} lines:\n${concerns.join("\n")}`);
});
