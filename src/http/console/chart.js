// A line chart of the last minutes, drawn by uPlot. Its caption has the newest values, or those under the pointer.

import { element, say } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT = 150;
/** Seconds of data that a chart keeps. */
const KEPT = 3600;
const COLOURS = ["--accent", "--second"];
const charts = new Set();
let range = 300;

/** Shows the last `seconds` in all charts. */
export function setRange(seconds) {
  range = seconds;
  drawAll();
}

export const drawAll = () => charts.forEach((chart) => chart.draw());
addEventListener("themechange", drawAll);

// Looked up on each draw, so that charts follow the theme. `light-dark()` is resolved in properties of elements only.
const probe = document.body.appendChild(element("i", { hidden: true }));
function colour(name, alpha = "") {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color.replace(/^rgb\((.*)\)$/, alpha ? `rgba($1, ${alpha})` : "$&");
}

export class Chart {
  #pointed = null;

  /** `names`: of the series, in the caption. `show`: a value as text. `most`: what the axis shows at least. */
  constructor(place, { title, names, show, most = 1 }) {
    Object.assign(this, { title, names, show, data: [[], ...names.map(() => [])] });
    this.time = element("time");
    this.legend = names.map(() => element("span"));
    this.box = element("div", { className: "plot", tabIndex: 0 });
    this.box.setAttribute("role", "img");
    const caption = element("figcaption", {}, element("b", {}, title), this.time, element("em", {}, ...this.legend));
    this.figure = place.appendChild(element("figure", {}, caption, this.box));
    this.plot = new uPlot(this.#options(most), this.data, this.box);
    this.box.addEventListener("keydown", (event) => this.#step(event));
    this.box.addEventListener("blur", () => this.#point(null));
    new ResizeObserver(() => this.draw()).observe(this.figure);
    charts.add(this);
    this.#describe();
  }

  /** Adds the values at `time`, in seconds. */
  add(time, values) {
    this.data[0].push(time);
    values.forEach((value, index) => this.data[index + 1].push(value ?? null));
    const old = this.data[0].findIndex((each) => each > time - KEPT);
    if (old > 60) this.data.forEach((series) => series.splice(0, old));
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width) return;
    if (width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    this.plot.setData(this.data);
    this.#describe();
  }

  #options(most) {
    const axis = { stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const hours = (_, ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, tick % 60 ? 8 : 5));
    return {
      width: 320,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 }, sync: { key: "fanline" } },
      scales: {
        x: { time: true, range: () => this.#span() },
        y: { range: (_, __, highest) => [0, highest > most ? highest * 1.15 : most] },
      },
      axes: [
        { ...axis, space: 70, size: 26, values: hours },
        { ...axis, space: 34, size: 62, values: (_, ticks) => ticks.map(this.show) },
      ],
      series: [{}, ...this.names.map((_, index) => ({
        stroke: () => colour(COLOURS[index]),
        fill: index ? undefined : () => colour(COLOURS[0], ".12"),
        width: 1.8,
        points: { show: false },
      }))],
      hooks: { setCursor: [({ cursor }) => { this.#pointed = cursor.idx ?? null; this.#describe(); }] },
    };
  }

  /** The shown times: a minute at first, and up to the range as data comes. */
  #span() {
    const now = Date.now() / 1000;
    return [Math.max(now - range, Math.min(this.data[0][0] ?? now, now - 60)), now];
  }

  #step(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !this.data[0].length) return;
    event.preventDefault();
    const last = this.data[0].length - 1;
    this.#point(Math.min(last, Math.max(0, (this.#pointed ?? last + 1) + step)));
  }

  #point(index) {
    const left = index == null ? -10 : this.plot.valToPos(this.data[0][index], "x");
    this.plot.setCursor({ left, top: index == null ? -10 : 1 });
  }

  #describe() {
    const at = this.#pointed ?? this.data[0].length - 1;
    this.legend.forEach((span, index) => say(span, `${this.names[index]} ${this.show(this.data[index + 1][at])}`.trim()));
    say(this.time, this.#pointed == null ? "" : clock(this.data[0][at] * 1000));
    const values = this.legend.map((span) => span.textContent).join(", ");
    this.box.setAttribute("aria-label", `${this.title}, line chart. ${this.time.textContent || "Now"}: ${values}. Arrow keys move in time.`);
  }
}
