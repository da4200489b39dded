// A simulated browser and server: tabs that run fanline.js, whose messages, locks, timers and connections move only when a
// test says so. Each tab has a global object of its own.
import { readFileSync } from "node:fs";
import { createContext, runInContext } from "node:vm";

const SOURCE = readFileSync(new URL("../../src/http/fanline-js/fanline.js", import.meta.url), "utf8").replaceAll("export const", "const");

/** Lets everything run that is waiting for no step of the world. */
export const settle = async () => {
  for (let turn = 0; turn < 4; turn++) await new Promise(setImmediate);
};

/** The server: topics, a retained history, and epochs. */
class Server {
  epoch = 1;
  sequence = 0;
  /** Retained events: `{ epoch, sequence, topic }`. */
  history = [];
  /** The last evicted sequence of each topic, in this epoch. */
  evicted = {};
  /** Responses for the next requests, instead of streams: `{ status, headers, body }` each. */
  refusals = [];
  /** The tokens that are accepted; undefined accepts every request. */
  tokens;

  constructor(world) {
    this.world = world;
  }

  get position() {
    return `${this.epoch}-${this.sequence}`;
  }

  publish(topic = "a") {
    const event = { epoch: this.epoch, sequence: ++this.sequence, topic };
    this.history.push(event);
    for (const connection of this.world.connections) if (connection.isOpen) connection.send(encode(event));
    return event;
  }

  /** Forgets the oldest retained event of `topic`. */
  evict(topic) {
    const index = this.history.findIndex((event) => event.topic === topic);
    if (index < 0) return;
    this.evicted[topic] = this.history[index].sequence;
    this.history.splice(index, 1);
  }

  /** Begins a new epoch, and closes all connections. */
  restart() {
    this.epoch++;
    [this.sequence, this.history, this.evicted] = [0, [], {}];
    for (const connection of [...this.world.connections]) connection.finish();
  }

  /** The blocks that a new stream begins with. */
  open(asked, newest) {
    const hello = (id, position) => block({ retry: 1000, id, event: "system", data: { message: "connected", position } });
    const gap = (id, data) => block({ id, event: "gap", data: { missed: null, ...data } });
    if (!asked) {
      const start = Math.max(this.sequence - newest, 0);
      return [hello(`${this.epoch}-${start}`, this.position), ...this.replay(start)];
    }
    const known = asked === "earliest" ? [this.epoch, 0] : asked.split("-").map(Number);
    const [epoch, after] = known;
    if (!(epoch <= this.epoch) || (epoch === this.epoch && !(after <= this.sequence))) {
      const oldest = `${this.epoch}-0`;
      return [hello("0-0", null), gap(oldest, { reason: "unknown_id", from: null, to: oldest }), ...this.replay(0)];
    }
    if (epoch < this.epoch) {
      const oldest = `${this.epoch}-0`;
      return [hello(asked, null), gap(oldest, { reason: "epoch", from: asked, to: oldest }), ...this.replay(0)];
    }
    const at = `${epoch}-${after}`;
    return [hello(at, at), ...this.replay(after)];
  }

  /** One gap for each topic that lost events, then the retained events. */
  replay(after) {
    const lost = Object.entries(this.evicted).filter(([, to]) => to > after);
    const [id, to] = [after, (sequence) => `${this.epoch}-${sequence}`];
    const gaps = lost.map(([topic, last]) => ({ reason: "evicted", from: to(after), to: to(last), missed: null, topics: [topic] }));
    const events = this.history.filter((event) => event.sequence > after);
    return [...gaps.map((data) => block({ id: to(id), event: "gap", data })), ...events.map(encode)];
  }
}

const encode = ({ epoch, sequence, topic }) => {
  const id = `${epoch}-${sequence}`;
  return block({ id, data: { type: "event", id, topic, event: "message", data: { n: sequence } } });
};

