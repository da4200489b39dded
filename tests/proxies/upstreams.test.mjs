// Other ways from a proxy to the server than HTTP/1.1 over TCP: the lines of docs/proxies.md.
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { behind, clients, http2, noticesSoon, read, streams, throughEach } from "./setup.mjs";
import { STUCK_ARGS, stuckClient } from "./stuck_client.mjs";

// What to change in the files of examples/deploy for HTTP/2 with prior knowledge to the server. nginx 1.22 cannot.
const H2C = {
  HAProxy: [["server one 127.0.0.1:8000", "http-reuse always\n    server one 127.0.0.1:8000 proto h2"]],
  Caddy: [["127.0.0.1:8000", "h2c://127.0.0.1:8000"]],
  Traefik: [["http://127.0.0.1:8000", "h2c://127.0.0.1:8000"]],
  Envoy: [["      connect_timeout: 2s\n", `      connect_timeout: 2s
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: { http2_protocol_options: { initial_stream_window_size: 65536 } }
`]],
};

/** A path for a Unix socket, in a folder that the proxies' users can read. */
function socketPath(t) {
  const folder = mkdtempSync(join(tmpdir(), "fanline-socket-"));
  t.after(() => rmSync(folder, { recursive: true }));
  chmodSync(folder, 0o755);
  return join(folder, "fanline.sock");
}

throughEach((program) => {
  // Traefik has no Unix sockets.
  if (program.name !== "Traefik") test("through a Unix socket, clients have their addresses and are not local", async (t) => {
    const listen = `unix:${socketPath(t)}`;
    const { server, proxy } = await behind(t, program, { listen, args: ["--unix-mode", "666", "--trusted-proxy", "unix"] });
    const connection = http2(t, proxy, { from: "127.0.0.9" });
    const publish = connection.open("/publish/t", { method: "POST", body: "x", headers: { "content-type": "text/plain" } });
    assert.equal((await publish.end()).status, 403);
    await noticesSoon(server, async () => {
      const reader = connection.open("/stream?topics=t&heartbeat=3600");
      await reader.has("connected");
      assert.match((await clients(server))[0].remote_addr, /^127\.0\.0\.9(:|$)/);
      return () => reader.stream.close();
    });
  });

  // Versions 1 and 2 of the PROXY protocol.
  const headers = program.name === "HAProxy" ? ["send-proxy", "send-proxy-v2"] : [];
  for (const header of headers) test(`with ${header}, clients have their addresses`, async (t) => {
    const changes = [["server one 127.0.0.1:8000", `server one 127.0.0.1:8000 ${header}`]];
    const listen = `unix:${socketPath(t)}`;
    const { server, proxy } = await behind(t, program, { listen, args: ["--proxy-protocol", "off,required"], changes });
    const stream = http2(t, proxy, { from: "127.0.0.9" }).open("/stream?topics=t");
    await stream.has("connected");
    assert.match((await clients(server))[0].remote_addr, /^127\.0\.0\.9(:|$)/);
    await server.publish("t", "first");
    await stream.has("first");
  });

  const h2c = H2C[program.name];
  if (!h2c) return;

  test("with HTTP/2 to the server, streams share its connections and end one by one", async (t) => {
    const { server, proxy } = await behind(t, program, { changes: h2c });
    const connection = http2(t, proxy);
    const open = () => connection.open("/stream?topics=t&heartbeat=3600");
    const readers = Array.from({ length: 49 }, open);
    for (const reader of readers) await reader.has("connected");
    await streams(server, 49);
    const { connections } = await read(server, "/metrics/json");
    assert.ok(connections.current < 10, `${connections.current} connections`);
    await noticesSoon(server, async () => {
      const reader = open();
      await reader.has("connected");
      return () => reader.stream.close();
    }, 49);
    await server.publish("t", "to all");
    for (const reader of readers) await reader.has("to all");
  });

  test("with HTTP/2 to the server, a client that does not read does not hold up the others", async (t) => {
    await stuckClient(t, await behind(t, program, { args: STUCK_ARGS, changes: h2c }));
  });
});
