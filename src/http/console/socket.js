// The stream of this tab over WebSocket, with the options and the states of fanline.js.

import { secret } from "./credentials.js";
import { refusalOf } from "./server.js";

/** Seconds after which a quiet server sends a heartbeat: a page does not see pings. */
const HEARTBEAT = 15;
/** Milliseconds before the second attempt, and the longest wait that failures lead to. */
const RETRY = 5000;
const MAX_RETRY = 30_000;

export class Socket {
  #retry = RETRY;
  #failures = 0;
  #position;
  #socket;
  #timer;

  /** `path` is relative to the page. No `topics` means all. `handlers` are `onEvent`, `onGap` and `onState`. */
  constructor(path, { topics, ...handlers }) {
    this.handlers = handlers;
    this.url = new URL(path, location.href);
    this.url.searchParams.set("topics", topics.join() || "**");
    this.url.searchParams.set("heartbeat", HEARTBEAT);
    this.#open();
  }

  close() {
    const socket = this.#socket;
    this.#socket = undefined;
    clearTimeout(this.#timer);
    socket?.close();
  }

  /** The address of the next attempt, for a request (`http`) or a WebSocket (`ws`). A page can send no headers with either. */
  #address(scheme) {
    const url = new URL(this.url);
    url.protocol = url.protocol.replace("http", scheme);
    if (this.#position) url.searchParams.set("last_event_id", this.#position);
    return url;
  }

  #open() {
    this.handlers.onState("connecting");
    const url = this.#address("ws");
    if (secret()) url.searchParams.set("access_token", secret());
    const socket = (this.#socket = new WebSocket(url));
    let isOpen = false;
    const lost = (reason) => {
      if (socket !== this.#socket) return;
      this.close();
      if (isOpen) this.#wait(reason);
      else this.#explain();
    };
    const heard = () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => lost("the connection was silent"), HEARTBEAT * 2500);
    };
    heard();
    socket.onopen = () => (isOpen = true);
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      heard();
      this.#receive(JSON.parse(data));
    };
    socket.onclose = ({ code, reason }) => lost(reason || `the connection was closed with code ${code}`);
  }

  #receive({ type, id, topic, event, data, text }) {
    const { onEvent, onGap, onState } = this.handlers;
    if (!["event", "gap", "system"].includes(type)) return;
    this.#position = id ?? this.#position;
    if (type === "event") onEvent({ id, topic, event, data: data === undefined ? text : data });
    if (type === "gap") onGap(data);
    if (type === "system" && data.message === "connected") {
      this.#retry = data.retry || this.#retry;
      this.#failures = 0;
      onState("open");
    }
  }

  /** A page is not told why a handshake failed. The response to the same subscription as a stream says it. */
  async #explain() {
    const attempt = (this.#socket = new AbortController());
    attempt.close = attempt.abort;
    const url = this.#address("http");
    url.pathname = url.pathname.replace(/ws$/, "stream");
    const headers = secret() ? { authorization: `Bearer ${secret()}` } : {};
    const response = await fetch(url, { headers, cache: "no-store", signal: attempt.signal }).catch(() => null);
    const refusal = response && !response.ok ? await refusalOf(response) : null;
    if (attempt !== this.#socket) return;
    this.close();
    const isFinal = refusal && refusal.status < 500 && ![408, 425, 429].includes(refusal.status);
    if (isFinal) this.handlers.onState("closed", refusal.message);
    else this.#wait(refusal?.message ?? (response ? "the server or a proxy refuses WebSocket" : "the server cannot be reached"));
  }

  #wait(reason) {
    const least = Math.min(this.#retry * 2 ** this.#failures++, Math.max(this.#retry, MAX_RETRY));
    const retryIn = Math.round(least * (1 + Math.random() / 2));
    this.handlers.onState("waiting", { reason, retryIn });
    this.#timer = setTimeout(() => this.#open(), retryIn);
  }
}
