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
const PAGE = 100;

export class Inspector {
  #kept = [];
  #new = [];
  #timer = null;
  #isPaused = false;
  /** The position that the shown part of the history follows. `null` while the list is live. */
  #from = null;
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
    byId("history-next").addEventListener("click", () => this.showHistory(this.#from));
    byId("history-end").addEventListener("click", () => this.#backToLive());
    this.#pause(false);
  }

  /** Adds an event or `{ gap }` of the stream. */
  add(item) {
    this.#received++;
    this.#new.push({ ...item, at: Date.now() });
    if (this.#new.length > KEPT) this.#new.shift();
    this.#timer ??= setTimeout(() => this.#update(), PAUSE);
  }

  /** Puts the newest retained events below those that came meanwhile. */
  async addRecent() {
    const recent = await readHistory(this.topicsOf(), { limit: 50 }).catch(() => []);
    this.#update();
    const known = new Set(this.#kept.map(({ id }) => id));
    this.#kept.unshift(...recent.filter(({ id }) => id && !known.has(id)));
    this.#rebuild();
  }

  clear() {
    [this.#kept, this.#new] = [[], []];
    this.#rebuild();
  }

  async showHistory(from) {
    let items;
    try {
      items = await readHistory(this.topicsOf(), { from, limit: PAGE });
    } catch (refusal) {
      return showRefusal(byId("events-note"), refusal);
    }
    const last = items.findLast(({ id }) => id)?.id;
    this.#from = last ?? from;
    this.#timer = clearTimeout(this.#timer) ?? null;
    byId("history-from").value = from;
    byId("history-next").hidden = !last;
    byId("history-end").hidden = false;
    byId("events").replaceChildren(...this.#rowsOf(items.filter((item) => this.#contains(item))));
    say(byId("events-note"), `History: ${events(items.filter(({ id }) => id).length)} after ${from}, oldest first.`);
  }

  #backToLive() {
    this.#from = null;
    byId("history-next").hidden = byId("history-end").hidden = true;
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
    if (this.#isPaused || this.#from) return this.#describe();
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
    if (this.#from) return this.#describe();
    const items = this.#kept.filter((item) => this.#contains(item)).slice(-ROWS);
    byId("events").replaceChildren(...this.#rowsOf(items).reverse());
    this.#describe();
  }

  #describe() {
    if (this.#from) return;
    const isEmpty = !byId("events").childElementCount;
    const isFiltered = byId("contains").value && this.#kept.length;
    const shown = isFiltered ? "No event of this page contains the text." : "No event yet.";
    const paused = `Paused. ${count(this.#new.length)} new.`;
    say(byId("events-note"), this.#isPaused ? paused : isEmpty ? shown : "Live, newest first.");
  }

  #contains(item) {
    const wanted = byId("contains").value.toLowerCase();
    if (!wanted || item.gap) return true;
    return `${item.topic} ${item.event} ${item.id} ${textOf(item)}`.toLowerCase().includes(wanted);
  }

  #rowsOf(items) {
    const onOpen = () => this.#from || this.#pause(true);
    const onHistory = (id) => this.showHistory(id);
    return items.map((item) => eventRow(item, { onOpen, onHistory }));
  }
}
