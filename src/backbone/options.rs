//! The options of a backbone, as plain values.

use std::time::Duration;

/// Where Redis is, and how to use it.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://[user:password@]host:port/db`, `rediss://` for TLS, `unix:///path`,
    /// `redis+sentinel://[user:password@]host:port,host:port/master` (with the credentials of the Redis servers), or
    /// `redis+cluster://[user:password@]host:port,host:port`.
    pub url: String,
    /// The prefix of the keys. Servers with the same prefix share one stream.
    pub key: String,
    /// About how many events the stream retains.
    pub history: usize,
    /// How many replicas must have an event before its publisher gets the event's position.
    pub wait: u32,
    /// Whether Redis keeps every write that it has acknowledged, over restarts and failovers: `appendfsync always` without
    /// asynchronous replicas. Otherwise a new epoch begins whenever another Redis process serves the stream, and
    /// each subscriber gets a gap of unknown size.
    pub is_lossless: bool,
    /// How long Redis may take to answer before the server considers it away.
    pub timeout: Duration,
    /// How long a publisher waits for a Redis that is away before it gets an error.
    pub publish_timeout: Duration,
    /// This server's name among those that share the backbone.
    pub node: String,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379/".to_owned(),
            key: "fanline".to_owned(),
            history: 100_000,
            wait: 0,
            is_lossless: false,
            timeout: Duration::from_secs(5),
            publish_timeout: Duration::ZERO,
            node: "fanline".to_owned(),
        }
    }
}
