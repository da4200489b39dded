// The streams of this browser's tabs. Over HTTP/1.1 a browser opens six connections to a server, and a seventh request
// waits without an error. So tabs count their streams, and leave one connection for pages and requests.

const STREAMS = 5;
const ANSWERS_WITHIN = 250;

/** What a page says when it waits for a connection. */
export const LIMIT = "Over HTTP/1.1 a browser opens at most six connections to one server.";
/** HTTP/2 and HTTP/3 have one connection for all requests. The protocol of a page from the cache is unknown. */
export const isLimited = !["h2", "h3"].includes(performance.getEntriesByType("navigation")[0]?.nextHopProtocol);
/** Whether fanline.js can share a stream among tabs: in secure contexts, which localhost is. */
export const canShare = "locks" in navigator && "BroadcastChannel" in window;

const channel = new BroadcastChannel("fanline-console-streams");
const others = new Set();
const own = String(Math.random());
let held = null;

channel.onmessage = ({ data }) => {
  if (data.asks && held) channel.postMessage({ held });
  if (data.held) others.add(data.held);
};

/** Takes a slot for the stream `name`, which tabs share if they can. Returns whether there was one. */
export async function takeSlot(name) {
  if (!isLimited) return true;
  held = canShare ? name : own;
  others.clear();
  // Answers also count this tab where another one asks at the same time.
  channel.postMessage({ asks: true, held });
  await new Promise((done) => setTimeout(done, ANSWERS_WITHIN));
  others.delete(held);
  if (others.size < STREAMS) return true;
  held = null;
  return false;
}

export function releaseSlot() {
  held = null;
}
