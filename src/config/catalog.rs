//! Every setting, declared once, in the order of `--help` and `--check`.

use std::sync::LazyLock;
use std::time::Duration;

use fanline::auth::LoopbackTrust;

use fanline::server::StreamRefusals;

use super::feature::Feature;
use super::kind::{GIB, KIB, MIB, TIB, auto, choice, count, limit, optional, size, span, switch};
use super::listen::{addresses, group, mode, proxy_protocol, some_addresses, user};
use super::setting::{Setting, setting};
use super::settings::{LogFormat, RedisStart, Settings, StdinFormat};
use super::values::{
    claims, host, key_set_place, log_filter, name, origins, path, paths, patterns, port, prefix, proxies, rate,
    redis_url, secrets, service_url, topic,
};

/// The heading of credentials and grants.
pub const ACCESS: &str = "Access";

static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let sections = [
        ("Network", network()),
        ("History", history()),
        ("Limits", limits()),
        ("Times", times()),
        ("Presence", presence()),
        ("Producers", producers()),
        (ACCESS, access()),
        ("Many servers", backbone()),
        ("Log", log()),
    ];
    let under =
        |(heading, settings): (_, Vec<Setting>)| settings.into_iter().map(move |setting| setting.under(heading));
    sections.into_iter().flat_map(under).collect()
});

/// Returns every setting.
pub fn settings() -> &'static [Setting] {
    &SETTINGS
}

/// Returns the setting `name`.
pub fn find(name: &str) -> Option<&'static Setting> {
    settings().iter().find(|setting| setting.name == name)
}

/// Returns the name most similar to `spelled`, if any is similar.
pub fn nearest(spelled: &str) -> Option<&'static str> {
    let spelled = spelled.to_lowercase().replace('-', "_");
    let similarity = |name: &str| strsim::jaro_winkler(&spelled, name);
    let names = settings().iter().map(|setting| setting.name);
    names.max_by(|a, b| similarity(a).total_cmp(&similarity(b))).filter(|name| similarity(name) > 0.8)
}

/// Returns the settings whose values differ.
pub fn changed(before: &Settings, after: &Settings) -> Vec<&'static Setting> {
    let (mut before, mut after) = (before.clone(), after.clone());
    settings().iter().filter(|setting| (setting.differs)(&mut before, &mut after)).collect()
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// Long enough for any purpose, and short enough to be added to any clock.
const TEN_YEARS: Duration = Duration::from_secs(10 * 31_557_600);
/// More connections, subscribers or history entries than a machine has room for.
const MANY: usize = 10_000_000;
const MOST_EVENTS: usize = 1 << 24;

fn network() -> Vec<Setting> {
    vec![
        setting("listen", some_addresses(), |s| &mut s.listen)
            .help("Address to listen on; repeatable, or separated by commas"),
        setting("proxy_protocol", proxy_protocol(), |s| &mut s.proxy_protocol).help(
            "Whether connections to --listen begin with a PROXY protocol header: one word for all addresses, \
             or one for each, in their order",
        ),
        setting("admin_listen", addresses(), |s| &mut s.admin_listen).help(
            "Address where alone metrics and the lists of clients and topics are served, besides all else; repeatable",
        ),
        setting("unix_mode", mode(), |s| &mut s.unix_mode)
            .help("Permissions of the Unix sockets that the server creates; connecting needs the permission to write"),
        setting("unix_owner", optional(user()), |s| &mut s.unix_owner)
            .help("Owner of these sockets; by default the server's user"),
        setting("unix_group", optional(group()), |s| &mut s.unix_group)
            .help("Group of these sockets; by default the server's group"),
        setting("host", optional(host()), |s| &mut s.host)
            .help("IP address that replaces the one of the first --listen")
            .or_variable("HOST"),
        setting("port", optional(port()), |s| &mut s.port)
            .help("Port that replaces the one of the first --listen")
            .or_variable("PORT"),
        setting("prefix", prefix(), |s| &mut s.prefix)
            .help("Path below which all others are, such as /live: the stream is /live/stream then"),
        setting("shards", auto(count(1..=256, "threads")), |s| &mut s.shards)
            .help("Threads that serve connections, each with its own subscribers; auto is one for each core"),
        setting("send_buffer", size(4 * KIB..=16 * MIB), |s| &mut s.send_buffer)
            .help("Kernel send buffer of a connection: how much memory a stalled client can occupy"),
        setting("compression", switch(), |s| &mut s.http.compression)
            .help("Compresses streams of one topic or of everything, once for all clients that accept gzip"),
        setting("uncompressed_topics", patterns(), |s| &mut s.http.uncompressed_topics).help(
            "Topics that are not compressed: the length of a compressed stream tells something about a secret in it, \
             if an attacker's text is in it too",
        ),
        setting("trusted_proxy", proxies(), |s| &mut s.http.trusted_proxies).help(
            "Proxies whose Forwarded or X-Forwarded-For names the client, for limits, lists and logs; \
             repeatable, or separated by commas",
        ),
        setting("cors_origin", origins(), |s| &mut s.http.origins).help(
            "Origins whose pages may read responses: * for any, or each by name; repeatable, or separated by commas",
        ),
        setting("cors_credentials", switch(), |s| &mut s.cors_credentials)
            .help("Lets pages of the origins listed by --cors-origin send cookies"),
    ]
}

