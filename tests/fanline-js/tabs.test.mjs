// The tabs of one browser share a stream: each gets every event once, whatever the order of locks, messages and ends of tabs.
// Each interleaving that needs care has a test. The last test tries random ones.
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
  [...world.connections][0].cut();
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
  const { world, tabs, server } = await open(3);
  server.publish();
  await settle();
  [...world.connections][0].deliver();
  await settle();
  // The leader has posted event 1, and no tab has it yet.
  const late = world.messages.splice(0);
  assert.ok(late.length >= 2);
  tabs[0].crash();
  await world.run();
  world.messages.push(...late);
  await publish(world);
  for (const tab of tabs.slice(1)) assert.deepEqual(tab.sequences, [1, 2]);
});

test("a follower that is ahead of the new leader skips what it has", async () => {
  const { world, tabs, server } = await open(3);
  server.publish();
  await settle();
  [...world.connections][0].deliver();
  await settle();
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
  const { world, tabs, server } = await open(2);
  server.publish();
  await settle();
  [...world.connections][0].deliver();
  await settle();
  world.messages = [];
  await publish(world);
  assert.deepEqual(tabs.map((tab) => tab.sequences), [upTo(2), upTo(2)]);
  assert.equal(world.connections.size, 1);
  await publish(world);
  assert.deepEqual(tabs[1].sequences, upTo(3));
});

test("a follower learns at the next answer of the leader that it missed the last message", async () => {
  const { world, tabs, server } = await open(2);
  server.publish();
  await settle();
  [...world.connections][0].deliver();
  await settle();
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
  server.publish("a");
  await settle();
  [...world.connections][0].deliver();
  await settle();
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
  [...world.connections][0].cut();
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
  [...world.connections][0].cut();
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
  server.publish();
  await settle();
  [...world.connections][0].deliver();
  await settle();
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
  [...world.connections][0].cut();
  await world.run();
  tabs[0].timers = [];
  await world.pass(5000);
  assert.deepEqual(tabs.map((tab) => tab.state), ["open", "open"]);
});

