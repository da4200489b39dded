// /asyncapi.json is a valid document, and describes every message that a server and its clients exchange.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";

import { DiagnosticSeverity, Parser } from "@asyncapi/parser";
import Ajv from "ajv";
import addFormats from "ajv-formats";
import WebSocket from "ws";

import { Server } from "../browser/server.mjs";

let server, document;
before(async () => {
  server = await Server.start(["--max-topics", "3"]);
  document = await (await fetch(`${server.url}/asyncapi.json`)).json();
});
after(() => server.stop());

/** Returns a function that checks a message against the schema of its type. */
function checker() {
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema({ $id: "asyncapi", ...document });
  const types = Object.keys(document.components.messages);
  const validators = Object.fromEntries(types.map((type) => [type, ajv.compile({ $ref: `asyncapi#/components/messages/${type}/payload` })]));
  return (message) => {
    const validate = validators[message.type];
    assert.ok(validate, `no message of the type ${message.type}`);
    assert.ok(validate(message), `${JSON.stringify(message)}: ${ajv.errorsText(validate.errors)}`);
  };
}

/** A client whose messages, sent and received, are checked. */
class Client {
  received = [];
  #check = checker();

  static async open(query) {
    const client = new Client();
    client.socket = new WebSocket(`${server.url.replace("http", "ws")}/ws?${query}`);
    client.socket.on("message", (text) => {
      const message = JSON.parse(text);
      client.received.push(message);
      client.socket.emit("json", message);
    });
    await client.next("system");
    return client;
  }

  /** The first message of a type, checked and removed. */
  async next(type, condition = () => true) {
    for (;;) {
      const at = this.received.findIndex((message) => message.type === type && condition(message));
      if (at >= 0) {
        const [message] = this.received.splice(at, 1);
        this.#check(message);
        return message;
      }
      await once(this.socket, "json", { signal: AbortSignal.timeout(60_000) });
    }
  }

  /** Sends a message that the document allows, and returns the answer. */
  ask(message, type) {
    this.#check(message);
    return this.send(message, type);
  }

  send(message, type) {
    this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
    return this.next(type, ({ ref }) => ref === message.ref);
  }

  close() {
    // What no test has asked for is to be valid, too.
    this.received.forEach(this.#check);
    this.socket.terminate();
  }
}

test("the document is valid AsyncAPI 3", async () => {
  const { document: parsed, diagnostics } = await new Parser().parse(JSON.stringify(document));
  const faults = diagnostics.filter(({ severity }) => severity <= DiagnosticSeverity.Warning);
  assert.deepEqual(faults.map(({ path, message }) => `${path.join(".")}: ${message}`), []);
  assert.equal(parsed.version(), "3.0.0");
});

test("the examples of the document are valid messages", () => {
  const check = checker();
  for (const [type, { examples }] of Object.entries(document.components.messages)) {
    for (const { payload } of examples) {
      assert.equal(payload.type, type);
      check(payload);
    }
  }
});

test("each message of a server is as described", async () => {
  const unknown = "last_event_id=unknown";
  const client = await Client.open(`topics=a&heartbeat=1&${unknown}`);
  await client.next("gap");
  assert.deepEqual((await client.ask({ type: "subscribe", topics: ["b.*"], ref: "s" }, "subscribed")).topics, ["b.*"]);
  const { id } = await client.ask({ type: "publish", topic: "b.1", data: { n: 1 }, ref: 1 }, "published");
  assert.deepEqual(await client.next("event"), { type: "event", id, topic: "b.1", event: "message", data: { n: 1 } });
  await client.ask({ type: "publish", topic: "a", event: "named", text: "x\ny", ref: -2.5 }, "published");
  assert.equal((await client.next("event")).text, "x\ny");
  await client.ask({ type: "unsubscribe", topics: ["b.*"], ref: 3 }, "unsubscribed");
  await client.ask({ type: "ping", ref: 4 }, "pong");
  await client.ask({ type: "ping" }, "pong");
  await client.next("heartbeat");
  client.close();
});

test("what the document does not allow is an error with a described code", async () => {
  const client = await Client.open("");
  const check = checker();
  for (const [message, code] of [
    [{ type: "hello", ref: 1 }, "unknown_type"],
    [{ type: "ping", topics: ["a"], ref: 2 }, "malformed"],
    [{ type: "subscribe", topics: [], ref: 3 }, "malformed"],
    [{ type: "subscribe", topics: ["a b"], ref: 4 }, "invalid_topic"],
    [{ type: "publish", topic: "a", ref: 5 }, "malformed"],
    [{ type: "publish", topic: "a", data: 1, text: "1", ref: 6 }, "malformed"],
    [{ type: "publish", topic: "a", event: "gap", data: 1, ref: 7 }, "malformed"],
  ]) {
    assert.throws(() => check(message), undefined, JSON.stringify(message));
    assert.equal((await client.send(message, "error")).code, code);
  }
  assert.equal((await client.send("nonsense", "error")).code, "malformed");
  // Limits depend on settings, which the document does not have.
  assert.equal((await client.ask({ type: "subscribe", topics: ["a", "b", "c", "d"], ref: 8 }, "error")).code, "too_many_topics");
  assert.equal((await client.ask({ type: "publish", topic: "a", text: "x".repeat(70_000), ref: 9 }, "error")).code, "too_large");
  await client.ask({ type: "ping", ref: 10 }, "pong");
  client.close();
});