fn history() -> Vec<Setting> {
    vec![
        setting("history", count(1..=MOST_EVENTS, "events"), |s| &mut s.hub.history)
            .help("Events retained for each topic, for clients that reconnect with their last event id"),
        setting("history_bytes", size(MIB..=TIB), |s| &mut s.hub.history_bytes).help(
            "Bytes of events retained over all topics; beyond it, the topic that holds the most is trimmed first",
        ),
        setting("history_topics", count(1..=MOST_EVENTS, "topics"), |s| &mut s.hub.history_topics).help(
            "Topics with retained events, up to 600 bytes each besides the events; \
             beyond it, topics without subscribers are evicted, the quietest first",
        ),
        setting("firehose_history", count(64..=MOST_EVENTS, "events"), |s| &mut s.hub.firehose_history)
            .help("Events retained for subscribers of all topics or of a pattern"),
        setting("topic_ttl", span(SECOND..=TEN_YEARS), |s| &mut s.hub.topic_ttl)
            .help("How long a topic without subscribers and without new events is retained"),
        setting("max_keys", count(1..=MANY, "keys"), |s| &mut s.hub.max_keys)
            .help("Keys that have a latest value; publishing a new one beyond it is refused with 507"),
        setting("tombstone_ttl", span(SECOND..=TEN_YEARS), |s| &mut s.hub.tombstone_ttl)
            .help("How long a deletion of a latest value is remembered, for clients that resume with mode=latest"),
        setting("latest_ttl", optional(span(SECOND..=TEN_YEARS)), |s| &mut s.hub.latest_ttl).help(
            "How long a key keeps its latest value without an update; then it is deleted, by an event. By default it lasts",
        ),
        setting("history_file", optional(path()), |s| &mut s.history_file).help(
            "File that keeps the history between a stop and the next start, so that clients resume without a gap; \
             it exists only in between, and after a crash a new epoch begins",
        ),
    ]
}

