// Takes screenshots of the server's pages, desktop and phone, light and dark. The argument is the output directory.
import { mkdir } from "node:fs/promises";

import { launch } from "./browser.mjs";
import { live, shows } from "./console.mjs";
import { Server } from "./server.mjs";
import { publish, subscribe } from "./traffic.mjs";

const SIZES = { desktop: { width: 1280, height: 860 }, phone: { width: 390, height: 844 } };
/** How long the charts fill. */
const SECONDS = 75;

const directory = process.argv[2] ?? "screenshots";
await mkdir(directory, { recursive: true });
const server = await Server.start(["--demo"]);
const browser = await launch();
const end = new AbortController();
await subscribe(server, end.signal);
const publishing = publish(server, 120, end.signal);

const pages = [];
for (const [size, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ viewport, colorScheme });
    await page.goto(`${server.url}/demo`);
    await live(page);
    pages.push([`${size}-${colorScheme}`, page]);
  }
}
await new Promise((done) => setTimeout(done, SECONDS * 1000));

for (const [name, page] of pages) {
  const fullPage = name.startsWith("phone");
  const take = (view) => page.screenshot({ path: `${directory}/${name}-${view}.png`, fullPage });
  await take("overview");
  await page.locator("nav a", { hasText: "Events" }).click();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator("#events > li summary", { hasText: "orders" }).first().click();
  await page.evaluate(() => scrollTo(0, 0));
  await take("events");
  await page.locator("nav a", { hasText: "Subscribers" }).click();
  await shows(page, "subscribers-note", /connected/);
  await page.waitForResponse((response) => response.url().includes("/clients?"));
  await take("subscribers");
  await page.goto(`${server.url}/docs`);
  await page.locator(".opblock").first().waitFor();
  await page.screenshot({ path: `${directory}/${name}-docs.png` });
  await page.goto(`${server.url}/`);
  await page.screenshot({ path: `${directory}/${name}-index.png` });
}
end.abort();
await publishing;
await browser.close();
await server.stop();
console.log(`the screenshots are in ${directory}`);
