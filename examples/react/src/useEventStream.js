import { connect } from "fanline";
import { useEffect, useState } from "react";

const NOTHING = { state: "connecting", events: [], missed: 0 };

/**
 * Follows a stream while the component is mounted. Returns the state of the connection, the newest `keep` events, oldest
 * first, and the number of events that are known to be missing, or null if it is unknown.
 */
export function useEventStream(url, { keep = 100, ...options } = {}) {
  const [stream, setStream] = useState(NOTHING);
  // The options are compared by value: a component may create them each time it renders.
  const key = JSON.stringify(options);
  useEffect(() => {
    setStream(NOTHING);
    const { close } = connect(url, {
      ...JSON.parse(key),
      onEvent: (event) => setStream((stream) => ({ ...stream, events: [...stream.events, event].slice(-keep) })),
      onGap: ({ missed }) => setStream((stream) => ({ ...stream, missed: missed === null || stream.missed === null ? null : stream.missed + missed })),
      onState: (state) => setStream((stream) => ({ ...stream, state })),
    });
    return close;
  }, [url, keep, key]);
  return stream;
}