fn limits() -> Vec<Setting> {
    vec![
        setting("max_event_bytes", size(1..=16 * MIB), |s| &mut s.http.max_event_bytes)
            .help("Largest payload of an event"),
        setting("max_body_bytes", size(KIB..=GIB), |s| &mut s.http.max_body_bytes)
            .help("Largest JSON or text body; an NDJSON body may have any length"),
        setting("max_topics", count(1..=1000, "topics"), |s| &mut s.http.max_topics)
            .help("Topics and patterns in one subscription"),
        setting("idempotency_window", span(SECOND..=24 * HOUR), |s| &mut s.hub.idempotency_window).help(
            "How long an Idempotency-Key is remembered: a publication that is repeated within it is published once",
        ),
        setting("idempotency_keys", count(1..=MANY, "keys"), |s| &mut s.hub.idempotency_keys)
            .help("Idempotency keys remembered, about 150 bytes each; with --redis, Redis remembers any number"),
        setting("max_connections", auto(count(0..=MANY, "connections")), |s| &mut s.limits.max_connections)
            .help("Open connections; auto, like 0, is as many as the limit on open files allows"),
        setting("max_connections_per_address", limit(MANY, "connections"), |s| {
            &mut s.limits.max_connections_per_address
        })
        .help(
            "Open connections from one address (IPv6: one /64 network), and streams through trusted proxies; \
               keep it unlimited behind another proxy",
        ),
        setting("connect_rate", optional(rate()), |s| &mut s.limits.connect_rate)
            .help("New connections per second from one address (IPv6: one /64 network)"),
        setting("publish_rate", optional(rate()), |s| &mut s.limits.publish_rate)
            .help("Events published per second from one address (IPv6: one /64 network)"),
        setting("publish_rate_per_key", optional(rate()), |s| &mut s.limits.publish_rate_per_key)
            .help("Events published per second with one API key, or by one subject of tokens"),
        setting("websocket_message_rate", optional(rate()), |s| &mut s.limits.websocket_message_rate)
            .help("Messages per second from one WebSocket"),
        setting("max_firehose", limit(MANY, "subscribers"), |s| &mut s.limits.max_firehose)
            .help("Subscribers of all topics or of a pattern, each of which may add work to every event"),
        setting("max_silent_topics", limit(1_000_000_000, "topics"), |s| &mut s.limits.max_silent_topics)
            .help("Subscribed topics without any event yet, over all subscribers"),
        setting("max_patterns", count(0..=1000, "patterns"), |s| &mut s.http.max_patterns)
            .help("Patterns in one subscription"),
        setting("max_wildcards", count(1..=128, "wildcards"), |s| &mut s.http.max_wildcards)
            .help("Wildcards in one pattern"),
        setting("min_interval", span(MILLISECOND..=SECOND), |s| &mut s.http.min_interval)
            .help("Shortest interval that a subscription may ask for (interval=)"),
        setting("max_interval", span(SECOND..=HOUR), |s| &mut s.http.max_interval)
            .help("Longest interval that a subscription may ask for"),
        setting("max_query_bytes", size(64..=60 * KIB), |s| &mut s.http.max_query_bytes)
            .help("Largest query of a request"),
        setting("max_head_bytes", size(KIB..=MIB), |s| &mut s.http.max_head_bytes)
            .help("Largest request head: request line and header fields"),
        setting("max_headers", count(8..=1000, "fields"), |s| &mut s.http.max_headers)
            .help("Header fields of a request"),
        setting("max_streams_per_connection", count(1..=10_000, "streams"), |s| &mut s.http.max_streams_per_connection)
            .help("Concurrent requests of one HTTP/2 connection, each stream of events included"),
        setting("max_line_bytes", optional(size(KIB..=128 * MIB)), |s| &mut s.http.max_line_bytes).help(
            "Largest line of an NDJSON body; by default 6 times max_event_bytes plus 2 KiB, for an event of escapes",
        ),
        setting("body_timeout", span(100 * MILLISECOND..=HOUR), |s| &mut s.http.body_timeout)
            .help("Time to receive a JSON or text body, or one line of an NDJSON body"),
        setting("upload_timeout", span(SECOND..=7 * 24 * HOUR), |s| &mut s.http.upload_timeout)
            .help("Longest pause between two lines of an NDJSON body"),
        setting("head_timeout", span(100 * MILLISECOND..=5 * MINUTE), |s| &mut s.http.head_timeout)
            .help("Time to receive a request head; a connection that is idle for this long is closed"),
    ]
}