export const block = ({ data, ...fields }) =>
  `${Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`).join("")}data: ${JSON.stringify(data)}\n\n`;

/** One request of a tab. It is answered, and its blocks arrive, when a test says so. */
class Connection {
  blocks = [];
  isOpen = false;
  isAnswered = false;

  constructor(world, tab, url, { signal, headers }) {
    Object.assign(this, { world, tab, url: new URL(url), headers });
    this.response = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    world.connections.add(this);
    world.requests.push(this);
    const abort = () => this.end(() => this.fail(signal.reason));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
  }

  fail(error) {
    this.reject(error);
    try {
      this.controller?.error(error);
    } catch {
      // The body has ended already.
    }
  }

  end(how) {
    if (!this.world.connections.delete(this)) return;
    this.isOpen = false;
    how();
  }

  /** Answers the request. */
  answer() {
    const { server } = this.world;
    this.isAnswered = true;
    const secret = this.headers.authorization?.replace("Bearer ", "");
    const unauthorized = server.tokens && !server.tokens.includes(secret) && { status: 401, body: { detail: "unknown token" } };
    const refusal = unauthorized || server.refusals.shift();
    if (refusal) {
      const { status, headers, body } = refusal;
      this.end(() => this.resolve(new Response(body === undefined ? null : JSON.stringify(body), { status, headers })));
      return;
    }
    const body = new ReadableStream({ start: (controller) => (this.controller = controller) });
    this.resolve(new Response(body, { headers: { "content-type": "text/event-stream" } }));
    this.isOpen = true;
    const query = this.url.searchParams;
    this.blocks.push(...server.open(query.get("last_event_id"), Number(query.get("history"))));
  }

  send(...blocks) {
    this.blocks.push(...blocks);
  }

  /** Delivers the first `count` blocks, and the first `extra` bytes of the next one. */
  deliver(count = this.blocks.length, extra = 0) {
    let text = this.blocks.splice(0, count).join("");
    if (extra && this.blocks.length) {
      text += this.blocks[0].slice(0, extra);
      this.blocks[0] = this.blocks[0].slice(extra);
    }
    if (text) this.controller.enqueue(new TextEncoder().encode(text));
  }

  /** Cuts the connection: what was not delivered is lost. */
  cut() {
    this.end(() => this.fail(new TypeError("network error")));
  }

  /** Ends the stream. */
  finish() {
    this.end(() => (this.controller ? this.controller.close() : this.fail(new TypeError("network error"))));
  }
}

/** The locks of all tabs: the first request holds its lock, the others wait in order. */
class Locks {
  queues = new Map();

  queue(name) {
    if (!this.queues.has(name)) this.queues.set(name, []);
    return this.queues.get(name);
  }

  request(tab, name, { signal, steal }, callback) {
    return new Promise((resolve, reject) => {
      const queue = this.queue(name);
      const request = { tab, callback, resolve, reject, isHeld: false };
      const abort = (reason) => {
        queue.splice(queue.indexOf(request), 1);
        tab.task(() => reject(reason));
      };
      signal?.addEventListener("abort", () => queue.includes(request) && !request.isHeld && abort(signal.reason));
      if (steal) {
        if (queue[0]?.isHeld) {
          const [old] = queue.splice(0, 1);
          old.tab.task(() => old.reject(new DOMException("stolen", "AbortError")));
        }
        queue.unshift(request);
        this.grant(queue);
      } else {
        queue.push(request);
      }
    });
  }

  /** Grants a lock to the first request that waits for it, if it is free. */
  grant(queue) {
    const [first] = queue;
    if (!first || first.isHeld) return;
    first.isHeld = true;
    const release = () => queue.includes(first) && queue.splice(queue.indexOf(first), 1);
    first.tab.task(() => Promise.resolve(first.callback()).then(() => (release(), first.resolve()), first.reject));
  }

  drop(tab) {
    for (const queue of this.queues.values()) queue.splice(0, queue.length, ...queue.filter((request) => request.tab !== tab));
  }
}

/** A tab, with one stream. `log` has what its handlers got. */
class Tab {
  log = [];
  states = [];
  timers = [];
  channels = [];
  /** Tasks of a frozen tab. */
  held = [];
  isFrozen = false;
  isGone = false;
  listeners = [];

  constructor(world, { path = "/stream", ...options } = {}, origin) {
    this.world = world;
    const { locks } = world;
    this.document = { hidden: false };
    const timer = (repeats) => (run, delay) => {
      const entry = { run, due: world.now + delay, delay, repeats };
      this.timers.push(entry);
      return entry;
    };
    const clear = (entry) => (this.timers = this.timers.filter((timer) => timer !== entry));
    const tab = this;
    class BroadcastChannel {
      constructor(name) {
        Object.assign(this, { name, tab });
        world.channels.add(this);
      }

      postMessage(data) {
        if (!world.channels.has(this)) throw new DOMException("closed", "InvalidStateError");
        for (const other of world.channels) {
          if (other !== this && other.name === this.name) world.messages.push({ from: tab, to: other, data: structuredClone(data) });
        }
      }

      close() {
        world.channels.delete(this);
      }
    }
    const shared = origin?.isInsecure ? {} : { navigator: { locks: { request: (...request) => locks.request(tab, ...request) } }, BroadcastChannel };
    const context = createContext({
      ...shared,
      URL,
      AbortController,
      TextDecoderStream,
      queueMicrotask: (run) => queueMicrotask(() => {
        try {
          run();
        } catch (error) {
          this.errors = [...(this.errors ?? []), error.message];
        }
      }),
      Date: { now: () => world.now },
      setTimeout: timer(false),
      setInterval: timer(true),
      clearTimeout: clear,
      clearInterval: clear,
      document: this.document,
      location: { href: "https://page.example/" },
      addEventListener: (type, run) => this.listeners.push({ type, run }),
      removeEventListener: (type, run) => (this.listeners = this.listeners.filter((one) => one.type !== type || one.run !== run)),
      fetch: (url, init) => new Connection(world, this, url, init).response,
    });
    context.random = world.random;
    context.path = path;
    context.options = {
      share: "group",
      onEvent: (event) => this.log.push({ event: structuredClone(event), at: this.stream?.lastEventId }),
      onGap: (gap) => this.log.push({ gap: structuredClone(gap), at: this.stream?.lastEventId }),
      onState: (state, detail) => this.states.push(detail ? [state, structuredClone(detail)] : [state]),
      ...options,
    };
    this.stream = runInContext(`Math.random = random;\n${SOURCE}\nconnect(path, options)`, context);
  }

  get state() {
    return this.states.at(-1)?.[0];
  }

  /** The sequences of the delivered events. */
  get sequences() {
    return this.log.flatMap(({ event }) => (event ? [Number(event.id.split("-")[1])] : []));
  }

  get connections() {
    return [...this.world.connections].filter((connection) => connection.tab === this);
  }

  /** Runs `task` unless the tab is gone, and later if it is frozen. */
  task(task) {
    if (this.isGone) return;
    if (this.isFrozen) this.held.push(task);
    else task();
  }

  /** The browser's event `type`. */
  wake(type) {
    for (const listener of this.listeners) if (listener.type === type) listener.run({ type });
  }

  freeze() {
    this.isFrozen = true;
  }

  thaw() {
    this.isFrozen = false;
    for (const task of this.held.splice(0)) task();
  }

  /** The tab ends without any code of its own, as in a crash. */
  crash() {
    this.isGone = true;
    this.timers = [];
    for (const connection of this.connections) this.world.connections.delete(connection);
    for (const channel of this.world.channels) if (channel.tab === this) this.world.channels.delete(channel);
    this.world.locks.drop(this);
  }
}

export class World {
  now = 1_000_000;
  connections = new Set();
  /** All requests, in order. */
  requests = [];
  channels = new Set();
  messages = [];
  tabs = [];
  locks = new Locks();
  server = new Server(this);

  constructor(random = () => 0.5) {
    this.random = random;
  }

  tab(options, origin) {
    const tab = new Tab(this, options, origin);
    this.tabs.push(tab);
    return tab;
  }

  /** Delivers a message. The messages from one tab to another stay in order. */
  deliver(message) {
    this.messages.splice(this.messages.indexOf(message), 1);
    const { to, data } = message;
    to.tab.task(() => this.channels.has(to) && to.onmessage({ data }));
  }

  grant() {
    for (const queue of this.locks.queues.values()) this.locks.grant(queue);
  }

  /** Everything happens that can: locks are granted, and messages and blocks arrive. Time stands still. */
  async run() {
    for (;;) {
      await settle();
      this.grant();
      await settle();
      const [message] = this.messages;
      const unanswered = [...this.connections].find((connection) => !connection.isAnswered);
      const unread = [...this.connections].find((connection) => connection.blocks.length && !connection.tab.isFrozen && !connection.isSilent);
      if (message) this.deliver(message);
      else if (unanswered) unanswered.answer();
      else if (unread) unread.deliver();
      else return;
    }
  }

  /** Lets time pass, timer by timer. */
  async pass(milliseconds, run = () => this.run()) {
    await run();
    const end = this.now + milliseconds;
    for (;;) {
      const next = this.tabs.flatMap((tab) => (tab.isFrozen ? [] : tab.timers.map((timer) => ({ tab, timer })))).sort((a, b) => a.timer.due - b.timer.due)[0];
      if (!next || next.timer.due > end) break;
      const { tab, timer } = next;
      this.now = Math.max(this.now, timer.due);
      if (timer.repeats) timer.due = this.now + timer.delay;
      else tab.timers = tab.timers.filter((other) => other !== timer);
      timer.run();
      await run();
    }
    this.now = end;
  }
}
