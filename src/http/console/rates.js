// Rates from counters that are read again and again.

export class Rates {
  #before = new Map();

  /** The growth per second of a counter since it was last read. Undefined at first, and when it began anew. */
  of(key, value, now) {
    const before = this.#before.get(key);
    this.#before.set(key, { value, now });
    if (!before || value < before.value || now <= before.now) return undefined;
    return ((value - before.value) * 1000) / (now - before.now);
  }

  /** Forgets counters that were not read at `now`. */
  forgetOlder(now) {
    for (const [key, before] of this.#before) if (before.now < now) this.#before.delete(key);
  }
}