fn times() -> Vec<Setting> {
    vec![
        setting("heartbeat", span(SECOND..=HOUR), |s| &mut s.streams.heartbeat)
            .help("Time without traffic after which a stream gets a heartbeat"),
        setting("retry", span(100 * MILLISECOND..=HOUR), |s| &mut s.streams.retry)
            .help("Reconnection delay that clients are given, spread by 20 %"),
        setting(
            "stream_refusals",
            choice("WORD", &[("retry", StreamRefusals::Retry), ("status", StreamRefusals::Status)]),
            |s| &mut s.http.stream_refusals,
        )
        .help(
            "How a stream is refused while the server is full or unavailable: as a 200 with the time to reconnect, \
             because an EventSource gives up after any other status, or with the status",
        ),
        setting("write_timeout", span(SECOND..=HOUR), |s| &mut s.streams.write_timeout)
            .help("Closes the stream of a client that accepts no bytes for this long while some are pending"),
        setting("pong_timeout", span(SECOND..=HOUR), |s| &mut s.streams.pong_timeout)
            .help("Closes a WebSocket whose client does not reply to a ping for this long"),
        setting("drain", span(Duration::ZERO..=10 * MINUTE), |s| &mut s.drain)
            .help("Time over which a stopping server spreads the closing of its streams"),
    ]
}

fn presence() -> Vec<Setting> {
    vec![
        setting("presence_topics", optional(patterns()), |s| &mut s.presence_topics).help(
            "Topics whose subscribers are announced with join and leave events on presence:TOPIC; by default none",
        ),
        setting("presence_grace", span(SECOND..=5 * MINUTE), |s| &mut s.presence.grace)
            .help("How long a user may be without a connection to a topic before the leave event"),
        setting("max_presence_members", count(1..=MANY, "members"), |s| &mut s.presence.max_members)
            .help("Members of all these topics on this server, about 500 bytes each; those beyond are not announced"),
    ]
}

fn producers() -> Vec<Setting> {
    vec![
        setting("demo", switch(), |s| &mut s.demo)
            .help("Publishes this machine's metrics (topic metric), alerts (alert) and log lines (log)"),
        setting("stdin", switch(), |s| &mut s.stdin).help("Publishes each line of standard input"),
        setting(
            "stdin_format",
            choice("FORMAT", &[("lines", StdinFormat::Lines), ("ndjson", StdinFormat::Ndjson)]),
            |s| &mut s.stdin_format,
        )
        .help("Format of standard input: payloads for --topic, or JSON objects with topic, event, and data or text"),
        setting("topic", optional(topic()), |s| &mut s.topic).help("Topic of the lines of standard input"),
    ]
}

fn access() -> Vec<Setting> {
    let settings = [tokens(), anonymous(), authorization_service()];
    settings.into_iter().flatten().map(Setting::reloadable).collect()
}

fn tokens() -> Vec<Setting> {
    let settings = vec![
        setting("jwt_secret", secrets(), |s| &mut s.access.secrets)
            .help("Secret that verifies tokens (HS256, HS384, HS512); repeatable, so that it can be rotated"),
        setting("jwt_public_key", paths(), |s| &mut s.access.public_keys)
            .help("PEM file with an RSA, P-256, P-384 or Ed25519 public key that verifies tokens; repeatable"),
        setting("jwks", optional(key_set_place()), |s| &mut s.access.jwks)
            .help("JSON Web Key Set that verifies tokens; from a URL it is cached, and fetched again when it is old"),
        setting("jwt_audience", claims(), |s| &mut s.access.tokens.audience).help(
            "Audiences (claim aud), one of which a token must have; by default, tokens with an audience are rejected",
        ),
        setting("jwt_issuer", claims(), |s| &mut s.access.tokens.issuer)
            .help("Issuers (claim iss), one of which a token must have"),
        setting("jwt_leeway", span(Duration::ZERO..=5 * MINUTE), |s| &mut s.access.tokens.leeway)
            .help("Tolerated clock difference: tokens and their streams are valid this long after exp and before nbf"),
    ];
    settings.into_iter().map(|setting| setting.needs(Feature::Auth)).collect()
}

