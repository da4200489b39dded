// Uses of the types. scripts/clients compiles this file: each line below a `@ts-expect-error` must be an error.
import { connect, type Gap, type Stream, type StreamEvent } from "../../src/http/fanline-js/fanline.js";

const stream: Stream = connect(new URL("https://stream.example/stream"), {
  topics: ["prices", "orders.*"] as const,
  lastEventId: "earliest",
  token: async () => (await fetch("/token")).text(),
  share: "user 7",
  credentials: "include",
  onEvent: ({ id, topic, event, data }: StreamEvent<{ price: number }>) => console.log(id, topic, event, data.price + 1),
  onGap: ({ missed, topics }: Gap) => console.log((missed ?? 0) + 1, topics?.length),
  onState: (state, detail) => {
    if (state === "waiting") console.log(detail.retryIn + 1, detail.reason.length);
    else if (state === "closed") console.log(detail.length);
    // @ts-expect-error: an open connection has no detail
    else console.log(detail.length);
  },
});
const id: string | undefined = stream.lastEventId;
connect("/stream", { lastEventId: id, token: () => undefined }).close();

// @ts-expect-error: topics are a list
connect("/stream", { topics: "prices" });
// @ts-expect-error: there is no such option
connect("/stream", { lastEventID: "1-1" });
// @ts-expect-error: the position is the stream's own
stream.lastEventId = "1-1";
// @ts-expect-error: a gap may have no number
connect("/stream", { onGap: ({ missed }) => missed + 1 });
