// Readers of a stream, one for each kind of client that requests compression by itself or by an option. Each resumes with its last id.
import { spawn } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";

import { EventSource } from "../fanline-js/event_source.mjs";
import { launch } from "../fanline-js/browsers.mjs";
import { python } from "./follow.mjs";

const script = (name) => new URL(name, import.meta.url).pathname;

/** Parses the text of an event stream, and calls `take(event)` with `{ id, type, data }` for each event. */
function parser(take) {
  let rest = "";
  return (text) => {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if ("data" in fields) take({ id: fields.id, type: fields.event ?? "message", data: fields.data });
    }
  };
}

/** Reads with `read(url, last, feed, signal)` again and again. An incomplete event is sent again. */
function repeated(read) {
  return async (url, take) => {
    const stop = new AbortController();
    let last;
    const loop = async () => {
      while (!stop.signal.aborted) {
        const feed = parser((event) => {
          last = event.id ?? last;
          take(event);
        });
        await read(url, last, feed, stop.signal).catch(() => {});
        await pause(50);
      }
    };
    const ended = loop();
    return async () => {
      stop.abort();
      await ended;
    };
  };
}

/** A program that prints the decoded body. */
const program = (command, args) => repeated(async (url, last, feed, signal) => {
  const child = spawn(command, [...args(last), url], { stdio: ["ignore", "pipe", "ignore"], signal, killSignal: "SIGKILL" });
  child.on("error", () => {});
  for await (const text of child.stdout.setEncoding("utf8")) feed(text);
});

const header = (last) => (last ? { "last-event-id": last } : {});

/** fetch of Node, which requests gzip unless `headers` do. */
export const fetched = (headers = {}) => repeated(async (url, last, feed, signal) => {
  const { body } = await fetch(url, { headers: { ...headers, ...header(last) }, signal });
  for await (const text of body.pipeThrough(new TextDecoderStream())) feed(text);
});

const TYPES = ["message", "gap", "system", "heartbeat", "data"];

async function eventSource(url, take) {
  const source = new EventSource(url);
  for (const type of TYPES) source.addEventListener(type, ({ lastEventId, data }) => take({ id: lastEventId, type, data }));
  return () => source.close();
}

/** `EventSource` of a browser, in a page of the stream's origin. */
const browser = (name) => async (url, take) => {
  const running = await launch(name);
  const page = await running.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(new URL("/health/live", url).href);
  await page.exposeFunction("take", (events) => events.forEach(take));
  await page.evaluate((url, types) => {
    const source = new EventSource(url);
    let events = [];
    const flush = () => {
      window.take(events);
      events = [];
    };
    for (const type of types) {
      source.addEventListener(type, ({ lastEventId, data }) => {
        if (!events.length) setTimeout(flush);
        events.push({ id: lastEventId, type, data, at: performance.now() });
      });
    }
  }, url, TYPES);
  return () => running.close();
};

/** Each kind: a function of a URL and `take(event)` that returns a function that stops the reader. */
export const kinds = {
  curl: program("curl", (last) => ["--silent", "--no-buffer", "--compressed", ...(last ? ["--header", `Last-Event-ID: ${last}`] : [])]),
  "fetch of Node": fetched(),
  "eventsource of npm": eventSource,
  "httpx of Python": program(python, (last) => [script("read_httpx.py"), last ?? ""]),
  Chromium: browser("chrome"),
  Firefox: browser("firefox"),
};
