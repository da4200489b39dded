// Opens consoles in Chromium for tests, and checks that they raise no errors and load nothing from elsewhere.
import assert from "node:assert/strict";

import { PATIENCE, launch } from "./browser.mjs";

export class Consoles {
  #errors = [];
  #foreign = [];

  static async start(args = []) {
    const consoles = new Consoles();
    consoles.browser = await launch(args);
    return consoles;
  }

  /** Opens `url` in a browser session of its own, or in that of `beside`. */
  async open(url, { beside, ...options } = {}) {
    const context = beside?.context() ?? (await this.browser.newContext(options));
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on("pageerror", (error) => this.#errors.push(String(error)));
    page.on("console", (message) => /Content Security Policy|Trusted/.test(message.text()) && this.#errors.push(message.text()));
    page.on("request", (request) => new URL(request.url()).host === new URL(url).host || this.#foreign.push(request.url()));
    await page.goto(url);
    return page;
  }

  async openLive(url, options) {
    const page = await this.open(url, options);
    await live(page);
    return page;
  }

  closePages() {
    return Promise.all(this.browser.contexts().map((context) => context.close()));
  }

  /** Closes all pages, and fails if one of them raised an error. */
  async check() {
    await this.closePages();
    const [errors, foreign] = [this.#errors.splice(0), this.#foreign.splice(0)];
    assert.deepEqual({ errors, foreign }, { errors: [], foreign: [] });
  }

  close() {
    return this.browser.close();
  }
}

export const live = (page) => page.locator("#state[data-state=open]").waitFor();

/** Waits until the element with this id has a text that matches. */
export const shows = (page, id, expected) =>
  page.waitForFunction(([id, source]) => new RegExp(source).test(document.getElementById(id).textContent), [id, expected.source]);

/** The rows of the inspector's list. */
export const rows = (page, text) => page.locator("#events > li", text && { hasText: text });

/** Presses Tab until the focused element satisfies `selector`, as soon as there is one. */
export async function tabTo(page, selector) {
  await page.locator(selector).first().waitFor();
  for (let press = 0; press < 80; press++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((selector) => document.activeElement.matches(selector), selector)) return;
  }
  assert.fail(`the keyboard does not reach ${selector}`);
}
