// A copy of the server's comments. An event names the comment that changed, and the copy fetches it: "notify, then fetch".
import { connect } from "/live/fanline.js";

const EVERYTHING = "everything";
/** Milliseconds before a failed request is repeated, and until an event of typing is out of date. */
const RETRY = 1000;
const TYPING = 4000;

export class Discussion {
  /** What to fetch: ids of comments, or everything. It stays here until it was fetched. */
  #stale = new Set();
  #isFetching = false;
  /** Identifies this page in events of typing. */
  #page = String(Math.random());
  /** How far the server's clock is ahead, in milliseconds. */
  #ahead = 0;
  #typedAt = 0;

  /** `view` has `replace(comments)`, `show(comment)`, `remove(id)`, `typing(author)` and `state(text)`. */
  constructor(name, view) {
    this.name = name;
    this.view = view;
    this.#refresh(EVERYTHING);
  }

  async create(author, text) {
    this.#refresh((await this.#request("POST", "comments", { author, text })).id);
  }

  async update(id, text) {
    await this.#request("PUT", `comments/${id}`, { text });
    this.#refresh(id);
  }

  async remove(id) {
    await this.#request("DELETE", `comments/${id}`);
    this.#refresh(id);
  }

  /** Tells the other pages that `author` is typing, at most every two seconds. */
  async typing(author) {
    if (Date.now() - this.#typedAt < TYPING / 2) return;
    this.#typedAt = Date.now();
    // Without it the others lack an indicator, and nothing else.
    await this.#request("POST", "typing", { author, page: this.#page }).catch(() => {});
  }

  /** Follows the changes after `position`. */
  #follow(position) {
    const [changes, typing] = ["comments", "typing"].map((part) => `discussion:${this.name}:${part}`);
    this.stream = connect("/live/stream", {
      topics: [changes, typing],
      lastEventId: position,
      onEvent: ({ topic, data }) => (topic === changes ? this.#refresh(data.id) : this.#hear(data)),
      onGap: () => this.#refresh(EVERYTHING),
      onState: (state) => this.view.state(state),
    });
  }

  #hear({ author, page, at }) {
    // A page that was offline gets old events as well.
    const age = Date.now() + this.#ahead - at;
    if (page !== this.#page && age < TYPING) this.view.typing(author, TYPING - age);
  }

  #refresh(id) {
    this.#stale.add(id);
    if (!this.#isFetching) this.#fetchStale();
  }

  /** Fetches one after the other: no older answer comes after a newer one. */
  async #fetchStale() {
    this.#isFetching = true;
    while (this.#stale.size) {
      const [id] = this.#stale;
      // Before the request: a change in the meantime is fetched again.
      this.#stale.delete(id);
      try {
        await (id === EVERYTHING ? this.#fetchAll() : this.#fetchOne(id));
      } catch {
        this.#stale.add(id);
        await new Promise((wake) => setTimeout(wake, RETRY));
      }
    }
    this.#isFetching = false;
  }

  async #fetchAll() {
    const { position, comments } = await this.#request("GET", "comments");
    this.view.replace(comments);
    if (!this.stream) this.#follow(position);
  }

  async #fetchOne(id) {
    try {
      this.view.show(await this.#request("GET", `comments/${id}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      this.view.remove(id);
    }
  }

  async #request(method, path, body) {
    const json = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(`/discussions/${encodeURIComponent(this.name)}/${path}`, { method, cache: "no-store", ...json });
    this.#ahead = Date.parse(response.headers.get("date")) - Date.now() || 0;
    if (!response.ok) throw Object.assign(Error(await response.text()), { status: response.status });
    return response.status === 204 ? undefined : response.json();
  }
}
