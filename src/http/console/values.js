// The latest values of events that have a number: data with a `name` and a numeric `value`, as those of --demo.

import { byId, element, say } from "./dom.js";
import { inUnit } from "./format.js";
import { Rows } from "./rows.js";
import { Sparkline } from "./sparkline.js";

const MOST = 100;

export class Values {
  #latest = new Map();
  #rows = new Rows(byId("values"), { keyOf: (value) => value.key, make, orders: {} });

  add({ data }) {
    if (typeof data?.name !== "string" || typeof data.value !== "number") return;
    const tags = Object.entries(data.tags ?? {}).map(([key, value]) => `${key}: ${value}`).join(", ");
    const key = `${data.name} ${tags}`;
    if (!this.#latest.has(key) && this.#latest.size === MOST) return;
    const line = this.#latest.get(key)?.line ?? new Sparkline();
    line.add(data.value);
    this.#latest.set(key, { key, name: data.name, tags, text: inUnit(data.unit)(data.value), line });
  }

  show() {
    byId("values-panel").hidden = this.#latest.size === 0;
    this.#rows.show([...this.#latest.values()].sort((a, b) => a.key.localeCompare(b.key, "en", { numeric: true })));
  }
}

function make(value) {
  const [name, tags, text] = [element("th", { scope: "row" }), element("td"), element("td", { className: "number" })];
  const row = element("tr", {}, name, tags, element("td", {}, value.line.node), text);
  const update = (value) => {
    say(name, value.name.replaceAll("_", " "));
    say(tags, value.tags);
    say(text, value.text);
  };
  return { row, update };
}
