// One connection: what it sends, how it reads, and when it connects again. Time is simulated.
import assert from "node:assert/strict";
import { test } from "node:test";

import { World, block } from "./world.mjs";

const open = async (options, world = new World()) => {
  const tab = world.tab({ share: false, ...options });
  await world.run();
  return { world, tab, server: world.server };
};

test("requests the envelope of sorted topics with a keep-alive interval", async () => {
  const { world } = await open({ topics: ["b", "a.*"], token: "secret" });
  const [{ url, headers }] = world.requests;
  assert.equal(url.href, "https://page.example/stream?format=envelope&topics=a.*%2Cb&heartbeat=20");
  assert.deepEqual({ ...headers }, { accept: "text/event-stream", authorization: "Bearer secret" });
});

test("delivers events with topic, name and data, and is at their ids", async () => {
  const { world, tab, server } = await open();
  server.publish();
  await world.run();
  assert.deepEqual(tab.log, [{ event: { id: "1-1", topic: "a", event: "message", data: { n: 1 } }, at: "1-1" }]);
  assert.deepEqual(tab.states, [["connecting"], ["open"]]);
});

test("reads text, null, several data lines and line separators inside of strings", async () => {
  const { world, tab } = await open();
  const [connection] = world.connections;
  connection.send(
    block({ id: "1-1", data: { type: "event", id: "1-1", topic: "a", event: "message", text: "a\u2028id: 9-9\nb" } }),
    block({ id: "1-2", data: { type: "event", id: "1-2", topic: "a", event: "x", data: null } }),
    ':\nid: 1-3\ndata: {"type":"event","topic":"a","event":"x",\ndata: "data":[1]}\n\n',
    block({ event: "heartbeat", data: { clients: 1 } }),
  );
  await world.run();
  assert.deepEqual(tab.log.map(({ event, at }) => [event.data, at]), [["a\u2028id: 9-9\nb", "1-1"], [null, "1-2"], [[1], "1-3"]]);
});

test("a cut at any byte loses nothing and repeats nothing", async () => {
  const text = block({ id: "1-1", data: { type: "event", id: "1-1", topic: "a", event: "m", data: "ü" } }).length;
  for (let cut = 0; cut <= text + 60; cut++) {
    const { world, tab, server } = await open();
    server.publish();
    server.publish();
    const [connection] = world.connections;
    const bytes = new TextEncoder().encode(connection.blocks.splice(0).join(""));
    connection.controller.enqueue(bytes.slice(0, cut));
    connection.cut();
    await world.pass(2000);
    assert.deepEqual(tab.sequences, [1, 2], `cut at ${cut}`);
  }
});

for (const status of [500, 502, 503, 504, 429, 408, 425]) {
  test(`connects again after a ${status}, from its position`, async () => {
    const { world, tab, server } = await open();
    server.publish();
    await world.run();
    server.refusals.push({ status }, { status });
    [...world.connections][0].cut();
    server.publish();
    await world.pass(20_000);
    assert.deepEqual(tab.sequences, [1, 2]);
    assert.equal(world.requests.length, 4);
    assert.deepEqual(world.requests.slice(1).map(({ url }) => url.searchParams.get("last_event_id")), ["1-1", "1-1", "1-1"]);
    assert.equal(tab.state, "open");
  });
}

for (const status of [204, 400, 403, 404, 406, 414]) {
  test(`closes after a ${status}, with the server's reason`, async () => {
    const world = new World();
    world.server.refusals.push({ status, body: status === 204 ? undefined : { detail: "the reason" } });
    const { tab } = await open({}, world);
    await world.pass(600_000);
    assert.deepEqual(tab.states, [["connecting"], ["closed", status === 204 ? "status 204" : "the reason"]]);
    assert.equal(world.requests.length, 1);
    assert.equal(tab.timers.length, 0);
  });
}

test("waits for the server's retry, then twice as long after each failure, up to 30 s, and never less", async () => {
  for (const random of [0, 0.999]) {
    const { world, tab, server } = await open({}, new World(() => random));
    [...world.connections][0].send("retry: 400\n\n");
    await world.run();
    server.refusals.push(...Array.from({ length: 9 }, () => ({ status: 502 })));
    [...world.connections][0].finish();
    await world.pass(400_000);
    const waits = tab.states.filter(([state]) => state === "waiting").map(([, { retryIn }]) => retryIn);
    const least = [400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000];
    assert.deepEqual(waits, least.map((wait) => Math.round(wait * (1 + random / 2))));
    assert.equal(tab.state, "open");
  }
});

test("the first failure after a success waits for the shortest time again", async () => {
  const { world, tab, server } = await open({}, new World(() => 0));
  for (let round = 0; round < 3; round++) {
    server.refusals.push({ status: 503 });
    [...world.connections][0].cut();
    await world.pass(10_000);
  }
  const waits = tab.states.flatMap(([state, detail]) => (state === "waiting" ? [detail.retryIn] : []));
  assert.deepEqual(waits, [1000, 2000, 1000, 2000, 1000, 2000]);
});

