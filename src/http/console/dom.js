// Elements. Text of events and of errors becomes text nodes only, never markup.

export const byId = (id) => document.getElementById(id);

/** A new element with these properties; strings among the children become text. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Replaces the text of a node, unless it is the same: screen readers repeat a live region that is written to. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
