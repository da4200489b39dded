// Opens a page or a script of the documentation in Chromium, and prints what it logs and shows: node page.mjs FILE URL
// FILE may be the address of a page. A script runs in a page of the server at URL. Prints "opened" when the page has a stream.
// scripts/snippets uses this.
import { pathToFileURL } from "node:url";

import { launch } from "./browser.mjs";

const [file, url] = process.argv.slice(2);
const browser = await launch();
const page = await browser.newPage();
page.on("console", (message) => console.log(message.text()));
page.on("pageerror", (error) => console.log(`error: ${error}`));
await page.exposeFunction("shown", (text) => console.log(text));
await page.addInitScript(() => {
  const print = () => document.body && shown(document.body.innerText);
  new MutationObserver(print).observe(document, { subtree: true, childList: true, characterData: true });
});
const stream = page.waitForResponse((response) => new URL(response.url()).pathname .endsWith("/stream"));
if (file.startsWith("http:")) {
  await page.goto(file);
} else if (file.endsWith(".html")) {
  await page.goto(pathToFileURL(file).href);
} else {
  await page.goto(`${url.replace("127.0.0.1", "localhost")}/health/live`);
  await page.addScriptTag({ path: file, type: "module" });
}
await stream;
console.log("opened");
