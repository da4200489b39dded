// The form that publishes an event.

import { copyButton, curl } from "./clipboard.js";
import { byId, say } from "./dom.js";
import { Refusal, ask, showRefusal } from "./server.js";

/** The body of the request. The JSON of the event is sent as it was typed. */
function body() {
  const members = [`"topic":${JSON.stringify(byId("publish-topic").value.trim())}`];
  const name = byId("publish-name").value.trim();
  if (name) members.push(`"event":${JSON.stringify(name)}`);
  const data = byId("publish-data").value;
  if (byId("publish-is-text").checked) return `{${members},"text":${JSON.stringify(data)}}`;
  try {
    JSON.parse(data);
  } catch (error) {
    throw new Refusal(0, `The data is not JSON: ${error.message}. To send it as it is, choose Text.`);
  }
  return `{${members},"data":${data}}`;
}

async function publish(event) {
  event.preventDefault();
  try {
    const { id } = await ask("publish", { method: "POST", body: body() });
    say(byId("publish-done"), id ? `Published as ${id}.` : "Published.");
  } catch (refusal) {
    showRefusal(byId("publish-done"), refusal);
  }
}

export function setUpPublisher() {
  const form = byId("publish-form");
  form.addEventListener("submit", publish);
  byId("publish-data").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("publish-buttons").append(copyButton("Copy as curl", () => curl(body())));
}
