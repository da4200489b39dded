const run = JSON.parse(document.getElementById("numbers").textContent);
const $ = (id) => document.getElementById(id);
const known = (value) => value !== null && value !== undefined;

// Texts ---------------------------------------------------------------------------------------------------------------

const round = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });
const grouped = (value) => round(value, 0);
const digitsFor = (value) => (value < 10 ? 2 : value < 100 ? 1 : 0);
function time(us) {
  if (us < 1000) return [round(us, us < 10 ? 1 : 0), "µs"];
  if (us < 1e6) return [round(us / 1e3, digitsFor(us / 1e3)), "ms"];
  return [round(us / 1e6, digitsFor(us / 1e6)), "s"];
}
function short(value) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (value >= size) return [round(value / size, digitsFor(value / size)), unit];
  return [round(value, digitsFor(value)), ""];
}
function memory(kb) {
  if (kb < 1024) return [round(kb, digitsFor(kb)), "KB"];
  if (kb < 1024 * 1024) return [round(kb / 1024, 1), "MB"];
  return [round(kb / 1024 / 1024, 2), "GB"];
}
const text = (pair) => pair.join(pair[1].length > 1 ? " " : "");
const node = (name, attributes = {}, content = "") => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(content);
  return element;
};
const shape = (parent, name, attributes, content = "") => {
  const element = document.createElementNS("http:" + "//www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = content;
  parent.append(element);
  return element;
};

// Head and tiles ------------------------------------------------------------------------------------------------------

const options = run.options;
const plural = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
const facts = [
  plural(run.connected, "subscriber"), plural(options.topics, "topic"), plural(options.publishers, "publisher"),
  options.rate === "max" ? "as fast as it goes" : `${grouped(options.rate)} events/s`,
  `${grouped(options.payload_bytes)} bytes`, `${round(run.window_seconds, 1)} s`, options.date,
];
$("subtitle").append(...facts.flatMap((fact, index) => [index ? " · " : "", node("span", {}, fact)]));
$("verdict").classList.toggle("warn", run.warnings.length > 0);
$("verdict").classList.toggle("bad", !run.ok);
document.title = `fanline bench: ${run.ok ? "whole" : "NOT WHOLE"}`;
const note = (id, lines) => {
  $(id).hidden = lines.length === 0;
  for (const line of lines) $(id).querySelector("ul").append(node("li", {}, line));
};
note("warnings", run.warnings);
note("problems", run.problems.map((problem) => `${grouped(problem.count)} × ${problem.what}`));

function tile(name, pair) {
  const box = node("div", { class: "tile" });
  const number = node("b", {}, pair[0]);
  number.append(node("small", {}, pair[1]));
  box.append(number, node("span", {}, name));
  $("tiles").append(box);
}
tile("deliveries a second", short(run.deliveries_per_second));
tile(options.rate === "max" ? "events a second" : `events a second, of ${text(short(options.rate))} asked for`, short(run.events_per_second));
for (const [name, us] of [
  ["median latency", run.latency_p50_us], ["p99 latency", run.latency_p99_us], ["p99.9 latency", run.latency_p999_us],
  ["longest latency", run.latency_max_us], ["sent late by, p99", run.late_send_p99_us],
]) if (known(us)) tile(name, time(us));
for (const [name, percent] of [
  ["server CPU", run.server_cpu_percent], ["load generator CPU", run.load_cpu_percent], ["CPU of others", run.other_cpu_percent],
]) if (known(percent)) tile(name, [round(percent, 1), "%"]);
if (known(run.deliveries_per_cpu_second)) tile("deliveries a CPU-second", short(run.deliveries_per_cpu_second));
if (known(run.rss_bytes_per_client) && run.connected > 0) tile("memory a subscriber", memory(run.rss_bytes_per_client / 1024));
if (known(run.replay_seconds)) tile("replay", [round(run.replay_seconds, 2), "s"]);

// Plots ---------------------------------------------------------------------------------------------------------------

const points = run.timeline;
const left = 52, right = 14, top = 10, bottom = 24;

// One unit is one pixel, so that text has the same size on a phone.
class Plot {
  constructor(id, label) {
    this.place = $(id);
    this.width = this.place.clientWidth;
    this.height = this.width > 600 ? 300 : 230;
    this.svg = shape(this.place, "svg", { viewBox: `0 0 ${this.width} ${this.height}`, role: "img", "aria-label": label });
  }
  get inner() { return this.width - left - right; }
  get depth() { return this.height - top - bottom; }
  x(share) { return left + share * this.inner; }
  y(share) { return top + (1 - share) * this.depth; }
  horizontal(share, name) {
    shape(this.svg, "line", { class: share ? "grid" : "axis", x1: left, x2: this.width - right, y1: this.y(share), y2: this.y(share) });
    shape(this.svg, "text", { x: left - 8, y: this.y(share) + 4, "text-anchor": "end" }, name);
  }
  vertical(share, name) {
    shape(this.svg, "text", { x: this.x(share), y: this.height - 5, "text-anchor": share > .97 ? "end" : share < .03 ? "start" : "middle" }, name);
  }
  line(kind, coordinates) {
    // An interval without a value is a gap in the line.
    let path = "", pen = "M";
    for (const [x, y] of coordinates) {
      if (y === null) { pen = "M"; continue; }
      path += `${pen}${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`;
      pen = "L";
    }
    shape(this.svg, "path", { class: `line ${kind}`, d: path });
  }
  area(coordinates) {
    if (!coordinates.length) return;
    const edge = coordinates.map(([x, y]) => `L${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`).join("");
    const [first, last] = [coordinates[0], coordinates[coordinates.length - 1]];
    shape(this.svg, "path", { class: "area", d: `M${this.x(first[0])},${this.y(0)}${edge}L${this.x(last[0])},${this.y(0)}Z` });
  }
  key(entries) {
    const list = node("div", { class: "key" });
    for (const [name, color] of entries) {
      const entry = node("span");
      entry.append(node("i", { class: color }), name);
      list.append(entry);
    }
    this.place.append(list);
  }
  // Shows what `describe` says of the nearest of some places.
  hover(places, describe) {
    const cursor = shape(this.svg, "line", { class: "cursor", y1: top, y2: this.height - bottom, visibility: "hidden" });
    const tip = $("tip");
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width * this.width - left) / this.inner;
      let nearest = 0;
      places.forEach((place, index) => { if (Math.abs(place - share) < Math.abs(places[nearest] - share)) nearest = index; });
      cursor.setAttribute("x1", this.x(places[nearest]));
      cursor.setAttribute("x2", this.x(places[nearest]));
      cursor.setAttribute("visibility", "visible");
      tip.textContent = describe(nearest);
      tip.hidden = false;
      const aside = event.clientX + 16 + tip.offsetWidth > innerWidth ? -tip.offsetWidth - 12 : 16;
      tip.style.left = `${event.clientX + aside}px`;
      tip.style.top = `${event.clientY - 12}px`;
    });
    this.svg.addEventListener("pointerleave", () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); });
  }
}

