// The API key or token of this tab, kept until the tab is closed.

import { byId, say } from "./dom.js";

const KEY = "fanline-secret";
/** Has an event `change` when the secret changes. */
export const credentials = new EventTarget();
let secretWithoutStorage;

export function secret() {
  try { return sessionStorage.getItem(KEY) ?? undefined; } catch { return secretWithoutStorage; }
}

function keep(value) {
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch { secretWithoutStorage = value || undefined; }
  show();
  credentials.dispatchEvent(new Event("change"));
}

const show = () => say(byId("credentials"), secret() ? "Access: with key" : "Access: no key");

/** Opens the dialog, with the reason why the server wants credentials. */
export function askForSecret(reason) {
  byId("secret").value = secret() ?? "";
  byId("secret-reason").textContent = reason ?? "";
  byId("secret-dialog").showModal();
}

export function setUpCredentials() {
  // A link to the console may carry a token. It leaves the address, which people copy and servers log.
  const address = new URL(location.href);
  if (address.searchParams.has("access_token")) {
    keep(address.searchParams.get("access_token"));
    address.searchParams.delete("access_token");
    history.replaceState(null, "", address);
  }
  show();
  byId("credentials").addEventListener("click", () => askForSecret());
  byId("secret-form").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("secret-dialog").close();
    keep(byId("secret").value.trim());
  });
  byId("secret-forget").addEventListener("click", () => {
    byId("secret-dialog").close();
    keep("");
  });
  byId("secret-cancel").addEventListener("click", () => byId("secret-dialog").close());
}
