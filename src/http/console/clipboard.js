// Copying text, and shell commands that repeat what the page does.

import { secret } from "./credentials.js";
import { element } from "./dom.js";

/** A button that copies what `text()` returns. Browsers have a clipboard in secure contexts only. */
export function copyButton(label, text) {
  const button = element("button", { type: "button", className: "small", hidden: !navigator.clipboard }, label);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

/** The command that publishes `body`, a JSON text. It has a place for the key instead of the key. */
export function curl(body) {
  const quoted = `'${body.replaceAll("'", "'\\''")}'`;
  const authorization = secret() ? " -H 'authorization: Bearer YOUR_KEY'" : "";
  return `curl -H 'content-type: application/json'${authorization} -d ${quoted} ${new URL("publish", location.href)}`;
}