// Steps of 1, 2 or 5 up to a little over `most`.
function steps(most, count = 4) {
  const rough = Math.max(most, 1e-9) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * power).find((step) => step >= rough);
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, index) => index * step);
}

const total = points.length ? points[points.length - 1].at : 1;
const middle = points.map((point, index) => ((index ? points[index - 1].at : 0) + point.at) / 2 / total);
const lengths = points.map((point, index) => point.at - (index ? points[index - 1].at : 0));
const when = (index) => `at ${round(middle[index] * total, 1)} s`;
const seconds = (plot) => { for (const at of steps(total, Math.floor(plot.width / 80))) if (at <= total * 1.001) plot.vertical(at / total, `${round(at, 2)} s`); };
const empty = (id, why) => { $(id).append(node("p", { style: "color:var(--faint);margin:24px 0" }, why)); };

// A logarithmic scale of microseconds over what was seen: half octaves, as the numbers have them.
const used = points.flatMap((point) => point.counts.map((count, bucket) => (count ? bucket : -1)).filter((bucket) => bucket >= 0));
// Deliveries after the window are among the percentiles.
const lowest = Math.max(0, Math.min(...used) - 1), highest = Math.max(...used, 2 * Math.log2(Math.max(run.latency_max_us, 1))) + 2;
const level = (us) => Math.min(1, Math.max(0, (2 * Math.log2(Math.max(us, 1)) - lowest) / (highest - lowest)));
function levels(plot) {
  for (let power = 0; power < 10; power++)
    for (const us of (highest - lowest < 10 ? [1, 2, 5] : [1, 3]).map((part) => part * 10 ** power)) {
      const share = (2 * Math.log2(us) - lowest) / (highest - lowest);
      if (share >= 0 && share <= 1) plot.horizontal(share, text(time(us)));
    }
  shape(plot.svg, "line", { class: "axis", x1: left, x2: plot.width - right, y1: plot.y(0), y2: plot.y(0) });
}

