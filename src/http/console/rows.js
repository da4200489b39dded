// The rows of a table that is refreshed: a row keeps its element, and with it the keyboard's focus, while its cells change.

export class Rows {
  #rows = new Map();
  #shown = [];
  #order = null;

  /** `make(item)` returns `{ row, update }`: a `tr`, and a function that shows a newer item in it. */
  constructor(table, { keyOf, make, orders }) {
    Object.assign(this, { body: table.tBodies[0], keyOf, make });
    for (const heading of table.tHead.querySelectorAll("[data-order]")) {
      heading.querySelector("button").addEventListener("click", () => {
        table.tHead.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        const isAscending = heading.dataset.order === "name";
        heading.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
        this.#order = orders[heading.dataset.order];
        this.show(this.#shown);
      });
    }
  }

  show(items) {
    this.#shown = items;
    const ordered = this.#order ? [...items].sort(this.#order) : items;
    const kept = new Set(ordered.map(this.keyOf));
    for (const [key, { row }] of this.#rows) {
      if (kept.has(key)) continue;
      row.remove();
      this.#rows.delete(key);
    }
    ordered.forEach((item, place) => {
      const key = this.keyOf(item);
      if (!this.#rows.has(key)) this.#rows.set(key, this.make(item));
      const { row, update } = this.#rows.get(key);
      update(item);
      if (this.body.rows[place] !== row) this.body.insertBefore(row, this.body.rows[place] ?? null);
    });
  }
}
