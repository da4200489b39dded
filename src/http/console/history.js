// A bounded part of a topic's history: a stream that is read until it has caught up, and then closed.

import { headers, refusalOf } from "./server.js";

/** A server that reads old events from its backbone does not know their number in advance. */
const QUIET = 1000;

/**
 * Returns up to `limit` items of the topics' history, the oldest first: events, and `{ gap }` where some are missing.
 * `from`: a position, or "earliest". Without it, the newest events. Throws a `Refusal`.
 */
export async function readHistory(topics, { from, limit }) {
  const start = from ? { last_event_id: from } : { history: limit };
  const query = new URLSearchParams({ format: "envelope", topics: topics.join(","), client_name: "console history", on_lag: "skip", ...start });
  const response = await fetch(`stream?${query}`, { headers: headers(), cache: "no-store" });
  if (!response.ok) throw await refusalOf(response);
  const items = [];
  let left = limit;
  for await (const { event, data } of messages(response.body)) {
    const body = JSON.parse(data);
    if (event === "system") {
      if (body.message !== "connected") break;
      left = Math.min(limit, body.replayed ?? limit);
    } else if (event === "gap") items.push({ gap: body });
    else if (body.type === "event") {
      items.push({ ...body, data: "text" in body ? body.text : body.data });
      left--;
    }
    if (left === 0) break;
  }
  return items;
}

/** The messages of an event stream until its end, or until it is quiet. */
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let message = {};
  try {
    for (;;) {
      const quiet = new Promise((done) => setTimeout(done, QUIET, { done: true }));
      const { done, value } = await Promise.race([reader.read(), quiet]);
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const [, field, text] = line.match(/^(\w*): ?(.*)$/) ?? [];
        if (field) message[field] = text;
        else if (line === "" && message.data !== undefined) {
          yield message;
          message = {};
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
