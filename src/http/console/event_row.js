// An event in the inspector's list: a line that opens to the whole event.

import { copyButton } from "./clipboard.js";
import { element } from "./dom.js";
import { clock, events } from "./format.js";
import { jsonTree } from "./json_tree.js";

const PREVIEW = 240;

const REASONS = {
  evicted: "the server no longer retains them",
  lagged: "this page read too slowly",
  epoch: "the server started anew",
  unknown_id: "the server does not know the position",
};

/** The payload as one line of text. */
export const textOf = ({ data }) => (typeof data === "string" ? data : JSON.stringify(data));

/** `onOpen()` is called when the event is opened, `onHistory(id)` to see what followed it. */
export function eventRow(item, { onOpen, onHistory }) {
  if (item.gap) return gapRow(item.gap);
  const text = textOf(item);
  const summary = element("summary", {},
    element("time", {}, item.at ? clock(item.at) : ""),
    element("span", { className: "chip" }, item.topic),
    item.event === "message" ? "" : element("span", { className: "name" }, item.event),
    element("code", {}, text.slice(0, PREVIEW)),
    element("small", {}, item.id));
  const details = element("details", {}, summary);
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    onOpen();
    if (details.childElementCount > 1) return;
    const isTree = item.data !== null && typeof item.data === "object";
    const history = element("button", { type: "button", className: "small", onclick: () => onHistory(item.id) }, "History from here");
    const facts = element("p", { className: "facts" }, `Id ${item.id}, topic ${item.topic}, ${item.event === "message" ? "no event name" : `event ${item.event}`}`);
    details.append(element("div", { className: "whole" }, facts, isTree ? jsonTree(item.data) : element("pre", {}, text),
      element("p", { className: "buttons" }, copyButton("Copy data", () => text), history)));
  });
  return element("li", {}, details);
}

function gapRow({ missed, reason, from, to }) {
  const what = missed == null ? "Events are missing here" : `${events(missed)} missing here`;
  const where = from || to ? `, between ${from ?? "the start"} and ${to ?? "now"}` : "";
  return element("li", { className: "gap" }, `${what}${where}: ${REASONS[reason] ?? reason}.`);
}
