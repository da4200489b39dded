// The list of events: live with the newest first, or a part of the history with the oldest first.

import { byId, say } from "./dom.js";
import { eventRow, textOf } from "./event_row.js";
import { count, events } from "./format.js";
import { readHistory } from "./history.js";
import { showRefusal } from "./server.js";

/** Events that are kept for the text filter, and rows of the list. */
const KEPT = 2000;
const ROWS = 300;
/** Milliseconds between two updates of the list. */
const PAUSE = 200;
/** Events of a part of the history, and those that a new list begins with. */
const PAGE = 100;
const RECENT = 50;

export class Inspector {
  #kept = [];
  #new = [];
  /** Ids of the events that `addRecent` has added: the stream may deliver them later. */
  #recent = new Set();
  #timer = null;
  #isPaused = false;
  /** The shown part of the history, and the position that the next one follows. `null` while the list is live. */
  #history = null;
  #received = 0;

  /** `topicsOf()` returns the filters that the page follows. */
  constructor(topicsOf) {
    this.topicsOf = topicsOf;
    byId("pause").addEventListener("click", () => this.#pause(!this.#isPaused));
    byId("clear").addEventListener("click", () => this.clear());
    byId("contains").addEventListener("input", () => this.#rebuild());
    byId("history-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.showHistory(byId("history-from").value.trim() || "earliest");
    });
    byId("history-next").addEventListener("click", () => this.showHistory(this.#history.next));
    byId("history-end").addEventListener("click", () => this.#show(null));
    this.#pause(false);
  }

  /** Adds an event or `{ gap }` of the stream. */
  add(item) {
    this.#received++;
    if (this.#recent.has(item.id)) return;
    this.#new.push({ ...item, at: Date.now() });
    if (this.#new.length > KEPT) this.#new.shift();
    this.#timer ??= setTimeout(() => this.#update(), PAUSE);
  }

  /** Puts the newest retained events below those that came meanwhile. */
  async addRecent() {
    const kept = this.#kept;
    const recent = await readHistory(this.topicsOf(), { limit: RECENT }).catch(() => []);
    // The list was cleared meanwhile, perhaps for other topics.
    if (kept !== this.#kept) return;
    this.#update();
    const known = new Set([...kept, ...this.#new].map(({ id }) => id));
    const added = recent.filter(({ id }) => id && !known.has(id));
    this.#recent = new Set(added.map(({ id }) => id));
    kept.unshift(...added);
    // The other rows stay as they are: one of them may be open.
    if (!this.#history) byId("events").append(...this.#rowsOf(added.filter((item) => this.#contains(item))).reverse());
    this.#describe();
  }

  clear() {
    [this.#kept, this.#new, this.#recent] = [[], [], new Set()];
    this.#show(null);
  }

  async showHistory(from) {
    try {
      const items = await readHistory(this.topicsOf(), { from, limit: PAGE });
      byId("history-from").value = from;
      this.#show({ from, items, next: items.findLast(({ id }) => id)?.id });
    } catch (refusal) {
      showRefusal(byId("events-note"), refusal);
    }
  }

  /** Shows a part of the history, or the live list for `null`. */
  #show(history) {
    this.#history = history;
    byId("history-next").hidden = !history?.next;
    byId("history-end").hidden = history === null;
    this.#rebuild();
    this.#pause(false);
  }

  #pause(isPaused) {
    this.#isPaused = isPaused;
    byId("pause").textContent = isPaused ? "Resume" : "Pause";
    byId("pause").setAttribute("aria-pressed", isPaused);
    this.#update();
  }

  /** Moves new events to the list. */
  #update() {
    this.#timer = clearTimeout(this.#timer) ?? null;
    say(byId("received"), `${count(this.#received)} received`);
    if (this.#isPaused || this.#history) return this.#describe();
    const items = this.#new;
    this.#new = [];
    this.#kept.push(...items);
    this.#kept.splice(0, this.#kept.length - KEPT);
    const list = byId("events");
    list.prepend(...this.#rowsOf(items.filter((item) => this.#contains(item)).slice(-ROWS)).reverse());
    while (list.childElementCount > ROWS) list.lastElementChild.remove();
    this.#describe();
  }

  #rebuild() {
    const items = (this.#history?.items ?? this.#kept).filter((item) => this.#contains(item)).slice(-ROWS);
    const shown = this.#rowsOf(items);
    byId("events").replaceChildren(...(this.#history ? shown : shown.reverse()));
    this.#describe();
  }

  #describe() {
    say(byId("events-note"), this.#history ? this.#describeHistory(this.#history) : this.#describeLive());
  }

  #describeHistory({ from, items }) {
    const found = events(items.filter(({ id }) => id).length);
    return `History: ${found} ${from === "earliest" ? "from the earliest on" : `after ${from}`}, oldest first.`;
  }

  #describeLive() {
    if (this.#isPaused) return `Paused. ${count(this.#new.length)} new.`;
    if (byId("events").childElementCount) return "Live, newest first.";
    return byId("contains").value && this.#kept.length ? "No event of this page contains the text." : "No event yet.";
  }

  #contains(item) {
    const wanted = byId("contains").value.toLowerCase();
    if (!wanted || item.gap) return true;
    return `${item.topic} ${item.event} ${item.id} ${textOf(item)}`.toLowerCase().includes(wanted);
  }

  #rowsOf(items) {
    const onOpen = () => this.#history || this.#pause(true);
    const onHistory = (id) => this.showHistory(id);
    return items.map((item) => eventRow(item, { onOpen, onHistory }));
  }
}
