// The console in Chromium: what it shows and does on a server without credentials.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { Consoles, live, rows, shows, tabTo } from "./console.mjs";
import { Server } from "./server.mjs";

let consoles, server;
before(async () => (consoles = await Consoles.start()));
after(() => consoles.close());
beforeEach(async () => (server = await Server.start(["--retry", "200ms", "--history", "20"])));
afterEach(async () => {
  await server.stop();
  await consoles.check();
});

const publish = (event) => server.send(event);
const open = (view = "", options) => consoles.openLive(`${server.url}/demo${view}`, options);
const chartOf = (page, title) => page.locator("figure", { has: page.getByText(title, { exact: true }) });
/** The field of the topics that are followed. Headings have the same text at first. */
const followed = (page) => page.getByRole("combobox", { name: "Topics", exact: true });
const legend = (page, title) => chartOf(page, title).locator("figcaption em");

test("the overview shows rates, retained events and subscribers", async () => {
  const page = await open();
  await Promise.all(Array.from({ length: 60 }, (_, n) => publish({ topic: `orders.${n % 2}`, data: { n } })));
  // The rate is that of the last two seconds.
  let isShown = false;
  const rate = shows(page, "published", /^[1-9]/).finally(() => (isShown = true));
  while (!isShown) await publish([0, 1].map((n) => ({ topic: `orders.${n}`, data: { n } })));
  await rate;
  await shows(page, "retained", /^40$/);
  await shows(page, "streams", /^1$/);
  const row = page.locator("#topics tbody tr", { hasText: "orders.1" });
  await row.filter({ hasText: /orders\.1.*20/ }).waitFor();
  await page.locator("#topics-filter").fill("*.0");
  await page.keyboard.press("Enter");
  await row.waitFor({ state: "detached" });
  await page.locator("#topics-filter").fill("a b");
  await page.keyboard.press("Enter");
  await shows(page, "topics-note", /"a b" is not a topic or pattern/);
});

test("topics sort by the column that is chosen", async () => {
  for (const [topic, count] of [["a", 1], ["b", 3], ["c", 2]]) {
    for (let n = 0; n < count; n++) await publish({ topic, data: n });
  }
  const page = await open();
  await page.locator("#topics tbody tr").nth(2).waitFor();
  const names = () => page.locator("#topics tbody th").allTextContents();
  assert.deepEqual(await names(), ["a", "b", "c"]);
  await page.getByRole("button", { name: "Retained" }).click();
  assert.deepEqual(await names(), ["b", "c", "a"]);
});

test("charts update, and show the value under the pointer", async () => {
  const page = await open();
  const chart = chartOf(page, "Subscribers");
  await legend(page, "Subscribers").filter({ hasText: "1" }).waitFor();
  const picture = () => chart.locator("canvas").evaluate((canvas) => canvas.toDataURL());
  const before = await picture();
  const second = await open("", { beside: page });
  await second.goto(`${server.url}/stream?client_name=second`, { waitUntil: "commit" });
  await legend(page, "Subscribers").filter({ hasText: "2" }).waitFor();
  assert.notEqual(await picture(), before);

  const plot = chart.locator(".u-over");
  const { width } = await plot.boundingBox();
  assert.equal(await chart.locator("time").textContent(), "");
  await plot.hover({ position: { x: width - 20, y: 40 } });
  await chart.locator("time", { hasText: /\d\d:\d\d:\d\d/ }).waitFor();
  // All charts show the same moment.
  assert.match(await chartOf(page, "Memory, this server").locator("time").textContent(), /\d\d:\d\d:\d\d/);
});

test("charts show the chosen time range, and step with the arrow keys", async () => {
  const page = await open();
  const chart = chartOf(page, "Memory, this server");
  await legend(page, "Memory, this server").filter({ hasText: /\d/ }).waitFor();
  await page.locator("#range label", { hasText: "1 min" }).click();
  assert.equal(await page.locator("#range :checked").inputValue(), "60");
  await chart.locator(".plot").focus();
  await page.keyboard.press("ArrowLeft");
  await chart.locator("time", { hasText: /\d\d:\d\d:\d\d/ }).waitFor();
  assert.match(await chart.locator(".plot").getAttribute("aria-label"), /Memory.* \d\d:\d\d:\d\d: .*B\./);
  await page.keyboard.press("Tab");
  await chart.locator("time", { hasText: /^$/ }).waitFor({ state: "attached" });
});