function over(id, label, series, format, minimum) {
  const seen = series.flatMap(([, , values]) => values.filter(known));
  if (!seen.length) return empty(id, "Unknown without --pid.");
  const plot = new Plot(id, label);
  const marks = steps(Math.max(minimum, ...seen));
  const most = marks[marks.length - 1];
  for (const mark of marks) plot.horizontal(mark / most, text(format(mark)));
  seconds(plot);
  series.forEach(([, color, values], index) => {
    const coordinates = values.map((value, at) => [middle[at], known(value) ? value / most : null]);
    if (!index) plot.area(coordinates.filter(([, y]) => y !== null));
    plot.line(color, coordinates);
  });
  if (series.length > 1) plot.key(series.map(([name, color]) => [name, color]));
  plot.hover(middle, (at) => [when(at), ...series.filter(([, , values]) => known(values[at]))
    .map(([name, , values]) => `${name}  ${text(format(values[at]))}`)].join("\n"));
}

function latencies() {
  if (!used.length) {
    for (const id of ["heatmap", "percentiles"]) empty(id, "Nothing was delivered in the measured time.");
    return;
  }
  const plot = new Plot("heatmap", "Latencies over time");
  const most = Math.max(...points.flatMap((point, index) => point.counts.map((count) => count / lengths[index])));
  levels(plot);
  points.forEach((point, index) => point.counts.forEach((count, bucket) => {
    if (!count) return;
    const from = index ? points[index - 1].at / total : 0;
    // By the root: a few deliveries far out matter, and have to be seen.
    const ink = .06 + .94 * Math.sqrt(count / lengths[index] / most);
    const height = plot.depth / (highest - lowest);
    shape(plot.svg, "rect", {
      x: plot.x(from), width: Math.max(1, (point.at / total - from) * plot.inner - .5), height: height - .5,
      y: plot.y((bucket + 1 - lowest) / (highest - lowest)), rx: 1.5, fill: `rgb(var(--heat) / ${ink.toFixed(3)})`,
    });
  }));
  const has = (point) => point.counts.length > 0;
  plot.line("two", points.map((point, index) => [middle[index], has(point) ? level(point.p99_us) : null]));
  plot.line("three", points.map((point, index) => [middle[index], has(point) ? level(point.max_us) : null]));
  const late = points.some((point) => point.late_send_p99_us > 0);
  if (late) plot.line("four", points.map((point, index) => [middle[index], point.late_send_p99_us > 0 ? level(point.late_send_p99_us) : null]));
  plot.key([["p99", "two"], ["longest", "three"], ...(late ? [["sent late by, p99", "four"]] : [])]);
  seconds(plot);
  plot.hover(middle, (index) => {
    const point = points[index];
    if (!has(point)) return `${when(index)}\nnothing arrived`;
    return `${when(index)}\nmedian   ${text(time(point.p50_us))}\np90      ${text(time(point.p90_us))}\np99      ${text(time(point.p99_us))}\nlongest  ${text(time(point.max_us))}\nlate     ${text(time(point.late_send_p99_us))}`;
  });

  const curve = new Plot("percentiles", "Latency by percentile");
  const tail = run.percentiles.filter((point) => point.percent >= 50);
  const rarest = tail.length > 1 ? tail[tail.length - 2].percent : 90;
  const nines = (percent) => -Math.log10(Math.max(1 - percent / 100, 1e-9));
  const start = nines(50), end = nines(rarest) + .35;
  const across = (percent) => (percent === 100 ? 1 : (nines(percent) - start) / (end - start));
  levels(curve);
  let taken = 1;
  curve.vertical(taken, "max");
  for (const percent of [99.9999, 99.999, 99.99, 99.9, 99, 90, 50])
    if (percent <= rarest && (taken - across(percent)) * curve.inner > 56) {
      taken = across(percent);
      curve.vertical(taken, `${percent}%`);
    }
  const coordinates = tail.map((point) => [across(point.percent), level(point.us)]);
  curve.area(coordinates);
  curve.line("one", coordinates);
  curve.hover(tail.map((point) => across(point.percent)), (index) =>
    `${index === tail.length - 1 ? "longest" : `${round(tail[index].percent, 5)} % within`}\n${text(time(tail[index].us))}`);
}

