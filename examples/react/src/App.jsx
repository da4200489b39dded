import { useEventStream } from "./useEventStream.js";

export function App({ url = "/stream", ...options }) {
  const { state, events, missed } = useEventStream(url, options);
  return (
    <main>
      <h1>Events</h1>
      <p role="status">{state}</p>
      {missed !== 0 && <p role="alert">Missed {missed ?? "some"} events</p>}
      <ol>{events.map(({ id, data }) => <li key={id}>{id} {typeof data === "string" ? data : JSON.stringify(data)}</li>)}</ol>
    </main>
  );
}
