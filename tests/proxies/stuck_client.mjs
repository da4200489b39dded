// A client that opens a stream and never reads it, beside one that reads, while many events are published.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

import { memory } from "./proxy.mjs";
import { http2, streams } from "./setup.mjs";

const MIB = 1024 * 1024;

/** What the server is started with: much less history than what is published, and time for a reader whose proxy stands still. */
export const STUCK_ARGS = ["--history", "64", "--history-bytes", "6MiB", "--write-timeout", "10s"];

/** Checks that the stuck client costs the server and the proxy a bounded amount of memory, and the other client nothing. */
export async function stuckClient(t, { server, proxy }) {
  const stuck = http2(t, proxy).open("/stream?topics=t");
  await stuck.has("connected");
  stuck.stream.pause();
  const reader = http2(t, proxy).open("/stream?topics=t");
  await reader.has("connected");
  const before = [memory(server.child.pid), proxy.memory()];
  // Some proxies ask for compression and decompress for the client.
  const text = randomBytes(30_000).toString("base64");
  const line = `${JSON.stringify({ topic: "t", text })}\n`;
  // 32 MB in pieces that the reader can follow.
  for (let piece = 0; piece < 48; piece++) {
    const body = line.repeat(16) + `${JSON.stringify({ topic: "t", data: { piece } })}\n`;
    const answer = await fetch(`${server.url}/publish`, { method: "POST", headers: { "content-type": "application/x-ndjson" }, body });
    assert.equal(answer.status, 200);
    await reader.has(`{"piece":${piece}}`);
  }
  const after = [memory(server.child.pid), proxy.memory()];
  const grown = after.map((bytes, index) => (bytes - before[index]) / MIB);
  t.diagnostic(`grown by ${grown.map((size) => size.toFixed(1))} MiB (server, proxy)`);
  assert.ok(grown[0] < 18, `the server has grown by ${grown[0]} MiB`);
  assert.ok(grown[1] < 18, `the proxy has grown by ${grown[1]} MiB`);
  // The server ends the stuck stream. The other one goes on.
  await streams(server, 1);
  await server.publish("t", "end");
  await reader.has("end");
}
