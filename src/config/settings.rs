//! The settings as plain values, grouped as the library takes them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use fanline::auth::Patterns;
use fanline::backbone::RedisOptions;
use fanline::hub::HubOptions;
use fanline::server::{
    DEFAULT_DRAIN, DEFAULT_SEND_BUFFER, HttpOptions, Limits, PathPrefix, PresenceOptions, StreamOptions,
    UnixSocketOptions,
};
use fanline::topic::Topic;

use super::access::AccessSettings;
use super::listen::{Account, Listen, ProxyProtocol};
use crate::producer::stdin::Format;

/// The settings in effect. The catalog has the purpose of each. Defaults are those of the library's options;
/// [`Settings::default`] adds those of the program itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to listen on, at least one.
    pub listen: Vec<Listen>,
    /// Whether connections begin with a header of the PROXY protocol: one for all addresses, or one for each.
    pub proxy_protocol: Vec<ProxyProtocol>,
    /// Addresses of admin listeners.
    pub admin_listen: Vec<Listen>,
    /// Permissions of Unix sockets.
    pub unix_mode: u32,
    /// Owner of Unix sockets.
    pub unix_owner: Option<Account>,
    /// Group of Unix sockets.
    pub unix_group: Option<Account>,
    /// The IP address that replaced the one of the first address.
    pub host: Option<IpAddr>,
    /// The port that replaced the one of the first address.
    pub port: Option<u16>,
    pub prefix: PathPrefix,
    /// Threads that serve connections; by default one for each core.
    pub shards: Option<usize>,
    /// Bytes of the kernel's send buffer of a connection.
    pub send_buffer: usize,
    /// Whether pages of the listed origins may send cookies.
    pub cors_credentials: bool,
    /// What the hub retains.
    pub hub: HubOptions,
    /// The file that keeps the history between a stop and the next start.
    pub history_file: Option<PathBuf>,
    /// What is accepted over HTTP.
    pub http: HttpOptions,
    /// Limits over all shards.
    pub limits: Limits,
    /// The times of a stream.
    pub streams: StreamOptions,
    /// How long a stopping server spreads the closing of its streams.
    pub drain: Duration,
    /// The topics whose subscribers are announced.
    pub presence_topics: Option<Patterns>,
    /// How they are announced; the topics are those of `presence_topics`.
    pub presence: PresenceOptions,
    /// Whether the built-in producers run.
    pub demo: bool,
    /// Whether standard input is published.
    pub stdin: bool,
    /// The format of standard input.
    pub stdin_format: StdinFormat,
    /// The topic of the lines of standard input.
    pub topic: Option<Topic>,
    /// Credentials and grants.
    pub access: AccessSettings,
    /// The URL of the backbone, if there is one.
    pub redis_url: Option<String>,
    /// How the backbone is used; its URL and node are those of `redis_url` and `node`.
    pub redis: RedisOptions,
    /// What happens if Redis is unavailable at the start.
    pub redis_start: RedisStart,
    /// This server's name on the backbone.
    pub node: Option<String>,
    /// Directives for `tracing_subscriber::filter::Targets`.
    pub log_filter: String,
    /// The format of log lines.
    pub log_format: LogFormat,
}

/// The formats of standard input, before the topic is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinFormat {
    /// Each line is a payload.
    Lines,
    /// Each line is an event.
    Ndjson,
}

/// What a server does if Redis is unavailable when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisStart {
    /// It starts, and is not ready until Redis is available.
    Wait,
    /// It exits.
    Fail,
}

/// The formats of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Pretty,
    /// One JSON object on each line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![(Ipv4Addr::LOCALHOST, 8000).into()],
            proxy_protocol: vec![ProxyProtocol::Off],
            admin_listen: Vec::new(),
            unix_mode: UnixSocketOptions::default().mode,
            unix_owner: None,
            unix_group: None,
            host: None,
            port: None,
            prefix: PathPrefix::default(),
            shards: None,
            send_buffer: DEFAULT_SEND_BUFFER,
            cors_credentials: false,
            hub: HubOptions::default(),
            history_file: None,
            http: HttpOptions::default(),
            limits: Limits::default(),
            streams: StreamOptions::default(),
            drain: DEFAULT_DRAIN,
            presence_topics: None,
            presence: PresenceOptions::default(),
            demo: false,
            stdin: false,
            stdin_format: StdinFormat::Lines,
            topic: None,
            access: AccessSettings::default(),
            redis_url: None,
            redis: RedisOptions::default(),
            redis_start: RedisStart::Wait,
            node: None,
            log_filter: "info".to_owned(),
            log_format: LogFormat::Pretty,
        }
    }
}

impl Settings {
    /// The addresses to listen on, with whether each requires the PROXY protocol.
    pub fn listeners(&self) -> impl Iterator<Item = (&Listen, bool)> {
        let words = self.proxy_protocol.iter().cycle();
        self.listen.iter().zip(words.map(|word| *word == ProxyProtocol::Required))
    }

    /// The format of standard input, if it is published.
    pub fn stdin(&self) -> Option<Format> {
        match (self.stdin_format, &self.topic) {
            _ if !self.stdin => None,
            (StdinFormat::Lines, topic) => topic.clone().map(|topic| Format::Lines { topic }),
            (StdinFormat::Ndjson, _) => Some(Format::Ndjson),
        }
    }
}
