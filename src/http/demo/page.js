"use strict";
const $ = (id) => document.getElementById(id);
const WINDOW = 180; // seconds that a chart shows
const LINES = 200; // lines that a list keeps

/* State. */
const state = {
  source: null, last: null, isWanted: true, wasOpen: false, lostAt: 0, lostFrom: null, retry: null, tries: 0,
  reconnects: 0, missed: 0, isMissedUnknown: false, gaps: 0, received: 0, second: 0, replaying: 0,
  latencies: [], values: new Map(), tags: new Set(), marks: [],
};

/* Number formats. */
const whole = new Intl.NumberFormat("en");
const bytes = (n) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (Math.abs(n) >= 1000 && unit < units.length - 1) { n /= 1000; unit++; }
  return `${unit && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
};
const percent = (n) => `${n.toFixed(n > 0 && n < 10 ? 1 : 0)} %`;
const millis = (n) => (n == null ? "–" : n > 0 && n < 10 ? `${n.toFixed(1)} ms` : n < 10000 ? `${Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`);
const amount = (n) => (n < 10 && n % 1 ? n.toFixed(1) : whole.format(Math.round(n)));
const shown = (value, unit) => {
  if (unit === "bytes") return bytes(value);
  if (unit === "bytes/s") return `${bytes(value)}/s`;
  if (unit === "percent") return percent(value);
  return `${amount(value)}${unit && unit !== "load" ? ` ${unit}` : ""}`;
};
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

/* Charts. Colours are looked up on each draw, so that a chart follows the theme. */
const probe = document.body.appendChild(document.createElement("i"));
probe.hidden = true;
const colour = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };

class Chart {
  constructor(id, title, names, show, range) {
    Object.assign(this, { title, names, show, data: [[], ...names.map(() => [])] });
    this.figure = $("charts").appendChild(document.createElement("figure"));
    this.figure.id = `chart-${id}`;
    const caption = this.figure.appendChild(document.createElement("figcaption"));
    caption.append(title);
    const legend = caption.appendChild(document.createElement("em"));
    this.legend = names.map(() => legend.appendChild(document.createElement("span")));
    this.box = this.figure.appendChild(document.createElement("div"));
    this.box.setAttribute("role", "img");
    const strokes = ["--accent", "--second"];
    const axis = { stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot({
      width: 320, height: 150, legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
      scales: { x: { time: true, range: () => { const now = Date.now() / 1000; return [Math.max(now - WINDOW, Math.min(this.data[0][0] ?? now, now - 60)), now]; } }, y: { range: range ?? ((_, __, most) => [0, most > 0 ? most * 1.15 : 1]) } },
      axes: [{ ...axis, space: 70, size: 26, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, tick % 60 ? 8 : 5)) },
        { ...axis, size: 62, space: 34, values: (_, ticks) => ticks.map(show) }],
      series: [{}, ...names.map((_, index) => ({ stroke: () => colour(strokes[index]), width: 1.8, points: { show: false }, spanGaps: false,
        fill: index ? undefined : () => colour("--accent").replace("rgb(", "rgba(").replace(")", ", .12)") }))],
      hooks: { draw: [(plot) => this.drawMarks(plot)] },
    }, this.data, this.box);
    new ResizeObserver(() => this.fit()).observe(this.figure);
    this.fit();
    this.describe();
  }
  fit() {
    const width = this.figure.clientWidth - 32;
    if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: 150 });
  }
  add(time, ...values) {
    const [times] = this.data;
    const end = times.length - 1;
    if (time < times[end]) return;
    if (time === times[end]) values.forEach((value, index) => { if (value != null) this.data[index + 1][end] = value; });
    else {
      times.push(time);
      values.forEach((value, index) => this.data[index + 1].push(value ?? null));
    }
    while (times[0] < Date.now() / 1000 - WINDOW - 30) this.data.forEach((series) => series.shift());
  }
  /* The line has a gap where there is no data. */
  cut(time) {
    const [times] = this.data;
    if (times.length) this.data.forEach((series, index) => series.push(index ? null : Math.max(time, times[times.length - 1])));
  }
  drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour("--bad");
    ctx.setLineDash([4, 4]);
    for (const mark of state.marks) {
      const x = plot.valToPos(mark, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }
  describe() {
    const now = this.data.slice(1).map((series) => { const last = series.findLast((value) => value != null); return last == null ? "–" : this.show(last); });
    this.legend.forEach((span, index) => { span.textContent = `${this.names[index] ? `${this.names[index]} ` : ""}${now[index]}`; });
    this.box.setAttribute("aria-label", `Line chart of ${this.title}, last three minutes. Now: ${this.legend.map((span) => span.textContent).join(", ")}`);
  }
  draw() { this.plot.setData(this.data); this.describe(); }
}

const upTo100 = (_, __, most) => [0, Math.max(100, most)];
const charts = {
  cpu: new Chart("cpu", "Processor", ["machine", "server"], percent, upTo100),
  memory: new Chart("memory", "Memory", [""], percent, upTo100),
  network: new Chart("network", "Network", ["in", "out"], (n) => `${bytes(n)}/s`),
  deliveries: new Chart("deliveries", "Server", ["deliveries/s", "streams"], amount),
  rate: new Chart("rate", "Events a second, here", [""], amount),
  latency: new Chart("latency", "Latency, end to end", ["p50", "p99"], millis),
};

/* Lists: newest first, with a bounded number of lines. */
function add(list, kind, time, text) {
  const item = document.createElement("li");
  const stamp = item.appendChild(document.createElement("time"));
  stamp.textContent = clock(time);
  stamp.dateTime = new Date(time).toISOString();
  const what = item.appendChild(document.createElement("span"));
  what.className = kind;
  what.textContent = text;
  list.prepend(item);
  while (list.childElementCount > LINES) list.lastElementChild.remove();
}
const tell = (kind, text) => add($("stream"), kind, Date.now(), text);
function become(name, text) {
  $("state").dataset.state = name;
  if ($("state-text").textContent !== text) $("state-text").textContent = text;
  $("connect").textContent = state.isWanted ? "Disconnect" : "Connect";
}

/* The stream: an EventSource, which reconnects and resumes by itself. */
function topics() {
  const ticked = [...document.querySelectorAll("[name=topic]:checked")].map((box) => box.value);
  return [...ticked, ...$("more").value.split(",").map((topic) => topic.trim()).filter(Boolean)];
}
function connect() {
  clearTimeout(state.retry);
  state.source?.close();
  const wanted = topics();
  if (!wanted.length) { state.source = null; return become("closed", "No topic chosen"); }
  const query = new URLSearchParams({ topics: wanted.join(","), client_name: "dashboard", tags: "demo", on_lag: "skip", heartbeat: "15" });
  state.lostFrom = state.last;
  if (state.last) query.set("last_event_id", state.last); else query.set("history", "600");
  // With credentials configured, open the page with a key or token: /demo?access_token=...
  const token = new URLSearchParams(location.search).get("access_token");
  if (token) query.set("access_token", token);
  const url = `stream?${query}`;
  const source = state.source = new EventSource(url);
  const on = (name, take) => source.addEventListener(name, (event) => {
    if (state.source !== source) return;
    if (event.lastEventId) state.last = event.lastEventId;
    take(event);
  });
  on("system", (event) => system(JSON.parse(event.data)));
  on("gap", (event) => gap(JSON.parse(event.data)));
  on("data", received);
  on("message", received);
  source.onerror = () => {
    if (state.source !== source) return;
    if (state.wasOpen) {
      state.wasOpen = false;
      state.lostAt = Date.now();
      state.lostFrom = state.last;
      Object.values(charts).forEach((chart) => chart.cut(Date.now() / 1000));
      tell("warn", `Connection lost at ${state.last ?? "the start"}.`);
    }
    become("lost", "Reconnecting…");
    // An EventSource does not retry after an error status, though the condition may pass.
    if (source.readyState !== EventSource.CLOSED) return;
    refused(url);
    state.retry = setTimeout(connect, Math.min(15000, 500 * 2 ** state.tries++) * (0.8 + Math.random() * 0.4));
  };
}
/* Fetches the reason of a refusal, which an EventSource does not report. */
async function refused(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer || answer.ok) return answer?.body.cancel();
  const { detail } = await answer.json().catch(() => ({}));
  if (detail && detail !== state.refusal) tell("warn", `Refused: ${state.refusal = detail}.`);
}
function disconnect() {
  clearTimeout(state.retry);
  state.source?.close();
  state.source = null;
  state.wasOpen = false;
  state.lostAt = 0;
  Object.values(charts).forEach((chart) => chart.cut(Date.now() / 1000));
  tell("", `Disconnected by you at ${state.last ?? "the start"}.`);
  become("closed", "Disconnected");
}
function system(news) {
  if (news.message !== "connected") return tell("warn", `The server says: ${news.message}.`);
  // If the server does not know the position, the gap that follows names the start.
  const where = news.position ? `at ${news.position}` : `with ${state.lostFrom ?? "an id"}, which the server does not hold`;
  const replayed = news.replayed === null ? "older events first" : `${whole.format(news.replayed)} replayed`;
  if (state.lostAt) {
    state.reconnects++;
    const away = ((Date.now() - state.lostAt) / 1000).toFixed(1);
    tell("connected", `Reconnected by itself after ${away} s ${where}; ${replayed}.`);
    $("resumed").textContent = `last ${news.position ? where : `from ${state.lostFrom}`}`;
  } else tell("connected", `Connected ${where}; ${replayed}: ${topics().join(", ")}.`);
  state.lostAt = 0;
  state.tries = 0;
  state.wasOpen = true;
  state.replaying = news.replayed ?? 0;
  $("client").textContent = `client ${news.client_id}`;
  become("open", "Connected");
}
const REASONS = {
  evicted: "it came back too late for what the server keeps",
  lagged: "it read too slowly",
  epoch: "the server has restarted and numbers anew",
  unknown_id: "the server does not know its position",
};
function gap(what) {
  state.gaps++;
  if (what.missed == null) state.isMissedUnknown = true; else state.missed += what.missed;
  const count = what.missed == null ? "an unknown number of events" : `${whole.format(what.missed)} event${what.missed === 1 ? "" : "s"}`;
  tell("gap", `Gap: missed ${count} between ${what.from ?? "?"} and ${what.to ?? "?"}, for ${REASONS[what.reason] ?? what.reason}.`);
  state.marks.push(Date.now() / 1000);
  if (state.marks.length > 50) state.marks.shift();
  $("missed").parentElement.classList.add("bad");
}
function received(event) {
  state.received++;
  const isLive = state.replaying === 0;
  if (isLive) state.second++; else state.replaying--;
  let body;
  try { body = JSON.parse(event.data); } catch { body = null; }
  const time = Date.parse(body?.timestamp ?? "") || Date.now();
  if (isLive && body?.timestamp) state.latencies.push({ at: Date.now(), took: Math.max(0, Date.now() - time) });
  if (body?.type === "metric") return measured(body, time / 1000);
  const tag = tagOf(body);
  if (body?.type === "alert") { if (isShown(tag)) { $("no-alerts").hidden = true; add($("alerts"), body.level, time, `${body.level}: ${body.message}${tag ? ` (${tag})` : ""}`); } return; }
  if (!isShown(tag)) return;
  $("no-log").hidden = true;
  if (body?.type === "log") {
    const fields = Object.entries(body.fields ?? {}).map(([name, value]) => ` ${name}=${value}`).join("");
    add($("log"), body.level, time, `${body.level} ${body.message}${fields}`);
  } else add($("log"), "", time, `${event.lastEventId} ${event.data.slice(0, 2000)}`);
}

/* Metrics. */
const tagOf = (body) => Object.entries(body?.tags ?? {}).map(([key, value]) => `${key}: ${value}`).join(", ");
const isShown = (tag) => !$("tag").value || $("tag").value === tag;
function measured(body, time) {
  const tag = tagOf(body);
  state.values.set(`${body.name}\n${tag}`, { name: body.name, tag, text: shown(body.value, body.unit), value: body.value });
  if (tag && !state.tags.has(tag)) {
    state.tags.add(tag);
    const sorted = [...state.tags].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const chosen = $("tag").value;
    $("tag").replaceChildren(new Option("all", ""), ...sorted.map((each) => new Option(each, each)));
    $("tag").value = chosen;
  }
  const isMachine = tag === "";
  const chosen = $("tag").value;
  if (body.name === "cpu_usage" && (chosen.startsWith("core:") ? tag === chosen : isMachine)) charts.cpu.add(time, body.value, null);
  if (body.name === "process_cpu_usage") charts.cpu.add(time, null, body.value);
  if (body.name === "memory_usage") charts.memory.add(time, body.value);
  if (body.name === "deliveries_per_second") charts.deliveries.add(time, body.value, null);
  if (body.name === "streams") charts.deliveries.add(time, null, body.value);
  if (body.name.startsWith("network_") && (!chosen.startsWith("interface:") || tag === chosen)) {
    const index = body.name === "network_received" ? 1 : 2;
    const [times] = charts.network.data;
    const before = times[times.length - 1] === time ? charts.network.data[index][times.length - 1] ?? 0 : 0;
    charts.network.add(time, ...(index === 1 ? [before + body.value, null] : [null, before + body.value]));
  }
}

/* Once a second: numbers, charts, table. Events in between only update the state. */
function everySecond() {
  const now = Date.now();
  state.latencies = state.latencies.filter(({ at }) => at > now - 5000).slice(-20000);
  const sorted = state.latencies.map(({ took }) => took).sort((a, b) => a - b);
  const [p50, p99] = sorted.length ? [quantile(sorted, 0.5), quantile(sorted, 0.99)] : [null, null];
  if (state.wasOpen) {
    charts.rate.add(now / 1000, state.second);
    charts.latency.add(now / 1000, p50, p99);
  }
  $("rate").textContent = whole.format(state.second);
  $("latency").textContent = millis(p50);
  $("latency-99").textContent = `p99 ${millis(p99)}`;
  state.second = 0;
  render();
  Object.values(charts).forEach((chart) => chart.draw());
}
function render() {
  $("received").textContent = `${whole.format(state.received)} received`;
  $("reconnects").textContent = whole.format(state.reconnects);
  $("missed").textContent = state.isMissedUnknown ? (state.missed ? `${whole.format(state.missed)} + ?` : "unknown") : whole.format(state.missed);
  $("gaps").textContent = state.gaps ? `${whole.format(state.gaps)} gap${state.gaps === 1 ? "" : "s"}` : "no gap";
  $("position").textContent = state.last ?? "–";
  const rows = [...state.values.values()].filter(({ tag }) => isShown(tag)).sort((a, b) => a.name.localeCompare(b.name) || a.tag.localeCompare(b.tag, "en", { numeric: true }));
  $("values").replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    for (const text of [row.name.replaceAll("_", " "), row.tag || "–", row.text]) line.appendChild(document.createElement("td")).textContent = text;
    return line;
  }));
}

/* Controls. */
$("connect").addEventListener("click", () => {
  state.isWanted = !state.isWanted;
  if (state.isWanted) { become("lost", "Connecting"); connect(); } else disconnect();
});
$("filters").addEventListener("submit", (event) => { event.preventDefault(); filter(); });
document.querySelectorAll("[name=topic]").forEach((box) => box.addEventListener("change", filter));
function filter() {
  state.values.clear();
  state.wasOpen = false;
  if (state.isWanted) connect();
  render();
}
$("tag").addEventListener("change", () => {
  // A line shows one core or interface only.
  [charts.cpu, charts.network].forEach((chart) => chart.data.forEach((series) => { series.length = 0; }));
  render();
});
const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  $("theme").textContent = THEMES[name];
  $("theme").setAttribute("aria-label", `Colours: ${name === "auto" ? "as the system" : name}`);
  $("theme").value = name;
  // Without storage, the next visit shows the system's colours.
  try { localStorage.setItem("fanline-theme", name); } catch { /* as above */ }
  Object.values(charts).forEach((chart) => chart.draw());
}
$("theme").addEventListener("click", () => { const names = Object.keys(THEMES); theme(names[(names.indexOf($("theme").value) + 1) % names.length]); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.values(charts).forEach((chart) => chart.draw()));
let kept = null;
try { kept = localStorage.getItem("fanline-theme"); } catch { /* as above */ }
theme(kept in THEMES ? kept : "auto");
$("origin").textContent = new URL(".", location.href).href.replace(/\/$/, "");
setInterval(everySecond, 1000);
connect();
