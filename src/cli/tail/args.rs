//! The flags of `fanline tail`, and the request path for them.

use std::str::FromStr;
use std::time::Duration;

use fanline::position::StreamPosition;
use fanline::topic::TopicFilter;

use super::printer::Format;
use crate::cli::key_pointer::KeyPointer;
use crate::cli::target::ServerArgs;
use crate::cli::transport::Transport;
use crate::config::parse_span;

/// More than two heartbeats of a server with default settings.
const IDLE_TIMEOUT: u64 = 90;

/// A server may send heartbeats less often than requested, because it has a minimum interval.
const MIN_DERIVED_IDLE_TIMEOUT: u64 = 15;

/// The flags of `fanline tail`.
#[derive(clap::Args, Debug)]
pub struct TailArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    /// How to receive events
    #[arg(long, value_enum, default_value_t, value_name = "sse|ws")]
    pub transport: Transport,

    /// Topics and patterns, as in a,b:*,metrics.** [default: all topics]
    #[arg(long, visible_alias = "topic", value_delimiter = ',', value_name = "TOPIC,…")]
    topics: Vec<TopicFilter>,

    /// The client name in the server's list of clients
    #[arg(long)]
    name: Option<String>,

    /// Tags in the server's list of clients
    #[arg(long, value_delimiter = ',', value_name = "TAG,…")]
    tags: Vec<String>,

    /// Start after this id; `earliest` starts with the oldest event that the server still has
    #[arg(long, value_name = "ID|earliest", conflicts_with = "history", value_parser = from)]
    pub from: Option<String>,

    /// Start with the last N events of these topics that the server still has
    #[arg(long, value_name = "N")]
    history: Option<u64>,

    /// What to receive: every event, or the current values and then their changes. On a terminal, values are a table
    #[arg(long, value_name = "events|latest", value_parser = ["events", "latest"], conflicts_with = "history")]
    pub mode: Option<String>,

    /// Receive events at most once in this time, as in 100ms
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    interval: Option<Duration>,

    /// Where the key of a value is in its payload, a JSON pointer such as /id: the table then has a row for each key
    #[arg(long, value_name = "POINTER")]
    pub key_pointer: Option<KeyPointer>,

    /// What the server does when this client lags too far behind: close the stream, or skip the lost events
    #[arg(long, value_name = "close|skip", value_parser = ["close", "skip"])]
    on_lag: Option<String>,

    /// Request a heartbeat after this time without an event, in seconds or with a unit
    #[arg(long, value_name = "TIME", value_parser = whole_seconds)]
    heartbeat: Option<u64>,

    /// Reconnect after this time of silence [default: 90s, or 2.5 times --heartbeat]
    #[arg(long, value_name = "TIME", value_parser = whole_seconds)]
    idle_timeout: Option<u64>,

    /// How events are written [default: on a terminal log, or table with --mode latest; otherwise data]
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// End after N published events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End with the stream instead of reconnecting
    #[arg(long, visible_alias = "no-reconnect")]
    pub once: bool,

    /// Report only gaps and fatal errors on standard error
    #[arg(long, short)]
    pub quiet: bool,
}

/// The text is neither a position nor `earliest`.
#[derive(Debug, thiserror::Error)]
#[error("{0}, or earliest")]
struct InvalidStart(<StreamPosition as FromStr>::Err);

fn from(text: &str) -> Result<String, InvalidStart> {
    match text.parse::<StreamPosition>() {
        Err(error) if text != "earliest" => Err(InvalidStart(error)),
        _ => Ok(text.to_owned()),
    }
}

fn whole_seconds(text: &str) -> Result<u64, &'static str> {
    let span = parse_span(text)?;
    let is_allowed = span.subsec_nanos() == 0 && (1..=604_800).contains(&span.as_secs());
    if is_allowed { Ok(span.as_secs()) } else { Err("expected whole seconds, from 1s to 7days") }
}

impl TailArgs {
    /// Whether it asks for the latest values.
    pub fn is_latest(&self) -> bool {
        self.mode.as_deref() == Some("latest")
    }

    /// The path and query of the stream.
    pub fn stream_path(&self, format: Format) -> String {
        let is_websocket = self.transport == Transport::Ws;
        // A WebSocket without topics has none, a stream without topics has all.
        let all = || is_websocket.then(|| "**".to_owned());
        let parameters = [
            ("topics", comma_separated(&self.topics).or_else(all)),
            ("client_name", self.name.clone()),
            ("tags", comma_separated(&self.tags)),
            ("history", self.history.map(|history| history.to_string())),
            ("mode", self.mode.clone()),
            ("interval", self.interval.map(|interval| interval.as_millis().to_string())),
            ("on_lag", self.on_lag.clone()),
            ("heartbeat", self.heartbeat.map(|heartbeat| heartbeat.to_string())),
            ("format", (format.needs_envelope() && !is_websocket).then(|| "envelope".to_owned())),
        ];
        let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
        let path = if is_websocket { "/ws" } else { "/stream" };
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// How long a connection may be silent.
    pub fn idle_timeout(&self) -> Duration {
        let derived = self.heartbeat.map(|seconds| (seconds * 5 / 2).max(MIN_DERIVED_IDLE_TIMEOUT));
        Duration::from_secs(self.idle_timeout.or(derived).unwrap_or(IDLE_TIMEOUT))
    }
}

fn comma_separated(items: &[impl ToString]) -> Option<String> {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    (!items.is_empty()).then(|| items.join(","))
}
