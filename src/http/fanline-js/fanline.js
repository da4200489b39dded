/**
 * A client of fanline's `GET /stream`, for browsers and for Node 20 or newer. It has no dependencies.
 *
 * A stream delivers every event of its topics once and in order, from the position that it starts at, or a gap that says what
 * is missing. This holds over lost connections, refusals, restarts, sleep, and the tabs of a browser.
 *
 * - A position is the id of the last complete event. After a lost connection the server sends what follows the position.
 * - `Reader` reads with `fetch`. An `EventSource` gives up after any status but 200, and hides the status, `Retry-After` and
 *   the server's keep-alives.
 * - `Tab` shares the reader of one tab with the other tabs, if the browser has Web Locks and BroadcastChannel.
 */

/** Seconds of silence after which the server sends a keep-alive, unless the URL says otherwise. */
const HEARTBEAT = "20";
/** Milliseconds before the first reconnection, until the server has sent a `retry`. */
const RETRY = 1000;
/** The longest delay that repeated failures lead to, in milliseconds. The server may ask for more. */
const MAX_RETRY = 30_000;
/** The longest timeout of browsers, in milliseconds. A longer one would end at once. */
const MAX_TIMEOUT = 2 ** 31 - 1;
/** Milliseconds between two checks for silence. */
const TICK = 5000;
/** How many questions the leading tab may leave unanswered before a visible tab replaces it. */
const MAX_UNANSWERED = 3;
/** Events after which a connection may be gone, or possible again. */
const WAKING_EVENTS = ["online", "pageshow", "visibilitychange"];

/** @type {typeof import("./fanline.d.ts").connect} */
export const connect = (url, options = {}) => {
  const target = new URL(url, globalThis.location?.href);
  const query = target.searchParams;
  query.set("format", "envelope");
  if (options.topics?.length) query.set("topics", [...options.topics].sort().join());
  if (!query.has("heartbeat")) query.set("heartbeat", HEARTBEAT);
  // Each tab needs the whole snapshot.
  const isShared = query.get("mode") !== "latest" && options.share;
  const tab = new Tab(target, { ...options, share: isShared });
  return {
    close: () => tab.close(),
    get lastEventId() {
      return tab.position;
    },
  };
};

/**
 * Whether position `a` is after `b`, or of another epoch. Sequences number events from 1: a double is exact for all of them
 * that a server lives to see.
 */
const isAfter = (a, b) => {
  if (a === b) return false;
  const [[epoch, sequence], [other, reached]] = [a, b].map((position) => `${position}`.split("-"));
  return epoch !== other || !(Number(sequence) <= Number(reached));
};

/** Whether events after `position` are missing up to `gapEnd`, for some of the topics. */
const isInGap = (position, gapEnd) => gapEnd !== undefined && isAfter(gapEnd, position);

/** The end of all gaps, after one more `gap`. */
const endOfGaps = (gapEnd, gap) => (gap && isInGap(gapEnd, gap.to) ? gap.to : gapEnd);

/**
 * Reads a stream, and reconnects until it is stopped. It resumes from `tab.position`, and passes lists of items to `tab.take`:
 *
 * - `{ id, event }`: a published event
 * - `{ id, gap }`: events that are missing
 * - `{ id, snapshot }`: with `mode=latest`, the end of the current values
 * - `{ id }`: another position
 * - `{ state, detail }`: the state of the connection
 */
class Reader {
  retry = RETRY;
  failures = 0;

  constructor(tab, secret) {
    this.tab = tab;
    /** The token in use. */
    this.secret = secret;
    this.silence = Number(tab.url.searchParams.get("heartbeat")) * 2500;
  }

  async run() {
    while (!this.isStopped) {
      const attempt = (this.attempt = new AbortController());
      /** What is known about the end of this connection. */
      this.end = {};
      await this.read(attempt.signal).catch((error) => (this.end.reason ??= error.message));
      const isReplaced = attempt.signal.aborted;
      // A body that was not read to its end would keep its connection.
      attempt.abort();
      if (!isReplaced) await this.pause(this.end);
    }
  }

  stop() {
    this.isStopped = true;
    this.attempt.abort();
    clearTimeout(this.renewal);
    this.waiting?.wake();
  }

  /**
   * Replaces a silent connection, and ends a wait whose timer is late. `reason` is the event that woke the page, if any: it ends
   * a wait as soon as the server allows.
   */
  check(reason) {
    const now = Date.now();
    if (this.waiting) {
      if (now >= (reason ? this.waiting.earliest : this.waiting.due)) this.waiting.wake();
    } else if (reason === "online" || now - this.heard > this.silence) {
      // The network may be another one, or the connection dead although no error says so.
      this.attempt.abort();
    }
  }

