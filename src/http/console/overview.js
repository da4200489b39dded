// The figures of the server and their charts, from GET /metrics/json.

import { Chart } from "./chart.js";
import { byId, say } from "./dom.js";
import { bytes, bytesPerSecond, count, duration, events, percent, rate } from "./format.js";
import { Rates } from "./rates.js";

export class Overview {
  #rates = new Rates();

  constructor() {
    const place = byId("charts");
    const chart = (title, names, show, most) => new Chart(place, { title, names, show, most });
    this.charts = {
      events: chart("Events a second", ["published", "delivered"], rate),
      bytes: chart("Sent to subscribers", [""], bytesPerSecond, 1000),
      streams: chart("Subscribers", [""], count, 4),
      lag: chart("Furthest behind, in events", [""], count, 4),
      processor: chart("Processor, this server", [""], percent, 10),
      memory: chart("Memory, this server", [""], bytes),
    };
  }

  /** Shows the metrics that were read at `now`, in milliseconds. */
  show({ connections, events: counts, latency, lag, history, process }, now) {
    const rateOf = (name, value) => this.#rates.of(name, value, now);
    const published = rateOf("published", counts.published);
    const delivered = rateOf("delivered", counts.delivered);
    const gaps = Object.values(counts.gaps).reduce((sum, each) => sum + each, 0);
    say(byId("published"), rate(published));
    say(byId("published-all"), `${count(counts.published)} since start`);
    say(byId("delivered"), rate(delivered));
    say(byId("delivered-all"), `${events(counts.delivered)}, ${bytes(counts.delivered_bytes)}`);
    say(byId("streams"), count(connections.streams));
    say(byId("connections"), `${count(connections.current)} connections`);
    say(byId("latency"), duration(latency.socket.p99));
    say(byId("latency-half"), `p50 ${duration(latency.socket.p50)}`);
    say(byId("retained"), count(history.events));
    say(byId("retained-bytes"), `${bytes(history.bytes)} in ${count(history.topics)} topics`);
    say(byId("gaps"), count(gaps));
    say(byId("ended"), `${count((connections.ended.lagged ?? 0) + (connections.ended.stalled ?? 0))} cut off for lag`);
    const time = now / 1000;
    const processor = rateOf("processor", process.cpu_seconds);
    this.charts.events.add(time, [published, delivered]);
    this.charts.bytes.add(time, [rateOf("bytes", counts.delivered_bytes)]);
    this.charts.streams.add(time, [connections.streams]);
    this.charts.lag.add(time, [lag.worst[0]?.queue_size ?? 0]);
    this.charts.processor.add(time, [processor === undefined ? undefined : processor * 100]);
    this.charts.memory.add(time, [process.resident_bytes]);
  }
}
