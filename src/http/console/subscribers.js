// The connected clients with their lag, from GET /clients, and the button that disconnects one.

import { byId, element, say } from "./dom.js";
import { bytes, count, duration, rate } from "./format.js";
import { Rates } from "./rates.js";
import { Rows } from "./rows.js";
import { ask, showRefusal } from "./server.js";

const LIMIT = 100;

export class Subscribers {
  #rates = new Rates();
  #after = null;
  #rows = new Rows(byId("subscribers-table"), {
    keyOf: (client) => client.client_id,
    make,
    orders: {
      name: (a, b) => nameOf(a).localeCompare(nameOf(b)),
      lag: (a, b) => b.queue_size - a.queue_size,
      rate: (a, b) => (b.rate ?? 0) - (a.rate ?? 0),
      bytes: (a, b) => b.bytes_sent - a.bytes_sent,
      age: (a, b) => Date.parse(a.connected_at) - Date.parse(b.connected_at),
    },
  });

  constructor() {
    const turn = (after) => {
      this.#after = after;
      return this.refresh();
    };
    byId("subscribers-first").addEventListener("click", () => turn(null));
    byId("subscribers-next").addEventListener("click", (event) => turn(event.target.value));
    byId("disconnect-cancel").addEventListener("click", () => byId("disconnect-dialog").close());
    byId("disconnect-form").addEventListener("submit", (event) => {
      event.preventDefault();
      byId("disconnect-dialog").close();
      disconnect(byId("disconnect-dialog").dataset.client).then(() => this.refresh());
    });
  }

  async refresh() {
    let list;
    try {
      list = await ask(`clients?${new URLSearchParams({ limit: LIMIT, ...(this.#after && { after: this.#after }) })}`);
    } catch (refusal) {
      byId("subscribers-panel").classList.add("refused");
      return showRefusal(byId("subscribers-note"), refusal);
    }
    byId("subscribers-panel").classList.remove("refused");
    const now = Date.now();
    for (const client of list.clients) client.rate = this.#rates.of(client.client_id, client.events_received, now);
    this.#rates.forgetOlder(now);
    this.#rows.show(list.clients);
    const isAll = list.count === list.clients.length;
    say(byId("subscribers-note"), isAll ? `${count(list.count)} connected.` : `${count(list.clients.length)} of ${count(list.count)} connected, in the order in which they connected.`);
    byId("subscribers-first").hidden = !this.#after;
    byId("subscribers-next").hidden = !list.next;
    byId("subscribers-next").value = list.next;
  }
}

const nameOf = (client) => client.client_name ?? client.client_id;

async function disconnect(id) {
  try {
    await ask(`clients/${id}`, { method: "DELETE" });
    say(byId("subscribers-done"), `Disconnected ${id}.`);
  } catch (refusal) {
    showRefusal(byId("subscribers-done"), refusal);
  }
}

function askBeforeDisconnecting(client) {
  byId("disconnect-name").textContent = nameOf(client);
  byId("disconnect-dialog").dataset.client = client.client_id;
  byId("disconnect-dialog").showModal();
}

function make(client) {
  const cells = Array.from({ length: 4 }, () => element("td", { className: "number" }));
  const name = element("th", { scope: "row" }, nameOf(client), element("small", {}, client.client_name ? client.client_id : ""));
  const isSocket = client.transport === "websocket";
  // A WebSocket without topics has none yet.
  const filters = client.topics.length ? client.topics : [isSocket ? "none" : "everything"];
  const topics = element("td", { className: "topics" }, ...filters.map((topic) => element("span", { className: "chip" }, topic)));
  const from = element("td", {}, client.remote_addr, element("small", {}, [isSocket && "WebSocket", client.user, ...client.tags].filter(Boolean).join(", ")));
  const button = element("button", { type: "button", className: "small", onclick: () => askBeforeDisconnecting(client) }, "Disconnect");
  button.setAttribute("aria-label", `Disconnect ${nameOf(client)}`);
  const row = element("tr", {}, name, cells[0], topics, ...cells.slice(1), from, element("td", {}, button));
  const update = ({ queue_size, rate: perSecond, bytes_sent, connected_at }) => {
    const texts = [count(queue_size), rate(perSecond), bytes(bytes_sent), duration((Date.now() - Date.parse(connected_at)) / 1000)];
    texts.forEach((text, index) => say(cells[index], text));
    cells[0].classList.toggle("warn", queue_size > 0);
  };
  return { row, update };
}
