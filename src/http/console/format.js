// Numbers, sizes and times as text. A missing value is a dash.

const number = new Intl.NumberFormat("en");

const scaled = (value, step, units) => {
  let unit = 0;
  while (Math.abs(value) >= step && unit < units.length - 1) {
    value /= step;
    unit++;
  }
  return `${unit && Math.abs(value) < 100 ? value.toFixed(1) : Math.round(value)}${units[unit]}`;
};

export const count = (value) => (value == null ? "–" : number.format(Math.round(value)));
export const rate = (value) => (value == null ? "–" : value > 0 && value < 10 ? value.toFixed(1) : count(value));
export const bytes = (value) => (value == null ? "–" : scaled(value, 1000, [" B", " kB", " MB", " GB", " TB"]));
export const bytesPerSecond = (value) => (value == null ? "–" : `${bytes(value)}/s`);
export const percent = (value) => (value == null ? "–" : `${value.toFixed(value > 0 && value < 10 ? 1 : 0)} %`);

/** A duration in seconds. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 0.9995) return `${seconds > 0 && seconds < 0.00995 ? (seconds * 1000).toFixed(1) : Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** The time of day, in milliseconds since 1970. */
export const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

/** `1 event`, `2 events`. */
export const events = (value) => `${count(value)} event${value === 1 ? "" : "s"}`;

/** A value of an event, by the unit that the event names. */
export function inUnit(unit) {
  if (unit === "bytes") return bytes;
  if (unit === "bytes/s") return bytesPerSecond;
  if (unit === "percent") return percent;
  return (value) => (Number.isInteger(value) ? count(value) : rate(value));
}