  /** Reads one connection to its end. */
  async read(signal) {
    const { url, options, position } = this.tab;
    this.tab.take([{ state: "connecting" }]);
    this.heard = Date.now();
    this.secret ??= await (typeof options.token === "function" ? options.token() : options.token);
    // In the query: pages of other origins need no preflight request for it.
    const target = new URL(url);
    if (position) target.searchParams.set("last_event_id", position);
    const headers = { accept: "text/event-stream", ...(this.secret && { authorization: `Bearer ${this.secret}` }) };
    const response = await fetch(target, { signal, headers, credentials: options.credentials, cache: "no-store" });
    if (response.status !== 200) return this.refused(response);
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) throw Error("the response is not a stream");
    const body = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await body.read();
      // The last chunk may have been read before the abort.
      signal.throwIfAborted();
      if (done) return;
      this.heard = Date.now();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      this.tab.take(blocks.flatMap((block) => this.parse(block)));
    }
  }

  async refused(response) {
    const { status, headers } = response;
    const isRenewable = status === 401 && typeof this.tab.options.token === "function";
    const { detail } = await response.json().catch(() => ({}));
    this.end = {
      reason: detail ?? `status ${status}`,
      isFinal: status < 500 && ![408, 425, 429].includes(status) && !isRenewable,
      // A new token deserves one attempt without delay.
      isImmediate: isRenewable && !this.isRefused,
      least: Number(headers.get("retry-after")) * 1000 || 0,
    };
    if (isRenewable) [this.secret, this.isRefused] = [undefined, true];
  }

  /** Waits before the next connection, unless it is useless or to be made at once. */
  async pause({ reason = "the connection was lost", isFinal, isImmediate, least = 0 }) {
    if (isFinal) return this.tab.take([{ state: "closed", detail: reason }]);
    if (isImmediate) return;
    const own = Math.min(this.retry * 2 ** this.failures++, Math.max(this.retry, MAX_RETRY));
    const retryIn = Math.min(Math.round(Math.max(own, least) * (1 + Math.random() / 2)), MAX_TIMEOUT);
    this.tab.take([{ state: "waiting", detail: { reason, retryIn } }]);
    if (this.isStopped) return;
    const now = Date.now();
    let timer;
    await new Promise((wake) => {
      this.waiting = { earliest: now + least, due: now + retryIn, wake };
      timer = setTimeout(wake, retryIn);
    });
    clearTimeout(timer);
    this.waiting = undefined;
  }

  /** Returns the items of one block of the stream. The server puts a space after each colon. */
  parse(block) {
    const fields = {};
    for (const line of block.split("\n")) {
      const [name] = line.split(":", 1);
      const value = line.slice(name.length + 2);
      fields[name] = name in fields ? `${fields[name]}\n${value}` : value;
    }
    const { id, event, data } = fields;
    this.retry = Number(fields.retry) || this.retry;
    if (!data || event === "heartbeat") return [];
    const message = JSON.parse(data);
    if (message.type === "event") {
      const { topic, event, data = message.text } = message;
      return [{ id, event: { id, topic, event, data } }];
    }
    if (event === "gap") return [{ id, gap: message }];
    if (event === "snapshot") return [{ id, snapshot: message }];
    if (event === "system") return [{ id }, ...this.system(message)];
    throw Error("the server does not know format=envelope");
  }

  system({ message, reason = message, detail = reason, retry, expires_in }) {
    if (message === "connected") {
      [this.failures, this.isRefused, this.isOpen] = [0, false, true];
      return [{ state: "open" }];
    }
    if (expires_in !== undefined) this.renew(expires_in);
    else this.end = { reason: detail, least: retry, isImmediate: message === "token expired" };
    if (message === "token expired") this.secret = undefined;
    return [];
  }

  /** Asks for a new token at a random moment of the `seconds` that are left, and connects again with it. */
  renew(seconds) {
    const { attempt } = this;
    const { token } = this.tab.options;
    if (typeof token !== "function") return;
    clearTimeout(this.renewal);
    this.renewal = setTimeout(async () => {
      try {
        this.secret = await token();
        attempt.abort();
      } catch {
        // The token is asked for again when the stream has ended.
      }
    }, seconds * (250 + Math.random() * 500));
  }
}

/**
 * One call of {@link connect}. Tabs with the same URL, topics and token form a group. The tab that holds the group's lock
 * leads: it reads the stream, and posts each list of items together with the position before it. The others follow.
 *
 * A follower compares each list with its own position, and relies on no order between locks, messages and tabs:
 *
 * - The list begins after its position: it missed something. It reads the stream itself until it is level with the leader.
 * - An item ends at its position or before it: it has the item, and the leader resumed at an earlier position.
 * - Otherwise the item is the next one.
 *
 * Two tabs may therefore lead at the same time, which happens when one was frozen and replaced. A gap of some topics ends after
 * the position of the list that reports it. A follower joins inside of it only if it has this list: the lists are numbered.
 */
class Tab {
  /** How many questions the leader has left unanswered. */
  unanswered = 0;
  /** The number of lists that this tab has posted, and its name in them. */
  posted = 0;
  id = Math.random();
  /** The state that was last reported. */
  status = {};

  constructor(url, options) {
    this.url = url;
    this.options = options;
    /** The position of the last item that was delivered. */
    this.position = options.lastEventId || undefined;
    this.wake = ({ type }) => (type === "visibilitychange" && document.hidden) || this.tick(type);
    for (const type of WAKING_EVENTS) globalThis.addEventListener?.(type, this.wake);
    this.timer = setInterval(() => this.tick(), TICK);
    this.join();
  }