test("never connects before Retry-After, not even when the page is shown", async () => {
  const { world, tab, server } = await open({}, new World(() => 0));
  server.refusals.push({ status: 503, headers: { "retry-after": "90" }, body: { detail: "full" } });
  [...world.connections][0].cut();
  await world.pass(1000);
  assert.deepEqual(tab.states.at(-1), ["waiting", { reason: "full", retryIn: 90_000 }]);
  await world.pass(80_000);
  tab.wake("pageshow");
  await world.run();
  assert.equal(world.requests.length, 2);
  await world.pass(10_000);
  assert.equal(tab.state, "open");
});

test("a refusal inside of a stream is a refusal: the delay grows", async () => {
  const { world, tab, server } = await open({}, new World(() => 0));
  server.open = () => [block({ retry: 700, event: "system", data: { message: "unavailable", reason: "connections", detail: "full", retry: 700 } })];
  for (const delay of [1000, 0]) {
    [...world.connections][0].finish();
    await world.pass(delay);
  }
  const waits = tab.states.filter(([state]) => state === "waiting").map(([, detail]) => detail);
  assert.deepEqual(waits[1], { reason: "full", retryIn: 1400 });
  assert.ok(!tab.states.slice(2).some(([state]) => state === "open"));
});

test("connects at once when the page is shown or the network is back", async () => {
  const { world, tab, server } = await open();
  server.refusals.push(...Array.from({ length: 4 }, () => ({ status: 502 })));
  [...world.connections][0].cut();
  await world.pass(20_000);
  assert.equal(tab.state, "waiting");
  tab.wake("visibilitychange");
  await world.run();
  assert.equal(tab.state, "open");
  const { length } = world.requests;
  tab.wake("online");
  await world.run();
  assert.equal(world.requests.length, length + 1);
  assert.equal(tab.state, "open");
});

test("a page that becomes hidden changes nothing", async () => {
  const { world, tab, server } = await open();
  server.refusals.push(...Array.from({ length: 4 }, () => ({ status: 502 })));
  [...world.connections][0].cut();
  await world.pass(20_000);
  tab.document.hidden = true;
  tab.wake("visibilitychange");
  await world.run();
  assert.equal(tab.state, "waiting");
});

test("replaces a connection without keep-alives, and keeps one with them", async () => {
  const { world, tab } = await open();
  const [connection] = world.connections;
  for (let quiet = 0; quiet < 10; quiet++) {
    await world.pass(20_000);
    connection.controller.enqueue(new TextEncoder().encode(":\n"));
  }
  await world.run();
  assert.equal(world.requests.length, 1);
  await world.pass(50_000);
  assert.equal(world.requests.length, 1);
  await world.pass(5001);
  assert.equal(world.requests.length, 2);
  assert.equal(tab.state, "open");
  assert.ok(!tab.states.some(([state]) => state === "waiting"));
});

test("replaces a request without an answer", async () => {
  const world = new World();
  const tab = world.tab({ share: false });
  await world.pass(55_001, async () => {});
  await world.run();
  assert.equal(world.requests.length, 2);
  assert.equal(tab.state, "open");
});

test("notices after sleep that the connection is dead, at the first event", async () => {
  const { world, tab, server } = await open();
  world.now += 3_600_000;
  server.publish();
  [...world.connections][0].isSilent = true;
  tab.wake("visibilitychange");
  await world.run();
  assert.deepEqual(tab.sequences, [1]);
  assert.equal(world.requests.length, 2);
});

test("keeps up a wait whose timer is late", async () => {
  const { world, tab } = await open();
  [...world.connections][0].cut();
  await world.run();
  // A hidden page: its timer does not run, but its check does.
  tab.timers = tab.timers.filter(({ repeats }) => repeats);
  await world.pass(10_000);
  assert.equal(tab.state, "open");
});

test("asks for a new token before the old one ends, and misses nothing", async () => {
  const world = new World();
  let tokens = 0;
  const { tab, server } = await open({ token: async () => `token ${++tokens}` }, world);
  const [connection] = world.connections;
  connection.send(block({ event: "system", data: { message: "token expires", expires_in: 30 } }));
  await world.run();
  assert.equal(tokens, 1);
  server.publish();
  await world.pass(23_000);
  server.publish();
  await world.run();
  assert.deepEqual(world.requests.map(({ headers }) => headers.authorization), ["Bearer token 1", "Bearer token 2"]);
  assert.deepEqual(tab.sequences, [1, 2]);
  assert.ok(!tab.states.some(([state]) => state === "waiting"));
});

