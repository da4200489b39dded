//! Every setting there is.

use std::time::Duration;

use super::access;
use super::address::{Addresses, Host, Port};
use super::backbone;
use super::cors::AllowedOrigins;
use super::definition::{About, Definition, Setting};
use super::duration::Span;
use super::kind::{Choice, Cores, Count, Optional, Switch};
use super::limits;
use super::size::{GIB, KIB, MIB, Size, TIB};
use super::word::{LogFilter, TopicName};

const NETWORK: &str = "Network";
const HISTORY_OF_EVENTS: &str = "History";
pub(super) const LIMITS: &str = "Limits";
const TIMES: &str = "Times";
const PRODUCERS: &str = "Producers";
const LOG: &str = "Log";

/// In the order of `--help` and of `--check`.
pub static ALL: [&dyn Definition; 64] = [
    &LISTEN,
    &HOST,
    &PORT,
    &SHARDS,
    &SEND_BUFFER,
    &CORS_ORIGIN,
    &CORS_CREDENTIALS,
    &HISTORY,
    &HISTORY_BYTES,
    &HISTORY_TOPICS,
    &FIREHOSE_HISTORY,
    &TOPIC_TTL,
    &MAX_EVENT_BYTES,
    &MAX_BODY_BYTES,
    &MAX_TOPICS,
    &limits::MAX_CONNECTIONS,
    &limits::MAX_CONNECTIONS_PER_ADDRESS,
    &limits::CONNECT_RATE,
    &limits::PUBLISH_RATE,
    &limits::PUBLISH_RATE_PER_KEY,
    &limits::MAX_FIREHOSE,
    &limits::MAX_SILENT_TOPICS,
    &limits::MAX_PATTERNS,
    &limits::MAX_WILDCARDS,
    &limits::MAX_QUERY_BYTES,
    &limits::MAX_HEAD_BYTES,
    &limits::MAX_HEADERS,
    &limits::MAX_LINE_BYTES,
    &limits::BODY_TIMEOUT,
    &limits::UPLOAD_TIMEOUT,
    &HEAD_TIMEOUT,
    &HEARTBEAT,
    &RETRY,
    &WRITE_TIMEOUT,
    &DRAIN,
    &DEMO,
    &STDIN,
    &STDIN_FORMAT,
    &TOPIC,
    &access::JWT_SECRET,
    &access::JWT_PUBLIC_KEY,
    &access::JWKS,
    &access::JWT_AUDIENCE,
    &access::JWT_ISSUER,
    &access::JWT_LEEWAY,
    &access::ANONYMOUS_SUBSCRIBE,
    &access::ANONYMOUS_PUBLISH,
    &access::ANONYMOUS_METRICS,
    &access::AUTHORIZE_URL,
    &access::AUTHORIZE_TIMEOUT,
    &access::AUTHORIZE_CONCURRENCY,
    &access::AUTHORIZE_CACHE,
    &backbone::REDIS,
    &backbone::REDIS_KEY,
    &backbone::REDIS_HISTORY,
    &backbone::REDIS_WAIT,
    &backbone::REDIS_LOSSLESS,
    &backbone::REDIS_TIMEOUT,
    &backbone::REDIS_START,
    &backbone::PUBLISH_TIMEOUT,
    &backbone::RESUME_WAIT,
    &backbone::NODE,
    &LOG_LEVEL,
    &LOG_FORMAT,
];

/// The formats of standard input, before the topic is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinFormat {
    /// Each line is a payload.
    Lines,
    /// Each line is an event.
    Ndjson,
}

const SECOND: Duration = Duration::from_secs(1);
const FIVE_MINUTES: Duration = Duration::from_secs(300);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
// Longer than anybody means, and short enough to be added to any clock.
const TEN_YEARS: Duration = Duration::from_secs(10 * 31_557_600);

/// Address to listen on; repeatable, or separated by commas.
pub static LISTEN: Setting<Addresses> = Setting {
    about: About::new(
        "listen",
        NETWORK,
        "ADDRESS",
        "127.0.0.1:8000",
        "Address to listen on; repeatable, or separated by commas",
    ),
    kind: Addresses,
};

/// IP address in place of that of the first --listen.
pub static HOST: Setting<Optional<Host>> = Setting {
    about: About::new("host", NETWORK, "ADDRESS", "", "IP address in place of that of the first --listen").or("HOST"),
    kind: Optional(Host),
};

