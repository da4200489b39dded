// Requests to the server that sent this page. Paths are relative to the page, so that a path prefix is kept.

import { askForSecret, secret } from "./credentials.js";
import { element } from "./dom.js";
import { LIMIT, isLimited } from "./slots.js";

/** A request that the server refused or did not answer. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
  /** Whether other credentials could help. */
  get needsRights() { return this.status === 401 || this.status === 403; }
}

export function headers(more = {}) {
  return secret() ? { authorization: `Bearer ${secret()}`, ...more } : more;
}

/** The refusal that a response describes. */
export async function refusalOf(response) {
  const problem = await response.json().catch(() => ({}));
  return new Refusal(response.status, problem.detail ?? `${response.status} ${response.statusText}`);
}

/** Returns the JSON that the server answers with. Throws a `Refusal`. */
export async function ask(path, { method = "GET", body } = {}) {
  const sent = headers(body === undefined ? {} : { "content-type": "application/json" });
  let response;
  try {
    response = await fetch(path, { method, body, headers: sent, cache: "no-store", signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    if (error.name !== "TimeoutError") throw new Refusal(0, "The server cannot be reached.");
    throw new Refusal(0, `The server did not answer within 10 s. ${isLimited ? `${LIMIT} Streams of other tabs may use them all.` : ""}`);
  }
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

/** The ways to send credentials, in the server's words. The page has a field for them instead. */
const WAYS = /: Authorization: Bearer.*$/s;

/** Shows a refusal in `place`, with a way to enter credentials if these could help. */
export function showRefusal(place, { message, needsRights }) {
  const [first, ...rest] = message.replace(WAYS, ".");
  const text = [first.toUpperCase(), ...rest].join("");
  if (place.firstChild?.textContent === text) return;
  place.replaceChildren(element("span", {}, text));
  if (needsRights || WAYS.test(message)) {
    place.append(" ", element("button", { type: "button", onclick: () => askForSecret(text) }, "Enter a key or token"));
  }
}
