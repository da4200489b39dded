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
import { Refusal, ask, showRefusal } from "./server.js";
import { LIMIT, canShare, isLimited } from "./slots.js";
import { Subscribers } from "./subscribers.js";
import { Topics } from "./topics.js";
import { Values } from "./values.js";

const REFRESH = 2000;
const VIEWS = ["overview", "events", "subscribers"];
const EXPLANATIONS = {
  full: `${LIMIT} Streams in its other tabs use five of them, and the sixth is for requests. This tab goes live when one of those is closed. ${
    canShare ? "Tabs that follow the same topics share a stream." : "On localhost and over HTTPS tabs share a stream."}`,
  late: `The server has not answered for 5 s. ${isLimited ? `${LIMIT} Other tabs may use them all.` : ""}`,
};

setUpCredentials();
setUpPublisher();
const [overview, topics, subscribers, values] = [new Overview(), new Topics(), new Subscribers(), new Values()];
const inspector = new Inspector(() => followed);
const live = new Live({ onEvent, onGap, onState });

/** The filters of the stream; none means all topics. */
let followed = [];
let isNew = true;
function follow() {
  followed = byId("follow-topics").value.split(",").map((topic) => topic.trim()).filter(Boolean);
  isNew = true;
  inspector.clear();
  values.clear();
  live.open(followed, document.querySelector("#transport :checked").value);
}

function onEvent(event) {
  inspector.add(event);
  values.add(event);
  byId("first-event").hidden = true;
}

function onGap(gap) {
  inspector.add({ gap });
  // Deletions may be missing.
  values.clear();
  values.read(followed);
}

function onState(state, text, reason) {
  byId("state").dataset.state = state;
  say(byId("state-text"), text);
  if (state === "closed") showRefusal(byId("explanation"), new Refusal(0, reason));
  else say(byId("explanation"), EXPLANATIONS[state] ?? (reason ? `${text}: ${reason}` : ""));
  if (state === "open" && isNew) {
    isNew = false;
    inspector.addRecent();
    // After the stream has begun: what changes meanwhile comes there.
    values.read(followed);
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
  values.show();
  await refreshFigures();
  if (view === "subscribers") await subscribers.refresh();
  else await topics.refresh();
  clearTimeout(timer);
  timer = setTimeout(refresh, REFRESH);
}

async function refreshFigures() {
  try {
    const metrics = await ask("metrics/json");
    overview.show(metrics, Date.now());
    say(byId("overview-note"), "");
    byId("view-overview").classList.remove("refused");
    inviteToPublish(metrics.history.events === 0);
  } catch (refusal) {
    byId("view-overview").classList.add("refused");
    showRefusal(byId("overview-note"), refusal);
    inviteToPublish(false);
    if (!refusal.needsRights) return;
    // These figures need no rights.
    const index = await ask("./").catch(() => null);
    if (!index) return;
    say(byId("streams"), count(index.clients));
    say(byId("retained"), count(index.history_size));
  }
}

/** Shows how to publish the first event. */
function inviteToPublish(isEmpty) {
  byId("first-event").hidden = !isEmpty;
  say(byId("first-command"), curl('{"topic":"hello","data":{"text":"world"}}'));
}

byId("first-event").append(copyButton("Copy", () => byId("first-command").textContent));
byId("server").textContent = new URL(".", location.href).href.replace(/^https?:\/\/|\/$/g, "");
byId("follow-form").addEventListener("submit", (event) => {
  event.preventDefault();
  history.replaceState(null, "", "#events");
  follow();
});
byId("transport").addEventListener("change", follow);
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