/// Port in place of that of the first --listen.
pub static PORT: Setting<Optional<Port>> = Setting {
    about: About::new("port", NETWORK, "PORT", "", "Port in place of that of the first --listen").or("PORT"),
    kind: Optional(Port),
};

/// Threads that serve connections, each with its own subscribers; auto is one on each core.
pub static SHARDS: Setting<Cores> = Setting {
    about: About::new(
        "shards",
        NETWORK,
        "THREADS",
        "auto",
        "Threads that serve connections, each with its own subscribers; auto is one on each core",
    ),
    kind: Cores(Count { min: 1, max: 256, unit: "threads" }),
};

/// The kernel's send buffer of a connection: what a stalled client can hold.
pub static SEND_BUFFER: Setting<Size> = Setting {
    about: About::new(
        "send_buffer",
        NETWORK,
        "BYTES",
        "64KiB",
        "The kernel's send buffer of a connection: what a stalled client can hold",
    ),
    kind: Size { min: 4 * KIB, max: 16 * MIB },
};

/// Pages of these origins may read what is answered: * for any, or each by name; repeatable, or separated by commas.
pub static CORS_ORIGIN: Setting<Optional<AllowedOrigins>> = Setting {
    about: About::new(
        "cors_origin",
        NETWORK,
        "ORIGIN",
        "",
        "Pages of these origins may read what is answered: * for any, or each by name; repeatable, or separated by commas",
    ),
    kind: Optional(AllowedOrigins),
};

/// Pages of the origins that --cors-origin lists may send cookies.
pub static CORS_CREDENTIALS: Setting<Switch> = Setting {
    about: About::new(
        "cors_credentials",
        NETWORK,
        "BOOL",
        "false",
        "Pages of the origins that --cors-origin lists may send cookies",
    ),
    kind: Switch,
};

/// Events kept of each topic, for clients that come back with their last id.
pub static HISTORY: Setting<Count> = Setting {
    about: About::new(
        "history",
        HISTORY_OF_EVENTS,
        "EVENTS",
        "1000",
        "Events kept of each topic, for clients that come back with their last id",
    ),
    kind: Count { min: 1, max: 16_777_216, unit: "events" },
};

/// Bytes of events kept over all topics; above it the topic that holds the most gives first.
pub static HISTORY_BYTES: Setting<Size> = Setting {
    about: About::new(
        "history_bytes",
        HISTORY_OF_EVENTS,
        "BYTES",
        "64MiB",
        "Bytes of events kept over all topics; above it the topic that holds the most gives first",
    ),
    kind: Size { min: MIB, max: TIB },
};

/// Topics with events that are kept; above it those without subscribers go, the quietest first.
pub static HISTORY_TOPICS: Setting<Count> = Setting {
    about: About::new(
        "history_topics",
        HISTORY_OF_EVENTS,
        "TOPICS",
        "100000",
        "Topics with events that are kept; above it those without subscribers go, the quietest first",
    ),
    kind: Count { min: 1, max: 16_777_216, unit: "topics" },
};

/// Events kept for subscribers of everything or of a pattern.
pub static FIREHOSE_HISTORY: Setting<Count> = Setting {
    about: About::new(
        "firehose_history",
        HISTORY_OF_EVENTS,
        "EVENTS",
        "10000",
        "Events kept for subscribers of everything or of a pattern",
    ),
    kind: Count { min: 64, max: 16_777_216, unit: "events" },
};

/// How long a topic without subscribers and without events is kept.
pub static TOPIC_TTL: Setting<Span> = Setting {
    about: About::new(
        "topic_ttl",
        HISTORY_OF_EVENTS,
        "TIME",
        "1h",
        "How long a topic without subscribers and without events is kept",
    ),
    kind: Span { min: SECOND, max: TEN_YEARS },
};

/// The largest payload of an event.
pub static MAX_EVENT_BYTES: Setting<Size> = Setting {
    about: About::new("max_event_bytes", LIMITS, "BYTES", "64KiB", "The largest payload of an event"),
    kind: Size { min: 1, max: 16 * MIB },
};

