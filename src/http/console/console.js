// The console: one page that follows one stream, and reads the server's lists and metrics every two seconds.

import { copyButton, curl } from "./clipboard.js";
import { setRange } from "./chart.js";
import { credentials, setUpCredentials } from "./credentials.js";
import { byId, say } from "./dom.js";
import { count } from "./format.js";
import { Inspector } from "./inspector.js";
import { Live } from "./live.js";
import { Overview } from "./overview.js";
import { setUpPublisher } from "./publisher.js";
import { ask, showRefusal } from "./server.js";
import { canShare } from "./slots.js";
import { Subscribers } from "./subscribers.js";
import { Topics } from "./topics.js";
import { Values } from "./values.js";

const REFRESH = 2000;
const VIEWS = ["overview", "events", "subscribers"];
const SIX = "Over HTTP/1.1 a browser opens at most six connections to one server.";
const EXPLANATIONS = {
  full: `${SIX} Streams in its other tabs use five of them, and the sixth is for requests. This tab goes live when one of those is closed. ${
    canShare ? "Tabs that follow the same topics share a stream." : "On localhost and over HTTPS tabs share a stream."}`,
  late: `The server has not answered for 5 s. If other tabs of this browser have streams of this server open, they are the reason: ${SIX.toLowerCase()}`,
};

setUpCredentials();
setUpPublisher();
const [overview, topics, subscribers, values] = [new Overview(), new Topics(), new Subscribers(), new Values()];
const inspector = new Inspector(followed);
const live = new Live({ onEvent, onGap: (gap) => inspector.add({ gap }), onState });

/** The filters in the form; none means all topics. */
function followed() {
  return byId("follow-topics").value.split(",").map((topic) => topic.trim()).filter(Boolean);
}

let isNew = true;
function follow() {
  isNew = true;
  inspector.clear();
  live.open(followed());
}

function onEvent(event) {
  inspector.add(event);
  values.add(event);
  byId("first-event").hidden = true;
}

function onState(state, text, reason) {
  byId("state").dataset.state = state;
  say(byId("state-text"), text);
  say(byId("explanation"), EXPLANATIONS[state] ?? (reason ? `${text}: ${reason}` : ""));
  if (state === "open" && isNew) {
    isNew = false;
    inspector.addRecent();
  }
}

/* The view is in the address: #overview, #events, #events/TOPIC, #subscribers. */
let view;
function showView() {
  const [name, topic] = location.hash.slice(1).split("/");
  view = VIEWS.includes(name) ? name : VIEWS[0];
  for (const each of VIEWS) byId(`view-${each}`).hidden = each !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (topic) {
    byId("follow-topics").value = byId("publish-topic").value = decodeURIComponent(topic);
    follow();
  }
  refresh();
}

/* The lists and figures of what is shown, one request after the other: tabs have few connections. */
let timer;
async function refresh() {
  clearTimeout(timer);
  if (document.hidden) return;
  await refreshFigures();
  if (view === "subscribers") await subscribers.refresh();
  else await topics.refresh();
  values.show();
  clearTimeout(timer);
  timer = setTimeout(refresh, REFRESH);
}

async function refreshFigures() {
  try {
    const metrics = await ask("metrics/json");
    overview.show(metrics, Date.now());
    say(byId("overview-note"), "");
    byId("view-overview").classList.remove("refused");
    byId("first-event").hidden = metrics.history.events > 0;
  } catch (refusal) {
    byId("view-overview").classList.add("refused");
    showRefusal(byId("overview-note"), refusal);
    if (!refusal.needsRights) return;
    // What everyone may see.
    const index = await ask("./").catch(() => null);
    if (!index) return;
    say(byId("streams"), count(index.clients));
    say(byId("retained"), count(index.history_size));
    byId("first-event").hidden = index.history_size > 0;
  }
}

const command = curl('{"topic":"hello","data":{"text":"world"}}');
byId("first-command").textContent = command;
byId("first-event").append(copyButton("Copy", () => command));
byId("server").textContent = new URL(".", location.href).href.replace(/^https?:\/\/|\/$/g, "");
byId("follow-form").addEventListener("submit", (event) => {
  event.preventDefault();
  history.replaceState(null, "", "#events");
  follow();
});
byId("topics-form").addEventListener("submit", (event) => {
  event.preventDefault();
  topics.refresh();
});
byId("range").addEventListener("change", (event) => setRange(Number(event.target.value)));
addEventListener("hashchange", showView);
addEventListener("visibilitychange", refresh);
credentials.addEventListener("change", () => {
  follow();
  refresh();
});
showView();
// With a topic in the address, the view has started the stream.
if (!location.hash.includes("/")) follow();
