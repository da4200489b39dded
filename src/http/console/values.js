// The latest values of events that have a number: data with a `name` and a numeric `value`, as those of --demo. They are all there
// from the beginning: `read` asks for those that were published before the page was opened.

import { connect } from "../fanline.js";
import { secret } from "./credentials.js";
import { byId, element, say } from "./dom.js";
import { inUnit } from "./format.js";
import { Rows } from "./rows.js";
import { Sparkline } from "./sparkline.js";

const MOST = 100;

export class Values {
  #latest = new Map();
  #reading = null;
  #rows = new Rows(byId("values"), { keyOf: (value) => value.key, make, orders: {} });

  /** Reads the current values of `topics`, and shows them. What the stream of the page has had since is newer. */
  read(topics) {
    this.#reading?.close();
    const done = () => {
      reading.close();
      this.show();
    };
    const reading = connect("stream?client_name=console+values&mode=latest", {
      topics,
      token: secret(),
      onEvent: (event) => this.add(event),
      onSnapshot: done,
    });
    this.#reading = reading;
  }

  clear() {
    this.#latest.clear();
  }

  add({ id, event, data }) {
    if (event === "delete") this.#latest.delete(data?.key);
    if (typeof data?.name !== "string" || typeof data.value !== "number") return;
    const tags = Object.entries(data.tags ?? {}).map(([key, value]) => `${key}: ${value}`).join(", ");
    const key = tags ? `${data.name} ${tags}` : data.name;
    const known = this.#latest.get(key);
    if (known ? !isAfter(id, known.id) : this.#latest.size === MOST) return;
    const line = known?.line ?? new Sparkline();
    line.add(data.value);
    this.#latest.set(key, { id, key, name: data.name, tags, text: inUnit(data.unit)(data.value), line });
  }

  show() {
    byId("values-panel").hidden = this.#latest.size === 0;
    this.#rows.show([...this.#latest.values()].sort((a, b) => a.key.localeCompare(b.key, "en", { numeric: true })));
  }
}

/** Whether the event with id `a` came after the one with id `b`. */
function isAfter(a, b) {
  const [[epoch, sequence], [other, reached]] = [a, b].map((id) => id.split("-").map(Number));
  return epoch === other ? sequence > reached : epoch > other;
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