/// The largest request body that is JSON or text; NDJSON bodies have no limit.
pub static MAX_BODY_BYTES: Setting<Size> = Setting {
    about: About::new(
        "max_body_bytes",
        LIMITS,
        "BYTES",
        "1MiB",
        "The largest request body that is JSON or text; NDJSON bodies have no limit",
    ),
    kind: Size { min: KIB, max: GIB },
};

/// Topics and patterns that one subscriber may ask for.
pub static MAX_TOPICS: Setting<Count> = Setting {
    about: About::new("max_topics", LIMITS, "TOPICS", "100", "Topics and patterns that one subscriber may ask for"),
    kind: Count { min: 1, max: 1000, unit: "topics" },
};

/// A connection that was quiet for this long gets a heartbeat.
pub static HEARTBEAT: Setting<Span> = Setting {
    about: About::new("heartbeat", TIMES, "TIME", "30s", "A connection that was quiet for this long gets a heartbeat"),
    kind: Span { min: SECOND, max: HOUR },
};

/// How long clients are told to wait before they reconnect, spread by 20 %.
pub static RETRY: Setting<Span> = Setting {
    about: About::new(
        "retry",
        TIMES,
        "TIME",
        "5s",
        "How long clients are told to wait before they reconnect, spread by 20 %",
    ),
    kind: Span { min: Duration::from_millis(100), max: HOUR },
};

/// A client that takes no byte for this long while some are pending is cut off.
pub static WRITE_TIMEOUT: Setting<Span> = Setting {
    about: About::new(
        "write_timeout",
        TIMES,
        "TIME",
        "30s",
        "A client that takes no byte for this long while some are pending is cut off",
    ),
    kind: Span { min: SECOND, max: HOUR },
};

/// How long a client may take to send the head of a request; a connection that is idle for so long is closed as well.
pub static HEAD_TIMEOUT: Setting<Span> = Setting {
    about: About::new(
        "head_timeout",
        LIMITS,
        "TIME",
        "10s",
        "How long a client may take to send the head of a request; a connection that is idle for so long is closed as well",
    ),
    kind: Span { min: Duration::from_millis(100), max: FIVE_MINUTES },
};

/// How long a stopping server spreads the closing of its streams.
pub static DRAIN: Setting<Span> = Setting {
    about: About::new("drain", TIMES, "TIME", "5s", "How long a stopping server spreads the closing of its streams"),
    kind: Span { min: Duration::ZERO, max: TEN_MINUTES },
};

/// Publishes this machine's metrics (topic metric), alerts (alert) and log lines (log).
pub static DEMO: Setting<Switch> = Setting {
    about: About::new(
        "demo",
        PRODUCERS,
        "BOOL",
        "false",
        "Publishes this machine's metrics (topic metric), alerts (alert) and log lines (log)",
    ),
    kind: Switch,
};

/// Publishes each line of standard input.
pub static STDIN: Setting<Switch> = Setting {
    about: About::new("stdin", PRODUCERS, "BOOL", "false", "Publishes each line of standard input"),
    kind: Switch,
};

/// What a line of standard input is: the payload of an event of --topic, or a JSON object with topic, event, and data or text.
pub static STDIN_FORMAT: Setting<Choice<StdinFormat>> = Setting {
    about: About::new(
        "stdin_format",
        PRODUCERS,
        "FORMAT",
        "lines",
        "What a line of standard input is: the payload of an event of --topic, or a JSON object with topic, event, and data or text",
    ),
    kind: Choice(&[("lines", StdinFormat::Lines), ("ndjson", StdinFormat::Ndjson)]),
};

/// The topic of lines of standard input.
pub static TOPIC: Setting<Optional<TopicName>> = Setting {
    about: About::new("topic", PRODUCERS, "TOPIC", "", "The topic of lines of standard input"),
    kind: Optional(TopicName),
};

/// Which log lines are written to standard error.
pub static LOG_LEVEL: Setting<LogFilter> = Setting {
    about: About::new("log_level", LOG, "FILTER", "info", "Which log lines are written to standard error")
        .or("LOG_LEVEL"),
    kind: LogFilter,
};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object on each line.
    Json,
}

/// How log lines are written.
pub static LOG_FORMAT: Setting<Choice<LogFormat>> = Setting {
    about: About::new("log_format", LOG, "FORMAT", "pretty", "How log lines are written"),
    kind: Choice(&[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)]),
};
