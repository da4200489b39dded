// A small line of recent values inside a table.

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 40;
const [WIDTH, HEIGHT] = [96, 22];

export class Sparkline {
  #values = [];

  constructor() {
    this.node = document.createElementNS(SVG, "svg");
    this.node.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.node.setAttribute("class", "sparkline");
    this.node.setAttribute("aria-hidden", "true");
    this.line = this.node.appendChild(document.createElementNS(SVG, "polyline"));
  }

  add(value) {
    this.#values.push(value);
    if (this.#values.length > POINTS) this.#values.shift();
    const [least, most] = [Math.min(0, ...this.#values), Math.max(...this.#values)];
    const height = (each) => (most > least ? 1 + (HEIGHT - 2) * (1 - (each - least) / (most - least)) : HEIGHT - 1);
    const begin = POINTS - this.#values.length;
    const points = this.#values.map((each, index) => `${((begin + index) * WIDTH) / (POINTS - 1)},${height(each).toFixed(1)}`);
    this.line.setAttribute("points", points.join(" "));
  }
}