fn anonymous() -> Vec<Setting> {
    vec![
        setting("anonymous_subscribe", optional(patterns()), |s| &mut s.access.anonymous_subscribe).help(
            "Topics that anyone may subscribe to without credentials; \
             by default all if no keys and tokens are configured, otherwise none",
        ),
        setting("anonymous_publish", optional(patterns()), |s| &mut s.access.anonymous_publish).help(
            "Topics that anyone may publish to without credentials; \
             by default all for local clients (loopback_trust) if no keys and tokens are configured, otherwise none",
        ),
        setting("anonymous_metrics", switch(), |s| &mut s.access.anonymous_metrics)
            .help("Lets anyone read metrics without credentials"),
        setting(
            "loopback_trust",
            choice(
                "WORD",
                &[("same-user", LoopbackTrust::SameUser), ("any", LoopbackTrust::Any), ("none", LoopbackTrust::None)],
            ),
            |s| &mut s.access.loopback_trust,
        )
        .help(
            "Processes of this machine that may publish, administer and read metrics if no keys and tokens are \
             configured: those of the server's own user, any, or none",
        ),
    ]
}

fn authorization_service() -> Vec<Setting> {
    let settings = vec![
        setting("authorize_url", optional(service_url()), |s| &mut s.access.authorize_url)
            .help("HTTP service that authorizes each subscription: 200 allows it, 401 and 403 deny it"),
        setting("authorize_timeout", span(10 * MILLISECOND..=MINUTE), |s| &mut s.access.authorize.time_limit)
            .help("Time that this service may take, including the wait for a free slot; then a subscription gets 503"),
        setting("authorize_concurrency", count(1..=10_000, "requests"), |s| &mut s.access.authorize.concurrency)
            .help("Concurrent requests to this service"),
        setting("authorize_cache", span(Duration::ZERO..=HOUR), |s| &mut s.access.authorize.cache)
            .help("How long an approval is reused for the same client, headers and topics; 0s disables the cache"),
    ];
    settings.into_iter().map(|setting| setting.needs(Feature::Auth)).collect()
}

fn backbone() -> Vec<Setting> {
    let settings = vec![
        setting("redis", optional(redis_url()), |s| &mut s.redis_url)
            .help("Redis shared by several servers: an event published on one reaches the subscribers of all"),
        setting("redis_key", name(), |s| &mut s.redis.key)
            .help("Prefix of the keys in Redis; servers with the same prefix share one stream"),
        setting("redis_history", count(1000..=1_000_000_000, "events"), |s| &mut s.redis.history)
            .help("Events retained in Redis (approximately), for clients that resume beyond the servers' own history"),
        setting("redis_wait", count(0..=100, "replicas"), |s| &mut s.redis.wait)
            .help("Redis replicas that must have an event before its publication is acknowledged"),
        setting("redis_lossless", switch(), |s| &mut s.redis.is_lossless).help(
            "Declares that Redis keeps every write across restarts and failovers; \
             without it, each of these begins a new epoch, and each subscriber gets a gap",
        ),
        setting("redis_timeout", span(100 * MILLISECOND..=5 * MINUTE), |s| &mut s.redis.timeout)
            .help("Time that Redis may take to respond before it counts as unavailable"),
        setting("redis_start", choice("WORD", &[("wait", RedisStart::Wait), ("fail", RedisStart::Fail)]), |s| {
            &mut s.redis_start
        })
        .help("Whether a server that finds Redis unavailable when it starts waits for it, not ready, or exits"),
        setting("publish_timeout", span(Duration::ZERO..=5 * MINUTE), |s| &mut s.redis.publish_timeout)
            .help("How long a publication waits while Redis is unavailable before it gets 503"),
        setting("resume_wait", span(Duration::ZERO..=MINUTE), |s| &mut s.http.resume_wait)
            .help("How long a client waits whose last event id is in Redis but has not reached this server"),
        setting("node", optional(name()), |s| &mut s.node)
            .help("This server's name among those that share Redis; by default the host name and the process id"),
    ];
    settings.into_iter().map(|setting| setting.needs(Feature::Redis)).collect()
}

fn log() -> Vec<Setting> {
    vec![
        setting("log_level", log_filter(), |s| &mut s.log_filter)
            .help("Log lines that are written to standard error")
            .or_variable("LOG_LEVEL"),
        setting("log_format", choice("FORMAT", &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)]), |s| {
            &mut s.log_format
        })
        .help("Format of log lines; pretty has colours on a terminal unless NO_COLOR is set"),
    ]
}
