/** Opens a stream. It connects at once, and again after each lost connection, until it is closed. */
export function connect(url: string | URL, options?: Options): Stream;

export interface Options {
  /** The topics and patterns to subscribe to. Default: every topic. */
  topics?: readonly string[];
  /**
   * Resume after the event with this id, or from the oldest retained event with `"earliest"`.
   * Default: start with the next event.
   */
  lastEventId?: string;
  /**
   * A token or API key, or a function that returns one. The function is called before the first connection, before its token
   * expires, and after the server has refused its token. Return a new token each time, or undefined for none.
   */
  token?: string | (() => string | undefined | Promise<string | undefined>);
  /**
   * Whether tabs of the same origin share one connection. Default: true.
   *
   * With `true`, tabs share if they have the same URL, topics and token. With a string, they share if they have the same URL,
   * topics and string: use the id of the user if `token` is a function that returns another token in each tab.
   */
  share?: boolean | string;
  /** Whether cookies are sent to a server of another origin, as for `fetch`. Default: `"same-origin"`. */
  credentials?: RequestCredentials;
  /** Called with each event, in order. */
  onEvent?: (event: StreamEvent) => void;
  /** Called when events are missing. Reload the state that the topics of the gap describe. */
  onGap?: (gap: Gap) => void;
  /**
   * With `mode=latest` in the URL: called when all current values were delivered, at first and after each gap. A gap then means that
   * what was delivered before it is to be discarded.
   */
  onSnapshot?: (snapshot: { entries: number }) => void;
  /** Called when the state of the connection has changed. */
  onState?: (...change: StateChange) => void;
}

export interface Stream {
  /** Ends the stream. No handler is called afterwards. */
  close(): void;
  /** The position: everything up to it was delivered. Before the first connection it is the option of this name. */
  readonly lastEventId: string | undefined;
}

export interface StreamEvent<Data = any> {
  /** An opaque string. */
  id: string;
  topic: string;
  /** The name of the event. `"message"` if it was published without one. */
  event: string;
  /** The published JSON, or a string if the event is text. */
  data: Data;
}

/** Events that the stream does not deliver. Their number is `missed`, or null if it is not known. */
export interface Gap {
  reason: "evicted" | "lagged" | "epoch" | "unknown_id";
  /** The last position before the gap. Null if the id to resume from was never given. */
  from: string | null;
  /** The last position of the gap. */
  to: string;
  missed: number | null;
  /** The topics and patterns that the gap is about. Absent: all of the stream. */
  topics?: string[];
}

/** The state, and what is known about it. */
export type StateChange =
  | [state: "connecting", detail: undefined]
  | [state: "open", detail: undefined]
  /** The connection was lost or refused. The next one is tried in `retryIn` milliseconds. */
  | [state: "waiting", detail: { reason: string; retryIn: number }]
  /** The server refuses the stream for good: the detail says why. */
  | [state: "closed", detail: string];
