// Tests the hook with a real server whose connection is cut. FANLINE is the path of the program.
import { cleanup, render, screen, waitFor } from "@testing-library/react";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import { Server } from "../../../tests/browser/server.mjs";
import { Proxy } from "../../../tests/clients/proxy.mjs";
import { App } from "./App.jsx";

let server, proxy;
beforeAll(async () => {
  server = await Server.start(["--retry", "200ms"]);
  proxy = await Proxy.before(server.url);
});
afterEach(cleanup);
afterAll(async () => {
  proxy.close();
  await server.stop();
});

const patience = { timeout: 60_000 };

test("a component shows each event once across a reconnect, and closes its stream on unmount", async () => {
  const { unmount } = render(<App url={`http://${proxy.address}/stream`} topics={["react"]} keep={1000} />);
  const published = [];
  const publish = async (count) => {
    for (let sent = 0; sent < count; sent++) published.push(`${await server.publish("react", published.length)} ${published.length}`);
  };
  const shown = () => screen.queryAllByRole("listitem").map((item) => item.textContent);
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("open"), patience);
  await waitFor(() => expect(proxy.received).toContain('"connected"'), patience);
  await publish(30);
  await waitFor(() => expect(shown()).toEqual(published), patience);
  proxy.cut();
  await publish(30);
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("waiting"), patience);
  proxy.isDown = false;
  await publish(30);
  await waitFor(() => expect(shown()).toEqual(published), patience);
  expect(screen.queryByRole("alert")).toBeNull();
  unmount();
  const clients = async () => (await (await fetch(`${server.url}/health`)).json()).connected_clients;
  await waitFor(async () => expect(await clients()).toBe(0), patience);
});