test("a refusal for good closes all tabs", async () => {
  const { world, tabs, server } = await open(3);
  server.refusals.push(...Array.from({ length: 3 }, () => ({ status: 403, body: { detail: "no" } })));
  [...world.connections][0].cut();
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

/** Numbers that look random, the same ones for each seed (mulberry32). */
const numbers = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
};

const parse = (id) => id.split("-").map(Number);
const isBefore = ([epoch, sequence], [other, next]) => epoch < other || (epoch === other && sequence < next);

/** Checks that a tab got every event after its start, in order and once, or in a gap. */
function check(tab, published, name) {
  const gaps = [];
  let unknown = 0;
  let last = [0, 0];
  const seen = new Set();
  for (const { event, gap } of tab.log) {
    if (gap) {
      gaps.push({ ...gap, from: gap.from === null ? [0, 0] : parse(gap.from), to: parse(gap.to) });
      // From here on events may come again.
      if (gap.reason === "unknown_id") [unknown, last] = [unknown + 1, [0, 0]];
      continue;
    }
    const key = `${unknown} ${event.id}`;
    assert.ok(!seen.has(key), `${name}: ${event.id} twice`);
    seen.add(key);
    assert.ok(isBefore(last, parse(event.id)), `${name}: ${event.id} after ${last}`);
    last = parse(event.id);
  }
  const received = new Set(tab.log.flatMap(({ event }) => (event ? [event.id] : [])));
  const isExplained = ({ epoch, sequence, topic }) =>
    gaps.some(({ from, to, topics }) => isBefore(from, [epoch, sequence]) && !isBefore(to, [epoch, sequence]) && (!topics || topics.includes(topic)));
  for (const event of published) {
    const id = `${event.epoch}-${event.sequence}`;
    if (tab.start === undefined || !isBefore(parse(tab.start), [event.epoch, event.sequence])) continue;
    assert.ok(received.has(id) || isExplained(event), `${name}: ${id} is missing; it has ${[...received]}`);
  }
}

/** One random run. */
async function schedule(seed, steps) {
  const random = numbers(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const world = new World(random);
  const { server } = world;
  const published = [];
  const live = () => world.tabs.filter((tab) => !tab.isGone && !tab.isClosed);
  const topic = () => pick(["a", "b"]);
  const add = () => {
    const seen = live().map((tab) => tab.stream.lastEventId).filter(Boolean);
    const lastEventId = pick([undefined, undefined, "earliest", pick(seen), pick(seen)]);
    const tab = world.tab({ lastEventId });
    tab.name = `tab ${world.tabs.length} of ${seed}`;
    tab.document.hidden = random() < 0.3;
    tab.asked = lastEventId;
  };
  const actions = {
    publish: () => published.push(server.publish(topic())),
    answer: () => pick([...world.connections].filter((one) => !one.isAnswered).slice(0, 6))?.answer(),
    read: () => pick([...world.connections].filter((one) => one.blocks.length && !one.tab.isFrozen))?.deliver(1 + Math.floor(random() * 4), Math.floor(random() * 30)),
    message: () => {
      // The first message of each pair of tabs.
      const firsts = new Map();
      for (const message of world.messages) {
        const pair = `${world.tabs.indexOf(message.from)} ${world.tabs.indexOf(message.to.tab)}`;
        if (!firsts.has(pair)) firsts.set(pair, message);
      }
      const message = pick([...firsts.values()]);
      if (message) world.deliver(message);
    },
    lock: () => world.grant(),
    time: () => world.pass(pick([200, 1500, 6000]), settle),
    add: () => live().length < 6 && add(),
    cut: () => pick([...world.connections])?.cut(),
    refuse: () => server.refusals.length < 2 && server.refusals.push({ status: 503 }),
    close: () => {
      const tab = live().length > 1 && pick(live().filter((tab) => !tab.isFrozen));
      if (!tab) return;
      tab.isClosed = true;
      tab.stream.close();
    },
    crash: () => {
      const tab = live().length > 1 && pick(live());
      if (!tab) return;
      tab.crash();
      // Each other tab may lose the newest messages of it, and one tab more of them than another.
      for (const other of live()) {
        const sent = world.messages.filter(({ from, to }) => from === tab && to.tab === other);
        const kept = new Set(sent.slice(0, Math.floor(random() * (sent.length + 1))));
        world.messages = world.messages.filter((message) => !sent.includes(message) || kept.has(message));
      }
    },
    freeze: () => pick(live())?.freeze(),
    thaw: () => pick(live().filter((tab) => tab.isFrozen))?.thaw(),
    evict: () => server.evict(topic()),
    restart: () => random() < 0.3 && server.restart(),
  };
  const weights = { publish: 8, answer: 6, read: 12, message: 20, lock: 6, time: 4, add: 2 };
  const bag = Object.keys(actions).flatMap((name) => Array(weights[name] ?? 1).fill(name));
  add();
  const note = async () => {
    await settle();
    // A tab starts at the first position that it knows.
    for (const tab of world.tabs) {
      const id = tab.stream.lastEventId;
      if (tab.start === undefined && id && id !== "earliest") tab.start = tab.asked === "earliest" ? `${parse(id)[0]}-0` : (tab.asked ?? id);
    }
  };
  for (let step = 0; step < steps; step++) {
    const name = pick(bag);
    await actions[name]();
    await note();
  }
  // From here on everything works. All tabs end with the same events.
  for (const tab of live()) tab.thaw();
  await note();
  for (let round = 0; round < 12; round++) await world.pass(10_000);
  published.push(server.publish("a"), server.publish("b"));
  for (let round = 0; round < 3; round++) await world.pass(10_000);
  for (const tab of live()) {
    assert.equal(tab.stream.lastEventId, server.position, `${tab.name}: position`);
    assert.equal(tab.state, "open", tab.name);
  }
  assert.equal(world.connections.size, 1, `one connection (${seed})`);
  for (const tab of world.tabs) check(tab, tab.isGone || tab.isClosed ? [] : published, tab.name);
}

test("random interleavings lose nothing and repeat nothing", async () => {
  const runs = Number(process.env.RUNS ?? 150);
  const first = Number(process.env.SEED ?? 1);
  for (let seed = first; seed < first + runs; seed++) await schedule(seed, 250);
});
