// The topics with their rates, from GET /topics.

import { byId, element, say } from "./dom.js";
import { bytes, count, rate } from "./format.js";
import { Rates } from "./rates.js";
import { Rows } from "./rows.js";
import { ask, showRefusal } from "./server.js";
import { Sparkline } from "./sparkline.js";

const LIMIT = 200;

export class Topics {
  #rates = new Rates();
  #rows = new Rows(byId("topics"), {
    keyOf: (topic) => topic.topic,
    make,
    orders: {
      name: (a, b) => a.topic.localeCompare(b.topic),
      rate: (a, b) => (b.rate ?? 0) - (a.rate ?? 0),
      retained: (a, b) => b.retained_events - a.retained_events,
      subscribers: (a, b) => b.subscribers - a.subscribers,
    },
  });

  /** Reads and shows the list. Returns the number of all topics, or `undefined` if the server refused. */
  async refresh() {
    const pattern = byId("topics-filter").value.trim();
    const query = new URLSearchParams({ limit: LIMIT, ...(pattern && { topic: pattern }) });
    let list;
    try {
      list = await ask(`topics?${query}`);
    } catch (refusal) {
      byId("topics-panel").classList.add("refused");
      return void showRefusal(byId("topics-note"), refusal);
    }
    byId("topics-panel").classList.remove("refused");
    const now = Date.now();
    for (const topic of list.topics) topic.rate = this.#rates.of(topic.topic, topic.published_events, now);
    this.#rates.forgetOlder(now);
    this.#rows.show(list.topics);
    byId("topics-known").replaceChildren(...list.topics.map(({ topic }) => element("option", { value: topic })));
    const isPart = list.count > list.topics.length;
    say(byId("topics-note"), isPart ? `${count(list.topics.length)} of ${count(list.count)} topics. A pattern such as orders.* shows fewer.` : "");
    if (!pattern) say(byId("topics-count"), count(list.count));
    return list.count;
  }
}

function make({ topic }) {
  const link = element("a", { href: `#events/${encodeURIComponent(topic)}`, title: `Show the events of ${topic}` }, topic);
  const line = new Sparkline();
  const cells = Array.from({ length: 5 }, () => element("td", { className: "number" }));
  const row = element("tr", {}, element("th", { scope: "row" }, link), cells[0], element("td", {}, line.node), ...cells.slice(1));
  const update = (topic) => {
    if (topic.rate !== undefined) line.add(topic.rate);
    const { retained_events, retained_bytes, subscribers, last_position } = topic;
    const texts = [rate(topic.rate), count(retained_events), bytes(retained_bytes), count(subscribers), last_position ?? "–"];
    texts.forEach((text, index) => say(cells[index], text));
  };
  return { row, update };
}
