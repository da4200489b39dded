// The page of a discussion.
import { Discussion } from "./discussion.js";

const element = (id) => document.getElementById(id);
const [list, compose] = [element("comments"), element("compose")];
const typing = new Map();

const view = {
  /** Shows these comments, and no others. */
  replace(comments) {
    const ids = new Set(comments.map(({ id }) => `comment-${id}`));
    for (const item of [...list.children]) if (!ids.has(item.id)) item.remove();
    comments.forEach(draw);
    element("empty").hidden = comments.length > 0;
  },

  show(comment) {
    const isNew = draw(comment);
    this.typing(comment.author, 0);
    element("empty").hidden = true;
    element("news").textContent = `${comment.author} ${isNew ? "wrote" : "now says"}: ${comment.text}`;
  },

  remove(id) {
    const item = element(`comment-${id}`);
    if (item?.contains(document.activeElement)) compose.text.focus();
    item?.remove();
    element("empty").hidden = list.children.length > 0;
  },

  /** Shows for some milliseconds that `author` is typing. */
  typing(author, milliseconds) {
    clearTimeout(typing.get(author));
    if (milliseconds > 0) typing.set(author, setTimeout(() => this.typing(author, 0), milliseconds));
    else typing.delete(author);
    const names = [...typing.keys()];
    element("typing").textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing …` : "";
  },

  state(state) {
    element("state").textContent = state === "open" ? "live" : state;
    element("state").dataset.state = state;
  },
};

const discussion = new Discussion(new URLSearchParams(location.search).get("discussion") ?? "welcome", view);
addEventListener("offline", () => view.state("offline"));

/** Draws a comment in the order of ids. Returns whether it is new. */
function draw({ id, author, text, created, is_edited }) {
  const known = element(`comment-${id}`);
  const item = known ?? newItem(id);
  const part = (name) => item.querySelector(`.${name}`);
  const time = new Date(created * 1000);
  const isToday = time.toDateString() === new Date().toDateString();
  // As text, not as HTML: other visitors wrote it.
  part("author").textContent = author;
  part("initial").textContent = [...author.trim()][0].toUpperCase();
  part("initial").style.setProperty("--hue", [...author].reduce((hue, letter) => (hue * 31 + letter.codePointAt(0)) % 360, 7));
  part("text").textContent = text;
  part("edited").hidden = !is_edited;
  part("time").dateTime = time.toISOString();
  part("time").textContent = isToday ? time.toLocaleTimeString([], { timeStyle: "short" }) : time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  part("change").setAttribute("aria-label", `Edit the comment of ${author}`);
  part("delete").setAttribute("aria-label", `Delete the comment of ${author}`);
  return !known;
}

function newItem(id) {
  const item = element("comment").content.firstElementChild.cloneNode(true);
  const edit = item.querySelector("form");
  const setEditing = (isEditing) => {
    edit.hidden = !isEditing;
    (isEditing ? edit.text : item.querySelector(".change")).focus();
  };
  item.id = `comment-${id}`;
  item.querySelector(".change").onclick = () => {
    edit.text.value = item.querySelector(".text").textContent;
    setEditing(true);
  };
  item.querySelector(".delete").onclick = () => attempt(() => discussion.remove(id));
  edit.querySelector(".cancel").onclick = () => setEditing(false);
  edit.addEventListener("keydown", ({ key }) => key === "Escape" && setEditing(false));
  submits(edit, async () => {
    await discussion.update(id, edit.text.value);
    setEditing(false);
  });
  const next = [...list.children].find((other) => Number(other.id.split("-")[1]) > id);
  list.insertBefore(item, next ?? null);
  const isAtEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 200;
  if (!next && isAtEnd) item.scrollIntoView({ block: "nearest" });
  return item;
}

/** Runs an action of the visitor. A failure is shown, and what was entered stays. */
async function attempt(action) {
  element("error").textContent = "";
  try {
    await action();
  } catch ({ message }) {
    element("error").textContent = `Not saved: ${message}`;
  }
}

/** Ctrl+Enter submits as well. */
function submits(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(action);
  });
  form.addEventListener("keydown", ({ key, ctrlKey, metaKey }) => key === "Enter" && (ctrlKey || metaKey) && form.requestSubmit());
}

submits(compose, async () => {
  const { author, text } = compose;
  const sent = text.value;
  await discussion.create(author.value, sent);
  // What was written meanwhile stays.
  if (text.value === sent) text.value = "";
  text.focus();
});
compose.author.value = localStorage.getItem("author") ?? "";
compose.author.onchange = () => localStorage.setItem("author", compose.author.value);
compose.text.addEventListener("input", () => compose.author.value.trim() && discussion.typing(compose.author.value));
