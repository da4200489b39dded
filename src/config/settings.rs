//! The settings as plain values.

use std::net::SocketAddr;
use std::time::Duration;

use fanline::server::Origins;

use super::access::AccessSettings;
use super::backbone::{self, RedisStart};
use super::catalog::{self, LogFormat, StdinFormat};
use super::cors::Allowed;
use super::limits::LimitSettings;
use super::reader::Reader;
use super::size;
use crate::producer::stdin::Format;

/// What the server runs with. The catalogue says what each setting does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on, one at the least.
    pub listen: Vec<SocketAddr>,
    /// Threads that serve connections.
    pub shards: usize,
    /// Bytes of the kernel's send buffer of a connection.
    pub send_buffer: usize,
    /// Which pages of other origins may read what is answered.
    pub origins: Origins,
    /// Events kept of each topic.
    pub history: usize,
    /// Bytes of events kept over all topics.
    pub history_bytes: usize,
    /// Topics kept.
    pub history_topics: usize,
    /// Events kept for subscribers of everything or of a pattern.
    pub firehose_history: usize,
    /// How long an idle topic is kept.
    pub topic_ttl: Duration,
    /// The largest payload of an event, in bytes.
    pub max_event_bytes: usize,
    /// The largest request body that is one JSON document, in bytes.
    pub max_body_bytes: usize,
    /// Topics and patterns that one subscriber may ask for.
    pub max_topics: usize,
    /// The other limits.
    pub limits: LimitSettings,
    /// How long a connection is quiet before its heartbeat.
    pub heartbeat: Duration,
    /// How long clients are told to wait before they reconnect.
    pub retry: Duration,
    /// How long a client with pending bytes may take none.
    pub write_timeout: Duration,
    /// How long the head of a request may take.
    pub head_timeout: Duration,
    /// How long a stopping server spreads the closing of its streams.
    pub drain: Duration,
    /// Whether the built-in producers run.
    pub demo: bool,
    /// What lines of standard input are, if they are published.
    pub stdin: Option<Format>,
    /// Who may do what.
    pub access: AccessSettings,
    /// Where the backbone is, if there is one.
    pub redis: Option<String>,
    /// What the names of the keys in Redis begin with.
    pub redis_key: String,
    /// Events kept in Redis.
    pub redis_history: usize,
    /// Replicas that are to have an event before its publisher is told.
    pub redis_wait: usize,
    /// Whether Redis loses nothing.
    pub redis_lossless: bool,
    /// How long Redis may take to answer.
    pub redis_timeout: Duration,
    /// What happens without Redis at the start.
    pub redis_start: RedisStart,
    /// How long a publisher waits for Redis.
    pub publish_timeout: Duration,
    /// How long a client waits for an id that Redis has and this server does not.
    pub resume_wait: Duration,
    /// This server's name.
    pub node: Option<String>,
    /// Which log lines are written: directives that `tracing_subscriber::EnvFilter` takes.
    pub log_filter: String,
    /// How log lines are written.
    pub log_format: LogFormat,
}