function usage() {
  const percent = (value) => [round(value, 0), "%"];
  over("throughput", "Deliveries a second", [["deliveries/s", "one", points.map((point, index) => point.deliveries / lengths[index])]], short, 1);
  const server = points.map((point) => point.server_cpu_percent);
  over("cpu", "Processor time", [
    ["server", "one", server], ["load generator", "two", points.map((point) => point.load_cpu_percent)],
    ["others", "three", points.map((point) => point.other_cpu_percent)],
  ].filter(([, , values]) => values.some(known)), percent, 10);
  const resident = points.map((point) => (known(point.rss_kb) ? point.rss_kb / 1024 : null));
  over("memory", "Resident memory of the server", [["server", "one", resident]], (megabytes) => memory(megabytes * 1024), 1);
}

function draw() {
  for (const place of document.querySelectorAll("figure > div")) place.replaceChildren();
  latencies();
  usage();
}
draw();
let drawnAt = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== drawnAt) draw();
  drawnAt = innerWidth;
});

// Tables --------------------------------------------------------------------------------------------------------------

function row(table, name, value, bad = false) {
  const line = node("tr", bad ? { class: "bad" } : {});
  line.append(node("td", {}, name), node("td", {}, value));
  $(table).append(line);
}
row("streams", "connected", `${grouped(run.connected)} of ${grouped(run.clients)}`, run.connected < run.clients);
row("streams", "events published", grouped(run.events_published));
row("streams", "deliveries checked", grouped(run.deliveries));
for (const [name, count] of [
  ["lost", run.lost], ["duplicated", run.duplicated], ["out of order", run.out_of_order],
  ["ids out of order", run.ids_out_of_order], ["gaps reported", run.gaps],
  ["corrupted", run.corrupted], ["malformed", run.malformed], ["streams closed early", run.closed],
  ["publishes failed", run.publish_failures], ["events never sent", run.events_unsent],
]) row("streams", name, grouped(count), count > 0);

const shown = [1, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100];
for (const point of run.percentiles.filter(({ percent }) => shown.some((one) => Math.abs(one - percent) < 1e-6)))
  row("table", point.percent === 100 ? "longest" : `${round(point.percent, 5)} %`, text(time(point.us)));
if (known(run.last_client_p99_us)) row("table", "last subscriber, p99", text(time(run.last_client_p99_us)));

for (const [name, value] of [
  ["subscribe", options.sse_url], ["publish", options.publish_url], ["body", options.body],
  ["topics", `${grouped(options.topics)}, ${options.topics_per_client} a subscriber`],
  ["events go to", options.distribution], ["warm-up", `${options.warmup_seconds} s`],
  ["connected within", `${round(run.connect_seconds, 3)} s`],
  ["server memory", known(run.rss_end_kb) ? `${text(memory(run.rss_before_kb))} before, ${text(memory(run.rss_connected_kb))} connected, ${text(memory(run.rss_end_kb))} at the end` : null],
  ["CPU a delivery", known(run.server_cpu_us_per_delivery) ? `${round(run.server_cpu_us_per_delivery, 3)} µs` : null],
  ["sent late by", known(run.late_send_p99_us) ? `p99 ${text(time(run.late_send_p99_us))}, longest ${text(time(run.late_send_max_us))}` : null],
  ["CPU of the machine", known(run.machine_cpu_percent) ? `${round(run.machine_cpu_percent, 0)} % of all processors` : null],
  ["fanline", options.version],
]) if (known(value)) row("options", name, value);
