// The stream of this tab: fanline.js, within the browser's limit of connections, or a WebSocket, which has no such limit.

import { connect } from "../fanline.js";
import { secret } from "./credentials.js";
import { releaseSlot, takeSlot } from "./slots.js";
import { Socket } from "./socket.js";

const QUERY = "client_name=console&on_lag=skip";
/** Milliseconds after which the page says that there is no answer. */
const IS_LATE = 5000;

/** The name of a stream that tabs share. Other pages of the origin see it, so it is a digest of the secret. */
async function nameOf(topics) {
  // Where browsers have no digests, tabs cannot share either.
  if (!globalThis.crypto?.subtle) return "";
  const text = new TextEncoder().encode(JSON.stringify([topics, secret()]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Live {
  #stream = null;
  #late = null;
  /** Changes with each call of `open` and `close`, so that an older one stops waiting. */
  #turn = 0;

  /** `handlers`: `onEvent(event)`, `onGap(gap)`, and `onState(state, text)`. */
  constructor(handlers) {
    this.handlers = handlers;
  }

  /** Follows the events of `topics`; none means all. `transport` is `sse` or `ws`. Replaces an earlier stream. */
  async open(topics, transport) {
    this.close();
    const turn = this.#turn;
    this.#show("connecting", "Connecting");
    const handlers = {
      onEvent: (event) => turn === this.#turn && this.handlers.onEvent(event),
      onGap: (gap) => turn === this.#turn && this.handlers.onGap(gap),
      onState: (state, detail) => turn === this.#turn && this.#change(state, detail),
    };
    if (transport === "ws") {
      this.#stream = new Socket(`ws?${QUERY}`, { topics, ...handlers });
      return;
    }
    const name = await nameOf(topics);
    if (turn !== this.#turn) return;
    while (!(await takeSlot(name))) {
      if (turn !== this.#turn) return;
      this.#show("full", "Waiting for a connection");
      await new Promise((done) => setTimeout(done, 1000 + 2000 * Math.random()));
    }
    if (turn !== this.#turn) return;
    this.#stream = connect(`stream?${QUERY}`, { topics, token: secret(), share: name, ...handlers });
  }

  close() {
    this.#turn++;
    clearTimeout(this.#late);
    this.#stream?.close();
    this.#stream = null;
    releaseSlot();
  }

  #change(state, detail) {
    clearTimeout(this.#late);
    if (state === "connecting") {
      this.#late = setTimeout(() => this.#show("late", "No answer yet"), IS_LATE);
      this.#show(state, "Connecting");
    }
    if (state === "open") this.#show(state, "Live");
    if (state === "waiting") this.#show(state, "Reconnecting", detail?.reason);
    if (state === "closed") this.#show(state, "Not connected", detail?.reason ?? detail);
  }

  #show(state, text, reason) {
    this.handlers.onState(state, text, reason);
  }
}