test("the inspector shows events of any name, as text", async () => {
  await publish({ topic: "a", data: { n: 1 } });
  const page = await open("#events");
  await publish({ topic: "a", event: "created", data: { markup: "<img src=x onerror=alert(1)>" } });
  await publish({ topic: "b", text: "<b>bold</b> text" });
  await rows(page).nth(2).waitFor();
  assert.match(await rows(page).nth(2).textContent(), /a\{"n":1\}/);
  assert.match(await rows(page).nth(1).textContent(), /acreated\{"markup":"<img src=x onerror=alert\(1\)>"\}/);
  assert.match(await rows(page).nth(0).textContent(), /b<b>bold<\/b> text/);
  assert.equal(await page.locator("#events img, #events b").count(), 0);
});

test("JSON opens and closes by level", async () => {
  const page = await open("#events");
  await publish({ topic: "a", data: { outer: { inner: { deep: [1, 2, { last: null }] } }, flag: true } });
  await rows(page, "outer").locator("summary").first().click();
  const tree = rows(page, "outer").locator(".whole");
  await tree.getByText("inner", { exact: true }).waitFor();
  assert.equal(await tree.getByText("deep", { exact: true }).isVisible(), false);
  await tree.locator("summary", { hasText: "inner" }).click();
  await tree.getByText("deep", { exact: true }).waitFor();
  await tree.locator("summary", { hasText: "outer" }).click();
  await tree.getByText("deep", { exact: true }).waitFor({ state: "hidden" });
  assert.match(await tree.textContent(), /flag: true/);
});

test("pause holds new events back until it is resumed", async () => {
  await publish({ topic: "a", data: "first" });
  const page = await open("#events");
  // The page has read the recent events.
  await rows(page, "first").waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await publish({ topic: "a", data: "second" });
  await shows(page, "events-note", /Paused\. 1 new\./);
  assert.equal(await rows(page, "second").count(), 0);
  await page.getByRole("button", { name: "Resume" }).click();
  await rows(page, "second").waitFor();
  // Opening an event pauses, so that it does not move away.
  await rows(page, "first").locator("summary").first().click();
  await page.getByRole("button", { name: "Resume" }).waitFor();
});

/** The requests for the recent events that a list begins with. */
const RECENT = /client_name=console\+history/;

