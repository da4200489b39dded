import { useEffect, useState } from "react";

const NOTHING = { status: "connecting", events: [], missed: 0 };

/**
 * Follows a stream for as long as the component is there: the newest `keep` events, oldest first, how the connection
 * is, and how many events the server said are missed (null when it cannot know). The browser reconnects by itself.
 */
export function useEventStream(url, { keep = 100, EventSource = globalThis.EventSource } = {}) {
  const [stream, setStream] = useState(NOTHING);
  useEffect(() => {
    setStream(NOTHING);
    const source = new EventSource(url);
    const change = (more) => setStream((stream) => ({ ...stream, ...more(stream) }));
    const take = ({ lastEventId, data }) => change(({ events }) => ({ events: [...events, { id: lastEventId, data }].slice(-keep) }));
    source.addEventListener("data", take);
    source.addEventListener("message", take);
    source.addEventListener("open", () => change(() => ({ status: "open" })));
    source.addEventListener("error", () => change(() => ({ status: source.readyState === EventSource.CLOSED ? "refused" : "reconnecting" })));
    source.addEventListener("gap", ({ data }) => {
      const lost = JSON.parse(data).missed;
      change(({ missed }) => ({ missed: lost === null || missed === null ? null : missed + lost }));
    });
    return () => source.close();
  }, [url, keep, EventSource]);
  return stream;
}
