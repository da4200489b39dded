// The tabs of one browser share a stream, in random interleavings of locks, messages and ends of tabs: each gets every event
// once. SEED=n RUNS=1 repeats one.
import assert from "node:assert/strict";
import { test } from "node:test";

import { World, settle } from "./world.mjs";

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
