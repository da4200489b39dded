// Follows a stream; the package reconnects by itself, with the last id: node follow.mjs 'http://localhost:8000/stream?topics=log'
import { EventSource } from "eventsource";

const events = new EventSource(process.argv[2]);
const print = (event) => console.log(`${event.lastEventId} ${event.data}`);
events.addEventListener("data", print);
// What has no name of its own.
events.addEventListener("message", print);
events.addEventListener("system", (event) => console.error("connected:", event.data));
events.addEventListener("gap", (event) => console.error("missed events:", event.data));
events.addEventListener("error", (event) => {
  console.error("connection lost:", event.message);
  // An answer that is not 200 ends an EventSource for good.
  if (events.readyState === EventSource.CLOSED) process.exit(1);
});
