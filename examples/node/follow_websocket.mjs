// Follows topics with ws, and resumes: node follow_websocket.mjs 'ws://localhost:8000/ws?topics=log'
import WebSocket from "ws";

/** Milliseconds of silence after which a connection is lost: the server pings a quiet one more often. */
const SILENCE = 75_000;

let last;
let retry = 5000;

function follow() {
  const socket = new WebSocket(process.argv[2], { headers: last ? { "last-event-id": last } : {} });
  let wait = 0;
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => socket.terminate(), SILENCE);
  };
  heard();
  for (const sign of ["open", "ping", "message"]) socket.on(sign, heard);
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (["event", "gap", "system"].includes(message.type)) last = message.id ?? last;
    if (message.type === "event") console.log(message.id, JSON.stringify(message.data ?? message.text));
    if (message.type === "gap") console.error("missed events:", message.data);
    if (message.type === "system") {
      retry = message.data.retry ?? retry;
      console.error("server:", message.data.message);
    }
  });
  socket.on("unexpected-response", (request, { statusCode, headers }) => {
    wait = Number(headers["retry-after"]) * 1000 || 0;
    // The server is full or draining, or the client was too fast. Any other refusal is for good.
    if (statusCode < 500 && statusCode !== 429) process.exitCode = 1;
    console.error("refused:", statusCode);
    socket.terminate();
  });
  socket.on("error", (error) => console.error(error.message));
  socket.on("close", (code, reason) => {
    clearTimeout(silence);
    console.error("disconnected:", code, `${reason}`);
    if (!process.exitCode) setTimeout(follow, Math.max(retry, wait));
  });
}

follow();