impl Settings {
    /// Reads every setting, in the order in which they are reported.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let settings = Self {
            listen: listen(reader),
            shards: reader.get(&catalog::SHARDS),
            send_buffer: reader.get(&catalog::SEND_BUFFER),
            origins: origins(reader),
            history: reader.get(&catalog::HISTORY),
            history_bytes: reader.get(&catalog::HISTORY_BYTES),
            history_topics: reader.get(&catalog::HISTORY_TOPICS),
            firehose_history: reader.get(&catalog::FIREHOSE_HISTORY),
            topic_ttl: reader.get(&catalog::TOPIC_TTL),
            max_event_bytes: reader.get(&catalog::MAX_EVENT_BYTES),
            max_body_bytes: reader.get(&catalog::MAX_BODY_BYTES),
            max_topics: reader.get(&catalog::MAX_TOPICS),
            limits: LimitSettings::read(reader),
            head_timeout: reader.get(&catalog::HEAD_TIMEOUT),
            heartbeat: reader.get(&catalog::HEARTBEAT),
            retry: reader.get(&catalog::RETRY),
            write_timeout: reader.get(&catalog::WRITE_TIMEOUT),
            drain: reader.get(&catalog::DRAIN),
            demo: reader.get(&catalog::DEMO),
            stdin: stdin(reader),
            access: AccessSettings::read(reader),
            redis: reader.get(&backbone::REDIS),
            redis_key: reader.get(&backbone::REDIS_KEY),
            redis_history: reader.get(&backbone::REDIS_HISTORY),
            redis_wait: reader.get(&backbone::REDIS_WAIT),
            redis_lossless: reader.get(&backbone::REDIS_LOSSLESS),
            redis_timeout: reader.get(&backbone::REDIS_TIMEOUT),
            redis_start: reader.get(&backbone::REDIS_START),
            publish_timeout: reader.get(&backbone::PUBLISH_TIMEOUT),
            resume_wait: reader.get(&backbone::RESUME_WAIT),
            node: reader.get(&backbone::NODE),
            log_filter: reader.get(&catalog::LOG_LEVEL),
            log_format: reader.get(&catalog::LOG_FORMAT),
        };
        if settings.max_body_bytes < settings.max_event_bytes {
            reader.conflict(format!(
                "max_body_bytes = {} is less than max_event_bytes = {}: a body must have room for the largest event",
                size::display(settings.max_body_bytes),
                size::display(settings.max_event_bytes),
            ));
        }
        settings.limits.check(reader, settings.max_event_bytes);
        settings
    }
}

/// The addresses; `host` and `port` change the first, unless the addresses come from a stronger source than they do.
fn listen(reader: &mut Reader<'_>) -> Vec<SocketAddr> {
    let (mut addresses, source) = reader.look_up(&catalog::LISTEN);
    let mut sources = source.to_string();
    if let (Some(host), by) = reader.look_up(&catalog::HOST)
        && source.yields_to(&by)
    {
        addresses[0].set_ip(host);
        sources += &format!("; host: {by}");
    }
    if let (Some(port), by) = reader.look_up(&catalog::PORT)
        && source.yields_to(&by)
    {
        addresses[0].set_port(port);
        sources += &format!("; port: {by}");
    }
    reader.report(&catalog::LISTEN, &addresses, &sources);
    addresses
}

/// Which pages may read. Browsers send cookies to no server that lets any page read.
fn origins(reader: &mut Reader<'_>) -> Origins {
    let allowed = reader.get(&catalog::CORS_ORIGIN);
    let credentials = reader.get(&catalog::CORS_CREDENTIALS);
    if credentials && !matches!(&allowed, Some(Allowed::Listed(_))) {
        reader.conflict(
            "cors_credentials = true needs the origins by name, as in --cors-origin https://example.com: \
             browsers send no cookies where any page may read"
                .to_owned(),
        );
    }
    match allowed {
        None => Origins::Own,
        Some(Allowed::Any) => Origins::Any,
        Some(Allowed::Listed(origins)) => Origins::Listed { origins, credentials },
    }
}

/// What lines of standard input are. `stdin_format` without `stdin` is no conflict: it says nothing that is not so.
fn stdin(reader: &mut Reader<'_>) -> Option<Format> {
    let wanted = reader.get(&catalog::STDIN);
    let format = reader.get(&catalog::STDIN_FORMAT);
    let (topic, source) = reader.look_up(&catalog::TOPIC);
    reader.report(&catalog::TOPIC, &topic, &source.to_string());
    match (wanted, format, topic) {
        (true, StdinFormat::Lines, Some(topic)) => return Some(Format::Lines { topic }),
        (true, StdinFormat::Ndjson, None) => return Some(Format::Ndjson),
        (false, _, None) => {}
        (true, StdinFormat::Lines, None) => {
            reader.conflict("stdin needs a topic for its lines: add --topic log, or --stdin-format ndjson for lines that name their own");
        }
        (true, StdinFormat::Ndjson, Some(topic)) => reader.conflict(format!(
            "topic = {:?} ({source}): each line of stdin_format = \"ndjson\" names its own topic; leave one of the two out",
            topic.as_str()
        )),
        (false, _, Some(topic)) => reader.conflict(format!(
            "topic = {:?} ({source}): it is the topic of lines of standard input; add --stdin, or leave it out",
            topic.as_str()
        )),
    }
    None
}
