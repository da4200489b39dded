// The configuration of HAProxy for several servers, in examples/deploy/cluster.
import assert from "node:assert/strict";
import { test } from "node:test";

import { cluster } from "./programs.mjs";
import { openHttp1 } from "./reader.mjs";
import { behind, noticesSoon } from "./setup.mjs";

test("a server of a cluster notices within a second that a client is gone", async (t) => {
  const { server, proxy } = await behind(t, cluster);
  await noticesSoon(server, async () => {
    const stream = await openHttp1(proxy.url, "/stream?topics=t&heartbeat=3600");
    await stream.has("connected");
    return () => stream.close();
  });
});

test("streams get a 200 with a delay while no server of a cluster is ready, other requests an error", async (t) => {
  const { server, proxy } = await behind(t, cluster);
  await server.stop();
  const stream = await (await openHttp1(proxy.url, "/stream?topics=t", { headers: { "last-event-id": "17-4" } })).end();
  assert.equal(stream.status, 200);
  assert.equal(stream.headers["content-type"], "text/event-stream");
  const [, retry, data] = stream.text.match(/^retry: (\d+)\nid: 17-4\nevent: system\ndata: (.*)\n\n$/);
  assert.deepEqual(JSON.parse(data), { message: "unavailable", reason: "unreachable", detail: "no server is ready", retry: Number(retry) });
  const other = await (await openHttp1(proxy.url, "/health")).end();
  assert.equal(other.status, 503);
});