  async join() {
    const { share = true, token } = this.options;
    if (!share || !globalThis.navigator?.locks || !globalThis.BroadcastChannel) return this.read();
    this.deliver({ state: "connecting" });
    try {
      if (share === true) this.secret = await (typeof token === "function" ? token() : token);
    } catch {
      // The group is unknown without a token. The reader asks for one again.
      return this.read();
    }
    if (this.isClosed) return;
    this.group = `fanline ${this.url} ${share === true ? (this.secret ?? "") : share}`;
    this.channel = new BroadcastChannel(this.group);
    this.channel.onmessage = ({ data }) => (data.items ? this.leads || this.follow(data) : this.answer(data));
    this.ask();
    this.queue();
  }

  close() {
    this.isClosed = true;
    clearInterval(this.timer);
    for (const type of WAKING_EVENTS) globalThis.removeEventListener?.(type, this.wake);
    this.unread();
    this.turn?.abort();
    this.release?.();
    this.channel?.close();
  }

  /** Starts this tab's own reader. */
  read() {
    if (this.reader || this.isClosed) return;
    this.reader = new Reader(this, this.secret);
    this.reader.run();
  }

  unread() {
    this.reader?.stop();
    this.reader = undefined;
  }

  /** Takes items from this tab's own reader. */
  take(items) {
    if (this.leads) this.post(items);
    for (const item of items) this.deliver(item);
    this.meet();
  }

  deliver({ id, event, gap, snapshot, state, detail }) {
    if (this.isClosed) return;
    const { onEvent, onGap, onSnapshot, onState } = this.options;
    this.position = id ?? this.position;
    this.gapEnd = endOfGaps(this.gapEnd, gap);
    const isNews = state && (state !== this.status.state || detail?.retryIn !== this.status.detail?.retryIn);
    if (isNews) this.status = { state, detail };
    if (state === "closed") this.close();
    try {
      if (event) onEvent?.(event);
      if (gap) onGap?.(gap);
      if (snapshot) onSnapshot?.(snapshot);
      if (isNews) onState?.(state, detail);
    } catch (error) {
      // An error of the page must not end the stream.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  /** Waits for the lock. `steal` takes it from a leader that does not answer. */
  queue(steal) {
    this.turn?.abort();
    const turn = (this.turn = new AbortController());
    const options = steal ? { steal } : { signal: turn.signal };
    navigator.locks.request(this.group, options, () => this.lead()).catch(() => {
      if (turn !== this.turn || this.isClosed) return;
      // Another tab has taken the lock.
      this.leads = false;
      this.unread();
      this.ask();
      this.queue();
    });
  }

  lead() {
    if (this.isClosed) return;
    this.leads = true;
    // What the last leader posts from now on continues nothing here.
    this.seen = undefined;
    this.read();
    this.answer({});
    return new Promise((release) => (this.release = release));
  }

  post(items) {
    if (!items.length) return;
    const { id: leader, position: from, gapEnd } = this;
    this.channel.postMessage({ items, from, gapEnd, leader, number: ++this.posted });
  }

  /** Asks the leader for its position and state. */
  ask(reason) {
    this.channel.postMessage({ reason });
  }

  answer({ reason }) {
    if (!this.leads) return;
    // The timers of a hidden tab may be late.
    this.reader.check(reason);
    this.post([this.status]);
  }

  /** Takes a list of items from the leader, `from` a position. */
  follow({ items, from, gapEnd, leader, number }) {
    this.unanswered = 0;
    // A tab that wants the newest events of the history gets them from the server.
    if (!this.url.searchParams.has("history")) this.position ??= from;
    const { position, seen } = this;
    if (seen?.leader !== leader || seen.number + 1 !== number) {
      // The page may have resumed from an id that was never given, which only the server can tell.
      const isBehind = seen ? isAfter(from, position) : from !== position;
      if (isBehind || isInGap(position, gapEnd)) this.read();
    }
    for (const item of items) {
      const isNext = !item.id || isAfter(item.gap?.to ?? item.id, this.position);
      // Which part of a gap from another position is missing here?
      if (isNext && item.gap && from !== this.position) this.read();
      if (isNext && !this.reader) this.deliver(item);
      from = item.id ?? from;
      gapEnd = endOfGaps(gapEnd, item.gap);
    }
    this.seen = { leader, number, position: from, gapEnd };
    this.meet();
  }

  /** Stops this tab's own reader when it is level with the leader. */
  meet() {
    if (!this.reader?.isOpen || this.leads || !this.seen) return;
    const { position, gapEnd } = this.seen;
    if (isAfter(position, this.position) || isInGap(position, gapEnd)) return;
    this.unread();
    this.ask();
  }

  /** Checks for silence, of the server and of the leader. `reason` is the event that woke the page, if any. */
  tick(reason) {
    this.reader?.check(reason);
    if (!this.channel || this.leads || globalThis.document?.hidden) return;
    if (reason || this.unanswered++ < MAX_UNANSWERED) return this.ask(reason);
    this.unanswered = 0;
    this.queue(true);
  }
}
