// Follows a stream. The package reconnects with the last id: node follow.mjs 'http://localhost:8000/stream?topics=log'
import { EventSource } from "eventsource";

const events = new EventSource(process.argv[2]);
const print = (event) => console.log(`${event.lastEventId} ${event.data}`);
events.addEventListener("data", print);
// Events without a name of their own.
events.addEventListener("message", print);
events.addEventListener("system", (event) => console.error("connected:", event.data));
events.addEventListener("gap", (event) => console.error("missed events:", event.data));
events.addEventListener("error", (event) => {
  console.error("connection lost:", event.message);
  // Any status other than 200 ends an EventSource permanently.
  if (events.readyState === EventSource.CLOSED) process.exit(1);
});
