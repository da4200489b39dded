// JSON as a tree whose objects and arrays open and close. Built as it is opened.

import { element } from "./dom.js";

/** How many members of one object or array are shown. */
const MOST = 200;

/** The element for `value`, open down to `levels`. */
export function jsonTree(value, levels = 2, name) {
  const label = name === undefined ? [] : [element("span", { className: "json-key" }, String(name)), ": "];
  const members = Object.entries(value !== null && typeof value === "object" ? value : {});
  if (!members.length) {
    const type = value === null ? "null" : typeof value;
    return element("span", { className: "json-leaf" }, ...label, element("span", { className: `json-${type}` }, JSON.stringify(value)));
  }
  const size = Array.isArray(value) ? `[${members.length}]` : `{${members.length}}`;
  const tree = element("details", { className: "json" }, element("summary", {}, ...label, element("span", { className: "json-size" }, size)));
  const fill = () => {
    if (tree.childElementCount > 1) return;
    const shown = members.slice(0, MOST).map(([key, member]) => element("li", {}, jsonTree(member, levels - 1, key)));
    if (members.length > MOST) shown.push(element("li", { className: "json-size" }, `${members.length - MOST} more. Copy has all of them.`));
    tree.append(element("ul", {}, ...shown));
  };
  tree.addEventListener("toggle", () => tree.open && fill());
  if (levels > 0) {
    fill();
    tree.open = true;
  }
  return tree;
}
