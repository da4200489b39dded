// What streams and publishes through each proxy must do. Runs the real programs with the configurations of examples/deploy.
import assert from "node:assert/strict";
import { constants } from "node:http2";
import { test } from "node:test";

import { ClosingServer } from "./closing_server.mjs";
import { Proxy } from "./proxy.mjs";
import { openHttp1 } from "./reader.mjs";
import { behind, clients, http2, noticesSoon, throughEach } from "./setup.mjs";
import { STUCK_ARGS, stuckClient } from "./stuck_client.mjs";

const { NGHTTP2_REFUSED_STREAM } = constants;

const http1 = async (t, proxy, path, options) => {
  const stream = await openHttp1(proxy.url, path, options);
  t.after(() => stream.close());
  return stream;
};

throughEach((program) => {
  test("each event arrives before the next over HTTP/1.1 and HTTP/2, compressed if the client accepts it", async (t) => {
    const { server, proxy } = await behind(t, program);
    const readers = [];
    for (const encoding of ["gzip", undefined]) {
      // What browsers send.
      const headers = { accept: "text/event-stream", ...(encoding && { "accept-encoding": "gzip, deflate, br" }) };
      for (const reader of [http2(t, proxy).open("/stream?topics=t", { headers }), await http1(t, proxy, "/events?topics=t", { headers })]) {
        await reader.has('"message":"connected"');
        assert.equal(reader.status, 200);
        assert.equal(reader.headers["content-encoding"], encoding);
        readers.push(reader);
      }
    }
    // More than one group of events that are compressed together.
    for (let n = 0; n < 70; n++) {
      await server.publish("t", `event ${n}`);
      // Before the next is published.
      for (const reader of readers) await reader.has(`data: "event ${n}"\n\n`);
    }
  });

  test("a quiet stream with keep-alives outlives the timeouts", async (t) => {
    // 2 s in place of 90 s, and heartbeats each second in place of 30 s.
    const changes = program.quiet ? [[program.quiet, program.quiet.replace("90s", "2s")]] : [];
    const { server, proxy } = await behind(t, program, { changes });
    const connection = http2(t, proxy);
    const alive = connection.open("/stream?topics=t&heartbeat=1");
    const silent = connection.open("/stream?topics=t&heartbeat=60");
    await alive.has("connected");
    await silent.has("connected");
    if (program.quiet) await silent.end();
    await alive.keptAlive(4);
    await server.publish("t", "late");
    await alive.has("late");
  });

  test("the server notices within a second that a client is gone", async (t) => {
    const { server, proxy } = await behind(t, program);
    const path = "/stream?topics=t&heartbeat=3600";
    const connection = http2(t, proxy);
    const kept = connection.open(path);
    // One stream of a connection that stays, a connection with HTTP/1.1, and one with HTTP/2.
    const ends = [
      [() => connection.open(path), (reader) => reader.stream.close()],
      [() => http1(t, proxy, path), (reader) => reader.close()],
      [() => http2(t, proxy).open(path), (reader) => reader.stream.session.destroy()],
    ];
    await kept.has("connected");
    for (const [open, end] of ends) {
      await noticesSoon(server, async () => {
        const reader = await open();
        await reader.has("connected");
        return () => end(reader);
      }, 1);
    }
    await server.publish("t", "stays");
    await kept.has("stays");
  });

  test("a client that does not read takes bounded memory in the proxy and in the server", async (t) => {
    await stuckClient(t, await behind(t, program, { args: STUCK_ARGS }));
  });

  test("lines of an upload are published as they arrive", async (t) => {
    const { proxy } = await behind(t, program, { args: ["--anonymous-publish", "t"] });
    const connection = http2(t, proxy);
    const reader = connection.open("/stream?topics=t");
    await reader.has("connected");
    const upload = connection.open("/publish", { method: "POST", headers: { "content-type": "application/x-ndjson" } });
    upload.stream.write('{"topic":"t","data":1}\n');
    await reader.has("data: 1\n");
    upload.stream.write('{"topic":"t","data":2}\n');
    await reader.has("data: 2\n");
    upload.stream.end();
    await upload.end();
    assert.equal(JSON.parse(upload.text).published, 2);
  });

  test("clients of the proxy are not local to the server", async (t) => {
    const { proxy } = await behind(t, program);
    const connection = http2(t, proxy);
    for (const [method, path, body] of [["POST", "/publish/t", "x"], ["GET", "/clients"], ["GET", "/metrics"]]) {
      const refused = await connection.open(path, { method, body, headers: { "content-type": "text/plain" } }).end();
      assert.equal(refused.status, 403, path);
    }
  });

  // Each response starts without an id for an EventSource. An event without one would make it forget its position.
  if (!program.waits) test("while the server is down, a response keeps the id and the connection of a client", async (t) => {
    const { server, proxy } = await behind(t, program);
    await server.stop();
    const connection = http2(t, proxy);
    for (const id of ["17-4", ""]) {
      const answer = await connection.open("/stream?topics=t", { headers: id ? { "last-event-id": id } : {} }).end();
      assert.equal(answer.status, 200);
      assert.equal(answer.headers["content-type"], "text/event-stream");
      const [, retry, echoed, data] = answer.text.match(/^retry: (\d+)\nid: (.*)\nevent: system\ndata: (.*)\n\n$/);
      assert.equal(echoed, id);
      const detail = "the server does not answer its proxy";
      assert.deepEqual(JSON.parse(data), { message: "unavailable", reason: "unreachable", detail, retry: Number(retry) });
    }
    const publish = await connection.open("/publish/t", { method: "POST", body: "x" }).end();
    assert.ok(publish.status >= 502, publish.status);
  });

  test("the server knows the address of a client, whatever the client says", async (t) => {
    const { server, proxy } = await behind(t, program, { args: ["--trusted-proxy", "127.0.0.1"] });
    const headers = { "x-forwarded-for": "203.0.113.7", forwarded: "for=203.0.113.8" };
    await http2(t, proxy, { from: "127.0.0.9" }).open("/stream?topics=t", { headers }).has("connected");
    assert.match((await clients(server))[0].remote_addr, /^127\.0\.0\.9(:|$)/);
  });

  test("no publish is sent twice, and its failure reaches the publisher", async (t) => {
    const upstream = await ClosingServer.start();
    t.after(() => upstream.close());
    const proxy = await Proxy.start(program, upstream.address);
    t.after(() => proxy.stop());
    const connection = http2(t, proxy);
    const publish = (body) => connection.open("/publish", { method: "POST", body, headers: { "content-type": "application/json" } }).end();
    const fails = async (body) => {
      const { status, stream } = await publish(body);
      assert.ok(status >= 500 || (program.refusesStreams && stream.rstCode === NGHTTP2_REFUSED_STREAM), `${status}, ${stream.rstCode}`);
    };
    // On a new connection, and on one that the proxy has kept.
    await fails("1");
    upstream.answers = 1;
    assert.equal((await publish("2")).status, 200);
    await fails("3");
    assert.deepEqual(upstream.bodies, ["1", "2", "3"]);
  });
});