test("keeps the stream if no new token is to be had before the end", async () => {
  const world = new World();
  let tokens = 0;
  const token = () => {
    if (++tokens === 2) throw Error("the service is down");
    return `token ${tokens}`;
  };
  const { tab, server } = await open({ token }, world);
  const [connection] = world.connections;
  connection.send(block({ event: "system", data: { message: "token expires", expires_in: 30 } }));
  await world.pass(23_000);
  assert.deepEqual([tokens, world.requests.length], [2, 1]);
  connection.send(block({ event: "system", data: { message: "token expired" } }));
  server.publish();
  await world.run();
  connection.finish();
  await world.run();
  assert.deepEqual(world.requests.map(({ headers }) => headers.authorization), ["Bearer token 1", "Bearer token 3"]);
  assert.deepEqual(tab.sequences, [1]);
});

test("asks for a new token after a 401, once without delay and then with growing delays", async () => {
  const world = new World(() => 0);
  world.server.tokens = ["token 4"];
  let tokens = 0;
  const { tab } = await open({ token: () => `token ${++tokens}` }, world);
  assert.equal(tokens, 2);
  assert.deepEqual(tab.states.at(-1), ["waiting", { reason: "unknown token", retryIn: 1000 }]);
  await world.pass(1000);
  assert.equal(tokens, 3);
  await world.pass(2000);
  assert.equal(tab.state, "open");
});

test("closes after a 401 without a function that could return another token", async () => {
  for (const token of [undefined, "old"]) {
    const world = new World();
    world.server.tokens = ["new"];
    const { tab } = await open({ token }, world);
    assert.deepEqual(tab.states, [["connecting"], ["closed", "unknown token"]]);
  }
});

test("waits when the function of the token fails", async () => {
  const world = new World(() => 0);
  let calls = 0;
  const token = async () => {
    if (++calls < 3) throw Error("offline");
    return "token";
  };
  const { tab } = await open({ token }, world);
  assert.deepEqual(tab.states, [["connecting"], ["waiting", { reason: "offline", retryIn: 1000 }]]);
  await world.pass(3000);
  assert.equal(tab.state, "open");
});

test("a page in place of the stream is a failure that passes", async () => {
  const { world, tab, server } = await open();
  server.refusals.push({ status: 200, body: {}, headers: { "content-type": "text/html" } });
  [...world.connections][0].cut();
  await world.pass(2000);
  assert.equal(tab.states.at(-1)[1].reason, "the response is not a stream");
  await world.pass(10_000);
  assert.equal(tab.state, "open");
});

test("closes a connection that sends what it does not understand, and connects again", async () => {
  for (const text of ["data: {\n\n", 'id: 1-9\nevent: data\ndata: {"n":1}\n\n']) {
    const { world, tab } = await open();
    const [connection] = world.connections;
    connection.send(text);
    await world.run();
    assert.equal(tab.state, "waiting");
    assert.deepEqual([world.connections.size, tab.stream.lastEventId], [0, "1-0"]);
    await world.pass(2000);
    assert.equal(tab.state, "open");
  }
});

test("a Retry-After of months does not end at once", async () => {
  const { world, tab, server } = await open();
  server.refusals.push({ status: 503, headers: { "retry-after": "9999999" } });
  [...world.connections][0].cut();
  await world.pass(2000);
  assert.equal(tab.states.at(-1)[1].retryIn, 2 ** 31 - 1);
});

test("reports the reason of a farewell", async () => {
  const { world, tab } = await open();
  const [connection] = world.connections;
  connection.send(block({ id: "1-7", event: "system", data: { message: "server restarting" } }));
  await world.run();
  connection.finish();
  await world.run();
  assert.equal(tab.states.at(-1)[1].reason, "server restarting");
  assert.equal(tab.stream.lastEventId, "1-7");
});

test("an error of a handler does not disturb the stream", async () => {
  const { world, tab, server } = await open({
    onEvent: ({ id }) => {
      if (id === "1-1") throw Error("a bug in the page");
      tab.log.push({ event: { id } });
    },
  });
  server.publish();
  server.publish();
  await world.run();
  assert.deepEqual(tab.sequences, [2]);
  assert.deepEqual(tab.errors, ["a bug in the page"]);
});

test("calls no handler after close, not even for events that have arrived", async () => {
  const { world, tab, server } = await open({
    onEvent: ({ id }) => {
      tab.log.push({ event: { id } });
      if (id === "1-2") tab.stream.close();
    },
  });
  for (let count = 0; count < 4; count++) server.publish();
  await world.run();
  assert.deepEqual(tab.sequences, [1, 2]);
  assert.equal(tab.stream.lastEventId, "1-2");
  assert.deepEqual([world.connections.size, tab.timers.length, tab.listeners.length], [0, 0, 0]);
});

test("a page without Web Locks has a connection of its own", async () => {
  const world = new World();
  const tabs = [1, 2].map(() => world.tab({ share: true }, { isInsecure: true }));
  await world.run();
  world.server.publish();
  await world.run();
  assert.equal(world.connections.size, 2);
  assert.deepEqual(tabs.map((tab) => tab.sequences), [[1], [1]]);
});
