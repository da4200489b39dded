// The tabs of one browser share a stream: each gets every event once, whatever the order of locks, messages and ends of tabs.
// Each interleaving that needs care has a test. tabs.random.test.mjs tries random ones.
import assert from "node:assert/strict";
import { test } from "node:test";

import { World, settle } from "./world.mjs";

const open = async (count, world = new World()) => {
  const tabs = [];
  for (let index = 0; index < count; index++) {
    tabs.push(world.tab());
    await world.run();
  }
  return { world, tabs, server: world.server };
};

const publish = async (world, count = 1, topic = "a") => {
  for (let index = 0; index < count; index++) world.server.publish(topic);
  await world.run();
};

/** Publishes an event that the leader reads and posts. No other tab has its message yet. */
const publishToLeader = async (world) => {
  world.server.publish();
  await settle();
  [...world.connections][0].deliver();
  await settle();
};

const cut = (world) => [...world.connections][0].cut();

const upTo = (last, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

test("seven tabs have one connection, and the same events and states", async () => {
  const { world, tabs } = await open(7);
  await publish(world, 5);
  assert.equal(world.connections.size, 1);
  for (const tab of tabs) {
    assert.deepEqual(tab.sequences, upTo(5));
    assert.deepEqual(tab.states, [["connecting"], ["open"]]);
    assert.equal(tab.stream.lastEventId, "1-5");
  }
});

test("a tab that joins gets every event after the leader's position", async () => {
  const { world, tabs } = await open(1);
  await publish(world, 3);
  tabs.push(world.tab());
  // Published while the tab asks for the position.
  await publish(world, 2);
  assert.equal(world.requests.length, 1);
  assert.deepEqual(tabs.map((tab) => tab.sequences), [upTo(5), [4, 5]]);
});

test("all tabs wait and recover together", async () => {
  const { world, tabs, server } = await open(3);
  server.refusals.push({ status: 503, body: { detail: "full" } });
  cut(world);
  await world.pass(2000);
  for (const tab of tabs) assert.equal(tab.states.at(-1)[1].reason, "full");
  tabs.push(world.tab());
  await world.run();
  assert.equal(tabs[3].states.at(-1)[1].reason, "full", "a tab that joins learns the state");
  await publish(world, 2);
  await world.pass(10_000);
  for (const tab of tabs) assert.deepEqual([tab.state, tab.sequences], ["open", upTo(2)]);
});

test("when the leader closes, the next tab resumes at its position", async () => {
  for (const end of ["close", "crash"]) {
    const { world, tabs } = await open(4);
    await publish(world, 2);
    if (end === "close") tabs[0].stream.close();
    else tabs[0].crash();
    await publish(world, 2);
    assert.equal(world.requests.at(-1).url.searchParams.get("last_event_id"), "1-2");
    for (const tab of tabs.slice(1)) assert.deepEqual(tab.sequences, upTo(4), end);
    assert.equal(world.connections.size, 1);
  }
});

test("a message that arrives after the lock is not delivered twice", async () => {
  const { world, tabs } = await open(3);
  await publishToLeader(world);
  const late = world.messages.splice(0);
  assert.ok(late.length >= 2);
  tabs[0].crash();
  await world.run();
  world.messages.push(...late);
  await publish(world);
  for (const tab of tabs.slice(1)) assert.deepEqual(tab.sequences, [1, 2]);
});

test("a follower that is ahead of the new leader skips what it has", async () => {
  const { world, tabs } = await open(3);
  await publishToLeader(world);
  // Only the last tab gets the message, the new leader does not.
  const lost = world.messages.filter(({ to, data }) => to.tab === tabs[1] && data.items);
  assert.ok(lost.length);
  world.messages = world.messages.filter((message) => !lost.includes(message));
  tabs[0].crash();
  await publish(world, 2);
  assert.deepEqual(tabs.slice(1).map((tab) => tab.sequences), [upTo(3), upTo(3)]);
  assert.equal(world.requests.length, 2, "without a connection of its own");
});

test("a follower that missed a message reads it from the server, then follows again", async () => {
  const { world, tabs } = await open(2);
  await publishToLeader(world);
  world.messages = [];
  await publish(world);
  assert.deepEqual(tabs.map((tab) => tab.sequences), [upTo(2), upTo(2)]);
  assert.equal(world.connections.size, 1);
  await publish(world);
  assert.deepEqual(tabs[1].sequences, upTo(3));
});

test("a follower learns at the next answer of the leader that it missed the last message", async () => {
  const { world, tabs } = await open(2);
  await publishToLeader(world);
  world.messages = [];
  await world.pass(5000);
  assert.deepEqual(tabs[1].sequences, [1]);
});

test("a leader that closes before its first hello leaves nothing undone", async () => {
  const world = new World();
  const tabs = [world.tab(), world.tab()];
  world.grant();
  await settle();
  tabs[0].stream.close();
  await world.run();
  await publish(world, 2);
  assert.deepEqual(tabs[1].sequences, upTo(2));
});

test("a tab that resumes reads by itself until it is level with the others", async () => {
  for (const lastEventId of ["earliest", "1-2"]) {
    const { world, tabs } = await open(2);
    await publish(world, 6);
    const late = world.tab({ lastEventId });
    tabs.push(late);
    await world.run();
    assert.deepEqual(late.sequences, lastEventId === "1-2" ? upTo(6, 3) : upTo(6));
    assert.equal(world.connections.size, 1, "its own connection has ended");
    await publish(world, 2);
    assert.deepEqual(late.sequences.at(-1), 8);
    assert.equal(new Set(late.sequences).size, late.sequences.length);
  }
});

test("a tab that resumes at the position of the others needs no connection", async () => {
  const { world } = await open(1);
  await publish(world, 3);
  const tab = world.tab({ lastEventId: "1-3" });
  await publish(world, 1);
  assert.deepEqual([tab.sequences, world.requests.length], [[4], 1]);
});

test("each tab that asks for the history gets it", async () => {
  const world = new World();
  await publish(world, 5);
  const tabs = [];
  for (let count = 0; count < 3; count++) {
    tabs.push(world.tab({ path: "/stream?history=3" }));
    await publish(world, 1);
  }
  assert.deepEqual(tabs.map((tab) => tab.sequences), [upTo(8, 4), upTo(8, 5), upTo(8, 6)]);
  assert.equal(world.connections.size, 1);
});

test("a tab with an id that was never given gets its gap from the server", async () => {
  const { world } = await open(1);
  await publish(world, 3);
  const tab = world.tab({ lastEventId: "1-99" });
  await world.run();
  assert.equal(tab.log[0].gap.reason, "unknown_id");
  assert.deepEqual(tab.sequences, upTo(3));
  await publish(world, 1);
  assert.deepEqual([tab.sequences, world.connections.size], [upTo(4), 1]);
});

test("a tab that is behind becomes the leader, and the others skip what they have", async () => {
  const { world, tabs } = await open(2);
  await publish(world, 3);
  const late = world.tab({ lastEventId: "earliest" });
  for (let step = 0; step < 3; step++) {
    for (const message of [...world.messages]) world.deliver(message);
    await settle();
  }
  const [own] = late.connections;
  own.answer();
  own.deliver(2);
  await settle();
  assert.deepEqual(late.sequences, [1]);
  tabs[1].stream.close();
  tabs[0].crash();
  const follower = world.tab({ lastEventId: "1-3" });
  await publish(world, 2);
  assert.deepEqual([late.sequences, follower.sequences], [upTo(5), [4, 5]]);
});

test("a new leader with a gap that another tab does not have: each gets its own answer from the server", async () => {
  const { world, tabs, server } = await open(3);
  await publish(world, 2, "a");
  await publishToLeader(world);
  world.messages = world.messages.filter(({ to }) => to.tab !== tabs[1]);
  while (world.messages.length) world.deliver(world.messages[0]);
  await settle();
  assert.deepEqual(tabs.slice(1).map((tab) => tab.sequences), [[1, 2], [1, 2, 3]]);
  tabs[0].crash();
  for (const connection of [...world.connections]) connection.cut();
  server.publish("a");
  server.publish("b");
  for (let count = 0; count < 4; count++) server.evict("a");
  await world.run();
  assert.deepEqual(tabs[1].log.filter(({ gap }) => gap).map(({ gap }) => [gap.from, gap.to]), [["1-2", "1-4"]]);
  assert.deepEqual(tabs[2].log.filter(({ gap }) => gap).map(({ gap }) => [gap.from, gap.to]), [["1-3", "1-4"]]);
  assert.deepEqual(tabs.slice(1).map((tab) => tab.sequences.at(-1)), [5, 5]);
  assert.equal(world.connections.size, 1);
});

test("a tab that joins inside of the leader's gap gets the rest of the gap", async () => {
  const { world, server } = await open(1);
  cut(world);
  await world.run();
  for (const topic of ["b", "a", "b"]) server.publish(topic);
  server.evict("b");
  server.evict("b");
  await world.pass(2000, settle);
  const [connection] = world.connections;
  connection.answer();
  // The hello and the gap, but not event 2.
  connection.deliver(2);
  await settle();
  connection.isSilent = true;
  const tab = world.tab();
  await world.run();
  assert.deepEqual(tab.log.map(({ gap, event }) => gap?.topics ?? event.id), [["b"], "1-2"]);
});

test("a tab that joins between the ends of two gaps gets the rest of the longer one", async () => {
  const { world, server } = await open(1);
  cut(world);
  await world.run();
  for (const topic of ["b", "c", "c", "a"]) server.publish(topic);
  server.evict("a");
  server.evict("b");
  await world.pass(2000, settle);
  const [connection] = world.connections;
  connection.answer();
  // The hello, the gap of a up to 4, the gap of b up to 1, and event 2.
  connection.deliver(4);
  await settle();
  connection.isSilent = true;
  const tab = world.tab();
  await world.run();
  assert.deepEqual(tab.log.map(({ gap, event }) => gap?.topics ?? event.id), [["a"], "1-3"]);
});

test("a list of an earlier leader does not continue what a tab read as the leader", async () => {
  const { world, tabs, server } = await open(3);
  const [first, second, third] = tabs;
  await publish(world, 1);
  await publishToLeader(world);
  const late = world.messages.filter(({ to }) => to.tab === second);
  world.messages = world.messages.filter(({ to }) => to.tab !== second);
  first.crash();
  await world.run();
  server.restart();
  await world.pass(2000);
  await publish(world, 2);
  // The third tab takes the lock.
  second.freeze();
  await world.pass(30_000);
  second.thaw();
  await settle();
  world.messages.unshift(...late);
  await publish(world, 1);
  for (const tab of [second, third]) assert.deepEqual(tab.sequences, [1, 2, 1, 2, 3]);
  assert.equal(world.connections.size, 1);
});

test("a leader that is frozen is replaced by a visible tab, and follows after it has thawed", async () => {
  const { world, tabs, server } = await open(3);
  await publish(world, 1);
  tabs[0].freeze();
  tabs[2].document.hidden = true;
  server.publish();
  await world.pass(30_000);
  for (const tab of tabs.slice(1)) assert.deepEqual(tab.sequences, [1, 2]);
  assert.deepEqual(tabs[2].connections, [], "a hidden tab does not take the lock");
  server.publish();
  tabs[0].thaw();
  await world.run();
  await publish(world, 1);
  for (const tab of tabs) assert.deepEqual(tab.sequences, upTo(4));
  assert.equal(world.connections.size, 1);
  for (const tab of tabs.slice(1)) tab.stream.close();
  await publish(world, 1);
  assert.deepEqual(tabs[0].sequences, upTo(5), "it leads again");
});

test("a tab that loses the lock before its first hello follows the new leader from its position", async () => {
  const { world, tabs, server } = await open(1);
  const [first] = tabs;
  await publish(world, 3);
  first.freeze();
  const second = world.tab();
  // No message and no answer arrives: the second tab takes the lock, then the first one again.
  await world.pass(25_000, settle);
  assert.equal(second.connections.length, 1);
  second.freeze();
  first.thaw();
  await world.pass(25_000, settle);
  second.thaw();
  server.publish();
  await publish(world, 1);
  assert.deepEqual([first.sequences, second.sequences], [upTo(5), [4, 5]]);
  assert.equal(world.connections.size, 1);
});

test("hidden tabs leave a frozen leader alone until one is shown", async () => {
  const { world, tabs, server } = await open(2);
  tabs[1].document.hidden = true;
  tabs[0].freeze();
  server.publish();
  await world.pass(600_000);
  assert.deepEqual(tabs[1].connections, []);
  tabs[1].document.hidden = false;
  tabs[1].wake("visibilitychange");
  await world.pass(20_000);
  assert.deepEqual(tabs[1].sequences, [1]);
});

test("a visible tab makes a hidden leader connect again whose timers are late", async () => {
  const { world, tabs } = await open(2);
  cut(world);
  await world.run();
  tabs[0].timers = [];
  await world.pass(5000);
  assert.deepEqual(tabs.map((tab) => tab.state), ["open", "open"]);
});

test("a refusal for good closes all tabs", async () => {
  const { world, tabs, server } = await open(3);
  server.refusals.push(...Array.from({ length: 3 }, () => ({ status: 403, body: { detail: "no" } })));
  cut(world);
  await world.pass(10_000);
  for (const tab of tabs) assert.deepEqual(tab.states.at(-1), ["closed", "no"]);
  assert.equal(world.channels.size, 0);
  await world.pass(600_000);
  assert.ok(world.requests.length <= 4, "at most one more request for each tab that got the lock before the message");
});

test("tabs with other topics, tokens or names have streams of their own", async () => {
  const world = new World();
  const groups = [
    { share: true },
    { share: true, topics: ["a"] },
    { share: true, topics: ["b"], token: "x" },
    { share: true, topics: ["b"], token: "y" },
    { share: true, topics: ["b"], token: async () => "z" },
    { share: "anna", token: () => "1" },
    { share: "ben", token: () => "1" },
    { share: false },
  ];
  for (const options of groups) world.tab(options);
  await world.run();
  assert.equal(world.connections.size, groups.length);
  const others = [{ share: true, topics: ["b"], token: () => "y" }, { share: "anna", token: () => "2" }];
  for (const options of others) world.tab(options);
  await world.run();
  assert.equal(world.connections.size, groups.length, "the same token, or the same name");
});

test("the new leader asks for a token of its own", async () => {
  const world = new World();
  world.server.tokens = ["first", "second"];
  const tabs = [world.tab({ token: () => "first" }), world.tab({ token: () => "second" })];
  await world.run();
  tabs[0].stream.close();
  world.server.tokens = ["second"];
  await publish(world, 1);
  assert.deepEqual(tabs[1].sequences, [1]);
  assert.deepEqual(world.requests.map(({ headers }) => headers.authorization), ["Bearer first", "Bearer second"]);
});
