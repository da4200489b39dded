//! The options of a server's requests.

use std::time::Duration;

use super::cors::Origins;
use super::refusal::StreamRefusals;
use crate::auth::Patterns;
use crate::peer::TrustedProxy;
use crate::topic::TopicFilter;

/// Bounds on requests, in bytes, numbers and times.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest payload of an event, in bytes. Default: 64 KiB.
    pub max_event_bytes: usize,
    /// The largest body, in bytes. An NDJSON body may be of any size. Default: 1 MiB.
    pub max_body_bytes: usize,
    /// The longest line of an NDJSON body, in bytes. Default: `None`, enough for the largest event with every character
    /// escaped.
    pub max_line_bytes: Option<usize>,
    /// The longest time for a body, or for one line of an NDJSON body. Default: 30 s.
    pub body_timeout: Duration,
    /// The longest pause between two lines of an NDJSON body. Default: 5 min.
    pub upload_timeout: Duration,
    /// The number of topics and patterns in one subscription. Default: 100.
    pub max_topics: usize,
    /// The number of patterns among them. Each event is compared with each pattern. Default: 20.
    pub max_patterns: usize,
    /// The number of wildcards in one pattern. Default: 8.
    pub max_wildcards: usize,
    /// The least time between two writes that a subscription may ask for (`interval=`). Default: 10 ms.
    pub min_interval: Duration,
    /// The longest such time. Default: 60 s.
    pub max_interval: Duration,
    /// The longest query, in bytes. Default: 16 KiB.
    pub max_query_bytes: usize,
    /// The largest request head, in bytes. Default: 64 KiB.
    pub max_head_bytes: usize,
    /// The number of header fields. Default: 100.
    pub max_headers: usize,
    /// The number of concurrent requests on one HTTP/2 connection, each stream of events included. Default: 100.
    pub max_streams_per_connection: u32,
    /// The origins whose pages may read responses (CORS). Default: only the server's own.
    pub origins: Origins,
    /// Proxies whose `Forwarded` or `X-Forwarded-For` names the client. Default: none.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// How long a client waits that resumes with an id that the backbone has and this server does not have yet.
    /// Default: 2 s.
    pub resume_wait: Duration,
    /// The longest time for a request head, and the longest idle time between requests. Default: 10 s.
    pub head_timeout: Duration,
    /// Whether streams are compressed for clients that accept gzip. Default: true.
    pub compression: bool,
    /// Topics whose events are not compressed: a stream of them, or one of everything that includes them, is sent as it is.
    /// Compression lets an observer of the traffic learn something about a secret if text of an attacker is in the same stream.
    /// Default: `user:**`.
    pub uncompressed_topics: Patterns,
    /// How streams are refused when the reason is likely to pass. Default: in band.
    pub stream_refusals: StreamRefusals,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resume_wait: Duration::from_secs(2),
            max_event_bytes: 64 << 10,
            max_body_bytes: 1 << 20,
            max_line_bytes: None,
            body_timeout: Duration::from_secs(30),
            upload_timeout: Duration::from_secs(300),
            max_topics: 100,
            max_patterns: 20,
            max_wildcards: 8,
            min_interval: Duration::from_millis(10),
            max_interval: Duration::from_secs(60),
            max_query_bytes: 16 << 10,
            max_head_bytes: 64 << 10,
            max_headers: 100,
            max_streams_per_connection: 100,
            origins: Origins::Own,
            trusted_proxies: Vec::new(),
            head_timeout: Duration::from_secs(10),
            compression: true,
            uncompressed_topics: TopicFilter::new("user:**").expect("a valid pattern").into(),
            stream_refusals: StreamRefusals::default(),
        }
    }
}

impl Options {
    /// Whether a stream of these topics may be compressed.
    pub(super) fn may_compress(&self, filters: &[TopicFilter]) -> bool {
        self.compression && !self.uncompressed_topics.touches(filters)
    }

    /// The largest event as JSON, in bytes: a line of an NDJSON body, or a message of a WebSocket.
    pub(super) fn max_event_as_json(&self) -> usize {
        // Every character may be escaped.
        self.max_line_bytes.unwrap_or(self.max_event_bytes * 6 + 2048)
    }
}
