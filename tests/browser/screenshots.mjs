// Takes screenshots of the dashboard, desktop and phone, light and dark. The argument is the output directory.
import { mkdir } from "node:fs/promises";

import { launch } from "./browser.mjs";
import { Server } from "./server.mjs";

const directory = process.argv[2] ?? "screenshots";
await mkdir(directory, { recursive: true });
let server = await Server.start(["--demo", "--retry", "500ms"]);
const browser = await launch();
const sizes = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
const pages = [];
for (const [size, viewport] of Object.entries(sizes)) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ viewport, colorScheme, deviceScaleFactor: size === "phone" ? 2 : 1 });
    await page.goto(`${server.url}/demo`);
    pages.push([`${size}-${colorScheme}`, page]);
  }
}
const points = (count) => Promise.all(pages.map(([, page]) =>
  page.waitForFunction((count) => charts.cpu.data[1].filter((value) => value != null).length > count, count, { timeout: 60_000 })));
await points(20);
await server.stop();
server = await server.restarted();
await Promise.all(pages.map(([, page]) => page.waitForFunction(() => document.getElementById("reconnects").textContent === "1")));
await server.publish("alert", { type: "alert", level: "warning", message: "disk usage is 92 %, over 90 %", timestamp: new Date(), tags: { mount: "/data" } });
await points(40);
for (const [name, page] of pages) {
  await page.screenshot({ path: `${directory}/${name}.png`, fullPage: name.startsWith("phone") });
}
await browser.close();
await server.stop();
console.log(`screenshots of the dashboard are in ${directory}`);
