// A bounded part of a topic's history: a stream that is read until it has caught up, and then closed.

import { headers, refusalOf } from "./server.js";

/** Milliseconds without a message after which a part of the history has ended, although its events have not all come. */
const QUIET = 30_000;
/** A server that reads old events from its backbone does not know their number in advance. */
const QUIET_UNCOUNTED = 1000;

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
  let [left, quiet] = [limit, QUIET];
  for await (const { event, data } of messages(response.body, () => quiet)) {
    const body = JSON.parse(data);
    if (event === "system") {
      if (body.message !== "connected") break;
      left = Math.min(limit, body.replayed ?? limit);
      if (body.replayed == null) quiet = QUIET_UNCOUNTED;
    } else if (event === "gap") items.push({ gap: body });
    else if (body.type === "event") {
      items.push({ ...body, data: "text" in body ? body.text : body.data });
      left--;
    }
    if (left === 0) break;
  }
  return items;
}

/** The messages of an event stream until its end, or until it is quiet for `patience()` milliseconds. */
async function* messages(body, patience) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let message = {};
  try {
    for (;;) {
      const quiet = new Promise((done) => setTimeout(done, patience(), { done: true }));
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