test("an event that is recent when the stream delivers it is listed once", async () => {
  const page = await consoles.open(`${server.url}/health/live`);
  const first = await publish({ topic: "a", data: "first" });
  const second = first.replace(/\d+$/, (number) => Number(number) + 1);
  const event = (id, data) => ({ type: "event", id, topic: "a", event: "message", data });
  // The history has the second event earlier than the stream.
  const body = [`event: system\ndata: {"message":"connected","replayed":2}\n\n`, ...[[first, "first"], [second, "second"]].map(([id, data]) =>
    `id: ${id}\ndata: ${JSON.stringify(event(id, data))}\n\n`)].join("");
  await page.route(RECENT, (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await page.goto(`${server.url}/demo#events`);
  await rows(page, "second").waitFor();
  assert.equal(await publish({ topic: "a", data: "second" }), second);
  await publish({ topic: "a", data: "third" });
  await rows(page, "third").waitFor();
  assert.equal(await rows(page).count(), 3);
});

test("an event stays open when older ones come below it", async () => {
  await publish({ topic: "a", data: "older" });
  const page = await consoles.open(`${server.url}/health/live`);
  let answer;
  const opened = new Promise((resolve) => (answer = resolve));
  await page.route(RECENT, (route) => opened.then(() => route.continue()));
  await page.goto(`${server.url}/demo#events`);
  await live(page);
  await publish({ topic: "a", data: "newer" });
  await rows(page, "newer").locator("summary").click();
  await rows(page, "newer").locator(".whole").waitFor();
  answer();
  await rows(page, "older").waitFor();
  assert.ok(await rows(page, "newer").locator(".whole").isVisible());
  assert.match(await rows(page).last().textContent(), /older/);
});

test("the text filter applies to events that came before and after it", async () => {
  const page = await open("#events");
  await publish({ topic: "a", data: "apple" });
  await publish({ topic: "a", data: "pear" });
  await rows(page).nth(1).waitFor();
  await page.locator("#contains").fill("APPLE");
  await rows(page, "pear").waitFor({ state: "detached" });
  await publish({ topic: "a", data: "pear tree" });
  await publish({ topic: "a", data: "apple tree" });
  await rows(page, "apple tree").waitFor();
  assert.equal(await rows(page).count(), 2);
  await page.locator("#contains").fill("");
  await rows(page, "pear tree").waitFor();
});

test("only the topics that are followed come from the server", async () => {
  const page = await open("#events/orders.1");
  await publish({ topic: "orders.2", data: "other" });
  await publish({ topic: "orders.1", data: "own" });
  await rows(page, "own").waitFor();
  assert.equal(await rows(page).count(), 1);
  await followed(page).fill("orders.*, prices");
  await page.getByRole("button", { name: "Follow" }).click();
  // The newest retained events of the new topics.
  await rows(page, "other").waitFor();
  await publish({ topic: "prices", data: "price" });
  await rows(page, "price").waitFor();
});

test("a topic that cannot be followed is explained", async () => {
  const page = await open("#events");
  await followed(page).fill("a b");
  await page.getByRole("button", { name: "Follow" }).click();
  await shows(page, "explanation", /"a b" is not a topic or pattern/);
  await followed(page).fill("");
  await page.getByRole("button", { name: "Follow" }).click();
  await live(page);
  assert.equal(await page.locator("#explanation").textContent(), "");
});

test("history begins after a position and ends with what is retained", async () => {
  const ids = [];
  for (let n = 1; n <= 30; n++) ids.push(await publish({ topic: "a", data: `number ${n} of 30` }));
  const page = await open("#events/a");
  await page.getByLabel("History from").fill(ids[26]);
  await page.keyboard.press("Enter");
  await shows(page, "events-note", /3 events after \d+-27, oldest first/);
  assert.deepEqual(await rows(page).locator("code").allTextContents(), ["number 28 of 30", "number 29 of 30", "number 30 of 30"]);
  await page.locator("#contains").fill("29 of");
  await rows(page, "28 of").waitFor({ state: "detached" });
  assert.equal(await rows(page).count(), 1);
  await page.locator("#contains").fill("");
  // 20 events are retained: what is missing is said.
  await page.getByLabel("History from").fill(ids[0]);
  await page.keyboard.press("Enter");
  await shows(page, "events-note", /20 events after \d+-1,/);
  assert.match(await rows(page).first().textContent(), /9 events missing here.*no longer retains/);
  await publish({ topic: "a", data: "meanwhile" });
  await page.getByRole("button", { name: "Next 100" }).click();
  await rows(page, "meanwhile").waitFor();
  assert.equal(await rows(page).count(), 1);
  await page.getByRole("button", { name: "Back to live" }).click();
  await shows(page, "events-note", /Live/);
  await rows(page, "number 12 of 30").waitFor();
  // Other topics are shown live.
  await page.getByLabel("History from").fill("earliest");
  await page.keyboard.press("Enter");
  await shows(page, "events-note", /20 events from the earliest on/);
  await followed(page).fill("b");
  await page.getByRole("button", { name: "Follow" }).click();
  await shows(page, "events-note", /No event yet/);
});

test("the form publishes JSON and text, and explains what is wrong", async () => {
  const page = await open("#events");
  await page.getByLabel("Topic", { exact: true }).fill("made.here");
  await page.getByLabel(/^Event name/).fill("greeting");
  await page.getByLabel("Data").fill('{"big": 12345678901234567890}');
  await page.getByRole("button", { name: "Publish" }).click();
  await shows(page, "publish-done", /Published as \d+-1\./);
  await rows(page, "made.here").filter({ hasText: "greeting" }).waitFor();
  await page.getByLabel("Data").fill("{oops}");
  await page.keyboard.press("Control+Enter");
  await shows(page, "publish-done", /not JSON/);
  await page.getByText("Text", { exact: true }).click();
  await page.getByRole("button", { name: "Publish" }).click();
  await rows(page, "{oops}").waitFor();
  await page.getByLabel("Topic", { exact: true }).fill("a b");
  await page.getByRole("button", { name: "Publish" }).click();
  await shows(page, "publish-done", /topics cannot contain spaces/);
});

/** A subscriber that reads nothing after its first bytes. */
async function stalled(path) {
  const socket = connect(new URL(server.url).port, "127.0.0.1");
  socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  await once(socket, "data");
  return socket.pause();
}

test("subscribers are listed with their lag, and can be disconnected", async () => {
  const page = await open("#subscribers");
  const socket = await stalled("/stream?client_name=slow+reader&topics=big&on_lag=skip");
  const row = page.locator("#subscribers-table tbody tr", { hasText: "slow reader" });
  await row.waitFor();
  for (let n = 0; n < 200; n++) await publish({ topic: "big", data: "x".repeat(60_000) });
  await row.locator("td.warn", { hasText: /^[1-9]/ }).waitFor();
  await row.getByRole("button", { name: "Disconnect slow reader" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await row.count(), 1);
  await row.getByRole("button", { name: "Disconnect slow reader" }).click();
  const ended = once(socket, "close");
  await page.locator("#disconnect-dialog").getByRole("button", { name: "Disconnect" }).click();
  await shows(page, "subscribers-done", /^Disconnected/);
  await row.waitFor({ state: "detached" });
  socket.resume();
  await ended;
});

test("the console reconnects after a restart, and shows the gap", async () => {
  await publish({ topic: "a", data: "before" });
  const page = await open("#events");
  await rows(page, "before").waitFor();
  await server.stop();
  await page.locator("#state[data-state=waiting]").waitFor();
  server = await server.restarted();
  await live(page);
  await page.locator("#events .gap", { hasText: /the server started anew/ }).waitFor();
  await publish({ topic: "a", data: "after" });
  await rows(page, "after").waitFor();
});

test("everything works with the keyboard alone", async () => {
  const page = await open();
  await tabTo(page, "nav a[href='#events']");
  await page.keyboard.press("Enter");
  await tabTo(page, "#publish-topic");
  await page.keyboard.type("typed");
  await tabTo(page, "#publish-form [type=submit]");
  await page.keyboard.press("Enter");
  await rows(page, "typed").waitFor();
  await page.locator("#clear").focus();
  await tabTo(page, "#events > li summary");
  await page.keyboard.press("Enter");
  await rows(page, "typed").locator(".whole").waitFor();
  await tabTo(page, ".whole .json summary");
  await page.keyboard.press("Enter");
  await page.locator("body").press("Home");
  await page.locator(".skip").focus();
  await tabTo(page, "nav a[href='#subscribers']");
  await page.keyboard.press("Enter");
  // The page's own stream stays in the table.
  await tabTo(page, "#subscribers-table tbody button[aria-label='Disconnect console']");
  await page.keyboard.press("Enter");
  await page.locator("#disconnect-dialog[open]").waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#disconnect-dialog[open]").waitFor({ state: "detached" });
  // A refresh of the table keeps the focus.
  await page.waitForResponse((response) => response.url().includes("/clients?"));
  await page.waitForResponse((response) => response.url().includes("/clients?"));
  assert.ok(await page.evaluate(() => document.activeElement.matches("#subscribers-table tbody button")));
});

test("every control has an accessible name", async () => {
  const page = await open();
  const nameless = await page.evaluate(() => [...document.querySelectorAll("a, button, input, textarea, summary")].filter((control) =>
    !(control.textContent.trim() || control.labels?.length || control.ariaLabel)).map((control) => control.outerHTML));
  assert.deepEqual(nameless, []);
});
