// Requests to the server that sent this page. Paths are relative to the page, so that a path prefix is kept.

import { askForSecret, secret } from "./credentials.js";
import { element } from "./dom.js";

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
    const isLate = error.name === "TimeoutError";
    throw new Refusal(0, isLate ? "The server did not answer within 10 s." : "The server cannot be reached.");
  }
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

/** Shows a refusal in `place`, with a way to enter credentials if these could help. */
export function showRefusal(place, refusal) {
  const text = `${refusal.message[0].toUpperCase()}${refusal.message.slice(1)}`;
  if (place.firstChild?.textContent === text) return;
  place.replaceChildren(element("span", {}, text));
  if (refusal.needsRights) {
    place.append(" ", element("button", { type: "button", onclick: () => askForSecret(text) }, "Enter a key or token"));
  }
}
