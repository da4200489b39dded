// Follows a stream, and resumes it: node follow.mjs 'http://localhost:8000/stream?topics=log'
import { connect } from "fanline";

connect(process.argv[2], {
  onEvent: ({ id, data }) => console.log(id, typeof data === "string" ? data : JSON.stringify(data)),
  onGap: (gap) => console.error("missed events:", gap),
  onState: (state, detail) => {
    console.error(state, detail ?? "");
    // The server refuses the stream for good.
    if (state === "closed") process.exitCode = 1;
  },
});
