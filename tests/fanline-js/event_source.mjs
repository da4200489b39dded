// `EventSource` for Node.
export { EventSource } from "eventsource";
